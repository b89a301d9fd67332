//! Makes one server of a stack: its folder, its files, its process, until it is ready.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::{Context, Error, ErrorKind, Phase, Result};

use crate::artefact::{Provided, Provider};
use crate::backing::Backing;
use crate::description::{Description, ServerDescription};
use crate::folders;
use crate::memory;
use crate::ports::HOST;
use crate::probe;
use crate::process::launch::{Launch, open_log, within};
use crate::process::{MARK, ProcessId};
use crate::recipe::{Probe, Recipe, Variant};
use crate::record::ServerRecord;
use crate::template::{Values, render};

const ACTION: &str = "start server";
/// Between two questions whether a server is ready.
const ASK_EVERY_MIN: Duration = Duration::from_millis(10);
const ASK_EVERY_MAX: Duration = Duration::from_millis(250);
/// How much of a log an error shows.
const LINES_SHOWN: usize = 12;

/// How a server will be made: the variant whose artefacts could be had.
#[derive(Debug)]
pub struct Chosen<'d> {
    /// What is wanted.
    pub server: &'d ServerDescription,
    /// Its recipe.
    pub recipe: &'d Recipe,
    /// The way it is made.
    pub variant: &'d Variant,
    /// What it takes.
    pub artefacts: Vec<Provided>,
    /// Better ways, and why not.
    pub passed_over: Vec<String>,
}

/// Chooses the first variant whose artefacts can be had.
pub async fn choose<'d>(
    server: &'d ServerDescription,
    description: &'d Description,
    provider: &Provider<'_>,
    context: &Context,
) -> Result<Chosen<'d>> {
    let recipe = description.recipe_of(server)?;
    let mut passed_over = Vec::new();
    let wanted = |one: &&Variant| server.variant.as_ref().is_none_or(|name| *name == one.name);
    for variant in recipe.variants.iter().filter(wanted) {
        match have_all(variant, provider, context).await {
            Ok(artefacts) => {
                if !passed_over.is_empty() {
                    let why = format!("it is made by {}: {}", variant.name, passed_over.join("; "));
                    let error =
                        Error::new(ErrorKind::Unavailable, "have best variant", &server.name);
                    context.monitor.problem(&error.detail(why));
                }
                return Ok(Chosen { server, recipe, variant, artefacts, passed_over });
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => passed_over.push(format!("not by {}: {}", variant.name, error.chain())),
        }
    }
    let error = Error::new(ErrorKind::NotFound, "have server", &server.name);
    Err(error.detail(passed_over.join("; ")))
}

async fn have_all(
    variant: &Variant,
    provider: &Provider<'_>,
    context: &Context,
) -> Result<Vec<Provided>> {
    let mut artefacts = Vec::with_capacity(variant.needs.len());
    for need in &variant.needs {
        artefacts.push(provider.provide(need, context).await?);
    }
    Ok(artefacts)
}

/// One server being made.
#[derive(Debug)]
pub struct Maker<'m> {
    chosen: &'m Chosen<'m>,
    backing: &'m Backing,
    values: Values,
    environment: BTreeMap<OsString, OsString>,
    folder: PathBuf,
    log: PathBuf,
    context: &'m Context,
}

impl<'m> Maker<'m> {
    /// Fills in all templates that do not depend on others.
    pub fn new(
        chosen: &'m Chosen<'m>,
        ports: &BTreeMap<String, u16>,
        others: &Values,
        backing: &'m Backing,
        context: &'m Context,
    ) -> Result<Self> {
        let name = &chosen.server.name;
        let folder = backing.folder().join(name);
        let log = backing.folder().join("log").join(format!("{name}.log"));
        let mut values = Values::new();
        let mut set = |name: String, value: String| drop(values.insert(name, value));
        set("name".into(), name.clone());
        set("host".into(), HOST.to_string());
        set("folder".into(), folder.display().to_string());
        for (port, number) in ports {
            set(format!("port.{port}"), number.to_string());
        }
        if let Some(mib) = memory_mib(chosen) {
            set("memory_mib".into(), mib.to_string());
        }
        for (setting, usual) in &chosen.recipe.settings {
            let text = match chosen.server.settings.get(setting) {
                Some(own) => render(&own.text(), others)?,
                None => usual.clone(),
            };
            set(format!("setting.{setting}"), text);
        }
        for artefact in &chosen.artefacts {
            set(format!("tree.{}", artefact.artefact), artefact.tree.display().to_string());
            if let Some(program) = &artefact.program {
                set(format!("program.{}", artefact.artefact), program.display().to_string());
            }
        }
        for template in &chosen.variant.folders {
            let path = below(&folder, &render(template, &values)?)?.display().to_string();
            // A folder is named as the recipe writes it.
            values.insert(format!("folder.{template}"), path);
        }
        let environment = environment(chosen, &folder, &values, backing)?;
        Ok(Self { chosen, backing, values, environment, folder, log, context })
    }

