//! Which table hangs on which: entities, references, and the databases' own foreign keys, as one directed graph from parent to child.
//!
//! Cycles and self-references are legal. Knows ids, names, columns and actions; nothing of rows, databases or SQL. Pure.

use std::collections::BTreeSet;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::rules::{EntityId, Mode, OnDelete, OnUpdate, ReferenceId, When};

/// Index of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub u32);

/// Index of a target: columns of an entity at which references point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

/// A table in the graph: an entity of the rules, or a table that only native foreign keys reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `service.entity`, or `service.table` for a table that the rules do not name.
    pub name: String,
    /// Its key columns.
    pub key: Vec<String>,
}

/// Columns of an entity at which references point: its key, or another unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The entity.
    pub entity: EntityId,
    /// The columns, in the order of the references that use them.
    pub columns: Vec<String>,
}

/// A reference of the rules, or a native foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The reference's name; for a native key `native:service.name`.
    pub name: String,
    /// The entity whose rows point.
    pub child: EntityId,
    /// The child's columns, parallel to the target's.
    pub columns: Vec<String>,
    /// What it points at.
    pub target: TargetId,
    /// Conditions on the child's columns, in canonical texts.
    pub when: Vec<When>,
    /// What a gone parent entails.
    pub on_delete: OnDelete,
    /// What a changed parent key entails.
    pub on_update: OnUpdate,
    /// Applied, or only counted.
    pub mode: Mode,
    /// Whether rows are archived before they go or change by it.
    pub archive: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// What a native key of the same columns does to a row whose parent goes first; `None` if there is no such key.
    pub native_delete: Option<NativeDelete>,
    /// What the database does by itself to these rows when entail gives their parent another key.
    pub native_update: OnUpdate,
}

/// What a native key does to a row whose parent goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NativeDelete {
    /// It takes the row along.
    Takes,
    /// It makes the row let go.
    Changes,
    /// The parent cannot go, unless the row goes with the same statement.
    Refuses,
    /// The parent cannot go, whatever the rest of the statement does.
    RefusesAtOnce,
}

impl Edge {
    /// A native key of the same columns sees to it that who points at a row by it means that row.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native_delete.is_some()
    }

    /// Whether the database itself changes these rows when their parent gets another key.
    #[must_use]
    pub fn follows_natively(&self) -> bool {
        matches!(self.native_update, OnUpdate::Cascade | OnUpdate::SetNull | OnUpdate::SetDefault)
    }
}

/// A node's place in the order that native keys insist on, children first: by all of them; where these form a circle, by those that do not take
/// their rows along; and where these do, by those alone that refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NativeRank {
    points: usize,
    changes: usize,
    refuses: usize,
}

/// Where an edge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A reference of the rules.
    Rule(ReferenceId),
    /// A foreign key that the database enforces itself: it matters where entail removes rows, not where the service does.
    Native,
}

/// The whole graph. Ids of nodes are the rule set's entity ids, continued for tables that only native keys reach.
#[derive(Debug, Clone)]
pub struct Graph {
    nodes: Vec<Node>,
    targets: Vec<Target>,
    edges: Vec<Edge>,
    /// Per node, its place in an order in which children come before their parents; the nodes of a cycle share one.
    ranks: Vec<usize>,
    native_ranks: Vec<NativeRank>,
    reach: Vec<BTreeSet<EntityId>>,
    /// Edges by which, or below which, something may refuse.
    refusing: BTreeSet<EdgeId>,
}

/// An edge before its target has an id.
#[derive(Debug, Clone)]
pub struct EdgeDraft {
    /// The edge; its `target` is ignored.
    pub edge: Edge,
    /// The entity pointed at.
    pub parent: EntityId,
    /// The columns pointed at.
    pub parent_columns: Vec<String>,
}

