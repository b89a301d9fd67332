//! Making a damaged pack whole again from its parity. Needs no key: what comes out has the pack's name,
//! or nothing comes out.

use std::cmp::Reverse;
use std::collections::HashMap;

use model::{Error, ErrorKind, Result};

use super::super::contents::Footer;
use super::{
    Geometry, HEAD_BYTES, MAGIC, RECORD_CHECK_BYTES, SHARD_CHECK_BYTES, code, parity_bytes,
    record_check, shard_check, usual,
};
use crate::types::PackName;

/// How many places are looked at that begin like a record: those of a sound pack are far fewer.
const CANDIDATES_MAX: usize = 8192;
/// How many packs are tried of which something is there.
const PACKS_MAX: usize = 4;

/// A record that is intact.
#[derive(Debug, Clone, Copy)]
struct Record<'o> {
    number: usize,
    /// The checks of all shards.
    checks: &'o [u8],
    shard: &'o [u8],
}

/// How a pack was cut, and the records of it that are intact, in ascending order.
type Found<'o> = (Geometry, Vec<Record<'o>>);

/// Makes a pack whole from its bytes as they were found, of which some may be damaged or missing at
/// the end.
///
/// # Errors
/// `Corrupt`, saying why it is beyond what parity can do.
pub(crate) fn heal(found: &[u8], name: PackName) -> Result<Vec<u8>> {
    if *blake3::hash(found).as_bytes() == name.0 {
        return Ok(found.to_vec());
    }
    let mut candidates = find_records(found);
    if candidates.is_empty() {
        candidates.extend(without_records(found).map(|geometry| (geometry, Vec::new())));
    }
    let mut first_error = None;
    for candidate in candidates.iter().take(PACKS_MAX) {
        match heal_as(found, candidate, name) {
            Ok(object) => return Ok(object),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| lost(name, "it has no parity, or nothing is left of it")))
}

fn lost(name: PackName, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "heal pack", name.to_string()).detail(why.to_owned())
}

/// Makes a pack whole that was cut in this way.
fn heal_as(found: &[u8], (geometry, records): &Found<'_>, name: PackName) -> Result<Vec<u8>> {
    let mut object = found.to_vec();
    object.resize(geometry.object_bytes, 0);
    let inconsistent = || lost(name, "its parity makes no sense");
    let shards = geometry.cut(&object).ok_or_else(inconsistent)?;
    let checks = records.first().map_or(&[][..], |record| record.checks);
    let checks = checks.chunks_exact(SHARD_CHECK_BYTES);
    let is_lost = |(number, check): (usize, &[u8])| {
        let shard = shards.get(number, 0..geometry.shard_bytes);
        shard.is_none_or(|shard| shard_check(shard) != *check)
    };
    let is_lost: Vec<_> = checks.enumerate().map(is_lost).collect();
    let count = is_lost.iter().filter(|is_lost| **is_lost).count();
    if count > records.len() {
        let (of, left) = (geometry.shards, records.len());
        let why = format!(
            "{count} of its {of} shards are damaged, and {left} of parity are left to make up for them"
        );
        return Err(lost(name, &why));
    }
    let mut healed = Vec::new();
    if count > 0 {
        let parity: Vec<_> =
            records.iter().take(count).map(|record| (record.number, record.shard)).collect();
        code::decode(geometry, &shards, &is_lost, &parity, |number, columns, bytes| {
            healed.push((number * geometry.shard_bytes + columns.start, bytes.to_vec()));
        })
        .ok_or_else(inconsistent)?;
    }
    drop(shards);
    for (at, bytes) in healed {
        put(&mut object, geometry, at, &bytes).ok_or_else(inconsistent)?;
    }
    geometry.write(&mut object).ok_or_else(inconsistent)?;
    if *blake3::hash(&object).as_bytes() == name.0 {
        return Ok(object);
    }
    Err(lost(name, "what its parity gives is not what it is named after"))
}

