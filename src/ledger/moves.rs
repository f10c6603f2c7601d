//! Key changes: what no table holds any more.

use std::collections::{BTreeMap, BTreeSet};

use super::{cell, execute, key_text, query, read_key, read_source, some, source_text, text};
use crate::change::{Position, SourcePosition};
use crate::plan::{Arrival, Move, MoveState};
use crate::sink::statement::{Dialect, over_list};
use crate::sink::{Row, Session, SinkError};
use crate::value::Key;

/// Notes key changes. One that is known keeps its state.
///
/// # Errors
/// Those of the database.
pub async fn note_moves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    moves: &[(Move, Position)],
) -> Result<(), SinkError> {
    let line = |(one, cause): &(Move, Position)| {
        let to = one.to.as_ref().map(key_text).unwrap_or_default();
        [key_text(&one.from), to, source_text(one.source.as_ref()), cause.to_string(), state_text(one.state).to_owned()]
    };
    note(session, dialect, (group, entity), moves.iter().map(line).collect()).await
}

async fn note(
    session: &mut dyn Session,
    dialect: Dialect,
    (group, entity): (&str, &str),
    lines: Vec<[String; 5]>,
) -> Result<(), SinkError> {
    let sql = "INSERT INTO entail_moves (group_id, entity, old_key, new_key, source, cause, state)
        SELECT $1, $2, {c0}, {c1}, {c2}, {c3}, {c4} FROM {list} WHERE true
        ON CONFLICT (group_id, entity, old_key, new_key, source) DO NOTHING";
    let columns = (0..5).map(|place| some(lines.iter().filter_map(|line| line.get(place).cloned()))).collect();
    execute(session, over_list(dialect, "noting key changes", sql, columns, vec![text(group), text(entity)])).await
}

/// Brings the key changes of these old keys from one state to another.
///
/// # Errors
/// Those of the database.
pub async fn set_moves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    keys: &[Key],
    states: (MoveState, MoveState),
) -> Result<(), SinkError> {
    let sql =
        "UPDATE entail_moves SET state = $4 WHERE group_id = $1 AND entity = $2 AND state = $3 AND old_key IN (SELECT {c0} FROM {list})";
    let columns = vec![some(keys.iter().map(key_text))];
    let binds = vec![text(group), text(entity), text(state_text(states.0)), text(state_text(states.1))];
    execute(session, over_list(dialect, "updating key changes", sql, columns, binds)).await
}

/// Notes of open key changes of these old keys that rows stayed behind, and the references of which none did.
///
/// # Errors
/// Those of the database.
pub async fn leave(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    keys: &[(&Key, &BTreeSet<String>)],
) -> Result<(), SinkError> {
    let sql = "UPDATE entail_moves SET state = $4, seen_to = $5
        WHERE group_id = $1 AND entity = $2 AND state = $3 AND old_key IN (SELECT {c0} FROM {list})";
    let mut alike: BTreeMap<&BTreeSet<String>, Vec<&Key>> = BTreeMap::new();
    keys.iter().for_each(|(key, seen_to)| alike.entry(*seen_to).or_default().push(*key));
    for (seen_to, keys) in alike {
        let seen_to = super::parts_text(&seen_to.iter().cloned().collect::<Vec<_>>());
        let binds = [group, entity, state_text(MoveState::Open), state_text(MoveState::Left), &seen_to].map(text).to_vec();
        execute(session, over_list(dialect, "updating key changes", sql, vec![some(keys.into_iter().map(key_text))], binds)).await?;
    }
    Ok(())
}

/// Notes that the old keys of these finished key changes have had a life of their own since.
///
/// # Errors
/// Those of the database.
pub async fn supersede(session: &mut dyn Session, dialect: Dialect, group: &str, entity: &str, moves: &[Move]) -> Result<(), SinkError> {
    let sql = "UPDATE entail_moves SET state = CASE state WHEN $4 THEN $3 ELSE $5 END
        WHERE group_id = $1 AND entity = $2 AND state IN ($4, $6) AND (old_key, new_key, source) IN (SELECT {c0}, {c1}, {c2} FROM {list})";
    let columns = vec![
        some(moves.iter().map(|one| key_text(&one.from))),
        some(moves.iter().map(|one| one.to.as_ref().map(key_text).unwrap_or_default())),
        some(moves.iter().map(|one| source_text(one.source.as_ref()))),
    ];
    let states = [MoveState::Superseded, MoveState::Done, MoveState::Reused, MoveState::Left];
    let binds = [text(group), text(entity)].into_iter().chain(states.map(|state| text(state_text(state)))).collect();
    execute(session, over_list(dialect, "putting key changes behind", sql, columns, binds)).await
}

