//! What databases do by themselves when a step gives rows other keys: native foreign keys with ON UPDATE CASCADE, SET NULL or SET DEFAULT (H64).
//!
//! Rows that are removed have their native followers in the plan; rows that are re-keyed have them here, read and locked before any step. A row may
//! have a step of its own and follow natively too: then this is how its key after both is known.

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
use crate::value::{Key, RowImage};

/// Native keys may lead round in a circle: so often a row hears of something new at most. How deep they lead does not matter.
const NEWS: u32 = 16;

type RowOf = (EntityId, Key);
/// What rows of one step have in common: the native keys by which they follow, and the columns that change.
type Alike<'a> = (EntityId, Vec<EdgeId>, Vec<&'a String>);

/// What becomes of the rows that a plan updates, and of those that follow them natively.
#[derive(Default)]
pub(super) struct Changes {
    rows: BTreeMap<RowOf, Change>,
}

struct Change {
    root: RootId,
    /// Columns and what they hold then; `None` if that is NULL, or only the database knows.
    columns: BTreeMap<String, Option<String>>,
    /// The native keys by which it follows, with what it held in their columns.
    follows: BTreeMap<EdgeId, Vec<String>>,
    /// It has a step of its own.
    is_planned: bool,
    /// How often something new was heard of it.
    news: u32,
}

impl Changes {
    /// The key of a row after everything; `None` if only the database knows.
    pub(super) fn key_after(&self, entity: EntityId, columns: &[String], key: &Key) -> Option<Vec<String>> {
        let change = self.rows.get(&(entity, key.clone()));
        let part = |(column, before): (&String, &String)| match change.and_then(|change| change.columns.get(column)) {
            None => Some(before.clone()),
            Some(after) => after.clone(),
        };
        columns.iter().zip(key.parts()).map(part).collect()
    }

    /// The rows without a step of their own, as steps that nobody has to take.
    pub(super) fn followed(&self) -> Vec<Step> {
        let mut steps: BTreeMap<Alike<'_>, Vec<StepRow>> = BTreeMap::new();
        for ((entity, key), change) in self.rows.iter().filter(|(_, change)| !change.is_planned) {
            let edges = change.follows.keys().copied().collect();
            let still = change.follows.values().flatten().cloned().collect();
            let (columns, new) = change.columns.iter().map(|(column, after)| (column, after.clone())).unzip();
            steps.entry((*entity, edges, columns)).or_default().push(StepRow { key: key.clone(), still, new, root: change.root });
        }
        let step = |((entity, edges, columns), rows): (Alike<'_>, Vec<StepRow>)| {
            let assignments = columns.into_iter().enumerate().map(|(place, column)| (column.clone(), Assignment::PerRow(place)));
            Step { entity, edges, action: StepAction::Update(assignments.collect()), rows }
        };
        steps.into_iter().map(step).collect()
    }

    fn planned(steps: &[Step]) -> Self {
        let mut changes = Self::default();
        for step in steps {
            let StepAction::Update(assignments) = &step.action else { continue };
            for row in &step.rows {
                let columns = assignments.iter().map(|(column, assignment)| (column.clone(), after(assignment, row)));
                let change = Change { root: row.root, columns: columns.collect(), follows: BTreeMap::new(), is_planned: true, news: 0 };
                changes.rows.insert((step.entity, row.key.clone()), change);
            }
        }
        changes
    }

    /// A row follows a parent. Whether that is news, for those that follow the row.
    fn follow(&mut self, row: RowOf, (id, edge): (EdgeId, &Edge), held: &Key, parent: &Parent) -> bool {
        let fresh = || Change { root: parent.root, columns: BTreeMap::new(), follows: BTreeMap::new(), is_planned: false, news: 0 };
        let change = self.rows.entry(row).or_insert_with(fresh);
        let mut is_news = change.follows.insert(id, held.parts().to_vec()).is_none();
        for (column, after) in edge.columns.iter().zip(&parent.after) {
            let after = if edge.native_update == OnUpdate::Cascade { after.clone() } else { None };
            is_news |= change.columns.insert(column.clone(), after.clone()) != Some(after);
        }
        change.news += u32::from(is_news);
        is_news && change.news <= NEWS
    }
}

/// A row at which native keys point, with what it holds in their columns afterwards.
struct Parent {
    root: RootId,
    after: Vec<Option<String>>,
}

