//! Pages of cache files that were compared with their checksums and are likely to be needed again.
//!
//! Whoever looks for one id mostly looks for thousands, and each look-up needs pages of three tables of
//! a segment: read and hashed each time, they cost a hundred times as much as the search itself.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The length of a page in bytes.
pub(super) const PAGE_BYTES: usize = 4096;
/// How many pages are kept: 8 MiB, which is the index of about 3 GiB of stored content.
const SLOTS: usize = 2048;
/// What is read at once and longer than this is not kept: it is read only to open a segment.
const PAGES_AT_ONCE_MAX: usize = 4;
/// The files' numbers are this far apart among the slots, so that pages of two files with the same
/// numbers need not drive each other out.
const FILE_STRIDE: usize = 509;

/// Keeps pages of all files of one folder. A page has one slot that it can be in.
pub(super) struct Pages(Mutex<Vec<Option<Page>>>);

/// A page that is kept.
struct Page {
    file: usize,
    number: usize,
    bytes: Bytes,
}

impl Pages {
    /// Begins with none.
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Returns these bytes of a file, if all pages that they lie in are kept.
    pub(super) fn get(&self, file: usize, range: &Range<usize>) -> Option<Bytes> {
        let (first, last) = (range.start / PAGE_BYTES, range.end.checked_sub(1)? / PAGE_BYTES);
        if last.checked_sub(first)? >= PAGES_AT_ONCE_MAX {
            return None;
        }
        let slots = self.slots();
        let page = |number: usize| {
            let page = slots.get(slot(file, number))?.as_ref()?;
            (page.file == file && page.number == number).then_some(&page.bytes)
        };
        let within = |number: usize| {
            let starts_at = number * PAGE_BYTES;
            range.start.saturating_sub(starts_at)..(range.end - starts_at).min(PAGE_BYTES)
        };
        if first == last {
            let (bytes, range) = (page(first)?, within(first));
            return bytes.get(range.clone()).map(|_| bytes.slice(range));
        }
        let mut joined = Vec::with_capacity(range.len());
        for number in first..=last {
            joined.extend_from_slice(page(number)?.get(within(number))?);
        }
        Some(joined.into())
    }

    /// Keeps pages that follow one another.
    pub(super) fn keep(&self, file: usize, first: usize, pages: &[u8]) {
        if pages.len() > PAGES_AT_ONCE_MAX * PAGE_BYTES {
            return;
        }
        let mut slots = self.slots();
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        for (number, page) in (first..).zip(pages.chunks(PAGE_BYTES)) {
            if let Some(slot) = slots.get_mut(slot(file, number)) {
                // A copy: a part would keep the whole from being freed.
                *slot = Some(Page { file, number, bytes: Bytes::copy_from_slice(page) });
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<Page>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot(file: usize, number: usize) -> usize {
    file.wrapping_mul(FILE_STRIDE).wrapping_add(number) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: usize, seed: usize) -> Vec<u8> {
        (0..count * PAGE_BYTES).map(|at| (at / 7 + seed) as u8).collect()
    }

    #[test]
    fn what_is_kept_is_returned_across_pages_and_nothing_else_is() {
        let kept = Pages::new();
        let bytes = pages(3, 1);
        kept.keep(1, 10, &bytes);
        let base = 10 * PAGE_BYTES;
        for range in [0..1, 0..PAGE_BYTES, 5..9, 4000..4100, 4095..3 * PAGE_BYTES, 0..0] {
            let wanted = base + range.start..base + range.end;
            let expected = &bytes[range.clone()];
            // An empty range at the beginning of a page begins where no page that is kept ends.
            let expected = (!range.is_empty()).then_some(expected);
            assert_eq!(kept.get(1, &wanted).as_deref(), expected, "{range:?}");
        }
        assert_eq!(kept.get(2, &(base..base + 1)), None, "another file");
        assert_eq!(kept.get(1, &(base - 1..base + 1)), None, "the page before is not kept");
        assert_eq!(kept.get(1, &(base..base + 3 * PAGE_BYTES + 1)), None, "nor the one behind");
    }

    #[test]
    fn a_short_last_page_ends_where_it_ends() {
        let kept = Pages::new();
        kept.keep(0, 0, &pages(1, 0)[..100]);
        assert_eq!(kept.get(0, &(90..100)).map(|bytes| bytes.len()), Some(10));
        assert_eq!(kept.get(0, &(90..101)), None);
    }

    #[test]
    fn a_slot_holds_what_came_last_and_long_reads_are_not_kept() {
        let kept = Pages::new();
        kept.keep(0, 0, &pages(1, 1));
        kept.keep(0, SLOTS, &pages(1, 2));
        assert_eq!(kept.get(0, &(0..1)), None);
        let at = SLOTS * PAGE_BYTES;
        assert_eq!(kept.get(0, &(at..at + 1)).as_deref(), Some(&[2][..]));
        kept.keep(0, 100, &pages(PAGES_AT_ONCE_MAX + 1, 0));
        assert_eq!(kept.get(0, &(100 * PAGE_BYTES..100 * PAGE_BYTES + 1)), None);
    }
}