    /// Makes it, and comes back when it is ready.
    pub async fn make(&self, ports: &BTreeMap<String, u16>, wave: usize) -> Result<ServerRecord> {
        let (server, variant) = (self.chosen.server, self.chosen.variant);
        let say = |name| {
            let subject = format!("{} ({})", server.name, variant.name);
            self.context.monitor.phase(Phase { name, subject, total: None });
        };
        self.lay_out()?;
        if !variant.create.is_empty() {
            say("create");
            self.once(".created", &variant.create).await?;
        }
        say("start");
        // Before it begins: it may say that it is ready at once.
        let from = std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let mut record = self.begin(ports, wave)?;
        self.wait_until_ready(record.process, from).await?;
        self.once(".prepared", &variant.prepare).await?;
        record.is_ready = true;
        self.backing.update(&record)?;
        Ok(record)
    }

    fn lay_out(&self) -> Result<()> {
        folders::make(&self.folder.join("tmp"))?;
        for template in &self.chosen.variant.folders {
            folders::make(&below(&self.folder, &render(template, &self.values)?)?)?;
        }
        for (path, content) in &self.chosen.variant.files {
            let path = below(&self.folder, path)?;
            if let Some(parent) = path.parent() {
                folders::make(parent)?;
            }
            folders::replace(&path, &render(content, &self.values)?)?;
        }
        Ok(())
    }

    /// Starts its process, which is on record before it begins.
    fn begin(&self, ports: &BTreeMap<String, u16>, wave: usize) -> Result<ServerRecord> {
        let Chosen { server, variant, passed_over, .. } = self.chosen;
        let render_all = |texts: &BTreeMap<String, String>| {
            let pairs =
                texts.iter().map(|(name, text)| Ok((name.clone(), render(text, &self.values)?)));
            pairs.collect::<Result<BTreeMap<_, _>>>()
        };
        let properties = render_all(&variant.properties)?;
        let command = self.rendered(&variant.command)?;
        let waiting = Launch {
            subject: &server.name,
            command: &command,
            environment: &self.environment,
            folder: &self.folder,
            log: &self.log,
            network: self.backing.network(),
        }
        .begin()?;
        let memory_mib = memory_mib(self.chosen);
        let mut record = ServerRecord {
            name: server.name.clone(),
            recipe: server.recipe.clone(),
            variant: variant.name.clone(),
            provides: variant.provides.clone(),
            passed_over: passed_over.clone(),
            process: waiting.id(),
            wave,
            is_ready: false,
            log: self.log.clone(),
            stop_signal: variant.stop_signal,
            stop_within_s: variant.stop_within_s,
            memory_mib,
            memory_limit: memory::MemoryLimit::None,
            ports: ports.clone(),
            properties,
        };
        let group = self.backing.mark(&server.name).replace('/', "-");
        let group = format!("lifeboat-stack-{group}");
        record.memory_limit =
            memory::limit(waiting.id(), memory_mib, variant.memory_fallback, &group);
        self.backing.begin(&record)?;
        self.backing.own(waiting.go()?);
        Ok(record)
    }

    async fn wait_until_ready(&self, process: ProcessId, log_from: u64) -> Result<()> {
        let variant = self.chosen.variant;
        let probes: Vec<Probe> =
            variant.ready.iter().map(|probe| probe.render(&self.values)).collect::<Result<_>>()?;
        let clock = &self.context.clock;
        let (begin, mut pause) = (clock.elapsed(), ASK_EVERY_MIN);
        loop {
            self.context.check(ACTION)?;
            let answer = self.ask_all(&probes, log_from).await;
            // Whatever answered: where the process is gone it was somebody else.
            if !process.is_alive() {
                let how = self.backing.exit_of(process);
                return Err(self.failed(&format!("it ended before it was ready{how}")));
            }
            let Err(why) = answer else { return Ok(()) };
            if clock.elapsed().saturating_sub(begin) >= variant.ready_within() {
                let within = variant.ready_within_s;
                return Err(self.failed(&format!("it was not ready within {within} s: {why}")));
            }
            clock.sleep(pause).await;
            pause = ASK_EVERY_MAX.min(pause * 2);
        }
    }

