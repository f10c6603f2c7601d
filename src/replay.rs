//! Reads change topics again through the same stages, for reconciliation.
//!
//! Its partitions are assigned by hand: neither the group's offsets nor the ledger's progress move (H90). Plans are made from what the databases
//! hold now, so on settled data nothing changes. Without `apply` every batch is rolled back and only counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::change::{self, NextOffset, Record, TopicPartition, TopicSpec};
use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::engine::{Cascade, Engine, Retry};
use crate::ledger;
use crate::rules::EntityId;
use crate::source::assigned::{Follower, Reader};
use crate::value::Key;
use crate::worker::accounts::Account;
use crate::worker::attempt::{self, Done, Fate, Name, Shared};
use crate::worker::markers;
use crate::worker::outcome::tell_rescued;
use crate::worker::waitlist::Waitlist;

pub use crate::source::assigned::Place;

/// How long roots may wait for their proof after the end was reached.
const SETTLE: Duration = Duration::from_secs(20);
/// How often an idle connector is given something to send.
const MARK: Duration = Duration::from_secs(1);

/// What to read, and what to do with it.
pub struct Request {
    /// The entities whose topics are read.
    pub entities: Vec<EntityId>,
    /// Where to begin.
    pub from: Place,
    /// Where to end.
    pub until: Place,
    /// Keep the changes.
    pub apply: bool,
    /// Told records done and records to do.
    pub progress: Box<dyn Fn(u64, u64) + Send + Sync>,
}

/// What a replay found.
#[derive(Debug, Default)]
pub struct Found {
    /// Records by outcome, over all partitions.
    pub account: Account,
    /// Rows changed (or that would), per reference.
    pub rows: BTreeMap<String, u64>,
    /// Rows of copies, per entity.
    pub copies: BTreeMap<String, u64>,
    /// Roots that changed something.
    pub roots: u64,
    /// Roots whose parent was found alive.
    pub spared: u64,
    /// Roots left waiting or parked.
    pub held_back: u64,
    /// Records that could not be read or applied.
    pub unreadable: u64,
}

impl Found {
    /// Rows changed altogether.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.rows.values().sum::<u64>() + self.copies.values().sum::<u64>()
    }
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// librdkafka refused, or no broker answers.
    #[error("kafka")]
    Kafka(#[from] KafkaError),
    /// A database says that a person must look.
    #[error("halted")]
    Halted(#[source] crate::sink::SinkError),
    /// Key changes may stand before the start, and nobody has read them.
    #[error(
        "the group has read {partition} up to offset {next} only, and keys may have changed before {from}: begin there or before, or let the \
         worker come so far"
    )]
    UnknownPast {
        /// The partition.
        partition: TopicPartition,
        /// How far the group's ledger is.
        next: i64,
        /// Where the replay was to begin.
        from: i64,
    },
    /// The ledger could not be read.
    #[error("reading the ledger")]
    Ledger(#[source] crate::sink::SinkError),
    /// A fault of ours.
    #[error("{0}")]
    Broken(String),
}

/// The part of each partition that is read.
type Ranges = BTreeMap<TopicPartition, (i64, i64)>;

/// Replays.
///
/// # Errors
/// If it cannot go on; with `apply`, what was durable is.
pub async fn run(engine: Arc<Engine>, config: &Config, request: Request, stop: CancellationToken) -> Result<Found, ReplayError> {
    let topics: BTreeSet<String> = request.entities.iter().filter_map(|id| engine.model.rules.entity(*id).topic.clone()).collect();
    let (kafka, from, until) = (config.kafka.clone(), request.from, request.until);
    let opened = tokio::task::spawn_blocking(move || open(&kafka, &topics, from, until)).await;
    let (reader, ranges) = opened.map_err(|error| ReplayError::Broken(error.to_string()))??;
    if request.apply {
        refuse_unknown_past(&engine, &request.entities, &ranges).await?;
    }
    let reader = Arc::new(reader);
    let ended = Arc::new(AtomicBool::new(false));
    let (sender, mut records) = mpsc::channel(10_000);
    let thread = read(Arc::clone(&reader), sender, Arc::clone(&ended));
    let marker_topics = crate::model::markers(&engine.model);
    let mut follower = (!marker_topics.is_empty()).then(|| Follower::start(config.kafka.clone(), marker_topics));
    let dead_letters = Arc::new(DeadLetters::open(&config.kafka, &config.dead_letters.topic)?);
    let (_, given_up) = watch::channel(BTreeSet::new());
    let shared = Shared { engine, dead_letters, stop, given_up, resting: watch::Sender::new(false) };
    let mut replay = Replay {
        shared,
        config,
        reader,
        request,
        partitions: ranges.keys().cloned().collect(),
        ranges,
        at: BTreeMap::new(),
        waitlist: Waitlist::default(),
        found: Found::default(),
        told: BTreeMap::new(),
    };
    let result = replay.run(&mut records, follower.as_mut()).await;
    ended.store(true, Ordering::Release);
    records.close();
    drop(
        tokio::task::spawn_blocking(move || {
            drop(thread.join());
            if let Some(mut follower) = follower.take() {
                follower.stop();
            }
        })
        .await,
    );
    let Replay { reader, mut found, told, waitlist, .. } = replay;
    drop(tokio::task::spawn_blocking(move || drop(reader)).await);
    found.held_back += u64::try_from(waitlist.len()).unwrap_or(u64::MAX);
    found.roots = u64::try_from(told.len()).unwrap_or(u64::MAX);
    for cascade in told.values() {
        for line in &cascade.lines {
            *found.rows.entry(line.reference.clone()).or_default() += line.rows;
        }
    }
    result.map(|()| found)
}

