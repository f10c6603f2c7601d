//! The statements that put archived rows back.

use super::{Bind, Builder, Column, Dialect, ListColumn, Statement, TableRef, equals, image, quote, transpose};
use crate::sink::image::{Field, Literal, literal};

/// The rows of these keys as images: (number of the key in the list, image). Locked to the end of the transaction.
pub(crate) fn images(dialect: Dialect, table: &TableRef, key: &[String], keys: &[&[String]]) -> Option<Statement> {
    if keys.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(transpose(table.bound(key), keys));
    let on: Vec<String> = table.bound(key).zip(&listed.columns).map(|(column, value)| equals(dialect, column, value)).collect();
    let lock = if dialect == Dialect::Postgres { " FOR UPDATE OF t" } else { "" };
    let sql = format!(
        "SELECT CAST({} AS TEXT), {} FROM {} {} {} AS t ON {}{lock}",
        listed.ordinal,
        image(dialect, table),
        listed.from,
        listed.join,
        table.quoted,
        on.join(" AND ")
    );
    Some(builder.done(format!("reading rows of {}", table.table_name()), sql))
}

/// Rows to insert, each a list of fields for all columns of the table; only these columns are written.
pub(crate) struct Rows<'a> {
    pub(crate) table: &'a TableRef,
    pub(crate) columns: &'a [usize],
    pub(crate) rows: Vec<&'a [Field]>,
}

impl Rows<'_> {
    fn what(&self) -> String {
        format!("putting rows back into {}", self.table.table_name())
    }

    fn columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().filter_map(|place| Some((*place, self.table.columns.get(*place)?)))
    }

    fn into(&self) -> String {
        let names: Vec<String> = self.columns().map(|(_, column)| quote(&column.name)).collect();
        format!("INSERT INTO {} ({})", self.table.quoted, names.join(", "))
    }

    fn all(&self, builder: &mut Builder) -> String {
        let fields = |place: usize| self.rows.iter().map(|row| row.get(place).cloned().flatten()).collect();
        let listed = builder.list(self.columns().map(|(place, _)| ListColumn { texts: fields(place), like: None }).collect());
        let values: Vec<String> = listed.columns.iter().zip(self.columns()).map(|(value, (_, column))| read(value, column)).collect();
        format!("{} OVERRIDING SYSTEM VALUE SELECT {} FROM {}", self.into(), values.join(", "), listed.from)
    }

    fn one_by_one(&self) -> Vec<Statement> {
        let into = self.into();
        let one = |row: &&[Field]| {
            let mut builder = Builder::new(Dialect::Sqlite);
            let values = self.columns().map(|(place, _)| value(&mut builder, row.get(place)?)).collect::<Option<Vec<_>>>()?;
            Some(builder.done(self.what(), format!("{into} VALUES ({})", values.join(", "))))
        };
        self.rows.iter().filter_map(one).collect()
    }
}

/// Inserts rows.
pub(crate) fn insert(dialect: Dialect, rows: &Rows<'_>) -> Vec<Statement> {
    match dialect {
        Dialect::Postgres if rows.rows.is_empty() => Vec::new(),
        Dialect::Postgres => {
            let mut builder = Builder::new(dialect);
            let sql = rows.all(&mut builder);
            vec![builder.done(rows.what(), sql)]
        }
        Dialect::Sqlite => rows.one_by_one(),
    }
}

