//! Databases, roles and tables that are bad in one way.

use super::{Bad, GOOD};
use entail::model::Code;

pub(super) const CASES: &[Bad] = &[
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
        shop: "DELETE FROM entail_migrations WHERE version = (SELECT max(version) FROM entail_migrations)",
        found: &[Code::NoLedger],
        says: "entail migrate",
        ..GOOD
    },
    Bad {
        name: "the ledger of a later release",
        shop: "INSERT INTO entail_migrations SELECT version + 1, 'later', now(), true, checksum, 0 FROM entail_migrations ORDER BY 1 DESC LIMIT 1",
        found: &[Code::LaterLedger],
        says: "ledgers are not taken back",
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
];
