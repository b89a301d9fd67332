//! Makes one of states that differ by names alone.
//!
//! A permutation of writers, collectors or packs leads to a state that behaves the same: nothing in the
//! model chooses by a number. So each state is replaced by one that is reached by sorting. Sorting need
//! not find the same for all of a class (that would cost more than it saves); any choice is sound.

use super::state::{
    Collector, CollectorStep, FIRST, NO_PACK, Packs, Point, SESSIONS, SLOTS, SessionSet, Stands,
    State, WRITERS, WriterStep, pack_bit, session_bit, slots,
};
use super::{Protocol, writer};

impl State {
    /// Returns the state that stands for all that differ from this one by names alone.
    pub fn canonical(mut self, protocol: &Protocol) -> Self {
        self.forget_what_cannot_matter(protocol);
        self.sort_writers(protocol.bounds.writers);
        self.collectors[..protocol.bounds.collectors].sort_unstable();
        self.sort_packs();
        self
    }

    fn forget_what_cannot_matter(&mut self, protocol: &Protocol) {
        if !protocol.bounds.has_point {
            // Commits and forgets are listed in one step then, so nobody can tell the difference.
            for writer in &mut self.writers {
                for stands in &mut writer.sessions {
                    if matches!(stands, Stands::Forgotten(_)) {
                        *stands = Stands::Closed;
                    }
                }
            }
            if matches!(self.first, Stands::Forgotten(_)) {
                self.first = Stands::Closed;
            }
        }
        for writer in &mut self.writers {
            writer::forget_what_cannot_matter(protocol, writer);
        }
        self.forget_sessions(protocol);
        // A pack that is gone, named by no segment and by nobody who may still write one, never returns.
        let mut kept = self.exists | self.indexed;
        for writer in &self.writers {
            kept |= pack_bit(writer.pack);
        }
        for collector in &self.collectors {
            kept |= pack_bit(collector.copy);
            if matches!(collector.step, CollectorStep::WriteIndex) {
                kept |= collector.merged;
            }
        }
        self.map_packs(|packs| packs & kept);
        for slot in slots(!kept) {
            self.content[slot] = 0;
        }
        // Whoever works on a generation that is done may still create its objects, but only then.
        for n in (0..self.done_count()).filter(|n| protocol.is_over(self, *n)).collect::<Vec<_>>() {
            let is_at_it = |collector: &Collector| {
                collector.step != CollectorStep::Survey && usize::from(collector.generation) == n
            };
            if !self.collectors.iter().any(is_at_it) {
                self.generations[n].condemned = None;
                self.generations[n].outcome = None;
            }
        }
    }

    /// Of two snapshots that refer to the same, one may be dropped: all that can happen with both happens
    /// with one, as either may be forgotten. Who is not open is in no list of those that are.
    fn forget_sessions(&mut self, protocol: &Protocol) {
        let mut open = 0;
        let mut committed = [false; 4];
        let sessions: Vec<_> = self.sessions().collect();
        for (bit, stands) in sessions.into_iter().rev() {
            match stands {
                Stands::Announced | Stands::Withdrawn => open |= bit,
                // A writer that has just committed a checkpoint goes on from there.
                Stands::Committed(refs)
                    if !protocol.bounds.has_point
                        && !self.is_looked_at(bit)
                        && std::mem::replace(&mut committed[usize::from(refs)], true) =>
                {
                    self.put(bit, Stands::Closed);
                }
                _ => {}
            }
        }
        for collector in &mut self.collectors {
            collector.sessions &= open;
        }
    }

    fn is_looked_at(&self, bit: SessionSet) -> bool {
        self.writers.iter().enumerate().any(|(n, writer)| {
            let current = usize::from(writer.session);
            let is_checkpoint = writer.has_checkpoint || writer.step == WriterStep::CheckCheckpoint;
            bit == session_bit(n, current)
                || (is_checkpoint && current > 0 && bit == session_bit(n, current - 1))
        })
    }

