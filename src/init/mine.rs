//! Proposals held against rows, and references that only values speak for.
//!
//! Of each column a sample of distinct values is looked up in the parent. That all are there says much where a parent's values are sparse
//! (uuids, codes), and next to nothing where it is numbered without gaps: there the name must say the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::likeness;
use super::names::{compares, composite, may_point, unique_columns};
use super::{FIRM, Inclusion, Link, Surveyed, Why};
use crate::databases::Databases;
use crate::resolve;
use crate::sink::statement::{self, Sample};
use crate::sink::{Column, Fault, SinkError, TableRef};
use crate::value::{ColumnType, Key, can_hold};

/// Values that are looked up first; the others only if most of these are there.
const FIRST: usize = 50;
/// So many distinct values are not in a key by chance, unless it is numbered without gaps.
const TELLING: usize = 20;
/// Missing values that are kept to be shown.
const SHOWN: usize = 3;

/// Values of a child's columns, as keys.
type Keys = Vec<Key>;

/// Of which rows: table, columns, and the condition.
type Asked = (usize, Vec<String>, Option<(String, BTreeSet<String>)>);
/// The least and the greatest number of a column, and how many rows its table has.
type Bounds = (i128, i128, u64);

/// What has been read already.
pub(super) struct Rows<'d> {
    databases: &'d Databases,
    tables: &'d [Surveyed],
    rows: u64,
    samples: BTreeMap<Asked, Keys>,
    bounds: BTreeMap<(usize, String), Option<Bounds>>,
    /// Tables whose rows this role may not read.
    pub(super) unread: BTreeSet<usize>,
}

impl<'d> Rows<'d> {
    pub(super) fn new(databases: &'d Databases, tables: &'d [Surveyed], rows: u64) -> Self {
        Self { databases, tables, rows, samples: BTreeMap::new(), bounds: BTreeMap::new(), unread: BTreeSet::new() }
    }

    /// Holds a link against rows.
    pub(super) async fn look(&mut self, link: &Link) -> Result<Option<Inclusion>, SinkError> {
        let keys = self.sample(link).await?;
        let Some(parent) = self.tables.get(link.parent) else { return Ok(None) };
        if keys.is_empty() {
            return Ok(None);
        }
        let database = &*self.databases.handle(parent.database).database;
        let (mut present, mut missing, mut asked) = (0, Vec::new(), 0);
        for part in [keys.get(..keys.len().min(FIRST)), keys.get(keys.len().min(FIRST)..)].into_iter().flatten() {
            let fits =
                |key: &&Key| parent.table.bound(&link.parent_columns).zip(key.parts()).all(|(column, text)| can_hold(&column.kind, text));
            let held: Vec<&Key> = part.iter().filter(fits).collect();
            let asked_for = resolve::flags(database, &parent.table, &link.parent_columns, &held).await;
            let Some(flags) = forgiven(&mut self.unread, link.parent, asked_for)? else { return Ok(None) };
            let there: BTreeSet<&Key> = held.iter().zip(flags).filter(|(_, is_there)| *is_there).map(|(key, _)| *key).collect();
            asked += part.len();
            present += there.len();
            missing.extend(part.iter().filter(|key| !there.contains(key)).take(SHOWN).map(|key| key.parts().join(", ")));
            if present * 2 < asked {
                break;
            }
        }
        missing.truncate(SHOWN);
        let density = self.density(link, &keys).await?;
        Ok(Some(Inclusion { asked, present, missing, density }))
    }

