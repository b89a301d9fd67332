//! Can this store carry a repository? Asked, not believed.

use bytes::Bytes;
use futures::future::join_all;
use model::{Error, ErrorKind, Result};
use object_store::{ObjectStore as _, PutMode, PutPayload};

use super::errors::{convert, is_already_there};
use super::{Created, Store};

/// How many creates race for one name.
const RACERS: usize = 16;

impl Store {
    /// Checks that the store keeps what the engine is built on: of many creates of one object exactly
    /// one wins; what was created is read and listed at once. Takes four round trips and leaves nothing
    /// behind where the credentials may delete.
    ///
    /// # Errors
    /// `Unsupported` where it does not, saying what it lacks; else as [`Store::create`].
    pub async fn probe(&self) -> Result<()> {
        self.probe_links().await?;
        let name = self.random_name();
        let path = format!("probe/{name}");
        let winners = self.race(&path).await?;
        let found = self.get(&path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.lacks("an object is not there after its create"),
            _ => error,
        })?;
        let is_listed = self.list("probe").await?.iter().any(|listed| listed.path == path);
        let again = self.create(&path, found.clone()).await;
        self.forget_probe(&path).await?;
        match winners[..] {
            [] => return Err(self.lacks("no create succeeded, yet the object is there")),
            [winner] if found == content(winner) => {}
            [_] => return Err(self.lacks("a create that failed replaced the object")),
            _ => return Err(self.lacks("several creates of one object succeeded")),
        }
        if !is_listed {
            return Err(self.lacks("an object is not listed after its create"));
        }
        match again? {
            Created::Same => Ok(()),
            Created::New => Err(self.lacks("a create replaced an object")),
        }
    }

    /// Lets creates of different bytes race and returns those that say they won.
    async fn race(&self, path: &str) -> Result<Vec<usize>> {
        let location = self.location("probe store", path)?;
        let racers = join_all((0..RACERS).map(|racer| {
            let bytes = content(racer);
            self.0.counters.put(bytes.len());
            let payload = PutPayload::from_bytes(bytes);
            self.0.object_store.put_opts(&location, payload, PutMode::Create.into())
        }));
        let mut winners = Vec::new();
        for (racer, outcome) in racers.await.into_iter().enumerate() {
            match outcome {
                Ok(_) => winners.push(racer),
                Err(error) if is_already_there(&error) => {}
                Err(error) => return Err(convert("probe store", self.name(), error)),
            }
        }
        Ok(winners)
    }

    /// A local create needs hard links, which FAT, exFAT and some network shares do not have.
    async fn probe_links(&self) -> Result<()> {
        let Some(root) = self.0.local_root.clone() else { return Ok(()) };
        let name = self.random_name();
        // Named as a staging file, so that a crash leaves something that is swept.
        let (file, link) = (root.join(format!("{name}#1")), root.join(format!("{name}#2")));
        let linked = self
            .blocking("probe directory", move || {
                std::fs::File::create_new(&file)?;
                let linked = std::fs::hard_link(&file, &link);
                for path in [file, link] {
                    match std::fs::remove_file(path) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
                Ok(linked)
            })
            .await?;
        linked.map_err(|error| {
            self.lacks(
                "the file system has no hard links (FAT, exFAT and some network shares have none), \
                 without which nothing can be created safely; put the repository on another one",
            )
            .because(error)
        })
    }

    fn lacks(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unsupported, "use store", self.name()).detail(what)
    }
}

fn content(racer: usize) -> Bytes {
    Bytes::from(format!("probe {racer}"))
}
