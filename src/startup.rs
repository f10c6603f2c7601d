//! From settings to an engine: databases opened, rules bound, the ledger there, and everything who it says it is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::databases::{DatabaseId, Databases};
use crate::engine::Engine;
use crate::error::{Disposition, chain};
use crate::ledger::{self, Owner};
use crate::model::{BindError, Model, Problem};
use crate::newcomers::{self, Newcomers};
use crate::rules::{self, Diagnostic, RuleSet, Severity, SourceFile};
use crate::sink::{Access, ConnectError, Location, SinkError};
use crate::source::assigned::Reader;
use crate::watch;

/// Why a start failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The rules have problems.
    #[error("the rules have problems")]
    Rules(Vec<Diagnostic>, Vec<SourceFile>),
    /// A url cannot be used.
    #[error("database `{service}`")]
    Url {
        /// The service.
        service: String,
        /// Why.
        source: ConnectError,
    },
    /// A database cannot be reached, or refuses.
    #[error("database `{service}` cannot be used")]
    Database {
        /// The service.
        service: String,
        /// Why.
        source: SinkError,
    },
    /// Rules and databases disagree.
    #[error("the rules do not fit the databases")]
    Problems(Vec<Problem>),
    /// A database went away while it was looked at.
    #[error("{0}")]
    Silent(Problem),
    /// Kafka cannot be reached.
    #[error("kafka at {brokers} cannot be reached")]
    Kafka {
        /// The brokers.
        brokers: String,
        /// Why.
        source: rdkafka::error::KafkaError,
    },
    /// Topics that the rules name are not there.
    #[error("{} topics do not exist, or the principal may not read them: {}", .0.len(), .0.join(", "))]
    Topics(Vec<String>),
    /// The rules use something that this release does not do yet.
    #[error("reference `{0}` uses `on_missing`, which this release checks but does not apply yet")]
    OnMissing(String),
    /// The ledger belongs to another world (H50, H67).
    #[error("the ledger of group `{group}` in database `{database}` belongs to {name} {pinned}, and this is {found}")]
    Identity {
        /// The group.
        group: String,
        /// The database that keeps the ledger.
        database: String,
        /// What was compared: `kafka cluster`, or a service.
        name: String,
        /// What the ledger says.
        pinned: String,
        /// What is there.
        found: String,
    },
}

/// Reads and checks the rules; `None` among the warnings means good.
///
/// # Errors
/// All problems of all files.
pub fn read_rules(path: &Path) -> Result<(RuleSet, Vec<Diagnostic>, Vec<SourceFile>), StartError> {
    let files = rules::load(path).map_err(|problems| StartError::Rules(problems, Vec::new()))?;
    let checked = rules::check(&files);
    match checked.rules {
        Some(rules) if checked.diagnostics.iter().all(|problem| problem.severity == Severity::Warning) => {
            Ok((rules, checked.diagnostics, files))
        }
        _ => Err(StartError::Rules(checked.diagnostics, files)),
    }
}

/// Opens every database; one that cannot be reached is tried again until `patience` runs out.
///
/// # Errors
/// The first database that cannot be used.
pub async fn open(config: &Config, patience: Duration) -> Result<Databases, StartError> {
    let deadline = Instant::now() + patience;
    let mut databases = Databases::default();
    for (service, location) in &config.databases {
        add(&mut databases, service, location, deadline).await?;
    }
    Ok(databases)
}

/// Opens every database: those that do not answer within `patience` are told of with their services.
pub(crate) async fn open_what_answers(config: &Config, patience: Duration) -> (Databases, Vec<(String, StartError)>) {
    let deadline = Instant::now() + patience;
    let (mut databases, mut errors) = (Databases::default(), Vec::new());
    for (service, location) in &config.databases {
        if let Err(error) = add(&mut databases, service, location, deadline).await {
            errors.push((service.clone(), error));
        }
    }
    (databases, errors)
}

