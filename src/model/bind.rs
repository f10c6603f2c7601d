//! Holds the rules against the catalogs and collects every disagreement.

use std::collections::{BTreeMap, BTreeSet};

use super::native;
use super::topics;
use super::{BindError, BoundReplica, BoundTable, Code, Model, Problem};
use crate::databases::{DatabaseId, Databases};
use crate::graph::{Edge, EdgeDraft, Graph, Node, Origin, TargetId};
use crate::rules::suggest::nearest;
use crate::rules::{EntityId, OnDelete, OnUpdate, Reference, ReferenceId, Replica, ReplicaId, RuleSet, TableName, When};
use crate::sink::{Access, Column, ReplicaIdentity, TableRef, spelling};
use crate::value::{Comparability, comparable};

pub(crate) type Table = Option<(DatabaseId, TableRef)>;

/// What came of holding the rules against the catalogs.
#[derive(Default)]
pub(crate) struct Examined {
    /// The tables of the rules' entities, as far as they are there.
    pub(crate) tables: Vec<Table>,
    /// The copies that are sound.
    pub(crate) copies: Vec<BoundReplica>,
    /// Everything that was found, of any weight.
    pub(crate) problems: Vec<Problem>,
    /// Rules and tables together, if nothing forbids it.
    pub(crate) model: Option<Model>,
}

pub(super) async fn bind(rules: RuleSet, databases: Databases) -> Result<Model, BindError> {
    let Examined { problems, model, .. } = examine(&rules, &databases).await?;
    model.ok_or_else(|| BindError::Problems(problems.into_iter().filter(|problem| problem.code.forbids()).collect()))
}

/// Holds the rules against the catalogs: what is found is told, whatever its weight.
pub(crate) async fn examine(rules: &RuleSet, databases: &Databases) -> Result<Examined, BindError> {
    let catalogs = catalogs(rules, databases).await?;
    let mut binder = Binder { rules, databases, catalogs, tables: Vec::new(), problems: Vec::new() };
    for (id, entity) in rules.entity_ids() {
        let table = binder.open(id, &entity.name, &entity.service, &entity.table);
        binder.tables.push(table);
    }
    for (id, _) in rules.entity_ids() {
        binder.entity(id);
    }
    let mut drafts: Vec<EdgeDraft> = rules.reference_ids().filter_map(|(id, reference)| binder.reference(id, reference)).collect();
    let copies: Vec<BoundReplica> = rules.replica_ids().filter_map(|(id, replica)| binder.replica(id, replica)).collect();
    let Binder { tables, mut problems, .. } = binder;
    let touched: BTreeSet<EntityId> = drafts.iter().map(|draft| draft.edge.child).collect();
    let (mut keys, unread) =
        (native::Keys::new(databases), |source| BindError::Catalog { place: "native foreign keys".to_owned(), source });
    let additions = native::follow(&mut keys, &tables, touched, &mut drafts).await.map_err(unread)?;
    problems.extend(additions.problems);
    problems.extend(native::at_copies(&mut keys, rules, &copies).await.map_err(unread)?);
    problems.sort_by_key(|problem| problem.code.weight());
    let mut model = None;
    if !databases.some_are_silent() && !problems.iter().any(|problem| problem.code.forbids()) {
        let mut nodes: Vec<Node> =
            rules.entities.iter().map(|entity| Node { name: entity.name.clone(), key: entity.key.clone() }).collect();
        let mut tables = tables.clone();
        for (node, database, table) in additions.nodes {
            nodes.push(node);
            tables.push(Some((database, table)));
        }
        let graph = Graph::new(nodes, drafts.into_iter().chain(additions.edges).collect());
        let tables = bound(&graph, tables);
        let topics = topics::specs(rules, &graph, &tables, &copies);
        let (rules, databases, replicas) = (rules.clone(), databases.clone(), copies.clone());
        model = Some(Model { rules, graph, databases, tables, replicas, topics, warnings: problems.clone() });
    }
    Ok(Examined { tables, copies, problems, model })
}

