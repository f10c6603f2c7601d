//! One batch until it is durable: decoded, worked, tried again, cut in halves, and at worst one record at a time into the dead letters.
//!
//! Runs in a task of its own and owns what it works on; nothing of it is ever cancelled between BEGIN and COMMIT. It looks at the stop signal and
//! at the partitions given up between attempts only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::part::{self, Part};
use crate::backoff::Backoff;
use crate::change::{self, Content, NextOffset, Position, Record, SourcePosition, TopicPartition};
use crate::databases::DatabaseId;
use crate::dead_letter::{DeadLetters, Reason};
use crate::engine::{Authority, Batch, Engine, Extent, Outcome, REFUSED, Refused, Report, Retry, WorkError};
use crate::error::{Disposition, chain};
use crate::ledger::Epoch;
use crate::model::BindError;
use crate::sink::SinkError;
use crate::watch::{rebound, unbindable};

/// Delays between tries: from 100 ms to 5 s, which is also how late an outage's end may be noticed.
const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(100), Duration::from_secs(5)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("the constants make sense"),
};
/// How long a fenced worker waits to hear from the group that it lost the partition.
const HEAR_OF_LOSS: Duration = Duration::from_secs(15);

/// What came of a record, before or by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Skipped(&'static str),
    DeadLetter(Reason),
    Worked(Outcome),
}

/// Records with what decoding made of them.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) records: Vec<Record>,
    pub(crate) decoded: Vec<Result<change::Decoded, change::DecodeError>>,
    pub(crate) retries: Vec<Retry>,
    /// How much of these roots is done at once.
    pub(crate) extent: Extent,
    /// Dead letters that each partition may still make; one that is not listed may make any number.
    pub(crate) allowances: BTreeMap<TopicPartition, u64>,
}

impl Prepared {
    /// Takes one dead letter off what a partition may still make; `false` if there is none left.
    fn allow(&mut self, partition: &TopicPartition) -> bool {
        match self.allowances.get_mut(partition) {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// Decodes records. Pure work, done while the batch before is applied.
pub(crate) fn prepare(engine: &Engine, records: Vec<Record>) -> Prepared {
    let decode = |record: &Record| match engine.model.topics.get(&*record.at.partition.topic) {
        Some(spec) => change::decode(record, spec),
        None => Ok(change::Decoded { source: None, content: Content::Skipped(change::SkipReason::OtherTable) }),
    };
    let decoded = records.iter().map(decode).collect();
    Prepared { records, decoded, ..Prepared::default() }
}

/// Cuts a partition off at the first record that would make one dead letter too many, so that an outage does not drain a topic (H83). Returns
/// the partitions cut.
pub(crate) fn cut_floods(prepared: &mut Prepared) -> BTreeSet<TopicPartition> {
    let mut cut = BTreeSet::new();
    let (records, decoded) = (std::mem::take(&mut prepared.records), std::mem::take(&mut prepared.decoded));
    for (record, decoded) in records.into_iter().zip(decoded) {
        let partition = &record.at.partition;
        if decoded.is_err() && !prepared.allow(partition) {
            cut.insert(partition.clone());
        }
        if !cut.contains(partition) {
            prepared.records.push(record);
            prepared.decoded.push(decoded);
        }
    }
    cut
}

/// What came of a batch.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) fates: BTreeMap<Position, Fate>,
    pub(crate) progress: BTreeMap<TopicPartition, NextOffset>,
    pub(crate) sources: Vec<(TopicPartition, SourcePosition)>,
    pub(crate) reports: Vec<Report>,
    /// Bytes to give back to the budget.
    pub(crate) bytes: usize,
    /// Partitions with more dead letters than are believed.
    pub(crate) flooded: BTreeSet<TopicPartition>,
    /// It was left off at the stop signal.
    pub(crate) abandoned: bool,
    /// What to go on with, if the rules were bound anew.
    pub(crate) engine: Option<Arc<Engine>>,
    /// Why the process cannot go on, and with which disposition.
    pub(crate) fatal: Option<SinkError>,
}

/// What the attempts share with the worker.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) stop: CancellationToken,
    /// Partitions given up since the batch began, even if they are ours again: their records are dropped at the next attempt.
    pub(crate) given_up: watch::Receiver<BTreeSet<TopicPartition>>,
    /// True while it waits for a next attempt.
    pub(crate) resting: watch::Sender<bool>,
}

/// In whose name batches are worked.
#[derive(Debug, Clone)]
pub(crate) enum Name {
    Owner(BTreeMap<(DatabaseId, TopicPartition), Epoch>),
    Replay { apply: bool },
}

impl Name {
    fn authority(&self) -> Authority<'_> {
        match self {
            Self::Owner(epochs) => Authority::Owner(epochs),
            Self::Replay { apply } => Authority::Replay { apply: *apply },
        }
    }
}

