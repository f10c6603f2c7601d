//! Arguments, one command, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use entail::commands::{self, Cli};
use entail::error::{Exit, chain};

fn main() -> ExitCode {
    stop_when_nobody_reads();
    match commands::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            Exit::Usage.into()
        }
    }
}

/// `entail check --codes | head` ends when `head` does, without a word: the standard library's `print!` panics there.
fn stop_when_nobody_reads() {
    const SIGPIPE: i32 = 128 + 13;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|what| what.starts_with("failed printing to stdout")) {
            std::process::exit(SIGPIPE);
        }
        usual(panic);
    }));
}
