//! Tables as a database reports them: columns, types, keys, indexes.
//!
//! [`TableRef`] is made by the drivers in this room only, from catalog rows; every identifier in our SQL comes out of one (H95). So neither a
//! name from an event nor a typo in the rules can become SQL text.

use crate::rules::TableName;
use crate::value::{Cell, ColumnType, Key, RowImage};

/// A table that exists, with what is needed to read and write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// The schema it stands in (`main` on SQLite).
    pub(super) schema: String,
    /// Its name.
    pub(super) name: String,
    /// Schema and name, quoted for SQL.
    pub(super) quoted: String,
    /// Columns in the table's order.
    pub(super) columns: Vec<Column>,
    /// The primary key's columns; empty if there is none.
    pub(super) primary_key: Vec<String>,
    /// Column sets that are unique and not partial, the primary key among them.
    pub(super) unique: Vec<Vec<String>>,
    /// Column lists of usable indexes.
    pub(super) indexes: Vec<Vec<String>>,
    /// What the log holds of the old row.
    pub(super) replica_identity: ReplicaIdentity,
    /// A plain or partitioned table, not a view.
    pub(super) is_table: bool,
    /// SQLite: the name by which a row's number can be had; a column of that name would hide it.
    pub(super) rowid: Option<&'static str>,
    /// Other tables inherit from it (PostgreSQL): their rows would count as its own.
    pub(super) has_heirs: bool,
    /// Which native foreign keys lead to it; on SQLite also what it is itself. Another text means that something of it is another (H74).
    pub(crate) mark: String,
}

/// One column as the catalog reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Which column of the table it is, and of which type: another one that takes its name has another mark (H74). SQLite has none.
    pub mark: String,
    /// Its type, as far as values go.
    pub kind: ColumnType,
    /// The type's name for a cast, quoted, without a length (`varchar(3)[]` would cut keys, H54).
    pub(super) cast: String,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// The default as an SQL expression of the catalog's, if there is one.
    pub default: Option<String>,
    /// Computed by the database: never written.
    pub generated: bool,
    /// Numbered by the database, unless it is told otherwise row by row (GENERATED ALWAYS AS IDENTITY).
    pub identity: bool,
    /// Equality is that of bytes. False for nondeterministic or case-folding collations (H56).
    pub bytewise: bool,
    /// Of a type that is only passed on: values are equal if and only if their texts are.
    pub distinct: bool,
}

/// What the log holds of an old row (PostgreSQL's REPLICA IDENTITY).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    PrimaryKey,
    /// The whole row.
    Full,
    /// These columns.
    Columns(Vec<String>),
    /// Nothing: no updates or deletes are published.
    Nothing,
}

/// A native foreign key of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: String,
    /// The table whose rows point.
    pub child: TableName,
    /// Its columns, parallel to `parent_columns`.
    pub columns: Vec<String>,
    /// The table pointed at.
    pub parent: TableName,
    /// Its columns.
    pub parent_columns: Vec<String>,
    /// The database compares them by bytes here (SQLite; on PostgreSQL the columns tell, see [`Column::bytewise`]).
    pub bytewise: bool,
    /// What the database does when a parent row goes.
    pub on_delete: NativeAction,
    /// What the database does when a parent row gets another key.
    pub on_update: NativeAction,
    /// The columns that SET NULL or SET DEFAULT writes when a parent row goes: all, unless it lists some.
    pub sets: Vec<String>,
}

/// A native referential action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativeAction {
    /// CASCADE.
    Cascade,
    /// SET NULL.
    SetNull,
    /// SET DEFAULT.
    SetDefault,
    /// RESTRICT.
    Restrict,
    /// NO ACTION.
    NoAction,
}

