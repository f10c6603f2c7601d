//! Which cascades are undone, and what stays missing above them.

use std::collections::{BTreeMap, BTreeSet};

use super::{UndoError, failed};
use crate::ledger::{self, Choice, Told};
use crate::model::Model;
use crate::sink::statement;
use crate::value::Key;

/// Rows that are followed at a time.
const PAGE: u32 = 5_000;

/// The audit of the chosen cascades in every database, with the cascades of the rows that they took: what hangs on a row that goes may go by
/// that row's own event.
pub(super) async fn chosen(model: &Model, choice: &Choice, group: &str) -> Result<Vec<Told>, UndoError> {
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        let lines = ledger::cascades(&*handle.database, group, choice).await.map_err(failed(handle))?;
        ids.extend(lines.into_iter().map(|line| line.cascade));
    }
    let mut new: Vec<String> = ids.iter().cloned().collect();
    while !new.is_empty() {
        let found = below(model, &new, group).await?;
        new = found.into_iter().filter(|id| ids.insert(id.clone())).collect();
    }
    let whole = Choice { cascades: ids.into_iter().collect(), ..Choice::default() };
    let mut lines = Vec::new();
    for id in model.targets().into_iter().filter(|_| !whole.cascades.is_empty()) {
        let handle = model.databases.handle(id);
        lines.extend(ledger::cascades(&*handle.database, group, &whole).await.map_err(failed(handle))?);
    }
    Ok(lines)
}

/// The cascades that began at rows which these cascades took.
async fn below(model: &Model, cascades: &[String], group: &str) -> Result<BTreeSet<String>, UndoError> {
    let is_parent = |name: &String| model.entity_named(name).is_some_and(|entity| model.graph.targets_of(entity).next().is_some());
    let parents: Vec<String> = model.graph.nodes().map(|(_, node)| node.name.clone()).filter(is_parent).collect();
    let mut clocks = BTreeMap::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        clocks.insert(id, ledger::clock(&*handle.database).await.map_err(failed(handle))?);
    }
    let mut found = BTreeSet::new();
    for (id, clock) in &clocks {
        let handle = model.databases.handle(*id);
        let mut above = i64::MIN;
        loop {
            let rows = ledger::uprooted(&*handle.database, group, cascades, &parents, above, PAGE).await.map_err(failed(handle))?;
            let Some(last) = rows.last() else { break };
            above = last.id;
            for (other, its) in &clocks {
                let handle = model.databases.handle(*other);
                let cascades = ledger::cascades_below(&*handle.database, group, &rows, its.saturating_sub(*clock));
                found.extend(cascades.await.map_err(failed(handle))?);
            }
        }
    }
    Ok(found)
}

/// Roots of the cascades that their own databases do not have.
pub(super) async fn missing_roots(model: &Model, cascades: &[Told]) -> Result<Vec<(String, Key)>, UndoError> {
    let mut missing = BTreeSet::new();
    for line in cascades {
        let entity = model.entity_named(&line.root_entity);
        let target = entity.and_then(|entity| model.graph.targets_of(entity).find(|(_, target)| target.columns == line.root_columns));
        let (Some((_, target)), Some(key)) = (target, &line.root_key) else { continue };
        let bound = model.table(target.entity);
        let handle = model.databases.handle(bound.database);
        let question = statement::present(handle.database.dialect(), &bound.table, &target.columns, &[key.parts()]);
        let Some(question) = question else { continue };
        let rows = handle.database.read(&question).await.map_err(failed(handle))?;
        if rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref) == Some("false") {
            missing.insert((line.root_entity.clone(), key.clone()));
        }
    }
    Ok(missing.into_iter().collect())
}
