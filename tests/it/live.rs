//! The main job on real servers: PostgreSQL `crm` → Debezium → Kafka → the real binary → PostgreSQL `shop` and `shipping`.
//!
//! Every statement also runs in one PostgreSQL with native foreign keys; the end states are compared row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgPool, Row as _};

use crate::support::bed::Bed;
use crate::support::wait::wait_for;

const CRM: &str = "
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, note text);
CREATE TABLE accounts (tenant integer, number text, PRIMARY KEY (tenant, number));";
const SHOP: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, total numeric(10,2) NOT NULL DEFAULT 9.90);
CREATE INDEX ON orders (customer_id);
CREATE TABLE categories (id bigint PRIMARY KEY, parent_id bigint);
CREATE INDEX ON categories (parent_id);
CREATE TABLE invoices (id bigint PRIMARY KEY, tenant integer, account text);
CREATE INDEX ON invoices (tenant, account);";
const COPY: &str = "CREATE TABLE customer_copy (id bigint PRIMARY KEY, name text, note text);";
const SHIPPING: &str = "CREATE TABLE parcels (order_id bigint, number integer, PRIMARY KEY (order_id, number));";
const NATIVE: &str = "
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE parcels ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE;
ALTER TABLE categories ADD FOREIGN KEY (parent_id) REFERENCES categories ON DELETE CASCADE;
ALTER TABLE invoices ADD FOREIGN KEY (tenant, account) REFERENCES accounts ON DELETE SET NULL;";

struct World {
    bed: Bed,
    dir: tempfile::TempDir,
    pools: BTreeMap<&'static str, PgPool>,
    settings: std::path::PathBuf,
}

