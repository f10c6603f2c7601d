//! The databases' own foreign keys as part of the graph (H64).
//!
//! Where entail removes rows, the database may remove, change or refuse more by itself: those rows are collected, archived and cascaded before.
//! A table that only a native key reaches becomes a node of its own.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{BoundReplica, Code, Problem};
use crate::databases::{DatabaseId, Databases};
use crate::graph::{Edge, EdgeDraft, NativeDelete, Node, Origin, TargetId};
use crate::rules::{EntityId, Mode, OnDelete, OnUpdate, RuleSet, TableName};
use crate::sink::{Column, Dialect, ForeignKey, NativeAction, SinkError, TableRef};
use crate::value::{Comparability, comparable};

/// What native keys add to the graph.
#[derive(Default)]
pub(super) struct Additions {
    pub(super) nodes: Vec<(Node, DatabaseId, TableRef)>,
    pub(super) edges: Vec<EdgeDraft>,
    pub(super) problems: Vec<Problem>,
}

/// The native keys of databases, each read when it is asked for first.
pub(super) struct Keys<'d> {
    databases: &'d Databases,
    read: BTreeMap<DatabaseId, Vec<ForeignKey>>,
}

impl<'d> Keys<'d> {
    pub(super) fn new(databases: &'d Databases) -> Self {
        Self { databases, read: BTreeMap::new() }
    }

    /// Those that lead to a table.
    async fn to(&mut self, database: DatabaseId, table: &TableName) -> Result<Vec<ForeignKey>, SinkError> {
        let keys = match self.read.entry(database) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(self.databases.handle(database).database.foreign_keys().await?),
        };
        Ok(keys.iter().filter(|key| key.parent == *table).cloned().collect())
    }
}

/// Follows native keys from the tables whose rows entail may remove or re-key.
pub(super) async fn follow(
    keys: &mut Keys<'_>,
    known: &[Option<(DatabaseId, TableRef)>],
    touched: BTreeSet<EntityId>,
    rules: &mut [EdgeDraft],
) -> Result<Additions, SinkError> {
    let (databases, mut additions) = (keys.databases, Additions::default());
    let mut ids: BTreeMap<(DatabaseId, TableName), EntityId> = BTreeMap::new();
    for (id, bound) in (0u32..).map(EntityId).zip(known) {
        if let Some((database, table)) = bound {
            ids.entry((*database, table.table_name())).or_insert(id);
        }
    }
    let mut next = u32::try_from(known.len()).unwrap_or(u32::MAX);
    let mut open: Vec<(EntityId, DatabaseId, TableName)> =
        ids.iter().filter(|(_, id)| touched.contains(id)).map(|((database, table), id)| (*id, *database, table.clone())).collect();
    let mut seen: BTreeSet<EntityId> = touched;
    let mut incoming_keys: Vec<(DatabaseId, ForeignKey, EntityId, EntityId)> = Vec::new();
    while let Some((parent, database, table)) = open.pop() {
        for key in keys.to(database, &table).await? {
            let child = match ids.get(&(database, key.child.clone())) {
                Some(id) => *id,
                None => {
                    let Some(node) = additions.add_node(databases, database, &key).await? else { continue };
                    let id = EntityId(next);
                    next += 1;
                    additions.nodes.push(node);
                    ids.insert((database, key.child.clone()), id);
                    id
                }
            };
            incoming_keys.push((database, key.clone(), parent, child));
            let handle = databases.handle(database);
            let native = on_delete(&key, handle.database.dialect());
            if !hand_over(rules, &key, native, child, parent) {
                additions.edges.push(edge(&handle.name, &key, native, child, parent));
            }
            if seen.insert(child) {
                open.push((child, database, key.child.clone()));
            }
        }
    }
    // When all are known that may give a row of the parent another key.
    for (database, key, parent, child) in incoming_keys {
        let mut of_parent = rules.iter().chain(&additions.edges).filter(|draft| draft.edge.child == parent);
        let is_rekeyed = of_parent.any(|draft| written(&draft.edge).iter().any(|column| key.parent_columns.contains(column)));
        let is_felt = changes_rows(key.on_delete) || is_rekeyed && changes_rows(key.on_update);
        if let (true, Some(above), Some(below)) = (is_felt, additions.table(known, parent), additions.table(known, child)) {
            let problem = inexact(&databases.handle(database).name, &key, above, below);
            additions.problems.extend(problem);
        }
    }
    Ok(additions)
}

