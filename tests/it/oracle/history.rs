//! The statements of one case, run in the oracle and in the services, and the comparison after them.

use std::collections::BTreeSet;

use fastrand::Rng;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

use super::bench::{Bench, insert_row, literal};
use super::drive::Driver;
use super::schema::{OnDelete, OnUpdate, Schema};
use super::state::{Difference, Id, Row, State, random_part, whole};
use super::{Counts, Fault};

/// A value that rows of a table are pointed at by: table, columns, values.
type Target = (usize, Vec<String>, Vec<i64>);

#[derive(Debug, Clone)]
enum Statement {
    Delete(Vec<Id>),
    /// Sets columns of the key, or another unique column.
    Rekey(Id, Row),
    Repoint(Id, Row),
    Insert(Id, Row),
    Touch(Id, Row),
}

/// What came of a statement.
enum Ran {
    Both,
    /// Nothing was done. The oracle named this reference, whose parent was touched.
    Refused(Option<usize>),
}

/// Which statements a round may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One, and then entail comes to rest.
    Settled,
    /// Several, deletes among them, none of which depends on what entail has not done yet.
    Deletes,
    /// Several, key changes among them, likewise.
    KeyChanges,
    /// Anything.
    Wild,
}

pub(super) struct History<'a> {
    bench: &'a Bench,
    schema: &'a Schema,
    rng: &'a mut Rng,
    driver: Driver,
    counts: &'a mut Counts,
    script: &'a mut Vec<String>,
    /// What the oracle holds.
    oracle: State,
    next: i64,
    /// Values that are never used again: a key change away from them is known, and nothing follows it.
    burned: BTreeSet<Target>,
    /// Values that rows had since entail was last at rest.
    recent: BTreeSet<Target>,
    ended: bool,
}

impl<'a> History<'a> {
    pub(super) fn new(
        bench: &'a Bench,
        schema: &'a Schema,
        rng: &'a mut Rng,
        driver: Driver,
        counts: &'a mut Counts,
        script: &'a mut Vec<String>,
    ) -> Self {
        let (oracle, burned, recent) = (State::default(), BTreeSet::new(), BTreeSet::new());
        Self { bench, schema, rng, driver, counts, script, oracle, next: 1_000, burned, recent, ended: false }
    }

    pub(super) async fn run(mut self) -> Result<(), Fault> {
        self.oracle = self.bench.oracle_state(self.schema).await?;
        let plan = self.rng.u8(0..10);
        for _ in 0..self.rng.usize(2..=6) {
            let kind = match (plan, self.rng.bool()) {
                (0..4, _) | (_, true) => Kind::Settled,
                (4..7, false) => Kind::Deletes,
                _ => Kind::KeyChanges,
            };
            if kind == Kind::Settled {
                self.settled().await?;
            } else {
                self.window(kind).await?;
            }
            if self.ended {
                break;
            }
        }
        if plan == 9 && !self.ended {
            self.wild().await?;
        }
        self.check_archive().await
    }

    /// One statement, and entail at rest after it.
    async fn settled(&mut self) -> Result<(), Fault> {
        let Some(statement) = self.generate(Kind::Settled) else { return Ok(()) };
        if let Statement::Delete(ids) = &statement {
            let doomed = self.oracle.doomed(self.schema, ids);
            if self.oracle.races(self.schema, ids, &doomed) {
                self.counts.racing += 1;
                return Ok(());
            }
        }
        match self.both(&statement).await? {
            Ran::Both => {
                self.after().await?;
                self.rest("after one statement").await
            }
            Ran::Refused(Some(edge)) => self.refused(&statement, edge).await,
            Ran::Refused(None) => Ok(()),
        }
    }

