//! What a service's own foreign keys do to other rows when entail gives a row another key: it is archived, told and undone like the rest.

use entail::engine::{Authority, Batch, Retry, WorkError};
use entail::ledger;
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
        moves(&mut world, 1, 7).await;
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
        moves(&mut world, 1, 7).await;
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
        moves(&mut world, 1, 7).await;
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

/// Lines hold their order's key and their customer's in one column: both references of the rules and the native key would change it. Some have a
/// keeper besides, whom the same event moves.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_column_that_a_native_key_changes_too_is_left_to_it() {
    const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: [customer, n] }
  - { name: shop.line, table: lines, key: [customer, n, line] }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
  - { name: line_customer, child: shop.line, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
  - { name: line_keeper, child: shop.line, columns: keeper, parent: crm.customer, on_delete: set_null, on_update: cascade }
";
    const TABLES: &str = "
CREATE TABLE orders (customer INTEGER, n INTEGER, PRIMARY KEY (customer, n));
CREATE TABLE lines (customer INTEGER, n INTEGER, line INTEGER, keeper INTEGER, PRIMARY KEY (customer, n, line),
    FOREIGN KEY (customer, n) REFERENCES orders (customer, n) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX oc ON orders (customer); CREATE INDEX lc ON lines (customer); CREATE INDEX lk ON lines (keeper);
INSERT INTO orders VALUES (1, 1), (2, 2);
INSERT INTO lines VALUES (1, 1, 1, NULL), (1, 1, 2, 1), (1, 1, 3, 2), (2, 2, 1, 1);
";
    let now = "SELECT concat(customer, '|', n, '|', line, '|', keeper) FROM lines ORDER BY 1";
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, TABLES, RULES).await;
        let before = lines(&world.shop, now).await;
        moves(&mut world, 1, 7).await;
        assert_eq!(lines(&world.shop, now).await, ["2|2|1|7", "7|1|1|", "7|1|2|7", "7|1|3|2"], "postgres: {postgres}");
        let kept = "SELECT concat(entity, ' ', count(*), ' of ', count(DISTINCT row_key), ', ', count(after)) FROM entail_archive GROUP BY entity ORDER BY 1";
        assert_eq!(lines(&world.shop, kept).await, ["shop.line 4 of 4, 4", "shop.order 1 of 1, 1"], "postgres: {postgres}");
        sql(&world.crm, "UPDATE customers SET id = 1 WHERE id = 7").await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((undone.left(), lines(&world.shop, now).await), (0, before), "postgres: {postgres}: {:?}", undone.tables);
    }
}

/// The order has two lines, two tags, a note and a mark: seven rows go with one event.
#[tokio::test(flavor = "multi_thread")]
async fn h79_rows_that_follow_natively_count_against_the_limits() {
    let tables = format!("{TABLES}CREATE INDEX oc ON orders (customer);");
    let limits = [
        ("rows_per_event: 7, rows: { count: 2, per: 10m }", None),
        ("rows_per_event: 6, rows: { count: 100, per: 10m }", Some("rows-per-event")),
        ("rows_per_event: 7, rows: { count: 1, per: 10m }", Some("rows")),
    ];
    for (limits, latch) in limits {
        let mut world = World::new(true, CUSTOMERS, &tables, &format!("{RULES}limits: {{ {limits} }}\n")).await;
        let before = lines(&world.shop, NOW).await;
        moves(&mut world, 1, 7).await;
        let latches = lines(&world.shop, "SELECT concat(scope, ' ', reason) FROM entail_latches").await;
        let parked = lines(&world.shop, "SELECT concat(entity, ' ', root_key, ' ', reason) FROM entail_pending").await;
        match latch {
            None => assert!(latches.is_empty() && parked.is_empty() && lines(&world.shop, NOW).await != before, "{latches:?} {parked:?}"),
            Some(reason) => {
                assert_eq!(lines(&world.shop, NOW).await, before, "{limits}");
                assert_eq!(latches, [format!("reference:order_customer {reason}")], "{limits}");
                assert_eq!(parked, ["crm.customer [\"1\"] latched"], "{limits}");
                assert!(lines(&world.shop, "SELECT cascade_id FROM entail_archive").await.is_empty());
            }
        }
        let charged = lines(&world.shop, "SELECT concat(count(*), ' ', sum(\"rows\")) FROM entail_windows").await;
        assert_eq!(charged, [if latch.is_none() { "5 7" } else { "0 " }], "{limits}: what followed is charged");
    }
}

