//! Plans over small graphs: customers ← orders ← lines, and a table that points at itself.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::graph::{Edge, EdgeDraft, Graph, NativeDelete, Node, Origin};
use crate::rules::{Mode, OnDelete, OnUpdate, ReferenceId};
use crate::value::Cell;

mod reduce;
mod steps;

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
        archive: true,
        origin: Origin::Rule(ReferenceId(0)),
        native_delete: None,
        native_update: OnUpdate::NoAction,
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

/// Plans the removal of customer 1.
fn planned(graph: &Graph, rows: &Rows, bounds: &Bounds) -> Plan {
    let root = Root { target: graph.key_target(EntityId(0)), key: key("1"), fate: Fate::Gone, beside: BTreeSet::new(), seen: None };
    planned_from(vec![root], &Confirmed { doomed: BTreeSet::from([RootId(0)]), waiting: BTreeSet::new() }, graph, rows, bounds)
}

/// Answers every question from the rows.
fn planned_from(roots: Vec<Root>, confirmed: &Confirmed, graph: &Graph, rows: &Rows, bounds: &Bounds) -> Plan {
    let latched = BTreeSet::new();
    let mut expansion = Expansion::new(graph, roots, &latched, bounds.scope);
    for _round in 0..100 {
        let needs = expansion.needs();
        if needs.is_empty() {
            let collected = expansion.finish();
            return plan(collected.verify(confirmed.clone()), graph, bounds);
        }
        for need in needs {
            let read = answer(graph, rows, &need);
            expansion.answer(&need, read);
        }
    }
    panic!("the questions do not end");
}

/// The rows that a need asks for.
fn answer(graph: &Graph, rows: &Rows, need: &Need) -> Vec<ChildRow> {
    let edge = graph.edge(need.edge);
    let image = |cells: &[(&str, &str)]| -> RowImage {
        cells.iter().map(|(name, text)| ((*name).to_owned(), Cell::Value((*text).to_owned()))).collect()
    };
    let of_child = rows.iter().filter(|(entity, _)| EntityId(*entity) == edge.child);
    let read = of_child.map(|(_, cells)| image(cells)).filter(|image| {
        let points_at = edge.columns.iter().filter_map(|column| image.get(column));
        Key::from_cells(points_at).is_some_and(|key| need.keys.contains(&key))
    });
    let child =
        |image: RowImage| ChildRow { key: Key::from_cells(image.get("id")).expect("every row has a key"), image, version: String::new() };
    read.map(child).collect()
}

fn bounds() -> Bounds {
    Bounds {
        rows_per_event: 100,
        released: Default::default(),
        latched: BTreeSet::new(),
        window: BTreeMap::new(),
        scope: Scope::Enforced,
        is_dry: false,
    }
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
fn h26_a_restrict_under_one_unique_key_of_a_row_holds_what_hangs_on_the_other() {
    let by_code = EdgeDraft { parent_columns: names(&["code"]), ..edge("lc", (2, "code"), 0, OnDelete::Restrict) };
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), by_code]);
    let code = graph.edge(EdgeId(1)).target;
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("code", "c")])];
    let planned = |beside: &[(TargetId, Key)], waits: bool| {
        let root = |target, text| Root { target, key: key(text), fate: Fate::Gone, beside: beside.iter().cloned().collect(), seen: None };
        let roots = vec![root(graph.key_target(EntityId(0)), "1"), root(code, "c")];
        let (first, second) = (BTreeSet::from([RootId(0)]), BTreeSet::from([RootId(1)]));
        let both = first.union(&second).copied().collect();
        let confirmed =
            if waits { Confirmed { doomed: first, waiting: second } } else { Confirmed { doomed: both, waiting: BTreeSet::new() } };
        planned_from(roots, &confirmed, &graph, &rows, &bounds())
    };
    for waits in [false, true] {
        let plan = planned(&[(code, key("c"))], waits);
        assert!(plan.steps.is_empty(), "waits: {waits}");
        assert!(matches!(plan.blocked.get(&RootId(0)), Some(Blocked::Restrict(EdgeId(1)))), "waits: {waits}");
        assert_eq!(told(&graph, &planned(&[], waits)), ["delete order 10"], "another row's restrict holds nothing; waits: {waits}");
    }
}

