//! Capture: a cut of a system becomes a snapshot in a repository.
//!
//! `entries` joins what the source lists with what the parent snapshot has, `decide` says what has to be
//! read, `units` groups that, `work` reads it on threads that may block, `pipeline` keeps the order, and
//! `run` builds the tree and commits it. Nothing here holds the whole listing, except that changes since
//! the parent are held while they are applied.

pub mod decide;
mod entries;
mod listing;
mod pipeline;
mod plan;
mod problems;
mod run;
mod stripes;
pub mod units;
mod work;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use model::{AttributeTag, Attributes, Context, Error, ErrorKind, Item, Position, Result, System};
use repository::Repository;
use repository::snapshot::Snapshot;
use repository::types::StreamName;

pub(crate) use pipeline::cancellable;
pub use plan::{Planned, plan};

/// How often a capture that was fenced begins again.
const FENCED_MAX: u32 = 3;

/// How a system is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The capturing host, for people.
    pub host: String,
    /// The key domain.
    pub domain: String,
    /// Each unchanged item is read again once in this many captures; 0: never. Where a system tells its
    /// changes it applies to the changed items only.
    pub recheck_every_captures: u32,
    /// Reads everything, whatever is known.
    pub read_everything: bool,
    /// Where encrypted runs are spilled while a listing is sorted.
    pub scratch_folder: PathBuf,
    /// How many processors may be kept busy; at least 1.
    pub workers: usize,
}

/// What a capture did.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Items that the source listed: all of them, or the changed ones.
    pub listed_items: u64,
    /// Items that were taken over unread.
    pub reused_items: u64,
    /// Items whose content was read.
    pub read_items: u64,
    /// Items of the parent that are gone.
    pub deleted_items: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Bytes put into the store.
    pub stored_bytes: u64,
    /// Items that could not be listed or read, and whatever else was reported on the way.
    pub problems: u64,
}

/// Captures a system: takes a cut, reads what is not known, and commits a snapshot.
///
/// A capture whose session was fenced by a collector begins again, at most a few times, from the newest
/// snapshot or checkpoint. One that fails or is cancelled releases its cut and gives up its session.
///
/// # Errors
/// Those of the system and of the store; `Cancelled`; `Conflict` where it was fenced again and again.
pub async fn capture(
    repository: &Repository,
    stream: &StreamName,
    system: &dyn System,
    options: &CaptureOptions,
    context: &Context,
) -> Result<Captured> {
    let mut fenced = 0;
    loop {
        let attempt = run::attempt(repository, stream, system, options, context);
        match Box::pin(attempt).await {
            Err(run::Failure::Fenced(_)) if fenced < FENCED_MAX => fenced += 1,
            Err(run::Failure::Fenced(error) | run::Failure::Other(error)) => return Err(error),
            Ok(captured) => return Ok(captured),
        }
    }
}

/// Returns the position that a system may tell its changes since, if the snapshot serves for that: it
/// is a whole state, and its extent identities are of the epoch that the system is in.
fn since<'s>(parent: Option<&'s Snapshot>, system: &dyn System) -> Option<&'s Position> {
    parent
        .filter(|parent| !parent.is_checkpoint)
        .filter(|parent| parent.extent_epoch == system.facts().extent_epoch)
        .map(|parent| &parent.position)
}

/// Returns what decisions of the capture of this number go by.
fn trust(
    parent: Option<&Snapshot>,
    capture_number: u64,
    system: &dyn System,
    options: &CaptureOptions,
) -> decide::Trust {
    let source_epoch = system.facts().extent_epoch;
    decide::Trust {
        stored_epoch: parent.map_or(source_epoch, |parent| parent.extent_epoch),
        source_epoch,
        recheck_every_captures: options.recheck_every_captures,
        capture_number,
    }
}

/// Returns the attributes of an item that did not come to rest while it was read.
pub(crate) fn marked(attributes: &Attributes) -> Attributes {
    let mut builder = Attributes::builder();
    for (tag, value) in attributes.iter() {
        builder = builder.bytes(tag, value);
    }
    builder.unsigned(AttributeTag::INCONSISTENT, 1).build()
}

/// Says of an item that it did not come to rest while it was read.
pub(crate) fn unsteady(item: &Item) -> Error {
    Error::new(ErrorKind::Unavailable, "read content", item.key.display())
        .detail("it changed each time that it was read; its last reading is stored and marked")
}
