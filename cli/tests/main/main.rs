//! The program as people run it: a real process over a temporary folder.

mod mount;
mod repair;
mod stores;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with something to protect, and the program in it.
struct Scene {
    folder: TempDir,
}

impl Scene {
    /// Makes a folder with data in it.
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().expect("folder") };
        let data = scene.data();
        fs::create_dir_all(data.join("sub/empty")).expect("folders");
        fs::write(data.join("a.conf"), "first\n").expect("write");
        fs::write(data.join("sub/b.txt"), "second\n").expect("write");
        fs::write(
            data.join("big"),
            (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>(),
        )
        .expect("write");
        symlink("../a.conf", data.join("sub/link")).expect("link");
        fs::set_permissions(data.join("a.conf"), fs::Permissions::from_mode(0o640)).expect("mode");
        scene
    }

    /// The same with a repository.
    fn with_repository() -> Self {
        let scene = Self::new();
        scene.ok(&["init", "--repo", "repository", "--site", "prod", "data"]);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.path("home")).env("TZ", "UTC").env("LIFEBOAT_HOST", "host");
        command.env("TMPDIR", self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("start lifeboat")
    }

    /// Runs and expects an exit code; returns standard output.
    fn code(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        out
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.code(0, arguments)
    }

    /// Runs with `--json`; checks what every object has.
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let out = self.code(code, &[arguments, &["--json"]].concat());
        let value: Value = serde_json::from_str(&out).expect(&out);
        assert_eq!(value["schema"], "lifeboat/v1", "{out}");
        let is_read = value["error"]["action"] != "read command line";
        assert_eq!(value["command"], if is_read { arguments[0] } else { "lifeboat" }, "{out}");
        value
    }

    /// Where a restore into a folder puts the data.
    fn restored(&self, to: &str) -> PathBuf {
        self.path(to).join(self.data().strip_prefix("/").expect("absolute"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a tree: path → kind, mode, time and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().expect("there");
        let content = if metadata.is_dir() {
            open.extend(
                fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()),
            );
            "directory".to_owned()
        } else if metadata.is_symlink() {
            fs::read_link(&path).expect("link").display().to_string()
        } else {
            format!("{:?}", fs::read(&path).expect("read"))
        };
        let relative = path.strip_prefix(root).expect("below").to_owned();
        let facts = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec());
        found.insert(relative, format!("{facts:?} {content}"));
    }
    found
}

#[test]
fn from_init_to_a_proven_restore_of_an_older_state() {
    let scene = Scene::with_repository();
    let key = scene.path("lifeboat.key");
    assert_eq!(key.metadata().expect("key").mode() & 0o777, 0o600);
    assert!(scene.ok(&["backup"]).contains("complete"));
    let before = tree(&scene.data());
    fs::write(scene.data().join("a.conf"), "changed\n").expect("write");
    fs::remove_file(scene.data().join("sub/b.txt")).expect("remove");
    fs::write(scene.data().join("new"), "new\n").expect("write");
    let second = scene.json(0, &["backup"]);
    assert_eq!(second["systems"][0]["read_items"], 2, "{second}");
    assert_eq!(second["systems"][0]["deleted_items"], 1, "{second}");

    let points = scene.json(0, &["points"]);
    assert_eq!(points["points"].as_array().map(Vec::len), Some(2), "{points}");
    let conf = format!("@latest~1:{}", scene.data().join("a.conf").display());
    assert_eq!(scene.ok(&["cat", &conf]), "first\n");
    let changes = scene.ok(&["diff", "prod@latest~1", "prod@latest"]);
    assert!(changes.contains("1 added, 1 removed, "), "{changes}");
    assert!(changes.contains("a.conf  (content"), "{changes}");

    let restored = scene.json(0, &["restore", "prod@latest~1", "--to", "old"]);
    assert_eq!(restored["is_proven"], true, "{restored}");
    assert_eq!(restored["is_marked_verified"], true, "{restored}");
    assert_eq!(tree(&scene.restored("old")), before);
    scene.ok(&["restore", "prod@latest", "--to", "new"]);
    let top = format!("prod@latest:{}", scene.data().display());
    let flat = scene.json(0, &["restore", &top, "--to", "flat", "--flat"]);
    assert_eq!(flat["is_proven"], true, "{flat}");
    assert_eq!(tree(&scene.path("flat")), tree(&scene.data()), "the top itself as well");
    let again = scene.json(0, &["restore", "prod@latest", "--to", "new"]);
    assert_eq!(again["systems"][0]["created"], 0, "{again}");
    assert_eq!(again["systems"][0]["skipped"], again["systems"][0]["verified_items"], "{again}");
    assert_eq!(tree(&scene.restored("new")), tree(&scene.data()));
    assert_eq!(scene.json(0, &["verify", "--deep"])["is_sound"], true);

    let verified = scene.json(0, &["points"]);
    assert_eq!(verified["points"][1]["is_verified"], true, "{verified}");
    scene.ok(&["forget", "prod@latest~1"]);
    assert_eq!(scene.json(0, &["points"])["points"].as_array().map(Vec::len), Some(1));
    scene.code(17, &["restore", "prod@latest~1", "--to", "gone"]);
}

