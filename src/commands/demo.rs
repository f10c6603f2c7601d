//! `entail demo`: stub until the next file.
use crate::error::Exit;
use clap::Args;
#[derive(Debug, Args)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments) -> anyhow::Result<Exit> {
    Ok(Exit::Done)
}
