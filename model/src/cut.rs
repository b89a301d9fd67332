//! Cuts: one frozen, consistent reading of a system.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{Context, Item, ItemKey, Position, Result};

/// Items in batches of whatever size suits the source; a batch is never empty.
pub type ItemBatches<'a> = BoxStream<'a, Result<Vec<Item>>>;

/// Changes in batches of whatever size suits the source; a batch is never empty.
pub type ChangeBatches<'a> = BoxStream<'a, Result<Vec<Change>>>;

/// One change of a system's items. Changes apply in the order in which they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The item is now this one, whether or not there was one.
    Upsert(Item),
    /// The item and everything below it is gone. Nothing there is fine.
    Delete(ItemKey),
    /// The item and everything below it is now under another key, replacing what was there.
    Move {
        /// Where the subtree was.
        from: ItemKey,
        /// Where it is now.
        to: ItemKey,
    },
}

/// How a cut lists its items.
pub enum CutItems<'a> {
    /// Each key once, ascending.
    Sorted(ItemBatches<'a>),
    /// Each key once, in any order; the engine sorts in bounded memory.
    Unsorted(ItemBatches<'a>),
    /// What changed since the position that [`System::cut`](crate::System::cut) was given. Applied to
    /// that state it gives the same tree as a full listing would.
    Changes(ChangeBatches<'a>),
}

/// One thing that the system itself says about the state at the cut's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed: `digest`, `rows.public.users`.
    pub name: String,
    /// The claimed value, in the system's own form.
    pub value: Bytes,
}

/// What a restore of the cut is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// How the state was read: the rung of the kind's fallback ladder (`walk`, `snapshot`).
    pub method: String,
    /// What the system says about the state.
    pub claims: Vec<Claim>,
}

/// Whether an item that was just read is still the one that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recheck {
    /// It is: what was read is its content.
    Same,
    /// It changed: what was read may be a mixture. Read it again as this.
    Changed(Box<Item>),
    /// It is no longer there.
    Gone,
}

/// Reads content piece by piece.
///
/// # Contract
/// Polled on threads that may block: a local source reads in place.
#[async_trait]
pub trait ContentReader: Send {
    /// Returns the next piece, never empty; none at the end of the range, or earlier where the source
    /// has become shorter (which [`Content::recheck`] then tells).
    async fn next(&mut self) -> Result<Option<Bytes>>;

    /// Says whether what was read so far is surely content of the item as it was listed, so that
    /// [`Content::recheck`] has nothing to find. A reader that cannot tell says no.
    fn vouches_for(&self, _item: &Item) -> bool {
        false
    }
}

/// Gives the content of listed items.
#[async_trait]
pub trait Content: Send + Sync {
    /// Opens a range of one data extent of an item, the range being relative to the extent.
    ///
    /// # Errors
    /// `NotFound` where the item has gone; `Unavailable`, `Denied`.
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>>;

    /// Looks at an item again after its content was read.
    async fn recheck(&self, item: &Item) -> Result<Recheck>;
}

/// One frozen, consistent reading of a system at a position.
#[async_trait]
pub trait Cut: Content {
    /// Returns where the system stood.
    fn position(&self) -> &Position;

    /// Lists the items. May be called once only.
    fn items(&self, context: &Context) -> CutItems<'_>;

    /// Returns what a restore is compared with. Complete once [`Cut::items`] has ended.
    async fn proof(&self) -> Result<Proof>;

    /// Lets go of what the cut holds at the source; nothing may be read afterwards. Twice is the same as
    /// once. Dropping a cut without it leaves that to the sweeper.
    async fn release(&self) -> Result<()>;
}
