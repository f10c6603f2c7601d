//! Reading partitions by hand, outside any group: replay, and the markers of connectors.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{ASK, POLL, Watermarks, consumer_config, own, unread};
use crate::change::{NextOffset, Position, Record, TopicPartition};
use crate::config::Kafka;

/// Every question to this client is answered or refused: what it says beside that, again and again while no broker is up, is for debugging.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// Records that are read over rather than looked up anew.
const NEAR: i64 = 1_000;

/// A consumer that belongs to no group. Offsets are never committed.
pub(crate) struct Reader {
    consumer: BaseConsumer<Quiet>,
}

/// Where in a partition to begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first record that is still there.
    Beginning,
    /// Behind the last record.
    End,
    /// This offset, or the nearest that is there.
    Offset(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl Reader {
    /// A client for these brokers.
    ///
    /// # Errors
    /// If librdkafka refuses the settings.
    pub(crate) fn open(kafka: &Kafka) -> Result<Self, KafkaError> {
        let mut config = consumer_config(kafka);
        config.set("group.id", format!("{}-reader", kafka.group)).remove("partition.assignment.strategy");
        config.remove("group.instance.id");
        Ok(Self { consumer: config.create_with_context(Quiet)? })
    }

    /// The partitions of topics that exist.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK)?;
        let topics = metadata.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
        let name: Arc<str> = Arc::from(topic);
        Ok(topics
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
            .map(|partition| TopicPartition { topic: Arc::clone(&name), partition: partition.id() })
            .collect())
    }

    /// Those of the topics that do not exist.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn missing(&self, topics: &std::collections::BTreeSet<String>, within: Duration) -> Result<Vec<String>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(None, within.min(ASK))?;
        let exists = |topic: &String| metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none());
        Ok(topics.iter().filter(|topic| !exists(topic)).cloned().collect())
    }

    /// Whether the principal may not even see the topic: then it is not among all topics, and refused when it is asked for by name.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn is_hidden(&self, topic: &str) -> Result<bool, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK)?;
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        Ok(metadata.topics().iter().any(|found| found.name() == topic && found.error() == Some(refused)))
    }

    /// What the members of a group were given; `None` while the group rebalances, or if it has no members.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn given(&self, group: &str) -> Result<Option<BTreeSet<TopicPartition>>, KafkaError> {
        let groups = self.consumer.fetch_group_list(Some(group), ASK)?;
        let Some(found) = groups.groups().iter().find(|found| found.name() == group && found.state() == "Stable") else { return Ok(None) };
        let given = found.members().iter().map(|member| unread::given(member.assignment().unwrap_or_default()).unwrap_or_default());
        Ok(Some(given.flatten().collect()))
    }

    /// The cluster's id, if the broker gives one.
    pub(crate) fn cluster_id(&self) -> Option<String> {
        self.consumer.client().fetch_cluster_id(ASK)
    }

    /// First and one past the last offset.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, KafkaError> {
        let (low, high) = self.consumer.fetch_watermarks(&partition.topic, partition.partition, ASK)?;
        Ok(Watermarks { low, high })
    }

    /// The partitions of a topic, each with its first offset and one past its last.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn ends(&self, topic: &str) -> Result<Vec<(TopicPartition, Watermarks)>, KafkaError> {
        self.partitions(topic)?.into_iter().map(|partition| Ok((partition.clone(), self.watermarks(&partition)?))).collect()
    }

    /// The offset of a place, within what is there.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn offset(&self, partition: &TopicPartition, place: Place) -> Result<i64, KafkaError> {
        let Watermarks { low, high } = self.watermarks(partition)?;
        Ok(match place {
            Place::Beginning => low,
            Place::End => high,
            Place::Offset(offset) => offset.clamp(low, high),
            Place::Time(at) => {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(at))?;
                let found = self.consumer.offsets_for_times(list, ASK)?;
                match found.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset) {
                    Some(Offset::Offset(offset)) => offset,
                    _ => high,
                }
            }
        })
    }

    /// The records at these positions, as far as their topics still have them.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub(crate) fn at(&self, wanted: &BTreeSet<Position>) -> Result<BTreeMap<Position, Record>, KafkaError> {
        let mut found = BTreeMap::new();
        let mut marks: BTreeMap<&TopicPartition, Watermarks> = BTreeMap::new();
        // Where reading is.
        let mut here: Option<Position> = None;
        for position in wanted {
            let marks = match marks.entry(&position.partition) {
                Entry::Vacant(entry) => *entry.insert(self.watermarks(&position.partition)?),
                Entry::Occupied(entry) => *entry.get(),
            };
            if !(marks.low..marks.high).contains(&position.offset) {
                continue;
            }
            let is_near = |here: &Position| here.partition == position.partition && position.offset - here.offset < NEAR;
            if !here.as_ref().is_some_and(is_near) {
                self.assign(&BTreeMap::from([(position.partition.clone(), NextOffset(position.offset))]))?;
                here = None;
            }
            let mut asked = Instant::now();
            while here.as_ref().is_none_or(|here| here.offset < position.offset) && asked.elapsed() < ASK {
                let Some(record) = self.next()?.filter(|record| record.at.partition == position.partition) else { continue };
                here = Some(record.at.clone());
                asked = Instant::now();
                if wanted.contains(&record.at) {
                    found.insert(record.at.clone(), record);
                }
            }
        }
        Ok(found)
    }

    /// Begins to read at these offsets.
    ///
    /// # Errors
    /// If librdkafka refuses.
    pub(crate) fn assign(&self, start: &BTreeMap<TopicPartition, NextOffset>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in start {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(next.0))?;
        }
        self.consumer.assign(&list)
    }

    /// The next record, if one comes soon.
    ///
    /// # Errors
    /// Those of the broker that do not pass by themselves.
    pub(crate) fn next(&self) -> Result<Option<Record>, KafkaError> {
        match self.consumer.poll(POLL) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(own(&message))),
            Some(Err(
                error @ (KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::TopicAuthorizationFailed)
                | KafkaError::MessageConsumptionFatal(_)),
            )) => Err(error),
            Some(Err(error)) => {
                tracing::warn!(%error, "kafka");
                Ok(None)
            }
        }
    }
}

