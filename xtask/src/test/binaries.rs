//! Builds every test binary in one call and then runs them itself: a call of `cargo test` per
//! package would choose other features for the dependencies and compile them again.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Tier;
use super::areas;
use super::summary::Counts;
use crate::host;
use crate::workspace::Workspace;

/// One program full of tests.
#[derive(Debug, PartialEq)]
pub struct TestBinary {
    /// The package whose tests it holds.
    pub package: String,
    /// True for the package's integration tests, false for those inside its sources.
    pub is_end_to_end: bool,
    executable: PathBuf,
    folder: PathBuf,
}

/// What cargo says about something that it built.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    target: crate::workspace::Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the test binaries of an area for a tier, in the order in which they are to run.
pub fn build(workspace: &Workspace, tier: Tier, area: Option<&str>) -> Result<Vec<TestBinary>> {
    let mut command = host::cargo()?;
    command.current_dir(&workspace.root).args(["test", "--locked", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    if tier == Tier::Full {
        command.args(["--profile", "full"]);
    }
    command.args(if tier == Tier::Fast { &["--lib", "--bins"][..] } else { &["--all-targets"] });
    for member in workspace.members().filter(|member| areas::contains(area, &member.name)) {
        command.args(["--package", &member.name]);
    }
    let json = host::stdout_of(&mut command)?;
    let mut binaries: Vec<_> = json.lines().filter_map(|line| parse(workspace, line)).collect();
    binaries.sort_by(|a, b| {
        (a.is_end_to_end, &a.package, &a.executable).cmp(&(
            b.is_end_to_end,
            &b.package,
            &b.executable,
        ))
    });
    Ok(binaries)
}

/// A line that is about something else than a test binary gives none.
fn parse(workspace: &Workspace, line: &str) -> Option<TestBinary> {
    let artifact: Artifact = serde_json::from_str(line).ok()?;
    let executable = artifact.executable.filter(|_| artifact.profile.test)?;
    let package = workspace.members().find(|member| member.id() == artifact.package_id)?;
    Some(TestBinary {
        package: package.name.clone(),
        is_end_to_end: artifact.target.is_test(),
        executable,
        folder: package.dir().to_owned(),
    })
}

/// Runs it where cargo would, passes its output on line by line, and counts from the lines that say
/// a result.
pub fn run(binary: &TestBinary, tier: Tier) -> Result<Counts> {
    let mut command = Command::new(&binary.executable);
    command.current_dir(&binary.folder);
    if tier == Tier::Full {
        command.arg("--include-ignored");
    }
    let shown = host::show(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let stdout = child.stdout.take().context("no pipe to the tests")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the tests print")?;
        counts.add_line(&line);
        host::say(&line);
    }
    let status = child.wait().with_context(|| format!("cannot wait for {shown}"))?;
    ensure!(status.success() || counts.failed > 0, "{shown}: {status}");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_recognised() {
        let workspace = Workspace::load().unwrap();
        let member = workspace.members().find(|member| member.name == "systems").unwrap();
        let line = |kind: &str, test: bool, executable: &str| {
            let id = member.id();
            format!(
                r#"{{"reason": "compiler-artifact", "package_id": "{id}", "executable": {executable},
                "target": {{"kind": ["{kind}"], "src_path": "/s"}}, "profile": {{"test": {test}}}}}"#
            )
        };
        let parsed = |line: &str| parse(&workspace, line).map(|binary| binary.is_end_to_end);
        assert_eq!(parsed(&line("lib", true, "\"/x\"")), Some(false));
        assert_eq!(parsed(&line("test", true, "\"/x\"")), Some(true));
        assert_eq!(parsed(&line("bin", false, "\"/x\"")), None);
        assert_eq!(parsed(&line("lib", true, "null")), None);
        assert_eq!(parsed(r#"{"reason": "build-finished", "success": true}"#), None);
    }
}
