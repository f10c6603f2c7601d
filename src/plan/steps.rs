//! What is to be done with each row, as steps: rows of one table to which the same happens, children before parents.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::consequence::assigned;
use super::expand::columns_key;
use super::order::{Planner, Touches};
use super::{Assignment, ChildRow, Fate, Plan, RootId, RowId, Step, StepAction, StepRow};
use crate::graph::{Edge, EdgeId, NativeDelete, NativeRank};
use crate::rules::EntityId;

/// What makes one step of many touches, in the order of the steps: whether it is late, rank, whether it deletes, native rank, turn, table, references,
/// action.
type StepKey = (bool, usize, bool, NativeRank, usize, EntityId, Vec<EdgeId>, StepAction);
/// What the updates of a row come to: the references, what is set, and the row's own values.
type Merged = (Vec<EdgeId>, StepAction, Vec<Option<String>>);
type Updates = BTreeMap<EdgeId, (RootId, Fate)>;

impl Planner<'_> {
    /// Groups the touches into steps, children before parents.
    pub(super) fn finish(&self, touches: Touches, plan: &mut Plan) {
        // A row that stays for a later portion goes too: a default that names it would be given to the same rows for ever.
        plan.vacated.extend(self.incomplete.iter().flat_map(|row| self.vacated_by(*row)));
        let turns = self.turns(&touches);
        let mut steps: BTreeMap<StepKey, Vec<StepRow>> = BTreeMap::new();
        for (row, touch) in touches {
            let (entity, child) = self.collected.row(row);
            let mut add = |is_late: bool, root: RootId, (edges, action, new): Merged| {
                *plan.rows.entry(root).or_default() += 1;
                let still = edges.iter().flat_map(|edge| texts(&self.graph.edge(*edge).columns, child)).collect();
                // Within a cycle, rows let go before others are deleted: a native key would change them behind us otherwise.
                let (rank, deletes) = (self.graph.rank(*entity), action == StepAction::Delete);
                let turn = turns.get(&row).copied().unwrap_or_default();
                let place = (is_late, rank, deletes, self.graph.native_rank(*entity), turn, *entity, edges, action);
                steps.entry(place).or_default().push(StepRow { key: child.key.clone(), still, new, root });
            };
            match touch.delete {
                Some(edge) => {
                    add(true, touch.root, (vec![edge], StepAction::Delete, Vec::new()));
                    plan.vacated.extend(self.vacated_by(row));
                }
                None => {
                    let (late, early) = self.by_root(row, touch.root, touch.updates);
                    early.iter().for_each(|(root, updates)| add(false, *root, self.merged(updates)));
                    add(true, touch.root, self.merged(&late));
                }
            }
        }
        for ((is_late, .., entity, edges, action), mut rows) in steps {
            rows.sort();
            plan.steps.push(Step { entity, edges, action, rows, is_early: !is_late });
        }
    }

    /// Where tables point at each other by native keys that refuse, no order of tables is right. Where a table points at itself by one, no statement
    /// takes all of its rows, if they go by several references or the key refuses at once. There each row that goes takes its turn behind those that
    /// point at it (H64). Rows in a circle take one turn together: their database may let them go so.
    fn turns(&self, touches: &Touches) -> BTreeMap<RowId, usize> {
        let goes = |row: &RowId| touches.get(row).is_some_and(|touch| touch.delete.is_some());
        let circles = self.circles(touches);
        if circles.is_empty() {
            return BTreeMap::new();
        }
        let is_on_circle = |row: &RowId| circles.contains(&self.graph.native_rank(self.collected.row(*row).0));
        let mut rows = DiGraph::<RowId, ()>::new();
        let places: BTreeMap<RowId, NodeIndex> =
            touches.keys().filter(|row| goes(row) && is_on_circle(row)).map(|row| (*row, rows.add_node(*row))).collect();
        for (row, place) in &places {
            for other in self.in_its_way(*row).iter().filter(|other| *other != row).filter_map(|other| places.get(other)) {
                rows.add_edge(*place, *other, ());
            }
        }
        let mut turns: BTreeMap<RowId, usize> = BTreeMap::new();
        // What an edge leads to comes first.
        for together in kosaraju_scc(&rows) {
            let first =
                together.iter().flat_map(|place| rows.neighbors(*place)).filter_map(|other| turns.get(rows.node_weight(other)?)).max();
            let turn = first.map_or(0, |turn| turn + 1);
            turns.extend(together.iter().filter_map(|place| Some((*rows.node_weight(*place)?, turn))));
        }
        turns
    }

    /// Of tables that point at each other, or at themselves, by native keys that refuse so.
    fn circles(&self, touches: &Touches) -> BTreeSet<NativeRank> {
        let mut seen = BTreeSet::new();
        let mut references: BTreeMap<EntityId, BTreeSet<EdgeId>> = BTreeMap::new();
        for (row, edge) in touches.iter().filter_map(|(row, touch)| Some((row, touch.delete?))) {
            references.entry(self.collected.row(*row).0).or_default().insert(edge);
        }
        let is_its_own = |edge: &Edge| {
            let statements = references.get(&edge.child).map_or(0, BTreeSet::len);
            let least = if statements > 1 { NativeDelete::Refuses } else { NativeDelete::RefusesAtOnce };
            self.graph.target(edge.target).entity == edge.child && edge.native_delete >= Some(least)
        };
        let own = self.graph.edges().filter(|(_, edge)| is_its_own(edge)).map(|(_, edge)| self.graph.native_rank(edge.child));
        let ranks = self.graph.nodes().map(|(entity, _)| self.graph.native_rank(entity));
        ranks.filter(|rank| !seen.insert(*rank)).chain(own).collect()
    }

    /// Rows that point at this one by native keys that refuse, of tables on its circle.
    fn in_its_way(&self, row: RowId) -> Vec<RowId> {
        let (entity, child) = self.collected.row(row);
        let rank = self.graph.native_rank(*entity);
        let mut rows = Vec::new();
        for (target, columns) in self.graph.targets_of(*entity) {
            let Some(key) = columns_key(&columns.columns, child) else { continue };
            let refuses = |edge: &Edge| edge.native_delete >= Some(NativeDelete::Refuses) && self.graph.native_rank(edge.child) == rank;
            let edges = self.graph.edges_at(target).filter(|(_, edge)| refuses(edge));
            rows.extend(edges.flat_map(|(edge, _)| self.children(edge, &key)).copied());
        }
        rows
    }

    /// The updates of a row by its first root, and those by others: they are written and kept by themselves, so that each cascade can be undone
    /// without the others. Where they write the same columns, or such as others know the row by, they stay together.
    fn by_root(&self, row: RowId, first: RootId, updates: Updates) -> (Updates, BTreeMap<RootId, Updates>) {
        let mut by_root: BTreeMap<RootId, Updates> = BTreeMap::new();
        for (edge, (root, fate)) in &updates {
            by_root.entry(*root).or_default().insert(*edge, (*root, fate.clone()));
        }
        let entity = self.collected.row(row).0;
        let mut used: BTreeSet<String> = self.graph.targets_of(entity).flat_map(|(_, target)| target.columns.iter().cloned()).collect();
        used.extend(self.graph.node(entity).key.iter().cloned());
        let are_apart =
            by_root.len() > 1 && by_root.values().all(|updates| self.columns(updates).into_iter().all(|column| used.insert(column)));
        match by_root.remove(&first).filter(|_| are_apart) {
            Some(of_first) => (of_first, by_root),
            None => (updates, BTreeMap::new()),
        }
    }

    /// The columns that these updates read or write.
    fn columns(&self, updates: &Updates) -> BTreeSet<String> {
        let of_edge = |(edge, (_, fate)): (&EdgeId, &(RootId, Fate))| {
            let edge = self.graph.edge(*edge);
            let written = assigned(edge, fate, &mut Vec::new()).into_iter().map(|(column, _)| column);
            let read = edge.columns.iter().chain(edge.when.iter().map(|when| &when.column)).cloned();
            written.chain(read).collect::<Vec<_>>()
        };
        updates.iter().flat_map(of_edge).collect()
    }

    /// The updates of one row as one.
    fn merged(&self, updates: &Updates) -> Merged {
        let mut assignments: BTreeMap<String, Assignment> = BTreeMap::new();
        let mut new = Vec::new();
        for (edge_id, (_, fate)) in updates {
            for (column, assignment) in assigned(self.graph.edge(*edge_id), fate, &mut new) {
                assignments.insert(column, assignment);
            }
        }
        (updates.keys().copied().collect(), StepAction::Update(assignments.into_iter().collect()), new)
    }
}

fn texts(columns: &[String], row: &ChildRow) -> Vec<String> {
    columns_key(columns, row).map(|key| key.parts().to_vec()).unwrap_or_default()
}
