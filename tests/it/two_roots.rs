//! Rows that several roots of one batch reach: each root answers for its own part, and can be undone without the others.

use entail::engine::{Authority, Batch, Report};
use entail::undo::OnConflict;

use crate::support::world::*;

const CRM: &str = "
CREATE TABLE customers (id bigint PRIMARY KEY); INSERT INTO customers VALUES (1), (2);
CREATE TABLE coupons (id bigint PRIMARY KEY); INSERT INTO coupons VALUES (3), (4);
";
const SHOP: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, coupon bigint, customer bigint); INSERT INTO orders VALUES (70, 3, 1), (71, 4, 2);
CREATE INDEX ocp ON orders (coupon); CREATE INDEX ocu ON orders (customer);
CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint); INSERT INTO parcels VALUES (700, 70), (710, 71); CREATE INDEX po ON parcels (order_id);
";
const ORDERS: &str = "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(coupon AS TEXT), '-') || '|' || coalesce(CAST(customer AS TEXT), '-') FROM orders ORDER BY id";
const PARCELS: &str = "SELECT CAST(id AS TEXT) FROM parcels ORDER BY id";

fn rules(customer: &str) -> String {
    format!(
        "
version: 1
mode: enforce
entities:
  - {{ name: crm.coupon, table: coupons, key: id, topic: crm.coupons }}
  - {{ name: crm.customer, table: customers, key: id, topic: crm.customers }}
  - {{ name: shop.order, table: orders, key: id, topic: shop.orders }}
  - {{ name: shop.parcel, table: parcels, key: id }}
references:
  - {{ name: order_coupon, child: shop.order, columns: coupon, parent: crm.coupon, on_delete: set_null }}
  - {{ name: order_customer, child: shop.order, columns: customer, parent: crm.customer, on_delete: {customer} }}
  - {{ name: parcel_order, child: shop.parcel, columns: order_id, parent: shop.order, on_delete: cascade }}
"
    )
}

/// Coupon 3 and customer 1 go, and one batch tells of both.
async fn both_gone(world: &World) -> Report {
    sql(&world.crm, "DELETE FROM coupons WHERE id = 3; DELETE FROM customers WHERE id = 1").await;
    let mut batch = Batch::default();
    for (topic, table, id) in [("crm.coupons", "coupons", 3), ("crm.customers", "customers", 1)] {
        let one = world.batch((topic, 5), id, Some(&delete("crm", table, id)));
        batch.events.extend(one.events);
        batch.progress.extend(one.progress);
    }
    let epochs = epochs(world).await;
    world.engine.work(&batch, Authority::Owner(&epochs)).await.expect("works")
}

