//! What the ledger need not keep any longer goes, and nothing before its time.

use std::time::Duration;

use entail::ledger;

use crate::cascade::{RULES, SERVICES};
use crate::support::local::Local;
use crate::support::world::{CUSTOMERS, THING_TABLES, THINGS, World, lines, sql};

const COLUMNS: &str = "(cascade_id, entity, reference, action, row_key, shape, image, group_id, keep_seconds, archived_at)";

const MONTH: Duration = Duration::from_secs(30 * 86_400);

async fn expire(world: &World) -> bool {
    let databases = &world.engine.model.databases;
    let database = &databases.handle(databases.of_service("shop").expect("shop")).database;
    let mut session = database.begin().await.expect("begins");
    let has_more = ledger::expire_images(session.as_mut(), database.dialect(), "it").await.expect("expires");
    ledger::expire_moves(session.as_mut(), database.dialect(), "it", MONTH).await.expect("expires");
    session.commit().await.expect("commits");
    has_more
}

/// SQL for the moment so many hours ago.
fn ago(postgres: bool, hours: i64) -> String {
    if postgres { format!("now() - interval '{hours} hours'") } else { format!("datetime('now', '-{hours} hours')") }
}

#[tokio::test(flavor = "multi_thread")]
async fn h94_row_images_go_when_their_time_is_over_and_not_before() {
    const IMAGES: &str = "SELECT row_key FROM entail_archive ORDER BY row_key, id";
    for postgres in [true, false] {
        let world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        let image = |name: &str, group: &str, keep_hours: i64, hours: i64| {
            let (keep, at) = (keep_hours * 3600, ago(postgres, hours));
            format!("('c', 'shop.thing', 'thing_customer', 'delete', '{name}', '', '', '{group}', {keep}, {at})")
        };
        let images = [
            image("a month, an hour over", "it", 720, 721),
            image("a month, an hour short", "it", 720, 719),
            image("a day, an hour over", "it", 24, 25),
            image("two months, a month old", "it", 1440, 721),
            image("of another group", "other", 24, 9_999),
        ];
        sql(&world.shop, &format!("INSERT INTO entail_archive {COLUMNS} VALUES {}", images.join(", "))).await;
        let forever = image("for ever", "it", 1, 9_999).replace(", 3600,", &format!(", {},", i64::MAX));
        sql(&world.shop, &format!("INSERT INTO entail_archive {COLUMNS} VALUES {forever}")).await;
        assert!(!expire(&world).await, "nothing is left");
        let left = ["a month, an hour short", "for ever", "of another group", "two months, a month old"];
        assert_eq!(lines(&world.shop, IMAGES).await, left);
        // What a large root has left goes page by page.
        let series = if postgres {
            "generate_series(1, 2500) AS n".to_owned()
        } else {
            "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500) SELECT n FROM n)".to_owned()
        };
        let many = image("many", "it", 24, 48).replace("('c'", "SELECT 'c'").trim_end_matches(')').to_owned();
        let many = if postgres { many } else { format!("{many})") };
        sql(&world.shop, &format!("INSERT INTO entail_archive {COLUMNS} {many} FROM {series}")).await;
        assert!(expire(&world).await, "more is left");
        let left_of_many = lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM entail_archive WHERE row_key = 'many'").await;
        assert_eq!(left_of_many, ["500"]);
        assert!(!expire(&world).await, "and goes with the next page");
        assert_eq!(lines(&world.shop, IMAGES).await, left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h23_key_changes_go_when_they_are_done_old_and_no_longer_asked_for() {
    const MOVES: &str = "SELECT new_key FROM entail_moves ORDER BY new_key";
    for postgres in [true, false] {
        let world = World::new(postgres, CUSTOMERS, THING_TABLES, THINGS).await;
        let change = |entity: &str, name: &str, group: &str, state: &str, hours: i64| {
            format!("('{group}', '{entity}', 'old', '{name}', '', '', '{state}', {})", ago(postgres, hours))
        };
        let changes = [
            change("crm.customer", "done", "it", "done", 721),
            change("crm.customer", "superseded", "it", "superseded", 721),
            change("crm.customer", "done, younger", "it", "done", 719),
            change("crm.customer", "open", "it", "open", 721),
            change("crm.customer", "of another group", "other", "done", 721),
            change("shop.thing", "asked for", "it", "done", 721),
            change("shop.thing(code)", "asked for by another key", "it", "done", 721),
            change("shop.things", "of another table", "it", "done", 721),
        ];
        let columns = "(group_id, entity, old_key, new_key, source, cause, state, at)";
        sql(&world.shop, &format!("INSERT INTO entail_moves {columns} VALUES {}", changes.join(", "))).await;
        let pending = "INSERT INTO entail_pending (group_id, entity, columns, root_key, reason, detail, kind, topic, \"partition\", \"offset\", known_partition, rules)
            VALUES ('it', 'shop.thing', '[]', '[]', 'restrict', '', 'gone', 't', 0, 0, 1, ''), ('other', 'crm.customer', '[]', '[]', 'restrict', '', 'gone', 't', 0, 0, 1, '')";
        sql(&world.shop, pending).await;
        let latch = "INSERT INTO entail_latches (group_id, scope, reason, detail) VALUES ('it', 'partition:t[0]', 'gap', '')";
        sql(&world.shop, latch).await;
        assert!(!expire(&world).await);
        assert_eq!(lines(&world.shop, MOVES).await.len(), changes.len(), "records of a partition that is shut may tell of them");
        sql(&world.shop, "UPDATE entail_latches SET scope = 'reference:r'").await;
        assert!(!expire(&world).await);
        assert_eq!(lines(&world.shop, MOVES).await, ["asked for", "asked for by another key", "done, younger", "of another group", "open"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h108_a_worker_removes_what_has_expired_in_every_ledger_from_its_start() {
    let local = Local::new(RULES, &SERVICES).await;
    let engine = local.engine().await;
    for service in ["shop", "shipping"] {
        let image = "('c', 'e', 'r', 'delete', 'k', '', '', 'it', 60, datetime('now', '-2 minutes'))";
        // More than one page of them.
        let many = format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4500) INSERT INTO entail_archive {COLUMNS}
            SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10 FROM (VALUES {image}) JOIN n"
        );
        local.execute(service, &many).await;
        let sql = format!("INSERT INTO entail_archive {COLUMNS} VALUES {}", image.replace("60", "6000"));
        local.execute(service, &sql).await;
        let change = "INSERT INTO entail_moves (group_id, entity, old_key, new_key, source, cause, state, at)
            VALUES ('it', 'crm.customer', 'a', 'b', '', '', 'done', datetime('now', '-400 days')), ('it', 'crm.customer', 'b', 'c', '', '', 'done', datetime('now'))";
        local.execute(service, change).await;
    }
    let running = local.start().await;
    for service in ["shop", "shipping"] {
        local.until("what has expired is gone", service, "SELECT keep_seconds FROM entail_archive", &["6000"]).await;
        local.until("and key changes, too", service, "SELECT old_key FROM entail_moves", &["b"]).await;
    }
    running.stop().await;
    drop(engine);
    local.stage.close().await;
}
