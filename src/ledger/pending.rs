//! Roots that wait or are parked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Owner, cell, execute, int, key_of, key_text, number, parts_text, query, read_key, read_list, read_source, some, source_text, text,
};
use crate::change::{Position, SourcePosition, TopicPartition};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Database, Row, Session, SinkError, Statement};
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
    /// Where the source made the last change of it: of a deleted one, the last delete.
    pub source: Option<SourcePosition>,
    /// The other unique values that its row had when it went: columns and values.
    pub beside: Vec<(Vec<String>, Key)>,
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
            (group_id, rules, entity, columns, root_key, reason, detail, kind, topic, \"partition\", \"offset\", known_partition, source,
            beside)
        SELECT $1, $2, {c0}, {c1}, {c2}, {c3}, {c4}, {c5}, {c6}, CAST({c7} AS bigint), CAST({c8} AS bigint), CAST({c9} AS bigint), {c10}, {c11}
        FROM {list} WHERE true
        ON CONFLICT (group_id, entity, columns, root_key) DO UPDATE SET reason = excluded.reason, detail = excluded.detail, kind = excluded.kind,
            source = excluded.source, beside = excluded.beside, rules = excluded.rules";
    let columns = vec![
        some(roots.iter().map(|root| &root.entity)),
        some(roots.iter().map(|root| parts_text(&root.columns))),
        some(roots.iter().map(|root| key_text(&root.key))),
        some(roots.iter().map(|root| &root.reason)),
        some(roots.iter().map(|root| &root.detail)),
        some(roots.iter().map(|root| root.kind.as_str())),
        some(roots.iter().map(|root| &*root.cause.partition.topic)),
        some(roots.iter().map(|root| root.cause.partition.partition.to_string())),
        some(roots.iter().map(|root| root.cause.offset.to_string())),
        some(roots.iter().map(|root| if root.partition_known { "1" } else { "0" })),
        some(roots.iter().map(|root| source_text(root.source.as_ref()))),
        some(roots.iter().map(|root| beside_text(&root.beside))),
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
        some(roots.iter().map(|(_, columns, _)| parts_text(columns))),
        some(roots.iter().map(|(_, _, key)| key_text(key))),
    ];
    execute(session, over_list(dialect, "settling pending roots", sql, columns, vec![text(group)])).await
}

/// Gives an entity's pending roots to the first partition of its topic, if they were told on a topic that nobody reads any more.
///
/// # Errors
/// Those of the database.
pub async fn adopt<T>(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    (entity, topic): (&str, &str),
    topics: &BTreeMap<String, T>,
) -> Result<(), SinkError> {
    let sql = "SELECT DISTINCT topic FROM entail_pending WHERE group_id = $1 AND entity = $2";
    let told_on = session.query(&Statement::fixed("reading the topics of pending roots", sql, vec![text(group), text(entity)])).await?;
    let left: Vec<String> = told_on.iter().map(|row| cell(row, 0).to_owned()).filter(|topic| !topics.contains_key(topic)).collect();
    let sql = "UPDATE entail_pending SET topic = $3, \"partition\" = 0
        WHERE group_id = $1 AND entity = $2 AND topic IN (SELECT {c0} FROM {list})";
    let binds = vec![text(group), text(entity), text(topic)];
    execute(session, over_list(dialect, "adopting pending roots", sql, vec![some(left.iter())], binds)).await
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
        after.map_or_else(Default::default, |last| [last.entity.clone(), parts_text(&last.columns), key_text(&last.key)]);
    let binds = vec![text(group), text(entity), text(parent_columns), text(key), int(limit)];
    let Some(statement) = over_list(database.dialect(), what, &sql, columns, binds) else { return Ok(Vec::new()) };
    let rows = database.read(&statement).await?;
    rows.iter().filter_map(|row| read_pending(what, row).transpose()).collect()
}

/// What `read_pending` reads.
const COLUMNS: &str = "entity, columns, root_key, reason, detail, kind, topic, CAST(\"partition\" AS TEXT), CAST(\"offset\" AS TEXT),
    CAST(known_partition AS TEXT), source, beside";

fn beside_text(beside: &[(Vec<String>, Key)]) -> String {
    let lists: Vec<(&[String], &[String])> = beside.iter().map(|(columns, key)| (columns.as_slice(), key.parts())).collect();
    serde_json::to_string(&lists).expect("texts are always JSON")
}

fn read_beside(text: &str) -> Vec<(Vec<String>, Key)> {
    let lists: Vec<(Vec<String>, Vec<String>)> = serde_json::from_str(text).unwrap_or_default();
    lists.into_iter().filter_map(|(columns, parts)| Some((columns, key_of(parts)?))).collect()
}

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
        beside: read_beside(cell(row, 11)),
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
    let what = "reading pending roots by key";
    let sql =
        format!("SELECT {COLUMNS} FROM entail_pending WHERE group_id = $1 AND entity = $2 AND root_key IN (SELECT {{c0}} FROM {{list}})");
    let columns = vec![some(keys.iter().map(key_text))];
    let rows = query(session, over_list(dialect, what, &sql, columns, vec![text(group), text(entity)])).await?;
    rows.iter().filter_map(|row| read_pending(what, row).transpose()).collect()
}
