//! One good file, and patches each of which breaks one thing.

mod bombs;
mod mutations;
mod schema;

use super::*;
use crate::rules::{DEFAULT_ROWS, EntityId, Limits, MissingAction, OnDelete, OnUpdate, Reference, RowsPer, load, render_json, render_text};
use std::path::Path;
use std::time::Duration;

const GOOD: &str = "\
version: 1
mode: enforce
entities:
  - name: crm.customer
    table: customers
    key: id
    topic: crm.public.customers
  - name: shop.order
    table: orders
    key: id
    topic: shop.public.orders
  - name: shop.line
    table: sales.lines
    key: [order_id, line]
    topic: shop.public.lines
  - name: shop.note
    table: notes
    key: id
references:
  - name: order_customer
    child: shop.order
    columns: customer_id
    parent: crm.customer
    on_delete: cascade
    on_update: cascade
    on_missing: { wait: 15m, then: set_null }
  - name: line_order
    child: shop.line
    columns: order_id
    parent: shop.order
    on_delete: cascade
  - name: note_line
    child: shop.note
    columns: [note_order, note_line]
    when: { kind: [line, 7] }
    match: full
    parent: shop.line
    on_delete: { set_null: [note_line] }
    mode: shadow
  - name: note_order
    child: shop.note
    columns: about
    when: { kind: order }
    parent: shop.order
    on_delete: { set: { state: gone, about: null } }
replicas:
  - name: shop.customer_copy
    of: crm.customer
    table: customer_copy
    columns: { id: id, name: label }
limits:
  rows_per_event: 500
  rows: { count: 2000, per: 5m }
";

fn files(texts: &[&str]) -> Vec<SourceFile> {
    let name = |index: usize| if texts.len() == 1 { "rules.yaml".to_owned() } else { format!("{}.yaml", index + 1) };
    texts.iter().enumerate().map(|(index, text)| SourceFile { name: name(index), text: (*text).to_owned() }).collect()
}

fn accepted(text: &str) -> RuleSet {
    let files = files(&[text]);
    let checked = check(&files);
    assert_eq!(render_text(&checked.diagnostics, &files), "");
    checked.rules.unwrap()
}

fn patched(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "the patch must fit in one place: {from}");
    GOOD.replace(from, to)
}

fn reference<'r>(rules: &'r RuleSet, name: &str) -> &'r Reference {
    rules.references.iter().find(|reference| reference.name == name).unwrap()
}

/// `code@line` of each problem.
fn codes(texts: &[&str]) -> String {
    let files = files(texts);
    let checked = check(&files);
    let position = |d: &Diagnostic| {
        let file = files.iter().find(|file| file.name == d.file).unwrap();
        file.text[..d.span.start].matches('\n').count() + 1
    };
    checked.diagnostics.iter().map(|d| format!("{}@{}", d.code, position(d))).collect::<Vec<_>>().join(" ")
}

