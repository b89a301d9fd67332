//! Time as a port.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

/// Wall-clock time: nanoseconds since 1970-01-01T00:00:00Z. May jump between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Nanoseconds since 1970; from 1677 to 2262.
    pub unix_ns: i64,
}

impl Timestamp {
    /// Returns the time that many seconds after 1970.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self { unix_ns: seconds.saturating_mul(1_000_000_000) }
    }

    /// Returns the time `duration` later; stops at the end of the range.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let ns = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self { unix_ns: self.unix_ns.saturating_add(ns) }
    }

    /// Returns how long ago `earlier` was; zero where it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(
            u64::try_from(self.unix_ns.saturating_sub(earlier.unix_ns)).unwrap_or(0),
        )
    }
}

/// The only way this workspace learns the time or waits.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// Returns wall-clock time: for names, records and schedules. May jump.
    fn now(&self) -> Timestamp;
    /// Returns the time since an arbitrary start: for durations. Never goes back.
    fn elapsed(&self) -> Duration;
    /// Completes when [`Clock::elapsed`] has grown by at least `duration`. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}
