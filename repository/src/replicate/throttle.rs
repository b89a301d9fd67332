//! How fast a copy may be.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{Context, Error, Result};

/// Keeps what is copied below a rate. Objects are let through whole, one after another, so that over a
/// few of them the rate holds.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: Option<u64>,
    /// When the next object may begin, by the clock's time since its start.
    free_at: Mutex<Duration>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::default() }
    }

    /// Waits until so many bytes may be copied.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) async fn wait(&self, bytes: u64, context: &Context) -> Result<()> {
        let Some(rate) = self.bytes_per_second else { return Ok(()) };
        let delay = self.reserve(bytes, rate.max(1), context.clock.elapsed());
        if delay.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = context.clock.sleep(delay) => Ok(()),
            () = context.cancel.cancelled() => Err(Error::cancelled("sync repository")),
        }
    }

    /// Takes the next stretch of time and returns how long it is until then.
    fn reserve(&self, bytes: u64, rate: u64, now: Duration) -> Duration {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let taken = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = (*free_at).max(now);
        *free_at = begins.saturating_add(taken);
        begins.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_follow_one_another_at_the_rate() {
        let throttle = Throttle::new(Some(1000));
        let at = Duration::from_millis;
        assert_eq!(throttle.reserve(500, 1000, at(0)), at(0));
        assert_eq!(throttle.reserve(2000, 1000, at(100)), at(400));
        assert_eq!(throttle.reserve(1, 1000, at(100)), at(2400));
        // What was not used is not saved up.
        assert_eq!(throttle.reserve(1, 1000, at(9000)), at(0));
        assert_eq!(throttle.reserve(u64::MAX, 1, at(9001)), at(0));
    }

    #[tokio::test]
    async fn waiting_ends_when_cancelled() {
        let (context, handles) = testkit::still_context(1);
        let throttle = Throttle::new(Some(1));
        throttle.wait(10, &context).await.expect("the first begins at once");
        handles.cancel.cancel();
        let error = throttle.wait(10, &context).await.expect_err("cancelled");
        assert_eq!(error.kind(), model::ErrorKind::Cancelled);
        let free = Throttle::new(None);
        free.wait(u64::MAX, &context).await.expect("no limit");
    }
}
