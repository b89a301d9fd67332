//! `cargo xtask bench NAME`: builds in release, makes its data from a seed, runs ours and the peers
//! in turns, and judges the cases that an issue names.

mod data;
mod level;
pub mod measure;
mod peers;
mod remote;
mod report;
mod repository;
mod tools;

pub use data::files_below;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::host;
use crate::workspace::Workspace;

/// Which bench, and what to do with its result.
#[derive(Args)]
pub struct Options {
    /// What to measure.
    name: Name,
    /// Print one object on standard output.
    #[arg(long)]
    json: bool,
    /// Fail when a case does not hold or is missing.
    #[arg(long)]
    check: bool,
    /// A twentieth of the data, once: shows that the bench works, proves nothing.
    #[arg(long, conflicts_with = "check")]
    quick: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Ours against restic, rustic and borg on local disk.
    Repository,
    /// Round trips of ours against a distant store.
    Remote,
}

/// Runs a bench; false if it was to be checked and does not hold.
pub fn run(options: &Options) -> Result<bool> {
    let workspace = Workspace::load()?;
    let (report, targets) = match options.name {
        Name::Repository => (repository::run(&workspace, options.quick)?, repository::TARGETS),
        Name::Remote => (remote::run(&workspace, options.quick)?, remote::TARGETS),
    };
    if options.json {
        host::say(&report.json()?);
    } else {
        report.table().iter().for_each(|line| host::say(line));
    }
    Ok(!options.check || report.holds(targets))
}

/// Builds a package in release and returns the folder of its programs.
pub fn build_release(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    host::note(&format!("builds: {package} in release"));
    let mut command = host::cargo()?;
    command.args(["build", "--release", "--locked", "--quiet", "--package", package]);
    host::run(command.current_dir(&workspace.root))?;
    Ok(host::target_dir()?.join("release"))
}

/// The commit that is measured; `+` if the checkout differs from it.
fn commit(workspace: &Workspace) -> Result<String> {
    let git = |arguments: &[&str]| {
        host::output_of(Command::new("git").args(arguments).current_dir(&workspace.root))
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(format!("{}{}", hash.trim(), if dirty { "+" } else { "" }))
}

/// Processor, cores and memory.
fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let memory = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = value(&cpus, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory = value(&memory, "MemTotal").unwrap_or_default();
    ensure!(cores > 0, "/proc/cpuinfo lists no processor");
    Ok(format!("{model}, {cores} cores, {memory}"))
}
