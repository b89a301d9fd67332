//! The parallel walk: items in key order, directories read ahead on several threads.
//!
//! Threads take the task that comes first in key order. The consumer takes what was found in exactly
//! that order and does itself what nobody has begun, so it never waits for a turn. What lies ready is
//! bounded: when there is enough of it, only the consumer goes on. Each entry that lies ready leads to
//! at most one task, so the tasks are bounded with it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use model::{Context, Error, ErrorKind, Item, ItemKey, Result};

use super::directory::{Entry, LinkId, RUN_NAMES, Step, Task, perform};
use super::inspect::Inspector;
use super::links::{Found, Links};
use super::names::Names;
use super::source::Source;

/// How many entries lie ready before the threads rest.
const READY_ENTRIES_MAX: usize = 16 * RUN_NAMES;
/// How many items are handed over at once.
const BATCH_ITEMS: usize = 1_024;
/// More threads than this find nothing to do on one file system.
const THREADS_MAX: usize = 8;

/// Walks everything that is protected and hands it over in key order, the host's own directory first.
///
/// # Errors
/// `Cancelled`. What cannot be read is a problem and is left out.
pub(super) fn walk(
    source: &Source,
    names: &Names,
    context: &Context,
    emit: &mut dyn FnMut(Vec<Found>) -> ControlFlow<()>,
) -> Result<()> {
    let top = source.top()?;
    let walker = Walker {
        source,
        names,
        queue: Mutex::default(),
        work: Condvar::new(),
        done: Condvar::new(),
    };
    let first = walker.lock().add(top.key.clone(), Task::List(top));
    std::thread::scope(|scope| {
        let _closing = Closing(&walker);
        for _ in 0..threads() {
            scope.spawn(|| walker.work());
        }
        walker.consume(first, context, emit)
    })
}

fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // The consumer works too.
    cores.clamp(2, THREADS_MAX) - 1
}

struct Walker<'a> {
    source: &'a Source,
    names: &'a Names,
    queue: Mutex<Queue>,
    /// Wakes a thread: there is something to do.
    work: Condvar,
    /// Wakes the consumer: what it waits for is ready.
    done: Condvar,
}

/// Where a task stands in the order, and its number.
type Slot = (ItemKey, u64);

#[derive(Default)]
struct Queue {
    pending: BTreeMap<Slot, Task>,
    ready: HashMap<u64, Ready>,
    ready_entries: usize,
    last_number: u64,
    resting_threads: usize,
    /// What the consumer waits for.
    awaited: Option<u64>,
    is_closed: bool,
}

/// What a task found, with the tasks that it led to.
struct Ready {
    entries: Vec<ReadyEntry>,
    rest: VecDeque<Slot>,
    problems: Vec<Error>,
}

struct ReadyEntry {
    item: Item,
    link: Option<LinkId>,
    below: Option<Slot>,
}

impl Queue {
    fn add(&mut self, key: ItemKey, task: Task) -> Slot {
        self.last_number += 1;
        let slot = (key, self.last_number);
        self.pending.insert(slot.clone(), task);
        slot
    }

    /// Takes the first task in key order, unless enough lies ready.
    fn take_first(&mut self) -> Option<(Slot, Task)> {
        if self.ready_entries < READY_ENTRIES_MAX { self.pending.pop_first() } else { None }
    }

    /// Adds the tasks that a step leads to.
    fn follow_up(&mut self, step: Step) -> Ready {
        let entry = |Entry { item, link, below }| {
            let below = below.map(|place| self.add(item.key.clone(), Task::List(place)));
            ReadyEntry { item, link, below }
        };
        let entries = step.entries.into_iter().map(entry).collect();
        let rest = step.rest.into_iter();
        let rest = rest.map(|run| self.add(run.first_key(), Task::Look(run))).collect();
        Ready { entries, rest, problems: step.problems }
    }

    /// Says whether a thread that rests has something to do. Those who rest because enough lies ready
    /// rest until half of it is taken: waking costs more than a task.
    fn wants_threads(&self) -> bool {
        self.resting_threads > 0
            && !self.pending.is_empty()
            && self.ready_entries < READY_ENTRIES_MAX / 2
    }
}

/// Sends the threads home, also when the consumer fails.
struct Closing<'a, 'b>(&'a Walker<'b>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.work.notify_all();
        self.0.done.notify_all();
    }
}

