//! A batch of events to what has to be looked into: one candidate per parent key, one copy per replica row, and every key change.
//!
//! One ordered reduction per key that keeps what matters of every event (H22): that a key was deleted, that it changed, where the source made
//! its last change. A key change is never reduced away. Each record answers for the candidates of which it is the cause; the others of the
//! same key have no effect of their own. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Arrival, Move, MoveState};
use crate::change::{ChangeEvent, Operation, Position, SourcePosition};
use crate::graph::{Graph, TargetId};
use crate::rules::EntityId;
use crate::value::{Cell, Key, RowImage};

/// A parent key that may be gone or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Some event said in so many words that the row was deleted.
    pub deleted: bool,
    /// Some event said that the key changed.
    pub moved: bool,
    /// Where the source made the last change of it: of a deleted one, the last delete.
    pub source: Option<SourcePosition>,
    /// The source's transaction that did, if known.
    pub transaction: Option<String>,
    /// The record that answers for it.
    pub cause: Position,
    /// The last record that named it.
    pub last: Position,
    /// `cause` stands on the key's own partition, and all other events on it do.
    pub partition_known: bool,
    /// The other unique values that its row had when it went.
    pub beside: BTreeSet<(TargetId, Key)>,
}

impl Candidate {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(cause: Position, partition_known: bool) -> Self {
        let last = cause.clone();
        Self { deleted: false, moved: false, source: None, transaction: None, cause, last, partition_known, beside: BTreeSet::new() }
    }

    /// Some event told of the row's end at this position. The last one counts, in whatever order they are read.
    pub fn delete(&mut self, source: Option<&SourcePosition>, transaction: Option<&String>) {
        if !self.deleted || !is_older(source, self.source.as_ref()) {
            self.source = source.cloned().or_else(|| self.source.take());
            self.transaction = transaction.cloned().or_else(|| self.transaction.take());
        }
        self.deleted = true;
    }
}

/// What is to be done with a row of an entity's copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The last event's row; `None` if it says that the row is gone.
    pub row: Option<RowImage>,
    /// The row must be read from its owner: the event could not be read exactly, or has no position to compare.
    pub reread: bool,
    /// Where the source made the change.
    pub source: Option<SourcePosition>,
    /// The event repeats a row that a snapshot read: changes with earlier positions, not committed then, may still come.
    pub snapshot: bool,
    /// A delete with an earlier position came beside the snapshot's row.
    pub maybe_gone: bool,
    /// The record that answers for it.
    pub cause: Position,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub struct Reduced {
    /// Parent keys to look into.
    pub candidates: BTreeMap<(TargetId, Key), Candidate>,
    /// Key changes, in the order read.
    pub moves: BTreeMap<TargetId, Vec<(Move, Position)>>,
    /// Where other unique columns of rows stood when their keys had changed: the second halves of key changes.
    pub arrivals: BTreeMap<TargetId, Vec<(Arrival, Position)>>,
    /// Keys that had an insert, update or delete of their own, with the last position: a finished key change before it is history.
    pub lived: BTreeMap<(TargetId, Key), Option<SourcePosition>>,
    /// Rows of copies, per entity.
    pub copies: BTreeMap<(EntityId, Key), Copy>,
    /// Entities whose table was truncated.
    pub truncated: BTreeMap<EntityId, Position>,
}

/// Reduces events, in the order read. `copied` says which entities have replicas.
#[must_use]
pub fn reduce(graph: &Graph, copied: &BTreeSet<EntityId>, events: &[(Position, ChangeEvent)]) -> Reduced {
    let mut reducer = Reducer { graph, copied, reduced: Reduced::default() };
    for (at, event) in events {
        reducer.take(at, event);
    }
    reducer.pair_by_position(events);
    reducer.reduced
}

struct Reducer<'a> {
    graph: &'a Graph,
    copied: &'a BTreeSet<EntityId>,
    reduced: Reduced,
}

