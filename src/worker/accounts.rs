//! What became of every record, per partition: consumed = applied + no effect + skipped + dead letters (promise 4). Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::change::TopicPartition;
use crate::engine::Outcome;

/// The account of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Records that are durably done with.
    pub consumed: u64,
    /// Records for which rows changed.
    pub applied: u64,
    /// Records for which nothing had to change.
    pub no_effect: u64,
    /// Records passed over, by reason; roots that wait or are parked among them.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Records kept as dead letters.
    pub dead_letters: u64,
}

impl Account {
    /// Counts a record that was worked.
    pub fn count(&mut self, outcome: Outcome) {
        self.consumed += 1;
        match outcome {
            Outcome::Applied => self.applied += 1,
            Outcome::NoEffect => self.no_effect += 1,
            Outcome::Parked(reason) => *self.skipped.entry(reason).or_default() += 1,
        }
    }

    /// Counts a record that was passed over.
    pub fn skip(&mut self, reason: &'static str) {
        self.consumed += 1;
        *self.skipped.entry(reason).or_default() += 1;
    }

    /// Counts a dead letter.
    pub fn dead_letter(&mut self) {
        self.consumed += 1;
        self.dead_letters += 1;
    }

    /// Whether the sum is exact.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.consumed == self.applied + self.no_effect + self.skipped.values().sum::<u64>() + self.dead_letters
    }
}

/// All accounts, and what was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// By partition.
    pub partitions: BTreeMap<TopicPartition, Account>,
    /// Rows changed, per reference.
    pub rows: BTreeMap<String, u64>,
    /// Rows of copies changed, per entity.
    pub copies: BTreeMap<String, u64>,
    /// Roots spared because their parent was found alive.
    pub spared: u64,
    /// Roots that were pending and are settled now, counted when they are.
    pub settled_later: u64,
    /// Rows that references in shadow would have changed.
    pub shadow: BTreeMap<String, u64>,
    /// Child rows found under `no_action`, per reference.
    pub orphans: BTreeMap<String, u64>,
}

impl Accounts {
    /// Whether every sum is exact.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.partitions.values().all(Account::balances)
    }

    /// A table for a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("partition                                  consumed    applied  no effect    skipped dead letters\n");
        for (partition, account) in &self.partitions {
            let skipped: u64 = account.skipped.values().sum();
            let reasons = account.skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ");
            let reasons = if reasons.is_empty() { String::new() } else { format!("  ({reasons})") };
            let line = writeln!(
                text,
                "{:<40} {:>10} {:>10} {:>10} {skipped:>10} {:>12}{reasons}",
                partition.to_string(),
                account.consumed,
                account.applied,
                account.no_effect,
                account.dead_letters
            );
            line.expect("a String takes any text");
        }
        for (what, counts) in [
            ("rows by", &self.rows),
            ("copied rows of", &self.copies),
            ("orphans left by", &self.orphans),
            ("rows in shadow by", &self.shadow),
        ] {
            for (name, count) in counts {
                writeln!(text, "{what} {name}: {count}").expect("a String takes any text");
            }
        }
        writeln!(text, "parents found alive: {}; pending roots settled later: {}", self.spared, self.settled_later)
            .expect("a String takes any text");
        text
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let partitions: BTreeMap<String, serde_json::Value> = self
            .partitions
            .iter()
            .map(|(partition, account)| {
                let Account { consumed, applied, no_effect, skipped, dead_letters } = account;
                let value = serde_json::json!({
                    "consumed": consumed, "applied": applied, "no_effect": no_effect, "skipped": skipped, "dead_letters": dead_letters,
                });
                (partition.to_string(), value)
            })
            .collect();
        serde_json::json!({
            "partitions": partitions, "rows": self.rows, "copies": self.copies, "orphans": self.orphans, "shadow": self.shadow,
            "spared": self.spared, "settled_later": self.settled_later,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_counting_keeps_the_balance() {
        let mut account = Account::default();
        account.count(Outcome::Applied);
        account.count(Outcome::NoEffect);
        account.count(Outcome::Parked("restrict"));
        account.skip("heartbeat");
        account.dead_letter();
        assert!(account.balances());
        assert_eq!(account.consumed, 5);
        account.consumed += 1;
        assert!(!account.balances());
    }
}
