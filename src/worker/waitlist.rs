//! Roots that wait until their topic has been read past a look-up (H114). Pure.
//!
//! A missing key of an entity whose keys may change counts as gone only when everything that the source did before the look-up has been read:
//! the key's own partition up to a record that the source made after it, or up to where it ended when a later marker of the same connector had
//! come through. Waiting time proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::change::{NextOffset, SourcePosition, TopicPartition};
use crate::engine::{Retry, Waiting};
use crate::graph::TargetId;
use crate::value::Key;

/// What waits, and what has been read.
#[derive(Debug, Default)]
pub(crate) struct Waitlist {
    entries: BTreeMap<(TargetId, Key), Entry>,
    /// Per partition, the newest position of the source that was read and worked.
    read: BTreeMap<TopicPartition, SourcePosition>,
    /// Per partition, how far it is worked.
    worked: BTreeMap<TopicPartition, NextOffset>,
    /// Per source, the newest marker.
    markers: BTreeMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    /// Where the partitions ended when a marker behind the look-up had come through.
    barriers: BTreeMap<TopicPartition, i64>,
}

impl Waitlist {
    /// Adds a root, or replaces what was known of it by a newer look-up.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        self.entries.insert((waiting.target, waiting.pending.key.clone()), Entry { waiting, barriers: BTreeMap::new() });
    }

    /// Forgets a root that is settled.
    pub(crate) fn settle(&mut self, target: TargetId, key: &Key) {
        self.entries.remove(&(target, key.clone()));
    }

    /// Forgets the roots of partitions that are no longer ours.
    pub(crate) fn forget(&mut self, partition: &TopicPartition) {
        self.entries.retain(|_, entry| entry.waiting.pending.cause.partition != *partition);
        self.read.remove(partition);
        self.worked.remove(partition);
    }

    /// Whether a pending root waits here.
    pub(crate) fn holds(&self, pending: &crate::ledger::Pending) -> bool {
        self.entries.values().any(|entry| {
            let known = &entry.waiting.pending;
            known.key == pending.key && known.entity == pending.entity && known.columns == pending.columns
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The targets for which something waits.
    pub(crate) fn targets(&self) -> BTreeSet<TargetId> {
        self.entries.keys().map(|(target, _)| *target).collect()
    }

    /// A record of a partition was worked.
    pub(crate) fn on_read(&mut self, partition: &TopicPartition, source: &SourcePosition) {
        let newer = self.read.get(partition).is_none_or(|known| known.source != source.source || known.order < source.order);
        if newer {
            self.read.insert(partition.clone(), source.clone());
        }
        self.on_marker(source);
    }

    /// A partition is worked up to here.
    pub(crate) fn on_progress(&mut self, partition: &TopicPartition, next: NextOffset) {
        self.worked.insert(partition.clone(), next);
    }

    /// A connector sent something from this position of its source, on whatever topic.
    pub(crate) fn on_marker(&mut self, source: &SourcePosition) {
        if let Some(position) = source.order.first() {
            let newest = self.markers.entry(Arc::clone(&source.source)).or_default();
            *newest = (*newest).max(*position);
        }
    }

    /// Partitions whose ends must be asked for: a marker behind a look-up has come through, and nothing shows yet that they were read so far.
    pub(crate) fn wanted(&self, all: &BTreeSet<TopicPartition>) -> BTreeSet<TopicPartition> {
        let lacking = self.entries.values().filter(|entry| self.marker_is_past(entry)).flat_map(|entry| {
            let partitions = needed(entry, all);
            partitions.into_iter().filter(|partition| !entry.barriers.contains_key(partition)).collect::<Vec<_>>()
        });
        lacking.collect()
    }

    /// Takes the ends of partitions, asked for after the marker came through.
    pub(crate) fn set_barriers(&mut self, ends: &BTreeMap<TopicPartition, i64>, all: &BTreeSet<TopicPartition>) {
        let past: Vec<(TargetId, Key)> =
            self.entries.iter().filter(|(_, entry)| self.marker_is_past(entry)).map(|(id, _)| id.clone()).collect();
        for id in past {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            for partition in needed(entry, all) {
                if let Some(end) = ends.get(&partition) {
                    entry.barriers.entry(partition).or_insert(*end);
                }
            }
        }
    }

    /// Takes out the roots for which everything before their look-up has been read. `all` are the partitions of this worker; `is_whole` says
    /// whether it has all partitions of a topic.
    pub(crate) fn take_proven(&mut self, all: &BTreeSet<TopicPartition>, is_whole: &dyn Fn(&str) -> bool) -> Vec<Retry> {
        let proven: Vec<(TargetId, Key)> =
            self.entries.iter().filter(|(_, entry)| self.is_proven(entry, all, is_whole)).map(|(id, _)| id.clone()).collect();
        let taken = proven.into_iter().filter_map(|id| self.entries.remove(&id));
        taken.map(|entry| Retry { pending: entry.waiting.pending, proven: Some(entry.waiting.seen) }).collect()
    }

    fn is_proven(&self, entry: &Entry, all: &BTreeSet<TopicPartition>, is_whole: &dyn Fn(&str) -> bool) -> bool {
        let Some(looked_up_at) = entry.waiting.looked_up_at else { return false };
        let pending = &entry.waiting.pending;
        if !pending.partition_known && !is_whole(&pending.cause.partition.topic) {
            return false;
        }
        let partitions = needed(entry, all);
        !partitions.is_empty()
            && partitions.iter().all(|partition| {
                let read =
                    self.read.get(partition).and_then(|source| source.order.first()).is_some_and(|position| *position > looked_up_at);
                let worked = self.worked.get(partition).map_or(0, |next| next.0);
                read || entry.barriers.get(partition).is_some_and(|end| worked >= *end)
            })
    }

    /// Something that the entity's own connector sent shows that it is past the look-up.
    fn marker_is_past(&self, entry: &Entry) -> bool {
        let pending = &entry.waiting.pending;
        let of_topic = |(partition, _): &(&TopicPartition, &SourcePosition)| partition.topic == pending.cause.partition.topic;
        let known = self.read.iter().find(of_topic).map(|(_, source)| &source.source);
        let source = pending.source.as_ref().map(|source| &source.source).or(known);
        match (source.and_then(|source| self.markers.get(source)), entry.waiting.looked_up_at) {
            (Some(marker), Some(looked_up_at)) => *marker > looked_up_at,
            _ => false,
        }
    }
}

/// The partitions that must have been read: the key's own, or where that is unknown all of the topic.
fn needed(entry: &Entry, all: &BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
    let pending = &entry.waiting.pending;
    if pending.partition_known {
        return vec![pending.cause.partition.clone()];
    }
    all.iter().filter(|partition| partition.topic == pending.cause.partition.topic).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Position;
    use crate::ledger::{Pending, PendingKind};
    use crate::value::Cell;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from("crm.public.customers"), partition: number }
    }

    fn at(lsn: u64) -> SourcePosition {
        SourcePosition { source: Arc::from("postgresql/crm"), order: vec![lsn] }
    }

    fn waiting(partition_known: bool, looked_up_at: Option<u64>) -> Waiting {
        let key = Key::from_cells([&Cell::Value("7".to_owned())]).expect("a value");
        let cause = Position { partition: partition(0), offset: 3 };
        let (entity, columns) = ("crm.customer".to_owned(), vec!["id".to_owned()]);
        let (reason, detail) = ("wait".to_owned(), String::new());
        let pending =
            Pending { entity, columns, key, reason, detail, kind: PendingKind::Gone, cause, partition_known, source: Some(at(10)) };
        Waiting { pending, target: TargetId(0), seen: BTreeSet::new(), looked_up_at }
    }

    fn both() -> BTreeSet<TopicPartition> {
        BTreeSet::from([partition(0), partition(1)])
    }

    #[test]
    fn h114_only_a_record_of_its_own_partition_behind_the_look_up_proves_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(true, Some(100)));
        list.on_read(&partition(0), &at(100));
        list.on_read(&partition(1), &at(200));
        assert!(list.take_proven(&both(), &|_| true).is_empty());
        list.on_read(&partition(0), &at(101));
        assert_eq!(list.take_proven(&both(), &|_| true).len(), 1);
        assert!(list.is_empty());
    }

    #[test]
    fn h114_an_idle_partition_is_proven_by_a_marker_and_its_end_after_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(true, Some(100)));
        assert!(list.wanted(&both()).is_empty());
        list.on_marker(&at(150));
        assert_eq!(list.wanted(&both()), BTreeSet::from([partition(0)]));
        list.set_barriers(&BTreeMap::from([(partition(0), 9)]), &both());
        list.on_progress(&partition(0), NextOffset(8));
        assert!(list.take_proven(&both(), &|_| true).is_empty());
        list.on_progress(&partition(0), NextOffset(9));
        assert_eq!(list.take_proven(&both(), &|_| true).len(), 1);
    }

    #[test]
    fn h114_a_key_of_unknown_partition_needs_all_partitions_and_one_owner() {
        let mut list = Waitlist::default();
        list.insert(waiting(false, Some(100)));
        list.on_read(&partition(0), &at(101));
        assert!(list.take_proven(&both(), &|_| true).is_empty());
        list.on_read(&partition(1), &at(101));
        assert!(list.take_proven(&both(), &|_| false).is_empty());
        assert_eq!(list.take_proven(&both(), &|_| true).len(), 1);
    }

    #[test]
    fn h114_without_a_log_nothing_proves_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(true, None));
        list.on_read(&partition(0), &at(u64::MAX));
        list.on_marker(&at(u64::MAX));
        assert!(list.wanted(&both()).is_empty());
        assert!(list.take_proven(&both(), &|_| true).is_empty());
    }
}
