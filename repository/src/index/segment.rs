//! One index segment: fixed records sorted by the first half of their ids, in bytes that are searched
//! where they lie.
//!
//! A record is 32 bytes: `prefix 16 | block u32 | offset in block u32 | length u32 | extra u32`. Blocks
//! and packs stand in tables of their own, since many records share them; what a delta is decoded
//! against stands in a side table. A binary fuse filter says of most absent ids that they are absent.
//! `docs/repository-format.md` §4 has the bytes.

use std::collections::HashMap;
use std::ops::Range;

use model::{Error, ErrorKind, Result};
use xorf::{BinaryFuse8, Filter as _};

use super::Found;
use super::cache::Body;
use crate::pack::EntryKind;
use crate::types::{ChunkId, DELTA_BASES_MAX, Location, PackKind, PackName};

/// The revision of the encoding.
const SEGMENT_FORMAT: u32 = 0;
/// How many bytes of an id are compared.
pub(crate) const PREFIX_BYTES: usize = 16;
/// The most bytes of a segment's plaintext.
pub(crate) const SEGMENT_BYTES_MAX: usize = 64 << 20;
/// A writer begins another segment after so many records (about 12 MiB).
pub(crate) const RECORDS_TARGET: usize = 256 << 10;

const HEADER_BYTES: usize = 48;
const RECORD_BYTES: usize = 32;
const BLOCK_BYTES: usize = 12;
const PACK_BYTES: usize = 33;
const DELTA_BYTES: usize = 8;
const BASE_BYTES: usize = 32;
/// Records that are read at once; the first of each such group is kept in memory.
const GROUP_RECORDS: usize = 128;

const EXTRA_FULL: u32 = 0;
const EXTRA_NODE: u32 = 1;
/// `extra` of delta number n is n plus this.
const EXTRA_DELTA: u32 = 2;

/// The first half of an id, which records are sorted by.
pub(crate) type Prefix = [u8; PREFIX_BYTES];

/// Returns the part of an id that is compared.
pub(crate) fn prefix(id: &[u8; 32]) -> Prefix {
    id.first_chunk().copied().unwrap_or_default()
}

/// An entry on its way into a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) prefix: Prefix,
    pub(crate) kind: EntryKind,
    pub(crate) pack_kind: PackKind,
    pub(crate) location: Location,
    pub(crate) bases: Vec<ChunkId>,
}

/// Encodes a segment. The order of entries does not matter; equal entries are written once.
///
/// # Errors
/// `Internal` where there are none, or more than a segment holds.
pub(crate) fn encode(entries: &[Entry]) -> Result<Vec<u8>> {
    let fault = |what: &str| {
        Error::new(ErrorKind::Internal, "encode index segment", "").detail(what.to_owned())
    };
    let mut tables = Tables::default();
    let mut records = entries
        .iter()
        .map(|entry| tables.record(entry).ok_or_else(|| fault("a delta with too many bases")))
        .collect::<Result<Vec<_>>>()?;
    records.sort_unstable();
    records.dedup();
    let mut keys: Vec<u64> = records.iter().map(|record| filter_key(record)).collect();
    keys.dedup();
    if keys.is_empty() {
        return Err(fault("no entries"));
    }
    let filter = BinaryFuse8::try_from(&keys).map_err(fault)?;
    let layout = Layout {
        records: records.len(),
        blocks: tables.blocks.len(),
        packs: tables.packs.len(),
        deltas: tables.deltas.len(),
        bases: tables.bases.len(),
        fingerprints: filter.fingerprints.len(),
    };
    let length = layout.total_bytes().filter(|length| *length <= SEGMENT_BYTES_MAX);
    let length = length.ok_or_else(|| fault("more entries than a segment holds"))?;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&SEGMENT_FORMAT.to_le_bytes());
    for count in layout.counts() {
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
    }
    bytes.extend_from_slice(&filter.descriptor.seed.to_le_bytes());
    bytes.extend_from_slice(&filter.descriptor.segment_length.to_le_bytes());
    bytes.extend_from_slice(&filter.descriptor.segment_count_length.to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    records.iter().for_each(|record| bytes.extend_from_slice(record));
    tables.append_to(&mut bytes);
    bytes.extend_from_slice(&filter.fingerprints);
    Ok(bytes)
}

/// What records refer to, by number.
#[derive(Debug, Default)]
struct Tables {
    packs: Vec<(PackKind, PackName)>,
    pack_numbers: HashMap<PackName, u32>,
    blocks: Vec<[u32; 3]>,
    block_numbers: HashMap<[u32; 3], u32>,
    deltas: Vec<[u32; 2]>,
    delta_numbers: HashMap<Vec<ChunkId>, u32>,
    bases: Vec<ChunkId>,
}

