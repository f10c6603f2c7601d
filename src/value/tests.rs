//! Canonical texts, and which column types may be compared.

use super::number::Exact;
use super::{ColumnType, Comparability, IntType, ValueError, can_hold, comparable};

const I64: ColumnType = ColumnType::Int(IntType { bits: 64, unsigned: false });
const U64: ColumnType = ColumnType::Int(IntType { bits: 64, unsigned: true });

fn decimal(scale: impl Into<Option<u16>>) -> ColumnType {
    ColumnType::Decimal { scale: scale.into() }
}

#[test]
fn canonical_texts_of_databases_and_rules() {
    let int = |bits, unsigned| ColumnType::Int(IntType { bits, unsigned });
    let good = [
        (I64, "42", "42"),
        (I64, "042", "42"),
        (I64, "42.0", "42"),
        (I64, "+42", "42"),
        (I64, " 42 ", "42"),
        (I64, "-0", "0"),
        (U64, "18446744073709551615", "18446744073709551615"),
        (int(8, false), "-128", "-128"),
        (int(8, true), "255", "255"),
        (decimal(2), "5", "5.00"),
        (decimal(2), "-005.5", "-5.50"),
        (decimal(2), "0.05", "0.05"),
        (decimal(4), "1.230", "1.2300"),
        (decimal(None), "5.500", "5.5"),
        (decimal(None), "100", "100"),
        (ColumnType::Bool, "t", "true"),
        (ColumnType::Bool, "0", "false"),
        (ColumnType::Text, " a ", " a "),
        (ColumnType::Char, "a  ", "a"),
        (ColumnType::Uuid, "7B1E6F0E-2A0B-4F3C-9D8E-112233445566", "7b1e6f0e-2a0b-4f3c-9d8e-112233445566"),
        (ColumnType::Bytes, "\\x00FF", "00ff"),
        (ColumnType::Bytes, "00ff", "00ff"),
        (ColumnType::Date, "2024-02-29", "2024-02-29"),
        (ColumnType::Time { precision: 6 }, "04:05:11.789000", "04:05:11.789"),
        (ColumnType::Timestamp { precision: 6 }, "2018-06-20 15:13:16.945104", "2018-06-20 15:13:16.945104"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03.5+02", "2018-06-20 13:37:03.5+00"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03-00:30:15", "2018-06-20 16:07:18+00"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03+0230", "2018-06-20 13:07:03+00"),
        (ColumnType::Time { precision: 6 }, "04:05:11.123456000", "04:05:11.123456"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:59:59+15:59:59", "2018-06-20 00:00:00+00"),
    ];
    for (kind, text, canonical) in good {
        assert_eq!(kind.canonical(text).as_deref(), Ok(canonical), "{kind:?} {text}");
        assert_eq!(kind.canonical(canonical).as_deref(), Ok(canonical), "{kind:?}: not its own canonical text");
    }
    let bad = [
        (I64, "12abc"),
        (I64, ""),
        (I64, "4e1"),
        (I64, "1,000"),
        (I64, "42.5"),
        (I64, "--1"),
        (I64, "4 2"),
        (I64, "٤٢"),
        (I64, "42."),
        (int(8, false), "128"),
        (int(8, true), "256"),
        (int(16, true), "-1"),
        (decimal(2), "1.234"),
        (decimal(2), "NaN"),
        (ColumnType::Bool, "yes"),
        (ColumnType::Uuid, "7b1e6f0e"),
        (ColumnType::Bytes, "0"),
        (ColumnType::Bytes, "0g"),
        (ColumnType::Date, "2023-02-29"),
        (ColumnType::Date, "0044-03-15 BC"),
        (ColumnType::Date, "18-6-20"),
        (ColumnType::Date, "0000-05-01"),
        (ColumnType::Time { precision: 6 }, "24:00:01"),
        (ColumnType::Time { precision: 3 }, "04:05:11.7891"),
        (ColumnType::Timestamp { precision: 6 }, "2018-06-20"),
        (ColumnType::Timestamp { precision: 6 }, "2018-06-20 15:37:03+02"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03+16"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03+00:00:60"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:60:03+00"),
        (ColumnType::Time { precision: 6 }, "04:60:11"),
        (ColumnType::Time { precision: 6 }, "04:05:60"),
        (ColumnType::Time { precision: 6 }, "04:05:11.1234560000"),
        (ColumnType::Time { precision: 6 }, "04:05:11."),
        (ColumnType::Time { precision: 6 }, "04:05:11.12345a"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03+01:60"),
        (ColumnType::TimestampTz { precision: 6 }, "2018-06-20 15:37:03+01:00:60"),
    ];
    for (kind, text) in bad {
        let error = kind.canonical(text).expect_err(text);
        assert!(!error.hint().is_empty());
    }
    assert_eq!(I64.canonical("42.5"), Err(ValueError::TooPrecise { kept: 0 }));
}

#[test]
fn h56_a_child_may_not_have_a_coarser_equality() {
    use ColumnType as T;
    use Comparability::{Narrower, No, Same};
    let int = |bits| T::Int(IntType { bits, unsigned: false });
    let time = |precision| T::Timestamp { precision };
    let cases = [
        (int(32), int(64), Same),
        (I64, U64, Same),
        (I64, decimal(0), Same),
        (decimal(0), I64, Same),
        (I64, decimal(None), Same),
        (decimal(None), I64, No),
        (decimal(2), decimal(2), Same),
        (decimal(2), decimal(0), No),
        (decimal(0), decimal(2), No),
        (decimal(None), decimal(2), No),
        (T::Text, T::Text, Same),
        (T::Text, T::Char, No),
        (T::Char, T::Char, Same),
        (T::Char, T::Text, Narrower),
        (T::Uuid, T::Text, Narrower),
        (T::Uuid, T::Char, Narrower),
        (I64, T::Text, Narrower),
        (T::Text, I64, No),
        (T::Text, T::Uuid, No),
        (T::Uuid, T::Bytes, No),
        (T::Bool, I64, No),
        (T::Date, time(6), No),
        (time(3), time(6), Same),
        (time(6), time(3), No),
        (time(6), T::TimestampTz { precision: 6 }, No),
        (T::TimestampTz { precision: 3 }, T::TimestampTz { precision: 6 }, Same),
        (T::TimestampTz { precision: 6 }, T::TimestampTz { precision: 3 }, No),
        (T::Time { precision: 3 }, T::Time { precision: 6 }, Same),
        (T::Time { precision: 6 }, T::Time { precision: 3 }, No),
        (T::Float, T::Float, No),
        (T::Json, T::Json, No),
        (T::Other("inet".into()), T::Other("inet".into()), No),
        (T::Other("inet".into()), T::Text, No),
        (I64, T::Float, No),
    ];
    for (parent, child, expected) in cases {
        assert_eq!(comparable(&parent, &child), expected, "{parent:?} {child:?}");
        if expected != No {
            assert!(parent.is_key_type() && child.is_key_type());
        }
    }
}

#[test]
fn h56_a_column_holds_the_numbers_of_its_own_width_and_no_other() {
    for bits in [8_u8, 16, 24, 32, 64] {
        let most = 1_i128 << bits;
        for (unsigned, least, greatest) in [(true, 0, most - 1), (false, -(most / 2), most / 2 - 1)] {
            let kind = ColumnType::Int(IntType { bits, unsigned });
            let holds: Vec<bool> =
                [least - 1, least, greatest, greatest + 1].iter().map(|number| can_hold(&kind, &number.to_string())).collect();
            assert_eq!(holds, [false, true, true, false], "{kind:?}");
        }
    }
    assert!(!can_hold(&I64, "one") && !can_hold(&I64, "1.0"));
    for text in [ColumnType::Text, ColumnType::Char] {
        assert!(can_hold(&text, "a") && !can_hold(&text, "a\0"), "{text:?}");
    }
    assert!(can_hold(&decimal(2), "1.00") && can_hold(&ColumnType::Other("bit".into()), "1"));
}

#[test]
fn h56_moments_of_one_precision_compare_and_of_fewer_digits_do_not() {
    use ColumnType as T;
    let kinds: [fn(u8) -> T; 3] =
        [|precision| T::Time { precision }, |precision| T::Timestamp { precision }, |precision| T::TimestampTz { precision }];
    for kind in kinds {
        let found = [(3, 3), (3, 6), (6, 3)].map(|(parent, child)| comparable(&kind(parent), &kind(child)));
        assert_eq!(found, [Comparability::Same, Comparability::Same, Comparability::No]);
    }
}

#[test]
fn h55_a_decimal_of_the_most_digits_is_one_and_of_one_more_is_none() {
    const MOST: usize = 147_455;
    let read = |json: &str| super::number::Exact::json(json).and_then(|number| number.to_decimal(None)).ok();
    let is = |json: String, text: &str| assert!(read(&json).as_deref() == Some(text), "{} characters", json.len());
    let is_none = |json: String| assert!(read(&json).is_none(), "{} characters", json.len());
    let whole = format!("1{}", "0".repeat(MOST - 1));
    is(format!("1e{}", MOST - 1), &whole);
    is_none(format!("1e{MOST}"));
    is(whole.clone(), &whole);
    is_none(format!("1{whole}"));
    is(format!("1e-{MOST}"), &format!("0.{}1", "0".repeat(MOST - 1)));
    is_none(format!("1e-{}", MOST + 1));
}

/// A whole number in more bytes than it needs, as a producer of its own may write it.
#[test]
fn h55_an_unscaled_number_is_read_up_to_its_most_bytes_and_not_above() {
    let bytes = |count: usize| [vec![0; count - 1], vec![7]].concat();
    assert_eq!(Exact::unscaled(&bytes(61_440), 2), Exact::plain("0.07"));
    assert!(matches!(Exact::unscaled(&bytes(61_441), 2), Err(ValueError::TooLong { .. })));
}

#[test]
fn h55_whole_numbers_with_an_exponent_are_read_as_far_as_their_type_goes() {
    let whole = |json: &str| Exact::json(json).and_then(|number| number.to_int(IntType { bits: 64, unsigned: false }));
    assert_eq!(whole("123e10").as_deref(), Ok("1230000000000"));
    assert_eq!(whole("9e18").as_deref(), Ok("9000000000000000000"));
    for large in ["1e19", "1e21", "1e40", "1e200000", "1e9223372036854775807"] {
        assert!(matches!(whole(large), Err(ValueError::OutOfRange { .. })), "{large}");
    }
    assert!(matches!(Exact::json("1e200000").and_then(|number| number.to_decimal(None)), Err(ValueError::TooLong { .. })));
}

#[test]
fn h56_texts_that_do_not_tell_equality_are_no_keys() {
    let none = [ColumnType::Float, ColumnType::Json, ColumnType::Other("point".to_owned())];
    assert!(!none.iter().any(ColumnType::is_key_type));
    let keys = [I64, decimal(2), ColumnType::Text, ColumnType::Uuid, ColumnType::Date, ColumnType::TimestampTz { precision: 6 }];
    assert!(keys.iter().all(ColumnType::is_key_type));
}
