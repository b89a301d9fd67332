//! Bytes on their way to the store: from the source, or from what is stored already.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use model::{ContentReader, Error, ErrorKind, Item, Recheck, Result};
use repository::types::StoredChunk;

use super::Tools;

/// Why bytes did not come.
pub(super) enum Fetched {
    /// The item is no longer there.
    Gone,
    /// The item cannot be read; others may.
    Failed(Error),
    /// Nothing goes on: the capture was told to stop, or the repository failed.
    Stopped(Error),
}

/// Errors of the repository stop a capture.
impl From<Error> for Fetched {
    fn from(error: Error) -> Self {
        Self::Stopped(error)
    }
}

fn at_source(error: Error) -> Fetched {
    match error.kind() {
        ErrorKind::NotFound => Fetched::Gone,
        ErrorKind::Cancelled => Fetched::Stopped(error),
        _ => Fetched::Failed(error),
    }
}

/// An item at its source.
pub(super) struct Source<'a> {
    pub(super) tools: &'a Tools,
    pub(super) item: &'a Item,
}

impl Source<'_> {
    /// Waits for the source, and no longer once the capture is told to stop.
    fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T, Fetched> {
        let cancel = &self.tools.context.cancel;
        self.tools
            .handle
            .block_on(async {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Err(Error::cancelled("read content")),
                    done = work => done,
                }
            })
            .map_err(at_source)
    }

    /// Reads the only extent of a small item and looks at the item again.
    pub(super) fn whole(&self, length_bytes: u64) -> Result<(Bytes, Recheck), Fetched> {
        let content = &self.tools.content;
        let (bytes, recheck) = self.wait(async {
            let mut reader = content.open(self.item, 0, 0..length_bytes).await?;
            let first = reader.next().await?.unwrap_or_default();
            let mut bytes = first;
            if (bytes.len() as u64) < length_bytes {
                let mut joined = BytesMut::from(bytes.as_ref());
                while let Some(piece) = reader.next().await? {
                    joined.extend_from_slice(&piece);
                    if joined.len() as u64 > length_bytes {
                        break;
                    }
                }
                bytes = joined.freeze();
            }
            if bytes.len() as u64 > length_bytes {
                return Err(self.longer());
            }
            let recheck = if reader.vouches_for(self.item) {
                Recheck::Same
            } else {
                content.recheck(self.item).await?
            };
            Ok((bytes, recheck))
        })?;
        self.tools.note_read(bytes.len());
        Ok((bytes, recheck))
    }

    pub(super) fn recheck(&self) -> Result<Recheck, Fetched> {
        self.wait(self.tools.content.recheck(self.item))
    }

    pub(super) fn shorter(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "read content", self.item.key.display())
            .detail("its source gave less than it listed")
    }

    fn longer(&self) -> Error {
        Error::new(ErrorKind::Internal, "read content", self.item.key.display())
            .detail("its source gave more than was asked for")
    }
}

/// A range of an extent as it comes from the source.
pub(super) struct Stream<'a> {
    source: &'a Source<'a>,
    reader: Box<dyn ContentReader>,
    wanted: u64,
    given: u64,
}

impl<'a> Stream<'a> {
    pub(super) fn open(
        source: &'a Source<'a>,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Self, Fetched> {
        let wanted = range.end - range.start;
        let reader = source.wait(source.tools.content.open(source.item, extent, range))?;
        Ok(Self { source, reader, wanted, given: 0 })
    }

    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Fetched> {
        let Some(bytes) = self.source.wait(self.reader.next())? else { return Ok(None) };
        self.given += bytes.len() as u64;
        if self.given > self.wanted {
            return Err(Fetched::Failed(self.source.longer()));
        }
        self.source.tools.note_read(bytes.len());
        Ok(Some(bytes))
    }

    /// Returns how many bytes came.
    pub(super) fn given(&self) -> u64 {
        self.given
    }
}

/// The bytes of an extent that are stored already.
pub(super) struct Stored<'a> {
    tools: &'a Tools,
    chunks: &'a [StoredChunk],
    /// The chunk that was read last: two parts may share it.
    newest: Option<(usize, Bytes)>,
}

impl<'a> Stored<'a> {
    pub(super) fn new(tools: &'a Tools, chunks: &'a [StoredChunk]) -> Self {
        Self { tools, chunks, newest: None }
    }

    /// Says whether the chunks reach over a range.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        let length: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        range.end <= length
    }

    /// Gives the bytes of a range. A chunk that cannot be read fails the capture: what is stored is
    /// damaged or the store is away, and both have to be known.
    pub(super) fn give(
        &mut self,
        range: Range<u64>,
        mut give: impl FnMut(Bytes) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0_u64;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let end = start + u64::from(chunk.length);
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let bytes = self.read(index, chunk)?;
                let inside = (from - start) as usize..(to - start) as usize;
                if inside.end > bytes.len() {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        "read stored chunk",
                        chunk.id.to_string(),
                    ));
                }
                self.tools.context.check("read stored chunk")?;
                give(bytes.slice(inside))?;
            }
            start = end;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, chunk: &StoredChunk) -> Result<Bytes> {
        if let Some((newest, bytes)) = &self.newest
            && *newest == index
        {
            return Ok(bytes.clone());
        }
        let bytes = self.tools.handle.block_on(self.tools.reader.read(chunk))?;
        self.newest = Some((index, bytes.clone()));
        Ok(bytes)
    }
}
