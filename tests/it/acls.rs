//! Kafka's access lists: what `check --grants` prints is enough, and each part of it is needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::kafka::Record;
use crate::support::wait::blocking;
use crate::support::worker::{DEADLINE, Shop, Worker, entail};

/// Kafka's own tool, at the shared broker as one who may do anything.
async fn tool(shop: &Shop, words: Vec<String>) {
    let broker = shop.bed.kafka.clone();
    let done = blocking(move || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bed");
        let mut command = Command::new(script);
        command.arg("acls").arg(broker).args(&words).stdin(Stdio::null()).stdout(Stdio::null());
        (command.status().expect("script/bed runs").success(), words)
    });
    let (is_done, words) = done.await;
    assert!(is_done, "{words:?}");
}

/// What is printed for one topic or group: its operations, and the words that name it.
struct Access {
    operations: Vec<String>,
    resource: [String; 2],
}

impl Access {
    fn read(line: &str) -> Option<Access> {
        let words: Vec<&str> = line.strip_prefix("kafka-acls.sh --add --allow-principal User:entail ")?.split(' ').collect();
        let [.., kind, name] = words.as_slice() else { panic!("{line}") };
        let operations = words.windows(2).filter(|pair| pair[0] == "--operation").map(|pair| pair[1].to_owned()).collect();
        Some(Access { operations, resource: [(*kind).to_owned(), (*name).to_owned()] })
    }

    async fn give(&self, shop: &Shop, how: &[&str], operations: &[String]) {
        let mut words: Vec<String> = how.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["--allow-principal", "User:entail"].map(str::to_owned));
        words.extend(operations.iter().flat_map(|operation| ["--operation".to_owned(), operation.clone()]));
        words.extend(self.resource.clone());
        tool(shop, words).await;
    }
}

/// Settings with which the program comes as `entail`, by the port where access lists count. The topic of dead letters is not there yet.
fn guarded(shop: &Shop, letters: &str) -> PathBuf {
    let port = std::env::var("ENTAIL_TEST_KAFKA_GUARDED").expect("set by script/test and script/bed env");
    let password = shop.dir.path().join("password");
    std::fs::write(&password, "entail").expect("the password is written");
    let login = format!(
        "properties: {{ security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: entail, sasl.password: \"${{file:{}}}\", ",
        password.display()
    );
    let text = shop.settings().replace(&shop.bed.kafka, &port).replace("properties: { ", &login).replace(&shop.dead_letters, letters);
    let path = shop.dir.path().join("guarded.yaml");
    std::fs::write(&path, text).expect("the settings are written");
    path
}

