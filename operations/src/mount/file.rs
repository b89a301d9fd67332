//! Open files: reads at any offset, and what a reader that goes forward will want next.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use model::{Error, ErrorKind, ExtentBody, Result};
use repository::types::{StoredBody, StoredChunk};

use super::Mounted;
use super::chunks::Chunks;
use super::inodes::Place;
use crate::browse::{Entry, EntryContent};

/// How far ahead of a reader that goes forward chunks are fetched.
const AHEAD_BYTES: u64 = 8 << 20;
/// How far from where the last one ended a read may begin and still go forward: a kernel reads ahead
/// itself, and its reads overtake each other.
const SLACK_BYTES: u64 = 1 << 20;
/// After how many reads in a row a reader counts as going forward.
const FORWARD_READS: u32 = 2;
/// The most that is answered at once.
const READ_BYTES_MAX: u64 = 16 << 20;

/// An open file.
pub struct OpenFile {
    mounted: Mounted,
    place: Place,
    chunks: Arc<Chunks>,
    pieces: Vec<Piece>,
    length_bytes: u64,
    progress: Mutex<Progress>,
}

/// A piece of content; none is empty, and each begins where the one before it ends.
struct Piece {
    start: u64,
    length: u64,
    body: Body,
}

enum Body {
    Zeros,
    Bytes(Bytes),
    Chunk(StoredChunk),
}

/// How a file is being read.
#[derive(Debug, Default)]
struct Progress {
    /// Where the next read begins if it goes forward.
    next: u64,
    /// How many reads in a row went forward.
    reads: u32,
    /// Up to where chunks were asked for.
    fetched_upto: u64,
}

impl OpenFile {
    pub(super) fn new(
        mounted: Mounted,
        place: Place,
        chunks: Arc<Chunks>,
        entry: &Entry,
    ) -> Result<Arc<Self>> {
        let corrupt = || {
            Error::new(ErrorKind::Corrupt, "read content", "")
                .detail("its pieces do not make up its length")
        };
        let length_bytes = entry.item.content_bytes();
        let pieces = pieces(entry).ok_or_else(corrupt)?;
        if pieces.last().map_or(0, Piece::end) != length_bytes {
            return Err(corrupt());
        }
        let progress = Mutex::default();
        Ok(Arc::new(Self { mounted, place, chunks, pieces, length_bytes, progress }))
    }

    /// Reads bytes: all that are asked for and are there.
    ///
    /// # Errors
    /// `Corrupt` where a part of them is damaged; those of the store.
    pub async fn read(self: &Arc<Self>, offset: u64, length: u32) -> Result<Vec<u8>> {
        let length = u64::from(length).min(READ_BYTES_MAX);
        let end = offset.saturating_add(length).min(self.length_bytes);
        if offset >= end {
            return Ok(Vec::new());
        }
        self.read_ahead(offset, end);
        let read = self.read_range(offset, end).await;
        read.map_err(|error| self.mounted.tell(&self.place, None, error))
    }

    /// Returns where data, or with `is_hole` a hole, begins at or after an offset; none behind the end.
    /// A hole begins at the end of each file.
    pub fn seek(&self, offset: u64, is_hole: bool) -> Option<u64> {
        if offset >= self.length_bytes {
            return None;
        }
        let rest = self.pieces.get(self.index(offset)..).unwrap_or_default();
        let found = rest.iter().find(|piece| matches!(piece.body, Body::Zeros) == is_hole);
        let found = found.map(|piece| piece.start.max(offset));
        found.or(is_hole.then_some(self.length_bytes))
    }

    /// Returns the place of the piece that holds an offset.
    fn index(&self, offset: u64) -> usize {
        self.pieces.partition_point(|piece| piece.end() <= offset)
    }

    fn within(&self, offset: u64, end: u64) -> impl Iterator<Item = &Piece> {
        let rest = self.pieces.get(self.index(offset)..).unwrap_or_default();
        rest.iter().take_while(move |piece| piece.start < end)
    }

    async fn read_range(&self, offset: u64, end: u64) -> Result<Vec<u8>> {
        let _permit = self.mounted.0.reads.acquire().await;
        let contents = self.within(offset, end).map(async |piece| match &piece.body {
            Body::Zeros => Ok((piece, None)),
            Body::Bytes(bytes) => Ok((piece, Some(bytes.clone()))),
            Body::Chunk(chunk) => Ok((piece, Some(self.chunks.get(chunk).await?))),
        });
        let contents = try_join_all(contents).await?;
        let mut read = Vec::with_capacity(usize::try_from(end - offset).unwrap_or_default());
        for (piece, content) in contents {
            let from = offset.saturating_sub(piece.start);
            let to = end.min(piece.end()) - piece.start;
            let (from, to) = (usize::try_from(from), usize::try_from(to));
            let (Ok(from), Ok(to)) = (from, to) else { return Err(out_of_range()) };
            match content {
                None => read.resize(read.len() + to.saturating_sub(from), 0),
                Some(bytes) => {
                    read.extend_from_slice(bytes.get(from..to).ok_or_else(out_of_range)?);
                }
            }
        }
        Ok(read)
    }

    /// Fetches what a reader that goes forward will want next, unless enough is being fetched already.
    fn read_ahead(self: &Arc<Self>, offset: u64, end: u64) {
        let wanted =
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).advance(offset, end);
        let Some((from, to)) = wanted.filter(|(from, _)| *from < self.length_bytes) else { return };
        let Ok(permit) = Arc::clone(&self.mounted.0.ahead).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let chunks = this.within(from, to).filter_map(|piece| match &piece.body {
                Body::Chunk(chunk) => Some(this.chunks.get(chunk)),
                Body::Zeros | Body::Bytes(_) => None,
            });
            // What is wrong is found out by who reads it.
            let _ = futures::future::join_all(chunks).await;
            drop(permit);
        });
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

