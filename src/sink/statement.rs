//! Steps and questions as SQL text and binds, per dialect. With the ledger the only place that writes SQL, and the only one that quotes names.
//!
//! Identifiers come from [`TableRef`], values are bound. Key lists travel as one array per column (PostgreSQL) or as one JSON text (SQLite) and
//! are joined, so that a statement has the same text for any number of keys. No statement deletes by negation or anti-join, and an empty list
//! makes no statement at all (H58): every function here that takes a list returns `None` for an empty one.

use std::fmt::Write as _;

use super::catalog::{Column, TableRef};
use crate::value::{ColumnType, can_hold};

mod archive;
mod count;
pub(crate) mod restore;
mod sample;
mod writes;

pub(crate) use archive::{ArchiveLabels, archive, note_after};
pub(crate) use count::{Page, marks, number, page, size};
pub(in crate::sink) use count::{has_heirs, mark};
pub(crate) use sample::{Sample, bounds, fan_out, sample};
pub(crate) use writes::{Touched, delete, insert_new, update, upsert};

/// How SQL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 13 and later.
    Postgres,
    /// SQLite 3.41 and later.
    Sqlite,
}

/// A bound value.
#[derive(Debug, Clone, PartialEq)]
pub enum Bind {
    /// A text, or NULL.
    Text(Option<String>),
    /// A whole number.
    Int(i64),
    /// A list of texts (PostgreSQL only).
    Texts(Vec<Option<String>>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// SQL text with its binds.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub(super) what: String,
    pub(super) sql: String,
    pub(super) binds: Vec<Bind>,
}

impl Statement {
    /// A statement of fixed text: never of names or values that came from elsewhere. `what` says in words what it attempts, for errors.
    pub fn fixed(what: &str, sql: &str, binds: Vec<Bind>) -> Self {
        Self { what: what.to_owned(), sql: sql.to_owned(), binds }
    }

    /// What it attempts, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The SQL text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

/// Quotes an identifier. Both dialects take the standard's form.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One column of a key list: its texts (one per listed row), and the type to which they are cast.
pub(crate) struct ListColumn<'a> {
    /// Canonical texts, or NULL.
    pub(crate) texts: Vec<Option<String>>,
    /// The column whose type they take; `None` leaves them text.
    pub(crate) like: Option<&'a Column>,
}

impl<'a> ListColumn<'a> {
    pub(crate) fn text(texts: impl IntoIterator<Item = String>) -> Self {
        Self { texts: texts.into_iter().map(Some).collect(), like: None }
    }

    pub(crate) fn like(column: &'a Column, texts: Vec<Option<String>>) -> Self {
        Self { texts, like: Some(column) }
    }
}

/// A list of rows to join with: `FROM` text, and an expression per column.
struct Listed {
    from: String,
    /// How a table is joined to it.
    join: &'static str,
    columns: Vec<String>,
    ordinal: &'static str,
}

struct Builder {
    dialect: Dialect,
    binds: Vec<Bind>,
}

impl Builder {
    fn new(dialect: Dialect) -> Self {
        Self { dialect, binds: Vec::new() }
    }

    fn bind(&mut self, bind: Bind) -> String {
        self.binds.push(bind);
        format!("${}", self.binds.len())
    }

    /// Joins a list of rows under the name `k`.
    fn list(&mut self, columns: Vec<ListColumn<'_>>) -> Listed {
        match self.dialect {
            Dialect::Postgres => self.list_of_arrays(columns),
            Dialect::Sqlite => self.list_of_json(columns),
        }
    }

    fn list_of_arrays(&mut self, columns: Vec<ListColumn<'_>>) -> Listed {
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        for (index, column) in columns.into_iter().enumerate() {
            let literal = |text: String| column.like.map_or(text.clone(), |like| postgres_literal(&like.kind, text));
            let bind = self.bind(Bind::Texts(column.texts.into_iter().map(|text| text.map(literal)).collect()));
            // The parameter is cast, never the column; and to the bare type name (H54).
            let cast = column.like.map(|like| format!("::{}[]", like.cast)).unwrap_or_default();
            arrays.push(format!("{bind}::text[]{cast}"));
            names.push(format!("c{index}"));
        }
        Listed {
            from: format!("unnest({}) WITH ORDINALITY AS k({}, n)", arrays.join(", "), names.join(", ")),
            join: "JOIN",
            columns: names.iter().map(|name| format!("k.{name}")).collect(),
            ordinal: "(k.n - 1)",
        }
    }

