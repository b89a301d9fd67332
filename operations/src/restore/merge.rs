//! The order of a restore: what is wanted and what is there, joined by key.
//!
//! Both come in key order, parents before children, and so do the steps, but for what has to wait until
//! everything below it is gone: the removal of a directory, or the replacement of one by something that
//! holds nothing. These wait on a stack, which is as high as the tree is deep.

use model::{AttributeTag, Item, ItemKey, ItemKind, RestoreStep, Result};
use tokio::sync::mpsc;

use super::RestoreOptions;
use super::plan::{self, Action, RestoreRules};
use super::wanted::Wanted;
use crate::browse::EntryContent;

/// Joined keys that are handed on together.
const BATCH_ITEMS: usize = 1024;

/// What is done about one key.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) action: Action,
    /// Where the content of a wanted item is.
    pub(super) content: EntryContent,
    /// What is there, where it is to be compared.
    pub(super) there: Option<Item>,
}

impl Planned {
    fn bare(action: Action) -> Self {
        Self { action, content: EntryContent::Logged(Vec::new()), there: None }
    }
}

/// Puts the steps in order. Pure.
#[derive(Debug)]
pub(super) struct Planner {
    rules: RestoreRules,
    ignored: Vec<AttributeTag>,
    /// Where the restore works: what is outside is neither left nor removed, it is nothing to it.
    place: ItemKey,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: ItemKey,
    planned: Planned,
    /// Something below it stays.
    is_blocked: bool,
}

impl Planner {
    pub(super) fn new(options: &RestoreOptions) -> Self {
        Self {
            rules: options.rules,
            ignored: options.ignored.clone(),
            place: options.onto.clone(),
            waiting: Vec::new(),
        }
    }

    /// Takes the next key, wanted, there or both, and hands on what can be done now.
    pub(super) fn push(
        &mut self,
        wanted: Option<Wanted>,
        there: Option<Item>,
        out: &mut Vec<Planned>,
    ) {
        let key = wanted.as_ref().map(|wanted| &wanted.entry.item.key);
        let Some(key) = key.or(there.as_ref().map(|item| &item.key)).cloned() else { return };
        self.leave(&key, out);
        let is_nothing_to_us = wanted.is_none() && (key.is_root() || !key.is_within(&self.place));
        if is_nothing_to_us {
            return;
        }
        let Some(planned) = self.planned(wanted, there.as_ref()) else { return };
        let is_leaving = matches!(planned.action, Action::Leave(_) | Action::Conflict(_));
        if is_leaving {
            self.waiting.iter_mut().for_each(|waiting| waiting.is_blocked = true);
        }
        if there.is_some_and(|there| holds_others(there.kind)) && empties(&planned.action) {
            self.waiting.push(Waiting { key, planned, is_blocked: false });
        } else {
            out.push(planned);
        }
    }

    /// Hands on what still waits.
    pub(super) fn finish(&mut self, out: &mut Vec<Planned>) {
        while let Some(waiting) = self.waiting.pop() {
            out.push(waiting.done());
        }
    }

    /// Hands on what waited for keys below it, of which there are no more.
    fn leave(&mut self, key: &ItemKey, out: &mut Vec<Planned>) {
        while let Some(waiting) = self.waiting.pop_if(|waiting| !key.is_within(&waiting.key)) {
            out.push(waiting.done());
        }
    }

    fn planned(&self, wanted: Option<Wanted>, there: Option<&Item>) -> Option<Planned> {
        let Some(Wanted { entry, is_ancestor }) = wanted else {
            return plan::action(None, there, self.rules, &self.ignored).map(Planned::bare);
        };
        let is_there = there.is_some_and(|there| holds_others(there.kind));
        if is_ancestor && is_there {
            return None;
        }
        let content = entry.content;
        let action = plan::action(Some(entry.item), there, self.rules, &self.ignored)?;
        let there = matches!(action, Action::Compare(_)).then(|| there.cloned()).flatten();
        Some(Planned { action, content, there })
    }
}

impl Waiting {
    fn done(self) -> Planned {
        if self.is_blocked { Planned::bare(Action::Conflict(self.key)) } else { self.planned }
    }
}

fn holds_others(kind: ItemKind) -> bool {
    matches!(kind, ItemKind::Directory | ItemKind::Node)
}

/// Says whether an action on something that holds others can only be done once it is empty.
fn empties(action: &Action) -> bool {
    match action {
        Action::Apply(RestoreStep::Delete(_)) => true,
        Action::Apply(RestoreStep::Replace(item)) => !holds_others(item.kind),
        Action::Apply(RestoreStep::Create(_))
        | Action::Compare(_)
        | Action::Conflict(_)
        | Action::Leave(_) => false,
    }
}

/// The joined streams.
pub(super) struct Merged {
    wanted: Side<Wanted>,
    there: Side<Item>,
    planner: Planner,
    is_done: bool,
}

impl Merged {
    pub(super) fn new(
        wanted: mpsc::Receiver<Result<Vec<Wanted>>>,
        there: mpsc::Receiver<Result<Vec<Item>>>,
        options: &RestoreOptions,
    ) -> Self {
        Self {
            wanted: Side::new(wanted),
            there: Side::new(there),
            planner: Planner::new(options),
            is_done: false,
        }
    }

    /// Returns the next steps in order; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Planned>>> {
        let mut out = Vec::new();
        while out.len() < BATCH_ITEMS && !self.is_done {
            let (wanted, there) = pair(&mut self.wanted, &mut self.there).await?;
            if wanted.is_none() && there.is_none() {
                self.planner.finish(&mut out);
                self.is_done = true;
            }
            self.planner.push(wanted, there, &mut out);
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

/// Takes the smallest key of two sides, from both where both have it; nothing at the end of both.
pub(super) async fn pair(
    wanted: &mut Side<Wanted>,
    there: &mut Side<Item>,
) -> Result<(Option<Wanted>, Option<Item>)> {
    let side = plan::next_side(
        wanted.peek().await?.map(|wanted| &wanted.entry.item.key),
        there.peek().await?.map(|item| &item.key),
    );
    Ok((
        wanted.head.take_if(|_| side.is_some_and(std::cmp::Ordering::is_le)),
        there.head.take_if(|_| side.is_some_and(std::cmp::Ordering::is_ge)),
    ))
}

/// One of two streams that are joined.
pub(super) struct Side<T> {
    batches: mpsc::Receiver<Result<Vec<T>>>,
    batch: std::vec::IntoIter<T>,
    head: Option<T>,
}

impl<T> Side<T> {
    pub(super) fn new(batches: mpsc::Receiver<Result<Vec<T>>>) -> Self {
        Self { batches, batch: Vec::new().into_iter(), head: None }
    }

    async fn peek(&mut self) -> Result<Option<&T>> {
        while self.head.is_none() {
            self.head = self.batch.next();
            if self.head.is_none() {
                match self.batches.recv().await {
                    Some(batch) => self.batch = batch?.into_iter(),
                    None => break,
                }
            }
        }
        Ok(self.head.as_ref())
    }
}
