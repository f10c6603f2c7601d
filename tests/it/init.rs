//! `entail init` on live databases: schemas whose foreign keys were dropped, written rules that hold, and runs after the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::support::bed::Bed;
use crate::support::postgres;
use crate::support::worker::entail;

/// A schema over several services, with data, and the foreign keys that were dropped.
struct World {
    services: BTreeMap<String, String>,
    keys: BTreeSet<String>,
}

impl World {
    fn read(text: &str) -> Self {
        let mut world = Self { services: BTreeMap::new(), keys: BTreeSet::new() };
        let mut service = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("-- service ") {
                name.clone_into(&mut service);
            } else if let Some(key) = line.strip_prefix("-- key: ") {
                world.keys.insert(key.to_owned());
            } else if !line.starts_with("--") {
                *world.services.entry(service.clone()).or_default() += &format!("{line}\n");
            }
        }
        world
    }

    fn tables(&self) -> usize {
        self.services.values().map(|sql| sql.matches("CREATE TABLE").count()).sum()
    }

    /// Makes the databases; returns arguments that name them.
    async fn lay(&self, bed: &Bed, name: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        for (service, sql) in &self.services {
            let url = bed.create_database(&format!("{name}_{service}")).await;
            postgres::execute(&url, &format!("{sql} ANALYZE;")).await;
            arguments.extend(["--database".to_owned(), format!("{service}={url}")]);
        }
        arguments
    }
}

async fn run(dir: &Path, arguments: &[String], more: &[&str]) -> (i32, String, String) {
    let all: Vec<&str> = ["init"].into_iter().chain(arguments.iter().map(String::as_str)).chain(more.iter().copied()).collect();
    entail(&dir.join("entail.yaml"), &all).await
}

/// A proposal as the files of schemas write it: with tables for entities.
fn written(one: &Value) -> String {
    let list = |key: &str| {
        let names: Vec<&str> = one[key].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        names.join(", ")
    };
    let when = one["when"].as_object().map_or(String::new(), |when| {
        let values: Vec<&str> = when["values"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        format!(" where {} is {}", when["column"].as_str().expect("a name"), values.join(" or "))
    });
    let name = |key: &str| one[key].as_str().expect("a name").to_owned();
    format!("{}({}){when} -> {}({})", name("child_table"), list("columns"), name("parent_table"), list("parent_columns"))
}

/// Keys proposed as references, keys proposed as comments, and proposals that are no keys.
struct Score {
    found: BTreeSet<String>,
    hinted: BTreeSet<String>,
    wrong: BTreeSet<String>,
    wrong_hints: BTreeSet<String>,
    missed: BTreeSet<String>,
}

fn score(world: &World, stdout: &str) -> Score {
    let json: Value = serde_json::from_str(stdout).expect("JSON");
    let of = |firm: bool| -> BTreeSet<String> {
        let all = json["references"].as_array().expect("a list").iter();
        all.filter(|one| one["firm"].as_bool() == Some(firm)).map(written).collect()
    };
    let (firm, faint) = (of(true), of(false));
    let found: BTreeSet<String> = firm.intersection(&world.keys).cloned().collect();
    let hinted: BTreeSet<String> = faint.intersection(&world.keys).cloned().collect();
    let missed = world.keys.iter().filter(|key| !found.contains(*key) && !hinted.contains(*key)).cloned().collect();
    let without = |all: BTreeSet<String>| all.difference(&world.keys).cloned().collect();
    Score { wrong: without(firm), wrong_hints: without(faint), found, hinted, missed }
}

const WORLDS: [(&str, &str); 3] =
    [("shop", include_str!("init/shop.sql")), ("desk", include_str!("init/desk.sql")), ("plant", include_str!("init/plant.sql"))];

#[tokio::test(flavor = "multi_thread")]
async fn dropped_foreign_keys_are_found_by_names_and_values() {
    let bed = Bed::from_env();
    for (name, text) in WORLDS {
        let world = World::read(text);
        assert_eq!(world.tables(), 15, "{name}");
        let arguments = world.lay(&bed, name).await;
        for mine in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let more: &[&str] = if mine { &["--format", "json", "--mine"] } else { &["--format", "json"] };
            let (code, stdout, stderr) = run(dir.path(), &arguments, more).await;
            assert_eq!(code, 0, "{stdout}{stderr}");
            let score = score(&world, &stdout);
            println!(
                "{name}, {}: {} keys, {} found, {} told as less likely, {} missed {:?}; wrong {:?}, wrong and less likely {:?}",
                if mine { "names and values" } else { "names" },
                world.keys.len(),
                score.found.len(),
                score.hinted.len(),
                score.missed.len(),
                score.missed,
                score.wrong,
                score.wrong_hints,
            );
            // Who deletes by a reference that is none deletes wrongly: none is proposed as one.
            assert_eq!(score.wrong, BTreeSet::new(), "{name}");
            if mine {
                assert!((score.found.len() + score.hinted.len()) * 20 >= world.keys.len() * 19, "{name}");
            }
        }
    }
}

