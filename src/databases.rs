//! The databases of this process by service, each opened once.
//!
//! Two services may share one database: they share one connection then, since two transactions of one batch in one database would wait for
//! each other's rows (H60).

use std::collections::{BTreeMap, BTreeSet};
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
    /// Services whose databases are named in the settings and cannot be asked now.
    silent: BTreeSet<String>,
}

impl Databases {
    /// Adds a service; asks the database who it is.
    ///
    /// # Errors
    /// Those of the database, which may be down.
    pub async fn add(&mut self, service: &str, access: Access, database: Arc<dyn Database>) -> Result<(), SinkError> {
        database.reach().await?;
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

    #[cfg(test)]
    pub(crate) fn handle_mut(&mut self, id: DatabaseId) -> &mut Handle {
        self.handles.get_mut(id.0).expect("ids are made here")
    }

    /// Notes that a service has a database which cannot be asked now.
    pub fn note_silent(&mut self, service: &str) {
        self.silent.insert(service.to_owned());
    }

    /// Leaves a service's database out: it was opened and does not answer any more.
    pub fn silence(&mut self, service: &str) {
        if self.services.remove(service).is_some() {
            self.note_silent(service);
        }
    }

    /// Whether the service has a database that cannot be asked now.
    #[must_use]
    pub fn is_silent(&self, service: &str) -> bool {
        self.silent.contains(service)
    }

    /// Whether some database cannot be asked now.
    #[must_use]
    pub fn some_are_silent(&self) -> bool {
        !self.silent.is_empty()
    }

    /// The database of a service.
    #[must_use]
    pub fn of_service(&self, service: &str) -> Option<DatabaseId> {
        self.services.get(service).copied()
    }

    /// Services and their databases.
    pub fn services(&self) -> impl Iterator<Item = (&str, &Handle)> {
        self.services.iter().map(|(service, id)| (service.as_str(), self.handle(*id)))
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