#[test]
fn an_unchanged_tree_is_not_read_again() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let again = scene.json(0, &["backup"]);
    assert_eq!(again["systems"][0]["read_items"], 0, "{again}");
    assert_eq!(again["point"]["is_complete"], true, "{again}");
}

#[test]
fn every_command_speaks_json() {
    let scene = Scene::new();
    let created = scene.json(0, &["init", "--repo", "repository", "--site", "prod", "data"]);
    assert_eq!(created["is_policy_new"], true);
    let plan = scene.json(0, &["backup", "--dry-run"]);
    assert_eq!(
        (&plan["is_dry_run"], &plan["systems"][0]["system"]),
        (&true.into(), &"data".into())
    );
    assert!(scene.json(0, &["points"])["points"].as_array().is_some_and(Vec::is_empty));
    let backup = scene.json(0, &["backup"]);
    assert!(backup["point"]["id"].is_string(), "{backup}");
    assert!(scene.json(0, &["points", "prod/data"])["snapshots"][0]["id"].is_string());
    let listed = scene.json(0, &["ls", "prod/data@latest", "-r"]);
    assert!(listed["entries"].as_array().is_some_and(|entries| entries.len() > 6), "{listed}");
    let found = scene.json(0, &["find", "@latest", "*.conf"]);
    assert_eq!((&found["found"], &found["entries"][0]["mode"]), (&1.into(), &"0640".into()));
    scene.json(17, &["find", "@latest", "nothing-of-this-name"]);
    assert_eq!(scene.json(0, &["diff", "@latest", "@latest"])["changed"], 0);
    let plan = scene.json(0, &["restore", "@latest", "--to", "there", "--dry-run"]);
    assert!(plan["systems"][0]["create_items"].as_u64() > Some(5), "{plan}");
    assert!(!scene.path("there").exists(), "a plan writes nothing");
    assert!(scene.json(0, &["repo", "usage"])["stored_bytes"].as_u64() > Some(0));
    assert_eq!(scene.json(0, &["key", "list"])["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(scene.json(0, &["key", "test"])["keys"][0]["kind"], "key-file");
    assert_eq!(
        scene.json(0, &["points", "pin", "@latest", "--note", "x"])["point"]["is_pinned"],
        true
    );
    assert_eq!(scene.json(0, &["forget", "@latest", "--dry-run"])["is_dry_run"], true);
    let doctor = scene.json(3, &["doctor"]);
    assert_eq!(doctor["is_healthy"], true, "{doctor}");
    assert_eq!(scene.json(0, &["verify"])["depth"], "structure");
    let failure = scene.json(2, &["ls", "nonsense"]);
    assert_eq!(
        (&failure["error"]["code"], &failure["error"]["kind"]),
        (&2.into(), &"invalid".into())
    );
}

#[test]
fn what_goes_wrong_has_a_code_and_a_hint() {
    let scene = Scene::new();
    let says = |code: i32, arguments: &[&str], word: &str| {
        let output = scene.run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(word), "{arguments:?}: {err}");
    };
    says(2, &["points"], "--repo");
    fs::write(scene.path("words"), "open sesame\n").expect("write");
    says(10, &["points", "--repo", "nowhere", "--passphrase-file", "words"], "lifeboat init");
    says(2, &["restore"], "Usage");
    scene.ok(&["init", "--repo", "repository", "--site", "prod", "data"]);
    says(1, &["init", "--repo", "repository"], "there is one already");
    says(17, &["restore", "@latest", "--to", "x"], "lifeboat points");
    scene.ok(&["init", "--repo", "other", "--key-file", "other.key"]);
    says(12, &["points", "--key-file", "other.key"], "--passphrase-file");
    says(1, &["points", "--key-file", "missing.key"], "--key-file");
    scene.ok(&["backup"]);
    says(17, &["cat", "prod/data@latest:/nothing"], "hint");
    scene.ok(&["restore", "@latest", "--to", "x"]);
    let conf = scene.restored("x").join("a.conf");
    fs::write(&conf, "mine\n").expect("write");
    says(16, &["restore", "@latest", "--to", "x"], "--existing overwrite");
    assert_eq!(fs::read_to_string(&conf).expect("read"), "mine\n", "nothing is overwritten");
    scene.ok(&["restore", "@latest", "--to", "x", "--existing", "overwrite"]);
    assert_eq!(tree(&scene.restored("x")), tree(&scene.data()));
    scene.ok(&["points", "pin", "@latest"]);
    says(1, &["forget", "@latest"], "unpin");
    says(17, &["ls", "@never-given"], "\"never-given\"");
    says(17, &["ls", "@latest:/no/such"], "/no/such");
    says(2, &["restore", "@latest", "--to", "words/below"], "words");
    fs::rename(scene.path("lifeboat.toml"), scene.path("aside")).expect("rename");
    // Nobody is asked for the passphrase of what is not there.
    says(10, &["points", "--repo", "nowhere"], "lifeboat init");
    let unread = scene.json(2, &["points", "--no-such-flag"]);
    assert_eq!(unread["error"]["kind"], "invalid", "{unread}");
}

#[test]
fn keys_come_and_go() {
    let scene = Scene::with_repository();
    fs::write(scene.path("words"), "open sesame\n").expect("write");
    scene.ok(&["key", "add", "--new-passphrase-file", "words", "--label", "paper"]);
    let keys = scene.json(0, &["key", "list"]);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "{keys}");
    let by_words = ["points", "--passphrase-file", "words"];
    scene.ok(&by_words);
    scene.ok(&["points", "--passphrase-command", "cat words"]);
    let all = keys["keys"].as_array().expect("keys");
    let paper = all.iter().find(|key| key["label"] == "paper").expect("the new one");
    scene.ok(&["key", "remove", paper["id"].as_str().expect("id")]);
    scene.code(12, &by_words);
    let last = all.iter().find(|key| key["label"] != "paper").expect("the first one");
    scene.code(2, &["key", "remove", last["id"].as_str().expect("id")]);
    // A key file that was removed does not come back: its writer is known by another signing key.
    scene.ok(&["key", "add", "--new-passphrase-file", "words"]);
    scene.ok(&["key", "remove", last["id"].as_str().expect("id")]);
    let again = ["key", "add", "--new-key-file", "lifeboat.key", "--passphrase-file", "words"];
    let output = scene.run(&again);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("make a new key"), "{}", text(&output.stderr));
}

