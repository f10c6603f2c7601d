//! The least rights that a set of rules needs: per database, and in Kafka.
//!
//! Worked out from the model, so that `check --grants` prints what `check --connect` asks for. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::config::Config;
use crate::databases::DatabaseId;
use crate::graph::{Edge, EdgeId};
use crate::ledger;
use crate::model::Model;
use crate::rules::{OnDelete, OnUpdate, TableName};
use crate::sink::facts::{Privilege, Right};
use crate::sink::spelling::{name, table_name};
use crate::sink::{Dialect, TableRef};

/// What a right is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// `entail run`, and whatever reads.
    Run,
    /// `entail undo`.
    Undo,
}

/// Rights of one database, with what each is for first.
pub type Needs = BTreeMap<Right, Purpose>;

/// The rights that the rules need in one database.
#[must_use]
pub fn needs(model: &Model, database: DatabaseId) -> Needs {
    let mut needs = Collected::default();
    for (id, node) in model.graph.nodes() {
        let Some(bound) = model.table_if_any(id).filter(|bound| bound.database == database) else { continue };
        let pointing: Vec<(EdgeId, &Edge)> = model.graph.edges().filter(|(_, edge)| edge.child == id).collect();
        let is_copied = model.replicas_of(id).next().is_some();
        if !pointing.is_empty() {
            child(&mut needs, &bound.table, pointing.iter().map(|(_, edge)| *edge));
        } else if is_copied {
            needs.whole(&bound.table, Privilege::Select, Purpose::Run);
        } else {
            let targets = model.graph.targets_of(id).flat_map(|(_, target)| &target.columns);
            for column in node.key.iter().chain(targets) {
                needs.column(&bound.table, column, Privilege::Select, Purpose::Run);
            }
        }
    }
    for copy in model.replicas.iter().filter(|copy| copy.database == database) {
        for privilege in [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete] {
            needs.whole(&copy.table, privilege, Purpose::Run);
        }
    }
    if model.targets().contains(&database) {
        for table in ledger::TABLES {
            let name = TableName { schema: None, table: (*table).to_owned() };
            for privilege in [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete] {
                needs.add(Right { table: name.clone(), column: None, privilege }, Purpose::Run);
            }
        }
        let table = TableName { schema: None, table: ledger::VERSIONS.to_owned() };
        needs.add(Right { table, column: None, privilege: Privilege::Select }, Purpose::Run);
    }
    needs.finish()
}

/// What happens to the rows of a child: read whole, for the archive; locked, which asks for UPDATE of some column; removed or changed.
fn child<'a>(needs: &mut Collected, table: &TableRef, edges: impl Iterator<Item = &'a Edge>) {
    needs.whole(table, Privilege::Select, Purpose::Run);
    for edge in edges {
        let rekeys = !matches!(edge.on_update, OnUpdate::NoAction | OnUpdate::Restrict);
        let written: Vec<&String> = match &edge.on_delete {
            OnDelete::Cascade => {
                needs.whole(table, Privilege::Delete, Purpose::Run);
                for privilege in [Privilege::Insert, Privilege::Update] {
                    needs.whole(table, privilege, Purpose::Undo);
                }
                Vec::new()
            }
            OnDelete::SetNull(columns) | OnDelete::SetDefault(columns) => columns.iter().collect(),
            OnDelete::Set(values) => values.keys().collect(),
            OnDelete::Restrict | OnDelete::NoAction => Vec::new(),
        };
        let locked = edge.columns.iter().filter(|_| rekeys || written.is_empty());
        for column in written.iter().copied().chain(locked) {
            needs.column(table, column, Privilege::Update, Purpose::Run);
        }
    }
}

#[derive(Default)]
struct Collected(Needs);

impl Collected {
    fn add(&mut self, right: Right, purpose: Purpose) {
        let known = self.0.entry(right).or_insert(purpose);
        *known = (*known).min(purpose);
    }

    fn whole(&mut self, table: &TableRef, privilege: Privilege, purpose: Purpose) {
        self.add(Right { table: table.table_name(), column: None, privilege }, purpose);
    }

