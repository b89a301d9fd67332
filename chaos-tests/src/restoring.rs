//! A restore of a real tree that is killed at a chosen step.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    Content, ContentCheck, ContentReader, Context, Item, ItemBatches, Recheck, RestoreStep, Result,
    Target, TargetFacts, Version,
};

/// In which part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing of it was done.
    Before,
    /// A first piece of its content was given, where it has content.
    Within,
    /// It was done; nobody was told.
    After,
}

/// A [`Target`] that kills this process, with SIGKILL, at the `nth` step; the end of a restore counts as
/// a step too.
#[derive(Debug)]
pub struct KillingTarget<T> {
    inner: T,
    nth: u64,
    part: Part,
    steps: AtomicU64,
}

impl<T: Target> KillingTarget<T> {
    /// Wraps a target; the first step is 1, and 0 never kills.
    pub fn new(inner: T, nth: u64, part: Part) -> Self {
        Self { inner, nth, part, steps: AtomicU64::new(0) }
    }

    /// Counts a step; says whether it is the last one.
    fn begin(&self) -> bool {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        let is_last = step == self.nth;
        strike(is_last && self.part == Part::Before);
        is_last
    }
}

fn strike(now: bool) {
    if now {
        // It cannot fail for one's own process, and nothing after it is executed.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Gives one piece and then strikes.
struct KillingReader<'a> {
    inner: &'a mut dyn ContentReader,
    has_given: bool,
}

#[async_trait]
impl ContentReader for KillingReader<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        strike(self.has_given);
        self.has_given = true;
        self.inner.next().await
    }
}

#[async_trait]
impl<T: Target> Content for KillingTarget<T> {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        self.inner.open(item, extent, range).await
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.inner.recheck(item).await
    }
}

#[async_trait]
impl<T: Target> Target for KillingTarget<T> {
    fn facts(&self) -> TargetFacts {
        self.inner.facts()
    }

    fn survey(&self, context: &Context) -> ItemBatches<'_> {
        self.inner.survey(context)
    }

    async fn apply(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        context: &Context,
    ) -> Result<()> {
        let is_last = self.begin();
        match content {
            Some(content) if is_last && self.part == Part::Within => {
                let mut reader = KillingReader { inner: content, has_given: false };
                self.inner.apply(step, Some(&mut reader), context).await?;
            }
            content => self.inner.apply(step, content, context).await?,
        }
        strike(is_last);
        Ok(())
    }

    async fn apply_checked(
        &self,
        step: &RestoreStep,
        content: Option<&mut dyn ContentReader>,
        check: &mut dyn ContentCheck,
        context: &Context,
    ) -> Result<Option<Version>> {
        let is_last = self.begin();
        let applied = match content {
            Some(content) if is_last && self.part == Part::Within => {
                let mut reader = KillingReader { inner: content, has_given: false };
                self.inner.apply_checked(step, Some(&mut reader), check, context).await?
            }
            content => self.inner.apply_checked(step, content, check, context).await?,
        };
        strike(is_last);
        Ok(applied)
    }

    async fn finish(&self, context: &Context) -> Result<()> {
        let is_last = self.begin();
        self.inner.finish(context).await?;
        strike(is_last);
        Ok(())
    }

    async fn persist(&self, context: &Context) -> Result<()> {
        self.inner.persist(context).await
    }
}
