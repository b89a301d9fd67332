//! The protocol between writers and collectors as a model, searched exhaustively with `stateright`.
//!
//! Steps are named after the code and `docs/collector.md`, where the results stand. Every party may stop
//! between any two steps, for ever or for a while: a search over all interleavings contains that a party
//! takes no step. A snapshot may be forgotten at any moment. Chunks, packs and segments are values here:
//! that they are durable before what names them is asked for is the store's promise, tested elsewhere.

mod canonical;
mod collector;
mod runs;
mod state;
mod variants;
mod writer;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use collector::CollectorAction;
use state::{Packs, Point, Seen, SessionSet, Stands, State, all_resolve};
use variants::{Bounds, Variant};
use writer::WriterAction;

const SEEN_DELETED: Seen = 1;
const SEEN_COMMITTED: Seen = 1 << 1;
const SEEN_FENCED: Seen = 1 << 2;
const SEEN_COMMITTED_AFTER_FENCE: Seen = 1 << 3;
const SEEN_REPACKED: Seen = 1 << 4;
const SEEN_DELETED_AFTER_REPACK: Seen = 1 << 5;
const SEEN_COMMITTED_BEHIND_CHECKPOINT: Seen = 1 << 6;
const SEEN_TAKEN_OVER: Seen = 1 << 7;
const SEEN_REUSED_WHILE_CONDEMNED: Seen = 1 << 8;
const SEEN_COMMITTED_DELTA: Seen = 1 << 9;
const SEEN_LAST_DONE: Seen = 1 << 10;

/// The model: the protocol, or a weakened one, within bounds.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    bounds: Bounds,
    variant: Option<Variant>,
}

/// One step of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Writer(usize, WriterAction),
    Collector(usize, CollectorAction),
    /// Somebody forgets a snapshot or a checkpoint.
    Forget(SessionSet),
    /// A point is created over a snapshot.
    CreatePoint(u8),
    /// Its creator checks that the snapshot is not forgotten.
    CheckPoint,
}

impl Protocol {
    /// Remembers that something has happened, if that is asked for.
    fn note(&self, state: &mut State, seen: Seen) {
        if self.bounds.remembers {
            state.seen |= seen;
        }
    }

    /// Several generations may be open.
    fn overlaps(&self) -> bool {
        matches!(
            self.variant,
            Some(
                Variant::NextGenerationBeforeDone
                    | Variant::CarefulOverlap
                    | Variant::WriterIgnoresOlderGeneration
            )
        )
    }

    /// A generation is over when it or a newer one is done.
    fn is_over(&self, state: &State, generation: usize) -> bool {
        match self.overlaps() {
            true => state.generations[generation].is_done,
            false => state.done_count() > generation,
        }
    }

    /// The generations that are condemned and not over.
    fn open(&self, state: &State) -> impl DoubleEndedIterator<Item = (usize, Packs)> {
        let generations = state.generations.iter().enumerate();
        generations
            .filter(|(n, _)| !self.is_over(state, *n))
            .filter_map(|(n, generation)| Some((n, generation.condemned?)))
    }

    fn point_steps(&self, state: &State, steps: &mut Vec<Step>) {
        match state.point {
            Point::None => {
                for (bit, stands) in state.sessions() {
                    if matches!(stands, Stands::Committed(_) | Stands::Forgotten(_)) {
                        steps.push(Step::CreatePoint(bit.trailing_zeros() as u8));
                    }
                }
            }
            Point::Created(_) => steps.push(Step::CheckPoint),
            Point::Sealed(_) | Point::GivenUp => {}
        }
    }

    fn has_what_is_committed(&self, state: &State) -> bool {
        let located = state.located();
        state.sessions().all(|(bit, stands)| match stands {
            Stands::Committed(refs) => all_resolve(&state.content, located, refs),
            Stands::Forgotten(refs) if state.point == Point::Sealed(bit.trailing_zeros() as u8) => {
                all_resolve(&state.content, located, refs)
            }
            _ => true,
        })
    }

    fn has_what_is_relied_on(&self, state: &State) -> bool {
        (0..self.bounds.writers).all(|n| {
            let (own, chunks) = writer::relies_on(self, state, n);
            all_resolve(&state.content, state.located() | own, chunks)
        })
    }

    fn keeps_progress(&self, state: &State) -> bool {
        !state.has_lost_progress
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(&self.bounds);
        for writer in &mut state.writers[..self.bounds.writers] {
            writer.step = writer::first_step(self);
        }
        vec![state.canonical(self)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for n in 0..self.bounds.writers {
            writer::actions(self, state, n, &mut |action| steps.push(Step::Writer(n, action)));
        }
        for n in 0..self.bounds.collectors {
            collector::actions(self, state, n, &mut |action| {
                steps.push(Step::Collector(n, action))
            });
        }
        for (bit, stands) in state.sessions() {
            if matches!(stands, Stands::Committed(_)) {
                steps.push(Step::Forget(bit));
            }
        }
        if self.bounds.has_point {
            self.point_steps(state, steps);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Writer(n, action) => writer::apply(self, &mut next, n, action),
            Step::Collector(n, action) => collector::apply(self, &mut next, n, action),
            Step::Forget(bit) => {
                if let Stands::Committed(refs) = state.stands(bit) {
                    next.put(bit, Stands::Forgotten(refs));
                }
            }
            Step::CreatePoint(n) => next.point = Point::Created(n),
            Step::CheckPoint => {
                if let Point::Created(n) = state.point {
                    let is_kept = matches!(state.stands(1 << n), Stands::Committed(_));
                    let is_unchecked = self.variant == Some(Variant::PointNotChecked);
                    next.point =
                        if is_kept || is_unchecked { Point::Sealed(n) } else { Point::GivenUp };
                }
            }
        }
        let next = next.canonical(self);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        if self.bounds.remembers {
            return sanity();
        }
        vec![
            Property::always("what is committed has a location", Self::has_what_is_committed),
            Property::always("what a live session relies on has", Self::has_what_is_relied_on),
            Property::always("a fenced capture keeps its checkpoint", Self::keeps_progress),
        ]
    }
}

/// What has to happen somewhere, lest the model prove nothing.
fn sanity() -> Vec<Property<Protocol>> {
    macro_rules! seen {
        ($name:literal, $what:expr) => {
            Property::sometimes($name, |_, state: &State| state.seen & $what != 0)
        };
    }
    vec![
        seen!("a pack is deleted", SEEN_DELETED),
        seen!("a snapshot is committed", SEEN_COMMITTED),
        seen!("a writer is fenced", SEEN_FENCED),
        seen!("a fenced writer commits in a new session", SEEN_COMMITTED_AFTER_FENCE),
        seen!("a pack is repacked", SEEN_REPACKED),
        seen!("a pack is deleted that held a live chunk", SEEN_DELETED_AFTER_REPACK),
        seen!("a capture commits behind a checkpoint", SEEN_COMMITTED_BEHIND_CHECKPOINT),
        seen!("a parent is taken over without look-up", SEEN_TAKEN_OVER),
        seen!("a chunk is reused while packs are condemned", SEEN_REUSED_WHILE_CONDEMNED),
        seen!("a delta is committed", SEEN_COMMITTED_DELTA),
        seen!("the last generation is done", SEEN_LAST_DONE),
    ]
}
