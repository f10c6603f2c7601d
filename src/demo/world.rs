//! The demo's world: rules and tables, files, feeds, broker, a worker, and what the worker has reported.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::DemoError;
use crate::change::{Position, TopicPartition};
use crate::config::Config;
use crate::engine::Report;
use crate::model::Model;
use crate::stage::Stage;
use crate::startup;
use crate::worker::accounts::Accounts;
use crate::worker::{self, Ended, Options, RunError};

/// What is enforced in the demo.
pub(super) const RULES: &str = "\
version: 1
mode: enforce
entities:
  - { name: crm.customer,    table: customers,   key: id, topic: crm.main.customers }
  - { name: shop.order,      table: orders,      key: id, topic: shop.main.orders }
  - { name: shop.order_line, table: order_lines, key: [order_id, line] }
  - { name: shipping.parcel, table: parcels,     key: [order_id, number] }
references:
  - { name: order_customer, child: shop.order,      columns: customer_id, parent: crm.customer, on_delete: cascade }
  - { name: line_order,     child: shop.order_line, columns: order_id,    parent: shop.order,   on_delete: cascade }
  - { name: parcel_order,   child: shipping.parcel, columns: order_id,    parent: shop.order,   on_delete: cascade }
replicas:
  - { name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: { id: id, name: name } }
";

/// Services and their tables.
const SERVICES: [(&str, &str); 3] = [
    ("crm", "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"),
    (
        "shop",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, placed TEXT NOT NULL);
         CREATE INDEX orders_customer ON orders (customer_id);
         CREATE TABLE order_lines (order_id INTEGER NOT NULL, line INTEGER NOT NULL, article TEXT NOT NULL, PRIMARY KEY (order_id, line));
         CREATE TABLE customer_copy (id INTEGER PRIMARY KEY, name TEXT)",
    ),
    (
        "shipping",
        "CREATE TABLE parcels (order_id INTEGER NOT NULL, number INTEGER NOT NULL, carrier TEXT NOT NULL, PRIMARY KEY (order_id, number))",
    ),
];

/// The tables whose topics the worker reads: service, table.
const READ: [(&str, &str); 2] = [("crm", "customers"), ("shop", "orders")];

const PARTITIONS: i32 = 3;
const GROUP: &str = "demo";

/// How long a step may take. Many times what it needs, for machines that are busy.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What the worker said of a batch, and when.
pub(super) struct Observed {
    pub(super) at: Instant,
    pub(super) report: Report,
}

/// Everything that runs.
pub(super) struct World {
    pub(super) stage: Stage,
    pub(super) config: Config,
    pub(super) model: Arc<Model>,
    worker: JoinHandle<Result<Ended, RunError>>,
    accounts: watch::Receiver<Accounts>,
    seen: Arc<Mutex<Vec<Observed>>>,
    stop: CancellationToken,
    /// Ends the worker's task with this world.
    _guard: DropGuard,
    /// Records of the read topics that no feed wrote.
    by_hand: u64,
}

impl World {
    /// Sets the stage in an empty directory and starts the worker. Its group takes three seconds to form; there is time to seed meanwhile.
    pub(super) async fn open(dir: &Path) -> Result<Self, DemoError> {
        let rules = dir.join("rules.yaml");
        write(&rules, RULES)?;
        let stage = Stage::open(dir, &SERVICES, PARTITIONS).await?;
        let config = stage.config(&rules, GROUP);
        write(&dir.join("entail.yaml"), &settings(&config))?;
        let engine = engine(&config).await?;
        let (model, seen, stop) = (Arc::clone(&engine.model), Arc::<Mutex<Vec<Observed>>>::default(), CancellationToken::new());
        let (sender, accounts) = watch::channel(Accounts::default());
        let noted = Arc::clone(&seen);
        let observer = Box::new(move |report: &Report| {
            let observed = Observed { at: Instant::now(), report: report.clone() };
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(observed);
        });
        let options = Options { until_end: false, observer: Some(observer), accounts: sender };
        let (settings, stopped) = (config.clone(), stop.clone());
        let worker = tokio::spawn(async move { worker::run(engine, &settings, options, stopped).await });
        let guard = stop.clone().drop_guard();
        Ok(Self { stage, config, model, worker, accounts, seen, stop, _guard: guard, by_hand: 0 })
    }

