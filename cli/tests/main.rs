//! The program as people run it: a real process over a temporary folder.

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

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.path("home")).env("TZ", "UTC").env("LIFEBOAT_HOST", "host");
        command.env("TMPDIR", self.folder.path());
        command.output().expect("start lifeboat")
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
