//! `entail graph`: the rules as a picture.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::{Global, failed};
use crate::diagram::Diagram;
use crate::error::Exit;
use crate::rules::suggest::did_you_mean;
use crate::startup;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A tree for the terminal.
    Text,
    /// For a README: GitHub and GitLab draw it.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The rules: a file or a directory. Without it, those that the settings name.
    path: Option<PathBuf>,
    /// Only what a delete of this entity can reach.
    #[arg(long, value_name = "ENTITY")]
    from: Option<String>,
    /// How it is drawn.
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let path = match global.rules_path(arguments.path.clone()) {
        Ok(path) => path,
        Err(exit) => return Ok(exit),
    };
    let rules = match startup::read_rules(&path) {
        Ok((rules, ..)) => rules,
        Err(error) => return Ok(failed(&error)),
    };
    let from = match &arguments.from {
        None => None,
        Some(name) => match rules.entity_ids().find(|(_, entity)| entity.name == *name) {
            Some((id, _)) => Some(id),
            None => {
                let names: Vec<&str> = rules.entities.iter().map(|entity| entity.name.as_str()).collect();
                eprintln!("error: there is no entity `{name}` in the rules\n  help: {}", did_you_mean(name, &names));
                return Ok(Exit::Usage);
            }
        },
    };
    let diagram = Diagram::new(&rules, from);
    match arguments.format {
        Form::Text => {
            print!("{}", diagram.tree());
            if let Some(reach) = diagram.reach() {
                print!("\n{reach}");
            }
        }
        Form::Mermaid => print!("{}", diagram.mermaid()),
        Form::Dot => print!("{}", diagram.dot()),
        Form::Json => println!("{:#}", diagram.json()),
    }
    Ok(Exit::Done)
}
