//! The loop of the worker: the only place where source, engine and dead letters meet.
//!
//! It owns all state and waits for nothing but messages: batches and takeovers run in tasks, Kafka on its own thread. One batch is in flight while
//! the next is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::change::{NextOffset, Record, TopicPartition};
use crate::config::Config;
use crate::databases::DatabaseId;
use crate::dead_letter::DeadLetters;
use crate::engine::{Engine, Report, Retry};
use crate::error::chain;
use crate::ledger::{self, Epoch};
use crate::sink::SinkError;
use crate::source::{self, Assignment, Command, Control, Extents, Places, Source, Watermarks};

pub mod accounts;
pub(crate) mod attempt;
mod awaited;
mod ending;
mod expiry;
mod large;
pub(crate) mod markers;
pub(crate) mod outcome;
mod owned;
mod part;
mod take;
mod waiting;
pub(crate) mod waitlist;
mod watching;

use accounts::Accounts;
use attempt::{Done, Name, Prepared, Shared};
use awaited::{answered, finished, joined, names, next_marker, rest};
use large::Large;
use owned::Owned;
use take::Takeover;
use waitlist::Waitlist;
use watching::Watching;

/// How often parked roots are tried again.
const RETRY_PARKED: Duration = Duration::from_secs(60);
/// How often it is looked whether a person has decided something.
const DECISIONS: Duration = Duration::from_secs(2);
/// How often expired rows of the ledger are removed; at the start, too, as no worker need live that long.
const EXPIRE: Duration = Duration::from_secs(3600);

/// Told what came of every batch.
pub type Observer = Box<dyn Fn(&Report) + Send + Sync>;

/// How a worker runs.
pub struct Options {
    /// End when everything that stood in the topics at the start is done.
    pub until_end: bool,
    /// Told what came of every batch, for those who show it.
    pub observer: Option<Observer>,
    /// Told the accounts whenever asked.
    pub accounts: watch::Sender<Accounts>,
}

