//! Nodes to plain values: mappings with known keys, names, lists, numbers, durations. Every reader reports what is wrong and goes on.
//!
//! The words of a problem are made here, once for each kind, so that the checks above read as what they ask for. An answer of `None` means
//! that a problem was reported. Knows which YAML is fit to be a name or a number, not which names exist.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::diagnostic::{Diagnostic, shown};
use super::suggest::{did_you_mean, nearest};
use super::syntax::{Entry, Node, Spot, Value};

/// Longest name, in bytes. No database or broker allows a longer one.
const MAX_NAME_BYTES: usize = 255;
/// Longest duration: beyond it, a unit was mistaken (`M` is a month).
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Text with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word<'f> {
    pub(crate) text: String,
    pub(crate) spot: Spot<'f>,
}

/// The texts of words, in order.
pub(crate) fn texts(words: &[Word<'_>]) -> Vec<String> {
    words.iter().map(|word| word.text.clone()).collect()
}

/// Names as they are shown in a message: `a`, `b`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{}`", shown(name))).collect::<Vec<_>>().join(", ")
}

/// A mapping whose keys are known, looked up by key.
pub(crate) struct Fields<'n, 'f> {
    what: String,
    /// Where the mapping begins.
    pub(crate) spot: Spot<'f>,
    found: BTreeMap<&'n str, &'n Entry<'f>>,
    misspelt: BTreeSet<&'static str>,
}

impl<'n, 'f> Fields<'n, 'f> {
    /// Reads a mapping; reports keys that are not known or written twice. `what` begins its messages: "entity `crm.customer`".
    pub(crate) fn read(node: &'n Node<'f>, what: &str, known: &[&'static str], problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let entries = mapping(node, what, problems)?;
        let mut fields = Self { what: what.to_owned(), spot: node.spot, found: BTreeMap::new(), misspelt: BTreeSet::new() };
        for entry in entries {
            let key = entry.key.value.written().unwrap_or("");
            if !known.contains(&key) {
                fields.misspelt.extend(nearest(key, known.iter().copied()).and_then(|near| known.iter().find(|k| **k == near)));
                let problem = Diagnostic::error("unknown-key", entry.key.spot, format!("{what}: unknown key `{}`", shown(key)));
                problems.push(problem.label("not a key of this format").hint(did_you_mean(key, known)));
            } else if let Some(first) = fields.found.get(key) {
                problems.push(doubled(what, &first.key, &entry.key, key));
            } else {
                fields.found.insert(key, entry);
            }
        }
        Some(fields)
    }

    /// The value of a key, if it is written.
    pub(crate) fn optional(&self, key: &str) -> Option<&'n Node<'f>> {
        self.found.get(key).map(|entry| &entry.value)
    }

    /// The value of a key that must be written. Where it is misspelt, the unknown key was reported already.
    pub(crate) fn required(&self, key: &str, hint: &str, problems: &mut Vec<Diagnostic>) -> Option<&'n Node<'f>> {
        let found = self.optional(key);
        if found.is_none() && !self.misspelt.contains(key) {
            problems.push(missing_key(&self.what, self.spot, key, hint));
        }
        found
    }

    /// Whether a key is written, rightly or nearly so.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.found.contains_key(key) || self.misspelt.contains(key)
    }
}

/// The problem of a key that must be written and is not.
pub(crate) fn missing_key(what: &str, spot: Spot<'_>, key: &str, hint: &str) -> Diagnostic {
    Diagnostic::error("missing-key", spot, format!("{what}: `{key}` is missing")).label(format!("has no `{key}`")).hint(hint)
}

fn doubled(what: &str, first: &Node<'_>, second: &Node<'_>, key: &str) -> Diagnostic {
    Diagnostic::error("duplicate-key", second.spot, format!("{what}: `{}` is written twice", shown(key)))
        .label("written again here")
        .hint("keep one of the two")
        .related(first.spot, "first written here")
}