#[test]
fn h64_rows_in_a_circle_go_in_the_order_that_native_keys_insist_on() {
    let beside = |draft: EdgeDraft, what| EdgeDraft { edge: Edge { native_delete: Some(what), ..draft.edge }, ..draft };
    let native = |draft: EdgeDraft| {
        let draft = beside(draft, NativeDelete::Changes);
        EdgeDraft { edge: Edge { origin: Origin::Native, ..draft.edge }, ..draft }
    };
    let default = OnDelete::SetDefault(names(&["line"]));
    let circle = |edge_of_order, edge_of_line| {
        let both = [edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("lc", (2, "customer"), 0, OnDelete::Cascade)];
        graph(both.into_iter().chain([edge_of_order, edge_of_line]).collect())
    };
    let rows =
        vec![(1, vec![("id", "10"), ("customer", "1"), ("line", "100")]), (2, vec![("id", "100"), ("customer", "1"), ("order", "10")])];
    let graph = circle(native(edge("ol", (1, "line"), 2, default.clone())), edge("lo", (2, "order"), 1, OnDelete::Cascade));
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete order 10", "delete line 100"]);
    let default = OnDelete::SetDefault(names(&["order"]));
    let graph = circle(edge("ol", (1, "line"), 2, OnDelete::Cascade), native(edge("lo", (2, "order"), 1, default)));
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete line 100", "delete order 10"]);
    // A key beside a rule insists as well: it may have no action of its own.
    let up = || edge("ol", (1, "line"), 2, OnDelete::Cascade);
    let down = || edge("lo", (2, "order"), 1, OnDelete::Cascade);
    let graph = circle(up(), beside(down(), NativeDelete::Refuses));
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete line 100", "delete order 10"]);
    let graph = circle(beside(up(), NativeDelete::Refuses), down());
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete order 10", "delete line 100"]);
    // Of two that cannot both have their way, the one that refuses has it.
    let graph = circle(beside(up(), NativeDelete::Changes), beside(down(), NativeDelete::Refuses));
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete line 100", "delete order 10"]);
    let graph = circle(beside(up(), NativeDelete::Refuses), beside(down(), NativeDelete::Changes));
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete order 10", "delete line 100"]);
}

#[test]
fn h110_keys_that_a_default_may_name_are_told_when_they_go() {
    let graph = graph(vec![
        edge("oc", (1, "customer"), 0, OnDelete::Cascade),
        edge("lo", (2, "order"), 1, OnDelete::SetDefault(names(&["order"]))),
    ]);
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    let plan = planned(&graph, &rows, &bounds());
    assert_eq!(plan.vacated, BTreeSet::from([(graph.key_target(EntityId(1)), key("10"))]));
}

#[test]
fn h23_what_hangs_on_a_middle_row_whose_key_may_have_been_anothers_goes_by_that_rows_own_event() {
    let follow = |draft: EdgeDraft| EdgeDraft { edge: Edge { on_update: OnUpdate::Cascade, ..draft.edge }, ..draft };
    let line = |on_delete| follow(edge("lo", (2, "order"), 1, on_delete));
    let order = || edge("oc", (1, "customer"), 0, OnDelete::Cascade);
    // Line 100 says order 10: the one of now, or one that had the key before?
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    let told = |graph: &Graph| told(graph, &planned(graph, &rows, &bounds()));
    assert_eq!(told(&graph(vec![order(), line(OnDelete::Cascade)])), ["delete order 10"]);
    assert!(told(&graph(vec![order(), line(OnDelete::Restrict)])).is_empty(), "what it refuses, it refuses");
    let held = EdgeDraft { parent_columns: names(&["id"]), ..edge("ll", (2, "up"), 2, OnDelete::Restrict) };
    let held = EdgeDraft { edge: Edge { origin: Origin::Native, ..held.edge }, ..held };
    let below = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (2, vec![("id", "100"), ("order", "10")]),
        (2, vec![("id", "101"), ("up", "100")]),
    ];
    let refused = graph(vec![order(), line(OnDelete::Cascade), held]);
    assert!(planned(&refused, &below, &bounds()).steps.is_empty(), "what a native key will refuse below it, too");
    let deeper = graph(vec![order(), line(OnDelete::Cascade), edge("ll", (2, "up"), 2, OnDelete::Cascade)]);
    let pointed_at = graph(vec![order(), line(OnDelete::NoAction)]);
    assert!(planned(&pointed_at, &rows, &bounds()).orphans.is_empty(), "nor is it an orphan yet");
    let refusing = || {
        let up = edge("ll", (2, "up"), 2, OnDelete::Restrict);
        EdgeDraft { edge: Edge { origin: Origin::Native, ..up.edge }, ..up }
    };
    let circle = graph(vec![order(), line(OnDelete::Cascade), refusing()]);
    let of_one_order = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (2, vec![("id", "100"), ("order", "10")]),
        (2, vec![("id", "101"), ("order", "10"), ("up", "100")]),
    ];
    assert_eq!(planned(&circle, &of_one_order, &bounds()).steps.len(), 1, "both lines go later: neither is in the other's way");
    let steps = planned(&deeper, &below, &bounds()).steps;
    assert_eq!(steps.iter().map(|step| step.entity).collect::<Vec<_>>(), [EntityId(1)], "what hangs on the line waits with it");
    let native = line(OnDelete::Cascade);
    let backed = graph(vec![order(), EdgeDraft { edge: Edge { native_delete: Some(NativeDelete::Takes), ..native.edge }, ..native }]);
    assert_eq!(told(&backed), ["delete line 100", "delete order 10"], "the database itself says that it is the order of now");
}

