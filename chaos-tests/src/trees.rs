//! Real trees as they are seen from outside: every name with all that is to be equal after a restore.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr};

/// The most bytes of names or of a value of extended attributes that are read.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// What is under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `d`, `f`, `l`, `p`.
    pub kind: char,
    /// Permissions with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner and group.
    pub owners: (u32, u32),
    /// Time of the last change of content, in nanoseconds; none for links, whose time is only theirs.
    pub modified_ns: Option<i128>,
    /// Length and hash of a file's content.
    pub content: Option<(u64, blake3::Hash)>,
    /// Whether a file takes less room than its length.
    pub is_sparse: bool,
    /// Where a link points.
    pub link_target: Option<PathBuf>,
    /// Extended attributes by name.
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name, in order, of the file that this is a name of.
    pub first_name: PathBuf,
}

/// A tree by path from its root, which is the empty path.
pub type SeenTree = BTreeMap<PathBuf, Seen>;

/// Looks at everything below a root, and at the root itself.
///
/// # Errors
/// Those of the file system.
pub fn look_at(root: &Path) -> io::Result<SeenTree> {
    let mut names = vec![PathBuf::new()];
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let name = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                pending.push(name.clone());
            }
            names.push(name);
        }
    }
    names.sort();
    let mut first_names = BTreeMap::new();
    let mut tree = SeenTree::new();
    for name in names {
        let path = if name.as_os_str().is_empty() { root.to_owned() } else { root.join(&name) };
        let metadata = std::fs::symlink_metadata(&path)?;
        let inode = (metadata.dev(), metadata.ino());
        let first_name = first_names.entry(inode).or_insert_with(|| name.clone()).clone();
        tree.insert(name, look_at_one(&path, &metadata, first_name)?);
    }
    Ok(tree)
}

fn look_at_one(path: &Path, metadata: &std::fs::Metadata, first_name: PathBuf) -> io::Result<Seen> {
    let file_type = metadata.file_type();
    let kind = match () {
        () if file_type.is_dir() => 'd',
        () if file_type.is_file() => 'f',
        () if file_type.is_symlink() => 'l',
        () if file_type.is_fifo() => 'p',
        () => '?',
    };
    let content = match kind {
        'f' => Some((metadata.len(), blake3::hash(&std::fs::read(path)?))),
        _ => None,
    };
    let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok(Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        owners: (metadata.uid(), metadata.gid()),
        modified_ns: (kind != 'l').then_some(modified),
        content,
        is_sparse: kind == 'f' && metadata.blocks() * 512 < metadata.len(),
        link_target: if kind == 'l' { Some(std::fs::read_link(path)?) } else { None },
        extended: extended_of(path)?,
        first_name,
    })
}

/// Reads extended attributes; none where the file system has none.
fn extended_of(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(errno) => return Err(errno.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    let mut extended = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        extended.insert(name.to_vec(), value);
    }
    Ok(extended)
}

/// Says where two trees differ; none where they are equal.
pub fn difference(found: &SeenTree, expected: &SeenTree) -> Option<String> {
    found.keys().chain(expected.keys()).find_map(|name| {
        let (found, expected) = (found.get(name), expected.get(name));
        (found != expected)
            .then(|| format!("{}: {found:?} instead of {expected:?}", name.display()))
    })
}

/// Makes a tree of everything that can be restored: odd names, links of both kinds, a pipe, holes, set-id
/// bits, times to the nanosecond, extended attributes. `large_bytes` is the length of its largest file.
///
/// # Errors
/// Those of the file system.
pub fn make_tree(root: &Path, large_bytes: usize) -> io::Result<()> {
    use std::os::unix::fs::{FileExt, symlink};
    for directory in ["", "conf", "conf/empty", "data", "data/deep", "data/deep/er"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for index in 0..12 {
        let name = format!("conf/service-{index}.conf");
        std::fs::write(root.join(name), testkit::text_bytes(index, 300 + 97 * index as usize))?;
    }
    std::fs::write(root.join("conf/none"), b"")?;
    std::fs::write(root.join("data/large"), testkit::random_bytes(1, large_bytes))?;
    std::fs::write(root.join("data/deep/er/leaf"), b"leaf")?;
    let odd = root.join(OsStr::from_bytes(b"odd \xff\nname"));
    std::fs::write(odd, b"odd")?;
    let holes = std::fs::File::create(root.join("data/holes"))?;
    holes.set_len(1 << 20)?;
    holes.write_all_at(b"in the middle", 512 << 10)?;
    std::fs::hard_link(root.join("conf/service-1.conf"), root.join("data/another name"))?;
    std::fs::hard_link(root.join("conf/service-1.conf"), root.join("a third name"))?;
    symlink("service-0.conf", root.join("conf/current"))?;
    symlink("/nowhere/at/all", root.join("dangling"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )?;
    let flags = XattrFlags::empty();
    for name in ["conf/service-2.conf", "data/deep"] {
        // Where the file system has no extended attributes there are none to restore.
        let _ = rustix::fs::setxattr(root.join(name), "user.lifeboat", b"\0value", flags);
    }
    for (name, mode, seconds) in [
        ("conf/service-3.conf", 0o4711, 1_000_000_000),
        ("conf/service-4.conf", 0o400, -5),
        ("data/large", 0o644, 1_234_567_890),
        ("pipe", 0o604, 1_500_000_000),
        ("conf/empty", 0o2750, 1_100_000_000),
        ("conf", 0o555, 1_200_000_000),
        ("data/deep", 0o1777, 1_300_000_000),
        ("", 0o711, 1_400_000_000),
    ] {
        set_metadata(&root.join(name), mode, seconds)?;
    }
    Ok(())
}

/// Sets permissions and a time of change that is no whole second.
///
/// # Errors
/// Those of the file system.
pub fn set_metadata(path: &Path, mode: u32, seconds: i64) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 987_654_321 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_equal_to_itself_and_to_no_other() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("tree");
        make_tree(&root, 10_000).expect("make");
        let before = look_at(&root).expect("look");
        assert_eq!(difference(&look_at(&root).expect("look again"), &before), None);
        for (name, expected) in
            [("pipe", 'p'), ("dangling", 'l'), ("conf", 'd'), ("conf/none", 'f')]
        {
            assert_eq!(before.get(Path::new(name)).map(|seen| seen.kind), Some(expected), "{name}");
        }
        assert!(before.get(Path::new("data/holes")).is_some_and(|seen| seen.is_sparse));
        let names = before.values().filter(|seen| seen.first_name == Path::new("a third name"));
        assert_eq!(names.count(), 3);
        set_metadata(&root.join("data/large"), 0o644, 1_234_567_891).expect("touch");
        let told = difference(&look_at(&root).expect("look"), &before).expect("differs");
        assert!(told.starts_with("data/large"), "{told}");
    }
}
