//! Tables and native foreign keys out of PostgreSQL's catalog: three statements for any number of tables.

use std::collections::BTreeMap;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::super::catalog::{Column, ForeignKey, NativeAction, ReplicaIdentity, TableRef};
use super::super::statement::{self, quote};
use super::super::{Dialect, SinkError};
use super::fail;
use crate::rules::TableName;
use crate::value::{ColumnType, IntType};

/// What the catalog says of these tables, in their order.
pub(super) async fn tables(pool: &PgPool, names: &[TableName]) -> Result<Vec<Option<TableRef>>, SinkError> {
    let what = match names {
        [name] => format!("reading the catalog for {name}"),
        _ => format!("reading the catalog for {} tables", names.len()),
    };
    let failed = |error: sqlx::Error| fail(&what, &error);
    let qualified: Vec<String> = names
        .iter()
        .map(|name| match &name.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&name.table)),
            None => quote(&name.table),
        })
        .collect();
    let found = sqlx::query(AssertSqlSafe(table_sql())).bind(qualified).fetch_all(pool).await.map_err(failed)?;
    let oids = found.iter().map(|row| row.try_get(1)).collect::<Result<Vec<i64>, _>>().map_err(failed)?;
    let (mut columns, mut indexes): (BTreeMap<i64, Vec<Column>>, BTreeMap<i64, Vec<Index>>) = (BTreeMap::new(), BTreeMap::new());
    for row in sqlx::query(COLUMNS).bind(&oids).fetch_all(pool).await.map_err(failed)? {
        columns.entry(row.try_get(0).map_err(failed)?).or_default().push(column(&row).map_err(failed)?);
    }
    for row in sqlx::query(INDEXES).bind(&oids).fetch_all(pool).await.map_err(failed)? {
        indexes.entry(row.try_get(0).map_err(failed)?).or_default().push(Index::read(&row).map_err(failed)?);
    }
    let mut tables = vec![None; names.len()];
    for row in &found {
        let (place, oid): (i64, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let of = |all: &BTreeMap<i64, Vec<Column>>| all.get(&oid).cloned().unwrap_or_default();
        let indexes = indexes.get(&oid).map(Vec::as_slice).unwrap_or_default();
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| tables.get_mut(place)) {
            *slot = Some(table(row, of(&columns), indexes).map_err(failed)?);
        }
    }
    Ok(tables)
}

fn table(row: &PgRow, columns: Vec<Column>, indexes: &[Index]) -> Result<TableRef, sqlx::Error> {
    let (schema, name, kind, identity): (String, String, String, String) =
        (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let columns_of = |index: Option<&Index>| index.map(|index| index.columns.clone()).unwrap_or_default();
    let primary_key = columns_of(indexes.iter().find(|index| index.primary));
    let replica_identity = match identity.as_str() {
        "f" => ReplicaIdentity::Full,
        "n" => ReplicaIdentity::Nothing,
        "i" => ReplicaIdentity::Columns(columns_of(indexes.iter().find(|index| index.identity))),
        _ if primary_key.is_empty() => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::PrimaryKey,
    };
    Ok(TableRef {
        quoted: format!("{}.{}", quote(&schema), quote(&name)),
        schema,
        name,
        columns,
        primary_key,
        unique: indexes.iter().filter(|index| index.unique).map(|index| index.columns.clone()).collect(),
        indexes: indexes.iter().filter(|index| index.whole).map(|index| index.columns.clone()).collect(),
        replica_identity,
        is_table: matches!(kind.as_str(), "r" | "p"),
        rowid: None,
        has_heirs: row.try_get(7)?,
        mark: row.try_get(6)?,
    })
}

/// All native foreign keys of the database.
pub(super) async fn foreign_keys(pool: &PgPool) -> Result<Vec<ForeignKey>, SinkError> {
    let what = "reading native foreign keys";
    let rows = sqlx::query(FOREIGN_KEYS).fetch_all(pool).await.map_err(|error| fail(what, &error))?;
    rows.iter().map(foreign_key).collect::<Result<_, _>>().map_err(|error| fail(what, &error))
}

fn table_sql() -> String {
    format!(
        "SELECT q.n - 1, c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text, {}, {}
        FROM unnest($1::text[]) WITH ORDINALITY AS q(name, n)
        JOIN pg_catalog.pg_class AS c ON c.oid = to_regclass(q.name)
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace",
        statement::mark(Dialect::Postgres, "c.oid"),
        statement::has_heirs("c.oid")
    )
}

// Domains are followed to their base type (three levels are plenty).
const COLUMNS: &str = "SELECT a.attrelid::int8, a.attname::text, b.typname::text, bn.nspname::text, a.atttypmod::int8, NOT a.attnotnull,
        CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
        a.attgenerated <> '', a.attidentity = 'a', coalesce(co.collisdeterministic, true),
        a.attnum::text || ':' || a.atttypid::text || ':' || a.attcollation::text,
        b.typtype = 'e' OR bn.nspname = 'pg_catalog' AND b.typname IN ('inet', 'cidr', 'macaddr', 'macaddr8', 'oid', 'bit', 'varbit')
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type AS t2 ON t.typtype = 'd' AND t2.oid = t.typbasetype
    LEFT JOIN pg_catalog.pg_type AS t3 ON t2.typtype = 'd' AND t3.oid = t2.typbasetype
    JOIN pg_catalog.pg_type AS b ON b.oid = coalesce(t3.oid, t2.oid, t.oid)
    JOIN pg_catalog.pg_namespace AS bn ON bn.oid = b.typnamespace
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = a.attcollation
    WHERE a.attrelid = ANY ($1::int8[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

const INDEXES: &str =
    "SELECT i.indrelid::int8, i.indisprimary, i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL, i.indisreplident,
        i.indpred IS NULL AND i.indisvalid,
        array(SELECT coalesce(a.attname::text, '') FROM generate_series(0, i.indnkeyatts - 1) AS n
              LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n] AND a.attnum > 0 ORDER BY n)
    FROM pg_catalog.pg_index AS i WHERE i.indrelid = ANY ($1::int8[]::oid[]) ORDER BY i.indrelid, i.indexrelid";

// `confdelsetcols` is there since PostgreSQL 15, and null where SET NULL lists no columns; `conenforced` since 18.
const FOREIGN_KEYS: &str =
    "SELECT c.conname::text, cn.nspname::text, cr.relname::text, pn.nspname::text, pr.relname::text, c.confdeltype::text,
        array(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(n, o)
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.o),
        array(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(n, o)
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.o),
        array(SELECT a.attname::text
              FROM jsonb_array_elements_text(CASE jsonb_typeof(to_jsonb(c) -> 'confdelsetcols') WHEN 'array' THEN to_jsonb(c) -> 'confdelsetcols'
                                             ELSE '[]' END) AS k(n)
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.n::int2),
        c.confupdtype::text
    FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_class AS cr ON cr.oid = c.conrelid JOIN pg_catalog.pg_namespace AS cn ON cn.oid = cr.relnamespace
    JOIN pg_catalog.pg_class AS pr ON pr.oid = c.confrelid JOIN pg_catalog.pg_namespace AS pn ON pn.oid = pr.relnamespace
    WHERE c.contype = 'f' AND c.conparentid = 0 AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) ORDER BY c.conname, c.oid";

struct Index {
    primary: bool,
    unique: bool,
    identity: bool,
    whole: bool,
    columns: Vec<String>,
}

impl Index {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            primary: row.try_get(1)?,
            unique: row.try_get(2)?,
            identity: row.try_get(3)?,
            whole: row.try_get(4)?,
            columns: row.try_get(5)?,
        })
    }
}

