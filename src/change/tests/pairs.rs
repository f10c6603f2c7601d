//! Every column type under every schema, with every kind of JSON: what is read, and what is not.

use super::values::{column, field, plain};
use super::*;

fn schemas() -> Vec<(&'static str, Option<String>)> {
    let named = |kind: &str, name: &str| Some(field(kind, name));
    let scaled = r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"x"}"#;
    vec![
        ("none", None),
        ("boolean", Some(plain("boolean"))),
        ("int64", Some(plain("int64"))),
        ("double", Some(plain("double"))),
        ("string", Some(plain("string"))),
        ("bytes", Some(plain("bytes"))),
        ("Decimal", Some(scaled.to_owned())),
        ("VariableScaleDecimal", named("struct", "io.debezium.data.VariableScaleDecimal")),
        ("Date", named("int32", "io.debezium.time.Date")),
        ("MicroTime", named("int64", "io.debezium.time.MicroTime")),
        ("MicroTimestamp", named("int64", "io.debezium.time.MicroTimestamp")),
        ("MicroDuration", named("int64", "io.debezium.time.MicroDuration")),
    ]
}

/// What a column of this type reads, schema by schema: `text (schemas)`. Where nothing is said the row is read from its owner.
fn read(kind: &ColumnType, json: &str) -> String {
    let mut under: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, schema) in schemas() {
        let text = column(kind, json, schema.as_deref());
        match under.iter_mut().find(|(known, _)| *known == text) {
            Some((_, names)) => names.push(name),
            None => under.push((text, vec![name])),
        }
    }
    let told = under.into_iter().filter(|(text, _)| text != "reread").map(|(text, names)| format!("{text} ({})", names.join(" ")));
    told.collect::<Vec<_>>().join(", ")
}

const JSONS: [&str; 13] = [
    "true",
    "1",
    "17.5",
    r#""1""#,
    r#""AP8Q""#,
    r#""2018-06-20""#,
    r#""04:05:11""#,
    r#""2018-06-20 15:13:16""#,
    r#""2018-06-20T15:13:16Z""#,
    r#""00112233-4455-6677-8899-aabbccddeeff""#,
    r#""ABEiM0RVZneImaq7zN3u/w==""#,
    r#"{"scale":0,"value":"AQ=="}"#,
    "[1]",
];

#[test]
fn h55_a_value_is_read_under_the_schemas_that_fit_and_under_no_other() {
    use ColumnType as T;
    let decimal = |scale| T::Decimal { scale };
    let uuid = "00112233-4455-6677-8899-aabbccddeeff (none string)";
    // By type: which of the values above are read, and as what.
    let cases: [(T, &[(usize, &str)]); 12] = [
        (T::Bool, &[(0, "true (none boolean)"), (1, "true (none int64)"), (3, "true (none string)")]),
        (I64, &[(1, "1 (none int64 Decimal)"), (3, "1 (none string)"), (11, "1 (none VariableScaleDecimal)")]),
        (U64, &[(1, "1 (none int64 Decimal)"), (3, "1 (none string)"), (4, "65296 (none)"), (11, "1 (none VariableScaleDecimal)")]),
        (
            decimal(Some(2)),
            &[
                (1, "1.00 (none int64 Decimal)"),
                (2, "17.50 (int64 Decimal)"),
                (3, "1.00 (none string)"),
                (4, "652.96 (none Decimal)"),
                (10, "889627103061277028662417274331420.15 (none Decimal)"),
                (11, "1.00 (none VariableScaleDecimal)"),
            ],
        ),
        (
            decimal(None),
            &[
                (1, "1 (none int64 Decimal)"),
                (2, "17.5 (int64 Decimal)"),
                (3, "1 (none string)"),
                (4, "652.96 (Decimal)"),
                (10, "889627103061277028662417274331420.15 (Decimal)"),
                (11, "1 (none VariableScaleDecimal)"),
            ],
        ),
        (T::Float, &[(1, "1 (none int64 double)"), (2, "17.5 (none int64 double)"), (3, "1 (none double string)")]),
        (T::Uuid, &[(9, uuid), (10, "00112233-4455-6677-8899-aabbccddeeff (none bytes)")]),
        (T::Bytes, &[(4, "00ff10 (none string bytes)"), (10, "00112233445566778899aabbccddeeff (none string bytes)")]),
        (T::Date, &[(1, "1970-01-02 (none Date)"), (5, "2018-06-20 (none string)")]),
        (T::Time { precision: 6 }, &[(1, "00:00:00.000001 (MicroTime)"), (6, "04:05:11 (none string)")]),
        (
            T::Timestamp { precision: 6 },
            &[
                (1, "1970-01-01 00:00:00.000001 (MicroTimestamp)"),
                (7, "2018-06-20 15:13:16 (none string)"),
                (8, "2018-06-20 15:13:16 (none string)"),
            ],
        ),
        (T::TimestampTz { precision: 6 }, &[(8, "2018-06-20 15:13:16+00 (none string)")]),
    ];
    for (kind, expected) in cases {
        for (place, json) in JSONS.iter().enumerate() {
            let expected = expected.iter().find(|(which, _)| *which == place).map_or("", |(_, text)| text);
            assert_eq!(read(&kind, json), expected, "{kind:?} {json}");
        }
    }
}

#[test]
fn h55_texts_are_read_as_they_are_where_the_schema_says_text() {
    use ColumnType as T;
    let number = |kind: &T| if matches!(kind, T::Text | T::Char) { "1 (none int64)" } else { "" };
    let any = schemas().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    for (kind, under) in [
        (T::Text, "none string"),
        (T::Char, "none string"),
        (T::Json, "none string"),
        (T::Other("inet".into()), "none string"),
        (T::Other("bit".into()), "string"),
    ] {
        for json in JSONS {
            let expected = match json.as_bytes()[0] {
                b'"' => format!("{} ({under})", json.trim_matches('"')),
                b'{' | b'[' if kind == T::Json => format!("{json} ({any})"),
                b'1' if json == "1" => number(&kind).to_owned(),
                _ => String::new(),
            };
            assert_eq!(read(&kind, json), expected, "{kind:?} {json}");
        }
    }
}
