//! Why a text or number is not a value of a column's type. Facts only: no text here quotes the value.

/// Why a value could not be read exactly for a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not written the way this type is written.
    #[error("not {expected}")]
    Malformed {
        /// What was expected, with its article: `a whole number`.
        expected: &'static str,
    },
    /// A value of this kind, but beyond what the column's type holds.
    #[error("outside the range of {expected}")]
    OutOfRange {
        /// The kind of value.
        expected: &'static str,
    },
    /// More digits behind the point than the column keeps, and not all of them zero.
    #[error("more fraction digits than the column keeps ({kept})")]
    TooPrecise {
        /// Digits that the column keeps.
        kept: u16,
    },
    /// Longer than any value that a database stores.
    #[error("more than {limit} digits")]
    TooLong {
        /// The most digits that are read.
        limit: usize,
    },
    /// Of another kind than the column: a truth value for a number, a list for a text, a date for a number.
    #[error("found {found} where {expected} was expected")]
    OtherKind {
        /// What was found.
        found: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

impl ValueError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "write the value the way the database prints it; nothing is rounded, cut or guessed",
            Self::OutOfRange { .. } => "compare the column's type in the rules' database with the type in the source",
            Self::TooPrecise { .. } => "give the column the precision of its source; nothing is rounded",
            Self::TooLong { .. } => "no database stores a number of this length; look at what produced the record",
            Self::OtherKind { .. } => "the column and its source have different types: look at the last schema change on either side",
        }
    }
}
