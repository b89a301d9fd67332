//! The scripted system's log as it comes.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    Batch, Content, ContentReader, Context, Follower, Item, LogPayload, Next, Payload, Position,
    Recheck, Result,
};

use super::cut::Contents;
use super::state::{State, position_of, revision_of, time_of};
use super::{Call, lock};

/// How long the follower waits before it says that there is nothing new.
const POLL_PERIOD: Duration = Duration::from_secs(1);
/// Small, so that a short script makes several batches.
const BATCH_EVENTS: usize = 2;

/// Reads history from a revision on.
#[derive(Debug)]
pub(super) struct ScriptedFollower {
    state: Arc<Mutex<State>>,
    payload: LogPayload,
    revision: u64,
    contents: Contents,
}

impl ScriptedFollower {
    pub(super) fn new(state: Arc<Mutex<State>>, payload: LogPayload, revision: u64) -> Self {
        let contents = Contents::new(Arc::clone(&state));
        Self { state, payload, revision, contents }
    }

    /// Takes what is there; none where nothing is.
    fn take(&mut self) -> Result<Option<Next>> {
        let state = lock(&self.state);
        let Some(mut events) = state.changes_since(self.revision) else {
            return Ok(Some(Next::Gap));
        };
        events.truncate(BATCH_EVENTS);
        let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else {
            return Ok(None);
        };
        let after = position_of(self.revision);
        let (first_at, last_at, last_revision) = (first.at, last.at, last.revision);
        events.iter().for_each(|(event, _)| self.contents.add_event(event));
        let payload = match self.payload {
            LogPayload::Raw => {
                let lines =
                    events.iter().map(|(event, _)| format!("{} {}\n", event.revision, event.line));
                Payload::Raw(Bytes::from(lines.collect::<String>()))
            }
            LogPayload::Changes => {
                Payload::Changes(events.into_iter().map(|(_, change)| change).collect())
            }
        };
        drop(state);
        self.revision = last_revision;
        let upto = position_of(last_revision);
        Ok(Some(Next::Batch(Batch { after, upto, first_at, last_at, payload })))
    }
}

#[async_trait]
impl Content for ScriptedFollower {
    async fn open(
        &self,
        item: &Item,
        extent: usize,
        range: Range<u64>,
    ) -> Result<Box<dyn ContentReader>> {
        self.contents.open(item, extent, range).await
    }

    async fn recheck(&self, item: &Item) -> Result<Recheck> {
        self.contents.recheck(item).await
    }
}

#[async_trait]
impl Follower for ScriptedFollower {
    async fn next(&mut self, context: &Context) -> Result<Next> {
        lock(&self.state).enter(Call::Next, "log")?;
        if let Some(next) = self.take()? {
            return Ok(next);
        }
        context.clock.sleep(POLL_PERIOD).await;
        if let Some(next) = self.take()? {
            return Ok(next);
        }
        let as_of = time_of(self.revision).max(context.clock.now());
        Ok(Next::Nothing { as_of })
    }

    async fn acknowledge(&mut self, durable: &Position) -> Result<()> {
        let mut state = lock(&self.state);
        state.enter(Call::Acknowledge, "log")?;
        state.acknowledged = state.acknowledged.max(revision_of(durable)?);
        Ok(())
    }
}
