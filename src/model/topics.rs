//! What the decoder must know of each topic, from rules and catalog.

use std::collections::{BTreeMap, BTreeSet};

use super::{BoundReplica, BoundTable, Model};
use crate::change::{BeforeWorth, EntitySpec, TopicSpec};
use crate::graph::Graph;
use crate::rules::{EntityId, RuleSet};
use crate::sink::{ReplicaIdentity, TableRef};
use crate::value::ColumnType;

/// One spec per topic of the rules.
pub(super) fn specs(
    rules: &RuleSet,
    graph: &Graph,
    tables: &[Option<BoundTable>],
    replicas: &[BoundReplica],
) -> BTreeMap<String, TopicSpec> {
    let mut topics: BTreeMap<String, TopicSpec> = BTreeMap::new();
    for (id, entity) in rules.entity_ids() {
        let Some(topic) = &entity.topic else { continue };
        let table = tables.get(id.0 as usize).and_then(Option::as_ref).map(|bound| &bound.table);
        let wanted = wanted(id, graph, replicas).into_iter().filter(|column| !entity.key.contains(column));
        let typed = |column: String| {
            let kind = kind(id, &column, table, replicas);
            kind.map(|kind| (column, kind))
        };
        topics.entry(topic.clone()).or_insert_with(|| TopicSpec { entities: Vec::new() }).entities.push(EntitySpec {
            entity: id,
            schema: entity.table.schema.clone(),
            table: entity.table.table.clone(),
            key: entity.key.iter().cloned().filter_map(typed).collect(),
            columns: wanted.filter_map(typed).collect(),
            before: table.map_or(BeforeWorth::Key, before),
        });
    }
    topics
}

/// The topics to which the connectors of entities with changing keys send their markers.
pub(crate) fn markers(model: &Model) -> Vec<String> {
    let mut topics = BTreeSet::new();
    for (id, entity) in model.rules.entity_ids().filter(|(id, _)| model.graph.keys_may_change(*id)) {
        let (Some(topic), Some(bound)) = (&entity.topic, model.table_if_any(id)) else { continue };
        // Debezium names topics `<prefix>.<schema>.<table>`; a topic that was renamed shows no prefix.
        let suffix = format!(".{}.{}", bound.table.schema(), bound.table.name());
        match topic.strip_suffix(&suffix) {
            Some(prefix) => drop(topics.insert(format!("{prefix}.message"))),
            None => tracing::warn!(
                topic,
                entity = entity.name,
                "the topic's name does not end in {suffix}, so the connector's markers cannot be followed: \
                 roots wait for the next record of their own partition"
            ),
        }
    }
    topics.into_iter().collect()
}

/// Columns that somebody wants of an entity's events.
fn wanted(entity: EntityId, graph: &Graph, replicas: &[BoundReplica]) -> Vec<String> {
    let pointed_at = graph.targets_of(entity).flat_map(|(_, target)| target.columns.clone());
    let copied =
        replicas.iter().filter(|replica| replica.of == entity).flat_map(|replica| replica.columns.iter().map(|(here, _)| here.clone()));
    let mut columns: Vec<String> = pointed_at.chain(copied).collect();
    columns.sort();
    columns.dedup();
    columns
}

/// The type of an entity's column: its own table's, or where that cannot be asked the copy's.
fn kind(entity: EntityId, column: &str, table: Option<&TableRef>, replicas: &[BoundReplica]) -> Option<ColumnType> {
    if let Some(table) = table {
        return table.column(column).map(|column| column.kind.clone());
    }
    let mut copies = replicas.iter().filter(|replica| replica.of == entity);
    copies.find_map(|replica| {
        let (_, there) = replica.columns.iter().find(|(here, _)| here == column)?;
        replica.table.column(there).map(|column| column.kind.clone())
    })
}

fn before(table: &TableRef) -> BeforeWorth {
    match table.replica_identity() {
        ReplicaIdentity::Full => BeforeWorth::Row,
        ReplicaIdentity::Columns(columns) => BeforeWorth::Columns(columns.clone()),
        ReplicaIdentity::PrimaryKey | ReplicaIdentity::Nothing => BeforeWorth::Key,
    }
}
