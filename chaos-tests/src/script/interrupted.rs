//! A capture that wrote a checkpoint and was interrupted behind it.

use model::{Context, Cut, ExtentBody, Item, Position, Result, System};
use repository::Repository;
use repository::content::{ContentWriter, Unit};
use repository::session::{Draft, Session, SessionOptions};
use repository::tree::TreeBuilder;
use repository::types::{Record, StoredBody, StoredExtent, StreamName};
use testkit::ScriptedSystem;

use crate::engine::{DOMAIN, HOST};
use crate::observe::state_of;

/// Captures the first half of a system's items, commits a checkpoint, and goes no further.
///
/// # Errors
/// Those of the repository.
pub(super) async fn capture_half(
    repository: &Repository,
    stream: &StreamName,
    system: &ScriptedSystem,
    context: &Context,
) -> Result<()> {
    let options = SessionOptions {
        kind: "scripted".to_owned(),
        domain: DOMAIN.to_owned(),
        host: HOST.to_owned(),
        ignore_parent: false,
    };
    let session = Session::begin(repository, stream, options, context).await?;
    let cut = system.cut(None, context).await?;
    let state = state_of(system);
    let mut tree = TreeBuilder::new(session.keys(), session.nodes());
    for (key, observed) in state.iter().take(state.len().div_ceil(2)) {
        let record = store(session.writer(), observed.item.clone(), &observed.content).await?;
        tree.push(key, record)?;
    }
    let root = tree.finish().await?;
    let draft = draft(cut.as_ref(), system, context).await?;
    let next = session.checkpoint(root, draft).await?;
    cut.release().await?;
    // As a process that ends here leaves it: announced, and neither committed nor given up.
    drop(next);
    Ok(())
}

async fn draft(cut: &dyn Cut, system: &ScriptedSystem, context: &Context) -> Result<Draft> {
    let now = context.clock.now();
    let position: Position = cut.position().clone();
    Ok(Draft {
        position,
        cut_from: now,
        cut_to: now,
        source_time: None,
        extent_epoch: system.facts().extent_epoch,
        proof: cut.proof().await?,
        problems: 0,
    })
}

/// Stores the content of an item.
async fn store(writer: &ContentWriter, item: Item, content: &bytes::Bytes) -> Result<Record> {
    let (writer, content) = (writer.clone(), content.clone());
    let stored = tokio::task::spawn_blocking(move || store_now(writer.unit(), item, content));
    stored.await.unwrap_or_else(|error| {
        Err(model::Error::new(model::ErrorKind::Internal, "store content", "").because(error))
    })
}

fn store_now(mut unit: Unit, item: Item, mut content: bytes::Bytes) -> Result<Record> {
    let mut stored = Vec::new();
    for extent in &item.extents {
        let bytes = content.split_to(content.len().min(extent.length_bytes as usize));
        let ExtentBody::Data { identity, checksums } = &extent.body else {
            stored.push((extent.length_bytes, None));
            continue;
        };
        let ticket = if bytes.is_empty() { None } else { Some(unit.whole(bytes, &[])?) };
        stored.push((extent.length_bytes, Some((identity.clone(), checksums.clone(), ticket))));
    }
    let chunks = unit.finish()?;
    let with_chunks = |(length_bytes, data): (u64, Option<(_, _, Option<_>)>)| {
        let body = match data {
            None => StoredBody::Hole,
            Some((identity, checksums, ticket)) => {
                let of = |ticket: repository::content::Ticket| chunks.get(ticket.0).cloned();
                let chunks = ticket.and_then(of).unwrap_or_default();
                let class = model::ContentClass::General;
                StoredBody::Data { identity, checksums, class, chunks }
            }
        };
        StoredExtent { length_bytes, body }
    };
    let extents = stored.into_iter().map(with_chunks).collect();
    Ok(Record { kind: item.kind, attributes: item.attributes, version: item.version, extents })
}
