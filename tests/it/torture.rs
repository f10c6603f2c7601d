//! Months in minutes: an application that writes, deletes and re-creates on three services; real Debezium, Kafka and PostgreSQL; several workers of the
//! real binary that are killed, put to sleep, fenced and cut off; forged deletes. The end of each round is compared with one PostgreSQL with native
//! foreign keys, and no row that lives there may be missing at any moment.
//!
//! `script/torture --minutes M --seed S --workers N` runs it long; without that a short run is part of the suite.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::wait::within;

mod application;
mod audit;
mod storm;
mod world;

use application::Application;
use storm::Storm;
use world::World;

/// How long the state may take to settle once everything is healed.
const SETTLE: Duration = Duration::from_secs(120);

/// What was done, and what came of it.
#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    statements: u64,
    forged: u64,
    kills: u64,
    stops: u64,
    terminations: u64,
    crashes: u64,
    drops: u64,
    holds: u64,
    delays: u64,
    locks: u64,
    /// Workers that ended by themselves, as a fenced one may, by their exit code and last words.
    ended: BTreeMap<String, u64>,
    /// From a start to its first partitions, in milliseconds.
    resumed: Vec<u128>,
    wrong_deletions: usize,
    wrong_changes: usize,
    left_over: usize,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn h31_h45_h46_a_long_history_under_faults_ends_as_with_native_foreign_keys() {
    let seed = number("ENTAIL_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000_000));
    let minutes = number("ENTAIL_TORTURE_MINUTES");
    let (length, workers) =
        (Duration::from_secs(minutes.map_or(25, |minutes| minutes * 60)), number("ENTAIL_TORTURE_WORKERS").unwrap_or(2));
    println!("ENTAIL_SEED={seed}; again: script/torture --minutes {} --seed {seed} --workers {workers}", minutes.unwrap_or(1));
    let only = std::env::var("ENTAIL_TORTURE_FAULTS").ok();
    let faults = storm::faults(only.as_deref());
    let mut rng = fastrand::Rng::with_seed(seed);
    let by_the_seed = rng.bool();
    let are_static = number("ENTAIL_TORTURE_STATIC").map_or(by_the_seed, |given| given > 0);
    let mut world = World::new(usize::try_from(workers).expect("a few"), are_static).await;
    let (mut app, mut counts) = (Application::new(rng.fork()), Counts::default());
    let began = Instant::now();
    while began.elapsed() < length || counts.rounds == 0 {
        counts.rounds += 1;
        round(&mut world, &mut app, (&mut rng, &faults), &mut counts, seed).await;
    }
    world.stop(&mut counts).await;
    let audit = audit::check(&world).await;
    let cuts = world.cuts();
    let mut resumed = std::mem::take(&mut counts.resumed);
    resumed.sort_unstable();
    let at = |share: usize| resumed.get(resumed.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
    let (p50, p99, starts) = (at(50), at(99), resumed.len());
    println!(
        "torture: {} s, {workers} workers (static: {are_static}), seed {seed}: {counts:#?}; cut at COMMIT, before and after the server had it: {cuts:?}; from a start to \
         partitions p50 {p50} ms, p99 {p99} ms, over {starts}; {audit:?}",
        began.elapsed().as_secs()
    );
    assert_eq!(audit.fenced_commits, 0, "commits under a lost epoch; seed {seed}");
    assert_eq!((audit.archived_twice, audit.archived_and_living), (0, 0), "the archive; seed {seed}");
    assert_eq!((audit.dead_letters, audit.latches, audit.pending), (0, 0, 0), "seed {seed}");
    let gave_up = counts.ended.keys().find(|why| why.starts_with("4:"));
    assert_eq!(gave_up, None, "a worker gave a start up before its --wait was over; seed {seed}");
    assert!(audit.archived > 0 && counts.kills + counts.stops + cuts.0 + cuts.1 > 0, "nothing happened; seed {seed}");
}

/// Some statements under a storm; then everything is healed, and the end is compared.
async fn round(
    world: &mut World,
    app: &mut Application,
    (rng, faults): (&mut fastrand::Rng, &[storm::Fault]),
    counts: &mut Counts,
    seed: u64,
) {
    let statements = app.round();
    counts.statements += u64::try_from(statements.len()).expect("not so many");
    let mut storm = Storm::new(rng.fork(), faults, Duration::from_secs(4));
    for statement in &statements {
        world.execute(statement).await;
        storm.blow(world, counts).await;
    }
    let forged = app.forged();
    counts.forged += u64::try_from(forged.len()).expect("not so many");
    world.forge(&forged).await;
    let expected = world.expected().await;
    while storm.blow(world, counts).await {
        let found = world.difference(&expected).await;
        assert!(found.is_harmless(), "{}", told(seed, counts.rounds, &found));
    }
    world.heal(counts);
    let mut last = world.difference(&expected).await;
    let settled = within(SETTLE, async || {
        world.revive(counts);
        last = world.difference(&expected).await;
        (!last.is_harmless() || last.is_settled()).then_some(())
    })
    .await;
    counts.wrong_deletions += last.missing.len();
    counts.wrong_changes += last.changed.len();
    counts.left_over += last.left_over.len();
    assert!(settled.is_some() && last.is_settled(), "{}\n{}", told(seed, counts.rounds, &last), world.told().await);
}

fn told(seed: u64, round: u64, found: &world::Difference) -> String {
    let world::Difference { missing, changed, left_over } = found;
    format!(
        "ENTAIL_SEED={seed}, round {round}: {} wrong deletions {missing:?}, {} wrong changes {changed:?}, {} rows left over {left_over:?}",
        missing.len(),
        changed.len(),
        left_over.len()
    )
}