impl Reducer<'_> {
    fn take(&mut self, at: &Position, event: &ChangeEvent) {
        let entity = event.entity;
        let target = self.graph.key_target(entity);
        match &event.operation {
            Operation::Upsert { key, moved_from } => {
                if let Some(old) = moved_from.as_ref().filter(|old| *old != key) {
                    self.moved(at, event, target, (old, Some(key)), Word::MovedElsewhere);
                    self.arrived(at, event);
                }
                self.lived(target, key.clone(), event);
                self.other_columns_changed(at, event);
                let row = Some(event.after.clone());
                self.copy(at, event, key, row, event.reread || event.source.is_none());
            }
            Operation::Delete { key } => {
                self.candidate(at, event, target, key.clone(), Word::Deleted);
                self.lived(target, key.clone(), event);
                self.other_columns_gone(at, event);
                self.went_together(event, key, None);
                self.copy(at, event, key, None, false);
            }
            Operation::KeyChange { key, to } => {
                // A key that "changed" to itself is a row moved between partitions of its table: it lives, or the look-up will say.
                if to.as_ref() == Some(key) {
                    self.candidate(at, event, target, key.clone(), Word::Deleted);
                } else {
                    self.moved(at, event, target, (key, to.as_ref()), Word::Moved);
                }
                // Whether the row's other unique columns changed with it, the new row will say, perhaps on another partition: see `arrived`.
                for (other, columns) in self.other_targets(entity) {
                    if let Some(value) = key_in(&columns, &event.before) {
                        self.moved(at, event, other, (&value, None), Word::Moved);
                    }
                }
                self.went_together(event, key, None);
                self.copy(at, event, key, None, false);
            }
            Operation::Hint { key } => {
                self.candidate(at, event, target, key.clone(), Word::Hint);
                self.copy(at, event, key, None, false);
            }
            Operation::Truncate => {
                self.reduced.truncated.insert(entity, at.clone());
            }
        }
    }

    /// The new row of a key change says what became of the other unique columns; where the source made it tells to which old row it belongs.
    fn arrived(&mut self, at: &Position, event: &ChangeEvent) {
        let Some(source) = &event.source else { return };
        for (target, columns) in self.other_targets(event.entity) {
            if let Some(key) = key_in(&columns, &event.after) {
                let arrival = Arrival { key, source: source.clone() };
                self.reduced.arrivals.entry(target).or_default().push((arrival, at.clone()));
            }
        }
    }

    fn moved(&mut self, at: &Position, event: &ChangeEvent, target: TargetId, (from, to): (&Key, Option<&Key>), word: Word) {
        if self.graph.edges_at(target).next().is_none() {
            return;
        }
        let one =
            Move { from: from.clone(), to: to.cloned(), source: event.source.clone(), state: MoveState::Open, seen_to: BTreeSet::new() };
        let moves = self.reduced.moves.entry(target).or_default();
        // A tombstone of the first half repeats it without a position; the second half repeats it with the same one.
        let known = moves.iter_mut().find(|(known, _)| {
            known.from == one.from && known.to == one.to && (known.source == one.source || one.source.is_none() || known.source.is_none())
        });
        match known {
            Some((known, _)) => known.source = known.source.take().or(one.source),
            None => moves.push((one, at.clone())),
        }
        self.candidate(at, event, target, from.clone(), word);
    }

    fn candidate(&mut self, at: &Position, event: &ChangeEvent, target: TargetId, key: Key, word: Word) {
        if self.graph.edges_at(target).next().is_none() {
            return;
        }
        // The records of a key stand on one partition; those of another unique value on that of whatever row has it.
        let is_home = word != Word::MovedElsewhere && target == self.graph.key_target(event.entity);
        let candidate = self.reduced.candidates.entry((target, key)).or_insert_with(|| Candidate::new(at.clone(), is_home));
        if is_home && !candidate.partition_known {
            (candidate.cause, candidate.partition_known) = (at.clone(), true);
        }
        candidate.last = at.clone();
        candidate.moved |= matches!(word, Word::Moved | Word::MovedElsewhere);
        if word == Word::Deleted {
            candidate.delete(event.source.as_ref(), event.transaction.as_ref());
        } else if event.source.is_some() && !candidate.deleted {
            candidate.source.clone_from(&event.source);
            candidate.transaction.clone_from(&event.transaction);
        }
    }

    fn lived(&mut self, target: TargetId, key: Key, event: &ChangeEvent) {
        let last = self.reduced.lived.entry((target, key)).or_default();
        if !is_older(event.source.as_ref(), last.as_ref()) {
            last.clone_from(&event.source);
        }
    }

    /// The unique values of one row that this event tells the end of, all of them or those that changed, know each other.
    fn went_together(&mut self, event: &ChangeEvent, key: &Key, changed: Option<&BTreeSet<TargetId>>) {
        let mut values = BTreeSet::from([(self.graph.key_target(event.entity), key.clone())]);
        for (target, columns) in self.other_targets(event.entity) {
            values.extend(key_in(&columns, &event.before).map(|value| (target, value)));
        }
        let is_pointed_at = |target: &TargetId| self.graph.edges_at(*target).next().is_some();
        values.retain(|(target, _)| is_pointed_at(target) && changed.is_none_or(|changed| changed.contains(target)));
        for value in &values {
            if let Some(candidate) = self.reduced.candidates.get_mut(value) {
                candidate.beside.extend(values.iter().filter(|other| *other != value).cloned());
            }
        }
    }

    /// A deleted row also takes its other unique columns with it, as far as the event is known to tell them truly (H10).
    fn other_columns_gone(&mut self, at: &Position, event: &ChangeEvent) {
        for (target, columns) in self.other_targets(event.entity) {
            if let Some(key) = key_in(&columns, &event.before) {
                self.candidate(at, event, target, key, Word::Deleted);
            }
        }
    }

    /// An update that changes unique columns other than the key is a key change for the references that point at them.
    fn other_columns_changed(&mut self, at: &Position, event: &ChangeEvent) {
        let mut changed = BTreeSet::new();
        for (target, columns) in self.other_targets(event.entity) {
            let Some(after) = key_in(&columns, &event.after) else {
                // Nothing points at a null: what becomes of the children is not known, so they are listed rather than forgotten.
                let is_null = columns.iter().any(|column| event.after.get(column) == Some(&Cell::Null));
                if let Some(before) = key_in(&columns, &event.before).filter(|_| is_null) {
                    self.moved(at, event, target, (&before, None), Word::Moved);
                    changed.insert(target);
                }
                continue;
            };
            if let Some(before) = key_in(&columns, &event.before).filter(|before| *before != after) {
                self.moved(at, event, target, (&before, Some(&after)), Word::Moved);
                changed.insert(target);
            }
            self.lived(target, after, event);
        }
        if let (true, Operation::Upsert { key, .. }) = (changed.len() > 1, &event.operation) {
            self.went_together(event, key, Some(&changed));
        }
    }

    fn other_targets(&self, entity: EntityId) -> Vec<(TargetId, Vec<String>)> {
        let key = self.graph.key_target(entity);
        self.graph.targets_of(entity).filter(|(id, _)| *id != key).map(|(id, target)| (id, target.columns.clone())).collect()
    }

    fn copy(&mut self, at: &Position, event: &ChangeEvent, key: &Key, row: Option<RowImage>, reread: bool) {
        if !self.copied.contains(&event.entity) {
            return;
        }
        let copy = Copy { row, reread, source: event.source.clone(), snapshot: event.snapshot, maybe_gone: false, cause: at.clone() };
        match self.reduced.copies.entry((event.entity, key.clone())) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(copy);
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                let known = occupied.get_mut();
                // An older event that comes later (a repeat, a snapshot read) does not undo a newer one. Without a position the order read decides.
                // A tombstone alone may be of another entity on the topic.
                let is_hint = copy.row.is_none() && copy.source.is_none() && known.row.is_some() && known.source.is_some();
                let is_before = is_older(copy.source.as_ref(), known.source.as_ref());
                if is_before && known.snapshot && !copy.snapshot {
                    // It may have been under way when the snapshot was taken, and then it is the newer one. The owner says.
                    known.reread = true;
                    known.maybe_gone |= copy.row.is_none();
                } else if !is_hint && !is_before {
                    let source = copy.source.clone().or_else(|| known.source.clone());
                    let row = copy.row.map(|row| over(row, known.row.as_ref()));
                    *known = Copy { source, row, ..copy };
                }
            }
        }
    }

    /// A connector or transform that leaves the key change headers away still makes both halves at one position of the source (H6).
    fn pair_by_position(&mut self, events: &[(Position, ChangeEvent)]) {
        let mut created: BTreeMap<(EntityId, String), (Key, &RowImage)> = BTreeMap::new();
        for (_, event) in events {
            if let (Operation::Upsert { key, moved_from: None }, Some(source), false) = (&event.operation, &event.source, event.snapshot) {
                created.insert((event.entity, source.to_string()), (key.clone(), &event.after));
            }
        }
        for (at, event) in events {
            let (Operation::Delete { key }, Some(source)) = (&event.operation, &event.source) else { continue };
            if let Some((new, row)) = created.get(&(event.entity, source.to_string())).filter(|(new, _)| new != key) {
                let target = self.graph.key_target(event.entity);
                self.moved(at, event, target, (key, Some(new)), Word::Moved);
                let mut old_values = vec![(target, key.clone())];
                for (other, columns) in self.other_targets(event.entity) {
                    let Some(before) = key_in(&columns, &event.before) else { continue };
                    let after = key_in(&columns, row);
                    if after.as_ref() != Some(&before) {
                        self.moved(at, event, other, (&before, after.as_ref()), Word::Moved);
                    }
                    old_values.push((other, before));
                }
                // The delete was half of a key change: it is not the row's end.
                for value in old_values {
                    if let Some(candidate) = self.reduced.candidates.get_mut(&value) {
                        candidate.deleted = false;
                    }
                }
            }
        }
    }
}

/// What an event says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Deleted,
    Moved,
    /// Said by the new key's record, which may stand on another partition.
    MovedElsewhere,
    Hint,
}

/// Older, where both are known.
fn is_older(one: Option<&SourcePosition>, other: Option<&SourcePosition>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.compare(other) == Some(std::cmp::Ordering::Less))
}

fn key_in(columns: &[String], image: &RowImage) -> Option<Key> {
    Key::from_cells(columns.iter().map(|column| image.get(column).unwrap_or(&Cell::Unknown)))
}

/// A row over an earlier one: what the later event does not know, because it did not change, is as it was.
fn over(mut row: RowImage, before: Option<&RowImage>) -> RowImage {
    for (column, cell) in row.iter_mut().filter(|(_, cell)| **cell == Cell::Unknown) {
        if let Some(known) = before.and_then(|before| before.get(column)) {
            cell.clone_from(known);
        }
    }
    row
}
