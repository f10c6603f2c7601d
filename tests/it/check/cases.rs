//! Set-ups that are bad in one way each.

use entail::model::Code;

/// The topics of a set-up.
pub(crate) enum Topic {
    /// Those of the good one.
    Good,
    /// The same with one partition each.
    Single,
    /// The same with these settings.
    Own(&'static [(&'static str, &'static str)]),
    /// The customers' topic holds these records.
    Written(&'static [(&'static str, Option<&'static str>)]),
}

/// A set-up that is bad in one way.
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    /// Run by the superuser in a copy of the database; `ROLE` stands for the role.
    pub(crate) crm: &'static str,
    pub(crate) shop: &'static str,
    /// (text, what replaces it) in the rules.
    pub(crate) rules: &'static [(&'static str, &'static str)],
    /// The same in the settings.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) topic: Topic,
    pub(crate) as_superuser: bool,
    /// All of these are found.
    pub(crate) found: &'static [Code],
    /// These may be found beside them: they follow.
    pub(crate) also: &'static [Code],
    /// What one of the problems found says.
    pub(crate) says: &'static str,
}

const GOOD: Bad = Bad {
    name: "",
    crm: "",
    shop: "",
    rules: &[],
    settings: &[],
    topic: Topic::Good,
    as_superuser: false,
    found: &[],
    also: &[],
    says: "",
};

/// Kinds of problems that need a server of their own, and the test that makes one.
pub(crate) const ELSEWHERE: &[(Code, &str)] = &[
    (Code::Standby, "h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused"),
    (Code::NotLogical, "h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused"),
    (Code::SlotLost, "h66_a_standby_a_server_without_a_logical_log_and_a_slot_that_lost_its_place_are_refused"),
    (Code::NewReference, "h78_check_names_a_reference_that_is_new_to_the_group"),
];

pub(crate) const CASES: &[Bad] = &[
    Bad {
        name: "a service without a database",
        settings: &[("  crm: {", "  other: {")],
        found: &[Code::NoDatabase],
        also: &[Code::CopyBlind, Code::MissingRight, Code::NeedlessRight],
        says: "no database for service `crm`",
        ..GOOD
    },
    Bad {
        name: "a database that is not there",
        settings: &[("CRM_URL", "CRM_URL_gone")],
        found: &[Code::Unreachable],
        says: "cannot be asked",
        ..GOOD
    },
    Bad {
        name: "a port on which nobody listens",
        settings: &[("access: read", "access: read }\n  far: { url: \"postgres://x@127.0.0.1:1/x\"")],
        found: &[Code::Unreachable],
        says: "far",
        ..GOOD
    },
    Bad {
        name: "a role that begins read-only",
        shop: "",
        settings: &[("SHOP_URL", "SHOP_URL?options=-c%20default_transaction_read_only%3Don")],
        found: &[Code::ReadOnly],
        says: "read-only",
        ..GOOD
    },
    Bad { name: "no ledger", shop: "DROP TABLE entail_migrations", found: &[Code::NoLedger], says: "entail migrate", ..GOOD },
    Bad {
        name: "an old ledger",
        shop: "DELETE FROM entail_migrations WHERE version = 7",
        found: &[Code::NoLedger],
        says: "entail migrate",
        ..GOOD
    },
    Bad {
        name: "a publication for all tables",
        shop: "DROP PUBLICATION feed; CREATE PUBLICATION feed FOR ALL TABLES",
        found: &[Code::LedgerCaptured],
        says: "the ledger's own tables",
        ..GOOD
    },
    Bad { name: "the superuser", as_superuser: true, found: &[Code::Superuser], says: "`postgres` is a superuser", ..GOOD },
    Bad {
        name: "a misspelt table",
        rules: &[("table: orders", "table: ordes")],
        found: &[Code::NoTable],
        also: &[Code::NeedlessRight],
        says: "did you mean `orders`?",
        ..GOOD
    },
    Bad {
        name: "a table of another schema",
        shop: "CREATE SCHEMA sales; GRANT USAGE ON SCHEMA sales TO ROLE; ALTER TABLE lines SET SCHEMA sales",
        found: &[Code::NoTable],
        says: "did you mean `sales.lines`?",
        ..GOOD
    },
    Bad {
        name: "a schema that may not be used",
        crm: "REVOKE USAGE ON SCHEMA public FROM ROLE, PUBLIC",
        found: &[Code::NoTable],
        also: &[Code::MissingRight, Code::CopyBlind],
        says: "GRANT USAGE ON SCHEMA public TO",
        ..GOOD
    },
    Bad {
        name: "a view",
        shop: "ALTER TABLE notes RENAME TO all_notes; CREATE VIEW notes AS SELECT * FROM all_notes",
        found: &[Code::View],
        also: &[Code::NeedlessRight],
        says: "view",
        ..GOOD
    },
    Bad {
        name: "a view over parents",
        crm: "ALTER TABLE countries RENAME TO all_countries; CREATE VIEW countries AS SELECT * FROM all_countries",
        found: &[Code::View],
        says: "a hidden row looks gone",
        ..GOOD
    },
    Bad { name: "a table with heirs", shop: "CREATE TABLE old_notes () INHERITS (notes)", found: &[Code::Heirs], says: "inherit", ..GOOD },
    Bad {
        name: "a misspelt column",
        rules: &[(
            "columns: customer_id, parent: crm.customer, on_delete: cascade, on_update",
            "columns: custmer_id, parent: crm.customer, on_delete: cascade, on_update",
        )],
        found: &[Code::NoColumn],
        says: "did you mean `customer_id`?",
        ..GOOD
    },
    Bad {
        name: "a misspelt column of a copy",
        rules: &[("name: name", "name: nmae")],
        found: &[Code::NoColumn],
        says: "did you mean `name`?",
        ..GOOD
    },
    Bad {
        name: "a misspelt condition",
        rules: &[("owner_type: customer", "ownertype: customer")],
        found: &[Code::NoColumn],
        also: &[Code::TypeColumn],
        says: "did you mean `owner_type`?",
        ..GOOD
    },
    Bad {
        name: "a key that is not unique",
        shop: "ALTER TABLE notes DROP CONSTRAINT notes_pkey",
        found: &[Code::KeyNotUnique],
        says: "not unique",
        ..GOOD
    },
    Bad {
        name: "a key that is unique in part",
        shop: "ALTER TABLE notes DROP CONSTRAINT notes_pkey; CREATE UNIQUE INDEX ON notes (id) WHERE state IS NULL",
        found: &[Code::KeyNotUnique],
        says: "not partial",
        ..GOOD
    },
    Bad {
        name: "a floating point key",
        shop: "ALTER TABLE orders ALTER customer_id TYPE double precision",
        found: &[Code::InexactKey, Code::TypesDiffer],
        says: "cannot be compared exactly",
        ..GOOD
    },
    Bad {
        name: "a collation that folds case",
        crm: "CREATE COLLATION fold (provider = icu, locale = 'und-u-ks-level2', deterministic = false); ALTER TABLE countries ALTER code TYPE text COLLATE fold",
        found: &[Code::WideCollation],
        says: "collation",
        ..GOOD
    },
    Bad {
        name: "an unlogged parent",
        crm: "DROP PUBLICATION feed; ALTER TABLE countries SET UNLOGGED; CREATE PUBLICATION feed FOR TABLE customers",
        found: &[Code::Unlogged],
        also: &[Code::NotPublished],
        says: "SET LOGGED",
        ..GOOD
    },
    Bad {
        name: "row security on the parent",
        crm: "ALTER TABLE customers ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON customers USING (id > 10)",
        found: &[Code::RowSecurity],
        also: &[Code::Unreachable, Code::MissingRight],
        says: "row security applies",
        ..GOOD
    },
    Bad {
        name: "row security on a child",
        shop: "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        found: &[Code::RowSecurity],
        also: &[Code::Unreachable, Code::MissingRight],
        says: "BYPASSRLS",
        ..GOOD
    },
    Bad {
        name: "a trigger before deletes",
        shop: "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER keep BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION keep()",
        found: &[Code::Trigger],
        says: "trigger `keep`",
        ..GOOD
    },
    Bad {
        name: "a trigger before updates of a copy",
        shop: "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER keep BEFORE UPDATE ON customer_copy FOR EACH ROW EXECUTE FUNCTION keep()",
        found: &[Code::Trigger],
        says: "UPDATE",
        ..GOOD
    },
    Bad {
        name: "a rule instead of deletes",
        shop: "CREATE RULE kept AS ON DELETE TO lines DO INSTEAD NOTHING",
        found: &[Code::RewriteRule],
        says: "rule `kept`",
        ..GOOD
    },
    Bad {
        name: "no right to look parents up",
        crm: "REVOKE SELECT (code) ON countries FROM ROLE",
        found: &[Code::MissingRight],
        also: &[Code::MissingRight],
        says: "SELECT (code) ON public.countries",
        ..GOOD
    },
    Bad {
        name: "no right to delete",
        shop: "REVOKE DELETE ON lines FROM ROLE",
        found: &[Code::MissingRight],
        says: "DELETE ON public.lines",
        ..GOOD
    },
    Bad {
        name: "no right to lock",
        shop: "REVOKE UPDATE ON lines FROM ROLE; REVOKE UPDATE (order_id) ON lines FROM ROLE",
        found: &[Code::MissingRight],
        also: &[Code::MissingUndoRight],
        says: "UPDATE (order_id) ON public.lines",
        ..GOOD
    },
    Bad {
        name: "no right on the ledger",
        shop: "REVOKE INSERT ON entail_archive FROM ROLE",
        found: &[Code::MissingRight],
        says: "INSERT ON entail_archive",
        ..GOOD
    },
    Bad {
        name: "no right to undo",
        shop: "REVOKE INSERT ON profiles FROM ROLE",
        found: &[Code::MissingUndoRight],
        says: "INSERT ON public.profiles",
        ..GOOD
    },
    Bad {
        name: "a right to change what no rule changes",
        shop: "GRANT DELETE ON audit TO ROLE",
        found: &[Code::NeedlessRight],
        says: "DELETE",
        ..GOOD
    },
    Bad {
        name: "a right for everybody",
        shop: "GRANT TRUNCATE ON orders TO PUBLIC",
        found: &[Code::NeedlessRight],
        says: "TRUNCATE",
        ..GOOD
    },
    Bad {
        name: "a right beyond what a rule does",
        shop: "GRANT DELETE ON notes TO ROLE",
        found: &[Code::NeedlessRight],
        says: "DELETE",
        ..GOOD
    },
    Bad { name: "the tables' owner", shop: "ALTER TABLE notes OWNER TO ROLE", found: &[Code::OwnsTable], says: "owns the table", ..GOOD },
    Bad {
        name: "a reversed reference",
        rules: &[(
            "child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade, on_update: cascade",
            "child: shop.note, columns: id, parent: shop.order, parent_columns: customer_id, on_delete: no_action",
        )],
        found: &[Code::ParentNotUnique],
        also: &[Code::NotLogged, Code::ChildUnique, Code::Orphans],
        says: "right way round",
        ..GOOD
    },
    Bad {
        name: "a parent's column that is not unique",
        rules: &[("parent: crm.country, on_delete", "parent: crm.customer, parent_columns: kind, on_delete")],
        found: &[Code::ParentNotUnique],
        also: &[Code::NotLogged, Code::OtherName, Code::Orphans, Code::DefaultWithoutParent],
        says: "not unique",
        ..GOOD
    },
    Bad {
        name: "number and text",
        shop: "ALTER TABLE notes ALTER reader_id TYPE uuid USING NULL",
        found: &[Code::TypesDiffer],
        says: "do not compare exactly",
        ..GOOD
    },
    Bad {
        name: "numbers kept as text",
        shop: "ALTER TABLE orders ALTER customer_id TYPE text",
        found: &[Code::TypesWiden],
        says: "different types",
        ..GOOD
    },
    Bad {
        name: "a child's database that may only be read",
        settings: &[("SHOP_URL\" }", "SHOP_URL\", access: read }")],
        found: &[Code::ReadOnlyChild],
        also: &[Code::CopyReadOnly],
        says: "access: read",
        ..GOOD
    },
    Bad {
        name: "a replica identity without the parent's column",
        crm: "CREATE UNIQUE INDEX ON customers (mail)",
        shop: "ALTER TABLE notes ALTER reader_id TYPE text",
        rules: &[(
            "columns: reader_id, parent: crm.customer, on_delete",
            "columns: reader_id, parent: crm.customer, parent_columns: mail, on_delete",
        )],
        found: &[Code::NotLogged],
        also: &[Code::NoParents],
        says: "REPLICA IDENTITY FULL",
        ..GOOD
    },
    Bad {
        name: "no replica identity at all",
        crm: "ALTER TABLE countries REPLICA IDENTITY NOTHING",
        found: &[Code::NotLogged],
        says: "REPLICA IDENTITY",
        ..GOOD
    },
    Bad {
        name: "a replica identity of another index",
        crm: "ALTER TABLE customers ALTER mail SET NOT NULL; CREATE UNIQUE INDEX by_mail ON customers (mail); ALTER TABLE customers REPLICA IDENTITY USING INDEX by_mail",
        found: &[Code::NotLogged],
        says: "does not log the key",
        ..GOOD
    },
    Bad {
        name: "a missing index",
        shop: "DROP INDEX orders_customer_id_idx",
        found: &[Code::Unindexed],
        says: "CREATE INDEX CONCURRENTLY ON public.orders (customer_id)",
        ..GOOD
    },
    Bad {
        name: "an index that serves others",
        shop: "DROP INDEX orders_customer_id_idx; CREATE INDEX ON orders (country_code, customer_id)",
        found: &[Code::Unindexed],
        says: "CREATE INDEX CONCURRENTLY",
        ..GOOD
    },
    Bad {
        name: "an index of some rows",
        shop: "DROP INDEX notes_reader_id_idx; CREATE INDEX ON notes (reader_id) WHERE state IS NULL",
        found: &[Code::Unindexed],
        says: "(reader_id)",
        ..GOOD
    },
    Bad {
        name: "an index that is not valid",
        shop: "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_customer_id_idx'::regclass",
        found: &[Code::Unindexed],
        says: "(customer_id)",
        ..GOOD
    },
    Bad {
        name: "a null that is not allowed",
        shop: "UPDATE notes SET reader_id = 1; ALTER TABLE notes ALTER reader_id SET NOT NULL",
        found: &[Code::NotNullable],
        says: "NOT NULL",
        ..GOOD
    },
    Bad {
        name: "no default",
        shop: "UPDATE orders SET country_code = 'fr' WHERE id > 490; DELETE FROM orders WHERE country_code IS NULL; DELETE FROM lines WHERE order_id NOT IN (SELECT id FROM orders); ALTER TABLE orders ALTER country_code DROP DEFAULT, ALTER country_code SET NOT NULL",
        found: &[Code::NoDefault],
        also: &[Code::Orphans],
        says: "no default",
        ..GOOD
    },
    Bad {
        name: "a default that is nobody",
        crm: "DELETE FROM countries WHERE code = 'de'",
        found: &[Code::DefaultWithoutParent],
        says: "names no row",
        ..GOOD
    },
    Bad {
        name: "a value of the wrong type",
        shop: "ALTER TABLE notes ALTER state TYPE integer USING 1",
        found: &[Code::BadValue],
        says: "`state`",
        ..GOOD
    },
    Bad {
        name: "a condition of the wrong type",
        shop: "ALTER TABLE notes ALTER owner_type TYPE integer USING 1",
        found: &[Code::BadValue],
        says: "`owner_type`",
        ..GOOD
    },
    Bad {
        name: "a reference reversed over both keys",
        rules: &[(
            "child: shop.order, columns: customer_id, parent: crm.customer, on_delete: cascade, on_update: cascade",
            "child: shop.note, columns: id, parent: crm.customer, on_delete: no_action",
        )],
        found: &[Code::ChildUnique],
        also: &[Code::NeedlessRight, Code::Orphans, Code::MissingRight],
        says: "is the reference reversed?",
        ..GOOD
    },
    Bad {
        name: "one to one",
        rules: &[(
            "columns: customer_id, parent: crm.customer, on_delete: cascade, one_to_one: true",
            "columns: customer_id, parent: crm.customer, on_delete: cascade",
        )],
        found: &[Code::OneToOne],
        says: "at most one row",
        ..GOOD
    },
    Bad {
        name: "a column named after another entity",
        rules: &[(
            "columns: country_code, parent: crm.country, on_delete: set_default",
            "columns: country_code, parent: crm.customer, parent_columns: name, on_delete: no_action",
        )],
        crm: "CREATE UNIQUE INDEX ON customers (name); ALTER TABLE customers REPLICA IDENTITY FULL",
        found: &[Code::OtherName],
        also: &[Code::Orphans, Code::NoParents, Code::NeedlessRight, Code::MissingRight],
        says: "is `parent: crm.country` meant?",
        ..GOOD
    },
    Bad {
        name: "a polymorphic column without a condition",
        rules: &[("when: { owner_type: customer }, ", "")],
        found: &[Code::TypeColumn],
        also: &[Code::Orphans],
        says: "`owner_type`",
        ..GOOD
    },
    Bad {
        name: "rows that belong to others",
        shop: "UPDATE notes SET reader_id = reader_id + 5000",
        found: &[Code::NoParents],
        says: "is it the wrong table or column?",
        ..GOOD
    },
    Bad {
        name: "some orphans",
        shop: "UPDATE lines SET order_id = order_id + 5000 WHERE order_id < 10",
        found: &[Code::Orphans],
        says: "name no row of `public.orders`",
        ..GOOD
    },
    Bad {
        name: "a parent with too many rows",
        shop: "INSERT INTO lines SELECT 7, n FROM generate_series(2, 200) AS n",
        found: &[Code::FanOut],
        says: "101 rows or more",
        ..GOOD
    },
    Bad {
        name: "a native key that refuses",
        shop: "CREATE TABLE refunds (id bigint PRIMARY KEY, order_id bigint REFERENCES orders)",
        found: &[Code::NativeRefuses],
        also: &[Code::MissingRight],
        says: "refunds",
        ..GOOD
    },
    Bad {
        name: "a native key that widens",
        shop: "CREATE TABLE refunds (id bigint PRIMARY KEY, order_id bigint REFERENCES orders ON DELETE CASCADE)",
        found: &[Code::NativeWidens],
        also: &[Code::MissingRight, Code::MissingUndoRight],
        says: "refunds",
        ..GOOD
    },
    Bad {
        name: "a native key that hides",
        shop: "ALTER TABLE lines ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE",
        found: &[Code::NativeHides],
        says: "before entail sees it",
        ..GOOD
    },
    Bad {
        name: "a native key into a table without a key",
        shop: "CREATE TABLE refunds (order_id bigint REFERENCES orders ON DELETE CASCADE)",
        found: &[Code::NativeKeyless],
        also: &[Code::NativeWidens],
        says: "no primary key",
        ..GOOD
    },
    Bad {
        name: "a native key that compares loosely",
        shop: "ALTER TABLE orders ADD other double precision UNIQUE; CREATE TABLE refunds (id bigint PRIMARY KEY, other double precision REFERENCES orders (other) ON DELETE CASCADE)",
        found: &[Code::NativeInexact],
        also: &[Code::NativeWidens],
        says: "compare as equal",
        ..GOOD
    },
    Bad {
        name: "a copy that cannot be found again",
        shop: "ALTER TABLE customer_copy DROP CONSTRAINT customer_copy_pkey",
        found: &[Code::CopyNotUnique],
        says: "not unique",
        ..GOOD
    },
    Bad {
        name: "a copy whose database may only be read",
        settings: &[("SHOP_URL\" }", "SHOP_URL\", access: read }")],
        found: &[Code::CopyReadOnly],
        also: &[Code::ReadOnlyChild],
        says: "access: read",
        ..GOOD
    },
    Bad {
        name: "a generated column of a copy",
        shop: "ALTER TABLE customer_copy DROP COLUMN name; ALTER TABLE customer_copy ADD name text GENERATED ALWAYS AS ('x') STORED",
        found: &[Code::CopyGenerated],
        says: "generated",
        ..GOOD
    },
    Bad {
        name: "another unique key of a copy",
        shop: "CREATE UNIQUE INDEX ON customer_copy (name)",
        found: &[Code::CopyOtherUnique],
        says: "(name) is unique",
        ..GOOD
    },
    Bad {
        name: "a copied column with a default",
        crm: "ALTER TABLE customers ALTER name SET DEFAULT 'x'",
        found: &[Code::CopyDefault],
        says: "`name`",
        ..GOOD
    },
    Bad {
        name: "a copy of a stranger",
        rules: &[
            ("of: crm.customer", "of: far.customer"),
            (
                "  - { name: crm.country",
                "  - { name: far.customer, table: customers, key: id, topic: PREFIX_far }\n  - { name: crm.country",
            ),
        ],
        found: &[Code::CopyBlind, Code::NoTopic],
        says: "not given",
        ..GOOD
    },
    Bad { name: "no publication", crm: "DROP PUBLICATION feed", found: &[Code::NoPublication], says: "CREATE PUBLICATION", ..GOOD },
    Bad {
        name: "a table that is not published",
        crm: "ALTER PUBLICATION feed DROP TABLE countries",
        found: &[Code::NotPublished],
        says: "ALTER PUBLICATION feed ADD TABLE public.countries",
        ..GOOD
    },
    Bad {
        name: "deletes that are not published",
        shop: "ALTER PUBLICATION feed SET (publish = 'insert, update')",
        found: &[Code::DeletesUnpublished],
        says: "leaves out deletes",
        ..GOOD
    },
    Bad {
        name: "updates that are not published",
        crm: "ALTER PUBLICATION feed SET (publish = 'insert, delete')",
        found: &[Code::ChangesUnpublished],
        says: "inserts or updates",
        ..GOOD
    },
    Bad {
        name: "rows that are not published",
        crm: "ALTER PUBLICATION feed SET TABLE customers, countries WHERE (code <> 'de')",
        found: &[Code::RowsUnpublished],
        says: "row filter",
        ..GOOD
    },
    Bad {
        name: "columns that are not published",
        crm: "ALTER PUBLICATION feed SET TABLE customers (id), countries",
        found: &[Code::ColumnsUnpublished],
        says: "(name)",
        ..GOOD
    },
    Bad { name: "nobody who follows", found: &[Code::NoSlot], says: "no connector", ..GOOD },
    Bad {
        name: "a slot that nobody reads",
        crm: "SELECT pg_create_logical_replication_slot('s' || current_database(), 'pgoutput')",
        found: &[Code::SlotIdle],
        says: "nobody reads",
        ..GOOD
    },
    Bad {
        name: "a renamed topic under keys that change",
        rules: &[("topic: PREFIX.public.customers", "topic: clients")],
        found: &[Code::NoMarkers, Code::NoTopic],
        says: "cannot be followed",
        ..GOOD
    },
    Bad {
        name: "no broker",
        settings: &[("brokers: \"127.0.0.1:", "brokers: \"127.0.0.1:1,127.0.0.2:")],
        found: &[Code::NoBroker],
        says: "kafka.brokers",
        ..GOOD
    },
    Bad {
        name: "a topic that is not there",
        rules: &[(".public.countries", ".public.contries")],
        found: &[Code::NoTopic],
        says: "no such topic",
        ..GOOD
    },
    Bad {
        name: "records that go within hours",
        topic: Topic::Own(&[("retention.ms", "3600000")]),
        found: &[Code::ShortRetention],
        says: "1h",
        ..GOOD
    },
    Bad {
        name: "records that go by their bytes",
        topic: Topic::Own(&[("retention.bytes", "1000000")]),
        found: &[Code::SmallRetention],
        says: "1000000 bytes",
        ..GOOD
    },
    Bad {
        name: "a compacted topic under keys that change",
        topic: Topic::Own(&[("cleanup.policy", "compact")]),
        found: &[Code::Compacted],
        says: "a tombstone alone",
        ..GOOD
    },
    Bad {
        name: "tombstones that go within hours",
        topic: Topic::Own(&[("cleanup.policy", "compact"), ("delete.retention.ms", "60000")]),
        found: &[Code::TombstonesShort, Code::Compacted],
        says: "1m",
        ..GOOD
    },
    Bad {
        name: "records that are no JSON",
        topic: Topic::Written(&[("Struct{id=1}", Some("Struct{after=Struct{id=1}}"))]),
        found: &[Code::Unreadable],
        says: "JsonConverter",
        ..GOOD
    },
    Bad {
        name: "records without the key",
        topic: Topic::Written(&[(
            "{\"mail\":\"m1\"}",
            Some(
                "{\"op\":\"c\",\"after\":{\"mail\":\"m1\"},\"source\":{\"connector\":\"postgresql\",\"name\":\"f\",\"schema\":\"public\",\"table\":\"customers\",\"lsn\":1}}",
            ),
        )]),
        found: &[Code::Unreadable],
        says: "key column `id` is missing",
        ..GOOD
    },
    Bad {
        name: "records of another table",
        topic: Topic::Written(&[(
            "{\"id\":1}",
            Some(
                "{\"op\":\"c\",\"after\":{\"id\":1},\"source\":{\"connector\":\"postgresql\",\"name\":\"f\",\"schema\":\"public\",\"table\":\"clients\",\"lsn\":1}}",
            ),
        )]),
        found: &[Code::OtherTable],
        says: "another table",
        ..GOOD
    },
    Bad { name: "a topic without records", topic: Topic::Written(&[]), found: &[Code::EmptyTopic], says: "no records", ..GOOD },
    Bad { name: "a topic of one partition", topic: Topic::Single, found: &[Code::OnePartition], says: "one partition", ..GOOD },
];
