//! The message key, and the two headers by which Debezium says that a row got another key.
//!
//! The message key is not always the row's key (H13): it only has to agree where it names the same columns. Alone, on a tombstone, it
//! counts only with exactly the key's columns. A header that cannot be read still says *that* the key changed (H4).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::reading::{Place, read};
use super::row::{Row, key_cell};
use super::wire::{self, Body, Members, Schema};
use super::{DecodeError, EntitySpec, Part, Record};
use crate::value::{Cell, ColumnType, Key};

const NEW_KEY: &str = "__debezium.newkey";
const OLD_KEY: &str = "__debezium.oldkey";

/// A message key as it was written.
#[derive(Debug)]
pub(super) struct MessageKey<'a> {
    schema: Option<Schema>,
    shape: Shape<'a>,
}

#[derive(Debug)]
enum Shape<'a> {
    /// No key: a table without primary key.
    Null,
    /// Columns by name.
    Columns(Members<'a>),
    /// A value without a name: good for a key of one column.
    Bare(&'a RawValue),
}

impl<'a> MessageKey<'a> {
    pub(super) fn parse(record: &'a Record) -> Result<Self, DecodeError> {
        Self::from_bytes(record.key.as_deref(), Part::Key)
    }

    fn from_bytes(bytes: Option<&'a [u8]>, part: Part) -> Result<Self, DecodeError> {
        let payload = wire::payload(bytes, part)?;
        let shape = match payload.body {
            Body::Null => Shape::Null,
            Body::Object(members) => Shape::Columns(members),
            Body::Scalar(raw) => Shape::Bare(raw),
            Body::Array => return Err(DecodeError::NotAnObject { part, found: "a list" }),
        };
        Ok(Self { schema: payload.schema, shape })
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.shape, Shape::Null)
    }

    /// Whether it has a column of this name.
    pub(super) fn names(&self, column: &str) -> bool {
        matches!(&self.shape, Shape::Columns(members) if members.has(column))
    }

    /// Whether it has exactly the entity's key columns, in any order, or is a bare value for the only one.
    fn fits(&self, entity: &EntitySpec) -> bool {
        match &self.shape {
            Shape::Null => false,
            Shape::Columns(members) => members.are(entity.key.iter().map(|(column, _)| column.as_str())),
            Shape::Bare(_) => entity.key.len() == 1,
        }
    }

    /// One of the entity's key columns, if the key has it.
    fn cell(&self, entity: &EntitySpec, column: &str, kind: &ColumnType, place: Place) -> Option<Result<Cell, DecodeError>> {
        match &self.shape {
            Shape::Null => None,
            Shape::Columns(members) => Row { members, schema: self.schema.as_ref(), place }.key_cell(column, kind),
            Shape::Bare(raw) if entity.key.len() == 1 => Some(key_cell(column, read(raw, kind, self.schema.as_ref(), place))),
            Shape::Bare(_) => None,
        }
    }

    /// The entity's key, if the message key has all its columns; others may stand beside them.
    fn key(&self, entity: &EntitySpec, place: Place) -> Result<Option<Key>, DecodeError> {
        let cells = entity.key.iter().map_while(|(column, kind)| self.cell(entity, column, kind, place));
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        Ok((cells.len() == entity.key.len()).then(|| Key::from_cells(&cells)).flatten())
    }

    /// The entity's key, if the message key has exactly its columns.
    pub(super) fn exact_key(&self, entity: &EntitySpec) -> Result<Option<Key>, DecodeError> {
        if self.fits(entity) { self.key(entity, Place::Payload) } else { Ok(None) }
    }

    /// The message key and the row's key must be equal in every column that both have.
    pub(super) fn check_agrees(&self, entity: &EntitySpec, key: &Key) -> Result<(), DecodeError> {
        for ((column, kind), part) in entity.key.iter().zip(key.parts()) {
            match self.cell(entity, column, kind, Place::Payload).transpose()? {
                Some(Cell::Value(text)) if text != *part => return Err(DecodeError::KeyDisagrees { column: column.clone() }),
                Some(Cell::Value(_) | Cell::Null | Cell::Unknown) | None => {}
            }
        }
        Ok(())
    }
}

/// What a header says about a key change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move<'a> {
    /// Nothing: there is no such header.
    None,
    /// The key changed; the bytes of the other key, if there is one text of it.
    To(Option<&'a [u8]>),
}

impl<'a> Move<'a> {
    /// The header on the first half: what the key became.
    pub(super) fn new_key(record: &'a Record) -> Self {
        Self::header(record, NEW_KEY)
    }

    /// The header on the second half: what the key was.
    pub(super) fn old_key(record: &'a Record) -> Self {
        Self::header(record, OLD_KEY)
    }

    fn header(record: &'a Record, name: &str) -> Self {
        let mut values = record.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value.as_deref());
        match values.next() {
            None => Self::None,
            Some(first) => Self::To(first.filter(|_| values.all(|next| next == first))),
        }
    }

    /// The other key, if it can be read; `message` lends its schema, as the printed header has none.
    pub(super) fn key(self, entity: &EntitySpec, message: &MessageKey<'_>) -> Option<Key> {
        let Self::To(Some(bytes)) = self else { return None };
        if let Some(fields) = bytes.strip_prefix(b"Struct{") {
            return struct_text(fields, entity);
        }
        let printed = escape_controls(bytes);
        let mut header = MessageKey::from_bytes(Some(printed.as_ref()), Part::Header).ok()?;
        let place = if header.schema.is_some() { Place::Payload } else { Place::PrintedHeader };
        if header.schema.is_none() {
            header.schema.clone_from(&message.schema);
        }
        header.key(entity, place).ok()?
    }
}

/// `SimpleHeaderConverter` escapes only `\` and `"`: control characters inside strings stand as they are, which JSON forbids.
fn escape_controls(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.iter().any(u8::is_ascii_control) {
        return Cow::Borrowed(bytes);
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        match byte {
            0..=0x1f => escaped.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => escaped.push(*byte),
        }
    }
    Cow::Owned(escaped)
}

/// Reads `Struct{id=99}`, as `StringConverter` prints it, where no value can hold a separator: whole numbers and uuids only.
fn struct_text(fields: &[u8], entity: &EntitySpec) -> Option<Key> {
    let fields = std::str::from_utf8(fields).ok()?.strip_suffix('}')?;
    let fields: Vec<(&str, &str)> = fields.split(',').map(|field| field.split_once('=')).collect::<Option<_>>()?;
    let cells = entity.key.iter().map(|(column, kind)| {
        let mut found = fields.iter().filter(|(name, _)| name == column);
        let (Some((_, value)), None) = (found.next(), found.next()) else { return None };
        match kind {
            ColumnType::Int(_) | ColumnType::Uuid => kind.canonical(value).ok().map(Cell::Value),
            ColumnType::Bool | ColumnType::Decimal { .. } | ColumnType::Float | ColumnType::Text | ColumnType::Char => None,
            ColumnType::Bytes | ColumnType::Date | ColumnType::Time { .. } | ColumnType::Timestamp { .. } => None,
            ColumnType::TimestampTz { .. } | ColumnType::Json | ColumnType::Other(_) => None,
        }
    });
    let cells = cells.collect::<Option<Vec<_>>>()?;
    (fields.len() == cells.len()).then(|| Key::from_cells(&cells)).flatten()
}
