//! What databases do by themselves when a step gives rows other keys: native foreign keys with ON UPDATE CASCADE, SET NULL or SET DEFAULT (H64).
//!
//! Rows that are removed have their native followers in the plan; rows that are re-keyed have them here, read and locked before any step. A row may
//! have a step of its own and follow natively too: then this is how its key after both is known, and what of its step is left to do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::archive::after;
use super::room::Room;
use super::{Followed, at};
use crate::graph::{Edge, EdgeId};
use crate::model::Model;
use crate::plan::{Assignment, RootId, Step, StepAction, StepRow};
use crate::resolve::{Sessions, Trouble};
use crate::rules::{EntityId, OnUpdate};
use crate::sink::statement::{self, Selection};
use crate::sink::{SinkError, TableRef};
use crate::value::{Key, RowImage};

/// Native keys may lead round in a circle: so often a row hears of something new at most. How deep they lead does not matter.
const NEWS: u32 = 16;

type RowOf = (EntityId, Key);
/// What rows of one step have in common: the native keys by which they follow, the columns that change, and the references behind it.
type Alike<'a> = (EntityId, Vec<EdgeId>, Vec<&'a String>, &'a BTreeSet<EdgeId>);

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
    /// What native keys are sure to write into it.
    natively: BTreeMap<String, Option<String>>,
    /// The references whose steps are behind it.
    through: BTreeSet<EdgeId>,
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
    pub(super) fn followed(&self) -> Vec<Followed> {
        let mut steps: BTreeMap<Alike<'_>, Vec<StepRow>> = BTreeMap::new();
        for ((entity, key), change) in self.rows.iter().filter(|(_, change)| !change.is_planned) {
            let edges = change.follows.keys().copied().collect();
            let still = change.follows.values().flatten().cloned().collect();
            let (columns, new) = change.columns.iter().map(|(column, after)| (column, after.clone())).unzip();
            steps.entry((*entity, edges, columns, &change.through)).or_default().push(StepRow {
                key: key.clone(),
                still,
                new,
                root: change.root,
            });
        }
        let step = |((entity, edges, columns, through), rows): (Alike<'_>, Vec<StepRow>)| {
            let assignments = columns.into_iter().enumerate().map(|(place, column)| (column.clone(), Assignment::PerRow(place)));
            let step = Step { entity, edges, action: StepAction::Update(assignments.collect()), rows, is_early: false };
            Followed { step, through: through.iter().copied().collect() }
        };
        steps.into_iter().map(step).collect()
    }

    /// What of a step is left to do: what a native key writes into its rows when their parents' turn comes is not, and could not be before.
    pub(super) fn left<'s>(&self, step: &'s Step) -> Vec<Cow<'s, Step>> {
        let StepAction::Update(assignments) = &step.action else { return vec![Cow::Borrowed(step)] };
        let mut parts: BTreeMap<Vec<bool>, Vec<&StepRow>> = BTreeMap::new();
        for row in &step.rows {
            let natively = self.rows.get(&(step.entity, row.key.clone())).map(|change| &change.natively);
            let is_left = |(column, assignment): &(String, Assignment)| {
                let written = after(assignment, row);
                written.is_none() || natively.and_then(|natively| natively.get(column)) != Some(&written)
            };
            parts.entry(assignments.iter().map(is_left).collect()).or_default().push(row);
        }
        if parts.keys().all(|left| left.iter().all(|left| *left)) {
            return vec![Cow::Borrowed(step)];
        }
        let part = |(left, rows): (Vec<bool>, Vec<&StepRow>)| {
            let assignments: Vec<_> = assignments.iter().zip(left).filter(|(_, left)| *left).map(|(one, _)| one.clone()).collect();
            let rows = rows.into_iter().cloned().collect();
            (!assignments.is_empty())
                .then(|| Cow::Owned(Step { action: StepAction::Update(assignments), rows, edges: step.edges.clone(), ..*step }))
        };
        parts.into_iter().filter_map(part).collect()
    }

    fn planned(steps: &[Step]) -> Self {
        let mut changes = Self::default();
        for step in steps {
            let StepAction::Update(assignments) = &step.action else { continue };
            for row in &step.rows {
                let columns = assignments.iter().map(|(column, assignment)| (column.clone(), after(assignment, row)));
                let through = step.edges.iter().copied().collect();
                let change = Change { columns: columns.collect(), through, is_planned: true, ..Change::new(row.root) };
                changes.rows.insert((step.entity, row.key.clone()), change);
            }
        }
        changes
    }

    /// A row follows a parent. Whether that is news, for those that follow the row.
    fn follow(&mut self, row: RowOf, (id, edge): (EdgeId, &Edge), held: &Key, parent: &Parent) -> bool {
        let change = self.rows.entry(row).or_insert_with(|| Change::new(parent.root));
        change.through.extend(&parent.through);
        let mut is_news = change.follows.insert(id, held.parts().to_vec()).is_none();
        for (column, after) in edge.columns.iter().zip(&parent.after) {
            let after = if edge.native_update == OnUpdate::Cascade { after.clone() } else { None };
            if parent.is_first {
                change.natively.insert(column.clone(), after.clone());
            }
            is_news |= change.columns.insert(column.clone(), after.clone()) != Some(after);
        }
        change.news += u32::from(is_news);
        is_news && change.news <= NEWS
    }
}