/// Where keys may change, what a missing key became is known only if everything before it was read: by the group, or by this replay.
async fn refuse_unknown_past(engine: &Engine, entities: &[EntityId], ranges: &Ranges) -> Result<(), ReplayError> {
    let model = &engine.model;
    for entity in entities.iter().filter(|entity| model.graph.keys_may_change(**entity)) {
        let Some(topic) = &model.rules.entity(*entity).topic else { continue };
        for id in model.reach_of_topic(topic) {
            let progress =
                ledger::progress(&*model.databases.handle(id).database, &engine.owner.group).await.map_err(ReplayError::Ledger)?;
            for (partition, (from, _)) in ranges.iter().filter(|(partition, _)| *partition.topic == **topic) {
                let next = progress.get(partition).map_or(0, |next| next.0);
                if next < *from {
                    return Err(ReplayError::UnknownPast { partition: partition.clone(), next, from: *from });
                }
            }
        }
    }
    Ok(())
}

fn open(
    kafka: &crate::config::Kafka,
    topics: &BTreeSet<String>,
    from: Place,
    until: Place,
) -> Result<(Reader, Ranges), rdkafka::error::KafkaError> {
    let reader = Reader::open(kafka)?;
    let mut ranges = Ranges::new();
    for topic in topics {
        for partition in reader.partitions(topic)? {
            let range = (reader.offset(&partition, from)?, reader.offset(&partition, until)?);
            ranges.insert(partition, range);
        }
    }
    let start = ranges.iter().map(|(partition, (from, _))| (partition.clone(), NextOffset(*from))).collect();
    reader.assign(&start)?;
    Ok((reader, ranges))
}

/// Records, or the error behind which there are no more.
type Records = mpsc::Receiver<Result<Record, KafkaError>>;

fn read(reader: Arc<Reader>, sender: mpsc::Sender<Result<Record, KafkaError>>, ended: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !ended.load(Ordering::Acquire) {
            let Some(next) = reader.next().transpose() else { continue };
            let is_last = next.is_err();
            if sender.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    })
}

struct Replay<'a> {
    shared: Shared,
    config: &'a Config,
    reader: Arc<Reader>,
    request: Request,
    ranges: Ranges,
    /// All partitions of the topics.
    partitions: BTreeSet<TopicPartition>,
    at: BTreeMap<TopicPartition, i64>,
    waitlist: Waitlist,
    found: Found,
    /// What each root entailed, once, however often it occurs in the topic.
    told: BTreeMap<(String, Key), Cascade>,
}

