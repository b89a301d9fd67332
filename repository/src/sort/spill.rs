//! The file that runs are spilled to: nameless, private, sealed.
//!
//! It is made of blocks of one length, each sealed with AES-256-GCM under a random key that is kept in
//! memory only. Block `n` stands at `n × (block length + 16)` and has the number `n` as its nonce; every
//! number is written once, so no nonce comes twice under the key, and a block that is moved or was left
//! over from before does not open. The last block of a run is shorter. A run is a sequence of entries,
//! each behind its length (`u32`), which may reach over the borders of blocks.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use model::{Entropy, Error, ErrorKind, Result};

use crate::crypto::{Secret, TAG_BYTES};

/// Sealed blocks on the local disk.
pub(super) struct SpillFile {
    file: File,
    folder: String,
    key: LessSafeKey,
    block_bytes: usize,
    /// How many blocks were begun.
    blocks: u64,
    /// What is sealed or opened next.
    buffer: Vec<u8>,
}

/// A sorted sequence of entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    first_block: u64,
    length_bytes: u64,
}

impl SpillFile {
    /// Creates the file in a folder.
    pub(super) fn create(folder: &Path, block_bytes: usize, entropy: &dyn Entropy) -> Result<Self> {
        let shown = folder.display().to_string();
        let file = create_nameless(folder, entropy).map_err(|error| {
            Error::new(crate::store::io_kind(&error), "create file for sorting", &shown)
                .because(error)
        })?;
        let secret = Secret::generate(entropy);
        let key = UnboundKey::new(&AES_256_GCM, secret.expose())
            .map(LessSafeKey::new)
            .map_err(|_| Error::new(ErrorKind::Internal, "create file for sorting", &shown))?;
        Ok(Self { file, folder: shown, key, block_bytes, blocks: 0, buffer: Vec::new() })
    }

    /// Begins the next run. Only one is written at a time.
    pub(super) fn begin_run(&self) -> RunWriter {
        RunWriter { first_block: self.blocks, length_bytes: 0, pending: Vec::new() }
    }

    fn write_block(&mut self, plaintext: &[u8]) -> Result<()> {
        let fault = || Error::new(ErrorKind::Internal, "seal items for sorting", &self.folder);
        let number = self.blocks;
        self.blocks += 1;
        self.buffer.clear();
        self.buffer.extend_from_slice(plaintext);
        self.key
            .seal_in_place_append_tag(nonce(number), Aad::empty(), &mut self.buffer)
            .map_err(|_| fault())?;
        let offset = self.offset(number).ok_or_else(fault)?;
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.write_all(&self.buffer))
            .map_err(|error| self.failed("write items for sorting", error))
    }

    fn read_block(&mut self, number: u64, length: usize, plaintext: &mut Vec<u8>) -> Result<()> {
        let corrupt = |folder: &str| {
            Error::new(ErrorKind::Corrupt, "read items for sorting", folder)
                .detail("the file does not hold what was written to it")
        };
        let offset = self.offset(number).ok_or_else(|| corrupt(&self.folder))?;
        self.buffer.clear();
        self.buffer.resize(length + TAG_BYTES, 0);
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(&mut self.buffer))
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => corrupt(&self.folder),
                _ => self.failed("read items for sorting", error),
            })?;
        let opened = self
            .key
            .open_in_place(nonce(number), Aad::empty(), &mut self.buffer)
            .map_err(|_| corrupt(&self.folder))?;
        plaintext.clear();
        plaintext.extend_from_slice(opened);
        Ok(())
    }

    fn offset(&self, number: u64) -> Option<u64> {
        number.checked_mul((self.block_bytes + TAG_BYTES) as u64)
    }

    fn failed(&self, action: &'static str, error: io::Error) -> Error {
        let kind = crate::store::io_kind(&error);
        let failed = Error::new(kind, action, &self.folder).because(error);
        if kind != ErrorKind::Exhausted {
            return failed;
        }
        failed.detail("a listing that is larger than the memory setting is sorted in this folder")
    }
}

impl fmt::Debug for SpillFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillFile").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    for (byte, digit) in bytes.iter_mut().zip(number.to_le_bytes()) {
        *byte = digit;
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Writes one run.
#[derive(Debug)]
pub(super) struct RunWriter {
    first_block: u64,
    length_bytes: u64,
    pending: Vec<u8>,
}

