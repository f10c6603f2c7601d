//! When the loop ends, and in which order everything stops.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ended, Owned, RunError, Worker, joined, watching};
use crate::source::{Command, Source};

/// With `--until-end`: how long roots may wait for their proof, and partitions for their first record, after the end was reached.
const SETTLE: Duration = Duration::from_secs(15);

/// How long a stop waits for the ledgers to take down where the databases' logs end.
const KEEP: Duration = Duration::from_secs(2);

impl Worker<'_> {
    /// With `--until-end`: everything that stood in the topics at the start is done, and nothing waits that could still be proven soon.
    pub(super) fn is_at_end(&mut self) -> bool {
        let is_done = self.open.is_empty() && self.retries.is_empty() && self.large.is_empty();
        let is_idle = self.in_flight.is_none() && is_done && self.taking.is_none();
        if !self.options.until_end || !self.was_assigned || !self.has_looked_at_pending || !is_idle {
            return false;
        }
        let reached = |owned: &Owned| owned.halted || owned.next.is_some_and(|next| next.0 >= owned.end);
        if !self.owned.values().all(reached) {
            return false;
        }
        let settle_by = *self.settle_by.get_or_insert_with(|| Instant::now() + SETTLE);
        // What compaction has taken is never compared.
        let is_compared = self.owned.values().all(|owned| owned.halted || owned.last.is_none());
        self.waitlist.is_empty() && is_compared || Instant::now() >= settle_by
    }

    /// Stops in order: intake, what is in flight, the last commit, the group.
    pub(super) async fn finish(&mut self, source: Source, result: Result<(), RunError>) -> Result<Ended, RunError> {
        let deadline = Instant::now() + self.config.shutdown;
        self.shared.stop.cancel();
        let mut result = result;
        if let Some(in_flight) = self.in_flight.take() {
            match tokio::time::timeout_at(deadline, in_flight).await {
                Ok(done) => {
                    let finished = self.on_done(joined(done)?, &source).await;
                    result = result.and(finished);
                }
                Err(_) => tracing::warn!("a batch was still in flight at the deadline; it is done again at the next start"),
            }
        }
        if let Some(expiring) = self.expiring.take() {
            let abort = expiring.abort_handle();
            match tokio::time::timeout_at(deadline, expiring).await {
                Ok(expired) => drop(joined(expired)?),
                Err(_) => abort.abort(),
            }
        }
        watching::keep(&self.shared.engine, deadline.saturating_duration_since(Instant::now()).min(KEEP)).await;
        for (_, drained) in self.drains.drain(..) {
            // A poll thread that no longer listens has ended.
            _ = drained.send(());
        }
        drop(source.commands.send(Command::Stop));
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(2));
        let closed = tokio::time::timeout(left, tokio::task::spawn_blocking(move || source.thread.join())).await;
        tracing::info!(clean = closed.is_ok(), "left the group");
        self.options.accounts.send_replace(self.accounts.clone());
        result?;
        if !self.accounts.balance() {
            return Err(RunError::Unbalanced(self.accounts.text()));
        }
        Ok(if self.has_latched || self.owned.values().any(|owned| owned.halted) { Ended::WithHalts } else { Ended::Clean })
    }
}
