//! Roots that are worked in portions: counted in a task, then a portion at a time, each in turn with the batches of records (H84).
//!
//! The ledger holds them as pending, so the records behind them go on, and a restart takes them up where they are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::attempt::Prepared;
use crate::change::TopicPartition;
use crate::engine::{Counted, Engine, Extent, LARGE, PORTIONS, Portion, Report, Retry, WHOLE};
use crate::error::{Disposition, chain};
use crate::ledger::Pending;
use crate::sink::SinkError;

/// After a database could not be asked.
const COUNT_AGAIN: Duration = Duration::from_secs(5);
/// After a portion that met a lock or a database that is down: what is behind it goes on meanwhile.
const REST: Duration = Duration::from_secs(1);

/// The roots, those that are next in front.
#[derive(Default)]
pub(super) struct Large {
    roots: VecDeque<(Pending, Option<Extent>)>,
    /// The root that is counted now.
    counting: Option<(Pending, JoinHandle<Result<Counted, SinkError>>)>,
    count_at: Option<Instant>,
    /// The portion in flight.
    taken: Option<(Pending, Extent)>,
    /// After a portion that a database refused for now.
    rest_until: Option<Instant>,
    /// A batch of records was the last to be started.
    is_turn: bool,
}

fn is_same(one: &Pending, other: &Pending) -> bool {
    (&one.entity, &one.columns, &one.key) == (&other.entity, &other.columns, &other.key)
}

