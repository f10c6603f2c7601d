//! `entail schema`: JSON Schemas of the files, for editors.

use clap::{Args, ValueEnum};

use crate::error::Exit;

/// What a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Of {
    /// The rules.
    Rules,
    /// entail.yaml.
    Settings,
    /// Tests of rules.
    Tests,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Of which file.
    #[arg(value_enum, default_value = "rules")]
    of: Of,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    print!(
        "{}",
        match arguments.of {
            Of::Rules => include_str!("../schema/rules.json"),
            Of::Settings => include_str!("../schema/settings.json"),
            Of::Tests => include_str!("../schema/tests.json"),
        }
    );
    Exit::Done
}
