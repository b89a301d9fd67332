//! Positions and epochs.

use std::fmt;

use bytes::Bytes;

/// Where a system stood: a zxid, an LSN with its timeline, an HDFS snapshot, offsets.
///
/// Opaque to all but its own system; everybody else stores it and compares it for equality. Order
/// between positions is the system's business.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position(pub Bytes);

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.0.escape_ascii())
    }
}

/// A number that only grows and makes older holders void. Always named by what it belongs to
/// (the extent map's epoch, a key's epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);
