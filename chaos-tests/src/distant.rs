//! Commands as the command line runs them, over a store that is far away: each opens the repository
//! with a key file, has empty caches, and is counted from its first request to its last.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use app::policy_system;
use app::settings::PolicyFile;
use app::systems::{self, Use};
use app::targets::{Directory, usual_owners};
use futures::TryStreamExt as _;
use model::{Clock, Context, Error, ErrorKind, ItemKey, Result, SiteName};
use object_store::ObjectStore;
use operations::browse;
use operations::capture::{self, CaptureOptions};
use operations::restore::{self, Existing, RestoreOptions, RestoreReport, RestoreRules};
use operations::seal::{self, Expected};
use operations::select::{self, Resolved, ResolvedSystem};
use policies::{FilesPolicy, Policy, Selector, When, render};
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::point::{Point, PointDraft};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::StreamName;
use repository::{CreateOptions, OpenOptions, Repository};

use crate::engine::fresh_entry;
use crate::stores::{Interposed, Link, Recorder, Verb};

/// Round trips that listing the newest points may take.
pub const POINTS_MAX: u64 = 5;
/// Round trips that listing a directory may take.
pub const LS_MAX: u64 = 8;
/// Round trips that restoring a small file may take.
pub const RESTORE_ONE_MAX: u64 = 12;
/// Round trips that a backup of what did not change may take.
pub const UNCHANGED_MAX: u64 = 20;

/// The host's name.
const HOST: &str = "host";
/// As often as `lifeboat backup` does it.
const RECHECK_EVERY_CAPTURES: u32 = 256;

/// What a command cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Requests that had to wait for one another.
    pub round_trips: u64,
    /// All requests.
    pub requests: u64,
    /// Bytes of content that came back.
    pub received_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A store behind a line: what it was asked for is counted.
#[derive(Debug)]
pub struct Distant {
    recorder: Arc<Recorder>,
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
}

impl Distant {
    /// Moves a store away, in the time of a clock.
    pub fn new(
        near: &Arc<dyn ObjectStore>,
        clock: &Arc<dyn Clock>,
        (latency, bytes_per_second): (Duration, u64),
    ) -> Self {
        let link = Arc::new(Link::new(clock.clone(), latency, bytes_per_second));
        let recorder = Arc::new(Recorder::new());
        // The recorder stands on this side of the line: what is under way together is one round trip.
        let far: Arc<dyn ObjectStore> = Arc::new(Interposed::new(near.clone(), &link));
        let store = Arc::new(Interposed::new(far, &recorder));
        Self { recorder, store, clock: clock.clone() }
    }

    /// Runs a command and says what it cost.
    ///
    /// # Errors
    /// Those of the command.
    pub async fn measure<T>(
        &self,
        command: impl AsyncFnOnce(&Arc<dyn ObjectStore>) -> Result<T>,
    ) -> Result<(T, Cost)> {
        self.recorder.reset();
        let started = self.clock.elapsed();
        let done = command(&self.store).await?;
        let elapsed = self.clock.elapsed().saturating_sub(started);
        let verbs = [Verb::Put, Verb::Get, Verb::Delete, Verb::List, Verb::Copy];
        let counts = verbs.map(|verb| self.recorder.count_of(verb));
        let cost = Cost {
            round_trips: self.recorder.round_trips(),
            requests: counts.iter().map(|counted| counted.requests).sum(),
            received_bytes: counts.iter().map(|counted| counted.received_bytes).sum(),
            elapsed,
        };
        Ok((done, cost))
    }

    /// Tells the requests of the last command in their order, for whoever asks where its round trips
    /// come from.
    pub fn told(&self) -> String {
        let requests = self.recorder.requests();
        let lines = requests.iter().map(|request| format!("{:?} {}\n", request.verb, request.path));
        lines.collect()
    }
}

/// A host that protects directories.
#[derive(Debug)]
pub struct Client {
    file: PolicyFile,
    key: KeyFile,
    scratch: PathBuf,
    context: Context,
}

