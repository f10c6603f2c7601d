//! `entail replay`: read change topics again and reconcile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::Format;
use super::shared::{Global, Start, bar, failed, runtime};
use crate::error::{Exit, chain};
use crate::replay::{self, Found, Place, ReplayError, Request};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The entity whose topic is read; may be given more than once. Without it, all entities that have a topic.
    #[arg(long, value_name = "SERVICE.ENTITY")]
    entity: Vec<String>,
    /// Where to begin: `beginning`, an offset, a time such as 2026-05-02T10:00:00Z, or an age such as `2h`.
    #[arg(long, value_parser = place, default_value = "beginning")]
    from: Place,
    /// Where to end: `end`, an offset, a time or an age.
    #[arg(long, value_parser = place, default_value = "end")]
    until: Place,
    /// Do it. Without this, only say what would change.
    #[arg(long)]
    apply: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long Kafka and the databases may take to answer at the start.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

fn place(text: &str) -> Result<Place, String> {
    let millis = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| "before 1970".to_owned())?;
        i64::try_from(since.as_millis()).map(Place::Time).map_err(|_| "too far away".to_owned())
    };
    match text {
        "beginning" => return Ok(Place::Beginning),
        "end" => return Ok(Place::End),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Place::Offset(offset));
    }
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return millis(time);
    }
    match humantime::parse_duration(text) {
        Ok(age) => millis(SystemTime::now() - age),
        Err(_) => Err("write `beginning`, `end`, an offset, a time such as 2026-05-02T10:00:00Z, or an age such as `2h`".to_owned()),
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let start = Start { migrate: false, patience: arguments.wait, allow: BTreeSet::new(), is_worker: false };
        let engine = match start.engine(&config).await {
            Ok(engine) => Arc::new(engine),
            Err(error) => return failed(&error),
        };
        let mut entities = Vec::new();
        for (id, entity) in engine.model.rules.entity_ids() {
            let wanted = arguments.entity.is_empty() || arguments.entity.contains(&entity.name);
            if wanted && entity.topic.is_some() {
                entities.push(id);
            }
        }
        let named = |name: &&String| engine.model.rules.entities.iter().any(|entity| entity.name == **name && entity.topic.is_some());
        if let Some(unknown) = arguments.entity.iter().find(|name| !named(name)) {
            eprintln!("error: no entity `{unknown}` with a topic is in the rules\n  help: `entail check` counts what is");
            return Exit::Usage;
        }
        let stop = CancellationToken::new();
        let interrupted = stop.clone();
        tokio::spawn(async move {
            drop(tokio::signal::ctrl_c().await);
            interrupted.cancel();
        });
        let request = Request { entities, from: arguments.from, until: arguments.until, apply: arguments.apply, progress: bar("records") };
        let found = replay::run(Arc::clone(&engine), &config, request, stop).await;
        engine.model.databases.close().await;
        match found {
            Ok(found) => {
                print(arguments, &found);
                if !arguments.apply && found.changed() > 0 { Exit::Found } else { Exit::Done }
            }
            Err(error) => {
                eprintln!("error: {}", chain(&error));
                match error {
                    ReplayError::Halted(_) => Exit::Halted,
                    ReplayError::UnknownPast { .. } => Exit::Usage,
                    ReplayError::Kafka(_) | ReplayError::Ledger(_) | ReplayError::Broken(_) => Exit::Unavailable,
                }
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(exit)
}

fn print(arguments: &Arguments, found: &Found) {
    if arguments.format == Format::Json {
        let skipped = &found.account.skipped;
        println!(
            "{}",
            serde_json::json!({
                "applied": arguments.apply, "records": found.account.consumed, "roots": found.roots, "rows": found.rows, "copies": found.copies,
                "changed": found.changed(), "spared": found.spared, "held_back": found.held_back, "unreadable": found.unreadable, "skipped": skipped,
            })
        );
        return;
    }
    let verb = if arguments.apply { "changed" } else { "would change" };
    println!("{} records read; {} roots {verb} {} rows", found.account.consumed, found.roots, found.changed());
    for (name, rows) in found.rows.iter().chain(&found.copies) {
        println!("  {name}: {rows}");
    }
    println!("parents found alive: {}; held back: {}; unreadable records: {}", found.spared, found.held_back, found.unreadable);
    if !arguments.apply && found.changed() > 0 {
        println!("nothing was written; `--apply` does it");
    }
}
