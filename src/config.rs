//! entail.yaml: how this process connects and runs. Read like the rules: strict, all problems at once, each with its place.
//!
//! Secrets come by `${env:NAME}` or `${file:PATH}` only. Kafka properties go through an allowlist: some of librdkafka's load libraries or run
//! programs (H96).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::rules::diagnostic::{Diagnostic, LITERAL_SECRET, shown};
use crate::rules::fields::{self, Fields};
use crate::rules::suggest::did_you_mean;
use crate::rules::syntax::{self, Node, Value};
use crate::rules::{Severity, SourceFile};
use crate::sink::{Access, Location};

mod archive;
mod properties;

use properties::is_allowed;

/// Events in a batch, at the most. A batch costs a few round trips per table, whatever its size; larger ones hold locks longer.
pub const DEFAULT_BATCH_EVENTS: usize = 5_000;
/// Bytes of records in a batch, at the most.
pub const DEFAULT_BATCH_BYTES: usize = 16 << 20;
/// How long the first record of a batch waits for others.
pub const DEFAULT_LINGER: Duration = Duration::from_millis(20);
/// How long row images are kept.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Dead letters of one partition in [`DEFAULT_DEAD_LETTER_WINDOW`] above which it is shut: a stray record is a dead letter, a flood is an outage.
pub const DEFAULT_DEAD_LETTER_LIMIT: u64 = 100;
/// The window of the dead letter limit.
pub const DEFAULT_DEAD_LETTER_WINDOW: Duration = Duration::from_secs(60);
/// How long a stop may take: below the 30 s after which orchestrators kill.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(20);

/// How a reference begins that the group has not run with yet (H78).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewReferences {
    /// In shadow, until a person promotes it.
    #[default]
    Shadow,
    /// As the rules say.
    AsWritten,
}

/// Everything in entail.yaml.
#[derive(Debug, Clone)]
pub struct Config {
    /// Rules file or directory, relative to the settings' own directory.
    pub rules: PathBuf,
    /// The brokers and the group.
    pub kafka: Kafka,
    /// Databases by service.
    pub databases: BTreeMap<String, Location>,
    /// How batches are cut.
    pub batch: BatchSettings,
    /// Where dead letters go.
    pub dead_letters: DeadLetterSettings,
    /// How long row images are kept.
    pub keep: Duration,
    /// How long a stop may take.
    pub shutdown: Duration,
    /// How new references begin.
    pub new_references: NewReferences,
}

/// How to reach Kafka.
#[derive(Clone)]
pub struct Kafka {
    /// `host:port`, joined by commas.
    pub brokers: String,
    /// The consumer group: also the owner of the ledger.
    pub group: String,
    /// Client properties; may hold secrets.
    pub properties: BTreeMap<String, String>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("Kafka").field("brokers", &self.brokers).field("group", &self.group).field("properties", &names).finish()
    }
}

/// How batches are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// Events at the most.
    pub events: usize,
    /// Bytes at the most.
    pub bytes: usize,
    /// How long the first record waits for others.
    pub linger: Duration,
}

/// Where dead letters go, and how many are too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterSettings {
    /// The topic.
    pub topic: String,
    /// Dead letters of one partition within `per` above which it is shut.
    pub limit: u64,
    /// The window.
    pub per: Duration,
}

/// A settings file that was read, or everything that is wrong with it, ready to print.
pub type ReadConfig = Result<Config, (Vec<Diagnostic>, Vec<SourceFile>)>;

/// Reads the settings at a path. `env` answers `${env:NAME}`.
///
/// # Errors
/// Every problem of the file, with its text.
pub fn read(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> ReadConfig {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let top = syntax::Spot { file: &name, start: 0, end: 0 };
            let problem = Diagnostic::error("unreadable", top, format!("cannot read the settings: {error}"));
            return Err((
                vec![problem.hint("name the file with `--config`, or in ENTAIL_CONFIG; `entail check PATH` needs none")],
                Vec::new(),
            ));
        }
    };
    let file = SourceFile { name, text };
    parse(&file, path.parent().unwrap_or(Path::new(".")), env).map_err(|problems| (problems, vec![file]))
}

