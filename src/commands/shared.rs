//! What several commands do alike: settings, runtime, and how a failed start is told.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::config::{self, Config};
use crate::engine::Engine;
use crate::error::{Disposition, Exit, chain};
use crate::inspect;
use crate::ledger;
use crate::model::{Code, Model, Weight};
use crate::rules::suggest::did_you_mean;
use crate::rules::{RuleSet, render_text};
use crate::startup::{self, StartError};
use crate::value::Key;

/// Options of every command.
pub(super) struct Global {
    pub(super) config: PathBuf,
    pub(super) rules: Option<PathBuf>,
}

impl Global {
    /// The settings, or what is wrong with them, printed.
    pub(super) fn read(&self) -> Result<Config, Exit> {
        match config::read(&self.config, &|name| std::env::var(name).ok()) {
            Ok(mut config) => {
                if let Some(rules) = &self.rules {
                    config.rules.clone_from(rules);
                }
                Ok(config)
            }
            Err((problems, files)) => {
                eprint!("{}", render_text(&problems, &files));
                Err(Exit::Usage)
            }
        }
    }
}

impl Global {
    /// The rules' path: as a command was given it, or as the settings name it.
    pub(super) fn rules_path(&self, given: Option<PathBuf>) -> Result<PathBuf, Exit> {
        match given.or_else(|| self.rules.clone()) {
            Some(path) => Ok(path),
            None => self.read().map(|config| config.rules),
        }
    }
}

/// A runtime for the command's edge.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}

/// Settings and rules to an engine whose ledgers are there.
pub(super) struct Start {
    pub(super) migrate: bool,
    pub(super) patience: Duration,
    /// Errors of these kinds are told of, and no more.
    pub(super) allow: BTreeSet<Code>,
    /// It works for the group: the ledgers take down what it runs with.
    pub(super) is_worker: bool,
}

