//! The statements of one case, run in the oracle and in the services, and the comparison after them.

use std::collections::BTreeSet;

use fastrand::Rng;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::bench::Bench;
use super::drive::Driver;
use super::schema::{OnDelete, OnUpdate, Schema};
use super::state::{Difference, Id, Row, State, whole};
use super::statement::{Kind, Statement, Target};
use super::{Counts, Fault};

/// What came of a statement.
pub(super) enum Ran {
    Both,
    /// Nothing was done. The oracle named this reference, whose parent was touched.
    Refused(Option<usize>),
}

pub(super) struct History<'a> {
    pub(super) bench: &'a Bench,
    pub(super) schema: &'a Schema,
    pub(super) rng: &'a mut Rng,
    pub(super) driver: Driver<'a>,
    pub(super) counts: &'a mut Counts,
    script: &'a mut Vec<String>,
    /// What the oracle holds.
    pub(super) oracle: State,
    pub(super) next: i64,
    /// Values that are never used again: a key change away from them is known, and nothing follows it.
    pub(super) burned: BTreeSet<Target>,
    /// Values that rows had since entail was last at rest.
    pub(super) recent: BTreeSet<Target>,
    /// Values that rows gave up, or went with.
    pub(super) vacated: Vec<Target>,
    ended: bool,
}

