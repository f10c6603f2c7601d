//! The look at the databases, in a task, again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Worker;
use crate::engine::Engine;
use crate::error::chain;
use crate::watch::{self, Finding};

/// Between looks.
const LOOK: Duration = Duration::from_secs(5);

/// The look under way, and when the next one is due.
pub(super) struct Watching {
    look: Option<JoinHandle<Vec<Finding>>>,
    at: Instant,
    /// What was told already.
    told: Vec<Finding>,
}

impl Watching {
    pub(super) fn new() -> Self {
        Self { look: None, at: Instant::now() + LOOK, told: Vec::new() }
    }

    pub(super) fn start_if_due(&mut self, engine: &Arc<Engine>) {
        if self.look.is_none() && Instant::now() >= self.at {
            self.at = Instant::now() + LOOK;
            let engine = Arc::clone(engine);
            self.look = Some(tokio::spawn(async move { look(&engine).await }));
        }
    }

    pub(super) fn look(&mut self) -> Option<&mut JoinHandle<Vec<Finding>>> {
        self.look.as_mut()
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.look.is_none().then_some(self.at)
    }
}

/// Keeps where the logs end, for the next start.
pub(super) async fn keep(engine: &Engine, patience: Duration) {
    let kept = tokio::time::timeout(patience, watch::remember(&engine.model, &engine.owner.group, &engine.marks));
    match kept.await {
        Ok(Ok(findings)) => shut(engine, &findings).await,
        Ok(Err(error)) => tracing::debug!(error = %chain(&error), "the ledgers cannot take down where the logs end now"),
        Err(_) => {}
    }
}

/// Looks, and shuts what is no longer as it was. What could not be shut is found again.
async fn look(engine: &Engine) -> Vec<Finding> {
    let mut findings = watch::look(&engine.model, &engine.marks).await;
    shut(engine, &findings).await;
    match watch::remember(&engine.model, &engine.owner.group, &engine.marks).await {
        Ok(more) => {
            shut(engine, &more).await;
            findings.extend(more);
        }
        Err(error) => tracing::debug!(error = %chain(&error), "the ledgers cannot take down where the logs end now"),
    }
    findings
}

async fn shut(engine: &Engine, findings: &[Finding]) {
    for finding in findings {
        if let Err(error) = engine.halt(finding).await {
            tracing::error!(error = %chain(&error), reason = finding.reason, "a latch could not be written");
        }
    }
}

impl Worker<'_> {
    pub(super) fn on_look(&mut self, findings: Vec<Finding>) {
        self.watching.look = None;
        self.has_latched |= !findings.is_empty();
        for finding in findings.iter().filter(|finding| !self.watching.told.contains(finding)) {
            tracing::error!(reason = finding.reason, detail = finding.detail, "references were latched until they are released");
        }
        self.watching.told = findings;
    }
}
