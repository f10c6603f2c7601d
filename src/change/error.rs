//! Why a record could not be read, and what a person can do about it.
//!
//! Every case is a dead letter: the record is kept with its bytes and this reason. Texts name members, columns and tables, never values.

use std::fmt;

use crate::value::ValueError;

/// The part of a record that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The message key.
    Key,
    /// The value.
    Value,
    /// A header.
    Header,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
            Self::Header => "header",
        })
    }
}

/// Why a record could not be read. Every case is a dead letter; no text here quotes a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Larger than the limit for one record.
    #[error("the record has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes of key, value and headers.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Nested deeper than is read.
    #[error("the {part} is nested deeper than {limit} levels")]
    TooDeep {
        /// Which part.
        part: Part,
        /// The limit in levels.
        limit: usize,
    },
    /// Neither JSON nor anything else that is known.
    #[error("the {part} is not JSON (byte {at})")]
    NotJson {
        /// Which part.
        part: Part,
        /// Where reading stopped, counted from 1; 0 if unknown.
        at: usize,
    },
    /// A text printed by Connect's `StringConverter`: not to be read without guessing.
    #[error("the {part} is the text of a Connect struct, not JSON")]
    ConnectText {
        /// Which part.
        part: Part,
    },
    /// JSON, but of another kind than belongs there.
    #[error("the {part} is {found}, not an object")]
    NotAnObject {
        /// Which part.
        part: Part,
        /// What was found.
        found: &'static str,
    },
    /// A known format that this release does not read.
    #[error("the record is {what}, which is not read yet")]
    UnsupportedFormat {
        /// The format, with its article.
        what: &'static str,
    },
    /// The same member twice in one object: which one counts would be a guess (H101).
    #[error("the {part} holds the member `{member}` twice")]
    DuplicateMember {
        /// Which part.
        part: Part,
        /// The member's name.
        member: String,
    },
    /// The Connect schema beside the payload cannot be read.
    #[error("the schema beside the {part} cannot be read")]
    UnreadableSchema {
        /// Which part.
        part: Part,
    },
    /// A member of the envelope is missing, null or of another kind than it must be.
    #[error("the envelope has no usable `{member}`")]
    Envelope {
        /// The member, as a path: `source.table`.
        member: &'static str,
    },
    /// An operation that is not one of c, u, d, r, t, m.
    #[error("unknown operation `{op}`")]
    UnknownOperation {
        /// The operation, if it is a short word; else a note in its place.
        op: String,
    },
    /// `__deleted` and `__op` of a flattened row say different things.
    #[error("`__deleted` and `__op` contradict each other")]
    ContradictoryMarks,
    /// Several entities on the topic could be meant.
    #[error("the record names no table, or one that several entities of this topic have")]
    EntityUnclear,
    /// A key column is neither in the row nor in a usable message key.
    #[error("key column `{column}` is missing")]
    KeyMissing {
        /// The column.
        column: String,
    },
    /// A key column is null (H57).
    #[error("key column `{column}` is null")]
    KeyNull {
        /// The column.
        column: String,
    },
    /// A key column holds the placeholder for an unavailable value (H12).
    #[error("key column `{column}` holds the placeholder of an unavailable value")]
    KeyUnavailable {
        /// The column.
        column: String,
    },
    /// A key column could stand for more than one value.
    #[error("key column `{column}` is ambiguous: {reason}")]
    KeyAmbiguous {
        /// The column.
        column: String,
        /// The readings between which nothing decides.
        reason: &'static str,
        /// What decides it.
        hint: &'static str,
    },
    /// A key column cannot be read exactly for its type.
    #[error("key column `{column}` cannot be read")]
    KeyUnreadable {
        /// The column.
        column: String,
        /// Why not.
        source: ValueError,
    },
    /// The message key and the row differ in a column that both have (H13).
    #[error("key column `{column}` differs between message key and row")]
    KeyDisagrees {
        /// The column.
        column: String,
    },
}

const CONVERTER: &str = "set key.converter and value.converter of the connector to org.apache.kafka.connect.json.JsonConverter";

impl DecodeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "leave large columns out with column.exclude.list; only key and copied columns are read",
            Self::TooDeep { .. } => "no connector writes this; look at what produced the record",
            Self::NotJson { .. } | Self::ConnectText { .. } | Self::NotAnObject { .. } => CONVERTER,
            Self::UnsupportedFormat { .. } => {
                "use Debezium's JSON envelope, or ExtractNewRecordState with delete.tombstone.handling.mode=rewrite and add.fields=op,table"
            }
            Self::DuplicateMember { .. } => {
                "two columns were given one name, or the record is forged; look at the transforms of the connector"
            }
            Self::UnreadableSchema { .. } => "no JsonConverter writes this; look at what produced the record",
            Self::Envelope { .. } => "look at the transforms of the connector: one of them removed or renamed a part of the envelope",
            Self::UnknownOperation { .. } => "c, u, d, r, t and m are known; a newer connector may need a newer release",
            Self::ContradictoryMarks => "look at the transforms and add.fields of the connector",
            Self::EntityUnclear => "add table (and schema or db) to add.fields, or give every table its own topic",
            Self::KeyMissing { .. } => "the rules' key must be the table's primary key or replica identity; look at column.exclude.list",
            Self::KeyNull { .. } => "a key is never null; with message.key.columns give the table REPLICA IDENTITY FULL",
            Self::KeyUnavailable { .. } => "keep key columns in line: ALTER COLUMN … SET STORAGE PLAIN, or REPLICA IDENTITY FULL",
            Self::KeyAmbiguous { hint, .. } => hint,
            Self::KeyUnreadable { source, .. } => source.hint(),
            Self::KeyDisagrees { .. } => "look at message.key.columns and the transforms: the message key must be the row's own",
        }
    }
}
