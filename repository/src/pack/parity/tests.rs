//! Parity: what it makes up for, anywhere in a pack, and what it does not; the code against its
//! definition; frozen bytes.

use std::io::Cursor;
use std::sync::OnceLock;

use bytes::Bytes;
use model::ErrorKind;
use proptest::prelude::*;
use testkit::random_bytes;

use super::super::contents::{FOOTER_BYTES, Footer};
use super::super::{
    BlockCipher, BlockEntry, EntryKind, PackBuilder, Scratch, SealedPack, check_pack_deep,
    check_pack_streamed, salvage, seal_block,
};
use super::*;
use crate::crypto::DomainKeys;
use crate::crypto::testing::{Repeatable, ring};
use crate::types::{PackKind, PackName, RepositoryId};

const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

fn keys() -> DomainKeys {
    ring(1).domain("").expect("domain")
}

/// A pack of so many blocks of random content of so many bytes.
fn pack(blocks: usize, length: usize, has_parity: bool) -> SealedPack {
    let (keys, kind) = (keys(), PackKind::Data);
    let cipher = BlockCipher::new(kind, REPOSITORY, &keys);
    let builder = PackBuilder::new(kind, REPOSITORY, &keys, &Repeatable::new(1));
    let mut builder = builder.with_parity(has_parity);
    for number in 0..blocks {
        let content = random_bytes(number as u64, length);
        let entry = BlockEntry {
            id: keys.chunk_id(&content).0,
            kind: EntryKind::Full,
            offset: 0,
            length: length as u32,
            bases: Vec::new(),
        };
        let block = seal_block(&cipher, &[7; 32], &content, vec![entry]).expect("seal");
        builder.push(block).expect("push");
    }
    builder.finish().expect("finish")
}

/// How a pack was cut that is whole.
fn geometry(pack: &SealedPack) -> Geometry {
    let footer = Footer::parse(&pack.object, pack.object.len()).expect("footer");
    assert!(footer.has_parity);
    let last = pack.entries.last().expect("entry").location;
    let offset = (last.block_offset + last.block_length) as usize;
    let bare = pack.object.len() - (footer.offset as usize - offset);
    let (shard_bytes, shards, parity) = usual(bare);
    let geometry =
        Geometry { shard_bytes, shards, parity, object_bytes: pack.object.len(), offset };
    assert!(geometry.is_sound());
    assert_eq!(geometry.room(), Some(offset..footer.offset as usize));
    geometry
}

/// A pack whose shards number more than a chunk of the code, and one with the least parity.
fn packs() -> &'static [SealedPack; 2] {
    static PACKS: OnceLock<[SealedPack; 2]> = OnceLock::new();
    PACKS.get_or_init(|| [pack(17, 64 << 10, true), pack(3, 5000, true)])
}

fn assert_heals(found: &[u8], pack: &SealedPack) {
    match heal(found, pack.name) {
        Ok(healed) => assert!(healed == pack.object, "it has the name of other bytes"),
        Err(error) => panic!("{}", error.chain()),
    }
}

#[test]
fn packs_with_parity_are_checked_like_others() {
    for pack in packs() {
        let (keys, object) = (keys(), &pack.object);
        let (kind, name) = (PackKind::Data, pack.name);
        let checked = check_pack_deep(object, REPOSITORY, &keys, kind, name).expect("deep");
        assert_eq!(checked, pack.entries);
        let (mut source, mut scratch) = (Cursor::new(object), Scratch::new());
        let length = object.len();
        let domains = [keys.clone()];
        let streamed =
            check_pack_streamed(&mut source, length, REPOSITORY, &domains, name, &mut scratch);
        assert_eq!(streamed.expect("streamed").entries, pack.entries);
        let salvaged = salvage(object, REPOSITORY, &keys, kind, name).expect("salvage");
        assert_eq!(salvaged, pack.entries);
        assert_heals(object, pack);
    }
}

