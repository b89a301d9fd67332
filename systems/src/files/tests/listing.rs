//! What is listed, how, and in which order.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use model::{AttributeTag, ErrorKind, ItemKind, System};
use testkit::context;

use super::super::content::Contents;
use super::super::walk::walk;
use super::super::{CommandItem, Files, FilesOptions};
use super::{Tree, list, list_files, options};

/// Lists what is captured of a tree under some options.
async fn check(script: &str, change: impl FnOnce(&Tree, &mut FilesOptions), expected: &str) {
    let (context, handles) = context(1);
    let tree = Tree::new(script);
    let mut options = tree.options();
    change(&tree, &mut options);
    let items = list_files(&Files::new(options).expect("sound options"), &context).await;
    assert_eq!(tree.show(&items), expected.split(", ").collect::<Vec<_>>(), "{script}");
    handles.monitor.assert_no_problems();
}

#[tokio::test]
async fn every_kind_of_file_is_listed_as_what_it_is() {
    let script = "
        d d
        f d/f 12345
        f e
        l l a/b
        p p
        s s
        f %ff%0a x
    ";
    check(script, |_, _| {}, "d d, f d/f 5, f e 0, l l a/b, p p, f \\xff\\n 1").await;
}

#[tokio::test]
async fn of_several_names_the_first_in_key_order_is_the_file() {
    let script = "
        d a
        f z content
        h a/m z
        h a.b z
        f other x
        h other2 other
    ";
    let expected = "d a, f a/m 7, h a.b a/m, f other 1, h other2 other, h z a/m";
    check(script, |_, _| {}, expected).await;
    let exclude = |_: &Tree, options: &mut FilesOptions| options.exclude = vec!["m".into()];
    check(script, exclude, "d a, f a.b 7, f other 1, h other2 other, h z a.b").await;
}

#[tokio::test]
async fn patterns_choose() {
    let script = "
        d a
        f a/x.log 1
        f a/y 1
        d a/tmp
        f a/tmp/z 1
        f b.log 1
    ";
    let cases: [(&[&str], &[&str], &str); 7] = [
        (&[], &[], "d a, d a/tmp, f a/tmp/z 1, f a/x.log 1, f a/y 1, f b.log 1"),
        (&[], &["*.log"], "d a, d a/tmp, f a/tmp/z 1, f a/y 1"),
        (&[], &["tmp", "y"], "d a, f a/x.log 1, f b.log 1"),
        (&[], &["**/a/*.log"], "d a, d a/tmp, f a/tmp/z 1, f a/y 1, f b.log 1"),
        (&["*.log"], &[], "d a, d a/tmp, f a/x.log 1, f b.log 1"),
        (&["*.log", "z"], &["tmp"], "d a, f a/x.log 1, f b.log 1"),
        // The protected path itself is never left out.
        (&[], &["t", "a"], "f b.log 1"),
    ];
    for (include, exclude, expected) in cases {
        let choose = |_: &Tree, options: &mut FilesOptions| {
            let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
            (options.include, options.exclude) = (owned(include), owned(exclude));
        };
        check(script, choose, expected).await;
    }
}

#[tokio::test]
async fn absolute_patterns_choose() {
    let exclude = |tree: &Tree, options: &mut FilesOptions| {
        options.exclude = vec![format!("{}/a/**", tree.path.display())];
    };
    check("d a\n f a/b x\n d c\n d c/a\n f c/a/b x", exclude, "d a, d c, d c/a, f c/a/b 1").await;
}

#[tokio::test]
async fn of_a_cache_only_its_mark_is_captured() {
    let signature = "Signature: 8a477f597d28d172789f06886806bc55";
    let script = format!(
        "
        d cache
        f cache/CACHEDIR.TAG {signature} and more
        f cache/a x
        d cache/d
        d no
        f no/CACHEDIR.TAG Signature: 8a477f597d28d172789f06886806bc56
        f no/a x
        d short
        f short/CACHEDIR.TAG Signature
        d link
        l link/CACHEDIR.TAG ../cache/CACHEDIR.TAG
    "
    );
    let rest = "d link, l link/CACHEDIR.TAG ../cache/CACHEDIR.TAG, d no, f no/CACHEDIR.TAG 43, \
                f no/a 1, d short, f short/CACHEDIR.TAG 9";
    let skip = |_: &Tree, options: &mut FilesOptions| options.skip_caches = true;
    check(&script, skip, &format!("d cache, f cache/CACHEDIR.TAG 52, {rest}")).await;
    let all = format!("d cache, f cache/CACHEDIR.TAG 52, f cache/a 1, d cache/d, {rest}");
    check(&script, |_, _| {}, &all).await;
}

