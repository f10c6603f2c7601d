//! `entail check`: are the rules sound? Offline.

use std::path::PathBuf;

use clap::Args;

use super::Format;
use super::shared::Global;
use crate::error::Exit;
use crate::rules::{self, Diagnostic, Severity, SourceFile};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The rules: a file or a directory. Without it, those that the settings name.
    path: Option<PathBuf>,
    /// How the problems look.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let path = match arguments.path.clone().or_else(|| global.rules.clone()) {
        Some(path) => path,
        None => match global.read() {
            Ok(config) => config.rules,
            Err(exit) => return Ok(exit),
        },
    };
    let (problems, files, rules) = match rules::load(&path) {
        Ok(files) => {
            let checked = rules::check(&files);
            (checked.diagnostics, files, checked.rules)
        }
        Err(problems) => (problems, Vec::new(), None),
    };
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    print(arguments.format, &problems, &files);
    if let (Format::Text, Some(rules)) = (arguments.format, &rules) {
        println!(
            "{}: {} entities, {} references, {} replicas; no errors, {} warnings",
            path.display(),
            rules.entities.len(),
            rules.references.len(),
            rules.replicas.len(),
            problems.len()
        );
    } else if arguments.format == Format::Text {
        println!("{}: {errors} errors, {} warnings", path.display(), problems.len() - errors);
    }
    Ok(if errors > 0 {
        Exit::Usage
    } else if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Found
    })
}

fn print(format: Format, problems: &[Diagnostic], files: &[SourceFile]) {
    match format {
        Format::Text => print!("{}", rules::render_text(problems, files)),
        Format::Json => println!("{}", rules::render_json(problems, files)),
    }
}
