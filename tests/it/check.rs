//! `entail check --connect` on live servers: a good set-up, and one that is bad in one way for every kind of problem there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use entail::config::{self, Config};
use entail::inspect::{self, Options, Report};
use entail::model::{Code, Problem, Weight};
use entail::rules::{self, RuleSet, Severity, SourceFile};
use entail::sink::facts::Right;
use serde_json::{Value, json};

use crate::support::bed::Bed;
use crate::support::kafka;
use crate::support::postgres;
use crate::support::wait::wait_for;
use crate::support::worker::entail;

mod cases;
mod many;
mod reversed;
mod sqlite;

use cases::{Bad, Topic, cases};

/// Databases, role and topics of the good set-up; each bad one gets copies of the databases.
struct Good {
    bed: Bed,
    crm: String,
    shop: String,
    role: String,
}

pub(super) const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: PREFIX.public.customers }
  - { name: crm.country, table: countries, key: code, topic: PREFIX.public.countries }
  - { name: shop.order, table: orders, key: id, topic: PREFIX.public.orders }
  - { name: shop.line, table: lines, key: [order_id, number] }
  - { name: shop.note, table: notes, key: id }
  - { name: shop.profile, table: profiles, key: customer_id }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade, on_update: cascade }
  - { name: line_order, child: shop.line, columns: order_id, parent: shop.order, on_delete: cascade }
  - { name: order_country, child: shop.order, columns: country_code, parent: crm.country, on_delete: set_default }
  - { name: note_customer, child: shop.note, columns: owner_id, when: { owner_type: customer }, parent: crm.customer, on_delete: { set: { state: closed } } }
  - { name: profile_customer, child: shop.profile, columns: customer_id, parent: crm.customer, on_delete: cascade, one_to_one: true }
  - { name: reader_customer, child: shop.note, columns: reader_id, parent: crm.customer, on_delete: set_null }
replicas:
  - { name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: { id: id, name: name } }
limits: { rows_per_event: 100, rows: { count: 1000, per: 10m } }
";

const CRM: &str = "
    CREATE TABLE customers (id bigint PRIMARY KEY, name text, mail text, kind text DEFAULT 'b');
    CREATE TABLE countries (code text PRIMARY KEY);
    CREATE TABLE suppliers (id bigint PRIMARY KEY);
    INSERT INTO customers SELECT n, 'c' || n, 'm' || n FROM generate_series(1, 50) AS n;
    INSERT INTO countries VALUES ('de'), ('fr');
    CREATE PUBLICATION feed FOR TABLE customers, countries;";

const SHOP: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, country_code text DEFAULT 'de');
    CREATE INDEX ON orders (customer_id); CREATE INDEX ON orders (country_code);
    CREATE TABLE lines (order_id bigint, number bigint, sku text, PRIMARY KEY (order_id, number));
    CREATE TABLE notes (id bigint PRIMARY KEY, owner_type text, owner_id bigint, reader_id bigint, state text);
    CREATE INDEX ON notes (owner_id); CREATE INDEX ON notes (reader_id);
    CREATE TABLE profiles (customer_id bigint PRIMARY KEY, bio text);
    CREATE TABLE customer_copy (id bigint PRIMARY KEY, name text);
    CREATE TABLE audit (id bigint PRIMARY KEY);
    INSERT INTO orders SELECT n, n % 50 + 1, CASE WHEN n <= 50 THEN 'fr' END FROM generate_series(1, 500) AS n;
    INSERT INTO lines SELECT n, 1 FROM generate_series(1, 500) AS n;
    INSERT INTO notes SELECT n, 'customer', n % 50 + 1, n % 50 + 1 FROM generate_series(1, 50) AS n;
    INSERT INTO notes SELECT n, 'supplier', 7000 + n FROM generate_series(51, 60) AS n;
    INSERT INTO profiles SELECT n FROM generate_series(1, 50) AS n;
    CREATE PUBLICATION feed FOR TABLE orders;";

