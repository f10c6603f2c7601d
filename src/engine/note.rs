//! What the ledger keeps of a batch: pending roots, key changes, latches, the audit, and last the progress.

use std::collections::{BTreeMap, BTreeSet};

use super::history;
use super::job::{Failure, Job};
use super::judge::{self, Judged};
use super::left;
use super::refused;
use super::subjects::{self, State, Subject};
use super::{Authority, Cascade, CascadeLine, LARGE, Outcome, PORTIONS, WHOLE};
use crate::apply;
use crate::change::{NextOffset, SourcePosition, TopicPartition};
use crate::databases::DatabaseId;
use crate::graph::TargetId;
use crate::ledger::{self, AuditLine, Pending, Reached};
use crate::plan::{Blocked, Fate, Move, MoveState, Plan, RootId};
use crate::sink::SinkError;
use crate::value::Key;

/// Writes all of it into the open sessions.
pub(super) async fn note(job: &mut Job<'_>, judged: &Judged, plan: &Plan) -> Result<(), Failure> {
    let settled = outcomes(job, judged, plan);
    write_pending(job, judged, &settled).await?;
    write_moves(job, judged, &settled).await?;
    audit(job, judged, plan).await?;
    // Behind the audit: a latch that shuts ends what a release had allowed, of which this batch has used its part.
    for (id, latches) in std::mem::take(&mut job.new_latches) {
        let Some(session) = job.sessions.get_mut(&id) else { continue };
        let dialect = job.model.databases.handle(id).database.dialect();
        ledger::shut(session.as_mut(), dialect, &job.engine.owner.group, &latches).await?;
    }
    advance(job, judged).await
}

/// How each subject ended, by its place; fills the report on the way. `true` is settled.
fn outcomes(job: &mut Job<'_>, judged: &Judged, plan: &Plan) -> Vec<bool> {
    let mut by_place: BTreeMap<(TargetId, Key), RootId> = BTreeMap::new();
    for id in (0..u32::MAX).map(RootId) {
        let Some(subject) = judged.subject(id) else { break };
        by_place.insert((subject.target, subject.key.clone()), id);
    }
    let mut settled = Vec::new();
    for subject in &judged.subjects {
        let id = by_place.get(&(subject.target, subject.key.clone()));
        let (outcome, parked) = outcome(job, subject, id.copied(), plan);
        settled.push(parked.is_none() && subject.state != State::Beside);
        if subject.state == State::Beside {
            continue;
        }
        match parked {
            Some(pending) => job.report.parked.push(pending),
            None => {
                job.report.settled_later += u64::from(subject.was_pending);
                job.report.settled.insert((subject.target, subject.key.clone()));
            }
        }
        let known = job.report.outcomes.entry(subject.told_at.clone()).or_insert(outcome);
        *known = (*known).max(outcome);
    }
    for (edge, rows) in &plan.orphans {
        *job.report.orphans.entry(job.model.graph.edge(*edge).name.clone()).or_default() += rows;
    }
    settled
}

fn outcome(job: &Job<'_>, subject: &Subject, id: Option<RootId>, plan: &Plan) -> (Outcome, Option<Pending>) {
    let park = |reason: &'static str, detail: &str| {
        let detail = refused::detail(subject, reason, detail);
        (Outcome::Parked(reason), Some(judge::pending(job.model, subject, reason, &detail)))
    };
    match &subject.state {
        State::Alive | State::NoRows | State::Beside | State::Undone => (Outcome::NoEffect, None),
        State::Parked(reason, detail) => park(reason, detail),
        State::Waiting => {
            let (reason, detail) = subject.waits();
            park(reason, detail)
        }
        State::Root(_) => {
            if let Some(blocked) = id.and_then(|id| plan.blocked.get(&id)) {
                let (reason, edge) = why(*blocked);
                return park(reason, &format!("reference `{}`", job.model.graph.edge(edge).name));
            }
            if id.is_some_and(|id| plan.unfinished.contains(&id)) {
                return park(PORTIONS, "it is worked a portion at a time, and more is left");
            }
            let rows = id.and_then(|id| plan.rows.get(&id)).copied().unwrap_or(0);
            let outcome = if rows > 0 { Outcome::Applied } else { Outcome::NoEffect };
            // Rows that came after the look-up wait for a look-up of their own.
            let waits_on = job.report.waiting.iter().any(|waiting| waiting.target == subject.target && waiting.pending.key == subject.key);
            (outcome, waits_on.then(|| judge::pending(job.model, subject, "wait", "rows came after the look-up")))
        }
    }
}

