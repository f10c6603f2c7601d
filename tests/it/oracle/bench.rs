//! The databases, and the change log that triggers keep in each service's: read as Debezium would publish it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use entail::change::{NextOffset, Position, Record, TopicPartition};
use entail::sink::{Access, Database, Location};
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row as _};

use super::Fault;
use super::schema::{SERVICES, Schema};
use super::state::{Id, Row, State, whole};
use crate::support::bed::Bed;

/// Partitions of every topic.
const PARTITIONS: u64 = 2;

const LOG: &str = "
CREATE TABLE public.changes (seq bigserial PRIMARY KEY, lsn bigint NOT NULL, tx bigint NOT NULL, author text NOT NULL, name text NOT NULL,
    before json, after json, image text);
CREATE FUNCTION public.note_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP <> 'UPDATE' OR OLD IS DISTINCT FROM NEW THEN
        INSERT INTO public.changes (lsn, tx, author, name, before, after, image) VALUES (
            pg_current_wal_insert_lsn() - '0/0'::pg_lsn, txid_current(), current_setting('application_name'), TG_TABLE_NAME,
            CASE WHEN TG_OP <> 'INSERT' THEN row_to_json(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN row_to_json(NEW) END,
            CASE WHEN TG_OP <> 'INSERT' THEN OLD::text END);
    END IF;
    RETURN NULL;
END $$;";

/// Three services' databases and the oracle's, used for many cases one after the other.
pub(super) struct Bench {
    pub(super) services: Vec<PgPool>,
    pub(super) oracle: PgPool,
    pub(super) databases: Vec<Arc<dyn Database>>,
}

impl Bench {
    pub(super) async fn open(bed: &Bed, name: &str) -> Self {
        let (mut services, mut databases) = (Vec::new(), Vec::new());
        for service in SERVICES {
            let url = bed.create_database(&format!("{name}_{service}")).await;
            let database = Location { url: url.clone(), access: Access::Write }.open().expect("a url of the bed");
            database.migrate().await.expect("the ledger is made");
            let pool = pool(&url).await;
            sqlx::raw_sql(LOG).execute(&pool).await.expect("the log is made");
            services.push(pool);
            databases.push(database);
        }
        let oracle = pool(&bed.create_database(&format!("{name}_oracle")).await).await;
        Self { services, oracle, databases }
    }

    pub(super) async fn close(self) {
        for database in &self.databases {
            database.close().await;
        }
        for pool in self.services.iter().chain([&self.oracle]) {
            pool.close().await;
        }
    }

    /// Makes the tables of a case with their rows: with native keys in the oracle, with those that the schema says in the services.
    pub(super) async fn lay(&self, schema: &Schema, rows: &State, snapshot: bool) -> Result<(), Fault> {
        let begin = format!("BEGIN; CREATE SCHEMA {};", schema.name);
        let mut oracle = begin.clone();
        for table in 0..schema.tables.len() {
            oracle += &schema.create(table);
        }
        oracle += &insert(schema, rows, None);
        for edge in &schema.edges {
            oracle += &schema.native(edge);
        }
        run(&self.oracle, &(oracle + "COMMIT")).await?;
        for (service, pool) in self.services.iter().enumerate() {
            let ours = || (0..schema.tables.len()).filter(|table| schema.tables[*table].database == service);
            let mut sql = begin.clone();
            ours().for_each(|table| sql += &schema.create(table));
            let triggers: String = ours()
                .map(|table| {
                    let name = schema.qualified(table);
                    format!(
                        "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION public.note_change();"
                    )
                })
                .collect();
            let data = insert(schema, rows, Some(service));
            sql += &if snapshot { triggers + &data } else { data + &triggers };
            for edge in schema.edges.iter().filter(|edge| edge.is_native() && schema.tables[edge.child].database == service) {
                sql += &schema.in_service(edge);
            }
            run(pool, &(sql + "COMMIT")).await?;
        }
        Ok(())
    }

    pub(super) async fn clear(&self, schema: &Schema) -> Result<(), Fault> {
        for pool in self.services.iter().chain([&self.oracle]) {
            run(pool, &format!("DROP SCHEMA IF EXISTS {} CASCADE", schema.name)).await?;
        }
        for pool in &self.services {
            run(pool, "TRUNCATE public.changes").await?;
        }
        Ok(())
    }

    /// All rows of the services together.
    pub(super) async fn state(&self, schema: &Schema) -> Result<State, Fault> {
        let mut state = State::default();
        for (service, pool) in self.services.iter().enumerate() {
            let ours = (0..schema.tables.len()).filter(|table| schema.tables[*table].database == service);
            state.rows.extend(read(pool, schema, ours).await?);
        }
        Ok(state)
    }

    pub(super) async fn oracle_state(&self, schema: &Schema) -> Result<State, Fault> {
        Ok(State { rows: read(&self.oracle, schema, 0..schema.tables.len()).await? })
    }
}

/// Not for ever by one connection: PostgreSQL keeps the plan of each foreign key that it has checked, and looks through all of them at every `DROP`.
async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(Duration::from_secs(20))
        .connect(url)
        .await
        .unwrap_or_else(|error| panic!("connecting to {url}: {error}"))
}

