//! One attempt at a capture: from the announcement of a session to its commit.
//!
//! A long capture commits checkpoints. A checkpoint holds what was captured up to a key and, behind it,
//! what the parent has there: everything of it is worth being reused, and it is no state that the system
//! ever was in, so no changes are asked for since it. While the system is in another epoch of extent
//! identities than the parent no checkpoint is taken, as one snapshot has one epoch; nor is one while
//! changes are applied, which is over sooner.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use model::{
    ChangeBatches, Context, Cut, CutItems, Error, ErrorKind, ItemBatches, ItemKey, Phase, Proof,
    Result, System, Timestamp,
};
use repository::Repository;
use repository::session::{Draft, Session, SessionOptions};
use repository::snapshot::Snapshot;
use repository::tree::{Tree, TreeBuilder, apply_changes};
use repository::types::{Root, StoredExtent, StreamName};
use tokio::runtime::Handle;

use super::decide::Trust;
use super::entries::{Chooser, Joined, Parent, Resolve, Upserted};
use super::listing::{edits_of, sorted};
use super::pipeline::{Pipeline, Tally, cancellable};
use super::problems::Problems;
use super::work::Tools;
use super::{CaptureOptions, Captured, since, trust};

/// Why an attempt failed.
pub(super) enum Failure {
    /// A collector took the session's commit key: begin again.
    Fenced(Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn at_commit(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Conflict | ErrorKind::Fenced => Failure::Fenced(error),
        _ => Failure::Other(error),
    }
}

/// What has to be let go, however an attempt ends.
struct Held {
    session: Option<Session>,
    cut: Option<Arc<dyn Cut>>,
}

impl Held {
    fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(no_session)
    }
}

fn no_session() -> Error {
    Error::new(ErrorKind::Internal, "capture", "").detail("its session is over")
}

/// What does not change during an attempt.
struct Run<'a> {
    system: &'a dyn System,
    options: &'a CaptureOptions,
    context: &'a Context,
    problems: &'a Problems,
    /// About how much memory sorting takes.
    sort_bytes: usize,
    cut_from: Timestamp,
}

/// How far a tree was built.
enum Built {
    Whole(Root),
    UpTo(ItemKey, Root),
}

pub(super) async fn attempt(
    repository: &Repository,
    stream: &StreamName,
    system: &dyn System,
    options: &CaptureOptions,
    context: &Context,
) -> Result<Captured, Failure> {
    context.check("capture")?;
    let phase = |name| Phase { name, subject: stream.to_string(), total: None };
    context.monitor.phase(phase("begin"));
    let session_options = SessionOptions {
        kind: system.facts().kind.to_owned(),
        domain: options.domain.clone(),
        host: options.host.clone(),
        ignore_parent: options.read_everything,
    };
    let session = Session::begin(repository, stream, session_options, context).await?;
    let (counting, problems) = Problems::counting(context);
    let run = Run {
        system,
        options,
        context: &counting,
        problems: &problems,
        sort_bytes: usize::try_from(repository.options().memory_bytes / 4).unwrap_or(usize::MAX),
        cut_from: context.clock.now(),
    };
    let mut held = Held { session: Some(session), cut: None };
    let mut tally = Tally::default();
    context.monitor.phase(phase("capture"));
    // The named type tells the compiler that it may be sent, whatever the lifetimes.
    let read: BoxFuture<'_, _> = Box::pin(run.read(&mut held, &mut tally));
    let read = read.await;
    if let Some(cut) = held.cut.take()
        && let Err(error) = cut.release().await
    {
        // The state is captured; what the system holds for us is found by its sweeper.
        context.monitor.problem(&error);
    }
    let committed = match read {
        Ok((root, draft)) => {
            context.monitor.phase(phase("commit"));
            commit(&mut held, root, draft).await
        }
        Err(failure) => Err(failure),
    };
    if let Some(session) = held.session.take()
        && let Err(error) = session.abandon().await
    {
        context.monitor.problem(&error);
    }
    let snapshot = committed?;
    let Tally { listed_items, reused_items, read_items, deleted_items, read_bytes } = tally;
    let (stored_bytes, problems) = (snapshot.stored_bytes, snapshot.problems);
    Ok(Captured {
        snapshot,
        listed_items,
        reused_items,
        read_items,
        deleted_items,
        read_bytes,
        stored_bytes,
        problems,
    })
}

