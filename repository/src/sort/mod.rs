//! Sorting in bounded memory, spilling encrypted runs.
//!
//! A source that lists in an order of its own (an image of a name space, a hash order) may list more
//! items than fit into memory. Items are encoded as they come; whenever the memory is used up they are
//! sorted and written as one *run*, and at the end all runs are merged. What leaves memory goes to a
//! file that has no name and is sealed under a key that only this process has, so nothing of it is
//! left or readable once the process is gone, however it ends.
//!
//! Memory: items that are held plus their table; while merging one block per run, so that runs are
//! merged in several passes where there are more of them than blocks fit.

mod arena;
mod codec;
mod fixed;
mod merge;
mod spill;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use model::{Context, Error, ErrorKind, Item, ItemBatches, Result};

pub(crate) use fixed::FixedSorter;

use arena::Arena;
use merge::Merge;
use spill::{Run, SpillFile};

/// How many items a batch has at most.
const BATCH_ITEMS: usize = 1024;
/// A batch ends after so many encoded bytes.
const BATCH_BYTES: usize = 256 << 10;
/// The fewest runs that can be merged at once.
const RUNS_MERGED_MIN: usize = 2;
/// How often a long loop looks whether it is to stop.
const ITEMS_PER_CANCEL_CHECK: u64 = 4096;

const ACTION: &str = "sort items";

/// Sorts items by key.
#[derive(Debug)]
pub struct Sorter {
    memory_bytes: usize,
    folder: PathBuf,
    context: Context,
    held: Arena,
    scratch: Vec<u8>,
    spilled: Option<Spilled>,
}

/// What is no longer in memory.
#[derive(Debug)]
struct Spilled {
    file: SpillFile,
    runs: VecDeque<Run>,
}

impl Sorter {
    /// Begins; runs are spilled to a nameless file in `folder` when more than `memory_bytes` are held.
    pub fn new(memory_bytes: usize, folder: &std::path::Path, context: &Context) -> Self {
        Self {
            memory_bytes,
            folder: folder.to_owned(),
            context: context.clone(),
            held: Arena::new(memory_bytes),
            scratch: Vec::new(),
            spilled: None,
        }
    }

    /// Adds an item. Blocks while a run is sorted and written.
    ///
    /// # Errors
    /// `Exhausted` where the disk is full; `NotFound`, `Denied` where the folder cannot be written;
    /// `Invalid` for an item that is too large; `Cancelled`.
    pub fn push(&mut self, item: Item) -> Result<()> {
        self.scratch.clear();
        codec::encode(&item, &mut self.scratch);
        if self.held.used_bytes() > 0
            && self.held.used_bytes_with(self.scratch.len()) > self.memory_bytes
        {
            self.spill()?;
        }
        self.held.push(item.key.as_bytes(), &self.scratch).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, ACTION, item.key.display())
                .detail("larger than an item may be")
        })
    }

    /// Returns all items in key order. The stream fails with `Invalid`, naming the key, where a key
    /// comes twice; with `Corrupt` where spilled bytes are not what was written; and as
    /// [`Sorter::push`] does.
    ///
    /// # Errors
    /// None today: all work is done when the stream is polled.
    pub fn finish(self) -> Result<ItemBatches<'static>> {
        let output = Output::Collected(Box::new(self));
        let next = |output: Output| async move {
            // Sorting computes and the disk blocks: neither belongs on the threads of the runtime.
            tokio::task::spawn_blocking(move || output.next_batch())
                .await
                .map_err(|error| Error::new(ErrorKind::Internal, ACTION, "").because(error))?
        };
        Ok(stream::try_unfold(output, next).boxed())
    }

    /// Writes what is held as one run.
    fn spill(&mut self) -> Result<()> {
        self.context.check(ACTION)?;
        self.held.sort();
        let block_bytes = self.block_bytes();
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled {
                file: SpillFile::create(&self.folder, block_bytes, &*self.context.entropy)?,
                runs: VecDeque::new(),
            }),
        };
        let mut writer = spilled.file.begin_run();
        for (count, entry) in (0_u64..).zip(self.held.iter()) {
            if count % ITEMS_PER_CANCEL_CHECK == 0 {
                self.context.check(ACTION)?;
            }
            writer.push(&mut spilled.file, entry)?;
        }
        spilled.runs.push_back(writer.finish(&mut spilled.file)?);
        self.held.clear();
        Ok(())
    }

    /// Half of the memory is for blocks of runs that are merged; large blocks make few reads.
    fn block_bytes(&self) -> usize {
        (self.memory_bytes / 1024).clamp(256, 256 << 10)
    }
}

/// What is left to be returned.
enum Output {
    /// Nothing was sorted yet.
    Collected(Box<Sorter>),
    /// Everything fits into memory.
    Held { held: Arena, at: usize, previous: Bytes, context: Context },
    /// Runs are being merged.
    Merged { file: SpillFile, merge: Merge, context: Context },
}

impl Output {
    fn next_batch(self) -> Result<Option<(Vec<Item>, Self)>> {
        let mut output = self.prepare()?;
        output.context().check(ACTION)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some(entry) = output.next_entry()? else { break };
            bytes += entry.len();
            batch.push(codec::decode(&entry).ok_or_else(|| {
                Error::new(ErrorKind::Internal, ACTION, "").detail("an item does not decode")
            })?);
        }
        Ok((!batch.is_empty()).then_some((batch, output)))
    }

    fn prepare(self) -> Result<Self> {
        let Self::Collected(mut sorter) = self else { return Ok(self) };
        if sorter.spilled.is_none() {
            let Sorter { mut held, context, .. } = *sorter;
            context.check(ACTION)?;
            held.sort();
            return Ok(Self::Held { held, at: 0, previous: Bytes::new(), context });
        }
        if sorter.held.used_bytes() > 0 {
            sorter.spill()?;
        }
        let runs_merged_max =
            (sorter.memory_bytes / (2 * sorter.block_bytes())).max(RUNS_MERGED_MIN);
        let Sorter { spilled, context, held, .. } = *sorter;
        drop(held);
        let none = || Error::new(ErrorKind::Internal, ACTION, "");
        let Spilled { mut file, mut runs } = spilled.ok_or_else(none)?;
        while runs.len() > runs_merged_max {
            let first = runs.drain(..runs_merged_max).collect::<Vec<_>>();
            runs.push_back(merge::merge_to_run(&mut file, first, &context)?);
        }
        let merge = Merge::begin(&mut file, runs)?;
        Ok(Self::Merged { file, merge, context })
    }

    fn next_entry(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Collected(_) => Err(Error::new(ErrorKind::Internal, ACTION, "")),
            Self::Held { held, at, previous, .. } => {
                let Some(entry) = held.get(*at).map(Bytes::copy_from_slice) else {
                    return Ok(None);
                };
                let key = codec::key_of(&entry).unwrap_or_default();
                if *at > 0 && key == *previous {
                    return Err(duplicate(&key));
                }
                (*at, *previous) = (*at + 1, key);
                Ok(Some(entry))
            }
            Self::Merged { file, merge, .. } => merge.next(file),
        }
    }

    fn context(&self) -> &Context {
        match self {
            Self::Collected(sorter) => &sorter.context,
            Self::Held { context, .. } | Self::Merged { context, .. } => context,
        }
    }
}

fn duplicate(key: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(key).replace('\0', "/");
    Error::new(ErrorKind::Invalid, ACTION, shown).detail("its source listed this key twice")
}
