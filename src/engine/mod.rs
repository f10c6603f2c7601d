//! One batch from events to durable rows: look, collect, look again, plan, apply, note, commit.
//!
//! The same for the worker and for replay; they differ in [`Authority`] alone. A batch that failed has changed nothing that its redo would not
//! find again, so the answer to every error is to do it again, whole or in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::change::{ChangeEvent, NextOffset, Position, TopicPartition};
use crate::databases::DatabaseId;
use crate::error::Disposition;
use crate::graph::{EdgeId, TargetId};
use crate::ledger::{self, Epoch, Latch, Owner, Pending};
use crate::model::{BindError, Model};
use crate::newcomers::Newcomers;
use crate::plan::Seen;
use crate::resolve::{self, Trouble};
use crate::sink::SinkError;
use crate::value::Key;
use crate::watch::{self, Finding, Marks};

mod doubts;
mod history;
mod job;
mod judge;
mod left;
mod note;
mod portion;
mod refused;
mod rescue;
mod subjects;
mod window;

pub use crate::resolve::Counted;
pub use refused::{REFUSED, Refused, refusal, was_refused};
pub use window::Sizes;

/// Rows that one transaction takes at the most, unless one root alone has more.
const ROWS_PER_TRANSACTION: usize = 20_000;
/// Rows of one root that one transaction takes; a larger root is worked in portions of this size.
const ROWS_PER_PORTION: usize = 5_000;
/// Keys that a count of what hangs on a root reads at a time.
const KEYS_PER_PAGE: usize = 10_000;
/// Why a root is pending: it has more rows than one transaction takes, and is to be counted.
pub const LARGE: &str = "large";
/// Why a root is pending: portions of it have gone, and more is left.
pub const PORTIONS: &str = "in portions";
/// Why a root is pending: no portion of it can go by itself.
pub const WHOLE: &str = "whole";

/// Whether a pending root is worked in portions.
#[must_use]
pub fn is_large(pending: &Pending) -> bool {
    [LARGE, PORTIONS, WHOLE].contains(&pending.reason.as_str())
}

/// What is to be worked.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Events, in the order read.
    pub events: Vec<(Position, ChangeEvent)>,
    /// Pending roots that are tried again.
    pub retries: Vec<Retry>,
    /// Where each partition stands once this is durable.
    pub progress: BTreeMap<TopicPartition, NextOffset>,
    /// Fingerprints of the last record of each, by which a topic that is made anew is told (H16).
    pub last: BTreeMap<TopicPartition, String>,
    /// How much of a root is done at once.
    pub extent: Extent,
    /// A database refuses it: its roots are left pending.
    pub refused: Option<Refused>,
}

/// How much of a root is done at once.
#[derive(Debug, Clone, Default)]
pub enum Extent {
    /// All of it, unless it is larger than a portion: then it is left pending, to be worked in portions.
    #[default]
    Usual,
    /// The next portion of a pending root.
    Portion(Portion),
    /// All of it, up to its limit.
    Whole,
}

/// One short transaction's part of a root's rows.
#[derive(Debug, Clone)]
pub struct Portion {
    /// Rows read at the most of a first table that leads on to others.
    pub width: usize,
    /// What hangs on the root, before its first portion.
    pub counted: Option<Counted>,
}

impl Portion {
    /// The first portion of a root that was counted.
    #[must_use]
    pub fn first(counted: Counted) -> Self {
        Self { width: usize::MAX, counted: Some(counted) }
    }
}

/// A pending root that is tried again.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The root.
    pub pending: Pending,
    /// The child rows that were read before a look-up which the entity's topic has since been read past. Without it the root waits (again).
    pub proven: Option<BTreeSet<Seen>>,
}

/// In whose name a batch is worked.
#[derive(Debug, Clone, Copy)]
pub enum Authority<'a> {
    /// The owner of the partitions, with the epochs under which it took them.
    Owner(&'a BTreeMap<(DatabaseId, TopicPartition), Epoch>),
    /// What would go if this latch were open, and no limit counted: everything is rolled back at the end.
    Rehearsal {
        /// The latch's scope.
        scope: &'a str,
    },
    /// A replay: the ledger's progress is not touched. Without `apply` everything is rolled back at the end.
    Replay {
        /// Whether changes are kept.
        apply: bool,
    },
}

impl Authority<'_> {
    /// Whether everything is rolled back at the end.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        matches!(self, Self::Replay { apply: false } | Self::Rehearsal { .. })
    }
}

/// What came of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing had to change.
    NoEffect,
    /// Held back, in one word why.
    Parked(&'static str),
    /// Rows changed.
    Applied,
}

