//! The statements that change rows. Each touches only rows that still are what was read.

use super::{
    Bind, Builder, Column, Conditions, Dialect, ListColumn, Listed, Statement, TableRef, conditions, equals, postgres_literal, quote,
    sqlite_value, text_of, transpose,
};
use crate::plan::Assignment;

/// A set of rows by key, with the values that they must still carry in other columns when they are touched.
pub(crate) struct Touched<'a> {
    /// The table.
    pub(crate) table: &'a TableRef,
    /// Its key.
    pub(crate) key: &'a [String],
    /// The columns that must still hold the values read.
    pub(crate) still: &'a [String],
    /// Per row: the key's texts, then those of `still`.
    pub(crate) rows: &'a [Vec<String>],
    /// Conditions that must still hold.
    pub(crate) when: Conditions<'a>,
}

impl Touched<'_> {
    pub(super) fn columns(&self) -> Vec<ListColumn<'_>> {
        let rows: Vec<&[String]> = self.rows.iter().map(Vec::as_slice).collect();
        transpose(self.table.bound(self.key).chain(self.table.bound(self.still)), &rows)
    }

    pub(super) fn matching(&self, builder: &mut Builder, listed: &Listed) -> String {
        let columns = self.table.bound(self.key).chain(self.table.bound(self.still));
        let on: Vec<String> = columns.zip(&listed.columns).map(|(column, value)| equals(builder.dialect, column, value)).collect();
        format!("{}{}", on.join(" AND "), conditions(builder, self.when))
    }
}

/// Deletes the rows by key and foreign key.
pub(crate) fn delete(dialect: Dialect, touched: &Touched<'_>) -> Option<Statement> {
    if touched.rows.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(touched.columns());
    let on = touched.matching(&mut builder, &listed);
    let table = touched.table;
    let sql = match dialect {
        Dialect::Postgres => format!("DELETE FROM {} AS t USING {} WHERE {on}", table.quoted, listed.from),
        Dialect::Sqlite => {
            let columns: Vec<String> = match table.rowid {
                Some(rowid) => vec![rowid.to_owned()],
                None => touched.key.iter().map(|name| quote(name)).collect(),
            };
            let of_t: Vec<String> = columns.iter().map(|column| format!("t.{column}")).collect();
            format!(
                "DELETE FROM {} WHERE ({}) IN (SELECT {} FROM {} {} {} AS t ON {on})",
                table.quoted,
                columns.join(", "),
                of_t.join(", "),
                listed.from,
                listed.join,
                table.quoted
            )
        }
    };
    Some(builder.done(format!("deleting rows of {}", table.table_name()), sql))
}

/// Sets columns of the rows by key and foreign key. `new` holds the texts for [`Assignment::PerRow`], one list per place.
pub(crate) fn update(
    dialect: Dialect,
    touched: &Touched<'_>,
    assignments: &[(&Column, Assignment)],
    new: Vec<Vec<Option<String>>>,
) -> Option<Statement> {
    if touched.rows.is_empty() || assignments.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let mut columns = touched.columns();
    let first_new = columns.len();
    let mut new = new.into_iter();
    for (column, assignment) in assignments {
        if matches!(assignment, Assignment::PerRow(_)) {
            columns.push(ListColumn::like(column, new.next().unwrap_or_default()));
        }
    }
    let listed = builder.list(columns);
    // The lists stand in the order of the assignments, whatever places the plan's rows keep their values at.
    let mut lists = listed.columns.iter().skip(first_new);
    let mut sets = Vec::new();
    for (column, assignment) in assignments {
        let value = match assignment {
            Assignment::Null => "NULL".to_owned(),
            Assignment::Default => match dialect {
                Dialect::Postgres => "DEFAULT".to_owned(),
                // SQLite has no DEFAULT here; the expression is the catalog's own text.
                Dialect::Sqlite => column.default.as_ref().map_or("NULL".to_owned(), |default| format!("({default})")),
            },
            Assignment::Value(text) => value_bind(&mut builder, column, text.clone()),
            Assignment::PerRow(_) => lists.next().cloned().expect("each per-row assignment has its list"),
        };
        sets.push(format!("{} = {value}", quote(&column.name)));
    }
    let on = touched.matching(&mut builder, &listed);
    let sql = format!("UPDATE {} AS t SET {} FROM {} WHERE {on}", touched.table.quoted, sets.join(", "), listed.from);
    Some(builder.done(format!("updating rows of {}", touched.table.table_name()), sql))
}

