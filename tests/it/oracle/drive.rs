//! Entail on a case: the engine, fed with random batches of what the logs publish, until nothing changes any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use entail::change::{self, Content, NextOffset, TopicPartition};
use entail::databases::{DatabaseId, Databases};
use entail::engine::{Authority, Batch, Engine, Report, Retry, Waiting, WorkError, is_large};
use entail::graph::TargetId;
use entail::ledger::{self, Choice, Epoch, Owner, Pending};
use entail::model::{BindError, Model};
use entail::rules::{self, SourceFile};
use entail::sink::Access;
use entail::undo::{self, Manner, OnConflict};
use entail::value::Key;
use fastrand::Rng;

use super::bench::{Bench, Feed, Logged};
use super::chronicle::Chronicle;
use super::crash::take;
use super::schema::{SERVICES, Schema};
use super::state::{State, whole};
use super::torn::{Fate, Torn};
use super::{Counts, Fault};

/// Batches after which a case that does not come to rest is given up.
const MAX_BATCHES: usize = 2_000;

/// An engine with everything that a worker keeps for it.
pub(super) struct Driver<'a> {
    bench: &'a Bench,
    pub(super) schema: &'a Schema,
    pub(super) engine: Engine,
    pub(super) feed: Feed,
    pub(super) chronicle: Chronicle,
    /// Epochs, or `None` to work as a replay does.
    pub(super) epochs: Option<BTreeMap<(DatabaseId, TopicPartition), Epoch>>,
    pub(super) waiting: BTreeMap<(TargetId, Key), Waiting>,
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// Images of the rows that entail removed, by database: as the transactions that removed them found them.
    pub(super) removed: [Vec<String>; SERVICES.len()],
    /// Rows were changed since entail was last at rest.
    changed: bool,
    /// Errors and latches are borne, as a worker would bear them.
    pub(super) lenient: bool,
    batches: usize,
    /// When the worker dies, and whether this case's workers may.
    pub(super) fate: Arc<Fate>,
    pub(super) may_die: bool,
    pub(super) dice: Rng,
    /// It dies at its next commit.
    pub(super) is_doomed: bool,
    /// A worker has died since entail was last at rest.
    pub(super) is_torn: bool,
}

impl<'a> Driver<'a> {
    pub(super) async fn open(bench: &'a Bench, schema: &'a Schema, rows: &State, rng: &mut Rng) -> Result<Self, Fault> {
        let file = SourceFile { name: "rules.yaml".to_owned(), text: schema.rules() };
        let checked = rules::check(&[file]);
        let rules = checked.rules.ok_or_else(|| Fault::Broke(format!("{:#?}", checked.diagnostics)))?;
        let (mut databases, fate) = (Databases::default(), Arc::<Fate>::default());
        for (service, database) in SERVICES.into_iter().zip(&bench.databases) {
            databases.add(service, Access::Write, Arc::new(Torn { database: Arc::clone(database), fate: Arc::clone(&fate) })).await?;
        }
        let model = Model::bind(rules, databases).await.map_err(|error| match error {
            BindError::Problems(problems) => Fault::Broke(format!("{problems:#?}")),
            error @ BindError::Catalog { .. } => error.into(),
        })?;
        let owner = Owner { group: schema.name.clone(), rules: model.rules.fingerprint() };
        let keep = Duration::from_secs(3600);
        let rows_per_portion = if schema.fixed_keys { rng.usize(1..4) } else { 5_000 };
        let rows_per_transaction = if schema.fixed_keys { rows_per_portion } else { 50_000 };
        let engine = Engine { rows_per_transaction, rows_per_portion, keys_per_page: rows_per_portion, ..Engine::new(model, owner, keep) };
        let partitions: BTreeSet<TopicPartition> = Feed::partitions(schema).into_iter().collect();
        let epochs = if rng.bool() { Some(take(&engine, partitions.iter()).await?.0) } else { None };
        let (dice, may_die) = (rng.fork(), epochs.is_some());
        let (feed, chronicle, waiting, removed) = (Feed::default(), Chronicle::new(rows), BTreeMap::new(), Default::default());
        Ok(Self {
            bench,
            schema,
            engine,
            feed,
            chronicle,
            epochs,
            waiting,
            partitions,
            removed,
            changed: false,
            lenient: false,
            batches: 0,
            fate,
            may_die,
            dice,
            is_doomed: false,
            is_torn: false,
        })
    }

