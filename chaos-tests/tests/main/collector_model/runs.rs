//! The runs: how far the protocol was searched, and how soon each weakened one breaks.

use super::*;

/// What two cores search in seconds.
const SMALL: Bounds = Bounds {
    writers: 2,
    sessions: 2,
    collectors: 1,
    generations: 1,
    puts: 1,
    repacks: 1,
    has_point: false,
    remembers: false,
};

fn search(name: &str, bounds: Bounds, variant: Option<Variant>) -> Vec<(&'static str, usize, String)> {
    let began = Instant::now();
    let protocol = Protocol { bounds, variant };
    let builder = protocol.checker();
    let threads = if variant.is_some() || bounds.remembers { 1 } else { 2 };
    let builder = builder.threads(threads);
    let (states, depth, found) = if variant.is_none() && !bounds.remembers {
        told(builder.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join())
    } else if bounds.remembers {
        told(builder.finish_when(HasDiscoveries::All).spawn_bfs().join())
    } else {
        told(builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join())
    };
    println!("{name}: {states} states, depth {depth}, {:.1} s", began.elapsed().as_secs_f64());
    found
}

fn told(checker: impl Checker<Protocol>) -> (usize, usize, Vec<(&'static str, usize, String)>) {
    let found = checker.discoveries().into_iter().map(|(name, path)| {
        let actions: Vec<_> = path.into_actions();
        let told: Vec<_> = actions.iter().map(|step| format!("{step:?}")).collect();
        (name, actions.len(), told.join("; "))
    });
    let found = found.collect();
    (checker.unique_state_count(), checker.max_depth(), found)
}


pub fn scratch_() {
    let env = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let bounds = Bounds {
        writers: env("W", 2) as usize,
        sessions: env("S", 2) as u8,
        collectors: env("C", 1) as usize,
        generations: env("G", 1) as usize,
        puts: env("P", 1) as u8,
        repacks: env("R", 1) as u8,
        has_point: env("PT", 0) == 1,
        remembers: env("SEEN", 0) == 1,
    };
    let variant = std::env::var("V").ok();
    let variant = variant.map(|name| *ALL.iter().find(|v| format!("{v:?}") == name).unwrap());
    for (name, steps, told) in search(&format!("{bounds:?} {variant:?}"), bounds, variant) {
        println!("  {name}: {steps} steps: {told}");
    }
}

const ALL: &[Variant] = &[
    Variant::TimeoutWithoutFence,
    Variant::FenceByDeletingAnnouncement,
    Variant::ReadCondemnedBeforeAnnounce,
    Variant::ListSessionsBeforeCondemn,
    Variant::NoWait,
    Variant::NoRemark,
    Variant::NoSingleOutcome,
    Variant::CondemnBeforeIndexRepacked,
    Variant::DeltaBaseNotMarked,
    Variant::DeltaOnCondemnedBase,
    Variant::ParentNotChecked,
    Variant::ParentCheckedBeforeCondemned,
    Variant::TakeoverWhileCondemned,
    Variant::ReuseOfCondemned,
    Variant::NoLookAtPack,
    Variant::ChooseUnlisted,
    Variant::CheckpointForgottenEarly,
    Variant::NextAnnouncedLate,
    Variant::NextAnnouncedLateUnchecked,
    Variant::CheckpointUnchecked,
    Variant::NextGenerationBeforeDone,
    Variant::CarefulOverlap,
    Variant::WriterIgnoresOlderGeneration,
    Variant::TidyWithoutCheckOpen,
    Variant::ForgetsListedLast,
    Variant::PointNotChecked,
];


pub fn variants_scratch_() {
    for variant in ALL {
        let found = search(&format!("{variant:?}"), SMALL, Some(*variant));
        for (name, steps, told) in found {
            println!("  {name}: {steps} steps: {told}");
        }
    }
}
