//! The check of replays.

use futures::StreamExt;
use futures::stream;
use model::{Batch, Context, ErrorKind, Position, Replay, Replayed, Result, System};

use super::{Baseline, assert_same_state, check_follower, must, observe};

/// Follows a system with a raw log from a baseline and checks that its replay gives, twice, exactly
/// the present state with the present proof, and that it refuses logs with a hole. Returns how many
/// batches were replayed; none where the kind has no raw log or its replay needs a server.
///
/// # Panics
/// Where a rule of [`Replay`] is broken.
pub async fn check_replay(
    system: &dyn System,
    base: &Baseline,
    context: &Context,
) -> Option<usize> {
    let replay = system.replay()?;
    let batches = check_follower(system, base, context).await?;
    let now = must("cut", Baseline::take(system, context).await);
    let all = Run { replay: replay.as_ref(), base, context };
    let first = must("replay", all.replay(&batches, &now.position).await)?;
    let second = must("replay again", all.replay(&batches, &now.position).await)?;
    assert_same_state("a replay", &first.state, &now.state);
    assert_same_state("a second replay", &second.state, &now.state);
    assert_eq!(first.proof.claims, now.proof.claims, "a replayed state proves something else");
    assert_eq!(first.position, now.position, "a replayed state stands elsewhere");

    for batch in &batches {
        let part = must("replay a part", all.replay(&batches, &batch.upto).await)?;
        assert_eq!(part.position, batch.upto, "a part of a replay stands elsewhere");
    }
    if let [_, rest @ ..] = batches.as_slice() {
        let refused = all.replay(rest, &now.position).await;
        assert_invalid("batches that do not begin at the base", refused);
        let refused = all.replay(batches.split_last()?.1, &now.position).await;
        assert_invalid("batches that do not reach the position", refused);
    }
    Some(batches.len())
}

struct Run<'a> {
    replay: &'a dyn Replay,
    base: &'a Baseline,
    context: &'a Context,
}

impl Run<'_> {
    /// Replays; none where a server is needed.
    async fn replay(&self, batches: &[Batch], position: &Position) -> Result<Option<Baseline>> {
        let batches: Vec<_> = batches.iter().cloned().map(Ok).collect();
        let base = Box::new(self.base.to_cut());
        let replayed =
            self.replay.replay(base, stream::iter(batches).boxed(), position, self.context).await?;
        let Replayed::State(cut) = replayed else { return Ok(None) };
        let state = observe(cut.as_ref(), self.context).await?;
        let (position, proof) = (cut.position().clone(), cut.proof().await?);
        cut.release().await?;
        Ok(Some(Baseline { position, state, proof }))
    }
}

fn assert_invalid(what: &str, result: Result<Option<Baseline>>) {
    match result {
        Ok(_) => panic!("{what} were replayed"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:?}"),
    }
}
