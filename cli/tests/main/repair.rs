//! Damage on a disk, and `repo repair` as people run it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{Scene, tree};

/// The packs of a repository, the longest first: their names are random.
fn packs(scene: &Scene) -> Vec<PathBuf> {
    let root = scene.path("repository/pack");
    let found = tree(&root).into_keys().filter(|path| path.components().count() == 2);
    let mut packs: Vec<_> = found.map(|path| root.join(path)).collect();
    packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).expect("look").len()));
    packs
}

/// Overwrites a part of a file.
fn damage(path: &PathBuf, from: usize, length: usize) {
    let mut bytes = fs::read(path).expect("read");
    let before = bytes.clone();
    bytes[from..from + length].fill(0x5a);
    assert_ne!(bytes, before, "nothing is damaged");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("mode");
    fs::write(path, bytes).expect("write");
}

fn means(report: &Value) -> Vec<&str> {
    let mended = report["mended"].as_array().expect("mended");
    mended.iter().filter_map(|mended| mended["by"].as_str()).collect()
}

#[test]
fn damage_heals_by_parity_and_a_lost_pack_from_a_copy() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    scene.ok(&["repo", "sync", "--to", "copy"]);
    let pack = packs(&scene).remove(0);
    damage(&pack, 20_000, 30_000);
    let would = scene.json(0, &["repo", "repair", "--dry-run"]);
    assert_eq!((means(&would), &would["is_dry_run"]), (vec!["parity"], &Value::Bool(true)));
    scene.code(13, &["verify", "--deep"]);
    let report = scene.json(0, &["repo", "repair"]);
    assert_eq!((means(&report), &report["is_whole"]), (vec!["parity"], &Value::Bool(true)));
    let kept = report["mended"][0]["kept"].as_str().expect("kept");
    assert!(scene.path("repository").join(kept).exists(), "{report}");
    assert_eq!(scene.json(0, &["verify", "--deep"])["is_sound"], true);

    fs::remove_file(&pack).expect("remove");
    let alone = scene.json(13, &["repo", "repair"]);
    assert_eq!((&alone["lost_packs"], &alone["is_whole"]), (&1.into(), &false.into()), "{alone}");
    let without_key = scene.ok(&["repo", "repair", "--from", "copy", "--without-key"]);
    assert!(without_key.contains("all packs are whole"), "{without_key}");
    let report = scene.json(0, &["repo", "repair", "--from", "copy"]);
    assert_eq!(report["is_whole"], true, "{report}");
    assert_eq!(scene.json(0, &["verify", "--deep"])["is_sound"], true);
    scene.ok(&["restore", "prod@latest", "--to", "back"]);
    assert_eq!(tree(&scene.restored("back")), tree(&scene.data()));
}

#[test]
fn a_repository_that_does_not_open_is_mended_from_a_copy() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    scene.ok(&["repo", "sync", "--to", "copy"]);
    damage(&scene.path("repository/lifeboat"), 30, 10);
    let error = scene.json(13, &["points"]);
    let hint = error["error"]["hint"].as_str().expect("hint");
    assert!(hint.contains("repo repair"), "{error}");
    scene.code(13, &["repo", "repair"]);
    let report = scene.json(0, &["repo", "repair", "--from", "copy"]);
    assert_eq!(means(&report), ["copy"], "{report}");
    assert_eq!(scene.json(0, &["verify", "--deep"])["is_sound"], true);
    let other = Scene::with_repository();
    let other = other.path("repository").display().to_string();
    let refused = scene.json(1, &["repo", "repair", "--from", &other]);
    assert_eq!(refused["error"]["kind"], "conflict", "{refused}");
}

#[test]
fn what_is_lost_comes_back_with_the_next_backup() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    packs(&scene).iter().for_each(|pack| fs::remove_file(pack).expect("remove"));
    scene.code(13, &["verify"]);
    let told = String::from_utf8(scene.run(&["repo", "repair"]).stdout).expect("text");
    assert!(told.contains("the next backup stores again"), "{told}");
    scene.ok(&["backup"]);
    assert_eq!(scene.json(0, &["verify", "--deep"])["is_sound"], true);
    scene.ok(&["restore", "prod@latest~1", "--to", "back"]);
    assert_eq!(tree(&scene.restored("back")), tree(&scene.data()));
}

#[test]
fn parity_is_as_the_policy_says() {
    for (flag, has_parity) in [(&[][..], true), (&["--parity", "false"], false)] {
        let scene = Scene::new();
        let init = ["init", "--repo", "repository", "--site", "prod", "data"];
        scene.ok(&[&init[..], flag].concat());
        scene.ok(&["backup"]);
        let policy = fs::read_to_string(scene.path("lifeboat.toml")).expect("policy");
        assert_eq!(policy.contains("parity = false"), !has_parity, "{policy}");
        let pack = fs::read(packs(&scene).remove(0)).expect("read");
        let found = pack.windows(8).any(|bytes| bytes == b"LBPARITY");
        assert_eq!(found, has_parity);
    }
}
