//! What can be wrong between rules and servers: one code for each kind, with its weight, its meaning and what mends it.
//!
//! The table of `docs/check.md` is written from here, and every code has a set-up in the tests that brings it about.

use std::fmt;

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// `run` refuses to start.
    Error,
    /// A person should look; `run` starts.
    Warning,
    /// Good to know.
    Note,
}

impl Weight {
    /// The word shown: `error`, `warning`, `note`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something about the rules that only a server could tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// What kind of problem.
    pub code: Code,
    /// The entity, reference, replica, table, topic or database.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: String,
}

impl Problem {
    pub(crate) fn new(code: Code, place: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, place: place.into(), message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (help: {})", self.place, self.message, self.hint)
    }
}

impl Code {
    /// No rules can be bound to tables while it stands: no person can allow it.
    #[must_use]
    pub fn forbids(self) -> bool {
        const BY_BINDING: [Code; 23] = [
            Code::NoDatabase,
            Code::Unreachable,
            Code::Pooler,
            Code::NoTable,
            Code::View,
            Code::Heirs,
            Code::NoColumn,
            Code::KeyNotUnique,
            Code::InexactKey,
            Code::WideCollation,
            Code::ParentNotUnique,
            Code::TypesDiffer,
            Code::ReadOnlyChild,
            Code::NotLogged,
            Code::NotNullable,
            Code::NoDefault,
            Code::BadValue,
            Code::NativeKeyless,
            Code::NativeInexact,
            Code::CopyReadOnly,
            Code::CopyNotUnique,
            Code::CopyGenerated,
            Code::CopyTakes,
        ];
        BY_BINDING.contains(&self)
    }

    /// The code of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

macro_rules! codes {
    ($($area:literal { $($variant:ident $name:literal $weight:ident $meaning:literal $mend:literal)+ })+) => {
        /// A kind of problem. Its name is stable, for scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $meaning] $variant,)+)+
        }

        impl Code {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[$($(Self::$variant,)+)+];

            /// The name in output, in kebab-case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)+)+ }
            }

            /// How much it weighs.
            #[must_use]
            pub const fn weight(self) -> Weight {
                match self { $($(Self::$variant => Weight::$weight,)+)+ }
            }

            /// What it concerns, as a heading.
            #[must_use]
            pub const fn area(self) -> &'static str {
                match self { $($(Self::$variant => $area,)+)+ }
            }

            /// What is wrong, in general.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$variant => $meaning,)+)+ }
            }

            /// What mends it, in general.
            #[must_use]
            pub const fn mend(self) -> &'static str {
                match self { $($(Self::$variant => $mend,)+)+ }
            }
        }
    };
}

