//! References that native foreign keys and names speak for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::likeness::{self, Likeness};
use super::survey::{Polymorphic, Survey, may_stand_in_rules};
use super::{Link, Surveyed, Why};
use crate::inspect::names::snake;
use crate::rules::TableName;
use crate::sink::Column;
use crate::value::{Comparability, comparable};

/// What a column of the same name as a parent's unique column is worth: `isbn` and `isbn`.
const SAME_NAME: Likeness = ("both columns have this name", 80);
/// What columns of the same names as a parent's key are worth: numbers of lines are called alike in many tables.
const SAME_NAMES: Likeness = ("both tables have these columns", 60);
/// A role in the same table.
const OWN_ROLE: Likeness = ("the name is that of a role in the same table", 75);
/// Names of columns that say nothing about whose they are.
const BARE: [&str; 12] = ["id", "key", "code", "no", "nr", "number", "uuid", "name", "title", "ref", "slug", "email"];

/// Everything that native keys, kinds and names propose, with doubles.
pub(super) fn propose(survey: &Survey, kinds: &[(Polymorphic, Vec<String>)]) -> Vec<Link> {
    let mut links = native(survey);
    let mut mixed: BTreeSet<(usize, &String)> = BTreeSet::new();
    for (pair, kinds) in kinds {
        let found = by_kind(&survey.tables, pair, kinds);
        // `account_type` beside `account_id` is a kind of account, as long as none of its values names a table.
        if !found.is_empty() {
            mixed.insert((pair.table, &pair.id));
        }
        links.extend(found);
    }
    let taken: BTreeSet<(usize, &String)> = links.iter().flat_map(|link| link.columns.iter().map(|column| (link.child, column))).collect();
    let mut named = Vec::new();
    for (child, surveyed) in survey.tables.iter().enumerate() {
        for column in surveyed.table.columns().iter().filter(|column| may_point(column)) {
            let key = (child, &column.name);
            if !taken.contains(&key) && !mixed.contains(&key) {
                named.extend(by_name(&survey.tables, child, column));
            }
        }
    }
    links.extend(named);
    links
}

/// Columns whose values could be keys of other rows.
pub(super) fn may_point(column: &Column) -> bool {
    may_stand_in_rules(&column.name)
        && column.kind.is_key_type()
        && !column.generated
        && !column.identity
        && column.default.as_deref().is_none_or(|default| !default.starts_with("nextval("))
}

fn native(survey: &Survey) -> Vec<Link> {
    let mut links = Vec::new();
    for (database, keys) in &survey.keys {
        let place = |name: &TableName| survey.tables.iter().position(|one| one.database == *database && one.table.table_name() == *name);
        for key in keys {
            let (Some(child), Some(parent)) = (place(&key.child), place(&key.parent)) else { continue };
            if !key.columns.iter().chain(&key.parent_columns).all(|name| may_stand_in_rules(name)) {
                continue;
            }
            let (name, sets) = (key.name.clone(), key.sets.clone());
            links.push(Link {
                child,
                columns: key.columns.clone(),
                parent,
                parent_columns: key.parent_columns.clone(),
                when: None,
                why: Why::Native { name, on_delete: key.on_delete, on_update: key.on_update, sets },
                by_name: 100,
                values: None,
                confidence: 100,
                needs: None,
            });
        }
    }
    links
}

/// One reference for each table that the kinds name: `Customer`, `customers`, `App\Models\Customer`, `crm.customer`.
fn by_kind(tables: &[Surveyed], pair: &Polymorphic, kinds: &[String]) -> Vec<Link> {
    let mut by_parent: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let Some(column) = tables.get(pair.table).and_then(|child| child.table.column(&pair.id)) else { return Vec::new() };
    for kind in kinds {
        let last = kind.rsplit([':', '\\', '.', '/']).next().unwrap_or(kind);
        let fits = |parent: &Surveyed| single_key(parent).is_some_and(|key| compares(key, column));
        let like = |parent: &Surveyed| likeness::likeness(&snake(last), parent.table.name()).map_or(0, |(_, worth)| worth);
        let fitting: Vec<(u8, usize)> =
            tables.iter().enumerate().filter(|(_, parent)| fits(parent)).map(|(place, parent)| (like(parent), place)).collect();
        let best = fitting.iter().map(|(worth, _)| *worth).max().filter(|worth| *worth >= 70);
        for (_, parent) in fitting.iter().filter(|(worth, _)| Some(*worth) == best) {
            by_parent.entry(*parent).or_default().insert(kind.clone());
        }
    }
    let link = |(parent, kinds): (usize, BTreeSet<String>)| {
        Some(Link {
            child: pair.table,
            columns: vec![pair.id.clone()],
            parent,
            parent_columns: tables.get(parent)?.key.clone(),
            when: Some((pair.kind.clone(), kinds)),
            why: Why::Kind,
            by_name: 85,
            values: None,
            confidence: 85,
            needs: None,
        })
    };
    by_parent.into_iter().filter_map(link).collect()
}