impl Progress {
    /// Notes a read; returns what should be fetched now.
    fn advance(&mut self, offset: u64, end: u64) -> Option<(u64, u64)> {
        if offset.abs_diff(self.next) > SLACK_BYTES {
            *self = Self { next: end, reads: 0, fetched_upto: end };
            return None;
        }
        self.next = self.next.max(end);
        self.reads = self.reads.saturating_add(1);
        let from = self.fetched_upto.max(self.next);
        let to = self.next.saturating_add(AHEAD_BYTES);
        // By halves of the window, not by single reads.
        if self.reads < FORWARD_READS || to.saturating_sub(from) < AHEAD_BYTES / 2 {
            return None;
        }
        self.fetched_upto = to;
        Some((from, to))
    }
}

/// Takes content apart; none where it does not fit together.
fn pieces(entry: &Entry) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut start = 0_u64;
    let mut push = |length: u64, body| {
        if length > 0 {
            pieces.push(Piece { start, length, body });
        }
        start = start.checked_add(length)?;
        Some(())
    };
    match &entry.content {
        EntryContent::Stored(extents) => {
            for extent in extents {
                match &extent.body {
                    StoredBody::Hole => push(extent.length_bytes, Body::Zeros)?,
                    StoredBody::Data { chunks, .. } => {
                        let mut rest = extent.length_bytes;
                        for chunk in chunks {
                            let length = u64::from(chunk.length);
                            rest = rest.checked_sub(length)?;
                            push(length, Body::Chunk(chunk.clone()))?;
                        }
                        (rest == 0).then_some(())?;
                    }
                }
            }
        }
        EntryContent::Logged(contents) => {
            let mut rest = Bytes::from(contents.concat());
            for extent in &entry.item.extents {
                let length = usize::try_from(extent.length_bytes).ok()?;
                if extent.body == ExtentBody::Hole {
                    push(extent.length_bytes, Body::Zeros)?;
                    continue;
                }
                (length <= rest.len()).then_some(())?;
                push(extent.length_bytes, Body::Bytes(rest.split_to(length)))?;
            }
            rest.is_empty().then_some(())?;
        }
    }
    Some(pieces)
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::Internal, "read content", "").detail("a piece is not as long as it says")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Attributes, ContentClass, Extent, Item, ItemKey, ItemKind};
    use repository::types::StoredExtent;

    #[test]
    fn who_goes_forward_is_read_ahead_for_and_who_jumps_is_not() {
        let mut progress = Progress::default();
        let step = 128 << 10;
        assert_eq!(progress.advance(0, step), None, "one read is none in a row");
        assert_eq!(progress.advance(step, 2 * step), Some((2 * step, 2 * step + AHEAD_BYTES)));
        // Reads that overtake each other go forward as well.
        assert_eq!(progress.advance(3 * step, 4 * step), None);
        assert_eq!(progress.advance(2 * step, 3 * step), None);
        let mut at = 4 * step;
        let mut fetched = Vec::new();
        while at < 16 << 20 {
            fetched.extend(progress.advance(at, at + step));
            at += step;
        }
        assert!(fetched.len() <= 4, "{fetched:?}");
        assert!(fetched.windows(2).all(|two| two[0].1 == two[1].0), "nothing twice: {fetched:?}");
        assert_eq!(progress.advance(1 << 30, (1 << 30) + step), None);
        assert_eq!(progress.advance(0, step), None);
    }

    fn entry(extents: Vec<Extent>, content: EntryContent) -> Entry {
        let item = Item {
            key: ItemKey::root(),
            kind: ItemKind::File,
            attributes: Attributes::default(),
            version: None,
            extents,
        };
        Entry { item, content }
    }

    #[test]
    fn content_of_the_log_is_taken_apart_by_extents_or_refused() {
        let logged = |extents, content: &[&'static [u8]]| {
            let content = content.iter().map(|bytes| Bytes::from_static(bytes)).collect();
            let pieces = pieces(&entry(extents, EntryContent::Logged(content)))?;
            let shown = pieces.into_iter().map(|piece| match piece.body {
                Body::Zeros => format!("{}:zeros", piece.start),
                Body::Bytes(bytes) => format!("{}:{}", piece.start, bytes.escape_ascii()),
                Body::Chunk(_) => "chunk".to_owned(),
            });
            Some(shown.collect::<Vec<_>>().join(" "))
        };
        let all = vec![Extent::data(2), Extent::hole(5), Extent::data(0), Extent::data(3)];
        assert_eq!(logged(all.clone(), &[b"ab", b"cde"]).as_deref(), Some("0:ab 2:zeros 7:cde"));
        assert_eq!(logged(all.clone(), &[b"abc", b"de"]).as_deref(), Some("0:ab 2:zeros 7:cde"));
        assert_eq!(logged(all.clone(), &[b"ab", b"cd"]), None, "too little");
        assert_eq!(logged(all, &[b"ab", b"cdef"]), None, "too much");
        assert_eq!(logged(Vec::new(), &[]).as_deref(), Some(""));
    }

    #[test]
    fn chunks_that_do_not_make_up_their_extent_are_refused() {
        let stored = |length_bytes| {
            let body = StoredBody::Data {
                identity: None,
                checksums: None,
                class: ContentClass::General,
                chunks: Vec::new(),
            };
            let extents = vec![StoredExtent { length_bytes, body }];
            pieces(&entry(vec![Extent::data(length_bytes)], EntryContent::Stored(extents)))
        };
        assert!(stored(1).is_none());
        assert!(stored(0).is_some_and(|pieces| pieces.is_empty()));
    }
}
