//! How a database's ledger stands: read for people, never for work.

use super::{cell, int, number, text};
use crate::sink::{Database, Row, SinkError, Statement};

/// What one database's ledger says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What is shut: scope, reason, detail, since.
    pub latches: Vec<[String; 4]>,
    /// Roots that wait or are parked, by what holds them.
    pub pending: Vec<Held>,
    /// How far partitions are.
    pub progress: Vec<Progress>,
    /// What was done, per reference and action.
    pub references: Vec<Done>,
    /// What references in shadow would have changed: reference, rows, since.
    pub shadow: Vec<(String, u64, String)>,
    /// Rows in the archive.
    pub archived: u64,
    /// Those of them that were put back.
    pub undone: u64,
    /// The oldest row's time.
    pub oldest: Option<String>,
}

/// Roots held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Their entity.
    pub entity: String,
    /// Why, in one word.
    pub reason: String,
    /// More about it.
    pub detail: String,
    /// How many.
    pub roots: u64,
    /// Since when the oldest.
    pub since: String,
    /// One of them.
    pub example: String,
}

/// How far a partition is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i64,
    /// The epoch of its ownership.
    pub epoch: i64,
    /// The next offset.
    pub next: i64,
    /// When it last moved.
    pub updated_at: String,
}

/// What was done through a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The references by which rows were reached, joined by `, `.
    pub reference: String,
    /// What was done: delete, update, or undo.
    pub action: String,
    /// In how many cascades.
    pub cascades: u64,
    /// Rows.
    pub rows: u64,
    /// When last.
    pub last: String,
}

/// Reads how a ledger stands.
///
/// # Errors
/// Those of the database.
pub async fn standing(database: &dyn Database, group: &str) -> Result<Standing, SinkError> {
    let what = "reading the ledger's state";
    let read = async |sql: &str| database.read(&Statement::fixed(what, sql, vec![text(group)])).await;
    let of = |row: &Row, index: usize| cell(row, index).to_owned();
    let count = |row: &Row, index: usize| number(what, row, index).map(|number| u64::try_from(number).unwrap_or(0));
    let latches =
        read("SELECT scope, reason, detail, CAST(since AS TEXT) FROM entail_latches WHERE group_id = $1 ORDER BY since, scope").await?;
    let pending = read(
        "SELECT entity, reason, detail, CAST(count(*) AS TEXT), CAST(min(since) AS TEXT), min(root_key) FROM entail_pending
        WHERE group_id = $1 GROUP BY entity, reason, detail ORDER BY 1, 2, 3",
    );
    let pending = pending.await?;
    let pending = pending.iter().map(|row| {
        let (entity, reason, detail) = (of(row, 0), of(row, 1), of(row, 2));
        Ok(Held { entity, reason, detail, roots: count(row, 3)?, since: of(row, 4), example: of(row, 5) })
    });
    let pending = pending.collect::<Result<_, SinkError>>()?;
    let progress = read(
        "SELECT topic, CAST(\"partition\" AS TEXT), CAST(epoch AS TEXT), CAST(next_offset AS TEXT), CAST(updated_at AS TEXT)
        FROM entail_progress WHERE group_id = $1 ORDER BY topic, \"partition\"",
    );
    let progress = progress.await?;
    let progress = progress.iter().map(|row| {
        let (topic, updated_at) = (of(row, 0), of(row, 4));
        Ok(Progress { topic, partition: number(what, row, 1)?, epoch: number(what, row, 2)?, next: number(what, row, 3)?, updated_at })
    });
    let progress = progress.collect::<Result<_, SinkError>>()?;
    let references = read(
        "SELECT reference, action, CAST(count(*) AS TEXT), CAST(sum(\"rows\") AS TEXT), CAST(max(at) AS TEXT) FROM entail_cascades
        WHERE group_id = $1 GROUP BY reference, action ORDER BY 1, 2",
    );
    let references = references.await?;
    let references = references.iter().map(|row| {
        let (reference, action, last) = (of(row, 0), of(row, 1), of(row, 4));
        Ok(Done { reference, action, cascades: count(row, 2)?, rows: count(row, 3)?, last })
    });
    let references = references.collect::<Result<_, SinkError>>()?;
    let shadow =
        read("SELECT reference, CAST(\"rows\" AS TEXT), CAST(since AS TEXT) FROM entail_shadow WHERE group_id = $1 ORDER BY 1").await?;
    let shadow = shadow.iter().map(|row| Ok((of(row, 0), count(row, 1)?, of(row, 2)))).collect::<Result<_, SinkError>>()?;
    let archive = read(
        "SELECT CAST(count(*) AS TEXT), CAST(count(undone_at) AS TEXT), CAST(min(archived_at) AS TEXT) FROM entail_archive WHERE group_id = $1",
    );
    let archive = archive.await?;
    let (archived, undone, oldest) = match archive.first() {
        Some(row) => (count(row, 0)?, count(row, 1)?, row.get(2).cloned().flatten()),
        None => (0, 0, None),
    };
    let latches = latches.iter().map(|row| [of(row, 0), of(row, 1), of(row, 2), of(row, 3)]).collect();
    Ok(Standing { latches, pending, progress, references, shadow, archived, undone, oldest })
}

/// Pending roots one by one, the oldest first, at most so many: entity, key, reason, detail, cause, since.
///
/// # Errors
/// Those of the database.
pub async fn parked(database: &dyn Database, group: &str, limit: u64) -> Result<Vec<[String; 6]>, SinkError> {
    let sql = "SELECT entity, root_key, reason, detail, topic || '[' || CAST(\"partition\" AS TEXT) || ']@' || CAST(\"offset\" AS TEXT),
        CAST(since AS TEXT) FROM entail_pending WHERE group_id = $1 ORDER BY since, entity, root_key LIMIT $2";
    let rows = database.read(&Statement::fixed("reading pending roots", sql, vec![text(group), int(limit)])).await?;
    Ok(rows.iter().map(|row| [0, 1, 2, 3, 4, 5].map(|index| cell(row, index).to_owned())).collect())
}
