//! Reading content as its contract says, and complaining where it is not kept.

use std::ops::Range;

use bytes::Bytes;
use model::{Content, Error, ErrorKind, ExtentBody, Item, Result};

use super::must;
use crate::Random;
use crate::crc32c::stripe_checksums;

/// Reads an item's whole content, holes as zero bytes.
///
/// # Errors
/// Those of the content; `Invalid` where an extent is not as long as listed.
pub async fn read_content(content: &dyn Content, item: &Item) -> Result<Bytes> {
    let mut whole = Vec::new();
    for (index, extent) in item.extents.iter().enumerate() {
        if extent.body == ExtentBody::Hole {
            whole.resize(whole.len() + extent.length_bytes as usize, 0);
        } else {
            whole.extend_from_slice(
                &read_range(content, item, index, 0..extent.length_bytes).await?,
            );
        }
    }
    Ok(whole.into())
}

/// Reads a range of an extent.
///
/// # Errors
/// Those of the content; `Invalid` where a piece is empty or the range is not read to its end.
pub async fn read_range(
    content: &dyn Content,
    item: &Item,
    extent: usize,
    range: Range<u64>,
) -> Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    let mut reader = content.open(item, extent, range).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        if piece.is_empty() {
            return Err(broken(item, "a piece of content is empty"));
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() as u64 != length {
        return Err(broken(item, "a range is not read to its end, or past it"));
    }
    Ok(bytes.into())
}

fn broken(item: &Item, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, "read content", item.key.display()).detail(why)
}

/// Checks that ranges are slices, and that checksums are those of the bytes.
pub(super) async fn check_ranges(content: &dyn Content, item: &Item, random: &mut Random) {
    for (index, extent) in item.extents.iter().enumerate() {
        let ExtentBody::Data { identity, checksums } = &extent.body else { continue };
        let name = format!("extent {index} of {:?}", item.key);
        if let Some(identity) = identity {
            assert!(!identity.0.is_empty(), "{name} has an empty identity");
        }
        let whole = must(&name, read_range(content, item, index, 0..extent.length_bytes).await);
        if let Some(checksums) = checksums {
            assert_ne!(checksums.stripe_bytes, 0, "{name} has stripes of no length");
            let expected = stripe_checksums(&whole, checksums.stripe_bytes);
            assert_eq!(*checksums, expected, "{name} has checksums of other bytes");
        }
        let end = extent.length_bytes;
        let (a, b) = (random.below(end + 1), random.below(end + 1));
        for range in [0..0, end..end, 0..a, a..end, a.min(b)..a.max(b)] {
            let slice = must(&name, read_range(content, item, index, range.clone()).await);
            let expected = whole.slice(range.start as usize..range.end as usize);
            assert!(slice == expected, "{name}: range {range:?} is not a slice of the whole");
        }
    }
}
