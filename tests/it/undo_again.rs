//! Undo into a world that went on: strangers, repeats, renamed columns, rows that went twice.

use std::collections::BTreeSet;

use entail::ledger::{self, Choice};
use entail::undo::{OnConflict, UndoError, Undone};
use serde_json::json;

use crate::support::engine::partition;
use crate::support::scripted::{Act, Cue};
use crate::support::world::*;

/// Order 20 became 30, then 40: its line followed twice. A new order 30 has a line of its own. Undoing the first change must not touch it.
#[tokio::test(flavor = "multi_thread")]
async fn undo_of_a_key_change_leaves_a_stranger_at_the_middle_key_alone() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, ORDERS, DEEP).await;
        world.moved(20, 30, 1000).await;
        world.moved(30, 40, 2000).await;
        assert!(lines(&world.shop, LINES_NOW).await.contains(&"40|1|old".to_owned()), "{:?}", lines(&world.shop, LINES_NOW).await);
        sql(&world.shop, "INSERT INTO orders VALUES (30, 2, NULL); INSERT INTO lines VALUES (30, 1, 'stranger')").await;
        let first = lines(&world.shop, "SELECT cascade_id FROM entail_cascades WHERE root_key = '[\"20\"]'").await;
        let undone = world.undo(Choice { cascades: first, ..Choice::default() }, OnConflict::Skip, false).await;
        assert!(
            lines(&world.shop, LINES_NOW).await.contains(&"30|1|stranger".to_owned()),
            "WRONG ROW WRITTEN (postgres: {postgres}): {:?} {:?}",
            lines(&world.shop, LINES_NOW).await,
            told(&undone)
        );
    }
}

/// A line was re-keyed from order 20 to 30; a new line stands at its old key now. That is a conflict, and not "as before already".
#[tokio::test(flavor = "multi_thread")]
async fn undo_of_a_key_change_says_that_a_stranger_has_the_old_key() {
    let mut world = World::new(false, CUSTOMERS, ORDERS, DEEP).await;
    world.moved(20, 30, 1000).await;
    sql(&world.shop, "INSERT INTO orders VALUES (20, 2, NULL); INSERT INTO lines VALUES (20, 1, 'stranger')").await;
    let undone = world.undo(rooted("shop.order", 20), OnConflict::Fail, false).await;
    assert_eq!(undone.left(), 1, "said to be as before, and is not: {:?} {:?}", told(&undone), lines(&world.shop, LINES_NOW).await);
}

/// Two key changes in a row, both undone: what undoing the second gives back is there for the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_key_changes_is_undone_without_a_conflict() {
    let mut world = World::new(false, CUSTOMERS, ORDERS, DEEP).await;
    world.moved(20, 30, 1000).await;
    world.moved(30, 40, 2000).await;
    let choice = Choice { reference: Some("line_order".to_owned()), ..Choice::default() };
    let undone = world.undo(choice, OnConflict::Fail, false).await;
    assert_eq!((undone.left(), undone.is_written), (0, true), "{:?} {:?}", told(&undone), undone.tables);
    assert!(lines(&world.shop, LINES_NOW).await.contains(&"20|1|old".to_owned()));
}

/// The same over more rows than fit one page: the rehearsal of a page does not see what the page before would have brought back.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_key_changes_longer_than_a_page_is_undone_without_a_conflict() {
    let many: String = (2..1_502).map(|number| format!("INSERT INTO lines VALUES (20, {number}, 'many');")).collect();
    let rules = format!("{DEEP}limits: {{ rows_per_event: 20000, rows: {{ count: 100000, per: 10m }} }}\n");
    let mut world = World::new(true, CUSTOMERS, &format!("{ORDERS}{many}"), &rules).await;
    let before = lines(&world.shop, LINES_NOW).await;
    world.moved(20, 30, 1000).await;
    world.moved(30, 40, 2000).await;
    assert_eq!(lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM lines WHERE order_id = 40").await, ["1501"]);
    let choice = Choice { reference: Some("line_order".to_owned()), ..Choice::default() };
    let undone = world.undo(choice, OnConflict::Fail, false).await;
    assert_eq!((undone.left(), undone.is_written), (0, true), "{:?}", told(&undone));
    assert_eq!(lines(&world.shop, LINES_NOW).await, before);
}