fn why(blocked: Blocked) -> (&'static str, crate::graph::EdgeId) {
    match blocked {
        Blocked::Restrict(edge) => ("restrict", edge),
        Blocked::Native(edge) => ("native-restrict", edge),
        Blocked::Latched(edge) => ("latched", edge),
        Blocked::RowsPerEvent(edge) => ("rows-per-event", edge),
        Blocked::Window(edge) => ("rows", edge),
        Blocked::Large(edge) => (LARGE, edge),
        Blocked::Whole(edge) => (WHOLE, edge),
    }
}

/// Every database that a root reaches keeps it, and is done with it in the transaction of its own rows: a crash between two commits leaves it
/// pending where its rows are left.
async fn write_pending(job: &mut Job<'_>, judged: &Judged, settled: &[bool]) -> Result<(), Failure> {
    let owner = job.engine.owner.clone();
    let mut parked: BTreeMap<DatabaseId, Vec<Pending>> = BTreeMap::new();
    for pending in &job.report.parked {
        let entity = job.model.entity_named(&pending.entity);
        for id in entity.map(|entity| job.model.reach(entity)).unwrap_or_default() {
            parked.entry(id).or_default().push(pending.clone());
        }
    }
    let mut gone: BTreeMap<DatabaseId, Vec<(String, Vec<String>, Key)>> = BTreeMap::new();
    for (subject, _) in judged.subjects.iter().zip(settled).filter(|(subject, settled)| **settled && subject.was_pending) {
        let target = job.model.graph.target(subject.target);
        let name = &job.model.graph.node(target.entity).name;
        for id in job.model.reach(target.entity) {
            gone.entry(id).or_default().push((name.clone(), target.columns.clone(), subject.key.clone()));
        }
    }
    for (id, session) in &mut job.sessions {
        let dialect = job.model.databases.handle(*id).database.dialect();
        if let Some(roots) = gone.get(id) {
            ledger::settle(session.as_mut(), dialect, &owner.group, roots).await?;
        }
        if let Some(roots) = parked.get(id) {
            ledger::park(session.as_mut(), dialect, &owner, roots).await?;
        }
    }
    Ok(())
}

async fn write_moves(job: &mut Job<'_>, judged: &Judged, settled: &[bool]) -> Result<(), Failure> {
    let group = job.engine.owner.group.clone();
    let reduced = &job.reduced;
    let of_events = reduced.moves.keys().chain(reduced.arrivals.keys()).chain(reduced.lived.keys().map(|(target, _)| target));
    let targets: BTreeSet<TargetId> = of_events.chain(judged.subjects.iter().map(|subject| &subject.target)).copied().collect();
    for target in targets {
        let label = history::label(job.model, target);
        let settled = judged.subjects.iter().zip(settled).filter(|(subject, settled)| **settled && subject.target == target);
        let settled: Vec<&Subject> = settled.map(|(subject, _)| subject).collect();
        let keys = |is_it: &dyn Fn(&Subject) -> bool| -> Vec<Key> {
            settled.iter().filter(|subject| is_it(subject)).map(|subject| subject.key.clone()).collect()
        };
        let done = keys(&has_moved);
        let is_worked = |subject: &Subject| matches!(subject.state, State::Root(Fate::Moved(_)) | State::NoRows);
        let left = settled.iter().filter(|subject| is_worked(subject) && subject.left.has_rows);
        let left: Vec<(&Key, &BTreeSet<String>)> = left.map(|subject| (&subject.key, &subject.left.seen_to)).collect();
        let empty = keys(&|subject| is_worked(subject) && !subject.left.has_rows);
        let lived = job.reduced.lived.iter().filter(|((of, _), _)| *of == target);
        let lived: BTreeMap<Key, Option<SourcePosition>> = lived.map(|((_, key), source)| (key.clone(), source.clone())).collect();
        let moves = job.reduced.moves.get(&target).cloned().unwrap_or_default();
        let arrivals = job.reduced.arrivals.get(&target).cloned().unwrap_or_default();
        for (session, dialect) in subjects::homes(job, target) {
            ledger::note_moves(session, dialect, &group, &label, &moves).await?;
            ledger::note_arrivals(session, dialect, &group, &label, &arrivals).await?;
            ledger::set_moves(session, dialect, &group, &label, &done, (MoveState::Open, MoveState::Done)).await?;
            ledger::leave(session, dialect, &group, &label, &left).await?;
            ledger::set_moves(session, dialect, &group, &label, &empty, (MoveState::Left, MoveState::Done)).await?;
            ledger::set_moves(session, dialect, &group, &label, &empty, (MoveState::Reused, MoveState::Superseded)).await?;
        }
        put_behind(job, target, &label, &lived).await?;
    }
    Ok(())
}

