//! `entail migrate`: the ledger's tables in every database that the rules write to.

use std::time::Duration;

use clap::Args;

use super::shared::{Global, failed, runtime};
use crate::error::Exit;
use crate::startup::{self, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let migrated = runtime()?.block_on(async {
        let model = startup::model(&config, arguments.wait).await?;
        startup::ledgers(&model, true).await?;
        let names: Vec<String> = model
            .targets()
            .into_iter()
            .map(|id| model.databases.handle(id))
            .map(|handle| format!("{} ({})", handle.name, handle.identity))
            .collect();
        model.databases.close().await;
        Ok::<_, StartError>(names)
    });
    match migrated {
        Ok(names) => {
            for name in names {
                println!("ledger ready in {name}");
            }
            Ok(Exit::Done)
        }
        Err(error) => Ok(failed(&error)),
    }
}
