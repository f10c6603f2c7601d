//! What key changes leave behind: rows that did not follow, keys that are used again, an id and a code of the same text.

use serde_json::json;

use crate::support::engine::Bench;
use crate::support::members::*;
use crate::support::world::*;

/// Code 1 became 5 while the badges' reference was shut, and id 1 became 2, which the visit followed.
async fn rekeyed_beside_a_shut_code() -> Bench {
    let mut bench = seeded(&[visit(FOLLOW), badge(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 90), (3, 5)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 1)").await;
    latch(&bench, "badge_code").await;
    let mut records = vec![recode(&mut bench, 3, (1, 5), 10)];
    records.extend(rekey(&mut bench, (1, 2), 90, 20));
    settle(&bench, &records).await;
    bench
}

/// An id and a code of the same text are two things: what is done with the one is not done with the other.
#[tokio::test(flavor = "multi_thread")]
async fn h82_a_key_change_under_a_shut_reference_stays_open_beside_one_of_another_column() {
    let bench = rekeyed_beside_a_shut_code().await;
    assert_eq!((bench.lines(VISITS).await, bench.lines(BADGES).await), (vec!["1|2".to_owned()], vec!["1|1".to_owned()]));
    bench.execute("shop", "DELETE FROM entail_latches").await;
    retry_pending(&bench).await;
    assert_eq!(bench.lines(BADGES).await, ["1|5"], "SILENT MISS: the badge never followed");
}

/// A reference does not follow the key: its rows stay behind, and a new row of that key is not theirs, whatever follows beside it.
#[tokio::test(flavor = "multi_thread")]
async fn h23_rows_that_stayed_behind_a_key_do_not_go_with_the_next_row_of_that_key() {
    for more in [String::new(), note(FOLLOW)] {
        let mut bench = seeded(&[visit("on_delete: cascade"), more.clone()].concat()).await;
        bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
        let halves = rekey(&mut bench, (1, 2), 70, 10);
        settle(&bench, &halves).await;
        let owners = bench.lines("SELECT owner FROM notes").await;
        assert_eq!((bench.lines(VISITS).await, owners), (vec!["1|1".to_owned()], vec![if more.is_empty() { "1" } else { "2" }.to_owned()]));
        let records = [member(&mut bench, "c", (1, 99), 20, &[]), member(&mut bench, "d", (1, 99), 30, &[])];
        settle(&bench, &records).await;
        assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: it is of the row that is 2 now");
        let pending = bench.lines(PENDING).await;
        assert!(matches!(pending.as_slice(), [one] if one.ends_with("|ambiguous")), "SILENT MISS: {pending:?}");
    }
}

/// Visit 1 stayed behind when 1 became 2, and note 1 followed; then another row took the key, with a note of its own.
async fn left_and_reused() -> Bench {
    let mut bench = seeded(&[visit("on_delete: cascade"), note(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    let again = member(&mut bench, "c", (1, 99), 20, &[]);
    settle(&bench, &[again]).await;
    bench.execute("shop", "INSERT INTO notes VALUES (2, 1, 'customer', 'open')").await;
    bench
}

const NOTES: &str = "SELECT id, owner FROM notes ORDER BY id";

/// Only a tombstone tells that the next row went, or the key change is told again: neither gives its rows to the first one.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_tombstone_of_a_key_that_was_left_and_used_again_gives_no_row_away() {
    let mut bench = left_and_reused().await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    settle(&bench, &[tombstone]).await;
    assert_eq!((bench.lines(NOTES).await, bench.lines(VISITS).await), (vec!["1|2".to_owned(), "2|1".to_owned()], vec!["1|1".to_owned()]));
    assert_eq!(bench.lines(PENDING).await.len(), 1, "SILENT MISS");
    let mut bench = left_and_reused().await;
    let repeated = member(&mut bench, "d", (1, 70), 10, &[("__debezium.newkey", json!({"id": 2}))]);
    settle(&bench, &[repeated]).await;
    assert_eq!(bench.lines(NOTES).await, ["1|2", "2|1"], "WRONG CHANGE: note 2 is of the row that went");
}

/// It stays so for a month and longer, and ends with the row that stayed.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_key_is_free_again_when_the_rows_that_stayed_are_gone() {
    let mut bench = left_and_reused().await;
    let_a_month_pass(&bench).await;
    let gone = member(&mut bench, "d", (1, 99), 30, &[]);
    settle(&bench, &[gone]).await;
    assert_eq!((bench.lines(NOTES).await.len(), bench.lines(VISITS).await.len(), bench.lines(PENDING).await.len()), (2, 1, 1));
    // A person has looked: the visit is deleted, and so is the note of the row that went.
    bench.execute("shop", "DELETE FROM visits; DELETE FROM notes WHERE id = 2").await;
    retry_pending(&bench).await;
    assert!(bench.lines(PENDING).await.is_empty());
    bench.execute("shop", "INSERT INTO visits VALUES (3, 1)").await;
    let records = [member(&mut bench, "c", (1, 98), 40, &[]), member(&mut bench, "d", (1, 98), 50, &[])];
    settle(&bench, &records).await;
    assert!(bench.lines(VISITS).await.is_empty() && bench.lines(PENDING).await.is_empty());
    assert_eq!(bench.lines(NOTES).await, ["1|2"]);
}

/// Things are in shadow when 1 becomes 9: nothing comes to them, so they stay behind. By the time they are enforced another row is 1.
#[tokio::test(flavor = "multi_thread")]
async fn h23_rows_that_stayed_behind_in_shadow_do_not_go_with_the_next_row_of_that_key_once_they_are_enforced() {
    for (postgres, others, follow) in [
        (false, true, ", on_update: cascade"),
        (false, false, ", on_update: cascade"),
        (true, true, ", on_update: cascade"),
        (false, false, ""),
    ] {
        let enforced =
            THINGS.replace("on_delete: cascade", &format!("on_delete: cascade{follow}")).replace("set_null", &format!("set_null{follow}"));
        let shadow = enforced.replace("on_delete: cascade", "mode: shadow, on_delete: cascade");
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, &shadow).await;
        if !others {
            sql(&world.shop, "DELETE FROM others").await;
        }
        rekeyed(&mut world, (1, 9), 100).await;
        let owners = lines(&world.shop, "SELECT CAST(customer AS TEXT) FROM others ORDER BY id").await;
        assert_eq!(owners, if others { vec!["9", "2"] } else { vec![] }, "the enforced reference follows");
        assert_eq!(lines(&world.shop, THINGS_NOW).await, ["1|1|one", "2|2|two", "3|1|three"]);
        world.rebind(Some(&enforced)).await;
        world.work("crm.customers", json!({"id": 1}), made("crm", "customers", &json!({"id": 1}), 200), None).await;
        world.work("crm.customers", json!({"id": 1}), gone_at("crm", "customers", json!({"id": 1}), 300), None).await;
        assert_eq!(
            lines(&world.shop, THINGS_NOW).await,
            ["1|1|one", "2|2|two", "3|1|three"],
            "WRONG DELETION: they are of the row that is 9 now"
        );
        let pending = world.pending().await;
        assert!(matches!(pending.as_slice(), [one] if one.key == key(&["1"])), "SILENT MISS: {pending:?}");
        // A person gives them to where they belong: the key is its next row's own.
        sql(&world.shop, "UPDATE things SET customer = 9 WHERE customer = 1").await;
        world.retry().await;
        sql(&world.shop, "INSERT INTO things VALUES (4, 1, 'four')").await;
        world.work("crm.customers", json!({"id": 1}), made("crm", "customers", &json!({"id": 1}), 400), None).await;
        world.work("crm.customers", json!({"id": 1}), gone_at("crm", "customers", json!({"id": 1}), 500), None).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await, ["1|9|one", "2|2|two", "3|9|three"], "SILENT MISS");
        assert!(world.pending().await.is_empty());
    }
}

