//! Units of work in parallel, their results in key order.
//!
//! What waits is bounded by the memory that its entries take; content in flight is bounded by the
//! number of units that are worked on, each of which holds at most a block and a chunk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Context, Counter, Error, ErrorKind, ItemKey, Result};
use repository::threads::Threads;
use repository::types::Record;
use tokio::sync::Semaphore;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::entries::{Chooser, Entries};
use super::units::{Grouping, Unit};
use super::work::{Outcome, Tools, unread};

/// About how much memory entries take that wait for those before them.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// After this many items in a row that were unavailable the source as a whole is.
const UNAVAILABLE_IN_A_ROW_MAX: u32 = 100;

/// What a capture has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Items that the source listed.
    pub listed_items: u64,
    /// Items that were taken over unread.
    pub reused_items: u64,
    /// Items whose content was read.
    pub read_items: u64,
    /// Items of the parent that the source has no more.
    pub deleted_items: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
}

/// Records in key order, in batches.
pub type Records = Vec<(ItemKey, Record)>;

enum Pending {
    Done(Result<Vec<Outcome>>, usize),
    Working(oneshot::Receiver<Result<Vec<Outcome>>>, usize),
}

impl Pending {
    /// Says whether it is done, without waiting.
    fn is_done(&mut self) -> bool {
        if let Self::Working(receiver, held_bytes) = self {
            let done = match receiver.try_recv() {
                Ok(outcomes) => outcomes,
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => Err(given_up()),
            };
            *self = Self::Done(done, *held_bytes);
        }
        true
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Internal, "read content", "").detail("the thread that read it gave up")
}

/// Carries out what is to be done.
pub struct Pipeline<'t> {
    tools: Arc<Tools>,
    threads: Threads,
    permits: Arc<Semaphore>,
    grouping: Grouping,
    queue: VecDeque<Pending>,
    waiting_bytes: usize,
    is_listed: bool,
    unavailable_in_a_row: u32,
    tally: &'t mut Tally,
}

impl<'t> Pipeline<'t> {
    /// Begins; at most `parallel` units are worked on at once.
    ///
    /// # Errors
    /// `Exhausted` where no threads can be had.
    pub fn new(tools: Tools, parallel: usize, tally: &'t mut Tally) -> Result<Self> {
        Ok(Self {
            tools: Arc::new(tools),
            threads: Threads::start("capture", parallel)?,
            permits: Arc::new(Semaphore::new(parallel.max(1))),
            grouping: Grouping::default(),
            queue: VecDeque::new(),
            waiting_bytes: 0,
            is_listed: false,
            unavailable_in_a_row: 0,
            tally,
        })
    }

    /// Returns the next records; none at the end.
    ///
    /// # Errors
    /// Those of listing and of the repository; `Cancelled`; `Unavailable` where the source answers no
    /// more.
    pub async fn next(
        &mut self,
        entries: &mut impl Entries,
        chooser: &Chooser<'_>,
    ) -> Result<Option<Records>> {
        loop {
            let is_due = self.queue.front_mut().is_some_and(Pending::is_done);
            if is_due || self.is_listed || self.waiting_bytes >= WAITING_BYTES_MAX {
                return self.take().await;
            }
            self.list(entries, chooser).await?;
        }
    }

    /// Returns what is under way, without listing more; none when nothing is left.
    ///
    /// # Errors
    /// As [`Pipeline::next`].
    pub async fn drain(&mut self) -> Result<Option<Records>> {
        if let Some(unit) = self.grouping.take_rest() {
            self.start(unit).await?;
        }
        self.take().await
    }

    /// Lets everything under way come to its end, whatever that is: afterwards nothing reads the source.
    pub async fn stop(&mut self) {
        self.tools.context.cancel.cancel();
        for pending in self.queue.drain(..) {
            if let Pending::Working(receiver, _) = pending {
                let _ = receiver.await;
            }
        }
        self.tally.read_bytes += self.tools.read_bytes.swap(0, Ordering::Relaxed);
    }

