//! The key ring: what a key slot wraps, and all that follows from it.
//!
//! Encoding: `count u16`, then per entry
//! `purpose u8 | epoch u16 | domain length u8 | domain | key 32 bytes`, little-endian. A full ring has the
//! roots; a narrower role has some of what is derived from them, and no way back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use model::{Entropy, Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::{DomainKeys, Sealer, Secret, Signer};
use crate::types::{RepositoryId, WriterId};

const ENTRIES_MAX: usize = 4096;
const DOMAIN_LENGTH_MAX: usize = 64;
const FIRST_EPOCH: u16 = 1;

/// What an entry of a key ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Purpose {
    /// The secret of a key epoch that everything is derived from.
    Root = 1,
    /// The seed of the slot's own signing key.
    Writer = 2,
    /// The first key of the pair that seals small objects.
    ObjectSiv = 3,
    /// The second one.
    ObjectSeal = 4,
    /// Names the tree nodes of a domain.
    NodeId = 5,
    /// The first key of the pair that seals the tree nodes of a domain.
    ManifestSiv = 6,
    /// The second one.
    ManifestSeal = 7,
}

/// What a key slot lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Everything.
    Full,
    /// See names, trees and all small objects, sign with its own key; no contents, no sessions, no further
    /// keys: enough to find out what is not needed any more.
    Collector,
}

/// A key of a ring that is narrower than all, as encoded.
#[derive(Clone)]
struct Part {
    purpose: u8,
    epoch: u16,
    domain: String,
    secret: Secret,
}

/// All keys that a slot gives. Cheap to clone; nothing of it is ever shown.
#[derive(Clone)]
pub struct KeyRing(Arc<Ring>);

struct Ring {
    repository: RepositoryId,
    /// Ascending by epoch; the first is the identity root. Empty in a narrower role.
    roots: Vec<(u16, Secret)>,
    /// What a narrower role has instead.
    parts: Vec<Part>,
    writer_seed: Secret,
    objects: Sealer,
    signer: Signer,
    authority: Option<Signer>,
}

impl KeyRing {
    /// Makes the keys of a new repository, held by its first writer.
    ///
    /// # Errors
    /// `Internal` where a key cannot be made.
    pub fn generate(
        repository: RepositoryId,
        writer: WriterId,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let roots = vec![(FIRST_EPOCH, Secret::generate(entropy))];
        Self::new(repository, writer, roots, Secret::generate(entropy))
    }

    /// Makes the key ring of a further writer: the same roots, a signing key of its own.
    ///
    /// # Errors
    /// `WrongKey` where this ring is not full; `Internal` where a key cannot be made.
    pub fn for_writer(&self, writer: WriterId, entropy: &dyn Entropy) -> Result<Self> {
        self.check_full("make keys of a writer")?;
        Self::new(self.0.repository, writer, self.0.roots.clone(), Secret::generate(entropy))
    }

    /// Makes the key ring of a collector that sees the trees of these domains.
    ///
    /// # Errors
    /// `WrongKey` where this ring is not full; `Invalid` where a domain's name is too long; `Internal` where
    /// a key cannot be made.
    pub fn for_collector(
        &self,
        writer: WriterId,
        domains: &BTreeSet<String>,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        self.check_full("make keys of a collector")?;
        let fault = || Error::new(ErrorKind::Internal, "make keys of a collector", "");
        let (_, identity) = self.0.roots.first().ok_or_else(fault)?;
        let mut parts = Vec::new();
        let mut add = |purpose: Purpose, epoch, domain: &str, secret| {
            let domain = domain.to_owned();
            parts.push(Part { purpose: purpose as u8, epoch, domain, secret });
        };
        for (epoch, root) in &self.0.roots {
            let (siv, seal) = root.derive_pair("lifeboat 2026-11 object seal", b"");
            add(Purpose::ObjectSiv, *epoch, "", siv);
            add(Purpose::ObjectSeal, *epoch, "", seal);
        }
        for domain in domains {
            check_domain(domain)?;
            let input = domain.as_bytes();
            let node_id = identity.derive("lifeboat 2026-11 node id", input);
            add(Purpose::NodeId, 0, domain, node_id);
            for (epoch, root) in &self.0.roots {
                let (siv, seal) = root.derive_pair("lifeboat 2026-11 manifest seal", input);
                add(Purpose::ManifestSiv, *epoch, domain, siv);
                add(Purpose::ManifestSeal, *epoch, domain, seal);
            }
        }
        if parts.len() >= ENTRIES_MAX {
            return Err(fault().detail("there are too many domains"));
        }
        Self::of_parts(self.0.repository, writer, parts, Secret::generate(entropy))
    }

