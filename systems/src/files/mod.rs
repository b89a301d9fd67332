//! Directories of a host with all their metadata, and the outputs of read-only commands. What restores
//! into a directory is [`target`].
//!
//! Keys are the host followed by the names of the absolute path. A cut is a walk, always in full:
//! what is unchanged is recognised by its [`model::Version`]. A follower is told by the kernel what
//! changes and walks everything now and then, so that a missed event is found. See
//! `docs/systems/files.md`.

mod attributes;
mod commands;
mod content;
mod cut;
mod directory;
mod extents;
mod follow;
mod inspect;
mod known;
mod links;
mod memory;
mod names;
mod position;
mod reach;
mod roots;
mod selection;
mod source;
pub mod target;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use model::{
    Attributes, ContentClass, Context, Cut, Epoch, Error, ErrorKind, Follower, Host, Item, ItemKey,
    ItemKind, LogPayload, Position, Replay, Result, System, SystemFacts,
};

pub use commands::CommandItem;
use content::{Contents, Outputs};
use cut::FilesCut;
use follow::FilesFollower;
use memory::Memory;
use position::Line;
use reach::Reach;
use roots::{Roots, Rules};
use selection::Selection;
use source::Source;

/// How many files may be read at once.
const READ_CONCURRENCY: usize = 16;

/// What is captured of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOptions {
    /// The host's name: the first component of every key.
    pub host: String,
    /// What is protected: absolute paths of directories and files, without links on the way.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is captured; nothing given is everything. They choose among files; directories
    /// are captured anyway.
    pub include: Vec<String>,
    /// Patterns of what is left out, with all below it. A protected path itself is never left out.
    pub exclude: Vec<String>,
    /// Whether the file system of a protected path is not left.
    pub one_file_system: bool,
    /// Whether of a directory that is marked as a cache only the mark is captured.
    pub skip_caches: bool,
    /// Commands whose output is captured.
    pub commands: Vec<CommandItem>,
    /// How changes are followed.
    pub follow: FollowOptions,
}

/// How changes are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowOptions {
    /// How long changes are gathered after the first of them.
    pub debounce: Duration,
    /// How often everything is walked, so that a missed change is found.
    pub full_walk_every: Duration,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self { debounce: Duration::from_millis(500), full_walk_every: Duration::from_secs(600) }
    }
}

/// The files of a host.
#[derive(Debug)]
pub struct Files {
    source: Arc<Source>,
    commands: Vec<CommandItem>,
    follow: FollowOptions,
    /// None where there is no log.
    memory: Option<Arc<Memory>>,
}

impl Files {
    /// Checks options. Whether the paths exist is found out by each cut.
    ///
    /// # Errors
    /// `Invalid` where an option makes no sense.
    pub fn new(options: FilesOptions) -> Result<Self> {
        let refuse = |what: &str, why: &str| {
            Error::new(ErrorKind::Invalid, "configure files", what).detail(why)
        };
        if matches!(&*options.host, "." | "..") || options.host.contains('/') {
            return Err(refuse(&options.host, "no name of a host"));
        }
        let host = ItemKey::root().child(options.host.as_bytes())?;
        if options.paths.is_empty() && options.commands.is_empty() {
            return Err(refuse(&options.host, "nothing is protected"));
        }
        for (index, command) in options.commands.iter().enumerate() {
            command.check(options.commands.split_at(index).0)?;
        }
        if options.follow.full_walk_every.is_zero() {
            return Err(refuse("full_walk_every", "zero"));
        }
        let rules = Rules {
            selection: Selection::new(&options.include, &options.exclude)?,
            one_file_system: options.one_file_system,
            skip_caches: options.skip_caches,
        };
        let (roots, reach) = (Roots::new(&options.paths)?, Reach::new()?);
        Ok(Self {
            source: Arc::new(Source { host, roots, rules, reach }),
            commands: options.commands,
            follow: options.follow,
            memory: Some(Arc::default()),
        })
    }

    /// Gives up following. A cut then leaves nothing in memory, where otherwise each leaves about
    /// 300 bytes per item, for a follower to begin with.
    #[must_use]
    pub fn without_log(self) -> Self {
        Self { memory: None, ..self }
    }
}

#[async_trait]
impl System for Files {
    fn facts(&self) -> SystemFacts {
        SystemFacts {
            kind: "files",
            host: Host::Bound,
            content_class: ContentClass::General,
            read_concurrency: READ_CONCURRENCY,
            log: self.memory.as_ref().map(|_| LogPayload::Changes),
            extent_epoch: Epoch::default(),
        }
    }

    async fn cut(&self, _since: Option<&Position>, context: &Context) -> Result<Box<dyn Cut>> {
        let links = self.source.check_paths()?;
        self.source.warn_of_links(&links, context.monitor.as_ref());
        let host = &self.source.host;
        let outputs = commands::run_all(&self.commands, host, context).await?;
        let command_items = commands::items_of(&outputs, host, !self.commands.is_empty())?;
        let started_at = context.clock.now();
        let contents = Contents::new(Arc::clone(&self.source), Arc::new(outputs), context);
        Ok(Box::new(FilesCut {
            position: Line::begin(host, context).next(started_at),
            started_at,
            contents: Arc::new(contents),
            command_items,
            memory: self.memory.clone(),
            tally: Arc::new(Mutex::default()),
        }))
    }

    async fn follow(&self, from: &Position, context: &Context) -> Result<Box<dyn Follower>> {
        let memory = self.memory.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "follow files", self.source.host.display())
        })?;
        let outputs = Arc::new(Outputs::new());
        let contents = Arc::new(Contents::new(Arc::clone(&self.source), outputs, context));
        let begin = memory.take(from);
        let follower =
            FilesFollower::new(contents, Arc::clone(memory), begin, self.follow.clone(), context)?;
        Ok(Box::new(follower))
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        None
    }
}

/// Returns a directory of which nothing is known but that it is there.
fn directory_without_attributes(key: ItemKey) -> Item {
    Item {
        key,
        kind: ItemKind::Directory,
        attributes: Attributes::default(),
        version: None,
        extents: Vec::new(),
    }
}
