//! Room for messages that wait at a hub for their receivers: so many bytes for each, so many in all, both in fair parts
//! of those who send them. Taken before any pad is minted, given back when a message is gone.

use std::collections::BTreeMap;

use crate::{fair::Fair, ids::NodeId};

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

/// What waits, by receiver and sender.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    limits: OutboxLimits,
    waiting: BTreeMap<NodeId, Fair<NodeId>>,
    all: Fair<NodeId>,
}

impl Room {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self { limits, waiting: BTreeMap::new(), all: Fair::new(limits.bytes_max, 1) }
    }

    pub(crate) fn set_limits(&mut self, limits: OutboxLimits) {
        self.limits = limits;
        self.all.set_limit(limits.bytes_max);
        self.waiting.values_mut().for_each(|waiting| waiting.set_limit(limits.receiver_bytes_max));
    }

    /// Takes the same room of a sender for each of these receivers, or none.
    pub(crate) fn take(&mut self, sender: NodeId, receivers: &[NodeId], bytes: u64) -> bool {
        let all = bytes.saturating_mul(receivers.len() as u64);
        let of_receiver = |receiver: &NodeId| match self.waiting.get(receiver) {
            Some(waiting) => waiting.room(&sender),
            None => self.limits.receiver_bytes_max,
        };
        if self.all.room(&sender) < all || receivers.iter().any(|receiver| of_receiver(receiver) < bytes) {
            return false;
        }
        receivers.iter().for_each(|receiver| self.add(*receiver, sender, bytes));
        true
    }

    /// Notes what is there in any case.
    pub(crate) fn add(&mut self, receiver: NodeId, sender: NodeId, bytes: u64) {
        let limit = self.limits.receiver_bytes_max;
        self.waiting.entry(receiver).or_insert_with(|| Fair::new(limit, 1)).add(sender, bytes);
        self.all.add(sender, bytes);
    }

    pub(crate) fn give_back(&mut self, receiver: NodeId, sender: NodeId, bytes: u64) {
        let Some(waiting) = self.waiting.get_mut(&receiver) else { return };
        waiting.remove(&sender, bytes);
        self.all.remove(&sender, bytes);
        if waiting.total() == 0 {
            self.waiting.remove(&receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_for_all_receivers_or_none_and_in_parts_of_the_senders() {
        let [a, b, m, s] = [1, 2, 3, 4].map(|id| NodeId::new([id; 32]));
        let mut room = Room::new(OutboxLimits { receiver_bytes_max: 200, bytes_max: 300 });
        assert!(room.take(m, &[a], 60));
        assert!(!room.take(m, &[a, b], 85), "of what is free for a it would have more than half");
        assert!(room.take(m, &[a, b], 40));
        assert!(!room.take(m, &[b], 50), "and of all: 190 of 300");
        assert!(room.take(s, &[a], 50), "there is a part left for another");
        assert!(!room.take(s, &[a], 51));
        room.give_back(a, m, 60);
        room.give_back(a, m, 40);
        assert!(room.take(s, &[a], 50));
        room.give_back(a, s, 50);
        room.give_back(a, s, 50);
        room.give_back(b, m, 40);
        assert_eq!((room.all.total(), room.waiting.len()), (0, 0));
    }
}
