//! Owners, modes, times and extended attributes.

use std::os::unix::fs::MetadataExt;

use model::{AttributeTag, Counter, ErrorKind};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;
use crate::files::target::Owners;

/// An access list: the owner, user 1234 and the mask may read and write, nobody else anything.
fn access_list() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 6, none),
        entry(0x02, 6, 1_234),
        entry(0x04, 0, none),
        entry(0x10, 6, none),
        entry(0x20, 0, none),
    ]
    .concat()
}

/// Says whether the file system of the tests holds an attribute.
fn holds(bench: &Bench, name: &str, value: &[u8]) -> bool {
    setxattr(bench.outside(), name, value, XattrFlags::empty()).is_ok()
}

fn attribute(bench: &Bench, path: &str, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1_024];
    let length = getxattr(bench.root().join(path), name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[tokio::test]
async fn extended_attributes_and_access_lists_come_back() {
    let bench = Bench::new();
    let (user, list) = (("user.lifeboat", &b"\0value\xff"[..]), access_list());
    let mut pairs: Vec<(&str, &[u8])> = Vec::new();
    if holds(&bench, "system.posix_acl_access", &list) {
        pairs.push(("system.posix_acl_access", &list));
    }
    if holds(&bench, user.0, user.1) {
        pairs.push(user);
    }
    let large = vec![7; 2_000];
    if holds(&bench, "user.large", &large) {
        pairs.push(("user.large", &large));
    }
    if is_root() && holds(&bench, "trusted.lifeboat", b"t") {
        pairs.push(("trusted.lifeboat", b"t"));
    }
    let things = [
        with_extended(with_mode(directory("d"), 0o660), &pairs),
        with_extended(with_mode(file("f", "content"), 0o660), &pairs),
    ];
    for thing in &things {
        bench.create(thing).await.expect("create");
    }
    bench.finish();
    bench.handles.monitor.assert_no_problems();
    let found = bench.survey().await;
    for thing in &things {
        let found = found[&thing.item.key].item.attributes.without(NAMES);
        let wanted = &thing.item.attributes;
        let kept = |attributes: &Attributes| attributes.without(&[AttributeTag::EXTENDED]);
        assert_eq!(kept(&found), kept(wanted));
        let extended = |attributes: &Attributes| {
            attributes.get(AttributeTag::EXTENDED).unwrap_or_default().to_vec()
        };
        assert_eq!(extended(&found), extended(wanted));
    }
    // A file replaced by one without them has none; so has a directory.
    bench.replace(&file("f", "content")).await.expect("replace");
    bench.replace(&directory("d")).await.expect("replace");
    bench.finish();
    for (_, thing) in bench.survey().await {
        assert_eq!(thing.item.attributes.get(AttributeTag::EXTENDED), None, "{:?}", thing.item.key);
    }
}

#[tokio::test]
async fn capabilities_survive_the_change_of_owner() {
    let bench = Bench::new();
    let capability = [&[1, 0, 0, 2], &[0, 4, 0, 0][..], &[0; 12]].concat();
    std::fs::write(bench.outside().join("probe"), "x").expect("write");
    let probe = bench.outside().join("probe");
    let is_held = setxattr(probe, "security.capability", &capability, XattrFlags::empty()).is_ok();
    let thing = with_extended(file("ping", "x"), &[("security.capability", &capability)]);
    bench.create(&thing).await.expect("create");
    let found = attribute(&bench, "ping", "security.capability");
    assert_eq!(found, is_held.then_some(capability));
}

#[tokio::test]
async fn what_a_directory_hands_down_is_not_kept() {
    let mut bench = Bench::new();
    let list = access_list();
    if setxattr(bench.root(), "system.posix_acl_default", &list, XattrFlags::empty()).is_err() {
        return;
    }
    bench.reopen();
    for thing in [directory("d"), file("d/f", "x"), file("f", "x"), fifo("p"), directory("d/d")] {
        bench.create(&thing).await.expect("create");
    }
    bench.finish();
    bench.handles.monitor.assert_no_problems();
    for (key, found) in bench.survey().await {
        let attributes = &found.item.attributes;
        assert_eq!(attributes.get(AttributeTag::EXTENDED), None, "{key:?}");
        let mode = attributes.unsigned(AttributeTag::MODE);
        assert!(matches!(mode, Some(0o750 | 0o640 | 0o604)), "{key:?} has mode {mode:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_held_is_a_problem_once_and_counted() {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        // The kernel allows these on files and directories alone.
        let thing = with_extended(fifo(name), &[("user.lifeboat", b"x")]);
        bench.create(&thing).await.expect("create all the same");
    }
    bench.finish();
    let problems = bench.handles.monitor.problems();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("set a: its user.lifeboat"), "{}", problems[0]);
    assert!(problems[1].contains('3') && problems[1].contains("user.lifeboat"), "{}", problems[1]);
    assert_eq!(bench.survey().await.len(), 3);
    assert_eq!(bench.handles.monitor.count_of(Counter::RestoredItems), 0, "the caller counts");
}

#[tokio::test]
async fn bits_that_lend_rights_need_the_owner_of_the_source() {
    let keep = TargetOptions { owners: Owners::Keep, ..TargetOptions::default() };
    let bench = Bench::with(keep);
    let mut stranger = with_mode(file("stranger", "x"), 0o6755);
    stranger.item.attributes = Attributes::builder()
        .unsigned(AttributeTag::MODE, 0o6755)
        .unsigned(AttributeTag::USER_ID, 54_321)
        .unsigned(AttributeTag::GROUP_ID, 54_322)
        .build();
    bench.create(&stranger).await.expect("create");
    let found = std::fs::metadata(bench.root().join("stranger")).expect("look");
    assert_eq!(found.mode() & 0o7777, 0o755);
    let own = (u64::from(found.uid()), u64::from(found.gid()));
    assert_eq!(own, own_ids());
    stranger.item.key = key("own");
    stranger.item.attributes = Attributes::builder()
        .unsigned(AttributeTag::MODE, 0o6755)
        .unsigned(AttributeTag::USER_ID, own.0)
        .unsigned(AttributeTag::GROUP_ID, own.1)
        .build();
    bench.create(&stranger).await.expect("create");
    let found = std::fs::metadata(bench.root().join("own")).expect("look");
    assert_eq!(found.mode() & 0o7777, 0o6755);
}

#[tokio::test]
async fn owners_by_name_are_those_of_this_host() {
    if !is_root() {
        return;
    }
    let options = TargetOptions { owners: Owners::ByName, ..TargetOptions::default() };
    let bench = Bench::with(options);
    for (path, name, expected) in [("a", "root", 0), ("b", "nobody of this name", 54_321)] {
        let mut thing = file(path, "x");
        thing.item.attributes = Attributes::builder()
            .unsigned(AttributeTag::USER_ID, 54_321)
            .bytes(AttributeTag::USER_NAME, name.as_bytes())
            .build();
        bench.create(&thing).await.expect("create");
        let found = std::fs::metadata(bench.root().join(path)).expect("look");
        assert_eq!(found.uid(), expected, "{name}");
    }
}

#[tokio::test]
async fn attributes_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let refused = [
        Attributes::builder().unsigned(AttributeTag::MODE, 0o10_000),
        Attributes::builder().unsigned(AttributeTag::USER_ID, u64::from(u32::MAX)),
        Attributes::builder().unsigned(AttributeTag::GROUP_ID, 1 << 40),
        Attributes::builder().bytes(AttributeTag::EXTENDED, b"\xff\xffa"),
    ];
    for attributes in refused.map(model::AttributesBuilder::build) {
        for mut thing in [file("x", "x"), directory("x"), fifo("x"), symlink("x", "y")] {
            thing.item.attributes = attributes.clone();
            let error = bench.create(&thing).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{attributes:?}");
        }
    }
    assert!(bench.target.is_empty().expect("look"));
}

