//! Ids and places that all parts of the engine share.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use model::{
    Attributes, ContentClass, Error, ErrorKind, ExtentIdentity, ItemKind, Result, SiteName,
    StripeChecksums, SystemName, Version,
};

/// Writes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads exactly `N` bytes from lower-case hexadecimal digits.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    let is_plain = digits.iter().all(|d| d.is_ascii_hexdigit() && !d.is_ascii_uppercase());
    if digits.len() != 2 * N || !is_plain {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Hashes bytes with SHA-256, for what people check with common tools. Nothing in a repository uses it.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $type:ident, $length:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub [u8; $length]);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                from_hex(text).map(Self).ok_or_else(|| {
                    Error::new(ErrorKind::Invalid, $what, format!("{text:?}"))
                        .detail(concat!("expected ", $length, " bytes in lower-case hexadecimal"))
                })
            }
        }
    };
}

byte_id! {
    /// Names a chunk: BLAKE3 of its content, keyed with the key domain's id key.
    ChunkId, 32, "read chunk id"
}
byte_id! {
    /// Names a tree node: keyed BLAKE3 of its logical part.
    NodeId, 32, "read node id"
}
byte_id! {
    /// Names a pack: BLAKE3 of the bytes of its object, so that anybody can check it without a key.
    PackName, 32, "read pack name"
}
byte_id! {
    /// Names a repository. Random, made once.
    RepositoryId, 16, "read repository id"
}
byte_id! {
    /// Names a writer: the id of the key slot that it opened the repository with.
    WriterId, 16, "read writer id"
}

byte_id! {
    /// Names a hold. Random, made with it.
    HoldId, 16, "read hold id"
}

/// One system of one site: the stream of its snapshots and logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// The estate.
    pub site: SiteName,
    /// The protected thing.
    pub system: SystemName,
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site, self.system)
    }
}

impl FromStr for StreamName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (site, system) = text.split_once('.').ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "read stream name", format!("{text:?}"))
                .detail("expected SITE.SYSTEM")
        })?;
        Ok(Self { site: site.parse()?, system: system.parse()? })
    }
}

/// Numbers in object names count down, so that a listing in name order gives the newest first.
const NUMBER_MAX: u64 = (1 << 40) - 1;
/// How many numbered objects share one bucket, so that no listing is longer than a page.
const BUCKET_OBJECTS: u64 = 1000;

/// The place of a numbered object below its parent: `<bucket>/<number>`, newest first in name order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

impl Number {
    /// Returns the number `n`; none past 2^40 − 1.
    pub fn new(n: u64) -> Option<Self> {
        (n <= NUMBER_MAX).then_some(Self(n))
    }

    /// Returns the number itself, counting up from 0 or 1.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the bucket's name: 8 hexadecimal digits, smaller for newer.
    pub fn bucket(self) -> String {
        format!("{:08x}", NUMBER_MAX / BUCKET_OBJECTS - self.0 / BUCKET_OBJECTS)
    }

    /// Returns the number's name: 10 hexadecimal digits, smaller for newer.
    pub fn digits(self) -> String {
        format!("{:010x}", NUMBER_MAX - self.0)
    }

    /// Reads [`Number::digits`].
    pub fn from_digits(text: &str) -> Option<Self> {
        let is_plain =
            text.len() == 10 && !text.bytes().any(|b| b.is_ascii_uppercase() || b == b'+');
        let inverted = u64::from_str_radix(text, 16).ok().filter(|_| is_plain)?;
        NUMBER_MAX.checked_sub(inverted).map(Self)
    }
}

/// One writer's announced run: names the intent, the commit key and the forget of a snapshot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// What it captures.
    pub stream: StreamName,
    /// Orders the sessions of a stream. A hint: two writers may choose the same.
    pub number: Number,
    /// Tells sessions of the same number apart.
    pub random: [u8; 8],
}

impl SessionId {
    /// Returns the path below `session/`, `snapshot/` or `forget/`.
    pub fn path(&self) -> String {
        let Self { stream, number, random } = self;
        format!("{stream}/{}/{}-{}", number.bucket(), number.digits(), hex(random))
    }

    /// Reads [`SessionId::path`].
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (stream, bucket, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (digits, random) = name.split_once('-')?;
        let number = Number::from_digits(digits)?;
        let id = Self { stream: stream.parse().ok()?, number, random: from_hex(random)? };
        (parts.next().is_none() && number.bucket() == bucket).then_some(id)
    }

    /// Returns the short form that people see and type: the random part's digits.
    pub fn short(&self) -> String {
        hex(&self.random)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}-{}", self.stream, self.number.get(), self.short())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What kind of pack a thing lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackKind {
    /// Content of items (`pack/`), sealed with a domain's data key.
    Data,
    /// Tree nodes (`meta/`), sealed with a domain's manifest key.
    Meta,
}

/// Where a chunk or a node lies. A hint: what counts is the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The pack.
    pub pack: PackName,
    /// Where its block begins in the pack's object.
    pub block_offset: u32,
    /// The block's length in the pack's object: header, ciphertext and tag.
    pub block_length: u32,
    /// Where it begins in the block's plaintext; 0 where it is alone there.
    pub offset_in_block: u32,
    /// Its own length; for a delta the length that it decodes to.
    pub length: u32,
}