/// Closes the queue when a thread panics, so that nobody waits for what it had begun.
struct Alarm<'a, 'b>(&'a Walker<'b>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(Closing(self.0));
        }
    }
}

impl Walker<'_> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn work(&self) {
        let _alarm = Alarm(self);
        let mut inspector = Inspector::new(self.names);
        let mut queue = self.lock();
        while !queue.is_closed {
            queue = match queue.take_first() {
                Some((slot, task)) => self.prepare(queue, slot.1, task, &mut inspector),
                None => {
                    queue.resting_threads += 1;
                    let mut queue = wait(&self.work, queue);
                    queue.resting_threads -= 1;
                    queue
                }
            };
        }
    }

    /// Does a task without holding the queue.
    fn perform<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue>,
        task: Task,
        inspector: &mut Inspector<'_>,
    ) -> (MutexGuard<'a, Queue>, Ready) {
        drop(queue);
        let step = perform(self.source, task, inspector);
        let mut queue = self.lock();
        let ready = queue.follow_up(step);
        if queue.wants_threads() {
            self.work.notify_one();
        }
        (queue, ready)
    }

    /// Does a task whose turn is to come.
    fn prepare<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue>,
        number: u64,
        task: Task,
        inspector: &mut Inspector<'_>,
    ) -> MutexGuard<'a, Queue> {
        let (mut queue, ready) = self.perform(queue, task, inspector);
        queue.ready_entries += ready.entries.len();
        queue.ready.insert(number, ready);
        if queue.awaited == Some(number) {
            self.done.notify_one();
        }
        queue
    }

    /// Returns what a task found. Where a thread is at it already, does others until it is done.
    fn obtain(&self, slot: &Slot, inspector: &mut Inspector<'_>) -> Result<Ready> {
        let mut queue = self.lock();
        loop {
            if let Some(ready) = queue.ready.remove(&slot.1) {
                queue.ready_entries -= ready.entries.len();
                if queue.wants_threads() {
                    self.work.notify_one();
                }
                return Ok(ready);
            }
            if let Some(task) = queue.pending.remove(slot) {
                return Ok(self.perform(queue, task, inspector).1);
            }
            if queue.is_closed {
                return Err(Error::new(ErrorKind::Internal, "walk", slot.0.display())
                    .detail("a thread of the walk failed"));
            }
            queue = match queue.take_first() {
                Some((other, task)) => self.prepare(queue, other.1, task, inspector),
                None => {
                    queue.awaited = Some(slot.1);
                    let mut queue = wait(&self.done, queue);
                    queue.awaited = None;
                    queue
                }
            };
        }
    }

    fn consume(
        &self,
        first: Slot,
        context: &Context,
        emit: &mut dyn FnMut(Vec<Found>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut inspector = Inspector::new(self.names);
        let mut links = Links::default();
        let mut batch = vec![Found::from(super::directory_without_attributes(first.0.clone()))];
        let mut stack = vec![Frame { rest: VecDeque::from([first]), ..Frame::default() }];
        while let Some(frame) = stack.last_mut() {
            let slot = match frame.entries.next() {
                Some(entry) => {
                    batch.push(links.resolve(entry.item, entry.link));
                    if batch.len() >= BATCH_ITEMS {
                        context.check("walk files")?;
                        if emit(std::mem::take(&mut batch)).is_break() {
                            return Ok(());
                        }
                    }
                    entry.below.inspect(|_| stack.push(Frame::default()))
                }
                None => frame.rest.pop_front(),
            };
            let Some(slot) = slot else {
                stack.pop_if(|frame| frame.entries.len() == 0 && frame.rest.is_empty());
                continue;
            };
            let ready = self.obtain(&slot, &mut inspector)?;
            ready.problems.iter().for_each(|problem| context.monitor.problem(problem));
            if let Some(frame) = stack.last_mut() {
                frame.entries = ready.entries.into_iter();
                frame.rest.extend(ready.rest);
            }
        }
        context.check("walk files")?;
        // Whether the last batch is wanted makes no difference any more.
        let _ = emit(batch);
        Ok(())
    }
}

fn wait<'a>(signal: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    signal.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

/// A directory of which some is handed over.
#[derive(Default)]
struct Frame {
    entries: std::vec::IntoIter<ReadyEntry>,
    rest: VecDeque<Slot>,
}
