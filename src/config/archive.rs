//! How long rows are kept that entail has removed or changed.

use std::time::Duration;

use crate::rules::diagnostic::Diagnostic;
use crate::rules::fields;
use crate::rules::syntax::Node;

/// The shortest that is taken.
const LEAST: Duration = Duration::from_secs(3600);

/// A worker that was killed between two databases finds in the archive what is to be put back (H47).
pub(super) fn keep(node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<Duration> {
    let keep = fields::duration(node, "`archive`: `keep`", problems)?;
    if keep < LEAST {
        let problem = Diagnostic::error("bad-duration", node.spot, "`archive`: `keep` is shorter than an hour");
        problems.push(
            problem
                .hint("what an interrupted attempt took is put back from the archive; `archive: none` at a reference keeps nothing of it"),
        );
        return None;
    }
    Some(keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::syntax::{Spot, Value};

    #[test]
    fn h94_an_archive_that_a_restart_could_not_put_back_from_is_refused() {
        let read = |text: &str| {
            let spot = Spot { file: "entail.yaml", start: 0, end: 0 };
            let mut problems = Vec::new();
            (keep(&Node { spot, value: Value::Text(text.into()) }, &mut problems), problems.len())
        };
        assert_eq!((read("0s"), read("59m 59s")), ((None, 1), (None, 1)));
        assert_eq!(read("1h"), (Some(LEAST), 0));
    }
}
