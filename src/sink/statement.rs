//! Steps and questions as SQL text and binds, per dialect. With the ledger the only place that writes SQL, and the only one that quotes names.
//!
//! Identifiers come from [`TableRef`], values are bound. Key lists travel as one array per column (PostgreSQL) or as one JSON text (SQLite) and
//! are joined, so that a statement has the same text for any number of keys. No statement deletes by negation or anti-join, and an empty list
//! makes no statement at all (H58): every function here that takes a list returns `None` for an empty one.

use std::fmt::Write as _;

use super::catalog::{Column, TableRef};
use crate::plan::Assignment;
use crate::value::ColumnType;

/// How SQL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 13 and later.
    Postgres,
    /// SQLite 3.41 and later.
    Sqlite,
}

/// A bound value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A text, or NULL.
    Text(Option<String>),
    /// A whole number.
    Int(i64),
    /// A list of texts (PostgreSQL only).
    Texts(Vec<Option<String>>),
}

/// SQL text with its binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub(super) what: String,
    pub(super) sql: String,
    pub(super) binds: Vec<Bind>,
}

impl Statement {
    /// A statement of fixed text. `what` says in words what it attempts, for errors.
    pub(crate) fn fixed(what: &str, sql: &str, binds: Vec<Bind>) -> Self {
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
pub(super) fn quote(name: &str) -> String {
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
        Listed { columns: columns.collect(), from: format!("json_each({bind}) AS k"), ordinal: "k.key" }
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

/// Reads rows by a list of values: the columns asked for, then the row's version.
pub(crate) fn select(dialect: Dialect, selection: &Selection<'_>) -> Option<Statement> {
    let Selection { table, by, keys, when, read, lock, limit } = selection;
    if keys.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(transpose(table.bound(by), keys));
    let on: Vec<String> = table.bound(by).zip(&listed.columns).map(|(column, value)| equals(dialect, column, value)).collect();
    let mut shown: Vec<String> = table.bound(read).map(|column| as_text(dialect, column)).collect();
    shown.push(match dialect {
        Dialect::Postgres => "t.xmin::text".to_owned(),
        Dialect::Sqlite => image(dialect, table),
    });
    let when = conditions(&mut builder, when);
    let lock = if *lock && dialect == Dialect::Postgres { " FOR UPDATE OF t" } else { "" };
    let sql = format!(
        "SELECT {} FROM {} JOIN {} AS t ON {}{when} LIMIT {limit}{lock}",
        shown.join(", "),
        listed.from,
        table.quoted,
        on.join(" AND "),
    );
    Some(builder.done(format!("reading rows of {}", table.table_name()), sql))
}

/// The row as one exact text: PostgreSQL's row text, or on SQLite a JSON array of SQL literals.
fn image(dialect: Dialect, table: &TableRef) -> String {
    match dialect {
        // Not `t::text`: a column of that name would be taken for the row.
        Dialect::Postgres => "(t.*)::text".to_owned(),
        Dialect::Sqlite => {
            let quoted: Vec<String> = table.columns.iter().map(|column| format!("quote(t.{})", quote(&column.name))).collect();
            format!("json_array({})", quoted.join(", "))
        }
    }
}

/// A set of rows by key, with the values that they must still carry in other columns when they are touched.
pub(crate) struct Touched<'a> {
    /// The table.
    pub(crate) table: &'a TableRef,
    /// Its key.
    pub(crate) key: &'a [String],
    /// The columns that must still hold the values read.
    pub(crate) still: &'a [String],
    /// Per row: the key's texts, then those of `still`.
    pub(crate) rows: &'a [Vec<String>],
    /// Conditions that must still hold.
    pub(crate) when: Conditions<'a>,
}

impl Touched<'_> {
    fn columns(&self) -> Vec<ListColumn<'_>> {
        let rows: Vec<&[String]> = self.rows.iter().map(Vec::as_slice).collect();
        transpose(self.table.bound(self.key).chain(self.table.bound(self.still)), &rows)
    }

