//! Whether the databases still are what they were when the rules were bound to them: the same ones, with no less in their logs (H15, H67), and with
//! the same columns (H74).
//!
//! A parent database that was restored agrees with every lie: the parents *are* missing. So where its log ends is compared with where it had ended
//! before any look-up of it is believed, in this process and, by the ledger, over restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::databases::{DatabaseId, Handle};
use crate::graph::{Edge, EdgeId, Origin};
use crate::ledger::{self, Latch};
use crate::model::{BoundTable, Model, Problem};
use crate::resolve::Trouble;
use crate::rules::{EntityId, OnDelete};
use crate::sink::{Column, Row, SinkError, TableRef};
use crate::value::ColumnType;

/// Where the logs of databases had ended.
#[derive(Debug, Default)]
pub struct Marks(Mutex<BTreeMap<DatabaseId, u64>>);

impl Marks {
    /// Looks where a database's log ends now. A step back is an error until it is [accepted](accept).
    ///
    /// # Errors
    /// [`SinkError::Rewound`], or those of the database.
    pub async fn check(&self, id: DatabaseId, handle: &Handle) -> Result<(), SinkError> {
        // Taken before the question: others ask at the same time, and an older answer may come later.
        let before = self.of(id);
        let Some(now) = handle.database.log_end().await? else { return Ok(()) };
        if let Some(before) = before.filter(|before| *before > now) {
            return Err(SinkError::Rewound { database: handle.name.clone(), before, now });
        }
        self.raise(id, now);
        Ok(())
    }

    /// Takes up where another process, or an earlier one, has seen a log end.
    fn raise(&self, id: DatabaseId, seen: u64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.entry(id).or_default();
        *mark = (*mark).max(seen);
    }

    fn lower(&self, id: DatabaseId, now: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, now);
    }

    fn of(&self, id: DatabaseId) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }
}

/// Something that is no longer as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The references that it concerns.
    pub edges: Vec<EdgeId>,
    /// In one word.
    pub reason: &'static str,
    /// More about it, and what to do.
    pub detail: String,
    /// The database whose log took a step back, and where it ends: to be [accepted](accept) once the references are shut.
    pub log_end: Option<(DatabaseId, u64)>,
}

/// Looks at every database. One that does not answer is passed over: nothing is concluded from silence.
pub async fn look(model: &Model, marks: &Marks) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, handle) in model.databases.iter() {
        match handle.database.identity().await {
            Ok(identity) if identity != handle.identity => findings.push(Finding {
                edges: edges(model, |entity| has(model, entity, id)),
                reason: "other-database",
                detail: format!("database `{}` is another one than at the start: {identity}, not {}", handle.name, handle.identity),
                log_end: None,
            }),
            Ok(_) => {}
            Err(_) => continue,
        }
        findings.extend(marks.check(id, handle).await.err().and_then(|error| rewound(model, &error)));
    }
    for (id, _) in model.graph.nodes() {
        findings.extend(drifted(model, id).await);
    }
    findings
}

/// Compares the ends of the logs with what the ledgers remember of them, and keeps the present ones. Of a log that took a step back the old end is
/// kept: until the references are shut it is all that tells of it.
///
/// # Errors
/// Those of the databases.
pub async fn remember(model: &Model, group: &str, marks: &Marks) -> Result<Vec<Finding>, SinkError> {
    let mut findings = Vec::new();
    for (id, handle) in model.databases.iter() {
        let mut known = Vec::new();
        for target in model.targets() {
            known.push((target, ledger::identity(&*model.databases.handle(target).database, group, &name(handle)).await?));
        }
        let of_ledgers = known.iter().filter_map(|(_, known)| known.as_ref()?.parse::<u64>().ok());
        let before = of_ledgers.chain(marks.of(id)).max();
        // Not before: another worker may have seen it further on meanwhile.
        let Some(now) = handle.database.log_end().await? else { continue };
        if let Some(before) = before.filter(|before| *before > now) {
            findings.extend(rewound(model, &SinkError::Rewound { database: handle.name.clone(), before, now }));
            continue;
        }
        for (target, known) in known {
            let mut session = model.databases.handle(target).database.begin().await?;
            ledger::replace_identity(session.as_mut(), group, &name(handle), known.as_deref(), &now.to_string()).await?;
            session.commit().await?;
        }
        marks.raise(id, now);
    }
    Ok(findings)
}