#[test]
fn shares_open_the_repository_when_enough_come_together() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let added = scene.json(0, &["key", "add", "--shares", "3/5", "--out", "shares"]);
    assert_eq!(
        (&added["keys"][0]["threshold"], &added["keys"][0]["count"]),
        (&3.into(), &5.into())
    );
    let mut files: Vec<_> = fs::read_dir(scene.path("shares"))
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 5);
    assert!(files.iter().all(|file| file.metadata().expect("there").mode() & 0o777 == 0o600));
    let files: Vec<_> = files.iter().map(|file| file.to_str().expect("plain")).collect();
    let with = |command: &[&str], of: &[usize]| -> Vec<String> {
        let shares = of.iter().flat_map(|at| ["--share-file", files[*at]]);
        command.iter().copied().chain(shares).map(str::to_owned).collect()
    };
    let run = |code: i32, of: &[usize]| {
        let arguments = with(&["points"], of);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = scene.run(&arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{of:?}: {err}");
        err
    };
    run(0, &[0, 2, 4]);
    run(0, &[4, 3, 2, 1, 0]);
    assert!(run(2, &[0, 2]).contains("2 of the 3 that are needed"));
    assert!(run(2, &[0, 2, 2]).contains("share 3 is given twice"));
    // A slip of the pen is found in its row, and nothing of the share is repeated.
    let share = fs::read_to_string(files[1]).expect("read");
    let row = share.lines().find(|line| line.starts_with("2  ")).expect("row");
    let digits: Vec<_> = row.split_whitespace().collect();
    let slipped = row.replacen(digits[1], &digits[1].chars().rev().collect::<String>(), 1);
    let slipped = if slipped == row { row.replacen(digits[2], "0000", 1) } else { slipped };
    fs::write(scene.path("slipped"), share.replace(row, &slipped)).expect("write");
    let output = scene.run(&["points", "--share-file", "slipped"]);
    let err = text(&output.stderr);
    assert!(output.status.code() == Some(2) && err.contains("row 2 of 4"), "{err}");
    assert!(!err.contains(digits[3]), "{err}");
    // Shares of another set are told apart.
    scene.ok(&["key", "add", "--shares", "2/2", "--out", "others"]);
    let other = fs::read_dir(scene.path("others")).expect("list").next().expect("one");
    let other = other.expect("entry").path();
    let mixed =
        ["points", "--share-file", files[0], "--share-file", other.to_str().expect("plain")];
    let output = scene.run(&mixed);
    assert!(text(&output.stderr).contains("use shares of one set"), "{}", text(&output.stderr));
    let tested = with(&["key", "test", "--json"], &[1, 2, 3]);
    let tested = scene.ok(&tested.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(tested.contains("\"kind\":\"shares\""), "{tested}");
}

#[test]
fn an_identity_opens_what_was_locked_for_its_public_key() {
    let scene = Scene::with_repository();
    let public = scene.ok(&["key", "new-recipient", "--out", "identity"]);
    let identity = scene.path("identity");
    assert_eq!(identity.metadata().expect("there").mode() & 0o777, 0o600);
    assert_eq!(public.lines().count(), 1, "{public}");
    assert_eq!(scene.ok(&["key", "recipient", "--identity", "identity"]), public);
    scene.code(1, &["key", "new-recipient", "--out", "identity"]);
    scene.code(12, &["points", "--identity", "identity"]);
    let add = ["key", "add", "--recipient", public.trim(), "--label", "safe"];
    let added = scene.json(0, &add);
    assert_eq!(added["keys"][0]["kind"], "recipient", "{added}");
    assert!(added["keys"][0]["recipient"].is_string(), "{added}");
    scene.ok(&["points", "--identity", "identity"]);
    scene.code(1, &add);
    fs::write(scene.path("public"), &public[..public.len() - 9]).expect("write");
    scene.code(2, &["key", "add", "--recipient-file", "public"]);
    fs::write(scene.path("public"), &public).expect("write");
    scene.code(1, &["key", "add", "--recipient-file", "public"]);
    // Two keys, of which none was tried, then one was.
    assert!(keys_of_doctor(&scene).contains("none was tested"));
    scene.ok(&["key", "test", "--identity", "identity"]);
    assert!(keys_of_doctor(&scene).contains("2 keys open it, 1 tested"));
    let keys = scene.json(0, &["key", "list"]);
    let all = keys["keys"].as_array().expect("keys");
    for key in all {
        assert_eq!(key["tested"].is_string(), key["label"] == "safe", "{key}");
    }
}

#[test]
fn a_collectors_key_shows_names_and_no_contents() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let added =
        scene.json(0, &["key", "add", "--new-key-file", "narrow.key", "--role", "collector"]);
    assert_eq!(added["keys"][0]["role"], "collector", "{added}");
    let with = |command: &[&'static str]| [command, &["--key-file", "narrow.key"]].concat();
    let conf = format!("@latest:{}", scene.data().join("a.conf").display());
    scene.ok(&with(&["key", "test"]));
    assert!(scene.ok(&with(&["ls", "@latest", "-r"])).contains("a.conf"));
    scene.code(12, &["cat", &conf, "--key-file", "narrow.key"]);
    scene.code(12, &with(&["restore", "@latest", "--to", "x"]));
    // What cannot be read is not called damaged.
    scene.code(12, &with(&["verify"]));
    fs::write(scene.data().join("a.conf"), "changed\n").expect("write");
    let output = scene.run(&with(&["backup"]));
    assert!(text(&output.stderr).contains("that of a collector"), "{}", text(&output.stderr));
    assert_ne!(output.status.code(), Some(0));
    scene.code(12, &with(&["key", "add", "--new-key-file", "more.key"]));
    let keys = scene.json(0, &["key", "list"]);
    let full = keys["keys"].as_array().expect("keys").iter().find(|key| key["role"] == "full");
    scene.code(2, &["key", "remove", full.expect("one")["id"].as_str().expect("id")]);
    assert!(keys_of_doctor(&scene).contains("one key only"));
}

fn keys_of_doctor(scene: &Scene) -> String {
    let output = scene.run(&["doctor", "--json"]);
    let value: Value = serde_json::from_str(&text(&output.stdout)).expect("json");
    let checks = value["checks"].as_array().expect("checks").clone();
    let keys = checks.into_iter().find(|check| check["check"] == "keys").expect("keys");
    keys["detail"].as_str().expect("text").to_owned()
}

#[test]
fn holds_beat_forgetting_until_they_are_released() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let add = ["hold", "add", "prod@latest", "--why", "case 17", "--who", "counsel"];
    let added = scene.json(0, &add);
    let id = added["holds"][0]["id"].as_str().expect("id").to_owned();
    fs::write(scene.data().join("a.conf"), "changed\n").expect("write");
    scene.ok(&["backup"]);
    let output = scene.run(&["forget", "prod@latest~1"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("counsel holds it: case 17") && err.contains("hold list"), "{err}");
    let listed = scene.json(0, &["hold", "list"]);
    assert_eq!(listed["holds"][0]["is_in_force"], true, "{listed}");
    assert!(scene.ok(&["hold", "list"]).contains("case 17"));
    scene.code(2, &["hold", "release", "ffff", "--why", "x"]);
    scene.ok(&["hold", "release", &id[..8], "--why", "closed"]);
    assert_eq!(scene.json(0, &["hold", "list"])["holds"].as_array().map(Vec::len), Some(0));
    let all = scene.json(0, &["hold", "list", "--all"]);
    assert_eq!(all["holds"][0]["release"]["why"], "closed", "{all}");
    scene.ok(&["forget", "prod@latest~1"]);
    // What is held of a system or a site covers what came later too.
    scene.ok(&["hold", "add", "prod/data", "--why", "audit", "--until", "90 days"]);
    scene.code(1, &["forget", "prod/data@latest"]);
    scene.ok(&["hold", "add", "prod", "--why", "audit"]);
    scene.code(1, &["forget", "prod@latest"]);
    scene.code(2, &["hold", "add", "prod", "--why", "x", "--until", "yesterday"]);
    scene.code(17, &["hold", "add", "prod@latest~7", "--why", "x"]);
    assert_eq!(scene.json(0, &["verify"])["unknown_objects"], 0);
}

#[test]
fn a_kit_has_all_but_the_secrets() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    scene.ok(&[
        "key",
        "add",
        "--shares",
        "2/3",
        "--out",
        "shares",
        "--label",
        "board <of> & trust",
    ]);
    let public = scene.ok(&["key", "new-recipient", "--out", "identity"]);
    scene.ok(&["key", "add", "--recipient", public.trim()]);
    fs::write(scene.path("words"), "canary passphrase\n").expect("write");
    scene.ok(&["key", "add", "--new-passphrase-file", "words"]);
    let kit = scene.json(0, &["kit", "--to", "kit", "--with-program"]);
    assert_eq!(kit["keys"].as_array().map(Vec::len), Some(4), "{kit}");
    let read = |name: &str| fs::read_to_string(scene.path("kit").join(name)).expect(name);
    let (page, html) = (read("RESTORE.txt"), read("RESTORE.html"));
    let id = kit["id"].as_str().expect("id");
    let repository = scene.path("repository").display().to_string();
    for words in [id, &repository, "--key-file FILE", "--share-file FILE2", "--identity FILE"] {
        assert!(page.contains(words) && html.contains(words), "{words}\n{page}");
    }
    assert!(html.contains("board &lt;of&gt; &amp; trust"), "labels are no markup");
    let sums = Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(scene.path("kit"))
        .status();
    assert!(sums.expect("sha256sum").success());
    // The commands on the page are the commands that work.
    let tests: Vec<_> = page.lines().filter(|line| line.contains("lifeboat key test")).collect();
    assert_eq!(tests.len(), 4, "{page}");
    let key = scene.path("lifeboat.key").display().to_string();
    let line = tests.iter().find(|line| line.contains("--key-file")).expect("by key file");
    let line = line.replace("FILE", &key);
    scene.ok(&line.split_whitespace().skip(1).collect::<Vec<_>>());
    // No secret is in it.
    let secret_of = |name: &str| fs::read_to_string(scene.path(name)).expect(name);
    let mut secrets = vec!["canary passphrase".to_owned()];
    for line in secret_of("lifeboat.key").lines().chain(secret_of("identity").lines()) {
        let word = line.split(' ').next_back().expect("word");
        if word.len() >= 64 {
            secrets.push(word.to_owned());
        }
    }
    for share in fs::read_dir(scene.path("shares")).expect("list") {
        let share = fs::read_to_string(share.expect("entry").path()).expect("read");
        let row = share.lines().find(|line| line.starts_with("1  ")).expect("row");
        secrets.push(row.get(3..22).expect("digits").to_owned());
    }
    assert_eq!(secrets.len(), 7);
    for secret in secrets {
        assert!(!page.contains(&secret) && !html.contains(&secret), "a secret is in the kit");
    }
    scene.code(2, &["kit", "--to", "kit"]);
}