#[test]
fn every_damaged_byte_of_parity_is_found_too() {
    let pack = &packs()[1];
    let room = geometry(pack).room().expect("room");
    for at in room.step_by(97) {
        let mut bytes = pack.object.to_vec();
        bytes[at] ^= 0x10;
        let object = Bytes::from(bytes);
        let checked = check_pack_deep(&object, REPOSITORY, &keys(), PackKind::Data, pack.name);
        assert_eq!(checked.expect_err("damage").kind(), ErrorKind::Corrupt);
        assert_heals(&object, pack);
    }
}

#[test]
fn it_costs_less_than_a_fifteenth() {
    for bare in (1 << 20..PACK_BYTES_MAX).step_by(77_777) {
        let share = parity_bytes(bare) as f64 / bare as f64;
        let most = if bare < 8 << 20 { 0.08 } else { 0.069 };
        assert!((0.062..most).contains(&share), "{bare} {share}");
    }
    assert_eq!(parity_bytes(200), 2 * (28 + 4 + 4096 + 16));
    // One that would be too long has none; so does one that was not to have any.
    let bare = pack(3, 5000, false);
    let footer = Footer::parse(&bare.object, bare.object.len()).expect("footer");
    assert!(!footer.has_parity);
    let error = heal(&bare.object[1..], bare.name).expect_err("no parity");
    assert!(error.chain().contains("no parity"), "{}", error.chain());
}

#[test]
fn golden_bytes() {
    let pack = &packs()[0];
    let geometry = geometry(pack);
    let Geometry { shard_bytes, shards, parity, object_bytes, .. } = geometry;
    assert_eq!((shard_bytes, shards, parity, object_bytes), (16384, 69, 5, GOLDEN.0));
    assert_eq!(pack.name.to_string(), GOLDEN.1);
    let first = &pack.object[geometry.offset..][..HEAD_BYTES];
    assert_eq!(crate::types::hex(first), GOLDEN.2);
}

const GOLDEN: (usize, &str, &str) = (
    1_200_033,
    "90d5b702dbb0dc21a858b8c913e9a7701390805f786974c285c56157f1539332",
    "4c42504152495459000045000500000000400000a14f120063051100",
);

/// Damages a pack in whole shards and records: these numbers of shards, then of records.
fn damage(pack: &SealedPack, lost: &[usize]) -> Vec<u8> {
    let geometry = geometry(pack);
    let mut bytes = pack.object.to_vec();
    for number in lost {
        match number.checked_sub(geometry.shards) {
            None => {
                let noise = random_bytes(*number as u64, geometry.shard_bytes);
                heal::put(&mut bytes, &geometry, number * geometry.shard_bytes, &noise)
                    .expect("inside");
            }
            Some(number) => {
                let record = geometry.record_bytes();
                let at = geometry.offset + number * record;
                bytes[at..at + record].copy_from_slice(&random_bytes(7, record));
            }
        }
    }
    bytes
}

#[test]
fn as_many_shards_as_there_is_parity_and_not_one_more() {
    for pack in packs() {
        let Geometry { shards, parity, .. } = geometry(pack);
        let all = shards + parity;
        for start in 0..all {
            let lost: Vec<_> = (start..start + parity).map(|number| number % all).collect();
            assert_heals(&damage(pack, &lost), pack);
            let more: Vec<_> = (start..=start + parity).map(|number| number % all).collect();
            let error = heal(&damage(pack, &more), pack.name).expect_err("too much");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.chain();
            assert!(
                text.contains("of its")
                    || text.contains("nothing is left")
                    || text.contains("named after"),
                "{text}"
            );
        }
    }
}

