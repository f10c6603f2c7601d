//! Roots that are parked for long: they must not hide those behind them.

use crate::support::worker::{DEADLINE, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn h85_a_thousand_parked_roots_do_not_hide_the_next() {
    let shop = Shop::open().await;
    let rules = shop.rules().replace("parent: crm.customer, on_delete: cascade", "parent: crm.customer, on_delete: restrict");
    std::fs::write(shop.dir.path().join("rules.yaml"), rules).expect("the rules are written");
    let (all, gone) = (2_300, 2_200);
    shop.load(all, gone, 0).await;
    let run = async |name: &str| {
        let mut worker = shop.run(name, &["--until-end"]);
        assert_eq!(worker.exit(DEADLINE).await, 0, "{}", worker.tail());
        worker.accounts();
    };
    run("first").await;
    let parked = async || shop.count("shipping", "SELECT count(*) FROM entail_pending").await;
    assert_eq!(parked().await, gone, "orders hold every customer");
    // In whatever order pages may come, some of these stand behind the first two thousand.
    for order in ["since DESC, \"offset\" DESC", "root_key DESC", "since, \"offset\"", "root_key"] {
        let ids = format!("SELECT root_key::json ->> 0 FROM entail_pending ORDER BY {order} LIMIT 50");
        let ids: Vec<String> = shop.rows("shipping", &ids).await.concat();
        shop.execute("shop", &format!("DELETE FROM orders WHERE customer_id IN ({})", ids.join(", "))).await;
    }
    let held = shop.count("shop", &format!("SELECT count(*) FROM orders WHERE customer_id <= {gone}")).await;
    assert!(held <= gone - 100);
    run("second").await;
    assert_eq!(parked().await, held, "what nothing holds any more is settled, wherever it stands");
}
