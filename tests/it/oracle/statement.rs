//! Random statements.

use sqlx::PgPool;

use super::bench::{insert_row, literal};
use super::history::History;
use super::state::{Id, Row, random_part, whole};

/// A value that rows of a table are pointed at by: table, columns, values.
pub(super) type Target = (usize, Vec<String>, Vec<i64>);

#[derive(Debug, Clone)]
pub(super) enum Statement {
    Delete(Vec<Id>),
    /// Sets columns of the key, or another unique column.
    Rekey(Id, Row),
    Repoint(Id, Row),
    Insert(Id, Row),
    Touch(Id, Row),
}

/// Which statements a round may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One, and then entail comes to rest.
    Settled,
    /// Several, deletes among them, none of which depends on what entail has not done yet.
    Deletes,
    /// Several, key changes among them, likewise.
    KeyChanges,
    /// Anything.
    Wild,
    /// Anything but key changes.
    WildDeletes,
}

fn is_wild(kind: Kind) -> bool {
    matches!(kind, Kind::Wild | Kind::WildDeletes)
}

impl<'a> History<'a> {
    fn is_free(&self, kind: Kind, table: usize, row: &Row) -> bool {
        self.schema.targets(table).into_iter().all(|columns| {
            let Some(value) = whole(row, &columns) else { return true };
            let taken =
                self.oracle.of_table(table).any(|(id, other)| Some(id.1) != row["u"] && whole(other, &columns).as_ref() == Some(&value));
            let target = (table, columns, value);
            let own = self.oracle.rows.get(&(table, row["u"].unwrap_or_default()));
            let kept = own.is_some_and(|own| whole(own, &target.1).as_ref() == Some(&target.2));
            !taken && (kept || is_wild(kind) || !self.burned.contains(&target) && !self.recent.contains(&target))
        })
    }

    pub(super) fn generate(&mut self, kind: Kind) -> Option<Statement> {
        let pointed_at = self.oracle.pointed_at(self.schema);
        let id = match self.rng.choice(pointed_at).filter(|_| self.rng.u8(0..3) > 0) {
            Some(id) => id,
            None => self.rng.choice(self.oracle.rows.keys().copied().collect::<Vec<_>>())?,
        };
        let is_wild = is_wild(kind);
        // The last row that was made: perhaps with a key that another gave up.
        let newest = self.oracle.rows.keys().copied().max_by_key(|id| id.1).filter(|_| is_wild && self.rng.u8(0..4) == 0);
        let id = newest.unwrap_or(id);
        let row = self.oracle.rows.get(&id)?.clone();
        let choice = match kind {
            Kind::Settled => self.rng.u8(0..20),
            Kind::Deletes => self.rng.choice([0, 0, 0, 12, 13, 14, 19])?,
            Kind::KeyChanges => self.rng.choice([8, 8, 8, 12, 13, 14, 19])?,
            Kind::Wild => self.rng.choice([0, 0, 0, 8, 8, 8, 12, 14, 14, 14])?,
            Kind::WildDeletes => self.rng.choice([0, 0, 0, 12, 14, 14, 14])?,
        };
        match choice {
            0..8 => {
                let mut ids = vec![id];
                if self.rng.u8(0..3) == 0 {
                    ids.extend(self.oracle.of_table(id.0).map(|(other, _)| other).filter(|other| *other != id).take(self.rng.usize(0..=2)));
                }
                Some(Statement::Delete(ids))
            }
            8..12 => {
                let new = self.new_key(id, &row)?;
                let mut changed = row.clone();
                changed.extend(new.clone());
                self.is_free(kind, id.0, &changed).then_some(Statement::Rekey(id, new))
            }
            12 | 13 => {
                let edges: Vec<_> = self.schema.edges.iter().filter(|edge| edge.child == id.0).collect();
                let edge = self.rng.choice(edges)?;
                self.oracle.new_reference(self.rng, self.schema, edge, id).map(|new| Statement::Repoint(id, new))
            }
            14..18 => {
                let (id, mut new) = self.new_row(id.0)?;
                let vacated = self.vacated.iter().filter(|(table, ..)| is_wild && *table == id.0).collect::<Vec<_>>();
                if let Some((_, columns, values)) = self.rng.choice(vacated).filter(|_| self.rng.bool()) {
                    new.extend(columns.iter().cloned().zip(values.iter().copied().map(Some)));
                }
                let mut with = self.oracle.clone();
                with.rows.insert(id, new.clone());
                for edge in self.schema.edges.iter().filter(|edge| edge.child == id.0) {
                    new.extend(with.new_reference(self.rng, self.schema, edge, id).unwrap_or_default());
                }
                self.is_free(kind, id.0, &new).then_some(Statement::Insert(id, new))
            }
            _ => Some(Statement::Touch(id, Row::from([("note".to_owned(), Some(self.rng.i64(1..100)))]))),
        }
    }

    /// A row with a number of its own.
    pub(super) fn new_row(&mut self, table: usize) -> Option<(Id, Row)> {
        let number = self.next;
        self.next += 1;
        Some(((table, number), self.oracle.new_row(self.rng, self.schema, table, number)?))
    }

    /// Other values for some part of the row's key, or for its other unique column.
    pub(super) fn new_key(&mut self, id: Id, row: &Row) -> Option<Row> {
        let table = &self.schema.tables[id.0];
        let mut new = Row::new();
        if table.coded && self.rng.bool() {
            new.insert("code".to_owned(), Some(random_part(self.rng, "code")));
        }
        if new.is_empty() || self.rng.u8(0..4) == 0 {
            let part = self.rng.choice(table.key.iter())?;
            if part.starts_with('d') {
                let edge = self.schema.edges.iter().find(|edge| edge.child == id.0 && edge.columns.contains(part))?;
                let target = self.rng.choice(self.oracle.targets(edge))?;
                new.extend(edge.columns.iter().cloned().zip(target.into_iter().map(Some)));
            } else {
                new.insert(part.clone(), Some(random_part(self.rng, part)));
            }
        }
        new.iter().any(|(column, value)| row[column] != *value).then_some(new)
    }

    pub(super) fn sql(&self, statement: &Statement) -> String {
        let update = |id: &Id, new: &Row| {
            let set: Vec<String> = new.iter().map(|(column, value)| format!("{column} = {}", literal(*value))).collect();
            format!("UPDATE {} SET {} WHERE u = {}", self.schema.qualified(id.0), set.join(", "), id.1)
        };
        match statement {
            Statement::Delete(ids) => {
                let numbers: Vec<String> = ids.iter().map(|id| id.1.to_string()).collect();
                format!("DELETE FROM {} WHERE u IN ({})", self.schema.qualified(ids[0].0), numbers.join(", "))
            }
            Statement::Rekey(id, new) | Statement::Repoint(id, new) | Statement::Touch(id, new) => update(id, new),
            Statement::Insert(id, row) => insert_row(self.schema, id.0, row),
        }
    }

    pub(super) fn service(&self, statement: &Statement) -> &'a PgPool {
        let table = match statement {
            Statement::Delete(ids) => ids[0].0,
            Statement::Rekey(id, _) | Statement::Repoint(id, _) | Statement::Insert(id, _) | Statement::Touch(id, _) => id.0,
        };
        &self.bench.services[self.schema.tables[table].database]
    }
}
