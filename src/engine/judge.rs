//! Which parent keys of a batch are worth a cascade: the first look, what is known of each key, and the verdict.
//!
//! A key that plainly lives is dropped before any row is read (H3). One that is missing is judged by the key changes known of it. For entities
//! whose keys may change, a verdict stands only once it is proven: the topic has been read past the look-up (H114).

use std::collections::{BTreeMap, BTreeSet};

use super::Waiting;
use super::history;
use super::job::{Failure, Job};
use crate::apply;
use crate::change::{Position, SourcePosition};
use crate::graph::{EdgeId, TargetId};
use crate::ledger::{self, Pending, PendingKind};
use crate::model::Model;
use crate::plan::{Candidate, Collected, Confirmed, Fate, KeyHistory, Move, ParentRow, Root, RootId, Ruling, Seen, acts, is_settled, rule};
use crate::resolve::{self, Asked, Presence};
use crate::rules::EntityId;
use crate::sink::Session;
use crate::value::Key;

/// A parent key of the batch.
pub(super) struct Subject {
    pub(super) target: TargetId,
    pub(super) key: Key,
    /// What the events and the ledger say of it.
    pub(super) candidate: Candidate,
    /// The change that brought it: unique keys of one parent row that went together share it.
    change: String,
    /// The ledger holds it as pending.
    pub(super) was_pending: bool,
    /// The child rows that a proven verdict may touch.
    pub(super) proven: Option<BTreeSet<Seen>>,
    pub(super) state: State,
}

/// How a subject stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Its parent was found alive.
    Alive,
    /// Left alone and listed: a word, and more about it.
    Parked(&'static str, String),
    /// A root of the cascade.
    Root(Fate),
    /// Waits for its topic to be read past the look-up.
    Waiting,
    /// No child row points at it.
    NoRows(Fate),
}

/// All subjects, and what the first look saw.
pub(super) struct Judged {
    pub(super) subjects: Vec<Subject>,
    pub(super) presence: Presence,
    /// Places of the roots among the subjects.
    roots: Vec<usize>,
}

pub(super) fn entity_named(model: &Model, name: &str) -> Option<EntityId> {
    model.graph.nodes().find(|(_, node)| node.name == name).map(|(id, _)| id)
}

/// Judges every candidate of the batch and every root that is tried again.
pub(super) async fn judge(job: &mut Job<'_>) -> Result<Judged, Failure> {
    let mut subjects = subjects(job);
    add_completed(job, &mut subjects).await?;
    merge_pending(job, &mut subjects).await?;
    add_other_keys(job, &mut subjects).await?;
    let moves = history::of(job, &subjects).await?;
    let presence = resolve::look_up(job.model, &asked(job, &subjects, &moves)).await?;
    for subject in &mut subjects {
        subject.state = verdict(job.model, subject, moves.get(&subject.target).map_or(&[], Vec::as_slice), &presence);
        if subject.state == State::Alive {
            job.report.spared += 1;
        }
    }
    let roots =
        subjects.iter().enumerate().filter(|(_, subject)| matches!(subject.state, State::Root(_))).map(|(place, _)| place).collect();
    Ok(Judged { subjects, presence, roots })
}

fn subjects(job: &Job<'_>) -> Vec<Subject> {
    let mut subjects: BTreeMap<(TargetId, Key), Subject> = BTreeMap::new();
    for ((target, key), candidate) in &job.reduced.candidates {
        let subject = Subject {
            target: *target,
            key: key.clone(),
            candidate: candidate.clone(),
            change: change(candidate.source.as_ref(), &candidate.cause),
            was_pending: false,
            proven: None,
            state: State::Alive,
        };
        subjects.insert((*target, key.clone()), subject);
    }
    for retry in &job.batch.retries {
        let Some(target) = target_of(job.model, &retry.pending) else { continue };
        let key = retry.pending.key.clone();
        match subjects.get_mut(&(target, key.clone())) {
            // News of the key say more about it; they do not undo what was proven before.
            Some(known) => {
                known.add(&retry.pending);
                known.proven.clone_from(&retry.proven);
            }
            None => {
                let mut subject = subject_of(target, &retry.pending);
                subject.proven.clone_from(&retry.proven);
                subjects.insert((target, key), subject);
            }
        }
    }
    subjects.into_values().collect()
}