/// What the good set-up here has for want of a connector: there is nobody who reads the databases.
const WITHOUT_CONNECTOR: [Code; 1] = [Code::NoSlot];

impl Good {
    async fn make() -> Good {
        let bed = Bed::from_env();
        let (crm, shop) = (bed.create_database("crm").await, bed.create_database("shop").await);
        postgres::execute(&crm, CRM).await;
        postgres::execute(&shop, SHOP).await;
        let role = bed.name("role");
        postgres::execute(&format!("{}/postgres", bed.postgres), &format!("CREATE ROLE {role} LOGIN")).await;
        let good = Good { bed, crm, shop, role };
        good.topics("feed", 2, &[]).await;
        let owner = good.config(&good.rules(""), &[&good.crm, &good.shop], |text| text);
        let (code, _, errors) = entail(owner.0.path().join("entail.yaml").as_path(), &["migrate"]).await;
        assert_eq!(code, 0, "{errors}");
        let (code, grants, errors) =
            entail(owner.0.path().join("entail.yaml").as_path(), &["check", "--grants", "--role", &good.role]).await;
        assert_eq!(code, 0, "{errors}");
        let mut url = &good.crm;
        for line in grants.lines() {
            match line {
                "-- crm" => url = &good.crm,
                "-- shop" => url = &good.shop,
                _ if line.starts_with("GRANT") => postgres::execute(url, line).await,
                _ => {}
            }
        }
        good
    }

    /// Topics of all tables; the prefix of their names.
    async fn topics(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let prefix = self.bed.name(name);
        for table in ["customers", "countries", "orders"] {
            self.topic(&format!("{prefix}.public.{table}"), partitions, settings, table).await;
        }
        prefix
    }

    /// A topic with a record of one of these tables in it.
    async fn topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)], table: &str) {
        self.bed.create_topic(topic, partitions, settings).await;
        let (key, row) = match table {
            "customers" => (json!({"id": 1}), json!({"id": 1, "name": "c1", "mail": "m1", "kind": "b"})),
            "countries" => (json!({"code": "de"}), json!({"code": "de"})),
            _ => (json!({"id": 1}), json!({"id": 1, "customer_id": 2, "country_code": "fr"})),
        };
        let source = json!({"connector": "postgresql", "name": "feed", "schema": "public", "table": table, "lsn": 1000});
        let value = json!({"op": "c", "before": null, "after": row, "source": source});
        self.bed.produce(vec![kafka::Record::new(topic, &key.to_string(), Some(&value.to_string()))]).await;
    }

    fn rules(&self, topics: &str) -> String {
        let prefix = if topics.is_empty() { self.bed.name("feed") } else { topics.to_owned() };
        RULES.replace("PREFIX", &prefix)
    }

    /// Settings and rules in a directory, read as the program reads them.
    fn config(&self, rules: &str, urls: &[&str; 2], edit: impl Fn(String) -> String) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("rules.yaml"), rules).expect("rules");
        let [crm, shop] = urls;
        let text = format!(
            "version: 1\nrules: rules.yaml\nkafka: {{ brokers: \"{}\", group: {} }}\ndatabases:\n  crm: {{ url: \"CRM_URL\", access: read }}\n  \
             shop: {{ url: \"SHOP_URL\" }}\n",
            self.bed.kafka,
            self.bed.name("group")
        );
        let path = dir.path().join("entail.yaml");
        std::fs::write(&path, edit(text).replace("CRM_URL", crm).replace("SHOP_URL", shop)).expect("settings");
        let config = config::read(&path, &|_| None).unwrap_or_else(|(problems, _)| panic!("{problems:#?}"));
        (dir, config)
    }

    /// The url of a database, for the role that has the grants and no more.
    fn as_role(&self, url: &str) -> String {
        url.replace("postgres://postgres@", &format!("postgres://{}@", self.role))
    }

    /// Both databases; of the one that a set-up makes worse, a copy.
    async fn copies(&self, number: usize, bad: &Bad) -> [String; 2] {
        let mut urls = [self.crm.clone(), self.shop.clone()];
        for ((url, name), sql) in urls.iter_mut().zip(["crm", "shop"]).zip([bad.crm, bad.shop]) {
            if !sql.is_empty() {
                *url = self.bed.copy_database(url, &format!("{name}{number}")).await;
                postgres::execute(url, &sql.replace("ROLE", &self.role)).await;
            }
        }
        urls
    }
}

