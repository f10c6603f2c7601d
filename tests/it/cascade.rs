//! A delete in one service's database reaches the others.

use crate::support::local::Local;

pub(crate) const RULES: &str = "
version: 1
mode: enforce
entities:
  - { name: crm.customer, table: customers, key: id, topic: crm.main.customers }
  - { name: shop.order, table: orders, key: id, topic: shop.main.orders }
  - { name: shipping.parcel, table: parcels, key: [order_id, number] }
references:
  - { name: order_customer, child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade }
  - { name: parcel_order, child: shipping.parcel, columns: order_id, parent: shop.order, on_delete: cascade }
replicas:
  - { name: shop.customer_copy, of: crm.customer, table: customer_copy, columns: { id: id, name: name } }
";

pub(crate) const SERVICES: [(&str, &str); 3] = [
    ("crm", "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)"),
    (
        "shop",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER); CREATE INDEX orders_customer ON orders (customer_id);
         CREATE TABLE customer_copy (id INTEGER PRIMARY KEY, name TEXT)",
    ),
    ("shipping", "CREATE TABLE parcels (order_id INTEGER, number INTEGER, PRIMARY KEY (order_id, number))"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_reaches_two_other_databases_and_a_copy() {
    let local = Local::new(RULES, &SERVICES).await;
    local.execute("crm", "INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob')").await;
    local.execute("shop", "INSERT INTO orders VALUES (10, 1), (11, 1), (20, 2)").await;
    local.execute("shipping", "INSERT INTO parcels VALUES (10, 1), (10, 2), (20, 1)").await;
    let running = local.start().await;
    local.until("the copy is filled", "shop", "SELECT id, name FROM customer_copy ORDER BY id", &["1|Ann", "2|Bob"]).await;
    local.execute("crm", "DELETE FROM customers WHERE id = 1").await;
    local.until("the orders go", "shop", "SELECT id FROM orders ORDER BY id", &["20"]).await;
    local.until("the parcels go", "shipping", "SELECT order_id, number FROM parcels", &["20|1"]).await;
    local.until("the copy follows", "shop", "SELECT id FROM customer_copy", &["2"]).await;
    let archived = "SELECT entity, row_key FROM entail_archive ORDER BY row_key";
    assert_eq!(local.lines("shop", archived).await, ["shop.order|[\"10\"]", "shop.order|[\"11\"]"]);
    let accounts = running.stop().await;
    assert_eq!(accounts.rows["order_customer"], 2);
    assert_eq!(accounts.rows["parcel_order"], 2);
    local.stage.close().await;
}