pub(super) fn value_bind(builder: &mut Builder, column: &Column, text: String) -> String {
    match builder.dialect {
        Dialect::Postgres => {
            let bind = builder.bind(Bind::Text(Some(postgres_literal(&column.kind, text))));
            format!("{bind}::text::{}", column.cast)
        }
        Dialect::Sqlite => {
            let bind = builder.bind(Bind::Text(Some(text)));
            sqlite_value(Some(&column.kind), &bind)
        }
    }
}

/// Columns with one list of texts each.
type Columns<'a> = &'a [(&'a Column, Vec<Option<String>>)];

/// The names of columns and a query of their values, up to its conditions; `None` without a row.
fn rows_of(builder: &mut Builder, columns: Columns<'_>) -> Option<(String, String)> {
    columns.first().filter(|(_, texts)| !texts.is_empty())?;
    let listed = builder.list(columns.iter().map(|(column, texts)| ListColumn::like(column, texts.clone())).collect());
    let names: Vec<String> = columns.iter().map(|(column, _)| quote(&column.name)).collect();
    Some((names.join(", "), format!("SELECT {} FROM {} WHERE true", listed.columns.join(", "), listed.from)))
}

/// Inserts rows of these columns, but for those that have a unique value of a row that is there.
pub(crate) fn insert_new(dialect: Dialect, table: &TableRef, columns: Columns<'_>) -> Option<Statement> {
    let mut builder = Builder::new(dialect);
    let (names, rows) = rows_of(&mut builder, columns)?;
    let numbered = if dialect == Dialect::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
    let sql = format!("INSERT INTO {} ({names}){numbered} {rows} ON CONFLICT DO NOTHING", table.quoted);
    Some(builder.done(format!("inserting into {}", table.table_name()), sql))
}

/// Writes rows of a replica: `columns` with one list of texts each; a row that is there is brought up to date. Returns the keys of the rows that
/// were new or different: doing it again returns none.
pub(crate) fn upsert(dialect: Dialect, table: &TableRef, key: &[String], columns: Columns<'_>) -> Option<Statement> {
    let mut builder = Builder::new(dialect);
    let (names, rows) = rows_of(&mut builder, columns)?;
    let sets: Vec<String> = columns
        .iter()
        .filter(|(column, _)| !key.contains(&column.name))
        .map(|(column, _)| format!("{0} = excluded.{0}", quote(&column.name)))
        .collect();
    let differs: Vec<String> = columns
        .iter()
        .filter(|(column, _)| !key.contains(&column.name))
        .map(|(column, _)| match dialect {
            // As text, since not every type (json) has an equality.
            Dialect::Postgres => format!("t.{0}::text IS DISTINCT FROM excluded.{0}::text", quote(&column.name)),
            Dialect::Sqlite => format!("t.{0} IS NOT excluded.{0}", quote(&column.name)),
        })
        .collect();
    let returned: Vec<String> = table.bound(key).map(|column| text_of(dialect, column, &quote(&column.name))).collect();
    let key: Vec<String> = key.iter().map(|name| quote(name)).collect();
    let action =
        if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {} WHERE {}", sets.join(", "), differs.join(" OR ")) };
    let sql = format!(
        "INSERT INTO {} AS t ({names}) {rows} ON CONFLICT ({}) DO {action} RETURNING {}",
        table.quoted,
        key.join(", "),
        returned.join(", "),
    );
    Some(builder.done(format!("writing rows of replica {}", table.table_name()), sql))
}
