//! What a child process costs. The kernel keeps processor time and peak memory of children that have
//! ended; so that they are the numbers of one command alone, each command is started by a fresh
//! small process, this program again, whose only child it is. Polling would miss the peak.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::host;

/// What one command cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// From start to end.
    pub wall_s: f64,
    /// On all processors, in its own code.
    pub user_s: f64,
    /// On all processors, in the kernel.
    pub system_s: f64,
    /// The most memory that it, or one of its own children, had resident.
    pub rss_bytes: u64,
}

/// The command to measure; the inner half of [`cost_of`].
#[derive(Args)]
pub struct Inner {
    /// Where to write the cost.
    report: std::path::PathBuf,
    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Runs a command, quietly unless it fails, and returns what it cost.
pub fn cost_of(command: &Command) -> Result<Cost> {
    let report = tempfile::NamedTempFile::new().context("create a file for the cost")?;
    // By this name it is found even if it has been built anew since it was started.
    let mut outer = Command::new("/proc/self/exe");
    outer.arg("measure").arg(report.path()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    host::output_of(&mut outer)?;
    read_report(report.path())
}

fn read_report(path: &Path) -> Result<Cost> {
    let json = std::fs::read_to_string(path).context("read the cost of a command")?;
    serde_json::from_str(&json).context("parse the cost of a command")
}

/// Runs the command as the only child of this process and writes down what it cost.
pub fn run(inner: &Inner) -> Result<bool> {
    let (program, arguments) = inner.command.split_first().context("no command to measure")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let clock = host::Stopwatch::start();
    let status = command.status().with_context(|| format!("start {}", host::show(&command)))?;
    let wall_s = clock.elapsed().as_secs_f64();
    ensure!(status.success(), "{}: {status}", host::show(&command));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask for the cost of a command")?;
    let cost = Cost {
        wall_s,
        user_s: seconds(usage.user_time().num_microseconds()),
        system_s: seconds(usage.system_time().num_microseconds()),
        // Linux counts in KiB.
        rss_bytes: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    };
    let json = serde_json::to_string(&cost).context("write the cost of a command")?;
    std::fs::write(&inner.report, json).context("write the cost of a command")?;
    Ok(true)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a benchmark are far below 2^53")]
fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_measured() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let command = ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"];
        let inner = Inner {
            report: report.path().to_owned(),
            command: command.map(OsString::from).to_vec(),
        };
        assert!(run(&inner).unwrap());
        let cost = read_report(report.path()).unwrap();
        assert!(cost.wall_s > 0.0 && cost.rss_bytes > 100_000, "{cost:?}");
    }

    #[test]
    fn a_failing_command_has_no_cost() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let inner = Inner { report: report.path().to_owned(), command: vec!["false".into()] };
        assert!(run(&inner).is_err());
    }
}
