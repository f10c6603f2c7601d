//! Tables and records of other people: names that hide others, heirs, values that an event leaves out, letters that are too large.

use entail::databases::Databases;
use entail::model::{BindError, Model};
use entail::rules::{self, SourceFile};
use entail::sink::{Access, Location};
use serde_json::{Value, json};

use crate::copies::COPIES;
use crate::support::kafka::Record;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop};
use crate::support::world::*;

/// Orders that go with their customers.
pub(crate) const RULES: &str = "
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

/// The column takes letters of both sizes for one another, and its key does not: two rows, of which one goes.
#[tokio::test(flavor = "multi_thread")]
async fn h56_a_row_whose_key_differs_by_the_size_of_a_letter_stays() {
    let shop = "CREATE TABLE orders (id TEXT COLLATE NOCASE NOT NULL, customer bigint, PRIMARY KEY (id COLLATE BINARY)); CREATE INDEX oc ON orders (customer);
        INSERT INTO orders VALUES ('a', 1), ('A', 2), ('b', 1);";
    let mut world = World::new(false, CUSTOMERS, shop, RULES).await;
    world.gone(1).await;
    assert_eq!(lines(&world.shop, "SELECT id FROM orders ORDER BY 1").await, ["A"], "WRONG DELETION");
    world.undo(root(1), entail::undo::OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, "SELECT id || customer FROM orders ORDER BY customer, id").await, ["a1", "b1", "A2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h65_a_table_from_which_others_inherit_is_refused() {
    let shop = Shop::open().await;
    shop.execute("shop", "CREATE TABLE old_orders () INHERITS (orders)").await;
    let (code, _, said) = shop.command(&["run", "--migrate", "--until-end"]).await;
    assert!(code == 2 && said.contains("other tables inherit from `orders`"), "{code}: {said}");
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

/// What PostgreSQL has and no event can tell: the copy says what its owner says.
#[tokio::test(flavor = "multi_thread")]
async fn h53_a_value_without_a_canonical_form_is_copied_as_its_owner_prints_it() {
    let crm = "CREATE TABLE customers (id bigint PRIMARY KEY, seen timestamp, share numeric); INSERT INTO customers VALUES (7, 'infinity', 'NaN'), (8, '0044-03-15 BC', 2.5);";
    let shop = "CREATE TABLE customer_copy (id bigint PRIMARY KEY, seen timestamp, share numeric);";
    let rules =
        COPIES.replace("{ id: id, name: name }", "{ id: id, seen: seen, share: share }").replace("crm.main.customers", "crm.customers");
    let rules = rules.lines().filter(|line| !line.contains("crm.member")).collect::<Vec<_>>().join("\n");
    let mut world = World::new(true, crm, shop, &rules).await;
    for id in [7, 8] {
        let source = json!({"connector": "postgresql", "name": "crm", "schema": "public", "table": "customers", "lsn": 10});
        let value = json!({"op": "c", "before": Value::Null, "after": {"id": id, "seen": 9_223_372_036_825_200_000_i64, "share": "?"}, "source": source});
        world.work("crm.customers", json!({"id": id}), value, None).await;
    }
    let now = lines(&world.shop, "SELECT concat(id, '|', seen, '|', share) FROM customer_copy ORDER BY id").await;
    assert_eq!(now, ["7|infinity|NaN", "8|0044-03-15 00:00:00 BC|2.5"]);
}

/// Native keys by which the database would change rows that are not found by the text of the parent's key.
#[tokio::test(flavor = "multi_thread")]
async fn h56_a_native_key_that_finds_more_than_its_text_is_refused_where_it_changes_rows() {
    let set_ups = [
        (false, "TEXT COLLATE NOCASE", "TEXT", "ON DELETE CASCADE", true),
        (false, "TEXT", "TEXT COLLATE NOCASE", "ON DELETE CASCADE", false),
        (false, "TEXT COLLATE NOCASE", "TEXT", "", false),
        (false, "INTEGER", "TEXT", "ON UPDATE SET NULL", false),
        (false, "TEXT", "TEXT", "ON DELETE CASCADE ON UPDATE CASCADE", false),
        (true, "numeric(8,0)", "numeric(8,2)", "ON DELETE SET NULL", true),
        (true, "numeric(8,2)", "numeric(8,2)", "ON DELETE SET NULL", false),
        (true, "float8", "float8", "ON DELETE SET DEFAULT", true),
        (true, "float8", "float8", "ON DELETE RESTRICT", false),
        (true, "bigint", "integer", "ON DELETE CASCADE", false),
        (true, "kind", "kind", "ON DELETE CASCADE", false),
        (true, "inet", "inet", "ON DELETE CASCADE", false),
        (true, "timetz", "timetz", "ON DELETE CASCADE", true),
        (true, "numeric(8,0)", "numeric(8,2)", "ON UPDATE CASCADE", false),
        (false, "NUMERIC", "NUMERIC", "ON DELETE CASCADE", false),
        (false, "", "", "ON DELETE CASCADE", true),
    ];
    for (postgres, parent, child, actions, is_refused) in set_ups {
        let world = World::new(postgres, CUSTOMERS, "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint);", RULES).await;
        let tables = format!(
            "{}DROP TABLE orders; CREATE TABLE orders (id {parent} PRIMARY KEY, customer bigint); CREATE INDEX oc ON orders (customer);
            CREATE TABLE lines (id bigint PRIMARY KEY, order_id {child} REFERENCES orders (id) {actions});",
            if postgres { "CREATE TYPE kind AS ENUM ('a', 'b');" } else { "" }
        );
        sql(&world.shop, &tables).await;
        // Of types that a key of the rules cannot have, another column names the row.
        let is_odd = matches!(parent, "float8" | "kind" | "inet" | "timetz" | "NUMERIC" | "");
        let rules = if is_odd { RULES.replace("orders, key: id", "orders, key: customer") } else { RULES.to_owned() };
        if is_odd {
            sql(&world.shop, "CREATE UNIQUE INDEX ON_CUSTOMER ON orders (customer)").await;
        }
        let rules = rules::check(&[SourceFile { name: "rules.yaml".to_owned(), text: rules }]).rules.expect("good rules");
        let mut databases = Databases::default();
        for (service, url) in [("crm", &world.crm), ("shop", &world.shop)] {
            let database = Location { url: url.clone(), access: Access::Write }.open().expect("a url");
            databases.add(service, Access::Write, database).await.expect("opens");
        }
        let refused = match Model::bind(rules, databases).await {
            Ok(_) => false,
            Err(BindError::Problems(problems)) => {
                assert!(problems.iter().all(|problem| problem.message.contains("compare as equal")), "{problems:#?}");
                true
            }
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(refused, is_refused, "WRONG DELETION, or refused for nothing: {parent}, {child} {actions}");
    }
}

/// A row goes whose other key nobody can read: what points at it there would go natively, unarchived, or be missed.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_row_whose_other_key_cannot_be_read_does_not_go() {
    let shop = "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, day date UNIQUE); CREATE INDEX oc ON orders (customer);
        CREATE TABLE lines (id bigint PRIMARY KEY, day date REFERENCES orders (day) ON DELETE CASCADE);
        INSERT INTO orders VALUES (10, 1, 'infinity'), (20, 2, '2026-01-01'); INSERT INTO lines VALUES (1, 'infinity'), (2, '2026-01-01');";
    let mut world = World::new(true, CUSTOMERS, shop, RULES).await;
    world.gone(2).await;
    assert_eq!(lines(&world.shop, "SELECT id::text FROM lines").await, ["1"]);
    world.gone(1).await;
    assert_eq!(lines(&world.shop, "SELECT id::text FROM lines").await, ["1"], "WRONG DELETION: taken along, and not archived");
    assert_eq!(lines(&world.shop, "SELECT scope FROM entail_latches").await, ["reference:order_customer"]);
}
