//! Roots that wait until their topic has been read past a look-up (H114). Pure.
//!
//! A missing key of an entity whose keys may change counts as gone only when everything that the source did before the look-up has been read: each
//! partition of the topic up to a record that the source made after it, or up to where it ended when a later marker of the same connector had
//! come through. Waiting time proves nothing. The key's own partition would not do: when a topic grows, keys change their places (H28), and how
//! often it has grown nobody knows.

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
    /// How many partitions its topic has was asked then, too.
    sized: bool,
    /// Where the partitions ended then.
    barriers: BTreeMap<TopicPartition, i64>,
}

/// What is to be asked of the topics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How many partitions these have.
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// Where these end.
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

impl Wanted {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.partitions.is_empty()
    }
}

impl Waitlist {
    /// Adds a root, or replaces what was known of it by a newer look-up.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        let id = (waiting.target, waiting.pending.key.clone());
        self.entries.insert(id, Entry { waiting, asked: false, sized: false, barriers: BTreeMap::new() });
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

    /// What must be asked: a marker behind a look-up has come through, and nothing shows yet that the partitions were read so far.
    pub(crate) fn wanted(&mut self, all: &BTreeSet<TopicPartition>) -> Wanted {
        let mut wanted = Wanted::default();
        for entry in self.entries.values_mut() {
            entry.asked = marker_is_past(&entry.waiting, &self.read, &self.markers);
            if !entry.asked {
                continue;
            }
            if !entry.sized {
                wanted.topics.insert(Arc::clone(&entry.waiting.pending.cause.partition.topic));
            }
            let is_open =
                |partition: &TopicPartition| !entry.barriers.contains_key(partition) && !is_read(&entry.waiting, &self.read, partition);
            wanted.partitions.extend(needed(&entry.waiting, all).into_iter().filter(is_open));
        }
        wanted
    }

    /// Takes the answer to what was wanted last. `all` are the partitions of the topics as the answer has them.
    pub(crate) fn set_barriers(
        &mut self,
        topics: &BTreeSet<Arc<str>>,
        ends: &BTreeMap<TopicPartition, i64>,
        all: &BTreeSet<TopicPartition>,
    ) {
        // A log that ends before where it was worked is another one: what was worked of the one that was says nothing of it (H16).
        self.worked.retain(|partition, next| ends.get(partition).is_none_or(|end| next.0 <= *end));
        for entry in self.entries.values_mut().filter(|entry| entry.asked) {
            entry.sized |= topics.contains(&entry.waiting.pending.cause.partition.topic);
            for partition in needed(&entry.waiting, all) {
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
        let partitions = needed(&entry.waiting, all);
        let is_worked = |partition: &TopicPartition| {
            let worked = self.worked.get(partition).map_or(0, |next| next.0);
            is_read(&entry.waiting, &self.read, partition) || entry.barriers.get(partition).is_some_and(|end| worked >= *end)
        };
        entry.waiting.looked_up_at.is_some() && entry.sized && !partitions.is_empty() && partitions.iter().all(is_worked)
    }
}

/// A record of this partition was worked that the source made after the look-up.
fn is_read(waiting: &Waiting, read: &BTreeMap<TopicPartition, SourcePosition>, partition: &TopicPartition) -> bool {
    let of_its_source = |known: &&SourcePosition| source_of(waiting, read) == Some(&known.source);
    let position = read.get(partition).filter(of_its_source).and_then(|source| source.order.first());
    position.zip(waiting.looked_up_at).is_some_and(|(position, looked_up_at)| *position > looked_up_at)
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

/// The partitions that must have been read: all of the topic.
fn needed(waiting: &Waiting, all: &BTreeSet<TopicPartition>) -> Vec<TopicPartition> {
    all.iter().filter(|partition| partition.topic == waiting.pending.cause.partition.topic).cloned().collect()
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

    /// A root whose record stands on partition 0.
    fn waiting(looked_up_at: Option<u64>) -> Waiting {
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
            partition_known: true,
            source: Some(at(10)),
            beside: Vec::new(),
        };
        Waiting { pending, target: TargetId(0), seen: BTreeSet::new(), looked_up_at }
    }

    /// Asks what is wanted, of a topic with these partitions that end here.
    fn ask(list: &mut Waitlist, all: &BTreeSet<TopicPartition>, end: i64) -> BTreeSet<TopicPartition> {
        let wanted = list.wanted(all);
        let ends = wanted.partitions.iter().map(|partition| (partition.clone(), end)).collect();
        list.set_barriers(&wanted.topics, &ends, all);
        wanted.partitions
    }

    fn both() -> BTreeSet<TopicPartition> {
        BTreeSet::from([partition(0), partition(1)])
    }

    #[test]
    fn h114_only_records_of_all_its_partitions_behind_the_look_up_prove_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(Some(100)));
        list.on_read(&partition(0), &at(101));
        list.on_read(&partition(1), &at(100));
        assert_eq!(ask(&mut list, &both(), 9), BTreeSet::from([partition(1)]));
        assert!(list.take_proven(&both()).is_empty());
        list.on_read(&partition(1), &at(101));
        assert_eq!(list.take_proven(&both()).len(), 1);
        assert!(list.is_empty());
    }

