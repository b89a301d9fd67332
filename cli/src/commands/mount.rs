//! `lifeboat mount`: a state as a read-only file system.

use std::path::PathBuf;

use app::mounts::{self, MountRules};
use model::Result;
use operations::mount::{MountOptions, Mounted};
use serde_json::json;

use super::restore::chosen;
use crate::exit::Exit;
use crate::run::Run;

/// Arguments of `mount`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SITE[/SYSTEM]@WHEN[:PATH]
    selector: String,
    /// The directory that it appears on; several systems get a folder each
    directory: PathBuf,
    /// Let others look into it too, each as far as modes and access lists let him
    #[arg(long)]
    allow_other: bool,
    /// Mount on a directory that is not empty, and hide what is in it
    #[arg(long)]
    non_empty: bool,
}

impl Args {
    /// Mounts, and serves until an interrupt, which unmounts and is its good end, or until somebody else
    /// unmounts.
    ///
    /// # Errors
    /// As [`mounts::check`] and [`mounts::mount`]; `NotFound` where nothing matches; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let directory = run.environment.absolute(&self.directory);
        let rules = MountRules { is_for_all: self.allow_other, may_hide: self.non_empty };
        mounts::check(&directory, rules)?;
        let repository = run.open(&settings).await?;
        let resolved = run.resolve(&self.selector, &repository, &settings).await?;
        let chosen = chosen(&resolved).await?;
        let options = MountOptions::new(mounts::owner());
        let mounted = Mounted::open(&repository, &chosen, &options, &run.context).await?;
        let mount = mounts::mount(mounted, &directory, rules).await?;
        let shown = directory.display().to_string();
        let text = || format!("mounted on {}\n", crate::names::line(&shown));
        let value = || {
            let systems = chosen.iter().map(|one| one.stream.system.to_string());
            json!({
                "site": resolved.site.as_str(),
                "id": resolved.id,
                "time": Run::utc(resolved.chosen_at),
                "directory": shown,
                "systems": systems.collect::<Vec<_>>(),
            })
        };
        let told = run.output.result(text, value);
        if told.is_err() {
            // Nobody is there to use it.
            run.context.cancel.cancel();
        } else {
            run.progress.note("an interrupt unmounts it, as does `umount` or `fusermount3 -u`");
        }
        mount.serve(&run.context).await?;
        told?;
        Ok(Exit::Done)
    }
}
