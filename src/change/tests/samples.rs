//! Every captured record through the decoder, against the table in `tests/samples.md`.
//!
//! `UPDATE_SAMPLES=1 cargo test samples` writes the table anew: read the difference before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::value::RowImage;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The names and texts of all captured files, in order of their names.
pub(super) fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("data/samples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() > 60, "the captured records are missing");
    files
}

pub(super) fn records(text: &str) -> Vec<Record> {
    text.lines().map(|line| to_record(&serde_json::from_str(line).unwrap())).collect()
}

fn to_record(line: &Value) -> Record {
    let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    let headers = line["headers"].as_array().unwrap();
    Record {
        at: Position {
            partition: TopicPartition {
                topic: Arc::from(line["topic"].as_str().unwrap()),
                partition: line["partition"].as_i64().unwrap().try_into().unwrap(),
            },
            offset: line["offset"].as_i64().unwrap(),
        },
        timestamp: line["timestamp"].as_i64(),
        key: bytes(&line["key"]),
        value: bytes(&line["value"]),
        headers: headers.iter().map(|header| (header["name"].as_str().unwrap().to_owned(), bytes(&header["value"]))).collect(),
    }
}

/// What the rules and the catalog would say about each topic of a file: its tables and the columns that its rows have.
pub(super) fn specs(file: &str, records: &[Record]) -> BTreeMap<Arc<str>, TopicSpec> {
    let mut tables: BTreeMap<Arc<str>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for record in records {
        let topic = &record.at.partition.topic;
        let seen = tables.entry(topic.clone()).or_default();
        let Some(value) = record.value.as_deref().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok()) else { continue };
        let value = value.get("payload").filter(|_| value.get("schema").is_some()).unwrap_or(&value);
        let row = ["after", "before"].iter().find_map(|side| value.get(side).filter(|row| row.is_object())).unwrap_or(value);
        let named = value.pointer("/source/table").or_else(|| value.get("__table")).and_then(Value::as_str);
        let table = named.or_else(|| topic.rsplit('.').next()).unwrap();
        if value.pointer("/source/connector").is_some() != value.get("op").is_some()
            || ["id", "a", "tenant"].iter().all(|key| row.get(key).is_none())
        {
            continue; // no row of a table
        }
        let columns = row.as_object().unwrap().keys().filter(|column| !column.starts_with("__")).cloned();
        seen.entry(table.to_owned()).or_default().extend(columns);
    }
    let spec = |tables: BTreeMap<String, BTreeSet<String>>| TopicSpec {
        entities: (0..).zip(tables).filter_map(|(id, (table, columns))| entity_of(file, id, table, columns)).collect(),
    };
    tables.into_iter().map(|(topic, tables)| (topic, spec(tables))).collect()
}

fn entity_of(file: &str, id: u32, table: String, columns: BTreeSet<String>) -> Option<EntitySpec> {
    let key: &[&str] = match table.as_str() {
        // Tables that no rule names.
        "clients" | "dbz_signal" | "outbox" => return None,
        "lines" => &["tenant", "order_id", "no"],
        // Not the order of the primary key, (c, a).
        "reordered" | "k_comp" => &["a", "c"],
        "nopk" | "uk" => &["a"],
        _ => &["id"],
    };
    let typed = |column: &str| (column.to_owned(), column_type(file, &table, column));
    let full = file.starts_with("mariadb") || file.contains("-full") || (file == "three-services" && table != "customers");
    Some(EntitySpec {
        entity: EntityId(id),
        schema: (!file.contains("unwrap")).then(|| if file.starts_with("mariadb") { "crm" } else { "public" }.to_owned()),
        key: key.iter().map(|column| typed(column)).collect(),
        columns: columns.iter().filter(|column| !key.contains(&column.as_str())).map(|column| typed(column)).collect(),
        before: if full { BeforeWorth::Row } else { BeforeWorth::Key },
        table,
    })
}

