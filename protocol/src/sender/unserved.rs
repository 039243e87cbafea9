//! Hubs that say that they can pass nothing on to a receiver: their pad with it is used up or out of use. For a while
//! they are asked only where there are too few without them, so that no pad is burned for shares that go nowhere.
//!
//! It is a hub's word about itself, and keeps that hub alone out.

use std::{collections::BTreeMap, time::Duration};

use crate::{ids::NodeId, params::Time, refusal::Refusal};

/// How long a hub is left out for such a receiver.
const LEFT_OUT: Duration = Duration::from_secs(60);

/// Pairs that are remembered; beyond it the one that ends first is dropped.
const PAIRS_MAX: usize = 1024;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    until: BTreeMap<(NodeId, NodeId), Time>,
}

impl Unserved {
    /// A hub refused a request for a key of these receivers: of several it does not say whom it cannot reach.
    pub(super) fn refused(&mut self, now: Time, hub: NodeId, receivers: &[NodeId], refusal: Refusal) {
        let ([receiver], Refusal::PadLow | Refusal::ReceiverTableInactive) = (receivers, refusal) else {
            return;
        };
        self.until.retain(|_, until| now < *until);
        self.until.insert((hub, *receiver), now + LEFT_OUT);
        if self.until.len() > PAIRS_MAX {
            let first = self.until.iter().min_by_key(|(_, until)| **until).map(|(pair, _)| *pair);
            first.and_then(|first| self.until.remove(&first));
        }
    }

    /// Whether a hub is to be left out of a key of these receivers.
    pub(super) fn by(&self, now: Time, hub: &NodeId, receivers: &[NodeId]) -> bool {
        let left_out =
            |receiver: &NodeId| self.until.get(&(*hub, *receiver)).is_some_and(|until| now < *until);
        receivers.iter().any(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_left_out_for_the_receiver_and_the_time_and_no_further() {
        let node = |id: u8| NodeId::new([id; 32]);
        let mut unserved = Unserved::default();
        let start = Time::from_secs(5);
        unserved.refused(start, node(1), &[node(9)], Refusal::ReceiverTableInactive);
        unserved.refused(start, node(2), &[node(9)], Refusal::Busy);
        unserved.refused(start, node(3), &[node(8), node(9)], Refusal::PadLow);
        for hub in 1..=3 {
            assert_eq!(unserved.by(start, &node(hub), &[node(8), node(9)]), hub == 1);
            assert!(!unserved.by(start, &node(hub), &[node(8)]));
        }
        assert!(!unserved.by(start + LEFT_OUT, &node(1), &[node(9)]));
    }

    #[test]
    fn pairs_are_bounded() {
        let node = |id: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&id.to_be_bytes());
            NodeId::new(bytes)
        };
        let mut unserved = Unserved::default();
        for id in 0..3 * PAIRS_MAX as u64 {
            unserved.refused(Time::from_millis(id), node(id), &[node(7)], Refusal::PadLow);
        }
        assert_eq!(unserved.until.len(), PAIRS_MAX);
    }
}
