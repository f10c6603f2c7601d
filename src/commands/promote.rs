//! `entail promote`: let a reference write that is new to the group, after a person has looked at what it would do.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Format;
use super::shared::{Global, failed, runtime};
use crate::error::Exit;
use crate::ledger;
use crate::model::Model;
use crate::startup::{self, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The references; without any, those that are new are listed, with the rows that each would have changed so far.
    references: Vec<String>,
    /// Why, for those who read the ledger later.
    #[arg(long, default_value = "no reason given")]
    reason: String,
    /// How the list looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

/// A reference that is new.
struct New {
    name: String,
    since: String,
    rows: u64,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let done = runtime()?.block_on(async {
        let model = startup::model_of_ledgers(&config, arguments.wait).await?;
        let new = list(&model, &config.kafka.group).await?;
        let exit = if arguments.references.is_empty() {
            show(&new, arguments.format);
            Exit::Done
        } else {
            promote(&model, &config.kafka.group, &new, arguments).await?
        };
        model.databases.close().await;
        Ok::<_, StartError>(exit)
    });
    Ok(done.unwrap_or_else(|error| failed(&error)))
}

async fn list(model: &Model, group: &str) -> Result<Vec<New>, StartError> {
    let mut new = Vec::new();
    for id in model.targets() {
        let handle = model.databases.handle(id);
        let failed = |source| StartError::Database { service: handle.name.clone(), source };
        let known = ledger::known_references(&*handle.database, group).await.map_err(failed)?;
        let shadow = ledger::standing(&*handle.database, group).await.map_err(failed)?.shadow;
        new.extend(known.into_iter().filter(|(_, known)| known.is_new).map(|(name, known)| {
            // Rows that several references reach are counted under all their names.
            let rows = shadow.iter().filter(|(names, ..)| names.split(", ").any(|one| one == name)).map(|(_, rows, _)| rows).sum();
            New { name, since: known.since, rows }
        }));
    }
    Ok(new)
}

fn show(new: &[New], format: Format) {
    match format {
        Format::Json => {
            let lines = new.iter().map(|one| json!({"reference": one.name, "since": one.since, "rows_in_shadow": one.rows}));
            println!("{}", json!({"new": lines.collect::<Vec<_>>()}));
        }
        Format::Text if new.is_empty() => println!("no reference is new"),
        Format::Text => {
            for New { name, since, rows } in new {
                println!("{name}: new since {since}, would have changed {rows} rows\n    entail promote {name}");
            }
        }
    }
}

async fn promote(model: &Model, group: &str, new: &[New], arguments: &Arguments) -> Result<Exit, StartError> {
    if let Some(name) = arguments.references.iter().find(|name| !new.iter().any(|one| one.name == **name)) {
        eprintln!("error: `{name}` is not new to this group\n  help: `entail promote` without a name lists what is");
        return Ok(Exit::Usage);
    }
    for id in model.targets() {
        let handle = model.databases.handle(id);
        let failed = |source| StartError::Database { service: handle.name.clone(), source };
        let mut session = handle.database.begin().await.map_err(failed)?;
        for name in &arguments.references {
            ledger::promote(session.as_mut(), group, name, &arguments.reason).await.map_err(failed)?;
        }
        session.commit().await.map_err(failed)?;
    }
    for name in &arguments.references {
        println!("promoted {name}: it writes from the next batch on; what it has passed over is left as it is");
    }
    Ok(Exit::Done)
}
