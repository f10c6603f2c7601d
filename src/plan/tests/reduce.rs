//! Batches of events come to candidates, key changes and copies. Customers are known by `id` and `code`, and some by `name`.

use super::*;
use crate::change::{ChangeEvent, Operation, Position, SourcePosition, TopicPartition};

/// Orders point at a customer's id, lines at the code.
fn by_id_and_code() -> Graph {
    graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), by("code")])
}

fn by(column: &str) -> EdgeDraft {
    EdgeDraft { parent_columns: names(&[column]), ..edge(column, (2, column), 0, OnDelete::Cascade) }
}

fn source(lsn: u64) -> SourcePosition {
    SourcePosition { source: "postgresql/crm".into(), order: vec![lsn] }
}

fn image(cells: &[(&str, Cell)]) -> RowImage {
    cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect()
}

fn value(text: &str) -> Cell {
    Cell::Value(text.to_owned())
}

fn event(operation: Operation, lsn: Option<u64>) -> ChangeEvent {
    let transaction = lsn.map(|lsn| format!("transaction {lsn}"));
    ChangeEvent {
        entity: EntityId(0),
        operation,
        before: RowImage::default(),
        after: RowImage::default(),
        reread: false,
        snapshot: false,
        source: lsn.map(source),
        transaction,
    }
}

fn delete(id: &str, lsn: impl Into<Option<u64>>) -> ChangeEvent {
    event(Operation::Delete { key: key(id) }, lsn.into())
}

fn tombstone(id: &str) -> ChangeEvent {
    event(Operation::Hint { key: key(id) }, None)
}

fn key_change(from: &str, to: &str, lsn: impl Into<Option<u64>>) -> ChangeEvent {
    event(Operation::KeyChange { key: key(from), to: Some(key(to)) }, lsn.into())
}

fn upsert(id: &str, lsn: impl Into<Option<u64>>) -> ChangeEvent {
    event(Operation::Upsert { key: key(id), moved_from: None }, lsn.into())
}

fn arrives(id: &str, from: &str, lsn: impl Into<Option<u64>>) -> ChangeEvent {
    event(Operation::Upsert { key: key(id), moved_from: Some(key(from)) }, lsn.into())
}

fn at(offset: i64) -> Position {
    Position { partition: TopicPartition { topic: "crm.customers".into(), partition: 0 }, offset }
}

/// The events at offsets 0, 1 …
fn reduced(graph: &Graph, events: Vec<ChangeEvent>) -> Reduced {
    let events: Vec<_> = (0..).map(at).zip(events).collect();
    reduce(graph, &BTreeSet::from([EntityId(0)]), &events)
}

fn of_id(events: Vec<ChangeEvent>) -> Candidate {
    let graph = by_id_and_code();
    reduced(&graph, events).candidates.remove(&(graph.key_target(EntityId(0)), key("1"))).expect("a candidate")
}

/// The changes of customers' ids: from, to, position.
fn moves(events: Vec<ChangeEvent>) -> Vec<(Key, Option<Key>, Option<SourcePosition>)> {
    let graph = by_id_and_code();
    let moves = reduced(&graph, events).moves.remove(&graph.key_target(EntityId(0))).unwrap_or_default();
    moves.into_iter().map(|(one, _)| (one.from, one.to, one.source)).collect()
}

fn from_to(from: &str, to: &str, lsn: impl Into<Option<u64>>) -> (Key, Option<Key>, Option<SourcePosition>) {
    (key(from), Some(key(to)), lsn.into().map(source))
}

#[test]
fn h22_of_several_deletes_the_last_at_the_source_counts() {
    for events in [vec![delete("1", 20), delete("1", 10)], vec![delete("1", 10), delete("1", 20)]] {
        let candidate = of_id(events);
        assert_eq!((candidate.source, candidate.transaction.as_deref()), (Some(source(20)), Some("transaction 20")));
        assert_eq!((candidate.cause, candidate.last, candidate.deleted, candidate.moved), (at(0), at(1), true, false));
    }
    let candidate = of_id(vec![delete("1", 20), delete("1", None)]);
    assert_eq!(candidate.source, Some(source(20)), "a delete without a position does not take it away");
}

