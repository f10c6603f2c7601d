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
    let is_open = |id: &RootId| plan.blocked.contains_key(id) || plan.unfinished.contains(id);
    let roots = (0u32..).map(RootId).map_while(|id| Some((id, judged.subject(id)?)));
    let worked = roots.filter(|(id, _)| !is_open(id)).map(|(_, subject)| subject);
    let alive = judged.subjects.iter().filter(|subject| subject.state == State::Alive);
    // Of one that has no rows by now an earlier attempt may have taken some.
    let is_judged = |subject: &&Subject| matches!(subject.state, State::Root(_) | State::Alive | State::NoRows);
    let judged = worked.chain(alive).filter(is_judged);
    judged.flat_map(|subject| subject.cascades(job).into_iter().map(move |cascade| (cascade, subject))).collect()
}

/// Those of the cascades that have taken rows before, and no more than one transaction can look at. Of the others the report tells.
pub(super) async fn attempted(job: &mut Job<'_>, ids: BTreeSet<String>) -> Result<Vec<String>, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Cell;

    fn value(target: u32, text: &str) -> (TargetId, Key) {
        (TargetId(target), Key::from_cells([&Cell::Value(text.to_owned())]).expect("a value"))
    }

    /// A removed row, known by a value of target 1, that was touched because of these parents.
    fn taken(known_by: &str, because: Option<&[(TargetId, Key)]>) -> Taken {
        let row = Archived {
            id: 1,
            cascade: "c".to_owned(),
            entity: "shop.lines".to_owned(),
            reference: "line_order".to_owned(),
            is_removed: true,
            key: Some(value(1, known_by).1),
            columns: String::new(),
            image: String::new(),
            after: None,
        };
        let because = because.map(<[_]>::to_vec);
        Taken {
            database: DatabaseId(0),
            entity: EntityId(1),
            row,
            values: vec![value(1, known_by)],
            because,
            needs: Vec::new(),
            had: BTreeMap::new(),
        }
    }

    fn found(living: &[(TargetId, Key)], present: &[(TargetId, Key)]) -> Found {
        Found { present: present.iter().cloned().collect(), living: living.iter().cloned().collect() }
    }

    /// Those that come back, those that lack a parent, and the orphans.
    fn judged(all: Vec<Taken>, found: &Found) -> (Vec<String>, Vec<String>, BTreeMap<String, u64>) {
        let names = |rows: Vec<Taken>| rows.into_iter().map(|one| one.row.key.expect("a key").to_string()).collect();
        let Rescued { rows, lost, orphaned } = rescued(all, found);
        (names(rows), names(lost), orphaned)
    }

    #[test]
    fn h47_a_row_comes_back_if_every_parent_that_it_was_touched_for_lives_or_comes_back() {
        let order = [value(0, "10")];
        let both = [value(0, "10"), value(0, "20")];
        let below = [value(1, "a")];
        let all = || vec![taken("b", Some(&below)), taken("a", Some(&order)), taken("c", Some(&both)), taken("d", None)];
        assert_eq!(judged(all(), &found(&order, &[])).0, ["a", "b"], "one of the parents of c is gone, and of d nobody knows");
        assert_eq!(judged(all(), &found(&both, &[])).0, ["a", "c", "b"]);
        assert!(judged(all(), &found(&[], &both)).0.is_empty(), "they are there, but were taken by the same cascade");
        // A row that was only changed brings nobody back.
        let mut changed = taken("a", Some(&order));
        changed.row.is_removed = false;
        assert_eq!(judged(vec![changed, taken("b", Some(&below))], &found(&order, &[])).0, ["a"]);
    }

    #[test]
    fn h47_a_row_that_needs_another_parent_waits_for_it_and_takes_along_what_hangs_on_it() {
        let order = [value(0, "10")];
        let needing = |parent| Taken { needs: vec![parent], ..taken("a", Some(&order)) };
        let below = || taken("b", Some(&[value(1, "a")]));
        let (rows, lost, _) = judged(vec![needing(value(2, "x")), below()], &found(&order, &[]));
        assert_eq!((rows, lost), (vec![], vec!["a".to_owned()]));
        let living = [value(0, "10"), value(2, "x")];
        assert_eq!(judged(vec![needing(value(2, "x")), below()], &found(&living, &[])).0, ["a", "b"]);
        assert_eq!(judged(vec![needing(value(1, "a"))], &found(&order, &[])).0, ["a"], "it is its own parent");
        assert_eq!(judged(vec![needing(value(1, "b")), below()], &found(&order, &[])).0, ["a", "b"], "they are each other's");
    }

    #[test]
    fn h47_a_row_that_lacks_a_parent_without_which_it_lives_is_told_as_an_orphan() {
        let order = [value(0, "10")];
        let had = |known_by, parent| Taken { had: BTreeMap::from([("line_thing".to_owned(), parent)]), ..taken(known_by, Some(&order)) };
        let orphaned = |parents: [(TargetId, Key); 2], found: &Found| {
            let [first, second] = parents;
            let (rows, _, orphaned) = judged(vec![had("a", first), had("b", second)], found);
            assert_eq!(rows, ["a", "b"]);
            orphaned
        };
        let gone = || value(2, "x");
        assert_eq!(orphaned([gone(), gone()], &found(&order, &[])), BTreeMap::from([("line_thing".to_owned(), 2)]));
        assert_eq!(orphaned([gone(), value(2, "y")], &found(&order, &[value(2, "y")])), BTreeMap::from([("line_thing".to_owned(), 1)]));
        assert_eq!(orphaned([gone(), gone()], &found(&order, &[gone()])), BTreeMap::new());
        assert_eq!(orphaned([value(1, "b"), value(1, "a")], &found(&order, &[])), BTreeMap::new(), "each returns");
    }
}
