//! Holds the direction of imports and a few bans, by reading the sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules from top to bottom: each may use those before it, and itself.
const ORDER: [&str; 35] = [
    "error",
    "value",
    "backoff",
    "rules",
    "change",
    "graph",
    "diagram",
    "diff",
    "plan",
    "telemetry",
    "sink",
    "config",
    "databases",
    "model",
    "ledger",
    "newcomers",
    "grants",
    "resolve",
    "apply",
    "undo",
    "watch",
    "engine",
    "source",
    "dead_letter",
    "worker",
    "release",
    "replay",
    "startup",
    "inspect",
    "init",
    "feed",
    "stage",
    "scenario",
    "demo",
    "commands",
];
/// Modules without I/O, clock, randomness, async or logging.
const PURE: [&str; 9] = ["error", "value", "backoff", "rules", "change", "graph", "diagram", "diff", "plan"];

fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("a folder of the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    walk(&path, files);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let name = |path: &Path| {
        let relative = path.strip_prefix(&root).expect("below src");
        relative.components().next().expect("a name").as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    files.into_iter().map(|path| (name(&path), path.clone(), std::fs::read_to_string(&path).expect("a source"))).collect()
}

/// The part of a file that is not its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn imports_go_upward_never_down() {
    let place: BTreeMap<&str, usize> = ORDER.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let mut checked = 0;
    for (module, path, text) in sources().into_iter().filter(|(module, ..)| module != "main" && module != "lib") {
        let own = place.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no place in ORDER"));
        for used in code(&text).lines().filter_map(|line| line.split("crate::").nth(1)) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(there) = place.get(used.as_str()) else { continue };
            assert!(there <= own, "{}: {module} uses {used}, which stands below it", path.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} imports were seen");
}

#[test]
fn the_core_is_pure() {
    let bans = ["tokio", "std::time::Instant", "SystemTime", "tracing::", "sqlx", "rdkafka", "fastrand", "async fn"];
    for (module, path, text) in sources().into_iter().filter(|(module, ..)| PURE.contains(&module.as_str())) {
        for ban in bans {
            assert!(!code(&text).contains(ban), "{}: {module} must not use {ban}", path.display());
        }
    }
}

#[test]
fn h58_nothing_is_deleted_by_negation() {
    for (module, path, text) in sources() {
        for line in code(&text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            let upper = line.to_ascii_uppercase();
            let negates = ["NOT IN", "<> ALL", "NOT EXISTS"].iter().any(|ban| upper.contains(ban));
            let creates = upper.contains("IF NOT EXISTS");
            assert!(!negates || creates, "{} ({module}): {line}", path.display());
        }
    }
}

#[test]
fn h33_partition_lists_stay_in_the_source() {
    for (module, path, text) in sources().into_iter().filter(|(module, ..)| module != "source") {
        assert!(!text.contains("TopicPartitionList"), "{} ({module})", path.display());
    }
}

#[test]
fn h95_dynamic_sql_is_made_in_few_places() {
    let makers: Vec<String> =
        sources().into_iter().filter(|(_, _, text)| code(text).contains("AssertSqlSafe")).map(|(module, ..)| module).collect();
    assert!(makers.iter().all(|module| ["sink", "feed", "stage"].contains(&module.as_str())), "{makers:?}");
}

/// `docs/hazards.md` names every test that is named after a hazard, and no other.
#[test]
fn the_table_of_hazards_names_the_tests_that_are_there() {
    fn names(text: &str) -> std::collections::BTreeSet<String> {
        let is_name = |word: &&str| {
            let digits = word.strip_prefix('h').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
            digits > 0 && word[1 + digits..].starts_with('_')
        };
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(is_name).map(str::to_owned).collect()
    }
    fn walk(directory: &Path, found: &mut std::collections::BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let functions: String = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next()).collect::<Vec<_>>().join(" ");
                found.extend(names(&functions));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = std::collections::BTreeSet::new();
    walk(&root.join("src"), &mut there);
    walk(&root.join("tests"), &mut there);
    let listed = names(&std::fs::read_to_string(root.join("docs/hazards.md")).expect("the table"));
    assert_eq!(listed.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new(), "listed, and not there");
    assert_eq!(there.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "there, and not listed");
}