    fn column(&mut self, table: &TableRef, column: &str, privilege: Privilege, purpose: Purpose) {
        self.add(Right { table: table.table_name(), column: Some(column.to_owned()), privilege }, purpose);
    }

    /// A right on a whole table holds those on its columns, for the same purpose or a wider one.
    fn finish(self) -> Needs {
        let whole = |right: &Right| self.0.get(&Right { column: None, ..right.clone() }).copied();
        let is_held = |right: &Right, purpose: Purpose| right.column.is_some() && whole(right).is_some_and(|whole| whole <= purpose);
        self.0.iter().filter(|(right, purpose)| !is_held(right, **purpose)).map(|(right, purpose)| (right.clone(), *purpose)).collect()
    }
}

/// The GRANTs of one database, for a role of this name; empty where the database knows no rights.
#[must_use]
pub fn sql(model: &Model, database: DatabaseId, role: &str) -> String {
    let handle = model.databases.handle(database);
    if handle.database.dialect() == Dialect::Sqlite {
        return String::new();
    }
    let needs = needs(model, database);
    let mut text = format!("-- {}\n", handle.name);
    let schemas: BTreeSet<&str> = needs.keys().filter_map(|right| right.table.schema.as_deref()).collect();
    for schema in &schemas {
        writeln!(text, "GRANT USAGE ON SCHEMA {} TO {};", name(schema), name(role)).expect("a String takes any text");
    }
    if needs.keys().any(|right| right.table.schema.is_none()) {
        text += "-- The ledger, in the schema where `entail migrate` made it; to make it, the role that runs that needs CREATE there.\n";
    }
    text += &grants(&needs, Purpose::Run, role);
    let undo = grants(&needs, Purpose::Undo, role);
    if !undo.is_empty() {
        text += "-- For `entail undo` only.\n";
        text += &undo;
    }
    text
}

fn grants(needs: &Needs, purpose: Purpose, role: &str) -> String {
    let mut tables: BTreeMap<&TableName, Vec<&Right>> = BTreeMap::new();
    for (right, _) in needs.iter().filter(|(_, of)| **of == purpose) {
        tables.entry(&right.table).or_default().push(right);
    }
    let grant = |(table, rights): (&TableName, Vec<&Right>)| format!("GRANT {} TO {};\n", in_words(table, &rights), name(role));
    tables.into_iter().map(grant).collect()
}

/// Rights on one table, as a GRANT says them.
#[must_use]
pub fn in_words(table: &TableName, rights: &[&Right]) -> String {
    let mut privileges: BTreeMap<Privilege, Vec<String>> = BTreeMap::new();
    for right in rights {
        privileges.entry(right.privilege).or_default().extend(right.column.as_deref().map(name));
    }
    let one = |(privilege, columns): (Privilege, Vec<String>)| match columns.as_slice() {
        [] => privilege.as_str().to_owned(),
        columns => format!("{} ({})", privilege.as_str(), columns.join(", ")),
    };
    format!("{} ON {}", privileges.into_iter().map(one).collect::<Vec<_>>().join(", "), table_name(table))
}

/// The access that the group needs in Kafka, as commands of Kafka's own tool.
#[must_use]
pub fn acls(model: &Model, config: &Config, principal: &str) -> String {
    let mut text = String::from("# Kafka\n");
    let mut allow = |operations: &str, resource: &str, name: &str| {
        let (principal, name) = (shell_word(&format!("User:{principal}")), shell_word(name));
        writeln!(text, "kafka-acls.sh --add --allow-principal {principal} {operations} --{resource} {name}")
            .expect("a String takes any text");
    };
    // Reading and writing include Describe. The settings of topics are read by `check`; and the dead letters' topic is made, if it is not there.
    for topic in model.topics.keys() {
        allow("--operation Read --operation DescribeConfigs", "topic", topic);
    }
    for topic in crate::model::markers(model) {
        allow("--operation Read", "topic", &topic);
    }
    allow("--operation Write --operation Create", "topic", &config.dead_letters.topic);
    allow("--operation Read", "group", &config.kafka.group);
    text
}

/// A word as a shell reads it.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+,@:".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
