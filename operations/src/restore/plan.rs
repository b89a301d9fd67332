//! What a restore does about each item: a pure merge of what is wanted with what is there.

use std::cmp::Ordering;

use model::{AttributeTag, Item, ItemKey, ItemKind, RestoreStep};

/// What may be done to things that are in the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing may be there: the target has to be empty.
    Refuse,
    /// What is equal stays, which continues an interrupted restore; what differs is a conflict.
    Keep,
    /// What is equal stays, what differs is replaced.
    Overwrite,
}

/// How a restore treats its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreRules {
    /// What may be done to things that are there.
    pub existing: Existing,
    /// Whether what is there and not wanted is deleted.
    pub delete_extra: bool,
}

/// What is done about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A step to apply.
    Apply(RestoreStep),
    /// What is there looks like what is wanted: its content is compared, and written where it differs.
    Compare(Item),
    /// Something else is there that may not be touched.
    Conflict(ItemKey),
    /// Something that is not wanted is there and stays.
    Leave(ItemKey),
}

impl Action {
    /// Returns the key that it is about.
    pub fn key(&self) -> &ItemKey {
        match self {
            Self::Apply(step) => step.key(),
            Self::Compare(item) => &item.key,
            Self::Conflict(key) | Self::Leave(key) => key,
        }
    }
}

/// Attributes that say how an item was captured, not what it is.
const NOT_RESTORED: &[AttributeTag] =
    &[AttributeTag::INCONSISTENT, AttributeTag::USER_NAME, AttributeTag::GROUP_NAME];

/// Says what is done about a key, given what is wanted and what is there under it.
///
/// `ignored` are attributes that the target cannot hold. Returns none where neither is given.
pub fn action(
    wanted: Option<Item>,
    there: Option<&Item>,
    rules: RestoreRules,
    ignored: &[AttributeTag],
) -> Option<Action> {
    match (wanted, there) {
        (None, None) => None,
        (Some(wanted), None) => Some(Action::Apply(RestoreStep::Create(wanted))),
        (Some(wanted), Some(there)) => Some(action_on_existing(wanted, there, rules, ignored)),
        (None, Some(there)) if rules.delete_extra => {
            Some(Action::Apply(RestoreStep::Delete(there.key.clone())))
        }
        (None, Some(there)) => Some(Action::Leave(there.key.clone())),
    }
}

fn action_on_existing(
    wanted: Item,
    there: &Item,
    rules: RestoreRules,
    ignored: &[AttributeTag],
) -> Action {
    // A directory is filled, not replaced; an interrupted restore leaves it without its metadata.
    let is_same_directory = wanted.kind == ItemKind::Directory && there.kind == ItemKind::Directory;
    if rules.existing == Existing::Refuse && !is_same_directory {
        return Action::Conflict(wanted.key);
    }
    if looks_equal(&wanted, there, ignored) {
        return Action::Compare(wanted);
    }
    if is_same_directory || rules.existing == Existing::Overwrite {
        Action::Apply(RestoreStep::Replace(wanted))
    } else {
        Action::Conflict(wanted.key)
    }
}

fn looks_equal(wanted: &Item, there: &Item, ignored: &[AttributeTag]) -> bool {
    wanted.kind == there.kind
        && wanted.content_bytes() == there.content_bytes()
        && has_same_attributes(wanted, there, ignored)
}

/// Says whether two items of one kind have the same attributes, as far as a restore sets them.
pub(super) fn has_same_attributes(wanted: &Item, there: &Item, ignored: &[AttributeTag]) -> bool {
    let target = |item: &Item| item.attributes.get(AttributeTag::LINK_TARGET).map(<[u8]>::to_vec);
    match wanted.kind {
        // Whatever else is said of a further name is said of the item that it is a name of.
        ItemKind::Hardlink => target(wanted) == target(there),
        // What only leads somewhere, or was never a file at its source, was captured with some of the
        // attributes or none, the time not among them: what was not captured may be anything.
        _ if wanted.attributes.get(AttributeTag::MODIFIED_NS).is_none() => {
            let wanted = wanted.attributes.without(NOT_RESTORED).without(ignored);
            wanted.iter().all(|(tag, value)| there.attributes.get(tag) == Some(value))
        }
        _ => {
            let kept = |item: &Item| item.attributes.without(NOT_RESTORED).without(ignored);
            kept(wanted) == kept(there)
        }
    }
}

/// Says which side of a merge comes next.
pub fn next_side(wanted: Option<&ItemKey>, there: Option<&ItemKey>) -> Option<Ordering> {
    match (wanted, there) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(wanted), Some(there)) => Some(wanted.cmp(there)),
    }
}

/// What a plan comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanSummary {
    /// Items that will be made.
    pub create_items: u64,
    /// Bytes of content that will be written.
    pub write_bytes: u64,
    /// Items that will be replaced.
    pub replace_items: u64,
    /// Items that will be removed.
    pub delete_items: u64,
    /// Items that are there and will be compared.
    pub compare_items: u64,
    /// Items that are there, are not wanted and stay.
    pub leave_items: u64,
    /// Items that stand in the way.
    pub conflict_items: u64,
    /// The first few keys that stand in the way.
    pub conflicts: Vec<ItemKey>,
}