fn subject_of(target: TargetId, pending: &Pending) -> Subject {
    let candidate =
        Candidate { deleted: false, moved: false, source: None, cause: pending.cause.clone(), partition_known: pending.partition_known };
    let (change, state) = (String::new(), State::Alive);
    let mut subject = Subject { target, key: pending.key.clone(), candidate, change, was_pending: true, proven: None, state };
    subject.add(pending);
    subject
}

impl Subject {
    /// What an earlier batch knew of the key still counts. News without a position (a tombstone) are of the same change.
    fn add(&mut self, pending: &Pending) {
        match pending.kind {
            PendingKind::Gone => self.candidate.deleted = true,
            PendingKind::Moved => self.candidate.moved = true,
            PendingKind::Hint => {}
        }
        if self.candidate.source.is_none() {
            self.candidate.source.clone_from(&pending.source);
            self.change = change(pending.source.as_ref(), &pending.cause);
        }
        self.was_pending = true;
    }
}

fn target_of(model: &Model, pending: &Pending) -> Option<TargetId> {
    let entity = entity_named(model, &pending.entity)?;
    model.graph.targets_of(entity).find(|(_, target)| target.columns == pending.columns).map(|(id, _)| id)
}

/// The session that keeps what is pending for a target.
pub(super) fn home<'a>(job: &'a mut Job<'_>, target: TargetId) -> Option<(&'a mut dyn Session, statement::Dialect)> {
    let id = job.model.home(job.model.graph.target(target).entity)?;
    let dialect = job.model.databases.handle(id).database.dialect();
    Some((job.sessions.get_mut(&id)?.as_mut(), dialect))
}

use crate::sink::statement;

/// Roots that the ledger holds as pending keep what was known of them.
async fn merge_pending(job: &mut Job<'_>, subjects: &mut [Subject]) -> Result<(), Failure> {
    let mut keys: BTreeMap<TargetId, Vec<Key>> = BTreeMap::new();
    for subject in subjects.iter().filter(|subject| !subject.was_pending) {
        keys.entry(subject.target).or_default().push(subject.key.clone());
    }
    for (target, keys) in keys {
        let columns = job.model.graph.target(target);
        let (entity, columns) = (job.model.graph.node(columns.entity).name.clone(), columns.columns.clone());
        let group = job.engine.owner.group.clone();
        let Some((session, dialect)) = home(job, target) else { continue };
        for pending in ledger::pending_by_key(session, dialect, &group, &entity, &keys).await? {
            let same = |subject: &&mut Subject| subject.target == target && subject.key == pending.key && columns == pending.columns;
            if let Some(subject) = subjects.iter_mut().find(same) {
                subject.add(&pending);
            }
        }
    }
    Ok(())
}

/// Values whose key change was known by half, and whose new row this batch tells of.
async fn add_completed(job: &mut Job<'_>, subjects: &mut Vec<Subject>) -> Result<(), Failure> {
    for (target, arrivals) in job.reduced.arrivals.clone() {
        for (key, source, cause) in history::completed(job, target, &arrivals).await? {
            if !subjects.iter().any(|subject| subject.target == target && subject.key == key) {
                let change = change(Some(&source), &cause);
                let candidate = Candidate { deleted: false, moved: true, source: Some(source), cause, partition_known: false };
                subjects.push(Subject { target, key, candidate, change, was_pending: false, proven: None, state: State::Alive });
            }
        }
    }
    Ok(())
}

/// What is pending under other unique keys of the same parent rows is judged with them: what a `restrict` refuses, it refuses for the row (H26).
async fn add_other_keys(job: &mut Job<'_>, subjects: &mut Vec<Subject>) -> Result<(), Failure> {
    let mut changes: BTreeMap<TargetId, BTreeSet<String>> = BTreeMap::new();
    for subject in subjects.iter() {
        let entity = job.model.graph.target(subject.target).entity;
        let pointed_at = job.model.graph.targets_of(entity).filter(|(target, _)| job.model.graph.edges_at(*target).next().is_some());
        if pointed_at.count() > 1 {
            changes.entry(job.model.graph.key_target(entity)).or_default().insert(subject.change.clone());
        }
    }
    for (key_target, changes) in changes {
        let entity = job.model.graph.node(job.model.graph.target(key_target).entity).name.clone();
        let group = job.engine.owner.group.clone();
        let Some((session, dialect)) = home(job, key_target) else { continue };
        for pending in ledger::pending_by_change(session, dialect, &group, &entity, &changes).await? {
            let Some(target) = target_of(job.model, &pending) else { continue };
            if !subjects.iter().any(|subject| subject.target == target && subject.key == pending.key) {
                subjects.push(subject_of(target, &pending));
            }
        }
    }
    Ok(())
}

