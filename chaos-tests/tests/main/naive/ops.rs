//! Random operations.

use proptest::collection::vec;
use proptest::prelude::*;
use repository::mark::MarkKind;

/// One thing that is done to a repository or to a system. Numbers choose among what there is.
#[derive(Debug, Clone)]
pub enum Op {
    /// The system goes through these lines of a script.
    Edit(usize, Vec<String>),
    /// The system is captured.
    Capture(usize),
    /// What was captured since the last point becomes a point.
    Seal,
    /// A snapshot that nothing needs is forgotten.
    Forget(usize),
    /// A point is forgotten.
    ForgetPoint(usize),
    /// A point is marked.
    Mark(usize, MarkKind),
    /// A mark is taken back.
    Unmark(usize, MarkKind),
    /// What the followed system went through since its newest snapshot goes into its log.
    Follow,
    /// Batches become segments.
    Compact,
    /// Batches that segments hold are deleted.
    DeleteCompacted,
    /// Another process opens the repository, with a folder for what can be rebuilt or without.
    Reopen(bool),
    /// A snapshot is restored.
    Restore(usize),
    /// Two snapshots are compared.
    Diff(usize, usize),
    /// The log is replayed up to one of its batches.
    Replay(usize),
}

/// How many systems there are: one for each shape of a cut.
pub const SYSTEMS: usize = 3;

pub fn ops(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Op>> {
    vec(op(), length)
}

fn op() -> impl Strategy<Value = Op> {
    let system = 0..SYSTEMS;
    let choice = 0..1_000_usize;
    prop_oneof![
        6 => (system.clone(), vec(line(), 1..6))
            .prop_map(|(system, lines)| Op::Edit(system, lines.concat())),
        6 => system.prop_map(Op::Capture),
        3 => Just(Op::Seal),
        1 => choice.clone().prop_map(Op::Forget),
        1 => choice.clone().prop_map(Op::ForgetPoint),
        2 => (choice.clone(), mark()).prop_map(|(point, mark)| Op::Mark(point, mark)),
        1 => (choice.clone(), mark()).prop_map(|(point, mark)| Op::Unmark(point, mark)),
        3 => Just(Op::Follow),
        1 => Just(Op::Compact),
        1 => Just(Op::DeleteCompacted),
        2 => any::<bool>().prop_map(Op::Reopen),
        2 => choice.clone().prop_map(Op::Restore),
        2 => (choice.clone(), choice.clone()).prop_map(|(old, new)| Op::Diff(old, new)),
        1 => choice.prop_map(Op::Replay),
    ]
}

fn mark() -> impl Strategy<Value = MarkKind> {
    prop_oneof![
        Just(MarkKind::Pin),
        Just(MarkKind::Verified),
        (0..2).prop_map(|number| MarkKind::Tag(format!("tag-{number}"))),
    ]
}

/// Lines of a script that belong together: parents are there before their children.
fn line() -> impl Strategy<Value = Vec<String>> {
    let (directory, name) = (0..3, 0..4);
    prop_oneof![
        6 => (directory.clone(), name.clone(), content(), 0..3).prop_map(|(d, n, content, mode)| {
            vec![format!("dir d{d}"), format!("file d{d}/f{n} mode:64{mode} {content}")]
        }),
        1 => (directory.clone(), name.clone())
            .prop_map(|(d, n)| vec![format!("dir d{d}"), format!("symlink d{d}/l{n} f{n}")]),
        1 => (directory.clone(), content())
            .prop_map(|(d, content)| vec![format!("node n{d} {content}")]),
        2 => (directory.clone(), name).prop_map(|(d, n)| vec![format!("delete d{d}/f{n}")]),
        1 => directory.clone().prop_map(|d| vec![format!("delete d{d}")]),
        1 => (directory.clone(), 1..3).prop_map(|(d, step)| {
            let to = (d + step) % 3;
            vec![format!("dir d{d}"), format!("move d{d} d{to}")]
        }),
    ]
}

/// Content in the notation of scripts. A name of an extent says which bytes it has, so that none lies.
fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        6 => (0..9, 0..3_000).prop_map(|(seed, length)| format!("{seed}~{length}")),
        3 => (0..9, 1..9_000).prop_map(|(seed, length)| format!("{seed}*{length}")),
        2 => (0..9, 1..9).prop_map(|(seed, part)| {
            format!("b{seed}={seed}*20000/4096 hole*5000 b{part}={part}*20000/4096")
        }),
        // A large content that is changed in place.
        1 => (0..5).prop_map(|seed| format!("1*350000+{seed}*50+2*350000")),
    ]
}
