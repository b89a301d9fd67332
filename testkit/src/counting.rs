//! Wrappers that count the bytes opened, around any system: *incrementals that do not read* is a
//! promise, so it is measured.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use model::{
    Content, ContentReader, Context, Cut, CutItems, Follower, Item, Next, Position, Proof, Recheck,
    Replay, Result, System, SystemFacts,
};

/// A [`System`] that counts what is opened of any of its cuts and followers.
#[derive(Debug)]
pub struct CountingSystem<S> {
    inner: S,
    opened_bytes: Arc<AtomicU64>,
}

impl<S: System> CountingSystem<S> {
    /// Wraps a system.
    pub fn new(inner: S) -> Self {
        Self { inner, opened_bytes: Arc::default() }
    }

    /// Returns how many bytes were asked for, and begins to count anew.
    pub fn take_opened_bytes(&self) -> u64 {
        self.opened_bytes.swap(0, Ordering::SeqCst)
    }

    /// Returns the wrapped system.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

#[async_trait]
impl<S: System> System for CountingSystem<S> {
    fn facts(&self) -> SystemFacts {
        self.inner.facts()
    }

    async fn cut(&self, since: Option<&Position>, context: &Context) -> Result<Box<dyn Cut>> {
        let inner = self.inner.cut(since, context).await?;
        Ok(Box::new(CountingCut { inner, opened_bytes: Arc::clone(&self.opened_bytes) }))
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn Follower>> {
        let inner = self.inner.follow(from, context).await?;
        Ok(Box::new(CountingFollower { inner, opened_bytes: Arc::clone(&self.opened_bytes) }))
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        self.inner.replay()
    }
}

/// A [`Cut`] that counts what is opened of it.
pub struct CountingCut {
    inner: Box<dyn Cut>,
    opened_bytes: Arc<AtomicU64>,
}

impl CountingCut {
    /// Wraps a cut.
    pub fn new(inner: Box<dyn Cut>) -> Self {
        Self { inner, opened_bytes: Arc::default() }
    }

    /// Returns how many bytes were asked for.
    pub fn opened_bytes(&self) -> u64 {
        self.opened_bytes.load(Ordering::SeqCst)
    }
}

fn count(opened_bytes: &AtomicU64, range: &Range<u64>) {
    opened_bytes.fetch_add(range.end.saturating_sub(range.start), Ordering::SeqCst);
}

#[async_trait]
impl Content for CountingCut {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        count(&self.opened_bytes, &range);
        self.inner.open(item, extent, range).await
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.inner.recheck(item).await
    }
}

#[async_trait]
impl Cut for CountingCut {
    fn position(&self) -> &Position {
        self.inner.position()
    }

    fn items(&self, context: &Context) -> CutItems<'_> {
        self.inner.items(context)
    }

    async fn proof(&self) -> Result<Proof> {
        self.inner.proof().await
    }

    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }
}

struct CountingFollower {
    inner: Box<dyn Follower>,
    opened_bytes: Arc<AtomicU64>,
}

#[async_trait]
impl Content for CountingFollower {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        count(&self.opened_bytes, &range);
        self.inner.open(item, extent, range).await
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.inner.recheck(item).await
    }
}

#[async_trait]
impl Follower for CountingFollower {
    async fn next(&mut self, context: &Context) -> Result<Next> {
        self.inner.next(context).await
    }

    async fn acknowledge(&mut self, durable: &Position) -> Result<()> {
        self.inner.acknowledge(durable).await
    }
}
