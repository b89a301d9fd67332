//! Copies of a repository in other stores, made and kept up without a key.
//!
//! A replica holds the same objects under the same names, byte for byte, so that it opens with the same
//! keys and is worth as much. A copy is a union: what the destination lacks is created, nothing there is
//! overwritten or deleted, and copying both ways brings two stores together that were written to apart.
//! Who copies needs to read and list at one end, and to create at the other.
//!
//! **Valid at every moment.** A reader at the destination finds whatever it is led to. What refers is
//! listed before that to which it refers, and created after it: points before snapshots before segments
//! before packs in the first case, the other way round in the second. What is committed at the source
//! meanwhile was not listed and waits for the next time.
//!
//! **Collectors** delete, at either end, while a copy runs. Without a key only the names of their
//! objects can be read, and that is enough:
//!
//! * at the source, packs and segments are deleted by what an `outcome` says, and whatever one that
//!   exists does not name goes on to be enough for all that is committed. So if no further outcome has
//!   appeared from the first listing to the last segment read, all that was listed is whole. Else the
//!   listings are made again, and what they add is little;
//! * at the destination, what was there may go because nothing there referred to it yet. So a pass in
//!   which a generation was open, or one was decided, is followed by another, which finds what is
//!   missing, before it is said that the copy is whole;
//! * other objects that were listed and are gone when they are to be read lead to another pass as well:
//!   what takes their place is found then.
//!
//! **Sessions.** An announcement is copied after its commit. One without would be closed by a collector
//! at the destination, with a tombstone where the snapshot is to be. Tombstones are commits like others:
//! who was closed at the source stays closed everywhere. Objects of generations are each store's own
//! affair.
//!
//! **Logs** have no gaps. Trims, and notes of where runs begin, come before batches, so that a reader
//! knows what may be missing and where to begin. Where something that was listed is gone, nothing that
//! follows is copied before the next pass. A log that was written to at both ends has two ends: it is
//! told, and left as it is.
//!
//! **Forgets** of what the destination does not have come first, since what was forgotten at the source
//! may be incomplete there; those of what it has come last.

mod folders;
mod identity;
mod kind;
mod lag;
mod plan;
mod report;
mod run;
mod throttle;
mod transfer;

use model::{Context, Result};

pub use kind::Kind;
pub use lag::measure_lag;
pub use report::{Amount, Fault, KindReport, Lag, Problem, Report};

use crate::store::Store;

/// How a repository is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// Finds out what would be copied, and writes nothing.
    pub is_dry_run: bool,
    /// How many objects are copied at the same time.
    pub jobs: usize,
    /// About how much memory what is on its way may take, in bytes.
    pub memory_bytes: u64,
    /// How fast it may be, on average; none: as fast as it can.
    pub bytes_per_second: Option<u64>,
    /// Copies key slots. Not towards the place where keys are managed: one that was removed there would
    /// come back.
    pub with_keys: bool,
}

/// Copies to the destination what it lacks. What was copied before stays, whatever ends this; the same
/// call goes on from there.
///
/// # Errors
/// `NotFound` where the source holds no repository; `Conflict` where the destination holds something
/// else; `Invalid` where both are one place; `Unsupported`; `Unavailable`, also where collectors do not
/// come to an end; `Denied`, `Exhausted`, `Cancelled`. An object that is damaged is an outcome.
pub async fn replicate(
    source: &Store,
    destination: &Store,
    options: &ReplicaOptions,
    context: &Context,
) -> Result<Report> {
    Box::pin(run::Run::new((source, destination), options, context).run()).await
}

#[cfg(test)]
mod tests;
