//! `entail init`: rules, settings, grants and connectors, from what is in the databases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::Format;
use super::shared::{Global, MOST_SAMPLED, bar, counted, failed, runtime};
use crate::config::{self, Config};
use crate::databases::Databases;
use crate::error::{Exit, chain};
use crate::grants;
use crate::init::files::{self, How, Placed};
use crate::init::{self, Found, Known, Link, Options, Settings, Surveyed, mark};
use crate::model::{BindError, Model};
use crate::rules::diagnostic::one_line;
use crate::rules::{self, RuleSet, SourceFile, render_text};
use crate::startup;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A service and its database, beside those of entail.yaml: `crm=postgres://…`, `crm='${env:CRM_URL}'`, or `crm`, whose url is then in
    /// the environment as CRM_URL. May be repeated.
    #[arg(long = "database", short, value_name = "SERVICE[=URL]")]
    databases: Vec<String>,
    /// Hold what names propose against rows, and look for references that only values speak for. Reads some rows of every table.
    #[arg(long)]
    mine: bool,
    /// With `--mine`: rows of each table to look at.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=MOST_SAMPLED))]
    sample: u64,
    /// Propose also native foreign keys within a service, which its database enforces itself. They are proposed anyway if there is one
    /// database only.
    #[arg(long)]
    native: bool,
    /// For new settings: the brokers.
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    brokers: String,
    /// For new settings: the consumer group.
    #[arg(long, value_name = "NAME", default_value = "entail")]
    group: String,
    /// The role for which grants are written.
    #[arg(long, value_name = "NAME", default_value = "entail")]
    role: String,
    /// Print the rules that would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long a database may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    wait: Duration,
    /// How the result looks.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Settings that are there or are to be.