/// What `check --connect` says against this topic.
async fn found(config: &Path, topic: &str) -> BTreeSet<String> {
    let (_, report, errors) = entail(config, &["check", "--connect", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}{errors}"));
    let problems = report["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .filter(|problem| problem["place"] == topic && problem["severity"] != "note");
    problems.map(|problem| problem["code"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Starts a worker on a record that is a dead letter. It does not get past it until it has the access, and then does.
async fn waits_for(shop: &Shop, config: &Path, access: &Access, operation: &str, letters: usize) {
    shop.bed.produce(vec![Record::new(&shop.topic, "{\"id\":15}", Some("no JSON"))]).await;
    let mut worker = Worker::start(shop.dir.path(), config, operation, &["run", "--until-end"]);
    worker.until_log("a dead letter was not acknowledged").await;
    access.give(shop, &["--add"], &[operation.to_owned()]).await;
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    assert_eq!(shop.bed.read_all(&[&access.resource[1]]).await.len(), letters, "letters once {operation} is given");
}

/// Where keys may change, the markers of the connector are read, too.
async fn markers(shop: &Shop, config: &Path) {
    let rules = shop.rules().replacen("on_delete: cascade }", "on_delete: cascade, on_update: cascade }", 1);
    std::fs::write(shop.dir.path().join("keys.yaml"), rules).expect("the rules are written");
    let text = std::fs::read_to_string(config).expect("the settings").replace("rules: rules.yaml", "rules: keys.yaml");
    let config = shop.dir.path().join("keys-entail.yaml");
    std::fs::write(&config, text).expect("the settings are written");
    let (code, printed, errors) = entail(&config, &["check", "--grants"]).await;
    assert_eq!(code, 0, "{errors}");
    let topic = shop.bed.name("crm.message");
    let access = printed.lines().filter_map(Access::read).find(|access| access.resource[1] == topic);
    let access = access.unwrap_or_else(|| panic!("{printed}"));
    assert!(found(&config, &topic).await.contains("topic-right"), "it may not be seen");
    shop.bed.create_topic(&topic, 1, &[]).await;
    shop.bed.produce(vec![Record::new(&topic, "{\"prefix\":\"entail\"}", Some("{}"))]).await;
    access.give(shop, &["--add"], &["Describe".to_owned()]).await;
    assert!(found(&config, &topic).await.contains("topic-right"), "it may not be read");
    access.give(shop, &["--add"], &access.operations).await;
    assert!(!found(&config, &topic).await.contains("topic-right"));
}

#[tokio::test(flavor = "multi_thread")]
async fn h100_the_printed_access_to_kafka_is_enough_and_each_part_of_it_is_needed() {
    let shop = Shop::open().await;
    shop.load(20, 10, 0).await;
    shop.bed.produce(vec![Record::new(&shop.bed.name("shop.public.orders"), "{\"serverName\":\"shop\"}", Some("{\"ts_ms\":1}"))]).await;
    let letters = shop.bed.name("new-letters");
    let config = guarded(&shop, &letters);
    let (code, _, errors) = shop.command(&["migrate"]).await;
    assert_eq!(code, 0, "{errors}");
    let (code, printed, errors) = entail(&config, &["check", "--grants"]).await;
    assert_eq!(code, 0, "{errors}");
    let all: Vec<Access> = printed.lines().filter_map(Access::read).collect();
    assert_eq!(all.len(), 4, "two topics, the dead letters, the group: {printed}");
    for access in &all {
        let operations: Vec<String> = access.operations.iter().filter(|operation| *operation != "Create").cloned().collect();
        access.give(&shop, &["--add"], &operations).await;
    }
    let mut tried = 0;
    let told = |code: &str| BTreeSet::from([code.to_owned()]);
    for (access, operation) in all.iter().flat_map(|access| access.operations.iter().map(move |operation| (access, operation))) {
        let one = std::slice::from_ref(operation);
        let [kind, name] = &access.resource;
        if operation != "Create" {
            access.give(&shop, &["--remove", "--force"], one).await;
        }
        match (operation.as_str(), kind.as_str()) {
            ("Read", "--topic") => assert_eq!(found(&config, name).await, told("topic-right"), "{name}"),
            ("DescribeConfigs", "--topic") => assert_eq!(found(&config, name).await, told("topic-settings"), "{name}"),
            // The topic is made first, so that there is one to write to.
            ("Create", "--topic") => waits_for(&shop, &config, access, operation, 1).await,
            // `run` below, and the dead letter at the end.
            ("Write", "--topic") | ("Read", "--group") => {}
            other => panic!("printed for no known reason: {other:?}"),
        }
        if operation == "Read" {
            let (code, _, errors) = entail(&config, &["run", "--until-end"]).await;
            assert!(code != 0 && errors.contains("the principal may not read"), "{name}: {code} {errors}");
        }
        if (operation.as_str(), name) == ("Read", &shop.topic) {
            // It is seen, and may not be read all the same.
            access.give(&shop, &["--add"], &["Describe".to_owned()]).await;
            assert_eq!(found(&config, name).await, told("topic-right"), "{name}");
            let (code, _, errors) = entail(&config, &["run", "--until-end"]).await;
            assert!(code != 0 && errors.contains("the principal may not read"), "{name}: {code} {errors}");
            access.give(&shop, &["--remove", "--force"], &["Describe".to_owned()]).await;
        }
        access.give(&shop, &["--add"], one).await;
        tried += 1;
    }
    println!("{tried} operations taken away in turn");
    markers(&shop, &config).await;
    let writing = all.iter().find(|access| access.resource[1] == letters).expect("the dead letters");
    writing.give(&shop, &["--remove", "--force"], &["Write".to_owned()]).await;
    waits_for(&shop, &config, writing, "Write", 2).await;
    for topic in [&shop.topic, &shop.bed.name("shop.public.orders")] {
        let found = found(&config, topic).await;
        assert!(["no-topic", "topic-right", "topic-settings"].iter().all(|code| !found.contains(*code)), "{topic}: {found:?}");
    }
    shop.assert_settled(20, 10, 0).await;
}
