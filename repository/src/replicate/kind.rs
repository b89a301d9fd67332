//! The kinds of objects that a replica has, and what each needs when it is copied.

use model::{Error, ErrorKind, Result};

use crate::format::{Header, ObjectType, is_plain_intact};
use crate::types::PackName;

/// A kind of object, by the first part of its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `key/`
    KeySlot,
    /// `writer/`
    Writer,
    /// `key-test/`
    KeyTest,
    /// `hold/`
    Hold,
    /// `pack/`
    Data,
    /// `meta/`
    Meta,
    /// `index/`
    Index,
    /// `snapshot/`: snapshots, checkpoints and tombstones, which only a key tells apart.
    Snapshot,
    /// `session/`
    Session,
    /// `logseg/`
    LogSegment,
    /// `log/`
    LogBatch,
    /// `logrun/`
    LogRun,
    /// `logtrim/`
    LogTrim,
    /// `heartbeat/`
    Heartbeat,
    /// `mark/`
    Mark,
    /// `point-header/`
    PointHeader,
    /// `point/`
    Point,
    /// `forget/`
    Forget,
    /// `forget-point/`
    ForgetPoint,
    /// `hold-release/`
    HoldRelease,
}

/// How it is found out that two objects of one name and one length are not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// Not at all: names are random or tell the content.
    Never,
    /// The newest that both have of each folder.
    Newest,
    /// All that both have: there are few, and two writers may well have taken one number.
    All,
}

/// The most bytes of small notices and of what has no cap of its own.
const SMALL_BYTES_MAX: u64 = 16 << 20;
/// The most bytes of what may be long: packs, logs, segments.
const LARGE_BYTES_MAX: u64 = crate::store::GET_BYTES_MAX;

impl Kind {
    /// All kinds, in the order in which they are looked at: whoever refers to something before that to
    /// which it refers, so that all that was listed finds what it needs in what is listed later. What
    /// takes the place of batches comes after them as well: segments, and trims, which say of what is
    /// gone that it may be.
    pub(super) const BY_REFERENCE: [Self; 20] = [
        Self::HoldRelease,
        Self::Mark,
        Self::Heartbeat,
        Self::Forget,
        Self::ForgetPoint,
        Self::Point,
        Self::PointHeader,
        Self::LogBatch,
        Self::LogSegment,
        Self::LogRun,
        Self::LogTrim,
        Self::Session,
        Self::Snapshot,
        Self::Index,
        Self::Meta,
        Self::Data,
        Self::Hold,
        Self::KeyTest,
        Self::Writer,
        Self::KeySlot,
    ];

    /// Returns the first part of its paths, which is what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeySlot => "key",
            Self::Writer => "writer",
            Self::KeyTest => "key-test",
            Self::Hold => "hold",
            Self::Data => "pack",
            Self::Meta => "meta",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Session => "session",
            Self::LogSegment => "logseg",
            Self::LogBatch => "log",
            Self::LogRun => "logrun",
            Self::LogTrim => "logtrim",
            Self::Heartbeat => "heartbeat",
            Self::Mark => "mark",
            Self::PointHeader => "point-header",
            Self::Point => "point",
            Self::Forget => "forget",
            Self::ForgetPoint => "forget-point",
            Self::HoldRelease => "hold-release",
        }
    }

    fn object_type(self) -> ObjectType {
        match self {
            Self::KeySlot => ObjectType::KeySlot,
            Self::Writer => ObjectType::WriterCertificate,
            Self::KeyTest => ObjectType::KeyTest,
            Self::Hold => ObjectType::Hold,
            Self::Data => ObjectType::DataPack,
            Self::Meta => ObjectType::MetaPack,
            Self::Index => ObjectType::IndexSegment,
            Self::Snapshot => ObjectType::Snapshot,
            Self::Session => ObjectType::Session,
            Self::LogSegment => ObjectType::LogSegment,
            Self::LogBatch | Self::LogRun => ObjectType::LogBatch,
            Self::LogTrim => ObjectType::LogTrim,
            Self::Heartbeat => ObjectType::Heartbeat,
            Self::Mark => ObjectType::Mark,
            Self::PointHeader | Self::Point => ObjectType::Point,
            Self::Forget => ObjectType::Forget,
            Self::ForgetPoint => ObjectType::ForgetPoint,
            Self::HoldRelease => ObjectType::HoldRelease,
        }
    }

    /// Returns how many levels of folders stand above what is listed at once, so that no listing has to
    /// hold a whole repository.
    pub(super) fn depth(self) -> usize {
        match self {
            Self::KeySlot | Self::Writer | Self::KeyTest | Self::Hold | Self::HoldRelease => 0,
            Self::LogBatch | Self::Heartbeat => 2,
            _ => 1,
        }
    }

    /// Says whether the oldest has to be there before the next: chains and logs have no gaps.
    pub(super) fn is_chained(self) -> bool {
        matches!(
            self,
            Self::LogSegment | Self::LogBatch | Self::Mark | Self::PointHeader | Self::Point
        )
    }

    /// Says whether what was not listed at first has to wait for the next time, since what it refers to
    /// may not have been listed.
    pub(super) fn refers(self) -> bool {
        matches!(
            self,
            Self::Forget
                | Self::ForgetPoint
                | Self::Point
                | Self::PointHeader
                | Self::LogTrim
                | Self::LogRun
                | Self::LogBatch
                | Self::LogSegment
                | Self::Snapshot
                | Self::Index
        )
    }

    /// Says whether it speaks of the batches of a log by their numbers.
    pub(super) fn is_log(self) -> bool {
        matches!(self, Self::LogTrim | Self::LogRun | Self::LogSegment | Self::LogBatch)
    }

    /// Says whether it is a pack: named by its content, and most of what there is.
    pub(super) fn is_pack(self) -> bool {
        matches!(self, Self::Data | Self::Meta)
    }

    pub(super) fn compare(self) -> Compare {
        match self {
            Self::Mark | Self::KeyTest => Compare::All,
            // Each batch holds the hash of the one before it: the newest speaks for all.
            Self::LogBatch | Self::LogTrim | Self::Heartbeat => Compare::Newest,
            _ => Compare::Never,
        }
    }

    pub(super) fn size_max(self) -> u64 {
        match self {
            Self::Data | Self::Meta | Self::Index | Self::LogBatch | Self::LogSegment => {
                LARGE_BYTES_MAX
            }
            _ => SMALL_BYTES_MAX,
        }
    }

    /// Says whether a path below it is one that can be copied. Others are of no known name: readers
    /// pass them over, and so does a copy.
    pub(super) fn knows(self, path: &str) -> bool {
        !self.is_pack() || pack_of(path).is_some()
    }

    /// Checks of an object what can be checked without a key: of a pack all of its bytes, of a key slot
    /// its checksum, of others that they begin as such an object does.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported` where it is of a version that is not known.
    pub(super) fn check(self, path: &str, object: &[u8]) -> Result<()> {
        let corrupt = |why| Error::new(ErrorKind::Corrupt, "read object", path).detail(why);
        if self.is_pack() {
            let hash = blake3::hash(object);
            let is_named_so = pack_of(path).is_some_and(|name| name.0 == *hash.as_bytes());
            return if is_named_so { Ok(()) } else { Err(corrupt("its bytes are not its name's")) };
        }
        Header::split_off(object, self.object_type(), path)?;
        if self == Self::KeySlot && !is_plain_intact(object) {
            return Err(corrupt("its checksum does not hold"));
        }
        Ok(())
    }
}

