//! Roots that wait: for their proof, or for another try.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{DECISIONS, RETRY_PARKED, Worker, markers, take};
use crate::change::{self, Record, TopicPartition, TopicSpec};
use crate::config::NewReferences;
use crate::databases::DatabaseId;
use crate::engine::{Engine, REFUSED, Retry, is_large};
use crate::error::chain;
use crate::ledger;
use crate::newcomers::{self, Newcomers};
use crate::source::{Command, Extents, Source};

/// Parked roots tried again at once: a page.
const RETRY_ROOTS: u64 = 1_000;
/// Between pages.
const NEXT_PAGE: Duration = Duration::from_secs(1);
/// How often an idle connector is given something to send while roots wait for it.
const MARK: Duration = Duration::from_secs(1);

/// A pass over all pending roots: the databases that still have some, each with the last one of the page before.
#[derive(Debug)]
pub(super) struct Pass(BTreeMap<DatabaseId, Option<ledger::Pending>>);

/// What people have decided meanwhile.
pub(super) struct Decisions {
    /// The last one of each database.
    last: BTreeMap<DatabaseId, i64>,
    /// The engine to go on with, if references were promoted.
    engine: Option<Engine>,
}

/// The engine without the shadow of references that were promoted; `None` as long as none was.
async fn promoted(engine: &Engine, begin: NewReferences) -> Option<Engine> {
    let before = engine.newcomers.as_ref()?;
    // The shape of a reference does not depend on its mode.
    let found = newcomers::find(&engine.model, &before.written, &engine.owner.group, begin, false).await;
    let names: BTreeSet<String> = match found {
        Ok(found) => before.names.intersection(&found).cloned().collect(),
        Err(error) => {
            tracing::debug!(error = %chain(&error), "the ledger's references cannot be read now");
            return None;
        }
    };
    if names == before.names {
        return None;
    }
    let after = Newcomers { written: before.written.clone(), names };
    match after.bind(&engine.model).await {
        Ok(model) => {
            tracing::info!(promoted = ?before.names.difference(&after.names).collect::<Vec<_>>(), "references were promoted");
            Some(Engine {
                model: Arc::new(model),
                newcomers: Some(after),
                marks: Arc::clone(&engine.marks),
                sizes: Arc::clone(&engine.sizes),
                owner: engine.owner.clone(),
                ..*engine
            })
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "promoted references cannot be bound to their tables: start again to see why");
            None
        }
    }
}

