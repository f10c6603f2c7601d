//! Puts single rows back within somebody else's transaction.

use std::collections::BTreeSet;

use super::page::Place;
use super::{OnConflict, Tally};
use crate::ledger::Archived;
use crate::model::Model;
use crate::sink::{ConstraintKind, Dialect, Fault, Session, SinkError, Statement};

/// Whose rows are put back, and how long what is overwritten would be kept.
pub(crate) struct Owed<'a> {
    pub(crate) model: &'a Model,
    pub(crate) group: &'a str,
    /// The cascades that took them.
    pub(crate) chosen: &'a BTreeSet<&'a str>,
}

impl Owed<'_> {
    /// Puts rows of one entity back in an open transaction; newer rows are left alone. What a constraint refuses is left in the archive, and counts
    /// as refused.
    pub(crate) async fn put_back(
        &self,
        session: &mut dyn Session,
        dialect: Dialect,
        entity: &str,
        rows: &[Archived],
    ) -> Result<Tally, SinkError> {
        let (mut all, mut parts) = (Tally::default(), vec![rows]);
        while let Some(part) = parts.pop() {
            match self.try_put_back(session, dialect, entity, part).await {
                Ok(tally) => all.add(tally),
                Err(error) if !is_refusal(&error) => return Err(error),
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(_) => all.refused += 1,
            }
        }
        Ok(all)
    }

    async fn try_put_back(&self, session: &mut dyn Session, dialect: Dialect, entity: &str, rows: &[Archived]) -> Result<Tally, SinkError> {
        let Some((node, bound)) = self.model.entity_named(entity).and_then(|node| Some((node, self.model.table_if_any(node)?))) else {
            return Ok(Tally::default());
        };
        run(session, "SAVEPOINT entail_rescue").await?;
        let mut place = Place {
            session: &mut *session,
            dialect,
            bound,
            key: &self.model.graph.node(node).key,
            entity,
            group: self.group,
            chosen: self.chosen,
            keep: std::time::Duration::ZERO,
            policy: OnConflict::Skip,
            follows: self.model.graph.follows_natively(node),
            is_dry: false,
            writes: true,
        };
        let done = place.put_back(rows).await;
        match &done {
            Err(error) if !is_refusal(error) => return done,
            Err(_) => run(session, "ROLLBACK TO SAVEPOINT entail_rescue").await?,
            Ok(_) => {}
        }
        // Else they nest, and slow down whoever looks at a row of this transaction.
        run(session, "RELEASE SAVEPOINT entail_rescue").await?;
        done
    }
}

async fn run(session: &mut dyn Session, sql: &'static str) -> Result<(), SinkError> {
    session.execute(&Statement::fixed("putting rows back", sql, Vec::new())).await.map(|_| ())
}

/// Not what a trigger raises: that may be for a while only.
fn is_refusal(error: &SinkError) -> bool {
    let is_raised = matches!(error, SinkError::Database { fault: Fault::Constraint(ConstraintKind::Trigger, _), .. });
    !is_raised && matches!(error, SinkError::Database { fault: Fault::Constraint(..) | Fault::Value, .. } | SinkError::Swallowed { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h47_only_what_the_row_itself_meets_leaves_it_in_the_archive() {
        let told = |fault| SinkError::Database { what: "a test".to_owned(), fault, detail: String::new() };
        let refuses = [Fault::Constraint(ConstraintKind::ForeignKey, None), Fault::Value];
        assert!(refuses.into_iter().all(|fault| is_refusal(&told(fault))));
        let passes = [Fault::Connection, Fault::Contention, Fault::Resources, Fault::ReadOnly, Fault::Privilege, Fault::UnknownObject];
        assert!(!passes.into_iter().any(|fault| is_refusal(&told(fault))), "it goes back with the next attempt");
        assert!(!is_refusal(&told(Fault::Constraint(ConstraintKind::Trigger, None))), "it may pass");
        assert!(!is_refusal(&SinkError::Standby));
    }
}
