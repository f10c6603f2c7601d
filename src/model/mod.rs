//! The rules bound to the databases: every name has become a table with columns and types, every reference an edge.
//!
//! A [`Model`] exists only if all of it is sound: what the catalog forbids (a parent that cannot be looked up, keys of unlike types, a
//! `set_null` on a NOT NULL column) is refused here, all problems at once, before the first event is read.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::TopicSpec;
use crate::databases::{DatabaseId, Databases};
use crate::graph::Graph;
use crate::rules::{EntityId, ReplicaId, RuleSet};
use crate::sink::{Access, SinkError, TableRef};

mod bind;
mod native;
#[cfg(test)]
pub(crate) mod on_files;
mod problem;
mod topics;

pub(crate) use bind::{Examined, Table, examine};
pub use problem::{Code, Problem, Weight};
pub(crate) use topics::markers;

/// Rules, graph and tables together.
pub struct Model {
    /// The rules.
    pub rules: RuleSet,
    /// Entities, references and native keys.
    pub graph: Graph,
    /// The databases.
    pub databases: Databases,
    /// Tables by entity; `None` for one that is only copied from events.
    pub(crate) tables: Vec<Option<BoundTable>>,
    /// Replicas, in the order of the rules.
    pub(crate) replicas: Vec<BoundReplica>,
    /// What each topic carries.
    pub topics: BTreeMap<String, TopicSpec>,
    /// Things a person should know, none of them a danger.
    pub warnings: Vec<Problem>,
}

/// The table of an entity.
#[derive(Debug, Clone)]
pub struct BoundTable {
    /// The database that owns it.
    pub database: DatabaseId,
    /// The table.
    pub table: TableRef,
    /// The columns that the planner reads, in a fixed order.
    pub read: Vec<String>,
}

/// A replica's table.
#[derive(Debug, Clone)]
pub struct BoundReplica {
    /// Which replica.
    pub id: ReplicaId,
    /// The entity copied.
    pub of: EntityId,
    /// The database that holds the copy.
    pub database: DatabaseId,
    /// The table.
    pub table: TableRef,
    /// The key's columns in the copy, in the order of the entity's key.
    pub key: Vec<String>,
    /// (column of the entity, column of the copy).
    pub columns: Vec<(String, String)>,
}

/// Why rules and databases do not go together.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The catalog could not be read.
    #[error("database of `{place}`")]
    Catalog {
        /// The entity or service.
        place: String,
        /// Why.
        source: SinkError,
    },
    /// Rules and databases disagree.
    #[error("{} problems between the rules and the databases", .0.len())]
    Problems(Vec<Problem>),
}

impl BindError {
    /// The database that could not be asked, and why; `None` if it is not that.
    pub(crate) fn of_database(&self) -> Option<(&str, &SinkError)> {
        match self {
            Self::Catalog { place, source } => Some((place, source)),
            Self::Problems(_) => None,
        }
    }
}

impl Model {
    /// Binds the rules to the databases.
    ///
    /// # Errors
    /// All disagreements at once, or the first error of a database.
    pub async fn bind(rules: RuleSet, databases: Databases) -> Result<Self, BindError> {
        bind::bind(rules, databases).await
    }

    /// The table of an entity that has one.
    ///
    /// # Panics
    /// For an entity without a database: no reference has one at either end, which binding made sure of.
    pub(crate) fn table(&self, entity: EntityId) -> &BoundTable {
        self.tables.get(entity.0 as usize).and_then(Option::as_ref).expect("entities of references have tables")
    }

    /// The table of an entity, if it has one.
    pub(crate) fn table_if_any(&self, entity: EntityId) -> Option<&BoundTable> {
        self.tables.get(entity.0 as usize).and_then(Option::as_ref)
    }

    /// The database of an entity that has a table.
    pub(crate) fn database_of(&self, entity: EntityId) -> DatabaseId {
        self.table(entity).database
    }

    /// The replicas of an entity.
    pub(crate) fn replicas_of(&self, entity: EntityId) -> impl Iterator<Item = &BoundReplica> {
        self.replicas.iter().filter(move |replica| replica.of == entity)
    }

    /// The entity of this name.
    #[must_use]
    pub fn entity_named(&self, name: &str) -> Option<EntityId> {
        self.graph.nodes().find(|(_, node)| node.name == name).map(|(id, _)| id)
    }

    /// The writable databases that a change of this entity may touch. They keep the ledger for its topic.
    #[must_use]
    pub fn reach(&self, entity: EntityId) -> BTreeSet<DatabaseId> {
        let reached = self.graph.reach(entity).iter().filter_map(|child| self.table_if_any(*child)).map(|bound| bound.database);
        let copied = self.replicas_of(entity).map(|replica| replica.database);
        let writable = |id: &DatabaseId| self.databases.handle(*id).access == Access::Write;
        let mut reach: BTreeSet<DatabaseId> = reached.chain(copied).filter(writable).collect();
        if reach.is_empty() {
            reach.extend(self.table_if_any(entity).map(|bound| bound.database).filter(writable));
        }
        reach
    }

    /// The writable databases that keep the ledger for a topic.
    #[must_use]
    pub fn reach_of_topic(&self, topic: &str) -> BTreeSet<DatabaseId> {
        let entities = self.topics.get(topic).map(|spec| spec.entities.as_slice()).unwrap_or_default();
        entities.iter().flat_map(|spec| self.reach(spec.entity)).collect()
    }

    /// All writable databases that some topic reaches.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<DatabaseId> {
        self.topics.keys().flat_map(|topic| self.reach_of_topic(topic)).collect()
    }
}
