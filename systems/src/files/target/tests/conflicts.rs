//! What stands there already.

use std::os::unix::ffi::OsStrExt;

use model::ErrorKind;

use super::*;
use crate::files::target::names::temporary_name;

/// Makes something of somebody else's.
fn stand(bench: &Bench, what: &str) {
    let path = bench.root().join("x");
    match what {
        "file" => std::fs::write(path, "theirs").expect("write"),
        "same length" => std::fs::write(path, "xxxx").expect("write"),
        "directory" => std::fs::create_dir(path).expect("make"),
        "link" => std::os::unix::fs::symlink("../outside/canary", path).expect("link"),
        "link to directory" => std::os::unix::fs::symlink("../outside", path).expect("link"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn nothing_of_others_is_taken_over_by_a_create() {
    for what in ["file", "same length", "directory", "link", "link to directory"] {
        for wanted in [
            file("x", "ours"),
            directory("x"),
            symlink("x", "ours"),
            fifo("x"),
            hardlink("x", "primary"),
        ] {
            let bench = Bench::new();
            bench.create(&file("primary", "p")).await.expect("create");
            stand(&bench, what);
            let before = (fingerprint(&bench.root()), fingerprint(&bench.outside()));
            let error = bench.create(&wanted).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Conflict, "{what} under {:?}", wanted.item.kind);
            bench.finish();
            assert_eq!(before, (fingerprint(&bench.root()), fingerprint(&bench.outside())));
        }
    }
}

#[tokio::test]
async fn what_comes_in_the_way_of_a_waiting_link_stays() {
    let bench = Bench::new();
    bench.create(&file("primary", "p")).await.expect("create");
    for wanted in [symlink("x", "ours"), hardlink("x", "primary")] {
        bench.create(&wanted).await.expect("waits");
        stand(&bench, "file");
        let error = bench.target.finish(&bench.context).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read(bench.root().join("x")).expect("read"), b"theirs");
        std::fs::remove_file(bench.root().join("x")).expect("remove");
        bench.finish();
        bench.apply(RestoreStep::Delete(key("x")), b"").await.expect("delete");
    }
}

/// A directory that became a link between two steps: nothing goes through it.
#[tokio::test]
async fn no_step_goes_through_a_link() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("../outside", bench.root().join("d")).expect("link");
    let before = fingerprint(&bench.outside());
    for thing in [
        file("d/canary", "x"),
        directory("d/canary"),
        symlink("d/canary", "x"),
        fifo("d/canary"),
        hardlink("d/canary", "d/canary2"),
        file("d/new", "x"),
    ] {
        for step in [
            RestoreStep::Create(thing.item.clone()),
            RestoreStep::Replace(thing.item.clone()),
            RestoreStep::Delete(thing.item.key.clone()),
        ] {
            let error = bench.apply(step, &thing.content).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        }
    }
    let canary = file("d/canary", "canary").item;
    let opened = model::Content::open(&bench.target, &canary, 0, 0..6).await;
    assert_eq!(opened.err().expect("refused").kind(), ErrorKind::Conflict);
    let looked = model::Content::recheck(&bench.target, &canary).await;
    assert_eq!(looked.expect_err("refused").kind(), ErrorKind::Conflict);
    bench.create(&hardlink("stolen", "d/canary")).await.expect("waits");
    bench.target.finish(&bench.context).await.expect_err("refused");
    assert_eq!(before, fingerprint(&bench.outside()));
    let survey = bench.survey().await;
    assert_eq!(survey.keys().map(ItemKey::display).collect::<Vec<_>>(), ["d"]);
}

#[tokio::test]
async fn what_a_killed_run_left_is_overwritten_not_listed_and_removed() {
    let bench = Bench::new();
    bench.create(&directory("d")).await.expect("create");
    bench.finish();
    let left = |path: &str| {
        let name = temporary_name(&key(path));
        bench.root().join("d").join(std::ffi::OsStr::from_bytes(&name))
    };
    std::fs::write(left("d/f"), "half of it").expect("write");
    std::fs::write(left("d/never again"), "half of it").expect("write");
    std::os::unix::fs::symlink("../../outside/canary", left("d/l")).expect("link");
    let before = fingerprint(&bench.outside());
    let shown = |state: &Observed| state.keys().map(ItemKey::display).collect::<Vec<_>>();
    assert_eq!(shown(&bench.survey().await), ["d"]);
    for thing in [file("d/f", "whole"), fifo("d/p"), file("d/l", "a file now")] {
        bench.create(&thing).await.expect("create");
    }
    bench.finish();
    assert_eq!(shown(&bench.survey().await), ["d", "d/f", "d/l", "d/p"]);
    assert!(!left("d/f").exists() && !left("d/never again").exists());
    assert_eq!(before, fingerprint(&bench.outside()));
}

#[tokio::test]
async fn an_item_with_the_name_of_an_unfinished_file_is_left_out_and_said() {
    let bench = Bench::new();
    let name = String::from_utf8(temporary_name(&key("anything"))).expect("name");
    bench.create(&file(&name, "x")).await.expect("left out");
    assert!(bench.target.is_empty().expect("look"));
    let problems = bench.handles.monitor.problems();
    assert!(problems.len() == 1 && problems[0].contains("left out"), "{problems:?}");
}
