//! A real process that restores into a real directory, killed at its steps, and run again.

use std::path::Path;
use std::process::Command;

use chaos_tests::kill::was_killed;
use chaos_tests::trees::difference;

use super::files::{HOST, STREAM, Scene, seen};

/// More than any restore here takes.
const STEPS_MAX: u64 = 1_000;

fn restore(scene: &Scene, root: &Path, kill: Option<(u64, &str)>) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scripted-restore"));
    command.arg(&scene.store).arg(HOST).arg(STREAM).arg(root);
    if let Some((step, moment)) = kill {
        command.args(["--kill-at", &step.to_string(), "--moment", moment]);
    }
    command.output().expect("the child starts")
}

/// Kills a restore at every `stride`th step, in all parts of it, and goes on with it; returns how many
/// were killed.
fn kill_restores(stride: usize) -> u64 {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let scene = runtime.block_on(async {
        let scene = Scene::create(700_000).await;
        scene.capture().await;
        scene
    });
    let expected = seen(&scene.source);
    let bystander = scene.room("bystander");
    chaos_tests::trees::make_tree(&bystander, 1_000).expect("make bystander");
    let untouched = seen(&bystander);
    let mut killed = 0;
    for step in (1..STEPS_MAX).step_by(stride) {
        for moment in ["before", "within", "after"] {
            let told = format!("{moment} step {step}");
            let rooms = tempfile::tempdir_in(scene.folder.path()).expect("folder");
            let root = rooms.path().join("root");
            let output = restore(&scene, &root, Some((step, moment)));
            if !was_killed(output.status) {
                assert!(output.status.success(), "{told}: {output:?}");
                let left = difference(&seen(&bystander), &untouched);
                assert_eq!(left, None, "a bystander was touched");
                let left = difference(&seen(&scene.source), &expected);
                assert_eq!(left, None, "the source was touched");
                return killed;
            }
            killed += 1;
            let resumed = restore(&scene, &root, None);
            assert!(resumed.status.success(), "{told}, run again: {resumed:?}");
            let found = seen(&scene.restored_source(&root));
            assert_eq!(difference(&found, &expected), None, "{told}");
            let names = std::fs::read_dir(rooms.path()).expect("list").count();
            assert_eq!(names, 1, "{told}: something stands beside the root");
        }
    }
    panic!("the restore never ended");
}

#[test]
fn a_killed_restore_is_gone_on_with() {
    let killed = kill_restores(6);
    assert!(killed >= 12, "only {killed} kills");
}

#[test]
#[ignore = "the full tier runs it"]
fn a_restore_that_is_killed_at_any_step_is_gone_on_with() {
    let killed = kill_restores(1);
    assert!(killed >= 90, "only {killed} kills");
}
