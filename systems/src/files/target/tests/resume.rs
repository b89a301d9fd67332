//! Restores that were interrupted and run again.

use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::files::target::names::temporary_name;

/// What a plan does that keeps what is equal: a survey, then a step for all that differs.
async fn run_steps(bench: &Bench, wanted: &Observed, steps_max: usize) {
    let there = bench.survey().await;
    let is_equal = |one: &Item, other: &Item| {
        one.kind == other.kind && one.attributes.without(NAMES) == other.attributes.without(NAMES)
    };
    let mut steps = 0;
    for (key, thing) in wanted {
        let found = there.get(key);
        let is_there = found.is_some_and(|found| {
            is_equal(&found.item, &thing.item) && found.content == thing.content
        });
        if is_there {
            continue;
        }
        if steps == steps_max {
            return;
        }
        steps += 1;
        let done = match found {
            Some(found) if found.item.kind == ItemKind::Directory => bench.replace(thing).await,
            Some(found) => panic!("{:?} is there half: {found:?}", key),
            None => bench.create(thing).await,
        };
        done.unwrap_or_else(|error| panic!("{key:?}: {error:?}"));
    }
    bench.finish();
}

#[tokio::test]
async fn an_interrupted_restore_run_again_gives_the_same() {
    let wanted = everything();
    let whole = Bench::new();
    run_steps(&whole, &wanted, usize::MAX).await;
    let expected = fingerprint(&whole.root());
    for steps in 0..=wanted.len() {
        let mut bench = Bench::new();
        run_steps(&bench, &wanted, steps).await;
        // A process that dies in the middle of the next file leaves half of it.
        let next = wanted.keys().filter(|key| key.depth() == 1).nth(steps % 3).expect("a key");
        let name = temporary_name(next);
        let half = bench.root().join(std::ffi::OsStr::from_bytes(&name));
        std::fs::write(half, "half").expect("write");
        bench.reopen();
        run_steps(&bench, &wanted, usize::MAX).await;
        assert_eq!(fingerprint(&bench.root()), expected, "interrupted after {steps} steps");
        run_steps(&bench, &wanted, 0).await;
        assert_eq!(fingerprint(&bench.root()), expected, "nothing was left to do");
    }
}

/// The same steps without a look before: what stands there whole is as good as made.
#[tokio::test]
async fn creates_applied_again_by_another_process_change_nothing() {
    let mut bench = Bench::new();
    for thing in everything().values() {
        bench.create(thing).await.expect("create");
    }
    bench.finish();
    let before = fingerprint(&bench.root());
    bench.reopen();
    for thing in everything().values() {
        bench.create(thing).await.unwrap_or_else(|error| panic!("{error:?}"));
    }
    bench.finish();
    assert_eq!(before, fingerprint(&bench.root()));
}
