//! What a database says of itself and of some tables beyond their shape: role, rights, triggers, policies, and what its log is told to carry.
//!
//! Read once by `check --connect`, in a fixed number of statements for any number of tables. SQL text is fixed, names are bound.

use std::collections::{BTreeMap, BTreeSet};

use super::statement::{Bind, Dialect};
use super::{Database, Row, SinkError, Statement};
use crate::rules::TableName;

/// A right on a table, by SQL's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE: never needed.
    Truncate,
}

impl Privilege {
    /// SQL's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
        }
    }
}

/// A right that is needed: on whole tables, or on one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The table.
    pub table: TableName,
    /// The column; `None` means the whole table.
    pub column: Option<String>,
    /// What may be done.
    pub privilege: Privilege,
}

/// What a database says.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The role that asked.
    pub role: String,
    /// It passes every check of the server.
    pub is_superuser: bool,
    /// The server is a standby.
    pub is_standby: bool,
    /// Transactions of this role begin read-only.
    pub is_read_only: bool,
    /// What the log carries; `None` where there is no such setting.
    pub wal_level: Option<String>,
    /// By table, for those asked for.
    pub tables: BTreeMap<TableName, TableFacts>,
    /// What is published of the whole database, by table.
    pub published: Vec<Published>,
    /// There is a publication at all.
    pub has_publication: bool,
    /// There are tables by the names of the ledger's.
    pub tables_of_ledger: bool,
    /// Logical replication slots of this database.
    pub slots: Vec<Slot>,
    /// Rights to change tables that the role holds, on any table that is not the system's.
    pub may_change: BTreeSet<(TableName, Privilege)>,
}

/// What a database says of a table.
#[derive(Debug, Clone, Default)]
pub struct TableFacts {
    /// It is not in the write-ahead log.
    pub is_unlogged: bool,
    /// A row security policy would filter what this role reads.
    pub has_row_security: bool,
    /// The role owns it, or is a member of the role that does.
    pub is_owned: bool,
    /// The planner's estimate of its rows, if it has one.
    pub rows: Option<u64>,
    /// (name, events) of enabled triggers that are not the server's own.
    pub triggers: Vec<(String, BTreeSet<Privilege>)>,
    /// Names of enabled rules that rewrite statements on it.
    pub rules: Vec<String>,
}

/// A table in a publication.
#[derive(Debug, Clone)]
pub struct Published {
    /// The publication.
    pub publication: String,
    /// The table, or the one that it is a partition of.
    pub table: TableName,
    /// Operations that it carries.
    pub operations: BTreeSet<Privilege>,
    /// Its columns; empty if the server does not say.
    pub columns: Vec<String>,
    /// Only some rows.
    pub is_filtered: bool,
}

/// A logical replication slot.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Somebody reads it now.
    pub is_active: bool,
    /// The server has removed log that it had not read.
    pub is_lost: bool,
}

/// Reads the facts about a database and these tables.
///
/// # Errors
/// Those of the database.
pub async fn facts(database: &dyn Database, tables: &[TableName]) -> Result<Facts, SinkError> {
    match database.dialect() {
        Dialect::Postgres => postgres(database, tables).await,
        Dialect::Sqlite => sqlite(database, tables).await,
    }
}

/// The names of all tables that are not the system's, and whether the role may use their schemas.
///
/// # Errors
/// Those of the database.
pub async fn table_names(database: &dyn Database) -> Result<Vec<(TableName, bool)>, SinkError> {
    let sql = match database.dialect() {
        Dialect::Postgres => TABLE_NAMES,
        Dialect::Sqlite => {
            "SELECT 'main', name, 'true' FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 2"
        }
    };
    let rows = database.read(&Statement::fixed("listing tables", sql, Vec::new())).await?;
    Ok(rows.iter().map(|row| (named(row, 0), flag(row, 2))).collect())
}

const TABLE_NAMES: &str =
    "SELECT n.nspname::text, c.relname::text, has_schema_privilege(n.oid, 'USAGE')::text FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2";

/// Which of these rights the role holds, in their order.
///
/// # Errors
/// Those of the database.
pub async fn holds(database: &dyn Database, rights: &[Right]) -> Result<Vec<bool>, SinkError> {
    if database.dialect() == Dialect::Sqlite || rights.is_empty() {
        return Ok(vec![true; rights.len()]);
    }
    let list = |pick: fn(&Right) -> Option<String>| Bind::Texts(rights.iter().map(pick).collect());
    let binds = vec![
        list(|right| right.table.schema.clone()),
        list(|right| Some(right.table.table.clone())),
        list(|right| right.column.clone()),
        list(|right| Some(right.privilege.as_str().to_owned())),
    ];
    let rows = database.read(&Statement::fixed("asking for the role's rights", HOLDS, binds)).await?;
    if rows.len() != rights.len() {
        return Err(SinkError::Answer {
            what: "asking for the role's rights".to_owned(),
            expected: format!("{} answers", rights.len()),
            got: rows.len().to_string(),
        });
    }
    Ok(rows.iter().map(|row| flag(row, 0)).collect())
}

