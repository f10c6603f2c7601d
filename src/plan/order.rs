//! From verified roots to steps: which roots are held back, which rows go or change, children before parents.
//!
//! One plan per batch holds each row once (H24): delete wins over update, and the updates that reach one row by several references become one.

use std::collections::{BTreeMap, BTreeSet};

use super::consequence::{Consequence, consequence, is_change, sets_default};
use super::expand::{columns_key, from_root};
use super::portion;
use super::{ChildRow, Collected, Fate, Plan, Root, RootId, RowId, Scope, Seen, Verified};
use crate::graph::{Edge, EdgeId, Graph, Origin, TargetId};
use crate::rules::{Mode, OnDelete};
use crate::value::{Cell, Key};

/// Whether a reference acts on rows whose parent has this fate (rather than only counting them).
#[must_use]
pub fn acts(edge: &Edge, fate: &Fate) -> bool {
    consequence(edge, fate) != Consequence::Orphan
}

/// Limits and latches that hold for this batch.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Rows that one root may touch.
    pub rows_per_event: u64,
    /// References that a person has released, with the rows that may still go: a root that reaches its rows through these alone may touch as many.
    pub released: BTreeMap<EdgeId, u64>,
    /// References that are shut.
    pub latched: BTreeSet<EdgeId>,
    /// Rows that each reference may still touch in its window.
    pub window: BTreeMap<EdgeId, u64>,
    /// Which references are followed.
    pub scope: Scope,
    /// Nothing is written: what would go by a later event of its own is counted at once.
    pub is_dry: bool,
}

/// Why a root is held back, with the reference that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocked {
    /// Rows exist under a `restrict`.
    Restrict(EdgeId),
    /// A native foreign key without an action would refuse.
    Native(EdgeId),
    /// A reference in its subtree is latched.
    Latched(EdgeId),
    /// Its subtree has more rows than one event may touch.
    RowsPerEvent(EdgeId),
    /// A reference in its subtree has used up its window.
    Window(EdgeId),
    /// It has more rows than one transaction takes, counted up to this reference: it is worked in portions.
    Large(EdgeId),
    /// No portion of it can go by itself: it is worked whole.
    Whole(EdgeId),
}

impl Bounds {
    /// Rows that a root may touch which reaches these references.
    pub fn rows_of_root<'a>(&self, edges: impl Iterator<Item = &'a EdgeId>) -> u64 {
        let rows: Option<BTreeMap<EdgeId, u64>> = edges.map(|edge| Some((*edge, *self.released.get(edge)?))).collect();
        let more = rows.map_or(0, |rows| rows.into_values().fold(0, u64::saturating_add));
        self.rows_per_event.max(more)
    }

    /// What a root is over that reaches so many rows by each reference, if anything.
    #[must_use]
    pub fn exceeded(&self, per_edge: &BTreeMap<EdgeId, u64>) -> Option<Blocked> {
        let rows = per_edge.values().fold(0, |sum: u64, rows| sum.saturating_add(*rows));
        let most = per_edge.iter().max_by_key(|(_, rows)| **rows).map(|(edge, _)| *edge);
        let over = most.filter(|_| rows > self.rows_of_root(per_edge.keys())).map(Blocked::RowsPerEvent);
        over.or_else(|| overdrawn(per_edge, &mut self.window.clone()).map(Blocked::Window))
    }
}

/// What is to be done with one row.
#[derive(Debug, Clone)]
pub(super) struct Touch {
    /// The root by which it goes; of a row that stays, the first that changes it.
    pub(super) root: RootId,
    pub(super) delete: Option<EdgeId>,
    pub(super) updates: BTreeMap<EdgeId, (RootId, Fate)>,
}

pub(super) type Touches = BTreeMap<RowId, Touch>;

