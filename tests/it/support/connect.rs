//! Debezium connectors, made and deleted through Kafka Connect's REST API. `curl` speaks HTTP for us.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgConnectOptions;

use super::postgres;
use super::wait::{blocking, wait_for};

const DEADLINE: Duration = Duration::from_secs(60);

/// A connector to be: `bed.connector("crm", &url).tables(&["public.customer"]).partitions(3).start().await`.
pub(crate) struct Settings {
    connect: String,
    name: String,
    database_url: String,
    config: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn new(connect: &str, name: &str, database_url: &str) -> Settings {
        let database: PgConnectOptions = database_url.parse().expect("a PostgreSQL URL");
        let config = [
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("tasks.max", "1"),
            ("database.hostname", database.get_host()),
            ("database.port", &database.get_port().to_string()),
            ("database.user", database.get_username()),
            ("database.password", "trusted"),
            ("database.sslmode", "disable"),
            ("database.dbname", database.get_database().expect("a URL with a database")),
            ("topic.prefix", name),
            ("plugin.name", "pgoutput"),
            ("slot.name", name),
            ("slot.drop.on.stop", "true"),
            ("slot.retry.delay.ms", "500"),
            ("publication.name", name),
            ("publication.autocreate.mode", "filtered"),
            ("snapshot.mode", "no_data"),
            ("poll.interval.ms", "10"),
            ("retriable.restart.connector.wait.ms", "500"),
            ("topic.creation.default.partitions", "1"),
            ("topic.creation.default.replication.factor", "1"),
        ];
        let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Settings { connect: connect.to_owned(), name: name.to_owned(), database_url: database_url.to_owned(), config }
    }

    /// Tables to read, each as `schema.table`.
    pub(crate) fn tables(self, tables: &[&str]) -> Settings {
        self.set("table.include.list", &tables.join(","))
    }

    /// How many partitions its topics get.
    pub(crate) fn partitions(self, partitions: i32) -> Settings {
        self.set("topic.creation.default.partitions", &partitions.to_string())
    }

    /// Any setting of Debezium's, over what is set already (`snapshot.mode` is `no_data`).
    pub(crate) fn set(mut self, key: &str, value: &str) -> Settings {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Returns when changes are being read: its task runs and its replication slot is in use.
    pub(crate) async fn start(self) -> Connector {
        let url = format!("{}/connectors/{}/config", self.connect, self.name);
        let body = serde_json::to_string(&self.config).expect("strings are JSON");
        wait_for(&format!("connector {} to be accepted", self.name), DEADLINE, async || {
            let answer = request("PUT", &url, Some(&body)).await;
            // 409: the worker is settling another connector.
            if answer.status == 409 {
                return None;
            }
            assert!(matches!(answer.status, 200 | 201), "Connect refused {}: {} {}", self.name, answer.status, answer.body);
            Some(())
        })
        .await;
        let slot = self.config.get("slot.name").cloned().unwrap_or_default();
        let drops_slot = self.config.get("slot.drop.on.stop").is_some_and(|value| value == "true");
        let connector = Connector { connect: self.connect, name: self.name, slot, drops_slot, database_url: self.database_url };
        connector.wait_until_reading().await;
        connector
    }
}

/// A connector that was started. It is deleted with the `Bed` at the latest.
pub(crate) struct Connector {
    connect: String,
    name: String,
    slot: String,
    drops_slot: bool,
    database_url: String,
}

/// What the database says of a replication slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Absent,
    Idle,
    /// By the server process with this id.
    Used(i32),
}

impl Connector {
    /// The topic of a table, `schema.table`.
    pub(crate) fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.name)
    }

    /// What Connect says of it; `Null` while it does not know the connector.
    pub(crate) async fn status(&self) -> Value {
        let answer = request("GET", &format!("{}/connectors/{}/status", self.connect, self.name), None).await;
        if answer.status == 200 { serde_json::from_str(&answer.body).expect("JSON from Connect") } else { Value::Null }
    }

    /// Waits until its task runs and its slot is in use. Panics with the trace when the task has failed.
    pub(crate) async fn wait_until_reading(&self) {
        wait_for(&format!("connector {} to run", self.name), DEADLINE, async || {
            let status = self.status().await;
            let task = |fact: &str| status.pointer(&format!("/tasks/0/{fact}")).and_then(Value::as_str).unwrap_or_default();
            assert!(task("state") != "FAILED", "connector {} failed: {}", self.name, task("trace"));
            (task("state") == "RUNNING").then_some(())
        })
        .await;
        wait_for(&format!("slot {} to be in use", self.slot), DEADLINE, async || matches!(self.slot().await, Slot::Used(_)).then_some(()))
            .await;
    }

    /// Stops and starts the task, which goes on from its stored offset. For that its slot must stay:
    /// `.set("slot.drop.on.stop", "false")`.
    pub(crate) async fn restart(&self) {
        assert!(!self.drops_slot, "{} drops its slot when it stops and could not go on: set slot.drop.on.stop to false", self.name);
        let before = self.slot().await;
        let url = format!("{}/connectors/{}/restart?includeTasks=true", self.connect, self.name);
        let answer = request("POST", &url, None).await;
        assert!(matches!(answer.status, 200 | 202 | 204), "restart of {}: {} {}", self.name, answer.status, answer.body);
        wait_for(&format!("slot {} to be left", self.slot), DEADLINE, async || (self.slot().await != before).then_some(())).await;
        self.wait_until_reading().await;
    }

    /// Returns when the connector reads no more, and its slot is gone unless `slot.drop.on.stop` was switched off.
    pub(crate) async fn delete(self) {
        delete(&self.connect, &self.name).await;
        let after = if self.drops_slot { Slot::Absent } else { Slot::Idle };
        wait_for(&format!("slot {} to be {after:?}", self.slot), DEADLINE, async || (self.slot().await == after).then_some(())).await;
    }

    async fn slot(&self) -> Slot {
        let mut connection = postgres::connect(&self.database_url).await;
        let query = sqlx::query_scalar("SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1").bind(&self.slot);
        let found: Option<Option<i32>> = query.fetch_optional(&mut connection).await.expect("the replication slots");
        found.map_or(Slot::Absent, |process| process.map_or(Slot::Idle, Slot::Used))
    }
}

/// Deletes a connector if it is there.
pub(crate) async fn delete(connect: &str, name: &str) {
    let url = format!("{connect}/connectors/{name}");
    wait_for(&format!("connector {name} to be deleted"), DEADLINE, async || {
        let answer = request("DELETE", &url, None).await;
        // 409: the worker is settling another connector.
        assert!(matches!(answer.status, 204 | 404 | 409), "deleting {name}: {} {}", answer.status, answer.body);
        (answer.status != 409).then_some(())
    })
    .await;
}

struct Answer {
    /// 0 when there was no answer.
    status: u16,
    body: String,
}

async fn request(method: &'static str, url: &str, body: Option<&str>) -> Answer {
    let (url, body) = (url.to_owned(), body.map(str::to_owned));
    blocking(move || request_blocking(method, &url, body.as_deref())).await
}

fn request_blocking(method: &str, url: &str, body: Option<&str>) -> Answer {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*", "--write-out", "\n%{http_code}", "--request", method]);
    if body.is_some() {
        curl.args(["--header", "Content-Type: application/json", "--data-binary", "@-"]);
    }
    let mut child = curl.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl is installed");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(body.unwrap_or_default().as_bytes()).expect("curl reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("curl ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    let status = status.parse().unwrap_or(0);
    let body = if status == 0 { String::from_utf8_lossy(&output.stderr).into_owned() } else { body.to_owned() };
    Answer { status, body }
}