/// Believes a database again whose log took a step back: the references that ask it for parents are shut.
///
/// # Errors
/// Those of the databases: then it is not believed yet.
pub async fn accept(model: &Model, group: &str, marks: &Marks, (id, now): (DatabaseId, u64)) -> Result<(), SinkError> {
    let name = name(model.databases.handle(id));
    for target in model.targets() {
        let mut session = model.databases.handle(target).database.begin().await?;
        ledger::renew_identity(session.as_mut(), group, &name, &now.to_string()).await?;
        session.commit().await?;
    }
    marks.lower(id, now);
    Ok(())
}

/// Under which name the ledgers keep where a log ends.
fn name(handle: &Handle) -> String {
    format!("end of the log of {}", handle.name)
}

/// What a step back of a database's log concerns: every reference that asks it for parents. `None` of other errors.
pub(crate) fn rewound(model: &Model, error: &SinkError) -> Option<Finding> {
    let SinkError::Rewound { database, now, .. } = error else { return None };
    let (id, _) = model.databases.iter().find(|(_, handle)| handle.name == *database)?;
    let is_parent = |edge: &Edge| has(model, model.graph.parent(edge), id);
    let edges = model.graph.edges().filter(|(_, edge)| edge.origin != Origin::Native && is_parent(edge)).map(|(id, _)| id).collect();
    let detail = format!("{error}; {}", error.hint());
    Some(Finding { edges, reason: "source-rewound", detail, log_end: Some((id, *now)) })
}

fn has(model: &Model, entity: EntityId, id: DatabaseId) -> bool {
    model.table_if_any(entity).is_some_and(|bound| bound.database == id)
}

/// References of the rules of which either end is such a table.
fn edges(model: &Model, is_one: impl Fn(EntityId) -> bool) -> Vec<EdgeId> {
    let concerns = |edge: &Edge| is_one(edge.child) || is_one(model.graph.parent(edge));
    model.graph.edges().filter(|(_, edge)| edge.origin != Origin::Native && concerns(edge)).map(|(id, _)| id).collect()
}

/// Whether columns that are used have changed since the rules were bound.
async fn drifted(model: &Model, entity: EntityId) -> Option<Finding> {
    let bound = model.table_if_any(entity)?;
    let database = &model.databases.handle(bound.database).database;
    let now = database.table(&bound.table.table_name()).await.ok()?;
    changed(model, entity, bound, now.as_ref())
}

fn changed(model: &Model, entity: EntityId, bound: &BoundTable, now: Option<&TableRef>) -> Option<Finding> {
    let is_same = |name: &&String| bound.table.column(name).map(meaning) == now.and_then(|now| now.column(name)).map(meaning);
    let used = used(model, entity);
    let changed: Vec<&str> = used.iter().filter(|name| !is_same(name)).map(String::as_str).collect();
    if changed.is_empty() {
        return None;
    }
    let error = SinkError::Drifted { table: bound.table.table_name().to_string(), columns: changed.join(", ") };
    let detail = format!("{error}; {}", error.hint());
    // Of a table that the rules do not name, its native keys say what is used: it is bound anew.
    let edges = edges(model, |one| one == entity);
    (!edges.is_empty()).then_some(Finding { edges, reason: "schema-drift", detail, log_end: None })
}

/// Compares marks that were just read with those of the tables that the rules were bound to. `entities` are in the order in which they were asked.
pub(crate) fn compare(model: &Model, entities: &[EntityId], rows: &[Row]) -> Result<(), Trouble> {
    let mut now: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
    for row in rows {
        let [Some(place), Some(column), Some(mark)] = row.as_slice() else { continue };
        now.entry(place.parse().unwrap_or(usize::MAX)).or_default().insert(column, mark);
    }
    for (place, entity) in entities.iter().enumerate() {
        let bound = model.table(*entity);
        let mut now = now.remove(&place).unwrap_or_default();
        let mark = now.remove("");
        // Where columns have no marks, the table's own stands for them.
        let has_marks = bound.table.columns().iter().any(|column| !column.mark.is_empty());
        let is_same = |name: &&String| bound.table.column(name).map(|column| column.mark.as_str()) == now.get(name.as_str()).copied();
        let used = used(model, *entity);
        let changed: Vec<&str> = used.iter().filter(|name| has_marks && !is_same(name)).map(String::as_str).collect();
        let edges = edges(model, |one| one == *entity);
        if !changed.is_empty() && !edges.is_empty() {
            let error = SinkError::Drifted { table: bound.table.table_name().to_string(), columns: changed.join(", ") };
            return Err(Trouble { error, edges });
        }
        let then: BTreeMap<&str, &str> = bound.table.columns().iter().map(|column| (column.name.as_str(), column.mark.as_str())).collect();
        if mark != Some(bound.table.mark.as_str()) || has_marks && then != now {
            let database = model.databases.handle(bound.database).name.clone();
            return Err(SinkError::Reshaped { database, table: bound.table.table_name().to_string() }.into());
        }
    }
    Ok(())
}

