//! H47: a crash between the commits of two databases, and a middle row that is given to a living parent before the redo. What hung on it had gone
//! already, and comes back with the redo.

use std::collections::BTreeMap;

use entail::engine::{Authority, Batch, Report, Retry, WorkError};
use entail::ledger;
use serde_json::json;
use sqlx::Executor as _;

use crate::support::scripted::{Act, Cue, Gate};
use crate::support::world::*;

/// Customers and parcels in one database, orders between them in another. Parcels point at each other, and one at itself.
const CRM: &str = "
CREATE TABLE customers (id BIGINT PRIMARY KEY); INSERT INTO customers VALUES (1), (2), (3);
CREATE TABLE towns (id BIGINT PRIMARY KEY); INSERT INTO towns VALUES (1), (2);
CREATE TABLE parcels (id BIGINT PRIMARY KEY, order_id BIGINT, second BIGINT, town BIGINT REFERENCES towns (id), t TEXT, twin BIGINT);
CREATE INDEX po ON parcels (order_id); CREATE INDEX ps ON parcels (second); CREATE INDEX pt ON parcels (twin);
INSERT INTO parcels (id, order_id, second, town, t) VALUES (70, 7, NULL, 1, 'a'), (71, 7, NULL, 2, 'b'), (80, 8, NULL, 1, 'c'), (78, 7, 8, 1, 'd'), (87, 8, 7, 1, 'e'), (90, 9, NULL, 1, 'other');
UPDATE parcels SET twin = CASE id WHEN 70 THEN 71 WHEN 71 THEN 71 WHEN 78 THEN 70 END;
CREATE TABLE stickers (id BIGINT PRIMARY KEY, order_id BIGINT); CREATE INDEX so ON stickers (order_id);
INSERT INTO stickers VALUES (1, 7), (2, 8);
CREATE TABLE notes (id BIGINT PRIMARY KEY, customer BIGINT); CREATE INDEX nc ON notes (customer); INSERT INTO notes VALUES (1, 1);
";
const SHOP: &str = "
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT); CREATE INDEX oc ON orders (customer);
INSERT INTO orders VALUES (7, 1), (8, 1), (9, 2);
";
const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: crm.parcel, table: parcels, key: id, topic: crm.parcels }
  - { name: crm.sticker, table: stickers, key: id }
  - { name: crm.note, table: notes, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: parcel_order, child: crm.parcel, columns: order_id, parent: shop.order, on_delete: cascade }
  - { name: parcel_second, child: crm.parcel, columns: second, parent: shop.order, on_delete: cascade }
  - { name: parcel_twin, child: crm.parcel, columns: twin, parent: crm.parcel, on_delete: set_null }
  - { name: note_customer, child: crm.note, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: sticker_order, child: crm.sticker, columns: order_id, parent: shop.order, on_delete: set_null }
";
const PARCELS: &str = "SELECT CAST(id AS TEXT) || t FROM parcels ORDER BY id";
const STICKERS: &str = "SELECT CAST(id AS TEXT) || '>' || coalesce(CAST(order_id AS TEXT), '-') FROM stickers ORDER BY id";
const ORDERS_NOW: &str = "SELECT CAST(id AS TEXT) || '>' || CAST(customer AS TEXT) FROM orders ORDER BY id";

/// Customer 1 goes, and this batch tells of it.
async fn gone(world: &World) -> Batch {
    sql(&world.crm, "DELETE FROM customers WHERE id = 1").await;
    world.batch(("crm.customers", 5), 1, Some(&delete("crm", "customers", 1)))
}

async fn work(world: &World, batch: &Batch, epochs: &Epochs) -> Result<Report, WorkError> {
    world.engine.work(batch, Authority::Owner(epochs)).await
}

/// The parcels have gone, and the process dies before the orders do.
async fn torn(postgres: bool) -> (World, Batch, Epochs) {
    torn_in(World::new(postgres, CRM, SHOP, RULES).await).await
}

