//! States of the real engine as file systems, asked as a kernel asks.

use std::ops::Range;

use futures::TryStreamExt as _;
use model::Attributes;
use object_store::memory::InMemory;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutPayload};
use testkit::ScriptedSystem;
use testkit::scripted::key;

use super::*;
use crate::fixtures::{self, captured};
use crate::select::Items;

const OWNER: Owner = Owner { user_id: 7, group_id: 8 };

async fn mounted(
    repository: &Repository,
    states: &[&ResolvedSystem],
    context: &Context,
) -> Mounted {
    let options = MountOptions { owner: OWNER, inodes_max: 4 };
    Mounted::open(repository, states, &options, context).await.expect("mount")
}

/// Looks a path up, name by name.
async fn find(mounted: &Mounted, path: &str) -> Facts {
    let mut facts = mounted.facts(Inode::ROOT).await.expect("root");
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let found = mounted.look_up(facts.inode, name.as_bytes()).await.expect(path);
        facts = found.unwrap_or_else(|| panic!("{name} of {path} is not there"));
    }
    facts
}

async fn read(mounted: &Mounted, path: &str) -> Result<Vec<u8>> {
    let file = mounted.open_file(find(mounted, path).await.inode).await?;
    file.read(0, u32::MAX).await
}

async fn names(folder: &Folder) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let page = folder.page(names.len() as u64).await.expect("page");
        if page.is_empty() {
            return names;
        }
        names.extend(page.iter().map(|one| String::from_utf8_lossy(&one.name).into_owned()));
    }
}

#[tokio::test]
async fn a_tree_is_walked_with_all_that_was_captured() {
    let (context, handles) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let system = ScriptedSystem::new(
        "dir d mode:750 mtime:-5\nfile d/a mode:640 mtime:1795531530000000001 \"text\" hole*5 \"end\"\n\
         file d/empty mode:600\nfifo d/pipe mode:600\nsymlink d/link ../elsewhere",
    );
    let state = captured(&repository, &system, &context).await;
    let mounted = mounted(&repository, &[&state], &context).await;
    let d = find(&mounted, "d").await;
    assert_eq!((d.kind, d.mode, d.modified.unix_ns), (Kind::Directory, 0o750, -5));
    assert_eq!(mounted.facts(d.inode).await.expect("known"), d);
    let folder = mounted.open_folder(d.inode).await.expect("open");
    assert_eq!(names(&folder).await, ["a", "empty", "link", "pipe"]);
    assert_eq!((folder.inode(), folder.parent()), (d.inode, Inode::ROOT));
    for listed in folder.page(0).await.expect("page") {
        let facts = mounted.enter(&folder, &listed).await.expect("enter").expect("there");
        let path = format!("d/{}", String::from_utf8_lossy(&listed.name));
        assert_eq!(facts, find(&mounted, &path).await, "a listing tells the same");
        assert_eq!((facts.inode, facts.kind), (listed.inode, listed.kind));
    }
    let a = find(&mounted, "d/a").await;
    assert_eq!((a.kind, a.size_bytes, a.stored_bytes, a.names), (Kind::File, 12, 7, 1));
    assert_eq!((a.mode, a.modified.unix_ns), (0o640, 1_795_531_530_000_000_001));
    assert_eq!(a.owner, OWNER, "the source names none");
    assert_eq!(read(&mounted, "d/a").await.expect("read"), b"text\0\0\0\0\0end");
    assert_eq!(read(&mounted, "d/empty").await.expect("read"), b"");
    assert_eq!(find(&mounted, "d/pipe").await.kind, Kind::Fifo);
    let link = find(&mounted, "d/link").await;
    assert_eq!((link.kind, link.size_bytes), (Kind::Symlink, 12));
    assert_eq!(&mounted.link_target(link.inode).await.expect("target")[..], b"../elsewhere");

    for name in [&b"q"[..], b"", b"a\0b", b"..", b"text/x"] {
        assert_eq!(mounted.look_up(d.inode, name).await.expect("look up"), None, "{name:?}");
    }
    for (inode, what) in [(d.inode, "a directory"), (link.inode, "a link"), (Inode(99), "unknown")]
    {
        let error = mounted.open_file(inode).await.err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::Invalid), "{what}");
    }
    assert!(mounted.link_target(a.inode).await.is_err());
    mounted.forget(d.inode, 100);
    assert!(mounted.facts(d.inode).await.is_err(), "forgotten");
    handles.monitor.assert_no_problems();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_range_of_a_file_reads_as_it_should() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let script = "file f 1*3000000 hole*70000 2*10 3~200000 hole*1\nfile small \"s\"";
    let state = captured(&repository, &ScriptedSystem::new(script), &context).await;
    let zeros = |count| vec![0_u8; count];
    let parts = [
        testkit::random_bytes(1, 3_000_000).to_vec(),
        zeros(70_000),
        testkit::random_bytes(2, 10).to_vec(),
        testkit::text_bytes(3, 200_000).to_vec(),
        zeros(1),
    ];
    let content = parts.concat();
    let length = content.len() as u64;
    let mounted = mounted(&repository, &[&state], &context).await;
    let inode = find(&mounted, "f").await.inode;
    let file = mounted.open_file(inode).await.expect("open");
    let check = async |range: Range<u64>| {
        let read = file.read(range.start, (range.end - range.start) as u32).await.expect("read");
        let end = range.end.min(length) as usize;
        assert!(read == content[(range.start as usize).min(end)..end], "{range:?}");
    };
    // As `cat` does, as a kernel does that reads ahead, and anywhere.
    for start in (0..length).step_by(128 << 10) {
        check(start..start + (128 << 10)).await;
    }
    for n in 0..300_u64 {
        let start = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % length;
        check(start..start + n * 997).await;
    }
    for edge in [0, 2_999_999, 3_000_000, 3_070_000, 3_070_010, length - 1, length, length + 5] {
        check(edge..edge).await;
        check(edge..edge + 1).await;
        check(edge.saturating_sub(3)..edge + 3).await;
    }
    check(0..length + 100).await;
    assert_eq!(file.read(u64::MAX, 5).await.expect("read"), b"");
    for (offset, data, hole) in [
        (0, Some(0), Some(3_000_000)),
        (3_000_000, Some(3_070_000), Some(3_000_000)),
        (3_050_000, Some(3_070_000), Some(3_050_000)),
        (3_100_000, Some(3_100_000), Some(length - 1)),
        (length - 1, None, Some(length - 1)),
        (length, None, None),
    ] {
        assert_eq!((file.seek(offset, false), file.seek(offset, true)), (data, hole), "{offset}");
    }
    let small = mounted.open_file(find(&mounted, "small").await.inode).await.expect("open");
    assert_eq!(small.seek(0, true), Some(1), "the end is a hole");
}

