//! Grouping of planned steps into pieces of work.
//!
//! Directories, things that hold others and removals are done in order, before what comes after them;
//! everything else depends on nothing but its parent and is done at the same time as its neighbours. A
//! large content is a piece of work of its own and is streamed.

use model::{ItemKind, RestoreStep};

use super::merge::Planned;
use super::plan::Action;

/// Contents up to this size are fetched together with their neighbours.
const SMALL_BYTES_MAX: u64 = 2 << 20;
/// A window is closed at this many bytes of content. Short ones are written while what was decoded is
/// still near.
pub(super) const WINDOW_BYTES: u64 = 2 << 20;
/// A window is closed at this many steps, so that empty files are also worked on in parallel.
const WINDOW_STEPS: usize = 512;

/// A piece of work.
#[derive(Debug)]
pub(super) enum Work {
    /// Small steps.
    Window(Window),
    /// One step with much content.
    Large(Box<Planned>),
}

/// Steps that are done together.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// To be done first, one after another.
    pub(super) ordered: Vec<Planned>,
    /// To be done after that, in any order.
    pub(super) free: Vec<Planned>,
    pub(super) content_bytes: u64,
}

/// Groups steps.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    open: Window,
}

impl Grouping {
    /// Adds a step; hands on what it completes. What comes first is to be begun first.
    pub(super) fn push(&mut self, planned: Planned, out: &mut Vec<Work>) {
        if is_ordered(&planned.action) {
            self.open.ordered.push(planned);
        } else {
            let bytes = content_bytes(&planned.action);
            if bytes > SMALL_BYTES_MAX {
                // Its directory may still be in the open window.
                self.close(out);
                out.push(Work::Large(Box::new(planned)));
                return;
            }
            self.open.content_bytes += bytes;
            self.open.free.push(planned);
        }
        let steps = self.open.ordered.len() + self.open.free.len();
        if self.open.content_bytes >= WINDOW_BYTES || steps >= WINDOW_STEPS {
            self.close(out);
        }
    }

    /// Hands on what is left.
    pub(super) fn close(&mut self, out: &mut Vec<Work>) {
        let open = std::mem::take(&mut self.open);
        if !open.ordered.is_empty() || !open.free.is_empty() {
            out.push(Work::Window(open));
        }
    }
}

fn is_ordered(action: &Action) -> bool {
    match action {
        Action::Apply(RestoreStep::Create(item) | RestoreStep::Replace(item))
        | Action::Compare(item) => matches!(item.kind, ItemKind::Directory | ItemKind::Node),
        Action::Apply(RestoreStep::Delete(_)) => true,
        Action::Conflict(_) | Action::Leave(_) => false,
    }
}

/// Returns how much content a step is about.
fn content_bytes(action: &Action) -> u64 {
    match action {
        Action::Apply(RestoreStep::Create(item) | RestoreStep::Replace(item))
        | Action::Compare(item) => item.content_bytes(),
        Action::Apply(RestoreStep::Delete(_)) | Action::Conflict(_) | Action::Leave(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use model::{Attributes, Extent, Item, ItemKey};

    use super::*;
    use crate::browse::EntryContent;

    /// Notation: `d` a directory, `x` a removal, a number a file of so many KiB. Expected: windows as
    /// `ordered+free`, `L` for a large content.
    fn check(steps: &str, expected: &str) {
        let (mut grouping, mut works) = (Grouping::default(), Vec::new());
        for word in steps.split(' ') {
            let item = |kind, kib: u64| Item {
                key: ItemKey::root(),
                kind,
                attributes: Attributes::default(),
                version: None,
                extents: (kib > 0).then(|| Extent::data(kib << 10)).into_iter().collect(),
            };
            let step = match word {
                "d" => RestoreStep::Create(item(ItemKind::Directory, 0)),
                "x" => RestoreStep::Delete(ItemKey::root()),
                kib => RestoreStep::Create(item(ItemKind::File, kib.parse().expect("KiB"))),
            };
            let content = EntryContent::Logged(Vec::new());
            grouping
                .push(Planned { action: Action::Apply(step), content, there: None }, &mut works);
        }
        grouping.close(&mut works);
        let shown = works.iter().map(|work| match work {
            Work::Large(_) => "L".to_owned(),
            Work::Window(window) => format!("{}+{}", window.ordered.len(), window.free.len()),
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{steps}");
    }

    #[test]
    fn a_window_holds_small_steps_and_a_large_one_waits_for_its_directory() {
        check("d 1 2 d x 3", "3+3");
        check("d 1 5000 d 5000 1", "1+1 L 1+0 L 0+1");
        check("1000 1000 1000 1", "0+3 0+1");
        check("5000", "L");
        check(&vec!["0"; 1000].join(" "), "0+512 0+488");
    }
}
