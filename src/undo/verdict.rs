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
}

impl Laid {
    /// Of an image that cannot be read.
    pub(super) fn nothing() -> Self {
        Self { before: Vec::new(), after: None, known: Vec::new(), settable: Vec::new() }
    }
}

/// What is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is missing, and goes back.
    Insert,
    /// It stands as entail left it: these columns are set back.
    SetBack(Vec<usize>),
    /// It is as it was.
    Already,
    /// A newer row stands in its place, or it was changed since: `overwrite` sets these columns.
    Newer(Vec<usize>),
    /// It was changed, and is gone since, or cannot be told any more.
    Lost(&'static str),
}

/// Lays an archived row over its table; `None` if the image does not read as its column list says.
pub(super) fn lay(dialect: Dialect, table: &TableRef, columns: &[String], row: &Archived) -> Option<Laid> {
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
    let settable = known.iter().filter(|(_, column)| !column.identity).map(|(place, _)| *place).collect();
    Some(Laid { before: over(&row.image)?, after, known: known.into_iter().map(|(place, _)| place).collect(), settable })
}

/// Judges a row. `here` is the row that has its old key now, `there` the one that has the key it was given.
pub(super) fn judge(row: &Archived, laid: &Laid, here: Option<&[Field]>, there: Option<&[Field]>) -> Verdict {
    let differing = |one: &[Field], other: &[Field]| -> Vec<usize> {
        laid.known.iter().copied().filter(|place| one.get(*place) != other.get(*place)).collect()
    };
    if row.is_removed {
        return match here {
            None => Verdict::Insert,
            Some(now) => match differing(&laid.before, now) {
                none if none.is_empty() => Verdict::Already,
                columns => Verdict::Newer(columns.into_iter().filter(|place| laid.settable.contains(place)).collect()),
            },
        };
    }
    let Some(after) = &laid.after else { return Verdict::Lost("what it became is not known") };
    let changed = differing(&laid.before, after);
    let same = |one: &[Field], other: &[Field]| changed.iter().all(|place| one.get(*place) == other.get(*place));
    match (here, there) {
        (Some(now), _) if same(now, &laid.before) => Verdict::Already,
        (_, Some(now)) if same(now, after) => Verdict::SetBack(changed),
        (_, Some(_)) => Verdict::Newer(changed),
        (_, None) => Verdict::Lost("the row is gone"),
    }
}