/// Changes a byte in the largest pack of a kind.
async fn damage(objects: &InMemory, kind: &str, at: impl Fn(usize) -> usize) {
    let packs: Vec<_> = objects.list(Some(&kind.into())).try_collect().await.expect("list");
    let pack = packs.iter().max_by_key(|pack| pack.size).expect("a pack");
    let bytes = objects.get(&pack.location).await.expect("get").bytes().await.expect("bytes");
    let mut bytes = bytes.to_vec();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    objects.put(&pack.location, PutPayload::from(bytes)).await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_is_an_error_told_once_and_the_rest_reads() {
    let (context, handles) = testkit::context(1);
    let objects = InMemory::new();
    let repository = fixtures::repository(&objects, &context).await;
    let system = ScriptedSystem::new("dir d\nfile d/bad 1*1500000 2*1500000");
    captured(&repository, &system, &context).await;
    damage(&objects, "pack", |_| 200).await;
    system.edit("file d/good 9*500000");
    let state = captured(&repository, &system, &context).await;
    handles.monitor.reset();
    let mounted = mounted(&repository, &[&state], &context).await;
    let file = mounted.open_file(find(&mounted, "d/bad").await.inode).await.expect("open");
    let mut failed = 0;
    for start in (0..3_000_000).step_by(4096) {
        match file.read(start, 4096).await {
            Ok(bytes) => {
                let at = start % 1_500_000;
                let all = testkit::random_bytes(1 + start / 1_500_000, 1_500_000);
                let end = (at as usize + bytes.len()).min(all.len());
                assert!(bytes[..end - at as usize] == all[at as usize..end], "never wrong bytes");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                failed += 1;
            }
        }
    }
    assert!((1..700).contains(&failed), "{failed}");
    assert_eq!(read(&mounted, "d/good").await.expect("read"), testkit::random_bytes(9, 500_000));
    let problems = handles.monitor.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("/d/bad"), "{problems:?}");
}

