//! Content as a stream: extents one after another, a few chunks ahead of who reads.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use model::{ContentReader, Error, ErrorKind, Result};
use tokio::task::JoinHandle;

use super::ChunkReader;
use crate::types::{StoredBody, StoredChunk, StoredExtent};

/// How much is read at once.
const WINDOW_BYTES: u64 = 4 << 20;
/// How many windows are being read while one is given out.
const WINDOWS_AHEAD: usize = 2;
/// Holes are given out in pieces of this many zeros.
const ZEROS_BYTES: usize = 256 << 10;

/// Reads extents.
pub(super) struct Extents {
    reader: ChunkReader,
    /// What is to be read, the next first.
    rest: VecDeque<Part>,
    ahead: VecDeque<Ahead>,
    ready: VecDeque<Bytes>,
    zeros: Bytes,
}

enum Part {
    Hole(u64),
    Chunks(Vec<StoredChunk>),
}

enum Ahead {
    Hole(u64),
    Reading(JoinHandle<Result<Vec<Bytes>>>),
}

impl Extents {
    pub(super) fn new(reader: ChunkReader, extents: &[StoredExtent]) -> Self {
        let mut rest = VecDeque::new();
        let mut window = Vec::new();
        let mut window_bytes = 0;
        for extent in extents {
            match &extent.body {
                StoredBody::Hole => {
                    rest.extend(take(&mut window, &mut window_bytes));
                    rest.push_back(Part::Hole(extent.length_bytes));
                }
                StoredBody::Data { chunks, .. } => {
                    for chunk in chunks {
                        window_bytes += u64::from(chunk.length);
                        window.push(chunk.clone());
                        if window_bytes >= WINDOW_BYTES {
                            rest.extend(take(&mut window, &mut window_bytes));
                        }
                    }
                }
            }
        }
        rest.extend(take(&mut window, &mut window_bytes));
        let (ahead, ready) = (VecDeque::new(), VecDeque::new());
        Self { reader, rest, ahead, ready, zeros: Bytes::new() }
    }

    fn read_ahead(&mut self) {
        while self.ahead.len() <= WINDOWS_AHEAD
            && let Some(part) = self.rest.pop_front()
        {
            self.ahead.push_back(match part {
                Part::Hole(length) => Ahead::Hole(length),
                Part::Chunks(chunks) => {
                    let reader = self.reader.clone();
                    Ahead::Reading(tokio::spawn(async move { reader.read_all(&chunks).await }))
                }
            });
        }
    }

    /// Gives out a part of a hole and puts the rest of it back.
    fn zeros(&mut self, length: u64) -> Bytes {
        let piece = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        if self.zeros.len() < piece {
            self.zeros = Bytes::from(vec![0; piece]);
        }
        let rest = length - piece as u64;
        if rest > 0 {
            self.ahead.push_front(Ahead::Hole(rest));
        }
        self.zeros.slice(..piece)
    }
}

fn take(window: &mut Vec<StoredChunk>, window_bytes: &mut u64) -> Option<Part> {
    *window_bytes = 0;
    (!window.is_empty()).then(|| Part::Chunks(std::mem::take(window)))
}

#[async_trait]
impl ContentReader for Extents {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            self.read_ahead();
            match self.ahead.pop_front() {
                None => return Ok(None),
                Some(Ahead::Hole(0)) => {}
                Some(Ahead::Hole(length)) => return Ok(Some(self.zeros(length))),
                Some(Ahead::Reading(task)) => {
                    self.read_ahead();
                    let read = task.await.map_err(|error| {
                        Error::new(ErrorKind::Internal, "read content", "").because(error)
                    })?;
                    self.ready.extend(read?.into_iter().filter(|piece| !piece.is_empty()));
                }
            }
        }
    }
}

impl Drop for Extents {
    fn drop(&mut self) {
        for ahead in &self.ahead {
            if let Ahead::Reading(task) = ahead {
                task.abort();
            }
        }
    }
}
