//! Fair parts of what is scarce: what one claimant takes may not be missing to the next.
//!
//! Nothing is set apart for those who are not there, and nothing that was admitted is thrown out. Instead a claimant
//! may hold **as much as is free, or a certain part of that** (the dynamic thresholds of packet switches). One that takes
//! all it can therefore leaves as much free as it holds, or several times as much, and the next one likewise.
//!
//! With two levels, hubs and the senders that each of them names, each hub besides has a floor that is always its own,
//! for their number is known; and the senders share what their hub may have.

use std::collections::BTreeMap;

use crate::planted::{Fault, planted};

/// A stock of something, and who holds how much of it.
#[derive(Debug, Clone)]
pub(crate) struct Fair<K> {
    limit: u64,
    /// Nobody gets more while it holds 1/part of what is free.
    part: u64,
    total: u64,
    parts: BTreeMap<K, u64>,
}

impl<K: Ord + Copy> Fair<K> {
    pub(crate) fn new(limit: u64, part: u64) -> Self {
        Self { limit, part, total: 0, parts: BTreeMap::new() }
    }

    /// Another limit; what is held beyond it stays held.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn of(&self, key: &K) -> u64 {
        self.parts.get(key).copied().unwrap_or(0)
    }

    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.total)
    }

    /// What this claimant may take now.
    pub(crate) fn room(&self, key: &K) -> u64 {
        (self.free() / self.part).saturating_sub(self.of(key))
    }

    /// Notes what is taken, in any case.
    pub(crate) fn add(&mut self, key: K, amount: u64) {
        if amount > 0 {
            *self.parts.entry(key).or_default() += amount;
            self.total += amount;
        }
    }

    /// Notes what is given back; no more than was taken.
    pub(crate) fn remove(&mut self, key: &K, amount: u64) {
        let left = self.of(key).checked_sub(amount).zip(self.total.checked_sub(amount));
        let Some((part, total)) = left else {
            debug_assert!(false, "{amount} given back, and less was taken");
            return;
        };
        self.total = total;
        if part > 0 {
            self.parts.insert(*key, part);
        } else {
            self.parts.remove(key);
        }
    }
}

/// A stock with two levels of claimants.
#[derive(Debug, Clone)]
pub(crate) struct Nested<O, I> {
    outer: Fair<O>,
    inner: BTreeMap<(O, I), u64>,
}

/// Through a hub no sender gets more while it holds a quarter of what the hub may still have: so ten that take all they
/// can leave a tenth of it.
pub(crate) const SENDERS_PART: u64 = 4;

impl<O: Ord + Copy, I: Ord + Copy> Nested<O, I> {
    pub(crate) fn new(limit: u64) -> Self {
        Self { outer: Fair::new(limit, 1), inner: BTreeMap::new() }
    }

    pub(crate) fn total(&self) -> u64 {
        self.outer.total()
    }

    pub(crate) fn of(&self, outer: &O) -> u64 {
        self.outer.of(outer)
    }

    /// What the second holds through the first.
    pub(crate) fn of_both(&self, outer: O, inner: I) -> u64 {
        self.inner.get(&(outer, inner)).copied().unwrap_or(0)
    }

    /// What the second may take now through the first, of whom there are so many.
    pub(crate) fn room(&self, outer: O, inner: I, outers: usize) -> u64 {
        let floor = self.outer.limit / (2 * outers.max(1) as u64);
        let room = self.outer.free().max(floor).saturating_sub(self.outer.of(&outer));
        if planted(Fault::SendersShareAHubsPlaces) {
            return room;
        }
        (room / SENDERS_PART).saturating_sub(self.of_both(outer, inner))
    }

    /// Notes what is taken, in any case.
    pub(crate) fn add(&mut self, outer: O, inner: I, amount: u64) {
        if amount > 0 {
            *self.inner.entry((outer, inner)).or_default() += amount;
            self.outer.add(outer, amount);
        }
    }

    /// Notes what is given back; no more than was taken.
    pub(crate) fn remove(&mut self, outer: O, inner: I, amount: u64) {
        let key = (outer, inner);
        let Some(left) = self.inner.get(&key).copied().unwrap_or(0).checked_sub(amount) else {
            debug_assert!(false, "{amount} given back, and less was taken");
            return;
        };
        if left > 0 {
            self.inner.insert(key, left);
        } else {
            self.inner.remove(&key);
        }
        self.outer.remove(&outer, amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes all that it can, one by one.
    fn take_all(fair: &mut Fair<u8>, key: u8) -> u64 {
        while fair.room(&key) > 0 {
            fair.add(key, 1);
        }
        fair.of(&key)
    }

    #[test]
    fn who_takes_all_it_can_leaves_as_much() {
        let mut fair = Fair::new(1200, 1);
        assert_eq!(take_all(&mut fair, 1), 600);
        assert_eq!(take_all(&mut fair, 2), 300, "of what the first has left");
        fair.remove(&1, 600);
        assert_eq!(take_all(&mut fair, 2), 600);
        fair.remove(&2, 600);
        assert_eq!((fair.total(), fair.parts.len()), (0, 0));
    }

    #[test]
    fn a_sender_leaves_room_in_its_hub_and_in_others() {
        let mut nested = Nested::new(1200);
        while nested.room(1, 'a', 5) > 0 {
            nested.add(1, 'a', 1);
        }
        assert_eq!(nested.of(&1), 200);
        assert_eq!((nested.room(1, 'b', 5), nested.room(2, 'a', 5)), (200, 250));
        nested.remove(1, 'a', 200);
        assert_eq!((nested.total(), nested.inner.len()), (0, 0));
    }

    #[test]
    fn a_hub_has_its_floor_whatever_the_others_take() {
        let mut nested = Nested::new(1200);
        for hub in 1..20 {
            for sender in 0..100 {
                while nested.room(hub, sender, 20) > 0 {
                    nested.add(hub, sender, 1);
                }
            }
        }
        assert_eq!(nested.room(20, 0, 20), 30 / SENDERS_PART);
        assert!(nested.total() <= 1200 + 1200 / 2, "{}", nested.total());
    }

    proptest! {
        /// However many are greedy, and in whatever order, one that holds nothing finds a part of its own.
        #[test]
        fn greedy_ones_leave_a_part(
            greedy in 1u8..12,
            part in 1u64..5,
            order in prop::collection::vec(0u8..12, 0..4000)
        ) {
            let limit = 2000;
            let mut fair = Fair::new(limit, part);
            for key in order {
                if key < greedy && fair.room(&key) > 0 {
                    fair.add(key, 1);
                }
            }
            for key in 0..greedy {
                take_all(&mut fair, key);
            }
            let mut least = limit;
            for _ in 0..greedy {
                // Rounded in favour of those that take.
                least = (least * part / (part + 1)).saturating_sub(part);
            }
            prop_assert!(fair.free() >= least, "{} of {least}", fair.free());
        }
    }
}
