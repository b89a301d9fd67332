//! Every operation can be handed to a runtime that moves it between threads: a future that cannot be
//! does not compile here.

use std::sync::Arc;

use model::{Context, ItemKey, SiteName, System, Target};
use policies::Selector;
use repository::Repository;
use repository::crypto::Unlock;
use repository::index::{Index, rebuild};
use repository::log::LoggedTree;
use repository::mark::MarkKind;
use repository::point::PointId;
use repository::session::{Session, SessionOptions};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::StreamName;
use repository::verify::VerifyOptions;

use crate::capture::CaptureOptions;
use crate::follow::FollowOptions;
use crate::mount::{Folder, Inode, MountOptions, Mounted, OpenFile};
use crate::restore::RestoreOptions;
use crate::select::{HostOf, Resolved, ResolvedSystem};

fn assert_send<T: Send>(_: T) {}

/// What the arguments below are borrowed from.
struct Given<'g> {
    repository: &'g Repository,
    stream: &'g StreamName,
    site: &'g SiteName,
    system: &'g dyn System,
    context: &'g Context,
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn captures(given: &Given<'_>, options: &CaptureOptions, follow: &FollowOptions) {
    let Given { repository, stream, site, system, context } = *given;
    assert_send(crate::capture::capture(repository, stream, system, options, context));
    assert_send(crate::capture::plan(repository, stream, system, options, context));
    assert_send(crate::follow::follow(repository, stream, system, follow, context));
    assert_send(crate::follow::exposure(repository, stream, context));
    let skew_max = std::time::Duration::ZERO;
    assert_send(crate::seal::seal(repository, site, &[], Vec::new(), skew_max, context));
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn states(given: &Given<'_>, selector: &Selector, host_of: HostOf<'_>, resolved: &Resolved) {
    let Given { repository, site, context, .. } = *given;
    assert_send(crate::select::resolve(repository, selector, host_of, context));
    let (one, root) = ((Some(site), None), ItemKey::root());
    assert_send(crate::select::resolve_newest(repository, one, 1, &root, host_of, context));
    assert_send(crate::select::resolve_site(repository, Some(site)));
    assert_send(resolved.with_path());
    assert_send(crate::forget::forget(repository, selector, context));
    assert_send(crate::usage::usage(repository));
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn restores(
    given: &Given<'_>,
    state: &ResolvedSystem,
    target: &Arc<dyn Target>,
    options: &RestoreOptions,
) {
    let Given { repository, context, .. } = *given;
    assert_send(crate::restore::restore(repository, state, target, options, context));
    assert_send(crate::restore::plan(repository, state, target, options, context));
    assert_send(crate::restore::verify(repository, state, target, options, context));
    assert_send(crate::browse::list(state, true));
    assert_send(crate::browse::cat(repository, state));
    assert_send(crate::browse::diff(repository, state, state));
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn mounts(
    given: &Given<'_>,
    state: &ResolvedSystem,
    options: &MountOptions,
    mounted: &Mounted,
    (file, folder): (&Arc<OpenFile>, &Folder),
) {
    let Given { repository, context, .. } = *given;
    let systems = [state];
    assert_send(async move { Mounted::open(repository, &systems, options, context).await });
    assert_send(mounted.look_up(Inode::ROOT, b"a"));
    assert_send(mounted.facts(Inode::ROOT));
    assert_send(mounted.link_target(Inode::ROOT));
    assert_send(mounted.extended(Inode::ROOT));
    assert_send(mounted.open_file(Inode::ROOT));
    assert_send(mounted.open_folder(Inode::ROOT));
    assert_send(folder.page(0));
    assert_send(file.read(0, 0));
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn openings(given: &Given<'_>, store: &Store, unlock: &Unlock, session: SessionOptions) {
    let Given { repository, stream, context, .. } = *given;
    let options = repository.options().clone();
    assert_send(Repository::open(store.clone(), unlock, options, context));
    assert_send(repository.slots());
    assert_send(Session::begin(repository, stream, session, context));
    assert_send(Index::open(repository, "", context));
    assert_send(rebuild::rebuild(repository, "", context));
    assert_send(repository::gc::open_condemned(repository));
    let plan = crate::sync::SyncPlan {
        is_dry_run: false,
        is_both_ways: true,
        jobs: crate::sync::JOBS,
        memory_bytes: 0,
        bytes_per_second: None,
    };
    assert_send(async move { crate::sync::sync(store, store, &plan, context).await });
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn readings(given: &Given<'_>, snapshot: &Snapshot, point: &PointId, options: &VerifyOptions) {
    let Given { repository, stream, site, context, .. } = *given;
    assert_send(repository.newest_snapshots(stream, 1));
    assert_send(repository.all_snapshots(stream));
    assert_send(repository.snapshot(&snapshot.id));
    assert_send(repository.verify_all(Vec::new()));
    assert_send(repository.newest_points(site, 1));
    assert_send(repository.survey_points(site, 1));
    assert_send(repository.find_points("0123"));
    assert_send(repository.point(point));
    assert_send(repository.check_chain(site, point.chain));
    assert_send(repository.marks(site));
    assert_send(repository.set_mark(point, MarkKind::Pin, "", context));
    assert_send(repository.latest_heartbeats());
    assert_send(repository.log_runs(stream));
    assert_send(repository.log_end(stream));
    assert_send(LoggedTree::open(repository, snapshot, snapshot.cut_to, context));
    assert_send(repository::verify::verify(repository, options, context));
}

#[expect(dead_code, reason = "that it compiles is all that is asked of it")]
fn cleanings(given: &Given<'_>) {
    let Given { repository, stream, context, .. } = *given;
    assert_send(repository::log::compact_log(repository, stream, 0, context));
    assert_send(repository::log::delete_compacted(repository, stream, context));
    assert_send(repository::log::trim_log(repository, stream, 0, context));
    assert_send(repository::log::delete_trimmed(repository, stream, context));
    assert_send(repository.log_trim(stream));
    assert_send(repository.delete_old_heartbeats(context));
}