impl Change {
    fn new(root: RootId) -> Self {
        let (columns, follows, natively, through) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { root, columns, follows, natively, through, is_planned: false, news: 0 }
    }
}

/// A row at which native keys point, with what it holds in their columns afterwards.
struct Parent {
    root: RootId,
    after: Vec<Option<String>>,
    through: BTreeSet<EdgeId>,
    /// Its table stands above that of the rows that follow: its change does not wait for theirs.
    is_first: bool,
}

/// What becomes of the rows of these steps, and of those that follow natively: as many as there is room for.
pub(super) async fn changes(model: &Model, sessions: &mut Sessions, steps: &[Step], room: &Room) -> Result<Changes, Trouble> {
    let mut left = room.clone();
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
            // What cannot be read is laid at the door of the references that lead there: without them nothing follows.
            let behind = keys.iter().filter_map(|key| changes.rows.get(&(model.graph.target(edge.target).entity, key.clone())));
            let behind: BTreeSet<EdgeId> = behind.flat_map(|change| change.through.iter().copied()).collect();
            let blame = |trouble: Trouble| Trouble { edges: behind.iter().copied().collect(), ..trouble };
            let parents = parents(model, sessions, &changes, edge, &keys).await.map_err(blame)?;
            let values: Vec<&[String]> = parents.keys().map(Key::parts).collect();
            let key = &model.graph.node(edge.child).key;
            // Of the rows found, these may be known already.
            let most = left.rows().saturating_add(changes.rows.len()).saturating_add(goes.len());
            let found = read(model, sessions, edge.child, (&edge.columns, &values), &[key, &edge.columns], most).await.map_err(blame)?;
            for image in found {
                let (Some(child), Some(held)) = (TableRef::key_of(key, &image), TableRef::key_of(&edge.columns, &image)) else { continue };
                let row = (edge.child, child);
                let Some(parent) = parents.get(&held) else { continue };
                if goes.contains(&row) {
                    if !parent.is_first && edge.columns.iter().any(|column| key.contains(column)) {
                        return Err(blame(is_elsewhere_then().into()));
                    }
                    continue;
                }
                if !changes.rows.contains_key(&row) {
                    let exceeded = |limit| blame(SinkError::Exceeded { limit, reference: edge.name.clone() }.into());
                    left.take(parent.root, id).map_err(exceeded)?;
                }
                if changes.follow(row.clone(), (id, edge), &held, parent) {
                    open.insert(row);
                }
            }
        }
    }
    Ok(changes)
}

