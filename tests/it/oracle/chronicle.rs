//! Everything that happened to the rows, in order; and for every row that entail removed, whether it had a reason.
//!
//! The promise itself, apart from any other database: a row goes only if it pointed, by a reference that cascades, at a parent that is gone, and
//! not merely moved to another key.

use std::collections::BTreeMap;

use super::Fault;
use super::bench::Logged;
use super::schema::{Edge, OnDelete, OnUpdate, Schema};
use super::state::{Id, Row, State, row_text, whole};

/// One change of one row.
struct Line {
    id: Id,
    before: Option<Row>,
    after: Option<Row>,
}

pub(super) struct Chronicle {
    lines: Vec<Line>,
    rows: State,
    /// Removals by portions of a root that is not done yet: their own parents go with a later portion. Each with the place where its work began.
    unfinished: Vec<(Id, Row, usize)>,
    in_portions: bool,
}

/// How long a row had a key.
struct Tenure {
    number: i64,
    /// Place of the line that ended it, and whether the row went with it.
    end: Option<(usize, bool)>,
}

impl Chronicle {
    pub(super) fn new(rows: &State) -> Self {
        let lines = rows.rows.iter().map(|(id, row)| Line { id: *id, before: None, after: Some(row.clone()) }).collect();
        Self { lines, rows: rows.clone(), unfinished: Vec::new(), in_portions: false }
    }

    /// Takes lines in their order. Those of entail are all of one piece of work.
    pub(super) fn take(&mut self, schema: &Schema, logged: Vec<Logged>) -> Result<(), Fault> {
        let start = self.lines.len();
        let mut removed: BTreeMap<Id, bool> = BTreeMap::new();
        for line in logged {
            let id = (line.table, line.number());
            // The rows that were there from the beginning may be in the log, too.
            if line.before.is_none() && self.rows.rows.contains_key(&id) {
                continue;
            }
            match &line.after {
                Some(row) => drop(self.rows.rows.insert(id, row.clone())),
                None => drop(self.rows.rows.remove(&id)),
            }
            if line.after.is_none() {
                removed.insert(id, line.by_entail);
            }
            self.lines.push(Line { id, before: line.before, after: line.after });
        }
        for (id, _) in removed.iter().filter(|(_, by_entail)| **by_entail) {
            let first = self.lines.iter().skip(start).find(|line| line.id == *id).and_then(|line| line.before.as_ref());
            let row = first.expect("what was removed was there").clone();
            if self.in_portions {
                self.unfinished.push((*id, row, start));
            } else {
                self.judge(schema, *id, &row, start)?;
            }
        }
        Ok(())
    }

    /// From here on a root is worked in portions.
    pub(super) fn begin_portions(&mut self) {
        self.in_portions = true;
    }

    /// Its last portion is done.
    pub(super) fn end_portions(&mut self, schema: &Schema) -> Result<(), Fault> {
        self.in_portions = false;
        std::mem::take(&mut self.unfinished).into_iter().try_for_each(|(id, row, start)| self.judge(schema, id, &row, start))
    }

    fn judge(&self, schema: &Schema, id: Id, row: &Row, start: usize) -> Result<(), Fault> {
        let mut cascades = schema.edges.iter().filter(|edge| edge.child == id.0 && edge.on_delete == OnDelete::Cascade);
        if cascades.any(|edge| self.is_a_reason(edge, id, row, start)) {
            return Ok(());
        }
        Err(Fault::WrongDeletion(format!("removed from t{} without a reason: {}", id.0, row_text(row))))
    }

    /// The parent at which a row pointed by this reference, when the work that began at `start` found it, is gone.
    fn is_a_reason(&self, edge: &Edge, id: Id, row: &Row, start: usize) -> bool {
        let Some(key) = whole(row, &edge.columns) else { return false };
        let points = |row: &Option<Row>| row.as_ref().and_then(|row| whole(row, &edge.columns)).as_ref() == Some(&key);
        let pointed = |line: &Line| line.id == id && points(&line.after) && !points(&line.before);
        let since = self.lines[..start].iter().rposition(pointed).expect("it came to point there");
        let tenures = self.tenures(edge, &key);
        if tenures.iter().any(|tenure| tenure.end.is_none()) {
            return false;
        }
        let (meant, earlier): (Vec<&Tenure>, Vec<&Tenure>) =
            tenures.iter().partition(|tenure| tenure.end.is_some_and(|(end, _)| end >= since));
        let went = |tenure: &&Tenure| tenure.end.is_some_and(|(_, went)| went);
        if meant.is_empty() {
            return earlier.last().is_none_or(went);
        }
        if edge.on_update == OnUpdate::NoAction {
            return meant.last().is_some_and(went);
        }
        // Whoever had the key while the row pointed at it may be who was meant.
        let last: BTreeMap<i64, &Tenure> = meant.into_iter().map(|tenure| (tenure.number, tenure)).collect();
        let is_gone = |number: &i64| edge.on_update == OnUpdate::Cascade && !self.rows.rows.contains_key(&(edge.parent, *number));
        last.iter().all(|(number, tenure)| went(tenure) || is_gone(number))
    }

    /// Who had a key, one after the other.
    fn tenures(&self, edge: &Edge, key: &Vec<i64>) -> Vec<Tenure> {
        let has = |row: &Option<Row>| row.as_ref().and_then(|row| whole(row, &edge.parent_columns)).as_ref() == Some(key);
        let mut tenures: Vec<Tenure> = Vec::new();
        for (place, line) in self.lines.iter().enumerate().filter(|(_, line)| line.id.0 == edge.parent) {
            match (has(&line.before), has(&line.after)) {
                (false, true) => tenures.push(Tenure { number: line.id.1, end: None }),
                (true, false) => {
                    let open = tenures.iter_mut().find(|tenure| tenure.number == line.id.1 && tenure.end.is_none());
                    open.expect("it had the key").end = Some((place, line.after.is_none()));
                }
                (true, true) | (false, false) => {}
            }
        }
        tenures
    }
}
