//! How to repeat what failed at random: `script/test` ends with these lines, wherever the rest of a long output has gone.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Failing seeds that are noted, for each test.
pub(crate) const NOTED: usize = 5;

/// Notes that this test failed with this seed, and why.
pub(crate) fn note(test: &str, seed: u64, why: &str) {
    // Without script/test nobody asks.
    let Some(dir) = std::env::var_os("ENTAIL_TEST_DIR").map(PathBuf::from) else { return };
    let why: String = why.lines().take(4).collect::<Vec<_>>().join(" / ").chars().take(600).collect();
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("repeat")).expect("the notes of failing seeds");
    writeln!(file, "ENTAIL_SEED={seed} script/test {test} # {why}").expect("the notes of failing seeds");
}