fn rule_set(text: &str) -> RuleSet {
    let checked = rules::check(&[SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() }]);
    assert!(checked.diagnostics.iter().all(|problem| problem.severity == Severity::Warning), "{:#?}\n{text}", checked.diagnostics);
    checked.rules.unwrap_or_else(|| panic!("{text}"))
}

async fn look(rules: &str, config: &Config, kafka: bool) -> Report {
    let options = Options { sample: 1000, patience: Duration::from_secs(5), allow: BTreeSet::new(), kafka };
    inspect::inspect(&rule_set(rules), config, &options, &|_, _| ()).await
}

fn serious(report: &Report) -> Vec<&Problem> {
    report.problems.iter().filter(|(weight, _)| *weight != Weight::Note).map(|(_, problem)| problem).collect()
}

/// Issue 5, line 1: each bad set-up is told by the right message, and by no other; the good one by none.
#[tokio::test(flavor = "multi_thread")]
async fn h57_h100_every_kind_of_bad_set_up_is_found_and_nothing_else() {
    let good = Good::make().await;
    let urls = [good.as_role(&good.crm), good.as_role(&good.shop)];
    let (_dir, settings) = good.config(&good.rules(""), &[&urls[0], &urls[1]], |text| text);
    let report = look(&good.rules(""), &settings, true).await;
    let found: BTreeSet<Code> = serious(&report).iter().map(|problem| problem.code).collect();
    assert_eq!(found, BTreeSet::from(WITHOUT_CONNECTOR), "a good set-up: {:#?}", report.problems);
    assert_eq!(report.fans.len(), 6, "{:#?}", report.fans);
    let mut wrong = Vec::new();
    for (number, bad) in cases().enumerate() {
        if let Err(what) = judge(&good, number, bad).await {
            eprintln!("{number} {}: {what}", bad.name);
            wrong.push(format!("{number} {}: {what}", bad.name));
        }
    }
    eprintln!("{} bad set-ups, {} told wrongly", cases().count(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(good);
}

async fn judge(good: &Good, number: usize, bad: &Bad) -> Result<(), String> {
    let feed = good.bed.name("feed");
    let prefix = match &bad.topic {
        Topic::Good => String::new(),
        Topic::Single => good.topics(&format!("own{number}"), 1, &[]).await,
        Topic::Own(settings) => good.topics(&format!("own{number}"), 2, settings).await,
        Topic::Written(records) => {
            let prefix = good.bed.name(&format!("own{number}"));
            for table in ["countries", "orders"] {
                good.topic(&format!("{prefix}.public.{table}"), 2, &[], table).await;
            }
            let topic = format!("{prefix}.public.customers");
            good.bed.create_topic(&topic, 2, &[]).await;
            good.bed.produce(records.iter().map(|(key, value)| kafka::Record::new(&topic, key, *value)).collect()).await;
            prefix
        }
    };
    let rules = bad.rules.iter().fold(RULES.to_owned(), |rules, (from, to)| {
        assert!(rules.contains(from), "{}: there is no `{from}`", bad.name);
        rules.replacen(from, to, 1)
    });
    let rules = rules.replace("PREFIX", if prefix.is_empty() { &feed } else { &prefix });
    let copies = good.copies(number, bad).await;
    let urls = if bad.as_superuser { copies.clone() } else { copies.clone().map(|url| good.as_role(&url)) };
    let (_dir, config) = good.config(&rules, &[&urls[0], &urls[1]], |text| {
        bad.settings.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{}: there is no `{from}`", bad.name);
            text.replacen(from, to, 1)
        })
    });
    // Records take seconds to come: the topics are looked at where something is to be found there.
    let is_kafka = |code: &Code| code.area() == "Kafka";
    let kafka = !matches!(bad.topic, Topic::Good) || bad.found.iter().chain(bad.also).any(is_kafka);
    let report = look(&rules, &config, kafka).await;
    for url in copies.iter().filter(|url| **url != good.crm && **url != good.shop) {
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        let slots =
            format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}' AND NOT active");
        postgres::execute(url, &slots).await;
        good.bed.drop_database(&name).await;
    }
    let found: BTreeSet<Code> = report.problems.iter().map(|(_, problem)| problem.code).collect();
    let missed: Vec<&Code> = bad.found.iter().filter(|code| !found.contains(code)).collect();
    let is_wanted = |code: Code| bad.found.contains(&code) || bad.also.contains(&code) || WITHOUT_CONNECTOR.contains(&code);
    let beyond: Vec<String> = serious(&report)
        .into_iter()
        .filter(|problem| !is_wanted(problem.code))
        .map(|problem| format!("{}: {problem}", problem.code.name()))
        .collect();
    let is_told = report.problems.iter().any(|(_, problem)| bad.found.contains(&problem.code) && problem.to_string().contains(bad.says));
    match (missed.is_empty(), beyond.is_empty(), is_told) {
        (true, true, true) => Ok(()),
        (false, ..) => Err(format!("missed {missed:?}; found {:#?}", report.problems)),
        (_, false, _) => Err(format!("beyond: {}", beyond.join("; "))),
        (.., false) => Err(format!("does not say `{}`: {:#?}", bad.says, report.problems)),
    }
}

