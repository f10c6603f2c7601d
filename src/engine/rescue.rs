//! What a crash between two databases may have taken too much of (H47).
//!
//! Leaves commit before roots. If a crash falls between, and a middle row is given to a living parent before the redo, what had hung on it is gone
//! already, and no database says why. So whoever works a root once more looks what its cascade has taken, and puts back the rows whose own parent
//! lives and was not taken. In the same transactions: the root is not done before its rows are back.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{Failure, Job};
use super::judge::Judged;
use super::subjects::{State, Subject};
use crate::apply;
use crate::databases::DatabaseId;
use crate::graph::{Edge, TargetId};
use crate::ledger::{self, Archived};
use crate::model::Model;
use crate::plan::{Plan, RootId};
use crate::resolve::Trouble;
use crate::rules::{EntityId, Mode, OnDelete};
use crate::sink::statement::{self, Selection};
use crate::sink::{Session, SinkError, TableRef, image};
use crate::undo::Owed;
use crate::value::Key;

/// Rows read at a time.
const PAGE: usize = 1_000;

/// An archived row.
struct Taken {
    database: DatabaseId,
    entity: EntityId,
    row: Archived,
    /// By what others knew it.
    values: Vec<(TargetId, Key)>,
    /// The parents because of which it was touched. `None` if one of them is the root, or cannot be told: then it is left alone.
    because: Option<Vec<(TargetId, Key)>>,
    /// Other parents with which it would have gone by now, too.
    needs: Vec<(TargetId, Key)>,
    /// Other parents that it had, and without which it lives: by the names of the references.
    had: BTreeMap<String, (TargetId, Key)>,
}

/// Puts back what earlier attempts at the roots of this batch took below rows that live on. Returns the databases in which it did.
pub(super) async fn rescue(job: &mut Job<'_>, judged: &Judged, plan: &Plan) -> Result<BTreeSet<DatabaseId>, Failure> {
    if job.authority.is_dry() {
        return Ok(BTreeSet::new());
    }
    let roots = finished(job, judged, plan);
    let cascades = attempted(job, roots.keys().cloned().collect()).await?;
    if cascades.is_empty() {
        return Ok(BTreeSet::new());
    }
    let taken = taken(job, &roots, &cascades).await?;
    let parents = taken.iter().flat_map(|one| one.because.iter().flatten().chain(&one.needs).chain(one.had.values()).cloned()).collect();
    let found = look_up(job, &parents, &cascades).await?;
    let Rescued { rows: rescued, lost, orphaned } = rescued(taken, &found);
    for one in lost {
        *job.report.not_put_back.entry(one.row.entity).or_default() += 1;
    }
    job.report.put_back_orphaned = orphaned;
    put_back(job, rescued, &cascades).await
}

/// The roots that this batch ends, by the ids of their cascades. One that is held back, or of which more is left, is looked at when it ends.
fn finished<'j>(job: &Job<'_>, judged: &'j Judged, plan: &Plan) -> BTreeMap<String, &'j Subject> {
    let ids = judged.cascade_ids(job);
    let is_open = |id: RootId| plan.blocked.contains_key(&id) || plan.unfinished.contains(&id);
    let worked = (0u32..).map(RootId).zip(ids).filter(|(id, _)| !is_open(*id));
    let worked = worked.filter_map(|(id, cascade)| Some((cascade, judged.subject(id)?)));
    let alive = judged.subjects.iter().filter(|subject| subject.state == State::Alive);
    let alive = alive.map(|subject| (subject.cascade_id(job), subject));
    let is_judged = |(_, subject): &(String, &Subject)| matches!(subject.state, State::Root(_) | State::Alive);
    worked.chain(alive).filter(is_judged).collect()
}