/// The keys of the first look: the subjects, both ends of every key change, and rows of copies that an event calls gone.
fn asked(job: &Job<'_>, subjects: &[Subject], moves: &BTreeMap<TargetId, Vec<Move>>) -> Asked {
    let mut asked = Asked::new();
    for subject in subjects {
        asked.entry(subject.target).or_default().insert(subject.key.clone());
    }
    for (target, moves) in moves {
        asked.entry(*target).or_default().extend(moves.iter().flat_map(|one| [Some(one.from.clone()), one.to.clone()]).flatten());
    }
    for ((entity, key), copy) in &job.reduced.copies {
        if copy.row.is_none() && job.model.table_if_any(*entity).is_some() {
            asked.entry(job.model.graph.key_target(*entity)).or_default().insert(key.clone());
        }
    }
    asked
}

fn verdict(model: &Model, subject: &Subject, moves: &[Move], presence: &Presence) -> State {
    let (target, key) = (subject.target, &subject.key);
    let present = |other: &Key| presence.was_asked(target, other) && presence.of(target, other);
    let is_open = |one: &Move| one.from == *key && one.state == crate::plan::MoveState::Open;
    if present(key) {
        // A key that lives again, with a key change of it still unworked: old and new children look alike (H23). Of another unique column it is
        // not known yet whether it changed with the row's key at all: the new row's record says so.
        return match moves.iter().find(|one| is_open(one)) {
            None => State::Alive,
            Some(Move { to: None, source: Some(_), .. }) => {
                State::Parked("wait", "the new row of its key change was not read yet".to_owned())
            }
            Some(_) => {
                State::Parked("ambiguous", "an old key lives again: the key alone cannot tell old children from new ones".to_owned())
            }
        };
    }
    let history = KeyHistory {
        key: key.clone(),
        deleted: subject.candidate.deleted,
        source: subject.candidate.source.clone(),
        keys_may_change: model.graph.keys_may_change(model.graph.target(target).entity),
    };
    match rule(&history, moves, &present) {
        Ruling::Gone => State::Root(Fate::Gone),
        Ruling::Moved(to) => State::Root(Fate::Moved(to)),
        Ruling::Park(detail) => State::Root(Fate::Unclear(detail)),
    }
}

