//! Choice of sources, the cache, and what is done to what was fetched; nothing is fetched here.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use model::ErrorKind;
use tempfile::TempDir;

use super::install::turn_links_inwards;
use super::*;
use crate::place::Place;

struct Scene {
    folder: TempDir,
    artefacts: BTreeMap<String, Artefact>,
    installed: BTreeMap<String, PathBuf>,
}

impl Scene {
    fn new(artefacts: &str) -> Self {
        let raw: BTreeMap<String, RawArtefact> = parse(artefacts, "test", "").expect("toml");
        let artefacts = raw.into_iter();
        let artefacts = artefacts
            .map(|(name, raw)| (name.clone(), Artefact::check(&name, raw).expect("sound")));
        let folder = tempfile::tempdir().expect("folder");
        Self { artefacts: artefacts.collect(), installed: BTreeMap::new(), folder }
    }

    /// Makes a program that prints a text.
    fn program(&self, name: &str, prints: &str) -> PathBuf {
        let path = self.folder.path().join("bin").join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(&path, format!("#!/bin/sh\n{prints}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        path
    }

    async fn provide(&self, name: &str, is_offline: bool) -> Result<Provided> {
        let home = self.folder.path().as_os_str().to_owned();
        let path = format!("{}/bin:/usr/bin:/bin", self.folder.path().display());
        let place = Place::of_variables([("HOME".into(), home), ("PATH".into(), path.into())]);
        let place = place.expect("place").offline(is_offline);
        let context = testkit::real_context(1).0;
        Provider::new(&self.artefacts, &self.installed, &place).provide(name, &context).await
    }
}

/// Python packages that no registry is asked for, since `python` is a script of ours that makes a "venv".
const THING: &str = r#"
    [thing]
    sources = [
        { installed = "thing-one" },
        { python = ["thing==2"], program = "bin/thing" },
        { installed = "thing-three" },
    ]
    [python]
    version = ["--version"]
    at_least = "3.9"
    sources = [{ installed = "python-of-test" }]
"#;

fn make_python(scene: &Scene) {
    let script = r#"case "$1 $2" in
        "--version ") echo "Python 3.11.7" ;;
        "-m venv")
            mkdir -p "$3/bin"; cp "$0" "$3/bin/python"
            printf '#!/bin/sh\necho %s\n' "$3" > "$3/bin/thing"; chmod +x "$3/bin/thing" ;;
        "-m pip") echo once >> "$HOME/fetched" ;;
    esac"#;
    scene.program("python-of-test", script);
}

