//! The archive as undo reads it: which cascades there were, and their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{cell, int, number, query, read_key, some, text};
use crate::change::SourcePosition;
use crate::sink::statement::{Bind, Dialect, over_list};
use crate::sink::{Database, Fault, Row, Session, SinkError, Statement};
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
    /// Where the source made that change, if known.
    pub root_source: Option<SourcePosition>,
    /// The last record that named the root, as topic\[partition\]@offset; that is the cause in the audit of an older release.
    pub root_last: String,
    /// The root's key changed: its row lives under another one.
    pub root_moved: bool,
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
            c.root_columns, c.root_source, coalesce(c.root_last, c.cause), c.root_moved FROM {from} WHERE c.group_id = $1 AND c.action <> 'undo'"
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
        root_source: super::read_source(cell(row, 9)),
        root_last: cell(row, 10).to_owned(),
        root_moved: cell(row, 11) == "1",
    })
}

/// A row that a cascade took away from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uprooted {
    /// Its number in the archive.
    pub id: i64,
    /// Its entity.
    pub entity: String,
    /// Its key.
    pub key: Option<Key>,
    /// The column list of its image, as JSON.
    pub columns: String,
    /// Its image.
    pub image: String,
    /// When its transaction began, in microseconds since 1970, by the database's clock.
    pub at: i64,
    /// When it was put back, if it was.
    pub undone_at: Option<i64>,
    /// Its transaction, by the name that the source's events have for it; SQLite has none.
    pub transaction: Option<String>,
}

/// A value by which a row that was taken was known: where cascades may have begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stump {
    /// The row's number in its archive.
    pub id: i64,
    /// Its entity.
    pub entity: String,
    /// The columns.
    pub columns: Vec<String>,
    /// Their values.
    pub key: Key,
    /// When it was taken, by the clock of the database that is asked.
    pub at: i64,
}

/// A cascade that began at a row which was taken, after it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// The row's number in its archive.
    pub row: i64,
    /// The columns by which the row was known.
    pub columns: Vec<String>,
    /// The cascade.
    pub cascade: String,
    /// When it began, by the clock of its database.
    pub at: i64,
    /// The source's transaction that its event told of, if known.
    pub transaction: Option<String>,
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
    let (at, undone_at) = (micros(database.dialect(), "a.archived_at"), micros(database.dialect(), "a.undone_at"));
    let mut binds = vec![text(group), Bind::Int(above), int(u64::from(limit))];
    let Some(entities) = any_of(&mut binds, "a.entity", entities) else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT CAST(a.id AS TEXT), a.entity, a.row_key, CAST({at} AS TEXT), s.columns, a.image, a.transaction_id,
            CAST({undone_at} AS TEXT) FROM entail_archive AS a JOIN entail_shapes AS s ON s.shape = a.shape WHERE a.group_id = $1 AND a.id > $2
        AND (a.action = 'delete' OR a.after_key <> a.row_key) AND a.cascade_id IN (SELECT {{c0}} FROM {{list}}) AND {entities} ORDER BY a.id LIMIT $3"
    );
    let Some(statement) = over_list(database.dialect(), what, &sql, vec![some(cascades.iter())], binds) else { return Ok(Vec::new()) };
    let read = |row: &Row| {
        let (entity, key) = (cell(row, 1).to_owned(), read_key(cell(row, 2)));
        let (columns, image) = (cell(row, 4).to_owned(), cell(row, 5).to_owned());
        let (transaction, at) = (row.get(6).cloned().flatten(), number(what, row, 3)?);
        let undone_at = row.get(7).is_some_and(Option::is_some).then(|| number(what, row, 7)).transpose()?;
        Ok(Uprooted { id: number(what, row, 0)?, entity, key, columns, image, at, undone_at, transaction })
    };
    database.read(&statement).await?.iter().map(read).collect()
}

