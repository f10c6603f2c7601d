//! kill -9 at every statement with which a worker writes: each is a fail point, named by its own text and its database.
//!
//! All connections go through one proxy. At the nth writing statement nothing passes any more, the worker is killed, and the next one has to
//! end where an undisturbed one would have. Between two such statements nothing durable changes, so these are all the moments there are, but
//! for those at Kafka: its commits of offsets are only hints.

use std::path::{Path, PathBuf};

use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;
use crate::support::worker::{DEADLINE, Shop, Worker};

/// Customers, each with an order and two parcels.
const ALL: i64 = 400;

/// A shop whose workers reach their databases through a proxy, and say each statement in full.
struct Tapped {
    shop: Shop,
    proxy: Proxy,
    config: PathBuf,
}

impl Tapped {
    async fn open() -> Tapped {
        // A killed worker's partitions are the next one's at once: it has the same name in the group (H42).
        let shop = Shop::open().await.properties("group.instance.id: one, session.timeout.ms: 10000, fetch.wait.max.ms: 20");
        let url = &shop.urls["shop"];
        let port: u16 = url.split([':', '/']).nth(4).and_then(|port| port.parse().ok()).expect("a port");
        let proxy = Proxy::start(port).await;
        let mut settings = shop.settings();
        for url in shop.urls.values() {
            let tapped = url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port));
            settings = settings.replace(&format!("\"{url}\""), &format!("\"{tapped}?statement-cache-capacity=0\""));
        }
        let config = shop.dir.path().join("tapped.yaml");
        std::fs::write(&config, settings).expect("the settings are written");
        Tapped { shop, proxy, config }
    }

    fn run(&self, name: &str) -> Worker {
        Worker::start(self.shop.dir.path(), Path::new(&self.config), name, &["run", "--migrate", "--until-end", "--format", "json"])
    }

    /// A customer goes, and another one gets a new name.
    async fn produce(&self, gone: i64) {
        let (shop, kept) = (&self.shop, ALL - gone);
        shop.execute("crm", &format!("DELETE FROM customers WHERE id = {gone}")).await;
        let mut records: Vec<_> = shop.delete(gone, 1_000_000 + gone * 100).into();
        records.push(shop.update(kept, &format!("after {gone}"), 1_000_050 + gone * 100));
        records.push(shop.heartbeat());
        shop.bed.produce(records).await;
    }

    /// Everything that hung on the customer is gone and archived once, nothing else is, and the copies are right.
    async fn assert_done(&self, gone: i64, point: &str) {
        let count = async |service: &str, sql: String| self.shop.count(service, &sql).await;
        let orders = count("shop", format!("SELECT count(*) FROM orders WHERE customer_id <= {gone}")).await;
        let parcels = count("shipping", format!("SELECT count(*) FROM parcels WHERE order_id <= {gone}")).await;
        assert_eq!((orders, parcels), (0, 0), "left over after {point}");
        let orders = count("shop", "SELECT count(*) FROM orders".to_owned()).await;
        let parcels = count("shipping", "SELECT count(*) FROM parcels".to_owned()).await;
        assert_eq!((orders, parcels), (ALL - gone, 2 * (ALL - gone)), "living rows after {point}");
        for (service, each) in [("shop", 1), ("shipping", 2)] {
            let archived = count(service, "SELECT count(*) FROM entail_archive".to_owned()).await;
            let audited = count(service, "SELECT CAST(sum(\"rows\") AS bigint) FROM entail_cascades".to_owned()).await;
            assert_eq!((archived, audited), (each * gone, each * gone), "archive and audit of {service} after {point}");
            let waiting = "SELECT (SELECT count(*) FROM entail_pending) + (SELECT count(*) FROM entail_latches)";
            assert_eq!(count(service, waiting.to_owned()).await, 0, "waiting in {service} after {point}");
        }
        let copy = format!("SELECT count(*) FROM customer_copy WHERE id = {} AND name = 'after {gone}'", ALL - gone);
        assert_eq!(count("shop", copy).await, 1, "the copy after {point}");
        assert_eq!(count("shop", "SELECT count(*) FROM customer_copy".to_owned()).await, ALL - gone, "copies after {point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h46_kill_9_at_every_statement_that_writes_loses_nothing_and_doubles_nothing() {
    let tapped = Tapped::open().await;
    tapped.shop.load(ALL, 0, 1).await;
    assert_eq!(tapped.run("first").exit(DEADLINE).await, 0);
    let mut points = Vec::new();
    for nth in 1..=ALL / 2 {
        tapped.produce(nth).await;
        tapped.proxy.fail_at(u64::try_from(nth).expect("a small number"));
        let mut worker = tapped.run(&format!("killed{nth}"));
        let failing = wait_for("a fail point, or the end", DEADLINE, async || {
            let ended = worker.ended();
            tapped.proxy.failing().map(Ok).or(ended.map(Err))
        })
        .await;
        let point = match failing {
            Ok(point) => point,
            Err(code) => {
                assert_eq!(code, 0, "{}", worker.tail());
                tapped.assert_done(nth, "no kill").await;
                break;
            }
        };
        worker.signal("KILL");
        assert_eq!(worker.exit(DEADLINE).await, -1);
        tapped.proxy.drop_all();
        tapped.proxy.heal();
        let mut next = tapped.run(&format!("next{nth}"));
        assert_eq!(next.exit(DEADLINE).await, 0, "{point}\n{}", next.tail());
        tapped.assert_done(nth, &point).await;
        points.push(point);
    }
    let short = |point: &String| point.split_once('_').map_or(point.as_str(), |(_, name)| name).chars().take(70).collect::<String>();
    println!("killed at {} statements:\n{}", points.len(), points.iter().map(short).collect::<Vec<_>>().join("\n"));
    // All were met, the commits of both databases among them.
    for (service, table) in [("shop", "orders"), ("shipping", "parcels")] {
        let of = |word: &str| points.iter().filter(|point| point.contains(&format!("{service}: {word}"))).count();
        assert!(of("COMMIT") >= 2, "commits in {service}: {points:#?}");
        assert!(points.iter().any(|point| point.contains(&format!("{service}: ")) && point.contains(table)), "{table}: {points:#?}");
    }
    let last = i64::try_from(points.len()).expect("not so many");
    assert!((10..ALL / 2).contains(&last), "every statement had its turn: {last}");
}
