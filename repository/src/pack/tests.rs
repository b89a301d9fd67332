//! Packs as a whole: goldens, round trips, damage, hostile tables.

use std::io::Cursor;
use std::sync::Arc;

use bytes::BytesMut;
use model::ErrorKind;
use object_store::memory::InMemory;
use proptest::prelude::*;
use testkit::{random_bytes, text_bytes};

use super::compress::{Compressor, decode_delta, decompress, encode_delta};
use super::contents::{FOOTER_BYTES, Footer, TableCipher};
use super::*;
use crate::crypto::DomainKeys;
use crate::crypto::testing::{Repeatable, ring};
use crate::store::Store;
use crate::tree::NODE_BYTES_MAX;
use crate::types::DELTA_BASES_MAX;
use crate::types::{RepositoryId, hex};

const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
const SALT: [u8; 32] = [7; 32];

fn keys() -> DomainKeys {
    ring(1).domain("").expect("domain")
}

fn cipher(kind: PackKind) -> BlockCipher {
    BlockCipher::new(kind, REPOSITORY, &keys())
}

/// Seals contents into one block of full chunks.
fn block(contents: &[&[u8]]) -> SealedBlock {
    let mut offset = 0;
    let entries = contents.iter().map(|content| {
        let length = content.len() as u32;
        let id = keys().chunk_id(content).0;
        let entry = BlockEntry { id, kind: EntryKind::Full, offset, length, bases: Vec::new() };
        offset += length;
        entry
    });
    let entries = entries.collect();
    seal_block(&cipher(PackKind::Data), &SALT, &contents.concat(), entries).expect("seal")
}

/// A delta whose two bases stand nowhere, then a full chunk.
fn mixed_block() -> SealedBlock {
    let entries = vec![
        BlockEntry {
            id: [5; 32],
            kind: EntryKind::Delta,
            offset: 0,
            length: 1000,
            bases: vec![ChunkId([6; 32]), ChunkId([7; 32])],
        },
        BlockEntry {
            id: keys().chunk_id(b"full").0,
            kind: EntryKind::Full,
            offset: 5,
            length: 4,
            bases: Vec::new(),
        },
    ];
    seal_block(&cipher(PackKind::Data), &SALT, b"deltafull", entries).expect("seal")
}

fn pack(blocks: Vec<SealedBlock>) -> SealedPack {
    let entropy = Repeatable::new(1);
    let mut builder = PackBuilder::new(PackKind::Data, REPOSITORY, &keys(), &entropy);
    assert!(builder.is_empty());
    for block in blocks {
        builder.push(block).expect("push");
    }
    let expected = builder.len_bytes();
    let pack = builder.finish().expect("finish");
    assert_eq!(pack.object.len(), expected);
    pack
}

fn small_pack() -> SealedPack {
    pack(vec![block(&[b"one", b"two", b"three"]), mixed_block(), block(&[&[0; 300]])])
}

fn check(object: &[u8], name: PackName) -> model::Result<Vec<PackEntry>> {
    let object = Bytes::copy_from_slice(object);
    check_pack(&object, REPOSITORY, &keys(), PackKind::Data, name)
}

/// Checks in pieces, also under keys that do not open it.
fn check_in_pieces(object: &[u8], name: PackName, scratch: &mut Scratch) -> Option<Streamed> {
    let others = ring(1).domain("other").expect("domain");
    let (mut source, domains) = (Cursor::new(object), [others, keys()]);
    let streamed =
        check_pack_streamed(&mut source, object.len(), REPOSITORY, &domains, name, scratch)?;
    assert_eq!(streamed.domain, 1);
    Some(streamed)
}

fn name_of(object: &[u8]) -> PackName {
    PackName(*blake3::hash(object).as_bytes())
}

#[test]
fn golden_bytes() {
    let pack = small_pack();
    assert_eq!(hex(&block(&[b"one", b"two"]).bytes), GOLDEN_BLOCK);
    assert_eq!((pack.object.len(), pack.name.to_string()), (GOLDEN_PACK.0, GOLDEN_PACK.1.into()));
    assert_eq!(
        pack_path(PackKind::Meta, pack.name),
        format!("meta/{}/{}", &GOLDEN_PACK.1[..2], GOLDEN_PACK.1)
    );
}

