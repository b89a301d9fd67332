//! A small process that outlives a supervisor by a moment, and ends its servers.
//!
//! It reads identities from a pipe that the supervisor holds. When the pipe is closed without a farewell, the
//! supervisor is dead, however that came: the guard kills the groups of all that it was told and that are
//! still who they were.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use model::{Error, ErrorKind, Result};

use super::ProcessId;

const SCRIPT: &str = r#"
trap '' INT TERM HUP
all=
while read -r pid start; do
    [ "$pid" = farewell ] && exit 0
    all="$all $pid:$start"
done
for one in $all; do
    pid=${one%:*}
    # The fields behind the name, which may hold anything; the start time is the twentieth of them.
    set -- $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)
    [ "${20}" = "${one#*:}" ] && kill -KILL "-$pid"
done
"#;

/// The supervisor's side of a guard.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guard {
    /// Starts one.
    pub fn start(environment: &BTreeMap<OsString, OsString>) -> Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "lifeboat-stack-guard"])
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "start guard", "").because(error)
            })?;
        let pipe = Mutex::new(child.stdin.take());
        Ok(Self { child, pipe })
    }

    /// Says who it is.
    pub fn id(&self) -> Option<ProcessId> {
        ProcessId::of(self.child.id())
    }

    /// Tells it of a server. Where it is gone the next start does its work.
    pub fn watch(&self, id: ProcessId) {
        self.tell(&format!("{} {}\n", id.pid, id.start_ticks));
    }

    /// Sends it away: nothing is left to be guarded, or it is to live on.
    pub fn release(&mut self) {
        self.tell("farewell\n");
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.child.wait();
    }

    fn tell(&self, line: &str) {
        if let Some(pipe) = self.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}