/// How often a worker that a person has paused looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many refusals of pending roots that were refused before a batch looks into: the others are tried at another time (H84).
const REFUSALS: u32 = 64;

/// How often a batch binds its rules anew at once.
const BOUND_ANEW: u32 = 3;

/// Works a batch until it is durable or given up.
pub(crate) async fn work(shared: Shared, prepared: Prepared, name: Name) -> Done {
    let mut attempts = Attempts { shared, prepared, name, done: Done::default(), pause: None, refusals: 0 };
    attempts.run().await;
    attempts.done
}

struct Attempts {
    shared: Shared,
    prepared: Prepared,
    name: Name,
    done: Done,
    /// The pause that was told last, so that each is told once.
    pause: Option<String>,
    refusals: u32,
}

impl Attempts {
    async fn run(&mut self) {
        let mut parts = part::parts(std::mem::take(&mut self.prepared.retries), self.prepared.records.len());
        while let Some(mut part) = parts.pop_front() {
            let given_up = self.shared.given_up.borrow().clone();
            let is_open = |partition: &TopicPartition| !given_up.contains(partition) && !self.done.flooded.contains(partition);
            part.records.retain(|index| self.record(*index).is_some_and(|record| is_open(&record.at.partition)));
            part.retries.retain(|retry| !given_up.contains(&retry.pending.cause.partition));
            if part.records.is_empty() && part.retries.is_empty() {
                continue;
            }
            if !self.send_undecodable(&part).await {
                self.done.abandoned = true;
                return;
            }
            match self.shared.engine.work(&self.batch(&part), self.name.authority()).await {
                Ok(report) => self.finish(&part, report),
                Err(error) => {
                    if !self.after(error, part, &mut parts).await {
                        return;
                    }
                }
            }
        }
    }

    fn record(&self, index: usize) -> Option<&Record> {
        self.prepared.records.get(index)
    }

    fn batch(&self, part: &Part) -> Batch {
        let (extent, refused) = (self.prepared.extent.clone(), part.refused.clone());
        let mut batch = Batch { retries: part.retries.clone(), extent, refused, ..Batch::default() };
        let mut last: BTreeMap<&TopicPartition, &Record> = BTreeMap::new();
        for index in &part.records {
            let (Some(record), Some(decoded)) = (self.record(*index), self.prepared.decoded.get(*index)) else { continue };
            batch.progress.insert(record.at.partition.clone(), record.at.next());
            last.insert(&record.at.partition, record);
            let is_dead = part.refused.is_none() && matches!(self.done.fates.get(&record.at), Some(Fate::DeadLetter(_)));
            if let (Ok(change::Decoded { content: Content::Events(events), .. }), false) = (decoded, is_dead) {
                batch.events.extend(events.iter().map(|event| (record.at.clone(), event.clone())));
            }
        }
        batch.last = last.into_iter().map(|(partition, record)| (partition.clone(), record.fingerprint())).collect();
        batch
    }

    /// Keeps what could not be read, acknowledged before any offset moves. `false` if the stop signal came first.
    async fn send_undecodable(&mut self, part: &Part) -> bool {
        if matches!(self.name, Name::Replay { .. }) {
            return true;
        }
        for index in &part.records {
            let (Some(record), Some(Err(error))) = (self.prepared.records.get(*index), self.prepared.decoded.get(*index)) else { continue };
            if self.done.fates.contains_key(&record.at) {
                continue;
            }
            let reason = Reason { stage: "decode", error: error.to_string(), hint: error.hint().to_owned(), reference: None, attempt: 1 };
            if !send(&self.shared, record, &reason).await {
                return false;
            }
            self.done.fates.insert(record.at.clone(), Fate::DeadLetter(reason));
        }
        true
    }

    fn finish(&mut self, part: &Part, report: Report) {
        for index in &part.records {
            let (Some(record), Some(decoded)) = (self.prepared.records.get(*index), self.prepared.decoded.get(*index)) else { continue };
            let fate = match decoded {
                Ok(change::Decoded { content: Content::Skipped(reason), .. }) => Fate::Skipped(reason.as_str()),
                Ok(_) => Fate::Worked(report.outcomes.get(&record.at).copied().unwrap_or(Outcome::NoEffect)),
                Err(error) => {
                    Fate::DeadLetter(Reason { stage: "decode", error: error.to_string(), hint: String::new(), reference: None, attempt: 1 })
                }
            };
            self.done.fates.entry(record.at.clone()).or_insert(fate);
            self.done.progress.insert(record.at.partition.clone(), record.at.next());
            // A snapshot tells of rows, at positions at which it does not tell of what was done.
            let is_snapshot = |content: &Content| matches!(content, Content::Events(events) if events.iter().any(|event| event.snapshot));
            if let Ok(change::Decoded { source: Some(source), content }) = decoded
                && !is_snapshot(content)
            {
                self.done.sources.push((record.at.partition.clone(), source.clone()));
            }
        }
        if let (Some(Refused { why, .. }), false) = (&part.refused, report.parked.is_empty() || self.name.authority().is_dry()) {
            tracing::error!(why, roots = report.parked.len(), "roots that a database refuses are pending, and tried again every minute");
        }
        self.done.reports.push(report);
    }

