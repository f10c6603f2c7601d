//! Entities: read one by one, then held against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_PROBLEMS, report_duplicates, service_of, title};
use crate::rules::diagnostic::{Diagnostic, shown};
use crate::rules::fields::{self, Fields, Word, listed, texts};
use crate::rules::suggest::nearest;
use crate::rules::syntax::{Node, Spot};
use crate::rules::{Entity, EntityId, TableName};

pub(super) const KEYS: [&str; 4] = ["name", "table", "key", "topic"];
/// Longest name of a topic, and below its characters: Kafka's `Topic.validate`.
const MAX_TOPIC_BYTES: usize = 249;

/// An entity as far as it could be read.
#[derive(Debug)]
pub(super) struct EntityDraft<'f> {
    pub(super) name: Option<Word<'f>>,
    pub(super) service: Option<String>,
    pub(super) table: Option<(TableName, Spot<'f>)>,
    pub(super) key: Option<Vec<Word<'f>>>,
    topic: Option<Word<'f>>,
    /// Also when the topic could not be read.
    pub(super) has_topic: bool,
}

impl<'f> EntityDraft<'f> {
    pub(super) fn read(node: &Node<'f>, index: usize, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let what = title(node, "entity", index);
        let entity = Fields::read(node, &what, &KEYS, problems)?;
        let name = entity.required("name", "write `name: service.entity`", problems);
        let name = name.and_then(|node| fields::name(node, &format!("{what}: `name`"), problems));
        let service = name.as_ref().and_then(|name| service_of(name, &what, problems));
        let table = entity.required("table", "write `table: name` or `table: schema.name`", problems);
        let table = table.and_then(|node| table_name(node, &what, problems));
        let key = entity.required("key", "write the column or the list of columns that identify a row", problems);
        let key = key.and_then(|node| fields::names(node, &format!("{what}: `key`"), problems));
        let topic = entity.optional("topic").and_then(|node| topic(node, &what, problems));
        Some(Self { name, service, table, key, topic, has_topic: entity.mentions("topic") })
    }

    pub(super) fn build(&self) -> Option<Entity> {
        Some(Entity {
            name: self.name.as_ref()?.text.clone(),
            service: self.service.clone()?,
            table: self.table.as_ref()?.0.clone(),
            key: texts(self.key.as_ref()?),
            topic: self.topic.as_ref().map(|topic| topic.text.clone()),
        })
    }

    /// Whether a column is one of the key's.
    pub(super) fn has_key_column(&self, column: &str) -> bool {
        self.key.iter().flatten().any(|key| key.text == column)
    }
}

/// Reads `table` or `schema.table`.
pub(super) fn table_name<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<(TableName, Spot<'f>)> {
    let word = fields::name(node, &format!("{what}: `table`"), problems)?;
    let parts: Vec<&str> = word.text.split('.').collect();
    let (schema, table) = match parts.as_slice() {
        [table] => (None, *table),
        [schema, table] if !schema.is_empty() && !table.is_empty() => (Some((*schema).to_owned()), *table),
        _ => {
            let message = format!("{what}: `{}` does not name a table", shown(&word.text));
            problems.push(Diagnostic::error("bad-table", word.spot, message).hint("write `table` or `schema.table`"));
            return None;
        }
    };
    Some((TableName { schema, table: table.to_owned() }, word.spot))
}

fn topic<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Word<'f>> {
    let word = fields::name(node, &format!("{what}: `topic`"), problems)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if word.text.chars().all(legal) && word.text.len() <= MAX_TOPIC_BYTES && !matches!(word.text.as_str(), "." | "..") {
        return Some(word);
    }
    let message = format!("{what}: `{}` cannot be the name of a topic", shown(&word.text));
    let problem = Diagnostic::error("bad-topic", word.spot, message);
    problems.push(problem.hint("Kafka allows letters, digits, `.`, `_` and `-`; one topic, not a pattern"));
    None
}

/// All entities, by name.
pub(super) struct Entities<'d, 'f> {
    drafts: &'d [EntityDraft<'f>],
    by_name: BTreeMap<&'d str, usize>,
    /// Whether every file could be read, so that a name that is not found is not declared.
    complete: bool,
}

