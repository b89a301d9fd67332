//! Following the scripted system.

use std::sync::Arc;

use futures::TryStreamExt;
use model::{ExtentBody, Item, ItemKey};
use repository::log::{LogBody, LoggedRecord, LoggedTree};
use testkit::scripted::{Call, key};
use testkit::{Handles, ScriptedSystem};

use super::*;
use crate::testing::{repository, stream};

/// Far more seconds than any of these tests lets go by.
const SECONDS_MAX: usize = 5_000;

struct Bench {
    repository: Repository,
    context: Context,
    handles: Handles,
    scratch: tempfile::TempDir,
}

impl Bench {
    async fn new(seed: u64) -> Self {
        // Creating a repository waits for nothing that a clock has to move.
        let (context, handles) = testkit::still_context(seed);
        let repository = repository(&context).await;
        Self { repository, context, handles, scratch: tempfile::tempdir().expect("scratch") }
    }

    fn options(&self) -> FollowOptions {
        FollowOptions::new(CaptureOptions {
            host: "h1".to_owned(),
            domain: "default".to_owned(),
            recheck_every_captures: 0,
            read_everything: false,
            scratch_folder: self.scratch.path().to_owned(),
            workers: 1,
        })
    }

    /// Follows a system while a script runs, then stops.
    async fn follow(
        &self,
        system: &ScriptedSystem,
        options: FollowOptions,
        script: impl AsyncFnOnce(&Running),
    ) -> Followed {
        let cancel = CancellationToken::new();
        let context = Context { cancel: cancel.clone(), ..self.context.clone() };
        let running = Running { clock: self.handles.clock.clone() };
        let stream = stream();
        let following = follow(&self.repository, &stream, system, &options, &context);
        let mut following = Box::pin(following);
        let scripted = Box::pin(script(&running));
        tokio::select! {
            ended = &mut following => panic!("it ended by itself: {ended:?}"),
            () = scripted => cancel.cancel(),
        }
        following.await.expect("a good end")
    }

    async fn newest(&self) -> repository::snapshot::Snapshot {
        self.repository.newest_snapshots(&stream(), 1).await.expect("list").remove(0)
    }

    /// Compares the newest snapshot with the log over it with the system as it is now.
    async fn check(&self, system: &ScriptedSystem) {
        let base = self.newest().await;
        let upto = Timestamp { unix_ns: i64::MAX };
        let tree = LoggedTree::open(&self.repository, &base, upto, &self.context).await;
        let tree = tree.expect("replay");
        assert_eq!(tree.stands_at().1, &system.position());
        let found: Vec<_> = tree.records().try_collect().await.expect("read");
        let items: std::collections::BTreeMap<ItemKey, Item> = system.items();
        let found: Vec<_> = found.into_iter().flatten().collect();
        assert!(found.iter().map(|(key, _)| key).eq(items.keys()), "{found:?}");
        for (key, record) in found {
            match record {
                LoggedRecord::Stored(record) => assert_eq!(record.to_item(&key), items[&key]),
                LoggedRecord::Logged(item, contents) => {
                    let mut contents = contents.into_iter();
                    let bytes = item.extents.iter().map(|extent| match extent.body {
                        ExtentBody::Hole => vec![0; extent.length_bytes as usize],
                        ExtentBody::Data { .. } => contents.next().expect("content").to_vec(),
                    });
                    let bytes = bytes.collect::<Vec<_>>().concat();
                    assert!(bytes == system.content_of(&key), "content of {key:?}");
                    assert_eq!(Item { key: key.clone(), ..*item }, items[&key]);
                }
            }
        }
    }
}

struct Running {
    clock: Arc<testkit::ManualClock>,
}