/// Makes the plan.
#[must_use]
pub fn plan(verified: Verified, graph: &Graph, bounds: &Bounds) -> Plan {
    let Verified { collected, confirmed } = verified;
    let spared = collected.roots().filter(|(_, root)| root.fate != Fate::Gone).map(|(_, root)| (root.target, root.key.clone())).collect();
    let incomplete = portion::incomplete(&collected, graph, bounds.scope);
    let planner = Planner { graph, collected: &collected, bounds, spared, incomplete };
    let doomed = collected.roots().filter(|(id, _)| confirmed.doomed.contains(id));
    let walks: Vec<_> = doomed.map(|(id, root)| (id, root, planner.walk(id, root))).collect();
    let waiting = collected.roots().filter(|(id, _)| confirmed.waiting.contains(id));
    let waiting = waiting.map(|(id, root)| (root, planner.walk_waiting(id, root)));
    // What holds one unique key of a parent row back holds what hangs on its others: a walk that ends early may not have come to a `restrict`.
    let held = |root: &Root, walk: &Result<Walk, Blocked>| Some(((root.target, root.key.clone()), *walk.as_ref().err()?));
    let mut refused: BTreeMap<(TargetId, Key), Blocked> = walks.iter().filter_map(|(_, root, walk)| held(root, walk)).collect();
    refused.extend(waiting.filter_map(|(root, walk)| held(root, &walk)));
    let mut plan = Plan::default();
    if collected.is_portion() {
        plan.unfinished = confirmed.doomed.clone();
    }
    // Holding one root back may leave a row that another root's native key trips over: again, until nothing changes.
    loop {
        let (mut touches, mut later) = (Touches::new(), BTreeMap::new());
        plan.orphans.clear();
        let mut window = bounds.window.clone();
        for (id, root, walk) in &walks {
            if plan.blocked.contains_key(id) {
                continue;
            }
            let blocked = match (walk, root.beside.iter().find_map(|other| refused.get(other))) {
                (Err(blocked), _) | (Ok(_), Some(blocked)) => Some(*blocked),
                (Ok(walk), None) => overdrawn(&walk.per_edge, &mut window).map(Blocked::Window),
            };
            if let Some(blocked) = blocked {
                plan.blocked.insert(*id, blocked);
            } else if let Ok(walk) = walk {
                merge(&mut touches, &walk.touches);
                later.extend(walk.goes_later.iter().map(|row| (*row, *id)));
                for (edge, rows) in &walk.orphans {
                    *plan.orphans.entry(*edge).or_default() += rows;
                }
            }
        }
        match planner.natively_refused(&touches, &later) {
            Some((root, edge)) => {
                plan.blocked.insert(root, Blocked::Native(edge));
                if let Some((_, root, _)) = walks.iter().find(|(id, ..)| *id == root) {
                    refused.insert((root.target, root.key.clone()), Blocked::Native(edge));
                }
            }
            None => {
                planner.finish(touches, &mut plan);
                return plan;
            }
        }
    }
}

/// Takes these rows out of the window, or names the reference whose window they would cross.
fn overdrawn(per_edge: &BTreeMap<EdgeId, u64>, window: &mut BTreeMap<EdgeId, u64>) -> Option<EdgeId> {
    let left = |edge: &EdgeId, window: &BTreeMap<EdgeId, u64>| window.get(edge).copied().unwrap_or(u64::MAX);
    if let Some((edge, _)) = per_edge.iter().find(|(edge, rows)| **rows > left(edge, window)) {
        return Some(*edge);
    }
    for (edge, rows) in per_edge {
        if let Some(left) = window.get_mut(edge) {
            *left -= rows;
        }
    }
    None
}

fn merge(all: &mut Touches, more: &Touches) {
    for (row, touch) in more {
        match all.get_mut(row) {
            None => {
                all.insert(*row, touch.clone());
            }
            Some(known) => {
                if known.delete.is_none() && touch.delete.is_some() {
                    (known.root, known.delete) = (touch.root, touch.delete);
                }
                // Of a row by which two roots come here, the first has its removal: and so what that changes.
                for (edge, update) in &touch.updates {
                    known.updates.entry(*edge).or_insert_with(|| update.clone());
                }
            }
        }
    }
}