impl Replay<'_> {
    async fn run(&mut self, records: &mut Records, mut follower: Option<&mut Follower>) -> Result<(), ReplayError> {
        let mut settle_by: Option<Instant> = None;
        let mut mark_at = Instant::now();
        while !self.shared.stop.is_cancelled() {
            if self.is_at_end() {
                let deadline = *settle_by.get_or_insert_with(|| Instant::now() + SETTLE);
                if self.waitlist.is_empty() || Instant::now() >= deadline {
                    return Ok(());
                }
            }
            let batch = self.next_batch(records).await?;
            let retries = self.proven(follower.as_deref_mut()).await?;
            if !batch.is_empty() || !retries.is_empty() {
                self.work(batch, retries).await?;
            }
            if !self.waitlist.is_empty() && Instant::now() >= mark_at {
                mark_at = Instant::now() + MARK;
                markers::mark(&self.shared.engine.model, &self.waitlist.targets()).await;
            }
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        self.ranges.iter().all(|(partition, (from, until))| self.at.get(partition).copied().unwrap_or(*from) >= *until)
    }

    /// Records in batches. Those behind the end are read only while roots wait: they show what the last word on a key is.
    async fn next_batch(&self, records: &mut Records) -> Result<Vec<Record>, KafkaError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let deadline = Instant::now() + Duration::from_millis(100);
        while batch.len() < self.config.batch.events && bytes < self.config.batch.bytes {
            match tokio::time::timeout_at(deadline, records.recv()).await {
                Ok(Some(record)) => {
                    let record = record?;
                    let end = self.ranges.get(&record.at.partition).map_or(0, |(_, until)| *until);
                    if record.at.offset < end || !self.waitlist.is_empty() {
                        bytes += crate::source::size(&record);
                        batch.push(record);
                    }
                }
                Ok(None) => return Err(KafkaError::Canceled),
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    /// The roots whose proof has come.
    async fn proven(&mut self, follower: Option<&mut Follower>) -> Result<Vec<Retry>, ReplayError> {
        if self.waitlist.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(follower) = follower {
            while let Ok(record) = follower.records.try_recv() {
                if let Ok(change::Decoded { source: Some(position), .. }) = change::decode(&record, &TopicSpec { entities: Vec::new() }) {
                    self.waitlist.on_marker(&position);
                }
            }
        }
        let wanted = self.waitlist.wanted(&self.partitions);
        if !wanted.is_empty() {
            let reader = Arc::clone(&self.reader);
            let asked = tokio::task::spawn_blocking(move || {
                let end = |partition: TopicPartition| reader.watermarks(&partition).ok().map(|marks| (partition, marks.high));
                let ends: BTreeMap<TopicPartition, i64> = wanted.partitions.into_iter().filter_map(end).collect();
                let partitions = |topic: Arc<str>| reader.partitions(&topic).ok().map(|partitions| (topic, partitions));
                (wanted.topics.into_iter().filter_map(partitions).collect::<BTreeMap<_, _>>(), ends)
            });
            let (topics, ends) = asked.await.map_err(|error| ReplayError::Broken(error.to_string()))?;
            // Partitions that came meanwhile are not read here: what may stand on them is left waiting.
            self.partitions.extend(topics.values().flatten().cloned());
            self.waitlist.set_barriers(&topics.keys().cloned().collect(), &ends, &self.partitions);
        }
        Ok(self.waitlist.take_proven(&self.partitions))
    }

    async fn work(&mut self, batch: Vec<Record>, retries: Vec<Retry>) -> Result<(), ReplayError> {
        let (shared, name) = (self.shared.clone(), Name::Replay { apply: self.request.apply });
        let task = tokio::spawn(async move {
            let mut prepared = attempt::prepare(&shared.engine, batch);
            prepared.retries = retries;
            attempt::work(shared, prepared, name).await
        });
        let mut done = task.await.map_err(|error| ReplayError::Broken(error.to_string()))?;
        let bound_anew = done.engine.take();
        self.take(done)?;
        if let Some(engine) = bound_anew {
            // What waits was found under the binding before.
            self.found.held_back += u64::try_from(self.waitlist.len()).unwrap_or(u64::MAX);
            self.waitlist.forget_all();
            self.shared.engine = engine;
        }
        Ok(())
    }

    fn take(&mut self, done: Done) -> Result<(), ReplayError> {
        for (position, fate) in &done.fates {
            let inside = self.ranges.get(&position.partition).is_some_and(|(_, until)| position.offset < *until);
            match fate {
                _ if !inside => {}
                Fate::Skipped(reason) => self.found.account.skip(reason),
                Fate::Worked(outcome) => self.found.account.count(*outcome),
                Fate::DeadLetter(_) => {
                    self.found.unreadable += 1;
                    self.found.account.dead_letter();
                }
            }
        }
        for (partition, next) in &done.progress {
            self.at.insert(partition.clone(), next.0);
            self.waitlist.on_progress(partition, *next);
        }
        for (partition, position) in &done.sources {
            self.waitlist.on_read(partition, position);
        }
        for report in done.reports {
            tell_rescued(&report);
            self.found.spared += report.spared;
            self.found.held_back +=
                u64::try_from(report.parked.iter().filter(|pending| !report.is_waiting(pending)).count()).unwrap_or(u64::MAX);
            for (name, rows) in report.copies {
                *self.found.copies.entry(name).or_default() += rows;
            }
            for cascade in report.cascades {
                let root = (cascade.entity.clone(), cascade.key.clone());
                match self.told.get_mut(&root) {
                    // Applied in parts: they add up. Only counted: the same again.
                    Some(known) if self.request.apply => known.lines.extend(cascade.lines),
                    _ => drop(self.told.insert(root, cascade)),
                }
            }
            for (target, key) in &report.settled {
                self.waitlist.settle(*target, key);
            }
            for waiting in report.waiting {
                self.waitlist.insert(waiting);
            }
        }
        let read =
            |(partition, (from, until)): (&TopicPartition, &(i64, i64))| self.at.get(partition).map_or(0, |at| (*at).min(*until) - from);
        let done_records: i64 = self.ranges.iter().map(read).sum();
        let all: i64 = self.ranges.values().map(|(from, until)| (until - from).max(0)).sum();
        (self.request.progress)(u64::try_from(done_records).unwrap_or(0), u64::try_from(all).unwrap_or(0));
        match done.fatal {
            Some(fatal) => Err(ReplayError::Halted(fatal)),
            None => Ok(()),
        }
    }
}
