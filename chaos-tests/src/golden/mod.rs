//! The golden repository: how it is made, and what is to be found in it.
//!
//! Everything in it follows from seeds and from a clock that is moved by hand, so that making it again
//! gives the same objects as long as the format is the same. `write-golden` writes it.

mod states;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use model::{Context, Item, Result, System};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use operations::capture::{CaptureOptions, capture};
use repository::crypto::{KeyFile, PassphraseCost, Unlock};
use repository::heartbeat::Idle;
use repository::mark::MarkKind;
use repository::point::{Point, PointDraft};
use repository::snapshot::Snapshot;
use repository::store::Store;
use repository::types::{SessionId, StreamName};
use repository::{CreateOptions, OpenOptions, Repository};
use testkit::scripted::Shape;
use testkit::{Handles, ManualClock, Observed, ObservedItem, ScriptedSystem, SeededEntropy};

use crate::engine::{capture_options, fresh_entry};
use crate::logs;
use crate::observe::{
    describe_point, describe_snapshot, followed_system, read_logged, read_snapshot,
};
use crate::stores::Dated;

use states::{OneByOne, Still};

pub use states::still_state;

/// The most bytes that all its objects have.
pub const GOLDEN_BYTES_MAX: usize = 200 << 10;

/// Returns where it is stored: `objects/` below it has one file per object.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../repository/testdata/golden-0")
}

/// Returns the key file that opens it.
pub fn key_file() -> KeyFile {
    KeyFile::generate(&SeededEntropy::new(0x601d))
}

/// Makes the golden repository; returns its objects by path, and the description of what is in it.
///
/// # Errors
/// Those of the engine.
pub async fn make() -> Result<(BTreeMap<String, Bytes>, String)> {
    let golden = Golden::create().await?;
    golden.fill().await?;
    let objects = objects_of(golden.disk.as_ref()).await;
    Ok((objects, describe(&golden.repository, &golden.context).await?))
}

/// A repository that is being made.
struct Golden {
    disk: Arc<InMemory>,
    context: Context,
    handles: Handles,
    repository: Repository,
}

impl Golden {
    async fn create() -> Result<Self> {
        let disk = Arc::new(InMemory::new());
        let (context, handles) = testkit::context(0x601d_0000);
        let dated = Arc::new(Dated::new(disk.clone(), handles.clock.clone()));
        let store = Store::new(dated, "golden", &context);
        let options = CreateOptions {
            label: "golden".to_owned(),
            cost: PassphraseCost::LEAST,
            open: OpenOptions::default(),
        };
        let unlock = Unlock::KeyFile(key_file());
        let repository = Repository::create(store, &unlock, options, &context).await?;
        Ok(Self { disk, context, handles, repository })
    }

    fn tick(&self) {
        self.handles.clock.advance(Duration::from_secs(60));
    }

    async fn capture(&self, stream: &str, system: &dyn System) -> Result<Snapshot> {
        self.tick();
        let options = CaptureOptions { workers: 1, ..capture_options(&std::env::temp_dir()) };
        let stream: StreamName = stream.parse()?;
        let captured = capture(&self.repository, &stream, system, &options, &self.context);
        Ok(Box::pin(captured).await?.snapshot)
    }

    async fn fill(&self) -> Result<()> {
        let followed = followed_system(Shape::Changes);
        followed.edit("dir d mode:755\nfile d/a \"alpha\"\nfile d/b 1~900");
        let sealer = self.repository.point_sealer(&"site".parse()?);
        for round in 0..2_u8 {
            let still = Still { position: round, state: still_state(round == 1) };
            let snapshot = self.capture("site.still", &still).await?;
            let base = self.capture("site.followed", &OneByOne(&followed)).await?;
            self.tick();
            let entries = vec![fresh_entry(&base), fresh_entry(&snapshot)];
            let lacks = if round == 0 { vec!["as scripted".to_owned()] } else { Vec::new() };
            let (checks, clocks) = (vec!["a check that held".to_owned()], Vec::new());
            let draft = PointDraft { entries, lacks, checks, clocks };
            let point = sealer.seal(draft, &self.context).await?;
            self.mark(&point, round).await?;
            self.follow(&followed, &base, round).await?;
        }
        let stream: StreamName = "site.followed".parse()?;
        logs::compact(&self.repository, &stream, &self.context).await?;
        let idle = vec![Idle { stream, position: followed.position(), as_of: ManualClock::START }];
        self.repository.beat(idle, &self.context).await.map(drop)
    }

