//! Checks of a whole repository; damage is reported as chunk → items → points.
//!
//! First the small objects, each opened and its signature checked, which gives the snapshots that are
//! wanted and the points that name them. Then the packs, each read at most once. Last the trees, which
//! say which items need what was found to be damaged: a node that several snapshots share is walked
//! once. Nothing that is damaged ends the run, and nothing in the store is changed.

mod examine;
mod findings;
mod logs;
mod objects;
mod packs;
mod points;
mod run;
#[cfg(test)]
mod tests;
mod trees;

use std::collections::HashMap;

use model::{Context, Counter, Phase, Result};

use crate::Repository;
use crate::point::PointId;
use crate::types::SessionId;

use packs::Packs;
use run::Run;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Every snapshot's tree resolves; every pack is there and its table of contents opens.
    Structure,
    /// The same, and this share (0 to 1) of the packs is read whole.
    Sample(f64),
    /// The same, and every byte of every pack is read, every chunk decoded and its id recomputed.
    Deep,
}

/// What is verified.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How much.
    pub depth: Depth,
    /// How many items are named per damaged object.
    pub named: usize,
}

/// One thing that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object.
    pub object: String,
    /// What is wrong.
    pub what: String,
    /// Items that it reaches: snapshot, key as displayed. At most [`VerifyOptions::named`]. Where a
    /// tree node is lost, what was below it is named as a range. An item of several snapshots is named
    /// with one of them.
    pub items: Vec<(SessionId, String)>,
    /// How many items it reaches; one of several snapshots counts once.
    pub item_count: u64,
    /// Points that it reaches.
    pub points: Vec<PointId>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Snapshots checked.
    pub snapshots: u64,
    /// Points checked.
    pub points: u64,
    /// Items checked; one of several snapshots counts once.
    pub items: u64,
    /// What is damaged, in the order of objects.
    pub damage: Vec<Damage>,
    /// What is unknown but harmless: objects of no known name, packs that nothing refers to and whose
    /// keys are not at hand.
    pub unknown_objects: u64,
    /// Key domains that were met.
    pub domains: Vec<String>,
}

/// What the small objects say is to be there.
#[derive(Debug, Default)]
struct Wanted {
    /// Snapshots and checkpoints whose trees are to be whole, newest first within a stream.
    snapshots: Vec<objects::WantedTree>,
    /// The points that name each snapshot.
    points: HashMap<SessionId, Vec<PointId>>,
    /// Key domains that snapshots and sessions name.
    domains: Vec<String>,
    /// How many points were read.
    points_read: u64,
}

/// Verifies a repository.
///
/// # Errors
/// `Cancelled`; `WrongKey` where the key gives no contents, which would look like damage; those of a store that does not answer any more. Damage is no error.
pub async fn verify(
    repository: &Repository,
    options: &VerifyOptions,
    context: &Context,
) -> Result<Report> {
    repository.keys().check_full("verify repository")?;
    let run = Run::new(repository, options, context);
    let phase = |name, total| {
        context.monitor.phase(Phase { name, subject: repository.store().name().to_owned(), total });
    };
    phase("check objects", None);
    let wanted = run.check_objects().await?;
    let domains = run.domains(&wanted.domains)?;
    let mut packs = Packs::list(&run).await?;
    phase("check packs", Some((Counter::CheckedObjects, run.checked() + packs.len())));
    packs.check(&run, &domains).await?;
    phase("check trees", None);
    for tree in &wanted.snapshots {
        run.check_tree(tree, &domains, &packs).await?;
    }
    Ok(run.report(&wanted))
}
