//! The consumer group: the loop of the poll thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::{
    ASK, Assignment, Budget, Command, Control, Extents, Fetched, POLL, Places, Source, Watermarks, consumer_config, own, size, unread,
};
use crate::change::{NextOffset, TopicPartition};
use crate::config::Kafka;

/// Records between the poll thread and the worker.
const CHANNEL: usize = 10_000;
/// How long one call of `poll` waits while records wait for room.
const CROWDED_POLL: Duration = Duration::from_millis(5);
/// How long the last commit is tried while the group rebalances (H39).
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What the callback saw, for the loop to answer.
#[derive(Debug)]
enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Failed(String),
}

/// librdkafka calls this on the poll thread, inside `poll`.
struct Context {
    seen: Mutex<VecDeque<Rebalance>>,
    /// Set before the consumer is dropped: from then on revocations are granted at once, or the drop would wait for ever.
    closing: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Context {
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not an assignment takes partitions away")]
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions(list);
        let seen = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ if self.closing.load(Ordering::Acquire) || consumer.assignment_lost() => match consumer.incremental_unassign(list) {
                Ok(()) => Rebalance::Lost(partitions),
                Err(error) => Rebalance::Failed(format!("partitions that were lost cannot be given up: {error}")),
            },
            _ => Rebalance::Revoke(partitions),
        };
        if let Ok(mut queue) = self.seen.lock() {
            queue.push_back(seen);
        }
    }
}

/// Starts the poll thread. `start_budget` bounds the bytes in flight.
///
/// # Errors
/// If librdkafka refuses the settings.
pub(crate) fn start(kafka: &Kafka, topics: &[String], start_budget: usize) -> Result<Source, KafkaError> {
    let context = Context { seen: Mutex::new(VecDeque::new()), closing: AtomicBool::new(false) };
    let consumer: BaseConsumer<Context> = consumer_config(kafka).create_with_context(context)?;
    subscribe(&consumer, topics)?;
    let (record_sender, records) = mpsc::channel(CHANNEL);
    let (control_sender, control) = mpsc::channel(64);
    let (commands, command_receiver) = std::sync::mpsc::channel();
    let budget = Arc::new(Budget::new(start_budget));
    let (watched, ended) = std::sync::mpsc::channel();
    let poller = Poller {
        consumer,
        topics: topics.to_vec(),
        watched,
        records: record_sender,
        control: control_sender,
        commands: command_receiver,
        budget: Arc::clone(&budget),
        assigned: BTreeMap::new(),
        last_assignment: Assignment::default(),
        halted: BTreeSet::new(),
        starting: None,
        draining: None,
        held: VecDeque::new(),
        is_paused: false,
    };
    let thread = std::thread::Builder::new().name("entail-poll".to_owned()).spawn(move || poller.run());
    let thread = thread.map_err(|_| KafkaError::ClientCreation("cannot start the poll thread".to_owned()))?;
    let (kafka, topics, asking) = (kafka.clone(), topics.to_vec(), commands.clone());
    let watch = move || unread::watch(&kafka, &topics, &asking, &ended);
    let watching = std::thread::Builder::new().name("entail-group".to_owned()).spawn(watch);
    drop(watching.map_err(|_| KafkaError::ClientCreation("cannot start the thread that watches the group".to_owned()))?);
    Ok(Source { records, control, commands, budget, thread })
}

/// Partitions of an assignment, and where to start in them once the worker has said.
type Starting = (Assignment, Vec<TopicPartition>, oneshot::Receiver<BTreeMap<TopicPartition, NextOffset>>);

struct Poller {
    consumer: BaseConsumer<Context>,
    topics: Vec<String>,
    /// Dropped when this thread ends, and with it ends the one that watches the group.
    #[expect(dead_code, reason = "dropping it is its use")]
    watched: std::sync::mpsc::Sender<()>,
    records: mpsc::Sender<Fetched>,
    control: mpsc::Sender<Control>,
    commands: std::sync::mpsc::Receiver<Command>,
    budget: Arc<Budget>,
    assigned: BTreeMap<TopicPartition, Assignment>,
    last_assignment: Assignment,
    halted: BTreeSet<TopicPartition>,
    /// Partitions assigned by the group whose start the worker has not said yet.
    starting: Option<Starting>,
    /// Partitions revoked by the group that the worker still drains.
    draining: Option<(Vec<TopicPartition>, oneshot::Receiver<()>)>,
    /// Records for which there was no room, in order.
    held: VecDeque<Fetched>,
    is_paused: bool,
}

