//! Roots that wait or are parked.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Owner, cell, execute, int, key_text, list_text, number, query, read_key, read_list, read_source, some, source_text, text};
use crate::change::{Position, SourcePosition, TopicPartition};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Database, Row, Session, SinkError};
use crate::value::Key;

/// A root that waits or is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The parent's entity, by name.
    pub entity: String,
    /// The parent's columns.
    pub columns: Vec<String>,
    /// Their values.
    pub key: Key,
    /// Why it is not applied.
    pub reason: String,
    /// More about it, for a person.
    pub detail: String,
    /// What the events said of the key.
    pub kind: PendingKind,
    /// The record that brought it.
    pub cause: Position,
    /// The key's own partition is that of `cause`.
    pub partition_known: bool,
    /// The position of its last event in the source's log.
    pub source: Option<SourcePosition>,
}

/// What the events said of a pending key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PendingKind {
    /// A key change.
    Moved,
    /// A tombstone alone.
    Hint,
    /// A delete.
    Gone,
}

impl PendingKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Hint => "hint",
            Self::Gone => "gone",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Moved, Self::Hint, Self::Gone].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Notes roots as pending; a root that is pending already takes the new reason.
///
/// # Errors
/// Those of the database.
pub async fn park(session: &mut dyn Session, dialect: Dialect, owner: &Owner, roots: &[Pending]) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_pending
            (group_id, rules, entity, columns, root_key, reason, detail, kind, topic, \"partition\", \"offset\", known_partition, source)
        SELECT $1, $2, {c0}, {c1}, {c2}, {c3}, {c4}, {c5}, {c6}, CAST({c7} AS bigint), CAST({c8} AS bigint), CAST({c9} AS bigint), {c10}
        FROM {list} WHERE true
        ON CONFLICT (group_id, entity, columns, root_key) DO UPDATE SET reason = excluded.reason, detail = excluded.detail, kind = excluded.kind,
            source = excluded.source, rules = excluded.rules";
    let columns = vec![
        some(roots.iter().map(|root| &root.entity)),
        some(roots.iter().map(|root| list_text(&root.columns))),
        some(roots.iter().map(|root| key_text(&root.key))),
        some(roots.iter().map(|root| &root.reason)),
        some(roots.iter().map(|root| &root.detail)),
        some(roots.iter().map(|root| root.kind.as_str())),
        some(roots.iter().map(|root| &*root.cause.partition.topic)),
        some(roots.iter().map(|root| root.cause.partition.partition.to_string())),
        some(roots.iter().map(|root| root.cause.offset.to_string())),
        some(roots.iter().map(|root| if root.partition_known { "1" } else { "0" })),
        some(roots.iter().map(|root| source_text(root.source.as_ref()))),
    ];
    execute(session, over_list(dialect, "noting pending roots", sql, columns, vec![text(&owner.group), text(&owner.rules)])).await
}

/// Strikes out pending roots that are settled.
///
/// # Errors
/// Those of the database.
pub async fn settle(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    roots: &[(String, Vec<String>, Key)],
) -> Result<(), SinkError> {
    let sql = "DELETE FROM entail_pending WHERE group_id = $1 AND (entity, columns, root_key) IN (SELECT {c0}, {c1}, {c2} FROM {list})";
    let columns = vec![
        some(roots.iter().map(|(entity, _, _)| entity)),
        some(roots.iter().map(|(_, columns, _)| list_text(columns))),
        some(roots.iter().map(|(_, _, key)| key_text(key))),
    ];
    execute(session, over_list(dialect, "settling pending roots", sql, columns, vec![text(group)])).await
}

/// A page of the pending roots of these partitions: at most `limit`, those behind `after`.
///
/// # Errors
/// Those of the database.
pub async fn pending(
    database: &dyn Database,
    group: &str,
    partitions: &BTreeSet<TopicPartition>,
    after: Option<&Pending>,
    limit: u64,
) -> Result<Vec<Pending>, SinkError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM entail_pending WHERE group_id = $1 AND (topic, \"partition\") IN (SELECT {{c0}}, CAST({{c1}} AS bigint) FROM {{list}})
        AND (entity, columns, root_key) > ($2, $3, $4) ORDER BY entity, columns, root_key LIMIT $5"
    );
    let columns = vec![some(partitions.iter().map(|one| &*one.topic)), some(partitions.iter().map(|one| one.partition.to_string()))];
    let what = "reading pending roots";
    let [entity, parent_columns, key] =
        after.map_or_else(Default::default, |last| [last.entity.clone(), list_text(&last.columns), key_text(&last.key)]);
    let binds = vec![text(group), text(entity), text(parent_columns), text(key), int(limit)];
    let Some(statement) = over_list(database.dialect(), what, &sql, columns, binds) else { return Ok(Vec::new()) };
    let rows = database.read(&statement).await?;
    rows.iter().filter_map(|row| read_pending(what, row).transpose()).collect()
}

/// What `read_pending` reads.
const COLUMNS: &str = "entity, columns, root_key, reason, detail, kind, topic, CAST(\"partition\" AS TEXT), CAST(\"offset\" AS TEXT),
    CAST(known_partition AS TEXT), source";

fn read_pending(what: &str, row: &Row) -> Result<Option<Pending>, SinkError> {
    let (Some(key), Some(kind)) = (read_key(cell(row, 2)), PendingKind::parse(cell(row, 5))) else { return Ok(None) };
    let partition = TopicPartition { topic: Arc::from(cell(row, 6)), partition: i32::try_from(number(what, row, 7)?).unwrap_or(-1) };
    Ok(Some(Pending {
        entity: cell(row, 0).to_owned(),
        columns: read_list(cell(row, 1)),
        key,
        reason: cell(row, 3).to_owned(),
        detail: cell(row, 4).to_owned(),
        kind,
        cause: Position { partition, offset: number(what, row, 8)? },
        partition_known: cell(row, 9) == "1",
        source: read_source(cell(row, 10)),
    }))
}

/// Pending roots with these keys of an entity's key: what is known of a key from earlier batches.
///
/// # Errors
/// Those of the database.
pub async fn pending_by_key(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    keys: &[Key],
) -> Result<Vec<Pending>, SinkError> {
    let sql = "root_key IN (SELECT {c0} FROM {list})";
    of_entity(session, dialect, (group, entity), "reading pending roots by key", sql, some(keys.iter().map(key_text))).await
}

/// Pending roots of an entity that these changes of the source brought: the other unique keys of a parent row. A change is told by its position
/// in the source's log, or by its record where that is not known.
///
/// # Errors
/// Those of the database.
pub async fn pending_by_change(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    changes: &BTreeSet<String>,
) -> Result<Vec<Pending>, SinkError> {
    let sql = "CASE WHEN coalesce(source, '') <> '' THEN source
            ELSE topic || '[' || CAST(\"partition\" AS TEXT) || ']@' || CAST(\"offset\" AS TEXT) END IN (SELECT {c0} FROM {list})";
    of_entity(session, dialect, (group, entity), "reading pending roots by their change", sql, some(changes)).await
}

async fn of_entity(
    session: &mut dyn Session,
    dialect: Dialect,
    (group, entity): (&str, &str),
    what: &str,
    condition: &str,
    list: Vec<Option<String>>,
) -> Result<Vec<Pending>, SinkError> {
    let sql = format!("SELECT {COLUMNS} FROM entail_pending WHERE group_id = $1 AND entity = $2 AND {condition}");
    let rows = query(session, over_list(dialect, what, &sql, vec![list], vec![text(group), text(entity)])).await?;
    rows.iter().filter_map(|row| read_pending(what, row).transpose()).collect()
}
