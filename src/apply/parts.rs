//! In which statements the steps are done, and in which order (H64).
//!
//! Where a native key may hide rows of a table from steps of theirs, each of these is done in two parts. First, in all tables of its rank, what nobody
//! knows a row by, and what lets go of rows: no native key has given a row another key by then. After that the rest, in one statement for all
//! rows to which the same happens, as a native key within the table may lead from any of them to any other. Elsewhere no step is cut: of a row
//! that was changed twice in a transaction PostgreSQL looks at each native key, also of columns that stay, before its cascades are done.
//! What a native key writes when the turn of the row's parent comes is left to it: before, it could not be written. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::archive::after;
use super::follow::Changes;
use crate::graph::{EdgeId, Graph};
use crate::plan::{Assignment, Step, StepAction, StepRow};
use crate::rules::{EntityId, OnDelete};

/// Steps as they are done, and what of them is left to native keys.
#[derive(Debug, Default)]
pub(super) struct Parts<'s> {
    pub(super) steps: Vec<Cow<'s, Step>>,
    pub(super) left: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Beside,
    Known,
    Goes,
}

type Assignments = Vec<(String, Assignment)>;
/// What the rows of one statement on a table have in common.
type Alike = (Vec<EdgeId>, Assignments);

/// The steps of a plan, children first, as they are done.
pub(super) fn parts<'s>(graph: &Graph, steps: &'s [Step], changes: &Changes) -> Parts<'s> {
    let mut done = Parts::default();
    let mut phased: Vec<((usize, Phase), Cow<'s, Step>)> = Vec::new();
    // The last step's statements by table. What comes behind another statement of its table stays behind it.
    let mut places: BTreeMap<EntityId, BTreeMap<Alike, usize>> = BTreeMap::new();
    for step in steps {
        let rank = graph.rank(step.entity);
        let assignments = match &step.action {
            StepAction::Delete => {
                phased.push(((rank, Phase::Goes), Cow::Borrowed(step)));
                continue;
            }
            StepAction::Update(_) if !changes.follow_natively(step.entity) => {
                phased.push(((rank, Phase::Known), Cow::Borrowed(step)));
                continue;
            }
            StepAction::Update(assignments) => assignments,
        };
        let known = if changes.may_hide(step.entity) { known(graph, step, assignments, changes) } else { Known::whole(step, assignments) };
        let (now, then): (Assignments, Assignments) = assignments.iter().cloned().partition(|(column, _)| !known.columns.contains(column));
        if !now.is_empty() {
            let rows = step.rows.clone();
            let part = Step { action: StepAction::Update(now), rows, edges: step.edges.clone(), ..*step };
            phased.push(((rank, Phase::Beside), Cow::Owned(part)));
        }
        let mut alikes: BTreeMap<Alike, Vec<StepRow>> = BTreeMap::new();
        for (left, rows) in by_what_is_left(step, &then, changes) {
            let (then, native): (Assignments, Assignments) = then.iter().cloned().partition(|(column, _)| left.contains(column));
            if !native.is_empty() {
                let (rows, action) = (rows.iter().map(|row| (*row).clone()).collect(), StepAction::Update(native));
                done.left.push(Step { action, rows, edges: step.edges.clone(), ..*step });
            }
            if then.is_empty() {
                continue;
            }
            let rows = rows.into_iter().map(|row| known.row(graph, step, row, &then)).collect();
            alikes.insert((known.edges.clone(), renumbered(then)), rows);
        }
        let places = places.entry(step.entity).or_default();
        if !alikes.keys().all(|alike| places.contains_key(alike)) {
            places.clear();
        }
        for ((edges, assignments), rows) in alikes {
            let place = *places.entry((edges.clone(), assignments.clone())).or_insert(phased.len());
            match phased.get_mut(place) {
                Some((_, same)) => {
                    let same = same.to_mut();
                    same.rows.extend(rows);
                    same.rows.sort();
                }
                None => {
                    let action = StepAction::Update(assignments);
                    phased.push(((rank, Phase::Known), Cow::Owned(Step { action, edges, rows, ..*step })));
                }
            }
        }
    }
    phased.sort_by_key(|(when, _)| *when);
    done.steps = phased.into_iter().map(|(_, step)| step).collect();
    done
}

/// What of a step changes columns by which somebody knows a row: the row's key, what references point at, or what native keys point with.
struct Known {
    /// With all that the references look at which write such a column: none of it may change before.
    columns: BTreeSet<String>,
    /// These references.
    edges: Vec<EdgeId>,
}

