//! Undo: whole cascades put back from the archive, on PostgreSQL and SQLite.

use std::time::Duration;

use entail::ledger::{self, Choice, Purge};
use entail::undo::{OnConflict, Undone};
use serde_json::json;

use crate::support::scripted::{Act, Cue};
use crate::support::world::{World, delete, key, lines, root, sql};

fn counts(undone: &Undone) -> Vec<(&str, u64, u64, u64)> {
    undone.tables.iter().map(|(name, tally)| (name.as_str(), tally.inserted, tally.set_back, tally.conflicts + tally.refused)).collect()
}

const CUSTOMERS: &str = "CREATE TABLE customers (id bigint PRIMARY KEY); INSERT INTO customers VALUES (1), (2);";

const THINGS: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.thing, table: things, key: id }
  - { name: shop.other, table: others, key: id }
references:
  - { name: thing_customer, child: shop.thing, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: other_customer, child: shop.other, columns: customer, parent: crm.customer, on_delete: set_null }
";

const POSTGRES_THINGS: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'a "b", (c)');
CREATE TYPE pair AS (x integer, y text);
CREATE DOMAIN positive AS numeric(12,4) CHECK (VALUE > 0);
CREATE TABLE things (
    id bigint PRIMARY KEY, customer bigint, t text, "Odd ""name" integer GENERATED ALWAYS AS IDENTITY, twice bigint GENERATED ALWAYS AS (id * 2) STORED,
    i2 smallint, i4 integer, i8 bigint, n numeric, n2 numeric(20,5), f4 real, f8 double precision, v varchar(40), c char(6), b bytea, bo boolean,
    d date, ti time, titz timetz, ts timestamp, tstz timestamptz, iv interval, j json, jb jsonb, u uuid, ia integer[], ta text[], m mood, ma mood[],
    p positive, pr pair, pra pair[], r int4range, tr tstzrange, ine inet, ci cidr, mac macaddr, bi bit(5), vb varbit, tsv tsvector, tsq tsquery,
    po point, pol polygon, mo money, o oid, na name, ch "char", l pg_lsn, x xml
);
CREATE INDEX ON things (customer);
INSERT INTO things (id, customer) VALUES (1, 1), (2, 2);
INSERT INTO things (id, customer, t, i2, i4, i8, n, n2, f4, f8, v, c, b, bo, d, ti, titz, ts, tstz, iv, j, jb, u, ia, ta, m, ma, p, pr, pra, r, tr, ine, ci, mac,
    bi, vb, tsv, tsq, po, pol, mo, o, na, ch, l, x)
SELECT g, 1, E'a "quoted", (text) with \\ and\nnew lines, '' and ü 𝄞', -32768, 2147483647, -9223372036854775808, 1.1000, 1.10000, 1e-40, 0.1::float8 + 0.2,
    '', 'ab', '\x00ff0a22', false, 'infinity', '24:00:00', '04:05:06.000001-12:30', '294276-12-31 23:59:59.999999', '4713-01-01 00:00:00+00 BC',
    '1 year 2 mons -3 days 04:05:06.789', '{"a":  1, "a" : [1.0, 2e5]}', '{"b": 1.10, "a": null}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
    '[0:1][1:2]={{1,NULL},{3,4}}', '{"a,b",NULL,"NULL","\"","\\",""}', 'a "b", (c)', '{"it''s ok","a \"b\", (c)"}', 0.5, ROW(1, 'a,"b"')::pair,
    ARRAY[ROW(NULL, '')::pair, NULL], '(1,10]', '[-infinity,2000-01-01)', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'', 'fat:1A cat:2',
    'fat & !(cat | rat:*)', '(1.5,-0)', '((0,0),(1,1),(1,0))', '-12.34', 4294967295, 'a name', 'x', 'FFFFFFFF/FFFFFFFF', '<a b="c">d</a>'