impl Poller {
    fn run(mut self) {
        let mut wanted: BTreeMap<TopicPartition, NextOffset> = BTreeMap::new();
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Commit(offsets)) => wanted.extend(offsets),
                    Ok(Command::Halt(partition)) => self.halt(partition),
                    Ok(Command::Extents(topics, partitions, answer)) => drop(answer.send(self.extents(topics, partitions))),
                    Ok(Command::Rejoin) => self.rejoin(),
                    Ok(Command::Stop) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return self.close(&wanted),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                }
            }
            self.commit(&mut wanted);
            self.rebalance();
            self.balance_load();
            if self.records.is_closed() {
                return self.close(&wanted);
            }
            self.poll();
        }
    }

    fn poll(&mut self) {
        while let Some(fetched) = self.held.pop_front() {
            if !self.pass_on(fetched) {
                break;
            }
        }
        let record = match self.consumer.poll(if self.held.is_empty() { POLL } else { CROWDED_POLL }) {
            None => return,
            Some(Ok(message)) => own(&message),
            Some(Err(error)) => return self.on_error(&error),
        };
        let partition = &record.at.partition;
        let is_draining = self.draining.as_ref().is_some_and(|(partitions, _)| partitions.contains(partition));
        let assignment = self.assigned.get(partition).copied().filter(|_| !is_draining && !self.halted.contains(partition));
        let Some(assignment) = assignment else { return };
        self.budget.take(size(&record));
        let fetched = Fetched { assignment, record };
        if self.held.is_empty() {
            self.pass_on(fetched);
        } else {
            self.held.push_back(fetched);
        }
    }

    /// Hands a record to the worker; `false` if there is no room, and the record waits here.
    fn pass_on(&mut self, fetched: Fetched) -> bool {
        match self.records.try_send(fetched) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(fetched)) => {
                self.held.push_front(fetched);
                false
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "librdkafka may add errors; it goes on by itself after those not named")]
    fn on_error(&self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let places = self.places();
                let is_whole = places.len() == self.assigned.len();
                let unknown =
                    || Control::Failed("a topic lacks an offset that is to be read, and the broker does not say which".to_owned());
                self.tell(if is_whole { Control::OutOfRange(places) } else { unknown() });
            }
            KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed),
            ) => self.tell(Control::Failed(format!(
                "the principal may not read a topic, or not as this group ({code}); `entail check --grants` prints the access that is needed"
            ))),
            KafkaError::MessageConsumptionFatal(code) => self.tell(Control::Failed(format!("the Kafka client failed: {code}"))),
            KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                tracing::warn!(%error, "a topic does not exist (yet)");
            }
            other => tracing::warn!(error = %other, "kafka"),
        }
    }

    fn tell(&self, control: Control) {
        // The worker reads this channel before anything else; if it is gone, so is the reason to tell.
        drop(self.control.blocking_send(control));
    }

    /// Pauses when too much is in flight, resumes when there is room again. Polling goes on either way.
    fn balance_load(&mut self) {
        let is_full = !self.held.is_empty() || self.budget.is_full();
        if is_full != self.is_paused && (is_full || self.budget.has_room()) {
            let list = everywhere(self.assigned.keys().filter(|partition| !self.halted.contains(*partition)));
            let done = if is_full { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
            if let Err(error) = done {
                tracing::warn!(%error, "pausing or resuming");
            }
            tracing::debug!(is_full, "{}", if is_full { "reading waits for what is in flight" } else { "reading goes on" });
            self.is_paused = is_full;
        }
    }

    fn halt(&mut self, partition: TopicPartition) {
        if let Err(error) = self.consumer.pause(&everywhere([&partition])) {
            tracing::warn!(%error, %partition, "pausing");
        }
        self.halted.insert(partition);
    }

    /// Out of the group and into it again. A rebalance under way does as much.
    fn rejoin(&self) {
        let is_quiet = self.starting.is_none() && self.draining.is_none();
        if is_quiet && self.consumer.context().seen.lock().is_ok_and(|seen| seen.is_empty()) {
            self.consumer.unsubscribe();
            if let Err(error) = subscribe(&self.consumer, &self.topics) {
                self.tell(Control::Failed(format!("the group cannot be joined anew: {error}")));
            }
        }
    }

    /// Answers what the callback saw, one thing at a time.
    fn rebalance(&mut self) {
        self.finish_start();
        self.finish_drain();
        if self.starting.is_some() || self.draining.is_some() {
            return;
        }
        let seen = self.consumer.context().seen.lock().ok().and_then(|mut seen| seen.pop_front());
        match seen {
            None => {}
            Some(Rebalance::Assign(partitions)) => {
                let watermarks = self.watermarks(partitions.clone());
                if watermarks.len() < partitions.len() && self.ask_again(&partitions) {
                    return;
                }
                let (start_at, answer) = oneshot::channel();
                self.last_assignment = Assignment(self.last_assignment.0 + 1);
                let assignment = self.last_assignment;
                self.starting = Some((assignment, partitions, answer));
                let topic_sizes = watermarks.keys().filter_map(|partition| self.topic_size(&partition.topic)).collect();
                self.tell(Control::Assigned { assignment, partitions: watermarks, topic_sizes, start_at });
            }
            Some(Rebalance::Revoke(partitions)) => {
                let (drained, answer) = oneshot::channel();
                self.tell(Control::Revoked { partitions: partitions.clone(), drained });
                self.draining = Some((partitions, answer));
            }
            Some(Rebalance::Lost(partitions)) => {
                self.forget(&partitions);
                self.tell(Control::Lost { partitions });
            }
            Some(Rebalance::Failed(why)) => self.tell(Control::Failed(why)),
        }
    }

    /// Puts an assignment back whose offsets the broker did not tell: a partition without them would never be read. `false` if the group has
    /// gone on meanwhile.
    fn ask_again(&self, partitions: &[TopicPartition]) -> bool {
        self.consumer.context().seen.lock().is_ok_and(|mut seen| {
            let is_last = seen.is_empty();
            if is_last {
                seen.push_front(Rebalance::Assign(partitions.to_vec()));
            }
            is_last
        })
    }

    fn finish_start(&mut self) {
        let Some((assignment, partitions, answer)) = &mut self.starting else { return };
        let start = match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => BTreeMap::new(),
            Ok(start) => start,
        };
        let (assignment, partitions) = (*assignment, std::mem::take(partitions));
        self.starting = None;
        // A partition that left us while it was paused would come back paused, and stand still for ever: librdkafka keeps that over a loss.
        if let Err(error) = self.consumer.resume(&everywhere(&partitions)) {
            tracing::warn!(%error, "resuming");
        }
        // All are assigned, as the group wants; those without a start are halted before the first fetch.
        let offset = |partition: &TopicPartition| start.get(partition).map_or(Offset::End, |next| Offset::Offset(next.0));
        let wanted = list(partitions.iter().map(|partition| (partition, offset(partition))));
        if let Err(error) = self.consumer.incremental_assign(&wanted) {
            return self.tell(Control::Failed(format!("partitions cannot be assigned: {error}")));
        }
        if self.is_paused {
            // As all the others are: they are resumed together.
            if let Err(error) = self.consumer.pause(&everywhere(&partitions)) {
                tracing::warn!(%error, "pausing");
            }
        }
        for partition in partitions {
            self.assigned.insert(partition.clone(), assignment);
            if start.contains_key(&partition) {
                self.halted.remove(&partition);
            } else {
                self.halt(partition);
            }
        }
    }

    fn finish_drain(&mut self) {
        let Some((partitions, answer)) = &mut self.draining else { return };
        if matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return;
        }
        let partitions = std::mem::take(partitions);
        self.draining = None;
        if let Err(error) = self.consumer.incremental_unassign(&everywhere(&partitions)) {
            self.tell(Control::Failed(format!("partitions cannot be given back: {error}")));
        }
        self.forget(&partitions);
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.halted.remove(partition);
        }
        let budget = &self.budget;
        self.held.retain(|Fetched { record, .. }| {
            let keeps = !partitions.contains(&record.at.partition);
            if !keeps {
                budget.give(size(record));
            }
            keeps
        });
    }

    fn extents(&self, topics: BTreeSet<Arc<str>>, partitions: Vec<TopicPartition>) -> Extents {
        let size = |topic: Arc<str>| self.topic_size(&topic).map(|(_, size)| (topic, size));
        Extents { topic_sizes: topics.into_iter().filter_map(size).collect(), watermarks: self.watermarks(partitions) }
    }

    fn topic_size(&self, topic: &str) -> Option<(String, usize)> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK).ok()?;
        let found = metadata.topics().iter().find(|found| found.name() == topic)?;
        Some((topic.to_owned(), found.partitions().len()))
    }

    /// Where each partition is read, and what it holds.
    fn places(&self) -> Places {
        let positions = self.consumer.position().unwrap_or_default();
        let place = |(partition, marks): (TopicPartition, Watermarks)| {
            let at = positions.find_partition(&partition.topic, partition.partition).map(|element| element.offset());
            let next = if let Some(Offset::Offset(next)) = at { Some(NextOffset(next)) } else { None };
            (partition, (next, marks))
        };
        self.watermarks(self.assigned.keys().cloned().collect()).into_iter().map(place).collect()
    }

    fn watermarks(&self, partitions: Vec<TopicPartition>) -> BTreeMap<TopicPartition, Watermarks> {
        let ask = |partition: TopicPartition| match self.consumer.fetch_watermarks(&partition.topic, partition.partition, ASK) {
            Ok((low, high)) => Some((partition, Watermarks { low, high })),
            Err(error) => {
                tracing::warn!(%error, %partition, "asking for offsets");
                None
            }
        };
        partitions.into_iter().filter_map(ask).collect()
    }

    fn commit(&self, wanted: &mut BTreeMap<TopicPartition, NextOffset>) {
        wanted.retain(|partition, _| self.assigned.contains_key(partition));
        if wanted.is_empty() {
            return;
        }
        let list = list(wanted.iter().map(|(partition, next)| (partition, Offset::Offset(next.0))));
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => wanted.clear(),
            Err(error) => tracing::debug!(%error, "committing offsets; the ledger has them"),
        }
    }

    /// The last commit, then out of the group.
    fn close(self, wanted: &BTreeMap<TopicPartition, NextOffset>) {
        let last: BTreeMap<_, _> = wanted.iter().filter(|(partition, _)| self.assigned.contains_key(*partition)).collect();
        let deadline = Instant::now() + LAST_COMMIT;
        while !last.is_empty() && Instant::now() < deadline {
            let list = list(last.iter().map(|(partition, next)| (*partition, Offset::Offset(next.0))));
            match self.consumer.commit(&list, CommitMode::Sync) {
                Ok(()) => break,
                Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress)) => drop(self.consumer.poll(POLL)),
                Err(error) => {
                    tracing::info!(%error, "the last commit of offsets failed; the ledger has them");
                    break;
                }
            }
        }
        self.consumer.context().closing.store(true, Ordering::Release);
        drop(self.consumer);
    }
}

fn subscribe(consumer: &BaseConsumer<Context>, topics: &[String]) -> Result<(), KafkaError> {
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<&str>>())
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| TopicPartition { topic: Arc::from(element.topic()), partition: element.partition() }).collect()
}

/// A list for calls that look at no offset.
fn everywhere<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    list(partitions.into_iter().map(|partition| (partition, Offset::Invalid)))
}

fn list<'a>(partitions: impl IntoIterator<Item = (&'a TopicPartition, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        if let Err(error) = list.add_partition_offset(&partition.topic, partition.partition, offset) {
            tracing::error!(%error, %partition, "an offset that librdkafka does not take");
        }
    }
    list
}
