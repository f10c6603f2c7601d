//! What names and unique keys say about the direction of a reference: hints, never proofs.

use super::Subject;
use crate::model::{Code, Problem};
use crate::rules::{Entity, Reference};
use crate::sink::TableRef;
use crate::value::{Comparability, comparable};

pub(super) fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for reference in &subject.rules.references {
        let Some((child, parent)) = subject.ends(reference) else { continue };
        problems.extend(direction(subject, reference, child, parent));
        problems.extend(other_name(subject, reference));
        problems.extend(type_column(reference, child));
    }
    problems
}

/// A child that is itself unique is either one-to-one, or stands where its parent should.
fn direction(subject: &Subject<'_>, reference: &Reference, child: &TableRef, parent: &TableRef) -> Option<Problem> {
    if reference.one_to_one || !child.is_unique_within(&reference.columns) {
        return None;
    }
    let (child_entity, parent_entity) = (subject.rules.entity(reference.child), subject.rules.entity(reference.parent));
    let columns = reference.columns.join(", ");
    // The parent has a column that is named after the child and could hold its key.
    let back = parent.columns().iter().find(|column| {
        let fits = |key: &String| child.column(key).is_some_and(|key| comparable(&key.kind, &column.kind) != Comparability::No);
        !reference.parent_columns.contains(&column.name)
            && stem(&column.name).is_some_and(|stem| names(child_entity).iter().any(|name| is_named(&stem, name)))
            && reference.columns.iter().any(fits)
    });
    let names_parent = reference
        .columns
        .iter()
        .filter_map(|column| stem(column))
        .any(|stem| names(parent_entity).iter().any(|name| is_named(&stem, name)));
    let is_own_key = reference.columns.iter().all(|column| child_entity.key.contains(column) || child.primary_key().contains(column));
    Some(match back {
        Some(back) if !names_parent => {
            let message = format!(
                "({columns}) is unique in `{}`, and `{}` has `{}`: is the reference reversed?",
                child.table_name(),
                parent.table_name(),
                back.name
            );
            let hint = format!("if it is: child: {}, columns: {}, parent: {}", parent_entity.name, back.name, child_entity.name);
            Problem::new(Code::ChildUnique, &reference.name, message, hint)
        }
        None if is_own_key && !names_parent => {
            let message = format!("({columns}) is the key of `{}` itself: is the reference reversed?", child.table_name());
            let hint = "a reference's columns are those of the rows that go with their parent; if both really share one key, write `one_to_one: true`";
            Problem::new(Code::ChildUnique, &reference.name, message, hint)
        }
        _ => {
            let message = format!("({columns}) is unique in `{}`: at most one row goes with each parent", child.table_name());
            Problem::new(Code::OneToOne, &reference.name, message, "nothing, if that is meant")
        }
    })
}

/// `customer_id` that points at anything but a customer, where there is an entity of that name.
fn other_name(subject: &Subject<'_>, reference: &Reference) -> Option<Problem> {
    let parent = subject.rules.entity(reference.parent);
    let of_parent = names(parent);
    let stems: Vec<(&String, String)> = reference.columns.iter().filter_map(|column| Some((column, stem(column)?))).collect();
    if stems.iter().any(|(_, stem)| of_parent.iter().any(|name| is_named(stem, name))) {
        return None;
    }
    let mut others = subject.rules.entities.iter().filter(|entity| entity.name != parent.name);
    let (column, other) = others.find_map(|other| {
        let names = names(other);
        stems.iter().find(|(_, stem)| names.iter().any(|name| ends_with(stem, name))).map(|(column, _)| (column, other))
    })?;
    let message = format!("column `{column}` is named after `{}`, and the parent is `{}`", other.name, parent.name);
    Some(Problem::new(Code::OtherName, &reference.name, message, format!("is `parent: {}` meant?", other.name)))
}

/// `owner_id` beside `owner_type`, and no `when` (H57).
fn type_column(reference: &Reference, child: &TableRef) -> Option<Problem> {
    let columns = || reference.columns.iter().filter_map(|column| stem(column));
    let says_kind = |name: &str| {
        let lower = snake(name);
        columns().any(|stem| ["_type", "_kind", "_class", "_table"].iter().any(|end| lower.strip_suffix(end) == Some(stem.as_str())))
    };
    let column = child.columns().iter().map(|column| &column.name).find(|name| !reference.columns.contains(name) && says_kind(name))?;
    if reference.when.iter().any(|when| when.column == *column) {
        return None;
    }
    let message =
        format!("`{column}` of `{}` seems to say of which kind the parent is, and the reference has no `when`", child.table_name());
    Some(Problem::new(Code::TypeColumn, &reference.name, message, format!("add `when: {{ {column}: … }}`, one reference for each kind")))
}

/// What a column's name says that its values name: `customer` of `customer_id`, `customerId` or `customer_uuid`.
pub(crate) fn stem(column: &str) -> Option<String> {
    let name = snake(column);
    let ends = ["_id", "_key", "_uuid", "_no", "_number", "_code", "_ref", "_fk", "_pk"];
    let is_bare = |end: &&str| end.trim_start_matches('_') == name;
    if name.is_empty() || ends.iter().any(is_bare) {
        return None;
    }
    let stem = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    Some(stem.to_owned())
}

/// `shipToAddress` as `ship_to_address`.
pub(crate) fn snake(name: &str) -> String {
    let mut result = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            result.push('_');
        }
        result.extend(c.to_lowercase());
        before = c;
    }
    result
}

/// The names that an entity goes by: its own and its table's, in the singular.
pub(crate) fn names(entity: &Entity) -> Vec<String> {
    let bare = entity.name.rsplit('.').next().unwrap_or(&entity.name);
    let mut names: Vec<String> = [bare, &entity.table.table].iter().map(|name| singular(&snake(name))).collect();
    names.dedup();
    names
}

/// English, roughly: enough to tell `customer` in `customers`.
pub(crate) fn singular(name: &str) -> String {
    match name {
        _ if name.ends_with("ies") && name.len() > 4 => format!("{}y", &name[..name.len() - 3]),
        _ if ["sses", "shes", "ches", "xes", "zes"].iter().any(|end| name.ends_with(end)) => name[..name.len() - 2].to_owned(),
        _ if name.ends_with('s') && !name.ends_with("ss") && !name.ends_with("us") && !name.ends_with("is") => {
            name[..name.len() - 1].to_owned()
        }
        _ => name.to_owned(),
    }
}

/// `billing_customer` and `customer` name a customer.
fn ends_with(stem: &str, name: &str) -> bool {
    stem == name || stem.strip_suffix(name).is_some_and(|before| before.ends_with('_'))
}

/// Either may say more than the other: an entity `billing_customer` is named by `customer`, too.
fn is_named(stem: &str, name: &str) -> bool {
    ends_with(stem, name) || ends_with(name, stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_after_what_it_points_at() {
        assert_eq!(stem("customer_id").as_deref(), Some("customer"));
        assert_eq!(stem("billingCustomerId").as_deref(), Some("billing_customer"));
        assert_eq!([stem("id"), stem("code"), stem("manager")], [None, None, Some("manager".to_owned())]);
        assert_eq!(
            ["categories", "addresses", "boxes", "status", "customers", "address"].map(singular),
            ["category", "address", "box", "status", "customer", "address"]
        );
        assert!(is_named("billing_customer", "customer") && !is_named("subcustomer", "customer"));
    }
}
