//! What is to be done with one archived row, by what stands in its place now. Pure.

use crate::ledger::Archived;
use crate::sink::TableRef;
use crate::sink::image::{self, Field};
use crate::sink::statement::Dialect;

/// An archived row, laid over the table as it is today.
#[derive(Debug)]
pub(super) struct Laid {
    /// One field per column of the table; NULL where the image knows nothing.
    pub(super) before: Vec<Field>,
    /// The same of what the row became.
    pub(super) after: Option<Vec<Field>>,
    /// The columns that the image knows and that are not computed.
    pub(super) known: Vec<usize>,
    /// Those of them that a row which is there may be given.
    settable: Vec<usize>,
    /// The image has values of columns that the table no longer has.
    pub(super) is_short: bool,
}

impl Laid {
    /// Of an image that cannot be read.
    pub(super) fn nothing() -> Self {
        Self { before: Vec::new(), after: None, known: Vec::new(), settable: Vec::new(), is_short: false }
    }
}

/// What is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is missing, and goes back.
    Insert,
    /// It stands as entail left it: these columns are set back. None in a rehearsal of a row that an earlier page would have brought back.
    SetBack(Vec<usize>),
    /// The same, for a row that has its old key again: its parent is back, and a native key has taken the row along.
    SetBackInPlace(Vec<usize>),
    /// It is as it was.
    Already,
    /// The same undo puts a younger image of the row back.
    Superseded,
    /// A newer row stands in its place, or it was changed since: `overwrite` sets these columns.
    Newer(Vec<usize>),
    /// Nothing can be done about it, for this reason.
    Lost(&'static str),
}

/// What stands in the places of an archived row, and what else the archive knows of it.
#[derive(Debug, Default)]
pub(super) struct Around<'a> {
    /// The row that has its old key now.
    pub(super) here: Option<&'a [Field]>,
    /// The row that has the key it was given.
    pub(super) there: Option<&'a [Field]>,
    /// A younger image of the same row is chosen too.
    pub(super) is_superseded: bool,
    /// Another cascade, which is not undone, changed the row again.
    pub(super) was_changed_again: bool,
    /// Native keys change rows of this table when their parents are set back: some of what entail wrote may be as before by now.
    pub(super) follows: bool,
    /// In a rehearsal: the row is not there yet, and the same undo will have brought it back by then.
    pub(super) returns: bool,
}

/// Lays an archived row over its table; `None` if the image does not read as its column list says, or lacks the row's key.
pub(super) fn lay(dialect: Dialect, table: &TableRef, key: &[String], columns: &[String], row: &Archived) -> Option<Laid> {
    if !key.iter().all(|column| columns.contains(column)) {
        return None;
    }
    let over = |text: &str| {
        let fields = image::fields(dialect, text).filter(|fields| fields.len() == columns.len())?;
        let field = |name: &String| columns.iter().position(|column| column == name).and_then(|place| fields.get(place).cloned().flatten());
        Some(table.columns().iter().map(|column| field(&column.name)).collect::<Vec<Field>>())
    };
    let is_known = |(_, column): &(usize, &crate::sink::Column)| !column.generated && columns.contains(&column.name);
    let known: Vec<(usize, &crate::sink::Column)> = table.columns().iter().enumerate().filter(is_known).collect();
    let after = match &row.after {
        Some((text, _)) => Some(over(text)?),
        None => None,
    };
    let before = over(&row.image)?;
    let is_gone = |(name, value): (&String, Field)| value.is_some() && table.column(name).is_none();
    let is_short = columns.iter().zip(image::fields(dialect, &row.image)?).any(is_gone);
    let settable = known.iter().filter(|(_, column)| !column.identity).map(|(place, _)| *place).collect();
    Some(Laid { before, after, known: known.into_iter().map(|(place, _)| place).collect(), settable, is_short })
}

/// Judges a row.
pub(super) fn judge(row: &Archived, laid: &Laid, around: &Around<'_>) -> Verdict {
    if row.is_removed { judge_removed(laid, around) } else { judge_changed(row, laid, around) }
}

fn judge_removed(laid: &Laid, around: &Around<'_>) -> Verdict {
    if around.is_superseded {
        return Verdict::Superseded;
    }
    match around.here.map(|now| differing(laid, &laid.before, now)) {
        None => Verdict::Insert,
        Some(none) if none.is_empty() => Verdict::Already,
        Some(columns) => Verdict::Newer(columns.into_iter().filter(|place| laid.settable.contains(place)).collect()),
    }
}

