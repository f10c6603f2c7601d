//! The command line: what can be said, and nothing else. Each command has a file of its own.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::Exit;
use crate::telemetry::{self, LogFormat};

mod archive;
mod check;
mod demo;
mod diff;
mod graph;
mod init;
mod migrate;
mod pause;
mod promote;
mod release;
mod replay;
mod run;
mod schema;
mod shared;
mod shell;
mod status;
mod test;
mod undo;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  done, and something was found
  2  the command line, the settings or the rules are wrong
  3  halted: a person has to decide
  4  a server could not be reached in the time given";

/// Foreign keys across services.
#[derive(Debug, Parser)]
#[command(name = "entail", version, about = "Foreign keys across services", after_help = EXIT_CODES)]
pub struct Cli {
    /// The settings: how this process connects and runs.
    #[arg(long, global = true, env = "ENTAIL_CONFIG", default_value = "entail.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// The rules, instead of those that the settings name: a file or a directory.
    #[arg(long, global = true, value_name = "PATH")]
    pub rules: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How data on stdout looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the rules; with `--connect` against every server that they touch.
    #[command(after_help = EXIT_CODES)]
    Check(check::Arguments),
    /// Write rules, settings, grants and connectors from what is in the databases; nothing is overwritten.
    #[command(after_help = EXIT_CODES)]
    Init(init::Arguments),
    /// Draw the rules: what hangs on what, and what a delete can reach.
    #[command(after_help = EXIT_CODES)]
    Graph(graph::Arguments),
    /// Play the tests beside the rules: given rows, a change, and what must be left.
    #[command(after_help = EXIT_CODES)]
    Test(test::Arguments),
    /// What a change of rules means: exits 1 if the new ones may do more than the old ones.
    #[command(after_help = EXIT_CODES)]
    Diff(diff::Arguments),
    /// Read change topics and apply what the changes entail.
    #[command(after_help = EXIT_CODES)]
    Run(run::Arguments),
    /// Read change topics again and say what would change; with `--apply` do it.
    #[command(after_help = EXIT_CODES)]
    Replay(replay::Arguments),
    /// Make the ledger's tables in every database that the rules write to.
    #[command(after_help = EXIT_CODES)]
    Migrate(migrate::Arguments),
    /// What is shut, what waits, how far it is, what was done.
    #[command(after_help = EXIT_CODES)]
    Status(status::Arguments),
    /// Stop everything, or one reference, within a second.
    #[command(after_help = EXIT_CODES)]
    Pause(pause::Arguments),
    /// Go on after a pause.
    #[command(after_help = EXIT_CODES)]
    Resume(pause::Arguments),
    /// Open a reference or partition that was latched.
    #[command(after_help = EXIT_CODES)]
    Release(release::Arguments),
    /// Let a reference write that is new to the group.
    #[command(after_help = EXIT_CODES)]
    Promote(promote::Arguments),
    /// Put whole cascades back from the archive.
    #[command(after_help = EXIT_CODES)]
    Undo(undo::Arguments),
    /// What is kept of removed rows.
    #[command(after_help = EXIT_CODES)]
    Archive(archive::Arguments),
    /// Print the JSON Schema of rules, settings or tests, for editors.
    #[command(after_help = EXIT_CODES)]
    Schema(schema::Arguments),
    /// Print the completions for a shell.
    #[command(after_help = EXIT_CODES)]
    Completions(shell::Completions),
    /// Print the manual page.
    #[command(after_help = EXIT_CODES)]
    Man(shell::Man),
    /// See it work: an embedded broker, three databases, a worker.
    #[command(after_help = EXIT_CODES)]
    Demo(demo::Arguments),
}

/// Runs the command that was asked for.
///
/// # Errors
/// What could not be done, with its causes.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    let quiet = matches!(cli.command, Command::Demo(_) | Command::Check(_) | Command::Test(_) | Command::Init(_));
    telemetry::start(cli.log_format, if quiet { "error,librdkafka=off,rdkafka=off" } else { "info,sqlx=error" });
    let global = shared::Global { config: cli.config, rules: cli.rules };
    match cli.command {
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Init(arguments) => init::run(&global, &arguments),
        Command::Graph(arguments) => graph::run(&global, &arguments),
        Command::Test(arguments) => test::run(&global, &arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Run(arguments) => run::run(&global, &arguments),
        Command::Replay(arguments) => replay::run(&global, &arguments),
        Command::Migrate(arguments) => migrate::run(&global, &arguments),
        Command::Status(arguments) => status::run(&global, &arguments),
        Command::Pause(arguments) => pause::run(&global, &arguments, pause::Switch::Pause),
        Command::Resume(arguments) => pause::run(&global, &arguments, pause::Switch::Resume),
        Command::Release(arguments) => release::run(&global, &arguments),
        Command::Promote(arguments) => promote::run(&global, &arguments),
        Command::Undo(arguments) => undo::run(&global, &arguments),
        Command::Archive(arguments) => archive::run(&global, &arguments),
        Command::Schema(arguments) => Ok(schema::run(&arguments)),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}
