//! Undo beside a worker: what is under way, and what is told again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use entail::engine::Authority;
use entail::ledger::Choice;
use entail::undo::OnConflict;

use crate::support::scripted::{Act, Cue, Gate};
use crate::support::wait::wait_for;
use crate::support::worker::DEADLINE;
use crate::support::world::*;

/// Customer 1 went twice. The second end is undone, then the first; and then the second is told once more.
#[tokio::test(flavor = "multi_thread")]
async fn h92_what_was_undone_of_a_newer_cascade_stays_undone_when_an_older_one_is_undone_too() {
    for postgres in [true, false] {
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        world.gone(1).await;
        sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
        sql(&world.shop, "INSERT INTO things VALUES (50, 1, 'second life')").await;
        world.gone(1).await;
        for offset in [2, 1] {
            let caused = format!("SELECT DISTINCT cascade_id FROM entail_cascades WHERE cause = 'crm.customers[0]@{offset}'");
            let cascades = lines(&world.shop, &caused).await;
            assert_eq!(cascades.len(), 1);
            let undone = world.undo(Choice { cascades, ..Choice::default() }, OnConflict::Fail, false).await;
            assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        }
        let now = lines(&world.shop, THINGS_NOW).await;
        assert_eq!(now, ["1|1|one", "2|2|two", "3|1|three", "50|1|second life"]);
        // A connector that repeats itself: the same change, further on in the topic.
        world.told_gone(1).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await, now, "WRONG DELETION: it was undone (postgres: {postgres})");
    }
}

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: crm.note, table: notes, key: id }
  - { name: shop.thing, table: things, key: id }
references:
  - { name: note_customer, child: crm.note, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: thing_customer, child: shop.thing, columns: customer, parent: crm.customer, on_delete: cascade }
";
const NOTES: &str = "CREATE TABLE notes (id bigint PRIMARY KEY, customer bigint); CREATE INDEX nc ON notes (customer); INSERT INTO notes VALUES (1, 1), (2, 2);";
const NOTES_NOW: &str = "SELECT CAST(id AS TEXT) FROM notes ORDER BY id";

/// A cascade has committed in one database and stands before the commit of the other.
#[tokio::test(flavor = "multi_thread")]
async fn h92_an_undo_waits_for_the_transactions_of_a_cascade_that_is_under_way() {
    let world = World::new(true, &format!("{CUSTOMERS}{NOTES}"), THING_TABLES, RULES).await;
    let epochs = epochs(&world).await;
    sql(&world.crm, "DELETE FROM customers WHERE id = 1").await;
    let batch = world.batch(("crm.customers", 5), 1, Some(&delete("crm", "customers", 1)));
    let gate = Arc::new(Gate::default());
    world.script.cue(Cue { at: "commit", nth: 2, act: Act::Hold(Arc::clone(&gate)) });
    let has_ended = AtomicBool::new(false);
    let undoing = async {
        gate.reached.notified().await;
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        has_ended.store(true, Ordering::Release);
        undone
    };
    let letting_go = async {
        let waits = "SELECT CAST(pid AS text) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_for("the undo to wait, or to end", DEADLINE, async || {
            let waiting = lines(&world.crm, waits).await.len() + lines(&world.shop, waits).await.len();
            (waiting > 0 || has_ended.load(Ordering::Acquire)).then_some(())
        })
        .await;
        gate.go.notify_one();
    };
    let (worked, undone, ()) = tokio::join!(world.engine.work(&batch, Authority::Owner(&epochs)), undoing, letting_go);
    worked.expect("works");
    assert_eq!(undone.left(), 0, "{:?}", undone.tables);
    let now = (lines(&world.crm, NOTES_NOW).await, lines(&world.shop, THINGS_NOW).await);
    assert_eq!(now.0, ["1", "2"], "the note went behind the undo, and nothing says so");
    assert_eq!(now.1, ["1|1|one", "2|2|two", "3|1|three"], "the things went behind the undo, and nothing says so");
}
