-- An old system: short names, numbers of documents with gaps, prefixes, columns that are keys without saying so, and columns that only look like it.
-- service master
CREATE TABLE tbl_cust (cust_no int PRIMARY KEY, cust_name text NOT NULL, rep_no int, cust_group text NOT NULL);
CREATE TABLE tbl_custgroup (grp_code text PRIMARY KEY, discount int NOT NULL);
CREATE TABLE tbl_rep (rep_no int PRIMARY KEY, region text NOT NULL);
CREATE TABLE tbl_vendor (vend_no int PRIMARY KEY, vend_name text NOT NULL, cntry text NOT NULL);
CREATE TABLE tbl_country (iso text PRIMARY KEY, descr text NOT NULL);
-- key: master.tbl_cust(rep_no) -> master.tbl_rep(rep_no)
-- key: master.tbl_cust(cust_group) -> master.tbl_custgroup(grp_code)
-- key: master.tbl_vendor(cntry) -> master.tbl_country(iso)
INSERT INTO tbl_custgroup VALUES ('A', 10), ('B', 5), ('C', 0), ('D', 0), ('E', 1), ('F', 2);
INSERT INTO tbl_rep SELECT 100 + n * 7, 'region ' || n % 6 FROM generate_series(1, 30) AS n;
INSERT INTO tbl_cust SELECT 10000 + n * 13, 'customer ' || n, 100 + (1 + n % 30) * 7, chr(65 + n % 6) FROM generate_series(1, 800) AS n;
INSERT INTO tbl_country SELECT 'X' || n, 'country ' || n FROM generate_series(1, 40) AS n;
INSERT INTO tbl_vendor SELECT 70000 + n * 3, 'vendor ' || n, 'X' || (1 + n % 40) FROM generate_series(1, 120) AS n;
-- service stock
CREATE TABLE tbl_article (art_no text PRIMARY KEY, descr text NOT NULL, uom text NOT NULL, main_vendor int);
CREATE TABLE tbl_unit (uom text PRIMARY KEY, factor int NOT NULL);
CREATE TABLE tbl_loc (loc_id int PRIMARY KEY, hall text NOT NULL);
CREATE TABLE tbl_inventory (loc_id int NOT NULL, art_no text NOT NULL, qty int NOT NULL, PRIMARY KEY (loc_id, art_no));
CREATE TABLE tbl_move (move_no bigint PRIMARY KEY, art_no text NOT NULL, from_loc int, to_loc int, qty int NOT NULL);
-- key: stock.tbl_article(uom) -> stock.tbl_unit(uom)
-- key: stock.tbl_article(main_vendor) -> master.tbl_vendor(vend_no)
-- key: stock.tbl_inventory(loc_id) -> stock.tbl_loc(loc_id)
-- key: stock.tbl_inventory(art_no) -> stock.tbl_article(art_no)
-- key: stock.tbl_move(art_no) -> stock.tbl_article(art_no)
-- key: stock.tbl_move(from_loc) -> stock.tbl_loc(loc_id)
-- key: stock.tbl_move(to_loc) -> stock.tbl_loc(loc_id)
INSERT INTO tbl_unit VALUES ('pc', 1), ('kg', 1000), ('m', 1), ('l', 1), ('box', 12), ('pal', 480);
INSERT INTO tbl_article SELECT 'ART' || n, 'article ' || n, (ARRAY['pc', 'kg', 'm', 'l', 'box'])[1 + n % 5], CASE WHEN n % 4 > 0 THEN 70000 + (1 + n % 120) * 3 END FROM generate_series(1, 500) AS n;
INSERT INTO tbl_loc SELECT 1000 + n * 10, 'hall ' || n % 4 FROM generate_series(1, 60) AS n;
INSERT INTO tbl_inventory SELECT 1000 + (1 + n % 60) * 10, 'ART' || (1 + n / 60), n % 100 FROM generate_series(0, 5999) AS n;
INSERT INTO tbl_move SELECT 900000 + n, 'ART' || (1 + n % 500), 1000 + (1 + n % 60) * 10, CASE WHEN n % 2 = 0 THEN 1000 + (1 + (n * 7) % 60) * 10 END, n % 20 FROM generate_series(1, 2500) AS n;
-- service sales
CREATE TABLE so_head (so_no bigint PRIMARY KEY, cust_no int NOT NULL, ship_to int, net_value int NOT NULL);
CREATE TABLE so_item (so_no bigint NOT NULL, pos int NOT NULL, art_no text NOT NULL, qty int NOT NULL, PRIMARY KEY (so_no, pos));
CREATE TABLE dlv_head (dlv_no bigint PRIMARY KEY, so_no bigint NOT NULL, carrier text);
CREATE TABLE dlv_item (dlv_no bigint NOT NULL, pos int NOT NULL, so_no bigint NOT NULL, so_pos int NOT NULL, PRIMARY KEY (dlv_no, pos));
CREATE TABLE inv_head (inv_no bigint PRIMARY KEY, dlv_no bigint, cust_no int NOT NULL, due_days int NOT NULL);
-- key: sales.so_head(cust_no) -> master.tbl_cust(cust_no)
-- key: sales.so_head(ship_to) -> master.tbl_cust(cust_no)
-- key: sales.so_item(so_no) -> sales.so_head(so_no)
-- key: sales.so_item(art_no) -> stock.tbl_article(art_no)
-- key: sales.dlv_head(so_no) -> sales.so_head(so_no)
-- key: sales.dlv_item(dlv_no) -> sales.dlv_head(dlv_no)
-- key: sales.dlv_item(so_no) -> sales.so_head(so_no)
-- key: sales.dlv_item(so_no, so_pos) -> sales.so_item(so_no, pos)
-- key: sales.inv_head(dlv_no) -> sales.dlv_head(dlv_no)
-- key: sales.inv_head(cust_no) -> master.tbl_cust(cust_no)
INSERT INTO so_head SELECT 4500000 + n * 2, 10000 + (1 + n % 800) * 13, CASE WHEN n % 5 = 0 THEN 10000 + (1 + (n * 3) % 800) * 13 END, n FROM generate_series(1, 1500) AS n;
INSERT INTO so_item SELECT 4500000 + (1 + n % 1500) * 2, 10 * (1 + n / 1500), 'ART' || (1 + n % 500), 1 + n % 9 FROM generate_series(0, 4499) AS n;
INSERT INTO dlv_head SELECT 8000000 + n * 3, 4500000 + (1 + n % 1500) * 2, 'carrier ' || n % 3 FROM generate_series(1, 1200) AS n;
INSERT INTO dlv_item SELECT 8000000 + (1 + n % 1200) * 3, 1 + n / 1200, 4500000 + (1 + (1 + n % 1200) % 1500) * 2, 10 FROM generate_series(0, 2399) AS n;
INSERT INTO inv_head SELECT 9000000 + n, CASE WHEN n % 6 > 0 THEN 8000000 + (1 + n % 1200) * 3 END, 10000 + (1 + (n * 7) % 800) * 13, 14 + n % 3 FROM generate_series(1, 1100) AS n;
