//! Fetches from each kind of source, by its own client.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use model::{Context, Error, ErrorKind, Result};

use super::maven::PLUGIN;
use super::run::Call;
use super::{Maven, Provided, Source};
use crate::folders;
use crate::place::Place;

/// A tool chain that is at hand.
#[derive(Debug)]
pub struct Tool {
    program: PathBuf,
    home: PathBuf,
    is_of_machine: bool,
}

impl Tool {
    /// Takes it.
    pub fn of(provided: &Provided) -> Result<Self> {
        let Some(program) = provided.program.clone() else {
            let error = Error::new(ErrorKind::Invalid, "use tool", &provided.artefact);
            return Err(error.detail("it has no program"));
        };
        // Above the folder of programs, as JAVA_HOME means it.
        let home = program.parent().and_then(Path::parent).unwrap_or(&provided.tree).to_owned();
        Ok(Self { program, home, is_of_machine: provided.digest.is_none() })
    }
}

/// One artefact being fetched into `staging`.
pub struct Install<'i> {
    /// Its name.
    pub artefact: &'i str,
    /// The tools that the source takes.
    pub tools: BTreeMap<&'static str, Tool>,
    /// A folder with `tree/` and `work/` in it.
    pub staging: &'i Path,
    /// Where the tree will be.
    pub final_tree: PathBuf,
    /// What clients print.
    pub log: &'i Path,
    /// Variables and folders.
    pub place: &'i Place,
    /// Can stop it.
    pub context: &'i Context,
}

