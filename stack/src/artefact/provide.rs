//! Has an artefact: as the user named it, from the cache, or from the first source that gives it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::future::BoxFuture;
use model::{Context, Error, ErrorKind, Phase, Result};
use tokio::sync::Mutex;

use super::cache::Slot;
use super::install::{Install, Tool};
use super::version::Version;
use super::{Artefact, PassedOver, Provided, Source};
use crate::place::{Place, is_program};

const ACTION: &str = "have artefact";
/// How long a program may take to tell its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(30);

/// Provides artefacts; each once.
#[derive(Debug)]
pub struct Provider<'p> {
    artefacts: &'p BTreeMap<String, Artefact>,
    installed: &'p BTreeMap<String, PathBuf>,
    place: &'p Place,
    done: Mutex<BTreeMap<String, Provided>>,
}

impl<'p> Provider<'p> {
    /// Begins with none.
    pub fn new(
        artefacts: &'p BTreeMap<String, Artefact>,
        installed: &'p BTreeMap<String, PathBuf>,
        place: &'p Place,
    ) -> Self {
        Self { artefacts, installed, place, done: Mutex::default() }
    }

    /// Provides one, and first the tools that fetch it.
    pub fn provide<'a>(
        &'a self,
        name: &'a str,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Provided>> {
        Box::pin(async move {
            if let Some(provided) = self.done.lock().await.get(name) {
                return Ok(provided.clone());
            }
            let provided = self.provide_new(name, context).await?;
            self.done.lock().await.insert(name.to_owned(), provided.clone());
            Ok(provided)
        })
    }

    async fn provide_new(&self, name: &str, context: &Context) -> Result<Provided> {
        let Some(artefact) = self.artefacts.get(name) else {
            let error = Error::new(ErrorKind::Invalid, ACTION, name);
            return Err(error.detail("there is no artefact of this name"));
        };
        if let Some(path) = self.installed.get(name) {
            return named_by_user(artefact, path);
        }
        let mut passed_over = Vec::new();
        for source in &artefact.sources {
            context.check(ACTION)?;
            match self.provide_from(artefact, source, context).await {
                Ok(provided) => return Ok(Provided { passed_over, ..provided }),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    passed_over.push(PassedOver { source: source.label(), why: error.chain() });
                }
            }
        }
        let reasons: Vec<_> =
            passed_over.iter().map(|one| format!("not {}: {}", one.source, one.why)).collect();
        Err(Error::new(ErrorKind::NotFound, ACTION, name).detail(reasons.join("; ")))
    }

    async fn provide_from(
        &self,
        artefact: &Artefact,
        source: &Source,
        context: &Context,
    ) -> Result<Provided> {
        let provided = match &source.installed {
            Some(program) => self.find_installed(artefact, program, source.label())?,
            None => self.fetched(artefact, source, context).await?,
        };
        if let (Some(program), Some((call, least))) = (&provided.program, &artefact.version) {
            let version = self.version_of(program, call, &artefact.name, context).await?;
            if version < *least {
                let why = format!("{} is {version}, older than {least}", program.display());
                return Err(Error::new(ErrorKind::Unsupported, ACTION, &artefact.name).detail(why));
            }
        }
        Ok(provided)
    }

    fn find_installed(&self, artefact: &Artefact, name: &str, label: String) -> Result<Provided> {
        let missing = |name: &str| {
            let error = Error::new(ErrorKind::NotFound, ACTION, &artefact.name);
            error.detail(format!("{name} is not installed"))
        };
        let program = self.place.find_program(name).ok_or_else(|| missing(name))?;
        let others = artefact.companions.iter();
        if let Some(other) = others.into_iter().find(|one| self.place.find_program(one).is_none()) {
            return Err(missing(other));
        }
        Ok(provided(artefact, label, home_of(&program), Some(program)))
    }

    /// Takes it from the cache, or fetches it into the cache.
    async fn fetched(
        &self,
        artefact: &Artefact,
        source: &Source,
        context: &Context,
    ) -> Result<Provided> {
        let slot = Slot::lock(self.place, source.key(&artefact.name), context).await?;
        let (record, is_new) = match slot.find(context).await? {
            Some(record) => (record, false),
            None if self.place.is_offline() => {
                let error = Error::new(ErrorKind::NotFound, ACTION, &artefact.name);
                return Err(error.detail("it is not in the cache, and nothing may be fetched"));
            }
            None => {
                let mut tools = BTreeMap::new();
                for tool in source.tools() {
                    let provided = self.provide(tool, context).await?;
                    tools.insert(*tool, Tool::of(&provided)?);
                }
                let subject = format!("{} ({})", artefact.name, source.label());
                context.monitor.phase(Phase { name: "fetch", subject, total: None });
                let staging = slot.staging()?;
                let log = self.place.cache().join("logs").join(format!("{}.log", artefact.name));
                // Of an earlier attempt.
                let _ = std::fs::remove_file(&log);
                let install = Install {
                    artefact: &artefact.name,
                    tools,
                    staging: &staging,
                    final_tree: slot.tree(),
                    log: &log,
                    place: self.place,
                    context,
                };
                install.fetch(source).await?;
                find_program(&staging.join("tree"), source, artefact)?;
                (slot.keep(&staging, &source.label()).await?, true)
            }
        };
        let tree = slot.tree();
        let program = find_program(&tree, source, artefact)?;
        let digest = Some(record.digest);
        Ok(Provided { digest, is_new, ..provided(artefact, source.label(), tree, program) })
    }

    async fn version_of(
        &self,
        program: &Path,
        call: &[String],
        artefact: &str,
        context: &Context,
    ) -> Result<Version> {
        let failed = |why: String| {
            let error = Error::new(ErrorKind::Unsupported, "ask for version", artefact);
            error.detail(format!("{}: {why}", program.display()))
        };
        let run = tokio::process::Command::new(program)
            .args(call)
            .env_clear()
            .envs(self.place.variables())
            .env("PATH", self.place.search_path(&[]))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::select! {
            output = run => output.map_err(|error| failed(error.to_string()))?,
            () = context.clock.sleep(VERSION_PATIENCE) => return Err(failed("no answer".to_owned())),
        };
        let bytes = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&bytes);
        if !output.status.success() {
            let last = printed.lines().last().unwrap_or_default().to_owned();
            return Err(failed(format!("{}: {last}", output.status)));
        }
        Version::find(&printed).ok_or_else(|| failed("it tells no version".to_owned()))
    }
}