/// What becomes of the rows of these steps, and of those that follow natively.
pub(super) async fn changes(model: &Model, sessions: &mut Sessions, steps: &[Step]) -> Result<Changes, Trouble> {
    let mut changes = Changes::planned(steps);
    // What goes is archived as it goes.
    let goes: BTreeSet<RowOf> = steps
        .iter()
        .filter(|step| step.action == StepAction::Delete)
        .flat_map(|step| step.rows.iter().map(|row| (step.entity, row.key.clone())))
        .collect();
    let mut open: BTreeSet<RowOf> = changes.rows.keys().cloned().collect();
    while !open.is_empty() {
        let mut by_edge: BTreeMap<EdgeId, Vec<Key>> = BTreeMap::new();
        for (entity, key) in std::mem::take(&mut open) {
            for edge in following(model, &changes, &(entity, key.clone())) {
                by_edge.entry(edge).or_default().push(key.clone());
            }
        }
        for (id, keys) in by_edge {
            let edge = model.graph.edge(id);
            // What cannot be read is laid at the native key's door, as where rows are collected.
            let blame = |trouble: Trouble| Trouble { edges: vec![id], ..trouble };
            let parents = parents(model, sessions, &changes, edge, &keys).await.map_err(blame)?;
            let values: Vec<&[String]> = parents.keys().map(Key::parts).collect();
            let key = &model.graph.node(edge.child).key;
            for image in read(model, sessions, edge.child, (&edge.columns, &values), &[key, &edge.columns]).await.map_err(blame)? {
                let (Some(child), Some(held)) = (TableRef::key_of(key, &image), TableRef::key_of(&edge.columns, &image)) else { continue };
                let row = (edge.child, child);
                let Some(parent) = parents.get(&held).filter(|_| !goes.contains(&row)) else { continue };
                if changes.follow(row.clone(), (id, edge), &held, parent) {
                    open.insert(row);
                }
            }
        }
    }
    Ok(changes)
}

/// The native keys that follow what changes in a row.
fn following(model: &Model, changes: &Changes, row: &RowOf) -> Vec<EdgeId> {
    let Some(change) = changes.rows.get(row) else { return Vec::new() };
    let targets =
        model.graph.targets_of(row.0).filter(|(_, target)| target.columns.iter().any(|column| change.columns.contains_key(column)));
    let edges = targets.flat_map(|(target, _)| model.graph.edges_at(target));
    edges.filter(|(_, edge)| edge.follows_natively()).map(|(id, _)| id).collect()
}

/// Those of the rows whose values in the columns of a native key change, or may: by the values that they hold.
async fn parents(
    model: &Model,
    sessions: &mut Sessions,
    changes: &Changes,
    edge: &Edge,
    keys: &[Key],
) -> Result<BTreeMap<Key, Parent>, Trouble> {
    let target = model.graph.target(edge.target);
    let key = &model.graph.node(target.entity).key;
    let parts: Vec<&[String]> = keys.iter().map(Key::parts).collect();
    let images = read(model, sessions, target.entity, (key, &parts), &[key, &target.columns]).await?;
    let one = |image| {
        let change = changes.rows.get(&(target.entity, TableRef::key_of(key, &image)?))?;
        let before = TableRef::key_of(&target.columns, &image)?;
        let part = |(column, before): (&String, &String)| change.columns.get(column).cloned().unwrap_or_else(|| Some(before.clone()));
        let after: Vec<Option<String>> = target.columns.iter().zip(before.parts()).map(part).collect();
        let stays = after.iter().zip(before.parts()).all(|(after, before)| after.as_ref() == Some(before));
        (!stays).then_some((before, Parent { root: change.root, after }))
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
) -> Result<Vec<RowImage>, Trouble> {
    let (bound, dialect, session) = at(model, sessions, entity)?;
    let read: BTreeSet<String> = columns.iter().flat_map(|columns| columns.iter().cloned()).collect();
    let read: Vec<String> = read.into_iter().collect();
    let limit = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
    let selection = Selection { table: &bound.table, by, keys, when: &[], read: &read, lock: true, limit };
    let Some(statement) = statement::select(dialect, &selection) else { return Ok(Vec::new()) };
    let rows = session.query(&statement).await?;
    Ok(rows.iter().filter_map(|row| Some(bound.table.image(&read, row.get(..read.len())?))).collect())
}
