//! What the ledger and this batch know of key changes.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{Failure, Job};
use super::subjects::{Subject, homes};
use crate::change::{Position, SourcePosition};
use crate::graph::TargetId;
use crate::ledger;
use crate::model::Model;
use crate::plan::{Arrival, Move, MoveState, complete};
use crate::value::Key;

/// How many rounds of "key changes of the keys that those key changes lead to" are followed.
const MAX_ROUNDS: usize = 16;

/// The name under which the ledger keeps key changes of a target.
pub(super) fn label(model: &Model, target: TargetId) -> String {
    let columns = model.graph.target(target);
    let name = &model.graph.node(columns.entity).name;
    if model.graph.key_target(columns.entity) == target { name.clone() } else { format!("{name}({})", columns.columns.join(",")) }
}

/// All key changes that touch the subjects, followed from end to end.
pub(super) async fn of(job: &mut Job<'_>, subjects: &[Subject]) -> Result<BTreeMap<TargetId, Vec<Move>>, Failure> {
    let mut keys: BTreeMap<TargetId, BTreeSet<Key>> = BTreeMap::new();
    for subject in subjects {
        keys.entry(subject.target).or_default().insert(subject.key.clone());
    }
    let mut all = BTreeMap::new();
    for (target, mut keys) in keys {
        let mut moves = Vec::new();
        for _ in 0..MAX_ROUNDS {
            moves = touching(job, target, &keys).await?;
            let before = keys.len();
            keys.extend(moves.iter().flat_map(|one| [Some(one.from.clone()), one.to.clone()]).flatten());
            if keys.len() == before {
                break;
            }
        }
        all.insert(target, moves);
    }
    Ok(all)
}

/// The old values of open key changes whose new row is told of by these records, with the change and the record.
pub(super) async fn completed(
    job: &mut Job<'_>,
    target: TargetId,
    arrivals: &[(Arrival, Position)],
) -> Result<Vec<(Key, SourcePosition, Position)>, Failure> {
    let (label, group) = (label(job.model, target), job.engine.owner.group.clone());
    let sources: Vec<SourcePosition> = arrivals.iter().map(|(one, _)| one.source.clone()).collect();
    let mut halves = Vec::new();
    for (session, dialect) in homes(job, target) {
        halves.extend(ledger::halves(session, dialect, &group, &label, &sources).await?);
    }
    let causes: BTreeMap<String, &Position> = arrivals.iter().map(|(one, cause)| (one.source.to_string(), cause)).collect();
    let with_cause = |one: Move| {
        let source = one.source?;
        let cause = (*causes.get(&source.to_string())?).clone();
        Some((one.from, source, cause))
    };
    Ok(least_worked(halves).into_iter().filter(|one| one.state == MoveState::Open).filter_map(with_cause).collect())
}

/// The key changes that touch one of these keys, and all of this batch.
async fn touching(job: &mut Job<'_>, target: TargetId, keys: &BTreeSet<Key>) -> Result<Vec<Move>, Failure> {
    let (label, group) = (label(job.model, target), job.engine.owner.group.clone());
    let fresh: Vec<Move> = job.reduced.moves.get(&target).into_iter().flatten().map(|(one, _)| one.clone()).collect();
    let mut arrivals: Vec<Arrival> = job.reduced.arrivals.get(&target).into_iter().flatten().map(|(one, _)| one.clone()).collect();
    let mut known: Vec<Move> = Vec::new();
    for (session, dialect) in homes(job, target) {
        known.extend(ledger::moves(session, dialect, &group, &label, keys).await?);
    }
    let moves = with_fresh(least_worked(known), fresh);
    let halves: Vec<_> = moves.iter().filter(|one| one.to.is_none()).filter_map(|one| one.source.clone()).collect();
    for (session, dialect) in homes(job, target) {
        arrivals.extend(ledger::arrivals(session, dialect, &group, &label, &halves).await?);
    }
    Ok(complete(moves, &arrivals))
}

/// Each change once. Every database that a change reaches keeps it: as long as one of them has not worked it, it is not worked.
fn least_worked(mut moves: Vec<Move>) -> Vec<Move> {
    let change = |one: &Move| (one.from.clone(), one.to.clone(), one.source.as_ref().map(ToString::to_string));
    moves.sort_by_key(|one| (change(one), one.state));
    moves.dedup_by(|other, one| {
        let is_same = change(other) == change(one);
        if is_same {
            one.seen_to.retain(|name| other.seen_to.contains(name));
        }
        is_same
    });
    moves
}

/// The ledger knows how far a change was worked; what this batch reads again does not.
fn with_fresh(mut moves: Vec<Move>, fresh: Vec<Move>) -> Vec<Move> {
    for one in fresh {
        let is_known =
            |known: &Move| (&known.from, &known.to) == (&one.from, &one.to) && (one.source.is_none() || known.source == one.source);
        if !moves.iter().any(is_known) {
            moves.push(one);
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::MoveState::{Done, Left, Open};
    use crate::value::Cell;

    fn moved(from: &str, to: &str, lsn: impl Into<Option<u64>>, state: MoveState) -> Move {
        let key = |text: &str| Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value");
        let source = lsn.into().map(|lsn| SourcePosition { source: "postgresql/crm".into(), order: vec![lsn] });
        Move { from: key(from), to: Some(key(to)), source, state, seen_to: BTreeSet::new() }
    }

    #[test]
    fn h22_a_key_change_is_worked_when_every_database_has_worked_it() {
        let known = vec![moved("1", "2", 10, Done), moved("1", "2", 10, Open), moved("1", "2", 20, Done)];
        assert_eq!(least_worked(known), [moved("1", "2", 10, Open), moved("1", "2", 20, Done)]);
        let left = |names: &[&str]| Move { seen_to: names.iter().map(|name| (*name).to_owned()).collect(), ..moved("1", "2", 10, Left) };
        assert_eq!(least_worked(vec![left(&["a", "b"]), left(&["b", "c"])]), [left(&["b"])], "rows of the others stayed in one of them");
    }

    #[test]
    fn h22_a_key_change_read_again_is_the_one_that_the_ledger_knows() {
        let known = || vec![moved("1", "2", 10, Done)];
        assert_eq!(with_fresh(known(), vec![moved("1", "2", 10, Open)]), known());
        assert_eq!(with_fresh(known(), vec![moved("1", "2", None, Open)]), known(), "its tombstone");
        for news in [moved("1", "2", 20, Open), moved("1", "3", 10, Open), moved("4", "2", 10, Open), moved("1", "3", None, Open)] {
            assert_eq!(with_fresh(known(), vec![news.clone()]), [moved("1", "2", 10, Done), news]);
        }
    }
}