    fn list_of_json(&mut self, columns: Vec<ListColumn<'_>>) -> Listed {
        let likes: Vec<Option<ColumnType>> = columns.iter().map(|column| column.like.map(|like| like.kind.clone())).collect();
        let rows = columns.first().map_or(0, |column| column.texts.len());
        let mut texts: Vec<_> = columns.into_iter().map(|column| column.texts.into_iter()).collect();
        // JSON strings, never numbers: a number would not match a TEXT column (H59).
        let rows: Vec<Vec<Option<String>>> = (0..rows).map(|_| texts.iter_mut().map(|column| column.next().flatten()).collect()).collect();
        let json = serde_json::to_string(&rows).expect("texts are always JSON");
        let bind = self.bind(Bind::Text(Some(json)));
        let columns =
            likes.iter().enumerate().map(|(index, like)| sqlite_value(like.as_ref(), &format!("json_extract(k.value, '$[{index}]')")));
        // Else SQLite may go through the table instead, and read the whole list again for each of its rows.
        Listed { columns: columns.collect(), from: format!("json_each({bind}) AS k"), join: "CROSS JOIN", ordinal: "k.key" }
    }

    fn done(self, what: String, sql: String) -> Statement {
        Statement { what, sql, binds: self.binds }
    }
}

/// A canonical text as PostgreSQL reads it.
fn postgres_literal(kind: &ColumnType, text: String) -> String {
    match kind {
        ColumnType::Bytes => format!("\\x{text}"),
        ColumnType::Bool
        | ColumnType::Int(_)
        | ColumnType::Decimal { .. }
        | ColumnType::Float
        | ColumnType::Text
        | ColumnType::Char
        | ColumnType::Uuid
        | ColumnType::Date
        | ColumnType::Time { .. }
        | ColumnType::Timestamp { .. }
        | ColumnType::TimestampTz { .. }
        | ColumnType::Json
        | ColumnType::Other(_) => text,
    }
}

/// A JSON text as the value that SQLite stores for this type; a column's affinity does the rest, exactly.
fn sqlite_value(kind: Option<&ColumnType>, expression: &str) -> String {
    match kind {
        Some(ColumnType::Bytes) => format!("unhex({expression})"),
        Some(ColumnType::Bool) => format!("CASE {expression} WHEN 'true' THEN 1 WHEN 'false' THEN 0 END"),
        _ => expression.to_owned(),
    }
}

/// A column of the table `t`, as the text from which its canonical form is read.
fn as_text(dialect: Dialect, column: &Column) -> String {
    text_of(dialect, column, &format!("t.{}", quote(&column.name)))
}

fn text_of(dialect: Dialect, column: &Column, name: &str) -> String {
    match (dialect, &column.kind) {
        (Dialect::Postgres, _) => format!("{name}::text"),
        (Dialect::Sqlite, ColumnType::Bytes) => format!("lower(hex({name}))"),
        (Dialect::Sqlite, ColumnType::Bool) => format!("CASE {name} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE CAST({name} AS TEXT) END"),
        (Dialect::Sqlite, _) => format!("CAST({name} AS TEXT)"),
    }
}

/// `t.column = value`, by bytes for text (H56). The parent's own collation decides only in [`present`].
fn equals(dialect: Dialect, column: &Column, value: &str) -> String {
    let collate = match (dialect, &column.kind) {
        (Dialect::Sqlite, ColumnType::Text | ColumnType::Char | ColumnType::Uuid) => " COLLATE BINARY",
        _ => "",
    };
    format!("t.{}{collate} = {value}", quote(&column.name))
}

/// The condition of a reference on the child's columns, as (column, texts).
pub(crate) type Conditions<'a> = &'a [(&'a Column, Vec<String>)];

fn conditions(builder: &mut Builder, when: Conditions<'_>) -> String {
    let mut sql = String::new();
    for (column, values) in when {
        let options: Vec<String> = values
            .iter()
            .map(|value| {
                let bind = match builder.dialect {
                    Dialect::Postgres => {
                        let bind = builder.bind(Bind::Text(Some(postgres_literal(&column.kind, value.clone()))));
                        format!("{bind}::text::{}", column.cast)
                    }
                    Dialect::Sqlite => {
                        let bind = builder.bind(Bind::Text(Some(value.clone())));
                        sqlite_value(Some(&column.kind), &bind)
                    }
                };
                equals(builder.dialect, column, &bind)
            })
            .collect();
        write!(sql, " AND ({})", options.join(" OR ")).expect("a String takes any text");
    }
    sql
}

/// One key list per column, from rows of texts.
pub(crate) fn transpose<'a>(columns: impl Iterator<Item = &'a Column>, rows: &[&[String]]) -> Vec<ListColumn<'a>> {
    columns.enumerate().map(|(index, column)| ListColumn::like(column, rows.iter().map(|row| row.get(index).cloned()).collect())).collect()
}

/// Those of the keys that the columns can hold: the others have no rows, and PostgreSQL would refuse the whole question for them.
fn fitting<'k>(dialect: Dialect, table: &TableRef, by: &[String], keys: &[&'k [String]]) -> Vec<&'k [String]> {
    let fits = |key: &&&[String]| table.bound(by).zip(key.iter()).all(|(column, text)| can_hold(&column.kind, text));
    keys.iter().filter(|key| dialect == Dialect::Sqlite || fits(key)).copied().collect()
}