fn column_type(file: &str, table: &str, column: &str) -> ColumnType {
    use ColumnType as T;
    let int = |bits| T::Int(IntType { bits, unsigned: false });
    let unsigned = |bits| T::Int(IntType { bits, unsigned: true });
    let decimal = |scale| T::Decimal { scale };
    let other = |name: &str| T::Other(name.to_owned());
    let mariadb = file.starts_with("mariadb");
    match (table, column) {
        ("orders", "id") | ("parcels", "order_id") if file == "three-services" => T::Uuid,
        ("t", "id") if mariadb => U64,
        ("k_ubig", "id") => U64,
        ("k_uuid", "id") => T::Uuid,
        ("k_bin" | "k_bytea", "id") => T::Bytes,
        ("k_text" | "k_str", "id") => T::Text,
        ("k_num" | "k_dec", "id") => decimal(Some(0)),
        ("k_ts", "id") => T::TimestampTz { precision: 6 },
        ("k_dt", "id") => T::Timestamp { precision: 0 },
        ("k_date", "id") => T::Date,
        ("k_int", "id") => int(32),
        ("k_small", "id") => int(16),
        ("k_enum", "id") => T::Text,
        ("t", "i2") => int(16),
        ("t", "i4" | "dm" | "i" | "def") | (_, "v" | "a" | "c" | "no") => int(32),
        ("t", "t1" | "t4" | "bo") if mariadb => int(8),
        (_, "active") if mariadb => int(8),
        ("t", "tu") => unsigned(8),
        ("t", "iu") => unsigned(32),
        ("t", "u8") => U64,
        ("t", "y") => int(16),
        ("t", "n") if file.contains("not-null") => decimal(Some(2)),
        ("t", "n" | "nn") => decimal(None),
        ("t", "n12") | (_, "balance" | "total") => decimal(Some(2)),
        ("t", "n38") => decimal(Some(0)),
        ("t", "de") => decimal(Some(4)),
        ("t", "f4" | "f8" | "f") => T::Float,
        ("t", "d") if mariadb => T::Float,
        ("t", "d" | "da") => T::Date,
        ("t", "b") if file.contains("not-null") => I64,
        ("t", "b" | "bo" | "bi" | "b1") | (_, "active") => T::Bool,
        ("t", "c5") => T::Char,
        ("t", "u" | "defuuid") => T::Uuid,
        ("t", "ba" | "bin16" | "vb" | "bl") | ("docs", "blob") => T::Bytes,
        ("t", "ti") => T::Time { precision: 6 },
        ("t", "ti3") => T::Time { precision: 3 },
        ("t", "ts") if mariadb => T::TimestampTz { precision: 6 },
        ("t", "ts" | "dt6") => T::Timestamp { precision: 6 },
        ("t", "ts0" | "dt") => T::Timestamp { precision: 0 },
        ("t", "ts3") => T::Timestamp { precision: 3 },
        ("t", "tstz" | "tz" | "defnow") => T::TimestampTz { precision: 6 },
        ("t", "j" | "jb") => T::Json,
        ("t", "titz") => other("time with time zone"),
        ("t", "iv") => other("interval"),
        ("t", "ia") => other("integer[]"),
        ("t", "ta") | ("docs", "tags") => other("text[]"),
        ("t", "e") => other("enum"),
        ("t", "s") => other("set"),
        ("t", "ip") => other("inet"),
        ("t", "mac") => other("macaddr"),
        ("t", "mon") => other("money"),
        ("t", "bv" | "b12") => other("bit"),
        ("t", "pt") => other("point"),
        ("t", "rng") => other("int4range"),
        ("t", "x") => other("xml"),
        ("t", "hs") => other("tsvector"),
        ("lines", "tenant") => T::Uuid,
        (_, "tx" | "vc" | "b" | "email" | "name" | "note" | "body" | "sku" | "phone" | "mail" | "address" | "defnull") => T::Text,
        _ => I64,
    }
}

