//! The process that the kill harness kills: one restore of the newest snapshot into a directory.
//!
//! `scripted-restore STORE HOST SYSTEM TARGET [--kill-at N --moment before|within|after]`; the
//! repository opens with the key file that follows from seed 1.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaos_tests::engine::{resolved, restore_state};
use chaos_tests::restoring::{KillingTarget, Part};
use model::{ItemKey, Target};
use object_store::local::LocalFileSystem;
use repository::crypto::{KeyFile, Unlock};
use repository::store::Store;
use repository::{OpenOptions, Repository};
use systems::files::target::{DirectoryTarget, TargetOptions};
use testkit::SeededEntropy;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let [_, store, host, stream, target, kill @ ..] = words.as_slice() else {
        bail!("usage: scripted-restore STORE HOST SYSTEM TARGET [--kill-at N --moment MOMENT]");
    };
    let (nth, part) = match kill {
        [] => (0, Part::Before),
        ["--kill-at", nth, "--moment", "before"] => (nth.parse()?, Part::Before),
        ["--kill-at", nth, "--moment", "within"] => (nth.parse()?, Part::Within),
        ["--kill-at", nth, "--moment", "after"] => (nth.parse()?, Part::After),
        _ => bail!("--kill-at N --moment before|within|after"),
    };
    let (context, _) = testkit::context(u64::from(std::process::id()));
    let local = LocalFileSystem::new_with_prefix(store)?;
    let store = Store::new(Arc::new(local), "scripted", &context);
    let unlock = Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(1)));
    let repository = Repository::open(store, &unlock, OpenOptions::default(), &context).await?;
    let newest = repository.newest_snapshots(&stream.parse()?, 1).await?;
    let system = resolved(&repository, newest.first().context("no snapshot")?, Some(host))?;
    let directory = DirectoryTarget::open(Path::new(target), TargetOptions::default())?;
    let directory: Arc<dyn Target> = Arc::new(KillingTarget::new(directory, nth, part));
    Box::pin(restore_state(&repository, &system, (&directory, ItemKey::root()), &context)).await?;
    Ok(())
}
