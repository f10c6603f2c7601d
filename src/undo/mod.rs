//! Puts whole cascades back from the archive, across databases: parents before children, each page of rows in one transaction with the note that
//! it was put back. So it can be stopped anywhere and begun again, and a repeat does nothing.
//!
//! A row that was removed goes back if its key is free; a row that was changed is set back in the columns that entail changed, if they still
//! hold what entail wrote. Everything else is a conflict, for a person to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::databases::{DatabaseId, Handle};
use crate::graph::NativeRank;
use crate::ledger::{self, Archived, Choice, Told};
use crate::model::Model;
use crate::rules::EntityId;
use crate::sink::{Dialect, Session};

mod aside;
mod chosen;
mod error;
mod page;
mod rescue;
mod ring;
mod root;
mod tally;
mod verdict;

use aside::Aside;
use chosen::{chosen, missing_roots};
pub use error::UndoError;
use error::{PARENT_MISSING, PAUSE, Patience, failed, is_contention, refusal};
use page::Place;
pub(crate) use rescue::Owed;
pub use root::{MissingRoot, RootBack, RootRow, missing as missing_roots_of, positions as root_positions, rows as root_rows};
pub use tally::Tally;
use tally::{Tables, again};

/// Rows per transaction.
const PAGE: usize = 1_000;
/// Numbers of rows read at a time.
const NUMBERS: u32 = 100_000;

/// What to do where a newer row stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnConflict {
    /// Write nothing at all if there is any conflict.
    Fail,
    /// Leave the newer row as it is, and put the others back.
    Skip,
    /// Put the archived row in its place; the newer one is kept in the archive.
    Overwrite,
}

/// How to undo.
pub struct Manner<'a> {
    /// The consumer group whose work is undone.
    pub group: &'a str,
    /// How long rows that are overwritten are kept.
    pub keep: Duration,
    /// What to do about conflicts.
    pub on_conflict: OnConflict,
    /// Rows of roots, to put back too; with none of them, roots stay as they are.
    pub roots: &'a [RootRow],
    /// Only say what would be done.
    pub is_dry: bool,
    /// Told how many rows of how many are looked at or put back.
    pub progress: &'a (dyn Fn(u64, u64) + Send + Sync),
}

/// What was undone, or would be.
#[derive(Debug, Clone, Default)]
pub struct Undone {
    /// The audit of the cascades chosen.
    pub cascades: Vec<Told>,
    /// Per entity, in the order of the work.
    pub tables: Vec<(String, Tally)>,
    /// Roots that are still missing: what was put back under them is orphaned until they return.
    pub missing_roots: Vec<MissingRoot>,
    /// What came of the roots that were to be put back too.
    pub roots: Vec<RootBack>,
    /// Rows that the audit counts and nobody can put back, per entity that the rules have left, or as `the archive`.
    pub lost: Vec<(String, u64)>,
    /// Something was written.
    pub is_written: bool,
}

impl Undone {
    /// Whether this root would be put back.
    pub(crate) fn has_row_of(&self, root: &MissingRoot) -> bool {
        self.roots.iter().any(|back| back.entity == root.entity && back.key == root.key && back.result.is_ok())
    }

    /// Rows that were not put back.
    #[must_use]
    pub fn left(&self) -> u64 {
        let lost: u64 = self.lost.iter().map(|(_, rows)| rows).sum();
        lost + self.tables.iter().map(|(_, tally)| tally.conflicts + tally.refused).sum::<u64>()
    }
}

