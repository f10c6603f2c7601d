//! Records: a byte that picks the topic, then key and value, parted by a zero byte. A missing part is a missing key or value.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((pick, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (key, value) = (parts.next().filter(|part| !part.is_empty()), parts.next());
    entail_fuzz::decode(&entail_fuzz::record(key, value, Vec::new()), &entail_fuzz::topic(*pick));
});
