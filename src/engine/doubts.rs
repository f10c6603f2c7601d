//! Whether what the databases say can be believed: the same logs, no shorter, and the same columns as when the rules were bound.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{Failure, Job};
use crate::databases::DatabaseId;
use crate::graph::{EdgeId, TargetId};
use crate::ledger;
use crate::plan::Plan;
use crate::resolve::{self, Asked, Presence, Trouble};
use crate::rules::EntityId;
use crate::sink::{SinkError, TableRef, statement};
use crate::watch;

impl Job<'_> {
    /// Looks at the databases that have just said of parents that they are missing. One that was restored says so of all that it lost; its log tells
    /// (H15). One whose column became another says so of every key; the catalog tells (H74).
    pub(super) async fn look_at_the_parents(&mut self, asked: &Asked, presence: &Presence) -> Result<(), Failure> {
        let doubted = self.doubted(asked, presence);
        for (id, targets) in doubted {
            let handle = self.model.databases.handle(id);
            // Whatever the batch asked for: no reference may ask a database for parents that has lost some.
            let edges = |error: &SinkError| watch::rewound(self.model, error).map(|finding| finding.edges).unwrap_or_default();
            self.engine.marks.check(id, handle).await.map_err(|error| Trouble { edges: edges(&error), error })?;
            let parents: BTreeSet<EntityId> = targets.iter().map(|target| self.model.graph.target(*target).entity).collect();
            let parents: Vec<EntityId> = parents.into_iter().collect();
            let Some(statement) = statement::marks(handle.database.dialect(), &self.tables(&parents)) else { continue };
            watch::compare(self.model, &parents, &handle.database.read(&statement).await?)?;
        }
        Ok(())
    }

    /// References to tables that are empty, of which many keys are missing: rather shut than believed. What was removed from there by a cascade of our
    /// own is missing for a reason.
    pub(super) async fn at_empty_parents(&mut self, presence: &Presence) -> Result<Vec<EdgeId>, Failure> {
        let mut doubtful = Vec::new();
        for (target, keys) in resolve::empty_parents(self.model, presence).await? {
            let columns = self.model.graph.target(target);
            let removed = if self.model.graph.key_target(columns.entity) == target {
                let (database, name) = (self.model.database_of(columns.entity), &self.model.graph.node(columns.entity).name);
                ledger::removed(&*self.model.databases.handle(database).database, &self.engine.owner.group, name, &keys).await?
            } else {
                BTreeSet::new()
            };
            if keys.iter().filter(|key| !removed.contains(key)).count() >= resolve::SUSPICIOUS_KEYS {
                doubtful.extend(self.edges_at(target).into_iter().filter(|edge| !self.is_looked_at(*edge)));
            }
        }
        Ok(doubtful)
    }

    /// The targets of which some key is missing, by database. What is shut already is not believed anyway.
    fn doubted(&self, asked: &Asked, presence: &Presence) -> BTreeMap<DatabaseId, Vec<TargetId>> {
        let mut doubted: BTreeMap<DatabaseId, Vec<TargetId>> = BTreeMap::new();
        for (target, keys) in asked {
            let is_open = self.edges_at(*target).iter().any(|edge| !self.latched.contains(edge));
            if is_open && keys.iter().any(|key| !presence.of(*target, key)) {
                doubted.entry(self.model.database_of(self.model.graph.target(*target).entity)).or_default().push(*target);
            }
        }
        doubted
    }

    /// Looks at the tables of what is about to change. Their rows are locked, so the columns stay what they are to the commit (H74). Once they have
    /// changed, so do the native keys that lead to them (H64).
    pub(super) async fn look_at_the_tables(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut changing: BTreeMap<DatabaseId, BTreeSet<EntityId>> = BTreeMap::new();
        for step in &plan.steps {
            changing.entry(self.model.database_of(step.entity)).or_default().insert(step.entity);
        }
        for (id, entities) in changing {
            let entities: Vec<EntityId> = entities.into_iter().collect();
            let statement = statement::marks(self.model.databases.handle(id).database.dialect(), &self.tables(&entities));
            let (Some(session), Some(statement)) = (self.sessions.get_mut(&id), statement) else { continue };
            watch::compare(self.model, &entities, &session.query(&statement).await?)?;
        }
        Ok(())
    }

    fn tables(&self, entities: &[EntityId]) -> Vec<&TableRef> {
        entities.iter().map(|entity| &self.model.table(*entity).table).collect()
    }
}