    /// Several statements before entail has come to rest.
    async fn window(&mut self, kind: Kind) -> Result<(), Fault> {
        self.counts.windows += 1;
        self.remember();
        for _ in 0..self.rng.usize(2..=5) {
            let Some(statement) = self.generate(kind) else { continue };
            if !self.is_clean(&statement).await? {
                continue;
            }
            if let Statement::Delete(ids) = &statement {
                let doomed = self.oracle.doomed(self.schema, ids);
                if self.oracle.races(self.schema, ids, &doomed) || self.oracle.takes_a_default(self.schema, &doomed) {
                    self.counts.racing += 1;
                    continue;
                }
            }
            if let Ran::Both = self.both(&statement).await? {
                self.after().await?;
                self.remember();
            }
            if self.rng.u8(0..3) == 0 {
                self.driver.step(self.bench, self.schema, self.rng, self.counts).await?;
            }
        }
        self.rest("after several statements").await
    }

    /// Anything, in any order, with entail at work between: what the oracle keeps must stay.
    async fn wild(&mut self) -> Result<(), Fault> {
        self.counts.wild += 1;
        self.driver.lenient = true;
        for _ in 0..self.rng.usize(4..=14) {
            let Some(statement) = self.generate(Kind::Wild) else { continue };
            if let Ran::Both = self.both(&statement).await? {
                self.after().await?;
            }
            if self.rng.u8(0..4) == 0 {
                self.driver.step(self.bench, self.schema, self.rng, self.counts).await?;
            }
        }
        self.driver.settle(self.bench, self.schema, self.rng, self.counts).await?;
        let is = self.bench.state(self.schema).await?;
        let wrong_deletions = Difference::between(&is, &self.oracle).wrong_deletions;
        if wrong_deletions.is_empty() {
            return Ok(());
        }
        Err(Fault::Differs(Box::new(Difference { wrong_deletions, ..Difference::default() }), "after anything"))
    }

    /// Lets entail come to rest. Nothing stays pending, and the states are equal.
    async fn rest(&mut self, when: &'static str) -> Result<(), Fault> {
        let pending = self.driver.settle(self.bench, self.schema, self.rng, self.counts).await?;
        self.compare(&self.oracle.clone(), when).await?;
        if !pending.is_empty() {
            return Err(Fault::Broke(format!("{when}, roots stay pending: {pending:#?}")));
        }
        self.recent.clear();
        Ok(())
    }

    async fn compare(&self, wanted: &State, when: &'static str) -> Result<(), Fault> {
        let difference = Difference::between(&self.bench.state(self.schema).await?, wanted);
        if difference.is_none() { Ok(()) } else { Err(Fault::Differs(Box::new(difference), when)) }
    }

    /// The archive holds every row that entail has removed, as it was, and no other.
    async fn check_archive(&mut self) -> Result<(), Fault> {
        for (service, pool) in self.bench.services.iter().enumerate() {
            let sql = "SELECT image FROM entail_archive WHERE group_id = $1 AND action = 'delete' ORDER BY image COLLATE \"C\"";
            let archived: Vec<String> = sqlx::query_scalar(sql).bind(&self.schema.name).fetch_all(pool).await?;
            let mut removed = self.driver.removed[service].clone();
            removed.sort();
            if archived != removed {
                return Err(Fault::Broke(format!("database {service}: {removed:?} were removed, and archived were {archived:?}")));
            }
        }
        Ok(())
    }

    /// Takes over what the oracle holds now, and burns the values that nothing follows.
    async fn after(&mut self) -> Result<(), Fault> {
        let new = self.bench.oracle_state(self.schema).await?;
        for (id, row) in &self.oracle.rows {
            let Some(changed) = new.rows.get(id) else { continue };
            for columns in self.schema.targets(id.0) {
                if let Some(old) = whole(row, &columns).filter(|old| whole(changed, &columns).as_ref() != Some(old))
                    && !self.schema.keys_may_change(id.0)
                {
                    self.burned.insert((id.0, columns, old));
                }
            }
        }
        self.oracle = new;
        Ok(())
    }

    fn remember(&mut self) {
        for (id, row) in &self.oracle.rows {
            let targets = self.schema.targets(id.0).into_iter();
            self.recent.extend(targets.filter_map(|columns| whole(row, &columns).map(|value| (id.0, columns, value))));
        }
    }