#[tokio::test(flavor = "multi_thread")]
async fn h24_a_row_belongs_to_the_root_that_removes_it_and_not_to_one_that_only_changes_it() {
    for postgres in [true, false] {
        let world = World::new(postgres, CRM, SHOP, &rules("cascade")).await;
        both_gone(&world).await;
        assert_eq!(lines(&world.shop, ORDERS).await, ["71|4|2"]);
        // The coupon only took its number out of the order.
        let undone = world.undo(rooted("crm.coupon", 3), OnConflict::Fail, false).await;
        assert_eq!(lines(&world.shop, ORDERS).await, ["71|4|2"], "ORPHAN MADE: {:?}", told(&undone));
        let undone = world.undo(root(1), OnConflict::Fail, false).await;
        assert_eq!((undone.left(), lines(&world.shop, PARCELS).await), (0, vec!["700".to_owned(), "710".to_owned()]));
        assert_eq!(
            lines(&world.shop, ORDERS).await,
            ["70|3|1", "71|4|2"],
            "the order stays away, and nothing says so (postgres: {postgres})"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h24_a_row_that_two_roots_change_is_set_back_for_one_of_them_only() {
    for postgres in [true, false] {
        let world = World::new(postgres, CRM, SHOP, &rules("set_null")).await;
        let report = both_gone(&world).await;
        assert_eq!(lines(&world.shop, ORDERS).await, ["70|-|-", "71|4|2"]);
        let per_reference: Vec<(&str, u64)> = report.rows.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
        assert_eq!(per_reference, [("order_coupon", 1), ("order_customer", 1)]);
        // The last change of the two first: what is under a change that stays is not touched.
        let last = lines(
            &world.shop,
            "SELECT c.root_entity FROM entail_archive AS a JOIN entail_cascades AS c ON c.cascade_id = a.cascade_id ORDER BY a.id DESC",
        )
        .await;
        let (last, first) = if last[0] == "crm.coupon" { (rooted("crm.coupon", 3), root(1)) } else { (root(1), rooted("crm.coupon", 3)) };
        let refused = world.undo(first.clone(), OnConflict::Fail, false).await;
        assert_eq!((refused.left(), refused.is_written), (1, false), "{:?}", told(&refused));
        let undone = world.undo(last, OnConflict::Fail, false).await;
        assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        let now = lines(&world.shop, ORDERS).await;
        assert!(now[0] == "70|3|-" || now[0] == "70|-|1", "one column, and not the other (postgres: {postgres}): {now:?}");
        let undone = world.undo(first, OnConflict::Fail, false).await;
        assert_eq!(undone.left(), 0, "{:?}", undone.tables);
        assert_eq!(lines(&world.shop, ORDERS).await, ["70|3|1", "71|4|2"]);
    }
}

/// Both roots remove the order, and so both come to what it leaves behind: that comes back with whichever has the order.
#[tokio::test(flavor = "multi_thread")]
async fn h24_what_a_row_that_two_roots_remove_leaves_behind_comes_back_with_it() {
    for postgres in [true, false] {
        let shop = format!(
            "{SHOP}ALTER TABLE parcels ADD customer bigint; CREATE INDEX pc ON parcels (customer); UPDATE parcels SET customer = 1 WHERE id = 700;"
        );
        let rules = rules("cascade").replace("on_delete: set_null", "on_delete: cascade").replace(
            "parent: shop.order, on_delete: cascade }",
            "parent: shop.order, on_delete: set_null }\n  - { name: parcel_customer, child: shop.parcel, columns: customer, parent: crm.customer, on_delete: set_null }",
        );
        let world = World::new(postgres, CRM, &shop, &rules).await;
        both_gone(&world).await;
        let now = "SELECT CAST(id AS TEXT) || '|' || coalesce(CAST(order_id AS TEXT), '-') || '|' || coalesce(CAST(customer AS TEXT), '-') FROM parcels ORDER BY id";
        assert_eq!((lines(&world.shop, ORDERS).await, lines(&world.shop, now).await[0].as_str()), (vec!["71|4|2".to_owned()], "700|-|-"));
        let of_order = "SELECT DISTINCT c.root_entity FROM entail_archive AS a JOIN entail_cascades AS c ON c.cascade_id = a.cascade_id WHERE a.entity = 'shop.order'";
        assert_eq!(lines(&world.shop, of_order).await, ["crm.coupon"], "the first of the two has it");
        let undone = world.undo(rooted("crm.coupon", 3), OnConflict::Skip, false).await;
        assert_eq!(lines(&world.shop, ORDERS).await, ["70|3|1", "71|4|2"]);
        // What the customer alone has changed stays.
        assert_eq!(lines(&world.shop, now).await[0], "700|70|-", "{:?}", told(&undone));
        for other in [root(1), rooted("crm.coupon", 3)] {
            world.undo(other, OnConflict::Skip, false).await;
        }
        world.undo(root(1), OnConflict::Skip, false).await;
        world.undo(rooted("crm.coupon", 3), OnConflict::Skip, false).await;
        assert_eq!(lines(&world.shop, now).await[0], "700|70|1", "postgres: {postgres}");
    }
}
