//! Opening what lies below the root of the file system without following a link anywhere.
//!
//! `openat2` with `RESOLVE_NO_SYMLINKS` does it in one call. Where the kernel has no such call, or a
//! path is longer than a call takes, directories are opened one by one, each without following.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use model::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Linux takes paths of less than 4,096 bytes.
const PATH_BYTES_MAX: usize = 4_000;

/// The root of the file system, held open.
#[derive(Debug)]
pub(super) struct Reach {
    root: OwnedFd,
    has_openat2: bool,
    has_proc: bool,
}

impl Reach {
    /// Opens the root and learns what the kernel can do.
    pub(super) fn new() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty())
            .map_err(|errno| failed("open directory", b"/", errno))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let has_openat2 = rustix::fs::openat2(&root, ".", flags, Mode::empty(), resolve).is_ok();
        let has_proc = rustix::fs::stat(format!("/proc/self/fd/{}", root.as_raw_fd())).is_ok();
        Ok(Self { root, has_openat2, has_proc })
    }

    #[cfg(test)]
    pub(super) fn without_openat2() -> Self {
        Self { has_openat2: false, ..Self::new().expect("root") }
    }

    /// Opens a path relative to the root. `LOOP` or `NOTDIR` where a link is in it.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_empty() {
            return rustix::fs::openat(&self.root, ".", flags, Mode::empty());
        }
        if self.has_openat2 && path.len() <= PATH_BYTES_MAX {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile; the slow way cannot be disturbed by that.
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        let mut directory: Option<OwnedFd> = None;
        let mut names = path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let is_last = names.peek().is_none();
            let flags = if is_last {
                flags
            } else {
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
            };
            let at = directory.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            directory = Some(rustix::fs::openat(at, name, flags, Mode::empty())?);
        }
        directory.ok_or(Errno::NOENT)
    }

    /// Opens to read, without leaving a trace in the access time where that is allowed.
    pub(super) fn open_to_read(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK;
        without_trace(flags, |flags| self.open(path, flags))
    }

    /// Returns a path of a name in an open directory for calls that take no directory. `directory_path`
    /// is where the directory is, relative to the root, for systems without `/proc`.
    pub(super) fn path_in(&self, directory: BorrowedFd<'_>, directory_path: &[u8]) -> Vec<u8> {
        if self.has_proc {
            format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes()
        } else if directory_path.is_empty() {
            b"/".to_vec()
        } else {
            [b"/", directory_path, b"/"].concat()
        }
    }
}

/// Opens a file in an open directory to read.
pub(super) fn open_file_in(
    directory: BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    without_trace(flags, |flags| rustix::fs::openat(directory, name, flags, Mode::empty()))
}

/// Only an owner may read without a trace; others leave one.
fn without_trace<T>(flags: OFlags, open: impl Fn(OFlags) -> Result<T, Errno>) -> Result<T, Errno> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

/// Says that something is gone, or is a link by now: normal for a tree that changes.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Returns the error of a failed call on a path.
pub(super) fn failed(action: &'static str, path: &[u8], errno: Errno) -> Error {
    let kind = match errno {
        errno if is_gone(errno) => ErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC => ErrorKind::Exhausted,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, action, String::from_utf8_lossy(path)).because(std::io::Error::from(errno))
}

/// The same for a path relative to the root.
pub(super) fn failed_below(action: &'static str, path: &[u8], errno: Errno) -> Error {
    failed(action, &[b"/", path].concat(), errno)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    /// The path of a scratch folder relative to the root, and what lies in it: a file, a directory
    /// with a file, and links to both.
    fn scratch() -> (tempfile::TempDir, Vec<u8>) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().canonicalize().expect("path");
        std::fs::create_dir(path.join("d")).expect("directory");
        std::fs::write(path.join("d/f"), b"x").expect("file");
        std::os::unix::fs::symlink("d", path.join("link")).expect("link");
        std::os::unix::fs::symlink("d/f", path.join("file-link")).expect("link");
        let relative = path.strip_prefix("/").expect("absolute").as_os_str().as_bytes().to_vec();
        (folder, relative)
    }

    #[test]
    fn no_link_is_followed_anywhere_by_either_way() {
        let (_folder, path) = scratch();
        for reach in [Reach::new().expect("root"), Reach::without_openat2()] {
            let open = |rest: &str| {
                reach.open_to_read(&[&path, rest.as_bytes()].concat(), OFlags::empty())
            };
            assert!(open("/d/f").is_ok());
            for link in ["/link/f", "/file-link", "/link", "/nothing", "/d/f/x"] {
                assert!(open(link).is_err_and(is_gone), "{link}");
            }
            assert!(reach.open(b"", OFlags::PATH).is_ok());
        }
    }

    #[test]
    fn a_path_longer_than_a_call_takes_is_reached() {
        let (folder, path) = scratch();
        let name = "n".repeat(200);
        let mut at = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).expect("folder");
        let mut long = path;
        for _ in 0..25 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("directory");
            at = rustix::fs::openat(&at, &name, OFlags::PATH, Mode::empty()).expect("directory");
            long = [&long, &b"/"[..], name.as_bytes()].concat();
        }
        assert!(long.len() > 4_096);
        let reach = Reach::new().expect("root");
        assert!(reach.open_to_read(&long, OFlags::DIRECTORY).is_ok());
    }
}
