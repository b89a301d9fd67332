//! `lifeboat stack`: real servers on this host, from a description.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use app::stacks::{self, MemoryLimit, Options, Provided, Record, Running, ServerRecord, Stack};
use model::{Error, ErrorKind, Result, Timestamp};
use policies::show_bytes;
use serde_json::{Value, json};

use super::refuse;
use crate::exit::{Exit, STACK_ACTION};
use crate::names;
use crate::output;
use crate::run::Run;
use crate::table::lay_out;

/// How often what runs is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How much of a log is printed at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Arguments of `stack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start the servers, print where they are, and stop them at an interrupt
    Up(UpArgs),
    /// Fetch all that the servers take, and start nothing
    Fetch {
        /// A description of servers (TOML)
        description: PathBuf,
        /// Fetch nothing: say whether all is there
        #[arg(long)]
        offline: bool,
    },
    /// Show what runs
    Status {
        /// Only what was started from this description
        description: Option<PathBuf>,
    },
    /// Print what servers have logged
    Logs {
        /// The description that they were started from
        description: PathBuf,
        /// Only this server
        server: Option<String>,
        /// Go on printing what is added, until interrupted
        #[arg(long, short)]
        follow: bool,
    },
    /// Stop the servers and remove what was made for them
    Down {
        /// The description that they were started from
        description: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    /// A description of servers (TOML)
    description: PathBuf,
    /// Come back when all are ready, and leave them running
    #[arg(long)]
    detach: bool,
    /// Keep their data in this folder [default: one that goes with them]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Fetch nothing: take what is in the cache or installed
    #[arg(long)]
    offline: bool,
}

impl Args {
    /// Does it.
    ///
    /// # Errors
    /// Those of `stack`, each below one that says which description it is about.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        let about = |path: &Path| {
            let shown = path.display().to_string();
            move |error: Error| match error.kind() {
                ErrorKind::Cancelled => error,
                _ if error.action() == output::WRITE_ACTION => error,
                kind => Error::new(kind, STACK_ACTION, shown).because(error),
            }
        };
        match &self.action {
            Action::Up(args) => Box::pin(args.run(run)).await.map_err(about(&args.description)),
            Action::Fetch { description, offline } => {
                fetch(description, *offline, run).await.map_err(about(description))
            }
            Action::Status { description } => status(description.as_deref(), run),
            Action::Logs { description, server, follow } => {
                let logs = logs(description, server.as_deref(), *follow, run);
                logs.await.map_err(about(description))
            }
            Action::Down { description } => {
                down(description, run).await.map_err(about(description))
            }
        }
    }
}

impl UpArgs {
    async fn run(&self, run: &Run) -> Result<Exit> {
        let (description, origin) = stacks::read(&run.environment, &self.description)?;
        let place = stacks::place(&run.environment, self.offline)?;
        let options = Options {
            folder: self.folder.as_ref().map(|folder| run.environment.absolute(folder)),
            origin: Some(origin.clone()),
            is_to_be_detached: self.detach,
        };
        run.listen();
        let shown = self.description.display();
        let stack = Stack::start(&description, &options, &place, &run.context).await?;
        run.progress.end();
        let say = || match stacks::find(&place, &origin)? {
            Some(running) => run.output.result(|| text(&running, run), || value(&running)),
            None => Ok(()),
        };
        if self.detach {
            stack.detach()?;
            run.progress.note(&format!("`lifeboat stack down {shown}` stops them"));
            say()?;
            return Ok(Exit::Done);
        }
        if let Err(error) = say() {
            stack.stop(&run.context).await?;
            return Err(error);
        }
        run.progress.note("an interrupt stops them");
        let ended = watch(&stack, run).await;
        for name in &ended {
            let words = stack.server(name)?.last_words();
            run.progress.warn(&format!("{name} ended by itself; its log ends:\n{words}"));
        }
        let egress = stack.egress()?;
        run.progress.note("stopping");
        stack.stop(&run.context).await?;
        if let Some(egress) = egress {
            let refused = egress.refused;
            run.progress.note(&format!("packets for the outside that were refused: {refused}"));
        }
        Ok(if ended.is_empty() { Exit::Done } else { Exit::Failed })
    }
}

/// Waits for an interrupt, or for the end of a server.
async fn watch(stack: &Stack, run: &Run) -> Vec<String> {
    loop {
        let ended = stack.ended();
        if !ended.is_empty() {
            return ended;
        }
        tokio::select! {
            () = run.context.cancel.cancelled() => return Vec::new(),
            () = run.context.clock.sleep(LOOK_EVERY) => {}
        }
    }
}

