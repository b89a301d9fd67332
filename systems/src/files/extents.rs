//! Where a file has data and where it has holes.

use std::os::fd::BorrowedFd;

use model::Extent;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Shorter holes beside data are read as the zero bytes that they are: an extent of its own costs
/// more than they do.
const HOLE_BYTES_MIN: u64 = 64 << 10;
/// A file with more pieces than this has one extent for the rest.
const EXTENTS_MAX: usize = 16_384;

/// Returns the extents of an open file of this size, as its file system tells them; the file as one
/// piece where it does not.
pub(super) fn probe(file: BorrowedFd<'_>, size_bytes: u64) -> Vec<Extent> {
    extents_of(size_bytes, |offset| {
        let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => return Some((size_bytes, size_bytes)),
            Err(_) => return None,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?;
        Some((start, end))
    })
}

/// Returns the extent of a file without holes.
pub(super) fn whole(size_bytes: u64) -> Vec<Extent> {
    if size_bytes == 0 { Vec::new() } else { vec![Extent::data(size_bytes)] }
}

/// Lists extents. `next_data` gives the first stretch of data at or after an offset (the size twice:
/// there is none), or none where nobody can tell.
fn extents_of(size_bytes: u64, next_data: impl Fn(u64) -> Option<(u64, u64)>) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut data_from = 0;
    let mut offset = 0;
    while offset < size_bytes && extents.len() < EXTENTS_MAX {
        let Some((start, end)) = next_data(offset) else { break };
        // The file may change meanwhile: an answer that makes no sense ends the search.
        let (start, end) = (start.min(size_bytes), end.min(size_bytes));
        if start < offset || (end <= start && start < size_bytes) {
            break;
        }
        let is_all = offset == 0 && start == size_bytes;
        if start - offset >= HOLE_BYTES_MIN || is_all {
            extents.extend(whole(offset - data_from));
            extents.push(Extent::hole(start - offset));
            data_from = start;
        }
        offset = end;
    }
    extents.extend(whole(size_bytes - data_from));
    extents
}

#[cfg(test)]
mod tests {
    use model::ExtentBody;

    use super::*;

    const K: u64 = 1_024;

    /// Notation: stretches of data as `from-to` in KiB; expected extents in KiB, holes as `~length`.
    fn check(size_kib: u64, data: &str, expected: &str) {
        let data: Vec<(u64, u64)> = data
            .split_whitespace()
            .map(|stretch| stretch.split_once('-').expect("from-to"))
            .map(|(from, to)| (from.parse().expect("from"), to.parse().expect("to")))
            .collect();
        let extents = extents_of(size_kib * K, |offset| {
            let next = data.iter().find(|(_, to)| to * K > offset);
            let end = (size_kib * K, size_kib * K);
            Some(next.map_or(end, |(from, to)| ((from * K).max(offset), to * K)))
        });
        let shown: Vec<_> = extents
            .iter()
            .map(|extent| {
                let hole = if extent.body == ExtentBody::Hole { "~" } else { "" };
                format!("{hole}{}", extent.length_bytes / K)
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{size_kib}: {data:?}");
        assert_eq!(extents.iter().map(|extent| extent.length_bytes).sum::<u64>(), size_kib * K);
    }

    #[test]
    fn long_holes_are_extents_and_short_ones_are_data() {
        check(0, "", "");
        check(5, "0-5", "5");
        check(5, "", "~5");
        check(500, "", "~500");
        check(500, "0-4 68-72", "4 ~64 4 ~428");
        check(500, "0-4 67-72", "72 ~428");
        check(500, "100-500", "~100 400");
        check(500, "4-500", "500");
        check(500, "0-490", "500");
        check(500, "64-68 200-500", "~64 4 ~132 300");
    }

    #[test]
    fn a_file_system_that_cannot_tell_gives_one_extent() {
        assert_eq!(extents_of(9, |_| None), [Extent::data(9)]);
        assert_eq!(extents_of(9, |_| Some((0, 0))), [Extent::data(9)]);
        assert_eq!(extents_of(1 << 20, |at| Some((at, at))), [Extent::data(1 << 20)]);
    }

    #[test]
    fn the_number_of_extents_has_an_end() {
        let step = 2 * HOLE_BYTES_MIN;
        let size = step * EXTENTS_MAX as u64;
        let extents = extents_of(size, |at| {
            let start = at.div_ceil(step) * step + HOLE_BYTES_MIN;
            Some((start.min(size), (start + HOLE_BYTES_MIN).min(size)))
        });
        assert!(extents.len() <= EXTENTS_MAX + 2, "{}", extents.len());
        assert_eq!(extents.iter().map(|extent| extent.length_bytes).sum::<u64>(), size);
    }
}