/// A thread that follows topics from their end: the markers of connectors.
pub(crate) struct Follower {
    pub(crate) records: mpsc::Receiver<Record>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows the topics; one that does not exist yet is looked for again.
    pub(crate) fn start(kafka: Kafka, topics: Vec<String>) -> Self {
        let (sender, records) = mpsc::channel(1_000);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("entail-markers".to_owned()).spawn(move || follow(&kafka, &topics, &sender, &stopped));
        Self { records, stop, thread: thread.ok() }
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.records.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// How often topics that do not exist yet are looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

fn follow(kafka: &Kafka, topics: &[String], sender: &mpsc::Sender<Record>, stop: &AtomicBool) {
    let reader = match Reader::open(kafka) {
        Ok(reader) => reader,
        Err(error) => return tracing::error!(%error, "cannot follow markers"),
    };
    let mut next: BTreeMap<TopicPartition, NextOffset> = BTreeMap::new();
    let mut wanted: Vec<&String> = topics.iter().collect();
    let mut looked = None;
    while !stop.load(Ordering::Acquire) {
        if !wanted.is_empty() && looked.is_none_or(|at: Instant| at.elapsed() >= LOOK_AGAIN) {
            looked = Some(Instant::now());
            let before = next.len();
            wanted.retain(|topic| !find(&reader, topic, &mut next));
            if next.len() > before
                && let Err(error) = reader.assign(&next)
            {
                tracing::warn!(%error, "following markers");
            }
        }
        if next.is_empty() {
            std::thread::sleep(POLL);
            continue;
        }
        match reader.next() {
            Ok(None) => {}
            Ok(Some(record)) => {
                next.insert(record.at.partition.clone(), record.at.next());
                if sender.blocking_send(record).is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, ?topics, "markers cannot be read: roots that wait for them go on waiting"),
        }
    }
}

/// Adds a topic's partitions from their end: the last record is read again, so that a marker that made the topic is seen.
fn find(reader: &Reader, topic: &str, next: &mut BTreeMap<TopicPartition, NextOffset>) -> bool {
    let ends = reader.ends(topic).unwrap_or_default();
    let is_found = !ends.is_empty();
    next.extend(ends.into_iter().map(|(partition, marks)| (partition, NextOffset(marks.high.saturating_sub(1).max(marks.low)))));
    is_found
}
