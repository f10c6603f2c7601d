//! What is judged: the rules, and what their databases say of themselves and of the tables.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::databases::{DatabaseId, Databases};
use crate::error::chain;
use crate::model::{BoundReplica, Code, Examined, Model, Problem, Table, examine};
use crate::rules::suggest::nearest;
use crate::rules::{Entity, EntityId, Reference, RuleSet, TableName};
use crate::sink::facts::{self, Facts, TableFacts};
use crate::sink::{Access, Fault, ForeignKey, SinkError, TableRef};
use crate::startup::{self, StartError};

/// Rules, and the catalogs' word on them.
pub(crate) struct Subject<'a> {
    pub(crate) rules: &'a RuleSet,
    pub(crate) databases: Databases,
    /// By entity.
    tables: Vec<Table>,
    pub(crate) copies: Vec<BoundReplica>,
    /// If rules and catalogs agree.
    pub(crate) model: Option<&'a Model>,
    pub(crate) facts: BTreeMap<DatabaseId, Facts>,
    pub(crate) keys: BTreeMap<DatabaseId, Vec<ForeignKey>>,
}

/// What the catalogs know of the rules' tables.
pub(super) struct Known<'a> {
    pub(super) tables: Vec<Table>,
    pub(super) copies: Vec<BoundReplica>,
    pub(super) model: Option<&'a Model>,
}

/// Opens the databases and holds the rules against their catalogs. One that does not answer is told of, and the others are asked all the same.
pub(super) async fn examined(rules: &RuleSet, config: &Config, patience: Duration, problems: &mut Vec<Problem>) -> (Databases, Examined) {
    let (mut databases, errors) = startup::open_what_answers(config, patience).await;
    for (service, error) in errors {
        // Nothing of it is looked at, whatever the reason: of rights only those behind the door are told apart.
        problems.push(if let StartError::Database { source: pooled @ SinkError::Pooled { .. }, .. } = &error {
            refusal(&service, pooled)
        } else {
            unreachable(&service, &chain(&error))
        });
        databases.note_silent(&service);
    }
    loop {
        let error = match examine(rules, &databases).await {
            Ok(examined) => return (databases, examined),
            Err(error) => error,
        };
        let Some((place, why)) = error.of_database() else { return (databases, Examined::default()) };
        problems.push(refusal(place, why));
        let services: Vec<&str> = place.split('+').filter(|service| databases.of_service(service).is_some()).collect();
        if services.is_empty() {
            return (databases, Examined::default());
        }
        services.iter().for_each(|service| databases.silence(service));
    }
}

impl<'a> Subject<'a> {
    /// A model's own tables, and what their databases say of them.
    pub(super) async fn of(model: &'a Model, problems: &mut Vec<Problem>) -> Self {
        let tables = model.rules.entity_ids().map(|(id, _)| model.table_if_any(id).map(|bound| (bound.database, bound.table.clone())));
        let known = Known { tables: tables.collect(), copies: model.replicas.clone(), model: Some(model) };
        Self::read(&model.rules, model.databases.clone(), known, problems, &|_| ()).await
    }

