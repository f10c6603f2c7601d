//! The engine alone, on SQLite files, fed with records as the feed writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use entail::change::{self, Content, NextOffset, Position, Record, TopicPartition};
use entail::databases::{DatabaseId, Databases};
use entail::engine::{Authority, Batch, Engine, Report, Retry, Waiting, WorkError};
use entail::ledger::{self, Epoch};
use entail::stage::Stage;
use entail::startup;
use serde_json::{Value, json};

use super::scripted::{Cue, Script, Scripted};

const TABLES: [(&str, &str); 2] = [
    (
        "crm",
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE members (id INTEGER PRIMARY KEY, code INTEGER UNIQUE)",
    ),
    (
        "shop",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER); CREATE INDEX orders_customer ON orders (customer_id);
         CREATE TABLE lines (order_id INTEGER, number INTEGER, PRIMARY KEY (order_id, number));
         CREATE TABLE notes (id INTEGER PRIMARY KEY, owner INTEGER, kind TEXT, state TEXT); CREATE INDEX notes_owner ON notes (owner);
         CREATE TABLE badges (id INTEGER PRIMARY KEY, code INTEGER); CREATE INDEX badges_code ON badges (code);
         CREATE TABLE visits (id INTEGER PRIMARY KEY, member INTEGER); CREATE INDEX visits_member ON visits (member);
         CREATE TABLE bills (id INTEGER PRIMARY KEY, code INTEGER); CREATE INDEX bills_code ON bills (code);
         CREATE TABLE people (id INTEGER PRIMARY KEY, boss INTEGER, aide INTEGER); CREATE INDEX people_boss ON people (boss);
         CREATE TABLE cases (id INTEGER PRIMARY KEY, member INTEGER); CREATE INDEX cases_member ON cases (member);
         CREATE TABLE papers (id INTEGER PRIMARY KEY, case_id INTEGER REFERENCES cases (id) ON DELETE CASCADE); CREATE INDEX papers_case ON papers (case_id);
         CREATE TABLE customer_copy (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'forbidden'))",
    ),
];

/// An engine over SQLite files whose databases do what a script says.
pub(crate) struct Bench {
    stage: Stage,
    pub(crate) engine: Engine,
    pub(crate) script: Arc<Script>,
    pub(crate) epochs: BTreeMap<(DatabaseId, TopicPartition), Epoch>,
    pub(crate) offset: i64,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new(rules: &str, cues: Vec<Cue>) -> Bench {
        entail::telemetry::start(entail::telemetry::LogFormat::Text, "error,sqlx=off,librdkafka=off,rdkafka=off");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path: PathBuf = dir.path().join("rules.yaml");
        std::fs::write(&path, rules).expect("the rules are written");
        let stage = Stage::open(dir.path(), &TABLES, 1).await.expect("the stage is set");
        let config = stage.config(&path, "it");
        let meddle = dir.path().to_owned();
        // `service: statements`, committed by a connection of its own.
        let script = Script::new(
            cues,
            Box::new(move |statements| {
                let dir = meddle.clone();
                Box::pin(async move {
                    for statement in statements {
                        let (service, sql) = statement.split_once(": ").expect("service: statement");
                        let url = format!("sqlite:{}", dir.join(format!("{service}.db")).display());
                        let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.expect("connects");
                        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("meddles");
                    }
                })
            }),
        );
        let (rules, ..) = startup::read_rules(&path).unwrap_or_else(|error| panic!("{error:?}"));
        let mut databases = Databases::default();
        for (service, location) in &config.databases {
            let database = Scripted::wrap(location.open().expect("a url"), Arc::clone(&script));
            databases.add(service, location.access, database).await.expect("opens");
        }
        let model = startup::bind(rules, databases).await.unwrap_or_else(|error| panic!("{error:?}"));
        startup::ledgers(&model, true).await.expect("ledgers");
        let engine = startup::engine(model, None, &config);
        let mut bench = Bench { stage, engine, script, epochs: BTreeMap::new(), offset: 0, _dir: dir };
        for topic in bench.engine.model.topics.keys() {
            let epochs = bench.take_over(topic).await;
            bench.epochs.extend(epochs);
        }
        bench
    }

