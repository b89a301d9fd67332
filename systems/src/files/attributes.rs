//! What a file system says about a file, as attributes and as a version. Pure: the calls are made in
//! [`super::inspect`].

use bytes::Bytes;
use model::{AttributeTag, Attributes, Version};
use rustix::fs::{FileType, Statx, StatxTimestamp};

use super::names::Names;

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub(super) permissions: u32,
    pub(super) user_id: u32,
    pub(super) group_id: u32,
    pub(super) size_bytes: u64,
    /// What is allocated; less than the size where there are holes.
    pub(super) stored_bytes: u64,
    pub(super) modified_ns: i64,
    pub(super) changed_ns: i64,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// How many names it has.
    pub(super) names: u32,
}

impl FileStat {
    pub(super) fn new(stat: &Statx) -> Self {
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            _ => FileKind::Device,
        };
        Self {
            kind,
            permissions: u32::from(stat.stx_mode) & 0o7777,
            user_id: stat.stx_uid,
            group_id: stat.stx_gid,
            size_bytes: stat.stx_size,
            stored_bytes: stat.stx_blocks.saturating_mul(512),
            modified_ns: nanoseconds(&stat.stx_mtime),
            changed_ns: nanoseconds(&stat.stx_ctime),
            device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            inode: stat.stx_ino,
            names: stat.stx_nlink,
        }
    }

    /// Says whether other names may stand for the same content.
    pub(super) fn is_linked(&self) -> bool {
        self.kind == FileKind::Regular && self.names > 1
    }

    /// Returns what changes when the content does: size, both times and the inode, 32 bytes.
    ///
    /// A file that is rewritten with the same size within one tick of the file system's clock, after
    /// it was looked at, keeps its version; the engine's rolling re-check finds that.
    pub(super) fn version(&self) -> Version {
        let numbers = [
            self.size_bytes,
            self.modified_ns.cast_unsigned(),
            self.changed_ns.cast_unsigned(),
            self.inode,
        ];
        Version(Bytes::from(numbers.map(u64::to_le_bytes).concat()))
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
}

/// What is encoded into an item's attributes.
#[derive(Debug)]
pub(super) struct Description<'a> {
    pub(super) stat: &'a FileStat,
    /// Absent for the directories above what is protected: their time tells of their other children.
    pub(super) has_time: bool,
    pub(super) link_target: Option<&'a [u8]>,
    /// Extended attributes, in any order.
    pub(super) extended: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Description<'_> {
    /// Encodes; without the extended attributes where they do not fit, which is said by `false`.
    pub(super) fn encode(mut self, names: &Names) -> (Attributes, bool) {
        let stat = self.stat;
        let mut builder = Attributes::builder()
            .unsigned(AttributeTag::MODE, stat.permissions.into())
            .unsigned(AttributeTag::USER_ID, stat.user_id.into())
            .unsigned(AttributeTag::GROUP_ID, stat.group_id.into());
        if let Some(name) = names.user(stat.user_id) {
            builder = builder.bytes(AttributeTag::USER_NAME, name);
        }
        if let Some(name) = names.group(stat.group_id) {
            builder = builder.bytes(AttributeTag::GROUP_NAME, name);
        }
        if self.has_time {
            builder = builder.signed(AttributeTag::MODIFIED_NS, stat.modified_ns);
        }
        if let Some(target) = self.link_target {
            builder = builder.bytes(AttributeTag::LINK_TARGET, target);
        }
        self.extended.sort();
        let extended = encode_extended(&self.extended);
        // Names and link targets are at most a few KiB; only extended attributes can be too long.
        let room = Attributes::LENGTH_MAX - (64 << 10);
        let fits = extended.as_ref().is_some_and(|bytes| bytes.len() <= room);
        if let Some(bytes) = extended.filter(|bytes| fits && !bytes.is_empty()) {
            builder = builder.bytes(AttributeTag::EXTENDED, &bytes);
        }
        (builder.build(), fits)
    }
}

/// Returns the attributes of a further name of the item with this key.
pub(super) fn link_to(first: &model::ItemKey) -> Attributes {
    Attributes::builder().bytes(AttributeTag::LINK_TARGET, first.as_bytes()).build()
}

/// Encodes sorted pairs as [`AttributeTag::EXTENDED`] says; none where a length does not fit.
fn encode_extended(pairs: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        bytes.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(value);
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn stat(kind: FileKind) -> FileStat {
        FileStat {
            kind,
            permissions: 0o4755,
            user_id: 0,
            group_id: 7,
            size_bytes: 5,
            stored_bytes: 4_096,
            modified_ns: -1,
            changed_ns: 2,
            device: 1,
            inode: 99,
            names: 1,
        }
    }

    fn encode(stat: &FileStat, extended: &[(&[u8], &[u8])], has_time: bool) -> (Attributes, bool) {
        let extended = extended.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let names = Names::parse(b"root:x:0:0::/root:/bin/sh\n", b"");
        Description { stat, has_time, link_target: None, extended }.encode(&names)
    }

    #[test]
    fn everything_known_is_encoded_and_nothing_else() {
        let (attributes, fits) = encode(&stat(FileKind::Regular), &[], true);
        assert!(fits);
        assert_eq!(attributes.unsigned(AttributeTag::MODE), Some(0o4755));
        assert_eq!(attributes.unsigned(AttributeTag::USER_ID), Some(0));
        assert_eq!(attributes.unsigned(AttributeTag::GROUP_ID), Some(7));
        assert_eq!(attributes.get(AttributeTag::USER_NAME), Some(&b"root"[..]));
        assert_eq!(attributes.get(AttributeTag::GROUP_NAME), None, "nobody knows group 7");
        assert_eq!(attributes.signed(AttributeTag::MODIFIED_NS), Some(-1));
        assert_eq!(attributes.get(AttributeTag::EXTENDED), None);
        let (attributes, _) = encode(&stat(FileKind::Directory), &[], false);
        assert_eq!(attributes.get(AttributeTag::MODIFIED_NS), None);
    }

    #[test]
    fn extended_attributes_are_sorted_by_name() {
        let (attributes, _) =
            encode(&stat(FileKind::Regular), &[(b"user.b", b""), (b"user.a", b"\0x")], true);
        let expected = b"\x06\0user.a\x02\0\0\0\0x\x06\0user.b\0\0\0\0";
        assert_eq!(attributes.get(AttributeTag::EXTENDED), Some(&expected[..]));
    }

    #[test]
    fn extended_attributes_that_do_not_fit_are_left_out() {
        let long = vec![1; Attributes::LENGTH_MAX];
        let (attributes, fits) = encode(&stat(FileKind::Regular), &[(b"user.a", &long)], true);
        assert!(!fits);
        assert_eq!(attributes.get(AttributeTag::EXTENDED), None);
        assert!(attributes.get(AttributeTag::MODE).is_some());
    }

    #[test]
    fn a_version_changes_with_each_of_its_parts_and_with_nothing_else() {
        let before = stat(FileKind::Regular);
        let same = FileStat { permissions: 0, names: 2, device: 3, stored_bytes: 0, ..before };
        assert_eq!(same.version(), before.version());
        for changed in [
            FileStat { size_bytes: 6, ..before },
            FileStat { modified_ns: 0, ..before },
            FileStat { changed_ns: 3, ..before },
            FileStat { inode: 1, ..before },
        ] {
            assert_ne!(changed.version(), before.version());
        }
    }
}
