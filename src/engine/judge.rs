//! Which parent keys of a batch are worth a cascade: the first look, what is known of each key, and the verdict.
//!
//! A key that plainly lives is dropped before any row is read (H3). One that is missing is judged by the key changes known of it. For entities
//! whose keys may change, a verdict stands only once it is proven: the topic has been read past the look-up (H114).

use std::collections::{BTreeMap, BTreeSet};

use super::job::{Failure, Job};
use super::left;
use super::subjects::{self, State, Subject};
use super::{Authority, Waiting};
use crate::graph::{Edge, EdgeId, Origin, TargetId};
use crate::ledger::{Pending, PendingKind};
use crate::model::Model;
use crate::plan::{Collected, Confirmed, Fate, KeyHistory, Move, MoveState, Root, RootId, Ruling, Seen, acts, is_change, is_settled, rule};
use crate::resolve::{self, Asked, Presence};
use crate::rules::{EntityId, Mode};
use crate::value::Key;

/// All subjects, and what the first look saw.
pub(super) struct Judged {
    pub(super) subjects: Vec<Subject>,
    pub(super) presence: Presence,
    /// Places of the roots among the subjects.
    roots: Vec<usize>,
}

/// Judges every candidate of the batch and every root that is tried again.
pub(super) async fn judge(job: &mut Job<'_>) -> Result<Judged, Failure> {
    let (mut subjects, moves) = subjects::gather(job).await?;
    let presence = resolve::look_up(job.model, &asked(job, &subjects, &moves)).await?;
    for subject in &mut subjects {
        let moves = moves.get(&subject.target).map_or(&[][..], Vec::as_slice);
        if !matches!(subject.state, State::Beside | State::Undone) {
            subject.state = verdict(job.model, subject, moves, &presence);
        }
        // What a database refuses would have it refuse what it is looked at beside.
        if matches!(subject.state, State::Root(_)) && subject.refused.is_some() && !subject.is_called {
            subject.state = State::Beside;
        }
        if subject.state == State::Alive {
            job.report.spared += 1;
        }
    }
    Ok(Judged { subjects, presence, roots: Vec::new() })
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
        if (copy.row.is_none() || copy.maybe_gone) && job.model.table_if_any(*entity).is_some() {
            asked.entry(job.model.graph.key_target(*entity)).or_default().insert(key.clone());
        }
    }
    asked
}

fn verdict(model: &Model, subject: &Subject, moves: &[Move], presence: &Presence) -> State {
    let (target, key) = (subject.target, &subject.key);
    let present = |other: &Key| presence.was_asked(target, other) && presence.of(target, other);
    let is_open = |one: &Move| one.from == *key && one.state == MoveState::Open;
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
    // Only what is known of key changes is held against these.
    let named = |fate: &Fate| if moves.is_empty() { BTreeSet::new() } else { enforced(model, target, fate) };
    let history = KeyHistory {
        key: key.clone(),
        deleted: subject.candidate.deleted,
        moved: subject.candidate.moved,
        source: subject.candidate.source.clone(),
        keys_may_change: model.graph.keys_may_change(model.graph.target(target).entity),
        may_refuse: model.graph.edges_at(target).any(|(edge, _)| model.graph.may_refuse(edge)),
        takes: named(&Fate::Gone),
        follows: named(&Fate::Moved(key.clone())),
    };
    // A tombstone alone does not tell the row's other unique values, and what may hold it back by them.
    let pointed_at = |target: &TargetId| model.graph.edges_at(*target).next().is_some();
    let targets = model.graph.targets_of(model.graph.target(target).entity).filter(|(target, _)| pointed_at(target)).count();
    if targets > 1 && !subject.candidate.deleted && !subject.candidate.moved {
        return State::Root(Fate::Unclear("only a tombstone says so, and not what else the row was known by"));
    }
    match rule(&history, moves, &present) {
        Ruling::Gone => State::Root(Fate::Gone),
        Ruling::Moved(to) => State::Root(Fate::Moved(to)),
        Ruling::Stays => State::Alive,
        Ruling::Park(detail) => State::Root(Fate::Unclear(detail)),
    }
}

/// The references that do something to rows of this target's whose parent has this fate.
fn enforced(model: &Model, target: TargetId, fate: &Fate) -> BTreeSet<String> {
    let edges =
        model.graph.edges_at(target).filter(|(_, edge)| edge.mode == Mode::Enforce && edge.origin != Origin::Native && acts(edge, fate));
    edges.map(|(_, edge)| edge.name.clone()).collect()
}

impl Judged {
    /// The roots of the cascade; a root's id is its place in this list.
    pub(super) fn roots(&mut self) -> Vec<Root> {
        let parked = self.subjects.iter().filter(|subject| matches!(subject.state, State::Parked(..)));
        let parked: BTreeSet<(TargetId, Key)> = parked.map(|subject| (subject.target, subject.key.clone())).collect();
        let beside: Vec<BTreeSet<(TargetId, Key)>> = self.subjects.iter().map(|subject| self.holding(subject, &parked)).collect();
        let looked_at: BTreeSet<&(TargetId, Key)> = beside.iter().flatten().collect();
        let mut roots = Vec::new();
        for ((place, subject), beside) in self.subjects.iter().enumerate().zip(&beside) {
            let fate = match &subject.state {
                State::Root(fate) => fate.clone(),
                State::Beside | State::Undone | State::Parked(..) | State::Alive
                    if looked_at.contains(&(subject.target, subject.key.clone())) =>
                {
                    Fate::Unclear("it is looked at for what holds its row back")
                }
                State::Beside | State::Undone | State::Parked(..) | State::Alive | State::Waiting | State::NoRows => continue,
            };
            roots.push(Root {
                target: subject.target,
                key: subject.key.clone(),
                fate,
                beside: beside.clone(),
                seen: subject.proven.clone(),
            });
            self.roots.push(place);
        }
        roots
    }

