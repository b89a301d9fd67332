//! Steps come in an order that a target can follow, whatever is there.

use std::collections::BTreeMap;

use model::{AttributeTag, Attributes, Extent, Item, ItemKey, ItemKind, RestoreStep};
use proptest::prelude::*;
use testkit::scripted::key;

use super::super::RestoreOptions;
use super::super::merge::{Planned, Planner};
use super::super::plan::{Action, Existing, RestoreRules};
use super::super::wanted::Wanted;
use crate::browse::{Entry, EntryContent};

/// Notation: `path/` a directory, `path` a file, `path@primary` a hard link; `=N` a mode; `^` before an
/// ancestor.
fn item(text: &str) -> Item {
    let (text, mode) = text.split_once('=').unwrap_or((text, "0"));
    let (text, primary) = text.split_once('@').map_or((text, None), |(a, b)| (a, Some(b)));
    let mode = mode.parse().expect("mode");
    let attributes = Attributes::builder().unsigned(AttributeTag::MODE, mode);
    let (kind, attributes) = match primary {
        Some(primary) => (
            ItemKind::Hardlink,
            Attributes::builder().bytes(AttributeTag::LINK_TARGET, key(primary).as_bytes()),
        ),
        None if text.ends_with('/') => (ItemKind::Directory, attributes),
        None => (ItemKind::File, attributes),
    };
    let extents = if kind == ItemKind::File { vec![Extent::data(1)] } else { Vec::new() };
    Item { key: key(text), kind, attributes: attributes.build(), version: None, extents }
}

fn wanted(text: &str) -> Wanted {
    let is_ancestor = text.starts_with('^');
    let item = item(text.trim_start_matches('^'));
    let entry = Entry { item, content: EntryContent::Logged(Vec::new()) };
    Wanted { entry, is_ancestor }
}

fn options(existing: Existing, delete_extra: bool, onto: &str) -> RestoreOptions {
    RestoreOptions {
        rules: RestoreRules { existing, delete_extra },
        onto: key(onto),
        include: Vec::new(),
        ignored: Vec::new(),
        is_verified: true,
    }
}

fn run(wanted: Vec<Wanted>, there: Vec<Item>, options: &RestoreOptions) -> Vec<Planned> {
    let mut joined: BTreeMap<ItemKey, (Option<Wanted>, Option<Item>)> = BTreeMap::new();
    for wish in wanted {
        let key = wish.entry.item.key.clone();
        joined.entry(key).or_default().0 = Some(wish);
    }
    for item in there {
        let key = item.key.clone();
        joined.entry(key).or_default().1 = Some(item);
    }
    let (mut planner, mut out) = (Planner::new(options), Vec::new());
    for (_, (wish, item)) in joined {
        planner.push(wish, item, &mut out);
    }
    planner.finish(&mut out);
    out
}

