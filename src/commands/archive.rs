//! `entail archive purge`: images of rows that must not be kept any longer.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Format;
use super::shared::{Global, bar, failed, parse_root, runtime};
use crate::error::Exit;
use crate::ledger::{self, Purge};
use crate::startup::{self, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Remove archived rows for good. The audit keeps its counts; what is purged cannot be undone.
    Purge(PurgeArguments),
}

#[derive(Debug, Args)]
struct PurgeArguments {
    /// Rows of this entity.
    #[arg(long, value_name = "NAME")]
    entity: Option<String>,
    /// The row of the entity with this key; the parts of a longer key are parted by commas, or written as a JSON list.
    #[arg(long, requires = "entity")]
    key: Option<String>,
    /// Rows that went with this root, `crm.customer:42`; the audit forgets its key, too.
    #[arg(long, value_name = "ENTITY:KEY")]
    root: Option<String>,
    /// Rows that were archived longer ago than this: `30d`.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    older_than: Option<Duration>,
    /// Everything, if nothing else is said.
    #[arg(long, conflicts_with_all = ["entity", "root", "older_than"])]
    all: bool,
    /// Only say how many.
    #[arg(long)]
    dry_run: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

impl PurgeArguments {
    fn purge(&self) -> Result<Purge, String> {
        let key = |text: &String| ledger::parse_key(text).ok_or_else(|| format!("`{text}` is not a key"));
        let purge = Purge {
            entity: self.entity.clone(),
            key: self.key.as_ref().map(key).transpose()?,
            root: self.root.as_deref().map(parse_root).transpose()?,
            older_than: self.older_than,
        };
        if purge == Purge::default() && !self.all {
            return Err("what? give --entity, --root or --older-than, or --all".to_owned());
        }
        Ok(purge)
    }
}

pub(super) fn run(global: &Global, Arguments { command: Command::Purge(arguments) }: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let purge = match arguments.purge() {
        Ok(purge) => purge,
        Err(problem) => {
            eprintln!("error: {problem}\n  help: `entail archive purge --help`");
            return Ok(Exit::Usage);
        }
    };
    let (group, progress) = (&config.kafka.group, bar("rows"));
    let purged = runtime()?.block_on(async {
        let model = startup::model_of_ledgers(&config, arguments.wait).await?;
        let mut purged = Vec::new();
        for id in model.targets() {
            let handle = model.databases.handle(id);
            let failed = |source| StartError::Database { service: handle.name.clone(), source };
            let all = ledger::to_purge(&*handle.database, group, &purge).await.map_err(failed)?;
            let mut rows = 0;
            let mut more = if arguments.dry_run { 0 } else { u64::MAX };
            while more > 0 {
                more = ledger::purge(&*handle.database, group, &purge).await.map_err(failed)?;
                rows += more;
                progress(rows.min(all), all);
            }
            purged.push((handle.name.clone(), if arguments.dry_run { all } else { rows }));
        }
        model.databases.close().await;
        Ok::<_, StartError>(purged)
    });
    let purged = match purged {
        Ok(purged) => purged,
        Err(error) => return Ok(failed(&error)),
    };
    if arguments.format == Format::Json {
        let databases = purged.iter().map(|(name, rows)| serde_json::json!({"database": name, "rows": rows})).collect::<Vec<_>>();
        println!("{}", serde_json::json!({"purged": !arguments.dry_run, "databases": databases}));
    } else {
        let verb = if arguments.dry_run { "would be purged" } else { "purged" };
        purged.iter().for_each(|(name, rows)| println!("{rows} archived rows {verb} in {name}"));
    }
    Ok(Exit::Done)
}