/// Things are in shadow when 1 becomes 9, and enforced when the next row of that key becomes 5: whose they are is not told by the key.
#[tokio::test(flavor = "multi_thread")]
async fn h23_rows_that_stayed_behind_in_shadow_do_not_follow_the_next_row_of_that_key_either() {
    let enforced = THINGS.replace("on_delete: cascade", "on_delete: cascade, on_update: cascade");
    let mut world =
        World::new(false, CUSTOMERS, THING_TABLES, &enforced.replace("on_delete: cascade", "mode: shadow, on_delete: cascade")).await;
    rekeyed(&mut world, (1, 9), 100).await;
    world.rebind(Some(&enforced)).await;
    sql(&world.crm, "INSERT INTO customers VALUES (1)").await;
    world.work("crm.customers", json!({"id": 1}), made("crm", "customers", &json!({"id": 1}), 200), None).await;
    sql(&world.shop, "INSERT INTO things VALUES (4, 1, 'four')").await;
    rekeyed(&mut world, (1, 5), 300).await;
    let stay = ["1|1|one", "2|2|two", "3|1|three", "4|1|four"];
    assert_eq!(lines(&world.shop, THINGS_NOW).await, stay, "WRONG CHANGE: two of them are of the row that is 9 now");
    assert_eq!(world.pending().await.len(), 1, "SILENT MISS");
    world.work("crm.customers", json!({"id": 5}), gone_at("crm", "customers", json!({"id": 5}), 400), None).await;
    assert_eq!(lines(&world.shop, THINGS_NOW).await, stay, "WRONG DELETION");
}

