//! The simulated worker: batches from read to commit, through the real core, with a pause before every step in which anything may happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use entail::change::{ChangeEvent, Operation, Position, SourcePosition, TopicPartition};
use entail::graph::{EdgeId, Graph, TargetId};
use entail::plan::{self, Assignment, Bounds, ChildRow, Collected, Confirmed, Expansion, Fate, Need, Plan, Root, Scope, StepAction};
use entail::rules::EntityId;
use entail::value::{Cell, Key};

use super::world::{Id, Kind, Partition, Row, SERVICES, Told, World};

/// What one database knows.
pub(super) struct Ledger {
    pub(super) next: BTreeMap<Partition, usize>,
    pub(super) epoch: BTreeMap<Partition, u64>,
}

impl Ledger {
    pub(super) fn new(partitions: &[Partition]) -> Ledger {
        Ledger {
            next: partitions.iter().map(|partition| (*partition, 0)).collect(),
            epoch: partitions.iter().map(|partition| (*partition, 1)).collect(),
        }
    }
}

/// Which root took a row: the parent's key, and the record that told of it.
type Cascade = (TargetId, Key, Position);

/// A row that was taken, or made to let go by one reference.
pub(super) struct Archived {
    cascade: Cascade,
    /// The entity of the root.
    pub(super) root: usize,
    pub(super) entity: usize,
    pub(super) key: Id,
    pub(super) row: Row,
    because: usize,
    pub(super) let_go: Option<usize>,
    pub(super) is_back: bool,
    /// It was to be put back, and could not be: a newer row had its place, or it lacked another parent.
    pub(super) is_told: bool,
}

/// Why a batch was not worked to its end.
enum Stopped {
    Crash,
    Fenced,
    Blocked,
}

struct Batch {
    number: u64,
    worker: usize,
    epochs: BTreeMap<Partition, u64>,
    progress: BTreeMap<Partition, usize>,
    /// The databases are not equally far when it begins: it does again what a crash or a fence has torn.
    is_redo: bool,
    /// How deep pauses are nested: within the pause of one worker, the other one works.
    depth: usize,
}

/// Something happens: mostly in the services, sometimes a batch.
pub(super) fn step(world: &mut World, graph: &Graph) {
    match world.pick(0, 10) {
        0..=5 => world.change(),
        6 => world.disturb_the_log(),
        _ => {
            let worker = world.pick(0, 2);
            work(world, graph, worker, 0);
        }
    }
}

/// Works until nothing is left, with nothing else going on.
pub(super) fn settle(world: &mut World, graph: &Graph) {
    world.is_calm = true;
    for _ in 0..200 {
        let records = |world: &World| world.log.values().map(Vec::len).sum::<usize>();
        let before = records(world);
        (0..2).for_each(|worker| work(world, graph, worker, 0));
        let is_read = world.log.iter().all(|(partition, topic)| {
            let next = world.ledgers.iter().map(|ledger| ledger.next[partition]).min().unwrap_or(0);
            next.max(world.low[partition]) >= topic.len()
        });
        if is_read && before == records(world) {
            world.is_calm = false;
            return;
        }
    }
    panic!("it does not settle:\n{}\n{}", world.schema(graph), world.trace.join("\n"));
}

/// What may happen between two steps of a batch.
fn pause(world: &mut World, graph: &Graph, batch: &Batch) -> Result<(), Stopped> {
    if world.is_calm || world.pick(0, 3) > 0 {
        return Ok(());
    }
    // See the head of `model.rs`: a tear is mended before the next one.
    let may_tear = !batch.is_redo || world.tears_twice;
    match world.pick(0, 12) {
        0..=6 => world.change(),
        7 => world.disturb_the_log(),
        8 if may_tear => return Err(Stopped::Crash),
        9 if batch.depth == 0 && may_tear => {
            // It sleeps past its session: the other worker takes everything over and works; then it goes on as if nothing were.
            take_all(world, 1 - batch.worker);
            work(world, graph, 1 - batch.worker, 1);
        }
        10 if batch.depth == 0 => work(world, graph, 1 - batch.worker, 1),
        _ => {}
    }
    Ok(())
}

/// Takes every partition over: its epoch in every database, and where the furthest behind of them is.
fn take_all(world: &mut World, worker: usize) {
    world.note(|| format!("worker {worker} takes over"));
    let partitions: Vec<Partition> = world.owner.keys().copied().collect();
    for partition in partitions {
        for ledger in &mut world.ledgers {
            *ledger.epoch.get_mut(&partition).expect("a partition") += 1;
        }
        world.owner.insert(partition, worker);
        start_from_the_ledger(world, partition);
    }
}

