//! Markers: what makes an idle connector show how far it has read.
//!
//! A PostgreSQL connector sends logical messages to `<prefix>.message`. While roots wait, one is written into the parent's log; when it comes out
//! of Kafka, everything before it has been sent.

use std::collections::BTreeSet;

use crate::error::chain;
use crate::graph::TargetId;
use crate::model::Model;

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
