//! Followers: the changes of a system between cuts, as they come.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Change, Content, Context, Position, Result, Timestamp};

/// What a batch carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Bytes of the system's own log.
    Raw(Bytes),
    /// Changes of items, in order. The content of upserted items is read through the follower.
    Changes(Vec<Change>),
}

/// Consecutive changes of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The position before the first change.
    pub after: Position,
    /// The position after the last change.
    pub upto: Position,
    /// The source's time of the first change.
    pub first_at: Timestamp,
    /// The source's time of the last change: everything up to it is in this batch or an earlier one.
    pub last_at: Timestamp,
    /// The changes.
    pub payload: Payload,
}

/// What a follower found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Changes.
    Batch(Batch),
    /// Proof that nothing changed up to this time of the source.
    Nothing {
        /// The source's time up to which there is nothing new.
        as_of: Timestamp,
    },
    /// The system's history no longer reaches back to us: take a new cut. Normal life, not an error.
    Gap,
}

/// Reads a system's changes.
#[async_trait]
pub trait Follower: Content {
    /// Waits for changes, or for a proof that there are none. Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self, context: &Context) -> Result<Next>;

    /// Tells the system that everything up to `durable` is safe with us. Never moves back.
    async fn acknowledge(&mut self, durable: &Position) -> Result<()>;
}
