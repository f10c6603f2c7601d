//! How many rows may follow natively beside those that were planned: they go through the same limits (promise 5).

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::EdgeId;
use crate::plan::{Bounds, Plan, RootId};
use crate::sink::Limit;

/// What a plan leaves of the limits.
#[derive(Clone)]
pub(crate) struct Room {
    /// The limits; of the windows, what the plan leaves.
    bounds: Bounds,
    /// The references by which each root has its rows.
    edges: BTreeMap<RootId, BTreeSet<EdgeId>>,
    /// Rows that were planned, per root; those that follow add up.
    taken: BTreeMap<RootId, u64>,
    /// Rows that may follow in this transaction.
    most: usize,
}

impl Room {
    /// The limits, as they were before the plan; no more than `most` rows may follow.
    pub(crate) fn beside(plan: &Plan, bounds: &Bounds, most: usize) -> Self {
        let (mut bounds, mut edges) = (bounds.clone(), BTreeMap::<RootId, BTreeSet<EdgeId>>::new());
        for step in &plan.steps {
            for row in &step.rows {
                edges.entry(row.root).or_default().extend(&step.edges);
            }
            for edge in &step.edges {
                let rows = u64::try_from(step.rows.len()).unwrap_or(u64::MAX);
                bounds.window.entry(*edge).and_modify(|left| *left = left.saturating_sub(rows));
            }
        }
        Self { bounds, edges, taken: plan.rows.clone(), most }
    }

    /// Rows that there is room for, at the most.
    pub(super) fn rows(&self) -> usize {
        self.most
    }

    /// Takes a row of this root, that follows by this key; or names the limit that is in the way.
    pub(super) fn take(&mut self, root: RootId, edge: EdgeId) -> Result<(), Limit> {
        let taken = self.taken.entry(root).or_default();
        *taken += 1;
        let edges = self.edges.entry(root).or_default();
        edges.insert(edge);
        if *taken > self.bounds.rows_of_root(edges.iter()) {
            return Err(Limit::RowsPerEvent);
        }
        let window = self.bounds.window.entry(edge).or_insert(u64::MAX);
        *window = window.checked_sub(1).ok_or(Limit::Rows)?;
        self.most = self.most.checked_sub(1).ok_or(Limit::RowsPerEvent)?;
        Ok(())
    }
}
