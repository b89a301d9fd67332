//! Keeping a second copy of a repository: into another store, or both ways, without a key.

use model::{Context, ErrorKind, Result};
use repository::Repository;
use repository::replicate::{Fault, ReplicaOptions, Report, replicate};
use repository::store::Store;

/// How many objects are copied at the same time, unless told otherwise.
pub const JOBS: usize = 8;

/// What a copy is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPlan {
    /// Says what would be copied, and writes nothing.
    pub is_dry_run: bool,
    /// Also copies back what only the other store has.
    pub is_both_ways: bool,
    /// How many objects are copied at the same time.
    pub jobs: usize,
    /// About how much memory what is on its way may take, in bytes.
    pub memory_bytes: u64,
    /// How fast it may be, on average; none: as fast as it can.
    pub bytes_per_second: Option<u64>,
}

/// What was copied, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// From the first store to the second.
    pub forth: Report,
    /// Back, where that was asked for.
    pub back: Option<Report>,
}

impl Synced {
    /// Lists the directions.
    pub fn directions(&self) -> impl Iterator<Item = &Report> {
        std::iter::once(&self.forth).chain(&self.back)
    }

    /// Says whether objects were found damaged, at either end.
    pub fn is_damaged(&self) -> bool {
        let damage = [Fault::DamagedHere, Fault::DamagedThere];
        self.directions().any(|report| damage.iter().any(|fault| report.count_of(*fault) > 0))
    }

    /// Says whether all is at both ends, as far as was asked.
    pub fn is_whole(&self) -> bool {
        self.directions().all(|report| report.problems.is_empty() && report.is_settled)
    }
}

/// Copies from one store to another what that lacks, and back if wanted. Keys go forth only: one that
/// was removed would come back.
///
/// # Errors
/// As [`replicate`].
pub async fn sync(from: &Store, to: &Store, plan: &SyncPlan, context: &Context) -> Result<Synced> {
    let options = ReplicaOptions {
        is_dry_run: plan.is_dry_run,
        jobs: plan.jobs,
        memory_bytes: plan.memory_bytes,
        bytes_per_second: plan.bytes_per_second,
        with_keys: true,
    };
    let forth = replicate(from, to, &options, context).await?;
    let mut is_back = plan.is_both_ways;
    if is_back && plan.is_dry_run {
        // What is not there yet has nothing to give back.
        is_back = match Repository::find(to).await {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
    }
    let options = ReplicaOptions { with_keys: false, ..options };
    let back = if is_back { Some(replicate(to, from, &options, context).await?) } else { None };
    Ok(Synced { forth, back })
}
