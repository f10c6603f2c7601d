//! Rules written from what is there: tables out of the catalogs, references out of native foreign keys, names, and (if asked) values.
//!
//! Data flows one way: `survey` reads catalogs, `names` proposes, `mine` holds the proposals against rows and proposes more, `settle` decides
//! between them, `write` makes texts, `files` puts them beside what is there already. Nothing is guessed into force: references are written in
//! shadow, and those of which little speaks are comments.

use std::collections::BTreeSet;

use crate::databases::{DatabaseId, Databases};
use crate::rules::diagnostic::one_line;
use crate::sink::{Fault, NativeAction, SinkError, TableRef};

pub mod files;
mod known;
mod likeness;
mod mine;
mod names;
mod settle;
mod survey;
mod write;

pub use known::Known;
pub use write::{Settings, Text, connector, database, settings, text};

use survey::Survey;

/// A reference is written, and not only as a comment, from this confidence on, in percent.
pub const FIRM: u8 = 70;
/// What is less likely than this is not told.
pub const FAINT: u8 = 30;

/// How closely to look.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Hold proposals against rows, and look for references that only values speak for.
    pub mine: bool,
    /// Rows of each table to look at.
    pub sample: u64,
    /// Propose also what the databases enforce themselves, between tables of one service.
    pub native: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Tables that may be entities.
    pub tables: Vec<Surveyed>,
    /// Proposals, the likeliest for each set of columns.
    pub links: Vec<Link>,
    /// Tables that cannot be entities, each with the reason.
    pub left_out: Vec<(String, &'static str)>,
    /// Native foreign keys within services that were left to their databases.
    pub native: usize,
}

/// Looks at the databases of these services. `tell` hears how far it is: (steps done, steps in all).
///
/// # Errors
/// Those of the databases, with the name of the one concerned.
pub async fn find(
    databases: &Databases,
    services: &[String],
    known: &Known,
    options: Options,
    tell: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Found, (String, SinkError)> {
    let mut survey = survey::survey(databases, services).await?;
    known.rename(&mut survey.tables);
    let failed = |error| ("a sample of rows".to_owned(), error);
    let (mut kinds, mut unread) = (Vec::new(), BTreeSet::new());
    for pair in survey::polymorphic(&survey.tables) {
        match survey::kinds(databases, &survey.tables, &pair).await {
            Ok(found) => kinds.push((pair, found)),
            // Its rows may not be read: the other columns are named all the same.
            Err(SinkError::Database { fault: Fault::Privilege, .. }) => drop(unread.insert(pair.table)),
            Err(error) => return Err(failed(error)),
        }
    }
    let mut links = names::propose(&survey, &kinds);
    if options.mine {
        let mut rows = mine::Rows::new(databases, &survey.tables, options.sample);
        mine::mine(&mut rows, &mut links, tell).await.map_err(failed)?;
        unread.append(&mut rows.unread);
    }
    let Survey { tables, mut left_out, .. } = survey;
    let unread = unread.iter().filter_map(|place| tables.get(*place));
    left_out.extend(unread.map(|table| {
        (format!("{}: {}", table.service, table.table.table_name()), "the role may not read its rows, which were not looked at")
    }));
    let mut links = settle::settle(&tables, links);
    let service = |table: usize| tables.get(table).map(|table| &table.service);
    let is_kept_by_database = |link: &Link| matches!(link.why, Why::Native { .. }) && service(link.child) == service(link.parent);
    let native = links.iter().filter(|link| !options.native && is_kept_by_database(link)).count();
    links.retain(|link| options.native || !is_kept_by_database(link));
    Ok(Found { tables, links, left_out, native })
}

/// A table, as an entity to be.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// `service.entity`.
    pub name: String,
    /// The service whose database it is in.
    pub service: String,
    /// The database.
    pub database: DatabaseId,
    /// The table.
    pub table: TableRef,
    /// Its key: the primary key, or else a unique key without nulls; empty if it has none.
    pub key: Vec<String>,
    /// How many rows it has, as far as the database knows.
    pub rows: Option<u64>,
}

/// A reference that may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index of the child's table.
    pub child: usize,
    /// Its columns.
    pub columns: Vec<String>,
    /// Index of the parent's table.
    pub parent: usize,
    /// Its columns.
    pub parent_columns: Vec<String>,
    /// Only rows with these values in this column.
    pub when: Option<(String, BTreeSet<String>)>,
    /// Why it is thought to be one.
    pub why: Why,
    /// What the names alone are worth, in percent.
    pub by_name: u8,
    /// What values say, if they were looked at.
    pub values: Option<Inclusion>,
    /// How likely it is, in percent.
    pub confidence: u8,
    /// What has to be done in a database before the rules can have it.
    pub needs: Option<String>,
}

/// Why a reference is thought to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A native foreign key.
    Native {
        /// Its name.
        name: String,
        /// ON DELETE.
        on_delete: NativeAction,
        /// ON UPDATE.
        on_update: NativeAction,
        /// The columns that SET NULL or SET DEFAULT writes.
        sets: Vec<String>,
    },
    /// The column's name, in which way.
    Name(&'static str),
    /// The values of a column that tells the kind of parent.
    Kind,
    /// Nothing but the values.
    Values,
}

/// How many of a child's values a parent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Distinct values that were looked for.
    pub asked: usize,
    /// Those that are there.
    pub present: usize,
    /// Some that are not there.
    pub missing: Vec<String>,
    /// How full the parent's range of numbers is, in percent: in a full one anything is found.
    pub density: u8,
}

impl Inclusion {
    /// The share that is there, in percent, rounded down.
    #[must_use]
    pub fn share(&self) -> usize {
        (self.present * 100).checked_div(self.asked).unwrap_or(0)
    }
}

impl Link {
    /// Whether it is likely enough to be written as a reference.
    #[must_use]
    pub fn is_firm(&self) -> bool {
        self.confidence >= FIRM
    }

    /// Whether it is written as a reference; otherwise it is a comment.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.is_firm() && self.needs.is_none()
    }
}

/// How a reference is told from every other, for a person and for a later run: `shop.order(customer_id) -> crm.customer(id)`.
#[must_use]
pub fn mark(tables: &[Surveyed], link: &Link) -> String {
    let name = |table: usize| tables.get(table).map_or("", |table| table.name.as_str());
    let when = link.when.as_ref().map_or(String::new(), |(column, values)| {
        format!(" where {column} is {}", values.iter().cloned().collect::<Vec<_>>().join(" or "))
    });
    one_line(&format!(
        "{}({}){when} -> {}({})",
        name(link.child),
        link.columns.join(", "),
        name(link.parent),
        link.parent_columns.join(", ")
    ))
}
