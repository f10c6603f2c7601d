//! The services, their connectors, the proxies before the databases, and the workers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _};

use super::application::Statement;
use super::{Counts, audit};
use crate::support::bed::Bed;
use crate::support::kafka::Record;
use crate::support::postgres::{self, Cluster};
use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;
use crate::support::worker::{Worker, entail};

/// Longer than a worker's session: whoever sleeps as long has lost its partitions.
const SLEEP: Duration = Duration::from_secs(8);
const SESSION: &str = "session.timeout.ms: 6000, heartbeat.interval.ms: 1000";

const TABLES: [(&str, &str); 3] = [
    ("crm", "CREATE TABLE customers (id bigint PRIMARY KEY, name text);"),
    (
        "shop",
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint{c:CASCADE}); CREATE INDEX ON orders (customer_id);
         CREATE TABLE vouchers (id bigint PRIMARY KEY, customer_id bigint{c:SET NULL}); CREATE INDEX ON vouchers (customer_id);",
    ),
    (
        "shipping",
        "CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint{o:CASCADE}); CREATE INDEX ON parcels (order_id);
         CREATE TABLE claims (id bigint PRIMARY KEY, parcel_id bigint{p:CASCADE}, customer_id bigint{c:SET NULL});
         CREATE INDEX ON claims (parcel_id); CREATE INDEX ON claims (customer_id);",
    ),
];

/// The tables as one service has them, or all in one database with native keys.
fn tables(sql: &str, native: bool) -> String {
    let keys = [("{c:CASCADE}", "customers ON DELETE CASCADE"), ("{c:SET NULL}", "customers ON DELETE SET NULL")];
    let keys = keys.into_iter().chain([("{o:CASCADE}", "orders ON DELETE CASCADE"), ("{p:CASCADE}", "parcels ON DELETE CASCADE")]);
    keys.fold(sql.to_owned(), |sql, (place, key)| sql.replace(place, &if native { format!(" REFERENCES {key}") } else { String::new() }))
}

/// Rows of all tables, as `table|id` to the values of their references.
pub(super) type State = BTreeMap<String, Vec<Option<i64>>>;

/// How the services differ from the oracle.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Rows that live in the oracle alone: wrongly deleted.
    pub(super) missing: Vec<String>,
    /// Rows whose reference was emptied or changed though its parent lives.
    pub(super) changed: Vec<String>,
    /// Rows and references that have not gone yet.
    pub(super) left_over: Vec<String>,
}

impl Difference {
    pub(super) fn is_harmless(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_harmless() && self.left_over.is_empty()
    }
}

struct Slot {
    worker: Worker,
    lives: u64,
    started: Instant,
    /// It has had partitions since its start, or its start was counted.
    is_counted: bool,
    asleep_until: Option<Instant>,
}

pub(super) struct World {
    // First, since their ends come before that of what they run on.
    slots: Vec<Slot>,
    bed: Bed,
    dir: tempfile::TempDir,
    cluster: Cluster,
    urls: BTreeMap<&'static str, String>,
    pools: BTreeMap<&'static str, PgPool>,
    proxies: BTreeMap<&'static str, Proxy>,
    topics: BTreeMap<&'static str, String>,
    /// Each worker has a name of its own in the group: killed, it gets its partitions back at once (H42).
    are_static: bool,
}

