//! Proposals to texts: rules with the reason of each reference, settings, and Debezium's settings. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::known::MARK;
use super::{Known, Link, Surveyed, Why, mark};
use crate::inspect::names::{snake, stem};
use crate::rules::diagnostic::{one_line, shown};
use crate::sink::{Endpoint, NativeAction};

const HEAD: &str = "\
# Found by `entail init`. Everything is in shadow: planned, counted and shown, and nothing is written. Look at each reference, change what
# is wrong, and run `entail check --connect`. A reference begins to write with `mode: enforce` and `entail promote`.
#
# The line `# found: …` keeps a reference from being proposed again, also where you delete the rest of it.

version: 1
";

/// Rules as text, and which of its names is which proposal.
#[derive(Debug, Default)]
pub struct Text {
    /// The text; empty if nothing is new.
    pub text: String,
    /// Names of references, each with the index of its proposal.
    pub names: BTreeMap<String, usize>,
}

/// Rules that hold these proposals, without what the rules have already.
#[must_use]
pub fn text(tables: &[Surveyed], links: &[Link], known: &Known) -> Text {
    let new: Vec<(usize, &Link)> = links.iter().enumerate().filter(|(_, link)| !known.has(tables, link)).collect();
    if new.is_empty() {
        return Text::default();
    }
    let mut writer = Writer { tables, known, names: BTreeMap::new() };
    let (sure, others): (Vec<_>, Vec<_>) = new.iter().partition(|(_, link)| link.is_written());
    let (held, faint): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, link)| link.is_firm());
    let mut text = HEAD.to_owned();
    text += if sure.is_empty() { "# mode: shadow\n" } else { "mode: shadow\n" };
    let ends = |links: &[(usize, &Link)]| -> BTreeSet<usize> { links.iter().flat_map(|(_, link)| [link.child, link.parent]).collect() };
    let in_force = ends(&sure);
    let later: BTreeSet<usize> = ends(&new).difference(&in_force).copied().collect();
    let entity = |place: &usize| writer.entity(*place, &new);
    let (entities, only_later): (Vec<String>, Vec<String>) =
        (in_force.iter().filter_map(entity).collect(), later.iter().filter_map(entity).map(|lines| comment(&lines)).collect());
    text += &section("entities", &entities);
    if !only_later.is_empty() {
        text += if entities.is_empty() { "\n# entities:\n" } else { "\n  # Needed only by references that are comments below.\n" };
        text += &only_later.join("\n");
    }
    let references: Vec<String> = sure.iter().filter_map(|(place, link)| writer.reference(*place, link)).collect();
    text += &section("references", &references);
    let mut has_head = !references.is_empty();
    for (title, links) in
        [("These need a change in a database first.", held), ("Less likely: take the `# ` away from what is right.", faint)]
    {
        let lines: Vec<String> =
            links.iter().filter_map(|(place, link)| writer.reference(*place, link)).map(|lines| comment(&lines)).collect();
        if !lines.is_empty() {
            text += if has_head { "" } else { "\n# references:\n" };
            has_head = true;
            text += &format!("\n  # {title}\n\n{}", lines.join("\n"));
        }
    }
    Text { text, names: writer.names }
}

fn section(name: &str, items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!("\n{name}:\n{}", items.join("\n")) }
}

/// Every line a comment, so that it is right again without its `# `; what is one stays one.
fn comment(lines: &str) -> String {
    let line = |line: &str| match line.strip_prefix("  ") {
        Some(rest) if !rest.starts_with('#') => format!("  # {rest}\n"),
        _ => format!("{line}\n"),
    };
    lines.lines().map(line).collect()
}

/// As Debezium names it, with the service as the prefix.
fn topic(table: &Surveyed) -> String {
    let clean =
        |name: &str| -> String { name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect() };
    clean(&format!("{}.{}.{}", table.service, table.table.schema(), table.table.name()))
}

struct Writer<'w> {
    tables: &'w [Surveyed],
    known: &'w Known,
    names: BTreeMap<String, usize>,
}

