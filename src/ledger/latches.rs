//! What is shut until a person releases it, and the windows of rows that shut it.

use std::collections::{BTreeMap, BTreeSet};

use super::{ANEW, cell, execute, int, number, some, text};
use crate::sink::statement::{Bind, Dialect, over_list};
use crate::sink::{Database, Row, Session, SinkError, Statement};

/// A latch that is shut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Latch {
    /// `everything`, `reference:NAME` or `partition:TOPIC[N]`.
    pub scope: String,
    /// Why, in one word.
    pub reason: String,
    /// More about it, for a person.
    pub detail: String,
}

/// The scope of the kill switch: nothing at all is worked.
pub const EVERYTHING: &str = "everything";
/// The reason of what a person has paused.
pub const PAUSED: &str = "paused";
/// Before the scope of a reference that a person has paused: beside whatever else may shut it.
pub const PAUSE: &str = "pause:";

/// The reason of a partition whose topic no longer holds the offset that the ledger asks for, or does not hold it yet.
pub const GAP: &str = "gap";

/// All latches that are shut. Read in each applying transaction (H82).
///
/// # Errors
/// Those of the database.
pub async fn latches(session: &mut dyn Session, group: &str) -> Result<Vec<Latch>, SinkError> {
    let sql = "SELECT scope, reason, detail FROM entail_latches WHERE group_id = $1";
    let rows = session.query(&Statement::fixed("reading latches", sql, vec![text(group)])).await?;
    Ok(rows.iter().map(read_latch).collect())
}

/// The same, outside a transaction.
///
/// # Errors
/// Those of the database.
pub async fn latches_now(database: &dyn Database, group: &str) -> Result<Vec<Latch>, SinkError> {
    let sql = "SELECT scope, reason, detail FROM entail_latches WHERE group_id = $1 ORDER BY since, scope";
    let rows = database.read(&Statement::fixed("reading latches", sql, vec![text(group)])).await?;
    Ok(rows.iter().map(read_latch).collect())
}

fn read_latch(row: &Row) -> Latch {
    Latch { scope: cell(row, 0).to_owned(), reason: cell(row, 1).to_owned(), detail: cell(row, 2).to_owned() }
}

/// Shuts latches. One that is shut already keeps its first reason. Whatever a release had allowed before ends with it.
///
/// # Errors
/// Those of the database.
pub async fn shut(session: &mut dyn Session, dialect: Dialect, group: &str, latches: &BTreeSet<Latch>) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_latches (group_id, scope, reason, detail) SELECT $1, {c0}, {c1}, {c2} FROM {list} WHERE true
        ON CONFLICT (group_id, scope) DO NOTHING";
    let columns = vec![
        some(latches.iter().map(|latch| &latch.scope)),
        some(latches.iter().map(|latch| &latch.reason)),
        some(latches.iter().map(|latch| &latch.detail)),
    ];
    execute(session, over_list(dialect, "shutting latches", sql, columns, vec![text(group)])).await?;
    let sql = "DELETE FROM entail_allowances WHERE group_id = $1 AND 'reference:' || reference IN (SELECT {c0} FROM {list})";
    let scopes = vec![some(latches.iter().map(|latch| &latch.scope))];
    execute(session, over_list(dialect, "ending a release", sql, scopes, vec![text(group)])).await
}

/// Opens a latch. Returns whether it was shut. A partition that stood still before a gap is taken from its holder, which could move it past
/// its new beginning otherwise.
///
/// # Errors
/// Those of the database.
pub async fn release(session: &mut dyn Session, group: &str, scope: &str) -> Result<bool, SinkError> {
    let sql = "UPDATE entail_progress SET next_offset = $4, last_record = NULL, epoch = epoch + 1 WHERE group_id = $1
        AND 'partition:' || topic || '[' || CAST(\"partition\" AS TEXT) || ']' = $2
        AND EXISTS (SELECT 1 FROM entail_latches WHERE group_id = $1 AND scope = $2 AND reason = $3)";
    let binds = vec![text(group), text(scope), text(GAP), Bind::Int(ANEW.0)];
    if session.execute(&Statement::fixed("setting a partition back to its beginning", sql, binds)).await? > 0 {
        super::forget_undone(session, group, scope).await?;
    }
    let sql = "DELETE FROM entail_latches WHERE group_id = $1 AND scope = $2";
    let opened = session.execute(&Statement::fixed("releasing a latch", sql, vec![text(group), text(scope)])).await?;
    let window = scope.strip_prefix("reference:").unwrap_or_default();
    let sql = "DELETE FROM entail_windows WHERE group_id = $1 AND reference = $2";
    session.execute(&Statement::fixed("opening a window anew", sql, vec![text(group), text(window)])).await?;
    Ok(opened > 0)
}

/// Rows that each reference has touched in its running window. A reference without a running window is not listed.
///
/// # Errors
/// Those of the database.
pub async fn windows(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    per: std::time::Duration,
) -> Result<BTreeMap<String, u64>, SinkError> {
    let what = "reading the row windows";
    let sql = format!("SELECT reference, CAST(\"rows\" AS TEXT) FROM entail_windows WHERE group_id = $1 AND {}", running(dialect, "$2"));
    let rows = session.query(&Statement::fixed(what, &sql, vec![text(group), int(per.as_secs().max(1))])).await?;
    rows.iter().map(|row| Ok((cell(row, 0).to_owned(), u64::try_from(number(what, row, 1)?).unwrap_or(0)))).collect()
}

/// Adds rows to the windows; one that has run out begins anew. Returns the new counts, under the windows' row locks.
///
/// # Errors
/// Those of the database.
pub async fn charge(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    per: std::time::Duration,
    rows: &BTreeMap<String, u64>,
) -> Result<BTreeMap<String, u64>, SinkError> {
    let what = "charging the row windows";
    let running = running(dialect, "$2");
    let sql = format!(
        "INSERT INTO entail_windows (group_id, reference, started_at, \"rows\")
            SELECT $1, {{c0}}, CURRENT_TIMESTAMP, CAST({{c1}} AS bigint) FROM {{list}} WHERE true
        ON CONFLICT (group_id, reference) DO UPDATE SET
            \"rows\" = CASE WHEN {running} THEN entail_windows.\"rows\" ELSE 0 END + excluded.\"rows\",
            started_at = CASE WHEN {running} THEN entail_windows.started_at ELSE CURRENT_TIMESTAMP END
        RETURNING reference, CAST(\"rows\" AS TEXT)"
    );
    let columns = vec![some(rows.keys()), some(rows.values().map(ToString::to_string))];
    let binds = vec![text(group), int(per.as_secs().max(1))];
    let Some(statement) = over_list(dialect, what, &sql, columns, binds) else { return Ok(BTreeMap::new()) };
    let rows = session.query(&statement).await?;
    rows.iter().map(|row| Ok((cell(row, 0).to_owned(), u64::try_from(number(what, row, 1)?).unwrap_or(0)))).collect()
}

/// Whether a window that began at `started_at` still runs, by the database's own clock (H29).
fn running(dialect: Dialect, seconds: &str) -> String {
    match dialect {
        Dialect::Postgres => {
            format!("entail_windows.started_at > CURRENT_TIMESTAMP - make_interval(secs => CAST({seconds} AS double precision))")
        }
        Dialect::Sqlite => format!("unixepoch(entail_windows.started_at) > unixepoch(CURRENT_TIMESTAMP) - {seconds}"),
    }
}
