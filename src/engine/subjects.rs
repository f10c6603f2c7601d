//! Which parent keys a batch is about: those that its events and retries name, and what the ledger knows of them and of their rows.

use std::collections::{BTreeMap, BTreeSet};

use super::history;
use super::job::{Failure, Job};
use super::left::Left;
use super::{REFUSED, refusal};
use crate::apply;
use crate::change::Position;
use crate::graph::TargetId;
use crate::ledger::{self, Pending, PendingKind};
use crate::model::Model;
use crate::plan::{Candidate, Fate, Move, Seen, came_from};
use crate::rules::EntityId;
use crate::sink::{Dialect, Session, SinkError};
use crate::value::Key;

/// A parent key of the batch.
pub(super) struct Subject {
    pub(super) target: TargetId,
    pub(super) key: Key,
    /// What the events and the ledger say of it.
    pub(super) candidate: Candidate,
    /// The record of this batch that names it; of one that is tried again, the record that did.
    pub(super) told_at: Position,
    /// Records that brought it before: an earlier attempt may have worked in their name.
    pub(super) brought_by: BTreeSet<Position>,
    /// The ledger holds it as pending.
    pub(super) was_pending: bool,
    /// Why a database refused it when it was tried last.
    pub(super) refused: Option<String>,
    /// Its turn has come: this batch tells of it or tries it again. Of what is only looked at beside another, its own turn is still to come.
    pub(super) is_called: bool,
    /// The child rows that a proven verdict may touch.
    pub(super) proven: Option<BTreeSet<Seen>>,
    /// Rows that point at it and stay as they are.
    pub(super) left: Left,
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
    /// What became of it is unclear, and no child row points at it.
    NoRows,
    /// Nothing was told of it now: another unique value of some subject's row, looked at for what holds that row back.
    Beside,
    /// What was told of it was undone since, and nothing newer was told (H92).
    Undone,
}

/// All that the batch, the roots that are tried again and the ledger name, and the key changes of all of it.
pub(super) async fn gather(job: &mut Job<'_>) -> Result<(Vec<Subject>, BTreeMap<TargetId, Vec<Move>>), Failure> {
    let mut subjects = told(job);
    add_completed(job, &mut subjects).await?;
    merge_pending(job, &mut subjects).await?;
    let moves = add_beside(job, &mut subjects).await?;
    mark_undone(job, &mut subjects).await?;
    Ok((subjects, moves))
}

/// What a person has undone is not done again by what had been told before: by a repeat, a replay, or a root that is tried again.
async fn mark_undone(job: &mut Job<'_>, subjects: &mut [Subject]) -> Result<(), Failure> {
    let told: Vec<&Subject> = subjects.iter().filter(|subject| subject.state != State::Beside).collect();
    let undone: BTreeSet<(TargetId, Key)> =
        undone(job, &told).await?.into_iter().map(|subject| (subject.target, subject.key.clone())).collect();
    for subject in subjects.iter_mut().filter(|subject| subject.state != State::Beside) {
        if undone.contains(&(subject.target, subject.key.clone())) {
            subject.state = State::Undone;
        }
    }
    Ok(())
}

/// Looks once more before the commits: what was undone while this batch was worked may have brought back the very rows that it took.
pub(super) async fn look_for_undone(job: &mut Job<'_>, subjects: &[Subject]) -> Result<(), Failure> {
    let roots: Vec<&Subject> = subjects.iter().filter(|subject| matches!(subject.state, State::Root(_))).collect();
    let partitions = roots.iter().map(|subject| subject.candidate.cause.partition.clone()).collect();
    let (group, model) = (job.engine.owner.group.clone(), job.model);
    for (id, session) in &mut job.sessions {
        let dialect = model.databases.handle(*id).database.dialect();
        ledger::hold(session.as_mut(), dialect, &group, &partitions, false).await?;
    }
    if undone(job, &roots).await?.is_empty() {
        return Ok(());
    }
    let what = "looking for what was undone meanwhile".to_owned();
    Err(SinkError::Answer { what, expected: "nothing".to_owned(), got: "a root of this batch".to_owned() }.into())
}

