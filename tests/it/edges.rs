//! Batches at their edges: what is cut, what the second look sees, what comes behind a look-up, what a tombstone alone does.

use entail::change::Record;
use entail::engine::{Authority, Batch, Outcome, Retry, WorkError};
use serde_json::json;

use crate::support::engine::Bench;
use crate::support::members::*;
use crate::support::scripted::{Act, Cue};
use crate::support::world::*;

const ORDERS: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.main.customers }
  - { name: shop.order, table: orders, key: id }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }
";
const LEFT: &str = "SELECT id FROM orders ORDER BY id";

fn outcome(report: &entail::engine::Report, record: &Record) -> Outcome {
    report.outcomes.get(&record.at).copied().unwrap_or(Outcome::NoEffect)
}

/// Roots that are too much together may be well within their limits each.
#[tokio::test(flavor = "multi_thread")]
async fn h79_a_batch_of_more_than_a_transaction_takes_is_cut_and_a_single_root_is_not() {
    let mut bench = Bench::new(ORDERS, Vec::new()).await;
    bench.engine.rows_per_transaction = 3;
    bench.execute("shop", "INSERT INTO orders VALUES (10, 1), (11, 1), (20, 2), (21, 2), (30, 3), (31, 3), (32, 3), (33, 3)").await;
    let [one, two, three] = [1, 2, 3].map(|id| bench.customer("d", id, &[]));
    let together = bench.work(&[one.clone(), two.clone()]).await;
    assert!(matches!(together, Err(WorkError::TooMany)), "{together:?}");
    assert_eq!(bench.lines(LEFT).await.len(), 8);
    assert!(bench.lines("SELECT scope FROM entail_latches").await.is_empty());
    // The same of a record and a root that was parked.
    bench
        .execute(
            "shop",
            "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'reference:order_customer', 'rows', '')",
        )
        .await;
    assert_eq!(bench.work(std::slice::from_ref(&one)).await.expect("works").parked.len(), 1);
    bench.execute("shop", "DELETE FROM entail_latches").await;
    let pending = bench.pending("crm.main.customers").await;
    let retries: Vec<Retry> = pending.into_iter().map(|pending| Retry { pending, proven: None }).collect();
    let both = Batch { retries: retries.clone(), ..bench.batch(std::slice::from_ref(&two)) };
    let both = bench.engine.work(&both, Authority::Owner(&bench.epochs)).await;
    assert!(matches!(both, Err(WorkError::TooMany)), "{both:?}");
    let alone = bench.engine.work(&Batch { retries, ..Batch::default() }, Authority::Owner(&bench.epochs)).await.expect("works");
    assert_eq!((alone.settled_later, bench.lines(LEFT).await.len()), (1, 6));
    bench.work(&[two]).await.expect("works");
    // Larger than a transaction's share, and it cannot be cut.
    bench.work(&[three]).await.expect("works");
    assert!(bench.lines(LEFT).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_a_tombstone_alone_removes_what_hangs_on_its_row() {
    let mut bench = Bench::new(ORDERS, Vec::new()).await;
    bench.execute("crm", "INSERT INTO customers VALUES (2, 'Bob')").await;
    bench.execute("shop", "INSERT INTO orders VALUES (10, 1), (20, 2)").await;
    let tombstones = [1, 2, 3].map(|id| bench.record("crm.main.customers", &json!({"id": id}), None, &[]));
    let report = bench.work(&tombstones).await.expect("works");
    assert_eq!(bench.lines(LEFT).await, ["20"]);
    let outcomes = tombstones.each_ref().map(|record| outcome(&report, record));
    assert_eq!(outcomes, [Outcome::Applied, Outcome::NoEffect, Outcome::NoEffect], "one lives, and one had nothing");
    assert_eq!(report.spared, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn h23_an_old_key_that_lives_again_at_the_second_look_keeps_its_children() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    let report = bench.work(&halves).await.expect("works");
    let again = vec!["crm: INSERT INTO members VALUES (1, 99)".to_owned()];
    bench.script.cue(Cue { at: "looking up", nth: 2, act: Act::Interleave(again) });
    bench.prove(report.waiting).await.expect("works");
    assert!(bench.script.is_played());
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG CHANGE: it may be of the new row");
    let pending = bench.lines(PENDING).await;
    assert!(matches!(pending.as_slice(), [one] if one.ends_with("|ambiguous")), "SILENT MISS: {pending:?}");
}

/// 1 became 5; another 1 became 9. Whose a visit of 1 is, nobody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn h23_an_unclear_key_is_parked_where_rows_point_at_it_and_done_with_where_none_do() {
    for (visits, parked) in [("(1, 1)", 1), ("(1, 8)", 0)] {
        let mut bench = seeded(&visit(FOLLOW)).await;
        bench.execute("crm", "INSERT INTO members VALUES (5, 50), (9, 90)").await;
        bench.execute("shop", &format!("INSERT INTO visits VALUES {visits}")).await;
        let mut records = rekey(&mut bench, (1, 5), 50, 10).to_vec();
        records.push(member(&mut bench, "c", (1, 90), 20, &[]));
        records.extend(rekey(&mut bench, (1, 9), 90, 30));
        let before = bench.lines(VISITS).await;
        settle(&bench, &records).await;
        let pending = bench.lines(PENDING).await;
        assert_eq!((pending.len(), bench.lines(VISITS).await), (parked, before), "{visits}: {pending:?}");
        assert!(pending.iter().all(|one| one.ends_with("|ambiguous")), "{pending:?}");
    }
}

/// What came behind the look-up is not proven by it: it waits for a look-up of its own, also over a crash.
#[tokio::test(flavor = "multi_thread")]
async fn h114_a_row_behind_the_look_up_waits_in_the_ledger_for_the_next_one() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (2, 2)").await;
    let gone = [(1, 70), (2, 20)].map(|row| member(&mut bench, "d", row, 10, &[]));
    let report = bench.work(&gone).await.expect("works");
    assert_eq!((report.waiting.len(), bench.lines(PENDING).await.len()), (2, 2));
    bench.execute("shop", "INSERT INTO visits VALUES (3, 1)").await;
    let retries = report.waiting.into_iter().map(|one| Retry { pending: one.pending, proven: Some(one.seen) }).collect();
    let report = bench.engine.work(&Batch { retries, ..Batch::default() }, Authority::Owner(&bench.epochs)).await.expect("works");
    assert_eq!(bench.lines(VISITS).await, ["3|1"]);
    assert_eq!(report.waiting.len(), 1);
    assert_eq!(bench.lines(PENDING).await, ["[\"id\"]|[\"1\"]|wait"], "SILENT MISS after a crash, or a root that nothing hangs on");
    bench.prove(report.waiting).await.expect("works");
    assert!(bench.lines(VISITS).await.is_empty() && bench.lines(PENDING).await.is_empty());
}

/// A release lets go what is left of it; one that is used up neither helps nor hinders.
#[tokio::test(flavor = "multi_thread")]
async fn h81_what_is_left_of_a_release_counts_for_roots_that_are_proven_and_nothing_else_does() {
    let rules = format!("{}limits: {{ rows_per_event: 2, rows: {{ count: 60, per: 10m }} }}\n", members(&visit(FOLLOW)));
    for (allowed, visits, left) in [(0, 2, 0), (5, 3, 0), (5, 2, 0), (0, 3, 3)] {
        let mut bench = Bench::new(&rules, Vec::new()).await;
        bench.execute("crm", "INSERT INTO members VALUES (8, 80)").await;
        for id in 0..visits {
            bench.execute("shop", &format!("INSERT INTO visits VALUES ({id}, 1)")).await;
        }
        let gone = member(&mut bench, "d", (1, 70), 10, &[]);
        let allow = format!("INSERT INTO entail_allowances (group_id, reference, \"rows\") VALUES ('it', 'visit_member', {allowed})");
        bench.execute("shop", &allow).await;
        let waiting = bench.work(&[gone]).await.expect("works").waiting;
        bench.prove(waiting).await.expect("works");
        assert_eq!(bench.lines(VISITS).await.len(), left, "{allowed} allowed, {visits} rows");
    }
}

/// A default counts where it is written, and not where the column is set to null.
#[tokio::test(flavor = "multi_thread")]
async fn h110_a_default_that_is_not_written_needs_no_parent() {
    let tables = THING_TABLES
        .replace("others (id bigint PRIMARY KEY, customer bigint,", "others (id bigint PRIMARY KEY, customer bigint DEFAULT 77,");
    let mut world = World::new(false, CUSTOMERS, &tables, THINGS).await;
    world.gone(1).await;
    let now = lines(&world.shop, "SELECT id || '|' || coalesce(customer, '-') FROM others ORDER BY id").await;
    assert_eq!((now, lines(&world.shop, "SELECT scope FROM entail_latches").await), (vec!["1|-".to_owned(), "2|2".to_owned()], vec![]));
    // Where it is written, nobody is 77.
    let mut world = World::new(false, CUSTOMERS, &tables, &THINGS.replace("on_delete: set_null", "on_delete: set_default")).await;
    world.gone(1).await;
    assert_eq!(lines(&world.shop, "SELECT scope FROM entail_latches").await, ["reference:other_customer"]);
}

/// A trigger leaves one row of two as it is. Whoever counted on the database would believe that both had changed.
#[tokio::test(flavor = "multi_thread")]
async fn h64_rows_that_a_trigger_keeps_as_they_are_shut_their_reference() {
    for postgres in [false, true] {
        for (table, event, reference) in [("things", "DELETE", "thing_customer"), ("others", "UPDATE", "other_customer")] {
            let more = "INSERT INTO others VALUES (3, 1, 'three');";
            let mut world = World::new(postgres, CUSTOMERS, &format!("{THING_TABLES}{more}"), THINGS).await;
            let keep = if postgres {
                format!(
                    "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                    CREATE TRIGGER keep BEFORE {event} ON {table} FOR EACH ROW WHEN (old.id = 3) EXECUTE FUNCTION keep()"
                )
            } else {
                format!("CREATE TRIGGER keep BEFORE {event} ON {table} WHEN old.id = 3 BEGIN SELECT RAISE(IGNORE); END")
            };
            sql(&world.shop, &keep).await;
            let rows =
                "SELECT CAST((SELECT count(*) FROM things WHERE customer = 1) + (SELECT count(*) FROM others WHERE customer = 1) AS TEXT)";
            world.gone(1).await;
            assert_eq!(lines(&world.shop, rows).await, ["4"], "postgres: {postgres}, {table}: done by halves");
            let scopes = lines(&world.shop, "SELECT scope FROM entail_latches").await;
            assert_eq!(scopes, [format!("reference:{reference}")], "postgres: {postgres}, {table}: SILENT MISS");
            let why = lines(&world.shop, "SELECT detail FROM entail_latches").await;
            assert!(why[0].contains("2 rows planned, 1 done"), "{why:?}");
            assert_eq!((world.pending().await.len(), lines(&world.shop, "SELECT entity FROM entail_archive").await.len()), (1, 0));
            let drop = if postgres { format!("DROP TRIGGER keep ON {table}") } else { "DROP TRIGGER keep".to_owned() };
            sql(&world.shop, &format!("{drop}; DELETE FROM entail_latches")).await;
            world.retry().await;
            assert_eq!((lines(&world.shop, rows).await, world.pending().await.len()), (vec!["0".to_owned()], 0));
        }
    }
}

/// An id and a code of the same text are two things: what is done with the one is not done with the other.
#[tokio::test(flavor = "multi_thread")]
async fn h82_a_key_change_under_a_shut_reference_stays_open_beside_one_of_another_column() {
    let mut bench = seeded(&[visit(FOLLOW), badge(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 90), (3, 5)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO badges VALUES (1, 1)").await;
    latch(&bench, "badge_code").await;
    let mut records = vec![recode(&mut bench, 3, (1, 5), 10)];
    records.extend(rekey(&mut bench, (1, 2), 90, 20));
    settle(&bench, &records).await;
    assert_eq!((bench.lines(VISITS).await, bench.lines(BADGES).await), (vec!["1|2".to_owned()], vec!["1|1".to_owned()]));
    bench.execute("shop", "DELETE FROM entail_latches").await;
    retry_pending(&bench).await;
    assert_eq!(bench.lines(BADGES).await, ["1|5"], "SILENT MISS: the badge never followed");
}

/// A reference does not follow the key: its rows stay behind, and a new row of that key is not theirs, whatever follows beside it.
#[tokio::test(flavor = "multi_thread")]
async fn h23_rows_that_stayed_behind_a_key_do_not_go_with_the_next_row_of_that_key() {
    for more in [String::new(), note(FOLLOW)] {
        let mut bench = seeded(&[visit("on_delete: cascade"), more.clone()].concat()).await;
        bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
        let halves = rekey(&mut bench, (1, 2), 70, 10);
        settle(&bench, &halves).await;
        let owners = bench.lines("SELECT owner FROM notes").await;
        assert_eq!((bench.lines(VISITS).await, owners), (vec!["1|1".to_owned()], vec![if more.is_empty() { "1" } else { "2" }.to_owned()]));
        let records = [member(&mut bench, "c", (1, 99), 20, &[]), member(&mut bench, "d", (1, 99), 30, &[])];
        settle(&bench, &records).await;
        assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG DELETION: it is of the row that is 2 now");
        let pending = bench.lines(PENDING).await;
        assert!(matches!(pending.as_slice(), [one] if one.ends_with("|ambiguous")), "SILENT MISS: {pending:?}");
    }
}

/// Visit 1 stayed behind when 1 became 2, and note 1 followed; then another row took the key, with a note of its own.
async fn left_and_reused() -> Bench {
    let mut bench = seeded(&[visit("on_delete: cascade"), note(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    let again = member(&mut bench, "c", (1, 99), 20, &[]);
    settle(&bench, &[again]).await;
    bench.execute("shop", "INSERT INTO notes VALUES (2, 1, 'customer', 'open')").await;
    bench
}

const NOTES: &str = "SELECT id, owner FROM notes ORDER BY id";

/// Only a tombstone tells that the next row went, or the key change is told again: neither gives its rows to the first one.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_tombstone_of_a_key_that_was_left_and_used_again_gives_no_row_away() {
    let mut bench = left_and_reused().await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    settle(&bench, &[tombstone]).await;
    assert_eq!((bench.lines(NOTES).await, bench.lines(VISITS).await), (vec!["1|2".to_owned(), "2|1".to_owned()], vec!["1|1".to_owned()]));
    assert_eq!(bench.lines(PENDING).await.len(), 1, "SILENT MISS");
    let mut bench = left_and_reused().await;
    let repeated = member(&mut bench, "d", (1, 70), 10, &[("__debezium.newkey", json!({"id": 2}))]);
    settle(&bench, &[repeated]).await;
    assert_eq!(bench.lines(NOTES).await, ["1|2", "2|1"], "WRONG CHANGE: note 2 is of the row that went");
}

/// It stays so for a month and longer, and ends with the row that stayed.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_key_is_free_again_when_the_rows_that_stayed_are_gone() {
    let mut bench = left_and_reused().await;
    let_a_month_pass(&bench).await;
    let gone = member(&mut bench, "d", (1, 99), 30, &[]);
    settle(&bench, &[gone]).await;
    assert_eq!((bench.lines(NOTES).await.len(), bench.lines(VISITS).await.len(), bench.lines(PENDING).await.len()), (2, 1, 1));
    // A person has looked: the visit is deleted, and so is the note of the row that went.
    bench.execute("shop", "DELETE FROM visits; DELETE FROM notes WHERE id = 2").await;
    retry_pending(&bench).await;
    assert!(bench.lines(PENDING).await.is_empty());
    bench.execute("shop", "INSERT INTO visits VALUES (3, 1)").await;
    let records = [member(&mut bench, "c", (1, 98), 40, &[]), member(&mut bench, "d", (1, 98), 50, &[])];
    settle(&bench, &records).await;
    assert!(bench.lines(VISITS).await.is_empty() && bench.lines(PENDING).await.is_empty());
    assert_eq!(bench.lines(NOTES).await, ["1|2"]);
}

/// Things are in shadow when 1 becomes 9: nothing comes to them, so they stay behind. By the time they are enforced another row is 1.
#[tokio::test(flavor = "multi_thread")]
async fn h23_rows_that_stayed_behind_in_shadow_do_not_go_with_the_next_row_of_that_key_once_they_are_enforced() {
    let things = "on_delete: cascade, on_update: cascade";
    let enforced = THINGS.replace("on_delete: cascade", things).replace("set_null", "set_null, on_update: cascade");
    let shadow = enforced.replace(things, &format!("{things}, mode: shadow"));
    for (postgres, others) in [(false, true), (false, false), (true, true)] {
        let mut world = World::new(postgres, CUSTOMERS, THING_TABLES, &shadow).await;
        if !others {
            sql(&world.shop, "DELETE FROM others").await;
        }
        sql(&world.crm, "UPDATE customers SET id = 9 WHERE id = 1").await;
        let header = Some(("__debezium.newkey", json!({"id": 9})));
        world.work("crm.customers", json!({"id": 1}), gone_at("crm", "customers", json!({"id": 1}), 100), header).await;
        world.work("crm.customers", json!({"id": 9}), made("crm", "customers", &json!({"id": 9}), 100), None).await;
        let owners = lines(&world.shop, "SELECT CAST(customer AS TEXT) FROM others ORDER BY id").await;
        assert_eq!(owners, if others { vec!["9", "2"] } else { vec![] }, "the enforced reference follows");
        assert_eq!(lines(&world.shop, THINGS_NOW).await, ["1|1|one", "2|2|two", "3|1|three"]);
        world.rebind(Some(&enforced)).await;
        world.work("crm.customers", json!({"id": 1}), made("crm", "customers", &json!({"id": 1}), 200), None).await;
        world.work("crm.customers", json!({"id": 1}), gone_at("crm", "customers", json!({"id": 1}), 300), None).await;
        assert_eq!(
            lines(&world.shop, THINGS_NOW).await,
            ["1|1|one", "2|2|two", "3|1|three"],
            "WRONG DELETION: they are of the row that is 9 now"
        );
        let pending = world.pending().await;
        assert!(matches!(pending.as_slice(), [one] if one.key == key(&["1"])), "SILENT MISS: {pending:?}");
        // A person gives them to where they belong: the key is its next row's own.
        sql(&world.shop, "UPDATE things SET customer = 9 WHERE customer = 1").await;
        world.retry().await;
        sql(&world.shop, "INSERT INTO things VALUES (4, 1, 'four')").await;
        world.work("crm.customers", json!({"id": 1}), made("crm", "customers", &json!({"id": 1}), 400), None).await;
        world.work("crm.customers", json!({"id": 1}), gone_at("crm", "customers", json!({"id": 1}), 500), None).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await, ["1|9|one", "2|2|two", "3|9|three"], "SILENT MISS");
        assert!(world.pending().await.is_empty());
    }
}

/// Where every reference follows, the key is free for another row.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_key_that_all_rows_have_left_is_its_next_rows_own() {
    let mut bench = seeded(&[visit("on_delete: cascade"), note(FOLLOW)].concat()).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    bench.execute("shop", "INSERT INTO notes VALUES (1, 1, 'customer', 'open')").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1); INSERT INTO notes VALUES (2, 1, 'customer', 'open')").await;
    let records = [member(&mut bench, "c", (1, 99), 20, &[]), member(&mut bench, "d", (1, 99), 30, &[])];
    settle(&bench, &records).await;
    assert_eq!((bench.lines(VISITS).await, bench.lines("SELECT id, owner FROM notes").await), (vec![], vec!["1|2".to_owned()]));
    assert!(bench.lines(PENDING).await.is_empty());
}

/// A root that waits for its proof is nothing that a latch holds back.
#[tokio::test(flavor = "multi_thread")]
async fn h81_a_rehearsal_leaves_out_what_only_waits() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (2, 2), (3, 2)").await;
    let [one, two] = [(1, 70), (2, 20)].map(|row| member(&mut bench, "d", row, 10, &[]));
    assert_eq!(bench.work(&[one]).await.expect("works").waiting.len(), 1);
    latch(&bench, "visit_member").await;
    settle(&bench, &[two]).await;
    let reasons = bench.lines("SELECT reason FROM entail_pending ORDER BY root_key").await;
    assert_eq!(reasons, ["wait", "latched"]);
    let rehearsal = entail::release::rehearse(&bench.engine, "visit_member", &|_| {}).await.expect("rehearses");
    assert_eq!((rehearsal.roots, rehearsal.rows), (1, [("visit_member".to_owned(), 2)].into()));
}