/// The tables that the rules name, read at once for each database.
async fn catalogs(rules: &RuleSet, databases: &Databases) -> Result<Catalogs, BindError> {
    let mut wanted: BTreeMap<DatabaseId, BTreeSet<&TableName>> = BTreeMap::new();
    let entities = rules.entities.iter().map(|entity| (&entity.service, &entity.table));
    for (service, table) in entities.chain(rules.replicas.iter().map(|replica| (&replica.service, &replica.table))) {
        if let Some(database) = databases.of_service(service) {
            wanted.entry(database).or_default().insert(table);
        }
    }
    let mut found = Catalogs::new();
    for (id, names) in wanted {
        let names: Vec<TableName> = names.into_iter().cloned().collect();
        let handle = databases.handle(id);
        let failed = |source| BindError::Catalog { place: handle.name.clone(), source };
        let tables = handle.database.tables(&names).await.map_err(failed)?;
        found.extend(names.into_iter().zip(tables).map(|(name, table)| ((id, name), table)));
    }
    Ok(found)
}

type Catalogs = BTreeMap<(DatabaseId, TableName), Option<TableRef>>;

fn bound(graph: &Graph, tables: Vec<Table>) -> Vec<Option<BoundTable>> {
    let read = |entity: EntityId| {
        let mut columns = graph.columns_read(entity);
        let set = graph.edges().filter(|(_, edge)| edge.child == entity).filter_map(|(_, edge)| match &edge.on_delete {
            OnDelete::Set(values) => Some(values.keys()),
            OnDelete::Cascade | OnDelete::SetNull(_) | OnDelete::SetDefault(_) | OnDelete::Restrict | OnDelete::NoAction => None,
        });
        for column in set.flatten() {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        columns
    };
    let ids = (0u32..).map(EntityId);
    ids.zip(tables).map(|(id, table)| table.map(|(database, table)| BoundTable { database, table, read: read(id) })).collect()
}

struct Binder<'a> {
    rules: &'a RuleSet,
    databases: &'a Databases,
    catalogs: Catalogs,
    tables: Vec<Table>,
    problems: Vec<Problem>,
}

