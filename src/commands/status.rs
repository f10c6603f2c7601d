//! `entail status`: what is shut, what waits, how far it is, what was done.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Format;
use super::shared::{Global, failed, runtime, silent};
use crate::engine::{LARGE, PORTIONS, WHOLE, refusal};
use crate::error::{Exit, chain};
use crate::ledger::{self, Standing};
use crate::startup::{self, Keepers, StartError};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Also list so many pending roots one by one, the oldest first.
    #[arg(long, value_name = "N", default_value = "0")]
    parked: u64,
    /// How the result looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
}

/// One database's part.
struct Part {
    name: String,
    standing: Standing,
    parked: Vec<[String; 6]>,
    /// References that are new, and since when.
    new: Vec<(String, String)>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = match global.read() {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let group = &config.kafka.group;
    let parts = runtime()?.block_on(async {
        let Keepers { databases, ids, silent } = startup::keepers(&config, arguments.wait).await?;
        let mut parts = Vec::new();
        for id in ids {
            let handle = databases.handle(id);
            let failed = |source| StartError::Database { service: handle.name.clone(), source };
            let standing = ledger::standing(&*handle.database, group).await.map_err(failed)?;
            let parked = ledger::parked(&*handle.database, group, arguments.parked).await.map_err(failed)?;
            let known = ledger::known_references(&*handle.database, group).await.map_err(failed)?;
            let new = known.into_iter().filter(|(_, known)| known.is_new).map(|(name, known)| (name, known.since)).collect();
            parts.push(Part { name: handle.name.clone(), standing, parked, new });
        }
        databases.close().await;
        Ok::<_, StartError>((parts, silent))
    });
    let (parts, unasked) = match parts {
        Ok(parts) => parts,
        Err(error) => return Ok(failed(&error)),
    };
    match arguments.format {
        Format::Json => println!("{}", as_json(group, &parts, &unasked)),
        Format::Text => print!("{}", as_text(group, &parts)),
    }
    let is_held = |part: &Part| !part.standing.latches.is_empty() || part.standing.pending.iter().any(|held| !goes_on(held));
    let held = if parts.iter().any(is_held) { Exit::Found } else { Exit::Done };
    Ok(silent(&unasked).unwrap_or(held))
}

/// Whether pending roots need nobody: they wait for their proof, or are worked in portions, and no database has refused them.
fn goes_on(held: &ledger::Held) -> bool {
    let reason = held.reason.as_str();
    reason == PORTIONS || ["wait", LARGE, WHOLE].contains(&reason) && refusal(reason, &held.detail).is_none()
}

/// What is shut, each scope once, with the databases that say so.
fn latches(parts: &[Part]) -> BTreeMap<&[String; 4], Vec<&str>> {
    let mut latches: BTreeMap<&[String; 4], Vec<&str>> = BTreeMap::new();
    for part in parts {
        for latch in &part.standing.latches {
            match latches.iter_mut().find(|(known, _)| known[..3] == latch[..3]) {
                Some((_, databases)) => databases.push(&part.name),
                None => drop(latches.insert(latch, vec![&part.name])),
            }
        }
    }
    latches
}

fn as_text(group: &str, parts: &[Part]) -> String {
    let mut lines = vec![format!("group {group}")];
    let latches = latches(parts);
    lines.push(if latches.is_empty() { "nothing is shut".to_owned() } else { "shut:".to_owned() });
    for ([scope, reason, detail, since], databases) in &latches {
        let scope = scope.trim_start_matches(ledger::PAUSE);
        lines.push(format!("  {scope} ({reason}, since {since}, in {}): {detail}", databases.join(", ")));
        lines.push(match reason.as_str() {
            ledger::PAUSED if scope == ledger::EVERYTHING => "    entail resume".to_owned(),
            ledger::PAUSED => format!("    entail resume {}", scope.trim_start_matches("reference:")),
            _ => format!("    entail release {scope}"),
        });
    }
    for Part { name, standing, parked, new } in parts {
        lines.push(format!("database {name}"));
        for held in &standing.pending {
            let verb = if goes_on(held) { "wait" } else { "are parked" };
            let detail = if held.detail.is_empty() { String::new() } else { format!(": {}", held.detail) };
            lines.push(format!("  {} roots of {} {verb} ({}{detail}), since {}", held.roots, held.entity, held.reason, held.since));
        }
        lines.extend(
            parked.iter().map(|[entity, key, reason, _, cause, since]| format!("    {entity} {key}: {reason}, {cause}, since {since}")),
        );
        for done in &standing.references {
            let what = match done.action.as_str() {
                "delete" => "deleted",
                "undo" => "put back",
                _ => "changed",
            };
            lines.push(format!("  {}: {} rows {what} in {} cascades, last {}", done.reference, done.rows, done.cascades, done.last));
        }
        for (name, since) in new {
            lines.push(format!("  {name}: new since {since}, in shadow until it is promoted"));
            lines.push(format!("    entail promote {name}"));
        }
        lines.extend(
            standing.shadow.iter().map(|(name, rows, since)| format!("  {name}: {rows} rows would have changed (shadow), since {since}")),
        );
        for one in &standing.progress {
            lines.push(format!("  {}[{}] up to {} (epoch {}, {})", one.topic, one.partition, one.next, one.epoch, one.updated_at));
        }
        let oldest = standing.oldest.as_ref().map(|at| format!(", the oldest of {at}")).unwrap_or_default();
        lines.push(format!("  archive: {} rows, {} put back{oldest}", standing.archived, standing.undone));
    }
    lines.join("\n") + "\n"
}

fn as_json(group: &str, parts: &[Part], unasked: &[StartError]) -> serde_json::Value {
    let part = |Part { name, standing, parked, new }: &Part| {
        let latches = standing
            .latches
            .iter()
            .map(|[scope, reason, detail, since]| json!({"scope": scope, "reason": reason, "detail": detail, "since": since}));
        let pending = standing.pending.iter().map(|held| {
            json!({"entity": held.entity, "reason": held.reason, "detail": held.detail, "roots": held.roots, "since": held.since, "example": held.example})
        });
        let parked = parked.iter().map(|[entity, key, reason, detail, cause, since]| {
            json!({"entity": entity, "key": key, "reason": reason, "detail": detail, "cause": cause, "since": since})
        });
        let progress = standing.progress.iter().map(|one| {
            json!({"topic": one.topic, "partition": one.partition, "epoch": one.epoch, "next_offset": one.next, "updated_at": one.updated_at})
        });
        let references = standing.references.iter().map(|done| {
            json!({"reference": done.reference, "action": done.action, "cascades": done.cascades, "rows": done.rows, "last": done.last})
        });
        let shadow = standing.shadow.iter().map(|(name, rows, since)| json!({"reference": name, "rows": rows, "since": since}));
        json!({
            "database": name, "latches": latches.collect::<Vec<_>>(), "pending": pending.collect::<Vec<_>>(),
            "parked": parked.collect::<Vec<_>>(), "progress": progress.collect::<Vec<_>>(), "references": references.collect::<Vec<_>>(),
            "shadow": shadow.collect::<Vec<_>>(),
            "new": new.iter().map(|(name, since)| json!({"reference": name, "since": since})).collect::<Vec<_>>(),
            "archive": {"rows": standing.archived, "undone": standing.undone, "oldest": standing.oldest},
        })
    };
    let unasked: Vec<String> = unasked.iter().map(|error| chain(error)).collect();
    json!({"group": group, "databases": parts.iter().map(part).collect::<Vec<_>>(), "unasked": unasked})
}