    fn of_parts(
        repository: RepositoryId,
        writer: WriterId,
        parts: Vec<Part>,
        writer_seed: Secret,
    ) -> Result<Self> {
        let unsupported = || {
            Error::new(ErrorKind::Unsupported, "read key ring", "")
                .detail("the key slot holds only a part of the keys")
        };
        let objects = pairs(&parts, Purpose::ObjectSiv, Purpose::ObjectSeal, "");
        let objects = objects.filter(|pairs| !pairs.is_empty()).ok_or_else(unsupported)?;
        let objects = Sealer::of_pairs(objects);
        let signer = Signer::new(writer, &writer_seed)?;
        let (roots, authority) = (Vec::new(), None);
        let ring = Ring { repository, roots, parts, writer_seed, objects, signer, authority };
        Ok(Self(Arc::new(ring)))
    }

    /// Says what its holder may do.
    pub fn role(&self) -> KeyRole {
        if self.0.roots.is_empty() { KeyRole::Collector } else { KeyRole::Full }
    }

    /// Refuses what only a full ring can do.
    ///
    /// # Errors
    /// `WrongKey`: another key is asked for.
    pub fn check_full(&self, action: &'static str) -> Result<()> {
        match self.role() {
            KeyRole::Full => Ok(()),
            KeyRole::Collector => Err(Error::new(
                ErrorKind::WrongKey,
                action,
                self.0.signer.writer().to_string(),
            )
            .detail(
                "the key that opened the repository is that of a collector: names and trees only",
            )),
        }
    }

    fn new(
        repository: RepositoryId,
        writer: WriterId,
        roots: Vec<(u16, Secret)>,
        writer_seed: Secret,
    ) -> Result<Self> {
        let fault = || Error::new(ErrorKind::Corrupt, "read key ring", "").detail("no root");
        let (_, identity) = roots.first().ok_or_else(fault)?;
        let ((epoch, root), older) = roots.split_last().ok_or_else(fault)?;
        let objects = Sealer::derive((*epoch, root), older, "lifeboat 2026-11 object seal", b"");
        // The authority has no slot of its own, and no writer may have its id.
        let authority = Signer::new(
            WriterId([0; 16]),
            &identity.derive("lifeboat 2026-11 authority seed", b""),
        )?;
        let signer = Signer::new(writer, &writer_seed)?;
        let (authority, parts) = (Some(authority), Vec::new());
        let ring = Ring { repository, roots, parts, writer_seed, objects, signer, authority };
        Ok(Self(Arc::new(ring)))
    }

    /// Says which repository the keys belong to.
    pub fn repository(&self) -> RepositoryId {
        self.0.repository
    }

    /// Derives the keys of a domain.
    ///
    /// # Errors
    /// `Invalid` where the name has over 64 bytes; `WrongKey` where a narrower role has no key of it.
    pub fn domain(&self, name: &str) -> Result<DomainKeys> {
        check_domain(name)?;
        if self.role() == KeyRole::Collector {
            return self.domain_of_parts(name);
        }
        let fault = || Error::new(ErrorKind::Internal, "derive keys of domain", name);
        let (_, identity) = self.0.roots.first().ok_or_else(fault)?;
        let ((epoch, root), older) = self.0.roots.split_last().ok_or_else(fault)?;
        Ok(DomainKeys::derive(identity, (*epoch, root), older, name))
    }

