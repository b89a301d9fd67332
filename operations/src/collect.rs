//! Collecting garbage: what nothing needs any more is deleted, or it is told what would be.

use std::path::PathBuf;
use std::time::Duration;

use model::{Context, Result};
use repository::Repository;
use repository::gc::{self, GcOptions, Report};

/// How long a session that has not ended is waited for, unless told otherwise: captures commit a
/// checkpoint every 15 minutes, and the last of them may take its time.
pub const PATIENCE: Duration = Duration::from_secs(3600);
/// Packs of which less is needed than this are rewritten, in percent.
pub const REWRITE_BELOW_PERCENT: u8 = 50;

/// What a collection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectPlan {
    /// Says what would be done, and writes nothing.
    pub is_dry_run: bool,
    /// How long a session that has not ended is waited for, from its announcement on.
    pub patience: Duration,
    /// How long what was forgotten is left alone.
    pub grace: Duration,
    /// Where lists that are larger than memory are sorted.
    pub scratch_folder: PathBuf,
}

/// Collects garbage.
///
/// # Errors
/// As [`gc::collect`].
pub async fn collect(
    repository: &Repository,
    plan: &CollectPlan,
    context: &Context,
) -> Result<Report> {
    let options = GcOptions {
        is_dry_run: plan.is_dry_run,
        patience: plan.patience,
        grace: plan.grace,
        rewrite_below_percent: REWRITE_BELOW_PERCENT,
        scratch_folder: plan.scratch_folder.clone(),
    };
    gc::collect(repository, &options, context).await
}
