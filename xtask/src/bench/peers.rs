//! Installs the newest restic, rustic and borg below the cache. A peer that cannot be had is left
//! out, said so, and its cases do not hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;

const RESTIC: &str = "github.com/restic/restic/cmd/restic@v0.19.1";
const RUSTIC: &str = "rustic-rs@0.11.4";
const BORG: &str = "borgbackup==1.4.5";
/// What Debian needs to build borg where there is no wheel.
const BORG_LIBRARIES: &[&str] =
    &["libacl1-dev", "liblz4-dev", "libssl-dev", "libxxhash-dev", "libzstd-dev", "pkg-config"];

/// The programs of the peers, as far as they could be had.
pub struct Peers {
    pub restic: Option<PathBuf>,
    pub rustic: Option<PathBuf>,
    pub borg: Option<PathBuf>,
}

/// Installs what is missing, and says what before it does.
pub fn provide() -> Result<Peers> {
    let folder = host::cache_dir("peers")?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(Peers {
        restic: one("restic", RESTIC, &folder.join("bin/restic"), || restic(&folder)),
        rustic: one("rustic", RUSTIC, &folder.join("bin/rustic"), || rustic(&folder)),
        borg: one("borg", BORG, &folder.join("borg/bin/borg"), || borg(&folder)),
    })
}

fn one(
    name: &str,
    what: &str,
    program: &Path,
    install: impl FnOnce() -> Result<()>,
) -> Option<PathBuf> {
    if !works(program) {
        host::note(&format!("installs: {what} into {}", program.display()));
        if let Err(error) = install() {
            host::note(&format!("{name} cannot be had: {error:#}"));
        }
    }
    works(program).then(|| program.to_owned())
}

fn works(program: &Path) -> bool {
    program.to_str().is_some_and(|program| host::succeeds(program, &["--version"]))
        || program.to_str().is_some_and(|program| host::succeeds(program, &["version"]))
}

fn restic(folder: &Path) -> Result<()> {
    if host::succeeds("go", &["version"]) {
        let mut go = Command::new("go");
        return host::output_of(go.args(["install", RESTIC]).env("GOBIN", folder.join("bin")))
            .map(drop);
    }
    // Older than what Go would build, but a peer all the same: the version is printed.
    apt_get(&["restic"])?;
    fs::create_dir_all(folder.join("bin"))?;
    Ok(std::os::unix::fs::symlink("/usr/bin/restic", folder.join("bin/restic"))?)
}

fn rustic(folder: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", RUSTIC, "--locked", "--quiet", "--root"]).arg(folder);
    host::output_of(cargo.env("CARGO_TARGET_DIR", folder.join("build"))).map(drop)
}

fn borg(folder: &Path) -> Result<()> {
    let venv = folder.join("borg");
    host::output_of(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = || {
        let mut pip = Command::new(venv.join("bin/pip"));
        host::output_of(pip.args(["install", "--quiet", BORG])).map(drop)
    };
    pip().or_else(|_| {
        apt_get(BORG_LIBRARIES)?;
        pip()
    })
}

/// Installs Debian packages, with fresh lists of them: a new machine has none.
fn apt_get(packages: &[&str]) -> Result<()> {
    host::note(&format!("installs: {} by apt-get", packages.join(" ")));
    let install: Vec<_> = ["install", "--yes"].iter().chain(packages).copied().collect();
    for prefix in [&["apt-get"][..], &["sudo", "-n", "apt-get"]] {
        let run = |arguments: &[&str]| {
            let (program, words) = prefix.split_first().context("no command")?;
            host::output_of(Command::new(program).args(words).args(arguments)).map(drop)
        };
        if run(&["update", "--quiet"]).and_then(|()| run(&install)).is_ok() {
            return Ok(());
        }
    }
    bail!("apt-get could not install {}", packages.join(" "))
}

/// What a peer says about its version.
pub fn version(program: &Path) -> String {
    let ask = |argument: &str| host::output_of(Command::new(program).arg(argument));
    let text = ask("--version").or_else(|_| ask("version")).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