const HOLDS: &str = "SELECT (CASE WHEN c.oid IS NULL THEN false
            WHEN NOT has_schema_privilege(c.relnamespace, 'USAGE') THEN false
            WHEN r.col IS NULL THEN has_table_privilege(c.oid, r.privilege)
            ELSE has_column_privilege(c.oid, r.col, r.privilege) END)::text
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS r(sch, tab, col, privilege, n)
    LEFT JOIN (pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace)
        ON c.relname = r.tab AND CASE WHEN r.sch IS NULL THEN pg_table_is_visible(c.oid) ELSE s.nspname = r.sch END
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY r.n";

const SERVER: &str =
    "SELECT current_user::text, r.rolsuper::text, pg_is_in_recovery()::text, current_setting('default_transaction_read_only'),
        current_setting('wal_level'), EXISTS (SELECT FROM pg_catalog.pg_publication)::text,
        EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relname = 'entail_migrations' AND pg_table_is_visible(c.oid))::text
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user";

const TABLES: &str = "SELECT n.nspname::text, c.relname::text, (c.relpersistence = 'u')::text, row_security_active(c.oid)::text,
        pg_has_role(c.relowner, 'USAGE')::text, CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint::text END
    FROM unnest($1::text[], $2::text[]) AS t(sch, tab)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.sch
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tab AND c.relkind IN ('r', 'p')";

// Bits of tgtype: 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE (pg_trigger.h).
const TRIGGERS: &str = "SELECT n.nspname::text, c.relname::text, g.tgname::text, (g.tgtype & 4 <> 0)::text, (g.tgtype & 8 <> 0)::text, (g.tgtype & 16 <> 0)::text
    FROM unnest($1::text[], $2::text[]) AS t(sch, tab)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.sch
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tab AND c.relkind IN ('r', 'p')
    JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') ORDER BY 1, 2, 3";

const RULES: &str = "SELECT n.nspname::text, c.relname::text, w.rulename::text
    FROM unnest($1::text[], $2::text[]) AS t(sch, tab)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.sch
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tab AND c.relkind IN ('r', 'p')
    JOIN pg_catalog.pg_rewrite AS w ON w.ev_class = c.oid AND w.ev_enabled IN ('O', 'A') ORDER BY 1, 2, 3";

// `attnames` and `rowfilter` are there since PostgreSQL 15. A partition stands for the table that it is one of.
const PUBLISHED: &str = "SELECT t.pubname::text, n.nspname::text, c.relname::text, p.pubinsert::text, p.pubupdate::text, p.pubdelete::text,
        coalesce(to_jsonb(t) ->> 'attnames', '[]'), (to_jsonb(t) ->> 'rowfilter' IS NOT NULL)::text
    FROM pg_catalog.pg_publication_tables AS t JOIN pg_catalog.pg_publication AS p ON p.pubname = t.pubname
    JOIN pg_catalog.pg_namespace AS tn ON tn.nspname = t.schemaname
    JOIN pg_catalog.pg_class AS tc ON tc.relnamespace = tn.oid AND tc.relname = t.tablename
    JOIN pg_catalog.pg_class AS c ON c.oid = coalesce(pg_partition_root(tc.oid)::oid, tc.oid)
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace ORDER BY 1, 2, 3";

// `wal_status` is there since 13, `invalidation_reason` since 17, `conflicting` since 16.
const SLOTS: &str = "SELECT s.slot_name::text, s.active::text,
        (coalesce(s.wal_status = 'lost', false) OR to_jsonb(s) ->> 'invalidation_reason' IS NOT NULL)::text
    FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_type = 'logical' AND s.database = current_database() ORDER BY 1";

const MAY_CHANGE: &str = "SELECT n.nspname::text, c.relname::text, v.privilege
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS v(privilege)
    WHERE c.relkind IN ('r', 'p') AND c.relispartition IS FALSE AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
        AND has_schema_privilege(n.oid, 'USAGE')
        AND (has_table_privilege(c.oid, v.privilege) OR v.privilege IN ('INSERT', 'UPDATE') AND has_any_column_privilege(c.oid, v.privilege))
    ORDER BY 1, 2, 3";

