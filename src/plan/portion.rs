//! Roots with more rows than one transaction takes: what of a portion may go, and how a portion is cut.
//!
//! Children go before parents, so a row goes with the portion that has read everything below it. Rows above it were read and locked on the way
//! to it; they go with a later portion, and the root's own look-up is made anew each time (H48).

use std::collections::{BTreeMap, BTreeSet};

use super::expand::columns_key;
use super::{Collected, Expansion, Need, RowId, Scope};
use crate::graph::Graph;
use crate::rules::OnDelete;
use crate::value::Key;

/// Rows that have something unread below them: they stay for a later portion.
pub(super) fn incomplete(collected: &Collected, graph: &Graph, scope: Scope) -> BTreeSet<RowId> {
    if collected.unread.is_empty() {
        return BTreeSet::new();
    }
    let mut above: BTreeMap<RowId, Vec<RowId>> = BTreeMap::new();
    let mut open = Vec::new();
    for (id, (entity, row)) in (0u32..).map(RowId).zip(&collected.rows) {
        for (target, columns) in graph.targets_of(*entity) {
            let Some(key) = columns_key(&columns.columns, row) else { continue };
            for (edge_id, edge) in graph.edges_at(target).filter(|(_, edge)| scope.includes(edge)) {
                let place = (edge_id, key.clone());
                if collected.unread.contains(&place) {
                    open.push(id);
                }
                if edge.on_delete == OnDelete::Cascade {
                    for child in collected.children.get(&place).into_iter().flatten() {
                        above.entry(*child).or_default().push(id);
                    }
                }
            }
        }
    }
    let mut incomplete = BTreeSet::new();
    while let Some(row) = open.pop() {
        if incomplete.insert(row) {
            open.extend(above.get(&row).into_iter().flatten());
        }
    }
    incomplete
}

/// How much of a need a portion reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Share {
    /// This many rows at the most; if there are more, the keys are cut in halves and at last the rows.
    Rows(usize),
    /// Nothing: there is no room.
    Nothing,
}

/// Shares of a portion: a table that leads on leaves half of the room to what is below it, and takes no more than `width` of the first table.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Rows of the portion.
    pub rows: usize,
    /// Rows of a first table that leads on.
    pub width: usize,
}

impl Room {
    /// The share of a need, after what was read so far. `is_first` says whether it asks for rows that point at the root.
    #[must_use]
    pub fn share(self, expansion: &Expansion<'_>, need: &Need, is_first: bool) -> Share {
        let left = self.rows.saturating_sub(expansion.rows_read());
        let rows = match (expansion.leads_on(need.edge), is_first) {
            (false, _) => left,
            (true, false) => left.div_ceil(2),
            (true, true) => left.div_ceil(2).min(self.width.max(1)),
        };
        if rows == 0 { Share::Nothing } else { Share::Rows(rows) }
    }

    /// The width for the next portion: some more than went this time, so that little is read and locked in vain.
    #[must_use]
    pub fn next_width(self, went: usize) -> usize {
        went.saturating_mul(2).clamp(8, self.rows.max(8))
    }
}

/// Cuts a need that has too many rows: the first half of its keys, and the rest, which is left. `None` if it asks for one key.
#[must_use]
pub fn halve(need: &Need) -> Option<(Need, Vec<Key>)> {
    if need.keys.len() < 2 {
        return None;
    }
    let (first, rest) = need.keys.split_at(need.keys.len() / 2);
    Some((Need { edge: need.edge, keys: first.to_vec() }, rest.to_vec()))
}