/// What, from, to, and the problem that is expected, with its line.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("no version", "version: 1\n", "", "missing-key@1"),
    ("another version", "version: 1", "version: 2", "bad-version@1"),
    ("version as text", "version: 1", "version: \"1\"", "bad-version@1"),
    ("no mode", "mode: enforce\n", "", "missing-key@1"),
    ("unknown mode", "mode: enforce", "mode: enforced", "unknown-mode@2"),
    ("unknown mode of a reference", "mode: shadow", "mode: shade", "unknown-mode@39"),
    ("unknown key of the file", "replicas:", "replica:", "unknown-key@46"),
    ("misspelt entities", "entities:", "entitys:", "unknown-key@3"),
    ("unknown key of an entity", "    topic: shop.public.lines", "    topics: shop.public.lines", "unknown-key@15"),
    ("unknown key of a reference", "match: full", "matches: full", "unknown-key@36"),
    ("duplicate key", "match: full", "match: full\n    match: full", "duplicate-key@37"),
    ("duplicate key of the file", "limits:", "mode: enforce\nlimits:", "duplicate-key@51"),
    ("no name", "- name: shop.line\n    table", "- table", "missing-key@12 undeclared-entity@27 undeclared-entity@36"),
    ("no table", "    table: orders\n", "", "missing-key@8"),
    ("no key", "- name: shop.note\n    table: notes\n    key: id", "- name: shop.note\n    table: notes", "missing-key@16"),
    ("no on_delete", "    on_delete: { set_null: [note_line] }\n", "", "missing-key@32"),
    ("misspelt on_delete", "on_delete: { set_null: [note_line] }", "on_delet: { set_null: [note_line] }", "unknown-key@38"),
    ("no parent", "    parent: crm.customer\n", "", "missing-key@20"),
    ("no child", "    child: shop.line\n", "", "missing-key@27"),
    ("no columns", "    columns: about\n", "", "missing-key@40"),
    ("text instead of a list", "references:\n", "references: all\nreferencs:\n", "wrong-kind@19 unknown-key@20"),
    ("null instead of a name", "table: orders", "table:", "wrong-kind@9"),
    ("a mapping instead of a name", "table: orders", "table: { name: orders }", "wrong-kind@9"),
    ("a number as a column", "columns: about", "columns: 7", "not-text@42"),
    ("a truth value as a column", "columns: about", "columns: true", "not-text@42"),
    ("an empty list of columns", "columns: about", "columns: []", "empty-list@42"),
    ("an empty key", "key: [order_id, line]", "key: []", "empty-list@14"),
    ("an empty list of values", "kind: [line, 7]", "kind: []", "empty-list@35"),
    ("an empty section", "replicas:\n", "replicas: []\nlimit:\n", "empty-list@46 unknown-key@47"),
    ("empty text", "table: orders", "table: \"\"", "empty-text@9"),
    ("blank text", "table: orders", "table: \"  \"", "empty-text@9"),
    ("outer blank", "table: orders", "table: \"orders \"", "bad-name@9"),
    ("control character", "table: orders", "table: \"ord\\ters\"", "bad-name@9"),
    ("escape sequence", "name: note_order\n", "name: \"a\\e[31m\"\n", "bad-name@40"),
    ("wildcard", "table: orders", "table: \"order*\"", "bad-name@9"),
    ("entity without a service", "name: shop.note", "name: note", "bad-entity-name@16 undeclared-entity@33 undeclared-entity@41"),
    ("entity with two dots", "name: shop.note", "name: eu.shop.note", "bad-entity-name@16 undeclared-entity@33 undeclared-entity@41"),
    ("table with two dots", "table: sales.lines", "table: eu.sales.lines", "bad-table@13"),
    ("pattern as a topic", "topic: shop.public.orders", "topic: ^shop", "bad-topic@11"),
    ("duplicate entity", "- name: shop.note", "- name: shop.line", "duplicate-name@16 undeclared-entity@33 undeclared-entity@41"),
    ("two entities on one table", "table: notes", "table: orders", "shared-table@17"),
    ("duplicate reference", "name: note_order\n", "name: line_order\n", "duplicate-name@40"),
    ("undeclared parent", "parent: crm.customer", "parent: crm.custmer", "undeclared-entity@23"),
    ("undeclared child", "child: shop.line", "child: shop.lien", "undeclared-entity@28"),
    ("too few columns", "[note_order, note_line]", "[note_line]", "unequal-columns@34"),
    ("too many columns", "columns: about", "columns: [about, kind2]", "unequal-columns@42"),
    ("a column twice", "[note_order, note_line]", "[note_line, note_line]", "repeated-name@34"),
    ("a key column twice", "key: [order_id, line]", "key: [line, line]", "repeated-name@14"),
    ("a parent column twice", "match: full", "parent_columns: [line, line]", "repeated-name@36"),
    ("part of a composite key", "match: full", "parent_columns: line", "part-of-key@36"),
    ("unknown action", "on_delete: { set_null: [note_line] }", "on_delete: casacde", "unknown-action@38"),
    ("unknown on_update", "on_update: cascade", "on_update: follow", "unknown-action@25"),
    ("action with two keys", "set_null: [note_line] }", "set_null: [note_line], set: { a: b } }", "action-form@38"),
    ("action with no key", "{ set_null: [note_line] }", "{}", "action-form@38"),
    ("action without a value in braces", "{ set_null: [note_line] }", "{ cascade: true }", "unknown-action@38"),
    ("set_null of another's column", "set_null: [note_line]", "set_null: [kind]", "foreign-column@38"),
    ("set_default of another's column", "set_null: [note_line]", "set_default: [kind]", "foreign-column@38"),
    ("set_null of nothing", "set_null: [note_line]", "set_null: []", "empty-list@38"),
    ("set of nothing", "set: { state: gone, about: null }", "set: {}", "empty-mapping@45"),
    ("set of a list", "state: gone", "state: [gone]", "wrong-kind@45"),
    ("set of a key column", "state: gone", "id: 1", "overwrites-key@45"),
    ("empty when", "when: { kind: order }", "when: {}", "empty-mapping@43"),
    ("null in when", "when: { kind: order }", "when: { kind: null }", "null-value@43"),
    ("a value twice in when", "[line, 7]", "[line, line]", "repeated-value@35"),
    ("when on an own column", "when: { kind: order }", "when: { about: order }", "when-own-column@43"),
    ("unknown match", "match: full", "match: partial", "unknown-match@36"),
    ("bad duration", "wait: 15m", "wait: soon", "bad-duration@26"),
    ("duration without a unit", "wait: 15m", "wait: 15", "bad-duration@26"),
    ("duration in months", "wait: 15m", "wait: 15M", "bad-duration@26"),
    ("no wait", "wait: 15m, ", "", "missing-key@26"),
    ("no then", ", then: set_null", "", "missing-key@26"),
    ("unknown then", "then: set_null", "then: drop", "unknown-action@26"),
    ("limit of zero", "rows_per_event: 500", "rows_per_event: 0", "bad-number@52"),
    ("negative limit", "rows_per_event: 500", "rows_per_event: -5", "bad-number@52"),
    ("limit with separators", "rows_per_event: 500", "rows_per_event: 5_000", "bad-number@52"),
    ("limit in quotes", "rows_per_event: 500", "rows_per_event: \"500\"", "bad-number@52"),
    ("limit above what databases count", "rows_per_event: 500", "rows_per_event: 9007199254740992", "bad-number@52"),
    ("limit too large to count", "rows_per_event: 500", "rows_per_event: 99999999999999999999", "bad-number@52"),
    ("window of no length", "per: 5m", "per: 0s", "bad-duration@53"),
    ("window without a count", "count: 2000, ", "", "missing-key@53"),
    ("empty limits", "limits:\n  rows_per_event: 500\n  rows: { count: 2000, per: 5m }\n", "limits: {}\n", "empty-mapping@51"),
    ("replica without its key", "{ id: id, name: label }", "{ name: label }", "key-not-copied@50"),
    ("two columns copied to one", "{ id: id, name: label }", "{ id: id, name: id }", "repeated-name@50"),
    ("a column copied twice", "{ id: id, name: label }", "{ id: id, id: label }", "duplicate-key@50"),
    ("replica of nothing", "of: crm.customer", "of: crm.customers", "undeclared-entity@48"),
    ("replica without a service", "name: shop.customer_copy", "name: customer_copy", "bad-entity-name@47"),
    ("replica of an entity without topic", "of: crm.customer", "of: shop.note", "no-topic@48"),
    ("replica onto an entity's table", "table: customer_copy", "table: orders", "shared-table@49"),
    ("one_to_one where it is not", "match: full", "one_to_one: true", "not-one-to-one@36"),
    ("an application's tag", "table: orders", "table: !secret orders", "yaml-syntax@9"),
    ("unclosed bracket", "[note_order, note_line]", "[note_order, note_line", "yaml-syntax@35"),
    ("bad indentation", "    table: orders", "  table: orders", "yaml-syntax@9"),
    ("tab", "    table: orders", "\ttable: orders", "yaml-syntax@8"),
    ("two documents", "references:", "---\nreferences:", "several-documents@19"),
    ("unknown alias", "table: orders", "table: *orders", "yaml-syntax@9"),
];