#[tokio::test]
async fn a_damaged_directory_is_an_error_and_not_a_shorter_one() {
    let (context, handles) = testkit::context(1);
    let objects = InMemory::new();
    let repository = fixtures::repository(&objects, &context).await;
    let count = 10_000;
    let files = (0..count).map(|n| format!("file d/f{n:05} mtime:{}", n * 7_919));
    let script = format!("dir d\n{}\nfile e", files.collect::<Vec<_>>().join("\n"));
    let state = captured(&repository, &ScriptedSystem::new(&script), &context).await;
    // Leaves stand before what leads to them, the first of them first.
    damage(&objects, "meta", |length| length / 2).await;
    let items = Items::Stored(repository.tree(&state.snapshot).expect("tree"));
    let state = ResolvedSystem { items, ..state };
    handles.monitor.reset();
    let mounted = mounted(&repository, &[&state], &context).await;
    let d = find(&mounted, "d").await.inode;
    let folder = mounted.open_folder(d).await.expect("open");
    let mut listed = 0;
    let error = loop {
        match folder.page(listed).await {
            Ok(page) => {
                assert!(!page.is_empty(), "it ends as if it were whole after {listed}");
                listed += page.len() as u64;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!((1..count).contains(&listed), "{listed}");
    let name = |n: u64| format!("f{n:05}").into_bytes();
    assert!(mounted.look_up(d, &name(0)).await.expect("sound").is_some());
    let error = mounted.look_up(d, &name(listed)).await.expect_err("not as if it were not there");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(mounted.look_up(d, &name(count - 1)).await.expect("sound").is_some());
    let problems = handles.monitor.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("read item /d: "), "{problems:?}");
}

#[tokio::test]
async fn hard_links_have_one_number_and_lead_to_one_content() {
    let (context, handles) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let words = "h/ h/a/ h/a/first*3 h/b/ h/b/broken@h/a/nothing h/b/second@h/a/first";
    let state = fixtures::state(&repository, words, Some("h"), ".").await;
    let mounted = mounted(&repository, &[&state], &context).await;
    assert_eq!(find(&mounted, "a/first").await.names, 1, "nothing tells of further ones yet");
    let second = find(&mounted, "b/second").await;
    let first = find(&mounted, "a/first").await;
    assert_eq!(first, second);
    assert_eq!((first.names, first.kind, first.size_bytes), (2, Kind::File, 3));
    assert_eq!(mounted.facts(first.inode).await.expect("known"), first);
    let b = find(&mounted, "b").await;
    let folder = mounted.open_folder(b.inode).await.expect("open");
    let page = folder.page(0).await.expect("page");
    assert_eq!((page[1].inode, page[1].kind), (first.inode, Kind::File));
    assert_eq!(mounted.enter(&folder, &page[1]).await.expect("enter"), Some(first));
    let error = mounted.enter(&folder, &page[0]).await.expect_err("broken");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let unread = mounted.enter_unread(&folder, &page[0]).expect("its name");
    assert_eq!((unread.kind, unread.mode), (Kind::File, 0));
    let error = mounted.facts(unread.inode).await.expect_err("broken");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        handles.monitor.problems()[0].contains("/b/broken"),
        "{:?}",
        handles.monitor.problems()
    );
    // Found four times by one name or the other, it is known until it is forgotten as often.
    mounted.forget(first.inode, 3);
    assert!(mounted.facts(first.inode).await.is_ok());
    mounted.forget(first.inode, 1);
    assert!(mounted.facts(first.inode).await.is_err());
    let path = fixtures::state(&repository, words, Some("h"), "a").await;
    let only = self::mounted(&repository, &[&path], &context).await;
    assert_eq!(find(&only, "first").await.kind, Kind::File, "a path is shown as it is");
    let file = fixtures::state(&repository, words, Some("h"), "a/first").await;
    let refused = Mounted::open(&repository, &[&file], &MountOptions::new(OWNER), &context).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Invalid));
}

