//! Replay: reading change topics again changes nothing that is right, and mends what is not.

use std::time::Duration;

use serde_json::Value;

use crate::support::worker::{DEADLINE, Shop};

async fn replay(shop: &Shop, arguments: &[&str], code: i32) -> Value {
    let mut all = vec!["replay", "--from", "beginning", "--format", "json"];
    all.extend(arguments);
    let (found, stdout, stderr) = shop.command(&all).await;
    assert_eq!(found, code, "{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// Fifty orders of customers that are gone, and fifty of customers that live.
async fn plant(shop: &Shop, from: i64, gone: i64) {
    let living = gone + 1;
    shop.execute(
        "shop",
        &format!(
            "INSERT INTO orders SELECT {from} + i, i FROM generate_series(1, 50) i;
             INSERT INTO orders SELECT {from} + 50 + i, {living} + i FROM generate_series(1, 50) i"
        ),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h90_replay_changes_nothing_that_is_right_and_removes_exactly_the_orphans() {
    let shop = Shop::open().await;
    let (all, gone, updates) = (6_000, 3_000, 2);
    let records = shop.load(all, gone, updates).await;
    // A key that is deleted twice in the topic.
    shop.bed.produce([shop.delete(7, 90_000_000), shop.delete(7, 90_000_008)].into_iter().flatten().collect()).await;
    let records = records + 4;
    let mut worker = shop.run("worker", &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    shop.assert_settled(all, gone, updates).await;
    let frontier = shop.frontier().await;
    for round in 0..3 {
        let found = replay(&shop, &["--apply"], 0).await;
        assert_eq!(found["changed"], 0, "round {round}: {found}");
        assert_eq!(found["records"], records, "{found}");
    }
    shop.assert_settled(all, gone, updates).await;

    plant(&shop, 1_000_000, gone).await;
    let count = "SELECT count(*) FROM orders";
    let planted = shop.count("shop", count).await;
    let dry = replay(&shop, &[], 1).await;
    assert_eq!((&dry["changed"], &dry["rows"]["order_customer"]), (&Value::from(50), &Value::from(50)), "{dry}");
    assert_eq!(shop.count("shop", count).await, planted, "a dry run writes nothing");
    assert_eq!(shop.count("shop", "SELECT count(*) FROM entail_archive WHERE entity = 'shop.order'").await, gone);
    let wet = replay(&shop, &["--apply"], 0).await;
    assert_eq!((&wet["changed"], &wet["rows"]["order_customer"]), (&Value::from(50), &Value::from(50)), "{wet}");
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders WHERE id > 1000000").await, 50);
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders WHERE id > 1000050").await, 50, "orders of living customers stay");
    assert_eq!(replay(&shop, &["--apply"], 0).await["changed"], 0);
    assert_eq!(shop.frontier().await, frontier, "neither the ledger's progress nor the group's offsets move");
}

#[tokio::test(flavor = "multi_thread")]
async fn h90_replay_beside_a_running_worker() {
    let shop = Shop::open().await.extra("batch: { events: 500 }\n");
    let (all, gone, updates) = (10_000, 5_000, 2);
    let records = shop.load(all, gone, updates).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_durable(records / 10).await;
    let found = replay(&shop, &["--apply"], 0).await;
    assert_eq!(found["records"], records, "{found}");
    shop.until_caught_up().await;
    plant(&shop, 1_000_000, gone).await;
    assert_eq!(replay(&shop, &["--apply"], 0).await["rows"]["order_customer"], 50);
    shop.execute("shop", "DELETE FROM orders WHERE id > 1000000; DELETE FROM entail_archive WHERE row_key LIKE '[\"10000__\"]'").await;
    assert!(worker.is_running(), "{}", worker.tail());
    let log = worker.log();
    assert!(!log.contains("fenced") && log.matches("partitions taken over").count() == 1, "{log}");
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0);
    worker.accounts();
    shop.assert_settled(all, gone, updates).await;
}