async fn torn_in(world: World) -> (World, Batch, Epochs) {
    let epochs = epochs(&world).await;
    let batch = gone(&world).await;
    world.script.cue(Cue { at: "commit", nth: 2, act: Act::Fail });
    assert!(work(&world, &batch, &epochs).await.is_err(), "the second commit was to fail");
    assert!(world.script.is_played());
    assert_eq!(lines(&world.crm, PARCELS).await, ["90other"]);
    assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>1", "8>1", "9>2"]);
    (world, batch, epochs)
}

#[tokio::test(flavor = "multi_thread")]
async fn h47_what_hung_on_a_row_that_was_given_another_parent_comes_back() {
    for postgres in [true, false] {
        let (world, batch, epochs) = torn(postgres).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let report = work(&world, &batch, &epochs).await.expect("works");
        // Parcels 78 and 87 hung on order 8 as well, which did go.
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.crm, STICKERS).await, ["1>7", "2>-"]);
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>2", "9>2"]);
        assert_eq!(report.put_back, BTreeMap::from([("crm.parcel".to_owned(), 2), ("crm.sticker".to_owned(), 1)]));
        let again = work(&world, &batch, &epochs).await.expect("works");
        assert!(again.put_back.is_empty() && again.rows.is_empty(), "a repeat does nothing: {again:?}");
        let undone = world.undo(root(1), entail::undo::OnConflict::Fail, false).await;
        assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "78d", "80c", "87e", "90other"]);
    }
}

/// The same for the other order, in whose name the parcels that hung on both went.
#[tokio::test(flavor = "multi_thread")]
async fn h47_what_hung_on_another_row_that_went_stays_away() {
    for postgres in [true, false] {
        let (world, batch, epochs) = torn(postgres).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 8").await;
        work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["80c", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.crm, STICKERS).await, ["1>-", "2>8"]);
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["8>2", "9>2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h47_without_a_rescue_nothing_comes_back() {
    for postgres in [true, false] {
        let (world, batch, epochs) = torn(postgres).await;
        let report = work(&world, &batch, &epochs).await.expect("works");
        assert!(report.put_back.is_empty(), "{report:?}");
        assert_eq!(lines(&world.crm, PARCELS).await, ["90other"]);
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["9>2"]);
        // Its key is used again, by a row that never had those parcels.
        sql(&world.shop, "INSERT INTO orders VALUES (7, 2)").await;
        let report = work(&world, &batch, &epochs).await.expect("works");
        assert!(report.put_back.is_empty(), "rows of an earlier life come back: {report:?}");
        assert_eq!(lines(&world.crm, PARCELS).await, ["90other"], "postgres: {postgres}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h47_a_parent_that_is_back_at_the_redo_keeps_what_hung_on_its_children() {
    for postgres in [true, false] {
        let (world, batch, epochs) = torn(postgres).await;
        sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
        work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "78d", "80c", "87e", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>1", "8>1", "9>2"]);
        // The note hung on the customer itself, who was gone when it went.
        assert!(lines(&world.crm, "SELECT CAST(id AS TEXT) FROM notes").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h47_newer_rows_and_what_a_constraint_refuses_hold_nothing_up() {
    for postgres in [true, false] {
        let (world, batch, epochs) = torn(postgres).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        sql(&world.crm, "INSERT INTO parcels (id, order_id, town, t) VALUES (70, 9, 1, 'newer'); DELETE FROM towns WHERE id = 2").await;
        let report = work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70newer", "90other"], "postgres: {postgres}");
        assert_eq!((report.put_back["crm.parcel"], report.not_put_back["crm.parcel"]), (0, 2));
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>2", "9>2"], "the rest is done");
    }
}

/// An application holds what the rescue needs: that refuses no row for good.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_rescue_that_somebody_is_in_the_way_of_is_done_with_the_next_attempt() {
    for at in ["putting rows back into", "setting rows of"] {
        for act in [Act::Contend, Act::Fail] {
            let (world, batch, epochs) = torn(false).await;
            sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
            world.script.cue(Cue { at, nth: 1, act });
            let report = work(&world, &batch, &epochs).await;
            assert!(world.script.is_played());
            assert!(report.is_err(), "{at}: {report:?}");
            assert_eq!(lines(&world.crm, PARCELS).await, ["90other"], "all of it, or nothing");
            let report = work(&world, &batch, &epochs).await.expect("works");
            assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "{at}");
            assert_eq!(lines(&world.crm, STICKERS).await, ["1>7", "2>-"], "{at}");
            assert!(report.not_put_back.values().all(|rows| *rows == 0), "{report:?}");
        }
    }
}

/// The crash comes once more, between the commit of what is put back and that of the rest.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_second_crash_leaves_the_rescue_whole() {
    for (postgres, nth) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        let (world, batch, epochs) = torn(postgres).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        world.script.cue(Cue { at: "commit", nth, act: Act::Fail });
        assert!(work(&world, &batch, &epochs).await.is_err());
        let is_back = nth == 2;
        assert_eq!(lines(&world.crm, PARCELS).await.len() == 3, is_back, "what is put back is committed first");
        work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}, commit {nth}");
        assert_eq!(lines(&world.crm, STICKERS).await, ["1>7", "2>-"]);
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>2", "9>2"]);
    }
}

