//! Checking the small objects: each is read, opened and, where a writer vouches for it, its signature
//! is checked. What they say is to be there is returned.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{Error, ErrorKind, Result};

use super::Wanted;
use super::run::Run;
use crate::format::ObjectType;
use crate::format::certificate::{CERTIFICATE_BYTES_MAX, Certificate, certificate_path};
use crate::format::descriptor::{DESCRIPTOR_BYTES_MAX, DESCRIPTOR_PATH, Descriptor};
use crate::format::envelope::{OVERHEAD_BYTES, open_object};
use crate::format::key_slot::{KEY_SLOT_BYTES_MAX, KeySlot};
use crate::gc;
use crate::index::Body;
use crate::index::segment::{SEGMENT_BYTES_MAX, Segment};
use crate::point::PointId;
use crate::repository::read_test_path;
use crate::snapshot::codec::{Commit, NOTICE_BYTES_MAX};
use crate::store::{DAMAGED, GET_BYTES_MAX, Listed};
use crate::types::{HoldId, Number, Root, SessionId, StreamName, WriterId};

/// How many small objects are read at once.
pub(super) const READS_AT_ONCE: usize = 32;
/// The most bytes of an object that has no cap of its own here.
const SMALL_BYTES_MAX: u64 = 16 << 20;

/// A snapshot whose tree is to be whole.
#[derive(Debug, Clone)]
pub(super) struct WantedTree {
    pub(super) id: SessionId,
    pub(super) domain: String,
    pub(super) root: Root,
}

/// What an object turned out to be.
#[derive(Debug)]
enum Seen {
    /// One that is checked, sound or damaged; what matters of it later.
    Snapshot(Box<WantedTree>),
    /// A session's announcement: its domain.
    Domain(String),
    /// A forget of a snapshot.
    Forget(SessionId),
    /// A forget of a point.
    ForgetPoint(PointId),
    /// A key slot of this repository, or one that cannot be read.
    Slot(WriterId),
    /// A certificate; what is wrong with it.
    Certificate(WriterId, Option<Error>),
    /// Nothing that matters later.
    Checked,
    /// No name that this version knows.
    Unknown,
}

/// Everything that was seen and matters later.
#[derive(Default)]
pub(super) struct Collected {
    /// Newest first within a stream, as listed.
    snapshots: Vec<WantedTree>,
    domains: BTreeSet<String>,
    forgotten: HashSet<SessionId>,
    pub(super) forgotten_points: HashSet<PointId>,
    pub(super) read_snapshots: HashSet<SessionId>,
    slots: BTreeSet<WriterId>,
    certificates: BTreeMap<WriterId, Option<Error>>,
}

