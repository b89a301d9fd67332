//! What is written down about a stack while it runs, so that others can see it and end it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{Error, ErrorKind, Result};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::memory::MemoryLimit;
use crate::process::{ProcessId, boot_id};
use crate::recipe::StopSignal;

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the description calls it.
    pub name: String,
    /// The file of the description; none where a test made it up.
    pub origin: Option<PathBuf>,
    /// Which run of the machine this is about.
    pub boot_id: String,
    /// When it was started, in seconds since 1970.
    pub started_unix_s: i64,
    /// The process that started it.
    pub supervisor: Option<ProcessId>,
    /// Whether it lives on without that process.
    pub is_detached: bool,
    /// Whether it has a network of its own.
    pub is_isolated: bool,
    /// The guard that ends it with its supervisor.
    pub guard: Option<ProcessId>,
    /// Its working folder.
    pub folder: PathBuf,
    /// Whether the folder goes with the stack.
    pub is_folder_temporary: bool,
    /// The servers, in the order in which they were started.
    #[serde(default)]
    pub servers: Vec<ServerRecord>,
}

/// A server of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// What the description calls it.
    pub name: String,
    /// The recipe that made it.
    pub recipe: String,
    /// The variant of it.
    pub variant: String,
    /// What it can do.
    pub provides: Vec<String>,
    /// Better variants that could not be had, and why.
    pub passed_over: Vec<String>,
    /// Its process.
    pub process: ProcessId,
    /// Servers of one wave were started at once; they are stopped so, the last wave first.
    pub wave: usize,
    /// Whether it was seen to be ready.
    pub is_ready: bool,
    /// Its log.
    pub log: PathBuf,
    /// The signal that asks it to stop.
    pub(crate) stop_signal: StopSignal,
    /// How long it may take to stop.
    pub(crate) stop_within_s: u64,
    /// How much memory it may take.
    pub memory_mib: Option<u64>,
    /// What holds it to that.
    pub memory_limit: MemoryLimit,
    /// Its ports.
    pub ports: BTreeMap<String, u16>,
    /// What others need to know: `url`, credentials.
    pub properties: BTreeMap<String, String>,
}

impl Record {
    /// Reads one.
    pub(crate) fn parse(text: &str, id: &str) -> Result<Self> {
        crate::syntax::parse(text, "read record of stack", id)
    }

    /// Writes one.
    pub(crate) fn text(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "write record of stack", &self.name).because(error)
        })
    }

    /// Says whether numbers of processes in it mean anything: those of an earlier run of the machine do not.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot_id == boot_id()
    }

    /// Says whether the process that started it is there.
    pub fn is_supervised(&self) -> bool {
        let is_there = self.supervisor.is_some_and(ProcessId::is_alive);
        !self.is_detached && is_there && self.is_of_this_boot()
    }
}

impl StopSignal {
    /// Returns the signal.
    pub(crate) fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::TERM,
            Self::Interrupt => Signal::INT,
            Self::Quit => Signal::QUIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let process = ProcessId { pid: 7, start_ticks: 1 << 40 };
        let server = ServerRecord {
            name: "s3".into(),
            recipe: "versitygw".into(),
            variant: "moto".into(),
            provides: vec!["s3".into()],
            passed_over: vec!["versitygw: no Go".into()],
            process,
            wave: 1,
            is_ready: true,
            log: "/w/s3.log".into(),
            stop_signal: StopSignal::Interrupt,
            stop_within_s: 3,
            memory_mib: Some(5),
            memory_limit: MemoryLimit::ControlGroup { path: "/sys/fs/cgroup/memory/x".into() },
            ports: [("s3".to_owned(), 9000)].into(),
            properties: [("url".to_owned(), "http://127.0.0.1:9000".to_owned())].into(),
        };
        Record {
            name: "x".into(),
            origin: Some("/x.toml".into()),
            boot_id: "another".into(),
            started_unix_s: 1,
            supervisor: ProcessId::of(std::process::id()),
            is_detached: false,
            is_isolated: false,
            guard: None,
            folder: "/w".into(),
            is_folder_temporary: true,
            servers: vec![
                server.clone(),
                ServerRecord { memory_limit: MemoryLimit::Own, ..server },
            ],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let record = record();
        let text = record.text().expect("text");
        assert_eq!(Record::parse(&text, "id").expect(&text), record);
        for bad in ["", "name = 7", &text[..text.len() / 2]] {
            assert_eq!(Record::parse(bad, "id").expect_err(bad).kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_supervisor_of_another_run_of_the_machine_is_nobody() {
        let old = record();
        assert!(!old.is_supervised());
        let new = Record { boot_id: boot_id(), ..old };
        assert!(new.is_supervised());
        assert!(!Record { is_detached: true, ..new }.is_supervised());
    }
}