/// Plants secrets everywhere a key can come from, lets things go wrong, and looks for them in what is said.
#[test]
fn no_secret_is_ever_said() {
    let scene = Scene::with_repository();
    scene.ok(&["key", "new-recipient", "--out", "identity"]);
    scene.ok(&["key", "add", "--shares", "2/2", "--out", "shares"]);
    let canary = "c0ffee".repeat(11);
    let canary = &canary[..64];
    let key = format!("lifeboat key file 1\nslot {}\nkey {canary}\n", "ab".repeat(16));
    fs::write(scene.path("bad.key"), key).expect("write");
    fs::write(scene.path("words"), format!("{canary}\n")).expect("write");
    let identity = fs::read_to_string(scene.path("identity")).expect("read");
    let x25519 = identity.lines().nth(2).expect("line");
    let bent = identity.replace(x25519, &format!("x25519 {canary}"));
    fs::write(scene.path("bad.identity"), bent).expect("write");
    let share = fs::read_dir(scene.path("shares")).expect("list").next().expect("one");
    let share = fs::read_to_string(share.expect("entry").path()).expect("read");
    let row = share.lines().find(|line| line.starts_with("1  ")).expect("row").to_owned();
    fs::write(scene.path("bad.share"), share.replace(&row, &format!("1 {canary}"))).expect("write");
    for source in [
        ["--key-file", "bad.key"],
        ["--passphrase-file", "words"],
        ["--passphrase-command", "cat words"],
        ["--identity", "bad.identity"],
        ["--share-file", "bad.share"],
        ["--key-file", "words"],
        ["--identity", "words"],
        ["--share-file", "words"],
    ] {
        for command in [&["points"][..], &["key", "test"], &["doctor"], &["backup", "--json"]] {
            let output = scene.run(&[command, &source].concat());
            assert_ne!(output.status.code(), Some(0), "{command:?} {source:?}");
            for said in [text(&output.stdout), text(&output.stderr)] {
                assert!(!said.contains("c0ffee"), "{command:?} {source:?}: {said}");
            }
        }
    }
    // An identity that was put where its public key belongs is not repeated either.
    let output = scene.run(&["key", "add", "--recipient-file", "words"]);
    assert!(output.status.code() == Some(2) && !text(&output.stderr).contains("c0ffee"));
}

