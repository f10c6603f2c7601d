//! Pauses and releases against the engine itself: what each opens, and what not.

use std::collections::BTreeSet;
use std::sync::Arc;

use entail::engine::{Authority, Batch, Retry};
use entail::ledger;
use serde_json::json;

use crate::support::world::*;

const LEVELS: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: shop.line, table: lines, key: [order_id, number] }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: line_order, child: shop.line, columns: order_id, parent: shop.order, on_delete: cascade }
limits: { rows_per_event: 20, rows: { count: 1000, per: 10m } }
";

/// 15 orders with a line each: 30 rows, over the limit of 20. A person looks, and lets them go.
#[tokio::test(flavor = "multi_thread")]
async fn a_released_root_of_two_levels_goes() {
    goes_once_released(LEVELS).await;
}

/// The same where keys may change, so that a root waits for its topic to be read on: what is shown is what goes when it has been.
#[tokio::test(flavor = "multi_thread")]
async fn a_released_root_that_has_to_be_proven_goes() {
    goes_once_released(&LEVELS.replace("on_delete: cascade", "on_delete: cascade, on_update: cascade")).await;
}

async fn goes_once_released(rules: &str) {
    let orders: Vec<String> =
        (100..115).map(|id| format!("INSERT INTO orders VALUES ({id}, 3, NULL); INSERT INTO lines VALUES ({id}, 1, '');")).collect();
    let mut world = World::new(false, CUSTOMERS, &format!("{ORDERS}{}", orders.concat()), rules).await;
    sql(&world.shop, "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 3, '')").await;
    world.gone(3).await;
    let latches = "SELECT scope || ': ' || detail FROM entail_latches";
    let shut = lines(&world.shop, latches).await;
    assert_eq!(shut.len(), 1, "{shut:?}");
    let reference = shut[0].strip_prefix("reference:").and_then(|rest| rest.split(':').next()).expect("a reference").to_owned();
    let rehearsal = entail::release::rehearse(&world.engine, &reference, &|_| {}).await.expect("rehearses");
    assert_eq!(rehearsal.rows.values().sum::<u64>(), 30, "{rehearsal:?}");
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = &world.engine.model.databases.handle(id).database;
    let mut session = database.begin().await.expect("begins");
    assert!(ledger::release(session.as_mut(), "it", &format!("reference:{reference}")).await.expect("releases"));
    ledger::allow(session.as_mut(), database.dialect(), "it", &rehearsal.rows).await.expect("allows");
    session.commit().await.expect("commits");
    world.retry().await;
    let left = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM orders WHERE customer = 3").await;
    assert_eq!(left, ["0"], "what was shown and released does not go: {:?}", lines(&world.shop, latches).await);
}

/// What one reference was allowed lifts no limit for roots that nobody was shown.
#[tokio::test(flavor = "multi_thread")]
async fn an_allowance_of_one_reference_lifts_no_limit_of_another() {
    let others: Vec<String> = (100..150).map(|id| format!("INSERT INTO others VALUES ({id}, 3, '');")).collect();
    let mut world = World::new(false, CUSTOMERS, &format!("{THING_TABLES}{}", others.concat()), THINGS).await;
    // thing_customer was released for 500 rows an hour ago, of which some are left. Customer 3 was parked since, as other_customer was paused.
    sql(
        &world.shop,
        "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:other_customer', 'paused', 'a test');",
    )
    .await;
    world.gone(3).await;
    assert_eq!(world.pending().await.len(), 1);
    sql(
        &world.shop,
        "DELETE FROM entail_latches; INSERT INTO entail_allowances (group_id, reference, \"rows\") VALUES ('it', 'thing_customer', 500)",
    )
    .await;
    world.retry().await;
    let left = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM others WHERE customer = 3").await;
    assert_eq!(left, ["50"], "50 rows changed by one event; the limit is 20, and nobody has looked at them");
}

/// A person pauses a reference that a limit has shut. Whoever releases the limit has not ended the pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_when_the_latch_beside_it_is_released() {
    let world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = &world.engine.model.databases.handle(id).database;
    let scope = "reference:thing_customer";
    let mut session = database.begin().await.expect("begins");
    let latch = ledger::Latch { scope: scope.to_owned(), reason: "rows".to_owned(), detail: "the window is used up".to_owned() };
    ledger::shut(session.as_mut(), database.dialect(), "it", &BTreeSet::from([latch])).await.expect("shuts");
    ledger::pause(session.as_mut(), database.dialect(), "it", scope, "do not touch").await.expect("pauses");
    session.commit().await.expect("commits");
    let mut session = database.begin().await.expect("begins");
    ledger::release(session.as_mut(), "it", scope).await.expect("releases");
    session.commit().await.expect("commits");
    let left = lines(&world.shop, "SELECT scope || ' ' || reason FROM entail_latches").await;
    assert_eq!(left, ["pause:reference:thing_customer paused"], "the pause was said to hold, and is gone");
}