/// Runs statements without arguments.
pub(super) async fn run(pool: &PgPool, sql: &str) -> Result<(), Fault> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(drop).map_err(|error| Fault::Broke(format!("{error}: {sql}")))
}

fn insert(schema: &Schema, rows: &State, service: Option<usize>) -> String {
    let ours = rows.rows.iter().filter(|(id, _)| service.is_none_or(|service| schema.tables[id.0].database == service));
    ours.map(|(id, row)| insert_row(schema, id.0, row) + ";").collect()
}

pub(super) fn insert_row(schema: &Schema, table: usize, row: &Row) -> String {
    let columns: Vec<&str> = row.keys().map(String::as_str).collect();
    let values: Vec<String> = row.values().map(|value| literal(*value)).collect();
    format!("INSERT INTO {} ({}) VALUES ({})", schema.qualified(table), columns.join(", "), values.join(", "))
}

pub(super) fn literal(value: Option<i64>) -> String {
    value.map_or("NULL".to_owned(), |value| value.to_string())
}

async fn read(pool: &PgPool, schema: &Schema, tables: impl Iterator<Item = usize>) -> Result<BTreeMap<Id, Row>, Fault> {
    let selects: Vec<String> =
        tables.map(|table| format!("SELECT {table}::int8, row_to_json(x)::text FROM {} AS x", schema.qualified(table))).collect();
    let mut rows = BTreeMap::new();
    if selects.is_empty() {
        return Ok(rows);
    }
    for found in sqlx::query(AssertSqlSafe(selects.join(" UNION ALL "))).persistent(false).fetch_all(pool).await? {
        let (table, row): (i64, String) = (found.try_get(0)?, found.try_get(1)?);
        let row: Row = serde_json::from_str(&row)?;
        let number = row["u"].expect("every row has a number");
        rows.insert((usize::try_from(table).expect("a place"), number), row);
    }
    Ok(rows)
}

/// One line of a service's log.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub(super) table: usize,
    pub(super) lsn: i64,
    /// The transaction, within its service.
    pub(super) tx: i64,
    pub(super) by_entail: bool,
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
    /// The row before, as its table writes it.
    pub(super) image: Option<String>,
}

impl Logged {
    /// The row's number.
    pub(super) fn number(&self) -> i64 {
        self.before.as_ref().or(self.after.as_ref()).and_then(|row| row["u"]).expect("every row has a number")
    }
}

/// What the services' logs have published: records per partition, as far as they are not taken.
#[derive(Default)]
pub(super) struct Feed {
    read: [i64; SERVICES.len()],
    log: BTreeMap<TopicPartition, Vec<Record>>,
    pub(super) queues: BTreeMap<TopicPartition, VecDeque<Record>>,
}

impl Feed {
    /// Reads the logs to their ends and publishes what is new.
    pub(super) async fn poll(&mut self, bench: &Bench, schema: &Schema) -> Result<Vec<Logged>, Fault> {
        let mut news = Vec::new();
        for (service, pool) in bench.services.iter().enumerate() {
            let sql = "SELECT seq, lsn, author, name, before::text, after::text, image, tx FROM public.changes WHERE seq > $1 ORDER BY seq";
            for line in sqlx::query(sql).bind(self.read[service]).fetch_all(pool).await? {
                self.read[service] = line.try_get(0)?;
                let (author, name): (String, String) = (line.try_get(2)?, line.try_get(3)?);
                let table = schema.tables.iter().position(|table| table.name == name).expect("a table of this case");
                let row = |text: Option<String>| text.map(|text| serde_json::from_str::<Row>(&text)).transpose();
                let (before, after) = (row(line.try_get(4)?)?, row(line.try_get(5)?)?);
                let (lsn, image, tx) = (line.try_get(1)?, line.try_get(6)?, line.try_get(7)?);
                news.push(Logged { table, lsn, tx, by_entail: author == "entail", before, after, image });
            }
        }
        for logged in &news {
            self.publish(schema, logged);
        }
        Ok(news)
    }