#[test]
fn outputs_of_commands_come_back_proven() {
    let scene = Scene::with_repository();
    let policy = fs::read_to_string(scene.path("lifeboat.toml")).expect("policy");
    let command = "commands = [{ name = \"greeting\", command = [\"echo\", \"hello\"] }]\npaths";
    fs::write(scene.path("lifeboat.toml"), policy.replace("paths", command)).expect("policy");
    scene.ok(&["backup"]);
    assert_eq!(scene.ok(&["cat", "prod/data@latest:/@commands/greeting"]), "hello\n");
    let restored = scene.json(0, &["restore", "@latest", "--to", "x"]);
    assert_eq!(restored["is_marked_verified"], true, "{restored}");
    let again = scene.json(0, &["restore", "@latest", "--to", "x"]);
    assert_eq!(again["systems"][0]["restored_bytes"], 0, "{again}");
    assert_eq!(again["is_proven"], true, "{again}");
}

#[test]
fn recover_needs_a_repository_and_a_key_only() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let policy = fs::read_to_string(scene.path("lifeboat.toml")).expect("policy");
    fs::remove_file(scene.path("lifeboat.toml")).expect("remove");
    let repository = scene.path("repository").display().to_string();
    let arguments = ["recover", &repository, "--key-file", "lifeboat.key"];
    let found = scene.json(0, &arguments);
    assert_eq!(found["sites"][0]["policy"], policy, "{found}");
    let saved = fs::read_to_string(scene.path("prod.lifeboat.toml")).expect("saved");
    assert_eq!(saved, policy);
    // The commands that are printed are the commands that work.
    let commands = found["sites"][0]["next_commands"].as_array().expect("commands");
    for command in commands {
        let words: Vec<_> = command.as_str().expect("text").split(' ').skip(1).collect();
        scene.ok(&words);
    }
    let restored = scene.restored("prod-restored");
    assert_eq!(tree(&restored), tree(&scene.data()));
    scene.ok(&["recover", &repository, "--key-file", "lifeboat.key", "--config-to", "a/b"]);
    assert!(scene.path("a/b/prod.lifeboat.toml").is_file());
    scene.code(10, &["recover", "nowhere", "--key-file", "lifeboat.key"]);
}

