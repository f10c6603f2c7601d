//! One page of archived rows of one table, put back within one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::{Around, Laid, Verdict, judge, lay};
use super::{OnConflict, Tally};
use crate::apply;
use crate::ledger::{self, Archived};
use crate::model::BoundTable;
use crate::sink::image::{self, Field};
use crate::sink::statement::{self, ArchiveLabels, Bind, Dialect, Touched, restore};
use crate::sink::{Session, SinkError};
use crate::value::Key;

/// Where a page is put back, and how.
pub(super) struct Place<'a> {
    pub(super) session: &'a mut dyn Session,
    pub(super) dialect: Dialect,
    pub(super) bound: &'a BoundTable,
    pub(super) key: &'a [String],
    pub(super) entity: &'a str,
    pub(super) group: &'a str,
    /// The cascades that are undone.
    pub(super) chosen: &'a BTreeSet<&'a str>,
    /// How long rows that are overwritten are kept.
    pub(super) keep: std::time::Duration,
    pub(super) policy: OnConflict,
    /// Native keys change rows of this table when their parents get other keys.
    pub(super) follows: bool,
    pub(super) is_dry: bool,
    /// Rows are written, whether or not it is rolled back.
    pub(super) writes: bool,
}

/// A row to work, with what is to be done.
pub(super) struct Item<'a> {
    pub(super) row: &'a Archived,
    pub(super) laid: Laid,
    pub(super) verdict: Verdict,
}