#[tokio::test]
async fn only_what_is_protected_is_listed() {
    let script = "d a\n f a/b x\n f a/c x\n d d\n f d/e x\n f f x";
    let choose = |tree: &Tree, options: &mut FilesOptions| {
        options.paths = vec![tree.at("d"), tree.at("a/c"), tree.at("d/e")];
    };
    check(script, choose, "d a, f a/c 1, d d, f d/e 1").await;
    let named_in_excluded = |tree: &Tree, options: &mut FilesOptions| {
        options.paths = vec![tree.at(""), tree.at("a/c")];
        options.exclude = vec!["a".into(), "c".into(), "d".into()];
    };
    check(script, named_in_excluded, "d a, f a/c 1, f f 1").await;
}

#[tokio::test]
async fn what_leads_to_a_protected_path_is_listed_without_times() {
    let (context, _) = context(1);
    let tree = Tree::new("d a\n f a/b x");
    let files = Files::new(options(vec![tree.at("a/b")])).expect("sound options");
    let items = list_files(&files, &context).await;
    let (host, rest) = items.split_first().expect("host");
    assert_eq!((host.key.display().as_str(), host.kind), ("h", ItemKind::Directory));
    assert_eq!(host.attributes.as_bytes(), b"");
    let (file, above) = rest.split_last().expect("file");
    assert_eq!(file.key, tree.key("a/b"));
    assert!(file.attributes.signed(AttributeTag::MODIFIED_NS).is_some());
    assert_eq!(above.len(), file.key.depth() - 2, "each directory on the way");
    for item in above {
        assert_eq!(item.kind, ItemKind::Directory);
        assert!(item.attributes.unsigned(AttributeTag::MODE).is_some());
        assert_eq!(item.attributes.signed(AttributeTag::MODIFIED_NS), None);
    }
}

#[tokio::test]
async fn metadata_is_that_of_the_file() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (context, _) = context(1);
    let tree = Tree::new("f a x\n l l a");
    let path = tree.at("a");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6751)).expect("mode");
    let time = std::time::UNIX_EPOCH - std::time::Duration::new(5, 1);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_modified(time))
        .expect("time");
    let items = list_files(&tree.files(), &context).await;
    let item = items.iter().find(|item| item.key == tree.key("a")).expect("item");
    let stat = std::fs::metadata(&path).expect("stat");
    let attributes = &item.attributes;
    assert_eq!(attributes.unsigned(AttributeTag::MODE), Some(0o6751));
    assert_eq!(attributes.unsigned(AttributeTag::USER_ID), Some(stat.uid().into()));
    assert_eq!(attributes.unsigned(AttributeTag::GROUP_ID), Some(stat.gid().into()));
    assert_eq!(attributes.signed(AttributeTag::MODIFIED_NS), Some(-5_000_000_001));
    assert!(item.version.is_some());
    let without: Vec<_> =
        items.iter().filter(|item| item.version.is_none()).map(|item| item.kind).collect();
    assert!(!without.contains(&ItemKind::File), "{without:?}");
}

#[tokio::test]
async fn extended_attributes_are_captured_where_there_are_some() {
    let (context, handles) = context(1);
    let tree = Tree::new("f a x\n d d\n l l a");
    let flags = rustix::fs::XattrFlags::empty();
    for name in ["a", "d"] {
        if rustix::fs::setxattr(tree.at(name), "user.two", b"\0\xff", flags).is_err() {
            return;
        }
        rustix::fs::setxattr(tree.at(name), "user.one", b"", flags).expect("attribute");
    }
    let expected = b"\x08\0user.one\0\0\0\0\x08\0user.two\x02\0\0\0\0\xff";
    for reach in [Some(()), None] {
        let mut files = tree.files();
        if reach.is_none() {
            let source = Arc::get_mut(&mut files.source).expect("alone");
            source.reach = super::super::reach::Reach::without_openat2();
        }
        let items = list_files(&files, &context).await;
        for name in ["a", "d"] {
            let item = items.iter().find(|item| item.key == tree.key(name)).expect("item");
            assert_eq!(item.attributes.get(AttributeTag::EXTENDED), Some(&expected[..]), "{name}");
        }
    }
    handles.monitor.assert_no_problems();
}

#[tokio::test]
async fn holes_are_extents_where_the_file_system_tells() {
    let (context, _) = context(1);
    let tree = Tree::new("f dense 12345");
    let file = std::fs::File::create(tree.at("holes")).expect("file");
    file.set_len(10 << 20).expect("length");
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4_096], 5 << 20).expect("write");
    let items = list_files(&tree.files(), &context).await;
    let expected = ["f dense 5", "f holes [5242880]+4096+[5238784]"];
    assert_eq!(tree.show(&items), expected);
}

