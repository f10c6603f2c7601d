//! Parents that are pointed at by two unique keys: what is known of one bears upon the other.

use std::collections::BTreeMap;

use entail::change::{NextOffset, Record};
use entail::engine::{Authority, Batch, Retry, WorkError};
use entail::ledger;
use entail::sink::SinkError;
use serde_json::json;

use crate::support::engine::{Bench, partition};
use crate::support::members::*;
use crate::support::scripted::{Act, Cue};

const CASCADE: &str = "on_delete: cascade";
const RESTRICT: &str = "on_delete: restrict";

/// One of each that says 1 or 70.
async fn with_children(references: &str) -> Bench {
    let bench = seeded(references).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 70); INSERT INTO bills VALUES (1, 70)").await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn h22_a_value_that_another_row_took_over_before_the_change_was_read_whole() {
    let mut bench = with_children(&badge(FOLLOW)).await;
    // Member 1 became 2 and its code 70 became 72, in one statement. Then 70 was given to member 3.
    bench.execute("crm", "INSERT INTO members VALUES (2, 72), (3, 70)").await;
    let old = member(&mut bench, "d", (1, 70), 20, &[("__debezium.newkey", json!({"id": 2}))]);
    let new = member(&mut bench, "c", (2, 72), 20, &[("__debezium.oldkey", json!({"id": 1}))]);
    let heir = member(&mut bench, "c", (3, 70), 25, &[]);
    for records in [[old].as_slice(), &[new, heir]] {
        let report = bench.work(records).await.expect("works");
        bench.prove(report.waiting).await.expect("works");
        assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|70"], "two rows may be meant");
    }
    bench.execute("crm", "DELETE FROM members WHERE id = 3").await;
    let gone = member(&mut bench, "d", (3, 70), 40, &[]);
    let report = bench.work(&[gone]).await.expect("works");
    bench.prove(report.waiting).await.expect("works");
    assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|72"], "WRONG DELETION, or not followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn h22_a_value_that_was_taken_over_in_two_records_is_not_followed_further() {
    let mut bench = with_children(&badge(FOLLOW)).await;
    // Code 70 became 75 (not worked yet: 70 lives again). Member 2 took 70 over with another id: its own badge says 70, too.
    bench.execute("crm", "INSERT INTO members VALUES (1, 75), (3, 70)").await;
    let source = json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "members", "lsn": 10});
    let update = json!({"op": "u", "before": {"id": 1, "code": 70}, "after": {"id": 1, "code": 75}, "source": source});
    let update = bench.record("crm.main.members", &json!({"id": 1}), Some(&update), &[]);
    let old = member(&mut bench, "d", (2, 60), 20, &[("__debezium.newkey", json!({"id": 3}))]);
    let new = member(&mut bench, "c", (3, 70), 20, &[("__debezium.oldkey", json!({"id": 2}))]);
    for record in [update, old, new] {
        let report = bench.work(&[record]).await.expect("works");
        bench.prove(report.waiting).await.expect("works");
    }
    bench.execute("crm", "DELETE FROM members WHERE id = 3").await;
    let gone = member(&mut bench, "d", (3, 70), 40, &[]);
    let report = bench.work(&[gone]).await.expect("works");
    bench.prove(report.waiting).await.expect("works");
    assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|70"], "whose badge it is, nobody can tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_latch_does_not_lift_a_restrict() {
    let mut bench = with_children(&[visit(CASCADE), badge(CASCADE), bill(RESTRICT)].concat()).await;
    bench
        .execute(
            "shop",
            "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:badge_code', 'halted', 'a test')",
        )
        .await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    bench.work(&[gone]).await.expect("works");
    assert_eq!(bench.lines("SELECT id FROM visits").await, ["1"], "WRONG DELETION: bills of the member's code hold it");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_tombstone_without_a_position_does_not_lift_a_restrict() {
    let mut bench = with_children(&[visit(CASCADE), bill(RESTRICT)].concat()).await;
    let gone = member(&mut bench, "d", (1, 70), 0, &[]);
    bench.work(&[gone]).await.expect("works");
    assert_eq!(bench.lines("SELECT id FROM visits").await, ["1"]);
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    bench.work(&[tombstone]).await.expect("works");
    assert_eq!(bench.lines("SELECT id FROM visits").await, ["1"], "WRONG DELETION: bills of the member's code hold it");
    bench.execute("shop", "DELETE FROM bills").await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    bench.work(&[tombstone]).await.expect("works");
    assert!(bench.lines("SELECT id FROM visits").await.is_empty(), "nothing holds it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn h31_a_worker_that_lost_its_partition_does_not_finish_what_waits() {
    let mut bench = with_children(&visit(FOLLOW)).await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    let report = bench.work(&[gone]).await.expect("works");
    bench.take_over("crm.main.members").await;
    let retries = report.waiting.into_iter().map(|one| Retry { pending: one.pending, proven: Some(one.seen) }).collect();
    let worked = bench.engine.work(&Batch { retries, ..Batch::default() }, Authority::Owner(&bench.epochs)).await;
    assert!(matches!(worked, Err(WorkError::Sink(SinkError::Fenced { .. }))), "{worked:?}");
    assert_eq!(bench.lines("SELECT id FROM visits").await, ["1"], "WRONG DELETION by a worker without its partition");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_value_whose_fate_is_unclear_does_not_lift_a_restrict() {
    let mut bench = with_children(&[visit(CASCADE), bill(RESTRICT)].concat()).await;
    for (new, lsn) in [(71, 5), (72, 6)] {
        let source = json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "members", "lsn": lsn});
        let update = json!({"op": "u", "before": {"id": 1, "code": 70}, "after": {"id": 1, "code": new}, "source": source});
        let update = bench.record("crm.main.members", &json!({"id": 1}), Some(&update), &[]);
        bench.work(&[update]).await.expect("works");
    }
    let moves = bench.lines("SELECT old_key, new_key, state FROM entail_moves ORDER BY new_key").await;
    assert_eq!(moves, [r#"["70"]|["71"]|open"#, r#"["70"]|["72"]|open"#], "two changes of one value, and neither is worked");
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    bench.work(&[gone]).await.expect("works");
    assert_eq!(bench.lines("SELECT id FROM visits").await, ["1"], "WRONG DELETION: a bill may hold the member");
}

#[tokio::test(flavor = "multi_thread")]
async fn h22_a_value_is_followed_as_soon_as_its_new_row_is_read() {
    let mut bench = with_children(&badge(FOLLOW)).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 72)").await;
    let old = member(&mut bench, "d", (1, 70), 20, &[("__debezium.newkey", json!({"id": 2}))]);
    bench.work(&[old]).await.expect("works");
    assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|70"], "what 70 became is not known yet");
    let new = member(&mut bench, "c", (2, 72), 20, &[("__debezium.oldkey", json!({"id": 1}))]);
    let report = bench.work(&[new]).await.expect("works");
    bench.prove(report.waiting).await.expect("works");
    assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|72"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_latch_on_a_restrict_does_not_lift_it() {
    let mut bench = seeded(&[visit(FOLLOW), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    latch(&bench, "bill_code").await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    settle(&bench, &[gone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: a bill holds the member");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_latch_on_a_restrict_at_an_unclear_value_does_not_lift_it() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let records = [recode(&mut bench, 1, (70, 71), 5), recode(&mut bench, 1, (70, 72), 6)];
    settle(&bench, &records).await;
    latch(&bench, "bill_code").await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    settle(&bench, &[gone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: a bill holds the member");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_value_used_again_in_the_same_batch_still_holds_its_first_row() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let records =
        [member(&mut bench, "d", (1, 70), 10, &[]), member(&mut bench, "c", (3, 70), 15, &[]), member(&mut bench, "d", (3, 70), 20, &[])];
    settle(&bench, &records).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: a bill of code 70 holds member 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_value_used_again_later_still_holds_its_first_row() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let first = member(&mut bench, "d", (1, 70), 10, &[]);
    settle(&bench, &[first]).await;
    let records = [member(&mut bench, "c", (3, 70), 15, &[]), member(&mut bench, "d", (3, 70), 20, &[])];
    settle(&bench, &records).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"]);
    retry_pending(&bench).await;
    let id = bench.lines(VISITS).await;
    assert_eq!(id, ["1|1"], "WRONG DELETION: a bill of code 70 holds member 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_value_used_again_holds_a_row_that_is_tried_again_alone() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let first = member(&mut bench, "d", (1, 70), 10, &[]);
    settle(&bench, &[first]).await;
    let records = [member(&mut bench, "c", (3, 70), 15, &[]), member(&mut bench, "d", (3, 70), 20, &[])];
    settle(&bench, &records).await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    settle(&bench, &[tombstone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: a bill of code 70 holds member 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_value_used_again_without_positions_holds_the_second_row_too() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (3, 3); INSERT INTO bills VALUES (1, 70)").await;
    let first = member(&mut bench, "d", (1, 70), 0, &[]);
    settle(&bench, &[first]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1", "3|3"]);
    let second = member(&mut bench, "d", (3, 70), 0, &[]);
    settle(&bench, &[second]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1", "3|3"], "WRONG DELETION: a bill of code 70 holds member 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_that_has_not_followed_its_value_yet_still_holds_the_row() {
    for cut in [true, false] {
        let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict, on_update: cascade")].concat()).await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
        let records = [recode(&mut bench, 1, (70, 71), 5), member(&mut bench, "d", (1, 71), 10, &[])];
        if cut {
            settle(&bench, &records[..1]).await;
            settle(&bench, &records[1..]).await;
        } else {
            settle(&bench, &records).await;
        }
        assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: the bill of member 1 says 70 still (cut: {cut})");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_that_has_not_followed_the_primary_key_yet_still_holds_the_row() {
    for cut in [true, false] {
        let mut bench = seeded(&[visit("on_delete: restrict, on_update: cascade"), badge("on_delete: cascade")].concat()).await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 70)").await;
        let mut records = rekey(&mut bench, (1, 2), 70, 5).to_vec();
        records.push(member(&mut bench, "d", (2, 70), 10, &[]));
        if cut {
            settle(&bench, &records[..2]).await;
            settle(&bench, &records[2..]).await;
        } else {
            settle(&bench, &records).await;
        }
        assert_eq!(bench.lines(BADGES).await, ["1|70"], "WRONG DELETION: a visit of the member (1, then 2) holds it (cut: {cut})");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_a_tombstone_alone_does_not_lift_a_restrict() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    settle(&bench, &[tombstone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: a bill of the member's code holds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn h114_the_last_word_on_another_unique_value_may_stand_on_any_partition() {
    let mut bench = seeded(&badge(FOLLOW)).await;
    // Member 1 (code 70) went. Member 3 took 70, got badge 1, and became 73: told on the partition of member 3, not read yet.
    bench.execute("crm", "INSERT INTO members VALUES (3, 73)").await;
    bench.execute("shop", "INSERT INTO badges VALUES (1, 70)").await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    let report = bench.work(&[gone]).await.expect("works");
    let waiting = report.waiting.first().expect("it waits");
    assert_eq!(waiting.pending.columns, ["code"]);
    let needs_one_partition_only = waiting.pending.partition_known;
    bench.prove(report.waiting).await.expect("works");
    let left = bench.lines(BADGES).await;
    assert!(!needs_one_partition_only, "WRONG DELETION as soon as member 1's partition is read past the look-up: badges {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_below_a_value_whose_fate_is_unclear_still_holds_the_row() {
    for unclear in [false, true] {
        let below = "  - { name: note_badge, child: shop.note, columns: owner, parent: shop.badge, on_delete: restrict }\n";
        let rules = members(&[visit("on_delete: cascade").as_str(), &badge("on_delete: cascade"), below].concat())
            .replace("table: badges, key: id }", "table: badges, key: id, topic: shop.main.badges }");
        let mut bench = Bench::new(&rules, Vec::new()).await;
        bench.execute("crm", "INSERT INTO members VALUES (8, 80)").await;
        bench
            .execute(
                "shop",
                "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 70); INSERT INTO notes VALUES (1, 1, 'x', 'open')",
            )
            .await;
        if unclear {
            let records = [recode(&mut bench, 1, (70, 71), 5), recode(&mut bench, 1, (70, 72), 6)];
            settle(&bench, &records).await;
        }
        let gone = member(&mut bench, "d", (1, 70), 10, &[]);
        settle(&bench, &[gone]).await;
        assert_eq!(
            bench.lines(VISITS).await,
            ["1|1"],
            "WRONG DELETION: a note holds the badge, which holds the member (unclear: {unclear})"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h23_a_value_that_stayed_through_a_key_change_can_still_be_deleted_a_month_later() {
    let mut bench = seeded(&badge("on_delete: cascade")).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO badges VALUES (1, 70)").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    let_a_month_pass(&bench).await;
    bench.execute("crm", "DELETE FROM members WHERE id = 2").await;
    let gone = member(&mut bench, "d", (2, 70), 30, &[]);
    settle(&bench, &[gone]).await;
    retry_pending(&bench).await;
    assert!(bench.lines(BADGES).await.is_empty(), "parked for ever: {:?}", bench.lines(PENDING).await);
}

/// Member 1 became 2 and kept its code 70; then the code became 75. Nobody was deleted, and no reference follows changes of codes.
#[tokio::test(flavor = "multi_thread")]
async fn h6_a_value_that_stayed_through_a_key_change_and_changed_before_the_look_takes_nothing() {
    let mut bench = seeded(&badge("on_delete: cascade")).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 75)").await;
    bench.execute("shop", "INSERT INTO badges VALUES (1, 70)").await;
    for halves in [rekey(&mut bench, (1, 2), 70, 10), rekey(&mut bench, (1, 2), 70, 10)] {
        settle(&bench, &halves).await;
        retry_pending(&bench).await;
        assert_eq!(bench.lines(BADGES).await, ["1|70"], "WRONG DELETION: {:?}", bench.lines(PENDING).await);
    }
    // Also when the second half comes in a batch of its own.
    let [old, new] = rekey(&mut bench, (1, 2), 70, 10);
    for half in [old, new] {
        settle(&bench, &[half]).await;
        retry_pending(&bench).await;
    }
    assert_eq!(bench.lines(BADGES).await, ["1|70"], "WRONG DELETION: {:?}", bench.lines(PENDING).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_key_change_that_the_second_look_does_not_confirm_still_refuses() {
    // 1 became 2 and 70 became 72 in one statement; a bill restricts changes of the code. At the proof, 72 has just become 73.
    let mut bench = seeded(&[visit(FOLLOW), bill("on_delete: restrict, on_update: restrict")].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 72)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let old = member(&mut bench, "d", (1, 70), 20, &[("__debezium.newkey", json!({"id": 2}))]);
    let new = member(&mut bench, "c", (2, 72), 20, &[("__debezium.oldkey", json!({"id": 1}))]);
    let report = bench.work(&[old, new]).await.expect("works");
    bench.script.cue(Cue {
        at: "looking up",
        nth: 3,
        act: Act::Interleave(vec!["crm: UPDATE members SET code = 73 WHERE id = 2".to_owned()]),
    });
    let retries = report.waiting.into_iter().map(|one| Retry { pending: one.pending, proven: Some(one.seen) }).collect();
    bench.engine.work(&Batch { retries, ..Batch::default() }, Authority::Owner(&bench.epochs)).await.expect("works");
    assert!(bench.script.is_played());
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG CHANGE: a bill refuses that the member's code changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn h114_two_values_of_a_row_that_is_held_do_not_wait_by_turns_for_ever() {
    // As above, and each value is proven by itself: the one is held, and the other one's turn does not begin for that.
    let mut bench = seeded(&[visit(FOLLOW), badge(FOLLOW), bill("on_delete: restrict, on_update: restrict")].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 72)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 70); INSERT INTO bills VALUES (1, 70)").await;
    let old = member(&mut bench, "d", (1, 70), 20, &[("__debezium.newkey", json!({"id": 2}))]);
    let new = member(&mut bench, "c", (2, 72), 20, &[("__debezium.oldkey", json!({"id": 1}))]);
    let report = bench.work(&[old, new]).await.expect("works");
    assert_eq!(report.waiting.len(), 2, "the key, and the code");
    for one in report.waiting {
        let retries = vec![Retry { pending: one.pending, proven: Some(one.seen) }];
        let held = bench.engine.work(&Batch { retries, ..Batch::default() }, Authority::Owner(&bench.epochs)).await.expect("works");
        assert_eq!((held.waiting.len(), held.parked.len()), (0, 1), "{:?}", held.waiting);
    }
    assert_eq!(bench.lines(PENDING).await.len(), 2, "both are kept");
    bench.execute("shop", "DELETE FROM bills").await;
    retry_pending(&bench).await;
    assert_eq!((bench.lines(VISITS).await, bench.lines(BADGES).await), (vec!["1|2".to_owned()], vec!["1|72".to_owned()]));
    assert!(bench.lines(PENDING).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn h86_a_restrict_in_shadow_neither_holds_nor_hides() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict, mode: shadow")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    settle(&bench, &[gone]).await;
    assert!(bench.lines(VISITS).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn h31_a_root_of_a_lost_partition_is_not_worked_along_with_another() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    let on = |mut record: Record| {
        record.at.partition.partition = 1;
        record
    };
    let mut other = partition("crm.main.members");
    other.partition = 1;
    let take = async |bench: &Bench| {
        let mut epochs = BTreeMap::new();
        for id in bench.engine.model.reach_of_topic("crm.main.members") {
            let mut session = bench.engine.model.databases.handle(id).database.begin().await.expect("begins");
            let taken = ledger::take(session.as_mut(), &bench.engine.owner, &other, NextOffset(0)).await.expect("taken");
            session.commit().await.expect("commits");
            epochs.insert((id, other.clone()), taken.epoch);
        }
        epochs
    };
    let epochs = take(&bench).await;
    bench.epochs.extend(epochs);
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (3, 3); INSERT INTO bills VALUES (1, 70)").await;
    // 1 (partition 0) had code 70 and went; then 3 (partition 1) had it and went. A bill holds both.
    let first = member(&mut bench, "d", (1, 70), 10, &[]);
    let second = member(&mut bench, "d", (3, 70), 20, &[]);
    let second = on(second);
    bench.work(std::slice::from_ref(&first)).await.expect("works");
    bench.work(&[second]).await.expect("works");
    assert_eq!(bench.lines(VISITS).await, ["1|1", "3|3"]);
    // Partition 1 goes to another worker. The bill goes.
    take(&bench).await;
    bench.execute("shop", "DELETE FROM bills").await;
    // This worker tries what is pending of partition 0 again.
    let retries = pending(&bench).await;
    let result = bench.engine.work(&Batch { retries, ..Batch::default() }, Authority::Owner(&bench.epochs)).await;
    let left = bench.lines(VISITS).await;
    assert!(left.contains(&"3|3".to_owned()), "worked by a worker that lost partition 1: {left:?}, {:?}", result.map(|_| ()));
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_whose_value_was_taken_over_still_holds_the_row_that_gave_it_up() {
    let mut bench = seeded(&[visit(CASCADE), bill("on_delete: restrict, on_update: cascade")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    bench.execute("crm", "INSERT INTO members VALUES (3, 70)").await;
    let old = recode(&mut bench, 1, (70, 71), 5);
    let records = [old, member(&mut bench, "c", (3, 70), 7, &[]), member(&mut bench, "d", (1, 71), 10, &[])];
    settle(&bench, &records).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: the bill may be of member 1 (70, then 71)");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_whose_primary_key_was_taken_over_still_holds_the_row_that_gave_it_up() {
    let mut bench = seeded(&[visit("on_delete: restrict, on_update: cascade"), badge(CASCADE)].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 70)").await;
    bench.execute("crm", "INSERT INTO members VALUES (1, 99)").await;
    let [old, new] = rekey(&mut bench, (1, 2), 70, 5);
    let records = [old, new, member(&mut bench, "c", (1, 99), 7, &[]), member(&mut bench, "d", (2, 70), 10, &[])];
    settle(&bench, &records).await;
    assert_eq!(bench.lines(BADGES).await, ["1|70"], "WRONG DELETION: a visit may be of the member (1, then 2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_row_that_is_held_is_not_let_go_because_another_row_took_its_value() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict")].concat()).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO bills VALUES (1, 70)").await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    settle(&bench, &[gone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "held by its bill");
    bench.execute("crm", "INSERT INTO members VALUES (3, 70)").await;
    let heir = member(&mut bench, "c", (3, 70), 20, &[]);
    settle(&bench, &[heir]).await;
    retry_pending(&bench).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: the bill has not gone, and member 1 has not returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_two_changes_behind_still_holds_the_row() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict, on_update: cascade")].concat()).await;
    bench.execute("shop", "INSERT INTO bills VALUES (1, 70)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
    let a = recode(&mut bench, 1, (70, 71), 10);
    let b = recode(&mut bench, 1, (71, 72), 11);
    let c = member(&mut bench, "d", (1, 72), 12, &[]);
    settle(&bench, &[a]).await;
    settle(&bench, &[b]).await;
    settle(&bench, &[c]).await;
    let p = bench.lines(PENDING).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: the bill at 70 refuses; {p:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restricting_row_of_a_values_second_holder_is_not_given_to_the_first() {
    let mut bench = seeded(&[visit("on_delete: cascade"), bill("on_delete: restrict, on_update: cascade")].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (1, 71)").await;
    bench.execute("shop", "INSERT INTO bills VALUES (1, 70); INSERT INTO visits VALUES (2, 2)").await;
    let all = [recode(&mut bench, 1, (70, 71), 10), member(&mut bench, "c", (2, 70), 11, &[]), member(&mut bench, "d", (2, 70), 12, &[])];
    settle(&bench, &all).await;
    let (b, p) = (bench.lines("SELECT id, code FROM bills").await, bench.lines(PENDING).await);
    assert_eq!(bench.lines(VISITS).await, ["2|2"], "WRONG DELETION: the bill at 70 was of 2; {b:?} {p:?}");
}