/// A role that may not touch what follows: the reference that leads there is shut, and the worker goes on.
#[tokio::test(flavor = "multi_thread")]
async fn h110_a_fault_at_rows_that_follow_shuts_the_reference_behind_them() {
    let tables = format!("{TABLES}CREATE INDEX oc ON orders (customer);");
    let mut world = World::new(true, CUSTOMERS, &tables, RULES).await;
    let role = format!("weak_{}", std::process::id());
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}; REVOKE UPDATE ON lines FROM {role};"
    );
    sql(&world.shop, &grants).await;
    let (owner, weak) = (world.shop.clone(), world.shop.replace("postgres://postgres@", &format!("postgres://{role}@")));
    world.shop = weak;
    world.rebind(None).await;
    world.shop = owner;
    let before = lines(&world.shop, NOW).await;
    moves(&mut world, 1, 7).await;
    let latches = lines(&world.shop, "SELECT concat(scope, ' ', reason) FROM entail_latches").await;
    assert_eq!(latches, ["reference:order_customer halted"]);
    assert_eq!(lines(&world.shop, NOW).await, before);
    moves(&mut world, 3, 8).await;
    sql(&world.shop, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// What follows natively is shown and let go with the rest.
#[tokio::test(flavor = "multi_thread")]
async fn h79_a_release_shows_and_lets_go_what_follows_natively() {
    let tables = format!("{TABLES}CREATE INDEX oc ON orders (customer);");
    let limits = "limits: { rows_per_event: 6, rows: { count: 100, per: 10m } }\n";
    let mut world = World::new(true, CUSTOMERS, &tables, &format!("{RULES}{limits}")).await;
    sql(&world.shop, "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 3, '')").await;
    moves(&mut world, 1, 7).await;
    let rehearsal = entail::release::rehearse(&world.engine, "order_customer", &|_| {}).await.expect("rehearses");
    assert_eq!(rehearsal.rows.values().sum::<u64>(), 7, "{rehearsal:?}");
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = &world.engine.model.databases.handle(id).database;
    let mut session = database.begin().await.expect("begins");
    assert!(ledger::release(session.as_mut(), "it", "reference:order_customer").await.expect("releases"));
    ledger::allow(session.as_mut(), database.dialect(), "it", &rehearsal.rows).await.expect("allows");
    session.commit().await.expect("commits");
    world.retry().await;
    assert_eq!(lines(&world.shop, "SELECT concat(customer, '|', n) FROM orders ORDER BY 1").await, ["2|2", "7|1"]);
    assert!(lines(&world.shop, "SELECT scope FROM entail_latches").await.is_empty());
}

/// A release of another reference gives these rows no room.
#[tokio::test(flavor = "multi_thread")]
async fn h79_a_release_of_another_reference_gives_no_room_to_rows_that_follow_natively() {
    let strays = "CREATE TABLE strays (id bigint PRIMARY KEY, customer bigint); CREATE INDEX sc ON strays (customer);";
    let tables = format!("{TABLES}CREATE INDEX oc ON orders (customer);{strays}");
    let stray = "  - { name: shop.stray, table: strays, key: id }\nreferences:\n  - { name: another, child: shop.stray, columns: customer, parent: crm.customer, on_delete: set_null }\n";
    let rules = RULES.replace("references:\n", stray);
    let limits = "limits: { rows_per_event: 6, rows: { count: 100, per: 10m } }\n";
    let mut world = World::new(true, CUSTOMERS, &tables, &format!("{rules}{limits}")).await;
    let before = lines(&world.shop, NOW).await;
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = std::sync::Arc::clone(&world.engine.model.databases.handle(id).database);
    let mut session = database.begin().await.expect("begins");
    let allowed = std::collections::BTreeMap::from([("another".to_owned(), 50)]);
    ledger::allow(session.as_mut(), database.dialect(), "it", &allowed).await.expect("allows");
    session.commit().await.expect("commits");
    moves(&mut world, 1, 7).await;
    assert_eq!(lines(&world.shop, NOW).await, before, "seven rows went, and six is the limit");
    let latches = lines(&world.shop, "SELECT concat(scope, ' ', reason) FROM entail_latches").await;
    assert_eq!(latches, ["reference:order_customer rows-per-event"]);
}

const NODES: &str = "
CREATE TABLE nodes (a bigint, b bigint UNIQUE, parent_b bigint REFERENCES nodes (b) ON UPDATE CASCADE, owner bigint, PRIMARY KEY (a, parent_b));
INSERT INTO nodes VALUES (1, 10, 10, 5), (2, 20, 10, 6); CREATE INDEX nb ON nodes (b); CREATE INDEX no ON nodes (owner);
";
const NODE_RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: crm.head, table: heads, key: id, topic: crm.heads }
  - { name: shop.node, table: nodes, key: [a, parent_b] }
