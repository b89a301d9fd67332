//! A stack as its supervisor has it: started, watched, stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use model::{Context, Error, ErrorKind, Result};

use crate::artefact::{Provided, Provider};
use crate::backing::Backing;
use crate::description::Description;
use crate::folders;
use crate::network::{Egress, Network};
use crate::place::Place;
use crate::process::{ProcessId, stop};
use crate::record::ServerRecord;
use crate::registry;
use crate::server::{Chosen, Maker, choose};
use crate::template::Values;

const ACTION: &str = "start stack";

/// How many lines the end of a log has.
const LAST_WORDS: usize = 12;

/// How a stack is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where its data live; they stay when it stops. None: in a folder that goes with it.
    pub folder: Option<PathBuf>,
    /// The file of its description: by it others find the stack, and no second one is started from it.
    pub origin: Option<PathBuf>,
    /// Whether it is to live on without this process, by [`Stack::detach`].
    pub is_to_be_detached: bool,
}

/// Servers that run. [`Stack::stop`] ends them; dropping it kills them.
#[derive(Debug)]
pub struct Stack {
    backing: Option<Backing>,
    servers: BTreeMap<String, Server>,
}

/// One server that is ready.
#[derive(Debug, Clone)]
pub struct Server {
    record: ServerRecord,
    artefacts: Vec<Provided>,
}

/// What was provided for a server.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The server.
    pub server: String,
    /// The variant that it will be made by.
    pub variant: String,
    /// Better variants, and why not.
    pub passed_over: Vec<String>,
    /// What it takes.
    pub artefacts: Vec<Provided>,
}

/// Provides all that a description takes, and starts nothing.
///
/// # Errors
/// `NotFound` where no variant of a server can be had; `Cancelled`.
pub async fn fetch(
    description: &Description,
    place: &Place,
    context: &Context,
) -> Result<Vec<Fetched>> {
    let chosen = choose_all(description, place, context).await?;
    let fetched = chosen.into_iter().map(|(server, chosen)| Fetched {
        server,
        variant: chosen.variant.name.clone(),
        passed_over: chosen.passed_over,
        artefacts: chosen.artefacts,
    });
    Ok(fetched.collect())
}

async fn choose_all<'d>(
    description: &'d Description,
    place: &Place,
    context: &Context,
) -> Result<BTreeMap<String, Chosen<'d>>> {
    let provider = Provider::new(&description.artefacts, &description.installed, place);
    let mut all = BTreeMap::new();
    for (name, server) in &description.servers {
        all.insert(name.clone(), choose(server, description, &provider, context).await?);
    }
    Ok(all)
}

impl Stack {
    /// Starts what a description says, and comes back when all of it is ready. First ends what crashed
    /// supervisors left.
    ///
    /// # Errors
    /// `NotFound` where no variant of a server can be had; `Conflict` where a port is taken or the description runs
    /// already; `Unavailable` where a server does not become ready: why, and the end of its log; `Unsupported`
    /// where there can be no network of its own; `Cancelled`. Nothing is left backing.
    pub async fn start(
        description: &Description,
        options: &Options,
        place: &Place,
        context: &Context,
    ) -> Result<Self> {
        if description.is_isolated && options.is_to_be_detached {
            let error = Error::new(ErrorKind::Unsupported, ACTION, &description.name);
            return Err(error.detail("in a network of its own it needs its supervisor"));
        }
        registry::sweep(place, context).await?;
        refuse_second(options, place)?;
        let chosen = choose_all(description, place, context).await?;
        let backing = Backing::new(description, options, place, context).await?;
        let mut stack = Self { backing: Some(backing), servers: BTreeMap::new() };
        match stack.start_all(description, &chosen, context).await {
            Ok(()) => Ok(stack),
            Err(error) => {
                if let Err(second) = stack.stop(context).await {
                    context.monitor.problem(&second);
                }
                Err(error)
            }
        }
    }

    async fn start_all(
        &mut self,
        description: &Description,
        chosen: &BTreeMap<String, Chosen<'_>>,
        context: &Context,
    ) -> Result<()> {
        let Some(backing) = self.backing.as_mut() else { return Err(over()) };
        if description.is_isolated {
            backing.network = Some(Network::make(&backing.environment(), context).await?);
        }
        let numbers = backing.reserve_ports(chosen, context)?;
        let mut others = Values::new();
        for (wave, names) in description.waves.iter().enumerate() {
            let backing = &*backing;
            let makes = names.iter().filter_map(|name| {
                let (chosen, ports) = (chosen.get(name)?, numbers.get(name)?);
                let others = &others;
                Some(async move {
                    let maker = Maker::new(chosen, ports, others, backing, context)?;
                    let record = maker.make(ports, wave).await?;
                    Ok(Server { record, artefacts: chosen.artefacts.clone() })
                })
            });
            // All of a wave come to their end, so that none is forgotten half made.
            let made = join_all(makes).await.into_iter().collect::<Result<Vec<Server>>>()?;
            for server in made {
                let name = server.name().to_owned();
                for (property, value) in &server.record.properties {
                    others.insert(format!("{name}.{property}"), value.clone());
                }
                for (port, number) in &server.record.ports {
                    others.insert(format!("{name}.port.{port}"), number.to_string());
                }
                self.servers.insert(name, server);
            }
        }
        Ok(())
    }