fn known(graph: &Graph, step: &Step, assignments: &Assignments, changes: &Changes) -> Known {
    let mut columns: BTreeSet<String> = graph.node(step.entity).key.iter().cloned().collect();
    columns.extend(graph.targets_of(step.entity).flat_map(|(_, target)| target.columns.iter().cloned()));
    // A row that lets go of another one does so before: nobody finds it by that.
    let lets_go = |column: &String| assignments.iter().any(|one| one.0 == *column && changes.writes_null(step.entity, one));
    let pointing = graph.edges().filter(|(_, edge)| edge.child == step.entity && edge.is_native());
    columns.extend(pointing.flat_map(|(_, edge)| &edge.columns).filter(|column| !lets_go(column)).cloned());
    loop {
        let writes = |edge: &EdgeId| {
            let edge = graph.edge(*edge);
            let is_set = |column: &String| matches!(&edge.on_delete, OnDelete::Set(values) if values.contains_key(column));
            let of_edge = |column: &String| edge.columns.contains(column) || is_set(column);
            assignments.iter().any(|(column, _)| of_edge(column) && columns.contains(column))
        };
        let edges: Vec<EdgeId> = step.edges.iter().copied().filter(writes).collect();
        let looked_at = edges.iter().map(|edge| graph.edge(*edge));
        let looked_at = looked_at.flat_map(|edge| edge.columns.iter().chain(edge.when.iter().map(|when| &when.column))).cloned();
        let before = columns.len();
        columns.extend(looked_at.collect::<Vec<_>>());
        if columns.len() == before {
            return Known { columns, edges };
        }
    }
}

impl Known {
    /// A step that is not cut.
    fn whole(step: &Step, assignments: &Assignments) -> Self {
        Self { columns: assignments.iter().map(|(column, _)| column.clone()).collect(), edges: step.edges.clone() }
    }

    /// A row with what these references and assignments need.
    fn row(&self, graph: &Graph, step: &Step, row: &StepRow, assignments: &Assignments) -> StepRow {
        let mut held = row.still.iter();
        let mut still = Vec::new();
        for edge in &step.edges {
            let of_edge = held.by_ref().take(graph.edge(*edge).columns.len()).cloned();
            let of_edge: Vec<String> = of_edge.collect();
            if self.edges.contains(edge) {
                still.extend(of_edge);
            }
        }
        let own = |(_, assignment): &(String, Assignment)| match assignment {
            Assignment::PerRow(place) => Some(row.new.get(*place).cloned().flatten()),
            Assignment::Null | Assignment::Default | Assignment::Value(_) => None,
        };
        StepRow { key: row.key.clone(), still, new: assignments.iter().filter_map(own).collect(), root: row.root }
    }
}

/// Each row's own values in the order of the assignments that use them.
fn renumbered(assignments: Assignments) -> Assignments {
    let mut places = 0..;
    let one = |(column, assignment)| match assignment {
        Assignment::PerRow(_) => (column, Assignment::PerRow(places.next().unwrap_or_default())),
        Assignment::Null | Assignment::Default | Assignment::Value(_) => (column, assignment),
    };
    assignments.into_iter().map(one).collect()
}