fn judge_changed(row: &Archived, laid: &Laid, around: &Around<'_>) -> Verdict {
    let (Some(after), Some((_, after_key))) = (&laid.after, &row.after) else { return Verdict::Lost("what it became is not known") };
    if around.was_changed_again {
        return Verdict::Lost("another cascade changed it again, and is not undone");
    }
    let changed = differing(laid, &laid.before, after);
    let same = |one: &[Field], other: &[Field]| changed.iter().all(|place| one.get(*place) == other.get(*place));
    let is_ours = |now: &[Field], place: &usize| now.get(*place) == after.get(*place) || now.get(*place) == laid.before.get(*place);
    let is_all_ours = |now: &[Field]| {
        if around.follows { laid.known.iter().all(|place| is_ours(now, place)) } else { differing(laid, after, now).is_empty() }
    };
    if row.key.as_ref() == Some(after_key) {
        return match around.here.or(around.there) {
            Some(now) if same(now, &laid.before) => Verdict::Already,
            Some(now) if changed.iter().all(|place| is_ours(now, place)) => Verdict::SetBack(changed),
            Some(_) => Verdict::Newer(changed),
            None if around.returns => Verdict::SetBack(Vec::new()),
            None => Verdict::Lost("the row is gone"),
        };
    }
    // It got another key: by that alone it cannot be told from a stranger, so the whole row must be what it became.
    match (around.here, around.there) {
        (Some(now), None) if !around.returns && differing(laid, &laid.before, now).is_empty() => Verdict::Already,
        (Some(now), None) if !around.returns && around.follows && is_all_ours(now) => Verdict::SetBackInPlace(changed),
        (Some(_), _) => Verdict::Lost("another row has its old key"),
        (None, Some(now)) if is_all_ours(now) => Verdict::SetBack(changed),
        (None, Some(_)) if around.returns => Verdict::SetBack(Vec::new()),
        (None, Some(_)) => Verdict::Lost("the row that has its new key is another one, or was changed since"),
        (None, None) if around.returns => Verdict::SetBack(Vec::new()),
        (None, None) => Verdict::Lost("the row is gone"),
    }
}

