//! What databases do by themselves when a step gives rows other keys: native foreign keys with ON UPDATE CASCADE, SET NULL or SET DEFAULT (H64).
//!
//! Rows that are removed have their native followers in the plan; rows that are re-keyed have them here, read and locked before any step. A row may
//! have a step of its own and follow natively too: then this is how its key after both is known, and what of its step is left to do.

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
    /// The tables of those that follow.
    following: BTreeSet<EntityId>,
    /// What steps on a table look at.
    looked_at: BTreeMap<EntityId, BTreeSet<String>>,
    /// Columns that have no default but NULL.
    without_default: BTreeSet<(EntityId, String)>,
    /// The tables in which a native key may hide rows from steps.
    hiding: BTreeSet<EntityId>,
}

struct Change {
    root: RootId,
    /// Columns and what they hold then; `None` if that is NULL, or only the database knows.
    columns: BTreeMap<String, Option<String>>,
    /// The native keys by which it follows, with what it held in their columns.
    follows: BTreeMap<EdgeId, Vec<String>>,
    /// What native keys are sure to write into it when its own turn is over.
    natively: BTreeMap<String, Option<String>>,
    /// The columns in which its own step writes NULL: it points nowhere by them when its parent's turn comes.
    lets_go: BTreeSet<String>,
    /// The references whose steps are behind it.
    through: BTreeSet<EdgeId>,
    /// Its own step, by its place in the plan.
    step: Option<usize>,
    /// The steps that change it, or such as it follows.
    movers: BTreeSet<usize>,
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
        for ((entity, key), change) in self.rows.iter().filter(|(_, change)| change.step.is_none()) {
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

    /// What native keys are sure to write into a row when its own turn is over.
    pub(super) fn natively(&self, entity: EntityId, key: &Key) -> Option<&BTreeMap<String, Option<String>>> {
        self.rows.get(&(entity, key.clone())).map(|change| &change.natively)
    }

    /// Whether a native key gives rows of this table other values.
    pub(super) fn follow_natively(&self, entity: EntityId) -> bool {
        self.following.contains(&entity)
    }

    /// Whether a native key may change what steps on this table look at before all of them are done.
    pub(super) fn may_hide(&self, entity: EntityId) -> bool {
        self.hiding.contains(&entity)
    }

    /// Whether this is sure to write NULL into rows of the table.
    pub(super) fn writes_null(&self, entity: EntityId, (column, assignment): &(String, Assignment)) -> bool {
        match assignment {
            Assignment::Null => true,
            Assignment::Default => self.without_default.contains(&(entity, column.clone())),
            Assignment::Value(_) | Assignment::PerRow(_) => false,
        }
    }

    /// Whether steps on the table look at columns of this native key.
    fn looks_at(&self, edge: &Edge) -> bool {
        let looked_at = self.looked_at.get(&edge.child);
        looked_at.is_some_and(|looked_at| edge.columns.iter().any(|column| looked_at.contains(column)))
    }

    fn planned(model: &Model, steps: &[Step]) -> Self {
        let mut changes = Self::default();
        for (number, step) in steps.iter().enumerate() {
            let StepAction::Update(assignments) = &step.action else { continue };
            let table = model.table_if_any(step.entity).map(|bound| &bound.table);
            let looked_at = changes.looked_at.entry(step.entity).or_default();
            looked_at.extend(model.graph.node(step.entity).key.iter().cloned());
            let edges = step.edges.iter().map(|edge| model.graph.edge(*edge));
            looked_at.extend(edges.flat_map(|edge| edge.columns.iter().chain(edge.when.iter().map(|when| &when.column))).cloned());
            let columns = assignments.iter().map(|(column, _)| column).filter(|column| !has_default(table, column));
            changes.without_default.extend(columns.map(|column| (step.entity, column.clone())));
            for row in &step.rows {
                let columns = assignments.iter().map(|(column, assignment)| (column.clone(), after(assignment, row)));
                let is_null = |one: &&(String, Assignment)| {
                    changes.writes_null(step.entity, one) || matches!(one.1, Assignment::PerRow(_)) && after(&one.1, row).is_none()
                };
                let lets_go = assignments.iter().filter(is_null).map(|(column, _)| column.clone()).collect();
                let through = step.edges.iter().copied().collect();
                let change = Change {
                    columns: columns.collect(),
                    through,
                    step: Some(number),
                    movers: BTreeSet::from([number]),
                    lets_go,
                    ..Change::new(row.root)
                };
                changes.rows.insert((step.entity, row.key.clone()), change);
            }
        }
        changes
    }

    /// A row follows a parent. Whether that is news, for those that follow the row.
    fn follow(&mut self, row: RowOf, (id, edge): (EdgeId, &Edge), held: &Key, parent: &Parent) -> bool {
        let change = self.rows.entry(row).or_insert_with(|| Change::new(parent.root));
        let hides = parent.may_hide && change.step.is_some_and(|own| parent.movers.iter().any(|mover| *mover != own));
        if hides {
            self.hiding.insert(edge.child);
            self.following.insert(edge.child);
        }
        if (parent.is_later || hides) && edge.columns.iter().any(|column| change.lets_go.contains(column)) {
            return false;
        }
        self.following.insert(edge.child);
        let movers = change.movers.len();
        change.movers.extend(&parent.movers);
        change.through.extend(&parent.through);
        let mut is_news = change.follows.insert(id, held.parts().to_vec()).is_none() || change.movers.len() > movers;
        for (column, after) in edge.columns.iter().zip(&parent.after) {
            let after = if edge.native_update == OnUpdate::Cascade { after.clone() } else { None };
            if parent.is_later {
                change.natively.insert(column.clone(), after.clone());
            }
            is_news |= change.columns.insert(column.clone(), after.clone()) != Some(after);
        }
        change.news += u32::from(is_news);
        is_news && change.news <= NEWS
    }
}

#[cfg(test)]
impl Changes {
    /// Native keys may hide rows of this table, and nothing is known of any.
    pub(super) fn of_table(entity: EntityId) -> Self {
        Self { following: BTreeSet::from([entity]), hiding: BTreeSet::from([entity]), ..Self::default() }
    }
}

impl Change {
    fn new(root: RootId) -> Self {
        let (columns, follows, natively, through, lets_go, movers) = Default::default();
        Self { root, columns, follows, natively, lets_go, through, step: None, movers, news: 0 }
    }
}

/// A row at which native keys point, with what it holds in their columns afterwards.
struct Parent {
    root: RootId,
    after: Vec<Option<String>>,
    through: BTreeSet<EdgeId>,
    /// Its change comes after all that is done to the rows that follow but their removal.
    is_later: bool,
    /// Its change comes before their removal.
    is_before_removal: bool,
    /// Its change may hide rows that follow from steps of theirs.
    may_hide: bool,
    /// The steps that change it, or such as it follows.
    movers: BTreeSet<usize>,
}

/// What becomes of the rows of these steps, and of those that follow natively: as many as there is room for.
pub(super) async fn changes(model: &Model, sessions: &mut Sessions, steps: &[Step], room: &Room) -> Result<Changes, Trouble> {
    let mut left = room.clone();
    let mut changes = Changes::planned(model, steps);
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
                    if parent.is_before_removal && moves_rows(model, edge) {
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

/// A column whose default is written as NULL has none.
fn has_default(table: Option<&TableRef>, column: &str) -> bool {
    let default = table.and_then(|table| table.column(column)).and_then(|column| column.default.as_deref());
    default.is_some_and(|text| !text.eq_ignore_ascii_case("null"))
}

/// Whether this native key changes the key of rows that follow by it, or what others follow them by: these may be rows that go, too.
fn moves_rows(model: &Model, edge: &Edge) -> bool {
    let is_followed = |target| model.graph.edges_at(target).any(|(_, edge)| edge.follows_natively());
    let followed = model.graph.targets_of(edge.child).filter(|(target, _)| is_followed(*target));
    let mut known = model.graph.node(edge.child).key.iter().chain(followed.flat_map(|(_, target)| &target.columns));
    known.any(|column| edge.columns.contains(column))
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
    let is_later = model.graph.place(edge.child) < model.graph.place(target.entity);
    let is_before_removal = model.graph.rank(edge.child) == model.graph.rank(target.entity);
    let may_hide = !is_later && changes.looks_at(edge);
    let one = |image| {
        let change = changes.rows.get(&(target.entity, TableRef::key_of(key, &image)?))?;
        let before = TableRef::key_of(&target.columns, &image)?;
        let part = |(column, before): (&String, &String)| change.columns.get(column).cloned().unwrap_or_else(|| Some(before.clone()));
        let after: Vec<Option<String>> = target.columns.iter().zip(before.parts()).map(part).collect();
        let stays = after.iter().zip(before.parts()).all(|(after, before)| after.as_ref() == Some(before));
        let (through, movers) = (change.through.clone(), change.movers.clone());
        (!stays).then_some((before, Parent { root: change.root, after, through, movers, is_later, is_before_removal, may_hide }))
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

    fn parent(after: &str, is_later: bool) -> Parent {
        Parent {
            root: RootId(0),
            after: vec![Some(after.to_owned())],
            through: BTreeSet::new(),
            is_later,
            is_before_removal: false,
            may_hide: false,
            movers: BTreeSet::new(),
        }
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
    fn h64_what_a_native_key_writes_is_known_only_if_it_follows_and_its_parent_goes_later() {
        let after = |native_update, is_later| {
            let mut changes = Changes::default();
            changes.follow((ITEMS, key("7")), (BY, &edge(native_update)), &key("1"), &parent("2", is_later));
            let change = &changes.rows[&(ITEMS, key("7"))];
            (change.columns["order_id"].clone(), change.natively.get("order_id").cloned(), change.step.is_some())
        };
        let text = || Some("2".to_owned());
        assert_eq!(after(OnUpdate::Cascade, true), (text(), Some(text()), false));
        assert_eq!(after(OnUpdate::Cascade, false), (text(), None, false));
        assert_eq!(after(OnUpdate::SetNull, true), (None, Some(None), false), "NULL, or what only the database knows");
    }
}
