//! The acts of the story, each with what it must have brought about.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::scene::{Cascaded, Letter, Seeded, Stale};
use super::tree::{Done, Tree};
use super::world::World;
use super::{DemoError, same};
use crate::change::{NextOffset, Record};
use crate::config::Kafka;
use crate::source::assigned::Reader;
use crate::worker::accounts::Accounts;

const TOPIC: &str = "crm.main.customers";

/// Service and rows.
const SEED: [(&str, &str); 3] = [
    ("crm", "INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Eve')"),
    (
        "shop",
        "INSERT INTO orders VALUES (11, 1, '2026-03-02'), (12, 1, '2026-03-09'), (13, 1, '2026-04-01'),
                                   (21, 2, '2026-03-05'), (22, 2, '2026-03-28'), (31, 3, '2026-04-11');
         INSERT INTO order_lines VALUES (11, 1, 'kettle'), (11, 2, 'cups'), (11, 3, 'tea'), (12, 1, 'lamp'), (12, 2, 'bulb'),
                                        (13, 1, 'chair'), (13, 2, 'cushion'),
                                        (21, 1, 'desk'), (22, 1, 'paper'), (22, 2, 'pens'), (31, 1, 'clock')",
    ),
    (
        "shipping",
        "INSERT INTO parcels VALUES (11, 1, 'north'), (11, 2, 'north'), (12, 1, 'river'), (13, 1, 'river'), (13, 2, 'north'),
                                    (21, 1, 'river'), (22, 1, 'north'), (31, 1, 'river')",
    ),
];

/// Tables with the entities that stand for them, and the rows among them that belong to customer 1.
const OF_ONE: [(&str, &str, &str, &str); 4] = [
    ("shop.order", "shop", "orders", "customer_id = 1"),
    ("shop.order_line", "shop", "order_lines", "order_id BETWEEN 10 AND 19"),
    ("shipping.parcel", "shipping", "parcels", "order_id BETWEEN 10 AND 19"),
    ("shop.customer_copy", "shop", "customer_copy", "id = 1"),
];

/// Fills the tables and waits until the copy has followed.
pub(super) async fn seed(world: &World, began: Instant) -> Result<Seeded, DemoError> {
    for (service, rows) in SEED {
        world.stage.execute(service, rows).await?;
    }
    world
        .until("the copy of the customers is filled", async || {
            Ok((world.count("shop", "SELECT COUNT(*) FROM customer_copy").await? == 3).then_some(()))
        })
        .await?;
    world.settled("the events of the first rows are worked").await?;
    let ready_after = began.elapsed();
    let mut rows = vec![("crm.customer".to_owned(), world.count("crm", "SELECT COUNT(*) FROM customers").await?)];
    for (entity, service, table, _) in OF_ONE {
        rows.push((entity.to_owned(), world.count(service, &format!("SELECT COUNT(*) FROM {table}")).await?));
    }
    Ok(Seeded { rows, ready_after })
}

async fn of_one(world: &World) -> Result<BTreeMap<&'static str, (u64, u64)>, DemoError> {
    let mut counts = BTreeMap::new();
    for (entity, service, table, condition) in OF_ONE {
        let own = world.count(service, &format!("SELECT COUNT(*) FROM {table} WHERE {condition}")).await?;
        let all = world.count(service, &format!("SELECT COUNT(*) FROM {table}")).await?;
        // Rows may go between the two questions; the last answer, when none of its own are left, is exact.
        counts.insert(entity, (own, all.saturating_sub(own)));
    }
    Ok(counts)
}

/// Deletes customer 1 at its service and watches what goes elsewhere.
pub(super) async fn delete(world: &World) -> Result<Cascaded, DemoError> {
    let (before, from) = (of_one(world).await?, world.reports());
    let known = world.settled("the accounts before the delete").await?;
    world.stage.execute("crm", "DELETE FROM customers WHERE id = 1").await?;
    let committed = Instant::now();
    let gone = "all rows under customer 1 are gone";
    let after = world
        .until(gone, async || {
            let counts = of_one(world).await?;
            Ok(counts.values().all(|(own, _)| *own == 0).then_some(counts))
        })
        .await?;
    let accounts = world.settled("the events of the cascade's own deletes are worked").await?;
    let done = world.since(from, |seen| Done::of(seen, committed));
    let root = world.model.rules.entity_ids().find(|(_, entity)| entity.name == "crm.customer").map(|(id, _)| id);
    let tree = root.map(|root| Tree::grow(&world.model, root, "1", &done)).unwrap_or_default();
    for (entity, (own, others)) in before {
        same("rows reported as removed", own, tree.rows_of(entity))?;
        same("rows of other customers", others, after.get(entity).map_or(0, |(_, others)| *others))?;
    }
    let echoes = no_effect(&accounts) - no_effect(&known);
    Ok(Cascaded { tree, echoes })
}

