//! Arguments, one command, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use entail::commands::{self, Cli};
use entail::error::{Exit, chain};

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            Exit::Usage.into()
        }
    }
}