impl Source {
    /// Returns its name in the cache: another source or another choice has another.
    fn key(&self, artefact: &str) -> String {
        // All that matters is in it; TOML writes the fields in their order.
        let text = toml::to_string(self).unwrap_or_else(|_| self.label());
        let digest = blake3::hash(text.as_bytes()).to_hex();
        format!("{artefact}-{}", digest.get(..16).unwrap_or_default())
    }
}

fn provided(
    artefact: &Artefact,
    source: String,
    tree: PathBuf,
    program: Option<PathBuf>,
) -> Provided {
    let artefact = artefact.name.clone();
    let passed_over = Vec::new();
    Provided { artefact, source, tree, program, digest: None, is_new: false, passed_over }
}

/// Takes what the user named: a program, or a folder that holds it where one of the sources would have it.
fn named_by_user(artefact: &Artefact, path: &Path) -> Result<Provided> {
    let label = format!("named {}", path.display());
    if is_program(path) {
        return Ok(provided(artefact, label, home_of(path), Some(path.to_owned())));
    }
    let refuse = |why: &str| {
        let error = Error::new(ErrorKind::Invalid, "use installation", &artefact.name);
        Err(error.detail(format!("{}: {why}", path.display())))
    };
    if !path.is_dir() {
        return refuse("neither a program nor a folder");
    }
    let wanted: Vec<&str> = artefact.sources.iter().filter_map(Source::program_path).collect();
    if wanted.is_empty() {
        return Ok(provided(artefact, label, path.to_owned(), None));
    }
    match wanted.iter().find_map(|wanted| expand(path, wanted)) {
        Some(program) => Ok(provided(artefact, label, path.to_owned(), Some(program))),
        None => refuse(&format!("none of {} is in it", wanted.join(", "))),
    }
}

impl Source {
    fn program_path(&self) -> Option<&str> {
        self.program.as_deref()
    }
}

/// Returns the program that a source promises.
fn find_program(tree: &Path, source: &Source, artefact: &Artefact) -> Result<Option<PathBuf>> {
    let Some(wanted) = source.program_path() else { return Ok(None) };
    let missing = || {
        let error = Error::new(ErrorKind::NotFound, ACTION, &artefact.name);
        error.detail(format!("there is no {wanted} in what was fetched"))
    };
    expand(tree, wanted).map(Some).ok_or_else(missing)
}

/// Finds a path below a folder whose parts may hold one `*` each; the first in order where there are several.
fn expand(root: &Path, pattern: &str) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for part in pattern.split('/') {
        let Some((head, tail)) = part.split_once('*') else {
            path.push(part);
            continue;
        };
        let names = std::fs::read_dir(&path).ok()?.flatten().map(|entry| entry.file_name());
        let fits = |name: &OsString| {
            let name = name.to_string_lossy();
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        };
        path.push(names.filter(fits).min()?);
    }
    path.exists().then_some(path)
}

/// Returns the folder above the one that holds a program: that of a JDK, say.
fn home_of(program: &Path) -> PathBuf {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    real.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned()
}
