//! Runs a client of a package manager: what it prints goes to a log, whose end an error shows.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::{Context, Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::folders;
use crate::place::Place;

/// Compiling a large server on a small machine takes minutes, never this long.
const PATIENCE: Duration = Duration::from_secs(45 * 60);
/// How much of a log an error shows.
const LINES_SHOWN: usize = 8;

/// A call of a client.
pub struct Call<'c> {
    /// What it is for: the artefact.
    pub subject: &'c str,
    /// The program: a path, or a name to be found.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables that differ from those of this process.
    pub variables: Vec<(&'static str, OsString)>,
    /// Folders in which programs are looked for first.
    pub search: Vec<PathBuf>,
    /// Where it runs.
    pub folder: &'c Path,
    /// What it prints is added to this file.
    pub log: &'c Path,
}

impl Call<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// `Unavailable` where it fails; `Cancelled`.
    pub async fn run(self, place: &Place, context: &Context) -> Result<()> {
        const ACTION: &str = "fetch";
        let shown = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |why: String| {
            Error::new(ErrorKind::Unavailable, ACTION, self.subject)
                .detail(format!("{shown}: {why}"))
        };
        let log = File::options().create(true).append(true).open(self.log);
        let log = log.map_err(|e| folders::error("open log", self.log, e))?;
        let both = log.try_clone().map_err(|e| folders::error("open log", self.log, e))?;
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(place.variables())
            .env("PATH", place.search_path(&self.search))
            .envs(self.variables)
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let end = |why: Error| {
            // It may have started others; they are of its group.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(why)
        };
        let status = tokio::select! {
            status = child.wait() => status.map_err(|error| failed(error.to_string()))?,
            () = context.cancel.cancelled() => return end(Error::cancelled(ACTION)),
            () = context.clock.sleep(PATIENCE) => return end(failed("it does not end".to_owned())),
        };
        if status.success() {
            return Ok(());
        }
        Err(failed(format!("{status}: {}", folders::tail(self.log, LINES_SHOWN))))
    }
}
