//! The stages of one batch, in their order, inside one transaction per database.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::{self, Judged};
use super::portion::Found;
use super::{Authority, Batch, Engine, Report, latch, scope};
use super::{note, refused, rescue, subjects};
use crate::apply;
use crate::change::TopicPartition;
use crate::databases::DatabaseId;
use crate::graph::{Edge, EdgeId, Origin, TargetId};
use crate::ledger::{self, Latch};
use crate::model::Model;
use crate::plan::{self, Assignment, Blocked, Bounds, Collected, Fate, Plan, Reduced, Root, RootId, Scope, Step, StepAction};
use crate::resolve::{self, Asked, Presence, Reach, Reading, Sessions, Trouble};
use crate::rules::{EntityId, Mode};
use crate::sink::{Dialect, Session, SinkError, Statement, TableRef, statement};
use crate::value::Key;

/// Rows of one root that a rehearsal reads at the most; above it they are only counted.
const REHEARSED: u64 = 100_000;

/// Why a batch stopped.
pub(super) enum Failure {
    Trouble(Trouble),
    TooMany,
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Trouble(error.into())
    }
}

/// Everything a batch holds on its way.
pub(super) struct Job<'a> {
    pub(super) engine: &'a Engine,
    pub(super) model: &'a Model,
    pub(super) batch: &'a Batch,
    pub(super) authority: Authority<'a>,
    pub(super) reduced: Reduced,
    pub(super) sessions: Sessions,
    pub(super) latched: BTreeSet<EdgeId>,
    /// The scopes that were shut when the transactions were opened.
    shut: BTreeSet<String>,
    /// What a release allows parked roots, per reference: instead of the limits.
    pub(super) allowed: BTreeMap<String, u64>,
    pub(super) new_latches: BTreeMap<DatabaseId, BTreeSet<Latch>>,
    /// Rows that the window of each reference may hold.
    pub(super) window: BTreeMap<String, u64>,
    /// What the roots reach with the references in shadow.
    pub(super) in_shadow: Option<Collected>,
    pub(super) report: Report,
}

/// Runs all stages, without the references in `shut`. On an error the sessions are dropped, which rolls them back.
pub(super) async fn run(engine: &Engine, batch: &Batch, authority: Authority<'_>, shut: &BTreeSet<EdgeId>) -> Result<Report, Failure> {
    let model = &*engine.model;
    let copied: BTreeSet<EntityId> = model.rules.replicas.iter().map(|replica| replica.of).collect();
    let reduced = plan::reduce(&model.graph, &copied, &batch.events);
    let mut job = Job {
        engine,
        model,
        batch,
        authority,
        reduced,
        sessions: Sessions::new(),
        latched: BTreeSet::new(),
        shut: BTreeSet::new(),
        allowed: BTreeMap::new(),
        new_latches: BTreeMap::new(),
        window: BTreeMap::new(),
        in_shadow: None,
        report: Report::default(),
    };
    job.open().await?;
    job.latched.extend(shut);
    job.latch_truncated();
    let mut judged = judge::judge(&mut job).await?;
    if let Some(refused) = &batch.refused {
        refused::park(&mut job, &mut judged, refused).await?;
    }
    let plan = job.cascade(&mut judged).await?;
    job.copies(&judged.presence).await?;
    job.look_for_latches(&plan).await?;
    subjects::look_for_undone(&mut job, &judged.subjects).await?;
    let first = rescue::rescue(&mut job, &judged, &plan).await?;
    note::note(&mut job, &judged, &plan).await?;
    job.commit(&plan, &first).await?;
    Ok(job.report)
}