/// Undoes the cascades of a choice.
///
/// # Errors
/// See [`UndoError`].
pub async fn undo(model: &Model, choice: &Choice, manner: &Manner<'_>) -> Result<Undone, UndoError> {
    let mut undone = Undone { cascades: chosen(model, choice, manner.group).await?, ..Undone::default() };
    let mut is_spared = false;
    let cascades = loop {
        let cascades: Vec<String> = undone.cascades.iter().map(|line| line.cascade.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let work = Work::new(model, manner, &cascades, &undone.cascades);
        undone.tables = work.pass(true).await?;
        undone.lost = work.lost(&undone.cascades).await?;
        if is_spared && manner.on_conflict == OnConflict::Fail && undone.left() > 0 {
            // What was told of its roots counts as undone by now, so "nothing was written" would not be true.
            return Err(UndoError::Conflict(CAME_MEANWHILE.to_owned()));
        }
        // A choice without any cascade would be one of all.
        if cascades.is_empty() || manner.is_dry || manner.on_conflict == OnConflict::Fail && undone.left() > 0 {
            break cascades;
        }
        work.spare(&undone.cascades).await?;
        is_spared = true;
        // What was under way meanwhile is durable now, and belongs to it.
        let now = chosen(model, &Choice { cascades: cascades.clone(), ..Choice::default() }, manner.group).await?;
        if now == undone.cascades {
            undone.tables = work.pass(false).await?;
            undone.is_written = true;
            break cascades;
        }
        undone.cascades = now;
    };
    let work = Work::new(model, manner, &cascades, &undone.cascades);
    undone.missing_roots = missing_roots(model, &undone.cascades).await?;
    if undone.is_written || manner.is_dry {
        undone.roots = work.put_roots_back(manner.roots, &undone.missing_roots).await?;
    }
    if undone.is_written && undone.roots.iter().any(|root| root.result.is_ok()) {
        // What a native key refused may find its root now.
        undone.tables = again(undone.tables, work.pass(false).await?);
        undone.missing_roots = missing_roots(model, &undone.cascades).await?;
    }
    Ok(undone)
}

/// Opens a transaction; a file that somebody else writes to is waited for.
async fn begin(handle: &Handle) -> Result<Box<dyn Session>, UndoError> {
    let mut patience = Patience::default();
    loop {
        match handle.database.begin().await.map_err(failed(handle)) {
            Err(error) if patience.takes(&error) => {}
            begun => return begun,
        }
    }
}

struct Work<'a> {
    model: &'a Model,
    manner: &'a Manner<'a>,
    cascades: &'a [String],
    /// The same, to be looked up in.
    chosen: BTreeSet<&'a str>,
    all: u64,
}

impl<'a> Work<'a> {
    fn new(model: &'a Model, manner: &'a Manner<'a>, cascades: &'a [String], audit: &[Told]) -> Self {
        let chosen = cascades.iter().map(String::as_str).collect();
        Self { model, manner, cascades, chosen, all: audit.iter().map(|line| line.rows).sum() }
    }

    /// Goes over all rows, parents before children; dry, or in earnest.
    async fn pass(&self, is_dry: bool) -> Result<Vec<(String, Tally)>, UndoError> {
        let mut tables = Tables::default();
        let mut asides: BTreeMap<DatabaseId, Aside> = BTreeMap::new();
        for (id, entities) in self.order() {
            let handle = self.model.databases.handle(id);
            let mut below = i64::MAX;
            loop {
                let numbers = ledger::left_to_undo(&*handle.database, self.manner.group, self.cascades, &entities, below, NUMBERS);
                let numbers = numbers.await.map_err(failed(handle))?;
                let Some(last) = numbers.last() else { break };
                below = *last;
                for page in numbers.chunks(PAGE) {
                    self.put_back(id, page.to_vec(), is_dry, &mut tables, asides.entry(id).or_default()).await?;
                }
            }
        }
        // What a native key refused may find its parent row by now, as long as anything moves.
        let mut before = None;
        while before.replace(tables.written()) != Some(tables.written()) {
            for (id, aside) in &mut asides {
                for page in aside.again().chunks(PAGE) {
                    self.put_back(*id, page.to_vec(), is_dry, &mut tables, aside).await?;
                }
                self.put_back_rings(*id, &mut tables, aside).await?;
            }
        }
        asides.values().flat_map(|aside| &aside.rows).for_each(|(row, why)| tables.refuse(row, why));
        Ok(tables.0)
    }

    /// Rows that the audit counts and nobody can put back: they have expired, or were purged, or the rules have left their entity.
    async fn lost(&self, cascades: &[Told]) -> Result<Vec<(String, u64)>, UndoError> {
        let audited: u64 = cascades.iter().map(|line| line.rows).sum();
        let (mut archived, mut lost) = (0, BTreeMap::new());
        for id in self.model.targets() {
            let handle = self.model.databases.handle(id);
            for left in ledger::left(&*handle.database, self.manner.group, self.cascades).await.map_err(failed(handle))? {
                archived += left.rows;
                if left.open > 0 && self.table(&left.entity).is_err() {
                    *lost.entry(left.entity).or_default() += left.open;
                }
            }
        }
        if audited > archived {
            lost.insert("the archive".to_owned(), audited - archived);
        }
        Ok(lost.into_iter().collect())
    }