/// Known key changes of an entity that touch one of these keys, at either end.
///
/// # Errors
/// Those of the database.
pub async fn moves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    keys: &BTreeSet<Key>,
) -> Result<Vec<Move>, SinkError> {
    // A change of which only halves are known touches the key that its second half names.
    let condition = "(old_key IN (SELECT {c0} FROM {list}) OR new_key IN (SELECT {c0} FROM {list}) OR new_key = '' AND source IN (
        SELECT source FROM entail_moves WHERE group_id = $1 AND entity = $2 AND old_key = '' AND new_key IN (SELECT {c0} FROM {list})))";
    let rows = select(session, dialect, (group, entity), condition, some(keys.iter().map(key_text))).await?;
    Ok(rows.iter().filter_map(read_move).collect())
}

/// Reads lines of the ledger's key changes: old key, new key, source, state, and what was seen to.
async fn select(
    session: &mut dyn Session,
    dialect: Dialect,
    (group, entity): (&str, &str),
    condition: &str,
    list: Vec<Option<String>>,
) -> Result<Vec<Row>, SinkError> {
    let sql =
        format!("SELECT old_key, new_key, source, state, seen_to FROM entail_moves WHERE group_id = $1 AND entity = $2 AND {condition}");
    query(session, over_list(dialect, "reading key changes", &sql, vec![list], vec![text(group), text(entity)])).await
}

/// Notes the second halves of key changes, for first halves that are read later.
///
/// # Errors
/// Those of the database.
pub async fn note_arrivals(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    arrivals: &[(Arrival, Position)],
) -> Result<(), SinkError> {
    let line = |(one, cause): &(Arrival, Position)| {
        [String::new(), key_text(&one.key), one.source.to_string(), cause.to_string(), state_text(MoveState::Done).to_owned()]
    };
    note(session, dialect, (group, entity), arrivals.iter().map(line).collect()).await
}

/// Key changes that the source made at these positions, of which only the old value is known.
///
/// # Errors
/// Those of the database.
pub async fn halves(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    positions: &[SourcePosition],
) -> Result<Vec<Move>, SinkError> {
    let condition = "new_key = '' AND source IN (SELECT {c0} FROM {list})";
    let rows = select(session, dialect, (group, entity), condition, some(positions.iter().map(ToString::to_string))).await?;
    Ok(rows.iter().filter_map(read_move).collect())
}

/// The second halves of key changes that the source made at these positions.
///
/// # Errors
/// Those of the database.
pub async fn arrivals(
    session: &mut dyn Session,
    dialect: Dialect,
    group: &str,
    entity: &str,
    positions: &[SourcePosition],
) -> Result<Vec<Arrival>, SinkError> {
    let condition = "old_key = '' AND source IN (SELECT {c0} FROM {list})";
    let rows = select(session, dialect, (group, entity), condition, some(positions.iter().map(ToString::to_string))).await?;
    Ok(rows.iter().filter_map(|row| Some(Arrival { key: read_key(cell(row, 1))?, source: read_source(cell(row, 2))? })).collect())
}

fn read_move(row: &Row) -> Option<Move> {
    let states = [MoveState::Open, MoveState::Left, MoveState::Reused, MoveState::Done, MoveState::Superseded];
    // Of a word that a later release wrote nothing is known, as of a change that was not worked.
    let state = states.into_iter().find(|state| state_text(*state) == cell(row, 3)).unwrap_or(MoveState::Open);
    // A release that did not say so parked whatever was left.
    let seen_to = super::read_list(cell(row, 4)).into_iter().collect();
    Some(Move { from: read_key(cell(row, 0))?, to: read_key(cell(row, 1)), source: read_source(cell(row, 2)), state, seen_to })
}

fn state_text(state: MoveState) -> &'static str {
    match state {
        MoveState::Open => "open",
        MoveState::Left => "left",
        MoveState::Reused => "reused",
        MoveState::Done => "done",
        MoveState::Superseded => "superseded",
    }
}
