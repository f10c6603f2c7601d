//! What an undo counts.

use super::OnConflict;
use super::verdict::Verdict;
use crate::ledger::Archived;

/// Conflicts that are told one by one.
const TOLD: usize = 20;

/// Rows of one entity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that were missing and are back.
    pub inserted: u64,
    /// Rows that were changed and are set back.
    pub set_back: u64,
    /// Rows that were as before already.
    pub already: u64,
    /// Images of rows of which the same undo puts a younger image back.
    pub superseded: u64,
    /// Newer rows that were overwritten.
    pub overwritten: u64,
    /// Rows left alone: a newer one stands in their place, or they cannot be told any more.
    pub conflicts: u64,
    /// Rows that a constraint of their table refuses.
    pub refused: u64,
    /// Rows put back that are not as they were all the same: a trigger or a rule had a hand in it, or a column is gone.
    pub differing: u64,
    /// Some of the conflicts: the row, and why.
    pub told: Vec<(String, String)>,
}

impl Tally {
    pub(super) fn count(&mut self, row: &Archived, verdict: &Verdict, policy: OnConflict) {
        let why = match verdict {
            Verdict::Insert => return self.inserted += 1,
            Verdict::SetBack(_) | Verdict::SetBackInPlace(_) => return self.set_back += 1,
            Verdict::Already => return self.already += 1,
            Verdict::Superseded => return self.superseded += 1,
            Verdict::Newer(_) if policy == OnConflict::Overwrite => return self.overwritten += 1,
            Verdict::Newer(_) if row.is_removed => "a newer row has its key",
            Verdict::Newer(_) => "it was changed since",
            Verdict::Lost(why) => why,
        };
        self.conflicts += 1;
        self.tell(row, why);
    }

    pub(super) fn tell(&mut self, row: &Archived, why: &str) {
        if self.told.len() < TOLD {
            self.told.push((row.key.as_ref().map(ToString::to_string).unwrap_or_default(), why.to_owned()));
        }
    }

    pub(super) fn add(&mut self, other: Tally) {
        self.inserted += other.inserted;
        self.set_back += other.set_back;
        self.already += other.already;
        self.superseded += other.superseded;
        self.overwritten += other.overwritten;
        self.conflicts += other.conflicts;
        self.refused += other.refused;
        self.differing += other.differing;
        self.told.extend(other.told);
        self.told.truncate(TOLD);
    }
}

/// Counts per entity, in the order of the work.
#[derive(Default)]
pub(super) struct Tables(pub(super) Vec<(String, Tally)>);

impl Tables {
    pub(super) fn add(&mut self, entity: String, tally: Tally) {
        match self.0.iter_mut().find(|(known, _)| *known == entity) {
            Some((_, known)) => known.add(tally),
            None => self.0.push((entity, tally)),
        }
    }

    pub(super) fn refuse(&mut self, row: &Archived, why: &str) {
        let mut tally = Tally { refused: 1, ..Tally::default() };
        tally.tell(row, why);
        self.add(row.entity.clone(), tally);
    }

    pub(super) fn written(&self) -> u64 {
        self.0.iter().map(|(_, tally)| tally.inserted + tally.set_back + tally.overwritten).sum()
    }

    pub(super) fn looked_at(&self) -> u64 {
        self.written() + self.0.iter().map(|(_, tally)| tally.already + tally.superseded + tally.conflicts).sum::<u64>()
    }
}

/// The counts of both passes; what the first could not put back was looked at again by the second.
pub(super) fn again(first: Vec<(String, Tally)>, second: Vec<(String, Tally)>) -> Vec<(String, Tally)> {
    let mut tables = Tables(first);
    for (_, tally) in &mut tables.0 {
        (tally.conflicts, tally.refused) = (0, 0);
        tally.told.clear();
    }
    second.into_iter().for_each(|(entity, tally)| tables.add(entity, tally));
    tables.0
}

