//! Parity: what makes a pack whole again whose bytes were damaged in a few places, without a key.
//!
//! The bytes of a pack are cut into shards; a systematic Reed–Solomon code gives further ones, which
//! stand in the pack itself, between its blocks and its table of contents, and are covered by its name.
//! So a pack with parity is one object like any other: it is created at once, copied, collected and
//! verified as packs are, and readers of blocks need not know of it.
//!
//! Each parity shard is a record that says everything that is needed to use it: how the pack was cut,
//! checks of all shards, a check of its own. Whatever number of shards is lost, as many records as are
//! needed to make up for them are enough to do it. `docs/repository-format.md` §3.7 has the bytes.

mod code;
mod heal;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use heal::heal;

use super::{HEADER_BYTES, PACK_BYTES_MAX};

/// What a record begins with.
const MAGIC: [u8; 8] = *b"LBPARITY";
/// What stands in a record before the checks of the shards.
const HEAD_BYTES: usize = 28;
/// The check of one shard.
const SHARD_CHECK_BYTES: usize = 4;
/// The check of a whole record, at its end.
const RECORD_CHECK_BYTES: usize = 16;
/// The shortest shards that are written: what disks read and lose at once.
const SHARD_BYTES_MIN: usize = 4096;
/// The longest that are read.
const SHARD_BYTES_MAX: usize = 1 << 20;
/// The square of a shard's length is at least so many times the length of what is cut, so that checks
/// stay short beside shards.
const SQUARE_RATIO: usize = 64;
/// One parity shard is written for so many others.
const SHARDS_PER_PARITY: usize = 16;
/// However few the others are.
const PARITY_MIN: usize = 2;
/// The most parity shards that are read.
const PARITY_MAX: usize = 4096;

/// How a pack is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Geometry {
    /// Of one shard.
    shard_bytes: usize,
    /// Shards of the pack's bytes without its parity.
    shards: usize,
    /// Parity shards.
    parity: usize,
    /// Of the whole pack.
    object_bytes: usize,
    /// Where the first record stands.
    offset: usize,
}

/// Returns how many bytes of parity a pack gets that has so many without.
pub(super) fn parity_bytes(bare_bytes: usize) -> usize {
    let (shard_bytes, shards, parity) = usual(bare_bytes);
    parity * record_bytes(shard_bytes, shards)
}

/// Writes parity into the room that was left for it in a pack that is otherwise complete; false where
/// the room has another length than it should.
#[must_use]
pub(super) fn write_parity(object: &mut [u8], room: Range<usize>) -> bool {
    let Some(bare_bytes) = object.len().checked_sub(room.len()) else { return false };
    let (shard_bytes, shards, parity) = usual(bare_bytes);
    let object_bytes = object.len();
    let geometry = Geometry { shard_bytes, shards, parity, object_bytes, offset: room.start };
    geometry.room() == Some(room) && geometry.write(object).is_some()
}

/// The usual cut of so many bytes: length of a shard, shards, parity shards.
fn usual(bare_bytes: usize) -> (usize, usize, usize) {
    let mut shard_bytes = SHARD_BYTES_MIN;
    while shard_bytes * shard_bytes < SQUARE_RATIO * bare_bytes {
        shard_bytes *= 2;
    }
    let shards = bare_bytes.div_ceil(shard_bytes).max(1);
    (shard_bytes, shards, shards.div_ceil(SHARDS_PER_PARITY).max(PARITY_MIN))
}

fn record_bytes(shard_bytes: usize, shards: usize) -> usize {
    HEAD_BYTES + shards * SHARD_CHECK_BYTES + shard_bytes + RECORD_CHECK_BYTES
}

fn shard_check(shard: &[u8]) -> [u8; SHARD_CHECK_BYTES] {
    blake3::hash(shard).as_bytes().first_chunk().copied().unwrap_or_default()
}

fn record_check(record: &[u8]) -> [u8; RECORD_CHECK_BYTES] {
    blake3::hash(record).as_bytes().first_chunk().copied().unwrap_or_default()
}

impl Geometry {
    fn record_bytes(&self) -> usize {
        record_bytes(self.shard_bytes, self.shards)
    }