impl Place<'_> {
    /// Puts rows of one table back: the youngest first, and no row twice at a time.
    pub(super) async fn put_back(&mut self, rows: &[Archived]) -> Result<Tally, SinkError> {
        let mut tally = Tally::default();
        for run in runs(rows) {
            let items = self.judged(run).await?;
            for item in &items {
                tally.count(item.row, &item.verdict, self.policy);
            }
            if self.writes {
                self.write(&items, &mut tally).await?;
            }
        }
        Ok(tally)
    }

    pub(super) async fn judged<'r>(&mut self, rows: &'r [Archived]) -> Result<Vec<Item<'r>>, SinkError> {
        let before: Vec<Option<&Key>> = rows.iter().map(|row| row.key.as_ref()).collect();
        let after: Vec<Option<&Key>> = rows.iter().map(|row| row.after.as_ref().map(|(_, key)| key)).collect();
        let (here, there) = (self.now(&before).await?, self.now(&after).await?);
        let keys: Vec<&Key> = rows.iter().filter_map(key_now).collect();
        let known = ledger::images_of(self.session, self.dialect, (self.group, self.chosen), self.entity, &keys).await?;
        let columns: Vec<String> = rows.first().map(|row| apply::columns_of_shape(&row.columns)).unwrap_or_default();
        let item = |(place, row): (usize, &'r Archived)| {
            let Some(laid) = lay(self.dialect, &self.bound.table, self.key, &columns, row) else {
                return Item { row, laid: Laid::nothing(), verdict: Verdict::Lost("its image cannot be read, or lacks the row's key") };
            };
            let images = key_now(row).and_then(|key| known.get(key)).copied().unwrap_or_default();
            let around = Around {
                here: here.get(&place).map(Vec::as_slice),
                there: there.get(&place).map(Vec::as_slice),
                is_superseded: images.removed > row.id,
                was_changed_again: images.others > row.id,
                follows: self.follows,
                returns: self.is_dry && images.open > row.id,
            };
            let verdict = judge(row, &laid, &around);
            Item { row, laid, verdict }
        };
        Ok(rows.iter().enumerate().map(item).collect())
    }

    /// The rows that have these keys now, by the place of the key, locked.
    async fn now(&mut self, keys: &[Option<&Key>]) -> Result<BTreeMap<usize, Vec<Field>>, SinkError> {
        let asked: Vec<(usize, &[String])> =
            keys.iter().enumerate().filter_map(|(place, key)| Some((place, key.as_ref()?.parts()))).collect();
        let listed: Vec<&[String]> = asked.iter().map(|(_, key)| *key).collect();
        let Some(question) = restore::images(self.dialect, &self.bound.table, self.key, &listed) else { return Ok(BTreeMap::new()) };
        let read = |row: crate::sink::Row| {
            let (number, image) = (row.first()?.as_deref()?.parse::<usize>().ok()?, row.get(1)?.as_deref()?);
            Some((asked.get(number)?.0, image::fields(self.dialect, image)?))
        };
        let broken = || SinkError::Answer {
            what: question.what().to_owned(),
            expected: "numbers of keys and images of rows".to_owned(),
            got: "something else".to_owned(),
        };
        self.session.query(&question).await?.into_iter().map(|row| read(row).ok_or_else(broken)).collect()
    }

    async fn write<'i>(&mut self, items: &'i [Item<'_>], tally: &mut Tally) -> Result<(), SinkError> {
        self.keep_newer(items).await?;
        let table = &self.bound.table;
        let inserted: Vec<&Item<'_>> = items.iter().filter(|item| item.verdict == Verdict::Insert).collect();
        if let Some(first) = inserted.first() {
            let rows = inserted.iter().map(|item| item.laid.before.as_slice()).collect();
            let rows = restore::Rows { table, columns: &first.laid.known, rows };
            execute(self.session, &restore::insert(self.dialect, &rows), inserted.len()).await?;
        }
        let mut by_columns: BTreeMap<Vec<usize>, Vec<(&Key, &Item<'_>)>> = BTreeMap::new();
        let mut set = |columns: &Vec<usize>, key: Option<&'i Key>, item: &'i Item<'_>| {
            by_columns.entry(columns.clone()).or_default().extend(key.map(|key| (key, item)));
        };
        for item in items {
            match &item.verdict {
                Verdict::SetBack(columns) => set(columns, key_now(item.row), item),
                Verdict::SetBackInPlace(columns) => set(columns, item.row.key.as_ref(), item),
                Verdict::Newer(columns) if self.policy == OnConflict::Overwrite => set(columns, key_now(item.row), item),
                Verdict::Newer(_) | Verdict::Insert | Verdict::Already | Verdict::Superseded | Verdict::Lost(_) => {}
            }
        }
        for (columns, items) in by_columns.into_iter().filter(|(columns, _)| !columns.is_empty()) {
            let rows: Vec<(&[String], Vec<Field>)> = items.iter().map(|(key, item)| (key.parts(), item.laid.before.clone())).collect();
            execute(self.session, &restore::set_back(self.dialect, table, self.key, &columns, &rows), rows.len()).await?;
        }
        self.finish(items, tally).await
    }

    /// Notes what is done, and compares it with what it was.
    pub(super) async fn finish(&mut self, items: &[Item<'_>], tally: &mut Tally) -> Result<(), SinkError> {
        let done: Vec<&Item<'_>> = items.iter().filter(|item| is_done(&item.verdict, self.policy)).collect();
        tally.differing += self.differing(&done).await?;
        let rows: Vec<&Archived> = done.iter().map(|item| item.row).collect();
        ledger::mark_undone(self.session, self.dialect, &rows).await
    }

    /// Rows that are not as they were although they were put back: a trigger or a rule had a hand in it.
    async fn differing(&mut self, items: &[&Item<'_>]) -> Result<u64, SinkError> {
        let keys: Vec<Option<&Key>> = items.iter().map(|item| item.row.key.as_ref()).collect();
        let now = self.now(&keys).await?;
        let differs = |(place, item): (usize, &&Item<'_>)| {
            let columns = match &item.verdict {
                Verdict::SetBack(columns) if columns.is_empty() => return false,
                Verdict::SetBack(columns) | Verdict::SetBackInPlace(columns) => columns,
                Verdict::Insert if item.laid.is_short => return true,
                Verdict::Insert | Verdict::Newer(_) => &item.laid.known,
                Verdict::Already | Verdict::Superseded | Verdict::Lost(_) => return false,
            };
            now.get(&place).is_none_or(|now| columns.iter().any(|column| now.get(*column) != item.laid.before.get(*column)))
        };
        Ok(u64::try_from(items.iter().enumerate().filter(|(place, item)| differs((*place, item))).count()).unwrap_or(u64::MAX))
    }

    /// Keeps newer rows that are about to be overwritten: the archive has their images, and no undo puts them back by itself.
    async fn keep_newer(&mut self, items: &[Item<'_>]) -> Result<(), SinkError> {
        let newer = items.iter().filter(|item| matches!(item.verdict, Verdict::Newer(_)) && self.policy == OnConflict::Overwrite);
        let newer: Vec<(&Archived, &Key)> = newer.filter_map(|item| Some((item.row, key_now(item.row)?))).collect();
        let Some((first, _)) = newer.first() else { return Ok(()) };
        let table = &self.bound.table;
        let (shape, columns) = apply::shape(table);
        ledger::note_shape(self.session, &shape, self.entity, &columns).await?;
        let rows: Vec<Vec<String>> = newer.iter().map(|(_, key)| key.parts().to_vec()).collect();
        let text = |value: &str| Bind::Text(Some(value.to_owned()));
        let fixed = [
            ("entity", text(self.entity)),
            ("reference", text(&first.reference)),
            ("action", text("overwritten")),
            ("shape", text(&shape)),
            ("group_id", text(self.group)),
            ("keep_seconds", Bind::Int(i64::try_from(self.keep.as_secs()).unwrap_or(i64::MAX))),
        ];
        let labels = ArchiveLabels {
            cascade: newer.iter().map(|(row, _)| row.cascade.clone()).collect(),
            key: newer.iter().map(|(_, key)| ledger::key_text(key)).collect(),
        };
        let touched = Touched { table, key: self.key, still: &[], rows: &rows, when: &[] };
        let Some(statement) = statement::archive(self.dialect, &touched, labels, fixed) else { return Ok(()) };
        execute(self.session, &[statement], rows.len()).await
    }
}

/// Runs statements that touch so many rows, or else a trigger or a rule swallows some.
pub(super) async fn execute(session: &mut dyn Session, statements: &[statement::Statement], rows: usize) -> Result<(), SinkError> {
    let mut done = 0;
    for statement in statements {
        done += session.execute(statement).await?;
    }
    match statements.first() {
        _ if usize::try_from(done).ok() == Some(rows) => Ok(()),
        first => {
            let what = first.map(|statement| statement.what().to_owned()).unwrap_or_default();
            Err(SinkError::Swallowed { what, expected: rows, got: usize::try_from(done).unwrap_or(usize::MAX) })
        }
    }
}

/// Whether the row is as it was, once its verdict is carried out.
pub(super) fn is_done(verdict: &Verdict, policy: OnConflict) -> bool {
    match verdict {
        Verdict::Insert | Verdict::SetBack(_) | Verdict::SetBackInPlace(_) | Verdict::Already | Verdict::Superseded => true,
        Verdict::Newer(_) => policy == OnConflict::Overwrite,
        Verdict::Lost(_) => false,
    }
}

/// The key by which the row is found today.
fn key_now(row: &Archived) -> Option<&Key> {
    row.after.as_ref().map(|(_, key)| key).or(row.key.as_ref())
}

/// Cuts rows where the kind of work changes, or a row comes a second time.
fn runs(rows: &[Archived]) -> Vec<&[Archived]> {
    let mut runs = Vec::new();
    let (mut begun, mut keys) = (0, BTreeSet::new());
    for (place, row) in rows.iter().enumerate() {
        let differs = place > 0 && rows.get(place - 1).is_some_and(|last| last.is_removed != row.is_removed || last.columns != row.columns);
        let known: BTreeSet<&Key> = row.keys().collect();
        if differs || known.iter().any(|key| keys.contains(key)) {
            runs.extend(rows.get(begun..place));
            (begun, keys) = (place, BTreeSet::new());
        }
        keys.extend(known);
    }
    runs.extend(rows.get(begun..).filter(|rest| !rest.is_empty()));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::undo::archived;

    #[test]
    fn h92_rows_are_worked_together_as_long_as_their_work_is_one_and_no_row_comes_twice() {
        let lengths = |rows: &[Archived]| runs(rows).iter().map(|run| run.len()).collect::<Vec<_>>();
        let (gone, moved) = (|key| archived(1, &[key]), |key, to| archived(1, &[key, to]));
        let old = |key| Archived { columns: "[]".to_owned(), ..gone(key) };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[gone("1"), gone("2"), gone("3")]), [3]);
        assert_eq!(lengths(&[gone("1"), gone("2"), moved("3", "4"), moved("5", "6"), gone("7")]), [2, 2, 1]);
        assert_eq!(lengths(&[gone("1"), old("2"), old("3")]), [1, 2], "an insert has one list of columns");
        assert_eq!(lengths(&[gone("1"), gone("2"), gone("1"), gone("2")]), [2, 2]);
        assert_eq!(lengths(&[moved("1", "2"), moved("3", "1"), moved("4", "5")]), [1, 2], "under either key");
    }
}