impl Worker<'_> {
    /// The partitions that are worked. One that stands still keeps its roots with it.
    pub(super) fn partitions(&self) -> BTreeSet<TopicPartition> {
        self.owned.iter().filter(|(_, owned)| !owned.halted).map(|(partition, _)| partition.clone()).collect()
    }

    /// All partitions of our topics, whoever works them.
    fn all_partitions(&self) -> BTreeSet<TopicPartition> {
        let of_topic = |(topic, size): (&String, &usize)| {
            let topic: Arc<str> = Arc::from(topic.as_str());
            (0..i32::try_from(*size).unwrap_or(i32::MAX)).map(move |partition| TopicPartition { topic: Arc::clone(&topic), partition })
        };
        self.topic_sizes.iter().flat_map(of_topic).collect()
    }

    /// Topics only grow: a broker that has not heard of it yet says less.
    pub(super) fn hear_of_sizes(&mut self, sizes: impl IntoIterator<Item = (String, usize)>) {
        for (topic, size) in sizes {
            let known = self.topic_sizes.entry(topic).or_default();
            *known = (*known).max(size);
        }
    }

    /// How far other workers of the group are: what they have read and made durable counts as read.
    async fn hear_of_others(&mut self) {
        let mut awaited = self.waitlist.behind();
        // Of one that stands still here the ledger knows, too.
        awaited.retain(|partition| self.owned.get(partition).is_none_or(|owned| owned.halted && !owned.has_gap));
        if awaited.is_empty() {
            return;
        }
        match take::durable(&self.shared.engine, &awaited).await {
            Ok(durable) => durable.iter().for_each(|(partition, next)| self.waitlist.on_progress(partition, *next)),
            Err(error) => tracing::warn!(error = %chain(&error), "the progress of other workers cannot be read now"),
        }
        self.collect_proven();
    }

    pub(super) fn collect_proven(&mut self) {
        let proven = self.waitlist.take_proven(&self.all_partitions());
        self.retries.extend(proven);
    }

    pub(super) fn on_marker(&mut self, record: &Record) {
        if let Ok(change::Decoded { source: Some(position), .. }) = change::decode(record, &TopicSpec { entities: Vec::new() }) {
            self.waitlist.on_marker(&position);
            self.collect_proven();
        }
    }

    pub(super) fn ask_for_ends(&mut self, source: &Source) {
        if self.ends.is_some() || self.waitlist.is_empty() {
            return;
        }
        let wanted = self.waitlist.wanted(&self.all_partitions());
        if !wanted.is_empty() {
            let (answer, ends) = oneshot::channel();
            drop(source.commands.send(Command::Extents(wanted.topics, wanted.partitions.into_iter().collect(), answer)));
            self.ends = Some(ends);
        }
    }

    pub(super) fn on_ends(&mut self, extents: Extents) {
        self.ends = None;
        let topics = extents.topic_sizes.keys().cloned().collect();
        self.hear_of_sizes(extents.topic_sizes.into_iter().map(|(topic, size)| (topic.to_string(), size)));
        let ends = extents.watermarks.into_iter().map(|(partition, marks)| (partition, marks.high)).collect();
        self.waitlist.set_barriers(&topics, &ends, &self.all_partitions());
        self.collect_proven();
    }

    pub(super) async fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.decisions_at {
            self.decisions_at = now + DECISIONS;
            self.ask_for_decisions();
        }
        if now >= self.retry_at && self.in_flight.is_none() {
            let has_more = self.load_pending().await;
            self.has_looked_at_pending |= !has_more;
            self.retry_at = now + if has_more { NEXT_PAGE } else { RETRY_PARKED };
        } else if now >= self.retry_at {
            self.retry_at = now + Duration::from_secs(1);
        }
        if !self.waitlist.is_empty() && now >= self.mark_at {
            self.mark_at = now + MARK;
            markers::mark(&self.shared.engine.model, &self.waitlist.targets()).await;
            self.hear_of_others().await;
        }
        if now >= self.expire_at {
            self.expire();
        }
    }

    /// Asks, in a task: a database that is down must not hold the loop up.
    fn ask_for_decisions(&mut self) {
        let engine = Arc::clone(&self.shared.engine);
        let begin = self.config.new_references;
        self.asking.get_or_insert_with(|| {
            tokio::spawn(async move {
                let mut decisions = BTreeMap::new();
                for id in engine.model.targets() {
                    match ledger::last_decision(&*engine.model.databases.handle(id).database, &engine.owner.group).await {
                        Ok(last) => drop(decisions.insert(id, last)),
                        Err(error) => tracing::debug!(error = %chain(&error), "the ledger's decisions cannot be read now"),
                    }
                }
                Decisions { last: decisions, engine: promoted(&engine, begin).await }
            })
        });
    }

    /// A release or the end of a pause: what is parked is tried again now.
    pub(super) fn on_decisions(&mut self, decisions: Decisions) {
        self.asking = None;
        if decisions.engine.is_some() {
            self.promoted = decisions.engine.map(Arc::new);
        }
        for (id, last) in decisions.last {
            if self.decisions.insert(id, last).is_some_and(|before| before != last) {
                (self.retry_at, self.pass) = (Instant::now(), None);
            }
        }
    }

    /// Goes on with another engine. Nothing is in flight: what comes of a batch is of the engine that has worked it. Places in the graph may be others
    /// now, so what waits is looked at anew, and what is large is counted anew.
    pub(super) fn go_on_with(&mut self, engine: Arc<Engine>) {
        self.shared.engine = engine;
        self.waitlist.forget_all();
        self.large.count_anew();
        self.retries.clear();
        (self.retry_at, self.pass, self.has_looked_at_pending) = (Instant::now(), None, false);
    }

    /// The next page of the parked roots of our partitions, to be tried again. Those that wait for a proof are left to it. Returns whether the
    /// pass has more.
    async fn load_pending(&mut self) -> bool {
        let (partitions, engine) = (self.partitions(), Arc::clone(&self.shared.engine));
        let start = || Pass(engine.model.targets().into_iter().map(|id| (id, None)).collect());
        let Pass(databases) = self.pass.take().unwrap_or_else(start);
        let (mut pending, mut rest) = (Vec::new(), BTreeMap::new());
        for (id, after) in databases {
            let database = &*engine.model.databases.handle(id).database;
            match ledger::pending(database, &engine.owner.group, &partitions, after.as_ref(), RETRY_ROOTS).await {
                Ok(found) => {
                    if u64::try_from(found.len()).is_ok_and(|count| count >= RETRY_ROOTS) {
                        rest.insert(id, found.last().cloned());
                    }
                    // A database that the rules no longer lead to keeps what it has: there is nothing of it to work.
                    let leads_here = |one: &ledger::Pending| {
                        engine.model.entity_named(&one.entity).is_some_and(|entity| engine.model.reach(entity).contains(&id))
                    };
                    pending.extend(found.into_iter().filter(leads_here));
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "pending roots cannot be read now");
                    rest.insert(id, after);
                }
            }
        }
        let (large, pending): (Vec<_>, Vec<_>) = pending.into_iter().partition(is_large);
        large.into_iter().for_each(|pending| self.large.load(pending));
        let waits = |pending: &ledger::Pending| ["wait", REFUSED].contains(&pending.reason.as_str()) && self.waitlist.holds(pending);
        // Several databases keep it: the work itself asks all of them.
        let place = |pending: &ledger::Pending| (pending.entity.clone(), pending.columns.clone(), pending.key.clone());
        let pending: BTreeMap<_, _> = pending.into_iter().filter(|pending| !waits(pending)).map(|one| (place(&one), one)).collect();
        self.retries.extend(pending.into_values().map(|pending| Retry { pending, proven: None }));
        let has_more = !rest.is_empty();
        self.pass = has_more.then_some(Pass(rest));
        has_more
    }
}