/// Key changes whose old key had a later event of its own are no longer the last word on it. Rows that stayed behind may be gone by now: then the
/// key is its next row's own.
async fn put_behind(
    job: &mut Job<'_>,
    target: TargetId,
    label: &str,
    lived: &BTreeMap<Key, Option<SourcePosition>>,
) -> Result<(), Failure> {
    let group = job.engine.owner.group.clone();
    let mut behind = Vec::new();
    for (session, dialect) in subjects::homes(job, target) {
        behind.extend(superseded(session, dialect, &group, label, lived).await?);
    }
    let left: BTreeSet<&Key> = behind.iter().filter(|one| one.state == MoveState::Left).map(|one| &one.from).collect();
    let mut free = Vec::new();
    for key in left {
        if !left::has_rows(job, target, key).await? {
            free.push(key.clone());
        }
    }
    for (session, dialect) in subjects::homes(job, target) {
        ledger::set_moves(session, dialect, &group, label, &free, (MoveState::Left, MoveState::Done)).await?;
        ledger::supersede(session, dialect, &group, label, &behind).await?;
    }
    Ok(())
}

/// Whether the key's open key changes are done with. Rows of a reference that does not follow may stay behind: until they are gone the change is not
/// done with, as the key's next row is not their parent (H23).
fn has_moved(subject: &Subject) -> bool {
    match &subject.state {
        // What is still open of a key that lives has turned out to be no change of it.
        State::Alive => true,
        State::NoRows | State::Root(Fate::Moved(_)) => !subject.left.has_rows,
        State::Root(_) | State::Parked(..) | State::Waiting | State::Beside | State::Undone => false,
    }
}

/// Finished key changes whose old key had a later event of its own: they are no longer the last word on it.
async fn superseded(
    session: &mut dyn crate::sink::Session,
    dialect: crate::sink::Dialect,
    group: &str,
    label: &str,
    lived: &BTreeMap<Key, Option<SourcePosition>>,
) -> Result<Vec<Move>, SinkError> {
    let keys: BTreeSet<Key> = lived.keys().cloned().collect();
    let known = ledger::moves(session, dialect, group, label, &keys).await?;
    let is_history = |one: &Move| {
        let later = lived.get(&one.from).and_then(Option::as_ref);
        let compared = later.zip(one.source.as_ref()).and_then(|(later, made)| later.compare(made));
        matches!(one.state, MoveState::Done | MoveState::Left) && compared == Some(std::cmp::Ordering::Greater)
    };
    Ok(known.into_iter().filter(is_history).collect())
}

