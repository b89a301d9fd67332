//! Merging runs: always the smallest key of all runs next.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

use super::spill::{Run, RunReader, SpillFile};
use super::{ACTION, ITEMS_PER_CANCEL_CHECK, codec, duplicate};

/// Several runs as one sequence.
pub(super) struct Merge {
    readers: Vec<RunReader>,
    heads: BinaryHeap<Reverse<Head>>,
    previous: Option<Bytes>,
}

/// The next entry of one run.
#[derive(PartialEq, Eq)]
struct Head {
    key: Bytes,
    reader: usize,
    entry: Bytes,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then(self.reader.cmp(&other.reader))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    /// Reads the first entry of each run.
    pub(super) fn begin(file: &mut SpillFile, runs: impl IntoIterator<Item = Run>) -> Result<Self> {
        let readers = runs.into_iter().map(RunReader::new).collect::<Vec<_>>();
        let mut merge = Self { heads: BinaryHeap::new(), previous: None, readers };
        for reader in 0..merge.readers.len() {
            merge.advance(file, reader)?;
        }
        Ok(merge)
    }

    /// Returns the next entry of all runs.
    pub(super) fn next(&mut self, file: &mut SpillFile) -> Result<Option<Bytes>> {
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        if self.previous.as_ref() == Some(&head.key) {
            return Err(duplicate(&head.key));
        }
        self.advance(file, head.reader)?;
        self.previous = Some(head.key);
        Ok(Some(head.entry))
    }

    fn advance(&mut self, file: &mut SpillFile, number: usize) -> Result<()> {
        let Some(reader) = self.readers.get_mut(number) else { return Ok(()) };
        if let Some(entry) = reader.next(file)? {
            let fault =
                || Error::new(ErrorKind::Internal, ACTION, "").detail("an entry has no key");
            let key = codec::key_of(&entry).ok_or_else(fault)?;
            self.heads.push(Reverse(Head { key, reader: number, entry }));
        }
        Ok(())
    }
}

/// Makes one run of several.
pub(super) fn merge_to_run(file: &mut SpillFile, runs: Vec<Run>, context: &Context) -> Result<Run> {
    let mut merge = Merge::begin(file, runs)?;
    let mut writer = file.begin_run();
    let mut count = 0_u64;
    while let Some(entry) = merge.next(file)? {
        if count.is_multiple_of(ITEMS_PER_CANCEL_CHECK) {
            context.check(ACTION)?;
        }
        count += 1;
        writer.push(file, &entry)?;
    }
    writer.finish(file)
}