#[test]
fn the_good_file_means_what_it_says() {
    let rules = accepted(GOOD);
    assert_eq!(rules.limits, Limits { rows_per_event: 500, rows: RowsPer { count: 2000, per: Duration::from_secs(300), percent: None } });
    assert_eq!(rules.entity(EntityId(2)).table.to_string(), "sales.lines");
    assert_eq!(rules.entity(EntityId(2)).service, "shop");
    let note = reference(&rules, "note_line");
    assert_eq!(note.when[0].values, ["line", "7"]);
    assert_eq!(note.parent_columns, ["order_id", "line"]);
    assert_eq!((note.mode, note.on_update), (Mode::Shadow, OnUpdate::NoAction));
    assert_eq!(note.on_delete, OnDelete::SetNull(vec!["note_line".into()]));
    let order = reference(&rules, "order_customer");
    assert_eq!(order.mode, Mode::Enforce);
    assert_eq!(order.on_missing.as_ref().map(|missing| missing.then.clone()), Some(MissingAction::SetNull));
    let set = [("about".to_owned(), None), ("state".to_owned(), Some("gone".to_owned()))];
    assert_eq!(reference(&rules, "note_order").on_delete, OnDelete::Set(set.into()));
    assert_eq!(rules.replicas[0].columns[1], ("name".to_owned(), "label".to_owned()));
}

