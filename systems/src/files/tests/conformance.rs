//! The checks that every system has to pass.

use model::{LogPayload, System};
use testkit::conformance::{
    Baseline, check_changes_cut, check_follower, check_replay, check_system,
    check_unchanged_opens_nothing,
};
use testkit::context;

use super::super::CommandItem;
use super::{Files, Tree};

pub(super) const SCRIPT: &str = "
    d a
    f a/b hello
    d a/empty
    f a-b x
    f a.txt sorted after what is below a
    f empty
    f odd%ff%0aname odd
    f ..%5c dots
    l link ../outside
    l %ff-link to%ff
    l dangling nowhere
    p pipe
    s socket
    f x1 several names
    h a/x2 x1
    h x0 x1
";

pub(super) const EDITS: &str = "
    f a/b another
    f a/new new
    d a/d
    d a/d/e
    f a/d/e/f deep
    mv a.txt a/d/moved
    rm a-b
    rm a/empty
    f a/empty now a file
    rm x0
    rm pipe
    d pipe
    f pipe/f in what was a pipe
    rm link
    l link elsewhere
";

pub(super) fn make_holes(tree: &Tree) {
    let file = std::fs::File::create(tree.at("holes")).expect("file");
    file.set_len(300 << 10).expect("length");
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 200 << 10).expect("write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_directories_pass() {
    let (context, handles) = context(1);
    let tree = Tree::new(SCRIPT);
    make_holes(&tree);
    // Where the file system has no extended attributes there are none to capture.
    let flags = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(tree.at("a/b"), "user.lifeboat", b"\0value", flags);
    let files = tree.files();
    check_system(&files, &context).await;
    assert_eq!(check_unchanged_opens_nothing(&files, &context).await, 0);
    let before = Baseline::take(&files, &context).await.expect("baseline");
    tree.change(EDITS);
    let batches = check_follower(&files, &before, &context).await;
    assert_eq!(batches.map(|batches| batches.len()), Some(1));
    check_system(&files, &context).await;
    assert_eq!(check_changes_cut(&files, &before, &context).await, None);
    assert_eq!(check_replay(&files, &before, &context).await, None);
    handles.monitor.assert_no_problems();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_without_a_log_pass() {
    let (context, _) = context(1);
    let tree = Tree::new("f a x");
    let files = tree.files().without_log();
    assert_eq!(files.facts().log, None);
    check_system(&files, &context).await;
    let before = Baseline::take(&files, &context).await.expect("baseline");
    assert!(check_follower(&files, &before, &context).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_of_commands_pass() {
    // Time stands still, so that no command takes too long.
    let (context, handles) = testkit::still_context(1);
    let tree = Tree::new("f a x");
    let command = |name: &str, words: &[&str]| CommandItem {
        name: name.into(),
        command: words.iter().map(|&word| word.to_owned()).collect(),
        timeout: std::time::Duration::from_secs(60),
    };
    let mut options = tree.options();
    options.commands =
        vec![command("words", &["echo", "two words"]), command("nothing", &["true"])];
    let files = Files::new(options).expect("sound options");
    assert_eq!(files.facts().log, Some(LogPayload::Changes));
    check_system(&files, &context).await;
    let state = Baseline::take(&files, &context).await.expect("baseline").state;
    let outputs: Vec<_> = state
        .iter()
        .filter(|(key, _)| key.display().starts_with("h/@commands"))
        .map(|(key, output)| (key.display(), output.content.clone()))
        .collect();
    let expected =
        [("h/@commands", ""), ("h/@commands/nothing", ""), ("h/@commands/words", "two words\n")];
    assert_eq!(outputs, expected.map(|(key, content)| (key.to_owned(), content.into())));
    handles.monitor.assert_no_problems();
}