/// The cascades that began at rows which were taken, after they were.
///
/// # Errors
/// Those of the database.
pub async fn cascades_below(database: &dyn Database, group: &str, stumps: &[Stump]) -> Result<Vec<Below>, SinkError> {
    let what = "reading the audit";
    let at = micros(database.dialect(), "c.at");
    let sql = format!(
        "SELECT DISTINCT {{c4}}, {{c2}}, c.cascade_id, CAST({at} AS TEXT), c.root_transaction FROM {{list}} JOIN entail_cascades AS c
            ON c.root_entity = {{c0}} AND c.root_key = {{c1}} AND c.root_columns IN ({{c2}}, '[]')
        WHERE c.group_id = $1 AND c.action <> 'undo' AND {at} >= CAST({{c3}} AS bigint)"
    );
    let columns = vec![
        some(stumps.iter().map(|stump| &stump.entity)),
        some(stumps.iter().map(|stump| super::key_text(&stump.key))),
        some(stumps.iter().map(|stump| super::parts_text(&stump.columns))),
        some(stumps.iter().map(|stump| stump.at.to_string())),
        some(stumps.iter().map(|stump| stump.id.to_string())),
    ];
    let Some(statement) = over_list(database.dialect(), what, &sql, columns, vec![text(group)]) else { return Ok(Vec::new()) };
    let read = |row: &Row| {
        let (columns, cascade) = (super::read_list(cell(row, 1)), cell(row, 2).to_owned());
        let (at, transaction) = (number(what, row, 3)?, row.get(4).cloned().flatten());
        Ok(Below { row: number(what, row, 0)?, columns, cascade, at, transaction })
    };
    database.read(&statement).await?.iter().map(read).collect()
}

/// The cascades that the same records brought about, for other values of their rows.
///
/// # Errors
/// Those of the database.
pub async fn cascades_beside(database: &dyn Database, group: &str, lines: &[Told]) -> Result<Vec<String>, SinkError> {
    let sql = "SELECT DISTINCT c.cascade_id FROM {list} JOIN entail_cascades AS c ON c.root_entity = {c0} AND c.cause = {c1} WHERE c.group_id = $1";
    let columns = vec![some(lines.iter().map(|line| &line.root_entity)), some(lines.iter().map(|line| &line.cause))];
    let Some(statement) = over_list(database.dialect(), "reading the audit", sql, columns, vec![text(group)]) else {
        return Ok(Vec::new());
    };
    Ok(database.read(&statement).await?.iter().map(|row| cell(row, 0).to_owned()).collect())
}

/// A moment of the database's as whole microseconds since 1970. SQLite's moments are whole seconds.
pub(super) fn micros(dialect: Dialect, moment: &str) -> String {
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

/// What the archive holds of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The entity.
    pub entity: String,
    /// Rows, put back or not.
    pub rows: u64,
    /// Rows that are not put back yet.
    pub open: u64,
}

/// What the archive holds of these cascades.
///
/// # Errors
/// Those of the database.
pub async fn left(database: &dyn Database, group: &str, cascades: &[String]) -> Result<Vec<Left>, SinkError> {
    let what = "counting archived rows";
    let sql = "SELECT a.entity, CAST(count(*) AS TEXT), CAST(count(*) - count(a.undone_at) AS TEXT) FROM entail_archive AS a
        WHERE a.group_id = $1 AND a.action IN ('delete', 'update') AND a.cascade_id IN (SELECT {c0} FROM {list}) GROUP BY a.entity";
    let Some(statement) = over_list(database.dialect(), what, sql, vec![some(cascades.iter())], vec![text(group)]) else {
        return Ok(Vec::new());
    };
    let count = |row: &Row, index: usize| number(what, row, index).map(|number| u64::try_from(number).unwrap_or(0));
    let read = |row: &Row| Ok(Left { entity: cell(row, 0).to_owned(), rows: count(row, 1)?, open: count(row, 2)? });
    database.read(&statement).await?.iter().map(read).collect()
}

/// What the archive knows of a key: numbers of its youngest images, 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Images {
    /// Of a row that the chosen cascades removed.
    pub removed: i64,
    /// Of a row that the chosen cascades removed or changed, and that is not put back yet.
    pub open: i64,
    /// Of a row that the chosen cascades took from this key, removed or under another one, and that is not put back yet.
    pub uprooted: i64,
    /// Of a row that other cascades removed or changed, and that is not put back.
    pub others: i64,
}

