//! Restore: a stored state, or a part of one, becomes the state of a target.
//!
//! What is wanted (records of the state under their keys in the target) and what is there (the
//! target's survey) are two sorted streams; [`plan`] says what becomes of each key, `merge` in which
//! order, `execute` does it, and `verify` compares what is there with what was captured: content that the
//! target read back while it was written ([`proven`]) by its version, everything else by reading it.

mod apply;
mod execute;
mod merge;
pub mod plan;
mod proven;
mod report;
mod survey;
#[cfg(test)]
mod tests;
mod verify;
mod wanted;
mod windows;

use std::sync::Arc;

use model::{AttributeTag, Context, Counter, Error, ErrorKind, ItemKey, Phase, Result, Target};
use repository::Repository;
use repository::content::ChunkReader;
use repository::crypto::DomainKeys;
use repository::index::LazyIndex;
use repository::threads::Threads;

pub use plan::{Action, Existing, PlanSummary, RestoreRules};
pub use report::{Difference, Failure, Mismatch, RestoreReport};

use merge::Merged;
use proven::Proven;
use wanted::Wish;

use crate::browse::as_path;
use crate::select::{Items, ResolvedSystem};

/// How a state is restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// How what is there is treated.
    pub rules: RestoreRules,
    /// Where the chosen path stands in the target. The root: the target itself becomes the chosen
    /// directory. The same as the chosen path: it keeps its place, and the directories that lead to it
    /// are made where they are missing.
    pub onto: ItemKey,
    /// What is restored of the chosen path, as people see it; empty: all.
    pub include: Vec<ItemKey>,
    /// What this target cannot hold here (owners, without privileges): neither compared nor verified.
    pub ignored: Vec<AttributeTag>,
    /// Whether everything is read back and compared afterwards.
    pub is_verified: bool,
}

/// What a restore, a plan and a verification work with.
struct Job {
    wish: Wish,
    target: Arc<dyn Target>,
    options: RestoreOptions,
    reader: ChunkReader,
    /// For content that is compared with its names once it was read back.
    plain_reader: ChunkReader,
    proven: Proven,
    keys: DomainKeys,
    /// What targets do, they do on these.
    threads: Arc<Threads>,
    /// About how much content may be held at a time, in bytes.
    memory_bytes: usize,
    subject: String,
    context: Context,
}

impl Job {
    fn new(
        repository: &Repository,
        system: &ResolvedSystem,
        target: &Arc<dyn Target>,
        options: &RestoreOptions,
        context: &Context,
    ) -> Result<Arc<Self>> {
        context.check("restore")?;
        repository.keys().check_full("restore")?;
        let keys = repository.domain(&system.snapshot.domain)?;
        let memory_bytes = usize::try_from(repository.options().memory_bytes).unwrap_or(usize::MAX);
        // Several large contents have to be under way at a time to keep all processors busy.
        // Neighbours in the state are neighbours in the blocks: few are wanted again later.
        let (share, cache) = (memory_bytes / 8 * 3, memory_bytes / 8);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let reader = ChunkReader::new(repository, &keys, cache)
            .with_threads(Arc::new(Threads::start("decode", cores)?))?
            .with_fallback(Arc::new(LazyIndex::new(repository, &keys)));
        Ok(Arc::new(Self {
            wish: Wish::new(system, &options.onto, &options.include)?,
            target: target.clone(),
            options: options.clone(),
            plain_reader: reader.clone().without_check(),
            reader,
            proven: Proven::new(memory_bytes / 8),
            keys,
            threads: Arc::new(Threads::start("restore", target.facts().write_concurrency)?),
            memory_bytes: share,
            subject: system.stream.to_string(),
            context: context.clone(),
        }))
    }

    fn merged(&self) -> Merged {
        let there = survey::spawn(&self.target, &self.context);
        Merged::new(self.wish.spawn(), there, &self.options)
    }

    /// Runs a future on one of the threads for it: targets and their readers do their work where they
    /// are polled.
    fn on_thread<T, W>(&self, work: W) -> impl Future<Output = Result<T>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let (runtime, threads) = (tokio::runtime::Handle::current(), self.threads.clone());
        async move { threads.result(move || runtime.block_on(work)).await? }
    }

    fn phase(&self, name: &'static str, total: Option<(Counter, u64)>) {
        self.context.monitor.phase(Phase { name, subject: self.subject.clone(), total });
    }

    /// Returns how many bytes of content are wanted, where that is cheap to tell.
    async fn total_bytes(&self) -> Result<Option<u64>> {
        let Items::Stored(tree) = &self.wish.items else { return Ok(None) };
        let mut bytes = 0_u64;
        for root in &self.wish.roots {
            bytes = bytes.saturating_add(tree.totals(root.subtree()).await?.content_bytes);
        }
        Ok(Some(bytes))
    }
}

