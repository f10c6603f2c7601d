//! `entail test`: the examples' tests pass, and notice whatever is changed in the examples' rules.

use std::path::Path;

use entail::scenario::{self, Bench};

use crate::support::worker::entail;

const EXAMPLES: [&str; 3] = ["shop", "tenants", "polymorphic"];
/// Actions that a reference may have instead of its own.
const ACTIONS: [&str; 4] = ["cascade", "set_null", "restrict", "no_action"];

fn rules(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules").join(name)).expect("an example")
}

/// Needs no settings.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let all: Vec<&str> = ["test"].into_iter().chain(arguments.iter().copied()).collect();
    entail(Path::new("none.yaml"), &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_pass_their_tests() {
    let (code, stdout, stderr) = run(&[concat!(env!("CARGO_MANIFEST_DIR"), "/rules"), "--format", "json"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    let played: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let played = played.as_array().expect("a list");
    assert!(played.len() >= 13 && played.iter().all(|one| one["passed"] == true), "{played:#?}");
}

/// Whether all tests of an example pass with these rules.
async fn passes(name: &str, rules: &str) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(format!("{name}.test.yaml"));
    std::fs::write(dir.path().join(format!("{name}.yaml")), rules).expect("a file");
    std::fs::write(&path, self::rules(&format!("{name}.test.yaml"))).expect("a file");
    let Some(suite) = scenario::read(&path).suite else { return false };
    let Ok(bench) = Bench::open(&suite).await else { return false };
    for scenario in &suite.scenarios {
        if !bench.play(scenario).await.is_ok_and(|verdict| verdict.differences.is_empty()) {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn h107_another_action_in_an_example_fails_its_tests() {
    let (mut tried, mut unnoticed) = (0, Vec::new());
    for name in EXAMPLES {
        let text = rules(&format!("{name}.yaml"));
        assert!(passes(name, &text).await, "{name}");
        let lines: Vec<&str> = text.lines().collect();
        for (place, line) in lines.iter().enumerate() {
            let Some((key, written)) = line.split_once(": ").filter(|(key, _)| ["on_delete", "on_update"].contains(&key.trim())) else {
                continue;
            };
            let written = written.split('#').next().expect("a first part").trim();
            // Of a reference that is in shadow nothing is done, whatever its action.
            for action in ACTIONS.into_iter().filter(|action| *action != written) {
                let mut other: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                other[place] = format!("{key}: {action}");
                tried += 1;
                if passes(name, &other.join("\n")).await {
                    unnoticed.push(format!("{name}:{} {action}", place + 1));
                }
            }
        }
    }
    println!("{tried} other actions in the examples, {} unnoticed", unnoticed.len());
    assert!(tried > 50, "{tried}");
    assert_eq!(unnoticed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_shows_what_is_not_as_expected() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("shop.yaml"), rules("shop.yaml").replace("columns: order_id", "columns: line")).expect("a file");
    std::fs::write(dir.path().join("shop.test.yaml"), rules("shop.test.yaml")).expect("a file");
    let path = dir.path().join("shop.yaml").display().to_string();
    let (code, stdout, stderr) = run(&[&path, "--only", "takes its lines"]).await;
    assert_eq!(code, 1, "{stdout}{stderr}");
    let shown = stdout.lines().filter(|line| !line.ends_with(" ms")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(shown.replace(&dir.path().display().to_string(), "DIR"), @r"
    DIR/shop.test.yaml
      FAIL  an order takes its lines and parcels along, and leaves the customer
            shop.order_line
              + { article: pot, line: 1, order_id: 11 }
            shipping.parcel
              + { number: 1, order_id: 11 }
            what was done
              the delete from shop.order
            at DIR/shop.test.yaml:38
    ");
    let (code, _, stderr) = run(&[&path, "--only", "nothing like it"]).await;
    assert!(code == 2 && stderr.contains("no test has that in its name"), "{stderr}");
}

/// A cascade of our own empties a table of more than a hundred rows: its rows' own events find nobody there, and that is no reason for a doubt.
#[tokio::test(flavor = "multi_thread")]
async fn h67_a_table_that_a_cascade_of_our_own_has_emptied_is_believed() {
    let orders: String = (1..=130).map(|id| format!("        - {{ id: {id}, customer_id: 1 }}\n")).collect();
    let lines: String = (1..=130).map(|id| format!("        - {{ order_id: {id}, line: 1 }}\n")).collect();
    let test = format!(
        "version: 1\ntests:\n  - name: all\n    given:\n      crm.customer: [{{ id: 1 }}]\n      shop.order:\n{orders}      shop.order_line:\n{lines}    \
         change: {{ delete: crm.customer, where: {{ id: 1 }} }}\n    expect:\n      rows: {{ shop.order: [], shop.order_line: [] }}\n      \
         counts: {{ order_customer: 130, line_order: 130 }}\n"
    );
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("shop.yaml"), rules("shop.yaml")).expect("a file");
    std::fs::write(dir.path().join("shop.test.yaml"), test).expect("a file");
    let (code, stdout, stderr) = run(&[&dir.path().join("shop.yaml").display().to_string()]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
}
