//! What a parent's fate entails for the rows of one reference.

use super::{Assignment, Fate};
use crate::graph::{Edge, Origin};
use crate::rules::{OnDelete, OnUpdate};

/// What a parent's fate means to the rows that point at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// They go.
    Delete,
    /// They change.
    Update,
    /// They hold the root back.
    Refuse,
    /// They are left as they are, and counted.
    Orphan,
}

/// What a reference makes of a parent's fate.
#[must_use]
pub fn consequence(edge: &Edge, fate: &Fate) -> Consequence {
    match fate {
        Fate::Gone => match (&edge.on_delete, edge.origin) {
            (OnDelete::Cascade, _) => Consequence::Delete,
            (OnDelete::SetNull(_) | OnDelete::SetDefault(_) | OnDelete::Set(_), _) => Consequence::Update,
            (OnDelete::Restrict, _) | (OnDelete::NoAction, Origin::Native) => Consequence::Refuse,
            (OnDelete::NoAction, Origin::Rule(_)) => Consequence::Orphan,
        },
        Fate::Moved(_) => match edge.on_update {
            OnUpdate::Cascade | OnUpdate::SetNull | OnUpdate::SetDefault => Consequence::Update,
            OnUpdate::Restrict => Consequence::Refuse,
            OnUpdate::NoAction => Consequence::Orphan,
        },
        Fate::Unclear(_) if edge.on_delete == OnDelete::NoAction && edge.on_update == OnUpdate::NoAction => Consequence::Orphan,
        Fate::Unclear(_) => Consequence::Refuse,
    }
}

/// Whether a reference changes rows whose parent has this fate.
#[must_use]
pub fn is_change(edge: &Edge, fate: &Fate) -> bool {
    matches!(consequence(edge, fate), Consequence::Delete | Consequence::Update)
}

/// What one reference writes into a row. Values per row are pushed onto `new`.
pub(super) fn assigned(edge: &Edge, fate: &Fate, new: &mut Vec<Option<String>>) -> Vec<(String, Assignment)> {
    let all = |columns: &[String], assignment: &Assignment| columns.iter().map(|column| (column.clone(), assignment.clone())).collect();
    match fate {
        Fate::Gone => match &edge.on_delete {
            OnDelete::SetNull(columns) => all(columns, &Assignment::Null),
            OnDelete::SetDefault(columns) => all(columns, &Assignment::Default),
            OnDelete::Set(values) => {
                let value = |text: &Option<String>| text.clone().map_or(Assignment::Null, Assignment::Value);
                values.iter().map(|(column, text)| (column.clone(), value(text))).collect()
            }
            OnDelete::Cascade | OnDelete::Restrict | OnDelete::NoAction => Vec::new(),
        },
        Fate::Moved(to) => match edge.on_update {
            OnUpdate::Cascade => {
                let mut assignments = Vec::new();
                for (column, part) in edge.columns.iter().zip(to.parts()) {
                    assignments.push((column.clone(), Assignment::PerRow(new.len())));
                    new.push(Some(part.clone()));
                }
                assignments
            }
            OnUpdate::SetNull => all(&edge.columns, &Assignment::Null),
            OnUpdate::SetDefault => all(&edge.columns, &Assignment::Default),
            OnUpdate::Restrict | OnUpdate::NoAction => Vec::new(),
        },
        Fate::Unclear(_) => Vec::new(),
    }
}

pub(super) fn sets_default(edge: &Edge) -> bool {
    matches!(edge.on_delete, OnDelete::SetDefault(_)) || edge.on_update == OnUpdate::SetDefault
}

#[cfg(test)]
mod tests {
    use super::Consequence::{Delete, Orphan, Refuse, Update};
    use super::*;
    use crate::graph::TargetId;
    use crate::rules::{EntityId, Mode, ReferenceId};
    use crate::value::{Cell, Key};

    fn edge(on_delete: OnDelete, on_update: OnUpdate, origin: Origin) -> Edge {
        let columns = vec!["a".to_owned(), "b".to_owned()];
        Edge {
            name: "r".to_owned(),
            child: EntityId(1),
            columns,
            target: TargetId(0),
            when: Vec::new(),
            on_delete,
            on_update,
            mode: Mode::Enforce,
            archive: true,
            origin,
            native_delete: None,
            native_update: OnUpdate::NoAction,
        }
    }

