//! Topics of the shared broker: making them, filling them, reading them whole. Full names everywhere: see `Bed::name`.
//! Clients are made and dropped off the runtime's threads, and no `TopicPartitionList` outlives the call that needs it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::bed::Bed;
use super::wait::{blocking, wait_for};

const DEADLINE: Duration = Duration::from_secs(60);

/// One record, read from a topic or to be written to it (then `offset` is not looked at, and a `partition` below zero means by key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record to write; `None` as a value is a tombstone.
    pub(crate) fn new(topic: &str, key: &str, value: Option<&str>) -> Record {
        Record {
            topic: topic.to_owned(),
            partition: -1,
            offset: -1,
            timestamp: None,
            key: Some(key.into()),
            value: value.map(Into::into),
            headers: Vec::new(),
        }
    }

    /// The same for one partition.
    pub(crate) fn in_partition(self, partition: i32) -> Record {
        Record { partition, ..self }
    }

    /// The key as JSON; `Null` when there is none.
    pub(crate) fn key_json(&self) -> Value {
        json(self.key.as_deref())
    }

    /// The value as JSON; `Null` for a tombstone.
    pub(crate) fn value_json(&self) -> Value {
        json(self.value.as_deref())
    }

    /// A header's text, where it is there, has a value and is UTF-8.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn read(message: &BorrowedMessage<'_>) -> Record {
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect());
        Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

impl Bed {
    /// Makes a topic and returns when the broker serves all its partitions. `config` is the topic's own, say `("cleanup.policy", "compact")`.
    pub(crate) async fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let (bootstrap, name) = (self.kafka.clone(), topic.to_owned());
        let config: Vec<(String, String)> = config.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let admin: AdminClient<DefaultClientContext> = client(&bootstrap).create().expect("an admin client");
            let wanted = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
            let wanted = config.iter().fold(wanted, |wanted, (key, value)| wanted.set(key, value));
            let made = runtime.block_on(admin.create_topics([&wanted], &AdminOptions::new())).expect("an answer from the broker");
            for result in made {
                result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
            }
        })
        .await;
        let wanted = usize::try_from(partitions).expect("a number of partitions");
        wait_for(&format!("topic {topic}"), DEADLINE, async || (self.high_watermarks(topic).await.len() == wanted).then_some(())).await;
    }

    /// Gives a topic more partitions.
    pub(crate) async fn add_partitions(&self, topic: &str, all: usize) {
        let (bootstrap, name) = (self.kafka.clone(), topic.to_owned());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let admin: AdminClient<DefaultClientContext> = client(&bootstrap).create().expect("an admin client");
            let made = runtime.block_on(admin.create_partitions([&NewPartitions::new(&name, all)], &AdminOptions::new()));
            for result in made.expect("an answer from the broker") {
                result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
            }
        })
        .await;
        wait_for(&format!("topic {topic}"), DEADLINE, async || (self.high_watermarks(topic).await.len() == all).then_some(())).await;
    }

    /// Deletes a topic and makes it anew, empty.
    pub(crate) async fn recreate_topic(&self, topic: &str, partitions: i32) {
        let (bootstrap, name) = (self.kafka.clone(), topic.to_owned());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let admin: AdminClient<DefaultClientContext> = client(&bootstrap).create().expect("an admin client");
            let gone = runtime.block_on(admin.delete_topics(&[&name], &AdminOptions::new()));
            for result in gone.expect("an answer from the broker") {
                result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
            }
        })
        .await;
        wait_for(&format!("topic {topic} to go"), DEADLINE, async || self.high_watermarks(topic).await.is_empty().then_some(())).await;
        self.create_topic(topic, partitions, &[]).await;
    }

    /// Makes the broker forget what a partition holds, as its retention would.
    pub(crate) async fn forget_records(&self, topic: &str, partition: i32) {
        let (bootstrap, topic) = (self.kafka.clone(), topic.to_owned());
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let admin: AdminClient<DefaultClientContext> = client(&bootstrap).create().expect("an admin client");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, Offset::End).expect("a partition");
            runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).expect("an answer from the broker");
        })
        .await;
    }

    /// Per partition the offset that the next record will get. Empty while there is no such topic.
    pub(crate) async fn high_watermarks(&self, topic: &str) -> BTreeMap<i32, i64> {
        self.watermarks(topic).await.into_iter().map(|(partition, (_, high))| (partition, high)).collect()
    }

    /// Per partition the first offset kept and the next offset to be written.
    pub(crate) async fn watermarks(&self, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        let (bootstrap, topic) = (self.kafka.clone(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = reader(&bootstrap);
            let of = |partition| consumer.fetch_watermarks(&topic, partition, DEADLINE).map(|marks| (partition, marks));
            // A leader may still be unknown just after the topic was made: asked again by the caller's wait.
            partitions(&consumer, &topic).into_iter().filter_map(|partition| of(partition).ok()).collect()
        })
        .await
    }

    /// Everything that is in the topics now: in the order of the topics given, within one by partition and offset.
    pub(crate) async fn read_all(&self, topics: &[&str]) -> Vec<Record> {
        let (bootstrap, topics) = (self.kafka.clone(), topics.iter().map(|&topic| topic.to_owned()).collect::<Vec<_>>());
        blocking(move || topics.iter().flat_map(|topic| read_topic(&bootstrap, topic)).collect()).await
    }

    /// `read_all` again and again until the records are enough.
    pub(crate) async fn read_until(&self, what: &str, topics: &[&str], enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        wait_for(what, DEADLINE, async || Some(self.read_all(topics).await).filter(|records| enough(records))).await
    }

    /// Writes the records in this order and returns when all are acknowledged.
    pub(crate) async fn produce(&self, records: Vec<Record>) {
        let bootstrap = self.kafka.clone();
        let runtime = tokio::runtime::Handle::current();
        blocking(move || {
            let producer: FutureProducer = client(&bootstrap)
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("message.max.bytes", "33554432")
                .set("message.timeout.ms", "30000")
                .create()
                .expect("a producer");
            let acknowledged = |delivery: DeliveryFuture| match runtime.block_on(delivery) {
                Ok(Ok(_)) => {}
                Ok(Err((error, message))) => panic!("producing to {}: {error}", message.topic()),
                Err(_) => panic!("the producer ended with records on their way"),
            };
            let mut under_way = VecDeque::new();
            for record in &records {
                let mut outgoing = to_write(record);
                loop {
                    match producer.send_result(outgoing) {
                        Ok(delivery) => break under_way.push_back(delivery),
                        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => outgoing = back,
                        Err((error, _)) => panic!("producing to {}: {error}", record.topic),
                    }
                    // Full: the oldest makes room.
                    under_way.pop_front().into_iter().for_each(&acknowledged);
                }
            }
            under_way.into_iter().for_each(&acknowledged);
        })
        .await;
    }

    /// The next offset that a consumer group has committed, per partition that has one.
    pub(crate) async fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let (bootstrap, group, topic) = (self.kafka.clone(), group.to_owned(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = client(&bootstrap).set("group.id", &group).create().expect("a consumer");
            let mut asked = TopicPartitionList::new();
            for partition in partitions(&consumer, &topic) {
                asked.add_partition(&topic, partition);
            }
            let answer = consumer.committed_offsets(asked, DEADLINE).expect("the group's offsets");
            let elements = answer.elements();
            let known = elements.iter().filter_map(|element| match element.offset() {
                Offset::Offset(next) => Some((element.partition(), next)),
                Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
            });
            known.collect()
        })
        .await
    }

    /// How many members a consumer group has.
    pub(crate) async fn members(&self, group: &str) -> usize {
        let (bootstrap, group) = (self.kafka.clone(), group.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = client(&bootstrap).create().expect("a consumer");
            let listed = consumer.client().fetch_group_list(Some(&group), DEADLINE).expect("the group's members");
            listed.groups().iter().map(|group| group.members().len()).sum()
        })
        .await
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// A consumer that belongs to no group and says when it is at a partition's end.
fn reader(bootstrap: &str) -> BaseConsumer {
    client(bootstrap)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer")
}

