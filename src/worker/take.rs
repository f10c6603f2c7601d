//! Taking partitions over: epochs raised in every database concerned, and where to start.
//!
//! The ledger says where to start, not Kafka (H36): the lowest next offset of the databases that the topic reaches, so that whatever one of them
//! missed is done again (H46). An offset that the topic no longer holds, or does not hold yet, is a halt and never a skip (H35, H37).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::change::{NextOffset, TopicPartition};
use crate::databases::DatabaseId;
use crate::engine::Engine;
use crate::error::{Disposition, chain};
use crate::ledger::{self, Epoch, Latch};
use crate::sink::{Session, SinkError};
use crate::source::Watermarks;

const BACKOFF: Backoff = match Backoff::new(Duration::from_millis(100), Duration::from_secs(10)) {
    Ok(backoff) => backoff,
    Err(_) => panic!("the constants make sense"),
};

/// What came of taking partitions over.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    pub(crate) epochs: BTreeMap<(DatabaseId, TopicPartition), Epoch>,
    pub(crate) start: BTreeMap<TopicPartition, Start>,
    /// Partitions that stand still until a person has looked, with the reason.
    pub(crate) halted: BTreeMap<TopicPartition, String>,
    pub(crate) fatal: Option<SinkError>,
}

/// Where a partition goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Start {
    pub(crate) next: NextOffset,
    /// The fingerprint of the record before it, if it is known and the topic may hold that record still.
    pub(crate) last: Option<String>,
}

impl Start {
    /// The first record to read: the one before, if it is to be compared.
    pub(crate) fn read_from(&self) -> NextOffset {
        if self.last.is_some() { NextOffset(self.next.0 - 1) } else { self.next }
    }
}

/// The latch of a partition.
pub(crate) fn scope(partition: &TopicPartition) -> String {
    format!("partition:{partition}")
}

