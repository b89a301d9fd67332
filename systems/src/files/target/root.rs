//! The one handle through which everything is reached, and the directories opened beneath it.
//!
//! A path is only ever resolved by `openat2` relative to the root, beneath it and through no link;
//! everything else is a call on the result, or on one plain name in it. Whoever swaps directories
//! for links meanwhile makes calls fail, and leads none outside.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Error, ErrorKind, ItemKey, Result};
use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use super::errors::{failed, kind_of, os_error, refused};

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// How a directory is opened to work in it.
const TO_WORK_IN: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The kernel resolves paths up to 4,096 bytes; longer ones are resolved piece by piece.
const PIECE_BYTES_MAX: usize = 4_000;

/// The attribute that hands a directory's access list down to what is made in it.
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// A directory opened beneath the root.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// What is made in it gets attributes that nobody asked for.
    pub(super) hands_down: bool,
    /// When it was last changed, as it was opened: nanoseconds since 1970.
    pub(super) modified_ns: i64,
    /// Its permissions as it was opened.
    pub(super) mode: u32,
    /// Somebody has noted these down.
    pub(super) is_noted: AtomicBool,
    /// This restore made it: what is in it is known to be its own.
    pub(super) is_new: AtomicBool,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory to work in, and the name of one thing in it.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub(super) parent: Arc<Directory>,
    pub(super) name: &'a [u8],
}

/// The root of a target.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    device: u64,
    recent: Mutex<Recent>,
    /// Other file systems mounted beneath, one directory of each.
    others: Mutex<BTreeMap<u64, Arc<OwnedFd>>>,
}

/// Directories used last, the latest at the end.
#[derive(Debug, Default)]
struct Recent(Vec<(Box<[u8]>, Arc<Directory>)>);

impl Recent {
    /// Items come in key order, by a few workers: those of a few hundred items are in use at a time.
    const DIRECTORIES_MAX: usize = 256;

    fn get(&mut self, key: &[u8]) -> Option<Arc<Directory>> {
        let index = self.0.iter().rposition(|(held, _)| held.as_ref() == key)?;
        let entry = self.0.remove(index);
        let directory = entry.1.clone();
        self.0.push(entry);
        Some(directory)
    }

    fn put(&mut self, key: &[u8], directory: Arc<Directory>) {
        if self.0.len() >= Self::DIRECTORIES_MAX {
            self.0.remove(0);
        }
        self.0.push((key.into(), directory));
    }
}

