//! A look at a few rows: do children have the parents that the rules say, and how many rows go with each?

use super::Subject;
use crate::databases::DatabaseId;
use crate::model::{Code, Problem};
use crate::resolve;
use crate::rules::{OnDelete, OnUpdate, Reference, When};
use crate::sink::statement::{self, Sample};
use crate::sink::{Column, Database, SinkError, TableRef};
use crate::value::{Comparability, Key, can_hold, comparable};

/// Values for which rows are counted, spread over the sample: enough for a 99th percentile.
const COUNTED: usize = 200;
/// And those that are most frequent in it: the greatest may be among them.
const FREQUENT: usize = 20;
/// Fewer values than this say nothing about the table as a whole.
const TELLING: usize = 5;

/// How many rows of a child go with one parent, in a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fan {
    /// The reference.
    pub reference: String,
    /// Parents that sampled rows name.
    pub parents: usize,
    /// Those of them that are not there.
    pub missing: usize,
    /// Rows per parent; `None` where no index serves the count.
    pub rows: Option<Spread>,
}

/// Of a sample of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Half of them are no greater.
    pub p50: u64,
    /// 99 of 100 are no greater.
    pub p99: u64,
    /// None is greater. Counted to one above `limits.rows_per_event`, no further.
    pub max: u64,
}

pub(super) async fn look(subject: &Subject<'_>, reference: &Reference, rows: u64, problems: &mut Vec<Problem>) -> Option<Fan> {
    let (database, child) = subject.table(reference.child)?;
    let (owner, parent) = subject.table(reference.parent)?;
    if !may_be_asked(reference, child, parent) {
        return None;
    }
    let ends = Ends { reference, child, parent, database, owner, rows };
    match defaults(subject, &ends).await {
        Ok(problem) => problems.extend(problem),
        Err(error) => problems.push(super::subject::refusal(&reference.name, &error)),
    }
    if rows == 0 {
        return None;
    }
    match sampled(subject, &ends).await {
        Ok((fan, found)) => {
            problems.extend(found);
            fan
        }
        Err(error) => {
            problems.push(super::subject::refusal(&reference.name, &error));
            None
        }
    }
}

/// Columns that are not there or do not compare were told of; asking with them would only make another error of it.
fn may_be_asked(reference: &Reference, child: &TableRef, parent: &TableRef) -> bool {
    let exists = |table: &TableRef, columns: &[String]| columns.iter().all(|column| table.column(column).is_some());
    let named: Vec<String> = reference.when.iter().map(|when| when.column.clone()).collect();
    exists(child, &reference.columns)
        && exists(child, &named)
        && reference.when.iter().all(|when| {
            child.column(&when.column).is_some_and(|column| when.values.iter().all(|value| column.kind.canonical(value).is_ok()))
        })
        && exists(parent, &reference.parent_columns)
        && parent
            .bound(&reference.parent_columns)
            .zip(child.bound(&reference.columns))
            .all(|(parent, child)| comparable(&parent.kind, &child.kind) != Comparability::No && child.kind.is_key_type())
}

struct Ends<'a> {
    reference: &'a Reference,
    child: &'a TableRef,
    parent: &'a TableRef,
    database: DatabaseId,
    owner: DatabaseId,
    rows: u64,
}

/// A default that names no living parent would orphan the rows by our own hand (H110).
async fn defaults(subject: &Subject<'_>, ends: &Ends<'_>) -> Result<Option<Problem>, SinkError> {
    let Ends { reference, child, parent, .. } = ends;
    let by_delete = matches!(&reference.on_delete, OnDelete::SetDefault(columns) if columns.len() == reference.columns.len());
    if !by_delete && reference.on_update != OnUpdate::SetDefault {
        return Ok(None);
    }
    let database = &*subject.databases.handle(ends.database).database;
    let rows = database.read(&statement::defaults(database.dialect(), child, &reference.columns)).await?;
    let key = rows.first().and_then(|row| TableRef::key_of(&reference.columns, &child.image(&reference.columns, row)));
    let Some(key) = key else { return Ok(None) };
    let is_there = present(subject, ends, &[&key]).await?.first().copied().unwrap_or(false);
    Ok((!is_there).then(|| {
        let message = format!("the default of ({}) names no row of `{}`", reference.columns.join(", "), parent.table_name());
        Problem::new(Code::DefaultWithoutParent, &reference.name, message, "insert that parent, or change the default")
    }))
}