fn by_name(tables: &[Surveyed], child: usize, column: &Column) -> Vec<Link> {
    let mut links = Vec::new();
    let stem = likeness::names(&column.name);
    let Some(own) = tables.get(child) else { return links };
    for (parent, surveyed) in tables.iter().enumerate() {
        let like = like(own, child, column, parent, surveyed, stem.as_deref());
        let Some((said, worth)) = like else { continue };
        if let Some(key) = target(surveyed, column).filter(|key| (parent, &key.name) != (child, &column.name)) {
            links.push(link(child, vec![column.name.clone()], parent, vec![key.name.clone()], (said, worth)));
        } else if let Some((columns, key)) = composite(own, surveyed, column) {
            let like = if columns == key && worth < SAME_NAMES.1 { SAME_NAMES } else { (said, worth) };
            links.push(link(child, columns, parent, key, like));
        }
    }
    links
}

fn link(child: usize, columns: Vec<String>, parent: usize, parent_columns: Vec<String>, (said, worth): Likeness) -> Link {
    Link {
        child,
        columns,
        parent,
        parent_columns,
        when: None,
        why: Why::Name(said),
        by_name: worth,
        values: None,
        confidence: worth,
        needs: None,
    }
}

/// How much a column is like a table, in the way that says most.
fn like(own: &Surveyed, child: usize, column: &Column, parent: usize, there: &Surveyed, stem: Option<&str>) -> Option<Likeness> {
    if child == parent {
        // A table's own name in its own column is its own number: `customers.customer_no`.
        let roles =
            unique_columns(there).filter_map(|key| snake(&column.name).strip_suffix(&format!("_{}", snake(&key.name))).map(str::to_owned));
        let mut roles = roles.chain(stem.map(str::to_owned));
        return roles.any(|role| likeness::is_own_role(&role)).then_some(OWN_ROLE);
    }
    let by_stem = stem.and_then(|stem| likeness::likeness(stem, there.table.name()));
    // `category_slug`: the table, and a column that is unique in it.
    let name = snake(&column.name);
    let before = |key: &Column| name.strip_suffix(&format!("_{}", snake(&key.name))).map(str::to_owned).filter(|_| compares(key, column));
    let by_both = unique_columns(there)
        .filter_map(before)
        .filter_map(|stem| likeness::likeness(&stem, there.table.name()))
        .max_by_key(|(_, worth)| *worth);
    // `customer` alone: the type must be the key's own, or anything could be meant.
    let is_of_key = stem.is_none() && single_key(there).is_some_and(|key| key.kind == column.kind);
    let by_whole = likeness::likeness(&snake(&column.name), there.table.name()).filter(|(_, worth)| is_of_key && *worth >= 90);
    let is_same = |key: &Column| key.name.eq_ignore_ascii_case(&column.name) && compares(key, column);
    let is_telling = !BARE.contains(&snake(&column.name).as_str()) && !own.table.is_unique(std::slice::from_ref(&column.name));
    let by_key = (is_telling && unique_columns(there).any(is_same)).then_some(SAME_NAME);
    let ways = [by_stem, by_both, by_whole.map(|(said, worth)| (said, worth - 10)), by_key];
    ways.into_iter().flatten().max_by_key(|(_, worth)| *worth)
}

/// The unique column of a table that a column most likely names: the one of the same name, the one of the same ending, or the key.
fn target<'t>(parent: &'t Surveyed, column: &Column) -> Option<&'t Column> {
    let name = snake(&column.name);
    let fitting: Vec<&Column> = unique_columns(parent).filter(|key| compares(key, column)).collect();
    let same = fitting.iter().find(|key| snake(&key.name) == name);
    let ending = fitting.iter().find(|key| snake(&key.name) != "id" && name.ends_with(&format!("_{}", snake(&key.name))));
    let key = fitting.iter().find(|key| parent.key == [key.name.clone()]);
    let only = fitting.first().filter(|_| parent.key.len() == 1 && !name.ends_with("_id"));
    same.or(ending).or(key).or(only).copied()
}

/// Columns that name a row of a table with several key columns: one by the table's name, the others by their own.
pub(super) fn composite(child: &Surveyed, parent: &Surveyed, named: &Column) -> Option<(Vec<String>, Vec<String>)> {
    if parent.key.len() < 2 {
        return None;
    }
    let own: Vec<&String> =
        parent.key.iter().filter(|key| BARE.contains(&snake(key).as_str()) || snake(key) == snake(&named.name)).collect();
    let [own] = own.as_slice() else { return None };
    let mut columns = Vec::new();
    for key in &parent.key {
        let there = parent.table.column(key)?;
        let here = if key == *own { named } else { child.table.columns().iter().find(|column| column.name == *key)? };
        columns.push(compares(there, here).then(|| here.name.clone())?);
    }
    Some((columns, parent.key.clone()))
}

/// Columns that are unique by themselves.
pub(super) fn unique_columns(surveyed: &Surveyed) -> impl Iterator<Item = &Column> {
    let is_unique = |column: &&Column| surveyed.table.is_unique(std::slice::from_ref(&column.name));
    surveyed.table.columns().iter().filter(move |column| may_stand_in_rules(&column.name) && is_unique(column))
}

/// The key, if it is one column.
pub(super) fn single_key(surveyed: &Surveyed) -> Option<&Column> {
    let [key] = surveyed.key.as_slice() else { return None };
    surveyed.table.column(key)
}

/// A text that holds numbers could name numbers, too; nobody is proposed by that.
pub(super) fn compares(parent: &Column, child: &Column) -> bool {
    comparable(&parent.kind, &child.kind) == Comparability::Same && parent.bytewise && child.bytewise
}
