//! How agreements went since the start: counted as they begin and end, so that none is missed between two looks.

use std::collections::BTreeMap;

use dske_protocol::{
    ids::BlockId,
    params::Time,
    refusal::{AbortReason, SendFailure},
};
use prometheus::{Histogram, HistogramOpts};

/// Agreements whose beginning is remembered; of more than so many at once the oldest have no duration. Far above what the
/// machines have under way.
const OPEN_MAX: usize = 8192;

/// Upper bounds of the durations in seconds: from a key on one machine to the longest deadline.
const BOUNDS: [f64; 14] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0];

/// On which side of an agreement this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// It began it.
    Sender,
    /// Another client did.
    Receiver,
}

impl Side {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Sender, Self::Receiver];

    /// As it stands in a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// See the head of the file.
#[derive(Debug, Clone)]
pub(crate) struct Measures {
    sides: [Counts; 2],
    open: BTreeMap<(Side, BlockId), Time>,
}

/// The counters of one side.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    /// Agreements begun.
    pub(crate) started: u64,
    /// Those that gave a key.
    pub(crate) validated: u64,
    /// The others, by reason; those that failed before they began as well.
    pub(crate) aborted: BTreeMap<&'static str, u64>,
    /// How long those that gave a key took.
    pub(crate) seconds: Histogram,
}

impl Measures {
    /// Nothing has happened yet.
    ///
    /// # Errors
    /// If the bounds of the histogram are not in order.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let counts = |side: Side| -> Result<Counts, prometheus::Error> {
            let help = "Time from the beginning of an agreement to its key";
            let options = HistogramOpts::new("dske_session_duration_seconds", help)
                .buckets(BOUNDS.to_vec())
                .const_label("side", side.name());
            let seconds = Histogram::with_opts(options)?;
            let names = match side {
                Side::Sender => &SendFailure::NAMES[..],
                Side::Receiver => &AbortReason::NAMES[..],
            };
            let aborted = names.iter().map(|name| (*name, 0)).collect();
            Ok(Counts { started: 0, validated: 0, aborted, seconds })
        };
        Ok(Self { sides: [counts(Side::Sender)?, counts(Side::Receiver)?], open: BTreeMap::new() })
    }

    /// An agreement has begun.
    pub(crate) fn began(&mut self, side: Side, block: BlockId, now: Time) {
        self.of(side).started += 1;
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, began)| **began).map(|(key, _)| *key);
            oldest.and_then(|key| self.open.remove(&key));
        }
        self.open.insert((side, block), now);
    }

    /// An agreement has ended with a key. Later words about it count no more.
    pub(crate) fn validated(&mut self, side: Side, block: BlockId, now: Time) {
        if let Some(began) = self.open.remove(&(side, block)) {
            let counts = self.of(side);
            counts.validated += 1;
            counts.seconds.observe(now.saturating_sub(began).as_secs_f64());
        }
    }

    /// An agreement has ended without one.
    pub(crate) fn aborted(&mut self, side: Side, block: Option<BlockId>, reason: &'static str) {
        block.and_then(|block| self.open.remove(&(side, block)));
        *self.of(side).aborted.entry(reason).or_default() += 1;
    }

    /// The counters of a side.
    pub(crate) fn counts(&self, side: Side) -> &Counts {
        match side {
            Side::Sender => &self.sides[0],
            Side::Receiver => &self.sides[1],
        }
    }

    /// Agreements of a side that have begun and not ended.
    pub(crate) fn under_way(&self, side: Side) -> usize {
        self.open.keys().filter(|(of, _)| *of == side).count()
    }

    fn of(&mut self, side: Side) -> &mut Counts {
        match side {
            Side::Sender => &mut self.sides[0],
            Side::Receiver => &mut self.sides[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_agreement_ends_once() {
        let mut measures = Measures::new().unwrap();
        let block = BlockId::new([1; 16]);
        measures.began(Side::Sender, block, Duration::from_secs(1));
        measures.began(Side::Receiver, block, Duration::from_secs(1));
        assert_eq!(measures.under_way(Side::Sender), 1);
        for _ in 0..2 {
            measures.validated(Side::Sender, block, Duration::from_secs(3));
        }
        measures.aborted(Side::Receiver, Some(block), AbortReason::Ambiguous.name());
        measures.aborted(Side::Sender, None, SendFailure::Busy.name());
        let sender = measures.counts(Side::Sender);
        assert_eq!((sender.started, sender.validated, sender.aborted["busy"]), (1, 1, 1));
        assert_eq!(sender.seconds.get_sample_count(), 1);
        assert!((sender.seconds.get_sample_sum() - 2.0).abs() < 1e-9);
        assert_eq!(measures.counts(Side::Receiver).aborted["ambiguous"], 1);
        assert_eq!((measures.under_way(Side::Sender), measures.under_way(Side::Receiver)), (0, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let mut measures = Measures::new().unwrap();
        let block = |number: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(u64::MAX - number).to_be_bytes());
            BlockId::new(bytes)
        };
        for number in 0..=OPEN_MAX as u64 {
            measures.began(Side::Receiver, block(number), Duration::from_millis(number));
        }
        assert_eq!(measures.under_way(Side::Receiver), OPEN_MAX);
        measures.validated(Side::Receiver, block(0), Duration::from_secs(60));
        assert_eq!(measures.counts(Side::Receiver).validated, 0, "the first was forgotten");
    }
}
