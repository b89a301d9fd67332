//! What is chosen, in a notation of words: one place of every thing that is needed, a delta only with
//! what it is decoded against.

use model::Timestamp;

use super::super::places::PackInfo;
use super::super::walk::Walk;
use super::*;
use crate::session::testing::Fixture;
use crate::types::ChunkId;

/// Notation: places are words `id@pack` or, for a delta, `id<base@pack`; references words `id`, with `!`
/// where it has to be there in full and `?pack` for a hint. Packs are digits. Returns the packs that are
/// needed and how much is lost.
async fn weigh(places: &str, references: &str, condemned: &str) -> (String, u64) {
    let fixture = Fixture::new(60).await;
    let folder = std::env::temp_dir();
    let (mut known, mut sorted) =
        (Known::default(), SortedPlaces::new(1 << 20, &folder, &fixture.context));
    let id = |name: &str| [name.as_bytes()[0]; 32];
    let name = |pack: char| PackName([pack as u8; 32]);
    for pack in '0'..='9' {
        known.packs = std::mem::take(&mut known.packs).with(PackInfo {
            is_lost: false,
            kind: PackKind::Data,
            name: name(pack),
            size_bytes: 100,
            created: Timestamp::default(),
            is_known: true,
            is_named: pack != '9',
        });
    }
    let number = |pack: &str| pack.parse::<u32>().expect("pack");
    for word in places.split_whitespace() {
        let (what, pack) = word.split_once('@').expect("id@pack");
        let (what, base) = what.split_once('<').unwrap_or((what, ""));
        let bases = (!base.is_empty()).then(|| known.push_bases(vec![ChunkId(id(base))]));
        let prefix = crate::index::segment::prefix(&id(what));
        let (kind, pack) = (PackKind::Data, number(pack));
        sorted.push(PlaceOf { prefix, kind, pack, length: 10, bases }.encode()).expect("push");
    }
    let walk = Walk::new(&fixture.repository, 1 << 20, &folder, &fixture.context);
    let noted = walk.noted();
    let mut noted = super::super::walk::lock(&noted);
    for pack in '0'..='9' {
        noted.hinted.push(name(pack));
    }
    for word in references.split_whitespace() {
        let (what, hint) = word.split_once('?').unwrap_or((word, ""));
        let prefix = crate::index::segment::prefix(&id(what));
        let hint = (!hint.is_empty()).then(|| number(hint));
        let is_full = what.ends_with('!');
        let reference = Reference { prefix, kind: PackKind::Data, is_full, hint };
        noted.references.push(reference.encode()).expect("push");
    }
    let mut places = Places { known, sorted, domains: Vec::new(), stale_entries: 0, unreadable: 0 };
    let condemned: HashSet<_> = condemned.chars().map(name).collect();
    let scales = Scales {
        condemned: &condemned,
        memory_bytes: 1 << 20,
        folder: &folder,
        context: &fixture.context,
    };
    let weighed = scales.weigh(&mut noted, &mut places).expect("weigh");
    let needed = ('0'..='9').zip(&weighed.needed).filter(|(_, needed)| **needed);
    (needed.map(|(pack, _)| pack).collect(), weighed.lost)
}

#[tokio::test]
async fn one_place_of_everything_that_is_needed_is_kept() {
    for (places, references, condemned, needed, lost) in [
        ("a@1 b@2", "a", "", "1", 0),
        ("a@1 a@2 b@1", "a", "", "2", 0),
        ("a@1 a@2 b@2", "a", "", "1", 0),
        ("a@1 a@2", "a", "1", "2", 0),
        ("a@1 a@2", "a", "2", "1", 0),
        // All places condemned: one is kept, and rather one that is kept anyway.
        ("b@1 b@2 a@2", "a b", "12", "2", 0),
        // A delta takes what it is decoded against with it.
        ("a<b@1 b@2", "a", "", "12", 0),
        ("a<b@1 b@2", "a", "2", "12", 0),
        ("a<b@1 a@2 b@3", "a", "2", "13", 0),
        ("a<b@1 a@2 b@3", "a", "3", "2", 0),
        // One whose base has gone is no place.
        ("a<b@1 c@1 a@2", "a c", "2", "12", 0),
        ("a<b@1 c@1 a@2 x@2", "a c", "", "12", 0),
        ("a<b@1", "a", "", "1", 1),
        // A base that itself is stored as a delta elsewhere has to be there in full.
        ("a<b@1 b<c@3 c@4 b@2", "a", "", "12", 0),
        ("b<c@3 c@4 b@2", "b!", "2", "2", 0),
        // What the index does not know is where manifests say that it lies.
        ("b@1", "a?3", "", "3", 0),
        ("b@1", "a", "", "", 1),
        // What no segment names is the last resort.
        ("a@1 a@9 b@1", "a", "", "1", 0),
        ("a@1 a@9 b@1", "a", "1", "1", 0),
        ("a@9 b@1", "a", "", "9", 0),
    ] {
        let found = weigh(places, references, condemned).await;
        assert_eq!(found, (needed.to_owned(), lost), "{places} | {references} | {condemned}");
    }
}
