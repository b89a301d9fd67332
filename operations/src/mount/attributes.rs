//! What a file system tells of an item, from what was captured of it.

use bytes::Bytes;
use model::{AttributeTag, Error, ErrorKind, ExtentBody, Item, ItemKind, Result, Timestamp};

use super::inodes::Inode;
use crate::browse::as_path;

/// What an item is to a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has children. What has content and may have children is one too.
    Directory,
    /// Has content.
    File,
    /// Points at a path.
    Symlink,
    /// A named pipe.
    Fifo,
}

impl Kind {
    pub(super) fn of_item(kind: ItemKind) -> Self {
        match kind {
            ItemKind::Directory | ItemKind::Node => Self::Directory,
            // Only files have further names.
            ItemKind::File | ItemKind::Hardlink => Self::File,
            ItemKind::Symlink => Self::Symlink,
            ItemKind::Fifo => Self::Fifo,
        }
    }
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub user_id: u32,
    /// The group.
    pub group_id: u32,
}

/// What is known of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub inode: Inode,
    /// What it is.
    pub kind: Kind,
    /// How long its content is; of a symbolic link, its target.
    pub size_bytes: u64,
    /// How much of that is not in holes.
    pub stored_bytes: u64,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u16,
    /// Whose it is.
    pub owner: Owner,
    /// When its content last changed at the source.
    pub modified: Timestamp,
    /// How many names it has, as far as that is known: how many there are is not captured, so this is 2
    /// once it was met by a further one.
    pub names: u32,
}

/// What counts where the source says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) owner: Owner,
    pub(super) modified: Timestamp,
}

impl Defaults {
    /// Returns what is known of a directory that is no item.
    pub(super) fn folder(&self) -> Facts {
        Facts {
            inode: Inode::ROOT,
            kind: Kind::Directory,
            size_bytes: 0,
            stored_bytes: 0,
            mode: 0o755,
            owner: self.owner,
            modified: self.modified,
            names: 1,
        }
    }

    /// Returns what is known of an item; its number is not said yet. With `is_content`, of its content
    /// as a file.
    pub(super) fn facts(&self, item: &Item, is_content: bool) -> Facts {
        let attributes = &item.attributes;
        let kind = if is_content { Kind::File } else { Kind::of_item(item.kind) };
        let is_data = |body: &ExtentBody| matches!(body, ExtentBody::Data { .. });
        let (size_bytes, stored_bytes) = match kind {
            Kind::File => {
                let data = item.extents.iter().filter(|extent| is_data(&extent.body));
                let stored = data.fold(0_u64, |sum, one| sum.saturating_add(one.length_bytes));
                (item.content_bytes(), stored)
            }
            Kind::Symlink => {
                let target = attributes.get(AttributeTag::LINK_TARGET).unwrap_or_default();
                (target.len() as u64, 0)
            }
            Kind::Directory | Kind::Fifo => (0, 0),
        };
        let usual_mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink => 0o777,
            Kind::File | Kind::Fifo => 0o644,
        };
        let mode = attributes.unsigned(AttributeTag::MODE).unwrap_or(usual_mode) & 0o7777;
        // What may be entered there may be read here; a file may not be run because of that.
        let mode = if is_content { mode & 0o666 } else { mode };
        let number = |tag, usual| {
            attributes.unsigned(tag).and_then(|id| u32::try_from(id).ok()).unwrap_or(usual)
        };
        let modified = attributes.signed(AttributeTag::MODIFIED_NS);
        Facts {
            inode: Inode::ROOT,
            kind,
            size_bytes,
            stored_bytes,
            mode: mode as u16,
            owner: Owner {
                user_id: number(AttributeTag::USER_ID, self.owner.user_id),
                group_id: number(AttributeTag::GROUP_ID, self.owner.group_id),
            },
            modified: modified.map_or(self.modified, |unix_ns| Timestamp { unix_ns }),
            names: 1,
        }
    }
}

/// Reads the extended attributes of an item.
pub(super) fn extended(item: &Item) -> Result<Vec<(Bytes, Bytes)>> {
    let stored = item.attributes.get(AttributeTag::EXTENDED).unwrap_or_default();
    decode(stored).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "read extended attributes", as_path(&item.key))
    })
}

/// Reads the stored form: `name length u16le | name | value length u32le | value`.
fn decode(mut bytes: &[u8]) -> Option<Vec<(Bytes, Bytes)>> {
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        if name.is_empty() || name.contains(&0) {
            return None;
        }
        pairs.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)));
        bytes = rest;
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Attributes, Extent, ItemKey};

    #[test]
    fn what_the_source_says_counts_and_what_it_does_not_say_is_filled_in() {
        let owner = Owner { user_id: 7, group_id: 8 };
        let defaults = Defaults { owner, modified: Timestamp { unix_ns: 9 } };
        let mut item = Item {
            key: ItemKey::root(),
            kind: ItemKind::File,
            attributes: Attributes::default(),
            version: None,
            extents: vec![Extent::data(3), Extent::hole(4)],
        };
        let plain = defaults.facts(&item, false);
        assert_eq!((plain.size_bytes, plain.stored_bytes, plain.mode), (7, 3, 0o644));
        assert_eq!((plain.owner, plain.modified.unix_ns), (owner, 9));
        item.attributes = Attributes::builder()
            .unsigned(AttributeTag::MODE, 0o4751)
            .unsigned(AttributeTag::USER_ID, 1)
            .unsigned(AttributeTag::GROUP_ID, u64::MAX)
            .signed(AttributeTag::MODIFIED_NS, -5)
            .build();
        let told = defaults.facts(&item, false);
        assert_eq!((told.mode, told.modified.unix_ns), (0o4751, -5));
        assert_eq!(told.owner, Owner { user_id: 1, group_id: 8 });
        item.kind = ItemKind::Node;
        assert_eq!(defaults.facts(&item, false).kind, Kind::Directory);
        let content = defaults.facts(&item, true);
        assert_eq!((content.kind, content.size_bytes, content.mode), (Kind::File, 7, 0o640));
    }

    #[test]
    fn extended_attributes_are_read_or_refused() {
        let two = decode(b"\x01\0a\x02\0\0\0\0\xff\x01\0b\0\0\0\0").expect("two");
        let pair = |name: &'static [u8], value: &'static [u8]| (name.into(), value.into());
        assert_eq!(two, [pair(b"a", b"\0\xff"), pair(b"b", b"")]);
        for bytes in
            [&b"\x01"[..], b"\x02\0a", b"\x01\0a\x02\0\0\0x", b"\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0"]
        {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
