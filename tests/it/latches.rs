//! What people shut and open: pauses, releases, and how it all stands.

use std::time::Duration;

use entail::engine::WorkError;
use entail::ledger;
use entail::sink::SinkError;
use serde_json::Value;

use crate::support::engine::Bench;
use crate::support::scripted::{Act, Cue};
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop};

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.main.customers }
  - { name: shop.order, table: orders, key: id }
  - { name: shop.note, table: notes, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }
  - { name: note_customer, child: shop.note, columns: owner, parent: crm.customer, on_delete: set_null }
replicas:
  - { name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: { id: id, name: name } }
";

async fn seeded() -> Bench {
    let bench = Bench::new(RULES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (2, 'Bob')").await;
    bench.execute("shop", "INSERT INTO orders VALUES (10, 1), (20, 2); INSERT INTO notes VALUES (1, 1, 'x', 'open')").await;
    bench
}

const ORDERS: &str = "SELECT id FROM orders ORDER BY id";
const PAUSE: &str = "INSERT INTO entail_latches (group_id, scope, reason, detail)";

fn is_paused(error: &WorkError) -> bool {
    matches!(error, WorkError::Sink(SinkError::Paused { why }) if why.contains("somebody looks"))
}

#[tokio::test(flavor = "multi_thread")]
async fn h82_nothing_at_all_is_written_while_everything_is_paused() {
    let mut bench = seeded().await;
    let records = [bench.customer("d", 1, &[]), bench.customer("u", 2, &[])];
    bench.execute("shop", &format!("{PAUSE} VALUES ('it', 'everything', 'paused', 'somebody looks')")).await;
    assert!(is_paused(&bench.work(&records).await.expect_err("paused")));
    assert_eq!(bench.lines(ORDERS).await, ["10", "20"]);
    assert_eq!(bench.lines("SELECT * FROM customer_copy").await, Vec::<String>::new());
    bench.execute("shop", "DELETE FROM entail_latches").await;
    bench.work(&records).await.expect("works");
    assert_eq!(bench.lines(ORDERS).await, ["20"]);
    assert_eq!(bench.lines("SELECT id FROM customer_copy").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h82_a_pause_between_the_look_and_the_commit_is_seen() {
    for scope in ["everything", "reference:order_customer", "reference:note_customer"] {
        let mut bench = seeded().await;
        let record = bench.customer("d", 1, &[]);
        let pause = format!("{PAUSE} VALUES ('it', '{scope}', 'paused', 'somebody looks')");
        // The file has one writer: the pause is the transaction's own, at the last moment before the look.
        bench.script.cue(Cue { at: "reading latches", nth: 2, act: Act::InTransaction(pause) });
        assert!(is_paused(&bench.work(std::slice::from_ref(&record)).await.expect_err("paused")), "{scope}");
        assert!(bench.script.is_played());
        assert_eq!(bench.lines(ORDERS).await, ["10", "20"], "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h82_a_pause_holds_for_every_worker_and_over_restarts_until_it_is_resumed() {
    let shop = Shop::open().await.extra("batch: { events: 200 }\n");
    let (all, gone) = (8_000, 6_000);
    let records = shop.load(all, gone, 1).await;
    let mut first = shop.run("first", &[]);
    shop.until_durable(records / 10).await;
    let mut second = shop.run("second", &[]);
    second.until_owner().await;
    let (code, said, _) = shop.command(&["pause", "--reason", "somebody looks"]).await;
    assert!(code == 0 && said.contains("paused everything"), "{code}: {said}");
    // Something to do for both, however much was done before the pause.
    shop.bed.produce((gone + 1..=gone + 400).map(|id| shop.update(id, "name 1", 90_000_000 + id)).collect()).await;
    first.until_log("paused; it is looked at again").await;
    second.until_log("paused; it is looked at again").await;
    let orders = "SELECT count(*) FROM orders";
    let held = (shop.count("shop", orders).await, shop.durable("shop").await);
    let (code, status, _) = shop.command(&["status", "--format", "json"]).await;
    assert_eq!(code, 1, "{status}");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["databases"][0]["latches"][0]["scope"], ledger::EVERYTHING, "{status}");
    assert_eq!(status["databases"][0]["latches"][0]["detail"], "somebody looks", "{status}");
    let (code, text, _) = shop.command(&["status"]).await;
    assert!(code == 1 && text.contains("everything (paused, since ") && text.contains("    entail resume\n"), "{text}");
    // A third worker takes partitions over, and writes nothing either. The first stops, in good order.
    let mut third = shop.run("third", &[]);
    third.until_owner().await;
    first.signal("TERM");
    assert_eq!(first.exit(Duration::from_secs(25)).await, 0, "{}", first.tail());
    assert_eq!((shop.count("shop", orders).await, shop.durable("shop").await), held, "nothing was written under the pause");
    let (code, said, _) = shop.command(&["resume"]).await;
    assert!(code == 0 && said.contains("resumed everything"), "{code}: {said}");
    let (code, _, said) = shop.command(&["resume"]).await;
    assert!(code == 2 && said.contains("is not paused"), "{code}: {said}");
    shop.until_caught_up().await;
    for worker in [&mut second, &mut third] {
        worker.signal("TERM");
        assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
        worker.accounts();
    }
    shop.assert_settled(all, gone, 1).await;
    let decided = shop.rows("shop", "SELECT scope, decision, reason FROM entail_decisions ORDER BY id").await;
    assert_eq!(decided, [["everything", "pause", "somebody looks"], ["everything", "resume", "no reason given"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h82_one_paused_reference_parks_its_roots_and_the_copies_go_on() {
    let shop = Shop::open().await;
    let (all, gone) = (300, 200);
    shop.load(all, gone, 1).await;
    let (code, _, said) = shop.command(&["migrate"]).await;
    assert_eq!(code, 0, "{said}");
    let (code, said, _) = shop.command(&["pause", "parcel_order"]).await;
    assert!(code == 0 && said.contains("paused reference:parcel_order"), "{code}: {said}");
    let (code, _, said) = shop.command(&["pause", "parcel_oder"]).await;
    assert!(code == 2 && said.contains("no reference `parcel_oder`"), "{code}: {said}");
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders").await, all, "what leads to a paused reference is held back whole");
    let copies = format!("SELECT count(*) FROM customer_copy WHERE id > {gone} AND name = 'name 1'");
    assert_eq!(shop.count("shop", &copies).await, all - gone);
    let (code, text, _) = shop.command(&["status"]).await;
    assert!(code == 1 && text.contains("    entail resume parcel_order\n"), "{text}");
    assert!(text.contains(&format!("{gone} roots of crm.customer are parked (latched: reference `parcel_order`)")), "{text}");
    let (code, said, _) = shop.command(&["resume", "parcel_order"]).await;
    assert!(code == 0, "{code}: {said}");
    let orders = "SELECT count(*) FROM orders";
    wait_for("the parked roots to be worked", DEADLINE, async || (shop.count("shop", orders).await == all - gone).then_some(())).await;
    wait_for("status to be clean", DEADLINE, async || (shop.command(&["status"]).await.0 == 0).then_some(())).await;
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
    shop.assert_settled(all, gone, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h81_a_release_lets_go_what_was_shown_and_no_more() {
    let shop = Shop::open().await;
    let (all, gone) = (600, 400);
    shop.load(all, gone, 1).await;
    // Two parcels to an order: the parcels' window is full first, after 150 customers.
    let rules = shop.rules().replace("count: 10000000, per: 10m", "count: 301, per: 1d");
    std::fs::write(shop.dir.path().join("rules.yaml"), rules).expect("the rules are written");
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    let orders = async || shop.count("shop", "SELECT count(*) FROM orders").await;
    assert_eq!(orders().await, all - 150, "the window holds");
    let (code, text, _) = shop.command(&["status"]).await;
    assert!(code == 1 && text.contains("entail release reference:parcel_order"), "{text}");
    let (code, shown, said) = shop.command(&["release", "reference:parcel_order", "--dry-run", "--format", "json"]).await;
    assert_eq!(code, 0, "{said}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        (&shown["would"]["references"]["order_customer"], &shown["would"]["references"]["parcel_order"]),
        (&250.into(), &500.into())
    );
    assert_eq!(orders().await, all - 150, "a dry run releases nothing");

    // Between the look and the word, some customers return.
    let (_, gone_still) = ("", format!("SELECT count(*) FROM orders WHERE customer_id BETWEEN 371 AND {gone}"));
    let back = shop.count("shop", &gone_still).await;
    shop.execute("crm", &format!("INSERT INTO customers SELECT i, 'back' FROM generate_series(371, {gone}) i")).await;
    let (code, told, said) = shop.command(&["release", "reference:parcel_order", "--reason", "they are really gone"]).await;
    let released = 250 - back;
    assert!(code == 0 && told.contains(&format!("shop.order: {released} rows would be deleted")), "{told}{said}");
    assert!(told.contains(&format!("{back} of their parents live again")), "{told}");
    let left = all - 150 - released;
    wait_for("what was shown to go", DEADLINE, async || (orders().await == left).then_some(())).await;
    let decided = shop.rows("shop", "SELECT decision, reason FROM entail_decisions").await;
    assert!(decided.is_empty(), "the latch stood in the other database: {decided:?}");
    let decided = shop.rows("shipping", "SELECT decision, reason, detail FROM entail_decisions").await;
    assert_eq!(decided, [["release".to_owned(), "they are really gone".to_owned(), format!("parcel_order: {} rows", 2 * released)]]);

    // The limit is a limit again: of two hundred more, 150 are within the new window.
    shop.execute("crm", "DELETE FROM customers WHERE id > 400").await;
    shop.bed.produce((401..=600).flat_map(|id| shop.delete(id, 50_000_000 + id)).collect()).await;
    shop.until_caught_up().await;
    assert_eq!(orders().await, left - 150, "the new window holds");

    // A bound that is used up: what was parked behind the look stays.
    let (code, _, said) = shop.command(&["pause"]).await;
    assert_eq!(code, 0, "{said}");
    let (code, told, said) = shop.command(&["release", "reference:parcel_order"]).await;
    assert!(code == 0 && told.contains("shop.order: 50 rows would be deleted"), "{told}{said}");
    shop.execute("shipping", "UPDATE entail_allowances SET \"rows\" = 60 WHERE reference = 'parcel_order'").await;
    let (code, _, said) = shop.command(&["resume"]).await;
    assert_eq!(code, 0, "{said}");
    let shut = "SELECT count(*) FROM entail_latches WHERE detail = 'the rows of its release are used up'";
    wait_for("the latch to shut again", DEADLINE, async || (shop.count("shipping", shut).await > 0).then_some(())).await;
    assert_eq!(orders().await, left - 150 - 30, "no more than was allowed");
    worker.signal("TERM");
    assert_eq!(worker.exit(Duration::from_secs(25)).await, 0, "{}", worker.tail());
    worker.accounts();
}
