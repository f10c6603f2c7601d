//! Rows: as they are generated, as they are read back, and what a delete of some would take along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fastrand::Rng;

use super::schema::{Edge, OnDelete, OnUpdate, Schema};

/// One row by column.
pub(super) type Row = BTreeMap<String, Option<i64>>;
/// A row's table, and its number `u`, which never changes and is never used again.
pub(super) type Id = (usize, i64);

/// All rows, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) rows: BTreeMap<Id, Row>,
}

pub(super) fn values(row: &Row, columns: &[String]) -> Vec<Option<i64>> {
    columns.iter().map(|column| row.get(column).copied().flatten()).collect()
}

/// Values that are all there: what can be pointed at, or point.
pub(super) fn whole(row: &Row, columns: &[String]) -> Option<Vec<i64>> {
    values(row, columns).into_iter().collect()
}

/// Parts of keys are small, so that they collide.
pub(super) fn random_part(rng: &mut Rng, column: &str) -> i64 {
    match column {
        "t" => rng.i64(1..=3),
        "n" => rng.i64(1..=4),
        "code" => rng.i64(1..=30),
        _ => rng.i64(1..=12),
    }
}

impl State {
    pub(super) fn of_table(&self, table: usize) -> impl Iterator<Item = (Id, &Row)> {
        self.rows.range((table, i64::MIN)..=(table, i64::MAX)).map(|(id, row)| (*id, row))
    }

    /// Random rows, referring to each other as the schema allows. Gives columns that need one a default that names a living row.
    pub(super) fn random(rng: &mut Rng, schema: &mut Schema) -> Self {
        let mut state = Self::default();
        let mut next = 1;
        for table in 0..schema.tables.len() {
            for _ in 0..rng.usize(1..=7) {
                if let Some(row) = state.new_row(rng, schema, table, next) {
                    state.rows.insert((table, next), row);
                    next += 1;
                }
            }
        }
        for edge in &schema.edges {
            if edge.sets_default() && rng.u8(0..4) > 0 {
                let targets = state.targets(edge);
                let Some(chosen) = rng.choice(targets) else { continue };
                for (column, value) in edge.columns.iter().zip(chosen) {
                    let columns = schema.tables[edge.child].columns.iter_mut();
                    columns.filter(|known| known.name == *column).for_each(|known| known.default = Some(value));
                }
            }
        }
        // References of rows that are all there by now: also backwards, to themselves and in circles.
        let ids: Vec<Id> = state.rows.keys().copied().collect();
        for id in ids {
            for edge in schema.edges.iter().filter(|edge| edge.child == id.0) {
                if let Some(new) = state.new_reference(rng, schema, edge, id) {
                    state.rows.get_mut(&id).expect("it is listed").extend(new);
                }
            }
        }
        state
    }

    /// A row with a key that is not in use, and the references that it cannot do without.
    pub(super) fn new_row(&self, rng: &mut Rng, schema: &Schema, table: usize, number: i64) -> Option<Row> {
        let shape = &schema.tables[table];
        let mut row: Row = shape.columns.iter().map(|column| (column.name.clone(), None)).collect();
        row.insert("u".to_owned(), Some(number));
        row.insert("note".to_owned(), rng.bool().then(|| rng.i64(1..100)));
        for part in &shape.key {
            row.insert(part.clone(), Some(random_part(rng, part)));
        }
        if shape.coded {
            row.insert("code".to_owned(), Some(random_part(rng, "code")));
        }
        for edge in schema.edges.iter().filter(|edge| edge.child == table) {
            let needed = |name: &String| shape.columns.iter().any(|column| column.name == *name && column.not_null);
            let own: Vec<usize> = (0..edge.columns.len()).filter(|place| edge.columns[*place] != "t").collect();
            if own.iter().all(|place| needed(&edge.columns[*place])) {
                let shared = |target: &Vec<i64>| {
                    let mut pairs = edge.columns.iter().zip(target);
                    pairs.all(|(column, value)| column != "t" || row.get("t") == Some(&Some(*value)))
                };
                let targets: Vec<Vec<i64>> = self.targets(edge).into_iter().filter(shared).collect();
                let target = rng.choice(targets)?;
                row.extend(edge.columns.iter().cloned().zip(target.into_iter().map(Some)));
            }
        }
        let taken = |columns: &Vec<String>| self.of_table(table).any(|(_, other)| values(other, columns) == values(&row, columns));
        (!schema.targets(table).iter().any(taken)).then_some(row)
    }

    /// What a reference may point at.
    pub(super) fn targets(&self, edge: &Edge) -> Vec<Vec<i64>> {
        self.targets_up_to(edge, i64::MAX)
    }

