//! A worker of the library on a stage: SQLite files and the in-process broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use entail::config::Config;
use entail::engine::Engine;
use entail::stage::Stage;
use entail::startup;
use entail::worker::accounts::Accounts;
use entail::worker::{self, Ended, Options, RunError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::wait::wait_for;

/// A stage with rules.
pub(crate) struct Local {
    pub(crate) stage: Stage,
    pub(crate) config: Config,
    pub(crate) dir: tempfile::TempDir,
}

/// A worker that runs.
pub(crate) struct Running {
    stop: CancellationToken,
    accounts: watch::Receiver<Accounts>,
    task: JoinHandle<Result<Ended, RunError>>,
}

impl Local {
    pub(crate) async fn new(rules: &str, services: &[(&str, &str)]) -> Local {
        entail::telemetry::start(entail::telemetry::LogFormat::Text, "warn,sqlx=error,librdkafka=off,rdkafka=off");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path: PathBuf = dir.path().join("rules.yaml");
        std::fs::write(&path, rules).expect("the rules are written");
        let stage = Stage::open(dir.path(), services, 3).await.expect("the stage is set");
        let config = stage.config(&path, "it");
        Local { stage, config, dir }
    }

    pub(crate) async fn engine(&self) -> Arc<Engine> {
        let (rules, ..) = startup::read_rules(&self.config.rules).expect("the rules are good");
        let databases = startup::open(&self.config, Duration::from_secs(5)).await.expect("the databases open");
        let model = startup::bind(rules, databases).await.unwrap_or_else(|error| panic!("{error:?}"));
        startup::ledgers(&model, true).await.expect("the ledgers are made");
        Arc::new(startup::engine(model, None, &self.config))
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(false).await
    }

    /// Runs to the end of the topics, and returns the accounts.
    pub(crate) async fn run_to_end(&self) -> Accounts {
        let running = self.start_with(true).await;
        let accounts = running.accounts.clone();
        running.task.await.expect("no panic").expect("no error");
        let accounts = accounts.borrow().clone();
        assert!(accounts.balance(), "{}", accounts.text());
        accounts
    }

    async fn start_with(&self, until_end: bool) -> Running {
        let engine = self.engine().await;
        let stop = CancellationToken::new();
        let (sender, accounts) = watch::channel(Accounts::default());
        let (config, stopped) = (self.config.clone(), stop.clone());
        let options = Options { until_end, observer: None, accounts: sender };
        let task = tokio::spawn(async move { worker::run(engine, &config, options, stopped).await });
        Running { stop, accounts, task }
    }

    /// Waits until a query of a service gives these lines (cells joined by `|`).
    pub(crate) async fn until(&self, what: &str, service: &str, sql: &str, wanted: &[&str]) {
        let last = std::sync::Mutex::new(Vec::new());
        wait_for(what, Duration::from_secs(40), async || {
            let rows = self.lines(service, sql).await;
            let done = rows == wanted;
            *last.lock().expect("no panic") = rows;
            done.then_some(())
        })
        .await;
    }

    pub(crate) async fn lines(&self, service: &str, sql: &str) -> Vec<String> {
        let rows = self.stage.rows(service, sql).await.expect("the query runs");
        rows.into_iter()
            .map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect::<Vec<_>>().join("|"))
            .collect()
    }

    pub(crate) async fn execute(&self, service: &str, sql: &str) {
        self.stage.execute(service, sql).await.expect("the statements run");
    }
}

impl Running {
    pub(crate) fn accounts(&self) -> Accounts {
        self.accounts.borrow().clone()
    }

    pub(crate) async fn stop(self) -> Accounts {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("no error");
        let accounts = self.accounts.borrow().clone();
        assert!(accounts.balance(), "{}", accounts.text());
        accounts
    }
}