/// The customer has another key, and both halves of the change are told.
async fn rekeyed(world: &mut World, (old, new): (i64, i64), lsn: i64) {
    sql(&world.crm, &format!("UPDATE customers SET id = {new} WHERE id = {old}")).await;
    let header = Some(("__debezium.newkey", json!({"id": new})));
    world.work("crm.customers", json!({"id": old}), gone_at("crm", "customers", json!({"id": old}), lsn), header).await;
    world.work("crm.customers", json!({"id": new}), made("crm", "customers", &json!({"id": new}), lsn), None).await;
}

/// A reference that is in shadow, whatever rows it left behind, keeps nothing of the others from going.
#[tokio::test(flavor = "multi_thread")]
async fn h86_rows_that_stayed_behind_in_shadow_hold_nothing_back_that_is_enforced() {
    let mut bench = seeded(&[visit(FOLLOW), note("on_delete: cascade, mode: shadow")].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    bench.execute("shop", "INSERT INTO visits VALUES (2, 1)").await;
    let records = [member(&mut bench, "c", (1, 99), 20, &[]), member(&mut bench, "d", (1, 99), 30, &[])];
    settle(&bench, &records).await;
    assert_eq!((bench.lines(VISITS).await, bench.lines(PENDING).await), (vec!["1|2".to_owned()], vec![]), "SILENT MISS");
    assert_eq!(bench.lines(NOTES).await, ["1|1"]);
}

/// Rows in shadow were not read, as another root of the batch has too many of them: those of a key that changed are asked for by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn h23_what_stays_behind_in_shadow_is_asked_for_where_the_batch_has_too_many_rows() {
    let of_note = |more: &str| note(&format!("on_delete: cascade, on_update: cascade{more}"));
    for stays in [false, true] {
        let mut bench = seeded(&[visit(FOLLOW), of_note(", mode: shadow")].concat()).await;
        bench.engine.rows_per_transaction = 3;
        bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
        bench.execute("shop", "INSERT INTO notes VALUES (1, 5, 'c', 'o'), (2, 5, 'c', 'o'), (3, 5, 'c', 'o'), (4, 5, 'c', 'o')").await;
        if stays {
            bench.execute("shop", "INSERT INTO notes VALUES (9, 1, 'c', 'o')").await;
        }
        let mut records = rekey(&mut bench, (1, 2), 70, 10).to_vec();
        records.push(member(&mut bench, "d", (5, 50), 11, &[]));
        settle(&bench, &records).await;
        assert_eq!(bench.lines("SELECT state FROM entail_moves").await, [if stays { "left" } else { "done" }]);
    }
}

/// The table of a reference in shadow is gone: the reference is shut, and what is enforced follows the key. What it may have left counts.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_reference_in_shadow_that_cannot_be_read_is_shut_and_counts_as_one_that_left_rows() {
    let mut bench = seeded(&[visit(FOLLOW), note("on_delete: cascade, mode: shadow")].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); DROP TABLE notes").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    assert_eq!(bench.lines(VISITS).await, ["1|2"], "SILENT MISS");
    assert_eq!(bench.lines("SELECT scope FROM entail_latches").await, ["reference:note_member"]);
    assert_eq!(bench.lines("SELECT state, seen_to FROM entail_moves").await, ["left|[\"visit_member\"]"]);
    // Used again, while nobody can look.
    let records = [member(&mut bench, "c", (1, 99), 20, &[])];
    settle(&bench, &records).await;
    assert_eq!(bench.lines("SELECT state FROM entail_moves").await, ["reused"]);
}

/// Nothing told of the new key yet, and the row holds already what the rule would set: it stays, and is not the next row's.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_row_that_holds_what_would_be_set_stays_behind_an_unclear_key() {
    let closes = "on_delete: { set: { state: closed } }, on_update: cascade";
    let mut bench = seeded(&note(closes)).await;
    bench.execute("shop", "INSERT INTO notes VALUES (1, 1, 'c', 'closed')").await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    settle(&bench, &[tombstone]).await;
    let state = bench.lines("SELECT state FROM entail_moves").await;
    assert!(state.iter().all(|state| state != "done"), "whose is note 1, when another row is 1? {state:?}");
}

