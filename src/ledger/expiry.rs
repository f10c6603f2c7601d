//! What the ledger need not keep any longer: row images past their time, key changes that are done.

use std::time::Duration;

use super::{int, text};
use crate::sink::statement::Dialect;
use crate::sink::{Session, SinkError, Statement};

/// Rows of a table per transaction: a month after a large root there are millions, and nobody else waits for them.
const PAGE: u64 = 2_000;

/// Forgets some of it; returns whether there may be more. `keep` is for key changes; row images know how long they are kept.
///
/// # Errors
/// Those of the database.
pub async fn expire(session: &mut dyn Session, dialect: Dialect, group: &str, keep: Duration) -> Result<bool, SinkError> {
    let images = Statement::fixed("expiring the archive", &expired_images(dialect), vec![text(group)]);
    let moves = Statement::fixed("expiring key changes", &expired_moves(dialect), vec![text(group), int(keep.as_secs())]);
    let most = session.execute(&images).await?.max(session.execute(&moves).await?);
    Ok(most >= PAGE)
}

fn expired_images(dialect: Dialect) -> String {
    // As the index has it.
    let (expires, now) = match dialect {
        Dialect::Postgres => {
            ("(extract(epoch FROM archived_at AT TIME ZONE 'UTC') + keep_seconds)", "extract(epoch FROM CURRENT_TIMESTAMP)")
        }
        Dialect::Sqlite => ("unixepoch(archived_at) + keep_seconds", "unixepoch(CURRENT_TIMESTAMP)"),
    };
    let expired =
        format!("SELECT id FROM entail_archive WHERE group_id = $1 AND {expires} < {now} ORDER BY group_id, {expires} LIMIT {PAGE}");
    format!("DELETE FROM entail_archive WHERE id IN ({expired})")
}

/// What a parked root was judged by is kept as long as the root.
fn expired_moves(dialect: Dialect) -> String {
    let is_old = match dialect {
        Dialect::Postgres => "at < CURRENT_TIMESTAMP - make_interval(secs => CAST($2 AS double precision))",
        Dialect::Sqlite => "unixepoch(at) < unixepoch(CURRENT_TIMESTAMP) - $2",
    };
    let columns = "group_id, entity, old_key, new_key, source";
    format!(
        "DELETE FROM entail_moves WHERE ({columns}) IN (
            WITH parked AS MATERIALIZED (SELECT DISTINCT entity FROM entail_pending WHERE group_id = $1)
            SELECT {columns} FROM entail_moves AS m WHERE group_id = $1 AND state <> 'open' AND {is_old}
                AND 0 = (SELECT count(*) FROM parked AS p WHERE m.entity = p.entity OR m.entity LIKE p.entity || '(%') LIMIT {PAGE})"
    )
}
