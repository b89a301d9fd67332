//! Processes: who they are, how they begin and how they end.
//!
//! A number alone says nothing, it may have been given to somebody else. An identity is the number and the
//! start time; signals go through a handle that was opened before the identity was looked at again.

pub mod guard;
pub mod launch;
pub mod stop;

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable that marks the processes of a stack: `ID/SERVER`.
pub const MARK: &str = "LIFEBOAT_STACK";

/// One process, and no other that got its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    pub start_ticks: u64,
}

impl ProcessId {
    /// Looks up who has a number; nobody, or one that has ended.
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_ticks: stat.start_ticks })
    }

    /// Says whether it runs. One that has ended and was not waited for does not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.has_ended)
    }

    /// Sends a signal, to it and nobody else; false where it is not there.
    pub fn signal(self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        self.is_alive() && pidfd_send_signal(handle, signal).is_ok()
    }

    /// Returns the memory that it has in use.
    pub fn resident_bytes(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        self.is_alive().then_some(kib.saturating_mul(1024))
    }
}

/// Returns the identity of the machine's run: numbers and start times mean nothing in another.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Finds the members of a process's group while it lives; afterwards the number of the group says nothing.
pub fn members(leader: ProcessId) -> Vec<ProcessId> {
    let in_group = |pid: u32| {
        let stat = stat(pid)?;
        let is_member = stat.group == leader.pid && !stat.has_ended;
        is_member.then_some(ProcessId { pid, start_ticks: stat.start_ticks })
    };
    let found: Vec<_> = all().filter_map(in_group).collect();
    // A number is not given away while a group bears it; so if the leader still has it, all are his.
    let is_there = stat(leader.pid).is_some_and(|stat| stat.start_ticks == leader.start_ticks);
    if is_there { found } else { Vec::new() }
}

/// Finds the living processes that bear a mark, also those that left their group.
pub fn marked(mark: &str) -> Vec<ProcessId> {
    all()
        .filter_map(|pid| {
            let id = ProcessId::of(pid)?;
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            (bears(&environment, mark) && id.is_alive()).then_some(id)
        })
        .collect()
}

/// Says whether an environment bears a mark: that of a server, or of the whole stack (`ID/`).
fn bears(environment: &[u8], mark: &str) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        value.is_some_and(|value| {
            if mark.ends_with('/') {
                value.starts_with(mark.as_bytes())
            } else {
                value == mark.as_bytes()
            }
        })
    })
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    has_ended: bool,
    group: u32,
    start_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `/proc/PID/stat`. The second field is a name in parentheses that may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The fields from the third on: state, parent, group; the start time is the twenty-second.
    let has_ended = matches!(*fields.first()?, "Z" | "X" | "x");
    Some(Stat {
        has_ended,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let rest = "S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 2387968 200";
        for (text, expected) in [
            (format!("42 (sh) {rest}"), Some((false, 77, 123_456))),
            (format!("42 (a ) b) S 9 (x) {rest}"), Some((false, 77, 123_456))),
            (format!("42 (sh) {}", rest.replacen('S', "Z", 1)), Some((true, 77, 123_456))),
            ("42 (sh) S 1 77".to_owned(), None),
            (String::new(), None),
        ] {
            let stat = parse_stat(&text);
            assert_eq!(stat.map(|s| (s.has_ended, s.group, s.start_ticks)), expected, "{text}");
        }
    }

    #[test]
    fn another_process_of_the_same_number_is_somebody_else() {
        let me = ProcessId::of(std::process::id()).expect("this process");
        assert!(me.is_alive());
        let other = ProcessId { start_ticks: me.start_ticks + 1, ..me };
        assert!(!other.is_alive());
        assert!(!other.signal(Signal::KILL), "it would have killed this test");
        assert_eq!(ProcessId::of(u32::MAX), None);
        assert!(me.resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(members(other), []);
    }

    #[test]
    fn marks_are_told_apart() {
        let environment = b"A=b\0LIFEBOAT_STACK=ab/s3\0C=LIFEBOAT_STACK=cd/x\0";
        for (mark, expected) in
            [("ab/s3", true), ("ab/", true), ("ab/s", false), ("a", false), ("cd/", false)]
        {
            assert_eq!(bears(environment, mark), expected, "{mark}");
        }
    }
}
