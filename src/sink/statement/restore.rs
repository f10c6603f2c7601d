//! The statements that put archived rows back.

use super::{Bind, Builder, Column, Dialect, Statement, TableRef, equals, image, quote, transpose};
use crate::sink::image::{Field, literal, render};

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
        "SELECT CAST({} AS TEXT), {} FROM {} JOIN {} AS t ON {}{lock}",
        listed.ordinal,
        image(dialect, table),
        listed.from,
        table.quoted,
        on.join(" AND ")
    );
    Some(builder.done(format!("reading rows of {}", table.table_name()), sql))
}

/// Inserts rows, each a list of fields for all columns of the table; only these columns are written.
pub(crate) fn insert(dialect: Dialect, table: &TableRef, columns: &[usize], rows: &[&[Field]]) -> Vec<Statement> {
    let what = format!("putting rows back into {}", table.table_name());
    let columns: Vec<(usize, &Column)> = columns.iter().filter_map(|place| Some((*place, table.columns.get(*place)?))).collect();
    let names: Vec<String> = columns.iter().map(|(_, column)| quote(&column.name)).collect();
    let into = format!("INSERT INTO {} ({})", table.quoted, names.join(", "));
    match dialect {
        Dialect::Postgres => {
            if rows.is_empty() {
                return Vec::new();
            }
            let mut builder = Builder::new(dialect);
            let listed = records(&mut builder, table, rows, "k");
            let values: Vec<String> = names.iter().map(|name| format!("(k.r).{name}")).collect();
            vec![builder.done(what, format!("{into} OVERRIDING SYSTEM VALUE SELECT {} FROM {listed}", values.join(", ")))]
        }
        Dialect::Sqlite => {
            let one = |row: &&[Field]| {
                let mut builder = Builder::new(dialect);
                let values = columns.iter().map(|(place, _)| Some(builder.bind(literal(row.get(*place)?)?))).collect::<Option<Vec<_>>>()?;
                Some(builder.done(what.clone(), format!("{into} VALUES ({})", values.join(", "))))
            };
            rows.iter().filter_map(one).collect()
        }
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
            let images: Vec<&[Field]> = rows.iter().map(|(_, fields)| fields.as_slice()).collect();
            let listed = records(&mut builder, table, &images, "a");
            let keys: Vec<&[String]> = rows.iter().map(|(key, _)| *key).collect();
            let found = builder.list(transpose(table.bound(key), &keys));
            let on: Vec<String> = table.bound(key).zip(&found.columns).map(|(column, value)| equals(dialect, column, value)).collect();
            let sets: Vec<String> = columns.iter().map(|(_, column)| format!("{0} = (a.r).{0}", quote(&column.name))).collect();
            let sql = format!(
                "UPDATE {} AS t SET {} FROM {listed}, {} WHERE a.n = k.n AND {}",
                table.quoted,
                sets.join(", "),
                found.from,
                on.join(" AND ")
            );
            vec![builder.done(what, sql)]
        }
        Dialect::Sqlite => {
            let one = |(key_texts, fields): &(&[String], Vec<Field>)| {
                let mut builder = Builder::new(dialect);
                let value = |builder: &mut Builder, place: usize| Some(builder.bind(literal(fields.get(place)?)?));
                let sets = columns
                    .iter()
                    .map(|(place, column)| Some(format!("{} = {}", quote(&column.name), value(&mut builder, *place)?)))
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

/// Images as rows of the table's own type, under a name, as `r`. PostgreSQL only. `OFFSET 0` keeps it from reading the text once per column.
fn records(builder: &mut Builder, table: &TableRef, rows: &[&[Field]], name: &str) -> String {
    let images = rows.iter().map(|row| Some(render(Dialect::Postgres, row))).collect();
    let bind = builder.bind(Bind::Texts(images));
    format!("(SELECT (u.image)::{} AS r, u.n FROM unnest({bind}::text[]) WITH ORDINALITY AS u(image, n) OFFSET 0) AS {name}", table.quoted)
}
