//! What the ledgers need not keep any longer is removed beside the work.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{EXPIRE, Owned, RETRY_PARKED, Worker};
use crate::databases::Handle;
use crate::engine::Engine;
use crate::error::chain;
use crate::ledger;
use crate::sink::SinkError;

/// When it is looked again whether our partitions have been read.
const CATCHING_UP: Duration = Duration::from_secs(10);

impl Worker<'_> {
    /// Begins it, unless it is under way. Key changes are kept until the records of the time in which they were made have been read: what stood in
    /// our partitions when we took them.
    pub(super) fn expire(&mut self) {
        self.expire_at = Instant::now() + EXPIRE;
        if self.expiring.is_some() {
            return;
        }
        let progress = if self.taking.is_some() { Progress::Behind } else { progress(self.owned.values()) };
        let with_moves = progress == Progress::Read;
        let next = match progress {
            Progress::Read => EXPIRE,
            Progress::Halted => RETRY_PARKED,
            Progress::Behind => CATCHING_UP,
        };
        let (engine, stop) = (Arc::clone(&self.shared.engine), self.shared.stop.clone());
        let expiring = async move { if expire(&engine, &stop, with_moves).await { next } else { RETRY_PARKED } };
        self.expiring = Some(tokio::spawn(expiring));
    }

    /// Goes on after so long: what could not be removed, or not yet, is tried again soon.
    pub(super) fn on_expired(&mut self, next: Duration) {
        self.expiring = None;
        self.expire_at = Instant::now() + next;
    }
}

/// How far our partitions have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// To where they ended when we took them.
    Read,
    /// One of them stands still.
    Halted,
    /// Not so far yet, or we have none.
    Behind,
}

fn progress<'a>(owned: impl Iterator<Item = &'a Owned> + Clone) -> Progress {
    let is_read = |owned: &Owned| owned.next.is_some_and(|next| next.0 >= owned.end);
    if owned.clone().any(|owned| owned.halted) {
        Progress::Halted
    } else if owned.clone().next().is_some() && owned.clone().all(is_read) {
        Progress::Read
    } else {
        Progress::Behind
    }
}

/// In every database that keeps a ledger, until nothing is left or the worker stops. Returns whether no database refused.
async fn expire(engine: &Engine, stop: &CancellationToken, with_moves: bool) -> bool {
    let mut is_done = true;
    for id in engine.model.targets() {
        let handle = engine.model.databases.handle(id);
        if let Err(error) = expire_in(engine, handle, stop, with_moves).await {
            tracing::warn!(service = handle.name, error = %chain(&error), "expired rows of the ledger could not be removed now");
            is_done = false;
        }
    }
    is_done
}

async fn expire_in(engine: &Engine, handle: &Handle, stop: &CancellationToken, with_moves: bool) -> Result<(), SinkError> {
    let (database, group) = (&handle.database, &engine.owner.group);
    while !stop.is_cancelled() {
        let began = Instant::now();
        let mut session = database.begin().await?;
        let has_more = ledger::expire_images(session.as_mut(), database.dialect(), group).await?;
        if !has_more && with_moves {
            ledger::expire_moves(session.as_mut(), database.dialect(), group, engine.keep).await?;
        }
        session.commit().await?;
        if !has_more {
            break;
        }
        // Half of the time is for others: a file has one writer at a time.
        tokio::select! {
            () = tokio::time::sleep(began.elapsed()) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::NextOffset;
    use crate::source::Assignment;
    use crate::worker::take::Start;

    /// A partition that ended at 10, read up to here; without a place it stands still.
    fn owned(next: Option<i64>) -> Owned {
        let start = next.map(|next| Start { next: NextOffset(next), last: None });
        Owned::new(Assignment::default(), start.as_ref(), 10)
    }

    #[test]
    fn h23_key_changes_are_kept_until_all_that_stood_in_our_partitions_is_read() {
        let of = |all: &[Option<i64>]| progress(all.iter().map(|next| owned(*next)).collect::<Vec<_>>().iter());
        assert_eq!(of(&[Some(10), Some(11)]), Progress::Read);
        assert_eq!(of(&[Some(10), Some(9)]), Progress::Behind);
        assert_eq!(of(&[]), Progress::Behind, "without a partition nothing is known");
        assert_eq!(of(&[Some(10), Some(9), None]), Progress::Halted);
    }
}
