//! The rules as a picture: a tree for the terminal, Mermaid, DOT, JSON.
//!
//! Drawn from the rules alone, parents above children. What a delete can reach goes along references that remove rows; one that only changes them ends
//! there. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use serde_json::{Value, json};

use crate::rules::{EntityId, Mode, OnDelete, Reference, RuleSet};

/// Entities and references, or those that one entity's delete can reach.
pub struct Diagram<'a> {
    rules: &'a RuleSet,
    from: Option<EntityId>,
    shown: BTreeSet<EntityId>,
    /// Entities that stand on a cycle, by the number of their cycle.
    cycles: BTreeMap<EntityId, usize>,
}

impl<'a> Diagram<'a> {
    /// Of everything, or from one entity downwards.
    #[must_use]
    pub fn new(rules: &'a RuleSet, from: Option<EntityId>) -> Self {
        let shown = match from {
            None => rules.entity_ids().map(|(id, _)| id).collect(),
            Some(from) => depths(rules, from).into_keys().collect(),
        };
        Self { rules, from, shown, cycles: cycles(rules, |_| true) }
    }

    fn references(&self) -> impl Iterator<Item = &'a Reference> {
        let is_shown = |reference: &&Reference| match self.from {
            None => true,
            Some(_) => self.shown.contains(&reference.parent) && self.goes_on(reference.parent),
        };
        self.rules.references.iter().filter(is_shown)
    }

    /// Whether rows of the entity may go when the one that the picture begins at goes.
    fn goes_on(&self, id: EntityId) -> bool {
        let Some(from) = self.from else { return true };
        id == from
            || self
                .rules
                .references
                .iter()
                .any(|one| one.child == id && self.shown.contains(&one.parent) && one.on_delete == OnDelete::Cascade)
    }

    fn name(&self, id: EntityId) -> &'a str {
        &self.rules.entity(id).name
    }

    fn is_on_cycle(&self, reference: &Reference) -> bool {
        let number = |id| self.cycles.get(&id);
        number(reference.parent).is_some() && number(reference.parent) == number(reference.child)
    }

    /// Entities by database, in the order of the rules.
    fn groups(&self) -> Vec<(&'a str, Vec<EntityId>)> {
        let mut groups: Vec<(&str, Vec<EntityId>)> = Vec::new();
        for (id, entity) in self.rules.entity_ids().filter(|(id, _)| self.shown.contains(id)) {
            match groups.iter_mut().find(|(service, _)| *service == entity.service) {
                Some((_, ids)) => ids.push(id),
                None => groups.push((&entity.service, vec![id])),
            }
        }
        groups
    }

    /// For a terminal: one tree for each entity that points at nothing, and one for each cycle that nothing leads to.
    #[must_use]
    pub fn tree(&self) -> String {
        let mut lines: Vec<[String; 3]> = Vec::new();
        let mut told = BTreeSet::new();
        let is_child = |id: EntityId| self.rules.references.iter().any(|one| one.child == id && one.parent != id);
        let roots = match self.from {
            Some(from) => vec![from],
            None => self.rules.entity_ids().map(|(id, _)| id).filter(|id| !is_child(*id)).collect(),
        };
        let all = roots.iter().copied().chain(self.rules.entity_ids().map(|(id, _)| id).filter(|id| self.shown.contains(id)));
        for root in all {
            if !told.contains(&root) {
                lines.push([self.name(root).to_owned(), String::new(), String::new()]);
                self.branches(root, "", &mut vec![root], &mut told, &mut lines);
            }
        }
        let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|text| text.chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        lines.iter().map(|[name, what, by]| format!("{name:first$}  {what:second$}  {by}").trim_end().to_owned() + "\n").collect()
    }

    fn branches(
        &self,
        parent: EntityId,
        indent: &str,
        path: &mut Vec<EntityId>,
        told: &mut BTreeSet<EntityId>,
        lines: &mut Vec<[String; 3]>,
    ) {
        told.insert(parent);
        let below: Vec<&Reference> = self.references().filter(|one| one.parent == parent).collect();
        let copies: Vec<&str> = self.rules.replicas.iter().filter(|copy| copy.of == parent).map(|copy| copy.name.as_str()).collect();
        let count = below.len() + copies.len();
        let (fork, last) = (|place| if place + 1 == count { "└─ " } else { "├─ " }, |place| if place + 1 == count { "   " } else { "│  " });
        for (place, reference) in below.iter().enumerate() {
            let child = reference.child;
            let mut right = reference.name.clone();
            let goes_on = self.goes_on(child) && self.rules.references.iter().any(|one| one.parent == child);
            if path.contains(&child) {
                right += "  (cycle)";
            } else if told.contains(&child) && goes_on {
                right += "  (see above)";
            }
            lines.push([format!("{indent}{}{}", fork(place), self.name(child)), words(reference), right]);
            if !path.contains(&child) && !told.contains(&child) && self.goes_on(child) {
                path.push(child);
                self.branches(child, &format!("{indent}{}", last(place)), path, told, lines);
                path.pop();
            }
            if !self.goes_on(child) {
                told.insert(child);
            }
        }
        for (place, copy) in copies.iter().enumerate() {
            lines.push([format!("{indent}{}{copy}", fork(below.len() + place)), "copy".to_owned(), String::new()]);
        }
    }

    /// What a delete of one row of the entity that the picture begins at can reach, in words.
    #[must_use]
    pub fn reach(&self) -> Option<String> {
        let from = self.from?;
        let depths = depths(self.rules, from);
        let (mut removed, mut changed) = (BTreeSet::new(), BTreeSet::new());
        for reference in self.references().filter(|one| self.goes_on(one.parent)) {
            match reference.on_delete {
                OnDelete::Cascade => drop(removed.insert(reference.child)),
                OnDelete::SetNull(_) | OnDelete::SetDefault(_) | OnDelete::Set(_) => drop(changed.insert(reference.child)),
                OnDelete::Restrict | OnDelete::NoAction => {}
            }
        }
        let databases: BTreeSet<&str> = removed.union(&changed).map(|id| self.rules.entity(*id).service.as_str()).collect();
        let listed = |ids: &BTreeSet<EntityId>| ids.iter().map(|id| self.name(*id)).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "A delete of one {} reaches {} entities in {} databases, at most {} deep.\n",
            self.name(from),
            removed.union(&changed).count(),
            databases.len(),
            depths.values().max().copied().unwrap_or(0)
        );
        for (what, ids) in [("removes rows of", &removed), ("changes rows of", &changed)] {
            if !ids.is_empty() {
                writeln!(text, "  {what}: {}", listed(ids)).expect("a String takes any text");
            }
        }
        if cycles(self.rules, |one| one.on_delete == OnDelete::Cascade).keys().any(|id| removed.contains(id)) {
            text += "  goes round a cycle until nothing is left to go\n";
        }
        Some(text)
    }

    /// For a README: GitHub and GitLab draw it.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for (service, ids) in self.groups() {
            writeln!(text, "  subgraph {}[\"{}\"]", node_id(service), escaped(service)).expect("a String takes any text");
            for id in ids {
                writeln!(text, "    e{}[\"{}\"]", id.0, escaped(bare(self.name(id)))).expect("a String takes any text");
            }
            text += "  end\n";
        }
        for reference in self.references() {
            let cycle = if self.is_on_cycle(reference) { " (cycle)" } else { "" };
            let arrow = if reference.mode == Mode::Shadow { "-.->" } else { "-->" };
            writeln!(text, "  e{} {arrow}|\"{}{cycle}\"| e{}", reference.parent.0, escaped(&words(reference)), reference.child.0)
                .expect("a String takes any text");
        }
        for (number, copy) in self.rules.replicas.iter().enumerate().filter(|(_, copy)| self.shown.contains(&copy.of)) {
            writeln!(text, "  e{} -->|copy| c{number}[(\"{}\")]", copy.of.0, escaped(&copy.name)).expect("a String takes any text");
        }
        text
    }

    /// For Graphviz.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut text = "digraph rules {\n  node [shape=box];\n".to_owned();
        for (service, ids) in self.groups() {
            writeln!(text, "  subgraph {} {{\n    label={};", quoted(&format!("cluster_{service}")), quoted(service))
                .expect("a String takes any text");
            for id in ids {
                writeln!(text, "    {} [label={}];", quoted(self.name(id)), quoted(bare(self.name(id)))).expect("a String takes any text");
            }
            text += "  }\n";
        }
        for reference in self.references() {
            let style = if reference.mode == Mode::Shadow { ", style=dashed" } else { "" };
            let color = if self.is_on_cycle(reference) { ", color=red" } else { "" };
            let (parent, child) = (quoted(self.name(reference.parent)), quoted(self.name(reference.child)));
            writeln!(text, "  {parent} -> {child} [label={}{style}{color}];", quoted(&words(reference))).expect("a String takes any text");
        }
        for copy in self.rules.replicas.iter().filter(|copy| self.shown.contains(&copy.of)) {
            let (of, name) = (quoted(self.name(copy.of)), quoted(&copy.name));
            writeln!(text, "  {name} [shape=cylinder];\n  {of} -> {name} [label=\"copy\"];").expect("a String takes any text");
        }
        text + "}\n"
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let depths = self.from.map(|from| depths(self.rules, from)).unwrap_or_default();
        let entity = |id: &EntityId| {
            let entity = self.rules.entity(*id);
            json!({ "name": entity.name, "database": entity.service, "table": entity.table.to_string(), "key": entity.key,
                "topic": entity.topic, "depth": depths.get(id), "cycle": self.cycles.get(id) })
        };
        let reference = |one: &Reference| {
            json!({ "name": one.name, "parent": self.name(one.parent), "child": self.name(one.child), "columns": one.columns,
                "parent_columns": one.parent_columns, "action": words(one), "shadow": one.mode == Mode::Shadow, "on_cycle": self.is_on_cycle(one) })
        };
        let copies = self.rules.replicas.iter().filter(|copy| self.shown.contains(&copy.of));
        json!({
            "from": self.from.map(|from| self.name(from)),
            "entities": self.shown.iter().map(entity).collect::<Vec<_>>(),
            "references": self.references().map(reference).collect::<Vec<_>>(),
            "replicas": copies.map(|copy| json!({ "name": copy.name, "of": self.name(copy.of) })).collect::<Vec<_>>(),
        })
    }
}

