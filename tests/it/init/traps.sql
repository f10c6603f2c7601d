-- What looks like a reference and is none; each of these was proposed once, or stopped the whole command.
-- service crm
CREATE TABLE customers (id uuid PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE countries (code text PRIMARY KEY, display_name text NOT NULL);
CREATE TABLE languages (code text PRIMARY KEY, label text NOT NULL);
CREATE TABLE pages (id int PRIMARY KEY, slug text NOT NULL UNIQUE, lang text NOT NULL, category_slug text NOT NULL);
CREATE TABLE categories (id int PRIMARY KEY, slug text NOT NULL UNIQUE, parent_slug text);
CREATE TABLE people (id int PRIMARY KEY, username text NOT NULL UNIQUE, first_name text NOT NULL);
CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text NOT NULL, aggregate_id text NOT NULL);
-- key: crm.pages(category_slug) -> crm.categories(slug)
-- key: crm.categories(parent_slug) -> crm.categories(slug)
INSERT INTO customers SELECT md5('c' || n)::uuid, 'c' || n || '@example.org' FROM generate_series(1, 60) AS n;
INSERT INTO countries SELECT chr(65 + n / 26) || chr(65 + n % 26), chr(65 + n / 26) || chr(65 + n % 26) FROM generate_series(0, 59) AS n;
INSERT INTO languages SELECT chr(65 + n / 26) || chr(65 + n % 26), 'language ' || n FROM generate_series(0, 59) AS n;
INSERT INTO categories SELECT n, 'category-' || n, CASE WHEN n > 1 THEN 'category-' || n / 2 END FROM generate_series(1, 8) AS n;
INSERT INTO pages SELECT n, 'page-' || n, chr(65 + (n % 60) / 26) || chr(65 + (n % 60) % 26), 'category-' || 1 + n % 4 FROM generate_series(1, 200) AS n;
INSERT INTO people SELECT n, 'name' || n, 'name' || n FROM generate_series(1, 50) AS n;
INSERT INTO outbox SELECT n, 'customer', n::text FROM generate_series(1, 50) AS n;
-- service shop
CREATE TABLE customers (id uuid PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE grades (code text PRIMARY KEY);
CREATE TABLE accounts (id bigint PRIMARY KEY, label text NOT NULL);
CREATE TABLE payments (id bigint PRIMARY KEY, account_id bigint NOT NULL, account_type text NOT NULL, energy_class text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer_id text NOT NULL, rating int NOT NULL);
CREATE TABLE order_lines (order_id int NOT NULL, line_no int NOT NULL, PRIMARY KEY (order_id, line_no));
CREATE TABLE line_notes (note_id int PRIMARY KEY, body text);
CREATE TABLE rates (base text NOT NULL, quote text NOT NULL, day text NOT NULL, PRIMARY KEY (base, quote, day));
-- key: shop.payments(account_id) -> shop.accounts(id)
-- key: shop.order_lines(order_id) -> shop.orders(id)
INSERT INTO customers SELECT md5('c' || n)::uuid, 'c' || n || '@example.org' FROM generate_series(1, 60) AS n;
INSERT INTO grades SELECT chr(64 + n) FROM generate_series(1, 6) AS n;
INSERT INTO accounts SELECT n, 'account ' || n FROM generate_series(1, 90) AS n;
INSERT INTO payments SELECT n, 1 + n % 90, CASE n % 2 WHEN 0 THEN 'checking' ELSE 'savings' END, chr(65 + n % 6) FROM generate_series(1, 400) AS n;
INSERT INTO orders SELECT n, 'legacy-' || n, 1 + n % 5 FROM generate_series(1, 120) AS n;
INSERT INTO order_lines SELECT 1 + n / 3, 1 + n % 3 FROM generate_series(0, 359) AS n;
INSERT INTO line_notes SELECT n, 'note' FROM generate_series(1, 150) AS n;
INSERT INTO rates SELECT 'b' || n % 6, 'q' || n % 5, 'd' || n % 6 FROM generate_series(0, 29) AS n;
