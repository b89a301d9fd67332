//! Protected systems.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{ContentClass, Context, Cut, Epoch, Follower, Position, Replay, Result};

/// Whether a kind's items belong to one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// They do: keys begin with the host.
    Bound,
    /// They do not.
    Free,
}

/// What a kind's log consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogPayload {
    /// The system's own log, replayed by the system ([`Replay`]).
    Raw,
    /// Upserts, deletes and moves of items, replayed by the repository.
    Changes,
}

/// Unchanging facts about a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemFacts {
    /// The kind's name: `files`, `zookeeper`.
    pub kind: &'static str,
    /// Whether keys begin with a host.
    pub host: Host,
    /// How content is best cut.
    pub content_class: ContentClass,
    /// How many contents may be read at once; at least 1.
    pub read_concurrency: usize,
    /// What its log consists of; none where it cannot be followed.
    pub log: Option<LogPayload>,
    /// The epoch of its extent identities: a greater one than stored distrusts every identity known.
    pub extent_epoch: Epoch,
}

/// A system whose state is protected.
///
/// # Contract
/// * No method changes what users of the system see.
/// * Every method may be called again after it failed.
#[async_trait]
pub trait System: Debug + Send + Sync {
    /// Returns facts that do not change while this value lives.
    fn facts(&self) -> SystemFacts;

    /// Freezes one consistent reading. `since` is the position of a state that we hold: a system that
    /// can then lists only [`Changes`](crate::CutItems::Changes).
    ///
    /// # Errors
    /// `Unavailable` where the system cannot be reached; `Denied` where it refuses.
    async fn cut(&self, since: Option<&Position>, context: &Context) -> Result<Box<dyn Cut>>;

    /// Starts reading changes after `from`.
    ///
    /// # Errors
    /// `Unsupported` where [`SystemFacts::log`] is none; as [`System::cut`] otherwise.
    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn Follower>>;

    /// Returns what replays this kind's raw logs; none where its log is not raw.
    fn replay(&self) -> Option<Box<dyn Replay>>;
}
