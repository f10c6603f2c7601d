//! The bookkeeping tables in each target database: types, and the SQL that reads and writes them.
//!
//! Written in the transaction of the rows, by the worker that holds the epoch. One SQL text serves both dialects; what differs is in
//! `statement`. Documented for operators in `migrations/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::change::{NextOffset, Position, SourcePosition, TopicPartition};
use crate::plan::{Move, MoveState};
use crate::sink::statement::{Bind, Dialect, over_list};
use crate::sink::{Database, Row, Session, SinkError, Statement};
use crate::value::{Cell, Key};

/// The version of a partition's ownership: an older one can commit nothing (H31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// Whose ledger: every table is keyed by the consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The consumer group.
    pub group: String,
    /// Fingerprint of the rules that this worker runs.
    pub rules: String,
}

/// What the ledger says of a partition when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The new epoch.
    pub epoch: Epoch,
    /// Where this database goes on.
    pub next: NextOffset,
}

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

/// A latch that is shut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Latch {
    /// `reference:NAME` or `partition:TOPIC[N]`.
    pub scope: String,
    /// Why, in one word.
    pub reason: String,
    /// More about it, for a person.
    pub detail: String,
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// The cascade.
    pub cascade: String,
    /// The reference by which the rows were reached.
    pub reference: String,
    /// What was done.
    pub action: &'static str,
    /// How many rows.
    pub rows: u64,
    /// The root's entity.
    pub root_entity: String,
    /// The root's key.
    pub root_key: Key,
    /// The record that brought it.
    pub cause: Position,
}

/// The position up to which a copied row is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// The row's key.
    pub key: Key,
    /// The event it was written from, if that had a position.
    pub source: Option<SourcePosition>,
    /// The row was deleted at that position.
    pub gone: bool,
}

/// A key as it stands in the ledger: a JSON list of texts.
#[must_use]
pub fn key_text(key: &Key) -> String {
    serde_json::to_string(key.parts()).expect("texts are always JSON")
}

fn list_text(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts are always JSON")
}

fn read_list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}

fn read_key(text: &str) -> Option<Key> {
    let cells: Vec<Cell> = read_list(text).into_iter().map(Cell::Value).collect();
    Key::from_cells(&cells)
}

fn source_text(source: Option<&SourcePosition>) -> String {
    source.map(ToString::to_string).unwrap_or_default()
}

fn read_source(text: &str) -> Option<SourcePosition> {
    text.parse().ok()
}

fn text(value: impl Into<String>) -> Bind {
    Bind::Text(Some(value.into()))
}

