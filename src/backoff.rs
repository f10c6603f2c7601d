//! Capped, jittered delays between tries. Pure: the jitter comes from the caller.

use std::num::NonZeroU32;
use std::time::Duration;

/// A row of delays: doubling from the first up to the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

/// Why a backoff makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackoffError {
    /// It would spin.
    #[error("the first delay is zero")]
    ZeroFirst,
    /// It would shrink.
    #[error("the first delay is above the cap")]
    FirstAboveCap,
}

impl Backoff {
    /// Doubling from `first` up to `cap`.
    ///
    /// # Errors
    /// If `first` is zero or above `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Result<Self, BackoffError> {
        if first.is_zero() {
            return Err(BackoffError::ZeroFirst);
        }
        if first.as_nanos() > cap.as_nanos() {
            return Err(BackoffError::FirstAboveCap);
        }
        Ok(Self { first, cap })
    }

    /// Delay before retry `attempt` (the first is 1), between half its ceiling and all of it. `jitter` is in 0..1 and comes from the caller.
    #[must_use]
    pub fn delay(&self, attempt: NonZeroU32, jitter: f64) -> Duration {
        let doublings = (attempt.get() - 1).min(16);
        self.first.saturating_mul(1 << doublings).min(self.cap).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_never_fall_below_half() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).expect("sound");
        let attempt = |number| NonZeroU32::new(number).expect("not zero");
        assert_eq!(backoff.delay(attempt(1), 1.0), Duration::from_millis(100));
        assert_eq!(backoff.delay(attempt(3), 1.0), Duration::from_millis(400));
        assert_eq!(backoff.delay(attempt(9), 0.0), Duration::from_millis(500));
        assert_eq!(backoff.delay(attempt(u32::MAX), 1.0), Duration::from_secs(1));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::from_secs(1)), Err(BackoffError::ZeroFirst));
        assert_eq!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)), Err(BackoffError::FirstAboveCap));
    }
}
