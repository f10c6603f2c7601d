//! Poolers between the worker and its databases.

use std::collections::BTreeSet;
use std::time::Duration;

use entail::config;
use entail::inspect::{self, Options};
use entail::model::Code;
use entail::rules::{self, SourceFile};
use entail::sink::statement::Bind;
use entail::sink::{Access, Location, SinkError, Statement};

use crate::support::bed::Bed;
use crate::support::pooler::{Asked, Manner, Pooler};
use crate::support::postgres;
use crate::support::worker::entail;

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: t }
  - { name: shop.order, table: orders, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }
";
/// A policy that hides half of the parents from everybody but the owner.
const CRM: &str = "
    CREATE TABLE customers (id bigint PRIMARY KEY);
    INSERT INTO customers VALUES (1), (2);
    ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
    CREATE POLICY half ON customers USING (id % 2 = 0);
    GRANT SELECT ON customers TO ROLE;";
const MANNERS: [(Manner, &str); 4] = [
    (Manner { settings: Asked::Passed, by_transaction: true }, "several"),
    (Manner { settings: Asked::Dropped, by_transaction: true }, "drops what is set for a session: "),
    (Manner { settings: Asked::Dropped, by_transaction: false }, "row_security"),
    (Manner { settings: Asked::Refused, by_transaction: true }, "takes no settings: unsupported startup parameter"),
];

fn server(bed: &Bed) -> u16 {
    bed.postgres.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn h71_a_pooler_that_changes_sessions_or_drops_settings_is_refused_by_name() {
    let bed = Bed::from_env();
    let (crm, shop) = (bed.create_database("crm").await, bed.create_database("shop").await);
    postgres::execute(&shop, "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint); CREATE INDEX ON orders (customer_id)").await;
    postgres::execute(&crm, "CREATE TABLE customers (id bigint PRIMARY KEY)").await;
    for (manner, says) in MANNERS {
        let pooler = Pooler::start(server(&bed), manner).await;
        let behind = crm.replace(&format!(":{}/", server(&bed)), &format!(":{}/", pooler.port));
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("rules.yaml"), RULES).expect("rules");
        let settings = format!(
            "version: 1\nrules: rules.yaml\nkafka: {{ brokers: \"{}\", group: {} }}\ndatabases:\n  \
             crm: {{ url: \"{behind}\", access: read }}\n  shop: {{ url: \"{shop}\" }}\n",
            bed.kafka,
            bed.name("group")
        );
        let path = dir.path().join("entail.yaml");
        std::fs::write(&path, settings).expect("settings");
        let config = config::read(&path, &|_| None).unwrap_or_else(|(problems, _)| panic!("{problems:#?}"));
        let file = SourceFile { name: "rules.yaml".to_owned(), text: RULES.to_owned() };
        let rules = rules::check(&[file]).rules.expect("sound rules");
        let options = Options { sample: 0, patience: Duration::from_secs(60), allow: BTreeSet::new(), kafka: false };
        let report = inspect::inspect(&rules, &config, &options, &|_, _| ()).await;
        let found = report.problems.iter().find(|(_, problem)| problem.code == Code::Pooler).map(|(_, problem)| problem.to_string());
        let found = found.unwrap_or_else(|| panic!("{manner:?}: {:#?}", report.problems));
        assert!(found.starts_with("crm: ") && found.contains(says) && found.contains("name the server itself"), "{found}");
        let (code, _, errors) = entail(&path, &["run", "--migrate"]).await;
        assert!(code != 0 && errors.contains(says) && errors.contains("name the server itself"), "{manner:?}: {code} {errors}");
    }
}

/// What a start saw may change behind its back: no connection is used whose settings were dropped.
#[tokio::test(flavor = "multi_thread")]
async fn h71_a_connection_without_its_settings_never_answers_that_a_parent_is_missing() {
    let bed = Bed::from_env();
    let (crm, role) = (bed.create_database("crm").await, bed.name("role"));
    postgres::execute(&format!("{}/postgres", bed.postgres), &format!("CREATE ROLE {role} LOGIN")).await;
    postgres::execute(&crm, &CRM.replace("ROLE", &role)).await;
    let as_role = crm.replace("postgres://postgres@", &format!("postgres://{role}@"));
    let question = Statement::fixed("asking", "SELECT id::text FROM customers WHERE id = $1", vec![Bind::Int(1)]);
    let direct = Location { url: as_role.clone(), access: Access::Read }.open().expect("a url");
    let refused = direct.read(&question).await.expect_err("row security is an error, no filter");
    assert!(refused.to_string().contains("row-level security"), "{refused}");

    let pooler = Pooler::start(server(&bed), Manner { settings: Asked::Dropped, by_transaction: false }).await;
    let behind = as_role.replace(&format!(":{}/", server(&bed)), &format!(":{}/", pooler.port));
    let database = Location { url: behind, access: Access::Read }.open().expect("a url");
    assert!(matches!(database.reach().await, Err(SinkError::Pooled { .. })));
    let refused = database.read(&question).await.expect_err("a parent that is hidden is not missing");
    assert!(matches!(&refused, SinkError::Pooled { why } if why.contains("row_security")), "{refused}");
    assert!(matches!(database.begin().await, Err(SinkError::Pooled { .. })), "no transaction without settings");
}
