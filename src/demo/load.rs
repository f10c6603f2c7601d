//! A load: customers with orders, lines and parcels come and go at a steady rate, and the delay of each delete is measured.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::world::World;
use super::{DemoError, same};

/// Customers of one demo, at the most. The in-process broker keeps about 5 MiB per partition and drops the oldest records in silence; a customer
/// leaves less than 1 KiB of records in any partition.
pub const MAX_CUSTOMERS: u64 = 4_000;

/// How long before its delete a customer is inserted.
const LEAD: Duration = Duration::from_millis(500);
/// How often the load acts.
const TICK: Duration = Duration::from_millis(50);
/// The first customer of the load; below it are those of the story.
const FIRST: u64 = 1_000;

const ORDERS: u64 = 2;
const LINES: u64 = 4;
const PARCELS: u64 = 2;

/// How much load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Customers deleted per second.
    pub rate: NonZeroU32,
    /// For how long.
    pub length: Duration,
}

impl Load {
    /// Customers that rate and length ask for.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.due(self.length).max(1)
    }

    /// Customers that it will be.
    #[must_use]
    pub fn customers(&self) -> u64 {
        self.asked().min(MAX_CUSTOMERS)
    }

    fn due(&self, elapsed: Duration) -> u64 {
        let due = elapsed.as_millis().saturating_mul(u128::from(self.rate.get())) / 1_000;
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Customers deleted.
    pub customers: u64,
    /// Rows removed elsewhere, by entity.
    pub rows: BTreeMap<String, u64>,
    /// From the first delete to the last.
    pub took: Duration,
    /// From the commit of a customer's delete until the removal of its rows was durable in all databases: half were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

pub(super) async fn run(world: &World, load: &Load, progress: &dyn Fn(u64, u64)) -> Result<Loaded, DemoError> {
    let (total, from) = (load.customers(), world.reports());
    let mut deleted_at: BTreeMap<String, Instant> = BTreeMap::new();
    let (mut inserted, mut deleted) = (0, 0);
    let start = Instant::now() + LEAD;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while deleted < total {
        ticks.tick().await;
        let now = Instant::now();
        let due = |at: Instant| load.due(at.saturating_duration_since(start)).min(total);
        let (insert_to, delete_to) = (due(now + LEAD), due(now));
        if insert_to > inserted {
            insert(world, FIRST + inserted..FIRST + insert_to).await?;
            inserted = insert_to;
        }
        if delete_to > deleted {
            let ids = FIRST + deleted..FIRST + delete_to;
            let delete = format!("DELETE FROM customers WHERE id >= {} AND id < {}", ids.start, ids.end);
            world.stage.execute("crm", &delete).await?;
            let committed = Instant::now();
            deleted_at.extend(ids.map(|id| (id.to_string(), committed)));
            deleted = delete_to;
        }
        progress(gone(world, from), total);
    }
    let took = start.elapsed();
    // As long as rows go, there is time: how fast they do is what is measured here.
    let mut left = u64::MAX;
    while left > 0 {
        left = world
            .until("more rows of the load go", async || {
                let rows = rows_left(world).await?;
                Ok((rows < left).then_some(rows))
            })
            .await?;
        progress(gone(world, from), total);
        tokio::time::sleep(TICK).await;
    }
    world.settled("the records of the load are worked").await?;
    progress(total, total);
    loaded(world, from, &deleted_at, took)
}

/// Customers whose rows are reported as gone.
fn gone(world: &World, from: usize) -> u64 {
    let cascades = world.since(from, |seen| seen.iter().map(|observed| observed.report.cascades.len()).sum::<usize>());
    u64::try_from(cascades).unwrap_or(u64::MAX)
}

/// Rows of the load that are still there, in all databases but the customers' own.
async fn rows_left(world: &World) -> Result<u64, DemoError> {
    let shop = "SELECT (SELECT COUNT(*) FROM orders WHERE customer_id >= 1000) + (SELECT COUNT(*) FROM customer_copy WHERE id >= 1000)
                     + (SELECT COUNT(*) FROM order_lines WHERE order_id >= 10000)";
    let parcels = "SELECT COUNT(*) FROM parcels WHERE order_id >= 10000";
    Ok(world.count("shop", shop).await? + world.count("shipping", parcels).await?)
}

/// Customers with their rows, children last.
async fn insert(world: &World, ids: Range<u64>) -> Result<(), DemoError> {
    let customers = format!("WITH RECURSIVE c(id) AS (SELECT {} UNION ALL SELECT id + 1 FROM c WHERE id + 1 < {})", ids.start, ids.end);
    let two = "(SELECT 1 AS n UNION ALL SELECT 2)";
    world.stage.execute("crm", &format!("{customers} INSERT INTO customers SELECT id, 'Customer ' || id FROM c")).await?;
    let orders = format!("{customers} INSERT INTO orders SELECT c.id * 10 + two.n, c.id, '2026-05-01' FROM c, {two} AS two");
    let lines =
        format!("{customers} INSERT INTO order_lines SELECT c.id * 10 + two.n, line.n, 'article' FROM c, {two} AS two, {two} AS line");
    world.stage.execute("shop", &format!("{orders}; {lines}")).await?;
    let parcels = format!("{customers} INSERT INTO parcels SELECT c.id * 10 + two.n, 1, 'river' FROM c, {two} AS two");
    world.stage.execute("shipping", &parcels).await?;
    Ok(())
}

fn loaded(world: &World, from: usize, deleted_at: &BTreeMap<String, Instant>, took: Duration) -> Result<Loaded, DemoError> {
    let (rows, gone_at) = world.since(from, |seen| {
        let mut rows: BTreeMap<String, u64> = BTreeMap::new();
        let mut gone_at: BTreeMap<String, Instant> = BTreeMap::new();
        for (observed, cascade) in seen.iter().flat_map(|observed| observed.report.cascades.iter().map(move |cascade| (observed, cascade)))
        {
            for line in &cascade.lines {
                *rows.entry(line.entity.clone()).or_default() += line.rows;
            }
            if cascade.entity == "crm.customer" {
                gone_at.insert(cascade.key.to_string(), observed.at);
            }
        }
        (rows, gone_at)
    });
    let delay = |(id, at): (&String, &Instant)| gone_at.get(id).map(|gone| gone.saturating_duration_since(*at));
    let mut delays: Vec<Duration> = deleted_at.iter().filter_map(delay).collect();
    delays.sort_unstable();
    let customers = u64::try_from(deleted_at.len()).unwrap_or(u64::MAX);
    same("customers whose rows were seen to go", customers, u64::try_from(delays.len()).unwrap_or(u64::MAX))?;
    for (entity, each) in [("shop.order", ORDERS), ("shop.order_line", LINES), ("shipping.parcel", PARCELS)] {
        same("rows reported as removed", customers * each, rows.get(entity).copied().unwrap_or(0))?;
    }
    let slower_than = |percent: usize| delays.get((delays.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    Ok(Loaded { customers, rows, took, p50: slower_than(50), p99: slower_than(99), max: slower_than(100) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_cut_at_what_the_broker_keeps() {
        let load = |rate, length| Load { rate: NonZeroU32::new(rate).expect("not zero"), length: Duration::from_millis(length) };
        assert_eq!(load(100, 5_000).customers(), 500);
        assert_eq!(load(1, 10).customers(), 1);
        assert_eq!((load(5_000, 5_000).asked(), load(5_000, 5_000).customers()), (25_000, MAX_CUSTOMERS));
    }
}
