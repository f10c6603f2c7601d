//! Files of tests that are wrong, and verdicts.

use std::path::Path;

use super::*;
use jsonschema::Validator;

const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: t.customers }
  - { name: shop.order, table: orders, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }
  - { name: order_payer, child: shop.order, columns: payer_id, parent: crm.customer, on_delete: set_null }
replicas:
  - { name: shop.copy, of: crm.customer, table: copies, columns: { id: id, name: label } }
";

const GOOD: &str = "\
version: 1
tests:
  - name: one
    given:
      crm.customer: [{ id: 1, name: Ada }, { id: 2, name: Bob }]
      shop.order: [{ id: 10, customer_id: 1 }, { id: 11, customer_id: 2, payer_id: 1 }]
    change: { delete: crm.customer, where: { id: 1 } }
    expect:
      rows: { shop.order: [{ id: 11, payer_id: null }] }
      counts: { order_customer: 1, order_payer: 1 }
";

/// The same with one mistake, and the code by which it is told.
const BROKEN: [(&str, &str, &str); 24] = [
    ("version: 1", "version: 2", "bad-version"),
    ("version: 1", "version: 1\nrule: x.yaml", "unknown-key"),
    ("version: 1", "version: 1\nrules: nowhere.yaml", "unreadable-file"),
    ("version: 1", "version: 1\nmode: shadow", "unknown-mode"),
    ("version: 1", "version: 1\ndefaults: { shop.ordr: { id: 1 } }", "unknown-name"),
    ("tests:", "test:", "unknown-key"),
    ("name: one", "nam: one", "unknown-key"),
    ("given:", "givn:", "unknown-key"),
    ("crm.customer: [{ id: 1", "crm.custommer: [{ id: 1", "unknown-name"),
    ("shop.order: [{ id: 10, customer_id: 1 }", "shop.order: [{ id: 10, custmer_id: 1 }", "unknown-column"),
    ("{ id: 10, customer_id: 1 }", "{ customer_id: 1 }", "key-missing"),
    ("{ id: 10, customer_id: 1 }", "{ id: null, customer_id: 1 }", "key-missing"),
    ("{ id: 10, customer_id: 1 }", "{ id: [1], customer_id: 1 }", "wrong-kind"),
    ("[{ id: 10, customer_id: 1 }, { id: 11, customer_id: 2, payer_id: 1 }]", "{ id: 10 }", "wrong-kind"),
    ("{ delete: crm.customer, where: { id: 1 } }", "{ delete: crm.customer }", "missing-key"),
    ("{ delete: crm.customer, where: { id: 1 } }", "{ delete: crm.customer, where: {} }", "empty-mapping"),
    ("{ delete: crm.customer, where: { id: 1 } }", "{ delete: crm.customer, where: { id: 1 }, set: { id: 2 } }", "bad-change"),
    ("{ delete: crm.customer, where: { id: 1 } }", "{ where: { id: 1 } }", "bad-change"),
    ("{ delete: crm.customer, where: { id: 1 } }", "{ delete: shop.copy, where: { id: 1 } }", "bad-change"),
    ("    change: { delete: crm.customer, where: { id: 1 } }\n", "", "missing-key"),
    ("counts: { order_customer: 1", "counts: { order_custmer: 1", "unknown-name"),
    ("counts: { order_customer: 1", "counts: { order_customer: -1", "bad-number"),
    ("      counts: {", "      count: {", "unknown-key"),
    ("    expect:\n", "    expect: {}\n    given:\n", "duplicate-key"),
];

fn read_text(text: &str) -> Read {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.yaml"), RULES).unwrap();
    let path = dir.path().join("shop.test.yaml");
    std::fs::write(&path, text).unwrap();
    read(&path)
}