impl Writer<'_> {
    fn entity(&self, place: usize, links: &[(usize, &Link)]) -> Option<String> {
        let table = self.tables.get(place).filter(|table| !self.known.has_entity(&table.name))?;
        let is_parent = links.iter().any(|(_, link)| link.parent == place);
        let schema = if matches!(table.table.schema(), "public" | "main") { String::new() } else { format!("{}.", table.table.schema()) };
        let mut lines = format!("  - name: {}\n", word(&table.name));
        lines += &format!("    table: {}\n", word(&format!("{schema}{}", table.table.name())));
        lines += &format!("    key: {}\n", list(&table.key));
        if is_parent {
            lines += &format!("    topic: {}\n", word(&topic(table)));
        }
        Some(lines)
    }

    fn reference(&mut self, place: usize, link: &Link) -> Option<String> {
        let (child, parent) = (self.tables.get(link.child)?, self.tables.get(link.parent)?);
        let mut lines = format!("  {MARK}{}\n", mark(self.tables, link));
        lines += &format!("  # {}\n", one_line(&reason(link)));
        if let Some(values) = link.values.as_ref().filter(|values| values.present < values.asked) {
            let examples: Vec<String> = values.missing.iter().map(|value| shown(value)).collect();
            lines += &format!("  # without a parent, for example: {}\n", examples.join("; "));
        }
        if matches!(link.why, Why::Native { .. }) && child.service == parent.service {
            lines += "  # The database enforces it itself, as long as both tables stay in it.\n";
        }
        lines += &link.needs.iter().map(|needs| format!("  # first: {}\n", one_line(needs))).collect::<String>();
        lines += &format!("  - name: {}\n", word(&self.name(place, link)));
        lines += &format!("    child: {}\n    columns: {}\n", word(&child.name), list(&link.columns));
        if let Some((column, values)) = &link.when {
            lines += &format!("    when: {{ {}: {} }}\n", word(column), list(&values.iter().cloned().collect::<Vec<_>>()));
        }
        lines += &format!("    parent: {}\n", word(&parent.name));
        if link.parent_columns != parent.key {
            lines += &format!("    parent_columns: {}\n", list(&link.parent_columns));
        }
        Some(lines + &actions(child, link))
    }

    /// `order_customer`, and with a number where that is taken.
    fn name(&mut self, place: usize, link: &Link) -> String {
        let bare = |place: usize| self.tables.get(place).map_or("", |table| table.name.rsplit('.').next().unwrap_or_default());
        let column = link.columns.last().map_or("", String::as_str);
        let role = match &link.when {
            Some(_) => bare(link.parent).to_owned(),
            None => super::likeness::names(column).or_else(|| stem(column)).unwrap_or_else(|| snake(column)),
        };
        let plain = |c: char| if c.is_alphanumeric() || "_-".contains(c) { c } else { '_' };
        let base: String = format!("{}_{role}", bare(link.child)).chars().map(plain).collect();
        let (mut name, mut number) = (base.clone(), 2);
        while self.known.has_name(&name) || self.names.contains_key(&name) {
            name = format!("{base}_{number}");
            number += 1;
        }
        self.names.insert(name.clone(), place);
        name
    }
}

fn reason(link: &Link) -> String {
    let why = match &link.why {
        Why::Native { name, .. } => return format!("native foreign key `{name}`"),
        Why::Name(said) => (*said).to_owned(),
        Why::Kind => "its rows say by the other column what they belong to".to_owned(),
        Why::Values => "the values alone".to_owned(),
    };
    let values = link.values.as_ref().map_or(String::new(), |values| {
        let gaps = if values.density >= 50 { ", which is numbered without gaps: that says little" } else { "" };
        format!("; {} of {} sampled values are in the parent{gaps}", values.present, values.asked)
    });
    format!("{}% likely: {why}{values}", link.confidence)
}