/// Empty while there is no such topic.
fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).expect("metadata from the broker");
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found.map(|found| found.partitions().iter().map(|partition| partition.id()).collect()).unwrap_or_default()
}

fn read_topic(bootstrap: &str, topic: &str) -> Vec<Record> {
    let consumer = reader(bootstrap);
    let mut open = partitions(&consumer, topic);
    if open.is_empty() {
        return Vec::new();
    }
    let mut whole = TopicPartitionList::new();
    for &partition in &open {
        whole.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset to begin at");
    }
    consumer.assign(&whole).expect("an assignment");
    drop(whole);
    let deadline = Instant::now() + DEADLINE;
    let mut records = Vec::new();
    while !open.is_empty() {
        assert!(
            Instant::now() < deadline,
            "{topic} was not read within {DEADLINE:?}: {} records, partitions {open:?} still open",
            records.len()
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(Record::read(&message)),
            Some(Err(KafkaError::PartitionEOF(ended))) => open.retain(|&partition| partition != ended),
            // Lost connections come back by themselves.
            Some(Err(error)) => eprintln!("reading {topic}: {error}"),
            None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn to_write(record: &Record) -> FutureRecord<'_, Vec<u8>, Vec<u8>> {
    let header = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| headers.insert(Header { key, value: value.as_ref() });
    FutureRecord {
        topic: &record.topic,
        partition: Some(record.partition).filter(|&partition| partition >= 0),
        payload: record.value.as_ref(),
        key: record.key.as_ref(),
        timestamp: record.timestamp,
        headers: Some(record.headers.iter().fold(OwnedHeaders::new(), header)),
    }
}

fn json(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| {
        serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
    })
}
