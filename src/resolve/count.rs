//! How many rows hang on a root, however many: read in pages, without locks, before the first of them goes (H79).
//!
//! Memory holds one page of keys per level. A row that is reached by several paths counts once for each, so the figure is never too small; rows
//! of tables on a cycle count once.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Trouble, child_rows, conditions};
use crate::graph::{Edge, EdgeId, Origin, TargetId};
use crate::model::Model;
use crate::plan::{ChildRow, Consequence, Fate, columns_key, consequence};
use crate::rules::{EntityId, Mode};
use crate::sink::SinkError;
use crate::sink::statement::{self, Page, Selection};
use crate::value::Key;

/// What hangs on a root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows that would change, by the reference that leads to them.
    pub per_edge: BTreeMap<EdgeId, u64>,
    /// There are more: the count was ended.
    pub is_over: bool,
    /// A row was found by a reference or native key that may refuse.
    pub refusal: Option<EdgeId>,
}

impl Counted {
    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.per_edge.values().fold(0, |sum, rows| sum.saturating_add(*rows))
    }
}

/// Rows still to be counted: those that carry these keys, behind a key if the first of them were counted.
struct Open {
    edge: EdgeId,
    keys: Vec<Key>,
    after: Option<Key>,
}

struct Count<'a> {
    model: &'a Model,
    /// Keys read at a time.
    page: usize,
    open: Vec<Open>,
    counted: Counted,
    /// Rows of tables on a cycle that were counted, by hash.
    seen: HashSet<u64>,
}

/// Counts what hangs on removed rows, to the end or until there are more than `most`, or something may refuse. Reads `page` keys at a time.
pub(crate) async fn count(model: &Model, roots: &[(TargetId, Key)], (most, page): (u64, usize)) -> Result<Counted, Trouble> {
    let mut count = Count { model, page: page.max(1), open: Vec::new(), counted: Counted::default(), seen: HashSet::new() };
    for (target, key) in roots {
        count.ask(*target, vec![key.clone()], |edge| edge.origin != Origin::Native);
    }
    while let Some(open) = count.open.pop() {
        let edge = open.edge;
        count.take(open, most).await.map_err(|error| Trouble { error, edges: vec![edge] })?;
        if count.counted.refusal.is_some() {
            break;
        }
        if count.counted.rows() > most {
            count.counted.is_over = true;
            break;
        }
    }
    Ok(count.counted)
}

impl Count<'_> {
    fn ask(&mut self, target: TargetId, keys: Vec<Key>, follows: impl Fn(&Edge) -> bool) {
        let edges = self.model.graph.edges_at(target).filter(|(_, edge)| edge.mode == Mode::Enforce && follows(edge));
        self.open.extend(edges.map(|(edge, _)| Open { edge, keys: keys.clone(), after: None }));
    }

    async fn take(&mut self, open: Open, most: u64) -> Result<(), SinkError> {
        let edge = self.model.graph.edge(open.edge);
        let has_children = || self.model.graph.targets_of(edge.child).any(|(target, _)| self.model.graph.edges_at(target).next().is_some());
        match consequence(edge, &Fate::Gone) {
            Consequence::Orphan => {}
            Consequence::Refuse => {
                if self.number(&open, 1).await? > 0 {
                    self.counted.refusal = Some(open.edge);
                }
            }
            Consequence::Delete if has_children() => self.descend(open).await?,
            Consequence::Delete | Consequence::Update => {
                let left = most.saturating_sub(self.counted.rows()).saturating_add(1);
                let rows = self.number(&open, left).await?;
                self.add(open.edge, rows);
            }
        }
        Ok(())
    }

    fn add(&mut self, edge: EdgeId, rows: u64) {
        if rows > 0 {
            *self.counted.per_edge.entry(edge).or_default() += rows;
        }
    }

    /// Counts a page of rows that have children of their own, and asks for these.
    async fn descend(&mut self, open: Open) -> Result<(), SinkError> {
        let mut rows = self.page(&open).await?;
        if rows.len() > self.page {
            if open.keys.len() > 1 {
                let (first, rest) = open.keys.split_at(open.keys.len() / 2);
                let part = |keys: &[Key]| Open { edge: open.edge, keys: keys.to_vec(), after: None };
                self.open.extend([part(rest), part(first)]);
                return Ok(());
            }
            rows.truncate(self.page);
            let after = rows.last().map(|row| row.key.clone());
            self.open.push(Open { edge: open.edge, keys: open.keys, after });
        }
        let child = self.model.graph.edge(open.edge).child;
        if self.model.graph.reach(child).contains(&child) {
            rows.retain(|row| self.is_new(child, &row.key));
        }
        self.add(open.edge, u64::try_from(rows.len()).unwrap_or(u64::MAX));
        for (target, columns) in self.model.graph.targets_of(child) {
            let keys: Vec<Key> = rows.iter().filter_map(|row| columns_key(&columns.columns, row)).collect();
            if !keys.is_empty() {
                self.ask(target, keys, |_| true);
            }
        }
        Ok(())
    }

    fn is_new(&mut self, entity: EntityId, key: &Key) -> bool {
        let mut hasher = DefaultHasher::new();
        (entity, key).hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }

    async fn page(&self, open: &Open) -> Result<Vec<ChildRow>, SinkError> {
        let edge = self.model.graph.edge(open.edge);
        let order = &self.model.graph.node(edge.child).key;
        let page = Page { order, after: open.after.as_ref().map(Key::parts) };
        let read = |selection: &Selection<'_>, dialect| statement::page(dialect, selection, &page);
        let rows = self.read(open, self.page.saturating_add(1), read).await?;
        child_rows(self.model, edge, rows)
    }

    /// Rows that carry the keys, at most `limit`.
    async fn number(&self, open: &Open, limit: u64) -> Result<u64, SinkError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows = self.read(open, limit, |selection, dialect| statement::number(dialect, selection)).await?;
        let number = rows.first().and_then(|row| row.first().cloned().flatten()).and_then(|text| text.parse().ok());
        number.ok_or_else(|| SinkError::Answer {
            what: "counting rows".to_owned(),
            expected: "a number".to_owned(),
            got: "none".to_owned(),
        })
    }

    async fn read(
        &self,
        open: &Open,
        limit: usize,
        statement: impl Fn(&Selection<'_>, statement::Dialect) -> Option<statement::Statement>,
    ) -> Result<Vec<crate::sink::Row>, SinkError> {
        let edge = self.model.graph.edge(open.edge);
        let bound = self.model.table(edge.child);
        let database = &self.model.databases.handle(bound.database).database;
        let keys: Vec<&[String]> = open.keys.iter().map(Key::parts).collect();
        let when = conditions(&bound.table, edge);
        let selection =
            Selection { table: &bound.table, by: &edge.columns, keys: &keys, when: &when, read: &bound.read, lock: false, limit };
        match statement(&selection, database.dialect()) {
            Some(statement) => database.read(&statement).await,
            None => Ok(Vec::new()),
        }
    }
}
