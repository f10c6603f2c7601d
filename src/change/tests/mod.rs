//! Tests of the decoder: the golden list, the vectors of every type, all captured records, and random bytes.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod golden;
mod keys;
mod pairs;
mod random;
mod samples;
mod values;

use std::sync::Arc;

use super::{
    BeforeWorth, ChangeEvent, Content, DecodeError, Decoded, EntitySpec, Operation, Position, Record, SkipReason, TopicPartition,
    TopicSpec, decode,
};
use crate::rules::EntityId;
use crate::value::{Cell, ColumnType, IntType, Key};

pub(super) const I64: ColumnType = ColumnType::Int(IntType { bits: 64, unsigned: false });
pub(super) const U64: ColumnType = ColumnType::Int(IntType { bits: 64, unsigned: true });

/// A record of `pg.public.customers`.
pub(super) fn record(key: Option<&str>, value: Option<&str>) -> Record {
    Record {
        at: Position { partition: TopicPartition { topic: Arc::from("pg.public.customers"), partition: 0 }, offset: 7 },
        timestamp: None,
        key: key.map(|text| text.as_bytes().to_vec()),
        value: value.map(|text| text.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

pub(super) fn with_header(mut record: Record, name: &str, value: &str) -> Record {
    record.headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
    record
}

pub(super) fn entity(table: &str, key: &[(&str, ColumnType)], columns: &[(&str, ColumnType)]) -> EntitySpec {
    let own = |columns: &[(&str, ColumnType)]| columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
    EntitySpec {
        entity: EntityId(0),
        schema: None,
        table: table.to_owned(),
        key: own(key),
        columns: own(columns),
        before: BeforeWorth::Key,
    }
}

pub(super) fn spec(entities: Vec<EntitySpec>) -> TopicSpec {
    TopicSpec { entities }
}

/// `customers`, with the key `id` and the columns `name` and `customer_id`.
pub(super) fn customers() -> TopicSpec {
    spec(vec![entity("customers", &[("id", I64)], &[("name", ColumnType::Text), ("customer_id", I64)])])
}

/// An envelope as the PostgreSQL connector writes it; `before` and `after` as JSON.
pub(super) fn envelope(op: &str, before: &str, after: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"connector":"postgresql","name":"pg","snapshot":"false","db":"crm","schema":"public","table":"customers","txId":555,"lsn":24023128}},"transaction":null,"op":"{op}"}}"#
    )
}

pub(super) fn key(parts: &[&str]) -> Key {
    let cells: Vec<Cell> = parts.iter().map(|part| Cell::Value((*part).to_owned())).collect();
    Key::from_cells(&cells).unwrap()
}

pub(super) fn event(decoded: Result<Decoded, DecodeError>) -> ChangeEvent {
    match decoded.unwrap().content {
        Content::Events(events) => {
            assert_eq!(events.len(), 1);
            events.into_iter().next().unwrap()
        }
        Content::Skipped(reason) => panic!("skipped: {reason:?}"),
    }
}

pub(super) fn operation(decoded: Result<Decoded, DecodeError>) -> Operation {
    event(decoded).operation
}

pub(super) fn skipped(decoded: Result<Decoded, DecodeError>) -> SkipReason {
    match decoded.unwrap().content {
        Content::Skipped(reason) => reason,
        Content::Events(events) => panic!("not skipped: {events:?}"),
    }
}

/// The operation for a key and a value of `customers`.
pub(super) fn customer(key: Option<&str>, value: Option<&str>) -> Result<Decoded, DecodeError> {
    decode(&record(key, value), &customers())
}

pub(super) const KEY: Option<&str> = Some(r#"{"id":42}"#);
pub(super) const KEY_SCHEMA: &str =
    r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"pg.public.customers.Key"}"#;

pub(super) fn delete() -> String {
    envelope("d", r#"{"id":42,"customer_id":0,"name":""}"#, "null")
}

pub(super) fn error(key: Option<&str>, value: Option<&str>) -> DecodeError {
    customer(key, value).unwrap_err()
}

pub(super) fn upsert(parts: &[&str]) -> Operation {
    Operation::Upsert { key: key(parts), moved_from: None }
}

pub(super) fn hint(parts: &[&str]) -> Operation {
    Operation::Hint { key: key(parts) }
}
