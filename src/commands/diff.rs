//! `entail diff`: what a change of rules means.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Format;
use super::shared::{failed, wrapped};
use crate::diff::{Change, Diff};
use crate::error::Exit;
use crate::startup;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The rules as they were: a file or a directory.
    old: PathBuf,
    /// The rules as they are to be.
    new: PathBuf,
    /// How the changes look.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Exits 1 if the new rules may do more than the old ones: for a merge gate.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut read = Vec::new();
    for path in [&arguments.old, &arguments.new] {
        match startup::read_rules(path) {
            Ok((rules, ..)) => read.push(rules),
            Err(error) => {
                eprintln!("{}:", path.display());
                return Ok(failed(&error));
            }
        }
    }
    let [old, new] = read.as_slice() else { return Ok(Exit::Usage) };
    let diff = Diff::of(old, new);
    match arguments.format {
        Format::Text => print!("{}", text(&diff)),
        Format::Json => println!("{:#}", json_of(&diff)),
    }
    Ok(if diff.may_do_more() { Exit::Found } else { Exit::Done })
}

fn text(diff: &Diff) -> String {
    let mut text = String::new();
    for Change { kind, place, what } in &diff.changes {
        text += &wrapped(&format!("{:<9} {place}: {what}", kind.as_str()), "", "          ");
        text.push('\n');
    }
    let listed = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    for (entity, (more, less)) in &diff.reach {
        for (names, word) in [(more, "newly removes"), (less, "no longer removes")] {
            if !names.is_empty() {
                text += &wrapped(&format!("a delete of {entity} {word} rows of: {}", listed(names)), "", "          ");
                text.push('\n');
            }
        }
    }
    text + match (diff.changes.is_empty(), diff.may_do_more()) {
        (true, _) => "the same rules\n",
        (_, true) => "the new rules may do more than the old ones\n",
        (_, false) => "the new rules do no more than the old ones\n",
    }
}

fn json_of(diff: &Diff) -> serde_json::Value {
    let change = |change: &Change| json!({ "kind": change.kind.as_str(), "place": change.place, "what": change.what });
    let reach = |(entity, (more, less)): (&String, &(_, _))| json!({ "of": entity, "newly_removes": more, "no_longer_removes": less });
    json!({
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "deletes": diff.reach.iter().map(reach).collect::<Vec<_>>(),
        "may_do_more": diff.may_do_more(),
    })
}
