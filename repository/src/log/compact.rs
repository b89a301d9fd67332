//! Compaction: many small objects become few large ones with the same batches.
//!
//! Units (batches, and segments of earlier compactions) are merged by tiers: [`FAN`] neighbours of one
//! tier become one of the next, so that each batch is rewritten a few times only and a stream of any
//! length has few small objects. What has reached the wanted size is not touched again. The plan is
//! made on names alone; tiers that would be passed through are skipped.

use bytes::Bytes;
use model::{Context, Error, ErrorKind, Result};

use super::catalogue::{Catalogue, Segment};
use super::read::{LogReader, read_segment};
use super::record::{self, SEGMENT_BATCHES_MAX, Stored};
use crate::Repository;
use crate::types::StreamName;

/// The most bytes of a segment's body before compression.
pub const SEGMENT_BYTES_MAX: usize = 64 << 20;
/// What a segment's body is at least aimed at.
const TARGET_BYTES_MIN: u64 = 4 << 10;
const TARGET_BYTES_MAX: u64 = 32 << 20;
/// How many neighbours become one.
const FAN: usize = 32;
/// The tier of what is not merged any more.
const DONE: u32 = u32::MAX;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Segments that were created.
    pub segments: u64,
    /// Batches in them.
    pub batches: u64,
}

/// Neighbouring batches that are one object, or are to become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    first: u64,
    last: u64,
    bytes: u64,
    tier: u32,
    /// How many objects it consists of now.
    objects: usize,
}

/// Merges old batches of a stream into segments of about `target_bytes`, which readers prefer. Only
/// creates; any number of processes may compact at once.
///
/// # Errors
/// `Corrupt` where a batch cannot be read; those of the store.
pub async fn compact_log(
    repository: &Repository,
    stream: &StreamName,
    target_bytes: u64,
    context: &Context,
) -> Result<Compacted> {
    repository.check_writable()?;
    let target = target_bytes.clamp(TARGET_BYTES_MIN, TARGET_BYTES_MAX);
    let trimmed = repository.log_trim(stream).await?;
    let catalogue = Catalogue::list(repository, stream, trimmed).await?;
    let mut compacted = Compacted::default();
    for group in plan(units(&catalogue, target), target) {
        let mut reader =
            LogReader::new(repository, stream, (group.first, group.last), Some(catalogue.clone()));
        let mut merged = Merged::default();
        while let Some(batches) = reader.next().await? {
            context.check("compact log")?;
            for batch in batches {
                if !merged.has_room(&batch) {
                    merged.store(repository, stream, &mut compacted).await?;
                }
                merged.push(batch);
                if merged.bytes as u64 >= target {
                    merged.store(repository, stream, &mut compacted).await?;
                }
            }
        }
        merged.store(repository, stream, &mut compacted).await?;
    }
    Ok(compacted)
}

/// Batches that are to become a segment.
#[derive(Default)]
struct Merged {
    batches: Vec<Stored>,
    bytes: usize,
}

impl Merged {
    fn has_room(&self, batch: &Stored) -> bool {
        self.bytes + record::segment_bytes(batch) <= SEGMENT_BYTES_MAX
            && self.batches.len() < SEGMENT_BATCHES_MAX
    }

    fn push(&mut self, batch: Stored) {
        self.bytes += record::segment_bytes(&batch);
        self.batches.push(batch);
    }

    /// Creates the segment and begins another.
    async fn store(
        &mut self,
        repository: &Repository,
        stream: &StreamName,
        compacted: &mut Compacted,
    ) -> Result<()> {
        let Self { batches, .. } = std::mem::take(self);
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let (first, last, count) = (first.header.number, last.header.number, batches.len());
        let body = record::encode_segment(batches);
        let segment = Segment::new(stream, first, last, body.len())?;
        let object = record::seal_segment(repository.keys(), &segment.path, &body)?;
        match repository.store().create(&segment.path, Bytes::from(object)).await {
            // Another version compacted the same batches.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => {
                other?;
            }
        }
        compacted.segments += 1;
        compacted.batches += count as u64;
        Ok(())
    }
}