#[test]
fn h22_a_delete_counts_though_a_later_key_change_was_read_before_it() {
    let candidate = of_id(vec![key_change("1", "2", 30), delete("1", 20)]);
    assert_eq!((candidate.source, candidate.deleted, candidate.moved), (Some(source(20)), true, true));
    let candidate = of_id(vec![delete("1", 20), key_change("1", "2", 30)]);
    assert_eq!((candidate.source, candidate.deleted, candidate.moved), (Some(source(20)), true, true));
}

#[test]
fn h5_a_tombstone_takes_no_position_away() {
    let candidate = of_id(vec![key_change("1", "2", 10), tombstone("1")]);
    assert_eq!((candidate.source, candidate.transaction.as_deref()), (Some(source(10)), Some("transaction 10")));
    assert!(!candidate.deleted);
    assert!(!of_id(vec![tombstone("1")]).moved);
}

#[test]
fn h22_one_key_change_told_several_times_is_one() {
    let once = [from_to("1", "2", 10)];
    assert_eq!(moves(vec![key_change("1", "2", 10), arrives("2", "1", 10)]), once, "its two halves");
    assert_eq!(moves(vec![key_change("1", "2", 10), key_change("1", "2", None)]), once, "its tombstone");
    assert_eq!(moves(vec![key_change("1", "2", None), arrives("2", "1", 10)]), once, "the half with a position comes later");
    assert_eq!(moves(vec![key_change("1", "2", 10), key_change("1", "2", 30)]), [from_to("1", "2", 10), from_to("1", "2", 30)]);
    assert_eq!(moves(vec![key_change("1", "2", 10), key_change("1", "3", 10)]), [from_to("1", "2", 10), from_to("1", "3", 10)]);
    assert_eq!(moves(vec![key_change("1", "2", 10), key_change("4", "2", 10)]), [from_to("1", "2", 10), from_to("4", "2", 10)]);
    assert_eq!(moves(vec![key_change("1", "2", None), key_change("1", "3", 10)]), [from_to("1", "2", None), from_to("1", "3", 10)]);
    assert_eq!(moves(vec![key_change("1", "2", 10), key_change("4", "2", None)]), [from_to("1", "2", 10), from_to("4", "2", None)]);
}

#[test]
fn h6_two_halves_without_headers_are_a_key_change_by_their_position() {
    let events = || vec![delete("1", 10), upsert("2", 10)];
    assert_eq!(moves(events()), [from_to("1", "2", 10)]);
    let candidate = of_id(events());
    assert_eq!((candidate.deleted, candidate.moved), (false, true), "the delete is not the row's end");
    for other in [upsert("1", 10), upsert("2", 11), ChangeEvent { snapshot: true, ..upsert("2", 10) }, arrives("2", "3", 10)] {
        let candidate = of_id(vec![delete("1", 10), other.clone()]);
        assert_eq!((candidate.deleted, candidate.moved), (true, false), "{other:?}");
    }
}

#[test]
fn h6_of_two_halves_without_headers_other_unique_columns_change_if_they_differ() {
    let graph = by_id_and_code();
    let code = graph.edge(EdgeId(1)).target;
    let with = |event, code: Cell| ChangeEvent { before: image(&[("code", code.clone())]), after: image(&[("code", code)]), ..event };
    let told = |new| {
        let reduced = reduced(&graph, vec![with(delete("1", 10), value("c")), with(upsert("2", 10), new)]);
        let moves: Vec<_> = reduced.moves.get(&code).into_iter().flatten().map(|(one, _)| (one.from.clone(), one.to.clone())).collect();
        (moves, reduced.candidates.get(&(code, key("c"))).map(|candidate| candidate.deleted))
    };
    assert_eq!(told(value("c")), (vec![], Some(false)));
    assert_eq!(told(value("d")), (vec![(key("c"), Some(key("d")))], Some(false)));
    assert_eq!(told(Cell::Null), (vec![(key("c"), None)], Some(false)));
}