/// Which of these keys the parent has; one that its columns cannot hold is not there.
async fn present(subject: &Subject<'_>, ends: &Ends<'_>, keys: &[&Key]) -> Result<Vec<bool>, SinkError> {
    let Ends { reference, parent, .. } = ends;
    let database = &*subject.databases.handle(ends.owner).database;
    let fits = |key: &&&Key| parent.bound(&reference.parent_columns).zip(key.parts()).all(|(column, text)| can_hold(&column.kind, text));
    let asked: Vec<&Key> = keys.iter().filter(fits).copied().collect();
    let mut flags = resolve::flags(database, parent, &reference.parent_columns, &asked).await?.into_iter();
    Ok(keys.iter().map(|key| fits(&key) && flags.next().unwrap_or(false)).collect())
}

async fn sampled(subject: &Subject<'_>, ends: &Ends<'_>) -> Result<(Option<Fan>, Vec<Problem>), SinkError> {
    let Ends { reference, child, parent, .. } = ends;
    let database = &*subject.databases.handle(ends.database).database;
    let when = conditions(child, &reference.when);
    let of = subject.facts_of(ends.database, child).and_then(|facts| facts.rows);
    let question = Sample { table: child, columns: &reference.columns, when: &when, rows: ends.rows, of };
    let rows = database.read(&statement::sample(database.dialect(), &question)).await?;
    let keys: Vec<Key> =
        rows.iter().filter_map(|row| TableRef::key_of(&reference.columns, &child.image(&reference.columns, row))).collect();
    let keys: Vec<&Key> = keys.iter().collect();
    if keys.is_empty() {
        return Ok((None, Vec::new()));
    }
    let missing = present(subject, ends, &keys).await?.iter().filter(|is_there| !**is_there).count();
    let mut problems = Vec::new();
    let (share, of) = (format!("{missing} of {} sampled values of ({})", keys.len(), reference.columns.join(", ")), parent.table_name());
    if missing >= TELLING && missing * 2 > keys.len() {
        let message = format!("{share} name no row of `{of}`: is it the wrong table or column?");
        problems.push(Problem::new(Code::NoParents, &reference.name, message, "check `parent`, `columns` and `when`"));
    } else if missing > 0 {
        let message = format!("{share} name no row of `{of}`");
        problems.push(Problem::new(Code::Orphans, &reference.name, message, "such rows stay until their parent's key has an event"));
    }
    let limit = subject.rules.limits.rows_per_event;
    let rows = if child.has_index_on(&reference.columns) { counted(database, ends, &when, &keys, limit + 1).await? } else { None };
    if let Some(max) = rows.map(|rows| rows.max).filter(|max| *max > limit) {
        let message =
            format!("a parent has {max} rows or more here, and `limits.rows_per_event` is {limit}: its delete would shut the reference");
        problems.push(Problem::new(Code::FanOut, &reference.name, message, "raise the limit, if such parents may go"));
    }
    Ok((Some(Fan { reference: reference.name.clone(), parents: keys.len(), missing, rows }), problems))
}

/// Rows by parent. The most frequent values of the sample come first.
async fn counted(
    database: &dyn Database,
    ends: &Ends<'_>,
    when: &[(&Column, Vec<String>)],
    keys: &[&Key],
    limit: u64,
) -> Result<Option<Spread>, SinkError> {
    let (frequent, others) = keys.split_at(if keys.len() > COUNTED { FREQUENT } else { 0 });
    let every = others.len().div_ceil(COUNTED).max(1);
    let parts: Vec<&[String]> = frequent.iter().chain(others.iter().step_by(every)).map(|key| key.parts()).collect();
    let Some(question) = statement::fan_out(database.dialect(), (ends.child, &ends.reference.columns), when, &parts, limit) else {
        return Ok(None);
    };
    let rows = database.read(&question).await?;
    let counts: Vec<u64> = rows.iter().filter_map(|row| row.first()?.as_deref()?.parse().ok()).collect();
    Ok(spread(&counts, frequent.len()))
}

/// The first numbers count for the greatest only: they were not picked at random.
fn spread(counts: &[u64], picked: usize) -> Option<Spread> {
    let mut random = counts.get(picked..)?.to_vec();
    random.sort_unstable();
    let at = |percent: usize| random.get((random.len() * percent / 100).min(random.len().saturating_sub(1))).copied();
    Some(Spread { p50: at(50)?, p99: at(99)?, max: *counts.iter().max()? })
}

/// The conditions of a reference in canonical texts, as far as they have them.
fn conditions<'a>(table: &'a TableRef, when: &[When]) -> Vec<(&'a Column, Vec<String>)> {
    let canonical = |when: &When| {
        let column = table.column(&when.column)?;
        Some((column, when.values.iter().filter_map(|value| column.kind.canonical(value).ok()).collect()))
    };
    when.iter().filter_map(canonical).collect()
}
