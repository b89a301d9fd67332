//! The commands of the workspace itself: test, demo, bench, tidy, layering.

mod host;
mod layering;
mod licences;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Commands for working on lifeboat.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Check and test the workspace.
    Test(test::Options),
    /// Check lengths, module docs, forgotten files and unfinished work.
    Tidy,
    /// Check which crate may use which.
    Layering,
    /// Check that every dependency's licence is one that deny.toml allows.
    Licences,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Test(options) => test::run(&options),
        Command::Tidy => report("tidy", tidy::check),
        Command::Layering => report("layering", layering::check),
        Command::Licences => report("licences", licences::check),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            host::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs one check over the workspace and prints what it found.
fn report(
    name: &str,
    check: fn(&workspace::Workspace) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<bool> {
    let problems = check(&workspace::Workspace::load()?)?;
    for problem in &problems {
        host::say(problem);
    }
    host::say(&format!("{name}: {} problems", problems.len()));
    Ok(problems.is_empty())
}
