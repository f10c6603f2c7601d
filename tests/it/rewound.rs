//! A parent database whose log took a step back, as the engine hears of it: nothing may forget that before the latches are durable.

use entail::change::Record;
use entail::{ledger, watch};

use crate::support::engine::Bench;
use crate::support::members;
use crate::support::scripted::{Act, Cue};

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.main.customers }
  - { name: crm.member, table: members, key: id, topic: crm.main.members }
  - { name: shop.order, table: orders, key: id, topic: shop.main.orders }
  - { name: shop.visit, table: visits, key: id }
  - { name: shop.note, table: notes, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }
  - { name: visit_member, child: shop.visit, columns: member, parent: crm.member, on_delete: cascade }
  - { name: note_order, child: shop.note, columns: owner, parent: shop.order, on_delete: cascade }
";
/// The reference to the other database is believed still.
const LATCHES: &str = "SELECT scope, reason FROM entail_latches ORDER BY scope";
const BOTH: [&str; 2] = ["reference:order_customer|source-rewound", "reference:visit_member|source-rewound"];
const CHILDREN: &str = "SELECT 'order', id FROM orders UNION ALL SELECT 'visit', id FROM visits ORDER BY 1, 2";

/// Customer 1 and member 1 each with a child; customer 2, gone and worked: after that the log was at 1000. Then it is at 900, and both parents
/// are missing.
async fn restored(cues: Vec<Cue>) -> Bench {
    let mut bench = Bench::new(RULES, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (1, 'Ann'); INSERT INTO members VALUES (1, 10)").await;
    bench.execute("shop", "INSERT INTO orders VALUES (10, 1), (20, 2); INSERT INTO visits VALUES (100, 1)").await;
    log_ends_at(&bench, 1000).await;
    let delete = bench.customer("d", 2, &[]);
    bench.work(std::slice::from_ref(&delete)).await.expect("works");
    assert_eq!(bench.lines(CHILDREN).await, ["order|10", "visit|100"]);
    bench.execute("crm", "DELETE FROM customers; DELETE FROM members").await;
    log_ends_at(&bench, 900).await;
    for cue in cues {
        bench.script.cue(cue);
    }
    bench
}

async fn log_ends_at(bench: &Bench, end: i64) {
    bench.execute("crm", &format!("UPDATE sqlite_sequence SET seq = {end} WHERE name = 'entail_changes'")).await;
}

fn member_gone(bench: &mut Bench) -> Record {
    members::member(bench, "d", (1, 10), 500, &[])
}

async fn assert_untouched(bench: &Bench) {
    assert_eq!(bench.lines(CHILDREN).await, ["order|10", "visit|100"], "WRONG DELETION");
}

#[tokio::test(flavor = "multi_thread")]
async fn h15_a_step_back_is_not_forgotten_before_its_latches_are_written() {
    let mut bench = restored(vec![Cue { at: "shutting latches", nth: 1, act: Act::Fail }]).await;
    let delete = bench.customer("d", 1, &[]);
    bench.work(std::slice::from_ref(&delete)).await.expect_err("the latches cannot be written");
    assert!(bench.script.is_played());
    assert_untouched(&bench).await;
    bench.work(std::slice::from_ref(&delete)).await.expect("works");
    assert_untouched(&bench).await;
    assert_eq!(bench.lines(LATCHES).await, BOTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn h15_a_step_back_that_one_batch_hears_of_shuts_every_reference_to_the_database() {
    let mut bench = restored(Vec::new()).await;
    let delete = bench.customer("d", 1, &[]);
    bench.work(std::slice::from_ref(&delete)).await.expect("works");
    assert_eq!(bench.lines(LATCHES).await, BOTH);
    // Said once: who goes on after a release has looked.
    let delete = member_gone(&mut bench);
    bench.work(std::slice::from_ref(&delete)).await.expect("works");
    assert_untouched(&bench).await;
    bench.execute("shop", "DELETE FROM entail_latches").await;
    bench.execute("crm", "INSERT INTO customers VALUES (1, 'Ann')").await;
    log_ends_at(&bench, 900).await;
    bench.work(std::slice::from_ref(&delete)).await.expect("works");
    assert_eq!(bench.lines(CHILDREN).await, ["order|10"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h15_a_ledger_that_remembers_a_longer_log_is_heard_until_the_latches_are_written() {
    let bench = restored(Vec::new()).await;
    let (model, group) = (&bench.engine.model, &bench.engine.owner.group);
    let name = "end of the log of crm";
    let shop = model.databases.iter().find(|(_, handle)| handle.name == "shop").expect("it is there").1;
    let mut session = shop.database.begin().await.expect("begins");
    ledger::renew_identity(session.as_mut(), group, name, "1000").await.expect("writes");
    session.commit().await.expect("commits");
    // As after a start: this process has seen nothing yet. A start that fails on the way, or a stop that is cut short, hears of it again.
    for _ in 0..2 {
        let found = watch::remember(model, group, &watch::Marks::default()).await.expect("reads");
        assert_eq!(found.iter().map(|finding| finding.reason).collect::<Vec<_>>(), ["source-rewound"]);
    }
    for finding in watch::remember(model, group, &bench.engine.marks).await.expect("reads") {
        bench.engine.halt(&finding).await.expect("shuts");
    }
    assert_eq!(bench.lines(LATCHES).await, BOTH);
    assert_eq!(watch::remember(model, group, &bench.engine.marks).await.expect("reads"), Vec::new());
}
