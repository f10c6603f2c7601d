//! `entail undo`: put whole cascades back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use rdkafka::error::KafkaError;

use super::Format;
use super::shared::{Global, bar, failed, parse_root, runtime};
use crate::config::Config;
use crate::error::{Disposition, Exit, chain};
use crate::ledger::{Choice, Told};
use crate::model::Model;
use crate::source::assigned::Reader;
use crate::startup::{self, StartError};
use crate::undo::{self, Manner, MissingRoot, OnConflict, RootBack, RootRow, UndoError, Undone};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ids of cascades, as `entail_cascades` and the logs have them. With none, the options below choose.
    cascades: Vec<String>,
    /// Cascades that began at this row: `crm.customer:42`; the parts of a longer key are parted by commas, or written as a JSON list.
    #[arg(long, value_name = "ENTITY:KEY")]
    root: Option<String>,
    /// Cascades of the last so much time: `2h`, `30m`.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    since: Option<Duration>,
    /// Cascades that went through this reference.
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,
    /// What to do where a newer row stands in the way.
    #[arg(long, value_enum, default_value = "fail")]
    on_conflict: OnConflict,
    /// Put the roots back too, from the events that told of their end. It takes REPLICA IDENTITY FULL, and a url of their database that may write.
    #[arg(long)]
    with_root: bool,
    /// Say what would be put back, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a database may take to answer, and Kafka where it is needed.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

impl Arguments {
    fn choice(&self) -> Result<Choice, String> {
        let root = self.root.as_deref().map(parse_root).transpose()?;
        let choice = Choice { cascades: self.cascades.clone(), root, since: self.since, reference: self.reference.clone() };
        if choice == Choice::default() {
            return Err("which cascades? give their ids, or --root, --since or --reference".to_owned());
        }
        Ok(choice)
    }
}

/// So many of a kind are listed to a person.
const LISTED: usize = 20;

