//! What a reference does: the forms of `on_delete`, `on_update` and `on_missing`.

use std::collections::BTreeMap;

use crate::rules::diagnostic::{Diagnostic, shown};
use crate::rules::fields::{self, Fields, Word, texts};
use crate::rules::suggest::did_you_mean;
use crate::rules::syntax::{Entry, Node, Spot, Value};
use crate::rules::{MissingAction, OnDelete, OnMissing, OnUpdate};

const ACTIONS: [(&str, OnUpdate); 5] = [
    ("cascade", OnUpdate::Cascade),
    ("set_null", OnUpdate::SetNull),
    ("set_default", OnUpdate::SetDefault),
    ("restrict", OnUpdate::Restrict),
    ("no_action", OnUpdate::NoAction),
];
const MISSING_ACTIONS: [(&str, MissingAction); 5] = [
    ("delete", MissingAction::Delete),
    ("set_null", MissingAction::SetNull),
    ("set_default", MissingAction::SetDefault),
    ("report", MissingAction::Report),
    ("dead_letter", MissingAction::DeadLetter),
];

/// Columns with the values that they take; `None` is NULL.
pub(super) type Assignments<'f> = Vec<(Word<'f>, Option<String>)>;

/// An action with its place.
#[derive(Debug)]
pub(super) struct Placed<'f, T> {
    pub(super) action: T,
    pub(super) spot: Spot<'f>,
}

/// An `on_delete`; without listed columns, the reference's are meant.
#[derive(Debug)]
pub(super) enum DeleteDraft<'f> {
    Plain(OnUpdate),
    SetNull(Vec<Word<'f>>),
    SetDefault(Vec<Word<'f>>),
    Set(Assignments<'f>),
}

/// An `on_missing`.
#[derive(Debug)]
pub(super) struct MissingDraft<'f> {
    wait: std::time::Duration,
    pub(super) then: ThenDraft<'f>,
}

/// The `then` of an `on_missing`.
#[derive(Debug)]
pub(super) enum ThenDraft<'f> {
    Plain(MissingAction),
    Set(Assignments<'f>),
}

impl<'f> DeleteDraft<'f> {
    pub(super) fn read(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Placed<'f, Self>> {
        let what = format!("{what}: `on_delete`");
        let Value::Map(entries) = &node.value else {
            let action = Self::Plain(fields::word(node, &what, "unknown-action", &ACTIONS, problems)?);
            return Some(Placed { action, spot: node.spot });
        };
        let (form, value) = single(node, entries, &what, &["set_null", "set_default", "set"], problems)?;
        let what = format!("{what}: `{form}`");
        let action = match form {
            "set_null" => Self::SetNull(fields::names(value, &what, problems)?),
            "set_default" => Self::SetDefault(fields::names(value, &what, problems)?),
            _ => Self::Set(assignments(value, &what, problems)?),
        };
        Some(Placed { action, spot: node.spot })
    }

    pub(super) fn build(&self, columns: &[Word<'f>]) -> OnDelete {
        match self {
            Self::Plain(OnUpdate::Cascade) => OnDelete::Cascade,
            Self::Plain(OnUpdate::SetNull) => OnDelete::SetNull(texts(columns)),
            Self::Plain(OnUpdate::SetDefault) => OnDelete::SetDefault(texts(columns)),
            Self::Plain(OnUpdate::Restrict) => OnDelete::Restrict,
            Self::Plain(OnUpdate::NoAction) => OnDelete::NoAction,
            Self::SetNull(listed) => OnDelete::SetNull(texts(listed)),
            Self::SetDefault(listed) => OnDelete::SetDefault(texts(listed)),
            Self::Set(assignments) => OnDelete::Set(values(assignments)),
        }
    }
}

/// Reads `on_update`.
pub(super) fn on_update<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Placed<'f, OnUpdate>> {
    let action = fields::word(node, &format!("{what}: `on_update`"), "unknown-action", &ACTIONS, problems)?;
    Some(Placed { action, spot: node.spot })
}

impl<'f> MissingDraft<'f> {
    pub(super) fn read(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Placed<'f, Self>> {
        let what = format!("{what}: `on_missing`");
        let missing = Fields::read(node, &what, &["wait", "then"], problems)?;
        let wait = missing.required("wait", "write how long a parent may be late, as in `wait: 15m`", problems);
        let wait = wait.and_then(|node| fields::duration(node, &format!("{what}: `wait`"), problems));
        let then = missing.required("then", "write what is done to the rows that arrived, as in `then: report`", problems);
        let then = then.and_then(|node| ThenDraft::read(node, &format!("{what}: `then`"), problems));
        Some(Placed { action: Self { wait: wait?, then: then? }, spot: node.spot })
    }

    pub(super) fn build(&self) -> OnMissing {
        let then = match &self.then {
            ThenDraft::Plain(action) => action.clone(),
            ThenDraft::Set(assignments) => MissingAction::Set(values(assignments)),
        };
        OnMissing { wait: self.wait, then }
    }
}

impl<'f> ThenDraft<'f> {
    fn read(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return fields::word(node, what, "unknown-action", &MISSING_ACTIONS, problems).map(Self::Plain);
        };
        let (form, value) = single(node, entries, what, &["set"], problems)?;
        assignments(value, &format!("{what}: `{form}`"), problems).map(Self::Set)
    }
}

/// The one key of an action that is written as a mapping.
fn single<'n, 'f>(
    node: &Node<'f>,
    entries: &'n [Entry<'f>],
    what: &str,
    forms: &[&'static str],
    problems: &mut Vec<Diagnostic>,
) -> Option<(&'static str, &'n Node<'f>)> {
    let [entry] = entries else {
        let message = format!("{what}: an action has one key, this has {}", entries.len());
        let example = format!("write one action, as in `{{ {}: ... }}`", forms.first().unwrap_or(&"set"));
        problems.push(Diagnostic::error("action-form", node.spot, message).hint(example));
        return None;
    };
    let key = entry.key.value.written().unwrap_or("");
    let form = forms.iter().find(|form| **form == key);
    if form.is_none() {
        let plain = ACTIONS.iter().any(|(word, _)| *word == key) || MISSING_ACTIONS.iter().any(|(word, _)| *word == key);
        let hint = if plain { format!("`{key}` stands alone, without braces and value") } else { did_you_mean(key, forms) };
        let message = format!("{what}: `{}` is not an action with a value", shown(key));
        problems.push(Diagnostic::error("unknown-action", entry.key.spot, message).hint(hint));
    }
    form.map(|form| (*form, &entry.value))
}

fn assignments<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Assignments<'f>> {
    let before = problems.len();
    let mut result = Vec::new();
    for (column, node) in fields::columns(node, what, problems)? {
        let value = fields::value(node, &format!("{what}: `{}`", shown(&column.text)), true, problems);
        result.extend(value.map(|value| (column, value)));
    }
    (problems.len() == before).then_some(result)
}

fn values(assignments: &Assignments<'_>) -> BTreeMap<String, Option<String>> {
    assignments.iter().map(|(column, value)| (column.text.clone(), value.clone())).collect()
}
