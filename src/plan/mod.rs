//! What a batch entails, worked out without touching anything.
//!
//! Three stages, each a type, so that they cannot be run in another order (promise 2): [`Expansion`] asks for child rows until nothing is
//! left to ask and becomes [`Collected`]; `Collected` becomes [`Verified`] by the answer to a look-up of its roots that was made *afterwards*;
//! and a [`Plan`] is made from `Verified` alone. Pure: keys, rows and answers come in as arguments.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{EdgeId, TargetId};
use crate::rules::EntityId;
use crate::value::{Key, RowImage};

mod consequence;
mod expand;
mod moves;
mod order;
mod portion;
mod reduce;
mod steps;
#[cfg(test)]
mod tests;

pub use consequence::{Consequence, consequence, is_change};
pub(crate) use expand::columns_key;
pub use expand::{Expansion, Need};
pub use moves::{Arrival, KeyHistory, Move, MoveState, Ruling, came_from, complete, rule};
pub use order::{Blocked, Bounds, acts, is_settled, plan};
pub use portion::{Room, Share, halve};
pub use reduce::{Candidate, Copy, Reduced, reduce};

/// Index of a root in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(pub u32);

/// Index of a collected row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(u32);

/// A parent key from which a cascade starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The columns of which entity.
    pub target: TargetId,
    /// Their values.
    pub key: Key,
    /// What is thought to have happened to the parent.
    pub fate: Fate,
    /// What else its parent row was known by: its other unique keys, and values that they changed from. What holds one of them back, such as a
    /// `restrict`, holds this one (H26).
    pub beside: BTreeSet<(TargetId, Key)>,
    /// If set, only these child rows may be touched: those that were read before the look-up which the entity's topic has since been read past
    /// (H114).
    pub seen: Option<BTreeSet<Seen>>,
}

/// Which references are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that are enforced.
    Enforced,
    /// Those in shadow too: what would happen if they were enforced.
    WithShadow,
}

impl Scope {
    fn includes(self, edge: &crate::graph::Edge) -> bool {
        self == Self::WithShadow || edge.mode == crate::rules::Mode::Enforce
    }
}

/// What is thought to have happened to a parent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is gone.
    Gone,
    /// It has this key now.
    Moved(Key),
    /// It is missing, and the key alone does not tell what its children are to do, for this reason: they are looked at, never touched.
    Unclear(&'static str),
}

/// A child row as it was seen: same row, same version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The reference by which it was found.
    pub edge: EdgeId,
    /// The row's key.
    pub key: Key,
    /// The row's version.
    pub version: String,
}

/// A child row that was read, under lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRow {
    /// Its key.
    pub key: Key,
    /// The columns that the planner needs.
    pub image: RowImage,
    /// Changes whenever the row does.
    pub version: String,
}

/// Rows read and locked, before anyone asked whether their roots are gone.
#[derive(Debug)]
pub struct Collected {
    roots: Vec<Root>,
    rows: Vec<(EntityId, ChildRow)>,
    children: BTreeMap<(EdgeId, Key), Vec<RowId>>,
    /// Keys of which not all rows were read: this is a portion.
    unread: BTreeSet<(EdgeId, Key)>,
}

/// What a look-up of the roots said that began after the last row was read.
#[derive(Debug, Clone, Default)]
pub struct Confirmed {
    /// Roots that are not there (or have moved as said), and whose rows may be touched.
    pub doomed: BTreeSet<RootId>,
    /// Roots that are not there either, but nothing of theirs may be touched (yet): they count for what they refuse.
    pub waiting: BTreeSet<RootId>,
}

/// The part of it whose roots were looked up afterwards, on their own database's primary, and are not there (or have moved as said).
#[derive(Debug)]
pub struct Verified {
    collected: Collected,
    confirmed: Confirmed,
}

impl Collected {
    /// The roots, whose ids are their places.
    pub fn roots(&self) -> impl Iterator<Item = (RootId, &Root)> {
        (0u32..).map(RootId).zip(&self.roots)
    }

    /// The child rows that point at a root, with the reference by which they do.
    pub fn first_level<'a>(&'a self, root: &'a Root, edges: &'a [EdgeId]) -> impl Iterator<Item = (EdgeId, &'a ChildRow)> {
        edges.iter().flat_map(|edge| {
            let rows = self.children.get(&(*edge, root.key.clone())).map_or(&[][..], Vec::as_slice);
            rows.iter().map(|row| (*edge, &self.row(*row).1))
        })
    }

    /// Whether some rows were left unread: this is a portion.
    #[must_use]
    pub fn is_portion(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Keeps the roots that the look-up confirmed, each with its subtree; drops the others. `confirmed` must come from a look-up that began
    /// after the last row was read.
    #[must_use]
    pub fn verify(self, confirmed: Confirmed) -> Verified {
        Verified { collected: self, confirmed }
    }

    fn row(&self, id: RowId) -> &(EntityId, ChildRow) {
        self.rows.get(id.0 as usize).expect("row ids are made by this collection")
    }
}

/// What a column is set to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignment {
    /// NULL.
    Null,
    /// The column's default.
    Default,
    /// This canonical text, the same for all rows.
    Value(String),
    /// The value at this place of each row's own list.
    PerRow(usize),
}

/// One action on one row set of one table. Complete: the sink adds nothing and asks nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The table.
    pub entity: EntityId,
    /// The references by which the rows were reached; all must still hold when the rows are touched.
    pub edges: Vec<EdgeId>,
    /// What is done.
    pub action: StepAction,
    /// Sorted by key, no repeats.
    pub rows: Vec<StepRow>,
    /// It changes rows that another root changes too: it is written and kept before all that is not early.
    pub is_early: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepAction {
    /// The rows go.
    Delete,
    /// These columns are set.
    Update(Vec<(String, Assignment)>),
}

impl StepAction {
    /// The word for the archive and the audit.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Update(_) => "update",
        }
    }
}

/// One row of a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepRow {
    /// Its key.
    pub key: Key,
    /// The values that it must still carry in the columns of the step's references.
    pub still: Vec<String>,
    /// Values for [`Assignment::PerRow`].
    pub new: Vec<Option<String>>,
    /// The root to which the archive ascribes it.
    pub root: RootId,
}

/// The full result of planning a batch.
#[derive(Debug, Default)]
pub struct Plan {
    /// Children before parents.
    pub steps: Vec<Step>,
    /// What the databases do by themselves when the steps give rows other keys: archived and audited, and nobody's to take.
    pub followed: Vec<Step>,
    /// Per root with rows: how many.
    pub rows: BTreeMap<RootId, u64>,
    /// Roots that are not applied, and why.
    pub blocked: BTreeMap<RootId, Blocked>,
    /// Rows that point at a gone parent under `no_action`, per reference: counted, not touched.
    pub orphans: BTreeMap<EdgeId, u64>,
    /// Roots of which this is a portion: more is left.
    pub unfinished: BTreeSet<RootId>,
    /// Keys that go with their rows, of columns at which defaults may point.
    pub vacated: BTreeSet<(TargetId, Key)>,
}