fn mapping<'n, 'f>(node: &'n Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<&'n [Entry<'f>]> {
    match &node.value {
        Value::Map(entries) if entries.is_empty() => {
            let problem = Diagnostic::error("empty-mapping", node.spot, format!("{what} is empty"));
            problems.push(problem.hint("write its keys, or remove it"));
            None
        }
        Value::Map(entries) => Some(entries),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_)) => {
            problems.push(wrong_kind(node, what, "a mapping", other.kind()));
            None
        }
    }
}

/// The problem of a node of another kind than wanted.
pub(crate) fn wrong_kind(node: &Node<'_>, what: &str, wanted: &str, found: &str) -> Diagnostic {
    Diagnostic::error("wrong-kind", node.spot, format!("{what} must be {wanted}, not {found}"))
        .label(format!("this is {found}"))
        .hint(format!("write {wanted} here, or remove the key if it is not needed"))
}

/// The items of a list that must not be empty.
pub(crate) fn list<'n, 'f>(node: &'n Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<&'n [Node<'f>]> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            problems.push(empty_list(node.spot, what));
            None
        }
        Value::List(items) => Some(items),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_)) => {
            problems.push(wrong_kind(node, what, "a list", other.kind()));
            None
        }
    }
}

fn empty_list(spot: Spot<'_>, what: &str) -> Diagnostic {
    Diagnostic::error("empty-list", spot, format!("{what}: the list is empty"))
        .label("no items")
        .hint("an empty list never means all: write what is meant, or remove the key")
}

/// A name: text, not empty, without control characters, outer blanks and wildcards.
pub(crate) fn name<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Word<'f>> {
    let text = match &node.value {
        Value::Text(text) => text,
        Value::Bool(written) | Value::Number(written) => {
            let problem = Diagnostic::error("not-text", node.spot, format!("{what} must be text, not {}", node.value.kind()));
            problems.push(problem.label("YAML does not read this as text").hint(format!("put it in quotes: \"{}\"", shown(written))));
            return None;
        }
        other @ (Value::Null | Value::List(_) | Value::Map(_)) => {
            problems.push(wrong_kind(node, what, "text", other.kind()));
            return None;
        }
    };
    let (code, fault, hint) = if text.trim().is_empty() {
        ("empty-text", "is empty", "write a name, or remove the key")
    } else if text.chars().any(char::is_control) {
        ("bad-name", "has a control character in it", "names are single lines of printable text")
    } else if text.trim() != text {
        ("bad-name", "begins or ends with a blank", "remove the blank")
    } else if text.len() > MAX_NAME_BYTES {
        ("bad-name", "is longer than 255 bytes", "no database and no broker has names that long")
    } else if text.contains('*') {
        ("bad-name", "has a wildcard in it", "nothing here means \"all\": name each one")
    } else {
        return Some(Word { text: text.clone(), spot: node.spot });
    };
    problems.push(Diagnostic::error(code, node.spot, format!("{what} {fault}")).hint(hint));
    None
}

/// A name or a list of names, none of them twice.
pub(crate) fn names<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Vec<Word<'f>>> {
    if !matches!(node.value, Value::List(_)) {
        return name(node, what, problems).map(|word| vec![word]);
    }
    let before = problems.len();
    let items = list(node, what, problems)?;
    let words: Vec<Word<'f>> = items.iter().filter_map(|item| name(item, &format!("{what}: a name"), problems)).collect();
    report_repeats(&words, what, problems);
    (problems.len() == before).then_some(words)
}

fn report_repeats(words: &[Word<'_>], what: &str, problems: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for word in words {
        if let Some(first) = seen.insert(word.text.as_str(), word.spot) {
            let problem = Diagnostic::error("repeated-name", word.spot, format!("{what}: `{}` is listed twice", shown(&word.text)));
            problems.push(problem.hint("each may be listed once").related(first, "first listed here"));
        }
    }
}

/// A mapping from column names, none of them twice, to whatever.
pub(crate) fn columns<'n, 'f>(node: &'n Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Vec<(Word<'f>, &'n Node<'f>)>> {
    let before = problems.len();
    let mut seen: BTreeMap<String, &Node<'f>> = BTreeMap::new();
    let mut result = Vec::new();
    for entry in mapping(node, what, problems)? {
        let Some(column) = name(&entry.key, &format!("{what}: a column"), problems) else { continue };
        if let Some(first) = seen.insert(column.text.clone(), &entry.key) {
            problems.push(doubled(what, first, &entry.key, &column.text));
        }
        result.push((column, &entry.value));
    }
    (problems.len() == before).then_some(result)
}