/// Lists what readers would read: segments before batches.
fn units(catalogue: &Catalogue, target: u64) -> Vec<Unit> {
    use super::catalogue::Piece;
    let (Some(mut next), Some(last)) = (catalogue.first(), catalogue.last()) else {
        return Vec::new();
    };
    let mut units = Vec::new();
    while next <= last {
        let pieces = catalogue.cover(next, last, |_| false);
        for piece in pieces {
            let (first, last) = piece.range();
            let unit = |bytes, tier| Unit { first, last, bytes, tier, objects: 1 };
            units.push(match piece {
                Piece::Batch(number) => {
                    let files = catalogue.batches.get(&number);
                    let bytes = files.and_then(|files| files.size_bytes).unwrap_or(0);
                    // A batch with parts is large enough as it is.
                    let has_parts = files.is_some_and(|files| !files.parts.is_empty());
                    unit(bytes, if has_parts { DONE } else { 0 })
                }
                Piece::Segment(segment) => {
                    let bytes = 1_u64 << segment.length_bits.saturating_sub(1).min(40);
                    let tier = (last - first + 1).ilog(FAN as u64);
                    // Half the target, as the bits of a length tell it.
                    unit(bytes, if bytes.saturating_mul(2) >= target { DONE } else { tier.max(1) })
                }
            });
            next = last.saturating_add(1);
        }
        // A hole: damage, which verify reports. What follows is compacted on its own.
        match catalogue.next_from(next) {
            Some(found) => next = found,
            None => break,
        }
    }
    units
}

/// Says what is to become one object each: groups of at least two.
fn plan(units: Vec<Unit>, target: u64) -> Vec<Unit> {
    let mut stack: Vec<Unit> = Vec::new();
    for unit in units {
        stack.push(unit);
        while merge_top(&mut stack, target) {}
    }
    stack.retain(|unit| unit.objects > 1);
    stack
}

/// Merges the neighbours of one tier at the top of the stack where there are enough.
fn merge_top(stack: &mut Vec<Unit>, target: u64) -> bool {
    let Some(top) = stack.last().filter(|top| top.tier != DONE) else { return false };
    let (tier, mut expected) = (top.tier, top.last);
    let mut start = stack.len();
    let mut total = 0_u64;
    for unit in stack.iter().rev() {
        if unit.tier > tier || unit.last != expected {
            break;
        }
        start -= 1;
        total = total.saturating_add(unit.bytes);
        expected = unit.first.saturating_sub(1);
    }
    let run = stack.len() - start;
    if run < 2 || (run < FAN && total < target) {
        return false;
    }
    let run = stack.split_off(start);
    let mut open: Option<Unit> = None;
    for unit in run {
        let merged = match open.take() {
            None => unit,
            Some(before) => Unit {
                first: before.first,
                last: unit.last,
                bytes: before.bytes.saturating_add(unit.bytes),
                tier: 0,
                objects: before.objects + unit.objects,
            },
        };
        if merged.bytes >= target {
            stack.push(Unit { tier: DONE, ..merged });
        } else {
            open = Some(merged);
        }
    }
    stack.extend(open.map(|unit| Unit { tier: tier + 1, ..unit }));
    true
}

