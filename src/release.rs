//! What a latch holds back: the roots parked behind it, worked as if it were open, and rolled back.

use std::collections::BTreeMap;

use crate::engine::{Authority, Batch, Counted, Engine, REFUSED, Report, Retry, WorkError, is_large, refusal, was_refused};
use crate::error::Disposition;
use crate::graph::Graph;
use crate::ledger::{self, Pending};
use crate::plan::{Consequence, Fate, consequence};
use crate::sink::SinkError;

/// Roots rehearsed at a time.
const PAGE: u64 = 1_000;

/// What would go if a reference were released.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Roots looked at.
    pub roots: u64,
    /// Of them, those whose parent lives again.
    pub spared: u64,
    /// Of them, those that wait for their topic to be read past the look-up: what they reach is not counted.
    pub waiting: u64,
    /// Of them, those that stay parked, by why.
    pub parked: BTreeMap<String, u64>,
    /// Rows per reference.
    pub rows: BTreeMap<String, u64>,
    /// Rows per entity and action.
    pub tables: BTreeMap<(String, &'static str), u64>,
}

impl Rehearsal {
    /// Adds what a batch would have done. Returns the roots that are too large to be read.
    fn add(&mut self, report: &Report) -> Vec<Pending> {
        self.spared += report.spared;
        self.waiting += u64::try_from(report.waiting.len()).unwrap_or(u64::MAX);
        let (large, parked): (Vec<_>, Vec<_>) = report.parked.iter().partition(|pending| pending.reason == "rows-per-event");
        for pending in parked.into_iter().filter(|pending| pending.reason != "wait") {
            *self.parked.entry(format!("{}, {}", pending.reason, pending.detail)).or_default() += 1;
        }
        for (name, rows) in &report.rows {
            *self.rows.entry(name.clone()).or_default() += rows;
        }
        for line in report.cascades.iter().flat_map(|cascade| &cascade.lines) {
            *self.tables.entry((line.entity.clone(), line.action)).or_default() += line.rows;
        }
        large.into_iter().cloned().collect()
    }

    /// Adds a root that a database refuses. Its rows are let go by no release: once it is not refused, the limits count for them.
    fn add_refused(&mut self, why: &str) {
        self.roots += 1;
        *self.parked.entry(format!("{REFUSED}, {why}")).or_default() += 1;
    }

    /// Adds a root that was counted only.
    fn add_counted(&mut self, graph: &Graph, pending: &Pending, counted: &Counted) {
        if let Some(edge) = counted.refusal {
            *self.parked.entry(format!("{}, it may be refused by `{}`", pending.reason, graph.edge(edge).name)).or_default() += 1;
            return;
        }
        for (edge, rows) in &counted.per_edge {
            let edge = graph.edge(*edge);
            *self.rows.entry(edge.name.clone()).or_default() += rows;
            let action = if consequence(edge, &Fate::Gone) == Consequence::Delete { "delete" } else { "update" };
            *self.tables.entry((graph.node(edge.child).name.clone(), action)).or_default() += rows;
        }
    }
}

