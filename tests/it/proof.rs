//! The proof that a value's last word was read, by workers that run: which partitions it needs, and whose reading counts.

use crate::support::local::Local;
use crate::support::wait::wait_for;
use crate::support::worker::DEADLINE;

/// Badges that follow a member's code, on a stage of their own.
async fn with_badges() -> Local {
    let rules = "
version: 1
mode: enforce
entities:
  - { name: crm.member, table: members, key: id, topic: crm.main.members }
  - { name: crm.club, table: clubs, key: id, topic: crm.main.clubs }
  - { name: shop.badge, table: badges, key: id }
  - { name: shop.seat, table: seats, key: id }
references:
  - { name: badge_code, child: shop.badge, columns: code, parent: crm.member, parent_columns: code, on_delete: cascade, on_update: cascade }
  - { name: seat_club, child: shop.seat, columns: club, parent: crm.club, on_delete: cascade, on_update: cascade }
";
    let services = [
        (
            "crm",
            "CREATE TABLE members (id INTEGER PRIMARY KEY, code INTEGER UNIQUE, name TEXT); CREATE TABLE clubs (id INTEGER PRIMARY KEY)",
        ),
        (
            "shop",
            "CREATE TABLE badges (id INTEGER PRIMARY KEY, code INTEGER); CREATE INDEX badges_code ON badges (code); CREATE TABLE seats (id INTEGER PRIMARY KEY, club INTEGER); CREATE INDEX seats_club ON seats (club)",
        ),
    ];
    Local::new(rules, &services).await
}

#[tokio::test(flavor = "multi_thread")]
async fn h114_what_another_worker_has_read_counts_as_read() {
    let local = with_badges().await;
    for id in 1..=9 {
        local.execute("crm", &format!("INSERT INTO members VALUES ({id}, {id}, '')")).await;
        local.execute("shop", &format!("INSERT INTO badges VALUES ({id}, {id})")).await;
    }
    let workers = [local.start().await, local.start().await];
    wait_for("both to have something to do", DEADLINE, async || {
        local.execute("crm", "UPDATE members SET name = name || '.'").await;
        workers.iter().all(|worker| !worker.accounts().partitions.is_empty()).then_some(())
    })
    .await;
    local.execute("crm", "UPDATE members SET code = code + 100").await;
    let followed: Vec<String> = (101..=109).map(|code| code.to_string()).collect();
    let followed: Vec<&str> = followed.iter().map(String::as_str).collect();
    local.until("all badges to follow", "shop", "SELECT code FROM badges ORDER BY id", &followed).await;
    for worker in workers {
        worker.stop().await;
    }
    local.stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h114_the_last_word_on_another_unique_value_stands_on_a_partition_that_is_behind() {
    let mut local = with_badges().await;
    local.config.batch.events = 1;
    // On partitions 0 and 1 of three, by the client's own hash.
    let (gone, heir) = (1, 2);
    local.execute("crm", &format!("INSERT INTO members VALUES ({gone}, 70, ''), ({heir}, 30, '')")).await;
    local.execute("crm", &format!("DELETE FROM members WHERE id = {gone}")).await;
    // The other partition has much to read first.
    for n in 0..1500 {
        local.execute("crm", &format!("UPDATE members SET name = '{n}' WHERE id = {heir}")).await;
    }
    // The heir takes 70, its badge is made, and 70 becomes 73 with it.
    local.execute("crm", &format!("UPDATE members SET code = 70 WHERE id = {heir}")).await;
    local.execute("shop", "INSERT INTO badges VALUES (1, 70)").await;
    local.execute("crm", &format!("UPDATE members SET code = 73 WHERE id = {heir}")).await;
    let worker = local.start().await;
    wait_for("all is read", DEADLINE, async || {
        let consumed: u64 = worker.accounts().partitions.values().map(|account| account.consumed).sum();
        (consumed >= 1506).then_some(())
    })
    .await;
    // Right or wrong, the badge comes to rest: it follows its member, or it goes.
    let badges = wait_for("the badge to follow", DEADLINE, async || {
        let badges = local.lines("shop", "SELECT id, code FROM badges").await;
        (badges != ["1|70"]).then_some(badges)
    })
    .await;
    let why = local.lines("shop", "SELECT root_key, cause, \"rows\" FROM entail_cascades").await;
    let accounts = worker.stop().await.text();
    local.stage.close().await;
    assert_eq!(badges, ["1|73"], "WRONG DELETION: the badge is of a member that lives; {why:?}\n{accounts}");
}

/// The heir's partition was made anew, and stands still for it: the ledger's offset, of the log that was, lies beyond its end.
#[tokio::test(flavor = "multi_thread")]
async fn h16_an_offset_of_the_log_that_was_does_not_count_as_read() {
    let local = with_badges().await;
    // On partitions 0 and 1 of three, by the client's own hash.
    let (gone, heir) = (1, 2);
    local.execute("crm", &format!("INSERT INTO members VALUES ({gone}, 70, ''), ({heir}, 30, '')")).await;
    local.run_to_end().await;
    local.execute("shop", "UPDATE entail_progress SET next_offset = 5000 WHERE topic = 'crm.main.members' AND \"partition\" = 1").await;
    local.execute("crm", &format!("DELETE FROM members WHERE id = {gone}")).await;
    local.execute("crm", &format!("UPDATE members SET code = 70 WHERE id = {heir}")).await;
    local.execute("shop", "INSERT INTO badges VALUES (1, 70)").await;
    local.execute("crm", &format!("UPDATE members SET code = 73 WHERE id = {heir}")).await;
    let worker = local.start().await;
    local.until("the gap to be seen", "shop", "SELECT reason FROM entail_latches", &["gap"]).await;
    local.until("the root to wait", "shop", "SELECT root_key, reason FROM entail_pending", &["[\"70\"]|wait"]).await;
    // What waits in the same way, and is told of later, goes. Twice, so that the root was asked about in between.
    for club in [1, 2] {
        local.execute("crm", &format!("INSERT INTO clubs VALUES ({club})")).await;
        local.execute("shop", &format!("INSERT INTO seats VALUES ({club}, {club})")).await;
        local.execute("crm", &format!("DELETE FROM clubs WHERE id = {club}")).await;
        local.until("the seat to go", "shop", "SELECT id FROM seats", &[]).await;
    }
    let badges = local.lines("shop", "SELECT id, code FROM badges").await;
    worker.stop().await;
    local.stage.close().await;
    assert_eq!(badges, ["1|70"], "WRONG DELETION: the badge is of a member that lives, as the partition would have told");
}
