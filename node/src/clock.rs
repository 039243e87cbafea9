//! The clocks: the calendar for people, and two of the node's own that no change of the calendar can turn back or
//! rush forward.
//!
//! What a quota has spent comes back by the time that the node has run, so a restart refills nothing. Messages age by the same
//! time and by a bounded part of each stop: a hub that was down for a month, or whose calendar was wrong at its
//! start, does not throw away at once what its receivers had no chance to fetch.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dske_protocol::params::Time;
use dske_storage::{ClockRecord, Store, StoreError};

/// The most that messages age by while the node is stopped, each time.
const STOP_COUNTS_MAX: Duration = Duration::from_secs(86_400);

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The steady clocks of a node, which go on where they stood when it last recorded them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    running: Duration,
    age: Duration,
}

impl Clock {
    /// Goes on from what the store has on record.
    pub(crate) fn start(store: &Store) -> Result<Self, StoreError> {
        let record = store.clock()?.unwrap_or_default();
        let stopped = if record.wall_ms == 0 { 0 } else { now_ms().saturating_sub(record.wall_ms) };
        let stopped = Duration::from_millis(stopped).min(STOP_COUNTS_MAX);
        let running = Duration::from_millis(record.running_ms);
        Ok(Self { began: Instant::now(), running, age: Duration::from_millis(record.age_ms) + stopped })
    }

    /// How long the node has run in all.
    pub(crate) fn now(&self) -> Time {
        self.running + self.began.elapsed()
    }

    /// The moment at which this clock shows `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.began + time.saturating_sub(self.running)
    }

    /// The time by which messages age.
    pub(crate) fn age_ms(&self) -> u64 {
        millis(self.age + self.began.elapsed())
    }

    /// What is to be recorded from time to time.
    pub(crate) fn record(&self) -> ClockRecord {
        ClockRecord { running_ms: millis(self.now()), age_ms: self.age_ms(), wall_ms: now_ms() }
    }
}
