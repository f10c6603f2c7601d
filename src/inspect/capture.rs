//! Whether the log of a parent or a copied table carries what the rules read, to somebody who follows it.

use std::collections::{BTreeMap, BTreeSet};

use super::Subject;
use crate::databases::DatabaseId;
use crate::model::{Code, Problem};
use crate::rules::{Entity, EntityId, OnUpdate};
use crate::sink::facts::{Facts, Privilege, Published};
use crate::sink::spelling::table_name;
use crate::sink::{Dialect, TableRef};

pub(super) fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut captured: BTreeMap<DatabaseId, Vec<(EntityId, &Entity, &TableRef)>> = BTreeMap::new();
    for (id, entity, database, table) in subject.captured() {
        captured.entry(database).or_default().push((id, entity, table));
    }
    for (database, entities) in captured {
        let handle = subject.databases.handle(database);
        let Some(facts) = subject.facts.get(&database).filter(|_| handle.database.dialect() == Dialect::Postgres) else { continue };
        server(&handle.name, facts, &mut problems);
        for (id, entity, table) in entities {
            let place = &entity.name;
            let name = table_name(&table.table_name());
            if facts.tables.get(&table.table_name()).is_some_and(|facts| facts.is_unlogged) {
                let message = format!("`{}` is UNLOGGED: its changes reach no topic", table.table_name());
                problems.push(Problem::new(Code::Unlogged, place, message, format!("ALTER TABLE {name} SET LOGGED")));
            }
            if facts.has_publication {
                problems.extend(published(subject, facts, id, entity, table));
            }
            problems.extend(markers(subject, id, entity, table));
        }
    }
    problems
}

fn server(name: &str, facts: &Facts, problems: &mut Vec<Problem>) {
    let mut found = |code, message: String, hint: &str| problems.push(Problem::new(code, name, message, hint));
    if let Some(level) = facts.wal_level.as_deref().filter(|level| *level != "logical") {
        let message = format!("`wal_level` is `{level}`: no connector can follow this server");
        found(Code::NotLogical, message, "ALTER SYSTEM SET wal_level = logical, and restart the server");
        return;
    }
    if !facts.has_publication {
        let hint = "CREATE PUBLICATION dbz_publication FOR TABLE …, unless the connector does not use `pgoutput`";
        found(Code::NoPublication, "the database has no publication".to_owned(), hint);
    }
    let ledger: BTreeSet<&str> =
        facts.published.iter().filter(|one| one.table.table.starts_with("entail_")).map(|one| one.publication.as_str()).collect();
    for publication in ledger {
        let message = format!("publication `{publication}` captures the ledger's own tables");
        found(
            Code::LedgerCaptured,
            message,
            "name the tables in the publication, instead of FOR ALL TABLES; or exclude `entail_.*` in the connector",
        );
    }
    let lost: Vec<&str> = facts.slots.iter().filter(|slot| slot.is_lost).map(|slot| slot.name.as_str()).collect();
    let is_read = facts.slots.iter().any(|slot| slot.is_active && !slot.is_lost);
    match (facts.slots.is_empty(), is_read) {
        (_, true) => {}
        (true, _) => found(Code::NoSlot, "no connector has a logical replication slot here".to_owned(), "start the connector"),
        _ if !lost.is_empty() => {
            let message = format!("replication slot `{}` has lost what it had not read yet: events are missing", lost.join("`, `"));
            found(Code::SlotLost, message, "drop it, start the connector with a new snapshot, and verify");
        }
        _ => {
            let message = "nobody reads the logical replication slot now".to_owned();
            found(Code::SlotIdle, message, "start the connector; a slot that nobody reads keeps the log growing");
        }
    }
}

/// The publications that hold a table are taken for alternatives: one that is as it should be is enough.
fn published(subject: &Subject<'_>, facts: &Facts, id: EntityId, entity: &Entity, table: &TableRef) -> Option<Problem> {
    let name = table_name(&table.table_name());
    let holding: Vec<&Published> = facts.published.iter().filter(|one| one.table == table.table_name()).collect();
    let mut complaints: Vec<Option<Problem>> = holding.iter().map(|one| complaint(subject, one, id, entity, table)).collect();
    if complaints.is_empty() {
        let message = format!("no publication holds `{}`, so no event tells of its rows", table.table_name());
        let publication = facts.published.first().map_or("dbz_publication", |one| one.publication.as_str());
        let hint = format!("ALTER PUBLICATION {} ADD TABLE {name}", crate::sink::spelling::name(publication));
        return Some(Problem::new(Code::NotPublished, &entity.name, message, hint));
    }
    if complaints.iter().any(Option::is_none) { None } else { complaints.swap_remove(0) }
}

fn complaint(subject: &Subject<'_>, one: &Published, id: EntityId, entity: &Entity, table: &TableRef) -> Option<Problem> {
    let (publication, name) = (crate::sink::spelling::name(&one.publication), table_name(&table.table_name()));
    let all = format!("ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')");
    let is_copied = subject.rules.replicas.iter().any(|copy| copy.of == id);
    let lacks = |operation| !one.operations.contains(&operation);
    let found = |code, message: String, hint: String| Some(Problem::new(code, &entity.name, message, hint));
    if lacks(Privilege::Delete) {
        return found(Code::DeletesUnpublished, format!("publication `{}` leaves out deletes", one.publication), all);
    }
    if is_copied && (lacks(Privilege::Insert) || lacks(Privilege::Update)) || keys_may_change(subject, id) && lacks(Privilege::Update) {
        return found(Code::ChangesUnpublished, format!("publication `{}` leaves out inserts or updates", one.publication), all);
    }
    if one.is_filtered {
        let message = format!("publication `{}` has a row filter for it: rows outside of it go without an event", one.publication);
        return found(Code::RowsUnpublished, message, format!("publish {name} without WHERE"));
    }
    let missing: Vec<String> = wanted(subject, id, entity).into_iter().filter(|column| !one.columns.contains(column)).collect();
    if !one.columns.is_empty() && !missing.is_empty() {
        let message = format!("publication `{}` leaves out ({}), which the rules read", one.publication, missing.join(", "));
        return found(Code::ColumnsUnpublished, message, format!("publish {name} with that column"));
    }
    None
}

/// The columns of an entity that the rules read from its events.
fn wanted(subject: &Subject<'_>, id: EntityId, entity: &Entity) -> BTreeSet<String> {
    let pointed_at = subject.to(id).flat_map(|reference| reference.parent_columns.clone());
    let copied = subject.rules.replicas.iter().filter(|copy| copy.of == id).flat_map(|copy| &copy.columns).map(|(here, _)| here.clone());
    entity.key.iter().cloned().chain(pointed_at).chain(copied).collect()
}

fn keys_may_change(subject: &Subject<'_>, id: EntityId) -> bool {
    subject.to(id).any(|reference| reference.on_update != OnUpdate::NoAction)
}

/// Where keys may change, a delete waits until its topic has been read past the look-up: a connector that is idle must show how far it is (H114).
fn markers(subject: &Subject<'_>, id: EntityId, entity: &Entity, table: &TableRef) -> Option<Problem> {
    let topic = entity.topic.as_deref()?;
    let suffix = format!(".{}.{}", table.schema(), table.name());
    if !keys_may_change(subject, id) || topic.ends_with(&suffix) {
        return None;
    }
    let message =
        format!("its keys may change, and topic `{topic}` does not end in `{suffix}`: the connector's markers cannot be followed");
    let hint = "let the topic keep Debezium's name; else deletes wait for the next record of their partition";
    Some(Problem::new(Code::NoMarkers, &entity.name, message, hint))
}