async fn postgres(database: &dyn Database, tables: &[TableName]) -> Result<Facts, SinkError> {
    let names = || {
        vec![
            Bind::Texts(tables.iter().map(|table| table.schema.clone()).collect()),
            Bind::Texts(tables.iter().map(|table| Some(table.table.clone())).collect()),
        ]
    };
    let ask = async |what: &str, sql: &str, binds| database.read(&Statement::fixed(what, sql, binds)).await;
    let mut facts = Facts::default();
    for row in ask("asking the server about itself", SERVER, Vec::new()).await? {
        facts.role = text(&row, 0);
        (facts.is_superuser, facts.is_standby, facts.is_read_only) = (flag(&row, 1), flag(&row, 2), text(&row, 3) == "on");
        (facts.wal_level, facts.has_publication, facts.tables_of_ledger) = (Some(text(&row, 4)), flag(&row, 5), flag(&row, 6));
    }
    for row in ask("reading facts of tables", TABLES, names()).await? {
        let (is_unlogged, has_row_security, is_owned) = (flag(&row, 2), flag(&row, 3), flag(&row, 4));
        let rows = row.get(5).cloned().flatten().and_then(|rows| rows.parse().ok());
        let table = TableFacts { is_unlogged, has_row_security, is_owned, rows, ..TableFacts::default() };
        facts.tables.insert(named(&row, 0), table);
    }
    for row in ask("reading triggers", TRIGGERS, names()).await? {
        let events = [(3, Privilege::Insert), (4, Privilege::Delete), (5, Privilege::Update)];
        let events = events.into_iter().filter(|(place, _)| flag(&row, *place)).map(|(_, event)| event).collect();
        facts.tables.entry(named(&row, 0)).or_default().triggers.push((text(&row, 2), events));
    }
    for row in ask("reading rewrite rules", RULES, names()).await? {
        facts.tables.entry(named(&row, 0)).or_default().rules.push(text(&row, 2));
    }
    for row in ask("reading publications", PUBLISHED, Vec::new()).await? {
        let operations = [(3, Privilege::Insert), (4, Privilege::Update), (5, Privilege::Delete)];
        facts.published.push(Published {
            publication: text(&row, 0),
            table: named(&row, 1),
            operations: operations.into_iter().filter(|(place, _)| flag(&row, *place)).map(|(_, operation)| operation).collect(),
            columns: serde_json::from_str(&text(&row, 6)).unwrap_or_default(),
            is_filtered: flag(&row, 7),
        });
    }
    for row in ask("reading replication slots", SLOTS, Vec::new()).await? {
        facts.slots.push(Slot { name: text(&row, 0), is_active: flag(&row, 1), is_lost: flag(&row, 2) });
    }
    for row in ask("asking which tables the role may change", MAY_CHANGE, Vec::new()).await? {
        facts.may_change.extend(privilege(&text(&row, 2)).map(|privilege| (named(&row, 0), privilege)));
    }
    Ok(facts)
}

async fn sqlite(database: &dyn Database, tables: &[TableName]) -> Result<Facts, SinkError> {
    let mut facts = Facts::default();
    let names = serde_json::to_string(&tables.iter().map(|table| &table.table).collect::<Vec<_>>()).expect("texts are always JSON");
    // The first words of a trigger's text say what starts it; its name may be anything, so the event is looked for behind it.
    let sql =
        "SELECT s.tbl_name, s.name, s.sql FROM sqlite_schema AS s WHERE s.type = 'trigger' AND s.name NOT LIKE 'entail\\_%' ESCAPE '\\'
        AND s.tbl_name COLLATE NOCASE IN (SELECT value FROM json_each($1)) ORDER BY 1, 2";
    for row in database.read(&Statement::fixed("reading triggers", sql, vec![Bind::Text(Some(names))])).await? {
        let name = TableName { schema: Some("main".to_owned()), table: text(&row, 0) };
        facts.tables.entry(name).or_default().triggers.push((text(&row, 1), trigger_events(&text(&row, 1), &text(&row, 2))));
    }
    Ok(facts)
}

/// The event of a trigger of SQLite: the first of the three words behind its name.
fn trigger_events(name: &str, sql: &str) -> BTreeSet<Privilege> {
    let at = sql.to_ascii_lowercase().find("trigger").map_or(0, |at| at + "trigger".len());
    let named = sql.get(at..).unwrap_or(sql);
    let behind = named.find(name).and_then(|at| named.get(at + name.len()..)).unwrap_or(named);
    let mut words = behind.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_uppercase);
    let event = words.find_map(|word| privilege(&word).filter(|event| !matches!(event, Privilege::Truncate | Privilege::Select)));
    event.into_iter().collect()
}

fn privilege(word: &str) -> Option<Privilege> {
    use Privilege as P;
    [P::Select, P::Insert, P::Update, P::Delete, P::Truncate].into_iter().find(|privilege| privilege.as_str() == word)
}

fn text(row: &Row, place: usize) -> String {
    row.get(place).cloned().flatten().unwrap_or_default()
}

fn flag(row: &Row, place: usize) -> bool {
    text(row, place) == "true"
}

fn named(row: &Row, place: usize) -> TableName {
    TableName { schema: Some(text(row, place)), table: text(row, place + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_of_a_trigger_of_sqlite_is_told_from_its_name_and_body() {
        let event = |name, sql| trigger_events(name, sql).into_iter().collect::<Vec<_>>();
        let sql = "CREATE TRIGGER no_update BEFORE DELETE ON t BEGIN UPDATE u SET a = 1; END";
        assert_eq!(event("no_update", sql), [Privilege::Delete]);
        assert_eq!(event("on update", "CREATE TRIGGER \"on update\" AFTER INSERT ON t BEGIN DELETE FROM u; END"), [Privilege::Insert]);
        assert_eq!(event("r", "create trigger if not exists r update of insert_at on t begin select 1; end"), [Privilege::Update]);
    }
}
