//! Following: what the kernel tells is looked at, directory by directory, and everything is walked at
//! the beginning and now and then. Both end in the same comparison with what was told before.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::CString;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::{
    Batch, Content, ContentReader, Context, Error, ErrorKind, Follower, Item, ItemKey, Next,
    Payload, Position, Recheck, Result, Timestamp,
};
use rustix::fs::OFlags;

use super::FollowOptions;
use super::commands::directory_key;
use super::content::Contents;
use super::directory::{Entry, Task, entry_of, perform};
use super::inspect::{Directory, Inspector};
use super::known::{Changes, Known, NeedsWalk};
use super::links::Found;
use super::memory::{Memory, Remembered};
use super::names::Names;
use super::position::Line;
use super::source::Source;
use super::walk::walk;
use super::watch::{Seen, Watch};

/// How long nothing happens before it is said.
const IDLE: Duration = Duration::from_secs(1);
/// More changes are told in several batches.
const BATCH_CHANGES_MAX: usize = 4_096;

/// Follows the files of a host.
#[derive(Debug)]
pub(super) struct FilesFollower {
    contents: Arc<Contents>,
    memory: Arc<Memory>,
    /// None where the position to begin at is not remembered.
    state: Option<Arc<Mutex<State>>>,
    watch: Arc<Watch>,
    debounce: Duration,
}

/// What was told, and what is to be.
#[derive(Debug)]
struct State {
    known: Known,
    /// What is kept of `known` unseen: the outputs of commands, which only a cut runs.
    kept: ItemKey,
    line: Line,
    /// The position after everything in the queue.
    position: Position,
    /// Everything up to this time is in the queue or was told.
    complete_at: Timestamp,
    queue: VecDeque<Batch>,
    /// When everything is walked again, by the monotonic clock; none at the beginning.
    walk_at: Option<Duration>,
    walk_every: Duration,
    debounce: Duration,
}

impl FilesFollower {
    pub(super) fn new(
        contents: Arc<Contents>,
        memory: Arc<Memory>,
        begin: Option<Remembered>,
        options: FollowOptions,
        context: &Context,
    ) -> Result<Self> {
        let source = &contents.source;
        let watch = Arc::new(Watch::new(Arc::clone(source), context.monitor.as_ref()));
        let (kept, line) = (directory_key(&source.host)?, Line::begin(&source.host, context));
        let state = begin.map(|Remembered { position, known, complete_at }| State {
            known,
            kept,
            line,
            position,
            complete_at,
            queue: VecDeque::new(),
            walk_at: None,
            walk_every: options.full_walk_every,
            debounce: options.debounce,
        });
        let state = state.map(|state| Arc::new(Mutex::new(state)));
        Ok(Self { contents, memory, state, watch, debounce: options.debounce })
    }

    #[cfg(test)]
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Waits until there is something to look at; `false` where nothing came.
    async fn wait(&self, state: &Mutex<State>, context: &Context) -> Result<bool> {
        let left = lock(state).time_to_walk(context);
        if left.is_zero() || self.watch.has_seen() {
            return Ok(true);
        }
        tokio::select! {
            biased;
            () = context.cancel.cancelled() => Err(Error::cancelled("follow files")),
            () = self.watch.arrived() => {
                context.clock.sleep(self.debounce).await;
                Ok(true)
            }
            () = context.clock.sleep(left.min(IDLE)) => {
                Ok(self.watch.has_seen() || lock(state).time_to_walk(context).is_zero())
            }
        }
    }
}

#[async_trait]
impl Content for FilesFollower {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        self.contents.open(item, extent, range).await
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.contents.recheck(item).await
    }
}

