//! The clocks of databases against each other, as far as they can be told: undo asks which of two moments in two databases came first.

use std::time::{SystemTime, UNIX_EPOCH};

use super::archive::micros;
use super::number;
use crate::sink::statement::Dialect;
use crate::sink::{Database, SinkError, Statement};

/// Questions to a clock. The first may wait for a connection; the quickest counts.
const QUESTIONS: usize = 5;

/// A database's clock against ours, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// How far it is ahead.
    pub ahead: i64,
    /// By how much that may be wrong, at most.
    pub error: i64,
    /// How far its moments are cut down.
    pub grain: i64,
}

impl Clock {
    /// A moment of this clock as the earliest that it can be by another.
    #[must_use]
    pub fn earliest_by(&self, other: &Self, at: i64) -> i64 {
        let slack = if self == other { 0 } else { self.error + other.error + (other.grain - self.grain).max(0) };
        self.by(other, at).saturating_sub(slack)
    }

    /// A moment of this clock by another, as well as it can be told.
    #[must_use]
    pub fn by(&self, other: &Self, at: i64) -> i64 {
        at.saturating_add(other.ahead).saturating_sub(self.ahead)
    }
}

/// Reads a database's clock.
///
/// # Errors
/// Those of the database.
pub async fn clock(database: &dyn Database) -> Result<Clock, SinkError> {
    match database.dialect() {
        // The clock of this machine, in whole seconds.
        Dialect::Sqlite => return Ok(Clock { ahead: 0, error: 0, grain: 1_000_000 }),
        Dialect::Postgres => {}
    }
    let what = "reading the clock";
    let question = Statement::fixed(what, &format!("SELECT CAST({} AS TEXT)", micros(Dialect::Postgres, "clock_timestamp()")), Vec::new());
    let mut readings = Vec::new();
    for _ in 0..QUESTIONS {
        let before = now();
        let rows = database.read(&question).await?;
        let after = now();
        let its = rows.first().map_or(Ok(before), |row| number(what, row, 0))?;
        readings.push((before, its, after));
    }
    Ok(best(&readings))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// From our time before, its time, and our time after each question: its time was somewhere between ours.
fn best(readings: &[(i64, i64, i64)]) -> Clock {
    let quickest = readings.iter().min_by_key(|(before, _, after)| after - before);
    quickest.map_or(Clock { ahead: 0, error: 0, grain: 0 }, |(before, its, after)| Clock {
        ahead: its.saturating_sub(before.midpoint(*after)),
        // Whole microseconds, cut down on both sides.
        error: (after - before) / 2 + 2,
        grain: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_connection_does_not_hide_what_followed_at_once() {
        // Ours and theirs are the same clock. The first question waited a second for its connection, the second was quick.
        let slow = best(&[(0, 1_000_000, 1_000_100), (1_000_200, 1_000_300, 1_000_600)]);
        let quick = best(&[(0, 5, 10)]);
        assert!(slow.error <= 202 && quick.error <= 7, "{slow:?} {quick:?}");
        // A row went at 5,000 by the one clock; what began at it a microsecond later is found by the other, whichever is which.
        assert!(quick.earliest_by(&slow, 5_000) <= 5_001 && slow.earliest_by(&quick, 5_000) <= 5_001);
        assert!(quick.earliest_by(&slow, 5_000) > 4_500, "and not much of what was before");
        assert_eq!(quick.earliest_by(&quick, 5_000), 5_000, "one clock orders its own moments");
    }

    #[test]
    fn the_quickest_question_says_how_far_a_clock_is_ahead_and_how_sure_that_is() {
        assert_eq!(best(&[(0, 90, 100), (200, 1_206, 210), (300, 900, 360)]), Clock { ahead: 1_001, error: 7, grain: 0 });
        assert_eq!(best(&[]), Clock { ahead: 0, error: 0, grain: 0 });
        let (here, there) = (Clock { ahead: 0, error: 3, grain: 0 }, Clock { ahead: 1_000, error: 4, grain: 0 });
        assert_eq!((here.by(&there, 5_000), there.by(&here, 5_000)), (6_000, 4_000));
        assert_eq!((here.earliest_by(&there, 5_000), there.earliest_by(&here, 5_000)), (5_993, 3_993));
    }

    #[test]
    fn moments_in_whole_seconds_are_found_by_finer_ones() {
        let (seconds, fine) = (Clock { ahead: 0, error: 0, grain: 1_000_000 }, Clock { ahead: 0, error: 0, grain: 0 });
        // At 10.7 a row went; what began at it at 10.9 is noted as 10.
        assert!(fine.earliest_by(&seconds, 10_700_000) <= 10_000_000);
        assert_eq!(seconds.earliest_by(&fine, 10_000_000), 10_000_000);
    }
}