impl Install<'_> {
    /// Fetches.
    pub async fn fetch(&self, source: &Source) -> Result<()> {
        match source {
            Source { go: Some(package), .. } => self.go(package).await,
            Source { npm: Some(packages), .. } => self.npm(packages).await,
            Source { python: Some(packages), .. } => self.python(packages).await,
            Source { debian: Some(packages), .. } => self.debian(packages).await,
            Source { maven: Some(maven), .. } => self.maven(maven).await,
            Source { krate: Some(name), .. } => self.cargo(name, &source.features).await,
            _ => Err(self.failed("nothing to fetch from")),
        }
    }

    async fn go(&self, package: &str) -> Result<()> {
        let bin = self.tree().join("bin");
        let arguments = ["install", "-trimpath", "-ldflags", "-s -w", package];
        // A toolchain of another version is our matter, not one to be fetched by the way.
        let variables = [
            ("GOBIN", bin.into_os_string()),
            ("GOTOOLCHAIN", "local".into()),
            ("CGO_ENABLED", "0".into()),
        ];
        self.call("go", &words(&arguments), &variables).await
    }

    async fn npm(&self, packages: &[String]) -> Result<()> {
        let tree = self.tree();
        let mut arguments = words(&["install", "--no-audit", "--no-fund", "--omit=dev"]);
        // Packages are data here: none of them gets to run anything while it is fetched.
        arguments.extend(words(&["--ignore-scripts", "--save-exact", "--prefix"]));
        arguments.push(tree.into_os_string());
        arguments.extend(packages.iter().map(OsString::from));
        let node = self.tool("node")?;
        let npm = node.program.with_file_name("npm");
        let program = if npm.exists() { npm } else { PathBuf::from("npm") };
        self.run(program, arguments, &[]).await
    }

    async fn python(&self, packages: &[String]) -> Result<()> {
        let tree = self.tree();
        let folder = tree.clone().into_os_string();
        self.call("python", &[words(&["-m", "venv"]), vec![folder]].concat(), &[]).await?;
        let mut arguments = words(&["-m", "pip", "install", "--no-input", "--quiet", "--"]);
        arguments.extend(packages.iter().map(OsString::from));
        self.run(tree.join("bin/python"), arguments, &[]).await?;
        // Scripts name the folder in which they were made.
        let bin = tree.join("bin");
        let scripts = fs::read_dir(&bin).map_err(|e| folders::error("list directory", &bin, e))?;
        let scripts = scripts.flatten().map(|entry| entry.path());
        for path in scripts.chain([tree.join("pyvenv.cfg")]) {
            replace_in_file(&path, &tree, &self.final_tree)?;
        }
        Ok(())
    }

    async fn cargo(&self, name: &str, features: &[String]) -> Result<()> {
        let (name, version) = name.split_once('@').unwrap_or((name, ""));
        let mut arguments = words(&["install", "--locked", "--no-track", "--version", version]);
        if !features.is_empty() {
            arguments.extend(words(&["--features", &features.join(",")]));
        }
        arguments.extend(["--root".into(), self.tree().into_os_string()]);
        arguments.extend(["--target-dir".into(), self.work("target")]);
        arguments.extend(words(&["--", name]));
        self.call("cargo", &arguments, &[]).await
    }

    async fn maven(&self, maven: &Maven) -> Result<()> {
        let java = self.tool("java")?;
        let mut variables = Vec::new();
        if !java.is_of_machine {
            variables.push(("JAVA_HOME", java.home.clone().into_os_string()));
        }
        let usual = words(&["-B", "-q", "-ntp"]);
        if !maven.jars.is_empty() {
            let project = self.staging.join("work/pom.xml");
            folders::replace(&project, &maven.project())?;
            let mut arguments = usual.clone();
            arguments.extend(["-f".into(), project.into_os_string()]);
            arguments
                .extend(words(&[&format!("{PLUGIN}:copy-dependencies"), "-DincludeScope=runtime"]));
            arguments.push(assign("-DoutputDirectory=", &self.tree().join("jars")));
            self.call("maven", &arguments, &variables).await?;
        }
        for archive in &maven.archives {
            let mut arguments = usual.clone();
            arguments.extend(words(&[&format!("{PLUGIN}:copy"), &format!("-Dartifact={archive}")]));
            arguments.push(assign("-DoutputDirectory=", &self.staging.join("work")));
            self.call("maven", &arguments, &variables).await?;
            let parts: Vec<&str> = archive.split(':').collect();
            let [_, artifact, version, kind, rest @ ..] = parts.as_slice() else {
                return Err(self.failed("no coordinate"));
            };
            let classifier = rest.first().map(|one| format!("-{one}")).unwrap_or_default();
            let file = self.work(&format!("{artifact}-{version}{classifier}.{kind}"));
            let mut arguments = words(&["-xzf"]);
            arguments.extend([file, "-C".into(), self.tree().into_os_string()]);
            arguments.extend(words(&["--strip-components=1", "--no-same-owner"]));
            self.run("tar".into(), arguments, &[]).await?;
        }
        Ok(())
    }

    /// Downloads packages, and those that they depend on and this machine has not, and unpacks them; nothing
    /// is installed.
    async fn debian(&self, packages: &[String]) -> Result<()> {
        let archives = PathBuf::from(self.work("archives"));
        folders::make(&archives.join("partial"))?;
        let lists = self.place.cache().join("apt-lists");
        folders::make(&lists.join("partial"))?;
        let archives_option = assign("Dir::Cache::archives=", &archives);
        let common = ["-o".into(), archives_option, "-o".into(), "Debug::NoLocking=1".into()];
        // Who has no rights beyond his own folders has to be the one who fetches.
        let common = [&common[..], &words(&["-y", "-q", "-o", "APT::Sandbox::User=root"])].concat();
        let own = ["-o".into(), assign("Dir::State::lists=", &lists)];
        let mut install = words(&["install", "--no-install-recommends", "--download-only"]);
        install.extend(words(&["--reinstall", "--"]));
        install.extend(packages.iter().map(OsString::from));
        let first = [common.clone(), install.clone()].concat();
        let is_fetched = self.run("apt-get".into(), first, &[]).await.is_ok();
        if !is_fetched || debs_in(&archives)?.is_empty() {
            // Lists may be old, or none were ever fetched: ours leave those of the machine alone.
            let update = [&common[..], &own[..], &words(&["update"])[..]].concat();
            self.run("apt-get".into(), update, &[]).await?;
            let again = [&common[..], &own[..], &install[..]].concat();
            self.run("apt-get".into(), again, &[]).await?;
        }
        let debs = debs_in(&archives)?;
        if debs.is_empty() {
            return Err(self.failed("no package was downloaded"));
        }
        let tree = self.tree();
        for deb in debs {
            let arguments = vec!["-x".into(), deb.into_os_string(), tree.clone().into_os_string()];
            self.run("dpkg-deb".into(), arguments, &[]).await?;
        }
        turn_links_inwards(&tree, &tree)
    }

    async fn call(
        &self,
        tool: &str,
        arguments: &[OsString],
        variables: &[(&'static str, OsString)],
    ) -> Result<()> {
        self.run(self.tool(tool)?.program.clone(), arguments.to_vec(), variables).await
    }

    async fn run(
        &self,
        program: PathBuf,
        arguments: Vec<OsString>,
        variables: &[(&'static str, OsString)],
    ) -> Result<()> {
        let search = self.tools.values().filter_map(|tool| tool.program.parent());
        let call = Call {
            subject: self.artefact,
            program,
            arguments,
            variables: variables.to_vec(),
            search: search.map(Path::to_owned).collect(),
            folder: self.staging,
            log: self.log,
        };
        call.run(self.place, self.context).await
    }

    fn tool(&self, name: &str) -> Result<&Tool> {
        self.tools.get(name).ok_or_else(|| self.failed(&format!("{name} is not at hand")))
    }

    fn tree(&self) -> PathBuf {
        self.staging.join("tree")
    }

    fn work(&self, name: &str) -> OsString {
        self.staging.join("work").join(name).into_os_string()
    }

    fn failed(&self, why: &str) -> Error {
        Error::new(ErrorKind::Unavailable, "fetch", self.artefact).detail(why)
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn assign(option: &str, path: &Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path);
    word
}

fn debs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| folders::error("list directory", folder, e))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut debs: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
    debs.sort();
    Ok(debs)
}

/// Replaces one path by another in a file of text; what is no such file stays as it is.
fn replace_in_file(path: &Path, from: &Path, to: &Path) -> Result<()> {
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let text = if is_file { fs::read_to_string(path).ok() } else { None };
    let (Some(text), Some(from), Some(to)) = (text, from.to_str(), to.to_str()) else {
        return Ok(());
    };
    if !text.contains(from) {
        return Ok(());
    }
    // In place, so that it can still be run.
    fs::write(path, text.replace(from, to)).map_err(|e| folders::error("write file", path, e))
}

/// Makes absolute links whose targets were unpacked too lead there, and not to this machine's own files.
pub fn turn_links_inwards(root: &Path, folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| folders::error("list directory", folder, e))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            turn_links_inwards(root, &path)?;
        }
        if !metadata.is_symlink() {
            continue;
        }
        let Ok(target) = fs::read_link(&path) else { continue };
        let Ok(inner) = target.strip_prefix("/") else { continue };
        if root.join(inner).symlink_metadata().is_err() {
            continue;
        }
        let depth = folder.strip_prefix(root).map_or(0, |below| below.components().count());
        let relative: PathBuf = std::iter::repeat_n("..", depth).collect();
        let relink = || {
            fs::remove_file(&path)?;
            std::os::unix::fs::symlink(relative.join(inner), &path)
        };
        relink().map_err(|e| folders::error("change link", &path, e))?;
    }
    Ok(())
}
