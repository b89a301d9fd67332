//! Where a level of nodes is split: after which entries a node ends.
//!
//! The decision depends on the entries since the node's start and on nothing else, so that the same
//! map always has the same nodes, whatever the order in which it came to be. After a change the
//! boundaries fall back on the old ones, as they hang on keys and only loosely on sizes.

use crate::crypto::DomainKeys;

/// A node of this size or more ends with its next entry.
pub(super) const SIZE_MAX_BYTES: u64 = 256 << 10;
/// A smaller node ends only with its level.
const SIZE_MIN_BYTES: u64 = 4 << 10;
/// What an entry counts besides its key and its value.
const ENTRY_BYTES: u64 = 8;
/// What the value of an interior entry counts: an id and the totals.
pub(super) const CHILD_BYTES: u64 = 48;
/// Interior nodes have at least so many entries, or a level of huge keys would be no smaller than the
/// one below it.
pub(super) const CHILDREN_MIN: u64 = 4;

/// Follows the entries of one level.
#[derive(Debug)]
pub(super) struct Splitter {
    level: u8,
    size_bytes: u64,
    entries: u64,
    scratch: Vec<u8>,
}

impl Splitter {
    pub(super) fn new(level: u8) -> Self {
        Self { level, size_bytes: 0, entries: 0, scratch: Vec::new() }
    }

    /// Takes the next entry and says whether the node ends after it; then the next node begins.
    pub(super) fn ends_after(&mut self, keys: &DomainKeys, key: &[u8], value_bytes: u64) -> bool {
        let entry_bytes = entry_bytes(key, value_bytes);
        self.size_bytes = self.size_bytes.saturating_add(entry_bytes);
        self.entries += 1;
        let is_end = self.is_end(keys, key, entry_bytes);
        if is_end {
            (self.size_bytes, self.entries) = (0, 0);
        }
        is_end
    }

    /// The chance of an end grows with the third power of the size (a Weibull distribution of shape 4
    /// and scale 64 KiB): sizes lie close around their mean of 58 KiB, which an even chance per byte
    /// would spread from nothing to several times that.
    fn is_end(&mut self, keys: &DomainKeys, key: &[u8], entry_bytes: u64) -> bool {
        let entries_min = if self.level == 0 { 1 } else { CHILDREN_MIN };
        if self.entries < entries_min || self.size_bytes < SIZE_MIN_BYTES {
            return false;
        }
        if self.size_bytes >= SIZE_MAX_BYTES {
            return true;
        }
        self.scratch.clear();
        // Each level draws anew: the last keys of nodes are those with small hashes one level below.
        self.scratch.push(self.level);
        self.scratch.extend_from_slice(key);
        let drawn = u128::from(keys.split_hash(&self.scratch) >> 32);
        drawn < (u128::from(entry_bytes) * u128::from(self.size_bytes).pow(3)) >> 30
    }
}

/// Returns what an entry counts.
pub(super) fn entry_bytes(key: &[u8], value_bytes: u64) -> u64 {
    (key.len() as u64).saturating_add(value_bytes).saturating_add(ENTRY_BYTES)
}
