//! An independent reading of a directory tree, to compare a restore with its source. It shares no
//! code with what is being judged.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The largest list of names, and the largest value, that Linux gives for extended attributes.
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// Everything that a restore has to bring back of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    size_bytes: u64,
    /// Hash of a file's content, target of a link, number of a device.
    content: Vec<u8>,
    /// The first path, in order, that is the same file.
    same_as: Option<PathBuf>,
}

/// A tree by relative path; its root is the empty path.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads a tree with everything in it.
pub fn read(root: &Path) -> Result<Tree> {
    let mut paths = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        let full = root.join(&path);
        if full.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            for entry in fs::read_dir(&full).with_context(|| format!("list {}", full.display()))? {
                paths.push(path.join(entry?.file_name()));
            }
        }
        next += 1;
    }
    paths.sort();
    let mut first_paths = BTreeMap::new();
    let mut tree = Tree::new();
    for path in paths {
        let full = root.join(&path);
        let entry = read_entry(&full, &path, &mut first_paths);
        tree.insert(path, entry.with_context(|| format!("read {}", full.display()))?);
    }
    Ok(tree)
}

/// What differs between two trees, one line per path, in path order.
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in expected {
        match found.get(path) {
            None => lines.push(format!("{}: missing", path.display())),
            Some(other) => lines
                .extend(entry.difference(other).map(|what| format!("{}: {what}", path.display()))),
        }
    }
    let added = found.keys().filter(|path| !expected.contains_key(*path));
    lines.extend(added.map(|path| format!("{}: not expected", path.display())));
    lines
}

/// Bytes in files, counting hard links once.
pub fn content_bytes(tree: &Tree) -> u64 {
    let files = tree.values().filter(|entry| entry.kind == "file" && entry.same_as.is_none());
    files.map(|entry| entry.size_bytes).sum()
}

impl Entry {
    /// True for a regular file that is no further name of another.
    pub fn is_file(&self) -> bool {
        self.kind == "file" && self.same_as.is_none()
    }

    /// Length of the content.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let differs = [
            ("type", self.kind != other.kind),
            ("mode", self.mode != other.mode),
            ("owner", self.owner != other.owner),
            ("modification time", self.modified != other.modified),
            ("extended attributes", self.xattrs != other.xattrs),
            ("size", self.size_bytes != other.size_bytes),
            ("content", self.content != other.content),
            ("hard link", self.same_as != other.same_as),
        ];
        let names: Vec<&str> =
            differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| format!("differs in {}", names.join(", ")))
    }
}

fn read_entry(
    full: &Path,
    path: &Path,
    first_paths: &mut BTreeMap<(u64, u64), PathBuf>,
) -> Result<Entry> {
    let metadata = full.symlink_metadata()?;
    let kind = kind_of(&metadata);
    let same_as = if kind != "directory" && metadata.nlink() > 1 {
        let identity = (metadata.dev(), metadata.ino());
        let first = first_paths.entry(identity).or_insert_with(|| path.to_owned());
        (first.as_path() != path).then(|| first.clone())
    } else {
        None
    };
    Ok(Entry {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        xattrs: xattrs_of(full)?,
        // The size of a directory belongs to its file system.
        size_bytes: if kind == "directory" { 0 } else { metadata.len() },
        content: content_of(full, kind, &metadata)?,
        same_as,
    })
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "device",
    }
}

fn content_of(full: &Path, kind: &str, metadata: &Metadata) -> Result<Vec<u8>> {
    Ok(match kind {
        "file" => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(full)?)?;
            hasher.finalize().as_bytes().to_vec()
        }
        "link" => fs::read_link(full)?.as_os_str().as_bytes().to_vec(),
        "device" => metadata.rdev().to_be_bytes().to_vec(),
        _ => Vec::new(),
    })
}

fn xattrs_of(full: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(full, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).context("list extended attributes"),
    };
    names.truncate(length);
    let mut xattrs = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::lgetxattr(full, name, &mut value).context("read an attribute")?;
        value.truncate(length);
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Two trees with the same content and metadata.
    fn twins() -> (tempfile::TempDir, tempfile::TempDir) {
        let make = || {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            fs::create_dir(at("d")).unwrap();
            fs::write(at("d/a"), "aaaa").unwrap();
            fs::hard_link(at("d/a"), at("d/b")).unwrap();
            fs::write(at("c"), "cccc").unwrap();
            symlink("d/a", at("l")).unwrap();
            for name in ["d/a", "c", "d", ""] {
                set_time(&at(name), 1_000_000_007);
            }
            let link = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
                last_modification: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 7 },
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, at("l"), &link, flags).unwrap();
            root
        };
        (make(), make())
    }

    fn set_time(path: &Path, nanoseconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    fn check(change: impl FnOnce(&Path), expected: &[&str]) {
        let (left, right) = twins();
        change(right.path());
        for name in ["d", ""] {
            set_time(&right.path().join(name), 1_000_000_007);
        }
        let (left, right) = (read(left.path()).unwrap(), read(right.path()).unwrap());
        assert_eq!(differences(&left, &right), expected);
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        check(|_| {}, &[]);
        check(|root| fs::remove_file(root.join("c")).unwrap(), &["c: missing"]);
        check(|root| fs::create_dir(root.join("n")).unwrap(), &["n: not expected"]);
        check(
            |root| set_time(&root.join("c"), 1_000_000_008),
            &["c: differs in modification time"],
        );
        let private = fs::Permissions::from_mode(0o600);
        check(
            |root| fs::set_permissions(root.join("c"), private).unwrap(),
            &["c: differs in mode"],
        );
        check(
            |root| {
                fs::write(root.join("c"), "cccd").unwrap();
                set_time(&root.join("c"), 1_000_000_007);
            },
            &["c: differs in content"],
        );
        check(
            |root| {
                fs::remove_file(root.join("d/b")).unwrap();
                fs::copy(root.join("d/a"), root.join("d/b")).unwrap();
                set_time(&root.join("d/b"), 1_000_000_007);
            },
            &["d/b: differs in hard link"],
        );
    }

    #[test]
    fn what_is_linked_is_counted_once() {
        let (root, _twin) = twins();
        let tree = read(root.path()).unwrap();
        assert_eq!(content_bytes(&tree), 8);
        assert_eq!(tree.values().filter(|entry| entry.is_file()).count(), 2);
    }
}
