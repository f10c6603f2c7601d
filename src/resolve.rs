//! Answers the planner's questions from the databases: child rows under lock, then the look-up of their roots.
//!
//! The order is the safety (H2): [`collect`] reads and locks, and only a [`look_up`] made after it may find a root missing. Look-ups run outside
//! the transactions that hold the locks, in a fresh snapshot on the parent's primary, and answer for every key that was asked (H68).

use std::collections::{BTreeMap, BTreeSet};

use crate::databases::DatabaseId;
use crate::graph::{EdgeId, TargetId};
use crate::model::Model;
use crate::plan::{ChildRow, Collected, Expansion, Need, Root, Scope};
use crate::rules::OnDelete;
use crate::sink::statement::{self, Selection};
use crate::sink::{Database, Session, SinkError, TableRef};
use crate::value::{Cell, Key};

mod count;
mod portion;

pub use count::Counted;
pub(crate) use count::count;
pub(crate) use portion::collect_portion;

/// The open transactions of a batch, one per database.
pub(crate) type Sessions = BTreeMap<DatabaseId, Box<dyn Session>>;

/// An error, with the references that it concerns: empty if it concerns the work as a whole.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) error: SinkError,
    pub(crate) edges: Vec<EdgeId>,
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        Self { error, edges: Vec::new() }
    }
}

/// What was read.
pub(crate) enum Reading {
    /// Everything below the roots.
    Whole(Collected),
    /// More rows than `limit`, counted up to this reference: nothing is known of the rest.
    TooMany(EdgeId),
}

/// How far a collection goes.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    /// References that are shut: not read.
    pub(crate) latched: &'a BTreeSet<EdgeId>,
    /// Which references are followed. Rows in shadow are not locked.
    pub(crate) scope: Scope,
    /// Rows at the most.
    pub(crate) limit: usize,
}

/// Reads and locks everything below the roots, as far as told.
pub(crate) async fn collect(model: &Model, sessions: &mut Sessions, roots: Vec<Root>, reach: Reach<'_>) -> Result<Reading, Trouble> {
    let Reach { latched, scope, limit } = reach;
    let mut expansion = Expansion::new(&model.graph, roots, latched, scope);
    loop {
        let needs = in_order(model, expansion.needs());
        if needs.is_empty() {
            return Ok(Reading::Whole(expansion.finish()));
        }
        for need in needs {
            let left = limit.saturating_sub(expansion.rows_read());
            let rows = read_children(model, sessions, &need, (scope == Scope::Enforced, left.saturating_add(1)))
                .await
                .map_err(|error| Trouble { error, edges: vec![need.edge] })?;
            if rows.len() > left {
                return Ok(Reading::TooMany(need.edge));
            }
            expansion.answer(&need, rows);
        }
    }
}

/// One order of databases and tables for every worker (H60).
fn in_order(model: &Model, mut needs: Vec<Need>) -> Vec<Need> {
    needs.sort_by_key(|need| {
        let child = model.graph.edge(need.edge).child;
        (model.table(child).database, child, need.edge)
    });
    needs
}

/// Whether rows point at a key by a reference. They are not locked.
pub(crate) async fn has_children(model: &Model, sessions: &mut Sessions, edge: EdgeId, key: &Key) -> Result<bool, Trouble> {
    let need = Need { edge, keys: vec![key.clone()] };
    let rows = read_children(model, sessions, &need, (false, 1)).await.map_err(|error| Trouble { error, edges: vec![edge] })?;
    Ok(!rows.is_empty())
}

async fn read_children(
    model: &Model,
    sessions: &mut Sessions,
    need: &Need,
    (lock, limit): (bool, usize),
) -> Result<Vec<ChildRow>, SinkError> {
    let edge = model.graph.edge(need.edge);
    let bound = model.table(edge.child);
    let handle = model.databases.handle(bound.database);
    let keys: Vec<&[String]> = need.keys.iter().map(Key::parts).collect();
    let when = conditions(&bound.table, edge);
    let selection = Selection { table: &bound.table, by: &edge.columns, keys: &keys, when: &when, read: &bound.read, lock, limit };
    let Some(statement) = statement::select(handle.database.dialect(), &selection) else { return Ok(Vec::new()) };
    let Some(session) = sessions.get_mut(&bound.database) else {
        return Err(SinkError::Answer {
            what: statement.what().to_owned(),
            expected: format!("an open transaction in database `{}`", handle.name),
            got: "none".to_owned(),
        });
    };
    let rows = session.query(&statement).await?;
    child_rows(model, edge, rows)
}

