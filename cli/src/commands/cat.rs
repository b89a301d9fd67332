//! `lifeboat cat`: the content of an item.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use model::Result;
use operations::browse;

use super::refuse;
use crate::exit::Exit;
use crate::output::{broken, write_bytes};
use crate::run::Run;

/// Arguments of `cat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SITE[/SYSTEM]@WHEN:PATH
    selector: String,
    /// Print to a terminal whatever it is
    #[arg(long)]
    force: bool,
}

impl Args {
    /// Prints it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` where it has no content; those of the repository.
    pub async fn run(&self, run: &Run) -> Result<Exit> {
        if run.globals.json {
            return Err(refuse(
                "print content",
                &self.selector,
                "content is no JSON: leave --json out",
            ));
        }
        let settings = run.settings()?;
        let repository = run.open(&settings).await?;
        let resolved = run.resolve(&self.selector, &repository, &settings).await?;
        let systems = resolved.with_path().await?;
        let [system] = systems.as_slice() else {
            let names: Vec<_> = systems.iter().map(|one| one.stream.system.to_string()).collect();
            let why = format!("several systems hold it: {}; say which one", names.join(", "));
            return Err(refuse("read item", &self.selector, why));
        };
        let mut content = browse::cat(&repository, system).await?.content;
        let stdout = io::stdout();
        let is_guarded = stdout.is_terminal() && !self.force;
        let mut out = BufWriter::with_capacity(1 << 16, stdout.lock());
        while let Some(piece) = content.next().await? {
            run.context.check("read item")?;
            if is_guarded && is_binary(&piece) {
                let why = "it holds control characters; redirect it, or say --force";
                return Err(refuse("print content", &self.selector, why));
            }
            write_bytes(&mut out, &piece)?;
        }
        out.flush().map_err(broken)?;
        Ok(Exit::Done)
    }
}

/// Says whether a terminal would take some of the bytes as orders.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_order_to_a_terminal() {
        assert!(!is_binary("text\n\tä\r\n".as_bytes()));
        assert!(is_binary(b"\x1b[2J") && is_binary(b"\0") && is_binary(b"\x7f"));
    }
}
