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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Scope;

    const ROOT: RootId = RootId(0);
    const ORDERS: EdgeId = EdgeId(0);
    const ITEMS: EdgeId = EdgeId(1);

    fn room(rows_per_event: u64, window: &[(EdgeId, u64)], most: usize) -> Room {
        let (released, latched) = (BTreeMap::new(), BTreeSet::new());
        let window = window.iter().copied().collect();
        let bounds = Bounds { rows_per_event, released, latched, window, scope: Scope::Enforced, is_dry: false };
        Room { bounds, edges: BTreeMap::new(), taken: BTreeMap::new(), most }
    }

    /// What taking one row after the other comes to.
    fn taken(room: &mut Room, rows: &[(RootId, EdgeId)]) -> Vec<Result<(), Limit>> {
        rows.iter().map(|(root, edge)| room.take(*root, *edge)).collect()
    }

    #[test]
    fn h79_rows_that_follow_go_through_every_limit_and_end_at_it_exactly() {
        let rows = [(ROOT, ORDERS); 3];
        let over = |limit| vec![Ok(()), Ok(()), Err(limit)];
        assert_eq!(taken(&mut room(2, &[], 9), &rows), over(Limit::RowsPerEvent), "of one event");
        assert_eq!(taken(&mut room(9, &[(ORDERS, 2), (ITEMS, 0)], 9), &rows), over(Limit::Rows), "of the window");
        assert_eq!(taken(&mut room(9, &[], 2), &rows), over(Limit::RowsPerEvent), "of the transaction");
        let mut two = room(1, &[], 9);
        assert_eq!(taken(&mut two, &[(ROOT, ORDERS), (RootId(1), ORDERS)]), [Ok(()), Ok(())], "each event has its own");
        assert_eq!(two.rows(), 7, "and what is left of the transaction is known");
    }

    #[test]
    fn h81_a_released_reference_lets_its_rows_follow_but_none_of_another() {
        let released = || Room { bounds: Bounds { released: [(ORDERS, 3)].into(), ..room(1, &[], 9).bounds }, ..room(1, &[], 9) };
        assert_eq!(taken(&mut released(), &[(ROOT, ORDERS); 4]), [Ok(()), Ok(()), Ok(()), Err(Limit::RowsPerEvent)]);
        assert_eq!(taken(&mut released(), &[(ROOT, ORDERS), (ROOT, ITEMS)]), [Ok(()), Err(Limit::RowsPerEvent)]);
    }
}