    fn domain_of_parts(&self, name: &str) -> Result<DomainKeys> {
        let parts = &self.0.parts;
        let is_node_id =
            |part: &&Part| part.purpose == Purpose::NodeId as u8 && part.domain == name;
        let node_id = parts.iter().find(is_node_id).map(|part| part.secret.clone());
        let manifest = pairs(parts, Purpose::ManifestSiv, Purpose::ManifestSeal, name);
        match (node_id, manifest) {
            (Some(node_id), Some(manifest)) if !manifest.is_empty() => {
                Ok(DomainKeys::of_trees(name, node_id, Sealer::of_pairs(manifest)))
            }
            _ => Err(Error::new(ErrorKind::WrongKey, "derive keys of domain", name).detail(
                "the key that opened the repository is that of a collector, made before this domain",
            )),
        }
    }

    /// Returns what seals every small object.
    pub fn objects(&self) -> &Sealer {
        &self.0.objects
    }

    /// Returns what signs for this writer.
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// Returns what certifies writers; none in a narrower role.
    pub fn authority(&self) -> Option<&Signer> {
        self.0.authority.as_ref()
    }

    /// Encodes the ring for a key slot.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let Ring { roots, parts, writer_seed, .. } = &*self.0;
        let roots = roots.iter().map(|(epoch, root)| (Purpose::Root as u8, *epoch, "", root));
        let parts =
            parts.iter().map(|part| (part.purpose, part.epoch, part.domain.as_str(), &part.secret));
        let entries: Vec<_> =
            roots.chain([(Purpose::Writer as u8, 0, "", writer_seed)]).chain(parts).collect();
        // Reserved at once: growing would leave copies behind.
        let length: usize = entries.iter().map(|(_, _, domain, _)| 36 + domain.len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + length));
        let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for (purpose, epoch, domain, secret) in entries {
            bytes.push(purpose);
            bytes.extend_from_slice(&epoch.to_le_bytes());
            // A domain's name has at most 64 bytes.
            bytes.push(u8::try_from(domain.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(domain.as_bytes());
            bytes.extend_from_slice(secret.expose());
        }
        bytes
    }

    /// Reads [`KeyRing::encode`].
    ///
    /// # Errors
    /// `Corrupt` where the bytes are no key ring; `Unsupported` where it holds only parts of the keys.
    pub(crate) fn decode(repository: RepositoryId, writer: WriterId, bytes: &[u8]) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "read key ring", "");
        let (count, mut rest) = bytes.split_first_chunk().ok_or_else(corrupt)?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (mut roots, mut seed) = (Vec::<(u16, Secret)>::new(), None);
        let mut parts = Vec::new();
        for _ in 0..count.min(ENTRIES_MAX) {
            let (entry, tail) = split_entry(rest).ok_or_else(corrupt)?;
            rest = tail;
            match entry.purpose {
                1 if roots.last().is_none_or(|(epoch, _)| *epoch < entry.epoch) => {
                    roots.push((entry.epoch, entry.secret));
                }
                2 if seed.is_none() => seed = Some(entry.secret),
                1 | 2 => return Err(corrupt()),
                3..=7 => parts.push(entry),
                // A purpose of a later version: what it gives, this version does not use.
                _ => {}
            }
        }
        if !rest.is_empty() || count > ENTRIES_MAX {
            return Err(corrupt());
        }
        match seed {
            Some(seed) if !roots.is_empty() => Self::new(repository, writer, roots, seed),
            Some(seed) => Self::of_parts(repository, writer, parts, seed),
            None => Err(Error::new(ErrorKind::Unsupported, "read key ring", "")
                .detail("the key slot holds only a part of the keys")),
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({:?}, {:?})", self.0.repository, self.0.signer.writer())
    }
}

fn check_domain(name: &str) -> Result<()> {
    if name.len() <= DOMAIN_LENGTH_MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "derive keys of domain", name)
        .detail(format!("a domain's name has at most {DOMAIN_LENGTH_MAX} bytes")))
}

