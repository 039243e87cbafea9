//! A bound on how much of something happens in a time: so many units a second, and so many at once.

use std::time::{Duration, Instant};

/// How much has been taken, kept as the moment at which all of it will have been paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rate {
    per_unit: Duration,
    at_once: Duration,
    paid_at: Option<Instant>,
}

impl Rate {
    /// `per_second` units in the long run, `at_once` after a rest. Neither is 0.
    pub(super) fn new(per_second: u32, at_once: u32) -> Self {
        Self::every(Duration::from_secs(1) / per_second.max(1), at_once)
    }

    /// One unit in `per_unit`, `at_once` after a rest.
    pub(super) fn every(per_unit: Duration, at_once: u32) -> Self {
        Self { per_unit, at_once: per_unit * at_once.max(1), paid_at: None }
    }

    /// Takes units whatever has been taken before; how long to wait until that is within the bound.
    pub(super) fn take(&mut self, now: Instant, units: u32) -> Duration {
        let paid_at = self.paid_at.map_or(now, |paid_at| paid_at.max(now)) + self.per_unit * units;
        self.paid_at = Some(paid_at);
        paid_at.saturating_duration_since(now).saturating_sub(self.at_once)
    }

    /// Takes units where that is within the bound, and only then.
    pub(super) fn try_take(&mut self, now: Instant, units: u32) -> bool {
        let before = self.paid_at;
        let within = self.take(now, units).is_zero();
        if !within {
            self.paid_at = before;
        }
        within
    }

    /// Whether a rest has made it as good as new.
    pub(super) fn is_rested(&self, now: Instant) -> bool {
        self.paid_at.is_none_or(|paid_at| paid_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_then_at_the_rate() {
        let now = Instant::now();
        let mut rate = Rate::new(10, 3);
        assert!((0..3).all(|_| rate.try_take(now, 1)));
        assert!(!rate.try_take(now, 1));
        let soon = now + Duration::from_millis(100);
        assert!(rate.try_take(soon, 1) && !rate.try_take(soon, 1));
        let later = now + Duration::from_secs(60);
        assert!(rate.is_rested(later));
        assert!(
            !rate.try_take(later, 4) && rate.try_take(later, 3),
            "a rest saves no more than so many at once"
        );
    }

    #[test]
    fn what_is_taken_in_any_case_is_waited_for() {
        let now = Instant::now();
        let mut rate = Rate::new(10, 3);
        assert_eq!(rate.take(now, 3), Duration::ZERO);
        assert_eq!(rate.take(now, 2), Duration::from_millis(200));
        assert_eq!(rate.take(now, 1), Duration::from_millis(300));
    }
}
