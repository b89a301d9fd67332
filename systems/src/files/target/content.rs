//! Bytes of files: writing what is restored, reading back what is there, comparing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    ContentCheck, ContentReader, Context, ErrorKind, Extent, ExtentBody, Item, ItemKey, Result,
};
use rustix::buffer::spare_capacity;
use rustix::fs;
use rustix::io::{self, Errno, retry_on_intr};

use super::errors::{failed, refused};

/// How much is read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Where the bytes of data extents go, which come one after another.
#[derive(Debug)]
struct Layout<'a> {
    extents: std::slice::Iter<'a, Extent>,
    /// Where the next byte goes.
    offset: u64,
    /// How many bytes of the extent at hand are still to come.
    left: u64,
}

impl<'a> Layout<'a> {
    fn new(extents: &'a [Extent]) -> Self {
        Self { extents: extents.iter(), offset: 0, left: 0 }
    }

    /// Returns where the next bytes go, and at most how many; none after the last extent.
    fn next(&mut self) -> Option<(u64, u64)> {
        while self.left == 0 {
            let extent = self.extents.next()?;
            match extent.body {
                ExtentBody::Hole => self.offset = self.offset.saturating_add(extent.length_bytes),
                ExtentBody::Data { .. } => self.left = extent.length_bytes,
            }
        }
        Some((self.offset, self.left))
    }

    fn advance(&mut self, by: u64) {
        self.offset = self.offset.saturating_add(by);
        self.left = self.left.saturating_sub(by);
    }
}

/// Returns how long a file will be.
///
/// # Errors
/// `Unsupported` where no file can be so long.
pub(super) fn file_length(item: &Item) -> Result<u64> {
    let mut lengths = item.extents.iter().map(|extent| extent.length_bytes);
    let length = lengths.try_fold(0_u64, |sum, length| sum.checked_add(length));
    length.filter(|length| i64::try_from(*length).is_ok()).ok_or_else(|| {
        refused(ErrorKind::Unsupported, "write", &item.key, "longer than a file can be")
    })
}

/// Reads back what was written a moment ago: it is still near.
struct ReadBack<'c> {
    check: &'c mut dyn ContentCheck,
    /// Everything before this was given to the check.
    offset: u64,
    buffer: Vec<u8>,
}

impl ReadBack<'_> {
    /// Reads what was written, up to an offset. What was not written before it is a hole.
    fn read(
        &mut self,
        file: BorrowedFd<'_>,
        written: std::ops::Range<u64>,
    ) -> std::result::Result<bool, Errno> {
        let mut is_right = self.skip(written.start);
        while is_right && self.offset < written.end {
            self.buffer.clear();
            let left = usize::try_from(written.end - self.offset).unwrap_or(PIECE_BYTES);
            let count = left.min(PIECE_BYTES);
            self.buffer.reserve_exact(count);
            let read =
                retry_on_intr(|| io::pread(file, spare_capacity(&mut self.buffer), self.offset))?;
            let piece = self.buffer.get(..read.min(count)).unwrap_or_default();
            if piece.is_empty() {
                return Ok(false);
            }
            is_right = self.check.take(piece);
            self.offset = self.offset.saturating_add(piece.len() as u64);
        }
        Ok(is_right)
    }

    /// Nothing was written up to an offset.
    fn skip(&mut self, to: u64) -> bool {
        let hole = to.saturating_sub(self.offset);
        self.offset = self.offset.max(to);
        hole == 0 || self.check.take_zeros(hole)
    }
}

