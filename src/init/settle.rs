//! Which of several proposals for the same columns is meant. Pure.

use std::collections::BTreeSet;

use super::{FAINT, FIRM, Link, Surveyed, Why};

/// Keeps the likeliest proposal for each set of columns. Where two are as likely, none is firm.
pub(super) fn settle(tables: &[Surveyed], mut links: Vec<Link>) -> Vec<Link> {
    let service = |table: usize| tables.get(table).map(|table| table.service.as_str());
    let is_at_home = |link: &Link| service(link.child) == service(link.parent);
    // A parent whose key is itself a reference is a table beside the one that is meant: `profiles(customer_id)`.
    let derived: Vec<(usize, Vec<String>)> =
        links.iter().filter(|link| link.is_firm()).map(|link| (link.child, link.columns.clone())).collect();
    let is_derived = |link: &Link| derived.iter().any(|(table, columns)| (*table, columns) == (link.parent, &link.parent_columns));
    let rank = |link: &Link| (link.confidence, !is_derived(link), link.columns.len(), is_at_home(link));
    links.sort_by_key(|link| (link.child, link.when.clone(), last(link).cloned(), std::cmp::Reverse(rank(link)), link.parent));
    let mut kept: Vec<Link> = Vec::new();
    for group in links.chunk_by(|one, other| one.child == other.child && one.when == other.when && last(one) == last(other)) {
        let Some(best) = group.first().filter(|best| best.confidence >= FAINT) else { continue };
        let is_native = |link: &Link| matches!(link.why, Why::Native { .. });
        // Several native keys on the same columns are all true.
        let equals = group.iter().filter(|link| is_native(link) || !is_native(best) && rank(link) == rank(best));
        let equals: Vec<Link> = equals.cloned().collect();
        let is_open = equals.iter().any(|link| link.parent != best.parent) && !is_native(best);
        kept.extend(equals.into_iter().map(|link| {
            let confidence = if is_open { link.confidence.min(FIRM - 1) } else { link.confidence };
            Link { confidence, ..link }
        }));
    }
    // One proposal may come by two ways.
    let ends = |link: &Link| (link.child, link.columns.clone(), link.when.clone(), link.parent, link.parent_columns.clone());
    let mut seen = BTreeSet::new();
    kept.retain(|link| seen.insert(ends(link)));
    kept
}

/// The column that tells one reference of a table from another: the last, as tenants come first.
fn last(link: &Link) -> Option<&String> {
    link.columns.last()
}
