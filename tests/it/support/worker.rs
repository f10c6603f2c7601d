//! The real binary as a process of its own, and three services for it to work on: real databases and topics, with change events written straight
//! into Kafka as Debezium would write them, so that a test can have a hundred thousand of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::bed::Bed;
use super::kafka::Record;
use super::postgres;
use super::wait::{blocking, wait_for};

/// How long a worker may take to come up, or to catch up, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// Partitions of the customers' topic.
pub(crate) const PARTITIONS: i32 = 3;

const SERVICES: [(&str, &str); 3] = [
    ("crm", "CREATE TABLE customers (id bigint PRIMARY KEY, name text)"),
    (
        "shop",
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint); CREATE INDEX ON orders (customer_id);
         CREATE TABLE customer_copy (id bigint PRIMARY KEY, name text CONSTRAINT fit_name CHECK (name <> 'poison'))",
    ),
    ("shipping", "CREATE TABLE parcels (order_id bigint, number bigint, PRIMARY KEY (order_id, number))"),
];

/// Customers here, their orders there, the parcels of those in a third place, and a copy of the customers beside the orders.
pub(crate) struct Shop {
    pub(crate) bed: Bed,
    pub(crate) urls: BTreeMap<String, String>,
    pub(crate) topic: String,
    pub(crate) dead_letters: String,
    pub(crate) group: String,
    pub(crate) dir: tempfile::TempDir,
    /// Lines of entail.yaml beside those that it must have.
    extra: String,
    properties: String,
}

impl Shop {
    /// On the shared server.
    pub(crate) async fn open() -> Shop {
        Shop::with(BTreeMap::new()).await
    }

    /// With some services on servers of the test's own, by their URLs.
    pub(crate) async fn with(elsewhere: BTreeMap<String, String>) -> Shop {
        Shop::on(Bed::from_env(), elsewhere).await
    }

    /// On the servers of this bed, with some services on servers of the test's own.
    pub(crate) async fn on(bed: Bed, elsewhere: BTreeMap<String, String>) -> Shop {
        let mut urls = elsewhere;
        for (service, tables) in SERVICES {
            if !urls.contains_key(service) {
                urls.insert(service.to_owned(), bed.create_database(service).await);
            }
            postgres::execute(&urls[service], tables).await;
        }
        let (topic, orders) = (bed.name("crm.public.customers"), bed.name("shop.public.orders"));
        bed.create_topic(&topic, PARTITIONS, &[]).await;
        bed.create_topic(&orders, 1, &[]).await;
        let dead_letters = bed.name("dead-letters");
        bed.create_topic(&dead_letters, 1, &[]).await;
        let shop = Shop {
            group: bed.name("entail"),
            dir: tempfile::tempdir().expect("a temporary directory"),
            bed,
            urls,
            topic,
            dead_letters,
            extra: String::new(),
            properties: "session.timeout.ms: 10000, fetch.wait.max.ms: 20".to_owned(),
        };
        shop.write();
        shop
    }

    /// With these lines in entail.yaml.
    pub(crate) fn extra(mut self, lines: &str) -> Shop {
        self.extra = lines.to_owned();
        self.write();
        self
    }

    /// With these Kafka properties.
    pub(crate) fn properties(mut self, properties: &str) -> Shop {
        self.properties = properties.to_owned();
        self.write();
        self
    }

    /// The rules' text.
    pub(crate) fn rules(&self) -> String {
        let (topic, orders) = (&self.topic, self.bed.name("shop.public.orders"));
        format!(
            "version: 1
mode: enforce
entities:
  - {{ name: crm.customer, table: customers, key: id, topic: {topic} }}
  - {{ name: shop.order, table: orders, key: id, topic: {orders} }}
  - {{ name: shipping.parcel, table: parcels, key: [order_id, number] }}
references:
  - {{ name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }}
  - {{ name: parcel_order, child: shipping.parcel, columns: order_id, parent: shop.order, on_delete: cascade }}
replicas:
  - {{ name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: {{ id: id, name: name }} }}
limits:
  rows_per_event: 10000
  rows: {{ count: 10000000, per: 10m }}
"
        )
    }