#[test]
fn parity_alone_may_be_lost_wholly() {
    for pack in packs() {
        let geometry = geometry(pack);
        let mut bytes = pack.object.to_vec();
        bytes[geometry.room().expect("room")].fill(0);
        assert_heals(&bytes, pack);
        bytes[100] ^= 1;
        assert_eq!(heal(&bytes, pack.name).expect_err("lost").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn another_pack_in_its_place_is_no_help() {
    let [one, other] = packs();
    assert_eq!(heal(&other.object, one.name).expect_err("other").kind(), ErrorKind::Corrupt);
    // Twice the same: the beginning counts.
    let twice = [&one.object[..], &one.object].concat();
    assert_heals(&twice, one);
    assert_heals(&[&one.object[..], &other.object].concat(), one);
    for bad in [&[][..], b"LBPARITY", &[0; 1000], &MAGIC.repeat(3000)] {
        assert_eq!(heal(bad, one.name).expect_err("nothing").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn another_pack_that_was_written_over_a_part_does_no_more_harm_than_noise() {
    let one = &packs()[0];
    let geometry = geometry(one);
    let other = pack(17, (64 << 10) - 1, true);
    // All records that are there but the first are the other's.
    let mut bytes = one.object.to_vec();
    let room = geometry.room().expect("room");
    let from = room.start + geometry.record_bytes();
    bytes[from..room.end].copy_from_slice(&other.object[from..room.end]);
    bytes[100] ^= 1;
    assert_heals(&bytes, one);
}

#[test]
fn a_record_that_lies_is_refused() {
    let pack = &packs()[1];
    let geometry = geometry(pack);
    let record = geometry.record_bytes();
    let at = geometry.offset;
    for (field, length) in [(8, 2), (10, 2), (12, 2), (14, 2), (16, 4), (20, 4), (24, 4)] {
        for value in [0_u32, 1, 2, 3, 5, 64, 0x8000, 0xffff, 1 << 30, u32::MAX] {
            let mut bytes = pack.object.to_vec();
            let value = value.to_le_bytes();
            bytes[at + field..at + field + length].copy_from_slice(&value[..length]);
            let check = record_check(&bytes[at..at + record - RECORD_CHECK_BYTES]);
            bytes[at + record - RECORD_CHECK_BYTES..at + record].copy_from_slice(&check);
            // The second record speaks the truth.
            assert_heals(&bytes, pack);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any bytes anywhere, as long as they touch no more shards than there are parity shards.
    #[test]
    fn scattered_damage_heals(
        number in 0_usize..2,
        places in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 1..6),
    ) {
        let pack = &packs()[number];
        let geometry = geometry(pack);
        let mut bytes = pack.object.to_vec();
        let places = &places[..places.len().min(geometry.parity)];
        for (place, change) in places {
            bytes[place.index(pack.object.len())] ^= change;
        }
        let healed = heal(&bytes, pack.name).map_err(|e| TestCaseError::fail(e.chain()))?;
        prop_assert!(healed == pack.object);
    }

    /// A run of bytes anywhere that is no longer than all parity shards but two.
    #[test]
    fn bursts_heal(number in 0_usize..2, place: prop::sample::Index, share in 0.0..1.0, fill: u8) {
        let pack = &packs()[number];
        let geometry = geometry(pack);
        let most = geometry.parity.saturating_sub(2) * geometry.shard_bytes;
        let length = ((most as f64 * share) as usize).max(1);
        let mut bytes = pack.object.to_vec();
        let start = place.index(bytes.len());
        let end = bytes.len().min(start + length);
        bytes[start..end].fill(fill);
        let healed = heal(&bytes, pack.name).map_err(|e| TestCaseError::fail(e.chain()))?;
        prop_assert!(healed == pack.object);
    }

    /// What is cut off at the end, where table and footer stand; and what was appended.
    #[test]
    fn other_lengths_heal(number in 0_usize..2, cut in 0_usize..5000, more in 0_usize..5000) {
        let pack = &packs()[number];
        let cut_off = &pack.object[..pack.object.len() - cut.min(FOOTER_BYTES + 200)];
        let appended = [cut_off, &random_bytes(3, more)].concat();
        for bytes in [cut_off, &appended] {
            let healed = heal(bytes, pack.name).map_err(|e| TestCaseError::fail(e.chain()))?;
            prop_assert!(healed == pack.object);
        }
    }

    /// Whatever is there, nothing comes out but the pack, and nothing panics.
    #[test]
    fn anything_else_is_an_error(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
        cut: prop::sample::Index,
    ) {
        let pack = &packs()[1];
        let mut bytes = pack.object.to_vec();
        for (place, value) in places {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len()));
        if let Ok(healed) = heal(&bytes, pack.name) {
            prop_assert!(healed == pack.object);
        }
    }
}

/// The field of 2^16 elements as the code takes it.
struct Field {
    from_basis: Vec<u16>,
    to_basis: Vec<u16>,
}

impl Field {
    const BASIS: [u16; 16] = [
        0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72,
        0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e,
    ];

    fn new() -> Self {
        let from_basis: Vec<u16> = (0..=u16::MAX)
            .map(|element| {
                let set = (0..16).filter(|bit| element >> bit & 1 == 1);
                set.fold(0, |sum, bit| sum ^ Self::BASIS[bit])
            })
            .collect();
        let mut to_basis = vec![0; 1 << 16];
        for (element, polynomial) in from_basis.iter().enumerate() {
            to_basis[*polynomial as usize] = element as u16;
        }
        Self { from_basis, to_basis }
    }

    fn times(&self, a: u16, b: u16) -> u16 {
        let (mut a, b) = (u32::from(self.from_basis[a as usize]), self.from_basis[b as usize]);
        let mut product = 0;
        for bit in 0..16 {
            if b >> bit & 1 == 1 {
                product ^= a;
            }
            a <<= 1;
            if a >> 16 == 1 {
                a ^= 0x1_002d;
            }
        }
        self.to_basis[product as usize]
    }

    /// a^(2^16 − 2).
    fn inverse(&self, a: u16) -> u16 {
        let mut power = a;
        let mut product = 1;
        for _ in 1..16 {
            power = self.times(power, power);
            product = self.times(product, power);
        }
        product
    }
}

/// Computes one symbol of a parity shard as `docs/repository-format.md` §3.7 says.
fn defined(field: &Field, symbols: &[u16], parity: usize, number: usize) -> u16 {
    let chunk = parity.next_power_of_two();
    let x = number as u16;
    let mut sum = 0;
    for (index, symbol) in symbols.iter().enumerate() {
        let a = (chunk + index) as u16;
        let first = a / chunk as u16 * chunk as u16;
        let mut term = *symbol;
        for b in (first..first + chunk as u16).filter(|b| *b != a) {
            term = field.times(term, field.times(x ^ b, field.inverse(a ^ b)));
        }
        sum ^= term;
    }
    sum
}

#[test]
fn the_library_computes_the_code_that_is_defined() {
    let field = Field::new();
    for (shards, parity) in [(1, 2), (3, 2), (37, 3), (69, 5), (20, 8)] {
        let shard_bytes = 4096;
        let bytes = random_bytes(shards as u64, shards * shard_bytes);
        let cut = Shards { shard_bytes, whole: shards, head: &bytes, rest: Vec::new() };
        let geometry = Geometry { shard_bytes, shards, parity, object_bytes: 0, offset: 0 };
        let mut computed = vec![vec![0; shard_bytes]; parity];
        code::encode(&geometry, &cut, |number, columns, stripe| {
            computed[number][columns].copy_from_slice(stripe);
            Some(())
        })
        .expect("encode");
        // Symbols of several 64-byte groups: the low byte in the first half, the high one in the second.
        for (group, symbol) in [(0, 0), (0, 31), (31, 5), (32, 7), (63, 31)] {
            let low = group * 64 + symbol;
            let symbol_of = |shard: &[u8]| u16::from_le_bytes([shard[low], shard[low + 32]]);
            let symbols: Vec<_> = bytes.chunks(shard_bytes).map(symbol_of).collect();
            for (number, shard) in computed.iter().enumerate() {
                assert_eq!(symbol_of(shard), defined(&field, &symbols, parity, number));
            }
        }
    }
}

#[test]
fn names_decide() {
    let pack = &packs()[1];
    let other = PackName([9; 32]);
    let error = heal(&pack.object, other).expect_err("another name");
    assert!(error.chain().contains("not what it is named after"), "{}", error.chain());
}