fn fetches(scene: &Scene) -> usize {
    fs::read_to_string(scene.folder.path().join("fetched")).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn the_first_source_that_gives_it_is_used_and_the_others_are_named() {
    let scene = Scene::new(THING);
    let error = scene.provide("thing", false).await.expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for word in ["thing-one is not installed", "python-of-test is not", "thing-three is not"] {
        assert!(error.chain().contains(word), "{word}: {}", error.chain());
    }

    scene.program("thing-three", "");
    let third = scene.provide("thing", false).await.expect("installed");
    assert_eq!((third.source.as_str(), third.digest), ("installed thing-three", None));
    let over: Vec<_> = third.passed_over.iter().map(|one| one.source.as_str()).collect();
    assert_eq!(over, ["installed thing-one", "python thing==2"]);

    make_python(&scene);
    let second = scene.provide("thing", false).await.expect("fetched");
    assert_eq!((second.source.as_str(), second.is_new), ("python thing==2", true));
    let program = second.program.expect("program");
    assert!(program.starts_with(scene.folder.path().join(".cache/lifeboat/stack/artefacts")));
    let script = fs::read_to_string(program).expect("script");
    assert!(script.contains(second.tree.to_str().expect("text")), "names its last place: {script}");

    let one = scene.program("thing-one", "");
    assert_eq!(scene.provide("thing", false).await.expect("installed").program, Some(one));
}

#[tokio::test]
async fn what_is_in_the_cache_is_used_unless_it_has_changed() {
    let scene = Scene::new(THING);
    make_python(&scene);
    let offline = scene.provide("thing", true).await.expect_err("nothing may be fetched");
    assert!(offline.chain().contains("nothing may be fetched"), "{}", offline.chain());
    let first = scene.provide("thing", false).await.expect("fetched");
    let again = scene.provide("thing", true).await.expect("kept");
    assert_eq!((again.is_new, &again.digest), (false, &first.digest));
    assert_eq!(fetches(&scene), 1);

    fs::write(first.program.expect("program"), "changed").expect("write");
    let error = scene.provide("thing", true).await.expect_err("damaged, and offline");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(scene.provide("thing", false).await.expect("fetched").is_new);
    assert_eq!(fetches(&scene), 2);
    let left: Vec<_> = fs::read_dir(scene.folder.path().join(".cache/lifeboat/stack/artefacts"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with(".fetch"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn tools_must_be_new_enough_and_have_their_companions() {
    let text = r#"[go]
        version = ["version"]
        at_least = "1.25"
        companions = ["gofmt"]
        sources = [{ installed = "go" }, { installed = "go2" }]"#;
    let scene = Scene::new(text);
    scene.program("go", "echo go version go1.19.8");
    scene.program("go2", "echo go version go1.26.1 >&2");
    let error = scene.provide("go", false).await.expect_err("no companion");
    assert!(error.chain().contains("gofmt is not installed"), "{}", error.chain());
    scene.program("gofmt", "");
    let provided = scene.provide("go", false).await.expect("the second");
    assert_eq!(provided.source, "installed go2");
    assert!(provided.passed_over[0].why.contains("is 1.19.8, older than 1.25"));
}

#[tokio::test]
async fn what_the_user_names_beats_all() {
    let mut scene = Scene::new(THING);
    let named = scene.program("mine", "");
    for (path, program) in [(named.clone(), Some(named.clone())), (named.clone(), Some(named))] {
        scene.installed.insert("thing".into(), path);
        assert_eq!(scene.provide("thing", true).await.expect("named").program, program);
    }
    scene.installed.insert("thing".into(), scene.folder.path().to_owned());
    let error = scene.provide("thing", true).await.expect_err("not in it");
    assert!(error.chain().contains("none of bin/thing is in it"), "{}", error.chain());
    let inside = scene.program("thing", "");
    assert_eq!(scene.provide("thing", true).await.expect("folder").program, Some(inside));
    scene.installed.insert("thing".into(), "/no/such".into());
    assert_eq!(scene.provide("thing", true).await.expect_err("gone").kind(), ErrorKind::Invalid);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (source, why) in [
        ("{}", "a source is one of"),
        ("{ go = \"a@v1\", npm = [\"b@1\"] }", "a source is one of"),
        ("{ go = \"a\" }", "has no version"),
        ("{ go = \"a@latest\" }", "has no version"),
        ("{ npm = [\"@scope/a\"] }", "has no version"),
        ("{ python = [\"a>=1\"] }", "has no version"),
        ("{ python = [\"--index=x==1\"] }", "is an option"),
        ("{ debian = [\"-o\"] }", "is an option"),
        ("{ crate = \"garage\" }", "has no version"),
        ("{ maven = {} }", "neither jars nor archives"),
        ("{ maven = { jars = [\"a:b\"] } }", "no coordinate"),
        ("{ maven = { jars = [\"a:b:<c>\"] } }", "no coordinate"),
        ("{ maven = { archives = [\"a:b:1:zip\"] } }", "only tar.gz"),
    ] {
        let raw: RawArtefact = parse(&format!("sources = [{source}]"), "test", "").expect(source);
        let error = Artefact::check("x", raw).expect_err(source);
        assert!(error.chain().contains(why), "{source}: {}", error.chain());
    }
    Artefact::known().expect("those of ours are sound");
}

#[test]
fn a_project_names_what_is_wanted_and_what_is_not() {
    let maven = Maven {
        jars: vec!["g:a:1".into()],
        exclude: vec!["x:*".into(), "y:z".into()],
        bom: vec!["b:b:2".into()],
        archives: Vec::new(),
    };
    let project = maven.project();
    for part in [
        "<groupId>g</groupId><artifactId>a</artifactId><version>1</version><exclusions>",
        "<exclusion><groupId>x</groupId><artifactId>*</artifactId></exclusion>",
        "<exclusion><groupId>y</groupId><artifactId>z</artifactId></exclusion>",
        "<version>2</version><type>pom</type><scope>import</scope>",
    ] {
        assert!(project.contains(part), "{part} in {project}");
    }
}

#[test]
fn absolute_links_lead_into_what_was_unpacked() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    fs::create_dir_all(root.join("usr/lib/jvm")).expect("folders");
    fs::create_dir_all(root.join("etc/java")).expect("folders");
    fs::write(root.join("etc/java/security"), "inside").expect("write");
    symlink("/etc/java/security", root.join("usr/lib/jvm/security")).expect("link");
    symlink("/etc/java", root.join("top")).expect("link");
    symlink("/etc/no-such-file", root.join("usr/outside")).expect("link");
    turn_links_inwards(root, root).expect("turned");
    let target = |name: &str| fs::read_link(root.join(name)).expect("link");
    assert_eq!(target("usr/lib/jvm/security"), Path::new("../../../etc/java/security"));
    assert_eq!(target("top"), Path::new("etc/java"));
    assert_eq!(target("usr/outside"), Path::new("/etc/no-such-file"));
    assert_eq!(fs::read_to_string(root.join("usr/lib/jvm/security")).expect("read"), "inside");
}
