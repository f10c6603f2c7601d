//! The placeholder that Debezium sends for an unchanged out-of-line value, in its seven forms (H12).
//!
//! The default of `unavailable.value.placeholder`; another text set there is not recognised.

const TEXT: &str = "__debezium_unavailable_value";
/// Its bytes in base64, as bytea sends them.
const BASE64: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
/// Its bytes in hexadecimal, as bytea sends them with `binary.handling.mode=hex`.
const HEX: &str = "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565";
/// text[]
const TEXT_ARRAY: &str = r#"["__debezium_unavailable_value"]"#;
/// int[] and bigint[]: one number per character.
const INT_ARRAY: &str = "[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101]";
/// uuid[]: the name uuid (MD5) of the placeholder.
const UUID_ARRAY: &str = r#"["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]"#;
/// hstore, as an object or as a string that holds it.
const HSTORE: &str = r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;

/// Whether a JSON string's text is the placeholder.
pub(super) fn is_text(text: &str) -> bool {
    text == TEXT || text == BASE64 || text.eq_ignore_ascii_case(HEX) || same(text, HSTORE)
}

/// Whether a JSON array or object, as written, is the placeholder.
pub(super) fn is_compound(json: &str) -> bool {
    [TEXT_ARRAY, INT_ARRAY, UUID_ARRAY, HSTORE].iter().any(|form| same(json, form))
}

/// Equal but for white space.
fn same(json: &str, form: &str) -> bool {
    json.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(form.bytes())
}