impl World {
    pub(super) async fn new(workers: usize, are_static: bool) -> World {
        let (bed, cluster) = (Bed::from_env(), Cluster::create().await);
        let (mut urls, mut pools, mut proxies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let native: String = TABLES.iter().map(|(_, sql)| tables(sql, true)).collect();
        for (service, sql) in TABLES.map(|(service, sql)| (service, tables(sql, false))).into_iter().chain([("oracle", native)]) {
            // The parcels have a server of their own, to be crashed.
            let url = if service == "shipping" { cluster.url("postgres") } else { bed.create_database(service).await };
            postgres::execute(&url, &sql).await;
            let port = url.split([':', '/']).nth(4).and_then(|port| port.parse().ok()).expect("a port");
            proxies.insert(service, Proxy::start(port).await);
            pools.insert(service, PgPoolOptions::new().max_connections(4).connect_lazy(&url).expect("a url"));
            urls.insert(service, url);
        }
        let crm = bed.connector("crm", &urls["crm"]).tables(&["public.customers"]).partitions(4).start().await;
        let shop = bed.connector("shop", &urls["shop"]).tables(&["public.orders"]).partitions(4).start().await;
        let topics = BTreeMap::from([("customers", crm.topic("public.customers")), ("orders", shop.topic("public.orders"))]);
        // Their connectors make the topics with the first record; workers need them at their start.
        for topic in topics.values() {
            bed.create_topic(topic, 4, &[]).await;
        }
        let parcels = bed.name("shipping.public.parcels");
        bed.create_topic(&parcels, 1, &[]).await;
        let rules = rules(&topics, &parcels);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut world = World { bed, dir, cluster, urls, pools, proxies, topics, slots: Vec::new(), are_static };
        std::fs::write(world.dir.path().join("rules.yaml"), rules).expect("the rules are written");
        let (code, _, errors) = entail(&world.settings(0, 0), &["migrate"]).await;
        assert_eq!(code, 0, "{errors}");
        for service in ["shop", "shipping"] {
            postgres::execute(&world.urls[service], audit::TABLES).await;
        }
        for place in 0..workers {
            let slot = world.start(place, 1);
            world.slots.push(slot);
        }
        world
    }

    /// The settings of one life of one worker, which its databases know by name.
    fn settings(&self, place: usize, lives: u64) -> PathBuf {
        let name = format!("w{place}_{lives}");
        let member = if self.are_static { format!(", group.instance.id: w{place}") } else { String::new() };
        let url = |service: &str| {
            let database = self.urls[service].rsplit('/').next().expect("a database");
            format!("postgres://postgres@127.0.0.1:{}/{database}?application_name={name}", self.proxies[service].port)
        };
        let text = format!(
            "version: 1\nrules: rules.yaml\nkafka: {{ brokers: \"{}\", group: {}, properties: {{ {SESSION}{member} }} }}\ndatabases:\n  \
             crm: {{ url: \"{}\", access: read }}\n  shop: {{ url: \"{}\" }}\n  shipping: {{ url: \"{}\" }}\n\
             dead_letters: {{ topic: {} }}\nbatch: {{ events: 200 }}\n",
            self.bed.kafka,
            self.bed.name("entail"),
            url("crm"),
            url("shop"),
            url("shipping"),
            self.bed.name("dead"),
        );
        let path = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text).expect("the settings are written");
        path
    }

    fn start(&self, place: usize, lives: u64) -> Slot {
        let settings = self.settings(place, lives);
        // It may come up while a database is away.
        let arguments = ["run", "--format", "json", "--wait", "60s"];
        let worker = Worker::start(self.dir.path(), &settings, &format!("w{place}_{lives}"), &arguments);
        Slot { worker, lives, started: Instant::now(), is_counted: false, asleep_until: None }
    }

