//! What the script can ask for happens.

use futures::StreamExt;
use model::{ExtentBody, Next, Payload, Recheck, RestoreStep, System, Target, Timestamp};

use super::*;
use crate::conformance::{Baseline, observe, read_content};
use crate::{context, still_context};

fn item(system: &ScriptedSystem, path: &str) -> Item {
    system.items().get(&key(path)).cloned().unwrap_or_else(|| panic!("{path} is there"))
}

#[tokio::test]
async fn a_cut_is_frozen() {
    let (context, _) = context(1);
    let system = ScriptedSystem::new(r#"file a "one""#);
    let cut = system.cut(None, &context).await.expect("cut");
    system.edit(r#"file a "two""#);
    let state = observe(cut.as_ref(), &context).await.expect("observe");
    assert_eq!(&state[&key("a")].content[..], b"one");
    assert_eq!(&system.content_of(&key("a"))[..], b"two");
    cut.release().await.expect("release");
    let error = cut.open(&item(&system, "a"), 0, 0..1).await.err().expect("released");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_item_that_changes_while_read_is_told_and_then_steady() {
    let (context, _) = context(1);
    let system = ScriptedSystem::new("file a 1*10000");
    system.change_while_read(&key("a"), 2);
    let cut = system.cut(None, &context).await.expect("cut");
    let mut listed = item(&system, "a");
    let mut times = 0;
    let content = loop {
        let content = read_content(cut.as_ref(), &listed).await.expect("read");
        match cut.recheck(&listed).await.expect("recheck") {
            Recheck::Changed(item) => (listed, times) = (*item, times + 1),
            Recheck::Same => break content,
            Recheck::Gone => panic!("gone"),
        }
        assert_ne!(content, system.content_of(&key("a")), "a mixture");
    };
    assert_eq!((times, content), (2, system.content_of(&key("a"))));
    system.vanish(&key("a"));
    assert_eq!(cut.recheck(&listed).await.expect("recheck"), Recheck::Gone);
    let error = cut.open(&listed, 0, 0..1).await.err().expect("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn opened_bytes_are_counted() {
    let (context, _) = context(1);
    let system = ScriptedSystem::new("file a 1*10000 hole*500 2*20000");
    let cut = system.cut(None, &context).await.expect("cut");
    read_content(cut.as_ref(), &item(&system, "a")).await.expect("read");
    cut.open(&item(&system, "a"), 2, 5..10).await.expect("open");
    assert_eq!(system.opened_bytes(&key("a")), 30_005);
    assert_eq!((system.take_opened_bytes(), system.take_opened_bytes()), (30_005, 0));
}

#[test]
fn bytes_rot_without_a_trace_and_identities_lie() {
    let system = ScriptedSystem::new("file a blk=1*100");
    let (before, content) = (item(&system, "a"), system.content_of(&key("a")));
    system.rot(&key("a"));
    assert_eq!(item(&system, "a"), before);
    assert_ne!(system.content_of(&key("a")), content);

    system.edit("file a blk=2*100");
    let after = item(&system, "a");
    assert_eq!(after.extents, before.extents, "the same identity for other bytes");
    assert_ne!(after.version, before.version);
    let distrusted = system.clone().with_extent_epoch(Epoch(2));
    assert!(distrusted.facts().extent_epoch > system.facts().extent_epoch);
}

#[test]
fn checksums_of_stripes_show_where_bytes_changed() {
    let system = ScriptedSystem::new("file a 1*8192+2*8192/4096");
    let before = item(&system, "a");
    system.edit("file a 1*8192+3*8192/4096");
    let sums = |item: &Item| match &item.extents[0].body {
        ExtentBody::Data { checksums: Some(checksums), .. } => checksums.crc32c.clone(),
        other => panic!("{other:?}"),
    };
    let (before, after) = (sums(&before), sums(&item(&system, "a")));
    let same: Vec<_> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, false, false]);
}

#[tokio::test]
async fn calls_fail_when_scripted_and_once() {
    let (context, _) = context(1);
    let system = ScriptedSystem::new("file a 1*9\n file b 1*9\n file c 1*9\n file d 1*9");
    system.fail_nth(Call::Cut, 2, ErrorKind::Denied);
    let cut = system.cut(None, &context).await.expect("the first succeeds");
    let error = system.cut(None, &context).await.err().expect("the second fails");
    assert_eq!(error.kind(), ErrorKind::Denied);
    system.cut(None, &context).await.expect("the third succeeds");
    system.fail_nth(Call::List, 2, ErrorKind::Unavailable);
    assert!(observe(cut.as_ref(), &context).await.is_err());
    system.fail_nth(Call::Read, 3, ErrorKind::Unavailable);
    assert!(observe(cut.as_ref(), &context).await.is_err());
    assert!(observe(cut.as_ref(), &context).await.is_ok());
}

#[tokio::test]
async fn history_that_is_gone_is_a_gap_and_a_full_cut() {
    let (context, _) = context(1);
    let system = ScriptedSystem::new(r#"file a "one""#)
        .with_log(LogPayload::Changes)
        .with_shape(Shape::Changes);
    let from = system.position();
    system.edit(r#"file a "two""#);
    let mut follower = system.follow(&from, &context).await.expect("follow");
    system.forget_history();
    assert_eq!(follower.next(&context).await.expect("next"), Next::Gap);
    let cut = system.cut(Some(&from), &context).await.expect("cut");
    assert!(matches!(cut.items(&context), model::CutItems::Sorted(_)));
}

#[tokio::test]
async fn a_follower_waits_then_proves_that_there_is_nothing() {
    let (context, handles) = still_context(1);
    let system = ScriptedSystem::new("dir a").with_log(LogPayload::Changes);
    let mut follower = system.follow(&system.position(), &context).await.expect("follow");
    let waiting = tokio::spawn(async move { (follower.next(&context).await, follower) });
    handles.clock.wait_for_sleepers(1).await;
    handles.clock.advance(std::time::Duration::from_secs(60));
    let (next, mut follower) = waiting.await.expect("task");
    let as_of = Timestamp { unix_ns: crate::ManualClock::START.unix_ns + 60_000_000_000 };
    assert_eq!(next.expect("next"), Next::Nothing { as_of });

    system.edit("dir b");
    let (context, _) = still_context(1);
    let Next::Batch(batch) = follower.next(&context).await.expect("next") else { panic!("batch") };
    assert!(matches!(&batch.payload, Payload::Changes(changes) if changes.len() == 1));
    follower.acknowledge(&batch.upto).await.expect("acknowledge");
    follower.acknowledge(&batch.after).await.expect("an earlier one");
    assert_eq!(system.acknowledged(), batch.upto);
}

#[tokio::test]
async fn an_interrupted_restore_is_run_again() {
    let (context, _) = context(1);
    let source = ScriptedSystem::new("dir a\n file a/b 1*9000\n file a/c 2*9000");
    let source = Baseline::take(&source, &context).await.expect("source");
    let target = MemoryTarget::new();
    target.fail_nth(Call::Apply, 2, ErrorKind::Unavailable);
    let mut failures = 0;
    while failures < 2 {
        for observed in source.state.values() {
            let mut reader = crate::BytesReader::new(observed.content.clone());
            let step = RestoreStep::Create(observed.item.clone());
            if target.apply(&step, Some(&mut reader), &context).await.is_err() {
                let torn = target.contents()[&key("a/b")].len();
                assert_eq!(torn, 4_500, "half of the content is there");
                break;
            }
        }
        failures += 1;
    }
    target.finish(&context).await.expect("finish");
    let expected: Vec<_> = source.state.values().map(|observed| &observed.content).collect();
    assert_eq!(target.contents().values().collect::<Vec<_>>(), expected);
    assert_eq!(target.survey(&context).count().await, 1);
}

#[tokio::test]
async fn what_somebody_else_put_is_not_created_over() {
    let (context, _) = context(1);
    let theirs = ScriptedSystem::new(r#"file a "theirs""#);
    let theirs = Baseline::take(&theirs, &context).await.expect("theirs");
    let target = MemoryTarget::holding(theirs.state).with_folding(true, false);
    assert!(target.facts().folds_case);
    let create = RestoreStep::Create(item_named("a"));
    let error = target.apply(&create, None, &context).await.expect_err("conflict");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    target.apply(&RestoreStep::Replace(item_named("a")), None, &context).await.expect("replace");
    let orphan = RestoreStep::Create(item_named("x/y"));
    assert!(target.apply(&orphan, None, &context).await.is_err(), "parents come first");
}