    fn matching(&self, builder: &mut Builder, listed: &Listed) -> String {
        let columns = self.table.bound(self.key).chain(self.table.bound(self.still));
        let on: Vec<String> = columns.zip(&listed.columns).map(|(column, value)| equals(builder.dialect, column, value)).collect();
        format!("{}{}", on.join(" AND "), conditions(builder, self.when))
    }
}

/// Per row of a step: what the archive says of it beside the row's image.
pub(crate) struct ArchiveLabels {
    /// The cascade it belongs to.
    pub(crate) cascade: Vec<String>,
    /// The key, as JSON.
    pub(crate) key: Vec<String>,
}

/// Copies the rows into the archive as they are now. Touches exactly as many rows as are still there and still match.
pub(crate) fn archive(dialect: Dialect, touched: &Touched<'_>, labels: ArchiveLabels, fixed: [(&str, Bind); 6]) -> Option<Statement> {
    if touched.rows.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let mut columns = touched.columns();
    let first_label = columns.len();
    columns.push(ListColumn::text(labels.cascade));
    columns.push(ListColumn::text(labels.key));
    let listed = builder.list(columns);
    let label = |number: usize| listed.columns.get(first_label + number).cloned().expect("both labels were just listed");
    let (mut names, mut values) = (vec!["cascade_id", "row_key"], vec![label(0), label(1)]);
    for (name, bind) in fixed {
        names.push(name);
        let is_text = matches!(bind, Bind::Text(_));
        let bind = builder.bind(bind);
        values.push(if dialect == Dialect::Postgres { format!("{bind}::{}", if is_text { "text" } else { "bigint" }) } else { bind });
    }
    names.push("image");
    values.push(image(dialect, touched.table));
    let on = touched.matching(&mut builder, &listed);
    let sql = format!(
        "INSERT INTO entail_archive ({}) SELECT {} FROM {} JOIN {} AS t ON {on}",
        names.join(", "),
        values.join(", "),
        listed.from,
        touched.table.quoted,
    );
    Some(builder.done(format!("archiving rows of {}", touched.table.table_name()), sql))
}

/// Deletes the rows by key and foreign key.
pub(crate) fn delete(dialect: Dialect, touched: &Touched<'_>) -> Option<Statement> {
    if touched.rows.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(touched.columns());
    let on = touched.matching(&mut builder, &listed);
    let table = touched.table;
    let sql = match dialect {
        Dialect::Postgres => format!("DELETE FROM {} AS t USING {} WHERE {on}", table.quoted, listed.from),
        Dialect::Sqlite => {
            let columns: Vec<String> =
                if table.has_rowid { vec!["rowid".to_owned()] } else { table.primary_key.iter().map(|name| quote(name)).collect() };
            let of_t: Vec<String> = columns.iter().map(|column| format!("t.{column}")).collect();
            format!(
                "DELETE FROM {} WHERE ({}) IN (SELECT {} FROM {} JOIN {} AS t ON {on})",
                table.quoted,
                columns.join(", "),
                of_t.join(", "),
                listed.from,
                table.quoted
            )
        }
    };
    Some(builder.done(format!("deleting rows of {}", table.table_name()), sql))
}

