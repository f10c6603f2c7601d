//! What the fuzz targets share: topics of every column type, and what must hold of whatever is decoded.

use std::sync::Arc;

use entail::change::{self, BeforeWorth, Content, EntitySpec, Operation, Position, Record, TopicPartition, TopicSpec};
use entail::rules::EntityId;
use entail::value::{ColumnType, IntType};

/// Every column type.
pub fn types() -> Vec<ColumnType> {
    use ColumnType as T;
    let whole = |bits, unsigned| T::Int(IntType { bits, unsigned });
    vec![
        T::Bool,
        whole(64, false),
        whole(64, true),
        whole(16, false),
        T::Decimal { scale: None },
        T::Decimal { scale: Some(2) },
        T::Float,
        T::Text,
        T::Char,
        T::Uuid,
        T::Bytes,
        T::Date,
        T::Time { precision: 6 },
        T::Timestamp { precision: 3 },
        T::TimestampTz { precision: 6 },
        T::Json,
        T::Other("inet".to_owned()),
    ]
}

/// A topic of one or two tables, whose key is of the type that a byte picks.
pub fn topic(pick: u8) -> TopicSpec {
    let types = types();
    let kind = types[usize::from(pick) % types.len()].clone();
    let entity = |number: u32, table: &str, before: BeforeWorth| EntitySpec {
        entity: EntityId(number),
        schema: None,
        table: table.to_owned(),
        key: vec![("id".to_owned(), kind.clone())],
        columns: vec![("name".to_owned(), ColumnType::Text), ("other".to_owned(), kind.clone())],
        before,
    };
    let mut entities = vec![entity(0, "customers", if pick & 64 == 0 { BeforeWorth::Row } else { BeforeWorth::Key })];
    if pick & 128 != 0 {
        entities.push(entity(1, "orders", BeforeWorth::Columns(vec!["other".to_owned()])));
    }
    TopicSpec { entities }
}

/// A record of these bytes.
pub fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<(String, Option<Vec<u8>>)>) -> Record {
    let partition = TopicPartition { topic: Arc::from("crm.customers"), partition: 0 };
    Record {
        at: Position { partition, offset: 7 },
        timestamp: Some(1),
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers,
    }
}

/// Decodes, and holds what comes against what must be so.
pub fn decode(record: &Record, topic: &TopicSpec) {
    assert_eq!(record.fingerprint().len(), 16);
    let decoded = change::decode(record, topic);
    assert_eq!(decoded, change::decode(record, topic), "the same bytes mean the same");
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return assert!(!error.hint().is_empty()),
    };
    let Content::Events(events) = decoded.content else { return };
    assert!(!events.is_empty());
    for event in events {
        let spec = topic.entities.iter().find(|spec| spec.entity == event.entity).expect("an entity of the topic");
        let key = match &event.operation {
            Operation::Upsert { key, .. } | Operation::Delete { key } | Operation::KeyChange { key, .. } | Operation::Hint { key } => key,
            Operation::Truncate => continue,
        };
        for (part, (_, kind)) in key.parts().iter().zip(&spec.key) {
            assert_eq!(kind.canonical(part).as_ref(), Ok(part), "a key is canonical");
        }
    }
}