impl Graph {
    /// Builds the graph. Every node gets a target for its key, whether or not something points at it.
    #[must_use]
    pub fn new(nodes: Vec<Node>, drafts: Vec<EdgeDraft>) -> Self {
        let mut targets: Vec<Target> =
            (0u32..).map(EntityId).zip(&nodes).map(|(entity, node)| Target { entity, columns: node.key.clone() }).collect();
        let mut edges = Vec::new();
        for EdgeDraft { mut edge, parent, parent_columns } in drafts {
            (edge.columns, edge.target) = point_at(&mut targets, parent, &parent_columns, edge.columns);
            edges.push(edge);
        }
        let mut graph =
            Self { nodes, targets, edges, ranks: Vec::new(), native_ranks: Vec::new(), reach: Vec::new(), refusing: BTreeSet::new() };
        graph.ranks = graph.ranked(|_| true);
        let at_least = |least| graph.ranked(|edge| edge.native_delete >= Some(least));
        let by_least = [NativeDelete::Takes, NativeDelete::Changes, NativeDelete::Refuses].map(at_least);
        let of = |node: usize| by_least.each_ref().map(|ranks| ranks.get(node).copied().unwrap_or_default());
        let native_ranks = (0..graph.nodes.len()).map(of).map(|[points, changes, refuses]| NativeRank { points, changes, refuses });
        graph.native_ranks = native_ranks.collect();
        graph.reach = (0u32..).map(EntityId).zip(&graph.nodes).map(|(entity, _)| graph.reached_from(entity)).collect();
        graph.refusing = graph.edges().filter(|(_, edge)| graph.refuses(edge)).map(|(id, _)| id).collect();
        graph
    }

    /// Ids and nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (EntityId, &Node)> {
        (0u32..).map(EntityId).zip(&self.nodes)
    }

    /// Ids and edges, in order.
    pub fn edges(&self) -> impl Iterator<Item = (EdgeId, &Edge)> {
        (0u32..).map(EdgeId).zip(&self.edges)
    }

    /// The node of an entity.
    #[must_use]
    pub fn node(&self, id: EntityId) -> &Node {
        self.nodes.get(id.0 as usize).expect("entity ids are made with this graph")
    }

    /// The edge of this id.
    #[must_use]
    pub fn edge(&self, id: EdgeId) -> &Edge {
        self.edges.get(id.0 as usize).expect("edge ids are made by this graph")
    }

    /// The target of this id.
    #[must_use]
    pub fn target(&self, id: TargetId) -> &Target {
        self.targets.get(id.0 as usize).expect("target ids are made by this graph")
    }

    /// The entity at which an edge points.
    #[must_use]
    pub fn parent(&self, edge: &Edge) -> EntityId {
        self.target(edge.target).entity
    }

    /// The target that is the entity's own key.
    #[must_use]
    pub fn key_target(&self, entity: EntityId) -> TargetId {
        TargetId(entity.0)
    }

    /// All targets of an entity, its key first.
    pub fn targets_of(&self, entity: EntityId) -> impl Iterator<Item = (TargetId, &Target)> {
        (0u32..).map(TargetId).zip(&self.targets).filter(move |(_, target)| target.entity == entity)
    }

    /// The edges that point at a target.
    pub fn edges_at(&self, target: TargetId) -> impl Iterator<Item = (EdgeId, &Edge)> {
        self.edges().filter(move |(_, edge)| edge.target == target)
    }

    /// References of the rules at any target of this entity.
    pub fn references_to(&self, entity: EntityId) -> impl Iterator<Item = (EdgeId, &Edge)> {
        self.edges().filter(move |(_, edge)| edge.origin != Origin::Native && self.parent(edge) == entity)
    }

    /// Some reference follows changes of this entity's keys: a missing key counts as gone only after the entity's topic has been read past the
    /// look-up (H114).
    #[must_use]
    pub fn keys_may_change(&self, entity: EntityId) -> bool {
        self.references_to(entity).any(|(_, edge)| edge.on_update != OnUpdate::NoAction)
    }

    /// A change of the parent may be refused by this edge, or by one below it.
    #[must_use]
    pub fn may_refuse(&self, edge: EdgeId) -> bool {
        self.refusing.contains(&edge)
    }

    /// Place in an order in which children come before their parents.
    #[must_use]
    pub fn rank(&self, entity: EntityId) -> usize {
        self.ranks.get(entity.0 as usize).copied().unwrap_or(0)
    }

    /// Whether a native key changes rows of this entity when their parents get other keys.
    #[must_use]
    pub fn follows_natively(&self, entity: EntityId) -> bool {
        self.edges().any(|(_, edge)| edge.child == entity && edge.follows_natively())
    }

    /// Place in the order that native keys insist on, among entities of one rank.
    #[must_use]
    pub fn native_rank(&self, entity: EntityId) -> NativeRank {
        self.native_ranks.get(entity.0 as usize).copied().unwrap_or_default()
    }

    /// Place in the order in which rows change: children before parents, by all references, and within a circle of these by native keys.
    #[must_use]
    pub fn place(&self, entity: EntityId) -> (usize, NativeRank) {
        (self.rank(entity), self.native_rank(entity))
    }

    /// The entities whose rows a change of this entity may touch. Holds the entity itself only if it is on a cycle.
    #[must_use]
    pub fn reach(&self, entity: EntityId) -> &BTreeSet<EntityId> {
        self.reach.get(entity.0 as usize).expect("entity ids are made with this graph")
    }

    /// The columns of an entity that the planner reads of each row: its key, what points at it, and what it points with. No repeats.
    #[must_use]
    pub fn columns_read(&self, entity: EntityId) -> Vec<String> {
        let mut columns = self.node(entity).key.clone();
        let targets = self.targets_of(entity).flat_map(|(_, target)| &target.columns);
        let pointing = self.edges.iter().filter(|edge| edge.child == entity).flat_map(|edge| &edge.columns);
        for column in targets.chain(pointing) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        columns
    }

    fn ranked(&self, counts: impl Fn(&Edge) -> bool) -> Vec<usize> {
        let mut graph: DiGraph<EntityId, ()> = DiGraph::new();
        let indexes: Vec<NodeIndex> = self.nodes().map(|(id, _)| graph.add_node(id)).collect();
        let index = |entity: EntityId| indexes.get(entity.0 as usize).copied().expect("one index per node");
        for edge in self.edges.iter().filter(|edge| counts(edge)) {
            graph.add_edge(index(self.parent(edge)), index(edge.child), ());
        }
        let mut ranks = vec![0; self.nodes.len()];
        // Tarjan's algorithm yields the components in reverse topological order: children first.
        for (rank, component) in tarjan_scc(&graph).into_iter().enumerate() {
            for node in component {
                if let Some(slot) = graph.node_weight(node).and_then(|entity| ranks.get_mut(entity.0 as usize)) {
                    *slot = rank;
                }
            }
        }
        ranks
    }

    fn refuses(&self, edge: &Edge) -> bool {
        let (mut open, mut seen) = (vec![edge], BTreeSet::new());
        while let Some(edge) = open.pop() {
            let native = edge.origin == Origin::Native && edge.on_delete == OnDelete::NoAction;
            if native || edge.on_delete == OnDelete::Restrict || edge.on_update == OnUpdate::Restrict {
                return true;
            }
            if edge.on_delete == OnDelete::Cascade && seen.insert(edge.child) {
                open.extend(self.edges.iter().filter(|below| self.parent(below) == edge.child));
            }
        }
        false
    }

    fn reached_from(&self, start: EntityId) -> BTreeSet<EntityId> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(entity) = open.pop() {
            for edge in self.edges.iter().filter(|edge| self.parent(edge) == entity) {
                if reached.insert(edge.child) {
                    open.push(edge.child);
                }
            }
        }
        reached
    }
}

