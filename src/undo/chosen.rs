//! Which cascades are undone, and what stays missing above them.

use std::collections::{BTreeMap, BTreeSet};

use super::root::MissingRoot;
use super::{UndoError, failed};
use crate::apply;
use crate::change::Position;
use crate::graph::TargetId;
use crate::ledger::{self, Below, Choice, Stump, Told, Uprooted};
use crate::model::Model;
use crate::sink::{Dialect, TableRef, image, statement};
use crate::value::Key;

/// Rows that are followed at a time.
const PAGE: u32 = 5_000;

/// The audit of the chosen cascades in every database, with the cascades of the rows that they took: what hangs on a row that goes may go by
/// that row's own event.
pub(super) async fn chosen(model: &Model, choice: &Choice, group: &str) -> Result<Vec<Told>, UndoError> {
    let mut lines = read(model, choice, group).await?;
    if let Some((entity, _)) = &choice.root {
        // The row is meant, by its key: not another one that has the value in another column.
        let key = model.entity_named(entity).map(|entity| model.graph.node(entity).key.clone()).unwrap_or_default();
        lines.retain(|line| line.root_columns.is_empty() || line.root_columns == key);
    }
    let mut ids: BTreeSet<String> = lines.iter().map(|line| line.cascade.clone()).collect();
    if choice.root.is_some() {
        ids.extend(beside(model, &lines, group).await?);
    }
    let mut new: Vec<String> = ids.iter().cloned().collect();
    while !new.is_empty() {
        let found = below(model, &new, group).await?;
        new = found.into_iter().filter(|id| ids.insert(id.clone())).collect();
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    read(model, &Choice { cascades: ids.into_iter().collect(), ..Choice::default() }, group).await
}

async fn read(model: &Model, choice: &Choice, group: &str) -> Result<Vec<Told>, UndoError> {
    let mut lines = Vec::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        lines.extend(ledger::cascades(&*handle.database, group, choice).await.map_err(failed(handle))?);
    }
    Ok(lines)
}

/// The cascades of the other values of the same rows.
async fn beside(model: &Model, lines: &[Told], group: &str) -> Result<BTreeSet<String>, UndoError> {
    let mut found = BTreeSet::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        found.extend(ledger::cascades_beside(&*handle.database, group, lines).await.map_err(failed(handle))?);
    }
    Ok(found)
}

/// The cascades that began at rows which these cascades took: for each value of a row the one that its own
/// end brought about, or, where no transaction is known, the first one since and before it was put back: a later one is of a later row.
async fn below(model: &Model, cascades: &[String], group: &str) -> Result<BTreeSet<String>, UndoError> {
    let mut clocks = BTreeMap::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        clocks.insert(id, ledger::clock(&*handle.database).await.map_err(failed(handle))?);
    }
    let is_parent = |name: &String| model.entity_named(name).is_some_and(|entity| model.graph.targets_of(entity).next().is_some());
    let parents: Vec<String> = model.graph.nodes().map(|(_, node)| node.name.clone()).filter(is_parent).collect();
    let mut found = BTreeSet::new();
    for (id, clock) in &clocks {
        let handle = model.databases.handle(*id);
        let mut above = i64::MIN;
        loop {
            let rows = ledger::uprooted(&*handle.database, group, cascades, &parents, above, PAGE).await.map_err(failed(handle))?;
            let Some(last) = rows.last() else { break };
            above = last.id;
            let stumps: Vec<Stump> = rows.iter().flat_map(|row| stumps(model, handle.database.dialect(), row)).collect();
            let mut first = First::default();
            for (other, its) in &clocks {
                let handle = model.databases.handle(*other);
                let asked: Vec<Stump> =
                    stumps.iter().map(|stump| Stump { at: clock.earliest_by(its, stump.at), ..stump.clone() }).collect();
                for below in ledger::cascades_below(&*handle.database, group, &asked).await.map_err(failed(handle))? {
                    let at = its.by(clock, below.at);
                    let taken = rows.binary_search_by_key(&below.row, |row| row.id).ok().and_then(|place| rows.get(place));
                    if !taken.is_some_and(|taken| is_its_own(taken, &below, at)) {
                        continue;
                    }
                    first.add(below, at);
                }
            }
            found.extend(first.0.into_values().map(|(_, cascade)| cascade));
        }
    }
    Ok(found)
}

/// For each value of a row the first cascade that it brought about, and when, by the clock of the row's database.
#[derive(Default)]
struct First(BTreeMap<(i64, Vec<String>), (i64, String)>);

impl First {
    fn add(&mut self, below: Below, at: i64) {
        let told = (at, below.cascade);
        let known = self.0.entry((below.row, below.columns)).or_insert_with(|| told.clone());
        if told < *known {
            *known = told;
        }
    }
}

/// Whether a cascade may have been brought about by this end of a row, and not by that of a later row of the same key.
fn is_its_own(taken: &Uprooted, below: &Below, at: i64) -> bool {
    match (&taken.transaction, &below.transaction) {
        (Some(taken), Some(told)) => taken == told,
        _ => taken.undone_at.is_none_or(|undone| at <= undone),
    }
}

