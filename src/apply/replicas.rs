//! Copies: rows of an entity written into another service's database.
//!
//! A copy follows events, so the position of the event from which a row was written is kept beside it, and an older one changes nothing (H53).
//! Where an event cannot be read exactly or has no position to compare, the row is read from its owner.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::SourcePosition;
use crate::ledger::{self, ReplicaRow};
use crate::model::{BoundReplica, Model};
use crate::plan::Copy;
use crate::resolve::{Sessions, Trouble};
use crate::rules::EntityId;
use crate::sink::statement::{self, Dialect, Selection, Statement, Touched};
use crate::sink::{Row, Session, SinkError, TableRef};
use crate::value::{Cell, Key, RowImage};

/// The copies of one entity that a batch may change.
pub(crate) struct CopyWork<'a> {
    pub(crate) entity: EntityId,
    /// Rows by key, as the events left them.
    pub(crate) rows: Vec<(&'a Key, &'a Copy)>,
    /// Keys that are there at the owner's now, where the owner can be asked: a delete of one is no delete.
    pub(crate) alive: BTreeSet<Key>,
}

/// One write of a copy: where it comes from, and the row or its end.
struct Write {
    key: Key,
    source: Option<SourcePosition>,
    row: Option<RowImage>,
}

/// Keys to read from the owner, and the position that the copy has then.
type Reread = BTreeMap<Key, Option<SourcePosition>>;

/// Behind the name of a source, where a snapshot's row was copied.
const SNAPSHOT: &str = "#snapshot";

fn of_snapshot(position: &SourcePosition) -> SourcePosition {
    SourcePosition { source: format!("{}{SNAPSHOT}", position.source).into(), ..position.clone() }
}

fn is_of_snapshot(position: &SourcePosition) -> bool {
    position.source.ends_with(SNAPSHOT)
}

/// The position as the stream would name it.
fn read_by_stream(position: &SourcePosition) -> SourcePosition {
    let source = position.source.strip_suffix(SNAPSHOT).unwrap_or(&position.source);
    SourcePosition { source: source.into(), ..position.clone() }
}

/// Brings all copies of an entity up to the events. Returns the keys that changed.
pub(crate) async fn copy(model: &Model, sessions: &mut Sessions, group: &str, work: &CopyWork<'_>) -> Result<BTreeSet<Key>, Trouble> {
    let mut changed = BTreeSet::new();
    let mut owners: Option<BTreeMap<Key, RowImage>> = None;
    for replica in model.replicas_of(work.entity) {
        let handle = model.databases.handle(replica.database);
        let missing = || SinkError::Answer {
            what: "writing a replica".to_owned(),
            expected: format!("an open transaction in database `{}`", handle.name),
            got: "none".to_owned(),
        };
        let session = sessions.get_mut(&replica.database).ok_or_else(missing)?.as_mut();
        let mut desk = Desk { model, replica, dialect: handle.database.dialect(), session, group };
        let (mut writes, mut reread) = desk.newer(work).await?;
        for (key, source) in desk.incomplete(&writes).await? {
            reread.entry(key).or_insert(source);
        }
        if !reread.is_empty() {
            if owners.is_none() {
                owners = Some(read_owners(model, work).await?);
            }
            let rows = owners.as_ref().into_iter().flatten();
            let rows: BTreeMap<&Key, &RowImage> = rows.collect();
            writes.retain(|write| !reread.contains_key(&write.key));
            for (key, source) in reread {
                // Gone at the owner's by now: its delete event follows.
                if let Some(row) = rows.get(&key) {
                    writes.push(Write { row: Some((*row).clone()), key, source });
                }
            }
        }
        changed.extend(desk.write(writes).await?);
    }
    Ok(changed)
}

async fn read_owners(model: &Model, work: &CopyWork<'_>) -> Result<BTreeMap<Key, RowImage>, SinkError> {
    let Some(owner) = model.table_if_any(work.entity) else { return Ok(BTreeMap::new()) };
    let key = &model.rules.entity(work.entity).key;
    let mut columns = key.clone();
    for (here, _) in model.replicas_of(work.entity).flat_map(|replica| &replica.columns) {
        if !columns.contains(here) {
            columns.push(here.clone());
        }
    }
    let database = &model.databases.handle(owner.database).database;
    let keys: Vec<&[String]> = work.rows.iter().map(|(key, _)| key.parts()).collect();
    let selection = Selection { table: &owner.table, by: key, keys: &keys, when: &[], read: &columns, lock: false, limit: keys.len() };
    let Some(statement) = statement::select(database.dialect(), &selection) else { return Ok(BTreeMap::new()) };
    let rows = database.read(&statement).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let mut image = owner.table.image(&columns, row.get(..columns.len())?);
            let key = TableRef::key_of(key, &image)?;
            // What has no canonical form (infinity, a year BC) is copied as the owner's database prints it: only keys are compared.
            for (column, text) in columns.iter().zip(&row) {
                if let (Some(cell @ Cell::Unknown), Some(text)) = (image.get_mut(column), text) {
                    *cell = Cell::Value(text.clone());
                }
            }
            Some((key, image))
        })
        .collect())
}