fn cells(image: &RowImage) -> String {
    let show = |cell: &Cell| match cell {
        Cell::Unknown => "?".to_owned(),
        Cell::Null => "null".to_owned(),
        Cell::Value(text) if text.chars().count() > 60 => {
            format!("'{}…' ({} characters)", text.chars().take(60).collect::<String>().escape_debug(), text.chars().count())
        }
        Cell::Value(text) => format!("'{}'", text.escape_debug()),
    };
    image.iter().map(|(column, cell)| format!("{column}={}", show(cell))).collect::<Vec<_>>().join(" ")
}

/// One line, and the word under which it is counted.
fn describe(record: &Record, spec: &TopicSpec) -> (String, String) {
    let at = format!("{} {}@{}", record.at.partition.topic, record.at.partition.partition, record.at.offset);
    let decoded = match decode(record, spec) {
        Ok(decoded) => decoded,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            assert!(!error.hint().is_empty());
            return (format!("{at} | dead letter: {error}{cause}"), "dead letter".to_owned());
        }
    };
    let position = decoded.source.as_ref().map_or("no position".to_owned(), ToString::to_string);
    let events = match decoded.content {
        Content::Skipped(reason) => {
            return (format!("{at} | skipped: {} | {position}", reason.as_str()), format!("skipped: {}", reason.as_str()));
        }
        Content::Events(events) => events,
    };
    let mut line = at;
    let mut word = "";
    for event in &events {
        let table = &spec.entities.iter().find(|entity| entity.entity == event.entity).unwrap().table;
        let (meaning, detail) = match &event.operation {
            Operation::Upsert { key, moved_from: None } => ("upsert", key.to_string()),
            Operation::Upsert { key, moved_from: Some(old) } => ("upsert", format!("{key} moved from {old}")),
            Operation::Delete { key } => ("delete", key.to_string()),
            Operation::KeyChange { key, to: Some(new) } => ("key change", format!("{key} to {new}")),
            Operation::KeyChange { key, to: None } => ("key change", format!("{key} to an unknown key")),
            Operation::Hint { key } => ("hint", key.to_string()),
            Operation::Truncate => ("truncate", String::new()),
        };
        word = meaning;
        let _ = write!(line, " | {meaning} {table} {detail}");
        for (name, image) in [("before", &event.before), ("after", &event.after)] {
            if !image.is_empty() {
                let _ = write!(line, " | {name} {}", cells(image));
            }
        }
        for (name, set) in [("reread", event.reread), ("snapshot", event.snapshot)] {
            if set {
                let _ = write!(line, " | {name}");
            }
        }
        if let Some(transaction) = &event.transaction {
            let _ = write!(line, " | transaction {transaction}");
        }
        assert_eq!(event.source, decoded.source);
    }
    (format!("{line} | {position}"), word.to_owned())
}

#[test]
fn every_captured_record_decodes_as_the_table_says() {
    let mut table = "# What the captured records decode to\n\nWritten by the test in `src/change/tests/samples.rs`: `UPDATE_SAMPLES=1 cargo test samples`. \
                     Each line: topic, partition@offset, meaning, columns (`?` is unknown), position.\n"
        .to_owned();
    for (file, text) in files() {
        let records = records(&text);
        let specs = specs(&file, &records);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut lines = String::new();
        for record in &records {
            let (line, word) = describe(record, &specs[&record.at.partition.topic]);
            *counts.entry(word).or_default() += 1;
            let _ = writeln!(lines, "{line}");
        }
        let counts = counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ");
        let _ = write!(table, "\n## {file}: {counts}\n\n```text\n{lines}```\n");
    }
    let path = root().join("samples.md");
    if std::env::var_os("UPDATE_SAMPLES").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, then) in table.lines().zip(committed.lines()) {
        assert_eq!(now, then, "a record decodes otherwise than tests/samples.md says");
    }
    assert_eq!(table.lines().count(), committed.lines().count());
}