fn start_from_the_ledger(world: &mut World, partition: Partition) {
    let next = world.ledgers.iter().map(|ledger| ledger.next[&partition]).min().unwrap_or(0);
    // What is gone was noted as a gap when it went, and a person released it.
    world.read.insert(partition, next.max(world.low[&partition]));
}

fn work(world: &mut World, graph: &Graph, worker: usize, depth: usize) {
    world.batches += 1;
    let is_redo = world.ledgers.windows(2).any(|two| two[0].next != two[1].next);
    let mut batch = Batch { number: world.batches, worker, epochs: BTreeMap::new(), progress: BTreeMap::new(), is_redo, depth };
    let mut events = Vec::new();
    let owned: Vec<Partition> = world.owner.iter().filter(|(_, owner)| **owner == worker).map(|(partition, _)| *partition).collect();
    for partition in owned {
        let from = world.read[&partition].max(world.low[&partition]);
        let to = world.log[&partition].len().min(from + world.pick(1, 4));
        if from < to {
            batch.progress.insert(partition, to);
            batch.epochs.insert(partition, world.ledgers[0].epoch[&partition]);
            events.extend((from..to).map(|offset| event(partition, offset, world.log[&partition][offset])));
        }
    }
    if events.is_empty() {
        return;
    }
    world.note(|| format!("worker {worker} begins batch {}: {:?}", batch.number, batch.progress));
    let done = run(world, graph, &batch, &events);
    world.locks.retain(|_, holder| *holder != batch.number);
    match done {
        Ok(()) => {
            for (partition, next) in &batch.progress {
                if world.ledgers[0].epoch[partition] == batch.epochs[partition] {
                    world.read.insert(*partition, *next);
                }
            }
        }
        Err(stopped) => {
            let (counter, what) = match stopped {
                Stopped::Crash => (&mut world.counts.crashes, "crashes"),
                Stopped::Fenced => (&mut world.counts.fenced, "is fenced"),
                Stopped::Blocked => (&mut world.counts.blocked, "waits for a lock in vain"),
            };
            *counter += 1;
            world.note(|| format!("batch {} {what}", batch.number));
            let mine: Vec<Partition> = world.owner.iter().filter(|(_, owner)| **owner == worker).map(|(partition, _)| *partition).collect();
            mine.into_iter().for_each(|partition| start_from_the_ledger(world, partition));
        }
    }
}

fn event((entity, partition): Partition, offset: usize, told: Told) -> (Position, ChangeEvent) {
    let topic: Arc<str> = Arc::from(format!("e{entity}"));
    let partition = TopicPartition { topic, partition: i32::try_from(partition).expect("few") };
    let operation = match told.kind {
        Kind::Upsert => Operation::Upsert { key: key(told.key), moved_from: None },
        Kind::Delete => Operation::Delete { key: key(told.key) },
        Kind::Tombstone => Operation::Hint { key: key(told.key) },
    };
    let source = SourcePosition { source: Arc::from("s"), order: vec![told.lsn] };
    let event = ChangeEvent {
        entity: EntityId(u32::try_from(entity).expect("few")),
        operation,
        before: BTreeMap::new(),
        after: BTreeMap::new(),
        reread: false,
        snapshot: false,
        source: Some(source).filter(|_| told.kind != Kind::Tombstone),
        transaction: None,
    };
    (Position { partition, offset: i64::try_from(offset).expect("few") }, event)
}

pub(super) fn key(id: Id) -> Key {
    Key::from_cells([&Cell::Value(id.to_string())]).expect("a value")
}

fn id(key: &Key) -> Id {
    key.parts()[0].parse().expect("a number")
}

/// One batch: look, collect under locks, look again, plan, and commit database by database.
fn run(world: &mut World, graph: &Graph, batch: &Batch, events: &[(Position, ChangeEvent)]) -> Result<(), Stopped> {
    let reduced = plan::reduce(graph, &BTreeSet::new(), events);
    pause(world, graph, batch)?;
    let is_missing = |world: &World, target: TargetId, key: &Key| !world.is_there(graph.target(target).entity.0 as usize, id(key));
    let (mut roots, mut causes, mut alive) = (Vec::new(), Vec::new(), Vec::new());
    for ((target, key), candidate) in &reduced.candidates {
        let cascade = (*target, key.clone(), candidate.cause.clone());
        if is_missing(world, *target, key) {
            roots.push(Root { target: *target, key: key.clone(), fate: Fate::Gone, beside: BTreeSet::new(), seen: None });
            causes.push(cascade);
        } else {
            alive.push(cascade);
        }
    }
    let collected = collect(world, graph, batch, roots)?;
    pause(world, graph, batch)?;
    let doomed = collected.roots().filter(|(_, root)| is_missing(world, root.target, &root.key)).map(|(id, _)| id).collect();
    let confirmed = Confirmed { doomed, waiting: BTreeSet::new() };
    let plan = plan::plan(collected.verify(confirmed), graph, &bounds());
    let ended: Vec<Cascade> = causes.iter().cloned().chain(alive).collect();
    let (back, told) = rescued(world, graph, &plan, &ended);
    for place in told {
        world.archive[place].is_told = true;
    }
    commit(world, graph, batch, &Work { plan: &plan, causes: &causes, back: &back })
}

