//! Positions of this kind: which state of whose knowledge, and when it was read.
//!
//! Encoding: `1 | wall-clock time, nanoseconds since 1970 i64le | id of the knowledge, 16 bytes |
//! number of the state u64le | host`. Nothing reads it: equal bytes are the same state.

use bytes::Bytes;
use model::{Context, ItemKey, Position, Timestamp};

const ENCODING: u8 = 1;

/// Gives out the positions of one line of states.
#[derive(Debug)]
pub(super) struct Line {
    id: [u8; 16],
    host: ItemKey,
    number: u64,
}

impl Line {
    /// Begins a line that nobody else continues.
    pub(super) fn begin(host: &ItemKey, context: &Context) -> Self {
        let mut id = [0; 16];
        context.entropy.fill(&mut id);
        Self { id, host: host.clone(), number: 0 }
    }

    /// Returns the position of the next state.
    pub(super) fn next(&mut self, at: Timestamp) -> Position {
        self.number = self.number.saturating_add(1);
        let mut bytes = vec![ENCODING];
        bytes.extend_from_slice(&at.unix_ns.to_le_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(self.host.as_bytes());
        Position(Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_states_have_the_same_position() {
        let (context, _) = testkit::still_context(1);
        let host = ItemKey::from_components(["h"]).expect("key");
        let at = context.clock.now();
        let (mut one, mut two) = (Line::begin(&host, &context), Line::begin(&host, &context));
        let positions = [one.next(at), one.next(at), two.next(at), two.next(at)];
        for (index, position) in positions.iter().enumerate() {
            assert_eq!(positions.iter().position(|other| other == position), Some(index));
        }
    }
}
