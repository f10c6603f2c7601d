//! Copies of rows, event by event: what is written, what is older than what is there, and when the owner is asked. On SQLite files.

use entail::change::Record;
use serde_json::{Value, json};

use crate::support::engine::Bench;

pub(crate) const COPIES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.main.customers }
  - { name: crm.member, table: members, key: id, topic: crm.main.customers }
replicas:
  - { name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: { id: id, name: name } }
";
const NOW: &str = "SELECT id, name FROM customer_copy ORDER BY id";
const KNOWN: &str = "SELECT replica, row_key, source, gone FROM entail_replica_rows ORDER BY row_key";

/// An event of a customer at a position of the source; none where it is 0.
fn told(bench: &mut Bench, op: &str, (id, name): (i64, &str), lsn: i64) -> Record {
    let row = json!({"id": id, "name": name});
    let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
    let mut source =
        json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "customers", "snapshot": (op == "r").to_string()});
    if lsn > 0 {
        source["lsn"] = json!(lsn);
    }
    let value = json!({"op": op, "before": before, "after": after, "source": source});
    bench.record("crm.main.customers", &json!({"id": id}), Some(&value), &[])
}

/// The owner has customer 7 under this name, and the copy is told so by these events.
async fn copied(owner: &str, events: &[(&str, &str, i64)]) -> Bench {
    let mut bench = Bench::new(COPIES, Vec::new()).await;
    bench.execute("crm", &format!("INSERT INTO customers VALUES (7, '{owner}')")).await;
    for (op, name, lsn) in events {
        let event = told(&mut bench, op, (7, name), *lsn);
        bench.work(&[event]).await.expect("works");
    }
    bench
}

/// Nobody knows the owner's database: the events are all that there is.
#[tokio::test(flavor = "multi_thread")]
async fn h53_a_copy_whose_owner_has_no_database_here_follows_the_events_to_its_end() {
    let elsewhere = COPIES.replace("name: crm.customer,", "name: hr.customer,").replace("of: crm.customer,", "of: hr.customer,");
    let mut bench = Bench::new(&elsewhere, Vec::new()).await;
    for (op, name, lsn, copies) in [
        ("c", "first", 100, vec!["7|first"]),
        ("u", "later", 110, vec!["7|later"]),
        ("d", "later", 120, vec![]),
        ("u", "stale", 105, vec![]),
    ] {
        let event = told(&mut bench, op, (7, name), lsn);
        bench.work(&[event]).await.expect("works");
        assert_eq!(bench.lines(NOW).await, copies, "{op} at {lsn}");
    }
    let again = told(&mut bench, "c", (7, "again"), 130);
    let tombstone = bench.record("crm.main.customers", &json!({"id": 7}), None, &[]);
    bench.work(&[again]).await.expect("works");
    bench.work(&[tombstone]).await.expect("works");
    assert_eq!(bench.lines(NOW).await, ["7|again"], "WRONG DELETION: a tombstone alone does not say whether it is the last word");
}

/// No reference points at the row: its own database is asked all the same.
#[tokio::test(flavor = "multi_thread")]
async fn h3_a_copy_of_a_row_that_lives_stays_though_nothing_points_at_it() {
    let mut bench = Bench::new(COPIES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (1, 'customer 1'), (2, 'customer 2')").await;
    let told = [1, 2].map(|id| bench.customer("c", id, &[]));
    bench.work(&told).await.expect("works");
    bench.execute("crm", "DELETE FROM customers WHERE id = 1").await;
    let gone = [1, 2].map(|id| bench.customer("d", id, &[]));
    bench.work(&gone).await.expect("works");
    let copies = "SELECT id, name FROM customer_copy ORDER BY id";
    assert_eq!(bench.lines(copies).await, ["2|customer 2"], "WRONG DELETION, or a copy that stays for ever");
    let tombstone = bench.record("crm.main.customers", &json!({"id": 2}), None, &[]);
    bench.work(&[tombstone]).await.expect("works");
    assert_eq!(bench.lines(copies).await, ["2|customer 2"]);
}

/// What the stream told is compared by its positions; what a snapshot read may be older than it looks, and then the owner says.
#[tokio::test(flavor = "multi_thread")]
async fn h53_the_owner_is_asked_where_an_event_may_be_newer_than_the_snapshot_and_else_not() {
    let cases: [(&[(&str, &str, i64)], &str); 6] = [
        (&[("u", "first", 100), ("u", "older", 90)], "first"),
        (&[("u", "first", 100), ("u", "same", 100)], "first"),
        (&[("r", "read", 100), ("u", "under way", 90)], "owner"),
        (&[("r", "read", 100), ("u", "later", 110)], "later"),
        (&[("r", "read", 100), ("r", "read before", 90)], "read"),
        (&[("u", "first", 100), ("r", "read before", 90)], "first"),
    ];
    for (events, name) in cases {
        let bench = copied("owner", events).await;
        assert_eq!(bench.lines(NOW).await, [format!("7|{name}")], "{events:?}");
    }
    // What the owner said has the snapshot's position: the stream goes on from there.
    let mut bench = copied("owner", &[("r", "read", 100), ("u", "under way", 90)]).await;
    let [earlier, later] = [("also under way", 95), ("later", 101)].map(|(name, lsn)| told(&mut bench, "u", (7, name), lsn));
    bench.work(&[earlier]).await.expect("works");
    assert_eq!(bench.lines(NOW).await, ["7|owner"]);
    bench.work(&[later]).await.expect("works");
    assert_eq!(bench.lines(NOW).await, ["7|later"]);
}

/// One row of a batch is read from its owner, and the others are as their events say.
#[tokio::test(flavor = "multi_thread")]
async fn h53_what_is_read_from_the_owner_holds_no_other_row_of_the_batch_up() {
    let mut bench = copied("owner", &[("r", "read", 100)]).await;
    bench.execute("crm", "INSERT INTO customers VALUES (8, 'later')").await;
    let records = [told(&mut bench, "u", (7, "under way"), 90), told(&mut bench, "c", (8, "told"), 120)];
    bench.work(&records).await.expect("works");
    assert_eq!(bench.lines(NOW).await, ["7|owner", "8|told"], "a copy that is missing");
}

/// A tombstone tells no position. It ends a copy, and leaves what is known of one that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn h53_a_tombstone_ends_a_copy_and_forgets_no_position() {
    let mut bench = copied("owner", &[("u", "first", 100)]).await;
    let tombstone = |bench: &mut Bench| bench.record("crm.main.customers", &json!({"id": 7}), None, &[]);
    bench.execute("crm", "DELETE FROM customers").await;
    let alone = tombstone(&mut bench);
    bench.work(&[alone]).await.expect("works");
    assert!(bench.lines(NOW).await.is_empty(), "a copy that stays for ever");
    let mut bench = copied("owner", &[("u", "first", 100)]).await;
    bench.execute("crm", "DELETE FROM customers").await;
    let gone = told(&mut bench, "d", (7, "first"), 110);
    bench.work(&[gone]).await.expect("works");
    let known = bench.lines(KNOWN).await;
    assert!(matches!(known.as_slice(), [one] if one.starts_with("shop.customer_copy|") && one.ends_with("|1")), "{known:?}");
    let behind = tombstone(&mut bench);
    bench.work(&[behind]).await.expect("works");
    assert_eq!(bench.lines(KNOWN).await, known);
    let stale = told(&mut bench, "u", (7, "stale"), 105);
    bench.work(&[stale]).await.expect("works");
    assert!(bench.lines(NOW).await.is_empty(), "an older event brought it back");
}

