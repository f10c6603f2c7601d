//! A server is away for long, under load: nothing is lost, no record becomes a dead letter, and where it is a database no partition moves (H103).
//!
//! `ENTAIL_OUTAGE_SECONDS=n` sets how long, for each of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::bed::Bed;
use crate::support::broker::Broker;
use crate::support::postgres::Cluster;
use crate::support::worker::{Shop, Worker, consumed};

/// Customers, how many of them go, and how often those that stay are updated.
const LOAD: (i64, i64, i64) = (13_333, 10_000, 3);
/// Shorter than the outage: the group breaks up unless polling goes on.
const SESSION: &str = "session.timeout.ms: 6000, heartbeat.interval.ms: 1000, max.poll.interval.ms: 10000, fetch.wait.max.ms: 20";

fn outage(usual: u64) -> Duration {
    Duration::from_secs(std::env::var("ENTAIL_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual))
}

/// Nothing has happened but a delay.
async fn assert_unharmed(shop: &Shop, worker: Worker, records: i64) {
    let log = worker.log();
    assert_eq!(log.matches("partitions taken over").count(), 1, "{log}");
    for sign in ["partitions are asked back", "lost to another worker"] {
        assert!(!log.contains(sign), "{sign}:\n{log}");
    }
    assert_whole(shop, worker, records).await;
}

/// No dead letter, nothing lost, nothing twice.
async fn assert_whole(shop: &Shop, mut worker: Worker, records: i64) {
    let log = worker.log();
    assert!(!log.contains("dead letter") && !log.contains("fenced"), "{log}");
    assert!(shop.bed.read_all(&[&shop.dead_letters]).await.is_empty());
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0);
    assert_eq!(i64::try_from(consumed(&worker.accounts())).expect("not so many"), records);
    let (all, gone, updates) = LOAD;
    shop.assert_settled(all, gone, updates).await;
}

/// The database of this service is stopped under load.
async fn database_is_away(service: &str, length: Duration) {
    let cluster = Cluster::create().await;
    let elsewhere = BTreeMap::from([(service.to_owned(), cluster.url("postgres"))]);
    let shop = Shop::with(elsewhere).await.properties(SESSION).extra("batch: { events: 1000 }\n");
    let (all, gone, updates) = LOAD;
    let records = shop.load(all, gone, updates).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_durable(records / 4).await;
    cluster.stop().await;
    worker.until_log("the batch is tried again").await;
    tokio::time::sleep(length).await;
    assert!(worker.is_running(), "{}", worker.tail());
    println!("{service} away for {length:?}; resident MiB (now, at most): {:?}", worker.memory());
    let began = Instant::now();
    cluster.start().await;
    let other = if service == "shop" { "shipping" } else { "shop" };
    assert!(shop.durable(other).await < records, "it was stopped when all was done already");
    shop.until_caught_up().await;
    println!("caught up {:?} after {service} came back", began.elapsed());
    assert_unharmed(&shop, worker, records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h103_a_target_stopped_for_a_minute_makes_no_dead_letter_and_no_rebalance() {
    database_is_away("shop", outage(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h103_nor_does_the_target_below_it() {
    database_is_away("shipping", outage(15)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h103_nor_does_the_database_of_the_parents() {
    database_is_away("crm", outage(15)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h103_a_broker_that_dies_and_returns_loses_nothing_and_doubles_nothing() {
    let length = outage(15);
    let broker = Broker::create().await;
    let shop = Shop::on(Bed::with_kafka(&broker.address), BTreeMap::new()).await.properties(SESSION).extra("batch: { events: 1000 }\n");
    let (all, gone, updates) = LOAD;
    let records = shop.load(all, gone, updates).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_durable(records / 8).await;
    broker.kill().await;
    tokio::time::sleep(length).await;
    assert!(worker.is_running(), "{}", worker.tail());
    println!("the broker away for {length:?}; resident MiB (now, at most): {:?}", worker.memory());
    broker.start().await;
    let began = Instant::now();
    // Also what is written after it.
    let more: Vec<_> = (gone + 1..=all).map(|id| shop.update(id, &format!("name {updates}"), 90_000_000 + id)).collect();
    let records = records + i64::try_from(more.len()).expect("not so many");
    shop.bed.produce(more).await;
    shop.until_caught_up().await;
    println!("caught up {:?} after the broker came back; {} lines of log", began.elapsed(), worker.log().lines().count());
    // A member that has heard nothing for a session must take its partitions for lost. It gets them back, and begins behind what is durable.
    let log = worker.log();
    assert!((1..=2).contains(&log.matches("partitions taken over").count()), "{log}");
    assert_whole(&shop, worker, records).await;
}
