//! One reading of the protected files: a walk, with the outputs of commands in between.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use model::{
    Claim, Content, ContentReader, Context, Cut, CutItems, Error, ErrorKind, Item, Position, Proof,
    Recheck, Result, Timestamp,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::content::Contents;
use super::known::Known;
use super::links::Found;
use super::memory::{Memory, Remembered};
use super::walk::walk;

/// How many batches of items may wait to be taken.
const BATCHES_AHEAD: usize = 4;

/// A cut of files. What the files are is learned by walking them, and what is in them when they are
/// read: a change in between is told by [`Content::recheck`].
#[derive(Debug)]
pub(super) struct FilesCut {
    pub(super) position: Position,
    pub(super) started_at: Timestamp,
    pub(super) contents: Arc<Contents>,
    /// Items of commands, in key order.
    pub(super) command_items: Vec<Item>,
    /// Where the listing is remembered, if it is to be.
    pub(super) memory: Option<Arc<Memory>>,
    pub(super) tally: Arc<Mutex<Option<Tally>>>,
}

/// What was listed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    items: u64,
    bytes: u64,
}

#[async_trait]
impl Content for FilesCut {
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
impl Cut for FilesCut {
    fn position(&self) -> &Position {
        &self.position
    }

    fn items(&self, context: &Context) -> CutItems<'_> {
        let listing = Listing {
            position: self.position.clone(),
            started_at: self.started_at,
            contents: Arc::clone(&self.contents),
            memory: self.memory.clone(),
            tally: Arc::clone(&self.tally),
            context: context.clone(),
        };
        let command_items = self.command_items.clone();
        let begin = async move {
            let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
            let job = tokio::task::spawn_blocking(move || listing.run(command_items, &sender));
            stream::unfold((receiver, Some(job)), next_batch)
        };
        CutItems::Sorted(stream::once(begin).flatten().boxed())
    }

    async fn proof(&self) -> Result<Proof> {
        let tally = *self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tally.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "prove cut", "").detail("it was not listed to its end")
        })?;
        let claim = |name: &str, count: u64| Claim {
            name: name.into(),
            value: Bytes::from(count.to_string()),
        };
        let claims = vec![claim("items", tally.items), claim("bytes", tally.bytes)];
        Ok(Proof { method: "walk".into(), claims })
    }

    async fn release(&self) -> Result<()> {
        Ok(())
    }
}

type Batches = (mpsc::Receiver<Result<Vec<Item>>>, Option<JoinHandle<()>>);

async fn next_batch((mut receiver, job): Batches) -> Option<(Result<Vec<Item>>, Batches)> {
    if let Some(batch) = receiver.recv().await {
        return Some((batch, (receiver, job)));
    }
    // A walk that failed by a fault of ours must not look like one that has ended.
    let failed = job?.await.err()?;
    let error = Error::new(ErrorKind::Internal, "walk files", "").because(failed);
    Some((Err(error), (receiver, None)))
}

/// A listing under way.
struct Listing {
    position: Position,
    started_at: Timestamp,
    contents: Arc<Contents>,
    memory: Option<Arc<Memory>>,
    tally: Arc<Mutex<Option<Tally>>>,
    context: Context,
}

impl Listing {
    fn run(self, command_items: Vec<Item>, sender: &mpsc::Sender<Result<Vec<Item>>>) {
        let mut tally = Tally::default();
        let mut known = self.memory.is_some().then(Known::default);
        let mut merge = Merge(command_items.into_iter().peekable());
        let mut is_wanted = true;
        let mut hand_over = |batch: Vec<Found>| {
            if batch.is_empty() {
                return ControlFlow::Continue(());
            }
            let items = batch.into_iter().map(|found| {
                if let Some(known) = &mut known {
                    known.note(&found);
                }
                tally.items += 1;
                tally.bytes = tally.bytes.saturating_add(found.item.content_bytes());
                found.item
            });
            is_wanted = sender.blocking_send(Ok(items.collect())).is_ok();
            if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let walked =
            walk(&self.contents.source, &self.contents.names, &self.context, &mut |batch| {
                hand_over(merge.with(batch))
            });
        if walked.is_ok() {
            // Whether they are wanted is asked below.
            let _ = hand_over(merge.rest());
        }
        match walked {
            Err(error) => {
                // Nobody may be listening any more.
                let _ = sender.blocking_send(Err(error));
            }
            Ok(()) if is_wanted => self.finish(tally, known),
            Ok(()) => {}
        }
    }

    fn finish(self, tally: Tally, known: Option<Known>) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = Some(tally);
        if let Some((memory, known)) = self.memory.zip(known) {
            let Self { position, started_at: complete_at, .. } = self;
            memory.remember(Remembered { position, known, complete_at });
        }
    }
}

/// Puts items between those of the walk, in key order.
struct Merge(std::iter::Peekable<std::vec::IntoIter<Item>>);

impl Merge {
    fn with(&mut self, batch: Vec<Found>) -> Vec<Found> {
        if self.0.peek().is_none() {
            return batch;
        }
        let mut merged = Vec::with_capacity(batch.len());
        for found in batch {
            while let Some(item) = self.0.next_if(|item| item.key < found.item.key) {
                merged.push(item.into());
            }
            merged.push(found);
        }
        merged
    }

    fn rest(&mut self) -> Vec<Found> {
        self.0.by_ref().map(Found::from).collect()
    }
}
