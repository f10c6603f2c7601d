-- A shop in three services, numbered without gaps, named as frameworks name things. A table of each service stands behind `-- service`.
-- `-- key: child(columns) -> parent(columns)` is a foreign key that was dropped.
-- service crm
CREATE TABLE countries (code char(2) PRIMARY KEY, name text NOT NULL);
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, country_code char(2) NOT NULL, referred_by bigint);
CREATE TABLE addresses (id bigint PRIMARY KEY, customer_id bigint NOT NULL, country_code char(2) NOT NULL, street text);
CREATE TABLE employees (id bigint PRIMARY KEY, name text NOT NULL, manager_id bigint);
CREATE TABLE support_cases (id bigint PRIMARY KEY, customer_id bigint NOT NULL, employee_id bigint, priority int NOT NULL);
-- key: crm.customers(country_code) -> crm.countries(code)
-- key: crm.customers(referred_by) -> crm.customers(id)
-- key: crm.addresses(customer_id) -> crm.customers(id)
-- key: crm.addresses(country_code) -> crm.countries(code)
-- key: crm.employees(manager_id) -> crm.employees(id)
-- key: crm.support_cases(customer_id) -> crm.customers(id)
-- key: crm.support_cases(employee_id) -> crm.employees(id)
INSERT INTO countries SELECT chr(65 + n / 26) || chr(65 + n % 26), 'country ' || n FROM generate_series(0, 59) AS n;
INSERT INTO customers SELECT n, 'customer ' || n, chr(65 + (n % 60) / 26) || chr(65 + (n % 60) % 26), CASE WHEN n % 3 = 0 THEN 1 + (n * 7) % 900 END FROM generate_series(1, 900) AS n;
INSERT INTO addresses SELECT n, 1 + (n * 11) % 900, chr(65 + (n % 60) / 26) || chr(65 + (n % 60) % 26), 'street ' || n FROM generate_series(1, 1500) AS n;
INSERT INTO employees SELECT n, 'employee ' || n, CASE WHEN n > 1 THEN 1 + (n * 5) % 40 END FROM generate_series(1, 40) AS n;
INSERT INTO support_cases SELECT n, 1 + (n * 13) % 900, 1 + n % 40, n % 5 FROM generate_series(1, 700) AS n;
-- service shop
CREATE TABLE categories (id bigint PRIMARY KEY, parent_id bigint, title text NOT NULL);
CREATE TABLE products (id bigint PRIMARY KEY, sku text NOT NULL UNIQUE, category_id bigint NOT NULL, price_cents int NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, billing_address_id bigint NOT NULL, status text NOT NULL, total_cents int NOT NULL);
CREATE TABLE order_items (order_id bigint NOT NULL, position int NOT NULL, product_id bigint NOT NULL, quantity int NOT NULL, PRIMARY KEY (order_id, position));
CREATE TABLE reviews (id bigint PRIMARY KEY, product_id bigint NOT NULL, author_id bigint NOT NULL, rating int NOT NULL);
-- key: shop.categories(parent_id) -> shop.categories(id)
-- key: shop.products(category_id) -> shop.categories(id)
-- key: shop.orders(customer_id) -> crm.customers(id)
-- key: shop.orders(billing_address_id) -> crm.addresses(id)
-- key: shop.order_items(order_id) -> shop.orders(id)
-- key: shop.order_items(product_id) -> shop.products(id)
-- key: shop.reviews(product_id) -> shop.products(id)
-- key: shop.reviews(author_id) -> crm.customers(id)
INSERT INTO categories SELECT n, CASE WHEN n > 5 THEN 1 + n % 25 END, 'category ' || n FROM generate_series(1, 25) AS n;
INSERT INTO products SELECT n, 'SKU-' || n, 1 + n % 25, 100 + n FROM generate_series(1, 300) AS n;
INSERT INTO orders SELECT n, 1 + (n * 17) % 900, 1 + (n * 19) % 1500, CASE n % 3 WHEN 0 THEN 'open' WHEN 1 THEN 'paid' ELSE 'sent' END, n * 10 FROM generate_series(1, 2000) AS n;
INSERT INTO order_items SELECT 1 + n % 2000, 1 + n / 2000, 1 + (n * 7) % 300, 1 + n % 4 FROM generate_series(0, 4999) AS n;
INSERT INTO reviews SELECT n, 1 + (n * 3) % 300, 1 + (n * 23) % 900, 1 + n % 5 FROM generate_series(1, 1200) AS n;
-- service shipping
CREATE TABLE carriers (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE warehouses (id bigint PRIMARY KEY, country_code char(2) NOT NULL);
CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint NOT NULL, carrier_id bigint NOT NULL, weight_grams int NOT NULL);
CREATE TABLE parcel_items (id bigint PRIMARY KEY, parcel_id bigint NOT NULL, order_id bigint NOT NULL, position int NOT NULL);
CREATE TABLE stock (warehouse_id bigint NOT NULL, product_id bigint NOT NULL, quantity int NOT NULL, PRIMARY KEY (warehouse_id, product_id));
-- key: shipping.warehouses(country_code) -> crm.countries(code)
-- key: shipping.parcels(order_id) -> shop.orders(id)
-- key: shipping.parcels(carrier_id) -> shipping.carriers(id)
-- key: shipping.parcel_items(parcel_id) -> shipping.parcels(id)
-- key: shipping.parcel_items(order_id) -> shop.orders(id)
-- key: shipping.parcel_items(order_id, position) -> shop.order_items(order_id, position)
-- key: shipping.stock(warehouse_id) -> shipping.warehouses(id)
-- key: shipping.stock(product_id) -> shop.products(id)
INSERT INTO carriers SELECT n, 'carrier ' || n FROM generate_series(1, 4) AS n;
INSERT INTO warehouses SELECT n, chr(65 + n / 26) || chr(65 + n % 26) FROM generate_series(1, 8) AS n;
INSERT INTO parcels SELECT n, 1 + (n * 3) % 2000, 1 + n % 4, 100 + n FROM generate_series(1, 1800) AS n;
INSERT INTO parcel_items SELECT n, 1 + n % 1800, 1 + ((1 + n % 1800) * 3) % 2000, 1 + n % 2 FROM generate_series(1, 3600) AS n;
INSERT INTO stock SELECT 1 + n % 8, 1 + n / 8, n % 50 FROM generate_series(0, 2399) AS n;
