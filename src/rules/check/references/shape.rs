//! Whether the columns of one reference fit its entities and its actions.

use super::ReferenceDraft;
use crate::rules::check::actions::{DeleteDraft, ThenDraft};
use crate::rules::check::entities::EntityDraft;
use crate::rules::diagnostic::{Diagnostic, shown};
use crate::rules::fields::{Word, listed};
use crate::rules::syntax::Spot;
use crate::rules::{MissingAction, OnUpdate};

/// As many columns as the parent's, and never part of a composite key: that would take the rows of every tenant.
pub(super) fn check_parent(reference: &ReferenceDraft<'_>, parent: &EntityDraft<'_>, problems: &mut Vec<Diagnostic>) {
    let Some(key) = &parent.key else { return };
    if let Some(named) = &reference.parent_columns
        && named.len() < key.len()
        && named.iter().all(|column| parent.has_key_column(&column.text))
    {
        let spot = named.first().map_or(reference.spot, |column| column.spot);
        let message = format!("{}: `parent_columns` are only part of the parent's key", reference.what);
        let hint = format!("a part of the key does not identify a row: name all of {}", listed(key.iter().map(|c| c.text.as_str())));
        problems.push(Diagnostic::error("part-of-key", spot, message).label("many rows may share this").hint(hint));
        return;
    }
    let target = match (&reference.parent_columns, reference.has_parent_columns) {
        (Some(named), _) => named,
        (None, false) => key,
        (None, true) => return, // they could not be read
    };
    let Some(columns) = &reference.columns else { return };
    if columns.len() != target.len() {
        let spot = columns.first().map_or(reference.spot, |column| column.spot);
        let message = format!("{}: {} for {} of the parent", reference.what, counted(columns.len()), counted(target.len()));
        let hint = format!("name one column for each of {}, in this order", listed(target.iter().map(|c| c.text.as_str())));
        problems.push(Diagnostic::error("unequal-columns", spot, message).hint(hint));
    }
}

fn counted(columns: usize) -> String {
    if columns == 1 { "1 column".to_owned() } else { format!("{columns} columns") }
}

/// Conditions and listed columns against the reference's own columns.
pub(super) fn check_own_columns(reference: &ReferenceDraft<'_>, problems: &mut Vec<Diagnostic>) {
    let Some(columns) = &reference.columns else { return };
    let own = |column: &str| columns.iter().any(|own| own.text == column);
    for (column, _) in reference.when.iter().filter(|(column, _)| own(&column.text)) {
        let message = format!("{}: `when` asks for `{}`, one of the reference's columns", reference.what, shown(&column.text));
        let problem = Diagnostic::error("when-own-column", column.spot, message);
        problems.push(problem.hint("a condition is on another column, such as the one that tells the kind of parent"));
    }
    let (DeleteDraft::SetNull(columns) | DeleteDraft::SetDefault(columns)) = (match &reference.on_delete {
        Some(placed) => &placed.action,
        None => return,
    }) else {
        return;
    };
    for column in columns.iter().filter(|column| !own(&column.text)) {
        let message = format!("{}: `{}` is not one of the reference's columns", reference.what, shown(&column.text));
        let problem = Diagnostic::error("foreign-column", column.spot, message);
        problems.push(problem.hint("only the reference's own columns can be listed here; for others write `{ set: { column: value } }`"));
    }
}

/// What depends on the child's key and topic.
pub(super) fn check_child(reference: &ReferenceDraft<'_>, child: &EntityDraft<'_>, problems: &mut Vec<Diagnostic>) {
    for (spot, columns) in emptied(reference) {
        let key: Vec<&str> = columns.iter().map(|column| column.text.as_str()).filter(|column| child.has_key_column(column)).collect();
        if !key.is_empty() {
            let message = format!("{}: the action would overwrite {}, part of the child's key", reference.what, listed(key));
            let hint = "a row keeps its key: name only other columns, as in `{ set_null: [column] }`, or choose another action";
            problems.push(Diagnostic::error("overwrites-key", spot, message).hint(hint));
        }
    }
    if let (Some(on_missing), false) = (&reference.on_missing, child.has_topic) {
        let message = format!("{}: `on_missing` on a child without a topic", reference.what);
        let problem = Diagnostic::error("no-topic", on_missing.spot, message).label("nothing tells of a child that arrives");
        let problem = problem.hint("give the child's entity its `topic`, or remove `on_missing`");
        problems.push(child.name.iter().fold(problem, |problem, name| problem.related(name.spot, "the child")));
    }
    check_direction(reference, child, problems);
}

/// The columns that some action sets to null or to a value, with the place of the action. Not those that take their default: that may be
/// a key, and native foreign keys allow it.
fn emptied<'d, 'f>(reference: &'d ReferenceDraft<'f>) -> Vec<(Spot<'f>, Vec<&'d Word<'f>>)> {
    let own: Vec<&Word<'f>> = reference.columns.iter().flatten().collect();
    let mut result = Vec::new();
    if let Some(on_delete) = &reference.on_delete {
        result.push((
            on_delete.spot,
            match &on_delete.action {
                DeleteDraft::Plain(OnUpdate::SetNull) => own.clone(),
                DeleteDraft::SetNull(columns) => columns.iter().collect(),
                DeleteDraft::Set(assignments) => assignments.iter().map(|(column, _)| column).collect(),
                DeleteDraft::Plain(OnUpdate::Cascade | OnUpdate::SetDefault | OnUpdate::Restrict | OnUpdate::NoAction)
                | DeleteDraft::SetDefault(_) => Vec::new(),
            },
        ));
    }
    if let Some(on_update) = reference.on_update.as_ref().filter(|placed| placed.action == OnUpdate::SetNull) {
        result.push((on_update.spot, own.clone()));
    }
    if let Some(on_missing) = &reference.on_missing {
        match &on_missing.action.then {
            ThenDraft::Plain(MissingAction::SetNull) => result.push((on_missing.spot, own)),
            ThenDraft::Set(assignments) => result.push((on_missing.spot, assignments.iter().map(|(column, _)| column).collect())),
            ThenDraft::Plain(_) => {}
        }
    }
    result
}

/// Where the child's own key points at the parent, each parent has at most one child: it may be the other way round.
fn check_direction(reference: &ReferenceDraft<'_>, child: &EntityDraft<'_>, problems: &mut Vec<Diagnostic>) {
    let (Some(columns), Some(key)) = (&reference.columns, &child.key) else { return };
    let whole_key = key.iter().all(|key| columns.iter().any(|column| column.text == key.text));
    match (whole_key, reference.one_to_one) {
        (true, None) => {
            let spot = columns.first().map_or(reference.spot, |column| column.spot);
            let message = format!("{}: the child's whole key points at the parent", reference.what);
            let hint = "each parent then has one child at most: if child and parent are not swapped, write `one_to_one: true`";
            problems.push(Diagnostic::warning("maybe-reversed", spot, message).label("is the child's key").hint(hint));
        }
        (false, Some(spot)) => {
            let message = format!("{}: `one_to_one` is written, but the columns do not hold the child's key", reference.what);
            problems.push(Diagnostic::error("not-one-to-one", spot, message).hint("remove `one_to_one`"));
        }
        (true, Some(_)) | (false, None) => {}
    }
}