/// Debezium writes a tombstone behind each delete. Read after the undo, it is no news: the parent has not changed again.
#[tokio::test(flavor = "multi_thread")]
async fn h92_the_tombstone_behind_an_undone_delete_does_not_cascade_again() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        let before = lines(&world.shop, THINGS_NOW).await;
        world.gone(1).await;
        world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await, before);
        world.tombstone("crm.customers", json!({"id": 1})).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await, before, "WRONG DELETION: undone, and done again by the tombstone");
    }
}

/// The same delete (same place in the source's log) written twice, as Debezium does after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn h92_a_repeated_record_behind_the_undo_does_not_cascade_again() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    let before = lines(&world.shop, THINGS_NOW).await;
    sql(&world.crm, "DELETE FROM customers WHERE id = 1").await;
    world.work("crm.customers", json!({"id": 1}), delete("crm", "customers", 1), None).await;
    world.undo(root(1), OnConflict::Fail, false).await;
    world.work("crm.customers", json!({"id": 1}), delete("crm", "customers", 1), None).await;
    assert_eq!(lines(&world.shop, THINGS_NOW).await, before, "WRONG DELETION: the same change of the parent, told twice");
}

/// The topic is re-created and read from its beginning: small offsets are news again.
#[tokio::test(flavor = "multi_thread")]
async fn a_true_delete_in_a_topic_made_anew_is_not_taken_for_an_undone_one() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    sql(&world.shop, "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 502, '')").await;
    world.offset = 500;
    world.gone(1).await;
    world.undo(root(1), OnConflict::Fail, false).await;
    // The gap is seen, latched and released.
    let scope = format!("partition:{}", partition("crm.customers"));
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = &world.engine.model.databases.handle(id).database;
    let mut session = database.begin().await.expect("begins");
    let latch = ledger::Latch { scope: scope.clone(), reason: ledger::GAP.to_owned(), detail: "a test".to_owned() };
    ledger::shut(session.as_mut(), database.dialect(), "it", &BTreeSet::from([latch])).await.expect("shuts");
    assert!(ledger::release(session.as_mut(), "it", &scope).await.expect("releases"));
    session.commit().await.expect("commits");
    sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
    world.offset = 0;
    world.gone(1).await;
    assert_eq!(lines(&world.shop, THINGS_NOW).await, ["2|2|two"], "a true delete was passed over in silence");
}

/// A second delete of the customer is parked; undoing the first one must not let it vanish.
#[tokio::test(flavor = "multi_thread")]
async fn undo_of_an_older_cascade_does_not_lose_a_parked_root() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    world.gone(1).await;
    sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
    sql(
        &world.shop,
        "INSERT INTO things VALUES (50, 1, 'second life');
        INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:thing_customer', 'rows', 'a test');
        INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 3, '')",
    )
    .await;
    world.gone(1).await;
    assert_eq!(world.pending().await.len(), 1, "the second delete is parked");
    let first = lines(&world.shop, "SELECT DISTINCT cascade_id FROM entail_cascades WHERE cause = 'crm.customers[0]@1'").await;
    let undone = world.undo(Choice { cascades: first, ..Choice::default() }, OnConflict::Skip, false).await;
    sql(&world.shop, "DELETE FROM entail_latches").await;
    let report = world.retry().await;
    let left = lines(&world.shop, THINGS_NOW).await;
    assert!(
        !world.pending().await.is_empty() || !left.contains(&"50|1|second life".to_owned()),
        "a true delete was settled without effect: {left:?} {:?} {:?}",
        told(&undone),
        report.outcomes
    );
}

const BY_NUMBER: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: shop.line, table: lines, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: line_order, child: shop.line, columns: order_number, parent: shop.order, parent_columns: number, on_delete: cascade, on_update: cascade }
";

