//! The databases of this process by service, each opened once.
//!
//! Two services may share one database: they share one connection then, since two transactions of one batch in one database would wait for
//! each other's rows (H60).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sink::{Access, Database, SinkError};

/// Index of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(pub usize);

/// One open database.
#[derive(Clone)]
pub struct Handle {
    /// The services it serves, joined by `+`: its name in messages.
    pub name: String,
    /// Written, if one of its services may be.
    pub access: Access,
    /// The driver.
    pub database: Arc<dyn Database>,
    /// What it says of itself.
    pub identity: String,
}

/// All open databases.
#[derive(Clone, Default)]
pub struct Databases {
    handles: Vec<Handle>,
    services: BTreeMap<String, DatabaseId>,
}

impl Databases {
    /// Adds a service; asks the database who it is.
    ///
    /// # Errors
    /// Those of the database, which may be down.
    pub async fn add(&mut self, service: &str, access: Access, database: Arc<dyn Database>) -> Result<(), SinkError> {
        let identity = database.identity().await?;
        let known = self.handles.iter().position(|handle| handle.identity == identity);
        let id = match known.and_then(|index| self.handles.get_mut(index).map(|handle| (index, handle))) {
            Some((index, handle)) => {
                handle.name = format!("{}+{service}", handle.name);
                if handle.access == Access::Read && access == Access::Write {
                    (handle.access, handle.database) = (access, database);
                }
                DatabaseId(index)
            }
            None => {
                self.handles.push(Handle { name: service.to_owned(), access, database, identity });
                DatabaseId(self.handles.len() - 1)
            }
        };
        self.services.insert(service.to_owned(), id);
        Ok(())
    }

    /// The database of a service.
    #[must_use]
    pub fn of_service(&self, service: &str) -> Option<DatabaseId> {
        self.services.get(service).copied()
    }

    /// The database of this id.
    #[must_use]
    pub fn handle(&self, id: DatabaseId) -> &Handle {
        self.handles.get(id.0).expect("database ids are made by this list")
    }

    /// Ids and databases, in one order for every worker (H60).
    pub fn iter(&self) -> impl Iterator<Item = (DatabaseId, &Handle)> {
        self.handles.iter().enumerate().map(|(index, handle)| (DatabaseId(index), handle))
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for handle in &self.handles {
            handle.database.close().await;
        }
    }
}
