//! The check of targets.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use model::{
    AttributeTag, Attributes, ContentCheck, Context, ErrorKind, Extent, Item, ItemKey, ItemKind,
    RestoreStep, Target,
};

use super::content::read_content;
use super::{Baseline, Observed, ObservedItem, must};
use crate::memory::BytesReader;
use crate::scripted::data_of;

/// Restores a baseline into an empty target, every step twice, and checks that what can be read back
/// is what was put in; then replaces and deletes, every step twice; then tries names that lead
/// outside. `ignored` are attributes that this target cannot hold here (owners, without privileges);
/// `outside` describes the target's surroundings and must say the same before and after.
///
/// # Panics
/// Where a rule of [`Target`] is broken.
pub async fn check_target(
    target: &dyn Target,
    source: &Baseline,
    ignored: &[AttributeTag],
    outside: &(dyn Fn() -> String + Sync),
    context: &Context,
) {
    assert!(target.facts().write_concurrency > 0, "facts make no sense: {:?}", target.facts());
    let surroundings = outside();
    let run = Run { target, ignored, context };
    for observed in source.state.values() {
        run.twice(&RestoreStep::Create(observed.item.clone()), &observed.content).await;
    }
    must("finish", target.finish(context).await);
    must("finish twice", target.finish(context).await);
    must("make durable", target.persist(context).await);
    run.assert_holds("a restored state", &source.state).await;

    let expected = run.replace_and_delete(source).await;
    must("finish", target.finish(context).await);
    run.assert_holds("a changed state", &expected).await;

    if target.facts().reads_back {
        let expected = run.replace_checked(expected).await;
        run.assert_holds("a checked state", &expected).await;
    }

    run.try_to_escape().await;
    assert_eq!(surroundings, outside(), "something outside the target has changed");
}

struct Run<'a> {
    target: &'a dyn Target,
    ignored: &'a [AttributeTag],
    context: &'a Context,
}