impl<'d, 'f> Entities<'d, 'f> {
    /// Holds the entities against each other: names and tables are used once.
    pub(super) fn new(drafts: &'d [EntityDraft<'f>], complete: bool, problems: &mut Vec<Diagnostic>) -> Self {
        report_duplicates("entity", drafts.iter().filter_map(|entity| entity.name.as_ref()), problems);
        report_shared_tables(drafts, problems);
        warn_of_shared_topics(drafts, problems);
        let named = |(index, entity): (usize, &'d EntityDraft<'f>)| entity.name.as_ref().map(|name| (name.text.as_str(), index));
        // The first of two with one name counts; the second was reported.
        Self { drafts, by_name: drafts.iter().enumerate().filter_map(named).rev().collect(), complete }
    }

    /// The entity with this name.
    pub(super) fn find(&self, word: Option<&Word<'_>>) -> Option<&'d EntityDraft<'f>> {
        self.drafts.get(*self.by_name.get(word?.text.as_str())?)
    }

    /// Its id in the rule set.
    pub(super) fn id(&self, word: Option<&Word<'_>>) -> Option<EntityId> {
        u32::try_from(*self.by_name.get(word?.text.as_str())?).ok().map(EntityId)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'d EntityDraft<'f>> {
        self.drafts.iter()
    }

    /// The entity with this name, or a problem that suggests another. `role` is the key that names it.
    pub(super) fn resolve(
        &self,
        word: Option<&Word<'_>>,
        what: &str,
        role: &str,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<&'d EntityDraft<'f>> {
        let word = word?;
        let found = self.find(Some(word));
        if found.is_none() && self.complete {
            let near = if problems.len() < MAX_PROBLEMS { nearest(&word.text, self.by_name.keys().copied()) } else { None };
            problems.push(self.undeclared(word, near, what, role));
        }
        found
    }

    fn undeclared(&self, word: &Word<'_>, near: Option<&str>, what: &str, role: &str) -> Diagnostic {
        let message = format!("{what}: {role} `{}` is not declared", shown(&word.text));
        let problem = Diagnostic::error("undeclared-entity", word.spot, message).label("no entity has this name");
        match near.and_then(|near| self.by_name.get(near)).and_then(|index| self.drafts.get(*index)).and_then(|entity| entity.name.as_ref())
        {
            Some(near) => problem.hint(format!("did you mean `{}`?", shown(&near.text))).related(near.spot, "declared here"),
            None => problem.hint("declare it under `entities`, in any file of this rules path"),
        }
    }

    /// Warns of each entity that is not among the names given.
    pub(super) fn warn_of_the_unused<'w>(&self, used: impl Iterator<Item = &'w Word<'f>>, problems: &mut Vec<Diagnostic>)
    where
        'f: 'w,
    {
        let used: BTreeSet<&str> = used.map(|word| word.text.as_str()).collect();
        for name in self.drafts.iter().filter_map(|entity| entity.name.as_ref()).filter(|name| !used.contains(name.text.as_str())) {
            let message = format!("entity `{}` is declared and never used", shown(&name.text));
            let problem = Diagnostic::warning("unused-entity", name.spot, message).label("no reference and no replica names it");
            problems.push(problem.hint("add the reference that was meant, or remove the entity"));
        }
    }
}

fn report_shared_tables(drafts: &[EntityDraft<'_>], problems: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for entity in drafts {
        let (Some(service), Some((table, spot))) = (&entity.service, &entity.table) else { continue };
        match seen.get(&(service, table)) {
            Some(first) => {
                let message = format!("two entities are one table: `{}` of `{}`", shown(&table.to_string()), shown(service));
                let problem = Diagnostic::error("shared-table", *spot, message).label("this table has an entity already");
                problems
                    .push(problem.hint("a table is one entity: use the one name in every reference").related(*first, "first named here"));
            }
            None => {
                seen.insert((service, table), *spot);
            }
        }
    }
}

fn warn_of_shared_topics(drafts: &[EntityDraft<'_>], problems: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, &Word<'_>> = BTreeMap::new();
    for (entity, topic) in drafts.iter().filter_map(|entity| entity.topic.as_ref().map(|topic| (entity, topic))) {
        match seen.get(topic.text.as_str()) {
            Some(first) => {
                let name = listed(entity.name.iter().map(|name| name.text.as_str()));
                let message = format!("entity {name} has the topic of another entity");
                let problem = Diagnostic::warning("shared-topic", topic.spot, message).label("one topic for two tables");
                problems.push(problem.hint("one topic carries the changes of one table").related(first.spot, "first named here"));
            }
            None => {
                seen.insert(&topic.text, topic);
            }
        }
    }
}
