//! Touches come to steps: which rows share one, in which order, and what two roots do to one row.

use super::*;

/// Orders point at customers by `owner` and by `worker`; a row of both customers.
fn of_two_roots(drafts: Vec<EdgeDraft>) -> (Graph, Plan) {
    let graph = graph(drafts);
    let rows = vec![(1, vec![("id", "10"), ("owner", "1"), ("worker", "2"), ("state", "open")])];
    let (roots, confirmed) = two_gone(&graph);
    let plan = planned_from(roots, &confirmed, &graph, &rows, &bounds());
    (graph, plan)
}

/// Root, whether it is early, references, columns.
fn changes(plan: &Plan) -> Vec<(u32, bool, usize, Vec<String>)> {
    let columns = |step: &Step| match &step.action {
        StepAction::Update(set) => set.iter().map(|(column, _)| column.clone()).collect(),
        StepAction::Delete => names(&["all of it"]),
    };
    plan.steps.iter().flat_map(|step| step.rows.iter().map(|row| (row.root.0, step.is_early, step.edges.len(), columns(step)))).collect()
}

fn let_go(by: &str, columns: &[&str]) -> EdgeDraft {
    edge(by, (1, by), 0, OnDelete::SetNull(names(columns)))
}

#[test]
fn h24_what_two_roots_do_to_one_row_is_written_apart_where_it_touches_other_columns() {
    let (_, plan) = of_two_roots(vec![let_go("owner", &["owner"]), let_go("worker", &["worker"])]);
    assert_eq!(changes(&plan), [(1, true, 1, names(&["worker"])), (0, false, 1, names(&["owner"]))]);
    assert_eq!(plan.rows, BTreeMap::from([(RootId(0), 1), (RootId(1), 1)]));
}

#[test]
fn h24_what_two_roots_do_to_the_same_columns_of_one_row_is_written_at_once() {
    let both = (0, false, 2, names(&["state"]));
    let set = || OnDelete::Set([("state".to_owned(), Some("closed".to_owned()))].into());
    let (_, plan) = of_two_roots(vec![edge("owner", (1, "owner"), 0, set()), edge("worker", (1, "worker"), 0, set())]);
    assert_eq!(changes(&plan), [both]);
    // One reads what the other writes.
    let (_, plan) = of_two_roots(vec![let_go("owner", &["worker"]), let_go("worker", &["worker"])]);
    assert_eq!(changes(&plan), [(0, false, 2, names(&["worker"]))]);
    // One is on a condition that the other changes.
    let when = |draft: EdgeDraft| {
        let when = vec![crate::rules::When { column: "state".to_owned(), values: names(&["open"]) }];
        EdgeDraft { edge: Edge { when, ..draft.edge }, ..draft }
    };
    let (_, plan) = of_two_roots(vec![edge("owner", (1, "owner"), 0, set()), when(let_go("worker", &["worker"]))]);
    assert_eq!(changes(&plan), [(0, false, 2, names(&["state", "worker"]))]);
}

#[test]
fn h24_a_row_that_others_know_by_what_is_written_is_written_at_once() {
    let line = EdgeDraft { parent_columns: names(&["worker"]), ..edge("lo", (2, "order"), 1, OnDelete::NoAction) };
    let (_, plan) = of_two_roots(vec![let_go("owner", &["owner"]), let_go("worker", &["worker"]), line]);
    assert_eq!(changes(&plan), [(0, false, 2, names(&["owner", "worker"]))]);
}

#[test]
fn h64_on_a_cycle_rows_are_let_go_before_others_are_deleted() {
    let set_null = OnDelete::SetNull(names(&["order"]));
    let graph = graph(vec![
        edge("oc", (1, "customer"), 0, OnDelete::Cascade),
        edge("ol", (1, "line"), 2, OnDelete::Cascade),
        edge("lo", (2, "order"), 1, set_null),
    ]);
    let rows = vec![(1, vec![("id", "10"), ("customer", "1")]), (2, vec![("id", "100"), ("order", "10")])];
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["update line 100", "delete order 10"]);
}

/// Orders point at lines and lines at orders by native keys that refuse, beside the rules.
fn holding_each_other(more: Vec<EdgeDraft>) -> Graph {
    let mut drafts =
        vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), refusing("lo", (2, "order"), 1), refusing("ol", (1, "line"), 2)];
    drafts.extend(more);
    graph(drafts)
}

