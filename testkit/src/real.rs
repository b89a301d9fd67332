//! Real time, for tests of what happens outside this process: servers take as long as they take.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use model::{Clock, Context, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{RecordingMonitor, SeededEntropy};

#[derive(Debug)]
struct RealClock(Instant);

#[async_trait]
impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "real time is what this is for")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { unix_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) }
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "real time is what this is for")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Creates a context whose time is real and whose randomness follows from `seed`. Only for tests that
/// wait for other processes, and ask them until they answer.
#[expect(clippy::disallowed_methods, reason = "real time is what this is for")]
pub fn real_context(seed: u64) -> (Context, Arc<RecordingMonitor>) {
    let monitor = Arc::new(RecordingMonitor::new());
    let context = Context {
        clock: Arc::new(RealClock(Instant::now())),
        entropy: Arc::new(SeededEntropy::new(seed)),
        monitor: monitor.clone(),
        cancel: CancellationToken::new(),
    };
    (context, monitor)
}
