//! A plan and the transactions that hold its locks, applied. The one way by which a row changes.
//!
//! In each database: archive every row as it is, then the steps, children first. The counts must agree with the plan, or everything is
//! rolled back (H52, H64).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::databases::DatabaseId;
use crate::graph::EdgeId;
use crate::ledger;
use crate::model::{BoundTable, Model};
use crate::plan::{Assignment, Step, StepAction, StepRow};
use crate::resolve::{Sessions, Trouble, conditions};
use crate::rules::EntityId;
use crate::sink::statement::{self, Dialect, Selection, Touched};
use crate::sink::{Column, ConstraintKind, Fault, Session, SinkError};
use crate::value::Key;

mod archive;
mod follow;
mod parts;
mod replicas;
mod room;

pub(crate) use archive::{Archiving, columns_of_shape, shape};
use archive::{after, archive, note_after};
use follow::Changes;
pub(crate) use replicas::{CopyWork, copy};
pub(crate) use room::Room;

/// Rows that follow natively, as a step that nobody has to take.
struct Followed {
    step: Step,
    /// The references whose steps are behind it.
    through: Vec<EdgeId>,
}

/// Applies the steps, and returns what the databases did beside them. Nothing is durable until the sessions commit.
pub(crate) async fn apply(
    model: &Model,
    sessions: &mut Sessions,
    steps: &[Step],
    archiving: &Archiving<'_>,
    room: &Room,
) -> Result<Vec<Step>, Trouble> {
    let (early, late) = steps.split_at(steps.partition_point(|step| step.is_early));
    // No column of theirs is one by which others know the row: nothing follows them.
    let mut followed = apply_in_turn(model, sessions, early, archiving, room).await?;
    followed.extend(apply_in_turn(model, sessions, late, archiving, room).await?);
    Ok(followed)
}

async fn apply_in_turn(
    model: &Model,
    sessions: &mut Sessions,
    steps: &[Step],
    archiving: &Archiving<'_>,
    room: &Room,
) -> Result<Vec<Step>, Trouble> {
    let changes = follow::changes(model, sessions, steps, room).await?;
    let followed = changes.followed();
    let all = || steps.iter().map(|step| (step, &step.edges)).chain(followed.iter().map(|followed| (&followed.step, &followed.through)));
    for (step, behind) in all() {
        let (bound, dialect, session) = at(model, sessions, step.entity)?;
        archive(model, session, dialect, bound, step, archiving).await.map_err(|error| blame(step, behind, error))?;
    }
    let parts = parts::parts(&model.graph, steps, &changes);
    for step in &parts.steps {
        let (bound, dialect, session) = at(model, sessions, step.entity)?;
        execute(model, session, dialect, bound, step).await.map_err(|error| blame(step, &step.edges, error))?;
    }
    for step in &parts.left {
        let (bound, dialect, session) = at(model, sessions, step.entity)?;
        is_written(model, session, dialect, bound, step, &changes).await.map_err(|error| blame(step, &step.edges, error))?;
    }
    // A native key may have changed a row behind its own step.
    for (step, behind) in all() {
        let (bound, dialect, session) = at(model, sessions, step.entity)?;
        note_after(model, session, dialect, bound, step, &changes, archiving).await.map_err(|error| blame(step, behind, error))?;
    }
    Ok(followed.into_iter().map(|followed| followed.step).collect())
}

fn at<'a>(
    model: &'a Model,
    sessions: &'a mut Sessions,
    entity: EntityId,
) -> Result<(&'a BoundTable, Dialect, &'a mut dyn Session), Trouble> {
    let bound = model.table(entity);
    let handle = model.databases.handle(bound.database);
    let missing = || SinkError::Answer {
        what: "applying a plan".to_owned(),
        expected: format!("an open transaction in database `{}`", handle.name),
        got: "none".to_owned(),
    };
    let session = sessions.get_mut(&bound.database).ok_or_else(missing)?;
    Ok((bound, handle.database.dialect(), session.as_mut()))
}

