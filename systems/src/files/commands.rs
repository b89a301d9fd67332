//! Outputs of commands as items: a package list, the settings of a service.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use model::{Attributes, Context, Error, ErrorKind, Item, ItemKey, ItemKind, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::task::{JoinError, spawn_blocking};

use super::content::Outputs;
use super::roots::COMMANDS_NAME;

/// The longest output that is kept; it is held in memory until the cut is released.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// How much of what a command says of its failure is shown.
const COMPLAINT_BYTES_MAX: u64 = 2_000;

/// A command that only reads, whose output is an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandItem {
    /// Names the item: one component of a path, unique.
    pub name: String,
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

impl CommandItem {
    /// Checks what can be checked without running anything.
    pub(super) fn check(&self, others: &[Self]) -> Result<()> {
        let refuse = |why: &str| {
            Err(Error::new(ErrorKind::Invalid, "configure command", &*self.name).detail(why))
        };
        let is_name = !matches!(&*self.name, "" | "." | "..") && !self.name.contains(['/', '\0']);
        if !is_name {
            return refuse("its name is no file name");
        }
        if self.command.first().is_none_or(String::is_empty) {
            return refuse("no program is given");
        }
        if others.iter().any(|other| other.name == self.name) {
            return refuse("another command has this name");
        }
        Ok(())
    }
}

/// Returns the key of the directory of all outputs.
pub(super) fn directory_key(host: &ItemKey) -> Result<ItemKey> {
    host.child(COMMANDS_NAME)
}

/// Runs commands one after another. One that fails is a problem and gives no output.
///
/// # Errors
/// `Cancelled`; `Invalid` for a name that makes no key.
pub(super) async fn run_all(
    commands: &[CommandItem],
    host: &ItemKey,
    context: &Context,
) -> Result<Outputs> {
    let directory = directory_key(host)?;
    let mut outputs = Outputs::new();
    for command in commands {
        let key = directory.child(command.name.as_bytes())?;
        match run(command, context).await {
            Ok(output) => {
                outputs.insert(key, output);
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(problem) => context.monitor.problem(&problem),
        }
    }
    Ok(outputs)
}

/// Returns the items of outputs and of their directory, in key order.
pub(super) fn items_of(outputs: &Outputs, host: &ItemKey, is_used: bool) -> Result<Vec<Item>> {
    if !is_used {
        return Ok(Vec::new());
    }
    let mut items = vec![super::directory_without_attributes(directory_key(host)?)];
    items.extend(outputs.iter().map(|(key, output)| Item {
        key: key.clone(),
        kind: ItemKind::File,
        attributes: Attributes::default(),
        version: None,
        extents: super::extents::whole(output.len() as u64),
    }));
    Ok(items)
}

async fn run(command: &CommandItem, context: &Context) -> Result<Bytes> {
    let fail =
        |kind, why: String| Error::new(kind, "run command", command.name.clone()).detail(why);
    let mut running = Running::start(command).map_err(|error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let kind = if is_missing { ErrorKind::NotFound } else { ErrorKind::Unavailable };
        fail(kind, command.command.first().cloned().unwrap_or_default()).because(error)
    })?;
    let ended = tokio::select! {
        biased;
        ended = running.end() => ended,
        () = context.cancel.cancelled() => return Err(Error::cancelled("run command")),
        () = context.clock.sleep(command.timeout) => {
            let why = format!("not finished after {:?}", command.timeout);
            return Err(fail(ErrorKind::Unavailable, why));
        }
    };
    let ended = ended.map_err(|error| {
        fail(ErrorKind::Internal, "a reader of its output failed".into()).because(error)
    })?;
    let Ended { output, complaint } = ended;
    let output = output.map_err(|error| {
        fail(ErrorKind::Unavailable, "its output cannot be read".into()).because(error)
    })?;
    if output.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(fail(
            ErrorKind::Exhausted,
            format!("gives more than {OUTPUT_BYTES_MAX} bytes"),
        ));
    }
    let status = running.reap().map_err(|error| {
        fail(ErrorKind::Unavailable, "its end cannot be learned".into()).because(error)
    })?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let why = match complaint.trim() {
            "" => status.to_string(),
            complaint => format!("{status}: {complaint}"),
        };
        return Err(fail(ErrorKind::Unavailable, why));
    }
    Ok(output.into())
}

/// A command that runs in a process group of its own, and is killed with the group when dropped.
struct Running {
    child: Child,
    is_reaped: bool,
}

struct Ended {
    output: std::io::Result<Vec<u8>>,
    complaint: Vec<u8>,
}

