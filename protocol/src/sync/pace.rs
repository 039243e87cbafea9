//! When a table may be compared again after a comparison that came to nothing. Each may cost a tag key, so a peer that
//! never lets one succeed must not have many; and one table that cannot be compared does not hinder others.

use std::collections::BTreeMap;

use crate::{ids::TableId, params::Time};

/// Between two tries, at first and at last.
const PAUSE_MIN: Time = Time::from_millis(250);
const PAUSE_MAX: Time = Time::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Time,
    next: Time,
}

/// See the head of the file. No longer than the list of tables that it is asked about.
#[derive(Debug, Default)]
pub struct Pace {
    pauses: BTreeMap<TableId, Pause>,
}

impl Pace {
    /// Whether a table may be compared now.
    pub fn is_due(&self, now: Time, table: &TableId) -> bool {
        self.until(table).is_none_or(|until| until <= now)
    }

    /// Until when it may not; `None` where its last comparison succeeded, or it has had none.
    pub fn until(&self, table: &TableId) -> Option<Time> {
        self.pauses.get(table).map(|pause| pause.until)
    }

    /// A comparison came to nothing: the next one waits, longer each time.
    pub fn lapsed(&mut self, now: Time, table: TableId) {
        let pause = self.pauses.entry(table).or_insert(Pause { until: now, next: PAUSE_MIN });
        pause.until = now + pause.next;
        pause.next = (pause.next * 2).min(PAUSE_MAX);
    }

    /// A comparison succeeded, or the table is gone.
    pub fn forget(&mut self, table: &TableId) {
        self.pauses.remove(table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TableId = TableId::new([1; 16]);
    const OTHER: TableId = TableId::new([2; 16]);

    #[test]
    fn one_table_that_cannot_be_compared_delays_no_other() {
        let mut pace = Pace::default();
        let mut now = Time::ZERO;
        for pause_ms in [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
            pace.lapsed(now, ONE);
            assert!(pace.is_due(now, &OTHER));
            let due = now + Time::from_millis(pause_ms);
            assert!(!pace.is_due(due - Time::from_millis(1), &ONE) && pace.is_due(due, &ONE));
            now = due;
        }
        pace.forget(&ONE);
        pace.lapsed(now, ONE);
        assert!(pace.is_due(now + PAUSE_MIN, &ONE), "a success begins anew");
    }
}
