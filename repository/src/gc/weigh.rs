//! Choosing where each thing that is needed is kept: a merge of all references with all places.
//!
//! What is needed is an id, not a pack: of several places one is enough. A delta is a place only where
//! all that it is decoded against is somewhere in full (it may have gone: somebody kept another copy of
//! the same chunk), and choosing it makes that needed. Both lists are in the order of ids, so that one
//! pass decides; finding out about bases takes one before it and one after it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use model::{Context, Result};

use super::places::{Known, PackInfo, PlaceOf, Places, SortedPlaces};
use super::repack::Stranded;
use super::walk::{Noted, Reference, References};
use crate::index::segment::Prefix;
use crate::types::{PackKind, PackName};

/// How much of a pack is needed, in decoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Weight {
    pub(super) live: u64,
    pub(super) total: u64,
}

impl Weight {
    /// In thousandths.
    pub(super) fn share(self) -> u64 {
        (self.live * 1000).checked_div(self.total).unwrap_or(0)
    }
}

/// What was decided, by number of pack.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    pub(super) weights: Vec<Weight>,
    /// Something that is needed is kept there.
    pub(super) needed: Vec<bool>,
    /// Things that are needed and nowhere to be found.
    pub(super) lost: u64,
}

impl Weighed {
    fn is_needed(&self, pack: u32) -> bool {
        self.needed.get(pack as usize).copied().unwrap_or(false)
    }

    fn need(&mut self, pack: u32) {
        if let Some(needed) = self.needed.get_mut(pack as usize) {
            *needed = true;
        }
    }
}

/// What weighing needs to know beside references and places.
pub(super) struct Scales<'s> {
    /// Packs that are to go: what lies elsewhere is not kept in them.
    pub(super) condemned: &'s HashSet<PackName>,
    pub(super) memory_bytes: usize,
    pub(super) folder: &'s Path,
    pub(super) context: &'s Context,
}