/// Rehearses the release of a reference. `progress` is told how many roots were looked at.
///
/// # Errors
/// Those of the databases.
pub async fn rehearse(engine: &Engine, reference: &str, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<Rehearsal, SinkError> {
    let mut rehearsal = Rehearsal::default();
    let Some((_, edge)) = engine.model.graph.edges().find(|(_, edge)| edge.name == reference) else { return Ok(rehearsal) };
    // Every database that a root reaches keeps it.
    let database = &*engine.model.databases.handle(engine.model.database_of(edge.child)).database;
    let group = &engine.owner.group;
    let partitions = ledger::progress(database, group).await?.into_keys().collect();
    let scope = format!("reference:{reference}");
    let mut after: Option<Pending> = None;
    loop {
        let page = ledger::pending(database, group, &partitions, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(rehearsal) };
        after = Some(last.clone());
        let (refused, page): (Vec<Pending>, Vec<Pending>) = page.into_iter().partition(was_refused);
        refused.iter().for_each(|pending| rehearsal.add_refused(refusal(&pending.reason, &pending.detail).unwrap_or_default()));
        let retries = page.into_iter().filter(|pending| pending.reason != "wait" && !is_large(pending));
        let retries = retries.map(|pending| Retry { pending, proven: None });
        let mut parts = vec![retries.collect::<Vec<_>>()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let batch = Batch { retries: part.clone(), ..Batch::default() };
            match engine.work(&batch, Authority::Rehearsal { scope: &scope }).await {
                Ok(report) => {
                    rehearsal.roots += u64::try_from(part.len()).unwrap_or(u64::MAX);
                    for large in rehearsal.add(&report) {
                        let counted = engine.count(&large, u64::MAX).await?;
                        rehearsal.add_counted(&engine.model.graph, &large, &counted);
                    }
                    progress(rehearsal.roots);
                }
                Err(WorkError::TooMany) => cut(&mut parts, part),
                Err(error) if error.disposition() == Disposition::DeadLetter && part.len() > 1 => cut(&mut parts, part),
                Err(error) if error.disposition() == Disposition::DeadLetter => {
                    rehearsal.add_refused(&error.to_string());
                    progress(rehearsal.roots);
                }
                Err(WorkError::Sink(error)) => return Err(error),
            }
        }
    }
}

fn cut(parts: &mut Vec<Vec<Retry>>, mut part: Vec<Retry>) {
    let second = part.split_off(part.len() / 2);
    parts.extend([second, part]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::change::{Position, TopicPartition};
    use crate::engine::{Cascade, CascadeLine, Waiting};
    use crate::graph::{Edge, EdgeDraft, EdgeId, Node, Origin, TargetId};
    use crate::ledger::PendingKind;
    use crate::rules::{EntityId, OnDelete, ReferenceId};
    use crate::value::{Cell, Key};

    fn parked(id: &str, reason: &str, detail: &str) -> Pending {
        let at = Position { partition: TopicPartition { topic: "crm.customers".into(), partition: 0 }, offset: 5 };
        Pending {
            entity: "crm.customers".to_owned(),
            columns: vec!["id".to_owned()],
            key: Key::from_cells([&Cell::Value(id.to_owned())]).expect("a value"),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            kind: PendingKind::Gone,
            cause: at,
            partition_known: true,
            source: None,
            beside: Vec::new(),
        }
    }

    #[test]
    fn h81_a_rehearsal_adds_up_what_every_page_would_have_done() {
        let root = parked("1", "latch", "reference:order_customer");
        let line = |rows| CascadeLine { entity: "shop.orders".to_owned(), reference: "order_customer".to_owned(), action: "delete", rows };
        let lines = vec![line(2), line(3)];
        let cascade = Cascade { id: "c".to_owned(), entity: root.entity.clone(), key: root.key.clone(), cause: root.cause.clone(), lines };
        let waiting = Waiting { pending: parked("9", "wait", ""), target: TargetId(0), seen: BTreeSet::new(), looked_up_at: None };
        let page = Report {
            spared: 2,
            waiting: vec![waiting],
            rows: [("order_customer".to_owned(), 5)].into(),
            cascades: vec![cascade],
            parked: vec![
                parked("2", "rows-per-event", "order_customer"),
                parked("3", "restrict", "invoice_customer"),
                parked("4", "restrict", "invoice_customer"),
                parked("5", "restrict", "contract_customer"),
                parked("9", "wait", ""),
            ],
            ..Report::default()
        };
        let mut rehearsal = Rehearsal::default();
        for _ in 0..2 {
            let large: Vec<String> = rehearsal.add(&page).iter().map(|root| root.key.to_string()).collect();
            assert_eq!(large, ["2"], "the root that is too large to be read is counted otherwise");
        }
        assert_eq!((rehearsal.spared, rehearsal.waiting), (4, 2));
        assert_eq!(rehearsal.rows, [("order_customer".to_owned(), 10)].into());
        assert_eq!(rehearsal.tables, [(("shop.orders".to_owned(), "delete"), 10)].into());
        let stays = [("restrict, invoice_customer".to_owned(), 4), ("restrict, contract_customer".to_owned(), 2)];
        assert_eq!(rehearsal.parked, stays.into(), "what waits is told once");
    }
    #[test]
    fn h81_roots_that_are_counted_only_add_up_and_those_that_may_be_refused_are_told() {
        let node = |name: &str| Node { name: name.to_owned(), key: vec!["id".to_owned()] };
        let draft = |number, on_delete| EdgeDraft {
            edge: Edge {
                name: format!("reference{number}"),
                origin: Origin::Rule(ReferenceId(number)),
                native_delete: None,
                on_delete,
                ..Edge::native(EntityId(1), vec!["customer".to_owned()])
            },
            parent: EntityId(0),
            parent_columns: vec!["id".to_owned()],
        };
        let drafts = vec![draft(0, OnDelete::Cascade), draft(1, OnDelete::SetNull(vec!["customer".to_owned()]))];
        let graph = Graph::new(vec![node("crm.customers"), node("shop.orders")], drafts);
        let root = parked("1", "rows-per-event", "order_customer");
        let large = Counted { per_edge: [(EdgeId(0), 7), (EdgeId(1), 5)].into(), ..Counted::default() };
        let held = Counted { refusal: Some(EdgeId(1)), ..large.clone() };
        let mut rehearsal = Rehearsal::default();
        for counted in [&large, &held, &large, &held, &held] {
            rehearsal.add_counted(&graph, &root, counted);
        }
        assert_eq!(rehearsal.rows, [("reference0".to_owned(), 14), ("reference1".to_owned(), 10)].into());
        let tables = [(("shop.orders".to_owned(), "delete"), 14), (("shop.orders".to_owned(), "update"), 10)];
        assert_eq!(rehearsal.tables, tables.into());
        assert_eq!(rehearsal.parked, [("rows-per-event, it may be refused by `reference1`".to_owned(), 3)].into());
    }
}
