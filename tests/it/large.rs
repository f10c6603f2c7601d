//! Roots with more rows than one transaction takes: counted first, then worked a portion at a time (H48, H61, H62, H79, H84).

use entail::engine::{Authority, Batch, Extent, LARGE, Portion, Report, Retry, WHOLE};

use crate::support::postgres;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop};
use crate::support::world::*;

pub(crate) const LEVELS: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.customers }
  - { name: shop.order, table: orders, key: id, topic: shop.orders }
  - { name: shop.line, table: lines, key: [order_id, number] }
references:
  - { name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: cascade }
  - { name: order_parent, child: shop.order, columns: parent, parent: shop.order, on_delete: cascade }
  - { name: line_order, child: shop.line, columns: order_id, parent: shop.order, on_delete: cascade }
limits: { rows_per_event: 130, rows: { count: 1000, per: 10m } }
";

/// Customer 3 has four orders of 30 lines each: 124 rows.
fn tables(lines: i64) -> String {
    let orders = (100..104).map(|id| {
        let lines: String = (0..lines).map(|number| format!("INSERT INTO lines VALUES ({id}, {number}, '');")).collect();
        format!("INSERT INTO orders VALUES ({id}, 3, NULL); {lines}")
    });
    format!("{ORDERS}{}", orders.collect::<String>())
}

async fn world(postgres: bool, lines: i64, rules: &str) -> World {
    let mut world = World::new(postgres, CUSTOMERS, &tables(lines), rules).await;
    sql(&world.shop, "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 3, '')").await;
    world.engine.rows_per_portion = 10;
    world
}

async fn reasons(world: &World) -> Vec<String> {
    world.pending().await.into_iter().map(|pending| pending.reason).collect()
}

/// The next portion, as the worker takes it; the first one counts.
async fn portion(world: &World, width: Option<usize>) -> Report {
    portion_as(world, width, Authority::Replay { apply: true }).await
}

async fn portion_as(world: &World, width: Option<usize>, authority: Authority<'_>) -> Report {
    let pending = world.pending().await.pop().expect("a pending root");
    let extent = match (pending.reason.as_str(), width) {
        (WHOLE, _) => Extent::Whole,
        (_, Some(width)) => Extent::Portion(Portion { width, counted: None }),
        (_, None) => {
            let most = world.engine.rows_allowed(&pending).await.expect("reads");
            Extent::Portion(Portion::first(world.engine.count(&pending, most).await.expect("counts")))
        }
    };
    let batch = Batch { retries: vec![Retry { pending, proven: None }], extent, ..Batch::default() };
    world.engine.work(&batch, authority).await.expect("works")
}

async fn rows(world: &World) -> i64 {
    let of = "SELECT CAST((SELECT count(*) FROM orders WHERE customer = 3) + (SELECT count(*) FROM lines WHERE order_id >= 100) AS TEXT)";
    lines(&world.shop, of).await[0].parse().expect("a number")
}

