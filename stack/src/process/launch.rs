//! Starts a program so that its identity is known, and can be on disk, before its first instruction.
//!
//! What is started is a shell that waits for a word on its standard input and then becomes the program. If
//! whoever started it dies before that word, it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use model::{Error, ErrorKind, Result};

use super::ProcessId;
use crate::folders;

/// Waits for the word; a shell reads byte by byte, so that nothing is lost.
const SCRIPT: &str = r#"read -r word && [ "$word" = go ] && exec "$@" </dev/null"#;

/// A program that is to run.
#[derive(Debug)]
pub struct Launch<'l> {
    /// What it is: the server.
    pub subject: &'l str,
    /// The program and its arguments.
    pub command: &'l [String],
    /// Its whole environment.
    pub environment: &'l BTreeMap<OsString, OsString>,
    /// Where it runs.
    pub folder: &'l Path,
    /// Where its output goes.
    pub log: &'l Path,
    /// The process whose network it enters.
    pub network: Option<ProcessId>,
}

/// A program that waits to be let go.
#[derive(Debug)]
pub struct Waiting {
    child: Option<Child>,
    id: ProcessId,
}

impl Launch<'_> {
    /// Starts what will become the program.
    pub fn begin(&self) -> Result<Waiting> {
        const ACTION: &str = "start server";
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Unavailable, ACTION, self.subject).because(error)
        };
        let log = open_log(self.log)?;
        let both = log.try_clone().map_err(failed)?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh"])
            .args(within(self.command, self.network))
            .env_clear()
            .envs(self.environment)
            .current_dir(self.folder)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(both)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        match ProcessId::of(child.id()) {
            Some(id) => Ok(Waiting { child: Some(child), id }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::new(ErrorKind::Internal, ACTION, self.subject)
                    .detail("it has no identity"))
            }
        }
    }
}

impl Waiting {
    /// Says who it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Lets it go.
    pub fn go(mut self) -> Result<Child> {
        let failed = || Error::new(ErrorKind::Internal, "let server go", self.id.pid.to_string());
        let mut child = self.child.take().ok_or_else(failed)?;
        let told = child.stdin.take().ok_or_else(failed)?.write_all(b"go\n");
        match told {
            Ok(()) => Ok(child),
            Err(error) => {
                self.child = Some(child);
                Err(failed().because(error))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Opens a log to add to.
pub fn open_log(path: &Path) -> Result<File> {
    let log = File::options().create(true).append(true).open(path);
    log.map_err(|e| folders::error("open log", path, e))
}

/// Puts a command into the network of another process.
pub fn within(command: &[String], network: Option<ProcessId>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::with_capacity(command.len() + 3);
    if let Some(holder) = network {
        let path = PathBuf::from(format!("/proc/{}/ns/net", holder.pid));
        let mut option = OsString::from("--net=");
        option.push(path);
        words.extend(["nsenter".into(), option, "--".into()]);
    }
    words.extend(command.iter().map(OsString::from));
    words
}
