//! The values of every column type, from what the wire holds.
//!
//! One match per type over what was found and what the schema says that it is; all that is left over is of another kind than the column.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Part;
use super::reading::{Doubt, Json, Place, Unread, Wire};
use super::wire::Members;
use crate::value::{ColumnType, Exact, IntType, Unit, ValueError, date_of_days, time_of_day, timestamp_of};

/// The canonical text of a value for a column of this type.
pub(super) fn value(json: &Json<'_>, kind: &ColumnType, wire: Wire, place: Place) -> Result<String, Unread> {
    let other_kind = || Err(mismatch(json, kind));
    match kind {
        ColumnType::Bool => match (json, wire) {
            (Json::Truth(truth), Wire::Bare | Wire::Truth) => Ok(truth.to_string()),
            (Json::Number(digits), Wire::Bare | Wire::Whole) => Ok(kind.canonical(digits)?),
            (Json::Text(text), _) if wire.is_text() => Ok(kind.canonical(text)?),
            _ => other_kind(),
        },
        ColumnType::Int(int) => whole(json, *int, wire),
        ColumnType::Decimal { scale } => decimal(json, *scale, wire, place),
        ColumnType::Float => match (json, wire) {
            (Json::Number(digits), Wire::Bare | Wire::Floating | Wire::Whole) => Ok(kind.canonical(digits)?),
            // NaN and the infinities are quoted.
            (Json::Text(text), Wire::Bare | Wire::Floating | Wire::Text) => Ok(kind.canonical(text)?),
            _ => other_kind(),
        },
        ColumnType::Text | ColumnType::Char => match (json, wire) {
            (Json::Text(text), _) if wire.is_text() => Ok(kind.canonical(text)?),
            (Json::Number(digits), Wire::Bare | Wire::Whole) if *digits != "-0" && !digits.contains(['.', 'e', 'E']) => {
                Ok((*digits).to_owned())
            }
            _ => other_kind(),
        },
        ColumnType::Uuid => uuid(json, kind, wire),
        ColumnType::Bytes => bytes(json, wire),
        ColumnType::Date => match (json, wire) {
            (Json::Number(digits), Wire::Bare | Wire::Days) => Ok(date_of_days(count(digits, kind)?)?),
            (Json::Text(text), _) if wire.is_text() => Ok(kind.canonical(without_zone(text))?),
            _ => other_kind(),
        },
        ColumnType::Time { precision } => match (json, wire) {
            (Json::Number(_), Wire::Bare) => Err(Unread::Ambiguous(Doubt::TimeUnit)),
            (Json::Number(digits), Wire::TimeOfDay(unit)) => {
                check_cut(unit, *precision)?;
                Ok(time_of_day(count(digits, kind)?, unit, *precision)?)
            }
            (Json::Text(text), _) if wire.is_text() => Ok(kind.canonical(without_zone(text))?),
            _ => other_kind(),
        },
        ColumnType::Timestamp { precision } => match (json, wire) {
            (Json::Number(_), Wire::Bare) => Err(Unread::Ambiguous(Doubt::TimeUnit)),
            (Json::Number(digits), Wire::Stamp(unit)) => {
                check_cut(unit, *precision)?;
                Ok(timestamp_of(count(digits, kind)?, unit, *precision)?)
            }
            (Json::Text(text), _) if wire.is_text() => Ok(kind.canonical(without_zone(text))?),
            _ => other_kind(),
        },
        ColumnType::TimestampTz { .. } => match (json, wire) {
            (Json::Number(_), Wire::Bare) => Err(Unread::Ambiguous(Doubt::TimeUnit)),
            (Json::Text(text), _) if wire.is_text() => Ok(kind.canonical(text)?),
            _ => other_kind(),
        },
        ColumnType::Json => match (json, wire) {
            (Json::Text(text), _) if wire.is_text() => Ok(text.clone().into_owned()),
            (Json::Compound(raw), _) => Ok(raw.get().to_owned()),
            _ => other_kind(),
        },
        ColumnType::Other(name) => match (json, wire) {
            (Json::Text(text), Wire::Text) => Ok(text.clone().into_owned()),
            (Json::Text(text), Wire::Bare) if is_sent_as_text(name) => Ok(text.clone().into_owned()),
            _ => Err(Unread::Ambiguous(Doubt::Encoded)),
        },
    }
}