impl Large {
    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.taken.is_none()
    }

    /// A root of the ledger: whatever was done of it, what is left is counted before it goes on, since rules and limits may be others now.
    pub(super) fn load(&mut self, pending: Pending) {
        if !self.roots.iter().map(|(known, _)| known).chain(self.taken.iter().map(|(known, _)| known)).any(|known| is_same(known, &pending))
        {
            self.roots.push_back((pending, None));
        }
    }

    /// What came of a batch: roots that are too large, or of which more is left.
    pub(super) fn on_report(&mut self, report: &Report, ours: &BTreeSet<TopicPartition>) {
        self.taken = None;
        for pending in report.parked.iter().filter(|pending| ours.contains(&pending.cause.partition)) {
            let extent = match pending.reason.as_str() {
                LARGE => {
                    self.load(pending.clone());
                    continue;
                }
                PORTIONS => Some(Extent::Portion(Portion { width: report.next_width, counted: None })),
                WHOLE => Some(Extent::Whole),
                _ => None,
            };
            self.roots.retain(|(known, _)| !is_same(known, pending));
            if extent.is_some() {
                self.roots.push_back((pending.clone(), extent));
            }
        }
    }

    /// A batch is done. A portion of which nothing was reported is tried again.
    pub(super) fn on_done(&mut self) {
        if let Some((pending, extent)) = self.taken.take() {
            self.roots.push_back((pending, Some(extent)));
            self.rest_until = Some(Instant::now() + REST);
        }
    }

    /// Counts all roots again before they go on.
    pub(super) fn count_anew(&mut self) {
        self.counting = None;
        self.roots.iter_mut().for_each(|(_, extent)| *extent = None);
    }

    /// Forgets the roots of partitions that are worked by others now.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        let is_theirs = |pending: &Pending| partitions.contains(&pending.cause.partition);
        self.roots.retain(|(pending, _)| !is_theirs(pending));
        self.taken.take_if(|(pending, _)| is_theirs(pending));
    }

    /// The next portion, if it is its turn: at once while nothing else is due, otherwise after each batch of records.
    pub(super) fn take(&mut self, others_are_due: bool) -> Option<Prepared> {
        if others_are_due && !self.is_turn {
            self.is_turn = true;
            return None;
        }
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let place = self.roots.iter().position(|(_, extent)| extent.is_some())?;
        let (pending, extent) = self.roots.remove(place)?;
        let extent = extent?;
        (self.is_turn, self.taken) = (false, Some((pending.clone(), extent.clone())));
        Some(Prepared { retries: vec![Retry { pending, proven: None }], extent, ..Prepared::default() })
    }

    /// Starts to count the next root that was not counted yet.
    pub(super) fn start_counting(&mut self, engine: &Arc<Engine>) {
        if self.counting.is_some() || self.count_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Some((pending, _)) = self.roots.iter().find(|(_, extent)| extent.is_none()) else { return };
        let (pending, engine) = (pending.clone(), Arc::clone(engine));
        let asked = pending.clone();
        self.counting = Some((pending, tokio::spawn(async move { engine.count(&asked, engine.rows_allowed(&asked).await?).await })));
    }

    /// When to look again, if nothing else wakes the loop.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let is_to_be_counted = self.counting.is_none() && self.roots.iter().any(|(_, extent)| extent.is_none());
        let is_ready = self.roots.iter().any(|(_, extent)| extent.is_some());
        let now = Instant::now();
        let times = [self.count_at.filter(|_| is_to_be_counted), self.rest_until.filter(|_| is_ready)];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }

    pub(super) fn counting(&mut self) -> Option<&mut JoinHandle<Result<Counted, SinkError>>> {
        self.counting.as_mut().map(|(_, task)| task)
    }

    pub(super) fn on_counted(&mut self, counted: Result<Counted, SinkError>) {
        let Some((counted_root, _)) = self.counting.take() else { return };
        let Some((pending, extent)) = self.roots.iter_mut().find(|(known, _)| is_same(known, &counted_root)) else { return };
        match counted {
            Ok(counted) => {
                tracing::info!(entity = pending.entity, cause = %pending.cause, rows = counted.rows(), "a large root is worked in portions");
                *extent = Some(Extent::Portion(Portion::first(counted)));
            }
            // What it is, and of which reference, the work itself says.
            Err(error) if error.disposition() != Disposition::Retry => *extent = Some(Extent::Whole),
            Err(error) => {
                tracing::warn!(error = %chain(&error), entity = pending.entity, "a large root cannot be counted now");
                self.count_at = Some(Instant::now() + COUNT_AGAIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::Position;
    use crate::ledger::PendingKind;
    use crate::value::{Cell, Key};

    fn root(id: &str) -> Pending {
        Pending {
            entity: "crm.customer".to_owned(),
            columns: vec!["id".to_owned()],
            key: Key::from_cells([&Cell::Value(id.to_owned())]).expect("a key"),
            reason: PORTIONS.to_owned(),
            detail: String::new(),
            kind: PendingKind::Gone,
            cause: Position { partition: TopicPartition { topic: Arc::from("t"), partition: 0 }, offset: 0 },
            partition_known: true,
            source: None,
            beside: Vec::new(),
        }
    }

    fn taken(prepared: Option<Prepared>) -> Option<String> {
        prepared.and_then(|prepared| prepared.retries.first().map(|retry| retry.pending.key.to_string()))
    }

    #[tokio::test]
    async fn h84_a_root_of_a_partition_that_was_lost_over_its_portion_is_left_to_the_new_owner() {
        let mut large = Large::default();
        let ours = BTreeSet::from([root("1").cause.partition]);
        let more = Report { parked: vec![root("1")], next_width: 8, ..Report::default() };
        large.on_report(&more, &ours);
        assert_eq!(taken(large.take(false)), Some("1".to_owned()));
        large.forget(&[root("1").cause.partition]);
        large.on_report(&more, &BTreeSet::new());
        assert!(large.is_empty() && large.take(false).is_none());
    }

    #[tokio::test]
    async fn h84_portions_of_large_roots_take_turns_with_each_other_and_with_batches() {
        let mut large = Large::default();
        let done = |large: &mut Large, id: &str| {
            let ours = BTreeSet::from([root(id).cause.partition]);
            large.on_report(&Report { parked: vec![root(id)], next_width: 8, ..Report::default() }, &ours);
            large.on_done();
        };
        done(&mut large, "1");
        done(&mut large, "2");
        let mut turns = Vec::new();
        for _ in 0..3 {
            let next = taken(large.take(true));
            if let Some(id) = &next {
                done(&mut large, id);
            }
            turns.push(next);
        }
        let next = |id: &str| Some(id.to_owned());
        assert_eq!(turns, [None, next("1"), None]);
        assert_eq!(taken(large.take(false)), next("2"), "nothing else is due");
        large.on_done();
        assert!(taken(large.take(false)).is_none(), "nothing was reported of the portion: it rests");
        assert!(large.wake_at().is_some() && !large.is_empty());
    }
}
