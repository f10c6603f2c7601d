//! Parts of a batch, down to the one record or pending root that a database refuses.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use crate::engine::{Refused, Retry, was_refused};

/// A run of records, or some retries.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) records: Vec<usize>,
    pub(super) retries: Vec<Retry>,
    pub(super) attempt: NonZeroU32,
    /// A database refuses the one record or retry.
    pub(super) refused: Option<Refused>,
}

impl Part {
    pub(super) fn new(records: Vec<usize>, retries: Vec<Retry>) -> Self {
        Self { records, retries, attempt: NonZeroU32::MIN, refused: None }
    }

    /// Only roots that a database has refused before: they are owed whether they are tried now or later.
    pub(super) fn is_of_refused(&self) -> bool {
        self.records.is_empty() && self.retries.iter().all(|retry| was_refused(&retry.pending))
    }

    /// What of the one record or retry is left alone next, after another refusal; `None` if nothing is left but its offset.
    pub(super) fn refused_more(&mut self) {
        let before = self.refused.take();
        self.refused = before.filter(|refused| !refused.with_copies).map(|refused| Refused { with_copies: true, ..refused });
    }

    /// Puts its halves in front: of one record and one retry, each by itself.
    pub(super) fn halve(mut self, parts: &mut VecDeque<Part>) {
        let records = self.records.split_off(self.records.len().div_ceil(2));
        let half = if self.records.is_empty() { self.retries.len().div_ceil(2) } else { self.retries.len() / 2 };
        let retries = self.retries.split_off(half);
        if !records.is_empty() || !retries.is_empty() {
            parts.push_front(Part::new(records, retries));
        }
        parts.push_front(Part::new(self.records, self.retries));
    }
}

/// Parts to begin with: pending roots before records, and those that a database has refused by themselves. Where many are, not all have their turn: not
/// always the same.
pub(super) fn parts(retries: Vec<Retry>, records: usize) -> VecDeque<Part> {
    let (mut refused, others): (Vec<Retry>, Vec<Retry>) = retries.into_iter().partition(|retry| was_refused(&retry.pending));
    fastrand::shuffle(&mut refused);
    let parts = [Part::new(Vec::new(), others), Part::new(Vec::new(), refused), Part::new((0..records).collect(), Vec::new())];
    parts.into_iter().filter(|part| !part.records.is_empty() || !part.retries.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::REFUSED;
    use crate::ledger::{Pending, PendingKind};
    use crate::value::{Cell, Key};

    fn retry(id: &str, reason: &str) -> Retry {
        let pending = Pending {
            entity: "crm.customer".to_owned(),
            columns: vec!["id".to_owned()],
            key: Key::from_cells([&Cell::Value(id.to_owned())]).expect("a key"),
            reason: reason.to_owned(),
            detail: String::new(),
            kind: PendingKind::Gone,
            cause: crate::change::Position { partition: crate::change::TopicPartition { topic: "t".into(), partition: 0 }, offset: 0 },
            partition_known: true,
            source: None,
            beside: Vec::new(),
        };
        Retry { pending, proven: None }
    }

    fn told(parts: &VecDeque<Part>) -> Vec<(usize, Vec<String>)> {
        let keys = |part: &Part| part.retries.iter().map(|retry| retry.pending.key.to_string()).collect();
        parts.iter().map(|part| (part.records.len(), keys(part))).collect()
    }

    #[test]
    fn h83_what_was_refused_before_is_tried_by_itself_and_halved_to_the_one() {
        let text = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut latched = retry("3", "latched");
        latched.pending.detail = "reference `order_customer`; refused before: a trigger".to_owned();
        let mut begun = parts(vec![retry("1", REFUSED), retry("2", "wait"), latched], 2);
        begun[1].retries.sort_by_key(|retry| retry.pending.key.to_string());
        assert_eq!(told(&begun), [(0, text(&["2"])), (0, text(&["1", "3"])), (2, vec![])]);
        assert_eq!(begun.iter().map(Part::is_of_refused).collect::<Vec<_>>(), [false, true, false]);
        let mut halves = VecDeque::new();
        Part::new(vec![], vec![retry("1", REFUSED), retry("2", REFUSED), retry("3", REFUSED)]).halve(&mut halves);
        assert_eq!(told(&halves), [(0, text(&["1", "2"])), (0, text(&["3"]))]);
        let mut halves = VecDeque::new();
        Part::new(vec![0], vec![retry("1", REFUSED)]).halve(&mut halves);
        assert_eq!(told(&halves), [(1, vec![]), (0, text(&["1"]))]);
    }

    #[test]
    fn h83_a_refused_record_loses_its_roots_then_its_copies_then_its_events() {
        let mut part = Part::new(vec![0], vec![]);
        part.refused = Some(Refused { why: "a reason".to_owned(), with_copies: false });
        part.refused_more();
        assert!(part.refused.as_ref().is_some_and(|refused| refused.with_copies && refused.why == "a reason"));
        part.refused_more();
        assert!(part.refused.is_none());
    }
}
