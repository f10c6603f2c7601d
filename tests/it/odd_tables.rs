//! Tables and records of other people: names that hide others, heirs, values that an event leaves out, letters that are too large.

use entail::engine::{Authority, Batch};
use serde_json::{Value, json};

use crate::support::engine::Bench;
use crate::support::kafka::Record;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop};
use crate::support::world::*;

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade }
";

/// In SQLite a column of this name hides the number of the row, which is what a row is deleted by.
#[tokio::test(flavor = "multi_thread")]
async fn h52_a_column_called_rowid_does_not_take_other_rows_along() {
    for columns in ["rowid INTEGER", "rowid INTEGER, _rowid_ INTEGER", "RowId INTEGER, _ROWID_ INTEGER, OID INTEGER"] {
        let names = columns.replace(" INTEGER", "");
        let numbers = |n: i64| vec![n.to_string(); names.split(',').count()].join(", ");
        let (fives, sixes) = (numbers(5), numbers(6));
        let shop = format!(
            "CREATE TABLE orders (id TEXT PRIMARY KEY, customer bigint, {columns}); CREATE INDEX oc ON orders (customer);
            INSERT INTO orders (id, customer, {names}) VALUES ('a', 1, {fives}), ('b', 2, {fives}), ('c', 2, {sixes});"
        );
        let mut world = World::new(false, CUSTOMERS, &shop, RULES).await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, "SELECT id FROM orders ORDER BY id").await, ["b", "c"], "WRONG DELETION: {columns}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h65_a_table_from_which_others_inherit_is_refused() {
    let shop = Shop::open().await;
    shop.execute("shop", "CREATE TABLE old_orders () INHERITS (orders)").await;
    let (code, _, said) = shop.command(&["run", "--migrate", "--until-end"]).await;
    assert!(code == 2 && said.contains("other tables inherit from `orders`"), "{code}: {said}");
}

const COPIES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.main.customers }
  - { name: crm.member, table: members, key: id, topic: crm.main.customers }
replicas:
  - { name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: { id: id, name: name } }
";

fn written(bench: &mut Bench, name: &str, lsn: i64) -> entail::change::Record {
    let source = json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "customers", "lsn": lsn});
    let value = json!({"op": "u", "before": Value::Null, "after": {"id": 7, "name": name}, "source": source});
    bench.record("crm.main.customers", &json!({"id": 7}), Some(&value), &[])
}

/// A large value that a second change of the same row leaves out, as it did not change.
#[tokio::test(flavor = "multi_thread")]
async fn h12_a_value_that_a_later_event_of_the_batch_leaves_out_is_copied_all_the_same() {
    let mut bench = Bench::new(COPIES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (7, 'new')").await;
    bench.execute("shop", "INSERT INTO customer_copy VALUES (7, 'old')").await;
    let records = [written(&mut bench, "new", 10), written(&mut bench, "__debezium_unavailable_value", 11)];
    bench.work(&records).await.expect("works");
    assert_eq!(bench.lines("SELECT id, name FROM customer_copy").await, ["7|new"]);
}

/// Two tables share a topic, and keys: the tombstone is of the other one.
#[tokio::test(flavor = "multi_thread")]
async fn h5_a_tombstone_of_another_table_does_not_take_an_update_away() {
    let mut bench = Bench::new(COPIES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (7, 'new')").await;
    bench.execute("shop", "INSERT INTO customer_copy VALUES (7, 'old')").await;
    let tombstone = |bench: &mut Bench| bench.record("crm.main.customers", &json!({"id": 7}), None, &[]);
    let records = [written(&mut bench, "new", 10), tombstone(&mut bench)];
    let batch: Batch = bench.batch(&records);
    bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
    assert_eq!(bench.lines("SELECT id, name FROM customer_copy").await, ["7|new"]);
}

/// The topic of the dead letters takes less than the topic of the changes.
#[tokio::test(flavor = "multi_thread")]
async fn h101_a_dead_letter_that_is_too_large_for_its_topic_does_not_stop_the_worker() {
    let mut shop = Shop::open().await;
    shop.dead_letters = shop.bed.name("small-letters");
    shop.bed.create_topic(&shop.dead_letters, 1, &[("max.message.bytes", "4000")]).await;
    let shop = shop.extra("");
    shop.load(20, 3, 0).await;
    let large = Record::new(&shop.topic, "{\"id\":1}", Some(&"x".repeat(10_000)));
    shop.bed.produce(vec![large]).await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    wait_for("the next delete to be worked", DEADLINE, async || {
        (shop.count("shop", "SELECT count(*) FROM orders").await == 16).then_some(())
    })
    .await;
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    assert_eq!(shop.bed.high_watermarks(&shop.dead_letters).await.values().sum::<i64>(), 1, "its position is kept");
    assert!(worker.log().contains("takes no message so large"), "{}", worker.tail());
}

/// One child of many is of a narrower type than the parents' key.
#[tokio::test(flavor = "multi_thread")]
async fn h56_a_key_that_a_child_cannot_hold_shuts_nothing() {
    let shop = "CREATE TABLE orders (id bigint PRIMARY KEY, customer integer); CREATE INDEX oc ON orders (customer);
        INSERT INTO orders VALUES (10, 1), (20, 2);";
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, shop, RULES).await;
        world.gone(3_000_000_000).await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM orders").await, ["20"], "postgres: {postgres}");
        assert!(lines(&world.shop, "SELECT scope FROM entail_latches").await.is_empty());
    }
}
