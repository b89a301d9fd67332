//! Selectors find points and snapshots of the real engine.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Context, ErrorKind, Host, ItemKey, SiteName};
use object_store::memory::InMemory;
use policies::{Selector, When};
use repository::Repository;
use repository::mark::MarkKind;
use testkit::scripted::key;
use testkit::{Handles, ScriptedSystem};

use super::*;
use crate::capture::{CaptureOptions, capture};
use crate::fixtures;
use crate::forget::forget;
use crate::seal::{Expected, seal};

struct Bench {
    repository: Repository,
    context: Context,
    handles: Handles,
    scratch: tempfile::TempDir,
}

fn free(_kind: &str) -> Host {
    Host::Free
}

impl Bench {
    async fn new() -> Self {
        let (context, handles) = testkit::context(1);
        let repository = fixtures::repository(&InMemory::new(), &context).await;
        Self { repository, context, handles, scratch: tempfile::tempdir().expect("scratch") }
    }

    fn site() -> SiteName {
        "prod".parse().expect("site")
    }

    async fn capture(&self, system: &ScriptedSystem) -> Snapshot {
        self.handles.clock.advance(Duration::from_secs(60));
        let options = CaptureOptions {
            host: "h1".to_owned(),
            domain: String::new(),
            recheck_every_captures: 0,
            read_everything: false,
            scratch_folder: self.scratch.path().to_owned(),
            workers: 1,
        };
        let stream = "prod.lake".parse().expect("stream");
        let captured = capture(&self.repository, &stream, system, &options, &self.context);
        Box::pin(captured).await.expect("capture").snapshot
    }

    /// Captures and seals a point; a partial one lacks a system.
    async fn point(&self, system: &ScriptedSystem, is_partial: bool) -> Point {
        let snapshot = self.capture(system).await;
        let expect = |name: &str| Expected {
            system: name.parse().expect("system"),
            kind: "scripted".to_owned(),
        };
        let mut expected = vec![expect("lake")];
        if is_partial {
            expected.push(expect("other"));
        }
        let captured = vec![("lake".parse().expect("system"), Ok(snapshot))];
        let site = Self::site();
        let sealed =
            seal(&self.repository, &site, &expected, captured, Duration::ZERO, &self.context);
        sealed.await.expect("seal")
    }

    fn selector(system: Option<&str>, when: When) -> Selector {
        let system = system.map(|system| system.parse().expect("system"));
        Selector { site: None, system, when, path: ItemKey::root() }
    }

