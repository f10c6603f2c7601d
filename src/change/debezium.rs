//! Debezium's envelope: which entity changed, how, and which row.
//!
//! PostgreSQL, MySQL, MariaDB and SQL Server connectors; also our own feed, which writes the same envelope. A delete whose record says
//! that the key changed is a key change (H4), a truncate is no delete (H9), a tombstone is a hint (H5).

use super::beside::{format_by_header, is_signal, other_format, skip_reason};
use super::key::{MessageKey, Move};
use super::position::{position, transaction};
use super::row::Row;
use super::wire::{self, Body, Members, Payload, Schema};
use super::{
    ChangeEvent, Content, DecodeError, Decoded, EntitySpec, Operation, Part, Record, SkipReason, SourcePosition, TopicSpec, flattened,
};
use crate::value::RowImage;

/// Bytes of one record (key, value and headers) above which it is not parsed: sixteen times Kafka's default limit for a message, and more
/// than any row that a reference or a replica is about (H101).
pub const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Decodes one record of a topic.
///
/// # Errors
/// If the record cannot be read, or not exactly: it becomes a dead letter.
pub fn decode(record: &Record, spec: &TopicSpec) -> Result<Decoded, DecodeError> {
    check_size(record)?;
    // Before anything is parsed: bytes behind such a header may look like JSON and be none.
    if let Some(what) = format_by_header(record) {
        return Err(DecodeError::UnsupportedFormat { what });
    }
    let payload = match wire::payload(record.value.as_deref(), Part::Value)? {
        Payload { body: Body::Null, .. } => return tombstone(record, spec),
        payload => payload,
    };
    let members = match &payload.body {
        Body::Object(members) => members,
        Body::Scalar(raw) if raw.get().starts_with('"') => {
            return Err(DecodeError::UnsupportedFormat { what: "a text: an outbox payload" });
        }
        Body::Scalar(_) => return Err(DecodeError::NotAnObject { part: Part::Value, found: "a single value" }),
        Body::Array => return Err(DecodeError::NotAnObject { part: Part::Value, found: "a list" }),
        Body::Null => return tombstone(record, spec),
    };
    let row = Row::new(members, payload.schema.as_ref());
    let is_envelope = members.has("op") && ["before", "after", "source"].iter().any(|name| members.has(name));
    if flattened::is_marked(&row) {
        flattened::decode(&row, record, spec)
    } else if is_envelope {
        envelope(members, payload.schema.as_ref(), record, spec)
    } else if let Some(reason) = skip_reason(members, record) {
        Ok(Decoded { source: object(members, "source")?.and_then(|source| position(&source)), content: Content::Skipped(reason) })
    } else if flattened::is_marked_by_header(record) {
        flattened::decode(&row, record, spec)
    } else {
        Err(DecodeError::UnsupportedFormat { what: other_format(members) })
    }
}

fn check_size(record: &Record) -> Result<(), DecodeError> {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
    let size = length(&record.key) + length(&record.value) + headers;
    if size > MAX_RECORD_BYTES { Err(DecodeError::TooLarge { size, limit: MAX_RECORD_BYTES }) } else { Ok(()) }
}

/// A member that is an object; null and absent are `None`.
fn object<'a>(members: &Members<'a>, name: &'static str) -> Result<Option<Members<'a>>, DecodeError> {
    match members.value(name) {
        None => Ok(None),
        Some(raw) if raw.get().starts_with('{') => Members::parse(raw, Part::Value).map(Some),
        Some(_) => Err(DecodeError::Envelope { member: name }),
    }
}

fn envelope(members: &Members<'_>, schema: Option<&Schema>, record: &Record, spec: &TopicSpec) -> Result<Decoded, DecodeError> {
    let op = members.text("op").ok_or(DecodeError::Envelope { member: "op" })?;
    let block = object(members, "source")?.ok_or(DecodeError::Envelope { member: "source" })?;
    let source = position(&block);
    if !matches!(op.as_ref(), "c" | "u" | "r" | "d" | "t" | "m") {
        return Err(unknown_operation(&op));
    }
    let skipped = |source, reason| Ok(Decoded { source, content: Content::Skipped(reason) });
    if op == "m" {
        return skipped(source, SkipReason::LogicalMessage);
    }
    let (before, after) = (object(members, "before")?, object(members, "after")?);
    let table = block.text("table").ok_or(DecodeError::Envelope { member: "source.table" })?;
    let Some(entity) = choose(spec, &table, block.text("schema").or_else(|| block.text("db")).as_deref())? else {
        let signal = after.as_ref().or(before.as_ref()).is_some_and(is_signal);
        return skipped(source, if signal { SkipReason::Notification } else { SkipReason::OtherTable });
    };
    let before = before.as_ref().map(|row| Row::new(row, schema.and_then(|schema| schema.field("before"))));
    let after = after.as_ref().map(|row| Row::new(row, schema.and_then(|schema| schema.field("after"))));
    let change = match op.as_ref() {
        "t" => truncated(),
        "d" => Change::removed(entity, before.as_ref(), record)?,
        _ => Change::written(entity, &after.ok_or(DecodeError::Envelope { member: "after" })?, before.as_ref(), record)?,
    };
    let transaction = transaction(&block, object(members, "transaction")?.as_ref());
    let snapshot = op == "r" || is_snapshot(&block);
    let event = change.event(entity, source.clone(), transaction, snapshot);
    Ok(Decoded { source, content: Content::Events(vec![event]) })
}