impl World {
    async fn new() -> World {
        let bed = Bed::from_env();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut pools = BTreeMap::new();
        let mut urls = BTreeMap::new();
        let tables = [
            ("crm", CRM.to_owned()),
            ("shop", format!("{SHOP}{COPY}")),
            ("shipping", SHIPPING.to_owned()),
            ("oracle", format!("{CRM}{SHOP}{SHIPPING}{NATIVE}")),
        ];
        for (name, tables) in tables {
            let url = bed.create_database(name).await;
            let pool = PgPool::connect(&url).await.expect("the database answers");
            sqlx::raw_sql(AssertSqlSafe(tables)).execute(&pool).await.expect("the tables are made");
            pools.insert(name, pool);
            urls.insert(name, url);
        }
        let crm = bed.connector("crm", &urls["crm"]).tables(&["public.customers", "public.accounts"]).partitions(3).start().await;
        let shop = bed.connector("shop", &urls["shop"]).tables(&["public.orders", "public.categories"]).partitions(3).start().await;
        let rules = format!(
            "
version: 1
mode: enforce
entities:
  - {{ name: crm.customer, table: customers, key: id, topic: {} }}
  - {{ name: crm.account, table: accounts, key: [tenant, number], topic: {} }}
  - {{ name: shop.order, table: orders, key: id, topic: {} }}
  - {{ name: shop.category, table: categories, key: id, topic: {} }}
  - {{ name: shop.invoice, table: invoices, key: id }}
  - {{ name: shipping.parcel, table: parcels, key: [order_id, number] }}
references:
  - {{ name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade, on_update: cascade }}
  - {{ name: parcel_order, child: shipping.parcel, columns: order_id, parent: shop.order, on_delete: cascade }}
  - {{ name: category_parent, child: shop.category, columns: parent_id, parent: shop.category, on_delete: cascade }}
  - {{ name: invoice_account, child: shop.invoice, columns: [tenant, account], parent: crm.account, on_delete: set_null }}
replicas:
  - {{ name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: {{ id: id, name: name, note: note }} }}
limits: {{ rows_per_event: 10000, rows: {{ count: 1000000, per: 10m }} }}
",
            crm.topic("public.customers"),
            crm.topic("public.accounts"),
            shop.topic("public.orders"),
            shop.topic("public.categories"),
        );
        std::fs::write(dir.path().join("rules.yaml"), rules).expect("the rules are written");
        let config = format!(
            "
version: 1
rules: rules.yaml
kafka: {{ brokers: \"{}\", group: {} }}
databases:
  crm: {{ url: \"{}\", access: read }}
  shop: {{ url: \"{}\" }}
  shipping: {{ url: \"{}\" }}
dead_letters: {{ topic: {} }}
",
            bed.kafka,
            bed.name("entail"),
            urls["crm"],
            urls["shop"],
            urls["shipping"],
            bed.name("dead"),
        );
        let settings = dir.path().join("entail.yaml");
        std::fs::write(&settings, config).expect("the settings are written");
        World { bed, dir, pools, settings }
    }

    fn start(&self) -> Worker {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_entail"))
            .args(["run", "--migrate", "--allow-missing-topics", "--format", "json", "--config"])
            .arg(&self.settings)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Worker { child: Some(child) }
    }

    /// Runs statements in a service, in one transaction, and the same in the oracle.
    async fn both(&self, service: &'static str, sql: &str) {
        for name in [service, "oracle"] {
            self.one(name, sql).await;
        }
    }

    async fn one(&self, name: &'static str, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN;{sql};COMMIT")))
            .execute(&self.pools[name])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn rows(&self, name: &str, sql: &str) -> BTreeSet<String> {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT row_to_json(t)::text FROM ({sql}) AS t"))).fetch_all(&self.pools[name]).await;
        rows.expect("the query runs").iter().map(|row| row.get(0)).collect()
    }

    async fn count(&self, name: &str, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pools[name]).await.expect("the query runs")
    }

    /// Rows that the services have and the oracle has not (orphans or changes), and those that only the oracle has (wrong deletions).
    async fn differences(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut more, mut less) = (BTreeSet::new(), BTreeSet::new());
        for (service, table) in [("shop", "orders"), ("shop", "categories"), ("shop", "invoices"), ("shipping", "parcels")] {
            let sql = format!("SELECT '{table}' AS of, * FROM {table}");
            let (ours, native) = (self.rows(service, &sql).await, self.rows("oracle", &sql).await);
            more.extend(ours.difference(&native).cloned());
            less.extend(native.difference(&ours).cloned());
        }
        (more, less)
    }

    async fn settle(&self, what: &str) {
        let mut last = (BTreeSet::new(), BTreeSet::new());
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            last = self.differences().await;
            if last.0.is_empty() && last.1.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let head = |rows: &BTreeSet<String>| rows.iter().take(5).cloned().collect::<Vec<_>>().join("\n  ");
        panic!(
            "{what}: not settled\n{} rows too many:\n  {}\n{} rows missing (WRONG DELETIONS OR CHANGES):\n  {}\nlog:\n{}",
            last.0.len(),
            head(&last.0),
            last.1.len(),
            head(&last.1),
            log.lines().rev().take(30).collect::<Vec<_>>().join("\n")
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the worker's log ends with:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

struct Worker {
    child: Option<Child>,
}

impl Worker {
    /// SIGTERM, and the accounts that it prints.
    async fn stop(mut self) -> serde_json::Value {
        let mut child = self.child.take().expect("running");
        let killed = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        wait_for("the worker to end", Duration::from_secs(30), async || child.try_wait().expect("a child of ours")).await;
        let output = child.wait_with_output().expect("its output");
        assert!(output.status.success(), "{:?}", output.status);
        serde_json::from_slice(&output.stdout).expect("accounts as JSON")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn balanced(accounts: &serde_json::Value) {
    for (partition, account) in accounts["partitions"].as_object().expect("partitions") {
        let number = |name: &str| account[name].as_u64().expect("a number");
        let skipped: u64 = account["skipped"].as_object().expect("reasons").values().filter_map(serde_json::Value::as_u64).sum();
        let sum = number("applied") + number("no_effect") + skipped + number("dead_letters");
        assert_eq!(number("consumed"), sum, "{partition}: {account}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_1000_customers_ends_as_with_native_foreign_keys() {
    let world = World::new().await;
    world.both("crm", "INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 1000) AS n").await;
    let orders =
        "INSERT INTO orders (id, customer_id) SELECT c * 100 + n, c FROM generate_series(1, 1000) AS c, generate_series(0, 9) AS n";
    world.both("shop", orders).await;
    let parcels = "INSERT INTO parcels SELECT o, n FROM (SELECT c * 100 + k AS o FROM generate_series(1, 1000) AS c, generate_series(0, 9) AS k) AS o, generate_series(1, 3) AS n";
    world.both("shipping", parcels).await;
    let worker = world.start();
    wait_for("the copy to be filled", Duration::from_secs(60), async || {
        (world.count("shop", "SELECT count(*) FROM customer_copy").await == 1000).then_some(())
    })
    .await;

    // 300 deleted one by one, each timed from its commit to its children being gone.
    let delays = delete_one_by_one(&world, 1..=300).await;
    // 300 in one statement; 100 deleted and re-created; 100 updated; 50 re-keyed.
    world.both("crm", "DELETE FROM customers WHERE id BETWEEN 301 AND 600").await;
    // A parent that exists again when its event is handled keeps its children (DESIGN 5): here the oracle is told not to delete either.
    world.one("crm", "DELETE FROM customers WHERE id BETWEEN 601 AND 700; INSERT INTO customers SELECT n, 'again ' || n FROM generate_series(601, 700) AS n").await;
    world.one("oracle", "UPDATE customers SET name = 'again ' || id WHERE id BETWEEN 601 AND 700").await;
    world.both("crm", "UPDATE customers SET name = 'updated ' || id WHERE id BETWEEN 701 AND 800").await;
    world.both("crm", "UPDATE customers SET id = id + 100000 WHERE id BETWEEN 801 AND 850").await;
    world.settle("deletes, re-creations, updates, key changes").await;

    // A chain of two key changes; a key change followed by a delete, settled between.
    world.both("crm", "UPDATE customers SET id = 200001 WHERE id = 851; UPDATE customers SET id = 200002 WHERE id = 200001").await;
    world.both("crm", "UPDATE customers SET id = 200003 WHERE id = 852").await;
    world.settle("a chain of two key changes").await;
    world.both("crm", "DELETE FROM customers WHERE id = 200003").await;
    // A child re-pointed while its parent goes.
    world.both("shop", "UPDATE orders SET customer_id = 999 WHERE id = 85301").await;
    world.both("crm", "DELETE FROM customers WHERE id = 853").await;
    // A self-reference, with a row that is its own parent; a composite key.
    world.both("shop", "INSERT INTO categories VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, 5), (6, NULL), (7, 6)").await;
    world.both("crm", "INSERT INTO accounts VALUES (1, 'a'), (1, 'b'), (2, 'a')").await;
    world.both("shop", "INSERT INTO invoices VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'a'), (4, 1, NULL)").await;
    world.both("shop", "DELETE FROM categories WHERE id = 1").await;
    world.both("shop", "DELETE FROM categories WHERE id = 5").await;
    world.both("crm", "DELETE FROM accounts WHERE tenant = 1 AND number = 'a'").await;
    world.settle("self-reference and composite key").await;
    let first = worker.stop().await;
    balanced(&first);

    // While the worker is stopped: delete, insert again, a child of the new row, then a key change (H114); a key change and then a delete
    // of the new key (H113: parked, a stated difference).
    world.both("crm", "INSERT INTO customers VALUES (300001, 'before')").await;
    world.both("crm", "DELETE FROM customers WHERE id = 300001").await;
    world.both("crm", "INSERT INTO customers VALUES (300001, 'after')").await;
    world.both("shop", "INSERT INTO orders (id, customer_id) VALUES (30000101, 300001)").await;
    world.both("shipping", "INSERT INTO parcels VALUES (30000101, 1)").await;
    world.both("crm", "UPDATE customers SET id = 300002 WHERE id = 300001").await;
    world.both("crm", "UPDATE customers SET id = 300003 WHERE id = 860").await;
    world.both("crm", "DELETE FROM customers WHERE id = 300003").await;
    let worker = world.start();
    let parked = "SELECT count(*) FROM entail_pending WHERE entity = 'crm.customer' AND root_key = '[\"860\"]' AND reason = 'ambiguous'";
    wait_for("customer 860's children to be parked", Duration::from_secs(60), async || {
        (world.count("shipping", parked).await + world.count("shop", parked).await == 1).then_some(())
    })
    .await;
    // The stated difference: what the native key removed with 300003, entail lists. The oracle gets it back for the comparison.
    assert_eq!(world.count("shop", "SELECT count(*) FROM orders WHERE customer_id = 860").await, 10);
    let restored = "INSERT INTO customers VALUES (860, 'parked'); INSERT INTO orders (id, customer_id) SELECT 86000 + n, 860 FROM generate_series(0, 9) AS n;
        INSERT INTO parcels SELECT 86000 + o, n FROM generate_series(0, 9) AS o, generate_series(1, 3) AS n";
    world.one("oracle", restored).await;
    world.settle("what happened while the worker was stopped").await;
    assert_eq!(world.count("shop", "SELECT count(*) FROM orders WHERE customer_id = 300002").await, 1, "H114: the child of the living row");

    // The copy equals its owner.
    let copied = "SELECT id, name, note FROM";
    wait_for("the copy to equal its owner", Duration::from_secs(30), async || {
        (world.rows("crm", &format!("{copied} customers")).await == world.rows("shop", &format!("{copied} customer_copy")).await)
            .then_some(())
    })
    .await;
    let second = worker.stop().await;
    balanced(&second);
    let dead: u64 =
        second["partitions"].as_object().expect("partitions").values().filter_map(|account| account["dead_letters"].as_u64()).sum();
    assert_eq!(dead, 0);
    let percentile = |share: usize| delays.get(delays.len() * share / 100).copied().unwrap_or_default();
    println!("delay from commit to child gone: p50 {:?}, p99 {:?} over {} deletes", percentile(50), percentile(99), delays.len());
    println!("accounts: {first}\n{second}");
    let _kept = &world.bed;
}

/// Deletes customers one transaction each; returns how long their orders stayed, sorted.
async fn delete_one_by_one(world: &World, ids: std::ops::RangeInclusive<i64>) -> Vec<Duration> {
    let mut open: BTreeMap<i64, Instant> = BTreeMap::new();
    let mut delays = Vec::new();
    for id in ids {
        world.both("crm", &format!("DELETE FROM customers WHERE id = {id}")).await;
        open.insert(id, Instant::now());
        gone(world, &mut open, &mut delays).await;
    }
    wait_for("all orders to go", Duration::from_secs(60), async || {
        gone(world, &mut open, &mut delays).await;
        open.is_empty().then_some(())
    })
    .await;
    delays.sort();
    delays
}

async fn gone(world: &World, open: &mut BTreeMap<i64, Instant>, delays: &mut Vec<Duration>) {
    let rows = sqlx::query("SELECT DISTINCT customer_id FROM orders WHERE customer_id = ANY($1)")
        .bind(open.keys().copied().collect::<Vec<i64>>())
        .fetch_all(&world.pools["shop"])
        .await
        .expect("the query runs");
    let left: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    open.retain(|id, since| {
        let stays = left.contains(id);
        if !stays {
            delays.push(since.elapsed());
        }
        stays
    });
}
