//! The key corpus (H54 to H59): more than two hundred values per database, each told as gone in turn. Only rows that hold exactly that value go,
//! whichever others are there; while the parents live, none goes.

use entail::change::{Position, Record};
use serde_json::{Value, json};

use crate::support::engine::partition;
use crate::support::world::*;

/// A column's type, how a connector sends it, and values: what the connector sends, and the same in SQL. Each is another value than the rest.
struct Kind {
    column: &'static str,
    wire: &'static str,
    values: Vec<(Value, String)>,
    /// Values that are sent, and that no row holds: refused, or without effect.
    strangers: Vec<Value>,
}

fn kind<const N: usize, const M: usize>(
    column: &'static str,
    wire: &'static str,
    values: [(Value, &str); N],
    strangers: [Value; M],
) -> Kind {
    Kind { column, wire, values: values.map(|(sent, sql)| (sent, sql.to_owned())).into(), strangers: strangers.into() }
}

/// Texts that one or another database takes for each other: case, padding, numbers, Unicode forms, what looks alike.
const TEXTS: [&str; 64] = [
    "",
    " ",
    "  ",
    "\t",
    "a",
    "A",
    "a ",
    " a",
    "a\t",
    "abc",
    "ABC",
    "Abc",
    "12abc",
    "0",
    "00",
    "-0",
    "+0",
    "0.0",
    "1",
    "01",
    "1.0",
    "1.00",
    "1e0",
    "1e3",
    "1000",
    "1,000",
    "0x1",
    "true",
    "t",
    "false",
    "null",
    "NULL",
    "NaN",
    "Infinity",
    "é",
    "e\u{301}",
    "É",
    "ß",
    "ss",
    "ẞ",
    "ı",
    "i",
    "İ",
    "I",
    "ﬁ",
    "fi",
    "１",
    "①",
    "²",
    "2",
    "a\u{200b}",
    "\u{feff}a",
    "a\u{a0}",
    "а",
    "𝄞",
    "\\",
    "\\\\",
    "'",
    "''",
    "\"",
    "%",
    "_",
    "a\nb",
    "a\r\nb",
];

fn texts(column: &'static str, texts: impl Iterator<Item = &'static str>) -> Kind {
    let sql = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Kind {
        column,
        wire: "string",
        values: texts.map(|text| (json!(text), sql(text))).collect(),
        strangers: vec![json!(0), json!(true), json!(1.0), json!("b"), json!(null)],
    }
}

fn whole(column: &'static str, wire: &'static str, numbers: &[i64]) -> Kind {
    let values = numbers.iter().map(|number| (json!(number), number.to_string())).collect();
    // 2^53 and its neighbours as doubles are no whole numbers of anybody.
    let strangers = vec![json!("abc"), json!("12abc"), json!(""), json!(1.5), json!(9007199254740992.0), json!(null), json!(77)];
    Kind { column, wire, values, strangers }
}

const BIG: [i64; 20] = [
    0,
    1,
    -1,
    10,
    100,
    1000,
    9007199254740991,
    9007199254740992,
    9007199254740993,
    -9007199254740992,
    -9007199254740993,
    4294967295,
    4294967296,
    2147483647,
    2147483648,
    -2147483648,
    9223372036854775806,
    9223372036854775807,
    -9223372036854775807,
    -9223372036854775808,
];
const MIDDLE: [i64; 12] = [0, 1, -1, 255, 256, 32767, 32768, -32768, 16777216, 16777217, 2147483647, -2147483648];
const SMALL: [i64; 8] = [0, 1, -1, 127, 128, 255, 32767, -32768];

