//! What `cargo metadata` says about the workspace, as plain values for the checks to judge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::host;

/// The workspace and everything that it builds from on this platform.
#[derive(Deserialize)]
pub struct Workspace {
    /// The folder of the virtual manifest.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Members and dependencies alike.
    pub packages: Vec<Package>,
    #[serde(rename = "workspace_members")]
    member_ids: BTreeSet<String>,
}

/// One package.
#[derive(Deserialize)]
pub struct Package {
    id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression, as its author wrote it.
    pub license: Option<String>,
    /// What it declares that it uses.
    pub dependencies: Vec<Dependency>,
    /// Libraries, binaries and test binaries.
    pub targets: Vec<Target>,
    manifest_path: PathBuf,
}

/// One declared dependency.
#[derive(Deserialize)]
pub struct Dependency {
    /// Name of the package that is used.
    pub name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub kind: Option<String>,
}

impl Dependency {
    /// True if it is no part of what is built for users.
    pub fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

/// One thing that cargo builds from a package.
#[derive(Deserialize)]
pub struct Target {
    /// `lib`, `bin`, `test`, …
    pub kind: Vec<String>,
    /// The file of its crate root.
    pub src_path: PathBuf,
}

impl Target {
    /// True if it is an integration-test binary.
    pub fn is_test(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test")
    }
}

impl Package {
    /// Cargo's own name for it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder of its manifest.
    pub fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

impl Workspace {
    /// Asks cargo. Needs the locked dependencies of this platform on disk, and no network then.
    pub fn load() -> Result<Self> {
        let host_triple = host_triple()?;
        let mut command = Command::new("cargo");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            &host_triple,
        ]);
        let json = host::output_of(&mut command)?;
        serde_json::from_str(&json).context("cannot read what cargo metadata says")
    }

    /// The packages of this workspace, in cargo's order.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.member_ids.contains(&package.id))
    }

    /// The packages that others wrote.
    pub fn third_party(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !self.member_ids.contains(&package.id))
    }

    /// A path as it is written in messages: relative to the root.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

fn host_triple() -> Result<String> {
    let version = host::output_of(Command::new("rustc").arg("-vV"))?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("rustc -vV names no host")?.to_owned())
}
