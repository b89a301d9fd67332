//! `bench repository`: ours against restic, rustic and borg on the same data and the same disk.
//!
//! Each round gives every tool its turn on a fresh repository, so that what else the machine does
//! hits all alike; before each command the ground is levelled ([`level`]). Restored files are emptied
//! at once but removed only at the end: a file system without a journal is slow to hand out inodes
//! that were freed a moment ago, and that would be counted against whoever restores next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::measure::{self, Cost};
use super::report::{Case, Report, Target, median};
use super::tools::{self, COUNTED_PEERS, Places, Tool};
use super::{data, level, peers};
use crate::workspace::Workspace;
use crate::{host, tree};

/// The cases of the issue. 97 % of the smallest peer's size is a ratio of 1 / 0.97.
pub const TARGETS: &[Target] = &[
    Target { name: "backup", unit: "s", target: "ratio >= 3" },
    Target { name: "size", unit: "MB", target: "ratio >= 1.0309" },
    Target { name: "unchanged", unit: "s", target: "ratio >= 3" },
    Target { name: "changed_stored", unit: "MB", target: "value <= 30" },
    Target { name: "restore", unit: "s", target: "ratio >= 1.5" },
    Target { name: "restore_rss", unit: "MB", target: "value <= 250" },
    Target { name: "backup_rss", unit: "MB", target: "value <= 200" },
    Target { name: "verify_deep", unit: "s", target: "ratio >= 2" },
    Target { name: SIZE_PARITY, unit: "times", target: "value <= 1.07" },
];

/// The size with parity, as a multiple of the size without: ours against ours.
const SIZE_PARITY: &str = "size_parity";

/// A median needs three.
const ROUNDS: u32 = 3;
const QUICK_DIVISOR: u64 = 20;

/// Everything that was measured.
#[derive(Default)]
struct Measured {
    /// By case and tool, one value per round.
    values: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    /// Tools that failed at something: what does not do its work is fast at nothing.
    failed: BTreeSet<&'static str>,
}

/// Runs the whole comparison.
pub fn run(workspace: &Workspace, quick: bool) -> Result<Report> {
    let peers = peers::provide()?;
    let programs = super::build_release(workspace, "cli")?;
    let cache = host::cache_dir("bench")?;
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let (rounds, divisor) = if quick { (1, QUICK_DIVISOR) } else { (ROUNDS, 1) };
    host::note("makes: the data, from a seed");
    let pristine = data::provide(workspace, &cache, data::FULL_BYTES / divisor)?;
    let digest = data::digest(&pristine)?;
    host::note(&format!("data {digest}"));
    let scratch =
        tempfile::Builder::new().prefix("run-").tempdir_in(&cache).context("create scratch")?;
    let bench = Bench {
        tools: tools::all(programs.join("lifeboat"), &peers),
        with_parity: tools::ours_with_parity(programs.join("lifeboat")),
        data: scratch.path().join("data"),
        scratch: scratch.path().to_owned(),
        rounds,
    };
    copy(&pristine, &bench.data)?;
    let measured = bench.run()?;
    let mut shown = bench.shown(&measured);
    let opening = match bench.passphrase(programs.join("lifeboat")) {
        Ok(seconds) => format!("{seconds:.2} s"),
        Err(error) => format!("not measured: {error:#}"),
    };
    shown.insert("opened by a passphrase".to_owned(), opening);
    for program in [&peers.restic, &peers.rustic, &peers.borg].into_iter().flatten() {
        let name = program.file_name().unwrap_or_default().display();
        shown.insert(format!("peer {name}"), peers::version(program));
    }
    let cases = TARGETS.iter().map(|target| judge(target, &measured)).collect::<Result<_>>()?;
    let (commit, machine) = (super::commit(workspace)?, super::machine()?);
    Ok(Report { bench: "repository", commit, machine, data: digest, cases, shown })
}

struct Bench {
    tools: Vec<Tool>,
    with_parity: Tool,
    data: PathBuf,
    scratch: PathBuf,
    rounds: u32,
}

impl Bench {
    fn run(&self) -> Result<Measured> {
        let mut measured = Measured::default();
        for round in 0..self.rounds {
            for tool in &self.tools {
                let done = self.backup(tool, round, &mut measured);
                measured.note_failure(tool, done);
            }
        }
        let done = self.parity(&mut measured);
        measured.note_failure(&self.with_parity, done);
        for round in 0..self.rounds {
            for tool in self.tools.iter().filter(|tool| tool.is_counted) {
                let done = self.restore(tool, round, &mut measured);
                measured.note_failure(tool, done);
                let done = self.verify(tool, &mut measured);
                measured.note_failure(tool, done);
            }
        }
        for round in 0..self.rounds {
            let bytes = data::change::apply(&self.data, round)?;
            host::note(&format!("changed {bytes} bytes"));
            for tool in &self.tools {
                let done = self.changed(tool, round, &mut measured);
                measured.note_failure(tool, done);
            }
        }
        Ok(measured)
    }