    /// Stops the worker, then feeds and files. Returns its accounts.
    pub(super) async fn finish(self) -> Result<Accounts, DemoError> {
        self.stop.cancel();
        let ended = self.worker.await.map_err(|_| DemoError::WorkerEnded);
        self.model.databases.close().await;
        self.stage.close().await;
        match ended?.map_err(DemoError::Run)? {
            Ended::Clean => Ok(self.accounts.borrow().clone()),
            Ended::WithHalts => Err(DemoError::Halted),
        }
    }

    /// Waits for a condition.
    pub(super) async fn until<T>(
        &self,
        what: &'static str,
        mut condition: impl AsyncFnMut() -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(value) = condition().await? {
                return Ok(value);
            }
            if self.worker.is_finished() {
                return Err(DemoError::WorkerEnded);
            }
            if Instant::now() >= deadline {
                return Err(DemoError::Late { what, within: DEADLINE });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every record that was written to the read topics is accounted for, and returns the accounts.
    pub(super) async fn settled(&self, what: &'static str) -> Result<Accounts, DemoError> {
        self.until(what, async || {
            let mut written = self.by_hand;
            for (service, table) in READ {
                // A delete is two records: the event and its tombstone.
                let records =
                    format!("SELECT COALESCE(SUM(CASE op WHEN 'd' THEN 2 ELSE 1 END), 0) FROM entail_changes WHERE name = '{table}'");
                written += self.count(service, &records).await?;
            }
            let accounts = self.accounts.borrow().clone();
            let read: u64 = accounts.partitions.values().map(|account| account.consumed).sum();
            Ok((read == written).then_some(accounts))
        })
        .await
    }

    /// A count in a service's database.
    pub(super) async fn count(&self, service: &str, sql: &str) -> Result<u64, DemoError> {
        Ok(u64::try_from(self.stage.count(service, sql).await?).unwrap_or(0))
    }

    /// What the worker has reported since there were `from` reports.
    pub(super) fn since<T>(&self, from: usize, look: impl FnOnce(&[Observed]) -> T) -> T {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        look(seen.get(from..).unwrap_or_default())
    }

    /// How many reports there are.
    pub(super) fn reports(&self) -> usize {
        self.since(0, <[Observed]>::len)
    }

    /// Writes a record to a read topic as a foreign hand would. Returns where it stands.
    pub(super) async fn send(&mut self, topic: &str, key: &str, value: &str) -> Result<Position, DemoError> {
        let producer: FutureProducer = rdkafka::ClientConfig::new().set("bootstrap.servers", self.stage.brokers()).create()?;
        let sent = producer.send_result(FutureRecord::to(topic).key(key).payload(value)).map_err(|(error, _)| error)?;
        let delivery = sent.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        self.by_hand += 1;
        let partition = TopicPartition { topic: Arc::from(topic), partition: delivery.partition };
        Ok(Position { partition, offset: delivery.offset })
    }
}

async fn engine(config: &Config) -> Result<Arc<crate::engine::Engine>, DemoError> {
    let (rules, ..) = startup::read_rules(&config.rules)?;
    let databases = startup::open(config, DEADLINE).await?;
    let model = startup::bind(rules, databases).await?;
    startup::ledgers(&model, true).await?;
    let topics = model.topics.keys().cloned().collect();
    let cluster = startup::kafka(config, topics, DEADLINE, true).await?;
    startup::identities(&model, &config.kafka.group, cluster.as_deref()).await?;
    let engine = startup::engine(model, None, config);
    Ok(Arc::new(engine))
}

/// entail.yaml as text. A JSON string is a YAML string.
fn settings(config: &Config) -> String {
    let mut text = String::from("# The broker of the demo ended with it: name yours before `entail run`.\nversion: 1\nrules: rules.yaml\n");
    text.push_str(&format!("kafka: {{ brokers: \"{}\", group: {} }}\ndatabases:\n", config.kafka.brokers, config.kafka.group));
    for (service, location) in &config.databases {
        text.push_str(&format!("  {service}: {{ url: {} }}\n", serde_json::Value::from(location.url.as_str())));
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    std::fs::write(path, text).map_err(|source| DemoError::File { path: path.display().to_string(), source })
}