impl Client {
    /// Protects these directories of this machine; `scratch` is for caches and restored files.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn new(paths: Vec<PathBuf>, scratch: &Path, context: &Context) -> Result<Self> {
        let files = FilesPolicy {
            name: "files".parse()?,
            paths,
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            skip_caches: true,
            commands: Vec::new(),
        };
        let policy = Policy {
            site: "prod".parse()?,
            memory_bytes: None,
            files: vec![files],
            repositories: Vec::new(),
        };
        let file = PolicyFile { path: "/lifeboat.toml".into(), text: render(&policy), policy };
        let key = KeyFile::generate(context.entropy.as_ref());
        Ok(Self { file, key, scratch: scratch.to_owned(), context: context.clone() })
    }

    /// Returns the site.
    pub fn site(&self) -> &SiteName {
        &self.file.policy.site
    }

    /// Creates the repository.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn init(&self, store: &Arc<dyn ObjectStore>) -> Result<Repository> {
        let options = CreateOptions {
            label: "first".to_owned(),
            cost: PassphraseCost::DEFAULT,
            open: self.open_options()?,
        };
        let store = Store::new(store.clone(), "distant", &self.context);
        let unlock = Unlock::KeyFile(self.key.clone());
        Repository::create(store, &unlock, options, &self.context).await
    }

    /// Opens the repository as a process does that never saw it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(&self, store: &Arc<dyn ObjectStore>) -> Result<Repository> {
        let store = Store::new(store.clone(), "distant", &self.context);
        let unlock = Unlock::KeyFile(self.key.clone());
        Repository::open(store, &unlock, self.open_options()?, &self.context).await
    }

    fn open_options(&self) -> Result<OpenOptions> {
        Ok(OpenOptions {
            cache_folder: Some(self.fresh_folder("cache")?),
            ..OpenOptions::default()
        })
    }

    fn fresh_folder(&self, prefix: &str) -> Result<PathBuf> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(&self.scratch);
        // It goes with the scratch folder that it is in.
        folder.map(tempfile::TempDir::keep).map_err(|error| {
            let scratch = self.scratch.display().to_string();
            Error::new(ErrorKind::Denied, "create directory in", scratch).because(error)
        })
    }

    /// `lifeboat backup`.
    ///
    /// # Errors
    /// Those of the files and of the store.
    pub async fn backup(&self, store: &Arc<dyn ObjectStore>) -> Result<Point> {
        let built = systems::build(&self.file, HOST, Use::Once)?;
        let repository = self.open(store).await?;
        let options = CaptureOptions {
            host: HOST.to_owned(),
            domain: repository::crypto::DEFAULT_DOMAIN.to_owned(),
            recheck_every_captures: RECHECK_EVERY_CAPTURES,
            read_everything: false,
            scratch_folder: self.scratch.join("spill"),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let captured = built.iter().map(async |protected| {
            let stream = StreamName { site: self.site().clone(), system: protected.name.clone() };
            let system = protected.system.as_ref();
            let captured = capture::capture(&repository, &stream, system, &options, &self.context);
            Ok::<_, Error>(Box::pin(captured).await?.snapshot)
        });
        let captured = futures::future::try_join_all(captured).await?;
        self.seal(&repository, captured).await
    }

    /// Seals a point over snapshots of all systems, in a chain of its own.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seal(&self, repository: &Repository, captured: Vec<Snapshot>) -> Result<Point> {
        let expected = systems::expected(&self.file.policy).into_iter();
        let expected: Vec<_> = expected.map(|(system, kind)| Expected { system, kind }).collect();
        let captured = captured.into_iter();
        let captured =
            captured.map(|snapshot| (snapshot.id.stream.system.clone(), Ok(snapshot))).collect();
        let (site, context) = (self.site(), &self.context);
        seal::seal(repository, site, &expected, captured, Duration::ZERO, context).await
    }

    /// `lifeboat points --last N`: how many are listed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn points(&self, store: &Arc<dyn ObjectStore>, count: usize) -> Result<usize> {
        let repository = self.open(store).await?;
        let site = self.site();
        let (surveyed, _) =
            futures::try_join!(repository.survey_points(site, count), repository.marks(site))?;
        match surveyed.unreadable.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(surveyed.points.len()),
        }
    }

    async fn latest(&self, repository: &Repository, path: &Path) -> Result<Resolved> {
        let path = ItemKey::from_components(path.components().filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name.as_encoded_bytes()),
            _ => None,
        }))?;
        let when = When::Latest { back: 0 };
        let selector = Selector { site: Some(self.site().clone()), system: None, when, path };
        select::resolve(repository, &selector, &systems::host_of, &self.context).await
    }

    /// `lifeboat ls @latest:PATH`: how many entries are listed.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub async fn ls(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> Result<usize> {
        let repository = self.open(store).await?;
        let resolved = self.latest(&repository, path).await?;
        let mut entries = 0;
        for system in resolved.with_path().await? {
            let mut listing = browse::list(system, false).await?;
            while let Some(batch) = listing.entries.try_next().await? {
                entries += batch.len();
            }
        }
        Ok(entries)
    }

    /// `lifeboat restore @latest:PATH --to DIR`, into a new directory.
    ///
    /// # Errors
    /// Those of the store and of the directory.
    pub async fn restore(
        &self,
        store: &Arc<dyn ObjectStore>,
        path: &Path,
    ) -> Result<(PathBuf, RestoreReport)> {
        let to = self.fresh_folder("restored")?;
        let repository = self.open(store).await?;
        let resolved = self.latest(&repository, path).await?;
        let own = policy_system::name();
        let systems = resolved.with_path().await?;
        let chosen: Vec<&ResolvedSystem> =
            systems.into_iter().filter(|system| system.stream.system != own).collect();
        let [system] = chosen.as_slice() else {
            return Err(Error::new(ErrorKind::NotFound, "restore", path.display().to_string()));
        };
        let owners = usual_owners();
        let options = RestoreOptions {
            rules: RestoreRules { existing: Existing::Keep, delete_extra: false },
            onto: system.path.clone(),
            include: Vec::new(),
            ignored: owners.ignored(),
            is_verified: true,
        };
        let target = Directory::open(&to, owners)?.target();
        let work = restore::restore(&repository, system, &target, &options, &self.context);
        let report = Box::pin(work).await?;
        Ok((to, report))
    }

    /// Returns the newest snapshot of each system.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn newest(&self, repository: &Repository) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        for (system, _) in systems::expected(&self.file.policy) {
            let stream = StreamName { site: self.site().clone(), system };
            snapshots.extend(repository.newest_snapshots(&stream, 1).await?);
        }
        Ok(snapshots)
    }

    /// Returns the snapshots as if they had been captured this moment: points over them are as far
    /// apart as those of captures are.
    pub fn as_of_now(&self, snapshots: &[Snapshot]) -> Vec<Snapshot> {
        let now = self.context.clock.now();
        let moved =
            |snapshot: &Snapshot| Snapshot { cut_from: now, cut_to: now, ..snapshot.clone() };
        snapshots.iter().map(moved).collect()
    }

    /// Returns what a point over snapshots of this moment says.
    pub fn draft(&self, snapshots: &[Snapshot]) -> PointDraft {
        let entries = self.as_of_now(snapshots).iter().map(fresh_entry).collect();
        PointDraft { entries, ..PointDraft::default() }
    }
}
