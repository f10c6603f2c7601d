//! H75: a slip of the hand in a rules file is refused, or the rules do no more than before.

use super::*;
use crate::rules::OnMissing;
use proptest::prelude::*;

const EXAMPLES: [&str; 3] = ["shop.yaml", "tenants.yaml", "polymorphic.yaml"];

/// What a slip did to the rules, if it made them reach further than the text that it touched says. `touched` is the line of the slip.
fn wider(before: &RuleSet, after: &RuleSet, touched: &str) -> Option<String> {
    if after.references.len() > before.references.len() || after.replicas.len() > before.replicas.len() {
        return Some("more references or replicas".to_owned());
    }
    // Only a digit of the limit itself may change a limit: nothing falls back to a laxer default.
    let laxer = |old: u64, new: u64| new > old && !touched.contains("rows");
    let (old, new) = (before.limits, after.limits);
    if laxer(old.rows_per_event, new.rows_per_event)
        || laxer(old.rows.count, new.rows.count)
        || (new.rows.per < old.rows.per && !touched.contains("rows"))
    {
        return Some(format!("limits {old:?} -> {new:?}"));
    }
    if after.references.len() < before.references.len() {
        return None;
    }
    let widened = |(old, new): (&Reference, &Reference)| {
        let columns = old.columns.len() != new.columns.len() || old.parent_columns.len() != new.parent_columns.len();
        let conditions = new.when.len() < old.when.len() || old.when.iter().zip(&new.when).any(|(o, n)| n.values.len() > o.values.len());
        let action = std::mem::discriminant(&old.on_delete) != std::mem::discriminant(&new.on_delete) && destructive(&new.on_delete);
        let update = old.on_update != new.on_update && new.on_update != OnUpdate::NoAction;
        let missing = more_is_done(old.on_missing.as_ref(), new.on_missing.as_ref(), touched);
        let mode = old.mode == Mode::Shadow && new.mode == Mode::Enforce;
        let parts = [
            (columns, "columns"),
            (conditions, "when"),
            (action, "on_delete"),
            (update, "on_update"),
            (missing, "on_missing"),
            (mode, "mode"),
        ];
        parts.into_iter().find(|(wide, _)| *wide).map(|(_, part)| format!("{part}: {old:?} -> {new:?}"))
    };
    before.references.iter().zip(&after.references).find_map(widened)
}

fn destructive(action: &OnDelete) -> bool {
    match action {
        OnDelete::Cascade | OnDelete::SetNull(_) | OnDelete::SetDefault(_) | OnDelete::Set(_) => true,
        OnDelete::Restrict | OnDelete::NoAction => false,
    }
}

fn more_is_done(old: Option<&OnMissing>, new: Option<&OnMissing>, touched: &str) -> bool {
    match (old, new) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => {
            std::mem::discriminant(&old.then) != std::mem::discriminant(&new.then) || (new.wait < old.wait && !touched.contains("wait"))
        }
    }
}

/// Panics if the changed text is accepted and wider than the original.
fn refused_or_not_wider(before: &RuleSet, text: &str, touched: &str) -> bool {
    let files = files(&[text]);
    let checked = check(&files);
    match checked.rules {
        None => {
            assert!(!checked.diagnostics.is_empty());
            false
        }
        Some(after) => {
            let wide = wider(before, &after, touched);
            assert_eq!(wide, None, "after a change of: {touched}");
            true
        }
    }
}

/// The line around a byte.
fn line_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |before| before + 1);
    text[start..].split('\n').next().unwrap()
}

/// Deletes and doubles every character, and makes a comment of the rest of the line where a word begins.
fn every_character(name: &str) {
    let text: String = example(name).lines().map(|line| format!("{}\n", line.split('#').next().unwrap().trim_end())).collect();
    let before = accepted(&text);
    let (mut accepted_count, mut refused_count) = (0, 0);
    let mut previous = '\n';
    for (at, c) in text.char_indices() {
        let (head, tail) = (&text[..at], &text[at + c.len_utf8()..]);
        let mut changes = Vec::new();
        if c != previous {
            changes.extend([String::new(), format!("{c}{c}")]); // of a run, one stands for all
        }
        if previous.is_whitespace() && !c.is_whitespace() {
            changes.push("#".to_owned());
        }
        for middle in changes {
            let changed = format!("{head}{middle}{tail}");
            if refused_or_not_wider(&before, &changed, line_at(&text, at)) { accepted_count += 1 } else { refused_count += 1 }
        }
        previous = c;
    }
    assert!(accepted_count > 300 && refused_count > 300, "{accepted_count} accepted, {refused_count} refused");
}

