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
