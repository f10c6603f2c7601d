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

/// Orders and lines hold each other by native keys beside the rules: each row goes behind those that point at it.
#[test]
fn h64_rows_that_hold_each_other_by_turns_go_one_behind_the_other() {
    let refusing = |name: &str, (child, column): (u32, &str), parent| {
        let draft = edge(name, (child, column), parent, OnDelete::Cascade);
        EdgeDraft { edge: Edge { native_delete: Some(NativeDelete::Refuses), ..draft.edge }, ..draft }
    };
    let of_customer = || edge("oc", (1, "customer"), 0, OnDelete::Cascade);
    let graph = graph(vec![of_customer(), refusing("lo", (2, "order"), 1), refusing("ol", (1, "line"), 2)]);
    let rows = vec![
        (1, vec![("id", "10"), ("customer", "1"), ("line", "0")]),
        (1, vec![("id", "11"), ("customer", "1"), ("line", "0")]),
        (2, vec![("id", "20"), ("order", "10")]),
        (1, vec![("id", "12"), ("customer", "0"), ("line", "20")]),
        (2, vec![("id", "21"), ("order", "12")]),
    ];
    let plan = planned(&graph, &rows, &bounds());
    let steps = told(&graph, &plan);
    assert_eq!(steps, ["delete order 11", "delete line 21", "delete order 12", "delete line 20", "delete order 10"]);
}