/// How a worker ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Clean,
    /// Some partitions or references stand still until a person has looked.
    WithHalts,
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// librdkafka refused.
    #[error("kafka")]
    Kafka(#[source] rdkafka::error::KafkaError),
    /// The client failed for good.
    #[error("{0}")]
    Client(String),
    /// A database says that a person must look.
    #[error("halted")]
    Halted(#[source] SinkError),
    /// The accounts do not add up: a fault of ours.
    #[error("the accounts do not add up:\n{0}")]
    Unbalanced(String),
}

/// Runs until `stop` is cancelled, or with `until_end` until the end is reached.
///
/// # Errors
/// If it cannot go on; what was durable is.
pub async fn run(engine: Arc<Engine>, config: &Config, options: Options, stop: CancellationToken) -> Result<Ended, RunError> {
    let topics: Vec<String> = engine.model.topics.keys().filter(|topic| !engine.model.reach_of_topic(topic).is_empty()).cloned().collect();
    let in_flight = config.batch.bytes.saturating_mul(4).max(32 << 20);
    let source = source::start(&config.kafka, &topics, in_flight).map_err(RunError::Kafka)?;
    let dead_letters = Arc::new(DeadLetters::open(&config.kafka, &config.dead_letters.topic).map_err(RunError::Kafka)?);
    let markers = crate::model::markers(&engine.model);
    let mut follower = (!markers.is_empty()).then(|| source::assigned::Follower::start(config.kafka.clone(), markers));
    let (given_up, given_up_receiver) = watch::channel(BTreeSet::new());
    let shared = Shared { engine, dead_letters, stop, given_up: given_up_receiver, resting: watch::Sender::new(false) };
    let mut worker = Worker {
        config,
        options,
        shared,
        given_up,
        owned: BTreeMap::new(),
        epochs: BTreeMap::new(),
        open: Vec::new(),
        open_bytes: 0,
        open_since: None,
        in_flight: None,
        taking: None,
        drains: Vec::new(),
        ends: None,
        waitlist: Waitlist::default(),
        retries: Vec::new(),
        large: Large::default(),
        watching: Watching::new(),
        retry_at: Instant::now() + RETRY_PARKED,
        mark_at: Instant::now(),
        expire_at: Instant::now(),
        expiring: None,
        decisions_at: Instant::now(),
        asking: None,
        decisions: BTreeMap::new(),
        promoted: None,
        settle_by: None,
        was_assigned: false,
        has_latched: false,
        has_looked_at_pending: false,
        pass: None,
        topic_sizes: BTreeMap::new(),
        budget: Arc::clone(&source.budget),
        accounts: Accounts::default(),
    };
    let result = worker.run(source, follower.as_mut()).await;
    if let Some(mut follower) = follower {
        drop(tokio::task::spawn_blocking(move || follower.stop()).await);
    }
    result
}

/// Partitions that are being taken over.
struct Taking {
    task: JoinHandle<Takeover>,
    assignment: Assignment,
    partitions: BTreeMap<TopicPartition, Watermarks>,
    start_at: oneshot::Sender<BTreeMap<TopicPartition, NextOffset>>,
}

struct Worker<'a> {
    config: &'a Config,
    options: Options,
    shared: Shared,
    given_up: watch::Sender<BTreeSet<TopicPartition>>,
    owned: BTreeMap<TopicPartition, Owned>,
    epochs: BTreeMap<(DatabaseId, TopicPartition), Epoch>,
    open: Vec<Record>,
    open_bytes: usize,
    open_since: Option<Instant>,
    in_flight: Option<JoinHandle<Done>>,
    taking: Option<Taking>,
    drains: Vec<(Vec<TopicPartition>, oneshot::Sender<()>)>,
    ends: Option<oneshot::Receiver<Extents>>,
    waitlist: Waitlist,
    retries: Vec<Retry>,
    large: Large,
    watching: Watching,
    retry_at: Instant,
    mark_at: Instant,
    expire_at: Instant,
    expiring: Option<JoinHandle<Duration>>,
    decisions_at: Instant,
    asking: Option<JoinHandle<waiting::Decisions>>,
    /// The last decision of people that was seen, per database.
    decisions: BTreeMap<DatabaseId, i64>,
    /// The engine to go on with, once nothing is in flight.
    promoted: Option<Arc<Engine>>,
    settle_by: Option<Instant>,
    was_assigned: bool,
    /// A reference was latched while this worker ran.
    has_latched: bool,
    /// What earlier owners left pending has been looked at since the last takeover.
    has_looked_at_pending: bool,
    pass: Option<waiting::Pass>,
    /// Partitions of each topic, over all workers.
    topic_sizes: BTreeMap<String, usize>,
    budget: Arc<source::Budget>,
    accounts: Accounts,
}