#[async_trait]
impl Follower for FilesFollower {
    async fn next(&mut self, context: &Context) -> Result<Next> {
        let Some(state) = self.state.clone() else { return Ok(Next::Gap) };
        context.check("follow files")?;
        if let Some(batch) = lock(&state).queue.pop_front() {
            return Ok(Next::Batch(batch));
        }
        if !self.wait(&state, context).await? {
            return Ok(lock(&state).nothing(self.watch.is_complete(), context));
        }
        // Runs to its end even when nobody waits for it any more: what it finds is in the queue.
        let look = Look {
            source: Arc::clone(&self.contents.source),
            watch: Arc::clone(&self.watch),
            context: context.clone(),
        };
        let its_state = Arc::clone(&state);
        tokio::task::spawn_blocking(move || look.update(&mut lock(&its_state))).await.map_err(
            |error| Error::new(ErrorKind::Internal, "follow files", "").because(error),
        )??;
        let mut state = lock(&state);
        Ok(match state.queue.pop_front() {
            Some(batch) => Next::Batch(batch),
            None => Next::Nothing { as_of: state.complete_at },
        })
    }

    async fn acknowledge(&mut self, _durable: &Position) -> Result<()> {
        Ok(())
    }
}

impl Drop for FilesFollower {
    /// Lets another follower begin where this one ended, if everything it knows was told.
    fn drop(&mut self) {
        let Some(state) = self.state.take().and_then(|state| Arc::try_unwrap(state).ok()) else {
            return;
        };
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.queue.is_empty() {
            let State { position, known, complete_at, .. } = state;
            self.memory.offer(Remembered { position, known, complete_at });
        }
    }
}

impl State {
    fn time_to_walk(&self, context: &Context) -> Duration {
        self.walk_at.unwrap_or_default().saturating_sub(context.clock.elapsed())
    }

    /// Moves the time up to which nothing is missing; never back.
    fn complete(&mut self, at: Timestamp) {
        self.complete_at = self.complete_at.max(at);
    }

    fn nothing(&mut self, is_watched: bool, context: &Context) -> Next {
        if is_watched {
            self.complete(earlier(context.clock.now(), self.debounce));
        }
        Next::Nothing { as_of: self.complete_at }
    }

    /// Puts changes into the queue. Only the last batch has everything up to the new time.
    fn tell(&mut self, changes: Vec<model::Change>, complete_at: Timestamp) {
        let first_at = self.complete_at;
        self.complete(complete_at);
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let part: Vec<_> = changes.by_ref().take(BATCH_CHANGES_MAX).collect();
            let last_at = if changes.peek().is_none() { self.complete_at } else { first_at };
            let upto = self.line.next(self.complete_at);
            let after = std::mem::replace(&mut self.position, upto.clone());
            let payload = Payload::Changes(part);
            self.queue.push_back(Batch { after, upto, first_at, last_at, payload });
        }
    }
}

/// One look at what may have changed.
struct Look {
    source: Arc<Source>,
    watch: Arc<Watch>,
    context: Context,
}

impl Look {
    /// Compares what is there with what is known and puts the difference into the queue. After an
    /// error everything is walked.
    fn update(&self, state: &mut State) -> Result<()> {
        if state.walk_at.is_none() {
            self.watch_all(state.known.directories(&self.source.host));
        }
        let seen = self.watch.take();
        let names = Names::read();
        let mut changes = Changes::default();
        let looked = self.look(state, seen, &names, &mut changes);
        // What was compared is known by now, so it is told even if the rest failed.
        let complete_at = *looked.as_ref().unwrap_or(&state.complete_at);
        state.tell(changes.list, complete_at);
        if looked.is_err() {
            self.watch.put_back(Seen { is_torn: true, ..Seen::default() });
        }
        looked.map(|_| ())
    }