/// The same for a root that is pending, whose redo no offset asks for.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_root_that_is_tried_again_puts_back_too() {
    for postgres in [true, false] {
        let (world, batch, epochs) = torn(postgres).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let at = &batch.events[0].0;
        let pending = ledger::Pending {
            entity: "crm.customer".to_owned(),
            columns: vec!["id".to_owned()],
            key: key(&["1"]),
            reason: "wait".to_owned(),
            detail: String::new(),
            kind: ledger::PendingKind::Gone,
            cause: at.clone(),
            partition_known: true,
            source: None,
            beside: Default::default(),
        };
        let retry = Batch { retries: vec![Retry { pending, proven: None }], ..Batch::default() };
        work(&world, &retry, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>2", "9>2"]);
    }
}

/// A parcel has a carrier as well, who lives in a database that this batch does not reach; parcel 70's is not there. It has no reason to be away,
/// unless parcels go with their carriers.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_parent_without_which_a_row_lives_does_not_keep_it_away() {
    let crm =
        CRM.replace("town BIGINT REFERENCES towns (id), t TEXT, twin BIGINT", "town BIGINT, t TEXT, twin BIGINT, carrier BIGINT DEFAULT 5");
    let crm = format!("{crm} CREATE INDEX pc ON parcels (carrier); UPDATE parcels SET carrier = 6 WHERE id = 70;");
    let rules = RULES.replace("references:", "  - { name: fleet.carrier, table: carriers, key: id, topic: fleet.carriers }\nreferences:");
    let carrier = "name: parcel_carrier, child: crm.parcel, columns: carrier, parent: fleet.carrier";
    let fleet = "CREATE TABLE carriers (id BIGINT PRIMARY KEY); INSERT INTO carriers VALUES (5);";
    for (postgres, action) in [true, false].into_iter().flat_map(|pg| ["restrict", "set_null", "set_default", "cascade"].map(|of| (pg, of)))
    {
        let rules = format!("{rules}  - {{ {carrier}, on_delete: {action} }}\n");
        let world = World::with_others(postgres, &crm, SHOP, &[("fleet", fleet)], &rules).await;
        let (world, batch, epochs) = torn_in(world).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let report = work(&world, &batch, &epochs).await.expect("works");
        let away = u64::from(action == "cascade");
        let expected = if away == 1 { vec!["71b", "90other"] } else { vec!["70a", "71b", "90other"] };
        assert_eq!(lines(&world.crm, PARCELS).await, expected, "postgres: {postgres}, {action}");
        assert_eq!((report.put_back["crm.parcel"], report.not_put_back.get("crm.parcel").copied().unwrap_or(0)), (2 - away, away));
        assert_eq!(report.put_back_orphaned.get("parcel_carrier").copied().unwrap_or(0), 1 - away, "told: {report:?}");
    }
}