async fn fetch(path: &Path, is_offline: bool, run: &Run) -> Result<Exit> {
    let (description, _) = stacks::read(&run.environment, path)?;
    let place = stacks::place(&run.environment, is_offline)?;
    run.listen();
    let fetched = stacks::fetch(&description, &place, &run.context).await?;
    run.progress.end();
    let text = || {
        let mut rows =
            vec![["SERVER", "VARIANT", "ARTEFACT", "SOURCE"].map(str::to_owned).to_vec()];
        for server in &fetched {
            for one in &server.artefacts {
                let is_new = if one.is_new { " (fetched now)" } else { "" };
                let source = format!("{}{is_new}", one.source);
                let (name, variant) = (server.server.clone(), server.variant.clone());
                rows.push(vec![name, variant, one.artefact.clone(), source]);
            }
        }
        lay_out(&rows, &[])
    };
    let value = || {
        let servers = fetched.iter().map(|one| {
            json!({
                "server": one.server,
                "variant": one.variant,
                "passed_over": one.passed_over,
                "artefacts": one.artefacts.iter().map(artefact_value).collect::<Vec<_>>(),
            })
        });
        json!({ "servers": servers.collect::<Vec<_>>() })
    };
    run.output.result(text, value)?;
    Ok(Exit::Done)
}

fn artefact_value(one: &Provided) -> Value {
    let passed_over = one.passed_over.iter();
    let passed_over: Vec<_> =
        passed_over.map(|one| json!({ "source": one.source, "why": one.why })).collect();
    json!({
        "artefact": one.artefact,
        "source": one.source,
        "folder": one.tree.display().to_string(),
        "program": one.program.as_ref().map(|path| path.display().to_string()),
        "digest": one.digest,
        "is_new": one.is_new,
        "passed_over": passed_over,
    })
}

fn status(description: Option<&Path>, run: &Run) -> Result<Exit> {
    let place = stacks::place(&run.environment, false)?;
    let found = match description {
        None => stacks::list(&place)?,
        Some(path) => {
            let origin = stacks::origin(&run.environment, path);
            stacks::find(&place, &origin)?.into_iter().collect()
        }
    };
    let text = || match found.as_slice() {
        [] => "nothing runs\n".to_owned(),
        found => found.iter().map(|one| text(one, run)).collect::<Vec<_>>().join("\n"),
    };
    let value = || json!({ "stacks": found.iter().map(value).collect::<Vec<_>>() });
    run.output.result(text, value)?;
    let is_whole = |one: &Running| one.record.servers.iter().all(|s| one.is_server_alive(s));
    Ok(match (description, found.is_empty()) {
        (Some(_), true) => Exit::NoMatch,
        _ if found.iter().all(is_whole) => Exit::Done,
        _ => Exit::Partial,
    })
}

async fn down(path: &Path, run: &Run) -> Result<Exit> {
    let place = stacks::place(&run.environment, false)?;
    let origin = stacks::origin(&run.environment, path);
    let mut stopped = Vec::new();
    while let Some(running) = stacks::find(&place, &origin)? {
        running.down(&place, &run.context).await?;
        let servers = running.record.servers.iter().map(|server| server.name.clone());
        stopped.extend(servers);
        if stacks::find(&place, &origin)?.is_some_and(|left| left.id == running.id) {
            let error = Error::new(ErrorKind::Unavailable, "stop stack", running.record.name);
            return Err(error.detail("it is still on record"));
        }
    }
    let text = || match stopped.as_slice() {
        [] => "nothing runs\n".to_owned(),
        stopped => format!("stopped: {}\n", stopped.join(", ")),
    };
    run.output.result(text, || json!({ "stopped": stopped }))?;
    Ok(Exit::Done)
}

/// A log that is being printed.
struct Log {
    server: String,
    path: PathBuf,
    offset: u64,
}

