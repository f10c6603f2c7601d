//! From a `source` block to a position in the source's log, and its text for storage.
//!
//! Positions serve two questions only: which of two records of one key is newer, and whether a source went back (H15).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::SourcePosition;
use super::wire::Members;

/// The position of a record, if its connector is known and its source block holds one.
///
/// PostgreSQL: `lsn` alone orders the changes of one key, because a row lock separates them; `r` of an incremental snapshot has none.
/// MySQL and MariaDB: the binlog's number, `pos`, `row`; a `server_id` of 0 is a snapshot's and stands for no server, so it has no position.
/// SQL Server: commit and change LSN, serial number; log positions belong to one database.
pub(super) fn position(source: &Members<'_>) -> Option<SourcePosition> {
    let connector = source.text("connector")?;
    let name = source.text("name")?;
    let at = |name: String, order| Some(SourcePosition { source: Arc::from(name), order });
    match connector.as_ref() {
        "postgresql" | "sqlite" => at(format!("{connector}/{name}"), vec![number(source, "lsn")?]),
        "mysql" | "mariadb" => {
            let server = number(source, "server_id").filter(|&id| id != 0)?;
            let file = source.text("file")?;
            let (base, binlog) = file.rsplit_once('.')?;
            let order = vec![digits(binlog)?, number(source, "pos")?, number(source, "row")?];
            at(format!("{connector}/{name}/{server}/{base}"), order)
        }
        "sqlserver" => {
            let mut order = hex_groups(&source.text("commit_lsn")?)?;
            if let Some(change) = source.text("change_lsn") {
                order.extend(hex_groups(&change)?);
                order.extend(number(source, "event_serial_no"));
            }
            at(format!("{connector}/{name}/{}", source.text("db").unwrap_or_default()), order)
        }
        _ => None,
    }
}

/// The source's transaction: equal texts of one source belong together (H30).
pub(super) fn transaction(source: &Members<'_>, block: Option<&Members<'_>>) -> Option<String> {
    let connector = source.text("connector")?;
    let id = block.and_then(|block| block.text("id"));
    match connector.as_ref() {
        "postgresql" | "sqlite" => {
            number(source, "lsn")?;
            // The part after the colon differs from record to record of one transaction.
            let id = id.map(|id| id.split(':').next().unwrap_or_default().to_owned());
            id.filter(|id| !id.is_empty()).or_else(|| number(source, "txId").map(|id| id.to_string()))
        }
        "mysql" | "mariadb" => id.or_else(|| source.text("gtid")).map(Into::into),
        "sqlserver" => source.text("commit_lsn").or(id).map(Into::into),
        _ => None,
    }
}

fn number(source: &Members<'_>, member: &str) -> Option<u64> {
    digits(source.value(member)?.get())
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn hex_groups(text: &str) -> Option<Vec<u64>> {
    text.split(':').map(|group| u64::from_str_radix(group, 16).ok().filter(|_| !group.starts_with('+'))).collect()
}

/// `35250208@postgresql/crm`, `1.53117.0@mariadb/crm/1/bin`: the numbers, then the source.
impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.order.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { "" } else { "." })?;
        }
        write!(f, "@{}", self.source)
    }
}

/// A text that is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a source position: numbers with points between them, `@` and the source were expected")]
pub struct PositionError;

impl FromStr for SourcePosition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (numbers, source) = text.split_once('@').ok_or(PositionError)?;
        let order = match numbers {
            "" => Some(Vec::new()),
            _ => numbers.split('.').map(|number| digits(number).filter(|parsed| parsed.to_string() == number)).collect(),
        };
        Ok(Self { source: Arc::from(source), order: order.ok_or(PositionError)? })
    }
}
