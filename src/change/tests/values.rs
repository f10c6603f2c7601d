//! The vectors of every type, with schema and without, in a column and in a key.

use super::*;

/// What a value became: a canonical text, `reread` (a column that must be read from the owner), or the reason of the dead letter (a key).
pub(super) fn column(kind: &ColumnType, json: &str, schema: Option<&str>) -> String {
    let topic = spec(vec![entity("customers", &[("id", I64)], &[("x", kind.clone())])]);
    let value = with_schema(&envelope("c", "null", &format!(r#"{{"id":42,"x":{json}}}"#)), schema);
    let event = event(decode(&record(None, Some(&value)), &topic));
    match (&event.after["x"], event.reread) {
        (Cell::Value(text), false) => text.clone(),
        (Cell::Unknown, true) => "reread".to_owned(),
        other => format!("{other:?}"),
    }
}

fn with_schema(envelope: &str, field: Option<&str>) -> String {
    let Some(field) = field else { return envelope.to_owned() };
    let row = format!(r#"{{"type":"struct","field":"after","optional":true,"fields":[{{"type":"int64","field":"id"}},{field}]}}"#);
    format!(r#"{{"schema":{{"type":"struct","name":"Envelope","fields":[{row},{{"type":"string","field":"op"}}]}},"payload":{envelope}}}"#)
}

fn key_of(kind: &ColumnType, json: &str, schema: Option<&str>) -> Result<String, DecodeError> {
    let topic = spec(vec![entity("customers", &[("x", kind.clone())], &[])]);
    let payload = format!(r#"{{"x":{json}}}"#);
    let text = match schema {
        Some(field) => format!(r#"{{"schema":{{"type":"struct","fields":[{field}]}},"payload":{payload}}}"#),
        None => payload,
    };
    let Operation::Hint { key } = operation(Ok(decode(&record(Some(&text), None), &topic)?)) else { panic!("a tombstone is a hint") };
    Ok(key.to_string())
}

/// A schema of the field `x`.
pub(super) fn field(kind: &str, name: &str) -> String {
    format!(r#"{{"type":"{kind}","optional":true,"name":"{name}","version":1,"field":"x"}}"#)
}

pub(super) fn plain(kind: &str) -> String {
    format!(r#"{{"type":"{kind}","optional":true,"field":"x"}}"#)
}

fn decimal_field(scale: u16) -> String {
    let name = "org.apache.kafka.connect.data.Decimal";
    format!(r#"{{"type":"bytes","name":"{name}","parameters":{{"scale":"{scale}","connect.decimal.precision":"30"}},"field":"x"}}"#)
}

fn decimal(scale: impl Into<Option<u16>>) -> ColumnType {
    ColumnType::Decimal { scale: scale.into() }
}

/// The same value in every place, with its schema and without.
fn same_everywhere(kind: &ColumnType, json: &str, schema: &str, canonical: &str) {
    for schema in [Some(schema), None] {
        assert_eq!(column(kind, json, schema), canonical, "{kind:?} {json} {schema:?}");
        assert_eq!(key_of(kind, json, schema).unwrap(), canonical, "{kind:?} {json} {schema:?}");
    }
}

/// Clear with a schema; without one reread in a column and a dead letter in a key.
fn clear_with_schema_only(kind: &ColumnType, json: &str, schema: &str, canonical: &str) {
    assert_eq!(column(kind, json, Some(schema)), canonical, "{kind:?} {json} {schema}");
    assert_eq!(key_of(kind, json, Some(schema)).unwrap(), canonical, "{kind:?} {json} {schema}");
    assert_eq!(column(kind, json, None), "reread", "{kind:?} {json}");
    assert!(matches!(key_of(kind, json, None), Err(DecodeError::KeyAmbiguous { .. })), "{kind:?} {json}");
}

fn unreadable(kind: &ColumnType, json: &str, schema: Option<&str>) {
    assert_eq!(column(kind, json, schema), "reread", "{kind:?} {json} {schema:?}");
    let error = key_of(kind, json, schema).unwrap_err();
    assert!(matches!(error, DecodeError::KeyUnreadable { .. } | DecodeError::KeyAmbiguous { .. }), "{kind:?} {json} {schema:?}: {error:?}");
    assert!(!error.hint().is_empty());
}

#[test]
fn h55_decimals_in_base64() {
    for (json, text) in [("D54=", "39.98"), ("/w==", "-0.01"), ("AA==", "0.00"), ("MDk=", "123.45"), ("z8c=", "-123.45")] {
        same_everywhere(&decimal(2), &format!("\"{json}\""), &decimal_field(2), text);
    }
    let whole = [
        ("AQ==", "1"),
        ("Kg==", "42"),
        ("fw==", "127"),
        ("AIA=", "128"),
        ("AP8=", "255"),
        ("/4A=", "-128"),
        ("/38=", "-129"),
        ("AJiWgA==", "10000000"),
        ("AKtUqYzrHwrS", "12345678901234567890"),
    ];
    for (json, text) in whole {
        same_everywhere(&decimal(0), &format!("\"{json}\""), &decimal_field(0), text);
    }
    same_everywhere(&decimal(10), r#""AY7pD/bDc+DuTj8K0g==""#, &decimal_field(10), "12345678901234567890.1234567890");
    // A column without a scale has only the schema's, and keeps no trailing zeros.
    clear_with_schema_only(&decimal(None), r#""D54=""#, &decimal_field(2), "39.98");
    clear_with_schema_only(&decimal(None), r#""AA==""#, &decimal_field(2), "0");
    // The column's scale counts, exactly or not at all.
    assert_eq!(column(&decimal(3), r#""D54=""#, Some(&decimal_field(2))), "39.980");
    unreadable(&decimal(1), r#""D54=""#, Some(&decimal_field(2)));
    unreadable(&decimal(2), r#""""#, Some(&decimal_field(2)));
}

#[test]
fn h55_decimals_as_text_struct_and_number() {
    let variable = field("struct", "io.debezium.data.VariableScaleDecimal");
    same_everywhere(&decimal(None), r#"{"scale":2,"value":"D54="}"#, &variable, "39.98");
    same_everywhere(
        &decimal(2),
        r#"{"scale":9,"value":"XODppWAV/sWq36MorjmBFQ=="}"#.replace("\"scale\":9", "\"scale\":2").as_str(),
        &variable,
        "1234567890123456789012345678901234567.89",
    );
    same_everywhere(&decimal(2), r#""39.98""#, &plain("string"), "39.98");
    same_everywhere(&decimal(2), r#""-0.00""#, &plain("string"), "0.00");
    same_everywhere(&decimal(None), r#""42""#, &plain("string"), "42");
    // 1234 is digits, and base64 of three bytes as well.
    clear_with_schema_only(&decimal(0), r#""1234""#, &plain("string"), "1234");
    clear_with_schema_only(&decimal(None), r#""12345678""#, &plain("string"), "12345678");
    for not in [r#""NaN""#, r#""NAN""#, r#""1e3""#, r#""""#, r#""1,000""#, "true", "[]", r#"{"scale":2}"#] {
        unreadable(&decimal(2), not, None);
        unreadable(&decimal(2), not, Some(&plain("string")));
    }
    // `decimal.format=NUMERIC` is exact, `decimal.handling.mode=double` is not; without a schema a fraction may be either.
    clear_with_schema_only(&decimal(2), "39.98", &decimal_field(2), "39.98");
    unreadable(&decimal(2), "39.98", Some(&plain("double")));
    unreadable(&decimal(0), "1.2345678901234567E19", None);
    assert_eq!(key_of(&decimal(0), "12345678901234567890", None).unwrap(), "12345678901234567890");
}

#[test]
fn h101_exponents_and_scales_cost_nothing() {
    for bomb in ["1e999999999", "1e-999999999", "1e99999999999999999999", "-7E+2147483647"] {
        unreadable(&I64, bomb, None);
        unreadable(&decimal(2), bomb, Some(&decimal_field(2)));
    }
    for scale in ["2147483647", "-2147483647", "9223372036854775807", "-9223372036854775808"] {
        unreadable(&decimal(None), &format!(r#"{{"scale":{scale},"value":"D54="}}"#), None);
    }
    unreadable(&decimal(None), &format!(r#"{{"scale":0,"value":"{}"}}"#, "AAAA".repeat(40_000)), None);
    assert_eq!(column(&I64, "0e999999999", None), "0");
    // More leading zeros than a format's width can have (found by fuzzing).
    assert_eq!(column(&decimal(None), "11E-99364", Some(&plain("int64"))).len(), 2 + 99_364);
    let wide = ColumnType::Decimal { scale: Some(u16::MAX) };
    assert_eq!(wide.canonical("1").map(|text| text.len()), Ok(2 + 65_535));
}

#[test]
fn h55_whole_numbers_are_exact() {
    let int = plain("int64");
    for (json, text) in [
        ("9007199254740993", "9007199254740993"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-0", "0"),
        ("42.0", "42"),
        ("4.2e1", "42"),
        ("1E3", "1000"),
    ] {
        same_everywhere(&I64, json, &int, text);
    }
    same_everywhere(&I64, r#""42""#, &plain("string"), "42");
    same_everywhere(&I64, r#""12345678""#, &plain("string"), "12345678");
    for not in ["42.5", "9223372036854775808", "-9223372036854775809", r#""12abc""#, r#""""#, r#""4e1""#, r#""1,000""#, "true", "[1]", "{}"]
    {
        unreadable(&I64, not, None);
    }
    // The last doubles that stand for one whole number alone, and the first that do not.
    same_everywhere(&I64, "9007199254740991.0", &int, "9007199254740991");
    same_everywhere(&I64, "-9.007199254740991E15", &int, "-9007199254740991");
    for rounded in ["9007199254740992.0", "9.007199254740992E15", "-9007199254740992.0", "9.223372036854775E18", "1e16"] {
        unreadable(&I64, rounded, None);
        unreadable(&I64, rounded, Some(&int));
    }
    unreadable(&I64, "42.0", Some(&plain("double")));
    // The source's column became a date: the number counts days.
    unreadable(&I64, "17702", Some(&field("int32", "io.debezium.time.Date")));
    assert_eq!(
        column(&ColumnType::Int(IntType { bits: 16, unsigned: false }), "2024", Some(&field("int32", "io.debezium.time.Year"))),
        "2024"
    );
}

#[test]
fn h55_unsigned_numbers_arrive_wrapped() {
    same_everywhere(&U64, "-1", &plain("int64"), "18446744073709551615");
    same_everywhere(&U64, "-9223372036854775808", &plain("int64"), "9223372036854775808");
    same_everywhere(&U64, "9223372036854775807", &plain("int64"), "9223372036854775807");
    same_everywhere(&U64, "18446744073709551615", &plain("int64"), "18446744073709551615");
    // `bigint.unsigned.handling.mode=precise`
    same_everywhere(&U64, r#""AP//////////""#, &decimal_field(0), "18446744073709551615");
    // As base64 every text of digits is a negative number, so for an unsigned column they are digits.
    same_everywhere(&U64, r#""1234""#, &plain("string"), "1234");
    unreadable(&U64, r#""/w==""#, Some(&decimal_field(0)));
    // Narrower columns never wrap, and a database's own text is never wrapped.
    unreadable(&ColumnType::Int(IntType { bits: 32, unsigned: true }), "-1", None);
    assert!(U64.canonical("-1").is_err());
}

#[test]
fn dates() {
    let iso = field("string", "io.debezium.time.IsoDate");
    same_everywhere(&ColumnType::Date, "17702", &field("int32", "io.debezium.time.Date"), "2018-06-20");
    same_everywhere(&ColumnType::Date, "17702", &field("int32", "org.apache.kafka.connect.data.Date"), "2018-06-20");
    same_everywhere(&ColumnType::Date, "-719162", &field("int32", "io.debezium.time.Date"), "0001-01-01");
    same_everywhere(&ColumnType::Date, r#""2017-09-15Z""#, &iso, "2017-09-15");
    for not in ["-2147472692", "-719163", "2932897", "1.5", r#""2017-02-30""#, r#""infinity""#, "true"] {
        unreadable(&ColumnType::Date, not, None);
    }
    unreadable(&ColumnType::Date, "17702", Some(&plain("int32")));
    unreadable(&ColumnType::Date, "17702", Some(&field("int64", "io.debezium.time.Timestamp")));
}

#[test]
fn times_of_day() {
    let (ms, us) = (ColumnType::Time { precision: 3 }, ColumnType::Time { precision: 6 });
    clear_with_schema_only(&ms, "14711789", &field("int32", "io.debezium.time.Time"), "04:05:11.789");
    clear_with_schema_only(&us, "14711789000", &field("int64", "io.debezium.time.MicroTime"), "04:05:11.789");
    clear_with_schema_only(&us, "14711789000000", &field("int64", "io.debezium.time.NanoTime"), "04:05:11.789");
    clear_with_schema_only(&us, "86400000000", &field("int64", "io.debezium.time.MicroTime"), "24:00:00");
    same_everywhere(&us, r#""04:05:11.789Z""#, &field("string", "io.debezium.time.IsoTime"), "04:05:11.789");
    // Cut to milliseconds by `time.precision.mode=connect`.
    unreadable(&us, "14711789", Some(&field("int32", "org.apache.kafka.connect.data.Time")));
    unreadable(&us, "-45296789012", Some(&field("int64", "io.debezium.time.MicroTime")));
    unreadable(&us, "86400000001", Some(&field("int64", "io.debezium.time.MicroTime")));
    unreadable(&us, "1", Some(&field("int64", "io.debezium.time.NanoTime")));
    unreadable(&ms, "14711789001", Some(&field("int64", "io.debezium.time.MicroTime")));
}

#[test]
fn timestamps() {
    let (ms, us) = (ColumnType::Timestamp { precision: 3 }, ColumnType::Timestamp { precision: 6 });
    let micro = field("int64", "io.debezium.time.MicroTimestamp");
    clear_with_schema_only(&us, "1529507596945104", &micro, "2018-06-20 15:13:16.945104");
    clear_with_schema_only(&us, "-1", &micro, "1969-12-31 23:59:59.999999");
    clear_with_schema_only(&us, "1529507596945104000", &field("int64", "io.debezium.time.NanoTimestamp"), "2018-06-20 15:13:16.945104");
    clear_with_schema_only(&ms, "1529507596945", &field("int64", "io.debezium.time.Timestamp"), "2018-06-20 15:13:16.945");
    clear_with_schema_only(&ms, "1529507596000", &field("int64", "org.apache.kafka.connect.data.Timestamp"), "2018-06-20 15:13:16");
    same_everywhere(
        &us,
        r#""2018-06-20T15:13:16.945104Z""#,
        &field("string", "io.debezium.time.IsoTimestamp"),
        "2018-06-20 15:13:16.945104",
    );
    unreadable(&us, "1529507596945", Some(&field("int64", "org.apache.kafka.connect.data.Timestamp")));
    for infinity in ["9223372036825200000", "-9223372036832400000"] {
        unreadable(&us, infinity, Some(&micro));
    }
}

#[test]
fn moments() {
    let (kind, zoned) = (ColumnType::TimestampTz { precision: 6 }, field("string", "io.debezium.time.ZonedTimestamp"));
    same_everywhere(&kind, r#""2018-06-20T13:37:03Z""#, &zoned, "2018-06-20 13:37:03+00");
    same_everywhere(&kind, r#""2018-06-20T13:37:03.500000000Z""#, &zoned, "2018-06-20 13:37:03.5+00");
    same_everywhere(&kind, r#""2018-06-20T13:37:03.5+02:00""#, &zoned, "2018-06-20 11:37:03.5+00");
    same_everywhere(&kind, r#""2018-01-01T00:30:00+05:30""#, &zoned, "2017-12-31 19:00:00+00");
    for not in [
        r#""-0043-03-15T00:00:00.000000Z""#,
        r#""-infinity""#,
        r#""2018-06-20T13:37:03""#,
        r#""2018-06-20T13:37:03.0000001Z""#,
        "1529507596945",
    ] {
        unreadable(&kind, not, None);
    }
}

#[test]
fn uuids_in_either_case_and_as_bytes() {
    let (kind, name) = (ColumnType::Uuid, field("string", "io.debezium.data.Uuid"));
    for json in [r#""00112233-4455-6677-8899-aabbccddeeff""#, r#""00112233-4455-6677-8899-AABBCCDDEEFF""#] {
        same_everywhere(&kind, json, &name, "00112233-4455-6677-8899-aabbccddeeff");
    }
    same_everywhere(&kind, r#""ABEiM0RVZneImaq7zN3u/w==""#, &plain("bytes"), "00112233-4455-6677-8899-aabbccddeeff");
    for not in [r#""""#, r#""x""#, r#""ABEi""#, "1", "[]"] {
        unreadable(&kind, not, None);
    }
    unreadable(&kind, r#""00112233-4455-6677-8899-aabbccddeeff""#, Some(&plain("bytes")));
}

#[test]
fn bytes_are_base64_unless_they_could_be_hexadecimal() {
    let kind = ColumnType::Bytes;
    same_everywhere(&kind, r#""ABEiM0RVZneImaq7zN3u/w==""#, &plain("bytes"), "00112233445566778899aabbccddeeff");
    same_everywhere(&kind, r#""AP8Q""#, &plain("bytes"), "00ff10");
    same_everywhere(&kind, r#""""#, &plain("bytes"), "");
    // Four hexadecimal digits are four digits of base64 as well.
    clear_with_schema_only(&kind, r#""00ff""#, &plain("bytes"), "d347df");
    unreadable(&kind, r#""00ff""#, Some(&plain("string")));
    unreadable(&kind, r#""00ff10""#, Some(&plain("string")));
    unreadable(&kind, r#""00ff10""#, None);
    unreadable(&kind, r#""qgo=""#, Some(&field("bytes", "io.debezium.data.Bits")));
}

#[test]
fn h56_texts_are_kept_byte_for_byte_and_padding_is_not_text() {
    let string = plain("string");
    same_everywhere(&ColumnType::Text, r#""Straße ☃ ""#, &string, "Straße ☃ ");
    same_everywhere(&ColumnType::Text, r#""AQ==""#, &string, "AQ==");
    same_everywhere(&ColumnType::Text, r#""\u0061\ud83d\ude00""#, &string, "a😀");
    same_everywhere(&ColumnType::Char, r#""c    ""#, &string, "c");
    same_everywhere(&ColumnType::Char, r#""c""#, &string, "c");
    same_everywhere(&ColumnType::Text, "42", &plain("int64"), "42");
    for not in ["42.0", "4e1", "-0", "true", "[]", "{}"] {
        unreadable(&ColumnType::Text, not, None);
    }
    unreadable(&ColumnType::Text, "17702", Some(&field("int32", "io.debezium.time.Date")));
    unreadable(&ColumnType::Text, r#""AP8Q""#, Some(&plain("bytes")));
}

#[test]
fn truth_values() {
    for (json, schema, text) in
        [("true", "boolean", "true"), ("false", "boolean", "false"), ("1", "int16", "true"), ("0", "int16", "false")]
    {
        same_everywhere(&ColumnType::Bool, json, &plain(schema), text);
    }
    for not in ["2", "-1", "1.0", r#""yes""#, "[]"] {
        unreadable(&ColumnType::Bool, not, None);
    }
    unreadable(&I64, "true", None);
}

#[test]
fn columns_that_are_only_passed_on() {
    assert_eq!(column(&ColumnType::Float, "0.1", None), "0.1");
    assert_eq!(column(&ColumnType::Float, "1.0", Some(&plain("double"))), "1");
    assert_eq!(column(&ColumnType::Float, "1.0E38", None), "1e38");
    assert_eq!(column(&ColumnType::Float, r#""Infinity""#, None), "Infinity");
    assert_eq!(column(&ColumnType::Json, r#""{\"a\": 1}""#, None), r#"{"a": 1}"#);
    assert_eq!(column(&ColumnType::Json, r#"{"a":1}"#, None), r#"{"a":1}"#);
    let other = |name: &str| ColumnType::Other(name.to_owned());
    assert_eq!(column(&other("inet"), r#""10.0.0.1/8""#, None), "10.0.0.1/8");
    assert_eq!(column(&other("int4range"), r#""[1,5)""#, None), "[1,5)");
    assert_eq!(
        column(&other("interval"), r#""P1Y2M3DT4H5M6.78S""#, Some(&field("string", "io.debezium.time.Interval"))),
        "P1Y2M3DT4H5M6.78S"
    );
    for (name, json) in
        [("bit", r#""qgo=""#), ("interval", "37091106000000"), ("text[]", r#"["a"]"#), ("point", r#"{"x":1.0}"#), ("money", r#""BNI=""#)]
    {
        assert_eq!(column(&other(name), json, None), "reread", "{name}");
    }
}

#[test]
fn h55_captured_rows_with_and_without_schema_agree() {
    // Every column that the schemaless capture yields has the same text in the capture with schemas; keys too.
    for (bare, full) in [("postgres-types-default", "postgres-types-default-schemas"), ("mariadb-types", "mariadb-types-schemas")] {
        let events = |name: &str| -> Vec<Option<ChangeEvent>> {
            let (file, text) = samples::files().into_iter().find(|(file, _)| file == name).unwrap();
            let records = samples::records(&text);
            let specs = samples::specs(&file, &records);
            let decoded = records.iter().map(|record| decode(record, &specs[&record.at.partition.topic]));
            decoded
                .map(|decoded| {
                    decoded.ok().and_then(|decoded| match decoded.content {
                        Content::Events(events) => events.into_iter().next(),
                        Content::Skipped(_) => None,
                    })
                })
                .collect()
        };
        let (bare, full) = (events(bare), events(full));
        assert_eq!(bare.len(), full.len());
        let mut compared = 0;
        for (bare, full) in bare.iter().zip(&full).filter_map(|(bare, full)| Some((bare.as_ref()?, full.as_ref()?))) {
            assert_eq!(bare.operation, full.operation);
            for (column, cell) in &bare.after {
                assert!(*cell == full.after[column] || (*cell == Cell::Unknown && bare.reread), "{column}");
                compared += 1;
            }
        }
        assert!(compared > 90, "{compared}");
    }
}

#[test]
fn h55_a_number_that_was_a_double_on_its_way_is_never_taken_for_exact() {
    for kind in [decimal(2), decimal(None), I64] {
        for json in ["1", "1.5", "39.98"] {
            assert_eq!(column(&kind, json, Some(&plain("double"))), "reread", "{kind:?} {json}");
            assert!(matches!(key_of(&kind, json, Some(&plain("double"))), Err(DecodeError::KeyAmbiguous { .. })), "{kind:?} {json}");
        }
    }
}