    /// Starts workers that have ended, and wakes those that have slept long enough.
    pub(super) fn revive(&mut self, counts: &mut Counts) {
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.asleep_until.is_some_and(|until| Instant::now() >= until) {
                slot.worker.signal("CONT");
                slot.asleep_until = None;
            }
            if !slot.is_counted && slot.worker.log().lines().any(|line| line.contains("partitions taken over")) {
                slot.is_counted = true;
                counts.resumed.push(slot.started.elapsed().as_millis());
            }
            if let Some(code) = slot.worker.ended() {
                assert!([0, 3, 4, -1].contains(&code), "a worker ended with {code}\n{}", slot.worker.tail());
                if code != -1 {
                    let why = slot.worker.log().lines().last().unwrap_or_default().to_owned();
                    *counts.ended.entry(format!("{code}: {why}")).or_default() += 1;
                }
                let lives = slot.lives + 1;
                self.slots[place] = self.start(place, lives);
            }
        }
    }

    pub(super) async fn kill(&mut self, rng: &mut fastrand::Rng, counts: &mut Counts) {
        let place = rng.usize(0..self.slots.len());
        let slot = &mut self.slots[place];
        if slot.worker.ended().is_none() {
            slot.worker.signal("KILL");
            slot.worker.exit(Duration::from_secs(10)).await;
            counts.kills += 1;
        }
    }

    pub(super) fn put_to_sleep(&mut self, rng: &mut fastrand::Rng, counts: &mut Counts) {
        let place = rng.usize(0..self.slots.len());
        let slot = &mut self.slots[place];
        if slot.asleep_until.is_none() && slot.worker.ended().is_none() {
            slot.worker.signal("STOP");
            slot.asleep_until = Some(Instant::now() + SLEEP);
            counts.stops += 1;
        }
    }

    pub(super) fn proxy(&self, service: &str) -> &Proxy {
        &self.proxies[service]
    }

    pub(super) fn cuts(&self) -> (u64, u64) {
        self.proxies.values().map(Proxy::cuts).fold((0, 0), |sum, cuts| (sum.0 + cuts.0, sum.1 + cuts.1))
    }

    /// Ends the workers' sessions on the server.
    pub(super) async fn terminate(&self, service: &str) {
        let sql =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'w%' AND datname = current_database()";
        drop(sqlx::query(sql).execute(&self.pools[service]).await);
    }

    /// An application holds some rows, in an order of its own.
    pub(super) async fn lock_some_rows(&self, service: &str, length: Duration) {
        let table = if service == "shop" { "orders" } else { "parcels" };
        let mut connection = postgres::connect(&self.urls[service]).await;
        let sql = format!("SET lock_timeout = '200ms'; BEGIN; SELECT 1 FROM {table} ORDER BY id DESC LIMIT 30 FOR UPDATE");
        drop(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await);
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            // The server may have crashed under it.
            drop(connection.close().await);
        });
    }

    /// The parcels' server loses its power and comes back.
    pub(super) async fn crash(&self) {
        self.cluster.crash().await;
        self.cluster.start().await;
    }

    /// No more faults: everything passes. Who sleeps does so to the end, for others to take over.
    pub(super) fn heal(&mut self, counts: &mut Counts) {
        self.proxies.values().for_each(Proxy::heal);
        self.revive(counts);
    }

    /// Runs a statement on its service and on the oracle, in a transaction each.
    pub(super) async fn execute(&self, statement: &Statement) {
        for service in ["oracle", statement.service] {
            wait_for(&format!("{service} to take {}", statement.sql), Duration::from_secs(30), async || {
                let done = sqlx::raw_sql(AssertSqlSafe(statement.sql.clone())).execute(&self.pools[service]).await;
                match done {
                    Ok(_) => Some(()),
                    // Whether it was done is known by its key.
                    Err(sqlx::Error::Database(error)) if error.is_unique_violation() && service == "shipping" => Some(()),
                    Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => None,
                    Err(_) if service == "shipping" => None,
                    Err(error) => panic!("{service}: {}: {error}", statement.sql),
                }
            })
            .await;
        }
    }

    /// Deletes and tombstones of rows that live.
    pub(super) async fn forge(&self, living: &[(&'static str, i64)]) {
        let records = living.iter().flat_map(|(table, id)| {
            let source =
                format!("{{\"connector\":\"postgresql\",\"name\":\"forger\",\"schema\":\"public\",\"table\":\"{table}\",\"lsn\":1}}");
            let value = format!("{{\"op\":\"d\",\"before\":{{\"id\":{id}}},\"after\":null,\"source\":{source}}}");
            let key = format!("{{\"id\":{id}}}");
            [Record::new(&self.topics[table], &key, Some(&value)), Record::new(&self.topics[table], &key, None)]
        });
        self.bed.produce(records.collect()).await;
    }

    pub(super) async fn lines(&self, service: &str, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&self.pools[service])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(super) async fn count(&self, service: &str, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.pools[service])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The tables of a service in which entail works, with their entities.
    pub(super) fn tables(&self, service: &str) -> &'static [(&'static str, &'static str)] {
        match service {
            "shop" => &[("orders", "shop.order"), ("vouchers", "shop.voucher")],
            _ => &[("parcels", "shipping.parcel"), ("claims", "shipping.claim")],
        }
    }

    async fn state(&self, oracle: bool) -> Result<State, sqlx::Error> {
        let mut state = State::new();
        let tables = [
            ("shop", "orders", "customer_id, NULL::bigint"),
            ("shop", "vouchers", "customer_id, NULL::bigint"),
            ("shipping", "parcels", "order_id, NULL::bigint"),
            ("shipping", "claims", "parcel_id, customer_id"),
        ];
        for (service, table, columns) in tables {
            let pool = &self.pools[if oracle { "oracle" } else { service }];
            let sql = format!("SELECT id, {columns} FROM {table}");
            let rows: Vec<(i64, Option<i64>, Option<i64>)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await?;
            state.extend(rows.into_iter().map(|(id, first, second)| (format!("{table}|{id}"), vec![first, second])));
        }
        Ok(state)
    }

    /// What the services are to come to.
    pub(super) async fn expected(&self) -> State {
        self.state(true).await.expect("the oracle answers")
    }

    pub(super) async fn difference(&self, expected: &State) -> Difference {
        // The parcels' server may be coming back.
        let state = wait_for("the services to answer", Duration::from_secs(60), async || self.state(false).await.ok()).await;
        let mut difference = Difference::default();
        for (row, wanted) in expected {
            let Some(found) = state.get(row) else {
                difference.missing.push(row.clone());
                continue;
            };
            for (found, wanted) in found.iter().zip(wanted).filter(|(found, wanted)| found != wanted) {
                let text = format!("{row}: {found:?}, not {wanted:?}");
                if wanted.is_none() { difference.left_over.push(text) } else { difference.changed.push(text) }
            }
        }
        difference.left_over.extend(state.keys().filter(|row| !expected.contains_key(*row)).cloned());
        difference
    }

    pub(super) async fn dead_letters(&self) -> i64 {
        self.bed.high_watermarks(&self.bed.name("dead")).await.values().sum()
    }

    /// Ends all workers in order; their accounts add up.
    pub(super) async fn stop(&mut self, counts: &mut Counts) {
        wait_for("everybody to be awake and at work", Duration::from_secs(60), async || {
            self.revive(counts);
            self.slots.iter().all(|slot| slot.asleep_until.is_none() && slot.is_counted).then_some(())
        })
        .await;
        for slot in &mut self.slots {
            slot.worker.signal("TERM");
        }
        for slot in &mut self.slots {
            // One that woke up may have been fenced.
            let code = slot.worker.exit(Duration::from_secs(40)).await;
            assert!(code == 0 || code == 3, "{code}: {}", slot.worker.tail());
            slot.worker.accounts();
        }
    }

    /// The ledger and the logs, for a failure.
    pub(super) async fn told(&self) -> String {
        let mut text = String::new();
        for service in ["shop", "shipping"] {
            for sql in
                ["SELECT scope || ': ' || detail FROM entail_latches", "SELECT entity || root_key || ': ' || reason FROM entail_pending"]
            {
                text.push_str(&format!("{service}: {:?}\n", self.lines(service, sql).await));
            }
        }
        for (place, slot) in self.slots.iter().enumerate() {
            text.push_str(&format!("w{place}_{}:\n{}\n", slot.lives, slot.worker.tail()));
        }
        text
    }
}

fn rules(topics: &BTreeMap<&str, String>, parcels: &str) -> String {
    format!(
        "version: 1
mode: enforce
entities:
  - {{ name: crm.customer, table: customers, key: id, topic: {} }}
  - {{ name: shop.order, table: orders, key: id, topic: {} }}
  - {{ name: shop.voucher, table: vouchers, key: id }}
  - {{ name: shipping.parcel, table: parcels, key: id, topic: {parcels} }}
  - {{ name: shipping.claim, table: claims, key: id }}
references:
  - {{ name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }}
  - {{ name: voucher_customer, child: shop.voucher, columns: customer_id, parent: crm.customer, on_delete: set_null }}
  - {{ name: parcel_order, child: shipping.parcel, columns: order_id, parent: shop.order, on_delete: cascade }}
  - {{ name: claim_parcel, child: shipping.claim, columns: parcel_id, parent: shipping.parcel, on_delete: cascade }}
  - {{ name: claim_customer, child: shipping.claim, columns: customer_id, parent: crm.customer, on_delete: set_null }}
limits: {{ rows_per_event: 100000, rows: {{ count: 100000000, per: 10m }} }}
",
        topics["customers"], topics["orders"]
    )
}
