//! What came of a batch: counted, logged, and remembered where it waits.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Worker;
use super::attempt::{Done, Fate};
use crate::change::Position;
use crate::engine::{Report, is_large};

impl Worker<'_> {
    pub(super) fn count(&mut self, done: &Done) {
        for (position, fate) in &done.fates {
            // A record whose part was not finished is not consumed yet.
            if done.progress.get(&position.partition).is_none_or(|next| *next < position.next()) {
                continue;
            }
            let account = self.accounts.partitions.entry(position.partition.clone()).or_default();
            match fate {
                Fate::Skipped(reason) => account.skip(reason),
                Fate::Worked(outcome) => account.count(*outcome),
                Fate::DeadLetter(_) => {
                    account.dead_letter();
                    if let Some(owned) = self.owned.get_mut(&position.partition) {
                        owned.dead_letters.push_back(Instant::now());
                        while owned.dead_letters.front().is_some_and(|at| at.elapsed() >= self.config.dead_letters.per) {
                            owned.dead_letters.pop_front();
                        }
                    }
                }
            }
        }
        debug_assert!(self.accounts.balance(), "{}", self.accounts.text());
    }

    pub(super) fn on_report(&mut self, mut report: Report) {
        // Of a partition that was lost meanwhile, or stands still, the ledger keeps what waits.
        let ours = self.partitions();
        report.waiting.retain(|waiting| ours.contains(&waiting.pending.cause.partition));
        for (name, rows) in &report.rows {
            *self.accounts.rows.entry(name.clone()).or_default() += rows;
        }
        for (name, rows) in &report.copies {
            *self.accounts.copies.entry(name.clone()).or_default() += rows;
        }
        for (name, rows) in &report.orphans {
            *self.accounts.orphans.entry(name.clone()).or_default() += rows;
            tracing::warn!(reference = name, rows, "rows point at a parent that is gone or moved, under no_action");
        }
        for (name, rows) in &report.shadow {
            *self.accounts.shadow.entry(name.clone()).or_default() += rows;
        }
        for (name, rows) in &report.put_back_orphaned {
            *self.accounts.orphans.entry(name.clone()).or_default() += rows;
        }
        tell_rescued(&report);
        self.accounts.spared += report.spared;
        self.accounts.settled_later += report.settled_later;
        self.has_latched |= !report.latched.is_empty();
        for latch in &report.latched {
            tracing::error!(scope = latch.scope, reason = latch.reason, detail = latch.detail, "latched until it is released");
        }
        self.large.on_report(&report, &ours);
        tell_parked(&report);
        for (target, key) in &report.settled {
            self.waitlist.settle(*target, key);
        }
        if let Some(observer) = &self.options.observer {
            observer(&report);
        }
        if !report.waiting.is_empty() {
            self.mark_at = Instant::now();
        }
        for waiting in report.waiting {
            self.waitlist.insert(waiting);
        }
    }
}

/// What earlier, interrupted attempts had taken too much of, and what became of it (H47).
pub(crate) fn tell_rescued(report: &Report) {
    for (entity, rows) in report.put_back.iter().filter(|(_, rows)| **rows > 0) {
        tracing::warn!(
            entity,
            rows,
            "rows put back: an interrupted attempt had taken them below rows that were given another parent since"
        );
    }
    for (name, rows) in &report.put_back_orphaned {
        tracing::error!(
            reference = name,
            rows,
            "rows that are put back point at a parent that is missing: unless its own event is still to come, they stay orphans"
        );
    }
    for (entity, rows) in report.not_put_back.iter().filter(|(_, rows)| **rows > 0) {
        tracing::error!(entity, rows, "rows that an interrupted attempt took cannot be put back; the archive has them");
    }
    for (cascade, rows) in &report.not_looked_at {
        tracing::warn!(
            cascade,
            rows,
            "a large cascade ended; if a worker crashed over it, rows may be missing below rows that were given another parent meanwhile: they are not looked for"
        );
    }
}

/// One line for all roots that are parked for the same reason: a mass delete parks a million.
fn tell_parked(report: &Report) {
    let mut parked: BTreeMap<(&str, &str, &str), (u64, &Position)> = BTreeMap::new();
    for pending in report.parked.iter().filter(|pending| pending.reason != "wait" && !is_large(pending)) {
        parked.entry((&pending.entity, &pending.reason, &pending.detail)).or_insert((0, &pending.cause)).0 += 1;
    }
    for ((entity, reason, detail), (roots, first)) in parked {
        tracing::warn!(entity, reason, detail, roots, %first, "parked");
    }
}
