//! A context under a test's control.

use std::sync::Arc;

use model::Context;
use tokio_util::sync::CancellationToken;

use crate::{ManualClock, RecordingMonitor, SeededEntropy};

/// The test's side of a [`Context`].
#[derive(Debug, Clone)]
pub struct Handles {
    /// Moves its time.
    pub clock: Arc<ManualClock>,
    /// Knows what it was told.
    pub monitor: Arc<RecordingMonitor>,
    /// Stops it.
    pub cancel: CancellationToken,
}

/// Creates a context whose randomness follows from `seed` and whose time advances itself when
/// something sleeps (see [`ManualClock::advancing_itself`]).
pub fn context(seed: u64) -> (Context, Handles) {
    with_clock(seed, ManualClock::advancing_itself())
}

/// Creates a context whose time stands still until the test moves it.
pub fn still_context(seed: u64) -> (Context, Handles) {
    with_clock(seed, ManualClock::new())
}

fn with_clock(seed: u64, clock: ManualClock) -> (Context, Handles) {
    let handles = Handles {
        clock: Arc::new(clock),
        monitor: Arc::new(RecordingMonitor::new()),
        cancel: CancellationToken::new(),
    };
    let context = Context {
        clock: handles.clock.clone(),
        entropy: Arc::new(SeededEntropy::new(seed)),
        monitor: handles.monitor.clone(),
        cancel: handles.cancel.clone(),
    };
    (context, handles)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{Clock, ErrorKind};

    use super::*;

    #[tokio::test]
    async fn handles_reach_into_the_context() {
        let (context, handles) = context(1);
        context.clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(handles.clock.now().since(ManualClock::START), Duration::from_secs(60));
        handles.cancel.cancel();
        let error = context.check("capture").expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
