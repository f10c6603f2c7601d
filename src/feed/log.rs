//! The log of a SQLite file: triggers write every change into a table, and this reads it as the records that Debezium would publish.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row as _};

use crate::sink::statement::quote;

/// Changes read at once.
const PAGE: i64 = 10_000;

const LOG: &str = "CREATE TABLE IF NOT EXISTS entail_changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, op TEXT NOT NULL, before TEXT, after TEXT)";

/// A table that is fed, with its columns.
#[derive(Debug, Clone)]
struct FedTable {
    name: String,
    key: Vec<String>,
    columns: Vec<String>,
}

/// The log of one file.
pub struct Log {
    pool: SqlitePool,
    prefix: String,
    tables: Vec<FedTable>,
    last: i64,
}

/// A record of the log, before it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// `<prefix>.main.<table>`.
    pub topic: String,
    /// The row's key.
    pub key: Value,
    /// The envelope; `None` for a tombstone.
    pub value: Option<Value>,
    /// Name and value of its header, if it has one.
    pub header: Option<(&'static str, String)>,
}

/// Opens a file for statements of its service.
///
/// # Errors
/// Those of the file.
pub async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    SqlitePoolOptions::new().max_connections(2).connect_with(options.busy_timeout(Duration::from_secs(10))).await
}

/// Runs statements in one transaction. Returns how many rows the last of them changed.
///
/// # Errors
/// Those of the file.
pub async fn execute(pool: &SqlitePool, sql: &str) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

/// The rows of a query, as texts.
///
/// # Errors
/// Those of the file.
pub async fn rows(pool: &SqlitePool, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(pool).await?;
    rows.iter().map(|row| (0..row.len()).map(|index| row.try_get_unchecked(index)).collect::<Result<_, _>>()).collect()
}

/// A text in SQL.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Log {
    /// Lays log and triggers into a file, for all of its tables.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn open(pool: SqlitePool, prefix: &str) -> Result<Self, sqlx::Error> {
        let tables = fed_tables(&pool).await?;
        let triggers: String = tables.iter().flat_map(triggers).collect();
        execute(&pool, &format!("{LOG};{triggers}")).await?;
        Ok(Self { pool, prefix: prefix.to_owned(), tables, last: 0 })
    }

    /// The file.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// The topics that its tables are fed to.
    pub fn topics(&self) -> impl Iterator<Item = String> {
        self.tables.iter().map(|table| self.topic(&table.name))
    }

    /// Goes to the log's end: what it holds by now is not read.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn skip(&mut self) -> Result<(), sqlx::Error> {
        self.last = sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM entail_changes").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// What the log has gained: how many changes, and their records.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn read(&mut self) -> Result<(usize, Vec<Published>), sqlx::Error> {
        let sql = "SELECT seq, name, op, before, after FROM entail_changes WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows = sqlx::query(sql).bind(self.last).bind(PAGE).fetch_all(&self.pool).await?;
        let (changes, mut records) = (rows.len(), Vec::new());
        for row in rows {
            let sequence: i64 = row.try_get(0)?;
            let (name, operation): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            let read = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
            let (before, after) = (read(row.try_get(3)?), read(row.try_get(4)?));
            self.last = sequence;
            let Some(table) = self.tables.iter().find(|table| table.name == name) else { continue };
            records.extend(self.records(table, &operation, &before, &after, sequence));
        }
        Ok((changes, records))
    }

    /// A marker that stands one behind everything read.
    #[must_use]
    pub fn marker(&self) -> Published {
        let marker = json!({"op": "m", "source": self.source("", self.last + 1), "message": {"prefix": "entail", "content": ""}});
        Published { topic: format!("{}.message", self.prefix), key: json!({"prefix": "entail"}), value: Some(marker), header: None }
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.main.{table}", self.prefix)
    }

    fn source(&self, table: &str, sequence: i64) -> Value {
        json!({"version": "entail", "connector": "sqlite", "name": self.prefix, "snapshot": "false", "schema": "main", "table": table, "lsn": sequence})
    }

    fn records(&self, table: &FedTable, operation: &str, before: &Value, after: &Value, sequence: i64) -> Vec<Published> {
        let topic = self.topic(&table.name);
        let envelope = |op: &str, before: &Value, after: &Value| json!({"before": before, "after": after, "source": self.source(&table.name, sequence), "op": op, "ts_ms": 0});
        let record = |key: &Value, value: Option<Value>, header: Option<(&'static str, &Value)>| Published {
            topic: topic.clone(),
            key: key.clone(),
            value,
            header: header.map(|(name, value)| (name, value.to_string())),
        };
        let (old, new) = (key_of(table, before), key_of(table, after));
        match operation {
            "d" => vec![record(&old, Some(envelope("d", before, &Value::Null)), None), record(&old, None, None)],
            "u" if old != new => vec![
                record(&old, Some(envelope("d", before, &Value::Null)), Some(("__debezium.newkey", &new))),
                record(&old, None, Some(("__debezium.newkey", &new))),
                record(&new, Some(envelope("c", &Value::Null, after)), Some(("__debezium.oldkey", &old))),
            ],
            other => vec![record(&new, Some(envelope(other, before, after)), None)],
        }
    }
}

fn key_of(table: &FedTable, row: &Value) -> Value {
    let fields = table.key.iter().map(|column| (column.clone(), row.get(column).cloned().unwrap_or(Value::Null)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// The triggers of a table. Names come from the demo and from tests, never from events.
fn triggers(table: &FedTable) -> Vec<String> {
    let row = |which: &str| {
        let pairs: Vec<String> = table.columns.iter().map(|column| format!("{}, {which}.{}", literal(column), quote(column))).collect();
        format!("json_object({})", pairs.join(", "))
    };
    let trigger = |operation: &str, when: &str, before: &str, after: &str| {
        format!(
            "CREATE TRIGGER IF NOT EXISTS {} AFTER {when} ON {} BEGIN
                INSERT INTO entail_changes (name, op, before, after) VALUES ({}, '{operation}', {before}, {after}); END;",
            quote(&format!("entail_feed_{}_{operation}", table.name)),
            quote(&table.name),
            literal(&table.name),
        )
    };
    vec![
        trigger("c", "INSERT", "NULL", &row("NEW")),
        trigger("u", "UPDATE", &row("OLD"), &row("NEW")),
        trigger("d", "DELETE", &row("OLD"), "NULL"),
    ]
}

async fn fed_tables(pool: &SqlitePool) -> Result<Vec<FedTable>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT m.name, c.name, c.pk FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'entail_%' ORDER BY m.name, c.cid",
    )
    .fetch_all(pool)
    .await?;
    let mut tables: Vec<FedTable> = Vec::new();
    for row in rows {
        let (table, column, place): (String, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if tables.last().is_none_or(|last| last.name != table) {
            tables.push(FedTable { name: table, key: Vec::new(), columns: Vec::new() });
        }
        if let Some(last) = tables.last_mut() {
            if place > 0 {
                last.key.push(column.clone());
            }
            last.columns.push(column);
        }
    }
    Ok(tables)
}
