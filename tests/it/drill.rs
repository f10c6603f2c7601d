//! The undo drill: many cascades of random depth over two services, all put back by the real binary, which is killed -9 on the way (H93). After that
//! the databases are what they were, byte by byte. `ENTAIL_CASCADES` makes it larger.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use entail::engine::{Authority, Batch};
use entail::undo::OnConflict;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::worker::entail;
use crate::support::world::*;

/// Levels below a root. They stand in the shop and the crm by turns.
const DEPTH: usize = 6;
/// Roots that one batch tells of.
const ROOTS: usize = 100;
const KILLS: u32 = 9;

struct Kind {
    postgres: bool,
    /// The columns beside `id` and `parent`.
    columns: &'static str,
    /// Values for them that are hard to keep.
    values: &'static [&'static str],
}

const POSTGRES: Kind = Kind {
    postgres: true,
    columns: "share numeric, price numeric(12,4), doc jsonb, raw bytea, seen timestamptz, marks text[], ratio float8, span int4range",
    values: &[
        "'NaN', 1.5, '{\"a\": [1.0, null]}', '\\x00ff', 'infinity', '{a,\"b,c\",NULL}', '-0', '[1,5)'",
        "1.500, NULL, 'null', '', '0044-03-15 12:00:00.123456+00 BC', '{}', 'NaN', 'empty'",
        "-0.000001, -99999999.9999, '\"\\\"\"', NULL, '2026-11-27 10:00:00.5+02', NULL, 1e-300, NULL",
        "1e130, 0, NULL, '\\xdeadbeef', '294276-12-31 23:59:59.999999+00', '{{1,2},{3,4}}', '-infinity', '(,7]'",
    ],
};
const SQLITE: Kind = Kind {
    postgres: false,
    columns: "share NUMERIC, price REAL, doc TEXT, raw BLOB, seen",
    values: &[
        "1.5, -0.0, 'it''s', x'00ff', 'text'",
        "'1.500x', 9e999, '', x'', 7",
        "NULL, NULL, char(0, 65), NULL, x'41'",
        "0.1, 1e-300, 'ü', 'no blob', NULL",
        "3.2e150 / 7, -1e200 / 3, 1e-310 / 7, x'00', 4.9e-324",
    ],
};

fn table(level: usize) -> String {
    if level == 0 { "roots".to_owned() } else { format!("l{level}") }
}

fn service(level: usize) -> &'static str {
    if level.is_multiple_of(2) { "crm" } else { "shop" }
}

fn rules() -> String {
    let mut entities = "  - { name: crm.root, table: roots, key: id, topic: crm.roots }\n".to_owned();
    let mut references = String::new();
    for level in 1..=DEPTH {
        let (name, parent) = (format!("{}.l{level}", service(level)), level - 1);
        let above = if parent == 0 { "crm.root".to_owned() } else { format!("{}.l{parent}", service(parent)) };
        writeln!(entities, "  - {{ name: {name}, table: l{level}, key: id, topic: {name} }}").expect("a text");
        writeln!(references, "  - {{ name: l{level}_parent, child: {name}, columns: parent, parent: {above}, on_delete: cascade }}")
            .expect("a text");
        // Beside it, rows that only let go.
        writeln!(entities, "  - {{ name: {0}.n{level}, table: n{level}, key: id }}", service(level)).expect("a text");
        let child = format!("{}.n{level}", service(level));
        writeln!(references, "  - {{ name: n{level}_parent, child: {child}, columns: parent, parent: {above}, on_delete: set_null }}")
            .expect("a text");
    }
    let limits = "limits: { rows_per_event: 1000, rows: { count: 10000000, per: 10m } }";
    format!("version: 1\nmode: enforce\nentities:\n{entities}references:\n{references}{limits}\n")
}

fn tables(kind: &Kind, of: &str) -> String {
    let mut sql = if of == "crm" { "CREATE TABLE roots (id bigint PRIMARY KEY);".to_owned() } else { String::new() };
    for level in (1..=DEPTH).filter(|level| service(*level) == of) {
        for name in [format!("l{level}"), format!("n{level}")] {
            let columns = kind.columns;
            write!(sql, "CREATE TABLE {name} (id bigint PRIMARY KEY, parent bigint, {columns}); CREATE INDEX {name}p ON {name} (parent);")
                .expect("a text");
        }
    }
    sql
}

