//! Texts of values for every column type, and keys as the ledger and people write them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for kind in entail_fuzz::types() {
        if let Ok(canonical) = kind.canonical(text) {
            assert_eq!(kind.canonical(&canonical).as_ref(), Ok(&canonical), "canonical texts are their own");
        }
    }
    if let Some(key) = entail::ledger::parse_key(text) {
        assert_eq!(entail::ledger::parse_key(&entail::ledger::key_text(&key)), Some(key));
    }
});
