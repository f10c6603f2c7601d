//! What stands around the rules: native keys, copies, logs and topics that are bad in one way.

use super::{Bad, GOOD, Topic};
use entail::model::Code;

pub(super) const CASES: &[Bad] = &[
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
        name: "a native key by which rows go with those of a copy",
        shop: "CREATE TABLE fans (id bigint PRIMARY KEY, customer bigint REFERENCES customer_copy ON DELETE CASCADE)",
        found: &[Code::CopyTakes],
        says: "rows of `public.fans` with those of the copy",
        ..GOOD
    },
    Bad {
        name: "a native key that keeps rows in a copy",
        shop: "CREATE TABLE fans (id bigint PRIMARY KEY, customer bigint REFERENCES customer_copy)",
        found: &[Code::CopyHeld],
        says: "a row stays in the copy",
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
