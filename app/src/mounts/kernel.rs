//! The kernel's requests as calls of [`Mounted`]. Each is answered by a task of its own, so that slow
//! ones hold nobody up; what changes something never comes, as the file system is mounted read-only.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, Notifier, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyXattr, Request,
};
use model::{Error, ErrorKind, Timestamp};
use operations::mount::{Facts, Folder, Inode, Kind, Mounted, OpenFile};
use tokio::runtime::Handle;

/// How long the kernel may rely on what it was told. A state never changes.
const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The unit in which allocated space is told.
const BLOCK_BYTES: u64 = 512;
/// The most that the kernel may ask for at once.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// `lseek` looks for data, or for a hole.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// What the kernel talks to.
pub(super) struct Kernel {
    mounted: Mounted,
    runtime: Handle,
    is_for_all: bool,
    files: Arc<Opened<OpenFile>>,
    folders: Arc<Opened<Folder>>,
    notifier: Arc<OnceLock<Notifier>>,
    is_trimming: Arc<AtomicBool>,
}

impl Kernel {
    /// Begins; called on a runtime, whose tasks give the answers.
    pub(super) fn new(mounted: Mounted, is_for_all: bool) -> Self {
        Self {
            mounted,
            runtime: Handle::current(),
            is_for_all,
            files: Arc::default(),
            folders: Arc::default(),
            notifier: Arc::default(),
            is_trimming: Arc::default(),
        }
    }

    /// Returns where the way to tell the kernel something is put, once there is one.
    pub(super) fn notifier(&self) -> Arc<OnceLock<Notifier>> {
        Arc::clone(&self.notifier)
    }

    fn answer(&self, answer: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(answer);
    }

    /// Asks the kernel to forget items where it holds many. Apart from all requests: it may wait for one.
    fn trim(&self) {
        if self.is_trimming.swap(true, Ordering::AcqRel) {
            return;
        }
        let surplus = self.mounted.surplus();
        let is_trimming = Arc::clone(&self.is_trimming);
        let notifier = self.notifier.get().filter(|_| !surplus.is_empty()).cloned();
        let Some(notifier) = notifier else {
            is_trimming.store(false, Ordering::Release);
            return;
        };
        self.runtime.spawn_blocking(move || {
            for one in surplus {
                // What is in use stays; it is asked for again.
                let _ = notifier.inval_entry(number(one.parent), OsStr::from_bytes(&one.name));
            }
            is_trimming.store(false, Ordering::Release);
        });
    }
}

/// What is open, by the number that the kernel was given for it.
struct Opened<T>(Mutex<Numbered<T>>);

struct Numbered<T> {
    next: u64,
    all: HashMap<u64, Arc<T>>,
}

impl<T> Default for Opened<T> {
    fn default() -> Self {
        Self(Mutex::new(Numbered { next: 1, all: HashMap::new() }))
    }
}

impl<T> Opened<T> {
    fn numbered(&self) -> MutexGuard<'_, Numbered<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, opened: Arc<T>) -> FileHandle {
        let mut numbered = self.numbered();
        let number = numbered.next;
        numbered.next += 1;
        numbered.all.insert(number, opened);
        FileHandle(number)
    }

    fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.numbered().all.get(&handle.0).cloned()
    }

    fn close(&self, handle: FileHandle) {
        self.numbered().all.remove(&handle.0);
    }
}

impl Filesystem for Kernel {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What a kernel cannot do is done without.
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        if self.is_for_all {
            // Access lists are to bind others; who mounts holds the key and may read all there is.
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (mounted, name) = (self.mounted.clone(), name.as_bytes().to_vec());
        self.answer(async move {
            match mounted.look_up(Inode(parent.0), &name).await {
                Ok(Some(facts)) => reply.entry(&VALID_FOR, &attributes(&facts), Generation(0)),
                Ok(None) => reply.error(Errno::ENOENT),
                Err(error) => reply.error(errno(&error)),
            }
        });
        self.trim();
    }

