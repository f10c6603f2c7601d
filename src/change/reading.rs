//! One JSON value, read for a column's type: exactly, or not at all.
//!
//! With a schema the wire says what it holds. Without one the column's type decides, and where two readings are left nothing is chosen:
//! in a key that is an error, elsewhere the row is read from its owner (FORMATS section 15).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::wire::{Schema, text};
use super::{placeholder, values};
use crate::value::{ColumnType, Unit, ValueError};

/// A value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// NULL.
    Null,
    /// Canonical for its column.
    Value(String),
    /// The placeholder for an unavailable value.
    Unavailable,
}

/// Why a value was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// More than one reading is possible.
    Ambiguous(Doubt),
    /// It is not a value of this type.
    Wrong(ValueError),
}

impl From<ValueError> for Unread {
    fn from(error: ValueError) -> Self {
        Self::Wrong(error)
    }
}

/// Between which readings nothing decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A count of milli- or microseconds.
    TimeUnit,
    /// Digits that are base64 as well.
    DecimalText,
    /// A base64 decimal without a scale.
    DecimalScale,
    /// A whole number that may have been rounded on its way.
    Rounded,
    /// A decimal that may have gone through a floating point number.
    Double,
    /// Hexadecimal digits that are base64 as well.
    BytesText,
    /// A type that is only passed on, in an encoding of the connector's.
    Encoded,
}

impl Doubt {
    /// The readings.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::TimeUnit => "a bare number may count milli- or microseconds",
            Self::DecimalText => "the text may be digits or a decimal in base64",
            Self::DecimalScale => "a decimal in base64 has no scale here",
            Self::Rounded => "the number may have been rounded by a floating point number",
            Self::Double => "a decimal may have passed through a floating point number",
            Self::BytesText => "the text may be hexadecimal or base64",
            Self::Encoded => "the connector's encoding of this type is not the database's own text",
        }
    }

    /// What decides between them.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::TimeUnit => {
                "set key.converter.schemas.enable=true and value.converter.schemas.enable=true, or time.precision.mode=isostring"
            }
            Self::DecimalText | Self::DecimalScale => {
                "set key.converter.schemas.enable=true and value.converter.schemas.enable=true, or another decimal.handling.mode"
            }
            Self::Rounded => "send whole numbers without a point or exponent: something before Kafka reads them as doubles",
            Self::Double => "set decimal.handling.mode to precise or string",
            Self::BytesText => {
                "set binary.handling.mode=bytes, with key.converter.schemas.enable=true and value.converter.schemas.enable=true"
            }
            Self::Encoded => "a column of this type cannot be a key",
        }
    }
}

/// How far a bare number can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a key, value or JSON header: a fraction may come from a double.
    Payload,
    /// In a header as Connect prints it: decimals are bare numbers there, whatever the handling mode.
    PrintedHeader,
}

/// A JSON value by kind, numbers and compounds as written.
pub(super) enum Json<'a> {
    Null,
    Truth(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    Compound(&'a RawValue),
}

/// What a schema says that the wire holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// No schema.
    Bare,
    Truth,
    Whole,
    Floating,
    Text,
    Bytes,
    Decimal(i64),
    VariableDecimal,
    Days,
    TimeOfDay(Unit),
    Stamp(Unit),
    /// Anything that no column type here reads.
    Special,
}

impl Wire {
    fn of(schema: Option<&Schema>) -> Self {
        let Some(schema) = schema else { return Self::Bare };
        match schema.name.as_deref().unwrap_or_default() {
            "org.apache.kafka.connect.data.Decimal" => schema.scale().map_or(Self::Special, Self::Decimal),
            "io.debezium.data.VariableScaleDecimal" => Self::VariableDecimal,
            "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => Self::Days,
            "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => Self::TimeOfDay(Unit::Millis),
            "io.debezium.time.MicroTime" => Self::TimeOfDay(Unit::Micros),
            "io.debezium.time.NanoTime" => Self::TimeOfDay(Unit::Nanos),
            "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => Self::Stamp(Unit::Millis),
            "io.debezium.time.MicroTimestamp" => Self::Stamp(Unit::Micros),
            "io.debezium.time.NanoTimestamp" => Self::Stamp(Unit::Nanos),
            "io.debezium.time.MicroDuration" | "io.debezium.time.NanoDuration" | "io.debezium.data.Bits" => Self::Special,
            _ => match schema.kind.as_str() {
                "boolean" => Self::Truth,
                "int8" | "int16" | "int32" | "int64" => Self::Whole,
                "float" | "double" | "float32" | "float64" => Self::Floating,
                "string" => Self::Text,
                "bytes" => Self::Bytes,
                _ => Self::Special,
            },
        }
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Bare | Self::Text)
    }
}

/// Reads one JSON value for a column of this type.
pub(super) fn read(raw: &RawValue, kind: &ColumnType, schema: Option<&Schema>, place: Place) -> Result<Reading, Unread> {
    let json = match raw.get().as_bytes().first() {
        Some(b'n') => Json::Null,
        Some(b't') => Json::Truth(true),
        Some(b'f') => Json::Truth(false),
        Some(b'{' | b'[') => Json::Compound(raw),
        Some(b'"') => Json::Text(text(raw).ok_or(ValueError::Malformed { expected: kind.noun() })?),
        Some(_) | None => Json::Number(raw.get()),
    };
    let unavailable = match &json {
        Json::Text(text) => placeholder::is_text(text),
        Json::Compound(raw) => placeholder::is_compound(raw.get()),
        Json::Null | Json::Truth(_) | Json::Number(_) => false,
    };
    match json {
        _ if unavailable => Ok(Reading::Unavailable),
        Json::Null => Ok(Reading::Null),
        Json::Truth(_) | Json::Number(_) | Json::Text(_) | Json::Compound(_) => {
            values::value(&json, kind, Wire::of(schema), place).map(Reading::Value)
        }
    }
}