#[test]
fn a_partial_backup_says_so() {
    let scene = Scene::with_repository();
    let policy = fs::read_to_string(scene.path("lifeboat.toml")).expect("policy");
    let gone = format!("{policy}\n[[files]]\nname = \"gone\"\npaths = [\"/nowhere/at/all\"]\n");
    fs::write(scene.path("lifeboat.toml"), gone).expect("policy");
    let backup = scene.json(3, &["backup"]);
    assert_eq!(backup["point"]["is_complete"], false, "{backup}");
    scene.code(17, &["restore", "@latest", "--to", "x"]);
    // What was captured can be had by the name of its system.
    scene.ok(&["restore", "prod/data@latest", "--to", "x"]);
    assert_eq!(tree(&scene.restored("x")), tree(&scene.data()));
}

#[test]
fn help_completions_and_manuals_are_there() {
    let scene = Scene::new();
    assert!(scene.ok(&["--help"]).contains("recover"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(scene.ok(&["completion", shell]).contains("lifeboat"), "{shell}");
    }
    scene.ok(&["man", "--to", "pages"]);
    for page in ["lifeboat.1", "lifeboat-restore.1", "lifeboat-key-add.1"] {
        assert!(scene.path("pages").join(page).is_file(), "{page}");
    }
}

/// A server that needs nothing but a shell.
const STACK: &str = r#"
server = [{ name = "one", recipe = "shell" }, { name = "two", recipe = "shell", settings = { note = "${one.url}" } }]
[recipe.shell]
about = "a shell"
ports = ["tcp"]
settings = { note = "" }
[[recipe.shell.variant]]
name = "sh"
command = ["sh", "-c", "echo ready ${setting.note}; exec sleep 1000"]
ready = [{ log = "ready" }]
properties = { url = "x://${host}:${port.tcp}" }
"#;

/// Leaves no servers behind where a test fails.
struct Down<'s>(&'s Scene);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.0.run(&["stack", "down", "servers.toml"]);
    }
}