/// Root without the right to give things away stands for everybody else.
#[test]
fn owners_that_may_not_be_set_are_a_problem_once_and_counted() {
    let restore = || {
        if is_root() {
            let mut sets = capabilities(None).expect("capabilities");
            sets.effective.remove(CapabilitySet::CHOWN);
            set_capabilities(None, sets).expect("give up a right of this thread");
        }
        let bench = Bench::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            for mut thing in [file("f", "x"), directory("d"), symlink("l", "x"), fifo("p")] {
                thing = with_mode(thing, 0o6750);
                let attributes = thing.item.attributes.without(&[AttributeTag::USER_ID]);
                let mut builder = Attributes::builder().unsigned(AttributeTag::USER_ID, 54_321);
                for (tag, value) in attributes.iter() {
                    builder = builder.bytes(tag, value);
                }
                thing.item.attributes = builder.build();
                bench.create(&thing).await.expect("create all the same");
            }
            bench.finish();
            let problems = bench.handles.monitor.problems();
            assert_eq!(problems.len(), 2, "{problems:#?}");
            assert!(problems[0].contains("its owner"), "{}", problems[0]);
            assert!(problems[1].contains("4 items"), "{}", problems[1]);
            let own = own_ids().0;
            for (key, found) in bench.survey().await {
                let attributes = &found.item.attributes;
                assert_eq!(attributes.unsigned(AttributeTag::USER_ID), Some(own));
                let mode = attributes.unsigned(AttributeTag::MODE).expect("mode");
                assert_eq!(mode & 0o4000, 0, "{key:?} lends our rights");
                let time = attributes.signed(AttributeTag::MODIFIED_NS);
                assert!(time.is_some_and(|time| time < 1_700_000_000_000_000_000), "{key:?}");
            }
        });
    };
    std::thread::spawn(restore).join().expect("restore");
}
