//! What a record from a change topic means: bytes in, [`ChangeEvent`] or [`DecodeError`] out.
//!
//! Pure, and total: no input makes it panic. It knows the columns and types of the entities on a topic ([`TopicSpec`]), which the edge took
//! from the rules and the catalog, and nothing else of rules, databases or Kafka. An event is a hint to look; nothing here decides that a
//! row is gone.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::rules::EntityId;
use crate::value::{ColumnType, Key, RowImage};

mod beside;
mod debezium;
mod error;
mod flattened;
mod key;
mod placeholder;
mod position;
mod reading;
mod row;
mod values;
mod wire;

#[cfg(test)]
mod tests;

pub use debezium::{MAX_RECORD_BYTES, decode};
pub use error::{DecodeError, Part};
pub use position::PositionError;
pub use wire::MAX_NESTING;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Where a record stands: topic, partition, offset. Inclusive; see [`NextOffset`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: TopicPartition,
    /// The record's own offset.
    pub offset: i64,
}

impl Position {
    /// The offset to go on from once this record is durable. The only way from a position to a next offset (H38).
    #[must_use]
    pub fn next(&self) -> NextOffset {
        NextOffset(self.offset + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for Position {
    type Err = ();

    /// Reads `topic[partition]@offset`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (partition, offset) = text.rsplit_once('@').ok_or(())?;
        let (topic, partition) = partition.strip_suffix(']').and_then(|text| text.rsplit_once('[')).ok_or(())?;
        let partition = TopicPartition { topic: topic.into(), partition: partition.parse().map_err(drop)? };
        Ok(Self { partition, offset: offset.parse().map_err(drop)? })
    }
}

/// The offset from which reading goes on: one past the last durable record. Exclusive; what Kafka commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(pub i64);

impl NextOffset {
    /// Before every offset: moves nothing forward.
    pub const NOWHERE: Self = Self(i64::MIN);
}

/// A record as it was read, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub at: Position,
    /// Kafka's timestamp in milliseconds, if it has one.
    pub timestamp: Option<i64>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order, repeats kept.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A short hash of its timestamp, key and value: another record at the same offset has another one.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.timestamp.unwrap_or(-1).to_be_bytes());
        for part in [&self.key, &self.value] {
            // Lengths keep key and value apart; a missing one is not an empty one.
            hash.update(part.as_ref().map_or(u64::MAX, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)).to_be_bytes());
            hash.update(part.as_deref().unwrap_or_default());
        }
        format!("{:x}", hash.finalize()).chars().take(16).collect()
    }
}

/// What the rules and the catalog say about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The entities whose changes it carries. Empty for topics of markers (logical messages).
    pub entities: Vec<EntitySpec>,
}

/// What the decoder must know of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitySpec {
    /// The entity.
    pub entity: EntityId,
    /// The schema (PostgreSQL, SQL Server) or database (MySQL), if the rules name one.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// Key columns with their types, in the order of the rules.
    pub key: Vec<(String, ColumnType)>,
    /// Further columns that somebody wants (replicas, references to other columns), with their types.
    pub columns: Vec<(String, ColumnType)>,
    /// Which columns of `before` are true.
    pub before: BeforeWorth,
}

/// What `before` is worth (FORMATS section 6): with PostgreSQL's default replica identity all but the key is invented (H10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeforeWorth {
    /// The key columns alone are true.
    Key,
    /// The key columns and these are true.
    Columns(Vec<String>),
    /// Every column is true.
    Row,
}

/// What one record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The position in the source's log, where the record has one. Also on skipped records: it shows how far the source has been read.
    pub source: Option<SourcePosition>,
    /// Events, or why there are none.
    pub content: Content,
}

/// Events, or the reason why a record holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// At least one. More than one only for a tombstone on a topic that several entities share.
    Events(Vec<ChangeEvent>),
    /// Nothing to do, and no error.
    Skipped(SkipReason),
}

/// One decoded change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The entity changed.
    pub entity: EntityId,
    /// What happened to which row.
    pub operation: Operation,
    /// Columns before the change, as far as they are true.
    pub before: RowImage,
    /// Columns after the change.
    pub after: RowImage,
    /// A wanted column of `after` could not be read exactly from the event (not a placeholder): read the row from its owner.
    pub reread: bool,
    /// The event repeats a row (a snapshot read) rather than reporting a change.
    pub snapshot: bool,
    /// The position in the source's log.
    pub source: Option<SourcePosition>,
    /// The source transaction, if known: equal texts of one source belong together.
    pub transaction: Option<String>,
}

/// The meanings of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The row with this key was written.
    Upsert {
        /// Its key.
        key: Key,
        /// The key it had before, if this is the second half of a key change.
        moved_from: Option<Key>,
    },
    /// The row with this key was deleted, says the event.
    Delete {
        /// Its key.
        key: Key,
    },
    /// The row with this key got another key. Never a delete (H4).
    KeyChange {
        /// The old key.
        key: Key,
        /// The new key; `None` if it could not be read.
        to: Option<Key>,
    },
    /// A tombstone: the row may be gone.
    Hint {
        /// Its key.
        key: Key,
    },
    /// The table was truncated. Never a delete (H9).
    Truncate,
}

/// Why a record was skipped. Each is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// A heartbeat of the connector.
    Heartbeat,
    /// A schema change record.
    SchemaChange,
    /// BEGIN or END of a source transaction.
    Transaction,
    /// A logical message (`m`).
    LogicalMessage,
    /// A notification or signal record.
    Notification,
    /// A row of a table on this topic that no entity names.
    OtherTable,
    /// A tombstone whose key does not have exactly an entity's key columns, or is null.
    UnusableTombstone,
}

impl SkipReason {
    /// The word under which it is counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::SchemaChange => "schema-change",
            Self::Transaction => "transaction",
            Self::LogicalMessage => "logical-message",
            Self::Notification => "notification",
            Self::OtherTable => "other-table",
            Self::UnusableTombstone => "unusable-tombstone",
        }
    }
}

/// A position in a source's log. Comparable only within one source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePosition {
    /// Connector and server: positions of different sources are not comparable.
    pub source: Arc<str>,
    /// Numbers compared from left to right.
    pub order: Vec<u64>,
}

impl SourcePosition {
    /// Older, equal or newer; `None` if the two come from different sources.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        (self.source == other.source).then(|| self.order.cmp(&other.order))
    }
}
