//! How many rows each reference may still touch in its window: by count, and by a share of its child's table (H80).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::job::{Failure, Job};
use crate::graph::Origin;
use crate::ledger;
use crate::model::Model;
use crate::rules::EntityId;
use crate::sink::{SinkError, statement};

/// How long a table's size is believed.
const BELIEVED: Duration = Duration::from_secs(60);

fn is_believed(age: Duration) -> bool {
    age < BELIEVED
}

/// Sizes of tables, as they were lately.
#[derive(Debug, Default)]
pub struct Sizes(Mutex<BTreeMap<EntityId, (Instant, u64)>>);

impl Sizes {
    async fn rows(&self, model: &Model, entity: EntityId) -> Result<u64, SinkError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&entity).copied();
        if let Some((_, rows)) = known.filter(|(at, _)| is_believed(at.elapsed())) {
            return Ok(rows);
        }
        let bound = model.table(entity);
        let database = &model.databases.handle(bound.database).database;
        let statement = statement::size(database.dialect(), &bound.table);
        let rows = database.read(&statement).await?;
        let number = rows.first().and_then(|row| row.first().cloned().flatten()).and_then(|text| text.parse().ok());
        let rows = number.ok_or_else(|| SinkError::Answer {
            what: statement.what().to_owned(),
            expected: "a number".to_owned(),
            got: "none".to_owned(),
        })?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(entity, (Instant::now(), rows));
        Ok(rows)
    }
}

impl Job<'_> {
    /// What the windows have left, per reference; remembers what each may hold in all.
    pub(super) async fn windows(&mut self) -> Result<BTreeMap<String, u64>, Failure> {
        let limits = self.model.rules.limits.rows;
        let mut used: BTreeMap<String, u64> = BTreeMap::new();
        for (id, session) in &mut self.sessions {
            let dialect = self.model.databases.handle(*id).database.dialect();
            used.extend(ledger::windows(session.as_mut(), dialect, &self.engine.owner.group, limits.per).await?);
        }
        for (_, edge) in self.model.graph.edges() {
            let used = used.get(&edge.name).copied().unwrap_or(0);
            let share = match limits.percent.filter(|_| edge.origin != Origin::Native) {
                // What went in this window was there when it began.
                Some(percent) => (self.engine.sizes.rows(self.model, edge.child).await?.saturating_add(used)).saturating_mul(percent) / 100,
                None => u64::MAX,
            };
            self.window.insert(edge.name.clone(), limits.count.min(share));
        }
        let left = |(name, all): (&String, &u64)| (name.clone(), all.saturating_sub(used.get(name).copied().unwrap_or(0)));
        Ok(self.window.iter().map(left).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h80_the_size_of_a_table_is_believed_for_a_minute() {
        let ages = [0, 59, 60, 61].map(Duration::from_secs);
        assert_eq!(ages.map(is_believed), [true, true, false, false]);
    }
}
