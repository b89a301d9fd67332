//! The check of followers.

use futures::FutureExt;
use model::{Batch, Context, Follower, LogPayload, Next, Payload, System};

use super::changes::apply_all;
use super::{Baseline, assert_same_state, must};

/// Follows a system from a baseline until it proves that there is nothing new, and checks that
/// batches follow one another without a hole, that a dropped wait loses nothing and, for logs of
/// changes, that they lead from the baseline to the present state. Returns the batches; none where
/// the kind has no log.
///
/// # Panics
/// Where a rule of [`Follower`] is broken, or the system meets a gap.
pub async fn check_follower(
    system: &dyn System,
    from: &Baseline,
    context: &Context,
) -> Option<Vec<Batch>> {
    let payload = system.facts().log?;
    let mut follower = must("follow", system.follow(&from.position, context).await);
    let mut state = from.state.clone();
    let mut batches: Vec<Batch> = Vec::new();
    let mut reached = from.position.clone();
    while let Some(batch) = next_batch(follower.as_mut(), context, batches.last()).await {
        assert_eq!(batch.after, reached, "a batch does not begin where the one before ended");
        assert!(batch.first_at <= batch.last_at, "a batch ends before it begins");
        match (&batch.payload, payload) {
            (Payload::Raw(bytes), LogPayload::Raw) => assert!(!bytes.is_empty(), "an empty log"),
            (Payload::Changes(changes), LogPayload::Changes) => {
                assert!(!changes.is_empty(), "a batch without changes");
                must("apply", apply_all(&mut state, changes, follower.as_ref()).await);
            }
            (other, _) => {
                panic!("facts promise a log of {payload:?}, but a batch carries {other:?}")
            }
        }
        must("acknowledge", follower.acknowledge(&batch.upto).await);
        reached = batch.upto.clone();
        batches.push(batch);
    }
    must("acknowledge an earlier position", follower.acknowledge(&from.position).await);
    if payload == LogPayload::Changes {
        let full = must("cut", Baseline::take(system, context).await);
        assert_same_state("a log of changes applied to its base", &state, &full.state);
    }
    Some(batches)
}

/// Takes the next batch; none where the system proves that there is none.
async fn next_batch(
    follower: &mut dyn Follower,
    context: &Context,
    previous: Option<&Batch>,
) -> Option<Batch> {
    let previous_at = previous.map(|batch| batch.last_at);
    // Polled once and dropped: what it found without waiting counts, what it waited for is not lost.
    let polled = follower.next(context).now_or_never();
    let next = match polled {
        Some(next) => must("next", next),
        None => must("next", follower.next(context).await),
    };
    match next {
        Next::Batch(batch) => {
            assert!(previous_at.is_none_or(|at| at <= batch.first_at), "time runs backwards");
            Some(batch)
        }
        Next::Nothing { as_of } => {
            assert!(previous_at.is_none_or(|at| at <= as_of), "time runs backwards");
            None
        }
        Next::Gap => panic!("the history of the system does not reach back to the baseline"),
    }
}
