//! What databases do by themselves when a step gives rows other keys: native foreign keys with ON UPDATE CASCADE, SET NULL or SET DEFAULT (H64).
//!
//! Rows that are removed have their native followers in the plan; rows that are re-keyed have them here, read and locked before any step.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::after;
use super::at;
use crate::graph::{Edge, EdgeId};
use crate::model::Model;
use crate::plan::{Assignment, RootId, Step, StepAction, StepRow};
use crate::resolve::{Sessions, Trouble};
use crate::rules::{EntityId, OnUpdate};
use crate::sink::TableRef;
use crate::sink::statement::{self, Selection};
use crate::value::Key;

/// A row that gets other values in columns at which native keys point: what they were, what they become where that is known, and for whom.
struct Rekeyed {
    before: Key,
    after: Vec<Option<String>>,
    root: RootId,
}

/// The rows that follow these steps natively, as steps that nobody has to take: near ones first.
pub(super) async fn followed(model: &Model, sessions: &mut Sessions, steps: &[Step]) -> Result<Vec<Step>, Trouble> {
    let mut known: BTreeSet<(EntityId, Key)> =
        steps.iter().flat_map(|step| step.rows.iter().map(|row| (step.entity, row.key.clone()))).collect();
    let mut found: Vec<Step> = Vec::new();
    let mut place = 0;
    while let Some(step) = steps.iter().chain(&found).nth(place) {
        let mut new = Vec::new();
        for edge in following(model, step) {
            new.extend(follow(model, sessions, step, edge, &mut known).await?);
        }
        found.extend(new);
        place += 1;
    }
    Ok(found)
}

/// The native keys that follow what a step writes.
fn following(model: &Model, step: &Step) -> Vec<EdgeId> {
    let StepAction::Update(assignments) = &step.action else { return Vec::new() };
    let is_written = |column: &String| assignments.iter().any(|(name, _)| name == column);
    let targets = model.graph.targets_of(step.entity).filter(|(_, target)| target.columns.iter().any(is_written));
    let acts = |edge: &Edge| matches!(edge.native_update, OnUpdate::Cascade | OnUpdate::SetNull | OnUpdate::SetDefault);
    targets.flat_map(|(target, _)| model.graph.edges_at(target)).filter(|(_, edge)| acts(edge)).map(|(id, _)| id).collect()
}

async fn follow(
    model: &Model,
    sessions: &mut Sessions,
    step: &Step,
    id: EdgeId,
    known: &mut BTreeSet<(EntityId, Key)>,
) -> Result<Option<Step>, Trouble> {
    let edge = model.graph.edge(id);
    let rekeyed = rekeyed(model, sessions, step, edge).await?;
    let parents: BTreeMap<&Key, &Rekeyed> = rekeyed.iter().map(|row| (&row.before, row)).collect();
    let keys: Vec<&[String]> = parents.keys().map(|key| key.parts()).collect();
    let key = &model.graph.node(edge.child).key;
    let mut rows = Vec::new();
    for image in read(model, sessions, edge.child, (&edge.columns, &keys), &[key, &edge.columns]).await? {
        let (Some(child), Some(points_at)) = (TableRef::key_of(key, &image), TableRef::key_of(&edge.columns, &image)) else { continue };
        let Some(parent) = parents.get(&points_at) else { continue };
        if known.insert((edge.child, child.clone())) {
            rows.push(StepRow { key: child, still: points_at.parts().to_vec(), new: parent.after.clone(), root: parent.root });
        }
    }
    rows.sort();
    let write = |(place, column): (usize, &String)| {
        let assignment = match edge.native_update {
            OnUpdate::Cascade => Assignment::PerRow(place),
            OnUpdate::SetNull => Assignment::Null,
            OnUpdate::SetDefault | OnUpdate::Restrict | OnUpdate::NoAction => Assignment::Default,
        };
        (column.clone(), assignment)
    };
    let action = StepAction::Update(edge.columns.iter().enumerate().map(write).collect());
    Ok((!rows.is_empty()).then(|| Step { entity: edge.child, edges: vec![id], action, rows }))
}

/// The rows of a step whose values in the columns of this key change, or may.
async fn rekeyed(model: &Model, sessions: &mut Sessions, step: &Step, edge: &Edge) -> Result<Vec<Rekeyed>, Trouble> {
    let StepAction::Update(assignments) = &step.action else { return Ok(Vec::new()) };
    let columns = &model.graph.target(edge.target).columns;
    let key = &model.graph.node(step.entity).key;
    let rows: BTreeMap<&Key, &StepRow> = step.rows.iter().map(|row| (&row.key, row)).collect();
    let keys: Vec<&[String]> = rows.keys().map(|key| key.parts()).collect();
    let images = read(model, sessions, step.entity, (key, &keys), &[key, columns]).await?;
    let one = |image| {
        let row = rows.get(&TableRef::key_of(key, &image)?)?;
        let before = TableRef::key_of(columns, &image)?;
        let parts = columns.iter().zip(before.parts());
        let after: Vec<Option<String>> = parts.map(|(column, part)| after(assignments, row, column, part)).collect();
        let stays = after.iter().zip(before.parts()).all(|(after, before)| after.as_ref() == Some(before));
        (!stays).then_some(Rekeyed { before, after, root: row.root })
    };
    Ok(images.into_iter().filter_map(one).collect())
}

/// Rows by values of theirs, locked: these columns.
async fn read(
    model: &Model,
    sessions: &mut Sessions,
    entity: EntityId,
    (by, keys): (&[String], &[&[String]]),
    columns: &[&Vec<String>],
) -> Result<Vec<crate::value::RowImage>, Trouble> {
    let (bound, dialect, session) = at(model, sessions, entity)?;
    let mut read: Vec<String> = columns.iter().flat_map(|columns| columns.iter().cloned()).collect();
    read.sort();
    read.dedup();
    let limit = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
    let selection = Selection { table: &bound.table, by, keys, when: &[], read: &read, lock: true, limit };
    let Some(statement) = statement::select(dialect, &selection) else { return Ok(Vec::new()) };
    let rows = session.query(&statement).await?;
    Ok(rows.iter().filter_map(|row| Some(bound.table.image(&read, row.get(..read.len())?))).collect())
}