impl Binder<'_> {
    fn problem(&mut self, code: Code, place: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(code, place, message, hint));
    }

    /// The table of an entity. An entity that is only copied needs none.
    fn open(&mut self, id: EntityId, place: &str, service: &str, name: &TableName) -> Table {
        let is_linked = self.rules.references.iter().any(|reference| reference.child == id || reference.parent == id);
        match self.databases.of_service(service) {
            Some(database) => self.table_in(database, place, name),
            None => {
                if is_linked {
                    self.no_database(place, service);
                }
                None
            }
        }
    }

    fn no_database(&mut self, place: &str, service: &str) {
        if !self.databases.is_silent(service) {
            let hint = format!("add `{service}: {{ url: … }}` under `databases` in entail.yaml");
            self.problem(Code::NoDatabase, place, format!("there is no database for service `{service}`"), hint);
        }
    }

    fn table_in(&mut self, database: DatabaseId, place: &str, name: &TableName) -> Table {
        let home = &self.databases.handle(database).name;
        let table = self.catalogs.get(&(database, name.clone())).cloned().flatten();
        let (code, message, hint) = match table {
            Some(table) if table.has_heirs() => (
                Code::Heirs,
                format!("other tables inherit from `{name}` in database `{home}`"),
                "make them partitions, or tables of their own: rows of theirs would be taken for its own",
            ),
            Some(table) if table.is_table() => return Some((database, table)),
            Some(_) => (
                Code::View,
                format!("`{name}` is a view in database `{home}`"),
                "name the table behind it: a view may hide rows, and a hidden row looks gone",
            ),
            None => (
                Code::NoTable,
                format!("there is no table `{name}` in database `{home}`, or the role may not see it"),
                "check the spelling, the schema and the grants",
            ),
        };
        self.problem(code, place, message, hint);
        None
    }

    fn table(&self, id: EntityId) -> Option<(DatabaseId, TableRef)> {
        self.tables.get(id.0 as usize).cloned().flatten()
    }

    /// The entity's key columns exist, can be keys, and are unique.
    fn entity(&mut self, id: EntityId) {
        let Some((_, table)) = self.table(id) else { return };
        let entity = self.rules.entity(id).clone();
        if !self.columns_exist(&entity.name, &table, &entity.key) {
            return;
        }
        for column in table.bound(&entity.key).cloned().collect::<Vec<_>>() {
            self.key_column(&entity.name, &column);
        }
        if !table.is_unique(&entity.key) {
            self.problem(
                Code::KeyNotUnique,
                &entity.name,
                format!("the key ({}) is not unique in `{}`", entity.key.join(", "), table.table_name()),
                "name the primary key or the columns of a unique index that is not partial",
            );
        }
    }

    fn columns_exist(&mut self, place: &str, table: &TableRef, columns: &[String]) -> bool {
        let missing: Vec<String> = columns.iter().filter(|column| table.column(column).is_none()).cloned().collect();
        for column in &missing {
            let names: Vec<&str> = table.columns().iter().map(|column| column.name.as_str()).collect();
            let hint = match nearest(column, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its columns are {}", names.join(", ")),
            };
            self.problem(Code::NoColumn, place, format!("there is no column `{column}` in `{}`", table.table_name()), hint);
        }
        missing.is_empty()
    }

    fn key_column(&mut self, place: &str, column: &Column) {
        if !column.kind.is_key_type() {
            self.problem(
                Code::InexactKey,
                place,
                format!("column `{}` has a type that cannot be compared exactly", column.name),
                "keys may be whole numbers, fixed decimals, text, uuid, bytes, booleans, dates and times",
            );
        }
        if !column.bytewise {
            self.problem(
                Code::WideCollation,
                place,
                format!("column `{}` has a collation under which different texts are equal", column.name),
                "give it a deterministic collation, such as \"C\"",
            );
        }
    }

    fn reference(&mut self, id: ReferenceId, reference: &Reference) -> Option<EdgeDraft> {
        let (child_database, child) = self.table(reference.child)?;
        let (_, parent) = self.table(reference.parent)?;
        let place = reference.name.clone();
        if self.databases.handle(child_database).access == Access::Read {
            self.problem(
                Code::ReadOnlyChild,
                &place,
                "the child's database has `access: read`",
                "give it a url that may write, and leave `access` out",
            );
        }
        let mut named = reference.columns.clone();
        named.extend(reference.when.iter().map(|when| when.column.clone()));
        let parent_place = self.rules.entity(reference.parent).name.clone();
        let known = self.columns_exist(&place, &child, &named) & self.columns_exist(&parent_place, &parent, &reference.parent_columns);
        if !known {
            return None;
        }
        self.compare(&place, &parent, &child, reference);
        self.parent_columns(&place, &parent, reference);
        if !child.has_index_on(&reference.columns) {
            self.problem(
                Code::Unindexed,
                &place,
                format!("no index of `{}` begins with ({}): every batch scans the table", child.table_name(), reference.columns.join(", ")),
                spelling::create_index(self.databases.handle(child_database).database.dialect(), &child, &reference.columns),
            );
        }
        let on_delete = self.action(&place, &child, reference)?;
        let when = self.conditions(&place, &child, &reference.when)?;
        Some(EdgeDraft {
            edge: Edge {
                name: reference.name.clone(),
                child: reference.child,
                columns: reference.columns.clone(),
                target: TargetId(0),
                when,
                on_delete,
                on_update: reference.on_update,
                mode: reference.mode,
                archive: reference.archive,
                origin: Origin::Rule(id),
                native_delete: None,
                native_update: OnUpdate::NoAction,
            },
            parent: reference.parent,
            parent_columns: reference.parent_columns.clone(),
        })
    }

    fn compare(&mut self, place: &str, parent: &TableRef, child: &TableRef, reference: &Reference) {
        let pairs: Vec<(Column, Column)> =
            parent.bound(&reference.parent_columns).cloned().zip(child.bound(&reference.columns).cloned()).collect();
        for (parent, child) in pairs {
            self.key_column(place, &child);
            match comparable(&parent.kind, &child.kind) {
                Comparability::Same => {}
                Comparability::Narrower => self.problem(
                    Code::TypesWiden,
                    place,
                    format!("`{}` and the parent's `{}` have different types", child.name, parent.name),
                    "only the parent's canonical spelling is found in the child's column; the same type on both sides finds all",
                ),
                Comparability::No => self.problem(
                    Code::TypesDiffer,
                    place,
                    format!("`{}` and the parent's `{}` have types that do not compare exactly", child.name, parent.name),
                    "give both columns the same type",
                ),
            }
        }
    }

    fn parent_columns(&mut self, place: &str, parent: &TableRef, reference: &Reference) {
        let columns = &reference.parent_columns;
        if !parent.is_unique(columns) {
            self.problem(
                Code::ParentNotUnique,
                place,
                format!("the parent's columns ({}) are not unique in `{}`", columns.join(", "), parent.table_name()),
                "are child and parent the right way round? name a unique key",
            );
        }
        let entity = self.rules.entity(reference.parent);
        let is_key = columns.len() == entity.key.len() && columns.iter().all(|column| entity.key.contains(column));
        let logged = match parent.replica_identity() {
            ReplicaIdentity::Full => true,
            ReplicaIdentity::Columns(logged) => columns.iter().all(|column| logged.contains(column)),
            ReplicaIdentity::PrimaryKey => columns.iter().all(|column| parent.primary_key().contains(column)),
            ReplicaIdentity::Nothing => false,
        };
        if entity.topic.is_some() && !logged {
            let what = if is_key { "the key" } else { "the parent's columns, which are not its key" };
            self.problem(
                Code::NotLogged,
                place,
                format!("the replica identity of `{}` does not log {what}: its delete events would invent them", parent.table_name()),
                format!("ALTER TABLE {} REPLICA IDENTITY FULL", spelling::table_name(&parent.table_name())),
            );
        }
    }

    /// The action with its values in canonical form, if the child's columns can hold what it writes.
    fn action(&mut self, place: &str, child: &TableRef, reference: &Reference) -> Option<OnDelete> {
        let update_columns = match reference.on_update {
            OnUpdate::SetNull | OnUpdate::SetDefault => reference.columns.clone(),
            OnUpdate::Cascade | OnUpdate::Restrict | OnUpdate::NoAction => Vec::new(),
        };
        match reference.on_update {
            OnUpdate::SetNull => self.can_be_null(place, child, &update_columns),
            OnUpdate::SetDefault => self.has_default(place, child, &update_columns),
            OnUpdate::Cascade | OnUpdate::Restrict | OnUpdate::NoAction => {}
        }
        match &reference.on_delete {
            OnDelete::SetNull(columns) => self.can_be_null(place, child, columns),
            OnDelete::SetDefault(columns) => self.has_default(place, child, columns),
            OnDelete::Set(values) => {
                let names: Vec<String> = values.keys().cloned().collect();
                if !self.columns_exist(place, child, &names) {
                    return None;
                }
                let mut canonical = std::collections::BTreeMap::new();
                for (column, value) in child.bound(&names).cloned().collect::<Vec<_>>().into_iter().zip(values.values()) {
                    let text = match value {
                        None => {
                            self.can_be_null(place, child, std::slice::from_ref(&column.name));
                            None
                        }
                        Some(text) => Some(self.canonical(place, &column, text)?),
                    };
                    canonical.insert(column.name.clone(), text);
                }
                return Some(OnDelete::Set(canonical));
            }
            OnDelete::Cascade | OnDelete::Restrict | OnDelete::NoAction => {}
        }
        Some(reference.on_delete.clone())
    }

    fn can_be_null(&mut self, place: &str, child: &TableRef, columns: &[String]) {
        for column in child.bound(columns).filter(|column| !column.nullable).cloned().collect::<Vec<_>>() {
            self.problem(
                Code::NotNullable,
                place,
                format!("column `{}` of `{}` is NOT NULL and cannot be set to null", column.name, child.table_name()),
                "allow NULL in the column, or choose another action",
            );
        }
    }

    fn has_default(&mut self, place: &str, child: &TableRef, columns: &[String]) {
        let bare = |column: &&Column| column.default.is_none() && !column.nullable;
        for column in child.bound(columns).filter(bare).cloned().collect::<Vec<_>>() {
            self.problem(
                Code::NoDefault,
                place,
                format!("column `{}` of `{}` is NOT NULL and has no default", column.name, child.table_name()),
                "give the column a default that names a living parent, or choose another action",
            );
        }
    }

    fn conditions(&mut self, place: &str, child: &TableRef, when: &[When]) -> Option<Vec<When>> {
        let mut canonical = Vec::new();
        for condition in when {
            let column = child.column(&condition.column).cloned()?;
            let values: Option<Vec<String>> = condition.values.iter().map(|value| self.canonical(place, &column, value)).collect();
            canonical.push(When { column: condition.column.clone(), values: values? });
        }
        Some(canonical)
    }

    fn canonical(&mut self, place: &str, column: &Column, text: &str) -> Option<String> {
        match column.kind.canonical(text) {
            Ok(text) => Some(text),
            Err(error) => {
                self.problem(
                    Code::BadValue,
                    place,
                    format!("a value for column `{}` does not fit its type: {error}", column.name),
                    "write a value of that type",
                );
                None
            }
        }
    }

    fn replica(&mut self, id: ReplicaId, replica: &Replica) -> Option<BoundReplica> {
        let place = replica.name.clone();
        let Some(database) = self.databases.of_service(&replica.service) else {
            self.no_database(&place, &replica.service);
            return None;
        };
        if self.databases.handle(database).access == Access::Read {
            self.problem(
                Code::CopyReadOnly,
                &place,
                "the copy's database has `access: read`",
                "give it a url that may write, and leave `access` out",
            );
        }
        let (_, table) = self.table_in(database, &place, &replica.table)?;
        let there: Vec<String> = replica.columns.iter().map(|(_, there)| there.clone()).collect();
        let mut known = self.columns_exist(&place, &table, &there);
        if let Some((_, owner)) = self.table(replica.of) {
            let here: Vec<String> = replica.columns.iter().map(|(here, _)| here.clone()).collect();
            known &= self.columns_exist(&place, &owner, &here);
        }
        if !known {
            return None;
        }
        let (owner, is_silent) = {
            let service = &self.rules.entity(replica.of).service;
            (self.databases.of_service(service), self.databases.is_silent(service))
        };
        if owner.is_none() && !is_silent {
            let hint = "give the owner's database under `databases`, with `access: read`";
            self.problem(
                Code::CopyBlind,
                &place,
                "the owner's database is not given: what an event cannot tell exactly stays in the copy as it is, and a tombstone alone ends no copy",
                hint,
            );
        }
        let entity = self.rules.entity(replica.of);
        let copy_of = |column: &String| replica.columns.iter().find(|(here, _)| here == column).map(|(_, there)| there.clone());
        let key: Vec<String> = entity.key.iter().filter_map(copy_of).collect();
        if !table.is_unique(&key) {
            self.problem(
                Code::CopyNotUnique,
                &place,
                format!("({}) is not unique in `{}`, so a copied row could not be found again", key.join(", "), table.table_name()),
                "make it the primary key of the copy",
            );
        }
        for column in table.bound(&key).cloned().collect::<Vec<_>>() {
            self.key_column(&place, &column);
        }
        for column in table.bound(&there).filter(|column| column.generated || column.identity).cloned().collect::<Vec<_>>() {
            self.problem(
                Code::CopyGenerated,
                &place,
                format!("column `{}` is generated by the database", column.name),
                "leave it out of `columns`",
            );
        }
        Some(BoundReplica { id, of: replica.of, database, table, key, columns: replica.columns.clone() })
    }
}
