//! Which of several proposals for the same columns is meant. Pure.

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
    links.sort_by_key(|link| (link.child, std::cmp::Reverse(rank(link)), link.parent));
    let mut kept: Vec<Link> = Vec::new();
    for mut link in links.into_iter().filter(|link| link.confidence >= FAINT) {
        let shares = |known: &&mut Link| known.child == link.child && known.when == link.when && last(known) == last(&link);
        let is_native = |link: &Link| matches!(link.why, Why::Native { .. });
        match kept.iter_mut().find(shares) {
            None => kept.push(link),
            // Several native keys on the same columns are all true.
            Some(_) if is_native(&link) => kept.push(link),
            Some(known) if rank(known) == rank(&link) && known.parent != link.parent => {
                known.confidence = known.confidence.min(FIRM - 1);
                link.confidence = known.confidence;
                kept.push(link);
            }
            Some(_) => {}
        }
    }
    kept
}

/// The column that tells one reference of a table from another: the last, as tenants come first.
fn last(link: &Link) -> Option<&String> {
    link.columns.last()
}