#[test]
fn what_hangs_on_a_row_that_stays_is_not_asked_for() {
    let set_null = OnDelete::SetNull(names(&["customer"]));
    let graph = graph(vec![edge("oc", (1, "customer"), 0, set_null), edge("lo", (2, "order"), 1, OnDelete::Cascade)]);
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    let (latched, root) = (BTreeSet::new(), gone(&graph, "1"));
    let mut expansion = Expansion::new(&graph, vec![root], &latched, Scope::Enforced);
    for need in expansion.needs() {
        expansion.answer(&need, answer(&graph, &rows, &need));
    }
    assert_eq!(expansion.needs(), []);
}

/// Two customers are gone, and both are looked up.
fn two_gone(graph: &Graph) -> (Vec<Root>, Confirmed) {
    let doomed = BTreeSet::from([RootId(0), RootId(1)]);
    (vec![gone(graph, "1"), gone(graph, "2")], Confirmed { doomed, waiting: BTreeSet::new() })
}

fn gone(graph: &Graph, text: &str) -> Root {
    Root { target: graph.key_target(EntityId(0)), key: key(text), fate: Fate::Gone, beside: BTreeSet::new(), seen: None }
}

#[test]
fn h24_a_row_that_goes_with_two_roots_is_ascribed_to_the_first() {
    let graph = graph(vec![edge("owner", (1, "owner"), 0, OnDelete::Cascade), edge("worker", (1, "worker"), 0, OnDelete::Cascade)]);
    let rows = vec![(1, vec![("id", "10"), ("owner", "1"), ("worker", "2")])];
    let (roots, confirmed) = two_gone(&graph);
    let plan = planned_from(roots, &confirmed, &graph, &rows, &bounds());
    assert_eq!(plan.steps.iter().flat_map(|step| &step.rows).map(|row| row.root).collect::<Vec<_>>(), [RootId(0)]);
}

#[test]
fn h80_the_roots_of_a_batch_share_what_is_left_of_a_window() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade)]);
    let lets_go = self::graph(vec![edge("oc", (1, "customer"), 0, OnDelete::SetNull(names(&["customer"])))]);
    let order = |id, customer| (1, vec![("id", id), ("customer", customer)]);
    let rows = vec![order("10", "1"), order("11", "1"), order("12", "1"), order("20", "2"), order("21", "2"), order("22", "2")];
    let blocked = |graph: &Graph, left| {
        let (roots, confirmed) = two_gone(graph);
        let bounds = Bounds { window: BTreeMap::from([(EdgeId(0), left)]), ..bounds() };
        planned_from(roots, &confirmed, graph, &rows, &bounds).blocked
    };
    for graph in [graph, lets_go] {
        assert_eq!(blocked(&graph, 6), BTreeMap::new());
        assert_eq!(blocked(&graph, 5), BTreeMap::from([(RootId(1), Blocked::Window(EdgeId(0)))]));
        assert_eq!(blocked(&graph, 2), BTreeMap::from([0, 1].map(|root| (RootId(root), Blocked::Window(EdgeId(0))))));
    }
}

