//! What the ledgers need not keep any longer is removed beside the work.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::databases::Handle;
use crate::engine::Engine;
use crate::error::chain;
use crate::ledger;
use crate::sink::SinkError;

/// Page by page, in every database that keeps a ledger, until nothing is left or the worker stops.
pub(super) async fn expire(engine: Arc<Engine>, stop: CancellationToken) {
    for id in engine.model.targets() {
        let handle = engine.model.databases.handle(id);
        if let Err(error) = expire_in(&engine, handle, &stop).await {
            tracing::warn!(service = handle.name, error = %chain(&error), "expired rows of the ledger could not be removed now");
        }
    }
}

async fn expire_in(engine: &Engine, handle: &Handle, stop: &CancellationToken) -> Result<(), SinkError> {
    let database = &handle.database;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let mut session = database.begin().await?;
        let has_more = ledger::expire(session.as_mut(), database.dialect(), &engine.owner.group, engine.keep).await?;
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
