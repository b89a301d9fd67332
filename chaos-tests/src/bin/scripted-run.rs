//! The process that the kill harness kills: one scripted run on a local directory.
//!
//! `scripted-run DIRECTORY short|long [--kill-at N --moment before|after]`; what is acknowledged to it
//! goes, line by line, to `DIRECTORY/acknowledged`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaos_tests::script::{self, Amount};
use chaos_tests::stores::{Interposed, Killer, Moment};
use object_store::local::LocalFileSystem;

struct Arguments {
    directory: String,
    amount: Amount,
    killer: Killer,
}

fn parse(arguments: &[String]) -> anyhow::Result<Arguments> {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (directory, amount, kill) = match words.as_slice() {
        [_, directory, "short", kill @ ..] => (directory, Amount::SHORT, kill),
        [_, directory, "long", kill @ ..] => (directory, Amount::LONG, kill),
        _ => bail!("usage: scripted-run DIRECTORY short|long [--kill-at N --moment before|after]"),
    };
    let killer = match kill {
        [] => Killer::new(0, Moment::Before),
        ["--kill-at", nth, "--moment", "before"] => Killer::new(nth.parse()?, Moment::Before),
        ["--kill-at", nth, "--moment", "after"] => Killer::new(nth.parse()?, Moment::After),
        _ => bail!("--kill-at N --moment before|after"),
    };
    Ok(Arguments { directory: (*directory).to_owned(), amount, killer })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { directory, amount, killer } = parse(&std::env::args().collect::<Vec<_>>())?;
    let directory = Path::new(&directory);
    let store = directory.join("store");
    std::fs::create_dir_all(&store).context("make the store's directory")?;
    // A killed process takes nothing from the page cache: syncing is what power cuts test.
    let local = LocalFileSystem::new_with_prefix(&store)?;
    let store = Interposed::new(Arc::new(local), &Arc::new(killer));
    let mut acknowledged: File =
        OpenOptions::new().create(true).append(true).open(directory.join("acknowledged"))?;
    let mut written = Ok(());
    let (context, _) = testkit::context(u64::from(std::process::id()));
    script::run(Arc::new(store), amount, 0, &context, |fact| {
        // One write each: a killed process leaves whole lines.
        let line = format!("{}\n", fact.to_line());
        if written.is_ok() {
            written = acknowledged.write_all(line.as_bytes());
        }
    })
    .await?;
    written.context("write down what was acknowledged")
}