/// Puts bytes of shards where they stand in the pack, around its parity; zero bytes behind its end are
/// left out.
pub(super) fn put(object: &mut [u8], geometry: &Geometry, at: usize, bytes: &[u8]) -> Option<()> {
    let room = geometry.room()?;
    let before = room.start.saturating_sub(at).min(bytes.len());
    let (head, tail) = bytes.split_at_checked(before)?;
    object.get_mut(at..at + head.len())?.copy_from_slice(head);
    let at = at + head.len() + room.len();
    let end = object.len().min(at + tail.len());
    if at < end {
        object.get_mut(at..end)?.copy_from_slice(tail.get(..end - at)?);
    }
    Some(())
}

/// Finds the records that are intact, and how they say that the pack was cut. Of another pack that was
/// written over this one, some may be there as well: that of which more is there comes first.
fn find_records(found: &[u8]) -> Vec<Found<'_>> {
    let mut groups: HashMap<(Geometry, &[u8]), Vec<Record<'_>>> = HashMap::new();
    let (mut at, mut candidates) = (0, 0);
    while let Some(next) = find_magic(found, at) {
        candidates += 1;
        if candidates > CANDIDATES_MAX {
            break;
        }
        at = next + 1;
        let Some((geometry, record)) = parse(found, next) else { continue };
        at = next + geometry.record_bytes();
        groups.entry((geometry, record.checks)).or_default().push(record);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(key, records)| (Reverse(records.len()), *key));
    let found = groups.into_iter().map(|((geometry, _), mut records)| {
        records.sort_by_key(|record| record.number);
        records.dedup_by_key(|record| record.number);
        (geometry, records)
    });
    found.collect()
}

fn find_magic(found: &[u8], from: usize) -> Option<usize> {
    let (first, _) = MAGIC.split_first()?;
    let mut at = from;
    loop {
        let rest = found.get(at..)?;
        at += rest.iter().position(|byte| byte == first)?;
        if found.get(at..)?.starts_with(&MAGIC) {
            return Some(at);
        }
        at += 1;
    }
}

/// Reads the record at a place; none where there is none, or a damaged one.
fn parse(found: &[u8], at: usize) -> Option<(Geometry, Record<'_>)> {
    let head = found.get(at..)?.get(..HEAD_BYTES)?;
    let short = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?).into());
    let long = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?) as usize);
    let number: usize = short(8)?;
    let (shards, parity, flags): (usize, usize, usize) = (short(10)?, short(12)?, short(14)?);
    let geometry = Geometry {
        shards,
        parity,
        shard_bytes: long(16)?,
        object_bytes: long(20)?,
        offset: long(24)?,
    };
    if flags != 0 || number >= parity || !geometry.is_sound() {
        return None;
    }
    // What was moved has another place than it says, and all else may have been moved with it.
    if geometry.offset + number * geometry.record_bytes() != at {
        return None;
    }
    let record = found.get(at..)?.get(..geometry.record_bytes())?;
    let (checked, check) = record.split_last_chunk::<RECORD_CHECK_BYTES>()?;
    if record_check(checked) != *check {
        return None;
    }
    let (checks, shard) =
        checked.get(HEAD_BYTES..)?.split_at_checked(geometry.shards * SHARD_CHECK_BYTES)?;
    Some((geometry, Record { number, checks, shard }))
}

/// Guesses how a pack was cut of whose parity nothing is left: as packs usually are. It is whole again
/// if nothing else is damaged.
fn without_records(found: &[u8]) -> Option<Geometry> {
    let footer = Footer::parse(found, found.len()).filter(|footer| footer.has_parity)?;
    // The more bytes there are, the more parity they get: there is one length that fits.
    let (mut low, mut high) = (0, found.len());
    while low < high {
        let middle = low.midpoint(high);
        if middle + parity_bytes(middle) < found.len() { low = middle + 1 } else { high = middle }
    }
    let (shard_bytes, shards, parity) = usual(low);
    let offset = (footer.offset as usize).checked_sub(parity_bytes(low))?;
    let geometry = Geometry { shard_bytes, shards, parity, object_bytes: found.len(), offset };
    geometry.is_sound().then_some(geometry)
}
