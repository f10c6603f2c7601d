//! A file of tests to what it says, or every problem in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Change, Expect, Row, Scenario, Suite};
use crate::rules::diagnostic::{Diagnostic, Severity, shown};
use crate::rules::fields::{self, Fields, Word, listed, missing_key, wrong_kind};
use crate::rules::suggest::{did_you_mean, nearest};
use crate::rules::syntax::{self, Node, Value};
use crate::rules::{self, Mode, OnDelete, OnUpdate, RuleSet, SourceFile};

const FILE_KEYS: [&str; 5] = ["version", "rules", "mode", "defaults", "tests"];
const TEST_KEYS: [&str; 4] = ["name", "given", "change", "expect"];
const CHANGE_KEYS: [&str; 6] = ["insert", "update", "delete", "row", "where", "set"];
const EXPECT_KEYS: [&str; 6] = ["rows", "counts", "orphans", "shadow", "parked", "latched"];

/// What came of reading a file of tests.
#[derive(Debug)]
pub struct Read {
    /// Errors and warnings, of the tests and of their rules.
    pub problems: Vec<Diagnostic>,
    /// The files that they point at.
    pub files: Vec<SourceFile>,
    /// The tests, if there is no error.
    pub suite: Option<Suite>,
}

/// Reads a file of tests and the rules that it names: by default those of the same name, or else those of its directory.
#[must_use]
pub fn read(path: &Path) -> Read {
    let file = match rules::load(path) {
        Ok(files) => files.into_iter().next(),
        Err(problems) => return Read { problems, files: Vec::new(), suite: None },
    };
    let Some(file) = file else { return Read { problems: Vec::new(), files: Vec::new(), suite: None } };
    let mut problems = Vec::new();
    let (suite, mut files) = match syntax::parse(&file, &mut problems) {
        Some(tree) => read_file(&tree, &file, path, &mut problems),
        None => (None, Vec::new()),
    };
    let suite = suite.filter(|_| problems.iter().all(|problem| problem.severity != Severity::Error));
    files.push(file);
    Read { problems, files, suite }
}

fn read_file(tree: &Node<'_>, file: &SourceFile, path: &Path, problems: &mut Vec<Diagnostic>) -> (Option<Suite>, Vec<SourceFile>) {
    let Some(fields) = Fields::read(tree, "the file", &FILE_KEYS, problems) else { return (None, Vec::new()) };
    if let Some(node) = fields.required("version", "write `version: 1` as the first line", problems) {
        rules::check_version(node, problems);
    }
    let written = fields.optional("rules").and_then(|node| fields::name(node, "`rules`", problems));
    let directory = path.parent().unwrap_or(Path::new(""));
    let rules_path = match &written {
        Some(name) => directory.join(&name.text),
        None => beside(path).filter(|path| path.is_file()).unwrap_or_else(|| directory.join(".")),
    };
    let loaded = match rules::load(&rules_path) {
        Ok(files) => files,
        Err(found) => {
            problems.extend(found);
            return (None, Vec::new());
        }
    };
    let checked = rules::check(&loaded);
    problems.extend(checked.diagnostics.into_iter().filter(|problem| problem.severity == Severity::Error));
    let Some(mut rules) = checked.rules else { return (None, loaded) };
    if let Some(Mode::Enforce) =
        fields.optional("mode").and_then(|node| fields::word(node, "`mode`", "unknown-mode", &[("enforce", Mode::Enforce)], problems))
    {
        rules = super::lay::enforced(rules);
    }
    let reader = Reader::new(&rules, &file.text);
    let defaults = reader.defaults(fields.optional("defaults"), problems);
    if let Some(problem) = reader.missing_default(&defaults, &fields) {
        problems.push(problem);
    }
    let tests = fields.required("tests", "write a list of tests: `tests: [{ name: …, given: …, change: …, expect: … }]`", problems);
    let tests = tests.and_then(|node| fields::list(node, "`tests`", problems)).unwrap_or_default();
    let scenarios: Vec<Scenario> = tests.iter().filter_map(|node| reader.scenario(node, problems)).collect();
    let suite = Suite { file: file.clone(), rules_path, rules, defaults, scenarios };
    (Some(suite), loaded)
}

