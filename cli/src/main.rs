//! The command line: arguments become calls of `app` and `operations`, their values become text or JSON.

mod args;
mod commands;
mod entries;
mod exit;
mod hints;
mod names;
mod output;
mod progress;
mod run;
mod signals;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let is_json = std::env::args_os().any(|word| word == "--json");
            return ExitCode::from(commands::misread(&error, is_json).code());
        }
    };
    ExitCode::from(commands::main(args).code())
}
