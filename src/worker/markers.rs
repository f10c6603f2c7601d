//! Markers: what makes an idle connector show how far it has read.
//!
//! A PostgreSQL connector sends logical messages to `<prefix>.message`. While roots wait, one is written into the parent's log; when it comes out
//! of Kafka, everything before it has been sent.

use std::collections::BTreeSet;

use crate::error::chain;
use crate::graph::TargetId;
use crate::model::Model;

/// The topics to which the connectors of entities with changing keys send their markers.
pub(crate) fn topics(model: &Model) -> Vec<String> {
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

/// Writes a marker into the log of every database that owns one of these targets.
pub(crate) async fn mark(model: &Model, targets: &BTreeSet<TargetId>) {
    let owners = targets.iter().map(|target| model.table(model.graph.target(*target).entity).database);
    for id in owners.collect::<BTreeSet<_>>() {
        let handle = model.databases.handle(id);
        if let Err(error) = handle.database.mark().await {
            tracing::warn!(error = %chain(&error), database = handle.name, "no marker could be written");
        }
    }
}
