//! A portion of what hangs on a root: as much as one short transaction takes.

use std::collections::BTreeSet;

use super::{Sessions, Trouble, in_order, read_children};
use crate::graph::EdgeId;
use crate::model::Model;
use crate::plan::{Collected, Expansion, Need, Room, Root, Scope, Share, halve};

/// Reads and locks a portion of what is below the roots; what was left is marked in it.
pub(crate) async fn collect_portion(
    model: &Model,
    sessions: &mut Sessions,
    roots: Vec<Root>,
    latched: &BTreeSet<EdgeId>,
    room: Room,
) -> Result<Collected, Trouble> {
    let mut expansion = Expansion::new(&model.graph, roots, latched, Scope::Enforced);
    let mut is_first = true;
    loop {
        let needs = in_order(model, expansion.needs());
        if needs.is_empty() {
            return Ok(expansion.finish());
        }
        for need in needs {
            let edge = need.edge;
            let share = room.share(&expansion, &need, is_first);
            read_share(model, sessions, &mut expansion, need, share).await.map_err(|error| Trouble { error, edges: vec![edge] })?;
        }
        is_first = false;
    }
}

async fn read_share(
    model: &Model,
    sessions: &mut Sessions,
    expansion: &mut Expansion<'_>,
    mut need: Need,
    share: Share,
) -> Result<(), crate::sink::SinkError> {
    let Share::Rows(most) = share else {
        expansion.leave(need.edge, &need.keys);
        return Ok(());
    };
    loop {
        let mut rows = read_children(model, sessions, &need, (true, most.saturating_add(1))).await?;
        if rows.len() > most {
            if let Some((first, rest)) = halve(&need) {
                expansion.leave(need.edge, &rest);
                need = first;
                continue;
            }
            rows.truncate(most);
            expansion.leave(need.edge, &need.keys);
        }
        expansion.answer(&need, rows);
        return Ok(());
    }
}
