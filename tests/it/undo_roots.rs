//! `entail undo --with-root`: rows that a service deleted itself come back from the events that Debezium wrote of them.

use std::path::PathBuf;

use crate::support::bed::Bed;
use crate::support::postgres;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Worker, entail};

const CRM: &str = r#"
CREATE TABLE customers (
    id bigint PRIMARY KEY, number integer GENERATED ALWAYS AS IDENTITY, twice bigint GENERATED ALWAYS AS (id * 2) STORED, name text, mail text UNIQUE,
    "Odd ""name" varchar(20), c char(5), i2 smallint, n numeric(12,4), f4 real, f8 double precision, ok boolean NOT NULL, b bytea, u uuid, j jsonb, js json,
    d date, t time, ts timestamp, ts3 timestamp(3), tz timestamptz
);
ALTER TABLE customers REPLICA IDENTITY FULL;
INSERT INTO customers (id, name, mail, "Odd ""name", c, i2, n, f4, f8, ok, b, u, j, js, d, t, ts, ts3, tz) VALUES
    (1, E'Zoë ''quoted'' "text" \\ and\nlines 𝄞', 'a@b', '', 'ab', -32768, -1.1000, 0.1, 0.1::float8 + 0.2, false, '\x00ff0a22',
     'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{"a": [1.10, null]}', '{"a":  1}', '2024-02-29', '04:05:06.000001', '2018-06-20 15:13:16.945104',
     '2018-06-20 15:13:16.945', '2018-06-20 13:37:03.5+02'),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (3, 'stays', 'c@d', NULL, NULL, NULL, NULL, NULL, NULL, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (4, 'its mail goes to another', 'e@f', NULL, NULL, NULL, NULL, NULL, NULL, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE regions (id bigint PRIMARY KEY, name text NOT NULL);
INSERT INTO regions VALUES (7, 'north'), (8, 'south');
"#;
const SHOP: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, region_id bigint);
CREATE INDEX ON orders (customer_id); CREATE INDEX ON orders (region_id);
INSERT INTO orders VALUES (10, 1, 8), (11, 1, 8), (20, 2, 8), (30, 3, 8), (40, 4, 8), (70, NULL, 7); ANALYZE;
";
const GONE: i64 = 4;

struct Scene {
    bed: Bed,
    dir: tempfile::TempDir,
    crm: String,
    shop: String,
}

impl Scene {
    /// Customers 1, 2 and 4 and region 7 are deleted, and entail has taken what hung on them.
    async fn open() -> Scene {
        let bed = Bed::from_env();
        let (crm, shop) = (bed.create_database("crm").await, bed.create_database("shop").await);
        postgres::execute(&crm, CRM).await;
        postgres::execute(&shop, SHOP).await;
        // With its schema an event says what its numbers count.
        let connector = bed
            .connector("crm", &crm)
            .tables(&["public.customers", "public.regions"])
            .set("value.converter", "org.apache.kafka.connect.json.JsonConverter")
            .set("value.converter.schemas.enable", "true")
            .start()
            .await;
        let topics = [connector.topic("public.customers"), connector.topic("public.regions")];
        for topic in &topics {
            bed.create_topic(topic, 1, &[]).await;
        }
        let orders = bed.name("shop.public.orders");
        bed.create_topic(&orders, 1, &[]).await;
        let scene = Scene { bed, dir: tempfile::tempdir().expect("a temporary directory"), crm, shop };
        let rules = format!(
            "version: 1\nmode: enforce\nentities:\n  - {{ name: crm.customer, table: customers, key: id, topic: {} }}\n  \
             - {{ name: crm.region, table: regions, key: id, topic: {} }}\n  - {{ name: shop.order, table: orders, key: id, topic: {orders} }}\n\
             references:\n  - {{ name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }}\n  \
             - {{ name: order_region, child: shop.order, columns: region_id, parent: crm.region, on_delete: cascade }}\n",
            topics[0], topics[1]
        );
        std::fs::write(scene.dir.path().join("rules.yaml"), rules).expect("the rules are written");
        scene.write("read.yaml", ", access: read");
        scene.write("write.yaml", "");
        let customers = "SELECT (t.*)::text FROM customers AS t ORDER BY id";
        assert_eq!(scene.rows(&scene.crm, customers).await.len(), 4);
        postgres::execute(&scene.crm, "DELETE FROM customers WHERE id IN (1, 2, 4); DELETE FROM regions WHERE id = 7").await;
        wait_for("Debezium's events", DEADLINE, async || {
            let mut records = 0;
            for topic in &topics {
                records += scene.bed.high_watermarks(topic).await.values().sum::<i64>();
            }
            // Each with its tombstone.
            (records == 2 * GONE).then_some(())
        })
        .await;
        let mut worker =
            Worker::start(scene.dir.path(), &scene.config("read.yaml"), "worker", &["run", "--migrate", "--until-end", "--format", "json"]);
        assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
        assert_eq!(scene.orders().await, ["30"]);
        scene
    }

    fn config(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, access: &str) {
        let (kafka, group, dead) = (&self.bed.kafka, self.bed.name("entail"), self.bed.name("dead"));
        let text = format!(
            "version: 1\nrules: rules.yaml\nkafka: {{ brokers: \"{kafka}\", group: {group}, properties: {{ session.timeout.ms: 10000 }} }}\n\
             databases:\n  crm: {{ url: \"{}\"{access} }}\n  shop: {{ url: \"{}\" }}\ndead_letters: {{ topic: {dead} }}\n",
            self.crm, self.shop
        );
        std::fs::write(self.config(name), text).expect("the settings are written");
    }

    async fn rows(&self, url: &str, sql: &str) -> Vec<String> {
        let mut connection = postgres::connect(url).await;
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect("rows")
    }

    async fn orders(&self) -> Vec<String> {
        self.rows(&self.shop, "SELECT id::text FROM orders ORDER BY id").await
    }

    async fn undo(&self, settings: &str, arguments: &[&str]) -> (i32, String) {
        let all: Vec<&str> = ["undo"].iter().chain(arguments).copied().collect();
        let (code, said, error) = entail(&self.config(settings), &all).await;
        (code, said + &error)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_comes_back_from_its_event_as_it_was() {
    let scene = Scene::open().await;
    let customers = "SELECT (t.*)::text FROM customers AS t ORDER BY id";
    // As they were: the same statements in another database.
    let before = scene.bed.create_database("before").await;
    postgres::execute(&before, CRM).await;
    let before = scene.rows(&before, customers).await;

    let (code, said) = scene.undo("read.yaml", &["--root", "crm.customer:1", "--with-root"]).await;
    assert!(code == 1 && said.contains("crm.customer 1 itself cannot be put back: database `crm` has `access: read`"), "{code}: {said}");
    assert!(said.contains("is still missing: rows under it are orphans"), "{said}");
    assert_eq!(scene.orders().await, ["10", "11", "30"], "what hung on it is back all the same");

    let (code, said) = scene.undo("write.yaml", &["--root", "crm.customer:2", "--with-root", "--dry-run"]).await;
    assert!(code == 0 && said.contains("crm.customer 2 itself can be put back") && !said.contains("missing"), "{code}: {said}");
    assert_eq!(scene.rows(&scene.crm, "SELECT id::text FROM customers ORDER BY id").await, ["3"], "a dry run writes nothing");
    assert_eq!(scene.orders().await, ["10", "11", "30"], "neither the root nor what it would make room for");

    for customer in [1, 2] {
        let root = format!("crm.customer:{customer}");
        let (code, said) = scene.undo("write.yaml", &["--root", &root, "--with-root"]).await;
        assert!(
            code == 0 && said.contains(&format!("crm.customer {customer} itself is back")) && !said.contains("missing"),
            "{code}: {said}"
        );
    }
    assert_eq!(scene.rows(&scene.crm, customers).await, before[..3], "byte for byte");
    assert_eq!(scene.orders().await, ["10", "11", "20", "30"]);
    let (code, said) = scene.undo("write.yaml", &["--root", "crm.customer:1", "--with-root", "--format", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(code == 0 && told["roots"].as_array().is_some_and(Vec::is_empty) && told["missing_roots"] == told["roots"], "{code}: {said}");

    // What is told again of the old delete, or of the new row, takes nothing.
    let mut worker = Worker::start(scene.dir.path(), &scene.config("read.yaml"), "after", &["run", "--until-end", "--format", "json"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    assert_eq!(scene.orders().await, ["10", "11", "20", "30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_cannot_come_back_is_told_with_the_reason() {
    let scene = Scene::open().await;
    // With the default identity the event holds the key alone: nothing is made up.
    let (code, said) = scene.undo("write.yaml", &["--root", "crm.region:7", "--with-root"]).await;
    let why = "crm.region 7 itself cannot be put back: its event does not hold column `name` exactly";
    assert!(code == 1 && said.contains(why) && said.contains("REPLICA IDENTITY FULL"), "{code}: {said}");
    assert_eq!(scene.orders().await, ["30", "70"]);
    assert_eq!(scene.rows(&scene.crm, "SELECT id::text FROM regions ORDER BY id").await, ["8"]);

    postgres::execute(&scene.crm, "UPDATE customers SET mail = 'e@f' WHERE id = 3").await;
    let (code, said) = scene.undo("write.yaml", &["--root", "crm.customer:4", "--with-root"]).await;
    assert!(
        code == 1 && said.contains("crm.customer 4 itself cannot be put back: another row has one of its unique values"),
        "{code}: {said}"
    );
    assert_eq!(scene.rows(&scene.crm, "SELECT id::text FROM customers WHERE mail = 'e@f'").await, ["3"]);

    // Its event has left the topic.
    let topic = format!("{}.public.customers", scene.bed.name("crm"));
    scene.bed.forget_records(&topic, 0).await;
    let (code, said) = scene.undo("write.yaml", &["--root", "crm.customer:1", "--with-root"]).await;
    assert!(code == 1 && said.contains("is no longer in its topic"), "{code}: {said}");
    assert_eq!(scene.orders().await, ["10", "11", "30", "40", "70"]);
}