/// An event may leave a large value out that did not change.
#[tokio::test(flavor = "multi_thread")]
async fn h12_a_value_that_an_event_leaves_out_is_kept_or_read_from_its_owner() {
    const LEFT_OUT: &str = "__debezium_unavailable_value";
    let fresh = copied("owner", &[("u", LEFT_OUT, 100)]).await;
    assert_eq!(fresh.lines(NOW).await, ["7|owner"], "the copy did not hold the row");
    let held = copied("owner", &[("u", "first", 100), ("u", LEFT_OUT, 110)]).await;
    assert_eq!(held.lines(NOW).await, ["7|first"], "it did");
    let whole = copied("owner", &[("u", "told", 100)]).await;
    assert_eq!(whole.lines(NOW).await, ["7|told"], "nothing is left out, so nobody is asked");
    let unplaced = copied("owner", &[("u", "told", 0)]).await;
    assert_eq!(unplaced.lines(NOW).await, ["7|owner"], "without a position the owner is asked");
}

/// A large value that a second change of the same row leaves out, as it did not change.
#[tokio::test(flavor = "multi_thread")]
async fn h12_a_value_that_a_later_event_of_the_batch_leaves_out_is_copied_all_the_same() {
    let mut bench = Bench::new(COPIES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (7, 'new')").await;
    bench.execute("shop", "INSERT INTO customer_copy VALUES (7, 'old')").await;
    let records = [told(&mut bench, "u", (7, "new"), 10), told(&mut bench, "u", (7, "__debezium_unavailable_value"), 11)];
    bench.work(&records).await.expect("works");
    assert_eq!(bench.lines(NOW).await, ["7|new"]);
}

/// Two tables share a topic, and keys: the tombstone is of the other one.
#[tokio::test(flavor = "multi_thread")]
async fn h5_a_tombstone_of_another_table_does_not_take_an_update_away() {
    let mut bench = Bench::new(COPIES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (7, 'new')").await;
    bench.execute("shop", "INSERT INTO customer_copy VALUES (7, 'old')").await;
    let tombstone = |bench: &mut Bench| bench.record("crm.main.customers", &json!({"id": 7}), None, &[]);
    let records = [told(&mut bench, "u", (7, "new"), 10), tombstone(&mut bench)];
    bench.work(&records).await.expect("works");
    assert_eq!(bench.lines(NOW).await, ["7|new"]);
}

/// A change that was under way when a snapshot was taken has an earlier position than the row that the snapshot read, and is the later word.
#[tokio::test(flavor = "multi_thread")]
async fn h53_a_change_under_way_at_a_snapshot_is_not_taken_for_older_than_its_row() {
    for (is_gone, in_one) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut bench = Bench::new(COPIES, Vec::new()).await;
        if !is_gone {
            bench.execute("crm", "INSERT INTO customers VALUES (7, 'new')").await;
        }
        let (op, name) = if is_gone { ("d", "old") } else { ("u", "new") };
        let records = [told(&mut bench, "r", (7, "old"), 150), told(&mut bench, op, (7, name), 100)];
        for batch in records.chunks(if in_one { 2 } else { 1 }) {
            bench.work(batch).await.expect("works");
        }
        let expected: &[&str] = if is_gone { &[] } else { &["7|new"] };
        assert_eq!(bench.lines(NOW).await, expected, "gone: {is_gone}, one batch: {in_one}");
        // A repeat of what went before changes nothing.
        let repeat = [told(&mut bench, "u", (7, "older"), 90)];
        bench.work(&repeat).await.expect("works");
        assert_eq!(bench.lines(NOW).await, expected, "gone: {is_gone}, one batch: {in_one}");
    }
}