#[tokio::test]
async fn a_path_that_is_missing_or_led_to_by_a_link_is_refused() {
    let (context, handles) = context(1);
    let tree = Tree::new("d a\n f a/f x\n l l a\n l m a/f");
    let cut = async |name: &str| {
        let files = Files::new(options(vec![tree.at(name)])).expect("sound options");
        files.cut(None, &context).await.map(|_| ())
    };
    let error = cut("a/none").await.expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.subject().ends_with("a/none"), "{error}");
    let error = cut("l/f").await.expect_err("led to by a link");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("/a/f instead"), "{error}");
    handles.monitor.assert_no_problems();
    // A link is captured as one, which may not be what was meant.
    cut("m").await.expect("link");
    assert!(handles.monitor.problems().join("").contains("a symbolic link"));
    handles.monitor.reset();
    let both = Files::new(options(vec![tree.at("m"), tree.at("a")])).expect("sound options");
    both.cut(None, &context).await.expect("cut");
    handles.monitor.assert_no_problems();
}

#[tokio::test]
async fn commands_need_no_paths() {
    let (context, _) = testkit::still_context(1);
    let command = |name: &str| CommandItem {
        name: name.into(),
        command: vec!["true".into()],
        timeout: std::time::Duration::from_secs(60),
    };
    let commands = vec![command("b"), command("a")];
    let files = Files::new(FilesOptions { commands, ..options(Vec::new()) }).expect("sound");
    let items = list_files(&files, &context).await;
    let keys: Vec<_> = items.iter().map(|item| item.key.display()).collect();
    assert_eq!(keys, ["h", "h/@commands", "h/@commands/a", "h/@commands/b"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let sound = || options(vec!["/etc".into()]);
    let command = CommandItem {
        name: "a".into(),
        command: vec!["true".into()],
        timeout: std::time::Duration::from_secs(1),
    };
    let without_paths = FilesOptions { paths: Vec::new(), ..sound() };
    assert!(Files::new(sound()).is_ok());
    assert!(
        Files::new(FilesOptions { commands: vec![command.clone()], ..without_paths.clone() })
            .is_ok()
    );
    for wrong in [
        without_paths,
        FilesOptions { host: String::new(), ..sound() },
        FilesOptions { host: "a/b".into(), ..sound() },
        FilesOptions { host: "..".into(), ..sound() },
        FilesOptions { paths: vec![PathBuf::from("etc")], ..sound() },
        FilesOptions { paths: vec![PathBuf::from("/@commands")], ..sound() },
        FilesOptions { exclude: vec!["[".into()], ..sound() },
        FilesOptions { include: vec!["a/b".into()], ..sound() },
        FilesOptions { commands: vec![command.clone(), command], ..sound() },
    ] {
        let error = Files::new(wrong.clone()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong:?}");
    }
}

#[tokio::test]
async fn device_nodes_are_told_and_left_out() {
    let (context, handles) = context(1);
    let tree = Tree::new("f a x");
    let null = rustix::fs::makedev(1, 3);
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    if rustix::fs::mknodat(rustix::fs::CWD, tree.at("null"), kind, mode, null).is_err() {
        // Only root may make one.
        return;
    }
    let items = list_files(&tree.files(), &context).await;
    assert_eq!(tree.show(&items), ["f a 1"]);
    let problems = handles.monitor.problems();
    assert!(problems.len() == 1 && problems[0].contains("null"), "{problems:?}");
}

/// Names so deep that no key can hold them: the walk goes on without them.
#[tokio::test]
async fn a_path_that_makes_no_key_is_a_problem() {
    use rustix::fs::{Mode, OFlags};
    let (context, handles) = context(1);
    let tree = Tree::new("f z x");
    let name = "n".repeat(255);
    let mut at = rustix::fs::open(&tree.path, OFlags::PATH, Mode::empty()).expect("directory");
    for _ in 0..260 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("directory");
        at = rustix::fs::openat(&at, &name, OFlags::PATH, Mode::empty()).expect("directory");
    }
    let items = list_files(&tree.files(), &context).await;
    assert_eq!(items.last().map(|item| item.key.clone()), Some(tree.key("z")));
    assert!(items.len() > 255, "{}", items.len());
    let problems = handles.monitor.problems();
    assert!(problems.len() == 1 && problems[0].contains("65,535"), "{problems:?}");
}

/// What belongs to others is listed as far as it can be seen, and everything else is listed.
#[tokio::test]
async fn what_cannot_be_read_is_told_and_the_walk_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let (context, handles) = context(1);
    let tree = Tree::new("d locked\n f locked/in x\n f own x\n f secret x");
    let set = |name: &str, mode| {
        std::fs::set_permissions(tree.at(name), PermissionsExt::from_mode(mode)).expect("mode");
    };
    set("..", 0o755);
    set("", 0o755);
    set("secret", 0o000);
    set("locked", 0o000);
    let files = tree.files();
    let cut = files.cut(None, &context).await.expect("cut");
    let contents = Contents::new(Arc::clone(&files.source), Arc::default(), &context);
    let (mut items, mut opened) = (Vec::new(), None);
    let is_walked = std::thread::scope(|scope| {
        let walking = scope.spawn(|| {
            // Of this thread and those that it starts.
            let nobody = rustix::process::Uid::from_raw(65_534);
            let is_set = rustix::thread::set_thread_res_uid(nobody, nobody, nobody).is_ok();
            if !is_set && rustix::process::geteuid().is_root() {
                // A root that can be nobody else sees everything.
                return false;
            }
            walk(&files.source, &contents.names, &context, &mut |batch| {
                items.extend(batch.into_iter().map(|found| found.item));
                std::ops::ControlFlow::Continue(())
            })
            .expect("walk");
            let secret = items.iter().find(|item| item.key == tree.key("secret")).expect("listed");
            opened = cut.open(secret, 0, 0..1).now_or_never().expect("in place").err();
            true
        });
        walking.join().expect("walk")
    });
    set("locked", 0o700);
    if !is_walked {
        return;
    }
    assert_eq!(tree.show(&items), ["d locked", "f own 1", "f secret 1"]);
    assert_eq!(opened.map(|error| error.kind()), Some(ErrorKind::Denied));
    let problems = handles.monitor.problems();
    assert!(problems.len() == 1 && problems[0].contains("list directory"), "{problems:?}");
}

