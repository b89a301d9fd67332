//! `lifeboat man`: manual pages from the same description as `--help`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;
use model::{Error, ErrorKind, Result};

use crate::exit::Exit;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that the pages are written to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Args {
    /// Writes a page for the program and one for each command.
    ///
    /// # Errors
    /// `Unavailable` where the folder cannot be written to.
    pub fn run(&self) -> Result<Exit> {
        let failed = |path: &Path, error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "write manual page", path.display().to_string())
                .because(error)
        };
        fs::create_dir_all(&self.to).map_err(|error| failed(&self.to, error))?;
        let mut command = crate::args::Args::command();
        command.build();
        let mut pages = vec![command.clone()];
        while let Some(page) = pages.pop() {
            let name = page.get_display_name().unwrap_or_else(|| page.get_name()).to_owned();
            pages.extend(page.get_subcommands().filter(|one| !one.is_hide_set()).cloned());
            let path = self.to.join(format!("{name}.1"));
            let mut text = Vec::new();
            let rendered = Man::new(page).title(name.to_uppercase()).render(&mut text);
            rendered
                .and_then(|()| fs::write(&path, &text))
                .map_err(|error| failed(&path, error))?;
        }
        Ok(Exit::Done)
    }
}