/// How deep each entity that a delete can reach stands below it. A row that only changes has nothing below.
fn depths(rules: &RuleSet, from: EntityId) -> BTreeMap<EntityId, usize> {
    let mut depths = BTreeMap::from([(from, 0)]);
    let (mut open, mut depth) = (vec![from], 0);
    let mut gone = BTreeSet::from([from]);
    while !open.is_empty() {
        depth += 1;
        let mut next = Vec::new();
        for reference in rules.references.iter().filter(|one| open.contains(&one.parent)) {
            depths.entry(reference.child).or_insert(depth);
            if reference.on_delete == OnDelete::Cascade && gone.insert(reference.child) {
                next.push(reference.child);
            }
        }
        open = next;
    }
    depths
}

/// Entities whose rows go when one row of this entity does. What is in shadow removes nothing.
#[must_use]
pub fn removed(rules: &RuleSet, from: EntityId) -> BTreeSet<EntityId> {
    let (mut removed, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(parent) = open.pop() {
        let goes = |one: &&Reference| one.parent == parent && one.on_delete == OnDelete::Cascade && one.mode == Mode::Enforce;
        open.extend(rules.references.iter().filter(goes).map(|one| one.child).filter(|child| removed.insert(*child)));
    }
    removed
}

/// Entities on cycles of these references, by the number of their cycle.
fn cycles(rules: &RuleSet, counts: impl Fn(&Reference) -> bool) -> BTreeMap<EntityId, usize> {
    let mut graph: DiGraph<EntityId, ()> = DiGraph::new();
    let nodes: BTreeMap<EntityId, _> = rules.entity_ids().map(|(id, _)| (id, graph.add_node(id))).collect();
    for one in rules.references.iter().filter(|one| counts(one)) {
        if let (Some(parent), Some(child)) = (nodes.get(&one.parent), nodes.get(&one.child)) {
            graph.add_edge(*parent, *child, ());
        }
    }
    let points_at_itself = |id: EntityId| rules.references.iter().any(|one| one.parent == id && one.child == id && counts(one));
    let mut cycles = BTreeMap::new();
    for (number, component) in tarjan_scc(&graph).into_iter().enumerate() {
        let ids: Vec<EntityId> = component.iter().filter_map(|node| graph.node_weight(*node).copied()).collect();
        if ids.len() > 1 || ids.iter().any(|id| points_at_itself(*id)) {
            cycles.extend(ids.into_iter().map(|id| (id, number)));
        }
    }
    cycles
}

/// What a reference does, on one line.
#[must_use]
pub fn words(reference: &Reference) -> String {
    let action = match &reference.on_delete {
        OnDelete::Cascade => "cascade".to_owned(),
        OnDelete::SetNull(columns) => format!("set_null {}", columns.join(", ")),
        OnDelete::SetDefault(columns) => format!("set_default {}", columns.join(", ")),
        OnDelete::Set(values) => {
            let one = |(column, value): (&String, &Option<String>)| format!("{column} = {}", value.as_deref().unwrap_or("null"));
            format!("set {}", values.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        OnDelete::Restrict => "restrict".to_owned(),
        OnDelete::NoAction => "no_action".to_owned(),
    };
    let when: Vec<String> = reference.when.iter().map(|when| format!("{} = {}", when.column, when.values.join(" | "))).collect();
    let when = if when.is_empty() { String::new() } else { format!(" where {}", when.join(", ")) };
    let shadow = if reference.mode == Mode::Shadow { " (shadow)" } else { "" };
    format!("{action}{when}{shadow}")
}

fn bare(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, bare)| bare)
}

fn escaped(text: &str) -> String {
    text.replace('"', "#quot;")
}

fn node_id(service: &str) -> String {
    let plain: String = service.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("db_{plain}")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{SourceFile, check};

    fn rules() -> RuleSet {
        let text = "
version: 1
mode: enforce
entities:
  - { name: a.person, table: persons, key: id, topic: t1 }
  - { name: b.order, table: orders, key: id, topic: t2 }
  - { name: b.line, table: lines, key: id, topic: t3 }
  - { name: c.note, table: notes, key: id, topic: t4 }
references:
  - { name: order_person, child: b.order, columns: person, parent: a.person, on_delete: cascade }
  - { name: line_order, child: b.line, columns: order_id, parent: b.order, on_delete: cascade }
  - { name: line_line, child: b.line, columns: above, parent: b.line, on_delete: cascade, mode: shadow }
  - { name: note_person, child: c.note, columns: person, parent: a.person, on_delete: set_null }
  - { name: order_note, child: b.order, columns: note, parent: c.note, on_delete: cascade }
replicas:
  - { name: c.person_copy, of: a.person, table: person_copy, columns: { id: id } }
";
        let checked = check(&[SourceFile { name: "r.yaml".to_owned(), text: text.to_owned() }]);
        checked.rules.unwrap_or_else(|| panic!("{:#?}", checked.diagnostics))
    }

    #[test]
    fn the_tree_marks_cycles_and_what_was_told() {
        let rules = rules();
        insta::assert_snapshot!(Diagram::new(&rules, None).tree(), @r"
        a.person
        ├─ b.order        cascade           order_person
        │  └─ b.line      cascade           line_order
        │     └─ b.line   cascade (shadow)  line_line  (cycle)
        ├─ c.note         set_null person   note_person
        │  └─ b.order     cascade           order_note  (see above)
        └─ c.person_copy  copy
        ");
    }

    #[test]
    fn nothing_below_a_row_that_only_changes_is_reached() {
        let rules = rules();
        let from = |number| Diagram::new(&rules, Some(EntityId(number)));
        insta::assert_snapshot!(from(0).reach().unwrap_or_default(), @r"
        A delete of one a.person reaches 3 entities in 2 databases, at most 2 deep.
          removes rows of: b.order, b.line
          changes rows of: c.note
          goes round a cycle until nothing is left to go
        ");
        assert!(!from(0).mermaid().contains("e3 -->"), "{}", from(0).mermaid());
        assert!(from(3).mermaid().contains("e3 -->|\"cascade\"| e1"), "{}", from(3).mermaid());
    }

    #[test]
    fn names_cannot_break_out_of_a_picture() {
        assert_eq!(
            (quoted("a\"b\\"), escaped("a\"b"), node_id("a-b")),
            ("\"a\\\"b\\\\\"".to_owned(), "a#quot;b".to_owned(), "db_a_b".to_owned())
        );
    }
}
