//! What the rules have already, and what was proposed once: neither is written again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Link, Surveyed, mark};
use crate::rules::{RuleSet, SourceFile, TableName};

/// How a proposal is marked in a rules file. The line may stay without the reference: then it is not proposed again.
pub(super) const MARK: &str = "# found: ";

/// Rules that are there.
#[derive(Debug, Default)]
pub struct Known {
    /// Entities by service and table.
    entities: BTreeMap<(String, TableName), String>,
    /// Entities without a topic.
    without_topic: BTreeSet<String>,
    /// Names of everything.
    names: BTreeSet<String>,
    /// Child, columns, parent and columns, by names.
    references: BTreeSet<(String, Vec<String>, String, Vec<String>)>,
    /// Marks in the files.
    marks: BTreeSet<String>,
}

impl Known {
    /// Reads rules and their files.
    #[must_use]
    pub fn of(rules: &RuleSet, files: &[SourceFile]) -> Self {
        let entities = rules.entities.iter().map(|one| ((one.service.clone(), one.table.clone()), one.name.clone()));
        let ends = |one: &crate::rules::Reference| {
            let (child, parent) = (rules.entity(one.child).name.clone(), rules.entity(one.parent).name.clone());
            (child, one.columns.clone(), parent, one.parent_columns.clone())
        };
        let names = rules.references.iter().map(|one| one.name.clone()).chain(rules.entities.iter().map(|one| one.name.clone()));
        let lines = files.iter().flat_map(|file| file.text.lines());
        Self {
            entities: entities.collect(),
            without_topic: rules.entities.iter().filter(|one| one.topic.is_none()).map(|one| one.name.clone()).collect(),
            names: names.chain(rules.replicas.iter().map(|one| one.name.clone())).collect(),
            references: rules.references.iter().map(ends).collect(),
            marks: lines.filter_map(|line| line.trim_start().strip_prefix(MARK)).map(|mark| mark.trim_end().to_owned()).collect(),
        }
    }

    /// Gives tables the names that the rules have for them.
    pub fn rename(&self, tables: &mut [Surveyed]) {
        for table in tables {
            let full = table.table.table_name();
            let bare = TableName { schema: None, table: full.table.clone() };
            // Without a schema the rules mean the first one in the search path: `public`, unless the role has another.
            let is_first = matches!(table.table.schema(), "public" | "main");
            let names = [Some(full), is_first.then_some(bare)];
            let known = names.into_iter().flatten().find_map(|name| self.entities.get(&(table.service.clone(), name)));
            if let Some(known) = known {
                table.name.clone_from(known);
            }
        }
    }

    /// Whether the rules have an entity of this name.
    #[must_use]
    pub fn has_entity(&self, name: &str) -> bool {
        self.entities.values().any(|known| known == name)
    }

    /// Whether the rules have an entity of this name that nothing tells of.
    #[must_use]
    pub fn lacks_topic(&self, name: &str) -> bool {
        self.without_topic.contains(name)
    }

    /// Whether the name is taken.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the rules have this reference, or had it proposed.
    #[must_use]
    pub fn has(&self, tables: &[Surveyed], link: &Link) -> bool {
        let name = |table: usize| tables.get(table).map(|table| table.name.clone()).unwrap_or_default();
        let ends = (name(link.child), link.columns.clone(), name(link.parent), link.parent_columns.clone());
        self.references.contains(&ends) || self.marks.contains(&mark(tables, link))
    }
}
