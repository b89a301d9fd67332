//! The records of all stacks of this user, and what is done about those whose supervisor is dead.
//!
//! Each stack has a folder here with its record and a lock that its supervisor holds as long as it lives. Working
//! folders are elsewhere: who wipes one does not lose sight of the processes that used it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use model::{Clock, Context, Error, Result};

use crate::folders;
use crate::memory::{self, MemoryLimit};
use crate::place::Place;
use crate::process::stop;
use crate::record::{Record, ServerRecord};

const RECORD: &str = "record.toml";
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// The record of one stack, and the lock of it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The stack's id; its processes bear it.
    pub id: String,
    folder: PathBuf,
    // Held by being open.
    _lock: File,
}

impl Entry {
    /// Makes a new one.
    pub async fn create(place: &Place, context: &Context) -> Result<Self> {
        let _all = lock_all(place, context).await?;
        loop {
            let id = new_id(place, context);
            let folder = place.records().join(&id);
            // What is in it may open a store: it is for its owner alone.
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(folders::error("create record", &folder, error)),
            }
            let path = folder.join("lock");
            let failed = |error| folders::error("lock record", &path, error);
            let lock = File::create(&path).map_err(failed)?;
            lock.lock().map_err(failed)?;
            return Ok(Self { id, folder, _lock: lock });
        }
    }

    /// Takes over one whose supervisor is dead; none while it lives.
    fn take(folder: &Path) -> Option<Self> {
        let id = folder.file_name()?.to_str()?.to_owned();
        let lock = File::create(folder.join("lock")).ok()?;
        match lock.try_lock() {
            Ok(()) => Some(Self { id, folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
        }
    }

    /// Returns what the processes of a server bear.
    pub fn mark(&self, server: &str) -> String {
        mark(&self.id, server)
    }

    /// Writes the record.
    pub fn save(&self, record: &Record) -> Result<()> {
        folders::replace(&self.folder.join(RECORD), &record.text()?)
    }

    /// Removes the record: nothing is left that it is about.
    pub fn remove(self) -> Result<()> {
        folders::remove(&self.folder)
    }
}

/// Makes an id that no other stack of this machine has, also where the random bytes of tests repeat: what bears
/// it is killed one day.
fn new_id(place: &Place, context: &Context) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 16];
    context.entropy.fill(&mut bytes);
    let mut hasher = blake3::Hasher::new_derive_key("lifeboat stack: id of a stack");
    hasher.update(&bytes).update(place.records().as_os_str().as_encoded_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    hasher.update(&context.clock.now().unix_ns.to_le_bytes());
    hasher.finalize().to_hex().chars().take(16).collect()
}

fn mark(id: &str, server: &str) -> String {
    format!("{id}/{server}")
}

/// Ends what crashed supervisors left: processes, control groups, folders. Returns the names of their stacks.
/// Detached ones are left alone.
///
/// # Errors
/// Those of the file system. A stack that cannot be ended is reported as a problem.
pub async fn sweep(place: &Place, context: &Context) -> Result<Vec<String>> {
    let left = {
        let _all = lock_all(place, context).await?;
        let folders = record_folders(place)?;
        folders.iter().filter_map(|folder| Entry::take(folder)).collect::<Vec<_>>()
    };
    let mut names = Vec::new();
    for entry in left {
        let record = read(&entry.folder, &entry.id);
        match record {
            Ok(Some(record)) if record.is_detached => {}
            Ok(Some(record)) => match end(entry, &record, context.clock.as_ref()).await {
                Ok(()) => names.push(record.name),
                Err(error) => context.monitor.problem(&error),
            },
            // It died before it had started anything, or wrote what cannot be read: the mark is left.
            Ok(None) | Err(_) => {
                stop::kill([].into(), &entry.mark(""), context.clock.as_ref()).await?;
                entry.remove()?;
            }
        }
    }
    Ok(names)
}

/// Ends a stack by its record alone.
pub(crate) async fn end(entry: Entry, record: &Record, clock: &dyn Clock) -> Result<()> {
    if record.is_of_this_boot() {
        stop_servers(&entry.id, &record.servers, clock).await?;
        let helpers = record.guard.into_iter().collect();
        stop::kill(helpers, &entry.mark(""), clock).await?;
    }
    if record.is_folder_temporary {
        folders::remove(&record.folder)?;
    }
    entry.remove()
}

/// Takes over a stack that lives without supervisor.
pub(crate) async fn take(id: &str, place: &Place, context: &Context) -> Result<Option<Entry>> {
    let _all = lock_all(place, context).await?;
    Ok(Entry::take(&place.records().join(id)))
}

/// Stops servers, the last wave first, and all that bear their marks.
pub(crate) async fn stop_servers(
    id: &str,
    servers: &[ServerRecord],
    clock: &dyn Clock,
) -> Result<()> {
    let mut waves: BTreeMap<usize, Vec<&ServerRecord>> = BTreeMap::new();
    for server in servers {
        waves.entry(server.wave).or_default().push(server);
    }
    let mut first_error: Option<Error> = None;
    for wave in waves.into_values().rev() {
        let outcomes = join_all(wave.iter().map(|server| async {
            let mark = mark(id, &server.name);
            let within = Duration::from_secs(server.stop_within_s);
            let signal = server.stop_signal.signal();
            stop::stop(server.process, signal, within, &mark, clock).await?;
            if let MemoryLimit::ControlGroup { path } = &server.memory_limit {
                memory::remove(path);
            }
            Ok(())
        }));
        // Those before them are stopped all the same.
        let failed = outcomes.await.into_iter().find_map(Result::err);
        first_error = first_error.or(failed);
    }
    first_error.map_or(Ok(()), Err)
}

/// Lists the records that there are, with their ids.
pub(crate) fn records(place: &Place) -> Result<Vec<(String, Record)>> {
    let mut records = Vec::new();
    for folder in record_folders(place)? {
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One that is being made or removed has none.
        if let Ok(Some(record)) = read(&folder, &id) {
            records.push((id, record));
        }
    }
    records.sort_by_key(|(_, record)| record.started_unix_s);
    Ok(records)
}

fn read(folder: &Path, id: &str) -> Result<Option<Record>> {
    folders::read(&folder.join(RECORD))?.map(|text| Record::parse(&text, id)).transpose()
}

fn record_folders(place: &Place) -> Result<Vec<PathBuf>> {
    let records = place.records();
    match fs::read_dir(&records) {
        Ok(entries) => {
            let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
            Ok(folders.collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(folders::error("list records", &records, error)),
    }
}

/// Locks the list: between making a folder and locking it nobody may look.
async fn lock_all(place: &Place, context: &Context) -> Result<File> {
    const ACTION: &str = "lock records";
    let records = place.records();
    folders::make(&records)?;
    let path = records.join("lock");
    let lock = File::create(&path).map_err(|error| folders::error(ACTION, &path, error))?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => context.check(ACTION)?,
            Err(TryLockError::Error(error)) => return Err(folders::error(ACTION, &path, error)),
        }
        context.clock.sleep(LOCK_EVERY).await;
    }
}
