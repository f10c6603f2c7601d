//! Undo tells rows apart that had one key, one after the other.

use entail::change::{self, Content, Position, Record};
use entail::engine::{Authority, Batch};
use entail::undo::{self, OnConflict};
use entail::value::Cell;
use serde_json::json;

use crate::support::engine::partition;
use crate::support::world::*;

/// Order 10 went by the cascade, came again for another customer, and was deleted for good by its own service: that is no part of the cascade.
#[tokio::test(flavor = "multi_thread")]
async fn undo_does_not_bring_back_what_a_later_delete_took() {
    let mut world = World::new(true, CUSTOMERS, ORDERS, DEEP).await;
    world.gone(1).await;
    for order in [10, 11] {
        world.work("shop.orders", json!({"id": order}), delete("shop", "orders", order), None).await;
    }
    sql(&world.shop, "INSERT INTO orders VALUES (10, 2, NULL); INSERT INTO lines VALUES (10, 7, 'erased by its owner')").await;
    sql(&world.shop, "DELETE FROM orders WHERE id = 10").await;
    world.work("shop.orders", json!({"id": 10}), gone_at("shop", "orders", json!({"id": 10}), 9000), None).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["20|1|old"]);
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    let now = lines(&world.shop, LINES_NOW).await;
    assert!(!now.iter().any(|line| line.starts_with("10|7")), "too much was put back: {now:?} {:?}", told(&undone));
}

/// An event of a row's end in a transaction of its source.
fn gone_in(order: i64, lsn: i64, transaction: &str) -> serde_json::Value {
    let mut event = gone_at("shop", "orders", json!({"id": order}), lsn);
    event["source"]["txId"] = transaction.parse::<u32>().expect("a transaction").into();
    event
}

/// The same where lines go with their order, and the order's own event finds nothing to do: the later delete is the first that left a trace.
#[tokio::test(flavor = "multi_thread")]
async fn undo_does_not_bring_back_what_went_with_a_later_row_of_the_same_key() {
    let rules = DEEP.replace(", on_update: cascade", "");
    let archived = "SELECT DISTINCT transaction_id FROM entail_archive";
    let mut world = World::new(true, CUSTOMERS, ORDERS, &rules).await;
    world.gone(1).await;
    let transaction = lines(&world.shop, archived).await.remove(0);
    for order in [10, 11] {
        world.work("shop.orders", json!({"id": order}), gone_in(order, 1000, &transaction), None).await;
    }
    sql(&world.shop, "INSERT INTO orders VALUES (10, 2, NULL); INSERT INTO lines VALUES (10, 7, 'erased by its owner')").await;
    sql(&world.shop, "DELETE FROM orders WHERE id = 10").await;
    let own = lines(&world.shop, "SELECT CAST(txid_current() AS text)").await.remove(0);
    world.work("shop.orders", json!({"id": 10}), gone_in(10, 9000, &own), None).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["20|1|old"]);
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["10|1|a", "10|2|b", "20|1|old"], "{:?}", told(&undone));

    // What is back is deleted by its owner, and the same undo is asked for once more.
    sql(&world.shop, "DELETE FROM orders WHERE id = 10").await;
    world.work("shop.orders", json!({"id": 10}), gone_in(10, 9900, &own), None).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["20|1|old"]);
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["20|1|old"], "too much was put back: {:?}", told(&undone));
}

/// Where no event tells a transaction: what was put back and deleted later is no part of it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn undo_asked_for_twice_does_not_bring_back_what_was_deleted_in_between() {
    let mut world = World::new(true, CUSTOMERS, ORDERS, &DEEP.replace(", on_update: cascade", "")).await;
    world.gone(1).await;
    world.undo(root(1), OnConflict::Fail, false).await;
    sql(&world.shop, "DELETE FROM orders WHERE id = 10").await;
    world.work("shop.orders", json!({"id": 10}), gone_at("shop", "orders", json!({"id": 10}), 90_000), None).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["20|1|old"]);
    let undone = world.undo(root(1), OnConflict::Fail, false).await;
    assert_eq!(lines(&world.shop, LINES_NOW).await, ["20|1|old"], "too much was put back: {:?}", told(&undone));
}

/// Two rows had the key one after the other, and one batch tells of both: the root that comes back is the one that went last.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_comes_back_as_it_was_when_it_went_last() {
    let tables = "CREATE TABLE customers (id bigint PRIMARY KEY, name text); INSERT INTO customers VALUES (2, 'b');";
    let world = World::new(false, tables, THING_TABLES, THINGS).await;
    let record = |offset: i64, name: &str| Record {
        at: Position { partition: partition("crm.customers"), offset },
        timestamp: None,
        key: Some(json!({"id": 1}).to_string().into_bytes()),
        value: Some(gone_at("crm", "customers", json!({"id": 1, "name": name}), 1000 + offset).to_string().into_bytes()),
        headers: Vec::new(),
    };
    let records = [record(1, "old"), record(5, "new")];
    let topic = &world.engine.model.topics["crm.customers"];
    let events = records.iter().flat_map(|record| match change::decode(record, topic).expect("decodes").content {
        Content::Events(events) => events.into_iter().map(|event| (record.at.clone(), event)).collect::<Vec<_>>(),
        _ => panic!("no events"),
    });
    let batch = Batch { events: events.collect(), ..Batch::default() };
    world.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
    let roots = undo::missing_roots_of(&world.engine.model, &root(1), "it").await.expect("reads");
    let by_position = |records: &[Record]| records.iter().map(|record| (record.at.clone(), record.clone())).collect();
    let back = undo::root_rows(&world.engine.model, &roots, &by_position(&records));
    let name = |row: &undo::RootRow| row.row.as_ref().map(|row| row["name"].clone()).map_err(Clone::clone);
    assert_eq!(back.iter().map(name).collect::<Vec<_>>(), [Ok(Cell::Value("new".to_owned()))]);
    // If its topic no longer has the last one, the other is not taken for it.
    let back = undo::root_rows(&world.engine.model, &roots, &by_position(&records[..1]));
    let why = back.iter().map(name).map(|row| row.expect_err("another row")).collect::<Vec<_>>();
    assert_eq!(why, ["crm.customers[0]@1 tells of an earlier row of this key"]);
}

/// Neither header nor column says that the key changed, the two halves' position does: the row lives, and is not put in once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_whose_key_changed_is_not_put_back_beside_itself() {
    let mut world = World::new(false, CUSTOMERS, ORDERS, DEEP).await;
    world.moved(10, 77, 1000).await;
    let roots = undo::missing_roots_of(&world.engine.model, &rooted("shop.order", 10), "it").await.expect("reads");
    let back = undo::root_rows(&world.engine.model, &roots, &Default::default());
    let why = back.into_iter().map(|row| row.row.expect_err("it lives")).collect::<Vec<_>>();
    assert_eq!(why, ["its key changed, and its row lives under the new one"]);
}
