//! Rows that `ExtractNewRecordState` took out of their envelope, as far as they still say what happened to them.
//!
//! `__deleted` or `__op` must be there: without either, a row cannot be told from a domain event, and is not guessed at. No position, no
//! transaction, and of a deleted row only what `before` was worth.

use std::borrow::Cow;

use super::beside::{header_word, is_signal};
use super::debezium::{Change, choose, truncated, unknown_operation};
use super::row::Row;
use super::{Content, DecodeError, Decoded, EntitySpec, Record, SkipReason, TopicSpec};

/// Whether the value itself says that it is a flattened row.
pub(super) fn is_marked(row: &Row<'_>) -> bool {
    row.members.has("__deleted") || row.members.has("__op")
}

/// Whether a header does (`add.headers=op`).
pub(super) fn is_marked_by_header(record: &Record) -> bool {
    record.headers.iter().any(|(name, _)| name == "__op")
}

enum Meaning {
    Written { snapshot: bool },
    Removed,
    Truncated,
    Message,
}

/// Decodes a marked row.
pub(super) fn decode(row: &Row<'_>, record: &Record, spec: &TopicSpec) -> Result<Decoded, DecodeError> {
    let skipped = |reason| Ok(Decoded { source: None, content: Content::Skipped(reason) });
    let meaning = meaning(row, record)?;
    if matches!(meaning, Meaning::Message) {
        return skipped(SkipReason::LogicalMessage);
    }
    let Some(entity) = entity(row, record, spec)? else {
        return skipped(if is_signal(row.members) { SkipReason::Notification } else { SkipReason::OtherTable });
    };
    let (change, snapshot) = match meaning {
        Meaning::Written { snapshot } => (Change::written(entity, row, None, record)?, snapshot),
        Meaning::Removed => (Change::removed(entity, Some(row), record)?, false),
        Meaning::Truncated => (truncated(), false),
        Meaning::Message => return skipped(SkipReason::LogicalMessage),
    };
    Ok(Decoded { source: None, content: Content::Events(vec![change.event(entity, None, None, snapshot)]) })
}

/// By `__table`, where it was asked for; without it the topic must have one entity only.
fn entity<'s>(row: &Row<'_>, record: &Record, spec: &'s TopicSpec) -> Result<Option<&'s EntitySpec>, DecodeError> {
    let field = |name: &str| row.members.text(name).or_else(|| header_word(record, name).map(Cow::Owned));
    let Some(table) = field("__table") else {
        return match spec.entities.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            [_, _, ..] => Err(DecodeError::EntityUnclear),
        };
    };
    if let Some(schema) = field("__schema").or_else(|| field("__source_schema")) {
        return choose(spec, &table, Some(&schema));
    }
    let Some(database) = field("__db").or_else(|| field("__source_db")) else { return choose(spec, &table, None) };
    // The rules name a database for MySQL and a schema for PostgreSQL, and nothing here says which of the two this is.
    let mut schemas = spec.entities.iter().filter(|entity| entity.table == *table).map(|entity| entity.schema.as_deref()).peekable();
    if schemas.peek().is_some() && schemas.all(|schema| schema.is_some_and(|schema| schema != database)) {
        return Err(DecodeError::EntityUnclear);
    }
    choose(spec, &table, Some(&database))
}

fn meaning(row: &Row<'_>, record: &Record) -> Result<Meaning, DecodeError> {
    let op = match row.members.value("__op") {
        Some(_) => Some(row.members.text("__op").ok_or_else(|| unknown_operation(""))?),
        None => header_word(record, "__op").map(Cow::Owned),
    };
    let op = match op.as_deref() {
        None => None,
        Some("c" | "u") => Some(Meaning::Written { snapshot: false }),
        Some("r") => Some(Meaning::Written { snapshot: true }),
        Some("d") => Some(Meaning::Removed),
        Some("t") => Some(Meaning::Truncated),
        Some("m") => Some(Meaning::Message),
        Some(other) => return Err(unknown_operation(other)),
    };
    match (deleted(row)?, op) {
        (None, Some(op)) => Ok(op),
        (Some(true), None | Some(Meaning::Removed)) => Ok(Meaning::Removed),
        (Some(false), None) => Ok(Meaning::Written { snapshot: false }),
        (Some(false), Some(op @ (Meaning::Written { .. } | Meaning::Truncated | Meaning::Message))) => Ok(op),
        (Some(true), Some(_)) | (Some(false), Some(Meaning::Removed)) => Err(DecodeError::ContradictoryMarks),
        (None, None) => Err(unknown_operation("")),
    }
}

/// `__deleted` is a string; older and foreign transforms write a truth value.
fn deleted(row: &Row<'_>) -> Result<Option<bool>, DecodeError> {
    match row.members.value("__deleted").map(|raw| raw.get()) {
        None => Ok(None),
        Some("true" | r#""true""#) => Ok(Some(true)),
        Some("false" | r#""false""#) => Ok(Some(false)),
        Some(_) => Err(DecodeError::Envelope { member: "__deleted" }),
    }
}
