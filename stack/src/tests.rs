//! Whole stacks of small programs: order, readiness, stopping, crashes, folders, networks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use model::{Context, ErrorKind, Result};
use tempfile::TempDir;
use testkit::real_context;

use crate::memory::MemoryLimit;
use crate::process::{ProcessId, marked, stop};
use crate::{Description, Options, Place, Record, Running, Stack, find, list, registry};

/// Recipes of small programs. `sh` says when it is ready, `web` is a server of files.
const RECIPES: &str = r#"
[recipe.sh]
about = "a shell script"
ports = ["tcp"]
settings = { script = "echo ready; exec sleep 1000", note = "", make = "true", prepare = "true" }
memory_mib = 64
[[recipe.sh.variant]]
name = "sh"
provides = ["sleep"]
folders = ["data"]
files = { "conf/note.txt" = "${name}: ${setting.note}" }
environment = { NOTE = "${setting.note}" }
create = [["sh", "-c", "${setting.make}"]]
command = ["sh", "-c", "${setting.script}"]
ready = [{ log = "ready" }]
prepare = [["sh", "-c", "${setting.prepare}"]]
ready_within_s = 20
stop_within_s = 1
properties = { url = "x://${host}:${port.tcp}", folder = "${folder}", data = "${folder.data}" }

[recipe.hasty]
about = "a shell script that has little time"
settings = { script = "" }
[[recipe.hasty.variant]]
name = "sh"
command = ["sh", "-c", "${setting.script}"]
ready = [{ log = "never" }]
ready_within_s = 1

[recipe.web]
about = "a server of files"
ports = ["http"]
memory_mib = 256
[[recipe.web.variant]]
name = "absent"
needs = ["absent"]
command = ["absent"]
[[recipe.web.variant]]
name = "python"
needs = ["python"]
folders = ["files"]
files = { "files/hello.txt" = "hello from ${name}" }
command = ["${program.python}", "-u", "-m", "http.server", "${port.http}", "--bind", "${host}", "--directory", "${folder.files}"]
ready = [
    { tcp = "${host}:${port.http}" },
    { http = "http://${host}:${port.http}/hello.txt", contains = "hello from" },
    { command = ["sh", "-c", "echo all ${name}"], contains = "all w" },
]
properties = { url = "http://${host}:${port.http}" }

[artefact.absent]
sources = [{ installed = "no-such-program-of-lifeboat" }]
"#;

/// Folders of its own, so that tests do not sweep each other's stacks.
struct Scene {
    folder: TempDir,
    place: Place,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let place = place_in(folder.path());
        Self { folder, place }
    }

    fn read(&self, servers: &str) -> Description {
        Description::parse(&format!("{servers}\n{RECIPES}"), "test").expect("sound")
    }

    async fn start(&self, servers: &str, context: &Context) -> Result<Stack> {
        Stack::start(&self.read(servers), &Options::default(), &self.place, context).await
    }

    fn records(&self) -> Vec<Running> {
        list(&self.place).expect("records")
    }

    fn assert_nothing_left(&self) {
        assert!(self.records().is_empty());
        let left = |folder: PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        assert_eq!(left(self.place.works()), Vec::<PathBuf>::new());
        assert_eq!(left(self.place.records()), Vec::<PathBuf>::new());
    }
}

fn place_in(folder: &Path) -> Place {
    let place = Place::of_variables(std::env::vars_os()).expect("place");
    place.with_state(&folder.join("state")).with_cache(&folder.join("cache"))
}

async fn wait_until(what: &str, context: &Context, holds: impl Fn() -> bool) {
    let begin = context.clock.elapsed();
    while !holds() {
        assert!(context.clock.elapsed() - begin < Duration::from_secs(30), "waited for {what}");
        context.clock.sleep(Duration::from_millis(10)).await;
    }
}

