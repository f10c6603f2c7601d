//! The main job without servers: SQLite files, their feeds, and librdkafka's in-process broker.

use crate::history::{self, COPY, CRM, SHIPPING, SHOP, native, plain};
use crate::support::local::{Local, Running};

struct World {
    local: Local,
    worker: Option<Running>,
}

impl history::World for World {
    async fn one(&self, service: &'static str, sql: &str) {
        self.local.execute(service, sql).await;
    }

    async fn lines(&self, service: &'static str, sql: &str) -> Vec<String> {
        self.local.lines(service, sql).await
    }

    async fn start(&mut self) {
        self.worker = Some(self.local.start().await);
    }

    async fn stop(&mut self) -> serde_json::Value {
        self.worker.take().expect("running").stop().await.json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_on_sqlite_and_the_in_process_broker_ends_as_with_native_foreign_keys() {
    let rules = history::rules(&|service, table| format!("{service}.main.{table}"));
    let services = [("crm", plain(CRM)), ("shop", plain(&format!("{SHOP}{COPY}"))), ("shipping", plain(SHIPPING)), ("oracle", native())];
    let services: Vec<(&str, &str)> = services.iter().map(|(name, tables)| (*name, tables.as_str())).collect();
    let mut world = World { local: Local::new(&rules, &services).await, worker: None };
    history::tell(&mut world).await;
    world.local.stage.close().await;
}
