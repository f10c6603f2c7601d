//! Row images: the text form of a whole row, as the archive keeps it, and its fields.
//!
//! PostgreSQL writes a row as `(1,"a b",)` and reads it back exactly, for every type. On SQLite an image is a JSON list of SQL literals.
//! Fields stay texts of the database's own; nothing here knows their types.

use super::statement::{Bind, Dialect};

/// One field: the text as it stands in the image, `None` for NULL.
pub(crate) type Field = Option<String>;

/// The fields of an image; `None` if it does not read as one.
pub(crate) fn fields(dialect: Dialect, image: &str) -> Option<Vec<Field>> {
    match dialect {
        Dialect::Postgres => record(image),
        Dialect::Sqlite => {
            let literals: Vec<String> = serde_json::from_str(image).ok()?;
            Some(literals.into_iter().map(|literal| (literal != "NULL").then_some(literal)).collect())
        }
    }
}

/// Reads PostgreSQL's row text (record_in): fields between commas, quoted where they must be, empty and unquoted for NULL.
fn record(image: &str) -> Option<Vec<Field>> {
    let mut left = image.strip_prefix('(')?.strip_suffix(')')?.chars().peekable();
    let mut fields = Vec::new();
    loop {
        let (mut text, mut is_null, mut is_quoted) = (String::new(), true, false);
        loop {
            match left.peek() {
                None => break,
                Some(',') if !is_quoted => break,
                Some(_) => {}
            }
            let next = left.next()?;
            is_null = false;
            match next {
                '"' if is_quoted && left.peek() == Some(&'"') => text.extend(left.next()),
                '"' => is_quoted = !is_quoted,
                '\\' => text.push(left.next()?),
                other => text.push(other),
            }
        }
        if is_quoted {
            return None;
        }
        fields.push((!is_null).then_some(text));
        if left.next().is_none() {
            return Some(fields);
        }
    }
}

/// A field of a SQLite image as a bound value; `None` if it is no literal of ours.
pub(crate) fn literal(field: &Field) -> Option<Bind> {
    let Some(text) = field else { return Some(Bind::Text(None)) };
    if let Some(quoted) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Some(Bind::Text(Some(quoted.replace("''", "'"))));
    }
    if let Some(hex) = text.strip_prefix("TX'").and_then(|text| text.strip_suffix('\'')) {
        return String::from_utf8(bytes(hex)?).ok().map(|text| Bind::Text(Some(text)));
    }
    if let Some(hex) = text.strip_prefix("X'").and_then(|text| text.strip_suffix('\'')) {
        return Some(Bind::Bytes(bytes(hex)?));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(Bind::Int(number));
    }
    text.parse::<f64>().ok().filter(|_| text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])).map(Bind::Real)
}

/// A field as the text from which its canonical form is read.
pub(crate) fn text(dialect: Dialect, field: &Field) -> Option<String> {
    match dialect {
        Dialect::Postgres => field.clone(),
        Dialect::Sqlite => match literal(field)? {
            Bind::Text(text) => text,
            Bind::Int(number) => Some(number.to_string()),
            Bind::Real(number) => Some(number.to_string()),
            Bind::Bytes(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            Bind::Texts(_) => None,
        },
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let pairs = digits?;
    (pairs.len() % 2 == 0).then(|| pairs.chunks(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_reads_as_postgres_writes_it() {
        let of = |image| record(image).expect("a record");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of("(1,,\"\",\"a,b\",\"say \"\"hi\"\"\",\"back\\\\slash\")"),
            [some("1"), None, some(""), some("a,b"), some("say \"hi\""), some("back\\slash")]
        );
        // A row within a row.
        assert_eq!(of("(\"(1,\"\"a b\"\")\",x)"), [some("(1,\"a b\")"), some("x")]);
        assert_eq!(of("()"), [None]);
        for broken in ["", "(", "(1", "1)", "(\"1)", "(\\)"] {
            assert_eq!(record(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_literal_reads_as_sqlite_quotes_it() {
        let of = |text: &str| literal(&Some(text.to_owned()));
        assert_eq!(literal(&None), Some(Bind::Text(None)));
        assert_eq!(of("'it''s'"), Some(Bind::Text(Some("it's".to_owned()))));
        assert_eq!(of("X'00FF'"), Some(Bind::Bytes(vec![0, 255])));
        assert_eq!(of("TX'6100'"), Some(Bind::Text(Some("a\0".to_owned()))));
        assert_eq!(of("-9223372036854775808"), Some(Bind::Int(i64::MIN)));
        assert_eq!(of("9.0e+999"), Some(Bind::Real(f64::INFINITY)));
        assert_eq!(of("0.1"), Some(Bind::Real(0.1)));
        for broken in ["'", "X'0'", "X'zz'", "inf", "nan", "DROP TABLE", ""] {
            assert_eq!(of(broken), None, "{broken}");
        }
    }

    proptest! {
        /// As record_out writes it: everything quoted is allowed.
        #[test]
        fn what_is_written_reads_back(row in proptest::collection::vec(proptest::option::of(".*"), 1..6)) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('\\', "\\\\").replace('"', "\"\""));
            let texts: Vec<String> = row.iter().map(|field| field.as_ref().map(quoted).unwrap_or_default()).collect();
            prop_assert_eq!(fields(Dialect::Postgres, &format!("({})", texts.join(","))), Some(row));
        }
    }
}