impl Tables {
    fn record(&mut self, entry: &Entry) -> Option<[u8; RECORD_BYTES]> {
        let Location { pack, block_offset, block_length, offset_in_block, length } = entry.location;
        let pack_number = *self.pack_numbers.entry(pack).or_insert_with(|| {
            self.packs.push((entry.pack_kind, pack));
            self.packs.len() as u32 - 1
        });
        let block = [pack_number, block_offset, block_length];
        let block_number = *self.block_numbers.entry(block).or_insert_with(|| {
            self.blocks.push(block);
            self.blocks.len() as u32 - 1
        });
        let extra = match entry.kind {
            EntryKind::Full => EXTRA_FULL,
            EntryKind::Node => EXTRA_NODE,
            EntryKind::Delta => EXTRA_DELTA + self.delta(&entry.bases)?,
        };
        let mut record = [0; RECORD_BYTES];
        let numbers = [block_number, offset_in_block, length, extra];
        let bytes = entry.prefix.into_iter().chain(numbers.into_iter().flat_map(u32::to_le_bytes));
        record.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Some(record)
    }

    fn delta(&mut self, bases: &[ChunkId]) -> Option<u32> {
        if bases.is_empty() || bases.len() > DELTA_BASES_MAX {
            return None;
        }
        let first = self.bases.len() as u32;
        let number = *self.delta_numbers.entry(bases.to_vec()).or_insert_with(|| {
            self.deltas.push([first, bases.len() as u32]);
            self.bases.extend_from_slice(bases);
            self.deltas.len() as u32 - 1
        });
        Some(number)
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        for number in self.blocks.iter().flatten() {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (kind, name) in &self.packs {
            bytes.push(u8::from(*kind == PackKind::Meta));
            bytes.extend_from_slice(&name.0);
        }
        for number in self.deltas.iter().flatten() {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for base in &self.bases {
            bytes.extend_from_slice(&base.0);
        }
    }
}

/// How many of each there are; from it follows where each table begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    records: usize,
    blocks: usize,
    packs: usize,
    deltas: usize,
    bases: usize,
    fingerprints: usize,
}

impl Layout {
    fn counts(&self) -> [usize; 6] {
        [self.records, self.blocks, self.packs, self.deltas, self.bases, self.fingerprints]
    }

    /// Returns where table number `n` begins; the one behind the last is the end. None where it does
    /// not fit into memory.
    fn start(&self, n: usize) -> Option<usize> {
        let sizes = [RECORD_BYTES, BLOCK_BYTES, PACK_BYTES, DELTA_BYTES, BASE_BYTES, 1];
        let tables = self.counts().into_iter().zip(sizes).take(n);
        tables
            .map(|(count, size)| count.checked_mul(size))
            .try_fold(HEADER_BYTES, |sum, bytes| sum.checked_add(bytes?))
    }

    fn total_bytes(&self) -> Option<usize> {
        self.start(6)
    }
}

/// A segment that can be searched. Its filter and the first prefix of each group of records are in
/// memory, all else is read where it lies.
pub(crate) struct Segment {
    body: Body,
    layout: Layout,
    fences: Vec<u64>,
    filter: BinaryFuse8,
}

impl Segment {
    /// Opens a segment's plaintext, wherever that lies.
    ///
    /// # Errors
    /// `Corrupt` where it is none; `Unsupported`; those of the local disk.
    pub(crate) fn open(body: Body) -> Result<Self> {
        let corrupt = || body.corrupt("not an index segment");
        let header = body.read(0..HEADER_BYTES)?;
        let number = |n: usize| {
            let bytes = header.get(4 * n..4 * n + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes))
        };
        let count = |n| number(n).and_then(|n| usize::try_from(n).ok()).ok_or_else(corrupt);
        if number(0) != Some(SEGMENT_FORMAT) {
            return Err(Error::new(ErrorKind::Unsupported, "read index segment", body.name())
                .detail("it is of another revision"));
        }
        let layout = Layout {
            records: count(1)?,
            blocks: count(2)?,
            packs: count(3)?,
            deltas: count(4)?,
            bases: count(5)?,
            fingerprints: count(6)?,
        };
        if layout.total_bytes() != Some(body.len()) || body.len() > SEGMENT_BYTES_MAX {
            return Err(corrupt());
        }
        let seed = number(7).zip(number(8)).ok_or_else(corrupt)?;
        let seed = u64::from(seed.0) | u64::from(seed.1) << 32;
        let lengths = number(9).zip(number(10)).ok_or_else(corrupt)?;
        let fingerprints = body.read(layout.start(5).ok_or_else(corrupt)?..body.len())?;
        let filter = filter(seed, lengths, fingerprints.to_vec()).ok_or_else(corrupt)?;
        let mut segment = Self { body, layout, fences: Vec::new(), filter };
        segment.fences = segment.read_fences()?;
        Ok(segment)
    }

