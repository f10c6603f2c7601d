//! The tables of a test: names, columns and types from the rules and from the rows that the tests write. Pure.
//!
//! A column is a number if every value that stands in it, or in a column that a reference or a replica joins to it, is a whole number without
//! quotes; otherwise it is text. Key columns are the primary key, columns that a reference points at are unique.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Row, Suite};
use crate::feed::log::literal;
use crate::rules::{Mode, OnDelete, Reference, RuleSet, TableName};
use crate::sink::statement::quote;

/// One table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// The entity or replica.
    pub(super) name: String,
    pub(super) service: String,
    /// In the file: with its schema, if it has one, as files have none.
    pub(super) table: String,
    pub(super) key: Vec<String>,
    pub(super) columns: Vec<Column>,
    unique: BTreeSet<Vec<String>>,
    /// Of a replica: whose copy it is, with (column there, column here).
    pub(super) copies: Option<(String, Vec<(String, String)>)>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    is_number: bool,
    default: Option<String>,
}

/// What the values of a column tell of its type; the greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unknown,
    Number,
    Text,
}

/// (entity, column) to what is known of it.
type Kinds = BTreeMap<(String, String), Kind>;

/// The tables of all tests of a file.
pub(super) fn tables(suite: &Suite) -> Vec<Table> {
    let mut kinds = of_rules(&suite.rules);
    for (entity, row) in rows(suite) {
        for (column, value) in row {
            note(&mut kinds, entity, column, kind(value.as_deref()));
        }
    }
    join(&suite.rules, &mut kinds);
    let columns = |name: &str| -> Vec<Column> {
        let of_table = kinds.iter().filter(|((entity, _), _)| entity == name);
        let default = |column: &str| suite.defaults.get(name).and_then(|row| row.get(column)).cloned().flatten();
        let read = |((_, column), kind): (&(String, String), &Kind)| Column {
            name: column.clone(),
            is_number: *kind == Kind::Number,
            default: default(column),
        };
        of_table.map(read).collect()
    };
    let rules = &suite.rules;
    let of_entities = rules.entity_ids().map(|(id, entity)| Table {
        name: entity.name.clone(),
        service: entity.service.clone(),
        table: entity.table.to_string(),
        key: entity.key.clone(),
        columns: columns(&entity.name),
        unique: rules.references.iter().filter(|one| one.parent == id).map(|one| one.parent_columns.clone()).collect(),
        copies: None,
    });
    let of_replicas = rules.replicas.iter().map(|replica| {
        let of = rules.entity(replica.of);
        let key = of.key.iter().filter_map(|column| replica.columns.iter().find(|(here, _)| here == column));
        Table {
            name: replica.name.clone(),
            service: replica.service.clone(),
            table: replica.table.to_string(),
            key: key.map(|(_, there)| there.clone()).collect(),
            columns: columns(&replica.name),
            unique: BTreeSet::new(),
            copies: Some((of.name.clone(), replica.columns.clone())),
        }
    });
    of_entities.chain(of_replicas).collect()
}

/// The rules over these tables: no schemas, topics as the files are fed, and of one mode if the tests ask for it.
pub(super) fn rules(rules: &RuleSet) -> RuleSet {
    let mut rules = rules.clone();
    for entity in &mut rules.entities {
        entity.table = TableName { schema: None, table: entity.table.to_string() };
        entity.topic = entity.topic.is_some().then(|| format!("{}.main.{}", entity.service, entity.table.table));
    }
    for replica in &mut rules.replicas {
        replica.table = TableName { schema: None, table: replica.table.to_string() };
    }
    rules
}

/// The same rules, with every reference enforced.
pub(super) fn enforced(mut rules: RuleSet) -> RuleSet {
    for reference in &mut rules.references {
        reference.mode = Mode::Enforce;
    }
    rules
}

/// Columns that the rules name, with what their words tell of the type.
fn of_rules(rules: &RuleSet) -> Kinds {
    let mut kinds = Kinds::new();
    for entity in &rules.entities {
        for column in &entity.key {
            note(&mut kinds, &entity.name, column, Kind::Unknown);
        }
    }
    for reference in &rules.references {
        let (child, parent) = (&rules.entity(reference.child).name, &rules.entity(reference.parent).name);
        for (column, there) in reference.columns.iter().zip(&reference.parent_columns) {
            note(&mut kinds, child, column, Kind::Unknown);
            note(&mut kinds, parent, there, Kind::Unknown);
        }
        for (column, value) in written(reference) {
            note(&mut kinds, child, column, value);
        }
    }
    for replica in &rules.replicas {
        for (here, there) in &replica.columns {
            note(&mut kinds, &rules.entity(replica.of).name, here, Kind::Unknown);
            note(&mut kinds, &replica.name, there, Kind::Unknown);
        }
    }
    kinds
}

/// Columns that a reference writes or compares. A number in the rules may be a text in the table: only words tell.
fn written(reference: &Reference) -> Vec<(&String, Kind)> {
    let tells = |text: &str| if is_number(text) { Kind::Unknown } else { Kind::Text };
    let mut columns: Vec<(&String, Kind)> =
        reference.when.iter().flat_map(|when| when.values.iter().map(|value| (&when.column, tells(value)))).collect();
    if let OnDelete::Set(values) = &reference.on_delete {
        columns.extend(values.iter().map(|(column, value)| (column, value.as_deref().map_or(Kind::Unknown, tells))));
    }
    columns
}