enum Failure {
    Start(StartError),
    /// The events of the roots could not be read.
    Kafka(KafkaError),
    Undo(UndoError),
    /// The rules have no entity or reference of this name: it was looked for in vain, and not found to be untouched.
    Unknown(&'static str, String),
}

/// A name of the choice that the rules do not have.
fn unknown(model: &Model, choice: &Choice) -> Result<(), Failure> {
    if let Some((entity, _)) = choice.root.as_ref().filter(|(entity, _)| model.entity_named(entity).is_none()) {
        return Err(Failure::Unknown("entity", entity.clone()));
    }
    match &choice.reference {
        Some(name) if model.graph.edges().all(|(_, edge)| edge.name != *name) => Err(Failure::Unknown("reference", name.clone())),
        _ => Ok(()),
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let choice = match arguments.choice() {
        Ok(choice) => choice,
        Err(problem) => {
            eprintln!("error: {problem}\n  help: `entail undo --help`");
            return Ok(Exit::Usage);
        }
    };
    let progress = bar("rows");
    let undone = runtime()?.block_on(async {
        let model = startup::model_of_ledgers(&config, arguments.wait).await.map_err(Failure::Start)?;
        unknown(&model, &choice)?;
        let roots = if arguments.with_root { roots(&config, &model, &choice, arguments.wait).await? } else { Vec::new() };
        let manner = Manner {
            group: &config.kafka.group,
            keep: config.keep,
            on_conflict: arguments.on_conflict,
            roots: &roots,
            is_dry: arguments.dry_run,
            progress: &*progress,
        };
        let undone = undo::undo(&model, &choice, &manner).await.map_err(Failure::Undo);
        model.databases.close().await;
        undone
    });
    match undone {
        Ok(undone) => Ok(print(arguments, &undone)),
        Err(Failure::Start(error)) => Ok(failed(&error)),
        Err(Failure::Unknown(what, name)) => {
            eprintln!(
                "error: the rules have no {what} `{name}`\n  help: names are as in the rules; those of older rules need them, with --rules"
            );
            Ok(Exit::Usage)
        }
        Err(Failure::Kafka(error)) => {
            eprintln!(
                "error: the events of the roots cannot be read: {error}\n  help: nothing was written; without --with-root Kafka is not needed"
            );
            Ok(Exit::Unavailable)
        }
        Err(Failure::Undo(error)) => {
            let (hint, exit) = match &error {
                UndoError::Database { source, .. } if source.disposition() == Disposition::Retry => {
                    ("what was put back stays; run the same command again to go on", Exit::Unavailable)
                }
                UndoError::Database { .. } => ("see `GRANT … INSERT` in the README: undo inserts rows", Exit::Halted),
                UndoError::Unknown(_) => ("give the rules under which the rows were removed, with --rules", Exit::Usage),
                UndoError::Conflict(_) => ("look at the row, then say --on-conflict skip or overwrite", Exit::Halted),
            };
            eprintln!("error: {}\n  help: {hint}", chain(&error));
            Ok(exit)
        }
    }
}

/// The rows of missing roots, out of their events.
async fn roots(config: &Config, model: &Model, choice: &Choice, patience: Duration) -> Result<Vec<RootRow>, Failure> {
    let missing = undo::missing_roots_of(model, choice, &config.kafka.group).await.map_err(Failure::Undo)?;
    let (kafka, wanted) = (config.kafka.clone(), undo::root_positions(&missing));
    if wanted.is_empty() {
        return Ok(undo::root_rows(model, &missing, &BTreeMap::new()));
    }
    startup::kafka(config, BTreeSet::new(), patience, false).await.map_err(Failure::Start)?;
    let read = tokio::task::spawn_blocking(move || Reader::open(&kafka)?.at(&wanted)).await;
    let records = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map_err(Failure::Kafka)?;
    Ok(undo::root_rows(model, &missing, &records))
}

fn print(arguments: &Arguments, undone: &Undone) -> Exit {
    if arguments.format == Format::Json {
        println!("{}", json(undone));
    } else {
        text(undone);
    }
    if undone.cascades.is_empty() {
        eprintln!(
            "error: no such cascade\n  help: `entail_cascades` in each target database lists them; archives expire after `archive.keep`"
        );
        return Exit::Usage;
    }
    let differing: u64 = undone.tables.iter().map(|(_, tally)| tally.differing).sum();
    let rootless = u64::from(undone.roots.iter().any(|root| root.result.is_err()));
    match undone.left() + rootless {
        0 if differing > 0 => Exit::Found,
        0 => Exit::Done,
        _ if undone.is_written => Exit::Found,
        _ => Exit::Halted,
    }
}

fn text(undone: &Undone) {
    // Each database has its own lines of a cascade.
    let mut seen = BTreeSet::new();
    let cascades: Vec<&Told> = undone.cascades.iter().filter(|line| seen.insert(&line.cascade)).collect();
    for line in cascades.iter().take(LISTED) {
        let key = line.root_key.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("cascade {} of {} {key} ({}, {})", line.cascade, line.root_entity, line.cause, line.at);
    }
    and_more(cascades.len(), "cascades");
    let (back, set) = if undone.is_written { ("put back", "set back") } else { ("to put back", "to set back") };
    for (entity, tally) in &undone.tables {
        let parts = [
            (tally.inserted, back),
            (tally.set_back, set),
            (tally.overwritten, "in place of newer ones"),
            (tally.already, "as they were already"),
            (tally.superseded, "older images of them"),
            (tally.conflicts, "in conflict"),
            (tally.refused, "refused by a constraint"),
            (tally.differing, "of these not as they were (a trigger, a rule, or a column that is gone)"),
        ];
        let parts: Vec<String> = parts.iter().filter(|(rows, _)| *rows > 0).map(|(rows, what)| format!("{rows} {what}")).collect();
        println!("  {entity}: {}", parts.join(", "));
        for (key, why) in &tally.told {
            println!("    {key}: {why}");
        }
    }
    if undone.tables.is_empty() && undone.lost.is_empty() && !undone.cascades.is_empty() {
        println!("nothing is left to put back");
    }
    for (entity, rows) in &undone.lost {
        println!(
            "  {rows} rows cannot be put back: {entity} has them no longer, or never had (`archive: none`), or the rules no longer lead there"
        );
    }
    for RootBack { entity, key, result } in &undone.roots {
        match result {
            Ok(()) if undone.is_written => println!("{entity} {key} itself is back"),
            Ok(()) => println!("{entity} {key} itself can be put back"),
            Err(why) => println!("{entity} {key} itself cannot be put back: {why}"),
        }
    }
    let missing = undone.missing_roots.iter().filter(|root| undone.is_written || !undone.has_row_of(root));
    for MissingRoot { entity, key, .. } in missing.clone().take(LISTED) {
        println!("{entity} {key} itself is still missing: rows under it are orphans until it returns");
    }
    and_more(missing.count(), "roots are still missing");
    if undone.left() > 0 && !undone.is_written {
        println!("nothing was written; --on-conflict skip leaves newer rows as they are, overwrite replaces and archives them");
    } else if !undone.is_written && !undone.cascades.is_empty() {
        println!("nothing was written: a dry run");
    }
}

fn and_more(all: usize, what: &str) {
    if all > LISTED {
        println!("and {} more {what} (`--format json` lists all)", all - LISTED);
    }
}

fn json(undone: &Undone) -> serde_json::Value {
    let cascades = undone.cascades.iter().map(|line| {
        serde_json::json!({
            "cascade": line.cascade, "reference": line.reference, "action": line.action, "rows": line.rows, "root_entity": line.root_entity,
            "root_key": line.root_key.as_ref().map(crate::value::Key::parts), "cause": line.cause, "at": line.at,
        })
    });
    let tables = undone.tables.iter().map(|(entity, tally)| {
        let told: Vec<_> = tally.told.iter().map(|(key, why)| serde_json::json!({ "key": key, "why": why })).collect();
        serde_json::json!({
            "entity": entity, "inserted": tally.inserted, "set_back": tally.set_back, "already": tally.already,
            "overwritten": tally.overwritten, "superseded": tally.superseded, "conflicts": tally.conflicts, "refused": tally.refused, "differing": tally.differing, "told": told,
        })
    });
    let missing = undone.missing_roots.iter().map(|root| serde_json::json!({ "entity": root.entity, "key": root.key.parts() }));
    let roots = undone
        .roots
        .iter()
        .map(|root| serde_json::json!({ "entity": root.entity, "key": root.key.parts(), "why_not": root.result.as_ref().err() }));
    serde_json::json!({
        "written": undone.is_written, "cascades": cascades.collect::<Vec<_>>(), "tables": tables.collect::<Vec<_>>(),
        "lost": undone.lost.iter().map(|(entity, rows)| serde_json::json!({"entity": entity, "rows": rows})).collect::<Vec<_>>(),
        "missing_roots": missing.collect::<Vec<_>>(), "roots": roots.collect::<Vec<_>>(),
    })
}
