//! What is kept of every row that a plan touches: the row before, and where it stays, the row after.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::follow::Changes;
use super::{agree, edge_names, rows};
use crate::ledger;
use crate::model::{BoundTable, Model};
use crate::plan::{Assignment, Step, StepAction, StepRow};
use crate::sink::statement::{self, ArchiveLabels, Bind, Dialect, Touched};
use crate::sink::{Session, SinkError, TableRef};

/// What the archive notes of every row of a batch.
pub(crate) struct Archiving<'a> {
    pub(crate) group: &'a str,
    pub(crate) keep: Duration,
    /// Cascade ids, by root.
    pub(crate) cascades: &'a [String],
}

/// Whether the rows of a step are kept: if any reference that reached them says so.
fn is_kept(model: &Model, step: &Step) -> bool {
    step.edges.iter().any(|edge| model.graph.edge(*edge).archive)
}

/// Keeps the rows of a step as they are.
pub(super) async fn archive(
    model: &Model,
    session: &mut dyn Session,
    dialect: Dialect,
    bound: &BoundTable,
    step: &Step,
    archiving: &Archiving<'_>,
) -> Result<(), SinkError> {
    if !is_kept(model, step) {
        return Ok(());
    }
    let entity = &model.graph.node(step.entity).name;
    let (shape, columns) = shape(&bound.table);
    ledger::note_shape(session, &shape, entity, &columns).await?;
    let held = rows(model, bound, step);
    let touched =
        Touched { table: &bound.table, key: &model.graph.node(step.entity).key, still: &held.still, rows: &held.rows, when: &held.when };
    let labels = labels(step.rows.iter(), archiving);
    let fixed = [
        ("entity", text(entity)),
        ("reference", text(&edge_names(model, &step.edges))),
        ("action", text(step.action.as_str())),
        ("shape", text(&shape)),
        ("group_id", text(archiving.group)),
        ("keep_seconds", Bind::Int(i64::try_from(archiving.keep.as_secs()).unwrap_or(i64::MAX))),
    ];
    let Some(statement) = statement::archive(dialect, &touched, labels, fixed) else { return Ok(()) };
    let done = session.execute(&statement).await?;
    agree(statement.what(), step.rows.len(), done)
}

fn labels<'a>(rows: impl Iterator<Item = &'a StepRow>, archiving: &Archiving<'_>) -> ArchiveLabels {
    let of = |row: &StepRow| (archiving.cascades.get(row.root.0 as usize).cloned().unwrap_or_default(), ledger::key_text(&row.key));
    let (cascade, key) = rows.map(of).unzip();
    ArchiveLabels { cascade, key }
}

fn text(value: &str) -> Bind {
    Bind::Text(Some(value.to_owned()))
}

/// Keeps what the rows of a step became, if they are still there. A row whose key was set to the database's default cannot be told again.
pub(super) async fn note_after(
    model: &Model,
    session: &mut dyn Session,
    dialect: Dialect,
    bound: &BoundTable,
    step: &Step,
    changes: &Changes,
    archiving: &Archiving<'_>,
) -> Result<(), SinkError> {
    if step.action == StepAction::Delete || !is_kept(model, step) {
        return Ok(());
    }
    let node = model.graph.node(step.entity);
    let now = |row: &StepRow| changes.key_after(step.entity, &node.key, &row.key);
    let changed: Vec<(&StepRow, Vec<String>)> = step.rows.iter().filter_map(|row| Some((row, now(row)?))).collect();
    let keys: Vec<&[String]> = changed.iter().map(|(_, key)| key.as_slice()).collect();
    let after_keys = keys.iter().map(|key| ledger::parts_text(key)).collect();
    let fixed = [("entity", text(&node.name)), ("reference", text(&edge_names(model, &step.edges)))];
    let labels = labels(changed.iter().map(|(row, _)| *row), archiving);
    let Some(statement) = statement::note_after(dialect, &bound.table, &node.key, labels, &keys, after_keys, fixed) else { return Ok(()) };
    let done = session.execute(&statement).await?;
    agree(statement.what(), changed.len(), done)
}

/// What an assignment writes into a row; `None` if that is NULL, or only the database knows.
pub(super) fn after(assignment: &Assignment, row: &StepRow) -> Option<String> {
    match assignment {
        Assignment::Value(value) => Some(value.clone()),
        Assignment::PerRow(place) => row.new.get(*place).cloned().flatten(),
        Assignment::Null | Assignment::Default => None,
    }
}

/// The table's shape: a short hash, and its column list as JSON.
pub(crate) fn shape(table: &TableRef) -> (String, String) {
    let names: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
    let columns = serde_json::to_string(&names).expect("texts are always JSON");
    let hash = format!("{:x}", Sha256::digest(format!("{} {columns}", table.table_name())));
    (hash.chars().take(16).collect(), columns)
}

/// The columns of a shape, as [`shape`] wrote them.
pub(crate) fn columns_of_shape(columns: &str) -> Vec<String> {
    serde_json::from_str(columns).unwrap_or_default()
}
