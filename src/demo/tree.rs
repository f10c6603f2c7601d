//! What one delete entailed, as a tree: the rules give its shape, the worker's reports its numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::world::Observed;
use crate::model::Model;
use crate::rules::EntityId;

/// A root and what hangs on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// The entity that was deleted from.
    pub entity: String,
    /// The key that was deleted.
    pub key: String,
    /// What hangs on it.
    pub branches: Vec<Branch>,
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The table's entity.
    pub entity: String,
    /// The reference by which they were reached; a copy has none.
    pub reference: Option<String>,
    /// How many rows.
    pub rows: u64,
    /// From the commit of the delete until the worker knew their removal durable; none if there were none.
    pub after: Option<Duration>,
    /// What hangs on them.
    pub branches: Vec<Branch>,
}

/// What reports say, added up.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// By entity and reference: rows, and when the last of them were durable.
    lines: BTreeMap<(String, String), (u64, Duration)>,
    /// By the entity copied.
    copies: BTreeMap<String, (u64, Duration)>,
}

impl Done {
    /// Adds reports up. Also the cascades of rows that other cascades had removed: they end in the same tables.
    pub(super) fn of(seen: &[Observed], committed: Instant) -> Self {
        let mut done = Self::default();
        for observed in seen {
            let after = observed.at.saturating_duration_since(committed);
            for line in observed.report.cascades.iter().flat_map(|cascade| &cascade.lines) {
                for reference in line.reference.split(", ") {
                    let (rows, last) = done.lines.entry((line.entity.clone(), reference.to_owned())).or_default();
                    (*rows, *last) = (*rows + line.rows, after);
                }
            }
            for (entity, changed) in &observed.report.copies {
                let (rows, last) = done.copies.entry(entity.clone()).or_default();
                (*rows, *last) = (*rows + changed, after);
            }
        }
        done
    }
}

impl Tree {
    /// The tree under an entity.
    pub(super) fn grow(model: &Model, root: EntityId, key: &str, done: &Done) -> Self {
        let entity = model.rules.entity(root).name.clone();
        Self { entity, key: key.to_owned(), branches: branches(model, root, done, &mut vec![root]) }
    }

    /// Rows of an entity, over all branches.
    #[must_use]
    pub fn rows_of(&self, entity: &str) -> u64 {
        self.all().into_iter().filter(|(_, branch)| branch.entity == entity).map(|(_, branch)| branch.rows).sum()
    }

    /// All branches from top to bottom, each with the lines drawn before it.
    fn all(&self) -> Vec<(String, &Branch)> {
        fn walk<'a>(branches: &'a [Branch], before: &str, found: &mut Vec<(String, &'a Branch)>) {
            for (place, branch) in branches.iter().enumerate() {
                let (knee, stem) = if place + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                found.push((format!("{before}{knee}"), branch));
                walk(&branch.branches, &format!("{before}{stem}"), found);
            }
        }
        let mut found = Vec::new();
        walk(&self.branches, "", &mut found);
        found
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.all();
        let name = |(drawn, branch): &(String, &Branch)| drawn.chars().count() + branch.entity.chars().count();
        let via = |branch: &Branch| branch.reference.as_ref().map_or("replica".to_owned(), |reference| format!("via {reference}"));
        let wide = lines.iter().map(name).max().unwrap_or(0);
        let wide_via = lines.iter().map(|(_, branch)| via(branch).chars().count()).max().unwrap_or(0);
        let mut text = format!("{} {} deleted\n", self.entity, self.key);
        for line in &lines {
            let (drawn, branch) = line;
            let gap = " ".repeat(wide - name(line));
            let rows = if branch.rows == 1 { "row " } else { "rows" };
            let after = branch.after.map_or(String::new(), |after| format!("  {:>5} ms", after.as_millis()));
            writeln!(text, "{drawn}{}{gap}  {:>3} {rows}  {:<wide_via$}{after}", branch.entity, branch.rows, via(branch))
                .expect("a String takes any text");
        }
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"entity": self.entity, "key": self.key, "branches": self.branches.iter().map(Branch::json).collect::<Vec<_>>()})
    }
}

impl Branch {
    fn json(&self) -> Value {
        json!({
            "entity": self.entity, "reference": self.reference, "rows": self.rows, "ms": self.after.map(millis),
            "branches": self.branches.iter().map(Self::json).collect::<Vec<_>>(),
        })
    }
}

/// Milliseconds, with what is behind the point.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn branches(model: &Model, parent: EntityId, done: &Done, path: &mut Vec<EntityId>) -> Vec<Branch> {
    let mut found = Vec::new();
    for (_, edge) in model.graph.references_to(parent) {
        let entity = model.graph.node(edge.child).name.clone();
        let counted = done.lines.get(&(entity.clone(), edge.name.clone())).copied();
        // A circle is drawn once.
        let below = if path.contains(&edge.child) {
            Vec::new()
        } else {
            path.push(edge.child);
            let below = branches(model, edge.child, done, path);
            path.pop();
            below
        };
        let (rows, after) = (counted.map_or(0, |(rows, _)| rows), counted.map(|(_, after)| after));
        found.push(Branch { entity, reference: Some(edge.name.clone()), rows, after, branches: below });
    }
    for replica in model.rules.replicas.iter().filter(|replica| replica.of == parent) {
        let counted = done.copies.get(&model.rules.entity(parent).name).copied();
        let (rows, after) = (counted.map_or(0, |(rows, _)| rows), counted.map(|(_, after)| after));
        found.push(Branch { entity: replica.name.clone(), reference: None, rows, after, branches: Vec::new() });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(entity: &str, reference: Option<&str>, rows: u64, branches: Vec<Branch>) -> Branch {
        let after = (rows > 0).then_some(Duration::from_millis(41));
        Branch { entity: entity.to_owned(), reference: reference.map(str::to_owned), rows, after, branches }
    }

    #[test]
    fn a_tree_is_drawn_with_its_columns_in_line() {
        let order = branch(
            "shop.order",
            Some("order_customer"),
            3,
            vec![
                branch("shop.order_line", Some("line_order"), 12, Vec::new()),
                branch("shipping.parcel", Some("parcel_order"), 0, Vec::new()),
            ],
        );
        let tree = Tree {
            entity: "crm.customer".to_owned(),
            key: "1".to_owned(),
            branches: vec![order, branch("shop.customer_copy", None, 1, Vec::new())],
        };
        let wanted = "\
crm.customer 1 deleted
├─ shop.order            3 rows  via order_customer     41 ms
│  ├─ shop.order_line   12 rows  via line_order         41 ms
│  └─ shipping.parcel    0 rows  via parcel_order 
└─ shop.customer_copy    1 row   replica                41 ms
";
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&tree.text()), trimmed(wanted));
        assert_eq!((tree.rows_of("shop.order_line"), tree.rows_of("nobody.knows")), (12, 0));
    }
}
