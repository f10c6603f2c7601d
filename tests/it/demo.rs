//! `entail demo`, as it is run.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::wait::blocking;

async fn demo(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    blocking(move || Command::new(env!("CARGO_BIN_EXE_entail")).arg("demo").args(arguments).output().expect("the binary runs")).await
}

fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Entity, reference and rows of every branch, from top to bottom.
fn branches(tree: &Value) -> Vec<(String, Value, u64)> {
    let mut found = Vec::new();
    for branch in tree["branches"].as_array().expect("branches") {
        found.push((
            branch["entity"].as_str().expect("a name").to_owned(),
            branch["reference"].clone(),
            branch["rows"].as_u64().expect("rows"),
        ));
        found.extend(branches(branch));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_goes_as_told_and_a_load_on_top() {
    let output = demo(&["--format", "json", "--rate", "20", "--for", "1s"]).await;
    let told = document(&output);
    assert!(output.status.success() && told["as_told"] == true, "{told}");
    assert_eq!(told["seeded"]["rows"]["shop.order"], 6);
    let root = &told["cascade"]["root"];
    assert_eq!((&root["entity"], &root["key"]), (&json!("crm.customer"), &json!("1")));
    let wanted = [
        ("shop.order", json!("order_customer"), 3),
        ("shop.order_line", json!("line_order"), 7),
        ("shipping.parcel", json!("parcel_order"), 5),
        ("shop.customer_copy", Value::Null, 1),
    ];
    assert_eq!(branches(root), wanted.map(|(entity, reference, rows)| (entity.to_owned(), reference, rows)));
    assert_eq!(told["cascade"]["echoes_without_effect"], 6, "three deletes and their tombstones");
    let stale = &told["stale_delete"];
    assert_eq!((&stale["outcome"], &stale["spared_before"], &stale["spared_after"]), (&json!("no effect"), &json!(0), &json!(1)));
    let letter = &told["dead_letter"];
    assert_eq!((&letter["stage"], &letter["key"]), (&json!("decode"), &json!("{\"id\":\"12abc\"}")));
    assert!(letter["position"].as_str().expect("a position").starts_with("crm.main.customers["), "{letter}");
    assert!(letter["reason"].as_str().expect("a reason").contains("`id`"), "{letter}");
    let load = &told["load"];
    assert_eq!(load["customers"], 20);
    assert_eq!(load["rows"], json!({"shop.order": 40, "shop.order_line": 80, "shipping.parcel": 40}));
    assert_eq!(told["accounts"]["balance"], true);
    assert_eq!(told["accounts"]["rows"], json!({"order_customer": 43, "line_order": 87, "parcel_order": 45}));
    assert_eq!(told["directory"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_there_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The driver reads `%` and `?` in a url its own way.
    let kept = dir.path().join("new").join("50%3F done?");
    let path = kept.to_str().expect("plain text");
    let output = demo(&["--keep", path]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("│  └─ shipping.parcel    5 rows  via parcel_order"), "{text}");
    assert!(text.contains(path), "{text}");
    let names: Vec<String> = listed(&kept);
    for name in ["crm.db", "entail.yaml", "rules.yaml", "shipping.db", "shop.db"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    let settings = kept.join("entail.yaml");
    let checked = blocking(move || Command::new(env!("CARGO_BIN_EXE_entail")).arg("--config").arg(settings).arg("check").output()).await;
    assert!(checked.expect("the binary runs").status.success(), "the kept settings and rules are good");
    let again = demo(&["--keep", path]).await;
    assert_eq!(again.status.code(), Some(2));
    assert!(again.stdout.is_empty(), "refused before anything is shown");
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"), "{again:?}");
    assert_eq!(listed(&kept), names, "nothing was touched");
}

fn listed(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the directory is there");
    let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