impl Worker<'_> {
    async fn run(&mut self, mut source: Source, mut follower: Option<&mut source::assigned::Follower>) -> Result<Ended, RunError> {
        let stop = self.shared.stop.clone();
        let mut resting = self.shared.resting.subscribe();
        let result = loop {
            self.drain();
            self.start_batch();
            self.ask_for_ends(&source);
            self.large.start_counting(&self.shared.engine);
            self.watching.start_if_due(&self.shared.engine);
            if self.is_at_end() {
                break Ok(());
            }
            let (may_read, wake_at) = (self.may_read(), self.wake_at());
            tokio::select! {
                biased;
                // 1. Shutdown first: a busy topic must not be able to postpone it.
                () = stop.cancelled() => break Ok(()),
                // 2. Rebalances and fatal errors. A closed channel means that the poll thread has ended.
                control = source.control.recv() => match control {
                    Some(control) => if let Err(error) = self.on_control(control, &source).await { break Err(error) },
                    None => break Err(RunError::Client("the poll thread has ended".to_owned())),
                },
                // 3. Partitions taken over.
                takeover = finished(self.taking.as_mut().map(|taking| &mut taking.task)) => {
                    if let Err(error) = self.on_takeover(joined(takeover)?) { break Err(error) }
                }
                // 4. Finished work before new work, so that memory goes down before it goes up.
                done = finished(self.in_flight.as_mut()) => {
                    self.in_flight = None;
                    if let Err(error) = self.on_done(joined(done)?, &source).await { break Err(error) }
                }
                // A batch that rests is when partitions that are asked back can go.
                () = rest(&mut resting), if !self.drains.is_empty() => {}
                // 5. Markers and the ends of partitions, for roots that wait.
                Some(record) = next_marker(&mut follower) => self.on_marker(&record),
                decisions = finished(self.asking.as_mut()) => self.on_decisions(joined(decisions)?),
                ends = answered(self.ends.as_mut()) => self.on_ends(ends),
                found = finished(self.watching.look()) => self.on_look(joined(found)?),
                expired = finished(self.expiring.as_mut()) => self.on_expired(joined(expired)?),
                counted = finished(self.large.counting()) => self.large.on_counted(joined(counted)?),
                // 6. Time: a batch that has waited, parked roots, markers, expiry.
                () = tokio::time::sleep_until(wake_at) => self.on_time().await,
                // 7. New records, while there is room.
                record = source.records.recv(), if may_read => match record {
                    Some(fetched) => self.on_record(fetched, &source).await,
                    None => break Err(RunError::Client("the poll thread has ended".to_owned())),
                },
            }
        };
        self.finish(source, result).await
    }

    fn may_read(&self) -> bool {
        self.open.len() < self.config.batch.events && self.open_bytes < self.config.batch.bytes
    }

    fn wake_at(&self) -> Instant {
        let flush = self.open_since.filter(|_| self.in_flight.is_none()).map(|since| since + self.config.batch.linger);
        let mark = (!self.waitlist.is_empty()).then_some(self.mark_at);
        let settle = self.settle_by.filter(|at| *at > Instant::now());
        [
            flush,
            mark,
            settle,
            self.large.wake_at(),
            self.watching.wake_at(),
            Some(self.retry_at),
            Some(self.expire_at),
            Some(self.decisions_at),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.retry_at)
    }

    async fn on_control(&mut self, control: Control, source: &Source) -> Result<(), RunError> {
        match control {
            Control::Assigned { assignment, partitions, topic_sizes, start_at } => {
                self.was_assigned = true;
                let (engine, stop) = (Arc::clone(&self.shared.engine), self.shared.stop.clone());
                self.hear_of_sizes(topic_sizes);
                let task = tokio::spawn(take::take(engine, partitions.clone(), self.topic_sizes.clone(), stop));
                self.taking = Some(Taking { task, assignment, partitions, start_at });
            }
            Control::Revoked { partitions, drained } => {
                tracing::info!(partitions = %names(&partitions), "partitions are asked back");
                self.drains.push((partitions, drained));
            }
            Control::Lost { partitions } => {
                tracing::warn!(partitions = %names(&partitions), "partitions were lost to another worker");
                self.given_up.send_modify(|given_up| given_up.extend(partitions.iter().cloned()));
                self.forget(&partitions);
            }
            Control::OutOfRange(places) => return self.on_out_of_range(places, source).await,
            Control::Failed(why) => return Err(RunError::Client(why)),
        }
        Ok(())
    }

    /// Kafka does not say of which partition an offset is missing, so all are looked at.
    async fn on_out_of_range(&mut self, places: Places, source: &Source) -> Result<(), RunError> {
        tracing::error!("a topic lacks an offset that is to be read");
        let gap = |(partition, (read, marks)): (TopicPartition, (Option<NextOffset>, Watermarks))| {
            let next = read.or(self.owned.get(&partition)?.next)?;
            Some((partition, take::gap(next, marks)?))
        };
        let gaps: Vec<(TopicPartition, String)> = places.into_iter().filter_map(gap).collect();
        if gaps.is_empty() {
            // Whichever it was is read no more: the next start looks again.
            return Err(RunError::Client("a topic lacked an offset that was to be read, and now none does: start again".to_owned()));
        }
        for (partition, gap) in gaps {
            self.halt(&partition, ledger::GAP, &gap, source).await;
        }
        Ok(())
    }

    fn on_takeover(&mut self, takeover: Takeover) -> Result<(), RunError> {
        let Some(Taking { assignment, partitions, start_at, .. }) = self.taking.take() else { return Ok(()) };
        if let Some(fatal) = takeover.fatal {
            return Err(RunError::Halted(fatal));
        }
        for (partition, reason) in &takeover.halted {
            tracing::error!(%partition, reason, "the partition stands still until it is released");
        }
        for (partition, marks) in partitions {
            let start = takeover.start.get(&partition);
            self.owned.insert(partition.clone(), Owned::new(assignment, start, marks.high));
            self.accounts.partitions.entry(partition.clone()).or_default();
            if let Some(start) = start {
                self.waitlist.on_progress(&partition, start.next);
            }
        }
        tracing::info!(partitions = takeover.start.len(), halted = takeover.halted.len(), "partitions taken over");
        self.epochs.extend(takeover.epochs);
        drop(start_at.send(takeover.start.iter().map(|(partition, start)| (partition.clone(), start.read_from())).collect()));
        // What an earlier owner left pending is looked at now.
        self.retry_at = Instant::now();
        (self.has_looked_at_pending, self.pass) = (false, None);
        Ok(())
    }

    /// Gives back the partitions that are asked back, once nothing of theirs is in flight: at the end of a batch, or while it rests.
    fn drain(&mut self) {
        if self.drains.is_empty() {
            return;
        }
        let wanted: BTreeSet<TopicPartition> = self.drains.iter().flat_map(|(partitions, _)| partitions.iter().cloned()).collect();
        self.given_up.send_modify(|given_up| given_up.extend(wanted.iter().cloned()));
        if self.in_flight.is_some() && !*self.shared.resting.borrow() {
            return;
        }
        for (partitions, drained) in std::mem::take(&mut self.drains) {
            self.forget(&partitions);
            // A poll thread that no longer listens has ended.
            _ = drained.send(());
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.waitlist.forget(partition);
            self.epochs.retain(|(_, of), _| of != partition);
            self.retries.retain(|retry| retry.pending.cause.partition != *partition);
        }
        self.large.forget(partitions);
        self.drop_open(partitions);
    }

    /// Drops the records of these partitions that no batch has taken yet.
    fn drop_open(&mut self, partitions: &[TopicPartition]) {
        let (dropped, kept): (Vec<Record>, Vec<Record>) =
            std::mem::take(&mut self.open).into_iter().partition(|record| partitions.contains(&record.at.partition));
        self.open = kept;
        let bytes = dropped.iter().map(source::size).sum::<usize>();
        self.open_bytes -= bytes;
        self.budget.give(bytes);
        if self.open.is_empty() {
            // A batch that is due and has nothing in it would wake the loop for ever, ahead of any new record.
            self.open_since = None;
        }
    }

    /// Starts the next batch if none is in flight and it is time.
    fn start_batch(&mut self) {
        if self.in_flight.is_some() || !self.drains.is_empty() {
            return;
        }
        if let Some(engine) = self.promoted.take() {
            self.go_on_with(engine);
        }
        let is_due = self.open_since.is_some_and(|since| since.elapsed() >= self.config.batch.linger);
        let is_due = !self.retries.is_empty() || !self.open.is_empty() && (is_due || !self.may_read());
        let portion = self.large.take(is_due);
        if portion.is_none() && !is_due {
            return;
        }
        // Not before: what is in flight when a partition comes back was begun under its old epoch.
        self.given_up.send_replace(BTreeSet::new());
        let (shared, name) = (self.shared.clone(), Name::Owner(self.epochs.clone()));
        self.in_flight = Some(match portion {
            Some(portion) => tokio::spawn(attempt::work(shared, portion, name)),
            None => tokio::spawn(work_records(shared, name, self.take_open())),
        });
    }

    /// What is open, and what is to be tried again with it.
    fn take_open(&mut self) -> (Vec<Record>, Prepared) {
        let allowances = self.owned.keys().map(|partition| (partition.clone(), self.allowance(partition))).collect();
        (self.open_bytes, self.open_since) = (0, None);
        let retries = std::mem::take(&mut self.retries);
        (std::mem::take(&mut self.open), Prepared { retries, allowances, ..Prepared::default() })
    }

    /// Dead letters that a partition may still make in its window (H83).
    fn allowance(&self, partition: &TopicPartition) -> u64 {
        let settings = &self.config.dead_letters;
        let recent =
            self.owned.get(partition).map_or(0, |owned| owned.dead_letters.iter().filter(|at| at.elapsed() < settings.per).count());
        settings.limit.saturating_sub(u64::try_from(recent).unwrap_or(u64::MAX))
    }

    async fn on_done(&mut self, done: Done, source: &Source) -> Result<(), RunError> {
        self.budget.give(done.bytes);
        self.count(&done);
        for (partition, next) in &done.progress {
            if let Some(owned) = self.owned.get_mut(partition) {
                // It may have been lost and taken over again meanwhile, further on.
                owned.next = owned.next.max(Some(*next));
                self.waitlist.on_progress(partition, *next);
            }
        }
        for (partition, position) in &done.sources {
            self.waitlist.on_read(partition, position);
        }
        drop(source.commands.send(Command::Commit(done.progress.clone())));
        for report in done.reports {
            self.on_report(report);
        }
        self.large.on_done();
        for partition in done.flooded {
            let settings = &self.config.dead_letters;
            let detail = format!("more than {} dead letters within {}", settings.limit, humantime::format_duration(settings.per));
            self.halt(&partition, "dead-letters", &detail, source).await;
        }
        self.options.accounts.send_replace(self.accounts.clone());
        if let Some(fatal) = done.fatal {
            return Err(RunError::Halted(fatal));
        }
        if let Some(engine) = done.engine {
            self.go_on_with(engine);
        }
        self.collect_proven();
        Ok(())
    }

    /// The partition stands still until a person has looked: too many dead letters are an outage (H83), a gap must not be skipped (H35).
    async fn halt(&mut self, partition: &TopicPartition, reason: &str, detail: &str, source: &Source) {
        tracing::error!(%partition, reason, detail, "the partition stands still until it is released");
        if let Err(error) = take::shut_partition(&self.shared.engine, partition, reason, detail).await {
            tracing::error!(error = %chain(&error), %partition, "the latch could not be written; it holds in this process");
        }
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.halted = true;
            owned.has_gap |= reason == ledger::GAP;
        }
        drop(source.commands.send(Command::Halt(partition.clone())));
        // A release takes the partition from us: what is in flight goes on without it.
        self.given_up.send_modify(|given_up| given_up.extend([partition.clone()]));
        self.retries.retain(|retry| retry.pending.cause.partition != *partition);
        self.large.forget(std::slice::from_ref(partition));
        self.drop_open(std::slice::from_ref(partition));
    }
}

async fn work_records(shared: Shared, name: Name, (records, taken): (Vec<Record>, Prepared)) -> Done {
    let bytes = records.iter().map(source::size).sum();
    let mut prepared = attempt::prepare(&shared.engine, records);
    (prepared.retries, prepared.allowances) = (taken.retries, taken.allowances);
    let flooded = attempt::cut_floods(&mut prepared);
    let mut done = attempt::work(shared, prepared, name).await;
    done.bytes = bytes;
    done.flooded.extend(flooded);
    done
}
