//! Two services on SQLite files and their rules, for tests that need tables.

use std::path::PathBuf;
use std::sync::Arc;

use super::Model;
use crate::databases::Databases;
use crate::rules::{SourceFile, TableName, check};
use crate::sink::{Access, Database, Location, Statement, TableRef};

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: customers }
  - { name: shop.order, table: orders, key: id, topic: orders }
  - { name: shop.line, table: lines, key: id }
  - { name: shop.note, table: notes, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: line_order, child: shop.line, columns: of, parent: shop.order, on_delete: cascade }
  - { name: note_customer, child: shop.note, columns: customer, parent: crm.customer, when: { kind: paid }, on_delete: { set: { state: closed } } }
";
const CRM: [&str; 1] = ["CREATE TABLE customers (id INTEGER PRIMARY KEY)"];
/// Tags are named by no rule: they go with their lines.
const SHOP: [&str; 8] = [
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER)",
    "CREATE TABLE lines (id INTEGER PRIMARY KEY, of INTEGER)",
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, customer INTEGER, kind TEXT, state TEXT, more TEXT)",
    "CREATE TABLE tags (id INTEGER PRIMARY KEY, line INTEGER REFERENCES lines (id) ON DELETE CASCADE)",
    "CREATE INDEX c ON orders (customer)",
    "CREATE INDEX o ON lines (of)",
    "CREATE INDEX n ON notes (customer)",
    "CREATE INDEX t ON tags (line)",
];

/// Two services on files, which go with it.
pub(crate) struct Services(PathBuf);

impl Drop for Services {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Services {
    pub(crate) async fn open(name: &str) -> Self {
        let services = Self(std::env::temp_dir().join(format!("entail-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&services.0).expect("a directory");
        for (service, tables) in [("crm", &CRM[..]), ("shop", &SHOP[..])] {
            std::fs::write(services.0.join(service), "").expect("an empty file is a database");
            services.execute(service, tables).await;
        }
        services
    }

    pub(crate) fn database(&self, service: &str) -> Arc<dyn Database> {
        let url = format!("sqlite://{}", self.0.join(service).display());
        Location { url, access: Access::Write }.open().expect("opens")
    }

    pub(crate) async fn execute(&self, service: &str, statements: &[&str]) {
        let mut session = self.database(service).begin().await.expect("begins");
        for sql in statements {
            session.execute(&Statement::fixed("a test", sql, Vec::new())).await.expect(sql);
        }
        session.commit().await.expect("commits");
    }

    pub(crate) async fn table(&self, service: &str, table: &str) -> TableRef {
        let name = TableName { schema: None, table: table.to_owned() };
        self.database(service).table(&name).await.expect("reads").expect("is there")
    }

    pub(crate) async fn bind(&self) -> Model {
        let mut databases = Databases::default();
        for service in ["crm", "shop"] {
            databases.add(service, Access::Write, self.database(service)).await.expect("answers");
        }
        let file = SourceFile { name: "rules.yaml".to_owned(), text: RULES.to_owned() };
        Model::bind(check(&[file]).rules.expect("rules"), databases).await.expect("binds")
    }
}