const GOLDEN_BLOCK: &str = "424c4b310100000024000000e092413b7f06ccc64d0e73b17184840f6b94bc3000a26c2623c41779dd3c0b03bd3b8dc8c454a1c5fb56c44bf8b8db7d94aa1f524d4ca251fad504cfa0665be69432bd3158fbd83e";
const GOLDEN_PACK: (usize, &str) =
    (894, "b9066e8041bf0e7bb014595f08b11d102f21bcb04d1a476b70cab46c7bb02616");

#[test]
fn a_pack_says_what_is_in_it() {
    let pack = small_pack();
    assert_eq!(check(&pack.object, pack.name).expect("check"), pack.entries);
    let deep = check_pack_deep(&pack.object, REPOSITORY, &keys(), PackKind::Data, pack.name);
    assert_eq!(deep.expect("check"), pack.entries);
    assert_eq!(pack.entries.len(), 6);
    let three = &pack.entries[2];
    assert_eq!((three.location.offset_in_block, three.location.length), (6, 5));
    let (start, length) = (three.location.block_offset, three.location.block_length);
    let bytes = pack.object.slice(start as usize..(start + length) as usize);
    let content = cipher(PackKind::Data).decode(bytes).expect("decode");
    assert_eq!(three.location.slice(&content).expect("inside"), "three");
}

