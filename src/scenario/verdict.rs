//! What came of a test against what it expects. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::lay::Table;
use super::{Change, Row, Scenario};

/// How a test ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing of it: the test passed.
    pub differences: Vec<Difference>,
    /// What was done, for a person who looks why.
    pub done: Vec<String>,
}

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A row is expected and not there.
    Missing {
        /// Of this entity.
        entity: String,
        /// The row.
        row: Row,
    },
    /// A row is there and not expected.
    Unexpected {
        /// Of this entity.
        entity: String,
        /// The row.
        row: Row,
    },
    /// A row is there, with another value.
    Value {
        /// Of this entity.
        entity: String,
        /// The row's key.
        key: Row,
        /// The column.
        column: String,
        /// What it should hold.
        expected: Option<String>,
        /// What it holds.
        found: Option<String>,
    },
    /// Another number than expected.
    Count {
        /// Of what.
        what: &'static str,
        /// The reference.
        name: String,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Something is set aside or shut, or is not.
    State {
        /// `parked` or `latched`.
        what: &'static str,
        /// Which.
        name: String,
        /// Whether it was expected; otherwise it happened.
        is_expected: bool,
    },
}

/// What was found when all had come to rest.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// All rows, by entity or replica.
    pub(super) rows: BTreeMap<String, Vec<Row>>,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) orphans: BTreeMap<String, u64>,
    pub(super) shadow: BTreeMap<String, u64>,
    pub(super) parked: BTreeSet<(String, String)>,
    pub(super) latched: BTreeSet<String>,
    pub(super) done: Vec<String>,
}

/// Rows that a test begins with. A replica that it does not name is in step with what it copies.
pub(super) fn given(tables: &[Table], scenario: &Scenario) -> BTreeMap<String, Vec<Row>> {
    let written = |table: &Table| scenario.given.get(&table.name).map(|rows| rows.iter().map(|row| table.whole(row)).collect());
    let mut given: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.copies.is_none()) {
        given.insert(table.name.clone(), written(table).unwrap_or_default());
    }
    for table in tables.iter().filter(|table| table.copies.is_some()) {
        let rows = written(table).unwrap_or_else(|| copied(table, &given));
        given.insert(table.name.clone(), rows);
    }
    given
}

fn copied(table: &Table, owners: &BTreeMap<String, Vec<Row>>) -> Vec<Row> {
    let owner = table.copies.as_ref().and_then(|(owner, _)| owners.get(owner));
    owner.into_iter().flatten().map(|row| table.copy(row)).collect()
}

/// Holds what was found against what is expected.
pub(super) fn judge(tables: &[Table], scenario: &Scenario, found: &Found) -> Verdict {
    let expected = expected(tables, scenario);
    let mut differences = Vec::new();
    for table in tables {
        let none = Vec::new();
        let rows = |of: &BTreeMap<String, Vec<Row>>| of.get(&table.name).unwrap_or(&none).clone();
        compare_rows(table, rows(&expected), rows(&found.rows), &mut differences);
    }
    let expect = &scenario.expect;
    let numbers = [
        ("counts", &expect.counts, &found.counts),
        ("orphans", &expect.orphans, &found.orphans),
        ("shadow", &expect.shadow, &found.shadow),
    ];
    for (what, expected, found) in numbers {
        let Some(expected) = expected else { continue };
        let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for name in names {
            let of = |numbers: &BTreeMap<String, u64>| numbers.get(name).copied().unwrap_or(0);
            let (expected, found) = (of(expected), of(found));
            if expected != found {
                differences.push(Difference::Count { what, name: name.clone(), expected, found });
            }
        }
    }
    let told = |(entity, reason): &(String, String)| format!("{entity}: {reason}");
    compare_states("parked", &expect.parked.iter().map(told).collect(), &found.parked.iter().map(told).collect(), &mut differences);
    compare_states("latched", &expect.latched, &found.latched, &mut differences);
    Verdict { differences, done: found.done.clone() }
}

fn compare_states(what: &'static str, expected: &BTreeSet<String>, found: &BTreeSet<String>, differences: &mut Vec<Difference>) {
    for name in expected.symmetric_difference(found) {
        differences.push(Difference::State { what, name: name.clone(), is_expected: expected.contains(name) });
    }
}

/// Rows that must be there at the end: what is written, and for the rest what was given, with the test's own changes.
fn expected(tables: &[Table], scenario: &Scenario) -> BTreeMap<String, Vec<Row>> {
    let before = given(tables, scenario);
    let mut rows = before.clone();
    for change in &scenario.changes {
        let Some(table) = tables.iter().find(|table| table.name == change.entity()) else { continue };
        make(change, table, rows.entry(table.name.clone()).or_default());
    }
    for table in tables {
        if let Some(written) = scenario.expect.rows.get(&table.name) {
            let base = rows.get(&table.name).cloned().unwrap_or_default();
            rows.insert(table.name.clone(), written.iter().map(|row| completed(table, row, &base)).collect());
        }
    }
    // A replica of which nothing is said follows what it copies.
    for table in tables.iter().filter(|table| table.copies.is_some()) {
        if !scenario.expect.rows.contains_key(&table.name) && !scenario.given.contains_key(&table.name) {
            rows.insert(table.name.clone(), copied(table, &rows));
        }
    }
    rows
}

/// The test's own change, on rows in memory.
fn make(change: &Change, table: &Table, rows: &mut Vec<Row>) {
    let fits = |row: &Row, chosen: &Row| chosen.iter().all(|(column, value)| row.get(column) == Some(value));
    match change {
        Change::Insert { row, .. } => rows.push(table.whole(row)),
        Change::Delete { chosen, .. } => rows.retain(|row| !fits(row, chosen)),
        Change::Update { chosen, set, .. } => {
            for row in rows.iter_mut().filter(|row| fits(row, chosen)) {
                row.extend(set.clone());
            }
        }
    }
}

/// An expected row with the columns that it leaves out: as the row with its key has them, or as in a new row.
fn completed(table: &Table, row: &Row, base: &[Row]) -> Row {
    let known = base.iter().find(|known| key(table, known) == key(table, row));
    let mut whole = known.cloned().unwrap_or_else(|| table.whole(&Row::new()));
    whole.extend(row.clone());
    whole
}

fn key(table: &Table, row: &Row) -> Row {
    table.key.iter().map(|column| (column.clone(), row.get(column).cloned().flatten())).collect()
}

fn compare_rows(table: &Table, expected: Vec<Row>, mut found: Vec<Row>, differences: &mut Vec<Difference>) {
    let entity = &table.name;
    for row in expected {
        let Some(place) = found.iter().position(|there| key(table, there) == key(table, &row)) else {
            differences.push(Difference::Missing { entity: entity.clone(), row });
            continue;
        };
        let there = found.remove(place);
        for (column, expected) in row {
            let found = there.get(&column).cloned().flatten();
            if expected != found {
                differences.push(Difference::Value { entity: entity.clone(), key: key(table, &there), column, expected, found });
            }
        }
    }
    differences.extend(found.into_iter().map(|row| Difference::Unexpected { entity: entity.clone(), row }));
}
