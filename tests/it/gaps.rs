//! Offsets that the topic no longer holds, or does not hold yet: the partition stands still and says so, the others go on, and a person can
//! release it (H35, H37).

use std::time::Duration;

use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, PARTITIONS, Shop, Worker};

async fn copied(shop: &Shop, id: i64, name: &str) -> bool {
    shop.count("shop", &format!("SELECT count(*) FROM customer_copy WHERE id = {id} AND name = '{name}'")).await == 1
}

/// The partition is listed as latched with these words; opens it.
async fn release(shop: &Shop, words: &str) {
    let scope = format!("partition:{}[0]", shop.topic);
    wait_for("the latch", DEADLINE, async || {
        let (code, listed, _) = shop.command(&["release"]).await;
        (code == 0 && listed.contains(&format!("{scope}: gap")) && listed.contains(words)).then_some(())
    })
    .await;
    let (code, released, _) = shop.command(&["release", &scope]).await;
    assert!(code == 0 && released.contains("released"), "{code}: {released}");
}

async fn run_to_the_end(shop: &Shop, name: &str, code: i32) {
    let mut worker = shop.run(name, &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, code, "{}", worker.tail());
    worker.accounts();
}

/// A worker from whose first partition a record was lost while it read, and one record behind it.
async fn with_a_gap() -> (Shop, Worker) {
    let shop = Shop::open().await;
    shop.load(100, 50, 0).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    worker.signal("STOP");
    // The broker answers the fetch that is open with the first record. What it then gets and forgets, nobody has read.
    shop.bed.produce(vec![shop.update(60, "first", 90_000_000).in_partition(1)]).await;
    shop.bed.produce(vec![shop.update(61, "lost", 90_000_001).in_partition(0)]).await;
    shop.bed.forget_records(&shop.topic, 0).await;
    shop.bed.produce(vec![shop.update(62, "after the gap", 90_000_002).in_partition(0)]).await;
    worker.signal("CONT");
    worker.until_log("events between them are lost").await;
    (shop, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn h35_records_that_are_lost_while_the_worker_reads_halt_their_partition() {
    let (shop, mut worker) = with_a_gap().await;
    // The other partitions are not concerned.
    shop.bed.produce(vec![shop.update(63, "elsewhere", 90_000_003).in_partition(1)]).await;
    wait_for("the other partition to go on", DEADLINE, async || copied(&shop, 63, "elsewhere").await.then_some(())).await;
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
    worker.accounts();
    run_to_the_end(&shop, "halted", 3).await;
    assert!(!copied(&shop, 62, "after the gap").await, "nothing is skipped before a person has looked");
    release(&shop, "the topic begins at").await;
    run_to_the_end(&shop, "released", 0).await;
    assert!(copied(&shop, 62, "after the gap").await && !copied(&shop, 61, "lost").await);
    run_to_the_end(&shop, "again", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h35_a_release_beside_the_running_worker_is_not_undone_by_it() {
    let (shop, mut worker) = with_a_gap().await;
    release(&shop, "the topic begins at").await;
    // It goes on with the other partitions, and must not move this one.
    shop.bed.produce(vec![shop.update(64, "behind it", 90_000_004).in_partition(0)]).await;
    shop.bed.produce(vec![shop.update(63, "elsewhere", 90_000_003).in_partition(1)]).await;
    wait_for("the other partition to go on", DEADLINE, async || copied(&shop, 63, "elsewhere").await.then_some(())).await;
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
    let anew = "SELECT count(*) FROM entail_progress WHERE next_offset < 0";
    assert_eq!(shop.count("shop", anew).await, 1, "the next start begins anew there");
    run_to_the_end(&shop, "released", 0).await;
    assert!(copied(&shop, 62, "after the gap").await && copied(&shop, 64, "behind it").await && !copied(&shop, 61, "lost").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn h35_a_partition_released_while_it_is_empty_notices_the_next_gap() {
    let shop = Shop::open().await;
    shop.load(100, 50, 0).await;
    run_to_the_end(&shop, "first", 0).await;
    let lose_one = async |id: i64| {
        shop.bed.produce(vec![shop.update(id, "lost", 90_000_000 + id).in_partition(0)]).await;
        shop.bed.forget_records(&shop.topic, 0).await;
    };
    lose_one(61).await;
    run_to_the_end(&shop, "halted", 3).await;
    release(&shop, "the topic begins at").await;
    // Nothing to read: the place is kept all the same, and what is lost behind it is a gap again.
    run_to_the_end(&shop, "released", 0).await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM entail_progress WHERE next_offset < 0").await, 0, "a place of its own again");
    lose_one(62).await;
    run_to_the_end(&shop, "halted again", 3).await;
    release(&shop, "the topic begins at").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h37_a_topic_that_ends_before_the_ledgers_offset_halts_its_partition() {
    let shop = Shop::open().await;
    shop.load(100, 50, 0).await;
    run_to_the_end(&shop, "first", 0).await;
    // As after the topic was made anew: the ledger knows more than it holds.
    let ahead = format!("UPDATE entail_progress SET next_offset = 1000000 WHERE topic = '{}' AND \"partition\" = 0", shop.topic);
    for service in ["shop", "shipping"] {
        shop.execute(service, &ahead).await;
    }
    shop.bed.produce(vec![shop.update(61, "new", 90_000_000).in_partition(0)]).await;
    run_to_the_end(&shop, "halted", 3).await;
    assert!(!copied(&shop, 61, "new").await);
    release(&shop, "the topic ends at").await;
    run_to_the_end(&shop, "released", 0).await;
    assert!(copied(&shop, 61, "new").await);
    shop.bed.produce(vec![shop.update(62, "next", 90_000_001).in_partition(0)]).await;
    run_to_the_end(&shop, "again", 0).await;
    assert!(copied(&shop, 62, "next").await);
}

/// The topic is made anew and grows longer than it was: by offsets alone nobody sees it, and the first records of it would be passed over.
#[tokio::test(flavor = "multi_thread")]
async fn h16_a_topic_that_was_made_anew_and_is_longer_halts_its_partitions() {
    let shop = Shop::open().await;
    shop.load(100, 50, 0).await;
    run_to_the_end(&shop, "first", 0).await;
    run_to_the_end(&shop, "nothing new", 0).await;
    shop.bed.recreate_topic(&shop.topic, PARTITIONS).await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 60").await;
    let mut lsn = 90_000_000;
    for partition in 0..PARTITIONS {
        let gone = if partition == 0 { shop.delete(60, lsn).to_vec() } else { Vec::new() };
        shop.bed.produce(gone.into_iter().map(|record| record.in_partition(0)).collect()).await;
        lsn += 8;
        let many = (0..300).map(|number| shop.update(61 + number % 30, "new", lsn + number * 8).in_partition(partition)).collect();
        shop.bed.produce(many).await;
        lsn += 300 * 8;
    }
    run_to_the_end(&shop, "halted", 3).await;
    assert!(!copied(&shop, 61, "new").await, "nothing is read behind what may have been missed");
    for partition in 0..PARTITIONS {
        let scope = format!("partition:{}[{partition}]", shop.topic);
        let (code, listed, _) = shop.command(&["release"]).await;
        assert!(code == 0 && listed.contains(&format!("{scope}: gap")) && listed.contains("the topic was made anew"), "{code}: {listed}");
        let (code, released, _) = shop.command(&["release", &scope]).await;
        assert!(code == 0 && released.contains("released"), "{code}: {released}");
    }
    run_to_the_end(&shop, "released", 0).await;
    assert!(copied(&shop, 61, "new").await);
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders WHERE customer_id = 60").await, 0, "what stood at the beginning was read");
    run_to_the_end(&shop, "again", 0).await;
}