#[test]
fn h26_what_a_native_key_refuses_under_one_unique_key_holds_what_hangs_on_the_other() {
    let native = |draft: EdgeDraft| EdgeDraft { edge: Edge { origin: Origin::Native, ..draft.edge }, ..draft };
    let by_code = EdgeDraft { parent_columns: names(&["code"]), ..edge("lc", (2, "code"), 0, OnDelete::Cascade) };
    let graph = graph(vec![
        edge("oc", (1, "customer"), 0, OnDelete::Cascade),
        by_code,
        native(EdgeDraft { parent_columns: names(&["id"]), ..edge("ll", (2, "up"), 2, OnDelete::Restrict) }),
    ]);
    let code = graph.edge(EdgeId(1)).target;
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (1, vec![("id", "20"), ("customer", "2")]),
        (2, vec![("id", "100"), ("code", "c")]),
        (2, vec![("id", "101"), ("code", "of nobody"), ("up", "100")]),
    ];
    let by_id = Root { beside: BTreeSet::from([(code, key("c"))]), ..gone(&graph, "1") };
    let by_code = Root { target: code, key: key("c"), ..gone(&graph, "1") };
    let confirmed = Confirmed { doomed: (0..3).map(RootId).collect(), waiting: BTreeSet::new() };
    let plan = planned_from(vec![by_id, gone(&graph, "2"), by_code], &confirmed, &graph, &rows, &bounds());
    assert_eq!(plan.blocked, BTreeMap::from([0, 2].map(|root| (RootId(root), Blocked::Native(EdgeId(2))))));
    assert_eq!(told(&graph, &plan), ["delete order 20"]);
}

#[test]
fn what_hangs_on_a_row_in_shadow_is_counted_though_its_key_may_change() {
    let in_shadow = |draft: EdgeDraft| EdgeDraft { edge: Edge { mode: Mode::Shadow, ..draft.edge }, ..draft };
    let follows = |draft: EdgeDraft| EdgeDraft { edge: Edge { on_update: OnUpdate::Cascade, ..draft.edge }, ..draft };
    let graph = graph(vec![
        edge("oc", (1, "customer"), 0, OnDelete::Cascade),
        in_shadow(edge("lo", (2, "order"), 1, OnDelete::Cascade)),
        follows(edge("ll", (2, "up"), 2, OnDelete::Cascade)),
    ]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (2, vec![("id", "100"), ("order", "10")]),
        (2, vec![("id", "101"), ("up", "100")]),
    ];
    let with_shadow = Bounds { scope: Scope::WithShadow, ..bounds() };
    assert_eq!(planned(&graph, &rows, &with_shadow).rows, BTreeMap::from([(RootId(0), 3)]));
}

#[test]
fn h48_of_a_portion_only_rows_go_below_which_all_was_read() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("lo", (2, "order"), 1, OnDelete::Cascade)]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (1, vec![("id", "20"), ("customer", "1")]),
        (2, vec![("id", "100"), ("order", "10")]),
        (2, vec![("id", "200"), ("order", "20")]),
    ];
    let latched = BTreeSet::new();
    let mut expansion = Expansion::new(&graph, vec![gone(&graph, "1")], &latched, Scope::Enforced);
    let room = Room { rows: 4, width: 8 };
    let needs = expansion.needs();
    assert_eq!(room.share(&expansion, &needs[0], true), Share::Rows(2), "half of the room for orders, on which lines hang");
    expansion.answer(&needs[0], answer(&graph, &rows, &needs[0]));
    let needs = expansion.needs();
    assert_eq!(room.share(&expansion, &needs[0], false), Share::Rows(2), "two were read, and nothing hangs on lines");
    assert_eq!(Room { rows: 2, ..room }.share(&expansion, &needs[0], false), Share::Nothing);
    let (first, rest) = halve(&needs[0]).expect("two keys");
    expansion.answer(&first, answer(&graph, &rows, &first));
    expansion.leave(first.edge, &rest);
    let collected = expansion.finish();
    assert!(collected.is_portion());
    let confirmed = Confirmed { doomed: BTreeSet::from([RootId(0)]), waiting: BTreeSet::new() };
    let plan = plan(collected.verify(confirmed.clone()), &graph, &bounds());
    assert_eq!(told(&graph, &plan), ["delete line 100", "delete order 10"]);
    assert_eq!(plan.unfinished, confirmed.doomed);
    assert_eq!(plan.rows, BTreeMap::from([(RootId(0), 2)]));
}

