//! The two clocks: a steady one for the state machines, and the calendar for people.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dske_protocol::params::Time;

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A steady clock that began when it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Time {
        self.0.elapsed()
    }

    /// The moment at which this clock shows `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.0 + time
    }
}