/// Reads the name of a pack from its path.
fn pack_of(path: &str) -> Option<PackName> {
    let mut parts = path.split('/').skip(1);
    let (folder, name) = (parts.next()?, parts.next()?);
    let pack = name.parse().ok()?;
    (parts.next().is_none() && name.get(..2) == Some(folder)).then_some(pack)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_is_looked_at_once_and_referents_come_later() {
        let all: BTreeSet<_> = Kind::BY_REFERENCE.into_iter().collect();
        assert_eq!(all.len(), Kind::BY_REFERENCE.len());
        let names: BTreeSet<_> = all.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), all.len());
        let at = |kind| Kind::BY_REFERENCE.iter().position(|other| *other == kind);
        for (referrer, referent) in [
            (Kind::Point, Kind::Snapshot),
            (Kind::Mark, Kind::Point),
            (Kind::LogBatch, Kind::Snapshot),
            (Kind::LogBatch, Kind::LogRun),
            (Kind::LogSegment, Kind::LogRun),
            // Batches go once a segment has them, or a trim says that nobody needs them; runs as well.
            (Kind::LogBatch, Kind::LogSegment),
            (Kind::LogSegment, Kind::LogTrim),
            (Kind::LogRun, Kind::LogTrim),
            (Kind::Forget, Kind::Snapshot),
            (Kind::ForgetPoint, Kind::Point),
            (Kind::Snapshot, Kind::Index),
            (Kind::Index, Kind::Data),
            (Kind::Index, Kind::Meta),
        ] {
            assert!(at(referrer) < at(referent), "{referrer:?} before {referent:?}");
        }
    }

    #[test]
    fn packs_are_named_by_their_bytes() {
        let name = blake3::hash(b"bytes").to_string();
        let path = format!("pack/{}/{name}", &name[..2]);
        assert!(Kind::Data.knows(&path));
        Kind::Data.check(&path, b"bytes").expect("its name");
        let error = Kind::Data.check(&path, b"other").expect_err("other bytes");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        for bad in ["pack/00/x", "pack/x", &format!("pack/zz/{name}"), &format!("{path}/x")] {
            assert!(!Kind::Data.knows(bad), "{bad}");
        }
    }

    #[test]
    fn other_objects_begin_as_their_kind_does() {
        let header = Header::new(ObjectType::Snapshot).to_bytes();
        Kind::Snapshot.check("snapshot/x", &header).expect("header");
        for bad in [&b"short"[..], &[0; 40], &Header::new(ObjectType::Mark).to_bytes()] {
            let error = Kind::Snapshot.check("snapshot/x", bad).expect_err("no snapshot");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let slot = Header::new(ObjectType::KeySlot).to_bytes();
        let error = Kind::KeySlot.check("key/x", &slot).expect_err("no checksum");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