    fn publish(&mut self, schema: &Schema, logged: &Logged) {
        let table = &schema.tables[logged.table];
        let key = |row: &Row| -> Value {
            table.key.iter().map(|column| (column.clone(), json!(row[column]))).collect::<serde_json::Map<_, _>>().into()
        };
        let source = json!({
            "version": "3.6.3.Final", "connector": "postgresql", "name": SERVICES[table.database], "ts_ms": 1, "snapshot": "false",
            "db": SERVICES[table.database], "schema": schema.name, "table": table.name, "txId": logged.tx & 0xffff_ffff, "lsn": logged.lsn,
        });
        let envelope =
            |op: &str, before: Value, after: Value| json!({"before": before, "after": after, "source": source, "op": op, "ts_ms": 1});
        let deleted = |row: &Row| envelope("d", self::before(schema, logged.table, row), Value::Null);
        match (&logged.before, &logged.after) {
            (None, Some(after)) => self.send(schema, logged.table, &key(after), Some(envelope("c", Value::Null, json!(after))), None),
            (Some(before), None) => {
                self.send(schema, logged.table, &key(before), Some(deleted(before)), None);
                self.send(schema, logged.table, &key(before), None, None);
            }
            (Some(before), Some(after)) if whole(before, &table.key) != whole(after, &table.key) => {
                let (old, new) = (key(before), key(after));
                let moved = ("__debezium.newkey", &new);
                self.send(schema, logged.table, &old, Some(deleted(before)), Some(moved));
                self.send(schema, logged.table, &old, None, Some(moved));
                self.send(schema, logged.table, &new, Some(envelope("c", Value::Null, json!(after))), Some(("__debezium.oldkey", &old)));
            }
            (Some(before), Some(after)) => {
                let old = if table.full { json!(before) } else { Value::Null };
                self.send(schema, logged.table, &key(after), Some(envelope("u", old, json!(after))), None);
            }
            (None, None) => {}
        }
    }

    fn send(&mut self, schema: &Schema, table: usize, key: &Value, value: Option<Value>, header: Option<(&str, &Value)>) {
        let key = key.to_string();
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let partition = i32::try_from(hasher.finish() % PARTITIONS).expect("a small number");
        let partition = TopicPartition { topic: schema.topic(table).into(), partition };
        let log = self.log.entry(partition.clone()).or_default();
        let record = Record {
            at: Position { partition: partition.clone(), offset: i64::try_from(log.len()).expect("a small number") },
            timestamp: None,
            key: Some(key.into_bytes()),
            value: value.map(|value| value.to_string().into_bytes()),
            headers: header.map(|(name, value)| (name.to_owned(), Some(value.to_string().into_bytes()))).into_iter().collect(),
        };
        log.push(record.clone());
        self.queues.entry(partition).or_default().push_back(record);
    }

    /// Publishes again what stands from these offsets on.
    pub(super) fn rewind(&mut self, next: &BTreeMap<TopicPartition, NextOffset>) {
        for (partition, log) in &self.log {
            let from = next.get(partition).map_or(0, |next| usize::try_from(next.0).expect("an offset"));
            self.queues.insert(partition.clone(), log[from..].iter().cloned().collect());
        }
    }

    /// Every partition of the case, whether or not something was published there.
    pub(super) fn partitions(schema: &Schema) -> Vec<TopicPartition> {
        let all = (0..schema.tables.len()).flat_map(|table| (0..PARTITIONS).map(move |partition| (table, partition)));
        all.map(|(table, partition)| {
            let partition = i32::try_from(partition).expect("a small number");
            TopicPartition { topic: schema.topic(table).into(), partition }
        })
        .collect()
    }
}

/// A deleted row as it is logged: whole, or with all but the key invented.
fn before(schema: &Schema, table: usize, row: &Row) -> Value {
    let table = &schema.tables[table];
    let invented = |column: &String| table.columns.iter().any(|known| known.name == *column && known.not_null).then_some(0);
    let cell = |(column, value): (&String, &Option<i64>)| {
        let known = table.full || table.key.contains(column);
        (column.clone(), json!(if known { *value } else { invented(column) }))
    };
    row.iter().map(cell).collect::<serde_json::Map<_, _>>().into()
}
