//! What is in the databases: tables that may be entities, their native foreign keys, and the kinds that polymorphic columns name.

use std::collections::{BTreeMap, BTreeSet};

use super::Surveyed;
use crate::databases::{DatabaseId, Databases};
use crate::inspect::names::{singular, snake};
use crate::sink::facts::{self, Facts};
use crate::sink::statement::{self, Sample};
use crate::sink::{ForeignKey, SinkError, TableRef};

/// Rows in which the kinds of a polymorphic column are looked for.
const ROWS_FOR_KINDS: u64 = 10_000;
/// Kinds of one column; more are no kinds.
const MAX_KINDS: usize = 50;

/// Tables of tools, not of services.
const TOOLS: [&str; 13] = [
    "schema_migrations",
    "ar_internal_metadata",
    "flyway_schema_history",
    "databasechangelog",
    "databasechangeloglock",
    "alembic_version",
    "django_migrations",
    "__efmigrationshistory",
    "_sqlx_migrations",
    "knex_migrations",
    "knex_migrations_lock",
    "goose_db_version",
    "debezium_signal",
];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Tables with a key, in the order of services and names.
    pub(super) tables: Vec<Surveyed>,
    /// Native foreign keys by database.
    pub(super) keys: BTreeMap<DatabaseId, Vec<ForeignKey>>,
    /// Tables that cannot be entities, each with the reason.
    pub(super) left_out: Vec<(String, &'static str)>,
}

/// Reads the catalogs of all services.
///
/// # Errors
/// Those of the databases, with the name of the one concerned.
pub(super) async fn survey(databases: &Databases, services: &[String]) -> Result<Survey, (String, SinkError)> {
    let mut survey = Survey::default();
    for (id, handle) in databases.iter() {
        let here: Vec<&String> = services.iter().filter(|service| databases.of_service(service) == Some(id)).collect();
        let failed = |error| (handle.name.clone(), error);
        let names: Vec<_> =
            facts::table_names(&*handle.database).await.map_err(failed)?.into_iter().filter(|(name, _)| !is_tool(&name.table)).collect();
        let readable: Vec<_> = names.iter().filter(|(_, may)| *may).map(|(name, _)| name.clone()).collect();
        for (name, _) in names.iter().filter(|(_, may)| !may) {
            survey.left_out.push((name.to_string(), "the role may not use its schema"));
        }
        let tables = handle.database.tables(&readable).await.map_err(failed)?;
        let facts = facts::facts(&*handle.database, &readable).await.map_err(failed)?;
        for table in tables.into_iter().flatten() {
            // Services that share a database: a schema that is named after one is its own.
            let service = here.iter().find(|service| service.as_str() == table.schema()).or(here.first());
            if let Some(service) = service {
                take(&mut survey, service, id, table, &facts);
            }
        }
        survey.keys.insert(id, handle.database.foreign_keys().await.map_err(failed)?);
    }
    survey.tables.sort_by(|one, other| (&one.service, one.table.table_name()).cmp(&(&other.service, other.table.table_name())));
    rename_doubles(&mut survey.tables);
    Ok(survey)
}

fn is_tool(table: &str) -> bool {
    table.starts_with("entail_") || TOOLS.contains(&table.to_ascii_lowercase().as_str())
}

fn take(survey: &mut Survey, service: &str, database: DatabaseId, table: TableRef, facts: &Facts) {
    let full = format!("{service}: {}", table.table_name());
    if [table.name(), table.schema()].iter().any(|name| name.contains('.') || !may_stand_in_rules(name)) {
        survey.left_out.push((full, "the rules do not allow such a name: it has a dot, a star, a control character or an outer blank"));
        return;
    }
    let fits = |columns: &&Vec<String>| {
        columns.iter().all(|name| may_stand_in_rules(name) && table.column(name).is_some_and(|column| !column.nullable))
    };
    let primary = table.primary_key().to_vec();
    let key = std::iter::once(&primary).filter(|key| !key.is_empty()).chain(table.unique_keys()).find(fits).cloned().unwrap_or_default();
    if key.is_empty() {
        survey.left_out.push((full, "it has no key"));
        return;
    }
    let clean: String =
        singular(&snake(table.name())).chars().map(|c| if c.is_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect();
    let rows = facts.tables.get(&table.table_name()).and_then(|facts| facts.rows);
    survey.tables.push(Surveyed { name: format!("{service}.{clean}"), service: service.to_owned(), database, table, key, rows });
}

/// Whether the rules allow it as the name of a table, a schema or a column.
pub(super) fn may_stand_in_rules(name: &str) -> bool {
    !name.is_empty() && name.trim() == name && name.len() <= 255 && !name.contains(|c: char| c.is_control() || c == '*')
}

/// Tables of one name in several schemas are told apart by the schema.
fn rename_doubles(tables: &mut [Surveyed]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for table in tables.iter() {
        *seen.entry(table.name.clone()).or_default() += 1;
    }
    let mut used = BTreeSet::new();
    for table in tables {
        if seen.get(&table.name).is_some_and(|count| *count > 1) && table.table.schema() != "public" {
            let bare = table.name.rsplit('.').next().unwrap_or_default();
            table.name = format!("{}.{}_{bare}", table.service, snake(table.table.schema()));
        }
        let (base, mut number) = (table.name.clone(), 2);
        while !used.insert(table.name.clone()) {
            table.name = format!("{base}_{number}");
            number += 1;
        }
    }
}

/// Ends of the names of columns that tell of which kind a parent is.
pub(super) const KIND_ENDS: [&str; 4] = ["_type", "_kind", "_class", "_table"];

/// A pair of columns that together name rows of several tables.
#[derive(Debug, Clone)]
pub(super) struct Polymorphic {
    pub(super) table: usize,
    pub(super) kind: String,
    pub(super) id: String,
}

/// `owner_type` beside `owner_id`.
pub(super) fn polymorphic(tables: &[Surveyed]) -> Vec<Polymorphic> {
    let mut pairs = Vec::new();
    for (place, surveyed) in tables.iter().enumerate() {
        for column in surveyed.table.columns() {
            let name = snake(&column.name);
            if !may_stand_in_rules(&column.name) {
                continue;
            }
            let Some(stem) = KIND_ENDS.iter().find_map(|end| name.strip_suffix(end)) else { continue };
            let is_id = |other: &&crate::sink::Column| {
                other.name != column.name
                    && may_stand_in_rules(&other.name)
                    && other.kind.is_key_type()
                    && crate::inspect::names::stem(&other.name).as_deref() == Some(stem)
                    && snake(&other.name) != stem
            };
            if let Some(id) = surveyed.table.columns().iter().find(is_id).filter(|_| !stem.is_empty()) {
                pairs.push(Polymorphic { table: place, kind: column.name.clone(), id: id.name.clone() });
            }
        }
    }
    pairs
}

/// The kinds that stand in a column; none if there are too many to be kinds.
pub(super) async fn kinds(databases: &Databases, tables: &[Surveyed], pair: &Polymorphic) -> Result<Vec<String>, SinkError> {
    let Some(surveyed) = tables.get(pair.table) else { return Ok(Vec::new()) };
    let database = &*databases.handle(surveyed.database).database;
    let columns = [pair.kind.clone()];
    let sample = Sample { table: &surveyed.table, columns: &columns, when: &[], rows: ROWS_FOR_KINDS, of: surveyed.rows };
    let rows = database.read(&statement::sample(database.dialect(), &sample)).await?;
    let kinds: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    Ok(if kinds.len() > MAX_KINDS { Vec::new() } else { kinds })
}