/// The rows that a statement read of a reference's child, its columns and then its version.
fn child_rows(model: &Model, edge: &crate::graph::Edge, rows: Vec<crate::sink::Row>) -> Result<Vec<ChildRow>, SinkError> {
    let (bound, key_columns) = (model.table(edge.child), &model.graph.node(edge.child).key);
    // Of a row that goes, also what rows below may point at: where that cannot be read, they are not found, and the database may take them along.
    let targets = model.graph.targets_of(edge.child).filter(|(target, _)| model.graph.edges_at(*target).next().is_some());
    let pointed_at: BTreeSet<&String> =
        targets.flat_map(|(_, target)| &target.columns).filter(|_| edge.on_delete == OnDelete::Cascade).collect();
    let child = |mut row: crate::sink::Row| {
        let version = row.pop().flatten().unwrap_or_default();
        let image = bound.table.image(&bound.read, &row);
        // A row that cannot be named can neither go nor be held against its parent: nobody may take it for none.
        let unnamed = || SinkError::Unnamed { table: bound.table.table_name().to_string() };
        if pointed_at.iter().any(|column| image.get(*column).is_none_or(|cell| *cell == Cell::Unknown)) {
            return Err(unnamed());
        }
        Ok(ChildRow { key: TableRef::key_of(key_columns, &image).ok_or_else(unnamed)?, image, version })
    };
    rows.into_iter().map(child).collect()
}

/// The conditions of a reference, with the columns that they are on.
pub(crate) fn conditions<'a>(table: &'a TableRef, edge: &crate::graph::Edge) -> Vec<(&'a crate::sink::Column, Vec<String>)> {
    edge.when.iter().filter_map(|when| table.column(&when.column).map(|column| (column, when.values.clone()))).collect()
}

/// Keys by the target whose columns they are values of.
pub(crate) type Asked = BTreeMap<TargetId, BTreeSet<Key>>;

/// Which of the asked keys have a row. Every asked key has an answer.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    answers: BTreeMap<(TargetId, Key), bool>,
}

impl Presence {
    /// Whether the key has a row.
    ///
    /// # Panics
    /// If the key was not asked: an unasked key is neither present nor missing.
    pub(crate) fn of(&self, target: TargetId, key: &Key) -> bool {
        *self.answers.get(&(target, key.clone())).expect("only keys that were looked up are judged")
    }

    pub(crate) fn was_asked(&self, target: TargetId, key: &Key) -> bool {
        self.answers.contains_key(&(target, key.clone()))
    }
}

/// Looks keys up on their own databases' primaries, in a fresh snapshot: one statement per target.
pub(crate) async fn look_up(model: &Model, asked: &Asked) -> Result<Presence, Trouble> {
    let mut presence = Presence::default();
    for (target_id, keys) in asked.iter().filter(|(_, keys)| !keys.is_empty()) {
        let target = model.graph.target(*target_id);
        let edges = || model.graph.edges_at(*target_id).map(|(edge, _)| edge).collect();
        let keys: Vec<&Key> = keys.iter().collect();
        let bound = model.table(target.entity);
        let database = &*model.databases.handle(bound.database).database;
        let flags = flags(database, &bound.table, &target.columns, &keys).await.map_err(|error| Trouble { error, edges: edges() })?;
        presence.answers.extend(keys.into_iter().zip(flags).map(|(key, flag)| ((*target_id, key.clone()), flag)));
    }
    Ok(presence)
}

/// Which of these keys the table has, on its primary.
pub(crate) async fn flags(database: &dyn Database, table: &TableRef, columns: &[String], keys: &[&Key]) -> Result<Vec<bool>, SinkError> {
    let texts: Vec<&[String]> = keys.iter().map(|key| key.parts()).collect();
    let Some(statement) = statement::present(database.dialect(), table, columns, &texts) else { return Ok(Vec::new()) };
    let mut flags: Vec<Option<bool>> = vec![None; keys.len()];
    for row in database.read(&statement).await? {
        let [Some(place), Some(exists), Some(standby)] = row.as_slice() else { continue };
        if standby == "true" {
            return Err(SinkError::Standby);
        }
        let slot = place.parse().ok().and_then(|place: usize| flags.get_mut(place));
        if let (Some(slot), "true" | "false") = (slot, exists.as_str()) {
            *slot = Some(exists == "true");
        }
    }
    let answered = flags.iter().flatten().count();
    flags.into_iter().collect::<Option<Vec<bool>>>().ok_or_else(|| SinkError::Answer {
        what: statement.what().to_owned(),
        expected: format!("{} answers", keys.len()),
        got: answered.to_string(),
    })
}

/// Fewer missing keys than this say nothing about the table as a whole.
pub(crate) const SUSPICIOUS_KEYS: usize = 100;

/// Targets of which many keys were asked, none is there, and the table has no row at all, with these keys: a truncated, fresh or wrong database
/// looks like this (H67).
pub(crate) async fn empty_parents(model: &Model, presence: &Presence) -> Result<BTreeMap<TargetId, Vec<Key>>, Trouble> {
    let mut missing: BTreeMap<TargetId, (Vec<Key>, bool)> = BTreeMap::new();
    for ((target, key), present) in &presence.answers {
        let (keys, any) = missing.entry(*target).or_default();
        keys.push(key.clone());
        *any |= present;
    }
    let mut empty = BTreeMap::new();
    for (target, (keys, _)) in missing.into_iter().filter(|(_, (keys, any))| keys.len() >= SUSPICIOUS_KEYS && !any) {
        let bound = model.table(model.graph.target(target).entity);
        let database = &model.databases.handle(bound.database).database;
        let rows = database.read(&statement::has_rows(database.dialect(), &bound.table)).await?;
        if rows.first().and_then(|row| row.first()).is_some_and(|flag| flag.as_deref() == Some("false")) {
            empty.insert(target, keys);
        }
    }
    Ok(empty)
}
