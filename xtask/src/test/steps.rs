//! The steps of a test run: first the checks of the whole workspace, then the build, then one step
//! per test binary. A step that cannot be done has failed; the others still run.

use std::time::Duration;

use anyhow::Result;

use super::binaries::{self, TestBinary};
use super::summary::{self, Counts};
use super::{Tier, areas, servers};
use crate::workspace::Workspace;
use crate::{host, layering, licences, tidy};

/// What came of a step.
pub struct Outcome {
    /// As it is printed.
    pub name: String,
    /// Title of the area that its time counts to.
    pub area: &'static str,
    /// How long it took.
    pub elapsed: Duration,
    /// What it counted.
    pub counts: Counts,
    /// Why it did not run, if it did not.
    pub skipped: Option<&'static str>,
}

/// The checks that are functions of the workspace.
type Check = fn(&Workspace) -> Result<Vec<String>>;
const CHECKS: &[(&str, Check)] =
    &[("tidy", tidy::check), ("layering", layering::check), ("licences", licences::check)];

/// Checks of the workspace that cargo makes.
const CARGO_CHECKS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
];

/// Runs a tier. With an area only its tests run, without the checks of the workspace.
pub fn run(workspace: &Workspace, tier: Tier, area: Option<&str>) -> Vec<Outcome> {
    let mut outcomes = if area.is_none() { run_checks(workspace) } else { Vec::new() };
    let mut test_binaries = Vec::new();
    outcomes.push(step("build the tests", areas::BUILD, || {
        test_binaries = binaries::build(workspace, tier, area)?;
        Ok(Counts::PASSED)
    }));
    if servers::are_started(tier, area) {
        outcomes.push(fetch_servers(workspace, tier));
    }
    outcomes.extend(test_binaries.iter().map(|binary| {
        step(&name_of(binary), areas::title_of(&binary.package), || binaries::run(binary, tier))
    }));
    outcomes
}

fn run_checks(workspace: &Workspace) -> Vec<Outcome> {
    let own = CHECKS.iter().map(|(name, check)| {
        step(name, areas::BUILD, || {
            let problems = check(workspace)?;
            problems.iter().for_each(|problem| host::say(problem));
            Ok(if problems.is_empty() { Counts::PASSED } else { Counts::FAILED })
        })
    });
    let by_cargo = CARGO_CHECKS.iter().map(|(name, arguments)| {
        step(name, areas::BUILD, || run_cargo(workspace, arguments).map(|()| Counts::PASSED))
    });
    own.chain(std::iter::once_with(|| advisories(workspace))).chain(by_cargo).collect()
}

/// `cargo deny` is used where it is installed; installing it would take longer than the tests.
fn advisories(workspace: &Workspace) -> Outcome {
    let arguments = ["deny", "check", "licenses", "advisories"];
    let installed = host::succeeds("cargo", &["deny", "--version"]);
    let mut outcome = step("cargo deny", areas::BUILD, || {
        if !installed {
            return Ok(Counts::default());
        }
        run_cargo(workspace, &arguments).map(|()| Counts::PASSED)
    });
    if !installed {
        outcome.skipped = Some("not installed, so advisories were not looked up");
    }
    outcome
}

/// A server that cannot be had fails nothing: what needs it says that it was not run.
fn fetch_servers(workspace: &Workspace, tier: Tier) -> Outcome {
    let mut all = true;
    let mut outcome = step("fetch the servers", areas::BUILD, || {
        all = servers::fetch(workspace, tier)?;
        Ok(if all { Counts::PASSED } else { Counts::default() })
    });
    if !all {
        outcome.skipped = Some("not all can be had: tests that need them are not run");
    }
    outcome
}

fn run_cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    host::run(host::cargo()?.args(arguments).current_dir(&workspace.root))
}

fn name_of(binary: &TestBinary) -> String {
    let which = if binary.is_end_to_end { "end to end" } else { "unit tests" };
    format!("{}: {which}", binary.package)
}

/// Runs one step under its headline and takes its time.
fn step(name: &str, area: &'static str, work: impl FnOnce() -> Result<Counts>) -> Outcome {
    host::say(&format!("== {name}"));
    let clock = host::Stopwatch::start();
    let counts = work().unwrap_or_else(|error| {
        host::say(&format!("error: {error:#}"));
        Counts::FAILED
    });
    let elapsed = clock.elapsed();
    host::say(&format!("-- {name}: {}", summary::seconds(elapsed)));
    Outcome { name: name.to_owned(), area, elapsed, counts, skipped: None }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_step_that_cannot_be_done_has_failed() {
        let outcome = step("a", areas::BUILD, || bail!("no disk"));
        assert_eq!(outcome.counts, Counts::FAILED);
        let outcome = step("b", areas::BUILD, || Ok(Counts { passed: 3, ..Counts::default() }));
        assert_eq!(outcome.counts, Counts { passed: 3, ..Counts::default() });
    }
}
