//! `entail test`: the tests that stand beside the rules.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::Format;
use super::shared::{Global, bar, counted, runtime};
use crate::error::{Exit, chain};
use crate::rules::{self, render_text};
use crate::scenario::{self, Bench, Difference, Row, Scenario, Suite, Verdict};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files of tests, or directories with `*.test.yaml` in them. Without any: those beside the rules that the settings name.
    paths: Vec<PathBuf>,
    /// Only tests whose name has this in it.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Say of every test what was done, not only of those that fail.
    #[arg(long, short)]
    verbose: bool,
    /// How the results look.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// One test that was played.
struct Played<'s> {
    suite: &'s Suite,
    scenario: &'s Scenario,
    /// Or why it could not be played to its end.
    verdict: Result<Verdict, String>,
    took: Duration,
}

/// Exits 1 if a test fails.
pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let files = match files(global, &arguments.paths) {
        Ok(files) => files,
        Err(exit) => return Ok(exit),
    };
    let mut suites = Vec::new();
    let mut broken = false;
    for file in files {
        let read = scenario::read(&file);
        eprint!("{}", render_text(&read.problems, &read.files));
        broken |= read.suite.is_none();
        suites.extend(read.suite);
    }
    if broken {
        return Ok(Exit::Usage);
    }
    let is_chosen = |scenario: &&Scenario| arguments.only.as_ref().is_none_or(|only| scenario.name.contains(only));
    let chosen: Vec<(&Suite, Vec<&Scenario>)> =
        suites.iter().map(|suite| (suite, suite.scenarios.iter().filter(is_chosen).collect())).collect();
    if chosen.iter().all(|(_, scenarios)| scenarios.is_empty()) {
        eprintln!("error: no test has that in its name\n  help: `entail test` alone plays all of them and prints their names");
        return Ok(Exit::Usage);
    }
    let played = play(&chosen)?;
    match arguments.format {
        Format::Text => print!("{}", text(&played, arguments.verbose)),
        Format::Json => println!("{:#}", json_of(&played)),
    }
    Ok(if played.iter().all(Played::passed) { Exit::Done } else { Exit::Found })
}

/// The chosen tests of each file, one after the other.
fn play<'s>(suites: &[(&'s Suite, Vec<&'s Scenario>)]) -> anyhow::Result<Vec<Played<'s>>> {
    let (progress, runtime) = (bar("tests"), runtime()?);
    let all = suites.iter().map(|(_, chosen)| chosen.len()).sum::<usize>();
    let mut played = Vec::new();
    for (suite, chosen) in suites {
        let bench = runtime.block_on(Bench::open(suite));
        for scenario in chosen {
            let began = Instant::now();
            let verdict = match &bench {
                Ok(bench) => runtime.block_on(bench.play(scenario)).map_err(|error| chain(&error)),
                Err(error) => Err(chain(error)),
            };
            played.push(Played { suite, scenario, verdict, took: began.elapsed() });
            progress(u64::try_from(played.len()).unwrap_or(u64::MAX), u64::try_from(all).unwrap_or(u64::MAX));
        }
    }
    Ok(played)
}

/// The files of tests at these paths, or beside the rules.
fn files(global: &Global, paths: &[PathBuf]) -> Result<Vec<PathBuf>, Exit> {
    let paths = if paths.is_empty() { vec![global.rules_path(None)?] } else { paths.to_vec() };
    let mut files = Vec::new();
    for path in paths {
        let found = match found(&path) {
            Ok(found) => found,
            Err(error) => {
                eprintln!("error: {}: {error}\n  help: name a file of tests, or a directory with `*.test.yaml` in it", path.display());
                return Err(Exit::Usage);
            }
        };
        if found.is_empty() {
            eprintln!("error: {}: no tests\n  help: tests of `shop.yaml` stand beside it in `shop.test.yaml`", path.display());
            return Err(Exit::Usage);
        }
        files.extend(found);
    }
    Ok(files)
}

/// A file of tests is itself; rules stand for the tests of their name; a directory for all in it.
fn found(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
        let mut files: Vec<PathBuf> = entries.into_iter().filter(|path| rules::is_tests_file(path)).collect();
        files.sort();
        return Ok(files);
    }
    path.metadata()?;
    if rules::is_tests_file(path) {
        return Ok(vec![path.to_owned()]);
    }
    let tests = ["test.yaml", "test.yml"].map(|extension| path.with_extension(extension));
    Ok(tests.into_iter().filter(|path| path.is_file()).collect())
}

impl Played<'_> {
    fn passed(&self) -> bool {
        self.verdict.as_ref().is_ok_and(|verdict| verdict.differences.is_empty())
    }

    fn place(&self) -> String {
        format!("{}:{}", self.suite.file.name, self.scenario.line)
    }
}

