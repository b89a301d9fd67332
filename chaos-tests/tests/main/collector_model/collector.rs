//! The steps of collectors, in the order of `repository::gc`: survey, mark, repack, condemn, list
//! sessions, resolve them, mark again, write the index, decide, look again, delete, finish. Any step may
//! be the last: a collector that is killed begins again, and adopts what it finds.

use super::Protocol;
use super::state::{
    A, B, Chunks, Collector, CollectorStep, DELTA_B, NO_PACK, Packs, Point, SessionSet, Stands,
    State, each, pack_bit, resolves, session_bit, slots,
};
use super::variants::Variant;

/// One step of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorAction {
    /// C1 `survey`: a generation is open.
    Adopt(usize),
    /// C2 `mark`: no live chunk chose these packs.
    Mark(Packs),
    /// C3 `repack`: put a pack that holds this, copied from another.
    Repack(u8, u8),
    /// C3 `repack`: create its segment.
    IndexRepacked,
    /// C4 `condemn`.
    Condemn,
    /// C5 `list_sessions`.
    ListSessions,
    /// C6 `resolve`: take a session's commit key.
    Fence(SessionSet),
    /// A variant's way to be rid of a session.
    GiveUp(SessionSet),
    /// C6 is over; C7 `remark` begins: list forgets.
    Resolved,
    /// C7 `remark`: list points and commits.
    Remark,
    /// C7 `remark`: list the index and the packs; this goes.
    Relocate(Packs),
    /// C8 `write_index`.
    WriteIndex,
    /// C9 `decide`.
    Decide,
    /// C10 `check_open`.
    CheckOpen,
    /// C11 `remove_segments`.
    RemoveSegments,
    /// C12 `sweep`: delete one pack.
    Sweep(u8),
    /// C13 `finish`.
    Finish,
    /// C14 `tidy`.
    Tidy,
    /// The process died; another begins.
    BeginAgain,
}

/// Offers what a collector may do.
pub fn actions(
    protocol: &Protocol,
    state: &State,
    n: usize,
    offer: &mut dyn FnMut(CollectorAction),
) {
    let collector = &state.collectors[n];
    match collector.step {
        CollectorStep::Survey => return survey_actions(protocol, state, offer),
        CollectorStep::IndexRepacked => offer(CollectorAction::IndexRepacked),
        CollectorStep::Condemn => offer(CollectorAction::Condemn),
        CollectorStep::ListSessionsEarly | CollectorStep::ListSessions => {
            offer(CollectorAction::ListSessions);
        }
        CollectorStep::Resolve => resolve_actions(protocol, state, collector, offer),
        CollectorStep::Remark => offer(CollectorAction::Remark),
        CollectorStep::Relocate => {
            for sweep in sweeps(protocol, state, collector) {
                offer(CollectorAction::Relocate(sweep));
            }
        }
        CollectorStep::WriteIndex => offer(CollectorAction::WriteIndex),
        CollectorStep::Decide => offer(CollectorAction::Decide),
        CollectorStep::CheckOpen => offer(CollectorAction::CheckOpen),
        CollectorStep::RemoveSegments => offer(CollectorAction::RemoveSegments),
        CollectorStep::Sweep => {
            let left = collector.sweep & state.exists;
            slots(left).for_each(|slot| offer(CollectorAction::Sweep(slot as u8)));
            if left == 0 {
                offer(CollectorAction::Finish);
            }
        }
    }
    offer(CollectorAction::BeginAgain);
}

fn survey_actions(protocol: &Protocol, state: &State, offer: &mut dyn FnMut(CollectorAction)) {
    if !protocol.overlaps() && can_tidy(state) {
        offer(CollectorAction::Tidy);
    }
    let open: Vec<_> = protocol.open(state).map(|(n, _)| n).collect();
    open.iter().for_each(|n| offer(CollectorAction::Adopt(*n)));
    if (!open.is_empty() && !protocol.overlaps())
        || next_generation(state) >= protocol.bounds.generations
    {
        return;
    }
    let live = live(state);
    let located = located(protocol, state);
    for kept in rescues(protocol, state, located, state.exists, live) {
        let dead = state.exists & !kept;
        if dead != 0 {
            offer(CollectorAction::Mark(dead));
        }
    }
    if state.repacks_left > 0 {
        for slot in slots(state.located()) {
            for content in copies(state, slot, live) {
                offer(CollectorAction::Repack(slot as u8, content));
            }
        }
    }
}

