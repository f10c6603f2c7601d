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