/// Those of the subjects that were undone, and of which nothing newer was told.
async fn undone<'s>(job: &mut Job<'_>, subjects: &[&'s Subject]) -> Result<Vec<&'s Subject>, Failure> {
    let model = job.model;
    let name = |subject: &Subject| {
        let target = model.graph.target(subject.target);
        (model.graph.node(target.entity).name.clone(), target.columns.clone(), subject.key.clone())
    };
    let asked: Vec<_> = subjects.iter().map(|subject| name(subject)).collect();
    let group = job.engine.owner.group.clone();
    let mut undone = Vec::new();
    for (id, session) in &mut job.sessions {
        let dialect = model.databases.handle(*id).database.dialect();
        undone.extend(ledger::undone(session.as_mut(), dialect, &group, &asked).await?);
    }
    let is_undone = |subject: &&&Subject| {
        let (entity, columns, key) = name(subject);
        let is_it = |one: &&ledger::UndoneRoot| (&one.entity, &one.columns, &one.key) == (&entity, &columns, &key);
        undone.iter().filter(is_it).any(|one| is_old(one, &subject.candidate))
    };
    Ok(subjects.iter().filter(is_undone).copied().collect())
}

/// Whether all that was told of a root had been told when it was undone.
fn is_old(undone: &ledger::UndoneRoot, told: &Candidate) -> bool {
    let by_offset = undone.partition == told.last.partition && told.last.offset < undone.below.0;
    match (&undone.source, &told.source) {
        (Some(then), Some(now)) => match now.compare(then) {
            Some(order) => order != std::cmp::Ordering::Greater,
            None => by_offset,
        },
        // A tombstone alone tells nothing that its delete had not told.
        (Some(_), None) if !told.deleted && !told.moved => true,
        (Some(_), None) | (None, _) => by_offset,
    }
}

/// What the events and the retries name.
fn told(job: &Job<'_>) -> Vec<Subject> {
    let mut subjects: BTreeMap<(TargetId, Key), Subject> = BTreeMap::new();
    for ((target, key), candidate) in &job.reduced.candidates {
        let subject = Subject::new(*target, key.clone(), candidate.clone());
        subjects.insert((*target, key.clone()), subject);
    }
    for retry in &job.batch.retries {
        let Some(target) = target_of(job.model, &retry.pending) else { continue };
        let key = retry.pending.key.clone();
        match subjects.get_mut(&(target, key.clone())) {
            // News of the key say more about it; they do not undo what was proven before.
            Some(known) => {
                known.add(job.model, &retry.pending);
                known.proven.clone_from(&retry.proven);
            }
            None => {
                let mut subject = subject_of(job.model, target, &retry.pending);
                subject.proven.clone_from(&retry.proven);
                subjects.insert((target, key), subject);
            }
        }
    }
    subjects.into_values().collect()
}

fn subject_of(model: &Model, target: TargetId, pending: &Pending) -> Subject {
    let mut subject = Subject::new(target, pending.key.clone(), Candidate::new(pending.cause.clone(), pending.partition_known));
    subject.add(model, pending);
    subject
}

impl Subject {
    fn new(target: TargetId, key: Key, candidate: Candidate) -> Self {
        let told_at = candidate.cause.clone();
        Self {
            target,
            key,
            candidate,
            told_at,
            brought_by: BTreeSet::new(),
            was_pending: false,
            refused: None,
            is_called: true,
            proven: None,
            left: Left::default(),
            state: State::Alive,
        }
    }

    /// What the ledger says of it while it waits for its proof: reason and detail.
    pub(super) fn waits(&self) -> (&'static str, &str) {
        self.refused.as_deref().map_or(("wait", "the topic has not been read past the look-up yet"), |why| (REFUSED, why))
    }

    /// The id of its cascade: the same whenever the same record is worked.
    pub(super) fn cascade_id(&self, job: &Job<'_>) -> String {
        self.cascade_of(job, &self.candidate.cause)
    }

    /// The same, and those of earlier attempts at it.
    pub(super) fn cascades(&self, job: &Job<'_>) -> BTreeSet<String> {
        self.brought_by.iter().chain([&self.candidate.cause]).map(|cause| self.cascade_of(job, cause)).collect()
    }

    fn cascade_of(&self, job: &Job<'_>, cause: &Position) -> String {
        let target = job.model.graph.target(self.target);
        let entity = &job.model.graph.node(target.entity).name;
        apply::cascade_id(&job.engine.owner.group, entity, &target.columns, &self.key, &cause.to_string())
    }

    /// What an earlier batch knew of the key still counts.
    fn add(&mut self, model: &Model, pending: &Pending) {
        let entity = model.graph.target(self.target).entity;
        self.brought_by.insert(pending.cause.clone());
        self.refused = self.refused.take().or_else(|| refusal(&pending.reason, &pending.detail).map(str::to_owned));
        // The record that began it keeps its name: a tombstone of a later batch begins nothing, and an heir finds what an earlier attempt took (H47).
        let cause = &mut self.candidate.cause;
        if pending.cause.partition == cause.partition && pending.cause.offset < cause.offset {
            cause.clone_from(&pending.cause);
        }
        match pending.kind {
            PendingKind::Gone => self.candidate.delete(pending.source.as_ref(), None),
            PendingKind::Moved => self.candidate.moved = true,
            PendingKind::Hint => {}
        }
        if self.candidate.source.is_none() {
            self.candidate.source.clone_from(&pending.source);
        }
        let beside = pending.beside.iter().filter_map(|(columns, key)| Some((target_with(model, entity, columns)?, key.clone())));
        self.candidate.beside.extend(beside);
        self.was_pending = true;
    }
}

fn target_with(model: &Model, entity: EntityId, columns: &[String]) -> Option<TargetId> {
    model.graph.targets_of(entity).find(|(_, target)| target.columns == columns).map(|(id, _)| id)
}

fn target_of(model: &Model, pending: &Pending) -> Option<TargetId> {
    let entity = model.entity_named(&pending.entity)?;
    target_with(model, entity, &pending.columns)
}

/// The sessions that keep what is known of a target: every database that a change of it reaches keeps all of it, so that each can be done with
/// it in the transaction of its own rows.
pub(super) fn homes<'a>(job: &'a mut Job<'_>, target: TargetId) -> Vec<(&'a mut dyn Session, Dialect)> {
    let (model, entity) = (job.model, job.model.graph.target(target).entity);
    let reach = model.reach(entity);
    let reached = job.sessions.iter_mut().filter(|(id, _)| reach.contains(id));
    reached.map(|(id, session)| (session.as_mut() as &mut dyn Session, model.databases.handle(*id).database.dialect())).collect()
}