impl RunWriter {
    /// Appends an entry.
    pub(super) fn push(&mut self, file: &mut SpillFile, entry: &[u8]) -> Result<()> {
        let fault = || Error::new(ErrorKind::Internal, "write items for sorting", &file.folder);
        let length = u32::try_from(entry.len()).map_err(|_| fault())?;
        for mut rest in [&length.to_le_bytes()[..], entry] {
            while !rest.is_empty() {
                let room = file.block_bytes.saturating_sub(self.pending.len());
                let (head, tail) = rest.split_at(room.min(rest.len()));
                self.pending.extend_from_slice(head);
                self.length_bytes += head.len() as u64;
                rest = tail;
                if self.pending.len() >= file.block_bytes {
                    file.write_block(&self.pending)?;
                    self.pending.clear();
                }
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(self, file: &mut SpillFile) -> Result<Run> {
        if !self.pending.is_empty() {
            file.write_block(&self.pending)?;
        }
        Ok(Run { first_block: self.first_block, length_bytes: self.length_bytes })
    }
}

/// Reads one run from its start.
#[derive(Debug)]
pub(super) struct RunReader {
    next_block: u64,
    rest_bytes: u64,
    block: Vec<u8>,
    at: usize,
}

impl RunReader {
    pub(super) fn new(run: Run) -> Self {
        Self { next_block: run.first_block, rest_bytes: run.length_bytes, block: Vec::new(), at: 0 }
    }

    /// Returns the next entry.
    pub(super) fn next(&mut self, file: &mut SpillFile) -> Result<Option<Bytes>> {
        if self.rest_bytes == 0 && self.at >= self.block.len() {
            return Ok(None);
        }
        let mut length = [0; size_of::<u32>()];
        self.fill(file, &mut length)?;
        // What opened is what was written: the length is true.
        let mut entry = vec![0; u32::from_le_bytes(length) as usize];
        self.fill(file, &mut entry)?;
        Ok(Some(entry.into()))
    }

    fn fill(&mut self, file: &mut SpillFile, mut output: &mut [u8]) -> Result<()> {
        while !output.is_empty() {
            if self.at >= self.block.len() {
                self.read_block(file)?;
            }
            let rest = self.block.get(self.at..).unwrap_or_default();
            let count = rest.len().min(output.len());
            let (head, tail) = output.split_at_mut(count);
            head.copy_from_slice(rest.get(..count).unwrap_or_default());
            self.at += count;
            output = tail;
        }
        Ok(())
    }

    fn read_block(&mut self, file: &mut SpillFile) -> Result<()> {
        let length = self.rest_bytes.min(file.block_bytes as u64);
        if length == 0 {
            return Err(Error::new(ErrorKind::Internal, "read items for sorting", &file.folder));
        }
        let bytes = usize::try_from(length).unwrap_or(file.block_bytes);
        file.read_block(self.next_block, bytes, &mut self.block)?;
        (self.next_block, self.rest_bytes, self.at) =
            (self.next_block + 1, self.rest_bytes - length, 0);
        Ok(())
    }
}

/// Creates a file that has no name, or loses it before anything is written.
#[cfg(target_os = "linux")]
fn create_nameless(folder: &Path, entropy: &dyn Entropy) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    // With EXCL nobody can give it a name later.
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // File systems without nameless files, and kernels that take the flag for a directory's.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => create_unlinked(folder, entropy),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn create_nameless(folder: &Path, entropy: &dyn Entropy) -> io::Result<File> {
    create_unlinked(folder, entropy)
}

#[cfg(unix)]
fn create_unlinked(folder: &Path, entropy: &dyn Entropy) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join(random_name(entropy));
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Here a file that is open cannot lose its name: it is removed when it is closed, and not shared.
#[cfg(windows)]
fn create_unlinked(folder: &Path, entropy: &dyn Entropy) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt as _;
    const DELETE_ON_CLOSE: u32 = 0x0400_0000;
    const TEMPORARY: u32 = 0x0000_0100;
    let path = folder.join(random_name(entropy));
    let mut options = File::options();
    options.read(true).write(true).create_new(true).share_mode(0);
    options.custom_flags(DELETE_ON_CLOSE).attributes(TEMPORARY).open(&path)
}

#[cfg(any(unix, windows))]
fn random_name(entropy: &dyn Entropy) -> String {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    format!(".lifeboat-sort-{}", crate::types::hex(&random))
}

#[cfg(test)]
impl SpillFile {
    /// Lends the file itself, to look at it and to damage it.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Creates a file as on systems without nameless ones.
    #[cfg(unix)]
    pub(super) fn unlinked(folder: &Path, entropy: &dyn Entropy) -> io::Result<File> {
        create_unlinked(folder, entropy)
    }
}
