//! `lifeboat completion`: scripts that complete command lines.

use std::io;

use clap::CommandFactory as _;
use clap_complete::Shell;
use model::Result;

use crate::exit::Exit;
use crate::output::write_bytes;

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Args {
    /// Prints the script.
    ///
    /// # Errors
    /// Where nobody reads it.
    pub fn run(&self) -> Result<Exit> {
        let mut script = Vec::new();
        let mut command = crate::args::Args::command();
        clap_complete::generate(self.shell, &mut command, "lifeboat", &mut script);
        write_bytes(&mut io::stdout().lock(), &script)?;
        Ok(Exit::Done)
    }
}
