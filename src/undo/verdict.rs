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
