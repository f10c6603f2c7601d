//! Why undo could not go on, who is waited for, and what refuses a row.

use std::time::Duration;

use crate::databases::Handle;
use crate::sink::{ConstraintKind, Fault, SinkError};

/// How often a page is tried again because somebody else works on the same rows.
const PATIENCE: u32 = 20;

/// How long it waits between.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// Why undo could not go on. What was committed stays; the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// A database refused.
    #[error("database `{service}`")]
    Database {
        /// The database.
        service: String,
        /// Why.
        source: SinkError,
    },
    /// Rows of an entity that the rules do not name.
    #[error("the archive holds rows of `{0}`, which the rules no longer reach")]
    Unknown(String),
    /// A row was changed while undo was at work.
    #[error("a conflict came up while rows were put back: {0}")]
    Conflict(String),
}

pub(super) fn failed(handle: &Handle) -> impl Fn(SinkError) -> UndoError {
    let service = handle.name.clone();
    move |source| UndoError::Database { service: service.clone(), source }
}

/// How often somebody who is in the way was waited for.
#[derive(Default)]
pub(super) struct Patience(u32);

impl Patience {
    /// Whether it is tried again after this error.
    pub(super) fn takes(&mut self, error: &UndoError) -> bool {
        let takes = is_contention(error) && self.0 < PATIENCE;
        self.0 += u32::from(takes);
        takes
    }
}

/// Somebody else works on the same rows, or on the same file.
pub(super) fn is_contention(error: &UndoError) -> bool {
    matches!(error, UndoError::Database { source: SinkError::Database { fault: Fault::Contention, .. }, .. })
}

pub(super) const PARENT_MISSING: &str = "a native foreign key refuses it: its parent row is missing";

/// Why a database refuses a row, if it is the row that it refuses.
pub(super) fn refusal(error: &UndoError) -> Option<&'static str> {
    let UndoError::Database { source, .. } = error else { return None };
    match source {
        SinkError::Database { fault: Fault::Constraint(kind, _), .. } => Some(match kind {
            ConstraintKind::ForeignKey => PARENT_MISSING,
            ConstraintKind::Unique => "another row has its value in a unique column",
            ConstraintKind::NotNull => "a column that must not be NULL was added since",
            ConstraintKind::Check => "a check of the table refuses it",
            ConstraintKind::Trigger => "a trigger of the table refuses it",
        }),
        SinkError::Database { fault: Fault::Value, .. } => Some("a value of it does not fit its column any more"),
        SinkError::Swallowed { .. } => Some("a trigger or rule of the table swallows it"),
        SinkError::Database { .. }
        | SinkError::Answer { .. }
        | SinkError::Fenced { .. }
        | SinkError::OtherRules { .. }
        | SinkError::NoLedger { .. }
        | SinkError::LaterLedger { .. }
        | SinkError::Unnamed { .. }
        | SinkError::Exceeded { .. }
        | SinkError::Paused { .. }
        | SinkError::Rewound { .. }
        | SinkError::Drifted { .. }
        | SinkError::Reshaped { .. }
        | SinkError::Unbindable { .. }
        | SinkError::DefaultWithoutParent { .. }
        | SinkError::Standby
        | SinkError::Pooled { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(fault: Fault) -> UndoError {
        let source = SinkError::Database { what: "putting rows back".to_owned(), fault, detail: String::new() };
        UndoError::Database { service: "shop".to_owned(), source }
    }

    #[test]
    fn h92_who_is_in_the_way_is_waited_for_and_what_refuses_a_row_is_told() {
        let refused = |kind| fault(Fault::Constraint(kind, None));
        let swallowed = SinkError::Swallowed { what: "putting rows back".to_owned(), expected: 1, got: 0 };
        let swallowed = UndoError::Database { service: "shop".to_owned(), source: swallowed };
        let cases = [
            (fault(Fault::Contention), true, None),
            (fault(Fault::Connection), false, None),
            (fault(Fault::Privilege), false, None),
            (UndoError::Conflict(String::new()), false, None),
            (refused(ConstraintKind::ForeignKey), false, Some("parent row is missing")),
            (refused(ConstraintKind::Unique), false, Some("unique")),
            (refused(ConstraintKind::NotNull), false, Some("NULL")),
            (refused(ConstraintKind::Check), false, Some("check")),
            (refused(ConstraintKind::Trigger), false, Some("trigger")),
            (fault(Fault::Value), false, Some("does not fit")),
            (swallowed, false, Some("swallows")),
        ];
        for (error, waits, why) in cases {
            assert_eq!(is_contention(&error), waits, "{error}");
            assert_eq!(refusal(&error).is_some(), why.is_some(), "{error}");
            assert!(why.is_none_or(|why| refusal(&error).is_some_and(|told| told.contains(why))), "{error}");
        }
    }

    #[test]
    fn h92_somebody_in_the_way_is_waited_for_so_often_and_no_more() {
        let mut patience = Patience::default();
        for _ in 0..PATIENCE {
            assert!(patience.takes(&fault(Fault::Contention)));
            assert!(!patience.takes(&fault(Fault::Connection)), "nor does that cost any");
        }
        assert!(!patience.takes(&fault(Fault::Contention)));
    }
}