    /// Asks every database about itself and its tables.
    pub(super) async fn read(
        rules: &'a RuleSet,
        databases: Databases,
        known: Known<'a>,
        problems: &mut Vec<Problem>,
        tell: &(dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let Known { tables, copies, model } = known;
        let mut subject = Self { rules, databases, tables, copies, model, facts: BTreeMap::new(), keys: BTreeMap::new() };
        let ids: Vec<DatabaseId> = subject.databases.iter().map(|(id, _)| id).collect();
        for (done, id) in (1..).zip(ids) {
            subject.ask(id, problems).await;
            tell(done);
        }
        subject.suggest_tables(problems).await;
        subject
    }

    async fn ask(&mut self, id: DatabaseId, problems: &mut Vec<Problem>) {
        let handle = self.databases.handle(id).clone();
        let names: Vec<TableName> = self.tables_in(id).map(TableRef::table_name).collect();
        match facts::facts(&*handle.database, &names).await {
            Ok(facts) => drop(self.facts.insert(id, facts)),
            Err(error) => problems.push(refusal(&handle.name, &error)),
        }
        match handle.database.foreign_keys().await {
            Ok(keys) => drop(self.keys.insert(id, keys)),
            Err(error) => problems.push(refusal(&handle.name, &error)),
        }
    }

    /// "Did you mean", for tables that are not there.
    async fn suggest_tables(&self, problems: &mut [Problem]) {
        for problem in problems.iter_mut().filter(|problem| problem.code == Code::NoTable) {
            let entity =
                self.rules.entities.iter().find(|entity| entity.name == problem.place).map(|entity| (&entity.service, &entity.table));
            let copy = self.rules.replicas.iter().find(|copy| copy.name == problem.place).map(|copy| (&copy.service, &copy.table));
            let Some((service, table)) = entity.or(copy) else { continue };
            let Some(id) = self.databases.of_service(service) else { continue };
            let names = facts::table_names(&*self.databases.handle(id).database).await.unwrap_or_default();
            let elsewhere = names.iter().find(|(name, _)| name.table == table.table);
            let near = || nearest(&table.table, names.iter().map(|(name, _)| name.table.as_str()));
            match elsewhere {
                Some((name, false)) => {
                    let schema = crate::sink::spelling::name(name.schema.as_deref().unwrap_or_default());
                    let role = self.facts.get(&id).map_or("entail", |facts| facts.role.as_str());
                    problem.hint = format!("GRANT USAGE ON SCHEMA {schema} TO {}", crate::sink::spelling::name(role));
                }
                Some((name, true)) => problem.hint = format!("did you mean `{name}`?"),
                None => problem.hint = near().map_or(problem.hint.clone(), |near| format!("did you mean `{near}`?")),
            }
        }
    }

    /// The table of an entity, and its database.
    pub(crate) fn table(&self, id: EntityId) -> Option<(DatabaseId, &TableRef)> {
        self.tables.get(id.0 as usize)?.as_ref().map(|(database, table)| (*database, table))
    }

    /// Both tables of a reference, the child's first.
    pub(crate) fn ends(&self, reference: &Reference) -> Option<(&TableRef, &TableRef)> {
        Some((self.table(reference.child)?.1, self.table(reference.parent)?.1))
    }

    /// Every table of the rules in a database, once.
    pub(crate) fn tables_in(&self, id: DatabaseId) -> impl Iterator<Item = &TableRef> {
        let entities = self.tables.iter().flatten().map(|(database, table)| (*database, table));
        let copies = self.copies.iter().map(|copy| (copy.database, &copy.table));
        let here: BTreeMap<TableName, &TableRef> =
            entities.chain(copies).filter(|(database, _)| *database == id).map(|(_, table)| (table.table_name(), table)).collect();
        here.into_values()
    }

    /// What the database says of a table.
    pub(crate) fn facts_of(&self, id: DatabaseId, table: &TableRef) -> Option<&TableFacts> {
        self.facts.get(&id)?.tables.get(&table.table_name())
    }

    /// References from this entity's rows.
    pub(crate) fn from(&self, id: EntityId) -> impl Iterator<Item = &Reference> {
        self.rules.references.iter().filter(move |reference| reference.child == id)
    }

    /// References to this entity's rows.
    pub(crate) fn to(&self, id: EntityId) -> impl Iterator<Item = &Reference> {
        self.rules.references.iter().filter(move |reference| reference.parent == id)
    }

    /// Entities whose changes come from a topic, with their tables.
    pub(crate) fn captured(&self) -> impl Iterator<Item = (EntityId, &Entity, DatabaseId, &TableRef)> {
        self.rules.entity_ids().filter(|(_, entity)| entity.topic.is_some()).filter_map(|(id, entity)| {
            let (database, table) = self.table(id)?;
            Some((id, entity, database, table))
        })
    }

    /// Databases in which the rules write.
    pub(crate) fn written(&self) -> impl Iterator<Item = DatabaseId> {
        let children = self.rules.references.iter().filter_map(|reference| self.table(reference.child)).map(|(id, _)| id);
        let all: std::collections::BTreeSet<DatabaseId> = children.chain(self.copies.iter().map(|copy| copy.database)).collect();
        all.into_iter().filter(|id| self.databases.handle(*id).access == Access::Write)
    }
}

fn unreachable(service: &str, why: &str) -> Problem {
    Problem::new(Code::Unreachable, service, format!("the database cannot be asked: {why}"), "is it up, and is its url right?")
}

/// What a database did not answer, and why.
pub(super) fn refusal(place: &str, error: &SinkError) -> Problem {
    if matches!(error, SinkError::Pooled { .. }) {
        return Problem::new(Code::Pooler, place, chain(error), error.hint());
    }
    if matches!(error, SinkError::Database { fault: Fault::Privilege, .. }) {
        let hint = "the GRANTs that `entail check --grants` prints";
        return Problem::new(Code::MissingRight, place, chain(error), hint);
    }
    unreachable(place, &chain(error))
}
