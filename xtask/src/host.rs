//! The only place in this crate that touches the terminal, the clock, the environment and other
//! programs, so that everything else stays a function of its arguments.
#![expect(clippy::disallowed_methods, reason = "a developer's command has no Context to take")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Writes one line to standard output. A closed pipe is no reason to fail.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Writes one line to standard error.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Measures elapsed time on the monotonic clock.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A folder below the user's cache, for what can be built again: `$XDG_CACHE_HOME/lifeboat/NAME`.
pub fn cache_dir(name: &str) -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => home()?.join(".cache"),
    };
    Ok(base.join("lifeboat").join(name))
}

/// Where cargo is to put build output: what the user chose, else the cache, never the checkout.
pub fn target_dir() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        // Cargo and this program may stand in different folders.
        Some(chosen) => std::path::absolute(chosen).context("make CARGO_TARGET_DIR absolute"),
        None => cache_dir("target"),
    }
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).context("HOME is not set")
}

/// A cargo command that builds outside the checkout.
pub fn cargo() -> Result<Command> {
    let mut command = Command::new("cargo");
    command.env("CARGO_TARGET_DIR", target_dir()?);
    Ok(command)
}

/// Runs a command and returns its standard output; its standard error is shown only on failure.
pub fn output_of(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown}: output is not UTF-8"))
}

/// Runs a command whose standard error goes to the terminal and returns its standard output.
pub fn stdout_of(command: &mut Command) -> Result<String> {
    command.stderr(Stdio::inherit());
    output_of(command)
}

/// Runs a command whose output goes to the terminal; an error if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// True if `program ARGUMENTS` starts and succeeds: the way to ask whether a tool is there.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A command as one would type it.
pub fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