impl Running {
    /// Lets seconds go by, each once everybody sleeps, until something holds.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..SECONDS_MAX {
            if holds().await {
                return;
            }
            self.clock.wait_for_sleepers(1).await;
            self.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        panic!("never: {what}");
    }

    async fn until_durable(&self, system: &ScriptedSystem) {
        self.until("durable", async || system.acknowledged() == system.position()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_stored_as_they_come_and_replayed() {
    let bench = Bench::new(1).await;
    let system = ScriptedSystem::new("dir d\n file d/a \"one\"\n file d/b 1*5000")
        .with_log(LogPayload::Changes);
    let followed = bench
        .follow(&system, bench.options(), async |running| {
            running.until_durable(&system).await;
            system.edit("file d/a \"two\"\n file d/c 2*4000 hole*100 3*10\n move d e\n delete e/b");
            running.until_durable(&system).await;
            bench.check(&system).await;
            system.edit("file e/empty \"\"\n file e/a 4*9000");
            running.until_durable(&system).await;
            bench.check(&system).await;
            let heard = bench.repository.covered_upto(&stream()).await.expect("covered");
            running
                .until("heartbeat", async || {
                    bench.repository.covered_upto(&stream()).await.expect("covered") > heard
                })
                .await;
        })
        .await;
    assert_eq!(followed.captures, 1);
    // Six changes come two by two; those of ten seconds are one batch.
    assert_eq!(followed.batches, 2);
    assert!(followed.heartbeats >= 1);
    bench.handles.monitor.assert_no_problems();
    let exposed = exposure(&bench.repository, &stream(), &bench.context).await.expect("exposure");
    assert!(exposed.expect("covered") <= Duration::from_secs(90), "{exposed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_where_it_was_stopped_and_stores_what_was_told() {
    let bench = Bench::new(2).await;
    let system = ScriptedSystem::new("file a \"one\"").with_log(LogPayload::Changes);
    let followed = bench
        .follow(&system, bench.options(), async |running| {
            running.until_durable(&system).await;
            system.edit("file a \"two\"");
            running.until_durable(&system).await;
        })
        .await;
    assert_eq!(followed.batches, 1);
    system.edit("file b \"three\"");
    let followed = bench
        .follow(&system, bench.options(), async |running| {
            running.until_durable(&system).await;
        })
        .await;
    assert_eq!((followed.captures, followed.batches), (0, 1));
    bench.check(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_and_large_contents_lead_to_a_capture() {
    let bench = Bench::new(3).await;
    let system = ScriptedSystem::new("file a \"one\"").with_log(LogPayload::Changes);
    let options = FollowOptions { content_bytes_max: 10_000, ..bench.options() };
    let followed = bench
        .follow(&system, options, async |running| {
            running.until_durable(&system).await;
            system.edit("file a \"two\"");
            system.forget_history();
            running.until_durable(&system).await;
            bench.check(&system).await;
            system.edit("file large 1*10001");
            running.until_durable(&system).await;
            bench.check(&system).await;
        })
        .await;
    assert_eq!((followed.captures, followed.batches), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_a_capture_after_its_time() {
    let bench = Bench::new(4).await;
    let system = ScriptedSystem::new("file a \"one\"").with_log(LogPayload::Changes);
    let options =
        FollowOptions { capture_every: Some(Duration::from_secs(600)), ..bench.options() };
    let followed = bench
        .follow(&system, options, async |running| {
            running.until_durable(&system).await;
            let first = bench.newest().await.id;
            running.until("second capture", async || bench.newest().await.id != first).await;
        })
        .await;
    assert_eq!(followed.captures, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_change_vanish_or_fail_while_they_are_read() {
    let bench = Bench::new(5).await;
    let system = ScriptedSystem::new("dir d").with_log(LogPayload::Changes);
    let followed = bench
        .follow(&system, bench.options(), async |running| {
            running.until_durable(&system).await;
            system.change_while_read(&key("d/a"), 9);
            system.edit("file d/a 1*1000");
            running.until("told", async || bench.handles.monitor.problems().len() == 1).await;
            system.change_while_read(&key("d/a"), 0);
            // Its changes while it was read are in no log; this one is.
            system.edit("file d/a 2*1000");
            running.until_durable(&system).await;
            bench.check(&system).await;
            bench.handles.monitor.reset();

            system.fail_nth(Call::Open, 1, ErrorKind::Denied);
            system.edit("file d/b 3*1000");
            running.until("told", async || bench.handles.monitor.problems().len() == 1).await;
            // What was missed is moved: only a capture can tell what is there now.
            system.edit("move d e");
            running.until_durable(&system).await;
            bench.check(&system).await;
        })
        .await;
    assert_eq!(followed.captures, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_logs_are_stored_end_to_end() {
    let bench = Bench::new(6).await;
    let system = ScriptedSystem::new("node a \"one\"").with_log(LogPayload::Raw);
    let followed = bench
        .follow(&system, bench.options(), async |running| {
            running.until_durable(&system).await;
            system.edit("node a \"two\"\n node b \"three\"\n node c \"four\"");
            running.until_durable(&system).await;
        })
        .await;
    assert_eq!(followed.batches, 1);
    let base = bench.newest().await;
    let batches: Vec<_> =
        bench.repository.log_batches(&stream(), &base.id).try_collect().await.expect("read");
    let [batch] = &batches[..] else { panic!("{batches:?}") };
    let LogBody::Raw(bytes) = &batch.body else { panic!("{batch:?}") };
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 3);
    assert_eq!((&batch.after, &batch.upto), (&base.position, &system.position()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_log_is_not_followed() {
    let bench = Bench::new(7).await;
    let system = ScriptedSystem::new("file a \"one\"");
    let options = bench.options();
    let error = follow(&bench.repository, &stream(), &system, &options, &bench.context).await;
    assert_eq!(error.expect_err("no log").kind(), ErrorKind::Unsupported);
}