#[test]
fn the_record_on_the_keys_own_partition_answers_for_it() {
    let graph = by_id_and_code();
    let code = graph.edge(EdgeId(1)).target;
    let event = ChangeEvent { before: image(&[("code", value("c"))]), ..delete("1", 10) };
    let reduced = reduced(&graph, vec![event]);
    let known = |target, text| reduced.candidates.get(&(target, key(text))).map(|candidate| candidate.partition_known);
    assert_eq!(known(graph.key_target(EntityId(0)), "1"), Some(true));
    assert_eq!(known(code, "c"), Some(false), "another unique value's records stand on the partition of the row that has it");
    let told = |events| {
        let candidate = of_id(events);
        (candidate.cause, candidate.partition_known)
    };
    assert_eq!(told(vec![arrives("2", "1", 10)]), (at(0), false));
    assert_eq!(told(vec![arrives("2", "1", 10), key_change("1", "2", 10)]), (at(1), true));
    assert_eq!(told(vec![key_change("1", "2", 10), arrives("2", "1", 10)]), (at(0), true));
    assert_eq!(told(vec![key_change("1", "2", 10), tombstone("1")]), (at(0), true), "the first of them stands");
}

#[test]
fn h22_a_key_lived_last_where_the_source_says_so() {
    let graph = by_id_and_code();
    let lived = |events| reduced(&graph, events).lived.remove(&(graph.key_target(EntityId(0)), key("1")));
    assert_eq!(lived(vec![upsert("1", 10), upsert("1", 20), upsert("1", 15)]), Some(Some(source(20))));
    assert_eq!(lived(vec![upsert("1", 20), delete("1", 30)]), Some(Some(source(30))));
    assert_eq!(lived(vec![key_change("1", "2", 30)]), None, "a key change is no life of its old key");
}

/// The values of code and name that know each other, and whether the id is among them.
fn beside(graph: &Graph, events: Vec<ChangeEvent>) -> Vec<(String, Vec<String>)> {
    let mut told: Vec<_> = reduced(graph, events)
        .candidates
        .into_iter()
        .map(|((_, key), candidate)| (key.to_string(), candidate.beside.into_iter().map(|(_, key)| key.to_string()).collect()))
        .collect();
    told.sort();
    told
}

fn told<const N: usize>(lines: [(&str, &[&str]); N]) -> Vec<(String, Vec<String>)> {
    lines.map(|(of, others)| (of.to_owned(), names(others))).into()
}

#[test]
fn h26_values_that_end_together_know_each_other() {
    let row = |id, code, name| image(&[("id", value(id)), ("code", value(code)), ("name", value(name))]);
    let gone = || ChangeEvent { before: row("1", "c", "n"), ..delete("1", 10) };
    let all = || graph(vec![edge("oc", (1, "customer"), 0, OnDelete::Cascade), by("code"), by("name")]);
    assert_eq!(beside(&all(), vec![gone()]), told([("1", &["c", "n"]), ("c", &["1", "n"]), ("n", &["1", "c"])]));
    let none_by_id = graph(vec![by("code"), by("name")]);
    assert_eq!(beside(&none_by_id, vec![gone()]), told([("c", &["n"]), ("n", &["c"])]), "nothing points at the id");
    let changed = |code, name| vec![ChangeEvent { before: row("1", "c", "n"), after: row("1", code, name), ..upsert("1", 10) }];
    assert_eq!(beside(&all(), changed("d", "o")), told([("c", &["n"]), ("n", &["c"])]), "the id did not change");
    assert_eq!(beside(&all(), changed("d", "n")), told([("c", &[])]));
    assert_eq!(beside(&all(), changed("c", "n")), told([]));
}

#[test]
fn a_unique_column_that_becomes_null_is_a_change_and_one_that_is_not_told_is_none() {
    let graph = by_id_and_code();
    let code = graph.edge(EdgeId(1)).target;
    let moves = |after: Cell| {
        let event = ChangeEvent { before: image(&[("code", value("c"))]), after: image(&[("code", after)]), ..upsert("1", 10) };
        let moves = reduced(&graph, vec![event]).moves.remove(&code).unwrap_or_default();
        moves.into_iter().map(|(one, _)| (one.from, one.to)).collect::<Vec<_>>()
    };
    assert_eq!(moves(Cell::Null), [(key("c"), None)]);
    assert_eq!(moves(Cell::Unknown), []);
    assert_eq!(moves(value("c")), []);
    assert_eq!(moves(value("d")), [(key("c"), Some(key("d")))]);
}

