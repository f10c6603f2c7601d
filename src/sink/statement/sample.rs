//! A look at a few rows: which values some columns hold, and how many rows hold each.

use super::super::catalog::TableRef;
use super::count::by_keys;
use super::{Bind, Builder, Conditions, Dialect, Statement, as_text, conditions, quote};

/// Rows above which a sample reads no more than some pages.
const LARGE: u64 = 100_000;

/// What is looked at.
pub(crate) struct Sample<'a> {
    pub(crate) table: &'a TableRef,
    pub(crate) columns: &'a [String],
    /// Further conditions.
    pub(crate) when: Conditions<'a>,
    /// How many rows are read.
    pub(crate) rows: u64,
    /// How many the table has, by the database's estimate.
    pub(crate) of: Option<u64>,
}

/// Distinct values of the columns in some rows that have no null in them, and last how many of those rows hold each; the most frequent ones first.
pub(crate) fn sample(dialect: Dialect, sample: &Sample<'_>) -> Statement {
    let Sample { table, columns, when, rows, of } = sample;
    let mut builder = Builder::new(dialect);
    let shown: Vec<String> = table.bound(columns).map(|column| as_text(dialect, column)).collect();
    let mut given: String = columns.iter().map(|column| format!(" AND t.{} IS NOT NULL", quote(column))).collect();
    given += &conditions(&mut builder, when);
    let share = |times: u64, of: u64| format!("{:.6}", ((rows * times * 100) as f64 / of as f64).clamp(0.0001, 100.0));
    // Of a large table pages at random, some more than needed, as a page may be half empty; of others rows at random; of a small one the first.
    let part = match (dialect, of) {
        (Dialect::Postgres, Some(of)) if *of > LARGE => Some(("SYSTEM", share(3, *of))),
        (Dialect::Postgres, Some(of)) if *of > rows * 2 => Some(("BERNOULLI", share(2, *of))),
        _ => None,
    };
    let part = part
        .map(|(how, percent)| format!(" TABLESAMPLE {how} ({}::text::real)", builder.bind(Bind::Text(Some(percent)))))
        .unwrap_or_default();
    // More rows are picked than wanted: without an order the last of the table would never be among them.
    let order = if part.is_empty() { "" } else { " ORDER BY random()" };
    let names: Vec<String> = (0..columns.len()).map(|index| format!("s.c{index}")).collect();
    let inner: Vec<String> = shown.iter().enumerate().map(|(index, shown)| format!("{shown} AS c{index}")).collect();
    let sql = format!(
        "SELECT {}, CAST(count(*) AS text) FROM (SELECT {} FROM {} AS t{part} WHERE true{given}{order} LIMIT {rows}) AS s GROUP BY {} ORDER BY count(*) DESC",
        names.join(", "),
        inner.join(", "),
        table.quoted,
        names.join(", ")
    );
    builder.done(format!("sampling {}", table.table_name()), sql)
}

/// For each of these values of the columns: how many rows hold it, counted no further than `limit`.
pub(crate) fn fan_out(
    dialect: Dialect,
    (table, columns): (&TableRef, &[String]),
    when: Conditions<'_>,
    keys: &[&[String]],
    limit: u64,
) -> Option<Statement> {
    let (builder, listed, on) = by_keys(dialect, (table, columns), when, keys)?;
    let sql = format!(
        "SELECT CAST((SELECT count(*) FROM (SELECT 1 FROM {} AS t WHERE {on} LIMIT {limit}) AS c) AS text) FROM {}",
        table.quoted, listed.from
    );
    Some(builder.done(format!("counting rows of {} by parent", table.table_name()), sql))
}

/// The least and the greatest value of a column of numbers.
pub(crate) fn bounds(dialect: Dialect, table: &TableRef, column: &str) -> Statement {
    let builder = Builder::new(dialect);
    let name = quote(column);
    let sql = format!("SELECT CAST(min({name}) AS text), CAST(max({name}) AS text) FROM {}", table.quoted);
    builder.done(format!("reading the bounds of {}", table.table_name()), sql)
}