/// Parcels name customer 77, who is not there, by references that do not hold them: one in shadow, one under a condition that they do not meet, and a
/// column of that name elsewhere. What took them had a condition, too. And an application works on their buyer, whom no batch of ours can take away.
#[tokio::test(flavor = "multi_thread")]
async fn h47_references_that_do_not_hold_a_row_do_not_keep_it_away() {
    let crm = format!(
        "{CRM} ALTER TABLE parcels ADD COLUMN kind TEXT; ALTER TABLE parcels ADD COLUMN shade BIGINT; ALTER TABLE parcels ADD COLUMN gift BIGINT;
         ALTER TABLE parcels ADD COLUMN buyer BIGINT; ALTER TABLE parcels ADD COLUMN extra BIGINT;
         UPDATE parcels SET kind = 'plain', shade = 77, gift = 77, extra = 77, buyer = 2;
         CREATE INDEX psh ON parcels (shade); CREATE INDEX pg ON parcels (gift); CREATE INDEX pb ON parcels (buyer);
         CREATE TABLE badges (id BIGINT PRIMARY KEY, extra BIGINT); CREATE INDEX be ON badges (extra);"
    );
    let rules = RULES
        .replace("references:", "  - { name: crm.badge, table: badges, key: id }\nreferences:")
        .replace(
            "columns: order_id, parent: shop.order, on_delete: cascade",
            "columns: order_id, parent: shop.order, when: { kind: plain }, on_delete: cascade",
        )
        .replace("name: note_customer,", "name: note_customer, archive: none,");
    let of = |name: &str, child: &str, more: &str| {
        let column = name.rsplit('_').next().unwrap_or_default();
        format!("  - {{ name: {name}, child: crm.{child}, columns: {column}, parent: crm.customer, {more} }}\n")
    };
    let more = [
        of("of_shade", "parcel", "on_delete: cascade, mode: shadow"),
        of("of_gift", "parcel", "on_delete: cascade, when: { kind: gift }"),
        of("of_extra", "badge", "on_delete: cascade"),
        of("of_buyer", "parcel", "on_delete: set_null"),
    ];
    let rules = format!("{rules}{}", more.concat());
    for postgres in [true, false] {
        let (world, batch, epochs) = torn_in(World::new(postgres, &crm, SHOP, &rules).await).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let held = "BEGIN; SELECT id FROM customers WHERE id = 2 FOR UPDATE";
        let mut application = None;
        if postgres {
            let mut other = crate::support::postgres::connect(&world.crm).await;
            other.execute(held).await.expect("holds the buyer");
            application = Some(other);
        }
        let report = work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}: {report:?}");
        assert!(report.put_back_orphaned.is_empty(), "none of these is missed: {report:?}");
        drop(application);
    }
}

/// Labels know their parcel by its code.
#[tokio::test(flavor = "multi_thread")]
async fn h47_what_hung_on_another_unique_column_of_a_row_that_returns_comes_back() {
    let crm = format!(
        "{CRM} ALTER TABLE parcels ADD COLUMN code BIGINT; UPDATE parcels SET code = id + 1000; CREATE UNIQUE INDEX pk ON parcels (code);
         CREATE TABLE labels (id BIGINT PRIMARY KEY, parcel BIGINT); CREATE INDEX lp ON labels (parcel); INSERT INTO labels VALUES (1, 1071), (2, 1080);"
    );
    let rules = RULES.replace("references:", "  - { name: crm.label, table: labels, key: id }\nreferences:");
    let rules = format!(
        "{rules}  - {{ name: label_parcel, child: crm.label, columns: parcel, parent: crm.parcel, parent_columns: code, on_delete: cascade }}\n"
    );
    for postgres in [true, false] {
        let full = if postgres { "ALTER TABLE parcels REPLICA IDENTITY FULL;" } else { "" };
        let (world, batch, epochs) = torn_in(World::new(postgres, &format!("{crm} {full}"), SHOP, &rules).await).await;
        assert!(lines(&world.crm, "SELECT CAST(id AS TEXT) FROM labels").await.is_empty());
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.crm, "SELECT CAST(id AS TEXT) FROM labels").await, ["1"], "postgres: {postgres}");
    }
}