    /// The settings' text.
    pub(crate) fn settings(&self) -> String {
        let Shop { bed, urls, dead_letters, group, extra, properties, .. } = self;
        let url = |service: &str| &urls[service];
        let (crm, shop, shipping) = (url("crm"), url("shop"), url("shipping"));
        let limit = if extra.contains("dead_letters:") { String::new() } else { format!("dead_letters: {{ topic: {dead_letters} }}\n") };
        format!(
            "version: 1
rules: rules.yaml
kafka: {{ brokers: \"{}\", group: {group}, properties: {{ {properties} }} }}
databases:
  crm: {{ url: \"{crm}\", access: read }}
  shop: {{ url: \"{shop}\" }}
  shipping: {{ url: \"{shipping}\" }}
{limit}{extra}",
            bed.kafka
        )
    }

    fn write(&self) {
        std::fs::write(self.dir.path().join("rules.yaml"), self.rules()).expect("the rules are written");
        std::fs::write(self.config(), self.settings()).expect("the settings are written");
    }

    /// The settings' file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("entail.yaml")
    }

    /// Starts `entail run --migrate` with these arguments. `name` is for its log's file and for messages.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Worker {
        let mut all = vec!["run", "--migrate", "--format", "json"];
        all.extend(arguments);
        Worker::start(self.dir.path(), &self.config(), name, &all)
    }

    /// Runs a command to its end: exit code, stdout, stderr.
    pub(crate) async fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        entail(&self.config(), arguments).await
    }

    /// One number of a service's database.
    pub(crate) async fn count(&self, service: &str, sql: &str) -> i64 {
        let mut connection = postgres::connect(&self.urls[service]).await;
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await;
        let number = found.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.expect("the connection closes");
        number
    }

    /// Rows of texts of a service's database.
    pub(crate) async fn rows(&self, service: &str, sql: &str) -> Vec<Vec<String>> {
        let mut connection = postgres::connect(&self.urls[service]).await;
        let rows =
            sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let texts = rows.iter().map(|row| (0..row.len()).map(|index| row.get::<String, _>(index)).collect());
        texts.collect()
    }

    /// Statements in a service's database.
    pub(crate) async fn execute(&self, service: &str, sql: &str) {
        postgres::execute(&self.urls[service], sql).await;
    }

    /// Records up to which the customers' topic is durable in a service's database.
    pub(crate) async fn durable(&self, service: &str) -> i64 {
        let sql = format!("SELECT CAST(coalesce(sum(next_offset), 0) AS bigint) FROM entail_progress WHERE topic = '{}'", self.topic);
        self.count(service, &sql).await
    }

    /// Waits until at least this many records of the customers' topic are durable where the orders are.
    pub(crate) async fn until_durable(&self, records: i64) {
        // The ledger's tables come with the first start.
        wait_for("the ledger", DEADLINE, async || {
            (self.count("shop", "SELECT count(*) FROM pg_class WHERE relname = 'entail_progress'").await > 0).then_some(())
        })
        .await;
        // A parked root is a row of the ledger: some thousand records a second at the least.
        let deadline = DEADLINE.max(Duration::from_secs(u64::try_from(records / 500).unwrap_or(0)));
        wait_for(&format!("{records} records to be durable"), deadline, async || (self.durable("shop").await >= records).then_some(()))
            .await;
    }

    /// Waits until everything in the customers' topic is durable in both databases.
    pub(crate) async fn until_caught_up(&self) {
        let wanted = self.bed.high_watermarks(&self.topic).await.values().sum();
        self.until_durable(wanted).await;
        let deadline = DEADLINE.max(Duration::from_secs(u64::try_from(wanted / 500).unwrap_or(0)));
        wait_for("the parcels' ledger to be there too", deadline, async || (self.durable("shipping").await >= wanted).then_some(())).await;
    }

    /// Customers 1 to `all`, each with an order and two parcels of it; then customers 1 to `gone` really go, and the events of all this are
    /// written: per customer that goes a delete and a tombstone, per one that stays `updates` updates, and heartbeats between them.
    /// Returns how many records.
    pub(crate) async fn load(&self, all: i64, gone: i64, updates: i64) -> i64 {
        let people = format!("INSERT INTO customers SELECT i, 'name ' || {updates} FROM generate_series(1, {all}) i");
        self.execute("crm", &people).await;
        self.execute(
            "shop",
            &format!(
                "INSERT INTO orders SELECT i, i FROM generate_series(1, {all}) i;
                 INSERT INTO customer_copy SELECT i, 'name 0' FROM generate_series(1, {all}) i; ANALYZE"
            ),
        )
        .await;
        self.execute(
            "shipping",
            &format!("INSERT INTO parcels SELECT i, n FROM generate_series(1, {all}) i, generate_series(1, 2) n; ANALYZE"),
        )
        .await;
        self.execute("crm", &format!("DELETE FROM customers WHERE id <= {gone}; ANALYZE")).await;
        let mut records = Vec::new();
        let mut lsn = 1_000;
        for round in 1..=updates.max(1) {
            for id in gone + 1..=all {
                lsn += 8;
                if updates > 0 {
                    records.push(self.update(id, &format!("name {round}"), lsn));
                }
            }
            // The deletes are spread over the rounds.
            for id in (1..=gone).filter(|id| id % updates.max(1) == round - 1) {
                lsn += 8;
                records.extend(self.delete(id, lsn));
                if id % 1_000 == 0 {
                    records.push(self.heartbeat());
                }
            }
        }
        let count = i64::try_from(records.len()).expect("not so many");
        self.bed.produce(records).await;
        count
    }

    fn key(id: i64) -> String {
        json!({ "id": id }).to_string()
    }

    fn envelope(&self, op: &str, before: &Value, after: &Value, lsn: i64) -> String {
        let name = self.topic.trim_end_matches(".public.customers");
        let source = json!({
            "version": "3.6.3.Final", "connector": "postgresql", "name": name, "ts_ms": 1_795_427_968_481_i64, "snapshot": "false",
            "db": "crm", "sequence": format!("[null,\"{lsn}\"]"), "ts_us": 1_795_427_968_481_409_i64, "schema": "public",
            "table": "customers", "txId": 755, "lsn": lsn, "xmin": null, "origin": null, "origin_lsn": null,
        });
        json!({"before": before, "after": after, "source": source, "transaction": null, "op": op, "ts_ms": 1_795_427_968_707_i64})
            .to_string()
    }

    /// A customer was changed.
    pub(crate) fn update(&self, id: i64, name: &str, lsn: i64) -> Record {
        let value = self.envelope("u", &Value::Null, &json!({"id": id, "name": name}), lsn);
        Record::new(&self.topic, &Self::key(id), Some(&value))
    }

    /// A customer was deleted: the event and its tombstone.
    pub(crate) fn delete(&self, id: i64, lsn: i64) -> [Record; 2] {
        let value = self.envelope("d", &json!({"id": id, "name": null}), &Value::Null, lsn);
        [Record::new(&self.topic, &Self::key(id), Some(&value)), Record::new(&self.topic, &Self::key(id), None)]
    }

    /// A heartbeat, as it looks on a topic that all tables share.
    pub(crate) fn heartbeat(&self) -> Record {
        Record::new(&self.topic, "{\"serverName\":\"crm\"}", Some("{\"ts_ms\":1795428115298}"))
    }

    /// Checks the end state of `load`: nothing lost, nothing wrong, nothing double.
    pub(crate) async fn assert_settled(&self, all: i64, gone: i64, updates: i64) {
        let stay = all - gone;
        let count = async |service: &str, sql: &str| self.count(service, sql).await;
        assert_eq!(
            count("shop", &format!("SELECT count(*) FROM orders WHERE customer_id <= {gone}")).await,
            0,
            "orders of customers that are gone"
        );
        assert_eq!(count("shop", "SELECT count(*) FROM orders").await, stay, "orders of customers that live");
        assert_eq!(
            count("shipping", &format!("SELECT count(*) FROM parcels WHERE order_id <= {gone}")).await,
            0,
            "parcels of orders that are gone"
        );
        assert_eq!(count("shipping", "SELECT count(*) FROM parcels").await, 2 * stay, "parcels of orders that live");
        for (service, entity, rows) in [("shop", "shop.order", gone), ("shipping", "shipping.parcel", 2 * gone)] {
            let archived = format!("SELECT count(*) FROM entail_archive WHERE entity = '{entity}'");
            assert_eq!(count(service, &archived).await, rows, "archived rows of {entity}");
            let keys = format!("SELECT count(DISTINCT row_key) FROM entail_archive WHERE entity = '{entity}'");
            assert_eq!(count(service, &keys).await, rows, "archived keys of {entity}");
        }
        if updates > 0 {
            let copies = format!("SELECT count(*) FROM customer_copy WHERE id > {gone} AND name = 'name {updates}'");
            assert_eq!(count("shop", &copies).await, stay, "copies that are up to date");
            assert_eq!(count("shop", "SELECT count(*) FROM customer_copy").await, stay, "copies");
        }
        let ends = self.bed.high_watermarks(&self.topic).await;
        for service in ["shop", "shipping"] {
            let sql = format!(
                "SELECT CAST(\"partition\" AS text), CAST(next_offset AS text) FROM entail_progress WHERE topic = '{}'",
                self.topic
            );
            let number = |text: &String| text.parse::<i64>().expect("a number");
            let found: BTreeMap<i32, i64> = self
                .rows(service, &sql)
                .await
                .iter()
                .map(|row| (i32::try_from(number(&row[0])).expect("a partition"), number(&row[1])))
                .collect();
            assert_eq!(found, ends, "next offsets in {service}");
        }
    }

    /// The ledger's next offsets and the group's: what only a worker may move.
    pub(crate) async fn frontier(&self) -> (Vec<Vec<String>>, Vec<Vec<String>>, BTreeMap<i32, i64>) {
        let sql =
            "SELECT topic, CAST(\"partition\" AS text), CAST(epoch AS text), CAST(next_offset AS text) FROM entail_progress ORDER BY 1, 2";
        (self.rows("shop", sql).await, self.rows("shipping", sql).await, self.bed.committed(&self.group, &self.topic).await)
    }
}

/// Runs the binary to its end: exit code, stdout, stderr.
pub(crate) async fn entail(config: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entail"));
    command.arg("--config").arg(config).args(arguments).env_remove("ENTAIL_LOG").stdin(Stdio::null());
    let Output { status, stdout, stderr } = blocking(move || command.output().expect("the binary runs")).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A process of the real binary. It is killed when this is dropped.
pub(crate) struct Worker {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    started: Instant,
}

impl Worker {
    pub(crate) fn start(dir: &Path, config: &Path, name: &str, arguments: &[&str]) -> Worker {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let file = |path: &Path| File::create(path).expect("a file for the output");
        let mut command = Command::new(env!("CARGO_BIN_EXE_entail"));
        command.arg("--config").arg(config).args(arguments).env("ENTAIL_LOG", "info,sqlx::postgres::notice=warn,entail::source=debug");
        command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
        let child = command.spawn().expect("the binary starts");
        Worker { child, name: name.to_owned(), stdout, stderr, started: Instant::now() }
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).expect("the log is readable")
    }

    /// Waits until it has logged a text; returns how long after its start that was.
    pub(crate) async fn until_log(&mut self, text: &str) -> Duration {
        let what = format!("{} to log `{text}`", self.name);
        wait_for(&what, DEADLINE, async || {
            let seen = self.log().contains(text);
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(seen || ended.is_none(), "{} ended before it logged `{text}`: {ended:?}\n{}", self.name, self.tail());
            seen.then_some(())
        })
        .await;
        self.started.elapsed()
    }

    /// Waits until it has partitions. The first assignments of a worker that joins may be empty.
    pub(crate) async fn until_owner(&mut self) {
        wait_for(&format!("{} to get partitions", self.name), DEADLINE, async || {
            let log = self.log();
            log.lines().any(|line| line.contains("taken over partitions=") && !line.contains("partitions=0")).then_some(())
        })
        .await;
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("`kill` is there").success(), "{}: the process is gone\n{}", self.name, self.tail());
    }

    /// Waits for its end and returns the exit code; -1 if a signal ended it.
    pub(crate) async fn exit(&mut self, deadline: Duration) -> i32 {
        let what = format!("{} to end", self.name);
        wait_for(&what, deadline, async || self.child.try_wait().expect("a child of ours")).await.code().unwrap_or(-1)
    }

    /// The exit code, once it has ended; -1 if a signal ended it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child of ours").map(|status| status.code().unwrap_or(-1))
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// The last accounts that it printed. Panics if they do not balance.
    pub(crate) fn accounts(&self) -> Value {
        let text = std::fs::read_to_string(&self.stdout).expect("the output is readable");
        let last = text.lines().last().unwrap_or_else(|| panic!("{} printed no accounts\n{}", self.name, self.tail()));
        let accounts: Value = serde_json::from_str(last).expect("JSON");
        assert_balance(&accounts);
        accounts
    }

    /// Resident memory now and at its highest, in MiB.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a line of /proc");
            line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number of kB") / 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// The end of its log, for messages.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        // Its directory may have gone before it.
        if std::thread::panicking() && self.stderr.exists() {
            eprintln!("the end of {}'s log:\n{}", self.name, self.tail());
        }
    }
}

/// Whether every record is accounted for.
pub(crate) fn assert_balance(accounts: &Value) {
    let partitions = accounts["partitions"].as_object().expect("accounts per partition");
    for (partition, account) in partitions {
        let number = |name: &str| account[name].as_u64().expect("a number");
        let skipped: u64 = account["skipped"].as_object().expect("reasons").values().filter_map(Value::as_u64).sum();
        let sum = number("applied") + number("no_effect") + skipped + number("dead_letters");
        assert_eq!(number("consumed"), sum, "{partition}: {account}");
    }
}

/// Records consumed, over all partitions.
pub(crate) fn consumed(accounts: &Value) -> u64 {
    accounts["partitions"].as_object().expect("accounts per partition").values().filter_map(|account| account["consumed"].as_u64()).sum()
}
