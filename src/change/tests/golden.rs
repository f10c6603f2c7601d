//! The golden list of change event formats, as far as it is Debezium's: one test per line, named after the hazard that it closes.

use super::*;
use crate::change::{MAX_NESTING, MAX_RECORD_BYTES, Part, SourcePosition};

#[test]
fn h5_the_four_nulls_are_hints_with_a_key_and_skipped_without() {
    let wrapped = format!(r#"{{"schema":{KEY_SCHEMA},"payload":{{"id":42}}}}"#);
    let with_schema = format!(r#"{{"schema":{KEY_SCHEMA},"payload":null}}"#);
    for null in [None, Some(""), Some("null"), Some(r#"{"schema":null,"payload":null}"#), Some(&with_schema)] {
        assert_eq!(operation(customer(KEY, null)), hint(&["42"]), "{null:?}");
        assert_eq!(operation(customer(Some(&wrapped), null)), hint(&["42"]), "{null:?}");
        for no_key in [None, Some(""), Some("null"), Some(r#"{"schema":null,"payload":null}"#)] {
            assert_eq!(skipped(customer(no_key, null)), SkipReason::UnusableTombstone);
        }
    }
}

#[test]
fn h5_delete_and_tombstone_each_work_alone() {
    let event = event(customer(KEY, Some(&delete())));
    assert_eq!(event.operation, Operation::Delete { key: key(&["42"]) });
    assert_eq!(event.source.unwrap().order, [24_023_128]);
    assert_eq!(event.transaction.as_deref(), Some("555"));
    assert_eq!(operation(customer(KEY, None)), hint(&["42"]));
}

#[test]
fn h9_a_truncate_needs_no_key_and_is_no_delete() {
    assert_eq!(operation(customer(None, Some(&envelope("t", "null", "null")))), Operation::Truncate);
    let without = r#"{"op":"t","source":{"connector":"postgresql","name":"pg","schema":"public","table":"customers","lsn":5}}"#;
    assert_eq!(operation(customer(None, Some(without))), Operation::Truncate);
}

#[test]
fn a_logical_message_is_skipped_with_its_position() {
    let value = r#"{"op":"m","message":{"prefix":"entail","content":"Ymfy"},"source":{"connector":"postgresql","name":"pg","schema":"","table":"","lsn":77}}"#;
    for topic in [customers(), spec(Vec::new())] {
        let decoded = decode(&record(Some(r#"{"prefix":"entail"}"#), Some(value)), &topic).unwrap();
        assert_eq!(decoded.content, Content::Skipped(SkipReason::LogicalMessage));
        assert_eq!(decoded.source.unwrap().to_string(), "77@postgresql/pg");
    }
}

#[test]
fn an_unknown_operation_is_a_dead_letter_and_its_text_is_not_quoted_unless_a_word() {
    assert_eq!(error(KEY, Some(&envelope("x", "null", r#"{"id":42}"#))), DecodeError::UnknownOperation { op: "x".into() });
    let long = error(KEY, Some(&envelope("anne@example.com", "null", r#"{"id":42}"#)));
    assert!(!long.to_string().contains("anne"));
    let named = |op: &str| error(KEY, Some(&envelope(op, "null", r#"{"id":42}"#))).to_string().contains(op);
    assert_eq!(["insert12", "insert123", "a@b"].map(named), [true, false, false]);
    assert_eq!(error(KEY, Some(&delete().replace(r#""op":"d""#, r#""op":null"#))), DecodeError::Envelope { member: "op" });
    assert_eq!(error(KEY, Some(&envelope("u", "null", "null"))), DecodeError::Envelope { member: "after" });
}

#[test]
fn h15_an_incremental_snapshot_has_no_position() {
    let value = r#"{"before":null,"after":{"id":42},"op":"r","source":{"connector":"postgresql","name":"pg","schema":"public","table":"customers",
        "snapshot":"incremental","sequence":"[\"38005272\",\"38005272\"]","txId":null,"lsn":null},"transaction":null}"#;
    let event = event(customer(KEY, Some(value)));
    assert_eq!((event.source, event.transaction, event.snapshot), (None, None, true));
}

#[test]
fn h10_only_what_is_true_of_before_is_kept() {
    let value = delete();
    let before = |worth| {
        let mut topic = customers();
        topic.entities[0].before = worth;
        let event = event(decode(&record(KEY, Some(&value)), &topic));
        assert!(event.after.is_empty());
        event.before.into_iter().map(|(column, cell)| format!("{column}={cell:?}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(before(BeforeWorth::Key), r#"id=Value("42")"#);
    assert_eq!(before(BeforeWorth::Columns(vec!["name".into()])), r#"id=Value("42") name=Value("")"#);
    assert_eq!(before(BeforeWorth::Row), r#"customer_id=Value("0") id=Value("42") name=Value("")"#);
    let no_before = event(customer(KEY, Some(&envelope("d", "null", "null"))));
    assert_eq!((no_before.operation, no_before.before.len()), (Operation::Delete { key: key(&["42"]) }, 0));
}

#[test]
fn an_update_without_the_old_key_is_an_upsert() {
    assert_eq!(operation(customer(Some(r#"{"id":99}"#), Some(&envelope("u", "null", r#"{"id":99}"#)))), upsert(&["99"]));
}

#[test]
fn h6_sql_server_halves_share_a_commit_position() {
    let source = r#"{"connector":"sqlserver","name":"ms","db":"crm","schema":"dbo","table":"customers","commit_lsn":"00000025:00000d98:00a2","change_lsn":"CHANGE","event_serial_no":SERIAL}"#;
    let half = |op: &str, before: &str, after: &str, change: &str, serial: &str| {
        let source = source.replace("CHANGE", change).replace("SERIAL", serial);
        let value = format!(r#"{{"op":"{op}","before":{before},"after":{after},"source":{source}}}"#);
        event(customer(None, Some(&value)))
    };
    let gone = half("d", r#"{"id":42}"#, "null", "00000025:00000d58:0002", "1");
    let come = half("c", "null", r#"{"id":99}"#, "00000025:00000d58:0003", "2");
    assert_eq!(gone.transaction, come.transaction);
    assert_eq!(gone.transaction.as_deref(), Some("00000025:00000d98:00a2"));
    assert_eq!(gone.source.clone().unwrap().order, [0x25, 0xd98, 0xa2, 0x25, 0xd58, 2, 1]);
    assert_eq!(gone.source.unwrap().compare(&come.source.unwrap()), Some(std::cmp::Ordering::Less));
}

const PLACEHOLDERS: [&str; 8] = [
    r#""__debezium_unavailable_value""#,
    r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#,
    r#""5f5f646562657a69756d5f756e617661696c61626c655f76616c7565""#,
    r#"["__debezium_unavailable_value"]"#,
    "[95, 95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101]",
    r#"["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]"#,
    r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#,
    r#""{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}""#,
];

#[test]
fn h12_placeholders_are_unknown_in_a_column_and_a_dead_letter_in_a_key() {
    for form in PLACEHOLDERS {
        let value = envelope("u", "null", &format!(r#"{{"id":42,"name":{form},"customer_id":{form}}}"#));
        let event = event(customer(KEY, Some(&value)));
        assert_eq!((&event.after["name"], &event.after["customer_id"], event.reread), (&Cell::Unknown, &Cell::Unknown, false), "{form}");
        let unavailable = DecodeError::KeyUnavailable { column: "id".into() };
        assert_eq!(error(None, Some(&envelope("u", "null", &format!(r#"{{"id":{form}}}"#)))), unavailable);
        assert_eq!(error(None, Some(&envelope("d", &format!(r#"{{"id":{form}}}"#), "null"))), unavailable);
        assert_eq!(error(Some(&format!(r#"{{"id":{form}}}"#)), None), unavailable);
    }
}

#[test]
fn h11_null_absent_and_unreadable_are_three_things() {
    let event = event(customer(KEY, Some(&envelope("c", "null", r#"{"id":42,"name":null}"#))));
    assert_eq!((&event.after["name"], &event.after["customer_id"], event.reread), (&Cell::Null, &Cell::Unknown, false));
    let event = super::event(customer(KEY, Some(&envelope("c", "null", r#"{"id":42,"name":"x","customer_id":"a"}"#))));
    assert_eq!((&event.after["name"], &event.after["customer_id"], event.reread), (&Cell::Value("x".into()), &Cell::Unknown, true));
}

#[test]
fn snapshot_in_each_form() {
    let of = |snapshot: &str, op: &str| {
        let value = envelope(op, "null", r#"{"id":42}"#).replace(r#""snapshot":"false","#, snapshot);
        event(customer(KEY, Some(&value))).snapshot
    };
    for word in ["true", "first", "first_in_data_collection", "last_in_data_collection", "last", "incremental"] {
        assert!(of(&format!(r#""snapshot":"{word}","#), "c"), "{word}");
    }
    assert!(of(r#""snapshot":true,"#, "c"));
    assert!(of("", "r"));
    for not in [r#""snapshot":"false","#, r#""snapshot":false,"#, r#""snapshot":null,"#, ""] {
        assert!(!of(not, "c"), "{not}");
    }
}

fn position(order: &[u64], source: &str) -> SourcePosition {
    SourcePosition { source: Arc::from(source), order: order.to_vec() }
}

#[test]
fn h15_positions_order_the_changes_of_one_key() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let mariadb = |file: &str, pos: u64, server: u64| {
        let source = format!(
            r#"{{"connector":"mariadb","name":"m","db":"crm","table":"customers","server_id":{server},"gtid":"0-1-2","file":"{file}","pos":{pos},"row":0}}"#
        );
        decode(&record(KEY, Some(&format!(r#"{{"op":"u","before":null,"after":{{"id":42}},"source":{source}}}"#))), &customers())
            .unwrap()
            .source
    };
    let (old, new) = (mariadb("bin.999999", 900, 1).unwrap(), mariadb("bin.1000000", 4, 1).unwrap());
    assert_eq!(new, position(&[1_000_000, 4, 0], "mariadb/m/1/bin"));
    assert_eq!(old.compare(&new), Some(Less));
    assert_eq!(new.compare(&old), Some(Greater));
    assert_eq!(new.compare(&new.clone()), Some(Equal));
    assert_eq!(new.compare(&mariadb("bin.1000000", 4, 2).unwrap()), None);
    assert_eq!(new.compare(&mariadb("other.1000000", 4, 1).unwrap()), None);
    // A snapshot's server_id is 0: no server, no position.
    assert_eq!(mariadb("bin.000001", 4, 0), None);
    assert_eq!(mariadb("bin", 4, 1), None);
}

#[test]
fn positions_survive_their_text() {
    for position in [position(&[35_250_208], "postgresql/crm"), position(&[1, u64::MAX, 0], "mysql/a@b/1/bin.log"), position(&[], "")] {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    for text in ["", "1", "+1@pg", "1.@pg", "01@pg", "x@pg", "18446744073709551616@pg"] {
        assert!(text.parse::<SourcePosition>().is_err(), "{text}");
    }
}

#[test]
fn records_beside_the_rows_are_skipped_with_their_reason() {
    let schema_change = r#"{"source":{"connector":"mariadb","name":"m","server_id":1,"file":"bin.000001","pos":9,"row":0},"ts_ms":1,"databaseName":"crm","schemaName":null,"ddl":"DROP TABLE x","tableChanges":[]}"#;
    let begin = r#"{"status":"BEGIN","id":"571:53195829","event_count":null,"data_collections":null,"ts_ms":1}"#;
    let end =
        r#"{"status":"END","id":"571:53195832","event_count":2,"data_collections":[{"data_collection":"s1.a","event_count":1}],"ts_ms":1}"#;
    let notification = r#"{"id":"a","aggregate_type":"Initial Snapshot","type":"COMPLETED","additional_data":{}}"#;
    let cases = [
        (r#"{"serverName":"pg"}"#, r#"{"ts_ms":1559033904863}"#, SkipReason::Heartbeat),
        (r#"{"databaseName":""}"#, schema_change, SkipReason::SchemaChange),
        (r#"{"id":"571:53195829"}"#, begin, SkipReason::Transaction),
        (r#"{"id":"571:53195832"}"#, end, SkipReason::Transaction),
        (r#"{"id":"a"}"#, notification, SkipReason::Notification),
    ];
    for (key, value, reason) in cases {
        assert_eq!(skipped(customer(Some(key), Some(value))), reason);
        let wrapped = format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{value}}}"#);
        assert_eq!(skipped(customer(Some(key), Some(&wrapped))), reason);
    }
    assert_eq!(customer(None, Some(schema_change)).unwrap().source.unwrap().to_string(), "1.9.0@mariadb/m/1/bin");
    let signal = envelope("c", "null", r#"{"id":"s1","type":"snapshot-window-open","data":""}"#).replace("customers", "dbz_signal");
    assert_eq!(skipped(customer(Some(r#"{"id":"s1"}"#), Some(&signal))), SkipReason::Notification);
    let mut by_topic = record(None, Some(r#"{"ts_ms":1559033904863,"ts_us":1559033904863000}"#));
    by_topic.at.partition.topic = Arc::from("__debezium-heartbeat.pg");
    assert_eq!(skipped(decode(&by_topic, &customers())), SkipReason::Heartbeat);
    // Rows that have such columns are none of the connector's own.
    let rows = [
        (KEY, r#"{"ts_ms":1559033904863}"#),
        (Some(r#"{"serverName":"pg"}"#), r#"{"ts_ms":1559033904863,"id":42}"#),
        (Some(r#"{"serverName":"pg"}"#), "{}"),
        (KEY, r#"{"status":"shipped","id":42,"event_count":2}"#),
        (KEY, r#"{"status":"BEGIN","id":42}"#),
    ];
    for (key, row) in rows {
        assert!(matches!(error(key, Some(row)), DecodeError::UnsupportedFormat { .. }), "{row}");
    }
}

#[test]
fn h30_the_transaction_is_the_part_before_the_colon() {
    let of = |block: &str, tx: &str| {
        let value = envelope("c", "null", r#"{"id":42}"#).replace(r#""transaction":null"#, &format!(r#""transaction":{block}"#));
        event(customer(KEY, Some(&value.replace(r#""txId":555"#, &format!(r#""txId":{tx}"#))))).transaction
    };
    assert_eq!(of(r#"{"id":"571:53195832","total_order":1,"data_collection_order":1}"#, "555").as_deref(), Some("571"));
    assert_eq!(of(r#"{"id":"571:53195899","total_order":"2","data_collection_order":"1"}"#, "555").as_deref(), Some("571"));
    assert_eq!(of("null", "555").as_deref(), Some("555"));
    assert_eq!(of("null", "null"), None);
    let gtid = r#"{"op":"c","after":{"id":42},"source":{"connector":"mysql","name":"m","table":"customers","gtid":"0-1-163"}}"#;
    assert_eq!(event(customer(KEY, Some(gtid))).transaction.as_deref(), Some("0-1-163"));
}

#[test]
fn rows_of_other_tables_are_skipped() {
    let other = delete().replace("customers", "clients");
    assert_eq!(skipped(customer(Some("unread"), Some(&other))), SkipReason::OtherTable);
    let mut named = customers();
    named.entities[0].schema = Some("sales".into());
    assert_eq!(skipped(decode(&record(KEY, Some(&delete())), &named)), SkipReason::OtherTable);
    named.entities[0].schema = Some("public".into());
    assert_eq!(operation(decode(&record(KEY, Some(&delete())), &named)), Operation::Delete { key: key(&["42"]) });
    let mut twice = customers();
    twice.entities.push(twice.entities[0].clone());
    assert_eq!(decode(&record(KEY, Some(&delete())), &twice), Err(DecodeError::EntityUnclear));
    assert_eq!(error(KEY, Some(&delete().replace(r#""table":"customers","#, ""))), DecodeError::Envelope { member: "source.table" });
}

fn flat(marks: &str, headers: &[(&str, &str)]) -> Result<Decoded, DecodeError> {
    let record = record(KEY, Some(&format!(r#"{{"id":42,"name":"Anne"{marks}}}"#)));
    decode(&headers.iter().fold(record, |record, (name, value)| with_header(record, name, value)), &customers())
}

#[test]
fn flattened_rows_by_their_marks() {
    let gone = Operation::Delete { key: key(&["42"]) };
    for marks in [r#","__deleted":"true""#, r#","__deleted":true"#, r#","__deleted":"true","__op":"d""#, r#","__op":"d""#] {
        let event = event(flat(marks, &[]));
        assert_eq!((event.operation, event.source, event.after.len()), (gone.clone(), None, 0), "{marks}");
        assert_eq!(event.before.len(), 1, "only the key of a deleted row is true");
    }
    for marks in [r#","__deleted":"false""#, r#","__deleted":false"#, r#","__op":"u""#, r#","__deleted":null,"__op":"c""#] {
        let event = event(flat(marks, &[]));
        assert_eq!((&event.operation, &event.after["name"]), (&upsert(&["42"]), &Cell::Value("Anne".into())), "{marks}");
    }
    assert!(event(flat(r#","__op":"r""#, &[])).snapshot);
    assert_eq!(operation(flat("", &[("__op", "u")])), upsert(&["42"]));
    assert_eq!(operation(decode(&with_header(record(KEY, None), "__op", "d"), &customers())), hint(&["42"]));
    assert!(matches!(flat("", &[]), Err(DecodeError::UnsupportedFormat { .. })));
    assert_eq!(flat(r#","__deleted":"true","__op":"u""#, &[]), Err(DecodeError::ContradictoryMarks));
    assert_eq!(flat(r#","__deleted":"false","__op":"d""#, &[]), Err(DecodeError::ContradictoryMarks));
    assert_eq!(flat(r#","__deleted":"yes""#, &[]), Err(DecodeError::Envelope { member: "__deleted" }));
    assert!(matches!(flat(r#","__op":"x""#, &[]), Err(DecodeError::UnknownOperation { .. })));
}

#[test]
fn h4_the_key_change_header_counts_on_flattened_rows() {
    let deleted = flat(r#","__deleted":"true","__op":"d""#, &[("__debezium.newkey", r#"{"id":100}"#)]);
    assert_eq!(operation(deleted), Operation::KeyChange { key: key(&["42"]), to: Some(key(&["100"])) });
    let created = flat(r#","__deleted":"false""#, &[("__debezium.oldkey", r#"{"id":1}"#)]);
    assert_eq!(operation(created), Operation::Upsert { key: key(&["42"]), moved_from: Some(key(&["1"])) });
}

#[test]
fn flattened_rows_find_their_entity_by_table_or_by_being_alone() {
    assert_eq!(skipped(flat(r#","__op":"u","__table":"orders""#, &[])), SkipReason::OtherTable);
    let row = |more: &str| record(KEY, Some(&format!(r#"{{"id":42,"__op":"u"{more}}}"#)));
    let mut topic = customers();
    topic.entities.push(entity("orders", &[("id", I64)], &[]));
    assert_eq!(decode(&row(""), &topic), Err(DecodeError::EntityUnclear));
    assert_eq!(operation(decode(&row(r#","__table":"customers""#), &topic)), upsert(&["42"]));
    topic.entities[0].schema = Some("crm".into());
    assert_eq!(operation(decode(&row(r#","__table":"customers","__db":"crm""#), &topic)), upsert(&["42"]));
    assert_eq!(decode(&row(r#","__table":"customers","__db":"shop""#), &topic), Err(DecodeError::EntityUnclear));
    assert_eq!(skipped(decode(&row(r#","__table":"customers","__schema":"shop""#), &topic)), SkipReason::OtherTable);
}

#[test]
fn formats_of_later_releases_are_named() {
    let maxwell = r#"{"database":"shop","table":"orders","type":"delete","ts":1477053250,"data":{"id":7}}"#;
    let canal = r#"{"data":[{"id":"7"}],"old":null,"type":"DELETE","isDdl":false,"database":"shop","table":"orders"}"#;
    let cloud = r#"{"id":"x","specversion":"1.0","type":"t","source":"s","iodebeziumop":"d","data":{"before":{"id":42},"after":null}}"#;
    // Not enough of either: a row may have such columns.
    let [without_table, upper] = [canal.replace(r#","table":"orders""#, ""), maxwell.replace("delete", "DELETE")];
    let without_type = maxwell.replace(r#""type":"delete","#, "");
    for (value, word) in [
        (&*without_table, "__deleted"),
        (&*upper, "__deleted"),
        (&*without_type, "__deleted"),
        (maxwell, "Maxwell"),
        (canal, "Canal"),
        (cloud, "CloudEvent"),
        (r#""{\"id\": 42}""#, "outbox"),
        ("{}", "__deleted"),
    ] {
        let error = error(KEY, Some(value));
        assert!(matches!(error, DecodeError::UnsupportedFormat { .. }) && error.to_string().contains(word), "{error}");
        assert!(!error.hint().is_empty());
    }
    let by_header = with_header(record(KEY, Some(r#"{"before":{"id":42},"after":null}"#)), "ce_specversion", "1.0");
    assert!(decode(&by_header, &customers()).is_err_and(|error| error.to_string().contains("CloudEvent")));
}

#[test]
fn registry_framing_is_named_in_key_and_value() {
    for framed in ["\0\0\0\0\x07\x02", "\0\0\0\0\x09{\"id\":1}", "\x01abcdefghijklmnop\x02", "\x03\x05x"] {
        assert!(matches!(error(KEY, Some(framed)), DecodeError::UnsupportedFormat { .. }));
        assert!(matches!(error(Some(framed), None), DecodeError::UnsupportedFormat { .. }));
    }
    for header in ["__value_schema_id", "__key_schema_id", "apicurio.key.globalId"] {
        // The byte 0x34 would be the number 4 in JSON; behind this header it is Avro.
        assert!(matches!(
            decode(&with_header(record(Some("4"), None), header, "x"), &customers()),
            Err(DecodeError::UnsupportedFormat { .. })
        ));
    }
}

#[test]
fn h101_garbage_is_a_dead_letter() {
    for garbage in ["garbage", "{", "{\"id\":", "\"half", "nul", "nullx", "01", "NaN", "{\"id\":42}x", "\u{feff}{}", " "] {
        assert!(matches!(error(KEY, Some(garbage)), DecodeError::NotJson { part: Part::Value, .. }), "{garbage}");
        assert!(matches!(error(Some(garbage), None), DecodeError::NotJson { part: Part::Key, .. }), "{garbage}");
    }
    for (value, part) in [("[]", Part::Value), ("42", Part::Value), ("true", Part::Value)] {
        assert!(matches!(error(KEY, Some(value)), DecodeError::NotAnObject { part: found, .. } if found == part));
    }
    let mut invalid = record(KEY, Some("{\"op\":\"?\"}"));
    invalid.value.as_mut().unwrap()[7] = 0xff;
    assert!(matches!(decode(&invalid, &customers()), Err(DecodeError::NotJson { .. })));
    let at = |value| {
        let told = error(KEY, Some(value));
        let DecodeError::NotJson { at, .. } = told else { panic!("{told}") };
        (at, told.to_string().contains("value"))
    };
    assert_eq!((at("{\"id\": x}"), at("{\n\"id\": x}")), ((8, true), (0, true)), "the place in its only line");
    let member = |before| error(KEY, Some(&envelope("u", before, r#"{"id":42}"#)));
    assert!(["5", "[]", "\"x\""].map(member).iter().all(|told| *told == DecodeError::Envelope { member: "before" }));
    let half_a_pair =
        DecodeError::KeyUnreadable { column: "id".into(), source: crate::value::ValueError::Malformed { expected: "a whole number" } };
    assert_eq!(error(Some(r#"{"id":"\ud800"}"#), None), half_a_pair);
}

#[test]
fn h101_depth_and_size_are_bounded() {
    let nested = |levels: usize| format!(r#"{{"id":42,"x":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    let too_deep = DecodeError::TooDeep { part: Part::Key, limit: MAX_NESTING };
    assert_eq!(error(Some(&nested(MAX_NESTING + 1)), None), too_deep);
    assert_eq!(skipped(customer(Some(&nested(MAX_NESTING)), None)), SkipReason::UnusableTombstone);
    assert_eq!(error(Some(&"[".repeat(1_000_000)), None), too_deep);
    let brackets_in_a_text = envelope("c", "null", &format!(r#"{{"id":42,"name":"\"{}"}}"#, "[".repeat(500)));
    assert_eq!(operation(customer(KEY, Some(&brackets_in_a_text))), upsert(&["42"]));
    let closed_in_a_text = format!(r#"{{"id":42,"y":"]","x":{}{}}}"#, "[".repeat(MAX_NESTING), "]".repeat(MAX_NESTING));
    assert_eq!(error(Some(&closed_in_a_text), None), too_deep);
    let most = customer(KEY, Some(&" ".repeat(MAX_RECORD_BYTES - 9)));
    assert!(!matches!(most, Err(DecodeError::TooLarge { .. })), "{most:?}");
    let large = " ".repeat(MAX_RECORD_BYTES);
    assert!(matches!(error(KEY, Some(&large)), DecodeError::TooLarge { size, limit: MAX_RECORD_BYTES } if size == MAX_RECORD_BYTES + 9));
    let with_headers = with_header(record(KEY, None), "ab", &"x".repeat(MAX_RECORD_BYTES - 11));
    assert!(!matches!(decode(&with_headers, &customers()), Err(DecodeError::TooLarge { .. })));
    let one_more = with_header(with_headers, "c", "");
    assert!(matches!(decode(&one_more, &customers()), Err(DecodeError::TooLarge { .. })));
    let mebibyte = envelope("c", "null", &format!(r#"{{"id":42,"name":"{}"}}"#, "x".repeat(1024 * 1024 + 1)));
    assert_eq!(operation(customer(KEY, Some(&mebibyte))), upsert(&["42"]));
}

#[test]
fn columns_named_schema_and_payload_are_not_unwrapped() {
    let topic = spec(vec![entity("customers", &[("schema", ColumnType::Text), ("payload", I64)], &[])]);
    assert_eq!(operation(decode(&record(Some(r#"{"schema":"a","payload":1}"#), None), &topic)), hint(&["a", "1"]));
    // An object without a `type` is no schema.
    let row = record(Some(r#"{"payload":1}"#), Some(r#"{"schema":{"a":1},"payload":1}"#));
    let topic = spec(vec![entity("customers", &[("payload", I64)], &[("schema", ColumnType::Json)])]);
    assert_eq!(operation(decode(&with_header(row, "__op", "u"), &topic)), upsert(&["1"]));
}

#[test]
fn no_message_quotes_a_value() {
    let secret = "s3cret";
    let rows = [format!(r#"{{"id":"{secret}"}}"#), format!(r#"{{"id":["{secret}"]}}"#), format!(r#"{{"id":42,"op":"{secret}""#)];
    for row in rows {
        for error in [error(Some(&row), None), error(None, Some(&envelope("c", "null", &row)))] {
            assert!(!format!("{error:?} {error}").contains(secret), "{error:?}");
        }
    }
}