/// Every kind of problem has a set-up that brings it about: here, or in one of the tests named.
#[test]
fn every_code_has_a_bad_set_up() {
    let elsewhere = cases::ELSEWHERE.iter().map(|(code, _)| *code);
    let covered: BTreeSet<Code> = cases().flat_map(|bad| bad.found.iter().copied()).chain(elsewhere).collect();
    let bare: Vec<&str> = Code::ALL.iter().filter(|code| !covered.contains(code)).map(|code| code.name()).collect();
    assert!(bare.is_empty(), "without a set-up: {}", bare.join(", "));
}

/// Issue 5, item 1: what only a server of one's own can have.
#[tokio::test(flavor = "multi_thread")]
async fn h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused() {
    let bed = Bed::from_env();
    let cluster = postgres::Cluster::create().await;
    let (crm, shop) = (cluster.url("crm"), cluster.url("shop"));
    let super_user = cluster.url("postgres");
    postgres::execute(&super_user, "CREATE DATABASE crm").await;
    postgres::execute(&super_user, "CREATE DATABASE shop").await;
    postgres::execute(&crm, CRM).await;
    postgres::execute(&shop, SHOP).await;
    let good = Good { role: String::new(), bed, crm, shop };
    let rules = good.rules("");
    let (_dir, config) = good.config(&rules, &[&good.crm, &good.shop], |text| text);
    let codes =
        async || -> BTreeSet<Code> { look(&rules, &config, false).await.problems.into_iter().map(|(_, problem)| problem.code).collect() };
    let found = codes().await;
    assert!([Code::Standby, Code::NotLogical, Code::SlotLost].iter().all(|code| !found.contains(code)), "{found:?}");

    postgres::execute(&good.crm, "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')").await;
    postgres::execute(&super_user, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await;
    postgres::execute(&super_user, "SELECT pg_reload_conf()").await;
    let fill = "CREATE TABLE IF NOT EXISTS filler (n bigint); INSERT INTO filler VALUES (1); SELECT pg_switch_wal(); CHECKPOINT";
    let lost = wait_for("the slot to lose its place", Duration::from_secs(60), async || {
        postgres::execute(&good.crm, fill).await;
        let found = codes().await;
        found.contains(&Code::SlotLost).then_some(found)
    });
    assert!(!lost.await.contains(&Code::Standby));

    postgres::execute(&good.crm, "SELECT pg_drop_replication_slot('feed')").await;
    postgres::execute(&super_user, "ALTER SYSTEM SET wal_level = 'replica'").await;
    cluster.stop().await;
    cluster.start().await;
    assert!(codes().await.contains(&Code::NotLogical));
    cluster.become_standby().await;
    assert!(codes().await.contains(&Code::Standby));
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_check_names_a_reference_that_is_new_to_the_group() {
    let good = Good::make().await;
    let (rules, group) = (good.rules(""), good.bed.name("group"));
    let (_dir, config) = good.config(&rules, &[&good.crm, &good.shop], |text| text);
    let new = async || -> BTreeSet<String> {
        let problems = look(&rules, &config, false).await.problems.into_iter().map(|(_, problem)| problem);
        problems.filter(|problem| problem.code == Code::NewReference).map(|problem| problem.place).collect()
    };
    assert!(new().await.is_empty(), "of a group that never ran nothing is new");
    let ran = format!(
        "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('{group}', 't', 0, 1, 1, '');
         INSERT INTO entail_references (group_id, reference, shape, is_new) VALUES ('{group}', 'order_customer', 'another', 0)"
    );
    postgres::execute(&good.shop, &ran).await;
    let all = ["line_order", "note_customer", "order_country", "order_customer", "profile_customer", "reader_customer"];
    assert_eq!(new().await, all.into_iter().map(str::to_owned).collect());
}

/// Issue 5, item 1: what was checked is kept, and what is another since is told at the next check and the next start, with the rule's line.
#[tokio::test(flavor = "multi_thread")]
async fn h74_what_changed_since_the_last_start_is_told_once() {
    let good = Good::make().await;
    let (dir, _) = good.config(&good.rules(""), &[&good.crm, &good.shop], |text| text + "new_references: as_written\n");
    let config = dir.path().join("entail.yaml");
    let drifted = async || -> Vec<Value> {
        let (_, stdout, stderr) = entail(&config, &["check", "--connect", "--sample", "0", "--no-kafka", "--format", "json"]).await;
        let told: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        let all = told["problems"].as_array().expect("a list").iter();
        all.filter(|one| one["code"] == "drifted").cloned().collect()
    };
    let run = async || {
        let (code, stdout, stderr) = entail(&config, &["run", "--until-end"]).await;
        assert_eq!(code, 0, "{stdout}{stderr}");
        stderr
    };
    assert_eq!(drifted().await, Vec::<Value>::new(), "of a group that never started nothing is another");
    assert!(!run().await.contains("drifted"));
    assert_eq!(drifted().await, Vec::<Value>::new());
    postgres::execute(&good.shop, "ALTER TABLE notes ADD mood text; ALTER TABLE notes ALTER state SET DEFAULT 'new'").await;
    postgres::execute(&good.crm, "ALTER TABLE customers REPLICA IDENTITY FULL").await;
    let told = drifted().await;
    let places: Vec<&str> = told.iter().filter_map(|one| one["place"].as_str()).collect();
    assert_eq!(places, ["crm.customer", "shop.note"], "{told:#?}");
    let said = told[1]["message"].as_str().expect("a message");
    assert!(said.contains("column mood Text") && said.contains("column state Text DEFAULT 'new'::text"), "{said}");
    let line = 1 + RULES.lines().position(|line| line.contains("name: shop.note,")).expect("it is there");
    assert_eq!(
        (told[1]["line"].as_u64(), told[1]["file"].as_str().is_some_and(|file| file.ends_with("rules.yaml"))),
        (Some(line as u64), true)
    );
    assert!(run().await.contains("drifted"), "a start says so");
    assert_eq!(drifted().await, Vec::<Value>::new(), "and takes it as it is");
}

/// Issue 5, line 5: whatever is taken away of the grants is missed by name.
#[tokio::test(flavor = "multi_thread")]
async fn h100_each_grant_that_is_taken_away_is_missed_by_name() {
    let good = Good::make().await;
    let rules = good.rules("");
    let urls = [good.as_role(&good.crm), good.as_role(&good.shop)];
    let (_dir, config) = good.config(&rules, &[&urls[0], &urls[1]], |text| text);
    let databases = entail::startup::open(&config, Duration::from_secs(5)).await.expect("opens");
    let model = entail::startup::bind(rule_set(&rules), databases).await.expect("binds");
    let options = Options { sample: 0, patience: Duration::from_secs(5), allow: BTreeSet::new(), kafka: false };
    let mut tried = 0;
    for (id, handle) in model.databases.iter() {
        let url = if handle.name == "crm" { &good.crm } else { &good.shop };
        let needs = entail::grants::needs(&model, id);
        // One GRANT for each table and purpose. What a wider one of the other purpose holds, too, is not missed: left out.
        let is_wider = |right: &Right| right.column.is_some() && needs.contains_key(&Right { column: None, ..right.clone() });
        let mut grants: BTreeMap<_, Vec<&Right>> = BTreeMap::new();
        for (right, purpose) in needs.iter().filter(|(right, _)| !is_wider(right)) {
            grants.entry((*purpose, &right.table)).or_default().push(right);
        }
        for ((_, table), rights) in grants {
            let what = entail::grants::in_words(table, &rights);
            postgres::execute(url, &format!("REVOKE {what} FROM {}", good.role)).await;
            let report = inspect::inspect(&rule_set(&rules), &config, &options, &|_, _| ()).await;
            let told: Vec<&Problem> = serious(&report).into_iter().filter(|problem| problem.code != Code::NoSlot).collect();
            assert!(told.iter().any(|problem| problem.message.contains(&what)), "{what}: {:#?}", report.problems);
            let of_rights = |problem: &&Problem| matches!(problem.code, Code::MissingRight | Code::MissingUndoRight);
            assert!(told.iter().all(of_rights), "{what}: {told:#?}");
            postgres::execute(url, &format!("GRANT {what} TO {}", good.role)).await;
            tried += 1;
        }
    }
    model.databases.close().await;
    eprintln!("{tried} grants taken away in turn, each missed by name");
    assert!(tried > 22, "{tried}");
}

/// `docs/check.md` is written from the code.
#[test]
fn the_table_of_findings_is_that_of_the_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md");
    let text = std::fs::read_to_string(&path).expect("docs/check.md");
    let (before, rest) = text.split_once("<!-- findings -->\n").expect("where the table begins");
    let (_, after) = rest.split_once("<!-- end of findings -->").expect("where it ends");
    let mut table = String::new();
    let mut area = "";
    for code in Code::ALL {
        if code.area() != area {
            area = code.area();
            table += &format!("\n**{area}**\n\n| Finding | | What is wrong | What mends it |\n|---|---|---|---|\n");
        }
        let (meaning, mend) = (code.meaning().replace('|', "\\|"), code.mend().replace('|', "\\|"));
        table += &format!("| `{}` | {} | {meaning} | {mend} |\n", code.name(), code.weight().as_str());
    }
    let wanted = format!("{before}<!-- findings -->\n{table}\n<!-- end of findings -->{after}");
    if std::env::var_os("ENTAIL_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).expect("written");
    } else {
        assert_eq!(text, wanted, "ENTAIL_WRITE_DOCS=1 cargo test the_table_of_findings writes it");
    }
}
