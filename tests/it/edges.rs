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

/// What a release lets go is used up by what goes: the next root finds what is left.
#[tokio::test(flavor = "multi_thread")]
async fn h81_what_went_by_a_release_is_not_let_go_a_second_time() {
    let rules = format!("{}limits: {{ rows_per_event: 2, rows: {{ count: 60, per: 10m }} }}\n", members(&visit("on_delete: cascade")));
    let mut bench = Bench::new(&rules, Vec::new()).await;
    bench.execute("crm", "INSERT INTO members VALUES (8, 80)").await;
    bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)").await;
    for member_id in [1, 2] {
        let gone = member(&mut bench, "d", (member_id, 70), 10, &[]);
        settle(&bench, &[gone]).await;
    }
    bench.execute("shop", "DELETE FROM entail_latches").await;
    bench.execute("shop", "INSERT INTO entail_allowances (group_id, reference, \"rows\") VALUES ('it', 'visit_member', 5)").await;
    for retry in pending(&bench).await {
        let batch = Batch { retries: vec![retry], ..Batch::default() };
        bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
    }
    assert_eq!(bench.lines(VISITS).await, ["4|2", "5|2", "6|2"], "WRONG DELETION: 6 rows went, and 5 were let go");
    assert_eq!(bench.lines(PENDING).await.len(), 1);
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

/// Rows of one table hold each other by a native key that refuses at once, whichever comes first.
#[tokio::test(flavor = "multi_thread")]
async fn h64_rows_of_one_table_that_hold_each_other_go_one_behind_the_other() {
    let tables = "CREATE TABLE things (id bigint PRIMARY KEY, customer bigint, t bigint REFERENCES things (id) ON DELETE RESTRICT);
        CREATE INDEX things_customer ON things (customer); CREATE INDEX tt ON things (t);
        CREATE TABLE others (id bigint PRIMARY KEY, customer bigint); CREATE INDEX others_customer ON others (customer);
        INSERT INTO things VALUES (1, 1, NULL), (2, 1, 1), (3, 1, 2), (9, 2, NULL), (7, 1, 9), (6, 1, 7), (5, 1, 5);";
    for postgres in [false, true] {
        // PostgreSQL looks when the statement has ended, so it lets go what points at each other.
        let circle = if postgres { "INSERT INTO things VALUES (11, 1, 12), (12, 1, 11), (10, 1, 11), (13, 1, 10);" } else { "" };
        let mut world = World::new(postgres, CUSTOMERS, &format!("{tables}{circle}"), THINGS).await;
        let rows = "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(t AS TEXT), '-') FROM things ORDER BY id";
        let before = lines(&world.shop, rows).await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, rows).await, ["9|-"], "postgres: {postgres}");
        let undone = world.undo(root(1), entail::undo::OnConflict::Fail, false).await;
        assert_eq!((undone.left(), lines(&world.shop, rows).await), (0, before), "postgres: {postgres}");
    }
}

/// An answer to a comment goes with it, whoever wrote it: rows of one table by two references, one of which a native key backs.
#[tokio::test(flavor = "multi_thread")]
async fn h64_rows_of_one_table_that_go_by_two_references_go_one_behind_the_other() {
    let own = "  - { name: thing_thing, child: shop.thing, columns: t, parent: shop.thing, on_delete: cascade }\n";
    let [head, references] = THINGS.split("references:\n").collect::<Vec<_>>().try_into().expect("two parts");
    let head = head.replace("table: things, key: id }", "table: things, key: id, topic: shop.things }");
    for rules in [
        format!("{head}references:\n{own}{references}"),
        format!("{head}references:\n{}", references.replace("limits:", &format!("{own}limits:"))),
    ] {
        for (postgres, action) in [(false, ""), (true, ""), (false, "ON DELETE RESTRICT"), (true, "ON DELETE RESTRICT")] {
            let tables = format!(
                "CREATE TABLE things (id bigint PRIMARY KEY, customer bigint, t bigint REFERENCES things (id) {action});
                CREATE INDEX things_customer ON things (customer); CREATE INDEX tt ON things (t);
                CREATE TABLE others (id bigint PRIMARY KEY, customer bigint); CREATE INDEX others_customer ON others (customer);
                INSERT INTO things VALUES (1, 1, NULL), (2, 2, 1), (3, 1, 2), (4, 2, 3), (9, 2, NULL), (8, 1, 9), (7, 2, 8);"
            );
            let mut world = World::new(postgres, CUSTOMERS, &tables, &rules).await;
            let rows = "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(t AS TEXT), '-') FROM things ORDER BY id";
            let before = lines(&world.shop, rows).await;
            world.gone(1).await;
            assert_eq!(lines(&world.shop, rows).await, ["9|-"], "postgres: {postgres} {action}");
            let undone = world.undo(root(1), entail::undo::OnConflict::Fail, false).await;
            assert_eq!((undone.left(), lines(&world.shop, rows).await), (0, before), "postgres: {postgres} {action}");
        }
    }
}