/// A truncate comes while the reference is paused: the end of the pause does not wave it through (H9).
#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_under_a_pause_is_still_a_latch_after_it() {
    let mut world = World::new(false, CUSTOMERS, THING_TABLES, THINGS).await;
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = Arc::clone(&world.engine.model.databases.handle(id).database);
    let mut session = database.begin().await.expect("begins");
    ledger::pause(session.as_mut(), database.dialect(), "it", "reference:thing_customer", "maintenance").await.expect("pauses");
    session.commit().await.expect("commits");
    let source = json!({"connector": "postgresql", "name": "crm", "schema": "public", "table": "customers", "lsn": 1000});
    world.work("crm.customers", json!(null), json!({"op": "t", "before": null, "after": null, "source": source}), None).await;
    let mut session = database.begin().await.expect("begins");
    ledger::resume(session.as_mut(), "it", "reference:thing_customer", "done").await.expect("resumes");
    session.commit().await.expect("commits");
    let left = lines(&world.shop, "SELECT scope || ' ' || reason FROM entail_latches ORDER BY 1").await;
    assert_eq!(left, ["reference:other_customer truncate", "reference:thing_customer truncate"], "the truncate is forgotten");
}

/// A release for the two rows shown; a root of fifteen rows is parked between the look and the word, and is worked in another batch.
#[tokio::test(flavor = "multi_thread")]
async fn h81_an_allowance_used_up_to_the_last_row_is_used_up() {
    let many: Vec<String> = (100..115).map(|id| format!("INSERT INTO things VALUES ({id}, 3, '');")).collect();
    let mut world = World::new(false, CUSTOMERS, &format!("{THING_TABLES}{}", many.concat()), THINGS).await;
    sql(&world.shop, "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:thing_customer', 'rows', 'a test');
        INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 3, '')").await;
    world.gone(1).await;
    let rehearsal = entail::release::rehearse(&world.engine, "thing_customer", &|_| {}).await.expect("rehearses");
    assert_eq!(rehearsal.rows.get("thing_customer"), Some(&2), "{rehearsal:?}");
    world.gone(3).await;
    let id = world.engine.model.databases.of_service("shop").expect("shop");
    let database = &world.engine.model.databases.handle(id).database;
    let mut session = database.begin().await.expect("begins");
    assert!(ledger::release(session.as_mut(), "it", "reference:thing_customer").await.expect("releases"));
    ledger::allow(session.as_mut(), database.dialect(), "it", &rehearsal.rows).await.expect("allows");
    session.commit().await.expect("commits");
    for pending in world.pending().await {
        let batch = Batch { retries: vec![Retry { pending, proven: None }], ..Batch::default() };
        world.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
    }
    let left = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM things WHERE customer = 3").await;
    assert_eq!(left, ["15"], "2 rows were shown, 17 went");
}

