//! Looking at what is there: from a directory and a name to an item.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::{
    AttributeTag, Attributes, AttributesBuilder, Error, Extent, Item, ItemKey, ItemKind, Result,
    Version,
};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::errors::failed;
use super::extended::{self, Extended, Handle};
use super::metadata::unreadable;
use super::owners::Accounts;

/// How things are opened to be looked at: a pipe does not wait for its other end, nothing becomes our
/// terminal.
pub(super) const TO_READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// How a link is marked.
pub(super) const TO_MARK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Something that is there.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) item: Item,
    /// Device and inode: what hard links of one another share.
    pub(super) identity: (u64, u64),
    /// How many names it has, here and elsewhere.
    pub(super) names: u64,
    /// A directory, as it was opened to be looked at.
    pub(super) directory: Option<OwnedFd>,
}

/// Returns a thing's identity.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Returns when the content changed last: nanoseconds since 1970, or as near as they reach.
pub(super) fn modified_ns(stat: &Stat) -> i64 {
    nanoseconds(stat.st_mtime, stat.st_mtime_nsec)
}

fn nanoseconds(seconds: i64, nanoseconds: u64) -> i64 {
    let within = i64::try_from(nanoseconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(within)
}

/// Returns what an item of this type is; none for sockets and devices, which no item stands for.
pub(super) fn kind_of(stat: &Stat) -> Option<ItemKind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Some(ItemKind::Directory),
        FileType::RegularFile => Some(ItemKind::File),
        FileType::Symlink => Some(ItemKind::Symlink),
        FileType::Fifo => Some(ItemKind::Fifo),
        _ => None,
    }
}

/// Looks at a name without following it; none where nothing is there.
pub(super) fn stat_in(
    directory: BorrowedFd<'_>,
    name: &[u8],
    key: &ItemKey,
) -> Result<Option<Stat>> {
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("look at", key, errno)),
    }
}

/// Looks at a name in a directory; none where nothing is there, or nothing that an item stands for.
/// `report` is told of attributes that cannot be read and are left out.
pub(super) fn observe(
    directory: BorrowedFd<'_>,
    name: &[u8],
    key: &ItemKey,
    accounts: &Accounts,
    report: &dyn Fn(&Error),
) -> Result<Option<Seen>> {
    observe_listed(directory, name, None, key, accounts, report)
}

/// As [`observe`], with what the directory's own list says that it is. A file or a directory is opened
/// at once; whether it is one is seen then.
pub(super) fn observe_listed(
    directory: BorrowedFd<'_>,
    name: &[u8],
    listed: Option<ItemKind>,
    key: &ItemKey,
    accounts: &Accounts,
    report: &dyn Fn(&Error),
) -> Result<Option<Seen>> {
    if let Some(kind @ (ItemKind::File | ItemKind::Directory)) = listed
        && let Ok(fd) = fs::openat(directory, name, TO_READ, Mode::empty())
        && let Some(seen) = observe_open(fd, kind, key, accounts, report)?
    {
        return Ok(Some(seen));
    }
    let Some(found) = stat_in(directory, name, key)? else { return Ok(None) };
    let Some(kind) = kind_of(&found) else { return Ok(None) };
    let flags = if kind == ItemKind::Symlink { TO_MARK } else { TO_READ };
    match fs::openat(directory, name, flags, Mode::empty()) {
        Ok(fd) => observe_open(fd, kind, key, accounts, report),
        // It went, or became something else, between the two calls.
        Err(Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
            report(&unreadable(key, errno));
            Ok(Some(seen(key, kind, &found, Extended::new(), None, None, accounts)))
        }
        Err(errno) => Err(failed("open", key, errno)),
    }
}

fn observe_open(
    fd: OwnedFd,
    expected: ItemKind,
    key: &ItemKey,
    accounts: &Accounts,
    report: &dyn Fn(&Error),
) -> Result<Option<Seen>> {
    let stat = fs::fstat(&fd).map_err(|errno| failed("look at", key, errno))?;
    let Some(kind) = kind_of(&stat).filter(|kind| *kind == expected) else { return Ok(None) };
    let is_link = kind == ItemKind::Symlink;
    let handle = if is_link { Handle::Mark(fd.as_fd()) } else { Handle::Open(fd.as_fd()) };
    let extended = handle.read().unwrap_or_else(|errno| {
        report(&unreadable(key, errno));
        Extended::new()
    });
    let extents = match kind {
        ItemKind::File => Some(extents(fd.as_fd(), &stat)),
        _ => None,
    };
    let link_target = if is_link { Some(read_link(fd.as_fd(), key)?) } else { None };
    let seen = seen(key, kind, &stat, extended, extents, link_target, accounts);
    Ok(Some(Seen { directory: (kind == ItemKind::Directory).then_some(fd), ..seen }))
}

