//! What people decide, and what is counted for them.

use std::collections::BTreeMap;

use super::{EVERYTHING, Latch, PAUSE, PAUSED, cell, execute, number, some, text};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Database, Session, SinkError, Statement};

/// Notes a decision.
///
/// # Errors
/// Those of the database.
pub async fn decide(
    session: &mut dyn Session,
    group: &str,
    scope: &str,
    decision: &str,
    reason: &str,
    detail: &str,
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_decisions (group_id, scope, decision, reason, detail) VALUES ($1, $2, $3, $4, $5)";
    let binds = vec![text(group), text(scope), text(decision), text(reason), text(detail)];
    session.execute(&Statement::fixed("noting a decision", sql, binds)).await.map(drop)
}

/// The scope of a pause: beside whatever else may shut the same reference, so that neither opens the other.
fn paused(scope: &str) -> String {
    if scope == EVERYTHING { scope.to_owned() } else { format!("{PAUSE}{scope}") }
}

/// Pauses everything or a reference, and says why.
///
/// # Errors
/// Those of the database.
pub async fn pause(session: &mut dyn Session, dialect: Dialect, group: &str, scope: &str, reason: &str) -> Result<(), SinkError> {
    let latch = Latch { scope: paused(scope), reason: PAUSED.to_owned(), detail: reason.to_owned() };
    super::shut(session, dialect, group, &[latch].into()).await?;
    decide(session, group, scope, "pause", reason, "").await
}

/// Ends a pause; a latch that was shut for another reason stays. Returns whether it was paused.
///
/// # Errors
/// Those of the database.
pub async fn resume(session: &mut dyn Session, group: &str, scope: &str, reason: &str) -> Result<bool, SinkError> {
    let sql = "DELETE FROM entail_latches WHERE group_id = $1 AND scope = $2 AND reason = $3";
    let opened = session.execute(&Statement::fixed("ending a pause", sql, vec![text(group), text(paused(scope)), text(PAUSED)])).await?;
    if opened > 0 {
        decide(session, group, scope, "resume", reason, "").await?;
    }
    Ok(opened > 0)
}

/// The last decision that people took; 0 for none.
///
/// # Errors
/// Those of the database.
pub async fn last_decision(database: &dyn Database, group: &str) -> Result<i64, SinkError> {
    let what = "reading the last decision";
    let sql = "SELECT CAST(coalesce(max(id), 0) AS TEXT) FROM entail_decisions WHERE group_id = $1";
    let rows = database.read(&Statement::fixed(what, sql, vec![text(group)])).await?;
    rows.first().map_or(Ok(0), |row| number(what, row, 0))
}

/// Rows that the parked roots of released references may still touch, per reference.
///
/// # Errors
/// Those of the database.
pub async fn allowances(session: &mut dyn Session, dialect: Dialect, group: &str) -> Result<BTreeMap<String, u64>, SinkError> {
    let what = "reading what was released";
    let young = match dialect {
        Dialect::Postgres => "at > CURRENT_TIMESTAMP - interval '1 day'",
        Dialect::Sqlite => "unixepoch(at) > unixepoch(CURRENT_TIMESTAMP) - 86400",
    };
    let sql = format!("SELECT reference, CAST(\"rows\" AS TEXT) FROM entail_allowances WHERE group_id = $1 AND {young}");
    let rows = session.query(&Statement::fixed(what, &sql, vec![text(group)])).await?;
    rows.iter().map(|row| Ok((cell(row, 0).to_owned(), u64::try_from(number(what, row, 1)?).unwrap_or(0)))).collect()
}

/// Allows the parked roots of these references so many rows, instead of whatever they were allowed before.
///
/// # Errors
/// Those of the database.
pub async fn allow(session: &mut dyn Session, dialect: Dialect, group: &str, rows: &BTreeMap<String, u64>) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_allowances (group_id, reference, \"rows\") SELECT $1, {c0}, CAST({c1} AS bigint) FROM {list} WHERE true
        ON CONFLICT (group_id, reference) DO UPDATE SET \"rows\" = excluded.\"rows\", at = CURRENT_TIMESTAMP";
    let columns = vec![some(rows.keys()), some(rows.values().map(ToString::to_string))];
    execute(session, over_list(dialect, "allowing rows", sql, columns, vec![text(group)])).await
}

/// Takes rows off what references were allowed; `false` if another worker was faster and there are not as many left.
///
/// # Errors
/// Those of the database.
pub async fn spend(session: &mut dyn Session, dialect: Dialect, group: &str, rows: &BTreeMap<String, u64>) -> Result<bool, SinkError> {
    let sql = "UPDATE entail_allowances AS a SET \"rows\" = a.\"rows\" - CAST({c1} AS bigint) FROM {list}
        WHERE a.group_id = $1 AND a.reference = {c0} AND a.\"rows\" >= CAST({c1} AS bigint)";
    let columns = vec![some(rows.keys()), some(rows.values().map(ToString::to_string))];
    let Some(statement) = over_list(dialect, "using up what was allowed", sql, columns, vec![text(group)]) else { return Ok(true) };
    let done = session.execute(&statement).await?;
    Ok(usize::try_from(done).ok() == Some(rows.len()))
}

/// Adds up what references in shadow would have changed.
///
/// # Errors
/// Those of the database.
pub async fn count_shadow(session: &mut dyn Session, dialect: Dialect, group: &str, rows: &BTreeMap<String, u64>) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_shadow (group_id, reference, \"rows\") SELECT $1, {c0}, CAST({c1} AS bigint) FROM {list} WHERE true
        ON CONFLICT (group_id, reference) DO UPDATE SET \"rows\" = entail_shadow.\"rows\" + excluded.\"rows\", last_at = CURRENT_TIMESTAMP";
    let columns = vec![some(rows.keys()), some(rows.values().map(ToString::to_string))];
    execute(session, over_list(dialect, "counting what is in shadow", sql, columns, vec![text(group)])).await
}