codes! {
    "Databases" {
        NoDatabase "no-database" Error "a service of the rules has no database in the settings" "add it under `databases`"
        Unreachable "unreachable" Error "a database could not be asked" "start it, or mend its url"
        Standby "standby" Error "the url leads to a standby, which may lag behind" "name the primary"
        Pooler "pooler" Error "the url leads to a pooler that drops a session's settings or changes its server process" "name the server itself in the url"
        ReadOnly "read-only" Error "a database that entail writes opens transactions read-only" "ALTER ROLE … RESET default_transaction_read_only"
        NoLedger "no-ledger" Error "a database that entail writes has no ledger of this program's version" "entail migrate"
        LaterLedger "later-ledger" Error "the ledger is of a later release of entail: this program is too old for it" "a program of that release"
        LedgerCaptured "ledger-captured" Warning "a publication captures the ledger's own tables: every batch makes events of its own" "leave `entail_*` out of the publication"
        Superuser "superuser" Warning "the role is a superuser: a mistake in the rules meets no wall" "a role with the grants of `entail check --grants`"
    }
    "Tables" {
        NoTable "no-table" Error "there is no such table, or the role may not see it" "check the spelling, the schema and the grants"
        View "view" Error "a view stands in for a table: it may hide rows, and a hidden row looks gone" "name the table behind it"
        Heirs "heirs" Error "other tables inherit from the table, whose rows would be taken for its own" "make them partitions, or tables of their own"
        NoColumn "no-column" Error "there is no such column" "check the spelling"
        KeyNotUnique "key-not-unique" Error "an entity's key is not a unique key of its table" "name the primary key or the columns of a unique index"
        InexactKey "inexact-key" Error "a key column has a type whose values have no exact text" "whole numbers, fixed decimals, text, uuid, bytes, booleans, dates and times may be keys"
        WideCollation "wide-collation" Error "a key column has a collation under which different texts are equal" "give it a deterministic collation, such as \"C\""
        Unlogged "unlogged" Error "the table is UNLOGGED, so its changes reach no topic" "ALTER TABLE … SET LOGGED"
        RowSecurity "row-security" Error "row security applies to the role: a hidden row would look gone" "ALTER ROLE … BYPASSRLS, or a policy-free table"
        Trigger "trigger" Warning "a trigger of the table runs when entail changes its rows" "make sure that it neither refuses nor keeps the rows, and that it wants these changes too"
        RewriteRule "rewrite-rule" Error "a rule of the table rewrites statements that change rows" "drop the rule, or write it as a trigger"
        MissingRight "missing-right" Error "the role lacks a right that these rules need" "the GRANT that `entail check --grants` prints"
        MissingUndoRight "missing-undo-right" Warning "the role lacks a right that `entail undo` needs" "the GRANT that `entail check --grants` prints"
        NeedlessRight "needless-right" Warning "the role may change a table that these rules never change" "REVOKE it"
        OwnsTable "owns-table" Warning "the role owns a table of the rules, so it may alter and drop it" "a role of its own, with the grants of `entail check --grants`"
    }
    "References" {
        ParentNotUnique "parent-not-unique" Error "the parent's columns are not a unique key of the parent: is the reference reversed?" "turn it round, or name a unique key"
        TypesDiffer "types-differ" Error "the types of both sides do not compare exactly" "give both columns the same type"
        TypesWiden "types-widen" Warning "the child's type is wider than the parent's: only the parent's own spelling is found" "give both columns the same type"
        ReadOnlyChild "read-only-child" Error "the child's database has `access: read`" "give it a url that may write, and leave `access` out"
        NotLogged "not-logged" Error "the log does not hold the parent's columns of a deleted row: events would invent them" "ALTER TABLE … REPLICA IDENTITY FULL"
        Unindexed "unindexed" Error "no index of the child begins with the reference's columns: every batch would scan the table" "CREATE INDEX CONCURRENTLY …, or `--allow-unindexed`"
        NotNullable "not-nullable" Error "a column that is set to null is NOT NULL" "allow NULL, or choose another action"
        NoDefault "no-default" Error "a column that is set to its default is NOT NULL and has none" "give it a default that names a living parent"
        DefaultWithoutParent "default-without-parent" Error "the default of a reference's columns names no living parent" "insert that parent, or change the default"
        BadValue "bad-value" Error "a value of `when` or `set` does not fit its column's type" "write a value of that type"
        ChildUnique "child-unique" Warning "the child's columns are a unique key of the child, and it looks as if the parent points at the child: is the reference reversed?" "turn it round, if it is"
        OneToOne "one-to-one" Note "the child's columns are a unique key of the child: at most one row goes with each parent" "nothing, if that is meant"
        OtherName "other-name" Warning "the child's column is named after another entity" "check that the parent is the right one"
        TypeColumn "type-column" Warning "a column beside the reference's says of which kind the parent is, and the reference has no `when`" "add `when: { column: value }`"
        NoParents "no-parents" Error "most sampled rows of the child have no parent: is it the wrong table or column?" "check `parent` and `columns`; rows that really are orphans go by `entail verify`"
        Orphans "orphans" Warning "some sampled rows of the child have no parent" "they stay until their parent's key has an event"
        FanOut "fan-out" Warning "one parent has more rows than `limits.rows_per_event`: its delete would shut the reference" "raise the limit, if that is meant"
        Drifted "drifted" Warning "a table is not what it was when the group last started" "see that the rules still mean what they say; the next start takes it as it is"
        NewReference "new-reference" Note "the group has not run with this reference yet: it begins in shadow" "entail promote NAME, when its counts are what you expect"
    }
    "Native foreign keys" {
        NativeRefuses "native-refuses" Warning "a native foreign key without an action refuses to let rows of the child go" "a reference over the same columns, or ON DELETE CASCADE"
        NativeWidens "native-widens" Warning "a native foreign key takes rows along that the rules do not name" "see that this is meant: they go, archived, with the reference's rows"
        NativeHides "native-hides" Warning "a native foreign key does by itself what the reference says, before entail sees it: nothing is archived" "drop the native key, or the reference"
        NativeKeyless "native-keyless" Error "a native foreign key reaches a table without a primary key" "give it one, so that its rows can be archived before the database removes them"
        NativeInexact "native-inexact" Error "a native foreign key finds rows that compare as equal and are not written alike" "the same exact type and a collation that compares bytes on both sides"
    }
    "Copies" {
        CopyReadOnly "copy-read-only" Error "the copy's database has `access: read`" "give it a url that may write"
        CopyNotUnique "copy-not-unique" Error "the key is not unique in the copy" "make it the primary key of the copy"
        CopyGenerated "copy-generated" Error "a column of the copy is generated by its database" "leave it out of `columns`"
        CopyOtherUnique "copy-other-unique" Warning "the copy has another unique key: rows that pass a value on in between would collide" "drop it from the copy"
        CopyTakes "copy-takes" Error "by a native foreign key the database changes rows with those of the copy: none is archived, and no limit holds" "make the key NO ACTION, or drop it"
        CopyHeld "copy-held" Warning "a native foreign key keeps rows in the copy as long as others point at them" "drop the key"
        CopyDefault "copy-default" Warning "a copied column may be null and has a default, which some converters write in the place of null" "`replace.null.with.default: false` in the connector's converters"
        CopyBlind "copy-blind" Warning "the owner's database is not given: what an event cannot tell exactly stays in the copy as it is, and a tombstone alone ends no copy" "give it under `databases`, with `access: read`"
    }
    "Change capture" {
        NotLogical "not-logical" Error "the server's `wal_level` is not `logical`, so no connector can follow it" "ALTER SYSTEM SET wal_level = logical, and a restart"
        NoPublication "no-publication" Warning "the database has no publication" "CREATE PUBLICATION … FOR TABLE …, unless the connector does not use `pgoutput`"
        NotPublished "not-published" Error "no publication holds a table that has a topic" "ALTER PUBLICATION … ADD TABLE …"
        DeletesUnpublished "deletes-unpublished" Error "the publication leaves out deletes" "ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate')"
        ChangesUnpublished "changes-unpublished" Error "the publication leaves out inserts or updates, which a copy or a key change needs" "ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate')"
        RowsUnpublished "rows-unpublished" Error "the publication has a row filter: rows outside of it go without an event" "publish the table without WHERE"
        ColumnsUnpublished "columns-unpublished" Error "the publication leaves out a column that the rules read" "publish the table with that column"
        NoSlot "no-slot" Warning "the database has no logical replication slot: no connector follows it" "start the connector"
        SlotIdle "slot-idle" Warning "no connector reads the database's logical replication slot now" "start the connector; a slot that nobody reads keeps the log growing"
        SlotLost "slot-lost" Error "a logical replication slot has lost what it had not read yet: events are missing" "make the slot anew with a snapshot, and verify"
        NoMarkers "no-markers" Warning "keys may change, and the topic's name does not show its connector's prefix: deletes wait for the next record of their partition" "name the topic `<prefix>.<schema>.<table>`, or have the connector send heartbeats"
    }
    "Kafka" {
        NoBroker "no-broker" Error "no broker answers" "start it, or mend `kafka.brokers`"
        NoTopic "no-topic" Error "a topic of the rules does not exist" "check `topic`; a connector makes it with its first event: `--allow-missing-topics`"
        TopicRight "topic-right" Error "the principal may not read a topic of the rules" "the access that `entail check --grants` prints"
        TopicSettings "topic-settings" Warning "the settings of a topic may not be read: whether it keeps deletes long enough is unknown" "the access that `entail check --grants` prints, DescribeConfigs among it"
        OnePartition "one-partition" Note "the topic has one partition, so one worker reads it" "more partitions, before the first event, if that is not enough"
        ShortRetention "short-retention" Warning "the topic keeps records for less than a day: a longer stop loses deletes" "raise `retention.ms` above your longest outage"
        SmallRetention "small-retention" Note "the topic has `retention.bytes`: under load it may keep records for less time than you think" "see that it holds your longest outage"
        Compacted "compacted" Warning "the topic is compacted, and keys may change: of a deleted row only the tombstone stays, which does not tell a key change from a delete" "`cleanup.policy=delete`"
        TombstonesShort "tombstones-short" Warning "the topic is compacted and drops tombstones in less than a day" "raise `delete.retention.ms` above your longest outage"
        Unreadable "unreadable" Error "the newest records of the topic cannot be read" "see the reason; the connector's converters and transforms"
        OtherTable "other-table" Error "the newest records of the topic are of another table" "check `topic`, `table` and `key`"
        EmptyTopic "empty-topic" Note "the topic has no records: nothing can be said of them" "check again when it has"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_no_two_are_alike() {
        let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
