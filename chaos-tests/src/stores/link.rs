//! The way to a distant store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::Clock;
use object_store::{ObjectMeta, Result};

use super::interposed::{Altered, Answer, Policy, Request};

/// A [`Policy`] that makes each request wait for its round trip, and all content share one bandwidth.
#[derive(Debug)]
pub struct Link {
    clock: Arc<dyn Clock>,
    latency: Duration,
    bytes_per_second: u64,
    /// When what is under way will have passed.
    free_at: Mutex<Duration>,
}

impl Link {
    /// Creates a link.
    pub fn new(clock: Arc<dyn Clock>, latency: Duration, bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self { clock, latency, bytes_per_second, free_at: Mutex::default() }
    }

    /// Waits until so many bytes have passed behind those that came before.
    async fn pass(&self, bytes: u64) {
        let now = self.clock.elapsed();
        let wait = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
            let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            *free_at = now.max(*free_at) + takes;
            free_at.saturating_sub(now)
        };
        self.clock.sleep(wait).await;
    }
}

#[async_trait]
impl Policy for Link {
    type Ticket = ();

    async fn before(&self, request: &Request) -> Result<()> {
        self.clock.sleep(self.latency).await;
        if request.sent_bytes > 0 {
            self.pass(request.sent_bytes).await;
        }
        Ok(())
    }

    async fn after(&self, _: &Request, (): (), answer: Answer) -> Result<()> {
        if answer.received_bytes > 0 {
            self.pass(answer.received_bytes).await;
        }
        Ok(())
    }

    fn alter_content(&self, (): &(), content: Bytes) -> Bytes {
        content
    }

    fn alter_list(&self, (): &(), entries: Vec<ObjectMeta>) -> Altered {
        Altered { entries, is_torn: false }
    }
}
