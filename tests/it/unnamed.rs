//! Rows whose keys cannot be read exactly: nobody takes them for none.

use crate::support::world::*;

/// A child row with NULL in a key column cannot be named. A `restrict` holds all the same, and a cascade does not pass it over in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_named_still_restricts() {
    for (postgres, key, values) in [(true, "a date, b integer", "'infinity', 1"), (false, "a INTEGER, b INTEGER", "1, NULL")] {
        let others = format!(
            "CREATE TABLE others ({key}, customer bigint, t text, PRIMARY KEY (a, b)); CREATE INDEX oc ON others (customer); INSERT INTO others VALUES ({values}, 1, '');"
        );
        let tables = format!("{} {others}", THING_TABLES.lines().filter(|line| !line.contains("others")).collect::<Vec<_>>().join(" "));
        let rules =
            THINGS.replace("table: others, key: id", "table: others, key: [a, b]").replace("on_delete: set_null", "on_delete: restrict");
        let mut world = World::new(postgres, CUSTOMERS, &tables, &rules).await;
        world.gone(1).await;
        assert_eq!(lines(&world.shop, THINGS_NOW).await.len(), 3, "WRONG DELETION (postgres: {postgres}): a row of `others` restricts it");
    }
}

/// The same under `cascade`: it goes, or something says that it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_named_is_not_missed_in_silence() {
    let others = "CREATE TABLE others (a INTEGER, b INTEGER, customer bigint, t text, PRIMARY KEY (a, b)); CREATE INDEX oc ON others (customer); INSERT INTO others VALUES (1, NULL, 1, '');";
    let tables = format!("{} {others}", THING_TABLES.lines().filter(|line| !line.contains("others")).collect::<Vec<_>>().join(" "));
    let rules = THINGS.replace("table: others, key: id", "table: others, key: [a, b]").replace("on_delete: set_null", "on_delete: cascade");
    let mut world = World::new(false, CUSTOMERS, &tables, &rules).await;
    world.gone(1).await;
    let left = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM others WHERE customer = 1").await;
    let latched = lines(&world.shop, "SELECT detail FROM entail_latches").await;
    assert!(left == ["0"] || !world.pending().await.is_empty() || !latched.is_empty(), "an orphan, and nothing says so");
}
