//! `lifeboat ls`: what a state holds at a path.

use futures::TryStreamExt as _;
use model::Result;
use operations::browse;
use operations::select::ResolvedSystem;
use serde_json::json;

use crate::entries::{line, value};
use crate::exit::Exit;
use crate::names;
use crate::output::List;
use crate::run::Run;

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SITE[/SYSTEM]@WHEN[:PATH]
    #[arg(default_value = "@latest")]
    selector: String,
    /// Show mode, owner, size and time
    #[arg(long, short)]
    long: bool,
    /// Show all that is below
    #[arg(long, short)]
    recursive: bool,
}

impl Args {
    /// Lists.
    ///
    /// # Errors
    /// `NotFound` where nothing stands there; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let resolved = run.resolve(&self.selector, &repository, &settings).await?;
        let systems = resolved.with_path().await?;
        let head = json!({ "site": resolved.site.as_str(), "id": resolved.id, "time": Run::utc(resolved.chosen_at) });
        let mut list = run.output.list("entries", head)?;
        for system in &systems {
            if systems.len() > 1 {
                list.heading(&format!("{}/{}:", resolved.site, system.stream.system))?;
            }
            self.list(system, &mut list, run).await?;
        }
        list.end(&json!({}))?;
        Ok(Exit::Done)
    }

    async fn list(&self, system: &ResolvedSystem, list: &mut List, run: &Run) -> Result<()> {
        let mut listing = browse::list(system, self.recursive).await?;
        let name = system.stream.system.as_str();
        let is_leaf = listing
            .item
            .as_ref()
            .is_some_and(|entry| entry.item.kind != model::ItemKind::Directory);
        if let Some(item) = listing.item.filter(|_| is_leaf) {
            let path = names::path(&item.item.key);
            list.entry(|| line(&path, &item, self.long, &run.zone), || value(name, &item))?;
        }
        while let Some(batch) = listing.entries.try_next().await? {
            run.context.check("list")?;
            for entry in batch {
                let path = names::path(&entry.item.key);
                list.entry(|| line(&path, &entry, self.long, &run.zone), || value(name, &entry))?;
            }
        }
        Ok(())
    }
}
