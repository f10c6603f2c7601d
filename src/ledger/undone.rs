//! What was undone: not done again by what had been told before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Told, cell, key_text, number, parts_text, query, read_key, read_list, read_source, some, source_text, text};
use crate::change::{NextOffset, Position, SourcePosition, TopicPartition};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Row, Session, SinkError, Statement};
use crate::value::Key;

/// A root that was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneRoot {
    /// Its entity.
    pub entity: String,
    /// The parent's columns.
    pub columns: Vec<String>,
    /// Their values.
    pub key: Key,
    /// The partition that told of it.
    pub partition: TopicPartition,
    /// Where the source made the change that was undone, if known: what it made later is news.
    pub source: Option<SourcePosition>,
    /// Without such a position: what stands there at this offset and above is news.
    pub below: NextOffset,
}

/// Holds the progress of partitions, so that an undo and a batch under way wait for each other: a batch that passes is found by the undo, and an undo
/// that passes by the batch. Takeovers do not wait. In SQLite there is one writer anyway.
///
/// # Errors
/// Those of the database.
pub async fn hold(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    partitions: &BTreeSet<TopicPartition>,
    is_undo: bool,
) -> Result<(), SinkError> {
    if dialect == Dialect::Sqlite {
        return Ok(());
    }
    let lock = if is_undo { "UPDATE" } else { "KEY SHARE" };
    let sql = format!(
        "SELECT p.topic FROM {{list}} JOIN entail_progress AS p ON p.group_id = $1 AND p.topic = {{c0}} AND p.\"partition\" = CAST({{c1}} AS bigint)
        ORDER BY p.topic, p.\"partition\" FOR {lock} OF p"
    );
    let columns = vec![
        some(partitions.iter().map(|partition| &*partition.topic)),
        some(partitions.iter().map(|partition| partition.partition.to_string())),
    ];
    query(session, over_list(dialect, "holding the progress", &sql, columns, vec![text(group)])).await.map(drop)
}

/// Marks the roots of cascades that are undone: what the group has read of them by now does not cascade again.
///
/// # Errors
/// Those of the database.
pub async fn spare(session: &mut dyn Session, dialect: Dialect, group: &str, cascades: &[Told]) -> Result<(), SinkError> {
    // Of several cascades of a root the last one counts.
    let mut last = BTreeMap::new();
    for told in cascades {
        let (Some(key), Ok(cause)) = (&told.root_key, told.cause.parse::<Position>()) else { continue };
        let known =
            last.entry((&told.root_entity, &told.root_columns, key, cause.partition.clone())).or_insert_with(|| (told, cause.clone()));
        if cause.offset > known.1.offset {
            *known = (told, cause);
        }
    }
    let partitions = last.keys().map(|(.., partition)| partition.clone()).collect();
    hold(session, dialect, group, &partitions, true).await?;
    let roots: Vec<(&Told, &Position)> = last.values().map(|(told, cause)| (*told, cause)).collect();
    // A later one may have been undone before this one: what was told of it stays old.
    let asked: Vec<_> = last.keys().map(|(entity, columns, key, _)| ((*entity).clone(), (*columns).clone(), (*key).clone())).collect();
    let known = undone(session, dialect, group, &asked).await?;
    let source = |(told, cause): &(&Told, &Position)| {
        let is_it = |one: &&UndoneRoot| {
            (&one.entity, &one.columns, Some(&one.key), &one.partition)
                == (&told.root_entity, &told.root_columns, told.root_key.as_ref(), &cause.partition)
        };
        let before = known.iter().find(is_it).and_then(|one| one.source.as_ref());
        let is_later = |before: &&SourcePosition| {
            told.root_source.as_ref().is_none_or(|source| before.compare(source) == Some(std::cmp::Ordering::Greater))
        };
        source_text(before.filter(is_later).or(told.root_source.as_ref()))
    };
    let news = |next: &str, cause: &str| format!("CASE WHEN {next} > {cause} THEN {next} ELSE {cause} + 1 END");
    let sql = format!(
        "INSERT INTO entail_undone (group_id, entity, columns, root_key, topic, \"partition\", source, below)
        SELECT $1, {{c0}}, {{c1}}, {{c2}}, {{c3}}, CAST({{c4}} AS bigint), {{c6}}, {}
        FROM {{list}} LEFT JOIN entail_progress AS p ON p.group_id = $1 AND p.topic = {{c3}} AND p.\"partition\" = CAST({{c4}} AS bigint)
        WHERE true
        ON CONFLICT (group_id, entity, columns, root_key, topic, \"partition\")
            DO UPDATE SET source = excluded.source, below = excluded.below, at = CURRENT_TIMESTAMP",
        news("coalesce(p.next_offset, 0)", "CAST({c5} AS bigint)")
    );
    let columns = vec![
        some(roots.iter().map(|(told, _)| &told.root_entity)),
        some(roots.iter().map(|(told, _)| parts_text(&told.root_columns))),
        some(roots.iter().map(|(told, _)| told.root_key.as_ref().map(key_text).unwrap_or_default())),
        some(roots.iter().map(|(_, cause)| &*cause.partition.topic)),
        some(roots.iter().map(|(_, cause)| cause.partition.partition.to_string())),
        some(roots.iter().map(|(_, cause)| cause.offset.to_string())),
        some(roots.iter().map(source)),
    ];
    super::execute(session, over_list(dialect, "sparing what is undone", &sql, columns, vec![text(group)])).await
}

/// What was undone of these roots: entity, columns, key.
///
/// # Errors
/// Those of the database.
pub async fn undone(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    roots: &[(String, Vec<String>, Key)],
) -> Result<Vec<UndoneRoot>, SinkError> {
    let what = "reading what was undone";
    let sql = "SELECT u.entity, u.columns, u.root_key, u.topic, CAST(u.\"partition\" AS TEXT), CAST(u.below AS TEXT), u.source FROM {list} JOIN entail_undone AS u
        ON u.group_id = $1 AND u.entity = {c0} AND u.columns = {c1} AND u.root_key = {c2}";
    let columns = vec![
        some(roots.iter().map(|(entity, ..)| entity)),
        some(roots.iter().map(|(_, columns, _)| parts_text(columns))),
        some(roots.iter().map(|(.., key)| key_text(key))),
    ];
    let rows = query(session, over_list(dialect, what, sql, columns, vec![text(group)])).await?;
    let read = |row: &Row| {
        let partition = i32::try_from(number(what, row, 4)?).unwrap_or(i32::MAX);
        let (partition, below) = (TopicPartition { topic: Arc::from(cell(row, 3)), partition }, NextOffset(number(what, row, 5)?));
        let Some(key) = read_key(cell(row, 2)) else { return Ok(None) };
        let (entity, columns) = (cell(row, 0).to_owned(), read_list(cell(row, 1)));
        Ok(Some(UndoneRoot { entity, columns, key, partition, source: read_source(cell(row, 6)), below }))
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}

/// Forgets what was undone of a partition's roots: its topic begins anew, and no old position means anything there.
///
/// # Errors
/// Those of the database.
pub async fn forget_undone(session: &mut dyn Session, group: &str, scope: &str) -> Result<(), SinkError> {
    let sql = "DELETE FROM entail_undone WHERE group_id = $1 AND source = ''
        AND 'partition:' || topic || '[' || CAST(\"partition\" AS TEXT) || ']' = $2";
    session.execute(&Statement::fixed("forgetting what was undone", sql, vec![text(group), text(scope)])).await.map(drop)
}
