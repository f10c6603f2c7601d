//! Replicas: copies of some columns, in a table that is nobody else's.

use std::collections::BTreeMap;

use super::entities::{Entities, EntityDraft, table_name};
use super::{report_duplicates, service_of, title};
use crate::rules::diagnostic::{Diagnostic, shown};
use crate::rules::fields::{self, Fields, Word, listed};
use crate::rules::syntax::{Node, Spot};
use crate::rules::{Replica, TableName};

pub(super) const KEYS: [&str; 4] = ["name", "of", "table", "columns"];

/// A replica as far as it could be read.
#[derive(Debug)]
pub(super) struct ReplicaDraft<'f> {
    what: String,
    spot: Spot<'f>,
    name: Option<Word<'f>>,
    service: Option<String>,
    of: Option<Word<'f>>,
    table: Option<(TableName, Spot<'f>)>,
    columns: Option<Vec<(Word<'f>, Word<'f>)>>,
}

impl<'f> ReplicaDraft<'f> {
    pub(super) fn read(node: &Node<'f>, index: usize, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let what = title(node, "replica", index);
        let replica = Fields::read(node, &what, &KEYS, problems)?;
        let name = replica.required("name", "write `name: service.name`; the service's database holds the copy", problems);
        let name = name.and_then(|node| fields::name(node, &format!("{what}: `name`"), problems));
        let service = name.as_ref().and_then(|name| service_of(name, &what, problems));
        let of = replica.required("of", "write the entity that is copied", problems);
        let of = of.and_then(|node| fields::name(node, &format!("{what}: `of`"), problems));
        let table = replica.required("table", "write the table that holds the copy", problems);
        let table = table.and_then(|node| table_name(node, &what, problems));
        let columns = replica.required("columns", "write `{ column here: column there }` for each column copied", problems);
        let columns = columns.and_then(|node| copied(node, &what, problems));
        Some(Self { what, spot: node.spot, name, service, of, table, columns })
    }

    /// The entities that it names.
    pub(super) fn entities(&self) -> impl Iterator<Item = &Word<'f>> {
        self.of.iter()
    }

    pub(super) fn build(&self, entities: &Entities<'_, 'f>) -> Option<Replica> {
        let pair = |(here, there): &(Word<'f>, Word<'f>)| (here.text.clone(), there.text.clone());
        Some(Replica {
            name: self.name.as_ref()?.text.clone(),
            service: self.service.clone()?,
            of: entities.id(self.of.as_ref())?,
            table: self.table.as_ref()?.0.clone(),
            columns: self.columns.as_ref()?.iter().map(pair).collect(),
        })
    }
}

/// Pairs of columns: of the entity, of the copy.
fn copied<'f>(node: &Node<'f>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<Vec<(Word<'f>, Word<'f>)>> {
    let before = problems.len();
    let mut pairs: Vec<(Word<'f>, Word<'f>)> = Vec::new();
    let mut seen: BTreeMap<String, Spot<'f>> = BTreeMap::new();
    for (here, there) in fields::columns(node, &format!("{what}: `columns`"), problems)? {
        let Some(there) = fields::name(there, &format!("{what}: the copy of `{}`", shown(&here.text)), problems) else { continue };
        if let Some(first) = seen.insert(there.text.clone(), there.spot) {
            let message = format!("{what}: two columns are copied to `{}`", shown(&there.text));
            let problem = Diagnostic::error("repeated-name", there.spot, message).hint("each column of the copy is written once");
            problems.push(problem.related(first, "first named here"));
        }
        pairs.push((here, there));
    }
    (problems.len() == before).then_some(pairs)
}

/// Holds replicas against the entities and each other.
pub(super) fn check(replicas: &[ReplicaDraft<'_>], entities: &Entities<'_, '_>, problems: &mut Vec<Diagnostic>) {
    report_duplicates("replica", replicas.iter().filter_map(|replica| replica.name.as_ref()), problems);
    for replica in replicas {
        if let Some(entity) = entities.resolve(replica.of.as_ref(), &replica.what, "entity", problems) {
            check_source(replica, entity, problems);
        }
    }
    check_tables(replicas, entities, problems);
}

fn check_source(replica: &ReplicaDraft<'_>, entity: &EntityDraft<'_>, problems: &mut Vec<Diagnostic>) {
    let what = &replica.what;
    let spot = replica.of.as_ref().map_or(replica.spot, |of| of.spot);
    if !entity.has_topic {
        let problem = Diagnostic::error("no-topic", spot, format!("{what} copies an entity without a topic"));
        let problem = problem.label("nothing tells of its changes").hint("give the entity its `topic`");
        problems.push(entity.name.iter().fold(problem, |problem, name| problem.related(name.spot, "the entity")));
    }
    let (Some(columns), Some(key)) = (&replica.columns, &entity.key) else { return };
    let copied = |column: &str| columns.iter().any(|(here, _)| here.text == column);
    let lacking: Vec<&str> = key.iter().map(|column| column.text.as_str()).filter(|column| !copied(column)).collect();
    if !lacking.is_empty() {
        let spot = columns.first().map_or(replica.spot, |(here, _)| here.spot);
        let message = format!("{what} does not copy the key of its entity: {} missing", listed(lacking));
        let problem = Diagnostic::error("key-not-copied", spot, message);
        problems.push(problem.hint("copy the whole key: without it no row of the copy could be found again"));
    }
}

/// A copy is written to as events come: its table can be no one else's.
fn check_tables(replicas: &[ReplicaDraft<'_>], entities: &Entities<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let mut owners: BTreeMap<(&str, &TableName), (Spot<'_>, &str)> = BTreeMap::new();
    for entity in entities.iter() {
        if let (Some(service), Some((table, spot))) = (&entity.service, &entity.table) {
            owners.entry((service, table)).or_insert((*spot, "an entity's"));
        }
    }
    for replica in replicas {
        let (Some(service), Some((table, spot))) = (&replica.service, &replica.table) else { continue };
        match owners.get(&(service.as_str(), table)) {
            Some((owner, whose)) => {
                let message = format!("{}: table `{}` of `{}` is {whose} table", replica.what, shown(&table.to_string()), shown(service));
                let problem = Diagnostic::error("shared-table", *spot, message).label("the copy would overwrite it");
                problems.push(problem.hint("keep the copy in a table of its own").related(*owner, "the table's owner"));
            }
            None => {
                owners.insert((service, table), (*spot, "another replica's"));
            }
        }
    }
}