impl Run<'_> {
    /// Checks all objects but packs.
    pub(super) async fn check_objects(&self) -> Result<Wanted> {
        self.check_descriptor().await?;
        let mut collected = Collected::default();
        let top = self.repository.store().list_directories("").await?;
        let is_known = |listed: &&Listed| listed.path == DESCRIPTOR_PATH;
        self.count_unknown(top.objects.iter().filter(|listed| !is_known(listed)).count() as u64);
        for directory in &top.directories {
            match directory.as_str() {
                // Packs have a pass of their own, points a walk along their chains.
                "pack" | "meta" | "point" | "point-header" => {}
                // What repair has replaced is kept there.
                DAMAGED => {}
                _ => self.check_directory(directory, &mut collected).await?,
            }
        }
        self.check_certificates(&mut collected).await?;
        let mut wanted = self.check_points(&top.directories, &collected).await?;
        let bases = self.check_logs(&collected).await?;
        collected.snapshots.retain(|tree| {
            !collected.forgotten.contains(&tree.id)
                || wanted.points.contains_key(&tree.id)
                || bases.contains(&tree.id)
        });
        wanted.snapshots = collected.snapshots;
        wanted.domains = collected.domains.into_iter().collect();
        Ok(wanted)
    }

    async fn check_descriptor(&self) -> Result<()> {
        self.count_object();
        let missing = || Error::new(ErrorKind::NotFound, "read object", DESCRIPTOR_PATH);
        let Some(object) = self.read(DESCRIPTOR_PATH, DESCRIPTOR_BYTES_MAX).await? else {
            return self.note(DESCRIPTOR_PATH, missing()).await.map(|_| ());
        };
        let decoded = Descriptor::decode(&object).and_then(|descriptor| {
            let is_ours = descriptor == *self.repository.descriptor();
            let other = || {
                Error::new(ErrorKind::Corrupt, "read object", DESCRIPTOR_PATH)
                    .detail("it is not the one that the repository was opened with")
            };
            is_ours.then_some(()).ok_or_else(other)
        });
        self.judge(DESCRIPTOR_PATH, decoded).await.map(|_| ())
    }

    /// Checks all objects below one name.
    async fn check_directory(&self, directory: &str, collected: &mut Collected) -> Result<()> {
        let listed = self.repository.store().list(directory).await?;
        let mut seen = stream::iter(listed)
            .map(|object| async move { self.check_object(&object.path).await })
            .buffered(READS_AT_ONCE);
        while let Some(seen) = seen.try_next().await? {
            match seen {
                Seen::Snapshot(tree) => {
                    collected.domains.insert(tree.domain.clone());
                    collected.read_snapshots.insert(tree.id.clone());
                    collected.snapshots.push(*tree);
                }
                Seen::Domain(domain) => {
                    collected.domains.insert(domain);
                }
                Seen::Forget(id) => {
                    collected.forgotten.insert(id);
                }
                Seen::ForgetPoint(id) => {
                    collected.forgotten_points.insert(id);
                }
                Seen::Slot(id) => {
                    collected.slots.insert(id);
                }
                Seen::Certificate(id, error) => {
                    collected.certificates.insert(id, error);
                }
                Seen::Checked => {}
                Seen::Unknown => {
                    self.count_unknown(1);
                    continue;
                }
            }
            self.count_object();
        }
        Ok(())
    }

    /// Checks one object.
    async fn check_object(&self, path: &str) -> Result<Seen> {
        let Some((kind, rest)) = path.split_once('/') else { return Ok(Seen::Unknown) };
        match kind {
            "key" => self.check_key_slot(path, rest).await,
            "writer" => self.check_certificate(path, rest).await,
            "index" => self.check_segment(path).await,
            "session" | "snapshot" | "forget" => match SessionId::from_path(rest) {
                Some(id) => self.check_session_object(kind, path, id).await,
                None => Ok(Seen::Unknown),
            },
            "forget-point" => match PointId::from_path(rest) {
                Some(id) => {
                    self.check_signed(path, ObjectType::ForgetPoint).await?;
                    Ok(Seen::ForgetPoint(id))
                }
                None => Ok(Seen::Unknown),
            },
            "mark" => {
                let point = rest.rsplit_once('/').and_then(|(point, number)| {
                    PointId::from_path(point).zip(Number::from_digits(number))
                });
                self.check_signed_if(point.is_some(), path, ObjectType::Mark).await
            }
            "heartbeat" => {
                let writer = rest.split_once('/').and_then(|(writer, number)| {
                    writer.parse::<WriterId>().ok().filter(|_| is_bucketed(number))
                });
                self.check_signed_if(writer.is_some(), path, ObjectType::Heartbeat).await
            }
            "key-test" => {
                let is_known = read_test_path(path).is_some();
                self.check_signed_if(is_known, path, ObjectType::KeyTest).await
            }
            "hold" => {
                let is_known = rest.parse::<HoldId>().is_ok();
                self.check_signed_if(is_known, path, ObjectType::Hold).await
            }
            "hold-release" => {
                let is_known = rest.parse::<HoldId>().is_ok();
                self.check_signed_if(is_known, path, ObjectType::HoldRelease).await
            }
            "logtrim" => {
                self.check_signed_if(stream_of(rest).is_some(), path, ObjectType::LogTrim).await
            }
            "log" | "logrun" => {
                self.check_sealed_if(is_logged(rest), path, ObjectType::LogBatch).await
            }
            "logseg" => {
                self.check_sealed_if(stream_of(rest).is_some(), path, ObjectType::LogSegment).await
            }
            "gc" => self.check_collector_object(path).await,
            _ => Ok(Seen::Unknown),
        }
    }

    async fn check_key_slot(&self, path: &str, rest: &str) -> Result<Seen> {
        let Ok(slot) = rest.parse::<WriterId>() else { return Ok(Seen::Unknown) };
        let Some(object) = self.read(path, KEY_SLOT_BYTES_MAX).await? else {
            return Ok(Seen::Slot(slot));
        };
        let decoded = self.judge(path, KeySlot::decode(slot, &object)).await?;
        // A creation that broke off leaves a slot of a repository that never was.
        let is_foreign = |slot: &KeySlot| slot.binding.repository != self.repository.id();
        Ok(if decoded.as_ref().is_some_and(is_foreign) { Seen::Unknown } else { Seen::Slot(slot) })
    }

    async fn check_certificate(&self, path: &str, rest: &str) -> Result<Seen> {
        let Ok(writer) = rest.parse::<WriterId>() else { return Ok(Seen::Unknown) };
        let Some(object) = self.read(path, CERTIFICATE_BYTES_MAX).await? else {
            return Ok(Seen::Certificate(writer, None));
        };
        let authority = self.repository.descriptor().authority;
        let opened = Certificate::open(self.repository.keys(), &authority, writer, &object);
        Ok(Seen::Certificate(writer, opened.err()))
    }

    async fn check_segment(&self, path: &str) -> Result<Seen> {
        let size_max = (SEGMENT_BYTES_MAX + OVERHEAD_BYTES) as u64;
        let Some(object) = self.read(path, size_max).await? else { return Ok(Seen::Checked) };
        let (keys, name) = (self.repository.keys().clone(), path.to_owned());
        let opened = blocking(move || {
            let plaintext = open_object(&keys, ObjectType::IndexSegment, &name, &object)?;
            Segment::open(Body::in_memory(&name, plaintext.into())).map(|_| ())
        });
        self.judge(path, opened.await).await?;
        Ok(Seen::Checked)
    }

    async fn check_session_object(&self, kind: &str, path: &str, id: SessionId) -> Result<Seen> {
        self.context.check("verify repository")?;
        Ok(match kind {
            "session" => {
                let announced = gone_is_fine(self.repository.announcement(&id).await);
                match self.judge(path, announced).await?.flatten() {
                    Some((announcement, _)) => Seen::Domain(announcement.domain),
                    None => Seen::Checked,
                }
            }
            "snapshot" => {
                let commit = gone_is_fine(self.repository.commit_of(&id).await);
                match self.judge(path, commit).await?.flatten() {
                    Some(Commit::Snapshot(snapshot)) => Seen::Snapshot(Box::new(WantedTree {
                        id,
                        domain: snapshot.domain,
                        root: snapshot.root,
                    })),
                    Some(Commit::Tombstone(_)) | None => Seen::Checked,
                }
            }
            _ => {
                let forget = gone_is_fine(self.repository.snapshot_forget(&id).await);
                // One that cannot be read is damage; the snapshot is then still to be whole.
                match self.judge(path, forget).await?.flatten() {
                    Some(_) => Seen::Forget(id),
                    None => Seen::Checked,
                }
            }
        })
    }

    async fn check_collector_object(&self, path: &str) -> Result<Seen> {
        if gc::from_lost_path(path).is_some() {
            if let Some(object) = self.read(path, NOTICE_BYTES_MAX).await? {
                let checked = gc::check_lost(self.repository, path, &object).await;
                self.judge(path, checked).await?;
            }
            return Ok(Seen::Checked);
        }
        let Some((generation, stage)) = gc::from_gc_path(path) else { return Ok(Seen::Unknown) };
        if let Some(object) = self.read(path, GET_BYTES_MAX).await? {
            let keys = self.repository.keys();
            let opened = match stage {
                gc::Stage::Outcome => gc::Outcome::open(keys, generation, &object).map(|_| ()),
                stage => gc::open_set(keys, generation, stage, &object).map(|_| ()),
            };
            self.judge(path, opened).await?;
        }
        Ok(Seen::Checked)
    }

    async fn check_signed_if(
        &self,
        is_known: bool,
        path: &str,
        object_type: ObjectType,
    ) -> Result<Seen> {
        if !is_known {
            return Ok(Seen::Unknown);
        }
        self.check_signed(path, object_type).await?;
        Ok(Seen::Checked)
    }

    async fn check_signed(&self, path: &str, object_type: ObjectType) -> Result<()> {
        let size_max = SMALL_BYTES_MAX.max(NOTICE_BYTES_MAX);
        if let Some(object) = self.read(path, size_max).await? {
            let opened = self.repository.open_signed(object_type, path, &object).await;
            self.judge(path, opened).await?;
        }
        Ok(())
    }

    async fn check_sealed_if(
        &self,
        is_known: bool,
        path: &str,
        object_type: ObjectType,
    ) -> Result<Seen> {
        if !is_known {
            return Ok(Seen::Unknown);
        }
        if let Some(object) = self.read(path, GET_BYTES_MAX).await? {
            let (keys, name) = (self.repository.keys().clone(), path.to_owned());
            let opened = blocking(move || open_object(&keys, object_type, &name, &object));
            self.judge(path, opened.await).await?;
        }
        Ok(Seen::Checked)
    }

    /// Whoever can open the repository must also be able to prove what he writes. A certificate that
    /// belongs to no slot matters only to what its writer signed, which is reported itself.
    async fn check_certificates(&self, collected: &mut Collected) -> Result<()> {
        collected.slots.insert(self.repository.writer());
        for (writer, error) in std::mem::take(&mut collected.certificates) {
            let path = certificate_path(writer);
            match error {
                Some(error) if collected.slots.contains(&writer) => {
                    self.note(&path, error).await?;
                }
                Some(error) => {
                    self.findings().add_provisional(&path, error.chain());
                }
                None => {}
            }
            collected.slots.remove(&writer);
        }
        for writer in &collected.slots {
            let what = "it is not there: nothing that its writer signed can be checked";
            self.findings().add(&certificate_path(*writer), what.to_owned());
        }
        Ok(())
    }
}

/// What was listed and is gone by now was deleted by a collector: who needs it will miss it.
pub(super) fn gone_is_fine<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn stream_of(rest: &str) -> Option<StreamName> {
    rest.split_once('/')?.0.parse().ok()
}

/// Says whether this is a batch, a part of one or the beginning of a run.
fn is_logged(rest: &str) -> bool {
    let Some((stream, place)) = rest.split_once('/') else { return false };
    let place = place.split_once('-').map_or(place, |(place, _)| place);
    stream.parse::<StreamName>().is_ok() && is_bucketed(place)
}

/// Says whether this is `<bucket>/<number>`.
fn is_bucketed(text: &str) -> bool {
    text.split_once('/').is_some_and(|(bucket, digits)| {
        Number::from_digits(digits).is_some_and(|number| number.bucket() == bucket)
    })
}

/// Runs what computes where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, "verify repository", "").because(error))
    })
}
