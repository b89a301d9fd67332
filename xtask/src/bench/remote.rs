//! `bench remote`: how many sequential round trips common commands take against a distant store.
//!
//! The program `remote-bench` of `chaos-tests` captures the data of `bench repository`, then runs each
//! command over the same repository behind 50 ms per request and 100 MB/s, with empty caches; then once
//! more with 100,000 points in it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::data;
use super::report::{Case, Report, Target};
use crate::host;
use crate::workspace::Workspace;

const POINTS: &str = "value <= 5";
const LS: &str = "value <= 8";
const RESTORE_ONE: &str = "value <= 12";
const UNCHANGED: &str = "value <= 20";

/// The cases of the issue; with 100,000 points no more is allowed.
pub const TARGETS: &[Target] = &[
    Target { name: "points", unit: "trips", target: POINTS },
    Target { name: "ls", unit: "trips", target: LS },
    Target { name: "restore_one", unit: "trips", target: RESTORE_ONE },
    Target { name: "unchanged", unit: "trips", target: UNCHANGED },
    Target { name: "points_100k", unit: "trips", target: POINTS },
    Target { name: "ls_100k", unit: "trips", target: LS },
    Target { name: "restore_100k", unit: "trips", target: RESTORE_ONE },
    Target { name: "unchanged_100k", unit: "trips", target: UNCHANGED },
];

const QUICK_DIVISOR: u64 = 20;

/// One line of what `remote-bench` prints.
#[derive(Deserialize)]
struct Measured {
    name: String,
    round_trips: f64,
    requests: u64,
    received_bytes: u64,
    seconds: f64,
}

/// Runs every command.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let programs = super::build_release(workspace, "chaos-tests")?;
    let cache = host::cache_dir("bench")?;
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    host::note("makes: the data, from a seed");
    let divisor = if quick { QUICK_DIVISOR } else { 1 };
    let data = data::provide(workspace, &cache, data::FULL_BYTES / divisor)?;
    let digest = data::digest(&data)?;
    host::note(&format!("data {digest}"));
    let scratch =
        tempfile::Builder::new().prefix("remote-").tempdir_in(&cache).context("create scratch")?;
    let mut command = Command::new(programs.join("remote-bench"));
    let printed = host::stdout_of(command.arg(&data).arg(scratch.path()))?;
    let measured = printed.lines().map(|line| {
        serde_json::from_str::<Measured>(line).with_context(|| format!("not a result: {line}"))
    });
    let measured: Vec<Measured> = measured.collect::<Result<_>>()?;
    let shown = measured.iter().map(|case| {
        let text = format!(
            "{} requests, {:.1} MB received, {:.2} s",
            case.requests,
            case.received_bytes as f64 / 1e6,
            case.seconds
        );
        (case.name.clone(), text)
    });
    let value =
        |name: &str| measured.iter().find(|case| case.name == name).map(|case| case.round_trips);
    let cases =
        TARGETS.iter().map(|target| Case::judge(target, value(target.name), BTreeMap::new()));
    Ok(Report {
        bench: "remote",
        commit: super::commit(workspace)?,
        machine: super::machine()?,
        data: digest,
        cases: cases.collect::<Result<_>>()?,
        shown: shown.collect(),
    })
}
