//! What the systems of a scripted run go through: pure text, so that any state can be computed again.

use testkit::ScriptedSystem;
use testkit::scripted::Shape;

use crate::observe::{States, followed_system};

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Key slots that are added, every second of which is removed again.
    pub slots: u64,
    /// Rounds of change, capture, point and log.
    pub rounds: u64,
}

impl Amount {
    /// For every run of the tests.
    pub const SHORT: Self = Self { slots: 2, rounds: 4 };
    /// At least 300 writes.
    pub const LONG: Self = Self { slots: 8, rounds: 16 };
}

/// The system that is followed and lists its changes.
pub(super) const MAIN: &str = "main";
/// The system that lists in no order, names its extents and is captured every other round.
pub(super) const SIDE: &str = "side";

/// Says whether the side system is captured in a round.
pub(super) fn has_side(round: u64) -> bool {
    round.is_multiple_of(2)
}

/// Says whether the main system is followed after its capture of a round.
pub(super) fn has_log(round: u64) -> bool {
    round.is_multiple_of(2)
}

/// Says whether a capture of the main system is interrupted behind a checkpoint first.
pub(super) fn is_interrupted(round: u64) -> bool {
    round % 4 == 2
}

/// Says whether the log is compacted at the end of a round.
pub(super) fn is_compacted(round: u64) -> bool {
    round % 4 == 2
}

/// Returns what happens to the main system before its capture of a round. Each line is one change.
pub(super) fn main_edits(round: u64) -> Vec<String> {
    if round == 0 {
        return lines(
            r#"
            dir . mode:755
            dir conf mode:750
            file conf/a "alpha" mode:640
            file conf/b 3~2000
            file conf/empty
            dir data
            file data/large 1*300000+2*300000
            file data/holes 4*5000 hole*70000 5~3000
            dir events
            symlink link conf/a
            fifo pipe
            node node "content"
            node node/child "of%20a%20node"
            "#,
        );
    }
    let before = round - 1;
    lines(&format!(
        r#"
        file data/large 1*300000+{seed}*64+2*300000 mtime:{round}
        file conf/a "alpha"+{seed}~40 mtime:{round}
        file conf/x{round} {seed}~700 mode:600
        delete conf/x{before}
        dir tree{round}
        file tree{round}/f {seed}*1500
        move tree{round} moved{round}
        delete moved{before}
        "#,
        seed = 100 + round,
    ))
}

/// Returns what happens to the main system while it is followed after its capture of a round.
pub(super) fn log_edits(round: u64) -> Vec<String> {
    lines(&format!(
        r#"
        file events/e{round} "event"+{seed}*1500 hole*10 "end"
        move events/e{round} events/done{round}
        file conf/b {seed}*2700 mtime:{round}
        delete conf/x{round}
        "#,
        seed = 200 + round,
    ))
}

/// Returns what happens to the side system before its capture of a round.
pub(super) fn side_edits(round: u64) -> Vec<String> {
    lines(&format!(
        r#"
        dir lake
        file lake/blocks blk_1=11*40000/4096 blk_{round}_2={seed}*30000/4096
        delete lake/part{before}
        file lake/part{round} p{round}={seed}~5000
        "#,
        seed = 300 + round,
        before = round.saturating_sub(2),
    ))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Returns both systems as they are before the first round.
pub(super) fn systems() -> (ScriptedSystem, ScriptedSystem) {
    (followed_system(Shape::Changes), ScriptedSystem::new("").with_shape(Shape::Unsorted))
}

/// Every state that the systems of a run go through.
#[derive(Debug)]
pub struct Expected {
    pub(super) main: States,
    pub(super) side: States,
}

impl Expected {
    /// Of runs of this length.
    pub fn new(amount: Amount) -> Self {
        let (mut main, mut side) = (Vec::new(), Vec::new());
        for round in 0..amount.rounds {
            main.extend(main_edits(round));
            if has_log(round) {
                main.extend(log_edits(round));
            }
            if has_side(round) {
                side.extend(side_edits(round));
            }
        }
        Self { main: States::new(main), side: States::new(side) }
    }
}