    async fn mark(&self, point: &Point, round: u8) -> Result<()> {
        let kinds = match round {
            0 => vec![MarkKind::Pin, MarkKind::Tag("first".to_owned())],
            _ => vec![MarkKind::Verified],
        };
        for kind in kinds {
            let set = self.repository.set_mark(&point.id, kind, "golden", &self.context);
            set.await?;
        }
        if round == 0 {
            let removed = self.repository.remove_mark(&point.id, &MarkKind::Pin, &self.context);
            removed.await?;
        }
        Ok(())
    }

    async fn follow(&self, followed: &ScriptedSystem, base: &Snapshot, round: u8) -> Result<()> {
        followed.edit(&format!(
            "file d/c{round} 9~2000\nmove d/c{round} d/moved\ndelete d/a\nfile d/e 8*1500 hole*99\n\
             file d/f 7~2500\nfile d/g \"g\"\nsymlink d/l a"
        ));
        let over = (&base.id, &base.position);
        logs::append(&self.repository, over, followed, &self.context, |_, _| ()).await
    }
}

/// Describes everything that a reader finds.
///
/// # Errors
/// Those of the repository.
pub async fn describe(repository: &Repository, context: &Context) -> Result<String> {
    let mut lines =
        vec![format!("repository {} of writer {}", repository.id(), repository.writer())];
    let mut bases: Vec<SessionId> = Vec::new();
    for stream in repository.streams().await? {
        for snapshot in repository.newest_snapshots(&stream, 100).await? {
            lines.push(format!("snapshot {}", describe_snapshot(&snapshot)));
            describe_state(&read_snapshot(repository, &snapshot).await?, &mut lines);
            bases.push(snapshot.id);
        }
    }
    for base in bases {
        let mut last = None;
        for batch in logs::read(repository, &base.stream, &base).await? {
            last = Some(batch.last_at);
            lines.push(format!("batch {batch:?}"));
        }
        if let Some(upto) = last {
            let snapshot = repository.snapshot(&base).await?;
            let (position, state) = read_logged(repository, &snapshot, upto, context).await?;
            lines.push(format!("the log over {base} leads to {position:?}"));
            describe_state(&state, &mut lines);
        }
    }
    for site in repository.sites().await? {
        for point in repository.newest_points(&site, 100).await? {
            lines.push(format!("point {}", describe_point(&point)));
        }
        let mut marks = repository.marks(&site).await?;
        marks.sort_by(|one, other| (&one.point, &one.kind).cmp(&(&other.point, &other.kind)));
        lines.extend(marks.iter().map(|mark| format!("mark {mark:?}")));
    }
    lines.extend(repository.latest_heartbeats().await?.iter().map(|beat| format!("{beat:?}")));
    Ok(lines.join("\n") + "\n")
}

fn describe_state(state: &Observed, lines: &mut Vec<String>) {
    for (key, ObservedItem { item, content }) in state {
        let Item { kind, attributes, version, extents, .. } = item;
        let hash = blake3::hash(content);
        lines.push(format!(
            "  {key:?} {kind:?} {attributes:?} {version:?} {extents:?} {} bytes {hash}",
            content.len()
        ));
    }
}

async fn objects_of(store: &dyn ObjectStore) -> BTreeMap<String, Bytes> {
    let entries: Vec<_> = store.list(None).try_collect().await.expect("list");
    let mut objects = BTreeMap::new();
    for entry in entries {
        let got = store.get(&entry.location).await.expect("get");
        objects.insert(entry.location.to_string(), got.bytes().await.expect("read"));
    }
    objects
}
