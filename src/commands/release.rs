//! `entail release`: open a latch, after a person has looked.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Format;
use super::shared::{Global, bar, failed, runtime, silent};
use crate::config::Config;
use crate::databases::Handle;
use crate::engine::Engine;
use crate::error::Exit;
use crate::ledger;
use crate::release::{self, Rehearsal};
use crate::startup::{self, Keepers, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// `reference:NAME` or `partition:TOPIC[N]`; without it, the latches that are shut are listed.
    scope: Option<String>,
    /// Why, for those who read the ledger later.
    #[arg(long, default_value = "no reason given")]
    reason: String,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let exit = runtime()?.block_on(async {
        let Some(scope) = &arguments.scope else { return list(&config, arguments.wait).await };
        let model = startup::model_of_ledgers(&config, arguments.wait).await?;
        let (model, newcomers) = startup::newcomers(model, &config, false).await?;
        let engine = startup::engine(model, newcomers, &config);
        let exit = open(&engine, scope, arguments).await;
        engine.model.databases.close().await;
        exit
    });
    Ok(exit.unwrap_or_else(|error| failed(&error)))
}

fn failing(handle: &Handle) -> impl Fn(crate::sink::SinkError) -> StartError {
    let service = handle.name.clone();
    move |source| StartError::Database { service: service.clone(), source }
}

async fn list(config: &Config, patience: Duration) -> Result<Exit, StartError> {
    let Keepers { databases, ids, silent: unasked } = startup::keepers(config, patience).await?;
    for id in ids {
        let handle = databases.handle(id);
        for latch in ledger::latches_now(&*handle.database, &config.kafka.group).await.map_err(failing(handle))? {
            println!("{}: {} ({})", latch.scope, latch.reason, latch.detail);
        }
    }
    Ok(silent(&unasked).unwrap_or(Exit::Done))
}

async fn open(engine: &Engine, scope: &str, arguments: &Arguments) -> Result<Exit, StartError> {
    if !is_shut(engine, scope).await? {
        eprintln!("error: `{scope}` is not latched\n  help: `entail release` without a name lists what is");
        return Ok(Exit::Usage);
    }
    let rehearsal = match scope.strip_prefix("reference:") {
        None => None,
        Some(reference) => {
            let progress = bar("roots");
            let found = release::rehearse(engine, reference, &|roots| progress(roots, roots + 1)).await;
            Some(found.map_err(|source| StartError::Database { service: "of the parked roots".to_owned(), source })?)
        }
    };
    let goes_on = !arguments.dry_run;
    if arguments.format == Format::Text {
        rehearsal.iter().for_each(show);
    }
    if goes_on && !arguments.yes && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !confirmed(scope) {
        return Ok(Exit::Halted);
    }
    let databases = if goes_on { let_go(engine, scope, rehearsal.as_ref(), &arguments.reason).await? } else { Vec::new() };
    if arguments.format == Format::Json {
        println!("{}", as_json(scope, rehearsal.as_ref(), &databases));
    } else if goes_on {
        println!("released {scope} in {}", databases.join(", "));
    } else {
        println!("nothing was released; without --dry-run it is, for the rows shown and no more");
    }
    Ok(Exit::Done)
}

async fn is_shut(engine: &Engine, scope: &str) -> Result<bool, StartError> {
    for id in engine.model.targets() {
        let handle = engine.model.databases.handle(id);
        let latches = ledger::latches_now(&*handle.database, &engine.owner.group).await.map_err(failing(handle))?;
        if latches.iter().any(|latch| latch.scope == scope) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn confirmed(scope: &str) -> bool {
    print!("release {scope}? [y/N] ");
    drop(std::io::stdout().flush());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Opens the latch, for no more rows than were shown.
async fn let_go(engine: &Engine, scope: &str, rehearsal: Option<&Rehearsal>, reason: &str) -> Result<Vec<String>, StartError> {
    let (group, model) = (&engine.owner.group, &engine.model);
    let mut opened = Vec::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        let failed = failing(handle);
        let mut session = handle.database.begin().await.map_err(&failed)?;
        let here = |name: &String| model.graph.edges().any(|(_, edge)| edge.name == *name && model.database_of(edge.child) == id);
        let rows = rehearsal.map(|found| &found.rows).into_iter().flatten().filter(|(name, _)| here(name));
        let mut rows: BTreeMap<String, u64> = rows.map(|(name, rows)| (name.clone(), *rows)).collect();
        // Nothing was shown: nothing of what is parked goes.
        if let Some(name) = scope.strip_prefix("reference:").map(str::to_owned).filter(here) {
            rows.entry(name).or_insert(0);
        }
        let was_shut = ledger::release(session.as_mut(), group, scope).await.map_err(&failed)?;
        ledger::allow(session.as_mut(), handle.database.dialect(), group, &rows).await.map_err(&failed)?;
        if was_shut {
            let bound: Vec<String> = rows.iter().map(|(name, rows)| format!("{name}: {rows} rows")).collect();
            ledger::decide(session.as_mut(), group, scope, "release", reason, &bound.join(", ")).await.map_err(&failed)?;
            opened.push(handle.name.clone());
        }
        session.commit().await.map_err(&failed)?;
    }
    Ok(opened)
}

fn show(rehearsal: &Rehearsal) {
    println!("{} roots are parked; {} of their parents live again", rehearsal.roots, rehearsal.spared);
    for ((entity, action), rows) in &rehearsal.tables {
        println!("  {entity}: {rows} rows would be {}", if *action == "delete" { "deleted" } else { "changed" });
    }
    for (why, roots) in &rehearsal.parked {
        println!("  {roots} roots stay parked ({why})");
    }
    if rehearsal.waiting > 0 {
        println!("  {} roots wait for their topic to be read on; what they reach is not counted", rehearsal.waiting);
    }
}

fn as_json(scope: &str, rehearsal: Option<&Rehearsal>, databases: &[String]) -> serde_json::Value {
    let shown = rehearsal.map(|found| {
        let tables = found.tables.iter().map(|((entity, action), rows)| json!({"entity": entity, "action": action, "rows": rows}));
        json!({
            "roots": found.roots, "spared": found.spared, "waiting": found.waiting, "parked": found.parked, "references": found.rows,
            "tables": tables.collect::<Vec<_>>(),
        })
    });
    json!({"scope": scope, "released_in": databases, "would": shown})
}
