//! Two services' databases on either driver, an engine over them that is fed record by record, and undo.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use entail::change::{self, Content, NextOffset, Position, Record, TopicPartition};
use entail::databases::DatabaseId;
use entail::engine::{Authority, Batch, Engine, Retry};
use entail::ledger::{self, Choice, Epoch, Owner};
use entail::model::Model;
use entail::rules::{self, SourceFile};
use entail::sink::{Access, Location};
use entail::undo::{self, Manner, OnConflict, UndoError, Undone};
use entail::value::{Cell, Key};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use super::bed::Bed;
use super::engine::partition;
use super::scripted::{Script, Scripted};

/// Two services' databases, an engine over them, and nothing that is already there.
pub(crate) struct World {
    pub(crate) crm: String,
    pub(crate) shop: String,
    pub(crate) engine: Engine,
    pub(crate) script: Arc<Script>,
    pub(crate) offset: i64,
    /// Where the source made the last change.
    pub(crate) lsn: i64,
    _bed: Option<Bed>,
    _dir: tempfile::TempDir,
}

pub(crate) async fn sql(url: &str, text: &str) {
    let text = AssertSqlSafe(text.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.expect("connects");
        sqlx::raw_sql(text).execute(&mut connection).await.expect("the statements run");
        connection.close().await.expect("closes");
    } else {
        let mut connection = PgConnection::connect(url).await.expect("connects");
        sqlx::raw_sql(text).execute(&mut connection).await.expect("the statements run");
        connection.close().await.expect("closes");
    }
}

/// The first column of every row.
pub(crate) async fn lines(url: &str, text: &str) -> Vec<String> {
    let text = AssertSqlSafe(text.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.expect("connects");
        sqlx::query_scalar(text).fetch_all(&mut connection).await.expect("the query runs")
    } else {
        let mut connection = PgConnection::connect(url).await.expect("connects");
        sqlx::query_scalar(text).fetch_all(&mut connection).await.expect("the query runs")
    }
}

impl World {
    pub(crate) async fn new(postgres: bool, crm_tables: &str, shop_tables: &str, rules: &str) -> World {
        World::with_others(postgres, crm_tables, shop_tables, &[], rules).await
    }