    /// The rows that a statement names are the same on both sides, and so are those at which it points.
    async fn is_clean(&self, statement: &Statement) -> Result<bool, Fault> {
        let is = self.bench.state(self.schema).await?;
        let same = |id: &Id| is.rows.get(id) == self.oracle.rows.get(id);
        Ok(match statement {
            Statement::Delete(ids) => ids.iter().all(same),
            Statement::Rekey(id, _) | Statement::Touch(id, _) => same(id),
            Statement::Repoint(id, new) => same(id) && self.points_cleanly(*id, new, &same),
            Statement::Insert(id, new) => self.points_cleanly(*id, new, &same),
        })
    }

    fn points_cleanly(&self, id: Id, new: &Row, same: &impl Fn(&Id) -> bool) -> bool {
        let mut row = self.oracle.rows.get(&id).cloned().unwrap_or_default();
        row.extend(new.clone());
        self.schema.edges.iter().filter(|edge| edge.child == id.0).all(|edge| {
            let touched = edge.columns.iter().any(|column| new.contains_key(column));
            // What a `set` has written stays written, whenever the row is pointed elsewhere: before or after.
            let is_set = matches!(edge.on_delete, OnDelete::Set(..)) && self.oracle.rows.contains_key(&id);
            let target = whole(&row, &edge.columns);
            let mut parents =
                self.oracle.of_table(edge.parent).filter(|(_, parent)| target.is_some() && whole(parent, &edge.parent_columns) == target);
            !touched || !is_set && parents.all(|(parent, _)| parent == id || same(&parent))
        })
    }

    fn is_free(&self, kind: Kind, table: usize, row: &Row) -> bool {
        self.schema.targets(table).into_iter().all(|columns| {
            let Some(value) = whole(row, &columns) else { return true };
            let taken =
                self.oracle.of_table(table).any(|(id, other)| Some(id.1) != row["u"] && whole(other, &columns).as_ref() == Some(&value));
            let target = (table, columns, value);
            let own = self.oracle.rows.get(&(table, row["u"].unwrap_or_default()));
            let kept = own.is_some_and(|own| whole(own, &target.1).as_ref() == Some(&target.2));
            !taken && (kept || kind == Kind::Wild || !self.burned.contains(&target) && !self.recent.contains(&target))
        })
    }

    fn generate(&mut self, kind: Kind) -> Option<Statement> {
        let id = self.rng.choice(self.oracle.rows.keys().copied().collect::<Vec<_>>())?;
        let row = self.oracle.rows.get(&id)?.clone();
        let choice = match kind {
            Kind::Settled => self.rng.u8(0..20),
            Kind::Deletes => self.rng.choice([0, 0, 0, 12, 13, 14, 19])?,
            Kind::KeyChanges => self.rng.choice([8, 8, 8, 12, 13, 14, 19])?,
            Kind::Wild => self.rng.choice([0, 0, 0, 8, 8, 8, 12, 14, 14, 14])?,
        };
        match choice {
            0..8 => {
                let mut ids = vec![id];
                if self.rng.u8(0..3) == 0 {
                    ids.extend(self.oracle.of_table(id.0).map(|(other, _)| other).filter(|other| *other != id).take(self.rng.usize(0..=2)));
                }
                Some(Statement::Delete(ids))
            }
            8..12 => {
                let new = self.new_key(id, &row)?;
                let mut changed = row.clone();
                changed.extend(new.clone());
                self.is_free(kind, id.0, &changed).then_some(Statement::Rekey(id, new))
            }
            12 | 13 => {
                let edges: Vec<_> = self.schema.edges.iter().filter(|edge| edge.child == id.0).collect();
                let edge = self.rng.choice(edges)?;
                self.oracle.new_reference(self.rng, self.schema, edge, id).map(|new| Statement::Repoint(id, new))
            }
            14..18 => {
                let number = self.next;
                self.next += 1;
                let mut new = self.oracle.new_row(self.rng, self.schema, id.0, number)?;
                let mut with = self.oracle.clone();
                with.rows.insert((id.0, number), new.clone());
                for edge in self.schema.edges.iter().filter(|edge| edge.child == id.0) {
                    new.extend(with.new_reference(self.rng, self.schema, edge, (id.0, number)).unwrap_or_default());
                }
                self.is_free(kind, id.0, &new).then_some(Statement::Insert((id.0, number), new))
            }
            _ => Some(Statement::Touch(id, Row::from([("note".to_owned(), Some(self.rng.i64(1..100)))]))),
        }
    }

