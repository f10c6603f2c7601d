//! Tables that are altered while the worker runs, as migrations of the services do.

use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, PARTITIONS, Shop, Worker};

/// Customers 1 to 20, each with an order, of whom 1 to 3 are gone and worked; then this is done to the shop.
async fn altered(change: &str) -> (Shop, Worker) {
    let shop = Shop::open().await;
    shop.load(20, 3, 0).await;
    let worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    shop.execute("shop", change).await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    (shop, worker)
}

async fn undone(shop: &Shop, worker: &mut Worker) {
    shop.until_caught_up().await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders").await, 16);
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    let (code, said, errors) = shop.command(&["undo", "--root", "crm.customer:5"]).await;
    assert_eq!(code, 0, "its root is still missing: {said}{errors}");
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders").await, 17, "{said}{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h74_a_column_that_comes_while_it_runs_is_archived_and_comes_back() {
    let (shop, mut worker) =
        altered("ALTER TABLE orders ADD note text DEFAULT 'none'; UPDATE orders SET note = 'kept ' || customer_id").await;
    undone(&shop, &mut worker).await;
    assert_eq!(shop.rows("shop", "SELECT note FROM orders WHERE customer_id = 5").await, [["kept 5"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h64_rows_below_a_native_key_that_comes_while_it_runs_are_archived_and_come_back() {
    let change = "CREATE TABLE tags (id bigint PRIMARY KEY, order_id bigint REFERENCES orders (id) ON DELETE CASCADE);
        INSERT INTO tags SELECT id, id FROM orders";
    let (shop, mut worker) = altered(change).await;
    undone(&shop, &mut worker).await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM tags").await, 17, "what the native key took along is lost");
}

/// One migration alters two tables: what the one only gained does not hide that another column of the other took an old name.
#[tokio::test(flavor = "multi_thread")]
async fn h74_a_column_that_takes_an_old_name_is_not_believed_when_the_rules_are_bound_anew() {
    let shop = Shop::open().await;
    shop.load(20, 3, 0).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.execute("shipping", "ALTER TABLE parcels ADD note text").await;
    let swap = "ALTER TABLE orders RENAME customer_id TO was; ALTER TABLE orders ADD customer_id bigint; UPDATE orders SET customer_id = 5";
    shop.execute("shop", swap).await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    wait_for("a latch", DEADLINE, async || {
        let (_, listed, _) = shop.command(&["release"]).await;
        listed.contains("reference:order_customer: schema-drift").then_some(())
    })
    .await;
    shop.until_caught_up().await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders").await, 17, "WRONG DELETION: what stands there are no customers");
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
}

/// Rows that could not be told apart, and so not be archived.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_table_without_a_key_that_comes_below_while_it_runs_shuts_the_reference() {
    let change = "CREATE TABLE loose (order_id bigint REFERENCES orders (id) ON DELETE CASCADE); INSERT INTO loose SELECT id FROM orders";
    let (shop, mut worker) = altered(change).await;
    wait_for("a latch", DEADLINE, async || {
        let (_, listed, _) = shop.command(&["release"]).await;
        (listed.contains("schema-drift") && listed.contains("no primary key")).then_some(())
    })
    .await;
    shop.until_caught_up().await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM orders").await, 17);
    assert_eq!(shop.count("shop", "SELECT count(*) FROM loose").await, 17, "WRONG DELETION: they were not archived");
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
}

/// A connector was made anew, and its topics have other names now. What was parked is of the old one, which nobody reads any more.
#[tokio::test(flavor = "multi_thread")]
async fn h82_what_was_parked_goes_on_under_another_name_of_its_topic() {
    let mut shop = Shop::open().await;
    shop.load(20, 3, 0).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    let (code, _, errors) = shop.command(&["pause", "order_customer"]).await;
    assert_eq!(code, 0, "{errors}");
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    shop.until_caught_up().await;
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    let parked = "SELECT count(*) FROM entail_pending";
    assert_eq!((shop.count("shop", "SELECT count(*) FROM orders").await, shop.count("shop", parked).await), (17, 1));
    shop.topic = shop.bed.name("crm2.public.customers");
    shop.bed.create_topic(&shop.topic, PARTITIONS, &[]).await;
    let shop = shop.extra("");
    let mut next = shop.run("next", &[]);
    next.until_owner().await;
    let (code, _, errors) = shop.command(&["resume", "order_customer"]).await;
    assert_eq!(code, 0, "{errors}");
    wait_for("what was parked to go", DEADLINE, async || {
        (shop.count("shop", "SELECT count(*) FROM orders").await == 16 && shop.count("shop", parked).await == 0).then_some(())
    })
    .await;
    next.signal("TERM");
    assert_eq!(next.exit(DEADLINE).await, 0, "{}", next.tail());
}

/// The kill switch is wanted most when something is wrong already.
#[tokio::test(flavor = "multi_thread")]
async fn h82_a_pause_reaches_the_databases_that_answer() {
    let shop = Shop::open().await;
    let (code, _, said) = shop.command(&["migrate"]).await;
    assert_eq!(code, 0, "{said}");
    let nowhere = shop.urls["shipping"]
        .rsplit_once('/')
        .map(|(server, database)| format!("{}:1/{database}", server.rsplit_once(':').expect("a port").0))
        .expect("a path");
    std::fs::write(shop.config(), shop.settings().replace(&shop.urls["shipping"], &nowhere)).expect("written");
    let paused = "SELECT count(*) FROM entail_latches";
    // Of this one nothing is kept in the database that is down.
    let (code, said, errors) = shop.command(&["pause", "order_customer", "--wait", "1s"]).await;
    assert!(code == 0 && said.contains("paused reference:order_customer in shop"), "{said}{errors}");
    assert_eq!(shop.count("shop", paused).await, 1);
    let (code, said, errors) = shop.command(&["pause", "--wait", "1s"]).await;
    assert!(code == 4 && said.contains("paused everything in shop") && errors.contains("shipping"), "{code}: {said}{errors}");
    assert_eq!(shop.count("shop", paused).await, 2);
    let (code, said, errors) = shop.command(&["status", "--wait", "1s"]).await;
    assert!(code == 4 && said.contains("entail resume") && errors.contains("shipping"), "{code}: {said}{errors}");
    let (code, said, errors) = shop.command(&["pause", "parcel_order", "--wait", "1s"]).await;
    assert!(code == 4 && said.is_empty() && errors.contains("shipping"), "{code}: {said}{errors}");
}

/// An heir has neither the keys nor the rules of its table, and its rows would go with it.
#[tokio::test(flavor = "multi_thread")]
async fn h64_an_heir_that_comes_while_it_runs_shuts_what_leads_to_its_table() {
    let shop = Shop::open().await;
    shop.load(20, 3, 0).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.execute("shipping", "CREATE TABLE old_parcels () INHERITS (parcels); INSERT INTO old_parcels SELECT * FROM parcels").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    wait_for("a latch", DEADLINE, async || {
        let (_, listed, _) = shop.command(&["release"]).await;
        let is_shut = |reference: &str| listed.contains(&format!("reference:{reference}: schema-drift"));
        (is_shut("order_customer") && is_shut("parcel_order") && listed.contains("inherit from `parcels`")).then_some(())
    })
    .await;
    shop.until_caught_up().await;
    let left = (shop.count("shop", "SELECT count(*) FROM orders").await, shop.count("shipping", "SELECT count(*) FROM parcels").await);
    assert_eq!(left, (17, 68), "WRONG DELETION: what is in `old_parcels` is no row of `parcels`");
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
}

const FANS: &str = "CREATE TABLE fans (id bigint PRIMARY KEY, customer bigint REFERENCES customer_copy ON DELETE CASCADE);
    INSERT INTO fans SELECT id, id FROM customer_copy";

/// Nobody would have looked at the rows that the database takes along with those of a copy.
#[tokio::test(flavor = "multi_thread")]
async fn h64_no_worker_starts_while_rows_would_go_with_those_of_a_copy() {
    let shop = Shop::open().await;
    shop.execute("shop", FANS).await;
    let (code, _, said) = shop.command(&["run", "--migrate", "--until-end"]).await;
    assert!(code == 2 && said.contains("changes rows of `public.fans` with those of the copy"), "{code}: {said}");
}

/// The same key comes while a worker runs: it ends, and says why. Once the key is gone, the work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn h64_a_key_that_comes_to_a_copy_while_it_runs_takes_nothing_along() {
    let shop = Shop::open().await;
    shop.load(20, 3, 1).await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    shop.execute("shop", FANS).await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    assert_ne!(worker.exit(DEADLINE).await, 0, "it cannot go on");
    let said = worker.tail();
    assert!(said.contains("cannot be bound to public.customer_copy") && said.contains("changes rows of `public.fans`"), "{said}");
    let count = async || (shop.count("shop", "SELECT count(*) FROM fans").await, shop.count("shop", "SELECT count(*) FROM orders").await);
    assert_eq!(count().await, (17, 17), "WRONG DELETION: no fan was looked at, and nothing is done by halves");
    shop.execute("shop", "ALTER TABLE fans DROP CONSTRAINT fans_customer_fkey").await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    assert_eq!(count().await, (17, 16));
    assert_eq!(shop.count("shop", "SELECT count(*) FROM customer_copy WHERE id = 5").await, 0);
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
}

/// Tables that the rules do not name: one gets another type, another comes before it in the order of their keys.
#[tokio::test(flavor = "multi_thread")]
async fn h74_a_native_key_that_gets_another_type_shuts_nothing() {
    let shop = Shop::open().await;
    let tags = "CREATE TABLE tags (id bigint PRIMARY KEY, order_id integer CONSTRAINT z REFERENCES orders (id) ON DELETE CASCADE)";
    shop.execute("shop", tags).await;
    shop.load(20, 3, 0).await;
    shop.execute("shop", "INSERT INTO tags SELECT id, id FROM orders").await;
    let mut worker = shop.run("worker", &[]);
    shop.until_caught_up().await;
    let change = "ALTER TABLE tags ALTER order_id TYPE bigint;
        CREATE TABLE audits (id bigint PRIMARY KEY, order_id bigint CONSTRAINT a REFERENCES orders (id) ON DELETE CASCADE);
        INSERT INTO audits SELECT id, id FROM orders";
    shop.execute("shop", change).await;
    shop.execute("crm", "DELETE FROM customers WHERE id = 5").await;
    shop.bed.produce(shop.delete(5, 80_000_005).into()).await;
    undone(&shop, &mut worker).await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM tags").await, 17);
    assert_eq!(shop.count("shop", "SELECT count(*) FROM audits").await, 17);
    assert_eq!(shop.count("shop", "SELECT count(*) FROM entail_latches").await, 0);
    assert!(!worker.log().contains("latched"), "{}", worker.tail());
}
