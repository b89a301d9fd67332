//! Stacks as anybody of the same user sees them: by their records.

use std::path::Path;
use std::time::Duration;

use model::{Context, Error, ErrorKind, Result};
use rustix::process::Signal;

use crate::place::Place;
use crate::process::{ProcessId, stop};
use crate::record::{Record, ServerRecord};
use crate::registry;

/// How long a supervisor may take to stop all of its servers.
const PATIENCE: Duration = Duration::from_secs(120);

/// A stack that is on record.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// What is on record.
    pub record: Record,
}

/// Lists all stacks on record, the oldest first.
///
/// # Errors
/// Those of the file system.
pub fn list(place: &Place) -> Result<Vec<Running>> {
    let records = registry::records(place)?;
    Ok(records.into_iter().map(|(id, record)| Running { id, record }).collect())
}

/// Finds the stack that was started from a description; one that lives before one that does not.
///
/// # Errors
/// Those of the file system.
pub fn find(place: &Place, origin: &Path) -> Result<Option<Running>> {
    let mut all = list(place)?;
    all.retain(|one| one.record.origin.as_deref() == Some(origin));
    let alive = all.iter().position(Running::is_alive);
    Ok(alive.or_else(|| all.len().checked_sub(1)).map(|index| all.swap_remove(index)))
}

impl Running {
    /// Says whether anything of it is there: its supervisor, or a server.
    pub fn is_alive(&self) -> bool {
        self.record.is_supervised()
            || self.record.servers.iter().any(|one| self.is_server_alive(one))
    }

    /// Says whether one of its servers runs.
    pub fn is_server_alive(&self, server: &ServerRecord) -> bool {
        self.record.is_of_this_boot() && server.process.is_alive()
    }

    /// Returns the memory that a server has in use, without that of processes it started.
    pub fn resident_bytes(&self, server: &ServerRecord) -> Option<u64> {
        self.record.is_of_this_boot().then(|| server.process.resident_bytes())?
    }

    /// Ends it: asks its supervisor, or does it itself where there is none.
    ///
    /// # Errors
    /// `Unavailable` where something does not end.
    pub async fn down(&self, place: &Place, context: &Context) -> Result<()> {
        let supervisor = self.record.supervisor.filter(|_| self.record.is_supervised());
        if let Some(supervisor) = supervisor {
            self.ask(supervisor, context).await?;
        }
        // What the supervisor did not do, and what has none.
        let Some(entry) = registry::take(&self.id, place, context).await? else { return Ok(()) };
        registry::end(entry, &self.record, context.clock.as_ref()).await
    }

    async fn ask(&self, supervisor: ProcessId, context: &Context) -> Result<()> {
        // A test's process is not ours to end.
        let is_ours = self.record.origin.is_some();
        if !is_ours || !supervisor.signal(Signal::TERM) {
            return Ok(());
        }
        let ids = [supervisor].into();
        if stop::wait_until_gone(&ids, PATIENCE, context.clock.as_ref()).await {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Unavailable, "stop stack", &self.record.name);
        Err(error.detail(format!("its supervisor, process {}, does not end", supervisor.pid)))
    }
}
