//! The batch that is being filled: what a follower tells in small pieces is stored in fewer objects.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{Batch, Payload};

/// What a change takes besides its content, about.
const CHANGE_BYTES: u64 = 256;

/// A batch that is not stored yet.
#[derive(Debug)]
pub(super) struct Open {
    batch: Batch,
    /// Per change what its data extents hold; nothing for a raw batch.
    contents: Vec<Vec<Bytes>>,
    bytes: u64,
    /// When it was begun, by the monotonic clock.
    began: Duration,
}

impl Open {
    pub(super) fn begin(batch: Batch, contents: Vec<Vec<Bytes>>, now: Duration) -> Self {
        let bytes = size(&batch, &contents);
        Self { batch, contents, bytes, began: now }
    }

    /// Joins what came next. Raw bytes are joined end to end, as a log is. Takes nothing and says so
    /// where it does not follow or is of the other payload.
    pub(super) fn join(&mut self, next: Batch, contents: Vec<Vec<Bytes>>) -> bool {
        if next.after != self.batch.upto {
            return false;
        }
        let bytes = size(&next, &contents);
        match (&mut self.batch.payload, next.payload) {
            (Payload::Raw(held), Payload::Raw(more)) => {
                let mut joined = BytesMut::with_capacity(held.len() + more.len());
                joined.extend_from_slice(held);
                joined.extend_from_slice(&more);
                *held = joined.freeze();
            }
            (Payload::Changes(held), Payload::Changes(more)) => held.extend(more),
            _ => return false,
        }
        self.contents.extend(contents);
        self.bytes = self.bytes.saturating_add(bytes);
        (self.batch.upto, self.batch.last_at) = (next.upto, next.last_at);
        true
    }

    /// Returns how long it may stay open; zero where it is to be closed.
    pub(super) fn left(&self, now: Duration, bytes_max: u64, age_max: Duration) -> Duration {
        if self.bytes >= bytes_max {
            return Duration::ZERO;
        }
        age_max.saturating_sub(now.saturating_sub(self.began))
    }

    pub(super) fn parts(&self) -> (&Batch, &[Vec<Bytes>]) {
        (&self.batch, &self.contents)
    }
}

fn size(batch: &Batch, contents: &[Vec<Bytes>]) -> u64 {
    let content: usize = contents.iter().flatten().map(Bytes::len).sum();
    let payload = match &batch.payload {
        Payload::Raw(bytes) => bytes.len() as u64,
        Payload::Changes(changes) => (changes.len() as u64).saturating_mul(CHANGE_BYTES),
    };
    payload.saturating_add(content as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, ItemKey, Position, Timestamp};

    fn position(name: &'static str) -> Position {
        Position(Bytes::from_static(name.as_bytes()))
    }

    fn batch(after: &'static str, upto: &'static str, second: i64, payload: Payload) -> Batch {
        let at = Timestamp::from_unix_seconds(second);
        Batch { after: position(after), upto: position(upto), first_at: at, last_at: at, payload }
    }

    fn raw(bytes: &'static [u8]) -> Payload {
        Payload::Raw(Bytes::from_static(bytes))
    }

    #[test]
    fn consecutive_batches_become_one() {
        let mut open = Open::begin(batch("a", "b", 1, raw(b"one")), Vec::new(), Duration::ZERO);
        assert!(open.join(batch("b", "c", 2, raw(b"two")), Vec::new()));
        assert!(!open.join(batch("d", "e", 3, raw(b"gap")), Vec::new()), "does not follow");
        let changes = Payload::Changes(vec![Change::Delete(ItemKey::root())]);
        assert!(!open.join(batch("c", "d", 3, changes), vec![Vec::new()]), "another payload");
        let (joined, contents) = open.parts();
        assert_eq!((joined.after.clone(), joined.upto.clone()), (position("a"), position("c")));
        assert_eq!(joined.payload, raw(b"onetwo"));
        assert_eq!(joined.first_at, Timestamp::from_unix_seconds(1));
        assert_eq!((joined.last_at, contents.len()), (Timestamp::from_unix_seconds(2), 0));
    }

    #[test]
    fn a_batch_closes_at_its_size_or_its_age() {
        let age = Duration::from_secs(10);
        let began = Duration::from_secs(100);
        let open = Open::begin(batch("a", "b", 1, raw(b"12345678")), Vec::new(), began);
        assert_eq!(open.left(began, 100, age), age);
        assert_eq!(open.left(Duration::from_secs(104), 100, age), Duration::from_secs(6));
        assert_eq!(open.left(Duration::from_secs(111), 100, age), Duration::ZERO);
        assert_eq!(open.left(began, 8, age), Duration::ZERO);
    }
}