async fn commit(held: &mut Held, root: Root, draft: Draft) -> Result<Snapshot, Failure> {
    let session = held.session.take().ok_or_else(no_session)?;
    session.commit(root, draft).await.map_err(at_commit)
}

impl Run<'_> {
    /// Takes a cut and makes it a tree.
    async fn read(&self, held: &mut Held, tally: &mut Tally) -> Result<(Root, Draft), Failure> {
        let session = held.session()?;
        // Where something is condemned every record has to be looked at: changes do not list them all.
        let parent = session.parent().filter(|_| !session.checks_reuse());
        let since = since(parent, self.system).cloned();
        let taken = self.system.cut(since.as_ref(), self.context);
        let cut: Arc<dyn Cut> = Arc::from(cancellable(self.context, "cut system", taken).await?);
        held.cut = Some(Arc::clone(&cut));
        let root = match cut.items(self.context) {
            CutItems::Sorted(items) => self.listed(held, &cut, items, tally).await?,
            CutItems::Unsorted(items) => {
                let items = sorted(items, self.sort_bytes, self.options, self.context).await?;
                self.listed(held, &cut, items, tally).await?
            }
            CutItems::Changes(_) if since.is_none() => {
                return Err(Error::new(ErrorKind::Internal, "list items", "")
                    .detail("the system lists changes since no position")
                    .into());
            }
            CutItems::Changes(changes) => {
                self.changed(held.session()?, &cut, changes, tally).await?
            }
        };
        let proof = cancellable(self.context, "read proof", cut.proof()).await?;
        Ok((root, self.draft(cut.as_ref(), proof)))
    }

    fn draft(&self, cut: &dyn Cut, proof: Proof) -> Draft {
        Draft {
            position: cut.position().clone(),
            cut_from: self.cut_from,
            cut_to: self.context.clock.now(),
            source_time: None,
            extent_epoch: self.system.facts().extent_epoch,
            proof,
            problems: self.problems.count(),
        }
    }

    /// Makes a listing in key order a tree, with checkpoints on the way.
    async fn listed(
        &self,
        held: &mut Held,
        cut: &Arc<dyn Cut>,
        items: ItemBatches<'_>,
        tally: &mut Tally,
    ) -> Result<Root, Failure> {
        let records = |tree: Option<Tree>, from| match tree {
            Some(tree) => Parent::new(tree.range((from, Bound::Unbounded))),
            None => Parent::none(),
        };
        let parent = records(held.session()?.parent_tree(), Bound::Unbounded);
        let mut joined = Joined::new(items, parent);
        let mut resume = None;
        loop {
            let session = held.session()?;
            let built =
                Box::pin(self.build(session, cut, &mut joined, resume.as_ref(), tally)).await?;
            let (upto, root) = match built {
                Built::Whole(root) => return Ok(root),
                Built::UpTo(upto, root) => (upto, root),
            };
            let session = held.session.take().ok_or_else(no_session)?;
            let draft = self.draft(cut.as_ref(), Proof::default());
            let session = session.checkpoint(root, draft).await.map_err(at_commit)?;
            *joined.parent_mut() = records(session.parent_tree(), Bound::Excluded(upto.clone()));
            held.session = Some(session);
            resume = Some(upto);
        }
    }

    /// Builds on: from the items that a checkpoint holds already up to the next checkpoint or the end.
    async fn build(
        &self,
        session: &Session,
        cut: &Arc<dyn Cut>,
        joined: &mut Joined<'_>,
        resume: Option<&ItemKey>,
        tally: &mut Tally,
    ) -> Result<Built, Failure> {
        let nodes = session.nodes().clone();
        let mut builder = TreeBuilder::new(session.keys(), &nodes);
        let resolve = |extent: &StoredExtent| session.reuse(extent);
        let chooser = self.chooser(session, &resolve);
        if let Some(upto) = resume {
            take_over(session, &chooser, upto, &mut builder).await?;
        }
        let may_checkpoint = chooser.trust.stored_epoch == chooser.trust.source_epoch;
        let mut pipeline = Pipeline::new(self.tools(session, cut), self.parallel(), tally)?;
        let built: Result<Option<ItemKey>> = async {
            while let Some(records) = pipeline.next(joined, &chooser).await? {
                push(&mut builder, records).await?;
                let Some(last) = joined.last().filter(|_| may_checkpoint) else { continue };
                if session.is_checkpoint_due() {
                    let last = last.clone();
                    while let Some(records) = pipeline.drain().await? {
                        push(&mut builder, records).await?;
                    }
                    return Ok(Some(last));
                }
            }
            Ok(None)
        }
        .await;
        pipeline.stop().await;
        let Some(upto) = built? else { return Ok(Built::Whole(builder.finish().await?)) };
        while let Some(records) = joined.parent_mut().rest().await? {
            for (key, record) in records {
                if let Some(record) = chooser.resolve_record(record)? {
                    builder.push(&key, record)?;
                }
            }
            builder.settle().await?;
        }
        Ok(Built::UpTo(upto, builder.finish().await?))
    }

    /// Applies changes to the parent's tree.
    async fn changed(
        &self,
        session: &Session,
        cut: &Arc<dyn Cut>,
        changes: ChangeBatches<'_>,
        tally: &mut Tally,
    ) -> Result<Root> {
        let parent = session.parent_tree().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "apply changes", "").detail("there is no parent")
        })?;
        let edits = edits_of(changes, self.context).await?;
        let resolve = |extent: &StoredExtent| session.reuse(extent);
        let chooser = self.chooser(session, &resolve);
        let mut upserted = Upserted::new(&parent, &edits);
        let mut pipeline = Pipeline::new(self.tools(session, cut), self.parallel(), tally)?;
        let nodes = session.nodes().clone();
        let builder = TreeBuilder::new(session.keys(), &nodes);
        let root = {
            let records: BoxStream<'_, _> =
                stream::try_unfold((&mut pipeline, &mut upserted), |(pipeline, upserted)| async {
                    let records = pipeline.next(upserted, &chooser).await?;
                    Ok(records.map(|records| (records, (pipeline, upserted))))
                })
                .boxed();
            let may_reuse = |place: &_| session.may_reuse(place);
            apply_changes(&parent, &edits, records, builder, &may_reuse).await
        };
        pipeline.stop().await;
        let (before, created) = (parent.root().totals.items, upserted.created());
        let root = root?;
        tally.deleted_items += (before + created).saturating_sub(root.totals.items);
        Ok(root)
    }

    fn chooser<'c>(&self, session: &'c Session, resolve: Resolve<'c>) -> Chooser<'c> {
        Chooser {
            trust: trust_of(session, self.system, self.options),
            resolve: session.checks_reuse().then_some(resolve),
        }
    }

    fn tools(&self, session: &Session, cut: &Arc<dyn Cut>) -> Tools {
        let cancel = self.context.cancel.child_token();
        Tools {
            content: Arc::clone(cut) as Arc<dyn model::Content>,
            writer: session.writer().clone(),
            reader: session.reader().clone(),
            class: self.system.facts().content_class,
            trust: trust_of(session, self.system, self.options),
            handle: Handle::current(),
            context: Context { cancel, ..self.context.clone() },
            read_bytes: AtomicU64::new(0),
        }
    }

    /// One more unit than processors keeps them busy while one waits for the source.
    fn parallel(&self) -> usize {
        self.options.workers.max(1).saturating_add(1).min(self.system.facts().read_concurrency)
    }
}

