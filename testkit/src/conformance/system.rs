//! The check of systems and their full cuts.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{
    Context, Cut, ErrorKind, ExtentBody, ExtentIdentity, Item, LogPayload, Recheck, System,
};

use super::content::{check_ranges, read_range};
use super::{Baseline, assert_same_state, list, must};
use crate::{CountingCut, Random};

/// Checks facts, listing, content, rechecks, proof and release of a system that nobody changes.
///
/// # Panics
/// Where a rule of [`System`], [`Cut`] or [`model::Content`] is broken.
pub async fn check_system(system: &dyn System, context: &Context) {
    check_facts(system, context).await;
    let cut = must("cut", system.cut(None, context).await);
    let items = must("list", list(cut.as_ref(), context).await);
    let mut random = Random::new(items.len() as u64);
    for item in &items {
        check_item(item);
        check_ranges(cut.as_ref(), item, &mut random).await;
        let recheck = must("recheck", cut.recheck(item).await);
        assert_eq!(recheck, Recheck::Same, "nobody changed {:?}", item.key);
    }
    check_identities(cut.as_ref(), &items).await;
    let proof = must("proof", cut.proof().await);
    assert!(!proof.method.is_empty(), "a proof says how the state was read");
    must("release", cut.release().await);
    must("release twice", cut.release().await);

    let (one, two) = (
        must("cut again", Baseline::take(system, context).await),
        must("cut again", Baseline::take(system, context).await),
    );
    assert_same_state("two cuts of an unchanged system", &one.state, &two.state);
    assert_eq!(one.proof, two.proof, "two proofs of an unchanged system");
    let listed: Vec<_> = one.state.values().map(|observed| &observed.item).collect();
    assert_eq!(listed, items.iter().collect::<Vec<_>>(), "two listings of an unchanged system");
}

async fn check_facts(system: &dyn System, context: &Context) {
    let facts = system.facts();
    assert_eq!(facts, system.facts(), "facts change");
    assert!(!facts.kind.is_empty() && facts.read_concurrency > 0, "facts make no sense: {facts:?}");
    let is_raw = facts.log == Some(LogPayload::Raw);
    assert_eq!(system.replay().is_some(), is_raw, "replay belongs to raw logs, and to them alone");
    if facts.log.is_none() {
        let cut = must("cut", system.cut(None, context).await);
        let followed = system.follow(cut.position(), context).await;
        must("release", cut.release().await);
        let kind = followed.err().map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Unsupported), "follow without a log");
    }
}

fn check_item(item: &Item) {
    let has_extents = !item.extents.is_empty();
    assert!(!has_extents || item.kind.has_content(), "{:?} has no content by its kind", item.key);
    let parsed = model::Attributes::from_bytes(Bytes::copy_from_slice(item.attributes.as_bytes()));
    must("attributes", parsed);
}

/// Under one epoch, equal identities have equal bytes.
async fn check_identities(cut: &dyn Cut, items: &[Item]) {
    let mut known: BTreeMap<&ExtentIdentity, Bytes> = BTreeMap::new();
    for item in items {
        for (index, extent) in item.extents.iter().enumerate() {
            let ExtentBody::Data { identity: Some(identity), .. } = &extent.body else { continue };
            let bytes = must("read", read_range(cut, item, index, 0..extent.length_bytes).await);
            let first = known.entry(identity).or_insert_with(|| bytes.clone());
            assert!(*first == bytes, "{identity:?} names different bytes at {:?}", item.key);
        }
    }
}

/// Checks that a reader who trusts versions and identities opens nothing of an unchanged system.
/// Returns the bytes that lie in extents which it had to open: 0 where every item has a version or
/// every extent an identity.
///
/// # Panics
/// Where an unchanged item has another version or its extents have other identities.
pub async fn check_unchanged_opens_nothing(system: &dyn System, context: &Context) -> u64 {
    let before = must("cut", Baseline::take(system, context).await);
    let cut = CountingCut::new(must("cut", system.cut(None, context).await));
    for item in must("list", list(&cut, context).await) {
        let known = before.state.get(&item.key).map(|observed| &observed.item);
        assert_eq!(known, Some(&item), "an unchanged item is listed as another one");
        if item.version.is_some() {
            continue;
        }
        for (index, extent) in item.extents.iter().enumerate() {
            if let ExtentBody::Data { identity: None, .. } = extent.body {
                must("read", read_range(&cut, &item, index, 0..extent.length_bytes).await);
            }
        }
    }
    must("release", cut.release().await);
    cut.opened_bytes()
}