    /// What else a root's row was known by and may be held back by. Of a row that went, also a value that another row has now: what holds it
    /// holds it until that goes, or until the row itself returns. A row that lives under another key has the rest of its values still.
    fn holding(&self, subject: &Subject, parked: &BTreeSet<(TargetId, Key)>) -> BTreeSet<(TargetId, Key)> {
        let State::Root(fate) = &subject.state else { return BTreeSet::new() };
        let is_present = |(target, key): &(TargetId, Key)| self.presence.was_asked(*target, key) && self.presence.of(*target, key);
        let beside = subject.candidate.beside.iter();
        beside.filter(|value| *fate == Fate::Gone || !is_present(value) || parked.contains(value)).cloned().collect()
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
        self.roots.iter().filter_map(|place| self.subjects.get(*place)).map(|subject| subject.cascade_id(job)).collect()
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
            // A reference that is shut is not asked for its rows: there may be some.
            let is_followed = |edge: &Edge| edge.origin != Origin::Native && edge.mode == Mode::Enforce;
            let latched = job.model.graph.edges_at(root.target).find(|(id, edge)| is_followed(edge) && job.latched.contains(id));
            let left = left::at(job, collected, root).await?;
            let Some(subject) = self.subject_mut(id) else { continue };
            subject.left = left;
            let is_called = subject.is_called;
            let is_looked_at = matches!(subject.state, State::Beside | State::Undone | State::Parked(..) | State::Alive);
            let is_missing = confirmed.doomed.contains(&id);
            if is_looked_at {
                confirmed.doomed.remove(&id);
                confirmed.waiting.insert(id);
            } else if !is_missing && self.unconfirmed(id, root) {
                confirmed.waiting.insert(id);
            }
            if is_looked_at || !is_missing {
                continue;
            }
            if let Fate::Unclear(detail) = root.fate {
                confirmed.doomed.remove(&id);
                confirmed.waiting.insert(id);
                let is_held = latched.is_some() || !open_rows(job.model, collected, root).is_empty();
                self.set(id, if is_held { State::Parked("ambiguous", detail.to_owned()) } else { State::NoRows });
                continue;
            }
            if !job.model.graph.keys_may_change(entity) {
                continue;
            }
            if let Some((_, edge)) = latched {
                confirmed.doomed.remove(&id);
                confirmed.waiting.insert(id);
                self.set(id, State::Parked("latched", format!("reference `{}`", edge.name)));
                continue;
            }
            // A rehearsal shows what goes if it is proven: less cannot be let go, and nothing goes by it.
            if matches!(job.authority, Authority::Rehearsal { .. }) {
                continue;
            }
            let rows = open_rows(job.model, collected, root);
            if rows.iter().all(|row| root.seen.as_ref().is_some_and(|seen| seen.contains(row))) {
                continue;
            }
            // Two values of one row that is held back would have each other wait by turns for ever.
            if !is_called {
                confirmed.doomed.remove(&id);
                confirmed.waiting.insert(id);
                self.set(id, State::Beside);
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
                let (reason, detail) = subject.waits();
                let pending = pending(job.model, subject, reason, detail);
                job.report.waiting.push(Waiting { pending, target: root.target, seen: rows, looked_up_at: end });
            }
        }
        Ok(confirmed)
    }

    fn set(&mut self, id: RootId, state: State) {
        if let Some(subject) = self.subject_mut(id) {
            subject.state = state;
        }
    }

    /// The second look saw something else than the first. Whether it is left alone and listed.
    fn unconfirmed(&mut self, id: RootId, root: &Root) -> bool {
        let state = match root.fate {
            Fate::Gone => State::Alive,
            Fate::Unclear(_) | Fate::Moved(_) => State::Parked("ambiguous", "the key changed again while it was looked at".to_owned()),
        };
        let is_parked = state != State::Alive;
        self.set(id, state);
        is_parked
    }
}

/// Rows that point at a root and would change with it; of an unclear one, those that would if it were clear.
fn open_rows(model: &Model, collected: &Collected, root: &Root) -> BTreeSet<Seen> {
    let changes = |edge: &Edge| match root.fate {
        Fate::Unclear(_) => acts(edge, &root.fate),
        Fate::Gone | Fate::Moved(_) => is_change(edge, &root.fate),
    };
    let edges: Vec<EdgeId> = model.graph.edges_at(root.target).filter(|(_, edge)| changes(edge)).map(|(id, _)| id).collect();
    let open = collected.first_level(root, &edges).filter(|(edge, row)| !is_settled(model.graph.edge(*edge), &root.fate, row));
    open.map(|(edge, row)| Seen { edge, key: row.key.clone(), version: row.version.clone() }).collect()
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
        beside: subject.candidate.beside.iter().map(|(target, key)| (model.graph.target(*target).columns.clone(), key.clone())).collect(),
    }
}
