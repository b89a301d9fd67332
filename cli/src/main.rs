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
            // Where nobody reads what is said there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    ExitCode::from(commands::main(args).code())
}
