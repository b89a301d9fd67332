//! One file per command, and what surrounds each of them: the runtime, errors, the exit code.

pub mod backup;
pub mod cat;
pub mod completion;
pub mod diff;
pub mod doctor;
pub mod find;
pub mod follow;
pub mod forget;
pub mod gc;
pub mod hold;
pub mod init;
pub mod key;
pub mod kit;
pub mod ls;
pub mod man;
pub mod mount;
pub mod points;
pub mod recover;
pub mod repair;
pub mod repo;
pub mod restore;
pub mod stack;
pub mod sync;
pub mod verify;

use std::io::{self, Write as _};

use model::{Error, ErrorKind, Result};

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::hints::hint;
use crate::output::{self, Output};
use crate::run::Run;

/// Runs a command and says how it ended.
pub fn main(args: Args) -> Exit {
    let Args { globals, command } = args;
    let run = Run::new(globals, command.name());
    let outcome = match &command {
        Command::Completion(args) => args.run(),
        Command::Man(args) => args.run(),
        _ => app::runtime::run(dispatch(&command, &run)),
    };
    run.progress.end();
    match outcome {
        Ok(exit) => exit,
        Err(error) => failed(&error, &run),
    }
}

/// Tells why a command line was not carried out: help was asked for, or it makes no sense.
pub fn misread(error: &clap::Error, is_json: bool) -> Exit {
    // Where nobody reads what is said there is nobody to tell.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Done;
    }
    if is_json {
        let text = error.render().to_string();
        let why = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let refused = refuse("read command line", "", why);
        let value = || output::error_value(&refused, Exit::Usage.code(), None);
        let _ = Output { command: "lifeboat", is_json }.result(String::new, value);
    }
    Exit::Usage
}

async fn dispatch(command: &Command, run: &Run) -> Result<Exit> {
    // Boxed one by one: the largest would make room for itself in all of them.
    match command {
        Command::Init(args) => Box::pin(args.run(run)).await,
        Command::Backup(args) => Box::pin(args.run(run)).await,
        Command::Follow(args) => Box::pin(args.run(run)).await,
        Command::Points(args) => Box::pin(args.run(run)).await,
        Command::Ls(args) => Box::pin(args.run(run)).await,
        Command::Find(args) => Box::pin(args.run(run)).await,
        Command::Cat(args) => Box::pin(args.run(run)).await,
        Command::Diff(args) => Box::pin(args.run(run)).await,
        Command::Mount(args) => Box::pin(args.run(run)).await,
        Command::Restore(args) => Box::pin(args.run(run)).await,
        Command::Recover(args) => Box::pin(args.run(run)).await,
        Command::Verify(args) => Box::pin(args.run(run)).await,
        Command::Forget(args) => Box::pin(args.run(run)).await,
        Command::Hold(args) => Box::pin(args.run(run)).await,
        Command::Repo(args) => Box::pin(args.run(run)).await,
        Command::Key(args) => Box::pin(args.run(run)).await,
        Command::Kit(args) => Box::pin(args.run(run)).await,
        Command::Doctor(args) => Box::pin(args.run(run)).await,
        Command::Stack(args) => Box::pin(args.run(run)).await,
        Command::Completion(args) => args.run(),
        Command::Man(args) => args.run(),
    }
}

/// Tells of a failure: on standard error for people, as the one object for programs.
fn failed(error: &Error, run: &Run) -> Exit {
    let exit = match error.kind() {
        ErrorKind::Cancelled => run.asked.exit(),
        _ => Exit::of_error(error),
    };
    if exit == Exit::PipeClosed {
        return exit;
    }
    let hint = hint(error);
    if run.globals.json {
        let value = || output::error_value(error, exit.code(), hint);
        // Where this cannot be written the code still tells.
        let _ = run.output.result(String::new, value);
    }
    let _ = io::stderr().write_all(output::error_text(error, hint).as_bytes());
    exit
}

/// Says that standard output has to be something else than it is.
fn refuse(action: &'static str, subject: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, action, subject).detail(why)
}