/// Collects the pairs of a purpose and a domain, ascending by epoch; none where one is not whole.
fn pairs(
    parts: &[Part],
    siv: Purpose,
    seal: Purpose,
    domain: &str,
) -> Option<Vec<(u16, Secret, Secret)>> {
    let of = |purpose: Purpose| -> BTreeMap<u16, &Secret> {
        let fitting =
            parts.iter().filter(move |part| part.purpose == purpose as u8 && part.domain == domain);
        fitting.map(|part| (part.epoch, &part.secret)).collect()
    };
    let (sivs, seals) = (of(siv), of(seal));
    let is_whole = sivs.keys().eq(seals.keys());
    let pairs = sivs.into_iter().zip(seals.into_values());
    is_whole.then(|| pairs.map(|((epoch, siv), seal)| (epoch, siv.clone(), seal.clone())).collect())
}

fn split_entry(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let (&[purpose, epoch_low, epoch_high, domain_length], rest) = bytes.split_first_chunk()?;
    let (domain, rest) = rest.split_at_checked(usize::from(domain_length))?;
    // One that is no text belongs to no domain that could be asked for.
    let domain = String::from_utf8_lossy(domain).into_owned();
    let (secret, rest) = rest.split_first_chunk()?;
    let epoch = u16::from_le_bytes([epoch_low, epoch_high]);
    Some((Part { purpose, epoch, domain, secret: Secret::new(*secret) }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::{Repeatable, ring};
    use crate::types::hex;
    use proptest::prelude::*;

    const GOLDEN: [&str; 5] = [
        "79903cc380a8cb49 aa9c1f80e36025bd 170f3ebe6fd33e77 de75f016ad95b4a7 e905ffda5781c07c 571383d755beae67 0f30a9f192301804",
        "cf0a0df6165572af 7389ffa9ccdb5b3b 0b817953f9d1a7d4 138616996fc3c4fa 2201b56ed84ebcfa c7e4b5d96c65a339 1ea4d75cabc166c6",
        "8b35a74f7175b9a8d32ee5269a70f92d281ebda7c261ce891d7a34255503057f",
        "d7edc1a07db500b8a13a7f513a082f4dbc7ec31a1f9f3cb7f5222a098d85a0a8",
        "02000101000074500697761748e7dc0302d36778f89c6ab324ef942773976b92a7bbefa18cd2020000001f475c662d5af4c49debea6053494a4be2c44343caab6871f9980fc5fb7b47ca",
    ];

    /// Frozen: with other derivations nothing stored would be found or opened again.
    #[test]
    fn golden_derivations() {
        let keys = ring(1);
        let summary = |name: &str| {
            let domain = keys.domain(name).expect("domain");
            let (mut data, mut manifest) = (Vec::new(), Vec::new());
            let seal = domain.data().seal(b"", b"", &mut data, 0).expect("seal");
            let seal2 = domain.manifest().seal(b"", b"", &mut manifest, 0).expect("seal");
            format!(
                "{} {} {:016x} {:016x} {:016x} {} {}",
                &domain.chunk_id(b"").to_string()[..16],
                &domain.node_id(b"").to_string()[..16],
                domain.gear_table()[0],
                domain.gear_table()[255],
                domain.split_hash(b"etc"),
                &hex(&seal.0)[..16],
                &hex(&seal2.0)[..16],
            )
        };
        let found = [
            summary(""),
            summary("hdfs"),
            hex(&keys.authority().expect("authority").public_key().0),
            hex(&keys.signer().public_key().0),
            hex(&keys.encode()),
        ];
        assert_eq!(found, GOLDEN);
    }

    #[test]
    fn no_two_purposes_or_domains_share_a_key() {
        let keys = ring(1);
        let mut seen = Vec::new();
        for name in ["", "a", "b"] {
            let domain = keys.domain(name).expect("domain");
            seen.push(domain.chunk_id(b"x").0);
            seen.push(domain.node_id(b"x").0);
            for sealer in [domain.data(), domain.manifest()] {
                seen.push(sealer.seal(b"", b"", &mut b"x".to_vec(), 0).expect("seal").0);
            }
        }
        seen.push(keys.objects().seal(b"", b"", &mut b"x".to_vec(), 0).expect("seal").0);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 13);
        assert!(keys.domain(&"x".repeat(65)).is_err());
    }

    #[test]
    fn a_new_epoch_seals_anew_and_names_as_before() {
        let old = ring(1);
        let mut roots = old.0.roots.clone();
        roots.push((2, Secret::new([9; 32])));
        let new = KeyRing::new(old.repository(), WriterId([1; 16]), roots, Secret::new([8; 32]))
            .expect("keys");
        let (a, b) = (old.domain("").expect("domain"), new.domain("").expect("domain"));
        assert_eq!((a.chunk_id(b"x"), a.node_id(b"x")), (b.chunk_id(b"x"), b.node_id(b"x")));
        assert_eq!((a.gear_table(), a.split_hash(b"x")), (b.gear_table(), b.split_hash(b"x")));
        let authority = |keys: &KeyRing| keys.authority().map(Signer::public_key);
        assert_eq!(authority(&old), authority(&new));
        assert_eq!((old.objects().epoch(), new.objects().epoch()), (1, 2));

        let mut text = b"x".to_vec();
        let siv = a.data().seal(b"", b"", &mut text, 0).expect("seal");
        assert_eq!(b.data().open(1, b"", &siv, &mut text.clone()).expect("open"), b"x");
        let siv = b.data().seal(b"", b"", &mut text, 0).expect("seal");
        let error = a.data().open(2, b"", &siv, &mut text).expect_err("a later epoch");
        assert_eq!(error.kind(), ErrorKind::WrongKey);
    }

    #[test]
    fn a_further_writer_shares_all_but_the_signing_key() {
        let first = ring(1);
        let second = first.for_writer(WriterId([2; 16]), &Repeatable::new(2)).expect("keys");
        assert_eq!(second.signer().writer(), WriterId([2; 16]));
        assert_ne!(first.signer().public_key(), second.signer().public_key());
        let authority = |keys: &KeyRing| keys.authority().map(Signer::public_key);
        assert_eq!(authority(&first), authority(&second));
        let id = |keys: &KeyRing| keys.domain("").expect("domain").chunk_id(b"x");
        assert_eq!(id(&first), id(&second));
    }

    fn collector(keys: &KeyRing, domains: &[&str]) -> KeyRing {
        let domains = domains.iter().map(|name| (*name).to_owned()).collect();
        keys.for_collector(WriterId([3; 16]), &domains, &Repeatable::new(3)).expect("keys")
    }

    #[test]
    fn a_collector_has_the_keys_of_trees_and_no_others() {
        let full = ring(1);
        let narrow = collector(&full, &["", "hdfs"]);
        let encoded = narrow.encode();
        let narrow = KeyRing::decode(full.repository(), WriterId([3; 16]), &encoded);
        let narrow = narrow.expect("decode");
        assert_eq!((full.role(), narrow.role()), (KeyRole::Full, KeyRole::Collector));
        assert_eq!(narrow.encode(), encoded);
        for name in ["", "hdfs"] {
            let (all, some) =
                (full.domain(name).expect("domain"), narrow.domain(name).expect("domain"));
            assert_eq!(all.node_id(b"x"), some.node_id(b"x"));
            let mut text = b"x".to_vec();
            let siv = all.manifest().seal(b"", b"", &mut text, 0).expect("seal");
            assert_eq!(some.manifest().open(1, b"", &siv, &mut text).expect("open"), b"x");
            let mut text = b"x".to_vec();
            let siv = all.data().seal(b"", b"", &mut text, 0).expect("seal");
            let error = some.data().open(1, b"", &siv, &mut text).expect_err("no contents");
            assert_eq!(error.kind(), ErrorKind::WrongKey);
            let error = some.data().seal(b"", b"", &mut text, 0).expect_err("no contents");
            assert_eq!(error.kind(), ErrorKind::WrongKey);
            assert_ne!(all.chunk_id(b"x"), some.chunk_id(b"x"));
        }
        let mut text = b"x".to_vec();
        let siv = full.objects().seal(b"", b"", &mut text, 0).expect("seal");
        assert_eq!(narrow.objects().open(1, b"", &siv, &mut text).expect("open"), b"x");
        assert_eq!(narrow.domain("later").expect_err("not given").kind(), ErrorKind::WrongKey);
        assert!(narrow.authority().is_none());
        let error = narrow.for_writer(WriterId([4; 16]), &Repeatable::new(4)).expect_err("narrow");
        assert_eq!(error.kind(), ErrorKind::WrongKey);
        // Nothing that is derived from the root for other uses, and not the root itself, is in it.
        let (_, root) = &full.0.roots[0];
        let mut others = vec![*root.expose()];
        for (context, input) in [
            ("lifeboat 2026-11 chunk id", &b""[..]),
            ("lifeboat 2026-11 chunk id", b"hdfs"),
            ("lifeboat 2026-11 cut table", b""),
            ("lifeboat 2026-11 authority seed", b""),
            ("lifeboat 2026-11 data seal", b""),
        ] {
            others.push(*root.derive(context, input).expose());
        }
        for secret in others {
            assert!(!encoded.windows(32).any(|window| window == secret));
        }
    }

    #[test]
    fn golden_ring_of_a_collector() {
        let encoded = collector(&ring(1), &["", "hdfs"]).encode();
        assert_eq!(blake3::hash(&encoded).to_hex()[..32], *"33e6d0cf02007d40d45c1f0f9da13e31");
    }

    #[test]
    fn a_collectors_ring_is_read_whole_or_not() {
        let keys = ring(1);
        let encoded = collector(&keys, &[""]).encode();
        for length in 0..encoded.len() {
            let cut = KeyRing::decode(keys.repository(), WriterId([3; 16]), &encoded[..length]);
            assert_eq!(cut.expect_err("cut").kind(), ErrorKind::Corrupt, "{length}");
        }
        // Without the second key of a pair there is no pair.
        let mut less = encoded.to_vec();
        less[2 + 36 + 36] = 99;
        let error = KeyRing::decode(keys.repository(), WriterId([3; 16]), &less);
        assert_eq!(error.expect_err("half a pair").kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_ring_survives_its_slot() {
        let keys = ring(1);
        let read = KeyRing::decode(keys.repository(), keys.signer().writer(), &keys.encode());
        let read = read.expect("decode");
        assert_eq!(read.encode(), keys.encode());
        assert_eq!(read.signer().public_key(), keys.signer().public_key());
        for length in 0..keys.encode().len() {
            let cut = &keys.encode()[..length];
            let error =
                KeyRing::decode(keys.repository(), WriterId([1; 16]), cut).expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
        }
    }

    #[test]
    fn unknown_purposes_are_passed_over_and_a_part_of_the_keys_is_not_enough() {
        let keys = ring(1);
        let decode = |bytes: &[u8]| {
            KeyRing::decode(keys.repository(), WriterId([1; 16]), bytes).map(|ring| ring.encode())
        };
        let mut more = keys.encode().to_vec();
        more[0] += 1;
        more.extend_from_slice(b"\x63\x01\x00\x01d");
        more.extend_from_slice(&[5; 32]);
        assert_eq!(decode(&more).expect("decode"), keys.encode());

        let mut less = keys.encode().to_vec();
        less[0] -= 1;
        less.truncate(2 + 36);
        assert_eq!(decode(&less).expect_err("no seed").kind(), ErrorKind::Unsupported);
        assert_eq!(decode(b"\0\0").expect_err("empty").kind(), ErrorKind::Unsupported);
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeyRing::decode(RepositoryId([0; 16]), WriterId([0; 16]), &bytes);
        }
    }
}