/// Lines point at an order's number, which may change: so they go by the order's own event. They are part of the cascade all the same.
#[tokio::test(flavor = "multi_thread")]
async fn undo_follows_what_hung_on_another_unique_column() {
    let tables = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, number INTEGER NOT NULL UNIQUE); CREATE INDEX oc ON orders (customer);
        CREATE TABLE lines (id INTEGER PRIMARY KEY, order_number INTEGER); CREATE INDEX lo ON lines (order_number);
        INSERT INTO orders VALUES (10, 1, 777), (20, 2, 888); INSERT INTO lines VALUES (1, 777), (2, 777), (3, 888);";
    let mut world = World::new(false, CUSTOMERS, tables, BY_NUMBER).await;
    world.gone(1).await;
    world
        .work("shop.orders", json!({"id": 10}), gone_at("shop", "orders", json!({"id": 10, "customer": 1, "number": 777}), 1000), None)
        .await;
    let now = "SELECT CAST(id AS TEXT) FROM lines ORDER BY id";
    assert_eq!(lines(&world.shop, now).await, ["3"], "the order's own event took its lines");
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM orders ORDER BY id").await, ["10", "20"]);
    assert_eq!(lines(&world.shop, now).await, ["1", "2", "3"], "half a cascade, and nothing said: {:?}", told(&undone));
}

const CODES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.thing, table: things, key: id }
  - { name: shop.other, table: others, key: id }
references:
  - { name: thing_customer, child: shop.thing, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: other_customer, child: shop.other, columns: customer, parent: crm.customer, parent_columns: code, on_delete: cascade }
";

/// Customer 1 has code 7; customer 7 is somebody else. `--root crm.customer:1` is all that went with customer 1, and nothing of 7 is meant.
#[tokio::test(flavor = "multi_thread")]
async fn undo_of_a_root_means_the_row_and_not_a_text() {
    let customers = "CREATE TABLE customers (id INTEGER PRIMARY KEY, code INTEGER NOT NULL UNIQUE); INSERT INTO customers VALUES (1, 7), (7, 99), (3, 33);";
    let tables = format!(
        "{THING_TABLES} DELETE FROM things; DELETE FROM others; INSERT INTO things VALUES (1, 1, ''); INSERT INTO others VALUES (1, 7, '');"
    );
    let (things, others) = ("SELECT CAST(id AS TEXT) FROM things ORDER BY 1", "SELECT CAST(id AS TEXT) FROM others ORDER BY 1");
    let mut found = Vec::new();
    for asked in [1, 7] {
        let mut world = World::new(false, customers, &tables, CODES).await;
        sql(&world.crm, "DELETE FROM customers WHERE id = 1").await;
        world.work("crm.customers", json!({"id": 1}), gone_at("crm", "customers", json!({"id": 1, "code": 7}), 1000), None).await;
        assert_eq!((lines(&world.shop, things).await.len(), lines(&world.shop, others).await.len()), (0, 0), "both went");
        world.undo(root(asked), OnConflict::Fail, false).await;
        found.push((lines(&world.shop, things).await.len(), lines(&world.shop, others).await.len()));
    }
    assert_eq!(found, [(1, 1), (0, 0)], "rows back of (things, others) after --root 1, and after --root 7");
}

/// A row that went twice: `fail` promises to write nothing if there is any conflict.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_went_twice_is_one_row_for_fail_and_for_overwrite() {
    let prepare = async || {
        let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
        world.gone(1).await;
        sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
        sql(&world.shop, "INSERT INTO things VALUES (3, 1, 'newest')").await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await, ["2|2|two"]);
        world
    };
    let world = prepare().await;
    let before = (lines(&world.shop, THINGS_NOW).await, lines(&world.shop, "SELECT root_key FROM entail_undone").await);
    let others = "SELECT CAST(id AS TEXT) || coalesce(CAST(customer AS TEXT), '-') FROM others ORDER BY id";
    let others_before = lines(&world.shop, others).await;
    let dry = world.undo(root(1), OnConflict::Fail, true).await;
    let done = world.try_undo(root(1), OnConflict::Fail, false).await;
    let fail = match &done {
        Ok(undone) => format!("{:?}", told(undone)),
        Err(error) => entail::error::chain(error).to_string(),
    };
    let after = (lines(&world.shop, THINGS_NOW).await, lines(&world.shop, "SELECT root_key FROM entail_undone").await);
    let others_after = lines(&world.shop, others).await;
    let world = prepare().await;
    world.undo(root(1), OnConflict::Overwrite, false).await;
    let overwritten = lines(&world.shop, THINGS_NOW).await;
    println!(
        "dry: {:?}\nfail: {fail}\nbefore {before:?} {others_before:?}\nafter {after:?} {others_after:?}\noverwrite: {overwritten:?}",
        told(&dry)
    );
    assert!(overwritten.contains(&"3|1|newest".to_owned()), "OVERWRITTEN: the older image replaced the newer one: {overwritten:?}");
    assert!(
        done.is_ok() || (after == before && others_after == others_before),
        "`fail` wrote: {after:?} {others_after:?}; the rehearsal said {:?}",
        told(&dry)
    );
}

