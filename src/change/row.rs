//! A row on the wire: its key and its wanted columns, as far as they can be believed.
//!
//! The key is taken from the row by the column names of the rules. Columns that nobody wants are never read.

use super::reading::{Place, Reading, Unread, read};
use super::wire::{Members, Schema};
use super::{BeforeWorth, DecodeError, EntitySpec};
use crate::value::{Cell, ColumnType, Key, RowImage};

/// Members with the schema of the struct that they came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) members: &'a Members<'a>,
    pub(super) schema: Option<&'a Schema>,
    pub(super) place: Place,
}

impl<'a> Row<'a> {
    pub(super) fn new(members: &'a Members<'a>, schema: Option<&'a Schema>) -> Self {
        Self { members, schema, place: Place::Payload }
    }

    /// `None` if the row does not have the column.
    fn read(&self, column: &str, kind: &ColumnType) -> Option<Result<Reading, Unread>> {
        let raw = self.members.get(column)?;
        let schema = self.schema.and_then(|schema| schema.field(column));
        Some(read(raw, kind, schema, self.place))
    }

    /// The entity's key.
    pub(super) fn key(&self, entity: &EntitySpec) -> Result<Key, DecodeError> {
        let cells = entity.key.iter().map(|(column, kind)| match self.key_cell(column, kind) {
            Some(cell) => cell,
            None => Err(DecodeError::KeyMissing { column: column.clone() }),
        });
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        Key::from_cells(&cells).ok_or_else(|| DecodeError::KeyMissing { column: String::new() })
    }

    /// One column of a key, if the row has it.
    pub(super) fn key_cell(&self, column: &str, kind: &ColumnType) -> Option<Result<Cell, DecodeError>> {
        self.read(column, kind).map(|reading| key_cell(column, reading))
    }

    /// All wanted columns after a change, and whether one of them must be read from the row's owner.
    pub(super) fn after(&self, entity: &EntitySpec) -> (RowImage, bool) {
        let mut reread = false;
        let image = wanted(entity).map(|(column, kind)| {
            let cell = match self.read(column, kind) {
                Some(Ok(reading)) => cell(reading),
                Some(Err(Unread::Ambiguous(_) | Unread::Wrong(_))) => {
                    reread = true;
                    Cell::Unknown
                }
                None => Cell::Unknown,
            };
            (column.clone(), cell)
        });
        (image.collect(), reread)
    }

    /// The wanted columns before a change that are true (H10); those that cannot be read are unknown.
    pub(super) fn before(&self, entity: &EntitySpec) -> RowImage {
        let believed = |column: &String| match &entity.before {
            BeforeWorth::Key => entity.key.iter().any(|(key, _)| key == column),
            BeforeWorth::Columns(true_ones) => true_ones.contains(column) || entity.key.iter().any(|(key, _)| key == column),
            BeforeWorth::Row => true,
        };
        let columns = wanted(entity).filter(|(column, _)| believed(column));
        columns.filter_map(|(column, kind)| Some((column.clone(), self.read(column, kind)?.map_or(Cell::Unknown, cell)))).collect()
    }
}

fn wanted(entity: &EntitySpec) -> impl Iterator<Item = &(String, ColumnType)> {
    entity.key.iter().chain(&entity.columns)
}

fn cell(reading: Reading) -> Cell {
    match reading {
        Reading::Null => Cell::Null,
        Reading::Value(text) => Cell::Value(text),
        Reading::Unavailable => Cell::Unknown,
    }
}

/// A key column holds a value, or the record is a dead letter.
pub(super) fn key_cell(column: &str, reading: Result<Reading, Unread>) -> Result<Cell, DecodeError> {
    let column = column.to_owned();
    match reading {
        Ok(Reading::Value(text)) => Ok(Cell::Value(text)),
        Ok(Reading::Null) => Err(DecodeError::KeyNull { column }),
        Ok(Reading::Unavailable) => Err(DecodeError::KeyUnavailable { column }),
        Err(Unread::Ambiguous(doubt)) => Err(DecodeError::KeyAmbiguous { column, reason: doubt.reason(), hint: doubt.hint() }),
        Err(Unread::Wrong(source)) => Err(DecodeError::KeyUnreadable { column, source }),
    }
}
