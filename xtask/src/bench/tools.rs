//! Ours and the peers behind one face: how each is told to initialise, back up, restore and verify.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::peers::Peers;
use crate::host;

/// The passphrase of the peers' repositories; it protects nothing.
const PASSPHRASE: &str = "bench";

/// A program in one configuration.
pub struct Tool {
    /// As it is printed.
    pub name: &'static str,
    /// False for what is shown but not judged.
    pub is_counted: bool,
    kind: Kind,
    program: PathBuf,
}

enum Kind {
    Lifeboat { slot: Slot, has_parity: bool },
    Restic { compression: &'static str },
    Rustic { level: Option<&'static str> },
    Borg { compression: &'static str },
}

/// What opens our repository.
#[derive(Clone, Copy)]
enum Slot {
    KeyFile,
    Passphrase,
}

impl Slot {
    /// The file below a tool's home.
    fn file(self, places: &Places) -> PathBuf {
        places.home.join(match self {
            Self::KeyFile => "key",
            Self::Passphrase => "passphrase",
        })
    }
}

/// The folders that one tool works in.
pub struct Places {
    /// The repository, absent until `init`.
    pub repository: PathBuf,
    /// What is backed up.
    pub data: PathBuf,
    /// Home of the tool: caches, keys, settings.
    pub home: PathBuf,
}

/// Every configuration that is to be measured; a peer that could not be had has no program.
pub fn all(ours: PathBuf, peers: &Peers) -> Vec<Tool> {
    let tool = |name, is_counted, kind, program: &Option<PathBuf>| {
        program.clone().map(|program| Tool { name, is_counted, kind, program })
    };
    let restic = |name, compression| tool(name, true, Kind::Restic { compression }, &peers.restic);
    let rustic = |name, level| tool(name, true, Kind::Rustic { level }, &peers.rustic);
    let borg =
        |name, counts, compression| tool(name, counts, Kind::Borg { compression }, &peers.borg);
    let tools = [
        tool("lifeboat", true, ours_by(Slot::KeyFile), &Some(ours)),
        restic("restic", "auto"),
        restic("restic zstd 1", "fastest"),
        rustic("rustic", None),
        rustic("rustic zstd 1", Some("1")),
        borg("borg zstd 1", true, "zstd,1"),
        borg("borg lz4", false, "lz4"),
    ];
    tools.into_iter().flatten().collect()
}

/// Ours without parity, which no peer has.
fn ours_by(slot: Slot) -> Kind {
    Kind::Lifeboat { slot, has_parity: false }
}

/// Ours, opened by a passphrase: what that costs is shown, not judged.
pub fn ours_with_passphrase(program: PathBuf) -> Tool {
    let kind = ours_by(Slot::Passphrase);
    Tool { name: "lifeboat passphrase", is_counted: false, kind, program }
}

/// Ours with parity, as it is on local disks unless told otherwise.
pub fn ours_with_parity(program: PathBuf) -> Tool {
    let kind = Kind::Lifeboat { slot: Slot::KeyFile, has_parity: true };
    Tool { name: "lifeboat parity", is_counted: false, kind, program }
}

/// The names of all counted peers, also of those that could not be had.
pub const COUNTED_PEERS: &[&str] =
    &["restic", "restic zstd 1", "rustic", "rustic zstd 1", "borg zstd 1"];

impl Tool {
    /// True for the one that is judged.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Lifeboat { .. })
    }

    /// Makes an empty repository.
    pub fn init(&self, places: &Places) -> Result<()> {
        fs::create_dir_all(&places.home).context("create a home")?;
        fs::write(places.home.join("passphrase"), PASSPHRASE).context("write a passphrase")?;
        let mut command = self.command(places);
        match self.kind {
            Kind::Lifeboat { slot, has_parity } => {
                let flag = match slot {
                    Slot::KeyFile => "--key-file",
                    Slot::Passphrase => "--passphrase-file",
                };
                command.args(["init", "--repo"]).arg(&places.repository);
                host::output_of(command.arg(flag).arg(slot.file(places)))?;
                return write_policy(places, slot, has_parity);
            }
            Kind::Restic { .. } => command.arg("init"),
            Kind::Rustic { level: Some(level) } => {
                command.args(["init", "--set-compression", level])
            }
            Kind::Rustic { level: None } => command.arg("init"),
            Kind::Borg { .. } => {
                command.args(["init", "--encryption", "repokey-blake2"]).arg(&places.repository)
            }
        };
        host::output_of(&mut command).map(drop)
    }

    /// Backs up; `archive` names the result where the tool wants a name.
    pub fn backup(&self, places: &Places, archive: &str) -> Command {
        let mut command = self.command(places);
        match self.kind {
            Kind::Lifeboat { .. } => command.arg("backup"),
            Kind::Restic { compression } => {
                command.args(["--compression", compression, "backup"]).arg(&places.data)
            }
            Kind::Rustic { .. } => command.arg("backup").arg(&places.data),
            Kind::Borg { compression } => {
                command.args(["create", "--compression", compression]);
                command.arg(archive_of(places, archive)).arg(&places.data)
            }
        };
        command
    }

    /// Restores what `archive` names, which is the newest, to a folder that does not exist.
    pub fn restore(&self, places: &Places, archive: &str, to: &Path) -> Result<Command> {
        let mut command = self.command(places);
        match self.kind {
            Kind::Lifeboat { .. } => command.args(["restore", "bench@latest", "--to"]).arg(to),
            Kind::Restic { .. } => command.args(["restore", "latest", "--target"]).arg(to),
            Kind::Rustic { .. } => command.args(["restore", "latest"]).arg(to),
            Kind::Borg { .. } => {
                fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
                command.arg("extract").arg(archive_of(places, archive)).current_dir(to)
            }
        };
        Ok(command)
    }

    /// Lists points: the least that ours does after it has opened a repository.
    pub fn points(&self, places: &Places) -> Command {
        let mut command = self.command(places);
        command.arg("points");
        command
    }

    /// Reads and checks every byte of the repository.
    pub fn verify(&self, places: &Places) -> Command {
        let mut command = self.command(places);
        match self.kind {
            Kind::Lifeboat { .. } => command.args(["verify", "--deep"]),
            Kind::Restic { .. } | Kind::Rustic { .. } => command.args(["check", "--read-data"]),
            Kind::Borg { .. } => command.args(["check", "--verify-data"]).arg(&places.repository),
        };
        command
    }

    /// The program with its repository, its secret and a home of its own.
    fn command(&self, places: &Places) -> Command {
        let mut command = Command::new(&self.program);
        let home = &places.home;
        command.env("HOME", home).env("XDG_CACHE_HOME", home.join("cache"));
        command.env("XDG_CONFIG_HOME", home.join("config"));
        match self.kind {
            Kind::Lifeboat { .. } => command.current_dir(home),
            Kind::Restic { .. } => {
                command.env("RESTIC_PASSWORD_FILE", home.join("passphrase"));
                command.arg("--quiet").arg("--repo").arg(&places.repository)
            }
            Kind::Rustic { .. } => {
                command.env("RUSTIC_PASSWORD_FILE", home.join("passphrase"));
                command.args(["--no-progress", "--log-level", "error"]);
                command.arg("--repository").arg(&places.repository)
            }
            Kind::Borg { .. } => {
                command.env("BORG_PASSPHRASE", PASSPHRASE).env("BORG_BASE_DIR", home)
            }
        };
        command
    }
}

fn archive_of(places: &Places, archive: &str) -> String {
    format!("{}::{archive}", places.repository.display())
}

/// The policy that `lifeboat backup` finds in the folder where it is started.
fn write_policy(places: &Places, slot: Slot, has_parity: bool) -> Result<()> {
    let key = match slot {
        Slot::KeyFile => "key_file",
        Slot::Passphrase => "passphrase_file",
    };
    let policy = format!(
        "site = \"bench\"\n\n[[files]]\nname = \"data\"\npaths = [{:?}]\n\n\
         [[repository]]\nurl = \"file://{}\"\nparity = {has_parity}\n{key} = {:?}\n",
        places.data.display().to_string(),
        places.repository.display(),
        slot.file(places).display().to_string(),
    );
    fs::write(places.home.join("lifeboat.toml"), policy).context("write a policy")
}
