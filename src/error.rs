//! What becomes of work that failed, how a chain of causes is printed, and the exit codes.
//!
//! Every stage has an error enum of its own; beside each stands one exhaustive `disposition()`. Pure: knows nothing of Kafka or databases.

use std::error::Error;
use std::fmt::Write as _;

/// What happens to work that failed (the table of classes in the README, "When things fail").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing is wrong with the work: it is tried again, without end, with growing delays.
    Retry,
    /// This record can never succeed as it is: it is isolated, kept with its bytes, and the rest goes on.
    DeadLetter,
    /// Rules, schema or privileges disagree with what was met: stop and let a person decide; nothing is guessed.
    Halt,
}

/// How a command ended. The numbers are part of the interface and listed in every `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Done, and something was found: `check` with problems, `replay` that would change rows.
    Found = 1,
    /// The command line, the settings or the rules are wrong.
    Usage = 2,
    /// Halted: a person has to decide.
    Halted = 3,
    /// A server could not be reached in the time given.
    Unavailable = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints an error and its causes on one line, each cause once: a cause that the text already ends with is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            write!(text, ": {cause_text}").expect("a String takes any text");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Plain(&'static str, #[source] Option<Box<Plain>>);

    #[test]
    fn a_cause_that_was_already_said_is_not_said_twice() {
        let inner = Plain("refused", None);
        let middle = Plain("cannot connect: refused", Some(Box::new(inner)));
        let outer = Plain("database `shop`", Some(Box::new(middle)));
        assert_eq!(chain(&outer), "database `shop`: cannot connect: refused");
    }
}