    fn forget(&self, _: &Request, inode: INodeNo, count: u64) {
        self.mounted.forget(Inode(inode.0), count);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mounted = self.mounted.clone();
        self.answer(async move {
            match mounted.facts(Inode(inode.0)).await {
                Ok(facts) => reply.attr(&VALID_FOR, &attributes(&facts)),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        let mounted = self.mounted.clone();
        self.answer(async move {
            match mounted.link_target(Inode(inode.0)).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (mounted, files) = (self.mounted.clone(), Arc::clone(&self.files));
        self.answer(async move {
            match mounted.open_file(Inode(inode.0)).await {
                // What the kernel has read of it stays true.
                Ok(file) => reply.opened(files.put(file), FopenFlags::FOPEN_KEEP_CACHE),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.files.get(handle) else { return reply.error(Errno::EBADF) };
        self.answer(async move {
            match file.read(offset, length).await {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some(file) = self.files.get(handle) else { return reply.error(Errno::EBADF) };
        let is_hole = match whence {
            SEEK_DATA => false,
            SEEK_HOLE => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let found = u64::try_from(offset).ok().and_then(|offset| file.seek(offset, is_hole));
        match found.and_then(|found| i64::try_from(found).ok()) {
            Some(found) => reply.offset(found),
            None => reply.error(Errno::ENXIO),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(handle);
        reply.ok();
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (mounted, folders) = (self.mounted.clone(), Arc::clone(&self.folders));
        self.answer(async move {
            match mounted.open_folder(Inode(inode.0)).await {
                Ok(folder) => reply.opened(folders.put(Arc::new(folder)), FopenFlags::empty()),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(folder) = self.folders.get(handle) else { return reply.error(Errno::EBADF) };
        self.answer(async move {
            for (at, inode, name) in dots(&folder, offset) {
                if reply.add(number(inode), at, FileType::Directory, name) {
                    return reply.ok();
                }
            }
            let begin = offset.saturating_sub(DOTS);
            let page = match folder.page(begin).await {
                Ok(page) => page,
                Err(error) => return reply.error(errno(&error)),
            };
            for (at, one) in (begin + DOTS + 1..).zip(page) {
                let name = OsStr::from_bytes(&one.name);
                if reply.add(number(one.inode), at, file_type(one.kind), name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(folder) = self.folders.get(handle) else { return reply.error(Errno::EBADF) };
        let mounted = self.mounted.clone();
        self.answer(async move {
            match fill(&mounted, &folder, offset, &mut reply).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
        self.trim();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.folders.close(handle);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (mounted, name) = (self.mounted.clone(), name.as_bytes().to_vec());
        self.answer(async move {
            match mounted.extended(Inode(inode.0)).await {
                Ok(all) => match all.into_iter().find(|(known, _)| *known == name) {
                    Some((_, value)) => answer_sized(&value, size, reply),
                    None => reply.error(Errno::NO_XATTR),
                },
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let mounted = self.mounted.clone();
        self.answer(async move {
            match mounted.extended(Inode(inode.0)).await {
                Ok(all) => {
                    let names = all.iter().flat_map(|(name, _)| [&name[..], b"\0"].concat());
                    answer_sized(&names.collect::<Vec<_>>(), size, reply);
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }
}

/// How many entries stand before the items of a directory: itself and the one that it is in.
const DOTS: u64 = 2;

/// Returns those entries from an offset on, each with the offset behind it.
fn dots(folder: &Folder, offset: u64) -> impl Iterator<Item = (u64, Inode, &'static OsStr)> {
    let all = [(folder.inode(), OsStr::new(".")), (folder.parent(), OsStr::new(".."))];
    let all = (1..).zip(all).map(|(at, (inode, name))| (at, inode, name));
    all.filter(move |(at, ..)| *at > offset)
}

/// Fills a listing with attributes. Each item counts as looked up, but for the two first.
async fn fill(
    mounted: &Mounted,
    folder: &Folder,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<(), Error> {
    for (at, inode, name) in dots(folder, offset) {
        let facts = mounted.facts(inode).await?;
        let attributes = attributes(&facts);
        if reply.add(number(inode), at, name, &VALID_FOR, &attributes, Generation(0)) {
            return Ok(());
        }
    }
    let begin = offset.saturating_sub(DOTS);
    for (at, one) in (begin + DOTS + 1..).zip(folder.page(begin).await?) {
        let name = OsStr::from_bytes(&one.name);
        let (facts, valid_for) = match mounted.enter(folder, &one).await {
            Ok(Some(facts)) => (facts, VALID_FOR),
            // The name is listed; what is wrong with it is found out by who asks for more.
            Ok(None) | Err(_) => match mounted.enter_unread(folder, &one) {
                Some(facts) => (facts, Duration::ZERO),
                None => continue,
            },
        };
        let attributes = attributes(&facts);
        if reply.add(attributes.ino, at, name, &valid_for, &attributes, Generation(0)) {
            // It had no room, so the kernel does not know of it.
            mounted.forget(facts.inode, 1);
            return Ok(());
        }
    }
    Ok(())
}

fn answer_sized(value: &[u8], size: u32, reply: ReplyXattr) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(length),
        size if length > size => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

fn number(inode: Inode) -> INodeNo {
    INodeNo(inode.0)
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
    }
}

fn attributes(facts: &Facts) -> FileAttr {
    let modified = time(facts.modified);
    FileAttr {
        ino: number(facts.inode),
        size: facts.size_bytes,
        blocks: facts.stored_bytes.div_ceil(BLOCK_BYTES),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: file_type(facts.kind),
        perm: facts.mode,
        nlink: facts.names,
        uid: facts.owner.user_id,
        gid: facts.owner.group_id,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn time(at: Timestamp) -> SystemTime {
    let apart = Duration::from_nanos(at.unix_ns.unsigned_abs());
    let time =
        if at.unix_ns < 0 { UNIX_EPOCH.checked_sub(apart) } else { UNIX_EPOCH.checked_add(apart) };
    time.unwrap_or(UNIX_EPOCH)
}

/// What is not there is no error of [`Mounted`]: all that is left is that something cannot be read.
fn errno(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::Invalid => Errno::ESTALE,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operations::mount::Owner;

    #[test]
    fn times_on_both_sides_of_1970_are_told() {
        for unix_ns in [0, 1, -1, 1_795_531_530_000_000_001, -5_000_000_001, i64::MAX, i64::MIN] {
            let told = time(Timestamp { unix_ns });
            let apart = match told.duration_since(UNIX_EPOCH) {
                Ok(after) => i128::try_from(after.as_nanos()).expect("fits"),
                Err(before) => -i128::try_from(before.duration().as_nanos()).expect("fits"),
            };
            assert_eq!(apart, i128::from(unix_ns));
        }
    }

    #[test]
    fn facts_become_what_stat_shows() {
        let facts = Facts {
            inode: Inode(77),
            kind: Kind::Fifo,
            size_bytes: 1025,
            stored_bytes: 513,
            mode: 0o4751,
            owner: Owner { user_id: 1, group_id: 2 },
            modified: Timestamp::default(),
            names: 2,
        };
        let told = attributes(&facts);
        assert_eq!((told.ino, told.kind, told.perm), (INodeNo(77), FileType::NamedPipe, 0o4751));
        assert_eq!((told.size, told.blocks, told.nlink), (1025, 2, 2));
        assert_eq!((told.uid, told.gid), (1, 2));
    }

    #[test]
    fn what_is_open_has_a_number_of_its_own_until_it_is_closed() {
        let opened = Opened::default();
        let (a, b) = (opened.put(Arc::new("a")), opened.put(Arc::new("b")));
        assert_ne!(a, b);
        assert_eq!(opened.get(a).as_deref(), Some(&"a"));
        opened.close(a);
        assert_eq!((opened.get(a), opened.get(b).as_deref()), (None, Some(&"b")));
        assert_ne!(opened.put(Arc::new("c")), a, "a number is not used again");
    }

    #[test]
    fn damage_is_no_missing_name() {
        for kind in [ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::Unavailable] {
            let told: i32 = errno(&Error::new(kind, "read item", "")).into();
            assert_eq!(told, i32::from(Errno::EIO), "{kind:?}");
        }
    }
}