struct Setting {
    config: Config,
    /// As they are now; `None` if there are none.
    text: Option<String>,
    /// Urls of new databases, as they are to be written.
    new: BTreeMap<String, String>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<Exit> {
    let setting = match setting(global, arguments) {
        Ok(setting) => setting,
        Err(exit) => return Ok(exit),
    };
    if setting.config.rules.is_file() && !arguments.dry_run {
        let rules = setting.config.rules.display();
        eprintln!(
            "error: the rules are one file, {rules}, and nothing is added to a file of yours\n  help: move it into a directory, name that in `rules:`, and run `entail init` again; or see what would be added with `--dry-run`"
        );
        return Ok(Exit::Usage);
    }
    let known = match known(&setting.config.rules) {
        Ok(known) => known,
        Err(exit) => return Ok(exit),
    };
    runtime()?.block_on(async {
        let databases = match startup::open(&setting.config, arguments.wait).await {
            Ok(databases) => databases,
            Err(error) => return Ok(failed(&error)),
        };
        let exit = look_and_write(global, arguments, &setting, &known, &databases).await;
        databases.close().await;
        exit
    })
}

async fn look_and_write(
    global: &Global,
    arguments: &Arguments,
    setting: &Setting,
    known: &Known,
    databases: &Databases,
) -> anyhow::Result<Exit> {
    let services: Vec<String> = setting.config.databases.keys().cloned().collect();
    let native = arguments.native || databases.iter().count() == 1;
    let options = Options { mine: arguments.mine, sample: arguments.sample, native };
    let mut found = match init::find(databases, &services, known, options, &*bar("looked at")).await {
        Ok(found) => found,
        Err((place, error)) => {
            eprintln!("error: {place}: {}\n  help: {}", chain(&error), error.hint());
            return Ok(Exit::Unavailable);
        }
    };
    let text = match fitting(setting, known, databases, &mut found).await {
        Ok(text) => text,
        Err(exit) => return Ok(exit),
    };
    let new: Vec<&Link> = found.links.iter().filter(|link| !known.has(&found.tables, link)).collect();
    let mut placed = Vec::new();
    if arguments.dry_run {
        if arguments.format == Format::Text {
            print!("{text}");
        }
    } else {
        placed.extend(write_settings(global, arguments, setting, &found)?);
        if !text.is_empty() {
            placed.push(write_rules(&setting.config.rules, &text)?);
            placed.extend(write_derived(global, arguments, setting, databases, &found).await?);
        }
    }
    match arguments.format {
        Format::Text => eprint!("{}", told(&found, &services, &new, &placed, arguments)),
        Format::Json => println!("{:#}", json_of(&found, &services, &new, &placed)),
    }
    Ok(Exit::Done)
}

/// The rules' text. What rules or databases do not allow yet becomes a comment, with what has to be done first.
async fn fitting(setting: &Setting, known: &Known, databases: &Databases, found: &mut Found) -> Result<String, Exit> {
    for link in &mut found.links {
        if let Some(parent) = found.tables.get(link.parent).filter(|parent| known.lacks_topic(&parent.name)) {
            link.needs = Some(format!("give `{}` a topic in the rules, by which its changes are told", parent.name));
        }
    }
    loop {
        let written = init::text(&found.tables, &found.links, known);
        let mut files = rules::load(&setting.config.rules).unwrap_or_default();
        files.push(SourceFile { name: "found.yaml".to_owned(), text: written.text.clone() });
        if written.names.is_empty() {
            return Ok(written.text);
        }
        let checked = rules::check(&files);
        let Some(rules) = checked.rules else {
            eprint!("{}", render_text(&checked.diagnostics, &files));
            eprintln!("error: what was found does not go with the rules as they are; nothing was written");
            return Err(Exit::Usage);
        };
        let Err(BindError::Problems(problems)) = Model::bind(rules, databases.clone()).await else { return Ok(written.text) };
        let mut has_changed = false;
        for problem in problems {
            let link = written.names.get(&problem.place).and_then(|place| found.links.get_mut(*place));
            if let Some(link) = link.filter(|link| link.needs.is_none()) {
                link.needs = Some(format!("{} ({})", problem.hint, problem.message));
                has_changed = true;
            }
        }
        if !has_changed {
            return Ok(written.text);
        }
    }
}

/// Settings as they are, with the databases that were named; or new ones.
fn setting(global: &Global, arguments: &Arguments) -> Result<Setting, Exit> {
    let (mut new, mut given) = (BTreeMap::new(), BTreeMap::new());
    for database in &arguments.databases {
        let (service, url) = database.split_once('=').unwrap_or((database, ""));
        if service.is_empty() || service.contains(|c: char| c.is_whitespace() || c.is_control() || ".*".contains(c)) {
            eprintln!(
                "error: `{service}` cannot be the name of a service\n  help: the rules write `service.entity`: a word without dots, stars and blanks"
            );
            return Err(Exit::Usage);
        }
        if new.contains_key(service) {
            eprintln!("error: `{service}` is named twice\n  help: each service has one database");
            return Err(Exit::Usage);
        }
        let variable: String = service.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let variable = format!("{variable}_URL");
        let by_name = format!("${{env:{variable}}}");
        // A secret does not go into the file: the url is then to be in the environment.
        let written = if url.is_empty() || config::has_password(url) { by_name } else { url.to_owned() };
        if !url.is_empty() {
            given.insert(variable, url.to_owned());
        }
        new.insert(service.to_owned(), written);
    }
    let name = global.config.display().to_string();
    let directory = global.config.parent().unwrap_or(Path::new("."));
    let env = |name: &str| given.get(name).cloned().or_else(|| std::env::var(name).ok());
    let parsed = |text: &str| {
        let file = SourceFile { name: name.clone(), text: text.to_owned() };
        config::parse(&file, directory, &env).map_err(|problems| {
            eprint!("{}", render_text(&problems, &[file]));
            Exit::Usage
        })
    };
    let text = std::fs::read_to_string(&global.config).ok();
    if let Some(text) = &text {
        // The settings' word on a service holds.
        let there = parsed(text)?;
        for service in new.keys().filter(|service| there.databases.contains_key(*service)) {
            eprintln!("note: {} has a database for `{service}` already, which is the one looked at", global.config.display());
        }
        new.retain(|service, _| !there.databases.contains_key(service));
    }
    let shown = match &text {
        Some(text) if new.is_empty() => text.clone(),
        Some(text) => {
            let lines: String = new.iter().map(|(service, url)| init::database(service, url, false)).collect();
            files::with_databases(text, &lines).ok_or_else(|| {
                eprintln!("error: {name}: databases can be added only where `databases:` stands on a line of its own\n  help: write them there yourself, and run `entail init` again");
                Exit::Usage
            })?
        }
        None if new.is_empty() => {
            eprintln!(
                "error: there are no settings at {name}, and no database was named\n  help: entail init --database crm=postgres://… --database shop=postgres://…"
            );
            return Err(Exit::Usage);
        }
        None => init::settings(&Settings { brokers: &arguments.brokers, group: &arguments.group, urls: &new, read: &BTreeSet::new() }),
    };
    let mut config = parsed(&shown)?;
    if let Some(rules) = &global.rules {
        config.rules.clone_from(rules);
    }
    Ok(Setting { config, text, new })
}

/// Rules that are there.
fn known(path: &Path) -> Result<Known, Exit> {
    let has_none = path.is_dir() && rules::load(path).is_err_and(|problems| problems.iter().all(|problem| problem.code == "no-rules"));
    if !path.exists() || has_none {
        return Ok(Known::default());
    }
    match startup::read_rules(path) {
        Ok((rules, _, files)) => Ok(Known::of(&rules, &files)),
        Err(error) => Err(failed(&error)),
    }
}

fn write_settings(global: &Global, arguments: &Arguments, setting: &Setting, found: &Found) -> anyhow::Result<Option<Placed>> {
    let path = &global.config;
    let context = || format!("writing {}", path.display());
    let written: BTreeSet<&String> =
        found.links.iter().filter_map(|link| found.tables.get(link.child)).map(|table| &table.service).collect();
    let Some(text) = &setting.text else {
        let read = setting.new.keys().filter(|service| !written.contains(service)).cloned().collect();
        let settings = Settings { brokers: &arguments.brokers, group: &arguments.group, urls: &setting.new, read: &read };
        return files::place(path, &init::settings(&settings)).with_context(context).map(Some);
    };
    let lines: String = setting.new.iter().map(|(service, url)| init::database(service, url, !written.contains(service))).collect();
    match files::with_databases(text, &lines).filter(|_| !lines.is_empty()) {
        Some(text) => {
            std::fs::write(path, text).with_context(context)?;
            Ok(Some(Placed { path: path.clone(), how: How::Added }))
        }
        None => Ok(None),
    }
}

/// Rules add up over the files of a directory.
fn write_rules(directory: &Path, text: &str) -> anyhow::Result<Placed> {
    files::place_anew(directory, "found", text).with_context(|| format!("writing rules to {}", directory.display()))
}

/// Grants and connectors for all rules, as they are now.
async fn write_derived(
    global: &Global,
    arguments: &Arguments,
    setting: &Setting,
    databases: &Databases,
    found: &Found,
) -> anyhow::Result<Vec<Placed>> {
    let directory = global.config.parent().unwrap_or(Path::new("."));
    let mut placed = Vec::new();
    let mut put = |path: PathBuf, text: &str| -> anyhow::Result<()> {
        placed.push(files::place(&path, text).with_context(|| format!("writing {}", path.display()))?);
        Ok(())
    };
    let rules = match startup::read_rules(&setting.config.rules) {
        Ok((rules, ..)) => rules,
        Err(error) => {
            failed(&error);
            return Ok(placed);
        }
    };
    for (service, location) in &setting.config.databases {
        let tables = captured(&rules, service, found);
        if let Some(endpoint) = location.endpoint().filter(|_| !tables.is_empty()) {
            put(directory.join("connectors").join(format!("{service}.json")), &init::connector(service, &endpoint, &tables))?;
        }
    }
    match startup::bind(rules, databases.clone()).await {
        Ok(model) => {
            for (id, handle) in model.databases.iter() {
                let sql = grants::sql(&model, id, &arguments.role);
                if !sql.is_empty() {
                    put(directory.join("grants").join(format!("{}.sql", handle.name)), &sql)?;
                }
            }
            put(directory.join("grants").join("kafka.sh"), &grants::acls(&model, &setting.config, &arguments.role))?;
        }
        Err(error) => {
            eprintln!("no grants were written: they need rules that fit the databases");
            failed(&error);
        }
    }
    Ok(placed)
}

/// Tables of a service whose changes are read, as a connector names them.
fn captured(rules: &RuleSet, service: &str, found: &Found) -> Vec<String> {
    let entities = rules.entities.iter().filter(|entity| entity.service == service && entity.topic.is_some());
    let schema = |entity: &rules::Entity| {
        let known = found.tables.iter().find(|table| table.name == entity.name).map(|table| table.table.schema().to_owned());
        entity.table.schema.clone().or(known).unwrap_or_else(|| "public".to_owned())
    };
    entities.map(|entity| format!("{}.{}", schema(entity), entity.table.table)).collect()
}

/// How many tables were seen of each service.
fn seen<'a>(found: &Found, services: &'a [String]) -> BTreeMap<&'a str, usize> {
    let tables = |service: &String| found.tables.iter().filter(|table| table.service == *service).count();
    services.iter().map(|service| (service.as_str(), tables(service))).collect()
}