/// A tenth of a large table and all of a small one may be the same number: a share of the table says which.
#[tokio::test(flavor = "multi_thread")]
async fn h80_a_window_by_percent_of_the_table_stops_before_it_is_crossed() {
    for postgres in [false, true] {
        let rows: Vec<String> =
            (100..140).map(|id| format!("INSERT INTO things (id, customer, t) VALUES ({id}, {}, '');", 1 + (id - 100) / 15)).collect();
        let tables =
            "CREATE TABLE things (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX things_customer ON things (customer);
            CREATE TABLE others (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX others_customer ON others (customer);";
        let rules = THINGS.replace("rows: { count: 1000, per: 10m }", "rows: { count: 1000, per: 10m, percent: 50 }");
        // 15 of 40 rows each for customers 1 and 2: the second would make it 30, and half of the table is 20.
        let mut world = World::new(postgres, CUSTOMERS, &format!("{tables}{}", rows.concat()), &rules).await;
        world.gone(1).await;
        world.gone(2).await;
        let left = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM things").await;
        assert_eq!(left, ["25"], "postgres: {postgres}");
        assert_eq!(lines(&world.shop, "SELECT scope || ' ' || reason FROM entail_latches").await, ["reference:thing_customer rows"]);
        assert_eq!(world.pending().await.len(), 1);
    }
}

fn shop_of(customers: &[(i64, i64)]) -> String {
    let orders = customers.iter().flat_map(|(customer, orders)| (0..*orders).map(move |number| (customer, 100 * customer + number)));
    let rows =
        orders.map(|(customer, id)| format!("INSERT INTO orders VALUES ({id}, {customer}, NULL); INSERT INTO lines VALUES ({id}, 1, '');"));
    format!("{ORDERS}DELETE FROM orders; DELETE FROM lines;{}", rows.collect::<String>())
}

const PROGRESS: &str = "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules)
    VALUES ('it', 'crm.customers', 0, 1, 3, '')";
const ROWS_LEFT: &str = "SELECT CAST((SELECT count(*) FROM orders) + (SELECT count(*) FROM lines) AS TEXT)";

#[tokio::test(flavor = "multi_thread")]
async fn h79_as_many_rows_as_the_limit_go_and_one_more_do_not() {
    for (orders, left) in [(10, "0"), (11, "22")] {
        let mut world = World::new(false, CUSTOMERS, &shop_of(&[(3, orders)]), LEVELS).await;
        sql(&world.shop, PROGRESS).await;
        world.gone(3).await;
        assert_eq!(lines(&world.shop, ROWS_LEFT).await, [left], "{orders} orders with a line each, under a limit of 20");
        assert_eq!(world.pending().await.len(), usize::from(orders > 10));
    }
    // An odd number too: the line of the last order is the row too many.
    let rules = LEVELS.replace("rows_per_event: 20", "rows_per_event: 19");
    let mut world = World::new(false, CUSTOMERS, &shop_of(&[(3, 10)]), &rules).await;
    sql(&world.shop, PROGRESS).await;
    world.gone(3).await;
    assert_eq!(lines(&world.shop, ROWS_LEFT).await, ["20"]);
}

/// A table that lost all of its few rows is no sign of a wrong database (H67).
#[tokio::test(flavor = "multi_thread")]
async fn h67_the_last_row_of_a_small_table_goes_like_any_other() {
    let crm = "CREATE TABLE customers (id bigint PRIMARY KEY); INSERT INTO customers VALUES (3);";
    let mut world = World::new(false, crm, &shop_of(&[(3, 2)]), LEVELS).await;
    sql(&world.shop, PROGRESS).await;
    world.gone(3).await;
    assert_eq!(lines(&world.shop, ROWS_LEFT).await, ["0"]);
    assert!(world.pending().await.is_empty());
}

/// Roots that together are more than one transaction takes are looked at by parts.
#[tokio::test(flavor = "multi_thread")]
async fn h81_a_rehearsal_of_more_than_a_transaction_takes_counts_every_root_once() {
    for most in [4, 7, 1000] {
        let mut world = World::new(false, CUSTOMERS, &shop_of(&[(1, 2), (2, 3), (3, 1)]), LEVELS).await;
        sql(&world.shop, PROGRESS).await;
        sql(
            &world.shop,
            "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:order_customer', 'rows', 'a test')",
        )
        .await;
        for customer in 1..=3 {
            world.gone(customer).await;
        }
        assert_eq!(world.pending().await.len(), 3);
        // Who has paused everything may look all the same.
        sql(
            &world.shop,
            &format!("INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', '{}', 'paused', '')", ledger::EVERYTHING),
        )
        .await;
        world.engine.rows_per_transaction = most;
        let told = std::sync::Mutex::new(Vec::new());
        let progress = |roots| told.lock().expect("no panic").push(roots);
        let rehearsal = entail::release::rehearse(&world.engine, "order_customer", &progress).await.expect("rehearses");
        let rows = [("line_order".to_owned(), 6), ("order_customer".to_owned(), 6)];
        assert_eq!((rehearsal.roots, &rehearsal.rows), (3, &rows.into()), "at most {most}: {rehearsal:?}");
        assert_eq!(rehearsal.tables, [(("shop.line".to_owned(), "delete"), 6), (("shop.order".to_owned(), "delete"), 6)].into());
        let told = told.into_inner().expect("no panic");
        assert!(told.is_sorted() && told.last() == Some(&3), "{told:?}");
        assert_eq!(lines(&world.shop, ROWS_LEFT).await, ["12"], "nothing of it is done");
    }
}

/// What is held back stands in the database of the rows, and another reference of the rules may be kept elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn h81_a_rehearsal_asks_the_database_that_its_reference_is_kept_in() {
    let rules = "
version: 1
mode: enforce
entities:
  - { name: crm.ticket, table: tickets, key: id }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.thing, table: things, key: id }
references:
  - { name: ticket_order, child: crm.ticket, columns: order_id, parent: shop.order, on_delete: cascade }
  - { name: thing_customer, child: shop.thing, columns: customer, parent: crm.customer, on_delete: cascade }
";
    let crm = format!("{CUSTOMERS} CREATE TABLE tickets (id bigint PRIMARY KEY, order_id bigint); CREATE INDEX t ON tickets (order_id);");
    let mut world = World::new(false, &crm, &format!("{ORDERS}{THING_TABLES}"), rules).await;
    sql(&world.shop, PROGRESS).await;
    let latch = "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:thing_customer', 'rows', 'a test')";
    sql(&world.shop, latch).await;
    world.gone(1).await;
    let rehearsal = entail::release::rehearse(&world.engine, "thing_customer", &|_| {}).await.expect("rehearses");
    assert_eq!((rehearsal.roots, rehearsal.rows), (1, [("thing_customer".to_owned(), 2)].into()));
    let other = entail::release::rehearse(&world.engine, "ticket_order", &|_| {}).await.expect("rehearses");
    assert_eq!(other.roots, 0);
}
