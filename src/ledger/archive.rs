//! The archive as undo reads it: which cascades there were, and their rows.

use std::sync::Arc;
use std::time::Duration;

use super::{cell, int, number, query, read_key, some, text};
use crate::change::{NextOffset, Position, TopicPartition};
use crate::sink::statement::{Bind, Dialect, over_list};
use crate::sink::{Database, Row, Session, SinkError, Statement};
use crate::value::Key;

/// Which cascades are meant. What is `None` or empty does not restrict; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These ids.
    pub cascades: Vec<String>,
    /// That began at this entity's row.
    pub root: Option<(String, Key)>,
    /// That changed rows in the last so many seconds, by the database's clock.
    pub since: Option<Duration>,
    /// That went through this reference.
    pub reference: Option<String>,
}

/// A line of the audit, as a person is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The cascade.
    pub cascade: String,
    /// The references by which rows were reached, joined by `, `.
    pub reference: String,
    /// What was done.
    pub action: String,
    /// How many rows.
    pub rows: u64,
    /// The root's entity.
    pub root_entity: String,
    /// The parent's columns by which it is known; empty for a cascade of an older release.
    pub root_columns: Vec<String>,
    /// The root's key.
    pub root_key: Option<Key>,
    /// The record that brought it, as topic\[partition\]@offset.
    pub cause: String,
    /// When, by the database's clock.
    pub at: String,
}

/// An archived row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its number in the archive.
    pub id: i64,
    /// The cascade that took it.
    pub cascade: String,
    /// Its entity.
    pub entity: String,
    /// The references by which it was reached.
    pub reference: String,
    /// Whether the row was removed, and not merely changed.
    pub is_removed: bool,
    /// Its key.
    pub key: Option<Key>,
    /// The column list of the image, as JSON.
    pub columns: String,
    /// The row as it was.
    pub image: String,
    /// What it became, with its key, if it was changed.
    pub after: Option<(String, Key)>,
}

impl Archived {
    /// The keys that the row had.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.key.iter().chain(self.after.as_ref().map(|(_, key)| key))
    }
}

/// The lines of the audit that fit a choice.
///
/// # Errors
/// Those of the database.
pub async fn cascades(database: &dyn Database, group: &str, choice: &Choice) -> Result<Vec<Told>, SinkError> {
    let what = "reading the audit";
    let mut sql =
        "SELECT c.cascade_id, c.reference, c.action, CAST(c.\"rows\" AS TEXT), c.root_entity, c.root_key, c.cause, CAST(c.at AS TEXT),
            c.root_columns FROM {from} WHERE c.group_id = $1 AND c.action <> 'undo'"
            .to_owned();
    let mut binds = vec![text(group)];
    let mut bind = |bind: Bind| {
        binds.push(bind);
        format!("${}", binds.len())
    };
    if let Some((entity, key)) = &choice.root {
        sql += &format!(" AND c.root_entity = {} AND c.root_key = {}", bind(text(entity)), bind(text(super::key_text(key))));
    }
    if let Some(since) = choice.since {
        let seconds = bind(int(since.as_secs()));
        sql += &match database.dialect() {
            Dialect::Postgres => format!(" AND c.at >= CURRENT_TIMESTAMP - make_interval(secs => CAST({seconds} AS double precision))"),
            Dialect::Sqlite => format!(" AND unixepoch(c.at) >= unixepoch(CURRENT_TIMESTAMP) - {seconds}"),
        };
    }
    if let Some(reference) = &choice.reference {
        let name = bind(text(reference));
        // The references that reached a row stand in one text.
        let listed = match database.dialect() {
            Dialect::Postgres => format!("{name} = ANY(string_to_array(r.reference, ', '))"),
            Dialect::Sqlite => format!("instr(', ' || r.reference || ', ', ', ' || {name} || ', ') > 0"),
        };
        sql +=
            &format!(" AND EXISTS (SELECT 1 FROM entail_cascades AS r WHERE r.cascade_id = c.cascade_id AND r.group_id = $1 AND {listed})");
    }
    let order = " ORDER BY c.at, c.cascade_id, c.reference";
    let rows = if choice.cascades.is_empty() {
        let sql = sql.replace("{from}", "entail_cascades AS c") + order;
        database.read(&Statement::fixed(what, &sql, binds)).await?
    } else {
        let sql = sql.replace("{from}", "{list} JOIN entail_cascades AS c ON c.cascade_id = {c0}") + order;
        let Some(statement) = over_list(database.dialect(), what, &sql, vec![some(choice.cascades.iter())], binds) else {
            return Ok(Vec::new());
        };
        database.read(&statement).await?
    };
    rows.iter().map(|row| told(what, row)).collect()
}

