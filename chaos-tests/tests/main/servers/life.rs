//! What a repository goes through from its creation on, in a real store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chaos_tests::distant::Client;
use chaos_tests::stores::check_store;
use chaos_tests::trees::difference;
use model::{Context, ErrorKind, ItemKey};
use object_store::ObjectStore;
use operations::forget::forget;
use policies::{Selector, When};
use repository::Repository;
use repository::gc::{GcOptions, Report, collect};
use repository::store::{Created, Store, StoreKind};
use repository::verify::{Depth, VerifyOptions, verify};
use tempfile::TempDir;
use testkit::real_context;

use super::super::files::seen;
use super::{azure, azure_store, property, s3, s3_store, s3_store_of_root, s3_with};

/// So many runs find all that is dead.
const RUNS_MAX: usize = 4;

/// A host with files to protect and a key.
pub struct Host {
    data: TempDir,
    _scratch: TempDir,
    pub root: PathBuf,
    pub client: Client,
}

impl Host {
    pub fn new(context: &Context) -> Self {
        let (data, scratch) =
            (tempfile::tempdir().expect("data"), tempfile::tempdir().expect("scratch"));
        let root = std::fs::canonicalize(data.path()).expect("root");
        std::fs::create_dir(root.join("folder")).expect("folder");
        for number in 0..40 {
            let text = format!("{number}\n").repeat(100 * number);
            std::fs::write(root.join(format!("folder/{number}.txt")), text).expect("write");
        }
        let client = Client::new(vec![root.clone()], scratch.path(), context).expect("client");
        let host = Self { data, _scratch: scratch, root, client };
        host.write("large", 1, 3_000_000);
        host
    }

    /// Writes a file of random content.
    pub fn write(&self, name: &str, seed: u64, bytes: usize) {
        std::fs::write(self.data.path().join(name), testkit::random_bytes(seed, bytes))
            .expect("write");
    }

    pub async fn backup(&self, objects: &Arc<dyn ObjectStore>) {
        let point = Box::pin(self.client.backup(objects)).await.expect("backup");
        assert!(point.is_complete(), "{:?}", point.lacks);
    }

    /// Restores the newest point and compares it with what is there now.
    pub async fn check_restore(&self, objects: &Arc<dyn ObjectStore>) {
        let restored = Box::pin(self.client.restore(objects, &self.root)).await;
        let (to, report) = restored.expect("restore");
        assert!(report.is_proven(), "{report:?}");
        let below: &Path = self.root.strip_prefix("/").expect("absolute");
        assert_eq!(difference(&seen(&to.join(below)), &seen(&self.root)), None);
    }

    /// Reads every byte that is stored.
    pub async fn check_deep(&self, objects: &Arc<dyn ObjectStore>, context: &Context) {
        let repository = self.client.open(objects).await.expect("open");
        let options = VerifyOptions { depth: Depth::Deep, named: 3 };
        let report = Box::pin(verify(&repository, &options, context)).await.expect("verify");
        assert_eq!(report.damage, []);
    }

    pub async fn forget(&self, repository: &Repository, back: u64, context: &Context) {
        let when = When::Latest { back };
        let site = Some(self.client.site().clone());
        let selector = Selector { site, system: None, when, path: ItemKey::root() };
        forget(repository, &selector, context).await.expect("forget");
    }
}

/// Collects until nothing is left to be freed; returns how many packs went.
pub async fn collect_all(repository: &Repository, context: &Context) -> model::Result<u64> {
    let options = GcOptions {
        is_dry_run: false,
        patience: Duration::ZERO,
        grace: Duration::ZERO,
        rewrite_below_percent: 60,
        scratch_folder: std::env::temp_dir(),
    };
    let mut freed = 0;
    for _ in 0..RUNS_MAX {
        let report: Report = Box::pin(collect(repository, &options, context)).await?;
        assert_eq!(report.lost, 0, "{report:?}");
        freed += report.freed.packs;
        if report.generations.is_empty() {
            break;
        }
    }
    Ok(freed)
}

