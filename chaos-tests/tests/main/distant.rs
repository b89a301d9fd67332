//! How many round trips common commands take: what has crept in between is found here, and measured by
//! `cargo xtask bench remote`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use app::ports::{self, SystemClock};
use chaos_tests::distant::{Client, Distant, LS_MAX, POINTS_MAX, RESTORE_ONE_MAX, UNCHANGED_MAX};
use model::{Clock, Result};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::RecordingMonitor;

/// Long enough that what is asked for together is under way together, on a busy machine too.
const LATENCY: Duration = Duration::from_millis(5);
/// A machine that is busier than that counts too many round trips, never too few.
const TRIES: usize = 5;

/// Makes folders of small files, deep enough for a tree of several levels.
fn write_files(folder: &Path) -> std::io::Result<()> {
    for outer in 0..8 {
        for inner in 0..8 {
            let folder = folder.join(format!("{outer}/{inner}"));
            std::fs::create_dir_all(&folder)?;
            for file in 0..24 {
                let text = format!("{outer} {inner} {file}\n").repeat(1 + 40 * file);
                std::fs::write(folder.join(format!("{file}.txt")), text)?;
            }
        }
    }
    Ok(())
}

/// Runs a command until it stays within its limit.
async fn check<T>(
    (distant, name, max): (&Distant, &str, u64),
    command: impl AsyncFn(&Arc<dyn ObjectStore>) -> Result<T>,
) -> T {
    let mut told = String::new();
    for _ in 0..TRIES {
        let measured = distant.measure(async |store| command(store).await);
        let (done, cost) = Box::pin(measured).await.expect("command");
        if cost.round_trips <= max {
            return done;
        }
        told =
            format!("{name} took {} round trips of {max}:\n{}", cost.round_trips, distant.told());
    }
    panic!("{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn common_commands_take_few_round_trips() {
    let (data, scratch) =
        (tempfile::tempdir().expect("data"), tempfile::tempdir().expect("scratch"));
    write_files(data.path()).expect("files");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let context = ports::context(Arc::new(RecordingMonitor::new()));
    let near: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let distant = Distant::new(&near, &clock, (LATENCY, 100_000_000));
    let root = std::fs::canonicalize(data.path()).expect("root");
    let client = Client::new(vec![root.clone()], scratch.path(), &context).expect("client");
    let repository = client.init(&near).await.expect("init");
    for _ in 0..2 {
        let point = Box::pin(client.backup(&near)).await.expect("backup");
        assert!(point.is_complete(), "{:?}", point.lacks);
    }
    let snapshots = client.newest(&repository).await.expect("snapshots");
    for _ in 0..38 {
        client.seal(&repository, client.as_of_now(&snapshots)).await.expect("seal");
    }
    let sealer = repository.point_sealer(client.site());
    for _ in 0..20 {
        sealer.seal(client.draft(&snapshots), &context).await.expect("seal");
    }

    let points = async |store: &Arc<dyn ObjectStore>| client.points(store, 100).await;
    assert_eq!(check((&distant, "points", POINTS_MAX), points).await, 60);
    let folder = root.join("3/4");
    let ls = async |store: &Arc<dyn ObjectStore>| client.ls(store, &folder).await;
    assert_eq!(check((&distant, "ls", LS_MAX), ls).await, 24);
    let file = folder.join("7.txt");
    let restore = async |store: &Arc<dyn ObjectStore>| client.restore(store, &file).await;
    let (to, report) = check((&distant, "restore", RESTORE_ONE_MAX), restore).await;
    assert!(report.is_proven(), "{report:?}");
    let restored = std::fs::read(to.join(file.strip_prefix("/").expect("absolute")));
    assert_eq!(restored.expect("restored"), std::fs::read(&file).expect("file"));
    let backup = async |store: &Arc<dyn ObjectStore>| client.backup(store).await;
    let point = check((&distant, "unchanged", UNCHANGED_MAX), backup).await;
    assert!(point.is_complete(), "{:?}", point.lacks);
    // What is read again now and then lies where the parent says: the index may be large.
    let told = distant.told();
    assert!(!told.contains(" index/"), "the index was opened:\n{told}");
}