/// What the events come to for the copy of customer 1.
fn copy(events: Vec<ChangeEvent>) -> super::super::Copy {
    reduced(&by_id_and_code(), events).copies.remove(&(EntityId(0), key("1"))).expect("a copy")
}

fn written(name: &str, lsn: impl Into<Option<u64>>) -> ChangeEvent {
    ChangeEvent { after: image(&[("name", value(name))]), ..upsert("1", lsn) }
}

#[test]
fn h53_of_a_copied_row_the_last_event_at_the_source_counts() {
    let named = |events| {
        let copy = copy(events);
        (copy.row.map(|row| row.get("name").cloned().expect("a name")), copy.source, copy.cause)
    };
    assert_eq!(named(vec![written("a", 10), written("b", 20)]), (Some(value("b")), Some(source(20)), at(1)));
    assert_eq!(named(vec![written("b", 20), written("a", 10)]), (Some(value("b")), Some(source(20)), at(0)));
    assert_eq!(named(vec![written("a", 10), delete("1", 20)]), (None, Some(source(20)), at(1)));
    assert_eq!(named(vec![delete("1", 20), written("a", 10)]), (None, Some(source(20)), at(0)));
    assert_eq!(named(vec![written("a", 10), written("b", None)]), (Some(value("b")), Some(source(10)), at(1)), "as read");
    assert_eq!(named(vec![written("a", 10), tombstone("1")]), (Some(value("a")), Some(source(10)), at(0)), "of another entity, perhaps");
    assert_eq!(named(vec![written("a", None), tombstone("1")]), (None, None, at(1)));
    assert_eq!(named(vec![delete("1", 10), tombstone("1")]), (None, Some(source(10)), at(1)));
    let silent = ChangeEvent { after: image(&[("name", Cell::Unknown)]), ..upsert("1", 20) };
    assert_eq!(named(vec![written("a", 10), silent]), (Some(value("a")), Some(source(20)), at(1)), "what did not change is as it was");
}

#[test]
fn a_copied_row_that_an_event_does_not_tell_exactly_is_read_again() {
    let reread = |event| copy(vec![event]).reread;
    assert!(!reread(written("a", 10)));
    assert!(reread(written("a", None)));
    assert!(reread(ChangeEvent { reread: true, ..written("a", 10) }));
    assert!(!reread(delete("1", None)));
}

#[test]
fn h8_an_older_change_beside_a_snapshots_row_makes_the_owner_the_judge() {
    let snapshot = |name, lsn: u64| ChangeEvent { snapshot: true, ..written(name, lsn) };
    let judged = |events| {
        let copy = copy(events);
        (copy.row.and_then(|row| row.get("name").cloned()), copy.reread, copy.maybe_gone)
    };
    assert_eq!(judged(vec![snapshot("s", 20), delete("1", 10)]), (Some(value("s")), true, true));
    assert_eq!(judged(vec![snapshot("s", 20), written("a", 10)]), (Some(value("s")), true, false));
    assert_eq!(judged(vec![snapshot("s", 20), snapshot("r", 10)]), (Some(value("s")), false, false));
    assert_eq!(judged(vec![snapshot("s", 20), written("b", 30)]), (Some(value("b")), false, false));
    assert_eq!(judged(vec![written("b", 20), delete("1", 10)]), (Some(value("b")), false, false));
}

#[test]
fn nothing_is_kept_of_what_nobody_copies_or_points_at() {
    let graph = graph(vec![by("code")]);
    let reduced = reduce(&graph, &BTreeSet::new(), &[(at(0), delete("1", 10)), (at(1), key_change("2", "3", 20))]);
    assert!(reduced.candidates.is_empty() && reduced.moves.is_empty() && reduced.copies.is_empty());
}