/// What is concerned when the rules can no longer be bound because a table was altered: that table, and whatever the problems name.
pub(crate) fn unbindable(model: &Model, (database, table): (&str, &str), problems: &[Problem]) -> Finding {
    let is_named = |name: &str| problems.iter().any(|problem| problem.place == name);
    let is_it = |entity| {
        let Some(bound) = model.table_if_any(entity) else { return false };
        let (home, name) = (&model.databases.handle(bound.database).name, bound.table.table_name().to_string());
        let mut of_it = model.graph.edges().filter(|(_, edge)| edge.child == entity);
        home == database && name == table
            || is_named(&model.graph.node(entity).name)
            || is_named(&format!("{home}.{name}"))
            || of_it.any(|(_, edge)| is_named(&edge.name))
    };
    let detail: Vec<String> = problems.iter().map(|one| format!("{}: {}; {}", one.place, one.message, one.hint)).collect();
    Finding { edges: leading_to(model, is_it), reason: "schema-drift", detail: detail.join("; "), log_end: None }
}

/// The references of the rules that lead to such a table, or to one below which it stands.
fn leading_to(model: &Model, is_it: impl Fn(EntityId) -> bool) -> Vec<EdgeId> {
    let mut above: BTreeSet<EntityId> = model.graph.nodes().map(|(id, _)| id).filter(|id| is_it(*id)).collect();
    let mut before = 0;
    while before != above.len() {
        before = above.len();
        let parents: Vec<EntityId> =
            model.graph.edges().filter(|(_, edge)| above.contains(&edge.child)).map(|(_, edge)| model.graph.parent(edge)).collect();
        above.extend(parents);
    }
    let leads_there = |edge: &Edge| edge.origin != Origin::Native && (above.contains(&edge.child) || is_it(model.graph.parent(edge)));
    model.graph.edges().filter(|(_, edge)| leads_there(edge)).map(|(id, _)| id).collect()
}

/// What was used under the old binding and is another thing under the new one: its references are to be shut before that counts (H74).
pub(crate) fn rebound(old: &Model, new: &Model) -> Vec<Finding> {
    let found = old.graph.nodes().filter_map(|(id, _)| {
        let bound = old.table_if_any(id)?;
        // Tables that the rules do not name are numbered as they are come to.
        let is_it = |now: &&BoundTable| now.database == bound.database && now.table.table_name() == bound.table.table_name();
        let now = new.graph.nodes().filter_map(|(id, _)| new.table_if_any(id)).find(is_it);
        changed(old, id, bound, now.map(|now| &now.table))
    });
    found.collect()
}

/// What is read of a table, asked for by conditions, or set.
fn used(model: &Model, entity: EntityId) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = model.table_if_any(entity).map(|bound| bound.read.iter().cloned().collect()).unwrap_or_default();
    for (_, edge) in model.graph.edges().filter(|(_, edge)| edge.child == entity) {
        used.extend(edge.when.iter().map(|when| when.column.clone()));
        if let OnDelete::Set(values) = &edge.on_delete {
            used.extend(values.keys().cloned());
        }
    }
    used
}

/// What a column is. A default may change as it likes: it is read when it is written.
fn meaning(column: &Column) -> (&str, &ColumnType, bool, bool, bool) {
    (&column.mark, &column.kind, column.nullable, column.generated, column.bytewise)
}

/// The latches of a finding.
#[must_use]
pub fn latches(model: &Model, finding: &Finding) -> BTreeSet<Latch> {
    let latch = |edge: &EdgeId| Latch {
        scope: format!("reference:{}", model.graph.edge(*edge).name),
        reason: finding.reason.to_owned(),
        detail: finding.detail.clone(),
    };
    finding.edges.iter().map(latch).collect()
}

#[cfg(test)]
mod tests;
