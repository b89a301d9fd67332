//! Can this store carry a repository? Asked, not believed.

use bytes::Bytes;
use futures::future::join_all;
use model::{Error, ErrorKind, Result};
use object_store::{ObjectStore as _, PutMode, PutPayload};

use super::Store;
use super::errors::{convert, is_already_there};

const IGNORES_CONDITIONS: &str = "a create replaced an object: the store ignores the condition of a create \
    (`If-None-Match: *`), so that one writer would destroy what another has stored; use another store";
const NO_BUCKET: &str =
    "there is no such bucket or container, or this account may not see it: create it first";

/// How many creates race for one name.
const RACERS: usize = 16;
/// How many names they race for where a network is between: chance may hide a race once.
const ROUNDS_REMOTE: u32 = 3;

/// What came of a race.
#[derive(Debug, Default)]
struct Race {
    /// Who was told to have won.
    winners: Vec<usize>,
    /// Why somebody does not know.
    unclear: Option<Error>,
}

impl Store {
    /// Checks that the store keeps what the engine is built on: of many creates of one object exactly
    /// one wins; what was created is read and listed at once. Takes four round trips, on remote stores
    /// thrice, and leaves nothing behind where the credentials may delete.
    ///
    /// # Errors
    /// `Unsupported` where it does not, saying what it lacks; `NotFound` where there is no bucket or
    /// container; else as [`Store::create`].
    pub async fn probe(&self) -> Result<()> {
        self.probe_links().await?;
        let mut tries = self.tries();
        let mut rounds = if self.kind().is_remote() { ROUNDS_REMOTE } else { 1 };
        while rounds > 0 {
            match self.probe_once().await {
                Ok(()) => rounds -= 1,
                // Under another name: who won under this one will never be known.
                Err(error) => tries.pause(error).await?,
            }
        }
        Ok(())
    }

    async fn probe_once(&self) -> Result<()> {
        let path = format!("probe/{}", self.random_name());
        let judged = self.judge(&path).await;
        let forgotten = self.forget_probe(&path).await;
        judged.and(forgotten)
    }

    async fn judge(&self, path: &str) -> Result<()> {
        let Race { winners, unclear } = self.race(path).await?;
        let found = match self.get(path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            found => Some(found?),
        };
        match (&winners[..], found.as_ref(), unclear) {
            // Lost answers, and conflicts of stores that let nobody win of those that meet.
            ([], _, Some(error)) => return Err(error),
            ([], None, None) => return Err(self.nobody_won()),
            ([], Some(_), None) => {
                return Err(self.lacks("no create succeeded, yet the object is there"));
            }
            (_, None, _) => return Err(self.lacks("an object is not there after its create")),
            ([winner], Some(found), _) if *found == content(*winner) => {}
            ([_], Some(_), _) => {
                return Err(self.lacks("a create that failed replaced the object"));
            }
            (several, Some(_), _) => return Err(self.lacks_one_winner(several.len())),
        }
        if !self.list("probe").await?.iter().any(|listed| listed.path == path) {
            return Err(self.lacks("an object is not listed after its create"));
        }
        match self.create(path, content(RACERS)).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(self.lacks(IGNORES_CONDITIONS)),
        }
    }

    /// Lets creates of different bytes race.
    async fn race(&self, path: &str) -> Result<Race> {
        let location = self.location("probe store", path)?;
        let racers = join_all((0..RACERS).map(|racer| {
            let bytes = content(racer);
            self.0.counters.put(bytes.len());
            let payload = PutPayload::from_bytes(bytes);
            self.0.object_store.put_opts(&location, payload, PutMode::Create.into())
        }));
        let mut race = Race::default();
        for (racer, outcome) in racers.await.into_iter().enumerate() {
            match outcome {
                Ok(_) => race.winners.push(racer),
                Err(error) if is_already_there(&error) => {}
                Err(error) => {
                    let error = convert("probe store", self.name(), error);
                    match error.kind() {
                        ErrorKind::Unavailable => race.unclear = Some(error),
                        ErrorKind::NotFound => return Err(error.detail(NO_BUCKET)),
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(race)
    }

    fn lacks_one_winner(&self, winners: usize) -> Error {
        if winners == RACERS {
            return self.lacks(IGNORES_CONDITIONS);
        }
        self.lacks(&format!(
            "{winners} of {RACERS} creates of one object at the same time succeeded: the store keeps the \
             condition of a create (`If-None-Match: *`) only while nobody else writes; use another store"
        ))
    }

    fn nobody_won(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "probe store", self.name())
            .detail("every create met another and was refused")
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

#[cfg(test)]
mod tests;