/// The values by which a row was known, of those at which references point.
fn stumps(model: &Model, dialect: Dialect, row: &Uprooted) -> Vec<Stump> {
    let Some(entity) = model.entity_named(&row.entity) else { return Vec::new() };
    let names = apply::columns_of_shape(&row.columns);
    let texts: Vec<Option<String>> =
        image::fields(dialect, &row.image).unwrap_or_default().iter().map(|field| image::text(dialect, field)).collect();
    let value = |columns: &[String]| {
        if *columns == model.graph.node(entity).key {
            return row.key.clone();
        }
        let table = &model.table_if_any(entity)?.table;
        TableRef::key_of(columns, &table.image(&names, &texts))
    };
    let stump = |columns: &Vec<String>| {
        Some(Stump { id: row.id, entity: row.entity.clone(), columns: columns.clone(), key: value(columns)?, at: row.at })
    };
    model.graph.targets_of(entity).filter_map(|(_, target)| stump(&target.columns)).collect()
}

/// Roots of the cascades that their own databases do not have, each with the last record that told of its end.
pub(super) async fn missing_roots(model: &Model, cascades: &[Told]) -> Result<Vec<MissingRoot>, UndoError> {
    let mut roots: BTreeMap<TargetId, BTreeMap<&Key, &Told>> = BTreeMap::new();
    for line in cascades {
        let entity = model.entity_named(&line.root_entity);
        let target = entity.and_then(|entity| model.graph.targets_of(entity).find(|(_, target)| target.columns == line.root_columns));
        if let (Some((target, _)), Some(key)) = (target, &line.root_key) {
            let last = roots.entry(target).or_default().entry(key).or_insert(line);
            *last = later(last, line);
        }
    }
    let mut missing = Vec::new();
    for (id, keys) in roots {
        let target = model.graph.target(id);
        let bound = model.table(target.entity);
        let handle = model.databases.handle(bound.database);
        let keys: Vec<(&Key, &Told)> = keys.into_iter().collect();
        for keys in keys.chunks(PAGE as usize) {
            let parts: Vec<&[String]> = keys.iter().map(|(key, _)| key.parts()).collect();
            let Some(question) = statement::present(handle.database.dialect(), &bound.table, &target.columns, &parts) else { continue };
            for row in handle.database.read(&question).await.map_err(failed(handle))? {
                let (place, is_there) = (row.first().and_then(Option::as_deref), row.get(1).and_then(Option::as_deref));
                let key = place.and_then(|place| place.parse::<usize>().ok()).and_then(|place| keys.get(place));
                if let (Some((key, told)), Some("false")) = (key, is_there) {
                    let entity = model.graph.node(target.entity).name.clone();
                    missing.push(MissingRoot {
                        entity,
                        columns: target.columns.clone(),
                        key: (*key).clone(),
                        cause: told.cause.clone(),
                        last: told.root_last.clone(),
                        source: told.root_source.as_ref().map(ToString::to_string),
                        moved: told.root_moved,
                    });
                }
            }
        }
    }
    missing.sort();
    Ok(missing)
}

/// Of two cascades of one root the one that was told of later.
fn later<'t>(one: &'t Told, other: &'t Told) -> &'t Told {
    if offset(&other.root_last) > offset(&one.root_last) { other } else { one }
}

fn offset(cause: &str) -> Option<i64> {
    cause.parse().ok().map(|position: Position| position.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h92_of_two_cascades_of_a_root_the_one_that_was_told_of_later_counts() {
        let told = |last: &str| Told {
            cascade: "c".to_owned(),
            reference: "order_customer".to_owned(),
            action: "delete".to_owned(),
            rows: 1,
            root_entity: "crm.customer".to_owned(),
            root_columns: vec!["id".to_owned()],
            root_key: None,
            cause: String::new(),
            root_source: None,
            root_last: last.to_owned(),
            root_moved: false,
            at: String::new(),
        };
        let [old, young, untold] = ["customers[0]@9", "customers[0]@10", ""].map(told);
        for (one, other) in [(&old, &young), (&young, &old)] {
            assert_eq!(later(one, other), &young, "by its number, not by its text");
        }
        assert_eq!((later(&old, &untold), later(&untold, &old)), (&old, &old));
    }

    #[test]
    fn h92_of_the_cascades_of_a_value_since_a_row_went_the_first_is_its_own_in_whatever_order_databases_tell_them() {
        let told = |row, column: &str, cascade: &str, at| {
            (Below { row, columns: vec![column.to_owned()], cascade: cascade.to_owned(), at, transaction: None }, at)
        };
        // The same value went again at 9, with a row that came later; at one moment it is the same one in any order.
        let all = [
            told(1, "id", "own", 5),
            told(1, "id", "later", 9),
            told(1, "id", "twin", 5),
            told(1, "code", "code", 7),
            told(2, "id", "two", 6),
        ];
        for turn in 0..all.len() {
            let mut first = First::default();
            all.iter().cycle().skip(turn).take(all.len()).cloned().for_each(|(below, at)| first.add(below, at));
            let cascades: Vec<String> = first.0.into_values().map(|(_, cascade)| cascade).collect();
            assert_eq!(cascades, ["code", "own", "two"], "from {turn} onwards");
        }
    }
}
