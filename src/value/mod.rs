//! Values and keys: what a column holds, in one canonical text per column type.
//!
//! No database ever coerces a key for us (hazards H54 to H56, H59): a key is read here, for the type of its column, into one text per
//! value; two keys are equal if and only if their texts are. What cannot be read exactly is an error and becomes a dead letter. Pure.

use std::collections::BTreeMap;
use std::fmt;

mod canonical;
mod compare;
mod error;
mod moment;
mod number;

#[cfg(test)]
mod tests;

pub use compare::{Comparability, can_hold, comparable};
pub use error::ValueError;

pub(crate) use moment::{Unit, date_of_days, time_of_day, timestamp_of};
pub(crate) use number::Exact;

/// A column's type, as far as reading its values needs it. Made by the catalog of a database from what the database reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// A truth value: `true`, `false`.
    Bool,
    /// A whole number. Canonical: decimal digits, `-` if negative, no leading zeros.
    Int(IntType),
    /// An exact decimal. Canonical: with exactly `scale` fraction digits; without a scale, no trailing zeros.
    Decimal {
        /// Digits after the point, where the column fixes it.
        scale: Option<u16>,
    },
    /// A binary floating point number. Never a key.
    Float,
    /// Text, compared byte for byte.
    Text,
    /// Blank-padded text. Canonical: without the padding.
    Char,
    /// Canonical: lower case with dashes.
    Uuid,
    /// Canonical: lower-case hexadecimal.
    Bytes,
    /// Canonical: `2018-06-20`.
    Date,
    /// Time of day without a zone; fraction digits 0 to 6. Canonical: `04:05:11.789`, no trailing zeros in the fraction.
    Time {
        /// Fraction digits that the column keeps.
        precision: u8,
    },
    /// Date and time without a zone. Canonical: `2018-06-20 15:13:16.945104`, no trailing zeros in the fraction.
    Timestamp {
        /// Fraction digits that the column keeps.
        precision: u8,
    },
    /// A moment. Canonical: UTC, `2018-06-20 13:37:03.5+00`, no trailing zeros in the fraction.
    TimestampTz {
        /// Fraction digits that the column keeps.
        precision: u8,
    },
    /// JSON text; passes as it is. Never a key.
    Json,
    /// Anything else, by the database's own name; passes as the database's own text. Never a key.
    Other(String),
}

/// Width and sign of a whole number column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntType {
    /// 8, 16, 32 or 64.
    pub bits: u8,
    /// MySQL's UNSIGNED: 64-bit values arrive wrapped to negative and are read as the same bits.
    pub unsigned: bool,
}

/// One column of one row, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Absent, unavailable or invented: nothing is known. Never to be taken for NULL.
    Unknown,
    /// NULL.
    Null,
    /// A value, canonical for its column's type.
    Value(String),
}

/// Some columns of one row by name. A column that is not there is unknown.
pub type RowImage = BTreeMap<String, Cell>;

/// The value of a key: one canonical text per column; not empty, no NULL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<String>);

impl Key {
    /// A key of texts that are already canonical for their columns' types, or `None` if there is none or one of them is not a value.
    #[must_use]
    pub fn from_cells<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Option<Self> {
        let mut parts = Vec::new();
        for cell in cells {
            match cell {
                Cell::Value(text) => parts.push(text.clone()),
                Cell::Null | Cell::Unknown => return None,
            }
        }
        (!parts.is_empty()).then_some(Self(parts))
    }

    /// The texts, in the order of the key's columns.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => f.write_str(only),
            several => write!(f, "({})", several.join(",")),
        }
    }
}
