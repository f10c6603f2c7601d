//! Identifiers and statements as a person pastes them: in quotes only where they need them.

use super::{Dialect, TableRef};
use crate::rules::TableName;

/// A table, with its schema if it has one.
pub(crate) fn table_name(table: &TableName) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", name(schema), name(&table.table)),
        None => name(&table.table),
    }
}

/// An identifier for a person to paste: in quotes only where it needs them.
pub(crate) fn name(name: &str) -> String {
    let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !RESERVED.contains(&name);
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The statement that makes an index over these columns. On PostgreSQL one that keeps nobody waiting.
pub(crate) fn create_index(dialect: Dialect, table: &TableRef, columns: &[String]) -> String {
    let listed = columns.iter().map(|column| name(column)).collect::<Vec<_>>().join(", ");
    match dialect {
        Dialect::Postgres => format!("CREATE INDEX CONCURRENTLY ON {} ({listed})", table_name(&table.table_name())),
        Dialect::Sqlite => {
            let index = name(&format!("{}_{}", table.name(), columns.join("_")));
            format!("CREATE INDEX {index} ON {} ({listed})", name(table.name()))
        }
    }
}

/// Words that PostgreSQL takes for its own where a name is wanted (appendix C of its manual, "reserved").
const RESERVED: [&str; 78] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_date",
    "current_role",
    "current_time",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "placing",
    "primary",
    "references",
    "right",
    "select",
    "table",
    "then",
    "to",
    "trailing",
    "union",
    "unique",
    "user",
    "using",
    "when",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(
            [name("orders"), name("Order"), name("order"), name("a\"b"), name("1a")],
            ["orders", "\"Order\"", "\"order\"", "\"a\"\"b\"", "\"1a\""]
        );
    }
}
