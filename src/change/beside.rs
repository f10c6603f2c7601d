//! Records that are no rows: what connectors write beside them, and formats that are not read yet.

use super::key::MessageKey;
use super::wire::{Members, text};
use super::{Record, SkipReason};

/// Where Debezium puts heartbeats, unless `topic.heartbeat.prefix` says otherwise.
const HEARTBEAT_TOPIC: &str = "__debezium-heartbeat";

/// The reason to skip a record of the connector's own.
pub(super) fn skip_reason(members: &Members<'_>, record: &Record) -> Option<SkipReason> {
    let all = |names: &[&str]| names.iter().all(|name| members.has(name));
    if is_heartbeat(members, record) {
        Some(SkipReason::Heartbeat)
    } else if all(&["source", "ddl", "databaseName"]) {
        Some(SkipReason::SchemaChange)
    } else if all(&["status", "id", "event_count"]) && matches!(members.text("status").as_deref(), Some("BEGIN" | "END")) {
        Some(SkipReason::Transaction)
    } else if all(&["aggregate_type", "type", "additional_data"]) {
        Some(SkipReason::Notification)
    } else {
        None
    }
}

/// Nothing but the connector's clock, under the connector's name.
fn is_heartbeat(members: &Members<'_>, record: &Record) -> bool {
    let clock_only = members.has("ts_ms") && ["ts_ms", "ts_us", "ts_ns"].iter().filter(|name| members.has(name)).count() == members.len();
    let by_topic = || record.at.partition.topic.starts_with(HEARTBEAT_TOPIC);
    clock_only && (by_topic() || MessageKey::parse(record).is_ok_and(|key| key.names("serverName")))
}

/// Whether a row of a table that no entity names is one of the connector's signals.
pub(super) fn is_signal(row: &Members<'_>) -> bool {
    row.are(["id", "type", "data"].into_iter())
}

/// The format of an object that is neither an envelope nor a marked row.
pub(super) fn other_format(members: &Members<'_>) -> &'static str {
    let row_of_a_table = members.has("database") && members.has("table");
    let kind = members.text("type").unwrap_or_default();
    if members.has("specversion") {
        CLOUD_EVENT
    } else if row_of_a_table && members.has("isDdl") {
        "a Canal message"
    } else if row_of_a_table && !kind.is_empty() && kind == kind.to_lowercase() {
        "a Maxwell message"
    } else {
        "a row or a domain event without `__deleted` or `__op`"
    }
}

/// Also by header, in binary mode.
pub(super) const CLOUD_EVENT: &str = "a CloudEvent";

/// The format that headers alone give away.
pub(super) fn format_by_header(record: &Record) -> Option<&'static str> {
    let framed = ["__key_schema_id", "__value_schema_id", "apicurio.key.globalId", "apicurio.value.globalId"];
    let more = ["apicurio.key.contentId", "apicurio.value.contentId"];
    record.headers.iter().find_map(|(name, _)| match name.as_str() {
        "ce_specversion" => Some(CLOUD_EVENT),
        name if framed.contains(&name) || more.contains(&name) => Some("framed for a schema registry"),
        _ => None,
    })
}

/// A header's short word, as `SimpleHeaderConverter` or `JsonConverter` writes it.
pub(super) fn header_word(record: &Record, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(header, _)| header == name)?;
    let printed = std::str::from_utf8(value.as_deref()?).ok()?;
    match super::wire::payload(Some(printed.as_bytes()), super::Part::Header).map(|payload| payload.body) {
        Ok(super::wire::Body::Scalar(raw)) => Some(text(raw).map_or_else(|| printed.to_owned(), Into::into)),
        Ok(super::wire::Body::Null | super::wire::Body::Object(_) | super::wire::Body::Array) => None,
        Err(_) => Some(printed.to_owned()),
    }
}
