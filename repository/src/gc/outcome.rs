//! What a generation has decided: the packs that are deleted, and the index segments that others
//! have taken the place of. It never changes, so that every collector that goes on with a generation
//! deletes the same, however late it comes.

use model::{Error, ErrorKind, Result};

use super::{PACKS_MAX, SET_FORMAT, Stage, gc_path};
use crate::crypto::KeyRing;
use crate::format::ObjectType;
use crate::format::envelope::{open_object, seal_object};
use crate::types::{Number, PackName};

/// The most segments that one generation replaces.
const SEGMENTS_MAX: usize = 64 << 10;
/// The most bytes of a segment's path.
const PATH_BYTES_MAX: usize = 512;

/// What a generation deletes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Packs, ascending.
    pub(crate) packs: Vec<PackName>,
    /// Paths of index segments, ascending.
    pub(crate) segments: Vec<String>,
}

impl Outcome {
    /// Puts both in order, as they are stored. Of more segments than one generation replaces the rest
    /// is left to the next.
    pub(super) fn new(mut packs: Vec<PackName>, mut segments: Vec<String>) -> Self {
        packs.sort_unstable();
        packs.dedup();
        segments.sort_unstable();
        segments.dedup();
        segments.truncate(SEGMENTS_MAX);
        Self { packs, segments }
    }

    pub(super) fn seal(&self, keys: &KeyRing, generation: Number) -> Result<Vec<u8>> {
        let path = gc_path(generation, Stage::Outcome);
        if self.packs.len() > PACKS_MAX || self.segments.len() > SEGMENTS_MAX {
            return Err(Error::new(ErrorKind::Exhausted, "decide what is deleted in", path));
        }
        let mut plaintext = vec![SET_FORMAT];
        plaintext.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        self.packs.iter().for_each(|pack| plaintext.extend_from_slice(&pack.0));
        plaintext.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            plaintext.extend_from_slice(&(segment.len() as u16).to_le_bytes());
            plaintext.extend_from_slice(segment.as_bytes());
        }
        seal_object(keys, ObjectType::GcOutcome, &path, &plaintext)
    }

    /// Opens what [`Outcome::seal`] sealed. A path that is not that of a segment is refused: nothing
    /// else is ever deleted by it.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported`.
    pub(crate) fn open(keys: &KeyRing, generation: Number, object: &[u8]) -> Result<Self> {
        let path = gc_path(generation, Stage::Outcome);
        let plaintext = open_object(keys, ObjectType::GcOutcome, &path, object)?;
        Self::decode(&plaintext)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "read what is deleted", path))
    }

    fn decode(plaintext: &[u8]) -> Option<Self> {
        let (&format, rest) = plaintext.split_first()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        if format != SET_FORMAT || count > PACKS_MAX {
            return None;
        }
        let (names, rest) = rest.split_at_checked(count.checked_mul(32)?)?;
        let packs: Vec<_> = names.as_chunks::<32>().0.iter().map(|name| PackName(*name)).collect();
        let (count, mut rest) = rest.split_first_chunk()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        if count > SEGMENTS_MAX {
            return None;
        }
        let mut segments = Vec::new();
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk()?;
            let (path, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
            segments.push(read_segment_path(path)?);
            rest = after;
        }
        let is_sound = rest.is_empty()
            && packs.is_sorted_by(|a, b| a < b)
            && segments.is_sorted_by(|a, b| a < b);
        is_sound.then_some(Self { packs, segments })
    }
}

/// Reads `index/<16 hexadecimal digits>/<components>`.
fn read_segment_path(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let (tag, name) = path.strip_prefix("index/")?.split_once('/')?;
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
    let is_component =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_plain);
    let is_sound = path.len() <= PATH_BYTES_MAX
        && crate::types::from_hex::<8>(tag).is_some()
        && name.split('/').all(is_component);
    is_sound.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::testing::ring;
    use crate::types::hex;

    const SEGMENT: &str = "index/0011223344556677/prod.etc/4189374b/fffffffed3-00-0000";

    fn outcome() -> Outcome {
        let packs = [2, 1, 2].map(|seed| PackName([seed; 32])).to_vec();
        let other = "index/0011223344556677/merged/fffffffffe-00-0001".to_owned();
        Outcome::new(packs, vec![SEGMENT.to_owned(), other])
    }

    #[test]
    fn golden_bytes() {
        let number = Number::new(7).expect("number");
        let sealed = outcome().seal(&ring(1), number).expect("seal");
        assert_eq!(hex(blake3::hash(&sealed).as_bytes()), GOLDEN, "part of the format");
        assert_eq!(Outcome::open(&ring(1), number, &sealed).expect("open"), outcome());
        let elsewhere = Number::new(8).expect("number");
        let error = Outcome::open(&ring(1), elsewhere, &sealed).expect_err("elsewhere");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    const GOLDEN: &str = "56e8a99338fbe62c803028a0bd8ad68fdec993c88f6231754aad46e17be157ab";

    #[test]
    fn only_paths_of_segments_are_taken() {
        assert_eq!(read_segment_path(SEGMENT.as_bytes()).as_deref(), Some(SEGMENT));
        for bad in [
            "",
            "index/0011223344556677",
            "index/0011223344556677/",
            "index/0011223344556677/../../lifeboat",
            "index/0011223344556677//x",
            "index/x/y",
            "snapshot/0011223344556677/y",
            "index/0011223344556677/A",
            "index/0011223344556677/a b",
        ] {
            assert_eq!(read_segment_path(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_out_of_order_or_too_long_is_refused() {
        let set = |packs: &[u8], segments: &[&str]| {
            let mut bytes = vec![SET_FORMAT];
            bytes.extend_from_slice(&(packs.len() as u32).to_le_bytes());
            packs.iter().for_each(|seed| bytes.extend_from_slice(&[*seed; 32]));
            bytes.extend_from_slice(&(segments.len() as u32).to_le_bytes());
            for segment in segments {
                bytes.extend_from_slice(&(segment.len() as u16).to_le_bytes());
                bytes.extend_from_slice(segment.as_bytes());
            }
            bytes
        };
        assert!(Outcome::decode(&set(&[], &[])).is_some());
        assert!(Outcome::decode(&set(&[1, 2], &[SEGMENT])).is_some());
        let longer = [set(&[1], &[]), vec![0]].concat();
        let shorter = set(&[1], &[SEGMENT])[..60].to_vec();
        let bad = [set(&[2, 1], &[]), set(&[1], &[SEGMENT, SEGMENT]), longer, shorter, vec![]];
        for bad in bad {
            assert_eq!(Outcome::decode(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Outcome::decode(&bytes);
        }
    }
}