/// A row is to go, and before its turn comes a native key gives it another key: it would not be found.
fn is_elsewhere_then() -> SinkError {
    SinkError::Swallowed { what: "deleting rows whose keys follow others".to_owned(), expected: 1, got: 0 }
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
    let images = read(model, sessions, target.entity, (key, &parts), &[key, &target.columns], keys.len()).await?;
    let is_first = model.graph.rank(edge.child) < model.graph.rank(target.entity);
    let one = |image| {
        let change = changes.rows.get(&(target.entity, TableRef::key_of(key, &image)?))?;
        let before = TableRef::key_of(&target.columns, &image)?;
        let part = |(column, before): (&String, &String)| change.columns.get(column).cloned().unwrap_or_else(|| Some(before.clone()));
        let after: Vec<Option<String>> = target.columns.iter().zip(before.parts()).map(part).collect();
        let stays = after.iter().zip(before.parts()).all(|(after, before)| after.as_ref() == Some(before));
        (!stays).then(|| (before, Parent { root: change.root, after, through: change.through.clone(), is_first }))
    };
    Ok(images.into_iter().filter_map(one).collect())
}

/// Rows by values of theirs, locked: these columns, and one row more than these.
async fn read(
    model: &Model,
    sessions: &mut Sessions,
    entity: EntityId,
    (by, keys): (&[String], &[&[String]]),
    columns: &[&Vec<String>],
    most: usize,
) -> Result<Vec<RowImage>, Trouble> {
    let (bound, dialect, session) = at(model, sessions, entity)?;
    let read: BTreeSet<String> = columns.iter().flat_map(|columns| columns.iter().cloned()).collect();
    let read: Vec<String> = read.into_iter().collect();
    let limit = most.saturating_add(1).min(usize::try_from(i32::MAX).unwrap_or(usize::MAX));
    let selection = Selection { table: &bound.table, by, keys, when: &[], read: &read, lock: true, limit };
    let Some(statement) = statement::select(dialect, &selection) else { return Ok(Vec::new()) };
    let rows = session.query(&statement).await?;
    Ok(rows.iter().filter_map(|row| Some(bound.table.image(&read, row.get(..read.len())?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Cell;

    const ITEMS: EntityId = EntityId(1);
    const BY: EdgeId = EdgeId(0);

    fn key(text: &str) -> Key {
        Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value")
    }

    /// `items.order_id` follows `orders.id` by a native key.
    fn edge(native_update: OnUpdate) -> Edge {
        Edge { native_update, ..Edge::native(ITEMS, vec!["order_id".to_owned()]) }
    }

    fn parent(after: &str, is_first: bool) -> Parent {
        Parent { root: RootId(0), after: vec![Some(after.to_owned())], through: BTreeSet::new(), is_first }
    }

    #[test]
    fn h64_a_row_hears_of_each_value_once_and_of_no_more_than_a_bound() {
        let (mut changes, edge, row) = (Changes::default(), edge(OnUpdate::Cascade), || (ITEMS, key("7")));
        let mut hear = |after: &str| changes.follow(row(), (BY, &edge), &key("1"), &parent(after, true));
        assert!(hear("2"), "it follows");
        assert!(!hear("2"), "and has heard of that");
        // A circle of native keys in which no value comes to rest.
        let heard = (3..100).filter(|after| hear(&after.to_string())).count();
        assert_eq!(heard, usize::try_from(NEWS).expect("few") - 1);
        assert_eq!(
            changes.key_after(ITEMS, &["order_id".to_owned()], &key("7")),
            Some(vec!["99".to_owned()]),
            "the last value is known still"
        );
    }

    #[test]
    fn h64_what_a_native_key_writes_is_known_only_if_it_follows_and_its_parent_goes_first() {
        let after = |native_update, is_first| {
            let mut changes = Changes::default();
            changes.follow((ITEMS, key("7")), (BY, &edge(native_update)), &key("1"), &parent("2", is_first));
            let change = &changes.rows[&(ITEMS, key("7"))];
            (change.columns["order_id"].clone(), change.natively.get("order_id").cloned(), change.is_planned)
        };
        let text = || Some("2".to_owned());
        assert_eq!(after(OnUpdate::Cascade, true), (text(), Some(text()), false));
        assert_eq!(after(OnUpdate::Cascade, false), (text(), None, false));
        assert_eq!(after(OnUpdate::SetNull, true), (None, Some(None), false), "NULL, or what only the database knows");
    }
}
