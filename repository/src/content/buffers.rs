//! Memory that is used again: what is decoded one after another takes the memory of what went before,
//! which the processor still has at hand and the system need not clear.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::slots::lock;

/// Shorter ones are left to the allocator, which keeps those itself.
const LENGTH_MIN: usize = 64 << 10;
/// Capacities are multiples of this, so that one fits the next.
const STEP_BYTES: usize = 256 << 10;
/// A buffer is not used for what is so many times shorter.
const SLACK: usize = 2;

/// Buffers that are used again once nobody holds what was in them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Buffers(Arc<Free>);

#[derive(Debug)]
struct Free {
    /// How many bytes are kept for later at most.
    kept_bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one used last at the end.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer that goes back when nobody holds it any more.
struct Lent {
    buffer: Vec<u8>,
    free: Arc<Free>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut kept = lock(&self.free.kept);
        if kept.bytes.saturating_add(buffer.capacity()) <= self.free.kept_bytes_max {
            kept.bytes += buffer.capacity();
            kept.buffers.push(buffer);
        }
    }
}

impl Buffers {
    /// Begins with none. `kept_bytes_max` bounds what is kept while it is not used.
    pub(super) fn new(kept_bytes_max: usize) -> Self {
        Self(Arc::new(Free { kept_bytes_max, kept: Mutex::default() }))
    }

    /// Lets an empty buffer with room for `length` bytes be filled; none where that fails.
    pub(super) fn fill<E>(
        &self,
        length: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        if length < LENGTH_MIN {
            let mut buffer = Vec::with_capacity(length);
            return fill(&mut buffer).map(|()| buffer.into());
        }
        let mut lent = Lent { buffer: self.take(length), free: Arc::clone(&self.0) };
        fill(&mut lent.buffer)?;
        Ok(Bytes::from_owner(lent))
    }

    fn take(&self, length: usize) -> Vec<u8> {
        let mut kept = lock(&self.0.kept);
        let capacity_max = length.next_multiple_of(STEP_BYTES).saturating_mul(SLACK);
        let fits = |buffer: &Vec<u8>| (length..=capacity_max).contains(&buffer.capacity());
        let Some(index) = kept.buffers.iter().rposition(fits) else {
            drop(kept);
            return Vec::with_capacity(length.next_multiple_of(STEP_BYTES));
        };
        let buffer = kept.buffers.remove(index);
        kept.bytes -= buffer.capacity();
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, length: usize) -> Bytes {
        let fill = |buffer: &mut Vec<u8>| {
            assert!(buffer.is_empty() && buffer.capacity() >= length);
            buffer.resize(length, 7);
            Ok::<_, ()>(())
        };
        buffers.fill(length, fill).expect("filled")
    }

    fn kept(buffers: &Buffers) -> (usize, usize) {
        let kept = lock(&buffers.0.kept);
        (kept.buffers.len(), kept.bytes)
    }

    #[test]
    fn memory_is_used_again_once_no_part_of_it_is_held() {
        let buffers = Buffers::new(1 << 20);
        let first = filled(&buffers, LENGTH_MIN);
        let (place, part) = (first.as_ptr(), first.slice(5..6));
        drop(first);
        assert_eq!(kept(&buffers), (0, 0));
        assert_eq!(part, [7][..]);
        drop(part);
        assert_eq!(kept(&buffers), (1, STEP_BYTES));
        let second = filled(&buffers, LENGTH_MIN + 1);
        assert_eq!((second.as_ptr(), second.len()), (place, LENGTH_MIN + 1));
    }

    #[test]
    fn little_is_kept_and_nothing_for_what_is_much_shorter() {
        let buffers = Buffers::new(2 << 20);
        drop(filled(&buffers, LENGTH_MIN - 1));
        assert_eq!(kept(&buffers), (0, 0));
        let two = [filled(&buffers, 2 << 20), filled(&buffers, STEP_BYTES)];
        drop(two);
        assert_eq!(kept(&buffers), (1, 2 << 20));
        let short = filled(&buffers, LENGTH_MIN);
        assert_eq!(kept(&buffers), (1, 2 << 20));
        drop(short);
        assert_eq!(buffers.fill(1 << 20, |_| Err("no")), Err("no"));
        assert_eq!(kept(&buffers), (1, 2 << 20));
    }
}