fn seen(
    key: &ItemKey,
    kind: ItemKind,
    stat: &Stat,
    extended: Extended,
    extents: Option<Vec<Extent>>,
    link_target: Option<Vec<u8>>,
    accounts: &Accounts,
) -> Seen {
    let whole = || if kind == ItemKind::File { data(length_of(stat)) } else { Vec::new() };
    let mut attributes = owner_attributes(stat, accounts)
        .unsigned(AttributeTag::MODE, u64::from(stat.st_mode & 0o7777))
        .signed(AttributeTag::MODIFIED_NS, modified_ns(stat));
    if !extended.is_empty() {
        attributes = attributes.bytes(AttributeTag::EXTENDED, &extended::encode(&extended));
    }
    if let Some(target) = link_target {
        attributes = attributes.bytes(AttributeTag::LINK_TARGET, &target);
    }
    let item = Item {
        key: key.clone(),
        kind,
        attributes: attributes.build(),
        version: Some(version(stat)),
        extents: extents.unwrap_or_else(whole),
    };
    Seen { item, identity: identity(stat), names: stat.st_nlink, directory: None }
}

fn owner_attributes(stat: &Stat, accounts: &Accounts) -> AttributesBuilder {
    let mut attributes = Attributes::builder()
        .unsigned(AttributeTag::USER_ID, u64::from(stat.st_uid))
        .unsigned(AttributeTag::GROUP_ID, u64::from(stat.st_gid));
    if let Some(name) = accounts.users.name_of(stat.st_uid) {
        attributes = attributes.bytes(AttributeTag::USER_NAME, name);
    }
    if let Some(name) = accounts.groups.name_of(stat.st_gid) {
        attributes = attributes.bytes(AttributeTag::GROUP_NAME, name);
    }
    attributes
}

/// Size, times and inode. Whoever changes a file cannot help changing one of them.
pub(super) fn version(stat: &Stat) -> Version {
    let changed_ns = nanoseconds(stat.st_ctime, stat.st_ctime_nsec);
    let numbers = [
        length_of(stat),
        modified_ns(stat).cast_unsigned(),
        changed_ns.cast_unsigned(),
        stat.st_ino,
    ];
    Version(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into())
}

pub(super) fn length_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn data(length_bytes: u64) -> Vec<Extent> {
    if length_bytes == 0 { Vec::new() } else { vec![Extent::data(length_bytes)] }
}

/// Returns where a file has data and where holes. A file that seems whole is not asked; one whose file
/// system does not tell is taken as data.
fn extents(fd: BorrowedFd<'_>, stat: &Stat) -> Vec<Extent> {
    const BLOCK_BYTES: u64 = 512;
    let length = length_of(stat);
    let stored = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
    if stored >= length {
        return data(length);
    }
    sparse_extents(fd, length).unwrap_or_else(|| data(length))
}

fn sparse_extents(fd: BorrowedFd<'_>, length: u64) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < length {
        let start = match fs::seek(fd, SeekFrom::Data(offset)) {
            Ok(start) => start.min(length),
            Err(Errno::NXIO) => length,
            Err(_) => return None,
        };
        let end = match start {
            _ if start == length => length,
            _ => fs::seek(fd, SeekFrom::Hole(start)).ok()?.min(length),
        };
        let hole = start.checked_sub(offset)?;
        let data = end.checked_sub(start)?;
        extents.extend((hole > 0).then(|| Extent::hole(hole)));
        extents.extend((data > 0).then(|| Extent::data(data)));
        if end <= offset {
            return None;
        }
        offset = end;
    }
    Some(extents)
}

fn read_link(fd: BorrowedFd<'_>, key: &ItemKey) -> Result<Vec<u8>> {
    let target = fs::readlinkat(fd, "", Vec::new());
    target.map(|target| target.into_bytes()).map_err(|errno| failed("read link", key, errno))
}
