//! The program over real object stores: a server each, and credentials from the environment alone.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use stack::{Place, Server, Shared};
use tempfile::TempDir;

static S3: Shared = Shared::new("cli-s3", r#"server = [{ name = "s3", recipe = "versitygw" }]"#);
static AZURE: Shared =
    Shared::new("cli-azure", r#"server = [{ name = "azure", recipe = "azurite" }]"#);

/// Starts a server; none where it cannot be had on this machine, which is said.
async fn start(stack: &'static Shared, name: &str) -> Option<&'static Server> {
    let (context, _) = testkit::real_context(1);
    let place = Place::of_variables(std::env::vars_os()).expect("folders");
    match stack.get(&place, &context).await {
        Ok(stack) => Some(stack.server(name).expect(name)),
        Err(error) if error.kind() == model::ErrorKind::NotFound => {
            let _ =
                writeln!(std::io::stdout(), "not run: the program over {name}: {}", error.chain());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// A folder with something to protect.
struct Scene {
    folder: TempDir,
    credentials: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(credentials: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir_all(folder.path().join("data/sub")).expect("folders");
        let scene = Self { folder, credentials };
        fs::write(scene.path("data/a.conf"), "first\n").expect("write");
        fs::write(scene.path("data/sub/large"), noise(1)).expect("write");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str], more: &[(&str, String)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.path("home")).env("TZ", "UTC").env("LIFEBOAT_HOST", "host");
        command.env("TMPDIR", self.folder.path());
        command.envs(self.credentials.iter().map(|(name, value)| (*name, value)));
        command.envs(more.iter().map(|(name, value)| (*name, value)));
        command.output().expect("start lifeboat")
    }

    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat(), &[]);
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        serde_json::from_str(&out).expect(&out)
    }

    fn restored(&self, to: &str, name: &str) -> Vec<u8> {
        let data = fs::canonicalize(self.path("data")).expect("data");
        let below = data.strip_prefix("/").expect("absolute").join(name);
        fs::read(self.path(to).join(below)).expect("restored")
    }
}

/// What does not compress.
fn noise(seed: u64) -> Vec<u8> {
    testkit::random_bytes(seed, 1_500_000).to_vec()
}

/// From the first to the last command. `place` says where the store is, for `init` alone: the policy keeps it.
fn live(scene: &Scene, url: &str, place: &[(&str, String)], proven: &str) {
    let init = ["init", "--repo", url, "--site", "prod", "data"];
    let output = scene.run(&init, place);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let policy = fs::read_to_string(scene.path("lifeboat.toml")).expect("policy");
    assert!(policy.contains("endpoint = \"http://127.0.0.1:"), "{policy}");
    for (_, secret) in &scene.credentials {
        assert!(!policy.contains(secret.as_str()), "{policy}");
    }
    scene.json(0, &["backup"]);
    fs::write(scene.path("data/a.conf"), "second\n").expect("write");
    fs::write(scene.path("data/sub/large"), noise(2)).expect("write");
    scene.json(0, &["backup"]);
    let restored = scene.json(0, &["restore", "prod@latest~1", "--to", "old"]);
    assert_eq!(restored["is_proven"], true, "{restored}");
    assert_eq!(scene.restored("old", "a.conf"), b"first\n");
    let restored = scene.json(0, &["restore", "prod@latest", "--to", "new"]);
    assert_eq!(restored["is_proven"], true, "{restored}");
    assert!(scene.restored("new", "sub/large") == noise(2));
    scene.json(0, &["verify", "--deep"]);
    scene.json(0, &["forget", "prod@latest~1"]);
    let freed = scene.json(0, &["repo", "gc", "--patience", "0s"]);
    assert!(freed["freed"]["packs"].as_u64() > Some(0), "{freed}");
    scene.json(0, &["verify", "--deep"]);
    // One key only, which nobody tried elsewhere, is doubtful; the store is not.
    let health = scene.json(3, &["doctor"]);
    let checks = health["checks"].as_array().expect("checks");
    let store = checks.iter().filter(|check| check["check"] == "store");
    let store: Vec<_> = store.map(|check| (&check["verdict"], check["detail"].as_str())).collect();
    assert_eq!(store[0], (&Value::from("good"), Some(proven)), "{health}");
    assert!(store.iter().all(|(verdict, _)| *verdict == "good"), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_lives_with_s3() {
    let Some(server) = start(&S3, "s3").await else { return };
    let property = |name: &str| server.property(name).expect(name).to_owned();
    let scene = Scene::new(vec![
        ("AWS_ACCESS_KEY_ID", property("access_key")),
        ("AWS_SECRET_ACCESS_KEY", property("secret_key")),
    ]);
    let place = [
        ("AWS_ENDPOINT_URL", server.url().expect("url").to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", property("region")),
    ];
    let url = format!("s3://{}/program", property("bucket"));
    live(&scene, &url, &place, "S3 was proven against versitygw 1.8.0");
    if !server.provides("authentication") {
        let _ = writeln!(std::io::stdout(), "not run: a wrong secret over s3: everybody is let in");
        return;
    }
    let wrong = [("AWS_SECRET_ACCESS_KEY", "nobody-may-see-this".to_owned())];
    let output = scene.run(&["points"], &wrong);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !told.contains("nobody-may-see-this"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_lives_with_azure() {
    let Some(server) = start(&AZURE, "azure").await else { return };
    let property = |name: &str| server.property(name).expect(name).to_owned();
    let account = property("account");
    let scene = Scene::new(vec![("AZURE_STORAGE_ACCOUNT_KEY", property("key"))]);
    let place = [
        ("AZURE_STORAGE_ENDPOINT", format!("{}/{account}", server.url().expect("url"))),
        ("AZURE_ALLOW_HTTP", "true".to_owned()),
        ("AZURE_STORAGE_ACCOUNT_NAME", account),
    ];
    let url = format!("az://{}/program", property("container"));
    live(&scene, &url, &place, "Azure Blob Storage was proven against Azurite 3.35.0");
}