/// Roots that the ledger holds as pending keep what was known of them.
async fn merge_pending(job: &mut Job<'_>, subjects: &mut [Subject]) -> Result<(), Failure> {
    let values = subjects.iter().map(|subject| (subject.target, subject.key.clone())).collect();
    let pending = known_pending(job, values).await?;
    for subject in subjects {
        for pending in pending.get(&(subject.target, subject.key.clone())).into_iter().flatten() {
            subject.add(job.model, pending);
        }
    }
    Ok(())
}

/// What the ledger holds as pending of these values.
async fn known_pending(job: &mut Job<'_>, values: BTreeSet<(TargetId, Key)>) -> Result<BTreeMap<(TargetId, Key), Vec<Pending>>, Failure> {
    let mut keys: BTreeMap<TargetId, Vec<Key>> = BTreeMap::new();
    for (target, key) in values {
        keys.entry(target).or_default().push(key);
    }
    let mut all: BTreeMap<(TargetId, Key), Vec<Pending>> = BTreeMap::new();
    for (target, keys) in keys {
        let columns = job.model.graph.target(target);
        let (entity, columns) = (job.model.graph.node(columns.entity).name.clone(), columns.columns.clone());
        let group = job.engine.owner.group.clone();
        for (session, dialect) in homes(job, target) {
            let found = ledger::pending_by_key(session, dialect, &group, &entity, &keys).await?;
            for pending in found.into_iter().filter(|pending| pending.columns == columns) {
                all.entry((target, pending.key.clone())).or_default().push(pending);
            }
        }
    }
    Ok(all)
}