impl Start {
    pub(super) async fn engine(&self, config: &Config) -> Result<Engine, StartError> {
        let (rules, warnings, files) = startup::read_rules(&config.rules)?;
        eprint!("{}", render_text(&warnings, &files));
        startup::refuse_on_missing(&rules)?;
        let deadline = Instant::now() + self.patience;
        loop {
            // A database may go away between any two of its steps.
            match self.attempt(config, &rules, deadline.saturating_duration_since(Instant::now())).await {
                Err(StartError::Database { service, source }) if startup::may_answer_later(&source) && Instant::now() < deadline => {
                    tracing::warn!(service, error = %chain(&source), "the start is tried again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(StartError::Silent(problem)) if Instant::now() < deadline => {
                    tracing::warn!(place = problem.place, "{}: the start is tried again", problem.message);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                done => return done,
            }
        }
    }

    async fn attempt(&self, config: &Config, rules: &RuleSet, patience: Duration) -> Result<Engine, StartError> {
        let databases = startup::open(config, patience).await?;
        let model = startup::bind(rules.clone(), databases).await?;
        startup::ledgers(&model, self.migrate).await?;
        if self.is_worker {
            self.look(&model, &config.kafka.group).await?;
        }
        let topics = model.topics.keys().cloned().collect();
        let cluster = startup::kafka(config, topics, self.patience, !self.allow.contains(&Code::NoTopic)).await?;
        startup::identities(&model, &config.kafka.group, cluster.as_deref()).await?;
        let (model, newcomers) = startup::newcomers(model, config, self.is_worker).await?;
        let engine = startup::engine(model, newcomers, config);
        if self.is_worker {
            let failed = |source| StartError::Database { service: "that keeps the ledger".to_owned(), source };
            inspect::note_tables(&engine.model, &config.kafka.group).await.map_err(failed)?;
            startup::look_back(&engine).await?;
        }
        Ok(engine)
    }
}

impl Start {
    /// The cheap part of `check --connect`: a wrong set-up is refused before the first event is read.
    async fn look(&self, model: &Model, group: &str) -> Result<(), StartError> {
        let (mut errors, mut unreachable) = (Vec::new(), None);
        for (weight, problem) in inspect::at_start(model, group, &self.allow).await {
            match weight {
                Weight::Error if problem.code == Code::Unreachable => unreachable = Some(problem),
                Weight::Error => errors.push(problem),
                Weight::Warning => {
                    tracing::warn!(place = problem.place, code = problem.code.name(), help = problem.hint, "{}", problem.message);
                }
                Weight::Note => {}
            }
        }
        match (errors.is_empty(), unreachable) {
            (true, None) => Ok(()),
            (true, Some(problem)) => Err(StartError::Silent(problem)),
            (false, _) => Err(StartError::Problems(errors)),
        }
    }
}

/// Rows, or records, that a person may ask to look at.
pub(super) const MOST_SAMPLED: u64 = 1_000_000_000;

/// What a person allows although `check` calls it an error.
#[derive(Debug, Clone, Args)]
pub(super) struct Allowed {
    /// Go on although a reference has no index: every batch then scans the child's table.
    #[arg(long)]
    allow_unindexed: bool,
    /// Go on although topics of the rules do not exist yet.
    #[arg(long)]
    allow_missing_topics: bool,
    /// Count errors of this kind as warnings, where that is possible, and warnings as notes: `entail check --codes` lists them. May be repeated.
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    allow: Vec<Code>,
}

impl Allowed {
    pub(super) fn codes(&self) -> BTreeSet<Code> {
        let unindexed = self.allow_unindexed.then_some(Code::Unindexed);
        let topics = self.allow_missing_topics.then_some(Code::NoTopic);
        self.allow.iter().copied().chain(unindexed).chain(topics).collect()
    }
}

fn parse_code(text: &str) -> Result<Code, String> {
    let code = Code::named(text).ok_or_else(|| {
        let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        did_you_mean(text, &names)
    })?;
    if code.forbids() { Err("with such an error nothing can be started".to_owned()) } else { Ok(code) }
}

/// Prints why a start failed, with the way out, and gives the exit code.
pub(super) fn failed(error: &StartError) -> Exit {
    let (hint, exit) = match error {
        StartError::Rules(problems, files) => {
            eprint!("{}", render_text(problems, files));
            return Exit::Usage;
        }
        StartError::Problems(problems) => {
            for problem in problems {
                eprintln!("error[{}]: {}: {}\n  help: {}", problem.code.name(), problem.place, problem.message, problem.hint);
            }
            return Exit::Usage;
        }
        StartError::Silent(problem) => (problem.hint.as_str(), Exit::Unavailable),
        StartError::Url { .. } => ("as in postgres://user@host:5432/database or sqlite:path/to/file.db", Exit::Usage),
        StartError::Database { source, .. } => {
            let exit = if source.disposition() == Disposition::Retry { Exit::Unavailable } else { Exit::Halted };
            (source.hint(), exit)
        }
        StartError::Kafka { .. } => ("are the brokers up, and is `kafka.brokers` right?", Exit::Unavailable),
        StartError::Topics(_) => (
            "check `topic` in the rules; a connector makes a topic with its first event: with `--allow-missing-topics` entail waits for it",
            Exit::Usage,
        ),
        StartError::OnMissing(_) => ("leave `on_missing` out until it does; `verify` is the safety net for late children", Exit::Usage),
        StartError::Identity { .. } => (
            "if this database was copied or restored on purpose, delete the row of `entail_identity` that names it; otherwise the settings point \
             somewhere wrong",
            Exit::Halted,
        ),
    };
    eprintln!("error: {}\n  help: {hint}", chain(error));
    exit
}

/// Says which databases could not be asked; the exit code, if there are any.
pub(super) fn silent(errors: &[StartError]) -> Option<Exit> {
    let exits: Vec<Exit> = errors.iter().map(failed).collect();
    exits.last().copied()
}

/// Columns of a line of text that is not a table.
const WIDTH: usize = 100;

/// Text in lines that a terminal shows whole: the first begins with `first`, the others with `others`.
pub(super) fn wrapped(text: &str, first: &str, others: &str) -> String {
    let options = textwrap::Options::new(WIDTH).initial_indent(first).subsequent_indent(others).break_words(false);
    textwrap::fill(text, options)
}

/// A bar on stderr, if that is a terminal.
pub(super) fn bar(what: &str) -> Box<dyn Fn(u64, u64) + Send + Sync> {
    if !std::io::stderr().is_terminal() {
        return Box::new(|_, _| {});
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}, {{per_sec}}, {{eta}} left"));
    if let Ok(style) = style {
        bar.set_style(style);
    }
    Box::new(move |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        if done >= all {
            bar.finish_and_clear();
        }
    })
}

/// Reads `ENTITY:KEY`.
pub(super) fn parse_root(text: &str) -> Result<(String, Key), String> {
    let parsed = text.split_once(':').and_then(|(entity, key)| Some((entity.to_owned(), ledger::parse_key(key)?)));
    parsed.ok_or_else(|| format!("`{text}` is not ENTITY:KEY, as in crm.customer:42"))
}

/// `1 error`, `2 errors`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
