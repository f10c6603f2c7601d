//! Random bytes never panic, and no damage to a captured record makes a delete of what does not say so.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn types() -> Vec<ColumnType> {
    use ColumnType as T;
    vec![
        T::Bool,
        I64,
        U64,
        T::Decimal { scale: None },
        T::Decimal { scale: Some(2) },
        T::Float,
        T::Text,
        T::Char,
        T::Uuid,
        T::Bytes,
        T::Date,
        T::Time { precision: 6 },
        T::Timestamp { precision: 3 },
        T::TimestampTz { precision: 6 },
        T::Json,
        T::Other("inet".into()),
    ]
}

/// Pieces of which keys, values and headers are made, so that many come out well-formed.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "null",
        "true",
        "42",
        "-1",
        "1e9",
        "0.5",
        "\"id\":",
        "\"schema\":",
        "\"payload\":",
        "\"op\":\"d\"",
        "\"op\":\"c\"",
        "\"before\":",
        "\"after\":",
        "\"source\":",
        "{\"type\":\"struct\"}",
        "\"__deleted\":\"true\"",
        "\"__op\":",
        "Struct{id=",
        "\"D54=\"",
        "\"table\":\"customers\"",
        "{\"id\":42}",
        "\"2018-06-20T15:13:16.9Z\"",
        "{\"scale\":2,\"value\":\"D54=\"}",
    ];
    prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()), 1 => vec(any::<u8>(), 0..6)]
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![1 => Just(None), 4 => vec(fragment(), 0..12).prop_map(|parts| Some(parts.concat())), 1 => vec(any::<u8>(), 0..40).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn h101_no_bytes_panic(key in bytes(), value in bytes(), new in bytes(), op in bytes(), which in 0..16_usize) {
        let mut record = record(None, None);
        (record.key, record.value) = (key, value);
        record.headers = vec![("__debezium.newkey".into(), new.clone()), ("__debezium.oldkey".into(), new), ("__op".into(), op)];
        let kind = types()[which].clone();
        let topic = spec(vec![entity("customers", &[("id", kind.clone())], &[("name", kind)]), entity("orders", &[("id", I64)], &[])]);
        if let Err(error) = decode(&record, &topic) {
            prop_assert!(!error.hint().is_empty());
        }
        record.headers.clear();
        let _ = decode(&record, &topic);
    }

    #[test]
    fn canonical_texts_are_their_own(text in "[-+0-9a-fxT:. Z]{0,24}", which in 0..16_usize) {
        let kind = types()[which].clone();
        if let Ok(canonical) = kind.canonical(&text) {
            prop_assert_eq!(kind.canonical(&canonical), Ok(canonical));
        }
    }

    #[test]
    fn any_json_value_reads_or_not(json in vec(fragment(), 1..4), which in 0..16_usize) {
        let kind = types()[which].clone();
        let json = json.concat();
        let key = [b"{\"id\":", json.as_slice(), b"}"].concat();
        let mut record = record(None, None);
        record.key = Some(key);
        if let Ok(Decoded { content: Content::Events(events), .. }) = decode(&record, &spec(vec![entity("customers", &[("id", kind.clone())], &[])])) {
            let Operation::Hint { key } = &events[0].operation else { panic!("a tombstone is a hint") };
            prop_assert_eq!(kind.canonical(&key.parts()[0]), Ok(key.parts()[0].clone()));
        }
    }
}

/// One damage to a text: a byte changed, a piece cut out, two pieces swapped, or another record's piece put in.
#[derive(Debug, Clone)]
enum Damage {
    Byte(usize, u8),
    Cut(usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (any::<usize>(), fragment()).prop_map(|(at, piece)| Damage::Insert(at, piece)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Byte(at, byte) => {
            let at = at % bytes.len();
            bytes[at] = *byte;
        }
        Damage::Cut(at, length) => {
            let at = at % bytes.len();
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Damage::Insert(at, piece) => {
            let at = at % bytes.len();
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

/// Whether the record says that a row was deleted, by a reading of its own: any mention counts, escapes included.
fn says_deleted(record: &Record) -> bool {
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).replace(char::is_whitespace, "");
    let value =
        [("\\u006f", "o"), ("\\u0070", "p"), ("\\u0064", "d")].iter().fold(value, |text, (escape, letter)| text.replace(escape, letter));
    let in_header =
        record.headers.iter().any(|(name, value)| name == "__op" && value.as_deref().is_some_and(|value| value.contains(&b'd')));
    in_header || ["\"op\":\"d\"", "\"__op\":\"d\"", "\"__deleted\":\"true\"", "\"__deleted\":true"].iter().any(|mark| value.contains(mark))
}

#[test]
fn h4_a_damaged_record_is_a_delete_only_if_it_says_so() {
    let files: Vec<_> = samples::files()
        .into_iter()
        .map(|(file, text)| {
            let records = samples::records(&text);
            (samples::specs(&file, &records), records)
        })
        .collect();
    let all: Vec<_> = files.iter().flat_map(|(specs, records)| records.iter().map(move |record| (specs, record))).collect();
    let (deletes, others) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 12_000, failure_persistence: None, ..ProptestConfig::default() });
    let strategy = (0..all.len(), vec((0..2_u8, damage()), 1..3));
    runner
        .run(&strategy, |(which, damages)| {
            let (specs, record) = all[which];
            let mut record = record.clone();
            for (part, damage) in &damages {
                let part = if *part == 0 { &mut record.key } else { &mut record.value };
                part.iter_mut().for_each(|bytes| apply(bytes, damage));
            }
            let decoded = decode(&record, &specs[&record.at.partition.topic]);
            let Ok(Decoded { content: Content::Events(events), .. }) = decoded else { return Ok(()) };
            for event in events {
                if let Operation::Delete { .. } = event.operation {
                    deletes.set(deletes.get() + 1);
                    prop_assert!(says_deleted(&record), "a delete that nobody asked for");
                    prop_assert!(record.value.is_some());
                    prop_assert!(!record.headers.iter().any(|(name, _)| name == "__debezium.newkey"), "a key change became a delete");
                } else {
                    others.set(others.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap();
    let (deletes, others) = (deletes.get(), others.get());
    assert!(deletes > 150 && others > 1000, "the damaged records decoded to too little: {deletes} deletes, {others} others");
}
