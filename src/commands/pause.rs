//! `entail pause` and `entail resume`: the kill switch, for everything or for one reference.

use std::time::Duration;

use clap::Args;

use super::shared::{Global, failed, runtime};
use crate::error::Exit;
use crate::ledger;
use crate::startup::{self, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The reference; without it, everything.
    reference: Option<String>,
    /// Why, for those who find it.
    #[arg(long, default_value = "no reason given")]
    reason: String,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    Pause,
    Resume,
}

pub(super) fn run(global: &Global, arguments: &Arguments, switch: Switch) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let group = &config.kafka.group;
    let switched = runtime()?.block_on(async {
        let (databases, keepers) = startup::keepers(&config, arguments.wait).await?;
        let (scope, concerned) = match &arguments.reference {
            None => (ledger::EVERYTHING.to_owned(), keepers),
            Some(name) => {
                let (rules, ..) = startup::read_rules(&config.rules)?;
                let native = name.strip_prefix("native:").and_then(|name| name.split_once('.'));
                let service = match (rules.references.iter().find(|reference| reference.name == *name), native) {
                    (Some(reference), _) => rules.entity(reference.child).service.clone(),
                    (None, Some((service, _))) => service.to_owned(),
                    (None, None) => return Ok(None),
                };
                let Some(id) = databases.of_service(&service) else { return Ok(None) };
                (format!("reference:{name}"), vec![id])
            }
        };
        let mut changed = false;
        for id in concerned {
            let handle = databases.handle(id);
            let failed = |source| StartError::Database { service: handle.name.clone(), source };
            let mut session = handle.database.begin().await.map_err(failed)?;
            changed |= match switch {
                Switch::Pause => {
                    let dialect = handle.database.dialect();
                    ledger::pause(session.as_mut(), dialect, group, &scope, &arguments.reason).await.map_err(failed)?;
                    true
                }
                Switch::Resume => ledger::resume(session.as_mut(), group, &scope, &arguments.reason).await.map_err(failed)?,
            };
            session.commit().await.map_err(failed)?;
        }
        databases.close().await;
        Ok::<_, StartError>(Some((scope, changed)))
    });
    match switched {
        Ok(Some((scope, true))) => {
            println!("{} {scope}", if switch == Switch::Pause { "paused" } else { "resumed" });
            Ok(Exit::Done)
        }
        Ok(Some((scope, false))) => {
            eprintln!("error: `{scope}` is not paused\n  help: `entail status` says what is; `entail release` opens what was latched");
            Ok(Exit::Usage)
        }
        Ok(None) => {
            let name = arguments.reference.as_deref().unwrap_or_default();
            eprintln!("error: the rules have no reference `{name}`\n  help: `entail status` lists them as they are in use");
            Ok(Exit::Usage)
        }
        Err(error) => Ok(failed(&error)),
    }
}