impl Judged {
    /// The roots of the cascade; a root's id is its place in this list.
    pub(super) fn roots(&self, model: &Model) -> Vec<Root> {
        let mut rows: BTreeMap<(EntityId, String), ParentRow> = BTreeMap::new();
        let mut root = |subject: &Subject| {
            let State::Root(fate) = &subject.state else { return None };
            let next = ParentRow(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            let row = *rows.entry((model.graph.target(subject.target).entity, subject.change.clone())).or_insert(next);
            Some(Root { target: subject.target, key: subject.key.clone(), fate: fate.clone(), row, seen: subject.proven.clone() })
        };
        self.roots.iter().filter_map(|place| self.subjects.get(*place)).filter_map(&mut root).collect()
    }

    /// The subject of a root.
    pub(super) fn subject(&self, id: RootId) -> Option<&Subject> {
        self.subjects.get(*self.roots.get(id.0 as usize)?)
    }

    fn subject_mut(&mut self, id: RootId) -> Option<&mut Subject> {
        self.subjects.get_mut(*self.roots.get(id.0 as usize)?)
    }

    /// Cascade ids, by root.
    pub(super) fn cascade_ids(&self, job: &Job<'_>) -> Vec<String> {
        let id = |subject: &Subject| {
            let target = job.model.graph.target(subject.target);
            let entity = &job.model.graph.node(target.entity).name;
            apply::cascade_id(&job.engine.owner.group, entity, &target.columns, &subject.key, &subject.candidate.cause.to_string())
        };
        self.roots.iter().filter_map(|place| self.subjects.get(*place)).map(id).collect()
    }

    /// Takes out of the confirmed roots those that must wait: their entity's keys may change, rows point at them, and nothing proves yet that
    /// the last word on the key has been read. What was read now is what may go then.
    pub(super) async fn hold_back_the_unproven(
        &mut self,
        job: &mut Job<'_>,
        collected: &Collected,
        missing: BTreeSet<RootId>,
    ) -> Result<Confirmed, Failure> {
        let mut confirmed = Confirmed { doomed: missing, waiting: BTreeSet::new() };
        let mut ends: BTreeMap<EntityId, Option<u64>> = BTreeMap::new();
        for (id, root) in collected.roots() {
            let entity = job.model.graph.target(root.target).entity;
            let unseen = unseen(job.model, collected, root);
            if !confirmed.doomed.contains(&id) {
                self.unconfirmed(id, root);
                continue;
            }
            if let Fate::Unclear(detail) = root.fate {
                confirmed.doomed.remove(&id);
                confirmed.waiting.insert(id);
                let parked = State::Parked("ambiguous", detail.to_owned());
                self.set(id, if unseen.is_empty() { State::NoRows(root.fate.clone()) } else { parked });
                continue;
            }
            if !job.model.graph.keys_may_change(entity) {
                continue;
            }
            if unseen.is_empty() {
                if root.seen.is_none() {
                    confirmed.doomed.remove(&id);
                    self.set(id, State::NoRows(root.fate.clone()));
                }
                continue;
            }
            let end = match ends.get(&entity) {
                Some(end) => *end,
                None => {
                    let database = &job.model.databases.handle(job.model.table(entity).database).database;
                    let end = database.log_end().await?;
                    ends.insert(entity, end);
                    end
                }
            };
            if root.seen.is_none() {
                confirmed.doomed.remove(&id);
                confirmed.waiting.insert(id);
                self.set(id, State::Waiting);
            }
            if let Some(subject) = self.subject(id) {
                let pending = pending(job.model, subject, "wait", "the topic has not been read past the look-up yet");
                job.report.waiting.push(Waiting { pending, target: root.target, seen: unseen, looked_up_at: end });
            }
        }
        Ok(confirmed)
    }

    fn set(&mut self, id: RootId, state: State) {
        if let Some(subject) = self.subject_mut(id) {
            subject.state = state;
        }
    }

    /// The second look saw something else than the first.
    fn unconfirmed(&mut self, id: RootId, root: &Root) {
        let state = match root.fate {
            Fate::Gone | Fate::Unclear(_) => State::Alive,
            Fate::Moved(_) => State::Parked("ambiguous", "the key changed again while it was looked at".to_owned()),
        };
        self.set(id, state);
    }
}

/// What tells a change of a parent row: its position in the source's log, or its record if that is not known.
fn change(source: Option<&SourcePosition>, cause: &Position) -> String {
    source.map_or_else(|| cause.to_string(), ToString::to_string)
}

/// Rows that point at a root by a reference that acts, and that its proof does not cover.
fn unseen(model: &Model, collected: &Collected, root: &Root) -> BTreeSet<Seen> {
    let acting = |edge: &EdgeId| acts(model.graph.edge(*edge), &root.fate);
    let edges: Vec<EdgeId> = model.graph.edges_at(root.target).map(|(edge, _)| edge).filter(acting).collect();
    let open = collected.first_level(root, &edges).filter(|(edge, row)| !is_settled(model.graph.edge(*edge), &root.fate, row));
    let seen = open.map(|(edge, row)| Seen { edge, key: row.key.clone(), version: row.version.clone() });
    seen.filter(|row| root.seen.as_ref().is_none_or(|proven| !proven.contains(row))).collect()
}

/// A subject as the ledger keeps it.
pub(super) fn pending(model: &Model, subject: &Subject, reason: &str, detail: &str) -> Pending {
    let target = model.graph.target(subject.target);
    let kind = match (subject.candidate.deleted, subject.candidate.moved) {
        (true, _) => PendingKind::Gone,
        (false, true) => PendingKind::Moved,
        (false, false) => PendingKind::Hint,
    };
    Pending {
        entity: model.graph.node(target.entity).name.clone(),
        columns: target.columns.clone(),
        key: subject.key.clone(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        kind,
        cause: subject.candidate.cause.clone(),
        partition_known: subject.candidate.partition_known,
        source: subject.candidate.source.clone(),
    }
}
