//! Reading what was listed, and looking whether it still is what was listed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    Content, ContentReader, Context, Error, ErrorKind, Item, ItemKey, ItemKind, Monitor, Recheck,
    Result,
};
use rustix::fs::{Advice, FileType, OFlags};
use rustix::io::Errno;

use super::attributes::{FileKind, FileStat};
use super::directory::entry_of;
use super::inspect::{Directory, Inspector, stat_open};
use super::names::Names;
use super::reach;
use super::source::Source;

/// How much is read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Outputs of commands by their keys.
pub(super) type Outputs = BTreeMap<ItemKey, Bytes>;

/// The content of a host's files and of the commands that were run on it.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) source: Arc<Source>,
    pub(super) names: Arc<Names>,
    pub(super) outputs: Arc<Outputs>,
    monitor: Arc<dyn Monitor>,
}

impl Contents {
    pub(super) fn new(source: Arc<Source>, outputs: Arc<Outputs>, context: &Context) -> Self {
        let (names, monitor) = (Arc::new(Names::read()), Arc::clone(&context.monitor));
        Self { source, names, outputs, monitor }
    }

    fn open_file(&self, item: &Item) -> Result<(OwnedFd, Vec<u8>)> {
        let path = self.source.path_of(&item.key)?;
        let fail = |errno| reach::failed_below("open file", &path, errno);
        let is_ours = self.source.roots.protect(path.split(|byte| *byte == b'/'));
        if !is_ours {
            return Err(fail(Errno::NOENT).detail("not protected"));
        }
        let other = || fail(Errno::NOENT).detail("no regular file any more");
        let file = match self.source.reach.open_to_read(&path, OFlags::empty()) {
            // What a socket says.
            Err(Errno::NXIO) => return Err(other()),
            opened => opened.map_err(fail)?,
        };
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(other());
        }
        Ok((file, path))
    }

    /// Looks at an item again; none where it is gone.
    fn look(&self, item: &Item) -> Result<Option<Item>> {
        let Some(parent) = item.key.parent() else { return Ok(None) };
        let path = self.source.path_of(&item.key)?;
        let fail = |errno| reach::failed_below("look at file", &path, errno);
        let Some(place) = self.source.place_of(&parent)? else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory =
            match Directory::open(&self.source.reach, self.source.path_of(&parent)?, flags) {
                Err(errno) if reach::is_gone(errno) => return Ok(None),
                opened => opened.map_err(fail)?,
            };
        let Ok(name) = CString::new(item.key.name().unwrap_or_default()) else { return Ok(None) };
        let mut inspector = Inspector::new(&self.names);
        let entry = entry_of(&self.source, &place, &directory, &name, &mut inspector)?;
        inspector.problems.iter().for_each(|problem| self.monitor.problem(problem));
        Ok(entry.map(|entry| entry.item))
    }

    /// Says whether a file has the version that was listed, by one look.
    fn is_same_file(&self, item: &Item) -> Result<Option<bool>> {
        let Some(parent) = item.key.parent() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = Directory::open(&self.source.reach, self.source.path_of(&parent)?, flags);
        let Ok(name) = CString::new(item.key.name().unwrap_or_default()) else { return Ok(None) };
        let stat = directory.and_then(|directory| directory.stat(&name));
        Ok(stat.ok().map(|stat| match item.kind {
            ItemKind::File => {
                stat.kind == FileKind::Regular && item.version == Some(stat.version())
            }
            ItemKind::Hardlink => stat.is_linked(),
            _ => false,
        }))
    }
}

#[async_trait]
impl Content for Contents {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        let subject = || item.key.display();
        let invalid = || Error::new(ErrorKind::Invalid, "open content", subject());
        let before = item.extents.get(..extent).ok_or_else(invalid)?;
        let length = item.extents.get(extent).ok_or_else(invalid)?.length_bytes;
        if range.start > range.end || range.end > length {
            return Err(invalid().detail("outside of its extent"));
        }
        let base: u64 = before.iter().map(|extent| extent.length_bytes).sum();
        let (start, end) = (base.saturating_add(range.start), base.saturating_add(range.end));
        if let Some(output) = self.outputs.get(&item.key) {
            let bounds = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let is_inside = |&(start, end): &(usize, usize)| start <= end && end <= output.len();
            let (start, end) = bounds.filter(is_inside).ok_or_else(invalid)?;
            return Ok(Box::new(OutputReader(output.slice(start..end))));
        }
        let (file, path) = self.open_file(item)?;
        if end - start > PIECE_BYTES {
            // Advice only: without it the file is read all the same.
            let _ = rustix::fs::fadvise(&file, start, None, Advice::Sequential);
        }
        Ok(Box::new(FileReader { file, path, offset: start, end }))
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        let is_commands = item.key.is_within(&super::commands::directory_key(&self.source.host)?);
        if is_commands || item.key == self.source.host {
            return Ok(Recheck::Same);
        }
        if self.is_same_file(item)? == Some(true) {
            return Ok(Recheck::Same);
        }
        Ok(match self.look(item)? {
            None => Recheck::Gone,
            Some(now) if now == *item => Recheck::Same,
            Some(now) => Recheck::Changed(Box::new(now)),
        })
    }
}

/// Reads a stretch of a file.
#[derive(Debug)]
struct FileReader {
    file: OwnedFd,
    path: Vec<u8>,
    offset: u64,
    end: u64,
}

#[async_trait]
impl ContentReader for FileReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let wanted = self.end.saturating_sub(self.offset).min(PIECE_BYTES) as usize;
        let mut piece = Vec::with_capacity(wanted);
        while piece.len() < wanted {
            let offset = self.offset + piece.len() as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut piece), offset)
            {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(reach::failed_below("read file", &self.path, errno)),
            }
        }
        // A buffer may be larger than it was asked to be.
        piece.truncate(wanted);
        self.offset += piece.len() as u64;
        Ok(Some(Bytes::from(piece)).filter(|piece| !piece.is_empty()))
    }

    /// The file that was read, looked at where it is open, costs a fraction of finding it again. One that
    /// was written or renamed has another version by that; one that was removed or replaced has lost a
    /// name.
    fn vouches_for(&self, item: &Item) -> bool {
        let is_listed = |stat: FileStat| stat.names > 0 && item.version == Some(stat.version());
        item.kind == ItemKind::File && stat_open(&self.file).is_ok_and(is_listed)
    }
}

/// Gives an output that is held.
#[derive(Debug)]
struct OutputReader(Bytes);

#[async_trait]
impl ContentReader for OutputReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = self.0.split_to(self.0.len().min(PIECE_BYTES as usize));
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}