/// `shop.yaml` of `shop.test.yaml`.
fn beside(path: &Path) -> Option<std::path::PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (stem, extension) = name.rsplit_once('.')?;
    stem.strip_suffix(".test").map(|stem| path.with_file_name(format!("{stem}.{extension}")))
}

/// Reads tests of certain rules.
struct Reader<'r> {
    text: &'r str,
    rules: &'r RuleSet,
    /// Key columns and further columns that the rules name, by entity and replica.
    tables: BTreeMap<&'r str, (Vec<&'r str>, BTreeSet<&'r str>)>,
}

impl<'r> Reader<'r> {
    fn new(rules: &'r RuleSet, text: &'r str) -> Self {
        let mut tables: BTreeMap<&str, (Vec<&str>, BTreeSet<&str>)> = BTreeMap::new();
        for entity in &rules.entities {
            let key: Vec<&str> = entity.key.iter().map(String::as_str).collect();
            tables.insert(&entity.name, (key.clone(), key.into_iter().collect()));
        }
        for reference in &rules.references {
            for (entity, columns) in [(reference.child, &reference.columns), (reference.parent, &reference.parent_columns)] {
                if let Some((_, known)) = tables.get_mut(rules.entity(entity).name.as_str()) {
                    known.extend(columns.iter().map(String::as_str));
                }
            }
        }
        for replica in &rules.replicas {
            let of = rules.entity(replica.of);
            let there = |column: &&String| replica.columns.iter().find(|(here, _)| here == *column).map(|(_, there)| there.as_str());
            let key = of.key.iter().filter_map(|column| there(&column)).collect();
            tables.insert(&replica.name, (key, replica.columns.iter().map(|(_, there)| there.as_str()).collect()));
        }
        Self { text, rules, tables }
    }

