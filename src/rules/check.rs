//! Trees of all files to a rule set, or every problem in them.
//!
//! Two passes. The first reads each file into drafts, in which anything may be missing because it was reported; the second holds the drafts
//! against each other, over all files: names, tables, columns, topics. A rule set is made only if neither found an error. What only a
//! database can tell (types, keys, privileges) is not asked here.

mod actions;
mod entities;
mod limits;
mod references;
mod replicas;

use std::collections::BTreeMap;

use self::entities::{Entities, EntityDraft};
use self::limits::LimitsDraft;
use self::references::ReferenceDraft;
use self::replicas::ReplicaDraft;
use super::diagnostic::{Diagnostic, Severity, shown};
use super::fields::{self, Fields, Word, missing_key};
use super::syntax::{self, Node, SourceFile, Spot, Value};
use super::{Mode, RuleSet};

/// Problems reported at most. Nobody reads more at one sitting, and a file of rubbish may hold 100,000.
const MAX_PROBLEMS: usize = 500;
const FILE_KEYS: [&str; 6] = ["version", "mode", "entities", "references", "replicas", "limits"];
const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];

/// What came of checking.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The rules, if there is no error among the diagnostics.
    pub rules: Option<RuleSet>,
    /// Errors and warnings, files in the order given, each file from top to bottom; where there are very many, the last tells how many
    /// more there are.
    pub diagnostics: Vec<Diagnostic>,
}

/// Checks all files of a rules path together.
#[must_use]
pub fn check(files: &[SourceFile]) -> Checked {
    let mut problems = Vec::new();
    let trees: Vec<Node<'_>> = files.iter().filter_map(|file| syntax::parse(file, &mut problems)).collect();
    let mut draft = Draft::default();
    for tree in &trees {
        draft.read_file(tree, &mut problems);
    }
    let complete = trees.len() == files.len() && !draft.entities_unread;
    let entities = Entities::new(&draft.entities, complete, &mut problems);
    references::check(&draft.references, &entities, &mut problems);
    replicas::check(&draft.replicas, &entities, &mut problems);
    limits::check(&draft.limits, &mut problems);
    if !has_error(&problems) {
        // Over rules with errors these would only mislead.
        warn_of_the_unused(&draft, &entities, files, &mut problems);
    }
    let rules = if has_error(&problems) { None } else { draft.build(&entities) };
    debug_assert!(rules.is_some() || has_error(&problems), "rules are refused only with a reason");
    sort(&mut problems, files);
    cut(&mut problems);
    Checked { rules, diagnostics: problems }
}

/// Everything that the files say, as far as it could be read.
#[derive(Debug, Default)]
struct Draft<'f> {
    entities: Vec<EntityDraft<'f>>,
    references: Vec<ReferenceDraft<'f>>,
    replicas: Vec<ReplicaDraft<'f>>,
    limits: Vec<LimitsDraft<'f>>,
    /// Entities that could not be read: then one that is not found may be declared all the same.
    entities_unread: bool,
}

impl<'f> Draft<'f> {
    fn read_file(&mut self, tree: &Node<'f>, problems: &mut Vec<Diagnostic>) {
        let Some(file) = Fields::read(tree, "the file", &FILE_KEYS, problems) else { return };
        if let Some(node) = file.required("version", "write `version: 1` as the first line", problems) {
            check_version(node, problems);
        }
        let mode = file.optional("mode").and_then(|node| mode("`mode`", node, problems));
        self.entities_unread |= file.mentions("entities") && file.optional("entities").is_none();
        for (index, node) in section(&file, "entities", problems) {
            self.entities.extend(EntityDraft::read(node, index, problems));
        }
        let before = self.references.len();
        for (index, node) in section(&file, "references", problems) {
            self.references.extend(ReferenceDraft::read(node, index, mode, problems));
        }
        let without_mode = self.references.iter().skip(before).find(|reference| !reference.mode_written);
        if let (false, Some(reference)) = (file.mentions("mode"), without_mode) {
            let hint = "write `mode: enforce` or `mode: shadow` in the file, or in each of its references";
            problems
                .push(missing_key("the file", file.spot, "mode", hint).related(reference.spot, "this reference has no mode of its own"));
        }
        for (index, node) in section(&file, "replicas", problems) {
            self.replicas.extend(ReplicaDraft::read(node, index, problems));
        }
        if let Some(node) = file.optional("limits") {
            self.limits.extend(LimitsDraft::read(node, problems));
        }
    }

    fn build(&self, entities: &Entities<'_, 'f>) -> Option<RuleSet> {
        Some(RuleSet {
            entities: self.entities.iter().map(EntityDraft::build).collect::<Option<_>>()?,
            references: self.references.iter().map(|reference| reference.build(entities)).collect::<Option<_>>()?,
            replicas: self.replicas.iter().map(|replica| replica.build(entities)).collect::<Option<_>>()?,
            limits: limits::build(&self.limits),
        })
    }
}

/// The items of one of the file's lists, numbered from 1.
fn section<'n, 'f>(file: &Fields<'n, 'f>, key: &str, problems: &mut Vec<Diagnostic>) -> Vec<(usize, &'n Node<'f>)> {
    let items = file.optional(key).and_then(|node| fields::list(node, &format!("`{key}`"), problems));
    (1..).zip(items.unwrap_or_default()).collect()
}