impl Log {
    /// Reads what was added, at most a piece, in whole lines where there is one.
    fn next(&mut self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(self.offset)).ok()?;
        let mut bytes = Vec::new();
        file.take(PIECE_BYTES).read_to_end(&mut bytes).ok()?;
        if bytes.is_empty() {
            return None;
        }
        let is_whole_piece = bytes.len() as u64 == PIECE_BYTES;
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n').filter(|_| is_whole_piece)
        {
            bytes.truncate(end + 1);
        }
        self.offset += bytes.len() as u64;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

async fn logs(path: &Path, server: Option<&str>, is_followed: bool, run: &Run) -> Result<Exit> {
    if is_followed && run.globals.json {
        return Err(refuse("print logs", "", "--json prints one object: without --follow"));
    }
    let place = stacks::place(&run.environment, false)?;
    let origin = stacks::origin(&run.environment, path);
    let Some(running) = stacks::find(&place, &origin)? else {
        run.output.result(|| "nothing runs\n".to_owned(), || json!({ "logs": [] }))?;
        return Ok(Exit::NoMatch);
    };
    let wanted = |one: &&ServerRecord| server.is_none_or(|name| one.name == name);
    let mut logs: Vec<Log> = running
        .record
        .servers
        .iter()
        .filter(wanted)
        .map(|one| Log { server: one.name.clone(), path: one.log.clone(), offset: 0 })
        .collect();
    if let (Some(name), true) = (server, logs.is_empty()) {
        let known: Vec<_> = running.record.servers.iter().map(|one| one.name.as_str()).collect();
        return Err(refuse(
            "print logs",
            name,
            format!("no such server; there are {}", known.join(", ")),
        ));
    }
    if run.globals.json {
        let values = logs.iter_mut().map(|log| {
            let text: String = std::iter::from_fn(|| log.next()).collect();
            json!({ "server": log.server, "path": log.path.display().to_string(), "text": text })
        });
        let values: Vec<_> = values.collect();
        run.output.result(String::new, || json!({ "logs": values }))?;
        return Ok(Exit::Done);
    }
    if is_followed {
        run.listen();
    }
    print_logs(&mut logs, is_followed.then_some(&running), run).await
}

/// Prints logs; of several each line bears the name of its server.
async fn print_logs(logs: &mut [Log], followed: Option<&Running>, run: &Run) -> Result<Exit> {
    let is_one = logs.len() == 1;
    loop {
        // Looked at first: what is logged before the end is printed.
        let is_over = followed.is_none_or(|running| !running.is_alive());
        for log in &mut *logs {
            while let Some(text) = log.next() {
                let server = &log.server;
                let named = || {
                    text.lines().map(|line| format!("{server} | {}\n", names::line(line))).collect()
                };
                run.output
                    .result(|| if is_one { names::line(&text) } else { named() }, || json!({}))?;
            }
        }
        if is_over {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = run.context.cancel.cancelled() => return Ok(Exit::Done),
            () = run.context.clock.sleep(LOOK_EVERY) => {}
        }
    }
}

fn state(running: &Running, server: &ServerRecord) -> &'static str {
    match (running.is_server_alive(server), server.is_ready) {
        (true, true) => "running",
        (true, false) => "starting",
        (false, _) => "ended",
    }
}

fn manner(record: &Record) -> &'static str {
    match (record.is_detached, record.is_supervised()) {
        (true, _) => "detached",
        (false, true) => "supervised",
        (false, false) => "left by a supervisor that died; the next start ends it",
    }
}

fn ports(server: &ServerRecord) -> String {
    let ports: Vec<_> = server.ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
    ports.join(" ")
}

fn text(running: &Running, run: &Run) -> String {
    let record = &running.record;
    let since = policies::describe_time(since(record), &run.zone);
    let folder = record.folder.display();
    let isolated = if record.is_isolated { ", isolated" } else { "" };
    let mut text =
        format!("{}: {}{isolated}, since {since}, in {folder}\n", record.name, manner(record));
    let header = ["SERVER", "MADE BY", "STATE", "PID", "MEMORY", "PORTS", "URL"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for server in &record.servers {
        let memory = running.resident_bytes(server).map(show_bytes).unwrap_or_default();
        rows.push(vec![
            server.name.clone(),
            server.variant.clone(),
            state(running, server).to_owned(),
            server.process.pid.to_string(),
            memory,
            ports(server),
            server.properties.get("url").cloned().unwrap_or_default(),
        ]);
    }
    text.push_str(&lay_out(&rows, &[3, 4]));
    for server in &record.servers {
        let properties = server.properties.iter().filter(|(name, _)| *name != "url");
        for (name, value) in properties {
            text.push_str(&format!("{}.{name} = {value}\n", server.name));
        }
        for why in &server.passed_over {
            text.push_str(&format!("{}: {why}\n", server.name));
        }
    }
    names::line(&text)
}

fn since(record: &Record) -> Timestamp {
    Timestamp::from_unix_seconds(record.started_unix_s)
}

fn value(running: &Running) -> Value {
    let record = &running.record;
    let servers = record.servers.iter().map(|server| {
        let limit = match &server.memory_limit {
            MemoryLimit::None => "none",
            MemoryLimit::ControlGroup { .. } => "control_group",
            MemoryLimit::AddressSpace => "address_space",
            MemoryLimit::Own => "own",
        };
        json!({
            "server": server.name,
            "recipe": server.recipe,
            "variant": server.variant,
            "provides": server.provides,
            "passed_over": server.passed_over,
            "state": state(running, server),
            "pid": server.process.pid,
            "resident_bytes": running.resident_bytes(server),
            "memory_mib": server.memory_mib,
            "memory_limit": limit,
            "ports": server.ports,
            "properties": server.properties,
            "log": server.log.display().to_string(),
        })
    });
    json!({
        "stack": record.name,
        "id": running.id,
        "description": record.origin.as_ref().map(|path| path.display().to_string()),
        "is_detached": record.is_detached,
        "is_supervised": record.is_supervised(),
        "is_isolated": record.is_isolated,
        "since": Run::utc(since(record)),
        "folder": record.folder.display().to_string(),
        "servers": servers.collect::<Vec<_>>(),
    })
}