/// The service gave its rows the new key by itself, a moment after the look at them: the key is its next row's own.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_key_that_the_rows_have_left_by_the_time_it_is_used_again_is_its_next_rows_own() {
    // Be it that another reference follows, or none.
    for (left, follows) in [(false, note(FOLLOW)), (true, note(FOLLOW)), (false, String::new()), (true, String::new())] {
        let expected = if left { vec!["1|1".to_owned(), "3|1".to_owned()] } else { vec![] };
        let mut bench = seeded(&[visit("on_delete: cascade"), follows].concat()).await;
        bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
        let halves = rekey(&mut bench, (1, 2), 70, 10);
        settle(&bench, &halves).await;
        assert_eq!(bench.lines("SELECT state FROM entail_moves").await, ["left"]);
        if !left {
            bench.execute("shop", "UPDATE visits SET member = 2").await;
        }
        let again = member(&mut bench, "c", (1, 99), 20, &[]);
        settle(&bench, &[again]).await;
        bench.execute("shop", "INSERT INTO visits VALUES (3, 1)").await;
        let gone = member(&mut bench, "d", (1, 99), 30, &[]);
        settle(&bench, &[gone]).await;
        assert_eq!(bench.lines("SELECT id, member FROM visits WHERE member = 1 ORDER BY id").await, expected);
        assert_eq!(bench.lines(PENDING).await.len(), usize::from(left));
    }
}

/// Where every reference follows, the key is free for another row.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_key_that_all_rows_have_left_is_its_next_rows_own() {
    let mut bench = seeded(&[visit("on_delete: cascade"), note(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (2, 1, 'customer', 'open')").await;
    let records = [member(&mut bench, "c", (1, 99), 20, &[]), member(&mut bench, "d", (1, 99), 30, &[])];
    settle(&bench, &records).await;
    assert_eq!((bench.lines(VISITS).await, bench.lines("SELECT id, owner FROM notes").await), (vec![], vec!["1|2".to_owned()]));
    assert!(bench.lines(PENDING).await.is_empty());
}

/// 1 became 2, and another row is 1 now. An old delete of 1 is told again: it is of neither.
#[tokio::test(flavor = "multi_thread")]
async fn h3_an_old_delete_of_a_key_that_another_row_has_now_is_spared() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    bench.execute("crm", "INSERT INTO members VALUES (1, 99)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
    let forged = member(&mut bench, "d", (1, 99), 5, &[]);
    let report = bench.work(&[forged]).await.expect("works");
    assert_eq!((report.spared, report.parked.len(), bench.lines(VISITS).await), (1, 0, vec!["1|1".to_owned()]));
}

/// The key had a life of its own since it changed, and only a tombstone tells of its end.
#[tokio::test(flavor = "multi_thread")]
async fn h114_a_tombstone_of_a_key_that_lived_again_does_not_follow_the_older_change() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    let again = member(&mut bench, "c", (1, 99), 20, &[]);
    settle(&bench, &[again]).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    settle(&bench, &[tombstone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG CHANGE: it was never a visit of the row that is 2 now");
    assert_eq!(bench.lines(PENDING).await.len(), 1, "SILENT MISS: nobody is told");
}

/// The badge's reference was shut when its code changed; by the time it is open, another member has that code.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_code_that_lives_again_before_its_change_was_worked_is_listed_whatever_became_of_an_id_of_that_text() {
    let bench = rekeyed_beside_a_shut_code().await;
    bench.execute("crm", "INSERT INTO members VALUES (7, 1)").await;
    bench.execute("shop", "DELETE FROM entail_latches").await;
    retry_pending(&bench).await;
    assert_eq!(bench.lines(BADGES).await, ["1|1"]);
    assert_eq!(bench.lines(PENDING).await, ["[\"code\"]|[\"1\"]|ambiguous"], "SILENT MISS: it is of the member whose code is 5 now");
}

/// Code 5 became 6, and then a member came whose id is 5. That is no new life of the code: an old delete of it is still followed to 6.
#[tokio::test(flavor = "multi_thread")]
async fn h114_a_life_of_an_id_is_no_life_of_a_code_of_that_text() {
    let mut bench = seeded(&[visit(FOLLOW), badge(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (3, 6), (5, 99)").await;
    let records = [recode(&mut bench, 3, (5, 6), 20), member(&mut bench, "c", (5, 99), 30, &[])];
    for record in records {
        settle(&bench, &[record]).await;
    }
    bench.execute("shop", "INSERT INTO badges VALUES (1, 5)").await;
    let repeated = member(&mut bench, "d", (3, 5), 10, &[]);
    settle(&bench, &[repeated]).await;
    assert_eq!(bench.lines(BADGES).await, ["1|6"], "WRONG DELETION: the member with this badge has code 6");
}
