//! What is concerned when a database is no longer as it was.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::*;
use crate::model::Code;
use crate::model::on_files::Services;
use crate::rules::TableName;
use crate::sink::{Access, Database, ForeignKey, Session, Statement, TableRef, statement::Dialect};

/// Says where its log ends, when it is told to.
struct Slow {
    end: u64,
    gate: Arc<Notify>,
}

#[async_trait]
impl Database for Slow {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn identity(&self) -> Result<String, SinkError> {
        Ok(String::new())
    }

    async fn table(&self, _: &TableName) -> Result<Option<TableRef>, SinkError> {
        Ok(None)
    }

    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError> {
        Ok(Vec::new())
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        Err(SinkError::Standby)
    }

    async fn read(&self, _: &Statement) -> Result<Vec<Row>, SinkError> {
        Ok(Vec::new())
    }

    async fn log_end(&self) -> Result<Option<u64>, SinkError> {
        self.gate.notified().await;
        Ok(Some(self.end))
    }

    async fn mark(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn close(&self) {}
}

fn handle(end: u64) -> (Handle, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let database = Arc::new(Slow { end, gate: Arc::clone(&gate) });
    (Handle { name: "crm".to_owned(), access: Access::Read, database, identity: String::new() }, gate)
}

#[tokio::test]
async fn h15_an_answer_that_comes_late_is_not_taken_for_a_step_back() {
    let (marks, id) = (Marks::default(), DatabaseId(0));
    let ((early, early_gate), (late, late_gate)) = (handle(100), handle(110));
    // Both ask; who asked first hears last.
    let first = marks.check(id, &early);
    let second = async {
        late_gate.notify_one();
        let heard = marks.check(id, &late).await;
        early_gate.notify_one();
        heard
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    // A true step back is one, until it is accepted.
    for _ in 0..2 {
        early_gate.notify_one();
        assert!(matches!(marks.check(id, &early).await, Err(SinkError::Rewound { before: 110, now: 100, .. })));
    }
    marks.lower(id, 100);
    early_gate.notify_one();
    assert!(marks.check(id, &early).await.is_ok());
}

fn names(model: &Model, edges: &[EdgeId]) -> BTreeSet<String> {
    edges.iter().map(|edge| model.graph.edge(*edge).name.clone()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn h74_what_cannot_be_bound_shuts_what_leads_to_it_and_nothing_else() {
    let services = Services::open("unbindable").await;
    let model = services.bind().await;
    let concerned = |at: (&str, &str), places: &[&str]| {
        let problems: Vec<Problem> =
            places.iter().map(|place| Problem::new(Code::NoColumn, *place, "it is gone", "bring it back")).collect();
        let finding = unbindable(&model, at, &problems);
        assert_eq!(finding.detail.matches("it is gone; bring it back").count(), places.len());
        names(&model, &finding.edges)
    };
    let (notes, lines) = (set(&["note_customer"]), set(&["order_customer", "line_order"]));
    // The table itself.
    assert_eq!(concerned(("shop", "main.notes"), &[]), notes);
    assert_eq!(concerned(("shop", "main.lines"), &[]), lines);
    assert_eq!(concerned(("shop", "main.orders"), &[]), lines, "rows below it would go along");
    assert_eq!(concerned(("shop", "main.tags"), &[]), lines, "what no rule names goes along too");
    assert_eq!(concerned(("crm", "main.notes"), &[]), set(&[]), "a table of that name elsewhere");
    // What the problems name: the entity, the table, a reference of it.
    for place in ["shop.note", "shop.main.notes", "note_customer"] {
        assert_eq!(concerned(("shop", "main.other"), &[place]), notes, "{place}");
    }
    assert_eq!(concerned(("shop", "main.other"), &["line_order"]), lines);
    assert_eq!(concerned(("shop", "main.notes"), &["shop.line"]), &notes | &lines);
    assert_eq!(concerned(("shop", "main.other"), &["shop"]), set(&[]));
}

#[tokio::test]
async fn h74_what_is_bound_anew_is_held_against_the_same_table() {
    let services = Services::open("rebound").await;
    let old = services.bind().await;
    assert_eq!(rebound(&old, &services.bind().await), []);
    services.execute("shop", &["ALTER TABLE notes DROP COLUMN more"]).await;
    assert_eq!(rebound(&old, &services.bind().await), [], "nothing of it is used");
    let another = [
        "DROP TABLE notes",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, kind TEXT, state TEXT)",
        "CREATE INDEX n ON notes (customer)",
    ];
    services.execute("shop", &another).await;
    let found = rebound(&old, &services.bind().await);
    let edges: Vec<BTreeSet<String>> = found.iter().map(|finding| names(&old, &finding.edges)).collect();
    assert_eq!(edges, [set(&["note_customer"])], "{found:?}");
}

#[tokio::test]
async fn h15_a_log_that_took_a_step_back_shuts_what_asks_that_database_for_parents() {
    let services = Services::open("rewound").await;
    let model = services.bind().await;
    assert!(model.graph.edges().any(|(_, edge)| edge.origin == Origin::Native), "the tags");
    let rewound = |database: &str| rewound(&model, &SinkError::Rewound { database: database.to_owned(), before: 9, now: 7 });
    let of_crm = rewound("crm").expect("a finding");
    assert_eq!(names(&model, &of_crm.edges), set(&["order_customer", "note_customer"]));
    assert_eq!(of_crm.log_end, Some((model.databases.of_service("crm").expect("crm"), 7)));
    assert_eq!(names(&model, &rewound("shop").expect("a finding").edges), set(&["line_order"]));
    assert_eq!(rewound("billing"), None);
    assert_eq!(super::rewound(&model, &SinkError::Standby), None);
}

/// The file under a service is another one than at the start.
#[tokio::test]
async fn h67_another_database_under_an_old_name_shuts_what_touches_it() {
    let services = Services::open("other").await;
    let mut model = services.bind().await;
    assert_eq!(look(&model, &Marks::default()).await, []);
    let crm = model.databases.of_service("crm").expect("crm");
    model.databases.handle_mut(crm).identity = "another".to_owned();
    let found = look(&model, &Marks::default()).await;
    assert_eq!(
        found.iter().map(|one| (one.reason, names(&model, &one.edges))).collect::<Vec<_>>(),
        [("other-database", set(&["order_customer", "note_customer"]))]
    );
}

#[tokio::test]
async fn h74_what_is_used_of_a_table_is_what_is_read_asked_for_and_set() {
    let services = Services::open("used").await;
    let model = services.bind().await;
    let used = |entity: &str| used(&model, model.entity_named(entity).expect(entity));
    assert_eq!(used("shop.note"), set(&["id", "customer", "kind", "state"]));
    assert_eq!(used("shop.order"), set(&["id", "customer"]));
    assert_eq!(used("crm.customer"), set(&["id"]));
}

#[tokio::test]
async fn h74_marks_that_changed_are_told_apart() {
    let services = Services::open("marks").await;
    let mut model = services.bind().await;
    let marks = [("id", "1"), ("customer", "2"), ("kind", "3"), ("state", "4"), ("more", "5")];
    for bound in model.tables.iter_mut().flatten() {
        bound.table = bound.table.clone().marked("keys", &marks);
    }
    let entities = ["shop.order", "shop.note"].map(|name| model.entity_named(name).expect(name));
    let read = |marks: &[(&str, &str, &str)]| -> Vec<Row> {
        marks.iter().map(|(place, column, mark)| [place, column, mark].map(|text| Some((*text).to_owned())).to_vec()).collect()
    };
    let orders = [("0", "", "keys"), ("0", "id", "1"), ("0", "customer", "2")];
    let notes = [("1", "", "keys"), ("1", "id", "1"), ("1", "customer", "2"), ("1", "kind", "3"), ("1", "state", "4"), ("1", "more", "5")];
    let compared = |changed: &[(&str, &str, &str)]| {
        let is_changed = |(place, column, _): &(&str, &str, &str)| changed.iter().any(|one| (one.0, one.1) == (*place, *column));
        let kept = orders.iter().chain(&notes).filter(|line| !is_changed(line)).copied();
        let now: Vec<_> = kept.chain(changed.iter().filter(|one| one.2 != "gone").copied()).collect();
        compare(&model, &entities, &read(&now)).map_err(|trouble| (trouble.error, names(&model, &trouble.edges)))
    };
    assert!(compared(&[]).is_ok());
    for (changed, edges) in [
        (("0", "customer", "9"), &["order_customer", "line_order"][..]),
        (("0", "id", "gone"), &["order_customer", "line_order"]),
        (("1", "customer", "gone"), &["note_customer"]),
        (("1", "kind", "9"), &["note_customer"]),
    ] {
        let (error, shut) = compared(&[changed]).expect_err("drifted");
        assert!(matches!(error, SinkError::Drifted { .. }) && shut == set(edges), "{changed:?}: {error}, {shut:?}");
    }
    // The rules are bound anew: another column, or another key that leads there.
    for changed in [("1", "more", "9"), ("1", "more", "gone"), ("0", "new", "6"), ("0", "", "other keys"), ("1", "", "gone")] {
        let (error, shut) = compared(&[changed]).expect_err("reshaped");
        assert!(matches!(error, SinkError::Reshaped { .. }) && shut.is_empty(), "{changed:?}: {error}, {shut:?}");
    }
}