fn told(what: &str, row: &Row) -> Result<Told, SinkError> {
    Ok(Told {
        cascade: cell(row, 0).to_owned(),
        reference: cell(row, 1).to_owned(),
        action: cell(row, 2).to_owned(),
        rows: u64::try_from(number(what, row, 3)?).unwrap_or(0),
        root_entity: cell(row, 4).to_owned(),
        root_key: read_key(cell(row, 5)),
        cause: cell(row, 6).to_owned(),
        at: cell(row, 7).to_owned(),
        root_columns: super::read_list(cell(row, 8)),
    })
}

/// A row that a cascade took away from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uprooted {
    /// Its number in the archive.
    pub id: i64,
    /// Its entity.
    pub entity: String,
    /// Its key, as it stands in the ledger.
    key: String,
    /// When its transaction began, in microseconds since 1970, by the database's clock.
    at: i64,
}

/// How far a database's clock is ahead of ours, in microseconds.
///
/// # Errors
/// Those of the database.
pub async fn clock(database: &dyn Database) -> Result<i64, SinkError> {
    let what = "reading the clock";
    let now = match database.dialect() {
        Dialect::Postgres => "clock_timestamp()",
        // The clock of this machine.
        Dialect::Sqlite => return Ok(0),
    };
    let ours = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros());
    let before = ours();
    let rows =
        database.read(&Statement::fixed(what, &format!("SELECT CAST({} AS TEXT)", micros(Dialect::Postgres, now)), Vec::new())).await?;
    let middle = i64::try_from(before.midpoint(ours())).unwrap_or(i64::MAX);
    rows.first().map_or(Ok(0), |row| Ok(number(what, row, 0)?.saturating_sub(middle)))
}

/// Rows of these entities that these cascades took away from their keys, above a number, at most so many.
///
/// # Errors
/// Those of the database.
pub async fn uprooted(
    database: &dyn Database,
    group: &str,
    cascades: &[String],
    entities: &[String],
    above: i64,
    limit: u32,
) -> Result<Vec<Uprooted>, SinkError> {
    let what = "reading the archive";
    let at = micros(database.dialect(), "a.archived_at");
    let mut binds = vec![text(group), Bind::Int(above), int(u64::from(limit))];
    let Some(entities) = any_of(&mut binds, "a.entity", entities) else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT CAST(a.id AS TEXT), a.entity, a.row_key, CAST({at} AS TEXT) FROM entail_archive AS a WHERE a.group_id = $1 AND a.id > $2
        AND (a.action = 'delete' OR a.after_key <> a.row_key) AND a.cascade_id IN (SELECT {{c0}} FROM {{list}}) AND {entities} ORDER BY a.id LIMIT $3"
    );
    let Some(statement) = over_list(database.dialect(), what, &sql, vec![some(cascades.iter())], binds) else { return Ok(Vec::new()) };
    let read = |row: &Row| {
        let (entity, key) = (cell(row, 1).to_owned(), cell(row, 2).to_owned());
        Ok(Uprooted { id: number(what, row, 0)?, entity, key, at: number(what, row, 3)? })
    };
    database.read(&statement).await?.iter().map(read).collect()
}

/// The cascades that began at rows which were taken, after they were. `ahead`: how far this database's clock is ahead of the one that took them.
///
/// # Errors
/// Those of the database.
pub async fn cascades_below(database: &dyn Database, group: &str, rows: &[Uprooted], ahead: i64) -> Result<Vec<String>, SinkError> {
    let at = micros(database.dialect(), "c.at");
    let sql = format!(
        "SELECT DISTINCT c.cascade_id FROM {{list}} JOIN entail_cascades AS c ON c.root_entity = {{c0}} AND c.root_key = {{c1}}
        WHERE c.group_id = $1 AND {at} >= CAST({{c2}} AS bigint)"
    );
    let columns = vec![
        some(rows.iter().map(|row| &row.entity)),
        some(rows.iter().map(|row| &row.key)),
        some(rows.iter().map(|row| row.at.saturating_add(ahead).to_string())),
    ];
    let Some(statement) = over_list(database.dialect(), "reading the audit", &sql, columns, vec![text(group)]) else {
        return Ok(Vec::new());
    };
    Ok(database.read(&statement).await?.iter().map(|row| cell(row, 0).to_owned()).collect())
}

/// A moment of the database's as whole microseconds since 1970. SQLite's moments are whole seconds.
fn micros(dialect: Dialect, moment: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("CAST(extract(epoch FROM {moment}) * 1000000 AS bigint)"),
        Dialect::Sqlite => format!("(unixepoch({moment}) * 1000000)"),
    }
}