/// Says again on the topic that a living customer is gone.
pub(super) async fn stale_delete(world: &mut World) -> Result<Stale, DemoError> {
    let known = world.settled("the accounts before the stale delete").await?;
    let before = orders_of_two(world).await?;
    let event = delete_event(&json!(2), &json!("Bob"));
    let at = world.send(TOPIC, r#"{"id":2}"#, &event.to_string()).await?;
    let accounts = world.settled("the stale delete is worked").await?;
    same("records without effect", 1, no_effect(&accounts) - no_effect(&known))?;
    same("parents found alive", 1, accounts.spared - known.spared)?;
    same("orders of customer 2", before, orders_of_two(world).await?)?;
    let copies = "SELECT COUNT(*) FROM customer_copy WHERE id = 2";
    same("copies of customer 2", 1, world.count("shop", copies).await?)?;
    Ok(Stale { at: at.to_string(), spared: (known.spared, accounts.spared), orders: before })
}

async fn orders_of_two(world: &World) -> Result<u64, DemoError> {
    world.count("shop", "SELECT COUNT(*) FROM orders WHERE customer_id = 2").await
}

/// Writes a record that cannot be read, and reads it back from the topic of dead letters.
pub(super) async fn dead_letter(world: &mut World) -> Result<Letter, DemoError> {
    let known = world.settled("the accounts before the unreadable record").await?;
    let key = r#"{"id":"12abc"}"#;
    let event = delete_event(&json!("12abc"), &Value::Null);
    let at = world.send(TOPIC, key, &event.to_string()).await?;
    let accounts = world.settled("the unreadable record is kept").await?;
    let letters = |accounts: &Accounts| accounts.partitions.values().map(|account| account.dead_letters).sum::<u64>();
    same("dead letters", 1, letters(&accounts) - letters(&known))?;
    let (kafka, topic) = (world.config.kafka.clone(), world.config.dead_letters.topic.clone());
    let record = world
        .until("the dead letter is read back", async || {
            let (kafka, topic) = (kafka.clone(), topic.clone());
            tokio::task::spawn_blocking(move || first_record(&kafka, &topic)).await.unwrap_or(Ok(None))
        })
        .await?;
    let header = |wanted: &str| {
        let found = record.headers.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.as_deref());
        String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
    };
    same("dead letters that name the record's place", 1, u64::from(header("entail.position") == at.to_string()))?;
    Ok(Letter {
        key: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
        letter: record.at.to_string(),
        position: header("entail.position"),
        stage: header("entail.stage"),
        reason: header("entail.reason"),
        hint: header("entail.hint"),
    })
}

/// The first record of a topic, if one comes soon.
fn first_record(kafka: &Kafka, topic: &str) -> Result<Option<Record>, DemoError> {
    let reader = Reader::open(kafka)?;
    let start = reader.partitions(topic)?.into_iter().map(|partition| (partition, NextOffset(0))).collect();
    reader.assign(&start)?;
    for _ in 0..40 {
        match reader.next() {
            Ok(None) => {}
            found => return Ok(found?),
        }
    }
    Ok(None)
}

/// A delete as a connector would tell it, from the first position of its log.
fn delete_event(id: &Value, name: &Value) -> Value {
    let source = json!({
        "version": "entail", "connector": "sqlite", "name": "crm", "snapshot": "false", "schema": "main", "table": "customers", "lsn": 1,
    });
    json!({"before": {"id": id, "name": name}, "after": null, "source": source, "op": "d", "ts_ms": 0})
}

fn no_effect(accounts: &Accounts) -> u64 {
    accounts.partitions.values().map(|account| account.no_effect).sum()
}