/// An error of a step is laid at the door of the references behind it if the table or the rules are at fault, not the record (H110).
fn blame(step: &Step, behind: &[EdgeId], error: SinkError) -> Trouble {
    let at_fault = match &error {
        SinkError::Database { fault: Fault::Constraint(ConstraintKind::NotNull, _), .. } => matches!(step.action, StepAction::Update(_)),
        SinkError::Database { fault, .. } => matches!(fault, Fault::Privilege | Fault::UnknownObject),
        SinkError::Swallowed { .. } | SinkError::DefaultWithoutParent { .. } | SinkError::Unnamed { .. } | SinkError::Exceeded { .. } => {
            true
        }
        SinkError::Answer { .. }
        | SinkError::Fenced { .. }
        | SinkError::OtherRules { .. }
        | SinkError::NoLedger { .. }
        | SinkError::LaterLedger { .. }
        | SinkError::Paused { .. }
        | SinkError::Rewound { .. }
        | SinkError::Drifted { .. }
        | SinkError::Reshaped { .. }
        | SinkError::Unbindable { .. }
        | SinkError::Standby
        | SinkError::Pooled { .. } => false,
    };
    Trouble { error, edges: if at_fault { behind.to_vec() } else { Vec::new() } }
}

/// The rows of a step with everything that must still hold when they are touched.
struct Rows<'a> {
    still: Vec<String>,
    when: Vec<(&'a Column, Vec<String>)>,
    rows: Vec<Vec<String>>,
}

fn rows<'a>(model: &'a Model, bound: &'a BoundTable, step: &Step) -> Rows<'a> {
    let edges = || step.edges.iter().map(|edge| model.graph.edge(*edge));
    Rows {
        still: edges().flat_map(|edge| edge.columns.iter().cloned()).collect(),
        when: edges().flat_map(|edge| conditions(&bound.table, edge)).collect(),
        rows: step.rows.iter().map(|row| row.key.parts().iter().chain(&row.still).cloned().collect()).collect(),
    }
}

pub(crate) fn edge_names(model: &Model, edges: &[EdgeId]) -> String {
    edges.iter().map(|edge| model.graph.edge(*edge).name.as_str()).collect::<Vec<_>>().join(", ")
}

async fn execute(model: &Model, session: &mut dyn Session, dialect: Dialect, bound: &BoundTable, step: &Step) -> Result<(), SinkError> {
    let held = rows(model, bound, step);
    let key = &model.graph.node(step.entity).key;
    let touched = Touched { table: &bound.table, key, still: &held.still, rows: &held.rows, when: &held.when };
    match &step.action {
        StepAction::Delete => {
            let Some(statement) = statement::delete(dialect, &touched) else { return Ok(()) };
            let done = session.execute(&statement).await?;
            if usize::try_from(done).ok() == Some(step.rows.len()) {
                return Ok(());
            }
            if usize::try_from(done).is_ok_and(|done| done > step.rows.len()) {
                return Err(swallowed(statement.what(), step.rows.len(), usize::try_from(done).unwrap_or(usize::MAX)));
            }
            // A native cascade of an earlier step may have taken rows along; they were archived. What matters is that none is left.
            let keys: Vec<&[String]> = step.rows.iter().map(|row| row.key.parts()).collect();
            let left = Selection { table: &bound.table, by: key, keys: &keys, when: &[], read: key, lock: false, limit: keys.len() };
            let Some(question) = statement::select(dialect, &left) else { return Ok(()) };
            let left = session.query(&question).await?.len();
            if left == 0 { Ok(()) } else { Err(swallowed(statement.what(), step.rows.len(), step.rows.len() - left)) }
        }
        StepAction::Update(assignments) => {
            let columns: Vec<(&Column, Assignment)> = assignments
                .iter()
                .filter_map(|(name, assignment)| bound.table.column(name).map(|column| (column, assignment.clone())))
                .collect();
            let lists = columns.iter().filter_map(|(_, assignment)| match assignment {
                Assignment::PerRow(place) => Some(step.rows.iter().map(|row| row.new.get(*place).cloned().flatten()).collect()),
                Assignment::Null | Assignment::Default | Assignment::Value(_) => None,
            });
            let lists = lists.collect();
            let Some(statement) = statement::update(dialect, &touched, &columns, lists) else { return Ok(()) };
            let done = session.execute(&statement).await?;
            agree(statement.what(), step.rows.len(), done)
        }
    }
}

