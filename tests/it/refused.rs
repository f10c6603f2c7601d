//! Rows that a target's own database does not let go: the delete is a dead letter, what it entails stays owed, and the others go.

use std::collections::BTreeSet;

use entail::change;
use entail::engine::{Authority, Batch, Refused};

use crate::odd_tables::RULES;
use crate::support::engine::Bench;
use crate::support::kafka::Record;
use crate::support::members::*;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop};
use crate::support::world::{CUSTOMERS, World, delete, epochs, lines, sql};

/// A trigger's function with this body.
fn function(body: &str) -> String {
    format!("CREATE FUNCTION protect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN OLD; END $$;")
}

const BEFORE: &str = "CREATE TRIGGER protect BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION protect()";
const LATER: &str =
    "CREATE CONSTRAINT TRIGGER protect AFTER DELETE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION protect()";
const MEND: &str = "DROP TRIGGER protect ON orders";

/// Order 5 is kept at the COMMIT itself: entail has what is deferred checked before, and this puts itself off once more.
fn at_commit(raise: &str) -> String {
    format!(
        "CREATE TABLE naps (id bigint);
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {raise}; RETURN NEW; END $$;
         CREATE CONSTRAINT TRIGGER keep AFTER INSERT ON naps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION keep();
         {}
         {LATER};",
        function("IF OLD.id = 5 THEN SET CONSTRAINTS keep DEFERRED; INSERT INTO naps VALUES (1); END IF")
    )
}