/// A column's value as written: text, number or truth value; where `nullable`, also null, which is an inner `None`.
pub(crate) fn value(node: &Node<'_>, what: &str, nullable: bool, problems: &mut Vec<Diagnostic>) -> Option<Option<String>> {
    match &node.value {
        Value::Null if nullable => Some(None),
        Value::Null => {
            let problem = Diagnostic::error("null-value", node.spot, format!("{what}: null equals nothing"));
            problems.push(problem.hint("write a value; put \"null\" in quotes if the text is meant"));
            None
        }
        Value::Text(text) if text.contains('\0') => {
            problems.push(
                Diagnostic::error("bad-value", node.spot, format!("{what} has a zero byte in it")).hint("no database keeps one in text"),
            );
            None
        }
        Value::Text(text) => Some(Some(text.clone())),
        Value::Bool(written) | Value::Number(written) => Some(Some((*written).to_owned())),
        other @ (Value::List(_) | Value::Map(_)) => {
            problems.push(wrong_kind(node, what, "a single value", other.kind()));
            None
        }
    }
}

/// One of a few words.
pub(crate) fn word<T: Clone>(
    node: &Node<'_>,
    what: &str,
    code: &'static str,
    words: &[(&str, T)],
    problems: &mut Vec<Diagnostic>,
) -> Option<T> {
    let found = name(node, what, problems)?;
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let meaning = words.iter().find(|(word, _)| *word == found.text).map(|(_, meaning)| meaning.clone());
    if meaning.is_none() {
        let problem = Diagnostic::error(code, node.spot, format!("{what}: `{}` is not known", shown(&found.text)));
        problems.push(problem.label("not one of the words known here").hint(did_you_mean(&found.text, &known)));
    }
    meaning
}

/// The largest count: what JSON's readers and the databases agree on, as the JSON Schema says.
const MOST: u64 = 9_007_199_254_740_991;

/// A whole number above zero.
pub(crate) fn count(node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<u64> {
    let digits = match &node.value {
        Value::Number(written) if written.bytes().all(|b| b.is_ascii_digit()) => Some(written.parse().unwrap_or(u64::MAX)),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if digits.is_some_and(|number| number > MOST) {
        let problem = Diagnostic::error("bad-number", node.spot, format!("{what} must be no more than {MOST}"));
        problems.push(problem.hint("a limit is there to be met: it may be large, and not without end"));
        return None;
    }
    let number = digits.filter(|number| *number > 0);
    if number.is_none() {
        let problem = Diagnostic::error("bad-number", node.spot, format!("{what} must be a whole number above zero"));
        problems.push(problem.hint("digits only, without quotes, signs and separators, as in `10000`"));
    }
    number
}

/// A duration written for people: `15m`, `1h 30m`.
pub(crate) fn duration(node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Duration> {
    const HINT: &str = "a number and a unit, as in `500ms`, `20s`, `15m`, `2h` or `7d`";
    let written = match &node.value {
        Value::Text(text) => text.as_str(),
        Value::Number(written) => written,
        other @ (Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_)) => {
            problems.push(wrong_kind(node, what, "a duration", other.kind()).hint(HINT));
            return None;
        }
    };
    match humantime::parse_duration(written) {
        Ok(duration) if duration <= MAX_DURATION => Some(duration),
        Ok(_) => {
            let problem = Diagnostic::error("bad-duration", node.spot, format!("{what}: `{}` is longer than a year", shown(written)));
            problems.push(problem.hint("`m` is minutes, `M` is months"));
            None
        }
        Err(error) => {
            let message = format!("{what}: `{}` is not a duration: {}", shown(written), shown(&error.to_string()));
            problems.push(Diagnostic::error("bad-duration", node.spot, message).hint(HINT));
            None
        }
    }
}