/// More directories and names than are read ahead, one directory longer than several runs. All are
/// names of one file: a file system makes names faster than files.
fn make_many(tree: &Tree, directories: usize, names: usize, flat: usize) -> usize {
    tree.change("f one x");
    for directory in 0..directories {
        tree.change(&format!("d d{directory}"));
        for name in 0..names {
            tree.change(&format!("h d{directory}/f{name} one"));
        }
    }
    tree.change("d flat");
    for name in 0..flat {
        tree.change(&format!("h flat/{name} one"));
    }
    directories * (names + 1) + flat + 2
}

async fn check_many(directories: usize, names: usize, flat: usize) {
    let (context, handles) = context(1);
    let tree = Tree::new("");
    let count = make_many(&tree, directories, names, flat);
    let items = list_files(&tree.files(), &context).await;
    assert_eq!(tree.show(&items).len(), count);
    handles.monitor.assert_no_problems();
}

#[tokio::test]
async fn a_large_tree_is_in_key_order() {
    check_many(60, 50, 2_500).await;
}

#[tokio::test]
#[ignore = "the full tier runs it"]
async fn a_tree_larger_than_what_is_read_ahead_is_in_key_order() {
    check_many(400, 40, 20_000).await;
}

#[tokio::test]
async fn a_listing_that_nobody_wants_ends() {
    let (context, _) = context(1);
    let tree = Tree::new("");
    make_many(&tree, 10, 10, 5_000);
    let files = tree.files();
    let cut = files.cut(None, &context).await.expect("cut");
    let model::CutItems::Sorted(mut batches) = cut.items(&context) else { panic!("not sorted") };
    futures::StreamExt::next(&mut batches).await.expect("a batch").expect("items");
    drop(batches);
    assert_eq!(cut.proof().await.expect_err("no proof").kind(), ErrorKind::Invalid);
    assert_eq!(list(cut.as_ref(), &context).await.len(), list_files(&files, &context).await.len());
}

#[tokio::test]
async fn cancelling_ends_a_listing_with_an_error() {
    let (context, handles) = context(1);
    let tree = Tree::new("");
    make_many(&tree, 10, 10, 5_000);
    let cut = tree.files().cut(None, &context).await.expect("cut");
    let model::CutItems::Sorted(mut batches) = cut.items(&context) else { panic!("not sorted") };
    handles.cancel.cancel();
    let mut last = None;
    while let Some(batch) = futures::StreamExt::next(&mut batches).await {
        last = Some(batch);
    }
    let error = last.expect("an end").expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
