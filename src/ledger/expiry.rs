//! What the ledger need not keep any longer: row images past their time, key changes that are done.

use std::time::Duration;

use super::{int, text};
use crate::sink::statement::Dialect;
use crate::sink::{Session, SinkError, Statement};

/// Images per transaction: a month after a large root there are millions, and nobody else waits for them.
const PAGE: u64 = 2_000;

/// Forgets row images past their time, a page of them; returns whether there may be more.
///
/// # Errors
/// Those of the database.
pub async fn expire_images(session: &mut dyn Session, dialect: Dialect, group: &str) -> Result<bool, SinkError> {
    let (expires, now) = (expires(dialect), epoch(dialect, "CURRENT_TIMESTAMP"));
    let expired =
        format!("SELECT id FROM entail_archive WHERE group_id = $1 AND {expires} < {now} ORDER BY group_id, {expires} LIMIT {PAGE}");
    let sql = format!("DELETE FROM entail_archive WHERE id IN ({expired})");
    Ok(session.execute(&Statement::fixed("expiring the archive", &sql, vec![text(group)])).await? >= PAGE)
}

/// Forgets key changes that were done longer ago: all at once, as a chain of them says something else without its younger part. Those of an entity of
/// which a root is parked are kept as long as the root; all are, while a partition is shut whose records may tell of them.
///
/// # Errors
/// Those of the database.
pub async fn expire_moves(session: &mut dyn Session, dialect: Dialect, group: &str, keep: Duration) -> Result<(), SinkError> {
    let is_old = match dialect {
        Dialect::Postgres => "at < CURRENT_TIMESTAMP - make_interval(secs => CAST($2 AS double precision))",
        Dialect::Sqlite => "at < datetime(CURRENT_TIMESTAMP, '-' || $2 || ' seconds')",
    };
    let columns = "group_id, entity, old_key, new_key, source";
    let sql = format!(
        "DELETE FROM entail_moves WHERE ({columns}) IN (
            WITH parked AS MATERIALIZED (SELECT DISTINCT entity FROM entail_pending WHERE group_id = $1)
            SELECT {columns} FROM entail_moves AS m WHERE group_id = $1 AND state <> 'open' AND state <> 'left' AND state <> 'reused' AND {is_old}
                AND 0 = (SELECT count(*) FROM entail_latches WHERE group_id = $1 AND scope LIKE 'partition:%')
                AND 0 = (SELECT count(*) FROM parked AS p WHERE m.entity = p.entity OR m.entity LIKE p.entity || '(%'))"
    );
    session.execute(&Statement::fixed("expiring key changes", &sql, vec![text(group), int(keep.as_secs())])).await.map(|_| ())
}

/// When an image expires, in seconds: as the index has it.
fn expires(dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => format!("({} + keep_seconds)", epoch(dialect, "archived_at AT TIME ZONE 'UTC'")),
        Dialect::Sqlite => format!("{} + keep_seconds", epoch(dialect, "archived_at")),
    }
}

/// Spelled so that the oldest libraries which may open the database know it, too.
fn epoch(dialect: Dialect, moment: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("date_part('epoch', {moment})"),
        Dialect::Sqlite => format!("CAST(strftime('%s', {moment}) AS INTEGER)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h108_images_are_asked_for_by_the_very_expression_of_the_index() {
        let indexes = [
            (Dialect::Postgres, include_str!("../../migrations/postgres/0009_expiry.sql")),
            (Dialect::Sqlite, include_str!("../../migrations/sqlite/0009_expiry.sql")),
        ];
        for (dialect, migration) in indexes {
            let index = format!("CREATE INDEX entail_archive_expiry ON entail_archive (group_id, {});", expires(dialect));
            assert!(migration.contains(&index), "{index}");
        }
    }
}
