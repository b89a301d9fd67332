//! The code itself: columns of shards through the library.
//!
//! Every column of two bytes is a code word of its own, so that a pack is taken in stripes that fit in
//! the processor's caches. Which code it is stands in `docs/repository-format.md` §3.7, and is checked
//! against the definition by a test: what the library computes must never change.

use std::ops::Range;

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{
    HighRateDecoder, HighRateEncoder, RateDecoder as _, RateEncoder as _,
};

use super::{Geometry, Shards};

/// How wide a stripe is.
const STRIPE_BYTES: usize = 2048;

fn stripes(shard_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..shard_bytes).step_by(STRIPE_BYTES);
    starts.map(move |start| start..shard_bytes.min(start + STRIPE_BYTES))
}

/// Computes the parity shards; gives stripe by stripe the number of each, its columns and their bytes.
pub(super) fn encode(
    geometry: &Geometry,
    shards: &Shards<'_>,
    mut put: impl FnMut(usize, Range<usize>, &[u8]) -> Option<()>,
) -> Option<()> {
    let Geometry { shards: count, parity, shard_bytes, .. } = *geometry;
    let width = shard_bytes.min(STRIPE_BYTES);
    let mut encoder =
        HighRateEncoder::new(count, parity, width, DefaultEngine::new(), None).ok()?;
    for columns in stripes(shard_bytes) {
        encoder.reset(count, parity, columns.len()).ok()?;
        for number in 0..count {
            encoder.add_original_shard(shards.get(number, columns.clone())?).ok()?;
        }
        let encoded = encoder.encode().ok()?;
        for (number, bytes) in encoded.recovery_iter().enumerate() {
            put(number, columns.clone(), bytes)?;
        }
    }
    Some(())
}

/// Computes shards that are lost from all others and as many parity shards, which are given with their
/// numbers.
pub(super) fn decode(
    geometry: &Geometry,
    shards: &Shards<'_>,
    is_lost: &[bool],
    parity: &[(usize, &[u8])],
    mut put: impl FnMut(usize, Range<usize>, &[u8]),
) -> Option<()> {
    let Geometry { shards: count, parity: parity_count, shard_bytes, .. } = *geometry;
    let width = shard_bytes.min(STRIPE_BYTES);
    let mut decoder =
        HighRateDecoder::new(count, parity_count, width, DefaultEngine::new(), None).ok()?;
    for columns in stripes(shard_bytes) {
        decoder.reset(count, parity_count, columns.len()).ok()?;
        for (number, _) in is_lost.iter().enumerate().filter(|(_, is_lost)| !**is_lost) {
            let bytes = shards.get(number, columns.clone())?;
            decoder.add_original_shard(number, bytes).ok()?;
        }
        for (number, bytes) in parity {
            decoder.add_recovery_shard(*number, bytes.get(columns.clone())?).ok()?;
        }
        for (number, bytes) in decoder.decode().ok()?.restored_original_iter() {
            put(number, columns.clone(), bytes);
        }
    }
    Some(())
}
