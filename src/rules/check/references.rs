//! References: read one by one, then held against their entities and each other.

mod shape;

use std::collections::BTreeMap;

use super::actions::{DeleteDraft, MissingDraft, Placed, on_update};
use super::entities::Entities;
use super::{MODES, report_duplicates, title};
use crate::rules::diagnostic::{Diagnostic, shown};
use crate::rules::fields::{self, Fields, Word, texts};
use crate::rules::syntax::{Node, Spot, Value};
use crate::rules::{Match, Mode, OnUpdate, Reference, When};

pub(super) const KEYS: [&str; 13] = [
    "name",
    "child",
    "columns",
    "parent",
    "parent_columns",
    "when",
    "match",
    "on_delete",
    "on_update",
    "on_missing",
    "mode",
    "archive",
    "one_to_one",
];
const ARCHIVES: [(&str, bool); 2] = [("keep", true), ("none", false)];
const MATCHES: [(&str, Match); 2] = [("simple", Match::Simple), ("full", Match::Full)];

/// A reference as far as it could be read.
#[derive(Debug)]
pub(super) struct ReferenceDraft<'f> {
    what: String,
    pub(super) spot: Spot<'f>,
    name: Option<Word<'f>>,
    child: Option<Word<'f>>,
    columns: Option<Vec<Word<'f>>>,
    parent: Option<Word<'f>>,
    parent_columns: Option<Vec<Word<'f>>>,
    /// Also when they could not be read.
    has_parent_columns: bool,
    when: Vec<(Word<'f>, Vec<String>)>,
    has_when: bool,
    matching: Match,
    on_delete: Option<Placed<'f, DeleteDraft<'f>>>,
    on_update: Option<Placed<'f, OnUpdate>>,
    on_missing: Option<Placed<'f, MissingDraft<'f>>>,
    has_on_missing: bool,
    mode: Option<Mode>,
    /// Whether it has a mode of its own.
    pub(super) mode_written: bool,
    archive: bool,
    one_to_one: Option<Spot<'f>>,
}

impl<'f> ReferenceDraft<'f> {
    pub(super) fn read(node: &Node<'f>, index: usize, file_mode: Option<Mode>, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let what = title(node, "reference", index);
        let fields = Fields::read(node, &what, &KEYS, problems)?;
        let name = required_name(&fields, &what, "name", "write a name that is unique over all files", problems);
        let child = required_name(&fields, &what, "child", "write the entity whose rows point at the parent", problems);
        let columns = fields.required("columns", "write the child's column or list of columns that name the parent", problems);
        let columns = columns.and_then(|node| fields::names(node, &format!("{what}: `columns`"), problems));
        let parent = required_name(&fields, &what, "parent", "write the entity that is pointed at", problems);
        let parent_columns = fields.optional("parent_columns");
        let parent_columns = parent_columns.and_then(|node| fields::names(node, &format!("{what}: `parent_columns`"), problems));
        let when = fields.optional("when").and_then(|node| when(node, &what, problems)).unwrap_or_default();
        let matching = fields.optional("match");
        let matching = matching.and_then(|node| fields::word(node, &format!("{what}: `match`"), "unknown-match", &MATCHES, problems));
        let hint = "write what a gone parent entails; this has no default";
        let on_delete = fields.required("on_delete", hint, problems).and_then(|node| DeleteDraft::read(node, &what, problems));
        let on_update = fields.optional("on_update").and_then(|node| on_update(node, &what, problems));
        let on_missing = fields.optional("on_missing").and_then(|node| MissingDraft::read(node, &what, problems));
        let mode = match fields.optional("mode") {
            Some(node) => fields::word(node, &format!("{what}: `mode`"), "unknown-mode", &MODES, problems),
            None => file_mode,
        };
        let archive = fields.optional("archive");
        let archive = archive.and_then(|node| fields::word(node, &format!("{what}: `archive`"), "unknown-archive", &ARCHIVES, problems));
        let one_to_one = fields.optional("one_to_one").and_then(|node| one_to_one(node, &what, problems));
        Some(Self {
            spot: name.as_ref().map_or(node.spot, |name| name.spot),
            name,
            child,
            columns,
            parent,
            parent_columns,
            has_parent_columns: fields.mentions("parent_columns"),
            when,
            has_when: fields.mentions("when"),
            matching: matching.unwrap_or(Match::Simple),
            on_delete,
            on_update,
            on_missing,
            has_on_missing: fields.mentions("on_missing"),
            mode,
            mode_written: fields.mentions("mode"),
            archive: archive.unwrap_or(true),
            one_to_one,
            what,
        })
    }

    /// The entities that it names.
    pub(super) fn entities(&self) -> impl Iterator<Item = &Word<'f>> {
        self.child.iter().chain(&self.parent)
    }

    pub(super) fn build(&self, entities: &Entities<'_, 'f>) -> Option<Reference> {
        let columns = self.columns.as_ref()?;
        let parent_key = entities.find(self.parent.as_ref())?.key.as_ref()?;
        let when = |(column, values): &(Word<'f>, Vec<String>)| When { column: column.text.clone(), values: values.clone() };
        Some(Reference {
            name: self.name.as_ref()?.text.clone(),
            child: entities.id(self.child.as_ref())?,
            columns: texts(columns),
            parent: entities.id(self.parent.as_ref())?,
            parent_columns: texts(self.parent_columns.as_ref().unwrap_or(parent_key)),
            when: self.when.iter().map(when).collect(),
            matching: self.matching,
            on_delete: self.on_delete.as_ref()?.action.build(columns),
            on_update: self.on_update.as_ref().map_or(OnUpdate::NoAction, |placed| placed.action),
            on_missing: self.on_missing.as_ref().map(|placed| placed.action.build()),
            mode: self.mode?,
            archive: self.archive,
            one_to_one: self.one_to_one.is_some(),
        })
    }
}