/// A pack that is being filled: its name is known once it is sealed.
#[derive(Debug, Default)]
pub struct PendingPack(OnceLock<PackName>);

impl PendingPack {
    /// Says what the pack is called. Only the first call counts.
    pub fn resolve(&self, name: PackName) {
        let _ = self.0.set(name);
    }

    /// Returns the name where the pack is sealed.
    pub fn name(&self) -> Option<PackName> {
        self.0.get().copied()
    }
}

/// Where a chunk or a node lies or will lie.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a pack that has its name.
    Known(Location),
    /// In a pack that is still being filled; `location.pack` is not yet meaningful.
    Pending {
        /// Everything but the pack's name.
        location: Location,
        /// Tells the name later.
        pack: Arc<PendingPack>,
    },
}

impl Place {
    /// Returns the location where the pack has its name.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::Known(location) => Some(*location),
            Self::Pending { location, pack } => {
                pack.name().map(|name| Location { pack: name, ..*location })
            }
        }
    }
}

/// A chunk as a manifest names it: identity, and hints where to find it.
#[derive(Debug, Clone)]
pub struct StoredChunk {
    /// Its identity.
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: u32,
    /// Where it lies.
    pub place: Place,
    /// For a chunk that is stored as a delta: the full chunks whose bytes, one after another, it is
    /// decoded against; at most [`DELTA_BASES_MAX`]. Empty for a chunk that is stored in full.
    pub bases: Vec<StoredChunk>,
}

/// The most chunks that one delta is decoded against: a rewrite that takes a border between two chunks
/// away leaves one chunk that resembles both.
pub const DELTA_BASES_MAX: usize = 4;

/// An extent as stored.
#[derive(Debug, Clone)]
pub struct StoredExtent {
    /// Its length in bytes.
    pub length_bytes: u64,
    /// What is in it.
    pub body: StoredBody,
}

/// What a stored extent holds.
#[derive(Debug, Clone)]
pub enum StoredBody {
    /// Zero bytes that the source does not store.
    Hole,
    /// Bytes.
    Data {
        /// The source's name for them, if it vouches for one.
        identity: Option<ExtentIdentity>,
        /// The source's checksums of them.
        checksums: Option<StripeChecksums>,
        /// How they were cut.
        class: ContentClass,
        /// The chunks, in order; their lengths add up to the extent's.
        chunks: Vec<StoredChunk>,
    },
}

/// An item as stored; its key stands beside it.
#[derive(Debug, Clone)]
pub struct Record {
    /// What it is.
    pub kind: ItemKind,
    /// What is known about it.
    pub attributes: Attributes,
    /// The source's version of it.
    pub version: Option<Version>,
    /// Its content.
    pub extents: Vec<StoredExtent>,
}

impl Record {
    /// Lists the chunks of all extents in order.
    pub fn chunks(&self) -> impl Iterator<Item = &StoredChunk> {
        self.extents.iter().flat_map(|extent| match &extent.body {
            StoredBody::Hole => [].iter(),
            StoredBody::Data { chunks, .. } => chunks.iter(),
        })
    }

    /// Returns the length of the content in bytes, holes included.
    pub fn content_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length_bytes).sum()
    }
}

/// What a whole tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Items.
    pub items: u64,
    /// Bytes of their content, holes included.
    pub content_bytes: u64,
}

/// A whole tree: what a snapshot refers to.
#[derive(Debug, Clone)]
pub struct Root {
    /// The root node and where it lies; none for an empty tree.
    pub node: Option<(NodeId, Place)>,
    /// How many levels of nodes there are; 0 for an empty tree.
    pub height: u8,
    /// What is in it.
    pub totals: Totals,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_numbers_sort_first() {
        let names: Vec<_> = [0, 1, 999, 1000, 1001, 123_456, NUMBER_MAX]
            .into_iter()
            .rev()
            .map(|n| Number::new(n).expect("in range"))
            .map(|n| (n, format!("{}/{}", n.bucket(), n.digits())))
            .collect();
        assert!(names.is_sorted_by_key(|(_, name)| name.clone()), "{names:?}");
        for (number, _) in &names {
            assert_eq!(Number::from_digits(&number.digits()), Some(*number));
        }
        assert_eq!(Number::new(NUMBER_MAX + 1), None);
        assert_eq!(Number::from_digits("+000000001"), None);
    }

    #[test]
    fn session_paths_are_read_back_and_others_refused() {
        let id = SessionId {
            stream: "prod.etc".parse().expect("stream"),
            number: Number::new(1234).expect("in range"),
            random: *b"\x00\x01\x02\x03\x04\x05\x06\xff",
        };
        assert_eq!(id.path(), "prod.etc/4189374a/fffffffb2d-00010203040506ff");
        assert_eq!(SessionId::from_path(&id.path()), Some(id.clone()));
        for bad in [
            "prod.etc/4189374b/fffffffb2d-00010203040506ff",
            "a/b",
            "",
            "prod.etc/4189374a/fffffffb2d-00010203040506ff/x",
        ] {
            assert_eq!(SessionId::from_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn hexadecimal_is_strict() {
        assert_eq!(from_hex::<2>("0aff"), Some([10, 255]));
        for bad in ["0aF1", "0a", "0afff", "+af1", "é00"] {
            assert_eq!(from_hex::<2>(bad), None, "{bad}");
        }
    }
}
