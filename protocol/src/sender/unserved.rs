//! Hubs that say that they can pass nothing on to a receiver: their pad with it is used up or out of use. For a while
//! they are asked only where there are too few without them, so that no pad is burned for shares that go nowhere.
//!
//! It is a hub's word about itself, and keeps that hub alone out. It may be wanted all the same: what is left of its pad
//! may do for a shorter key, and its pad may be there again. So it is left out of keys that are as long as the refused
//! one or longer, and not of the next one where one failed without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{ids::NodeId, message::Agreement, params::Time, refusal::Refusal};

/// How long a hub is left out for such a receiver.
const LEFT_OUT: Duration = Duration::from_secs(60);

/// Pairs that are remembered; beyond it the one that ends first is dropped.
const PAIRS_MAX: usize = 1024;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    of: BTreeMap<(NodeId, NodeId), LeftOut>,
}

/// Until when, and of keys of what length or longer.
#[derive(Debug)]
struct LeftOut {
    until: Time,
    key_bytes: u32,
}

impl Unserved {
    /// A hub refused a request for a key: of several receivers it does not say whom it cannot reach.
    pub(super) fn refused(&mut self, now: Time, hub: NodeId, agreement: &Agreement, refusal: Refusal) {
        let key_bytes = match refusal {
            Refusal::PadLow => agreement.key_bytes,
            Refusal::ReceiverTableInactive => 0,
            _ => return,
        };
        let [receiver] = agreement.receivers.as_slice() else { return };
        self.of.retain(|_, left_out| now < left_out.until);
        let before = self.of.get(&(hub, *receiver)).map_or(key_bytes, |left_out| left_out.key_bytes);
        let left_out = LeftOut { until: now + LEFT_OUT, key_bytes: key_bytes.min(before) };
        self.of.insert((hub, *receiver), left_out);
        if self.of.len() > PAIRS_MAX {
            let first = self.of.iter().min_by_key(|(_, left_out)| left_out.until).map(|(pair, _)| *pair);
            first.and_then(|first| self.of.remove(&first));
        }
    }

    /// A key of these receivers failed, for which these hubs were asked: of the others none can be spared.
    pub(super) fn failed(&mut self, receivers: &[NodeId], asked: &BTreeSet<NodeId>) {
        self.of.retain(|(hub, receiver), _| asked.contains(hub) || !receivers.contains(receiver));
    }

    /// Whether a hub is to be left out of a key of these receivers that is so long.
    pub(super) fn by(&self, now: Time, hub: &NodeId, receivers: &[NodeId], key_bytes: u32) -> bool {
        let left_out = |receiver: &NodeId| {
            let left_out = self.of.get(&(*hub, *receiver));
            left_out.is_some_and(|left_out| now < left_out.until && key_bytes >= left_out.key_bytes)
        };
        receivers.iter().any(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::BlockNonce, message::Content, params::PROTOCOL_VERSION};

    fn node(id: u64) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&id.to_be_bytes());
        NodeId::new(bytes)
    }

    fn agreement(receivers: &[u64], key_bytes: u32) -> Agreement {
        Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([1; 16]),
            sender: node(6),
            receivers: receivers.iter().copied().map(node).collect(),
            purpose: String::new(),
            k: 1,
            key_bytes,
            content: Content::Keys(1),
            roster: vec![node(1)],
        }
    }

    #[test]
    fn a_hub_is_left_out_for_the_receiver_and_the_time_and_no_further() {
        let mut unserved = Unserved::default();
        let start = Time::from_secs(5);
        unserved.refused(start, node(1), &agreement(&[9], 32), Refusal::ReceiverTableInactive);
        unserved.refused(start, node(2), &agreement(&[9], 32), Refusal::Busy);
        unserved.refused(start, node(3), &agreement(&[8, 9], 32), Refusal::PadLow);
        for hub in 1..=3 {
            assert_eq!(unserved.by(start, &node(hub), &[node(8), node(9)], 1), hub == 1);
            assert!(!unserved.by(start, &node(hub), &[node(8)], 32));
        }
        assert!(!unserved.by(start + LEFT_OUT, &node(1), &[node(9)], 32));
    }

    #[test]
    fn what_is_left_may_do_for_a_shorter_key() {
        let mut unserved = Unserved::default();
        let start = Time::from_secs(5);
        for (refused, shortest) in [(1000, 1000), (2000, 1000), (500, 500)] {
            unserved.refused(start, node(1), &agreement(&[9], refused), Refusal::PadLow);
            let by = |key_bytes| unserved.by(start, &node(1), &[node(9)], key_bytes);
            assert!(by(shortest) && !by(shortest - 1), "{refused}");
        }
    }

    #[test]
    fn what_was_refused_long_ago_says_nothing_of_shorter_keys() {
        let mut unserved = Unserved::default();
        let start = Time::from_secs(5);
        unserved.refused(start, node(1), &agreement(&[9], 32), Refusal::PadLow);
        let later = start + LEFT_OUT;
        unserved.refused(later, node(1), &agreement(&[9], 1000), Refusal::PadLow);
        assert!(unserved.by(later, &node(1), &[node(9)], 1000));
        assert!(!unserved.by(later, &node(1), &[node(9)], 999));
    }

    #[test]
    fn hubs_that_were_missed_are_asked_again_and_those_that_were_asked_are_not() {
        let mut unserved = Unserved::default();
        let start = Time::from_secs(5);
        for (hub, receiver) in [(1, 9), (2, 9), (1, 8)] {
            unserved.refused(start, node(hub), &agreement(&[receiver], 32), Refusal::PadLow);
        }
        unserved.failed(&[node(9)], &[node(2), node(3)].into());
        assert!(!unserved.by(start, &node(1), &[node(9)], 32));
        assert!(unserved.by(start, &node(2), &[node(9)], 32) && unserved.by(start, &node(1), &[node(8)], 32));
    }

    #[test]
    fn pairs_are_bounded() {
        let mut unserved = Unserved::default();
        for id in 0..3 * PAIRS_MAX as u64 {
            unserved.refused(Time::from_millis(id), node(id), &agreement(&[7], 32), Refusal::PadLow);
        }
        assert_eq!(unserved.of.len(), PAIRS_MAX);
    }
}