/// Says what a restore would do: reads the state and what is there, and writes nothing.
///
/// # Errors
/// `NotFound` where the chosen path does not exist; `Invalid` where it is no directory and is to be the
/// target itself; those of the store and of the target.
pub async fn plan(
    repository: &Repository,
    system: &ResolvedSystem,
    target: &Arc<dyn Target>,
    options: &RestoreOptions,
    context: &Context,
) -> Result<PlanSummary> {
    let job = Job::new(repository, system, target, options, context)?;
    summarize(&job).await
}

async fn summarize(job: &Job) -> Result<PlanSummary> {
    job.phase("plan", None);
    let mut merged = job.merged();
    let mut summary = PlanSummary::default();
    while let Some(batch) = merged.next().await? {
        job.context.check("plan restore")?;
        batch.iter().for_each(|planned| summary.add(&planned.action));
    }
    Ok(summary)
}

/// Restores a state. Run again after an interruption with [`Existing::Keep`], it goes on. Single items
/// that cannot be restored are in the report and do not keep the others from it.
///
/// # Errors
/// `Conflict` where things stand in the way: then nothing was written. `Cancelled`, `Exhausted`,
/// `Unavailable` in the middle. As [`plan`] otherwise.
pub async fn restore(
    repository: &Repository,
    system: &ResolvedSystem,
    target: &Arc<dyn Target>,
    options: &RestoreOptions,
    context: &Context,
) -> Result<RestoreReport> {
    let job = Job::new(repository, system, target, options, context)?;
    refuse_conflicts(&job).await?;
    let total = job.total_bytes().await?;
    job.phase("restore", total.map(|bytes| (Counter::RestoredBytes, bytes)));
    let (mut report, early) = execute::execute(&job).await?;
    // The disk is busy with one, the processors with the other.
    let persisted = execute::spawn_persist(&job, early);
    let verified = if options.is_verified {
        job.phase("verify", total.map(|bytes| (Counter::VerifiedBytes, bytes)));
        verify::verify(&job, &mut report).await
    } else {
        Ok(())
    };
    let persisted = persisted
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "restore", "").because(error)));
    verified?;
    execute::note_end(persisted, &mut report, &job)?;
    Ok(report)
}

/// Compares a target with a state; writes nothing.
///
/// # Errors
/// As [`plan`].
pub async fn verify(
    repository: &Repository,
    system: &ResolvedSystem,
    target: &Arc<dyn Target>,
    options: &RestoreOptions,
    context: &Context,
) -> Result<RestoreReport> {
    let job = Job::new(repository, system, target, options, context)?;
    let total = job.total_bytes().await?;
    job.phase("verify", total.map(|bytes| (Counter::VerifiedBytes, bytes)));
    let mut report = RestoreReport::default();
    verify::verify(&job, &mut report).await?;
    Ok(report)
}

/// Makes sure before anything is written that nothing stands in the way.
async fn refuse_conflicts(job: &Arc<Job>) -> Result<()> {
    if job.options.rules.existing == Existing::Refuse {
        let Some(first) = survey::first_within(job).await? else { return Ok(()) };
        return Err(Error::new(ErrorKind::Conflict, "restore", as_path(&first))
            .detail("it is there: the target is not empty"));
    }
    let summary = summarize(job).await?;
    let Some(first) = summary.conflicts.first() else { return Ok(()) };
    let others = match summary.conflict_items.saturating_sub(1) {
        0 => String::new(),
        1 => ", and so does one more".to_owned(),
        more => format!(", and so do {more} more"),
    };
    Err(Error::new(ErrorKind::Conflict, "restore", as_path(first))
        .detail(format!("what is there differs from what is to be restored{others}")))
}

/// Says whether an operation cannot go on after an error, whatever item it was about.
fn is_fatal(error: &Error) -> bool {
    use ErrorKind::{Cancelled, Exhausted, Fenced, Internal, Unavailable, WrongKey};
    matches!(error.kind(), Cancelled | Exhausted | Fenced | Internal | Unavailable | WrongKey)
}