    fn actions() -> Vec<(OnDelete, Consequence)> {
        let columns = || vec!["b".to_owned()];
        let set = [("c".to_owned(), Some("7".to_owned())), ("d".to_owned(), None)].into();
        vec![
            (OnDelete::Cascade, Delete),
            (OnDelete::SetNull(columns()), Update),
            (OnDelete::SetDefault(columns()), Update),
            (OnDelete::Set(set), Update),
            (OnDelete::Restrict, Refuse),
            (OnDelete::NoAction, Orphan),
        ]
    }

    const UPDATES: [(OnUpdate, Consequence); 5] = [
        (OnUpdate::Cascade, Update),
        (OnUpdate::SetNull, Update),
        (OnUpdate::SetDefault, Update),
        (OnUpdate::Restrict, Refuse),
        (OnUpdate::NoAction, Orphan),
    ];

    fn moved() -> Fate {
        let parts = ["8", "9"].map(|part| Cell::Value(part.to_owned()));
        Fate::Moved(Key::from_cells(&parts).expect("values"))
    }

    #[test]
    fn every_action_means_one_thing_for_every_fate() {
        for (on_delete, if_gone) in actions() {
            for (on_update, if_moved) in UPDATES {
                let edge = edge(on_delete.clone(), on_update, Origin::Rule(ReferenceId(0)));
                let is_idle = if_gone == Orphan && if_moved == Orphan;
                let unclear = (Fate::Unclear("nobody knows"), if is_idle { Orphan } else { Refuse });
                for (fate, expected) in [(Fate::Gone, if_gone), (moved(), if_moved), unclear] {
                    assert_eq!(consequence(&edge, &fate), expected, "{on_delete:?}, {on_update:?}, {fate:?}");
                    assert_eq!(is_change(&edge, &fate), matches!(expected, Delete | Update), "{on_delete:?}, {on_update:?}, {fate:?}");
                    assert_eq!(crate::plan::acts(&edge, &fate), expected != Orphan, "{on_delete:?}, {on_update:?}, {fate:?}");
                }
            }
        }
        let native = edge(OnDelete::NoAction, OnUpdate::NoAction, Origin::Native);
        assert_eq!(consequence(&native, &Fate::Gone), Refuse, "the database would refuse it");
    }

    #[test]
    fn an_action_writes_its_own_columns_and_no_others() {
        let of = |on_delete: OnDelete, on_update: OnUpdate, fate: &Fate| {
            let mut new = vec![Some("of another reference".to_owned())];
            let assigned = assigned(&edge(on_delete, on_update, Origin::Rule(ReferenceId(0))), fate, &mut new);
            (assigned.into_iter().map(|(column, what)| format!("{column} {what:?}")).collect::<Vec<_>>(), new.split_off(1))
        };
        let gone: Vec<Vec<String>> = actions().into_iter().map(|(on_delete, _)| of(on_delete, OnUpdate::Cascade, &Fate::Gone).0).collect();
        let expected: [&[&str]; 6] = [&[], &["b Null"], &["b Default"], &["c Value(\"7\")", "d Null"], &[], &[]];
        assert_eq!(gone, expected);
        let moved = UPDATES.map(|(on_update, _)| of(OnDelete::Cascade, on_update, &moved()));
        let new = [Some("8".to_owned()), Some("9".to_owned())];
        let expected: [&[&str]; 5] = [&["a PerRow(1)", "b PerRow(2)"], &["a Null", "b Null"], &["a Default", "b Default"], &[], &[]];
        assert_eq!(moved.clone().map(|(assigned, _)| assigned), expected);
        assert_eq!(moved.map(|(_, new)| new), [new.to_vec(), vec![], vec![], vec![], vec![]]);
        assert!(of(OnDelete::Cascade, OnUpdate::Cascade, &Fate::Unclear("nobody knows")).0.is_empty());
    }

    #[test]
    fn a_default_is_set_by_either_action() {
        for (on_delete, _) in actions() {
            for (on_update, _) in UPDATES {
                let expected = matches!(on_delete, OnDelete::SetDefault(_)) || on_update == OnUpdate::SetDefault;
                assert_eq!(sets_default(&edge(on_delete.clone(), on_update, Origin::Rule(ReferenceId(0)))), expected);
            }
        }
    }
}