#[test]
fn h75_each_patch_is_refused_for_its_own_reason_at_its_own_line() {
    let found: Vec<(&str, String)> = BROKEN.iter().map(|(what, from, to, _)| (*what, codes(&[&patched(from, to)]))).collect();
    let expected: Vec<(&str, String)> = BROKEN.iter().map(|(what, _, _, expected)| (*what, (*expected).to_owned())).collect();
    let different: Vec<_> = found.iter().zip(&expected).filter(|(found, expected)| found != expected).collect();
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn every_problem_has_a_hint_and_a_stable_text() {
    let mut all = String::new();
    for (what, from, to, _) in BROKEN {
        let files = files(&[&patched(from, to)]);
        let checked = check(&files);
        assert_eq!(checked.rules, None, "{what}");
        for diagnostic in &checked.diagnostics {
            assert!(diagnostic.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{what}: {diagnostic:?}");
        }
        all.push_str(&format!("## {what}\n\n{}\n", render_text(&checked.diagnostics, &files)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn twenty_mistakes_are_reported_at_once_each_at_its_line() {
    let name = "twenty-mistakes.yaml".to_owned();
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rules/twenty-mistakes.yaml")).to_owned();
    let files = [SourceFile { name, text }];
    let checked = check(&files);
    assert_eq!(checked.rules, None);
    assert_eq!(checked.diagnostics.len(), 20);
    insta::assert_snapshot!("twenty_mistakes_text", render_text(&checked.diagnostics, &files));
    insta::assert_snapshot!("twenty_mistakes_json", render_json(&checked.diagnostics, &files));
}

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rules").join(name)).unwrap()
}

#[test]
fn every_example_is_accepted_without_a_warning_alone_and_together() {
    for name in ["shop.yaml", "tenants.yaml", "polymorphic.yaml"] {
        assert!(!accepted(&example(name)).references.is_empty());
    }
    let files = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules")).unwrap();
    let checked = check(&files);
    assert_eq!(render_text(&checked.diagnostics, &files), "");
    assert_eq!(checked.rules.unwrap().references.len(), 16);
}

#[test]
fn names_are_unique_over_all_files_and_both_places_are_named() {
    let other = "version: 1\nmode: enforce\nentities:\n  - { name: shop.order, table: other, key: id }\nreferences:\n  \
                 - { name: line_order, child: shop.line, columns: next, parent: crm.customer, on_delete: cascade }\n\
                 limits: { rows_per_event: 5 }\n";
    let files = files(&[GOOD, other]);
    let checked = check(&files);
    let found: Vec<(&str, &str, &str)> =
        checked.diagnostics.iter().map(|d| (d.code, d.file.as_str(), d.related[0].file.as_str())).collect();
    let (here, there) = ("2.yaml", "1.yaml");
    assert_eq!(found, [("duplicate-name", here, there), ("duplicate-name", here, there), ("duplicate-limits", here, there)]);
}

#[test]
fn references_may_name_entities_of_other_files() {
    let references = "version: 1\nmode: shadow\nreferences:\n  \
                      - { name: line_customer, child: shop.line, columns: customer, parent: crm.customer, on_delete: restrict }\n";
    let files = files(&[references, GOOD]);
    let checked = check(&files);
    let rules = checked.rules.unwrap();
    assert_eq!(rules.references[0].mode, Mode::Shadow, "each file's mode is for its own references");
    assert_eq!(rules.references[1].mode, Mode::Enforce);
    assert_eq!(codes(&[references, "version: 1\nentities: ["]), "yaml-syntax@2", "what a broken file declares is not missed");
}

#[test]
fn limits_have_defaults() {
    let rules = accepted(&patched("limits:\n  rows_per_event: 500\n  rows: { count: 2000, per: 5m }\n", ""));
    assert_eq!(rules.limits, Limits { rows_per_event: 10_000, rows: DEFAULT_ROWS });
}

#[test]
fn h75_scalars_stay_the_text_that_was_written() {
    let text = patched(
        "{ state: gone, about: null }",
        "{ a: 1.50, b: 012, c: no, d: true, e: \"null\", f: ~, g: 1_000, h: 0x1F, i: \"\", j: .inf }",
    );
    let text =
        text.replace("when: { kind: order }", "when: { kind: [no, 007, 1e3, True, \"true\"] }").replace("columns: about", "columns: no");
    let rules = accepted(&text);
    let note = reference(&rules, "note_order");
    assert_eq!(note.columns, ["no"]);
    assert_eq!(note.when[0].values, ["no", "007", "1e3", "True", "true"]);
    let OnDelete::Set(values) = &note.on_delete else { panic!() };
    let values: Vec<&str> = values.values().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    assert_eq!(values, ["1.50", "012", "no", "true", "null", "NULL", "1_000", "0x1F", "", ".inf"]);
}

#[test]
fn aliases_and_merge_keys_mean_what_they_stand_for() {
    let text = patched("key: [order_id, line]", "key: &key [order_id, line]").replace("match: full", "parent_columns: *key");
    assert_eq!(reference(&accepted(&text), "note_line").parent_columns, ["order_id", "line"]);
    let text = patched("name: line_order\n    child: shop.line", "name: line_order\n    <<: { child: shop.line, mode: shadow }");
    assert_eq!(reference(&accepted(&text), "line_order").mode, Mode::Shadow);
}

#[test]
fn h57_part_of_a_composite_key_is_refused_and_set_null_keeps_the_tenant() {
    let tenants = example("tenants.yaml");
    let part = tenants.replacen("parent: work.project\n", "parent: work.project\n    parent_columns: id\n", 1);
    let part = part.replace("columns: [tenant_id, project_id]", "columns: project_id");
    assert_eq!(codes(&[&part]).split('@').next(), Some("part-of-key"));
    let wiped = tenants.replace("{ set_null: [assignee_id] }", "set_null");
    assert_eq!(codes(&[&wiped]).split('@').next(), Some("overwrites-key"));
}

#[test]
fn h76_a_reference_on_the_childs_whole_key_is_a_warning_until_it_is_declared() {
    let reversed = patched("child: shop.note\n    columns: about", "child: shop.note\n    columns: id");
    let checked = check(&files(&[&reversed]));
    assert_eq!(codes(&[&reversed]), "maybe-reversed@42");
    assert!(checked.rules.is_some(), "a warning does not refuse the rules");
    accepted(&reversed.replace("columns: id\n", "columns: id\n    one_to_one: true\n"));
}

#[test]
fn h109_a_polymorphic_column_without_its_when_is_refused() {
    let example = example("polymorphic.yaml");
    for line in ["    when: { owner_type: contact }\n", "    when: { owner_type: [ticket, incident] }                  # any of these\n"] {
        assert_eq!(example.matches(line).count(), 1);
        assert_eq!(codes(&[&example.replace(line, "")]).split('@').next(), Some("when-missing"));
    }
}

#[test]
fn h110_set_null_of_the_childs_own_key_is_refused_wherever_it_is_written() {
    for (from, to) in [
        (
            "columns: order_id\n    parent: shop.order\n    on_delete: cascade",
            "columns: order_id\n    parent: shop.order\n    on_delete: set_null",
        ),
        ("parent: shop.order\n    on_delete: cascade", "parent: shop.order\n    on_delete: cascade\n    on_update: set_null"),
        (
            "parent: shop.order\n    on_delete: cascade",
            "parent: shop.order\n    on_delete: cascade\n    on_missing: { wait: 1m, then: set_null }",
        ),
    ] {
        assert_eq!(codes(&[&patched(from, to)]).split('@').next(), Some("overwrites-key"), "{to}");
    }
}

#[test]
fn h111_a_parent_without_a_topic_is_refused_unless_its_children_are_heard() {
    let deaf = patched("    topic: crm.public.customers\n", "").replace(
        "replicas:\n  - name: shop.customer_copy\n    of: crm.customer\n    table: customer_copy\n    columns: { id: id, name: label }\n",
        "",
    );
    accepted(&deaf); // its one reference has an `on_missing`, and the child a topic
    let unheard = deaf.replace("    on_missing: { wait: 15m, then: set_null }\n", "");
    assert_eq!(codes(&[&unheard]), "no-topic@4");
    let childless = deaf.replace("    topic: shop.public.orders\n", "");
    assert_eq!(codes(&[&childless]), "no-topic@4 no-topic@7 no-topic@24", "the customer, the order as a parent, its on_missing");
}

#[test]
fn the_unused_and_the_shared_are_warned_of() {
    let unused = patched("references:", "  - { name: shop.wish, table: wishes, key: id }\nreferences:");
    assert_eq!(codes(&[&unused]), "unused-entity@19");
    assert_eq!(codes(&[&patched("topic: shop.public.lines", "topic: shop.public.orders")]), "shared-topic@15");
    assert_eq!(codes(&["version: 1\n"]), "nothing-enforced@1");
}

#[test]
fn replicas_have_tables_of_their_own() {
    let again = "replicas:\n  - { name: shop.again, of: shop.order, table: customer_copy, columns: { id: id } }\n";
    assert_eq!(codes(&[&patched("replicas:\n", again)]), "shared-table@50");
    let own = patched("name: shop.customer_copy", "name: crm.customer_copy").replace("table: customer_copy", "table: customers");
    assert_eq!(codes(&[&own]), "shared-table@49");
    accepted(&patched("name: shop.customer_copy", "name: crm.customer_copy"));
}

#[test]
fn h77_a_fingerprint_changes_with_every_field_and_with_nothing_else() {
    let rules = accepted(GOOD);
    let of = |text: &str, name: &str| {
        let rules = accepted(text);
        reference(&rules, name).fingerprint(&rules)
    };
    let before = of(GOOD, "note_line");
    assert_eq!(before.len(), 64);
    for (from, to) in [
        ("kind: [line, 7]", "kind: [line, 8]"),
        ("kind: [line, 7]", "sort: [line, 7]"),
        ("match: full", "match: simple"),
        ("match: full", "parent_columns: [line, order_id]"),
        ("set_null: [note_line]", "set_default: [note_line]"),
        ("set_null: [note_line]", "set: { note_line: null }"),
        ("[note_order, note_line]", "[note_line, note_order]"),
        ("mode: shadow", "mode: enforce"),
        ("mode: shadow", "on_update: restrict\n    mode: shadow"),
        ("table: notes", "table: x.notes"),
        ("table: sales.lines", "table: lines"),
        ("key: [order_id, line]", "key: [order_id, number]"),
    ] {
        assert_ne!(of(&patched(from, to), "note_line"), before, "{to}");
    }
    for (from, to) in [("limits:", "# a comment\nlimits:"), ("on_update: cascade", "on_update: restrict"), ("table: orders", "table: o")] {
        assert_eq!(of(&patched(from, to), "note_line"), before, "{to}");
        assert_eq!(accepted(&patched(from, to)).fingerprint() == rules.fingerprint(), to.starts_with('#'), "{to}");
    }
    for (from, to) in [("rows_per_event: 500", "rows_per_event: 501"), ("name: label", "name: title"), (": shop.public.lines", ": lines")] {
        assert_ne!(accepted(&patched(from, to)).fingerprint(), rules.fingerprint(), "{to}");
    }
}

#[test]
fn h77_each_action_has_a_fingerprint_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    let actions = ["cascade", "set_null", "set_default", "restrict", "no_action", "{ set: { a: null } }", "{ set: { a: \"null\" } }"];
    for action in actions {
        let rules = accepted(&patched("{ set: { state: gone, about: null } }", action));
        seen.insert(reference(&rules, "note_order").fingerprint(&rules));
    }
    let thens = ["delete", "set_default", "report", "dead_letter", "{ set: { a: 1 } }", "{ set: { a: 2 } }"];
    for then in thens {
        let rules = accepted(&patched("then: set_null", &format!("then: {then}")));
        seen.insert(reference(&rules, "order_customer").fingerprint(&rules));
    }
    assert_eq!(seen.len(), actions.len() + thens.len());
}
