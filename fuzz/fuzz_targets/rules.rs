//! Rules files.
#![no_main]

use entail::rules::{self, SourceFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() };
    let checked = rules::check(std::slice::from_ref(&file));
    match checked.rules {
        Some(rules) => assert_eq!(rules.fingerprint(), rules::check(&[file]).rules.map(|rules| rules.fingerprint()).unwrap_or_default()),
        None => assert!(!checked.diagnostics.is_empty(), "refused without a word"),
    }
});