fn schema() -> Validator {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../schema/tests.json")).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn patched(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn a_mistake_in_a_file_of_tests_is_told() {
    assert_eq!(read_text(GOOD).problems, []);
    for (from, to, code) in BROKEN {
        let read = read_text(&patched(from, to));
        let codes: Vec<&str> = read.problems.iter().map(|problem| problem.code).collect();
        assert!(codes.contains(&code) && read.suite.is_none(), "{to}: {codes:?}");
        assert!(read.problems.iter().all(|problem| problem.hint.is_some()), "{to}: {:#?}", read.problems);
    }
}

#[test]
fn the_schema_calls_the_examples_good_and_mistakes_of_form_bad() {
    let schema = schema();
    let value = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).ok();
    for name in ["shop", "tenants", "polymorphic"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("rules/{name}.test.yaml"));
        let problems: Vec<String> =
            schema.iter_errors(&value(&std::fs::read_to_string(path).unwrap()).unwrap()).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}");
    }
    assert!(schema.is_valid(&value(GOOD).unwrap()));
    for (from, to, code) in BROKEN {
        // What is not about form is about names elsewhere.
        let is_beyond = ["unreadable-file", "unknown-name", "unknown-column", "key-missing"].contains(&code) || to.contains("shop.copy");
        assert!(is_beyond || value(&patched(from, to)).is_none_or(|value| !schema.is_valid(&value)), "{to}");
    }
}

/// A verdict on [`GOOD`] with something else expected.
fn verdict(from: &str, to: &str) -> Vec<Difference> {
    let read = read_text(&patched(from, to));
    let suite = read.suite.unwrap_or_else(|| panic!("{:#?}", read.problems));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Bench::open(&suite).await.unwrap().play(&suite.scenarios[0]).await.unwrap() }).differences
}

#[test]
fn what_is_as_expected_differs_in_nothing() {
    assert_eq!(verdict("one", "another"), []);
    // The order of rows and changes to what the rules do not know do not matter.
    assert_eq!(verdict("{ id: 11, customer_id: 2, payer_id: 1 }", "{ id: 11, customer_id: 2, payer_id: 1, note: '007' }"), []);
}

#[test]
fn h107_what_is_not_expected_is_a_difference() {
    let row =
        |pairs: &[(&str, Option<&str>)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect::<Row>();
    // A row that a wrong rule would take, of a table that is not named, of a copy, of a value, of a count.
    let gone = verdict("      rows: { shop.order: [{ id: 11, payer_id: null }] }\n", "");
    assert!(
        matches!(gone.as_slice(), [Difference::Missing { row, .. }, Difference::Value { column, .. }] if row["id"].as_deref() == Some("10") && column == "payer_id"),
        "{gone:?}"
    );
    let kept = verdict("[{ id: 11, payer_id: null }]", "[]");
    let left = row(&[("id", Some("11")), ("customer_id", Some("2")), ("payer_id", None)]);
    assert_eq!(kept, [Difference::Unexpected { entity: "shop.order".to_owned(), row: left }]);
    let value = verdict("{ id: 11, payer_id: null }", "{ id: 11, payer_id: 2 }");
    assert!(matches!(value.as_slice(), [Difference::Value { expected: Some(two), found: None, .. }] if two == "2"), "{value:?}");
    let count = verdict("order_customer: 1, order_payer: 1", "order_customer: 2");
    assert!(
        matches!(count.as_slice(), [Difference::Count { expected: 2, found: 1, .. }, Difference::Count { expected: 0, found: 1, .. }]),
        "{count:?}"
    );
    let copy = verdict("counts:", "rows2:".replace("rows2:", "shadow: { order_payer: 1 }\n      counts:").as_str());
    assert!(matches!(copy.as_slice(), [Difference::Count { what: "shadow", expected: 1, found: 0, .. }]), "{copy:?}");
    let parked = verdict("counts:", "parked: { crm.customer: restrict }\n      counts:");
    assert!(matches!(parked.as_slice(), [Difference::State { what: "parked", is_expected: true, .. }]), "{parked:?}");
}
