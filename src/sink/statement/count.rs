//! Statements that count and page through rows, without locks.

use super::writes::value_bind;
use super::{
    Bind, Builder, Conditions, Dialect, ListColumn, Listed, Selection, Statement, TableRef, as_text, conditions, equals, fitting, quote,
    transpose,
};

/// Where a page of rows begins.
pub(crate) struct Page<'a> {
    /// The table's key, by which pages are ordered.
    pub(crate) order: &'a [String],
    /// The key of the last row of the page before.
    pub(crate) after: Option<&'a [String]>,
}

/// How many rows carry the values, counted up to the selection's limit: one row with the number.
pub(crate) fn number(dialect: Dialect, selection: &Selection<'_>) -> Option<Statement> {
    let (builder, from) = matching(dialect, selection)?;
    let sql = format!("SELECT CAST(count(*) AS text) FROM (SELECT 1 FROM {from} LIMIT {}) AS counted", selection.limit());
    Some(builder.done(format!("counting rows of {}", selection.table.table_name()), sql))
}

/// Reads rows in the order of their key, as [`super::select`] does.
pub(crate) fn page(dialect: Dialect, selection: &Selection<'_>, page: &Page<'_>) -> Option<Statement> {
    let (mut builder, from) = matching(dialect, selection)?;
    let table = selection.table;
    let mut shown: Vec<String> = table.bound(selection.read).map(|column| as_text(dialect, column)).collect();
    // In the place of the version, which nobody asks for here.
    shown.push("''".to_owned());
    let order: Vec<String> = page.order.iter().map(|column| format!("t.{}", quote(column))).collect();
    let behind = page.after.map(|after| {
        let last: Vec<String> =
            table.bound(page.order).zip(after).map(|(column, text)| value_bind(&mut builder, column, text.clone())).collect();
        format!(" AND ({}) > ({})", order.join(", "), last.join(", "))
    });
    let sql = format!(
        "SELECT {} FROM {from}{} ORDER BY {} LIMIT {}",
        shown.join(", "),
        behind.unwrap_or_default(),
        order.join(", "),
        selection.limit()
    );
    Some(builder.done(format!("reading rows of {}", table.table_name()), sql))
}

/// How many rows the table has: as the server's statistics say where there are some, else counted. One row with the number.
pub(crate) fn size(dialect: Dialect, table: &TableRef) -> Statement {
    let mut builder = Builder::new(dialect);
    let sql = match dialect {
        Dialect::Postgres => {
            let name = builder.bind(Bind::Text(Some(table.quoted.clone())));
            format!(
                "SELECT (CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint ELSE (SELECT count(*) FROM {}) END)::text FROM pg_catalog.pg_class AS c
                WHERE c.oid = to_regclass({name})",
                table.quoted
            )
        }
        Dialect::Sqlite => format!("SELECT CAST(count(*) AS TEXT) FROM {}", table.quoted),
    };
    builder.done(format!("asking how many rows {} has", table.table_name()), sql)
}

/// The mark of a table, as an expression: which native foreign keys lead to it and how, whether others inherit from it; on SQLite how it and those
/// whose keys lead to it were made. `name` is its oid, on SQLite its name.
pub(in crate::sink) fn mark(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Postgres => format!(
            "(SELECT coalesce(string_agg(concat(f.oid, f.confdeltype, f.confupdtype, to_jsonb(f) ->> 'conenforced'), ' ' ORDER BY f.oid), '')
            FROM pg_catalog.pg_constraint AS f WHERE f.contype = 'f' AND f.confrelid = {name})
            || CASE WHEN {} THEN ' heirs' ELSE '' END",
            has_heirs(name)
        ),
        Dialect::Sqlite => format!(
            "(SELECT coalesce(group_concat(s.sql, ' '), '') FROM sqlite_schema AS s WHERE s.type = 'table' AND (s.name = {name}
            OR EXISTS (SELECT 1 FROM pragma_foreign_key_list(s.name) AS f WHERE f.\"table\" = {name} COLLATE NOCASE)))"
        ),
    }
}

/// Whether other tables inherit from the table of this oid that are neither its partitions nor its chunks (TimescaleDB), as an expression.
pub(in crate::sink) fn has_heirs(oid: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS p ON p.oid = h.inhparent
        JOIN pg_catalog.pg_class AS r ON r.oid = h.inhrelid JOIN pg_catalog.pg_namespace AS s ON s.oid = r.relnamespace
        WHERE h.inhparent = {oid} AND p.relkind = 'r' AND s.nspname <> '_timescaledb_internal')"
    )
}

/// The marks of these tables and of all their columns: a table's place in the list, a column, its mark; without a column the table's own. On SQLite
/// that one stands for all.
pub(crate) fn marks(dialect: Dialect, tables: &[&TableRef]) -> Option<Statement> {
    if tables.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let names = match dialect {
        Dialect::Postgres => tables.iter().map(|table| table.quoted.clone()).collect(),
        Dialect::Sqlite => tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>(),
    };
    let listed = builder.list(vec![ListColumn::text(names.into_iter())]);
    let (place, from, name) = (&listed.ordinal, &listed.from, listed.columns.join(", "));
    let sql = match dialect {
        Dialect::Postgres => format!(
            "SELECT {place}::text, a.attname::text, a.attnum::text || ':' || a.atttypid::text || ':' || a.attcollation::text
            FROM {from} JOIN pg_catalog.pg_attribute AS a ON a.attrelid = to_regclass({name}) WHERE a.attnum > 0 AND NOT a.attisdropped
            UNION ALL SELECT {place}::text, '', {} FROM {from}",
            mark(dialect, &format!("to_regclass({name})"))
        ),
        Dialect::Sqlite => format!("SELECT CAST({place} AS TEXT), '', {} FROM {from}", mark(dialect, &name)),
    };
    Some(builder.done("looking at the columns".to_owned(), sql))
}

/// The rows that carry the values, as `FROM` text that ends in a condition.
fn matching(dialect: Dialect, selection: &Selection<'_>) -> Option<(Builder, String)> {
    let Selection { table, by, keys, when, .. } = selection;
    let (builder, listed, on) = by_keys(dialect, (table, by), when, keys)?;
    Some((builder, format!("{} {} {} AS t ON {on}", listed.from, listed.join, table.quoted)))
}

/// A list of keys, and the condition that a row carries one of them. `None` if none fits the columns.
pub(super) fn by_keys(
    dialect: Dialect,
    (table, by): (&TableRef, &[String]),
    when: Conditions<'_>,
    keys: &[&[String]],
) -> Option<(Builder, Listed, String)> {
    let keys = fitting(dialect, table, by, keys);
    if keys.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(transpose(table.bound(by), &keys));
    let on: Vec<String> = table.bound(by).zip(&listed.columns).map(|(column, value)| equals(dialect, column, value)).collect();
    let when = conditions(&mut builder, when);
    Some((builder, listed, format!("{}{when}", on.join(" AND "))))
}