fn bounds() -> Bounds {
    Bounds {
        rows_per_event: u64::MAX,
        released: Default::default(),
        latched: BTreeSet::new(),
        window: BTreeMap::new(),
        scope: Scope::Enforced,
        is_dry: false,
    }
}

fn collect(world: &mut World, graph: &Graph, batch: &Batch, roots: Vec<Root>) -> Result<Collected, Stopped> {
    let latched = BTreeSet::new();
    let mut expansion = Expansion::new(graph, roots, &latched, Scope::Enforced);
    loop {
        let needs = expansion.needs();
        if needs.is_empty() {
            return Ok(expansion.finish());
        }
        for need in needs {
            pause(world, graph, batch)?;
            let rows = read(world, graph, batch, &need)?;
            expansion.answer(&need, rows);
        }
    }
}

fn number(graph: &Graph, edge: EdgeId) -> usize {
    graph.edge(edge).name[1..].parse().expect("a number")
}

/// The rows that point at these keys, locked.
fn read(world: &mut World, graph: &Graph, batch: &Batch, need: &Need) -> Result<Vec<ChildRow>, Stopped> {
    let (entity, number) = (graph.edge(need.edge).child.0 as usize, number(graph, need.edge));
    let wanted: BTreeSet<Id> = need.keys.iter().map(id).collect();
    let found = world.tables[entity].iter().filter(|(_, row)| row.refs[&number].is_some_and(|to| wanted.contains(&to)));
    let found: Vec<(Id, Row)> = found.map(|(key, row)| (*key, row.clone())).collect();
    let mut rows = Vec::new();
    for (own, row) in found {
        if *world.locks.entry((entity, own)).or_insert(batch.number) != batch.number {
            return Err(Stopped::Blocked);
        }
        let cell = |to: &Option<Id>| to.map_or(Cell::Null, |to| Cell::Value(to.to_string()));
        let mut image: BTreeMap<String, Cell> = row.refs.iter().map(|(number, to)| (format!("r{number}"), cell(to))).collect();
        image.insert("id".to_owned(), Cell::Value(own.to_string()));
        rows.push(ChildRow { key: key(own), image, version: String::new() });
    }
    Ok(rows)
}

struct Work<'a> {
    plan: &'a Plan,
    causes: &'a [Cascade],
    /// Places in the archive of what is put back.
    back: &'a [usize],
}

/// One transaction per database, those that put back first, then those with the deepest rows; with the ledger, under the epochs.
fn commit(world: &mut World, graph: &Graph, batch: &Batch, work: &Work<'_>) -> Result<(), Stopped> {
    let gives_back = |world: &World, service: usize| work.back.iter().any(|place| world.service[world.archive[*place].entity] == service);
    let rank = |world: &World, service: usize| {
        let steps = work.plan.steps.iter().filter(|step| world.service[step.entity.0 as usize] == service);
        steps.map(|step| graph.rank(step.entity)).min().unwrap_or(usize::MAX)
    };
    let mut order: Vec<usize> = (0..SERVICES).collect();
    order.sort_by_key(|service| (!gives_back(world, *service), rank(world, *service), *service));
    for service in order {
        pause(world, graph, batch)?;
        if batch.epochs.iter().any(|(partition, epoch)| world.ledgers[service].epoch[partition] != *epoch) {
            return Err(Stopped::Fenced);
        }
        let services = world.service.clone();
        for step in work.plan.steps.iter().filter(|step| services[step.entity.0 as usize] == service) {
            apply(world, graph, batch, step, work.causes);
        }
        for place in work.back.iter().filter(|place| world.service[world.archive[**place].entity] == service).copied().collect::<Vec<_>>() {
            put_back(world, place);
        }
        for (partition, next) in &batch.progress {
            let known = world.ledgers[service].next.get_mut(partition).expect("a partition");
            *known = (*known).max(*next);
        }
        world.locks.retain(|(entity, _), holder| *holder != batch.number || services[*entity] != service);
        world.note(|| format!("batch {} commits in s{service}", batch.number));
    }
    Ok(())
}