fn postgres() -> Vec<Kind> {
    vec![
        texts("text", TEXTS.into_iter()),
        texts("varchar(40)", TEXTS.into_iter()),
        // Padding is no part of a blank-padded value.
        texts("char(8)", TEXTS.into_iter().filter(|text| !text.ends_with(' '))),
        whole("bigint", "int64", &BIG),
        whole("integer", "int32", &MIDDLE),
        whole("smallint", "int16", &SMALL),
        kind(
            "numeric",
            "string",
            [
                (json!("0"), "0"),
                (json!("0.1"), "0.1"),
                (json!("0.10000000000000000001"), "0.10000000000000000001"),
                (json!("1"), "1.00"),
                (json!("-1"), "-1.0"),
                (json!("1000"), "1e3"),
                (json!("1.2311"), "1.2311"),
                (json!("1.23"), "1.230"),
                (json!("9007199254740993"), "9007199254740993"),
                (json!("9007199254740992"), "9007199254740992.0"),
                (json!("123456789012345678901234567890.5"), "123456789012345678901234567890.50"),
                (json!("123456789012345678901234567890"), "123456789012345678901234567890"),
            ],
            [json!("1.1"), json!("abc"), json!(""), json!("1.0000000001"), json!("0x0")],
        ),
        kind(
            "numeric(10,2)",
            "string",
            [
                (json!("0.00"), "0"),
                (json!("1.23"), "1.23"),
                (json!("1.24"), "1.24"),
                (json!("-1.23"), "-1.23"),
                (json!("99999999.99"), "99999999.99"),
            ],
            [json!("1.2311"), json!("1.235"), json!("99999999.994"), json!("1.2300001")],
        ),
        kind("boolean", "boolean", [(json!(true), "true"), (json!(false), "false")], [json!("maybe"), json!(2), json!(null)]),
        kind(
            "uuid",
            "string",
            [
                (json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
                (json!("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12"), "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"),
                (json!("00000000-0000-0000-0000-000000000000"), "'00000000-0000-0000-0000-000000000000'"),
                (json!("ffffffff-ffff-ffff-ffff-ffffffffffff"), "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
            ],
            [json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1"), json!(""), json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13")],
        ),
        kind(
            "bytea",
            "bytes",
            [
                (json!(""), "''"),
                (json!("AA=="), "'\\x00'"),
                (json!("AAA="), "'\\x0000'"),
                (json!("MA=="), "'\\x30'"),
                (json!("AP8KIg=="), "'\\x00ff0a22'"),
                (json!("YQ=="), "'\\x61'"),
                (json!("QQ=="), "'\\x41'"),
                (json!("YSA="), "'\\x6120'"),
            ],
            [json!("A"), json!("/w=="), json!("not base64")],
        ),
        kind(
            "date",
            "string",
            [
                (json!("1970-01-01"), "'1970-01-01'"),
                (json!("2000-02-29"), "'2000-02-29'"),
                (json!("2000-03-01"), "'2000-03-01'"),
                (json!("0001-01-01"), "'0001-01-01'"),
                (json!("9999-12-31"), "'9999-12-31'"),
            ],
            [json!("2001-02-29"), json!("01/02/2000"), json!("2000-2-9"), json!("today"), json!("")],
        ),
        kind(
            "timestamp",
            "string",
            [
                (json!("2020-01-01T00:00:00Z"), "'2020-01-01 00:00:00'"),
                (json!("2020-01-01T00:00:00.000001Z"), "'2020-01-01 00:00:00.000001'"),
                (json!("2020-01-01T00:00:00.1Z"), "'2020-01-01 00:00:00.1'"),
                (json!("2020-01-01T00:00:00.100001Z"), "'2020-01-01 00:00:00.100001'"),
                (json!("1969-12-31T23:59:59.999999Z"), "'1969-12-31 23:59:59.999999'"),
            ],
            [json!("2020-01-01T00:00:00.0000001Z"), json!("now"), json!("2020-01-01T00:00:60Z"), json!("")],
        ),
        kind(
            "timestamptz",
            "string",
            [
                (json!("2020-01-01T00:00:00Z"), "'2020-01-01 02:00:00+02'"),
                (json!("2020-01-01T02:00:00+01:00"), "'2020-01-01 01:00:00+00'"),
                (json!("2020-03-29T01:00:00Z"), "'2020-03-29 03:00:00+02'"),
                (json!("2020-03-29T01:00:00.000001Z"), "'2020-03-29 01:00:00.000001+00'"),
            ],
            [json!("2020-01-01T00:00:00"), json!("2020-01-01"), json!("")],
        ),
        kind(
            "time",
            "string",
            [
                (json!("00:00:00Z"), "'00:00:00'"),
                (json!("00:00:00.000001Z"), "'00:00:00.000001'"),
                (json!("23:59:59.999999Z"), "'23:59:59.999999'"),
                (json!("12:00:00Z"), "'12:00:00'"),
            ],
            [json!("12:00"), json!("noon"), json!("12:00:00.0000001Z")],
        ),
    ]
}

fn sqlite() -> Vec<Kind> {
    vec![
        texts("TEXT", TEXTS.into_iter()),
        texts("VARCHAR(40)", TEXTS.into_iter()),
        texts("CHARACTER(8)", TEXTS.into_iter()),
        whole("INTEGER", "int64", &BIG),
        whole("BIGINT", "int64", &BIG),
        whole("INT", "int32", &MIDDLE),
        whole("SMALLINT", "int16", &SMALL),
        kind("BOOLEAN", "boolean", [(json!(true), "1"), (json!(false), "0")], [json!("maybe"), json!(2), json!(null)]),
    ]
}

fn rules() -> String {
    THINGS.replace("key: id, topic", "key: k, topic")
}

fn event(kind: &Kind, sent: &Value, offset: i64) -> Record {
    let field = json!({"field": "k", "type": kind.wire, "optional": false});
    let row = |name: &str| json!({"field": name, "type": "struct", "optional": true, "fields": [field]});
    let key = json!({"schema": {"type": "struct", "fields": [field], "optional": false}, "payload": {"k": sent}});
    let source = json!({"connector": "postgresql", "name": "crm", "schema": "public", "table": "customers", "lsn": 10_000 + offset});
    let texts = ["connector", "name", "schema", "table"].map(|name| json!({"field": name, "type": "string"}));
    let fields: Vec<Value> = texts.into_iter().chain([json!({"field": "lsn", "type": "int64"})]).collect();
    let schema = json!({"type": "struct", "optional": false, "fields": [row("before"), row("after"),
        {"field": "source", "type": "struct", "fields": fields}, {"field": "op", "type": "string"}]});
    let value = json!({"schema": schema, "payload": {"before": {"k": sent}, "after": null, "op": "d", "source": source}});
    Record {
        at: Position { partition: partition("crm.customers"), offset },
        timestamp: None,
        key: Some(key.to_string().into_bytes()),
        value: Some(value.to_string().into_bytes()),
        headers: Vec::new(),
    }
}

/// What is left, by the numbers of the values.
async fn left(world: &World) -> Vec<usize> {
    let all =
        lines(&world.shop, "SELECT CAST(id AS TEXT) FROM things UNION ALL SELECT CAST(id AS TEXT) FROM others WHERE customer IS NOT NULL")
            .await;
    let mut all: Vec<usize> = all.iter().map(|id| id.parse().expect("a number")).collect();
    all.sort_unstable();
    all
}

async fn fill(world: &World, kind: &Kind) {
    let rows = |table: &str| {
        let rows: Vec<String> = kind.values.iter().enumerate().map(|(id, (_, sql))| format!("({id}, {sql})")).collect();
        format!("DELETE FROM {table}; INSERT INTO {table} (id, customer) VALUES {};", rows.join(", "))
    };
    sql(&world.shop, &format!("{}{}", rows("things"), rows("others"))).await;
}

/// Tells of each of these values as gone, and names those after which anything else is left than should be.
async fn tell(world: &mut World, kind: &Kind, order: Vec<usize>, goes: bool) -> Vec<String> {
    fill(world, kind).await;
    let mut there: Vec<usize> = (0..kind.values.len()).flat_map(|place| [place, place]).collect();
    let mut wrong = Vec::new();
    for place in order {
        let sent = &kind.values[place].0;
        world.offset += 1;
        world.record(event(kind, sent, world.offset)).await.unwrap_or_else(|error| panic!("{} {sent}: {error}", kind.column));
        there.retain(|other| !goes || *other != place);
        let left = left(world).await;
        if left != there {
            wrong.push(format!("{} {sent}: left {left:?}, not {there:?}", kind.column));
            there = left;
        }
    }
    wrong
}

async fn corpus(postgres: bool, kind: &Kind) -> Vec<String> {
    let tables = |column: &str| {
        let child = |name: &str| {
            format!("CREATE TABLE {name} (id bigint PRIMARY KEY, customer {column}, t text); CREATE INDEX {name}c ON {name} (customer);")
        };
        format!("{}{}", child("things"), child("others"))
    };
    let parents = format!("CREATE TABLE customers (k {} NOT NULL PRIMARY KEY);", kind.column);
    let mut world = World::new(postgres, &parents, &tables(kind.column), &rules()).await;
    let every = kind.values.len();
    let mut wrong = Vec::new();
    fill(&world, kind).await;
    for stranger in &kind.strangers {
        world.offset += 1;
        let refused = world.record(event(kind, stranger, world.offset)).await.is_err();
        let left = left(&world).await;
        if left.len() != 2 * every {
            wrong.push(format!("{} {stranger}, which no row holds (refused: {refused}): left {left:?}", kind.column));
            fill(&world, kind).await;
        }
    }
    wrong.extend(tell(&mut world, kind, (0..every).collect(), true).await);
    wrong.extend(tell(&mut world, kind, (0..every).rev().collect(), true).await);
    let alive: Vec<String> = kind.values.iter().map(|(_, sql)| format!("({sql})")).collect();
    sql(&world.crm, &format!("INSERT INTO customers VALUES {}", alive.join(", "))).await;
    wrong.extend(tell(&mut world, kind, (0..every).collect(), false).await);
    wrong
}

async fn all(postgres: bool, kinds: Vec<Kind>) {
    let values: usize = kinds.iter().map(|kind| kind.values.len()).sum();
    assert!(values >= 200, "{values} values");
    let mut wrong = Vec::new();
    for kind in &kinds {
        wrong.extend(corpus(postgres, kind).await);
    }
    eprintln!("key corpus, postgres {postgres}: {values} values of {} types, {} wrong", kinds.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn h54_only_the_very_value_matches_on_postgres() {
    all(true, postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h59_only_the_very_value_matches_on_sqlite() {
    all(false, sqlite()).await;
}
