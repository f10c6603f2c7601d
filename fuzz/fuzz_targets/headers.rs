//! Headers beside a delete that is well-formed: a byte that picks the topic, then pairs of name and value, parted by zero bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 8] = [
    "__debezium.newkey",
    "__debezium.oldkey",
    "__op",
    "__deleted",
    "ce_specversion",
    "content-type",
    "schema",
    "__debezium.context.connectorName",
];

fuzz_target!(|data: &[u8]| {
    let Some((pick, rest)) = data.split_first() else { return };
    let mut headers = Vec::new();
    for header in rest.split(|byte| *byte == 0) {
        let Some((name, value)) = header.split_first() else { continue };
        let name = match NAMES.get(usize::from(*name % 16)) {
            Some(name) => (*name).to_owned(),
            None => String::from_utf8_lossy(value).into_owned(),
        };
        headers.push((name, Some(value.to_vec()).filter(|value| !value.is_empty())));
    }
    let value = br#"{"before":{"id":1,"name":"a","other":2},"after":null,"source":{"table":"customers","connector":"postgresql","lsn":9},"op":"d"}"#;
    let topic = entail_fuzz::topic(*pick);
    entail_fuzz::decode(&entail_fuzz::record(Some(br#"{"id":1}"#), Some(value), headers.clone()), &topic);
    entail_fuzz::decode(&entail_fuzz::record(Some(br#"{"id":1}"#), None, headers), &topic);
});