fn column(row: &PgRow) -> Result<Column, sqlx::Error> {
    let (type_name, type_schema): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    let modifier: i64 = row.try_get(4)?;
    Ok(Column {
        name: row.try_get(1)?,
        mark: row.try_get(10)?,
        kind: if type_schema == "pg_catalog" { kind(&type_name, modifier) } else { ColumnType::Other(type_name.clone()) },
        cast: format!("{}.{}", quote(&type_schema), quote(&type_name)),
        nullable: row.try_get(5)?,
        default: row.try_get(6)?,
        generated: row.try_get(7)?,
        identity: row.try_get(8)?,
        bytewise: row.try_get(9)?,
        distinct: row.try_get(11)?,
    })
}

fn kind(type_name: &str, modifier: i64) -> ColumnType {
    let precision = u8::try_from(modifier).unwrap_or(6);
    let int = |bits| ColumnType::Int(IntType { bits, unsigned: false });
    match type_name {
        "bool" => ColumnType::Bool,
        "int2" => int(16),
        "int4" => int(32),
        "int8" => int(64),
        // The modifier of numeric(p,s) holds the scale in its low 11 bits, plus 4 (numeric.c).
        "numeric" => ColumnType::Decimal { scale: (modifier >= 4).then(|| u16::try_from((modifier - 4) & 0x7ff).unwrap_or(0)) },
        "float4" | "float8" => ColumnType::Float,
        "text" | "varchar" | "name" => ColumnType::Text,
        "bpchar" => ColumnType::Char,
        "uuid" => ColumnType::Uuid,
        "bytea" => ColumnType::Bytes,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time { precision },
        "timestamp" => ColumnType::Timestamp { precision },
        "timestamptz" => ColumnType::TimestampTz { precision },
        "json" | "jsonb" => ColumnType::Json,
        other => ColumnType::Other(other.to_owned()),
    }
}

fn foreign_key(row: &PgRow) -> Result<ForeignKey, sqlx::Error> {
    let action = |place: usize| {
        row.try_get(place).map(|letter: String| match letter.as_str() {
            "c" => NativeAction::Cascade,
            "n" => NativeAction::SetNull,
            "d" => NativeAction::SetDefault,
            "r" => NativeAction::Restrict,
            _ => NativeAction::NoAction,
        })
    };
    let (columns, listed): (Vec<String>, Vec<String>) = (row.try_get(6)?, row.try_get(8)?);
    Ok(ForeignKey {
        sets: if listed.is_empty() { columns.clone() } else { listed },
        name: row.try_get(0)?,
        child: TableName { schema: row.try_get(1)?, table: row.try_get(2)? },
        columns,
        parent: TableName { schema: row.try_get(3)?, table: row.try_get(4)? },
        parent_columns: row.try_get(7)?,
        bytewise: true,
        on_delete: action(5)?,
        on_update: action(9)?,
    })
}