    /// The same, of rows up to this number.
    fn targets_up_to(&self, edge: &Edge, last: i64) -> Vec<Vec<i64>> {
        self.of_table(edge.parent).filter(|(id, _)| id.1 <= last).filter_map(|(_, row)| whole(row, &edge.parent_columns)).collect()
    }

    /// New values for a row's reference: a living parent, nothing, partly nothing, or anything where nobody enforces it. `None` for a reference
    /// that has no columns of its own, or must stay.
    pub(super) fn new_reference(&self, rng: &mut Rng, schema: &Schema, edge: &Edge, id: Id) -> Option<Row> {
        let row = self.rows.get(&id)?;
        let table = &schema.tables[edge.child];
        let free = |name: &&String| !table.key.contains(name);
        let own: Vec<String> = edge.columns.iter().filter(free).cloned().collect();
        if own.is_empty() {
            return None;
        }
        let nullable = table.columns.iter().any(|column| own.contains(&column.name) && !column.not_null);
        let nothing = |own: &[String]| own.iter().map(|column| (column.clone(), None)).collect::<Row>();
        if nullable && rng.u8(0..6) == 0 {
            return Some(nothing(&own));
        }
        let shares = |target: &Vec<i64>| {
            let mut pairs = edge.columns.iter().zip(target);
            pairs.all(|(column, value)| own.contains(column) || row.get(column) == Some(&Some(*value)))
        };
        // Rows in a circle by a key that refuses can go in one statement only, and entail has one per reference.
        let last = if edge.refuses_within() { id.1 } else { i64::MAX };
        let mut targets: Vec<Vec<i64>> = self.targets_up_to(edge, last).into_iter().filter(shares).collect();
        if !edge.is_constraint() && rng.u8(0..3) == 0 {
            targets = vec![edge.columns.iter().map(|column| row.get(column).copied().flatten().unwrap_or(0).max(1)).collect()];
        }
        let held = Self::held_beside(schema, edge, row);
        let twice = rng.choice(targets.iter().filter(|target| held.contains(target)).cloned().collect::<Vec<_>>());
        let Some(target) = twice.filter(|_| rng.bool()).or_else(|| rng.choice(targets)) else { return nullable.then(|| nothing(&own)) };
        let mut new: Row =
            edge.columns.iter().cloned().zip(target.into_iter().map(Some)).filter(|(column, _)| own.contains(column)).collect();
        if nullable && own.len() > 1 && rng.u8(0..6) == 0 {
            new.insert(own[rng.usize(0..own.len())].clone(), None);
        }
        Some(new)
    }

    /// What the row points at by other references to the same: one event comes to it by both.
    fn held_beside(schema: &Schema, edge: &Edge, row: &Row) -> Vec<Vec<i64>> {
        let is_beside = |other: &&Edge| {
            let there = (other.parent, &other.parent_columns) == (edge.parent, &edge.parent_columns);
            there && other.child == edge.child && other.columns != edge.columns
        };
        schema.edges.iter().filter(is_beside).filter_map(|other| whole(row, &other.columns)).collect()
    }