/// The known columns in which two rows differ.
fn differing(laid: &Laid, one: &[Field], other: &[Field]) -> Vec<usize> {
    laid.known.iter().copied().filter(|place| one.get(*place) != other.get(*place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::on_files::Services;
    use crate::undo::archived;

    /// Id, customer, name. The id is an identity: it is never set.
    type Row = [Option<&'static str>; 3];

    fn fields(row: Row) -> Vec<Field> {
        row.map(|field| field.map(str::to_owned)).to_vec()
    }

    fn judged(before: Row, after: Option<Row>, around: &Around<'_>) -> Verdict {
        let keys: Vec<&str> = [Some(before), after].into_iter().flatten().filter_map(|[id, ..]| id).collect();
        let row = archived(1, &keys);
        let laid = Laid { before: fields(before), after: after.map(fields), known: vec![0, 1, 2], settable: vec![1, 2], is_short: false };
        judge(&row, &laid, around)
    }

    const BEFORE: Row = [Some("10"), Some("1"), Some("a")];
    const LET_GO: Row = [Some("10"), None, Some("a")];
    const RENAMED: Row = [Some("10"), Some("1"), Some("b")];
    const REKEYED: Row = [Some("11"), Some("2"), Some("a")];

    #[test]
    fn h92_a_removed_row_goes_back_where_none_stands() {
        let judged = |here: Option<Row>, is_superseded| {
            let here = here.map(fields);
            judged(BEFORE, None, &Around { here: here.as_deref(), is_superseded, ..Around::default() })
        };
        assert_eq!(judged(None, false), Verdict::Insert);
        assert_eq!(judged(Some(BEFORE), false), Verdict::Already);
        assert_eq!(judged(Some(RENAMED), false), Verdict::Newer(vec![2]));
        assert_eq!(judged(Some([Some("11"), Some("1"), Some("b")]), false), Verdict::Newer(vec![2]), "an identity is not set");
        assert_eq!(judged(None, true), Verdict::Superseded);
        assert_eq!(judged(Some(RENAMED), true), Verdict::Superseded);
    }

    #[test]
    fn h92_a_changed_row_is_set_back_where_it_stands_as_it_was_left() {
        let judged = |here: Option<Row>, around: Around<'_>| {
            let here = here.map(fields);
            judged(BEFORE, Some(LET_GO), &Around { here: here.as_deref(), ..around })
        };
        assert_eq!(judged(Some(LET_GO), Around::default()), Verdict::SetBack(vec![1]));
        assert_eq!(
            judged(Some([Some("10"), None, Some("b")]), Around::default()),
            Verdict::SetBack(vec![1]),
            "another column is another's"
        );
        assert_eq!(judged(Some(BEFORE), Around::default()), Verdict::Already);
        assert_eq!(judged(Some(RENAMED), Around::default()), Verdict::Already);
        assert_eq!(judged(Some([Some("10"), Some("9"), Some("a")]), Around::default()), Verdict::Newer(vec![1]));
        assert_eq!(judged(None, Around::default()), Verdict::Lost("the row is gone"));
        assert_eq!(judged(None, Around { returns: true, ..Around::default() }), Verdict::SetBack(vec![]));
        let again = Around { was_changed_again: true, ..Around::default() };
        assert_eq!(judged(Some(LET_GO), again), Verdict::Lost("another cascade changed it again, and is not undone"));
    }

    #[test]
    fn h92_a_row_that_got_another_key_is_set_back_only_if_all_of_it_is_known() {
        let judged = |here: Option<Row>, there: Option<Row>, (follows, returns): (bool, bool)| {
            let (here, there) = (here.map(fields), there.map(fields));
            let around = Around { here: here.as_deref(), there: there.as_deref(), follows, returns, ..Around::default() };
            judged(BEFORE, Some(REKEYED), &around)
        };
        const NEITHER: (bool, bool) = (false, false);
        const FOLLOWS: (bool, bool) = (true, false);
        const RETURNS: (bool, bool) = (false, true);
        let stranger = Verdict::Lost("another row has its old key");
        let changed = Verdict::Lost("the row that has its new key is another one, or was changed since");
        assert_eq!(judged(None, Some(REKEYED), NEITHER), Verdict::SetBack(vec![0, 1]));
        assert_eq!(judged(None, Some([Some("11"), Some("2"), Some("b")]), NEITHER), changed);
        assert_eq!(judged(None, Some([Some("11"), Some("2"), Some("b")]), RETURNS), Verdict::SetBack(vec![]));
        // A native key may have set one of the columns back already.
        assert_eq!(judged(None, Some([Some("11"), Some("1"), Some("a")]), NEITHER), changed);
        assert_eq!(judged(None, Some([Some("11"), Some("1"), Some("a")]), FOLLOWS), Verdict::SetBack(vec![0, 1]));
        assert_eq!(judged(None, Some([Some("11"), Some("9"), Some("a")]), FOLLOWS), changed);
        assert_eq!(judged(Some(BEFORE), None, NEITHER), Verdict::Already);
        assert_eq!(judged(Some(BEFORE), None, RETURNS), stranger);
        assert_eq!(judged(Some(RENAMED), None, NEITHER), stranger);
        let taken_along = [Some("10"), Some("2"), Some("a")];
        assert_eq!(judged(Some(taken_along), None, NEITHER), stranger);
        assert_eq!(judged(Some(taken_along), None, FOLLOWS), Verdict::SetBackInPlace(vec![0, 1]));
        assert_eq!(judged(Some(taken_along), None, (true, true)), stranger);
        assert_eq!(judged(Some(RENAMED), None, FOLLOWS), stranger);
        assert_eq!(judged(Some(BEFORE), Some(REKEYED), NEITHER), stranger);
        assert_eq!(judged(None, None, NEITHER), Verdict::Lost("the row is gone"));
        assert_eq!(judged(None, None, RETURNS), Verdict::SetBack(vec![]));
    }
    #[tokio::test]
    async fn h92_an_image_is_laid_over_the_columns_that_the_table_has_now() {
        let services = Services::open("laid").await;
        let tables = ["CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT, length INTEGER AS (length(name)) STORED, new TEXT)"];
        services.execute("shop", &tables).await;
        let table = services.table("shop", "rows").await;
        let laid = |columns: &[&str], image: &str| {
            let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
            let row = Archived { image: image.to_owned(), ..archived(1, &["10"]) };
            lay(Dialect::Sqlite, &table, &["id".to_owned()], &columns, &row).map(|laid| (laid.known, laid.is_short))
        };
        // What is generated is never written, and what came since was not kept.
        assert_eq!(laid(&["id", "name", "length"], r#"["10","'a'","1"]"#), Some((vec![0, 1], false)));
        assert_eq!(laid(&["id", "name", "new"], r#"["10","'a'","NULL"]"#), Some((vec![0, 1, 3], false)));
        // A column that is gone is missed where it held something.
        assert_eq!(laid(&["id", "name", "old"], r#"["10","'a'","NULL"]"#), Some((vec![0, 1], false)));
        assert_eq!(laid(&["id", "name", "old"], r#"["10","NULL","'x'"]"#), Some((vec![0, 1], true)));
        assert_eq!(laid(&["id"], r#"["10","'a'"]"#), None, "more fields than columns");
        assert_eq!(laid(&["name"], r#"["'a'"]"#), None, "no key");
    }
}
