//! Ends processes: asks the first one, waits, kills what is left of its group and of those that bear its mark.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Clock, Error, ErrorKind, Result};
use rustix::process::Signal;

use super::{ProcessId, marked, members};

/// How long the kernel may take to end what was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks: at first short, then longer.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(2);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(50);
/// Something that starts new processes all the time may need several rounds.
const ROUNDS: usize = 20;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was gone already.
    Before,
    /// It ended as it was asked.
    Asked,
    /// It did not end in time and was killed.
    Killed,
}

/// Ends a server: its process, its group, and all that bear its mark.
///
/// # Errors
/// `Unavailable` where something cannot be killed.
pub async fn stop(
    leader: ProcessId,
    signal: Signal,
    within: Duration,
    mark: &str,
    clock: &dyn Clock,
) -> Result<Ended> {
    let mut known: BTreeSet<ProcessId> = members(leader).into_iter().collect();
    known.insert(leader);
    let mut ended = Ended::Before;
    if leader.signal(signal) {
        let is_gone = wait_until_gone(&BTreeSet::from([leader]), within, clock).await;
        ended = if is_gone { Ended::Asked } else { Ended::Killed };
        // What it started while it stopped.
        known.extend(members(leader));
    }
    kill(known, mark, clock).await?;
    Ok(ended)
}

/// Kills processes and all that bear a mark, until there are none.
///
/// # Errors
/// `Unavailable` where something cannot be killed.
pub async fn kill(mut known: BTreeSet<ProcessId>, mark: &str, clock: &dyn Clock) -> Result<()> {
    for _ in 0..ROUNDS {
        known.extend(marked(mark));
        known.retain(|id| id.is_alive());
        if known.is_empty() {
            return Ok(());
        }
        for id in &known {
            id.signal(Signal::KILL);
        }
        wait_until_gone(&known, KILL_PATIENCE, clock).await;
    }
    let left: Vec<_> = known.iter().map(|id| id.pid.to_string()).collect();
    let error = Error::new(ErrorKind::Unavailable, "end processes", left.join(", "));
    Err(error.detail("they do not end, though they were killed"))
}

/// How often what was killed is looked at; each look reads a file, so that all take about a second.
const LOOKS: usize = 20_000;

/// Kills at once, and looks until the kernel has done it: the last resort of what is dropped.
pub fn kill_now(leaders: &[ProcessId], mark: &str) {
    let groups = leaders.iter().flat_map(|leader| members(*leader));
    let all: BTreeSet<ProcessId> =
        groups.chain(leaders.iter().copied()).chain(marked(mark)).collect();
    for id in &all {
        id.signal(Signal::KILL);
    }
    for _ in 0..LOOKS {
        if all.iter().all(|id| !id.is_alive()) {
            return;
        }
        std::thread::yield_now();
    }
}

/// Looks until all are gone or the time is over.
pub async fn wait_until_gone(
    ids: &BTreeSet<ProcessId>,
    within: Duration,
    clock: &dyn Clock,
) -> bool {
    let start = clock.elapsed();
    let mut pause = LOOK_EVERY_MIN;
    loop {
        if ids.iter().all(|id| !id.is_alive()) {
            return true;
        }
        if clock.elapsed().saturating_sub(start) >= within {
            return false;
        }
        clock.sleep(pause).await;
        pause = LOOK_EVERY_MAX.min(pause * 2);
    }
}
