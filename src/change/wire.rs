//! Connect's JSON: key, value or header bytes as members that still are text, with their schema if there is one.
//!
//! Numbers and strings stay as they were written until a column's type says how to read them: nothing here goes through a float. Objects
//! are read member by member, so that a repeated member is found and unwanted ones are never built.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DecodeError, Part};

/// Levels of arrays and objects that are read in one part of a record; `serde_json`'s own limit, checked before parsing (H101).
pub const MAX_NESTING: usize = 128;

/// The members of one JSON object, in order, none twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|&(_, value)| value)
    }

    /// Like `get`, but null counts as absent.
    pub(super) fn value(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// The member's text, if it is a string.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the members are exactly these, in any order.
    pub(super) fn are<'n>(&self, names: impl ExactSizeIterator<Item = &'n str>) -> bool {
        self.len() == names.len() && names.into_iter().all(|name| self.has(name))
    }

    pub(super) fn parse(object: &'a RawValue, part: Part) -> Result<Self, DecodeError> {
        let members = Self::parse_text(object.get(), part)?;
        members.check_unique(part)?;
        Ok(members)
    }

    fn parse_text(object: &'a str, part: Part) -> Result<Self, DecodeError> {
        serde_json::from_str(object).map_err(|error| not_json(&error, part))
    }

    fn check_unique(&self, part: Part) -> Result<(), DecodeError> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
            Some(member) => Err(DecodeError::DuplicateMember { part, member: (*member).to_owned() }),
            None => Ok(()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A member's name: borrowed unless it holds an escape.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON string's text; `None` for anything else, and for a string that holds half of a surrogate pair.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    raw.get().starts_with('"').then(|| serde_json::from_str::<Name<'_>>(raw.get()).ok()).flatten().map(|Name(text)| text)
}

/// A node of a Connect schema, as far as reading values needs it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Schema {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The logical type or record name.
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    fields: Vec<Schema>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Debug, Clone, Deserialize)]
struct Parameters {
    #[serde(default)]
    scale: Option<String>,
}

impl Schema {
    /// The schema of a field of this struct.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|node| node.field.as_deref() == Some(name))
    }

    /// The scale of a decimal; parameters are always strings.
    pub(super) fn scale(&self) -> Option<i64> {
        self.parameters.as_ref()?.scale.as_deref()?.parse().ok()
    }
}

/// What a key, value or header holds.
#[derive(Debug, Clone)]
pub(super) enum Body<'a> {
    /// One of the four nulls.
    Null,
    /// An object.
    Object(Members<'a>),
    /// A string, number or truth value.
    Scalar(&'a RawValue),
    /// A list.
    Array,
}

/// A body with its schema.
#[derive(Debug, Clone)]
pub(super) struct Payload<'a> {
    pub(super) schema: Option<Schema>,
    pub(super) body: Body<'a>,
}

/// Reads one part of a record and takes it out of the `schema` and `payload` that the converter may have put around it.
pub(super) fn payload(bytes: Option<&[u8]>, part: Part) -> Result<Payload<'_>, DecodeError> {
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(Payload { schema: None, body: Body::Null }) };
    if let Some(0 | 1 | 3) = bytes.first() {
        return Err(DecodeError::UnsupportedFormat { what: "framed for a schema registry" });
    }
    if bytes.starts_with(b"Struct{") {
        return Err(DecodeError::ConnectText { part });
    }
    check_nesting(bytes, part)?;
    let raw: &RawValue = serde_json::from_slice(bytes).map_err(|error| not_json(&error, part))?;
    let body = body(raw, part)?;
    match &body {
        Body::Object(members) => match unwrap(members, part)? {
            Some(unwrapped) => Ok(unwrapped),
            None => Ok(Payload { schema: None, body }),
        },
        Body::Null | Body::Scalar(_) | Body::Array => Ok(Payload { schema: None, body }),
    }
}

fn body(raw: &RawValue, part: Part) -> Result<Body<'_>, DecodeError> {
    Ok(match raw.get().as_bytes().first() {
        Some(b'{') => Body::Object(Members::parse(raw, part)?),
        Some(b'[') => Body::Array,
        Some(b'n') => Body::Null,
        Some(_) | None => Body::Scalar(raw),
    })
}

/// The payload, if these are the two members that the converter writes. A row may have columns of these names, so the test is exact:
/// the schema is null or an object with a `type`.
fn unwrap<'a>(members: &Members<'a>, part: Part) -> Result<Option<Payload<'a>>, DecodeError> {
    if !members.are(["schema", "payload"].into_iter()) {
        return Ok(None);
    }
    let (Some(schema), Some(payload)) = (members.get("schema"), members.get("payload")) else { return Ok(None) };
    let schema = match schema.get().as_bytes().first() {
        Some(b'n') => None,
        Some(b'{') if Members::parse(schema, part)?.has("type") => {
            Some(serde_json::from_str(schema.get()).map_err(|_| DecodeError::UnreadableSchema { part })?)
        }
        Some(_) | None => return Ok(None),
    };
    Ok(Some(Payload { schema, body: body(payload, part)? }))
}

/// Counts levels without parsing: skipping a value, as raw values do, has no limit of its own.
fn check_nesting(bytes: &[u8], part: Part) -> Result<(), DecodeError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(DecodeError::TooDeep { part, limit: MAX_NESTING });
        }
    }
    Ok(())
}

fn not_json(error: &serde_json::Error, part: Part) -> DecodeError {
    DecodeError::NotJson { part, at: if error.line() == 1 { error.column() } else { 0 } }
}