/// One root's subtree.
#[derive(Default)]
struct Walk {
    touches: Touches,
    per_edge: BTreeMap<EdgeId, u64>,
    orphans: BTreeMap<EdgeId, u64>,
    /// Rows that are left alone now: they change another time, if at all.
    looked_at: BTreeSet<RowId>,
    /// The references by which they were come to.
    looked_by: BTreeSet<EdgeId>,
    /// Those of them that go then.
    goes_later: BTreeSet<RowId>,
}

/// How rows were come to.
#[derive(Clone, Copy)]
struct Reached<'a> {
    root: RootId,
    edge_id: EdgeId,
    edge: &'a Edge,
    /// What happened to the row that they point at.
    fate: &'a Fate,
    how: How,
}

#[derive(Clone, Copy)]
struct How {
    /// They are left alone, and counted for what they refuse.
    hands_off: bool,
    /// By a reference in shadow, or below one.
    in_shadow: bool,
}

pub(super) struct Planner<'a> {
    pub(super) graph: &'a Graph,
    pub(super) collected: &'a Collected,
    bounds: &'a Bounds,
    /// Keys whose children were not followed further down when they were read.
    spared: BTreeSet<(TargetId, Key)>,
    /// Rows that stay for a later portion.
    pub(super) incomplete: BTreeSet<RowId>,
}

