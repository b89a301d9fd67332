//! Looking at one name of an open directory and making an item of it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use model::{Error, ErrorKind, Item, ItemKey, ItemKind};
use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

use super::attributes::{Description, FileKind, FileStat};
use super::extents;
use super::names::Names;
use super::reach::{self, Reach};

/// Linux: the most that the names, or one value, of extended attributes may have.
const EXTENDED_BYTES_MAX: usize = 64 << 10;

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// Relative to the root of the file system.
    path: Vec<u8>,
    /// What comes before a name for calls that take no directory.
    prefix: Vec<u8>,
}

impl Directory {
    /// Opens the directory at a path relative to the root, without following a link.
    pub(super) fn open(reach: &Reach, path: Vec<u8>, flags: OFlags) -> Result<Self, Errno> {
        let fd = reach.open(&path, flags)?;
        let prefix = reach.path_in(fd.as_fd(), &path);
        Ok(Self { fd, path, prefix })
    }

    /// Opens a directory to list it.
    pub(super) fn open_to_list(reach: &Reach, path: Vec<u8>) -> Result<Self, Errno> {
        let fd = reach.open_to_read(&path, OFlags::DIRECTORY)?;
        let prefix = reach.path_in(fd.as_fd(), &path);
        Ok(Self { fd, path, prefix })
    }

    pub(super) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns the absolute path of a name.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + name.len() + 2);
        path.push(b'/');
        if !self.path.is_empty() {
            path.extend_from_slice(&self.path);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Looks at a name without following it.
    pub(super) fn stat(&self, name: &CStr) -> Result<FileStat, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(&self.fd, name, flags, StatxFlags::BASIC_STATS)?;
        Ok(FileStat::new(&stat))
    }

    /// Lists the names but `.` and `..`, sorted.
    pub(super) fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut names = Vec::new();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 32 << 10];
        let mut entries = rustix::fs::RawDir::new(&self.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Looks at a file that is open.
pub(super) fn stat_open(file: &OwnedFd) -> Result<FileStat, Errno> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(FileStat::new(&stat))
}

/// Makes items, and notes what could not be captured.
#[derive(Debug)]
pub(super) struct Inspector<'a> {
    names: &'a Names,
    pub(super) problems: Vec<Error>,
    buffer: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Inspector<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        let (buffer, value) = (vec![0; EXTENDED_BYTES_MAX], vec![0; EXTENDED_BYTES_MAX]);
        Self { names, problems: Vec::new(), buffer, value }
    }

    /// Makes an item of a name that was looked at; none for what is not captured.
    ///
    /// # Errors
    /// Those of reading a link that is gone or is none by now.
    pub(super) fn describe(
        &mut self,
        directory: &Directory,
        name: &CStr,
        stat: &FileStat,
        key: ItemKey,
        has_time: bool,
    ) -> Result<Option<Item>, Errno> {
        let kind = match stat.kind {
            FileKind::Regular => ItemKind::File,
            FileKind::Directory => ItemKind::Directory,
            FileKind::Symlink => ItemKind::Symlink,
            FileKind::Fifo => ItemKind::Fifo,
            FileKind::Socket => return Ok(None),
            FileKind::Device => {
                let path = directory.path_of(name.to_bytes());
                let path = String::from_utf8_lossy(&path);
                let problem = Error::new(ErrorKind::Unsupported, "capture file", path);
                self.problems.push(problem.detail("a device node is not captured"));
                return Ok(None);
            }
        };
        let target = match kind {
            ItemKind::Symlink => Some(rustix::fs::readlinkat(directory.fd(), name, Vec::new())?),
            _ => None,
        };
        let extended = self.extended(directory, name);
        let link_target = target.as_deref().map(CStr::to_bytes);
        let (attributes, fits) =
            Description { stat, has_time, link_target, extended }.encode(self.names);
        if !fits {
            self.note(directory, name, Errno::TOOBIG);
        }
        let is_file = kind == ItemKind::File;
        let version = is_file.then(|| stat.version());
        let extents = if is_file { extents_of(directory, name, stat) } else { Vec::new() };
        Ok(Some(Item { key, kind, attributes, version, extents }))
    }

    fn note(&mut self, directory: &Directory, name: &CStr, errno: Errno) {
        let path = directory.path_of(name.to_bytes());
        self.problems.push(reach::failed("read extended attributes", &path, errno));
    }

    fn extended(&mut self, directory: &Directory, name: &CStr) -> Vec<(Vec<u8>, Vec<u8>)> {
        // Nearly nothing has any, which the plain path tells at half the cost. It may lead elsewhere by
        // now, so what there is is read from the directory that is open.
        let path = directory.path_of(name.to_bytes());
        if matches!(rustix::fs::llistxattr_query(&path), Ok(0)) {
            return Vec::new();
        }
        let path = [&directory.prefix, name.to_bytes()].concat();
        let length = match rustix::fs::llistxattr(&path, &mut self.buffer[..]) {
            Ok(0) | Err(Errno::NOTSUP | Errno::NOENT | Errno::NOTDIR) => return Vec::new(),
            Ok(length) => length,
            Err(errno) => {
                self.note(directory, name, errno);
                return Vec::new();
            }
        };
        let list = self.buffer.get(..length).unwrap_or_default();
        let mut pairs = Vec::new();
        let mut failure = None;
        for attribute in list.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()) {
            match rustix::fs::lgetxattr(&path, attribute, &mut self.value[..]) {
                Ok(length) => {
                    let value = self.value.get(..length).unwrap_or_default().to_vec();
                    pairs.push((attribute.to_vec(), value));
                }
                // Gone since it was listed, with its file or alone.
                Err(Errno::NODATA | Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => failure = Some(errno),
            }
        }
        if let Some(errno) = failure {
            self.note(directory, name, errno);
        }
        pairs
    }
}

fn extents_of(directory: &Directory, name: &CStr, stat: &FileStat) -> Vec<model::Extent> {
    if stat.stored_bytes < stat.size_bytes {
        // What cannot be opened is found out when it is read.
        if let Ok(file) = reach::open_file_in(directory.fd(), name) {
            return extents::probe(file.as_fd(), stat.size_bytes);
        }
    }
    extents::whole(stat.size_bytes)
}
