//! How many rows may follow natively beside those that were planned: they go through the same limits (promise 5).

use std::collections::BTreeMap;

use crate::graph::EdgeId;
use crate::plan::{Plan, RootId};
use crate::sink::Limit;

/// What a plan leaves of the limits.
#[derive(Clone)]
pub(crate) struct Room {
    /// Rows that one root may touch.
    rows_per_event: u64,
    /// Rows that were planned, per root; those that follow add up.
    taken: BTreeMap<RootId, u64>,
    /// Rows that each reference may still touch in its window.
    window: BTreeMap<EdgeId, u64>,
    /// Rows that may follow in this transaction.
    most: usize,
}

impl Room {
    /// The limits, as they were before the plan; no more than `most` rows may follow.
    pub(crate) fn beside(plan: &Plan, rows_per_event: u64, mut window: BTreeMap<EdgeId, u64>, most: usize) -> Self {
        for step in &plan.steps {
            for edge in &step.edges {
                let rows = u64::try_from(step.rows.len()).unwrap_or(u64::MAX);
                window.entry(*edge).and_modify(|left| *left = left.saturating_sub(rows));
            }
        }
        Self { rows_per_event, taken: plan.rows.clone(), window, most }
    }

    /// Rows that there is room for, at the most.
    pub(super) fn rows(&self) -> usize {
        self.most
    }

    /// Takes a row of this root, that follows by this key; or names the limit that is in the way.
    pub(super) fn take(&mut self, root: RootId, edge: EdgeId) -> Result<(), Limit> {
        let taken = self.taken.entry(root).or_default();
        *taken += 1;
        if *taken > self.rows_per_event {
            return Err(Limit::RowsPerEvent);
        }
        let window = self.window.entry(edge).or_insert(u64::MAX);
        *window = window.checked_sub(1).ok_or(Limit::Rows)?;
        self.most = self.most.checked_sub(1).ok_or(Limit::RowsPerEvent)?;
        Ok(())
    }
}