    /// The same, with databases of other services that entail only reads.
    pub(crate) async fn with_others(postgres: bool, crm_tables: &str, shop_tables: &str, others: &[(&str, &str)], rules: &str) -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bed = postgres.then(Bed::from_env);
        let mut urls = Vec::new();
        for (name, tables) in [("crm", crm_tables), ("shop", shop_tables)].iter().chain(others) {
            let url = match &bed {
                Some(bed) => bed.create_database(name).await,
                None => format!("sqlite:{}", dir.path().join(format!("{name}.db")).display()),
            };
            if bed.is_none() {
                std::fs::write(dir.path().join(format!("{name}.db")), "").expect("a file");
            }
            sql(&url, tables).await;
            urls.push(url);
        }
        let others: Vec<(&str, String)> = others.iter().map(|(name, _)| *name).zip(urls.split_off(2)).collect();
        let [crm, shop] = <[String; 2]>::try_from(urls).expect("two");
        let checked = rules::check(&[SourceFile { name: "rules.yaml".to_owned(), text: rules.to_owned() }]);
        let rules = checked.rules.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        // The meddler runs what it is told in the shop. Without a word it undoes what customer 1 entailed, as a person in another process would.
        let slot: Arc<std::sync::OnceLock<Arc<Model>>> = Arc::default();
        let meddle = (Arc::clone(&slot), shop.clone());
        let script = Script::new(
            Vec::new(),
            Box::new(move |statements| {
                let (slot, shop) = meddle.clone();
                Box::pin(async move {
                    if !statements.is_empty() {
                        return sql(&shop, &statements.join("; ")).await;
                    }
                    let model = Arc::clone(slot.get().expect("the model"));
                    let manner = Manner {
                        group: "it",
                        keep: Duration::from_secs(3600),
                        on_conflict: OnConflict::Fail,
                        roots: &[],
                        is_dry: false,
                        progress: &|_, _| {},
                    };
                    undo::undo(&model, &root(1), &manner).await.expect("undoes");
                })
            }),
        );
        let mut databases = entail::databases::Databases::default();
        for (service, url) in [("crm", &crm), ("shop", &shop)] {
            let database = Location { url: url.clone(), access: Access::Write }.open().expect("a url");
            database.migrate().await.expect("the ledger is made");
            databases.add(service, Access::Write, Scripted::wrap(database, Arc::clone(&script))).await.expect("opens");
        }
        for (service, url) in &others {
            let database = Location { url: url.clone(), access: Access::Read }.open().expect("a url");
            databases.add(service, Access::Read, database).await.expect("opens");
        }
        let model = Model::bind(rules, databases).await.unwrap_or_else(|error| panic!("{error:?}"));
        let owner = Owner { group: "it".to_owned(), rules: model.rules.fingerprint() };
        let engine = Engine::new(model, owner, Duration::from_secs(3600));
        assert!(slot.set(Arc::clone(&engine.model)).is_ok(), "once");
        World { crm, shop, engine, script, offset: 0, lsn: 10_000, _bed: bed, _dir: dir }
    }

    /// Works a record of a topic, as a replay does, and what it leads to until nothing waits.
    pub(crate) async fn work(
        &mut self,
        topic: &str,
        key: serde_json::Value,
        value: serde_json::Value,
        header: Option<(&str, serde_json::Value)>,
    ) {
        self.offset += 1;
        let record = Record {
            at: Position { partition: partition(topic), offset: self.offset },
            timestamp: None,
            key: Some(key.to_string().into_bytes()),
            value: Some(value.to_string().into_bytes()),
            headers: header.into_iter().map(|(name, value)| (name.to_owned(), Some(value.to_string().into_bytes()))).collect(),
        };
        self.record(record).await.expect("decodes");
    }

    /// The batch of one record.
    fn batch_of(&self, record: &Record) -> Result<Batch, change::DecodeError> {
        let decoded = change::decode(record, &self.engine.model.topics[&*record.at.partition.topic])?;
        let Content::Events(events) = decoded.content else { panic!("no events") };
        let events = events.into_iter().map(|event| (record.at.clone(), event)).collect();
        Ok(Batch { events, progress: BTreeMap::from([(record.at.partition.clone(), record.at.next())]), ..Batch::default() })
    }

    /// The batch that a worker makes of one record: of a change of row `id`, or of a tombstone.
    pub(crate) fn batch(&self, (topic, offset): (&str, i64), id: i64, value: Option<&serde_json::Value>) -> Batch {
        let record = Record {
            at: Position { partition: partition(topic), offset },
            timestamp: None,
            key: Some(json!({"id": id}).to_string().into_bytes()),
            value: value.map(|value| value.to_string().into_bytes()),
            headers: Vec::new(),
        };
        self.batch_of(&record).expect("decodes")
    }

    /// Works a record as it stands, and what it leads to; an error if it cannot be decoded.
    pub(crate) async fn record(&mut self, record: Record) -> Result<(), change::DecodeError> {
        let batch = Batch { progress: BTreeMap::new(), ..self.batch_of(&record)? };
        let waiting = loop {
            match self.engine.work(&batch, Authority::Replay { apply: true }).await {
                Ok(report) => break report.waiting,
                // As a worker does.
                Err(error) if error.disposition() == entail::error::Disposition::Retry => {}
                Err(error) => panic!("{error}"),
            }
        };
        self.prove(waiting).await;
        Ok(())
    }

    /// Works what waits until nothing does, as if its topics had been read on.
    async fn prove(&self, mut waiting: Vec<entail::engine::Waiting>) {
        while !waiting.is_empty() {
            let again = |one: entail::engine::Waiting| entail::engine::Retry { pending: one.pending, proven: Some(one.seen) };
            let batch = Batch { retries: waiting.into_iter().map(again).collect(), ..Batch::default() };
            waiting = self.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works").waiting;
        }
    }

    /// A customer goes, and the record of it is worked.
    pub(crate) async fn gone(&mut self, customer: i64) {
        sql(&self.crm, &format!("DELETE FROM customers WHERE id = {customer}")).await;
        self.lsn += 10;
        self.told_gone(customer).await;
    }

    /// The last record once more, as a redo or a replay brings it.
    pub(crate) async fn gone_again(&mut self, customer: i64) {
        self.offset -= 1;
        self.told_gone(customer).await;
    }

    pub(crate) async fn told_gone(&mut self, customer: i64) {
        let lsn = self.lsn;
        self.work("crm.customers", json!({"id": customer}), gone_at("crm", "customers", json!({"id": customer}), lsn), None).await;
    }

    pub(crate) async fn try_undo(&self, choice: Choice, on_conflict: OnConflict, is_dry: bool) -> Result<Undone, UndoError> {
        let manner = Manner { group: "it", keep: self.engine.keep, on_conflict, roots: &[], is_dry, progress: &|_, _| {} };
        undo::undo(&self.engine.model, &choice, &manner).await
    }

    pub(crate) async fn undo(&self, choice: Choice, on_conflict: OnConflict, is_dry: bool) -> Undone {
        let undone = self.try_undo(choice, on_conflict, is_dry).await.unwrap_or_else(|error| panic!("{}", entail::error::chain(&error)));
        assert!(undone.lost.iter().all(|(_, rows)| *rows > 0), "told as lost, and none is: {:?}", undone.lost);
        undone
    }
}

