//! Records that can never succeed as they are: produced to a topic with their bytes and the reason, and acknowledged before their offset moves.
//!
//! The record is the original one, byte for byte, timestamp included; the reason travels in headers, also under the names that Kafka Connect
//! uses, which existing tools read. A letter may come twice after a crash; its position says so (H43).

use std::time::{Duration, SystemTime};

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;

use crate::change::Record;
use crate::config::Kafka;

/// How long a letter may take to be acknowledged before it is tried again.
const ACKNOWLEDGE: Duration = Duration::from_secs(30);

/// Why a record is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// At which stage: `decode` or `apply`.
    pub stage: &'static str,
    /// What went wrong; never quotes values.
    pub error: String,
    /// What to do about it.
    pub hint: String,
    /// The reference or replica concerned, if known.
    pub reference: Option<String>,
    /// How often it was tried.
    pub attempt: u32,
}

/// Of a letter without its bytes.
const LEFT_OUT: &str =
    "key, value and headers are left out, as the topic's max.message.bytes is less than they need: read them at entail.position";

/// The producer of dead letters.
pub struct DeadLetters {
    producer: FutureProducer,
    topic: String,
    group: String,
}

impl DeadLetters {
    /// A producer for this topic.
    ///
    /// # Errors
    /// If librdkafka refuses the settings.
    pub fn open(kafka: &Kafka, topic: &str) -> Result<Self, KafkaError> {
        let mut config = crate::source::plain_config(kafka);
        config
            // Idempotence would end the producer for good when a right to write is missing once; and a letter may come twice anyway.
            .set("enable.idempotence", "false")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("message.max.bytes", "67108864")
            .set("message.timeout.ms", ACKNOWLEDGE.as_millis().to_string());
        Ok(Self { producer: config.create()?, topic: topic.to_owned(), group: kafka.group.clone() })
    }

    /// Produces a record, and returns when it is acknowledged.
    ///
    /// # Errors
    /// If the broker does not acknowledge it in time: the record's offset must not move.
    pub async fn send(&self, record: &Record, reason: &Reason) -> Result<(), KafkaError> {
        match self.deliver(self.headers(record, reason), record.key.as_deref(), record.value.as_deref(), record).await {
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)) => {
                tracing::error!(position = %record.at, "the dead letter topic takes no message so large: only the record's position is kept there");
                let reason = Reason { hint: format!("{}; {LEFT_OUT}", reason.hint), ..reason.clone() };
                let nothing = Record { headers: Vec::new(), ..record.clone() };
                self.deliver(self.headers(&nothing, &reason), None, None, record).await
            }
            done => done,
        }
    }

    async fn deliver(&self, headers: OwnedHeaders, key: Option<&[u8]>, value: Option<&[u8]>, record: &Record) -> Result<(), KafkaError> {
        let mut letter: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).headers(headers);
        letter.key = key;
        letter.payload = value;
        letter.timestamp = record.timestamp;
        let delivery = self.producer.send_result(letter).map_err(|(error, _)| error)?;
        match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(error),
            Err(_) => Err(KafkaError::Canceled),
        }
    }

    fn headers(&self, record: &Record, reason: &Reason) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 16);
        for (name, value) in &record.headers {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let partition = record.at.partition.partition.to_string();
        let offset = record.at.offset.to_string();
        let ours = [
            ("entail.stage", reason.stage.to_owned()),
            ("entail.reason", reason.error.clone()),
            ("entail.hint", reason.hint.clone()),
            ("entail.reference", reason.reference.clone().unwrap_or_default()),
            ("entail.position", record.at.to_string()),
            ("entail.group", self.group.clone()),
            ("entail.attempt", reason.attempt.to_string()),
            ("entail.time", now.to_string()),
            ("__connect.errors.topic", record.at.partition.topic.to_string()),
            ("__connect.errors.partition", partition),
            ("__connect.errors.offset", offset),
            ("__connect.errors.connector.name", self.group.clone()),
            ("__connect.errors.stage", reason.stage.to_owned()),
            ("__connect.errors.exception.message", reason.error.clone()),
        ];
        for (name, value) in ours {
            headers = headers.insert(Header { key: name, value: Some(value.as_bytes()) });
        }
        headers
    }
}
