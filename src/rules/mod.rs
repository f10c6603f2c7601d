//! What is enforced: entities, references, replicas and limits, already checked.
//!
//! A [`RuleSet`] exists only if every file was read without a problem, so that later stages need not doubt it: ids are valid, names are
//! unique, column lists are not empty and of equal length. How this process connects is none of its business (`config`). Pure,
//! except for `load`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

mod check;
pub(crate) mod diagnostic;
pub(crate) mod fields;
mod fingerprint;
mod load;
pub(crate) mod suggest;
pub(crate) mod syntax;

pub(crate) use check::check_version;
pub use check::{Checked, check, places};
pub use diagnostic::{Diagnostic, Related, Severity, render_json, render_text};
pub use load::{is_tests_file, load};
pub use syntax::SourceFile;

/// Index of an entity in its rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub u32);
/// Index of a reference in its rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferenceId(pub u32);
/// Index of a replica in its rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u32);

/// Rows per event above which a root is parked, unless the rules say otherwise.
pub const DEFAULT_ROWS_PER_EVENT: u64 = 10_000;
/// Rows per window and reference above which its latch closes, unless the rules say otherwise.
pub const DEFAULT_ROWS: RowsPer = RowsPer { count: 100_000, per: Duration::from_secs(600), percent: None };

/// Everything that one rules path says.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSet {
    /// In the order written, files in the order of their names.
    pub entities: Vec<Entity>,
    /// In the order written.
    pub references: Vec<Reference>,
    /// In the order written.
    pub replicas: Vec<Replica>,
    /// One block over all files, or the defaults.
    pub limits: Limits,
}

/// Whether steps are applied or only planned and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Steps are applied.
    Enforce,
    /// Steps are planned, counted and shown; nothing is written.
    Shadow,
}

/// One table of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// The name as written, `service.entity`.
    pub name: String,
    /// The part before the dot: names a database connection.
    pub service: String,
    /// Its table.
    pub table: TableName,
    /// Key columns, in the order written; not empty, no repeats.
    pub key: Vec<String>,
    /// The topic that carries its changes, if it has one.
    pub topic: Option<String>,
}

/// A table as the rules name it; the database's catalog decides whether it exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, if one was written.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// Child columns that name a parent's key, with referential actions. An edge of the graph, parent to child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Unique over all files.
    pub name: String,
    /// The entity whose rows point.
    pub child: EntityId,
    /// The child's columns, parallel to `parent_columns`.
    pub columns: Vec<String>,
    /// The entity pointed at.
    pub parent: EntityId,
    /// The parent's columns: its key, unless written otherwise.
    pub parent_columns: Vec<String>,
    /// Only child rows for which every condition holds belong to this reference.
    pub when: Vec<When>,
    /// How a partly null composite reference is understood.
    pub matching: Match,
    /// What a gone parent entails.
    pub on_delete: OnDelete,
    /// What a changed parent key entails.
    pub on_update: OnUpdate,
    /// What a child that arrives without its parent entails.
    pub on_missing: Option<OnMissing>,
    /// The file's mode, unless the reference has its own.
    pub mode: Mode,
    /// Whether rows are archived before they go or change by it: only then can they be put back.
    pub archive: bool,
    /// A person has said that the child's own key points at the parent.
    pub one_to_one: bool,
}

/// A condition on a child column: equal to one of these texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// The child's column.
    pub column: String,
    /// Not empty; as written, to be read by the column's type.
    pub values: Vec<String>,
}

/// SQL's MATCH of a composite reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// A null in any column: the row refers to nothing.
    Simple,
    /// All columns or none may be null.
    Full,
}

/// What a gone parent entails for the child rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDelete {
    /// They go too.
    Cascade,
    /// These of the reference's columns become null.
    SetNull(Vec<String>),
    /// These of the reference's columns take the column's default.
    SetDefault(Vec<String>),
    /// These columns take these values (`None` is NULL).
    Set(BTreeMap<String, Option<String>>),
    /// The violation is recorded, and nothing under the root is applied.
    Restrict,
    /// Nothing; the orphans are counted.
    NoAction,
}

/// What a changed parent key entails for the child rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUpdate {
    /// They follow to the new key.
    Cascade,
    /// The reference's columns become null.
    SetNull,
    /// The reference's columns take their defaults.
    SetDefault,
    /// The violation is recorded, and nothing under the root is applied.
    Restrict,
    /// The violation is recorded; nothing changes.
    NoAction,
}

/// What a child that arrives without its parent entails, after a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnMissing {
    /// Never shortened.
    pub wait: Duration,
    /// What is done to the rows that arrived.
    pub then: MissingAction,
}

/// The action of [`OnMissing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingAction {
    /// The child row goes.
    Delete,
    /// The reference's columns become null.
    SetNull,
    /// The reference's columns take their defaults.
    SetDefault,
    /// These columns take these values.
    Set(BTreeMap<String, Option<String>>),
    /// The orphan is recorded.
    Report,
    /// The child's event becomes a dead letter.
    DeadLetter,
}

/// A copy of some columns of an entity, kept in another service's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The name as written, `service.name`.
    pub name: String,
    /// The database that holds the copy.
    pub service: String,
    /// The entity copied.
    pub of: EntityId,
    /// The copy's table.
    pub table: TableName,
    /// (column of the entity, column of the copy), in the order written; holds the whole key.
    pub columns: Vec<(String, String)>,
}

/// Bounds that close a latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows that one root may touch, its whole subtree counted.
    pub rows_per_event: u64,
    /// Rows that one reference may touch in a window, over all workers.
    pub rows: RowsPer,
}

/// A count of rows in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsPer {
    /// Rows.
    pub count: u64,
    /// Length of the window.
    pub per: Duration,
    /// And this share of the child's table at the most, in percent, as it was when the window began.
    pub percent: Option<u64>,
}

impl RuleSet {
    /// The entity with this id.
    #[must_use]
    pub fn entity(&self, id: EntityId) -> &Entity {
        self.entities.get(id.0 as usize).expect("entity ids are made by this rule set")
    }

    /// The reference with this id.
    #[must_use]
    pub fn reference(&self, id: ReferenceId) -> &Reference {
        self.references.get(id.0 as usize).expect("reference ids are made by this rule set")
    }

    /// The replica with this id.
    #[must_use]
    pub fn replica(&self, id: ReplicaId) -> &Replica {
        self.replicas.get(id.0 as usize).expect("replica ids are made by this rule set")
    }

    /// Ids and entities, in order.
    pub fn entity_ids(&self) -> impl Iterator<Item = (EntityId, &Entity)> {
        (0u32..).map(EntityId).zip(&self.entities)
    }

    /// Ids and references, in order.
    pub fn reference_ids(&self) -> impl Iterator<Item = (ReferenceId, &Reference)> {
        (0u32..).map(ReferenceId).zip(&self.references)
    }

    /// Ids and replicas, in order.
    pub fn replica_ids(&self) -> impl Iterator<Item = (ReplicaId, &Replica)> {
        (0u32..).map(ReplicaId).zip(&self.replicas)
    }
}
