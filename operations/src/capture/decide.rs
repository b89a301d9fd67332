//! Which content has to be read: a pure decision per item.

use model::{Epoch, Extent, ExtentBody, Item, ItemKey};
use repository::types::{Record, StoredBody, StoredExtent};

/// What is done about one extent of an item.
#[derive(Debug, Clone)]
pub enum ExtentSource {
    /// Nothing is read: these are its bytes, if their chunks still resolve.
    Known(StoredExtent),
    /// It is read; the chunks of the extent that stood here before serve as delta bases.
    Read {
        /// What stood at the same place of the same item.
        previous: Option<StoredExtent>,
    },
    /// There is nothing to read.
    Hole,
}

/// What is done about one item.
#[derive(Debug, Clone)]
pub struct Decision {
    /// One source per extent of the item, in order.
    pub extents: Vec<ExtentSource>,
    /// Whether the item is as the parent snapshot has it, content and all.
    pub is_unchanged: bool,
}

impl Decision {
    /// Says whether anything is to be read.
    pub fn reads(&self) -> bool {
        self.extents.iter().any(|extent| matches!(extent, ExtentSource::Read { .. }))
    }
}

/// What the decision goes by, besides the item and its stored record.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// The epoch of the extent identities that the parent snapshot holds.
    pub stored_epoch: Epoch,
    /// The epoch of those that the source gives now. A greater one distrusts every stored identity.
    pub source_epoch: Epoch,
    /// Each unchanged item is read again once in this many captures; 0: never.
    pub recheck_every_captures: u32,
    /// The number of this capture.
    pub capture_number: u64,
}

impl Trust {
    /// Says whether it is an unchanged item's turn to be read all the same, so that a change that left
    /// no trace in the version is found in the end.
    pub fn is_due_for_recheck(&self, key: &ItemKey) -> bool {
        let Some(every) = std::num::NonZeroU32::new(self.recheck_every_captures) else {
            return false;
        };
        // FNV-1a: spreads keys evenly over the turns; nothing depends on its strength.
        let hash = key.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let every = u64::from(every.get());
        hash.wrapping_add(self.capture_number) % every == 0
    }
}

impl Trust {
    /// Says whether the source's checksums may tell which stripes of an item's extents are as stored.
    pub fn believes_checksums(&self, key: &ItemKey) -> bool {
        self.source_epoch == self.stored_epoch && !self.is_due_for_recheck(key)
    }
}

/// Says whether an item is to the last byte what the parent snapshot has under its key, as far as is
/// believed without reading: then its record is taken over as it is.
pub fn is_as_stored(item: &Item, record: &Record, trust: &Trust) -> bool {
    record.version.is_some()
        && record.version == item.version
        && record.kind == item.kind
        && record.attributes == item.attributes
        && record.extents.len() == item.extents.len()
        && item.extents.iter().zip(&record.extents).all(|(now, stored)| {
            now.length_bytes == stored.length_bytes && is_body_as_stored(now, stored, trust)
        })
        && !trust.is_due_for_recheck(&item.key)
}

fn is_body_as_stored(now: &Extent, stored: &StoredExtent, trust: &Trust) -> bool {
    match (&now.body, &stored.body) {
        (ExtentBody::Hole, StoredBody::Hole) => true,
        (
            ExtentBody::Data { identity, checksums },
            StoredBody::Data { identity: known, checksums: known_checksums, .. },
        ) => {
            let is_named_alike = identity == known && checksums == known_checksums;
            is_named_alike && (identity.is_none() || trust.source_epoch == trust.stored_epoch)
        }
        _ => false,
    }
}

/// Decides what is read of `item`, given what the parent snapshot has under its key.
pub fn decide(item: &Item, stored: Option<&Record>, trust: &Trust) -> Decision {
    let same_version = stored.is_some_and(|record| {
        record.kind == item.kind && record.version.is_some() && record.version == item.version
    });
    let is_due = same_version && trust.is_due_for_recheck(&item.key);
    let identities_hold = trust.source_epoch == trust.stored_epoch;
    let mut stored_extents = stored.into_iter().flat_map(|record| &record.extents);
    let extents: Vec<_> = item
        .extents
        .iter()
        .map(|extent| {
            let before = stored_extents.next();
            source_of(extent, before, same_version && !is_due, identities_hold && !is_due)
        })
        .collect();
    let nothing_read = !extents.iter().any(|extent| matches!(extent, ExtentSource::Read { .. }));
    let same_shape = stored.is_some_and(|record| record.extents.len() == item.extents.len());
    Decision { extents, is_unchanged: same_version && nothing_read && same_shape }
}