/// Writes an item's content into a new file. Holes stay holes. Where there is a check, what was written is
/// read back and given to it.
///
/// # Errors
/// `Corrupt` where there is more or less content than the item's extents say, or it does not pass the
/// check; `Exhausted`.
pub(super) async fn write(
    file: BorrowedFd<'_>,
    item: &Item,
    content: Option<&mut dyn ContentReader>,
    check: Option<&mut dyn ContentCheck>,
    context: &Context,
) -> Result<()> {
    let length = file_length(item)?;
    let wrong = |why| refused(ErrorKind::Corrupt, "write", &item.key, why);
    let differs = || wrong("what was read back is not what was captured");
    let mut read_back = check.map(|check| ReadBack { check, offset: 0, buffer: Vec::new() });
    let mut layout = Layout::new(&item.extents);
    if let Some(reader) = content {
        while let Some(piece) = reader.next().await? {
            context.check("write file")?;
            let mut rest: &[u8] = &piece;
            while !rest.is_empty() {
                let (offset, room) =
                    layout.next().ok_or_else(|| wrong("there is more content than it has"))?;
                let count = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
                let (now, later) = rest.split_at(count);
                write_all(file, now, offset).map_err(|errno| failed("write", &item.key, errno))?;
                layout.advance(count as u64);
                if let Some(read_back) = &mut read_back {
                    let read = read_back.read(file, offset..offset.saturating_add(count as u64));
                    if !read.map_err(|errno| failed("read back", &item.key, errno))? {
                        return Err(differs());
                    }
                }
                rest = later;
            }
        }
    }
    if layout.next().is_some() {
        return Err(wrong("there is less content than it has"));
    }
    if item.extents.last().is_some_and(|extent| extent.body == ExtentBody::Hole) {
        fs::ftruncate(file, length).map_err(|errno| failed("write", &item.key, errno))?;
    }
    let is_right =
        read_back.is_none_or(|mut read_back| read_back.skip(length) && read_back.check.passes());
    if is_right { Ok(()) } else { Err(differs()) }
}

fn write_all(
    file: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut offset: u64,
) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        let count = retry_on_intr(|| io::pwrite(file, bytes, offset))?;
        if count == 0 {
            return Err(Errno::IO);
        }
        bytes = bytes.get(count..).unwrap_or_default();
        offset = offset.saturating_add(count as u64);
    }
    Ok(())
}

/// Says whether two files have the same bytes from first to last.
pub(super) fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>, key: &ItemKey) -> Result<bool> {
    let (mut offset, mut ours, mut theirs) = (0, Vec::new(), Vec::new());
    loop {
        read_full(one, &mut ours, offset).map_err(|errno| failed("compare", key, errno))?;
        read_full(other, &mut theirs, offset).map_err(|errno| failed("compare", key, errno))?;
        if ours != theirs {
            return Ok(false);
        }
        if ours.is_empty() {
            return Ok(true);
        }
        offset += ours.len() as u64;
    }
}

/// Fills a buffer with a piece; it is shorter only at the end of the file.
fn read_full(
    file: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    offset: u64,
) -> std::result::Result<(), Errno> {
    buffer.clear();
    buffer.reserve_exact(PIECE_BYTES);
    while buffer.len() < PIECE_BYTES {
        let at = offset + buffer.len() as u64;
        if retry_on_intr(|| io::pread(file, spare_capacity(buffer), at))? == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads a range of a file.
#[derive(Debug)]
pub(super) struct FileReader {
    pub(super) file: OwnedFd,
    pub(super) key: ItemKey,
    pub(super) offset: u64,
    pub(super) end: u64,
}

#[async_trait]
impl ContentReader for FileReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let left = self.end.saturating_sub(self.offset);
        let count = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        if count == 0 {
            return Ok(None);
        }
        let mut piece = Vec::with_capacity(count);
        let read =
            retry_on_intr(|| io::pread(self.file.as_fd(), spare_capacity(&mut piece), self.offset))
                .map_err(|errno| failed("read", &self.key, errno))?
                .min(count);
        piece.truncate(read);
        self.offset = self.offset.saturating_add(read as u64);
        Ok((read > 0).then(|| piece.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notation: lengths, `-` before that of a hole.
    fn extents(text: &str) -> Vec<Extent> {
        let extent = |word: &str| match word.strip_prefix('-') {
            Some(hole) => Extent::hole(hole.parse().expect("length")),
            None => Extent::data(word.parse().expect("length")),
        };
        text.split_whitespace().map(extent).collect()
    }

    #[test]
    fn bytes_go_around_holes() {
        for (text, piece, expected) in [
            ("", 5, ""),
            ("-9", 5, ""),
            ("3", 5, "0+3"),
            ("7", 5, "0+5 5+2"),
            ("-4 3 -0 -2 0 2", 5, "4+3 9+2"),
            ("2 2 -1", 3, "0+2 2+2"),
        ] {
            let extents = extents(text);
            let mut layout = Layout::new(&extents);
            let mut found = Vec::new();
            while let Some((offset, room)) = layout.next() {
                let count = room.min(piece);
                found.push(format!("{offset}+{count}"));
                layout.advance(count);
            }
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }
}