fn apply(world: &mut World, graph: &Graph, batch: &Batch, step: &plan::Step, causes: &[Cascade]) {
    let entity = step.entity.0 as usize;
    for row in &step.rows {
        let own = id(&row.key);
        let cascade = causes[row.root.0 as usize].clone();
        assert_eq!(world.locks.get(&(entity, own)), Some(&batch.number), "only locked rows are touched");
        let image = world.tables[entity][&own].clone();
        let numbers: Vec<usize> = step.edges.iter().map(|edge| number(graph, *edge)).collect();
        let because = numbers[0];
        let archived = |let_go| Archived {
            cascade: cascade.clone(),
            root: graph.target(cascade.0).entity.0 as usize,
            entity,
            key: own,
            row: image.clone(),
            because,
            let_go,
            is_back: false,
            is_told: false,
        };
        match &step.action {
            StepAction::Delete => {
                world.archive.push(archived(None));
                world.note(|| format!("  takes e{entity} {own}"));
                world.remove(entity, own);
            }
            StepAction::Update(assignments) => {
                let columns = step.edges.iter().flat_map(|edge| &graph.edge(*edge).columns);
                let empty: BTreeMap<String, Assignment> = columns.map(|column| (column.clone(), Assignment::Null)).collect();
                assert_eq!(
                    assignments.iter().cloned().collect::<BTreeMap<_, _>>(),
                    empty,
                    "a row lets go of what is gone and of nothing else"
                );
                for number in numbers {
                    world.archive.push(Archived { because: number, ..archived(Some(number)) });
                    world.note(|| format!("  e{entity} {own} lets go by f{number}"));
                    world.let_go(entity, own, number);
                }
            }
        }
    }
}

fn put_back(world: &mut World, place: usize) {
    let Archived { entity, key, row, let_go, .. } = &world.archive[place];
    let (entity, own, row, let_go) = (*entity, *key, row.clone(), *let_go);
    let is_free = match let_go {
        None => !world.is_there(entity, own),
        Some(number) => world.tables[entity].get(&own).is_some_and(|row| row.refs[&number].is_none()),
    };
    if !is_free {
        // It stays in the archive, and is told.
        world.archive[place].is_told = true;
        return;
    }
    world.archive[place].is_back = true;
    world.note(|| format!("  puts e{entity} {own} back"));
    match let_go {
        None => world.put(entity, own, row),
        Some(number) => {
            let there = world.tables[entity].get_mut(&own).expect("is there");
            there.refs.insert(number, row.refs[&number]);
            there.since.insert(number, row.since[&number]);
        }
    }
}

/// As the engine does (H47): what earlier attempts at these cascades took because of parents that live and were not taken.
fn rescued(world: &World, graph: &Graph, plan: &Plan, ended: &[Cascade]) -> (Vec<usize>, Vec<usize>) {
    let is_ours = |one: &Archived| !one.is_back && ended.contains(&one.cascade);
    let before: Vec<usize> = (0..world.archive.len()).filter(|place| is_ours(&world.archive[*place])).collect();
    let goes = |entity: usize, own: Id| {
        let deletes = plan.steps.iter().filter(|step| step.action == StepAction::Delete && step.entity.0 as usize == entity);
        deletes.flat_map(|step| &step.rows).any(|row| id(&row.key) == own)
    };
    let was_taken =
        |entity: usize, own: Id| before.iter().map(|place| &world.archive[*place]).any(|one| (one.entity, one.key) == (entity, own));
    let parent = |one: &Archived, number: usize| Some((world.references[number].1, one.row.refs[&number]?));
    let is_root =
        |one: &Archived, (entity, own): (usize, Id)| (graph.target(one.cascade.0).entity.0 as usize, id(&one.cascade.1)) == (entity, own);
    let lives = |(entity, own): (usize, Id)| world.is_there(entity, own) && !goes(entity, own) && !was_taken(entity, own);
    let is_among = |places: &[usize], (entity, own): (usize, Id)| {
        places.iter().map(|place| &world.archive[*place]).any(|one| one.let_go.is_none() && (one.entity, one.key) == (entity, own))
    };
    let (mut candidates, mut told) = (before.clone(), Vec::new());
    loop {
        let mut back: Vec<usize> = Vec::new();
        loop {
            let returns = |one: &Archived| {
                let because = parent(one, one.because).filter(|parent| !is_root(one, *parent));
                because.is_some_and(|parent| lives(parent) || is_among(&back, parent))
            };
            let new: Vec<usize> =
                candidates.iter().copied().filter(|place| !back.contains(place) && returns(&world.archive[*place])).collect();
            if new.is_empty() {
                break;
            }
            back.extend(new);
        }
        let has_all = |place: &usize| {
            let one = &world.archive[*place];
            let mut needs = one.row.refs.keys().filter_map(|number| parent(one, *number));
            one.let_go.is_some() || needs.all(|parent| lives(parent) || is_among(&back, parent))
        };
        let (kept, lost): (Vec<usize>, Vec<usize>) = back.iter().copied().partition(has_all);
        if lost.is_empty() {
            return (kept, told);
        }
        told.extend(lost);
        candidates = kept;
    }
}
