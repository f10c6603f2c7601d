//! Roots with more rows than one transaction takes: left for portions, worked a portion at a time, or whole where no portion can go by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{Failure, Job};
use super::{Authority, Counted, Extent};
use crate::graph::{EdgeId, Origin};
use crate::plan::{Blocked, Collected, Fate, Plan, Room, Root, RootId};
use crate::resolve::{self, Reach, Reading};
use crate::rules::EntityId;
use crate::value::Key;

/// What was found under the roots of a batch.
pub(super) enum Found {
    /// Rows to plan with: all, or a portion.
    Rows(Collected),
    /// Nothing is done now: every root is held back.
    Held(Plan),
}

/// What a portion is judged by.
#[derive(Default)]
pub(super) struct Seen {
    /// Per root, by its place, the references at it.
    edges: Vec<Vec<EdgeId>>,
    /// The rows that point at a root.
    first_level: BTreeMap<EntityId, BTreeSet<Key>>,
}

impl Job<'_> {
    /// Reads what hangs on the roots, as much at once as the batch says.
    pub(super) async fn collect(&mut self, roots: Vec<Root>) -> Result<Found, Failure> {
        let count = roots.len();
        if let Extent::Portion(portion) = &self.batch.extent {
            if let Some(counted) = &portion.counted
                && let Some(blocked) = self.held_by(counted).await?
            {
                return Ok(Found::Held(self.hold_all(count, blocked)));
            }
            let room = self.room(portion.width);
            let collected = resolve::collect_portion(self.model, &mut self.sessions, roots, &self.latched, room).await?;
            return Ok(Found::Rows(collected));
        }
        let (limit, in_portions) = self.limit(&roots);
        self.in_shadow = self.shadow(&roots, limit).await?;
        let reach = Reach { latched: &self.latched, scope: crate::plan::Scope::Enforced, limit };
        match resolve::collect(self.model, &mut self.sessions, roots, reach).await? {
            Reading::Whole(collected) => Ok(Found::Rows(collected)),
            Reading::TooMany(edge) if in_portions => Ok(Found::Held(self.hold_all(count, Blocked::Large(edge)))),
            Reading::TooMany(edge) if self.is_smallest() => Ok(Found::Held(self.hold_all(count, Blocked::RowsPerEvent(edge)))),
            Reading::TooMany(_) => Err(Failure::TooMany),
        }
    }

    fn room(&self, width: usize) -> Room {
        Room { rows: self.engine.rows_per_portion.max(1), width }
    }

    /// Rows to read at the most, and whether a root that has more is worked in portions. A batch that can be cut is cut rather than read above it;
    /// each root of one that cannot is read up to its limit and one more.
    fn limit(&self, roots: &[Root]) -> (usize, bool) {
        if !self.is_smallest() {
            return (self.engine.rows_per_transaction.max(1), false);
        }
        let per_event = usize::try_from(self.rows_per_event()).unwrap_or(usize::MAX).saturating_add(1);
        let (whole, portion) = (per_event.saturating_mul(roots.len()), self.engine.rows_per_portion.max(1));
        let in_portions = whole > portion && self.may_go_in_portions(roots);
        (if in_portions { portion } else { whole }, in_portions)
    }

    /// Where keys may change, only rows may go that were read before one look-up: they are kept in mind, so they go at once (H114).
    fn may_go_in_portions(&self, roots: &[Root]) -> bool {
        let graph = &self.model.graph;
        let is_plain =
            |root: &Root| root.fate == Fate::Gone && root.seen.is_none() && !graph.keys_may_change(graph.target(root.target).entity);
        let writes = matches!(self.authority, Authority::Owner(_) | Authority::Replay { apply: true });
        writes && matches!(self.batch.extent, Extent::Usual) && roots.iter().all(is_plain)
    }

    /// What holds a root back before the first of its portions goes. Whether a native key refuses it is known when all of it has been read.
    async fn held_by(&mut self, counted: &Counted) -> Result<Option<Blocked>, Failure> {
        if let Some(edge) = counted.refusal {
            let is_native = self.model.graph.edge(edge).origin == Origin::Native;
            return Ok(Some(if is_native { Blocked::Whole(edge) } else { Blocked::Restrict(edge) }));
        }
        let bounds = self.bounds().await?;
        let most = counted.per_edge.iter().max_by_key(|(_, rows)| **rows).map(|(edge, _)| *edge);
        Ok(most.filter(|_| counted.is_over).map(Blocked::RowsPerEvent).or_else(|| bounds.exceeded(&counted.per_edge)))
    }

    /// All roots of the batch wait, for this reason: nobody has read how many rows they have, or they have too many.
    fn hold_all(&mut self, roots: usize, blocked: Blocked) -> Plan {
        let plan = Plan { blocked: (0u32..).map(RootId).take(roots).map(|root| (root, blocked)).collect(), ..Plan::default() };
        self.latch_the_exceeded(&plan);
        plan
    }

    /// What a portion is judged by; of a batch that is none, nothing.
    pub(super) fn portion_seen(&self, collected: &Collected) -> Seen {
        let mut seen = Seen::default();
        if !collected.is_portion() {
            return seen;
        }
        for (_, root) in collected.roots() {
            let edges: Vec<EdgeId> = self.model.graph.edges_at(root.target).map(|(edge, _)| edge).collect();
            for (edge, row) in collected.first_level(root, &edges) {
                seen.first_level.entry(self.model.graph.edge(edge).child).or_default().insert(row.key.clone());
            }
            seen.edges.push(edges);
        }
        seen
    }

    /// A portion of which nothing can go, or which a native key would refuse as long as the rest is there, is no portion: its roots are worked
    /// whole.
    pub(super) fn judge_portion(&mut self, plan: &mut Plan, seen: &Seen) {
        let Extent::Portion(portion) = &self.batch.extent else { return };
        let is_stuck = plan.steps.is_empty();
        for id in plan.unfinished.clone() {
            let edge = match plan.blocked.get(&id) {
                Some(Blocked::Native(edge)) => Some(*edge),
                None if is_stuck => seen.edges.get(id.0 as usize).and_then(|edges| edges.first().copied()),
                Some(_) | None => None,
            };
            if let Some(edge) = edge {
                plan.blocked.insert(id, Blocked::Whole(edge));
            }
        }
        let is_first = |entity: EntityId, key: &Key| seen.first_level.get(&entity).is_some_and(|keys| keys.contains(key));
        let went = plan.steps.iter().flat_map(|step| step.rows.iter().filter(|row| is_first(step.entity, &row.key))).count();
        self.report.next_width = self.room(portion.width).next_width(went);
    }
}
