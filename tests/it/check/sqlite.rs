//! Set-ups on SQLite that are bad in one way each: what applies to files. The rules and the good tables are those of the servers.

use std::collections::BTreeSet;
use std::path::Path;

use entail::config;
use entail::model::Code;
use entail::sink::{Access, Location};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{RULES, look, serious};

const CRM: &str = "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, mail TEXT, kind TEXT DEFAULT 'b');
CREATE TABLE countries (code TEXT NOT NULL PRIMARY KEY);
CREATE TABLE suppliers (id INTEGER PRIMARY KEY);
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 50) INSERT INTO customers SELECT n, 'c' || n, 'm' || n, 'b' FROM s;
INSERT INTO countries VALUES ('de'), ('fr');";

const SHOP: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, country_code TEXT DEFAULT 'de');
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_country ON orders (country_code);
CREATE TABLE lines (order_id INTEGER NOT NULL, number INTEGER NOT NULL, sku TEXT, PRIMARY KEY (order_id, number));
CREATE TABLE notes (id INTEGER PRIMARY KEY, owner_type TEXT, owner_id INTEGER, reader_id INTEGER, state TEXT);
CREATE INDEX notes_owner ON notes (owner_id);
CREATE INDEX notes_reader ON notes (reader_id);
CREATE TABLE profiles (customer_id INTEGER PRIMARY KEY, bio TEXT);
CREATE TABLE customer_copy (id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 500)
    INSERT INTO orders SELECT n, n % 50 + 1, CASE WHEN n <= 50 THEN 'fr' END FROM s;
INSERT INTO lines SELECT id, 1, NULL FROM orders;
INSERT INTO notes SELECT id, 'customer', id, id, NULL FROM orders WHERE id <= 50;
INSERT INTO notes SELECT id, 'supplier', 7000 + id, NULL, NULL FROM orders WHERE id BETWEEN 51 AND 60;
INSERT INTO profiles SELECT id, NULL FROM orders WHERE id <= 50;";

struct Bad {
    name: &'static str,
    /// (text, what replaces it) in the tables of both files, in rules and in settings.
    change: &'static [(&'static str, &'static str)],
    /// Run in the shop's file when the ledger is there.
    then: &'static str,
    found: &'static [Code],
    /// These may be found beside them: they follow.
    also: &'static [Code],
    says: &'static str,
}

const GOOD: Bad = Bad { name: "", change: &[], then: "", found: &[], also: &[], says: "" };

