//! `cargo xtask demo`: the main job on real directories. Copies `/etc` and the installed Rust
//! toolchain into a scratch folder, captures the copy, changes it, captures again, restores the
//! older point elsewhere, and proves by an independent reading that content and metadata are equal. Then
//! it destroys a part of the repository, and shows that this is found and healed from a second copy.
//! Nothing outside the scratch folder is written.

mod change;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;
use crate::{bench, host, tree};

/// The folders of the installation that are copied; documentation is left out.
const TOOLCHAIN_FOLDERS: &[&str] = &["bin", "lib"];

/// What `lifeboat verify` ends with where it finds damage.
const DAMAGED: i32 = 13;

/// Shows it; an error if anything is not as it was.
pub fn run() -> Result<bool> {
    let workspace = Workspace::load()?;
    host::say(
        "fetches: the crates of Cargo.lock that are not on this machine yet; installs nothing",
    );
    let program = bench::build_release(&workspace, "cli")?.join("lifeboat");
    let scratch =
        tempfile::Builder::new().prefix("lifeboat-demo-").tempdir().context("create scratch")?;
    let clock = host::Stopwatch::start();
    let demo = Demo { program, scratch: scratch.path().to_owned() };
    demo.copy_sources()?;
    let summary = demo.run()?;
    host::say(&format!("\n{summary}"));
    host::say(&format!(
        "took {:.1} s; the scratch folder is removed",
        clock.elapsed().as_secs_f64()
    ));
    Ok(true)
}

struct Demo {
    program: PathBuf,
    scratch: PathBuf,
}

impl Demo {
    fn run(&self) -> Result<String> {
        self.init()?;
        self.lifeboat(&["backup"])?;
        let before = tree::read(&self.data())?;
        host::say("\n# changes the copy");
        for change in change::apply(&self.data(), &before)? {
            host::say(&format!("  {change}"));
        }
        let after = tree::read(&self.data())?;
        self.lifeboat(&["backup"])?;
        self.lifeboat(&["points"])?;
        self.lifeboat(&["diff", "demo@latest~1", "demo@latest"])?;
        for (selector, expected) in [("demo@latest~1", &before), ("demo@latest", &after)] {
            self.restore_and_compare(selector, expected)?;
        }
        self.lifeboat(&["verify", "--deep"])?;
        self.destroy_and_heal()?;
        let count = |one: &tree::Tree| (one.len(), tree::content_bytes(one) / 1_000_000);
        let ((old, old_mb), (new, new_mb)) = (count(&before), count(&after));
        Ok(format!(
            "proven equal, content and metadata: {old} paths ({old_mb} MB) of the older point, \
             {new} paths ({new_mb} MB) of the newer one"
        ))
    }

    /// Loses a pack, and gets it back from a copy.
    fn destroy_and_heal(&self) -> Result<()> {
        let copy = format!("file://{}", self.scratch.join("copy").display());
        self.lifeboat(&["repo", "sync", "--to", &copy])?;
        let packs = bench::files_below(&self.scratch.join("repository/pack"))?;
        let length = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
        let pack = packs.into_iter().max_by_key(length).context("there is no pack")?;
        host::say(&format!("\n# destroys the largest pack\n$ rm {}", pack.display()));
        fs::remove_file(&pack).context("destroy a pack")?;
        let status = self.command(&["verify"]).status().context("start lifeboat")?;
        ensure!(status.code() == Some(DAMAGED), "the lost pack was not found: {status}");
        self.lifeboat(&["repo", "repair", "--from", &copy])?;
        self.lifeboat(&["verify", "--deep"])
    }

    /// Copies what is to be protected; the machine's own files are only read.
    fn copy_sources(&self) -> Result<()> {
        host::say(&format!("\n# copies real directories into {}", self.scratch.display()));
        fs::create_dir_all(self.data().join("toolchain")).context("create folders")?;
        let sysroot = host::output_of(Command::new("rustc").args(["--print", "sysroot"]))?;
        let sysroot = Path::new(sysroot.trim_end());
        copy(Path::new("/etc"), &self.data().join("etc"))?;
        for name in TOOLCHAIN_FOLDERS {
            copy(&sysroot.join(name), &self.data().join("toolchain").join(name))?;
        }
        Ok(())
    }

    fn init(&self) -> Result<()> {
        let key = self.scratch.join("key");
        let repository = format!("file://{}", self.scratch.join("repository").display());
        let key_text = key.display().to_string();
        self.lifeboat(&["init", "--repo", &repository, "--key-file", &key_text])?;
        let policy = format!(
            "site = \"demo\"\n\n[[files]]\nname = \"machine\"\npaths = [{:?}]\n\n\
             [[repository]]\nurl = {repository:?}\nkey_file = {key_text:?}\n",
            self.data().display().to_string()
        );
        host::say(&format!("\n# lifeboat.toml\n{policy}"));
        fs::write(self.scratch.join("lifeboat.toml"), policy).context("write the policy")
    }

    fn restore_and_compare(&self, selector: &str, expected: &tree::Tree) -> Result<()> {
        let to = self.scratch.join(format!("restored-{}", selector.replace(['@', '~'], "-")));
        self.lifeboat(&["restore", selector, "--to", &to.display().to_string()])?;
        let found = find_copy(&to, &self.data())?;
        let differences = tree::differences(expected, &tree::read(&found)?);
        differences.iter().take(20).for_each(|line| host::say(line));
        ensure!(differences.is_empty(), "{selector}: {} differences", differences.len());
        host::say(&format!("# {selector}: {} paths compared, no difference", expected.len()));
        Ok(())
    }

    /// Runs a command and shows it and what it says.
    fn lifeboat(&self, arguments: &[&str]) -> Result<()> {
        host::run(&mut self.command(arguments))
    }

    /// Makes a command and shows it as one would type it.
    fn command(&self, arguments: &[&str]) -> Command {
        host::say(&format!("\n$ lifeboat {}", arguments.join(" ")));
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.scratch);
        // Its caches and settings belong into the scratch folder too.
        for name in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]
        {
            command.env(name, self.scratch.join("home"));
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }
}

/// A restore keeps the path that a file came from, whole or its last part.
fn find_copy(to: &Path, source: &Path) -> Result<PathBuf> {
    let whole = to.join(source.strip_prefix("/").unwrap_or(source));
    let last = to.join(source.file_name().unwrap_or_default());
    let found = [whole, last, to.to_owned()].into_iter().find(|path| path.join("etc").is_dir());
    found.with_context(|| format!("nothing restored in {}", to.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    host::say(&format!("$ cp --archive {} {}", from.display(), to.display()));
    host::run(Command::new("cp").arg("--archive").arg(from).arg(to))
}
