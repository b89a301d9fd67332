//! What stands behind a stack that runs: its record, its processes, its ports.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{Context, Error, ErrorKind, Result};

use crate::description::Description;
use crate::folders;
use crate::network::{Dialer, Network};
use crate::place::Place;
use crate::ports::Port;
use crate::process::guard::Guard;
use crate::process::{MARK, ProcessId, boot_id};
use crate::record::{Record, ServerRecord};
use crate::registry::Entry;
use crate::server::Chosen;
use crate::supervisor::Options;

/// What stands behind a stack.
#[derive(Debug)]
pub struct Backing {
    pub entry: Entry,
    place: Place,
    folder: PathBuf,
    record: Mutex<Record>,
    children: Mutex<Vec<Child>>,
    ports: Mutex<BTreeMap<String, Vec<Port>>>,
    pub guard: Guard,
    pub network: Option<Network>,
}

impl Backing {
    pub async fn new(
        description: &Description,
        options: &Options,
        place: &Place,
        context: &Context,
    ) -> Result<Self> {
        let entry = Entry::create(place, context).await?;
        let folder = options.folder.clone().unwrap_or_else(|| place.works().join(&entry.id));
        let guard = Guard::start(&BTreeMap::from([("PATH".into(), place.search_path(&[]))]))?;
        let record = Record {
            name: description.name.clone(),
            origin: options.origin.clone(),
            boot_id: boot_id(),
            started_unix_s: context.clock.now().unix_ns / 1_000_000_000,
            supervisor: ProcessId::of(std::process::id()),
            is_detached: false,
            is_isolated: description.is_isolated,
            guard: guard.id(),
            folder: folder.clone(),
            is_folder_temporary: options.folder.is_none(),
            servers: Vec::new(),
        };
        entry.save(&record)?;
        folders::make(&folder.join("log"))?;
        Ok(Self {
            entry,
            place: place.clone(),
            folder,
            record: Mutex::new(record),
            children: Mutex::default(),
            ports: Mutex::default(),
            guard,
            network: None,
        })
    }

    /// Takes all ports at once, so that each server can be told those of the others.
    pub fn reserve_ports(
        &mut self,
        chosen: &BTreeMap<String, Chosen<'_>>,
        context: &Context,
    ) -> Result<BTreeMap<String, BTreeMap<String, u16>>> {
        let mut numbers: BTreeMap<String, BTreeMap<String, u16>> = BTreeMap::new();
        let mut all = BTreeMap::new();
        for (server, chosen) in chosen {
            let own = numbers.entry(server.clone()).or_default();
            let mut ports = Vec::new();
            for name in &chosen.recipe.ports {
                let wanted = chosen.server.ports.get(name).copied();
                let mut port = Port::reserve(wanted, context.entropy.as_ref())?;
                own.insert(name.clone(), port.number);
                if let (Some(network), Some(listener)) = (&mut self.network, port.release()) {
                    network.forward(listener, port.number)?;
                } else if self.network.is_some() {
                    let error =
                        Error::new(ErrorKind::Internal, "forward port", port.number.to_string());
                    return Err(error.detail("nothing listens on it"));
                }
                ports.push(port);
            }
            all.insert(server.clone(), ports);
        }
        *lock(&self.ports) = all;
        Ok(numbers)
    }

    /// Returns the working folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what the processes of a server bear.
    pub fn mark(&self, server: &str) -> String {
        self.entry.mark(server)
    }

    /// Returns where programs are looked for, some folders first.
    pub fn search_path(&self, first: &[PathBuf]) -> OsString {
        self.place.search_path(first)
    }

    /// Returns the environment of helpers.
    pub fn environment(&self) -> BTreeMap<OsString, OsString> {
        [("PATH", self.search_path(&[])), (MARK, self.mark("network").into())]
            .map(|(name, value)| (name.into(), value))
            .into()
    }

    /// Returns the process whose network the servers enter.
    pub fn network(&self) -> Option<ProcessId> {
        self.network.as_ref().map(Network::holder)
    }

    /// Returns what opens connections to the servers.
    pub fn dialer(&self) -> Dialer {
        self.network.as_ref().map_or(Dialer::Here, Network::dialer)
    }

    /// Puts a server on record and under guard, and lets it have its ports.
    pub fn begin(&self, server: &ServerRecord) -> Result<()> {
        let mut record = self.record();
        record.servers.push(server.clone());
        self.entry.save(&record)?;
        drop(record);
        self.guard.watch(server.process);
        for port in lock(&self.ports).get_mut(&server.name).into_iter().flatten() {
            port.release();
        }
        Ok(())
    }

    /// Changes what is on record about a server.
    pub fn update(&self, server: &ServerRecord) -> Result<()> {
        let mut record = self.record();
        if let Some(old) = record.servers.iter_mut().find(|one| one.name == server.name) {
            server.clone_into(old);
        }
        self.entry.save(&record)
    }

    /// Keeps a process that has begun, so that its end can be asked for.
    pub fn own(&self, child: Child) {
        lock(&self.children).push(child);
    }

    /// Tells how a process ended, as the end of a sentence.
    pub fn exit_of(&self, process: ProcessId) -> String {
        let mut children = lock(&self.children);
        let child = children.iter_mut().find(|child| child.id() == process.pid);
        let status = child.and_then(|child| child.try_wait().ok().flatten());
        status.map(|status| format!(" ({status})")).unwrap_or_default()
    }

    /// Returns the record.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// Takes note of children that have ended, so that the kernel can forget them.
    pub fn reap(&self) {
        lock(&self.children).retain_mut(|child| child.try_wait().ok().flatten().is_none());
    }

    /// Waits for children that were killed.
    pub fn wait_for_children(&self) {
        for mut child in lock(&self.children).drain(..) {
            let _ = child.wait();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
