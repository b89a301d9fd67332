//! The damage matrix: every object of a store, damaged in every way, and what a reader makes of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use model::{ErrorKind, Result};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// A way in which an object is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// A bit of the byte at this offset is another one.
    BitFlip(usize),
    /// Only so many bytes are left.
    Truncated(usize),
    /// Bytes follow that were never written.
    Extended,
    /// The object is gone.
    Missing,
    /// Another object's bytes stand there.
    SwappedWith(Path),
}

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Which object.
    pub path: Path,
    /// What became of it.
    pub damage: Damage,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path, self.damage)
    }
}

/// What a reader made of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It gave what it gives of the sound store.
    Same,
    /// It gave something else, and no error. Only an object that is missing may lead to this, where
    /// it might never have been there.
    Other,
    /// It failed so.
    Refused(ErrorKind),
}

/// Reads a store as it is, then once for each way of damaging each of its objects, with a bit flipped in
/// every `stride`th byte, and says what came of each.
///
/// # Errors
/// Those of reading the sound store.
///
/// # Panics
/// Where the store in memory fails.
pub async fn each_damage<T: PartialEq>(
    sound: &InMemory,
    stride: usize,
    read: impl AsyncFn(Arc<dyn ObjectStore>) -> Result<T>,
) -> Result<Vec<(Cell, Verdict)>> {
    let expected = read(Arc::new(sound.fork())).await?;
    let objects = objects_of(sound).await;
    let mut verdicts = Vec::new();
    for cell in cells(&objects, stride) {
        let damaged = Arc::new(sound.fork());
        inflict(damaged.as_ref(), &objects, &cell).await;
        let verdict = match read(damaged).await {
            Ok(found) if found == expected => Verdict::Same,
            Ok(_) => Verdict::Other,
            Err(error) => Verdict::Refused(error.kind()),
        };
        verdicts.push((cell, verdict));
    }
    Ok(verdicts)
}

/// How many cells of the matrix are looked at, for what looks at each with great care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// So many flipped bits, spread evenly over the object.
    pub flips_per_object: usize,
    /// So many other objects whose bytes stand there: those next to it, which are of its own kind.
    pub swaps_per_object: usize,
}

/// Chooses cells: for every object of a store some flipped bits, two lengths, bytes that follow, other
/// objects' bytes, and its absence.
///
/// # Panics
/// Where the store in memory fails.
pub async fn sample(sound: &InMemory, sampling: Sampling) -> Vec<Cell> {
    let mut objects = objects_of(sound).await;
    objects.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut cells = Vec::new();
    for (index, (path, bytes)) in objects.iter().enumerate() {
        let mut add = |damage| cells.push(Cell { path: path.clone(), damage });
        let stride = bytes.len().div_ceil(sampling.flips_per_object.max(1)).max(1);
        (stride / 2..bytes.len()).step_by(stride).map(Damage::BitFlip).for_each(&mut add);
        add(Damage::Truncated(0));
        add(Damage::Truncated(bytes.len().saturating_sub(1)));
        add(Damage::Extended);
        add(Damage::Missing);
        let (before, after) = objects.split_at(index);
        let nearest = after.iter().skip(1).chain(before.iter().rev());
        let others = nearest.filter(|(_, content)| content != bytes);
        others
            .take(sampling.swaps_per_object)
            .map(|(other, _)| Damage::SwappedWith(other.clone()))
            .for_each(&mut add);
    }
    cells
}

/// Returns a copy of a store with this damage.
///
/// # Panics
/// Where the store in memory fails.
pub async fn damaged(sound: &InMemory, cell: &Cell) -> InMemory {
    let copy = sound.fork();
    inflict(&copy, &objects_of(sound).await, cell).await;
    copy
}

/// Panics, naming each, where damage was taken for sound content, or refused with an error that does
/// not tell a person to look at what is stored or at the key.
pub fn assert_noticed(verdicts: &[(Cell, Verdict)]) {
    let is_fine = |(cell, verdict): &&(Cell, Verdict)| match verdict {
        Verdict::Same => false,
        Verdict::Other => cell.damage == Damage::Missing,
        Verdict::Refused(kind) => blames_the_bytes(*kind),
    };
    let bad: Vec<_> = verdicts
        .iter()
        .filter(|cell| !is_fine(cell))
        .map(|(cell, verdict)| format!("{cell}: {verdict:?}"))
        .collect();
    assert!(bad.is_empty(), "{} of {} cells: {bad:#?}", bad.len(), verdicts.len());
}