impl Planner<'_> {
    pub(super) fn children(&self, edge: EdgeId, key: &Key) -> &[RowId] {
        self.collected.children.get(&(edge, key.clone())).map_or(&[], Vec::as_slice)
    }

    /// Everything that one root entails, or what holds it back.
    fn walk(&self, id: RootId, root: &Root) -> Result<Walk, Blocked> {
        let mut walk = Walk::default();
        let mut open = Vec::new();
        for (edge_id, edge) in self.graph.edges_at(root.target).filter(|(_, edge)| from_root(edge, self.bounds.scope)) {
            let may_touch = |row: &RowId| !is_change(edge, &root.fate) || self.may_touch(root, (edge_id, edge), *row);
            let rows: Vec<RowId> = self.children(edge_id, &root.key).iter().copied().filter(may_touch).collect();
            let how = How { hands_off: false, in_shadow: edge.mode == Mode::Shadow };
            self.reach(Reached { root: id, edge_id, edge, fate: &root.fate, how }, &rows, &mut walk, &mut open)?;
        }
        while let Some((row, how)) = open.pop() {
            let (entity, child) = self.collected.row(row);
            // Where keys may change, a row below may mean another row that had this key before: it is seen to when this row's own removal is
            // told, with all that was told before it. Until then it counts for what it refuses. A native key leaves no doubt, and what is in
            // shadow never goes.
            let in_doubt = self.graph.keys_may_change(*entity) && !how.in_shadow && !self.bounds.is_dry;
            for (target, columns) in self.graph.targets_of(*entity) {
                let Some(key) = columns_key(&columns.columns, child) else { continue };
                let is_spared = self.spared.contains(&(target, key.clone()));
                for (edge_id, edge) in self.graph.edges_at(target).filter(|(_, edge)| self.bounds.scope.includes(edge)) {
                    let hands_off = how.hands_off || is_spared || in_doubt && !edge.is_native();
                    let how = How { hands_off, in_shadow: how.in_shadow || edge.mode == Mode::Shadow };
                    let rows = self.children(edge_id, &key).to_vec();
                    self.reach(Reached { root: id, edge_id, edge, fate: &Fate::Gone, how }, &rows, &mut walk, &mut open)?;
                }
            }
        }
        self.leave_incomplete(&mut walk);
        Ok(walk)
    }

    /// Takes out of a portion the rows that would go before what is below them.
    fn leave_incomplete(&self, walk: &mut Walk) {
        if self.incomplete.is_empty() {
            return;
        }
        let stays = |row: &RowId, touch: &Touch| touch.delete.is_some() && self.incomplete.contains(row);
        let goes = walk.touches.iter().filter(|(row, touch)| touch.delete.is_some() && !stays(row, touch));
        let going: BTreeSet<(TargetId, Key)> = goes.flat_map(|(row, _)| self.values(*row)).collect();
        // A row that stays is kept as it is before a native key makes it let go of one that goes.
        let lets_go = |row: &RowId, edge: &EdgeId| {
            let edge = self.graph.edge(*edge);
            let held = columns_key(&edge.columns, &self.collected.row(*row).1);
            edge.is_native() && held.is_some_and(|key| going.contains(&(edge.target, key)))
        };
        walk.touches.retain(|row, touch| {
            if stays(row, touch) {
                touch.delete = None;
                touch.updates.retain(|edge, _| lets_go(row, edge));
            }
            touch.delete.is_some() || !touch.updates.is_empty()
        });
        walk.per_edge.clear();
        for touch in walk.touches.values() {
            let updates = touch.updates.keys().filter(|_| touch.delete.is_none());
            for edge in touch.delete.iter().chain(updates) {
                *walk.per_edge.entry(*edge).or_default() += 1;
            }
        }
    }

    /// What holds back a root of which nothing may be touched yet. Of an unclear one, whatever may refuse one of the things that may have befallen
    /// it: its rows are not followed further down, so a reference that leads to a `restrict` counts as one.
    fn walk_waiting(&self, id: RootId, root: &Root) -> Result<Walk, Blocked> {
        if !matches!(root.fate, Fate::Unclear(_)) {
            return self.walk(id, root);
        }
        let edges = self.graph.edges_at(root.target);
        for (id, _) in edges.filter(|(id, edge)| from_root(edge, self.bounds.scope) && self.graph.may_refuse(*id)) {
            if self.bounds.latched.contains(&id) {
                return Err(Blocked::Latched(id));
            }
            if !self.children(id, &root.key).is_empty() {
                return Err(Blocked::Restrict(id));
            }
        }
        Ok(Walk::default())
    }

    /// Whether a row was read before the look-up that proves its root gone. What is in shadow is only counted.
    fn may_touch(&self, root: &Root, (edge_id, edge): (EdgeId, &Edge), row: RowId) -> bool {
        let child = &self.collected.row(row).1;
        let seen = || Seen { edge: edge_id, key: child.key.clone(), version: child.version.clone() };
        edge.mode == Mode::Shadow || root.seen.as_ref().is_none_or(|rows| rows.contains(&seen()))
    }

    fn reach(&self, reached: Reached<'_>, rows: &[RowId], walk: &mut Walk, open: &mut Vec<(RowId, How)>) -> Result<(), Blocked> {
        let Reached { root, edge_id, edge, fate, how } = reached;
        if self.bounds.latched.contains(&edge_id) {
            return Err(Blocked::Latched(edge_id));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let deletes = match consequence(edge, fate) {
            Consequence::Orphan if how.hands_off => return Ok(()),
            Consequence::Orphan => {
                *walk.orphans.entry(edge_id).or_default() += u64::try_from(rows.len()).unwrap_or(u64::MAX);
                return Ok(());
            }
            // A native key without an action is judged at the end, when it is known what else goes.
            Consequence::Refuse if edge.origin == Origin::Native => return Ok(()),
            Consequence::Refuse => return Err(Blocked::Restrict(edge_id)),
            Consequence::Delete => true,
            Consequence::Update => false,
        };
        for row in rows {
            if how.hands_off {
                walk.looked_at.insert(*row);
                walk.looked_by.insert(edge_id);
                if deletes && walk.goes_later.insert(*row) {
                    open.push((*row, how));
                }
                continue;
            }
            if !deletes && is_settled(edge, fate, &self.collected.row(*row).1) {
                continue;
            }
            let fresh = Touch { root, delete: None, updates: BTreeMap::new() };
            let touch = walk.touches.entry(*row).or_insert(fresh);
            if deletes {
                if touch.delete.is_none() {
                    touch.delete = Some(edge_id);
                    open.push((*row, how));
                    *walk.per_edge.entry(edge_id).or_default() += 1;
                }
            } else if touch.updates.insert(edge_id, (root, fate.clone())).is_none() {
                *walk.per_edge.entry(edge_id).or_default() += 1;
            }
        }
        let limit = self.bounds.rows_of_root(walk.per_edge.keys().chain(&walk.looked_by));
        if u64::try_from(walk.touches.len() + walk.looked_at.len()).unwrap_or(u64::MAX) > limit {
            return Err(Blocked::RowsPerEvent(edge_id));
        }
        Ok(())
    }

    /// A root whose removal a native foreign key would refuse: a row points at a doomed row and neither goes nor lets go. Of a row that goes later,
    /// those that go later, too, are in nobody's way.
    fn natively_refused(&self, touches: &Touches, later: &BTreeMap<RowId, RootId>) -> Option<(RootId, EdgeId)> {
        let goes_now = |row: &RowId| touches.get(row).is_some_and(|touch| touch.delete.is_some());
        let goes = |row: &RowId| goes_now(row) || later.contains_key(row);
        let now = touches.iter().filter(|(_, touch)| touch.delete.is_some()).map(|(row, touch)| (*row, touch.root));
        let refused_now = now.filter_map(|(row, root)| Some((root, self.native_refusal(row, &goes_now)?))).next();
        let refused_later = || later.iter().filter_map(|(row, root)| Some((*root, self.native_refusal(*row, &goes)?))).next();
        refused_now.or_else(refused_later)
    }

    fn native_refusal(&self, row: RowId, goes: &dyn Fn(&RowId) -> bool) -> Option<EdgeId> {
        let (entity, child) = self.collected.row(row);
        for (target, columns) in self.graph.targets_of(*entity) {
            let Some(key) = columns_key(&columns.columns, child) else { continue };
            let refuses = |edge: &Edge| edge.origin == Origin::Native && consequence(edge, &Fate::Gone) == Consequence::Refuse;
            let mut edges = self.graph.edges_at(target).filter(|(_, edge)| refuses(edge));
            if let Some((edge, _)) = edges.find(|(edge, _)| self.children(*edge, &key).iter().any(|row| !goes(row))) {
                return Some(edge);
            }
        }
        None
    }

    /// The values by which references may know a row.
    fn values(&self, row: RowId) -> impl Iterator<Item = (TargetId, Key)> {
        let (entity, child) = self.collected.row(row);
        self.graph.targets_of(*entity).filter_map(|(target, columns)| Some((target, columns_key(&columns.columns, child)?)))
    }

    /// Those of them at which defaults may point.
    pub(super) fn vacated_by(&self, row: RowId) -> impl Iterator<Item = (TargetId, Key)> {
        self.values(row).filter(|(target, _)| self.graph.edges_at(*target).any(|(_, edge)| sets_default(edge)))
    }
}

/// The row already holds what a `set` would write, so that doing it again changes nothing.
#[must_use]
pub fn is_settled(edge: &Edge, fate: &Fate, row: &ChildRow) -> bool {
    let (OnDelete::Set(values), Fate::Gone | Fate::Unclear(_)) = (&edge.on_delete, fate) else { return false };
    values.iter().all(|(column, value)| match (row.image.get(column), value) {
        (Some(Cell::Null), None) => true,
        (Some(Cell::Value(held)), Some(wanted)) => held == wanted,
        _ => false,
    })
}
