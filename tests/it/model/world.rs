//! The simulated services: tables with row locks, a log per table, and what the services do. Beside them, what nobody in the simulation knows: since
//! when a row points where it points, and since when a parent lives.

use std::collections::{BTreeMap, BTreeSet};

use entail::graph::{Edge, EdgeDraft, Graph, Node, Origin, TargetId};
use entail::rules::{EntityId, Mode, OnDelete, OnUpdate, ReferenceId};

use super::Counts;
use super::worker::{Archived, Ledger};

/// Keys are small numbers, so that they meet.
pub(super) type Id = u8;

/// Partitions of every topic.
pub(super) const PARTITIONS: usize = 2;
/// Databases.
pub(super) const SERVICES: usize = 3;

/// A row: where it points, by reference, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) refs: BTreeMap<usize, Option<Id>>,
    pub(super) since: BTreeMap<usize, u64>,
}

/// A record of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) key: Id,
    pub(super) kind: Kind,
    pub(super) lsn: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Upsert,
    Delete,
    Tombstone,
}

/// A partition of an entity's topic.
pub(super) type Partition = (usize, usize);

/// Everything there is.
pub(super) struct World {
    pub(super) random: fastrand::Rng,
    /// No faults and no changes any more.
    pub(super) is_calm: bool,
    /// What was torn may be torn again before it is mended.
    pub(super) tears_twice: bool,
    /// The service of each entity.
    pub(super) service: Vec<usize>,
    /// Child, parent, and whether the child goes (or else lets go).
    pub(super) references: Vec<(usize, usize, bool)>,
    pub(super) tables: Vec<BTreeMap<Id, Row>>,
    pub(super) locks: BTreeMap<(usize, Id), u64>,
    pub(super) log: BTreeMap<Partition, Vec<Told>>,
    /// Records below are gone.
    pub(super) low: BTreeMap<Partition, usize>,
    pub(super) ledgers: Vec<Ledger>,
    /// Whose each partition is, and up to where that worker has read.
    pub(super) owner: BTreeMap<Partition, usize>,
    pub(super) read: BTreeMap<Partition, usize>,
    pub(super) archive: Vec<Archived>,
    /// Entities of which records were lost before they were read.
    pub(super) gaps: BTreeSet<usize>,
    pub(super) trace: Vec<String>,
    pub(super) counts: Counts,
    pub(super) batches: u64,
    now: u64,
    born: BTreeMap<(usize, Id), u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let entities = random.usize(2..=5);
        let service = (0..entities).map(|_| random.usize(0..SERVICES)).collect();
        let reference = |random: &mut fastrand::Rng| (random.usize(0..entities), random.usize(0..entities), random.u8(0..4) > 0);
        let references = (0..random.usize(1..=entities + 2)).map(|_| reference(&mut random)).collect();
        let partitions: Vec<Partition> = (0..entities).flat_map(|entity| (0..PARTITIONS).map(move |one| (entity, one))).collect();
        let owner = partitions.iter().map(|partition| (*partition, random.usize(0..2))).collect();
        World {
            is_calm: false,
            tears_twice: std::env::var_os("ENTAIL_TEARS_TWICE").is_some(),
            service,
            references,
            tables: vec![BTreeMap::new(); entities],
            locks: BTreeMap::new(),
            log: partitions.iter().map(|partition| (*partition, Vec::new())).collect(),
            low: partitions.iter().map(|partition| (*partition, 0)).collect(),
            ledgers: (0..SERVICES).map(|_| Ledger::new(&partitions)).collect(),
            owner,
            read: partitions.iter().map(|partition| (*partition, 0)).collect(),
            archive: Vec::new(),
            gaps: BTreeSet::new(),
            trace: Vec::new(),
            counts: Counts::default(),
            batches: 0,
            now: 1,
            born: BTreeMap::new(),
            random,
        }
    }

    pub(super) fn graph(&self) -> Graph {
        let node = |entity: usize| Node { name: format!("s{}.e{entity}", self.service[entity]), key: vec!["id".to_owned()] };
        let draft = |(number, (child, parent, goes)): (usize, &(usize, usize, bool))| {
            let column = format!("r{number}");
            let edge = Edge {
                name: format!("f{number}"),
                child: entity_id(*child),
                columns: vec![column.clone()],
                target: TargetId(0),
                when: Vec::new(),
                on_delete: if *goes { OnDelete::Cascade } else { OnDelete::SetNull(vec![column]) },
                on_update: OnUpdate::NoAction,
                mode: Mode::Enforce,
                archive: true,
                origin: Origin::Rule(ReferenceId(u32::try_from(number).expect("few"))),
                native_delete: None,
                native_update: OnUpdate::NoAction,
            };
            EdgeDraft { edge, parent: entity_id(*parent), parent_columns: vec!["id".to_owned()] }
        };
        Graph::new((0..self.tables.len()).map(node).collect(), self.references.iter().enumerate().map(draft).collect())
    }

    pub(super) fn pick(&mut self, from: usize, to: usize) -> usize {
        self.random.usize(from..to)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if std::env::var_os("ENTAIL_SEED").is_some() {
            let line = line();
            self.trace.push(line);
        }
    }

    pub(super) fn is_there(&self, entity: usize, key: Id) -> bool {
        self.tables[entity].contains_key(&key)
    }

    fn tell(&mut self, entity: usize, key: Id, kinds: &[Kind]) {
        self.now += 1;
        let topic = self.log.get_mut(&(entity, usize::from(key) % PARTITIONS)).expect("a partition");
        topic.extend(kinds.iter().map(|kind| Told { key, kind: *kind, lsn: self.now }));
    }

    /// What the services do: one change, if no lock is in its way.
    pub(super) fn change(&mut self) {
        let (entity, key) = (self.pick(0, self.tables.len()), u8::try_from(self.pick(1, 5)).expect("small"));
        let is_locked = self.locks.contains_key(&(entity, key));
        match (self.is_there(entity, key), self.pick(0, 10)) {
            (false, _) => {
                let own: Vec<usize> = (0..self.references.len()).filter(|number| self.references[*number].0 == entity).collect();
                let refs: BTreeMap<usize, Option<Id>> = own.iter().map(|number| (*number, self.some_parent(*number))).collect();
                let now = self.now;
                self.note(|| format!("insert e{entity} {key} {refs:?}"));
                let since = own.iter().map(|number| (*number, now)).collect();
                self.put(entity, key, Row { refs, since });
            }
            (true, _) if is_locked => {}
            (true, 0..=6) => {
                self.note(|| format!("delete e{entity} {key}"));
                self.remove(entity, key);
            }
            (true, _) => {
                let Some(number) = self.tables[entity][&key].refs.keys().copied().next_back() else { return };
                let to = self.some_parent(number);
                let now = self.now;
                self.note(|| format!("move e{entity} {key} by f{number} to {to:?}"));
                let row = self.tables[entity].get_mut(&key).expect("is there");
                row.refs.insert(number, to);
                row.since.insert(number, now);
                self.tell(entity, key, &[Kind::Upsert]);
            }
        }
    }

    /// A parent that lives now, or none: services do not point at what they know to be gone.
    fn some_parent(&mut self, number: usize) -> Option<Id> {
        let parent = self.references[number].1;
        let living: Vec<Id> = self.tables[parent].keys().copied().collect();
        let place = self.pick(0, living.len() + 1);
        living.get(place).copied()
    }

    pub(super) fn put(&mut self, entity: usize, key: Id, row: Row) {
        self.now += 1;
        self.born.insert((entity, key), self.now);
        self.tables[entity].insert(key, row);
        self.tell(entity, key, &[Kind::Upsert]);
    }

    pub(super) fn remove(&mut self, entity: usize, key: Id) {
        self.now += 1;
        self.tables[entity].remove(&key);
        self.tell(entity, key, &[Kind::Delete, Kind::Tombstone]);
    }

    pub(super) fn let_go(&mut self, entity: usize, key: Id, number: usize) {
        let now = self.now;
        let row = self.tables[entity].get_mut(&key).expect("is locked");
        row.refs.insert(number, None);
        row.since.insert(number, now);
        self.tell(entity, key, &[Kind::Upsert]);
    }

    /// The log does what logs do: it repeats records, tells lies of living rows, and loses what nobody has read yet.
    pub(super) fn disturb_the_log(&mut self) {
        let partitions: Vec<Partition> = self.log.keys().copied().collect();
        let partition = partitions[self.pick(0, partitions.len())];
        let length = self.log[&partition].len();
        match self.pick(0, 8) {
            0..=3 if length > 0 => {
                let place = self.pick(0, length);
                let old = self.log[&partition][place];
                self.counts.repeats += 1;
                self.note(|| format!("repeat {partition:?} {old:?}"));
                self.log.get_mut(&partition).expect("is there").push(old);
            }
            4..=6 => {
                let living: Vec<Id> = self.tables[partition.0].keys().copied().collect();
                if let Some(key) = (!living.is_empty()).then(|| living[self.random.usize(0..living.len())]) {
                    self.counts.forged += 1;
                    self.note(|| format!("forge a delete of e{} {key}", partition.0));
                    self.tell(partition.0, key, &[Kind::Delete]);
                }
            }
            7 if self.pick(0, 10) == 0 && self.read[&partition] < length => {
                self.counts.lost += 1;
                self.gaps.insert(partition.0);
                self.note(|| format!("lose {partition:?} up to {length}"));
                self.low.insert(partition, length);
            }
            _ => {}
        }
    }

    pub(super) fn tell_all_again(&mut self) {
        self.note(|| "everything again".to_owned());
        for topic in self.log.values_mut() {
            topic.extend_from_within(..);
        }
    }

    /// Whether a parent was missing at some time since a row points at it.
    fn was_missing(&self, row: &Row, number: usize) -> bool {
        let (parent, Some(Some(key))) = (self.references[number].1, row.refs.get(&number)) else { return false };
        !self.is_there(parent, *key) || self.born.get(&(parent, *key)).is_some_and(|born| born > &row.since[&number])
    }

    /// Wrong deletions, wrong changes, and rows left over.
    pub(super) fn faults(&self, graph: &Graph) -> Vec<String> {
        let mut faults = Vec::new();
        // A gap may have taken the records that were to be done again: then the partition stands still, and a person is told.
        for one in self.archive.iter().filter(|one| !one.is_back && !one.is_told && !self.gaps.contains(&one.root)) {
            let by_cascade = |number: &&usize| self.references[**number].2 && self.was_missing(&one.row, **number);
            let is_right = match one.let_go {
                None => one.row.refs.keys().any(|number| by_cascade(&number)),
                Some(number) => self.was_missing(&one.row, number),
            };
            if !is_right {
                faults.push(format!("WRONG: e{} {} {:?} {:?}", one.entity, one.key, one.let_go, one.row));
            }
        }
        for (_, edge) in graph.edges() {
            let number: usize = edge.name[1..].parse().expect("a number");
            let (child, parent, _) = self.references[number];
            let points = self.tables[child].iter().filter_map(|(key, row)| Some((key, row.refs[&number]?)));
            let left = points.filter(|(_, to)| !self.is_there(parent, *to) && !self.gaps.contains(&parent));
            faults.extend(left.map(|(key, to)| format!("ORPHAN: e{child} {key} points by f{number} at e{parent} {to}")));
        }
        faults
    }

    pub(super) fn count(&self, counts: &mut Counts) {
        counts.histories += 1;
        counts.removed += u64::try_from(self.archive.iter().filter(|one| one.let_go.is_none()).count()).unwrap_or(0);
        counts.nulled += u64::try_from(self.archive.iter().filter(|one| one.let_go.is_some()).count()).unwrap_or(0);
        counts.put_back += u64::try_from(self.archive.iter().filter(|one| one.is_back).count()).unwrap_or(0);
        counts.crashes += self.counts.crashes;
        counts.fenced += self.counts.fenced;
        counts.blocked += self.counts.blocked;
        counts.repeats += self.counts.repeats;
        counts.forged += self.counts.forged;
        counts.lost += self.counts.lost;
    }

    pub(super) fn schema(&self, graph: &Graph) -> String {
        let lines = graph.edges().map(|(_, edge)| {
            let parent = graph.node(graph.target(edge.target).entity);
            format!("{}: {} -> {} {:?}", edge.name, graph.node(edge.child).name, parent.name, edge.on_delete)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

pub(super) fn entity_id(entity: usize) -> EntityId {
    EntityId(u32::try_from(entity).expect("few"))
}
