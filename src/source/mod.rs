//! The poll thread: Kafka in, records and rebalances out.
//!
//! One OS thread owns a `BaseConsumer`: librdkafka serves rebalances inside `poll`, and waiting for tasks there would be a deadlock (H32). The
//! callback only records what happened; the loop answers it. No `TopicPartitionList` outlives the statement that made it (H33). The thread never
//! waits for a database; it holds records back and pauses when too much is in flight (H40).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::change::{NextOffset, Position, Record, TopicPartition};
use crate::config::Kafka;

pub(crate) mod assigned;
mod group;
mod unread;

pub(crate) use group::start;

/// What the poll thread tells the worker beside records. A channel of its own, so that a revocation is never stuck behind a full queue.
#[derive(Debug)]
pub(crate) enum Control {
    /// Where to start reading is the ledger's to say. Until the answer the partitions stand still.
    Assigned {
        assignment: Assignment,
        partitions: BTreeMap<TopicPartition, Watermarks>,
        /// How many partitions each of their topics has, over all workers.
        topic_sizes: BTreeMap<String, usize>,
        start_at: oneshot::Sender<BTreeMap<TopicPartition, NextOffset>>,
    },
    /// Answer when nothing of these partitions is in flight. Until then the poll thread polls on and holds them.
    Revoked { partitions: Vec<TopicPartition>, drained: oneshot::Sender<()> },
    /// Another member owns them already: drop what is in flight. The ledger's epoch fences us in any case.
    Lost { partitions: Vec<TopicPartition> },
    /// An offset of some partition is no longer (or not yet) there: it must not be skipped (H35).
    OutOfRange(Places),
    /// The client cannot go on.
    Failed(String),
}

/// Counts what the group has given us. A partition that was lost and came back is another one: what was read of it before is not worked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Assignment(u64);

/// A record, and under which assignment of its partition it was read.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) assignment: Assignment,
    pub(crate) record: Record,
}

/// Where partitions are read, if something was read of them, and what they hold.
pub(crate) type Places = BTreeMap<TopicPartition, (Option<NextOffset>, Watermarks)>;

/// First and one past the last offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// What is there now, as far as the broker has answered.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    /// How many partitions topics have.
    pub(crate) topic_sizes: BTreeMap<Arc<str>, usize>,
    /// How far partitions reach.
    pub(crate) watermarks: BTreeMap<TopicPartition, Watermarks>,
}

/// What the worker asks of the poll thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Tell Kafka what is durable. A hint: the ledger decides.
    Commit(BTreeMap<TopicPartition, NextOffset>),
    /// Stop reading this partition, for good: a person has to look.
    Halt(TopicPartition),
    /// How many partitions these topics have now, and how far these partitions reach.
    Extents(BTreeSet<Arc<str>>, Vec<TopicPartition>, oneshot::Sender<Extents>),
    /// Leave the group and join it anew: partitions stay that nobody reads (H42).
    Rejoin,
    /// Commit what was asked for, leave the group, end.
    Stop,
}

/// The worker's side of the poll thread.
pub(crate) struct Source {
    pub(crate) records: mpsc::Receiver<Fetched>,
    pub(crate) control: mpsc::Receiver<Control>,
    pub(crate) commands: std::sync::mpsc::Sender<Command>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) thread: std::thread::JoinHandle<()>,
}

/// Bytes of records between the poll thread and the ledger.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicUsize,
    high: usize,
}

impl Budget {
    fn new(high: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), high }
    }

    fn take(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back once their records are durable or dropped.
    pub(crate) fn give(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.high
    }

    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) <= self.high / 2
    }
}

/// Bytes that a record is counted as.
pub(crate) fn size(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
    64 + record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers
}

/// How long one call of `poll` waits.
const POLL: Duration = Duration::from_millis(50);
/// How long a question to the broker may take before it is asked again.
const ASK: Duration = Duration::from_secs(10);
/// Bytes of prefetched records in librdkafka, beside our own budget.
const PREFETCH_KBYTES: &str = "16384";
/// A record may be this large (a 16 MiB record with its frame); larger ones stop the fetch of their partition with an error.
const MAX_FETCH_BYTES: &str = "67108864";

/// The settings of a client that does not consume; the user's allowed properties come on top, without those that only consumers know.
pub(crate) fn plain_config(kafka: &Kafka) -> ClientConfig {
    const CONSUMERS: [&str; 5] =
        ["session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms", "group.instance.id", "message.max.bytes"];
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers).set("client.id", "entail").set_log_level(RDKafkaLogLevel::Warning);
    let is_for_consumers = |name: &str| CONSUMERS.contains(&name) || name.starts_with("fetch.") || name.starts_with("queued.");
    for (name, value) in kafka.properties.iter().filter(|(name, _)| !is_for_consumers(name)) {
        config.set(name, value);
    }
    config
}

/// The settings of every consumer of ours; the user's allowed properties come on top.
pub(crate) fn consumer_config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "entail")
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The default would skip a gap in silence (H35).
        .set("auto.offset.reset", "error")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false")
        .set("queued.max.messages.kbytes", PREFETCH_KBYTES)
        .set("fetch.queue.backoff.ms", "50")
        .set("fetch.message.max.bytes", "8388608")
        .set("receive.message.max.bytes", "100000000")
        .set("fetch.max.bytes", MAX_FETCH_BYTES)
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("topic.metadata.propagation.max.ms", "2000")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    config
}

/// A record with its own bytes.
fn own(message: &BorrowedMessage<'_>) -> Record {
    let headers =
        message.headers().map(|headers| headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect());
    Record {
        at: Position {
            partition: TopicPartition { topic: Arc::from(message.topic()), partition: message.partition() },
            offset: message.offset(),
        },
        timestamp: match message.timestamp() {
            Timestamp::NotAvailable => None,
            Timestamp::CreateTime(at) | Timestamp::LogAppendTime(at) => Some(at),
        },
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}
