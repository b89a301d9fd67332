//! Following: the changes of a system are stored as they come, over a snapshot that was captured
//! before.
//!
//! What the system tells is gathered into batches, each closed at a size or at an age, and acknowledged
//! only once it is durable. Where the system's history does not reach back to us, where a change brings
//! more content than a log should carry, or where one cannot be replayed, a new capture begins another
//! run. When nothing happens, heartbeats say so.

mod batch;
mod contents;
#[cfg(test)]
mod tests;

use std::time::Duration;

use model::{
    Batch, Context, Counter, Error, ErrorKind, Follower, LogPayload, Next, Payload, Phase,
    Position, Result, System, Timestamp,
};
use repository::Repository;
use repository::heartbeat::{HeartbeatWriter, Idle};
use repository::log::LogWriter;
use repository::types::{SessionId, StreamName};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::capture::{CaptureOptions, capture};
use batch::Open;
use contents::{Missed, content_bytes};

/// How long the last batch may take when following is told to stop.
const LAST_BATCH_PATIENCE: Duration = Duration::from_secs(5);
/// The longest pause between captures that lead to nothing but a gap.
const GAP_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How a system is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowOptions {
    /// How it is captured where that is needed.
    pub capture: CaptureOptions,
    /// A batch is closed at about this size, in bytes.
    pub batch_bytes: u64,
    /// A batch is closed when its first change was told this long ago: what may be lost.
    pub batch_age: Duration,
    /// How often it is said that nothing is new; not under 30 seconds.
    pub heartbeat_every: Duration,
    /// Changes that bring more content than this at once are captured instead.
    pub content_bytes_max: u64,
    /// A new capture is taken this often, so that no run of batches grows for ever; none: never.
    pub capture_every: Option<Duration>,
}

impl FollowOptions {
    /// Returns what suits most systems: batches of 10 seconds or 8 MiB, a heartbeat a minute, contents
    /// up to 64 MiB, a capture a day.
    pub fn new(capture: CaptureOptions) -> Self {
        Self {
            capture,
            batch_bytes: 8 << 20,
            batch_age: Duration::from_secs(10),
            heartbeat_every: Duration::from_secs(60),
            content_bytes_max: 64 << 20,
            capture_every: Some(Duration::from_secs(86_400)),
        }
    }
}

/// What following did until it was told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followed {
    /// Captures.
    pub captures: u64,
    /// Batches that were stored.
    pub batches: u64,
    /// Heartbeats that were written.
    pub heartbeats: u64,
    /// The source's time up to which everything is durable.
    pub covered_upto: Option<Timestamp>,
}

/// Follows a system until it is told to stop, which is its good end.
///
/// # Errors
/// `Unsupported` where the system cannot be followed; `Conflict` where somebody else follows the same
/// stream; those of the system and of the store.
pub async fn follow(
    repository: &Repository,
    stream: &StreamName,
    system: &dyn System,
    options: &FollowOptions,
    context: &Context,
) -> Result<Followed> {
    let payload = system.facts().log.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "follow system", stream.to_string())
            .detail("this kind has no log")
    })?;
    let mut run = Run { repository, stream, system, options, context, done: Followed::default() };
    match Box::pin(run.follow(payload)).await {
        Err(error) if error.kind() == ErrorKind::Cancelled && context.cancel.is_cancelled() => {
            Ok(run.done)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(run.done),
    }
}

/// Returns how much of a stream would be lost now: the time since the last moment of the source up to
/// which everything is durable; none where nothing is.
///
/// # Errors
/// Those of the store; `Corrupt`.
pub async fn exposure(
    repository: &Repository,
    stream: &StreamName,
    context: &Context,
) -> Result<Option<Duration>> {
    let covered = repository.covered_upto(stream).await?;
    Ok(covered.map(|covered| context.clock.now().since(covered)))
}

struct Run<'a> {
    repository: &'a Repository,
    stream: &'a StreamName,
    system: &'a dyn System,
    options: &'a FollowOptions,
    context: &'a Context,
    done: Followed,
}

/// Why a run of batches is over.
enum Ended {
    Stopped,
    NeedsCapture,
}

/// What is next.
enum Turn {
    Stop,
    Close,
    Next(Next),
}

/// A run of batches over one snapshot.
struct Batches {
    follower: Box<dyn Follower>,
    writer: LogWriter,
    heartbeats: HeartbeatWriter,
    open: Option<Open>,
    missed: Missed,
    /// The position up to which everything is durable.
    durable: Position,
    /// When the last heartbeat was written, by the monotonic clock.
    beat_at: Option<Duration>,
    recapture_at: Option<Duration>,
    has_progress: bool,
}