    fn scenario(&self, node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<Scenario> {
        let fields = Fields::read(node, "a test", &TEST_KEYS, problems)?;
        let name = fields.required("name", "say in a few words what it is about", problems);
        let name = name.and_then(|node| fields::name(node, "a test's `name`", problems));
        let what = name.as_ref().map_or_else(|| "a test".to_owned(), |name| format!("test `{}`", shown(&name.text)));
        let given = fields.optional("given").map(|node| self.tables_of_rows(node, &what, problems)).unwrap_or_default();
        let changes = fields.required("change", "write what happens: `change: { delete: crm.customer, where: { id: 1 } }`", problems);
        let changes = changes.map(|node| self.changes(node, &what, problems)).unwrap_or_default();
        let expect = fields.required("expect", "write what must come of it: `expect: { rows: { shop.order: [] } }`", problems);
        let expect = expect.and_then(|node| self.expect(node, &what, problems)).unwrap_or_default();
        let line = node.spot.line(self.text);
        Some(Scenario { name: name?.text, line, given, changes, expect })
    }

    fn changes(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Vec<Change> {
        let nodes = match &node.value {
            Value::List(nodes) => nodes.iter().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => vec![node],
        };
        nodes.into_iter().filter_map(|node| self.change(node, what, problems)).collect()
    }

    fn change(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Change> {
        let what = format!("{what}: a change");
        let fields = Fields::read(node, &what, &CHANGE_KEYS, problems)?;
        let (kind, entity) = match ["insert", "update", "delete"].map(|key| (key, fields.optional(key))) {
            [(kind, Some(node)), (_, None), (_, None)]
            | [(_, None), (kind, Some(node)), (_, None)]
            | [(_, None), (_, None), (kind, Some(node))] => (kind, self.entity(node, &what, problems)?),
            _ => {
                let problem =
                    Diagnostic::error("bad-change", fields.spot, format!("{what} must be one of `insert`, `update` and `delete`"));
                problems.push(problem.hint("as in `{ delete: crm.customer, where: { id: 1 } }`"));
                return None;
            }
        };
        if self.rules.entities.iter().all(|one| one.name != entity) {
            let problem =
                Diagnostic::error("bad-change", fields.spot, format!("{what}: `{}` is a copy, which entail alone writes", shown(&entity)));
            problems.push(problem.hint("change the entity that it copies"));
        }
        let wanted: &[&str] = match kind {
            "insert" => &["row"],
            "update" => &["where", "set"],
            _ => &["where"],
        };
        let mut rows = Vec::new();
        for key in ["row", "where", "set"] {
            match (wanted.contains(&key), fields.optional(key)) {
                (true, Some(node)) => rows.push(self.row(node, &entity, &what, key == "row", problems)?),
                (true, None) => {
                    problems.push(missing_key(&what, fields.spot, key, &format!("`{kind}` needs {}", listed(wanted.iter().copied()))))
                }
                (false, Some(node)) => {
                    let problem = Diagnostic::error("bad-change", node.spot, format!("{what}: `{kind}` has no `{key}`"));
                    problems.push(problem.hint(format!("`{kind}` takes {}", listed(wanted.iter().copied()))));
                }
                (false, None) => {}
            }
        }
        let mut rows = rows.into_iter();
        Some(match (kind, rows.next()?, rows.next()) {
            ("insert", row, _) => Change::Insert { entity, row },
            ("update", chosen, Some(set)) => Change::Update { entity, chosen, set },
            ("delete", chosen, _) => Change::Delete { entity, chosen },
            _ => return None,
        })
    }

    fn expect(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Expect> {
        let what = format!("{what}: `expect`");
        let fields = Fields::read(node, &what, &EXPECT_KEYS, problems)?;
        let numbers = |key: &'static str, problems: &mut Vec<Diagnostic>| {
            fields.optional(key).map(|node| self.numbers(node, &format!("{what}: `{key}`"), problems))
        };
        let (counts, orphans, shadow) = (numbers("counts", problems), numbers("orphans", problems), numbers("shadow", problems));
        let rows = fields.optional("rows").map(|node| self.tables_of_rows(node, &what, problems)).unwrap_or_default();
        let parked = fields.optional("parked").map(|node| self.parked(node, &what, problems)).unwrap_or_default();
        let latched = fields.optional("latched").and_then(|node| fields::names(node, &format!("{what}: `latched`"), problems));
        let latched = latched.into_iter().flatten().filter_map(|name| self.reference(&name, &what, problems)).collect();
        Some(Expect { rows, counts, orphans, shadow, parked, latched })
    }

    fn parked(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> BTreeSet<(String, String)> {
        let mut parked = BTreeSet::new();
        for (name, reasons) in fields::columns(node, &format!("{what}: `parked`"), problems).unwrap_or_default() {
            let entity = self.known(&name, what, problems);
            let reasons = fields::names(reasons, &format!("{what}: the reasons of `{}`", shown(&name.text)), problems);
            parked.extend(entity.iter().flat_map(|entity| reasons.iter().flatten().map(|reason| (entity.clone(), reason.text.clone()))));
        }
        parked
    }

    fn numbers(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> BTreeMap<String, u64> {
        let mut numbers = BTreeMap::new();
        if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
            return numbers; // none at all, which is a thing to expect
        }
        for (name, number) in fields::columns(node, what, problems).unwrap_or_default() {
            let read = number.value.written().and_then(|text| text.parse().ok());
            if read.is_none() {
                let problem =
                    Diagnostic::error("bad-number", number.spot, format!("{what}: `{}` must be a whole number", shown(&name.text)));
                problems.push(problem.hint("how many rows, as in `3`"));
            }
            if let (Some(name), Some(number)) = (self.reference(&name, what, problems), read) {
                numbers.insert(name, number);
            }
        }
        numbers
    }

    /// A mapping of entities to lists of rows.
    fn tables_of_rows(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> BTreeMap<String, Vec<Row>> {
        let mut tables = BTreeMap::new();
        for (name, rows) in fields::columns(node, what, problems).unwrap_or_default() {
            let Some(entity) = self.known(&name, what, problems) else { continue };
            let Value::List(rows) = &rows.value else {
                problems.push(wrong_kind(rows, &format!("{what}: the rows of `{entity}`"), "a list of rows", rows.value.kind()));
                continue;
            };
            tables.insert(entity.clone(), rows.iter().filter_map(|row| self.row(row, &entity, what, true, problems)).collect());
        }
        tables
    }

    /// A row; a whole one has its key.
    fn row(&self, node: &Node<'_>, entity: &str, what: &str, is_whole: bool, problems: &mut Vec<Diagnostic>) -> Option<Row> {
        let what = format!("{what}: a row of `{}`", shown(entity));
        let mut row = Row::new();
        let columns = fields::columns(node, &what, problems)?;
        let (key, known) = self.tables.get(entity)?;
        let written: BTreeSet<&str> = columns.iter().map(|(column, _)| column.text.as_str()).collect();
        for (column, value) in &columns {
            let value = fields::value(value, &format!("{what}: `{}`", shown(&column.text)), true, problems)?;
            row.insert(column.text.clone(), value);
            // A column that the rules do not know may be there; one that is nearly another which the row lacks is misspelt.
            let near = nearest(&column.text, known.iter().copied())
                .filter(|near| !known.contains(column.text.as_str()) && !written.contains(near));
            if let Some(near) = near {
                let problem =
                    Diagnostic::error("unknown-column", column.spot, format!("{what}: the rules know no column `{}`", shown(&column.text)));
                problems.push(problem.hint(format!("did you mean `{near}`? If not, write `{near}` in the row as well")));
            }
        }
        let lacking: Vec<&str> = key.iter().copied().filter(|column| row.get(*column).is_none_or(Option::is_none)).collect();
        if is_whole && !lacking.is_empty() {
            let problem = Diagnostic::error("key-missing", node.spot, format!("{what} has no {}", listed(lacking)));
            problems.push(problem.hint("write its whole key: without it no row is told from another"));
            return None;
        }
        Some(row)
    }

    fn entity(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
        fields::name(node, &format!("{what}: the entity"), problems).and_then(|name| self.known(&name, what, problems))
    }

    fn known(&self, name: &Word<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
        let known: Vec<&str> = self.tables.keys().copied().collect();
        known_name(name, what, "entity or replica", &known, problems)
    }

    fn reference(&self, name: &Word<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
        let known: Vec<&str> = self.rules.references.iter().map(|reference| reference.name.as_str()).collect();
        known_name(name, what, "reference", &known, problems)
    }

    fn defaults(&self, node: Option<&Node<'_>>, problems: &mut Vec<Diagnostic>) -> BTreeMap<String, Row> {
        let mut defaults = BTreeMap::new();
        for (name, row) in node.and_then(|node| fields::columns(node, "`defaults`", problems)).unwrap_or_default() {
            let Some(entity) = self.known(&name, "`defaults`", problems) else { continue };
            let row = self.row(row, &entity, "`defaults`", false, problems);
            defaults.extend(row.map(|row| (entity, row)));
        }
        defaults
    }

    /// A file has no catalog: what a column's default is must be said, where a reference uses it.
    fn missing_default(&self, defaults: &BTreeMap<String, Row>, fields: &Fields<'_, '_>) -> Option<Diagnostic> {
        for reference in &self.rules.references {
            let child = &self.rules.entity(reference.child).name;
            let by_delete = if let OnDelete::SetDefault(columns) = &reference.on_delete { columns.as_slice() } else { &[] };
            let by_update = if reference.on_update == OnUpdate::SetDefault { reference.columns.as_slice() } else { &[] };
            let written = |column: &&String| defaults.get(child).is_none_or(|row| !row.contains_key(*column));
            if let Some(column) = by_delete.iter().chain(by_update).find(written) {
                let message =
                    format!("the file: `defaults` does not say the default of `{column}` of `{child}`, which `{}` sets", reference.name);
                let hint = format!("write `defaults: {{ {child}: {{ {column}: … }} }}` with what the column's default is in the database");
                return Some(Diagnostic::error("missing-default", fields.spot, message).hint(hint));
            }
        }
        None
    }
}

fn known_name(name: &Word<'_>, what: &str, kind: &str, known: &[&str], problems: &mut Vec<Diagnostic>) -> Option<String> {
    if known.contains(&name.text.as_str()) {
        return Some(name.text.clone());
    }
    let problem = Diagnostic::error("unknown-name", name.spot, format!("{what}: the rules have no {kind} `{}`", shown(&name.text)));
    problems.push(problem.hint(did_you_mean(&name.text, known)));
    None
}
