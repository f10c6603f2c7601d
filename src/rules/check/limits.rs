//! Limits: one block over all files, or the defaults.

use super::Diagnostic;
use crate::rules::fields::{self, Fields};
use crate::rules::syntax::{Node, Spot};
use crate::rules::{DEFAULT_ROWS, DEFAULT_ROWS_PER_EVENT, Limits, RowsPer};

/// A `limits` block as far as it could be read.
#[derive(Debug)]
pub(super) struct LimitsDraft<'f> {
    spot: Spot<'f>,
    rows_per_event: Option<u64>,
    rows: Option<RowsPer>,
}

impl<'f> LimitsDraft<'f> {
    pub(super) fn read(node: &Node<'f>, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let limits = Fields::read(node, "`limits`", &["rows_per_event", "rows"], problems)?;
        let rows_per_event = limits.optional("rows_per_event");
        let rows_per_event = rows_per_event.and_then(|node| fields::count(node, "`limits`: `rows_per_event`", problems));
        let rows = limits.optional("rows").and_then(|node| rows_per(node, problems));
        Some(Self { spot: node.spot, rows_per_event, rows })
    }
}

fn rows_per(node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<RowsPer> {
    let rows = Fields::read(node, "`limits`: `rows`", &["count", "per", "percent"], problems)?;
    let count = rows.required("count", "write the number of rows", problems);
    let count = count.and_then(|node| fields::count(node, "`limits`: `rows.count`", problems));
    let per = rows.required("per", "write the length of the window, as in `per: 10m`", problems);
    let spot = per.map_or(node.spot, |node| node.spot);
    let per = per.and_then(|node| fields::duration(node, "`limits`: `rows.per`", problems));
    if per.is_some_and(|per| per.is_zero()) {
        let problem = Diagnostic::error("bad-duration", spot, "`limits`: `rows.per` is zero");
        problems.push(problem.hint("in a window of no length nothing would ever be too much: write `10m`"));
    }
    let percent = match rows.optional("percent") {
        Some(node) => Some(percent(node, problems)?),
        None => None,
    };
    Some(RowsPer { count: count?, per: per?, percent })
}

fn percent(node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<u64> {
    let percent = fields::count(node, "`limits`: `rows.percent`", problems)?;
    if percent > 100 {
        let problem = Diagnostic::error("bad-number", node.spot, "`limits`: `rows.percent` is more than the whole table");
        problems.push(problem.hint("write a number from 1 to 100, or leave it out"));
        return None;
    }
    Some(percent)
}

/// Limits hold for all rules, so two blocks could only contradict each other.
pub(super) fn check(drafts: &[LimitsDraft<'_>], problems: &mut Vec<Diagnostic>) {
    let Some((first, others)) = drafts.split_first() else { return };
    for other in others {
        let problem = Diagnostic::error("duplicate-limits", other.spot, "`limits` are written in two files").label("written again here");
        problems.push(problem.hint("they hold over all files: keep one block").related(first.spot, "first written here"));
    }
}

/// The limits written, and the defaults for what is not.
pub(super) fn build(drafts: &[LimitsDraft<'_>]) -> Limits {
    let written = drafts.first();
    Limits {
        rows_per_event: written.and_then(|limits| limits.rows_per_event).unwrap_or(DEFAULT_ROWS_PER_EVENT),
        rows: written.and_then(|limits| limits.rows).unwrap_or(DEFAULT_ROWS),
    }
}