/// The rows of a step, by the columns of these assignments that are left to do.
fn by_what_is_left<'s>(step: &'s Step, assignments: &Assignments, changes: &Changes) -> BTreeMap<BTreeSet<String>, Vec<&'s StepRow>> {
    let mut rows: BTreeMap<BTreeSet<String>, Vec<&StepRow>> = BTreeMap::new();
    for row in &step.rows {
        let natively = changes.natively(step.entity, &row.key);
        let is_left = |(column, assignment): &&(String, Assignment)| {
            let written = after(assignment, row);
            written.is_none() || natively.and_then(|natively| natively.get(column)) != Some(&written)
        };
        rows.entry(assignments.iter().filter(is_left).map(|(column, _)| column.clone()).collect()).or_default().push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Edge, EdgeDraft, Node, Origin};
    use crate::plan::RootId;
    use crate::rules::{OnUpdate, ReferenceId, When};
    use crate::value::{Cell, Key};

    const GROUPS: EntityId = EntityId(1);
    const CUSTOMER: EdgeId = EdgeId(0);
    const KEEPER: EdgeId = EdgeId(1);
    const TEAM: EdgeId = EdgeId(2);
    const UP: EdgeId = EdgeId(4);
    const OPEN: EdgeId = EdgeId(5);

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// `groups` follow customers (one reference looks at the status, too), keepers and teams by rules, and stand in a tree by a native key that follows.
    fn graph() -> Graph {
        let node = |name: &str, key: &[&str]| Node { name: name.to_owned(), key: owned(key) };
        let draft = |columns: &[&str], parent, parent_columns: &[&str]| {
            let edge = Edge { origin: Origin::Rule(ReferenceId(0)), native_delete: None, ..Edge::native(GROUPS, owned(columns)) };
            EdgeDraft { edge, parent: EntityId(parent), parent_columns: owned(parent_columns) }
        };
        let tree = Edge { native_update: OnUpdate::Cascade, ..Edge::native(GROUPS, owned(&["customer", "up"])) };
        let mut open = draft(&["customer"], 0, &["id"]);
        open.edge.when = vec![When { column: "status".to_owned(), values: owned(&["open"]) }];
        open.edge.on_delete = OnDelete::Set(["customer", "note", "status"].map(|column| (column.to_owned(), None)).into());
        let drafts = vec![
            draft(&["customer"], 0, &["id"]),
            draft(&["keeper"], 0, &["id"]),
            draft(&["customer", "team"], 2, &["customer", "n"]),
            EdgeDraft { edge: tree, parent: GROUPS, parent_columns: owned(&["customer", "n"]) },
            draft(&["up"], 0, &["id"]),
            open,
        ];
        Graph::new(vec![node("customers", &["id"]), node("groups", &["customer", "n"]), node("teams", &["customer", "n"])], drafts)
    }

    /// A step that writes each row's own values.
    fn step(edges: &[EdgeId], columns: &[&str], rows: &[(&str, &[&str], &[&str])]) -> Step {
        let row = |(n, still, new): &(&str, &[&str], &[&str])| StepRow {
            key: Key::from_cells(["1", n].map(|text| Cell::Value(text.to_owned())).iter()).expect("values"),
            still: owned(still),
            new: new.iter().map(|value| Some((*value).to_owned())).collect(),
            root: RootId(0),
        };
        let assignments = columns.iter().enumerate().map(|(place, column)| ((*column).to_owned(), Assignment::PerRow(place)));
        let (action, rows) = (StepAction::Update(assignments.collect()), rows.iter().map(row).collect());
        Step { entity: GROUPS, edges: edges.to_vec(), action, rows, is_early: false }
    }

    fn done(steps: &[Step]) -> Vec<Step> {
        let parts = parts(&graph(), steps, &Changes::of_table(GROUPS));
        assert!(parts.left.is_empty());
        parts.steps.into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn h64_what_nobody_knows_a_row_by_comes_first_and_the_rest_in_one_statement() {
        let plain = step(&[CUSTOMER], &["customer"], &[("4", &["1"], &["7"])]);
        let kept = step(&[CUSTOMER, KEEPER], &["keeper", "customer"], &[("3", &["1", "2"], &["8", "7"])]);
        let both = step(&[CUSTOMER], &["customer"], &[("3", &["1"], &["7"]), ("4", &["1"], &["7"])]);
        let keeper = step(&[CUSTOMER, KEEPER], &["keeper"], &[("3", &["1", "2"], &["8", "7"])]);
        assert_eq!(done(&[plain, kept]), [keeper, both]);
        let alone = step(&[KEEPER], &["keeper"], &[("3", &["2"], &["8"])]);
        assert_eq!(done(std::slice::from_ref(&alone)), [alone]);
    }

    #[test]
    fn h64_where_no_row_may_be_hidden_a_step_is_one_statement() {
        let kept = [step(&[CUSTOMER, KEEPER], &["keeper", "customer"], &[("3", &["1", "2"], &["8", "7"])])];
        let parts = parts(&graph(), &kept, &Changes::of_table(EntityId(0)));
        assert_eq!(parts.steps, [Cow::Borrowed(&kept[0])]);
    }

    #[test]
    fn h64_rows_that_let_go_do_so_first_and_nothing_comes_before_another_statement_of_its_table() {
        let plain = step(&[CUSTOMER], &["customer"], &[("4", &["1"], &["7"])]);
        let assignments = vec![("customer".to_owned(), Assignment::PerRow(0)), ("up".to_owned(), Assignment::Null)];
        let lets_go = Step { action: StepAction::Update(assignments), ..step(&[CUSTOMER, UP], &[], &[("2", &["1", "1"], &["7"])]) };
        let goes = Step { action: StepAction::Update(vec![("up".to_owned(), Assignment::Null)]), ..lets_go.clone() };
        let both = step(&[CUSTOMER], &["customer"], &[("2", &["1"], &["7"]), ("4", &["1"], &["7"])]);
        assert_eq!(done(&[plain.clone(), lets_go]), [goes, both]);
        let team = step(&[TEAM], &["customer", "team"], &[("3", &["1", "5"], &["7", "6"])]);
        let other = step(&[CUSTOMER], &["customer"], &[("5", &["1"], &["7"])]);
        let steps = [plain, team, other];
        assert_eq!(done(&steps), steps);
    }

    #[test]
    fn h64_what_a_reference_looks_at_does_not_change_before_its_turn() {
        let status = || ("status".to_owned(), Assignment::Value("gone".to_owned()));
        let set = vec![("customer".to_owned(), Assignment::Null), ("note".to_owned(), Assignment::Null), status()];
        let open = Step { action: StepAction::Update(set), ..step(&[OPEN], &[], &[("3", &["1"], &[])]) };
        let note = Step { action: StepAction::Update(vec![("note".to_owned(), Assignment::Null)]), ..open.clone() };
        let rest = Step { action: StepAction::Update(vec![("customer".to_owned(), Assignment::Null), status()]), ..open.clone() };
        assert_eq!(done(&[open]), [note, rest]);
    }

    #[test]
    fn h64_a_reference_that_writes_what_rows_are_known_by_is_done_whole() {
        let moved = step(&[KEEPER, TEAM], &["customer", "keeper", "team"], &[("3", &["2", "1", "5"], &["7", "8", "6"])]);
        let keeper = Step { action: StepAction::Update(vec![("keeper".to_owned(), Assignment::PerRow(1))]), ..moved.clone() };
        let team = step(&[TEAM], &["customer", "team"], &[("3", &["1", "5"], &["7", "6"])]);
        assert_eq!(done(&[moved]), [keeper, team]);
    }
}