/// Says whether an error of this kind tells a person to look at what is stored, or at the key.
pub fn blames_the_bytes(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    // A flipped bit of a version or of a feature flag is told from a newer format by nobody.
    matches!(kind, K::Corrupt | K::NotFound | K::WrongKey | K::Unsupported | K::Exhausted)
}

async fn objects_of(store: &InMemory) -> Vec<(Path, Bytes)> {
    let entries: Vec<_> = store.list(None).try_collect().await.expect("list in memory");
    let mut objects = Vec::new();
    for entry in entries {
        let got = store.get(&entry.location).await.expect("get from memory");
        objects.push((entry.location, got.bytes().await.expect("read from memory")));
    }
    objects
}

fn cells(objects: &[(Path, Bytes)], stride: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (path, bytes) in objects {
        let mut add = |damage| cells.push(Cell { path: path.clone(), damage });
        (0..bytes.len()).step_by(stride.max(1)).map(Damage::BitFlip).for_each(&mut add);
        [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)]
            .map(Damage::Truncated)
            .into_iter()
            .for_each(&mut add);
        add(Damage::Extended);
        add(Damage::Missing);
        let others = objects.iter().filter(|(other, content)| other != path && content != bytes);
        others.map(|(other, _)| Damage::SwappedWith(other.clone())).for_each(&mut add);
    }
    cells
}

async fn inflict(store: &InMemory, objects: &[(Path, Bytes)], cell: &Cell) {
    let content = |path: &Path| {
        let found = objects.iter().find(|(known, _)| known == path);
        found.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default()
    };
    let mut bytes = content(&cell.path);
    match &cell.damage {
        Damage::BitFlip(offset) => {
            if let Some(byte) = bytes.get_mut(*offset) {
                *byte ^= 1 << (offset % 8);
            }
        }
        Damage::Truncated(length) => bytes.truncate(*length),
        Damage::Extended => bytes.push(0),
        Damage::SwappedWith(other) => bytes = content(other),
        Damage::Missing => return store.delete(&cell.path).await.expect("delete in memory"),
    }
    store.put(&cell.path, bytes.into()).await.map(drop).expect("put in memory");
}

#[cfg(test)]
mod tests {
    use model::Error;
    use repository::crypto::{KeyFile, PassphraseCost, Unlock};
    use repository::store::Store;
    use repository::{CreateOptions, OpenOptions, Repository};
    use testkit::SeededEntropy;

    use super::*;

    fn key(seed: u64) -> Unlock {
        Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)))
    }

    async fn repository() -> InMemory {
        let (context, _) = testkit::context(1);
        let disk = InMemory::new();
        let store = Store::new(Arc::new(disk.clone()), "memory", &context);
        let open = OpenOptions::default();
        let cost = PassphraseCost::LEAST;
        let options = CreateOptions { label: "first".to_owned(), cost, open };
        let created = Repository::create(store, &key(1), options, &context).await;
        let repository = created.expect("create");
        repository.add_slot(&key(2), cost, "second", &context).await.expect("second slot");
        disk
    }

    /// Everything that a reader learns of a repository without content.
    async fn read(objects: Arc<dyn ObjectStore>) -> Result<String> {
        let (context, _) = testkit::context(2);
        let store = Store::new(objects, "memory", &context);
        let repository = Repository::open(store, &key(1), OpenOptions::default(), &context).await?;
        let slots = repository.slots().await?;
        // What is wrapped in a slot is known to its own key only.
        let second = repository.test_slot(&key(2)).await?;
        Ok(format!("{:?} {:?} {slots:?} {second:?}", repository.id(), repository.writer()))
    }

    #[tokio::test]
    async fn damage_to_a_repository_is_noticed() {
        let verdicts = each_damage(&repository().await, 1, read).await.expect("sound");
        assert!(verdicts.len() > 1_000, "{} cells", verdicts.len());
        assert_noticed(&verdicts);
    }

    #[tokio::test]
    #[should_panic(expected = "Other")]
    async fn a_reader_that_does_not_look_is_found_out() {
        let read = async |objects: Arc<dyn ObjectStore>| {
            let entries: Vec<_> =
                objects.list(None).try_collect().await.map_err(|error| {
                    Error::new(ErrorKind::Unavailable, "list", "").because(error)
                })?;
            Ok(entries.iter().map(|entry| entry.size).sum::<u64>())
        };
        let verdicts = each_damage(&repository().await, 100, read).await.expect("sound");
        assert_noticed(&verdicts);
    }
}