/// What came of a batch.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Per record; one that is not listed had no effect.
    pub outcomes: BTreeMap<Position, Outcome>,
    /// Roots that wait for their topic to be read past a look-up.
    pub waiting: Vec<Waiting>,
    /// Roots that are pending no longer.
    pub settled: BTreeSet<(TargetId, Key)>,
    /// Roots that the ledger held as pending, among them.
    pub settled_later: u64,
    /// Roots that are parked, for whatever reason.
    pub parked: Vec<Pending>,
    /// What was done, root by root.
    pub cascades: Vec<Cascade>,
    /// Rows changed, per reference.
    pub rows: BTreeMap<String, u64>,
    /// Rows changed, per replica's entity.
    pub copies: BTreeMap<String, u64>,
    /// Roots whose parent was found alive.
    pub spared: u64,
    /// Child rows left pointing at a missing parent under `no_action`, per reference.
    pub orphans: BTreeMap<String, u64>,
    /// Rows that references in shadow would have changed.
    pub shadow: BTreeMap<String, u64>,
    /// Latches shut by this batch.
    pub latched: BTreeSet<Latch>,
    /// Rows put back that an interrupted attempt had taken below rows that live on, per entity.
    pub put_back: BTreeMap<String, u64>,
    /// Of those put back: rows whose parent by another reference is missing, per such reference.
    pub put_back_orphaned: BTreeMap<String, u64>,
    /// Such rows that could not be put back, per entity.
    pub not_put_back: BTreeMap<String, u64>,
    /// Cascades that ended and had taken too many rows to look whether any must come back, with their rows.
    pub not_looked_at: BTreeMap<String, u64>,
    /// Of a portion: how wide the next one is to be.
    pub next_width: usize,
}

impl Report {
    /// Whether this parked root waits for its proof, and for nothing else.
    #[must_use]
    pub fn is_waiting(&self, parked: &Pending) -> bool {
        let is_it =
            |one: &Waiting| (&one.pending.entity, &one.pending.columns, &one.pending.key) == (&parked.entity, &parked.columns, &parked.key);
        parked.reason == "wait" || self.waiting.iter().any(is_it)
    }
}

/// A root that waits (H114).
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The root, as it stands in the ledger.
    pub pending: Pending,
    /// The columns of which entity.
    pub target: TargetId,
    /// The child rows read before the look-up.
    pub seen: BTreeSet<Seen>,
    /// Where the log of the parent's database ended after the look-up; `None` if it has none that a connector follows.
    pub looked_up_at: Option<u64>,
}

/// What one root entailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascade {
    /// Its id in archive and audit.
    pub id: String,
    /// The parent's entity.
    pub entity: String,
    /// The parent's key.
    pub key: Key,
    /// The record that brought it.
    pub cause: Position,
    /// What was done, parents before children.
    pub lines: Vec<CascadeLine>,
}

/// Rows of one table that one cascade changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CascadeLine {
    /// The table's entity.
    pub entity: String,
    /// The references by which its rows were reached.
    pub reference: String,
    /// What was done.
    pub action: &'static str,
    /// How many rows.
    pub rows: u64,
}

/// Why a batch was not worked. Nothing of it is lost.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A database refused.
    #[error("{}", .0)]
    Sink(#[source] SinkError),
    /// More rows than fit one transaction: work it in parts.
    #[error("the batch reaches more rows than one transaction takes")]
    TooMany,
}

impl WorkError {
    /// What happens to the work.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Sink(error) => error.disposition(),
            Self::TooMany => Disposition::Retry,
        }
    }
}

/// The stages together.
#[derive(Clone)]
pub struct Engine {
    /// Rules, graph and tables.
    pub model: Arc<Model>,
    /// Its references that are new to the group, and in shadow.
    pub newcomers: Option<Newcomers>,
    /// Where the logs of its databases had ended.
    pub marks: Arc<Marks>,
    /// Sizes of tables, for limits by percent.
    pub sizes: Arc<Sizes>,
    /// Whose ledger.
    pub owner: Owner,
    /// How long row images are kept.
    pub keep: Duration,
    /// Rows that one transaction takes at the most.
    pub rows_per_transaction: usize,
    /// Rows of one root that one transaction takes; a larger root is worked in portions of this size.
    pub rows_per_portion: usize,
    /// Keys that a count of what hangs on a root reads at a time.
    pub keys_per_page: usize,
}

impl Engine {
    /// An engine for a model without new references.
    #[must_use]
    pub fn new(model: Model, owner: Owner, keep: Duration) -> Self {
        let (model, marks, sizes) = (Arc::new(model), Arc::default(), Arc::default());
        let (rows_per_transaction, rows_per_portion, keys_per_page) = (ROWS_PER_TRANSACTION, ROWS_PER_PORTION, KEYS_PER_PAGE);
        Self { model, newcomers: None, marks, sizes, owner, keep, rows_per_transaction, rows_per_portion, keys_per_page }
    }

    /// The same engine, with its rules bound to the tables as they are now.
    ///
    /// # Errors
    /// Those of the binding.
    pub async fn rebind(&self) -> Result<Self, BindError> {
        let model = Model::bind(self.model.rules.clone(), self.model.databases.clone()).await?;
        Ok(Self { model: Arc::new(model), ..self.clone() })
    }