fn changes_rows(action: NativeAction) -> bool {
    matches!(action, NativeAction::Cascade | NativeAction::SetNull | NativeAction::SetDefault)
}

/// Native keys that lead to copies. A copy follows its owner whatever becomes of the cascade, so nobody would have looked at the rows that the
/// database changes with it: none of them is archived, and neither limits nor latches hold for them.
pub(super) async fn at_copies(keys: &mut Keys<'_>, rules: &RuleSet, copies: &[BoundReplica]) -> Result<Vec<Problem>, SinkError> {
    let mut problems = Vec::new();
    for copy in copies {
        let place = &rules.replica(copy.id).name;
        for key in keys.to(copy.database, &copy.table.table_name()).await? {
            // The columns by which a copied row is found stay as they are.
            let is_rewritten = key.parent_columns.iter().any(|column| !copy.key.contains(column));
            let (name, child, acts) = (&key.name, &key.child, changes_rows(key.on_delete) || is_rewritten && changes_rows(key.on_update));
            problems.push(if acts {
                let message = format!("by the native foreign key `{name}` the database changes rows of `{child}` with those of the copy: none is archived, and no limit holds");
                Problem::new(Code::CopyTakes, place, message, "make the key NO ACTION, or drop it; what is to go with the owner's row says a reference of the rules")
            } else {
                let message = format!("by the native foreign key `{name}` a row stays in the copy as long as rows of `{child}` point at it: if they do not go with the same event, it becomes a dead letter");
                Problem::new(Code::CopyHeld, place, message, "drop the key")
            });
        }
    }
    Ok(problems)
}

/// The columns of a child row that an edge may write.
fn written(edge: &Edge) -> Vec<&String> {
    let on_delete: Vec<&String> = match &edge.on_delete {
        OnDelete::SetNull(columns) | OnDelete::SetDefault(columns) => columns.iter().collect(),
        OnDelete::Set(values) => values.keys().collect(),
        OnDelete::Cascade | OnDelete::Restrict | OnDelete::NoAction => Vec::new(),
    };
    let writes = |action| matches!(action, OnUpdate::Cascade | OnUpdate::SetNull | OnUpdate::SetDefault);
    let follows = writes(edge.on_update) || writes(edge.native_update);
    on_delete.into_iter().chain(edge.columns.iter().filter(|_| follows)).collect()
}

impl Additions {
    /// The table of an entity, or of a node that was added.
    fn table<'t>(&'t self, known: &'t [Option<(DatabaseId, TableRef)>], id: EntityId) -> Option<&'t TableRef> {
        let place = id.0 as usize;
        match known.get(place) {
            Some(bound) => bound.as_ref().map(|(_, table)| table),
            None => self.nodes.get(place - known.len()).map(|(_, _, table)| table),
        }
    }

    async fn add_node(
        &mut self,
        databases: &Databases,
        database: DatabaseId,
        key: &ForeignKey,
    ) -> Result<Option<(Node, DatabaseId, TableRef)>, SinkError> {
        let handle = databases.handle(database);
        let Some(table) = handle.database.table(&key.child).await? else { return Ok(None) };
        let name = format!("{}.{}", handle.name, key.child);
        if table.has_heirs() {
            let message = format!("the native foreign key `{}` reaches this table, from which others inherit", key.name);
            let hint = "make them partitions, or tables of their own: rows of theirs would be taken for its own";
            self.problems.push(Problem::new(Code::Heirs, name, message, hint));
            return Ok(None);
        }
        if table.primary_key().is_empty() {
            let message = format!("the native foreign key `{}` reaches this table, which has no primary key", key.name);
            let hint = "give it a primary key, so that its rows can be archived before the database removes them";
            self.problems.push(Problem::new(Code::NativeKeyless, name, message, hint));
            return Ok(None);
        }
        Ok(Some((Node { name, key: table.primary_key().to_vec() }, database, table)))
    }
}

