//! Workers that die between two commits, and their heirs. Now and then a middle row is saved in between (H47).

use std::collections::BTreeMap;

use entail::change::{NextOffset, TopicPartition};
use entail::databases::DatabaseId;
use entail::engine::Engine;
use entail::ledger::{self, Epoch};
use fastrand::Rng;

use super::drive::Driver;
use super::history::{History, Ran};
use super::schema::{Edge, OnDelete};
use super::state::{Id, Row, State, whole};
use super::statement::Statement;
use super::{Counts, Fault};

/// Batches that it is given for that.
const BATCHES: usize = 12;

impl Driver<'_> {
    /// Perhaps the worker dies at one of the next commits.
    pub(super) fn tempt_fate(&mut self) {
        if self.is_doomed {
            self.fate.doom_at_removal();
        } else if self.may_die && self.dice.u8(0..12) == 0 {
            self.fate.doom(self.dice.u8(1..=3), self.dice.bool());
        }
    }

    /// A worker works until the first rows have gone, and dies of it.
    async fn die(&mut self, rng: &mut Rng, counts: &mut Counts) -> Result<(), Fault> {
        self.is_doomed = true;
        let crashes = counts.crashes;
        for _ in 0..BATCHES {
            if counts.crashes > crashes || !self.step(rng, counts).await? {
                break;
            }
        }
        self.is_doomed = false;
        Ok(())
    }

    /// The worker has died: another one takes its partitions over, with nothing but the ledger to go by.
    pub(super) async fn inherit(&mut self, counts: &mut Counts) -> Result<(), Fault> {
        counts.crashes += 1;
        self.waiting.clear();
        self.is_torn = true;
        let partitions = self.partitions.clone();
        let (epochs, next) = take(&self.engine, partitions.iter()).await?;
        self.epochs = Some(epochs);
        self.feed.rewind(&next);
        Ok(())
    }
}

/// Epochs in every database that a topic reaches, and where to begin: where the furthest behind of them is.
pub(super) async fn take(
    engine: &Engine,
    partitions: impl Iterator<Item = &TopicPartition> + Clone,
) -> Result<(BTreeMap<(DatabaseId, TopicPartition), Epoch>, BTreeMap<TopicPartition, NextOffset>), Fault> {
    let (mut epochs, mut next) = (BTreeMap::new(), BTreeMap::new());
    for id in engine.model.targets() {
        let mut session = engine.model.databases.handle(id).database.begin().await?;
        for partition in partitions.clone().filter(|partition| engine.model.reach_of_topic(&partition.topic).contains(&id)) {
            let taken = ledger::take(session.as_mut(), &engine.owner, partition, NextOffset(0)).await?;
            epochs.insert((id, partition.clone()), taken.epoch);
            next.entry(partition.clone()).and_modify(|next: &mut NextOffset| *next = taken.next.min(*next)).or_insert(taken.next);
        }
        session.commit().await?;
    }
    Ok((epochs, next))
}

impl History<'_> {
    /// A parent goes, the worker dies over its rows, and some of them are saved.
    pub(super) async fn tear(&mut self) -> Result<(), Fault> {
        if !self.driver.may_die {
            return Ok(());
        }
        let database = |id: &Id| self.schema.tables[id.0].database;
        // Rows that go with this one's children, from another database than their own parent.
        let torn = |id: &Id| {
            let doomed = self.oracle.doomed(self.schema, &[*id]);
            let leads = |edge: &Edge, (parent, child): (&Id, &Id)| {
                let rows = (&self.oracle.rows[parent], &self.oracle.rows[child]);
                (edge.parent, edge.child) == (parent.0, child.0) && whole(rows.1, &edge.columns) == whole(rows.0, &edge.parent_columns)
            };
            let middles = doomed.iter().filter(|middle| *middle != id);
            let pairs = middles.flat_map(|middle| doomed.iter().map(move |leaf| (middle, leaf)));
            pairs
                .filter(|(middle, leaf)| database(middle) != database(leaf))
                .filter(|pair| self.schema.edges.iter().any(|edge| edge.on_delete == OnDelete::Cascade && leads(edge, *pair)))
                .count()
        };
        let mut parents = self.oracle.pointed_at(self.schema);
        self.rng.shuffle(&mut parents);
        let Some(id) = parents.into_iter().max_by_key(torn) else { return Ok(()) };
        let was = self.bench.state(self.schema).await?;
        if matches!(self.both(&Statement::Delete(vec![id])).await?, Ran::Both) {
            self.driver.is_doomed = true;
            self.after().await?;
            self.driver.die(self.rng, self.counts).await?;
            for _ in 0..self.rng.usize(1..=3) {
                self.save_a_row(&was).await?;
            }
        }
        Ok(())
    }

    /// A row that goes by the oracle, and that the dead worker did not come to, is given to another parent before the heir begins.
    async fn save_a_row(&mut self, was: &State) -> Result<(), Fault> {
        let is = self.bench.state(self.schema).await?;
        let mut lost = Vec::new();
        for (id, row) in is.rows.iter().filter(|(id, _)| !self.oracle.rows.contains_key(id)) {
            for edge in self.schema.edges.iter().filter(|edge| edge.child == id.0 && edge.on_delete == OnDelete::Cascade) {
                let parent = whole(row, &edge.columns).filter(|parent| !is.targets(edge).contains(parent));
                lost.extend(parent.map(|_| (*id, row, edge)));
            }
        }
        // Rather one below which something has gone already.
        let is_middle = |id: &Id| {
            let edges = || self.schema.edges.iter().filter(|edge| edge.parent == id.0 && edge.on_delete == OnDelete::Cascade);
            let has_gone = |edge: &Edge, (child, row): (&Id, &Row)| {
                child.0 == edge.child
                    && !is.rows.contains_key(child)
                    && whole(row, &edge.columns) == whole(&was.rows[id], &edge.parent_columns)
            };
            edges().any(|edge| was.rows.iter().any(|child| has_gone(edge, child)))
        };
        self.rng.shuffle(&mut lost);
        let Some((id, row, edge)) = lost.into_iter().max_by_key(|(id, _, _)| is_middle(id)) else { return Ok(()) };
        let mut with = self.oracle.clone();
        with.rows.insert(id, row.clone());
        let Some(new) = with.new_reference(self.rng, self.schema, edge, id) else { return Ok(()) };
        if self.in_service_alone(&Statement::Repoint(id, new)).await? {
            self.counts.saved += 1;
        }
        Ok(())
    }
}
