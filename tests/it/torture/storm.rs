//! The faults, at random moments.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Counts;
use super::world::World;
use crate::support::proxy::Cut;

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A worker is killed with SIGKILL.
    Kill,
    /// A worker is stopped for longer than its session, and goes on.
    Sleep,
    /// A connection is cut at its COMMIT, before the server has it, or behind it and before its answer.
    Cut,
    /// All connections to a database are cut.
    Drop,
    /// Nothing passes to a database, and nobody is told.
    Hold,
    /// Everything to a database is late.
    Delay,
    /// The server ends the workers' sessions.
    Terminate,
    /// An application holds rows.
    Lock,
    /// A server loses its power.
    Crash,
}

/// Their names, and how often each happens beside the others.
const FAULTS: [(&str, Fault, usize); 9] = [
    ("kill", Fault::Kill, 3),
    ("sleep", Fault::Sleep, 1),
    ("cut", Fault::Cut, 6),
    ("drop", Fault::Drop, 1),
    ("hold", Fault::Hold, 1),
    ("delay", Fault::Delay, 1),
    ("terminate", Fault::Terminate, 1),
    ("lock", Fault::Lock, 1),
    ("crash", Fault::Crash, 1),
];

/// The faults that these names, with commas between them, stand for; without any, all.
pub(super) fn faults(names: Option<&str>) -> Vec<Fault> {
    let known = |name: &str| FAULTS.iter().any(|(known, ..)| *known == name);
    if let Some(name) = names.iter().flat_map(|names| names.split(',')).find(|name| !known(name)) {
        let all: Vec<&str> = FAULTS.iter().map(|(name, ..)| *name).collect();
        panic!("`{name}` is no fault: {}", all.join(", "));
    }
    let chosen = FAULTS.iter().filter(|(name, ..)| names.is_none_or(|names| names.split(',').any(|one| one == *name)));
    chosen.flat_map(|(_, fault, weight)| std::iter::repeat_n(*fault, *weight)).collect()
}

/// What happens during one round.
pub(super) struct Storm<'a> {
    rng: Rng,
    faults: &'a [Fault],
    ends: Instant,
    next: Instant,
}

impl<'a> Storm<'a> {
    pub(super) fn new(rng: Rng, faults: &'a [Fault], length: Duration) -> Self {
        Self { rng, faults, ends: Instant::now() + length, next: Instant::now() }
    }

    /// Does the next fault if it is time; `false` once the storm is over.
    pub(super) async fn blow(&mut self, world: &mut World, counts: &mut Counts) -> bool {
        let now = Instant::now();
        if now >= self.ends {
            return false;
        }
        world.revive(counts);
        if now < self.next {
            tokio::task::yield_now().await;
            return true;
        }
        self.next = now + Duration::from_millis(self.rng.u64(50..700));
        let service = if self.rng.bool() { "shop" } else { "shipping" };
        let Some(fault) = self.rng.choice(self.faults).copied() else { return true };
        match fault {
            Fault::Kill => world.kill(&mut self.rng, counts).await,
            Fault::Sleep => world.put_to_sleep(&mut self.rng, counts),
            Fault::Cut => world.proxy(service).cut(if self.rng.u8(0..3) == 0 { Cut::Before } else { Cut::After }),
            Fault::Drop => {
                let any = if self.rng.bool() { service } else { "crm" };
                world.proxy(any).drop_all();
                counts.drops += 1;
            }
            Fault::Hold => {
                let is_held = self.rng.bool();
                world.proxy(service).hold(is_held);
                counts.holds += u64::from(is_held);
            }
            Fault::Delay => {
                world.proxy(service).delay(Duration::from_millis(self.rng.u64(0..30)));
                counts.delays += 1;
            }
            Fault::Terminate => {
                world.terminate(service).await;
                counts.terminations += 1;
            }
            Fault::Lock => {
                world.lock_some_rows(service, Duration::from_millis(self.rng.u64(100..3_000))).await;
                counts.locks += 1;
            }
            Fault::Crash => {
                world.crash().await;
                counts.crashes += 1;
            }
        }
        true
    }
}