/// A condition that a column is one of these texts; `None` for none.
fn any_of(binds: &mut Vec<Bind>, column: &str, texts: &[String]) -> Option<String> {
    let mut one = |value: &String| {
        binds.push(text(value));
        format!("{column} = ${}", binds.len())
    };
    let conditions: Vec<String> = texts.iter().map(&mut one).collect();
    (!conditions.is_empty()).then(|| format!("({})", conditions.join(" OR ")))
}

/// Numbers of archived rows of these cascades and entities that are not put back yet: the youngest first, below a number, at most so many.
///
/// # Errors
/// Those of the database.
pub async fn left_to_undo(
    database: &dyn Database,
    group: &str,
    cascades: &[String],
    entities: &[String],
    below: i64,
    limit: u32,
) -> Result<Vec<i64>, SinkError> {
    let what = "reading the archive";
    let mut binds = vec![text(group), Bind::Int(below), int(u64::from(limit))];
    let Some(entities) = any_of(&mut binds, "a.entity", entities) else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT CAST(a.id AS TEXT) FROM entail_archive AS a WHERE a.group_id = $1 AND a.undone_at IS NULL AND a.action IN ('delete', 'update')
        AND a.id < $2 AND a.cascade_id IN (SELECT {{c0}} FROM {{list}}) AND {entities} ORDER BY a.id DESC LIMIT $3"
    );
    let Some(statement) = over_list(database.dialect(), what, &sql, vec![some(cascades.iter())], binds) else { return Ok(Vec::new()) };
    database.read(&statement).await?.iter().map(|row| number(what, row, 0)).collect()
}

/// These archived rows, the youngest first, under lock; those that were put back meanwhile are left out.
///
/// # Errors
/// Those of the database.
pub async fn archived(session: &mut dyn Session, dialect: Dialect, ids: &[i64]) -> Result<Vec<Archived>, SinkError> {
    let what = "reading the archive";
    let lock = if dialect == Dialect::Postgres { " FOR UPDATE OF a" } else { "" };
    let sql = format!(
        "SELECT CAST(a.id AS TEXT), a.cascade_id, a.entity, a.reference, a.action, a.row_key, s.columns, a.image, a.after, a.after_key
        FROM {{list}} JOIN entail_archive AS a ON a.id = CAST({{c0}} AS bigint) JOIN entail_shapes AS s ON s.shape = a.shape
        WHERE a.undone_at IS NULL ORDER BY a.id DESC{lock}"
    );
    let statement = over_list(dialect, what, &sql, vec![some(ids.iter().map(ToString::to_string))], Vec::new());
    let rows = query(session, statement).await?;
    let read = |row: &Row| {
        let after = row.get(8).cloned().flatten();
        Ok(Archived {
            id: number(what, row, 0)?,
            cascade: cell(row, 1).to_owned(),
            entity: cell(row, 2).to_owned(),
            reference: cell(row, 3).to_owned(),
            is_removed: cell(row, 4) == "delete",
            key: read_key(cell(row, 5)),
            columns: cell(row, 6).to_owned(),
            image: cell(row, 7).to_owned(),
            after: after.zip(read_key(cell(row, 9))),
        })
    };
    rows.iter().map(read).collect()
}

/// Of these keys of an entity, those whose rows the same cascades removed and which are not put back yet.
///
/// # Errors
/// Those of the database.
pub async fn removed_too(
    session: &mut dyn Session,
    dialect: Dialect,
    cascades: &[String],
    entity: &str,
    keys: &[&Key],
) -> Result<Vec<Key>, SinkError> {
    let sql = "SELECT DISTINCT a.row_key FROM {list} JOIN entail_archive AS a ON a.entity = $1 AND a.row_key = {c0}
        WHERE a.action = 'delete' AND a.undone_at IS NULL AND a.cascade_id IN (SELECT value FROM {cascades})";
    let (from, bind) = match dialect {
        Dialect::Postgres => ("unnest($2::text[]) AS value", Bind::Texts(some(cascades.iter()))),
        Dialect::Sqlite => ("json_each($2)", Bind::Texts(some(cascades.iter()))),
    };
    let sql = sql.replace("{cascades}", from);
    let statement =
        over_list(dialect, "reading the archive", &sql, vec![some(keys.iter().map(|key| super::key_text(key)))], vec![text(entity), bind]);
    Ok(query(session, statement).await?.iter().filter_map(|row| read_key(cell(row, 0))).collect())
}