    /// Returns the time up to which everything is in the changes.
    fn look(
        &self,
        state: &mut State,
        seen: Seen,
        names: &Names,
        changes: &mut Changes,
    ) -> Result<Timestamp> {
        // A protected path that is gone is an error here as it is for a cut, not a deletion.
        self.source.check_paths()?;
        let now = self.context.clock.now();
        let mut dirty = seen.dirty;
        for key in &seen.appeared {
            let replaced: BTreeSet<_> = state.known.directories(key).cloned().collect();
            self.watch_all(replaced.iter());
            dirty.extend(replaced);
        }
        let mut complete_at = earlier(now, state.debounce);
        if seen.is_torn || state.time_to_walk(&self.context).is_zero() {
            self.walk(state, names, changes)?;
            dirty.clear();
            complete_at = now;
        }
        loop {
            // Watched first and then listed, so that nothing falls in between.
            self.watch_all(changes.appeared.iter());
            dirty.extend(std::mem::take(&mut changes.appeared));
            let Some(key) = dirty.pop_first() else { break };
            self.context.check("follow files")?;
            if self.list(state, &key, names, changes)? == Err(NeedsWalk) {
                let now = self.context.clock.now();
                self.walk(state, names, changes)?;
                dirty.clear();
                complete_at = complete_at.max(now);
            }
        }
        Ok(complete_at)
    }

    fn watch_all<'a>(&self, directories: impl Iterator<Item = &'a ItemKey>) {
        self.watch.add(directories, self.context.monitor.as_ref());
    }

    fn walk(&self, state: &mut State, names: &Names, changes: &mut Changes) -> Result<()> {
        let mut diff = state.known.diff(&state.kept);
        walk(&self.source, names, &self.context, &mut |batch| {
            batch.into_iter().for_each(|found| diff.push(found));
            ControlFlow::Continue(())
        })?;
        let (known, found) = diff.finish();
        state.known = known;
        changes.list.extend(found.list);
        changes.appeared.extend(found.appeared);
        state.walk_at = Some(self.context.clock.elapsed().saturating_add(state.walk_every));
        Ok(())
    }

    /// Lists a known directory and compares it and its children.
    fn list(
        &self,
        state: &mut State,
        key: &ItemKey,
        names: &Names,
        changes: &mut Changes,
    ) -> Result<Result<(), NeedsWalk>> {
        if !state.known.is_directory(key) {
            return Ok(Ok(()));
        }
        // Gone: what is above it is dirty too, or will be.
        let Some(place) = self.source.place_of(key)? else { return Ok(Ok(())) };
        let mut inspector = Inspector::new(names);
        let itself = self.look_at(key, &mut inspector)?;
        let mut found = Vec::new();
        let mut tasks = VecDeque::from([Task::List(place)]);
        while let Some(task) = tasks.pop_front() {
            let step = perform(&self.source, task, &mut inspector);
            step.problems.iter().for_each(|problem| self.context.monitor.problem(problem));
            found.extend(step.entries.into_iter().map(unresolved));
            tasks.extend(step.rest.into_iter().map(Task::Look));
        }
        if let Some(itself) = itself {
            state.known.update(itself, changes);
        }
        Ok(state.known.compare(key, &state.kept, found, changes))
    }

    /// Looks at a directory from above; none for the host's own, which has nothing to look at.
    fn look_at(&self, key: &ItemKey, inspector: &mut Inspector<'_>) -> Result<Option<Found>> {
        let Some(parent) = key.parent().filter(|_| *key != self.source.host) else {
            return Ok(None);
        };
        let Some(place) = self.source.place_of(&parent)? else { return Ok(None) };
        let path = self.source.path_of(&parent)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let Ok(directory) = Directory::open(&self.source.reach, path, flags) else {
            return Ok(None);
        };
        let Ok(name) = CString::new(key.name().unwrap_or_default()) else { return Ok(None) };
        let entry = entry_of(&self.source, &place, &directory, &name, inspector)?;
        Ok(entry.map(unresolved))
    }
}

/// A file that says it has other names, as if it had none.
fn unresolved(entry: Entry) -> Found {
    Found { file: entry.link.map(|_| entry.item.clone()), item: entry.item }
}

fn earlier(time: Timestamp, duration: Duration) -> Timestamp {
    let ns = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Timestamp { unix_ns: time.unix_ns.saturating_sub(ns) }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
