//! References that are bad in one way.

use super::{Bad, GOOD};
use entail::model::Code;

pub(super) const CASES: &[Bad] = &[
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
];