#[cfg(test)]
mod tests {
    use super::super::{archived, page::is_done};
    use super::*;

    fn counted(verdicts: &[Verdict], policy: OnConflict) -> Tally {
        let mut tally = Tally::default();
        verdicts.iter().for_each(|verdict| tally.count(&archived(1, &["10"]), verdict, policy));
        tally
    }

    #[test]
    fn h92_every_verdict_is_counted_as_what_is_done_about_it() {
        use Verdict::{Already, Insert, Lost, Newer, SetBack, SetBackInPlace, Superseded};
        let set_back = || Tally { set_back: 1, ..Tally::default() };
        let told = |why: &str| Tally { conflicts: 1, told: vec![("10".to_owned(), why.to_owned())], ..Tally::default() };
        let cases = [
            (Insert, Tally { inserted: 1, ..Tally::default() }, true),
            (SetBack(vec![1]), set_back(), true),
            (SetBackInPlace(vec![1]), set_back(), true),
            (Already, Tally { already: 1, ..Tally::default() }, true),
            (Superseded, Tally { superseded: 1, ..Tally::default() }, true),
            (Newer(vec![1]), told("a newer row has its key"), false),
            (Lost("the row is gone"), told("the row is gone"), false),
        ];
        for policy in [OnConflict::Fail, OnConflict::Skip] {
            for (verdict, expected, done) in &cases {
                assert_eq!(&counted(std::slice::from_ref(verdict), policy), expected, "{verdict:?}");
                assert_eq!(is_done(verdict, policy), *done, "{verdict:?}");
            }
        }
        let overwritten = Tally { overwritten: 1, ..Tally::default() };
        assert_eq!(counted(&[Newer(vec![1])], OnConflict::Overwrite), overwritten);
        assert!(is_done(&Newer(vec![1]), OnConflict::Overwrite) && !is_done(&Lost("gone"), OnConflict::Overwrite));
        let mut changed = Tally::default();
        changed.count(&archived(1, &["10", "10"]), &Newer(vec![1]), OnConflict::Fail);
        assert_eq!(changed, told("it was changed since"));
    }

    #[test]
    fn counts_of_pages_and_of_both_passes_add_up() {
        let page = Tally {
            inserted: 1,
            set_back: 2,
            already: 4,
            superseded: 8,
            overwritten: 16,
            conflicts: 32,
            refused: 64,
            differing: 128,
            told: vec![("10".to_owned(), "why".to_owned())],
        };
        let mut tables = Tables::default();
        tables.add("shop.orders".to_owned(), page.clone());
        tables.add("shop.orders".to_owned(), page.clone());
        tables.add("shop.lines".to_owned(), page.clone());
        assert_eq!((tables.written(), tables.looked_at()), (3 * 19, 3 * 63));
        let orders = tables.0.first().expect("the orders").1.clone();
        assert_eq!((orders.inserted, orders.set_back, orders.already, orders.superseded), (2, 4, 8, 16));
        assert_eq!((orders.overwritten, orders.conflicts, orders.refused, orders.differing, orders.told.len()), (32, 64, 128, 256, 2));
        let (first, second) = (vec![("shop.orders".to_owned(), page.clone())], vec![("shop.orders".to_owned(), page)]);
        let both = again(first, second).pop().expect("the orders").1;
        assert_eq!((both.inserted, both.conflicts, both.refused, both.told.len()), (2, 32, 64, 1), "the second pass looked at them again");
    }

    #[test]
    fn only_some_conflicts_are_told_one_by_one() {
        let many = vec![Verdict::Lost("the row is gone"); TOLD + 1];
        let tally = counted(&many, OnConflict::Skip);
        assert_eq!((tally.conflicts, tally.told.len()), (TOLD as u64 + 1, TOLD));
        let mut twice = tally.clone();
        twice.add(tally);
        assert_eq!((twice.conflicts, twice.told.len()), (2 * (TOLD as u64 + 1), TOLD));
    }
}
