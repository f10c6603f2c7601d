//! Tests of rules, written beside them: given rows, a change, and what must be left.
//!
//! The rules are bound to SQLite files made for the test, the change is made in its service's file, and what the file's log then says goes
//! through the same decoder, planner and statements as in `run`. Nothing of a server is needed, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

mod lay;
mod play;
mod read;
mod verdict;

#[cfg(test)]
mod tests;

pub use play::{Bench, PlayError};
pub use read::{Read, read};
pub use verdict::{Difference, Verdict};

use crate::rules::{RuleSet, SourceFile};

/// What is written in a row: texts by column; `None` is null.
pub type Row = BTreeMap<String, Option<String>>;

/// A file of tests, with the rules that they are about.
#[derive(Debug)]
pub struct Suite {
    /// The file.
    pub file: SourceFile,
    /// Where its rules are.
    pub rules_path: PathBuf,
    /// The rules.
    pub rules: RuleSet,
    /// Defaults of columns that a `set_default` needs, by entity and column.
    pub defaults: BTreeMap<String, Row>,
    /// In the order written.
    pub scenarios: Vec<Scenario>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What it is about.
    pub name: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// Rows before the change, by entity or replica.
    pub given: BTreeMap<String, Vec<Row>>,
    /// Made one after the other, each worked to its end.
    pub changes: Vec<Change>,
    /// What must come of it.
    pub expect: Expect,
}

/// A change that a service makes in its own database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new row.
    Insert {
        /// Of this entity.
        entity: String,
        /// The row.
        row: Row,
    },
    /// Rows with these values get other values.
    Update {
        /// Of this entity.
        entity: String,
        /// Which.
        chosen: Row,
        /// The new values.
        set: Row,
    },
    /// Rows with these values go.
    Delete {
        /// Of this entity.
        entity: String,
        /// Which.
        chosen: Row,
    },
}

impl Change {
    /// The entity that it changes.
    #[must_use]
    pub fn entity(&self) -> &str {
        match self {
            Self::Insert { entity, .. } | Self::Update { entity, .. } | Self::Delete { entity, .. } => entity,
        }
    }
}

/// What must come of a change. What is not said must be as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// All rows of these entities and replicas.
    pub rows: BTreeMap<String, Vec<Row>>,
    /// Rows changed by each reference; those not named: none. `None` asks for nothing.
    pub counts: Option<BTreeMap<String, u64>>,
    /// Rows left pointing at a missing parent, by `no_action` reference.
    pub orphans: Option<BTreeMap<String, u64>>,
    /// Rows that references in shadow would have changed.
    pub shadow: Option<BTreeMap<String, u64>>,
    /// Roots that are set aside: entity and reason.
    pub parked: BTreeSet<(String, String)>,
    /// References that are shut.
    pub latched: BTreeSet<String>,
}
