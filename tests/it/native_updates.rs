//! What a service's own foreign keys do to other rows when entail gives a row another key: it is archived, told and undone like the rest.

use entail::undo::OnConflict;
use serde_json::json;

use crate::support::world::*;

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: [customer, n] }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
";
/// Lines and tags follow their order, a note lets go of it, a mark falls back on another one. Order 2 and what hangs on it stay.
const TABLES: &str = "
CREATE TABLE orders (customer INTEGER, n INTEGER, PRIMARY KEY (customer, n));
CREATE TABLE lines (customer INTEGER, n INTEGER, line INTEGER, PRIMARY KEY (customer, n, line),
    FOREIGN KEY (customer, n) REFERENCES orders (customer, n) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE tags (id INTEGER PRIMARY KEY, customer INTEGER, n INTEGER, line INTEGER, tag TEXT,
    FOREIGN KEY (customer, n, line) REFERENCES lines (customer, n, line) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE notes (id INTEGER PRIMARY KEY, customer INTEGER, n INTEGER, FOREIGN KEY (customer, n) REFERENCES orders (customer, n) ON UPDATE SET NULL);
CREATE TABLE marks (id INTEGER PRIMARY KEY, customer INTEGER DEFAULT 2, n INTEGER DEFAULT 2,
    FOREIGN KEY (customer, n) REFERENCES orders (customer, n) ON UPDATE SET DEFAULT);
INSERT INTO orders VALUES (1, 1), (2, 2);
INSERT INTO lines VALUES (1, 1, 1), (1, 1, 2), (2, 2, 1);
INSERT INTO tags VALUES (1, 1, 1, 1, 'a'), (2, 1, 1, 2, 'b'), (3, 2, 2, 1, 'c');
INSERT INTO notes VALUES (1, 1, 1), (2, 2, 2);
INSERT INTO marks VALUES (1, 1, 1), (2, 2, 2);
";
const NOW: &str = "SELECT concat('orders ', customer, '|', n) FROM orders UNION ALL SELECT concat('lines ', customer, '|', n, '|', line) FROM lines
    UNION ALL SELECT concat('tags ', id, '|', customer, '|', n, '|', line, '|', tag) FROM tags
    UNION ALL SELECT concat('notes ', id, '|', customer, '|', n) FROM notes UNION ALL SELECT concat('marks ', id, '|', customer, '|', n) FROM marks ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn h64_what_native_keys_change_below_a_key_change_is_archived_and_undone() {
    for postgres in [true, false] {
        let indexed = format!("{TABLES}CREATE INDEX oc ON orders (customer);");
        let mut world = World::new(postgres, CUSTOMERS, &indexed, RULES).await;
        let before = lines(&world.shop, NOW).await;
        sql(&world.crm, "UPDATE customers SET id = 7 WHERE id = 1").await;
        let header = Some(("__debezium.newkey", json!({"id": 7})));
        world.work("crm.customers", json!({"id": 1}), delete("crm", "customers", 1), header).await;
        let mut moved = vec![
            "orders 7|1",
            "orders 2|2",
            "lines 7|1|1",
            "lines 7|1|2",
            "lines 2|2|1",
            "tags 1|7|1|1|a",
            "tags 2|7|1|2|b",
            "tags 3|2|2|1|c",
            "notes 1||",
            "notes 2|2|2",
            "marks 1|2|2",
            "marks 2|2|2",
        ];
        moved.sort_unstable();
        assert_eq!(lines(&world.shop, NOW).await, moved, "postgres: {postgres}");
        let audit = "SELECT concat(action, ' ', \"rows\") FROM entail_cascades ORDER BY reference";
        assert_eq!(lines(&world.shop, audit).await.len(), 5, "one line for the reference, one for each native key");
        let kept = "SELECT concat(entity, ' ', count(*), ' ', count(after)) FROM entail_archive GROUP BY entity ORDER BY 1";
        let mut kept: Vec<String> =
            lines(&world.shop, kept).await.iter().map(|line| line.rsplit('.').next().unwrap_or_default().to_owned()).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["lines 2 2", "marks 1 1", "notes 1 1", "order 1 1", "tags 2 2"], "postgres: {postgres}");
        sql(&world.crm, "UPDATE customers SET id = 1 WHERE id = 7").await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(lines(&world.shop, NOW).await, before, "postgres: {postgres}: {:?}", undone.tables);
        assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        let again = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((again.left(), lines(&world.shop, NOW).await), (0, before), "a repeat does nothing: {:?}", again.tables);
    }
}

/// A shelf follows its box by a reference of the rules, and its lot natively: both in one plan. What the native key has set back by the time that
/// the shelf's turn comes is no conflict.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_row_with_a_step_of_its_own_that_a_native_key_changes_too_is_undone() {
    const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.lot, table: lots, key: [customer, n] }
  - { name: shop.shelf, table: shelves, key: [customer, n, id] }
  - { name: shop.sign, table: signs, key: id }