fn told(found: &Found, services: &[String], new: &[&Link], placed: &[Placed], arguments: &Arguments) -> String {
    let mut text = String::new();
    let (firm, faint): (Vec<&&Link>, Vec<&&Link>) = new.iter().partition(|link| link.is_firm());
    let (written, held): (Vec<&&Link>, Vec<&&Link>) = firm.into_iter().partition(|link| link.is_written());
    let kinds =
        [("references, in shadow", written), ("as comments, since a table has to change first", held), ("as comments, less likely", faint)];
    for (title, links) in kinds {
        if !links.is_empty() {
            text += &format!("{title}:\n");
        }
        for link in links {
            text += &format!("  {:>3}%  {}\n", link.confidence, mark(&found.tables, link));
        }
    }
    if new.is_empty() {
        text +=
            &format!("nothing new was found among {} of {}\n", counted(found.tables.len(), "table"), counted(services.len(), "service"));
    }
    for (service, _) in seen(found, services).into_iter().filter(|(_, tables)| *tables == 0) {
        text +=
            &format!("{service}: no tables are seen: is it the right database, and may the role use its schemas and read their tables?\n");
    }
    if found.native > 0 {
        text += &format!(
            "{} within services were left to their databases; `--native` proposes them too\n",
            counted(found.native, "native foreign key")
        );
    }
    for (table, why) in &found.left_out {
        text += &format!("left out: {}: {why}\n", one_line(table));
    }
    for Placed { path, how } in placed {
        let how = match how {
            How::New => "written",
            How::Same => "as it was",
            How::Beside => "written beside yours, which differs",
            How::Added => "databases were added",
        };
        text += &format!("{}: {how}\n", path.display());
    }
    if !new.is_empty() && !arguments.dry_run {
        text += "next: look at the rules, then `entail check --connect`";
        text += if arguments.mine { "\n" } else { "; with `--mine` rows are looked at, too\n" };
    }
    text
}