    /// Where the records stand; none where they do not fit in the pack.
    fn room(&self) -> Option<Range<usize>> {
        let length = self.parity.checked_mul(self.record_bytes())?;
        let end = self.offset.checked_add(length)?;
        (end <= self.object_bytes).then_some(self.offset..end)
    }

    /// Says whether a pack can be cut so.
    fn is_sound(&self) -> bool {
        let Self { shard_bytes, shards, parity, object_bytes, offset } = *self;
        let is_within = shard_bytes.is_power_of_two()
            && (64..=SHARD_BYTES_MAX).contains(&shard_bytes)
            && (1..=PARITY_MAX).contains(&parity)
            && shards <= usize::from(u16::MAX) / 2
            && offset >= HEADER_BYTES
            && object_bytes <= PACK_BYTES_MAX;
        let Some(room) = self.room().filter(|_| is_within) else { return false };
        (object_bytes - room.len()).div_ceil(shard_bytes) == shards
    }

    /// Cuts a pack of the right length.
    fn cut<'o>(&self, object: &'o [u8]) -> Option<Shards<'o>> {
        let room = self.room()?;
        let (head, tail) = (object.get(..room.start)?, object.get(room.end..)?);
        let whole = room.start / self.shard_bytes;
        let mut rest = head.get(whole * self.shard_bytes..)?.to_vec();
        rest.extend_from_slice(tail);
        rest.resize(self.shards.checked_sub(whole)?.checked_mul(self.shard_bytes)?, 0);
        Some(Shards { shard_bytes: self.shard_bytes, whole, head, rest })
    }

    /// Writes all records of a pack that is otherwise complete.
    fn write(&self, object: &mut [u8]) -> Option<()> {
        let room = self.room()?;
        let shards = self.cut(object)?;
        let mut head = Vec::with_capacity(HEAD_BYTES + self.shards * SHARD_CHECK_BYTES);
        head.extend_from_slice(&MAGIC);
        // The number of the record, which each gets later.
        head.extend_from_slice(&[0; 2]);
        for number in [self.shards, self.parity, 0] {
            head.extend_from_slice(&u16::try_from(number).ok()?.to_le_bytes());
        }
        for number in [self.shard_bytes, self.object_bytes, self.offset] {
            head.extend_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
        }
        for number in 0..self.shards {
            head.extend_from_slice(&shard_check(shards.get(number, 0..self.shard_bytes)?));
        }
        let mut records = vec![0; room.len()];
        for (number, record) in records.chunks_exact_mut(self.record_bytes()).enumerate() {
            record.get_mut(..head.len())?.copy_from_slice(&head);
            let number = u16::try_from(number).ok()?.to_le_bytes();
            record.get_mut(MAGIC.len()..MAGIC.len() + 2)?.copy_from_slice(&number);
        }
        code::encode(self, &shards, |number, columns, bytes| {
            let at = number * self.record_bytes() + head.len() + columns.start;
            let to = records.get_mut(at..at + bytes.len());
            to.map(|to| to.copy_from_slice(bytes))
        })?;
        for record in records.chunks_exact_mut(self.record_bytes()) {
            let (checked, check) = record.split_last_chunk_mut::<RECORD_CHECK_BYTES>()?;
            *check = record_check(checked);
        }
        object.get_mut(room)?.copy_from_slice(&records);
        Some(())
    }
}

/// The shards of a pack: its bytes but those of its parity, one after another, then zero bytes.
struct Shards<'o> {
    shard_bytes: usize,
    /// How many lie wholly before the parity.
    whole: usize,
    head: &'o [u8],
    /// The others.
    rest: Vec<u8>,
}

impl Shards<'_> {
    /// Returns some columns of a shard.
    fn get(&self, number: usize, columns: Range<usize>) -> Option<&[u8]> {
        let (bytes, number) = match number.checked_sub(self.whole) {
            None => (self.head, number),
            Some(number) => (&self.rest[..], number),
        };
        let at = number.checked_mul(self.shard_bytes)?;
        bytes.get(at + columns.start..at + columns.end)
    }
}