/// Those of the cascades that have taken rows before, and no more than one transaction can look at. Of the others the report tells.
async fn attempted(job: &mut Job<'_>, ids: BTreeSet<String>) -> Result<Vec<String>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let group = job.engine.owner.group.clone();
    let ids: Vec<String> = ids.into_iter().collect();
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for (id, session) in &mut job.sessions {
        let dialect = job.model.databases.handle(*id).database.dialect();
        for (cascade, count) in ledger::rows_of(session.as_mut(), dialect, &group, &ids).await? {
            *rows.entry(cascade).or_default() += count;
        }
    }
    let most = u64::try_from(job.engine.rows_per_transaction).unwrap_or(u64::MAX);
    let (small, large): (Vec<_>, Vec<_>) = rows.into_iter().filter(|(_, rows)| *rows > 0).partition(|(_, rows)| *rows <= most);
    job.report.not_looked_at.extend(large);
    Ok(small.into_iter().map(|(cascade, _)| cascade).collect())
}

/// What these cascades took before this batch, and was not put back.
async fn taken(job: &mut Job<'_>, roots: &BTreeMap<String, &Subject>, cascades: &[String]) -> Result<Vec<Taken>, Failure> {
    let (group, model) = (job.engine.owner.group.clone(), job.model);
    let entities: Vec<String> = model.graph.nodes().map(|(_, node)| node.name.clone()).collect();
    let mut all = Vec::new();
    for (id, session) in &mut job.sessions {
        let database = &*model.databases.handle(*id).database;
        let most = u32::try_from(job.engine.rows_per_transaction).unwrap_or(u32::MAX);
        // Read beside the transaction: what this very batch takes is not among them.
        let numbers = ledger::left_to_undo(database, &group, cascades, &entities, i64::MAX, most).await?;
        for page in numbers.chunks(PAGE) {
            for row in ledger::archived(session.as_mut(), database.dialect(), page).await? {
                let Some(entity) = model.entity_named(&row.entity) else { continue };
                let root = roots.get(&row.cascade).map(|subject| (subject.target, subject.key.clone()));
                let Former { values, parents, takes } = former(model, entity, &row).unwrap_or_default();
                let because =
                    row.reference.split(", ").map(|name| parents.get(name).cloned().filter(|parent| Some(parent) != root.as_ref()));
                let because = because.collect();
                let others = parents.into_iter().filter(|_| row.is_removed);
                let (needs, had): (BTreeMap<_, _>, BTreeMap<_, _>) = others.partition(|(name, _)| takes.contains(name));
                all.push(Taken { database: *id, entity, row, values, because, needs: needs.into_values().collect(), had });
            }
        }
    }
    Ok(all)
}

/// What an archived row was.
#[derive(Default)]
struct Former {
    /// By what others knew it.
    values: Vec<(TargetId, Key)>,
    /// Its parents, by the names of the references.
    parents: BTreeMap<String, (TargetId, Key)>,
    /// Those of the references by which it goes with its parent.
    takes: BTreeSet<String>,
}

fn former(model: &Model, entity: EntityId, row: &Archived) -> Option<Former> {
    let table = &model.table_if_any(entity)?.table;
    let dialect = model.databases.handle(model.table(entity).database).database.dialect();
    let texts: Vec<Option<String>> = image::fields(dialect, &row.image)?.iter().map(|field| image::text(dialect, field)).collect();
    let image = table.image(&apply::columns_of_shape(&row.columns), &texts);
    let listed = |edge: &Edge| row.reference.split(", ").any(|name| name == edge.name);
    let holds = |edge: &Edge| edge.mode == Mode::Enforce && edge.when.is_empty() && edge.on_delete != OnDelete::NoAction;
    let targets = model.graph.targets_of(entity);
    let values = targets.filter_map(|(id, target)| Some((id, TableRef::key_of(&target.columns, &image)?))).collect();
    let mut former = Former { values, ..Former::default() };
    for edge in model.graph.edges().map(|(_, edge)| edge).filter(|edge| edge.child == entity && (listed(edge) || holds(edge))) {
        let Some(key) = TableRef::key_of(&edge.columns, &image) else { continue };
        former.parents.insert(edge.name.clone(), (edge.target, key));
        if edge.on_delete == OnDelete::Cascade {
            former.takes.insert(edge.name.clone());
        }
    }
    Some(former)
}

