//! Topics: are they there, do they keep records long enough, and can their newest records be read?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Options, Subject};
use crate::change::{self, Content, NextOffset, Operation, Record, SkipReason, TopicPartition, TopicSpec};
use crate::config::{Config, Kafka};
use crate::error::chain;
use crate::model::{self, Code, Problem};
use crate::rules::OnUpdate;
use crate::source::assigned::Reader;
use crate::source::plain_config;

/// Shorter than this, and a stop over a night loses records.
const DAY_MS: i64 = 24 * 3_600_000;
/// How long the next record may take to arrive.
const READ: Duration = Duration::from_secs(5);
const MAY_NOT_READ: &str = "the principal may not read it";
const ACCESS: &str = "the `kafka-acls.sh` lines that `entail check --grants` prints";

pub(super) async fn look(subject: &Subject<'_>, config: &Config, options: &Options) -> Vec<Problem> {
    let wanted: BTreeSet<String> = subject.rules.entities.iter().filter_map(|entity| entity.topic.clone()).collect();
    let (kafka, sample, patience) = (config.kafka.clone(), options.sample, options.patience);
    let markers = subject.model.as_ref().map(|model| model::markers(model)).unwrap_or_default();
    let asked = tokio::task::spawn_blocking(move || {
        Ok::<_, KafkaError>((newest(&kafka, &wanted, sample, patience)?, closed_markers(&kafka, &markers)?))
    })
    .await;
    let (found, closed) = match asked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return vec![no_broker(config, &error.to_string())],
        Err(error) => return vec![no_broker(config, &error.to_string())],
    };
    let mut problems = Vec::new();
    for (topic, found) in &found {
        match found {
            Found::Hidden => problems.push(Problem::new(Code::TopicRight, topic, MAY_NOT_READ, ACCESS)),
            Found::Nothing => problems.push(Problem::new(
                Code::NoTopic,
                topic,
                "there is no such topic",
                "check `topic` in the rules; a connector makes a topic with its first event: until then `--allow-missing-topics`",
            )),
            Found::Topic(newest) => records(subject, topic, newest, sample, &mut problems),
        }
    }
    problems.extend(closed.iter().map(|topic| Problem::new(Code::TopicRight, topic, MAY_NOT_READ, ACCESS)));
    let there: Vec<&String> = found.iter().filter(|(_, found)| matches!(found, Found::Topic(_))).map(|(topic, _)| topic).collect();
    match settings(&config.kafka, &there, patience).await {
        Ok(settings) => {
            for (topic, settings) in settings {
                match settings {
                    Ok(settings) => retention(subject, &topic, &settings, &mut problems),
                    Err(why) => problems.push(unread_settings(&topic, &why)),
                }
            }
        }
        Err(error) => problems.push(unread_settings(&config.kafka.brokers, &chain(&error))),
    }
    problems
}

fn no_broker(config: &Config, why: &str) -> Problem {
    Problem::new(Code::NoBroker, &config.kafka.brokers, format!("no broker answers: {why}"), "is it up, and is `kafka.brokers` right?")
}

fn unread_settings(place: &str, why: &str) -> Problem {
    Problem::new(Code::TopicSettings, place, format!("the topic's settings cannot be read: {why}"), ACCESS)
}

/// What stands behind the name of a topic.
enum Found {
    Nothing,
    /// The principal may not even see it.
    Hidden,
    Topic(Newest),
}

/// Partitions and newest records of a topic.
struct Newest {
    may_be_read: bool,
    partitions: usize,
    records: Vec<Record>,
    is_empty: bool,
}

