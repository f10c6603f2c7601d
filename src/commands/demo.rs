//! `entail demo`: stub until the next file.
use clap::Args;
use crate::error::Exit;
#[derive(Debug, Args)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments) -> anyhow::Result<Exit> {
    Ok(Exit::Done)
}