/// Which of these parents are there.
#[derive(Default)]
struct Found {
    present: BTreeSet<(TargetId, Key)>,
    /// Those that were not taken by the same cascades: before, or just now.
    living: BTreeSet<(TargetId, Key)>,
}

async fn look_up(job: &mut Job<'_>, parents: &BTreeSet<(TargetId, Key)>, cascades: &[String]) -> Result<Found, Failure> {
    let (group, model) = (job.engine.owner.group.clone(), job.model);
    let mut by_target: BTreeMap<TargetId, Vec<&Key>> = BTreeMap::new();
    for (target, key) in parents {
        by_target.entry(*target).or_default().push(key);
    }
    let chosen: BTreeSet<&str> = cascades.iter().map(String::as_str).collect();
    let mut all = Found::default();
    for (target_id, keys) in by_target {
        let target = model.graph.target(target_id);
        // It lives to the end of the transaction: who deletes it then finds the rows that are put back under it.
        let is_ours = model.graph.edges().any(|(_, edge)| edge.child == target.entity && edge.mode == Mode::Enforce);
        let session = job.sessions.get_mut(&model.table(target.entity).database).filter(|_| is_ours);
        let found = rows_of(model, target_id, &keys, session.map(|session| &mut **session)).await?;
        all.present.extend(found.keys().map(|key| (target_id, key.clone())));
        // Without an archive nobody can tell whether the parent was taken.
        if model.graph.edges().any(|(_, edge)| edge.child == target.entity && !edge.archive) {
            continue;
        }
        // In a database that this batch does not reach, these cascades have taken nothing.
        let Some(session) = job.sessions.get_mut(&model.table(target.entity).database) else {
            all.living.extend(found.into_keys().map(|key| (target_id, key)));
            continue;
        };
        let dialect = model.databases.handle(model.table(target.entity).database).database.dialect();
        let rows: Vec<&Key> = found.values().collect();
        let images = ledger::images_of(session.as_mut(), dialect, (&group, &chosen), &model.graph.node(target.entity).name, &rows).await?;
        // A row that these cascades only changed lives, under its key; of another value of it nobody can tell.
        let by_key = target_id == model.graph.key_target(target.entity);
        let taken = |images: &ledger::Images| if by_key { images.uprooted } else { images.open };
        let is_free = |row: &Key| images.get(row).is_none_or(|images| taken(images) == 0);
        all.living.extend(found.into_iter().filter(|(_, row)| is_free(row)).map(|(key, _)| (target_id, key)));
    }
    Ok(all)
}

