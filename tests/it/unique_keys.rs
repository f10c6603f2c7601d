//! Parents that are pointed at by two unique keys: what is known of one bears upon the other.

use entail::change::Record;
use entail::engine::{Authority, Batch, Retry, WorkError};
use entail::sink::SinkError;
use serde_json::{Value, json};

use crate::support::engine::Bench;

fn rules(references: &str) -> String {
    format!(
        "
version: 1
mode: enforce
entities:
  - {{ name: crm.member, table: members, key: id, topic: crm.main.members }}
  - {{ name: shop.visit, table: visits, key: id }}
  - {{ name: shop.badge, table: badges, key: id }}
  - {{ name: shop.bill, table: bills, key: id }}
references:
{references}
"
    )
}

const VISIT: &str = "  - { name: visit_member, child: shop.visit, columns: member, parent: crm.member, on_delete: cascade }\n";
const BADGE: &str =
    "  - { name: badge_code, child: shop.badge, columns: code, parent: crm.member, parent_columns: code, on_delete: cascade }\n";
const BILL: &str =
    "  - { name: bill_code, child: shop.bill, columns: code, parent: crm.member, parent_columns: code, on_delete: restrict }\n";

/// A record about a member, made at this place of the source's log; of an unknown place if that is 0.
fn member(bench: &mut Bench, op: &str, (id, code): (i64, i64), lsn: i64, headers: &[(&str, Value)]) -> Record {
    let row = json!({"id": id, "code": code});
    let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
    let mut source = json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "members"});
    if lsn > 0 {
        source["lsn"] = json!(lsn);
    }
    let value = json!({"op": op, "before": before, "after": after, "source": source});
    bench.record("crm.main.members", &json!({"id": id}), Some(&value), headers)
}

async fn seeded(references: &str) -> Bench {
    let bench = Bench::new(&rules(references), Vec::new()).await;
    bench.execute("crm", "INSERT INTO members VALUES (8, 80)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 70); INSERT INTO bills VALUES (1, 70)").await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn h22_a_value_that_another_row_took_over_before_the_change_was_read_whole() {
    let badge = BADGE.replace("cascade }", "cascade, on_update: cascade }");
    let mut bench = seeded(&badge).await;
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
    let badge = BADGE.replace("cascade }", "cascade, on_update: cascade }");
    let mut bench = seeded(&badge).await;
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
    let mut bench = seeded(&[VISIT, BADGE, BILL].concat()).await;
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
    let mut bench = seeded(&[VISIT, BILL].concat()).await;
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
    let visit = VISIT.replace("cascade }", "cascade, on_update: cascade }");
    let mut bench = seeded(&visit).await;
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
    let mut bench = seeded(&[VISIT, BILL].concat()).await;
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
    let badge = BADGE.replace("cascade }", "cascade, on_update: cascade }");
    let mut bench = seeded(&badge).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 72)").await;
    let old = member(&mut bench, "d", (1, 70), 20, &[("__debezium.newkey", json!({"id": 2}))]);
    bench.work(&[old]).await.expect("works");
    assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|70"], "what 70 became is not known yet");
    let new = member(&mut bench, "c", (2, 72), 20, &[("__debezium.oldkey", json!({"id": 1}))]);
    let report = bench.work(&[new]).await.expect("works");
    bench.prove(report.waiting).await.expect("works");
    assert_eq!(bench.lines("SELECT id, code FROM badges").await, ["1|72"]);
}