impl Run<'_> {
    async fn follow(&mut self, payload: LogPayload) -> Result<()> {
        let mut known = self.known().await?;
        let mut pause = Duration::ZERO;
        loop {
            let (base, from) = match known.take() {
                Some(known) => known,
                None => self.capture().await?,
            };
            self.context.monitor.phase(self.phase("follow"));
            let mut batches = self.begin(payload, &base, from).await?;
            match self.batches(&mut batches).await? {
                Ended::Stopped => return Ok(()),
                Ended::NeedsCapture if batches.has_progress => pause = Duration::ZERO,
                Ended::NeedsCapture => {
                    // A capture that only leads to the next gap must not be taken without end.
                    let context = self.context;
                    tokio::select! {
                        biased;
                        () = context.cancel.cancelled() => return Ok(()),
                        () = context.clock.sleep(pause) => {}
                    }
                    pause = (pause * 2).clamp(Duration::from_secs(1), GAP_PAUSE_MAX);
                }
            }
        }
    }

    fn phase(&self, name: &'static str) -> Phase {
        Phase { name, subject: self.stream.to_string(), total: None }
    }

    /// Returns the newest snapshot and where to follow on from: the end of the log where its last run is
    /// over it, else the snapshot's own position.
    async fn known(&self) -> Result<Option<(SessionId, Position)>> {
        let (newest, end) = futures::try_join!(
            self.repository.newest_snapshots(self.stream, 1),
            self.repository.log_end(self.stream)
        )?;
        let Some(newest) = newest.into_iter().next() else { return Ok(None) };
        let from = end.filter(|end| end.base == newest.id).map(|end| end.upto);
        Ok(Some((newest.id, from.unwrap_or(newest.position))))
    }

    async fn capture(&mut self) -> Result<(SessionId, Position)> {
        let Self { repository, stream, system, options, context, .. } = self;
        let captured = capture(repository, stream, *system, &options.capture, context).await?;
        self.done.captures += 1;
        self.cover(captured.snapshot.cut_from);
        Ok((captured.snapshot.id, captured.snapshot.position))
    }

    fn cover(&mut self, upto: Timestamp) {
        self.done.covered_upto = self.done.covered_upto.max(Some(upto));
    }

    async fn begin(
        &self,
        payload: LogPayload,
        base: &SessionId,
        from: Position,
    ) -> Result<Batches> {
        // A batch that was begun is stored to its end, also when following is told to stop.
        let unstopped = Context { cancel: CancellationToken::new(), ..self.context.clone() };
        let now = self.context.clock.elapsed();
        Ok(Batches {
            follower: self.system.follow(&from, self.context).await?,
            writer: self.repository.log_writer(self.stream, payload, base, &unstopped).await?,
            heartbeats: self.repository.heartbeat_writer().await?,
            open: None,
            missed: Missed::default(),
            durable: from,
            beat_at: None,
            recapture_at: self.options.capture_every.map(|every| now.saturating_add(every)),
            has_progress: false,
        })
    }

    async fn batches(&mut self, run: &mut Batches) -> Result<Ended> {
        run.follower.acknowledge(&run.durable).await?;
        loop {
            if run.recapture_at.is_some_and(|at| self.context.clock.elapsed() >= at) {
                self.close(run).await?;
                return Ok(Ended::NeedsCapture);
            }
            match self.turn(run).await? {
                Turn::Stop => {
                    self.close_last(run).await;
                    return Ok(Ended::Stopped);
                }
                Turn::Close => self.close(run).await?,
                Turn::Next(Next::Gap) => {
                    self.close(run).await?;
                    return Ok(Ended::NeedsCapture);
                }
                Turn::Next(Next::Nothing { as_of }) => {
                    run.has_progress = true;
                    self.idle(run, as_of).await?;
                }
                Turn::Next(Next::Batch(batch)) => {
                    run.has_progress = true;
                    if !self.take(run, batch).await? {
                        self.close(run).await?;
                        return Ok(Ended::NeedsCapture);
                    }
                }
            }
        }
    }

    /// Waits for the system, until the open batch has its age.
    async fn turn(&self, run: &mut Batches) -> Result<Turn> {
        let (clock, now) = (&self.context.clock, self.context.clock.elapsed());
        let FollowOptions { batch_bytes, batch_age, .. } = *self.options;
        let left = run.open.as_ref().map(|open| open.left(now, batch_bytes, batch_age));
        if left == Some(Duration::ZERO) {
            return Ok(Turn::Close);
        }
        let closes = async {
            match left {
                Some(left) => clock.sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => Ok(Turn::Stop),
            next = run.follower.next(self.context) => match next {
                Err(error) if error.kind() == ErrorKind::Cancelled => Ok(Turn::Stop),
                next => next.map(Turn::Next),
            },
            () = closes => Ok(Turn::Close),
        }
    }

    /// Takes a batch in; `false` where it is to be captured instead.
    async fn take(&self, run: &mut Batches, batch: Batch) -> Result<bool> {
        let Batch { after, upto, first_at, last_at, payload } = batch;
        let (payload, contents) = match payload {
            Payload::Raw(bytes) => (Payload::Raw(bytes), Vec::new()),
            Payload::Changes(changes) => {
                if content_bytes(&changes) > self.options.content_bytes_max {
                    return Ok(false);
                }
                self.context.monitor.count(Counter::ListedItems, changes.len() as u64);
                match self.read(run, changes).await? {
                    Some((changes, contents)) => (Payload::Changes(changes), contents),
                    None => return Ok(false),
                }
            }
        };
        let batch = Batch { after, upto, first_at, last_at, payload };
        let now = self.context.clock.elapsed();
        match &mut run.open {
            None => run.open = Some(Open::begin(batch, contents, now)),
            Some(open) => {
                if !open.join(batch, contents) {
                    return Err(Error::new(ErrorKind::Internal, "follow system", "")
                        .detail("a batch does not follow the one before"));
                }
            }
        }
        Ok(true)
    }

    /// Reads contents through the follower, on a thread that may block.
    async fn read(
        &self,
        run: &mut Batches,
        changes: Vec<model::Change>,
    ) -> Result<Option<contents::Told>> {
        let placeholder: Box<dyn Follower> = Box::new(Absent);
        let follower = std::mem::replace(&mut run.follower, placeholder);
        let mut missed = std::mem::take(&mut run.missed);
        let (context, handle) = (self.context.clone(), Handle::current());
        let read = tokio::task::spawn_blocking(move || {
            let content: &dyn model::Content = follower.as_ref();
            let told = handle.block_on(crate::capture::cancellable(
                &context,
                "read changed items",
                contents::read(content, changes, &mut missed, &context),
            ));
            (follower, missed, told)
        });
        let (follower, missed, told) = read.await.map_err(|error| {
            Error::new(ErrorKind::Internal, "read changed items", "").because(error)
        })?;
        (run.follower, run.missed) = (follower, missed);
        told
    }

    /// Stores the open batch, then tells the system that it is safe.
    async fn close(&mut self, run: &mut Batches) -> Result<()> {
        let Some(open) = run.open.take() else { return Ok(()) };
        let (batch, contents) = open.parts();
        run.writer.append(batch.clone(), contents.to_vec()).await?;
        self.done.batches += 1;
        self.cover(batch.last_at);
        run.durable = batch.upto.clone();
        run.follower.acknowledge(&run.durable).await
    }

    /// Stores what is there when following is told to stop, if that does not take long. Nothing of it was
    /// acknowledged, so nothing is lost without it.
    async fn close_last(&mut self, run: &mut Batches) {
        let clock = std::sync::Arc::clone(&self.context.clock);
        let closed = tokio::select! {
            biased;
            closed = self.close(run) => closed,
            () = clock.sleep(LAST_BATCH_PATIENCE) => Ok(()),
        };
        if let Err(error) = closed {
            self.context.monitor.problem(&error);
        }
    }

    /// Says that there is nothing new, now and then. What is in an open batch is not durable yet.
    async fn idle(&mut self, run: &mut Batches, as_of: Timestamp) -> Result<()> {
        let now = self.context.clock.elapsed();
        let every = self.options.heartbeat_every.max(Duration::from_secs(30));
        let is_due = run.beat_at.is_none_or(|at| now.saturating_sub(at) >= every);
        if run.open.is_some() || !is_due {
            return Ok(());
        }
        let idle = Idle { stream: self.stream.clone(), position: run.durable.clone(), as_of };
        run.heartbeats.beat(vec![idle], self.context).await?;
        run.beat_at = Some(now);
        self.done.heartbeats += 1;
        self.cover(as_of);
        Ok(())
    }
}

/// Stands where a follower was taken from, and does nothing.
struct Absent;

fn absent() -> Error {
    Error::new(ErrorKind::Internal, "follow system", "").detail("the follower is in use")
}

#[async_trait::async_trait]
impl model::Content for Absent {
    async fn open(
        &self,
        _item: &model::Item,
        _extent: usize,
        _range: std::ops::Range<u64>,
    ) -> Result<Box<dyn model::ContentReader>> {
        Err(absent())
    }

    async fn recheck(&self, _item: &model::Item) -> Result<model::Recheck> {
        Err(absent())
    }
}

#[async_trait::async_trait]
impl Follower for Absent {
    async fn next(&mut self, _context: &Context) -> Result<Next> {
        Err(absent())
    }

    async fn acknowledge(&mut self, _durable: &Position) -> Result<()> {
        Err(absent())
    }
}
