//! References that point the wrong way, or at the wrong table, over tables whose keys are all the same small numbers.

use std::collections::BTreeSet;

use entail::model::Code;

use super::{Good, look, serious};
use crate::support::postgres;

/// (entity, table)
const ENTITIES: [(&str, &str); 10] = [
    ("crm.customer", "customers"),
    ("crm.address", "addresses"),
    ("crm.employee", "employees"),
    ("crm.department", "departments"),
    ("shop.category", "categories"),
    ("shop.product", "products"),
    ("shop.order", "orders"),
    ("shop.order_item", "order_items"),
    ("shop.payment", "payments"),
    ("shop.supplier", "suppliers"),
];

/// (child, column, parent): how they really hang together.
const RIGHT: [(&str, &str, &str); 11] = [
    ("crm.address", "customer_id", "crm.customer"),
    ("crm.employee", "department_id", "crm.department"),
    ("crm.customer", "account_manager_id", "crm.employee"),
    ("shop.product", "category_id", "shop.category"),
    ("shop.product", "supplier_id", "shop.supplier"),
    ("shop.order", "customer_id", "crm.customer"),
    ("shop.order", "shipping_address_id", "crm.address"),
    ("shop.order_item", "order_id", "shop.order"),
    ("shop.order_item", "product_id", "shop.product"),
    ("shop.payment", "order_id", "shop.order"),
    ("shop.payment", "customer_id", "crm.customer"),
];

/// The same columns, pointed at another table.
const MISDIRECTED: [(&str, &str, &str); 10] = [
    ("crm.address", "customer_id", "crm.employee"),
    ("crm.employee", "department_id", "crm.customer"),
    ("shop.product", "category_id", "shop.supplier"),
    ("shop.product", "supplier_id", "shop.category"),
    ("shop.order", "customer_id", "shop.supplier"),
    ("shop.order", "shipping_address_id", "crm.customer"),
    ("shop.order_item", "order_id", "shop.payment"),
    ("shop.order_item", "product_id", "shop.category"),
    ("shop.payment", "order_id", "shop.order_item"),
    ("shop.payment", "customer_id", "shop.order"),
];

const CRM: &str = "
    CREATE TABLE departments (id bigint PRIMARY KEY, name text);
    CREATE TABLE employees (id bigint PRIMARY KEY, department_id bigint, name text); CREATE INDEX ON employees (department_id);
    CREATE TABLE customers (id bigint PRIMARY KEY, account_manager_id bigint, name text); CREATE INDEX ON customers (account_manager_id);
    CREATE TABLE addresses (id bigint PRIMARY KEY, customer_id bigint, town text); CREATE INDEX ON addresses (customer_id);
    INSERT INTO departments SELECT n FROM generate_series(1, 40) AS n;
    INSERT INTO employees SELECT n, n % 40 + 1 FROM generate_series(1, 40) AS n;
    INSERT INTO customers SELECT n, n % 40 + 1 FROM generate_series(1, 40) AS n;
    INSERT INTO addresses SELECT n, n % 40 + 1 FROM generate_series(1, 40) AS n;";

const SHOP: &str = "
    CREATE TABLE suppliers (id bigint PRIMARY KEY, name text);
    CREATE TABLE categories (id bigint PRIMARY KEY, name text);
    CREATE TABLE products (id bigint PRIMARY KEY, category_id bigint, supplier_id bigint);
    CREATE INDEX ON products (category_id); CREATE INDEX ON products (supplier_id);
    CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, shipping_address_id bigint);
    CREATE INDEX ON orders (customer_id); CREATE INDEX ON orders (shipping_address_id);
    CREATE TABLE order_items (id bigint PRIMARY KEY, order_id bigint, product_id bigint);
    CREATE INDEX ON order_items (order_id); CREATE INDEX ON order_items (product_id);
    CREATE TABLE payments (id bigint PRIMARY KEY, order_id bigint, customer_id bigint);
    CREATE INDEX ON payments (order_id); CREATE INDEX ON payments (customer_id);
    INSERT INTO suppliers SELECT n FROM generate_series(1, 40) AS n;
    INSERT INTO categories SELECT n FROM generate_series(1, 40) AS n;
    INSERT INTO products SELECT n, n % 40 + 1, n % 40 + 1 FROM generate_series(1, 40) AS n;
    INSERT INTO orders SELECT n, n % 40 + 1, n % 40 + 1 FROM generate_series(1, 40) AS n;
    INSERT INTO order_items SELECT n, n % 40 + 1, n % 40 + 1 FROM generate_series(1, 40) AS n;
    INSERT INTO payments SELECT n, n % 40 + 1, n % 40 + 1 FROM generate_series(1, 40) AS n;";

/// What says that a reference points the wrong way or at the wrong table.
const TELLING: [Code; 4] = [Code::ParentNotUnique, Code::ChildUnique, Code::OtherName, Code::NoParents];

/// A rules file of one reference. `parent_columns` are the parent's key if empty.
fn rules((child, column, parent): (&str, &str, &str), parent_columns: &str) -> String {
    let mut text = "version: 1\nmode: shadow\nentities:\n".to_owned();
    for (entity, table) in ENTITIES {
        text += &format!("  - {{ name: {entity}, table: {table}, key: id, topic: {entity} }}\n");
    }
    let columns = if parent_columns.is_empty() { String::new() } else { format!(", parent_columns: {parent_columns}") };
    text + &format!("references:\n  - {{ name: it, child: {child}, columns: {column}, parent: {parent}{columns}, on_delete: cascade }}\n")
}

/// Issue 5, line 2. All keys are the numbers 1 to 40, so that no look at the rows can tell one table from another.
#[tokio::test(flavor = "multi_thread")]
async fn h57_reversed_and_misdirected_references_are_flagged() {
    let bed = crate::support::bed::Bed::from_env();
    let (crm, shop) = (bed.create_database("crm").await, bed.create_database("shop").await);
    postgres::execute(&crm, CRM).await;
    postgres::execute(&shop, SHOP).await;
    let role = bed.name("nobody");
    let good = Good { bed, crm, shop, role };
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (child, column, parent) in RIGHT {
        // As it is, reversed over the same columns, and reversed over both keys.
        let cases = [((child, column, parent), "", false), ((parent, "id", child), column, true), ((parent, "id", child), "", true)];
        for (reference, parent_columns, is_wrong) in cases {
            tried += usize::from(is_wrong);
            wrong.extend(judge(&good, reference, parent_columns, is_wrong).await);
        }
    }
    for reference in MISDIRECTED {
        tried += 1;
        wrong.extend(judge(&good, reference, "", true).await);
    }
    eprintln!("{tried} wrong references and {} right ones: {} judged wrongly", RIGHT.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn judge(good: &Good, reference: (&str, &str, &str), parent_columns: &str, is_wrong: bool) -> Option<String> {
    let rules = rules(reference, parent_columns);
    let (_dir, config) = good.config(&rules, &[&good.crm, &good.shop], |text| text.replace(", access: read", ""));
    let mut report = look(&rules, &config, false).await;
    report.problems.retain(|(_, problem)| TELLING.contains(&problem.code));
    let told: BTreeSet<Code> = serious(&report).iter().map(|problem| problem.code).collect();
    (told.is_empty() == is_wrong).then(|| format!("{reference:?} ({parent_columns}): told {told:?}"))
}
