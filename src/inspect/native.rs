//! Native foreign keys that refuse, widen or hide what the rules do.

use super::Subject;
use crate::databases::DatabaseId;
use crate::model::{Code, Problem};
use crate::rules::{EntityId, OnDelete};
use crate::sink::spelling::{name, table_name};
use crate::sink::{ForeignKey, NativeAction};

pub(super) fn judge(subject: &Subject<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (database, keys) in &subject.keys {
        for key in keys {
            problems.extend(of_key(subject, *database, key));
        }
    }
    problems
}

fn of_key(subject: &Subject<'_>, database: DatabaseId, key: &ForeignKey) -> Option<Problem> {
    let parents: Vec<EntityId> = entities(subject, database, &key.parent);
    if parents.is_empty() {
        return None;
    }
    let acts = matches!(key.on_delete, NativeAction::Cascade | NativeAction::SetNull | NativeAction::SetDefault);
    let deed = in_words(key.on_delete);
    let covering = covering(subject, database, key);
    if let Some(reference) = covering {
        let message = format!(
            "the native foreign key `{}` ({deed}) does this before entail sees it: nothing is archived, and undo cannot bring it back",
            key.name
        );
        let hint = format!("ALTER TABLE {} DROP CONSTRAINT {}, or leave the reference out", table_name(&key.child), name(&key.name));
        return acts.then(|| Problem::new(Code::NativeHides, reference, message, hint));
    }
    // Where entail removes rows, what points at them natively goes along, or keeps them.
    let removing = parents.iter().find_map(|id| subject.from(*id).find(|reference| reference.on_delete == OnDelete::Cascade))?;
    Some(if acts {
        let message =
            format!("rows of `{}` follow by the native foreign key `{}` ({deed}), which the rules do not name", key.child, key.name);
        Problem::new(
            Code::NativeWidens,
            &removing.name,
            message,
            "see that this is meant: they are archived and limited with the reference's own rows",
        )
    } else {
        let message = format!(
            "rows of `{}` that the native foreign key `{}` ({deed}) ties keep their parents: such a root waits as restricted",
            key.child, key.name
        );
        let hint = format!("a reference from {} over ({}), or ON DELETE CASCADE", table_name(&key.child), key.columns.join(", "));
        Problem::new(Code::NativeRefuses, &removing.name, message, hint)
    })
}

fn entities(subject: &Subject<'_>, database: DatabaseId, table: &crate::rules::TableName) -> Vec<EntityId> {
    let is_it = |id: &EntityId| subject.table(*id).is_some_and(|(home, found)| home == database && found.table_name() == *table);
    subject.rules.entity_ids().map(|(id, _)| id).filter(is_it).collect()
}

/// A reference of the rules over the same columns.
fn covering<'a>(subject: &'a Subject<'_>, database: DatabaseId, key: &ForeignKey) -> Option<&'a str> {
    let sorted = |ours: &[String], theirs: &[String]| {
        let mut pairs: Vec<(String, String)> = ours.iter().cloned().zip(theirs.iter().cloned()).collect();
        pairs.sort();
        pairs
    };
    let of_key = sorted(&key.columns, &key.parent_columns);
    let is_it = |id: EntityId, table: &crate::rules::TableName| {
        subject.table(id).is_some_and(|(home, found)| home == database && found.table_name() == *table)
    };
    let covers = |reference: &&crate::rules::Reference| {
        is_it(reference.child, &key.child)
            && is_it(reference.parent, &key.parent)
            && sorted(&reference.columns, &reference.parent_columns) == of_key
    };
    subject.rules.references.iter().find(covers).map(|reference| reference.name.as_str())
}

fn in_words(action: NativeAction) -> &'static str {
    match action {
        NativeAction::Cascade => "ON DELETE CASCADE",
        NativeAction::SetNull => "ON DELETE SET NULL",
        NativeAction::SetDefault => "ON DELETE SET DEFAULT",
        NativeAction::Restrict => "ON DELETE RESTRICT",
        NativeAction::NoAction => "no action",
    }
}
