//! What people decide, and what is counted for them.

use std::collections::BTreeMap;

use super::{Latch, PAUSED, execute, some, text};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Session, SinkError, Statement};

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

/// Pauses a scope, and says why.
///
/// # Errors
/// Those of the database.
pub async fn pause(session: &mut dyn Session, dialect: Dialect, group: &str, scope: &str, reason: &str) -> Result<(), SinkError> {
    let latch = Latch { scope: scope.to_owned(), reason: PAUSED.to_owned(), detail: reason.to_owned() };
    super::shut(session, dialect, group, &[latch].into()).await?;
    decide(session, group, scope, "pause", reason, "").await
}

/// Ends a pause; a latch that was shut for another reason stays. Returns whether it was paused.
///
/// # Errors
/// Those of the database.
pub async fn resume(session: &mut dyn Session, group: &str, scope: &str, reason: &str) -> Result<bool, SinkError> {
    let sql = "DELETE FROM entail_latches WHERE group_id = $1 AND scope = $2 AND reason = $3";
    let opened = session.execute(&Statement::fixed("ending a pause", sql, vec![text(group), text(scope), text(PAUSED)])).await?;
    if opened > 0 {
        decide(session, group, scope, "resume", reason, "").await?;
    }
    Ok(opened > 0)
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