#[tokio::test]
async fn a_long_directory_is_listed_from_anywhere_with_little_at_hand() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let words: Vec<_> = (0..20_000).map(|n| format!("d/f{n:05}")).collect();
    let words = format!("d/ {} e", words.join(" "));
    let state = fixtures::state(&repository, &words, None, ".").await;
    let mounted = mounted(&repository, &[&state], &context).await;
    let d = find(&mounted, "d").await.inode;
    let folder = mounted.open_folder(d).await.expect("open");
    let expected: Vec<_> = (0..20_000).map(|n| format!("f{n:05}")).collect();
    assert_eq!(names(&folder).await, expected);
    assert!(folder.held().await < 5_000, "{}", folder.held().await);
    for offset in [0, 19_990, 12_345, 12_345, 12_000, 100, 0, 20_000, 30_000, 5] {
        let page = folder.page(offset).await.expect("page");
        let first = page.first().map(|one| String::from_utf8_lossy(&one.name).into_owned());
        assert_eq!(first.as_ref(), expected.get(offset as usize), "{offset}");
        assert!(folder.held().await < 5_000);
    }
    assert_eq!(mounted.surplus(), [], "a listing alone is not remembered");
    for name in expected.iter().take(6) {
        mounted.look_up(d, name.as_bytes()).await.expect("look up").expect("there");
    }
    let surplus = mounted.surplus();
    assert_eq!(surplus.len(), 2, "six files, of which four may be");
    assert_eq!((surplus[0].parent, &surplus[0].name[..]), (d, &b"f00000"[..]));
}

#[tokio::test]
async fn several_systems_have_a_folder_each() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let system = ScriptedSystem::new("file same \"one\"");
    let one = captured(&repository, &system, &context).await;
    system.edit("file same \"two\"");
    let mut two = captured(&repository, &system, &context).await;
    two.stream = "prod.other".parse().expect("stream");
    let mounted = mounted(&repository, &[&one, &two], &context).await;
    let root = mounted.open_folder(Inode::ROOT).await.expect("open");
    assert_eq!(names(&root).await, ["lake", "other"]);
    assert_eq!(read(&mounted, "lake/same").await.expect("read"), b"one");
    assert_eq!(read(&mounted, "other/same").await.expect("read"), b"two");
    let (a, b) = (find(&mounted, "lake/same").await, find(&mounted, "other/same").await);
    assert_ne!(a.inode, b.inode);
    let other = mounted.open_folder(find(&mounted, "other").await.inode).await.expect("open");
    assert_eq!((names(&other).await, other.parent()), (vec!["same".to_owned()], Inode::ROOT));
    assert_eq!(mounted.look_up(Inode::ROOT, b"third").await.expect("look up"), None);
}

#[tokio::test]
async fn content_beside_children_is_a_file_and_impossible_names_are_told() {
    let (context, handles) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let script = "node n \"own\"\nnode n/child \"below\"\nfile a%2fb \"x\"\nfile %2e%2e \"y\"\n\
                  node m \"hidden\"\nfile m/.content \"child\"";
    let state = captured(&repository, &ScriptedSystem::new(script), &context).await;
    handles.monitor.reset();
    let mounted = mounted(&repository, &[&state], &context).await;
    let root = mounted.open_folder(Inode::ROOT).await.expect("open");
    assert_eq!(names(&root).await, ["m", "n"]);
    assert_eq!(handles.monitor.problems().len(), 2, "{:?}", handles.monitor.problems());
    let n = mounted.open_folder(find(&mounted, "n").await.inode).await.expect("open");
    assert_eq!(names(&n).await, [".content", "child"]);
    assert_eq!(read(&mounted, "n/.content").await.expect("read"), b"own");
    assert_eq!(read(&mounted, "n/child/.content").await.expect("read"), b"below");
    let content = find(&mounted, "n/.content").await;
    assert_eq!(
        (content.kind, content.inode),
        (Kind::File, n.page(0).await.expect("page")[0].inode)
    );
    assert_eq!(mounted.facts(content.inode).await.expect("known"), content);
    let m = mounted.open_folder(find(&mounted, "m").await.inode).await.expect("open");
    assert_eq!(names(&m).await, [".content"]);
    assert_eq!(read(&mounted, "m/.content").await.expect("read"), b"child", "a child goes first");
}

#[tokio::test]
async fn extended_attributes_come_as_captured() {
    let (context, _) = testkit::context(1);
    let repository = fixtures::repository(&InMemory::new(), &context).await;
    let mut state = captured(&repository, &ScriptedSystem::new("file a \"x\""), &context).await;
    state.host = None;
    let mounted = mounted(&repository, &[&state], &context).await;
    let a = find(&mounted, "a").await.inode;
    assert_eq!(mounted.extended(a).await.expect("none"), []);
    let attributes =
        Attributes::builder().bytes(AttributeTag::EXTENDED, b"\x06\0user.a\x01\0\0\0v");
    let item = model::Item {
        key: key("a"),
        kind: ItemKind::File,
        attributes: attributes.build(),
        version: None,
        extents: Vec::new(),
    };
    let pair = (Bytes::from_static(b"user.a"), Bytes::from_static(b"v"));
    assert_eq!(attributes::extended(&item).expect("one"), [pair]);
}