/// The number that a new generation gets: one more than the newest seen.
fn next_generation(state: &State) -> usize {
    let is_seen = |generation: &super::state::Generation| {
        generation.condemned.is_some() || generation.is_done
    };
    state.generations.iter().rposition(is_seen).map_or(0, |n| n + 1)
}

/// There is something to tidy, and somebody whom that may mislead (else it is as good as done).
fn can_tidy(state: &State) -> bool {
    let done = state.done_count();
    let is_left = |generation: &super::state::Generation| {
        generation.condemned.is_some() || generation.outcome.is_some()
    };
    state.generations[..done].iter().any(is_left)
        || (done > 1 && state.generations[..done - 1].iter().any(|before| before.is_done))
}

/// What a pack that is repacked may become: what is needed of it, and a delta materialised or copied.
fn copies(state: &State, slot: usize, live: Chunks) -> Vec<u8> {
    let (content, packs) = (state.content[slot], state.located());
    let holds = |packs: Packs, what: u8| slots(packs).any(|slot| state.content[slot] & what != 0);
    let needs_base = live & B != 0 && holds(packs, DELTA_B) && !holds(packs, B);
    let needed = live | if needs_base { A } else { 0 };
    let full = content & needed & (A | B);
    if content & DELTA_B == 0 || live & B == 0 {
        return if full == 0 { Vec::new() } else { vec![full] };
    }
    let mut copies = Vec::new();
    if holds(packs, A) {
        copies.push(full | B);
    }
    if holds(packs & !(1 << slot), A) {
        copies.push(full | DELTA_B);
    }
    copies
}

fn resolve_actions(
    protocol: &Protocol,
    state: &State,
    collector: &Collector,
    offer: &mut dyn FnMut(CollectorAction),
) {
    let pending: Vec<_> = state
        .sessions()
        .filter(|(bit, stands)| {
            let is_open = matches!(stands, Stands::Announced | Stands::Withdrawn);
            collector.sessions & bit != 0 && is_open
        })
        .map(|(bit, _)| bit)
        .collect();
    let gives_up = matches!(
        protocol.variant,
        Some(Variant::TimeoutWithoutFence | Variant::FenceByDeletingAnnouncement)
    );
    if pending.is_empty() || protocol.variant == Some(Variant::NoWait) {
        return offer(CollectorAction::Resolved);
    }
    for bit in pending {
        offer(if gives_up { CollectorAction::GiveUp(bit) } else { CollectorAction::Fence(bit) });
    }
}

/// What is referred to: by snapshots that are not forgotten, or that a point names.
fn live(state: &State) -> Chunks {
    live_but(state, forgotten(state), pointed(state))
}

/// As [`live`], where these were forgotten, and these named by a point, when that was listed.
fn live_but(state: &State, forgets: SessionSet, pointed: SessionSet) -> Chunks {
    state.sessions().fold(0, |live, (bit, stands)| match stands {
        Stands::Committed(refs) | Stands::Forgotten(refs)
            if forgets & bit == 0 || pointed & bit != 0 =>
        {
            live | refs
        }
        _ => live,
    })
}

fn pointed(state: &State) -> SessionSet {
    match state.point {
        Point::Created(n) | Point::Sealed(n) => 1 << n,
        Point::None | Point::GivenUp => 0,
    }
}

fn forgotten(state: &State) -> SessionSet {
    let is_forgotten = |stands: &Stands| matches!(stands, Stands::Forgotten(_));
    state.sessions().filter(|(_, stands)| is_forgotten(stands)).fold(0, |set, (bit, _)| set | bit)
}

fn located(protocol: &Protocol, state: &State) -> Packs {
    match protocol.variant {
        Some(Variant::ChooseUnlisted) => state.indexed,
        _ => state.located(),
    }
}

/// What may be deleted of what is condemned: one set for each choice of what is rescued.
fn sweeps(protocol: &Protocol, state: &State, collector: &Collector) -> Vec<Packs> {
    if protocol.variant == Some(Variant::NoRemark) {
        return vec![collector.condemned];
    }
    let mut located = located(protocol, state);
    if protocol.variant == Some(Variant::CondemnBeforeIndexRepacked) {
        located |= pack_bit(collector.copy);
    }
    let condemned = match protocol.variant {
        Some(Variant::CarefulOverlap | Variant::WriterIgnoresOlderGeneration) => {
            let open = state.generations.iter().filter(|generation| !generation.is_done);
            open.fold(collector.condemned, |all, open| all | open.condemned.unwrap_or(0))
        }
        _ => collector.condemned,
    };
    let kept = rescues(protocol, state, located, condemned, collector.live);
    kept.into_iter().map(|kept| collector.condemned & !kept).collect()
}

