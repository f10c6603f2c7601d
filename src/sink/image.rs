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

/// A value of a SQLite image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    /// Bound as it is.
    Value(Bind),
    /// A floating point number: what SQLite reads from this text, and what is to be added to it. SQLite prints and reads decimals that are off by a
    /// few units in the last place where exponents are large; the sum is exact.
    Real { text: String, rest: Option<String> },
}

/// A field of a SQLite image as a value; `None` if it is no literal of ours.
pub(crate) fn literal(field: &Field) -> Option<Literal> {
    if let Some(real) = field.as_deref().and_then(|text| text.strip_prefix('R')) {
        let (text, rest) = real.split_once(' ')?;
        return Some(Literal::Real { text: number(text)?, rest: Some(number(rest)?) });
    }
    match exact(field) {
        Some(bind) => Some(Literal::Value(bind)),
        None => Some(Literal::Real { text: number(field.as_deref()?)?, rest: None }),
    }
}

/// A text, if it is a number as SQLite prints them.
fn number(text: &str) -> Option<String> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && text.parse::<f64>().is_ok();
    is_number.then(|| text.to_owned())
}

/// What is bound as it is.
fn exact(field: &Field) -> Option<Bind> {
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
    text.parse::<i64>().ok().map(Bind::Int)
}

/// A field as the text from which its canonical form is read.
pub(crate) fn text(dialect: Dialect, field: &Field) -> Option<String> {
    match dialect {
        Dialect::Postgres => field.clone(),
        Dialect::Sqlite => match literal(field)? {
            Literal::Value(Bind::Text(text)) => text,
            Literal::Value(Bind::Int(number)) => Some(number.to_string()),
            Literal::Value(Bind::Bytes(bytes)) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            Literal::Value(Bind::Texts(_)) => None,
            Literal::Real { text, .. } => Some(text),
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
        let value = |bind| Some(Literal::Value(bind));
        let real = |text: &str, rest: Option<&str>| Some(Literal::Real { text: text.to_owned(), rest: rest.map(str::to_owned) });
        assert_eq!(literal(&None), value(Bind::Text(None)));
        assert_eq!(of("'it''s'"), value(Bind::Text(Some("it's".to_owned()))));
        assert_eq!(of("'R1.0 0.0'"), value(Bind::Text(Some("R1.0 0.0".to_owned()))));
        assert_eq!(of("X'00FF'"), value(Bind::Bytes(vec![0, 255])));
        assert_eq!(of("TX'6100'"), value(Bind::Text(Some("a\0".to_owned()))));
        assert_eq!(of("-9223372036854775808"), value(Bind::Int(i64::MIN)));
        assert_eq!(of("9.0e+999"), real("9.0e+999", None));
        assert_eq!(of("0.1"), real("0.1", None));
        assert_eq!(of("R1.5e+200 -2.0e+184"), real("1.5e+200", Some("-2.0e+184")));
        for broken in ["'", "X'0'", "X'zz'", "inf", "nan", "DROP TABLE", "", "R", "R1.0", "R1.0 x", "R inf 0.0"] {
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