impl Run<'_> {
    async fn apply(&self, step: &RestoreStep, content: &Bytes) -> model::Result<()> {
        let mut reader = match step {
            RestoreStep::Create(item) | RestoreStep::Replace(item) if item.kind.has_content() => {
                Some(BytesReader::new(data_of(item, content)))
            }
            _ => None,
        };
        let reader = reader.as_mut().map(|reader| reader as &mut dyn model::ContentReader);
        self.target.apply(step, reader, self.context).await
    }

    async fn twice(&self, step: &RestoreStep, content: &Bytes) {
        must("apply", self.apply(step, content).await);
        must("apply twice", self.apply(step, content).await);
    }

    /// Gives every file another content and removes every leaf whose name sorts odd; files that have
    /// further names stay, and those names follow them by steps of their own.
    async fn replace_and_delete(&self, source: &Baseline) -> Observed {
        let mut expected = source.state.clone();
        for (count, (key, observed)) in source.state.iter().rev().enumerate() {
            let is_leaf = !source.state.keys().any(|other| other != key && other.is_within(key));
            if is_leaf && count % 2 == 1 && !has_further_names(&source.state, key) {
                self.twice(&RestoreStep::Delete(key.clone()), &Bytes::new()).await;
                expected.remove(key);
            } else if observed.item.kind == ItemKind::File {
                let content = Bytes::from([&observed.content[..], b" and more"].concat());
                let extents = vec![Extent::data(content.len() as u64)];
                let item = Item { extents, ..observed.item.clone() };
                self.twice(&RestoreStep::Replace(item.clone()), &content).await;
                expected.insert(key.clone(), ObservedItem { item, content });
            }
        }
        for observed in expected.values().filter(|o| o.item.kind == ItemKind::Hardlink) {
            self.twice(&RestoreStep::Replace(observed.item.clone()), &Bytes::new()).await;
        }
        expected
    }

    /// Gives every file another content once more, first with a check that refuses it, then with one that
    /// wants it; what the check was given has to be the content, and the survey has to find the version.
    async fn replace_checked(&self, mut expected: Observed) -> Observed {
        let files: Vec<_> = expected
            .iter()
            .filter(|(key, held)| {
                held.item.kind == ItemKind::File && !has_further_names(&expected, key)
            })
            .map(|(key, held)| (key.clone(), held.item.clone()))
            .collect();
        let mut versions = Vec::new();
        for (key, item) in files {
            let content = Bytes::from([&[0; 5000][..], &key.as_bytes().repeat(3000)].concat());
            let tail = content.len() as u64 - 5000;
            let extents = vec![Extent::hole(5000), Extent::data(tail), Extent::hole(3)];
            let content = Bytes::from([&content[..], &[0; 3]].concat());
            let item = Item { extents, ..item };
            let step = RestoreStep::Replace(item.clone());
            for is_wanted in [false, true] {
                let mut check = Recorded { content: Vec::new(), is_wanted };
                let mut reader = BytesReader::new(data_of(&item, &content));
                let applied = self
                    .target
                    .apply_checked(&step, Some(&mut reader), &mut check, self.context)
                    .await;
                assert!(check.content == content, "{key:?}: the check was given something else");
                match applied {
                    Ok(version) if is_wanted => versions.push((key.clone(), version)),
                    Err(error) if !is_wanted && error.kind() == ErrorKind::Corrupt => {
                        must("finish", self.target.finish(self.context).await);
                        self.assert_holds("after a refusal", &expected).await;
                    }
                    other => panic!("{key:?}: wanted: {is_wanted}: {other:?}"),
                }
            }
            expected.insert(key, ObservedItem { item, content });
        }
        must("finish", self.target.finish(self.context).await);
        let mut survey = self.target.survey(self.context);
        let mut found = BTreeMap::new();
        while let Some(batch) = survey.next().await {
            found.extend(must("survey", batch).into_iter().map(|item| (item.key, item.version)));
        }
        for (key, version) in versions {
            assert!(version.is_some(), "{key:?}: nothing was read back");
            assert_eq!(found.get(&key), Some(&version), "{key:?} has another version");
        }
        expected
    }

    /// Surveys, reads everything back and compares it.
    async fn assert_holds(&self, what: &str, expected: &Observed) {
        let mut found: Vec<Item> = Vec::new();
        let mut survey = self.target.survey(self.context);
        while let Some(batch) = survey.next().await {
            found.extend(must("survey", batch));
        }
        assert!(found.is_sorted_by(|a, b| a.key < b.key), "{what}: the survey is not sorted");
        let is_root = |key: &ItemKey| key.is_root();
        let names = |items: Vec<&ItemKey>| -> Vec<_> {
            items.into_iter().filter(|key| !is_root(key)).map(ItemKey::display).collect()
        };
        assert_eq!(
            names(found.iter().map(|item| &item.key).collect()),
            names(expected.keys().collect()),
            "{what}: other items are there"
        );
        for item in &found {
            let Some(wanted) = expected.get(&item.key) else { continue };
            let key = &item.key;
            assert_eq!(item.kind, wanted.item.kind, "{what}: {key:?} is of another kind");
            let kept = |attributes: &Attributes| attributes.without(self.ignored);
            let attributes = (kept(&item.attributes), kept(&wanted.item.attributes));
            assert_eq!(attributes.0, attributes.1, "{what}: {key:?} has other attributes");
            let content = must("read back", read_content(self.target, item).await);
            assert!(content == wanted.content, "{what}: {key:?} has another content");
        }
    }

    /// Names that mean something to a file system. To refuse them is as good as to hold them.
    async fn try_to_escape(&self) {
        for name in [&b".."[..], b".", b"../escaped", b"/escaped", b"a/../../escaped"] {
            let Ok(key) = ItemKey::root().child(name) else { continue };
            let attributes = Attributes::default();
            let extents = vec![Extent::data(7)];
            let item = Item { key, kind: ItemKind::File, attributes, version: None, extents };
            let step = RestoreStep::Create(item);
            if self.apply(&step, &Bytes::from_static(b"escaped")).await.is_ok() {
                must(
                    "delete",
                    self.apply(&RestoreStep::Delete(step.key().clone()), &Bytes::new()).await,
                );
            }
        }
        must("finish", self.target.finish(self.context).await);
    }
}

/// A check that notes what it is given, and passes if so told.
struct Recorded {
    content: Vec<u8>,
    is_wanted: bool,
}

impl ContentCheck for Recorded {
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.content.extend_from_slice(bytes);
        true
    }

    fn take_zeros(&mut self, length_bytes: u64) -> bool {
        self.content.resize(self.content.len() + length_bytes as usize, 0);
        true
    }

    fn passes(&self) -> bool {
        self.is_wanted
    }
}

fn has_further_names(state: &Observed, key: &ItemKey) -> bool {
    state.values().any(|observed| {
        observed.item.kind == ItemKind::Hardlink
            && observed.item.attributes.get(AttributeTag::LINK_TARGET) == Some(key.as_bytes())
    })
}
