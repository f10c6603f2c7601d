//! One canonical text per value: from what a database prints (`::text`) or a rules file says.
//!
//! Two values of a key type are equal if and only if their canonical texts are, and a canonical text is its own canonical text. Nothing
//! is rounded, cut or coerced. Values on the wire are read by `change`, which ends here too.

use super::{ColumnType, Exact, IntType, ValueError, moment};

impl ColumnType {
    /// The canonical text of a value given as a database prints it or as a rules file writes it.
    ///
    /// Readings that cannot change the value are allowed: blanks around a number, `+`, leading zeros, zeros behind the point, an uuid in
    /// either case, a moment in any offset.
    ///
    /// # Errors
    /// If the text is not exactly a value of this type.
    pub fn canonical(&self, text: &str) -> Result<String, ValueError> {
        match self {
            Self::Bool => boolean(text.trim_ascii()),
            Self::Int(kind) => Exact::plain(text.trim_ascii()).map_err(|error| whole(error, *kind))?.to_int(*kind),
            Self::Decimal { scale } => Exact::plain(text.trim_ascii())?.to_decimal(*scale),
            Self::Float => float(text.trim_ascii()),
            Self::Text | Self::Json | Self::Other(_) => Ok(text.to_owned()),
            Self::Char => Ok(text.trim_end_matches(' ').to_owned()),
            Self::Uuid => uuid(text.trim_ascii()),
            Self::Bytes => hex(text),
            Self::Date => moment::date(text.trim_ascii()),
            Self::Time { precision } => moment::time(text.trim_ascii(), *precision),
            Self::Timestamp { precision } => moment::timestamp(text.trim_ascii(), *precision),
            Self::TimestampTz { precision } => moment::timestamp_tz(text.trim_ascii(), *precision),
        }
    }

    /// Whether values of this type can be a key: whether equality of canonical texts is equality in the database.
    #[must_use]
    pub fn is_key_type(&self) -> bool {
        match self {
            Self::Float | Self::Json | Self::Other(_) => false,
            Self::Bool | Self::Int(_) | Self::Decimal { .. } | Self::Text | Self::Char | Self::Uuid | Self::Bytes => true,
            Self::Date | Self::Time { .. } | Self::Timestamp { .. } | Self::TimestampTz { .. } => true,
        }
    }

    /// What a value of this type is called in messages, with its article.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Bool => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Decimal { .. } => "a decimal number",
            Self::Float => "a floating point number",
            Self::Text => "a text",
            Self::Char => "a padded text",
            Self::Uuid => "a uuid",
            Self::Bytes => "bytes",
            Self::Date => "a date",
            Self::Time { .. } => "a time of day",
            Self::Timestamp { .. } => "a date and time",
            Self::TimestampTz { .. } => "a date and time with an offset",
            Self::Json => "JSON",
            Self::Other(_) => "a value of a type that is only passed on",
        }
    }
}

/// The same problem, said of the type that was asked for.
fn whole(error: ValueError, kind: IntType) -> ValueError {
    match error {
        ValueError::Malformed { .. } => ValueError::Malformed { expected: ColumnType::Int(kind).noun() },
        ValueError::OutOfRange { .. } | ValueError::TooPrecise { .. } | ValueError::TooLong { .. } | ValueError::OtherKind { .. } => error,
    }
}

fn boolean(text: &str) -> Result<String, ValueError> {
    let is = |spellings: [&str; 3]| spellings.iter().any(|spelling| text.eq_ignore_ascii_case(spelling));
    match () {
        () if is(["true", "t", "1"]) => Ok("true".to_owned()),
        () if is(["false", "f", "0"]) => Ok("false".to_owned()),
        () => Err(ValueError::Malformed { expected: ColumnType::Bool.noun() }),
    }
}

/// The shortest text that reads back as the same number. Only for columns that are passed on: never for a key.
fn float(text: &str) -> Result<String, ValueError> {
    let malformed = ValueError::Malformed { expected: ColumnType::Float.noun() };
    let named = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| text.eq_ignore_ascii_case(name));
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')) {
        return Err(malformed);
    }
    let value: f64 = text.parse().map_err(|_| malformed)?;
    if value.is_infinite() {
        return Err(ValueError::OutOfRange { expected: ColumnType::Float.noun() });
    }
    let printed = format!("{value:?}");
    Ok(printed.strip_suffix(".0").map_or_else(|| printed.clone(), str::to_owned))
}

fn uuid(text: &str) -> Result<String, ValueError> {
    let value = uuid::Uuid::try_parse(text).map_err(|_| ValueError::Malformed { expected: ColumnType::Uuid.noun() })?;
    Ok(value.hyphenated().to_string())
}

/// Reads hexadecimal digits, with PostgreSQL's `\x` before them or without.
fn hex(text: &str) -> Result<String, ValueError> {
    let digits = text.strip_prefix("\\x").unwrap_or(text);
    if digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(digits.to_ascii_lowercase())
    } else {
        Err(ValueError::Malformed { expected: "bytes in hexadecimal" })
    }
}
