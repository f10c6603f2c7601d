//! The scenes of the story as data, and as text and JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::{Load, Loaded, MAX_CUSTOMERS};
use super::tree::{Tree, millis};
use crate::worker::accounts::Accounts;

/// What is shown, in its order.
#[derive(Debug, Clone)]
pub enum Scene {
    /// Everything starts.
    Opening {
        /// The rules.
        rules: &'static str,
    },
    /// The tables are filled, the worker reads.
    Seeded(Seeded),
    /// A delete and what it entailed.
    Cascade(Cascaded),
    /// A delete that changes nothing.
    Stale(Stale),
    /// A record that cannot be read.
    Letter(Letter),
    /// A load begins.
    LoadBegins(Load),
    /// A load, done.
    Load(Loaded),
    /// The end: what became of every record.
    Accounts(Accounts),
}

/// The tables before anything happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeded {
    /// Rows by entity.
    pub rows: Vec<(String, u64)>,
    /// From the start until the worker had read it all.
    pub ready_after: Duration,
}

/// A delete and what it entailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascaded {
    /// What went.
    pub tree: Tree,
    /// Records of the cascade's own deletes: they came back and had no effect.
    pub echoes: u64,
}

/// A delete of a row that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Where the record stands.
    pub at: String,
    /// Parents found alive, before and after.
    pub spared: (u64, u64),
    /// Orders of the customer, before and after.
    pub orders: u64,
}

/// A dead letter, as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The record's key.
    pub key: String,
    /// Where the letter stands.
    pub letter: String,
    /// Where the record stands.
    pub position: String,
    /// At which stage it failed.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

impl Scene {
    /// For people; ends with a line's end.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Opening { rules } => {
                format!("Rules (rules.yaml):\n\n{}\nThe in-process broker's group takes three seconds to form ...\n", indented(rules))
            }
            Self::Seeded(seeded) => {
                let rows: Vec<String> = seeded.rows.iter().map(|(entity, rows)| format!("{entity} {rows}")).collect();
                let after = seeded.ready_after.as_secs_f64();
                format!("Three databases, a change feed on each, one worker; ready after {after:.1} s. Rows: {}\n", rows.join(", "))
            }
            Self::Cascade(Cascaded { tree, echoes }) => format!(
                "\n1. Customer 1 is deleted at its service. Times: from the commit of that delete until the removal is durable.\n\n{}\n   The worker's own deletes of orders came back as {echoes} records: no effect.\n",
                indented(&tree.text())
            ),
            Self::Stale(Stale { at, spared: (before, after), orders }) => format!(
                "\n2. A stale delete: {at} says that customer 2 is gone.\n\n    no effect: the parent exists (parents found alive: {before} before, {after} after; its {orders} orders and its copy stay)\n"
            ),
            Self::Letter(letter) => format!(
                "\n3. A record that cannot be read: {} has the key {}.\n\n    kept as {}\n    stage   {}\n    reason  {}\n    hint    {}\n",
                letter.position, letter.key, letter.letter, letter.stage, letter.reason, letter.hint
            ),
            Self::LoadBegins(load) => {
                let cut = if load.customers() < load.asked() {
                    format!(", cut to {MAX_CUSTOMERS}: the in-process broker keeps about 5 MiB per partition")
                } else {
                    String::new()
                };
                format!("\n4. A load: {} deletes per second, {} customers{cut}.\n", load.rate, load.asked())
            }
            Self::Load(loaded) => load_text(loaded),
            Self::Accounts(accounts) => accounts_text(accounts),
        }
    }

    /// For programs: the name in the document, and what stands under it. The scenes that only announce have none.
    #[must_use]
    pub fn json(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::Opening { .. } | Self::LoadBegins(_) => None,
            Self::Seeded(Seeded { rows, ready_after }) => {
                let rows: serde_json::Map<String, Value> = rows.iter().map(|(entity, rows)| (entity.clone(), json!(rows))).collect();
                Some(("seeded", json!({"rows": rows, "ready_after_ms": millis(*ready_after)})))
            }
            Self::Cascade(Cascaded { tree, echoes }) => Some(("cascade", json!({"root": tree.json(), "echoes_without_effect": echoes}))),
            Self::Stale(Stale { at, spared: (before, after), orders }) => Some((
                "stale_delete",
                json!({"position": at, "outcome": "no effect", "why": "the parent exists", "spared_before": before, "spared_after": after, "orders": orders}),
            )),
            Self::Letter(Letter { key, letter, position, stage, reason, hint }) => Some((
                "dead_letter",
                json!({"key": key, "letter": letter, "position": position, "stage": stage, "reason": reason, "hint": hint}),
            )),
            Self::Load(Loaded { customers, rows, took, p50, p99, max }) => Some((
                "load",
                json!({
                    "customers": customers, "rows": rows, "took_ms": millis(*took),
                    "delay_ms": {"p50": millis(*p50), "p99": millis(*p99), "max": millis(*max)},
                }),
            )),
            Self::Accounts(accounts) => {
                let mut value = accounts.json();
                if let Some(members) = value.as_object_mut() {
                    members.insert("balance".to_owned(), json!(accounts.balance()));
                }
                Some(("accounts", value))
            }
        }
    }
}

fn load_text(Loaded { customers, rows, took, p50, p99, max }: &Loaded) -> String {
    let removed: u64 = rows.values().sum();
    let each: Vec<String> = rows.iter().map(|(entity, rows)| format!("{entity} {rows}")).collect();
    format!(
        "\n    {customers} customers deleted in {:.1} s: {removed} rows removed elsewhere ({}), and {customers} copies\n    from delete to all rows gone, by way of feed and broker: p50 {} ms, p99 {} ms, slowest {} ms\n",
        took.as_secs_f64(),
        each.join(", "),
        p50.as_millis(),
        p99.as_millis(),
        max.as_millis()
    )
}

fn accounts_text(accounts: &Accounts) -> String {
    let sum = |count: fn(&crate::worker::accounts::Account) -> u64| accounts.partitions.values().map(count).sum::<u64>();
    let mut skipped = std::collections::BTreeMap::<&str, u64>::new();
    for (reason, count) in accounts.partitions.values().flat_map(|account| &account.skipped) {
        *skipped.entry(reason).or_default() += count;
    }
    let reasons: Vec<String> = skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let letters = sum(|account| account.dead_letters);
    format!(
        "\nEvery record is accounted for: {} read = {} applied + {} without effect + {} skipped{} + {letters} dead letter{}.\n",
        sum(|account| account.consumed),
        sum(|account| account.applied),
        sum(|account| account.no_effect),
        skipped.values().sum::<u64>(),
        if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) },
        if letters == 1 { "" } else { "s" }
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {}\n", line.trim_end())).collect()
}
