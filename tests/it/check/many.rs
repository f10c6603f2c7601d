//! Many references over many databases: how many statements that takes.
//!
//! `ENTAIL_REFERENCES=1000 ENTAIL_DATABASES=20` for more of them.

use std::process::Command;
use std::time::Instant;

use crate::support::bed::Bed;
use crate::support::postgres;
use crate::support::wait::blocking;

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Issue 5, line 6.
#[tokio::test(flavor = "multi_thread")]
async fn h63_check_asks_each_database_as_often_for_many_references_as_for_one() {
    let (references, databases) = (number("ENTAIL_REFERENCES", 60), number("ENTAIL_DATABASES", 6));
    let bed = Bed::from_env();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut entities, mut edges, mut settings) = (String::new(), String::new(), String::new());
    for database in 0..databases {
        let url = bed.create_database(&format!("d{database}")).await;
        let mut sql = "CREATE TABLE parents (id bigint PRIMARY KEY); INSERT INTO parents SELECT generate_series(1, 50);".to_owned();
        entities += &format!(
            "  - {{ name: d{database}.parent, table: parents, key: id, topic: {}.public.parents }}\n",
            bed.name(&format!("d{database}"))
        );
        settings += &format!("  d{database}: {{ url: \"{url}\" }}\n");
        for child in (0..references).filter(|child| child % databases == database) {
            sql += &format!(
                "CREATE TABLE children_{child} (id bigint PRIMARY KEY, parent_id bigint); CREATE INDEX ON children_{child} (parent_id);
                 INSERT INTO children_{child} SELECT n, n % 50 + 1 FROM generate_series(1, 100) AS n;"
            );
            entities += &format!("  - {{ name: d{database}.child_{child}, table: children_{child}, key: id }}\n");
            let parent = (database + 1) % databases;
            edges += &format!(
                "  - {{ name: r{child}, child: d{database}.child_{child}, columns: parent_id, parent: d{parent}.parent, on_delete: cascade }}\n"
            );
        }
        postgres::execute(&url, &sql).await;
    }
    let rules = format!("version: 1\nmode: enforce\nentities:\n{entities}references:\n{edges}");
    std::fs::write(dir.path().join("rules.yaml"), rules).expect("rules");
    let text = format!(
        "version: 1\nrules: rules.yaml\nkafka: {{ brokers: \"{}\", group: {} }}\ndatabases:\n{settings}",
        bed.kafka,
        bed.name("group")
    );
    let config = dir.path().join("entail.yaml");
    std::fs::write(&config, text).expect("settings");
    let began = Instant::now();
    let output = blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entail"));
        command.arg("--config").arg(&config).args(["check", "--connect", "--allow-missing-topics", "--format", "json"]);
        command.env("ENTAIL_LOG", "sqlx::query=debug").output().expect("the binary runs")
    })
    .await;
    let took = began.elapsed();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
    let looked_at = report["references"].as_array().map_or(0, Vec::len);
    assert_eq!(looked_at, references, "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8_lossy(&output.stderr);
    let asked: Vec<&str> = log.lines().filter(|line| line.contains(" rows_returned=")).collect();
    // A connection is looked at when it is made. How many a pool makes, of at most four, is a matter of timing; three more come before it.
    let connections = asked.iter().filter(|line| line.contains("pg_backend_pid")).count();
    let statements = asked.len() - connections;
    eprintln!(
        "{references} references over {databases} databases: {statements} statements, and {connections} for connections, in {took:?}"
    );
    assert!((databases..=7 * databases).contains(&connections), "{connections}");
    // Three for each reference: a sample, its parents, the rows of each.
    assert!(statements <= 20 * databases + 3 * references, "{statements} statements");
    assert!(statements >= 3 * references, "statements are not counted: {statements}");
}