#[test]
fn a_block_opens_only_as_what_it_is() {
    let sealed = block(&[b"one"]);
    let bytes = Bytes::from(sealed.bytes);
    assert_eq!(cipher(PackKind::Data).decode(bytes.clone()).expect("decode"), "one");
    let other_kind = cipher(PackKind::Meta);
    let other_repository = BlockCipher::new(PackKind::Data, RepositoryId([2; 16]), &keys());
    let other_domain =
        BlockCipher::new(PackKind::Data, REPOSITORY, &ring(1).domain("x").expect("domain"));
    for cipher in [other_kind, other_repository, other_domain] {
        let error = cipher.decode(bytes.clone()).expect_err("another");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn no_flipped_bit_and_no_cut_of_a_block_passes() {
    for sealed in [block(&[b"one", &[3; 200]]), mixed_block()] {
        for bit in 0..8 * sealed.bytes.len() {
            let mut flipped = sealed.bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = cipher(PackKind::Data).decode(flipped.into()).expect_err("flipped");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for length in 0..sealed.bytes.len() {
            let cut = Bytes::copy_from_slice(&sealed.bytes[..length]);
            let error = cipher(PackKind::Data).decode(cut).expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
        }
    }
}

#[test]
fn no_damage_to_a_pack_passes() {
    let pack = small_pack();
    let mut scratch = Scratch::new();
    let mut passes_in_pieces =
        |object: &[u8], name| check_in_pieces(object, name, &mut scratch).is_some();
    for at in 0..pack.object.len() {
        let mut flipped = pack.object.to_vec();
        flipped[at] ^= 1;
        let error = check(&flipped, pack.name).expect_err("flipped");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}");
        assert!(check(&flipped, name_of(&flipped)).is_err(), "renamed {at}");
        assert!(!passes_in_pieces(&flipped, pack.name), "in pieces {at}");
        assert!(!passes_in_pieces(&flipped, name_of(&flipped)), "renamed, in pieces {at}");
    }
    for length in 0..pack.object.len() {
        let cut = &pack.object[..length];
        assert_eq!(check(cut, pack.name).expect_err("cut").kind(), ErrorKind::Corrupt);
        assert!(check(cut, name_of(cut)).is_err(), "{length}");
        assert!(!passes_in_pieces(cut, pack.name), "in pieces {length}");
        assert!(!passes_in_pieces(cut, name_of(cut)), "renamed, in pieces {length}");
    }
    // Nothing of a failure is left in the memory that is used again.
    assert!(passes_in_pieces(&pack.object, pack.name));
}

#[test]
fn packs_of_all_shapes_are_sound_in_pieces() {
    const MIB: usize = 1 << 20;
    let random = |seed, length| random_bytes(seed, length);
    let long = [random(1, 5 * MIB), random(2, MIB / 2), random(3, 700_000), random(4, 3 * MIB)];
    let text = text_bytes(5, 6 * MIB);
    let many: Vec<_> = (0..60).map(|seed| random(seed, 40_000 + seed as usize)).collect();
    let of = |content: &Bytes| block(&[&content[..]]);
    let mut scratch = Scratch::new();
    for blocks in [
        vec![],
        vec![block(&[b"one", b"two", b"three"]), mixed_block(), block(&[&[0; 300]])],
        long.iter().map(of).collect(),
        vec![block(&[&text[..MIB], &text[MIB..]]), of(&long[2]), mixed_block(), of(&text)],
        many.iter().map(of).collect(),
    ] {
        let pack = pack(blocks);
        let checked = check_in_pieces(&pack.object, pack.name, &mut scratch);
        let Streamed { entries, deltas, .. } = checked.expect("sound");
        assert_eq!(entries, pack.entries);
        let expected: Vec<_> =
            entries.iter().filter(|entry| entry.kind == EntryKind::Delta).collect();
        assert_eq!(deltas.iter().map(|(entry, _)| entry).collect::<Vec<_>>(), expected);
        assert!(deltas.iter().all(|(_, bytes)| bytes == "delta"));
        for at in [0, pack.object.len() / 3, pack.object.len() - 1] {
            let mut flipped = pack.object.to_vec();
            flipped[at] ^= 1;
            assert!(check_in_pieces(&flipped, pack.name, &mut scratch).is_none(), "{at}");
        }
    }
}

/// What only a holder of the keys can make: seals and hashes are right, names of chunks are not.
#[test]
fn a_chunk_under_the_name_of_another_does_not_pass() {
    let mut renamed = block(&[b"one", b"two"]);
    renamed.entries[1].id[31] ^= 1;
    let pack = pack(vec![renamed]);
    assert!(check(&pack.object, pack.name).is_ok(), "not what a shallow check is for");
    assert!(check_pack_deep(&pack.object, REPOSITORY, &keys(), PackKind::Data, pack.name).is_err());
    assert!(check_in_pieces(&pack.object, pack.name, &mut Scratch::new()).is_none());
}

#[tokio::test]
async fn a_table_of_contents_is_read_in_two_requests() {
    let (context, _) = testkit::context(1);
    let store = Store::new(Arc::new(InMemory::new()), "memory", &context);
    let pack = small_pack();
    let path = pack_path(pack.kind, pack.name);
    store.create(&path, pack.object.clone()).await.expect("create");
    let before = store.stats().gets;
    let entries = read_contents(&store, REPOSITORY, &keys(), pack.kind, pack.name).await;
    assert_eq!(entries.expect("read"), pack.entries);
    assert_eq!(store.stats().gets - before, 2);

    // A long table takes a third.
    let contents: Vec<_> = (0..3000_u32).map(u32::to_le_bytes).collect();
    let contents: Vec<_> = contents.iter().map(|content| &content[..]).collect();
    let long = self::pack(vec![block(&contents)]);
    let path = pack_path(long.kind, long.name);
    store.create(&path, long.object.clone()).await.expect("create");
    let before = store.stats().gets;
    let entries = read_contents(&store, REPOSITORY, &keys(), long.kind, long.name).await;
    assert_eq!(entries.expect("read"), long.entries);
    assert_eq!(store.stats().gets - before, 3);
}

#[tokio::test]
async fn a_damaged_table_of_contents_is_corrupt() {
    let (context, _) = testkit::context(1);
    let store = Store::new(Arc::new(InMemory::new()), "memory", &context);
    let pack = small_pack();
    let table = Footer::parse(&pack.object, pack.object.len()).expect("footer").offset as usize;
    for at in table..pack.object.len() {
        let mut damaged = pack.object.to_vec();
        damaged[at] ^= 0x10;
        let name = name_of(&damaged);
        store.create(&pack_path(pack.kind, name), damaged.into()).await.expect("create");
        let read = read_contents(&store, REPOSITORY, &keys(), pack.kind, name).await;
        assert_eq!(read.expect_err("damaged").kind(), ErrorKind::Corrupt, "{at}");
    }
    for length in [0, 1, FOOTER_BYTES, pack.object.len() - 1] {
        let cut = pack.object.slice(..length);
        let name = name_of(&cut);
        store.create(&pack_path(pack.kind, name), cut).await.expect("create");
        let read = read_contents(&store, REPOSITORY, &keys(), pack.kind, name).await;
        assert_eq!(read.expect_err("cut").kind(), ErrorKind::Corrupt, "{length}");
    }
    let missing = read_contents(&store, REPOSITORY, &keys(), PackKind::Meta, pack.name).await;
    assert_eq!(missing.expect_err("missing").kind(), ErrorKind::NotFound);
}

/// Whoever holds the keys can seal any table.
#[test]
fn tables_that_make_no_sense_are_refused() {
    let entry = |block_offset, offset_in_block, kind, bases| PackEntry {
        id: [1; 32],
        kind,
        location: Location {
            pack: PackName([0; 32]),
            block_offset,
            block_length: 100,
            offset_in_block,
            length: 1,
        },
        bases,
    };
    let base = ChunkId([2; 32]);
    let first = HEADER_BYTES as u32;
    let open_with = |body: usize, blocks: &[(u32, u32)], entries: &[PackEntry], has_parity| {
        let keys = keys();
        let cipher = TableCipher { kind: PackKind::Data, repository: REPOSITORY, keys: &keys };
        let mut object = vec![0; HEADER_BYTES + body];
        cipher.append(&mut object, &SALT, (blocks, entries), has_parity).expect("append");
        let footer = Footer::parse(&object, object.len()).expect("footer");
        let sealed = &object[footer.offset as usize..][..footer.length as usize];
        cipher.open(&footer, sealed, PackName([0; 32])).map_err(|error| error.kind())
    };
    let open = |body, blocks: &[_], entries: &[_]| open_with(body, blocks, entries, false);
    let full = || vec![entry(first, 0, EntryKind::Full, Vec::new())];
    assert!(open(100, &[(first, 100)], &full()).is_ok());
    assert!(open_with(101, &[(first, 100)], &full(), true).is_ok());
    assert_eq!(open_with(100, &[(first, 100)], &full(), true).err(), Some(ErrorKind::Corrupt));
    let many = vec![base; DELTA_BASES_MAX + 1];
    for (case, body, blocks, entries) in [
        ("block behind the end", 99, vec![(first, 100)], full()),
        ("bytes of nobody", 101, vec![(first, 100)], full()),
        ("gap", 201, vec![(first, 100), (first + 101, 100)], full()),
        ("overlap", 199, vec![(first, 100), (first + 99, 100)], full()),
        ("overflow", 100, vec![(first, 100), (first + 100, u32::MAX)], full()),
        ("no block is so short", 5, vec![(first, 5)], full()),
        (
            "delta of nothing",
            100,
            vec![(first, 100)],
            vec![entry(first, 0, EntryKind::Delta, vec![])],
        ),
        (
            "full with a base",
            100,
            vec![(first, 100)],
            vec![entry(first, 0, EntryKind::Full, vec![base])],
        ),
        ("too many bases", 100, vec![(first, 100)], vec![entry(first, 0, EntryKind::Delta, many)]),
        (
            "far inside",
            100,
            vec![(first, 100)],
            vec![entry(first, u32::MAX, EntryKind::Full, vec![])],
        ),
    ] {
        assert_eq!(open(body, &blocks, &entries).err(), Some(ErrorKind::Corrupt), "{case}");
    }
}

/// Whoever holds the keys can seal any block.
#[test]
fn blocks_that_lie_about_themselves_are_refused() {
    let cipher = cipher(PackKind::Data);
    let zeros = vec![0; 1 << 20];
    let bomb = Compressor::new().compress(1, &zeros).expect("compress").expect("short").to_vec();
    let seal = |method, length, directory: &[u8], body: &[u8]| {
        let sealed = cipher.seal_inner(&SALT, method, length, directory, body);
        BytesMut::from(&sealed.expect("seal")[..])
    };
    assert!(cipher.decode(seal(1, 1 << 20, b"\0", &bomb).freeze()).is_ok());
    for (case, method, length, body) in [
        ("more than stated", 1, 1000, &bomb[..]),
        ("less than stated", 1, (1 << 20) + 1, &bomb),
        ("more than blocks may have", 1, u32::MAX, &bomb),
        ("no frame", 1, 5, b"hello"),
        ("stored, too short", 0, 6, b"hello"),
        ("stored, too long", 0, 4, b"hello"),
        ("unknown method", 2, 5, b"hello"),
    ] {
        let error = cipher.decode(seal(method, length, b"\0", body).freeze()).expect_err(case);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{case}");
    }
    for (case, directory) in [
        ("empty", &b""[..]),
        ("covers too little", b"\x01\x00\x04"),
        ("covers too much", b"\x01\x00\x06"),
        ("more follows", b"\x01\x00\x05\x00"),
        ("unknown kind", b"\x01\x09\x05"),
        ("delta without bases", &[&b"\x01\x01\x05"[..], &[0; 32], b"\x05\x00"].concat()),
        ("count beyond all", b"\xff\xff\xff\x7f"),
    ] {
        let opened = cipher.open(seal(0, 5, directory, b"hello")).expect("open");
        assert_eq!(opened.entries().expect_err(case).kind(), ErrorKind::Corrupt, "{case}");
    }
    let opened = cipher.open(seal(0, 5, b"\x02\x00\x04\x00\x01", b"hello")).expect("open");
    assert_eq!(opened.entries().expect("sound").len(), 2);
}

#[test]
fn blocks_are_found_again_around_damage() {
    let pack = small_pack();
    let all = scan_blocks(&pack.object);
    assert_eq!(all.len(), 3);
    let salvaged = |object: &Bytes| {
        salvage(object, REPOSITORY, &keys(), PackKind::Data, pack.name).expect("salvage")
    };
    assert_eq!(salvaged(&pack.object), pack.entries);
    let middle = all[1].clone();
    for at in [middle.start, middle.start + 9, middle.start + 20, middle.end - 1] {
        let mut damaged = pack.object.to_vec();
        damaged[at] ^= 0xff;
        let found = salvaged(&damaged.into());
        assert_eq!(found, [&pack.entries[..3], &pack.entries[5..]].concat(), "{at}");
    }
    let cut = pack.object.slice(..all[2].end - 1);
    assert_eq!(salvaged(&cut), pack.entries[..5]);
}

#[test]
fn what_is_too_large_is_no_pack_and_no_block() {
    let cipher = cipher(PackKind::Data);
    let too_long = vec![0; BLOCK_BYTES_MAX + 1];
    let error = seal_block(&cipher, &SALT, &too_long, Vec::new()).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Internal);
    let entries = vec![BlockEntry {
        id: [0; 32],
        kind: EntryKind::Full,
        offset: 1,
        length: 4,
        bases: Vec::new(),
    }];
    assert!(seal_block(&cipher, &SALT, b"hello", entries).is_err(), "a gap");

    let entropy = Repeatable::new(1);
    let mut builder = PackBuilder::new(PackKind::Data, REPOSITORY, &keys(), &entropy);
    let large = block(&[&random_bytes(1, 15 << 20)]);
    let pushed = (0..6).take_while(|_| builder.push(large.clone()).is_ok()).count();
    assert_eq!(pushed, 5, "and the sixth left the pack as it was");
    assert!(builder.finish().expect("finish").object.len() <= PACK_BYTES_MAX);
}

#[test]
fn a_node_may_be_longer_than_content_in_a_block() {
    let node = random_bytes(1, BLOCK_BYTES_MAX + (1 << 20));
    let (kind, length) = (EntryKind::Node, node.len() as u32);
    let entry = BlockEntry { id: [7; 32], kind, offset: 0, length, bases: Vec::new() };
    let nodes = cipher(PackKind::Meta);
    let block = seal_block(&nodes, &SALT, &node, vec![entry]).expect("one long node");
    assert_eq!(nodes.decode(block.bytes.clone().into()).expect("decode"), node);
    let mut builder = PackBuilder::new(PackKind::Meta, REPOSITORY, &keys(), &Repeatable::new(1));
    builder.push(block).expect("room");
    let pack = builder.finish().expect("finish");
    let checked = check_pack(&pack.object, REPOSITORY, &keys(), PackKind::Meta, pack.name);
    assert_eq!(checked.expect("sound"), pack.entries);
    let too_long = vec![0; NODE_BYTES_MAX + 1];
    let error = seal_block(&nodes, &SALT, &too_long, Vec::new()).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[test]
fn deltas_are_as_small_as_the_change() {
    let base = random_bytes(1, 4 << 20);
    let mut changed = base.to_vec();
    changed[1_000_000..1_065_536].copy_from_slice(&random_bytes(2, 65_536));
    changed.splice(2_000_000..2_000_000, *b"inserted");
    let delta = encode_delta(&base, &changed).expect("encode");
    assert!(delta.len() < 66_500, "{}", delta.len());
    assert_eq!(decode_delta(&base, &delta, changed.len()).expect("decode"), changed);
    // A frame is found among what follows it.
    let followed = [&delta[..], b"more"].concat();
    assert_eq!(decode_delta(&base, &followed, changed.len()).expect("decode"), changed);
    for wrong in [changed.len() - 1, changed.len() + 1, 0] {
        assert_eq!(decode_delta(&base, &delta, wrong), None);
    }
    assert_eq!(decode_delta(&base, b"no frame", 8), None);
}

proptest! {
    #[test]
    fn what_is_compressed_is_decompressed(seed in any::<u64>(), length in 0_usize..20_000) {
        let mut compressor = Compressor::new();
        for content in [random_bytes(seed, length), text_bytes(seed, length)] {
            for level in [1, 3] {
                if let Some(bytes) = compressor.compress(level, &content).expect("compress") {
                    prop_assert!(bytes.len() < content.len());
                    prop_assert_eq!(&decompress(bytes, length).expect("decompress")[..], &content[..]);
                    prop_assert_eq!(decompress(bytes, length + 1), None);
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let name = name_of(&bytes);
        prop_assert!(check(&bytes, name).is_err());
        prop_assert!(cipher(PackKind::Data).decode(bytes.clone().into()).is_err());
        prop_assert!(Footer::parse(&bytes, bytes.len()).is_none());
        let _ = decode_delta(b"base", &bytes, 100);
        prop_assert_eq!(scan_blocks(&bytes), []);
        // Sealed, they are a block or an error.
        let sealed = cipher(PackKind::Data).seal_inner(&SALT, 1, 100, &bytes, &bytes);
        let opened = cipher(PackKind::Data).open(BytesMut::from(&sealed.expect("seal")[..]));
        let _ = opened.expect("open").entries();
    }

    #[test]
    fn packs_of_any_shape_are_read_back(
        shape in proptest::collection::vec(proptest::collection::vec(0_usize..3000, 1..5), 1..6),
        seed in any::<u64>(),
    ) {
        let blocks = shape.iter().map(|lengths| {
            let contents: Vec<_> = lengths.iter().map(|length| text_bytes(seed, *length)).collect();
            block(&contents.iter().map(|content| &content[..]).collect::<Vec<_>>())
        });
        let pack = pack(blocks.collect());
        prop_assert_eq!(&check(&pack.object, pack.name).expect("check"), &pack.entries);
        let salvaged = salvage(&pack.object, REPOSITORY, &keys(), PackKind::Data, pack.name);
        prop_assert_eq!(salvaged.expect("salvage"), pack.entries);
    }
}