fn text(played: &[Played<'_>], verbose: bool) -> String {
    let (mut text, mut file) = (String::new(), "");
    for one in played {
        if one.suite.file.name != file {
            file = &one.suite.file.name;
            text += &format!("{file}\n");
        }
        let word = if one.passed() { "ok  " } else { "FAIL" };
        text += &format!("  {word}  {}\n", one.scenario.name);
        match &one.verdict {
            Ok(verdict) => {
                text += &differences(verdict);
                if verbose || !one.passed() {
                    text += "        what was done\n";
                    text += &verdict.done.iter().map(|line| format!("          {line}\n")).collect::<String>();
                }
            }
            Err(error) => text += &format!("        {}: {error}\n", one.place()),
        }
        if !one.passed() {
            text += &format!("        at {}\n", one.place());
        }
    }
    let failed = played.iter().filter(|one| !one.passed()).count();
    let took: Duration = played.iter().map(|one| one.took).sum();
    text + &format!("{}: {} passed, {failed} failed; {} ms\n", counted(played.len(), "test"), played.len() - failed, took.as_millis())
}

/// What is not as expected: `-` is expected and lacking, `+` is there and was not expected.
fn differences(verdict: &Verdict) -> String {
    let (mut text, mut place) = (String::new(), String::new());
    for difference in &verdict.differences {
        let (here, lines) = lines(difference);
        if here != place {
            text += &format!("        {here}\n");
            place = here;
        }
        text += &lines.iter().map(|line| format!("          {line}\n")).collect::<String>();
    }
    text
}

fn lines(difference: &Difference) -> (String, Vec<String>) {
    match difference {
        Difference::Missing { entity, row } => (entity.clone(), vec![format!("- {}", shown(row))]),
        Difference::Unexpected { entity, row } => (entity.clone(), vec![format!("+ {}", shown(row))]),
        Difference::Value { entity, key, column, expected, found } => {
            let cell = |value: &Option<String>| value.as_deref().map_or_else(|| "null".to_owned(), quoted);
            let lines =
                [format!("  {}", shown(key)), format!("-     {column}: {}", cell(expected)), format!("+     {column}: {}", cell(found))];
            (entity.clone(), lines.into())
        }
        Difference::Count { what, name, expected, found } => {
            ((*what).to_owned(), vec![format!("- {name}: {expected}"), format!("+ {name}: {found}")])
        }
        Difference::State { what, name, is_expected } => {
            ((*what).to_owned(), vec![format!("{} {name}", if *is_expected { '-' } else { '+' })])
        }
    }
}

/// A row as it is written in a test; what is null is left out.
fn shown(row: &Row) -> String {
    let cells: Vec<String> =
        row.iter().filter_map(|(column, value)| value.as_ref().map(|value| format!("{column}: {}", quoted(value)))).collect();
    format!("{{ {} }}", cells.join(", "))
}

/// A value as it is written in a test: in quotes where it would be read as another, or not be seen.
fn quoted(value: &str) -> String {
    let is_plain = !value.is_empty() && value != "null" && value.trim() == value && !value.contains(['\n', '"', ',', '{', '}', '#']);
    if is_plain { value.to_owned() } else { Value::from(value).to_string() }
}

fn json_of(played: &[Played<'_>]) -> Value {
    let difference = |difference: &Difference| match difference {
        Difference::Missing { entity, row } => json!({ "kind": "missing", "entity": entity, "row": row }),
        Difference::Unexpected { entity, row } => json!({ "kind": "unexpected", "entity": entity, "row": row }),
        Difference::Value { entity, key, column, expected, found } => {
            json!({ "kind": "value", "entity": entity, "key": key, "column": column, "expected": expected, "found": found })
        }
        Difference::Count { what, name, expected, found } => json!({ "kind": what, "name": name, "expected": expected, "found": found }),
        Difference::State { what, name, is_expected } => {
            json!({ "kind": what, "name": name, "expected": is_expected, "found": !is_expected })
        }
    };
    let one = |one: &Played<'_>| {
        let (differences, error): (Vec<Value>, Option<&String>) = match &one.verdict {
            Ok(verdict) => (verdict.differences.iter().map(difference).collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        json!({
            "file": one.suite.file.name, "line": one.scenario.line, "name": one.scenario.name, "passed": one.passed(),
            "differences": differences, "error": error, "milliseconds": u64::try_from(one.took.as_millis()).unwrap_or(u64::MAX),
        })
    };
    Value::Array(played.iter().map(one).collect())
}