references:
  - { name: lot_customer, child: shop.lot, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
  - { name: shelf_keeper, child: shop.shelf, columns: keeper, parent: crm.customer, on_delete: set_null, on_update: cascade }
  - { name: sign_customer, child: shop.sign, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
";
    const TABLES: &str = "
CREATE TABLE lots (customer INTEGER, n INTEGER, PRIMARY KEY (customer, n));
CREATE TABLE shelves (customer INTEGER, n INTEGER, id INTEGER, keeper INTEGER, PRIMARY KEY (customer, n, id),
    FOREIGN KEY (customer, n) REFERENCES lots (customer, n) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE signs (id INTEGER PRIMARY KEY, customer INTEGER, lot INTEGER, n INTEGER,
    FOREIGN KEY (lot, n) REFERENCES lots (customer, n) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX lc ON lots (customer); CREATE INDEX sk ON shelves (keeper); CREATE INDEX sc ON signs (customer);
INSERT INTO lots VALUES (1, 1), (2, 1);
INSERT INTO shelves VALUES (1, 1, 1, 1), (1, 1, 2, 2), (2, 1, 3, 1), (2, 1, 4, NULL);
INSERT INTO signs VALUES (1, 1, 1, 1), (2, 2, 1, 1), (3, 1, 2, 1);
";
    const NOW: &str = "SELECT concat('lots ', customer, '|', n) FROM lots UNION ALL SELECT concat('shelves ', customer, '|', n, '|', id, '|', keeper) FROM shelves
    UNION ALL SELECT concat('signs ', id, '|', customer, '|', lot, '|', n) FROM signs ORDER BY 1";
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, TABLES, RULES).await;
        let before = lines(&world.shop, NOW).await;
        sql(&world.crm, "UPDATE customers SET id = 7 WHERE id = 1").await;
        let header = Some(("__debezium.newkey", json!({"id": 7})));
        world.work("crm.customers", json!({"id": 1}), delete("crm", "customers", 1), header).await;
        let moved = [
            "lots 2|1",
            "lots 7|1",
            "shelves 2|1|3|7",
            "shelves 2|1|4|",
            "shelves 7|1|1|7",
            "shelves 7|1|2|2",
            "signs 1|7|7|1",
            "signs 2|2|7|1",
            "signs 3|7|2|1",
        ];
        assert_eq!(lines(&world.shop, NOW).await, moved, "postgres: {postgres}");
        sql(&world.crm, "UPDATE customers SET id = 1 WHERE id = 7").await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((undone.left(), lines(&world.shop, NOW).await), (0, before), "postgres: {postgres}: {:?}", undone.tables);
    }
}

/// Native keys lead on from row to row: a hundred of them, and every one is kept.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_long_chain_of_native_keys_is_kept_whole() {
    const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.link, table: links, key: [customer, n] }
references:
  - { name: head_customer, child: shop.link, columns: customer, when: { kind: head }, parent: crm.customer, on_delete: cascade, on_update: cascade }
";
    const TABLES: &str = "
CREATE TABLE links (customer INTEGER, n INTEGER, up INTEGER, kind TEXT, PRIMARY KEY (customer, n),
    FOREIGN KEY (customer, up) REFERENCES links (customer, n) ON UPDATE CASCADE);
CREATE INDEX lc ON links (customer); CREATE INDEX lu ON links (customer, up);
";
    let rows: String = (1..=100)
        .map(|n| {
            if n == 1 {
                "INSERT INTO links VALUES (1, 1, NULL, 'head');".to_owned()
            } else {
                format!("INSERT INTO links VALUES (1, {n}, {}, 'tail');", n - 1)
            }
        })
        .collect();
    let now = "SELECT concat(customer, '|', count(*)) FROM links GROUP BY customer";
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, &format!("{TABLES}{rows}"), RULES).await;
        sql(&world.crm, "UPDATE customers SET id = 7 WHERE id = 1").await;
        let header = Some(("__debezium.newkey", json!({"id": 7})));
        world.work("crm.customers", json!({"id": 1}), delete("crm", "customers", 1), header).await;
        assert_eq!(lines(&world.shop, now).await, ["7|100"], "postgres: {postgres}");
        let kept = "SELECT concat(count(*), ' of ', count(DISTINCT row_key), ', ', count(after)) FROM entail_archive";
        assert_eq!(lines(&world.shop, kept).await, ["100 of 100, 100"], "postgres: {postgres}");
        sql(&world.crm, "UPDATE customers SET id = 1 WHERE id = 7").await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(
            (undone.left(), lines(&world.shop, now).await),
            (0, vec!["1|100".to_owned()]),
            "postgres: {postgres}: {:?}",
            undone.tables
        );
    }
}