/// 1 became 2, and another row is 1 now. An old delete of 1 is told again: it is of neither.
#[tokio::test(flavor = "multi_thread")]
async fn h3_an_old_delete_of_a_key_that_another_row_has_now_is_spared() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    bench.execute("crm", "INSERT INTO members VALUES (1, 99)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
    let forged = member(&mut bench, "d", (1, 99), 5, &[]);
    let report = bench.work(&[forged]).await.expect("works");
    assert_eq!((report.spared, report.parked.len(), bench.lines(VISITS).await), (1, 0, vec!["1|1".to_owned()]));
}

/// The key had a life of its own since it changed, and only a tombstone tells of its end.
#[tokio::test(flavor = "multi_thread")]
async fn h114_a_tombstone_of_a_key_that_lived_again_does_not_follow_the_older_change() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("crm", "INSERT INTO members VALUES (2, 70)").await;
    let halves = rekey(&mut bench, (1, 2), 70, 10);
    settle(&bench, &halves).await;
    let again = member(&mut bench, "c", (1, 99), 20, &[]);
    settle(&bench, &[again]).await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1)").await;
    let tombstone = bench.record("crm.main.members", &json!({"id": 1}), None, &[]);
    settle(&bench, &[tombstone]).await;
    assert_eq!(bench.lines(VISITS).await, ["1|1"], "WRONG CHANGE: it was never a visit of the row that is 2 now");
    assert_eq!(bench.lines(PENDING).await.len(), 1, "SILENT MISS: nobody is told");
}