/// Inserts rows of several tables so that native keys are looked at when all of them are there: at the end of the one statement, or at the
/// commit. Touches as many rows as it inserts.
pub(crate) fn insert_at_once(dialect: Dialect, parts: &[Rows<'_>]) -> Vec<Statement> {
    match dialect {
        Dialect::Postgres => {
            let mut builder = Builder::new(dialect);
            let names = || (0..parts.len()).map(|number| format!("r{number}"));
            let inserts: Vec<String> =
                names().zip(parts).map(|(name, rows)| format!("{name} AS ({} RETURNING 1)", rows.all(&mut builder))).collect();
            let counts: Vec<String> = names().map(|name| format!("SELECT 1 FROM {name}")).collect();
            let what = parts.first().map(Rows::what).unwrap_or_default();
            vec![builder.done(what, format!("WITH {} {}", inserts.join(", "), counts.join(" UNION ALL ")))]
        }
        Dialect::Sqlite => parts.iter().flat_map(Rows::one_by_one).collect(),
    }
}

/// What has to be said before [`insert_at_once`], in the same transaction.
pub(crate) fn before_at_once(dialect: Dialect) -> Option<Statement> {
    match dialect {
        Dialect::Postgres => None,
        Dialect::Sqlite => Some(Statement::fixed("deferring native keys", "PRAGMA defer_foreign_keys = ON", Vec::new())),
    }
}

/// Sets columns of rows back, found by a key; each row is a list of fields for all columns of the table.
pub(crate) fn set_back(
    dialect: Dialect,
    table: &TableRef,
    key: &[String],
    columns: &[usize],
    rows: &[(&[String], Vec<Field>)],
) -> Vec<Statement> {
    let what = format!("setting rows of {} back", table.table_name());
    let columns: Vec<(usize, &Column)> = columns.iter().filter_map(|place| Some((*place, table.columns.get(*place)?))).collect();
    if rows.is_empty() || columns.is_empty() {
        return Vec::new();
    }
    match dialect {
        Dialect::Postgres => {
            let mut builder = Builder::new(dialect);
            let keys: Vec<&[String]> = rows.iter().map(|(key, _)| *key).collect();
            let mut lists = transpose(table.bound(key), &keys);
            let fields = |place: &usize| rows.iter().map(|(_, row)| row.get(*place).cloned().flatten()).collect();
            lists.extend(columns.iter().map(|(place, _)| ListColumn { texts: fields(place), like: None }));
            let listed = builder.list(lists);
            let on: Vec<String> = table.bound(key).zip(&listed.columns).map(|(column, value)| equals(dialect, column, value)).collect();
            let values = listed.columns.iter().skip(key.len()).zip(&columns);
            let sets: Vec<String> =
                values.map(|(value, (_, column))| format!("{} = {}", quote(&column.name), read(value, column))).collect();
            let sql = format!("UPDATE {} AS t SET {} FROM {} WHERE {}", table.quoted, sets.join(", "), listed.from, on.join(" AND "));
            vec![builder.done(what, sql)]
        }
        Dialect::Sqlite => {
            let one = |(key_texts, fields): &(&[String], Vec<Field>)| {
                let mut builder = Builder::new(dialect);
                let sets = columns
                    .iter()
                    .map(|(place, column)| Some(format!("{} = {}", quote(&column.name), value(&mut builder, fields.get(*place)?)?)))
                    .collect::<Option<Vec<_>>>()?;
                let found = builder.list(transpose(table.bound(key), &[key_texts]));
                let on: Vec<String> = table.bound(key).zip(&found.columns).map(|(column, value)| equals(dialect, column, value)).collect();
                let sql = format!("UPDATE {} AS t SET {} FROM {} WHERE {}", table.quoted, sets.join(", "), found.from, on.join(" AND "));
                Some(builder.done(what.clone(), sql))
            };
            rows.iter().filter_map(one).collect()
        }
    }
}

/// A field's text as its column's type reads it: exactly what its type wrote. PostgreSQL only.
fn read(value: &str, column: &Column) -> String {
    format!("CAST({value} AS {})", column.cast)
}

/// A field's value as SQLite has it. Its own reading of a floating point number counts: that is what the rest was measured by.
fn value(builder: &mut Builder, field: &Field) -> Option<String> {
    Some(match literal(field)? {
        Literal::Value(bind) => builder.bind(bind),
        Literal::Real { text, rest } => {
            let mut read = |text: String| format!("CAST({} AS REAL)", builder.bind(Bind::Text(Some(text))));
            let read_text = read(text);
            rest.map_or(read_text.clone(), |rest| format!("({read_text} + {})", read(rest)))
        }
    })
}
