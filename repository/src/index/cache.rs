//! Where the plaintext of segments lies on this machine: in memory, or in files of a cache folder.
//!
//! A cache file holds nothing that the repository does not: it may be deleted at any time, and one that
//! is damaged is thrown away and fetched again. Every page has a checksum, which is compared each time
//! the page is read from the disk, so that opening a file costs its head alone. A file is written under
//! another name and renamed.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use model::{Error, ErrorKind, Result};

use super::pages::{PAGE_BYTES, Pages};
use super::segment::{SEGMENT_BYTES_MAX, Segment};
use crate::store::io_kind;
use crate::types::hex;

const MAGIC: [u8; 8] = *b"LBCACHE0";
/// Magic, length of the body, number of fences, checksum of the head.
const FIXED_BYTES: usize = 8 + 8 + 8 + 32;

/// The plaintext of one segment.
pub(crate) struct Body {
    name: String,
    place: Place,
}

enum Place {
    Memory(Bytes),
    File(Cached),
}

struct Cached {
    file: File,
    path: PathBuf,
    length: usize,
    starts_at: u64,
    checksums: Vec<u64>,
    fences: Vec<u64>,
    is_damaged: AtomicBool,
    /// Tells its pages among those of all files that are kept.
    number: usize,
    pages: Arc<Pages>,
}

impl Body {
    /// Takes over a plaintext. `name` is the object that it was sealed in.
    pub(crate) fn in_memory(name: &str, bytes: Bytes) -> Self {
        Self { name: name.to_owned(), place: Place::Memory(bytes) }
    }

    /// Returns the object that it was sealed in.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns its length in bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.place {
            Place::Memory(bytes) => bytes.len(),
            Place::File(cached) => cached.length,
        }
    }

    /// Returns how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.place {
            Place::Memory(bytes) => bytes.len(),
            Place::File(cached) => 8 * (cached.checksums.len() + cached.fences.len()),
        }
    }

    /// Returns the fences that a cache file keeps.
    pub(crate) fn fences(&self) -> Option<&[u64]> {
        match &self.place {
            Place::Memory(_) => None,
            Place::File(cached) => Some(&cached.fences),
        }
    }

    /// Says whether its file was found to be damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        match &self.place {
            Place::Memory(_) => false,
            Place::File(cached) => cached.is_damaged.load(Ordering::Relaxed),
        }
    }

    /// Returns an error that says what is wrong with the segment, and marks its file as damaged.
    pub(crate) fn corrupt(&self, what: &str) -> Error {
        if let Place::File(cached) = &self.place {
            cached.is_damaged.store(true, Ordering::Relaxed);
        }
        Error::new(ErrorKind::Corrupt, "read index segment", &self.name).detail(what.to_owned())
    }

    /// Reads a range of the plaintext.
    ///
    /// # Errors
    /// `Corrupt` where it is not what was written; those of the local disk.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Bytes> {
        let outside = || self.corrupt("it is too short");
        if range.start > range.end || range.end > self.len() {
            return Err(outside());
        }
        let cached = match &self.place {
            Place::Memory(bytes) => return Ok(bytes.slice(range)),
            Place::File(cached) => cached,
        };
        if let Some(kept) = cached.pages.get(cached.number, &range) {
            return Ok(kept);
        }
        let first_page = range.start / PAGE_BYTES;
        let start = first_page * PAGE_BYTES;
        let end = range.end.next_multiple_of(PAGE_BYTES).min(cached.length);
        let mut pages = vec![0; end - start];
        read_at(&cached.file, &mut pages, cached.starts_at + start as u64)
            .map_err(|error| self.corrupt("its cache file cannot be read").because(error))?;
        let checksums = cached.checksums.iter().skip(first_page);
        for (page, expected) in pages.chunks(PAGE_BYTES).zip(checksums) {
            if checksum(page) != *expected {
                return Err(self.corrupt("its cache file is damaged"));
            }
        }
        cached.pages.keep(cached.number, first_page, &pages);
        let pages = Bytes::from(pages);
        Ok(pages.slice(range.start - start..range.end - start))
    }
}

/// The segments of one domain of one repository in a cache folder.
#[derive(Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    pages: Arc<Pages>,
}