/// Which of these keys have a row: returns one row per asked key, (its number in the list, `true`/`false` or 1/0, standby?), so that a missing
/// answer can be told from a missing row (H68). Equality is the table's own: wider than bytes spares more.
pub(crate) fn present(dialect: Dialect, table: &TableRef, columns: &[String], keys: &[&[String]]) -> Option<Statement> {
    if keys.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(transpose(table.bound(columns), keys));
    let on: Vec<String> =
        table.bound(columns).zip(&listed.columns).map(|(column, value)| format!("t.{} = {value}", quote(&column.name))).collect();
    let exists = format!("EXISTS (SELECT 1 FROM {} AS t WHERE {})", table.quoted, on.join(" AND "));
    let sql = match dialect {
        // The same session says whether it is a primary (H66).
        Dialect::Postgres => format!("SELECT {}::text, {exists}::text, pg_is_in_recovery()::text FROM {}", listed.ordinal, listed.from),
        Dialect::Sqlite => {
            format!(
                "SELECT CAST({} AS TEXT), CASE WHEN {exists} THEN 'true' ELSE 'false' END, 'false' FROM {}",
                listed.ordinal, listed.from
            )
        }
    };
    Some(builder.done(format!("looking up {} keys in {}", keys.len(), table.table_name()), sql))
}

/// What to read of the rows that carry given values in given columns.
pub(crate) struct Selection<'a> {
    /// The table.
    pub(crate) table: &'a TableRef,
    /// The columns compared.
    pub(crate) by: &'a [String],
    /// The values, in the order of `by`.
    pub(crate) keys: &'a [&'a [String]],
    /// Further conditions.
    pub(crate) when: Conditions<'a>,
    /// The columns returned, in this order.
    pub(crate) read: &'a [String],
    /// Lock the rows to the end of the transaction.
    pub(crate) lock: bool,
    /// At most so many rows.
    pub(crate) limit: usize,
}

impl Selection<'_> {
    /// The limit as a database counts: to 2^63 - 1, which is as good as none.
    fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }
}

/// Reads rows by a list of values: the columns asked for, then the row's version.
pub(crate) fn select(dialect: Dialect, selection: &Selection<'_>) -> Option<Statement> {
    let Selection { table, by, keys, when, read, lock, limit: _ } = selection;
    let keys = fitting(dialect, table, by, keys);
    if keys.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(transpose(table.bound(by), &keys));
    let on: Vec<String> = table.bound(by).zip(&listed.columns).map(|(column, value)| equals(dialect, column, value)).collect();
    let mut shown: Vec<String> = table.bound(read).map(|column| as_text(dialect, column)).collect();
    shown.push(match dialect {
        Dialect::Postgres => "t.xmin::text".to_owned(),
        Dialect::Sqlite => image(dialect, table),
    });
    let when = conditions(&mut builder, when);
    let lock = if *lock && dialect == Dialect::Postgres { " FOR UPDATE OF t" } else { "" };
    let sql = format!(
        "SELECT {} FROM {} {} {} AS t ON {}{when} LIMIT {}{lock}",
        shown.join(", "),
        listed.from,
        listed.join,
        table.quoted,
        on.join(" AND "),
        selection.limit(),
    );
    Some(builder.done(format!("reading rows of {}", table.table_name()), sql))
}

