//! Roots: rows that a service deleted itself. No archive has them; the event that told of their end does, if it carries the whole row.

use std::collections::{BTreeMap, BTreeSet};

use super::chosen::{chosen, missing_roots};
use super::{UndoError, Work, begin, failed, refusal};
use crate::change::{ChangeEvent, Content, EntitySpec, Operation, Position, Record, TopicSpec, decode};
use crate::ledger::Choice;
use crate::model::Model;
use crate::rules::EntityId;
use crate::sink::{Access, Column, TableRef, statement};
use crate::value::{Cell, Key, RowImage};

/// A root that its own database does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingRoot {
    /// Its entity.
    pub entity: String,
    /// The columns by which it was known.
    pub columns: Vec<String>,
    /// Their values.
    pub key: Key,
    /// The record that told of its end, as topic\[partition\]@offset.
    pub cause: String,
    /// The last record that did: of several rows with this key, one after the other, it holds the last one.
    pub last: String,
    /// Where the source made that change, if known.
    pub source: Option<String>,
    /// Its key changed: the row lives under another one.
    pub moved: bool,
}

impl MissingRoot {
    /// The records that may hold the row, the likeliest first: the last one, the cause, and what stands before them, since they may be the tombstone
    /// behind the delete.
    fn positions(&self) -> Vec<Position> {
        // Without a position nothing says which of several rows the cause tells of.
        let cause = self.source.as_ref().map(|_| &self.cause);
        let told = [&self.last].into_iter().chain(cause).filter_map(|text| text.parse::<Position>().ok());
        let both = told.flat_map(|told| [told.clone(), Position { offset: told.offset - 1, ..told }]);
        let mut positions: Vec<Position> = Vec::new();
        for position in both.filter(|position| position.offset >= 0) {
            if !positions.contains(&position) {
                positions.push(position);
            }
        }
        positions
    }

    /// Whether an event may be the one that told of its end.
    fn is_told_by(&self, event: &ChangeEvent) -> bool {
        self.source.as_ref().zip(event.source.as_ref()).is_none_or(|(known, told)| *known == told.to_string())
    }
}

/// A missing root with its row, or why that cannot be had.
#[derive(Debug, Clone)]
pub struct RootRow {
    /// The root.
    pub root: MissingRoot,
    /// Values of all columns that are not computed.
    pub row: Result<RowImage, String>,
}

/// The roots of a choice of cascades that are missing now.
///
/// # Errors
/// See [`UndoError`].
pub async fn missing(model: &Model, choice: &Choice, group: &str) -> Result<Vec<MissingRoot>, UndoError> {
    missing_roots(model, &chosen(model, choice, group).await?).await
}

/// Where the events of these roots stand.
#[must_use]
pub fn positions(roots: &[MissingRoot]) -> BTreeSet<Position> {
    roots.iter().flat_map(MissingRoot::positions).collect()
}

/// The rows of roots, out of their events.
#[must_use]
pub fn rows(model: &Model, roots: &[MissingRoot], records: &BTreeMap<Position, Record>) -> Vec<RootRow> {
    roots.iter().map(|root| RootRow { root: root.clone(), row: row(model, root, records) }).collect()
}

fn row(model: &Model, root: &MissingRoot, records: &BTreeMap<Position, Record>) -> Result<RowImage, String> {
    if root.moved {
        return Err("its key changed, and its row lives under the new one".to_owned());
    }
    let entity = model.entity_named(&root.entity).ok_or("the rules no longer name it")?;
    let table = &model.table_if_any(entity).ok_or("its table is in none of the databases")?.table;
    let positions = root.positions();
    let topic = positions.first().and_then(|position| model.topics.get(&*position.partition.topic));
    let spec = whole(topic.ok_or("the rules no longer name its topic")?, entity, table);
    let mut why = format!("{} is no longer in its topic", root.cause);
    for record in positions.iter().filter_map(|position| records.get(position)) {
        let Ok(decoded) = decode(record, &spec) else { continue };
        let Content::Events(events) = decoded.content else { continue };
        for event in events.into_iter().filter(|event| event.entity == entity) {
            if TableRef::key_of(&root.columns, &event.before).as_ref() != Some(&root.key) {
                continue;
            }
            if !root.is_told_by(&event) {
                why = format!("{} tells of an earlier row of this key", record.at);
                continue;
            }
            match (event.operation, missing_column(table, &event.before)) {
                (Operation::Delete { .. }, None) => return Ok(event.before),
                (Operation::Delete { .. }, Some(column)) => {
                    why = format!(
                        "its event does not hold column `{}` exactly: that takes REPLICA IDENTITY FULL, and for times and decimals events with schemas",
                        column.name
                    );
                }
                (Operation::Upsert { .. } | Operation::KeyChange { .. } | Operation::Hint { .. } | Operation::Truncate, _) => {}
            }
        }
        if why.ends_with("topic") {
            why = format!("{} does not hold the row", root.cause);
        }
    }
    Err(why)
}

