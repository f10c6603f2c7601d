//! The same history through entail over three databases and through one PostgreSQL with native foreign keys: the end states are equal.
//!
//! Random graphs (up to eight tables, cycles, self-references, composite keys, every action), random rows, random statements. What differs on
//! purpose is either not generated (keys used again while their key change is not worked) or checked for what it should be (`restrict`). The
//! engine is driven directly, with records as Debezium writes them, read from a log that triggers keep.
//!
//! `ENTAIL_CASES=n` sets how many cases run, `ENTAIL_SEED=n` runs one seed again and tells everything about it.

use std::fmt;
use std::time::Instant;

use fastrand::Rng;

use self::bench::Bench;
use self::drive::Driver;
use self::history::History;
use self::schema::Schema;
use self::state::{Difference, State};
use crate::support::bed::Bed;
use crate::support::repeat;

mod bench;
mod chronicle;
mod crash;
mod drive;
mod history;
mod portions;
mod schema;
mod state;
mod statement;
mod torn;

const DEFAULT_CASES: u64 = 500;
/// Failing seeds that are told in full.
const TOLD: usize = 3;

/// Why a case failed.
#[derive(Debug)]
enum Fault {
    /// The end states differ.
    Differs(Box<Difference>, &'static str),
    /// A row was removed without a reason.
    WrongDeletion(String),
    /// Something else went wrong.
    Broke(String),
}

/// Any error, with its causes.
impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Broke(text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs(difference, when) => write!(f, "{when}:\n{difference}"),
            Self::WrongDeletion(text) | Self::Broke(text) => f.write_str(text),
        }
    }
}

/// What the cases did, so that an empty run cannot pass.
#[derive(Debug, Default)]
struct Counts {
    /// Statements that both sides took.
    statements: u64,
    deletes: u64,
    key_changes: u64,
    /// Refused by the oracle or by a service, and done nowhere.
    refused: u64,
    /// Left out because PostgreSQL's own outcome depends on the order of its triggers.
    racing: u64,
    /// Left out because a service's own foreign keys did more than the statement.
    native_below: u64,
    /// Deletes and key changes that a `restrict` refuses, done in the service alone.
    restricts: u64,
    /// Key changes that nothing follows, done in the service alone.
    unfollowed: u64,
    /// Rounds of several statements before entail looked.
    windows: u64,
    /// Rounds in which anything may happen, and only wrong deletions count.
    wild: u64,
    /// Rows that entail removed, and references that it emptied or set to other values.
    removed: u64,
    nulled: u64,
    repointed: u64,
    /// Rows in which it set another column.
    set: u64,
    spared: u64,
    waited: u64,
    repeated: u64,
    /// Portions of roots larger than one transaction takes.
    portions: u64,
    /// Workers that died at a commit, and rows that were given to another parent before their heirs began.
    crashes: u64,
    saved: u64,
    /// Rows that an heir put back.
    put_back: u64,
    /// Rows that undo put back or set back.
    undone: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_end_as_with_native_foreign_keys() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is not a number")));
    let one = number("ENTAIL_SEED");
    let cases = if one.is_some() { 1 } else { number("ENTAIL_CASES").unwrap_or(DEFAULT_CASES) };
    let first = one.unwrap_or_else(|| fastrand::u64(0..1_000_000_000));
    eprintln!("oracle: seeds {first} to {}", first + cases - 1);
    let bed = Bed::from_env();
    let bench = Bench::open(&bed, "oracle").await;
    let (mut counts, mut failed) = (Counts::default(), Vec::new());
    let (mut wrong_deletions, mut orphans) = (0, 0);
    let started = Instant::now();
    for seed in first..first + cases {
        let (fault, history) = run_case(&bench, seed, &mut counts).await;
        let Some(fault) = fault else { continue };
        match &fault {
            Fault::Differs(difference, _) => {
                wrong_deletions += difference.wrong_deletions.len();
                orphans += difference.left_over.len();
            }
            Fault::WrongDeletion(_) => wrong_deletions += 1,
            Fault::Broke(_) => {}
        }
        if failed.len() < TOLD {
            eprintln!("ENTAIL_SEED={seed}: {fault}\n{history}");
        } else {
            eprintln!("ENTAIL_SEED={seed}: {}", fault.to_string().lines().take(3).collect::<Vec<_>>().join(" / "));
        }
        if failed.len() < repeat::NOTED {
            repeat::note("oracle::random", seed, &fault.to_string());
        }
        failed.push(seed);
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("oracle: {cases} cases in {seconds:.1} s, {:.0} ms each: {counts:?}", 1000.0 * seconds / cases as f64);
    bench.close().await;
    assert!(failed.is_empty(), "{wrong_deletions} wrong deletions and {orphans} rows left over; failed with ENTAIL_SEED = {failed:?}");
    if cases >= 100 {
        let Counts { statements, deletes, key_changes, restricts, unfollowed, windows, wild, removed, nulled, repointed, set, .. } = counts;
        let all = [statements, deletes, key_changes, restricts, unfollowed, windows, wild, removed, nulled, repointed, set];
        assert!(all.iter().all(|count| *count > 0), "something was never tried: {counts:?}");
        assert!(
            counts.waited > 0
                && counts.spared > 0
                && counts.repeated > 0
                && counts.portions > cases / 4
                && counts.undone > cases / 4
                && counts.crashes > cases / 4,
            "something was never tried: {counts:?}"
        );
        assert!(removed > cases, "hardly anything was removed: {counts:?}");
    }
}

/// One case. Returns what failed, and the history that led there.
async fn run_case(bench: &Bench, seed: u64, counts: &mut Counts) -> (Option<Fault>, String) {
    let mut rng = Rng::with_seed(seed);
    let mut schema = Schema::random(&mut rng, &format!("s{seed}"));
    let rows = State::random(&mut rng, &mut schema);
    let mut script = Vec::new();
    let result = async {
        bench.lay(&schema, &rows, rng.u8(0..4) == 0).await?;
        let driver = Driver::open(bench, &schema, &rows, &mut rng).await?;
        History::new(bench, &schema, &mut rng, driver, counts, &mut script).run().await
    };
    let fault = result.await.err();
    let cleared = bench.clear(&schema).await;
    let tables: String = (0..schema.tables.len()).map(|table| schema.create(table) + "\n").collect();
    let native: String = schema
        .edges
        .iter()
        .filter(|edge| edge.is_native())
        .map(|edge| format!("{} {:?}\n", schema.in_service(edge), edge.declared))
        .collect();
    let rows: String = rows.rows.iter().map(|((table, _), row)| format!("t{table}: {}\n", state::row_text(row))).collect();
    let history = format!("{}{tables}{native}{rows}{}", schema.rules(), script.join("\n"));
    (fault.or(cleared.err()), history)
}