/// The row as one exact text: PostgreSQL's row text, or on SQLite a JSON array of SQL literals.
fn image(dialect: Dialect, table: &TableRef) -> String {
    match dialect {
        // Not `t::text`: a column of that name would be taken for the row.
        Dialect::Postgres => "(t.*)::text".to_owned(),
        Dialect::Sqlite => {
            // `quote` ends a text at its first NUL: such a text is kept as bytes. And it prints some floating point numbers that are read as a
            // neighbour: with those stands what is missing, see `image::Literal`.
            let quoted = table.columns.iter().map(|column| {
                let (name, bytes) = (quote(&column.name), format!("CAST(t.{} AS BLOB)", quote(&column.name)));
                let read = format!("CAST(quote(t.{name}) AS REAL)");
                format!(
                    "CASE WHEN typeof(t.{name}) = 'text' AND instr({bytes}, x'00') > 0 THEN 'T' || quote({bytes}) \
                    WHEN typeof(t.{name}) = 'real' AND {read} IS NOT t.{name} THEN 'R' || quote(t.{name}) || ' ' || quote(t.{name} - {read}) \
                    ELSE quote(t.{name}) END"
                )
            });
            format!("json_array({})", quoted.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Whether the table has any row: one row, `true` or `false`.
pub(crate) fn has_rows(dialect: Dialect, table: &TableRef) -> Statement {
    let sql = match dialect {
        Dialect::Postgres => format!("SELECT EXISTS (SELECT 1 FROM {})::text", table.quoted),
        Dialect::Sqlite => format!("SELECT CASE WHEN EXISTS (SELECT 1 FROM {}) THEN 'true' ELSE 'false' END", table.quoted),
    };
    Builder::new(dialect).done(format!("looking whether {} has rows", table.table_name()), sql)
}

/// The defaults of these columns, evaluated now: one row of texts.
pub(crate) fn defaults(dialect: Dialect, table: &TableRef, columns: &[String]) -> Statement {
    let shown: Vec<String> = table
        .bound(columns)
        .map(|column| {
            let expression = column.default.as_deref().unwrap_or("NULL");
            match dialect {
                Dialect::Postgres => format!("({expression})::text"),
                Dialect::Sqlite => format!("CAST(({expression}) AS TEXT)"),
            }
        })
        .collect();
    Builder::new(dialect).done(format!("reading the defaults of {}", table.table_name()), format!("SELECT {}", shown.join(", ")))
}

/// A statement over the ledger's own tables with a list of rows under the name `k`: `{list}` in the text stands for the list, `{c0}`, `{c1}` …
/// for its columns.
pub(crate) fn over_list(dialect: Dialect, what: &str, sql: &str, columns: Vec<Vec<Option<String>>>, binds: Vec<Bind>) -> Option<Statement> {
    if columns.first().is_none_or(Vec::is_empty) {
        return None;
    }
    let mut builder = Builder::new(dialect);
    builder.binds = binds;
    let listed = builder.list(columns.into_iter().map(|texts| ListColumn { texts, like: None }).collect());
    let mut sql = sql.replace("{list} JOIN", &format!("{{list}} {}", listed.join)).replace("{list}", &listed.from);
    for (index, column) in listed.columns.iter().enumerate() {
        sql = sql.replace(&format!("{{c{index}}}"), column);
    }
    Some(builder.done(what.to_owned(), sql))
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnection;
    use sqlx::{AssertSqlSafe, Connection as _, Row as _};

    use super::*;
    use crate::model::on_files::Services;
    use crate::plan::Assignment;

    /// Where the first column of a key is compared with a constant, SQLite would go through that part of the table, and read the whole list again for
    /// each row of it.
    #[tokio::test]
    async fn h62_sqlite_goes_through_the_list_and_looks_up_in_the_table() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("opens");
        sqlx::query("CREATE TABLE u (g TEXT, e TEXT, k TEXT, PRIMARY KEY (g, e, k))").execute(&mut connection).await.expect("made");
        let sql = "SELECT u.k FROM {list} JOIN u ON u.g = $1 AND u.e = {c0} AND u.k = {c1}";
        let (columns, binds) = (vec![vec![Some("e".to_owned())], vec![Some("k".to_owned())]], vec![Bind::Text(Some("g".to_owned()))]);
        let statement = over_list(Dialect::Sqlite, "asking", sql, columns, binds).expect("a list");
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement.sql()))).fetch_all(&mut connection).await;
        let steps: Vec<String> = plan.expect("a plan").iter().map(|row| row.get(3)).collect();
        assert!(steps.first().is_some_and(|step| step.starts_with("SCAN k ")), "{steps:?}");
    }

    #[tokio::test]
    async fn nothing_to_write_is_no_statement() {
        let services = Services::open("statements").await;
        let table = services.table("shop", "orders").await;
        let (key, of_one) = (["id".to_owned()], ["1".to_owned()]);
        let row = |rows: usize| vec![(&of_one[..], vec![Some("1".to_owned()), None]); rows];
        let customer = table.column("customer").expect("is there");
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let insert = |rows| restore::insert(dialect, &restore::Rows { table: &table, columns: &[0], rows }).len();
            assert_eq!((insert(vec![&row(1)[0].1]), insert(Vec::new())), (1, 0));
            let set_back = |columns: &[usize], rows: usize| restore::set_back(dialect, &table, &key, columns, &row(rows)).len();
            assert_eq!((set_back(&[1], 1), set_back(&[], 1), set_back(&[1], 0)), (1, 0, 0));
            let update = |rows: usize, columns: &[(&Column, Assignment)]| {
                let rows = vec![of_one.to_vec(); rows];
                super::update(dialect, &Touched { table: &table, key: &key, still: &[], rows: &rows, when: &[] }, columns, Vec::new())
                    .is_some()
            };
            let null = [(customer, Assignment::Null)];
            assert_eq!((update(1, &null), update(0, &null), update(1, &[])), (true, false, false));
        }
    }
}