    /// Returns a server.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn server(&self, name: &str) -> Result<&Server> {
        let missing = || Error::new(ErrorKind::NotFound, "find server", name);
        self.servers.get(name).ok_or_else(missing)
    }

    /// Returns all servers, by name.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.values()
    }

    /// Returns the working folder.
    pub fn folder(&self) -> &Path {
        self.backing.as_ref().map_or(Path::new(""), Backing::folder)
    }

    /// Returns the names of servers that have ended by themselves.
    pub fn ended(&self) -> Vec<String> {
        let ended = self.servers.values().filter(|server| !server.is_alive());
        ended.map(|server| server.name().to_owned()).collect()
    }

    /// Counts what an isolated stack tried to reach outside; none where it is not isolated.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn egress(&self) -> Result<Option<Egress>> {
        let network = self.backing.as_ref().and_then(|backing| backing.network.as_ref());
        network.map(Network::egress).transpose()
    }

    /// Stops the servers, those that others need last, and removes what was made for them.
    ///
    /// # Errors
    /// `Unavailable` where something cannot be ended; its record stays, and the next start tries again.
    pub async fn stop(mut self, context: &Context) -> Result<()> {
        let Some(mut backing) = self.backing.take() else { return Ok(()) };
        let record = backing.record().clone();
        let outcome =
            registry::stop_servers(&backing.entry.id, &record.servers, context.clock.as_ref())
                .await;
        backing.reap();
        if let Err(error) = outcome {
            // Dropping it kills what is left.
            self.backing = Some(backing);
            return Err(error);
        }
        backing.guard.release();
        backing.network.take();
        let Backing { entry, .. } = backing;
        registry::end(entry, &record, context.clock.as_ref()).await
    }

    /// Lets the servers live on without this process.
    ///
    /// # Errors
    /// `Unsupported` where it was not started for that.
    pub fn detach(mut self) -> Result<()> {
        let Some(mut backing) = self.backing.take() else { return Err(over()) };
        if backing.network.is_some() {
            self.backing = Some(backing);
            return Err(Error::new(ErrorKind::Unsupported, "detach stack", ""));
        }
        backing.record().is_detached = true;
        let record = backing.record().clone();
        if let Err(error) = backing.entry.save(&record) {
            self.backing = Some(backing);
            return Err(error);
        }
        backing.guard.release();
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let Some(mut backing) = self.backing.take() else { return };
        let record = backing.record().clone();
        let leaders: Vec<ProcessId> = record.servers.iter().map(|server| server.process).collect();
        stop::kill_now(&leaders, &backing.entry.mark(""));
        backing.wait_for_children();
        backing.guard.release();
        if record.is_folder_temporary {
            let _ = folders::remove(&record.folder);
        }
        // The record stays where something may be left: the next start looks.
        if leaders.iter().all(|leader| !leader.is_alive()) {
            for server in &record.servers {
                if let crate::MemoryLimit::ControlGroup { path } = &server.memory_limit {
                    crate::memory::remove(path);
                }
            }
            let Backing { entry, .. } = backing;
            let _ = entry.remove();
        }
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Internal, ACTION, "").detail("it is over")
}

fn refuse_second(options: &Options, place: &Place) -> Result<()> {
    let Some(origin) = &options.origin else { return Ok(()) };
    match crate::running::find(place, origin)? {
        Some(other) if other.is_alive() => {
            let error = Error::new(ErrorKind::Conflict, ACTION, origin.display().to_string());
            Err(error.detail("it runs already"))
        }
        _ => Ok(()),
    }
}

impl Server {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns what is on record.
    pub fn record(&self) -> &ServerRecord {
        &self.record
    }

    /// Returns what it was made from.
    pub fn artefacts(&self) -> &[Provided] {
        &self.artefacts
    }

    /// Says whether it can do something: `object-lock`, say. Where it cannot a test of that is *not run*.
    pub fn provides(&self, what: &str) -> bool {
        self.record.provides.iter().any(|one| one == what)
    }

    /// Returns a port.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn port(&self, name: &str) -> Result<u16> {
        let missing =
            || Error::new(ErrorKind::NotFound, "find port", format!("{}.{name}", self.name()));
        self.record.ports.get(name).copied().ok_or_else(missing)
    }

    /// Returns what others need to know: credentials, a bucket.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn property(&self, name: &str) -> Result<&str> {
        let missing =
            || Error::new(ErrorKind::NotFound, "find property", format!("{}.{name}", self.name()));
        self.record.properties.get(name).map(String::as_str).ok_or_else(missing)
    }

    /// Returns its URL.
    ///
    /// # Errors
    /// `NotFound` where its recipe gives it none.
    pub fn url(&self) -> Result<&str> {
        self.property("url")
    }

    /// Returns its log.
    pub fn log(&self) -> &Path {
        &self.record.log
    }

    /// Returns the end of its log.
    pub fn last_words(&self) -> String {
        folders::tail(&self.record.log, LAST_WORDS)
    }

    /// Says whether it runs.
    pub fn is_alive(&self) -> bool {
        self.record.process.is_alive()
    }
}
