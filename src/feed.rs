//! A small change feed for SQLite files: triggers write every change into a log table, and this publishes the log as Debezium would.
//!
//! For the demo and for tests. What Debezium is to PostgreSQL, this is to a file: key changes come as two halves with headers, deletes have
//! tombstones, positions are the log's sequence. The log is read from where this feed stood; it is kept in memory only.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row as _};

/// A table that is fed, with its columns.
#[derive(Debug, Clone)]
pub struct FedTable {
    /// The table.
    pub name: String,
    /// Its key's columns.
    pub key: Vec<String>,
    /// All columns.
    pub columns: Vec<String>,
}

/// A feed of one file.
pub struct Feed {
    pool: SqlitePool,
    prefix: String,
    tables: Vec<FedTable>,
    producer: FutureProducer,
    last: i64,
}

/// Why a feed stopped.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file.
    #[error("the change feed cannot read its log")]
    Sqlite(#[from] sqlx::Error),
    /// The broker.
    #[error("the change feed cannot publish")]
    Kafka(#[from] KafkaError),
}

const LOG: &str = "CREATE TABLE IF NOT EXISTS entail_changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, op TEXT NOT NULL, before TEXT, after TEXT)";

impl Feed {
    /// Lays log and triggers into a file and opens its feed. Topics are `<prefix>.main.<table>`, markers go to `<prefix>.message`.
    ///
    /// # Errors
    /// Those of the file or of the client.
    pub async fn open(path: &std::path::Path, prefix: &str, tables: Vec<FedTable>, brokers: &str) -> Result<Self, FeedError> {
        let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal).busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
        sqlx::query(LOG).execute(&pool).await?;
        for table in &tables {
            for statement in triggers(table) {
                sqlx::query(AssertSqlSafe(statement)).execute(&pool).await?;
            }
        }
        let mut config = rdkafka::ClientConfig::new();
        let producer = config
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "2")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "1")
            .create()?;
        Ok(Self { pool, prefix: prefix.to_owned(), tables, producer, last: 0 })
    }

    /// Publishes what the log has gained, waits until it is acknowledged, and sends a marker behind it. Returns how many changes it was.
    ///
    /// # Errors
    /// Those of the file or of the broker.
    pub async fn publish(&mut self) -> Result<usize, FeedError> {
        let sql = "SELECT seq, name, op, before, after FROM entail_changes WHERE seq > $1 ORDER BY seq LIMIT 10000";
        let rows = sqlx::query(sql).bind(self.last).fetch_all(&self.pool).await?;
        let mut sent = Vec::new();
        let changes = rows.len();
        for row in rows {
            let sequence: i64 = row.try_get(0)?;
            let (name, operation): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            let read = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
            let (before, after) = (read(row.try_get(3)?), read(row.try_get(4)?));
            self.last = sequence;
            let Some(table) = self.tables.iter().find(|table| table.name == name) else { continue };
            for record in self.records(table, &operation, &before, &after, sequence) {
                sent.push(self.send(record)?);
            }
        }
        for delivery in sent {
            delivery.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        }
        // Everything up to here has been sent: the marker stands one behind.
        let source = self.source("", self.last + 1);
        let marker = json!({"op": "m", "source": source, "message": {"prefix": "entail", "content": ""}});
        let record =
            Published { topic: format!("{}.message", self.prefix), key: json!({"prefix": "entail"}), value: Some(marker), header: None };
        self.send(record)?.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        Ok(changes)
    }

    /// Publishes for as long as it is let.
    ///
    /// # Errors
    /// Those of the file or of the broker.
    pub async fn run(mut self, every: Duration, stop: tokio_util::sync::CancellationToken) -> Result<(), FeedError> {
        while !stop.is_cancelled() {
            if self.publish().await? == 0 {
                tokio::time::sleep(every).await;
            }
        }
        self.pool.close().await;
        Ok(())
    }

    fn source(&self, table: &str, sequence: i64) -> Value {
        json!({"version": "entail", "connector": "sqlite", "name": self.prefix, "snapshot": "false", "schema": "main", "table": table, "lsn": sequence})
    }

    fn records(&self, table: &FedTable, operation: &str, before: &Value, after: &Value, sequence: i64) -> Vec<Published> {
        let topic = format!("{}.main.{}", self.prefix, table.name);
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

    fn send(&self, published: Published) -> Result<rdkafka::producer::DeliveryFuture, KafkaError> {
        let (key, value) = (published.key.to_string(), published.value.map(|value| value.to_string()));
        let mut record: FutureRecord<'_, String, String> = FutureRecord::to(&published.topic).key(&key);
        record.payload = value.as_ref();
        if let Some((name, value)) = &published.header {
            record = record.headers(OwnedHeaders::new().insert(Header { key: name, value: Some(value) }));
        }
        self.producer.send_result(record).map_err(|(error, _)| error)
    }
}

/// A record before it is sent.
struct Published {
    topic: String,
    key: Value,
    value: Option<Value>,
    header: Option<(&'static str, String)>,
}

fn key_of(table: &FedTable, row: &Value) -> Value {
    let fields = table.key.iter().map(|column| (column.clone(), row.get(column).cloned().unwrap_or(Value::Null)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// The triggers of a table. Names come from the demo and the tests, never from events.
fn triggers(table: &FedTable) -> Vec<String> {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let row = |which: &str| {
        let pairs: Vec<String> = table.columns.iter().map(|column| format!("{}, {which}.{}", literal(column), quote(column))).collect();
        format!("json_object({})", pairs.join(", "))
    };
    let trigger = |operation: &str, when: &str, before: &str, after: &str| {
        format!(
            "CREATE TRIGGER IF NOT EXISTS {} AFTER {when} ON {} BEGIN
                INSERT INTO entail_changes (name, op, before, after) VALUES ({}, '{operation}', {before}, {after}); END",
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
