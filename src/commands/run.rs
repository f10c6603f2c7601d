//! `entail run`: the worker.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Format;
use super::shared::{Allowed, Global, Start, failed, runtime};
use crate::config::Config;
use crate::error::{Exit, chain};
use crate::worker::accounts::Accounts;
use crate::worker::{self, Ended, Options, RunError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Make or update the ledger's tables first.
    #[arg(long)]
    migrate: bool,
    /// Process to the present end of the topics, then exit: for scripts and cron.
    #[arg(long)]
    until_end: bool,
    #[command(flatten)]
    allowed: Allowed,
    /// How long Kafka and the databases may take to answer at the start.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
    /// How the accounts look that are printed at the end and on SIGUSR1.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let runtime = runtime()?;
    let exit = runtime.block_on(work(&config, arguments));
    // What hangs in a driver must not hang the process: everything durable is durable.
    runtime.shutdown_timeout(Duration::from_secs(2));
    exit
}

async fn work(config: &Config, arguments: &Arguments) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    let (accounts, seen) = watch::channel(Accounts::default());
    listen(stop.clone(), seen.clone(), arguments.format)?;
    let allow = arguments.allowed.codes();
    let start = Start { migrate: arguments.migrate, patience: arguments.wait, allow, is_worker: true };
    let engine = tokio::select! {
        () = stop.cancelled() => return Ok(Exit::Done),
        engine = start.engine(config) => match engine {
            Ok(engine) => Arc::new(engine),
            Err(error) => return Ok(failed(&error)),
        },
    };
    let options = Options { until_end: arguments.until_end, observer: None, accounts };
    let ended = worker::run(Arc::clone(&engine), config, options, stop).await;
    print(arguments.format, &seen.borrow());
    engine.model.databases.close().await;
    Ok(match ended {
        Ok(Ended::Clean) => Exit::Done,
        Ok(Ended::WithHalts) if arguments.until_end => Exit::Halted,
        Ok(Ended::WithHalts) => Exit::Done,
        Err(error) => {
            let hint = match &error {
                RunError::Halted(cause) => cause.hint(),
                RunError::Kafka(_) | RunError::Client(_) => "look at the log above; the ledger holds everything that was done",
                RunError::Unbalanced(_) => "please report this: it is a fault of entail",
            };
            eprintln!("error: {}\n  help: {hint}", chain(&error));
            Exit::Halted
        }
    })
}

/// The first SIGTERM or SIGINT stops in order, the second at once; SIGUSR1 prints the accounts.
fn listen(stop: CancellationToken, accounts: watch::Receiver<Accounts>, format: Format) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt, mut tell) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::user_defined1())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = tell.recv() => {
                    print(format, &accounts.borrow());
                    continue;
                }
            }
            if stop.is_cancelled() {
                tracing::warn!("stopped at once; what was in flight is done again at the next start");
                std::process::exit(130);
            }
            tracing::info!("stopping: what is in flight is finished first; a second signal stops at once");
            stop.cancel();
        }
    });
    Ok(())
}

fn print(format: Format, accounts: &Accounts) {
    match format {
        Format::Text => print!("{}", accounts.text()),
        Format::Json => println!("{}", accounts.json()),
    }
}
