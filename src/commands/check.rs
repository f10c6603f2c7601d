//! `entail check`: are the rules sound? Offline; with `--connect` held against every server that they touch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Format;
use super::shared::{Allowed, Global, MOST_SAMPLED, bar, counted, failed, runtime, wrapped};
use crate::config::Config;
use crate::error::Exit;
use crate::grants;
use crate::inspect::{self, Fan, Options, Report, Spread};
use crate::model::{Code, Problem, Weight};
use crate::rules::{self, Diagnostic, RuleSet, Severity, SourceFile};
use crate::startup;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The rules: a file or a directory. Without it, those that the settings name.
    path: Option<PathBuf>,
    /// Look at every database and topic that the rules touch, too.
    #[arg(long)]
    connect: bool,
    /// Print the least grants that these rules need, per database, and the access to Kafka; then stop.
    #[arg(long)]
    grants: bool,
    /// The role, and the Kafka principal, for which grants are printed.
    #[arg(long, value_name = "NAME", default_value = "entail", requires = "grants")]
    role: String,
    /// With `--connect`: rows of each child and records of each topic to look at; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=MOST_SAMPLED))]
    sample: u64,
    #[command(flatten)]
    allowed: Allowed,
    /// With `--connect`: leave Kafka out.
    #[arg(long)]
    no_kafka: bool,
    /// How long a server may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
    /// List every kind of problem that `--connect` looks for; then stop.
    #[arg(long)]
    codes: bool,
    /// How the problems look.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.codes {
        print!("{}", codes(arguments.format));
        return Ok(Exit::Done);
    }
    let given = arguments.path.clone().or_else(|| global.rules.clone());
    if arguments.connect || arguments.grants {
        let mut config = match global.read() {
            Ok(config) => config,
            Err(exit) => return Ok(exit),
        };
        if let Some(path) = given {
            config.rules = path;
        }
        return if arguments.grants { runtime()?.block_on(print_grants(&config, arguments)) } else { connected(&config, arguments) };
    }
    let path = match global.rules_path(given) {
        Ok(path) => path,
        Err(exit) => return Ok(exit),
    };
    let read = Read::of(&path);
    match arguments.format {
        Format::Text => {
            print!("{}", rules::render_text(&read.problems, &read.files));
            println!("{}: {}", path.display(), read.summary());
        }
        Format::Json => println!("{}", rules::render_json(&read.problems, &read.files)),
    }
    Ok(if read.has_errors() {
        Exit::Usage
    } else if read.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Found
    })
}

/// The rules as their files have them.
struct Read {
    problems: Vec<Diagnostic>,
    files: Vec<SourceFile>,
    rules: Option<RuleSet>,
}

impl Read {
    fn of(path: &Path) -> Self {
        match rules::load(path) {
            Ok(files) => {
                let checked = rules::check(&files);
                Self { problems: checked.diagnostics, files, rules: checked.rules }
            }
            Err(problems) => Self { problems, files: Vec::new(), rules: None },
        }
    }

    fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    fn summary(&self) -> String {
        let (errors, all) = (self.errors(), self.problems.len());
        match &self.rules {
            Some(rules) => format!("{}; no errors, {all} warnings", contents(rules)),
            None => format!("{errors} errors, {} warnings", all - errors),
        }
    }
}

fn contents(rules: &RuleSet) -> String {
    let entities = if rules.entities.len() == 1 { "entity" } else { "entities" };
    let (references, replicas) = (counted(rules.references.len(), "reference"), counted(rules.replicas.len(), "replica"));
    format!("{} {entities}, {references}, {replicas}", rules.entities.len())
}

fn connected(config: &Config, arguments: &Arguments) -> anyhow::Result<Exit> {
    let read = Read::of(&config.rules);
    let (Some(rules), false) = (&read.rules, read.has_errors()) else {
        eprint!("{}", rules::render_text(&read.problems, &read.files));
        return Ok(Exit::Usage);
    };
    let options =
        Options { sample: arguments.sample, patience: arguments.wait, allow: arguments.allowed.codes(), kafka: !arguments.no_kafka };
    let progress = bar("looked at");
    let runtime = runtime()?;
    let report = runtime.block_on(inspect::inspect(rules, config, &options, &*progress));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match arguments.format {
        Format::Text => {
            print!("{}{}", rules::render_text(&read.problems, &read.files), text(&report, &rules::places(&read.files)));
            println!("{}: {}; {}", config.rules.display(), contents(rules), summary(&report));
        }
        Format::Json => {
            let own: Value = serde_json::from_str(&rules::render_json(&read.problems, &read.files)).unwrap_or_default();
            println!("{:#}", json_of(&report, &own, &rules::places(&read.files)));
        }
    }
    Ok(exit(&report, !read.problems.is_empty()))
}

fn exit(report: &Report, rules_have_warnings: bool) -> Exit {
    let errors: Vec<Code> =
        report.problems.iter().filter(|(weight, _)| *weight == Weight::Error).map(|(_, problem)| problem.code).collect();
    let has_warnings = rules_have_warnings || report.problems.iter().any(|(weight, _)| *weight == Weight::Warning);
    if errors.iter().any(|code| !matches!(code, Code::Unreachable | Code::NoBroker)) {
        Exit::Usage
    } else if !errors.is_empty() {
        Exit::Unavailable
    } else if has_warnings {
        Exit::Found
    } else {
        Exit::Done
    }
}

