//! Plays a test: files laid, rows given, changes made, and entail at work until nothing changes any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::lay::{self, Table};
use super::verdict::{self, Found, Verdict};
use super::{Change, Scenario, Suite};
use crate::change::{self, Content, DecodeError, NextOffset, Position, Record, TopicPartition};
use crate::databases::{DatabaseId, Databases};
use crate::engine::{Authority, Batch, Engine, Refused, Report, Retry, Waiting, WorkError};
use crate::error::Disposition;
use crate::feed::log::{self, Log, Published};
use crate::graph::TargetId;
use crate::ledger::{self, Epoch, Owner, Pending};
use crate::model::{BindError, Model, Problem};
use crate::rules::RuleSet;
use crate::sink::{Access, ConnectError, Location, SinkError};
use crate::value::Key;

const GROUP: &str = "test";
/// Rounds after which a test that does not come to rest is given up.
const MAX_ROUNDS: usize = 1_000;
/// Pending roots read at the most.
const MAX_PENDING: u64 = 10_000;

/// Why a test could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The files of the test.
    #[error("the files of the test cannot be made")]
    Scratch(#[from] std::io::Error),
    /// A statement of the test.
    #[error("{what}")]
    Statement {
        /// What was done.
        what: String,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// A change that changes nothing.
    #[error("{0}: no row is like that")]
    NoRow(String),
    /// The rules cannot be bound to any tables.
    #[error("{}", .0.iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect::<Vec<_>>().join("; "))]
    Rules(Vec<Problem>),
    /// A file that cannot be opened.
    #[error("a file of the test")]
    Open(#[from] ConnectError),
    /// A file, as entail sees it.
    #[error("a file of the test")]
    Sink(#[from] SinkError),
    /// A record that cannot be read.
    #[error("a record of the test")]
    Decode(#[from] DecodeError),
    /// A batch that cannot be worked.
    #[error("{0}")]
    Work(#[from] WorkError),
    /// It goes on and on.
    #[error("it does not come to rest")]
    Restless,
}

/// Empty files for the tests of one file of tests, each with its tables, its ledger and its log.
pub struct Bench {
    dir: TempDir,
    rules: RuleSet,
    tables: Vec<Table>,
}

impl Bench {
    /// Makes the files.
    ///
    /// # Errors
    /// Those of the files.
    pub async fn open(suite: &Suite) -> Result<Self, PlayError> {
        let bench = Self { dir: scratch()?, rules: lay::rules(&suite.rules), tables: lay::tables(suite) };
        for (service, file) in bench.services() {
            let path = bench.dir.path().join(file);
            let pool = log::open(&path).await.map_err(failed("opening a file"))?;
            let create: String = bench.tables.iter().filter(|table| table.service == service).map(Table::create).collect();
            log::execute(&pool, &create).await.map_err(failed("making the tables"))?;
            Log::open(pool.clone(), service).await.map_err(failed("making the log of a file"))?;
            pool.close().await;
            let database = location(&path).open()?;
            database.migrate().await?;
            database.close().await;
        }
        Ok(bench)
    }

    /// Plays one test, on copies of the files.
    ///
    /// # Errors
    /// If it cannot be played to its end. What came out otherwise is in the verdict.
    pub async fn play(&self, scenario: &Scenario) -> Result<Verdict, PlayError> {
        let dir = tempfile::tempdir_in(&self.dir)?;
        let mut stage = Stage::open(self, dir.path(), scenario).await?;
        let mut found = Found::default();
        for change in &scenario.changes {
            stage.make(change, &mut found).await?;
            stage.settle(&mut found).await?;
        }
        stage.look(&mut found).await?;
        stage.close().await;
        Ok(verdict::judge(&self.tables, scenario, &found))
    }

    /// Services, each with the name of its file.
    fn services(&self) -> impl Iterator<Item = (&str, String)> {
        let services: BTreeSet<&str> = self.tables.iter().map(|table| table.service.as_str()).collect();
        services.into_iter().zip((0..).map(|number: usize| format!("{number}.db")))
    }
}

fn location(path: &Path) -> Location {
    Location { url: format!("sqlite:{}", path.display()), access: Access::Write }
}

fn failed(what: &str) -> impl Fn(sqlx::Error) -> PlayError + use<> {
    let what = what.to_owned();
    move |source| PlayError::Statement { what: what.clone(), source }
}

/// In memory, where the system has a directory for that.
fn scratch() -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("entail-test-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir())
}

/// The files of a test, and the engine over them.
struct Stage<'t> {
    tables: &'t [Table],
    logs: BTreeMap<String, Log>,
    engine: Engine,
    epochs: BTreeMap<(DatabaseId, TopicPartition), Epoch>,
    offsets: BTreeMap<TopicPartition, i64>,
    waiting: BTreeMap<(TargetId, Key), Waiting>,
}

impl<'t> Stage<'t> {
    async fn open(bench: &'t Bench, dir: &Path, scenario: &Scenario) -> Result<Self, PlayError> {
        let (mut logs, mut databases) = (BTreeMap::new(), Databases::default());
        let given = verdict::given(&bench.tables, scenario);
        for (service, file) in bench.services() {
            let path = dir.join(&file);
            std::fs::copy(bench.dir.path().join(&file), &path)?;
            let pool = log::open(&path).await.map_err(failed("opening a file"))?;
            for table in bench.tables.iter().filter(|table| table.service == service) {
                let rows: String = given.get(&table.name).into_iter().flatten().map(|row| table.insert(row)).collect();
                if !rows.is_empty() {
                    log::execute(&pool, &rows).await.map_err(failed(&format!("the given rows of {}", table.name)))?;
                }
            }
            let mut log = Log::open(pool, service).await.map_err(failed("opening the log of a file"))?;
            log.skip().await.map_err(failed("reading the log of a file"))?;
            logs.insert(service.to_owned(), log);
            databases.add(service, Access::Write, location(&path).open()?).await?;
        }
        let model = Model::bind(bench.rules.clone(), databases).await.map_err(|error| match error {
            BindError::Problems(problems) => PlayError::Rules(problems),
            BindError::Catalog { source, .. } => PlayError::Sink(source),
        })?;
        let owner = Owner { group: GROUP.to_owned(), rules: model.rules.fingerprint() };
        // A test's roots are small: each is worked whole.
        let engine = Engine { rows_per_portion: usize::MAX, ..Engine::new(model, owner, Duration::from_secs(3600)) };
        let epochs = take(&engine).await?;
        Ok(Self { tables: &bench.tables, logs, engine, epochs, offsets: BTreeMap::new(), waiting: BTreeMap::new() })
    }

    /// Makes a change of the test.
    async fn make(&mut self, change: &Change, found: &mut Found) -> Result<(), PlayError> {
        let Some(table) = self.tables.iter().find(|table| table.name == change.entity()) else { return Ok(()) };
        let Some(log) = self.logs.get(&table.service) else { return Ok(()) };
        let (sql, what) = match change {
            Change::Insert { row, .. } => (table.insert(row), format!("the insert into {}", table.name)),
            Change::Update { chosen, set, .. } => (table.update(chosen, set), format!("the update of {}", table.name)),
            Change::Delete { chosen, .. } => (table.delete(chosen), format!("the delete from {}", table.name)),
        };
        found.done.push(what.clone());
        match log::execute(log.pool(), &sql).await {
            Ok(0) => Err(PlayError::NoRow(what)),
            Ok(_) => Ok(()),
            Err(error) => Err(failed(&what)(error)),
        }
    }

    /// Works what the logs hold, then what waits and what is set aside, until nothing changes any more.
    async fn settle(&mut self, found: &mut Found) -> Result<(), PlayError> {
        let mut tried: Option<Vec<String>> = None;
        for _ in 0..MAX_ROUNDS {
            let batch = self.read().await?;
            if !batch.progress.is_empty() {
                tried = None;
                self.work(batch, found).await?;
                continue;
            }
            // Everything is read: also past the look-ups.
            let waiting: Vec<Waiting> = std::mem::take(&mut self.waiting).into_values().collect();
            if !waiting.is_empty() {
                let retries = waiting.into_iter().map(|one| Retry { pending: one.pending, proven: Some(one.seen) }).collect();
                self.work(Batch { retries, ..Batch::default() }, found).await?;
                continue;
            }
            let pending = self.pending().await?;
            let now: Vec<String> = pending.iter().map(|pending| format!("{pending:?}")).collect();
            if pending.is_empty() || tried.as_ref() == Some(&now) {
                return Ok(());
            }
            tried = Some(now);
            let retries = pending.into_iter().map(|pending| Retry { pending, proven: None }).collect();
            self.work(Batch { retries, ..Batch::default() }, found).await?;
        }
        Err(PlayError::Restless)
    }

    /// What the logs have gained, as one batch.
    async fn read(&mut self) -> Result<Batch, PlayError> {
        let mut published = Vec::new();
        for log in self.logs.values_mut() {
            let read = log.read().await.map_err(failed("reading the log of a file"))?;
            published.extend(read.1);
        }
        let mut batch = Batch::default();
        for one in published {
            let Some(spec) = self.engine.model.topics.get(&one.topic) else { continue };
            let record = record(one, &mut self.offsets);
            batch.progress.insert(record.at.partition.clone(), record.at.next());
            if let Content::Events(events) = change::decode(&record, spec)?.content {
                batch.events.extend(events.into_iter().map(|event| (record.at.clone(), event)));
            }
        }
        Ok(batch)
    }

    /// Works a batch; record by record, if it does not go at once.
    async fn work(&mut self, batch: Batch, found: &mut Found) -> Result<(), PlayError> {
        match self.engine.work(&batch, Authority::Owner(&self.epochs)).await {
            Ok(report) => {
                self.note(report, found);
                return Ok(());
            }
            Err(error) if matches!(error, WorkError::TooMany) || error.disposition() == Disposition::DeadLetter => {}
            Err(error) => return Err(error.into()),
        }
        let positions: BTreeSet<&Position> = batch.events.iter().map(|(at, _)| at).collect();
        for at in positions {
            let events = batch.events.iter().filter(|(there, _)| there == at).cloned().collect();
            let progress = [(at.partition.clone(), at.next())].into();
            self.one(Batch { events, progress, ..Batch::default() }, found).await?;
        }
        for retry in batch.retries {
            self.one(Batch { retries: vec![retry], ..Batch::default() }, found).await?;
        }
        Ok(())
    }

    /// One record or root; what a database refuses stays owed, as with a worker.
    async fn one(&mut self, mut batch: Batch, found: &mut Found) -> Result<(), PlayError> {
        let report = match self.engine.work(&batch, Authority::Owner(&self.epochs)).await {
            Err(error) if error.disposition() == Disposition::DeadLetter => {
                batch.refused = Some(Refused { why: error.to_string(), with_copies: false });
                self.engine.work(&batch, Authority::Owner(&self.epochs)).await?
            }
            done => done?,
        };
        self.note(report, found);
        Ok(())
    }

    fn note(&mut self, report: Report, found: &mut Found) {
        for id in &report.settled {
            self.waiting.remove(id);
        }
        for waiting in report.waiting {
            self.waiting.insert((waiting.target, waiting.pending.key.clone()), waiting);
        }
        add(&report.rows, &mut found.counts);
        add(&report.shadow, &mut found.shadow);
        // A root that is tried again counts its orphans again.
        for (name, rows) in report.orphans {
            let known = found.orphans.entry(name).or_default();
            *known = (*known).max(rows);
        }
        found.latched.extend(report.latched.into_iter().map(|latch| latch.scope.trim_start_matches("reference:").to_owned()));
        for cascade in report.cascades {
            for line in cascade.lines {
                let root = format!("{}:{}", cascade.entity, cascade.key.parts().join(","));
                found.done.push(format!("  {root}: {} by `{}`: {} of {}", line.action, line.reference, line.rows, line.entity));
            }
        }
        let copied = report.copies.iter().map(|(name, rows)| format!("  rows of {name} copied: {rows}"));
        found.done.extend(copied);
    }

    async fn pending(&self) -> Result<Vec<Pending>, PlayError> {
        let partitions: BTreeSet<TopicPartition> = self.epochs.keys().map(|(_, partition)| partition.clone()).collect();
        let mut pending: BTreeMap<String, Pending> = BTreeMap::new();
        for id in self.engine.model.targets() {
            let database = &self.engine.model.databases.handle(id).database;
            for one in ledger::pending(&**database, GROUP, &partitions, None, MAX_PENDING).await? {
                pending.insert(format!("{} {:?} {:?}", one.entity, one.columns, one.key), one);
            }
        }
        Ok(pending.into_values().collect())
    }

    /// All rows, and what is set aside.
    async fn look(&mut self, found: &mut Found) -> Result<(), PlayError> {
        for table in self.tables {
            let Some(log) = self.logs.get(&table.service) else { continue };
            let rows = log::rows(log.pool(), &table.select()).await.map_err(failed(&format!("reading {}", table.name)))?;
            let named = |row: Vec<Option<String>>| table.columns.iter().map(|column| column.name.clone()).zip(row).collect();
            found.rows.insert(table.name.clone(), rows.into_iter().map(named).collect());
        }
        for pending in self.pending().await? {
            found.done.push(format!(
                "  {}:{} is set aside: {} ({})",
                pending.entity,
                pending.key.parts().join(","),
                pending.reason,
                pending.detail
            ));
            found.parked.insert((pending.entity, pending.reason));
        }
        Ok(())
    }

    async fn close(self) {
        self.engine.model.databases.close().await;
        for log in self.logs.values() {
            log.pool().close().await;
        }
    }
}

async fn take(engine: &Engine) -> Result<BTreeMap<(DatabaseId, TopicPartition), Epoch>, SinkError> {
    let mut epochs = BTreeMap::new();
    for id in engine.model.targets() {
        let mut session = engine.model.databases.handle(id).database.begin().await?;
        for topic in engine.model.topics.keys().filter(|topic| engine.model.reach_of_topic(topic).contains(&id)) {
            let partition = TopicPartition { topic: Arc::from(topic.as_str()), partition: 0 };
            let taken = ledger::take(session.as_mut(), &engine.owner, &partition, NextOffset(0)).await?;
            epochs.insert((id, partition), taken.epoch);
        }
        session.commit().await?;
    }
    Ok(epochs)
}

fn record(published: Published, offsets: &mut BTreeMap<TopicPartition, i64>) -> Record {
    let partition = TopicPartition { topic: Arc::from(published.topic.as_str()), partition: 0 };
    let next = offsets.entry(partition.clone()).or_default();
    let at = Position { partition, offset: *next };
    *next += 1;
    Record {
        at,
        timestamp: None,
        key: Some(published.key.to_string().into_bytes()),
        value: published.value.map(|value| value.to_string().into_bytes()),
        headers: published.header.map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))).into_iter().collect(),
    }
}

fn add(from: &BTreeMap<String, u64>, to: &mut BTreeMap<String, u64>) {
    for (name, rows) in from {
        *to.entry(name.clone()).or_default() += rows;
    }
}