fn mismatch(json: &Json<'_>, kind: &ColumnType) -> Unread {
    let found = match json {
        Json::Null => "null",
        Json::Truth(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::Text(_) => "a text",
        Json::Compound(_) => "a list or an object",
    };
    Unread::Wrong(ValueError::OtherKind { found, expected: kind.noun() })
}

fn whole(json: &Json<'_>, kind: IntType, wire: Wire) -> Result<String, Unread> {
    match (json, wire) {
        (Json::Number(digits), Wire::Bare | Wire::Whole | Wire::Decimal(_)) => {
            // Debezium sends BIGINT UNSIGNED from 2^63 on as the same bits of a signed number (captured: 2^64 - 1 is -1).
            let wrapped = if kind.unsigned && kind.bits == 64 { digits.parse::<i64>().ok().filter(|n| *n < 0) } else { None };
            match wrapped {
                Some(bits) => Ok(bits.cast_unsigned().to_string()),
                None => Ok(Exact::json(digits)?.to_int(kind)?).and_then(|text| unrounded(digits, text)),
            }
        }
        (Json::Number(_), Wire::Floating) => Err(Unread::Ambiguous(Doubt::Double)),
        // Base64 stands for a whole number in one case only: `bigint.unsigned.handling.mode=precise`.
        (Json::Text(text), Wire::Bare) if !(kind.unsigned && kind.bits == 64) => Ok(ColumnType::Int(kind).canonical(text)?),
        _ => exact_text(json, wire, &ColumnType::Int(kind), Some(0), &|number| number.to_int(kind)),
    }
}

/// With a point or an exponent a whole number has been a double on its way, and from 2^53 on a double stands for its neighbours too (H55).
fn unrounded(digits: &str, text: String) -> Result<String, Unread> {
    let is_double = digits.contains(['.', 'e', 'E']);
    let is_rounded = is_double && text.parse::<i128>().is_ok_and(|number| number.unsigned_abs() >= 1 << 53);
    if is_rounded { Err(Unread::Ambiguous(Doubt::Rounded)) } else { Ok(text) }
}

fn decimal(json: &Json<'_>, scale: Option<u16>, wire: Wire, place: Place) -> Result<String, Unread> {
    let finish = |number: &Exact| number.to_decimal(scale);
    match (json, wire) {
        (Json::Number(_), Wire::Floating) => Err(Unread::Ambiguous(Doubt::Double)),
        // Java prints every double with a point or an exponent, and no whole number so (H55).
        (Json::Number(digits), Wire::Bare) if place == Place::Payload && digits.contains(['.', 'e', 'E']) => {
            Err(Unread::Ambiguous(Doubt::Double))
        }
        (Json::Number(digits), Wire::Bare | Wire::Whole | Wire::Decimal(_)) => Ok(finish(&Exact::json(digits)?)?),
        _ => exact_text(json, wire, &ColumnType::Decimal { scale }, scale, &finish),
    }
}

/// Reads a decimal that is not a JSON number: digits, base64 of the unscaled integer, or a struct that brings its own scale.
fn exact_text(
    json: &Json<'_>,
    wire: Wire,
    kind: &ColumnType,
    scale: Option<u16>,
    finish: &dyn Fn(&Exact) -> Result<String, ValueError>,
) -> Result<String, Unread> {
    let unscaled = |text: &str, scale: i64| {
        let bytes = STANDARD.decode(text).map_err(|_| ValueError::Malformed { expected: "a decimal in base64" })?;
        finish(&Exact::unscaled(&bytes, scale)?)
    };
    match (json, wire) {
        (Json::Text(text), Wire::Text) => Ok(kind.canonical(text)?),
        (Json::Text(text), Wire::Decimal(scale)) => Ok(unscaled(text, scale)?),
        (Json::Text(text), Wire::Bare) => {
            let is_base64 = STANDARD.decode(text.as_bytes()).is_ok_and(|bytes| !bytes.is_empty());
            match (kind.canonical(text), scale.map(|scale| unscaled(text, i64::from(scale)))) {
                (Ok(digits), Some(Err(_))) => Ok(digits),
                (Ok(digits), None) if !is_base64 => Ok(digits),
                (Ok(_), Some(Ok(_)) | None) => Err(Unread::Ambiguous(Doubt::DecimalText)),
                (Err(_), Some(Ok(number))) => Ok(number),
                (Err(_), None) if is_base64 => Err(Unread::Ambiguous(Doubt::DecimalScale)),
                (Err(error), Some(Err(_)) | None) => Err(error.into()),
            }
        }
        (Json::Compound(raw), Wire::Bare | Wire::VariableDecimal) => {
            let members = Members::parse(raw, Part::Value).ok().filter(|members| members.are(["scale", "value"].into_iter()));
            let parts = members.and_then(|members| Some((members.get("scale")?.get().parse().ok()?, members.text("value")?)));
            let (scale, value) = parts.ok_or_else(|| mismatch(json, kind))?;
            Ok(unscaled(&value, scale)?)
        }
        _ => Err(mismatch(json, kind)),
    }
}

fn uuid(json: &Json<'_>, kind: &ColumnType, wire: Wire) -> Result<String, Unread> {
    let (Json::Text(text), Wire::Bare | Wire::Text | Wire::Bytes) = (json, wire) else { return Err(mismatch(json, kind)) };
    // Sixteen bytes, as BINARY(16) sends them: their base64 has 24 characters, which no text of a uuid has.
    let from_bytes = || STANDARD.decode(text.as_bytes()).ok().and_then(|bytes| uuid::Uuid::from_slice(&bytes).ok());
    match from_bytes().filter(|_| wire != Wire::Text) {
        Some(uuid) => Ok(uuid.hyphenated().to_string()),
        None if wire == Wire::Bytes => Err(ValueError::Malformed { expected: "the sixteen bytes of a uuid" }.into()),
        None => Ok(kind.canonical(text)?),
    }
}

fn bytes(json: &Json<'_>, wire: Wire) -> Result<String, Unread> {
    let (Json::Text(text), Wire::Bare | Wire::Text | Wire::Bytes) = (json, wire) else { return Err(mismatch(json, &ColumnType::Bytes)) };
    let decoded = STANDARD.decode(text.as_bytes()).map_err(|_| ValueError::Malformed { expected: "bytes in base64" })?;
    // With schema or without, `binary.handling.mode=hex` sends a plain string: what is both is left undecided.
    if wire != Wire::Bytes && !decoded.is_empty() && ColumnType::Bytes.canonical(text).is_ok() {
        return Err(Unread::Ambiguous(Doubt::BytesText));
    }
    Ok(decoded.iter().fold(String::with_capacity(decoded.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// `time.precision.mode=connect` cuts everything to milliseconds, so a count of them is no exact reading of a column that keeps more.
fn check_cut(unit: Unit, precision: u8) -> Result<(), Unread> {
    if unit == Unit::Millis && precision > 3 { Err(Unread::Ambiguous(Doubt::TimeUnit)) } else { Ok(()) }
}

fn count(digits: &str, kind: &ColumnType) -> Result<i64, ValueError> {
    digits.parse().map_err(|_| ValueError::Malformed { expected: kind.noun() })
}

/// Iso texts of values without a zone end with `Z` all the same.
fn without_zone(text: &str) -> &str {
    text.strip_suffix('Z').unwrap_or(text)
}

/// Whether a connector sends the database's own text for a type that is only passed on.
fn is_sent_as_text(name: &str) -> bool {
    const NAMES: [&str; 11] = ["inet", "cidr", "macaddr", "macaddr8", "xml", "tsvector", "tsquery", "ltree", "citext", "enum", "set"];
    let base = name.split('(').next().unwrap_or_default().trim();
    NAMES.iter().any(|known| base.eq_ignore_ascii_case(known)) || base.ends_with("range")
}