    /// Works everything that the logs hold, and then what is pending, until nothing changes any more. Returns what stays pending.
    pub(super) async fn settle(&mut self, rng: &mut Rng, counts: &mut Counts) -> Result<Vec<Pending>, Fault> {
        let mut tried: Option<Vec<String>> = None;
        loop {
            self.changed = false;
            let crashes = counts.crashes;
            while self.step(rng, counts).await? {}
            let pending = self.pending().await?;
            let now = pending.iter().map(|pending| format!("{pending:?}")).collect();
            // A worker that died before it came to them has not tried them.
            let has_tried = counts.crashes == crashes && tried.as_ref() == Some(&now);
            if pending.is_empty() || !self.changed && has_tried {
                self.is_torn = false;
                self.chronicle.end_pieces(self.schema, !pending.is_empty())?;
                return Ok(pending);
            }
            tried = Some(now);
            let retries = pending.into_iter().map(|pending| Retry { pending, proven: None }).collect();
            self.work(Batch { retries, ..Batch::default() }, rng, counts).await?;
            for pending in self.pending().await?.into_iter().filter(is_large) {
                self.portions(pending, rng, counts).await?;
            }
            if counts.crashes > crashes {
                tried = None;
            }
        }
    }

    /// Undoes these cascades. Nothing stands in the way. Returns how many rows were put back or set back.
    pub(super) async fn undo(&self, cascades: BTreeSet<String>) -> Result<u64, Fault> {
        let choice = Choice { cascades: cascades.into_iter().collect(), ..Choice::default() };
        let manner = Manner {
            group: &self.engine.owner.group,
            keep: self.engine.keep,
            on_conflict: OnConflict::Fail,
            roots: &[],
            is_dry: false,
            progress: &|_, _| {},
        };
        let undone = undo::undo(&self.engine.model, &choice, &manner).await?;
        if undone.left() > 0 || !undone.is_written {
            return Err(Fault::Broke(format!("undo: {:#?}", undone.tables)));
        }
        Ok(undone.tables.iter().map(|(_, tally)| tally.inserted + tally.set_back).sum())
    }

    /// One batch, if there is anything for it.
    pub(super) async fn step(&mut self, rng: &mut Rng, counts: &mut Counts) -> Result<bool, Fault> {
        self.observe(counts).await?;
        let mut batch = self.next_events(rng)?;
        let may_wait = !batch.progress.is_empty() && rng.bool();
        if !may_wait {
            batch.retries = self.proven();
        }
        if batch.progress.is_empty() && batch.retries.is_empty() {
            return Ok(false);
        }
        self.work(batch, rng, counts).await?;
        Ok(true)
    }