/// A column was renamed since: its values are in the image, under the old name.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_is_not_lost_in_silence() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        world.gone(1).await;
        sql(&world.shop, "ALTER TABLE things RENAME COLUMN customer TO customer_id").await;
        world.rebind(Some(&THINGS.replacen("child: shop.thing, columns: customer", "child: shop.thing, columns: customer_id", 1))).await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        let now =
            lines(&world.shop, "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(customer_id AS TEXT), '-') FROM things ORDER BY id").await;
        let (_, tally) = undone.tables.iter().find(|(name, _)| name == "shop.thing").expect("things");
        assert!(
            tally.conflicts + tally.refused + tally.differing > 0 || now == ["1|1", "2|2", "3|1"],
            "said to be put back (postgres: {postgres}), and lost its reference: {now:?} {tally:?}"
        );
    }
}

/// The key's column was renamed since, and has a default.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_key_does_not_give_rows_new_keys() {
    for postgres in [true, false] {
        let tables = if postgres {
            THING_TABLES
                .replace("things (id bigint PRIMARY", "things (id bigserial PRIMARY")
                .replace("'three');", "'three'); SELECT setval('things_id_seq', 100);")
        } else {
            THING_TABLES.replace("things (id bigint PRIMARY", "things (id INTEGER PRIMARY")
        };
        let mut world = World::new(postgres, CUSTOMERS, &tables, THINGS).await;
        world.gone(1).await;
        sql(&world.shop, "ALTER TABLE things RENAME COLUMN id TO ident").await;
        world.rebind(Some(&THINGS.replacen("table: things, key: id", "table: things, key: ident", 1))).await;
        let undone = world.try_undo(root(1), OnConflict::Fail, false).await;
        let now = lines(&world.shop, "SELECT CAST(ident AS TEXT) || '|' || t FROM things ORDER BY ident").await;
        let said =
            undone.as_ref().map(|undone| (undone.left(), undone.tables.clone())).map_err(|error| entail::error::chain(error).to_string());
        assert!(
            now.iter().all(|row| ["1|one", "2|two", "3|three"].contains(&row.as_str())),
            "WRONG ROWS WRITTEN (postgres: {postgres}): {now:?} {said:?}"
        );
    }
}

/// The archive has expired. To say nothing and end well is to say that it was undone.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_archive_is_not_called_undone() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    world.gone(1).await;
    sql(&world.shop, "DELETE FROM entail_archive WHERE entity = 'shop.thing'").await;
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert!(undone.left() > 0, "2 of 3 rows cannot be put back, and nothing says so: {:?}, written: {}", told(&undone), undone.is_written);
}

/// A repeat of the delete is being worked while a person undoes it: it has read what was undone, and not yet the rows.
#[tokio::test(flavor = "multi_thread")]
async fn h92_a_repeat_in_flight_does_not_take_what_is_undone_meanwhile() {
    let mut world = World::new(true, CUSTOMERS, THING_TABLES, THINGS).await;
    let before = lines(&world.shop, THINGS_NOW).await;
    world.gone(1).await;
    world.script.cue(Cue { at: "looking up", nth: 1, act: Act::Interleave(Vec::new()) });
    world.gone_again(1).await;
    assert!(world.script.is_played());
    assert_eq!(lines(&world.shop, THINGS_NOW).await, before, "WRONG DELETION: undone under the repeat, and done again by it");
}

/// A newer row has the unique value of an archived one: a conflict that no look at the key tells.
#[tokio::test(flavor = "multi_thread")]
async fn fail_writes_nothing_if_a_newer_row_has_a_unique_value() {
    let mut world = World::new(true, CUSTOMERS, &format!("{THING_TABLES} CREATE UNIQUE INDEX tu ON things (t);"), THINGS).await;
    world.gone(1).await;
    sql(&world.shop, "INSERT INTO things VALUES (77, 2, 'three')").await;
    let before = lines(&world.shop, THINGS_NOW).await;
    let dry = world.undo(root(1), OnConflict::Fail, true).await;
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, THINGS_NOW).await, before, "`fail` wrote; rehearsed {:?}, did {:?}", told(&dry), told(&undone));
}

