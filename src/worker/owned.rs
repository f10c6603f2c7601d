//! A partition of ours, and the records that are read of it.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::Worker;
use super::take::Start;
use crate::change::{NextOffset, Record};
use crate::ledger;
use crate::source::{self, Assignment, Fetched, Source};

/// A partition of ours.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) assignment: Assignment,
    /// Everything below is durable.
    pub(super) next: Option<NextOffset>,
    /// The fingerprint of the record before that, as long as it was not compared with the topic's.
    pub(super) last: Option<String>,
    /// Where the topic ended when the partition was assigned.
    pub(super) end: i64,
    pub(super) halted: bool,
    /// It stands still because the ledger's offset is none of this log: it tells nothing of how far the log is read.
    pub(super) has_gap: bool,
    pub(super) dead_letters: VecDeque<Instant>,
}

/// What a record is to its partition.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    /// It is to be worked.
    New,
    /// It was worked before: the one that the ledger knows.
    Known,
    /// It stands where the ledger knows another one (H16).
    Another,
}

impl Owned {
    /// Without a start it stands still.
    pub(super) fn new(assignment: Assignment, start: Option<&Start>, end: i64) -> Self {
        let (next, last) = (start.map(|start| start.next), start.and_then(|start| start.last.clone()));
        Self { assignment, next, last, end, halted: next.is_none(), has_gap: false, dead_letters: VecDeque::new() }
    }

    /// Only the first record may be one that was worked before. If compaction has taken that, nothing can be compared.
    fn sight(&mut self, record: &Record) -> Sight {
        match self.last.take() {
            Some(last) if Some(record.at.next()) == self.next => {
                if last == record.fingerprint() {
                    Sight::Known
                } else {
                    Sight::Another
                }
            }
            Some(_) | None => Sight::New,
        }
    }
}

impl Worker<'_> {
    /// Takes a record for the next batch, if its partition is ours still.
    pub(super) async fn on_record(&mut self, Fetched { assignment, record }: Fetched, source: &Source) {
        let size = source::size(&record);
        let partition = &record.at.partition;
        let owned = self.owned.get_mut(partition).filter(|owned| owned.assignment == assignment && !owned.halted);
        match owned.map(|owned| owned.sight(&record)) {
            Some(Sight::New) => {
                self.open_since.get_or_insert_with(Instant::now);
                self.open_bytes += size;
                self.open.push(record);
            }
            Some(Sight::Known) | None => self.budget.give(size),
            Some(Sight::Another) => {
                self.budget.give(size);
                let detail = format!(
                    "the record at offset {} is another one than was read there: the topic was made anew; look for orphans, then release the \
                     partition: it is read from the topic's beginning",
                    record.at.offset
                );
                self.halt(partition, ledger::GAP, &detail, source).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::{Position, TopicPartition};

    fn record(offset: i64, value: &str) -> Record {
        let partition = TopicPartition { topic: Arc::from("t"), partition: 0 };
        let at = Position { partition, offset };
        Record { at, timestamp: Some(1), key: None, value: Some(value.as_bytes().to_vec()), headers: Vec::new() }
    }

    fn owned() -> Owned {
        let start = Start { next: NextOffset(10), last: Some(record(9, "known").fingerprint()) };
        Owned::new(Assignment::default(), Some(&start), 20)
    }

    #[test]
    fn h16_only_the_first_record_is_compared() {
        let mut same = owned();
        assert_eq!([same.sight(&record(9, "known")), same.sight(&record(10, "next"))], [Sight::Known, Sight::New]);
        assert_eq!(owned().sight(&record(9, "another")), Sight::Another);
        let mut compacted = owned();
        assert_eq!([compacted.sight(&record(12, "later")), compacted.sight(&record(13, "next"))], [Sight::New, Sight::New]);
    }

    #[test]
    fn h16_a_fingerprint_tells_records_apart() {
        let one = record(9, "a");
        let others = [
            Record { timestamp: Some(2), ..one.clone() },
            Record { timestamp: None, ..one.clone() },
            Record { key: Some(b"a".to_vec()), value: None, ..one.clone() },
            Record { key: Some(Vec::new()), ..one.clone() },
            Record { value: Some(Vec::new()), ..one.clone() },
            Record { value: None, ..one.clone() },
        ];
        let prints: std::collections::BTreeSet<String> = others.iter().chain([&one]).map(Record::fingerprint).collect();
        assert_eq!(prints.len(), 7);
        assert_eq!(record(9, "a").fingerprint(), record(99, "a").fingerprint(), "the offset is known anyway");
    }
}