    /// Other values for some part of the row's key, or for its other unique column.
    fn new_key(&mut self, id: Id, row: &Row) -> Option<Row> {
        let table = &self.schema.tables[id.0];
        let mut new = Row::new();
        if table.coded && self.rng.bool() {
            new.insert("code".to_owned(), Some(random_part(self.rng, "code")));
        }
        if new.is_empty() || self.rng.u8(0..4) == 0 {
            let part = self.rng.choice(table.key.iter())?;
            if part.starts_with('d') {
                let edge = self.schema.edges.iter().find(|edge| edge.child == id.0 && edge.columns.contains(part))?;
                let target = self.rng.choice(self.oracle.targets(edge))?;
                new.extend(edge.columns.iter().cloned().zip(target.into_iter().map(Some)));
            } else {
                new.insert(part.clone(), Some(random_part(self.rng, part)));
            }
        }
        new.iter().any(|(column, value)| row[column] != *value).then_some(new)
    }

    fn sql(&self, statement: &Statement) -> String {
        let update = |id: &Id, new: &Row| {
            let set: Vec<String> = new.iter().map(|(column, value)| format!("{column} = {}", literal(*value))).collect();
            format!("UPDATE {} SET {} WHERE u = {}", self.schema.qualified(id.0), set.join(", "), id.1)
        };
        match statement {
            Statement::Delete(ids) => {
                let numbers: Vec<String> = ids.iter().map(|id| id.1.to_string()).collect();
                format!("DELETE FROM {} WHERE u IN ({})", self.schema.qualified(ids[0].0), numbers.join(", "))
            }
            Statement::Rekey(id, new) | Statement::Repoint(id, new) | Statement::Touch(id, new) => update(id, new),
            Statement::Insert(id, row) => insert_row(self.schema, id.0, row),
        }
    }