fn source_of(
    extent: &Extent,
    before: Option<&StoredExtent>,
    same_version: bool,
    identities_hold: bool,
) -> ExtentSource {
    let ExtentBody::Data { identity, .. } = &extent.body else {
        return ExtentSource::Hole;
    };
    let Some(before) = before else {
        return ExtentSource::Read { previous: None };
    };
    let StoredBody::Data { identity: stored_identity, .. } = &before.body else {
        return ExtentSource::Read { previous: None };
    };
    let same_length = before.length_bytes == extent.length_bytes;
    let same_identity = identities_hold && identity.is_some() && identity == stored_identity;
    // Where the source names its extents the name decides: a version may be kept by a rewrite.
    let vouched = if identity.is_some() { same_identity } else { same_version };
    if same_length && vouched {
        ExtentSource::Known(before.clone())
    } else {
        ExtentSource::Read { previous: Some(before.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::{Attributes, ContentClass, ExtentIdentity, ItemKind, Version};

    const TRUST: Trust = Trust {
        stored_epoch: Epoch(1),
        source_epoch: Epoch(1),
        recheck_every_captures: 0,
        capture_number: 1,
    };

    /// Notation: `version length[=identity] …`, a hole being `~length`; `-` for no version.
    fn item(text: &str) -> Item {
        let mut words = text.split(' ');
        let version = words.next().filter(|v| *v != "-");
        let extents = words.map(|word| match word.strip_prefix('~') {
            Some(length) => Extent::hole(length.parse().expect("length")),
            None => {
                let (length, identity) = word.split_once('=').unwrap_or((word, ""));
                let identity = (!identity.is_empty())
                    .then(|| ExtentIdentity(Bytes::copy_from_slice(identity.as_bytes())));
                Extent {
                    length_bytes: length.parse().expect("length"),
                    body: ExtentBody::Data { identity, checksums: None },
                }
            }
        });
        Item {
            key: ItemKey::from_components(["f"]).expect("key"),
            kind: ItemKind::File,
            attributes: Attributes::default(),
            version: version.map(|v| Version(Bytes::copy_from_slice(v.as_bytes()))),
            extents: extents.collect(),
        }
    }

    fn record(text: &str) -> Record {
        let Item { kind, attributes, version, extents, .. } = item(text);
        let extents = extents
            .into_iter()
            .map(|extent| StoredExtent {
                length_bytes: extent.length_bytes,
                body: match extent.body {
                    ExtentBody::Hole => StoredBody::Hole,
                    ExtentBody::Data { identity, checksums } => StoredBody::Data {
                        identity,
                        checksums,
                        class: ContentClass::General,
                        chunks: Vec::new(),
                    },
                },
            })
            .collect();
        Record { kind, attributes, version, extents }
    }

    fn check(stored: Option<&str>, now: &str, trust: Trust, expected: &str) {
        let decision = decide(&item(now), stored.map(record).as_ref(), &trust);
        let mut shown: Vec<_> = decision
            .extents
            .iter()
            .map(|extent| match extent {
                ExtentSource::Known(_) => "known",
                ExtentSource::Read { previous: None } => "read",
                ExtentSource::Read { previous: Some(_) } => "read-over",
                ExtentSource::Hole => "hole",
            })
            .collect();
        if decision.is_unchanged {
            shown.push("unchanged");
        }
        assert_eq!(shown.join(" "), expected, "{stored:?} -> {now:?}");
    }

    #[test]
    fn a_record_is_taken_over_only_where_all_of_it_is_the_same() {
        let next_epoch = Trust { source_epoch: Epoch(2), ..TRUST };
        let always = Trust { recheck_every_captures: 1, ..TRUST };
        for (stored, now, trust, expected) in [
            ("v1 5", "v1 5", TRUST, true),
            ("v1 5 ~3", "v1 5 ~3", TRUST, true),
            ("v1 5=a", "v1 5=a", TRUST, true),
            ("v1", "v1", TRUST, true),
            ("v1 5", "v2 5", TRUST, false),
            ("- 5", "- 5", TRUST, false),
            ("v1 5", "v1 6", TRUST, false),
            ("v1 5", "v1 ~5", TRUST, false),
            ("v1 5 5", "v1 5", TRUST, false),
            ("v1 5=a", "v1 5=b", TRUST, false),
            ("v1 5=a", "v1 5", TRUST, false),
            ("v1 5=a", "v1 5=a", next_epoch, false),
            ("v1 5", "v1 5", next_epoch, true),
            ("v1 5", "v1 5", always, false),
        ] {
            assert_eq!(is_as_stored(&item(now), &record(stored), &trust), expected, "{now}");
        }
        let mut other = record("v1 5");
        other.attributes = Attributes::builder().unsigned(model::AttributeTag::MODE, 1).build();
        assert!(!is_as_stored(&item("v1 5"), &other, &TRUST));
    }

    #[test]
    fn versions_decide_where_extents_have_no_name() {
        check(None, "v1 5", TRUST, "read");
        check(Some("v1 5"), "v1 5", TRUST, "known unchanged");
        check(Some("v1 5"), "v2 5", TRUST, "read-over");
        check(Some("- 5"), "- 5", TRUST, "read-over");
        check(Some("v1 5"), "v1 6", TRUST, "read-over");
        check(Some("v1 5 ~3"), "v1 5 ~3", TRUST, "known hole unchanged");
        check(Some("v1 ~5"), "v2 5", TRUST, "read");
        check(Some("v1 5 5"), "v1 5", TRUST, "known");
    }

    #[test]
    fn identities_decide_where_there_are_some() {
        check(Some("v1 5=a 5=b"), "v2 5=a 5=c 2=d", TRUST, "known read-over read");
        check(Some("v1 5=a"), "v1 5=b", TRUST, "read-over");
        check(Some("- 5=a"), "- 5=a", TRUST, "known");
        let next_epoch = Trust { source_epoch: Epoch(2), ..TRUST };
        check(Some("v1 5=a"), "v1 5=a", next_epoch, "read-over");
    }

    #[test]
    fn every_item_is_rechecked_once_a_round() {
        let key = ItemKey::from_components(["some", "file"]).expect("key");
        let turns = (0..10_u64)
            .filter(|n| {
                Trust { recheck_every_captures: 10, capture_number: *n, ..TRUST }
                    .is_due_for_recheck(&key)
            })
            .count();
        assert_eq!(turns, 1);
        let always = Trust { recheck_every_captures: 1, ..TRUST };
        check(Some("v1 5"), "v1 5", always, "read-over");
    }
}