    async fn ask_all(&self, probes: &[Probe], log_from: u64) -> Result<(), String> {
        let dialer = self.backing.dialer();
        for probe in probes {
            match &probe.command {
                Some(command) => {
                    let output = self.run(command, false).await.map_err(|error| error.chain())?;
                    probe::contains(&output, probe)?;
                }
                None => probe::ask(probe, &dialer, (&self.log, log_from), self.context).await?,
            }
        }
        Ok(())
    }

    /// Runs commands that have not been run in this folder.
    async fn once(&self, marker: &str, commands: &[Vec<String>]) -> Result<()> {
        let marker = self.folder.join(marker);
        if commands.is_empty() || marker.exists() {
            return Ok(());
        }
        for command in commands {
            self.run(&self.rendered(command)?, true).await?;
        }
        folders::replace(&marker, "")
    }

    /// Runs a command of the recipe to its end. What it prints is returned, or goes to the log.
    async fn run(&self, command: &[String], is_logged: bool) -> Result<String> {
        let words = within(command, self.backing.network());
        let (program, arguments) =
            words.split_first().ok_or_else(|| self.failed("an empty command"))?;
        let shown = command.first().map(String::as_str).unwrap_or_default();
        let failed = |why: String| self.failed(&format!("{shown}: {why}"));
        let mut run = tokio::process::Command::new(program);
        run.args(arguments).env_clear().envs(&self.environment).current_dir(&self.folder);
        run.stdin(Stdio::null()).kill_on_drop(true);
        if is_logged {
            let log = open_log(&self.log)?;
            let both = log.try_clone().map_err(|error| failed(error.to_string()))?;
            run.stdout(log).stderr(both);
        } else {
            run.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let run = run.spawn().map_err(|error| failed(error.to_string()))?;
        let output = tokio::select! {
            output = run.wait_with_output() => output.map_err(|error| failed(error.to_string()))?,
            () = self.context.cancel.cancelled() => return Err(Error::cancelled(ACTION)),
            () = self.context.clock.sleep(self.chosen.variant.ready_within()) => {
                return Err(failed("it does not end".to_owned()));
            }
        };
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        if output.status.success() { Ok(printed) } else { Err(failed(output.status.to_string())) }
    }

    fn rendered(&self, command: &[String]) -> Result<Vec<String>> {
        command.iter().map(|word| render(word, &self.values)).collect()
    }

    fn failed(&self, why: &str) -> Error {
        let tail = folders::tail(&self.log, LINES_SHOWN);
        let tail = if tail.is_empty() {
            "its log is empty".to_owned()
        } else {
            format!("its log ends:\n{tail}")
        };
        let error = Error::new(ErrorKind::Unavailable, ACTION, &self.chosen.server.name);
        error.detail(format!("{why}; {tail}"))
    }
}

fn memory_mib(chosen: &Chosen<'_>) -> Option<u64> {
    chosen.server.memory_mib.or(chosen.recipe.memory_mib)
}

/// Makes the whole environment: nothing of the user's reaches a server, and nothing of it the user's folders.
fn environment(
    chosen: &Chosen<'_>,
    folder: &Path,
    values: &Values,
    backing: &Backing,
) -> Result<BTreeMap<OsString, OsString>> {
    let tools = chosen.artefacts.iter().filter_map(|one| one.program.as_ref()?.parent());
    let tools: Vec<PathBuf> = tools.map(Path::to_owned).collect();
    let mut environment: BTreeMap<OsString, OsString> = [
        ("PATH", backing.search_path(&tools)),
        ("HOME", folder.as_os_str().to_owned()),
        ("TMPDIR", folder.join("tmp").into_os_string()),
        ("LANG", "C.UTF-8".into()),
        // What is loaded stays as it was fetched.
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        (MARK, backing.mark(&chosen.server.name).into()),
    ]
    .map(|(name, value)| (name.into(), value))
    .into();
    for (name, template) in &chosen.variant.environment {
        environment.insert(name.into(), render(template, values)?.into());
    }
    Ok(environment)
}

/// Joins a relative path that must not lead out.
fn below(folder: &Path, relative: &str) -> Result<PathBuf> {
    let path = Path::new(relative);
    let is_below = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_below || relative.is_empty() {
        let error = Error::new(ErrorKind::Invalid, "lay out server", relative);
        return Err(error.detail("the path leads out of its folder"));
    }
    Ok(folder.join(path))
}