const CASES: &[Bad] = &[
    Bad { name: "no ledger", then: "DROP TABLE entail_migrations", found: &[Code::NoLedger], says: "entail migrate", ..GOOD },
    Bad {
        name: "a file that is not there",
        change: &[("CRM_FILE", "gone.db")],
        found: &[Code::Unreachable],
        says: "cannot be asked",
        ..GOOD
    },
    Bad {
        name: "a service without a database",
        change: &[("  crm: {", "  other: {")],
        found: &[Code::NoDatabase],
        also: &[Code::CopyBlind],
        says: "no database for service `crm`",
        ..GOOD
    },
    Bad {
        name: "a misspelt table",
        change: &[("table: orders", "table: ordes")],
        found: &[Code::NoTable],
        says: "did you mean `orders`?",
        ..GOOD
    },
    Bad {
        name: "a table of another schema",
        change: &[("table: lines", "table: sales.lines")],
        found: &[Code::NoTable],
        says: "did you mean `main.lines`?",
        ..GOOD
    },
    Bad {
        name: "a view",
        change: &[
            ("CREATE TABLE notes (", "CREATE VIEW notes AS SELECT * FROM all_notes;\nCREATE TABLE all_notes ("),
            ("ON notes", "ON all_notes"),
            ("ON notes", "ON all_notes"),
            ("INTO notes", "INTO all_notes"),
            ("INTO notes", "INTO all_notes"),
        ],
        found: &[Code::View],
        says: "view",
        ..GOOD
    },
    Bad {
        name: "a misspelt column",
        change: &[("columns: reader_id", "columns: readr_id")],
        found: &[Code::NoColumn],
        says: "did you mean `reader_id`?",
        ..GOOD
    },
    Bad {
        name: "a key that is not unique",
        change: &[("CREATE TABLE notes (id INTEGER PRIMARY KEY", "CREATE TABLE notes (id INTEGER")],
        found: &[Code::KeyNotUnique],
        says: "not unique",
        ..GOOD
    },
    Bad {
        name: "a key that is unique in part",
        change: &[("CREATE TABLE notes (id INTEGER PRIMARY KEY", "CREATE TABLE notes (id INTEGER")],
        then: "CREATE UNIQUE INDEX notes_id ON notes (id) WHERE state IS NULL",
        found: &[Code::KeyNotUnique],
        says: "not partial",
        ..GOOD
    },
    Bad {
        name: "a floating point key",
        change: &[("customer_id INTEGER, country", "customer_id REAL, country")],
        found: &[Code::InexactKey, Code::TypesDiffer],
        says: "cannot be compared exactly",
        ..GOOD
    },
    Bad {
        name: "a column without a type",
        change: &[("reader_id INTEGER", "reader_id")],
        found: &[Code::InexactKey, Code::TypesDiffer],
        says: "cannot be compared exactly",
        ..GOOD
    },
    Bad {
        name: "a trigger before deletes",
        then: "CREATE TRIGGER keep BEFORE DELETE ON orders BEGIN SELECT RAISE(IGNORE); END",
        found: &[Code::Trigger],
        says: "trigger `keep`",
        ..GOOD
    },
    Bad {
        name: "a reversed reference",
        change: &[(
            "child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade, on_update: cascade",
            "child: shop.note, columns: id, parent: shop.order, parent_columns: customer_id, on_delete: no_action",
        )],
        found: &[Code::ParentNotUnique],
        also: &[Code::ChildUnique, Code::Orphans],
        says: "right way round",
        ..GOOD
    },
    Bad {
        name: "a reference reversed over both keys",
        change: &[(
            "child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade, on_update: cascade",
            "child: shop.note, columns: id, parent: crm.customer, on_delete: no_action",
        )],
        found: &[Code::ChildUnique],
        also: &[Code::Orphans],
        says: "is the reference reversed?",
        ..GOOD
    },
    Bad {
        name: "numbers kept as text",
        change: &[("customer_id INTEGER, country", "customer_id TEXT, country")],
        found: &[Code::TypesWiden],
        says: "different types",
        ..GOOD
    },
    Bad {
        name: "a child's database that may only be read",
        change: &[("SHOP_FILE\" }", "SHOP_FILE\", access: read }")],
        found: &[Code::ReadOnlyChild],
        also: &[Code::CopyReadOnly],
        says: "access: read",
        ..GOOD
    },
    Bad {
        name: "a missing index",
        then: "DROP INDEX orders_customer",
        found: &[Code::Unindexed],
        says: "CREATE INDEX orders_customer_id ON orders (customer_id)",
        ..GOOD
    },
    Bad {
        name: "an index that serves others",
        then: "DROP INDEX orders_customer; CREATE INDEX both ON orders (country_code, customer_id)",
        found: &[Code::Unindexed],
        says: "(customer_id)",
        ..GOOD
    },
    Bad {
        name: "an index of some rows",
        then: "DROP INDEX notes_reader; CREATE INDEX notes_reader ON notes (reader_id) WHERE state IS NULL",
        found: &[Code::Unindexed],
        says: "(reader_id)",
        ..GOOD
    },
    Bad {
        name: "a null that is not allowed",
        change: &[("reader_id INTEGER", "reader_id INTEGER NOT NULL"), ("7000 + id, NULL,", "7000 + id, 1,")],
        found: &[Code::NotNullable],
        says: "NOT NULL",
        ..GOOD
    },
    Bad {
        name: "no default",
        change: &[("country_code TEXT DEFAULT 'de'", "country_code TEXT NOT NULL"), ("CASE WHEN n <= 50 THEN 'fr' END", "'fr'")],
        found: &[Code::NoDefault],
        also: &[Code::FanOut],
        says: "no default",
        ..GOOD
    },
    Bad {
        name: "a default that is nobody",
        change: &[("('de'), ('fr')", "('fr')")],
        found: &[Code::DefaultWithoutParent],
        says: "names no row",
        ..GOOD
    },
    Bad {
        name: "a value of the wrong type",
        change: &[("state TEXT", "state INTEGER")],
        found: &[Code::BadValue],
        says: "`state`",
        ..GOOD
    },
    Bad {
        name: "a condition of the wrong type",
        change: &[("owner_type TEXT", "owner_type INTEGER")],
        found: &[Code::BadValue],
        says: "`owner_type`",
        ..GOOD
    },
    Bad { name: "one to one", change: &[(", one_to_one: true", "")], found: &[Code::OneToOne], says: "at most one row", ..GOOD },
    Bad {
        name: "a polymorphic column without a condition",
        change: &[("when: { owner_type: customer }, ", "")],
        found: &[Code::TypeColumn],
        also: &[Code::Orphans],
        says: "`owner_type`",
        ..GOOD
    },
    Bad {
        name: "rows that belong to others",
        then: "UPDATE notes SET reader_id = reader_id + 5000",
        found: &[Code::NoParents],
        says: "is it the wrong table or column?",
        ..GOOD
    },
    Bad {
        name: "some orphans",
        then: "UPDATE lines SET order_id = order_id + 5000 WHERE order_id < 10",
        found: &[Code::Orphans],
        says: "name no row of `main.orders`",
        ..GOOD
    },
    Bad {
        name: "a parent with too many rows",
        then: "INSERT INTO lines SELECT 7, id, NULL FROM orders WHERE id BETWEEN 2 AND 200",
        found: &[Code::FanOut],
        says: "101 rows or more",
        ..GOOD
    },
    Bad {
        name: "a native key that refuses",
        then: "CREATE TABLE stars (id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders)",
        found: &[Code::NativeRefuses],
        says: "native foreign key",
        ..GOOD
    },
    Bad {
        name: "a native key that takes more",
        then: "CREATE TABLE stars (id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders ON DELETE CASCADE)",
        found: &[Code::NativeWidens],
        says: "stars",
        ..GOOD
    },
    Bad {
        name: "a native key that is faster",
        change: &[("order_id INTEGER NOT NULL", "order_id INTEGER NOT NULL REFERENCES orders ON DELETE CASCADE")],
        found: &[Code::NativeHides],
        says: "line_order",
        ..GOOD
    },
    Bad {
        name: "a native key to a table without a key",
        then: "CREATE TABLE marks (order_id INTEGER REFERENCES orders ON DELETE CASCADE)",
        found: &[Code::NativeKeyless],
        also: &[Code::NativeWidens],
        says: "marks",
        ..GOOD
    },
    Bad {
        name: "a native key by which rows change with those of a copy",
        then: "CREATE TABLE fans (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer_copy ON DELETE SET NULL)",
        found: &[Code::CopyTakes],
        says: "fans",
        ..GOOD
    },
];

