//! Room for messages that wait at a hub for their receivers: so many bytes for each, so many in all. Taken
//! before any pad is minted, given back when a message is gone.

use std::collections::BTreeMap;

use crate::ids::NodeId;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// For one receiver.
    pub receiver_bytes_max: u64,
    /// For all of them together.
    pub bytes_max: u64,
}

impl OutboxLimits {
    /// No limit but the store's own.
    pub const NONE: Self = Self { receiver_bytes_max: u64::MAX, bytes_max: u64::MAX };
}

/// What waits.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    limits: OutboxLimits,
    waiting: BTreeMap<NodeId, u64>,
    total: u64,
}

impl Room {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self { limits, waiting: BTreeMap::new(), total: 0 }
    }

    pub(crate) fn set_limits(&mut self, limits: OutboxLimits) {
        self.limits = limits;
    }

    /// Takes the same room for each of these receivers, or none.
    pub(crate) fn take(&mut self, receivers: &[NodeId], bytes: u64) -> bool {
        let all = bytes.saturating_mul(receivers.len() as u64);
        let fits = |receiver| self.of(receiver).saturating_add(bytes) <= self.limits.receiver_bytes_max;
        if self.total.saturating_add(all) > self.limits.bytes_max || !receivers.iter().all(fits) {
            return false;
        }
        receivers.iter().for_each(|receiver| self.add(*receiver, bytes));
        true
    }

    /// Notes what is there in any case.
    pub(crate) fn add(&mut self, receiver: NodeId, bytes: u64) {
        let waiting = self.waiting.entry(receiver).or_default();
        *waiting = waiting.saturating_add(bytes);
        self.total = self.total.saturating_add(bytes);
    }

    pub(crate) fn give_back(&mut self, receiver: NodeId, bytes: u64) {
        let Some(waiting) = self.waiting.get_mut(&receiver) else { return };
        let bytes = bytes.min(*waiting);
        *waiting -= bytes;
        self.total -= bytes;
        if *waiting == 0 {
            self.waiting.remove(&receiver);
        }
    }

    fn of(&self, receiver: &NodeId) -> u64 {
        self.waiting.get(receiver).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_for_all_receivers_or_none() {
        let (a, b) = (NodeId::new([1; 32]), NodeId::new([2; 32]));
        let mut room = Room::new(OutboxLimits { receiver_bytes_max: 100, bytes_max: 150 });
        assert!(room.take(&[a], 60));
        assert!(!room.take(&[a, b], 50), "a would have 110");
        assert!(room.take(&[b], 50));
        assert!(!room.take(&[b], 41), "all would have 151");
        room.give_back(a, 60);
        assert!(room.take(&[b], 50));
        assert!(!room.take(&[b], 1));
        room.give_back(b, u64::MAX);
        assert_eq!((room.total, room.waiting.len()), (0, 0));
    }
}