FROM generate_series(3, 4) g;
INSERT INTO things (id, customer, n, n2, f4, f8, d, ts, tstz, r) VALUES
    (5, 1, 'NaN', NULL, 'NaN', 'NaN', '-infinity', '-infinity', 'infinity', 'empty'), (6, 1, 'Infinity', 0.00000, '-Infinity', '-0', '4713-01-01 BC', 'infinity', NULL, '(,)'),
    (7, 1, '-Infinity', -0.00001, '-0', 'Infinity', '5874897-12-31', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999+00', '[1,)'),
    (8, 1, '0.000', NULL, 3.4028235e38, 4.9406564584124654e-324, NULL, NULL, NULL, NULL);
ALTER TABLE things DROP COLUMN i2;
CREATE TABLE others (id bigint PRIMARY KEY, customer bigint, f double precision, touched text);
CREATE INDEX ON others (customer);
INSERT INTO others VALUES (1, 1, '-0', 'a'), (2, 1, 'NaN', NULL), (3, 2, 1, NULL), (4, NULL, 2, '');
ANALYZE;
"#;

const SQLITE_THINGS: &str = "
CREATE TABLE things (id INTEGER PRIMARY KEY, customer INTEGER, \"odd \"\" name\", i INTEGER, r REAL, t TEXT, b BLOB, n NUMERIC, a ANY,
    twice INTEGER GENERATED ALWAYS AS (id * 2) STORED, thrice INTEGER GENERATED ALWAYS AS (id * 3) VIRTUAL);
CREATE INDEX things_customer ON things (customer);
INSERT INTO things (id, customer) VALUES (1, 1), (2, 2);
INSERT INTO things (id, customer, \"odd \"\" name\", i, r, t, b, n, a) VALUES
    (3, 1, 'a ''quoted'' \"text\" \\ with
new lines and ü 𝄞', 9223372036854775807, 0.1, '', x'', 1.50, x'00ff'),
    (4, 1, 5, -9223372036854775808, -0.0, 'NULL', x'00', '1e400', 9e999), (5, 1, 5.0, 'text in a number', -9e999, '12', 'text', 12345678901234567890, -9e999),
    (6, 1, '5', x'31', 4.9406564584124654e-324, CAST(x'610062' AS TEXT), 7, '', CAST(x'00' AS TEXT)),
    (7, 1, 1.7976931348623157e308, NULL, 0.30000000000000004, 'X''00''', NULL, 0.1, '''');
CREATE TABLE others (id INTEGER PRIMARY KEY, customer INTEGER, f REAL, touched TEXT) WITHOUT ROWID;
CREATE INDEX others_customer ON others (customer);
INSERT INTO others VALUES (1, 1, 0.1, 'a'), (2, 1, NULL, NULL), (3, 2, 1, NULL), (4, NULL, 2, '');
";

/// Everything that can be told of the rows, byte for byte.
fn dump(postgres: bool, table: &str) -> String {
    match (postgres, table) {
        (true, table) => format!("SELECT (t.*)::text FROM {table} AS t ORDER BY 1"),
        (false, "things") => "SELECT json_array(id, customer, typeof(\"odd \"\" name\"), hex(\"odd \"\" name\"), typeof(i), hex(i), typeof(r), hex(r), printf('%!.20e', r),
            typeof(t), hex(t), typeof(b), hex(b), typeof(n), hex(n), typeof(a), hex(a), twice, thrice) FROM things ORDER BY id"
            .to_owned(),
        (false, table) => format!("SELECT json_array(id, customer, f, touched) FROM {table} ORDER BY id"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_byte_for_byte() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, if postgres { POSTGRES_THINGS } else { SQLITE_THINGS }, THINGS).await;
        let everything = async |world: &World| {
            let mut all = lines(&world.shop, &dump(postgres, "things")).await;
            all.extend(lines(&world.shop, &dump(postgres, "others")).await);
            all
        };
        let before = everything(&world).await;
        world.gone(1).await;
        let after = everything(&world).await;
        assert_eq!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM things ORDER BY id").await, ["2"]);
        let rehearsed = world.undo(root(1), OnConflict::Fail, true).await;
        assert!(!rehearsed.is_written);
        assert_eq!(everything(&world).await, after, "a dry run writes nothing");
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert!(undone.is_written);
        assert_eq!(counts(&undone), counts(&rehearsed), "it says what it does");
        assert_eq!(everything(&world).await, before, "postgres: {postgres}");
        assert!(undone.tables.iter().all(|(_, tally)| tally.differing == 0), "{:?}", undone.tables);
        let missing: Vec<_> = undone.missing_roots.iter().map(|root| (root.entity.clone(), root.key.clone())).collect();
        assert_eq!(missing, [("crm.customer".to_owned(), key(&["1"]))], "it says what stays an orphan");
        let again = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(counts(&again), [], "a repeat does nothing");
        assert_eq!(everything(&world).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h92_newer_rows_are_conflicts_until_told_how() {
    for postgres in [true, false] {
        let prepare = async || {
            let tables = if postgres { POSTGRES_THINGS } else { SQLITE_THINGS };
            let mut world = World::new(postgres, CUSTOMERS, tables, THINGS).await;
            world.gone(1).await;
            // A newer row with a removed one's key; a nulled one that points elsewhere by now; one that is gone; a change beside what was nulled.
            sql(
                &world.shop,
                "INSERT INTO things (id, customer) VALUES (3, 2); UPDATE others SET customer = 2, touched = 'newer' WHERE id = 1; DELETE FROM others WHERE id = 2",
            )
            .await;
            world
        };
        let things = "SELECT CAST(id AS TEXT) || '|' || CAST(customer AS TEXT) FROM things ORDER BY id";
        let others = "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(customer AS TEXT), '-') || '|' || coalesce(touched, '-') FROM others ORDER BY id";
        let world = prepare().await;
        let before = lines(&world.shop, things).await;
        let refused = world.undo(root(1), OnConflict::Fail, false).await;
        assert!(!refused.is_written && refused.left() == 3, "{:?}", refused.tables);
        assert_eq!(lines(&world.shop, things).await, before, "nothing at all is written");
        let told: Vec<&(String, String)> = refused.tables.iter().flat_map(|(_, tally)| &tally.told).collect();
        let why = |key: &str| told.iter().filter(|(row, _)| row == key).map(|(_, why)| why.as_str()).collect::<Vec<_>>();
        assert_eq!(
            (why("3"), why("1"), why("2")),
            (vec!["a newer row has its key"], vec!["it was changed since"], vec!["the row is gone"])
        );

        let skipped = world.undo(root(1), OnConflict::Skip, false).await;
        assert_eq!(skipped.left(), 3);
        assert!(lines(&world.shop, things).await.starts_with(&["1|1".to_owned(), "2|2".to_owned(), "3|2".to_owned(), "4|1".to_owned()]));
        assert_eq!(lines(&world.shop, others).await, ["1|2|newer", "3|2|-", "4|-|"]);

        let world = prepare().await;
        let forced = world.undo(root(1), OnConflict::Overwrite, false).await;
        assert_eq!(forced.left(), 1, "what is gone cannot be set back: {:?}", forced.tables);
        assert!(lines(&world.shop, things).await.contains(&"3|1".to_owned()));
        assert_eq!(lines(&world.shop, others).await, ["1|1|newer", "3|2|-", "4|-|"], "only what entail had changed is set back");
        let kept = "SELECT entity || row_key FROM entail_archive WHERE action = 'overwritten' ORDER BY 1";
        assert_eq!(lines(&world.shop, kept).await, ["shop.other[\"1\"]", "shop.thing[\"3\"]"], "what was overwritten is kept");
    }
}

const DEEP: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: crm.visit, table: visits, key: id }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: shop.line, table: lines, key: [order_id, number] }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
  - { name: line_order, child: shop.line, columns: order_id, parent: shop.order, on_delete: cascade, on_update: cascade }
  - { name: visit_order, child: crm.visit, columns: order_id, parent: shop.order, on_delete: set_null }
";

const ORDERS: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, parent bigint REFERENCES orders (id)); CREATE INDEX orders_customer ON orders (customer);
CREATE INDEX orders_parent ON orders (parent);
CREATE TABLE lines (order_id bigint, number bigint, PRIMARY KEY (order_id, number));
INSERT INTO orders VALUES (10, 1, NULL), (11, 1, 10), (12, 1, 11), (20, 2, NULL);
INSERT INTO lines VALUES (10, 1), (10, 2), (11, 1), (20, 1);
";
const VISITS: &str = "
CREATE TABLE visits (id bigint PRIMARY KEY, order_id bigint); CREATE INDEX visits_order ON visits (order_id);
INSERT INTO visits VALUES (1, 10), (2, 20), (3, 12);
";

async fn deep(world: &World) -> Vec<String> {
    let text = |columns: &[&str], table: &str| {
        let columns: Vec<String> = columns.iter().map(|column| format!("coalesce(CAST({column} AS TEXT), '-')")).collect();
        format!("SELECT '{table} ' || {} FROM {table} ORDER BY 1", columns.join(" || '|' || "))
    };
    let mut all = lines(&world.shop, &text(&["id", "customer", "parent"], "orders")).await;
    all.extend(lines(&world.shop, &text(&["order_id", "number"], "lines")).await);
    all.extend(lines(&world.crm, &text(&["id", "order_id"], "visits")).await);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn h93_a_cascade_over_two_databases_goes_back_however_often_undo_is_killed() {
    for postgres in [true, false] {
        for nth in 1..=4 {
            let mut world = World::new(postgres, &format!("{CUSTOMERS}{VISITS}"), ORDERS, DEEP).await;
            let before = deep(&world).await;
            world.gone(1).await;
            for order in 10..=12 {
                // What hangs on an order goes by the order's own event, since orders may change their keys.
                world.work("shop.orders", json!({"id": order}), delete("shop", "orders", order), None).await;
            }
            assert_eq!(deep(&world).await, ["orders 20|2|-", "lines 20|1", "visits 1|-", "visits 2|20", "visits 3|-"]);
            // The process dies at a commit, or just behind it.
            let act = if nth % 2 == 0 { Act::Fail } else { Act::LoseReply };
            world.script.cue(Cue { at: "commit", nth, act });
            while world.try_undo(root(1), OnConflict::Fail, false).await.is_err() {}
            assert_eq!(deep(&world).await, before, "postgres: {postgres}, killed at commit {nth}");
            if nth < 3 {
                assert!(world.script.is_played(), "nothing was killed at commit {nth}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h92_what_is_undone_is_not_done_again_by_what_was_told_before() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, if postgres { POSTGRES_THINGS } else { SQLITE_THINGS }, THINGS).await;
        let things = "SELECT CAST(id AS TEXT) FROM things WHERE customer = 1 ORDER BY id";
        let before = lines(&world.shop, things).await;
        world.gone(1).await;
        world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(lines(&world.shop, things).await, before);
        // The same record again, as a redo or a replay brings it: the customer is still gone.
        world.gone_again(1).await;
        assert_eq!(lines(&world.shop, things).await, before, "WRONG DELETION: what was undone was done again");
        // The customer comes back, and goes for good: that is news.
        sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, things).await, Vec::<String>::new());
        // Another one was never undone.
        world.gone(2).await;
        assert_eq!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM things").await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_change_is_set_back_with_everything_below_it() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, &format!("{CUSTOMERS}{VISITS}"), ORDERS, DEEP).await;
        let before = deep(&world).await;
        sql(
            &world.shop,
            "INSERT INTO orders VALUES (99, 1, NULL); DELETE FROM orders WHERE id = 20; INSERT INTO orders VALUES (30, 2, NULL)",
        )
        .await;
        world.work("shop.orders", json!({"id": 20}), delete("shop", "orders", 20), Some(("__debezium.newkey", json!({"id": 30})))).await;
        let moved = deep(&world).await;
        assert!(moved.contains(&"lines 30|1".to_owned()), "the lines follow: {moved:?}");
        let choice = Choice { reference: Some("line_order".to_owned()), ..Choice::default() };
        let undone = world.undo(choice, OnConflict::Fail, false).await;
        assert_eq!(counts(&undone), [("shop.line", 0, 1, 0)]);
        let lines_of = |all: &[String]| all.iter().filter(|line| line.starts_with("lines")).cloned().collect::<Vec<_>>();
        assert_eq!(lines_of(&deep(&world).await), lines_of(&before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h92_a_column_that_came_or_went_since_does_not_stand_in_the_way() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, if postgres { POSTGRES_THINGS } else { SQLITE_THINGS }, THINGS).await;
        world.gone(1).await;
        sql(&world.shop, "ALTER TABLE others ADD COLUMN extra text DEFAULT 'new'; ALTER TABLE others DROP COLUMN f; ALTER TABLE things ADD COLUMN extra text DEFAULT 'new'").await;
        // The next process sees the tables as they are now.
        world.rebind(None).await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        let things =
            "SELECT CAST(id AS TEXT) || '|' || CAST(customer AS TEXT) || '|' || coalesce(extra, '-') FROM things WHERE id < 4 ORDER BY id";
        assert_eq!(lines(&world.shop, things).await, ["1|1|new", "2|2|new", "3|1|new"]);
        let others = "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(customer AS TEXT), '-') FROM others ORDER BY id";
        assert_eq!(lines(&world.shop, others).await, ["1|1", "2|1", "3|2", "4|-"]);
    }
}

/// A trigger has a hand in what is put back, and in what is set back: it is told that these are not as they were.
#[tokio::test(flavor = "multi_thread")]
async fn h92_what_a_trigger_makes_of_rows_that_go_back_is_told() {
    use crate::support::world::{THING_TABLES, THINGS};
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        world.gone(1).await;
        let triggers = if postgres {
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.customer := 2; RETURN new; END';
             CREATE TRIGGER i BEFORE INSERT ON things FOR EACH ROW WHEN (new.id = 3) EXECUTE FUNCTION other();
             CREATE TRIGGER u BEFORE UPDATE ON others FOR EACH ROW EXECUTE FUNCTION other()"
        } else {
            "CREATE TRIGGER i AFTER INSERT ON things WHEN new.id = 3 BEGIN UPDATE things SET customer = 2 WHERE id = new.id; END;
             CREATE TRIGGER u AFTER UPDATE ON others WHEN new.customer <> 2 BEGIN UPDATE others SET customer = 2 WHERE id = new.id; END"
        };
        sql(&world.shop, triggers).await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        let mut told: Vec<_> =
            undone.tables.iter().map(|(name, tally)| (name.as_str(), tally.inserted + tally.set_back, tally.differing)).collect();
        told.sort_unstable();
        assert_eq!(told, [("shop.other", 1, 1), ("shop.thing", 2, 1)], "postgres: {postgres}");
    }
}

/// A trigger swallows a row that is put back, and one that is set back. Both are told, stay in the archive, and go back when it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn h92_what_a_trigger_swallows_stays_in_the_archive() {
    use crate::support::world::{THING_TABLES, THINGS, THINGS_NOW};
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        let before = lines(&world.shop, THINGS_NOW).await;
        world.gone(1).await;
        let (triggers, drop) = if postgres {
            (
                "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                 CREATE TRIGGER i BEFORE INSERT ON things FOR EACH ROW WHEN (new.id = 3) EXECUTE FUNCTION no();
                 CREATE TRIGGER u BEFORE UPDATE ON others FOR EACH ROW EXECUTE FUNCTION no()",
                "DROP TRIGGER i ON things; DROP TRIGGER u ON others",
            )
        } else {
            (
                "CREATE TRIGGER i BEFORE INSERT ON things WHEN new.id = 3 BEGIN SELECT RAISE(IGNORE); END;
                 CREATE TRIGGER u BEFORE UPDATE ON others BEGIN SELECT RAISE(IGNORE); END",
                "DROP TRIGGER i; DROP TRIGGER u",
            )
        };
        sql(&world.shop, triggers).await;
        let undone = world.undo(root(1), OnConflict::Skip, false).await;
        assert_eq!((undone.left(), lines(&world.shop, THINGS_NOW).await), (2, before[..2].to_vec()), "postgres: {postgres}");
        let kept = lines(&world.shop, "SELECT entity FROM entail_archive WHERE undone_at IS NULL ORDER BY 1").await;
        assert_eq!(kept, ["shop.other", "shop.thing"], "postgres: {postgres}: called undone, and gone");
        sql(&world.shop, drop).await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((undone.left(), lines(&world.shop, THINGS_NOW).await), (0, before), "postgres: {postgres}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h94_what_is_purged_is_nowhere_in_the_ledger() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, if postgres { POSTGRES_THINGS } else { SQLITE_THINGS }, THINGS).await;
        sql(&world.crm, "INSERT INTO customers VALUES (777123)").await;
        sql(
            &world.shop,
            "INSERT INTO things (id, customer, t) VALUES (50, 777123, 'a canary'); INSERT INTO others VALUES (50, 777123, 1, 'a canary')",
        )
        .await;
        world.gone(777_123).await;
        world.gone(1).await;
        let database = &*world.engine.model.databases.handle(world.engine.model.databases.of_service("shop").expect("shop")).database;
        let left = async || {
            let mut found = Vec::new();
            for (table, columns) in [
                ("entail_archive", "entity || row_key || image || coalesce(after, '') || coalesce(after_key, '')"),
                ("entail_cascades", "root_entity || root_key || cause"),
                ("entail_pending", "root_key || detail || beside"),
                ("entail_moves", "old_key || new_key"),
                ("entail_replica_rows", "row_key"),
            ] {
                let canary = format!("SELECT '{table}' FROM {table} WHERE {columns} LIKE '%canary%' OR {columns} LIKE '%777123%'");
                found.extend(lines(&world.shop, &canary).await);
            }
            found
        };
        assert_eq!(left().await.len(), 4, "two rows, and a line of the audit for each reference");
        let purge = Purge { root: Some(("crm.customer".to_owned(), key(&["777123"]))), ..Purge::default() };
        assert_eq!(ledger::to_purge(database, "it", &purge).await.expect("counts"), 2);
        while ledger::purge(database, "it", &purge).await.expect("purges") > 0 {}
        assert_eq!(left().await, Vec::<String>::new());
        // The counts stay, and so does everybody else.
        let audit = "SELECT CAST(sum(\"rows\") AS TEXT) FROM entail_cascades WHERE root_key = '[]'";
        assert_eq!(lines(&world.shop, audit).await, ["2"]);
        assert!(world.undo(root(1), OnConflict::Fail, false).await.is_written);
        let old = Purge { older_than: Some(Duration::from_secs(3600)), ..Purge::default() };
        assert_eq!(ledger::purge(database, "it", &old).await.expect("purges"), 0, "nothing is that old");
        let all = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM entail_archive").await;
        let everything = ledger::purge(database, "it", &Purge::default()).await.expect("purges");
        assert_eq!(vec![everything.to_string()], all);
    }
}

/// What the law forbids to keep is not kept, and undo says so instead of bringing half of a cascade back in silence.
#[tokio::test(flavor = "multi_thread")]
async fn h94_rows_of_a_reference_without_an_archive_are_kept_nowhere_and_undo_says_so() {
    for postgres in [false, true] {
        let rules = crate::support::world::THINGS.replace("on_delete: cascade }", "on_delete: cascade, archive: none }");
        let tables = "CREATE TABLE things (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX ON_things ON things (customer);
            CREATE TABLE others (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX ON_others ON others (customer);
            INSERT INTO things VALUES (1, 1, 'canary'), (2, 1, 'canary'); INSERT INTO others VALUES (3, 1, 'kept');";
        let mut world = World::new(postgres, CUSTOMERS, tables, &rules).await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM things").await, ["0"]);
        let kept = "SELECT entity || ' ' || CAST(count(*) AS TEXT) FROM entail_archive GROUP BY entity";
        assert_eq!(lines(&world.shop, kept).await, ["shop.other 1"]);
        let canary = "SELECT CAST(count(*) AS TEXT) FROM entail_archive WHERE image LIKE '%canary%'";
        assert_eq!(lines(&world.shop, canary).await, ["0"]);
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert!(!undone.is_written, "half of a cascade comes back only when asked for");
        let undone = world.undo(root(1), OnConflict::Skip, false).await;
        assert_eq!(undone.lost, [("the archive".to_owned(), 2)], "two rows cannot come back");
        assert_eq!(lines(&world.shop, "SELECT CAST(customer AS TEXT) FROM others").await, ["1"]);
    }
}
