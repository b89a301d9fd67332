//! Sorting short entries of one length, of which there may be more than fit into memory; equal ones
//! become one.
//!
//! A collector notes every chunk that is referred to, and every place where one lies: many small
//! entries that are compared bytewise. They are held in one table, spilled sealed like items, and read
//! in order as often as it takes; more may be added between two readings.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use model::{Context, Error, ErrorKind, Result};

use super::spill::{Run, RunReader, SpillFile};

const ACTION: &str = "sort references";
/// How long a spilled block is, in bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// How often a long loop looks whether it is to stop.
const ENTRIES_PER_CANCEL_CHECK: u64 = 1 << 16;

/// Gathers entries and gives them back in order, each once.
pub(crate) struct FixedSorter<const N: usize> {
    entries_max: usize,
    folder: PathBuf,
    context: Context,
    held: Vec<[u8; N]>,
    file: Option<SpillFile>,
    runs: Vec<Run>,
}

impl<const N: usize> FixedSorter<N> {
    /// Begins; what is more than `memory_bytes` goes to a nameless file in `folder`.
    pub(crate) fn new(memory_bytes: usize, folder: &Path, context: &Context) -> Self {
        Self {
            entries_max: (memory_bytes / N.max(1)).max(2),
            folder: folder.to_owned(),
            context: context.clone(),
            held: Vec::new(),
            file: None,
            runs: Vec::new(),
        }
    }

    /// Adds an entry. Blocks while entries are sorted and written.
    ///
    /// # Errors
    /// Those of the local disk; `Cancelled`.
    pub(crate) fn push(&mut self, entry: [u8; N]) -> Result<()> {
        if self.held.len() >= self.entries_max {
            self.settle();
            // Many are equal: where that made room there is nothing to be written yet.
            if self.held.len() > self.entries_max / 2 {
                self.spill()?;
            }
        }
        self.held.push(entry);
        Ok(())
    }

    /// Reads all entries in order, from the first. Blocks.
    ///
    /// # Errors
    /// Those of the local disk; `Corrupt` where it does not hold what was written.
    pub(crate) fn sorted(&mut self) -> Result<Sorted<'_, N>> {
        self.settle();
        let mut sorted = Sorted {
            context: &self.context,
            held: &self.held,
            at: 0,
            file: self.file.as_mut(),
            readers: self.runs.iter().map(|run| RunReader::new(*run)).collect(),
            heads: BinaryHeap::new(),
            previous: None,
            count: 0,
        };
        for reader in 0..sorted.readers.len() {
            sorted.advance(reader)?;
        }
        Ok(sorted)
    }

    fn settle(&mut self) {
        self.held.sort_unstable();
        self.held.dedup();
    }

    fn spill(&mut self) -> Result<()> {
        self.context.check(ACTION)?;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let entropy = &*self.context.entropy;
                std::fs::create_dir_all(&self.folder).map_err(|error| {
                    let shown = self.folder.display().to_string();
                    Error::new(crate::store::io_kind(&error), ACTION, shown).because(error)
                })?;
                none.insert(SpillFile::create(&self.folder, BLOCK_BYTES, entropy)?)
            }
        };
        let mut writer = file.begin_run();
        for entry in &self.held {
            writer.push(file, entry)?;
        }
        self.runs.push(writer.finish(file)?);
        self.held.clear();
        Ok(())
    }
}

/// One reading of all entries.
pub(crate) struct Sorted<'s, const N: usize> {
    context: &'s Context,
    held: &'s [[u8; N]],
    at: usize,
    file: Option<&'s mut SpillFile>,
    readers: Vec<RunReader>,
    heads: BinaryHeap<Reverse<([u8; N], usize)>>,
    previous: Option<[u8; N]>,
    count: u64,
}

impl<const N: usize> Sorted<'_, N> {
    /// Returns the next entry that is not equal to the one before.
    ///
    /// # Errors
    /// As [`FixedSorter::sorted`]; `Cancelled`.
    pub(crate) fn next(&mut self) -> Result<Option<[u8; N]>> {
        loop {
            if self.count.is_multiple_of(ENTRIES_PER_CANCEL_CHECK) {
                self.context.check(ACTION)?;
            }
            self.count += 1;
            let held = self.held.get(self.at);
            let spilled = self.heads.peek().map(|Reverse((entry, reader))| (*entry, *reader));
            let next = match (held, spilled) {
                (None, None) => return Ok(None),
                (Some(held), Some((entry, reader))) if entry < *held => (entry, Some(reader)),
                (Some(held), _) => (*held, None),
                (None, Some((entry, reader))) => (entry, Some(reader)),
            };
            match next.1 {
                None => self.at += 1,
                Some(reader) => {
                    self.heads.pop();
                    self.advance(reader)?;
                }
            }
            if self.previous != Some(next.0) {
                self.previous = Some(next.0);
                return Ok(Some(next.0));
            }
        }
    }

    fn advance(&mut self, reader: usize) -> Result<()> {
        let fault = || Error::new(ErrorKind::Internal, ACTION, "");
        let (Some(file), Some(run)) = (self.file.as_deref_mut(), self.readers.get_mut(reader))
        else {
            return Err(fault());
        };
        if let Some(entry) = run.next(file)? {
            let entry = <[u8; N]>::try_from(&entry[..]).map_err(|_| fault())?;
            self.heads.push(Reverse((entry, reader)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read<const N: usize>(sorter: &mut FixedSorter<N>) -> Vec<[u8; N]> {
        let mut sorted = sorter.sorted().expect("sort");
        let mut all = Vec::new();
        while let Some(entry) = sorted.next().expect("next") {
            all.push(entry);
        }
        all
    }

    #[test]
    fn entries_come_back_in_order_once_each_as_often_as_it_takes() {
        let folder = tempfile::tempdir().expect("folder");
        let (context, _) = testkit::context(1);
        for memory in [8, 300, 1 << 20] {
            let mut sorter = FixedSorter::<4>::new(memory, folder.path(), &context);
            let mut expected = BTreeSet::new();
            for n in 0..1000_u32 {
                let entry = (n.wrapping_mul(2_654_435_761) % 700).to_be_bytes();
                expected.insert(entry);
                sorter.push(entry).expect("push");
            }
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(read(&mut sorter), expected, "{memory}");
            assert_eq!(read(&mut sorter), expected, "{memory}, again");
            sorter.push([255; 4]).expect("push");
            sorter.push([255; 4]).expect("push");
            assert_eq!(read(&mut sorter), [&expected[..], &[[255; 4]]].concat(), "{memory}, more");
            assert_eq!(sorter.file.is_some(), memory < 1 << 20, "{memory}");
        }
    }
}