/// Reads the settings from text; files are relative to `directory`.
///
/// # Errors
/// Every problem of the text.
pub fn parse(file: &SourceFile, directory: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let reader = Reader { directory, env };
    let config = syntax::parse(file, &mut problems).and_then(|tree| reader.config(&tree, &mut problems));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    config.ok_or(problems)
}

struct Reader<'a> {
    directory: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
}

const KEYS: [&str; 10] =
    ["version", "rules", "kafka", "databases", "batch", "dead_letters", "archive", "console", "shutdown", "new_references"];

impl Reader<'_> {
    fn config(&self, tree: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<Config> {
        let top = Fields::read(tree, "the settings", &KEYS, problems)?;
        if let Some(version) = top.required("version", "write `version: 1`", problems)
            && fields::count(version, "`version`", problems).is_some_and(|version| version != 1)
        {
            let problem = Diagnostic::error("unknown-version", version.spot, "this program knows version 1 of the settings");
            problems.push(problem.hint("write `version: 1`"));
        }
        let rules = top.required("rules", "name the rules file or directory", problems);
        let rules = rules.and_then(|node| fields::name(node, "`rules`", problems)).map(|word| self.directory.join(word.text));
        let kafka = top.required("kafka", "write `kafka: { brokers: …, group: … }`", problems);
        let kafka = kafka.and_then(|node| self.kafka(node, problems));
        let databases = top.required("databases", "write one `service: { url: … }` for each service", problems);
        let databases = databases.and_then(|node| self.databases(node, problems));
        let batch = top.optional("batch").map_or(Some(BatchSettings::default()), |node| batch(node, problems));
        let dead_letters = top.optional("dead_letters").map_or(Some(DeadLetterSettings::default()), |node| dead_letters(node, problems));
        let keep = top.optional("archive").map_or(Some(DEFAULT_KEEP), |node| {
            let archive = Fields::read(node, "`archive`", &["keep"], problems)?;
            archive.optional("keep").map_or(Some(DEFAULT_KEEP), |node| archive::keep(node, problems))
        });
        let shutdown = top.optional("shutdown").map_or(Some(DEFAULT_SHUTDOWN), |node| fields::duration(node, "`shutdown`", problems));
        let words = [("shadow", NewReferences::Shadow), ("as_written", NewReferences::AsWritten)];
        let new_references = top.optional("new_references");
        let new_references = new_references
            .map_or(Some(NewReferences::default()), |node| fields::word(node, "`new_references`", "unknown-word", &words, problems));
        if let Some(console) = top.optional("console") {
            let problem = Diagnostic::warning("not-yet", console.spot, "this release has no console: `console` has no effect");
            problems.push(problem.hint("leave it out until it has"));
        }
        Some(Config {
            rules: rules?,
            kafka: kafka?,
            databases: databases?,
            batch: batch?,
            dead_letters: dead_letters?,
            keep: keep?,
            shutdown: shutdown?,
            new_references: new_references?,
        })
    }

    fn kafka(&self, node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<Kafka> {
        let kafka = Fields::read(node, "`kafka`", &["brokers", "group", "properties"], problems)?;
        let brokers = kafka.required("brokers", "write `host:port`, or a list of them", problems);
        let brokers = brokers.and_then(|node| fields::names(node, "`kafka`: `brokers`", problems));
        let group = kafka.required("group", "name the consumer group; it also owns the ledger", problems);
        let group = group.and_then(|node| fields::name(node, "`kafka`: `group`", problems));
        let properties = kafka.optional("properties").map_or(Some(BTreeMap::new()), |node| self.properties(node, problems));
        Some(Kafka {
            brokers: brokers?.into_iter().map(|word| word.text).collect::<Vec<_>>().join(","),
            group: group?.text,
            properties: properties?,
        })
    }

    fn properties(&self, node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<BTreeMap<String, String>> {
        let mut properties = BTreeMap::new();
        for (name, value) in fields::columns(node, "`kafka`: `properties`", problems)? {
            if let Err(hint) = is_allowed(&name.text) {
                let problem =
                    Diagnostic::error("property", name.spot, format!("the Kafka property `{}` is not allowed", shown(&name.text)));
                problems.push(problem.hint(hint));
                continue;
            }
            let what = format!("`{}`", name.text);
            let Some(Some(text)) = fields::value(value, &what, false, problems) else { continue };
            if properties::is_secret(&name.text) && !is_by_reference(&text) {
                problems.push(literal_secret(value, &what));
                continue;
            }
            if let Some(text) = self.expand(value, &text, problems) {
                properties.insert(name.text, text);
            }
        }
        Some(properties)
    }

    fn databases(&self, node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<BTreeMap<String, Location>> {
        let mut databases = BTreeMap::new();
        for (service, value) in fields::columns(node, "`databases`", problems)? {
            let what = format!("database `{}`", shown(&service.text));
            let Some(database) = Fields::read(value, &what, &["url", "access"], problems) else { continue };
            let url = database.required("url", "write `url: \"${env:NAME}\"`", problems).and_then(|node| self.url(node, &what, problems));
            let words = [("write", Access::Write), ("read", Access::Read)];
            let access = database
                .optional("access")
                .map_or(Some(Access::Write), |node| fields::word(node, &format!("{what}: `access`"), "unknown-access", &words, problems));
            if let (Some(url), Some(access)) = (url, access) {
                databases.insert(service.text, Location { url, access });
            }
        }
        Some(databases)
    }

    fn url(&self, node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
        let written = fields::value(node, &format!("{what}: `url`"), false, problems)??;
        if has_password(&written) {
            problems.push(literal_secret(node, &format!("{what}: `url`")));
            return None;
        }
        let url = self.expand(node, &written, problems)?;
        if !["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| url.starts_with(scheme)) {
            let problem = Diagnostic::error("bad-url", node.spot, format!("{what}: the url begins with none of `postgres://`, `sqlite:`"));
            problems.push(problem.hint("as in postgres://user@host:5432/database or sqlite:path/to/file.db"));
            return None;
        }
        Some(url)
    }

    /// Replaces every `${env:NAME}` and `${file:PATH}`.
    fn expand(&self, node: &Node<'_>, text: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            result.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                let problem = Diagnostic::error("bad-reference", node.spot, "`${` without a `}`");
                problems.push(problem.hint("write ${env:NAME} or ${file:PATH}"));
                return None;
            };
            result.push_str(&self.secret(node, name, problems)?);
            rest = behind;
        }
        result.push_str(rest);
        Some(result)
    }

    fn secret(&self, node: &Node<'_>, name: &str, problems: &mut Vec<Diagnostic>) -> Option<String> {
        let (message, hint) = match name.split_once(':') {
            Some(("env", variable)) => match (self.env)(variable) {
                Some(value) => return Some(value),
                None => (format!("the environment variable `{}` is not set", shown(variable)), "set it, or use ${file:PATH}"),
            },
            Some(("file", path)) => match std::fs::read_to_string(self.directory.join(path)) {
                Ok(value) => return Some(value.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => {
                    (format!("cannot read the file `{}`: {error}", shown(path)), "the path is relative to the settings' directory")
                }
            },
            _ => (format!("`${{{}}}` is not known", shown(name)), "write ${env:NAME} or ${file:PATH}"),
        };
        problems.push(Diagnostic::error("bad-reference", node.spot, message).hint(hint));
        None
    }
}

fn is_by_reference(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}')
}

/// Whether a secret stands in an url in clear.
pub(crate) fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let in_user = user.split_once(':').is_some_and(|(_, password)| !password.is_empty() && !is_by_reference(password));
    let in_query = url.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|pair| pair.split_once('=').is_some_and(|(name, value)| name == "password" && !is_by_reference(value)))
    });
    in_user || in_query
}

