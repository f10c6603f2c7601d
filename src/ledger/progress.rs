//! How far each partition is durable in this database, and under which epoch; and to whom the ledger belongs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Epoch, Owner, cell, number, some, text};
use crate::change::{NextOffset, TopicPartition};
use crate::sink::statement::{Bind, Dialect, over_list};
use crate::sink::{Database, Session, SinkError, Statement};

/// The next offset of a partition that a person has released after a gap, until it is taken: then it goes on at the topic's beginning.
pub const ANEW: NextOffset = NextOffset(-1);

/// What the ledger says of a partition when it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The new epoch.
    pub epoch: Epoch,
    /// Where this database goes on.
    pub next: NextOffset,
    /// The fingerprint of the record before it, if it is known.
    pub last: Option<String>,
}

/// How far a partition is durable with a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The epoch under which it is moved.
    pub epoch: Epoch,
    /// Where it goes on.
    pub next: NextOffset,
    /// The fingerprint of the record before it.
    pub last: Option<String>,
}

/// Takes a partition over: raises its epoch, so that whoever held it can commit nothing more, and says where this database goes on. A partition
/// that the ledger has not seen, or that was released after a gap, starts at `first`. Workers of the group that run other rules are fenced with it (H77).
///
/// # Errors
/// Those of the database.
pub async fn take(session: &mut dyn Session, owner: &Owner, partition: &TopicPartition, first: NextOffset) -> Result<Taken, SinkError> {
    let what = "taking a partition over in the ledger";
    let sql = "INSERT INTO entail_progress AS p (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ($1, $2, $3, 1, $4, $5)
        ON CONFLICT (group_id, topic, \"partition\") DO UPDATE SET epoch = p.epoch + 1, rules = excluded.rules, updated_at = CURRENT_TIMESTAMP,
            next_offset = CASE WHEN p.next_offset = $6 THEN excluded.next_offset ELSE p.next_offset END,
            last_record = CASE WHEN p.next_offset = $6 THEN NULL ELSE p.last_record END
        RETURNING CAST(epoch AS TEXT), CAST(next_offset AS TEXT), last_record";
    let binds = vec![
        text(&owner.group),
        text(&*partition.topic),
        Bind::Int(i64::from(partition.partition)),
        Bind::Int(first.0),
        text(&owner.rules),
        Bind::Int(ANEW.0),
    ];
    let rows = session.query(&Statement::fixed(what, sql, binds)).await?;
    let row =
        rows.first().ok_or_else(|| SinkError::Answer { what: what.to_owned(), expected: "one row".to_owned(), got: "none".to_owned() })?;
    let last = row.get(2).cloned().flatten();
    let taken = Taken { epoch: Epoch(number(what, row, 0)?), next: NextOffset(number(what, row, 1)?), last };
    let sql = "UPDATE entail_progress SET rules = $2 WHERE group_id = $1 AND rules <> $2";
    session.execute(&Statement::fixed("announcing the rules in the ledger", sql, vec![text(&owner.group), text(&owner.rules)])).await?;
    Ok(taken)
}

/// The next offsets that this database holds, per partition.
///
/// # Errors
/// Those of the database.
pub async fn progress(database: &dyn Database, group: &str) -> Result<BTreeMap<TopicPartition, NextOffset>, SinkError> {
    let what = "reading the ledger's progress";
    let sql = "SELECT topic, CAST(\"partition\" AS TEXT), CAST(next_offset AS TEXT) FROM entail_progress WHERE group_id = $1";
    let rows = database.read(&Statement::fixed(what, sql, vec![text(group)])).await?;
    let mut progress = BTreeMap::new();
    for row in &rows {
        let partition = i32::try_from(number(what, row, 1)?).unwrap_or(i32::MAX);
        progress.insert(TopicPartition { topic: Arc::from(cell(row, 0)), partition }, NextOffset(number(what, row, 2)?));
    }
    Ok(progress)
}

/// Moves partitions forward, as the last statement of the transaction. Never back. No row updated means that the partition or the group's rules
/// belong to another worker by now.
///
/// # Errors
/// [`SinkError::Fenced`], [`SinkError::OtherRules`], or those of the database.
pub async fn advance(
    session: &mut dyn Session,
    dialect: Dialect,
    database: &str,
    owner: &Owner,
    steps: &BTreeMap<TopicPartition, Reached>,
) -> Result<(), SinkError> {
    let sql = "UPDATE entail_progress AS p SET updated_at = CURRENT_TIMESTAMP,
            next_offset = CASE WHEN p.next_offset < CAST({c3} AS bigint) THEN CAST({c3} AS bigint) ELSE p.next_offset END,
            last_record = CASE WHEN p.next_offset < CAST({c3} AS bigint) THEN {c4} ELSE p.last_record END
        FROM {list} WHERE p.group_id = $1 AND p.rules = $2 AND p.topic = {c0} AND p.\"partition\" = CAST({c1} AS bigint)
            AND p.epoch = CAST({c2} AS bigint)";
    let columns = vec![
        some(steps.keys().map(|partition| &*partition.topic)),
        some(steps.keys().map(|partition| partition.partition.to_string())),
        some(steps.values().map(|reached| reached.epoch.0.to_string())),
        some(steps.values().map(|reached| reached.next.0.to_string())),
        steps.values().map(|reached| reached.last.clone()).collect(),
    ];
    let binds_of_owner = vec![text(&owner.group), text(&owner.rules)];
    let Some(statement) = over_list(dialect, "advancing the ledger", sql, columns, binds_of_owner.clone()) else { return Ok(()) };
    let touched = session.execute(&statement).await?;
    if usize::try_from(touched).ok() == Some(steps.len()) {
        return Ok(());
    }
    let sql = "SELECT topic FROM entail_progress WHERE group_id = $1 AND rules <> $2";
    if !session.query(&Statement::fixed("comparing the rules with the ledger's", sql, binds_of_owner)).await?.is_empty() {
        return Err(SinkError::OtherRules { database: database.to_owned() });
    }
    let partition = steps.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(SinkError::Fenced { database: database.to_owned(), partition })
}

/// Pins an identity at first sight; afterwards returns the one that is pinned (H50, H67).
///
/// # Errors
/// Those of the database.
pub async fn pin_identity(session: &mut dyn Session, group: &str, name: &str, identity: &str) -> Result<String, SinkError> {
    let sql = "INSERT INTO entail_identity (group_id, name, identity) VALUES ($1, $2, $3) ON CONFLICT (group_id, name) DO NOTHING";
    session.execute(&Statement::fixed("pinning an identity", sql, vec![text(group), text(name), text(identity)])).await?;
    let sql = "SELECT identity FROM entail_identity WHERE group_id = $1 AND name = $2";
    let rows = session.query(&Statement::fixed("reading a pinned identity", sql, vec![text(group), text(name)])).await?;
    Ok(rows.first().map(|row| cell(row, 0).to_owned()).unwrap_or_default())
}

/// What is kept under a name, if anything is.
///
/// # Errors
/// Those of the database.
pub async fn identity(database: &dyn Database, group: &str, name: &str) -> Result<Option<String>, SinkError> {
    let sql = "SELECT identity FROM entail_identity WHERE group_id = $1 AND name = $2";
    let rows = database.read(&Statement::fixed("reading what is kept of a database", sql, vec![text(group), text(name)])).await?;
    Ok(rows.first().map(|row| cell(row, 0).to_owned()))
}

/// Keeps under a name what a database says of itself now, and returns what was kept before.
///
/// # Errors
/// Those of the database.
pub async fn renew_identity(session: &mut dyn Session, group: &str, name: &str, now: &str) -> Result<String, SinkError> {
    let before = pin_identity(session, group, name, now).await?;
    if before != now {
        let sql = "UPDATE entail_identity SET identity = $3 WHERE group_id = $1 AND name = $2";
        session.execute(&Statement::fixed("renewing an identity", sql, vec![text(group), text(name), text(now)])).await?;
    }
    Ok(before)
}

/// Keeps something else under a name, unless somebody has done so since it was read.
///
/// # Errors
/// Those of the database.
pub async fn replace_identity(session: &mut dyn Session, group: &str, name: &str, known: Option<&str>, now: &str) -> Result<(), SinkError> {
    let Some(known) = known else { return pin_identity(session, group, name, now).await.map(drop) };
    let sql = "UPDATE entail_identity SET identity = $3 WHERE group_id = $1 AND name = $2 AND identity = $4";
    let values = vec![text(group), text(name), text(now), text(known)];
    session.execute(&Statement::fixed("renewing an identity", sql, values)).await.map(drop)
}
