//! Carrying a plan out: windows of steps at a time, their content fetched together and written by
//! several threads, within a bounded amount of memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::{Error, ErrorKind, ItemKey, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use super::apply::{Outcome, chunks};
use super::merge::Planned;
use super::plan::Action;
use super::report::RestoreReport;
use super::windows::{Grouping, WINDOW_BYTES, Window, Work};
use super::{Job, is_fatal};
use crate::browse::as_path;

/// Memory is given out in units of this size.
const UNIT_BYTES: u64 = 1 << 20;
/// What a streamed content takes: what is written, and what is fetched ahead of it.
const LARGE_BYTES: u64 = 9 << 20;
/// After so many bytes the disk is given work, so that little is left to wait for at the end.
const EARLY_BYTES: u64 = 512 << 20;

/// Something that is being made durable.
pub(super) type Persisting = JoinHandle<Result<()>>;

/// A restore that is running.
struct Run {
    job: Arc<Job>,
    /// How many threads may write to the target.
    writes: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_units: u32,
    report: Mutex<RestoreReport>,
    early: Mutex<Early>,
}

/// Making durable what was written so far, one time after another.
#[derive(Default)]
struct Early {
    /// How many bytes were written since it began last.
    bytes: u64,
    begun: Vec<Persisting>,
}

/// Does what is planned, then completes the target; that remains to be made durable.
/// What was begun early of that is returned.
pub(super) async fn execute(job: &Arc<Job>) -> Result<(RestoreReport, Vec<Persisting>)> {
    let bytes = (job.memory_bytes as u64).max(2 * LARGE_BYTES);
    let memory_units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX >> 4);
    let run = Arc::new(Run {
        job: job.clone(),
        writes: Arc::new(Semaphore::new(job.target.facts().write_concurrency.max(1))),
        memory: Arc::new(Semaphore::new(memory_units as usize)),
        memory_units,
        report: Mutex::default(),
        early: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    let begun = run.begin_all(&mut tasks).await;
    // What was begun is brought to its end, so that nothing is written after an error was returned.
    let mut ended = begun;
    while let Some(task) = tasks.join_next().await {
        let result = joined(task);
        ended = ended.and(result);
    }
    ended?;
    // While directories are completed, the disk has what is in them.
    run.persist_early(EARLY_BYTES);
    let (target, context) = (job.target.clone(), job.context.clone());
    let finished = job.on_thread(async move { target.finish(&context).await }).await;
    let mut report = std::mem::take(&mut *run.report());
    note_end(finished, &mut report, job)?;
    let early = std::mem::take(&mut lock(&run.early).begun);
    Ok((report, early))
}

/// Makes what was done durable, in the background. What was begun `earlier` ends with it: a target may
/// tell of a failure only once.
pub(super) fn spawn_persist(job: &Arc<Job>, earlier: Vec<Persisting>) -> Persisting {
    let (target, context) = (job.target.clone(), job.context.clone());
    let persisting = job.on_thread(async move { target.persist(&context).await });
    tokio::spawn(async move {
        let mut ended = persisting.await;
        for earlier in earlier {
            ended = ended.and(joined(earlier.await));
        }
        ended
    })
}

/// Notes what came of something that was about the target as a whole.
pub(super) fn note_end(ended: Result<()>, report: &mut RestoreReport, job: &Job) -> Result<()> {
    match ended {
        Err(error) if is_fatal(&error) => return Err(error),
        Err(error) => report.fail(&ItemKey::root(), error, &job.context),
        Ok(()) => {}
    }
    Ok(())
}

fn joined(task: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    task.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "restore", "").because(error)))
}