    /// Works a batch. References whose tables or actions cannot work are latched, and the batch goes on without them.
    ///
    /// # Errors
    /// If a database is down or refuses, or if the batch is too large. Nothing was changed then that a redo would miss.
    pub async fn work(&self, batch: &Batch, authority: Authority<'_>) -> Result<Report, WorkError> {
        let (mut latched, mut shut) = (BTreeSet::new(), BTreeSet::new());
        loop {
            match job::run(self, batch, authority, &shut).await {
                Ok(mut report) => {
                    report.latched.append(&mut latched);
                    return Ok(report);
                }
                Err(job::Failure::TooMany) => return Err(WorkError::TooMany),
                Err(job::Failure::Trouble(trouble)) => {
                    let new = self.latches_for(&trouble);
                    // None, or none that was not there before.
                    if new.is_subset(&latched) {
                        return Err(WorkError::Sink(trouble.error));
                    }
                    if !authority.is_dry() {
                        self.shut(&trouble.edges, &new).await.map_err(WorkError::Sink)?;
                        self.accept(watch::rewound(&self.model, &trouble.error).as_ref()).await.map_err(WorkError::Sink)?;
                    }
                    shut.extend(trouble.edges);
                    latched.extend(new);
                }
            }
        }
    }

    /// Rows that one parked root may touch, whatever its references: its limit, or what releases allow. Of one that a database has refused, the limit.
    ///
    /// # Errors
    /// Those of the databases.
    pub async fn rows_allowed(&self, pending: &Pending) -> Result<u64, SinkError> {
        let Some(entity) = self.model.entity_named(&pending.entity) else { return Ok(0) };
        let mut most = self.model.rules.limits.rows_per_event;
        if was_refused(pending) {
            return Ok(most);
        }
        for id in self.model.reach(entity) {
            let database = &self.model.databases.handle(id).database;
            let mut session = database.begin().await?;
            let allowed = ledger::allowances(session.as_mut(), database.dialect(), &self.owner.group).await?;
            session.rollback().await;
            most = allowed.values().fold(most, |most, rows| most.saturating_add(*rows));
        }
        Ok(most)
    }

    /// Counts what hangs on a pending root, without locks and no further than `most` rows: limits are checked against the whole before the first
    /// portion goes (H79).
    ///
    /// # Errors
    /// Those of the databases.
    pub async fn count(&self, pending: &Pending, most: u64) -> Result<Counted, SinkError> {
        let Some(entity) = self.model.entity_named(&pending.entity) else { return Ok(Counted::default()) };
        let values = [(&pending.columns, &pending.key)].into_iter().chain(pending.beside.iter().map(|(columns, key)| (columns, key)));
        let targets = |(columns, key): (&Vec<String>, &crate::value::Key)| {
            let target = self.model.graph.targets_of(entity).find(|(_, target)| target.columns == *columns);
            target.map(|(id, _)| (id, key.clone()))
        };
        let roots: Vec<(TargetId, Key)> = values.filter_map(targets).collect();
        resolve::count(&self.model, &roots, (most, self.keys_per_page)).await.map_err(|trouble| trouble.error)
    }

    /// The latches that an error calls for: those of the references that it concerns, if they are at fault.
    fn latches_for(&self, trouble: &Trouble) -> BTreeSet<Latch> {
        if trouble.error.disposition() == Disposition::Retry {
            return BTreeSet::new();
        }
        if let Some(finding) = watch::rewound(&self.model, &trouble.error) {
            return watch::latches(&self.model, &finding);
        }
        let reason = if let SinkError::Exceeded { limit, .. } = &trouble.error { limit.reason() } else { "halted" };
        trouble.edges.iter().map(|edge| latch(&self.model, *edge, reason, &trouble.error.to_string())).collect()
    }

    /// Shuts the references that a finding concerns.
    ///
    /// # Errors
    /// Those of the databases.
    pub async fn halt(&self, finding: &Finding) -> Result<(), SinkError> {
        self.shut(&finding.edges, &watch::latches(&self.model, finding)).await?;
        self.accept(Some(finding)).await
    }

    /// A step back of a log is known of from now on by the latches.
    async fn accept(&self, finding: Option<&Finding>) -> Result<(), SinkError> {
        match finding.and_then(|finding| finding.log_end) {
            Some(log_end) => watch::accept(&self.model, &self.owner.group, &self.marks, log_end).await,
            None => Ok(()),
        }
    }

    /// Shuts latches in a transaction of their own, in the databases of the references' children.
    async fn shut(&self, edges: &[EdgeId], latches: &BTreeSet<Latch>) -> Result<(), SinkError> {
        let databases: BTreeSet<DatabaseId> = edges.iter().map(|edge| child_database(&self.model, *edge)).collect();
        for id in databases {
            let database = &self.model.databases.handle(id).database;
            let mut session = database.begin().await?;
            ledger::shut(session.as_mut(), database.dialect(), &self.owner.group, latches).await?;
            session.commit().await?;
        }
        Ok(())
    }
}

/// The database that keeps a reference's latch: its child's.
fn child_database(model: &Model, edge: EdgeId) -> DatabaseId {
    model.table(model.graph.edge(edge).child).database
}

fn latch(model: &Model, edge: EdgeId, reason: &str, detail: &str) -> Latch {
    Latch { scope: scope(model, edge), reason: reason.to_owned(), detail: detail.to_owned() }
}

fn scope(model: &Model, edge: EdgeId) -> String {
    format!("reference:{}", model.graph.edge(edge).name)
}