    #[test]
    fn h114_an_idle_partition_is_proven_by_a_marker_and_its_end_after_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(Some(100)));
        assert!(list.wanted(&both()).is_empty());
        list.on_marker(&at(150));
        assert_eq!(ask(&mut list, &both(), 9), both());
        list.on_progress(&partition(0), NextOffset(9));
        list.on_progress(&partition(1), NextOffset(8));
        assert!(list.take_proven(&both()).is_empty());
        list.on_progress(&partition(1), NextOffset(9));
        assert_eq!(list.take_proven(&both()).len(), 1);
    }

    #[test]
    fn h28_a_topic_that_has_grown_is_read_to_all_its_ends_before_a_key_of_it_counts_as_gone() {
        let mut list = Waitlist::default();
        list.insert(waiting(Some(100)));
        list.on_read(&partition(0), &at(101));
        list.on_read(&partition(1), &at(101));
        assert!(list.take_proven(&both()).is_empty(), "WRONG DELETION: nobody has asked since how many partitions there are");
        // This worker has not heard of partition 2: the answer tells.
        let wanted = list.wanted(&both());
        assert_eq!(wanted, Wanted { topics: BTreeSet::from([partition(0).topic]), partitions: BTreeSet::new() });
        let three = BTreeSet::from([partition(0), partition(1), partition(2)]);
        list.set_barriers(&wanted.topics, &BTreeMap::new(), &three);
        assert_eq!(ask(&mut list, &three, 5), BTreeSet::from([partition(2)]));
        list.on_progress(&partition(2), NextOffset(4));
        assert!(list.take_proven(&three).is_empty(), "WRONG DELETION: its later records stand on partition 2");
        list.on_progress(&partition(2), NextOffset(5));
        assert_eq!(list.take_proven(&three).len(), 1);
    }

    #[test]
    fn h16_what_was_worked_of_a_log_that_was_does_not_count_for_the_one_that_is() {
        let mut list = Waitlist::default();
        list.on_progress(&partition(0), NextOffset(5_000));
        list.on_progress(&partition(1), NextOffset(5_000));
        list.insert(waiting(Some(100)));
        list.on_marker(&at(150));
        assert_eq!(ask(&mut list, &both(), 30), both());
        assert!(list.take_proven(&both()).is_empty(), "WRONG DELETION: of what stands there now nothing was read");
        assert_eq!(list.behind(), both());
        list.on_progress(&partition(0), NextOffset(30));
        list.on_progress(&partition(1), NextOffset(30));
        assert_eq!(list.take_proven(&both()).len(), 1);
    }

    #[test]
    fn h114_without_a_log_nothing_proves_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(None));
        list.on_read(&partition(0), &at(u64::MAX));
        list.on_marker(&at(u64::MAX));
        assert!(list.wanted(&both()).is_empty());
        assert!(list.take_proven(&both()).is_empty());
    }

    #[test]
    fn h114_a_position_of_another_source_proves_nothing() {
        let mut list = Waitlist::default();
        list.insert(waiting(Some(100)));
        list.on_read(&partition(0), &SourcePosition { source: Arc::from("postgresql/other"), order: vec![5_000] });
        assert!(list.take_proven(&both()).is_empty());
    }

    #[test]
    fn h114_ends_that_were_asked_for_before_a_look_up_prove_nothing_for_it() {
        let mut list = Waitlist::default();
        list.insert(waiting(Some(100)));
        list.on_marker(&at(150));
        let wanted = list.wanted(&both());
        assert_eq!(wanted.partitions, both());
        list.on_progress(&partition(1), NextOffset(9));
        // While the question is under way, another root is looked up, offset 9 is written behind it, and its marker comes.
        let mut second = waiting(Some(200));
        second.pending.key = Key::from_cells([&Cell::Value("8".to_owned())]).expect("a value");
        list.insert(second);
        list.on_marker(&at(250));
        list.set_barriers(&wanted.topics, &both().into_iter().map(|partition| (partition, 9)).collect(), &both());
        list.on_progress(&partition(0), NextOffset(9));
        let proven: Vec<String> = list.take_proven(&both()).iter().map(|retry| retry.pending.key.parts().join(",")).collect();
        assert_eq!(proven, ["7"], "nobody has read offset 9");
    }
}
