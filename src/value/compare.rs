//! Whether a child's column may name a parent's key: does the child's equality distinguish everything that the parent's does (H56)?

use super::ColumnType;

/// How the values of a child column compare with those of the parent column that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparability {
    /// The same values have the same canonical text.
    Same,
    /// Only the parent's canonical spelling is found in the child: other spellings of the same value are missed, none is matched wrongly.
    Narrower,
    /// The child may hold one text for several parents, or the two have no text in common: refused.
    No,
}

/// Whether a column of this type can hold a value with this canonical text at all: a child of a narrower type has no row for a larger key.
#[must_use]
pub fn can_hold(kind: &ColumnType, text: &str) -> bool {
    match kind {
        ColumnType::Int(int) => {
            let bits = u32::from(int.bits.min(64)) - u32::from(!int.unsigned);
            let (least, most) = if int.unsigned { (0, (1i128 << bits) - 1) } else { (-(1i128 << bits), (1i128 << bits) - 1) };
            text.parse::<i128>().is_ok_and(|number| (least..=most).contains(&number))
        }
        // No text of PostgreSQL has one.
        ColumnType::Text | ColumnType::Char => !text.contains('\0'),
        ColumnType::Bool
        | ColumnType::Decimal { .. }
        | ColumnType::Float
        | ColumnType::Uuid
        | ColumnType::Bytes
        | ColumnType::Date
        | ColumnType::Time { .. }
        | ColumnType::Timestamp { .. }
        | ColumnType::TimestampTz { .. }
        | ColumnType::Json
        | ColumnType::Other(_) => true,
    }
}

/// Compares a child's column with the parent's column that it names.
#[must_use]
pub fn comparable(parent: &ColumnType, child: &ColumnType) -> Comparability {
    use ColumnType as T;
    let when = |same: bool| if same { Comparability::Same } else { Comparability::No };
    match (parent, child) {
        (T::Float | T::Json | T::Other(_), _) | (_, T::Float | T::Json | T::Other(_)) => Comparability::No,
        (T::Bool, T::Bool) | (T::Text, T::Text) | (T::Char, T::Char) => Comparability::Same,
        (T::Uuid, T::Uuid) | (T::Bytes, T::Bytes) | (T::Date, T::Date) => Comparability::Same,
        // A whole number and a decimal without fraction digits have the same text; so has one without a fixed scale, but a child that
        // keeps fewer digits has rounded what was written to it.
        (T::Int(_) | T::Decimal { scale: Some(0) }, T::Int(_) | T::Decimal { scale: Some(0) | None }) => Comparability::Same,
        (T::Decimal { scale: parent }, T::Decimal { scale: child }) => when(parent == child),
        (T::Time { precision: parent }, T::Time { precision: child }) => when(parent <= child),
        (T::Timestamp { precision: parent }, T::Timestamp { precision: child }) => when(parent <= child),
        (T::TimestampTz { precision: parent }, T::TimestampTz { precision: child }) => when(parent <= child),
        // The child's blanks count for nothing there: 'a' and 'a ' of the parent would be one.
        (T::Text, T::Char) => Comparability::No,
        // No canonical text of these ends with a blank, so padding changes nothing.
        (_, T::Text) => Comparability::Narrower,
        (T::Bool | T::Int(_) | T::Decimal { .. } | T::Uuid | T::Bytes, T::Char) => Comparability::Narrower,
        (T::Date | T::Time { .. } | T::Timestamp { .. } | T::TimestampTz { .. }, T::Char) => Comparability::Narrower,
        (T::Bool | T::Int(_) | T::Decimal { .. } | T::Text | T::Char | T::Uuid | T::Bytes, _) => Comparability::No,
        (T::Date | T::Time { .. } | T::Timestamp { .. } | T::TimestampTz { .. }, _) => Comparability::No,
    }
}
