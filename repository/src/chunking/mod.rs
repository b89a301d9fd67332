//! Cutting content into chunks, by content and under a secret table.
//!
//! The cut is FastCDC's: a gear hash of the last 64 bytes, a strict condition before the average and a
//! lax one behind it. Cut points decide what is found again, so the algorithm is frozen by golden
//! tests; readers never cut. What a cut depends on: the table, the class, and the bytes since the
//! cut before it.

use model::ContentClass;
use zeroize::Zeroizing;

use crate::crypto::DomainKeys;

/// How many bytes the gear hash remembers: it is shifted by one bit per byte.
const WINDOW: usize = 64;
/// How many bits more than the average asks for must be zero before it, and fewer behind it.
const NORMALISATION_BITS: u32 = 1;

/// The least, average and greatest length of chunks of a class, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// No chunk but the last of an extent is shorter.
    pub min: u32,
    /// What cuts aim at.
    pub average: u32,
    /// No chunk is longer.
    pub max: u32,
}

/// Returns how a class is cut. Where all three lengths are equal, the cuts are fixed.
pub fn profile(class: ContentClass) -> Profile {
    match class {
        ContentClass::General | ContentClass::Lake => {
            Profile { min: 256 << 10, average: 1 << 20, max: 4 << 20 }
        }
        // A multiple of every page size in use: a page that changes changes one chunk.
        ContentClass::Database => Profile { min: 64 << 10, average: 64 << 10, max: 64 << 10 },
        ContentClass::Dump => Profile { min: 16 << 10, average: 64 << 10, max: 256 << 10 },
    }
}

/// Finds the cuts of one extent.
pub struct Cutter {
    min: usize,
    average: usize,
    max: usize,
    /// What the hash does not exceed where a chunk ends before the average, and behind it.
    strict: u64,
    lax: u64,
    table: Zeroizing<[u64; 256]>,
    /// How far into the present chunk was looked, and the hash there.
    at: usize,
    hash: u64,
}

impl Cutter {
    /// Begins an extent.
    pub fn new(class: ContentClass, keys: &DomainKeys) -> Self {
        Self::with_profile(profile(class), keys.gear_table())
    }

    fn with_profile(profile: Profile, table: &[u64; 256]) -> Self {
        let bits = profile.average.max(1).ilog2();
        Self {
            min: profile.min as usize,
            average: profile.average as usize,
            max: profile.max as usize,
            strict: limit(bits + NORMALISATION_BITS),
            lax: limit(bits.saturating_sub(NORMALISATION_BITS)),
            table: Zeroizing::new(*table),
            at: 0,
            hash: 0,
        }
    }

    /// Returns the length of the first chunk of `bytes`; none where more bytes are needed to tell and
    /// `is_end` is false. After none the next call gives the same bytes and more; after a length it
    /// begins behind the chunk. At the end of the extent all that is left is the last chunk, and none
    /// is returned where nothing is left.
    pub fn cut(&mut self, bytes: &[u8], is_end: bool) -> Option<usize> {
        let found = self.find(bytes).or_else(|| {
            let is_chunk = bytes.len() >= self.max || (is_end && !bytes.is_empty());
            is_chunk.then_some(bytes.len().min(self.max))
        });
        if found.is_some() {
            (self.at, self.hash) = (0, 0);
        }
        found
    }

    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.min == self.max {
            return (bytes.len() >= self.max).then_some(self.max);
        }
        // The hash is warm when the first place is judged: cuts depend on the same 64 bytes wherever
        // the chunk began.
        self.at = self.at.max(self.min.saturating_sub(WINDOW));
        let warming = bytes.get(self.at..self.min.min(bytes.len())).unwrap_or_default();
        self.hash = warming.iter().fold(self.hash, |hash, byte| step(&self.table, hash, *byte));
        self.at += warming.len();
        let (strict, lax) = (self.strict, self.lax);
        self.scan(bytes, self.average, strict).or_else(|| self.scan(bytes, self.max, lax))
    }

    /// Advances up to `end`; stops behind the first byte at which the hash is not above the limit.
    fn scan(&mut self, bytes: &[u8], end: usize, limit: u64) -> Option<usize> {
        let rest = bytes.get(self.at..end.min(bytes.len()))?;
        let (blocks, _) = rest.as_chunks::<8>();
        // Whole blocks without a cut are passed over fast; the one with it is gone through bytewise.
        for block in blocks {
            let hashes = eight_steps(&self.table, self.hash, *block);
            if hashes.iter().any(|hash| *hash <= limit) {
                break;
            }
            let [.., last] = hashes;
            self.hash = last;
            self.at += block.len();
        }
        for byte in bytes.get(self.at..end.min(bytes.len()))? {
            self.hash = step(&self.table, self.hash, *byte);
            self.at += 1;
            if self.hash <= limit {
                return Some(self.at);
            }
        }
        None
    }
}

fn step(table: &[u64; 256], hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(table[usize::from(byte)])
}

/// The hashes after each of eight bytes. What does not depend on the hash before is added up apart, so
/// that one step does not wait for the other: twice as fast as eight single ones.
#[inline]
fn eight_steps(table: &[u64; 256], hash: u64, block: [u8; 8]) -> [u64; 8] {
    let gear = |byte: u8| table[usize::from(byte)];
    let [a, b, c, d, e, f, g, h] = block;
    let (a, b, c, d) = (gear(a), gear(b), gear(c), gear(d));
    let (e, f, g, h) = (gear(e), gear(f), gear(g), gear(h));
    let ab = (a << 1).wrapping_add(b);
    let abc = (ab << 1).wrapping_add(c);
    let abcd = (abc << 1).wrapping_add(d);
    let ef = (e << 1).wrapping_add(f);
    let efg = (ef << 1).wrapping_add(g);
    let efgh = (efg << 1).wrapping_add(h);
    let fourth = (hash << 4).wrapping_add(abcd);
    [
        (hash << 1).wrapping_add(a),
        (hash << 2).wrapping_add(ab),
        (hash << 3).wrapping_add(abc),
        fourth,
        (fourth << 1).wrapping_add(e),
        (fourth << 2).wrapping_add(ef),
        (fourth << 3).wrapping_add(efg),
        (fourth << 4).wrapping_add(efgh),
    ]
}

/// The greatest number whose highest bits are zero: they are those that all 64 bytes of the window
/// reach.
fn limit(bits: u32) -> u64 {
    u64::MAX.checked_shr(bits).unwrap_or(0)
}

#[cfg(test)]
mod tests;