/// Deletes the batches and the smaller segments that a segment holds, once that segment has been read
/// whole; returns how many objects. The newest batch stays, so that the log's end is found cheaply. For
/// the collector.
///
/// # Errors
/// Those of the store. A segment that cannot be read deletes nothing and is reported to the monitor.
pub async fn delete_compacted(
    repository: &Repository,
    stream: &StreamName,
    context: &Context,
) -> Result<u64> {
    let catalogue = Catalogue::list(repository, stream, 0).await?;
    let newest = catalogue.last().unwrap_or(0);
    let mut deleted = 0;
    for (segment, obsolete) in obsolete(&catalogue, newest) {
        context.check("delete compacted batches")?;
        match read_segment(repository, &segment).await {
            Ok(_) => {}
            Err(error) if crate::point::is_damage(&error) => {
                context.monitor.problem(&error);
                continue;
            }
            Err(error) => return Err(error),
        }
        for path in obsolete.into_paths(stream)? {
            context.check("delete compacted batches")?;
            repository.store().delete(&path).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// What a segment makes superfluous.
#[derive(Default)]
struct Obsolete {
    batches: Vec<u64>,
    paths: Vec<String>,
}

impl Obsolete {
    fn into_paths(self, stream: &StreamName) -> Result<Vec<String>, Error> {
        let batches = self.batches.into_iter().map(|number| record::batch_path(stream, number));
        // Batches before their parts: a reader that finds a batch finds its parts.
        batches.chain(self.paths.into_iter().map(Ok)).collect()
    }
}

/// Lists the segments that are in no other, with what they make superfluous, if anything.
fn obsolete(catalogue: &Catalogue, newest: u64) -> Vec<(Segment, Obsolete)> {
    let mut kept: Vec<&Segment> = Vec::new();
    // By first number, the farther reaching later: what holds another comes first or right after it.
    for segment in &catalogue.segments {
        while kept.last().is_some_and(|before| segment.holds(before)) {
            kept.pop();
        }
        if !kept.last().is_some_and(|before| before.holds(segment)) {
            kept.push(segment);
        }
    }
    let mut result = Vec::new();
    for segment in kept {
        let mut found = Obsolete::default();
        for (number, files) in catalogue.batches.range(segment.first..=segment.last) {
            if *number < newest {
                found.batches.extend(files.size_bytes.map(|_| *number));
                found.paths.extend(files.parts.iter().cloned());
            }
        }
        let inner = catalogue.segments.iter().filter(|s| *s != segment && segment.holds(s));
        found.paths.extend(inner.map(|inner| inner.path.clone()));
        if !found.batches.is_empty() || !found.paths.is_empty() {
            result.push((segment.clone(), found));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(first: u64, last: u64, bytes: u64, tier: u32) -> Unit {
        Unit { first, last, bytes, tier, objects: 1 }
    }

    fn ranges(units: Vec<Unit>) -> Vec<(u64, u64)> {
        units.into_iter().map(|unit| (unit.first, unit.last)).collect()
    }

    #[test]
    fn few_neighbours_are_left_alone_and_many_are_merged_at_once() {
        let batches = |count: u64| (1..=count).map(|n| unit(n, n, 10, 0)).collect::<Vec<_>>();
        assert_eq!(ranges(plan(batches(31), 1 << 20)), []);
        assert_eq!(ranges(plan(batches(33), 1 << 20)), [(1, 32)]);
        assert_eq!(ranges(plan(batches(1024), 1 << 20)), [(1, 1024)]);
        let sized = ranges(plan(batches(1024), 3_200));
        assert_eq!(sized, [(1, 320), (321, 640), (641, 960), (961, 992), (993, 1024)]);
    }

    #[test]
    fn holes_and_what_is_large_are_borders() {
        let mut units: Vec<_> = (1..=40).map(|n| unit(n, n, 10, 0)).collect();
        units.push(unit(41, 41, 1 << 30, DONE));
        units.extend((42..=100).map(|n| unit(n, n, 10, 0)));
        units.extend((200..=240).map(|n| unit(n, n, 10, 0)));
        assert_eq!(ranges(plan(units, 1 << 20)), [(1, 32), (42, 73), (200, 231)]);
    }

    #[test]
    fn what_is_done_is_not_touched_again() {
        let units = vec![unit(1, 1000, 1 << 20, DONE), unit(1001, 2000, 1 << 20, DONE)];
        assert_eq!(ranges(plan(units, 1 << 20)), []);
    }
}
