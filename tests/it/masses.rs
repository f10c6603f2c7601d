//! Masses of deletes: forged ones, which change nothing, and true ones, which are stopped before they cross the limit (H3, H80, H81).
//! `ENTAIL_FORGED` and `ENTAIL_PARENTS` make them larger.

use std::time::{Duration, Instant};

use crate::support::wait::{wait_for, within};
use crate::support::worker::{DEADLINE, Shop};

fn number(name: &str, default: i64) -> i64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_masses_of_forged_deletes_change_no_row() {
    let forged = number("ENTAIL_FORGED", 20_000);
    let shop = Shop::open().await;
    shop.load(1_000, 0, 0).await;
    let seed = std::env::var("ENTAIL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("ENTAIL_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    // Each a delete and its tombstone, of customers that live.
    for begin in (0..forged).step_by(100_000) {
        let part = begin..forged.min(begin + 100_000);
        shop.bed.produce(part.flat_map(|lsn| shop.delete(rng.i64(1..=1_000), 1_000 + lsn)).collect()).await;
    }
    let all: i64 = shop.bed.high_watermarks(&shop.topic).await.values().sum();
    let began = Instant::now();
    let mut worker = shop.run("worker", &[]);
    worker.until_owner().await;
    let wanted = Duration::from_secs(120 + u64::try_from(forged / 1_000).expect("a number"));
    wait_for("all of it to be read", wanted, async || (shop.durable("shop").await >= all).then_some(())).await;
    let rate = f64::from(u32::try_from(all).expect("not so many")) / began.elapsed().as_secs_f64();
    println!("{forged} forged deletes, {all} records: {rate:.0} records a second (start included); resident MiB {:?}", worker.memory());
    worker.signal("TERM");
    assert_eq!(worker.exit(DEADLINE).await, 0);
    let accounts = worker.accounts();
    shop.assert_settled(1_000, 0, 0).await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM entail_archive").await, 0, "WRONG DELETION");
    assert_eq!(shop.count("shop", "SELECT count(*) FROM customer_copy").await, 1_000, "copies of living customers stay");
    assert!(accounts["spared"].as_u64().is_some_and(|spared| spared > 0), "{accounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h80_a_mass_delete_stops_before_the_limit_and_goes_once_it_is_released() {
    mass_delete(10).await;
}

/// `DELETE FROM customers`: a table that is empty is not believed, and a person may still let go what hung on it.
#[tokio::test(flavor = "multi_thread")]
async fn h67_a_whole_table_that_was_meant_to_go_goes_once_it_is_released() {
    mass_delete(0).await;
}

async fn mass_delete(stay: i64) {
    let parents = number("ENTAIL_PARENTS", 3_000);
    let limit = parents / 10;
    let shop = Shop::open().await;
    let rules = shop.rules().replace("count: 10000000", &format!("count: {limit}"));
    std::fs::write(shop.dir.path().join("rules.yaml"), rules).expect("written");
    let mut first = shop.run("first", &[]);
    let mut second = shop.run("second", &[]);
    first.until_owner().await;
    second.until_owner().await;
    // Everybody is deleted at once; each has an order and two parcels.
    shop.load(parents + stay, parents, 0).await;
    let latches = "SELECT count(*) FROM entail_latches";
    let orders = "SELECT count(*) FROM orders";
    let parcels = "SELECT count(*) FROM parcels";
    wait_for("a latch", DEADLINE, async || (shop.count("shop", latches).await + shop.count("shipping", latches).await > 0).then_some(()))
        .await;
    shop.until_caught_up().await;
    let left = (shop.count("shop", orders).await, shop.count("shipping", parcels).await);
    assert!(
        parents + stay - left.0 <= limit && 2 * (parents + stay) - left.1 <= limit,
        "{left:?} are left of {parents}, and the limit is {limit}"
    );
    // By the database's own clock.
    let since = |moment: &str| {
        let shut = format!("(SELECT min(since) FROM entail_latches) - (SELECT {moment}(at) FROM entail_cascades)");
        format!("SELECT coalesce(CAST(1000 * extract(epoch FROM {shut}) AS bigint), -1)")
    };
    for service in ["shop", "shipping"] {
        let (first, last) = (shop.count(service, &since("min")).await, shop.count(service, &since("max")).await);
        println!("{service}: shut {first} ms after the first rows went, {last} ms after the last (-1: there is no latch)");
    }
    for worker in [&mut first, &mut second] {
        worker.signal("TERM");
        assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
    }
    // It holds over a restart, and for another worker.
    let mut next = shop.run("next", &["--until-end"]);
    // It tries each parked root once: a page of a thousand in a second.
    let code = next.exit(DEADLINE.max(Duration::from_secs(u64::try_from(parents / 400).expect("a number")))).await;
    assert!(code == 0 || code == 3, "{code}: {}", next.tail());
    assert_eq!((shop.count("shop", orders).await, shop.count("shipping", parcels).await), left);
    // A person looks, and lets go what was shown.
    let began = Instant::now();
    let (_, listed, _) = shop.command(&["release"]).await;
    for scope in listed.lines().filter_map(|line| line.split(": ").next()) {
        let (code, said, errors) = shop.command(&["release", scope, "--reason", "a true mass delete"]).await;
        assert_eq!(code, 0, "{said}{errors}");
        println!("{said}");
    }
    let released = began.elapsed();
    let mut last = shop.run("last", &[]);
    let began = Instant::now();
    let wanted = Duration::from_secs(60 + u64::try_from(parents / 100).expect("a number"));
    let gone = within(wanted, async || {
        (shop.count("shop", orders).await == stay && shop.count("shipping", parcels).await == 2 * stay).then_some(())
    })
    .await;
    assert!(gone.is_some(), "not all has gone:\n{}", shop.command(&["status"]).await.1);
    println!(
        "{parents} parents, limit {limit}: stopped with {left:?} rows left; rehearsed and released in {released:?}, gone {:?} later",
        began.elapsed()
    );
    last.signal("TERM");
    assert_eq!(last.exit(DEADLINE).await, 0);
    shop.assert_settled(parents + stay, parents, 0).await;
    assert_eq!(shop.count("shop", "SELECT count(*) FROM entail_pending").await, 0);
}
