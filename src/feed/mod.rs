//! A small change feed for SQLite files: triggers write every change into a log table, and this publishes the log as Debezium would.
//!
//! For the demo and for tests. What Debezium is to PostgreSQL, this is to a file: key changes come as two halves with headers, deletes have
//! tombstones, positions are the log's sequence. The log is read from where this feed stood; it is kept in memory only.

use std::path::Path;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

pub mod log;

use self::log::{Log, Published};

/// A feed of one file.
pub struct Feed {
    log: Log,
    producer: FutureProducer,
}

/// Why a feed stopped.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file.
    #[error("the change feed cannot read its log")]
    Sqlite(#[from] sqlx::Error),
    /// The broker.
    #[error("the change feed cannot publish")]
    Kafka(#[from] KafkaError),
}

impl Feed {
    /// Lays log and triggers into a file and opens its feed. Topics are `<prefix>.main.<table>`, markers go to `<prefix>.message`.
    ///
    /// # Errors
    /// Those of the file or of the client.
    pub async fn open(path: &Path, prefix: &str, brokers: &str) -> Result<Self, FeedError> {
        let log = Log::open(log::open(path).await?, prefix).await?;
        let mut config = rdkafka::ClientConfig::new();
        let producer = config
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "2")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "1")
            .create()?;
        Ok(Self { log, producer })
    }

    /// The topics that its tables are fed to.
    pub fn topics(&self) -> impl Iterator<Item = String> {
        self.log.topics()
    }

    /// Publishes what the log has gained, waits until it is acknowledged, and sends a marker behind it. Returns how many changes it was.
    ///
    /// # Errors
    /// Those of the file or of the broker.
    pub async fn publish(&mut self) -> Result<usize, FeedError> {
        let (changes, records) = self.log.read().await?;
        let sent: Vec<_> = records.into_iter().map(|record| self.send(record)).collect::<Result<_, _>>()?;
        for delivery in sent {
            delivery.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        }
        // Everything up to here has been sent: the marker stands one behind.
        self.send(self.log.marker())?.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        Ok(changes)
    }

    /// Publishes for as long as it is let.
    ///
    /// # Errors
    /// Those of the file or of the broker.
    pub async fn run(mut self, every: Duration, stop: tokio_util::sync::CancellationToken) -> Result<(), FeedError> {
        while !stop.is_cancelled() {
            if self.publish().await? == 0 {
                tokio::time::sleep(every).await;
            }
        }
        self.log.pool().close().await;
        Ok(())
    }

    fn send(&self, published: Published) -> Result<rdkafka::producer::DeliveryFuture, KafkaError> {
        let (key, value) = (published.key.to_string(), published.value.map(|value| value.to_string()));
        let mut record: FutureRecord<'_, String, String> = FutureRecord::to(&published.topic).key(&key);
        record.payload = value.as_ref();
        if let Some((name, value)) = &published.header {
            record = record.headers(OwnedHeaders::new().insert(Header { key: name, value: Some(value) }));
        }
        self.producer.send_result(record).map_err(|(error, _)| error)
    }
}