#[test]
fn a_stack_is_started_looked_at_and_stopped() {
    let scene = Scene::new();
    fs::write(scene.path("servers.toml"), STACK).expect("write");
    scene.code(17, &["stack", "status", "servers.toml"]);
    assert_eq!(scene.ok(&["stack", "down", "servers.toml"]), "nothing runs\n");
    let _down = Down(&scene);
    let up = scene.json(0, &["stack", "up", "servers.toml", "--detach"]);
    assert_eq!((&up["stack"], &up["is_detached"]), (&"servers".into(), &true.into()), "{up}");
    let url = up["servers"][0]["properties"]["url"].as_str().expect("url");
    let logs = scene.ok(&["stack", "logs", "servers.toml"]);
    assert_eq!(logs, format!("one | ready\ntwo | ready {url}\n"));
    assert_eq!(scene.ok(&["stack", "logs", "servers.toml", "one"]), "ready\n");
    scene.code(2, &["stack", "logs", "servers.toml", "three"]);
    scene.code(1, &["stack", "up", "servers.toml"]);
    let status = scene.json(0, &["stack", "status"]);
    let state = &status["stacks"][0]["servers"][1];
    assert_eq!((&state["server"], &state["state"]), (&"two".into(), &"running".into()), "{status}");
    let pid = state["pid"].as_u64().expect("pid");
    let down = scene.json(0, &["stack", "down", "servers.toml"]);
    assert_eq!(down["stopped"], serde_json::json!(["one", "two"]));
    // What has ended has no command any more, also before its number is free.
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert_eq!(text(&command), "");
    let folder = up["folder"].as_str().expect("folder");
    assert!(!Path::new(folder).exists());
    fs::write(scene.path("bad.toml"), STACK.replace("\"shell\" }", "\"shall\" }")).expect("write");
    assert_eq!(scene.json(2, &["stack", "up", "bad.toml"])["error"]["kind"], "invalid");
    fs::write(scene.path("ends.toml"), STACK.replace("exec sleep 1000", "exit 3")).expect("write");
    let failed = scene.json(1, &["stack", "up", "ends.toml"]);
    assert!(failed["error"]["causes"][0].as_str().expect("cause").contains("exit status: 3"));
}