#[test]
fn h64_a_row_that_stays_for_a_later_portion_is_kept_before_it_lets_go_of_one_that_goes() {
    let up = edge("up", (1, "up"), 1, OnDelete::SetNull(names(&["up"])));
    let up = EdgeDraft { edge: Edge { origin: Origin::Native, native_delete: Some(NativeDelete::Changes), ..up.edge }, ..up };
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), edge("lo", (2, "order"), 1, OnDelete::Cascade), up]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1")]),
        (1, vec![("id", "20"), ("customer", "1"), ("up", "10")]),
        (1, vec![("id", "30"), ("customer", "1"), ("up", "20")]),
        (2, vec![("id", "100"), ("order", "10")]),
        (2, vec![("id", "200"), ("order", "20")]),
    ];
    let planned = |left: u64| {
        let latched = BTreeSet::new();
        let mut expansion = Expansion::new(&graph, vec![gone(&graph, "1")], &latched, Scope::Enforced);
        for need in expansion.needs() {
            expansion.answer(&need, answer(&graph, &rows, &need));
        }
        for need in expansion.needs() {
            // Of the lines only those of order 10 are read.
            let keys = if need.edge == EdgeId(1) { vec![key("10")] } else { need.keys.clone() };
            expansion.leave(need.edge, &need.keys.iter().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>());
            let need = Need { edge: need.edge, keys };
            expansion.answer(&need, answer(&graph, &rows, &need));
        }
        let confirmed = Confirmed { doomed: BTreeSet::from([RootId(0)]), waiting: BTreeSet::new() };
        let bounds = Bounds { window: BTreeMap::from([(EdgeId(0), left)]), ..bounds() };
        plan(expansion.finish().verify(confirmed), &graph, &bounds)
    };
    let plan = planned(1);
    assert_eq!(told(&graph, &plan), ["delete line 100", "update order 20", "delete order 10"]);
    assert_eq!(plan.blocked, BTreeMap::new(), "the window counts what goes with this portion");
    assert_eq!(planned(0).blocked, BTreeMap::from([(RootId(0), Blocked::Window(EdgeId(0)))]));
}

#[test]
fn a_table_whose_rows_stay_leaves_no_room_for_what_hangs_on_it() {
    let set_null = OnDelete::SetNull(names(&["customer"]));
    let graph = graph(vec![edge("oc", (1, "customer"), 0, set_null), edge("lo", (2, "order"), 1, OnDelete::Cascade)]);
    let latched = BTreeSet::new();
    let mut expansion = Expansion::new(&graph, vec![gone(&graph, "1")], &latched, Scope::Enforced);
    let needs = expansion.needs();
    assert_eq!(Room { rows: 4, width: 1 }.share(&expansion, &needs[0], true), Share::Rows(4));
}

#[test]
fn h64_a_row_that_a_native_key_makes_let_go_holds_nothing_back() {
    let native = edge("lo", (2, "order"), 1, OnDelete::SetNull(names(&["order"])));
    let native = EdgeDraft { edge: Edge { origin: Origin::Native, ..native.edge }, ..native };
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), native]);
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    let plan = planned(&graph, &rows, &bounds());
    assert_eq!((told(&graph, &plan), plan.blocked), (names(&["update line 100", "delete order 10"]), BTreeMap::new()));
}

#[test]
fn h45_a_row_that_holds_what_it_would_be_set_to_is_left_alone() {
    let set = |value: Option<&str>| OnDelete::Set([("state".to_owned(), value.map(str::to_owned))].into());
    let row = |state: Cell| ChildRow { key: key("10"), image: [("state".to_owned(), state)].into_iter().collect(), version: String::new() };
    let settled = |on_delete, fate, state| is_settled(&edge("oc", (1, "customer"), 0, on_delete).edge, &fate, &row(state));
    let text = |text: &str| Cell::Value(text.to_owned());
    assert!(settled(set(Some("closed")), Fate::Gone, text("closed")));
    assert!(!settled(set(Some("closed")), Fate::Gone, text("open")));
    assert!(!settled(set(Some("closed")), Fate::Gone, Cell::Null));
    assert!(settled(set(None), Fate::Gone, Cell::Null));
    assert!(!settled(set(None), Fate::Gone, text("closed")));
    assert!(!settled(set(None), Fate::Gone, Cell::Unknown));
    assert!(!settled(set(Some("closed")), Fate::Moved(key("2")), text("closed")), "a key change sets other columns");
    assert!(!settled(OnDelete::SetNull(names(&["state"])), Fate::Gone, Cell::Null));
}

#[test]
fn a_portion_grows_with_what_went_and_is_cut_in_halves() {
    let width = |rows, went| Room { rows, width: 1 }.next_width(went);
    assert_eq!([width(100, 0), width(100, 10), width(15, 10), width(3, 1)], [8, 20, 15, 8]);
    let need = |keys: &[&str]| Need { edge: EdgeId(0), keys: keys.iter().map(|text| key(text)).collect() };
    assert_eq!(halve(&need(&["1"])), None);
    assert_eq!(halve(&need(&["1", "2"])), Some((need(&["1"]), vec![key("2")])));
    assert_eq!(halve(&need(&["1", "2", "3"])), Some((need(&["1"]), vec![key("2"), key("3")])));
}