fn newest(kafka: &Kafka, topics: &BTreeSet<String>, sample: u64, patience: Duration) -> Result<BTreeMap<String, Found>, KafkaError> {
    let reader = Reader::open(kafka)?;
    let missing = reader.missing(topics, patience)?;
    let (mut found, mut start, mut ends) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for topic in topics.iter().filter(|topic| !missing.contains(topic)) {
        let partitions = reader.ends(topic)?;
        let each = i64::try_from(sample.div_ceil(partitions.len().max(1) as u64)).unwrap_or(i64::MAX);
        let mut newest = Newest { may_be_read: true, partitions: partitions.len(), records: Vec::new(), is_empty: true };
        for (partition, marks) in partitions {
            newest.is_empty &= marks.low >= marks.high;
            if marks.low < marks.high && each > 0 {
                start.insert(partition.clone(), NextOffset(marks.low.max(marks.high.saturating_sub(each))));
                ends.insert(partition, marks.high);
            }
        }
        found.insert(topic.clone(), Found::Topic(newest));
    }
    // All at once: a client takes about a second to come to its first record, however many partitions there are.
    let (records, unread) = if start.is_empty() { Default::default() } else { read(&reader, &start, ends)? };
    for record in records {
        if let Some(Found::Topic(newest)) = found.get_mut(&*record.at.partition.topic) {
            newest.records.push(record);
        }
    }
    for topic in unread {
        if let Some(Found::Topic(newest)) = found.get_mut(&*topic)
            && newest.records.is_empty()
        {
            newest.may_be_read = may_read(kafka, &topic, &start)?;
        }
    }
    for topic in missing {
        let is_hidden = reader.is_hidden(&topic)?;
        found.insert(topic, if is_hidden { Found::Hidden } else { Found::Nothing });
    }
    Ok(found)
}