async fn add(databases: &mut Databases, service: &str, location: &Location, deadline: Instant) -> Result<(), StartError> {
    let database = location.open().map_err(|source| StartError::Url { service: service.to_owned(), source })?;
    while let Err(source) = databases.add(service, location.access, Arc::clone(&database)).await {
        if !may_answer_later(&source) || Instant::now() >= deadline {
            return Err(StartError::Database { service: service.to_owned(), source });
        }
        tracing::warn!(service, error = %chain(&source), "the database cannot be reached yet");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Whether it is worth waiting: neither does a wrong password become right by it, nor a pooler a server.
#[must_use]
pub fn may_answer_later(error: &SinkError) -> bool {
    let never = matches!(error, SinkError::Database { fault: crate::sink::Fault::Authentication, .. } | SinkError::Pooled { .. });
    error.disposition() == Disposition::Retry && !never
}

/// The rules of these settings, bound to their databases.
///
/// # Errors
/// As of the steps.
pub async fn model(config: &Config, patience: Duration) -> Result<Model, StartError> {
    let (rules, ..) = read_rules(&config.rules)?;
    bind(rules, open(config, patience).await?).await
}

/// Binds the rules to the databases.
///
/// # Errors
/// All disagreements.
pub async fn bind(rules: RuleSet, databases: Databases) -> Result<Model, StartError> {
    Model::bind(rules, databases).await.map_err(unbound)
}

fn unbound(error: BindError) -> StartError {
    match error {
        BindError::Problems(problems) => StartError::Problems(problems),
        BindError::Catalog { place, source } => StartError::Database { service: place, source },
    }
}

/// Makes sure that every target has a ledger, and makes it if asked to.
///
/// # Errors
/// A database without a ledger, or that cannot be used.
pub async fn ledgers(model: &Model, migrate: bool) -> Result<(), StartError> {
    for id in model.targets() {
        let handle = model.databases.handle(id);
        let failed = |source| StartError::Database { service: handle.name.clone(), source };
        match ledger::exists(&*handle.database, &handle.name).await {
            // Where there is nothing to make, no right to make it is needed.
            Err(SinkError::NoLedger { .. }) if migrate => handle.database.migrate().await.map_err(failed)?,
            found => found.map_err(failed)?,
        }
    }
    Ok(())
}

/// The databases that keep a ledger, as far as they answer.
pub struct Keepers {
    /// They are open.
    pub databases: Databases,
    /// Those that keep one.
    pub ids: Vec<DatabaseId>,
    /// Why others could not be asked.
    pub silent: Vec<StartError>,
}

/// Opens the databases that may keep a ledger, without a look at tables or rules: what must work when those are not as they should be, and when some
/// database is down.
///
/// # Errors
/// If none can be used, or none has a ledger.
pub async fn keepers(config: &Config, patience: Duration) -> Result<Keepers, StartError> {
    let deadline = Instant::now() + patience;
    let (mut databases, mut ids, mut silent) = (Databases::default(), Vec::new(), Vec::new());
    for (service, location) in config.databases.iter().filter(|(_, location)| location.access == Access::Write) {
        silent.extend(add(&mut databases, service, location, deadline).await.err());
    }
    let mut without = None;
    for (id, handle) in databases.iter() {
        match ledger::exists(&*handle.database, &handle.name).await {
            Ok(()) => ids.push(id),
            Err(source @ SinkError::NoLedger { .. }) => without = Some(StartError::Database { service: handle.name.clone(), source }),
            Err(source) => silent.push(StartError::Database { service: handle.name.clone(), source }),
        }
    }
    if ids.is_empty()
        && let Some(error) = silent.pop().or(without)
    {
        return Err(error);
    }
    Ok(Keepers { databases, ids, silent })
}

/// Puts references that the group has not run with into shadow. With `note`, the ledgers take down what it runs with.
///
/// # Errors
/// Those of the databases.
pub async fn newcomers(model: Model, config: &Config, note: bool) -> Result<(Model, Option<Newcomers>), StartError> {
    let found = newcomers::find(&model, &model.rules, &config.kafka.group, config.new_references, note).await;
    let names = found.map_err(|source| StartError::Database { service: "of a reference".to_owned(), source })?;
    if names.is_empty() {
        return Ok((model, None));
    }
    for name in &names {
        tracing::warn!(reference = name, "new to this group, so in shadow: `entail promote {name}` lets it write");
    }
    let newcomers = Newcomers { written: model.rules.clone(), names };
    let bound = newcomers.bind(&model).await.map_err(unbound)?;
    Ok((bound, Some(newcomers)))
}

/// Makes the engine of a model.
#[must_use]
pub fn engine(model: Model, newcomers: Option<Newcomers>, config: &Config) -> Engine {
    let written = newcomers.as_ref().map_or(&model.rules, |newcomers| &newcomers.written);
    let owner = Owner { group: config.kafka.group.clone(), rules: written.fingerprint() };
    Engine { newcomers, ..Engine::new(model, owner, config.keep) }
}

/// The model of rules whose ledgers are there and know these very databases: for commands that need no Kafka.
///
/// # Errors
/// As [`model`] and [`ledgers`]; the first database that is another one.
pub async fn model_of_ledgers(config: &Config, patience: Duration) -> Result<Model, StartError> {
    let model = model(config, patience).await?;
    ledgers(&model, false).await?;
    let group = &config.kafka.group;
    for keeper in model.targets().into_iter().map(|id| model.databases.handle(id)) {
        for (service, known) in model.databases.services() {
            let failed = |source| StartError::Database { service: keeper.name.clone(), source };
            let pinned = ledger::identity(&*keeper.database, group, service).await.map_err(failed)?;
            if let Some(pinned) = pinned.filter(|pinned| *pinned != known.identity) {
                let (name, found) = (service.to_owned(), known.identity.clone());
                return Err(StartError::Identity { group: group.clone(), database: keeper.name.clone(), name, pinned, found });
            }
        }
    }
    Ok(model)
}

/// Compares what the ledgers have pinned with what is there; pins what is new (H50, H67).
///
/// # Errors
/// The first identity that is another one.
pub async fn identities(model: &Model, group: &str, cluster: Option<&str>) -> Result<(), StartError> {
    for id in model.targets() {
        let handle = model.databases.handle(id);
        let failed = |source| StartError::Database { service: handle.name.clone(), source };
        let mut session = handle.database.begin().await.map_err(failed)?;
        let kafka = cluster.map(|cluster| ("kafka cluster".to_owned(), cluster.to_owned()));
        // By service: where two share a database by mistake, one of them is another one than before.
        let others = model.databases.services().map(|(service, other)| (service.to_owned(), other.identity.clone()));
        for (name, found) in kafka.into_iter().chain(others) {
            let pinned = ledger::pin_identity(session.as_mut(), group, &name, &found).await.map_err(failed)?;
            if pinned != found {
                let (group, database) = (group.to_owned(), handle.name.clone());
                return Err(StartError::Identity { group, database, name, pinned, found });
            }
        }
        session.commit().await.map_err(failed)?;
    }
    Ok(())
}

/// Compares where the databases' logs end with what the ledgers remember: before the first event is read.
///
/// # Errors
/// Those of the databases.
pub async fn look_back(engine: &Engine) -> Result<(), StartError> {
    let failed = |source| StartError::Database { service: "of a log".to_owned(), source };
    for finding in watch::remember(&engine.model, &engine.owner.group, &engine.marks).await.map_err(failed)? {
        engine.halt(&finding).await.map_err(failed)?;
        tracing::error!(reason = finding.reason, detail = finding.detail, "references were latched until they are released");
    }
    Ok(())
}

/// Refuses rules that use what this release does not apply.
///
/// # Errors
/// The first reference that does.
pub fn refuse_on_missing(rules: &RuleSet) -> Result<(), StartError> {
    match rules.references.iter().find(|reference| reference.on_missing.is_some()) {
        Some(reference) => Err(StartError::OnMissing(reference.name.clone())),
        None => Ok(()),
    }
}

/// Asks Kafka for its cluster id and for the topics of the rules; tries until `patience` runs out.
///
/// # Errors
/// If no broker answers, or a topic is not there and `missing` says that it must be.
pub async fn kafka(config: &Config, topics: BTreeSet<String>, patience: Duration, must_exist: bool) -> Result<Option<String>, StartError> {
    let kafka = config.kafka.clone();
    let brokers = kafka.brokers.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let deadline = std::time::Instant::now() + patience;
        let reader = Reader::open(&kafka)?;
        loop {
            // A broker that is up answers in less than a second.
            let left = deadline.saturating_duration_since(std::time::Instant::now()).max(Duration::from_secs(1));
            match reader.missing(&topics, left) {
                Ok(missing) => return Ok((reader.cluster_id(), missing)),
                Err(error) if std::time::Instant::now() >= deadline => return Err(error),
                Err(error) => tracing::warn!(%error, "kafka cannot be reached yet"),
            }
        }
    });
    let failed = |source| StartError::Kafka { brokers: brokers.clone(), source };
    let (cluster, missing) = asked.await.map_err(|_| failed(rdkafka::error::KafkaError::Canceled))?.map_err(failed)?;
    if must_exist && !missing.is_empty() {
        return Err(StartError::Topics(missing));
    }
    for topic in missing {
        tracing::warn!(topic, "the topic does not exist yet");
    }
    Ok(cluster)
}