fn get(url: &str, path: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let address = url.strip_prefix("http://").expect("url");
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn servers_start_in_order_know_each_other_and_leave_nothing() {
    let (scene, (context, monitor)) = (Scene::new(), real_context(1));
    let stack = scene
        .start(
            r#"server = [
                { name = "c", recipe = "sh", settings = { note = "${a.url} ${b.port.tcp}" } },
                { name = "b", recipe = "sh", after = ["a"] },
                { name = "a", recipe = "sh", settings = { note = "first" } },
            ]"#,
            &context,
        )
        .await
        .expect("started");
    let [a, b, c] = ["a", "b", "c"].map(|name| stack.server(name).expect(name));
    let ticks = [a, b, c].map(|server| server.record().process.start_ticks);
    assert!(ticks.is_sorted(), "{ticks:?}");
    let note = format!("c: {} {}", a.url().expect("url"), b.port("tcp").expect("port"));
    let folder = PathBuf::from(c.property("folder").expect("folder"));
    assert_eq!(fs::read_to_string(folder.join("conf/note.txt")).expect("file"), note);
    assert!(Path::new(c.property("data").expect("data")).is_dir());
    assert_eq!(fs::read_to_string(c.log()).expect("log"), "ready\n");
    assert!(c.provides("sleep") && !c.provides("object-lock"));
    assert_eq!(stack.server("d").expect_err("none").kind(), ErrorKind::NotFound);
    assert_eq!(stack.egress().expect("counted"), None);
    let phases: Vec<_> =
        monitor.phases().iter().map(|p| format!("{} {}", p.name, p.subject)).collect();
    assert_eq!(phases.iter().filter(|line| line.starts_with("start ")).count(), 3, "{phases:?}");

    let records = scene.records();
    let record = &records.first().expect("on record").record;
    assert!(record.is_supervised() && record.servers.iter().all(|server| server.is_ready));
    let processes: Vec<ProcessId> = record.servers.iter().map(|server| server.process).collect();
    let groups: Vec<_> = record.servers.iter().map(|server| server.memory_limit.clone()).collect();
    assert_eq!(stack.ended(), Vec::<String>::new());
    assert!(processes[0].signal(rustix::process::Signal::KILL));
    wait_until("its end", &context, || !processes[0].is_alive()).await;
    assert_eq!(stack.ended(), ["a"]);

    stack.stop(&context).await.expect("stopped");
    assert!(processes.iter().all(|process| !process.is_alive()));
    for group in groups {
        assert!(!matches!(group, MemoryLimit::ControlGroup { path } if path.exists()));
    }
    scene.assert_nothing_left();
    monitor.assert_no_problems();
}

#[tokio::test]
async fn a_server_is_ready_when_all_of_its_probes_say_so() {
    let (scene, (context, monitor)) = (Scene::new(), real_context(2));
    let servers = r#"server = [{ name = "w1", recipe = "web" }, { name = "w2", recipe = "web" }]"#;
    let (one, two) = futures::join!(scene.start(servers, &context), scene.start(servers, &context));
    let stacks = [one.expect("one"), two.expect("two")];
    let mut ports = BTreeSet::new();
    for stack in &stacks {
        for name in ["w1", "w2"] {
            let server = stack.server(name).expect(name);
            ports.insert(server.port("http").expect("port"));
            let answer = get(server.url().expect("url"), "/hello.txt").expect("answer");
            assert!(answer.ends_with(&format!("hello from {name}")), "{answer}");
        }
    }
    assert_eq!(ports.len(), 4, "each has its own");
    let server = stacks[0].server("w1").expect("server").record();
    assert_eq!((server.variant.as_str(), server.passed_over.len()), ("python", 1));
    assert!(server.passed_over[0].contains("no-such-program-of-lifeboat is not installed"));
    assert!(monitor.problems()[0].contains("it is made by python: not by absent"));
    for stack in stacks {
        stack.stop(&context).await.expect("stopped");
    }
    scene.assert_nothing_left();
}

