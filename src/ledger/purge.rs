//! What must not be kept any longer, removed from the archive.

use std::time::Duration;

use super::{int, key_text, number, text};
use crate::sink::statement::{Bind, Dialect};
use crate::sink::{Database, SinkError, Statement};
use crate::value::Key;

/// Rows per transaction.
const PAGE: u64 = 10_000;

/// Which archived rows are meant. What is `None` does not restrict; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// Rows of this entity.
    pub entity: Option<String>,
    /// With this key.
    pub key: Option<Key>,
    /// That went with this root.
    pub root: Option<(String, Key)>,
    /// That were archived longer ago than this.
    pub older_than: Option<Duration>,
}

impl Purge {
    fn condition(&self, dialect: Dialect, group: &str) -> (String, Vec<Bind>) {
        let (mut condition, mut binds) = ("group_id = $1".to_owned(), vec![text(group)]);
        let mut bind = |bind: Bind| {
            binds.push(bind);
            format!("${}", binds.len())
        };
        if let Some(entity) = &self.entity {
            condition += &format!(" AND entity = {}", bind(text(entity)));
        }
        if let Some(key) = &self.key {
            let key = bind(text(key_text(key)));
            condition += &format!(" AND (row_key = {key} OR after_key = {key})");
        }
        if let Some((entity, key)) = &self.root {
            let (entity, key) = (bind(text(entity)), bind(text(key_text(key))));
            condition += &format!(
                " AND cascade_id IN (SELECT cascade_id FROM entail_cascades WHERE group_id = $1 AND root_entity = {entity} AND root_key = {key})"
            );
        }
        if let Some(age) = self.older_than {
            let age = bind(int(age.as_secs()));
            condition += &match dialect {
                Dialect::Postgres => {
                    format!(" AND archived_at < CURRENT_TIMESTAMP - make_interval(secs => CAST({age} AS double precision))")
                }
                Dialect::Sqlite => format!(" AND unixepoch(archived_at) < unixepoch(CURRENT_TIMESTAMP) - {age}"),
            };
        }
        (condition, binds)
    }
}

/// How many archived rows are meant.
///
/// # Errors
/// Those of the database.
pub async fn to_purge(database: &dyn Database, group: &str, purge: &Purge) -> Result<u64, SinkError> {
    let what = "counting archived rows";
    let (condition, binds) = purge.condition(database.dialect(), group);
    let sql = format!("SELECT CAST(count(*) AS TEXT) FROM entail_archive WHERE {condition}");
    let rows = database.read(&Statement::fixed(what, &sql, binds)).await?;
    rows.first().map_or(Ok(0), |row| Ok(u64::try_from(number(what, row, 0)?).unwrap_or(0)))
}

/// Removes some of them; returns how many. With the last of a root's rows the audit forgets its key.
///
/// # Errors
/// Those of the database.
pub async fn purge(database: &dyn Database, group: &str, purge: &Purge) -> Result<u64, SinkError> {
    let (condition, binds) = purge.condition(database.dialect(), group);
    let mut session = database.begin().await?;
    let sql = format!("DELETE FROM entail_archive WHERE id IN (SELECT id FROM entail_archive WHERE {condition} ORDER BY id LIMIT {PAGE})");
    let done = session.execute(&Statement::fixed("purging the archive", &sql, binds)).await?;
    if let (0, Some((entity, key))) = (done, &purge.root) {
        let sql = "UPDATE entail_cascades SET root_key = '[]' WHERE group_id = $1 AND root_entity = $2 AND root_key = $3";
        let binds = vec![text(group), text(entity), text(key_text(key))];
        session.execute(&Statement::fixed("forgetting a root's key", sql, binds)).await?;
    }
    session.commit().await?;
    Ok(done)
}
