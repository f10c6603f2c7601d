//! What a database refuses, as a constraint or a trigger of its own stands against it: it stays owed, and is tried again.

use std::collections::BTreeSet;

use super::job::{Failure, Job};
use super::judge::Judged;
use super::rescue;
use super::subjects::{State, Subject};
use crate::ledger::Pending;

/// Why a root is pending: a database refuses what it entails.
pub const REFUSED: &str = "refused";
/// What stands before that in the detail of a root that is pending for another reason meanwhile.
const BEFORE: &str = "; refused before: ";

/// What of a batch is not done, as a database refuses it.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why.
    pub why: String,
    /// Not its roots alone: its copies are left as they are.
    pub with_copies: bool,
}

/// Why a database refused a pending root when it was tried last, by what the ledger says of it.
#[must_use]
pub fn refusal<'a>(reason: &str, detail: &'a str) -> Option<&'a str> {
    if reason == REFUSED { Some(detail) } else { detail.split_once(BEFORE).map(|(_, why)| why) }
}

/// Whether a database refused a pending root when it was tried last.
#[must_use]
pub fn was_refused(pending: &Pending) -> bool {
    refusal(&pending.reason, &pending.detail).is_some()
}

/// The detail of a root that is pending for this reason, now that it was tried again.
pub(super) fn detail(subject: &Subject, reason: &str, detail: &str) -> String {
    match &subject.refused {
        Some(why) if reason != REFUSED => format!("{detail}{BEFORE}{why}"),
        Some(_) | None => detail.to_owned(),
    }
}

/// Leaves the roots of a batch that a database refuses pending. Of one that lives, only if an earlier attempt at it has taken rows (H47).
pub(super) async fn park(job: &mut Job<'_>, judged: &mut Judged, refused: &Refused) -> Result<(), Failure> {
    if refused.with_copies {
        job.reduced.copies.clear();
    }
    let alive = judged.subjects.iter().filter(|subject| subject.state == State::Alive);
    let cascades: BTreeSet<String> = alive.flat_map(|subject| subject.cascades(job)).collect();
    let torn: BTreeSet<String> = rescue::attempted(job, cascades).await?.into_iter().collect();
    for subject in &mut judged.subjects {
        let is_owed = match subject.state {
            State::Root(_) => true,
            State::Alive => !subject.cascades(job).is_disjoint(&torn),
            State::Parked(..) | State::Waiting | State::NoRows | State::Beside | State::Undone => false,
        };
        // What was only looked at beside stays as it was.
        match subject.is_called {
            true if is_owed => subject.state = State::Parked(REFUSED, refused.why.clone()),
            true => {}
            false => subject.state = State::Beside,
        }
    }
    Ok(())
}