impl PlanSummary {
    const CONFLICTS_SHOWN_MAX: usize = 20;

    /// Adds one action. The target itself is there before and after, and not counted.
    pub fn add(&mut self, action: &Action) {
        match action {
            _ if action.key().is_root() => {}
            Action::Apply(RestoreStep::Create(item)) => {
                self.create_items += 1;
                self.write_bytes += item.content_bytes();
            }
            Action::Apply(RestoreStep::Replace(item)) => {
                self.replace_items += 1;
                self.write_bytes += item.content_bytes();
            }
            Action::Apply(RestoreStep::Delete(_)) => self.delete_items += 1,
            Action::Compare(_) => self.compare_items += 1,
            Action::Leave(_) => self.leave_items += 1,
            Action::Conflict(key) => {
                self.conflict_items += 1;
                if self.conflicts.len() < Self::CONFLICTS_SHOWN_MAX {
                    self.conflicts.push(key.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Attributes, Extent};

    /// Notation: `name=mode` or `name/=mode` for a directory.
    fn item(text: &str) -> Item {
        let (name, mode) = text.split_once('=').expect("name=mode");
        let (name, kind) = match name.strip_suffix('/') {
            Some(name) => (name, ItemKind::Directory),
            None => (name, ItemKind::File),
        };
        Item {
            key: ItemKey::from_components([name]).expect("key"),
            kind,
            attributes: Attributes::builder()
                .unsigned(AttributeTag::MODE, mode.parse().expect("mode"))
                .build(),
            version: None,
            extents: if kind.has_content() { vec![Extent::data(1)] } else { Vec::new() },
        }
    }

    fn check(wanted: &str, there: &str, existing: Existing, delete_extra: bool, expected: &str) {
        let one = |text: &str| (!text.is_empty()).then(|| item(text));
        let rules = RestoreRules { existing, delete_extra };
        let shown = match action(one(wanted), one(there).as_ref(), rules, &[]) {
            None => "nothing",
            Some(Action::Apply(RestoreStep::Create(_))) => "create",
            Some(Action::Apply(RestoreStep::Replace(_))) => "replace",
            Some(Action::Apply(RestoreStep::Delete(_))) => "delete",
            Some(Action::Compare(_)) => "compare",
            Some(Action::Conflict(_)) => "conflict",
            Some(Action::Leave(_)) => "leave",
        };
        assert_eq!(shown, expected, "{wanted:?} over {there:?}");
    }

    #[test]
    fn nothing_there_is_touched_unless_told() {
        check("a=1", "", Existing::Refuse, false, "create");
        check("a=1", "a=1", Existing::Refuse, false, "conflict");
        check("a=1", "a=1", Existing::Keep, false, "compare");
        check("a=1", "a=2", Existing::Keep, false, "conflict");
        check("a=1", "a=2", Existing::Overwrite, false, "replace");
        check("a=1", "a/=1", Existing::Keep, false, "conflict");
        check("a/=1", "a=1", Existing::Refuse, false, "conflict");
        check("a/=1", "a/=1", Existing::Refuse, false, "compare");
        check("a/=1", "a/=2", Existing::Keep, false, "replace");
    }

    #[test]
    fn what_was_not_captured_is_not_compared() {
        let with = |tags: &[(AttributeTag, u64)]| {
            let attributes = tags.iter().fold(Attributes::builder(), |builder, (tag, value)| {
                builder.unsigned(*tag, *value)
            });
            Item { attributes: attributes.build(), ..item("a=0") }
        };
        let (mode, time) = (AttributeTag::MODE, AttributeTag::MODIFIED_NS);
        let there = with(&[(mode, 0o600), (time, 5)]);
        for (wanted, is_same) in [
            (with(&[]), true),
            (with(&[(mode, 0o600)]), true),
            (with(&[(mode, 0o644)]), false),
            (with(&[(mode, 0o600), (time, 5)]), true),
            (with(&[(mode, 0o600), (time, 6)]), false),
            (with(&[(time, 5)]), false),
        ] {
            assert_eq!(has_same_attributes(&wanted, &there, &[]), is_same, "{wanted:?}");
        }
    }

    #[test]
    fn extra_things_stay_unless_told() {
        check("", "a=1", Existing::Overwrite, false, "leave");
        check("", "a=1", Existing::Overwrite, true, "delete");
        check("", "", Existing::Keep, true, "nothing");
    }

    #[test]
    fn a_summary_counts_each_action_once() {
        let mut summary = PlanSummary::default();
        let rules = RestoreRules { existing: Existing::Keep, delete_extra: true };
        for (wanted, there) in [("a=1", ""), ("b=1", "b=1"), ("c=1", "c=2"), ("", "d=1")] {
            let one = |text: &str| (!text.is_empty()).then(|| item(text));
            summary.add(&action(one(wanted), one(there).as_ref(), rules, &[]).expect("an action"));
        }
        let expected = PlanSummary {
            create_items: 1,
            write_bytes: 1,
            compare_items: 1,
            delete_items: 1,
            conflict_items: 1,
            conflicts: vec![item("c=1").key],
            ..PlanSummary::default()
        };
        assert_eq!(summary, expected);
    }
}
