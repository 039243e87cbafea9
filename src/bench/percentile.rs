//! Percentiles of measured times, by the nearest rank: each is a time that was really seen.

use std::time::Duration;

use serde::Serialize;

/// Times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Percentiles {
    /// Half were as fast.
    pub(crate) p50_us: u64,
    /// 95 of 100 were as fast.
    pub(crate) p95_us: u64,
    /// 99 of 100 were as fast.
    pub(crate) p99_us: u64,
    /// The slowest.
    pub(crate) max_us: u64,
}

impl Percentiles {
    /// Of at least one time; `None` otherwise.
    pub(crate) fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted: Vec<u64> =
            times.iter().map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(place).copied()
        };
        Some(Self { p50_us: rank(50)?, p95_us: rank(95)?, p99_us: rank(99)?, max_us: rank(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(us: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        us.into_iter().map(Duration::from_micros).collect()
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let expected = Percentiles { p50_us: 50, p95_us: 95, p99_us: 99, max_us: 100 };
        assert_eq!(Percentiles::of(&times((1..=100).rev())), Some(expected));
        let one = Percentiles { p50_us: 7, p95_us: 7, p99_us: 7, max_us: 7 };
        assert_eq!(Percentiles::of(&times([7])), Some(one));
        assert_eq!(Percentiles::of(&times([1, 9])).map(|found| (found.p50_us, found.p95_us)), Some((1, 9)));
        assert_eq!(Percentiles::of(&[]), None);
    }
}