/// The ways to keep a location of every live chunk that has none outside of `condemned`.
fn rescues(
    protocol: &Protocol,
    state: &State,
    located: Packs,
    condemned: Packs,
    live: Chunks,
) -> Vec<Packs> {
    let needs_base = protocol.variant != Some(Variant::DeltaBaseNotMarked);
    let outside = located & !condemned;
    let inside = located & condemned;
    let holding = |what: u8| slots(inside).filter(move |slot| state.content[*slot] & what != 0);
    let mut kept = vec![0];
    for chunk in each(live) {
        if resolves(&state.content, outside, chunk, needs_base) {
            continue;
        }
        let mut choices: Vec<Packs> = holding(chunk).map(|slot| 1 << slot).collect();
        if chunk == B {
            let has_base = !needs_base || resolves(&state.content, outside, A, true);
            // Where the delta lies outside, its base alone is rescued.
            let deltas: Vec<Packs> = slots(located)
                .filter(|slot| state.content[*slot] & DELTA_B != 0)
                .map(|slot| (1 << slot) & condemned)
                .collect();
            for delta in deltas {
                if has_base {
                    choices.push(delta);
                } else {
                    choices.extend(holding(A).map(|base| delta | 1 << base));
                }
            }
        }
        if !choices.is_empty() {
            kept = kept
                .iter()
                .flat_map(|kept| choices.iter().map(move |choice| kept | choice))
                .collect();
        }
    }
    kept.sort_unstable();
    kept.dedup();
    kept
}

/// Takes a step.
pub fn apply(protocol: &Protocol, state: &mut State, n: usize, action: CollectorAction) {
    let mut collector = state.collectors[n];
    let lists_early = protocol.variant == Some(Variant::ListSessionsBeforeCondemn);
    match action {
        CollectorAction::Adopt(generation) => {
            collector.generation = generation as u8;
            collector.condemned = state.generations[generation].condemned.unwrap_or(0);
            collector.step = CollectorStep::ListSessions;
        }
        CollectorAction::Mark(dead) => {
            collector.generation = next_generation(state) as u8;
            collector.condemned = dead;
            collector.step =
                if lists_early { CollectorStep::ListSessionsEarly } else { CollectorStep::Condemn };
        }
        CollectorAction::Repack(source, content) => {
            let Some(copy) = state.new_pack(content) else { return };
            collector.copy = copy;
            collector.step = CollectorStep::IndexRepacked;
            state.repacks_left -= 1;
            if protocol.variant == Some(Variant::CondemnBeforeIndexRepacked) {
                collector.generation = next_generation(state) as u8;
                collector.condemned = 1 << source;
                collector.step = CollectorStep::Condemn;
            }
        }
        CollectorAction::IndexRepacked => {
            state.indexed |= pack_bit(collector.copy);
            collector = Collector::new();
            protocol.note(state, super::SEEN_REPACKED);
        }
        CollectorAction::Condemn => {
            let condemned = &mut state.generations[usize::from(collector.generation)].condemned;
            collector.condemned = *condemned.get_or_insert(collector.condemned);
            collector.step =
                if lists_early { CollectorStep::Resolve } else { CollectorStep::ListSessions };
        }
        CollectorAction::ListSessions => {
            let open = state.sessions().filter(|(_, stands)| *stands == Stands::Announced);
            collector.sessions = open.fold(0, |set, (bit, _)| set | bit);
            collector.step = match collector.step {
                CollectorStep::ListSessionsEarly => CollectorStep::Condemn,
                _ => CollectorStep::Resolve,
            };
        }
        CollectorAction::Fence(bit) => fence(protocol, state, bit),
        CollectorAction::GiveUp(bit) => {
            collector.sessions &= !bit;
            if protocol.variant == Some(Variant::FenceByDeletingAnnouncement) {
                state.put(bit, Stands::Withdrawn);
            }
        }
        CollectorAction::Resolved => list_forgets(protocol, state, &mut collector),
        CollectorAction::Remark => {
            collector.live = match protocol.variant {
                Some(Variant::ForgetsListedLast) => {
                    live_but(state, forgotten(state), collector.forgets)
                }
                _ => live_but(state, collector.forgets, pointed(state)),
            };
            (collector.forgets, collector.step) = (0, CollectorStep::Relocate);
        }
        _ => return delete(protocol, state, n, action),
    }
    state.collectors[n] = collector;
}