    /// Takes a topic over, as a worker would; the epochs of the bench stay what they are.
    pub(crate) async fn take_over(&self, topic: &str) -> BTreeMap<(DatabaseId, TopicPartition), Epoch> {
        let mut epochs = BTreeMap::new();
        for id in self.engine.model.reach_of_topic(topic) {
            let mut session = self.engine.model.databases.handle(id).database.begin().await.expect("begins");
            let taken = ledger::take(session.as_mut(), &self.engine.owner, &partition(topic), NextOffset(0)).await.expect("taken");
            session.commit().await.expect("commits");
            epochs.insert((id, partition(topic)), taken.epoch);
        }
        epochs
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self._dir.path().to_owned()
    }

    pub(crate) fn config(&self, rules: &std::path::Path) -> entail::config::Config {
        self.stage.config(rules, "it")
    }

    pub(crate) async fn execute(&self, service: &str, sql: &str) {
        self.stage.execute(service, sql).await.expect("the statements run");
    }

    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        let rows = self.stage.rows("shop", sql).await.expect("the query runs");
        rows.into_iter()
            .map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect::<Vec<_>>().join("|"))
            .collect()
    }

    pub(crate) fn record(&mut self, topic: &str, key: &Value, value: Option<&Value>, headers: &[(&str, Value)]) -> Record {
        self.offset += 1;
        Record {
            at: Position { partition: partition(topic), offset: self.offset },
            timestamp: None,
            key: Some(key.to_string().into_bytes()),
            value: value.map(|value| value.to_string().into_bytes()),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), Some(value.to_string().into_bytes()))).collect(),
        }
    }

    /// A record about a customer, as the feed writes it.
    pub(crate) fn customer(&mut self, op: &str, id: i64, headers: &[(&str, Value)]) -> Record {
        let row = json!({"id": id, "name": format!("customer {id}")});
        let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
        let source = json!({"connector": "sqlite", "name": "crm", "schema": "main", "table": "customers", "lsn": self.offset + 1});
        let value = json!({"op": op, "before": before, "after": after, "source": source});
        self.record("crm.main.customers", &json!({"id": id}), Some(&value), headers)
    }

    pub(crate) fn batch(&self, records: &[Record]) -> Batch {
        let mut batch = Batch::default();
        for record in records {
            batch.progress.insert(record.at.partition.clone(), record.at.next());
            let decoded = change::decode(record, &self.engine.model.topics[&*record.at.partition.topic]).expect("decodes");
            if let Content::Events(events) = decoded.content {
                batch.events.extend(events.into_iter().map(|event| (record.at.clone(), event)));
            }
        }
        batch
    }

    pub(crate) async fn work(&self, records: &[Record]) -> Result<Report, WorkError> {
        self.engine.work(&self.batch(records), Authority::Owner(&self.epochs)).await
    }

    /// Works what waits, as if the topic had been read past every look-up by now, until nothing waits any more.
    pub(crate) async fn prove(&self, mut waiting: Vec<Waiting>) -> Result<(), WorkError> {
        while !waiting.is_empty() {
            let retries = waiting.into_iter().map(|one| Retry { pending: one.pending, proven: Some(one.seen) }).collect();
            let batch = Batch { retries, ..Batch::default() };
            waiting = self.engine.work(&batch, Authority::Owner(&self.epochs)).await?.waiting;
        }
        Ok(())
    }

    /// What the ledger holds as pending of a topic's roots.
    pub(crate) async fn pending(&self, topic: &str) -> Vec<ledger::Pending> {
        let id = *self.engine.model.reach_of_topic(topic).first().expect("one");
        let database = &*self.engine.model.databases.handle(id).database;
        ledger::pending(database, "it", &BTreeSet::from([partition(topic)]), None, 1000).await.expect("reads")
    }

    pub(crate) async fn work_until_done(&self, records: &[Record]) -> Report {
        for _ in 0..5 {
            if let Ok(report) = self.work(records).await {
                return report;
            }
        }
        panic!("five attempts failed");
    }
}

pub(crate) fn partition(topic: &str) -> TopicPartition {
    TopicPartition { topic: Arc::from(topic), partition: 0 }
}
