//! `entail pause` and `entail resume`: the kill switch, for everything or for one reference.

use std::time::Duration;

use clap::Args;

use super::shared::{Global, failed, runtime, silent};
use crate::config::Config;
use crate::error::Exit;
use crate::ledger;
use crate::startup::{self, Keepers, StartError};

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
    let switched = runtime()?.block_on(async {
        let keepers = startup::keepers(&config, arguments.wait).await?;
        switch_all(&config, arguments, switch, keepers).await
    });
    let name = arguments.reference.as_deref().unwrap_or_default();
    match switched {
        Ok(Some(Switched { scope, changed, unasked })) => {
            let unreached = silent(&unasked);
            if !changed.is_empty() {
                println!("{} {scope} in {}", if switch == Switch::Pause { "paused" } else { "resumed" }, changed.join(", "));
                if unreached.is_some() {
                    eprintln!("and nowhere else: do it again when the others answer");
                }
            } else if unreached.is_none() {
                eprintln!("error: `{scope}` is not paused\n  help: `entail status` says what is; `entail release` opens what was latched");
            }
            Ok(unreached.unwrap_or(if changed.is_empty() { Exit::Usage } else { Exit::Done }))
        }
        Ok(None) => {
            eprintln!("error: the rules have no reference `{name}`\n  help: `entail status` lists them as they are in use");
            Ok(Exit::Usage)
        }
        Err(error) => Ok(failed(&error)),
    }
}

/// What came of it.
struct Switched {
    scope: String,
    /// Where it is so now.
    changed: Vec<String>,
    /// Databases that did not answer, as far as they are concerned.
    unasked: Vec<StartError>,
}

/// Does it wherever it can be done: a database that is down must not keep the others going. `None` if the rules have no such reference.
async fn switch_all(config: &Config, arguments: &Arguments, switch: Switch, keepers: Keepers) -> Result<Option<Switched>, StartError> {
    let Keepers { databases, ids, silent: mut unasked } = keepers;
    let (scope, concerned) = match &arguments.reference {
        None => (ledger::EVERYTHING.to_owned(), ids),
        Some(name) => {
            let Some(service) = service_of(config, name)? else { return Ok(None) };
            let of_it = databases.of_service(&service);
            // Of the others nothing is asked.
            unasked.retain(|error| of_it.is_none() && matches!(error, StartError::Database { service: silent, .. } if *silent == service));
            if of_it.is_none() && unasked.is_empty() {
                return Ok(None);
            }
            (format!("reference:{name}"), of_it.into_iter().collect())
        }
    };
    let mut changed = Vec::new();
    for id in concerned {
        let handle = databases.handle(id);
        let done = async {
            let mut session = handle.database.begin().await?;
            let dialect = handle.database.dialect();
            let is_changed = match switch {
                Switch::Pause => {
                    ledger::pause(session.as_mut(), dialect, &config.kafka.group, &scope, &arguments.reason).await?;
                    true
                }
                Switch::Resume => ledger::resume(session.as_mut(), &config.kafka.group, &scope, &arguments.reason).await?,
            };
            session.commit().await.map(|()| is_changed)
        };
        match done.await {
            Ok(true) => changed.push(handle.name.clone()),
            Ok(false) => {}
            Err(source) => unasked.push(StartError::Database { service: handle.name.clone(), source }),
        }
    }
    databases.close().await;
    Ok(Some(Switched { scope, changed, unasked }))
}

/// The service whose database keeps a reference's latch: its child's.
fn service_of(config: &Config, name: &str) -> Result<Option<String>, StartError> {
    let (rules, ..) = startup::read_rules(&config.rules)?;
    let native = name.strip_prefix("native:").and_then(|name| name.split_once('.'));
    let of_rules = rules.references.iter().find(|reference| reference.name == name);
    let of_rules = of_rules.map(|reference| rules.entity(reference.child).service.clone());
    Ok(of_rules.or_else(|| native.map(|(service, _)| service.to_owned())))
}
