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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::undo::archived as row;

    fn ids(rows: &[Archived]) -> Vec<i64> {
        rows.iter().map(|row| row.id).collect()
    }

    fn waiting() -> Aside {
        let mut aside = Aside::default();
        aside.put(row(9, &["1"]), "why");
        aside.put(row(8, &["2", "3"]), "another why");
        aside
    }

    #[test]
    fn h92_an_older_change_waits_for_a_younger_one_of_its_row_under_either_key() {
        let older = vec![row(7, &["1"]), row(6, &["4", "2"]), row(5, &["4"]), row(4, &["3"]), row(3, &["6"])];
        let (goes, waits) = waiting().sift(older);
        assert_eq!((ids(&goes), ids(&waits)), (vec![3], vec![7, 6, 5, 4]), "and so does what is behind it");
        let other_table = Archived { entity: "shop.lines".to_owned(), ..row(2, &["1"]) };
        assert_eq!(ids(&waiting().sift(vec![other_table]).0), [2]);
    }

    #[test]
    fn h92_what_waits_is_tried_once_more_the_youngest_first_and_what_went_meanwhile_is_in_nobodys_way() {
        let mut aside = waiting();
        aside.put(row(11, &["5"]), "why");
        let mut taken = waiting();
        assert_eq!(aside.again(), [11, 9, 8]);
        assert!(aside.rows.is_empty() && aside.sift(vec![row(7, &["1"])]).1.is_empty(), "nobody waits any more");
        taken.take(&BTreeSet::from([9]));
        assert_eq!(taken.rows, [(row(8, &["2", "3"]), "another why")]);
        let (goes, waits) = taken.sift(vec![row(7, &["1"]), row(6, &["3"])]);
        assert_eq!((ids(&goes), ids(&waits)), (vec![7], vec![6]));
    }
}
