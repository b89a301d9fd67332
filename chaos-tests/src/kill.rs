//! The kill harness: a real process, killed at every write that it makes.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::stores::Moment;

/// Where one run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// At which write; the first is 1.
    pub write: u64,
    /// On which side of it.
    pub moment: Moment,
}

impl Kill {
    /// Returns the arguments that the child understands.
    pub fn arguments(self) -> [String; 4] {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        ["--kill-at".into(), self.write.to_string(), "--moment".into(), moment.into()]
    }
}

/// How a harness goes through the writes of a run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Kills at this write first; the first of all is 1.
    pub first: u64,
    /// Then kills at every so many writes; 1 is every one of them.
    pub stride: u64,
    /// Gives up after so many writes: the child never ends by itself.
    pub writes_max: u64,
}

/// Runs a child again and again, each time in an empty directory and killed one step later, until a
/// run ends by itself. After each kill `check` looks at what it left. Returns how many runs were killed.
///
/// `command` makes the child's command for a directory; [`Kill::arguments`] are added to it.
///
/// # Errors
/// Where the child cannot be started, or ends by itself with a failure.
///
/// # Panics
/// Where the child makes more than [`Schedule::writes_max`] writes.
pub fn kill_at_each_write(
    schedule: Schedule,
    command: impl Fn(&Path) -> Command,
    mut check: impl FnMut(Kill, &Path),
) -> io::Result<u64> {
    let mut killed = 0;
    for write in (schedule.first..=schedule.writes_max).step_by(schedule.stride.max(1) as usize) {
        for moment in [Moment::Before, Moment::After] {
            let directory = tempfile::tempdir()?;
            let kill = Kill { write, moment };
            let mut child = command(directory.path());
            child.args(kill.arguments()).stdin(Stdio::null());
            let output = child.output()?;
            if was_killed(output.status) {
                killed += 1;
                check(kill, directory.path());
            } else if output.status.success() {
                return Ok(killed);
            } else {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!("{kill:?}: {}: {said}", output.status)));
            }
        }
    }
    panic!("the child still wrote after {} writes", schedule.writes_max)
}

/// Says whether a process ended by SIGKILL.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(rustix::process::Signal::KILL.as_raw())
}
