//! How fast things are used, from snapshots of the last minute.

use std::collections::{BTreeMap, VecDeque};

use dske_node::status::Status;
use dske_protocol::ids::{Lane, TableId};

/// What the rates are taken over.
const WINDOW_MS: u64 = 60_000;
/// Least time between two samples that are kept.
const SAMPLE_MS: u64 = 1_000;
/// Below this, there is no rate yet.
const SHORTEST_MS: u64 = 2_000;

/// A figure that only grows, over the last minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Growth(VecDeque<(u64, u64)>);

impl Growth {
    pub(crate) fn add(&mut self, at_ms: u64, value: u64) {
        // A node that was started again begins anew, and a clock may be set back.
        if self.0.back().is_some_and(|(last_ms, last)| *last > value || *last_ms > at_ms) {
            self.0.clear();
        }
        // The newest sample is always kept; it replaces the one before where that was too soon.
        let before = self.0.len().checked_sub(2).and_then(|at| self.0.get(at));
        if before.is_some_and(|(before_ms, _)| at_ms.saturating_sub(*before_ms) < SAMPLE_MS) {
            self.0.pop_back();
        }
        self.0.push_back((at_ms, value));
        while self.0.front().is_some_and(|(first_ms, _)| at_ms.saturating_sub(*first_ms) > WINDOW_MS) {
            self.0.pop_front();
        }
    }

    /// In a second and thousandths, over the last `within_ms`; `None` before there is enough to say.
    pub(crate) fn per_s_milli(&self, within_ms: u64) -> Option<u64> {
        let (last_ms, last) = self.0.back()?;
        let (first_ms, first) =
            self.0.iter().find(|(at_ms, _)| last_ms.saturating_sub(*at_ms) <= within_ms)?;
        let took = last_ms.saturating_sub(*first_ms);
        (took >= SHORTEST_MS).then(|| last.saturating_sub(*first).saturating_mul(1_000_000) / took)
    }

    /// Growth in each of the last `columns` slices of the window, newest last.
    pub(crate) fn slices(&self, columns: usize) -> Vec<u64> {
        let mut slices = vec![0; columns];
        let Some((last_ms, _)) = self.0.back() else { return slices };
        let width_ms = (WINDOW_MS / (columns as u64).max(1)).max(1);
        for ((_, before), (at_ms, value)) in self.0.iter().zip(self.0.iter().skip(1)) {
            let ago = usize::try_from(last_ms.saturating_sub(*at_ms) / width_ms).unwrap_or(usize::MAX);
            if let Some(slice) = columns.checked_sub(ago.saturating_add(1)).and_then(|at| slices.get_mut(at))
            {
                *slice += value.saturating_sub(*before);
            }
        }
        slices
    }
}

/// What is remembered of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    lanes: BTreeMap<(TableId, Lane), Growth>,
    keys: Growth,
}

impl History {
    pub(crate) fn add(&mut self, at_ms: u64, status: &Status) {
        let lanes = status.tables.iter().flat_map(|table| table.lanes.iter().map(|lane| (table.table, lane)));
        let mut now = BTreeMap::new();
        for (table, lane) in lanes {
            let key = (table, lane.lane);
            let mut growth = self.lanes.remove(&key).unwrap_or_default();
            growth.add(at_ms, lane.used_key + lane.used_identity + lane.used_sync);
            now.insert(key, growth);
        }
        self.lanes = now;
        self.keys.add(at_ms, status.counters.sent + status.counters.validated);
    }

    /// Use of a lane.
    pub(crate) fn lane(&self, table: &TableId, lane: Lane) -> Option<&Growth> {
        self.lanes.get(&(*table, lane))
    }

    /// Keys agreed as sender and receiver.
    pub(crate) fn keys(&self) -> &Growth {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_minute_and_survive_a_restart() {
        let mut growth = Growth::default();
        for second in 0..=120 {
            growth.add(second * 1_000, second * 64);
        }
        assert_eq!(growth.per_s_milli(60_000), Some(64_000));
        assert!(growth.0.len() <= 62, "{}", growth.0.len());
        assert_eq!(growth.slices(6).iter().sum::<u64>(), 60 * 64);
        growth.add(121_000, 5);
        assert_eq!(growth.per_s_milli(60_000), None);
    }

    #[test]
    fn many_snapshots_in_a_second_are_one_sample() {
        let mut growth = Growth::default();
        for tenth in 0..600 {
            growth.add(tenth * 100, tenth);
        }
        assert!(growth.0.len() <= 70, "{}", growth.0.len());
        assert_eq!(growth.per_s_milli(60_000), Some(10_000));
        assert_eq!(growth.0.back(), Some(&(59_900, 599)));
    }
}
