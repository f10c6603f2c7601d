//! References that the group has not run with yet: in shadow until a person promotes them (H78).
//!
//! A reference that is added to a running group meets a table full of old orphans that somebody may still want. What it would do is planned and
//! counted; nothing is written. On a group's very first start the rules count as they stand.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::NewReferences;
use crate::databases::DatabaseId;
use crate::graph::{Edge, Origin};
use crate::ledger::{self, Known};
use crate::model::{BindError, Model};
use crate::rules::{Mode, Reference, RuleSet};
use crate::sink::SinkError;

/// The rules as they are written, and which of their references are new.
#[derive(Debug, Clone)]
pub struct Newcomers {
    /// The rules, without regard to what is new.
    pub written: RuleSet,
    /// The new references.
    pub names: BTreeSet<String>,
}

/// A reference of the rules and whether it is new, with what to note of it.
struct Found<'a> {
    database: DatabaseId,
    reference: &'a Reference,
    shape: String,
    is_new: bool,
}

/// The new references among those of the rules as they are written, by name. With `note`, the ledgers take down what the group runs with.
///
/// # Errors
/// Those of the databases.
pub async fn find(model: &Model, written: &RuleSet, group: &str, begin: NewReferences, note: bool) -> Result<BTreeSet<String>, SinkError> {
    let (mut known, mut has_run) = (BTreeMap::new(), false);
    for id in model.targets() {
        let database = &*model.databases.handle(id).database;
        known.insert(id, ledger::known_references(database, group).await?);
        has_run = has_run || !ledger::progress(database, group).await?.is_empty();
    }
    // A first start, or the first one of a release that keeps this list.
    let counts_as_it_stands = !has_run || known.values().all(BTreeMap::is_empty) || begin == NewReferences::AsWritten;
    let found: Vec<Found<'_>> =
        model.graph.edges().filter_map(|(_, edge)| judge((model, written), edge, &known, counts_as_it_stands)).collect();
    if note {
        for (id, known) in &known {
            write(model, group, *id, known, &found).await?;
        }
    }
    Ok(found.into_iter().filter(|found| found.is_new).map(|found| found.reference.name.clone()).collect())
}

fn judge<'a>(
    (model, written): (&Model, &'a RuleSet),
    edge: &Edge,
    known: &BTreeMap<DatabaseId, BTreeMap<String, Known>>,
    counts_as_it_stands: bool,
) -> Option<Found<'a>> {
    let Origin::Rule(id) = edge.origin else { return None };
    let (reference, database) = (written.reference(id), model.database_of(edge.child));
    let shape = reference.shape(written);
    let before = known.get(&database).and_then(|known| known.get(&reference.name)).filter(|known| known.shape == shape);
    // What the rules put into shadow is promoted by the rules.
    let may_be_new = !counts_as_it_stands && reference.mode == Mode::Enforce;
    let is_new = may_be_new && before.is_none_or(|known| known.is_new);
    Some(Found { database, reference, shape, is_new })
}

async fn write(model: &Model, group: &str, id: DatabaseId, known: &BTreeMap<String, Known>, found: &[Found<'_>]) -> Result<(), SinkError> {
    let here = || found.iter().filter(|found| found.database == id);
    let is_noted = |found: &&Found<'_>| {
        known.get(&found.reference.name).is_some_and(|known| known.shape == found.shape && known.is_new == found.is_new)
    };
    let noted: Vec<(String, String, bool)> =
        here().filter(|found| !is_noted(found)).map(|found| (found.reference.name.clone(), found.shape.clone(), found.is_new)).collect();
    let left = known.keys().filter(|name| !here().any(|found| found.reference.name == **name)).cloned().collect();
    let database = &model.databases.handle(id).database;
    let mut session = database.begin().await?;
    ledger::note_references(session.as_mut(), database.dialect(), group, &noted).await?;
    ledger::forget_references(session.as_mut(), database.dialect(), group, &left).await?;
    session.commit().await
}

impl Newcomers {
    /// Whether nothing but new references follows a topic: then it is read from its end, since what was before is not theirs.
    #[must_use]
    pub fn are_all_of(&self, model: &Model, topic: &str) -> bool {
        let entities = model.topics.get(topic).map(|spec| spec.entities.as_slice()).unwrap_or_default();
        let is_new = |edge: &Edge| self.names.contains(&edge.name);
        let has_old =
            |entity| model.replicas_of(entity).next().is_some() || model.graph.references_to(entity).any(|(_, edge)| !is_new(edge));
        !entities.iter().any(|spec| has_old(spec.entity))
    }

    /// The model of the same rules and databases, with the new references in shadow.
    ///
    /// # Errors
    /// Those of the binding.
    pub async fn bind(&self, model: &Model) -> Result<Model, BindError> {
        let mut rules = self.written.clone();
        for reference in rules.references.iter_mut().filter(|reference| self.names.contains(&reference.name)) {
            reference.mode = Mode::Shadow;
        }
        Model::bind(rules, model.databases.clone()).await
    }
}