/// Shows steps as `+` create, `~` replace, `-` delete, `=` compare, `!` conflict, `_` leave.
fn check(wishes: &str, there: &str, options: &RestoreOptions, expected: &str) {
    let wishes = wishes.split_whitespace().map(wanted).collect();
    let there = there.split_whitespace().map(item).collect();
    let shown = run(wishes, there, options).into_iter().map(|planned| match planned.action {
        Action::Apply(RestoreStep::Create(item)) => format!("+{}", item.key.display()),
        Action::Apply(RestoreStep::Replace(item)) => format!("~{}", item.key.display()),
        Action::Apply(RestoreStep::Delete(key)) => format!("-{}", key.display()),
        Action::Compare(item) => format!("={}", item.key.display()),
        Action::Conflict(key) => format!("!{}", key.display()),
        Action::Leave(key) => format!("_{}", key.display()),
    });
    assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn directories_go_after_what_is_in_them() {
    let all = options(Existing::Overwrite, true, ".");
    check("", "a/ a/b/ a/b/c a/d e", &all, "-a/b/c -a/b -a/d -a -e");
    check("a", "a/ a/b/ a/b/c", &all, "-a/b/c -a/b ~a");
    check("a/ a/b", "a", &all, "~a +a/b");
    check("a/ a/x", "a/ a/b/ a/b/c", &all, "=a -a/b/c -a/b +a/x");
}

#[test]
fn nothing_is_removed_unless_told() {
    let keep = options(Existing::Overwrite, false, ".");
    check("a", "a/ a/b/ a/b/c", &keep, "_a/b _a/b/c !a");
    check("a", "a/", &keep, "~a");
    check("a=1 b", "a=2 b c", &keep, "~a =b _c");
    let resume = options(Existing::Keep, false, ".");
    check("a=1 b c", "a=2 b", &resume, "!a =b +c");
}

#[test]
fn what_leads_to_the_place_stays_and_what_is_outside_is_nothing_to_it() {
    let below = options(Existing::Overwrite, true, "a/b");
    check("^a/ a/b/ a/b/c", "a/=5 a/b/ a/b/x a/z q", &below, "=a/b +a/b/c -a/b/x");
    check("^a/ a/b/", "", &below, "+a +a/b");
    check("^a/ a/b/", "a", &below, "~a +a/b");
}

fn tree() -> impl Strategy<Value = BTreeMap<ItemKey, Item>> {
    let node = ("[ab]", prop::option::of("[ab]"), prop::option::of("[ab]"), any::<bool>(), 0..3_u8);
    prop::collection::vec(node, 0..12).prop_map(|nodes| {
        let mut tree = BTreeMap::new();
        for (a, b, c, is_directory, mode) in nodes {
            let path: Vec<_> = [Some(a), b, c].into_iter().flatten().collect();
            let mut above = String::new();
            for name in &path[..path.len() - 1] {
                above = format!("{above}{name}/");
                tree.insert(key(&above), item(&above));
            }
            let leaf = path.join("/");
            let is_parent =
                tree.keys().any(|k: &ItemKey| k != &key(&leaf) && k.is_within(&key(&leaf)));
            let slash = if is_directory || is_parent { "/" } else { "" };
            tree.insert(key(&leaf), item(&format!("{leaf}{slash}={mode}")));
        }
        // What a later path has below it is a directory.
        let keys: Vec<_> = tree.keys().cloned().collect();
        for parent in keys.iter().filter_map(ItemKey::parent).filter(|parent| !parent.is_root()) {
            tree.insert(parent.clone(), item(&format!("{}/", parent.display())));
        }
        tree
    })
}

proptest! {
    #[test]
    fn whatever_is_there_becomes_what_is_wanted(wishes in tree(), there in tree()) {
        let options = options(Existing::Overwrite, true, ".");
        let wish = |item: &Item| Wanted {
            entry: Entry { item: item.clone(), content: EntryContent::Logged(Vec::new()) },
            is_ancestor: false,
        };
        let mut state = there.clone();
        let steps = run(wishes.values().map(wish).collect(), there.into_values().collect(), &options);
        for planned in steps {
            let has_children = |state: &BTreeMap<ItemKey, Item>, key: &ItemKey| {
                state.keys().any(|other| other != key && other.is_within(key))
            };
            match planned.action {
                Action::Apply(RestoreStep::Create(item) | RestoreStep::Replace(item)) => {
                    let parent = item.key.parent().unwrap_or_default();
                    let parent_kind = state.get(&parent).map(|parent| parent.kind);
                    prop_assert!(parent.is_root() || parent_kind == Some(ItemKind::Directory));
                    prop_assert!(item.kind == ItemKind::Directory || !has_children(&state, &item.key));
                    state.insert(item.key.clone(), item);
                }
                Action::Apply(RestoreStep::Delete(key)) => {
                    prop_assert!(!has_children(&state, &key));
                    prop_assert!(state.remove(&key).is_some());
                }
                Action::Compare(item) => {
                    prop_assert_eq!(state.get(&item.key).map(|there| there.kind), Some(item.kind));
                }
                Action::Conflict(key) | Action::Leave(key) => prop_assert!(false, "{key:?} is left"),
            }
        }
        // A directory without attributes may have any.
        let shown = |tree: &BTreeMap<ItemKey, Item>| -> Vec<_> {
            tree.values().map(|item| (item.key.clone(), item.kind, item.attributes.clone())).collect()
        };
        prop_assert_eq!(shown(&state), shown(&wishes));
    }
}
