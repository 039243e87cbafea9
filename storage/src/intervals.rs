//! A set of byte ranges, kept merged: which runs of a lane are used.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent half-open ranges, by start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IntervalSet {
    ranges: BTreeMap<u64, u64>,
}

/// What an insertion did: one range now stands where those that started at `absorbed` stood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Insertion {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Starts of ranges that are no longer there; never `start` itself.
    pub(crate) absorbed: Vec<u64>,
}

impl IntervalSet {
    /// Whether any byte of `start..end` is in the set.
    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.ranges.range(..end).next_back().is_some_and(|(_, &last)| last > start)
    }

    /// Adds `start..end`, merging with what it overlaps or touches.
    pub(crate) fn insert(&mut self, start: u64, end: u64) -> Insertion {
        let (mut from, mut to) = (start, end);
        let touched: Vec<(u64, u64)> = self
            .ranges
            .range(..=end)
            .rev()
            .take_while(|&(_, &last)| last >= start)
            .map(|(&first, &last)| (first, last))
            .collect();
        for &(first, last) in &touched {
            from = from.min(first);
            to = to.max(last);
            self.ranges.remove(&first);
        }
        if to > from {
            self.ranges.insert(from, to);
        }
        let absorbed = touched.into_iter().map(|(first, _)| first).filter(|&first| first != from).collect();
        Insertion { start: from, end: to, absorbed }
    }

    /// Takes `start..end` out where all of it is in the set; otherwise nothing changes, and it is `false`.
    #[must_use]
    pub(crate) fn remove(&mut self, start: u64, end: u64) -> bool {
        if start >= end {
            return start == end;
        }
        let around = self.ranges.range(..=start).next_back().map(|(&first, &last)| (first, last));
        let Some((first, last)) = around.filter(|&(_, last)| end <= last) else { return false };
        self.ranges.remove(&first);
        for (from, to) in [(first, start), (end, last)] {
            if from < to {
                self.ranges.insert(from, to);
            }
        }
        true
    }

    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// End of the range that starts at 0, or 0.
    pub(crate) fn prefix_end(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// End of the last range, or 0.
    pub(crate) fn furthest(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// End of the last range below `limit`, or 0; a range across it ends there.
    pub(crate) fn furthest_below(&self, limit: u64) -> u64 {
        self.ranges.range(..limit).next_back().map_or(0, |(_, &end)| end.min(limit))
    }

    /// Where the bytes from `at` on that are all in the set end; `at` where the first is not.
    pub(crate) fn end_from(&self, at: u64) -> u64 {
        self.at_or_after(at).filter(|&(start, _)| start <= at).map_or(at, |(_, end)| end)
    }

    /// The range that contains `at`, or else the next one after it.
    pub(crate) fn at_or_after(&self, at: u64) -> Option<(u64, u64)> {
        let before = self.ranges.range(..=at).next_back().filter(|&(_, &end)| end > at);
        before.or_else(|| self.ranges.range(at..).next()).map(|(&start, &end)| (start, end))
    }

    /// What of `start..end` is in the set, the last first.
    pub(crate) fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ranges = self.ranges.range(..end).rev().take_while(move |&(_, &last)| last > start);
        ranges.map(move |(&first, &last)| (first.max(start), last.min(end)))
    }

    /// Bytes of the set at or above `from`.
    pub(crate) fn bytes_from(&self, from: u64) -> u64 {
        self.iter().map(|(start, end)| end.saturating_sub(start.max(from))).sum()
    }

    /// All ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(&start, &end)| (start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn adjacent_ranges_extend_one_record() {
        let mut set = IntervalSet::default();
        set.insert(0, 10);
        assert_eq!(set.insert(10, 20), Insertion { start: 0, end: 20, absorbed: vec![] });
        set.insert(30, 40);
        assert_eq!(set.insert(20, 30), Insertion { start: 0, end: 40, absorbed: vec![30] });
        assert_eq!((set.prefix_end(), set.furthest()), (40, 40));
        set.insert(50, 60);
        assert_eq!((set.prefix_end(), set.furthest()), (40, 60));
        assert_eq!(
            [40, 45, 50, 51, 55, 60, 90].map(|at| set.furthest_below(at)),
            [40, 40, 40, 51, 55, 60, 60]
        );
        assert_eq!([0, 39, 40, 49, 50, 60].map(|at| set.end_from(at)), [40, 40, 40, 49, 60, 60]);
        assert_eq!(set.within(35, 55).collect::<Vec<_>>(), [(50, 55), (35, 40)]);
        assert_eq!((set.within(40, 50).count(), set.within(45, 45).count()), (0, 0));
    }

    #[test]
    fn nothing_added_changes_nothing() {
        let mut set = IntervalSet::default();
        assert_eq!(set.insert(5, 5), Insertion { start: 5, end: 5, absorbed: vec![] });
        assert_eq!((set.iter().count(), set.furthest(), set.at_or_after(0)), (0, 0, None));
        assert!(set.remove(5, 5) && !set.remove(5, 6) && !set.remove(6, 5) && set.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_a_bitmap(runs in prop::collection::vec((0u64..200, 1u64..30), 1..40), probe in (0u64..220, 1u64..20)) {
            let mut set = IntervalSet::default();
            let mut map = [false; 256];
            for (start, len) in runs {
                let end = start + len;
                let any = (start..end).any(|i| map[usize::try_from(i).expect("small")]);
                prop_assert_eq!(set.overlaps(start, end), any);
                set.insert(start, end);
                (start..end).for_each(|i| map[usize::try_from(i).expect("small")] = true);
            }
            let (start, len) = probe;
            let (mut less, mut cut) = (set.clone(), map);
            let whole = (start..start + len).all(|i| map[usize::try_from(i).expect("small")]);
            prop_assert_eq!(less.remove(start, start + len), whole);
            if whole {
                (start..start + len).for_each(|i| cut[usize::try_from(i).expect("small")] = false);
            }
            let left: Vec<u64> = less.iter().flat_map(|(from, to)| from..to).collect();
            let expected: Vec<u64> = (0..256).filter(|&i| cut[usize::try_from(i).expect("small")]).collect();
            prop_assert_eq!(less.is_empty(), expected.is_empty());
            prop_assert_eq!(left, expected);
            let any = (start..start + len).any(|i| map[usize::try_from(i).expect("small")]);
            prop_assert_eq!(set.overlaps(start, start + len), any);
            let total = map.iter().filter(|&&used| used).count() as u64;
            prop_assert_eq!(set.bytes_from(0), total);
            let next = (start..256).find(|&i| map[usize::try_from(i).expect("small")]);
            prop_assert_eq!(set.at_or_after(start).map(|(first, _)| first.max(start)), next);
            let merged: Vec<_> = set.iter().collect();
            prop_assert!(merged.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
