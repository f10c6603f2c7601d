//! The servers that `script/test` or `script/bed` has started: Kafka, Kafka Connect with Debezium, PostgreSQL.
//! Tests share them, so whatever a test makes carries its own random prefix; databases and connectors go when the `Bed` goes.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::wait::wait_for;
use super::{connect, postgres};

/// One test's view of the servers.
pub(crate) struct Bed {
    /// Bootstrap address of Kafka, `127.0.0.1:PORT`.
    pub(crate) kafka: String,
    /// Address of the Connect REST API, `http://127.0.0.1:PORT`.
    pub(crate) connect: String,
    /// The PostgreSQL server as its superuser, without a database: `postgres://postgres@127.0.0.1:PORT`.
    pub(crate) postgres: String,
    prefix: String,
    databases: Mutex<Vec<String>>,
    connectors: Mutex<Vec<String>>,
}

impl Bed {
    /// Panics, with what to do, when the servers' addresses are not in the environment.
    pub(crate) fn from_env() -> Bed {
        let prefix = format!("t{:08x}", fastrand::u32(..));
        eprintln!("names of this test begin with {prefix}");
        Bed {
            kafka: variable("ENTAIL_TEST_KAFKA"),
            connect: variable("ENTAIL_TEST_CONNECT"),
            postgres: variable("ENTAIL_TEST_POSTGRES"),
            prefix,
            databases: Mutex::default(),
            connectors: Mutex::default(),
        }
    }

    /// With another broker than the shared one.
    pub(crate) fn with_kafka(address: &str) -> Bed {
        let mut bed = Bed::from_env();
        address.clone_into(&mut bed.kafka);
        bed
    }

    /// `name` with this test's prefix: fit for topics, databases, slots, connectors and consumer groups (letters, digits, `_`).
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    /// Makes an empty database and returns its URL.
    pub(crate) async fn create_database(&self, name: &str) -> String {
        let name = self.name(name);
        postgres::execute(&self.maintenance_url(), &format!("CREATE DATABASE \"{name}\"")).await;
        let url = format!("{}/{name}", self.postgres);
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        url
    }

    /// Makes a database that is equal to another, to which nobody may be connected, and returns its URL.
    pub(crate) async fn copy_database(&self, original: &str, name: &str) -> String {
        let (name, original) = (self.name(name), original.rsplit('/').next().unwrap_or_default());
        // A connection that was closed a moment ago may still be counted.
        wait_for(&format!("database {name} to be made"), Duration::from_secs(30), async || {
            let mut connection = postgres::connect(&self.maintenance_url()).await;
            let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{name}\" TEMPLATE \"{original}\""));
            sqlx::query(statement).execute(&mut connection).await.ok()
        })
        .await;
        let url = format!("{}/{name}", self.postgres);
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        url
    }

    /// Drops one database before the test ends.
    pub(crate) async fn drop_database(&self, name: &str) {
        postgres::drop_databases(&self.maintenance_url(), &[name.to_owned()]).await;
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept != name);
    }

    /// A Debezium connector for the database at this URL; its topics begin with `bed.name(name)`.
    pub(crate) fn connector(&self, name: &str, database_url: &str) -> connect::Settings {
        let name = self.name(name);
        self.connectors.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        connect::Settings::new(&self.connect, &name, database_url)
    }

    fn maintenance_url(&self) -> String {
        format!("{}/postgres", self.postgres)
    }
}

impl Drop for Bed {
    /// Connectors first: each drops its replication slot, and a database with a live slot cannot be dropped.
    fn drop(&mut self) {
        if std::env::var_os("ENTAIL_KEEP").is_some() {
            return;
        }
        let connectors = std::mem::take(&mut *self.connectors.lock().unwrap_or_else(PoisonError::into_inner));
        let databases = std::mem::take(&mut *self.databases.lock().unwrap_or_else(PoisonError::into_inner));
        if connectors.is_empty() && databases.is_empty() {
            return;
        }
        let (rest, server) = (self.connect.clone(), self.maintenance_url());
        // A thread, because this may run on a runtime's thread.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime to clean up with");
            runtime.block_on(async {
                for name in &connectors {
                    connect::delete(&rest, name).await;
                }
                postgres::drop_databases(&server, &databases).await;
            });
        });
        // Not a panic of its own: the test may be panicking already.
        if cleaned.join().is_err() {
            eprintln!("not all that {} made was removed", self.prefix);
        }
    }
}

/// Where `initdb` and `pg_ctl` are.
pub(crate) fn postgres_programs() -> PathBuf {
    PathBuf::from(variable("ENTAIL_TEST_PG_BIN"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run through script/test, or `eval \"$(script/bed env)\"`"))
}