impl<'a> History<'a> {
    pub(super) fn new(
        bench: &'a Bench,
        schema: &'a Schema,
        rng: &'a mut Rng,
        driver: Driver<'a>,
        counts: &'a mut Counts,
        script: &'a mut Vec<String>,
    ) -> Self {
        let (oracle, burned, recent, vacated) = (State::default(), BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { bench, schema, rng, driver, counts, script, oracle, next: 1_000, burned, recent, vacated, ended: false }
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
        if plan >= 7 && !self.ended {
            self.wild().await?;
        } else if !self.ended {
            self.undo_drill().await?;
        }
        self.check_archive().await
    }

    /// One statement, and entail at rest after it.
    async fn settled(&mut self) -> Result<(), Fault> {
        let Some(statement) = self.generate(Kind::Settled) else { return Ok(()) };
        if let Statement::Delete(ids) = &statement {
            let doomed = self.oracle.doomed(self.schema, ids);
            if self.oracle.races(self.schema, ids, &doomed) || self.oracle.defaults_race(self.schema, &doomed) {
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

    /// A few more statements, and entail at rest after them; then everything that entail has done on account of them is undone, and each row is
    /// as it was.
    async fn undo_drill(&mut self) -> Result<(), Fault> {
        for _ in 0..self.rng.usize(1..=6) {
            if let Some(statement) = self.generate(Kind::Settled)
                && matches!(self.both(&statement).await?, Ran::Both)
            {
                self.after().await?;
            }
        }
        let before = self.bench.state(self.schema).await?;
        let known = self.cascades().await?;
        // Where PostgreSQL's own outcome depends on the order of its triggers there is no state to compare with, but undo has its own.
        self.driver.lenient = true;
        self.driver.settle(self.rng, self.counts).await?;
        let new: BTreeSet<String> = self.cascades().await?.difference(&known).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.counts.undone += self.driver.undo(new).await?;
        self.compare(&before, "after undo").await
    }

    async fn cascades(&self) -> Result<BTreeSet<String>, Fault> {
        let mut cascades = BTreeSet::new();
        for pool in &self.bench.services {
            let sql = "SELECT DISTINCT cascade_id FROM entail_cascades WHERE group_id = $1";
            cascades.extend(sqlx::query_scalar::<_, String>(sql).bind(&self.schema.name).fetch_all(pool).await?);
        }
        Ok(cascades)
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
                self.driver.step(self.rng, self.counts).await?;
            }
        }
        self.rest("after several statements").await
    }

    /// Anything, in any order, with entail at work between. Every removal must have had its reason (the driver sees to it). What the oracle keeps
    /// must stay, too, as long as no key changes: a key change that has not reached another service yet leaves the statements there a meaning
    /// that no single order of all statements gives them.
    async fn wild(&mut self) -> Result<(), Fault> {
        self.counts.wild += 1;
        self.driver.lenient = true;
        let kind = if self.rng.bool() { Kind::Wild } else { Kind::WildDeletes };
        for _ in 0..self.rng.usize(4..=14) {
            if kind == Kind::Wild && self.rng.u8(0..4) == 0 {
                self.take_over().await?;
                continue;
            }
            if self.rng.bool() {
                self.tear().await?;
            }
            if let Some(statement) = self.generate(kind) {
                self.wildly(&statement).await?;
            }
        }
        self.driver.settle(self.rng, self.counts).await?;
        let is = self.bench.state(self.schema).await?;
        let wrong_deletions = Difference::between(&is, &self.oracle).wrong_deletions;
        if kind == Kind::Wild || wrong_deletions.is_empty() {
            return Ok(());
        }
        Err(Fault::Differs(Box::new(Difference { wrong_deletions, ..Difference::default() }), "after anything"))
    }

    /// A row gives its key up, another one takes it, and goes.
    async fn take_over(&mut self) -> Result<(), Fault> {
        let Some(id) = self.rng.choice(self.oracle.pointed_at(self.schema)) else { return Ok(()) };
        let row = self.oracle.rows[&id].clone();
        let Some(new) = self.new_key(id, &row) else { return Ok(()) };
        if !self.wildly(&Statement::Rekey(id, new.clone())).await? {
            return Ok(());
        }
        let Some(mut heir) = self.new_row(id.0) else { return Ok(()) };
        heir.1.extend(new.into_keys().map(|column| (column.clone(), row[&column])));
        let taken_over = self.wildly(&Statement::Insert(heir.0, heir.1)).await?;
        if taken_over && self.rng.u8(0..4) > 0 {
            self.wildly(&Statement::Delete(vec![heir.0])).await?;
        }
        Ok(())
    }

    /// Runs a statement, and perhaps a batch of entail after it.
    pub(super) async fn wildly(&mut self, statement: &Statement) -> Result<bool, Fault> {
        let ran = matches!(self.both(statement).await?, Ran::Both);
        if ran {
            self.after().await?;
        }
        if self.rng.u8(0..4) == 0 {
            self.driver.step(self.rng, self.counts).await?;
        }
        Ok(ran)
    }

    /// Lets entail come to rest. Nothing stays pending, and the states are equal.
    async fn rest(&mut self, when: &'static str) -> Result<(), Fault> {
        let pending = self.driver.settle(self.rng, self.counts).await?;
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

    /// The archive holds every row that entail has removed, as it was when the transaction that removed it began, and no other: what a native key
    /// changes in the row on the way is part of the cascade, and undone with it.
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
    pub(super) async fn after(&mut self) -> Result<(), Fault> {
        let new = self.bench.oracle_state(self.schema).await?;
        for (id, row) in &self.oracle.rows {
            for columns in self.schema.targets(id.0) {
                let now = new.rows.get(id).and_then(|row| whole(row, &columns));
                self.vacated.extend(whole(row, &columns).filter(|old| now.as_ref() != Some(old)).map(|old| (id.0, columns, old)));
            }
            let Some(changed) = new.rows.get(id) else { continue };
            for columns in self.schema.targets(id.0) {
                if let Some(old) = whole(row, &columns).filter(|old| whole(changed, &columns).as_ref() != Some(old))
                    && (!self.schema.keys_may_change(id.0) || new.holds_on(self.schema, (id.0, &columns, &old)))
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
            let target = whole(&row, &edge.columns);
            let mut parents = self
                .oracle
                .of_table(edge.parent)
                .filter(|(_, parent)| target.is_some() && whole(parent, &edge.parent_columns) == target)
                .peekable();
            // What a `set` has written stays written, whenever the row is pointed elsewhere: before or after. A row that is born pointing at a
            // parent that has gone is met by the parent's end if that is worked later, and not if it was worked before.
            let is_set = matches!(edge.on_delete, OnDelete::Set(..));
            let is_late = is_set && (self.oracle.rows.contains_key(&id) || target.is_some() && parents.peek().is_none());
            !touched || !is_late && parents.all(|(parent, _)| parent == id || same(&parent))
        })
    }

    /// Runs a statement on both sides, or on neither.
    pub(super) async fn both(&mut self, statement: &Statement) -> Result<Ran, Fault> {
        let sql = self.sql(statement);
        let mut oracle = self.bench.oracle.begin().await?;
        if let Err(error) = execute(&mut oracle, &sql).await {
            self.counts.refused += 1;
            return Ok(Ran::Refused(self.refusing(&error)));
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

    /// The reference on account of which the oracle refused, whose parent was touched.
    fn refusing(&self, error: &sqlx::Error) -> Option<usize> {
        let named = error.as_database_error().filter(|error| error.message().starts_with("update or delete"));
        named.and_then(|error| error.constraint()).and_then(|name| self.schema.edges.iter().position(|edge| edge.name == name))
    }

    /// The oracle refused on account of this reference. Its service would not have been refused: entail must leave everything alone.
    async fn refused(&mut self, statement: &Statement, edge: usize) -> Result<(), Fault> {
        let edge = &self.schema.edges[edge];
        match statement {
            Statement::Delete(ids) if edge.on_delete == OnDelete::Restrict => {
                for id in ids {
                    self.delete_restricted(*id).await?;
                }
                Ok(())
            }
            Statement::Rekey(id, _) if edge.parent == id.0 && edge.is_rule() && edge.on_update == OnUpdate::Restrict => {
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
                    self.driver.settle(self.rng, self.counts).await?;
                    self.compare(&before, "after a key change that nothing follows").await?;
                }
                Ok(())
            }
            Statement::Delete(_) | Statement::Rekey(..) | Statement::Repoint(..) | Statement::Insert(..) | Statement::Touch(..) => Ok(()),
        }
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
        let refused = execute(&mut oracle, &self.sql(&statement)).await.err();
        oracle.rollback().await?;
        let is_restrict = |edge: usize| self.schema.edges[edge].on_delete == OnDelete::Restrict;
        if !refused.and_then(|error| self.refusing(&error)).is_some_and(is_restrict) || !self.in_service_alone(&statement).await? {
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
        let pending = self.driver.settle(self.rng, self.counts).await?;
        self.compare(&before, "after a restricted statement").await?;
        if pending.iter().any(|pending| pending.reason.ends_with("restrict")) {
            return Ok(());
        }
        Err(Fault::Broke(format!("nothing is parked as restricted after {statement:?}: {pending:#?}")))
    }

    /// Runs a statement in its service alone, if that touches nothing but the row itself.
    pub(super) async fn in_service_alone(&mut self, statement: &Statement) -> Result<bool, Fault> {
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