/// A column became narrower: one row does not fit. The others are no part of that.
#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_does_not_fit_any_more_stops_no_other() {
    let mut world = World::new(true, CUSTOMERS, THING_TABLES, THINGS).await;
    world.gone(1).await;
    sql(&world.shop, "ALTER TABLE things ALTER COLUMN t TYPE varchar(4)").await;
    world.rebind(None).await;
    let undone = world.try_undo(root(1), OnConflict::Skip, false).await;
    let said = undone.as_ref().map(told).map_err(|error| entail::error::chain(error).to_string());
    assert_eq!(lines(&world.shop, THINGS_NOW).await, ["1|1|one", "2|2|two"], "{said:?}");
}

/// The rules no longer name an entity whose rows went. They are said to be left, or undo refuses.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_entity_that_the_rules_have_left_are_told() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    world.gone(1).await;
    let fewer: String = THINGS.lines().filter(|line| !line.contains("shop.thing")).map(|line| format!("{line}\n")).collect();
    world.rebind(Some(&fewer)).await;
    let undone = world.try_undo(root(1), OnConflict::Fail, false).await;
    let now = lines(&world.shop, THINGS_NOW).await;
    assert!(
        undone.as_ref().is_err() || undone.as_ref().is_ok_and(|undone| undone.left() > 0),
        "two rows were left, and nothing says so: {now:?} {:?}",
        undone.as_ref().map(told).ok()
    );
}

/// A cascade of an older release, whose audit lacks the root's columns.
#[tokio::test(flavor = "multi_thread")]
async fn h92_a_cascade_of_an_older_release_is_not_done_again_either() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    world.gone(1).await;
    sql(&world.shop, "UPDATE entail_cascades SET root_columns = '[]'").await;
    world.undo(root(1), OnConflict::Fail, false).await;
    world.gone_again(1).await;
    assert!(lines(&world.shop, THINGS_NOW).await.contains(&"1|1|one".to_owned()), "WRONG DELETION: undone, and done again by a repeat");
}

/// Two people undo the same cascade at once.
#[tokio::test(flavor = "multi_thread")]
async fn two_undos_at_once_are_one() {
    for postgres in [true, false] {
        let many: String = (100..1900).map(|id| format!("INSERT INTO things VALUES ({id}, 3, 'x');")).collect();
        let rules = THINGS.replace("rows_per_event: 20, rows: { count: 1000,", "rows_per_event: 20000, rows: { count: 100000,");
        let mut world = World::new(postgres, CUSTOMERS, &format!("{THING_TABLES}{many}"), &rules).await;
        let before = lines(&world.shop, THINGS_NOW).await;
        world.gone(3).await;
        let (one, other) = tokio::join!(world.try_undo(root(3), OnConflict::Fail, false), world.try_undo(root(3), OnConflict::Fail, false));
        assert!(
            lines(&world.shop, THINGS_NOW).await == before,
            "postgres: {postgres} {:?} {:?}",
            one.as_ref().map(told),
            other.as_ref().map(told)
        );
        println!("postgres: {postgres} {:?} {:?}", one.as_ref().map(told), other.as_ref().map(told));
        let said = |one: &Result<Undone, UndoError>| one.as_ref().err().map(|error| entail::error::chain(error));
        assert!(one.is_ok() && other.is_ok(), "postgres: {postgres} {:?} {:?}", said(&one), said(&other));
        let audit = lines(&world.shop, "SELECT CAST(\"rows\" AS TEXT) FROM entail_cascades WHERE action = 'undo'").await;
        assert_eq!(audit, ["1800"]);
    }
}