impl Scales<'_> {
    /// Weighs every pack and chooses one place for each reference. Blocks.
    pub(super) fn weigh(&self, noted: &mut Noted, places: &mut Places) -> Result<Weighed> {
        let Places { known, sorted, .. } = places;
        let count = known.packs.all.len();
        // What no segment names is found by nobody who was told another place: a last resort as well.
        let is_condemned: Vec<_> = known
            .packs
            .all
            .iter()
            .map(|pack| level(pack, self.condemned.contains(&pack.name)))
            .collect();
        let mut weighed = Weighed {
            weights: vec![Weight::default(); count],
            needed: vec![false; count],
            lost: 0,
        };
        let Noted { references, hinted, .. } = noted;
        join(references, sorted, |group| {
            weighed.add(group);
            Ok(())
        })?;
        let bases = self.bases(known, sorted, &is_condemned)?;
        let at = At { known, is_condemned: &is_condemned, hinted, bases: &bases };
        let mut needed = References::new(self.memory_bytes, self.folder, self.context);
        join(references, sorted, |group| at.choose(group, &mut weighed, &mut needed))?;
        // Bases lie in full: they have none.
        let mut none = References::new(self.memory_bytes, self.folder, self.context);
        join(&mut needed, sorted, |group| at.choose(group, &mut weighed, &mut none))?;
        Ok(weighed)
    }

    /// Finds out where the bases of all deltas lie in full.
    fn bases(
        &self,
        known: &Known,
        sorted: &mut SortedPlaces,
        is_condemned: &[u8],
    ) -> Result<Bases> {
        let mut wanted = References::new(self.memory_bytes, self.folder, self.context);
        for prefix in known.all_bases() {
            wanted.push(full(prefix).encode())?;
        }
        let mut found = Bases::new();
        join(&mut wanted, sorted, |group| {
            let in_full = group.places.iter().filter(|place| place.bases.is_none());
            let condemned = in_full
                .map(|place| is_condemned.get(place.pack as usize).copied().unwrap_or(UNNAMED))
                .min();
            if let (Some(reference), Some(condemned)) = (group.references.first(), condemned) {
                found.insert(reference.prefix, condemned);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Bases that lie somewhere in full, and what using the best such place costs.
type Bases = HashMap<Prefix, u8>;

/// What using a place costs: nothing; a pack that is to go; that nobody else finds it; or that it may
/// not be there at all.
const FREE: u8 = 0;
const CONDEMNED: u8 = 1;
const UNNAMED: u8 = 2;
const LOST: u8 = 3;

fn level(pack: &PackInfo, is_condemned: bool) -> u8 {
    match (pack.is_lost, pack.is_named, is_condemned) {
        (true, _, _) => LOST,
        (false, true, false) => FREE,
        (false, true, true) => CONDEMNED,
        (false, false, _) => UNNAMED,
    }
}

/// A reference to the base of a delta.
fn full(prefix: Prefix) -> Reference {
    Reference { prefix, kind: PackKind::Data, is_full: true, hint: None }
}

/// What places are chosen by.
struct At<'a> {
    bases: &'a Bases,
    known: &'a Known,
    is_condemned: &'a [u8],
    hinted: &'a [PackName],
}

impl At<'_> {
    fn choose(&self, group: &Group, weighed: &mut Weighed, bases: &mut References) -> Result<()> {
        if group.references.is_empty() {
            return Ok(());
        }
        let is_full = group.references.iter().any(|reference| reference.is_full);
        let usable = group.places.iter().filter(|place| !is_full || place.bases.is_none());
        let ranked = usable.filter_map(|place| Some((self.rank(place, weighed)?, place)));
        if let Some((_, chosen)) = ranked.min_by_key(|(rank, _)| *rank) {
            weighed.need(chosen.pack);
            for prefix in chosen.bases.into_iter().flat_map(|bases| self.known.bases_of(bases)) {
                bases.push(full(prefix).encode())?;
            }
            return Ok(());
        }
        // The index does not know it: where a manifest says that it lies it may still be.
        let hints = group.references.iter().filter_map(|reference| reference.hint);
        let hints: Vec<_> = hints
            .filter_map(|hint| self.known.packs.number(self.hinted.get(hint as usize)?))
            .filter(|number| self.known.packs.get(*number).is_some_and(|p| p.kind == group.kind))
            .collect();
        if hints.is_empty() {
            weighed.lost += 1;
        }
        hints.into_iter().for_each(|number| weighed.need(number));
        // A delta is better than nothing, whatever it lacks.
        group.places.iter().for_each(|place| weighed.need(place.pack));
        Ok(())
    }

    /// Orders places, the best first; none for a delta that cannot be decoded.
    fn rank(&self, place: &PlaceOf, weighed: &Weighed) -> Option<Rank> {
        let bases = place.bases.into_iter().flat_map(|bases| self.known.bases_of(bases));
        let bases = bases.map(|prefix| self.bases.get(&prefix).copied());
        let of_bases = bases.collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or(FREE);
        let of_pack = self.is_condemned.get(place.pack as usize).copied().unwrap_or(UNNAMED);
        // What is kept anyway costs nothing more.
        let is_kept = of_pack == CONDEMNED && weighed.is_needed(place.pack);
        let costs = if is_kept { FREE } else { of_pack };
        let share = weighed.weights.get(place.pack as usize).map_or(0, |weight| weight.share());
        let pack = self.known.packs.get(place.pack)?;
        Some((costs.max(of_bases), Reverse(share), place.bases.is_some(), pack.name))
    }
}

/// What a place costs, how much of its pack is needed, whether it is a
/// delta, and the pack's name.
type Rank = (u8, Reverse<u64>, bool, PackName);

impl Weighed {
    fn add(&mut self, group: &Group) {
        let is_live = !group.references.is_empty();
        let mut previous = None;
        for place in &group.places {
            // Several segments may say the same.
            if previous == Some(place.pack) {
                continue;
            }
            previous = Some(place.pack);
            if let Some(weight) = self.weights.get_mut(place.pack as usize) {
                weight.total += u64::from(place.length);
                weight.live += if is_live { u64::from(place.length) } else { 0 };
            }
        }
    }
}

/// All that is said of one id.
struct Group {
    kind: PackKind,
    references: Vec<Reference>,
    places: Vec<PlaceOf>,
}

type Key = (Prefix, bool);

/// Goes through both lists together, id by id.
fn join(
    references: &mut References,
    places: &mut SortedPlaces,
    mut visit: impl FnMut(&Group) -> Result<()>,
) -> Result<()> {
    let mut references = references.sorted()?;
    let mut listed = places.sorted()?;
    let mut reference = references.next()?.map(|bytes| Reference::decode(&bytes));
    let mut place = listed.next()?.map(|bytes| PlaceOf::decode(&bytes));
    loop {
        let of_reference = reference.map(|r| (r.prefix, r.kind == PackKind::Meta));
        let of_place = place.map(|p| (p.prefix, p.kind == PackKind::Meta));
        let Some(key) = of_reference.into_iter().chain(of_place).min() else { return Ok(()) };
        let key: Key = key;
        let kind = if key.1 { PackKind::Meta } else { PackKind::Data };
        let mut group = Group { kind, references: Vec::new(), places: Vec::new() };
        while let Some(next) = reference.filter(|r| (r.prefix, r.kind == PackKind::Meta) == key) {
            group.references.push(next);
            reference = references.next()?.map(|bytes| Reference::decode(&bytes));
        }
        while let Some(next) = place.filter(|p| (p.prefix, p.kind == PackKind::Meta) == key) {
            group.places.push(next);
            place = listed.next()?.map(|bytes| PlaceOf::decode(&bytes));
        }
        visit(&group)?;
    }
}

/// Finds what of some packs is needed and lies in no other. Blocks.
pub(super) fn stranded(
    scales: &Scales<'_>,
    noted: &mut Noted,
    places: &mut Places,
    victims: &HashSet<u32>,
) -> Result<Stranded> {
    let Places { known, sorted, .. } = places;
    let is_victim: Vec<_> = (0_u32..)
        .zip(&known.packs.all)
        .map(|(number, pack)| level(pack, victims.contains(&number)))
        .collect();
    let bases = scales.bases(known, sorted, &is_victim)?;
    let mut stranded = Stranded::new();
    join(&mut noted.references, sorted, |group| {
        if group.references.is_empty() {
            return Ok(());
        }
        let is_full = group.references.iter().any(|reference| reference.is_full);
        let mut found = Vec::new();
        for place in group.places.iter().filter(|place| !is_full || place.bases.is_none()) {
            let of_it = place.bases.into_iter().flat_map(|bases| known.bases_of(bases));
            let of_bases: Option<Vec<_>> = of_it.map(|p| bases.get(&p).copied()).collect();
            let of_pack = is_victim.get(place.pack as usize).copied().unwrap_or(UNNAMED);
            match of_bases {
                None => {}
                // It stays where it is.
                Some(of) if of_pack == FREE && of.iter().all(|one| *one == FREE) => return Ok(()),
                Some(_) if victims.contains(&place.pack) => {
                    found.push((place.bases.is_some(), place.pack));
                }
                Some(_) => {}
            }
        }
        let best = found.into_iter().min();
        if let (Some((_, pack)), Some(reference)) = (best, group.references.first()) {
            stranded.entry(pack).or_default().insert(reference.prefix);
        }
        Ok(())
    })?;
    Ok(stranded)
}

#[cfg(test)]
mod tests;