/// Every row that the tests write, with its entity.
pub(super) fn rows(suite: &Suite) -> Vec<(&str, &Row)> {
    let mut rows: Vec<(&str, &Row)> = suite.defaults.iter().map(|(entity, row)| (entity.as_str(), row)).collect();
    for scenario in &suite.scenarios {
        for (entity, several) in scenario.given.iter().chain(&scenario.expect.rows) {
            rows.extend(several.iter().map(|row| (entity.as_str(), row)));
        }
        for change in &scenario.changes {
            match change {
                Change::Insert { entity, row } | Change::Delete { entity, chosen: row } => rows.push((entity, row)),
                Change::Update { entity, chosen, set } => rows.extend([(entity.as_str(), chosen), (entity, set)]),
            }
        }
    }
    rows
}

fn note(kinds: &mut Kinds, entity: &str, column: &str, kind: Kind) {
    let known = kinds.entry((entity.to_owned(), column.to_owned())).or_insert(kind);
    *known = (*known).max(kind);
}

/// Columns that are compared or copied are of one type.
fn join(rules: &RuleSet, kinds: &mut Kinds) {
    let of = |entity: &str, column: &str| (entity.to_owned(), column.to_owned());
    let mut pairs = Vec::new();
    for reference in &rules.references {
        let (child, parent) = (&rules.entity(reference.child).name, &rules.entity(reference.parent).name);
        pairs.extend(reference.columns.iter().zip(&reference.parent_columns).map(|(here, there)| (of(child, here), of(parent, there))));
    }
    for replica in &rules.replicas {
        let owner = &rules.entity(replica.of).name;
        pairs.extend(replica.columns.iter().map(|(here, there)| (of(owner, here), of(&replica.name, there))));
    }
    // Each round carries a type one pair further.
    for _ in 0..=pairs.len() {
        for (one, other) in &pairs {
            let kind = kinds.get(one).max(kinds.get(other)).copied();
            for column in [one, other] {
                kinds.extend(kind.map(|kind| (column.clone(), kind)));
            }
        }
    }
}

fn kind(value: Option<&str>) -> Kind {
    match value {
        None => Kind::Unknown,
        Some(text) if is_number(text) => Kind::Number,
        Some(_) => Kind::Text,
    }
}

/// Whether the text is a whole number as a database would write it.
fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

impl Table {
    /// The statement that makes it.
    pub(super) fn create(&self) -> String {
        let column = |column: &Column| {
            let default = column.default.as_deref().map_or(String::new(), |value| format!(" DEFAULT {}", column.literal(Some(value))));
            format!("{} {}{default}", quote(&column.name), if column.is_number { "INTEGER" } else { "TEXT" })
        };
        let list = |columns: &[String]| columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        let mut parts: Vec<String> = self.columns.iter().map(column).collect();
        parts.push(format!("PRIMARY KEY ({})", list(&self.key)));
        parts.extend(self.unique.iter().filter(|columns| **columns != self.key).map(|columns| format!("UNIQUE ({})", list(columns))));
        format!("CREATE TABLE {} ({});", quote(&self.table), parts.join(", "))
    }

    /// The statement that inserts a row.
    pub(super) fn insert(&self, row: &Row) -> String {
        let (names, values): (Vec<String>, Vec<String>) = self.pairs(row).unzip();
        format!("INSERT INTO {} ({}) VALUES ({});", quote(&self.table), names.join(", "), values.join(", "))
    }

    /// The statement that changes the chosen rows.
    pub(super) fn update(&self, chosen: &Row, set: &Row) -> String {
        let set: Vec<String> = self.pairs(set).map(|(name, value)| format!("{name} = {value}")).collect();
        format!("UPDATE {} SET {} WHERE {}", quote(&self.table), set.join(", "), self.condition(chosen))
    }

    /// The statement that deletes the chosen rows.
    pub(super) fn delete(&self, chosen: &Row) -> String {
        format!("DELETE FROM {} WHERE {}", quote(&self.table), self.condition(chosen))
    }

    /// The query that reads all of its rows.
    pub(super) fn select(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("CAST({} AS TEXT)", quote(&column.name))).collect();
        format!(
            "SELECT {} FROM {} ORDER BY {}",
            columns.join(", "),
            quote(&self.table),
            self.key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
        )
    }

    fn condition(&self, chosen: &Row) -> String {
        self.pairs(chosen).map(|(name, value)| format!("{name} IS {value}")).collect::<Vec<_>>().join(" AND ")
    }

    fn pairs<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (String, String)> + 'a {
        let column = |name: &String| self.columns.iter().find(|column| column.name == *name);
        row.iter().filter_map(move |(name, value)| column(name).map(|column| (quote(name), column.literal(value.as_deref()))))
    }

    /// A row with all of its columns.
    pub(super) fn whole(&self, row: &Row) -> Row {
        let value = |column: &Column| row.get(&column.name).cloned().unwrap_or_else(|| column.default.clone());
        self.columns.iter().map(|column| (column.name.clone(), value(column))).collect()
    }

    /// The copy of an owner's row.
    pub(super) fn copy(&self, row: &Row) -> Row {
        let copied = self.copies.iter().flat_map(|(_, columns)| columns);
        let copied = copied.map(|(there, here)| (here.clone(), row.get(there).cloned().flatten())).collect();
        self.whole(&copied)
    }
}

impl Column {
    fn literal(&self, value: Option<&str>) -> String {
        match value {
            None => "NULL".to_owned(),
            Some(number) if self.is_number => number.to_owned(),
            Some(text) => literal(text),
        }
    }
}