/// Takes partitions over, however long the databases are away.
pub(crate) async fn take(
    engine: Arc<Engine>,
    partitions: BTreeMap<TopicPartition, Watermarks>,
    topic_sizes: BTreeMap<String, usize>,
    stop: CancellationToken,
) -> Takeover {
    let mut attempt = NonZeroU32::MIN;
    loop {
        match try_take(&engine, &partitions, &topic_sizes).await {
            Ok(takeover) => return takeover,
            Err(error) if error.disposition() == Disposition::Halt => return Takeover { fatal: Some(error), ..Takeover::default() },
            Err(error) => tracing::warn!(error = %chain(&error), attempt, "partitions cannot be taken over yet"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Takeover::default(),
            () = tokio::time::sleep(BACKOFF.delay(attempt, fastrand::f64())) => {}
        }
        attempt = attempt.saturating_add(1);
    }
}

async fn try_take(
    engine: &Engine,
    partitions: &BTreeMap<TopicPartition, Watermarks>,
    topic_sizes: &BTreeMap<String, usize>,
) -> Result<Takeover, SinkError> {
    let mut takeover = Takeover::default();
    let mut by_database: BTreeMap<DatabaseId, Vec<&TopicPartition>> = BTreeMap::new();
    for partition in partitions.keys() {
        for id in engine.model.reach_of_topic(&partition.topic) {
            by_database.entry(id).or_default().push(partition);
        }
    }
    let known = known_starts(engine, &by_database, partitions).await?;
    let topic_sizes = sizes(topic_sizes, partitions);
    let mut latches: BTreeSet<Latch> = BTreeSet::new();
    for (id, taken) in by_database {
        let database = &engine.model.databases.handle(id).database;
        let mut session = database.begin().await?;
        for partition in taken {
            // A group's first start reads from the beginning; a database that joins later starts where the group is (H78).
            let first = known.get(partition).copied().unwrap_or_else(|| first(engine, partitions, partition));
            let taken = ledger::take(session.as_mut(), &engine.owner, partition, first).await?;
            takeover.epochs.insert((id, partition.clone()), taken.epoch);
            let is_kept = partitions.get(partition).is_some_and(|marks| taken.next.0 > marks.low);
            let taken = Start { next: taken.next, last: taken.last.filter(|_| is_kept) };
            let start = takeover.start.entry(partition.clone()).or_insert_with(|| taken.clone());
            if taken.next < start.next || taken.next == start.next && start.last.is_none() {
                *start = taken;
            }
        }
        adopt(engine, id, session.as_mut(), partitions).await?;
        for (topic, size) in topic_sizes.iter().filter(|(topic, _)| engine.model.reach_of_topic(topic).contains(&id)) {
            let grown = grown(engine, session.as_mut(), topic, *size).await?;
            ledger::shut(session.as_mut(), database.dialect(), &engine.owner.group, &grown).await?;
        }
        latches.extend(ledger::latches(session.as_mut(), &engine.owner.group).await?);
        session.commit().await?;
    }
    for (partition, marks) in partitions {
        let shut = latches.iter().find(|latch| latch.scope == scope(partition));
        let gap = takeover.start.get(partition).and_then(|start| gap(start.next, *marks));
        let reason = match (shut, gap) {
            (Some(latch), _) => format!("{}: {}", latch.reason, latch.detail),
            (None, Some(gap)) => {
                shut_partition(engine, partition, ledger::GAP, &gap).await?;
                gap
            }
            (None, None) => continue,
        };
        takeover.start.remove(partition);
        takeover.halted.insert(partition.clone(), reason);
    }
    Ok(takeover)
}

/// Takes up the pending roots of entities whose topic has another name now: whoever has the first partition works them.
async fn adopt(
    engine: &Engine,
    id: DatabaseId,
    session: &mut dyn Session,
    partitions: &BTreeMap<TopicPartition, Watermarks>,
) -> Result<(), SinkError> {
    let (model, group) = (&engine.model, &engine.owner.group);
    let dialect = model.databases.handle(id).database.dialect();
    for TopicPartition { topic, .. } in partitions.keys().filter(|one| one.partition == 0 && model.reach_of_topic(&one.topic).contains(&id))
    {
        let entities = model.topics.get(&**topic).map(|spec| spec.entities.as_slice()).unwrap_or_default();
        for spec in entities {
            let entity = &model.graph.node(spec.entity).name;
            ledger::adopt(session, dialect, group, (entity, topic), &model.topics).await?;
        }
    }
    Ok(())
}

/// How many partitions topics have. One that was given to us is there, whatever a broker that has not heard of it says.
fn sizes(told: &BTreeMap<String, usize>, partitions: &BTreeMap<TopicPartition, Watermarks>) -> BTreeMap<String, usize> {
    let mut sizes = told.clone();
    for partition in partitions.keys() {
        let size = sizes.entry(partition.topic.to_string()).or_default();
        *size = (*size).max(usize::try_from(partition.partition).map_or(0, |place| place.saturating_add(1)));
    }
    sizes
}

/// The partitions that are to be shut because their topic has grown: a key's old and new records stand in two of them, without an order. Deletes do
/// not care, copies and key changes do (H28).
async fn grown(engine: &Engine, session: &mut dyn Session, topic: &str, size: usize) -> Result<BTreeSet<Latch>, SinkError> {
    let (group, model) = (&engine.owner.group, &engine.model);
    let name = format!("partitions of {topic}");
    let before = ledger::pin_identity(session, group, &name, &size.to_string()).await?.parse().unwrap_or(size);
    if size <= before {
        // A broker that has not heard of the growth yet says less.
        return Ok(BTreeSet::new());
    }
    ledger::renew_identity(session, group, &name, &size.to_string()).await?;
    let entities = model.topics.get(topic).map(|spec| spec.entities.as_slice()).unwrap_or_default();
    let needs_order = |entity| model.replicas_of(entity).next().is_some() || model.graph.keys_may_change(entity);
    if !entities.iter().any(|spec| needs_order(spec.entity)) {
        tracing::warn!(topic, before, size, "the topic has more partitions; deletes do not depend on their order");
        return Ok(BTreeSet::new());
    }
    let detail = format!("{topic} had {before} partitions and has {size}: release this one when the old ones have been read to their ends");
    let partition = |place: usize| TopicPartition { topic: Arc::from(topic), partition: i32::try_from(place).unwrap_or(i32::MAX) };
    let latch = |place| Latch { scope: scope(&partition(place)), reason: "partitions-grown".to_owned(), detail: detail.clone() };
    Ok((before..size).map(latch).collect())
}

/// Why a partition cannot go on at this offset: the topic no longer holds it, or does not hold it yet.
pub(crate) fn gap(next: NextOffset, marks: Watermarks) -> Option<String> {
    let way_out = "look for orphans, then release the partition: it is read from the topic's beginning";
    if next.0 < marks.low {
        Some(format!(
            "the ledger asks for offset {}, and the topic begins at {}: events between them are lost; {way_out}",
            next.0, marks.low
        ))
    } else if next.0 > marks.high {
        Some(format!("the ledger asks for offset {}, and the topic ends at {}: it was re-created or cut; {way_out}", next.0, marks.high))
    } else {
        None
    }
}

/// Where a partition begins that the group has not read: what was there before a new reference is not its affair (H78).
fn first(engine: &Engine, partitions: &BTreeMap<TopicPartition, Watermarks>, partition: &TopicPartition) -> NextOffset {
    match (&engine.newcomers, partitions.get(partition)) {
        (Some(newcomers), Some(marks)) if newcomers.are_all_of(&engine.model, &partition.topic) => NextOffset(marks.high),
        _ => beginning(partitions, partition),
    }
}

fn beginning(partitions: &BTreeMap<TopicPartition, Watermarks>, partition: &TopicPartition) -> NextOffset {
    NextOffset(partitions.get(partition).map_or(0, |marks| marks.low))
}

/// Where the group is, per partition, by the databases that know it already.
async fn known_starts(
    engine: &Engine,
    databases: &BTreeMap<DatabaseId, Vec<&TopicPartition>>,
    partitions: &BTreeMap<TopicPartition, Watermarks>,
) -> Result<BTreeMap<TopicPartition, NextOffset>, SinkError> {
    let mut known: BTreeMap<TopicPartition, NextOffset> = BTreeMap::new();
    for id in databases.keys() {
        for (partition, next) in ledger::progress(&*engine.model.databases.handle(*id).database, &engine.owner.group).await? {
            let next = if next == ledger::ANEW { beginning(partitions, &partition) } else { next };
            let least = known.entry(partition).or_insert(next);
            *least = (*least).min(next);
        }
    }
    Ok(known)
}

/// How far partitions are durable in every database that their topics reach, by the ledger. One that some ledger does not know is left out, and one
/// with a gap: its topic was cut or made anew, and the ledger's offset is one of the log that was (H16).
pub(crate) async fn durable(
    engine: &Engine,
    partitions: &BTreeSet<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, NextOffset>, SinkError> {
    let mut ledgers: BTreeMap<DatabaseId, BTreeMap<TopicPartition, NextOffset>> = BTreeMap::new();
    let mut gaps: BTreeSet<String> = BTreeSet::new();
    for id in engine.model.targets() {
        let database = &*engine.model.databases.handle(id).database;
        ledgers.insert(id, ledger::progress(database, &engine.owner.group).await?);
        let latches = ledger::latches_now(database, &engine.owner.group).await?;
        gaps.extend(latches.into_iter().filter(|latch| latch.reason == ledger::GAP).map(|latch| latch.scope));
    }
    let least = |partition: &TopicPartition| {
        let reach = engine.model.reach_of_topic(&partition.topic);
        let known: Option<Vec<NextOffset>> = reach.iter().map(|id| ledgers.get(id)?.get(partition).copied()).collect();
        known?.into_iter().min()
    };
    let heard = partitions.iter().filter(|partition| !gaps.contains(&scope(partition)));
    Ok(heard.filter_map(|partition| Some((partition.clone(), least(partition)?))).collect())
}

/// Shuts a partition in the ledger of the databases that its topic reaches.
pub(crate) async fn shut_partition(engine: &Engine, partition: &TopicPartition, reason: &str, detail: &str) -> Result<(), SinkError> {
    let latch = Latch { scope: scope(partition), reason: reason.to_owned(), detail: detail.to_owned() };
    let latches = BTreeSet::from([latch]);
    for id in engine.model.reach_of_topic(&partition.topic) {
        let database = &engine.model.databases.handle(id).database;
        let mut session = database.begin().await?;
        ledger::shut(session.as_mut(), database.dialect(), &engine.owner.group, &latches).await?;
        session.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h28_a_partition_that_was_given_to_us_is_there_whatever_the_broker_says() {
        let topic: Arc<str> = Arc::from("t");
        let given = TopicPartition { topic: Arc::clone(&topic), partition: 3 };
        let given = BTreeMap::from([(given, Watermarks { low: 0, high: 0 })]);
        for told in [None, Some(3), Some(4), Some(5)] {
            let sizes = sizes(&told.map(|size| ("t".to_owned(), size)).into_iter().collect(), &given);
            assert_eq!(sizes, BTreeMap::from([("t".to_owned(), told.unwrap_or(0).max(4))]));
        }
    }
}
