//! Servers that are not those of the ledgers: an empty or foreign database of parents, another target, another Kafka. `ENTAIL_TIMES` runs each more often.

use crate::halts::times;
use crate::support::bed::Bed;
use crate::support::broker::Broker;
use crate::support::postgres;
use crate::support::worker::{DEADLINE, PARTITIONS, Shop};
use crate::support::world::lines;

/// What would change rows, if it believed what it meets.
const READING: [&[&str]; 2] = [&["run", "--migrate", "--until-end", "--wait", "1s"], &["replay", "--from", "beginning", "--apply"]];
/// What needs no Kafka.
const OTHERS: [&[&str]; 2] = [&["undo", "--root", "crm.customer:2"], &["archive", "purge", "--all"]];

/// Customers 1 to 20, of whom 1 to 3 are gone and worked, and deletes of others that are still to be read.
async fn begun() -> Shop {
    let shop = Shop::open().await.extra("");
    shop.load(20, 3, 0).await;
    let mut worker = shop.run("worker", &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    shop.bed.produce((4..=19).flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
    shop
}

/// With these settings none of the commands does anything, and each says what is another one than before.
async fn refused(shop: &Shop, (from, to): (&str, &str), name: &str, commands: &[&[&str]]) {
    std::fs::write(shop.config(), shop.settings().replace(from, to)).expect("the settings are written");
    for command in commands {
        let (code, stdout, stderr) = shop.command(command).await;
        assert_eq!(code, 3, "{name} {command:?}: {stdout}{stderr}");
        assert!(stderr.contains(&format!("belongs to {name} ")) && stderr.contains("entail_identity"), "{command:?}: {stderr}");
    }
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders").await, 17, "WRONG DELETION: {name}");
    assert_eq!(shop.count("shipping", "SELECT count(*) FROM parcels").await, 34, "WRONG DELETION: {name}");
    assert_eq!(shop.count("shipping", "SELECT count(*) FROM entail_archive").await, 6, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h67_a_database_of_parents_that_is_another_one_is_not_believed() {
    for round in 0..times() {
        let shop = begun().await;
        let other = shop.bed.create_database("other").await;
        postgres::execute(&other, "CREATE TABLE customers (id bigint PRIMARY KEY, name text)").await;
        if round % 2 == 1 {
            postgres::execute(&other, "INSERT INTO customers VALUES (20, 'somebody else')").await;
        }
        refused(&shop, (&shop.urls["crm"], &other), "crm", &[READING, OTHERS].concat()).await;
    }
}

/// One url was pasted twice, and the orders' database has a table of that name, too.
#[tokio::test(flavor = "multi_thread")]
async fn h67_the_database_of_another_service_is_not_that_of_the_parents() {
    let shop = begun().await;
    shop.execute("shop", "CREATE TABLE customers (id bigint PRIMARY KEY, name text)").await;
    refused(&shop, (&shop.urls["crm"], &shop.urls["shop"]), "crm", &[READING, OTHERS].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h50_a_target_that_is_another_one_is_noticed_by_the_ledgers_of_the_others() {
    for _ in 0..times() {
        let shop = begun().await;
        let other = shop.bed.create_database("other").await;
        let tables = "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint); CREATE INDEX ON orders (customer_id);
            CREATE TABLE customer_copy (id bigint PRIMARY KEY, name text); INSERT INTO orders SELECT i, i FROM generate_series(1, 20) i";
        postgres::execute(&other, tables).await;
        refused(&shop, (&shop.urls["shop"], &other), "shop", &[READING, OTHERS].concat()).await;
        assert_eq!(lines(&other, "SELECT count(*)::text FROM orders").await, ["20"], "WRONG DELETION");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h50_a_kafka_that_is_another_one_is_not_read() {
    for _ in 0..times() {
        let shop = begun().await;
        let broker = Broker::create().await;
        let bed = Bed::with_kafka(&broker.address);
        for (topic, partitions) in [(&shop.topic, PARTITIONS), (&shop.bed.name("shop.public.orders"), 1), (&shop.dead_letters, 1)] {
            bed.create_topic(topic, partitions, &[]).await;
        }
        bed.produce((1..=20).flat_map(|id| shop.delete(id, 90_000_000 + id)).collect()).await;
        refused(&shop, (&shop.bed.kafka, &broker.address), "kafka cluster", &READING).await;
    }
}