    /// A first backup into a fresh repository, its size, and a second backup of the same.
    fn backup(&self, tool: &Tool, round: u32, measured: &mut Measured) -> Result<()> {
        let places = self.places(tool);
        for old in [&places.repository, &places.home] {
            if round > 0 && old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        tool.init(&places)?;
        let cost = self.cost(tool, "backup", &tool.backup(&places, "first"))?;
        measured.add("backup", tool, cost.wall_s);
        measured.add("backup_rss", tool, megabytes(cost.rss_bytes));
        measured.add("size", tool, megabytes(bytes_below(&places.repository)?));
        let cost = self.cost(tool, "unchanged", &tool.backup(&places, "second"))?;
        measured.add("unchanged", tool, cost.wall_s);
        Ok(())
    }

    /// What parity adds to the size of a first backup.
    fn parity(&self, measured: &mut Measured) -> Result<()> {
        let (tool, places) = (&self.with_parity, self.places(&self.with_parity));
        tool.init(&places)?;
        let cost = self.cost(tool, "backup", &tool.backup(&places, "first"))?;
        measured.add("backup", tool, cost.wall_s);
        measured.add("backup_rss", tool, megabytes(cost.rss_bytes));
        let size = megabytes(bytes_below(&places.repository)?);
        measured.add("size", tool, size);
        let ours = self.tools.iter().find(|tool| tool.is_ours()).context("no tool is ours")?;
        let bare = measured.median("size", ours.name).context("there is no size without parity")?;
        measured.add(SIZE_PARITY, ours, size / bare);
        Ok(())
    }

    /// A restore to fresh inodes; ours is compared with the source, once.
    fn restore(&self, tool: &Tool, round: u32, measured: &mut Measured) -> Result<()> {
        let to = self.folder(tool).join(format!("restored-{round}"));
        let command = tool.restore(&self.places(tool), "second", &to)?;
        let cost = self.cost(tool, "restore", &command)?;
        measured.add("restore", tool, cost.wall_s);
        measured.add("restore_rss", tool, megabytes(cost.rss_bytes));
        if tool.is_ours() && round == 0 {
            self.compare(&to)?;
        }
        for path in data::files_below(&to)? {
            let emptied = OpenOptions::new().write(true).truncate(true).open(&path);
            emptied.with_context(|| format!("empty {}", path.display()))?;
        }
        Ok(())
    }

    /// The restored tree stands somewhere below the target, under the path that it came from.
    fn compare(&self, to: &Path) -> Result<()> {
        let relative = self.data.strip_prefix("/").unwrap_or(&self.data);
        let candidates = [to.join(relative), to.join("data"), to.to_owned()];
        let found = candidates.iter().find(|path| path.join("random").is_dir());
        let found = found.with_context(|| format!("nothing restored in {}", to.display()))?;
        let differences = tree::differences(&tree::read(&self.data)?, &tree::read(found)?);
        let first: Vec<_> = differences.iter().take(5).cloned().collect();
        ensure!(differences.is_empty(), "{} differences: {}", differences.len(), first.join("; "));
        host::note("restored tree is equal to its source");
        Ok(())
    }

    fn verify(&self, tool: &Tool, measured: &mut Measured) -> Result<()> {
        let cost = self.cost(tool, "verify", &tool.verify(&self.places(tool)))?;
        measured.add("verify_deep", tool, cost.wall_s);
        Ok(())
    }

    /// A backup of the changed data: how much the repository grows by it.
    fn changed(&self, tool: &Tool, round: u32, measured: &mut Measured) -> Result<()> {
        let places = self.places(tool);
        let before = bytes_below(&places.repository)?;
        let cost =
            self.cost(tool, "changed", &tool.backup(&places, &format!("changed-{round}")))?;
        let after = bytes_below(&places.repository)?;
        measured.add("changed_stored", tool, megabytes(after.saturating_sub(before)));
        measured.add("changed", tool, cost.wall_s);
        Ok(())
    }

    /// What it takes to open a repository by a passphrase, which is slow on purpose.
    fn passphrase(&self, program: PathBuf) -> Result<f64> {
        let tool = tools::ours_with_passphrase(program);
        let places = self.places(&tool);
        tool.init(&places)?;
        let costs = (0..self.rounds).map(|_| self.cost(&tool, "open", &tool.points(&places)));
        let seconds: Result<Vec<f64>> = costs.map(|cost| Ok(cost?.wall_s)).collect();
        median(seconds?).context("no rounds")
    }

    fn cost(&self, tool: &Tool, what: &str, command: &Command) -> Result<Cost> {
        level::prepare(&[&self.data, &self.places(tool).repository])?;
        let cost = measure::cost_of(command)?;
        host::note(&format!(
            "{:<14} {what:<10} {:>7.2} s  user {:>6.2}  system {:>6.2}  {:>6.0} MB",
            tool.name,
            cost.wall_s,
            cost.user_s,
            cost.system_s,
            megabytes(cost.rss_bytes)
        ));
        Ok(cost)
    }

    fn folder(&self, tool: &Tool) -> PathBuf {
        self.scratch.join(tool.name.replace(' ', "-"))
    }

    fn places(&self, tool: &Tool) -> Places {
        let folder = self.folder(tool);
        Places {
            repository: folder.join("repository"),
            data: self.data.clone(),
            home: folder.join("home"),
        }
    }

    /// Throughput and what is shown without being judged.
    fn shown(&self, measured: &Measured) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        let data_mb = bytes_below(&self.data).map(megabytes).unwrap_or(0.0);
        for tool in self.tools.iter().chain([&self.with_parity]) {
            let mut parts = Vec::new();
            for case in ["backup", "restore", "verify_deep"] {
                if let Some(seconds) = measured.median(case, tool.name) {
                    parts.push(format!("{case} {:.0} MB/s", data_mb / seconds));
                }
            }
            for case in ["changed", "changed_stored", "size", "unchanged", "backup_rss"] {
                if let Some(value) = measured.median(case, tool.name) {
                    parts.push(format!("{case} {value:.2}"));
                }
            }
            shown.insert(tool.name.to_owned(), parts.join(", "));
        }
        shown
    }
}