/// What the archive knows of these keys of an entity. Which cascades are chosen is told here and not in SQL: there may be thousands of them, and
/// this is asked page by page.
///
/// # Errors
/// Those of the database.
pub async fn images_of(
    session: &mut dyn Session,
    dialect: Dialect,
    (group, chosen): (&str, &BTreeSet<&str>),
    entity: &str,
    keys: &[&Key],
) -> Result<BTreeMap<Key, Images>, SinkError> {
    let what = "reading the archive";
    let youngest = |condition: &str| format!("CAST(coalesce(max(CASE WHEN {condition} THEN a.id END), 0) AS TEXT)");
    let sql = format!(
        "SELECT a.row_key, a.cascade_id, {}, {}, {} FROM {{list}} JOIN entail_archive AS a ON a.entity = $2 AND a.row_key = {{c0}}
        WHERE a.group_id = $1 AND a.action IN ('delete', 'update') GROUP BY a.row_key, a.cascade_id",
        youngest("a.action = 'delete'"),
        youngest("a.undone_at IS NULL"),
        youngest("a.undone_at IS NULL AND (a.action = 'delete' OR coalesce(a.after_key, '') <> a.row_key)"),
    );
    let binds = vec![text(group), text(entity)];
    let statement = over_list(dialect, what, &sql, vec![some(keys.iter().map(|key| super::key_text(key)))], binds);
    let mut images: BTreeMap<Key, Images> = BTreeMap::new();
    for row in &query(session, statement).await? {
        let Some(key) = read_key(cell(row, 0)) else { continue };
        let (removed, open, uprooted) = (number(what, row, 2)?, number(what, row, 3)?, number(what, row, 4)?);
        let known = images.entry(key).or_default();
        if chosen.contains(cell(row, 1)) {
            known.removed = known.removed.max(removed);
            known.open = known.open.max(open);
            known.uprooted = known.uprooted.max(uprooted);
        } else {
            known.others = known.others.max(open);
        }
    }
    Ok(images)
}

/// Those of these keys of an entity whose rows were removed by a cascade and not put back, as far as the archive goes back; none where the
/// entity's database keeps no ledger.
///
/// # Errors
/// Those of the database.
pub async fn removed(database: &dyn Database, group: &str, entity: &str, keys: &[Key]) -> Result<BTreeSet<Key>, SinkError> {
    let sql = "SELECT DISTINCT a.row_key FROM {list} JOIN entail_archive AS a ON a.entity = $2 AND a.row_key = {c0}
        WHERE a.group_id = $1 AND a.action = 'delete' AND a.undone_at IS NULL";
    let (listed, binds) = (some(keys.iter().map(super::key_text)), vec![text(group), text(entity)]);
    let Some(statement) = over_list(database.dialect(), "reading what was removed", sql, vec![listed], binds) else {
        return Ok(BTreeSet::new());
    };
    match database.read(&statement).await {
        Ok(rows) => Ok(rows.iter().filter_map(|row| read_key(cell(row, 0))).collect()),
        Err(SinkError::Database { fault: Fault::UnknownObject | Fault::Privilege, .. }) => Ok(BTreeSet::new()),
        Err(other) => Err(other),
    }
}

/// Notes that archived rows were put back, in the transaction that does so, and says so in the audit.
///
/// # Errors
/// Those of the database.
pub async fn mark_undone(session: &mut dyn Session, dialect: Dialect, rows: &[&Archived]) -> Result<(), SinkError> {
    let ids = || some(rows.iter().map(|row| row.id.to_string()));
    let sql = "UPDATE entail_archive SET undone_at = CURRENT_TIMESTAMP WHERE id IN (SELECT CAST({c0} AS bigint) FROM {list})";
    super::execute(session, over_list(dialect, "noting what was put back", sql, vec![ids()], Vec::new())).await?;
    // The rows are counted before their cascades are looked up: else the list is held against every row of a large cascade.
    let sql = "INSERT INTO entail_cascades (group_id, cascade_id, reference, action, \"rows\", root_entity, root_key, cause, root_columns, root_source)
        SELECT c.group_id, c.cascade_id, c.reference, 'undo', CAST(sum(done.n) AS bigint), c.root_entity, c.root_key, c.cause, c.root_columns, c.root_source
        FROM (SELECT a.cascade_id, a.reference, a.action, count(*) AS n FROM {list} JOIN entail_archive AS a ON a.id = CAST({c0} AS bigint)
                GROUP BY a.cascade_id, a.reference, a.action) AS done
            JOIN entail_cascades AS c ON c.cascade_id = done.cascade_id AND c.reference = done.reference AND c.action = done.action
        GROUP BY c.group_id, c.cascade_id, c.reference, c.root_entity, c.root_key, c.cause, c.root_columns, c.root_source
        ON CONFLICT (cascade_id, reference, action) DO UPDATE SET \"rows\" = entail_cascades.\"rows\" + excluded.\"rows\", at = CURRENT_TIMESTAMP";
    super::execute(session, over_list(dialect, "writing the audit", sql, vec![ids()], Vec::new())).await
}