/// Sets columns of the rows by key and foreign key. `new` holds the texts for [`Assignment::PerRow`], one list per place.
pub(crate) fn update(
    dialect: Dialect,
    touched: &Touched<'_>,
    assignments: &[(&Column, Assignment)],
    new: Vec<Vec<Option<String>>>,
) -> Option<Statement> {
    if touched.rows.is_empty() || assignments.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let mut columns = touched.columns();
    let first_new = columns.len();
    let mut new = new.into_iter();
    for (column, assignment) in assignments {
        if matches!(assignment, Assignment::PerRow(_)) {
            columns.push(ListColumn::like(column, new.next().unwrap_or_default()));
        }
    }
    let listed = builder.list(columns);
    // The lists stand in the order of the assignments, whatever places the plan's rows keep their values at.
    let mut lists = listed.columns.iter().skip(first_new);
    let mut sets = Vec::new();
    for (column, assignment) in assignments {
        let value = match assignment {
            Assignment::Null => "NULL".to_owned(),
            Assignment::Default => match dialect {
                Dialect::Postgres => "DEFAULT".to_owned(),
                // SQLite has no DEFAULT here; the expression is the catalog's own text.
                Dialect::Sqlite => column.default.as_ref().map_or("NULL".to_owned(), |default| format!("({default})")),
            },
            Assignment::Value(text) => value_bind(&mut builder, column, text.clone()),
            Assignment::PerRow(_) => lists.next().cloned().expect("each per-row assignment has its list"),
        };
        sets.push(format!("{} = {value}", quote(&column.name)));
    }
    let on = touched.matching(&mut builder, &listed);
    let sql = format!("UPDATE {} AS t SET {} FROM {} WHERE {on}", touched.table.quoted, sets.join(", "), listed.from);
    Some(builder.done(format!("updating rows of {}", touched.table.table_name()), sql))
}

fn value_bind(builder: &mut Builder, column: &Column, text: String) -> String {
    match builder.dialect {
        Dialect::Postgres => {
            let bind = builder.bind(Bind::Text(Some(postgres_literal(&column.kind, text))));
            format!("{bind}::text::{}", column.cast)
        }
        Dialect::Sqlite => {
            let bind = builder.bind(Bind::Text(Some(text)));
            sqlite_value(Some(&column.kind), &bind)
        }
    }
}

/// Writes rows of a replica: `columns` with one list of texts each; a row that is there is brought up to date. Returns the keys of the rows that
/// were new or different: doing it again returns none.
pub(crate) fn upsert(dialect: Dialect, table: &TableRef, key: &[String], columns: &[(&Column, Vec<Option<String>>)]) -> Option<Statement> {
    if columns.first().is_none_or(|(_, texts)| texts.is_empty()) {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let listed = builder.list(columns.iter().map(|(column, texts)| ListColumn::like(column, texts.clone())).collect());
    let names: Vec<String> = columns.iter().map(|(column, _)| quote(&column.name)).collect();
    let sets: Vec<String> = columns
        .iter()
        .filter(|(column, _)| !key.contains(&column.name))
        .map(|(column, _)| format!("{0} = excluded.{0}", quote(&column.name)))
        .collect();
    let differs: Vec<String> = columns
        .iter()
        .filter(|(column, _)| !key.contains(&column.name))
        .map(|(column, _)| match dialect {
            // As text, since not every type (json) has an equality.
            Dialect::Postgres => format!("t.{0}::text IS DISTINCT FROM excluded.{0}::text", quote(&column.name)),
            Dialect::Sqlite => format!("t.{0} IS NOT excluded.{0}", quote(&column.name)),
        })
        .collect();
    let returned: Vec<String> = table.bound(key).map(|column| text_of(dialect, column, &quote(&column.name))).collect();
    let key: Vec<String> = key.iter().map(|name| quote(name)).collect();
    let action =
        if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {} WHERE {}", sets.join(", "), differs.join(" OR ")) };
    let sql = format!(
        "INSERT INTO {} AS t ({}) SELECT {} FROM {} WHERE true ON CONFLICT ({}) DO {action} RETURNING {}",
        table.quoted,
        names.join(", "),
        listed.columns.join(", "),
        listed.from,
        key.join(", "),
        returned.join(", "),
    );
    Some(builder.done(format!("writing rows of replica {}", table.table_name()), sql))
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
    let mut sql = sql.replace("{list}", &listed.from);
    for (index, column) in listed.columns.iter().enumerate() {
        sql = sql.replace(&format!("{{c{index}}}"), column);
    }
    Some(builder.done(what.to_owned(), sql))
}
