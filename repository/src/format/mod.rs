//! What all objects of a repository have in common: magic, version, feature flags, type.

pub(crate) mod certificate;
pub(crate) mod descriptor;
pub mod envelope;
pub(crate) mod key_slot;
mod plain;

pub use certificate::Certificate;
pub use descriptor::Descriptor;
pub(crate) use plain::is_intact as is_plain_intact;

use model::{Error, ErrorKind, Result};

/// The first bytes of every object but packs' inner parts.
pub const MAGIC: [u8; 8] = *b"LIFEBOAT";

/// The revision of the format that this program writes and the only one that it reads.
pub const FORMAT_VERSION: u16 = 0;

/// What an object is. A number is never given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// `lifeboat`: what the repository is.
    Descriptor = 1,
    /// `key/`: wraps a key ring.
    KeySlot = 2,
    /// `writer/`: a writer's public key.
    WriterCertificate = 3,
    /// `pack/`: content.
    DataPack = 4,
    /// `meta/`: tree nodes.
    MetaPack = 5,
    /// `index/`: where chunks and nodes lie.
    IndexSegment = 6,
    /// `session/`: a writer's announcement.
    Session = 7,
    /// `snapshot/`: a snapshot, a checkpoint or a tombstone.
    Snapshot = 8,
    /// `forget/`: a snapshot is no longer wanted.
    Forget = 9,
    /// `mark/`: a pin, a tag, a proof.
    Mark = 10,
    /// `point/`: a recovery point of a site.
    Point = 11,
    /// `forget-point/`: a point is no longer wanted.
    ForgetPoint = 12,
    /// `log/`: one batch.
    LogBatch = 13,
    /// `logseg/`: batches compacted.
    LogSegment = 14,
    /// `logtrim/`: a stream's new front.
    LogTrim = 15,
    /// `heartbeat/`: nothing new.
    Heartbeat = 16,
    /// `gc/…/condemned`.
    GcCondemned = 17,
    /// `gc/…/outcome`.
    GcOutcome = 18,
    /// `gc/…/done`.
    GcDone = 19,
    /// `key-test/`: a key slot was tried.
    KeyTest = 20,
    /// `hold/`: something is kept whatever retention says.
    Hold = 21,
    /// `hold-release/`: it no longer is.
    HoldRelease = 22,
}

/// What a reader must understand, by what it wants to do. Each bit is one feature; this version knows
/// none, so that any set bit forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct FeatureFlags {
    /// Needed to read.
    pub read: u16,
    /// Needed to write to the repository.
    pub write: u16,
    /// Needed to collect garbage.
    pub collect: u16,
}

impl FeatureFlags {
    /// The features that this version knows.
    pub const KNOWN: Self = Self { read: 0, write: 0, collect: 0 };

    /// Returns the flags that this version does not know.
    #[must_use]
    pub fn unknown(self) -> Self {
        Self {
            read: self.read & !Self::KNOWN.read,
            write: self.write & !Self::KNOWN.write,
            collect: self.collect & !Self::KNOWN.collect,
        }
    }

    fn to_bytes(self) -> [u8; 6] {
        let ([a, b], [c, d], [e, f]) =
            (self.read.to_le_bytes(), self.write.to_le_bytes(), self.collect.to_le_bytes());
        [a, b, c, d, e, f]
    }

    fn from_bytes([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self {
            read: u16::from_le_bytes([a, b]),
            write: u16::from_le_bytes([c, d]),
            collect: u16::from_le_bytes([e, f]),
        }
    }
}

/// The first [`Header::LENGTH`] bytes of an object:
/// `"LIFEBOAT" | format u16 | type u8 | flags read u16 | flags write u16 | flags collect u16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub object_type: ObjectType,
    /// What is needed to understand it.
    pub flags: FeatureFlags,
}

impl Header {
    /// The header's length in bytes.
    pub const LENGTH: usize = 17;

    /// Returns the header of an object that needs no feature.
    pub fn new(object_type: ObjectType) -> Self {
        Self { object_type, flags: FeatureFlags::default() }
    }

    /// Encodes the header.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let version = FORMAT_VERSION.to_le_bytes();
        let parts =
            [&MAGIC[..], &version, &[self.object_type as u8], &self.flags.to_bytes()].concat();
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = part;
        }
        bytes
    }

    /// Takes the header of an object of the expected type off its bytes. Unknown features needed to
    /// write or to collect are the caller's to judge.
    ///
    /// # Errors
    /// `Corrupt` where this is no such object; `Unsupported` where it is of another version or needs an
    /// unknown feature to be read.
    pub fn split_off<'b>(
        bytes: &'b [u8],
        object_type: ObjectType,
        path: &str,
    ) -> Result<(Self, &'b [u8])> {
        let corrupt = |what: &str| {
            Error::new(ErrorKind::Corrupt, "read object", path).detail(what.to_owned())
        };
        let too_short = || corrupt("too short");
        let (magic, rest) = bytes.split_first_chunk().ok_or_else(too_short)?;
        if *magic != MAGIC {
            return Err(corrupt("not an object of a repository"));
        }
        let (version, rest) = rest.split_first_chunk().ok_or_else(too_short)?;
        let version = u16::from_le_bytes(*version);
        if version != FORMAT_VERSION {
            return Err(Error::new(ErrorKind::Unsupported, "read object", path).detail(format!(
                "it is of format version {version}, this program reads version {FORMAT_VERSION}"
            )));
        }
        let (&[found], rest) = rest.split_first_chunk().ok_or_else(too_short)?;
        if found != object_type as u8 {
            return Err(corrupt("an object of another type stands here"));
        }
        let (flags, rest) = rest.split_first_chunk().ok_or_else(too_short)?;
        let flags = FeatureFlags::from_bytes(*flags);
        if flags.unknown().read != 0 {
            return Err(Error::new(ErrorKind::Unsupported, "read object", path)
                .detail(format!("it needs unknown features ({:#06x})", flags.unknown().read)));
        }
        Ok((Self { object_type, flags }, rest))
    }
}