/// What is proven by one look-up goes at once, or another row may have the key by the next portion.
#[tokio::test(flavor = "multi_thread")]
async fn h114_a_large_root_whose_key_may_change_goes_at_once() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.engine.rows_per_portion = 2;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)").await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    let report = bench.work(&[gone]).await.expect("works");
    assert_eq!(bench.lines("SELECT reason FROM entail_pending").await, ["wait"]);
    bench.prove(report.waiting).await.expect("works");
    assert!(bench.lines(VISITS).await.is_empty() && bench.lines(PENDING).await.is_empty());
}

/// Each row holds the one before it, in two tables by turns: no order of tables is right.
#[tokio::test(flavor = "multi_thread")]
async fn h64_rows_of_two_tables_that_hold_each_other_by_turns_go_one_behind_the_other() {
    let rules = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.team, table: teams, key: id, topic: shop.teams }
  - { name: shop.player, table: players, key: id, topic: shop.players }
references:
  - { name: team_customer, child: shop.team, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: player_team, child: shop.player, columns: team, parent: shop.team, on_delete: cascade }
  - { name: team_player, child: shop.team, columns: player, parent: shop.player, on_delete: cascade }
";
    for postgres in [false, true] {
        let (beside, after) = ("REFERENCES players (id) ON DELETE RESTRICT", "ALTER TABLE teams ADD FOREIGN KEY (player)");
        let [in_table, behind] = if postgres { [String::new(), format!("{after} {beside};")] } else { [beside.to_owned(), String::new()] };
        let tables = format!(
            "CREATE TABLE teams (id bigint PRIMARY KEY, customer bigint, player bigint {in_table});
            CREATE TABLE players (id bigint PRIMARY KEY, team bigint REFERENCES teams (id) ON DELETE RESTRICT); {behind}
            CREATE INDEX tc ON teams (customer); CREATE INDEX tp ON teams (player); CREATE INDEX pt ON players (team);
            INSERT INTO teams VALUES (1, 1, NULL); INSERT INTO players VALUES (1, 1); INSERT INTO teams VALUES (2, NULL, 1);
            INSERT INTO players VALUES (2, 2); INSERT INTO teams VALUES (3, NULL, 2), (9, 2, NULL); INSERT INTO players VALUES (9, 9);"
        );
        let mut world = World::new(postgres, CUSTOMERS, &tables, rules).await;
        let rows = "SELECT 't' || CAST(id AS TEXT) FROM teams UNION ALL SELECT 'p' || CAST(id AS TEXT) FROM players ORDER BY 1";
        let before = lines(&world.shop, rows).await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, rows).await, ["p9", "t9"], "postgres: {postgres}");
        let undone = world.undo(root(1), entail::undo::OnConflict::Fail, false).await;
        assert_eq!((undone.left(), lines(&world.shop, rows).await), (0, before), "postgres: {postgres}");
    }
}