/// Columns that look like references and are none, and tables whose rows may not be read.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_like_a_reference_is_none() {
    let bed = Bed::from_env();
    let world = World::read(include_str!("init/traps.sql"));
    let arguments = world.lay(&bed, "traps").await;
    for more in [&["--format", "json"][..], &["--format", "json", "--mine"]] {
        let dir = tempfile::tempdir().expect("a directory");
        let (code, stdout, stderr) = run(dir.path(), &arguments, more).await;
        assert_eq!(code, 0, "{stdout}{stderr}");
        let score = score(&world, &stdout);
        println!("{more:?}: found {:?}, hinted {:?}, wrong hints {:?}", score.found, score.hinted, score.wrong_hints);
        assert_eq!((score.wrong, score.found), (BTreeSet::new(), world.keys.clone()));
    }
    // A role that may read some tables only: the others are named, and looked at no further.
    let role = bed.name("reader");
    let url = arguments.iter().find_map(|one| one.strip_prefix("shop=")).expect("it was named");
    postgres::execute(url, &format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON accounts, orders, order_lines TO {role}")).await;
    let reader = url.replace("postgres://postgres@", &format!("postgres://{role}@"));
    let dir = tempfile::tempdir().expect("a directory");
    let (code, stdout, stderr) = run(dir.path(), &["--database".to_owned(), format!("shop={reader}")], &["--mine"]).await;
    assert!(code == 0 && stderr.contains("left out: shop: public.payments: the role may not read its rows"), "{stdout}{stderr}");
    assert!(text(&dir.path().join("rules/found.yaml")).contains("shop.payment(account_id) -> shop.account(id)"), "{stderr}");
    postgres::execute(url, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Names and values that would be lines of their own in a file, or more than text on a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn h95_what_stands_in_the_databases_writes_no_rules() {
    let bed = Bed::from_env();
    let dir = tempfile::tempdir().expect("a directory");
    let url = bed.create_database("odd").await;
    let sql = "CREATE TABLE customers (id bigint PRIMARY KEY);
        CREATE TABLE \"od\nd\" (id bigint PRIMARY KEY, customer_id bigint);
        CREATE TABLE notes (id bigint PRIMARY KEY, owner_type text NOT NULL, owner_id bigint NOT NULL, \"customer\nid: x_customer_id\" bigint);
        INSERT INTO customers VALUES (1);
        INSERT INTO notes VALUES (1, E'x\n  - name: evil\n    on_delete: cascade\n#\\u001b[31m:Customer', 1, 1);";
    postgres::execute(&url, sql).await;
    let (code, stdout, stderr) = run(dir.path(), &["--database".to_owned(), format!("crm={url}")], &["--mine"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    let rules = text(&dir.path().join("rules/found.yaml"));
    assert!(rules.contains("# found: crm.note(owner_id) where owner_type is x\\u{a}"), "{rules}");
    assert!(rules.lines().all(|line| !line.contains("evil") || line.contains("# found:") || line.contains("when:")), "{rules}");
    assert!(stderr.contains("left out: crm: public.od\\u{a}d: the rules do not allow such a name"), "{stderr}");
    assert!(!rules.contains('\u{1b}') && !stderr.contains('\u{1b}'), "{stderr}");
    let (code, stdout, stderr) = entail(&dir.path().join("entail.yaml"), &["check"]).await;
    assert!(code == 0 || code == 1, "{stdout}{stderr}");
    let (code, _, stderr) = run(dir.path(), &[], &["--mine"]).await;
    assert!(code == 0 && stderr.contains("nothing new was found"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_which_no_tables_are_seen_is_told_of() {
    let bed = Bed::from_env();
    let (empty, shop) = (bed.create_database("empty").await, bed.create_database("shop").await);
    postgres::execute(&shop, "CREATE TABLE orders (id bigint PRIMARY KEY)").await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let databases = [format!("--database=crm={empty}"), format!("--database=shop={shop}")];
    let (code, _, stderr) = run(dir.path(), &databases, &["--dry-run"]).await;
    assert!(code == 0 && stderr.contains("nothing new was found among 1 table of 2 services"), "{stderr}");
    assert!(stderr.contains("crm: no tables are seen") && !stderr.contains("shop: no tables"), "{stderr}");
    let (code, stdout, stderr) = run(dir.path(), &databases, &["--dry-run", "--format", "json"]).await;
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &report["tables"]), (0, &serde_json::json!({ "crm": 0, "shop": 1 })), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_added_to_is_told_before_anything_is_written() {
    let bed = Bed::from_env();
    let (dir, arguments) = desk(&bed).await;
    let config = dir.path().join("entail.yaml");
    for (service, says) in [("a b=x", "cannot be the name of a service"), ("x.y=x", "cannot be the name of a service")] {
        let (code, _, stderr) = run(dir.path(), &["--database".to_owned(), service.to_owned()], &[]).await;
        assert!(code == 2 && stderr.contains(says) && !config.exists(), "{stderr}");
    }
    let twice: Vec<String> = arguments.iter().chain(&arguments).cloned().collect();
    let (code, _, stderr) = run(dir.path(), &twice, &[]).await;
    assert!(code == 2 && stderr.contains("is named twice") && !config.exists(), "{stderr}");
    // Rules that are one file, which no other file is read beside.
    let url = arguments[1].split_once('=').expect("an url").1;
    let settings =
        format!("version: 1\nrules: mine.yaml\nkafka: {{ brokers: x:1, group: g }}\ndatabases:\n  accounts: {{ url: \"{url}\" }}\n");
    std::fs::write(&config, &settings).expect("settings");
    std::fs::write(dir.path().join("mine.yaml"), "version: 1\n").expect("rules");
    let (code, _, stderr) = run(dir.path(), &[], &[]).await;
    assert!(code == 2 && stderr.contains("the rules are one file"), "{stderr}");
    assert_eq!((text(&config), dir.path().join("found.yaml").exists()), (settings, false));
}

/// Names and values of the schema of the tenants, in a directory of its own.
async fn desk(bed: &Bed) -> (tempfile::TempDir, Vec<String>) {
    let arguments = World::read(WORLDS[1].1).lay(bed, "desk").await;
    (tempfile::tempdir().expect("a directory"), arguments)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_what_is_written_is_in_shadow_fits_the_databases_and_is_not_written_twice() {
    let bed = Bed::from_env();
    let (dir, arguments) = desk(&bed).await;
    let config = dir.path().join("entail.yaml");
    let more = ["--mine", "--brokers", &bed.kafka];
    // Nothing is written by a rehearsal.
    let (code, stdout, _) = run(dir.path(), &arguments, &["--mine", "--dry-run"]).await;
    assert!(code == 0 && stdout.contains("mode: shadow") && !config.exists(), "{stdout}");
    let (code, stdout, stderr) = run(dir.path(), &arguments, &more).await;
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    let rules = text(&dir.path().join("rules/found.yaml"));
    assert!(rules.contains("\nmode: shadow\n") && !rules.contains("enforce:"), "{rules}");
    // Every line that may be a rule later is one when its `# ` is taken away.
    let open: Vec<String> = rules
        .lines()
        .map(|line| {
            line.strip_prefix("  # ")
                .filter(|rest| rest.starts_with("- name") || rest.starts_with("  "))
                .map_or_else(|| line.to_owned(), |rest| format!("  {rest}"))
        })
        .collect();
    std::fs::write(dir.path().join("open.yaml"), open.join("\n")).expect("a file");
    for path in ["rules", "open.yaml"] {
        let (code, stdout, stderr) = entail(&config, &["check", dir.path().join(path).to_str().expect("a path")]).await;
        assert!(code == 0 || code == 1, "{path}: {stdout}{stderr}");
    }
    // Whatever is wrong with the set-up now is not wrong with the rules.
    let (_, stdout, stderr) = entail(&config, &["check", "--connect", "--format", "json"]).await;
    let told: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let wrong = ["no-table", "no-column", "types", "not-unique", "not-logged", "no-parents", "other-name", "type-column", "child-unique"];
    let codes: Vec<&str> = told["problems"].as_array().expect("a list").iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(!codes.is_empty() && codes.iter().all(|code| !wrong.contains(code)), "{codes:?}");
    for service in ["accounts", "billing", "work"] {
        assert!(text(&dir.path().join(format!("grants/{service}.sql"))).contains("GRANT SELECT"), "{service}");
    }
    // Again: nothing new; also where a person has deleted a reference and left its mark.
    let files = || -> BTreeMap<String, String> {
        ["entail.yaml", "rules/found.yaml", "connectors/work.json", "grants/work.sql"]
            .into_iter()
            .map(|name| (name.to_owned(), text(&dir.path().join(name))))
            .collect()
    };
    let end = rules.find("  # found: work.task_label(task_id)").expect("it is there");
    let begin = end + rules[end..].find("  - name").expect("a reference");
    let behind = begin + rules[begin..].find("\n\n").expect("an end");
    std::fs::write(dir.path().join("rules/found.yaml"), format!("{}{}", &rules[..begin], &rules[behind..])).expect("a file");
    let before = files();
    let (code, _, stderr) = run(dir.path(), &[], &more).await;
    assert!(code == 0 && stderr.contains("nothing new was found"), "{stderr}");
    assert_eq!(files(), before);
    // A fourth service: its database is added to the settings, its rules to the directory.
    let url = bed.create_database("mail").await;
    postgres::execute(&url, "CREATE TABLE letters (id bigint PRIMARY KEY, user_email text NOT NULL, tenant_id uuid NOT NULL)").await;
    let (code, _, stderr) = run(dir.path(), &["--database".to_owned(), format!("mail={url}")], &["--brokers", &bed.kafka]).await;
    assert!(code == 0 && text(&config).contains("  mail: { url:") && text(&config).contains(&before["entail.yaml"][..40]), "{stderr}");
    let second = text(&dir.path().join("rules/found-2.yaml"));
    assert!(
        second.contains("# found: mail.letter(tenant_id) -> accounts.tenant(id)") && !second.contains("name: accounts.tenant\n    table"),
        "{second}"
    );
    assert_eq!(text(&dir.path().join("rules/found.yaml")), before["rules/found.yaml"]);
    let (code, stdout, stderr) = entail(&config, &["check"]).await;
    assert!(code == 0 || code == 1, "{stdout}{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_ready_to_post() {
    let bed = Bed::from_env();
    let (dir, arguments) = desk(&bed).await;
    let (code, _, stderr) = run(dir.path(), &arguments, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    let settings: Value = serde_json::from_str(&text(&dir.path().join("connectors/work.json"))).expect("JSON");
    let url = arguments.iter().find_map(|one| one.strip_prefix("work=")).expect("it was named");
    let mut connector = bed.connector("work", url);
    for (key, value) in settings["config"].as_object().expect("settings") {
        // What is one for a whole server, or of this one only: names, and that there is one broker and no password.
        let is_ours = ["topic.prefix", "slot.name", "publication.name", "database.password", "topic.creation.default.replication.factor"];
        if !is_ours.contains(&key.as_str()) {
            connector = connector.set(key, value.as_str().expect("a text"));
        }
    }
    let connector = connector.start().await;
    connector.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn native_foreign_keys_become_references_with_their_actions() {
    let bed = Bed::from_env();
    let dir = tempfile::tempdir().expect("a directory");
    let url = bed.create_database("whole").await;
    let sql = "CREATE TABLE teams (id bigint PRIMARY KEY, kind text NOT NULL DEFAULT 'none');
        CREATE TABLE kinds (code text PRIMARY KEY);
        CREATE TABLE people (id bigint PRIMARY KEY, team bigint NOT NULL REFERENCES teams ON DELETE CASCADE ON UPDATE CASCADE,
            boss bigint REFERENCES people ON DELETE SET NULL, kind text DEFAULT 'none' REFERENCES kinds ON DELETE SET DEFAULT,
            backup bigint REFERENCES teams);
        CREATE TABLE loose (word text)";
    postgres::execute(&url, sql).await;
    let whole = vec!["--database".to_owned(), format!("hr={url}")];
    let (code, _, stderr) = run(dir.path(), &whole, &[]).await;
    assert!(code == 0 && stderr.contains("left out: hr: public.loose: it has no key"), "{stderr}");
    let rules = text(&dir.path().join("rules/found.yaml"));
    for (column, action) in
        [("team", "cascade\n    on_update: cascade"), ("boss", "set_null"), ("kind", "set_default"), ("backup", "restrict")]
    {
        let at = rules.find(&format!("columns: {column}\n")).unwrap_or_else(|| panic!("{column}: {rules}"));
        let until = rules[at..].find("\n\n").map_or(rules.len(), |end| at + end);
        assert!(rules[at..until].contains(&format!("on_delete: {action}")), "{column}: {rules}");
    }
    // Two databases: what each enforces itself is left to it, unless it is asked for.
    let other = bed.create_database("other").await;
    postgres::execute(&other, "CREATE TABLE badges (id bigint PRIMARY KEY, people_id bigint NOT NULL)").await;
    let both: Vec<String> = whole.iter().cloned().chain(["--database".to_owned(), format!("gate={other}")]).collect();
    let two = tempfile::tempdir().expect("a directory");
    let (_, _, stderr) = run(two.path(), &both, &[]).await;
    assert!(stderr.contains("4 native foreign keys within services were left"), "{stderr}");
    let (_, stdout, _) = run(two.path(), &both, &["--native", "--dry-run"]).await;
    assert!(stdout.contains("native foreign key `people_team_fkey`"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h98_a_password_goes_into_no_file() {
    let bed = Bed::from_env();
    let dir = tempfile::tempdir().expect("a directory");
    let url = bed.create_database("secret").await;
    postgres::execute(&url, "CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id bigint PRIMARY KEY, a_id bigint NOT NULL)").await;
    let url = url.replace("postgres@", "postgres:hunter2@");
    let (code, stdout, stderr) = run(dir.path(), &["--database".to_owned(), format!("my-app={url}")], &[]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    for entry in ["entail.yaml", "rules/found.yaml", "connectors/my-app.json"] {
        assert!(!text(&dir.path().join(entry)).contains("hunter2"), "{entry}");
    }
    assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"));
    assert!(text(&dir.path().join("entail.yaml")).contains("${env:MY_APP_URL}"));
    // Not on a terminal nothing is asked, and what lacks is said.
    let none = tempfile::tempdir().expect("a directory");
    let (code, _, stderr) = run(none.path(), &[], &[]).await;
    assert!(code == 2 && stderr.contains("no database was named"), "{stderr}");
    let (code, _, stderr) = run(none.path(), &["--database".to_owned(), "crm".to_owned()], &[]).await;
    assert!(code == 2 && stderr.contains("CRM_URL"), "{stderr}");
}

/// A parent that the rules have without a topic: what points at it waits for one, and the rules stay sound.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_without_a_topic_keeps_its_references_as_comments() {
    let bed = Bed::from_env();
    let dir = tempfile::tempdir().expect("a directory");
    let url = bed.create_database("quiet").await;
    postgres::execute(&url, "CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id bigint PRIMARY KEY, a_id bigint NOT NULL)").await;
    let config = dir.path().join("entail.yaml");
    std::fs::create_dir(dir.path().join("rules")).expect("a directory");
    std::fs::write(dir.path().join("rules/own.yaml"), "version: 1\nentities:\n  - { name: crm.a, table: a, key: id }\n").expect("rules");
    let settings = format!("version: 1\nrules: rules\nkafka: {{ brokers: x:1, group: g }}\ndatabases:\n  crm: {{ url: \"{url}\" }}\n");
    std::fs::write(&config, settings).expect("settings");
    let (code, _, stderr) = run(dir.path(), &[], &[]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(text(&dir.path().join("rules/found.yaml")).contains("  # first: give `crm.a` a topic in the rules"), "{stderr}");
    let (code, stdout, stderr) = entail(&config, &["check"]).await;
    assert!(code == 0 || code == 1, "{stdout}{stderr}");
}
