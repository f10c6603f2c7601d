//! References that the group has run with (H78).

use std::collections::{BTreeMap, BTreeSet};

use super::{cell, decide, execute, some, text};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Database, Session, SinkError, Statement};

/// What the ledger knows of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Hash of what it joins.
    pub shape: String,
    /// In shadow until a person promotes it.
    pub is_new: bool,
    /// Since when.
    pub since: String,
}

/// The references that a database's ledger knows.
///
/// # Errors
/// Those of the database.
pub async fn known_references(database: &dyn Database, group: &str) -> Result<BTreeMap<String, Known>, SinkError> {
    let sql = "SELECT reference, shape, CAST(is_new AS TEXT), CAST(since AS TEXT) FROM entail_references WHERE group_id = $1";
    let rows = database.read(&Statement::fixed("reading known references", sql, vec![text(group)])).await?;
    let known = rows.iter().map(|row| {
        let known = Known { shape: cell(row, 1).to_owned(), is_new: cell(row, 2) == "1", since: cell(row, 3).to_owned() };
        (cell(row, 0).to_owned(), known)
    });
    Ok(known.collect())
}

/// Notes references with which the group runs now: name, shape, whether it is new. One that is known already keeps its time.
///
/// # Errors
/// Those of the database.
pub async fn note_references(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    references: &[(String, String, bool)],
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_references (group_id, reference, shape, is_new) SELECT $1, {c0}, {c1}, CAST({c2} AS bigint) FROM {list} WHERE true
        ON CONFLICT (group_id, reference) DO UPDATE SET shape = excluded.shape, is_new = excluded.is_new";
    let columns = vec![
        some(references.iter().map(|(name, ..)| name)),
        some(references.iter().map(|(_, shape, _)| shape)),
        some(references.iter().map(|(.., is_new)| if *is_new { "1" } else { "0" })),
    ];
    execute(session, over_list(dialect, "noting references", sql, columns, vec![text(group)])).await
}

/// Forgets references that the rules have left: one that comes back is new.
///
/// # Errors
/// Those of the database.
pub async fn forget_references(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    names: &BTreeSet<String>,
) -> Result<(), SinkError> {
    let sql = "DELETE FROM entail_references WHERE group_id = $1 AND reference IN (SELECT {c0} FROM {list})";
    execute(session, over_list(dialect, "forgetting references", sql, vec![some(names)], vec![text(group)])).await
}

/// Ends the shadow of a new reference. One that is not new stays as it is.
///
/// # Errors
/// Those of the database.
pub async fn promote(session: &mut dyn Session, group: &str, name: &str, reason: &str) -> Result<(), SinkError> {
    let sql = "UPDATE entail_references SET is_new = 0 WHERE group_id = $1 AND reference = $2 AND is_new = 1";
    let promoted = session.execute(&Statement::fixed("promoting a reference", sql, vec![text(group), text(name)])).await?;
    if promoted > 0 {
        decide(session, group, &format!("reference:{name}"), "promote", reason, "").await?;
    }
    Ok(())
}
