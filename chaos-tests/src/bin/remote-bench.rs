//! `remote-bench DATA SCRATCH`: what common commands cost against a distant store, one line of JSON per
//! command; then again among a hundred thousand points. `cargo xtask bench remote` runs it. With a third
//! argument it tells all requests on standard error, for whoever asks where round trips come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use app::ports::{self, SystemClock};
use chaos_tests::distant::{Client, Cost, Distant};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use model::{Clock, Context};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use testkit::RecordingMonitor;

const LATENCY: Duration = Duration::from_millis(50);
const BYTES_PER_SECOND: u64 = 100_000_000;

/// Whole backups, then points in chains of their own, as each run of the command line opens one.
const BACKUPS: usize = 4;
const CHAINS_FIRST: usize = 100;
/// What there is in the end, most of it in one chain.
const CHAINS: usize = 1_000;
const POINTS: usize = 100_000;
const SEALED_AT_ONCE: usize = 16;

const LISTED: usize = 100;
const SMALL_BYTES: std::ops::RangeInclusive<u64> = 1..=64 << 10;

/// What the commands are about.
struct Bench {
    near: Arc<dyn ObjectStore>,
    distant: Distant,
    client: Client,
    file: PathBuf,
    context: Context,
    tells_requests: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (data, scratch) = arguments.next().zip(arguments.next()).context("DATA SCRATCH")?;
    let tells_requests = arguments.next().is_some();
    let data = std::fs::canonicalize(data).context("DATA")?;
    let (objects, caches) = (scratch.join("objects"), scratch.join("caches"));
    for folder in [&objects, &caches] {
        std::fs::create_dir_all(folder)?;
    }
    let near: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(&objects)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let context = ports::context(Arc::new(RecordingMonitor::new()));
    let bench = Bench {
        distant: Distant::new(&near, &clock, (LATENCY, BYTES_PER_SECOND)),
        client: Client::new(vec![data.clone()], &caches, &context)?,
        file: small_file(&data)?,
        near,
        context,
        tells_requests,
    };
    bench.client.init(&bench.near).await?;
    for _ in 0..BACKUPS {
        Box::pin(bench.client.backup(&bench.near)).await?;
    }
    bench.seal_chains(CHAINS_FIRST - BACKUPS).await?;
    bench.run(["points", "ls", "restore_one", "unchanged"]).await?;
    // The backup that was measured made one, the long one is another.
    bench.seal_chains(CHAINS - CHAINS_FIRST - 2).await?;
    bench.seal_long_chain(POINTS - (CHAINS - 1)).await?;
    bench.run(["points_100k", "ls_100k", "restore_100k", "unchanged_100k"]).await
}

impl Bench {
    async fn seal_chains(&self, count: usize) -> Result<()> {
        let repository = self.client.open(&self.near).await?;
        let snapshots = self.client.newest(&repository).await?;
        let sealed = stream::iter(0..count)
            .map(|_| self.client.seal(&repository, self.client.as_of_now(&snapshots)))
            .buffer_unordered(SEALED_AT_ONCE);
        sealed.try_for_each(|_| std::future::ready(Ok(()))).await?;
        Ok(())
    }

    async fn seal_long_chain(&self, count: usize) -> Result<()> {
        let repository = self.client.open(&self.near).await?;
        let snapshots = self.client.newest(&repository).await?;
        let sealer = repository.point_sealer(self.client.site());
        for _ in 0..count {
            sealer.seal(self.client.draft(&snapshots), &self.context).await?;
        }
        Ok(())
    }

    /// Runs each command once.
    async fn run(&self, [points, ls, restore, unchanged]: [&str; 4]) -> Result<()> {
        let (client, distant, file) = (&self.client, &self.distant, &self.file);
        let (listed, cost) =
            distant.measure(async |store| client.points(store, LISTED).await).await?;
        ensure!(listed == LISTED, "{listed} points are listed");
        self.tell(points, cost);
        let folder = file.parent().context("a file is in a folder")?;
        let (entries, cost) = distant.measure(async |store| client.ls(store, folder).await).await?;
        let expected = std::fs::read_dir(folder)?.count();
        ensure!(entries == expected, "{entries} entries of {expected}");
        self.tell(ls, cost);
        let restored = distant.measure(async |store| client.restore(store, file).await);
        let ((to, report), cost) = Box::pin(restored).await?;
        ensure!(report.is_proven(), "not proven: {report:?}");
        let below = file.strip_prefix("/")?;
        ensure!(std::fs::read(to.join(below))? == std::fs::read(file)?, "other bytes");
        self.tell(restore, cost);
        let backup = distant.measure(async |store| client.backup(store).await);
        let (point, cost) = Box::pin(backup).await?;
        ensure!(point.is_complete(), "not complete: {:?}", point.lacks);
        self.tell(unchanged, cost);
        Ok(())
    }

    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what is asked for")]
    fn tell(&self, name: &str, cost: Cost) {
        let line = serde_json::json!({
            "name": name,
            "round_trips": cost.round_trips,
            "requests": cost.requests,
            "received_bytes": cost.received_bytes,
            "seconds": cost.elapsed.as_secs_f64(),
        });
        println!("{line}");
        if self.tells_requests {
            eprintln!("{name}\n{}", self.distant.told());
        }
    }
}

/// Chooses a small file that is neither among the first nor among the last.
fn small_file(data: &Path) -> Result<PathBuf> {
    let mut small = Vec::new();
    let mut pending = vec![data.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.is_file() && SMALL_BYTES.contains(&metadata.len()) {
                small.push(entry.path());
            }
        }
    }
    small.sort();
    let middle = small.len() / 2;
    small.into_iter().nth(middle).context("DATA holds no small file")
}