fn literal_secret(node: &Node<'_>, what: &str) -> Diagnostic {
    Diagnostic::error(LITERAL_SECRET, node.spot, format!("{what} holds a password in clear"))
        .label("a secret does not belong in this file")
        .hint("put the whole value into the environment or a file and write ${env:NAME} or ${file:PATH}")
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { events: DEFAULT_BATCH_EVENTS, bytes: DEFAULT_BATCH_BYTES, linger: DEFAULT_LINGER }
    }
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { topic: "entail.dead-letters".to_owned(), limit: DEFAULT_DEAD_LETTER_LIMIT, per: DEFAULT_DEAD_LETTER_WINDOW }
    }
}

fn batch(node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<BatchSettings> {
    let batch = Fields::read(node, "`batch`", &["events", "bytes", "linger"], problems)?;
    let default = BatchSettings::default();
    let events = batch.optional("events").map_or(Some(default.events), |node| {
        fields::count(node, "`batch`: `events`", problems).and_then(|count| usize::try_from(count).ok())
    });
    let bytes = batch.optional("bytes").map_or(Some(default.bytes), |node| bytes(node, "`batch`: `bytes`", problems));
    let linger = batch.optional("linger").map_or(Some(default.linger), |node| fields::duration(node, "`batch`: `linger`", problems));
    Some(BatchSettings { events: events?, bytes: bytes?, linger: linger? })
}

fn dead_letters(node: &Node<'_>, problems: &mut Vec<Diagnostic>) -> Option<DeadLetterSettings> {
    let letters = Fields::read(node, "`dead_letters`", &["topic", "limit"], problems)?;
    let default = DeadLetterSettings::default();
    let topic = letters
        .optional("topic")
        .map_or(Some(default.topic), |node| fields::name(node, "`dead_letters`: `topic`", problems).map(|word| word.text));
    let (limit, per) = match letters.optional("limit") {
        None => (Some(default.limit), Some(default.per)),
        Some(node) => {
            let limit = Fields::read(node, "`dead_letters`: `limit`", &["count", "per"], problems)?;
            let count = limit.required("count", "how many are too many", problems);
            let per = limit.required("per", "in how long, as in `per: 1m`", problems);
            (
                count.and_then(|node| fields::count(node, "`limit`: `count`", problems)),
                per.and_then(|node| fields::duration(node, "`limit`: `per`", problems)),
            )
        }
    };
    Some(DeadLetterSettings { topic: topic?, limit: limit?, per: per? })
}

/// A size written for people: `16 MiB`, `512 KiB`, `1000`.
fn bytes(node: &Node<'_>, what: &str, problems: &mut Vec<Diagnostic>) -> Option<usize> {
    const UNITS: [(&str, usize); 6] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1000), ("MB", 1_000_000)];
    let written = match &node.value {
        Value::Text(text) => text.as_str(),
        Value::Number(written) => written,
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => "",
    };
    let (digits, unit) = written.trim().split_at(written.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(written.trim().len()));
    let unit = unit.trim();
    let factor = if unit.is_empty() { Some(1) } else { UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor) };
    let size = digits.parse::<usize>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor)).filter(|size| *size > 0);
    if size.is_none() {
        let names: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
        let hint = if unit.is_empty() { "a number and a unit, as in `16 MiB`".to_owned() } else { did_you_mean(unit, &names) };
        problems.push(Diagnostic::error("bad-size", node.spot, format!("{what} is not a size")).hint(hint));
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::render_text;

    const GOOD: &str = "version: 1
rules: rules/
kafka:
  brokers: 127.0.0.1:9092
  group: entail
  properties: { security.protocol: plaintext, session.timeout.ms: 10000 }
databases:
  crm: { url: \"${env:CRM_URL}\", access: read }
  shop: { url: \"postgres://entail@127.0.0.1/shop\" }
batch: { events: 500, bytes: 4 MiB, linger: 5ms }
dead_letters: { topic: letters, limit: { count: 7, per: 10s } }
archive: { keep: 7d }
";

    fn read(text: &str) -> Result<Config, String> {
        let file = SourceFile { name: "entail.yaml".to_owned(), text: text.to_owned() };
        let env = |name: &str| (name == "CRM_URL").then(|| "postgres://entail:secret@127.0.0.1/crm".to_owned());
        parse(&file, Path::new("."), &env).map_err(|problems| render_text(&problems, std::slice::from_ref(&file)))
    }

    #[test]
    fn an_empty_file_is_not_taken_for_one_of_rules() {
        let said = read("").expect_err("empty");
        assert!(said.contains("begins with `version: 1`, and the README shows the rest"), "{said}");
    }

    #[test]
    fn a_good_file_is_read_whole() {
        let config = read(GOOD).expect("good");
        assert_eq!(config.batch, BatchSettings { events: 500, bytes: 4 << 20, linger: Duration::from_millis(5) });
        assert_eq!(config.dead_letters, DeadLetterSettings { topic: "letters".to_owned(), limit: 7, per: Duration::from_secs(10) });
        assert_eq!(config.databases["crm"].access, Access::Read);
        assert_eq!(config.keep, Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn h98_a_password_in_clear_is_refused_and_a_secret_is_never_shown() {
        let bad = GOOD.replace("postgres://entail@127.0.0.1/shop", "postgres://entail:hunter2@127.0.0.1/shop");
        let text = read(&bad).expect_err("a literal password");
        assert!(text.contains("password in clear") && text.contains("entail.yaml:9"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let config = read(GOOD).expect("good");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn h96_properties_that_run_code_are_refused_by_name() {
        for property in ["sasl.kerberos.kinit.cmd", "plugin.library.paths", "ssl.engine.location", "auto.offset.reset", "group.id"] {
            let bad = GOOD.replace("security.protocol: plaintext", &format!("{property}: x"));
            let text = read(&bad).expect_err(property);
            assert!(text.contains(property), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let text = read("version: 2\nrule: rules/\nkafka: { brokers: [], group: 7 }\ndatabases: { shop: { url: \"${env:NONE}\", acess: read } }\nbatch: { bytes: 4 MIB }\n")
            .expect_err("mistakes");
        for part in ["version 1", "`rule`", "the list is empty", "must be text", "`NONE` is not set", "`acess`", "`MiB`"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn the_schema_has_the_keys_of_the_settings_and_takes_good_ones() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("schema/settings.json")).expect("JSON");
        let keys: std::collections::BTreeSet<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, std::collections::BTreeSet::from(KEYS));
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let good: serde_json::Value = serde_saphyr::from_str(GOOD).expect("YAML");
        let problems: Vec<String> = validator.iter_errors(&good).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:#?}");
        let mistakes = [
            ("version: 1", "version: 2"),
            ("version: 1\n", ""),
            ("rules: rules/", "rules: []"),
            ("rules: rules/", "rule: rules/"),
            ("group: entail", "gruop: entail"),
            ("group: entail", "group: 7"),
            ("brokers: 127.0.0.1:9092", "brokers: []"),
            ("session.timeout.ms: 10000", "session.timeout.ms: []"),
            ("access: read", "access: raed"),
            ("access: read", "acess: read"),
            ("events: 500", "events: 0"),
            ("events: 500", "events: many"),
            ("bytes: 4 MiB", "bytes: 4 MIB"),
            ("linger: 5ms", "linger: 5"),
            ("topic: letters", "topic: []"),
            ("count: 7", "count: -7"),
            ("keep: 7d", "keep: 7 d a"),
            ("keep: 7d", "kept: 7d"),
        ];
        for (from, to) in mistakes {
            let text = GOOD.replacen(from, to, 1);
            assert!(read(&text).is_err(), "taken: {to}");
            let bad: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
            assert!(!validator.is_valid(&bad), "good by the schema: {to}");
        }
    }
}
