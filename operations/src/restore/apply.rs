//! One step, carried out on a thread that may block.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use model::{
    ContentCheck as _, ContentReader, Counter, Error, ErrorKind, ExtentBody, Item, ItemKind,
    RestoreStep, Result,
};
use repository::content::ChunkReader;
use repository::types::StoredChunk;

use super::Job;
use super::merge::Planned;
use super::plan::Action;
use crate::browse::{Checker, Entry, EntryContent, data_reader};

/// How much of a large content is fetched at a time, and how many such pieces.
const PIECE_BYTES: usize = 2 << 20;
const PIECES_AHEAD: usize = 2;

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Created(u64),
    Replaced(u64),
    Deleted,
    Skipped,
    Left,
    Conflict,
}

impl Job {
    /// Carries out a step. `fetched` is the content of a stored item where it is at hand.
    pub(super) async fn carry_out(
        &self,
        planned: Planned,
        fetched: Option<Vec<Bytes>>,
    ) -> Result<Outcome> {
        let Planned { action, content, there } = planned;
        match action {
            Action::Leave(_) => Ok(Outcome::Left),
            Action::Conflict(_) => Ok(Outcome::Conflict),
            Action::Apply(step @ RestoreStep::Delete(_)) => {
                self.target.apply(&step, None, &self.context).await?;
                Ok(Outcome::Deleted)
            }
            Action::Apply(step) => {
                let is_new = matches!(step, RestoreStep::Create(_));
                let bytes = self.put(&step, &content, fetched).await?;
                Ok(if is_new { Outcome::Created(bytes) } else { Outcome::Replaced(bytes) })
            }
            Action::Compare(item) => self.compare(item, content, there).await,
        }
    }

    /// Applies a step with its content; returns the content's length.
    async fn put(
        &self,
        step: &RestoreStep,
        content: &EntryContent,
        fetched: Option<Vec<Bytes>>,
    ) -> Result<u64> {
        let (RestoreStep::Create(item) | RestoreStep::Replace(item)) = step else { return Ok(0) };
        if !item.kind.has_content() {
            self.target.apply(step, None, &self.context).await?;
            self.context.monitor.count(Counter::RestoredItems, 1);
            return Ok(0);
        }
        let mut reader: Box<dyn ContentReader> = match (content, fetched) {
            (_, Some(bytes)) => data_reader(bytes),
            (EntryContent::Logged(contents), None) => data_reader(contents.iter().cloned()),
            (EntryContent::Stored(_), None) => {
                Box::new(Ahead::new(self.reader_for_writing(), chunks(content)))
            }
        };
        if !self.is_read_back() {
            self.target.apply(step, Some(&mut *reader), &self.context).await?;
        } else if let Err(error) = self.put_checked(step, item, content, &mut *reader).await {
            let is_stored = matches!(content, EntryContent::Stored(_));
            if error.kind() != ErrorKind::Corrupt || !is_stored {
                return Err(error);
            }
            // Perhaps a chunk lies somewhere else as well, and is intact there.
            let mut reader = Ahead::new(&self.reader, chunks(content));
            self.put_checked(step, item, content, &mut reader).await?;
        }
        let bytes = item.content_bytes();
        self.context.monitor.count(Counter::RestoredItems, 1);
        self.context.monitor.count(Counter::RestoredBytes, bytes);
        Ok(bytes)
    }

    /// Says whether the target reads content back while it is written.
    pub(super) fn is_read_back(&self) -> bool {
        self.options.is_verified && self.target.facts().reads_back
    }

    /// Returns the reader of what is written. Content that is read back is compared then, and not before as
    /// well.
    pub(super) fn reader_for_writing(&self) -> &ChunkReader {
        if self.is_read_back() { &self.plain_reader } else { &self.reader }
    }

    async fn put_checked(
        &self,
        step: &RestoreStep,
        item: &Item,
        content: &EntryContent,
        reader: &mut dyn ContentReader,
    ) -> Result<()> {
        let mut checker = Checker::new(item, content, &self.keys);
        let applied =
            self.target.apply_checked(step, Some(reader), &mut checker, &self.context).await?;
        if let Some(version) = applied {
            self.proven.note(&item.key, &version);
        }
        Ok(())
    }