impl Root {
    /// Opens the root, and makes it with `mode` where it is missing.
    ///
    /// # Errors
    /// `NotFound` where its parent is missing, `Conflict` where it is no directory, `Unsupported`
    /// where the kernel cannot resolve paths beneath a root (before Linux 5.6).
    pub(super) fn open(path: &Path, mode: u32) -> Result<Self> {
        let refuse = |errno: Errno| {
            Error::new(kind_of(errno), "open target directory", path.display().to_string())
                .because(os_error(errno))
        };
        match fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
            Err(errno) => return Err(refuse(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(CWD, path, flags, Mode::empty()).map_err(refuse)?;
        // Sandboxes that do not know the call refuse it.
        match fs::openat2(&fd, ".", TO_WORK_IN, Mode::empty(), BENEATH) {
            Err(errno @ (Errno::NOSYS | Errno::PERM)) => {
                return Err(refuse(Errno::NOSYS)
                    .detail(format!("a safe restore needs openat2 (Linux 5.6): {errno}")));
            }
            probed => probed.map_err(refuse)?,
        };
        let device = fs::fstat(&fd).map_err(refuse)?.st_dev;
        Ok(Self { fd, device, recent: Mutex::default(), others: Mutex::default() })
    }

    /// Opens what stands under a key, following no link on the way nor at its end.
    pub(super) fn open_beneath(&self, key: &ItemKey, flags: OFlags) -> Result<OwnedFd> {
        self.resolve(key, flags)?.map_err(|errno| failed("open", key, errno))
    }

    /// As [`Root::open_beneath`], with the kernel's own answer. The outer error is about the key.
    pub(super) fn resolve(
        &self,
        key: &ItemKey,
        flags: OFlags,
    ) -> Result<std::result::Result<OwnedFd, Errno>> {
        let mut piece = Vec::with_capacity(key.as_bytes().len());
        let mut reached: Option<OwnedFd> = None;
        for component in key.components() {
            check_name(key, component)?;
            if piece.len() + component.len() >= PIECE_BYTES_MAX {
                match self.step(reached.as_ref(), &piece, OFlags::PATH | TO_WORK_IN) {
                    Ok(fd) => reached = Some(fd),
                    Err(errno) => return Ok(Err(errno)),
                }
                piece.clear();
            }
            if !piece.is_empty() {
                piece.push(b'/');
            }
            piece.extend_from_slice(component);
        }
        if piece.is_empty() {
            piece.push(b'.');
        }
        Ok(self.step(reached.as_ref(), &piece, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC))
    }

    fn step(
        &self,
        from: Option<&OwnedFd>,
        path: &[u8],
        flags: OFlags,
    ) -> std::result::Result<OwnedFd, Errno> {
        let from = from.unwrap_or(&self.fd);
        retry_on_intr(|| fs::openat2(from, path, flags, Mode::empty(), BENEATH))
    }

    /// Opens a directory to list it.
    pub(super) fn open_directory(&self, key: &ItemKey) -> Result<OwnedFd> {
        self.open_beneath(key, TO_WORK_IN)
    }

    /// Returns the open parent of a key, and the key's last name.
    ///
    /// # Errors
    /// `NotFound` where the parent is missing, `Conflict` where a link stands on the way to it,
    /// `Invalid` for the root itself and for names that mean something to a file system.
    pub(super) fn place<'a>(&self, key: &'a ItemKey) -> Result<Place<'a>> {
        let (parent_key, name) = match (key.parent(), key.name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => return Err(refused(ErrorKind::Invalid, "find", key, "it is the root itself")),
        };
        check_name(key, name)?;
        if let Some(parent) = lock(&self.recent).get(parent_key.as_bytes()) {
            return Ok(Place { parent, name });
        }
        let parent = Arc::new(self.open_to_work_in(&parent_key)?);
        lock(&self.recent).put(parent_key.as_bytes(), parent.clone());
        Ok(Place { parent, name })
    }

    fn open_to_work_in(&self, key: &ItemKey) -> Result<Directory> {
        let fd = self.open_directory(key)?;
        let stat = fs::fstat(&fd).map_err(|errno| failed("look at", key, errno))?;
        let hands_down = fs::fgetxattr_query(&fd, DEFAULT_ACL).is_ok_and(|bytes| bytes > 0);
        let modified_ns = super::observe::modified_ns(&stat);
        let mode = stat.st_mode & 0o7777;
        let (is_noted, is_new) = (AtomicBool::new(false), AtomicBool::new(false));
        let directory = Directory { fd, hands_down, modified_ns, mode, is_noted, is_new };
        if stat.st_dev != self.device {
            self.remember_device(stat.st_dev, key)?;
        }
        Ok(directory)
    }

    fn remember_device(&self, device: u64, key: &ItemKey) -> Result<()> {
        if lock(&self.others).contains_key(&device) {
            return Ok(());
        }
        let fd = self.open_directory(key)?;
        lock(&self.others).insert(device, Arc::new(fd));
        Ok(())
    }

    /// Closes directories kept open at this key and below.
    pub(super) fn forget(&self, key: &ItemKey) {
        let is_within = |held: &[u8]| {
            held.strip_prefix(key.as_bytes())
                .is_some_and(|rest| key.is_root() || rest.is_empty() || rest.starts_with(b"\0"))
        };
        lock(&self.recent).0.retain(|(held, _)| !is_within(held));
    }

    /// Makes everything beneath durable.
    pub(super) fn sync(&self) -> Result<()> {
        let failed = |errno| failed("make durable", &ItemKey::root(), errno);
        fs::syncfs(&self.fd).map_err(failed)?;
        let others: Vec<_> = lock(&self.others).values().cloned().collect();
        others.iter().try_for_each(|directory| fs::syncfs(directory).map_err(failed))
    }

    /// Returns the handle of the root.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A mutex of this module guards values that are sound between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_name(key: &ItemKey, name: &[u8]) -> Result<()> {
    let why = match name {
        b"." | b".." => "a name that means another directory",
        _ if name.contains(&b'/') => "a name with a slash in it",
        _ => return Ok(()),
    };
    Err(refused(ErrorKind::Invalid, "find", key, why))
}
