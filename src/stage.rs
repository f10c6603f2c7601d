//! A stage for the demo and the tests: SQLite files, their change feeds, and librdkafka's in-process broker. Nothing to install.
//!
//! The broker keeps about 5 MiB per partition and drops the oldest in silence, and it answers questions about time wrongly (H107): it is for
//! demonstrations and for tests of this size, nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqlitePool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{BatchSettings, Config, DEFAULT_KEEP, DeadLetterSettings, Kafka};
use crate::feed::{Feed, FeedError, log};
use crate::sink::{Access, Location};

/// How often a feed looks for changes.
const EVERY: Duration = Duration::from_millis(20);

/// Files, feeds and a broker.
pub struct Stage {
    dir: PathBuf,
    cluster: MockCluster<'static, DefaultProducerContext>,
    pools: BTreeMap<String, SqlitePool>,
    feeds: Vec<JoinHandle<Result<(), FeedError>>>,
    stop: CancellationToken,
}

/// Why a stage could not be set.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file.
    #[error("a database of the stage")]
    Sqlite(#[from] sqlx::Error),
    /// The broker.
    #[error("the in-process broker")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A feed.
    #[error("a change feed of the stage")]
    Feed(#[from] FeedError),
}

impl Stage {
    /// Makes one file `<service>.db` per service in `dir` with the given tables, and feeds each table to `<service>.main.<table>`.
    ///
    /// # Errors
    /// Those of files, feeds and broker.
    pub async fn open(dir: &Path, services: &[(&str, &str)], partitions: i32) -> Result<Self, StageError> {
        let cluster = MockCluster::new(1)?;
        let mut stage = Self { dir: dir.to_owned(), cluster, pools: BTreeMap::new(), feeds: Vec::new(), stop: CancellationToken::new() };
        stage.cluster.create_topic(&DeadLetterSettings::default().topic, 1, 1)?;
        for (service, tables) in services {
            stage.service(service, tables, partitions).await?;
        }
        Ok(stage)
    }

    async fn service(&mut self, service: &str, tables: &str, partitions: i32) -> Result<(), StageError> {
        let path = self.path(service);
        let pool = log::open(&path).await?;
        log::execute(&pool, tables).await?;
        let feed = Feed::open(&path, service, &self.brokers()).await?;
        for topic in feed.topics() {
            self.cluster.create_topic(&topic, partitions, 1)?;
        }
        self.cluster.create_topic(&format!("{service}.message"), 1, 1)?;
        self.feeds.push(tokio::spawn(feed.run(EVERY, self.stop.clone())));
        self.pools.insert((*service).to_owned(), pool);
        Ok(())
    }

    /// The broker's address.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The file of a service.
    #[must_use]
    pub fn path(&self, service: &str) -> PathBuf {
        self.dir.join(format!("{service}.db"))
    }

    /// Settings for a worker on this stage.
    #[must_use]
    pub fn config(&self, rules: &Path, group: &str) -> Config {
        // The driver reads `%` as an escape, and `?` as the end of the path.
        let url = |path: PathBuf| format!("sqlite:{}", path.display().to_string().replace('%', "%25").replace('?', "%3F"));
        let location = |service: &String| Location { url: url(self.path(service)), access: Access::Write };
        // An empty fetch is held by the broker: short, so that a change is seen at once.
        let properties = [("fetch.wait.max.ms", "10"), ("session.timeout.ms", "6000")];
        Config {
            new_references: crate::config::NewReferences::default(),
            rules: rules.to_owned(),
            kafka: Kafka {
                brokers: self.brokers(),
                group: group.to_owned(),
                properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            },
            databases: self.pools.keys().map(|service| (service.clone(), location(service))).collect(),
            batch: BatchSettings::default(),
            dead_letters: DeadLetterSettings::default(),
            keep: DEFAULT_KEEP,
            shutdown: Duration::from_secs(10),
        }
    }

    /// Runs statements in a service's database, in one transaction.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn execute(&self, service: &str, sql: &str) -> Result<(), StageError> {
        log::execute(self.pool(service)?, sql).await?;
        Ok(())
    }

    /// Rows of a service's database, as texts.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn rows(&self, service: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, StageError> {
        Ok(log::rows(self.pool(service)?, sql).await?)
    }

    /// One number of a service's database.
    ///
    /// # Errors
    /// Those of the file.
    pub async fn count(&self, service: &str, sql: &str) -> Result<i64, StageError> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(self.pool(service)?).await?)
    }

    fn pool(&self, service: &str) -> Result<&SqlitePool, StageError> {
        self.pools.get(service).ok_or(StageError::Sqlite(sqlx::Error::PoolClosed))
    }

    /// Ends the feeds and closes the files; the broker goes with the stage.
    pub async fn close(self) {
        self.stop.cancel();
        for feed in self.feeds {
            if let Ok(Err(error)) = feed.await {
                tracing::warn!(error = crate::error::chain(&error), "a change feed ended badly");
            }
        }
        for pool in self.pools.values() {
            pool.close().await;
        }
    }
}
