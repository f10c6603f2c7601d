//! The statements that keep images of rows in the archive.

use super::writes::Touched;
use super::{Bind, Builder, Dialect, ListColumn, Statement, TableRef, equals, image, transpose};

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
        values.push(builder.bind(bind));
    }
    names.push("image");
    values.push(image(dialect, touched.table));
    let on = touched.matching(&mut builder, &listed);
    let sql = format!(
        "INSERT INTO entail_archive ({}) SELECT {} FROM {} {} {} AS t ON {on}",
        names.join(", "),
        values.join(", "),
        listed.from,
        listed.join,
        touched.table.quoted,
    );
    Some(builder.done(format!("archiving rows of {}", touched.table.table_name()), sql))
}

/// Notes in the archive what changed rows became: per row the cascade, its key then and its key now.
pub(crate) fn note_after(
    dialect: Dialect,
    table: &TableRef,
    key: &[String],
    labels: ArchiveLabels,
    now: &[&[String]],
    after_key: Vec<String>,
    fixed: [(&str, Bind); 2],
) -> Option<Statement> {
    if now.is_empty() {
        return None;
    }
    let mut builder = Builder::new(dialect);
    let mut columns = transpose(table.bound(key), now);
    let first_label = columns.len();
    columns.extend([labels.cascade, labels.key, after_key].map(ListColumn::text));
    let listed = builder.list(columns);
    let label = |number: usize| listed.columns.get(first_label + number).cloned().expect("all labels were just listed");
    let on: Vec<String> = table.bound(key).zip(&listed.columns).map(|(column, value)| equals(dialect, column, value)).collect();
    let same: Vec<String> = fixed.into_iter().map(|(name, bind)| format!("a.{name} = {}", builder.bind(bind))).collect();
    let sql = format!(
        "UPDATE entail_archive AS a SET after = {}, after_key = {} FROM {} {} {} AS t ON {}
        WHERE a.cascade_id = {} AND a.row_key = {} AND a.action = 'update' AND a.after IS NULL AND {}",
        image(dialect, table),
        label(2),
        listed.from,
        listed.join,
        table.quoted,
        on.join(" AND "),
        label(0),
        label(1),
        same.join(" AND ")
    );
    Some(builder.done(format!("archiving what rows of {} became", table.table_name()), sql))
}