/// Where keys may change a root waits for its proof. Its tombstone comes in a batch of its own meanwhile: the cascade is the delete's all the same, and
/// an heir, who knows only the ledger, finds what it took.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_tombstone_in_a_batch_of_its_own_begins_no_other_cascade() {
    let follows = |name: &str| format!("{name}, on_delete: cascade, on_update: cascade }}");
    let rules = RULES.replace("parent: crm.customer, on_delete: cascade }", &follows("parent: crm.customer"));
    for postgres in [true, false] {
        let world = World::new(postgres, CRM, SHOP, &rules).await;
        let epochs = epochs(&world).await;
        let batch = gone(&world).await;
        assert_eq!(work(&world, &batch, &epochs).await.expect("works").waiting.len(), 1);
        let tombstone = world.batch(("crm.customers", 6), 1, None);
        let mut waiting = work(&world, &tombstone, &epochs).await.expect("works").waiting;
        let again = |one: entail::engine::Waiting| {
            let retries = vec![Retry { pending: one.pending, proven: Some(one.seen) }];
            Batch { retries, ..Batch::default() }
        };
        world.script.cue(Cue { at: "commit", nth: 2, act: Act::Fail });
        assert!(work(&world, &again(waiting.remove(0)), &epochs).await.is_err(), "the second commit was to fail");
        assert_eq!(lines(&world.crm, PARCELS).await, ["90other"]);
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let heir = world.pending().await.into_iter().map(|pending| Retry { pending, proven: None }).collect();
        let heir = work(&world, &Batch { retries: heir, ..Batch::default() }, &epochs).await.expect("works");
        for one in heir.waiting {
            work(&world, &again(one), &epochs).await.expect("works");
        }
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>2", "9>2"]);
    }
}

/// Keys may change: the root waited for its proof, and the process died of the second commit. Then all orders are given to another customer.
async fn torn_and_saved(postgres: bool) -> (World, Epochs) {
    let follows = |name: &str| format!("{name}, on_delete: cascade, on_update: cascade }}");
    let rules = RULES.replace("parent: crm.customer, on_delete: cascade }", &follows("parent: crm.customer"));
    let world = World::new(postgres, &CRM.replace("INSERT INTO notes VALUES (1, 1);", ""), SHOP, &rules).await;
    let epochs = epochs(&world).await;
    let batch = gone(&world).await;
    let one = work(&world, &batch, &epochs).await.expect("works").waiting.remove(0);
    let proven = Batch { retries: vec![Retry { pending: one.pending, proven: Some(one.seen) }], ..Batch::default() };
    world.script.cue(Cue { at: "commit", nth: 2, act: Act::Fail });
    assert!(work(&world, &proven, &epochs).await.is_err(), "the second commit was to fail");
    assert_eq!(lines(&world.crm, PARCELS).await, ["90other"]);
    sql(&world.shop, "UPDATE orders SET customer = 2 WHERE customer = 1").await;
    (world, epochs)
}

/// All parcels are there again, and nothing of the root is left to do.
async fn assert_back(world: &World, report: &Report) {
    assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "78d", "80c", "87e", "90other"], "WRONG DELETION: {report:?}");
    assert!(world.pending().await.iter().all(|pending| pending.key != key(&["1"])), "it is done with");
}

/// Meanwhile the key became unclear, and no row points at it any more: there is nothing to wait for, and yet something to put back.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_root_that_became_unclear_and_has_no_rows_puts_back_what_was_taken() {
    for postgres in [true, false] {
        let (mut world, epochs) = torn_and_saved(postgres).await;
        // Customer 5 had become customer 1, says a record that comes late, and another one has the key 5.
        sql(&world.crm, "INSERT INTO customers VALUES (5)").await;
        let header = Some(("__debezium.newkey", json!({"id": 1})));
        world.work("crm.customers", json!({"id": 5}), gone_at("crm", "customers", json!({"id": 5}), 900), header).await;
        let heir = world.pending().await.into_iter().map(|pending| Retry { pending, proven: None }).collect();
        let report = work(&world, &Batch { retries: heir, ..Batch::default() }, &epochs).await.expect("works");
        assert_back(&world, &report).await;
    }
}

/// Meanwhile a record on another partition told of the key, too, and ends the root: its cascade has another name.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_record_on_another_partition_puts_back_what_was_taken_in_the_first_ones_name() {
    for postgres in [true, false] {
        let (world, _) = torn_and_saved(postgres).await;
        let mut late = world.batch(("crm.customers", 3), 1, Some(&delete("crm", "customers", 1)));
        late.events.iter_mut().for_each(|(at, _)| at.partition.partition = 1);
        late.progress.clear();
        let report = world.engine.work(&late, Authority::Replay { apply: true }).await.expect("works");
        assert_back(&world, &report).await;
    }
}