/// Fills both services; root 0 and its tree stay.
async fn fill(world: &World, kind: &Kind, cascades: usize, rng: &mut fastrand::Rng) {
    let mut rows: std::collections::BTreeMap<(&str, String), Vec<String>> = std::collections::BTreeMap::new();
    let mut next = 0;
    for root in 0..=cascades {
        rows.entry(("crm", table(0))).or_default().push(format!("({root})"));
        let mut above = vec![root];
        for level in 1..=rng.usize(1..=DEPTH) {
            let mut row = |name: String, parent: usize, rng: &mut fastrand::Rng| {
                next += 1;
                let values = kind.values[rng.usize(..kind.values.len())];
                rows.entry((service(level), name)).or_default().push(format!("({next}, {parent}, {values})"));
                next
            };
            let mut here = Vec::new();
            for parent in above {
                for _ in 0..rng.usize(1..=2) {
                    here.push(row(format!("l{level}"), parent, rng));
                }
                if rng.u8(..3) == 0 {
                    row(format!("n{level}"), parent, rng);
                }
            }
            here.truncate(3);
            above = here;
        }
    }
    for ((service, table), rows) in rows {
        let url = if service == "crm" { &world.crm } else { &world.shop };
        for rows in rows.chunks(500) {
            sql(url, &format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
        }
    }
}

/// Every row of both, as text that tells the last byte.
async fn state(world: &World, kind: &Kind) -> Vec<String> {
    let mut all = lines(&world.crm, "SELECT CAST(id AS TEXT) FROM roots ORDER BY id").await;
    let names: Vec<&str> = kind.columns.split(", ").filter_map(|column| column.split(' ').next()).collect();
    for level in 1..=DEPTH {
        let url = if service(level) == "crm" { &world.crm } else { &world.shop };
        for name in [format!("l{level}"), format!("n{level}")] {
            let row = if kind.postgres {
                "t::text".to_owned()
            } else {
                let exact = |name: &&str| {
                    format!(
                        "typeof({name}) || quote(CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END) ||
                        CASE typeof({name}) WHEN 'real' THEN quote({name} - CAST(quote({name}) AS REAL)) ELSE '' END"
                    )
                };
                ["id", "parent"].iter().chain(&names).map(exact).collect::<Vec<_>>().join(" || ',' || ")
            };
            let rows = lines(url, &format!("SELECT {row} FROM {name} AS t ORDER BY id")).await;
            all.extend(rows.into_iter().map(|row| format!("{name} {row}")));
        }
    }
    all
}

/// Tells of the end of all roots but 0.
async fn cascade(world: &World, cascades: usize) {
    sql(&world.crm, "DELETE FROM roots WHERE id > 0").await;
    let roots: Vec<i64> = (1..=i64::try_from(cascades).expect("not so many")).collect();
    for part in roots.chunks(ROOTS) {
        let mut batch = Batch::default();
        for id in part {
            batch.events.extend(world.batch(("crm.roots", *id), *id, Some(&delete("crm", "roots", *id))).events);
        }
        world.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
    }
}

async fn drill(kind: &Kind, cascades: usize, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new(kind.postgres, &tables(kind, "crm"), &tables(kind, "shop"), &rules()).await;
    fill(&world, kind, cascades, &mut rng).await;
    let before = state(&world, kind).await;
    cascade(&world, cascades).await;
    let gone = before.len() - state(&world, kind).await.len();
    assert!(gone > 2 * cascades, "only {gone} rows have gone");
    let roots: Vec<String> = (1..=cascades).map(|root| format!("({root})")).collect();
    for roots in roots.chunks(500) {
        sql(&world.crm, &format!("INSERT INTO roots VALUES {}", roots.join(", "))).await;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = dir.path().join("entail.yaml");
    std::fs::write(dir.path().join("rules.yaml"), rules()).expect("written");
    let (crm, shop) = (&world.crm, &world.shop);
    let settings = format!(
        "version: 1\nrules: rules.yaml\nkafka: {{ brokers: \"127.0.0.1:1\", group: it }}\ndead_letters: {{ topic: none }}\ndatabases:\n  crm: {{ url: \"{crm}\" }}\n  shop: {{ url: \"{shop}\" }}\n"
    );
    std::fs::write(&config, settings).expect("written");
    let (code, said, errors) = entail(&config, &["undo", "--since", "6h", "--dry-run"]).await;
    assert_eq!(code, 0, "{said}{errors}");
    let listed = said.lines().filter(|line| line.starts_with("cascade ")).count();
    assert!(
        listed == 20 && said.contains(&format!("and {} more cascades", cascades - 20)),
        "a person reads no list of thousands: {listed}"
    );
    // Longer and longer, so that some reach the middle on any machine.
    let (mut killed, mut most) = (0, 100.max(u64::try_from(cascades / 10).expect("a number")));
    let began = Instant::now();
    for _ in 0..KILLS {
        let mut undo = Command::new(env!("CARGO_BIN_EXE_entail"));
        undo.arg("--config").arg(&config).args(["undo", "--since", "6h"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut undo = undo.spawn().expect("the binary starts");
        // The random moment of the kill.
        tokio::time::sleep(Duration::from_millis(rng.u64(1..=most))).await;
        undo.kill().expect("a child of ours");
        killed += u32::from(!undo.wait().expect("it ends").success());
        most = most * 3 / 2;
    }
    let (code, said, errors) = entail(&config, &["undo", "--since", "6h"]).await;
    assert!(killed > 0, "every kill came too late");
    let after = state(&world, kind).await;
    let told = said.lines().filter(|line| !line.starts_with("cascade ")).collect::<Vec<_>>().join("\n");
    let changed: Vec<_> = before.iter().zip(&after).filter(|(then, now)| then != now).take(5).collect();
    assert!(before == after, "WRONG UNDO: {} rows, then {}: {changed:#?}\n{told}", before.len(), after.len());
    assert_eq!(code, 0, "{told}{errors}");
    println!(
        "postgres: {}; {cascades} cascades, {gone} rows gone and put back in {:?} with {killed} kills; seed {seed}",
        kind.postgres,
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn h93_cascades_of_any_depth_go_back_to_the_last_byte_under_kill_9() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cascades = usize::try_from(number("ENTAIL_CASCADES").unwrap_or(150)).expect("a number");
    let seed = number("ENTAIL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("ENTAIL_SEED={seed}");
    for kind in [POSTGRES, SQLITE] {
        drill(&kind, cascades, seed).await;
    }
}

/// SQLite prints large and small floating point numbers so that it reads their neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn h94_every_floating_point_number_of_sqlite_comes_back() {
    let seed = std::env::var("ENTAIL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("ENTAIL_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut numbers = vec![f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NEG_INFINITY, 0.1, 1e-300];
    numbers.extend((0..3_000).map(|_| f64::from_bits(rng.u64(..))).filter(|number| !number.is_nan()));
    let tables = "CREATE TABLE things (id INTEGER PRIMARY KEY, customer INTEGER, t REAL); CREATE INDEX tc ON things (customer);
        CREATE TABLE others (id INTEGER PRIMARY KEY, customer INTEGER, t REAL); CREATE INDEX oc ON others (customer);";
    let rules = THINGS.replace("rows_per_event: 20, rows: { count: 1000", "rows_per_event: 5000, rows: { count: 5000");
    let mut world = World::new(false, CUSTOMERS, tables, &rules).await;
    let mut connection = SqliteConnection::connect(&world.shop).await.expect("connects");
    let mut transaction = connection.begin().await.expect("begins");
    for number in &numbers {
        sqlx::query("INSERT INTO things (customer, t) VALUES (1, $1)").bind(number).execute(&mut *transaction).await.expect("inserted");
    }
    transaction.commit().await.expect("commits");
    world.gone(1).await;
    assert!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM things").await.is_empty());
    world.undo(root(1), OnConflict::Fail, false).await;
    let back: Vec<f64> = sqlx::query_scalar("SELECT t FROM things ORDER BY id").fetch_all(&mut connection).await.expect("reads");
    let is_other = |(then, now): &(&f64, &f64)| then.to_bits() != now.to_bits();
    let others: Vec<_> = numbers.iter().zip(&back).filter(is_other).take(5).collect();
    assert!(numbers.len() == back.len() && others.is_empty(), "WRONG UNDO: {others:?}");
}