#[cfg(test)]
impl TableRef {
    /// The same with marks, as PostgreSQL has them: a text for the table, and one for each column.
    pub(crate) fn marked(mut self, table: &str, columns: &[(&str, &str)]) -> Self {
        self.mark = table.to_owned();
        for column in &mut self.columns {
            column.mark = columns.iter().find(|(name, _)| *name == column.name).map(|(_, mark)| (*mark).to_owned()).unwrap_or_default();
        }
        self
    }
}

impl TableRef {
    /// Schema and name as the catalog spells them.
    #[must_use]
    pub fn table_name(&self) -> TableName {
        TableName { schema: Some(self.schema.clone()), table: self.name.clone() }
    }

    /// The schema.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table's bare name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All columns, in the table's order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns of these names.
    ///
    /// # Panics
    /// If one is missing: callers hold names that were checked against this table when the rules were bound.
    pub(crate) fn bound<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a Column> {
        names.iter().map(|name| self.column(name).expect("columns are checked when the rules are bound to the catalog"))
    }

    /// The primary key's columns; empty if there is none.
    #[must_use]
    pub fn primary_key(&self) -> &[String] {
        &self.primary_key
    }

    /// Whether these columns together are unique, in any order.
    #[must_use]
    pub fn is_unique(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|unique| unique.len() == columns.len() && unique.iter().all(|column| columns.contains(column)))
    }

    /// Whether no two rows have the same values in these columns, by a unique key over all or some of them.
    #[must_use]
    pub fn is_unique_within(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|unique| unique.iter().all(|column| columns.contains(column)))
    }

    /// The column lists of its unique keys, the primary key among them.
    #[must_use]
    pub fn unique_keys(&self) -> &[Vec<String>] {
        &self.unique
    }

    /// Whether an index starts with these columns, in any order.
    #[must_use]
    pub fn has_index_on(&self, columns: &[String]) -> bool {
        self.indexes
            .iter()
            .any(|index| index.len() >= columns.len() && index.iter().take(columns.len()).all(|column| columns.contains(column)))
    }

    /// What the log holds of the old row.
    #[must_use]
    pub fn replica_identity(&self) -> &ReplicaIdentity {
        &self.replica_identity
    }

    /// What it is, in lines that can be held against those of another day.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let column = |column: &Column| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            let default = column.default.as_ref().map_or(String::new(), |default| format!(" DEFAULT {default}"));
            format!("column {} {:?}{null}{default}", column.name, column.kind)
        };
        let mut lines: Vec<String> = self.columns.iter().map(column).collect();
        lines.push(format!("primary key ({})", self.primary_key.join(", ")));
        lines.extend(self.unique.iter().filter(|key| **key != self.primary_key).map(|key| format!("unique ({})", key.join(", "))));
        lines.push(format!("replica identity {:?}", self.replica_identity));
        lines.sort();
        lines
    }

    /// Whether other tables inherit from it.
    #[must_use]
    pub fn has_heirs(&self) -> bool {
        self.has_heirs
    }

    /// A plain or partitioned table, not a view.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.is_table
    }

    /// Reads texts that the database gave for these columns into cells, canonical for their types. A value that its own type cannot read
    /// (an integer column of SQLite that holds text) is unknown: it equals no key.
    #[must_use]
    pub fn image(&self, names: &[String], texts: &[Option<String>]) -> RowImage {
        names.iter().zip(texts).map(|(name, text)| (name.clone(), self.cell(name, text.as_deref()))).collect()
    }

    fn cell(&self, name: &str, text: Option<&str>) -> Cell {
        match (text, self.column(name)) {
            (None, _) => Cell::Null,
            (Some(_), None) => Cell::Unknown,
            (Some(text), Some(column)) => column.kind.canonical(text).map_or(Cell::Unknown, Cell::Value),
        }
    }

    /// The key made of these columns of an image; `None` if one is null or unknown.
    #[must_use]
    pub fn key_of(names: &[String], image: &RowImage) -> Option<Key> {
        Key::from_cells(names.iter().map(|name| image.get(name).unwrap_or(&Cell::Unknown)))
    }
}
