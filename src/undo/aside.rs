//! Rows that have to wait while others are put back.

use std::collections::BTreeSet;

use crate::ledger::Archived;
use crate::value::Key;

/// Rows that cannot go back yet, and whatever older changes of the same rows come behind them.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) rows: Vec<(Archived, &'static str)>,
    keys: BTreeSet<(String, Key)>,
}

impl Aside {
    pub(super) fn put(&mut self, row: Archived, why: &'static str) {
        self.keys.extend(row.keys().map(|key| (row.entity.clone(), key.clone())));
        self.rows.push((row, why));
    }

    /// Parts rows from what has to wait for a younger change of its row.
    pub(super) fn sift(&self, rows: Vec<Archived>) -> (Vec<Archived>, Vec<Archived>) {
        let mut more: BTreeSet<(String, Key)> = BTreeSet::new();
        rows.into_iter().partition(|row| {
            let own = || row.keys().map(|key| (row.entity.clone(), key.clone()));
            let waits = own().any(|key| self.keys.contains(&key) || more.contains(&key));
            if waits {
                more.extend(own());
            }
            !waits
        })
    }

    /// Everything that waits, the youngest first, to be tried once more.
    pub(super) fn again(&mut self) -> Vec<i64> {
        let mut ids: Vec<i64> = std::mem::take(self).rows.into_iter().map(|(row, _)| row.id).collect();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids
    }

    /// Takes these rows out, whatever else waits for them.
    pub(super) fn take(&mut self, ids: &BTreeSet<i64>) {
        let rows = std::mem::take(self).rows.into_iter().filter(|(row, _)| !ids.contains(&row.id));
        rows.for_each(|(row, why)| self.put(row, why));
    }
}
