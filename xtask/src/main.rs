//! The commands of the workspace itself: test, demo, bench, tidy, layering.

mod bench;
mod demo;
mod host;
mod layering;
mod licences;
mod test;
mod tidy;
mod tree;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Commands for working on lifeboat.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Check and test the workspace.
    Test(test::Options),
    /// Capture, change and restore real directories, and prove that they are equal.
    Demo,
    /// Compare with other tools.
    Bench(bench::Options),
    /// Check lengths, module docs, forgotten files and unfinished work.
    Tidy,
    /// Check which crate may use which.
    Layering,
    /// Check that every dependency's licence is one that deny.toml allows.
    Licences,
    /// Run a command and write down what it cost.
    #[command(hide = true)]
    Measure(bench::measure::Inner),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Test(options) => test::run(&options),
        Command::Demo => demo::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Measure(inner) => bench::measure::run(&inner),
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