    /// What to do after an error. `false` ends the batch.
    async fn after(&mut self, error: WorkError, mut part: Part, parts: &mut VecDeque<Part>) -> bool {
        match (&error, error.disposition()) {
            (WorkError::TooMany, _) => {
                part.halve(parts);
                true
            }
            (_, Disposition::DeadLetter) if part.is_of_refused() && self.refusals >= REFUSALS => true,
            (_, Disposition::DeadLetter) if part.records.len() + part.retries.len() > 1 => {
                self.refusals += u32::from(part.is_of_refused());
                part.halve(parts);
                true
            }
            (WorkError::Sink(cause), Disposition::DeadLetter) => self.isolate(cause, part, parts).await,
            (WorkError::Sink(cause @ SinkError::Reshaped { database, table }), _) => {
                let bound = self.bind_anew((database, table)).await;
                if !matches!(self.prepared.extent, Extent::Usual) {
                    // It was counted by the old binding, and does not hold up what is behind it.
                    if let Err(error) = bound {
                        tracing::error!(error = %chain(&error), table, "the rules cannot be bound anew now");
                    }
                    return true;
                }
                match bound {
                    Err(cause) if cause.disposition() == Disposition::Halt => {
                        self.done.fatal = Some(cause);
                        return false;
                    }
                    Err(cause) => return self.try_again(&cause, part, parts).await,
                    Ok(()) if part.attempt.get() >= BOUND_ANEW => return self.try_again(cause, part, parts).await,
                    Ok(()) => {}
                }
                part.attempt = part.attempt.saturating_add(1);
                parts.push_front(part);
                true
            }
            (WorkError::Sink(SinkError::Fenced { .. }), _) => self.after_fence(error, part, parts).await,
            (WorkError::Sink(SinkError::Paused { why }), _) => {
                if self.pause.as_ref() != Some(why) {
                    tracing::warn!(why, "paused; it is looked at again every second");
                    self.pause = Some(why.clone());
                }
                part.attempt = part.attempt.saturating_add(1);
                parts.push_front(part);
                self.done.abandoned = !self.rest(LOOK_AGAIN).await;
                !self.done.abandoned
            }
            // A portion does not hold up what is behind it.
            (WorkError::Sink(_), Disposition::Retry) if !matches!(self.prepared.extent, Extent::Usual) => {
                tracing::warn!(error = %chain(&error), "a portion of a large root is tried again");
                true
            }
            (WorkError::Sink(cause), Disposition::Retry) => self.try_again(cause, part, parts).await,
            (WorkError::Sink(_), Disposition::Halt) => {
                let WorkError::Sink(cause) = error else { return false };
                self.done.fatal = Some(cause);
                false
            }
        }
    }

    /// A table was altered: the rules are bound to the tables as they are now. If they cannot be, the references that lead there are shut; and so are
    /// those that use a column which is another one now.
    async fn bind_anew(&mut self, (database, table): (&str, &str)) -> Result<(), SinkError> {
        let engine = Arc::clone(&self.shared.engine);
        let drifted = || SinkError::Drifted { table: table.to_owned(), columns: "used by the rules".to_owned() };
        match engine.rebind().await {
            Ok(bound) => {
                for finding in rebound(&engine.model, &bound.model) {
                    tracing::error!(reason = finding.reason, detail = finding.detail, "references were latched until they are released");
                    if self.name.authority().is_dry() {
                        return Err(drifted());
                    }
                    engine.halt(&finding).await?;
                }
                tracing::info!(table, "it, or a native foreign key that leads to it, was altered: the rules are bound anew");
                self.shared.engine = Arc::new(bound);
                self.done.engine = Some(Arc::clone(&self.shared.engine));
                Ok(())
            }
            Err(BindError::Problems(problems)) => {
                if self.name.authority().is_dry() {
                    return Err(drifted());
                }
                let finding = unbindable(&engine.model, (database, table), &problems);
                if finding.edges.is_empty() {
                    return Err(SinkError::Unbindable { table: table.to_owned(), why: finding.detail });
                }
                tracing::error!(reason = finding.reason, detail = finding.detail, "references were latched until they are released");
                engine.halt(&finding).await
            }
            Err(BindError::Catalog { source, .. }) => Err(source),
        }
    }