    async fn sample(&mut self, link: &Link) -> Result<Keys, SinkError> {
        let at = (link.child, link.columns.clone(), link.when.clone());
        if let Some(keys) = self.samples.get(&at) {
            return Ok(keys.clone());
        }
        let Some(child) = self.tables.get(link.child) else { return Ok(Keys::new()) };
        let database = &*self.databases.handle(child.database).database;
        let when: Vec<(&Column, Vec<String>)> =
            link.when.iter().filter_map(|(column, values)| Some((child.table.column(column)?, values.iter().cloned().collect()))).collect();
        let question = Sample { table: &child.table, columns: &link.columns, when: &when, rows: self.rows, of: child.rows };
        let read = database.read(&statement::sample(database.dialect(), &question)).await;
        let rows = forgiven(&mut self.unread, link.child, read)?.unwrap_or_default();
        let key = |row: &Vec<Option<String>>| TableRef::key_of(&link.columns, &child.table.image(&link.columns, row));
        let keys: Keys = rows.iter().filter_map(key).collect();
        self.samples.insert(at, keys.clone());
        Ok(keys)
    }

    /// How full the parent is of numbers between the least and the greatest that the child names; 0 for what is not a number. Numbers within a key of
    /// several columns begin anew with each, so they count as without gaps.
    async fn density(&mut self, link: &Link, keys: &[Key]) -> Result<u8, SinkError> {
        let parent = self.tables.get(link.parent).map(|parent| &parent.table);
        let last = parent.zip(link.parent_columns.last()).and_then(|(table, column)| table.column(column));
        if link.parent_columns.len() > 1 {
            return Ok(if last.is_some_and(|column| matches!(column.kind, ColumnType::Int(_))) { 100 } else { 0 });
        }
        let ([column], Some((least, greatest))) = (link.parent_columns.as_slice(), range(keys)) else { return Ok(0) };
        let Some((from, to, rows)) = self.bounds(link.parent, column).await? else { return Ok(0) };
        if greatest < from || least > to {
            return Ok(0);
        }
        let percent = (i128::from(rows) * 100).checked_div(to - from + 1).unwrap_or(100).clamp(0, 100);
        Ok(u8::try_from(percent).unwrap_or(100))
    }

    /// Least and greatest value of a column of numbers, and how many rows there are.
    async fn bounds(&mut self, table: usize, column: &str) -> Result<Option<Bounds>, SinkError> {
        if let Some(known) = self.bounds.get(&(table, column.to_owned())) {
            return Ok(*known);
        }
        let Some(surveyed) = self.tables.get(table) else { return Ok(None) };
        let database = &*self.databases.handle(surveyed.database).database;
        let read = database.read(&statement::bounds(database.dialect(), &surveyed.table, column)).await;
        let rows = forgiven(&mut self.unread, table, read)?.unwrap_or_default();
        let size = forgiven(&mut self.unread, table, database.read(&statement::size(database.dialect(), &surveyed.table)).await)?
            .unwrap_or_default();
        let cell = |rows: &[Vec<Option<String>>], place: usize| rows.first().and_then(|row| row.get(place)).cloned().flatten();
        let number = |place| cell(&rows, place).and_then(|text| text.parse::<i128>().ok());
        let all = cell(&size, 0).and_then(|text| text.parse().ok()).unwrap_or(0);
        let bounds = number(0).zip(number(1)).map(|(from, to)| (from, to, all));
        self.bounds.insert((table, column.to_owned()), bounds);
        Ok(bounds)
    }

    /// How much of the parent's range the child's numbers span, in percent.
    async fn span(&mut self, link: &Link) -> Result<i128, SinkError> {
        let keys = self.sample(link).await?;
        let ([column], Some((least, greatest))) = (link.parent_columns.as_slice(), range(&keys)) else { return Ok(100) };
        let Some((from, to, _)) = self.bounds(link.parent, column).await? else { return Ok(100) };
        Ok(((greatest - least + 1) * 100).checked_div(to - from + 1).unwrap_or(100))
    }
}

