//! Plans over small graphs: customers ← orders ← lines, and a table that points at itself.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::graph::{Edge, EdgeDraft, Graph, Node, Origin};
use crate::rules::{Mode, OnDelete, OnUpdate, ReferenceId};
use crate::value::Cell;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn edge(name: &str, (child, column): (u32, &str), parent: u32, on_delete: OnDelete) -> EdgeDraft {
    let edge = Edge {
        name: name.to_owned(),
        child: EntityId(child),
        columns: names(&[column]),
        target: TargetId(0),
        when: Vec::new(),
        on_delete,
        on_update: OnUpdate::NoAction,
        mode: Mode::Enforce,
        origin: Origin::Rule(ReferenceId(0)),
    };
    EdgeDraft { edge, parent: EntityId(parent), parent_columns: names(&["id"]) }
}

fn graph(edges: Vec<EdgeDraft>) -> Graph {
    Graph::new(["customer", "order", "line"].map(|name| Node { name: name.to_owned(), key: names(&["id"]) }).into(), edges)
}

fn key(text: &str) -> Key {
    Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value")
}

/// Rows of the little tables: entity, then column and text.
type Rows = Vec<(u32, Vec<(&'static str, &'static str)>)>;

/// Answers every question from the rows, and plans the removal of customer 1.
fn planned(graph: &Graph, rows: &Rows, bounds: &Bounds) -> Plan {
    let root = Root { target: graph.key_target(EntityId(0)), key: key("1"), fate: Fate::Gone, seen: None };
    let latched = BTreeSet::new();
    let mut expansion = Expansion::new(graph, vec![root], &latched, Scope::Enforced);
    for _round in 0..100 {
        let needs = expansion.needs();
        if needs.is_empty() {
            let collected = expansion.finish();
            return plan(collected.verify(BTreeSet::from([RootId(0)])), graph, bounds);
        }
        for need in needs {
            let edge = graph.edge(need.edge);
            let image = |cells: &[(&str, &str)]| -> RowImage {
                cells.iter().map(|(name, text)| ((*name).to_owned(), Cell::Value((*text).to_owned()))).collect()
            };
            let of_child = rows.iter().filter(|(entity, _)| EntityId(*entity) == edge.child);
            let read = of_child.map(|(_, cells)| image(cells)).filter(|image| {
                let points_at = edge.columns.iter().filter_map(|column| image.get(column));
                Key::from_cells(points_at).is_some_and(|key| need.keys.contains(&key))
            });
            let child = |image: RowImage| ChildRow {
                key: Key::from_cells(image.get("id")).expect("every row has a key"),
                image,
                version: String::new(),
            };
            expansion.answer(&need, read.map(child).collect());
        }
    }
    panic!("the questions do not end");
}

fn bounds() -> Bounds {
    let (latched, window, unclear) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    Bounds { rows_per_event: 100, latched, window, unclear, scope: Scope::Enforced }
}

/// The steps as lines: action, entity, keys.
fn told(graph: &Graph, plan: &Plan) -> Vec<String> {
    let line = |step: &Step| {
        let keys: Vec<String> = step.rows.iter().map(|row| row.key.to_string()).collect();
        format!("{} {} {}", step.action.as_str(), graph.node(step.entity).name, keys.join(" "))
    };
    plan.steps.iter().map(line).collect()
}

#[test]
fn children_go_before_their_parents() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("lo", (2, "order"), 1, OnDelete::Cascade)]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (1, vec![("id", "20"), ("customer", "2")]),
        (2, vec![("id", "100"), ("order", "10")]),
        (2, vec![("id", "200"), ("order", "20")]),
    ];
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete line 100", "delete order 10"]);
}

#[test]
fn h24_a_row_reached_by_cascade_and_by_set_null_goes_once() {
    let set_null = OnDelete::SetNull(names(&["worker"]));
    let graph = graph(vec![edge("owner", (1, "owner"), 0, OnDelete::Cascade), edge("worker", (1, "worker"), 0, set_null)]);
    let rows = vec![(1, vec![("id", "10"), ("owner", "1"), ("worker", "1")]), (1, vec![("id", "11"), ("owner", "2"), ("worker", "1")])];
    let plan = planned(&graph, &rows, &bounds());
    let mut lines = told(&graph, &plan);
    lines.sort();
    assert_eq!(lines, ["delete order 10", "update order 11"]);
    assert_eq!(plan.rows, BTreeMap::from([(RootId(0), 2)]));
}

#[test]
fn h25_cycles_and_rows_that_are_their_own_parent_end() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("up", (1, "up"), 1, OnDelete::Cascade)]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1"), ("up", "12")]),
        (1, vec![("id", "11"), ("up", "10")]),
        (1, vec![("id", "12"), ("up", "11")]),
        (1, vec![("id", "13"), ("customer", "1"), ("up", "13")]),
    ];
    let plan = planned(&graph, &rows, &bounds());
    assert_eq!(plan.rows, BTreeMap::from([(RootId(0), 4)]));
}

#[test]
fn h26_a_restrict_deep_below_holds_the_whole_root() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("lo", (2, "order"), 1, OnDelete::Restrict)]);
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    let plan = planned(&graph, &rows, &bounds());
    assert!(plan.steps.is_empty());
    assert!(matches!(plan.blocked.get(&RootId(0)), Some(Blocked::Restrict(_))));
}

#[test]
fn h23_a_middle_row_with_a_key_that_another_row_gave_up_holds_the_whole_root() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("lo", (2, "order"), 1, OnDelete::Cascade)]);
    // Line 100 says order 10: the one of now, or the one that had the key before and is not worked yet?
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    let unclear = BTreeSet::from([(graph.key_target(EntityId(1)), key("10"))]);
    let plan = planned(&graph, &rows, &Bounds { unclear, ..bounds() });
    assert!(plan.steps.is_empty());
    assert!(matches!(plan.blocked.get(&RootId(0)), Some(Blocked::Unclear(_))));
}