#[test]
fn h75_every_character_of_the_shop() {
    every_character("shop.yaml");
}

#[test]
fn h75_every_character_of_the_tenants() {
    every_character("tenants.yaml");
}

#[test]
fn h75_every_character_of_the_polymorphic() {
    every_character("polymorphic.yaml");
}

#[test]
fn h75_every_line_deleted_or_doubled() {
    for name in EXAMPLES {
        let text = example(name);
        let before = accepted(&text);
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let mut fewer = lines.clone();
            fewer.remove(index);
            refused_or_not_wider(&before, &fewer.join("\n"), "");
            let mut more = lines.clone();
            more.insert(index, line);
            refused_or_not_wider(&before, &more.join("\n"), "");
        }
    }
}

/// Byte ranges of `key:` tokens outside comments.
fn keys(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split('#').next().unwrap();
        for (colon, _) in code.match_indices(": ") {
            let word = code[..colon].rfind([' ', '{', '-', ',']).map_or(0, |before| before + 1);
            found.push((start + word, start + colon));
        }
        start += line.len();
    }
    found
}

#[test]
fn h75_every_key_misspelt() {
    for name in EXAMPLES {
        let text = example(name);
        let before = accepted(&text);
        for (start, end) in keys(&text) {
            let key = &text[start..end];
            for changed in [format!("{key}s"), key.to_uppercase(), key.chars().rev().collect(), "name".to_owned(), "on_delete".to_owned()] {
                if changed != key {
                    refused_or_not_wider(&before, &format!("{}{changed}{}", &text[..start], &text[end..]), line_at(&text, start));
                }
            }
        }
    }
}

/// Issue 5, line 3: each character of each key deleted, doubled, and changed into every other that a key has. Every place of a key is tried once for
/// each example.
#[test]
fn h75_every_key_changed_by_one_character() {
    let (mut accepted_count, mut refused_count) = (0, 0);
    for name in EXAMPLES {
        let text = example(name);
        let before = accepted(&text);
        let mut seen = std::collections::BTreeSet::new();
        for (start, end) in keys(&text) {
            let key = &text[start..end];
            if !seen.insert(key) {
                continue;
            }
            for (at, c) in key.char_indices() {
                let (head, tail) = (&key[..at], &key[at + c.len_utf8()..]);
                let others = ('a'..='z').chain(['_']).filter(|other| *other != c).map(|other| other.to_string());
                for middle in others.chain([String::new(), format!("{c}{c}")]) {
                    let changed = format!("{}{head}{middle}{tail}{}", &text[..start], &text[end..]);
                    let is_accepted = refused_or_not_wider(&before, &changed, line_at(&text, start));
                    if is_accepted { accepted_count += 1 } else { refused_count += 1 }
                }
            }
        }
    }
    println!("{} changes of keys by one character: {refused_count} refused, {accepted_count} not wider", accepted_count + refused_count);
    assert!(refused_count > 7_000, "{refused_count}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn h75_no_text_makes_it_panic(text in "[a-z:\\-\\[\\]{}#&*!|>'\"%@,? \n\t0-9~.é]{0,120}") {
        let files = files(&[&text]);
        let checked = check(&files);
        prop_assert!(checked.rules.is_none() || text.contains("version"));
        let _ = render_text(&checked.diagnostics, &files);
    }

    #[test]
    fn h75_several_slips_never_panic_and_never_go_unexplained(
        which in 0..EXAMPLES.len(),
        slips in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~\n]{0,3}", 0usize..4), 1..4),
    ) {
        let mut text: Vec<char> = example(EXAMPLES[which]).chars().collect();
        for (at, put, take) in slips {
            let at = at.index(text.len());
            let end = (at + take).min(text.len());
            text.splice(at..end, put.chars());
        }
        let files = files(&[&text.into_iter().collect::<String>()]);
        let checked = check(&files);
        prop_assert!(checked.rules.is_some() || checked.diagnostics.iter().any(|d| d.severity == Severity::Error));
        let _ = render_text(&checked.diagnostics, &files);
        let _ = render_json(&checked.diagnostics, &files);
    }
}