    /// Compares what looks equal, and writes it where it is not.
    async fn compare(
        &self,
        item: Item,
        content: EntryContent,
        there: Option<Item>,
    ) -> Result<Outcome> {
        let is_same = match (item.kind, &there) {
            // Its first name may be replaced: then this one has to follow. Otherwise nothing happens.
            (ItemKind::Hardlink, _) => {
                self.put(&RestoreStep::Replace(item), &content, None).await?;
                return Ok(Outcome::Skipped);
            }
            // What is done in a directory changes it.
            (ItemKind::Directory, _) => {
                self.put(&RestoreStep::Replace(item), &content, None).await?;
                return Ok(Outcome::Skipped);
            }
            (kind, Some(there)) if kind.has_content() => {
                let entry = Entry { item: item.clone(), content: content.clone() };
                self.is_as_wanted(&entry, there).await?
            }
            _ => true,
        };
        if is_same {
            self.context.monitor.count(Counter::SkippedItems, 1);
            // What is there counts towards what is to be there.
            self.context.monitor.count(Counter::RestoredBytes, item.content_bytes());
            return Ok(Outcome::Skipped);
        }
        let bytes = self.put(&RestoreStep::Replace(item), &content, None).await?;
        Ok(Outcome::Replaced(bytes))
    }

    /// Reads an item of the target and says whether its content is what an entry says.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) async fn is_as_wanted(&self, entry: &Entry, there: &Item) -> Result<bool> {
        if entry.item.content_bytes() != there.content_bytes() {
            return Ok(false);
        }
        let mut checker = Checker::new(&entry.item, &entry.content, &self.keys);
        for (index, extent) in there.extents.iter().enumerate() {
            if extent.body == ExtentBody::Hole {
                if !checker.take_zeros(extent.length_bytes) {
                    return Ok(false);
                }
                continue;
            }
            let mut left = extent.length_bytes;
            let mut reader = self.target.open(there, index, 0..left).await?;
            while left > 0 {
                self.context.check("read back")?;
                let Some(piece) = reader.next().await? else { return Ok(false) };
                left = left.saturating_sub(piece.len() as u64);
                if !checker.take(&piece) {
                    return Ok(false);
                }
            }
        }
        Ok(checker.passes())
    }
}

/// Lists the chunks of stored content.
pub(super) fn chunks(content: &EntryContent) -> Vec<StoredChunk> {
    use repository::types::StoredBody;
    let EntryContent::Stored(extents) = content else { return Vec::new() };
    let of_extent = |body: &StoredBody| match body {
        StoredBody::Hole => Vec::new(),
        StoredBody::Data { chunks, .. } => chunks.clone(),
    };
    extents.iter().flat_map(|extent| of_extent(&extent.body)).collect()
}

/// Reads chunks one after another, a few pieces ahead, each piece on its own task.
struct Ahead {
    pieces: BoxStream<'static, Result<Vec<Bytes>>>,
    at_hand: VecDeque<Bytes>,
}

impl Ahead {
    fn new(reader: &ChunkReader, chunks: Vec<StoredChunk>) -> Self {
        let reader = reader.clone();
        let pieces = stream::iter(cut(chunks))
            .map(move |piece| {
                let reader = reader.clone();
                let reading = tokio::spawn(async move { reader.read_all(&piece).await });
                async move {
                    reading.await.unwrap_or_else(|error| {
                        Err(Error::new(ErrorKind::Internal, "read content", "").because(error))
                    })
                }
            })
            .buffered(PIECES_AHEAD);
        Self { pieces: pieces.boxed(), at_hand: VecDeque::new() }
    }
}

#[async_trait]
impl ContentReader for Ahead {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.at_hand.pop_front() {
                if bytes.is_empty() {
                    continue;
                }
                return Ok(Some(bytes));
            }
            match self.pieces.try_next().await? {
                Some(piece) => self.at_hand = piece.into(),
                None => return Ok(None),
            }
        }
    }
}

/// Cuts a list of chunks into pieces of about the same length.
fn cut(chunks: Vec<StoredChunk>) -> Vec<Vec<StoredChunk>> {
    let mut pieces = Vec::new();
    let (mut piece, mut length) = (Vec::new(), 0);
    for chunk in chunks {
        length += chunk.length as usize;
        piece.push(chunk);
        if length >= PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece));
            length = 0;
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}