impl Measured {
    fn add(&mut self, case: &'static str, tool: &Tool, value: f64) {
        self.values.entry((case, tool.name)).or_default().push(value);
    }

    /// A tool that fails loses its own cases, not everybody's bench.
    fn note_failure(&mut self, tool: &Tool, done: Result<()>) {
        if let Err(error) = done {
            host::note(&format!("{} failed, its values do not count: {error:#}", tool.name));
            self.failed.insert(tool.name);
        }
    }

    fn median(&self, case: &'static str, tool: &'static str) -> Option<f64> {
        let values = self.values.get(&(case, tool)).filter(|_| !self.failed.contains(tool));
        median(values.cloned().unwrap_or_default())
    }
}

fn judge(target: &Target, measured: &Measured) -> Result<Case> {
    // No peer has parity.
    let names = COUNTED_PEERS.iter().filter(|_| target.name != SIZE_PARITY);
    let peers =
        names.map(|name| ((*name).to_owned(), measured.median(target.name, name))).collect();
    Case::judge(target, measured.median(target.name, "lifeboat"), peers)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of a benchmark are far below 2^53")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in data::files_below(folder)? {
        bytes += path.metadata().with_context(|| format!("stat {}", path.display()))?.len();
    }
    Ok(bytes)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    host::output_of(Command::new("cp").arg("--archive").arg(from).arg(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::bail;

    use super::*;

    #[test]
    fn a_tool_that_fails_has_no_values() {
        let nowhere = peers::Peers { restic: None, rustic: None, borg: None };
        let tools = tools::all(PathBuf::from("lifeboat"), &nowhere);
        let ours = tools.first().unwrap();
        let mut measured = Measured::default();
        measured.add("backup", ours, 2.0);
        measured.note_failure(ours, Ok(()));
        assert_eq!(measured.median("backup", "lifeboat"), Some(2.0));
        measured.note_failure(ours, (|| bail!("restored something else"))());
        assert_eq!(measured.median("backup", "lifeboat"), None);
    }

    #[test]
    fn a_peer_that_could_not_be_had_is_named_in_every_case() {
        let mut measured = Measured::default();
        measured.values.insert(("backup", "lifeboat"), vec![1.0]);
        let case = judge(&TARGETS[0], &measured).unwrap();
        let json = serde_json::to_value(&case).unwrap();
        let peers = json["peers"].as_object().unwrap();
        assert_eq!(peers.len(), COUNTED_PEERS.len());
        assert!(peers.values().all(serde_json::Value::is_null) && json["holds"] == false, "{json}");
    }
}