/// A key by which the database changes rows that we would not find: its equality is wider than that of the texts that we compare (H56, H64).
fn inexact(database: &str, key: &ForeignKey, parent: &TableRef, child: &TableRef) -> Option<Problem> {
    let mut pairs = parent.bound(&key.parent_columns).zip(child.bound(&key.columns));
    let is_exact = |(parent, child): (&Column, &Column)| {
        let is_same_type = parent.kind == child.kind && parent.distinct && child.distinct;
        parent.bytewise && child.bytewise && (is_same_type || comparable(&parent.kind, &child.kind) == Comparability::Same)
    };
    let is_exact = key.bytewise && pairs.all(is_exact);
    (!is_exact).then(|| Problem {
        code: Code::NativeInexact,
        place: format!("{database}.{}", key.child),
        message: format!(
            "by the native foreign key `{}` the database changes rows that compare as equal and are not written alike: not all of them would be archived",
            key.name
        ),
        hint: "give both columns the same exact type and a collation that compares bytes, or make the key NO ACTION".to_owned(),
    })
}

/// Whether an enforced reference over the same columns sees to the rows before the native key could. All references over them are told of the key.
fn hand_over(rules: &mut [EdgeDraft], key: &ForeignKey, native: NativeDelete, child: EntityId, parent: EntityId) -> bool {
    let pairs = |columns: &[String], parents: &[String]| -> BTreeSet<(String, String)> {
        columns.iter().cloned().zip(parents.iter().cloned()).collect()
    };
    let same = |draft: &&mut EdgeDraft| {
        draft.edge.child == child
            && draft.parent == parent
            && pairs(&draft.edge.columns, &draft.parent_columns) == pairs(&key.columns, &key.parent_columns)
    };
    let mut is_seen_to = false;
    for draft in rules.iter_mut().filter(same) {
        draft.edge.native_delete = draft.edge.native_delete.max(Some(native));
        let sees_to_it = match draft.edge.on_delete {
            OnDelete::Cascade | OnDelete::SetNull(_) | OnDelete::SetDefault(_) => {
                draft.edge.when.is_empty() && draft.edge.mode == Mode::Enforce
            }
            OnDelete::Set(_) | OnDelete::Restrict | OnDelete::NoAction => false,
        };
        if sees_to_it && !is_seen_to {
            draft.edge.native_update = on_update(key);
        }
        is_seen_to |= sees_to_it;
    }
    is_seen_to
}

/// PostgreSQL looks at RESTRICT when the statement has ended, SQLite at each row.
fn on_delete(key: &ForeignKey, dialect: Dialect) -> NativeDelete {
    match key.on_delete {
        NativeAction::Cascade => NativeDelete::Takes,
        NativeAction::SetNull | NativeAction::SetDefault => NativeDelete::Changes,
        NativeAction::Restrict if dialect == Dialect::Sqlite => NativeDelete::RefusesAtOnce,
        NativeAction::Restrict | NativeAction::NoAction => NativeDelete::Refuses,
    }
}

fn on_update(key: &ForeignKey) -> OnUpdate {
    match key.on_update {
        NativeAction::Cascade => OnUpdate::Cascade,
        NativeAction::SetNull => OnUpdate::SetNull,
        NativeAction::SetDefault => OnUpdate::SetDefault,
        NativeAction::Restrict => OnUpdate::Restrict,
        NativeAction::NoAction => OnUpdate::NoAction,
    }
}

fn edge(database: &str, key: &ForeignKey, native: NativeDelete, child: EntityId, parent: EntityId) -> EdgeDraft {
    EdgeDraft {
        edge: Edge {
            name: format!("native:{database}.{}", key.name),
            child,
            columns: key.columns.clone(),
            target: TargetId(0),
            when: Vec::new(),
            on_delete: match key.on_delete {
                NativeAction::Cascade => OnDelete::Cascade,
                NativeAction::SetNull => OnDelete::SetNull(key.sets.clone()),
                NativeAction::SetDefault => OnDelete::SetDefault(key.sets.clone()),
                NativeAction::Restrict => OnDelete::Restrict,
                NativeAction::NoAction => OnDelete::NoAction,
            },
            // Where entail re-keys a row, its database sees to these rows: see `native_update`.
            on_update: OnUpdate::NoAction,
            mode: Mode::Enforce,
            archive: true,
            origin: Origin::Native,
            native_delete: Some(native),
            native_update: on_update(key),
        },
        parent,
        parent_columns: key.parent_columns.clone(),
    }
}