    /// A random part of what stands in the partitions: each in its order, none in step with the others.
    fn next_events(&mut self, rng: &mut Rng) -> Result<Batch, Fault> {
        let mut batch = Batch::default();
        let filled: Vec<TopicPartition> =
            self.feed.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(partition, _)| partition.clone()).collect();
        let all = rng.u8(0..3) == 0;
        let chosen = rng.usize(0..filled.len().max(1));
        let mut records = Vec::new();
        for (place, partition) in filled.iter().enumerate() {
            if !all && place != chosen && rng.bool() {
                continue;
            }
            let queue = self.feed.queues.get_mut(partition).expect("it is listed");
            let taken = if all { queue.len() } else { rng.usize(1..=queue.len()) };
            records.push(queue.drain(..taken).collect::<std::collections::VecDeque<_>>());
        }
        while !records.is_empty() {
            let place = rng.usize(0..records.len());
            let Some(record) = records[place].pop_front() else {
                records.swap_remove(place);
                continue;
            };
            let spec = &self.engine.model.topics[&*record.at.partition.topic];
            batch.progress.insert(record.at.partition.clone(), record.at.next());
            if let Content::Events(events) = change::decode(&record, spec)?.content {
                batch.events.extend(events.into_iter().map(|event| (record.at.clone(), event)));
            }
        }
        Ok(batch)
    }

    /// Roots whose topic has been read past their look-up: the logs were read after it, and nothing of that topic is left.
    fn proven(&mut self) -> Vec<Retry> {
        let unread = |topic: &str| self.feed.queues.iter().any(|(partition, queue)| &*partition.topic == topic && !queue.is_empty());
        let is_proven = |waiting: &Waiting| waiting.looked_up_at.is_some() && !unread(&waiting.pending.cause.partition.topic);
        let ready: Vec<(TargetId, Key)> = self.waiting.iter().filter(|(_, waiting)| is_proven(waiting)).map(|(id, _)| id.clone()).collect();
        let taken = ready.iter().filter_map(|id| self.waiting.remove(id));
        taken.map(|waiting| Retry { pending: waiting.pending, proven: Some(waiting.seen) }).collect()
    }

    pub(super) async fn pending(&self) -> Result<Vec<Pending>, Fault> {
        let mut pending = Vec::new();
        for id in self.engine.model.targets() {
            let database = &self.engine.model.databases.handle(id).database;
            pending.extend(ledger::pending(&**database, &self.engine.owner.group, &self.partitions, None, 10_000).await?);
        }
        let waits = |pending: &Pending| {
            self.waiting.values().any(|waiting| {
                waiting.pending.key == pending.key && waiting.pending.entity == pending.entity && waiting.pending.columns == pending.columns
            })
        };
        pending.retain(|one| !waits(one));
        Ok(pending)
    }

    /// Works a batch once.
    pub(super) async fn once(&mut self, batch: Batch, counts: &mut Counts) -> Result<Option<Report>, Fault> {
        self.batches += 1;
        if self.batches > MAX_BATCHES {
            return Err(Fault::Broke("it does not come to rest".to_owned()));
        }
        self.attempt(&batch, counts).await
    }

    /// Works a batch, and sometimes once more, which must change nothing.
    async fn work(&mut self, batch: Batch, rng: &mut Rng, counts: &mut Counts) -> Result<(), Fault> {
        let Some(report) = self.once(batch.clone(), counts).await? else { return Ok(()) };
        let again = rng.u8(0..3) == 0;
        let blocked = report.parked.iter().any(|pending| pending.reason != "wait");
        self.take(report, counts)?;
        if again {
            counts.repeated += 1;
            let Some(report) = self.attempt(&batch, counts).await? else { return Ok(()) };
            // What one root held back may go now that the other's rows are gone.
            if !report.rows.is_empty() && !blocked && !self.lenient {
                return Err(Fault::Broke(format!("a batch done twice changed rows: {:?}\n{:#?}", report.rows, batch.events)));
            }
            self.take(report, counts)?;
        }
        Ok(())
    }

    /// `None` for what a database refuses for good, where that is borne: a worker would make dead letters of it.
    async fn attempt(&mut self, batch: &Batch, counts: &mut Counts) -> Result<Option<Report>, Fault> {
        let mut parts = vec![batch.clone()];
        let mut last = None;
        while let Some(part) = parts.pop() {
            self.observe(counts).await?;
            self.tempt_fate();
            let authority = match &self.epochs {
                Some(epochs) => Authority::Owner(epochs),
                None => Authority::Replay { apply: true },
            };
            let worked = self.engine.work(&part, authority).await;
            let died = self.fate.heal();
            tell(&part, &worked);
            if died {
                self.chronicle.begin_pieces();
            }
            self.observe(counts).await?;
            if died {
                return self.inherit(counts).await.map(|()| None);
            }
            match worked {
                Ok(report) if last.is_none() && parts.is_empty() => last = Some(report),
                Ok(report) => merge(last.get_or_insert_default(), report),
                Err(error) if !self.lenient && !matches!(error, WorkError::TooMany) => return Err(error.into()),
                Err(_) if part.events.len() + part.retries.len() > 1 => {
                    let (first, second) = halves(part);
                    parts.extend([second, first]);
                }
                Err(_) => {}
            }
        }
        Ok(last)
    }

    pub(super) fn take(&mut self, report: Report, counts: &mut Counts) -> Result<(), Fault> {
        if let Some(latch) = report.latched.first().filter(|_| !self.lenient) {
            return Err(Fault::Broke(format!("a latch closed: {latch:?}")));
        }
        counts.spared += report.spared;
        counts.put_back += report.put_back.values().sum::<u64>();
        counts.waited += report.waiting.len() as u64;
        for id in report.settled {
            self.waiting.remove(&id);
        }
        for waiting in report.waiting {
            self.waiting.insert((waiting.target, waiting.pending.key.clone()), waiting);
        }
        Ok(())
    }

    /// Reads what the logs hold by now, and judges every removal. Called before and after everything that entail does, so that the lines of its
    /// transactions stand together.
    async fn observe(&mut self, counts: &mut Counts) -> Result<(), Fault> {
        let logged = self.feed.poll(self.bench, self.schema).await?;
        self.changed |= !logged.is_empty();
        self.count(&logged, counts);
        self.chronicle.take(self.schema, logged)
    }

    fn count(&mut self, logged: &[Logged], counts: &mut Counts) {
        let schema = self.schema;
        for line in logged.iter().filter(|line| line.by_entail) {
            match (&line.before, &line.after) {
                (_, None) => {
                    let same = |other: &&Logged| (other.table, other.tx, other.number()) == (line.table, line.tx, line.number());
                    let found = logged.iter().find(same).and_then(|first| first.image.clone());
                    self.removed[schema.tables[line.table].database].extend(found);
                    counts.removed += 1;
                }
                (Some(before), Some(after)) => {
                    for edge in schema.edges.iter().filter(|edge| edge.child == line.table) {
                        match (whole(before, &edge.columns), whole(after, &edge.columns)) {
                            (Some(_), None) => counts.nulled += 1,
                            (old, new) if old != new => counts.repointed += 1,
                            _ => {}
                        }
                    }
                    counts.set += u64::from(before.iter().any(|(column, value)| column.starts_with('s') && after[column] != *value));
                }
                (None, Some(_)) => {}
            }
        }
    }
}