    /// The rows that point at this one by this reference.
    pub(super) fn children<'a>(&'a self, edge: &'a Edge, parent: &'a Row) -> impl Iterator<Item = Id> + 'a {
        let key = whole(parent, &edge.parent_columns);
        let points = move |row: &Row| key.is_some() && whole(row, &edge.columns) == key;
        self.of_table(edge.child).filter(move |(_, row)| points(row)).map(|(id, _)| id)
    }

    /// Rows stay behind at a value that no reference of theirs follows: they are not the children of whoever has it next (H23).
    pub(super) fn holds_on(&self, schema: &Schema, (table, columns, value): (usize, &Vec<String>, &Vec<i64>)) -> bool {
        let acts = |edge: &&Edge| edge.is_rule() && edge.on_update == OnUpdate::NoAction && edge.on_delete != OnDelete::NoAction;
        let edges = schema.edges.iter().filter(|edge| edge.parent == table && edge.parent_columns == *columns).filter(acts);
        edges.into_iter().any(|edge| self.of_table(edge.child).any(|(_, row)| whole(row, &edge.columns).as_ref() == Some(value)))
    }

    /// Rows at which others point.
    pub(super) fn pointed_at(&self, schema: &Schema) -> Vec<Id> {
        let is_parent = |(id, row): &(&Id, &Row)| {
            schema.edges.iter().filter(|edge| edge.parent == id.0).any(|edge| self.children(edge, row).any(|child| child != **id))
        };
        self.rows.iter().filter(is_parent).map(|(id, _)| *id).collect()
    }

    /// What a delete of these rows takes along by `cascade`, the rows themselves among it.
    pub(super) fn doomed(&self, schema: &Schema, roots: &[Id]) -> BTreeSet<Id> {
        let mut doomed: BTreeSet<Id> = roots.iter().copied().collect();
        let mut open = roots.to_vec();
        while let Some(id) = open.pop() {
            let Some(row) = self.rows.get(&id) else { continue };
            for edge in schema.edges.iter().filter(|edge| edge.parent == id.0 && edge.on_delete == OnDelete::Cascade) {
                open.extend(self.children(edge, row).filter(|child| doomed.insert(*child)));
            }
        }
        doomed
    }

    /// A `restrict` stands between two rows that both go: whether PostgreSQL refuses depends on the order of its triggers.
    pub(super) fn races(&self, schema: &Schema, roots: &[Id], doomed: &BTreeSet<Id>) -> bool {
        let restricts = || schema.edges.iter().filter(|edge| edge.on_delete == OnDelete::Restrict);
        doomed.iter().any(|id| {
            let Some(row) = self.rows.get(id) else { return false };
            restricts()
                .filter(|edge| edge.parent == id.0)
                .any(|edge| self.children(edge, row).any(|child| doomed.contains(&child) && !roots.contains(&child)))
        })
    }

    /// A row that goes is what a default names, and another one that goes would get that default: whether PostgreSQL refuses depends on the order
    /// of its triggers.
    pub(super) fn defaults_race(&self, schema: &Schema, doomed: &BTreeSet<Id>) -> bool {
        let sets = |edge: &&Edge| edge.on_delete == OnDelete::SetDefault;
        let between = |edge: &Edge| {
            let parents = doomed.iter().filter(|id| id.0 == edge.parent).filter_map(|id| self.rows.get(id));
            parents.into_iter().any(|parent| self.children(edge, parent).any(|child| doomed.contains(&child)))
        };
        schema.edges.iter().filter(sets).any(between) && self.takes_a_default(schema, doomed)
    }

    /// A row that goes is what a default names.
    pub(super) fn takes_a_default(&self, schema: &Schema, doomed: &BTreeSet<Id>) -> bool {
        let default = |edge: &Edge| {
            let of = |name: &String| {
                schema.tables[edge.child].columns.iter().find(|column| column.name == *name).and_then(|column| column.default)
            };
            edge.columns.iter().map(of).collect::<Option<Vec<i64>>>()
        };
        let named: Vec<(usize, &Vec<String>, Vec<i64>)> = schema
            .edges
            .iter()
            .filter(|edge| edge.sets_default())
            .filter_map(|edge| Some((edge.parent, &edge.parent_columns, default(edge)?)))
            .collect();
        doomed.iter().any(|id| {
            let Some(row) = self.rows.get(id) else { return false };
            named.iter().any(|(table, columns, value)| *table == id.0 && whole(row, columns).as_ref() == Some(value))
        })
    }
}

/// How a state differs from what it should be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Rows that are gone and should be there: the worst there is.
    pub(super) wrong_deletions: Vec<(Id, Row)>,
    /// Rows that are there and should be gone.
    pub(super) left_over: Vec<(Id, Row)>,
    /// Rows with other values: what is, what should be.
    pub(super) changed: Vec<(Id, Row, Row)>,
}

impl Difference {
    pub(super) fn between(is: &State, should_be: &State) -> Self {
        let mut difference = Self::default();
        for (id, wanted) in &should_be.rows {
            match is.rows.get(id) {
                None => difference.wrong_deletions.push((*id, wanted.clone())),
                Some(row) if row != wanted => difference.changed.push((*id, row.clone(), wanted.clone())),
                Some(_) => {}
            }
        }
        let extra = is.rows.iter().filter(|(id, _)| !should_be.rows.contains_key(id));
        difference.left_over = extra.map(|(id, row)| (*id, row.clone())).collect();
        difference
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn row_text(row: &Row) -> String {
    let cells = row.iter().map(|(column, value)| format!("{column}={}", value.map_or("-".to_owned(), |value| value.to_string())));
    cells.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((table, _), row) in &self.wrong_deletions {
            writeln!(f, "WRONG DELETION from t{table}: {}", row_text(row))?;
        }
        for ((table, _), row) in &self.left_over {
            writeln!(f, "left over in t{table}: {}", row_text(row))?;
        }
        for ((table, _), row, wanted) in &self.changed {
            writeln!(f, "other values in t{table}: {}\n             instead of: {}", row_text(row), row_text(wanted))?;
        }
        Ok(())
    }
}