/// The rows that have these values now: value and key. With a session, locked in its transaction.
async fn rows_of(
    model: &Model,
    target: TargetId,
    keys: &[&Key],
    mut session: Option<&mut (dyn Session + 'static)>,
) -> Result<BTreeMap<Key, Key>, Failure> {
    let target = model.graph.target(target);
    let bound = model.table(target.entity);
    let database = &model.databases.handle(bound.database).database;
    let own = &model.graph.node(target.entity).key;
    let read: Vec<String> = target.columns.iter().chain(own).cloned().collect();
    let mut found = BTreeMap::new();
    for page in keys.chunks(PAGE) {
        let parts: Vec<&[String]> = page.iter().map(|key| key.parts()).collect();
        let lock = session.is_some();
        let selection =
            Selection { table: &bound.table, by: &target.columns, keys: &parts, when: &[], read: &read, lock, limit: page.len() };
        let Some(question) = statement::select(database.dialect(), &selection) else { continue };
        let rows = match &mut session {
            Some(session) => session.query(&question).await,
            None => database.read(&question).await,
        };
        for row in rows.map_err(Trouble::from)? {
            let image = bound.table.image(&read, row.get(..read.len()).unwrap_or_default());
            found.extend(TableRef::key_of(&target.columns, &image).zip(TableRef::key_of(own, &image)));
        }
    }
    Ok(found)
}

/// What comes of the rows that were touched because of parents that live, or come back with them.
struct Rescued {
    rows: Vec<Taken>,
    /// Another parent with which they go is missing.
    lost: Vec<Taken>,
    /// Of `rows`: how many lack a parent without which they live, per reference. They are put back as they were: whether that parent's own event is
    /// still to come, and finds them then, nobody can tell here.
    orphaned: BTreeMap<String, u64>,
}

fn rescued(taken: Vec<Taken>, found: &Found) -> Rescued {
    let (mut candidates, mut lost) = (taken, Vec::new());
    loop {
        let (returning, rescued) = returning(candidates, &found.living);
        // Rows may need each other, or themselves: so all are taken to return that nothing speaks against.
        let (rows, lacking): (Vec<Taken>, Vec<Taken>) =
            rescued.into_iter().partition(|one| one.needs.iter().all(|parent| returning.contains(parent)));
        if lacking.is_empty() {
            let mut orphaned = BTreeMap::new();
            let is_missing = |parent: &(TargetId, Key)| !returning.contains(parent) && !found.present.contains(parent);
            for (reference, _) in rows.iter().flat_map(|one| &one.had).filter(|(_, parent)| is_missing(parent)) {
                *orphaned.entry(reference.clone()).or_default() += 1;
            }
            return Rescued { rows, lost, orphaned };
        }
        lost.extend(lacking);
        candidates = rows;
    }
}

/// The rows that were touched because of parents that live, or of rows that return themselves; with the values that are there then.
fn returning(candidates: Vec<Taken>, living: &BTreeSet<(TargetId, Key)>) -> (BTreeSet<(TargetId, Key)>, Vec<Taken>) {
    let (mut returning, mut rescued, mut left) = (living.clone(), Vec::new(), candidates);
    loop {
        let returns = |one: &Taken| one.because.as_ref().is_some_and(|parents| parents.iter().all(|parent| returning.contains(parent)));
        let (new, rest): (Vec<Taken>, Vec<Taken>) = left.into_iter().partition(returns);
        if new.is_empty() {
            return (returning, rescued);
        }
        returning.extend(new.iter().filter(|one| one.row.is_removed).flat_map(|one| one.values.iter().cloned()));
        rescued.extend(new);
        left = rest;
    }
}

/// Puts rows back, parents first, the youngest change of a row first.
async fn put_back(job: &mut Job<'_>, mut rescued: Vec<Taken>, cascades: &[String]) -> Result<BTreeSet<DatabaseId>, Failure> {
    let (group, model) = (job.engine.owner.group.clone(), job.model);
    rescued.sort_by_key(|one| (std::cmp::Reverse(model.graph.rank(one.entity)), one.entity, one.database, std::cmp::Reverse(one.row.id)));
    let chosen = cascades.iter().map(String::as_str).collect();
    let owed = Owed { model, group: &group, chosen: &chosen };
    let mut databases = BTreeSet::new();
    for rows in rescued.chunk_by(|one, other| (one.entity, one.database) == (other.entity, other.database)) {
        let Some(Taken { database, entity, .. }) = rows.first() else { continue };
        let name = &model.graph.node(*entity).name;
        let Some(session) = job.sessions.get_mut(database) else { continue };
        let dialect = model.databases.handle(*database).database.dialect();
        databases.insert(*database);
        for page in rows.chunks(PAGE) {
            let rows: Vec<Archived> = page.iter().map(|one| one.row.clone()).collect();
            let tally = owed.put_back(session.as_mut(), dialect, name, &rows).await.map_err(|error: SinkError| Failure::from(error))?;
            *job.report.put_back.entry(name.clone()).or_default() += tally.inserted + tally.set_back;
            *job.report.not_put_back.entry(name.clone()).or_default() += tally.conflicts + tally.refused;
        }
    }
    Ok(databases)
}
