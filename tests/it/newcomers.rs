//! References that are added to a group that runs: in shadow until a person promotes them (H78).

use entail::ledger;
use serde_json::Value;

use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop};
use crate::support::world::{CUSTOMERS, THING_TABLES, THINGS, World, lines, sql};

const NOTES: &str = "
  - { name: note_customer, child: shop.note, columns: customer_id, parent: crm.customer, on_delete: cascade }
replicas:";

/// The rules with a reference more.
fn more(shop: &Shop) -> String {
    let entity = "  - { name: shop.note, table: notes, key: id }\nreferences:";
    shop.rules().replace("references:", entity).replace("\nreplicas:", NOTES)
}

fn rules(shop: &Shop, text: &str) {
    std::fs::write(shop.dir.path().join("rules.yaml"), text).expect("the rules are written");
}

async fn goes(shop: &Shop, ids: std::ops::RangeInclusive<i64>) {
    shop.execute("crm", &format!("DELETE FROM customers WHERE id BETWEEN {} AND {}", ids.start(), ids.end())).await;
    shop.bed.produce(ids.flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
}

/// Customers with orders, and customers with notes.
async fn left(shop: &Shop) -> (Vec<i64>, Vec<i64>) {
    let of = async |table: &str| {
        let rows = shop.rows("shop", &format!("SELECT CAST(customer_id AS text) FROM {table} WHERE customer_id > 0")).await;
        let mut customers: Vec<i64> = rows.iter().flatten().map(|text| text.parse().expect("a number")).collect();
        customers.sort_unstable();
        customers
    };
    (of("orders").await, of("notes").await)
}

fn numbers(range: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    range.collect()
}

async fn run_to_end(shop: &Shop, name: &str) -> Value {
    let mut worker = shop.run(name, &["--until-end"]);
    assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    worker.accounts()
}

async fn shop() -> Shop {
    let shop = Shop::open().await;
    shop.load(20, 0, 0).await;
    shop.execute(
        "shop",
        "CREATE TABLE notes (id bigint PRIMARY KEY, customer_id bigint); CREATE INDEX ON notes (customer_id);
        INSERT INTO notes SELECT i, i FROM generate_series(1, 20) i",
    )
    .await;
    run_to_end(&shop, "before").await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_a_new_reference_writes_nothing_before_it_is_promoted_and_nothing_of_before_after_it() {
    let shop = shop().await;
    goes(&shop, 1..=3).await;
    run_to_end(&shop, "old").await;
    rules(&shop, &more(&shop));
    let mut worker = shop.run("new", &[]);
    worker.until_owner().await;
    goes(&shop, 4..=6).await;
    shop.until_caught_up().await;
    assert_eq!(left(&shop).await, (numbers(7..=20), numbers(1..=20)));
    let (code, status, _) = shop.command(&["status"]).await;
    assert!(code == 0 && status.contains("entail promote note_customer"), "{status}");
    let (_, listed, _) = shop.command(&["promote", "--format", "json"]).await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed["new"][0]["reference"], &listed["new"][0]["rows_in_shadow"]), (&Value::from("note_customer"), &Value::from(3)));
    let (code, _, errors) = shop.command(&["promote", "order_customer"]).await;
    assert!(code == 2 && errors.contains("is not new"), "{errors}");

    let (code, told, errors) = shop.command(&["promote", "note_customer", "--reason", "looked at"]).await;
    assert_eq!(code, 0, "{errors}");
    assert!(told.contains("promoted note_customer"), "{told}");
    worker.until_log("references were promoted").await;
    goes(&shop, 7..=9).await;
    let notes = [numbers(1..=6), numbers(10..=20)].concat();
    wait_for("the notes of 7 to 9 to go", DEADLINE, async || (left(&shop).await == (numbers(10..=20), notes.clone())).then_some(())).await;
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0);
    // It holds over restarts, and nothing of before is done again.
    goes(&shop, 10..=10).await;
    run_to_end(&shop, "after").await;
    assert_eq!(left(&shop).await, (numbers(11..=20), [numbers(1..=6), numbers(11..=20)].concat()));
    let decided = shop.rows("shop", "SELECT scope || ' ' || decision || ' ' || reason FROM entail_decisions").await;
    assert_eq!(decided, [["reference:note_customer promote looked at"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_a_reference_that_was_away_or_joins_something_else_is_new_again() {
    let shop = shop().await;
    rules(&shop, &more(&shop));
    run_to_end(&shop, "new").await;
    assert_eq!(shop.command(&["promote", "note_customer"]).await.0, 0);
    // Its actions may change: that is a person's word.
    rules(
        &shop,
        &more(&shop)
            .replace("parent: crm.customer, on_delete: cascade }\nreplicas", "parent: crm.customer, on_delete: set_null }\nreplicas"),
    );
    goes(&shop, 1..=1).await;
    run_to_end(&shop, "set_null").await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM notes WHERE customer_id IS NULL").await, 1);
    // In an absence it has missed something.
    rules(&shop, &shop.rules());
    goes(&shop, 2..=2).await;
    run_to_end(&shop, "away").await;
    rules(&shop, &more(&shop));
    goes(&shop, 3..=3).await;
    run_to_end(&shop, "back").await;
    assert_eq!(left(&shop).await, (numbers(4..=20), numbers(2..=20)));
    assert_eq!(shop.command(&["promote", "note_customer"]).await.0, 0);
    // Another condition makes it another reference.
    let narrow = "parent: crm.customer, on_delete: cascade, when: { id: [4, 5] } }\nreplicas";
    rules(&shop, &more(&shop).replace("parent: crm.customer, on_delete: cascade }\nreplicas", narrow));
    goes(&shop, 4..=4).await;
    run_to_end(&shop, "when").await;
    assert_eq!(left(&shop).await, (numbers(5..=20), numbers(2..=20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_the_settings_may_say_that_new_references_count_as_written() {
    let shop = shop().await.extra("new_references: as_written\n");
    rules(&shop, &more(&shop));
    goes(&shop, 1..=2).await;
    run_to_end(&shop, "new").await;
    assert_eq!(left(&shop).await, (numbers(3..=20), numbers(3..=20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_a_topic_that_only_new_references_follow_is_read_from_its_end() {
    let shop = shop().await;
    let shelves = shop.bed.name("crm.public.shelves");
    shop.bed.create_topic(&shelves, 1, &[]).await;
    shop.execute("crm", "CREATE TABLE shelves (id bigint PRIMARY KEY); INSERT INTO shelves VALUES (4)").await;
    let gone = |id: i64| {
        let source = "{\"connector\":\"postgresql\",\"name\":\"crm\",\"schema\":\"public\",\"table\":\"shelves\",\"lsn\":1}";
        let value = format!("{{\"op\":\"d\",\"before\":{{\"id\":{id}}},\"after\":null,\"source\":{source}}}");
        crate::support::kafka::Record::new(&shelves, &format!("{{\"id\":{id}}}"), Some(&value))
    };
    // Ten years of deletes.
    shop.bed.produce((1..=3).map(gone).collect()).await;
    let entities = format!(
        "  - {{ name: shop.note, table: notes, key: id }}\n  - {{ name: crm.shelf, table: shelves, key: id, topic: {shelves} }}\nreferences:"
    );
    let with = more(&shop).replace("  - { name: shop.note, table: notes, key: id }\nreferences:", &entities);
    rules(
        &shop,
        &with.replace("parent: crm.customer, on_delete: cascade }\nreplicas", "parent: crm.shelf, on_delete: cascade }\nreplicas"),
    );
    let accounts = run_to_end(&shop, "new").await;
    assert_eq!(accounts["partitions"][format!("{shelves}[0]")]["consumed"], 0, "{accounts}");
    assert_eq!(shop.command(&["promote", "note_customer"]).await.0, 0);
    shop.execute("crm", "DELETE FROM shelves WHERE id = 4").await;
    shop.bed.produce(vec![gone(4)]).await;
    run_to_end(&shop, "promoted").await;
    assert_eq!(left(&shop).await.1, [numbers(1..=3), numbers(5..=20)].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn h78_a_promotion_is_one_decision_and_of_what_is_not_new_none() {
    for postgres in [true, false] {
        let world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        let known = "INSERT INTO entail_references (group_id, reference, shape, is_new) VALUES ('it', 'new', '', 1), ('it', 'old', '', 0), ('other', 'new', '', 1)";
        sql(&world.shop, known).await;
        let databases = &world.engine.model.databases;
        let database = &databases.handle(databases.of_service("shop").expect("shop")).database;
        for name in ["new", "new", "old", "unknown"] {
            let mut session = database.begin().await.expect("begins");
            ledger::promote(session.as_mut(), "it", name, "looked at").await.expect("promotes");
            session.commit().await.expect("commits");
        }
        let decided = "SELECT group_id || ' ' || scope || ' ' || decision || ' ' || reason FROM entail_decisions";
        assert_eq!(lines(&world.shop, decided).await, ["it reference:new promote looked at"]);
        let still_new = "SELECT group_id || ' ' || reference FROM entail_references WHERE is_new = 1";
        assert_eq!(lines(&world.shop, still_new).await, ["other new"]);
    }
}