/// Rows with keys of every kind go and come back, and so do changed ones.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_come_back() {
    let kinds: &[(bool, &str, &str, &str)] = &[
        (true, "char(6)", "'ab'", "'cd'"),
        (true, "numeric(10,2)", "1.10", "2"),
        (true, "numeric", "1.100", "2"),
        (true, "timestamptz", "'2020-01-01 00:00:00.5+00'", "'infinity'"),
        (true, "timestamp", "'2020-01-01 00:00:00.123456'", "'-infinity'"),
        (true, "uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12'"),
        (true, "bytea", "'\\x00ff'", "''"),
        (true, "text", "E'a,\"b\"[\\\\x'", "''"),
        (true, "text", "''", "'  '"),
        (true, "date", "'2021-01-01'", "'infinity'"),
        (true, "boolean", "true", "false"),
        (true, "time", "'24:00:00'", "'00:00:00'"),
        (true, "bigint", "-9223372036854775808", "0"),
        (true, "positive", "7", "8"),
        (false, "TEXT COLLATE NOCASE", "'ab'", "'cd'"),
        (false, "TEXT", "'01'", "'1'"),
        (false, "TEXT", "''", "' '"),
        (false, "BLOB", "x'00ff'", "x''"),
        (false, "BOOLEAN", "1", "0"),
        (false, "VARCHAR(10)", "'a'", "7"),
    ];
    let mut failed = Vec::new();
    for (postgres, kind, one, two) in kinds {
        let (postgres, kind, one, two) = (*postgres, *kind, *one, *two);
        let done = tokio::spawn(async move {
            let types = if postgres { "CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0);" } else { "" };
            let table = |name: &str| format!("CREATE TABLE {name} (k {kind} PRIMARY KEY, customer bigint, t text); CREATE INDEX {name}c ON {name} (customer); INSERT INTO {name} VALUES ({one}, 1, 'a'), ({two}, 2, 'b');");
            let tables = format!("{types}{}{}", table("things"), table("others"));
            let mut world = World::new(postgres, CUSTOMERS, &tables, &THINGS.replace("s, key: id }", "s, key: k }")).await;
            let dump = |name: &str| if postgres { format!("SELECT (x.*)::text FROM {name} AS x ORDER BY 1") } else { format!("SELECT typeof(k) || quote(k) || quote(customer) || t FROM {name} ORDER BY 1") };
            let all = async |world: &World| [lines(&world.shop, &dump("things")).await, lines(&world.shop, &dump("others")).await].concat();
            let before = all(&world).await;
            world.gone(1).await;
            let between = all(&world).await;
            let undone = world.undo(root(1), OnConflict::Fail, false).await;
            let after = all(&world).await;
            assert!(between.len() == 3 && after == before && undone.left() == 0, "{before:?} {between:?} {after:?} {:?}", undone.tables);
            assert!(undone.tables.iter().all(|(_, tally)| tally.differing == 0), "differing: {:?}", undone.tables);
        })
        .await;
        if done.is_err() {
            failed.push((postgres, kind, one));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A partitioned table whose parts have their columns in other orders, and a column dropped since.
#[tokio::test(flavor = "multi_thread")]
async fn odd_tables_come_back() {
    let tables = "
        CREATE TABLE things (id bigint, gone int, customer bigint, t text, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE INDEX ON things (customer);
        CREATE TABLE things_b (customer bigint, t text, id bigint NOT NULL, gone int);
        ALTER TABLE things ATTACH PARTITION things_b FOR VALUES FROM (2) TO (100); CREATE TABLE things_a PARTITION OF things FOR VALUES FROM (0) TO (2);
        INSERT INTO things VALUES (1, 9, 1, 'one'), (2, 9, 2, 'two'), (3, 9, 1, 'three');
        CREATE TABLE others (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX ON others (customer); INSERT INTO others VALUES (1, 1, 'one');";
    let mut world = World::new(true, CUSTOMERS, tables, THINGS).await;
    let before = lines(&world.shop, THINGS_NOW).await;
    world.gone(1).await;
    sql(&world.shop, "ALTER TABLE things DROP COLUMN gone").await;
    world.rebind(None).await;
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, THINGS_NOW).await, before, "{:?}", undone.tables);
}

/// A column added since is of a domain that is never NULL and has a default.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_of_a_domain_with_a_default_does_not_stand_in_the_way() {
    let tables = format!("CREATE DOMAIN sure AS text NOT NULL DEFAULT 'd'; {THING_TABLES}");
    let mut world = World::new(true, CUSTOMERS, &tables, THINGS).await;
    let before = lines(&world.shop, THINGS_NOW).await;
    world.gone(1).await;
    sql(&world.shop, "ALTER TABLE things ADD COLUMN s sure; ALTER TABLE others ADD COLUMN s sure").await;
    world.rebind(None).await;
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, THINGS_NOW).await, before, "{:?}", undone.tables);
}
