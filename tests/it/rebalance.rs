//! Partitions that leave a worker and come back to it, on the real binary.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection};

use crate::support::kafka::Record;
use crate::support::postgres;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, PARTITIONS, Shop, Worker};

/// Records per partition: together more than may be in flight.
const EACH: i64 = 5_000;
const BATCH: i64 = 500;
const READING_WAITS: &str = "reading waits for what is in flight";

/// A ledger that notes its own steps, records of the first round, and a lock under which nothing can be copied until it is rolled back.
async fn held(shop: &Shop) -> PgConnection {
    let (code, _, said) = shop.command(&["migrate"]).await;
    assert_eq!(code, 0, "{said}");
    shop.execute(
        "shop",
        "CREATE TABLE steps (begun bigint, ended bigint);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO steps VALUES (OLD.next_offset, NEW.next_offset); RETURN NEW; END $$;
         CREATE TRIGGER note AFTER UPDATE ON entail_progress FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;
    produce(shop, 1).await;
    let mut other = postgres::connect(&shop.urls["shop"]).await;
    other.execute("BEGIN; LOCK TABLE customer_copy IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
    other
}

async fn let_go(mut held: PgConnection) {
    held.execute("ROLLBACK").await.expect("the lock is let go");
}

/// Every customer's name of this round, in every partition.
async fn produce(shop: &Shop, round: i64) {
    for partition in 0..PARTITIONS {
        let first = i64::from(partition) * EACH;
        let record = |id| shop.update(id, &format!("name {round}"), round * 10_000_000 + id).in_partition(partition);
        shop.bed.produce((first..first + EACH).map(record).collect::<Vec<Record>>()).await;
    }
}

fn times_taken_over(worker: &Worker) -> usize {
    worker.log().lines().filter(|line| line.contains("taken over partitions=") && !line.contains("partitions=0")).count()
}

async fn until_taken_over(worker: &Worker, times: usize) {
    wait_for("partitions to be taken over again", DEADLINE, async || (times_taken_over(worker) >= times).then_some(())).await;
}

async fn stop(worker: &mut Worker) {
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
}

async fn assert_whole(shop: &Shop, worker: &Worker, round: i64) {
    worker.accounts();
    let copies = format!("SELECT count(*) FROM customer_copy WHERE name = 'name {round}'");
    assert_eq!(shop.count("shop", &copies).await, i64::from(PARTITIONS) * EACH, "copies that are up to date");
    // A step that is longer than a batch passes over records that nobody has worked: a kill behind it would lose them.
    let longest = shop.count("shop", "SELECT max(ended - begun) FROM steps").await;
    assert!((1..=BATCH).contains(&longest), "the longest step of the ledger is over {longest} records");
}

#[tokio::test(flavor = "multi_thread")]
async fn h40_a_partition_given_back_while_reading_waits_is_read_when_it_returns() {
    let shop = Shop::open().await.extra(&format!("batch: {{ events: {BATCH} }}\n"));
    let held = held(&shop).await;
    let mut first = shop.run("first", &[]);
    first.until_log(READING_WAITS).await;
    let mut second = shop.run("second", &[]);
    // Also while a database is away, partitions that are asked back are given.
    second.until_owner().await;
    let_go(held).await;
    shop.until_caught_up().await;
    let before = times_taken_over(&first);
    stop(&mut second).await;
    until_taken_over(&first, before + 1).await;
    produce(&shop, 2).await;
    shop.until_caught_up().await;
    stop(&mut first).await;
    assert_whole(&shop, &first, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h40_partitions_lost_while_reading_waits_are_read_when_they_return() {
    let shop = Shop::open()
        .await
        .properties("session.timeout.ms: 6000, heartbeat.interval.ms: 1000, max.poll.interval.ms: 6000, fetch.wait.max.ms: 20")
        .extra(&format!("batch: {{ events: {BATCH} }}\n"));
    let held = held(&shop).await;
    let mut worker = shop.run("worker", &[]);
    worker.until_log(READING_WAITS).await;
    worker.signal("STOP");
    wait_for("the group to give it up", DEADLINE, async || (shop.bed.members(&shop.group).await == 0).then_some(())).await;
    worker.signal("CONT");
    worker.until_log("lost to another worker").await;
    until_taken_over(&worker, 2).await;
    let_go(held).await;
    shop.until_caught_up().await;
    stop(&mut worker).await;
    assert_whole(&shop, &worker, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h31_what_was_read_before_a_partition_left_is_not_worked_when_it_returns() {
    // Small fetches, so that what waits is of all partitions by turns.
    let shop = Shop::open()
        .await
        .properties("session.timeout.ms: 10000, fetch.wait.max.ms: 20, fetch.message.max.bytes: 30000")
        .extra(&format!("batch: {{ events: {BATCH} }}\n"));
    let held = held(&shop).await;
    let mut first = shop.run("first", &[]);
    first.until_log(READING_WAITS).await;
    let before = times_taken_over(&first);
    let mut second = shop.run("second", &[]);
    second.until_owner().await;
    stop(&mut second).await;
    until_taken_over(&first, before + 1).await;
    let_go(held).await;
    shop.until_caught_up().await;
    stop(&mut first).await;
    assert_whole(&shop, &first, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h42_a_static_member_killed_while_it_gives_partitions_back_leaves_none_unread() {
    let member = |name: &str| format!("group.instance.id: {name}, session.timeout.ms: 45000, fetch.wait.max.ms: 20");
    let shop = Shop::open().await.extra(&format!("batch: {{ events: {BATCH} }}\n")).properties(&member("one"));
    let held = held(&shop).await;
    let mut first = shop.run("first", &[]);
    first.until_log(READING_WAITS).await;
    let shop = shop.properties(&member("two"));
    let mut second = shop.run("second", &[]);
    // Told what to give back, and not yet asking for the second half of the rebalance: what is in flight waits for the lock.
    first.until_log("partitions are asked back").await;
    first.signal("KILL");
    first.exit(DEADLINE).await;
    let shop = shop.properties(&member("one"));
    let mut again = shop.run("again", &[]);
    again.until_owner().await;
    let_go(held).await;
    produce(&shop, 2).await;
    shop.until_caught_up().await;
    let logs = [&again, &second].map(Worker::log);
    assert!(logs.iter().any(|log| log.contains("no member of the group reads these")), "the moment was missed");
    stop(&mut again).await;
    stop(&mut second).await;
    assert_whole(&shop, &second, 2).await;
}