    async fn list(&mut self, entries: &mut impl Entries, chooser: &Chooser<'_>) -> Result<()> {
        let listed = cancellable(&self.tools.context, "list items", entries.next(chooser)).await?;
        let monitor = Arc::clone(&self.tools.context.monitor);
        let deleted = entries.take_deleted();
        self.tally.deleted_items += deleted;
        monitor.count(Counter::DeletedItems, deleted);
        let Some(listed) = listed else {
            self.is_listed = true;
            if let Some(unit) = self.grouping.take_rest() {
                self.start(unit).await?;
            }
            return Ok(());
        };
        self.tally.listed_items += listed.len() as u64;
        monitor.count(Counter::ListedItems, listed.len() as u64);
        for entry in listed {
            if let Some(unit) = self.grouping.push(entry) {
                self.start(unit).await?;
            }
        }
        Ok(())
    }

    async fn start(&mut self, unit: Unit) -> Result<()> {
        let held_bytes = unit.held_bytes();
        self.waiting_bytes += held_bytes;
        if !unit.reads() {
            let outcomes = unread(unit, self.tools.class);
            self.queue.push_back(Pending::Done(Ok(outcomes), held_bytes));
            return Ok(());
        }
        let permit = cancellable(&self.tools.context, "read content", async {
            Arc::clone(&self.permits)
                .acquire_owned()
                .await
                .map_err(|error| Error::new(ErrorKind::Internal, "read content", "").because(error))
        });
        let permit = permit.await?;
        let tools = Arc::clone(&self.tools);
        let (sender, receiver) = oneshot::channel();
        self.threads.run(move || {
            let outcomes = tools.carry_out(unit);
            drop(permit);
            // Nobody waits for it any more where the capture has failed.
            let _ = sender.send(outcomes);
        })?;
        self.queue.push_back(Pending::Working(receiver, held_bytes));
        Ok(())
    }

    async fn take(&mut self) -> Result<Option<Records>> {
        let (outcomes, held_bytes) = match self.queue.pop_front() {
            None => return Ok(None),
            Some(Pending::Done(outcomes, held_bytes)) => (outcomes?, held_bytes),
            Some(Pending::Working(receiver, held_bytes)) => {
                (receiver.await.unwrap_or_else(|_| Err(given_up()))?, held_bytes)
            }
        };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(held_bytes);
        self.account(outcomes).map(Some)
    }

    fn account(&mut self, outcomes: Vec<Outcome>) -> Result<Records> {
        let mut records = Vec::with_capacity(outcomes.len());
        let (mut reused, mut reused_bytes, mut read) = (0_u64, 0_u64, 0_u64);
        for outcome in outcomes {
            match outcome {
                Outcome::Reused(key, record) => {
                    reused += 1;
                    reused_bytes = reused_bytes.saturating_add(record.content_bytes());
                    records.push((key, record));
                }
                Outcome::Listed(key, record) => records.push((key, record)),
                Outcome::Read(key, record) => {
                    read += 1;
                    self.unavailable_in_a_row = 0;
                    records.push((key, record));
                }
                Outcome::Gone => {}
                Outcome::Failed { key, kept, error } => {
                    self.fail(error)?;
                    records.extend(kept.map(|record| (key, record)));
                }
            }
        }
        self.tally.reused_items += reused;
        self.tally.read_items += read;
        let monitor = &self.tools.context.monitor;
        monitor.count(Counter::ReusedItems, reused);
        monitor.count(Counter::ReusedBytes, reused_bytes);
        monitor.count(Counter::ReadItems, read);
        Ok(records)
    }

    /// Goes on without an item, unless the source as a whole seems to be away.
    fn fail(&mut self, error: Error) -> Result<()> {
        self.tools.context.monitor.problem(&error);
        if error.kind() != ErrorKind::Unavailable {
            return Ok(());
        }
        self.unavailable_in_a_row += 1;
        if self.unavailable_in_a_row < UNAVAILABLE_IN_A_ROW_MAX {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "capture", "")
            .detail("one item after another cannot be read")
            .because(error))
    }
}

/// Waits for what may take long, and no longer once the operation is told to stop.
///
/// # Errors
/// `Cancelled`; those of the work.
pub async fn cancellable<T>(
    context: &Context,
    action: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(Error::cancelled(action)),
        done = work => done,
    }
}