impl Folder {
    /// Names the folder; it is made when the first file is.
    pub(crate) fn new(cache: &Path, repository: &str, tag: &str) -> Self {
        let path = cache.join(repository).join("index").join(tag);
        Self { path, pages: Arc::new(Pages::new()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        let hash = blake3::hash(name.as_bytes());
        let (short, _) = hash.as_bytes().split_at(16);
        self.path.join(format!("{}.segment", hex(short)))
    }

    /// Opens the file of an object; none where there is none or it is not whole.
    pub(crate) fn open(&self, name: &str) -> Option<Segment> {
        let path = self.path(name);
        let cached = open_file(&path, name, &self.pages)?;
        let body = Body { name: name.to_owned(), place: Place::File(cached) };
        let opened = Segment::open(body).ok();
        if opened.is_none() {
            let _ = fs::remove_file(path);
        }
        opened
    }

    /// Writes a segment's plaintext to its file and opens that. What cannot be written stays in memory:
    /// a cache that fails costs time, not a backup.
    ///
    /// # Errors
    /// `Corrupt` where the plaintext is no segment.
    pub(crate) fn store(&self, name: &str, plaintext: &Bytes) -> Result<Segment> {
        let segment = Segment::open(Body::in_memory(name, plaintext.clone()))?;
        match self.write(name, plaintext, segment.fences()) {
            Ok(()) => Ok(self.open(name).unwrap_or(segment)),
            Err(_) => Ok(segment),
        }
    }

    fn write(&self, name: &str, plaintext: &Bytes, fences: &[u64]) -> Result<()> {
        static TEMPORARY: AtomicU64 = AtomicU64::new(0);
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let path = self.path(name);
        let temporary = path.with_extension(format!("{}-{number}.new", std::process::id()));
        let written = fs::create_dir_all(&self.path)
            .and_then(|()| File::create(&temporary))
            .and_then(|mut file| {
                file.write_all(&head(name, plaintext, fences))?;
                file.write_all(plaintext)
            })
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            let kind = io_kind(&error);
            Error::new(kind, "write index cache", path.display().to_string()).because(error)
        })
    }

    /// Removes the files of objects that are no longer listed.
    pub(crate) fn keep_only<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let kept: std::collections::HashSet<_> = names.map(|name| self.path(name)).collect();
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let is_segment = path.extension().is_some_and(|extension| extension == "segment");
            if is_segment && !kept.contains(&path) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Throws a damaged file away.
pub(crate) fn discard(body: &Body) {
    if let Place::File(cached) = &body.place {
        let _ = fs::remove_file(&cached.path);
    }
}

fn head(name: &str, plaintext: &[u8], fences: &[u64]) -> Vec<u8> {
    let mut tables = Vec::with_capacity(8 * (plaintext.len() / PAGE_BYTES + 1 + fences.len()));
    for page in plaintext.chunks(PAGE_BYTES) {
        tables.extend_from_slice(&checksum(page).to_le_bytes());
    }
    for fence in fences {
        tables.extend_from_slice(&fence.to_le_bytes());
    }
    let lengths = [(plaintext.len() as u64).to_le_bytes(), (fences.len() as u64).to_le_bytes()];
    let sum = head_checksum(name, lengths.as_flattened(), &tables);
    [&MAGIC[..], lengths.as_flattened(), &sum, &tables].concat()
}

fn head_checksum(name: &str, lengths: &[u8], tables: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
    *hasher.update(lengths).update(tables).finalize().as_bytes()
}

fn open_file(path: &Path, name: &str, pages: &Arc<Pages>) -> Option<Cached> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut file = File::open(path).ok()?;
    let mut fixed = [0; FIXED_BYTES];
    file.read_exact(&mut fixed).ok()?;
    let (magic, rest) = fixed.split_first_chunk::<8>()?;
    let (lengths, expected) = rest.split_first_chunk::<16>()?;
    let [length, fences] = lengths.as_chunks::<8>().0 else { return None };
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let fences = usize::try_from(u64::from_le_bytes(*fences)).ok()?;
    if *magic != MAGIC || length > SEGMENT_BYTES_MAX || fences > SEGMENT_BYTES_MAX {
        return None;
    }
    let page_count = length.div_ceil(PAGE_BYTES);
    let starts_at = FIXED_BYTES + 8 * (page_count + fences);
    if file.metadata().ok()?.len() != (starts_at + length) as u64 {
        return None;
    }
    let mut tables = vec![0; 8 * (page_count + fences)];
    file.read_exact(&mut tables).ok()?;
    if head_checksum(name, lengths, &tables) != *expected {
        return None;
    }
    let numbers = tables.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut checksums: Vec<u64> = numbers.collect();
    let fences = checksums.split_off(page_count);
    Some(Cached {
        file,
        path: path.to_owned(),
        length,
        starts_at: starts_at as u64,
        checksums,
        fences,
        is_damaged: AtomicBool::new(false),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        pages: Arc::clone(pages),
    })
}

fn checksum(page: &[u8]) -> u64 {
    blake3::hash(page).as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[count..];
        offset += count as u64;
    }
    Ok(())
}