/// Whether the broker lets us read a topic, from these places on. A client says which topic was refused only if there is no other, and only once.
fn may_read(kafka: &Kafka, topic: &str, places: &BTreeMap<TopicPartition, NextOffset>) -> Result<bool, KafkaError> {
    let reader = Reader::open(kafka)?;
    reader.assign(&places.iter().filter(|(partition, _)| *partition.topic == *topic).map(|(one, at)| (one.clone(), *at)).collect())?;
    let begun = Instant::now();
    while begun.elapsed() < READ {
        match reader.next() {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(true),
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Topics of markers that the principal may not read. One that is not there yet is made with the first marker.
fn closed_markers(kafka: &Kafka, topics: &[String]) -> Result<Vec<String>, KafkaError> {
    let reader = Reader::open(kafka)?;
    let mut closed = Vec::new();
    for topic in topics {
        let filled = reader.ends(topic)?.into_iter().filter(|(_, marks)| marks.low < marks.high);
        let places: BTreeMap<_, _> = filled.map(|(partition, marks)| (partition, NextOffset(marks.low))).collect();
        let is_closed = if places.is_empty() { reader.is_hidden(topic)? } else { !may_read(kafka, topic, &places)? };
        closed.extend(is_closed.then(|| topic.clone()));
    }
    Ok(closed)
}

/// Reads to the ends as they were: the records, and the topics that were not read to their ends if the broker refused any. A marker of a
/// transaction may stand at the very end and is no record: then the time decides.
fn read(
    reader: &Reader,
    start: &BTreeMap<TopicPartition, NextOffset>,
    mut ends: BTreeMap<TopicPartition, i64>,
) -> Result<(Vec<Record>, BTreeSet<Arc<str>>), KafkaError> {
    reader.assign(start)?;
    let (mut records, mut is_refused, mut last) = (Vec::new(), false, Instant::now());
    while !ends.is_empty() && last.elapsed() < READ {
        let record = match reader.next() {
            Ok(None) => continue,
            Ok(Some(record)) => record,
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                is_refused = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        last = Instant::now();
        if ends.get(&record.at.partition).is_some_and(|end| record.at.offset + 1 >= *end) {
            ends.remove(&record.at.partition);
        }
        if start.contains_key(&record.at.partition) {
            records.push(record);
        }
    }
    let unread = ends.into_keys().filter(|_| is_refused).map(|partition| partition.topic).collect();
    Ok((records, unread))
}

fn records(subject: &Subject<'_>, topic: &str, newest: &Newest, sample: u64, problems: &mut Vec<Problem>) {
    let mut found = |code, message: String, hint: &str| problems.push(Problem::new(code, topic, message, hint));
    if newest.partitions == 1 {
        found(
            Code::OnePartition,
            "it has one partition, so one worker reads it".to_owned(),
            "give it more before its first event, if one is not enough",
        );
    }
    if !newest.may_be_read {
        found(Code::TopicRight, MAY_NOT_READ.to_owned(), ACCESS);
    }
    if newest.is_empty {
        found(Code::EmptyTopic, "it has no records: nothing can be said of them".to_owned(), "check again when it has");
    }
    let Some(spec) = subject.model.as_ref().and_then(|model| model.topics.get(topic)).filter(|_| sample > 0) else { return };
    let of = newest.records.len();
    let judged: Vec<Judged> = newest.records.iter().map(|record| judge(record, spec)).collect();
    let unreadable = judged.iter().filter(|judged| matches!(judged, Judged::Unreadable(..))).count();
    if let Some(Judged::Unreadable(why, hint)) = judged.iter().rev().find(|judged| matches!(judged, Judged::Unreadable(..))) {
        found(Code::Unreadable, format!("{unreadable} of its {of} newest records cannot be read: {why}"), hint);
    }
    let (others, ours) = judged.iter().fold((0, 0), |(others, ours), judged| match judged {
        Judged::Other => (others + 1, ours),
        Judged::Ours => (others, ours + 1),
        Judged::Unreadable(..) | Judged::Nothing => (others, ours),
    });
    if others > 0 && ours == 0 {
        found(
            Code::OtherTable,
            format!("{others} of its {of} newest records are of another table, and none is of an entity here"),
            "check `topic`, `table` and `key`",
        );
    }
}

enum Judged {
    /// A change of an entity of the rules.
    Ours,
    /// A change of something else.
    Other,
    /// Heartbeats and their like.
    Nothing,
    /// Why, and what to do.
    Unreadable(String, &'static str),
}

fn judge(record: &Record, spec: &TopicSpec) -> Judged {
    match change::decode(record, spec) {
        Err(error) => Judged::Unreadable(chain(&error), error.hint()),
        Ok(decoded) => match decoded.content {
            Content::Skipped(SkipReason::OtherTable | SkipReason::UnusableTombstone) => Judged::Other,
            Content::Skipped(_) => Judged::Nothing,
            // A tombstone alone names no table.
            Content::Events(events) if events.iter().all(|event| matches!(event.operation, Operation::Hint { .. })) => Judged::Nothing,
            Content::Events(_) => Judged::Ours,
        },
    }
}

/// Settings by name, or why the broker does not tell them.
type Settings = Result<BTreeMap<String, String>, String>;

/// The settings of topics, by name. Of a refusal the client tells nothing but an answer without any setting.
async fn settings(kafka: &Kafka, topics: &[&String], patience: Duration) -> Result<Vec<(String, Settings)>, KafkaError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let admin: AdminClient<DefaultClientContext> = plain_config(kafka).create()?;
    let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let answers = admin.describe_configs(&resources, &AdminOptions::new().request_timeout(Some(patience))).await?;
    let read = |answer: ConfigResource| {
        answer.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect::<BTreeMap<String, String>>()
    };
    let read = |answer: ConfigResource| Some(read(answer)).filter(|settings| !settings.is_empty()).ok_or_else(|| "refused".to_owned());
    Ok(topics
        .iter()
        .zip(answers)
        .map(|(topic, answer)| ((*topic).clone(), answer.map_err(|code| code.to_string()).and_then(read)))
        .collect())
}

fn retention(subject: &Subject<'_>, topic: &str, settings: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    let mut found = |code, message: String, hint: &str| problems.push(Problem::new(code, topic, message, hint));
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
    let shown = |ms: i64| humantime::format_duration(Duration::from_millis(u64::try_from(ms).unwrap_or(0))).to_string();
    let policy = settings.get("cleanup.policy").map(String::as_str).unwrap_or_default();
    if policy.contains("delete") {
        if let Some(ms) = number("retention.ms").filter(|ms| (0..DAY_MS).contains(ms)) {
            found(
                Code::ShortRetention,
                format!("it keeps records for {}: a longer stop loses deletes", shown(ms)),
                "raise `retention.ms` above your longest outage",
            );
        }
        if let Some(bytes) = number("retention.bytes").filter(|bytes| *bytes >= 0) {
            let message = format!("it keeps {bytes} bytes of each partition, however young they are");
            found(Code::SmallRetention, message, "see that this holds your longest outage");
        }
    }
    if policy.contains("compact") {
        let of_topic = |entity: &crate::rules::Entity| entity.topic.as_deref() == Some(topic);
        let keys_change = subject
            .rules
            .references
            .iter()
            .any(|reference| of_topic(subject.rules.entity(reference.parent)) && reference.on_update != OnUpdate::NoAction);
        if keys_change {
            let message = "it is compacted, and its keys may change: a tombstone alone does not tell a key change from a delete".to_owned();
            found(Code::Compacted, message, "`cleanup.policy=delete`");
        }
        if let Some(ms) = number("delete.retention.ms").filter(|ms| *ms < DAY_MS) {
            let message = format!("it drops tombstones after {}: a longer stop loses deletes", shown(ms));
            found(Code::TombstonesShort, message, "raise `delete.retention.ms` above your longest outage");
        }
    }
}