    async fn resolve(&self, system: Option<&str>, when: When) -> Result<Resolved> {
        let mut selector = Self::selector(system, when);
        selector.site = Some(Self::site());
        resolve(&self.repository, &selector, &free, &self.context).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_selector_finds_its_state() {
    let bench = Bench::new().await;
    let error = resolve_site(&bench.repository, None).await.expect_err("nothing there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let system = ScriptedSystem::new("file a \"1\"");
    let first = bench.point(&system, false).await;
    let middle = bench.context.clock.now();
    let second = bench.point(&system, false).await;
    let partial = bench.point(&system, true).await;
    assert!(first.is_complete() && second.is_complete() && !partial.is_complete());
    bench
        .repository
        .set_mark(&first.id, MarkKind::Tag("before".to_owned()), "", &bench.context)
        .await
        .expect("tag");

    assert_eq!(resolve_site(&bench.repository, None).await.expect("the only one"), Bench::site());
    for (when, expected, skipped) in [
        (When::Latest { back: 0 }, &second, 1),
        (When::Latest { back: 1 }, &first, 1),
        (When::Time(middle), &first, 0),
        (When::Tag("before".to_owned()), &first, 0),
        (When::Id(partial.id.short()), &partial, 0),
        (When::Id(first.id.short()[..10].to_owned()), &first, 0),
    ] {
        let resolved = bench.resolve(None, when.clone()).await.expect("resolve");
        assert_eq!(resolved.id, expected.id.short(), "{when:?}");
        assert_eq!(resolved.skipped_partial, skipped, "{when:?}");
        assert_eq!(resolved.chosen_at, expected.cut_to, "{when:?}");
        assert_eq!(resolved.systems.len(), 1, "{when:?}");
    }
    for when in [When::Verified, When::Latest { back: 2 }, When::Tag("x".to_owned())] {
        let error = bench.resolve(None, when).await.err().expect("nothing fits");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.chain().contains("lake"), "{}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_systems_states_are_its_snapshots_whatever_the_points_say() {
    let bench = Bench::new().await;
    let system = ScriptedSystem::new("dir d\nfile d/a \"1\"");
    let point = bench.point(&system, false).await;
    let middle = bench.context.clock.now();
    let alone = bench.capture(&system).await;
    bench
        .repository
        .set_mark(&point.id, MarkKind::Verified, "", &bench.context)
        .await
        .expect("mark");
    let of_point = point.entries[0].snapshot.clone().expect("a snapshot");
    for (when, expected) in [
        (When::Latest { back: 0 }, &alone.id),
        (When::Latest { back: 1 }, &of_point),
        (When::Time(middle), &of_point),
        (When::Id(alone.id.short()), &alone.id),
        (When::Id(point.id.short()), &of_point),
        (When::Verified, &of_point),
    ] {
        let resolved = bench.resolve(Some("lake"), when.clone()).await.expect("resolve");
        assert_eq!(resolved.systems[0].snapshot.id, *expected, "{when:?}");
    }
    let error = bench.resolve(Some("none"), When::Latest { back: 0 }).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::NotFound));

    let mut resolved = bench.resolve(None, When::Latest { back: 0 }).await.expect("resolve");
    for (path, is_there) in [("d/a", true), ("d", true), (".", true), ("q", false)] {
        resolved.systems[0].path = key(path);
        assert_eq!(resolved.with_path().await.is_ok(), is_there, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_found_no_more_and_pins_hold() {
    let bench = Bench::new().await;
    let system = ScriptedSystem::new("file a \"1\"");
    let first = bench.point(&system, false).await;
    let second = bench.point(&system, false).await;
    let by_id = |point: &Point| Bench::selector(None, When::Id(point.id.short()));
    let context = &bench.context;
    bench.repository.set_mark(&first.id, MarkKind::Pin, "audit", context).await.expect("pin");
    let error = forget(&bench.repository, &by_id(&first), context).await.expect_err("pinned");
    assert_eq!(error.kind(), ErrorKind::Denied);
    let named = first.entries[0].snapshot.clone().expect("a snapshot");
    let of_system = Bench::selector(Some("lake"), When::Id(named.short()));
    let error = forget(&bench.repository, &of_system, context).await.expect_err("named");
    assert_eq!(error.kind(), ErrorKind::Conflict);

    bench.repository.remove_mark(&first.id, &MarkKind::Pin, context).await.expect("unpin");
    let gone = forget(&bench.repository, &by_id(&first), context).await.expect("forget");
    assert_eq!((gone.point, gone.points_left), (Some(first.id.clone()), 1));
    assert_eq!((gone.snapshots, gone.kept), (vec![named], vec![]));
    assert!(bench.resolve(None, When::Id(first.id.short())).await.is_err());

    // The newest snapshot stays for the next capture to build on.
    let gone = forget(&bench.repository, &by_id(&second), context).await.expect("forget");
    assert_eq!((gone.snapshots.len(), gone.kept.len(), gone.points_left), (0, 1, 0));
    let usage = crate::usage::usage(&bench.repository).await.expect("usage");
    assert_eq!((usage.points, usage.snapshots, usage.items), (0, 1, 1));
    assert_eq!(usage.content_bytes, 1);
}

#[test]
fn a_site_is_named_unless_it_is_the_only_one() {
    let sites = |names: &[&str]| -> BTreeSet<SiteName> {
        names.iter().map(|name| name.parse().expect("site")).collect()
    };
    assert_eq!(only_site(sites(&["a"]), "r").expect("the only one").as_str(), "a");
    let error = only_site(sites(&["a", "b"]), "r").expect_err("two");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("a, b"), "{}", error.chain());
    assert_eq!(only_site(sites(&[]), "r").expect_err("none").kind(), ErrorKind::NotFound);
}

/// Captures a snapshot and appends three changes to its log: 10, 20 and 30 seconds later.
async fn logged() -> (Bench, Snapshot) {
    use model::{Batch, Change, LogPayload, Payload};

    let bench = Bench::new().await;
    let system = ScriptedSystem::new("dir d\nfile d/a \"1\"\nfile d/b \"22\"");
    let base = bench.capture(&system).await;
    let at = |seconds| base.cut_to.saturating_add(Duration::from_secs(seconds));
    let position = |n: u8| Position(bytes::Bytes::copy_from_slice(&[n]));
    let stream = base.id.stream.clone();
    let payload = LogPayload::Changes;
    let writer = bench.repository.log_writer(&stream, payload, &base.id, &bench.context);
    let mut writer = writer.await.expect("log writer");
    let text = |text: &'static str| vec![bytes::Bytes::from_static(text.as_bytes())];
    let items = ScriptedSystem::new("dir d\nfile d/a \"333\"\nfile d/c hole*5 \"4\"").items();
    for (n, change, contents) in [
        (10, Change::Upsert(items[&key("d/a")].clone()), text("333")),
        (20, Change::Upsert(items[&key("d/c")].clone()), text("4")),
        (30, Change::Delete(key("d/b")), Vec::new()),
    ] {
        let after = if n == 10 { base.position.clone() } else { position(n - 10) };
        let (first_at, last_at) = (at(n.into()), at(n.into()));
        let payload = Payload::Changes(vec![change]);
        let batch = Batch { after, upto: position(n), first_at, last_at, payload };
        writer.append(batch, vec![contents]).await.expect("append");
    }
    (bench, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_leads_past_the_snapshot_that_it_began_at() {
    let (bench, base) = logged().await;
    let at = |seconds| base.cut_to.saturating_add(Duration::from_secs(seconds));
    for (when, stands_at, expected) in [
        (When::Time(at(5)), at(0), "d d/a*1 d/b*2"),
        (When::Time(at(10)), at(10), "d d/a*3 d/b*2"),
        (When::Time(at(25)), at(20), "d d/a*3 d/b*2 d/c*6"),
        (When::Latest { back: 0 }, at(30), "d d/a*3 d/c*6"),
    ] {
        let resolved = bench.resolve(Some("lake"), when.clone()).await.expect("resolve");
        assert_eq!(resolved.chosen_at, stands_at, "{when:?}");
        let state = &resolved.systems[0];
        let listing = crate::browse::list(state, true).await.expect("list");
        let batches: Vec<_> = listing.entries.try_collect().await.expect("list");
        let shown: Vec<_> = batches
            .iter()
            .flatten()
            .map(|entry| match entry.item.content_bytes() {
                0 => entry.item.key.display(),
                bytes => format!("{}*{bytes}", entry.item.key.display()),
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{when:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_a_log_is_read_compared_and_restored_as_any_other() {
    let (bench, base) = logged().await;
    let early = base.cut_to.saturating_add(Duration::from_secs(5));
    let now = bench.resolve(Some("lake"), When::Latest { back: 0 }).await.expect("resolve");
    let mut logged = now.systems[0].clone();
    let before = bench.resolve(Some("lake"), When::Time(early)).await.expect("resolve");
    let changed = crate::browse::diff(&bench.repository, &before.systems[0], &logged);
    let changed: Vec<_> = changed.expect("diff").try_collect().await.expect("diff");
    let keys: Vec<_> = changed.iter().map(|changed| changed.key.display()).collect();
    assert_eq!(keys, ["d/a", "d/b", "d/c"]);
    let target = testkit::MemoryTarget::new();
    let options = crate::restore::RestoreOptions {
        rules: crate::restore::RestoreRules {
            existing: crate::restore::Existing::Refuse,
            delete_extra: false,
        },
        onto: ItemKey::root(),
        include: Vec::new(),
        ignored: Vec::new(),
        is_verified: true,
    };
    let shared: std::sync::Arc<dyn model::Target> = std::sync::Arc::new(target.clone());
    let (repository, context) = (&bench.repository, &bench.context);
    let report = crate::restore::restore(repository, &logged, &shared, &options, context);
    assert!(Box::pin(report).await.expect("restore").is_proven());
    assert_eq!(target.contents()[&key("d/c")].as_ref(), b"\0\0\0\0\x004");
    logged.path = key("d/c");
    let mut cat = crate::browse::cat(&bench.repository, &logged).await.expect("cat");
    let mut bytes = Vec::new();
    while let Some(piece) = cat.content.next().await.expect("read") {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes, b"\0\0\0\0\x004");
}
