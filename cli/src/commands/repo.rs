//! `lifeboat repo`: the repository as a whole.

use model::Result;
use operations::usage::{Usage, usage};
use policies::show_bytes;
use serde_json::json;

use super::{gc, sync};
use crate::exit::Exit;
use crate::run::Run;
use crate::table::{count, counted, lay_out};

/// Arguments of `repo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what it takes, by kind of object
    Usage,
    /// Free what nothing needs any more
    Gc(gc::Args),
    /// Copy it to another store, or both ways; needs no key
    Sync(sync::Args),
}

impl Args {
    /// Does it.
    ///
    /// # Errors
    /// Those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        match &self.action {
            Action::Usage => Self::usage(run).await,
            Action::Gc(args) => Box::pin(args.run(run)).await,
            Action::Sync(args) => Box::pin(args.run(run)).await,
        }
    }

    async fn usage(run: &Run) -> Result<Exit> {
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let usage = usage(&repository).await?;
        let name = repository.store().name();
        let value = || {
            let kinds = usage.kinds.iter().map(
                |kind| json!({ "kind": kind.name, "objects": kind.objects, "bytes": kind.bytes }),
            );
            json!({
                "repository": name,
                "id": repository.id().to_string(),
                "points": usage.points,
                "snapshots": usage.snapshots,
                "stored_bytes": usage.stored_bytes,
                "content_bytes": usage.content_bytes,
                "items": usage.items,
                "kinds": kinds.collect::<Vec<_>>(),
            })
        };
        run.output.result(|| text(name, &usage), value)?;
        Ok(Exit::Done)
    }
}

fn text(name: &str, usage: &Usage) -> String {
    let header = ["KIND", "OBJECTS", "SIZE"].map(str::to_owned).to_vec();
    let kinds = usage.kinds.iter();
    let rows =
        kinds.map(|kind| vec![kind.name.clone(), count(kind.objects), show_bytes(kind.bytes)]);
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    format!(
        "{name}: {}, {}, {} stored\nthe newest state of each system: {}, {}\n{}",
        counted(usage.points, "point"),
        counted(usage.snapshots, "snapshot"),
        show_bytes(usage.stored_bytes),
        counted(usage.items, "item"),
        show_bytes(usage.content_bytes),
        lay_out(&rows, &[1, 2]),
    )
}