/// One line per root and reference, in the database of the rows; and the windows of the references.
async fn audit(job: &mut Job<'_>, judged: &Judged, plan: &Plan) -> Result<(), Failure> {
    let ids = judged.cascade_ids(job);
    let mut lines: BTreeMap<DatabaseId, BTreeMap<(RootId, String, &'static str), AuditLine>> = BTreeMap::new();
    let mut charged: BTreeMap<DatabaseId, BTreeMap<String, u64>> = BTreeMap::new();
    let mut cascades: BTreeMap<RootId, Cascade> = BTreeMap::new();
    for step in plan.steps.iter().rev().chain(&plan.followed) {
        let database = job.model.table(step.entity).database;
        let reference = apply::edge_names(job.model, &step.edges);
        for edge in &step.edges {
            let name = job.model.graph.edge(*edge).name.clone();
            let rows = u64::try_from(step.rows.len()).unwrap_or(u64::MAX);
            *charged.entry(database).or_default().entry(name.clone()).or_default() += rows;
            *job.report.rows.entry(name).or_default() += rows;
        }
        for row in &step.rows {
            let (Some(subject), Some(cascade)) = (judged.subject(row.root), ids.get(row.root.0 as usize)) else { continue };
            let root_entity = job.model.graph.node(job.model.graph.target(subject.target).entity).name.clone();
            let action = step.action.as_str();
            let line = lines.entry(database).or_default().entry((row.root, reference.clone(), action)).or_insert_with(|| AuditLine {
                cascade: cascade.clone(),
                reference: reference.clone(),
                action,
                rows: 0,
                root_entity: root_entity.clone(),
                root_columns: job.model.graph.target(subject.target).columns.clone(),
                root_key: subject.key.clone(),
                cause: subject.candidate.cause.clone(),
                root_source: subject.candidate.source.clone(),
                root_transaction: subject.candidate.transaction.clone(),
                root_last: subject.candidate.last.clone(),
                root_moved: matches!(subject.state, State::Root(Fate::Moved(_))),
            });
            line.rows += 1;
            let told = cascades.entry(row.root).or_insert_with(|| Cascade {
                id: cascade.clone(),
                entity: root_entity,
                key: subject.key.clone(),
                cause: subject.candidate.cause.clone(),
                lines: Vec::new(),
            });
            let entity = &job.model.graph.node(step.entity).name;
            match told.lines.iter_mut().find(|line| line.entity == *entity && line.reference == reference && line.action == action) {
                Some(line) => line.rows += 1,
                None => told.lines.push(CascadeLine { entity: entity.clone(), reference: reference.clone(), action, rows: 1 }),
            }
        }
    }
    job.report.cascades = cascades.into_values().collect();
    let (group, limits) = (job.engine.owner.group.clone(), job.model.rules.limits.rows);
    let in_shadow = job.shadow_by_database();
    for (id, session) in &mut job.sessions {
        let dialect = job.model.databases.handle(*id).database.dialect();
        if let Some(lines) = lines.remove(id) {
            let lines: Vec<AuditLine> = lines.into_values().collect();
            ledger::audit(session.as_mut(), dialect, &group, &lines).await?;
        }
        if let Some(rows) = in_shadow.get(id) {
            ledger::count_shadow(session.as_mut(), dialect, &group, rows).await?;
        }
        if let Some(rows) = charged.get(id).filter(|_| !job.authority.is_dry()) {
            let (released, others): (BTreeMap<String, u64>, BTreeMap<String, u64>) =
                rows.iter().map(|(name, rows)| (name.clone(), *rows)).partition(|(name, _)| job.allowed.contains_key(name));
            let used = ledger::charge(session.as_mut(), dialect, &group, limits.per, &others).await?;
            let is_spent = ledger::spend(session.as_mut(), dialect, &group, &released).await?;
            let is_over = |(name, used): (&String, &u64)| *used > job.window.get(name).copied().unwrap_or(limits.count);
            if !is_spent || used.iter().any(is_over) {
                // Another worker used it up meanwhile: do the batch again, against what is left now.
                let what = "charging the row windows".to_owned();
                return Err(SinkError::Answer { what, expected: "room in the window".to_owned(), got: "none left".to_owned() }.into());
            }
        }
    }
    Ok(())
}

/// The last statement of every transaction: the progress, under the epoch. Roots that are tried again move nothing, and need the epoch of their
/// partition all the same (H31).
async fn advance(job: &mut Job<'_>, judged: &Judged) -> Result<(), Failure> {
    let Authority::Owner(epochs) = job.authority else { return Ok(()) };
    for (id, session) in &mut job.sessions {
        let handle = job.model.databases.handle(*id);
        let mut steps: BTreeMap<TopicPartition, Reached> = BTreeMap::new();
        let again = judged.subjects.iter().filter(|subject| subject.was_pending).map(|subject| &subject.candidate.cause.partition);
        let held = again.map(|partition| (partition, &NextOffset::NOWHERE));
        for (partition, next) in held.chain(&job.batch.progress) {
            if !job.model.reach_of_topic(&partition.topic).contains(id) {
                continue;
            }
            let Some(epoch) = epochs.get(&(*id, partition.clone())) else {
                return Err(SinkError::Fenced { database: handle.name.clone(), partition: partition.to_string() }.into());
            };
            let last = job.batch.last.get(partition).cloned();
            steps.insert(partition.clone(), Reached { epoch: *epoch, next: *next, last });
        }
        ledger::advance(session.as_mut(), handle.database.dialect(), &handle.name, &job.engine.owner, &steps).await?;
    }
    Ok(())
}