fn int(value: u64) -> Bind {
    Bind::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn some<T: Into<String>>(values: impl IntoIterator<Item = T>) -> Vec<Option<String>> {
    values.into_iter().map(|value| Some(value.into())).collect()
}

fn cell(row: &Row, index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

fn number(what: &str, row: &Row, index: usize) -> Result<i64, SinkError> {
    cell(row, index).parse().map_err(|_| SinkError::Answer {
        what: what.to_owned(),
        expected: "a whole number".to_owned(),
        got: "something else".to_owned(),
    })
}

/// Takes a partition over: raises its epoch, so that whoever held it can commit nothing more, and says where this database goes on. A partition
/// that the ledger has not seen starts at `first`. Workers of the group that run other rules are fenced with it (H77).
///
/// # Errors
/// Those of the database.
pub async fn take(session: &mut dyn Session, owner: &Owner, partition: &TopicPartition, first: NextOffset) -> Result<Taken, SinkError> {
    let what = "taking a partition over in the ledger";
    let sql = "INSERT INTO entail_progress AS p (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ($1, $2, $3, 1, $4, $5)
        ON CONFLICT (group_id, topic, \"partition\") DO UPDATE SET epoch = p.epoch + 1, rules = excluded.rules, updated_at = CURRENT_TIMESTAMP
        RETURNING CAST(epoch AS TEXT), CAST(next_offset AS TEXT)";
    let binds = vec![
        text(&owner.group),
        text(&*partition.topic),
        Bind::Int(i64::from(partition.partition)),
        Bind::Int(first.0),
        text(&owner.rules),
    ];
    let rows = session.query(&Statement::fixed(what, sql, binds)).await?;
    let row =
        rows.first().ok_or_else(|| SinkError::Answer { what: what.to_owned(), expected: "one row".to_owned(), got: "none".to_owned() })?;
    let taken = Taken { epoch: Epoch(number(what, row, 0)?), next: NextOffset(number(what, row, 1)?) };
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
    steps: &BTreeMap<TopicPartition, (Epoch, NextOffset)>,
) -> Result<(), SinkError> {
    let sql = "UPDATE entail_progress AS p SET updated_at = CURRENT_TIMESTAMP,
            next_offset = CASE WHEN p.next_offset < CAST({c3} AS bigint) THEN CAST({c3} AS bigint) ELSE p.next_offset END
        FROM {list} WHERE p.group_id = $1 AND p.rules = $2 AND p.topic = {c0} AND p.\"partition\" = CAST({c1} AS bigint)
            AND p.epoch = CAST({c2} AS bigint)";
    let columns = vec![
        some(steps.keys().map(|partition| &*partition.topic)),
        some(steps.keys().map(|partition| partition.partition.to_string())),
        some(steps.values().map(|(epoch, _)| epoch.0.to_string())),
        some(steps.values().map(|(_, next)| next.0.to_string())),
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

/// Whether the ledger is there, in this program's version.
///
/// # Errors
/// [`SinkError::NoLedger`], or those of the database.
pub async fn exists(database: &dyn Database, name: &str) -> Result<(), SinkError> {
    let sql = "SELECT CAST(max(version) AS TEXT) FROM entail_migrations WHERE success";
    let version = match database.read(&Statement::fixed("reading the ledger's version", sql, Vec::new())).await {
        Ok(rows) => rows.first().map(|row| cell(row, 0).to_owned()).unwrap_or_default(),
        Err(SinkError::Database { fault: crate::sink::Fault::UnknownObject, .. }) => String::new(),
        Err(other) => return Err(other),
    };
    if version == "1" { Ok(()) } else { Err(SinkError::NoLedger { database: name.to_owned() }) }
}

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

/// Shuts latches. One that is shut already keeps its first reason.
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
    execute(session, over_list(dialect, "shutting latches", sql, columns, vec![text(group)])).await
}

/// Opens a latch. Returns whether it was shut.
///
/// # Errors
/// Those of the database.
pub async fn release(session: &mut dyn Session, group: &str, scope: &str) -> Result<bool, SinkError> {
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

/// Pending roots of these partitions, oldest first, at most `limit`.
///
/// # Errors
/// Those of the database.
pub async fn pending(
    database: &dyn Database,
    group: &str,
    partitions: &BTreeSet<TopicPartition>,
    limit: u64,
) -> Result<Vec<Pending>, SinkError> {
    let sql = "SELECT entity, columns, root_key, reason, detail, kind, topic, CAST(\"partition\" AS TEXT), CAST(\"offset\" AS TEXT),
            CAST(known_partition AS TEXT), source
        FROM entail_pending WHERE group_id = $1 AND (topic, \"partition\") IN (SELECT {c0}, CAST({c1} AS bigint) FROM {list})
        ORDER BY since, \"offset\" LIMIT $2";
    let columns = vec![some(partitions.iter().map(|one| &*one.topic)), some(partitions.iter().map(|one| one.partition.to_string()))];
    let what = "reading pending roots";
    let Some(statement) = over_list(database.dialect(), what, sql, columns, vec![text(group), int(limit)]) else { return Ok(Vec::new()) };
    let rows = database.read(&statement).await?;
    rows.iter().filter_map(|row| read_pending(what, row).transpose()).collect()
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
    let sql = "SELECT entity, columns, root_key, reason, detail, kind, topic, CAST(\"partition\" AS TEXT), CAST(\"offset\" AS TEXT),
            CAST(known_partition AS TEXT), source
        FROM entail_pending WHERE group_id = $1 AND entity = $2 AND root_key IN (SELECT {c0} FROM {list})";
    let columns = vec![some(keys.iter().map(key_text))];
    let Some(statement) = over_list(dialect, what, sql, columns, vec![text(group), text(entity)]) else { return Ok(Vec::new()) };
    let rows = session.query(&statement).await?;
    rows.iter().filter_map(|row| read_pending(what, row).transpose()).collect()
}

/// Notes key changes. One that is known keeps its state.
///
/// # Errors
/// Those of the database.
pub async fn note_moves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    moves: &[(Move, Position)],
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_moves (group_id, entity, old_key, new_key, source, cause, state)
        SELECT $1, $2, {c0}, {c1}, {c2}, {c3}, {c4} FROM {list} WHERE true
        ON CONFLICT (group_id, entity, old_key, new_key, source) DO NOTHING";
    let columns = vec![
        some(moves.iter().map(|(one, _)| key_text(&one.from))),
        some(moves.iter().map(|(one, _)| one.to.as_ref().map(key_text).unwrap_or_default())),
        some(moves.iter().map(|(one, _)| source_text(one.source.as_ref()))),
        some(moves.iter().map(|(_, cause)| cause.to_string())),
        some(moves.iter().map(|(one, _)| state_text(one.state))),
    ];
    execute(session, over_list(dialect, "noting key changes", sql, columns, vec![text(group), text(entity)])).await
}

/// Brings the key changes of these old keys from one state to another.
///
/// # Errors
/// Those of the database.
pub async fn set_moves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    keys: &[Key],
    states: (MoveState, MoveState),
) -> Result<(), SinkError> {
    let sql =
        "UPDATE entail_moves SET state = $4 WHERE group_id = $1 AND entity = $2 AND state = $3 AND old_key IN (SELECT {c0} FROM {list})";
    let columns = vec![some(keys.iter().map(key_text))];
    let binds = vec![text(group), text(entity), text(state_text(states.0)), text(state_text(states.1))];
    execute(session, over_list(dialect, "updating key changes", sql, columns, binds)).await
}

/// Known key changes of an entity that touch one of these keys, at either end.
///
/// # Errors
/// Those of the database.
pub async fn moves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    keys: &BTreeSet<Key>,
) -> Result<Vec<Move>, SinkError> {
    let sql = "SELECT old_key, new_key, source, state FROM entail_moves WHERE group_id = $1 AND entity = $2
        AND (old_key IN (SELECT {c0} FROM {list}) OR new_key IN (SELECT {c0} FROM {list}))";
    let columns = vec![some(keys.iter().map(key_text))];
    let Some(statement) = over_list(dialect, "reading key changes", sql, columns, vec![text(group), text(entity)]) else {
        return Ok(Vec::new());
    };
    let rows = session.query(&statement).await?;
    Ok(rows.iter().filter_map(read_move).collect())
}

fn read_move(row: &Row) -> Option<Move> {
    let state = [MoveState::Open, MoveState::Done, MoveState::Superseded].into_iter().find(|state| state_text(*state) == cell(row, 3))?;
    Some(Move { from: read_key(cell(row, 0))?, to: read_key(cell(row, 1)), source: read_source(cell(row, 2)), state })
}

fn state_text(state: MoveState) -> &'static str {
    match state {
        MoveState::Open => "open",
        MoveState::Done => "done",
        MoveState::Superseded => "superseded",
    }
}

/// Writes the audit. The rows of a cascade that goes on add up.
///
/// # Errors
/// Those of the database.
pub async fn audit(session: &mut dyn Session, dialect: Dialect, group: &str, lines: &[AuditLine]) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_cascades (group_id, cascade_id, reference, action, \"rows\", root_entity, root_key, cause)
        SELECT $1, {c0}, {c1}, {c2}, CAST({c3} AS bigint), {c4}, {c5}, {c6} FROM {list} WHERE true
        ON CONFLICT (cascade_id, reference, action) DO UPDATE SET \"rows\" = entail_cascades.\"rows\" + excluded.\"rows\", at = CURRENT_TIMESTAMP";
    let columns = vec![
        some(lines.iter().map(|line| &line.cascade)),
        some(lines.iter().map(|line| &line.reference)),
        some(lines.iter().map(|line| line.action)),
        some(lines.iter().map(|line| line.rows.to_string())),
        some(lines.iter().map(|line| &line.root_entity)),
        some(lines.iter().map(|line| key_text(&line.root_key))),
        some(lines.iter().map(|line| line.cause.to_string())),
    ];
    execute(session, over_list(dialect, "writing the audit", sql, columns, vec![text(group)])).await
}

/// Keeps the column list of a table's shape.
///
/// # Errors
/// Those of the database.
pub async fn note_shape(session: &mut dyn Session, shape: &str, entity: &str, columns: &str) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_shapes (shape, entity, columns) VALUES ($1, $2, $3) ON CONFLICT (shape) DO NOTHING";
    let binds = vec![text(shape), text(entity), text(columns)];
    session.execute(&Statement::fixed("noting a table's shape", sql, binds)).await.map(drop)
}

/// How far copied rows are known, for these keys.
///
/// # Errors
/// Those of the database.
pub async fn replica_rows(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    replica: &str,
    keys: &[Key],
) -> Result<BTreeMap<Key, ReplicaRow>, SinkError> {
    let lock = if dialect == Dialect::Postgres { " FOR UPDATE" } else { "" };
    let sql = format!(
        "SELECT row_key, source, CAST(gone AS TEXT) FROM entail_replica_rows
        WHERE group_id = $1 AND replica = $2 AND row_key IN (SELECT {{c0}} FROM {{list}}){lock}"
    );
    let columns = vec![some(keys.iter().map(key_text))];
    let binds = vec![text(group), text(replica)];
    let Some(statement) = over_list(dialect, "reading positions of copied rows", &sql, columns, binds) else { return Ok(BTreeMap::new()) };
    let rows = session.query(&statement).await?;
    let read = |row: &Row| {
        let key = read_key(cell(row, 0))?;
        Some((key.clone(), ReplicaRow { key, source: read_source(cell(row, 1)), gone: cell(row, 2) == "1" }))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Notes how far copied rows are known now.
///
/// # Errors
/// Those of the database.
pub async fn note_replica_rows(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    replica: &str,
    rows: &[ReplicaRow],
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_replica_rows (group_id, replica, row_key, source, gone)
        SELECT $1, $2, {c0}, {c1}, CAST({c2} AS bigint) FROM {list} WHERE true
        ON CONFLICT (group_id, replica, row_key) DO UPDATE SET source = excluded.source, gone = excluded.gone";
    let columns = vec![
        some(rows.iter().map(|row| key_text(&row.key))),
        some(rows.iter().map(|row| source_text(row.source.as_ref()))),
        some(rows.iter().map(|row| if row.gone { "1" } else { "0" })),
    ];
    execute(session, over_list(dialect, "noting positions of copied rows", sql, columns, vec![text(group), text(replica)])).await
}

/// Forgets what is older than it need be: row images past their time, key changes that are done.
///
/// # Errors
/// Those of the database.
pub async fn expire(session: &mut dyn Session, dialect: Dialect, group: &str, keep: std::time::Duration) -> Result<(), SinkError> {
    let (archived, moved) = match dialect {
        Dialect::Postgres => (
            "archived_at < CURRENT_TIMESTAMP - make_interval(secs => CAST(keep_seconds AS double precision))",
            "at < CURRENT_TIMESTAMP - make_interval(secs => CAST($2 AS double precision))",
        ),
        Dialect::Sqlite => {
            ("unixepoch(archived_at) < unixepoch(CURRENT_TIMESTAMP) - keep_seconds", "unixepoch(at) < unixepoch(CURRENT_TIMESTAMP) - $2")
        }
    };
    let sql = format!("DELETE FROM entail_archive WHERE group_id = $1 AND {archived}");
    session.execute(&Statement::fixed("expiring the archive", &sql, vec![text(group)])).await?;
    let sql = format!("DELETE FROM entail_moves WHERE group_id = $1 AND state <> 'open' AND {moved}");
    session.execute(&Statement::fixed("expiring key changes", &sql, vec![text(group), int(keep.as_secs())])).await?;
    Ok(())
}

async fn execute(session: &mut dyn Session, statement: Option<Statement>) -> Result<(), SinkError> {
    match statement {
        Some(statement) => session.execute(&statement).await.map(drop),
        None => Ok(()),
    }
}
