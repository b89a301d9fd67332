//! Items and the extents of their content.

use bytes::Bytes;

use crate::{Attributes, ItemKey};

/// What an item is, as far as every kind of system can understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ItemKind {
    /// Has children, no content.
    Directory = 1,
    /// Has content, no children.
    File = 2,
    /// Points at a path ([`AttributeTag::LINK_TARGET`](crate::AttributeTag::LINK_TARGET)).
    Symlink = 3,
    /// A further name of another item, whose key is its link target.
    Hardlink = 4,
    /// A named pipe.
    Fifo = 5,
    /// Has content and may have children, as a znode has.
    Node = 6,
}

impl ItemKind {
    /// Reads the stored number.
    pub fn from_number(number: u8) -> Option<Self> {
        use ItemKind::{Directory, Fifo, File, Hardlink, Node, Symlink};
        [Directory, File, Symlink, Hardlink, Fifo, Node]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// Says whether items of this kind have content.
    pub fn has_content(self) -> bool {
        matches!(self, Self::File | Self::Node)
    }
}

/// The unit of content in a system: a file, a znode, a relation file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it is. Unique in its system.
    pub key: ItemKey,
    /// What it is.
    pub kind: ItemKind,
    /// What is known about it besides its content.
    pub attributes: Attributes,
    /// Whether it changed at the source, if the source can tell.
    pub version: Option<Version>,
    /// Its content, in order. Empty where it has none.
    pub extents: Vec<Extent>,
}

impl Item {
    /// Returns the length of the content in bytes, holes included.
    pub fn content_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length_bytes).sum()
    }
}

/// *Did it change at the source?* Equal versions of one key mean that it did not.
///
/// Opaque to all but its own system (size, times and inode of a file; mzxid of a znode). Says nothing
/// about content: a restored item has another version and the same content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub Bytes);

/// *Is the content the same?* A BLAKE3 hash of the content as read from first to last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A piece of an item's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// How long it is.
    pub length_bytes: u64,
    /// What is in it.
    pub body: ExtentBody,
}

impl Extent {
    /// Returns an extent whose bytes the system does not vouch for.
    pub fn data(length_bytes: u64) -> Self {
        Self { length_bytes, body: ExtentBody::Data { identity: None, checksums: None } }
    }

    /// Returns an extent of zero bytes that the source does not store.
    pub fn hole(length_bytes: u64) -> Self {
        Self { length_bytes, body: ExtentBody::Hole }
    }
}

/// What an extent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtentBody {
    /// Zero bytes that the source does not store; never opened.
    Hole,
    /// Bytes to be read with [`Content::open`](crate::Content::open).
    Data {
        /// A name that the system vouches for: under one epoch, equal identities have equal bytes.
        identity: Option<ExtentIdentity>,
        /// Checksums that the system holds of it, so that a few changed megabytes can be found.
        checksums: Option<StripeChecksums>,
    },
}

/// Names bytes that do not change (an HDFS block: pool, id, generation stamp, length).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentIdentity(pub Bytes);

/// CRC-32C of each stripe of an extent, the last stripe being as long as what remains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeChecksums {
    /// The length of a stripe; not zero.
    pub stripe_bytes: u32,
    /// One checksum per stripe, in order.
    pub crc32c: Vec<u32>,
}

/// How content of a system is best cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ContentClass {
    /// Files of all kinds: 1 MiB on average.
    General = 1,
    /// Immutable data of a lake (HDFS blocks, Kafka and Lucene segments): 1 MiB on average.
    Lake = 2,
    /// Files of databases: fixed, page-aligned.
    Database = 3,
    /// Dumps: 64 KiB on average.
    Dump = 4,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_numbers() {
        for (number, kind) in
            [(1, ItemKind::Directory), (4, ItemKind::Hardlink), (6, ItemKind::Node)]
        {
            assert_eq!(ItemKind::from_number(number), Some(kind));
            assert_eq!(kind as u8, number);
        }
        assert_eq!(ItemKind::from_number(0), None);
        assert_eq!(ItemKind::from_number(7), None);
    }

    #[test]
    fn holes_count_as_content() {
        let item = Item {
            key: ItemKey::root(),
            kind: ItemKind::File,
            attributes: Attributes::default(),
            version: None,
            extents: vec![Extent::data(3), Extent::hole(4)],
        };
        assert_eq!(item.content_bytes(), 7);
    }
}