impl Running {
    fn start(command: &CommandItem) -> std::io::Result<Self> {
        let (program, arguments) =
            command.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Self { child, is_reaped: false })
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Waits until the command has ended and its output is read. The process is not reaped, so that
    /// its number stays its own until then.
    fn end(&mut self) -> impl Future<Output = Result<Ended, JoinError>> + use<> {
        let (pid, stdout, stderr) =
            (self.pid(), self.child.stdout.take(), self.child.stderr.take());
        let output = spawn_blocking(move || read_some(stdout, OUTPUT_BYTES_MAX + 1));
        let complaint = spawn_blocking(move || {
            let mut stderr = stderr;
            let complaint = read_some(stderr.as_mut(), COMPLAINT_BYTES_MAX).unwrap_or_default();
            // A full pipe would stop the command.
            let _ = stderr.map(|mut rest| std::io::copy(&mut rest, &mut std::io::sink()));
            complaint
        });
        let end = spawn_blocking(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            // Interrupted or not: reaping tells how it ended.
            let _ = pid.map(|pid| rustix::process::waitid(WaitId::Pid(pid), options));
        });
        async move {
            let output = output.await?;
            end.await?;
            Ok(Ended { output, complaint: complaint.await? })
        }
    }

    fn reap(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.is_reaped = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        if let Some(pid) = self.pid() {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn read_some(source: Option<impl Read>, length_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        source.take(length_max).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use testkit::{Handles, still_context};

    use super::*;

    fn command(name: &str, words: &[&str]) -> CommandItem {
        let command = words.iter().map(|&word| word.to_owned()).collect();
        CommandItem { name: name.into(), command, timeout: Duration::from_secs(60) }
    }

    fn host() -> ItemKey {
        ItemKey::from_components(["h"]).expect("key")
    }

    async fn run_one(words: &[&str]) -> (Option<Bytes>, Handles) {
        let (context, handles) = still_context(1);
        let outputs = run_all(&[command("c", words)], &host(), &context).await.expect("run");
        (outputs.into_values().next(), handles)
    }

    #[tokio::test]
    async fn an_output_is_what_the_command_prints() {
        let (output, handles) = run_one(&["echo", "a  b", "$HOME"]).await;
        assert_eq!(output.as_deref(), Some(&b"a  b $HOME\n"[..]));
        handles.monitor.assert_no_problems();
    }

    #[tokio::test]
    async fn a_failing_command_is_a_problem_with_its_complaint() {
        let script = "echo partly; echo it broke >&2; exit 3";
        let (output, handles) = run_one(&["sh", "-c", script]).await;
        assert_eq!(output, None);
        let problems = handles.monitor.problems().join("\n");
        assert!(problems.contains("run command c") && problems.contains("it broke"), "{problems}");
        assert!(problems.contains('3'), "{problems}");

        let (output, handles) = run_one(&["/no/such/program"]).await;
        assert_eq!(output, None);
        assert_eq!(handles.monitor.problems().len(), 1);
    }

    #[tokio::test]
    async fn an_output_without_end_is_a_problem() {
        let (output, handles) = run_one(&["cat", "/dev/zero"]).await;
        assert_eq!(output, None);
        assert!(handles.monitor.problems().join("").contains("more than"));
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed() {
        let (context, handles) = still_context(1);
        let commands = [command("slow", &["sleep", "1000"]), command("next", &["echo", "x"])];
        let host = host();
        let running = run_all(&commands, &host, &context);
        let advancing = async {
            handles.clock.wait_for_sleepers(1).await;
            handles.clock.advance(Duration::from_secs(60));
        };
        let (outputs, ()) = tokio::join!(running, advancing);
        assert_eq!(outputs.expect("run").len(), 1);
        assert!(handles.monitor.problems().join("").contains("not finished after 60s"));
    }

    #[tokio::test]
    async fn cancelling_stops_a_command() {
        let (context, handles) = still_context(1);
        let commands = [command("slow", &["sleep", "1000"])];
        let host = host();
        let running = run_all(&commands, &host, &context);
        let cancelling = async {
            handles.clock.wait_for_sleepers(1).await;
            handles.cancel.cancel();
        };
        let (outputs, ()) = tokio::join!(running, cancelling);
        assert_eq!(outputs.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn commands_that_make_no_sense_are_refused() {
        let sound = command("a", &["x"]);
        assert!(sound.check(&[]).is_ok());
        assert!(sound.check(&[command("a", &["y"])]).is_err());
        for (name, words) in
            [("", &["x"][..]), ("..", &["x"]), ("a/b", &["x"]), ("a", &[]), ("a", &[""])]
        {
            let error = command(name, words).check(&[]).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