#[tokio::test]
async fn what_does_not_become_ready_is_told_with_its_log_and_taken_away() {
    let (scene, (context, _)) = (Scene::new(), real_context(3));
    for (servers, why) in [
        (
            r#"server = [{ name = "a", recipe = "sh", settings = { script = "echo no room; exit 7" } }]"#,
            &["it ended before it was ready (exit status: 7)", "no room"][..],
        ),
        (
            r#"server = [{ name = "a", recipe = "hasty", settings = { script = "echo busy; exec sleep 1000" } }]"#,
            &["not ready within 1 s", "\"never\" is not in its log", "busy"],
        ),
        (
            r#"server = [{ name = "a", recipe = "sh", settings = { make = "echo bad disk; exit 3" } }]"#,
            &["sh: exit status: 3", "bad disk"],
        ),
        (
            r#"server = [{ name = "a", recipe = "sh", settings = { prepare = "exit 4" } }]"#,
            &["sh: exit status: 4"],
        ),
        (
            r#"server = [{ name = "a", recipe = "sh", settings = { note = "${b.nothing}" } }, { name = "b", recipe = "sh" }]"#,
            &["${b.nothing}", "b.port.tcp"],
        ),
        (
            "server = [{ name = \"a\", recipe = \"web\", variant = \"absent\" }]",
            &["have server a", "no-such-program-of-lifeboat is not installed"],
        ),
    ] {
        let error = scene.start(servers, &context).await.expect_err(servers);
        for word in why {
            assert!(error.chain().contains(word), "{word}: {}", error.chain());
        }
        scene.assert_nothing_left();
    }
}

