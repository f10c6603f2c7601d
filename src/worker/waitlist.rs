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
    /// A marker behind the look-up had come through when the ends of partitions were asked for last.
    asked: bool,
    /// Where the partitions ended then.
    barriers: BTreeMap<TopicPartition, i64>,
}

impl Waitlist {
    /// Adds a root, or replaces what was known of it by a newer look-up.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        self.entries.insert((waiting.target, waiting.pending.key.clone()), Entry { waiting, asked: false, barriers: BTreeMap::new() });
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

    /// Forgets all roots; what has been read stays known.
    pub(crate) fn forget_all(&mut self) {
        self.entries.clear();
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
    pub(crate) fn wanted(&mut self, all: &BTreeSet<TopicPartition>) -> BTreeSet<TopicPartition> {
        let mut wanted = BTreeSet::new();
        for entry in self.entries.values_mut() {
            entry.asked = marker_is_past(&entry.waiting, &self.read, &self.markers);
            if entry.asked {
                wanted.extend(needed(entry, all).into_iter().filter(|partition| !entry.barriers.contains_key(partition)));
            }
        }
        wanted
    }

    /// Takes the answer to what was wanted last.
    pub(crate) fn set_barriers(&mut self, ends: &BTreeMap<TopicPartition, i64>, all: &BTreeSet<TopicPartition>) {
        for entry in self.entries.values_mut().filter(|entry| entry.asked) {
            for partition in needed(entry, all) {
                if let Some(end) = ends.get(&partition) {
                    entry.barriers.entry(partition).or_insert(*end);
                }
            }
        }
    }

    /// Partitions that some root waits for, and that are not worked so far yet.
    pub(crate) fn behind(&self) -> BTreeSet<TopicPartition> {
        let barriers = self.entries.values().flat_map(|entry| &entry.barriers);
        barriers
            .filter(|(partition, end)| self.worked.get(partition).is_none_or(|next| next.0 < **end))
            .map(|(one, _)| one.clone())
            .collect()
    }

    /// Takes out the roots for which everything before their look-up has been read. `all` are the partitions of their topics, whoever works them.
    pub(crate) fn take_proven(&mut self, all: &BTreeSet<TopicPartition>) -> Vec<Retry> {
        let proven: Vec<(TargetId, Key)> =
            self.entries.iter().filter(|(_, entry)| self.is_proven(entry, all)).map(|(id, _)| id.clone()).collect();
        let taken = proven.into_iter().filter_map(|id| self.entries.remove(&id));
        taken.map(|entry| Retry { pending: entry.waiting.pending, proven: Some(entry.waiting.seen) }).collect()
    }

    fn is_proven(&self, entry: &Entry, all: &BTreeSet<TopicPartition>) -> bool {
        let Some(looked_up_at) = entry.waiting.looked_up_at else { return false };
        let partitions = needed(entry, all);
        !partitions.is_empty()
            && partitions.iter().all(|partition| {
                let of_its_source = |read: &&SourcePosition| source_of(&entry.waiting, &self.read) == Some(&read.source);
                let read = self.read.get(partition).filter(of_its_source).and_then(|source| source.order.first());
                let read = read.is_some_and(|position| *position > looked_up_at);
                let worked = self.worked.get(partition).map_or(0, |next| next.0);
                read || entry.barriers.get(partition).is_some_and(|end| worked >= *end)
            })
    }
}

/// Something that the entity's own connector sent shows that it is past the look-up.
fn marker_is_past(waiting: &Waiting, read: &BTreeMap<TopicPartition, SourcePosition>, markers: &BTreeMap<Arc<str>, u64>) -> bool {
    match (source_of(waiting, read).and_then(|source| markers.get(source)), waiting.looked_up_at) {
        (Some(marker), Some(looked_up_at)) => *marker > looked_up_at,
        _ => false,
    }
}

/// The source that writes of the entity: that of the root's event, or of another record of its topic.
fn source_of<'a>(waiting: &'a Waiting, read: &'a BTreeMap<TopicPartition, SourcePosition>) -> Option<&'a Arc<str>> {
    let topic = &waiting.pending.cause.partition.topic;
    let known = || read.iter().find(|(partition, _)| partition.topic == *topic).map(|(_, source)| &source.source);
    waiting.pending.source.as_ref().map(|source| &source.source).or_else(known)
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
        let pending = Pending {
            entity,
            columns,
            key,
            reason,
            detail,
            kind: PendingKind::Gone,
            cause,
            partition_known,
            source: Some(at(10)),
            beside: Vec::new(),
        };
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
        assert!(list.take_proven(&both()).is_empty());
        list.on_read(&partition(0), &at(101));
        assert_eq!(list.take_proven(&both()).len(), 1);
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
        assert!(list.take_proven(&both()).is_empty());
        list.on_progress(&partition(0), NextOffset(9));
        assert_eq!(list.take_proven(&both()).len(), 1);
    }

    #[test]
    fn h114_a_key_of_unknown_partition_needs_all_partitions() {
        let mut list = Waitlist::default();
        list.insert(waiting(false, Some(100)));
        list.on_read(&partition(0), &at(101));
        assert!(list.take_proven(&both()).is_empty());
        list.on_read(&partition(1), &at(101));
        assert_eq!(list.take_proven(&both()).len(), 1);
    }

    #[test]
    fn h114_without_a_log_nothing_proves_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(true, None));
        list.on_read(&partition(0), &at(u64::MAX));
        list.on_marker(&at(u64::MAX));
        assert!(list.wanted(&both()).is_empty());
        assert!(list.take_proven(&both()).is_empty());
    }

    #[test]
    fn h114_a_position_of_another_source_proves_nothing() {
        let mut list = Waitlist::default();
        list.insert(waiting(true, Some(100)));
        list.on_read(&partition(0), &SourcePosition { source: Arc::from("postgresql/other"), order: vec![5_000] });
        assert!(list.take_proven(&both()).is_empty());
    }

    #[test]
    fn h114_ends_that_were_asked_for_before_a_look_up_prove_nothing_for_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(true, Some(100)));
        list.on_marker(&at(150));
        assert_eq!(list.wanted(&both()), BTreeSet::from([partition(0)]));
        // While the question is under way, another root is looked up, offset 9 is written behind it, and its marker comes.
        let mut second = waiting(true, Some(200));
        second.pending.key = Key::from_cells([&Cell::Value("8".to_owned())]).expect("a value");
        list.insert(second);
        list.on_marker(&at(250));
        list.set_barriers(&BTreeMap::from([(partition(0), 9)]), &both());
        list.on_progress(&partition(0), NextOffset(9));
        let proven: Vec<String> = list.take_proven(&both()).iter().map(|retry| retry.pending.key.parts().join(",")).collect();
        assert_eq!(proven, ["7"], "nobody has read offset 9");
    }
}
