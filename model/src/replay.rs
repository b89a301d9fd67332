//! Replay of raw logs.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Batch, Context, Cut, Position, Result};

/// Batches of one stream, in order and without gaps.
pub type BatchStream = BoxStream<'static, Result<Batch>>;

/// What a replay gives.
pub enum Replayed {
    /// The state at the position, its items sorted, with its proof.
    State(Box<dyn Cut>),
    /// This log can only be replayed by a server of its kind.
    NeedsServer {
        /// Which one, and why, for people.
        why: String,
    },
}

/// Brings a stored state to a later position with the system's own log.
///
/// # Contract
/// Pure over its inputs: the same base, batches and position give the same items in the same order.
#[async_trait]
pub trait Replay: Send + Sync {
    /// Replays `batches` over `base` up to and including `position`.
    ///
    /// # Errors
    /// `Invalid` where the batches do not begin at the base or do not reach the position; `Corrupt`
    /// where they cannot be read.
    async fn replay(
        &self,
        base: Box<dyn Cut>,
        batches: BatchStream,
        position: &Position,
        context: &Context,
    ) -> Result<Replayed>;
}
