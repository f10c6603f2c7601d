//! `entail completions` and `entail man`: what shells and `man` want of the command line, from its own description.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use super::Cli;
use crate::error::Exit;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write one page for each command into this directory, instead of the first one to stdout.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(arguments: &Completions) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "entail", &mut text);
    std::io::stdout().write_all(&text).context("writing completions")?;
    Ok(Exit::Done)
}

pub(super) fn man(arguments: &Man) -> anyhow::Result<Exit> {
    match &arguments.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("writing manual pages into {}", dir.display()))?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text).context("writing the manual page")?;
            std::io::stdout().write_all(&text).context("writing the manual page")?;
        }
    }
    Ok(Exit::Done)
}
