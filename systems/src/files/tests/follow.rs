//! Following changes as they come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Change, Context, ErrorKind, Follower, Item, ItemKey, Next, Payload, Position, System};
use testkit::{apply_changes, still_context};

use super::super::FollowOptions;
use super::super::content::{Contents, Outputs};
use super::super::follow::FilesFollower;
use super::super::watch::Seen;
use super::{Files, Tree, list};

const WALK_EVERY: Duration = Duration::from_secs(600);

/// A follower and what it has told so far, on a clock that stands still: only the kernel wakes it.
struct Following {
    files: Files,
    follower: FilesFollower,
    state: BTreeMap<ItemKey, Item>,
    reached: Position,
    context: Context,
    handles: testkit::Handles,
}

impl Following {
    async fn begin(tree: &Tree) -> Self {
        Self::begin_with(tree, |_| {}).await
    }

    async fn begin_with(tree: &Tree, change: impl FnOnce(&mut super::FilesOptions)) -> Self {
        let (context, handles) = still_context(1);
        let mut options = tree.options();
        options.follow = FollowOptions { debounce: Duration::ZERO, full_walk_every: WALK_EVERY };
        change(&mut options);
        let files = Files::new(options).expect("sound options");
        let cut = files.cut(None, &context).await.expect("cut");
        let items = list(cut.as_ref(), &context).await;
        let state = items.into_iter().map(|item| (item.key.clone(), item)).collect();
        let reached = cut.position().clone();
        let follower = follow(&files, &reached, &context);
        Self { files, follower, state, reached, context, handles }
    }

    async fn next(&mut self) -> Next {
        self.follower.next(&self.context).await.expect("next")
    }

    /// Takes what comes next; panics where it is no batch.
    async fn take(&mut self) -> Vec<Change> {
        let Next::Batch(batch) = self.next().await else { panic!("no batch") };
        assert_eq!(batch.after, self.reached);
        self.reached = batch.upto;
        let Payload::Changes(changes) = batch.payload else { panic!("not changes") };
        self.state = apply_changes(std::mem::take(&mut self.state), &changes);
        changes
    }

    async fn now(&self) -> BTreeMap<ItemKey, Item> {
        let cut = self.files.cut(None, &self.context).await.expect("cut");
        let items = list(cut.as_ref(), &self.context).await;
        items.into_iter().map(|item| (item.key.clone(), item)).collect()
    }

    /// Takes batches until what was told is what is there.
    async fn catch_up(&mut self) {
        while self.state != self.now().await {
            match self.next().await {
                Next::Batch(batch) => {
                    let Payload::Changes(changes) = batch.payload else { panic!("not changes") };
                    self.state = apply_changes(std::mem::take(&mut self.state), &changes);
                    self.reached = batch.upto;
                }
                Next::Nothing { .. } => {}
                Next::Gap => panic!("a gap"),
            }
        }
    }
}

