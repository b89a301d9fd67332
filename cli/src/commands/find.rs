//! `lifeboat find`: items of a state by name, kind, size or time.

use clap::ValueEnum;
use futures::TryStreamExt as _;
use model::{ErrorKind, ItemKind, Result, Timestamp};
use operations::browse::{self, Filter, Glob};
use policies::{parse_bytes, parse_time};
use serde_json::json;

use crate::entries::{line, value};
use crate::exit::Exit;
use crate::names;
use crate::run::Run;

/// Arguments of `find`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SITE[/SYSTEM]@WHEN[:PATH]
    selector: String,
    /// A glob: compared with names, or with whole paths where it holds a slash [default: everything]
    pattern: Option<String>,
    /// Only items of this kind
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// Only what is at least so long, as in 1MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    larger: Option<u64>,
    /// Only what is at most so long
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    smaller: Option<u64>,
    /// Only what was modified at or after a time, as in "2 days ago"
    #[arg(long, value_name = "TIME")]
    newer: Option<String>,
    /// Only what was modified at or before a time
    #[arg(long, value_name = "TIME")]
    older: Option<String>,
    /// Show mode, owner, size and time
    #[arg(long, short)]
    long: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Files, by any of their names
    #[value(name = "f")]
    File,
    /// Directories
    #[value(name = "d")]
    Directory,
    /// Symbolic links
    #[value(name = "l")]
    Symlink,
    /// Named pipes
    #[value(name = "p")]
    Fifo,
}

impl Args {
    /// Finds.
    ///
    /// # Errors
    /// `Invalid` for a pattern or a time that is none; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let filter = self.filter(run)?;
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let resolved = run.resolve(&self.selector, &repository, &settings).await?;
        let head = json!({ "site": resolved.site.as_str(), "id": resolved.id, "time": Run::utc(resolved.chosen_at) });
        let systems = match resolved.with_path().await {
            // A path that does not exist holds nothing that could be found.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            systems => systems?,
        };
        let mut list = run.output.list("entries", head)?;
        let mut found = 0_u64;
        for system in systems {
            let name = system.stream.system.as_str();
            let mut batches = browse::find(system, &filter)?;
            while let Some(batch) = batches.try_next().await? {
                run.context.check("find items")?;
                for entry in batch {
                    found += 1;
                    let path = names::path(&entry.item.key);
                    list.entry(
                        || line(&path, &entry, self.long, &run.zone),
                        || value(name, &entry),
                    )?;
                }
            }
        }
        list.end(&json!({ "found": found }))?;
        Ok(if found == 0 { Exit::NoMatch } else { Exit::Done })
    }

    fn filter(&self, run: &Run) -> Result<Filter> {
        let usual = Filter::default();
        let (mut name, mut path) = (None, None);
        if let Some(pattern) = &self.pattern {
            let glob = Some(Glob::new(pattern)?);
            if pattern.contains('/') { path = glob } else { name = glob }
        }
        let time = |text: &Option<String>, otherwise: Timestamp| match text {
            Some(text) => parse_time(text, run.now(), &run.zone),
            None => Ok(otherwise),
        };
        let (earliest, latest) = (*usual.modified.start(), *usual.modified.end());
        Ok(Filter {
            name,
            path,
            kinds: match self.kind {
                None => Vec::new(),
                Some(Kind::File) => vec![ItemKind::File, ItemKind::Hardlink, ItemKind::Node],
                Some(Kind::Directory) => vec![ItemKind::Directory],
                Some(Kind::Symlink) => vec![ItemKind::Symlink],
                Some(Kind::Fifo) => vec![ItemKind::Fifo],
            },
            size_bytes: self.larger.unwrap_or(0)..=self.smaller.unwrap_or(u64::MAX),
            modified: time(&self.newer, earliest)?..=time(&self.older, latest)?,
        })
    }
}