pub(crate) type Epochs = BTreeMap<(DatabaseId, TopicPartition), Epoch>;

/// Takes all topics over, as a worker does.
pub(crate) async fn epochs(world: &World) -> Epochs {
    let mut epochs = Epochs::new();
    for topic in world.engine.model.topics.keys() {
        for id in world.engine.model.reach_of_topic(topic) {
            let mut session = world.engine.model.databases.handle(id).database.begin().await.expect("begins");
            let taken = ledger::take(session.as_mut(), &world.engine.owner, &partition(topic), NextOffset(0)).await.expect("taken");
            session.commit().await.expect("commits");
            epochs.insert((id, partition(topic)), taken.epoch);
        }
    }
    epochs
}

pub(crate) fn delete(service: &str, table: &str, id: i64) -> serde_json::Value {
    gone_at(service, table, json!({"id": id}), 1000)
}

pub(crate) fn gone_at(service: &str, table: &str, before: serde_json::Value, lsn: i64) -> serde_json::Value {
    let source = json!({"connector": "postgresql", "name": service, "schema": "public", "table": table, "lsn": lsn});
    json!({"op": "d", "before": before, "after": null, "source": source})
}

pub(crate) fn made(service: &str, table: &str, after: &serde_json::Value, lsn: i64) -> serde_json::Value {
    let source = json!({"connector": "postgresql", "name": service, "schema": "public", "table": table, "lsn": lsn});
    json!({"op": "c", "before": null, "after": after, "source": source})
}

pub(crate) fn key(parts: &[&str]) -> Key {
    let cells: Vec<Cell> = parts.iter().map(|part| Cell::Value((*part).to_owned())).collect();
    Key::from_cells(&cells).expect("a key")
}

pub(crate) fn rooted(entity: &str, id: i64) -> Choice {
    Choice { root: Some((entity.to_owned(), key(&[&id.to_string()]))), ..Choice::default() }
}

pub(crate) fn root(customer: i64) -> Choice {
    rooted("crm.customer", customer)
}

pub(crate) fn told(undone: &Undone) -> Vec<(String, u64, u64, u64, u64)> {
    undone.tables.iter().map(|(name, t)| (name.clone(), t.inserted, t.set_back, t.already, t.conflicts + t.refused)).collect()
}

impl World {
    pub(crate) async fn tombstone(&mut self, topic: &str, key: serde_json::Value) {
        self.offset += 1;
        let record = Record {
            at: Position { partition: partition(topic), offset: self.offset },
            timestamp: None,
            key: Some(key.to_string().into_bytes()),
            value: None,
            headers: Vec::new(),
        };
        let batch = Batch { progress: BTreeMap::new(), ..self.batch_of(&record).expect("decodes") };
        self.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
    }