impl Run {
    /// Begins all work in the order of the plan.
    async fn begin_all(self: &Arc<Self>, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
        let mut merged = self.job.merged();
        let (mut grouping, mut works) = (Grouping::default(), Vec::new());
        loop {
            let batch = merged.next().await?;
            let is_last = batch.is_none();
            for planned in batch.unwrap_or_default() {
                grouping.push(planned, &mut works);
            }
            if is_last {
                grouping.close(&mut works);
            }
            for work in works.drain(..) {
                self.job.context.check("restore")?;
                self.begin(work, tasks).await?;
                while let Some(task) = tasks.try_join_next() {
                    joined(task)?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn begin(self: &Arc<Self>, work: Work, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
        match work {
            Work::Large(planned) => {
                let memory = self.reserve(LARGE_BYTES).await?;
                let run = self.clone();
                tasks.spawn(async move { run.write(vec![(*planned, None)], memory).await });
            }
            Work::Window(Window { ordered, free, content_bytes }) => {
                if !ordered.is_empty() {
                    self.do_in_order(ordered).await?;
                }
                if free.is_empty() {
                    return Ok(());
                }
                // A window ends with the content that fills it.
                let memory = self.reserve(content_bytes.min(2 * WINDOW_BYTES)).await?;
                let run = self.clone();
                tasks.spawn(async move {
                    let fetched = run.fetch(free).await?;
                    run.write(fetched, memory).await
                });
            }
        }
        Ok(())
    }

    async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes / UNIT_BYTES + 1).unwrap_or(u32::MAX);
        let units = units.min(self.memory_units);
        self.memory.clone().acquire_many_owned(units).await.map_err(closed)
    }

    /// Does what others depend on: one after another, before anything else is begun.
    async fn do_in_order(self: &Arc<Self>, ordered: Vec<Planned>) -> Result<()> {
        let run = self.clone();
        let done = async move {
            for planned in ordered {
                run.do_one(planned, None).await?;
            }
            Ok(())
        };
        self.job.on_thread(done).await
    }

    /// Fetches the content of a window's new items in one go.
    async fn fetch(&self, free: Vec<Planned>) -> Result<Vec<(Planned, Option<Vec<Bytes>>)>> {
        let mut all = Vec::new();
        let mut counts = Vec::with_capacity(free.len());
        for planned in &free {
            let is_wanted = matches!(planned.action, Action::Apply(_));
            let own = if is_wanted { chunks(&planned.content) } else { Vec::new() };
            counts.push(own.len());
            all.extend(own);
        }
        let fetched = match self.job.reader_for_writing().read_all(&all).await {
            Ok(fetched) => fetched,
            Err(error) if is_fatal(&error) => return Err(error),
            // Each item is read by itself, so that one that is damaged does not take others along.
            Err(_) => return Ok(free.into_iter().map(|planned| (planned, None)).collect()),
        };
        let mut fetched = fetched.into_iter();
        let with_content = free.into_iter().zip(counts).map(|(planned, count)| {
            let bytes: Vec<Bytes> = fetched.by_ref().take(count).collect();
            (planned, (count > 0).then_some(bytes))
        });
        Ok(with_content.collect())
    }

    /// Writes on one of the threads for that.
    async fn write(
        self: Arc<Self>,
        steps: Vec<(Planned, Option<Vec<Bytes>>)>,
        memory: OwnedSemaphorePermit,
    ) -> Result<()> {
        let permit = self.writes.clone().acquire_owned().await.map_err(closed)?;
        let job = self.job.clone();
        let done = async move {
            for (planned, fetched) in steps {
                self.do_one(planned, fetched).await?;
            }
            drop((permit, memory));
            Ok(())
        };
        job.on_thread(done).await
    }

    /// Does one step and notes what came of it. Only an error that concerns everything is returned.
    async fn do_one(&self, planned: Planned, fetched: Option<Vec<Bytes>>) -> Result<()> {
        self.job.context.check("restore")?;
        let key = planned.action.key().clone();
        let done = Box::pin(self.job.carry_out(planned, fetched)).await;
        let mut report = self.report();
        match done {
            // The target itself is there before and after, and not counted.
            Ok(_) if key.is_root() => {}
            Ok(Outcome::Created(bytes)) => {
                report.created += 1;
                report.restored_bytes += bytes;
                self.persist_early(bytes);
            }
            Ok(Outcome::Replaced(bytes)) => {
                report.replaced += 1;
                report.restored_bytes += bytes;
                self.persist_early(bytes);
            }
            Ok(Outcome::Deleted) => report.deleted += 1,
            Ok(Outcome::Skipped) => report.skipped += 1,
            Ok(Outcome::Left) => report.left += 1,
            Ok(Outcome::Conflict) => {
                let error = Error::new(ErrorKind::Conflict, "restore", as_path(&key))
                    .detail("something else is there");
                report.fail(&key, error, &self.job.context);
            }
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => report.fail(&key, error, &self.job.context),
        }
        Ok(())
    }

    /// Begins to make durable what was written, where that is enough.
    fn persist_early(&self, written: u64) {
        let mut early = lock(&self.early);
        early.bytes = early.bytes.saturating_add(written);
        let is_under_way = early.begun.last().is_some_and(|task| !task.is_finished());
        if early.bytes >= EARLY_BYTES && !is_under_way {
            early.bytes = 0;
            early.begun.push(spawn_persist(&self.job, Vec::new()));
        }
    }

    fn report(&self) -> MutexGuard<'_, RestoreReport> {
        lock(&self.report)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed(error: tokio::sync::AcquireError) -> Error {
    Error::new(ErrorKind::Internal, "restore", "").because(error)
}
