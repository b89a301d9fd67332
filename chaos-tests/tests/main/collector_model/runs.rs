//! The runs: how far the protocol was searched, and how soon each weakened one breaks.
//!
//! What is printed here stands in `docs/collector.md`.

use std::fmt::Debug;

use super::*;

/// The smallest bounds that hold a writer that comes back, a checkpoint and a collector.
const LEAST: Bounds = Bounds {
    writers: 2,
    sessions: 2,
    collectors: 1,
    generations: 1,
    puts: 0,
    repacks: 0,
    has_point: false,
    remembers: false,
};

/// What a search has found.
struct Found {
    states: usize,
    /// The violated property and the steps to there.
    broken: Option<(&'static str, Vec<String>)>,
    /// All properties that something was found for.
    names: Vec<&'static str>,
}

fn told(checker: impl Checker<Protocol>) -> Found {
    let mut found: Vec<_> = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| {
            (name, path.into_actions().iter().map(|step| format!("{step:?}")).collect::<Vec<_>>())
        })
        .collect();
    found.sort_by_key(|(name, steps)| (steps.len(), *name));
    let names = found.iter().map(|(name, _)| *name).collect();
    Found { states: checker.unique_state_count(), broken: found.into_iter().next(), names }
}

/// Prints and returns what `run` gives.
#[expect(
    clippy::print_stdout,
    reason = "states and times are asked for, and shown with --nocapture"
)]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it took is printed, and nothing depends on it"
)]
fn timed(name: impl Debug, bounds: &Bounds, run: impl FnOnce() -> Found) -> Found {
    let began = Instant::now();
    let found = run();
    let seconds = began.elapsed().as_secs_f64();
    let Bounds { writers, sessions, collectors, generations, puts, repacks, .. } = bounds;
    println!(
        "collector model, {name:?}: {writers} writers of {sessions} sessions, {collectors} collectors, \
         {generations} generations, {puts} puts, {repacks} repacks: {} states in {seconds:.1} s",
        found.states
    );
    if let Some((property, steps)) = found.broken.as_ref().filter(|_| !bounds.remembers) {
        println!("  not so: {property}; {} steps: {}", steps.len(), steps.join("; "));
    }
    found
}

/// Searches every state; fails where one is unsafe.
fn exhaust(name: &str, bounds: Bounds) {
    let protocol = Protocol { bounds, variant: None };
    let found = timed(name, &bounds, || {
        let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
        told(checker.spawn_dfs().join())
    });
    assert!(found.broken.is_none(), "the protocol is unsafe");
}

/// Finds the shortest way to break a variant.
fn breaks(variant: Variant, bounds: Bounds) -> Found {
    let protocol = Protocol { bounds, variant: Some(variant) };
    timed(variant, &bounds, || {
        let checker = || protocol.checker().finish_when(HasDiscoveries::AnyFailures);
        let found = told(checker().spawn_bfs().join());
        let Some((_, steps)) = &found.broken else { return found };
        // The checker looks up only after a block of states: a step less may do.
        let shorter = told(checker().target_max_depth(steps.len() + 1).spawn_bfs().join());
        if shorter.broken.is_some() { Found { states: found.states, ..shorter } } else { found }
    })
}

#[test]
fn two_writers_one_collector_three_generations_with_repack() {
    exhaust("repack", Bounds { generations: 3, repacks: 1, ..LEAST });
}

#[test]
fn two_writers_one_collector_three_generations_with_puts() {
    exhaust("puts, one session each", Bounds { generations: 3, puts: 1, sessions: 1, ..LEAST });
}

#[test]
fn two_writers_two_collectors_one_generation() {
    exhaust("two collectors", Bounds { collectors: 2, ..LEAST });
}

#[test]
fn a_point_keeps_what_it_names() {
    exhaust("a point", Bounds { writers: 1, has_point: true, ..LEAST });
}

#[test]
#[ignore = "the full tier runs it"]
fn two_writers_one_collector_three_generations_with_puts_and_repack() {
    exhaust("puts", Bounds { generations: 3, puts: 1, ..LEAST });
    exhaust(
        "puts and repack",
        Bounds { generations: 3, puts: 1, repacks: 1, sessions: 1, ..LEAST },
    );
}

#[test]
#[ignore = "the full tier runs it"]
fn two_collectors_at_larger_bounds() {
    exhaust("two collectors, repack", Bounds { collectors: 2, sessions: 1, repacks: 1, ..LEAST });
    let two_generations = Bounds { writers: 1, collectors: 2, generations: 2, ..LEAST };
    exhaust("two collectors, two generations", two_generations);
}

/// Each weakening with the bounds within which it breaks.
fn weakened() -> Vec<(Variant, Bounds)> {
    let one = Bounds { writers: 1, ..LEAST };
    let puts = Bounds { puts: 1, ..LEAST };
    let point = Bounds { sessions: 1, has_point: true, ..one };
    let overlapping = Bounds { generations: 2, repacks: 1, sessions: 1, ..one };
    vec![
        (Variant::TimeoutWithoutFence, LEAST),
        (Variant::FenceByDeletingAnnouncement, LEAST),
        (Variant::ReadCondemnedBeforeAnnounce, LEAST),
        (Variant::ListSessionsBeforeCondemn, LEAST),
        (Variant::NoWait, LEAST),
        (Variant::NoRemark, LEAST),
        (Variant::NoSingleOutcome, Bounds { collectors: 2, sessions: 1, ..LEAST }),
        (Variant::CondemnBeforeIndexRepacked, Bounds { repacks: 1, ..one }),
        (Variant::DeltaBaseNotMarked, LEAST),
        (Variant::DeltaOnCondemnedBase, puts),
        (Variant::ParentNotChecked, LEAST),
        (Variant::ParentCheckedBeforeCondemned, LEAST),
        (Variant::TakeoverWhileCondemned, LEAST),
        (Variant::ReuseOfCondemned, LEAST),
        (Variant::NoLookAtPack, Bounds { writers: 1, ..puts }),
        (Variant::ChooseUnlisted, Bounds { writers: 1, generations: 2, ..puts }),
        (Variant::CheckpointForgottenEarly, LEAST),
        (Variant::NextAnnouncedLateUnchecked, LEAST),
        (Variant::NextGenerationBeforeDone, overlapping),
        (Variant::CarefulOverlap, overlapping),
        (Variant::WriterIgnoresOlderGeneration, overlapping),
        (Variant::TidyWithoutCheckOpen, Bounds { collectors: 2, generations: 2, ..one }),
        (Variant::ForgetsListedLast, point),
        (Variant::PointNotChecked, point),
    ]
}

#[test]
fn every_weakened_protocol_breaks() {
    for (variant, bounds) in weakened() {
        assert!(breaks(variant, bounds).broken.is_some(), "{variant:?} is not caught");
    }
}

/// A checkpoint is guarded twice: its follower is announced before it is committed, and looks whether it
/// is forgotten afterwards. Either is enough.
#[test]
fn one_of_the_guards_of_a_checkpoint_is_enough() {
    for variant in [Variant::NextAnnouncedLate, Variant::CheckpointUnchecked] {
        assert!(breaks(variant, LEAST).broken.is_none(), "{variant:?} breaks");
    }
}

#[test]
fn the_model_is_not_vacuous() {
    let bounds = Bounds { writers: 1, puts: 1, repacks: 1, remembers: true, ..LEAST };
    let protocol = Protocol { bounds, variant: None };
    let found = timed("sanity", &bounds, || told(protocol.checker().spawn_bfs().join()));
    for property in protocol.properties() {
        assert!(found.names.contains(&property.name), "never: {}", property.name);
    }
}