/// Values whose key change was known by half, and whose new row this batch tells of.
async fn add_completed(job: &mut Job<'_>, subjects: &mut Vec<Subject>) -> Result<(), Failure> {
    let mut known: BTreeSet<(TargetId, Key)> = subjects.iter().map(|subject| (subject.target, subject.key.clone())).collect();
    for (target, arrivals) in job.reduced.arrivals.clone() {
        for (key, source, cause) in history::completed(job, target, &arrivals).await? {
            if known.insert((target, key.clone())) {
                let candidate = Candidate { moved: true, source: Some(source), ..Candidate::new(cause, false) };
                subjects.push(Subject::new(target, key, candidate));
            }
        }
    }
    Ok(())
}

/// Adds what else the subjects' rows were known by: other unique values, and values that changed to these, as long as the change is not worked.
/// Those that are pending and ours are judged again, the others looked at: what a `restrict` refuses, it refuses for the row (H26). Returns the key
/// changes of all.
async fn add_beside(job: &mut Job<'_>, subjects: &mut Vec<Subject>) -> Result<BTreeMap<TargetId, Vec<Move>>, Failure> {
    let mut known: BTreeSet<(TargetId, Key)> = subjects.iter().map(|subject| (subject.target, subject.key.clone())).collect();
    loop {
        let moves = history::of(job, subjects).await?;
        for subject in subjects.iter_mut() {
            let of = |target: &TargetId| moves.get(target).map_or(&[][..], Vec::as_slice);
            let own = (subject.target, subject.key.clone());
            let values = subject.candidate.beside.iter().chain([&own]);
            let before: BTreeSet<_> =
                values.flat_map(|(target, key)| came_from(key, of(target)).into_iter().map(|from| (*target, from))).collect();
            subject.candidate.beside.extend(before.into_iter().filter(|value| *value != own));
        }
        let beside = subjects.iter().flat_map(|subject| &subject.candidate.beside);
        let new: BTreeSet<(TargetId, Key)> = beside.filter(|value| !known.contains(value)).cloned().collect();
        if new.is_empty() {
            return Ok(moves);
        }
        let pending = known_pending(job, new.clone()).await?;
        let cause = subjects.first().map(|subject| subject.candidate.cause.clone());
        for (target, key) in new {
            known.insert((target, key.clone()));
            let ours = pending.get(&(target, key.clone())).into_iter().flatten().filter(|pending| job.may_work(&pending.cause.partition));
            if let [first, others @ ..] = ours.collect::<Vec<_>>().as_slice() {
                let mut subject = subject_of(job.model, target, first);
                others.iter().for_each(|other| subject.add(job.model, other));
                subject.is_called = false;
                subjects.push(subject);
            } else if let Some(cause) = cause.clone() {
                subjects.push(Subject { state: State::Beside, ..Subject::new(target, key, Candidate::new(cause, false)) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{NextOffset, SourcePosition, TopicPartition};
    use crate::model::on_files::Services;

    #[test]
    fn h92_what_was_told_before_the_undo_is_old_by_the_source_and_else_by_the_offset() {
        let place = |partition, offset| Position { partition: TopicPartition { topic: "crm.customers".into(), partition }, offset };
        let source = |name: &str, lsn| Some(SourcePosition { source: name.into(), order: vec![lsn] });
        let undone = |source| ledger::UndoneRoot {
            entity: "crm.customers".to_owned(),
            columns: vec!["id".to_owned()],
            key: Key::from_cells([&crate::value::Cell::Value("1".to_owned())]).expect("a value"),
            partition: place(0, 0).partition,
            source,
            below: NextOffset(10),
        };
        let told = |at: Position, source| Candidate { deleted: true, source, ..Candidate::new(at, true) };
        let (then, late) = (undone(source("crm", 50)), place(0, 99));
        assert!(is_old(&then, &told(late.clone(), source("crm", 50))));
        assert!(is_old(&then, &told(late.clone(), source("crm", 49))));
        assert!(!is_old(&then, &told(place(0, 0), source("crm", 51))), "the source made it later");
        // Where the source does not say, the partition does.
        for undone in [undone(None), then.clone()] {
            for source in [None, source("another", 1)] {
                assert!(is_old(&undone, &told(place(0, 9), source.clone())));
                assert!(is_old(&undone, &told(place(0, 0), source.clone())));
                assert!(!is_old(&undone, &told(place(0, 10), source.clone())));
                assert!(!is_old(&undone, &told(place(0, 11), source.clone())));
                assert!(!is_old(&undone, &told(place(1, 9), source)), "another partition");
            }
        }
        let tombstone = Candidate::new(late.clone(), true);
        assert!(is_old(&then, &tombstone), "it tells nothing that its delete had not told");
        assert!(!is_old(&undone(None), &tombstone));
        assert!(!is_old(&then, &Candidate { moved: true, ..tombstone }));
    }
    #[tokio::test]
    async fn h47_a_root_that_was_known_keeps_the_record_that_began_it_and_what_was_known_of_it() {
        let services = Services::open("subjects").await;
        let model = services.bind().await;
        let target = model.graph.key_target(model.entity_named("crm.customer").expect("customers"));
        let key = Key::from_cells([&crate::value::Cell::Value("1".to_owned())]).expect("a value");
        let at = |partition, offset| Position { partition: TopicPartition { topic: "customers".into(), partition }, offset };
        let source = |lsn| Some(SourcePosition { source: "crm".into(), order: vec![lsn] });
        let pending = |cause, kind, source| Pending {
            entity: "crm.customer".to_owned(),
            columns: vec!["id".to_owned()],
            key: key.clone(),
            reason: "wait".to_owned(),
            detail: String::new(),
            kind,
            cause,
            partition_known: true,
            source,
            beside: vec![(vec!["id".to_owned()], key.clone()), (vec!["code".to_owned()], key.clone())],
        };
        let with = |pending: Pending| {
            let mut subject = Subject::new(target, key.clone(), Candidate::new(at(0, 7), true));
            subject.add(&model, &pending);
            subject
        };
        let cause = |offset, partition| with(pending(at(partition, offset), PendingKind::Hint, None)).candidate.cause;
        assert_eq!([cause(6, 0), cause(7, 0), cause(8, 0)], [at(0, 6), at(0, 7), at(0, 7)]);
        assert_eq!(cause(6, 1), at(0, 7), "offsets of two partitions say nothing of each other");
        let told = with(pending(at(0, 6), PendingKind::Gone, source(5)));
        assert_eq!((told.candidate.deleted, told.candidate.moved, told.candidate.source.clone()), (true, false, source(5)));
        assert_eq!(told.candidate.beside, BTreeSet::from([(target, key.clone())]), "a column that nothing points at is left out");
        assert!(told.was_pending && told.told_at == at(0, 7), "what is told now is told of this record");
        let moved = with(pending(at(0, 6), PendingKind::Moved, source(5)));
        assert_eq!((moved.candidate.deleted, moved.candidate.moved), (false, true));
    }
}