impl Rows<'_> {
    /// Whether a column repeats another one of its own rows, which is unique: it names no other row then.
    async fn is_mirror(&self, table: usize, column: &Column) -> Result<bool, SinkError> {
        let Some(own) = self.tables.get(table) else { return Ok(false) };
        let database = &*self.databases.handle(own.database).database;
        for key in unique_columns(own).filter(|key| key.name != column.name && key.kind == column.kind) {
            let columns = [column.name.clone(), key.name.clone()];
            let question = Sample { table: &own.table, columns: &columns, when: &[], rows: self.rows, of: own.rows };
            let rows = database.read(&statement::sample(database.dialect(), &question)).await?;
            if rows.iter().filter(|row| row.first() == row.get(1)).count() * 2 > rows.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A table whose rows may not be read, or a value that the other side cannot hold, speaks for nothing: the rest is looked at all the same.
fn forgiven<T>(unread: &mut BTreeSet<usize>, table: usize, read: Result<T, SinkError>) -> Result<Option<T>, SinkError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(SinkError::Database { fault: Fault::Privilege, .. }) => {
            unread.insert(table);
            Ok(None)
        }
        Err(SinkError::Database { fault: Fault::Value, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

fn range(keys: &[Key]) -> Option<(i128, i128)> {
    let numbers: Option<Vec<i128>> = keys.iter().map(|key| key.parts().first().and_then(|part| part.parse().ok())).collect();
    let numbers = numbers?;
    Some((*numbers.iter().min()?, *numbers.iter().max()?))
}

/// Holds every proposal against rows, and looks for references in columns for which nothing firm is proposed.
///
/// # Errors
/// Those of the databases.
pub(super) async fn mine(rows: &mut Rows<'_>, links: &mut Vec<Link>, tell: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<(), SinkError> {
    let columns = unexplained(rows.tables, links);
    let all = u64::try_from(links.len() + columns.len()).unwrap_or(u64::MAX);
    let mut done = 0;
    for link in links.iter_mut().filter(|link| !matches!(link.why, Why::Native { .. })) {
        tell(done, all);
        done += 1;
        link.values = rows.look(link).await?;
        link.confidence = weighed(link);
    }
    let standing = Standing::of(links);
    // What the rows spoke against is unexplained again.
    let columns: BTreeSet<(usize, String)> = columns.into_iter().chain(unexplained(rows.tables, links)).collect();
    for (child, column) in columns {
        tell(done.min(all), all);
        done += 1;
        links.extend(by_values(rows, &standing, child, &column).await?);
    }
    tell(all, all);
    Ok(())
}

/// What the firm proposals say of the tables.
struct Standing {
    /// Columns that are references themselves: a parent there is a table beside the one that is meant, as in `profiles(customer_id)`.
    derived: BTreeSet<(usize, Vec<String>)>,
    /// How many references there are to each table.
    referenced: BTreeMap<usize, usize>,
}

impl Standing {
    fn of(links: &[Link]) -> Self {
        let mut standing = Self { derived: BTreeSet::new(), referenced: BTreeMap::new() };
        for link in links.iter().filter(|link| link.is_firm()) {
            standing.derived.insert((link.child, link.columns.clone()));
            *standing.referenced.entry(link.parent).or_default() += 1;
        }
        standing
    }
}

/// What names and values together are worth.
fn weighed(link: &Link) -> u8 {
    let Some(values) = &link.values else { return link.by_name };
    let (share, few) = (values.share(), values.asked < 3);
    match share {
        _ if few && share == 100 => link.by_name,
        98.. if values.density < 50 => link.by_name.max(40).saturating_add(35).min(99),
        // Numbered without gaps: anything is found there, so a poor name stays poor.
        98.. => link.by_name.saturating_add(10).min(99),
        90.. if values.density < 50 || link.by_name >= 70 => link.by_name.saturating_add(10).min(95),
        // Without foreign keys orphans are to be expected: a good name outweighs them, a poor one does not.
        50.. => link.by_name.saturating_sub(10),
        _ => link.by_name.saturating_sub(70),
    }
}

/// Columns that may point somewhere, and of which no firm proposal says where.
fn unexplained(tables: &[Surveyed], links: &[Link]) -> BTreeSet<(usize, String)> {
    let firm: BTreeSet<(usize, &String)> =
        links.iter().filter(|link| link.is_firm()).flat_map(|link| link.columns.iter().map(|column| (link.child, column))).collect();
    let mut columns = BTreeSet::new();
    for (child, surveyed) in tables.iter().enumerate() {
        let is_own_key = |column: &Column| surveyed.key == [column.name.clone()];
        let open = surveyed
            .table
            .columns()
            .iter()
            .filter(|column| may_point(column) && !is_own_key(column) && !firm.contains(&(child, &column.name)));
        columns.extend(open.map(|column| (child, column.name.clone())));
    }
    columns
}

/// The parent whose values hold all of a column's, and that fits best. Where several hold them as well, none is firm.
async fn by_values(rows: &mut Rows<'_>, standing: &Standing, child: usize, column: &str) -> Result<Option<Link>, SinkError> {
    let Some(own) = rows.tables.get(child) else { return Ok(None) };
    let Some(here) = own.table.column(column) else { return Ok(None) };
    let is_unique = own.table.is_unique(std::slice::from_ref(&here.name));
    let mut found: Vec<(i128, Link)> = Vec::new();
    for (parent, surveyed) in rows.tables.iter().enumerate() {
        for (columns, parent_columns) in pairs(own, surveyed, here) {
            let is_itself = (parent, &parent_columns) == (child, &columns);
            // Two tables that are unique in a column of one name are copies, of which nobody can tell which is the other's.
            let is_copy = is_unique && columns == parent_columns;
            if is_itself || is_copy || standing.derived.contains(&(parent, parent_columns.clone())) {
                continue;
            }
            let why = Why::Values;
            let link =
                Link { child, columns, parent, parent_columns, when: None, why, by_name: 0, values: None, confidence: 0, needs: None };
            let Some(values) = rows.look(&link).await?.filter(|values| values.asked >= 3 && values.share() >= 95) else { continue };
            let span = rows.span(&link).await?;
            if let Some(confidence) = by_values_alone(here, &values, span, is_unique) {
                found.push((span, Link { values: Some(values), confidence, ..link }));
            }
        }
    }
    if !found.is_empty() && rows.is_mirror(child, here).await? {
        return Ok(None);
    }
    let referenced = |link: &Link| standing.referenced.get(&link.parent).copied().unwrap_or(0);
    // The one that others refer to, then the tightest fit.
    found.sort_by_key(|(span, link)| std::cmp::Reverse((link.confidence, referenced(link), *span)));
    let rivals = found.iter().filter(|(_, link)| found.first().is_some_and(|(_, best)| best.confidence == link.confidence)).count();
    Ok(found.into_iter().next().map(|(_, mut link)| {
        if rivals > 1 {
            link.confidence = link.confidence.min(FIRM - 10);
        }
        link
    }))
}

/// How likely a reference is of which only the values tell.
fn by_values_alone(here: &Column, values: &Inclusion, span: i128, is_unique: bool) -> Option<u8> {
    let says_so = likeness::names(&here.name).is_some();
    let confidence = match (values.density < 50, says_so) {
        (true, _) if values.asked >= TELLING => 75,
        (true, true) if values.asked >= 5 => 70,
        // Few values are in many a list of codes.
        (true, _) => 50,
        // Numbered without gaps: only a parent of just this size, and only a column that says that it names something.
        (false, true) if span >= 70 => 50,
        (false, _) => return None,
    };
    Some(if is_unique { confidence.min(50) } else { confidence })
}

/// Columns of a child that may name a row of a parent, with the parent's: this one, or this one and those of the parent's key that both have.
fn pairs(own: &Surveyed, parent: &Surveyed, here: &Column) -> Vec<(Vec<String>, Vec<String>)> {
    let alike = |there: &ColumnType| *there == here.kind || matches!((there, &here.kind), (ColumnType::Int(_), ColumnType::Int(_)));
    let single = unique_columns(parent).filter(|key| compares(key, here) && alike(&key.kind));
    let single = single.map(|key| (vec![here.name.clone()], vec![key.name.clone()]));
    single.chain(composite(own, parent, here)).collect()
}
