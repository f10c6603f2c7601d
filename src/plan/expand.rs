//! Parents to children along the graph, to a fixpoint over visited rows.
//!
//! Asks with [`Need`]: one question per reference and round, for all keys at once. A row is visited once however many paths lead to it, so
//! every cycle ends (H25). Reads nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChildRow, Collected, Fate, Root, RowId, Scope};
use crate::graph::{Edge, EdgeId, Graph, Origin, TargetId};
use crate::rules::{EntityId, OnDelete};
use crate::value::{Cell, Key};

/// Which rows to read next: those whose reference columns hold one of these keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The reference.
    pub edge: EdgeId,
    /// Sorted, no repeats, not empty.
    pub keys: Vec<Key>,
}

/// The walk down the graph.
#[derive(Debug)]
pub struct Expansion<'g> {
    graph: &'g Graph,
    collected: Collected,
    index: BTreeMap<(EntityId, Key), RowId>,
    doomed: BTreeSet<RowId>,
    frontier: BTreeMap<EdgeId, BTreeSet<Key>>,
    /// Keys of parents that moved, or of which nobody can say: their children do not go.
    spared: BTreeSet<(TargetId, Key)>,
    /// References that are shut: not asked, so that a table that cannot be read stands in nobody's way but its own.
    latched: &'g BTreeSet<EdgeId>,
    scope: Scope,
}

impl<'g> Expansion<'g> {
    /// Starts from these roots. References in `latched` are not asked.
    #[must_use]
    pub fn new(graph: &'g Graph, roots: Vec<Root>, latched: &'g BTreeSet<EdgeId>, scope: Scope) -> Self {
        let collected = Collected { roots: Vec::new(), rows: Vec::new(), children: BTreeMap::new(), unread: BTreeSet::new() };
        let spared = roots.iter().filter(|root| root.fate != Fate::Gone).map(|root| (root.target, root.key.clone()));
        let spared = spared.collect();
        let mut expansion =
            Self { graph, collected, index: BTreeMap::new(), doomed: BTreeSet::new(), frontier: BTreeMap::new(), spared, latched, scope };
        for root in &roots {
            for (edge, _) in graph.edges_at(root.target).filter(|(_, edge)| from_root(edge, scope)) {
                expansion.ask(edge, &root.key);
            }
        }
        expansion.collected.roots = roots;
        expansion
    }

    /// The next round of questions; empty when there is nothing left to ask. Each must be answered before the next round.
    pub fn needs(&mut self) -> Vec<Need> {
        std::mem::take(&mut self.frontier).into_iter().map(|(edge, keys)| Need { edge, keys: keys.into_iter().collect() }).collect()
    }

    /// Takes the rows read for a need. Rows that point at none of its keys are ignored.
    pub fn answer(&mut self, need: &Need, rows: Vec<ChildRow>) {
        let edge = self.graph.edge(need.edge);
        for row in rows {
            let Some(points_at) = columns_key(&edge.columns, &row) else { continue };
            if need.keys.binary_search(&points_at).is_err() {
                continue;
            }
            let dooms = edge.on_delete == OnDelete::Cascade && !self.spared.contains(&(edge.target, points_at.clone()));
            let id = self.visit(edge.child, row);
            let children = self.collected.children.entry((need.edge, points_at)).or_default();
            if !children.contains(&id) {
                children.push(id);
            }
            if dooms && self.doomed.insert(id) {
                self.expand(edge.child, id);
            }
        }
    }

    /// Leaves rows of these keys unread, all or some: whatever hangs on them is not known whole.
    pub fn leave(&mut self, edge: EdgeId, keys: &[Key]) {
        self.collected.unread.extend(keys.iter().map(|key| (edge, key.clone())));
    }

    /// Whether the rows of this reference can have rows below them that are read too.
    #[must_use]
    pub fn leads_on(&self, edge: EdgeId) -> bool {
        let edge = self.graph.edge(edge);
        let mut targets = self.graph.targets_of(edge.child);
        edge.on_delete == OnDelete::Cascade
            && targets.any(|(target, _)| self.graph.edges_at(target).any(|(_, below)| self.scope.includes(below)))
    }

    /// How many rows were read so far.
    #[must_use]
    pub fn rows_read(&self) -> usize {
        self.collected.rows.len()
    }

    /// What was read, when nothing is left to ask.
    #[must_use]
    pub fn finish(self) -> Collected {
        debug_assert!(self.frontier.is_empty(), "questions are left unanswered");
        self.collected
    }

    fn visit(&mut self, entity: EntityId, row: ChildRow) -> RowId {
        let next = RowId(u32::try_from(self.collected.rows.len()).expect("a batch holds fewer than 2^32 rows"));
        let id = *self.index.entry((entity, row.key.clone())).or_insert(next);
        if id == next {
            self.collected.rows.push((entity, row));
        }
        id
    }

    fn expand(&mut self, entity: EntityId, id: RowId) {
        for (target, columns) in self.graph.targets_of(entity) {
            let Some(key) = columns_key(&columns.columns, &self.collected.row(id).1) else { continue };
            let scope = self.scope;
            for (edge, _) in self.graph.edges_at(target).filter(|(_, edge)| scope.includes(edge)) {
                self.ask(edge, &key);
            }
        }
    }

    fn ask(&mut self, edge: EdgeId, key: &Key) {
        if self.latched.contains(&edge) {
            return;
        }
        if let std::collections::btree_map::Entry::Vacant(unasked) = self.collected.children.entry((edge, key.clone())) {
            unasked.insert(Vec::new());
            self.frontier.entry(edge).or_default().insert(key.clone());
        }
    }
}

/// Native keys at a root are the service's own affair: its database has applied them already.
pub(super) fn from_root(edge: &Edge, scope: Scope) -> bool {
    edge.origin != Origin::Native && scope.includes(edge)
}

/// The key that a row carries in these columns; `None` if one is null or unknown: it points at nothing (H57).
pub(crate) fn columns_key(columns: &[String], row: &ChildRow) -> Option<Key> {
    Key::from_cells(columns.iter().map(|column| row.image.get(column).unwrap_or(&Cell::Unknown)))
}