/// One replica in one transaction.
struct Desk<'a> {
    model: &'a Model,
    replica: &'a BoundReplica,
    dialect: Dialect,
    session: &'a mut dyn Session,
    group: &'a str,
}

impl Desk<'_> {
    fn name(&self) -> &str {
        &self.model.rules.replica(self.replica.id).name
    }

    /// The writes that are newer than what the copy holds, and the keys that must be read from the owner, with the position to note for each.
    async fn newer(&mut self, work: &CopyWork<'_>) -> Result<(Vec<Write>, Reread), SinkError> {
        let keys: Vec<Key> = work.rows.iter().map(|(key, _)| (*key).clone()).collect();
        let name = self.name().to_owned();
        let known = ledger::replica_rows(self.session, self.dialect, self.group, &name, &keys).await?;
        let can_ask = self.model.table_if_any(work.entity).is_some();
        let (mut writes, mut reread) = (Vec::new(), Reread::new());
        for (key, copy) in &work.rows {
            let held = known.get(*key);
            let held_at = held.and_then(|held| held.source.as_ref());
            let order = match (&copy.source, held_at) {
                (Some(new), Some(old)) => new.compare(&read_by_stream(old)),
                (Some(_), None) => Some(std::cmp::Ordering::Greater),
                (None, _) => None,
            };
            let is_older = matches!(order, Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal));
            // It may have been under way when the snapshot was taken that the copy was written from: then it is the newer one. The owner says.
            let is_overtaken = is_older && !copy.snapshot && held_at.is_some_and(is_of_snapshot);
            let source = if copy.snapshot { copy.source.as_ref().map(of_snapshot) } else { copy.source.clone() };
            match (&copy.row, order) {
                (Some(_), _) if is_overtaken && can_ask => {
                    reread.insert((*key).clone(), held_at.cloned());
                }
                (None, _) if is_overtaken && can_ask && !work.alive.contains(*key) => {
                    writes.push(Write { key: (*key).clone(), source: held_at.cloned(), row: None });
                }
                _ if is_older => {}
                (Some(_), _) if copy.maybe_gone && can_ask && !work.alive.contains(*key) => {
                    writes.push(Write { key: (*key).clone(), source, row: None });
                }
                (None, _) if work.alive.contains(*key) => {}
                (None, None) if !can_ask || held.is_some_and(|held| held.gone) => {}
                (None, _) => writes.push(Write { key: (*key).clone(), source, row: None }),
                (Some(_), _) if can_ask && (copy.reread || order.is_none()) => {
                    reread.insert((*key).clone(), source);
                }
                (Some(row), _) => writes.push(Write { key: (*key).clone(), source, row: Some(row.clone()) }),
            }
        }
        Ok((writes, reread))
    }

    /// Keys of writes that leave columns out (a placeholder, H12) while the copy does not hold the row yet.
    async fn incomplete(&mut self, writes: &[Write]) -> Result<Reread, SinkError> {
        let is_partial =
            |write: &&Write| write.row.as_ref().is_some_and(|row| self.columns_in(&write.key, row).len() < self.replica.columns.len());
        let partial: Reread = writes.iter().filter(is_partial).map(|write| (write.key.clone(), write.source.clone())).collect();
        let held = self.held(&partial.keys().cloned().collect::<Vec<_>>()).await?;
        Ok(partial.into_iter().filter(|(key, _)| !held.contains(key)).collect())
    }

    /// Which of these keys the copy holds.
    async fn held(&mut self, keys: &[Key]) -> Result<BTreeSet<Key>, SinkError> {
        let texts: Vec<&[String]> = keys.iter().map(Key::parts).collect();
        let key = &self.replica.key;
        let selection =
            Selection { table: &self.replica.table, by: key, keys: &texts, when: &[], read: key, lock: true, limit: keys.len() };
        let Some(statement) = statement::select(self.dialect, &selection) else { return Ok(BTreeSet::new()) };
        let rows = self.session.query(&statement).await?;
        Ok(rows.iter().filter_map(|row| self.key_of(row)).collect())
    }

    fn key_of(&self, row: &Row) -> Option<Key> {
        let key = &self.replica.key;
        TableRef::key_of(key, &self.replica.table.image(key, row.get(..key.len())?))
    }

    /// The copy's columns that a row gives a value for, in the order of the rules.
    fn columns_in(&self, key: &Key, row: &RowImage) -> Vec<(&str, Option<String>)> {
        let entity_key = &self.model.rules.entity(self.replica.of).key;
        self.replica
            .columns
            .iter()
            .filter_map(|(here, there)| {
                if let Some(place) = entity_key.iter().position(|column| column == here) {
                    return Some((there.as_str(), key.parts().get(place).cloned()));
                }
                match row.get(here)? {
                    Cell::Unknown => None,
                    Cell::Null => Some((there.as_str(), None)),
                    Cell::Value(text) => Some((there.as_str(), Some(text.clone()))),
                }
            })
            .collect()
    }

    /// Writes, and returns the keys of the rows that were not so before.
    async fn write(&mut self, writes: Vec<Write>) -> Result<BTreeSet<Key>, SinkError> {
        let gone: Vec<Key> = writes.iter().filter(|write| write.row.is_none()).map(|write| write.key.clone()).collect();
        let mut changed = self.held(&gone).await?;
        let rows: Vec<Vec<String>> = changed.iter().map(|key| key.parts().to_vec()).collect();
        let touched = Touched { table: &self.replica.table, key: &self.replica.key, still: &[], rows: &rows, when: &[] };
        // Deletes first: a unique value may pass from a row that goes to one that comes (H73).
        if let Some(statement) = statement::delete(self.dialect, &touched) {
            self.session.execute(&statement).await?;
        }
        for statement in self.upserts(&writes) {
            let rows = self.session.query(&statement).await?;
            changed.extend(rows.iter().filter_map(|row| self.key_of(row)));
        }
        let notes: Vec<ReplicaRow> =
            writes.into_iter().map(|write| ReplicaRow { key: write.key, source: write.source, gone: write.row.is_none() }).collect();
        let name = self.name().to_owned();
        ledger::note_replica_rows(self.session, self.dialect, self.group, &name, &notes).await?;
        if !changed.is_empty() {
            self.look_at_the_table().await?;
        }
        Ok(changed)
    }

    /// A native key that leads to the copy since the rules were bound may have changed rows with it. Rows of the copy were changed, so none comes
    /// between this look and the commit (H64).
    async fn look_at_the_table(&mut self) -> Result<(), SinkError> {
        let table = &self.replica.table;
        let Some(question) = statement::marks(self.dialect, &[table]) else { return Ok(()) };
        let rows = self.session.query(&question).await?;
        let mark = rows.iter().find(|row| row.get(1).and_then(Option::as_deref) == Some("")).and_then(|row| row.get(2).cloned().flatten());
        if mark.as_deref() == Some(table.mark.as_str()) {
            return Ok(());
        }
        let database = self.model.databases.handle(self.replica.database).name.clone();
        Err(SinkError::Reshaped { database, table: table.table_name().to_string() })
    }

    /// One statement per set of columns, so that a column that is left out stays as it is.
    fn upserts(&self, writes: &[Write]) -> Vec<Statement> {
        let mut groups: BTreeMap<Vec<&str>, Vec<Vec<Option<String>>>> = BTreeMap::new();
        for (key, row) in writes.iter().filter_map(|write| write.row.as_ref().map(|row| (&write.key, row))) {
            let (names, values): (Vec<&str>, Vec<Option<String>>) = self.columns_in(key, row).into_iter().unzip();
            groups.entry(names).or_default().push(values);
        }
        let mut statements = Vec::new();
        for (names, rows) in groups {
            let texts = |place: usize| rows.iter().map(|row| row.get(place).cloned().flatten()).collect();
            let columns =
                names.iter().enumerate().filter_map(|(place, name)| self.replica.table.column(name).map(|column| (column, texts(place))));
            let columns: Vec<_> = columns.collect();
            statements.extend(statement::upsert(self.dialect, &self.replica.table, &self.replica.key, &columns));
        }
        statements
    }
}