async fn archived(world: &World) -> Vec<String> {
    lines(&world.shop, "SELECT CAST(count(*) AS TEXT) || ' of ' || CAST(count(DISTINCT entity || row_key) AS TEXT) FROM entail_archive")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn h48_a_large_root_goes_a_portion_at_a_time_and_each_row_once() {
    for postgres in [false, true] {
        let mut world = world(postgres, 30, LEVELS).await;
        world.gone(3).await;
        assert_eq!((reasons(&world).await, rows(&world).await), (vec![LARGE.to_owned()], 124));
        let (mut width, mut portions) = (None, 0);
        while !world.pending().await.is_empty() {
            let before = rows(&world).await;
            let report = portion(&world, width).await;
            let went = before - rows(&world).await;
            assert!((1..=10).contains(&went), "{went} rows went with one portion");
            width = Some(report.next_width);
            portions += 1;
        }
        assert!((13..40).contains(&portions), "{portions} portions for 124 rows");
        assert_eq!((rows(&world).await, archived(&world).await), (0, vec!["124 of 124".to_owned()]));
        // What it took, it gives back.
        let undone = world.undo(root(3), entail::undo::OnConflict::Fail, false).await;
        assert_eq!((undone.left(), rows(&world).await), (0, 124));
    }
}

/// Orders that point at each other by a native key of their service's, which makes them let go: what they held is kept, though they go later.
#[tokio::test(flavor = "multi_thread")]
async fn h64_what_a_row_of_a_later_portion_lets_go_of_is_kept() {
    lets_go_and_gets_back(LEVELS).await;
}

/// The same where the rules have a reference over the key's columns.
#[tokio::test(flavor = "multi_thread")]
async fn h64_what_a_row_of_a_later_portion_lets_go_of_by_rule_and_key_is_kept() {
    let buddy = "  - { name: order_buddy, child: shop.order, columns: buddy, parent: shop.order, on_delete: set_null }\nlimits:";
    lets_go_and_gets_back(&LEVELS.replace("limits:", buddy)).await;
}

async fn lets_go_and_gets_back(rules: &str) {
    for (postgres, rows_per_portion) in [false, true].into_iter().flat_map(|postgres| (2..6).map(move |rows| (postgres, rows))) {
        let mut world = world(postgres, 0, LEVELS).await;
        sql(&world.shop, "ALTER TABLE orders ADD COLUMN buddy bigint REFERENCES orders (id) ON DELETE SET NULL").await;
        sql(&world.shop, "INSERT INTO orders SELECT i, 3, NULL, NULL FROM (SELECT id + 100 * 4 AS i FROM orders WHERE id >= 100) AS more")
            .await;
        sql(&world.shop, "UPDATE orders SET buddy = CASE id % 2 WHEN 0 THEN id + 1 ELSE id - 1 END WHERE id >= 100").await;
        world.rebind(Some(rules)).await;
        world.engine.rows_per_portion = rows_per_portion;
        let all = "SELECT CAST(id AS TEXT) || '|' || CAST(customer AS TEXT) || '|' || CAST(buddy AS TEXT) FROM orders WHERE id >= 100 ORDER BY id";
        let before = lines(&world.shop, all).await;
        assert_eq!(before.len(), 8);
        world.gone(3).await;
        let mut width = None;
        while !world.pending().await.is_empty() {
            width = Some(portion(&world, width).await.next_width);
        }
        assert!(lines(&world.shop, all).await.is_empty());
        let undone = world.undo(root(3), entail::undo::OnConflict::Fail, false).await;
        assert_eq!(
            (undone.left(), lines(&world.shop, all).await),
            (0, before),
            "postgres: {postgres}, {rows_per_portion}: {:?}",
            undone.tables
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h48_a_root_that_lives_again_halfway_ends_the_cascade_there() {
    let mut world = world(true, 30, LEVELS).await;
    world.gone(3).await;
    portion(&world, None).await;
    let left = rows(&world).await;
    assert!((1..124).contains(&left));
    sql(&world.crm, "INSERT INTO customers VALUES (3)").await;
    let report = portion(&world, Some(8)).await;
    let put_back = report.put_back.values().sum::<u64>();
    assert_eq!((report.spared, rows(&world).await, world.pending().await.len()), (1, left + i64::try_from(put_back).expect("few"), 0));
    // What had gone below orders that stay has come back.
    let torn =
        "SELECT CAST(o.id AS TEXT) FROM orders AS o WHERE o.id >= 100 AND (SELECT count(*) FROM lines AS l WHERE l.order_id = o.id) < 30";
    assert_eq!(lines(&world.shop, torn).await, [""; 0]);
}

/// An order whose lines have gone in part is given to a living customer between two portions: it gets them back.
#[tokio::test(flavor = "multi_thread")]
async fn h47_a_row_given_away_between_two_portions_gets_back_what_hung_on_it() {
    for postgres in [false, true] {
        let mut world = world(postgres, 30, LEVELS).await;
        let epochs = epochs(&world).await;
        world.gone(3).await;
        let mut width = None;
        let lines_of = "SELECT CAST(count(*) AS TEXT) FROM lines WHERE order_id = ";
        // Orders go before others are begun, or not: whichever has lost some lines now.
        let torn = loop {
            width = Some(portion_as(&world, width, Authority::Owner(&epochs)).await.next_width);
            let torn = "SELECT CAST(o.id AS TEXT) FROM orders AS o WHERE o.id >= 100 AND (SELECT count(*) FROM lines AS l WHERE l.order_id = o.id) < 30";
            if let Some(torn) = lines(&world.shop, torn).await.pop() {
                break torn;
            }
        };
        sql(&world.shop, &format!("UPDATE orders SET customer = 2 WHERE id = {torn}")).await;
        let mut put_back = 0;
        while !world.pending().await.is_empty() {
            let report = portion_as(&world, width, Authority::Owner(&epochs)).await;
            put_back += report.put_back.values().sum::<u64>();
            width = Some(report.next_width);
        }
        assert_eq!(lines(&world.shop, &format!("{lines_of}{torn}")).await, ["30"], "postgres: {postgres}");
        assert!((1..30).contains(&put_back), "{put_back} rows put back");
        assert_eq!(
            lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM lines WHERE order_id >= 100").await,
            ["30"],
            "the others have gone"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h79_a_large_root_over_its_limit_loses_no_row_until_it_is_released() {
    for postgres in [false, true] {
        let mut world = world(postgres, 32, LEVELS).await;
        world.gone(3).await;
        let report = portion(&world, None).await;
        assert_eq!((rows(&world).await, reasons(&world).await), (132, vec!["rows-per-event".to_owned()]));
        let scope = report.latched.first().expect("a latch").scope.clone();
        // A person looks, and lets it go: all that was shown, in portions.
        let name = scope.strip_prefix("reference:").expect("a reference");
        let rehearsal = entail::release::rehearse(&world.engine, name, &|_| {}).await.expect("rehearses");
        assert_eq!((rehearsal.roots, rehearsal.rows.values().sum::<u64>()), (1, 132), "{rehearsal:?}");
        let id = world.engine.model.databases.of_service("shop").expect("shop");
        let database = &world.engine.model.databases.handle(id).database;
        let mut session = database.begin().await.expect("begins");
        assert!(entail::ledger::release(session.as_mut(), "it", &scope).await.expect("releases"));
        entail::ledger::allow(session.as_mut(), database.dialect(), "it", &rehearsal.rows).await.expect("allows");
        session.commit().await.expect("commits");
        world.retry().await;
        assert_eq!(reasons(&world).await, [LARGE]);
        let mut width = None;
        while !world.pending().await.is_empty() {
            width = Some(portion(&world, width).await.next_width);
            assert_ne!(reasons(&world).await, ["rows"], "the release is used up before its rows are gone");
        }
        assert_eq!((rows(&world).await, archived(&world).await), (0, vec!["132 of 132".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h80_a_large_root_over_the_window_loses_no_row() {
    let mut world = world(true, 30, &LEVELS.replace("count: 1000", "count: 119")).await;
    world.gone(3).await;
    portion(&world, None).await;
    assert_eq!((rows(&world).await, reasons(&world).await), (124, vec!["rows".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn h26_a_restrict_deep_below_a_large_root_holds_all_of_it() {
    let rules = LEVELS.replace("parent: shop.order, on_delete: cascade }\nlimits", "parent: shop.order, on_delete: restrict }\nlimits");
    let mut world = world(true, 30, &rules.replace("rows_per_event: 130", "rows_per_event: 100000")).await;
    // Many orders, and a line only at one of them.
    sql(
        &world.shop,
        "DELETE FROM lines; INSERT INTO orders SELECT i, 3, NULL FROM generate_series(200, 300) i; INSERT INTO lines VALUES (300, 1, '')",
    )
    .await;
    world.gone(3).await;
    portion(&world, None).await;
    assert_eq!((rows(&world).await, reasons(&world).await), (106, vec!["restrict".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn h64_what_a_native_key_may_refuse_is_judged_whole() {
    for (lets_go, left) in [(true, 0), (false, 124)] {
        let mut world = world(true, 30, LEVELS).await;
        // Line 15 of order 101 points at order 103, and no rule of ours leads from there to it.
        sql(
            &world.shop,
            "ALTER TABLE lines ADD refers bigint REFERENCES orders (id); UPDATE lines SET refers = 103 WHERE (order_id, number) = (101, 15)",
        )
        .await;
        if !lets_go {
            sql(&world.shop, "UPDATE lines SET refers = 103 WHERE order_id = 20").await;
        }
        world.rebind(None).await;
        world.gone(3).await;
        portion(&world, None).await;
        assert_eq!((rows(&world).await, reasons(&world).await), (124, vec![WHOLE.to_owned()]));
        portion(&world, None).await;
        assert_eq!(rows(&world).await, left, "{:?}", reasons(&world).await);
        assert_eq!(reasons(&world).await.is_empty(), lets_go);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h64_what_a_native_key_would_refuse_halfway_is_judged_whole() {
    let mut world = world(true, 30, LEVELS).await;
    sql(&world.shop, "ALTER TABLE lines ADD refers bigint REFERENCES orders (id)").await;
    world.rebind(None).await;
    world.gone(3).await;
    let width = portion(&world, None).await.next_width;
    // Behind the count: a line that goes too, and is not in this portion.
    sql(&world.shop, "DELETE FROM lines WHERE order_id = 100; UPDATE lines SET refers = 100 WHERE (order_id, number) = (103, 15)").await;
    let mut reasons_met = Vec::new();
    while !world.pending().await.is_empty() {
        portion(&world, Some(width)).await;
        reasons_met.extend(reasons(&world).await);
        assert!(!reasons_met.contains(&"native-restrict".to_owned()), "{reasons_met:?}");
    }
    assert!(reasons_met.contains(&WHOLE.to_owned()) && rows(&world).await == 0, "{reasons_met:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h25_a_large_circle_is_counted_once_and_goes() {
    let mut world = world(true, 0, LEVELS).await;
    // A ring of 60 orders below order 100.
    sql(&world.shop, "INSERT INTO orders SELECT i, NULL, CASE i WHEN 200 THEN 259 ELSE i - 1 END FROM generate_series(200, 259) i").await;
    sql(&world.shop, "UPDATE orders SET parent = 259 WHERE id = 100; INSERT INTO orders VALUES (199, NULL, 100); UPDATE orders SET parent = 199 WHERE id = 200").await;
    world.gone(3).await;
    let mut width = None;
    while !world.pending().await.is_empty() {
        width = Some(portion(&world, width).await.next_width);
    }
    assert_eq!(lines(&world.shop, "SELECT CAST(id AS TEXT) FROM orders ORDER BY id").await, ["10", "11", "20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_root_with_a_table_that_only_lets_go() {
    let rules = LEVELS.replace(
        "columns: order_id, parent: shop.order, on_delete: cascade",
        "columns: order_id, parent: shop.order, on_delete: { set: { what: gone } }",
    );
    let mut world = world(true, 30, &rules).await;
    world.gone(3).await;
    let (mut width, mut portions) = (None, 0);
    while !world.pending().await.is_empty() {
        width = Some(portion(&world, width).await.next_width);
        portions += 1;
        assert!(portions < 100, "it does not end: {:?}", world.pending().await);
    }
    assert_eq!(
        lines(&world.shop, "SELECT what || CAST(count(*) AS TEXT) FROM lines WHERE order_id >= 100 GROUP BY what").await,
        ["gone120"]
    );
    assert_eq!(lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM orders WHERE customer = 3").await, ["0"]);
}

/// The default names an order that goes, but with a later portion: it lives still when the lines let go, and is given to them for ever.
#[tokio::test(flavor = "multi_thread")]
async fn h110_a_default_that_goes_with_a_later_portion_latches_its_reference() {
    let rules = LEVELS.replace("parent: shop.order, on_delete: cascade }\nlimits", "parent: shop.order, on_delete: set_default }\nlimits");
    let rules = rules.replace("key: [order_id, number]", "key: number");
    for postgres in [false, true] {
        let mut world = world(postgres, 0, LEVELS).await;
        let default = "DROP TABLE lines; CREATE TABLE lines (order_id bigint DEFAULT 100, number bigint PRIMARY KEY, what text);
            CREATE INDEX lines_order ON lines (order_id);";
        let many: String = (1..=30).map(|number| format!("INSERT INTO lines VALUES (100, {number}, '');")).collect();
        sql(&world.shop, &format!("{default}{many}")).await;
        world.rebind(Some(&rules)).await;
        world.gone(3).await;
        let (mut width, mut portions) = (None, 0);
        while reasons(&world).await != ["latched"] {
            width = Some(portion(&world, width).await.next_width);
            portions += 1;
            assert!(portions < 20, "postgres: {postgres}: it does not end: {:?}", world.pending().await);
        }
        assert_eq!(lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM orders WHERE customer = 3").await, ["4"], "nothing went");
        assert_eq!(lines(&world.shop, "SELECT CAST(count(*) AS TEXT) FROM lines WHERE order_id = 100").await, ["30"]);
    }
}

/// The real worker: a large root that somebody's lock holds up is in nobody's way, and goes on behind a kill -9.
#[tokio::test(flavor = "multi_thread")]
async fn h84_small_cascades_do_not_wait_for_a_large_one_that_a_kill_interrupts() {
    let shop = Shop::open().await;
    let rules = shop.rules().replace("rows_per_event: 10000", "rows_per_event: 100000");
    std::fs::write(shop.dir.path().join("rules.yaml"), rules).expect("written");
    shop.load(200, 0, 0).await;
    // Customer 1 has 40 more orders of 600 parcels each: 24,043 rows with its first order.
    shop.execute("shop", "INSERT INTO orders SELECT 1000 + i, 1 FROM generate_series(1, 40) i; ANALYZE").await;
    shop.execute("shipping", "INSERT INTO parcels SELECT 1000 + i, j FROM generate_series(1, 40) i, generate_series(1, 600) j; ANALYZE")
        .await;
    let parcels = "SELECT count(*) FROM parcels WHERE order_id > 1000";
    let mut first = shop.run("first", &[]);
    first.until_owner().await;
    // The very last parcel is somebody's.
    let mut other = postgres::connect(&shop.urls["shipping"]).await;
    sqlx::raw_sql("BEGIN; SELECT * FROM parcels WHERE order_id = 1040 AND number = 600 FOR UPDATE")
        .execute(&mut other)
        .await
        .expect("locked");
    let goes = async |ids: std::ops::RangeInclusive<i64>| {
        shop.execute("crm", &format!("DELETE FROM customers WHERE id BETWEEN {} AND {}", ids.start(), ids.end())).await;
        shop.bed.produce(ids.flat_map(|id| shop.delete(id, 80_000_000 + id)).collect()).await;
    };
    goes(1..=1).await;
    first.until_log("a portion of a large root is tried again").await;
    goes(2..=100).await;
    wait_for("the small cascades to be done", DEADLINE, async || {
        (shop.count("shop", "SELECT count(*) FROM orders WHERE id BETWEEN 2 AND 100").await == 0).then_some(())
    })
    .await;
    first.signal("KILL");
    first.exit(DEADLINE).await;
    let left = shop.count("shipping", parcels).await;
    assert!((1..24_000).contains(&left), "{left} parcels are left");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("let go");
    let mut second = shop.run("second", &["--until-end"]);
    assert_eq!(second.exit(DEADLINE).await, 0, "{}", second.tail());
    assert_eq!(shop.count("shipping", parcels).await + shop.count("shop", "SELECT count(*) FROM orders WHERE customer_id = 1").await, 0);
    let archived = "SELECT count(*) * 1000000 + count(DISTINCT row_key) FROM entail_archive WHERE entity = 'shipping.parcel'";
    assert_eq!(shop.count("shipping", archived).await, 24_200 * 1_000_000 + 24_200, "each parcel is archived once");
    let longest = "SELECT max(n) FROM (SELECT count(*) AS n FROM entail_archive GROUP BY xmin) AS transactions";
    assert!(shop.count("shipping", longest).await <= 5_000, "a portion is at most 5,000 rows");
    assert_eq!(shop.count("shop", "SELECT count(*) FROM entail_pending").await, 0);
}

/// `ENTAIL_ROWS` makes the root larger. What it took is printed; CI holds the sizes.
#[tokio::test(flavor = "multi_thread")]
async fn h62_memory_is_flat_and_transactions_are_short_whatever_the_fan_out() {
    let rows = std::env::var("ENTAIL_ROWS").ok().map_or(30_000, |text| text.parse::<i64>().expect("a number"));
    let shop = Shop::open().await;
    let limits = format!("rows_per_event: {}", 2 * rows);
    std::fs::write(
        shop.dir.path().join("rules.yaml"),
        shop.rules().replace("rows_per_event: 10000", &limits).replace("10000000", "1000000000"),
    )
    .expect("written");
    shop.load(200, 0, 0).await;
    let each = rows / 1_000;
    shop.execute("shop", "INSERT INTO orders SELECT 1000 + i, 1 FROM generate_series(1, 1000) i; ANALYZE").await;
    let parcels = format!("INSERT INTO parcels SELECT 1000 + i, j FROM generate_series(1, 1000) i, generate_series(1, {each}) j");
    shop.execute("shipping", &parcels).await;
    shop.execute("shipping", "ANALYZE").await;
    let whole = async || {
        let of = |table: &str, mine: &str| {
            format!(
                "SELECT CAST(coalesce(sum(hashtextextended(CAST(t AS text), 0)) % 1000000007, 0) AS bigint) FROM {table} t WHERE {mine}"
            )
        };
        [
            shop.count("shop", "SELECT count(*) FROM orders WHERE customer_id = 1").await,
            shop.count("shop", &of("orders", "customer_id = 1")).await,
            shop.count("shipping", "SELECT count(*) FROM parcels WHERE order_id BETWEEN 1001 AND 2000").await,
            shop.count("shipping", &of("parcels", "order_id BETWEEN 1001 AND 2000")).await,
        ]
    };
    let was = whole().await;
    let mut worker = shop.run("worker", &[]);
    worker.until_owner().await;
    shop.until_caught_up().await;
    let idle = worker.memory().0;
    let goes = async |id: i64| {
        shop.execute("crm", &format!("DELETE FROM customers WHERE id = {id}")).await;
        let began = std::time::Instant::now();
        shop.bed.produce(shop.delete(id, 80_000_000 + id).into()).await;
        began
    };
    let small = async |id: i64| {
        let began = goes(id).await;
        let order = format!("SELECT count(*) FROM orders WHERE id = {id}");
        wait_for("a small cascade", DEADLINE, async || (shop.count("shop", &order).await == 0).then_some(())).await;
        began.elapsed()
    };
    let mut before = Vec::new();
    for id in 2..12 {
        before.push(small(id).await);
    }
    let began = goes(1).await;
    let (mut beside, mut id, mut longest, mut most, mut lives) = (Vec::new(), 12, 0, 0, 1);
    loop {
        let left = shop.count("shop", "SELECT count(*) FROM orders WHERE customer_id = 1").await;
        if left == 0 {
            break;
        }
        if left < 1_000 - 300 * lives && lives < 3 {
            most = most.max(worker.memory().1);
            worker.signal("KILL");
            worker.exit(DEADLINE).await;
            lives += 1;
            worker = shop.run(&format!("worker{lives}"), &[]);
            worker.until_owner().await;
        }
        let open = "SELECT CAST(coalesce(max(extract(epoch FROM now() - xact_start) * 1000), 0) AS bigint) FROM pg_stat_activity
            WHERE application_name = 'entail' AND datname = current_database() AND state <> 'idle'";
        longest = longest.max(shop.count("shipping", open).await);
        if id <= 200 {
            beside.push(small(id).await);
            id += 1;
        }
    }
    let took = began.elapsed();
    for times in [&mut before, &mut beside] {
        times.sort_unstable();
    }
    let at =
        |times: &[std::time::Duration], share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
    let most = most.max(worker.memory().1);
    println!(
        "a root of {rows} rows: {took:?}, killed {} times on the way; resident MiB: {idle} idle, {most} at most; longest open transaction seen: {longest} ms; small cascades \
         before: p50 {:?}, at most {:?}; beside it: p50 {:?}, p99 {:?}, over {}",
        lives - 1,
        at(&before, 50),
        at(&before, 100),
        at(&beside, 50),
        at(&beside, 99),
        beside.len()
    );
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0);
    assert!(most < idle + 200, "{idle} MiB idle, {most} at most");
    let archived = "SELECT count(*) FROM entail_archive WHERE entity = 'shipping.parcel' AND row_key LIKE '[\"1___%'";
    assert!(shop.count("shipping", archived).await >= each * 999, "parcels are archived");
    let of_one = "SELECT max(n) FROM (SELECT count(*) AS n FROM entail_archive GROUP BY xmin) AS transactions";
    assert!(shop.count("shipping", of_one).await <= 5_000);
    let began = std::time::Instant::now();
    let (code, said, errors) = shop.command(&["undo", "--root", "crm.customer:1"]).await;
    println!("{} rows put back in {:?}", was[0] + was[2], began.elapsed());
    assert_eq!((code, whole().await), (0, was), "{said}{errors}");
}