fn refusing(name: &str, (child, column): (u32, &str), parent: u32) -> EdgeDraft {
    let draft = edge(name, (child, column), parent, OnDelete::Cascade);
    EdgeDraft { edge: Edge { native_delete: Some(NativeDelete::Refuses), ..draft.edge }, ..draft }
}

/// Each row goes behind those that point at it.
#[test]
fn h64_rows_that_hold_each_other_by_turns_go_one_behind_the_other() {
    // A line may point at itself, and an order at a line that a rule alone follows: neither has to be waited for.
    let graph = holding_each_other(vec![refusing("ll", (2, "twin"), 2), edge("ow", (1, "work"), 2, OnDelete::Cascade)]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1"), ("line", "0"), ("work", "20")]),
        (1, vec![("id", "11"), ("customer", "1"), ("line", "0"), ("work", "0")]),
        (2, vec![("id", "20"), ("order", "10"), ("twin", "0")]),
        (1, vec![("id", "12"), ("customer", "0"), ("line", "20"), ("work", "0")]),
        (2, vec![("id", "21"), ("order", "12"), ("twin", "21")]),
    ];
    let plan = planned(&graph, &rows, &bounds());
    let steps = told(&graph, &plan);
    assert_eq!(steps, ["delete order 11", "delete line 21", "delete order 12", "delete line 20", "delete order 10"]);
}

/// A row points at one of two that point at each other: these go behind it, and what they point at goes behind them.
#[test]
fn h64_rows_in_a_circle_go_together() {
    let graph = holding_each_other(Vec::new());
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1"), ("line", "20")]),
        (2, vec![("id", "20"), ("order", "10")]),
        (2, vec![("id", "22"), ("order", "10")]),
    ];
    assert_eq!(told(&graph, &planned(&graph, &rows, &bounds())), ["delete line 22", "delete order 10", "delete line 20"]);
    // In one table they share a statement, whatever points at them.
    let graph = holding_each_other(vec![refusing("ll", (2, "twin"), 2)]);
    let rows =
        [("20", "21"), ("21", "20"), ("22", "20"), ("23", "22")].map(|(id, twin)| (2, vec![("id", id), ("order", "10"), ("twin", twin)]));
    let mut rows = rows.to_vec();
    rows.push((1, vec![("id", "10"), ("customer", "1"), ("line", "0")]));
    assert_eq!(
        told(&graph, &planned(&graph, &rows, &bounds())),
        ["delete line 23", "delete line 22", "delete line 20 21", "delete order 10"]
    );
}

/// A key without an action is looked at when the statement has ended; RESTRICT may be at each row.
#[test]
fn h64_rows_of_one_table_go_one_behind_the_other_where_its_key_refuses_at_once() {
    for (native, expected) in [
        (NativeDelete::Refuses, &["delete order 10 11 12"][..]),
        (NativeDelete::RefusesAtOnce, &["delete order 12", "delete order 11", "delete order 10"]),
    ] {
        let draft = edge("oo", (1, "above"), 1, OnDelete::Cascade);
        let own = EdgeDraft { edge: Edge { native_delete: Some(native), ..draft.edge }, ..draft };
        let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), own]);
        let rows = [("10", "0"), ("11", "10"), ("12", "11")].map(|(id, above)| (1, vec![("id", id), ("customer", "1"), ("above", above)]));
        assert_eq!(told(&graph, &planned(&graph, &rows.to_vec(), &bounds())), expected, "{native:?}");
    }
}

/// Each reference has a statement of its own, so the key without an action is looked at between them.
#[test]
fn h64_rows_of_one_table_that_go_by_several_references_go_one_behind_the_other() {
    let graph = graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), refusing("oo", (1, "above"), 1)]);
    let rows = [("10", "1", "0"), ("11", "2", "10"), ("12", "1", "11")];
    let rows = rows.map(|(id, customer, above)| (1, vec![("id", id), ("customer", customer), ("above", above)]));
    assert_eq!(told(&graph, &planned(&graph, &rows.to_vec(), &bounds())), ["delete order 12", "delete order 11", "delete order 10"]);
}
