//! The golden list, keys and key changes: one test per line, named after the hazard that it closes.

use super::*;
use crate::change::Part;

#[test]
fn h13_a_message_key_with_an_invented_null_is_no_key() {
    let orders = spec(vec![entity("customers", &[("id", I64)], &[("customer_id", I64)])]);
    let named = record(Some(r#"{"customer_id":null}"#), Some(&delete()));
    assert_eq!(operation(decode(&named, &orders)), Operation::Delete { key: key(&["42"]) });
    assert_eq!(skipped(decode(&record(Some(r#"{"customer_id":null}"#), None), &orders)), SkipReason::UnusableTombstone);
    let of_customer = spec(vec![entity("customers", &[("customer_id", I64)], &[])]);
    let null = DecodeError::KeyNull { column: "customer_id".into() };
    assert_eq!(decode(&record(Some(r#"{"customer_id":null}"#), None), &of_customer), Err(null));
}

#[test]
fn a_row_without_primary_key_is_known_by_its_row_alone() {
    assert_eq!(operation(customer(None, Some(&envelope("c", "null", r#"{"id":42}"#)))), upsert(&["42"]));
    assert_eq!(operation(customer(None, Some(&delete()))), Operation::Delete { key: key(&["42"]) });
    assert_eq!(skipped(customer(None, None)), SkipReason::UnusableTombstone);
    assert_eq!(error(None, Some(&envelope("d", "null", "null"))), DecodeError::KeyMissing { column: "id".into() });
}

fn moved(value: Option<&str>, header: &str) -> Operation {
    operation(decode(&with_header(record(KEY, value), "__debezium.newkey", header), &customers()))
}

#[test]
fn h4_each_half_of_a_key_change_alone() {
    let change = Operation::KeyChange { key: key(&["42"]), to: Some(key(&["99"])) };
    assert_eq!(moved(Some(&delete()), r#"{"id":99}"#), change);
    assert_eq!(moved(None, r#"{"id":99}"#), change);
    assert_eq!(moved(Some("null"), r#"{"id":99}"#), change);
    let created = record(Some(r#"{"id":99}"#), Some(&envelope("c", "null", r#"{"id":99}"#)));
    let created = operation(decode(&with_header(created, "__debezium.oldkey", r#"{"id":42}"#), &customers()));
    assert_eq!(created, Operation::Upsert { key: key(&["99"]), moved_from: Some(key(&["42"])) });
    // A tombstone without its header is only a hint; which key change it belongs to is known by those who saw the first half.
    assert_eq!(operation(customer(KEY, None)), hint(&["42"]));
}

#[test]
fn h4_the_header_is_read_as_each_converter_writes_it() {
    let to = Operation::KeyChange { key: key(&["42"]), to: Some(key(&["99"])) };
    let wrapped = format!(r#"{{"schema":{KEY_SCHEMA},"payload":{{"id":99}}}}"#);
    for header in [r#"{"id":99}"#, "Struct{id=99}", &wrapped, "99", r#"{"region":"eu","id":99}"#] {
        assert_eq!(moved(Some(&delete()), header), to, "{header}");
    }
}

#[test]
fn h4_an_unreadable_header_is_still_a_key_change() {
    let unknown = Operation::KeyChange { key: key(&["42"]), to: None };
    let unreadable = ["", "null", "{", "Struct{id=x}", "Struct{id=9,id=9}", "Struct{other=9}", r#"{"other":9}"#, r#"{"id":null}"#];
    for header in unreadable.into_iter().chain([r#"{"id":1,"id":2}"#, r#"{"id":"__debezium_unavailable_value"}"#, "\u{1}"]) {
        assert_eq!(moved(Some(&delete()), header), unknown, "{header}");
        assert_eq!(moved(None, header), unknown, "{header}");
    }
    let mut without_bytes = record(KEY, None);
    without_bytes.headers.push(("__debezium.newkey".into(), None));
    assert_eq!(operation(decode(&without_bytes, &customers())), unknown);
    let twice = with_header(with_header(record(KEY, None), "__debezium.newkey", r#"{"id":1}"#), "__debezium.newkey", r#"{"id":2}"#);
    assert_eq!(operation(decode(&twice, &customers())), unknown);
    let mut invalid = record(KEY, Some(&delete()));
    invalid.headers.push(("__debezium.newkey".into(), Some(vec![0xff, 0xfe])));
    assert_eq!(operation(decode(&invalid, &customers())), unknown);
}

#[test]
fn h4_a_bare_value_is_no_key_of_several_columns() {
    let pairs = spec(vec![entity("customers", &[("id", I64), ("line", I64)], &[])]);
    let old = record(Some(r#"{"id":42,"line":1}"#), None);
    let moved = |header| operation(decode(&with_header(old.clone(), "__debezium.newkey", header), &pairs));
    assert_eq!(moved("99"), Operation::KeyChange { key: key(&["42", "1"]), to: None });
    assert_eq!(moved(r#"{"id":99,"line":1}"#), Operation::KeyChange { key: key(&["42", "1"]), to: Some(key(&["99", "1"])) });
}

#[test]
fn h4_keys_of_decimal_uuid_and_text_agree_between_header_and_key() {
    let cases = [
        (ColumnType::Decimal { scale: Some(2) }, r#""D54=""#, r#"{"id":123.45}"#, "123.45"),
        (
            ColumnType::Uuid,
            r#""7b1e6f0e-2a0b-4f3c-9d8e-112233445566""#,
            r#"{"id":"7B1E6F0E-2A0B-4F3C-9D8E-112233445567"}"#,
            "7b1e6f0e-2a0b-4f3c-9d8e-112233445567",
        ),
        // The printed header escapes only backslash and quote: the line break stands as it is.
        (ColumnType::Text, r#""old""#, "{\"id\":\"say \\\"a\\\\b\\\"\nnow\"}", "say \"a\\b\"\nnow"),
        (ColumnType::Bytes, r#""AP8Q""#, r#"{"id":"AP8R"}"#, "00ff11"),
        (ColumnType::Date, "17702", r#"{"id":17703}"#, "2018-06-21"),
    ];
    for (kind, old, header, new) in cases {
        let topic = spec(vec![entity("customers", &[("id", kind.clone())], &[])]);
        let value = envelope("d", &format!(r#"{{"id":{old}}}"#), "null");
        let record = with_header(record(Some(&format!(r#"{{"id":{old}}}"#)), Some(&value)), "__debezium.newkey", header);
        let Operation::KeyChange { to, .. } = operation(decode(&record, &topic)) else { panic!("no key change: {kind:?}") };
        assert_eq!(to, Some(key(&[new])), "{kind:?}");
    }
}

#[test]
fn h13_a_changed_row_key_under_an_unchanged_message_key_is_seen_in_before() {
    let value = envelope("u", r#"{"id":41}"#, r#"{"id":42,"customer_id":5}"#);
    let moved = operation(customer(Some(r#"{"customer_id":5}"#), Some(&value)));
    assert_eq!(moved, Operation::Upsert { key: key(&["42"]), moved_from: Some(key(&["41"])) });
}

#[test]
fn h13_the_row_wins_over_a_message_key_with_other_columns() {
    let value = envelope("c", "null", r#"{"id":42,"customer_id":5}"#);
    assert_eq!(operation(customer(Some(r#"{"customer_id":5}"#), Some(&value))), upsert(&["42"]));
    assert_eq!(skipped(customer(Some(r#"{"customer_id":5}"#), None)), SkipReason::UnusableTombstone);
    assert_eq!(skipped(customer(Some(r#"{"id":42,"customer_id":5}"#), None)), SkipReason::UnusableTombstone);
}

#[test]
fn bare_keys_are_keys_of_one_column() {
    for bare in ["42", r#""42""#, r#"{"schema":{"type":"int64","optional":false},"payload":42}"#] {
        assert_eq!(operation(customer(Some(bare), None)), hint(&["42"]), "{bare}");
        assert_eq!(operation(customer(Some(bare), Some(&delete()))), Operation::Delete { key: key(&["42"]) });
        assert_eq!(operation(customer(Some(bare), Some(&envelope("d", "null", "null")))), Operation::Delete { key: key(&["42"]) });
    }
    let two = spec(vec![entity("customers", &[("id", I64), ("no", I64)], &[])]);
    assert_eq!(skipped(decode(&record(Some("42"), None), &two)), SkipReason::UnusableTombstone);
    assert_eq!(error(Some("43"), Some(&delete())), DecodeError::KeyDisagrees { column: "id".into() });
    assert!(matches!(error(Some("[42]"), None), DecodeError::NotAnObject { part: Part::Key, .. }));
}

#[test]
fn a_printed_struct_as_key_is_a_dead_letter_with_a_hint_at_the_converter() {
    for value in [None, Some(delete())] {
        let error = error(Some("Struct{id=42}"), value.as_deref());
        assert_eq!(error, DecodeError::ConnectText { part: Part::Key });
        assert!(error.hint().contains("JsonConverter"));
    }
}

#[test]
fn composite_keys_are_read_by_name() {
    let topic = spec(vec![entity("customers", &[("a", I64), ("c", I64)], &[])]);
    let key_text = Some(r#"{"c":3,"a":1}"#);
    let value = envelope("d", r#"{"c":3,"a":1,"b":""}"#, "null");
    assert_eq!(operation(decode(&record(key_text, Some(&value)), &topic)), Operation::Delete { key: key(&["1", "3"]) });
    assert_eq!(operation(decode(&record(key_text, None), &topic)), hint(&["1", "3"]));
    assert_eq!(skipped(decode(&record(Some(r#"{"a":1}"#), None), &topic)), SkipReason::UnusableTombstone);
    let moved = with_header(record(key_text, Some(&value)), "__debezium.newkey", "Struct{c=4,a=1}");
    assert_eq!(operation(decode(&moved, &topic)), Operation::KeyChange { key: key(&["1", "3"]), to: Some(key(&["1", "4"])) });
}

#[test]
fn h13_key_and_row_must_agree() {
    assert_eq!(error(Some(r#"{"id":43}"#), Some(&delete())), DecodeError::KeyDisagrees { column: "id".into() });
    assert_eq!(
        error(Some(r#"{"id":43}"#), Some(&envelope("u", "null", r#"{"id":42}"#))),
        DecodeError::KeyDisagrees { column: "id".into() }
    );
    // After canonical form, not as bytes.
    assert_eq!(operation(customer(Some(r#"{"id":"042"}"#), Some(&delete()))), Operation::Delete { key: key(&["42"]) });
}

#[test]
fn h57_null_in_a_key_is_a_dead_letter() {
    let null = DecodeError::KeyNull { column: "id".into() };
    assert_eq!(error(None, Some(&envelope("d", r#"{"id":null}"#, "null"))), null);
    assert_eq!(error(None, Some(&envelope("c", "null", r#"{"id":null}"#))), null);
    assert_eq!(error(Some(r#"{"id":null}"#), None), null);
    assert_eq!(error(Some(r#"{"id":null}"#), Some(&delete())), null);
    assert_eq!(error(None, Some(&envelope("d", r#"{"name":"x"}"#, "null"))), DecodeError::KeyMissing { column: "id".into() });
}

#[test]
fn h101_a_duplicate_member_is_a_dead_letter() {
    let twice = |part| DecodeError::DuplicateMember { part, member: "id".into() };
    assert_eq!(error(Some(r#"{"id":42,"id":43}"#), None), twice(Part::Key));
    assert_eq!(error(Some(r#"{"id":42,"i\u0064":42}"#), None), twice(Part::Key));
    assert_eq!(error(Some(r#"{"schema":null,"payload":{"id":42,"id":43}}"#), Some(&delete())), twice(Part::Key));
    assert_eq!(error(None, Some(&envelope("d", r#"{"id":42,"id":43}"#, "null"))), twice(Part::Value));
}

#[test]
fn a_tombstone_on_a_shared_topic_hints_at_every_entity_with_these_columns() {
    let mut orders = entity("orders", &[("id", I64)], &[]);
    orders.entity = EntityId(1);
    let mut documents = entity("documents", &[("id", ColumnType::Uuid)], &[]);
    documents.entity = EntityId(2);
    let mut lines = entity("lines", &[("id", I64), ("no", I64)], &[]);
    lines.entity = EntityId(3);
    let mut topic = customers();
    topic.entities.extend([orders, documents, lines]);
    let Content::Events(events) = decode(&record(KEY, None), &topic).unwrap().content else { panic!("skipped") };
    assert_eq!(events.iter().map(|event| event.entity.0).collect::<Vec<_>>(), [0, 1]);
    assert!(events.iter().all(|event| event.operation == hint(&["42"])));
    let nobody = decode(&record(Some(r#"{"id":"x"}"#), None), &topic);
    assert!(matches!(nobody, Err(DecodeError::KeyUnreadable { .. })));
}
