//! How well a column's name fits a table's: `customer_id` and `customers`, `cust_no` and `customers`, `shipping_address_id` and `addresses`.

use crate::inspect::names::{singular, snake, stem};

/// A table's name without what only says that it is a table: `tbl_customer`, `t_customers`.
fn bare(table: &str) -> String {
    let name = snake(table);
    let name = ["tbl_", "tab_", "t_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name).to_owned();
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    if let Some(last) = words.last_mut() {
        *last = singular(last);
    }
    words.join("_")
}

/// What a column says that it names, if its name has an end or a beginning that says that it names something: `customer` of `customer_id`,
/// `id_customer`, `fk_customer`.
pub(super) fn names(column: &str) -> Option<String> {
    let name = snake(column);
    let begun = ["id_", "fk_", "ref_"].iter().find_map(|prefix| name.strip_prefix(prefix));
    let begun = begun.map(|rest| stem(rest).unwrap_or_else(|| rest.to_owned()));
    let ended = ["_nr", "_num", "_by", "_to", "_from", "_of"].iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    begun.or_else(|| stem(column).filter(|stem| *stem != name)).or(ended).filter(|stem| !stem.is_empty())
}

/// A role that a row of the same table plays: `parent_id`.
pub(super) fn is_own_role(stem: &str) -> bool {
    let last = stem.rsplit('_').next().unwrap_or(stem);
    ["parent", "root", "previous", "prev", "next", "original", "replaces", "predecessor", "successor", "duplicate", "reply", "superseded"]
        .contains(&last)
}

/// What the likeness is called, and what it is worth in percent.
pub(super) type Likeness = (&'static str, u8);

/// How much a stem looks like a table's name.
pub(super) fn likeness(stem: &str, table: &str) -> Option<Likeness> {
    let (stem, table) = (bare(stem), bare(table));
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|before| before.ends_with('_'));
    let last = |name: &str| name.rsplit('_').next().unwrap_or(name).to_owned();
    if stem == table {
        Some(("the column is named after the table", 90))
    } else if ends(&stem, &table) {
        Some(("the column's name ends with the table's", 80))
    } else if ends(&table, &stem) {
        Some(("the table's name ends with the column's", 70))
    } else if table.strip_prefix(&stem).is_some_and(|rest| rest.starts_with('_')) {
        Some(("the table's name begins with the column's", 45))
    } else if last(&stem) == last(&table) && last(&stem).len() > 2 {
        Some(("both names end alike", 50))
    } else if is_short(&last(&stem), &last(&table)) || is_initials(&stem, &table) {
        Some(("the column's name is short for the table's", 40))
    } else {
        None
    }
}

/// `cust` or `dept` for `customer` and `department`: the same first letter, and the others in their order.
fn is_short(short: &str, long: &str) -> bool {
    if short.len() < 3 || short.len() >= long.len() || short.chars().next() != long.chars().next() {
        return false;
    }
    let mut letters = long.chars();
    short.chars().all(|wanted| letters.any(|letter| letter == wanted))
}

/// `po` for `purchase_order`.
fn is_initials(short: &str, long: &str) -> bool {
    let words: Vec<&str> = long.split('_').collect();
    words.len() > 1 && words.iter().filter_map(|word| word.chars().next()).collect::<String>() == short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_like_the_table_that_it_is_named_after() {
        let worth = |column: &str, table: &str| names(column).and_then(|stem| likeness(&stem, table)).map_or(0, |(_, worth)| worth);
        assert_eq!(
            [
                worth("customer_id", "customers"),
                worth("billingCustomerId", "Customers"),
                worth("fk_dept", "tbl_department"),
                worth("po_id", "purchase_orders")
            ],
            [90, 80, 40, 40]
        );
        assert_eq!(
            [
                worth("address_id", "customer_address"),
                worth("ship_address_id", "customer_addresses"),
                worth("cust_no", "customers"),
                worth("id_category", "categories")
            ],
            [70, 50, 40, 90]
        );
        assert_eq!([worth("id", "customers"), worth("quantity", "customers"), worth("order_id", "customers")], [0, 0, 0]);
    }
}