/// What is written for a gone parent: as the native key has it; or a guess, the more careful one.
fn actions(child: &Surveyed, link: &Link) -> String {
    let takes_null = |name: &&String| child.table.column(name).is_some_and(|column| column.nullable) && !child.key.contains(name);
    let nullable: Vec<String> = link.columns.iter().filter(takes_null).cloned().collect();
    let set = |word: &str, columns: &[String]| {
        if columns == link.columns {
            word.to_owned()
        } else {
            format!("{{ {word}: [{}] }}", columns.iter().map(|name| self::word(name)).collect::<Vec<_>>().join(", "))
        }
    };
    let is_part = child.key.len() > link.columns.len() && link.columns.iter().all(|column| child.key.contains(column));
    match &link.why {
        Why::Native { on_delete, on_update, sets, .. } => {
            let delete = match on_delete {
                NativeAction::Cascade => "cascade".to_owned(),
                NativeAction::SetNull => set("set_null", sets),
                NativeAction::SetDefault => set("set_default", sets),
                NativeAction::Restrict | NativeAction::NoAction => "restrict".to_owned(),
            };
            let update = match on_update {
                NativeAction::Cascade => "    on_update: cascade\n",
                NativeAction::SetNull => "    on_update: set_null\n",
                NativeAction::SetDefault => "    on_update: set_default\n",
                NativeAction::Restrict | NativeAction::NoAction => "",
            };
            format!("    on_delete: {delete}\n{update}")
        }
        // What belongs to its parent, by its own key, goes with it; what may stand alone is let go of; of others a person must say.
        Why::Name(_) | Why::Kind | Why::Values if is_part => {
            "    on_delete: cascade      # a guess: it is part of the child's key\n".to_owned()
        }
        Why::Name(_) | Why::Kind | Why::Values if nullable.is_empty() => {
            "    on_delete: restrict      # a guess: it may not be null; `cascade` if these rows are to go as well\n".to_owned()
        }
        Why::Name(_) | Why::Kind | Why::Values => format!("    on_delete: {}      # a guess: it may be null\n", set("set_null", &nullable)),
    }
}

fn list(names: &[String]) -> String {
    match names {
        [name] => word(name),
        names => format!("[{}]", names.iter().map(|name| word(name)).collect::<Vec<_>>().join(", ")),
    }
}

/// A text as YAML reads it: in quotes wherever it could be taken for something else. A JSON string is a YAML string.
fn word(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

/// What new settings say.
#[derive(Debug)]
pub struct Settings<'s> {
    /// `host:port`, joined by commas.
    pub brokers: &'s str,
    /// The consumer group.
    pub group: &'s str,
    /// Urls by service, as they are to be written: without secrets.
    pub urls: &'s BTreeMap<String, String>,
    /// Services whose databases are only looked at.
    pub read: &'s BTreeSet<String>,
}

/// entail.yaml.
#[must_use]
pub fn settings(settings: &Settings<'_>) -> String {
    let mut text = String::from("version: 1\nrules: rules/\nkafka:\n");
    text += &format!(
        "  brokers: {}\n  group: {}      # also owns the ledger: do not change it lightly\ndatabases:\n",
        Value::from(settings.brokers),
        word(settings.group)
    );
    for (service, url) in settings.urls {
        text += &database(service, url, settings.read.contains(service));
    }
    text + "new_references: shadow      # a reference writes nothing until `entail promote`\n"
}

/// One database of the settings.
#[must_use]
pub fn database(service: &str, url: &str, is_read: bool) -> String {
    let access = if is_read { ", access: read" } else { "" };
    format!("  {}: {{ url: {}{access} }}\n", word(service), Value::from(url))
}

/// Settings of a Debezium connector, ready to post to Kafka Connect's `/connectors`, once the password is there.
#[must_use]
pub fn connector(service: &str, endpoint: &Endpoint, tables: &[String]) -> String {
    let clean: String = service.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let settings = json!({
        "name": format!("{service}-entail"),
        "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": endpoint.host,
            "database.port": endpoint.port.to_string(),
            "database.user": endpoint.user,
            "database.password": format!("${{env:{}_PASSWORD}}", clean.to_uppercase()),
            "database.dbname": endpoint.database,
            "topic.prefix": service,
            "plugin.name": "pgoutput",
            "slot.name": format!("entail_{clean}"),
            "slot.drop.on.stop": "false",
            "publication.name": format!("entail_{clean}"),
            "publication.autocreate.mode": "filtered",
            "table.include.list": tables.join(","),
            "snapshot.mode": "no_data",
            "tombstones.on.delete": "true",
            "skipped.operations": "none",
            "decimal.handling.mode": "string",
            "heartbeat.interval.ms": "10000",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "topic.creation.default.partitions": "6",
            "topic.creation.default.replication.factor": "-1",
        },
    });
    format!("{settings:#}\n")
}