fn trust_of(session: &Session, system: &dyn System, options: &CaptureOptions) -> Trust {
    trust(session.parent(), session.capture_number(), system, options)
}

/// Takes over what the checkpoint that a session builds on has captured already.
async fn take_over(
    session: &Session,
    chooser: &Chooser<'_>,
    upto: &ItemKey,
    builder: &mut TreeBuilder<'_>,
) -> Result<(), Failure> {
    // Forgotten between its commit and now: the source has passed what it held.
    let forgotten = || {
        let id = session.id().to_string();
        Failure::Fenced(Error::new(ErrorKind::Fenced, "go on from checkpoint", id))
    };
    let checkpoint = session.parent_tree().ok_or_else(forgotten)?;
    let mut records = checkpoint.range(..=upto.clone());
    while let Some(batch) = records.next().await {
        for (key, record) in batch? {
            // What was captured a moment ago is condemned: the source has passed it already.
            let condemned = || {
                Failure::Fenced(Error::new(
                    ErrorKind::Fenced,
                    "go on from checkpoint",
                    key.display(),
                ))
            };
            let record = chooser.resolve_record(record)?.ok_or_else(condemned)?;
            builder.push(&key, record)?;
        }
        builder.settle().await?;
    }
    Ok(())
}

async fn push(builder: &mut TreeBuilder<'_>, records: super::pipeline::Records) -> Result<()> {
    for (key, record) in records {
        builder.push(&key, record)?;
    }
    builder.settle().await
}
