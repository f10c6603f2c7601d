//! Rows that point at each other by native keys: none of them can go back before the others, so they go back at once.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use super::aside::Aside;
use super::page::{self, Item};
use super::verdict::Verdict;
use super::{How, PARENT_MISSING, PAUSE, Patience, Tables, Tally, UndoError, Work, begin, failed, is_contention, refusal};
use crate::apply;
use crate::databases::{DatabaseId, Handle};
use crate::ledger::{self, Archived};
use crate::rules::TableName;
use crate::sink::statement::restore::{self, Rows};
use crate::sink::{Dialect, ForeignKey, Session, TableRef, image};
use crate::value::{Key, RowImage};

impl Work<'_> {
    /// Puts back what waits for a parent row and is one of its parents itself.
    pub(super) async fn put_back_rings(&self, id: DatabaseId, tables: &mut Tables, aside: &mut Aside) -> Result<(), UndoError> {
        let handle = self.model.databases.handle(id);
        let waits = |(row, why): &&(Archived, &str)| row.is_removed && *why == PARENT_MISSING;
        let rows: Vec<&Archived> = aside.rows.iter().filter(waits).map(|(row, _)| row).collect();
        if rows.len() < 2 {
            return Ok(());
        }
        let keys = handle.database.foreign_keys().await.map_err(failed(handle))?;
        let rows = rows.into_iter().map(|row| Ok((row, &self.table(&row.entity)?.1.table))).collect::<Result<Vec<_>, UndoError>>()?;
        // Of all rings, so that a lock that stays is waited for once.
        let (mut patience, mut in_the_way) = (Patience::default(), None);
        for ring in rings(handle.database.dialect(), &keys, &rows) {
            let done = loop {
                match self.at_once(handle, &ring).await {
                    Err(error) if patience.takes(&error) => tokio::time::sleep(PAUSE).await,
                    done => break done,
                }
            };
            match done {
                Ok(Some(tallies)) => {
                    tallies.into_iter().for_each(|(entity, tally)| tables.add(entity, tally));
                    aside.take(&ring);
                }
                Ok(None) => {}
                // Refused still: it stays refused, and the same command tries it again.
                Err(error) if refusal(&error).is_some() => {}
                // The others are not kept from going back.
                Err(error) if is_contention(&error) => in_the_way = in_the_way.or(Some(error)),
                Err(other) => return Err(other),
            }
        }
        in_the_way.map_or(Ok(()), Err)
    }

    /// Rows of several tables in one transaction, so that each finds its parents; nothing if one of them is there in any form.
    async fn at_once(&self, handle: &Handle, ids: &BTreeSet<i64>) -> Result<Option<Vec<(String, Tally)>>, UndoError> {
        let failed = failed(handle);
        let dialect = handle.database.dialect();
        let mut session = begin(handle).await?;
        let ids: Vec<i64> = ids.iter().copied().collect();
        let mut rows = ledger::archived(session.as_mut(), dialect, &ids).await.map_err(&failed)?;
        rows.sort_by(|one, other| shape(one).cmp(&shape(other)));
        let mut judged: Vec<(&str, Vec<Item<'_>>)> = Vec::new();
        for rows in rows.chunk_by(|one, other| shape(one) == shape(other)) {
            let Some(first) = rows.first() else { continue };
            let items = self.place(session.as_mut(), dialect, &first.entity, How::Write)?.judged(rows).await.map_err(&failed)?;
            judged.push((&first.entity, items));
        }
        if judged.iter().flat_map(|(_, items)| items).any(|item| item.verdict != Verdict::Insert) {
            session.rollback().await;
            return Ok(None);
        }
        self.insert(handle, session.as_mut(), &judged).await?;
        let mut tallies = Vec::new();
        for (entity, items) in &judged {
            let mut place = self.place(session.as_mut(), dialect, entity, How::Write)?;
            let mut tally = Tally::default();
            items.iter().for_each(|item| tally.count(item.row, &item.verdict, self.manner.on_conflict));
            place.finish(items, &mut tally).await.map_err(&failed)?;
            tallies.push(((*entity).to_owned(), tally));
        }
        session.commit().await.map_err(&failed)?;
        Ok(Some(tallies))
    }

    async fn insert(&self, handle: &Handle, session: &mut dyn Session, judged: &[(&str, Vec<Item<'_>>)]) -> Result<(), UndoError> {
        let failed = failed(handle);
        let dialect = handle.database.dialect();
        let mut parts = Vec::new();
        for (entity, items) in judged {
            let columns = items.first().map(|item| item.laid.known.as_slice()).unwrap_or_default();
            let rows = items.iter().map(|item| item.laid.before.as_slice()).collect();
            parts.push(Rows { table: &self.table(entity)?.1.table, columns, rows });
        }
        if let Some(first) = restore::before_at_once(dialect) {
            session.query(&first).await.map_err(&failed)?;
        }
        let rows = judged.iter().map(|(_, items)| items.len()).sum();
        page::execute(session, &restore::insert_at_once(dialect, &parts), rows).await.map_err(&failed)
    }
}

/// Of what table a row is, and which columns of it were kept: what has one shape goes back by one insert.
fn shape(row: &Archived) -> (&str, &str) {
    (&row.entity, &row.columns)
}

/// Which rows point at each other in a ring, by the native keys of their tables; what a ring points at comes before it.
fn rings(dialect: Dialect, keys: &[ForeignKey], rows: &[(&Archived, &TableRef)]) -> Vec<BTreeSet<i64>> {
    let images: Vec<RowImage> = rows.iter().map(|(row, table)| image_of(dialect, row, table)).collect();
    let mut ends: BTreeMap<(&TableName, &[String], Key), usize> = BTreeMap::new();
    let names: Vec<TableName> = rows.iter().map(|(_, table)| table.table_name()).collect();
    let placed = || names.iter().zip(&images).enumerate();
    for key in keys {
        let parents = placed().filter(|(_, (name, _))| **name == key.parent);
        let value = |image: &RowImage| TableRef::key_of(&key.parent_columns, image);
        ends.extend(parents.filter_map(|(place, (_, image))| Some(((&key.parent, key.parent_columns.as_slice(), value(image)?), place))));
    }
    let mut graph: DiGraph<i64, ()> = DiGraph::new();
    let nodes: Vec<_> = rows.iter().map(|(row, _)| graph.add_node(row.id)).collect();
    for key in keys {
        for (place, (_, image)) in placed().filter(|(_, (name, _))| **name == key.child) {
            let value = TableRef::key_of(&key.columns, image);
            let end = value.and_then(|value| ends.get(&(&key.parent, key.parent_columns.as_slice(), value)));
            if let (Some(child), Some(parent)) = (nodes.get(place), end.and_then(|end| nodes.get(*end))) {
                graph.add_edge(*child, *parent, ());
            }
        }
    }
    let found = kosaraju_scc(&graph).into_iter().filter(|ring| ring.len() > 1);
    found.map(|ring| ring.into_iter().filter_map(|node| graph.node_weight(node).copied()).collect()).collect()
}

fn image_of(dialect: Dialect, row: &Archived, table: &TableRef) -> RowImage {
    let texts: Vec<Option<String>> =
        image::fields(dialect, &row.image).unwrap_or_default().iter().map(|field| image::text(dialect, field)).collect();
    table.image(&apply::columns_of_shape(&row.columns), &texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::on_files::Services;
    use crate::undo::archived;

    #[tokio::test]
    async fn h92_only_rows_that_point_at_each_other_are_a_ring() {
        let services = Services::open("rings").await;
        let tables = [
            "CREATE TABLE teams (id INTEGER PRIMARY KEY, captain INTEGER REFERENCES players (id))",
            "CREATE TABLE players (id INTEGER PRIMARY KEY, team INTEGER REFERENCES teams (id))",
        ];
        services.execute("shop", &tables).await;
        let (teams, players) = (services.table("shop", "teams").await, services.table("shop", "players").await);
        let keys = services.database("shop").foreign_keys().await.expect("keys");
        let row = |id: i64, own: &str, other: &str, column: &str| Archived {
            columns: format!(r#"["id","{column}"]"#),
            image: format!(r#"["{own}","{other}"]"#),
            ..archived(id, &[own])
        };
        let team = |id, own, captain| (row(id, own, captain, "captain"), &teams);
        let player = |id, own, team| (row(id, own, team, "team"), &players);
        // Teams 1 and 2 are led by one of their own; team 3 by a player of team 1, and player 4 plays for a team that is not here.
        let rows = [
            team(1, "1", "1"),
            player(2, "1", "1"),
            team(3, "2", "2"),
            player(4, "2", "2"),
            team(5, "3", "1"),
            player(6, "3", "1"),
            player(7, "4", "9"),
            team(8, "4", "NULL"),
        ];
        let rows: Vec<(&Archived, &TableRef)> = rows.iter().map(|(row, table)| (row, *table)).collect();
        let found: BTreeSet<BTreeSet<i64>> = rings(Dialect::Sqlite, &keys, &rows).into_iter().collect();
        assert_eq!(found, BTreeSet::from([BTreeSet::from([1, 2]), BTreeSet::from([3, 4])]));
    }
}