fn written(table: &TableRef) -> impl Iterator<Item = &Column> {
    table.columns().iter().filter(|column| !column.generated)
}

fn missing_column<'t>(table: &'t TableRef, row: &RowImage) -> Option<&'t Column> {
    written(table).find(|column| matches!(row.get(&column.name), None | Some(Cell::Unknown)))
}

/// The topic's entities, with every column of this one.
fn whole(topic: &TopicSpec, entity: EntityId, table: &TableRef) -> TopicSpec {
    let all = |spec: &EntitySpec| {
        let is_new = |column: &&Column| !spec.key.iter().any(|(key, _)| *key == column.name);
        let columns = written(table).filter(is_new).map(|column| (column.name.clone(), column.kind.clone()));
        EntitySpec { columns: columns.collect(), ..spec.clone() }
    };
    TopicSpec { entities: topic.entities.iter().map(|spec| if spec.entity == entity { all(spec) } else { spec.clone() }).collect() }
}

impl Work<'_> {
    /// Puts the roots back that are still missing; for each whether it is there now, or would be, or why not.
    pub(super) async fn put_roots_back(&self, rows: &[RootRow], missing: &[MissingRoot]) -> Result<Vec<RootBack>, UndoError> {
        let mut done: Vec<RootBack> = Vec::new();
        let mut records = BTreeSet::new();
        for RootRow { root, row } in rows.iter().filter(|row| missing.contains(&row.root)) {
            let result = match row {
                // By another of its values it was written already.
                Ok(_) if !records.insert((&root.entity, &root.cause)) => continue,
                Ok(row) => self.put_root_back(&root.entity, row).await?,
                Err(why) => Err(why.clone()),
            };
            done.push(RootBack { entity: root.entity.clone(), key: root.key.clone(), result });
        }
        Ok(done)
    }

    async fn put_root_back(&self, entity: &str, row: &RowImage) -> Result<Result<(), String>, UndoError> {
        let (_, bound) = self.table(entity)?;
        let handle = self.model.databases.handle(bound.database);
        if handle.access == Access::Read {
            return Ok(Err(format!("database `{}` has `access: read`; give it a url that may write, for this command", handle.name)));
        }
        let value = |column: &Column| match row.get(&column.name) {
            Some(Cell::Value(text)) => Some(text.clone()),
            Some(Cell::Null | Cell::Unknown) | None => None,
        };
        let columns: Vec<(&Column, Vec<Option<String>>)> = written(&bound.table).map(|column| (column, vec![value(column)])).collect();
        let Some(insert) = statement::insert_new(handle.database.dialect(), &bound.table, &columns) else { return Ok(Ok(())) };
        let mut session = begin(handle).await?;
        let inserted = session.execute(&insert).await.map_err(failed(handle));
        if self.manner.is_dry || inserted.is_err() {
            session.rollback().await;
        } else {
            session.commit().await.map_err(failed(handle))?;
        }
        Ok(match inserted {
            Ok(0) => Err("another row has one of its unique values".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(refusal(&error).ok_or(error)?.to_owned()),
        })
    }
}

/// What came of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootBack {
    /// Its entity.
    pub entity: String,
    /// Its key.
    pub key: Key,
    /// It is back, or would be; or why not.
    pub result: Result<(), String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::TopicPartition;
    use crate::value::Cell;

    fn at(offset: i64) -> Position {
        Position { partition: TopicPartition { topic: "crm.customers".into(), partition: 0 }, offset }
    }

    /// Where a root's row may stand, if it went by the records at these offsets.
    fn looked_for(cause: i64, last: i64, source: Option<&str>) -> Vec<i64> {
        let root = MissingRoot {
            entity: "crm.customers".to_owned(),
            columns: vec!["id".to_owned()],
            key: Key::from_cells([&Cell::Value("1".to_owned())]).expect("a value"),
            cause: at(cause).to_string(),
            last: at(last).to_string(),
            source: source.map(str::to_owned),
            moved: false,
        };
        assert!(root.positions().iter().all(|position| position.partition == at(0).partition));
        root.positions().iter().map(|position| position.offset).collect()
    }

    #[test]
    fn a_roots_row_is_looked_for_in_its_last_record_its_cause_and_what_stands_before_them() {
        assert_eq!(looked_for(5, 9, Some("postgres:10")), [9, 8, 5, 4]);
        assert_eq!(looked_for(8, 9, Some("postgres:10")), [9, 8, 7], "each once");
        assert_eq!(looked_for(5, 9, None), [9, 8], "without a position the cause may tell of another row");
        assert_eq!(looked_for(0, 0, Some("postgres:10")), [0], "nothing stands before the first record");
    }
}