    async fn try_again(&mut self, error: &SinkError, mut part: Part, parts: &mut VecDeque<Part>) -> bool {
        let wait = BACKOFF.delay(part.attempt, fastrand::f64());
        let attempt = part.attempt.get();
        if attempt >= 5 {
            tracing::error!(error = %chain(error), attempt, "the batch is tried again");
        } else {
            tracing::warn!(error = %chain(error), attempt, "the batch is tried again");
        }
        if !self.rest(wait).await {
            self.done.abandoned = true;
            return false;
        }
        part.attempt = part.attempt.saturating_add(1);
        parts.push_front(part);
        true
    }

    /// Waits for the next attempt; `false` if the stop signal came first.
    async fn rest(&self, wait: Duration) -> bool {
        self.shared.resting.send_replace(true);
        let stopped = tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => true,
            () = tokio::time::sleep(wait) => false,
        };
        self.shared.resting.send_replace(false);
        !stopped
    }

    /// The one record, or the one retry, that a database refuses.
    async fn isolate(&mut self, cause: &SinkError, mut part: Part, parts: &mut VecDeque<Part>) -> bool {
        if let Some(Retry { pending, .. }) = part.retries.first() {
            // No record of now is to blame; the root stays pending and is tried again later.
            tracing::warn!(error = %cause, entity = pending.entity, cause = %pending.cause, "a pending root is refused by a database");
            self.refusals += u32::from(part.is_of_refused());
            let why = cause.to_string();
            if part.refused.is_none() && (pending.reason.as_str(), &pending.detail) != (REFUSED, &why) {
                part.refused = Some(Refused { why, with_copies: false });
                parts.push_front(part);
            }
            return true;
        }
        if part.refused.is_some() {
            // Once more without its copies; at last without its events, to move the offset.
            part.refused_more();
            if part.refused.is_none() {
                tracing::error!(error = %cause, "what the record of this dead letter entails is not owed: replay it once it is mended");
            }
            parts.push_front(part);
            return true;
        }
        let Some(index) = part.records.first().copied() else { return true };
        let Some(partition) = self.record(index).map(|record| record.at.partition.clone()) else { return true };
        if !self.prepared.allow(&partition) {
            // One too many: the partition stands still before this record, and whatever lies behind it is left.
            self.done.flooded.insert(partition);
            return true;
        }
        let Some(record) = self.record(index) else { return true };
        let reason = Reason {
            stage: "apply",
            error: cause.to_string(),
            hint: cause.hint().to_owned(),
            reference: None,
            attempt: part.attempt.get(),
        };
        if matches!(self.name, Name::Owner(_)) && !send(&self.shared, record, &reason).await {
            self.done.abandoned = true;
            return false;
        }
        let at = record.at.clone();
        part.refused = Some(Refused { why: reason.error.clone(), with_copies: false });
        self.done.fates.insert(at, Fate::DeadLetter(reason));
        // Once more, to move the offset: what it entails stays owed.
        parts.push_front(part);
        true
    }

    /// Another worker holds a partition. If the group says so too, the rest goes on without it; if not, the process must not.
    async fn after_fence(&mut self, error: WorkError, part: Part, parts: &mut VecDeque<Part>) -> bool {
        let of_records = part.records.iter().filter_map(|index| self.record(*index)).map(|record| &record.at.partition);
        let partitions: BTreeSet<&TopicPartition> =
            of_records.chain(part.retries.iter().map(|retry| &retry.pending.cause.partition)).collect();
        let mut given_up = self.shared.given_up.clone();
        self.shared.resting.send_replace(true);
        // The group may have said so while the batch was worked.
        let is_told = |now: &BTreeSet<TopicPartition>| partitions.iter().any(|partition| now.contains(*partition));
        let heard = tokio::time::timeout(HEAR_OF_LOSS, given_up.wait_for(is_told)).await;
        self.shared.resting.send_replace(false);
        if let Ok(Ok(_)) = heard {
            parts.push_front(part);
            return true;
        }
        let WorkError::Sink(cause) = error else { return false };
        self.done.fatal = Some(cause);
        false
    }
}

/// Sends one dead letter until it is acknowledged; `false` if the stop signal came first.
async fn send(shared: &Shared, record: &Record, reason: &Reason) -> bool {
    let mut attempt = NonZeroU32::MIN;
    loop {
        match shared.dead_letters.send(record, reason).await {
            Ok(()) => {
                tracing::warn!(position = %record.at, stage = reason.stage, reason = reason.error, "dead letter");
                return true;
            }
            Err(error) => {
                tracing::error!(%error, position = %record.at, "a dead letter was not acknowledged; it is sent again");
                tokio::select! {
                    biased;
                    () = shared.stop.cancelled() => return false,
                    () = tokio::time::sleep(BACKOFF.delay(attempt, fastrand::f64())) => {}
                }
                attempt = attempt.saturating_add(1);
            }
        }
    }
}
