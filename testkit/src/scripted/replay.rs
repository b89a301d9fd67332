//! Replay of the scripted system's raw log.

use async_trait::async_trait;
use futures::StreamExt;
use model::{
    BatchStream, Context, Cut, Error, ErrorKind, Payload, Position, Proof, Replay, Replayed, Result,
};

use super::state::{
    Event, Items, ScriptedExtent, ScriptedItem, play, position_of, proof_of, time_of,
};
use crate::conformance::{Observed, observe};
use crate::{MemoryCut, ObservedItem};

/// Replays lines of the script over a stored state.
#[derive(Debug)]
pub(super) struct ScriptedReplay {
    pub(super) needs_server: bool,
}

#[async_trait]
impl Replay for ScriptedReplay {
    async fn replay(
        &self,
        base: Box<dyn Cut>,
        mut batches: BatchStream,
        position: &Position,
        context: &Context,
    ) -> Result<Replayed> {
        if self.needs_server {
            return Ok(Replayed::NeedsServer { why: "the script says so".to_owned() });
        }
        let mut reached = base.position().clone();
        let mut items = items_of(observe(base.as_ref(), context).await?);
        while reached != *position {
            let batch = batches.next().await.ok_or_else(|| invalid("the log ends too early"))??;
            if batch.after != reached {
                return Err(invalid("a batch is missing"));
            }
            let Payload::Raw(lines) = batch.payload else { return Err(invalid("no raw log")) };
            for event in read_events(&lines)? {
                let upto = position_of(event.revision);
                play(&mut items, &event);
                reached = upto;
                if reached == *position {
                    break;
                }
            }
        }
        let observed: Observed = items
            .into_iter()
            .map(|(key, item)| {
                let content = item.content();
                (key.clone(), ObservedItem { item: item.to_item(&key), content })
            })
            .collect();
        let facts = observed.iter().map(|(key, o)| (key, o.item.kind, &o.item.attributes));
        let proof = Proof { method: "replay".to_owned(), ..proof_of("", facts) };
        Ok(Replayed::State(Box::new(MemoryCut::new(position.clone(), observed, proof))))
    }
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::Invalid, "replay log", "").detail(why)
}

fn read_events(lines: &[u8]) -> Result<Vec<Event>> {
    let text = std::str::from_utf8(lines)
        .map_err(|error| Error::new(ErrorKind::Corrupt, "read log", "").because(error))?;
    text.lines()
        .map(|line| {
            let (revision, line) = line.split_once(' ')?;
            let revision = revision.parse().ok()?;
            Some(Event { revision, at: time_of(revision), line: line.to_owned() })
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "read log", text.to_owned()))
}

/// Turns a stored state back into what the system held.
fn items_of(observed: Observed) -> Items {
    observed
        .into_iter()
        .map(|(key, observed)| (key, ScriptedItem::from_observed(&observed)))
        .collect()
}

impl ScriptedItem {
    fn from_observed(observed: &ObservedItem) -> Self {
        let version = observed.item.version.as_ref().and_then(|v| v.0.as_ref().try_into().ok());
        let mut rest = observed.content.clone();
        let extents = observed.item.extents.iter().map(|extent| {
            let length = usize::try_from(extent.length_bytes).unwrap_or(usize::MAX);
            let bytes = rest.split_to(length.min(rest.len()));
            match &extent.body {
                model::ExtentBody::Hole => ScriptedExtent::Hole(extent.length_bytes),
                model::ExtentBody::Data { identity, checksums } => ScriptedExtent::Data {
                    bytes,
                    identity: identity.clone(),
                    stripe_bytes: checksums.as_ref().map(|checksums| checksums.stripe_bytes),
                },
            }
        });
        let extents = extents.collect();
        Self {
            version: version.map(u64::from_be_bytes).unwrap_or_default(),
            ..Self::new(observed.item.kind, observed.item.attributes.clone(), extents)
        }
    }
}