async fn file(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("a file");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    pool.close().await;
}

async fn judge(bad: &Bad) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let settings = "version: 1\nrules: rules.yaml\nkafka: { brokers: \"127.0.0.1:1\", group: files }\ndatabases:\n  crm: { url: \"sqlite:CRM_FILE\", access: read }\n  \
                    shop: { url: \"sqlite:SHOP_FILE\" }\n";
    let mut texts = [CRM, SHOP, RULES, settings].map(str::to_owned);
    for (from, to) in bad.change {
        let text = texts.iter_mut().find(|text| text.contains(from)).unwrap_or_else(|| panic!("{}: there is no `{from}`", bad.name));
        *text = text.replacen(from, to, 1);
    }
    let [crm, shop, rules, settings] = texts;
    file(&at("crm.db"), &crm).await;
    file(&at("shop.db"), &shop).await;
    let rules = rules.replace("PREFIX", "feed");
    let written = |settings: &str| {
        settings.replace("CRM_FILE", &at("crm.db").display().to_string()).replace("SHOP_FILE", &at("shop.db").display().to_string())
    };
    let database = Location { url: format!("sqlite:{}", at("shop.db").display()), access: Access::Write }.open().expect("an url");
    database.migrate().await.expect("a ledger");
    database.close().await;
    file(&at("shop.db"), bad.then).await;
    std::fs::write(at("rules.yaml"), &rules).expect("rules");
    std::fs::write(at("entail.yaml"), written(&settings)).expect("settings");
    let config = config::read(&at("entail.yaml"), &|_| None).unwrap_or_else(|(problems, _)| panic!("{problems:#?}"));
    let report = look(&rules, &config, false).await;
    let found: BTreeSet<Code> = report.problems.iter().map(|(_, problem)| problem.code).collect();
    let missed: Vec<&Code> = bad.found.iter().filter(|code| !found.contains(code)).collect();
    let beyond: Vec<String> = serious(&report)
        .into_iter()
        .filter(|problem| !bad.found.contains(&problem.code) && !bad.also.contains(&problem.code))
        .map(|problem| format!("{}: {problem}", problem.code.name()))
        .collect();
    let is_told = bad.found.is_empty()
        || report.problems.iter().any(|(_, problem)| bad.found.contains(&problem.code) && problem.to_string().contains(bad.says));
    match (missed.is_empty(), beyond.is_empty(), is_told) {
        (true, true, true) => Ok(()),
        (false, ..) => Err(format!("missed {missed:?}; found {:#?}", report.problems)),
        (_, false, _) => Err(format!("beyond: {}", beyond.join("; "))),
        (.., false) => Err(format!("does not say `{}`: {:#?}", bad.says, report.problems)),
    }
}

/// Issue 5, line 1, for files.
#[tokio::test(flavor = "multi_thread")]
async fn h57_every_kind_of_bad_file_is_found_and_nothing_else() {
    judge(&GOOD).await.unwrap_or_else(|what| panic!("the good one: {what}"));
    let mut wrong = Vec::new();
    for bad in CASES {
        if let Err(what) = judge(bad).await {
            wrong.push(format!("{}: {what}", bad.name));
        }
    }
    println!("{} bad set-ups on SQLite, {} told wrongly", CASES.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
