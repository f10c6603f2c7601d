//! Large roots, a portion at a time, as the worker does it.

use entail::engine::{Batch, Extent, LARGE, PORTIONS, Portion, Retry, WHOLE};
use entail::ledger::Pending;
use fastrand::Rng;

use super::drive::Driver;
use super::{Counts, Fault};

impl Driver<'_> {
    /// Works a large root to its end, with whatever else there is in between.
    pub(super) async fn portions(&mut self, pending: Pending, rng: &mut Rng, counts: &mut Counts) -> Result<(), Fault> {
        self.chronicle.begin_pieces();
        self.work_to_end(pending, rng, counts).await?;
        if self.is_torn {
            return Ok(());
        }
        let is_held = !self.pending().await?.is_empty();
        self.chronicle.end_pieces(self.schema, is_held)
    }

    async fn work_to_end(&mut self, pending: Pending, rng: &mut Rng, counts: &mut Counts) -> Result<(), Fault> {
        let most = self.engine.rows_allowed(&pending).await?;
        let counted = self.engine.count(&pending, most).await?;
        let mut extent = Extent::Portion(Portion::first(counted));
        loop {
            let retries = vec![Retry { pending: pending.clone(), proven: None }];
            let Some(report) = self.once(Batch { retries, extent, ..Batch::default() }, counts).await? else { return Ok(()) };
            counts.portions += 1;
            let is_it = |one: &&Pending| (&one.entity, &one.columns, &one.key) == (&pending.entity, &pending.columns, &pending.key);
            let reason = report.parked.iter().find(is_it).map(|one| one.reason.clone());
            let width = report.next_width;
            self.take(report, counts)?;
            extent = match reason.as_deref() {
                Some(PORTIONS) => Extent::Portion(Portion { width, counted: None }),
                Some(WHOLE) => Extent::Whole,
                Some(LARGE) => return Err(Fault::Broke("a portion is too large to be one".to_owned())),
                Some(_) | None => return Ok(()),
            };
            if rng.bool() {
                self.step(rng, counts).await?;
            }
        }
    }
}