#[tokio::test]
async fn cancelling_ends_a_start() {
    let (scene, (context, _)) = (Scene::new(), real_context(4));
    let servers =
        r#"server = [{ name = "a", recipe = "sh", settings = { script = "exec sleep 1000" } }]"#;
    let start = scene.start(servers, &context);
    let cancel = async {
        wait_until("its process", &context, || {
            scene.records().first().is_some_and(|one| !one.record.servers.is_empty())
        })
        .await;
        context.cancel.cancel();
    };
    let (outcome, ()) = futures::join!(start, cancel);
    assert_eq!(outcome.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    scene.assert_nothing_left();
}

/// Does not stop when asked, and has a child that left its group and one that has no mark.
const STUBBORN: &str = r#"server = [{ name = "a", recipe = "sh", settings = { script = """
trap 'echo asked' TERM
setsid sleep 1001 & env -i sleep 1002 &
echo ready
while true; do wait; done""" } }]"#;

#[tokio::test]
async fn what_does_not_stop_is_killed_with_all_that_it_started() {
    let (scene, (context, _)) = (Scene::new(), real_context(5));
    let stack = scene.start(STUBBORN, &context).await.expect("started");
    let server = stack.server("a").expect("server").record().clone();
    let mark = format!("{}/", scene.records()[0].id);
    wait_until("both children", &context, || {
        let marked: BTreeSet<_> = marked(&mark).into_iter().collect();
        let group: BTreeSet<_> = crate::process::members(server.process).into_iter().collect();
        marked.len() == 2 && group.len() == 2 && marked.union(&group).count() == 3
    })
    .await;
    let all: Vec<_> =
        marked(&mark).into_iter().chain(crate::process::members(server.process)).collect();
    let log = fs::File::open(&server.log).expect("log");
    stack.stop(&context).await.expect("stopped");
    assert!(all.iter().all(|process| !process.is_alive()));
    assert_eq!(std::io::read_to_string(log).expect("log"), "ready\nasked\n");
    scene.assert_nothing_left();
}

#[tokio::test]
async fn dropping_kills() {
    let (scene, (context, _)) = (Scene::new(), real_context(6));
    let stack = scene.start(STUBBORN, &context).await.expect("started");
    let process = stack.server("a").expect("server").record().process;
    let mark = format!("{}/", scene.records()[0].id);
    drop(stack);
    wait_until("the end", &context, || !process.is_alive() && marked(&mark).is_empty()).await;
    scene.assert_nothing_left();
}

#[tokio::test]
async fn a_folder_that_is_named_stays_and_is_made_once() {
    let (scene, (context, _)) = (Scene::new(), real_context(7));
    let servers = r#"server = [{ name = "a", recipe = "sh", settings = { make = "echo c >> times", prepare = "echo p >> times", script = "echo s >> times; echo ready; exec sleep 1000" } }]"#;
    let folder = scene.folder.path().join("kept");
    let options = Options { folder: Some(folder.clone()), ..Options::default() };
    for _ in 0..2 {
        let description = scene.read(servers);
        let stack = Stack::start(&description, &options, &scene.place, &context).await;
        let stack = stack.expect("started");
        assert_eq!(stack.folder(), folder);
        stack.stop(&context).await.expect("stopped");
    }
    assert_eq!(fs::read_to_string(folder.join("a/times")).expect("times"), "c\ns\np\ns\n");
    scene.assert_nothing_left();
}

#[tokio::test]
async fn a_detached_stack_lives_on_until_it_is_taken_down() {
    let (scene, (context, _)) = (Scene::new(), real_context(8));
    let description = scene.read(r#"server = [{ name = "a", recipe = "sh" }]"#);
    let origin = scene.folder.path().join("origin.toml");
    let options =
        Options { origin: Some(origin.clone()), is_to_be_detached: true, ..Options::default() };
    let stack =
        Stack::start(&description, &options, &scene.place, &context).await.expect("started");
    let process = stack.server("a").expect("server").record().process;
    stack.detach().expect("detached");

    assert_eq!(registry::sweep(&scene.place, &context).await.expect("swept"), Vec::<String>::new());
    let running = find(&scene.place, &origin).expect("read").expect("found");
    assert!(running.is_alive() && !running.record.is_supervised() && process.is_alive());
    let second = Stack::start(&description, &options, &scene.place, &context).await;
    assert_eq!(second.expect_err("a second one").kind(), ErrorKind::Conflict);

    running.down(&scene.place, &context).await.expect("down");
    assert!(!process.is_alive());
    assert!(find(&scene.place, &origin).expect("read").is_none());
    scene.assert_nothing_left();
}

const FILE_OF_SUPERVISOR: &str = "supervised.toml";

/// A supervisor to be killed; does nothing unless it finds its description in its folder.
#[tokio::test]
#[ignore = "another test runs it as a process of its own"]
async fn supervisor() {
    let Ok(text) = fs::read_to_string(FILE_OF_SUPERVISOR) else { return };
    let (context, _) = real_context(9);
    let place = place_in(&std::env::current_dir().expect("folder"));
    let description = Description::parse(&text, "test").expect("sound");
    let options = Options::default();
    let _stack = Stack::start(&description, &options, &place, &context).await.expect("started");
    fs::write("is-ready", "").expect("write");
    context.clock.sleep(Duration::from_secs(600)).await;
}

impl Scene {
    /// Runs a supervisor in a process of its own; comes back when its stack is ready.
    async fn supervise(&self, servers: &str, context: &Context) -> (Child, Record, String) {
        let file = self.folder.path().join(FILE_OF_SUPERVISOR);
        fs::write(file, format!("{servers}\n{RECIPES}")).expect("write");
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "tests::supervisor", "--ignored"])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("supervisor");
        let flag = self.folder.path().join("is-ready");
        wait_until("its servers", context, || flag.exists()).await;
        let running = self.records().swap_remove(0);
        (child, running.record, format!("{}/", running.id))
    }
}

#[tokio::test]
async fn when_a_supervisor_is_killed_its_guard_ends_its_servers() {
    let (scene, (context, _)) = (Scene::new(), real_context(10));
    let (mut child, record, _) = scene.supervise(STUBBORN, &context).await;
    let server = record.servers[0].process;
    let members = crate::process::members(server);
    assert!(members.len() >= 2, "{members:?}");
    child.kill().expect("kill");
    child.wait().expect("wait");
    wait_until("the guard", &context, || members.iter().all(|one| !one.is_alive())).await;
    // What left its group is found by its mark; then the record and the folder go.
    assert_eq!(registry::sweep(&scene.place, &context).await.expect("swept"), ["test"]);
    scene.assert_nothing_left();
}

#[tokio::test]
async fn when_the_guard_is_killed_too_the_next_start_ends_them() {
    let (scene, (context, monitor)) = (Scene::new(), real_context(11));
    let (mut child, record, mark) = scene.supervise(STUBBORN, &context).await;
    let server = record.servers[0].process;
    let helpers: BTreeSet<ProcessId> = record.guard.into_iter().collect();
    stop::kill(helpers, "no such mark/", context.clock.as_ref()).await.expect("guard");
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(server.is_alive() && !marked(&mark).is_empty(), "nobody has ended it");
    assert!(!scene.records()[0].record.is_supervised());

    let servers = r#"server = [{ name = "b", recipe = "sh" }]"#;
    let stack = scene.start(servers, &context).await.expect("started");
    assert!(!server.is_alive() && marked(&mark).is_empty());
    assert!(!record.folder.exists());
    assert_eq!(scene.records().len(), 1);
    stack.stop(&context).await.expect("stopped");
    scene.assert_nothing_left();
    monitor.assert_no_problems();
}

#[tokio::test]
async fn memory_is_limited_where_the_kernel_can() {
    let (scene, (context, _)) = (Scene::new(), real_context(12));
    let script = "echo ready; exec sleep 1000";
    let stack = scene
        .start(&format!("server = [{{ name = \"a\", recipe = \"sh\", settings = {{ script = '''{script}''' }} }}]"), &context)
        .await
        .expect("started");
    let limit = stack.server("a").expect("server").record().memory_limit.clone();
    stack.stop(&context).await.expect("stopped");
    let MemoryLimit::ControlGroup { path } = limit else {
        println!("not run: this machine has no control groups for memory, the limit is {limit:?}");
        return;
    };
    assert!(!path.exists());
    // Far more than the 64 MiB of the recipe.
    let script = "exec python3 -c \"x = b'x' * (1 << 28); print('ready', flush=True); input()\"";
    let servers = format!(
        "server = [{{ name = \"a\", recipe = \"sh\", settings = {{ script = '''{script}''' }} }}]"
    );
    let error = scene.start(&servers, &context).await.expect_err("killed");
    assert!(error.chain().contains("signal: 9"), "{}", error.chain());
    scene.assert_nothing_left();
}

#[tokio::test]
async fn an_isolated_stack_is_reached_and_reaches_nothing() {
    let (scene, (context, _)) = (Scene::new(), real_context(13));
    // An address for documentation: nobody has it, and the kernel has no way there in any case.
    let reach = "import socket\ntry:\n  socket.create_connection(('192.0.2.1', 9), 5)\n  print('reached')\nexcept OSError as e:\n  print('refused', e.errno)\nprint('ready')";
    let servers = format!(
        r#"isolated = true
        server = [
            {{ name = "w1", recipe = "web" }},
            {{ name = "out", recipe = "sh", settings = {{ script = '''python3 -uc "{reach}"; exec sleep 1000''' }} }},
        ]"#
    );
    let stack = match scene.start(&servers, &context).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("not run: {}", error.chain());
            return;
        }
        stack => stack.expect("started"),
    };
    let url = stack.server("w1").expect("server").url().expect("url").to_owned();
    // Elsewhere: what carries connections over runs here.
    let fetch = || {
        let url = url.clone();
        async {
            tokio::task::spawn_blocking(move || get(&url, "/hello.txt")).await.expect("joined")
        }
    };
    let answer = fetch().await.expect("answer");
    assert!(answer.ends_with("hello from w1"), "{answer}");
    let log = fs::read_to_string(stack.server("out").expect("server").log()).expect("log");
    assert_eq!(log, "refused 101\nready\n");
    let egress = stack.egress().expect("counted").expect("isolated");
    assert!(egress.refused >= 1, "{egress:?}");
    stack.stop(&context).await.expect("stopped");
    assert!(fetch().await.is_err());
    scene.assert_nothing_left();

    let options = Options { is_to_be_detached: true, ..Options::default() };
    let refused = Stack::start(&scene.read(&servers), &options, &scene.place, &context).await;
    assert_eq!(refused.expect_err("detached").kind(), ErrorKind::Unsupported);
}