/// `snapshot` is a string, in older versions a truth value, or null or absent.
fn is_snapshot(source: &Members<'_>) -> bool {
    source.value("snapshot").is_some_and(|raw| !matches!(raw.get(), "false" | r#""false""# | r#""""#))
}

/// The entity of a table; `None` if no entity has this table. An entity that names no schema accepts any, unless another names this one.
pub(super) fn choose<'s>(spec: &'s TopicSpec, table: &str, schema: Option<&str>) -> Result<Option<&'s EntitySpec>, DecodeError> {
    let of_table = || spec.entities.iter().filter(|entity| entity.table == table);
    let named: Vec<_> = of_table().filter(|entity| entity.schema.is_some() && entity.schema.as_deref() == schema).collect();
    let candidates = match (named.as_slice(), schema) {
        // Flattened rows may not say their schema: then the table must be enough.
        ([], None) => of_table().collect(),
        ([], Some(_)) => of_table().filter(|entity| entity.schema.is_none()).collect(),
        _ => named,
    };
    match candidates.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        [_, _, ..] => Err(DecodeError::EntityUnclear),
    }
}

/// A short word may be named; anything else could be data.
pub(super) fn unknown_operation(op: &str) -> DecodeError {
    let is_word = (1..=8).contains(&op.len()) && op.bytes().all(|byte| byte.is_ascii_alphanumeric());
    DecodeError::UnknownOperation { op: if is_word { op.to_owned() } else { "(not a short word)".to_owned() } }
}

/// What happened to one row.
pub(super) struct Change {
    operation: Operation,
    before: RowImage,
    after: RowImage,
    reread: bool,
}

/// A table that lost all its rows; no row is named.
pub(super) fn truncated() -> Change {
    Change { operation: Operation::Truncate, before: RowImage::new(), after: RowImage::new(), reread: false }
}

impl Change {
    /// A row that is there now.
    pub(super) fn written(entity: &EntitySpec, after: &Row<'_>, before: Option<&Row<'_>>, record: &Record) -> Result<Self, DecodeError> {
        let key = after.key(entity)?;
        let message = MessageKey::parse(record)?;
        message.check_agrees(entity, &key)?;
        let old = Move::old_key(record).key(entity, &message);
        // With another message key than the row's, a changed row key is an ordinary update: only `before` tells.
        let moved_from = old.or_else(|| before?.key(entity).ok()).filter(|old| *old != key);
        let before = before.map(|row| row.before(entity)).unwrap_or_default();
        let (after, reread) = after.after(entity);
        Ok(Self { operation: Operation::Upsert { key, moved_from }, before, after, reread })
    }

    /// A row that is gone, or the first half of a key change.
    pub(super) fn removed(entity: &EntitySpec, before: Option<&Row<'_>>, record: &Record) -> Result<Self, DecodeError> {
        let message = MessageKey::parse(record)?;
        let key = match before {
            Some(row) => row.key(entity)?,
            None => message.exact_key(entity)?.ok_or_else(|| missing(entity))?,
        };
        message.check_agrees(entity, &key)?;
        let operation = match Move::new_key(record) {
            Move::None => Operation::Delete { key },
            moved @ Move::To(_) => Operation::KeyChange { to: moved.key(entity, &message), key },
        };
        let before = before.map(|row| row.before(entity)).unwrap_or_default();
        Ok(Self { operation, before, after: RowImage::new(), reread: false })
    }

    pub(super) fn event(
        self,
        entity: &EntitySpec,
        source: Option<SourcePosition>,
        transaction: Option<String>,
        snapshot: bool,
    ) -> ChangeEvent {
        let Self { operation, before, after, reread } = self;
        ChangeEvent { entity: entity.entity, operation, before, after, reread, snapshot, source, transaction }
    }
}

fn missing(entity: &EntitySpec) -> DecodeError {
    DecodeError::KeyMissing { column: entity.key.first().map(|(column, _)| column.clone()).unwrap_or_default() }
}

/// A key without a value: a hint for every entity that has exactly these key columns.
fn tombstone(record: &Record, spec: &TopicSpec) -> Result<Decoded, DecodeError> {
    let message = MessageKey::parse(record)?;
    let unusable = Decoded { source: None, content: Content::Skipped(SkipReason::UnusableTombstone) };
    if message.is_null() {
        return Ok(unusable);
    }
    let moved = Move::new_key(record);
    let (mut events, mut foreign) = (Vec::new(), None);
    for entity in &spec.entities {
        let key = match message.exact_key(entity) {
            Ok(Some(key)) => key,
            Ok(None) => continue,
            // A text is no key of a table of numbers: another entity's, if there is one.
            Err(error @ DecodeError::KeyUnreadable { .. }) => {
                foreign = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let operation = match moved {
            Move::None => Operation::Hint { key },
            Move::To(_) => Operation::KeyChange { to: moved.key(entity, &message), key },
        };
        events.push(Change { operation, before: RowImage::new(), after: RowImage::new(), reread: false }.event(entity, None, None, false));
    }
    match (events.is_empty(), foreign) {
        (false, _) => Ok(Decoded { source: None, content: Content::Events(events) }),
        (true, Some(error)) => Err(error),
        (true, None) => Ok(unusable),
    }
}