/// `shop.orders`, or `shop.sales.orders` in another schema than the first.
fn table_of(table: &Surveyed) -> String {
    match table.table.schema() {
        "public" | "main" => format!("{}.{}", table.service, table.table.name()),
        schema => format!("{}.{schema}.{}", table.service, table.table.name()),
    }
}

fn json_of(found: &Found, services: &[String], new: &[&Link], placed: &[Placed]) -> Value {
    let link = |link: &&Link| {
        let name = |place: usize| found.tables.get(place).map(|table| &table.name);
        let table = |place: usize| found.tables.get(place).map(table_of);
        let values = link.values.as_ref().map(
            |values| json!({ "asked": values.asked, "present": values.present, "missing": values.missing, "density": values.density }),
        );
        json!({
            "child": name(link.child), "columns": link.columns, "parent": name(link.parent), "parent_columns": link.parent_columns,
            "when": link.when.as_ref().map(|(column, values)| json!({ "column": column, "values": values })),
            "child_table": table(link.child), "parent_table": table(link.parent), "confidence": link.confidence, "firm": link.is_firm(), "needs": link.needs, "values": values,
        })
    };
    let file = |placed: &Placed| json!({ "path": placed.path, "is_new": placed.how == How::New });
    let left_out = |(table, why): &(String, &str)| json!({ "table": table, "why": why });
    json!({
        "references": new.iter().map(link).collect::<Vec<_>>(),
        "left_out": found.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "native": found.native,
        "tables": seen(found, services),
        "files": placed.iter().map(file).collect::<Vec<_>>(),
    })
}
