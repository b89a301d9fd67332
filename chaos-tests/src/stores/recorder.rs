//! Counts requests, and how many of them had to wait for one another.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectMeta, Result};

use super::interposed::{Altered, Answer, Policy, Request, Verb};

/// What requests of one verb and prefix came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// How many there were.
    pub requests: u64,
    /// Bytes sent with them.
    pub sent_bytes: u64,
    /// Bytes of content received.
    pub received_bytes: u64,
}

/// A [`Policy`] that changes nothing and counts.
///
/// A request's *round* is one more than the greatest round that had completed when it began; the
/// greatest round is the number of sequential round trips. Requests in flight together share a round.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    counts: BTreeMap<(Verb, String), Counted>,
    completed_round: u64,
    requests: Vec<Request>,
}

impl Recorder {
    /// Creates a recorder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of sequential round trips.
    pub fn round_trips(&self) -> u64 {
        self.lock().completed_round
    }

    /// Returns the counts by verb and first component of the path.
    pub fn counts(&self) -> BTreeMap<(Verb, String), Counted> {
        self.lock().counts.clone()
    }

    /// Returns the sum over all prefixes of a verb.
    pub fn count_of(&self, verb: Verb) -> Counted {
        let record = self.lock();
        record.counts.iter().filter(|((counted, _), _)| *counted == verb).fold(
            Counted::default(),
            |sum, (_, counted)| Counted {
                requests: sum.requests + counted.requests,
                sent_bytes: sum.sent_bytes + counted.sent_bytes,
                received_bytes: sum.received_bytes + counted.received_bytes,
            },
        )
    }

    /// Returns all requests in the order in which they began.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *self.lock() = Record::default();
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Policy for Recorder {
    type Ticket = u64;

    async fn before(&self, request: &Request) -> Result<u64> {
        let mut record = self.lock();
        record.requests.push(request.clone());
        Ok(record.completed_round + 1)
    }

    async fn after(&self, request: &Request, round: u64, answer: Answer) -> Result<()> {
        let mut record = self.lock();
        record.completed_round = record.completed_round.max(round);
        let prefix = request.path.split('/').next().unwrap_or_default().to_owned();
        let counted = record.counts.entry((request.verb, prefix)).or_default();
        counted.requests += 1;
        counted.sent_bytes += request.sent_bytes;
        counted.received_bytes += answer.received_bytes;
        Ok(())
    }

    fn alter_content(&self, _: &u64, content: Bytes) -> Bytes {
        content
    }

    fn alter_list(&self, _: &u64, entries: Vec<ObjectMeta>) -> Altered {
        Altered { entries, is_torn: false }
    }
}
