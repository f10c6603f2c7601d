//! What is kept of rows: the audit, the shapes of archived images, the positions of copied rows.

use std::collections::BTreeMap;

use super::{cell, execute, key_text, number, parts_text, query, read_key, read_source, some, source_text, text};
use crate::change::{Position, SourcePosition};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Row, Session, SinkError, Statement};
use crate::value::Key;

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// The cascade.
    pub cascade: String,
    /// The reference by which the rows were reached.
    pub reference: String,
    /// What was done.
    pub action: &'static str,
    /// How many rows.
    pub rows: u64,
    /// The root's entity.
    pub root_entity: String,
    /// The parent's columns by which it is known.
    pub root_columns: Vec<String>,
    /// The root's key.
    pub root_key: Key,
    /// The record that brought it.
    pub cause: Position,
    /// Where the source made that change, if known.
    pub root_source: Option<SourcePosition>,
    /// The source's transaction that did, if known.
    pub root_transaction: Option<String>,
    /// The last record that named the root.
    pub root_last: Position,
    /// The root's key changed: its row lives under another one.
    pub root_moved: bool,
}

/// The position up to which a copied row is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// The row's key.
    pub key: Key,
    /// The event it was written from, if that had a position.
    pub source: Option<SourcePosition>,
    /// The row was deleted at that position.
    pub gone: bool,
}

/// How many rows these cascades have changed in this database, of those that have changed any.
///
/// # Errors
/// Those of the database.
pub async fn rows_of(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    cascades: &[String],
) -> Result<Vec<(String, u64)>, SinkError> {
    let what = "reading the audit";
    // What counts is told apart behind the join: as conditions of it, PostgreSQL takes the table for tiny as long as nobody has analysed it, and
    // compares every line with every id.
    let sql = "SELECT c.cascade_id, CAST(coalesce(sum(c.\"rows\") FILTER (WHERE c.group_id = $1 AND c.action IN ('delete', 'update')), 0) AS TEXT)
        FROM {list} JOIN entail_cascades AS c ON c.cascade_id = {c0} GROUP BY c.cascade_id";
    let statement = over_list(dialect, what, sql, vec![some(cascades.iter())], vec![text(group)]);
    let rows = query(session, statement).await?;
    rows.iter().map(|row| Ok((cell(row, 0).to_owned(), u64::try_from(number(what, row, 1)?).unwrap_or(0)))).collect()
}

/// Writes the audit. The rows of a cascade that goes on add up.
///
/// # Errors
/// Those of the database.
pub async fn audit(session: &mut dyn Session, dialect: Dialect, group: &str, lines: &[AuditLine]) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_cascades (group_id, cascade_id, reference, action, \"rows\", root_entity, root_key, cause, root_columns, root_source, root_transaction, root_last, root_moved)
        SELECT $1, {c0}, {c1}, {c2}, CAST({c3} AS bigint), {c4}, {c5}, {c6}, {c7}, {c8}, {c9}, {c10}, {c11} FROM {list} WHERE true
        ON CONFLICT (cascade_id, reference, action) DO UPDATE SET \"rows\" = entail_cascades.\"rows\" + excluded.\"rows\", at = CURRENT_TIMESTAMP";
    let columns = vec![
        some(lines.iter().map(|line| &line.cascade)),
        some(lines.iter().map(|line| &line.reference)),
        some(lines.iter().map(|line| line.action)),
        some(lines.iter().map(|line| line.rows.to_string())),
        some(lines.iter().map(|line| &line.root_entity)),
        some(lines.iter().map(|line| key_text(&line.root_key))),
        some(lines.iter().map(|line| line.cause.to_string())),
        some(lines.iter().map(|line| parts_text(&line.root_columns))),
        some(lines.iter().map(|line| source_text(line.root_source.as_ref()))),
        lines.iter().map(|line| line.root_transaction.clone()).collect(),
        some(lines.iter().map(|line| line.root_last.to_string())),
        some(lines.iter().map(|line| if line.root_moved { "1" } else { "0" })),
    ];
    execute(session, over_list(dialect, "writing the audit", sql, columns, vec![text(group)])).await
}

/// Keeps the column list of a table's shape.
///
/// # Errors
/// Those of the database.
pub async fn note_shape(session: &mut dyn Session, shape: &str, entity: &str, columns: &str) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_shapes (shape, entity, columns) VALUES ($1, $2, $3) ON CONFLICT (shape) DO NOTHING";
    let binds = vec![text(shape), text(entity), text(columns)];
    session.execute(&Statement::fixed("noting a table's shape", sql, binds)).await.map(drop)
}

/// How far copied rows are known, for these keys.
///
/// # Errors
/// Those of the database.
pub async fn replica_rows(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    replica: &str,
    keys: &[Key],
) -> Result<BTreeMap<Key, ReplicaRow>, SinkError> {
    let lock = if dialect == Dialect::Postgres { " FOR UPDATE" } else { "" };
    let sql = format!(
        "SELECT row_key, source, CAST(gone AS TEXT) FROM entail_replica_rows
        WHERE group_id = $1 AND replica = $2 AND row_key IN (SELECT {{c0}} FROM {{list}}){lock}"
    );
    let columns = vec![some(keys.iter().map(key_text))];
    let binds = vec![text(group), text(replica)];
    let Some(statement) = over_list(dialect, "reading positions of copied rows", &sql, columns, binds) else { return Ok(BTreeMap::new()) };
    let rows = session.query(&statement).await?;
    let read = |row: &Row| {
        let key = read_key(cell(row, 0))?;
        Some((key.clone(), ReplicaRow { key, source: read_source(cell(row, 1)), gone: cell(row, 2) == "1" }))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Notes how far copied rows are known now.
///
/// # Errors
/// Those of the database.
pub async fn note_replica_rows(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    replica: &str,
    rows: &[ReplicaRow],
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_replica_rows (group_id, replica, row_key, source, gone)
        SELECT $1, $2, {c0}, {c1}, CAST({c2} AS bigint) FROM {list} WHERE true
        ON CONFLICT (group_id, replica, row_key) DO UPDATE SET source = excluded.source, gone = excluded.gone";
    let columns = vec![
        some(rows.iter().map(|row| key_text(&row.key))),
        some(rows.iter().map(|row| source_text(row.source.as_ref()))),
        some(rows.iter().map(|row| if row.gone { "1" } else { "0" })),
    ];
    execute(session, over_list(dialect, "noting positions of copied rows", sql, columns, vec![text(group), text(replica)])).await
}