/// Files and lines by name.
type Places = BTreeMap<String, (String, usize)>;

fn text(report: &Report, places: &Places) -> String {
    let mut text = String::new();
    for (weight, problem) in &report.problems {
        text += &problem_text(*weight, problem, places);
        text.push('\n');
    }
    if !report.fans.is_empty() {
        text += &fans(&report.fans);
        text.push('\n');
    }
    text
}

fn problem_text(weight: Weight, problem: &Problem, places: &Places) -> String {
    let head = format!("{}[{}]: {}: {}", weight.as_str(), problem.code.name(), problem.place, problem.message);
    let hint = format!("= help: {}", problem.hint);
    let place = places.get(&problem.place).map_or(String::new(), |(file, line)| format!(" --> {file}:{line}\n"));
    format!("{}\n{place}{}\n", wrapped(&head, "", "       "), wrapped(&hint, "  ", "          "))
}

fn fans(fans: &[Fan]) -> String {
    let width = fans.iter().map(|fan| fan.reference.chars().count()).max().unwrap_or(0).max("rows per parent".len());
    let mut text = format!("{:width$}  {:>9} {:>9} {:>9}   {:>9} {:>9}\n", "rows per parent", "p50", "p99", "max", "parents", "missing");
    for fan in fans {
        let Fan { reference, parents, missing, rows } = fan;
        let shown = |pick: fn(&Spread) -> u64| rows.as_ref().map_or("-".to_owned(), |rows| pick(rows).to_string());
        let (p50, p99, max) = (shown(|rows| rows.p50), shown(|rows| rows.p99), shown(|rows| rows.max));
        text += &format!("{reference:width$}  {p50:>9} {p99:>9} {max:>9}   {parents:>9} {missing:>9}\n");
    }
    text
}

fn summary(report: &Report) -> String {
    let count = |wanted| report.problems.iter().filter(|(weight, _)| *weight == wanted).count();
    format!(
        "{} and {} looked at: {}, {}, {}",
        counted(report.databases, "database"),
        counted(report.topics, "topic"),
        counted(count(Weight::Error), "error"),
        counted(count(Weight::Warning), "warning"),
        counted(count(Weight::Note), "note")
    )
}

fn json_of(report: &Report, rules: &Value, places: &Places) -> Value {
    let problem = |(weight, problem): &(Weight, Problem)| {
        let at = places.get(&problem.place);
        json!({
            "severity": weight.as_str(), "code": problem.code.name(), "place": problem.place,
            "file": at.map(|(file, _)| file), "line": at.map(|(_, line)| line), "message": problem.message, "hint": problem.hint,
        })
    };
    let fan = |fan: &Fan| {
        json!({
            "reference": fan.reference, "parents": fan.parents, "missing": fan.missing,
            "rows_per_parent": fan.rows.map(|rows| json!({ "p50": rows.p50, "p99": rows.p99, "max": rows.max })),
        })
    };
    json!({
        "rules": rules,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "references": report.fans.iter().map(fan).collect::<Vec<_>>(),
        "databases": report.databases,
        "topics": report.topics,
    })
}

/// The kinds of problems, as a table.
fn codes(format: Format) -> String {
    match format {
        Format::Text => {
            let mut text = String::new();
            for code in Code::ALL {
                let head = format!("{}[{}]: {}", code.weight().as_str(), code.name(), code.meaning());
                text +=
                    &format!("{}\n{}\n", wrapped(&head, "", "       "), wrapped(&format!("= help: {}", code.mend()), "  ", "          "));
            }
            text
        }
        Format::Json => {
            let one = |code: &Code| json!({ "code": code.name(), "severity": code.weight().as_str(), "area": code.area(), "meaning": code.meaning(), "mend": code.mend() });
            format!("{:#}\n", Value::Array(Code::ALL.iter().map(one).collect()))
        }
    }
}

async fn print_grants(config: &Config, arguments: &Arguments) -> anyhow::Result<Exit> {
    let model = match startup::model(config, arguments.wait).await {
        Ok(model) => model,
        Err(error) => return Ok(failed(&error)),
    };
    let databases = model.databases.iter().map(|(id, handle)| (handle.name.clone(), grants::sql(&model, id, &arguments.role)));
    let databases: BTreeMap<String, String> = databases.filter(|(_, sql)| !sql.is_empty()).collect();
    let acls = grants::acls(&model, config, &arguments.role);
    match arguments.format {
        Format::Text => {
            databases.values().for_each(|sql| println!("{sql}"));
            print!("{acls}");
        }
        Format::Json => {
            let lines = |text: &str| text.lines().filter(|line| !line.starts_with(['-', '#'])).map(str::to_owned).collect::<Vec<_>>();
            let databases: BTreeMap<&String, Vec<String>> = databases.iter().map(|(name, sql)| (name, lines(sql))).collect();
            println!("{:#}", json!({ "databases": databases, "kafka": lines(&acls) }));
        }
    }
    model.databases.close().await;
    Ok(Exit::Done)
}