    /// Reads the first key of each group, and checks the order of all records: a search relies on it.
    fn read_fences(&self) -> Result<Vec<u64>> {
        let mut fences = Vec::with_capacity(self.layout.records.div_ceil(GROUP_RECORDS));
        let Some(known) = self.body.fences() else {
            let mut previous = Prefix::default();
            for group in 0..self.layout.records.div_ceil(GROUP_RECORDS) {
                let records = self.group(group)?;
                let records = records.as_chunks::<RECORD_BYTES>().0;
                fences.extend(records.first().map(|record| order_key(record)));
                for record in records {
                    let next = record_prefix(record);
                    if next < previous {
                        return Err(self.body.corrupt("its records are not in order"));
                    }
                    previous = next;
                }
            }
            return Ok(fences);
        };
        fences.extend_from_slice(known);
        if fences.len() != self.layout.records.div_ceil(GROUP_RECORDS) {
            return Err(self.body.corrupt("not as many groups of records as it says"));
        }
        Ok(fences)
    }

    /// Returns the first key of each group of records: what a cache keeps.
    pub(crate) fn fences(&self) -> &[u64] {
        &self.fences
    }

    /// Returns how many records there are.
    pub(crate) fn len(&self) -> usize {
        self.layout.records
    }

    /// Returns about how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.body.memory_bytes() + self.fences.len() * 8 + self.filter.fingerprints.len()
    }

    /// Returns the object that it was made from.
    pub(crate) fn name(&self) -> &str {
        self.body.name()
    }

    /// Says whether its cache file was found to be damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.body.is_damaged()
    }

    /// Throws its cache file away.
    pub(crate) fn discard(&self) {
        super::cache::discard(&self.body);
    }

    /// Appends every place of an id of this kind of pack.
    ///
    /// # Errors
    /// `Corrupt` where its bytes are damaged; those of the local disk.
    pub(crate) fn find(
        &self,
        kind: PackKind,
        wanted: &Prefix,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        if !self.filter.contains(&filter_key(wanted)) {
            return Ok(());
        }
        let key = order_key(wanted);
        let first = self.fences.partition_point(|fence| *fence < key).saturating_sub(1);
        for (group, _) in
            self.fences.iter().enumerate().skip(first).take_while(|(_, fence)| **fence <= key)
        {
            let records = self.group(group)?;
            let records = records.as_chunks::<RECORD_BYTES>().0;
            let at = records.partition_point(|record| record_prefix(record) < *wanted);
            let equal = records.iter().skip(at);
            for record in equal.take_while(|record| record_prefix(record) == *wanted) {
                let (pack_kind, entry) = self.resolve(record)?;
                if pack_kind == kind {
                    found.push(entry);
                }
            }
        }
        Ok(())
    }

    /// Lists the packs that it names.
    ///
    /// # Errors
    /// As [`Segment::find`].
    pub(crate) fn packs(&self) -> Result<Vec<(PackKind, PackName)>> {
        (0..self.layout.packs).map(|number| self.pack(number)).collect()
    }

    /// Lists all its entries, in the order of their prefixes. The whole segment is read into memory.
    ///
    /// # Errors
    /// As [`Segment::find`].
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let plaintext = self.body.read(0..self.body.len())?;
        let body = Body::in_memory(self.body.name(), plaintext);
        let filter = BinaryFuse8 {
            descriptor: self.filter.descriptor.clone(),
            fingerprints: Box::default(),
        };
        let whole = Self { body, layout: self.layout, fences: Vec::new(), filter };
        let mut entries = Vec::with_capacity(self.layout.records);
        for group in 0..self.layout.records.div_ceil(GROUP_RECORDS) {
            let records = whole.group(group)?;
            for record in records.as_chunks::<RECORD_BYTES>().0 {
                let (pack_kind, Found { location, kind, bases }) = whole.resolve(record)?;
                let prefix = record_prefix(record);
                entries.push(Entry { prefix, kind, pack_kind, location, bases });
            }
        }
        Ok(entries)
    }

    /// Reads all of it: what is damaged in a cache is found.
    ///
    /// # Errors
    /// As [`Segment::find`].
    pub(crate) fn check(&self) -> Result<()> {
        self.body.read(0..self.body.len()).map(|_| ())
    }

    fn group(&self, group: usize) -> Result<bytes::Bytes> {
        let first = group.saturating_mul(GROUP_RECORDS);
        let count = self.layout.records.saturating_sub(first).min(GROUP_RECORDS);
        self.body.read(self.range(0, first, count, RECORD_BYTES)?)
    }

    /// Returns the range of some entries of a table.
    fn range(&self, table: usize, first: usize, count: usize, size: usize) -> Result<Range<usize>> {
        let corrupt = || self.body.corrupt("it names what it does not hold");
        let counts = self.layout.counts();
        let is_inside = first
            .checked_add(count)
            .is_some_and(|end| counts.get(table).is_some_and(|length| end <= *length));
        let start = self.layout.start(table).filter(|_| is_inside).ok_or_else(corrupt)?;
        Ok(start + first * size..start + (first + count) * size)
    }

    fn numbers<const N: usize>(&self, table: usize, number: u32) -> Result<[u32; N]> {
        let bytes = self.body.read(self.range(table, number as usize, 1, 4 * N)?)?;
        let mut numbers = [0; N];
        for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *number = u32::from_le_bytes(*bytes);
        }
        Ok(numbers)
    }

    fn pack(&self, number: usize) -> Result<(PackKind, PackName)> {
        let bytes = self.body.read(self.range(2, number, 1, PACK_BYTES)?)?;
        let corrupt = || self.body.corrupt("a pack of no known kind");
        let (kind, name) = bytes.split_first().ok_or_else(corrupt)?;
        let kind = match kind {
            0 => PackKind::Data,
            1 => PackKind::Meta,
            _ => return Err(corrupt()),
        };
        Ok((kind, PackName(name.try_into().map_err(|_| corrupt())?)))
    }

    fn resolve(&self, record: &[u8; RECORD_BYTES]) -> Result<(PackKind, Found)> {
        let mut numbers = [0; 4];
        let (_, tail) = record.split_at(PREFIX_BYTES);
        for (number, bytes) in numbers.iter_mut().zip(tail.as_chunks::<4>().0) {
            *number = u32::from_le_bytes(*bytes);
        }
        let [block, offset_in_block, length, extra] = numbers;
        let [pack, block_offset, block_length] = self.numbers::<3>(1, block)?;
        let (pack_kind, pack) = self.pack(pack as usize)?;
        let (kind, bases) = match extra {
            EXTRA_FULL => (EntryKind::Full, Vec::new()),
            EXTRA_NODE => (EntryKind::Node, Vec::new()),
            delta => (EntryKind::Delta, self.bases(delta - EXTRA_DELTA)?),
        };
        if (kind == EntryKind::Node) != (pack_kind == PackKind::Meta) {
            return Err(self.body.corrupt("a record in a pack of another kind"));
        }
        let location = Location { pack, block_offset, block_length, offset_in_block, length };
        Ok((pack_kind, Found { location, kind, bases }))
    }

    fn bases(&self, delta: u32) -> Result<Vec<ChunkId>> {
        let [first, count] = self.numbers::<2>(3, delta)?;
        if count == 0 || count as usize > DELTA_BASES_MAX {
            return Err(self.body.corrupt("a delta without bases or with too many"));
        }
        let bytes = self.body.read(self.range(4, first as usize, count as usize, BASE_BYTES)?)?;
        Ok(bytes.as_chunks::<BASE_BYTES>().0.iter().map(|id| ChunkId(*id)).collect())
    }
}

/// Makes a filter whose look-ups stay within its bytes; none where these numbers do not.
fn filter(seed: u64, lengths: (u32, u32), fingerprints: Vec<u8>) -> Option<BinaryFuse8> {
    let (segment_length, segment_count_length) = lengths;
    let is_sound = segment_length.is_power_of_two()
        && segment_count_length > 0
        && segment_count_length.is_multiple_of(segment_length)
        && u64::from(segment_count_length) + 2 * u64::from(segment_length)
            == fingerprints.len() as u64
        && fingerprints.len() <= SEGMENT_BYTES_MAX;
    is_sound.then(|| BinaryFuse8 {
        descriptor: xorf::Descriptor {
            seed,
            segment_length,
            segment_length_mask: segment_length - 1,
            segment_count_length,
        },
        fingerprints: fingerprints.into_boxed_slice(),
    })
}

fn record_prefix(record: &[u8; RECORD_BYTES]) -> Prefix {
    prefix(record)
}

/// The first eight bytes of a prefix, in the order of the records.
fn order_key(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// What the filter is asked for. Ids are keyed hashes: any eight bytes of them are as good as a hash.
fn filter_key(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
