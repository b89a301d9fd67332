//! The real clock, the real source of randomness, and the context made of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use model::{Clock, Context, Entropy, Monitor, Timestamp};
use tokio_util::sync::CancellationToken;

/// Time as the machine has it.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "the one real clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one real clock")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos());
        let unix_ns = match now.duration_since(UNIX_EPOCH) {
            Ok(since) => nanoseconds(since).unwrap_or(i64::MAX),
            Err(error) => nanoseconds(error.duration()).map_or(i64::MIN, |before| -before),
        };
        Timestamp { unix_ns }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one real clock")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Random bytes of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one real source of randomness")]
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(error) = getrandom::fill(buffer) {
            // Going on with bytes that can be guessed would be worse than any crash.
            panic!("the operating system gives no random bytes: {error}");
        }
    }
}

/// Makes the context that operations are given.
pub fn context(monitor: Arc<dyn Monitor>) -> Context {
    Context {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
        monitor,
        cancel: CancellationToken::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_of_this_century_and_goes_on() {
        let clock = SystemClock::new();
        let (now, elapsed) = (clock.now(), clock.elapsed());
        assert!(now > Timestamp::from_unix_seconds(1_700_000_000), "{now:?}");
        assert!(clock.elapsed() >= elapsed);
    }

    #[tokio::test]
    async fn sleeping_takes_the_time_that_it_says() {
        let clock = SystemClock::new();
        let before = clock.elapsed();
        clock.sleep(Duration::from_millis(3)).await;
        assert!(clock.elapsed() - before >= Duration::from_millis(3));
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        OsEntropy.fill(&mut a);
        OsEntropy.fill(&mut b);
        assert_ne!(a, b);
    }
}