/// C7 begins: forgets are listed before what they may be about. Without points nobody can tell whether
/// commits are listed at the same moment.
fn list_forgets(protocol: &Protocol, state: &State, collector: &mut Collector) {
    collector.sessions = 0;
    collector.step = CollectorStep::Remark;
    if protocol.variant == Some(Variant::ForgetsListedLast) {
        collector.forgets = pointed(state);
    } else if protocol.bounds.has_point {
        collector.forgets = forgotten(state);
    } else {
        collector.live = live(state);
        collector.step = CollectorStep::Relocate;
    }
}

/// C6 `resolve`: the session is closed; behind a checkpoint that was forgotten early, all is lost.
fn fence(protocol: &Protocol, state: &mut State, bit: SessionSet) {
    state.has_lost_progress |= state.has_forgotten_early
        && state.writers.iter().enumerate().any(|(n, writer)| {
            writer.has_checkpoint && session_bit(n, usize::from(writer.session)) == bit
        });
    protocol.note(state, super::SEEN_FENCED);
    state.put(bit, Stands::Closed);
}

/// The newest generation that is done stays, all else of those that are goes.
fn tidy(state: &mut State) {
    let done = state.done_count();
    for (n, generation) in state.generations[..done].iter_mut().enumerate() {
        (generation.condemned, generation.outcome) = (None, None);
        generation.is_done &= n + 1 == done;
    }
}

fn delete(protocol: &Protocol, state: &mut State, n: usize, action: CollectorAction) {
    let mut collector = state.collectors[n];
    let generation = usize::from(collector.generation);
    match action {
        CollectorAction::Relocate(sweep) => {
            collector.sweep = sweep;
            collector.merged = state.located() & !sweep;
            collector.dropped = state.indexed & !collector.merged;
            // These were for this alone.
            (collector.condemned, collector.live, collector.copy) = (0, 0, NO_PACK);
            collector.step = CollectorStep::WriteIndex;
            if protocol.bounds.collectors == 1 {
                // Only collectors see the steps up to the first that deletes: one that is alone, and
                // stops between them, begins as if it had stopped before.
                state.collectors[n] = collector;
                delete(protocol, state, n, CollectorAction::WriteIndex);
                delete(protocol, state, n, CollectorAction::Decide);
                return delete(protocol, state, n, CollectorAction::CheckOpen);
            }
        }
        CollectorAction::WriteIndex => {
            state.indexed |= collector.merged;
            (collector.merged, collector.step) = (0, CollectorStep::Decide);
        }
        CollectorAction::Decide => {
            let own = (collector.sweep, collector.dropped);
            let outcome = *state.generations[generation].outcome.get_or_insert(own);
            if protocol.variant != Some(Variant::NoSingleOutcome) {
                (collector.sweep, collector.dropped) = outcome;
            }
            collector.step = match protocol.variant {
                Some(Variant::TidyWithoutCheckOpen) => CollectorStep::RemoveSegments,
                _ => CollectorStep::CheckOpen,
            };
        }
        CollectorAction::CheckOpen => {
            if protocol.is_over(state, generation) {
                collector = Collector::new();
            } else {
                collector.step = CollectorStep::RemoveSegments;
            }
        }
        CollectorAction::RemoveSegments => {
            state.indexed &= !collector.dropped;
            (collector.dropped, collector.step) = (0, CollectorStep::Sweep);
        }
        CollectorAction::Sweep(slot) => {
            state.exists &= !(1 << slot);
            protocol.note(state, super::SEEN_DELETED);
            if state.content[usize::from(slot)] & live(state) != 0 {
                protocol.note(state, super::SEEN_DELETED_AFTER_REPACK);
            }
        }
        CollectorAction::Finish => {
            state.generations[generation].is_done = true;
            collector = Collector::new();
            if generation + 1 == protocol.bounds.generations {
                protocol.note(state, super::SEEN_LAST_DONE);
            }
        }
        CollectorAction::Tidy => tidy(state),
        CollectorAction::BeginAgain => collector = Collector::new(),
        _ => {}
    }
    state.collectors[n] = collector;
}