/// Twenty customers, each with an order and two parcels; the second of three that go is customer 5.
async fn shop(protection: &str) -> Shop {
    let shop = Shop::open().await.extra("");
    shop.load(20, 3, 0).await;
    shop.execute("shop", protection).await;
    shop.execute("crm", "DELETE FROM customers WHERE id BETWEEN 4 AND 6").await;
    shop.bed.produce((4..=6).flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
    shop
}

async fn run(shop: &Shop, name: &str) {
    let mut worker = shop.run(name, &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    worker.accounts();
}

async fn orders(shop: &Shop) -> Vec<String> {
    shop.rows("shop", "SELECT CAST(id AS text) FROM orders WHERE id < 8 ORDER BY id").await.concat()
}

async fn parcels(shop: &Shop, order: i64) -> i64 {
    shop.count("shipping", &format!("SELECT count(*) FROM parcels WHERE order_id = {order}")).await
}

/// What is owed, in both databases: key and reason.
async fn owed(shop: &Shop) -> [Vec<Vec<String>>; 2] {
    let sql = "SELECT root_key, reason FROM entail_pending ORDER BY 1";
    [shop.rows("shop", sql).await, shop.rows("shipping", sql).await]
}

fn refused(key: &str) -> Vec<Vec<String>> {
    vec![vec![format!("[\"{key}\"]"), "refused".to_owned()]]
}

#[tokio::test(flavor = "multi_thread")]
async fn h83_a_delete_that_a_trigger_refuses_stays_owed_and_the_others_go() {
    let raise = |how: &str| function(&format!("IF OLD.id = 5 THEN RAISE EXCEPTION 'order % has a secret', OLD.id {how}; END IF"));
    let protections = [
        (format!("{} {BEFORE}", raise("")), "SQLSTATE P0001, PL/pgSQL function protect() line"),
        (format!("{} {BEFORE}", raise("USING ERRCODE = 'SHOP1'")), "SQLSTATE SHOP1, PL/pgSQL function protect() line"),
        (format!("{} {BEFORE}", raise("USING ERRCODE = 'check_violation'")), "SQLSTATE 23514"),
        (format!("{} {LATER}", raise("")), "SQLSTATE P0001"),
        (format!("{} {BEFORE}", function("UPDATE orders SET customer_id = customer_id WHERE id = 5 AND id = OLD.id")), "SQLSTATE 27000"),
    ];
    for (protection, reason) in protections {
        let shop = shop(&protection).await;
        run(&shop, "refused").await;
        assert_eq!(orders(&shop).await, ["5", "7"], "{reason}");
        assert_eq!(parcels(&shop, 5).await, 2, "whole, or not at all: {reason}");
        let letters = shop.bed.read_all(&[&shop.dead_letters]).await;
        let keys: BTreeSet<_> = letters.iter().map(|letter| letter.key.clone()).collect();
        assert_eq!(keys.len(), 1, "{letters:?}");
        for letter in &letters {
            let told = letter.header("entail.reason").unwrap_or_default();
            assert!(told.contains(reason) && !told.contains("secret"), "{told}");
        }
        assert_eq!(owed(&shop).await, [refused("5"), refused("5")]);
        let (code, status, _) = shop.command(&["status"]).await;
        assert!(code == 1 && status.contains("refused") && status.contains(reason) && !status.contains("secret"), "{code}: {status}");
        // Its copy could go.
        assert_eq!(shop.count("shop", "SELECT count(*) FROM customer_copy WHERE id = 5").await, 0);
        let (code, out, said) = shop.command(&["replay", "--from", "beginning"]).await;
        assert!(code != 2 && !said.contains("are pending"), "{code}: {out}{said}");
        assert_eq!(owed(&shop).await, [refused("5"), refused("5")], "a rehearsal leaves it as it was");
        shop.execute("shop", MEND).await;
        run(&shop, "mended").await;
        assert_eq!((orders(&shop).await, parcels(&shop, 5).await), (vec!["7".to_owned()], 0), "{reason}");
        assert!(owed(&shop).await.concat().is_empty());
        assert_eq!(shop.count("shipping", "SELECT count(*) FROM entail_archive WHERE undone_at IS NULL").await, 12, "each once");
    }
}

/// The leaves' database has committed when the other one refuses. Then the order goes after all; or it is another customer's meanwhile, or its own is
/// there again, and its parcels must come back.
#[tokio::test(flavor = "multi_thread")]
async fn h47_what_was_taken_before_a_refusal_at_commit_is_done_or_put_back_once_it_is_let_go() {
    let given = ("shop", "UPDATE orders SET customer_id = 7 WHERE id = 5");
    let back = ("crm", "INSERT INTO customers VALUES (5, 'again')");
    let turns = [("", None), ("", Some(given)), ("", Some(back)), ("USING ERRCODE = 'check_violation'", Some(given))];
    for (raise, turn) in turns {
        let shop = shop(&at_commit(&format!("RAISE EXCEPTION 'not this one' {raise}"))).await;
        run(&shop, "refused").await;
        assert_eq!(orders(&shop).await, ["5", "7"], "{raise}");
        assert_eq!(parcels(&shop, 5).await, 0, "torn: {raise}");
        assert_eq!(owed(&shop).await, [refused("5"), refused("5")], "{raise}");
        shop.execute("shop", MEND).await;
        if let Some((service, statement)) = turn {
            shop.execute(service, statement).await;
            // What is put back may be refused, too.
            let refuse = function(&format!("RAISE EXCEPTION 'maintenance' {raise}"));
            let insert = "CREATE TRIGGER protect BEFORE INSERT ON parcels FOR EACH ROW EXECUTE FUNCTION protect()";
            shop.execute("shipping", &format!("{refuse} {insert}")).await;
            run(&shop, "not-yet").await;
            assert_eq!((parcels(&shop, 5).await, owed(&shop).await), (0, [refused("5"), refused("5")]), "{turn:?} {raise}");
            shop.execute("shipping", "DROP TRIGGER protect ON parcels").await;
        }
        run(&shop, "mended").await;
        let left = if turn.is_some() { (vec!["5".to_owned(), "7".to_owned()], 2) } else { (vec!["7".to_owned()], 0) };
        assert_eq!((orders(&shop).await, parcels(&shop, 5).await), left, "WRONG DELETION: {turn:?}");
        assert!(owed(&shop).await.concat().is_empty());
    }
}

/// The same, before the ledger holds it as pending: at the redo of a record its customer lives again.
#[tokio::test(flavor = "multi_thread")]
async fn h47_what_was_taken_and_may_not_come_back_yet_stays_owed_though_its_parent_lives() {
    let shop = shop(&at_commit("RAISE EXCEPTION 'later' USING ERRCODE = '40001'")).await;
    let mut worker = shop.run("torn", &[]);
    wait_for("the parcels to be gone", DEADLINE, async || (parcels(&shop, 5).await == 0).then_some(())).await;
    let insert = "CREATE TRIGGER protect BEFORE INSERT ON parcels FOR EACH ROW EXECUTE FUNCTION protect()";
    shop.execute("shipping", &format!("{} {insert}", function("RAISE EXCEPTION 'maintenance'"))).await;
    shop.execute("crm", "INSERT INTO customers VALUES (5, 'again')").await;
    shop.execute("shop", MEND).await;
    shop.until_caught_up().await;
    assert_eq!((orders(&shop).await, parcels(&shop, 5).await), (vec!["5".to_owned(), "7".to_owned()], 0));
    assert_eq!(owed(&shop).await, [refused("5"), refused("5")]);
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    shop.execute("shipping", "DROP TRIGGER protect ON parcels").await;
    run(&shop, "mended").await;
    assert_eq!(parcels(&shop, 5).await, 2, "WRONG DELETION");
    assert!(owed(&shop).await.concat().is_empty());
}

/// A copy that cannot go as long as what its root waits for is there.
#[tokio::test(flavor = "multi_thread")]
async fn h83_a_copy_that_a_database_refuses_leaves_its_root_owed() {
    let shop = Shop::open().await.extra("");
    shop.load(20, 3, 0).await;
    run(&shop, "first").await;
    shop.execute("shop", "ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customer_copy; CREATE INDEX ON orders (customer_id)")
        .await;
    let (code, _, said) = shop.command(&["pause", "order_customer", "--reason", "look"]).await;
    assert_eq!(code, 0, "{said}");
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    let copy = "SELECT count(*) FROM customer_copy WHERE id = 5";
    run(&shop, "paused").await;
    assert_eq!((orders(&shop).await.len(), shop.count("shop", copy).await), (4, 1));
    assert_eq!(owed(&shop).await, [refused("5"), refused("5")]);
    let (code, _, said) = shop.command(&["resume", "order_customer", "--reason", "looked"]).await;
    assert_eq!(code, 0, "{said}");
    run(&shop, "resumed").await;
    assert!(owed(&shop).await.concat().is_empty());
    assert_eq!((orders(&shop).await, parcels(&shop, 5).await), (vec!["4".to_owned(), "6".to_owned(), "7".to_owned()], 0));
    let (code, out, said) = shop.command(&["replay", "--from", "beginning", "--apply"]).await;
    assert_eq!(code, 0, "{out}{said}");
    assert_eq!(shop.count("shop", copy).await, 0, "{out}");
}

/// What is parked for another reason is refused when its time comes, and a release can be rehearsed beside it.
#[tokio::test(flavor = "multi_thread")]
async fn h83_a_parked_root_that_a_database_refuses_is_told_as_refused() {
    let shop = shop("SELECT 1").await;
    run(&shop, "first").await;
    shop.execute("shop", &format!("{} {BEFORE}", function("IF OLD.id = 8 THEN RAISE EXCEPTION 'no'; END IF"))).await;
    let (code, _, said) = shop.command(&["pause", "order_customer", "--reason", "look"]).await;
    assert_eq!(code, 0, "{said}");
    shop.execute("crm", "DELETE FROM customers WHERE id IN (8, 9)").await;
    shop.bed.produce((8..=9).flat_map(|id| shop.delete(id, 90_000_000 + id)).collect()).await;
    run(&shop, "paused").await;
    let reasons = async || owed(&shop).await[0].iter().map(|row| row[1].clone()).collect::<Vec<_>>();
    assert_eq!(reasons().await, ["latched", "latched"]);
    let (code, _, said) = shop.command(&["resume", "order_customer", "--reason", "looked"]).await;
    assert_eq!(code, 0, "{said}");
    run(&shop, "resumed").await;
    assert_eq!(owed(&shop).await, [refused("8"), refused("8")]);
    assert!(shop.bed.read_all(&[&shop.dead_letters]).await.is_empty(), "no record of now is to blame");
    let truncate = shop.delete(0, 95_000_000)[0].value.clone().map(|value| String::from_utf8(value).expect("text"));
    let truncate = truncate.expect("a value").replace("\"op\":\"d\"", "\"op\":\"t\"");
    shop.bed.produce(vec![Record::new(&shop.topic, "{\"id\":0}", Some(&truncate))]).await;
    let mut worker = shop.run("truncated", &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 3, "{}", worker.tail());
    shop.execute("crm", "DELETE FROM customers WHERE id = 10").await;
    shop.bed.produce(shop.delete(10, 96_000_000).into()).await;
    let mut worker = shop.run("latched", &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    let (code, shown, said) = shop.command(&["release", "reference:order_customer", "--reason", "looked", "--format", "json"]).await;
    assert!(code == 0 && shown.contains("refused"), "{code}: {shown}{said}");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        (&shown["would"]["roots"], &shown["would"]["references"]["order_customer"]),
        (&2.into(), &1.into()),
        "what is refused is let go by the limits alone"
    );
    shop.execute("shop", MEND).await;
    run(&shop, "released").await;
    assert_eq!((owed(&shop).await.concat().len(), parcels(&shop, 8).await, parcels(&shop, 10).await), (0, 0, 0));
}

/// All are refused: each pass looks into some of them.
#[tokio::test(flavor = "multi_thread")]
async fn h84_many_refused_roots_do_not_hold_up_what_is_behind_them() {
    let shop = Shop::open().await;
    let letters = format!("dead_letters: {{ topic: {}, limit: {{ count: 1000, per: 1m }} }}\n", shop.dead_letters);
    let shop = shop.extra(&letters);
    shop.load(200, 0, 0).await;
    let protection = function("IF OLD.id <= 150 THEN RAISE EXCEPTION 'no'; END IF");
    shop.execute("shop", &format!("{protection} {BEFORE}")).await;
    shop.execute("crm", "DELETE FROM customers WHERE id <= 150").await;
    shop.bed.produce((1..=150).flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
    run(&shop, "refused").await;
    assert_eq!(owed(&shop).await.map(|rows| rows.len()), [150, 150]);
    shop.execute("crm", "DELETE FROM customers WHERE id = 160").await;
    shop.bed.produce(shop.delete(160, 90_000_000).into()).await;
    let mut worker = shop.run("again", &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    let tried = worker.log().matches("a pending root is refused by a database").count();
    assert!((1..=64).contains(&tried), "{tried} of 150");
    assert_eq!((owed(&shop).await.map(|rows| rows.len()), parcels(&shop, 160).await), ([150, 150], 0));
    shop.execute("shop", MEND).await;
    run(&shop, "mended").await;
    assert_eq!((owed(&shop).await.concat().len(), shop.count("shop", "SELECT count(*) FROM orders").await), (0, 49));
}

#[tokio::test]
async fn h83_on_sqlite_what_a_trigger_raises_is_told_as_a_refusal_without_its_text() {
    let tables = "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint); CREATE INDEX oc ON orders (customer);
        INSERT INTO orders VALUES (10, 1);
        CREATE TRIGGER protect BEFORE DELETE ON orders BEGIN SELECT RAISE(ABORT, 'a secret'); END;";
    let world = World::new(false, CUSTOMERS, tables, RULES).await;
    sql(&world.crm, "DELETE FROM customers WHERE id = 1").await;
    let batch = world.batch(("crm.customers", 0), 1, Some(&delete("crm", "customers", 1)));
    let epochs = epochs(&world).await;
    let error = world.engine.work(&batch, Authority::Owner(&epochs)).await.expect_err("a trigger refuses");
    assert_eq!(error.disposition(), entail::error::Disposition::DeadLetter);
    assert!(error.to_string().ends_with("in a trigger (code 1811)"), "{error}");
    assert_eq!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM orders").await, ["10"]);
}

const PROTECT: &str = "CREATE TRIGGER protect BEFORE DELETE ON visits WHEN OLD.id = 1 BEGIN SELECT RAISE(ABORT, 'no'); END";

/// What a worker makes of a record that a database refuses.
async fn refuse(bench: &Bench, record: &change::Record) {
    let mut batch = bench.batch(std::slice::from_ref(record));
    batch.refused = Some(Refused { why: "a trigger".to_owned(), with_copies: false });
    bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
}

/// Member 9 had the code of member 1, whose visit may not go: neither holds the other back, and who lives is owed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn h83_what_is_refused_is_not_worked_beside_another_row_that_had_its_code() {
    let cascade = "on_delete: cascade";
    let mut bench = seeded(&[visit(cascade), badge(cascade)].concat()).await;
    bench.execute("shop", &format!("INSERT INTO visits VALUES (1, 1), (9, 9); INSERT INTO badges VALUES (7, 70); {PROTECT}")).await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    assert!(bench.work(std::slice::from_ref(&gone)).await.is_err(), "a trigger refuses");
    refuse(&bench, &gone).await;
    let owed = ["[\"code\"]|[\"70\"]|refused", "[\"id\"]|[\"1\"]|refused"];
    assert_eq!(bench.lines(PENDING).await, owed);
    let living = member(&mut bench, "d", (8, 80), 11, &[]);
    refuse(&bench, &living).await;
    assert_eq!(bench.lines(PENDING).await, owed, "member 8 lives");
    let next = member(&mut bench, "d", (9, 70), 20, &[]);
    bench.work(&[next]).await.expect("nothing refuses this one");
    assert_eq!((bench.lines(VISITS).await, bench.lines(BADGES).await), (vec!["1|1".to_owned()], vec![]));
    assert_eq!(bench.lines(PENDING).await, owed[1..]);
    bench.execute("shop", "DROP TRIGGER protect").await;
    retry_pending(&bench).await;
    assert!(bench.lines(VISITS).await.is_empty() && bench.lines(PENDING).await.is_empty());
}

/// Where keys may change it waits for a new proof each time, and is told as refused all the while.
#[tokio::test(flavor = "multi_thread")]
async fn h83_what_is_refused_is_told_so_while_it_waits_for_its_proof() {
    let mut bench = seeded(&visit(FOLLOW)).await;
    bench.execute("shop", &format!("INSERT INTO visits VALUES (1, 1); {PROTECT}")).await;
    let gone = member(&mut bench, "d", (1, 70), 10, &[]);
    let waiting = bench.work(std::slice::from_ref(&gone)).await.expect("works").waiting;
    assert!(bench.prove(waiting).await.is_err(), "a trigger refuses");
    refuse(&bench, &gone).await;
    let told = ["[\"id\"]|[\"1\"]|refused"];
    assert_eq!(bench.lines(PENDING).await, told);
    for is_shut in [false, true] {
        let batch = Batch { retries: pending(&bench).await, ..Batch::default() };
        let report = bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
        assert_eq!(bench.lines(PENDING).await, told);
        assert!(bench.prove(report.waiting).await.is_err(), "a trigger refuses");
        if is_shut {
            latch(&bench, "visit_member").await;
            retry_pending(&bench).await;
            let detail = bench.lines("SELECT reason, detail FROM entail_pending").await;
            assert_eq!(detail, ["latched|reference `visit_member`; refused before: a trigger"]);
        }
    }
    bench.execute("shop", "DELETE FROM entail_latches; DROP TRIGGER protect").await;
    retry_pending(&bench).await;
    assert!(bench.lines(VISITS).await.is_empty() && bench.lines(PENDING).await.is_empty());
}

/// It may be refused each time, so it shuts nothing that others need, and no release lets it go.
#[tokio::test(flavor = "multi_thread")]
async fn h83_what_is_refused_shuts_no_reference_by_a_limit() {
    for (reason, is_shut) in [("refused", false), ("latched", true)] {
        let rules = format!("{}limits: {{ rows_per_event: 1, rows: {{ count: 100, per: 1h }} }}\n", members(&visit("on_delete: cascade")));
        let mut bench = Bench::new(&rules, Vec::new()).await;
        bench.execute("shop", "INSERT INTO visits VALUES (1, 1), (2, 1)").await;
        let gone = member(&mut bench, "d", (1, 70), 10, &[]);
        refuse(&bench, &gone).await;
        bench.execute("shop", &format!("UPDATE entail_pending SET reason = '{reason}', detail = 'a trigger'")).await;
        let batch = Batch { retries: pending(&bench).await, ..Batch::default() };
        let report = bench.engine.work(&batch, Authority::Owner(&bench.epochs)).await.expect("works");
        assert_eq!((report.latched.is_empty(), bench.lines(VISITS).await.len()), (!is_shut, 2), "{reason}");
        let detail = bench.lines("SELECT reason, detail FROM entail_pending").await.concat();
        assert!(detail.starts_with("rows-per-event|") && detail.contains("refused before: a trigger") != is_shut, "{detail}");
    }
}
