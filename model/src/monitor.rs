//! Progress as a port: terminals, metrics, job tables and tests are monitors.

use std::fmt::Debug;

use crate::Error;

/// What is counted. The last word of a name is its unit.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// Items that a source listed.
    ListedItems,
    /// Items that were taken over unread.
    ReusedItems,
    /// Items whose content was read.
    ReadItems,
    /// Items that are gone since the parent snapshot.
    DeletedItems,
    /// Bytes of items that were taken over unread.
    ReusedBytes,
    /// Bytes read from a source.
    ReadBytes,
    /// Bytes of chunks that the repository had already.
    DeduplicatedBytes,
    /// Bytes put into the repository, compressed and sealed.
    StoredBytes,
    /// Chunks stored as deltas.
    DeltaChunks,
    /// Items written to a target.
    RestoredItems,
    /// Items that a target had already.
    SkippedItems,
    /// Bytes written to a target.
    RestoredBytes,
    /// Items compared with what was captured.
    VerifiedItems,
    /// Bytes compared with what was captured.
    VerifiedBytes,
    /// Objects of a repository looked at.
    CheckedObjects,
    /// Objects copied to another store.
    CopiedObjects,
    /// Their bytes.
    CopiedBytes,
}

/// What an operation is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// A word for people: `capture`, `commit`, `restore`.
    pub name: &'static str,
    /// On what: a system, a repository.
    pub subject: String,
    /// How much there is to do, where it is known: the counter and its final value.
    pub total: Option<(Counter, u64)>,
}

/// Receives progress. Implementations return at once and never fail.
pub trait Monitor: Debug + Send + Sync {
    /// Adds to a counter.
    fn count(&self, counter: Counter, increment: u64);
    /// Says that a phase begins; it ends where the next begins.
    fn phase(&self, phase: Phase);
    /// Something failed and the operation goes on without it.
    fn problem(&self, problem: &Error);
}
