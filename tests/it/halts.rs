//! What must stop a reference or a partition until a person has looked: each is detected, and no row changes. `ENTAIL_TIMES` runs each more often.

use std::collections::BTreeMap;

use crate::support::postgres::Cluster;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop, Worker};

pub(crate) fn times() -> u64 {
    std::env::var("ENTAIL_TIMES").ok().map_or(1, |text| text.parse().expect("a number"))
}

/// Customers 1 to 20, each with an order, of whom 1 to 3 are gone and worked.
async fn begun(elsewhere: BTreeMap<String, String>) -> (Shop, Worker) {
    let shop = Shop::with(elsewhere).await;
    shop.load(20, 3, 0).await;
    let worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    (shop, worker)
}

async fn told(shop: &Shop, ids: impl IntoIterator<Item = i64>) {
    shop.bed.produce(ids.into_iter().flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
}

async fn orders(shop: &Shop) -> i64 {
    shop.count("shop", "SELECT count(*) FROM orders").await
}

/// Waits for a latch with these words, and ends the worker.
async fn latched(shop: &Shop, worker: &mut Worker, words: &str) {
    wait_for(&format!("a latch: {words}"), DEADLINE, async || {
        let (_, listed, _) = shop.command(&["release"]).await;
        listed.contains(words).then_some(())
    })
    .await;
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
}

/// The parents are restored to a moment at which some of today's did not exist yet: they are missing, and old deletes of their keys come again.
#[tokio::test(flavor = "multi_thread")]
async fn h15_a_parent_database_that_was_restored_is_not_believed() {
    for round in 0..times() {
        for is_running in [true, false] {
            let cluster = Cluster::create().await;
            let (shop, mut worker) = begun([("crm".to_owned(), cluster.url("postgres"))].into()).await;
            cluster.keep_copy().await;
            shop.execute("crm", "INSERT INTO customers SELECT i, 'of today' FROM generate_series(101, 110) i").await;
            shop.execute("shop", "INSERT INTO orders SELECT i, i FROM generate_series(101, 110) i").await;
            // A true delete, after which the worker has seen how far the log was.
            shop.execute("crm", "DELETE FROM customers WHERE id = 4").await;
            told(&shop, [4]).await;
            shop.until_caught_up().await;
            if !is_running {
                worker.signal("TERM");
                assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
            }
            cluster.restore_copy().await;
            told(&shop, 101..=110).await;
            if !is_running {
                worker = shop.run("next", &[]);
            }
            latched(&shop, &mut worker, "restored or failed over").await;
            assert_eq!(orders(&shop).await, 26, "WRONG DELETION in round {round}, running: {is_running}");
            // Who has brought them back lets go, and they live.
            shop.execute("crm", "INSERT INTO customers SELECT i, 'of today' FROM generate_series(101, 110) i").await;
            let (code, said, errors) = shop.command(&["release", "reference:order_customer", "--format", "json"]).await;
            assert_eq!(code, 0, "{said}{errors}");
            let mut last = shop.run("last", &["--until-end"]);
            assert_eq!(last.exit(DEADLINE).await, 0, "{}", last.tail());
            assert_eq!(orders(&shop).await, 26);
        }
    }
}

/// A column is renamed, and another one takes its name: what stands in it are no customers.
#[tokio::test(flavor = "multi_thread")]
async fn h74_another_column_under_an_old_name_is_not_believed() {
    for (service, change) in [
        (
            "shop",
            "ALTER TABLE orders RENAME customer_id TO was; ALTER TABLE orders ADD customer_id bigint; UPDATE orders SET customer_id = 5",
        ),
        ("crm", "ALTER TABLE customers RENAME id TO was; ALTER TABLE customers ADD id bigint"),
    ] {
        for round in 0..times() {
            let (shop, mut worker) = begun(BTreeMap::new()).await;
            shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
            shop.execute(service, change).await;
            told(&shop, 5..=20).await;
            latched(&shop, &mut worker, "have changed").await;
            assert_eq!(orders(&shop).await, 17, "WRONG DELETION in round {round}: {change}");
            // The kill switch needs no table to be as it was.
            let (code, _, errors) = shop.command(&["pause"]).await;
            assert_eq!(code, 0, "{errors}");
            let (code, _, errors) = shop.command(&["pause", "order_customer"]).await;
            assert_eq!(code, 0, "{errors}");
            let (code, status, _) = shop.command(&["status"]).await;
            assert!(code == 1 && status.contains("entail resume order_customer"), "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h74_a_changed_column_is_noticed_without_any_event() {
    let (shop, mut worker) = begun(BTreeMap::new()).await;
    shop.execute("shop", "ALTER TABLE orders ALTER customer_id TYPE text").await;
    latched(&shop, &mut worker, "schema-drift").await;
    assert_eq!(orders(&shop).await, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn h65_a_lost_privilege_halts_its_reference() {
    for round in 0..times() {
        let (shop, mut worker) = begun(BTreeMap::new()).await;
        let role = shop.bed.name("role");
        // The worker's own role, which then loses a right.
        shop.execute("shop", &format!("CREATE ROLE {role} LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
        worker.signal("TERM");
        worker.exit(DEADLINE).await;
        let url = shop.urls["shop"].replace("postgres://postgres@", &format!("postgres://{role}@"));
        std::fs::write(shop.config(), shop.settings().replace(&shop.urls["shop"], &url)).expect("written");
        worker = shop.run("least", &[]);
        worker.until_owner().await;
        shop.execute("shop", &format!("REVOKE DELETE ON orders FROM {role}")).await;
        shop.execute("crm", "DELETE FROM customers WHERE id = 6").await;
        told(&shop, [6]).await;
        latched(&shop, &mut worker, "permission").await;
        assert_eq!(orders(&shop).await, 17, "round {round}");
        shop.execute("shop", &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
}

/// A key's old and new records stand in two partitions: a copy could go back to the older one.
#[tokio::test(flavor = "multi_thread")]
async fn h28_a_partition_that_is_new_waits_until_the_old_ones_were_read() {
    for round in 0..times() {
        let (shop, mut worker) = begun(BTreeMap::new()).await;
        shop.bed.add_partitions(&shop.topic, 4).await;
        shop.bed.produce(vec![shop.update(7, "new", 90_000_000).in_partition(3)]).await;
        worker.until_log("partitions-grown").await;
        let copied = async || shop.count("shop", "SELECT count(*) FROM customer_copy WHERE name = 'new'").await;
        latched(&shop, &mut worker, "partitions-grown").await;
        assert_eq!(copied().await, 0, "round {round}");
        let (code, _, errors) = shop.command(&["release", &format!("partition:{}[3]", shop.topic)]).await;
        assert_eq!(code, 0, "{errors}");
        let mut last = shop.run("last", &["--until-end"]);
        assert_eq!(last.exit(DEADLINE).await, 0, "{}", last.tail());
        assert_eq!(copied().await, 1, "round {round}");
    }
}
