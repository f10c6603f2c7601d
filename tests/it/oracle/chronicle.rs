//! Everything that happened to the rows, in order; and for every row that entail removed, whether it had a reason.
//!
//! The promise itself, apart from any other database: a row goes only if it pointed, by a reference that cascades, at a parent that is gone, and
//! not merely moved to another key.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Removals by work that is not done yet: their own parents go with a later piece of it.
    unfinished: Vec<Removal>,
    in_pieces: bool,
}

/// A row that entail removed, as it was, with the places at which the work began, and was done.
struct Removal {
    id: Id,
    row: Row,
    start: usize,
    end: usize,
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
        Self { lines, rows: rows.clone(), unfinished: Vec::new(), in_pieces: false }
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
        let end = self.lines.len();
        for (id, _) in removed.into_iter().filter(|(_, by_entail)| *by_entail) {
            let first = self.lines.iter().skip(start).find(|line| line.id == id).and_then(|line| line.before.as_ref());
            let row = first.expect("what was removed was there").clone();
            let removal = Removal { id, row, start, end };
            if self.in_pieces {
                self.unfinished.push(removal);
            } else {
                self.judge(schema, &removal)?;
            }
        }
        Ok(())
    }

    /// From here on a root is worked in pieces: in portions, or by a worker that dies and its heir.
    pub(super) fn begin_pieces(&mut self) {
        self.in_pieces = true;
    }

    /// The last piece is done, or a latch has shut before it: then what it would have taken is still there. What was put back meanwhile has not
    /// gone.
    pub(super) fn end_pieces(&mut self, schema: &Schema, is_held: bool) -> Result<(), Fault> {
        self.in_pieces = false;
        let unfinished = std::mem::take(&mut self.unfinished);
        let judged = unfinished.into_iter().filter(|removal| !self.is_back(schema, removal));
        let mut judged = judged.filter(|removal| !is_held || !self.goes_with_its_parent(schema, removal, &mut BTreeSet::new()));
        judged.try_for_each(|removal| self.judge(schema, &removal))
    }

    /// A parent of the row is there, and has a reason to go, or has a parent that has.
    fn goes_with_its_parent(&self, schema: &Schema, removal: &Removal, seen: &mut BTreeSet<Id>) -> bool {
        let now = self.lines.len();
        let cascades = || schema.edges.iter().filter(|edge| edge.on_delete == OnDelete::Cascade);
        cascades().filter(|edge| edge.child == removal.id.0).any(|edge| {
            let Some(key) = whole(&removal.row, &edge.columns) else { return false };
            let is_parent = |(id, row): &(&Id, &Row)| id.0 == edge.parent && whole(row, &edge.parent_columns).as_ref() == Some(&key);
            self.rows.rows.iter().filter(is_parent).any(|(id, row)| {
                let parent = Removal { id: *id, row: row.clone(), start: now, end: now };
                let has_reason = cascades().filter(|edge| edge.child == id.0).any(|edge| self.is_a_reason(edge, &parent, now));
                has_reason || seen.insert(*id) && self.goes_with_its_parent(schema, &parent, seen)
            })
        })
    }

    /// It was put back, or another row had taken one of its unique values before it could be.
    fn is_back(&self, schema: &Schema, removal: &Removal) -> bool {
        let targets = schema.targets(removal.id.0);
        let has_its_value = |row: &Row| {
            let values = |columns: &Vec<String>| (whole(row, columns), whole(&removal.row, columns));
            targets.iter().map(values).any(|(its, ours)| its.is_some() && its == ours)
        };
        self.lines[removal.end..].iter().any(|line| line.id.0 == removal.id.0 && line.after.as_ref().is_some_and(has_its_value))
    }

    /// The reason was there when the work was done, or came with a later piece of it.
    fn judge(&self, schema: &Schema, removal: &Removal) -> Result<(), Fault> {
        let cascades = || schema.edges.iter().filter(|edge| edge.child == removal.id.0 && edge.on_delete == OnDelete::Cascade);
        let is_right = (removal.end..=self.lines.len()).any(|now| cascades().any(|edge| self.is_a_reason(edge, removal, now)));
        if is_right {
            return Ok(());
        }
        Err(Fault::WrongDeletion(format!("removed from t{} without a reason: {}", removal.id.0, row_text(&removal.row))))
    }

    /// The parent at which a row pointed by this reference, when the work that began at `start` found it, is gone by now.
    fn is_a_reason(&self, edge: &Edge, Removal { id, row, start, .. }: &Removal, now: usize) -> bool {
        let Some(key) = whole(row, &edge.columns) else { return false };
        let points = |row: &Option<Row>| row.as_ref().and_then(|row| whole(row, &edge.columns)).as_ref() == Some(&key);
        let pointed = |line: &Line| line.id == *id && points(&line.after) && !points(&line.before);
        let since = self.lines[..*start].iter().rposition(pointed).expect("it came to point there");
        let tenures = self.tenures(edge, &key, now);
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
        let is_gone = |number: &i64| edge.on_update == OnUpdate::Cascade && !self.lives((edge.parent, *number), now);
        last.iter().all(|(number, tenure)| went(tenure) || is_gone(number))
    }

    fn lives(&self, id: Id, now: usize) -> bool {
        self.lines[..now].iter().rfind(|line| line.id == id).is_some_and(|line| line.after.is_some())
    }

    /// Who had a key, one after the other.
    fn tenures(&self, edge: &Edge, key: &Vec<i64>, now: usize) -> Vec<Tenure> {
        let has = |row: &Option<Row>| row.as_ref().and_then(|row| whole(row, &edge.parent_columns)).as_ref() == Some(key);
        let mut tenures: Vec<Tenure> = Vec::new();
        for (place, line) in self.lines[..now].iter().enumerate().filter(|(_, line)| line.id.0 == edge.parent) {
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
