//! What the tables of the rules were when the group last started.

use std::collections::BTreeMap;

use super::{cell, execute, parts_text, read_list, some, text};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Database, Session, SinkError, Statement};

/// A table as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its lines ([`crate::sink::TableRef::lines`]).
    pub lines: Vec<String>,
    /// When it was noted.
    pub at: String,
}

/// Tables by entity or replica, as a database's ledger knows them.
///
/// # Errors
/// Those of the database.
pub async fn checked(database: &dyn Database, group: &str) -> Result<BTreeMap<String, Checked>, SinkError> {
    let sql = "SELECT entity, shape, CAST(at AS TEXT) FROM entail_checked WHERE group_id = $1";
    let rows = database.read(&Statement::fixed("reading what tables were", sql, vec![text(group)])).await?;
    let table = |row: &crate::sink::Row| (cell(row, 0).to_owned(), Checked { lines: read_list(cell(row, 1)), at: cell(row, 2).to_owned() });
    Ok(rows.iter().map(table).collect())
}

/// Notes what tables are now.
///
/// # Errors
/// Those of the database.
pub async fn note_checked(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    tables: &[(String, Vec<String>)],
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_checked (group_id, entity, shape) SELECT $1, {c0}, {c1} FROM {list} WHERE true
        ON CONFLICT (group_id, entity) DO UPDATE SET shape = excluded.shape, at = CURRENT_TIMESTAMP";
    let columns = vec![some(tables.iter().map(|(name, _)| name)), some(tables.iter().map(|(_, lines)| parts_text(lines)))];
    execute(session, over_list(dialect, "noting what tables are", sql, columns, vec![text(group)])).await
}
