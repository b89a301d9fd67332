//! The end of this process at a chosen write, as a machine that stops would end it.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectMeta, Result};

use super::interposed::{Altered, Answer, Policy, Request};

/// On which side of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The write has not reached the store.
    Before,
    /// The write has taken effect; nobody was told.
    After,
}

/// A [`Policy`] that kills this process, with SIGKILL, at the `nth` request that writes.
#[derive(Debug)]
pub struct Killer {
    nth: u64,
    moment: Moment,
    writes: AtomicU64,
}

impl Killer {
    /// Creates a killer; the first write is 1, and 0 never kills.
    pub fn new(nth: u64, moment: Moment) -> Self {
        Self { nth, moment, writes: AtomicU64::new(0) }
    }

    /// Returns how many writes began.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    fn strike(&self, write: u64, moment: Moment) {
        if write == self.nth && write != 0 && moment == self.moment {
            // It cannot fail for one's own process, and nothing after it is executed.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

#[async_trait]
impl Policy for Killer {
    /// The number of the write; 0 for a request that does not write.
    type Ticket = u64;

    async fn before(&self, request: &Request) -> Result<u64> {
        if !request.verb.writes() {
            return Ok(0);
        }
        let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        self.strike(write, Moment::Before);
        Ok(write)
    }

    async fn after(&self, _: &Request, write: u64, _: Answer) -> Result<()> {
        self.strike(write, Moment::After);
        Ok(())
    }

    fn alter_content(&self, _: &u64, content: Bytes) -> Bytes {
        content
    }

    fn alter_list(&self, _: &u64, entries: Vec<ObjectMeta>) -> Altered {
        Altered { entries, is_torn: false }
    }
}