/// Notes that archived rows were put back, in the transaction that does so, and says so in the audit.
///
/// # Errors
/// Those of the database.
pub async fn mark_undone(session: &mut dyn Session, dialect: Dialect, rows: &[&Archived]) -> Result<(), SinkError> {
    let ids = || some(rows.iter().map(|row| row.id.to_string()));
    let sql = "UPDATE entail_archive SET undone_at = CURRENT_TIMESTAMP WHERE id IN (SELECT CAST({c0} AS bigint) FROM {list})";
    super::execute(session, over_list(dialect, "noting what was put back", sql, vec![ids()], Vec::new())).await?;
    let sql = "INSERT INTO entail_cascades (group_id, cascade_id, reference, action, \"rows\", root_entity, root_key, cause, root_columns)
        SELECT c.group_id, c.cascade_id, c.reference, 'undo', count(*), c.root_entity, c.root_key, c.cause, c.root_columns
        FROM {list} JOIN entail_archive AS a ON a.id = CAST({c0} AS bigint)
            JOIN entail_cascades AS c ON c.cascade_id = a.cascade_id AND c.reference = a.reference AND c.action = a.action
        GROUP BY c.group_id, c.cascade_id, c.reference, c.root_entity, c.root_key, c.cause, c.root_columns
        ON CONFLICT (cascade_id, reference, action) DO UPDATE SET \"rows\" = entail_cascades.\"rows\" + excluded.\"rows\", at = CURRENT_TIMESTAMP";
    super::execute(session, over_list(dialect, "writing the audit", sql, vec![ids()], Vec::new())).await
}

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
    /// What stands there at this offset and above is news.
    pub below: NextOffset,
}

/// Marks the roots of cascades that are undone: what the group has read of them by now does not cascade again.
///
/// # Errors
/// Those of the database.
pub async fn spare(session: &mut dyn Session, dialect: Dialect, group: &str, cascades: &[Told]) -> Result<(), SinkError> {
    let roots: Vec<(&Told, &Key, Position)> =
        cascades.iter().filter_map(|told| Some((told, told.root_key.as_ref()?, told.cause.parse().ok()?))).collect();
    let news = |next: &str, cause: &str| format!("CASE WHEN {next} > {cause} THEN {next} ELSE {cause} + 1 END");
    let sql = format!(
        "INSERT INTO entail_undone (group_id, entity, columns, root_key, topic, \"partition\", below)
        SELECT $1, {{c0}}, {{c1}}, {{c2}}, {{c3}}, CAST({{c4}} AS bigint), max({})
        FROM {{list}} LEFT JOIN entail_progress AS p ON p.group_id = $1 AND p.topic = {{c3}} AND p.\"partition\" = CAST({{c4}} AS bigint)
        WHERE true GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (group_id, entity, columns, root_key, topic, \"partition\") DO UPDATE SET below = excluded.below, at = CURRENT_TIMESTAMP",
        news("coalesce(p.next_offset, 0)", "CAST({c5} AS bigint)")
    );
    let columns = vec![
        some(roots.iter().map(|(told, ..)| &told.root_entity)),
        some(roots.iter().map(|(told, ..)| super::parts_text(&told.root_columns))),
        some(roots.iter().map(|(_, key, _)| super::key_text(key))),
        some(roots.iter().map(|(.., cause)| &*cause.partition.topic)),
        some(roots.iter().map(|(.., cause)| cause.partition.partition.to_string())),
        some(roots.iter().map(|(.., cause)| cause.offset.to_string())),
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
    let sql = "SELECT u.entity, u.columns, u.root_key, u.topic, CAST(u.\"partition\" AS TEXT), CAST(u.below AS TEXT) FROM {list} JOIN entail_undone AS u
        ON u.group_id = $1 AND u.entity = {c0} AND u.columns = {c1} AND u.root_key = {c2}";
    let columns = vec![
        some(roots.iter().map(|(entity, ..)| entity)),
        some(roots.iter().map(|(_, columns, _)| super::parts_text(columns))),
        some(roots.iter().map(|(.., key)| super::key_text(key))),
    ];
    let rows = query(session, over_list(dialect, what, sql, columns, vec![text(group)])).await?;
    let read = |row: &Row| {
        let partition = i32::try_from(number(what, row, 4)?).unwrap_or(i32::MAX);
        let (partition, below) = (TopicPartition { topic: Arc::from(cell(row, 3)), partition }, NextOffset(number(what, row, 5)?));
        let Some(key) = read_key(cell(row, 2)) else { return Ok(None) };
        Ok(Some(UndoneRoot { entity: cell(row, 0).to_owned(), columns: super::read_list(cell(row, 1)), key, partition, below }))
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}