impl Job<'_> {
    /// Opens one transaction in every database that the batch may touch, in one order (H60), and reads the latches in it (H82).
    async fn open(&mut self) -> Result<(), Failure> {
        let mut databases: BTreeSet<DatabaseId> = BTreeSet::new();
        for partition in self.batch.progress.keys() {
            databases.extend(self.model.reach_of_topic(&partition.topic));
        }
        let of_events = self.batch.events.iter().map(|(_, event)| event.entity);
        let of_retries = self.batch.retries.iter().filter_map(|retry| self.model.entity_named(&retry.pending.entity));
        for entity in of_events.chain(of_retries).collect::<BTreeSet<_>>() {
            databases.extend(self.model.reach(entity));
        }
        let (mut shut, group) = (BTreeSet::new(), &self.engine.owner.group);
        for id in databases {
            let database = &self.model.databases.handle(id).database;
            let mut session = database.begin().await?;
            shut.extend(latches(session.as_mut(), group, &self.authority).await?.into_iter().map(|latch| latch.scope));
            // A release has shown no rows of roots that a database refused: the limits count for them.
            if self.batch.events.is_empty() && !self.is_of_refused() {
                // What is used up ends the release for what was parked; for what was proven meanwhile the limits count again.
                let is_parked = self.batch.retries.iter().all(|retry| retry.proven.is_none());
                let allowed = ledger::allowances(session.as_mut(), database.dialect(), group).await?;
                self.allowed.extend(allowed.into_iter().filter(|(_, rows)| is_parked || *rows > 0));
            }
            self.sessions.insert(id, session);
        }
        let is_shut = |edge: &EdgeId| {
            let scope = scope(self.model, *edge);
            shut.contains(&scope) || shut.contains(&format!("{}{scope}", ledger::PAUSE))
        };
        self.latched = self.model.graph.edges().map(|(edge, _)| edge).filter(is_shut).collect();
        self.shut = shut;
        Ok(())
    }

    /// Looks once more, as the last thing before the commits: what a person has shut meanwhile is not done any more (H82).
    async fn look_for_latches(&mut self, plan: &Plan) -> Result<(), Failure> {
        let used: BTreeSet<String> = plan.steps.iter().flat_map(|step| &step.edges).map(|edge| scope(self.model, *edge)).collect();
        for session in self.sessions.values_mut() {
            let latches = latches(session.as_mut(), &self.engine.owner.group, &self.authority).await?;
            let is_used =
                |latch: &&Latch| used.contains(latch.scope.trim_start_matches(ledger::PAUSE)) && !self.shut.contains(&latch.scope);
            if let Some(new) = latches.iter().find(is_used) {
                return Err(SinkError::Paused { why: format!("{}: {}", new.scope, new.detail) }.into());
            }
        }
        Ok(())
    }

    /// Whether what this partition brought is ours to work.
    pub(super) fn may_work(&self, partition: &TopicPartition) -> bool {
        match self.authority {
            Authority::Owner(epochs) => epochs.keys().any(|(_, ours)| ours == partition),
            Authority::Replay { .. } | Authority::Rehearsal { .. } => true,
        }
    }

    /// A truncate is never a delete: the references at that entity are shut until a person has looked (H9).
    fn latch_truncated(&mut self) {
        let truncated: Vec<_> = self.reduced.truncated.iter().map(|(entity, at)| (*entity, at.clone())).collect();
        for (entity, at) in truncated {
            let name = &self.model.graph.node(entity).name;
            let detail = format!("{name} was truncated ({at}); look for orphans before you release it");
            let edges: Vec<EdgeId> = self.model.graph.references_to(entity).map(|(edge, _)| edge).collect();
            for edge in edges {
                self.shut(edge, "truncate", &detail);
            }
            self.report.outcomes.insert(at, super::Outcome::Parked("truncate"));
        }
    }

    pub(super) fn shut(&mut self, edge: EdgeId, reason: &str, detail: &str) {
        let latch = latch(self.model, edge, reason, detail);
        self.latched.insert(edge);
        self.report.latched.insert(latch.clone());
        self.new_latches.entry(super::child_database(self.model, edge)).or_default().insert(latch);
    }

    /// Collects, looks again, plans and applies. Nothing is committed yet.
    async fn cascade(&mut self, judged: &mut Judged) -> Result<Plan, Failure> {
        let roots = judged.roots();
        if roots.is_empty() {
            return Ok(Plan::default());
        }
        let collected = match self.collect(roots).await? {
            Found::Rows(collected) => collected,
            Found::Held(plan) => return Ok(plan),
        };
        let (confirmed, presence) = self.look_again(&collected).await?;
        let confirmed = judged.hold_back_the_unproven(self, &collected, confirmed).await?;
        let bounds = self.bounds().await?;
        for edge in self.at_empty_parents(&presence).await? {
            self.shut(edge, "empty-parent", "every parent asked for is missing and the parent's table has no rows at all");
        }
        let bounds = Bounds { latched: self.latched.clone(), ..bounds };
        let would = self.in_shadow.take().map(|shadow| {
            plan::plan(shadow.verify(confirmed.clone()), &self.model.graph, &Bounds { scope: Scope::WithShadow, ..bounds.clone() })
        });
        let seen = self.portion_seen(&collected);
        let mut plan = plan::plan(collected.verify(confirmed), &self.model.graph, &bounds);
        self.judge_portion(&mut plan, &seen);
        if let Some(would) = would {
            self.count_shadow(&would, &plan);
        }
        self.latch_the_exceeded(&plan);
        self.look_at_the_tables(&plan).await?;
        self.check_defaults(&plan).await?;
        let cascades = judged.cascade_ids(self);
        let archiving = apply::Archiving { group: &self.engine.owner.group, keep: self.engine.keep, cascades: &cascades };
        let is_smallest = self.is_smallest();
        let most =
            if is_smallest { usize::try_from(self.rows_per_event()).unwrap_or(usize::MAX) } else { self.engine.rows_per_transaction };
        let room = apply::Room::beside(&plan, &bounds, most);
        plan.followed = match apply::apply(self.model, &mut self.sessions, &plan.steps, &archiving, &room).await {
            // Whose rows they are, and which stand in each other's way, shows when each root is worked by itself.
            Err(Trouble { error: SinkError::Exceeded { .. } | SinkError::Swallowed { .. }, .. }) if !is_smallest => {
                return Err(Failure::TooMany);
            }
            done => done?,
        };
        self.look_at_the_tables(&plan).await?;
        Ok(plan)
    }

    /// What the roots reach with the references in shadow, read without locks and before the look-up; nothing of it is ever written.
    pub(super) async fn shadow(&mut self, roots: &[Root], limit: usize) -> Result<Option<Collected>, Failure> {
        if self.model.graph.edges().all(|(_, edge)| edge.mode == Mode::Enforce) {
            return Ok(None);
        }
        let reach = Reach { latched: &self.latched, scope: Scope::WithShadow, limit };
        Ok(match resolve::collect(self.model, &mut self.sessions, roots.to_vec(), reach).await? {
            Reading::Whole(collected) => Some(collected),
            Reading::TooMany(_) => None,
        })
    }

    /// Rows that would change beside those that do, per reference.
    fn count_shadow(&mut self, would: &Plan, does: &Plan) {
        let rows = |plan: &Plan| -> BTreeMap<String, u64> {
            let mut rows = BTreeMap::new();
            for step in &plan.steps {
                *rows.entry(apply::edge_names(self.model, &step.edges)).or_default() += u64::try_from(step.rows.len()).unwrap_or(u64::MAX);
            }
            rows
        };
        let does = rows(does);
        for (name, count) in rows(would) {
            let more = count.saturating_sub(does.get(&name).copied().unwrap_or(0));
            if more > 0 {
                *self.report.shadow.entry(name).or_default() += more;
            }
        }
    }

    /// The same, by the database of the rows.
    pub(super) fn shadow_by_database(&self) -> BTreeMap<DatabaseId, BTreeMap<String, u64>> {
        let mut by_database: BTreeMap<DatabaseId, BTreeMap<String, u64>> = BTreeMap::new();
        for (names, rows) in &self.report.shadow {
            // The references that reached a row stand at one table.
            let reached = |edge: &&crate::graph::Edge| names.split(", ").any(|name| name == edge.name);
            if let Some(edge) = self.model.graph.edges().map(|(_, edge)| edge).find(reached) {
                by_database.entry(self.model.database_of(edge.child)).or_default().insert(names.clone(), *rows);
            }
        }
        by_database
    }

    /// Rows of one root that are read at the most.
    pub(super) fn rows_per_event(&self) -> u64 {
        match self.authority {
            Authority::Rehearsal { .. } => REHEARSED,
            Authority::Owner(_) | Authority::Replay { .. } => self.rows_released().max(self.model.rules.limits.rows_per_event),
        }
    }

    /// Rows that a release allows one root, if it touches nothing else.
    fn rows_released(&self) -> u64 {
        self.allowed.values().fold(0, |sum, rows| sum.saturating_add(*rows))
    }

    /// One record, or one root that is tried again: it cannot be cut further. Its roots are unique keys of one parent row.
    pub(super) fn is_smallest(&self) -> bool {
        let records: BTreeSet<&crate::change::Position> = self.batch.events.iter().map(|(at, _)| at).collect();
        records.len() + self.batch.retries.len() <= 1
    }

    /// Whether a person looks at what this reference would do, or has looked and let that much go.
    pub(super) fn is_looked_at(&self, edge: EdgeId) -> bool {
        let is_rehearsed = matches!(self.authority, Authority::Rehearsal { scope: rehearsed } if rehearsed == scope(self.model, edge));
        is_rehearsed || self.allowed.contains_key(&self.model.graph.edge(edge).name)
    }

    pub(super) fn edges_at(&self, target: TargetId) -> Vec<EdgeId> {
        self.model.graph.edges_at(target).filter(|(_, edge)| edge.origin != Origin::Native).map(|(edge, _)| edge).collect()
    }

    /// The look-up after the collection: the only one that may find a root missing (H2).
    async fn look_again(&mut self, collected: &Collected) -> Result<(BTreeSet<RootId>, Presence), Failure> {
        let mut asked = Asked::new();
        for (_, root) in collected.roots() {
            let keys = asked.entry(root.target).or_default();
            keys.insert(root.key.clone());
            if let Fate::Moved(to) = &root.fate {
                keys.insert(to.clone());
            }
        }
        let presence = resolve::look_up(self.model, &asked).await?;
        self.look_at_the_parents(&asked, &presence).await?;
        let confirmed = collected.roots().filter(|(_, root)| {
            let missing = !presence.of(root.target, &root.key);
            match &root.fate {
                Fate::Gone | Fate::Unclear(_) => missing,
                Fate::Moved(to) => missing && presence.of(root.target, to),
            }
        });
        let confirmed: BTreeSet<RootId> = confirmed.map(|(id, _)| id).collect();
        Ok((confirmed, presence))
    }

    /// A default that names no living parent would orphan the rows by our own hand (H110).
    async fn check_defaults(&mut self, plan: &Plan) -> Result<(), Failure> {
        for edge_id in plan.steps.iter().flat_map(|step| self.writes_default(step)).collect::<BTreeSet<EdgeId>>() {
            let edge = self.model.graph.edge(edge_id);
            let bound = self.model.table(edge.child);
            let database = &self.model.databases.handle(bound.database).database;
            let rows = database.read(&statement::defaults(database.dialect(), &bound.table, &edge.columns)).await?;
            let Some(row) = rows.first() else { continue };
            let Some(key) = TableRef::key_of(&edge.columns, &bound.table.image(&edge.columns, row)) else { continue };
            let asked = Asked::from([(edge.target, BTreeSet::from([key.clone()]))]);
            let goes_too = plan.vacated.contains(&(edge.target, key.clone()));
            if goes_too || !resolve::look_up(self.model, &asked).await?.of(edge.target, &key) {
                let error = SinkError::DefaultWithoutParent { reference: edge.name.clone() };
                return Err(Trouble { error, edges: vec![edge_id] }.into());
            }
        }
        Ok(())
    }

    /// The references of a step all of whose columns take their defaults.
    fn writes_default(&self, step: &Step) -> Vec<EdgeId> {
        let StepAction::Update(assignments) = &step.action else { return Vec::new() };
        let default = |column: &String| assignments.iter().any(|(name, what)| name == column && *what == Assignment::Default);
        step.edges.iter().copied().filter(|edge| self.model.graph.edge(*edge).columns.iter().all(default)).collect()
    }

    pub(super) async fn bounds(&mut self) -> Result<Bounds, Failure> {
        let limits = self.model.rules.limits;
        let windows = self.windows().await?;
        let in_window = |name: &String| windows.get(name).copied().unwrap_or(limits.rows.count);
        let left = |name: &String| match self.authority {
            Authority::Rehearsal { .. } => u64::MAX,
            Authority::Owner(_) | Authority::Replay { .. } => self.allowed.get(name).copied().unwrap_or_else(|| in_window(name)),
        };
        let window = self.model.graph.edges().map(|(id, edge)| (id, left(&edge.name))).collect();
        let (latched, scope, is_dry) = (self.latched.clone(), Scope::Enforced, self.authority.is_dry());
        let (rows_per_event, released) = match self.authority {
            Authority::Rehearsal { .. } => (REHEARSED, BTreeMap::new()),
            Authority::Owner(_) | Authority::Replay { .. } => {
                let allowed = |(id, edge): (EdgeId, &Edge)| Some((id, *self.allowed.get(&edge.name)?));
                (limits.rows_per_event, self.model.graph.edges().filter_map(allowed).collect())
            }
        };
        Ok(Bounds { rows_per_event, released, latched, window, scope, is_dry })
    }

    /// Whether a database has refused a root of it before.
    fn is_of_refused(&self) -> bool {
        self.batch.retries.iter().any(|retry| super::was_refused(&retry.pending))
    }

    /// A reference over one of its limits is shut (H79, H80). Not for roots that a database has refused: it may do so again, each time.
    pub(super) fn latch_the_exceeded(&mut self, plan: &Plan) {
        if self.is_of_refused() {
            return;
        }
        for blocked in plan.blocked.values() {
            match blocked {
                Blocked::RowsPerEvent(edge) => {
                    self.shut(*edge, "rows-per-event", "one event would touch more rows than `limits.rows_per_event`")
                }
                Blocked::Window(edge) => {
                    let was_released = self.allowed.contains_key(&self.model.graph.edge(*edge).name);
                    let detail =
                        if was_released { "the rows of its release are used up" } else { "the window of `limits.rows` is used up" };
                    self.shut(*edge, "rows", detail);
                }
                Blocked::Restrict(_) | Blocked::Native(_) | Blocked::Latched(_) | Blocked::Large(_) | Blocked::Whole(_) => {}
            }
        }
    }

    /// Brings the copies up to the events.
    async fn copies(&mut self, presence: &Presence) -> Result<(), Failure> {
        let copies = std::mem::take(&mut self.reduced.copies);
        let entities: BTreeSet<EntityId> = copies.keys().map(|(entity, _)| *entity).collect();
        for entity in entities {
            let rows: Vec<(&Key, &plan::Copy)> =
                copies.iter().filter(|((of, _), _)| *of == entity).map(|((_, key), copy)| (key, copy)).collect();
            let target = self.model.graph.key_target(entity);
            let is_alive = |key: &Key| presence.was_asked(target, key) && presence.of(target, key);
            let alive = rows.iter().map(|(key, _)| *key).filter(|key| is_alive(key)).cloned().collect();
            let work = apply::CopyWork { entity, rows, alive };
            let changed = apply::copy(self.model, &mut self.sessions, &self.engine.owner.group, &work).await?;
            for key in &changed {
                if let Some(copy) = copies.get(&(entity, key.clone())) {
                    self.report.outcomes.insert(copy.cause.clone(), super::Outcome::Applied);
                }
            }
            if !changed.is_empty() {
                let name = self.model.graph.node(entity).name.clone();
                self.report.copies.insert(name, u64::try_from(changed.len()).unwrap_or(u64::MAX));
            }
        }
        Ok(())
    }

    /// What a database puts off to the end of its transaction is checked before another one has committed: else rows would be gone that hang on one
    /// which may not go.
    async fn check_deferred(&mut self) -> Result<(), Failure> {
        if self.authority.is_dry() || self.sessions.len() < 2 {
            return Ok(());
        }
        let check = Statement::fixed("checking deferred constraints", "SET CONSTRAINTS ALL IMMEDIATE", Vec::new());
        for (id, session) in &mut self.sessions {
            if self.model.databases.handle(*id).database.dialect() == Dialect::Postgres {
                session.execute(&check).await?;
            }
        }
        Ok(())
    }

    /// Commits, deepest rows first; a dry run rolls back. Where rows were put back comes before all: the others are why this is done once more, and
    /// it would not be once they are done.
    async fn commit(&mut self, plan: &Plan, first: &BTreeSet<DatabaseId>) -> Result<(), Failure> {
        self.check_deferred().await?;
        let mut sessions = std::mem::take(&mut self.sessions);
        let mut order = apply::commit_order(self.model, &plan.steps, sessions.keys().copied());
        order.sort_by_key(|id| !first.contains(id));
        for id in order {
            let Some(session) = sessions.remove(&id) else { continue };
            match self.authority {
                Authority::Replay { apply: false } | Authority::Rehearsal { .. } => session.rollback().await,
                Authority::Owner(_) | Authority::Replay { apply: true } => session.commit().await?,
            }
        }
        Ok(())
    }
}

/// What is shut in a database, unless it is everything.
async fn latches(session: &mut dyn Session, group: &str, authority: &Authority<'_>) -> Result<Vec<Latch>, Failure> {
    let mut latches = ledger::latches(session, group).await?;
    if let Authority::Rehearsal { scope } = authority {
        latches.retain(|latch| latch.scope != *scope);
    }
    match latches.iter().find(|latch| latch.scope == ledger::EVERYTHING) {
        Some(pause) if !authority.is_dry() => Err(SinkError::Paused { why: pause.detail.clone() }.into()),
        _ => Ok(latches),
    }
}
