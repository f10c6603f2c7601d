//! Rules held against everything live that they touch: catalogs, rights, logs, topics, and a few rows. All findings at once.
//!
//! Data flows one way: what servers say is read first (`subject`), then judged by functions that read nothing (`server`, `tables`, `capture`,
//! `native`, `names`, `copies`); only rows (`data`) and Kafka (`topics`) are asked while they are judged. Writes nothing anywhere.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Config;
use crate::model::{Code, Model, Problem, Weight};
use crate::rules::RuleSet;

mod capture;
mod copies;
mod data;
mod drift;
pub(crate) mod names;
mod native;
mod rights;
mod server;
mod subject;
mod tables;
mod topics;

pub use data::{Fan, Spread};
pub use drift::note as note_tables;
use subject::{Known, Subject};

/// How closely to look.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of each child, and records of each topic, to look at; 0 for none.
    pub sample: u64,
    /// How long a server may take to answer.
    pub patience: Duration,
    /// Errors of these kinds count as warnings, if a model can be made all the same; and warnings as notes.
    pub allow: BTreeSet<Code>,
    /// Ask Kafka, too.
    pub kafka: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The problems, the heaviest first, with the weight that counts.
    pub problems: Vec<(Weight, Problem)>,
    /// How many rows go with a parent, by reference, as far as rows were looked at.
    pub fans: Vec<Fan>,
    /// The databases that were asked.
    pub databases: usize,
    /// The topics that were asked for.
    pub topics: usize,
}

/// Looks at everything that the rules touch. `tell` hears what is looked at: (steps done, steps in all).
pub async fn inspect(rules: &RuleSet, config: &Config, options: &Options, tell: &(dyn Fn(u64, u64) + Send + Sync)) -> Report {
    let steps = config.databases.len() as u64 + rules.references.len() as u64 + 2;
    tell(0, steps);
    let mut problems = Vec::new();
    let (databases, examined) = subject::examined(rules, config, options.patience, &mut problems).await;
    problems.extend(examined.problems);
    let known = Known { tables: examined.tables, copies: examined.copies, model: examined.model.as_ref() };
    let subject = Subject::read(rules, databases, known, &mut problems, &|done| tell(done, steps)).await;
    let mut done = config.databases.len() as u64 + 1;
    problems.extend(JUDGES.iter().flat_map(|judge| judge(&subject)));
    problems.extend(server::ledgers(&subject, config).await);
    problems.extend(rights::judge(&subject).await);
    let mut fans = Vec::new();
    for reference in &rules.references {
        tell(done, steps);
        done += 1;
        fans.extend(data::look(&subject, reference, options.sample, &mut problems).await);
    }
    let asked = rules.entities.iter().filter_map(|entity| entity.topic.clone()).collect::<BTreeSet<String>>();
    if options.kafka {
        problems.extend(topics::look(&subject, config, options).await);
    }
    tell(steps, steps);
    subject.databases.close().await;
    let databases = subject.databases.iter().count();
    Report { problems: weighed(problems, &options.allow), fans, databases, topics: asked.len() }
}

/// What can be told without asking more.
const JUDGES: [fn(&Subject<'_>) -> Vec<Problem>; 6] =
    [server::judge, tables::judge, capture::judge, native::judge, names::judge, copies::judge];

/// The cheap part, for a start: a fixed number of questions to each catalog, whatever the number of tables.
pub async fn at_start(model: &Model, group: &str, allow: &BTreeSet<Code>) -> Vec<(Weight, Problem)> {
    let mut problems = model.warnings.clone();
    let subject = Subject::of(model, &mut problems).await;
    problems.extend(JUDGES.iter().flat_map(|judge| judge(&subject)));
    problems.extend(rights::judge(&subject).await);
    problems.extend(drift::judge(model, group).await);
    weighed(problems, allow)
}

fn weighed(problems: Vec<Problem>, allow: &BTreeSet<Code>) -> Vec<(Weight, Problem)> {
    let weight = |code: Code| match code.weight() {
        weight if !allow.contains(&code) || code.forbids() => weight,
        Weight::Error => Weight::Warning,
        Weight::Warning | Weight::Note => Weight::Note,
    };
    let mut weighed: Vec<(Weight, Problem)> = problems.into_iter().map(|problem| (weight(problem.code), problem)).collect();
    weighed.sort();
    weighed.dedup();
    weighed
}
