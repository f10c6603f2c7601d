//! `entail release`: open a latch, after a person has looked.

use std::time::Duration;

use clap::Args;

use super::shared::{Global, failed, runtime};
use crate::error::Exit;
use crate::ledger;
use crate::startup::{self, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// `reference:NAME` or `partition:TOPIC[N]`; without it, the latches that are shut are listed.
    scope: Option<String>,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let released = runtime()?.block_on(async {
        let model = startup::model(&config, arguments.wait).await?;
        let mut lines = Vec::new();
        for id in model.targets() {
            let handle = model.databases.handle(id);
            let failed = |source| StartError::Database { service: handle.name.clone(), source };
            match &arguments.scope {
                None => {
                    let latches = ledger::latches_now(&*handle.database, &config.kafka.group).await.map_err(failed)?;
                    lines.extend(latches.into_iter().map(|latch| format!("{}: {} ({})", latch.scope, latch.reason, latch.detail)));
                }
                Some(scope) => {
                    let mut session = handle.database.begin().await.map_err(failed)?;
                    if ledger::release(session.as_mut(), &config.kafka.group, scope).await.map_err(failed)? {
                        lines.push(format!("released {scope} in {}", handle.name));
                    }
                    session.commit().await.map_err(failed)?;
                }
            }
        }
        model.databases.close().await;
        Ok::<_, StartError>(lines)
    });
    let lines = match released {
        Ok(lines) => lines,
        Err(error) => return Ok(failed(&error)),
    };
    for line in &lines {
        println!("{line}");
    }
    match &arguments.scope {
        Some(scope) if lines.is_empty() => {
            eprintln!("error: `{scope}` is not latched\n  help: `entail release` without a name lists what is");
            Ok(Exit::Usage)
        }
        _ => Ok(Exit::Done),
    }
}