    fn service(&self, statement: &Statement) -> &'a PgPool {
        let table = match statement {
            Statement::Delete(ids) => ids[0].0,
            Statement::Rekey(id, _) | Statement::Repoint(id, _) | Statement::Insert(id, _) | Statement::Touch(id, _) => id.0,
        };
        &self.bench.services[self.schema.tables[table].database]
    }

    /// Runs a statement on both sides, or on neither.
    async fn both(&mut self, statement: &Statement) -> Result<Ran, Fault> {
        let sql = self.sql(statement);
        let mut oracle = self.bench.oracle.begin().await?;
        if let Err(error) = execute(&mut oracle, &sql).await {
            let named = error.as_database_error().filter(|error| error.message().starts_with("update or delete"));
            let edge =
                named.and_then(|error| error.constraint()).and_then(|name| self.schema.edges.iter().position(|edge| edge.name == name));
            self.counts.refused += 1;
            return Ok(Ran::Refused(edge));
        }
        let mut service = self.service(statement).begin().await?;
        if execute(&mut service, &sql).await.is_err() {
            self.counts.refused += 1;
            return Ok(Ran::Refused(None));
        }
        oracle.commit().await?;
        service.commit().await?;
        self.script.push(sql);
        self.counts.statements += 1;
        match statement {
            Statement::Delete(_) => self.counts.deletes += 1,
            Statement::Rekey(..) => self.counts.key_changes += 1,
            Statement::Repoint(..) | Statement::Insert(..) | Statement::Touch(..) => {}
        }
        Ok(Ran::Both)
    }

    /// The oracle refused on account of this reference. Its service would not have been refused: entail must leave everything alone.
    async fn refused(&mut self, statement: &Statement, edge: usize) -> Result<(), Fault> {
        let edge = &self.schema.edges[edge];
        match statement {
            Statement::Delete(ids) if edge.on_delete == OnDelete::Restrict && self.is_one_root(ids[0].0) => {
                for id in ids {
                    self.delete_restricted(*id).await?;
                }
                Ok(())
            }
            Statement::Rekey(id, _)
                if self.is_one_root(id.0) && edge.parent == id.0 && edge.is_rule() && edge.on_update == OnUpdate::Restrict =>
            {
                if self.in_service_alone(statement).await? {
                    self.counts.restricts += 1;
                    self.ended = true;
                    self.stays_parked(statement).await?;
                }
                Ok(())
            }
            Statement::Rekey(id, new) if edge.parent == id.0 && edge.is_rule() && edge.on_update == OnUpdate::NoAction => {
                let row = &self.oracle.rows[id];
                let touched = |columns: &[String]| columns.iter().any(|column| new.contains_key(column));
                let others = self.schema.edges.iter().filter(|other| other.parent == id.0 && touched(&other.parent_columns));
                let follows = others
                    .into_iter()
                    .any(|other| other.on_update != OnUpdate::NoAction && self.oracle.children(other, row).next().is_some());
                if !follows && self.in_service_alone(statement).await? {
                    self.counts.unfollowed += 1;
                    self.ended = true;
                    let before = self.bench.state(self.schema).await?;
                    self.driver.settle(self.bench, self.schema, self.rng, self.counts).await?;
                    self.compare(&before, "after a key change that nothing follows").await?;
                }
                Ok(())
            }
            Statement::Delete(_) | Statement::Rekey(..) | Statement::Repoint(..) | Statement::Insert(..) | Statement::Touch(..) => Ok(()),
        }
    }

    /// All references to a table point at the same columns. A row that is pointed at by two unique keys is two roots to entail so far, and a
    /// `restrict` under one does not hold the other: known, and left out here.
    fn is_one_root(&self, table: usize) -> bool {
        let mut targets = self.schema.edges.iter().filter(|edge| edge.parent == table).map(|edge| &edge.parent_columns);
        let first = targets.next();
        targets.all(|target| Some(target) == first)
    }

    /// A delete that a `restrict` refuses, done by the service all the same, and undone.
    async fn delete_restricted(&mut self, id: Id) -> Result<(), Fault> {
        let doomed = self.oracle.doomed(self.schema, &[id]);
        if self.oracle.races(self.schema, &[id], &doomed) {
            self.counts.racing += 1;
            return Ok(());
        }
        let statement = Statement::Delete(vec![id]);
        // One of several may not be restricted itself.
        let mut oracle = self.bench.oracle.begin().await?;
        let is_refused = execute(&mut oracle, &self.sql(&statement)).await.is_err();
        oracle.rollback().await?;
        if !is_refused || !self.in_service_alone(&statement).await? {
            return Ok(());
        }
        self.counts.restricts += 1;
        self.stays_parked(&statement).await?;
        let row = self.oracle.rows[&id].clone();
        let back = Statement::Insert(id, row);
        let sql = self.sql(&back);
        super::bench::run(self.service(&back), &sql).await?;
        self.script.push(sql);
        self.rest("after the restricted parent came back").await
    }

    async fn stays_parked(&mut self, statement: &Statement) -> Result<(), Fault> {
        let before = self.bench.state(self.schema).await?;
        let pending = self.driver.settle(self.bench, self.schema, self.rng, self.counts).await?;
        self.compare(&before, "after a restricted statement").await?;
        if pending.iter().any(|pending| pending.reason.ends_with("restrict")) {
            return Ok(());
        }
        Err(Fault::Broke(format!("nothing is parked as restricted after {statement:?}: {pending:#?}")))
    }

    /// Runs a statement in its service alone, if that touches nothing but the row itself.
    async fn in_service_alone(&mut self, statement: &Statement) -> Result<bool, Fault> {
        let sql = self.sql(statement);
        let mut service = self.service(statement).begin().await?;
        let count = "SELECT count(*) FROM public.changes";
        let before: i64 = sqlx::query_scalar(count).fetch_one(&mut *service).await?;
        if execute(&mut service, &sql).await.is_err() {
            return Ok(false);
        }
        let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *service).await?;
        if after != before + 1 {
            self.counts.native_below += 1;
            service.rollback().await?;
            return Ok(false);
        }
        service.commit().await?;
        self.script.push(format!("{sql} -- in the service alone"));
        Ok(true)
    }
}

async fn execute(transaction: &mut Transaction<'static, Postgres>, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **transaction).await.map(drop)
}
