//! `entail demo`: see it work, with nothing installed.

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::Format;
use super::shared::runtime;
use crate::demo::{self, DemoError, Load, Request, Scene};
use crate::error::{Exit, chain};
use crate::grants::shell_word;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Keep the databases, the rules and the settings in this directory, which must be empty or new.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Then delete this many customers per second, each with orders, lines and parcels.
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// How long that load lasts; at most 4,000 customers are deleted, since the in-process broker keeps about 5 MiB per partition.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "5s", requires = "rate")]
    length: Duration,
    /// How the story is told.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Where the files are.
enum Place {
    Kept(PathBuf),
    Passing(TempDir),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Passing(dir) => dir.path(),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let place = match &arguments.keep {
        None => Place::Passing(tempfile::Builder::new().prefix("entail-demo-").tempdir().context("making a temporary directory")?),
        Some(path) => match keep(path) {
            Ok(path) => Place::Kept(path),
            Err(why) => {
                eprintln!("error: {} {why}\n  help: name a directory that is empty or does not exist yet", path.display());
                return Ok(Exit::Usage);
            }
        },
    };
    let load = arguments.rate.map(|rate| Load::new(rate, arguments.length));
    let request = Request { dir: place.path().to_owned(), load };
    let mut document = Map::new();
    let mut tell = |scene: &Scene| match arguments.format {
        Format::Text => print(&scene.text()),
        Format::Json => document.extend(scene.json().map(|(name, value)| (name.to_owned(), value))),
    };
    let runtime = runtime()?;
    let progress = progress();
    let told = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            biased;
            _ = terminate.recv() => Ok(None),
            _ = interrupt.recv() => Ok(None),
            told = demo::run(&request, &mut tell, &*progress) => anyhow::Ok(Some(told)),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    let Some(told) = told? else {
        drop(place);
        std::process::exit(130);
    };
    match arguments.format {
        Format::Text if told.is_ok() => print(&farewell(&place, began.elapsed())?),
        Format::Text => {}
        Format::Json => println!("{}", finished(document, &place, &told, began.elapsed())),
    }
    if let Place::Passing(dir) = place {
        dir.close().context("removing the temporary directory")?;
    }
    Ok(match told {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {}\n  help: `--keep DIR` keeps the files; ENTAIL_LOG=info shows what the worker does", chain(&error));
            Exit::Found
        }
    })
}

/// The directory to keep, made if it is not there, as an absolute path.
fn keep(path: &Path) -> Result<PathBuf, String> {
    std::fs::create_dir_all(path).map_err(|error| format!("cannot be made: {error}"))?;
    let mut entries = std::fs::read_dir(path).map_err(|error| format!("cannot be read: {error}"))?;
    if entries.next().is_some() {
        return Err("is not empty".to_owned());
    }
    std::path::absolute(path).map_err(|error| format!("has no absolute path: {error}"))
}

fn print(text: &str) {
    print!("{text}");
    // So that a pipe, too, shows each scene when it happens. A reader that went away is told by the next print.
    drop(std::io::stdout().flush());
}

/// A bar on stderr, if that is a terminal.
fn progress() -> Box<dyn Fn(u64, u64)> {
    if !std::io::stderr().is_terminal() {
        return Box::new(|_, _| {});
    }
    let bar = std::cell::OnceCell::new();
    Box::new(move |done, all| {
        let bar = bar.get_or_init(|| {
            let bar = ProgressBar::new(all);
            if let Ok(style) = ProgressStyle::with_template("    {bar:40} {pos}/{len} customers gone everywhere") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_position(done.min(all));
        if done >= all {
            bar.finish_and_clear();
        }
    })
}

/// Where the files are and what to try next.
fn farewell(place: &Place, took: Duration) -> anyhow::Result<String> {
    let mut text = format!("All of it took {:.1} s.\n", took.as_secs_f64());
    match place {
        Place::Kept(dir) => {
            let settings = std::fs::read_to_string(dir.join("entail.yaml")).context("reading entail.yaml back")?;
            let dir = shell_word(&dir.display().to_string());
            text.push_str(&format!("\nThe files are in {dir}: crm.db, shop.db, shipping.db, rules.yaml, and entail.yaml:\n\n"));
            text.extend(settings.lines().map(|line| format!("    {line}\n")));
            text.push_str(&format!(
                "
What to try next:
    sqlite3 {dir}/shop.db 'SELECT root_entity, root_key, reference, action, \"rows\", at FROM entail_cascades'
    sqlite3 {dir}/shop.db 'SELECT entity, row_key, image FROM entail_archive'     the removed rows, as they were
    entail check {dir}/rules.yaml
    entail demo --rate 200                  the same under load
    README.md                               your own topics and databases
"
            ));
        }
        Place::Passing(_) => text.push_str(
            "
The files were temporary and are removed. What to try next:
    entail demo --keep DIR                  keeps databases, rules and settings, to look into the audit and the archive
    entail demo --rate 200                  the same under load
    README.md                               your own topics and databases
",
        ),
    }
    Ok(text)
}

fn finished(mut document: Map<String, Value>, place: &Place, told: &Result<(), DemoError>, took: Duration) -> Value {
    let directory = match place {
        Place::Kept(path) => json!(path.display().to_string()),
        Place::Passing(_) => Value::Null,
    };
    document.insert("as_told".to_owned(), json!(told.is_ok()));
    document.insert("failed".to_owned(), told.as_ref().err().map_or(Value::Null, |error| json!(chain(error))));
    document.insert("directory".to_owned(), directory);
    document.insert("took_ms".to_owned(), json!(took.as_millis()));
    Value::Object(document)
}