/// With `ENTAIL_SEED`: what went in, and what came of it.
fn tell(batch: &Batch, worked: &Result<Report, WorkError>) {
    if std::env::var_os("ENTAIL_SEED").is_none() {
        return;
    }
    for (at, event) in &batch.events {
        eprintln!("  {at} {:?}", event.operation);
    }
    for Retry { pending, proven } in &batch.retries {
        eprintln!("  again: {} {} of {} ({:?}, proven: {})", pending.entity, pending.key, pending.cause, pending.kind, proven.is_some());
    }
    match worked {
        Ok(report) => {
            let parked: Vec<String> =
                report.parked.iter().map(|one| format!("{} {}: {}, {}", one.entity, one.key, one.reason, one.detail)).collect();
            eprintln!("= rows {:?}, put back {:?}, not {:?}, parked {parked:?}", report.rows, report.put_back, report.not_put_back);
        }
        Err(error) => eprintln!("= {error}"),
    }
}

/// Two batches out of one. The first one's progress ends before the second one's events.
fn halves(mut part: Batch) -> (Batch, Batch) {
    let events = part.events.split_off(part.events.len() / 2);
    // Of one event and one retry, each by itself.
    let retries = part.retries.split_off(part.retries.len().div_ceil(2));
    let mut progress: BTreeMap<TopicPartition, NextOffset> = part.events.iter().map(|(at, _)| (at.partition.clone(), at.next())).collect();
    for (at, _) in events.iter().rev() {
        progress.entry(at.partition.clone()).and_modify(|next| *next = (*next).min(NextOffset(at.offset)));
    }
    (Batch { progress, ..part.clone() }, Batch { events, retries, ..part })
}

fn merge(all: &mut Report, more: Report) {
    all.waiting.extend(more.waiting);
    all.settled.extend(more.settled);
    all.parked.extend(more.parked);
    all.latched.extend(more.latched);
    all.spared += more.spared;
}