fn follow(files: &Files, from: &Position, context: &Context) -> FilesFollower {
    let memory = files.memory.as_ref().expect("a log");
    let contents = Contents::new(Arc::clone(&files.source), Arc::new(Outputs::new()), context);
    let begin = memory.take(from);
    FilesFollower::new(Arc::new(contents), Arc::clone(memory), begin, files.follow.clone(), context)
        .expect("follower")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kernel_tells_is_told() {
    let tree =
        Tree::new("d a\n d a/b\n f a/b/c x\n f top x\n d moved\n d moved/in\n f moved/in/f x");
    let mut following = Following::begin(&tree).await;
    let first = following.next().await;
    assert!(matches!(first, Next::Nothing { .. }), "nothing has changed: {first:?}");
    for edits in [
        "f a/b/c changed",
        "f a/b/new x",
        "rm top",
        "d a/n\n d a/n/m\n f a/n/m/o deep",
        "f a/n/m/o in a new directory",
        "mv moved a/moved",
        "f a/moved/in/f after it was moved",
        "f a/moved/in/g x",
        "rm a/b\n d a/b\n d a/b/c\n f a/b/c/d again",
        "f a/b/c/d in a directory that came again",
        "mv a/b/c/d a/b/c/e",
        "rm a/moved",
        "l a/l x\n p a/p",
        "rm a/l\n d a/l\n f a/l/f x",
    ] {
        tree.change(edits);
        following.catch_up().await;
    }
    following.handles.monitor.assert_no_problems();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_one_file_are_followed() {
    let tree = Tree::new("d a\n d b\n d c\n f b/f x\n h c/f b/f");
    let mut following = Following::begin(&tree).await;
    for edits in ["h a/f c/f", "f b/f changed", "rm a/f", "rm b/f", "f c/f changed again", "rm c"] {
        tree.change(edits);
        following.catch_up().await;
    }
    let expected = ["d a", "d b"];
    let items: Vec<_> = following.state.values().cloned().collect();
    assert_eq!(tree.show(&items), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_followed() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::new("d a\n f a/f x");
    let mut following = Following::begin(&tree).await;
    following.catch_up().await;
    for (name, mode) in [("a/f", 0o600), ("a", 0o700), ("", 0o711)] {
        std::fs::set_permissions(tree.at(name), PermissionsExt::from_mode(mode)).expect("mode");
        following.catch_up().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_event_is_found_by_the_walk() {
    let tree = Tree::new("f a x");
    let mut following = Following::begin(&tree).await;
    following.next().await;
    tree.change("f a missed\n f b x");
    lose_events(&following).await;
    following.handles.clock.advance(WALK_EVERY);
    // Some events may come later than the ones that were lost, and make a batch of their own.
    following.take().await;
    following.catch_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overflow_leads_to_a_walk() {
    let tree = Tree::new("f a x");
    let mut following = Following::begin(&tree).await;
    following.next().await;
    tree.change("f a missed");
    lose_events(&following).await;
    following.follower.watch().put_back(Seen { is_torn: true, ..Seen::default() });
    following.take().await;
    following.catch_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_kernel_only_a_walk_proves_anything() {
    let tree = Tree::new("f a x");
    let mut following = Following::begin(&tree).await;
    let Next::Nothing { as_of } = following.next().await else { panic!("changes") };
    following.follower.watch().stop();
    tree.change("f a unseen");
    lose_events_now(&following);
    let clock = Arc::clone(&following.handles.clock);
    let advance = async {
        clock.wait_for_sleepers(1).await;
        clock.advance(Duration::from_secs(1));
    };
    let (next, ()) = tokio::join!(following.follower.next(&following.context), advance);
    assert_eq!(next.expect("next"), Next::Nothing { as_of }, "nobody looked");
    clock.advance(WALK_EVERY);
    following.take().await;
    assert_eq!(following.state, following.now().await);
}

/// Waits for events and forgets them, as if the kernel had not told.
async fn lose_events(following: &Following) {
    following.follower.watch().arrived().await;
    lose_events_now(following);
}

fn lose_events_now(following: &Following) {
    following.follower.watch().take();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_before_following_are_found_at_its_beginning() {
    let tree = Tree::new("d a\n d a/b\n f a/b/c x\n f f x");
    let mut following = Following::begin(&tree).await;
    tree.change("rm a\n f a x\n rm f\n d f\n f f/g x");
    let changes = following.take().await;
    let deleted: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Delete(key) => Some(key.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, [tree.key("a")], "what was below is gone with it");
    following.catch_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_new_is_a_proof_up_to_a_time() {
    let tree = Tree::new("f a x");
    let mut following = Following::begin(&tree).await;
    let Next::Nothing { as_of } = following.next().await else { panic!("changes") };
    assert_eq!(as_of, testkit::ManualClock::START);
    let clock = Arc::clone(&following.handles.clock);
    let advance = async {
        clock.wait_for_sleepers(1).await;
        clock.advance(Duration::from_secs(1));
    };
    let (next, ()) = tokio::join!(following.follower.next(&following.context), advance);
    let expected = as_of.saturating_add(Duration::from_secs(1));
    assert_eq!(next.expect("next"), Next::Nothing { as_of: expected });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_come_in_several_batches_without_a_hole() {
    let tree = Tree::new("f one x");
    let mut following = Following::begin(&tree).await;
    for number in 0..4_200 {
        tree.change(&format!("h {number} one"));
    }
    let (first, second) = (following.take().await.len(), following.take().await.len());
    assert_eq!((first, second), (4_096, 106), "4,200 names, their file and their directory");
    following.catch_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_follower_begins_where_one_has_ended() {
    let tree = Tree::new("f a x");
    let mut following = Following::begin(&tree).await;
    tree.change("f b x");
    following.take().await;
    let Following { files, follower, reached, context, .. } = following;
    drop(follower);
    tree.change("f c x");
    let mut next = files.follow(&reached, &context).await.expect("follow");
    let Next::Batch(batch) = next.next(&context).await.expect("next") else { panic!("no batch") };
    assert_eq!(batch.after, reached);
}

#[tokio::test]
async fn a_position_that_nobody_remembers_is_a_gap() {
    let (context, _) = still_context(1);
    let tree = Tree::new("f a x");
    let files = tree.files();
    for position in [Position(bytes::Bytes::from_static(b"other")), Position(bytes::Bytes::new())] {
        let mut follower = files.follow(&position, &context).await.expect("follow");
        assert_eq!(follower.next(&context).await.expect("next"), Next::Gap);
        assert_eq!(follower.next(&context).await.expect("next"), Next::Gap);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protected_path_that_is_gone_is_an_error_until_it_is_back() {
    let tree = Tree::new("d a\n f a/b x");
    let mut following =
        Following::begin_with(&tree, |options| options.paths = vec![tree.at("a")]).await;
    let gone = async |following: &mut Following| {
        let next = following.follower.next(&following.context).await;
        assert_eq!(next.expect_err("gone").kind(), ErrorKind::NotFound);
    };
    tree.change("mv a away");
    gone(&mut following).await;
    gone(&mut following).await;
    tree.change("mv away a\n f a/b back");
    following.catch_up().await;
    // Also when the kernel tells of it.
    tree.change("mv a away");
    gone(&mut following).await;
    tree.change("mv away a\n f a/b back again");
    following.catch_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_excluded_wakes_nobody() {
    let tree = Tree::new("f a x\n f noise x\n d n\n f n/b x");
    let mut following =
        Following::begin_with(&tree, |options| options.exclude = vec!["noise".into()]).await;
    following.next().await;
    tree.change("f noise 1\n f noise 2\n f n/b changed");
    let changes = following.take().await;
    assert!(changes.iter().all(|change| match change {
        Change::Upsert(item) => item.key.is_within(&tree.key("n")),
        _ => false,
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_ends_a_wait() {
    let tree = Tree::new("f a x");
    let mut following = Following::begin(&tree).await;
    following.next().await;
    let cancel = following.handles.cancel.clone();
    let clock = Arc::clone(&following.handles.clock);
    let cancelling = async {
        clock.wait_for_sleepers(1).await;
        cancel.cancel();
    };
    let (next, ()) = tokio::join!(following.follower.next(&following.context), cancelling);
    assert_eq!(next.expect_err("cancelled").kind(), ErrorKind::Cancelled);
}
