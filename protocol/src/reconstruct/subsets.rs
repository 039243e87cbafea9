//! Subsets of shares: all of them where there are few enough, otherwise a random sample.
//!
//! The order is random either way, so that liars cannot choose places for which the search takes longest.
//! Shares are named by their index in a list sorted by position; nothing here sees their bytes.

use rand_core::CryptoRng;

/// A set of indices of shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct IndexSet([u128; 2]);

impl IndexSet {
    pub(super) fn insert(&mut self, index: u8) {
        self.0[usize::from(index >> 7)] |= 1 << (index & 127);
    }

    pub(super) fn contains(&self, index: u8) -> bool {
        self.0[usize::from(index >> 7)] >> (index & 127) & 1 == 1
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|half| half.count_ones() as usize).sum()
    }

    /// The indices in rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|&index| self.contains(index))
    }
}

/// A run through subsets of k out of s indices.
pub(super) struct Subsets {
    /// The indices in random order; a sample shuffles them again for every subset.
    order: Vec<u8>,
    /// Places in `order` of the next subset, in lexicographic order; unused by a sample.
    places: Vec<u8>,
    /// The subset handed out, sorted.
    subset: Vec<u8>,
    k: usize,
    left: u64,
    exhaustive: bool,
}

impl Subsets {
    /// All subsets of k out of `shares` indices, or `subsets_max` random ones where there are more.
    pub(super) fn new(shares: u8, k: u8, subsets_max: u64, rng: &mut dyn CryptoRng) -> Self {
        let all = choose(shares, k).filter(|all| *all <= subsets_max);
        let mut order: Vec<u8> = (0..shares).collect();
        shuffle(&mut order, shares.into(), rng);
        Self {
            order,
            places: (0..k).collect(),
            subset: Vec::with_capacity(k.into()),
            k: k.into(),
            left: all.unwrap_or(subsets_max),
            exhaustive: all.is_some(),
        }
    }

    /// The subsets that a search under a bound looks at: one of more than 256 coefficients (shares times k) counts in
    /// proportion.
    pub(super) fn for_search(shares: usize, k: u8, subsets_max: u64, rng: &mut dyn CryptoRng) -> Self {
        let cost = (shares as u64 * u64::from(k)).div_ceil(256);
        Self::new(u8::try_from(shares).unwrap_or(u8::MAX), k, subsets_max / cost, rng)
    }

    /// Whether these are all subsets there are.
    pub(super) fn is_exhaustive(&self) -> bool {
        self.exhaustive
    }

    /// The next subset, sorted; `None` after the last.
    pub(super) fn next(&mut self, rng: &mut dyn CryptoRng) -> Option<&[u8]> {
        self.left = self.left.checked_sub(1)?;
        self.subset.clear();
        if self.exhaustive {
            self.subset.extend(self.places.iter().map(|&place| self.order[usize::from(place)]));
            self.advance();
        } else {
            shuffle(&mut self.order, self.k, rng);
            self.subset.extend(self.order.iter().take(self.k));
        }
        self.subset.sort_unstable();
        Some(&self.subset)
    }

    /// Moves to the next combination of places; stays on the last one.
    fn advance(&mut self) {
        let slack = self.order.len() - self.k;
        let movable = self.places.iter().enumerate().rposition(|(i, &place)| usize::from(place) < i + slack);
        if let Some(i) = movable {
            let start = self.places[i] + 1;
            for (place, next) in self.places[i..].iter_mut().zip(start..) {
                *place = next;
            }
        }
    }
}

/// Puts random elements in random order into the first `count` places.
fn shuffle(order: &mut [u8], count: usize, rng: &mut dyn CryptoRng) {
    for place in 0..count.min(order.len()) {
        let choices = (order.len() - place) as u64;
        // The bias of the remainder, below 2^-56, does not matter for the order of a search.
        let step = usize::try_from(rng.next_u64() % choices).unwrap_or(0);
        order.swap(place, place + step);
    }
}

/// The number of subsets of k out of n; `None` where it passes 64 bits on the way.
fn choose(n: u8, k: u8) -> Option<u64> {
    let k = u64::from(k.min(n - k));
    (0..k).try_fold(1_u64, |product, i| Some(product.checked_mul(u64::from(n) - i)? / (i + 1)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::reconstruct::WorkBound;

    #[test]
    fn all_subsets_come_once() {
        let mut rng = StdRng::seed_from_u64(1);
        for (n, k, count) in [(1, 1, 1), (5, 3, 10), (7, 7, 1), (12, 6, 924), (9, 1, 9)] {
            let mut subsets = Subsets::new(n, k, 924, &mut rng);
            let mut seen = BTreeSet::new();
            while let Some(subset) = subsets.next(&mut rng) {
                assert!(
                    subset.len() == usize::from(k) && subset.is_sorted() && subset.iter().all(|i| *i < n)
                );
                assert!(seen.insert(subset.to_vec()), "({n},{k}): {subset:?} came twice");
            }
            assert!(subsets.is_exhaustive());
            assert_eq!(seen.len(), count);
        }
    }

    #[test]
    fn all_subsets_of_up_to_22_shares_are_looked_at() {
        let (rng, subsets_max) = (&mut StdRng::seed_from_u64(1), WorkBound::default().subsets_max);
        for shares in 1..=22 {
            for k in 1..=shares {
                let subsets = Subsets::for_search(shares.into(), k, subsets_max, rng);
                assert!(subsets.is_exhaustive(), "{shares} shares, k = {k}");
            }
        }
        assert!(!Subsets::for_search(24, 12, subsets_max, rng).is_exhaustive());
    }

    #[test]
    fn too_many_subsets_are_sampled() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut subsets = Subsets::new(255, 128, 10, &mut rng);
        let mut count = 0;
        while let Some(subset) = subsets.next(&mut rng) {
            count += 1;
            assert_eq!(subset.iter().collect::<BTreeSet<_>>().len(), 128);
        }
        assert_eq!((count, subsets.is_exhaustive()), (10, false));
    }

    #[test]
    fn sets_hold_every_index() {
        let mut set = IndexSet::default();
        for index in [0, 127, 128, 254] {
            set.insert(index);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 127, 128, 254]);
        assert!(set.len() == 4 && set.contains(254) && !set.contains(1));
    }
}