async fn live(store: &Store, context: &Context) {
    store.probe().await.expect("a store that is good enough");
    let objects = store.object_store();
    let host = Host::new(context);
    host.client.init(objects).await.expect("init");
    let again = host.client.init(objects).await.expect_err("there is one");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    host.backup(objects).await;
    host.check_restore(objects).await;
    host.write("large", 2, 3_000_000);
    std::fs::remove_file(host.root.join("folder/39.txt")).expect("remove");
    host.backup(objects).await;
    host.check_restore(objects).await;
    host.check_deep(objects, context).await;

    let repository = host.client.open(objects).await.expect("open");
    host.forget(&repository, 1, context).await;
    let freed = collect_all(&repository, context).await.expect("collect");
    assert!(freed > 0, "nothing was freed");
    host.check_deep(objects, context).await;
    host.check_restore(objects).await;
    assert_eq!(repository.newest_points(host.client.site(), 9).await.expect("points").len(), 1);
    let probes = store.list("probe").await.expect("list");
    assert_eq!(probes, [], "who may delete leaves no probes");
}

/// What the engine counts on besides creates: ranges, limits, listings.
async fn check_calls(store: &Store) {
    let content = testkit::random_bytes(3, 300_000);
    assert_eq!(store.create("a/b", content.clone()).await.expect("create"), Created::New);
    assert_eq!(store.create("a/b", content.clone()).await.expect("again"), Created::Same);
    let other = store.create("a/b", "other".into()).await.expect_err("other bytes");
    assert_eq!(other.kind(), ErrorKind::Conflict);
    let ranges = [0..10, 1_000..2_000, 299_990..300_000];
    for (range, found) in ranges.iter().zip(store.get_ranges("a/b", &ranges).await.expect("get")) {
        assert!(found == content.slice(range.start as usize..range.end as usize), "{range:?}");
    }
    let behind = store.get_range("a/b", 299_999..300_001).await.expect_err("behind the end");
    assert_eq!(behind.kind(), ErrorKind::Corrupt);
    let beyond = store.get_range("a/b", 400_000..400_001).await.expect_err("beyond the end");
    assert_eq!(beyond.kind(), ErrorKind::Corrupt);
    let large = store.get_limited("a/b", 299_999).await.expect_err("too large");
    assert_eq!(large.kind(), ErrorKind::Exhausted);
    for missing in ["a", "a/b/c", "missing"] {
        let missing = store.get(missing).await.expect_err(missing);
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
    assert_eq!(store.list("a").await.expect("list").len(), 1);
    assert_eq!(store.list_directories("").await.expect("list").directories, ["a"]);
    store.delete("a/b").await.expect("delete");
    store.delete("a/b").await.expect("it is gone already");
    assert_eq!(store.list("").await.expect("list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_lives_in_s3() {
    let (context, _) = real_context(101);
    let Some(server) = s3("a_repository_lives_in_s3", &context).await else { return };
    let store = s3_store_of_root(server, "life/of/one", &context);
    assert_eq!(store.kind(), StoreKind::S3);
    Box::pin(live(&store, &context)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_lives_in_azure() {
    let (context, _) = real_context(102);
    let Some(server) = azure("a_repository_lives_in_azure", &context).await else { return };
    let store = azure_store(server, "life/of/one", &context);
    assert_eq!(store.kind(), StoreKind::Azure);
    Box::pin(live(&store, &context)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_creates_in_s3_one_wins() {
    let (context, _) = real_context(103);
    let Some(server) = s3("of_racing_creates_in_s3_one_wins", &context).await else { return };
    let store = s3_store_of_root(server, "races", &context);
    check_store(store.object_store().clone(), "race").await;
    check_calls(&s3_store_of_root(server, "calls", &context)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_creates_in_azure_one_wins() {
    let (context, _) = real_context(104);
    let Some(server) = azure("of_racing_creates_in_azure_one_wins", &context).await else { return };
    let store = azure_store(server, "races", &context);
    check_store(store.object_store().clone(), "race").await;
    check_calls(&azure_store(server, "calls", &context)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_by_s3_is_told_no_secret() {
    const SECRET: &str = "nobody/may+see=this";
    let (context, _) = real_context(105);
    let test = "who_is_refused_by_s3_is_told_no_secret";
    let Some(server) = s3_with(test, "authentication", &context).await else { return };
    let store = s3_store(server, (&property(server, "access_key"), SECRET), "refused", &context);
    for error in [
        store.probe().await.expect_err("wrong secret"),
        store.get("a").await.expect_err("wrong secret"),
        store.list("").await.expect_err("wrong secret"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(!error.chain().contains(SECRET), "{}", error.chain());
    }
    let store = s3_store_of_root(server, "refused", &context);
    let missing = store.get("a").await.expect_err("missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}
