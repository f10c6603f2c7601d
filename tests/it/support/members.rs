//! Members, known by their id and by a code, and what hangs on either: rules, records, and the engine that works them.

use std::time::Duration;

use entail::change::Record;
use entail::engine::{Authority, Batch, Retry};
use entail::ledger;
use serde_json::{Value, json};

use super::engine::Bench;
use super::scripted::Cue;

pub(crate) fn members(references: &str) -> String {
    format!(
        "
version: 1
mode: enforce
entities:
  - {{ name: crm.member, table: members, key: id, topic: crm.main.members }}
  - {{ name: shop.visit, table: visits, key: id }}
  - {{ name: shop.badge, table: badges, key: id }}
  - {{ name: shop.bill, table: bills, key: id }}
  - {{ name: shop.note, table: notes, key: id }}
references:
{references}
"
    )
}

pub(crate) fn visit(more: &str) -> String {
    format!("  - {{ name: visit_member, child: shop.visit, columns: member, parent: crm.member, {more} }}\n")
}
pub(crate) fn badge(more: &str) -> String {
    format!("  - {{ name: badge_code, child: shop.badge, columns: code, parent: crm.member, parent_columns: code, {more} }}\n")
}
pub(crate) fn bill(more: &str) -> String {
    format!("  - {{ name: bill_code, child: shop.bill, columns: code, parent: crm.member, parent_columns: code, {more} }}\n")
}
pub(crate) fn note(more: &str) -> String {
    format!("  - {{ name: note_member, child: shop.note, columns: owner, parent: crm.member, {more} }}\n")
}

pub(crate) const FOLLOW: &str = "on_delete: cascade, on_update: cascade";

pub(crate) fn source(lsn: i64) -> Value {
    let mut source = json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "members"});
    if lsn > 0 {
        source["lsn"] = json!(lsn);
    }
    source
}

pub(crate) fn member(bench: &mut Bench, op: &str, (id, code): (i64, i64), lsn: i64, headers: &[(&str, Value)]) -> Record {
    let row = json!({"id": id, "code": code});
    let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
    let value = json!({"op": op, "before": before, "after": after, "source": source(lsn)});
    bench.record("crm.main.members", &json!({"id": id}), Some(&value), headers)
}

pub(crate) fn recode(bench: &mut Bench, id: i64, (old, new): (i64, i64), lsn: i64) -> Record {
    let value = json!({"op": "u", "before": {"id": id, "code": old}, "after": {"id": id, "code": new}, "source": source(lsn)});
    bench.record("crm.main.members", &json!({"id": id}), Some(&value), &[])
}

/// Both halves of a change of the primary key.
pub(crate) fn rekey(bench: &mut Bench, (old, new): (i64, i64), code: i64, lsn: i64) -> [Record; 2] {
    [
        member(bench, "d", (old, code), lsn, &[("__debezium.newkey", json!({"id": new}))]),
        member(bench, "c", (new, code), lsn, &[("__debezium.oldkey", json!({"id": old}))]),
    ]
}

pub(crate) async fn settle(bench: &Bench, records: &[Record]) {
    let report = bench.work(records).await.expect("works");
    bench.prove(report.waiting).await.expect("works");
}

/// What the ledger holds as pending, as the worker reads it every minute.
pub(crate) async fn pending(bench: &Bench) -> Vec<Retry> {
    bench.pending("crm.main.members").await.into_iter().map(|pending| Retry { pending, proven: None }).collect()
}

/// Works it, and then proves what waits.
pub(crate) async fn retry_pending(bench: &Bench) {
    let batch = Batch { retries: pending(bench).await, ..Batch::default() };
    let report = bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
    bench.prove(report.waiting).await.expect("works");
}

/// Key changes are a month old, and what has expired is removed.
pub(crate) async fn let_a_month_pass(bench: &Bench) {
    let id = *bench.engine.model.reach_of_topic("crm.main.members").first().expect("one");
    let database = &bench.engine.model.databases.handle(id).database;
    bench.execute("shop", "UPDATE entail_moves SET at = datetime('now', '-31 days')").await;
    let mut session = database.begin().await.expect("begins");
    ledger::expire_moves(session.as_mut(), database.dialect(), "it", Duration::from_secs(30 * 86_400)).await.expect("expires");
    session.commit().await.expect("commits");
}

pub(crate) async fn latch(bench: &Bench, name: &str) {
    let sql = format!("INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:{name}', 'halted', 'a test')");
    bench.execute("shop", &sql).await;
}

pub(crate) const VISITS: &str = "SELECT id, member FROM visits ORDER BY id";
pub(crate) const BADGES: &str = "SELECT id, code FROM badges ORDER BY id";
pub(crate) const PENDING: &str = "SELECT columns, root_key, reason FROM entail_pending ORDER BY 1, 2";

pub(crate) async fn seeded(references: &str) -> Bench {
    seeded_with(references, Vec::new()).await
}

pub(crate) async fn seeded_with(references: &str, cues: Vec<Cue>) -> Bench {
    let bench = Bench::new(&members(references), cues).await;
    bench.execute("crm", "INSERT INTO members VALUES (8, 80)").await;
    bench
}
