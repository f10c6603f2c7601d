//! What hangs on a root, counted in pages before the first of it goes (H79).

use std::collections::BTreeMap;

use entail::engine::{Authority, Batch, Counted, Extent, Portion, Retry};

use crate::large::LEVELS;
use crate::support::world::*;

/// Roots are large from three rows on, and within their limits.
fn rules() -> String {
    LEVELS.replace("rows_per_event: 130", "rows_per_event: 1000")
}

/// Customer 3 has five orders, of which three are each other's parents; two more hang on those. Each of the seven has three lines.
async fn shop(postgres: bool, rules: &str) -> World {
    shop_with(postgres, rules, "").await
}

async fn shop_with(postgres: bool, rules: &str, more: &str) -> World {
    let parents = [
        (100, "3", "102"),
        (101, "3", "100"),
        (102, "3", "101"),
        (103, "3", "NULL"),
        (104, "3", "NULL"),
        (105, "NULL", "100"),
        (106, "NULL", "105"),
    ];
    let orders = parents.map(|(id, customer, parent)| {
        let lines: String = (0..3).map(|number| format!("INSERT INTO lines VALUES ({id}, {number}, '');")).collect();
        format!("INSERT INTO orders VALUES ({id}, {customer}, {parent}); {lines}")
    });
    let mut world = World::new(postgres, CUSTOMERS, &format!("{ORDERS}{}{more}", orders.concat()), rules).await;
    sql(&world.shop, "INSERT INTO entail_progress (group_id, topic, \"partition\", epoch, next_offset, rules) VALUES ('it', 'crm.customers', 0, 1, 3, '')").await;
    world.engine.rows_per_portion = 2;
    world.gone(3).await;
    world
}

async fn counted(world: &mut World, page: usize, most: u64) -> Counted {
    world.engine.keys_per_page = page;
    let pending = world.pending().await.pop().expect("a pending root");
    world.engine.count(&pending, most).await.expect("counts")
}

/// By the name of the reference.
fn by_name(world: &World, counted: &Counted) -> BTreeMap<String, u64> {
    counted.per_edge.iter().map(|(edge, rows)| (world.engine.model.graph.edge(*edge).name.clone(), *rows)).collect()
}

fn told(rows: &[(&str, u64)]) -> BTreeMap<String, u64> {
    rows.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h79_a_count_in_pages_of_any_size_is_the_same() {
    for postgres in [false, true] {
        let mut world = shop(postgres, &rules()).await;
        for page in [1, 2, 3, 4, 5, 7, 20, 21, 10_000] {
            let counted = counted(&mut world, page, u64::MAX).await;
            assert_eq!((counted.rows(), counted.is_over, counted.refusal), (28, false, None), "postgres: {postgres}, {page}");
            let by_name = by_name(&world, &counted);
            assert_eq!(by_name.get("line_order"), Some(&21), "postgres: {postgres}, {page}");
            assert_eq!(by_name.get("order_customer").unwrap_or(&0) + by_name.get("order_parent").unwrap_or(&0), 7, "{by_name:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h79_a_count_ends_above_the_most_and_not_at_it() {
    for postgres in [false, true] {
        let mut world = shop(postgres, &rules()).await;
        for page in [2, 10_000] {
            let exact = counted(&mut world, page, 28).await;
            assert_eq!((exact.rows(), exact.is_over), (28, false), "postgres: {postgres}, {page}");
            let over = counted(&mut world, page, 27).await;
            assert_eq!((over.rows(), over.is_over), (28, true), "postgres: {postgres}, {page}");
            let early = counted(&mut world, page, 1).await;
            assert!(early.is_over && (2..28).contains(&early.rows()), "postgres: {postgres}, {page}: {early:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h79_a_count_leaves_out_what_is_in_shadow_or_stays_and_ends_at_what_refuses() {
    for postgres in [false, true] {
        for page in [1, 10_000] {
            let of_lines = |action: &str| {
                rules().replace(
                    "columns: order_id, parent: shop.order, on_delete: cascade",
                    &format!("columns: order_id, parent: shop.order, {action}"),
                )
            };
            let mut world = shop(postgres, &of_lines("mode: shadow, on_delete: cascade")).await;
            let counted_in_shadow = counted(&mut world, page, u64::MAX).await;
            assert_eq!(counted_in_shadow.rows(), 7, "postgres: {postgres}, {page}");
            let mut world = shop(postgres, &of_lines("on_delete: no_action")).await;
            let untouched = counted(&mut world, page, u64::MAX).await;
            assert_eq!((untouched.rows(), untouched.per_edge.len()), (7, by_name(&world, &untouched).len()));
            assert!(!by_name(&world, &untouched).contains_key("line_order"));
            let mut world = shop(postgres, &of_lines("on_delete: restrict")).await;
            let refused = counted(&mut world, page, u64::MAX).await;
            let name = refused.refusal.map(|edge| world.engine.model.graph.edge(edge).name.clone());
            assert_eq!(name.as_deref(), Some("line_order"), "postgres: {postgres}, {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_names_no_reference_without_rows() {
    let mut world = shop(true, &rules()).await;
    sql(&world.shop, "DELETE FROM lines; UPDATE orders SET parent = NULL").await;
    let counted = counted(&mut world, 10_000, u64::MAX).await;
    assert_eq!(by_name(&world, &counted), told(&[("order_customer", 5)]));
}

/// More rows than a rehearsal reads: they are counted, whatever their number.
#[tokio::test(flavor = "multi_thread")]
async fn h79_what_is_too_large_to_be_read_is_counted_for_its_release() {
    const MANY: u64 = 100_001;
    for postgres in [false, true] {
        let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < {})", MANY + 2);
        let more = format!("{numbers} INSERT INTO lines SELECT 100, i, '' FROM n;");
        let mut world = shop_with(postgres, &rules(), &more).await;
        let over = counted(&mut world, 10_000, 1000).await;
        assert!(over.is_over);
        let pending = world.pending().await.pop().expect("a pending root");
        let batch =
            Batch { retries: vec![Retry { pending, proven: None }], extent: Extent::Portion(Portion::first(over)), ..Batch::default() };
        let report = world.engine.work(&batch, Authority::Replay { apply: true }).await.expect("works");
        let scope = report.latched.first().expect("a latch").scope.clone();
        let name = scope.strip_prefix("reference:").expect("a reference");
        let rehearsal = entail::release::rehearse(&world.engine, name, &|_| {}).await.expect("rehearses");
        assert_eq!(rehearsal.rows.values().sum::<u64>(), 28 + MANY, "postgres: {postgres}: {rehearsal:?}");
        assert_eq!((rehearsal.roots, rehearsal.parked.len()), (1, 0));
        let tables = [(("shop.line".to_owned(), "delete"), 21 + MANY), (("shop.order".to_owned(), "delete"), 7)];
        assert_eq!(rehearsal.tables, tables.into());
    }
}