pub(crate) fn check_version(node: &Node<'_>, problems: &mut Vec<Diagnostic>) {
    if matches!(node.value, Value::Number("1")) {
        return;
    }
    let found = match &node.value {
        Value::Number(written) => format!("`{}`", shown(written)),
        other @ (Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_)) => other.kind().to_owned(),
    };
    let problem = Diagnostic::error("bad-version", node.spot, format!("`version` must be the number 1, not {found}"));
    problems.push(problem.label("a format that is not known here").hint("write `version: 1`"));
}

fn mode(what: &str, node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<Mode> {
    fields::word(node, what, "unknown-mode", &MODES, problems)
}

/// Where each entity, reference and replica begins, by name: its file and line.
#[must_use]
pub fn places(files: &[SourceFile]) -> BTreeMap<String, (String, usize)> {
    let mut places = BTreeMap::new();
    for file in files {
        let Some(Node { value: Value::Map(sections), .. }) = syntax::parse(file, &mut Vec::new()) else { continue };
        for section in sections.iter().filter(|section| section.key.value.written() != Some("limits")) {
            let Value::List(items) = &section.value.value else { continue };
            for item in items {
                let Value::Map(entries) = &item.value else { continue };
                let name =
                    entries.iter().find(|entry| entry.key.value.written() == Some("name")).and_then(|entry| entry.value.value.written());
                let line = item.spot.line(&file.text);
                places.extend(name.map(|name| (name.to_owned(), (file.name.clone(), line))));
            }
        }
    }
    places
}

/// How messages name an item of a list: by its name if it has one that can be read, else by its number.
fn title(node: &Node<'_>, kind: &str, index: usize) -> String {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => &[],
    };
    let name = entries.iter().find(|entry| entry.key.value.written() == Some("name")).and_then(|entry| entry.value.value.written());
    name.filter(|name| !name.is_empty()).map_or_else(|| format!("{kind} {index} of this file"), |name| format!("{kind} `{}`", shown(name)))
}

/// Splits `service.name`; reports a name of another form.
fn service_of(word: &Word<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
    let parts: Vec<&str> = word.text.split('.').collect();
    if let [service, name] = parts.as_slice()
        && !service.is_empty()
        && !name.is_empty()
        && !word.text.contains(char::is_whitespace)
    {
        return Some((*service).to_owned());
    }
    let problem = Diagnostic::error("bad-entity-name", word.spot, format!("{what}: the name must have the form `service.name`"));
    problems.push(problem.label("one dot, a name on each side").hint("`service` names a database of entail.yaml, as in `shop.order`"));
    None
}

/// Reports names that are used twice, over all files, with both places.
fn report_duplicates<'d, 'f: 'd>(kind: &str, names: impl Iterator<Item = &'d Word<'f>>, problems: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, Spot<'f>> = BTreeMap::new();
    for name in names {
        match seen.get(name.text.as_str()) {
            Some(first) => {
                let message = format!("{kind} `{}` is declared twice", shown(&name.text));
                let problem = Diagnostic::error("duplicate-name", name.spot, message).label("declared again here");
                problems.push(problem.hint("names are unique over all files: rename or remove one").related(*first, "first declared here"));
            }
            None => {
                seen.insert(&name.text, name.spot);
            }
        }
    }
}

fn warn_of_the_unused(draft: &Draft<'_>, entities: &Entities<'_, '_>, files: &[SourceFile], problems: &mut Vec<Diagnostic>) {
    if draft.references.is_empty() && draft.replicas.is_empty() {
        let spot = Spot { file: files.first().map_or("", |file| &file.name), start: 0, end: 0 };
        let problem = Diagnostic::warning("nothing-enforced", spot, "the rules have no reference and no replica");
        problems.push(problem.hint("nothing will be enforced or copied: declare one, or name another rules path"));
    }
    let used = draft.references.iter().flat_map(ReferenceDraft::entities).chain(draft.replicas.iter().flat_map(ReplicaDraft::entities));
    entities.warn_of_the_unused(used, problems);
}

fn has_error(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

fn sort(problems: &mut [Diagnostic], files: &[SourceFile]) {
    let order: BTreeMap<&str, usize> = files.iter().enumerate().map(|(index, file)| (file.name.as_str(), index)).collect();
    problems.sort_by_key(|problem| (order.get(problem.file.as_str()).copied(), problem.span.start));
}

/// Leaves the first [`MAX_PROBLEMS`], and says how many more there are.
fn cut(problems: &mut Vec<Diagnostic>) {
    let Some(last) = problems.get(MAX_PROBLEMS).filter(|_| problems.len() > MAX_PROBLEMS) else { return };
    let more = problems.len() - MAX_PROBLEMS;
    let severity = if has_error(problems) { Severity::Error } else { Severity::Warning };
    let last = Diagnostic {
        severity,
        code: "more-problems",
        message: format!("{more} more problems follow, the first of them here"),
        hint: Some("correct those above, then check again".to_owned()),
        label: String::new(),
        related: Vec::new(),
        ..last.clone()
    };
    problems.truncate(MAX_PROBLEMS);
    problems.push(last);
}

#[cfg(test)]
mod tests;