/// Finds or makes the target, and puts the child's columns into its order (two references may list one key in two orders).
fn point_at(targets: &mut Vec<Target>, parent: EntityId, parent_columns: &[String], columns: Vec<String>) -> (Vec<String>, TargetId) {
    let same = |target: &Target| {
        target.entity == parent
            && target.columns.len() == parent_columns.len()
            && target.columns.iter().all(|column| parent_columns.contains(column))
    };
    let (id, target) = match (0u32..).map(TargetId).zip(targets.iter()).find(|(_, target)| same(target)) {
        Some((id, target)) => (id, target.clone()),
        None => {
            let id = TargetId(u32::try_from(targets.len()).expect("fewer targets than columns in the rules"));
            let target = Target { entity: parent, columns: parent_columns.to_vec() };
            targets.push(target.clone());
            (id, target)
        }
    };
    let ordered = target.columns.iter().filter_map(|wanted| {
        let place = parent_columns.iter().position(|column| column == wanted)?;
        columns.get(place).cloned()
    });
    (ordered.collect(), id)
}

#[cfg(test)]
impl Edge {
    /// A native key that takes rows along, for tests.
    pub(crate) fn native(child: EntityId, columns: Vec<String>) -> Self {
        Self {
            name: "native:key".to_owned(),
            child,
            columns,
            target: TargetId(0),
            when: Vec::new(),
            on_delete: OnDelete::Cascade,
            on_update: OnUpdate::NoAction,
            mode: Mode::Enforce,
            archive: true,
            origin: Origin::Native,
            native_delete: Some(NativeDelete::Takes),
            native_update: OnUpdate::NoAction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node { name: name.to_owned(), key: vec!["id".to_owned()] }
    }

    fn draft(child: u32, parent: u32, columns: &[&str], parent_columns: &[&str]) -> EdgeDraft {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        EdgeDraft {
            edge: Edge { name: format!("{child}->{parent}"), ..Edge::native(EntityId(child), owned(columns)) },
            parent: EntityId(parent),
            parent_columns: owned(parent_columns),
        }
    }

    #[test]
    fn h25_children_rank_before_parents_and_a_cycle_shares_one_rank() {
        let nodes = vec![node("a"), node("b"), node("c"), node("d")];
        let edges = vec![
            draft(1, 0, &["a"], &["id"]),
            draft(2, 1, &["b"], &["id"]),
            draft(1, 2, &["c"], &["id"]),
            draft(3, 2, &["c"], &["id"]),
            draft(0, 0, &["up"], &["id"]),
        ];
        let graph = Graph::new(nodes, edges);
        assert!(graph.rank(EntityId(3)) < graph.rank(EntityId(1)));
        assert_eq!(graph.rank(EntityId(1)), graph.rank(EntityId(2)));
        assert!(graph.rank(EntityId(2)) < graph.rank(EntityId(0)));
        assert_eq!(graph.reach(EntityId(1)), &BTreeSet::from([EntityId(1), EntityId(2), EntityId(3)]));
    }

    #[test]
    fn two_references_that_list_one_key_in_two_orders_share_a_target() {
        let graph = Graph::new(
            vec![node("parent"), node("child")],
            vec![draft(1, 0, &["x", "y"], &["a", "b"]), draft(1, 0, &["v", "u"], &["b", "a"])],
        );
        let targets: Vec<_> = graph.edges().map(|(_, edge)| edge.target).collect();
        assert_eq!(targets.first(), targets.last());
        let columns: Vec<_> = graph.edges().map(|(_, edge)| edge.columns.join(" ")).collect();
        assert_eq!(columns, ["x y", "u v"]);
    }

    #[test]
    fn h26_a_reference_may_refuse_by_what_it_leads_to() {
        let rule = |child, parent, on_delete| {
            let draft = draft(child, parent, &["a"], &["id"]);
            EdgeDraft { edge: Edge { origin: Origin::Rule(ReferenceId(0)), on_delete, ..draft.edge }, ..draft }
        };
        let native = |draft: EdgeDraft| EdgeDraft { edge: Edge { origin: Origin::Native, ..draft.edge }, ..draft };
        let may_refuse = |first: EdgeDraft, second: EdgeDraft| {
            let graph = Graph::new(vec![node("a"), node("b"), node("c")], vec![first, second]);
            (graph.may_refuse(EdgeId(0)), graph.may_refuse(EdgeId(1)))
        };
        let cascade = || rule(1, 0, OnDelete::Cascade);
        let lets_go = || rule(1, 0, OnDelete::SetNull(vec!["a".to_owned()]));
        assert_eq!(may_refuse(cascade(), rule(2, 1, OnDelete::Cascade)), (false, false));
        assert_eq!(may_refuse(cascade(), rule(2, 1, OnDelete::Restrict)), (true, true));
        assert_eq!(may_refuse(lets_go(), rule(2, 1, OnDelete::Restrict)), (false, true), "its row stays");
        assert_eq!(may_refuse(cascade(), rule(2, 1, OnDelete::NoAction)), (false, false));
        assert_eq!(may_refuse(cascade(), native(rule(2, 1, OnDelete::NoAction))), (true, true));
        assert_eq!(may_refuse(cascade(), native(rule(2, 1, OnDelete::Cascade))), (false, false));
        assert_eq!(may_refuse(cascade(), rule(2, 0, OnDelete::Restrict)), (false, true), "beside it, not below it");
        let change = rule(2, 1, OnDelete::Cascade);
        let change = EdgeDraft { edge: Edge { on_update: OnUpdate::Restrict, ..change.edge }, ..change };
        assert_eq!(may_refuse(cascade(), change), (true, true));
        assert_eq!(may_refuse(rule(0, 0, OnDelete::Cascade), cascade()), (false, false), "a circle ends");
    }

    #[test]
    fn h64_rows_follow_natively_where_a_key_of_their_own_table_says_so() {
        let follows = |native_update| {
            let by = draft(1, 0, &["a"], &["id"]);
            let by = EdgeDraft { edge: Edge { native_update, ..by.edge }, ..by };
            let graph = Graph::new(vec![node("a"), node("b"), node("c")], vec![by, draft(2, 0, &["a"], &["id"])]);
            [0, 1, 2].map(|entity| graph.follows_natively(EntityId(entity)))
        };
        for action in [OnUpdate::Cascade, OnUpdate::SetNull, OnUpdate::SetDefault] {
            assert_eq!(follows(action), [false, true, false], "{action:?}");
        }
        for action in [OnUpdate::Restrict, OnUpdate::NoAction] {
            assert_eq!(follows(action), [false; 3], "{action:?}");
        }
    }
}
