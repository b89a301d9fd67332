//! What was found to be damaged, and what it reaches.
//!
//! Damage is collected per object: first that something is wrong with it, later, while trees are
//! walked, which items need it. Points follow at the end, from the snapshots.

use std::collections::{BTreeSet, HashMap};

use super::Damage;
use crate::point::PointId;
use crate::types::SessionId;

/// The number of a damaged object among the findings.
pub(super) type DamageNumber = usize;

/// All damage so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Found>,
    numbers: HashMap<String, DamageNumber>,
    named_max: usize,
}

#[derive(Debug)]
struct Found {
    object: String,
    what: String,
    items: Vec<(SessionId, String)>,
    item_count: u64,
    snapshots: BTreeSet<SessionId>,
    points: BTreeSet<PointId>,
    /// Counts only where something needs the object.
    is_provisional: bool,
}

impl Findings {
    /// Begins; each damage names at most `named_max` items.
    pub(super) fn new(named_max: usize) -> Self {
        Self { named_max, ..Self::default() }
    }

    /// Says that an object is damaged. What was said of it first stands.
    pub(super) fn add(&mut self, object: &str, what: String) -> DamageNumber {
        let number = self.entry(object, what);
        if let Some(found) = self.found.get_mut(number) {
            found.is_provisional = false;
        }
        number
    }

    /// Says that an object is of no use, which is damage only where something needs it.
    pub(super) fn add_provisional(&mut self, object: &str, what: String) -> DamageNumber {
        let is_known = self.numbers.contains_key(object);
        let number = self.entry(object, what);
        if let Some(found) = self.found.get_mut(number).filter(|_| !is_known) {
            found.is_provisional = true;
        }
        number
    }

    fn entry(&mut self, object: &str, what: String) -> DamageNumber {
        if let Some(number) = self.numbers.get(object) {
            return *number;
        }
        let number = self.found.len();
        self.numbers.insert(object.to_owned(), number);
        self.found.push(Found {
            object: object.to_owned(),
            what,
            items: Vec::new(),
            item_count: 0,
            snapshots: BTreeSet::new(),
            points: BTreeSet::new(),
            is_provisional: false,
        });
        number
    }

    /// Says that `count` items of a snapshot need the object, and how they are called.
    pub(super) fn reach_items(
        &mut self,
        number: DamageNumber,
        snapshot: &SessionId,
        name: impl FnOnce() -> String,
        count: u64,
    ) {
        let named_max = self.named_max;
        if let Some(found) = self.found.get_mut(number) {
            found.item_count = found.item_count.saturating_add(count);
            if found.items.len() < named_max {
                found.items.push((snapshot.clone(), name()));
            }
        }
    }

    /// Says that a snapshot needs the object.
    pub(super) fn reach_snapshot(&mut self, number: DamageNumber, snapshot: &SessionId) {
        if let Some(found) = self.found.get_mut(number) {
            found.snapshots.insert(snapshot.clone());
        }
    }

    /// Says that a point needs the object; returns whether it is the first that does.
    pub(super) fn reach_point(&mut self, number: DamageNumber, point: &PointId) -> bool {
        let Some(found) = self.found.get_mut(number) else { return false };
        let is_first = found.points.is_empty();
        found.points.insert(point.clone());
        is_first
    }

    /// Returns all damage in the order of objects, and how many objects turned out to be in nobody's
    /// way. `points` are those that name each snapshot.
    pub(super) fn finish(self, points: &HashMap<SessionId, Vec<PointId>>) -> (Vec<Damage>, u64) {
        let (mut damage, mut harmless) = (Vec::new(), 0);
        for mut found in self.found {
            let named = found.snapshots.iter().filter_map(|snapshot| points.get(snapshot));
            found.points.extend(named.flatten().cloned());
            if found.is_provisional && found.snapshots.is_empty() && found.points.is_empty() {
                harmless += 1;
                continue;
            }
            let Found { object, what, mut items, item_count, points, .. } = found;
            items.sort();
            let points = points.into_iter().collect();
            damage.push(Damage { object, what, items, item_count, points });
        }
        damage.sort_by(|a, b| a.object.cmp(&b.object));
        (damage, harmless)
    }
}