#[test]
fn a_copy_is_kept_up_without_a_key_and_takes_over() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    // Who copies has no key and no policy.
    let key = fs::read(scene.path("lifeboat.key")).expect("key");
    let policy = fs::read(scene.path("lifeboat.toml")).expect("policy");
    fs::remove_file(scene.path("lifeboat.key")).expect("remove");
    fs::remove_file(scene.path("lifeboat.toml")).expect("remove");
    let sync = ["repo", "sync", "--from", "repository", "--to", "away/copy"];
    let would = scene.json(0, &[&sync[..], &["--dry-run"]].concat());
    let would = &would["directions"][0];
    assert!(would["missing"]["objects"].as_u64() > Some(8), "{would}");
    assert!(would["to"].as_str().is_some_and(|to| to.ends_with("away/copy")), "{would}");
    assert!(would["lag"][0]["newest_there"].is_null(), "{would}");
    assert!(!scene.path("away").exists(), "a dry run writes nothing");
    let told = scene.ok(&[&sync[..], &["--limit", "1GiB/s"]].concat());
    assert!(told.contains("copied ") && told.contains("prod: up to date"), "{told}");
    let again = scene.json(0, &sync);
    assert_eq!(again["directions"][0]["copied"]["objects"], 0, "{again}");
    assert_eq!(again["directions"][0]["lag"][0]["behind_ms"], 0, "{again}");

    // The first repository is lost: the copy goes on with the same key.
    fs::write(scene.path("lifeboat.key"), key).expect("key");
    fs::write(scene.path("lifeboat.toml"), policy).expect("policy");
    fs::rename(scene.path("repository"), scene.path("lost")).expect("rename");
    let copy = ["--repo", "away/copy", "--key-file", "lifeboat.key"];
    let verified = scene.json(0, &[&["verify", "--deep"][..], &copy].concat());
    assert_eq!(verified["is_sound"], true, "{verified}");
    scene.ok(&[&["restore", "prod@latest", "--to", "back"][..], &copy].concat());
    assert_eq!(tree(&scene.restored("back")), tree(&scene.data()));
    fs::write(scene.data().join("new"), "new\n").expect("write");
    scene.ok(&[&["backup"][..], &copy].concat());

    // Found again, it is brought up to date from the copy.
    fs::rename(scene.path("lost"), scene.path("repository")).expect("rename");
    let both = scene.json(0, &[&sync[..], &["--both"]].concat());
    assert_eq!(both["directions"][0]["copied"]["objects"], 0, "{both}");
    assert!(both["directions"][1]["copied"]["objects"].as_u64() > Some(0), "{both}");
    assert_eq!(scene.json(0, &["points"])["points"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_copy_goes_nowhere_else_and_leaves_out_what_is_damaged() {
    let scene = Scene::with_repository();
    scene.ok(&["backup"]);
    let other = Scene::with_repository();
    let away = other.path("repository").display().to_string();
    let refused = scene.json(1, &["repo", "sync", "--to", &away]);
    assert_eq!(refused["error"]["kind"], "conflict", "{refused}");
    assert!(
        refused["error"]["hint"].as_str().is_some_and(|hint| hint.contains("--to")),
        "{refused}"
    );
    let refused = scene.json(2, &["repo", "sync", "--to", "repository"]);
    assert_eq!(refused["error"]["kind"], "invalid", "{refused}");
    scene.code(10, &["repo", "sync", "--from", "data", "--to", "copy"]);

    let packs = tree(&scene.path("repository/pack"));
    let pack = packs.keys().find(|path| path.components().count() == 2).expect("pack");
    let path = scene.path("repository/pack").join(pack);
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    fs::write(&path, bytes).expect("write");
    let report = scene.json(13, &["repo", "sync", "--to", "copy"]);
    let problem = &report["directions"][0]["problems"][0];
    assert_eq!(problem["fault"], "damaged_at_source", "{report}");
    assert!(!scene.path("copy/pack").join(pack).exists());
    assert!(scene.path("copy/point").exists(), "the rest goes on");
}
