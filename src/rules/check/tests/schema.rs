//! The schema that `entail schema` prints, held against everything that these tests call good and bad.

use super::*;
use jsonschema::Validator;
use serde_json::Value as Json;

/// Codes of mistakes that no schema can see: they are about names elsewhere in the files, or about how YAML is written.
const BEYOND: [&str; 23] = [
    "duplicate-key",
    "duplicate-name",
    "undeclared-entity",
    "shared-table",
    "unequal-columns",
    "part-of-key",
    "foreign-column",
    "overwrites-key",
    "repeated-value",
    "when-own-column",
    "key-not-copied",
    "no-topic",
    "not-one-to-one",
    "yaml-syntax",
    "several-documents",
    "unused-entity",
    "maybe-reversed",
    "when-missing",
    "nothing-enforced",
    "shared-topic",
    "duplicate-limits",
    "repeated-name",
    "bad-duration",
];

fn schema(text: &str) -> Validator {
    let schema: Json = serde_json::from_str(text).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn rules_schema() -> Validator {
    schema(include_str!("../../../schema/rules.json"))
}

/// As an editor reads it.
fn read(yaml: &str) -> Option<Json> {
    serde_saphyr::from_str(yaml).ok()
}

#[test]
fn what_is_good_is_good_by_the_schema() {
    let schema = rules_schema();
    let examples = ["shop.yaml", "tenants.yaml", "polymorphic.yaml"].map(example);
    for text in examples.iter().map(String::as_str).chain([GOOD]) {
        let problems: Vec<String> =
            schema.iter_errors(&read(text).unwrap()).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

#[test]
fn h75_a_mistake_of_form_is_one_by_the_schema_too() {
    let schema = rules_schema();
    let (mut seen, mut missed) = (0, Vec::new());
    for (what, from, to, expected) in BROKEN {
        let is_beyond = expected.split(' ').all(|problem| BEYOND.contains(&problem.split('@').next().unwrap_or_default()));
        let is_told = read(&patched(from, to)).is_none_or(|value| !schema.is_valid(&value));
        seen += usize::from(is_told);
        // That some references need the file's mode is a matter of all of them; and an editor reads `5_000` as a number.
        if !is_told && !is_beyond && !matches!(*what, "no mode" | "limit with separators") {
            missed.push(*what);
        }
    }
    println!("{seen} of {} mistakes are told by the schema alone", BROKEN.len());
    assert!(missed.is_empty(), "{missed:?}");
    assert!(seen > 65, "{seen}");
}

/// Every key that a file may have is in the schema, and no other.
#[test]
fn the_schema_has_the_keys_of_the_format() {
    let schema: Json = serde_json::from_str(include_str!("../../../schema/rules.json")).unwrap();
    let keys = |path: &str| -> Vec<String> {
        let mut keys: Vec<String> = schema.pointer(path).and_then(Json::as_object).unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let sorted = |keys: &[&str]| {
        let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys("/properties"), sorted(&FILE_KEYS));
    assert_eq!(keys("/$defs/entity/properties"), sorted(&entities::KEYS));
    assert_eq!(keys("/$defs/reference/properties"), sorted(&references::KEYS));
    assert_eq!(keys("/$defs/replica/properties"), sorted(&replicas::KEYS));
}
