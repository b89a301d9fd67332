//! Power cuts: what is left of a store whose machine lost its power.
//!
//! The model is a journal of writes over a store in memory. A write that was acknowledged is durable,
//! as on a file system whose files and directories are synced first; a write that was under way may
//! be there or not. Without syncing, acknowledged writes may be lost too, any of them: the negative
//! control of every test that uses this.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, Result};
use testkit::Random;

use super::failure;
use super::interposed::{Altered, Answer, Interposed, Policy, Request, Verb};

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged writes are durable.
    Synced,
    /// Any of the last so many acknowledged creates may be lost.
    Unsynced(usize),
}

/// A [`Policy`] under which the power goes off at a chosen write.
#[derive(Debug)]
pub struct Power {
    disk: Arc<InMemory>,
    durability: Durability,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    writes: u64,
    cut_at: Option<u64>,
    is_off: bool,
    /// Acknowledged creates, oldest first.
    acknowledged: Vec<String>,
}

impl Power {
    /// Creates an empty disk. The power goes off at write `cut_at` (the first is 1), if there is one;
    /// what the cut leaves of writes under way follows from `seed`.
    pub fn new(seed: u64, durability: Durability, cut_at: Option<u64>) -> Arc<Self> {
        Self::over(Arc::new(InMemory::new()), seed, durability, cut_at)
    }

    /// The same over a disk that is there: for a second cut.
    pub fn over(
        disk: Arc<InMemory>,
        seed: u64,
        durability: Durability,
        cut_at: Option<u64>,
    ) -> Arc<Self> {
        let random = Random::new(seed);
        let state = State { random, writes: 0, cut_at, is_off: false, acknowledged: Vec::new() };
        Arc::new(Self { disk, durability, state: Mutex::new(state) })
    }

    /// Returns the store that runs under this power.
    pub fn store(self: &Arc<Self>) -> Interposed<Self> {
        Interposed::new(Arc::clone(&self.disk) as Arc<dyn ObjectStore>, self)
    }

    /// Returns how many writes began.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Says whether the power has gone off.
    pub fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// Cuts the power, if it is still on, and returns the disk as the next start finds it.
    ///
    /// # Errors
    /// Those of the store in memory.
    pub async fn cut(&self) -> Result<Arc<InMemory>> {
        let lost: Vec<_> = {
            let mut state = self.lock();
            state.is_off = true;
            let Durability::Unsynced(count) = self.durability else {
                return Ok(Arc::clone(&self.disk));
            };
            let kept = state.acknowledged.len().saturating_sub(count);
            let at_risk = state.acknowledged.split_off(kept);
            at_risk.into_iter().filter(|_| state.random.chance(50)).collect()
        };
        for path in lost {
            self.disk.delete(&Path::from(path)).await?;
        }
        Ok(Arc::clone(&self.disk))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives other requests a chance to be under way too when the power goes off.
    async fn linger(&self) {
        let turns = self.lock().random.below(4);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Policy for Power {
    type Ticket = ();

    async fn before(&self, request: &Request) -> Result<()> {
        if self.lock().is_off {
            return Err(failure("the power is off"));
        }
        if !request.verb.writes() {
            return Ok(());
        }
        {
            let mut state = self.lock();
            state.writes += 1;
            state.is_off |= state.cut_at == Some(state.writes);
        }
        self.linger().await;
        let mut state = self.lock();
        // A write that was under way when the power went off: half of them reach the disk.
        if state.is_off && state.random.chance(50) {
            return Err(failure("the power is off"));
        }
        Ok(())
    }

    async fn after(&self, request: &Request, (): (), answer: Answer) -> Result<()> {
        if request.verb.writes() {
            self.linger().await;
        }
        let mut state = self.lock();
        if state.is_off {
            return Err(failure("the power is off"));
        }
        if request.verb == Verb::Put && answer.is_ok {
            state.acknowledged.push(request.path.clone());
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