references:
  - { name: node_head, child: shop.node, columns: b, parent: crm.head, parent_columns: code, on_delete: no_action, on_update: cascade }
  - { name: node_owner, child: shop.node, columns: owner, parent: crm.customer, on_delete: cascade }
";

/// One row is to go, and another one's new value would give it another key first.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_row_that_goes_under_a_key_that_follows_another_row_is_not_taken_for_gone() {
    each_by_itself(NODES, NODE_RULES, "1|11|11").await;
}

/// The same with a value by which others follow that row, and may go: another row may have taken their keys when their turn comes.
#[tokio::test(flavor = "multi_thread")]
async fn h64_nothing_goes_below_a_row_whose_value_follows_another_row_first() {
    let tables = NODES
        .replace("a bigint,", "a bigint PRIMARY KEY,")
        .replace(
            "ON UPDATE CASCADE, owner bigint, PRIMARY KEY (a, parent_b))",
            "ON UPDATE CASCADE UNIQUE, owner bigint, x bigint REFERENCES nodes (parent_b) ON UPDATE CASCADE)",
        )
        .replace("(1, 10, 10, 5), (2, 20, 10, 6)", "(1, 10, NULL, 5, NULL), (2, 20, 10, 6, NULL)");
    each_by_itself(&tables, &NODE_RULES.replace("key: [a, parent_b]", "key: a"), "1|11|").await;
}

/// A row gets another value, and another row goes: not in one batch.
async fn each_by_itself(tables: &str, rules: &str, left: &str) {
    for postgres in [true, false] {
        let crm = "CREATE TABLE customers (id bigint PRIMARY KEY); INSERT INTO customers VALUES (5);
            CREATE TABLE heads (id bigint PRIMARY KEY, code bigint UNIQUE); INSERT INTO heads VALUES (1, 11), (2, 20);";
        let full = if postgres { "ALTER TABLE heads REPLICA IDENTITY FULL;" } else { "" };
        let world = World::new(postgres, &format!("{crm}{full}"), tables, rules).await;
        let source = json!({"connector": "postgresql", "name": "crm", "schema": "public", "table": "heads", "lsn": 900});
        let recoded = json!({"op": "u", "before": {"id": 1, "code": 10}, "after": {"id": 1, "code": 11}, "source": source});
        let recoded = world.batch(("crm.heads", 5), 1, Some(&recoded));
        let waiting = world.engine.work(&recoded, Authority::Replay { apply: true }).await.expect("works").waiting;
        assert!(!waiting.is_empty(), "it waits for its proof");
        let retries: Vec<Retry> = waiting.into_iter().map(|one| Retry { pending: one.pending, proven: Some(one.seen) }).collect();
        let gone = world.batch(("crm.customers", 5), 6, Some(&delete("crm", "customers", 6)));
        let both = Batch { retries: retries.clone(), events: gone.events.clone(), ..Batch::default() };
        let error = world.engine.work(&both, Authority::Replay { apply: true }).await.expect_err("each by itself");
        assert!(matches!(error, WorkError::TooMany), "{error:?}");
        for batch in [Batch { retries, ..Batch::default() }, gone] {
            world.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
        }
        let now = lines(&world.shop, "SELECT concat(a, '|', b, '|', parent_b) FROM nodes").await;
        assert_eq!(now, [left], "postgres: {postgres}");
    }
}
