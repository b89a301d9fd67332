//! Logs: the changes of a system between cuts, stored as they come; no session, no index.
//!
//! A batch is one object, `log/<stream>/<bucket>/<number>`, created once and linked to the batch before
//! it by its hash. What is larger than an object may be has parts beside it, which are created first.
//! Old batches are compacted into segments; only functions for the collector delete.
//! `docs/repository-format.md` §8 has the bytes.

mod catalogue;
mod changes;
mod compact;
mod read;
mod record;
#[cfg(test)]
mod tests;
mod tree;
mod trim;
mod write;

use bytes::Bytes;
use model::{Batch, Change, Error, ErrorKind, Payload, Position, Timestamp};

pub use compact::{Compacted, SEGMENT_BYTES_MAX, compact_log, delete_compacted};
pub use tree::{LoggedBatches, LoggedRecord, LoggedTree};
pub use trim::{delete_trimmed, trim_log};
pub use write::LogWriter;

use crate::types::SessionId;

/// The most bytes of a batch's body, before compression, in one object; the rest stands in parts.
pub const LOG_PART_BYTES_MAX: usize = 32 << 20;
/// The most bytes of a batch's body, before compression. Whoever has more takes a new cut.
pub const LOG_BATCH_BYTES_MAX: usize = 512 << 20;

/// What a stored batch carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogBody {
    /// Bytes of the system's own log.
    Raw(Bytes),
    /// Changes, in order; the content of upserted items, extent by extent (holes have none).
    Changes(Vec<(Change, Vec<Bytes>)>),
}

/// A batch to be stored, or as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// Its number in the stream, without gaps.
    pub number: u64,
    /// The snapshot that the run of batches began at.
    pub base: SessionId,
    /// The position before the first change.
    pub after: Position,
    /// The position after the last change.
    pub upto: Position,
    /// The source's time of the first change.
    pub first_at: Timestamp,
    /// The source's time of the last change.
    pub last_at: Timestamp,
    /// The changes.
    pub body: LogBody,
}

impl From<LogBatch> for Batch {
    /// Returns the batch as its follower gave it, without the contents of upserted items.
    fn from(batch: LogBatch) -> Self {
        let LogBatch { after, upto, first_at, last_at, body, .. } = batch;
        let payload = match body {
            LogBody::Raw(bytes) => Payload::Raw(bytes),
            LogBody::Changes(changes) => {
                Payload::Changes(changes.into_iter().map(|(change, _)| change).collect())
            }
        };
        Self { after, upto, first_at, last_at, payload }
    }
}

/// Where a stream's log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// The number of the last batch.
    pub number: u64,
    /// The snapshot that its run began at.
    pub base: SessionId,
    /// Its last position.
    pub upto: Position,
    /// Its last time.
    pub last_at: Timestamp,
}

/// A run of batches over one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRun {
    /// The snapshot.
    pub base: SessionId,
    /// The number of its first batch.
    pub first: u64,
    /// The number of its last batch; none while it is the newest run.
    pub last: Option<u64>,
}

fn corrupt(path: &str, what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, "read log", path).detail(what)
}
