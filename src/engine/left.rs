//! Rows that stay behind a key when it changes: those of references that do not follow, or are shut, or in shadow. A later row of that key is not
//! their parent (H23).

use std::collections::BTreeSet;

use super::job::{Failure, Job};
use crate::graph::{Edge, EdgeId, Origin, TargetId};
use crate::plan::{Collected, Fate, Root, acts};
use crate::resolve;
use crate::rules::Mode;
use crate::value::Key;

/// What is left at a key.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// References of which no row is left there: they follow, or have none.
    pub(super) seen_to: BTreeSet<String>,
    /// Another one has rows there, or may have.
    pub(super) has_rows: bool,
}

/// What is left at a root when it has been worked; of one that is gone nobody asks. References that never do anything are nothing that rows could go
/// by.
pub(super) async fn at(job: &mut Job<'_>, collected: &Collected, root: &Root) -> Result<Left, Failure> {
    let model = job.model;
    let mut left = Left::default();
    if root.fate == Fate::Gone {
        return Ok(left);
    }
    for (id, edge) in model.graph.edges_at(root.target).filter(|(_, edge)| acts(edge, &Fate::Unclear(""))) {
        let is_shut = edge.origin != Origin::Native && job.latched.contains(&id);
        let stays = match edge.mode {
            Mode::Enforce => is_shut || !follows(edge, &root.fate) && collected.first_level(root, &[id]).next().is_some(),
            Mode::Shadow => job.latched.contains(&id) || has_rows_in_shadow(job, root, id).await?,
        };
        if stays {
            left.has_rows = true;
        } else {
            left.seen_to.insert(edge.name.clone());
        }
    }
    Ok(left)
}

/// Whether rows leave the key. Those of an unclear one stay, be it that they hold already what would be set.
fn follows(edge: &Edge, fate: &Fate) -> bool {
    acts(edge, fate) && !matches!(fate, Fate::Unclear(_))
}

/// Nothing comes to these. They may not have been read: the whole batch may have too many.
async fn has_rows_in_shadow(job: &mut Job<'_>, root: &Root, edge: EdgeId) -> Result<bool, Failure> {
    if let Some(read) = &job.in_shadow {
        return Ok(read.first_level(root, &[edge]).next().is_some());
    }
    Ok(resolve::has_children(job.model, &mut job.sessions, edge, &root.key).await?)
}

/// Whether rows point at a key by which something could come to them. What is shut is not asked: there may be some.
pub(super) async fn has_rows(job: &mut Job<'_>, target: TargetId, key: &Key) -> Result<bool, Failure> {
    let model = job.model;
    for (id, _) in model.graph.edges_at(target).filter(|(_, edge)| edge.origin != Origin::Native && acts(edge, &Fate::Unclear(""))) {
        if job.latched.contains(&id) || resolve::has_children(model, &mut job.sessions, id, key).await? {
            return Ok(true);
        }
    }
    Ok(false)
}