    pub(crate) async fn moved(&mut self, from: i64, to: i64, lsn: i64) {
        sql(&self.shop, &format!("DELETE FROM orders WHERE id = {from}; INSERT INTO orders VALUES ({to}, 2, NULL)")).await;
        let header = Some(("__debezium.newkey", json!({"id": to})));
        self.work("shop.orders", json!({"id": from}), gone_at("shop", "orders", json!({"id": from}), lsn), header).await;
    }

    /// Binds the tables anew, as the next process does.
    pub(crate) async fn rebind(&mut self, rules: Option<&str>) {
        let rules = match rules {
            None => self.engine.model.rules.clone(),
            Some(text) => {
                let checked = rules::check(&[SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() }]);
                checked.rules.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
            }
        };
        let mut databases = entail::databases::Databases::default();
        for (service, url) in [("crm", &self.crm), ("shop", &self.shop)] {
            let database = Location { url: url.clone(), access: Access::Write }.open().expect("a url");
            databases.add(service, Access::Write, database).await.expect("opens");
        }
        self.engine.model = Arc::new(Model::bind(rules, databases).await.unwrap_or_else(|error| panic!("{error:?}")));
    }

    pub(crate) async fn pending(&self) -> Vec<ledger::Pending> {
        let id = self.engine.model.databases.of_service("shop").expect("shop");
        let database = &*self.engine.model.databases.handle(id).database;
        ledger::pending(database, "it", &BTreeSet::from([partition("crm.customers")]), None, 100).await.expect("reads")
    }

    pub(crate) async fn retry(&self) -> entail::engine::Report {
        let retries = self.pending().await.into_iter().map(|pending| Retry { pending, proven: None }).collect();
        let batch = Batch { retries, ..Batch::default() };
        let report = self.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
        self.prove(report.waiting.clone()).await;
        report
    }
}

/// A customer gets another key, and the first half of the event that tells it is worked.
pub(crate) async fn moves(world: &mut World, from: i64, to: i64) {
    sql(&world.crm, &format!("UPDATE customers SET id = {to} WHERE id = {from}")).await;
    let header = Some(("__debezium.newkey", json!({"id": to})));
    world.work("crm.customers", json!({"id": from}), delete("crm", "customers", from), header).await;
}

pub(crate) const CUSTOMERS: &str = "CREATE TABLE customers (id bigint PRIMARY KEY); INSERT INTO customers VALUES (1), (2), (3);";

pub(crate) const THINGS: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.thing, table: things, key: id }
  - { name: shop.other, table: others, key: id }
references:
  - { name: thing_customer, child: shop.thing, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: other_customer, child: shop.other, columns: customer, parent: crm.customer, on_delete: set_null }
limits: { rows_per_event: 20, rows: { count: 1000, per: 10m } }
";

pub(crate) const THING_TABLES: &str = "
CREATE TABLE things (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX things_customer ON things (customer);
CREATE TABLE others (id bigint PRIMARY KEY, customer bigint, t text); CREATE INDEX others_customer ON others (customer);
INSERT INTO things VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 1, 'three');
INSERT INTO others VALUES (1, 1, 'one'), (2, 2, 'two');
";

pub(crate) const THINGS_NOW: &str =
    "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(customer AS TEXT), '-') || '|' || coalesce(t, '-') FROM things ORDER BY id";

pub(crate) const DEEP: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: shop.line, table: lines, key: [order_id, number] }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade, on_update: cascade }
  - { name: line_order, child: shop.line, columns: order_id, parent: shop.order, on_delete: cascade, on_update: cascade }
";

pub(crate) const ORDERS: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, parent bigint); CREATE INDEX orders_customer ON orders (customer);
CREATE TABLE lines (order_id bigint, number bigint, what text, PRIMARY KEY (order_id, number));
INSERT INTO orders VALUES (10, 1, NULL), (11, 1, NULL), (20, 2, NULL);
INSERT INTO lines VALUES (10, 1, 'a'), (10, 2, 'b'), (20, 1, 'old');
";

pub(crate) const LINES_NOW: &str =
    "SELECT CAST(order_id AS TEXT) || '|' || CAST(number AS TEXT) || '|' || what FROM lines ORDER BY order_id, number";