/// What refuses only at the end of a transaction does so before the parcels have gone in the other one.
#[tokio::test(flavor = "multi_thread")]
async fn h47_what_is_checked_at_the_end_is_checked_before_anything_is_committed() {
    let shop = format!(
        "{SHOP} CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE integrity_constraint_violation; END $$;
         CREATE CONSTRAINT TRIGGER keep AFTER DELETE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.id = 8) EXECUTE FUNCTION keep();"
    );
    let world = World::new(true, CRM, &shop, RULES).await;
    let epochs = epochs(&world).await;
    let batch = gone(&world).await;
    let error = work(&world, &batch, &epochs).await.expect_err("order 8 may not go");
    assert_eq!(error.disposition(), entail::error::Disposition::DeadLetter, "{error}");
    assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "78d", "80c", "87e", "90other"], "WRONG DELETION: {error}");
    assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>1", "8>1", "9>2"]);
}

/// The order that was given another parent pointed at the customer twice: it loses its payer by the same cascade, and is not taken by it.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_saved_row_that_the_cascade_changes_keeps_what_hung_on_it() {
    let shop = format!(
        "{SHOP} ALTER TABLE orders ADD COLUMN payer BIGINT; CREATE INDEX op ON orders (payer); UPDATE orders SET payer = 1 WHERE id = 7;"
    );
    let rules =
        format!("{RULES}  - {{ name: order_payer, child: shop.order, columns: payer, parent: crm.customer, on_delete: set_null }}\n");
    for postgres in [true, false] {
        let (world, batch, epochs) = torn_in(World::new(postgres, CRM, &shop, &rules).await).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let report = work(&world, &batch, &epochs).await.expect("works");
        assert_eq!(report.rows["order_payer"], 1);
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.crm, STICKERS).await, ["1>7", "2>-"]);
    }
}

/// More than one transaction can look at.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_rescue_that_is_too_large_is_told() {
    let (mut world, batch, epochs) = torn(false).await;
    world.engine.rows_per_transaction = 4;
    sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
    let report = work(&world, &batch, &epochs).await.expect("works");
    assert_eq!(report.not_looked_at.values().copied().collect::<Vec<_>>(), [8]);
}

/// The record is worked once more by a replay, which settles the root as a worker would.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_replay_puts_back_what_an_interrupted_attempt_took_too() {
    for postgres in [true, false] {
        let (world, batch, _) = torn(postgres).await;
        sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
        let again = Batch { events: batch.events, ..Batch::default() };
        world.engine.work(&again, Authority::Replay { apply: true }).await.expect("works");
        assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"], "postgres: {postgres}");
        assert_eq!(lines(&world.shop, ORDERS_NOW).await, ["7>2", "9>2"]);
    }
}

/// The middle row is deleted while its rows come back: its own event finds them only once they are there.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_middle_row_stays_until_its_rows_are_back() {
    let (world, batch, epochs) = torn(true).await;
    sql(&world.shop, "UPDATE orders SET customer = 2 WHERE id = 7").await;
    let gate = std::sync::Arc::new(Gate::default());
    world.script.cue(Cue { at: "commit", nth: 1, act: Act::Hold(std::sync::Arc::clone(&gate)) });
    let deleting = async {
        gate.reached.notified().await;
        let mut other = crate::support::postgres::connect(&world.shop).await;
        let deleted = other.execute("SET lock_timeout = 200; DELETE FROM orders WHERE id = 7").await;
        gate.go.notify_one();
        deleted
    };
    let (worked, deleted) = tokio::join!(work(&world, &batch, &epochs), deleting);
    worked.expect("works");
    let refused = deleted.expect_err("ORPHAN: the order goes, and nobody would look for the parcels that come back").to_string();
    assert!(refused.contains("lock timeout"), "{refused}");
    assert_eq!(lines(&world.crm, PARCELS).await, ["70a", "71b", "90other"]);
}