fn required_name<'f>(fields: &Fields<'_, 'f>, what: &str, key: &str, hint: &str, problems: &mut Vec<Diagnostic>) -> Option<Word<'f>> {
    fields.required(key, hint, problems).and_then(|node| fields::name(node, &format!("{what}: `{key}`"), problems))
}

/// Conditions: a column with a value or a list of values, none of them twice.
fn when<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Vec<(Word<'f>, Vec<String>)>> {
    let what = format!("{what}: `when`");
    let before = problems.len();
    let mut conditions = Vec::new();
    for (column, node) in fields::columns(node, &what, problems)? {
        let what = format!("{what}: `{}`", shown(&column.text));
        let items: Vec<&Node<'f>> = match &node.value {
            Value::List(_) => fields::list(node, &what, problems).unwrap_or_default().iter().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => vec![node],
        };
        let mut values: Vec<String> = Vec::new();
        for item in items {
            let Some(value) = fields::value(item, &what, false, problems).flatten() else { continue };
            if values.contains(&value) {
                let problem = Diagnostic::error("repeated-value", item.spot, format!("{what}: `{}` is listed twice", shown(&value)));
                problems.push(problem.hint("each value may be listed once"));
            }
            values.push(value);
        }
        conditions.push((column, values));
    }
    (problems.len() == before).then_some(conditions)
}

fn one_to_one<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Spot<'f>> {
    if matches!(node.value, Value::Bool("true")) {
        return Some(node.spot);
    }
    let problem = Diagnostic::error("wrong-kind", node.spot, format!("{what}: `one_to_one` can only be `true`"));
    problems.push(problem.hint("write `one_to_one: true`, or remove the key"));
    None
}

/// Holds references against the entities and each other.
pub(super) fn check(references: &[ReferenceDraft<'_>], entities: &Entities<'_, '_>, problems: &mut Vec<Diagnostic>) {
    report_duplicates("reference", references.iter().filter_map(|reference| reference.name.as_ref()), problems);
    for reference in references {
        let child = entities.resolve(reference.child.as_ref(), &reference.what, "child", problems);
        let parent = entities.resolve(reference.parent.as_ref(), &reference.what, "parent", problems);
        if let Some(parent) = parent {
            shape::check_parent(reference, parent, problems);
        }
        shape::check_own_columns(reference, problems);
        if let Some(child) = child {
            shape::check_child(reference, child, problems);
        }
    }
    report_mixed_families(references, problems);
    report_deaf_parents(references, entities, problems);
}

/// Columns that name rows of one parent under a condition name rows of another without it: a reference on them needs one too.
fn report_mixed_families(references: &[ReferenceDraft<'_>], problems: &mut Vec<Diagnostic>) {
    let mut families: BTreeMap<(&str, Vec<&str>), Vec<&ReferenceDraft<'_>>> = BTreeMap::new();
    for reference in references {
        let (Some(child), Some(columns)) = (&reference.child, &reference.columns) else { continue };
        let mut columns: Vec<&str> = columns.iter().map(|column| column.text.as_str()).collect();
        columns.sort_unstable();
        families.entry((&child.text, columns)).or_default().push(reference);
    }
    for family in families.into_values() {
        let Some(conditional) = family.iter().find(|reference| reference.has_when) else { continue };
        for reference in family.iter().filter(|reference| !reference.has_when) {
            let message = format!("{} has no `when`, another reference on the same columns has one", reference.what);
            let problem = Diagnostic::error("when-missing", reference.spot, message).label("would take rows of every kind");
            let hint = "columns that name rows of several kinds need a `when` in each reference; list all kinds if all are meant";
            problems.push(problem.hint(hint).related(conditional.spot, "this one has a `when`"));
        }
    }
}

/// A child that is inserted while its parent goes is found by the event of the parent's removal, or else by its own.
fn report_deaf_parents(references: &[ReferenceDraft<'_>], entities: &Entities<'_, '_>, problems: &mut Vec<Diagnostic>) {
    for entity in entities.iter().filter(|entity| !entity.has_topic) {
        let Some(name) = &entity.name else { continue };
        if !entities.find(Some(name)).is_some_and(|first| std::ptr::eq(first, entity)) {
            continue; // declared twice: only the first is the parent
        }
        let unheard = references.iter().filter(|reference| reference.parent.as_ref().is_some_and(|parent| parent.text == name.text)).find(
            |reference| {
                let child = entities.find(reference.child.as_ref());
                !reference.has_on_missing || child.is_some_and(|child| !child.has_topic)
            },
        );
        if let Some(reference) = unheard {
            let problem = Diagnostic::error("no-topic", name.spot, format!("entity `{}` is a parent and has no topic", shown(&name.text)));
            let hint = "give it its `topic`, or give every reference to it an `on_missing` and its child a topic";
            problems.push(problem.label("nothing tells of its removal").hint(hint).related(reference.spot, "is a parent here"));
        }
    }
}