/// What was left to a native key is there. Where the row's key afterwards is the database's secret, nobody can look.
async fn is_written(
    model: &Model,
    session: &mut dyn Session,
    dialect: Dialect,
    bound: &BoundTable,
    step: &Step,
    changes: &Changes,
) -> Result<(), SinkError> {
    let StepAction::Update(assignments) = &step.action else { return Ok(()) };
    let key = &model.graph.node(step.entity).key;
    let beside = || assignments.iter().filter(|(column, _)| !key.contains(column));
    let by: Vec<String> = key.iter().chain(beside().map(|(column, _)| column)).cloned().collect();
    let wanted = |row: &StepRow| -> Option<Vec<String>> {
        let now = changes.key_after(step.entity, key, &row.key)?;
        now.into_iter().map(Some).chain(beside().map(|(_, assignment)| after(assignment, row))).collect()
    };
    let wanted: Vec<Vec<String>> = step.rows.iter().filter_map(wanted).collect();
    let keys: Vec<&[String]> = wanted.iter().map(Vec::as_slice).collect();
    let selection = Selection { table: &bound.table, by: &by, keys: &keys, when: &[], read: key, lock: false, limit: keys.len() };
    let Some(question) = statement::select(dialect, &selection) else { return Ok(()) };
    let found = session.query(&question).await?.len();
    if found == keys.len() { Ok(()) } else { Err(swallowed("leaving columns to a native key", keys.len(), found)) }
}

fn agree(what: &str, planned: usize, done: u64) -> Result<(), SinkError> {
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    if done == planned { Ok(()) } else { Err(swallowed(what, planned, done)) }
}

fn swallowed(what: &str, expected: usize, got: usize) -> SinkError {
    SinkError::Swallowed { what: what.to_owned(), expected, got }
}

/// The id of a root's cascade: the same in every database and at every redo.
pub(crate) fn cascade_id(group: &str, entity: &str, columns: &[String], key: &Key, cause: &str) -> String {
    let hash = format!("{:x}", Sha256::digest(format!("{group}\n{entity}\n{columns:?}\n{}\n{cause}", ledger::key_text(key))));
    hash.chars().take(24).collect()
}

/// The order in which databases commit: those that hold the deepest rows first, so that a crash leaves parents in place (H46).
pub(crate) fn commit_order(model: &Model, steps: &[Step], databases: impl Iterator<Item = DatabaseId>) -> Vec<DatabaseId> {
    let mut ranks: BTreeMap<DatabaseId, usize> = BTreeMap::new();
    for step in steps {
        let rank = ranks.entry(model.table(step.entity).database).or_insert(usize::MAX);
        *rank = (*rank).min(model.graph.rank(step.entity));
    }
    let mut order: Vec<DatabaseId> = databases.collect();
    order.sort_by_key(|database| (ranks.get(database).copied().unwrap_or(usize::MAX), *database));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Cell;

    #[test]
    fn h47_a_cascade_has_one_id_wherever_and_however_often_it_is_worked() {
        let key = |text: &str| Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value");
        let id = |group: &str, entity: &str, column: &str, text: &str, cause: &str| {
            cascade_id(group, entity, &[column.to_owned()], &key(text), cause)
        };
        let one = id("it", "crm.customer", "id", "1", "customers[0]@5");
        assert_eq!(one, id("it", "crm.customer", "id", "1", "customers[0]@5"));
        assert!(one.len() == 24 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        let others = [
            id("other", "crm.customer", "id", "1", "customers[0]@5"),
            id("it", "crm.member", "id", "1", "customers[0]@5"),
            id("it", "crm.customer", "code", "1", "customers[0]@5"),
            id("it", "crm.customer", "id", "2", "customers[0]@5"),
            id("it", "crm.customer", "id", "1", "customers[0]@6"),
        ];
        let all: std::collections::BTreeSet<&String> = others.iter().chain([&one]).collect();
        assert_eq!(all.len(), 6);
    }
}
