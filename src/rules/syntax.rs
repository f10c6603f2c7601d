//! YAML text to a tree of nodes, each with its place in the file.
//!
//! Apart from the checks, because a derived reader stops at its first error and this format promises all of them at once. Scalars keep the
//! text as written: what is text, number or truth value in YAML is told apart, but `no`, `012` and `1_000` stay the texts they are. The
//! budget stops deep nesting and alias bombs before they cost anything. Knows nothing of entities and references.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Options, Spanned};

use super::diagnostic::Diagnostic;

/// Largest rules file, in bytes; refused before parsing. Some thousand references fit.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;
/// Nesting allowed; the format itself needs seven levels.
const MAX_DEPTH: usize = 16;
/// Parser events that aliases may add. Each costs about ten microseconds in an unoptimised build.
const MAX_REPLAYED_EVENTS: usize = 5_000;

/// A rules file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in messages: the path as the user would write it.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// A place in a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot<'f> {
    pub(crate) file: &'f str,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Spot<'_> {
    /// Its line in the text of its file, from 1.
    pub(crate) fn line(&self, text: &str) -> usize {
        1 + text.get(..self.start).map_or(0, |before| before.matches('\n').count())
    }
}

/// A node of the tree.
#[derive(Debug)]
pub(crate) struct Node<'f> {
    /// Where it is used: for an aliased node the alias. Of a block, its first key.
    pub(crate) spot: Spot<'f>,
    pub(crate) value: Value<'f>,
}

/// What a node holds. Truth values and numbers are kept as written.
#[derive(Debug)]
pub(crate) enum Value<'f> {
    Null,
    Bool(&'f str),
    Number(&'f str),
    Text(String),
    List(Vec<Node<'f>>),
    Map(Vec<Entry<'f>>),
}

/// A key with its value; a key may be written twice.
#[derive(Debug)]
pub(crate) struct Entry<'f> {
    pub(crate) key: Node<'f>,
    pub(crate) value: Node<'f>,
}

impl Value<'_> {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// The text of a scalar, as written.
    pub(crate) fn written(&self) -> Option<&str> {
        match self {
            Self::Bool(written) | Self::Number(written) => Some(written),
            Self::Text(text) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}

/// Reads the tree of a file. Nothing if the file is too large, empty or not YAML; the reason is then in `problems`.
pub(crate) fn parse<'f>(file: &'f SourceFile, problems: &mut Vec<Diagnostic>) -> Option<Node<'f>> {
    let top = Spot { file: &file.name, start: 0, end: 0 };
    if file.text.len() > MAX_FILE_BYTES {
        problems.push(too_large(top));
        return None;
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(&file.text, options()) {
        Ok(Spanned { value: Raw::Null, .. }) => {
            let problem = Diagnostic::error("empty-file", top, "the file says nothing");
            problems
                .push(problem.hint("it begins with `version: 1`, and the README shows the rest; a rules file that is not needed can go"));
            None
        }
        Ok(raw) => Some(node(file, raw)),
        Err(error) => {
            problems.push(refused(file, &error));
            None
        }
    }
}

/// The problem of a file with more than [`MAX_FILE_BYTES`].
pub(crate) fn too_large(top: Spot<'_>) -> Diagnostic {
    Diagnostic::error("file-too-large", top, format!("the file has more than the {MAX_FILE_BYTES} bytes that a rules file may have"))
        .hint("name a directory as the rules path and split the rules over several files")
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 1,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: MAX_FILE_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS, max_replay_stack_depth: 8 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough, // reported by the field readers, with both places
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn refused(file: &SourceFile, error: &Error) -> Diagnostic {
    let spot = error.location().map_or(Spot { file: &file.name, start: 0, end: 0 }, |location| {
        let span = location.span();
        let start = span.byte_offset().map_or_else(|| byte_of_char(&file.text, span.offset()), index);
        let rest = file.text.get(start..).unwrap_or("");
        Spot { file: &file.name, start, end: start + rest.chars().next().map_or(0, char::len_utf8) }
    });
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or("").trim();
    if matches!(error, Error::Budget { breach: BudgetBreach::Documents { .. }, .. }) {
        return Diagnostic::error("several-documents", spot, "the file holds more than one YAML document")
            .hint("put each document in a file of its own, in one directory");
    }
    let bomb = matches!(
        cause(error),
        Error::Budget { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
            | Error::AliasReplayCounterOverflow { .. }
    );
    // The scanner's own limit has no variant.
    if bomb || text.contains("recursion limit") {
        return Diagnostic::error("too-much-nesting", spot, "nested too deeply, or too much repeated by aliases")
            .hint("rules need seven levels and few aliases: write out what is meant");
    }
    Diagnostic::error("yaml-syntax", spot, format!("not valid YAML: {text}"))
        .hint("look at quotes, brackets and the indentation, here and in the lines before")
}

/// The error inside those that only add the place of an alias.
fn cause(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } = error {
        error = inner;
    }
    error
}

fn node<'f>(file: &'f SourceFile, raw: Spanned<Raw>) -> Node<'f> {
    let Range { start, end } = bytes(raw.referenced);
    let mut spot = Spot { file: &file.name, start, end };
    let written = file.text.get(bytes(raw.defined)).unwrap_or("");
    let value = match raw.value {
        Raw::Null => Value::Null,
        // A tag may make a quoted text a number (`!!int "5"`): it stays the text that it is.
        Raw::Bool | Raw::Number if written.starts_with(['"', '\'']) => Value::Text(written.trim_matches(['"', '\'']).to_owned()),
        Raw::Bool => Value::Bool(written),
        Raw::Number => Value::Number(written),
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(file, item)).collect()),
        Raw::Map(entries) => {
            let entry = |(key, value)| Entry { key: node(file, key), value: node(file, value) };
            Value::Map(entries.into_iter().map(entry).collect())
        }
    };
    let first = match &value {
        Value::List(items) => items.first(),
        Value::Map(entries) => entries.first().map(|entry| &entry.key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => None,
    };
    // The parser gives a block no width of its own.
    if let (true, Some(first)) = (spot.start == spot.end, first) {
        spot = first.spot;
    }
    Node { spot, value }
}

fn bytes(location: Location) -> Range<usize> {
    let span = location.span();
    let start = index(span.byte_offset().unwrap_or(0));
    start..start + index(span.byte_len().unwrap_or(0))
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

/// The scanner's own errors count characters, not bytes.
fn byte_of_char(text: &str, chars: u64) -> usize {
    text.char_indices().nth(index(chars)).map_or(text.len(), |(at, _)| at)
}

/// A node as the parser tells it. The text of scalars other than text is taken from the file afterwards, so that it is what was written.
enum Raw {
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
