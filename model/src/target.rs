//! Targets of a restore.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Content, ContentReader, Context, Item, ItemBatches, ItemKey, Result, Version};

/// Unchanging facts about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetFacts {
    /// How many steps may be applied at once; at least 1.
    pub write_concurrency: usize,
    /// Whether names that differ only in case are one name there.
    pub folds_case: bool,
    /// Whether names are compared after Unicode normalisation there.
    pub folds_unicode: bool,
    /// Whether [`Target::apply_checked`] reads content back.
    pub reads_back: bool,
}

/// Compares content, which comes from first to last byte, with what it should be.
pub trait ContentCheck: Send {
    /// Takes the next bytes; says whether all was right so far.
    fn take(&mut self, bytes: &[u8]) -> bool;

    /// Takes so many zero bytes of a hole; says whether all was right so far.
    fn take_zeros(&mut self, length_bytes: u64) -> bool;

    /// Says whether all was right, and whole.
    fn passes(&self) -> bool;
}

/// One step of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreStep {
    /// Make the item be there with its content and attributes; nothing is there now.
    Create(Item),
    /// Replace what is there by the item. Further names of a replaced file (hard links) go on naming what
    /// was there until they are replaced too.
    Replace(Item),
    /// Remove the item; whatever was below it has been removed by earlier steps.
    Delete(ItemKey),
}

impl RestoreStep {
    /// Returns the key that the step is about.
    pub fn key(&self) -> &ItemKey {
        match self {
            Self::Create(item) | Self::Replace(item) => &item.key,
            Self::Delete(key) => key,
        }
    }
}

/// A place that is restored into. What is there can be read back through [`Content`].
///
/// # Contract
/// * Nothing outside the target's root is ever read or written, whatever names, links or races it meets.
/// * A step applied twice is the same as applied once; an interrupted restore is run again from its start.
/// * A parent is applied before its children.
#[async_trait]
pub trait Target: Content + Debug {
    /// Returns facts that do not change while this value lives.
    fn facts(&self) -> TargetFacts;

    /// Lists what is there now, sorted.
    fn survey(&self, context: &Context) -> ItemBatches<'_>;

    /// Carries out one step. `content` gives the bytes of the item's data extents, one after another.
    ///
    /// # Errors
    /// `Conflict` where [`RestoreStep::Create`] finds something there that it did not make itself.
    async fn apply(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        context: &Context,
    ) -> Result<()>;

    /// Carries out one step as [`Target::apply`] does. Content is read back and given to `check` before it
    /// has its name. Returns the version ([`Item::version`]) under which a survey finds what was read back,
    /// unless somebody changes it; none where nothing was read back, or something else is what stands.
    ///
    /// # Errors
    /// As [`Target::apply`]; `Corrupt` where the check does not pass: then nothing has changed.
    async fn apply_checked(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        _check: &mut dyn ContentCheck,
        context: &Context,
    ) -> Result<Option<Version>> {
        self.apply(step, content, context).await.map(|()| None)
    }

    /// Completes what has to come last (links, metadata of directories).
    async fn finish(&self, context: &Context) -> Result<()>;

    /// Makes everything that was done durable. What is there may be read meanwhile.
    async fn persist(&self, context: &Context) -> Result<()>;
}