    /// What is undone is not done again by what was told before. Noted first: a crash must not leave rows that are back without it.
    async fn spare(&self, cascades: &[Told]) -> Result<(), UndoError> {
        let graph = &self.model.graph;
        let known = |line: &Told| -> Vec<Told> {
            let entity = self.model.entity_named(&line.root_entity).filter(|_| line.root_columns.is_empty());
            let Some(entity) = entity else { return vec![line.clone()] };
            // The audit of an older release does not say by which columns: by any that it may have been.
            let columns = graph.targets_of(entity).map(|(_, target)| target.columns.clone());
            let columns = columns.filter(|columns| line.root_key.as_ref().is_some_and(|key| key.parts().len() == columns.len()));
            columns.map(|root_columns| Told { root_columns, ..line.clone() }).collect()
        };
        let cascades: Vec<Told> = cascades.iter().flat_map(known).collect();
        for id in self.model.targets() {
            let handle = self.model.databases.handle(id);
            let mut patience = Patience::default();
            while let Err(error) = self.spare_in(handle, &cascades).await {
                if !patience.takes(&error) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// A batch under way is waited for: what it takes is undone too.
    async fn spare_in(&self, handle: &Handle, cascades: &[Told]) -> Result<(), UndoError> {
        let mut session = begin(handle).await?;
        ledger::spare(session.as_mut(), handle.database.dialect(), self.manner.group, cascades).await.map_err(failed(handle))?;
        session.commit().await.map_err(failed(handle))
    }

    /// Databases with their entities, parents first. Entities on one cycle are worked together, the youngest rows first: they went last.
    fn order(&self) -> Vec<(DatabaseId, Vec<String>)> {
        let graph = &self.model.graph;
        let mut order: BTreeMap<((usize, NativeRank), DatabaseId), Vec<String>> = BTreeMap::new();
        for (entity, node) in graph.nodes() {
            let Some(bound) = self.model.table_if_any(entity) else { continue };
            if self.model.targets().contains(&bound.database) {
                order.entry((graph.place(entity), bound.database)).or_default().push(node.name.clone());
            }
        }
        order.into_iter().rev().map(|((_, database), entities)| (database, entities)).collect()
    }

    /// Puts a page back; if a constraint refuses it, in halves, down to the row that is to blame.
    async fn put_back(
        &self,
        id: DatabaseId,
        page: Vec<i64>,
        is_dry: bool,
        tables: &mut Tables,
        aside: &mut Aside,
    ) -> Result<(), UndoError> {
        let handle = self.model.databases.handle(id);
        (self.manner.progress)(tables.looked_at().min(self.all), self.all);
        let (mut parts, mut patience) = (vec![page], Patience::default());
        while let Some(part) = parts.pop() {
            let mut done = self.transaction(handle, &part, if is_dry { How::Rehearse } else { How::Write }, aside).await;
            // A rehearsal rolls back what the next page's rows may point at.
            if is_dry && done.as_ref().is_err_and(|error| refusal(error) == Some(PARENT_MISSING)) {
                done = self.transaction(handle, &part, How::Look, aside).await;
            }
            if done.as_ref().is_err_and(|error| patience.takes(error)) {
                tokio::time::sleep(PAUSE).await;
                parts.push(part);
                continue;
            }
            match done {
                Ok((tallies, held)) => {
                    tallies.into_iter().for_each(|(entity, tally)| tables.add(entity, tally));
                    held.into_iter().for_each(|row| aside.put(row, "a younger change of the row could not be undone"));
                }
                Err(error) if refusal(&error).is_some() => {
                    if part.len() > 1 {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second.to_vec(), first.to_vec()]);
                        continue;
                    }
                    let mut session = begin(handle).await?;
                    let rows = ledger::archived(session.as_mut(), handle.database.dialect(), &part).await.map_err(failed(handle))?;
                    session.rollback().await;
                    let why = refusal(&error).unwrap_or_default();
                    rows.into_iter().for_each(|row| aside.put(row, why));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// One transaction: what came of the rows by entity, and those that have to wait.
    async fn transaction(&self, handle: &Handle, ids: &[i64], how: How, aside: &Aside) -> Result<Transacted, UndoError> {
        let failed = failed(handle);
        let dialect = handle.database.dialect();
        let mut session = begin(handle).await?;
        let rows = ledger::archived(session.as_mut(), dialect, ids).await.map_err(&failed)?;
        let (rows, held) = aside.sift(rows);
        let mut tallies = Vec::new();
        for rows in rows.chunk_by(|one, other| one.entity == other.entity) {
            let Some(entity) = rows.first().map(|row| row.entity.clone()) else { continue };
            let mut place = self.place(session.as_mut(), dialect, &entity, how)?;
            let tally = place.put_back(rows).await.map_err(&failed)?;
            if how == How::Write && self.manner.on_conflict == OnConflict::Fail && tally.conflicts > 0 {
                let told = tally.told.first().map(|(key, why)| format!("{entity} {key}: {why}")).unwrap_or_default();
                return Err(UndoError::Conflict(told));
            }
            tallies.push((entity, tally));
        }
        if how == How::Write {
            session.commit().await.map_err(&failed)?;
        } else {
            session.rollback().await;
        }
        Ok((tallies, held))
    }

    fn place<'s>(&'s self, session: &'s mut dyn Session, dialect: Dialect, entity: &'s str, how: How) -> Result<Place<'s>, UndoError> {
        let (node, bound) = self.table(entity)?;
        Ok(Place {
            session,
            dialect,
            bound,
            key: &self.model.graph.node(node).key,
            entity,
            group: self.manner.group,
            chosen: &self.chosen,
            keep: self.manner.keep,
            policy: self.manner.on_conflict,
            follows: self.model.graph.follows_natively(node),
            is_dry: how != How::Write,
            writes: how != How::Look,
        })
    }

    fn table(&self, entity: &str) -> Result<(EntityId, &crate::model::BoundTable), UndoError> {
        let unknown = || UndoError::Unknown(entity.to_owned());
        let node = self.model.entity_named(entity).ok_or_else(unknown)?;
        Ok((node, self.model.table_if_any(node).ok_or_else(unknown)?))
    }
}

/// What a transaction does with its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Puts them back.
    Write,
    /// Puts them back, and takes it back again: whatever would refuse them refuses them now.
    Rehearse,
    /// Only looks at what stands in their places.
    Look,
}

/// Counts by entity, and rows that have to wait.
type Transacted = (Vec<(String, Tally)>, Vec<Archived>);

const CAME_MEANWHILE: &str = "a batch that was under way has added to the cascade, which is marked as undone and goes no further; see what is in the \
    way with `--dry-run`, and undo the rest with `--on-conflict skip` or `overwrite`";

/// A row as the archive has it, for tests: one that went has one key, one that changed has also the key that it got.
#[cfg(test)]
fn archived(id: i64, keys: &[&str]) -> Archived {
    let key = |text: &&str| crate::value::Key::from_cells([&crate::value::Cell::Value((*text).to_owned())]).expect("a value");
    Archived {
        id,
        cascade: "c".to_owned(),
        entity: "shop.orders".to_owned(),
        reference: "order_customer".to_owned(),
        is_removed: keys.len() < 2,
        key: keys.first().map(key),
        columns: String::new(),
        image: String::new(),
        after: keys.get(1).map(|text| (String::new(), key(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Cell, Key};

    fn key(text: &str) -> Key {
        Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value")
    }

    #[test]
    fn a_root_that_is_back_is_missing_no_longer() {
        let missing = MissingRoot {
            entity: "crm.customer".to_owned(),
            columns: vec!["id".to_owned()],
            key: key("1"),
            cause: String::new(),
            last: String::new(),
            source: None,
            moved: false,
        };
        let back = |entity: &str, id: &str, result| Undone {
            roots: vec![RootBack { entity: entity.to_owned(), key: key(id), result }],
            ..Undone::default()
        };
        assert!(back("crm.customer", "1", Ok(())).has_row_of(&missing));
        for other in [back("crm.member", "1", Ok(())), back("crm.customer", "2", Ok(())), back("crm.customer", "1", Err("no".to_owned()))] {
            assert!(!other.has_row_of(&missing));
        }
    }
}