    fn map_packs(&mut self, map: impl Fn(Packs) -> Packs) {
        self.exists = map(self.exists);
        self.indexed = map(self.indexed);
        for writer in &mut self.writers {
            writer.known = map(writer.known);
        }
        for collector in &mut self.collectors {
            collector.condemned = map(collector.condemned);
            collector.sweep = map(collector.sweep);
            collector.merged = map(collector.merged);
            collector.dropped = map(collector.dropped);
        }
        for generation in &mut self.generations {
            generation.condemned = generation.condemned.map(&map);
            generation.outcome =
                generation.outcome.map(|(sweep, dropped)| (map(sweep), map(dropped)));
        }
    }

    fn sort_writers(&mut self, count: usize) {
        let mut order: [usize; WRITERS] = std::array::from_fn(|n| n);
        order[..count].sort_by_key(|n| self.writers[*n]);
        if order.is_sorted() {
            return;
        }
        let before = *self;
        let renamed = |set: SessionSet| {
            let mut renamed = set & FIRST;
            for (new, old) in order.iter().enumerate() {
                let mask = (1 << SESSIONS) - 1;
                renamed |= (set >> (old * SESSIONS) & mask) << (new * SESSIONS);
            }
            renamed
        };
        self.writers = order.map(|old| before.writers[old]);
        for collector in &mut self.collectors {
            collector.sessions = renamed(collector.sessions);
            collector.forgets = renamed(collector.forgets);
        }
        let rename = |n: u8| renamed(1 << n).trailing_zeros() as u8;
        self.point = match self.point {
            Point::Created(n) => Point::Created(rename(n)),
            Point::Sealed(n) => Point::Sealed(rename(n)),
            point => point,
        };
    }

    /// What is known of a pack, as a number: equal for those that can be exchanged.
    fn signature(&self, slot: usize) -> u128 {
        let mut signature = u128::from(self.content[slot] != 0);
        let mut push = |value: u8, bits: u32| signature = signature << bits | u128::from(value);
        let is_in = |packs: Packs| packs >> slot & 1;
        push(self.content[slot], 3);
        push(is_in(self.exists), 1);
        push(is_in(self.indexed), 1);
        for writer in &self.writers {
            push(is_in(writer.known), 1);
            push(u8::from(usize::from(writer.pack) == slot), 1);
        }
        for collector in &self.collectors {
            push(is_in(collector.condemned), 1);
            push(is_in(collector.sweep), 1);
            push(is_in(collector.merged), 1);
            push(is_in(collector.dropped), 1);
            push(u8::from(usize::from(collector.copy) == slot), 1);
        }
        for generation in &self.generations {
            push(is_in(generation.condemned.unwrap_or(0)), 1);
            let (sweep, dropped) = generation.outcome.unwrap_or((0, 0));
            push(is_in(sweep), 1);
            push(is_in(dropped), 1);
        }
        signature
    }

    fn sort_packs(&mut self) {
        let mut order: [usize; SLOTS] = std::array::from_fn(|n| n);
        let signatures: [u128; SLOTS] = std::array::from_fn(|slot| self.signature(slot));
        if signatures.is_sorted_by(|a, b| a >= b) {
            return;
        }
        order.sort_by_key(|slot| std::cmp::Reverse(signatures[*slot]));
        let mut places = [0; SLOTS];
        for (new, old) in order.iter().enumerate() {
            places[*old] = new;
        }
        self.content = order.map(|old| self.content[old]);
        self.map_packs(|packs| slots(packs).fold(0, |set, slot| set | 1 << places[slot]));
        let rename =
            |pack: u8| if pack == NO_PACK { pack } else { places[usize::from(pack)] as u8 };
        for writer in &mut self.writers {
            writer.pack = rename(writer.pack);
        }
        for collector in &mut self.collectors {
            collector.copy = rename(collector.copy);
        }
    }
}
