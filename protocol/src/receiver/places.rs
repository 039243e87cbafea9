//! What a receiver has room for, hub by hub and sender by sender: messages in work, agreements, bytes.
//!
//! An agreement is *backed* once k_B hubs have spoken for it alike. Until then it may be the invention of those that
//! have, so it takes one of its hub's places, and among these one of the places for the sender that the hub names.
//! Then its sender has really begun it, and it takes one of the sender's.
//!
//! Must never: let the places of one hub depend on what another says; take an honest hub's place for what a liar
//! says in a sender's name.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    fair::{Fair, Nested, SENDERS_PART},
    hub::RequestId,
    ids::{BlockId, NodeId},
    params::{
        COLLECTING_BACKED_MAX, COLLECTING_BYTES_MAX, COLLECTING_LONE_MAX, LATE_BLOCKS_MAX,
        RECEIVING_MESSAGES_MAX,
    },
    planted::{Fault, planted},
};

/// How much a receiver works on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// Messages between their arrival and their end.
    pub messages: u64,
    /// Agreements for which fewer than k_B hubs have spoken.
    pub lone: u64,
    /// The others that are not over.
    pub backed: u64,
    /// Bytes of messages in work and of shares that are kept, with the agreements that they name.
    pub bytes: u64,
    /// Agreements that are over, and are kept for shares that come late.
    pub late: usize,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self {
            messages: RECEIVING_MESSAGES_MAX,
            lone: COLLECTING_LONE_MAX,
            backed: COLLECTING_BACKED_MAX,
            bytes: COLLECTING_BYTES_MAX as u64,
            late: LATE_BLOCKS_MAX,
        }
    }
}

/// A message, from its arrival to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) id: RequestId,
    pub(super) hub: NodeId,
    pub(super) block: BlockId,
    /// The sender that the hub names.
    pub(super) sender: NodeId,
    pub(super) bytes: u64,
}

/// Whose place an agreement takes.
#[derive(Debug, Clone, Copy)]
enum Place {
    Hub { hub: NodeId, sender: NodeId },
    Sender(NodeId),
}

/// What a block takes.
#[derive(Debug, Default)]
struct Taken {
    /// Messages between the ledger's word on the block and their share: that word is true for them only as long as
    /// the block's collection stays.
    in_flight: usize,
    place: Option<Place>,
    shares: Vec<(NodeId, NodeId, u64)>,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Places {
    messages: Fair<NodeId>,
    lone: Nested<NodeId, NodeId>,
    backed: Fair<NodeId>,
    bytes: Nested<NodeId, NodeId>,
    blocks: BTreeMap<BlockId, Taken>,
    late: VecDeque<BlockId>,
    limits: CollectLimits,
}

impl Places {
    pub(super) fn new(limits: CollectLimits) -> Self {
        Self {
            messages: Fair::new(limits.messages, 1),
            lone: Nested::new(limits.lone),
            backed: Fair::new(limits.backed, SENDERS_PART),
            bytes: Nested::new(limits.bytes),
            blocks: BTreeMap::new(),
            late: VecDeque::new(),
            limits,
        }
    }

    /// Takes what a message needs until its end, and what its block needs where it is the first of it; `false` where
    /// its hub, or the sender through it, has as much as it may have. `hubs`: how many are accepted; `established`: whether it
    /// is known that there is such a sender.
    pub(super) fn admit(&mut self, message: &Arrival, hubs: usize, established: bool) -> bool {
        let Arrival { hub, block, sender, bytes, .. } = *message;
        let known = self.blocks.contains_key(&block);
        if planted(Fault::PlacesForWhoComesFirst) {
            let lone = known || self.lone.total() < self.limits.lone;
            if !lone || self.bytes.total() + bytes > self.limits.bytes {
                return false;
            }
        } else {
            // One of each sender may always begin, however many others there are, and though agreements that are backed all at
            // once may be more than the limit. A hub can invent senders, but none that is established.
            let first = self.backed.of(&sender) == 0 && self.lone.of_both(hub, sender) == 0;
            let lone = (first && established) || self.lone.room(hub, sender, hubs) > 0;
            let backed = first || self.backed.room(&sender) > 0;
            let place = known || (lone && backed);
            // One message of each hub always has room: with many hubs a part of all may be less than the longest.
            let fits = self.bytes.of(&hub) == 0 || self.bytes.room(hub, sender, hubs) >= bytes;
            if !place || !fits || self.messages.room(&hub) == 0 {
                return false;
            }
        }
        self.messages.add(hub, 1);
        self.bytes.add(hub, sender, bytes);
        let taken = self.blocks.entry(block).or_default();
        taken.in_flight += 1;
        if !known {
            taken.place = Some(Place::Hub { hub, sender });
            self.lone.add(hub, sender, 1);
        }
        true
    }

    /// A message has come to its end; what it said is kept, or not.
    pub(super) fn arrived(&mut self, message: &Arrival, kept: bool) {
        let Arrival { hub, block, sender, bytes, .. } = *message;
        let Some(taken) = self.blocks.get_mut(&block) else { return };
        self.messages.remove(&hub, 1);
        debug_assert!(taken.in_flight > 0, "each message comes to one end");
        taken.in_flight -= 1;
        if kept {
            taken.shares.push((hub, sender, bytes));
        } else {
            self.bytes.remove(hub, sender, bytes);
        }
    }

    /// Whether a message of a block is on its way to its share.
    pub(super) fn is_in_flight(&self, block: &BlockId) -> bool {
        self.blocks.get(block).is_some_and(|taken| taken.in_flight > 0)
    }

    /// Enough hubs have spoken alike for a block of this sender.
    pub(super) fn backed(&mut self, block: &BlockId, sender: NodeId) {
        let Some(taken) = self.blocks.get_mut(block) else { return };
        if let Some(Place::Hub { hub, sender: named }) = taken.place {
            self.lone.remove(hub, named, 1);
            taken.place = Some(Place::Sender(sender));
            self.backed.add(sender, 1);
        }
    }

    /// An agreement is over, and stays for shares that come late. Gives the one that is over for longest, where there
    /// are too many.
    pub(super) fn ended(&mut self, block: BlockId) -> Option<BlockId> {
        self.leave_place(&block);
        self.late.push_back(block);
        if self.late.len() > self.limits.late { self.late.pop_front() } else { None }
    }

    /// The shares of a block are not kept any more.
    pub(super) fn shares_gone(&mut self, block: &BlockId) {
        let Some(taken) = self.blocks.get_mut(block) else { return };
        for (hub, sender, bytes) in std::mem::take(&mut taken.shares) {
            self.bytes.remove(hub, sender, bytes);
        }
    }

    /// A block is not collected (any more). It keeps what its messages on their way need.
    pub(super) fn left(&mut self, block: &BlockId) {
        self.shares_gone(block);
        if self.blocks.get(block).is_some_and(|taken| taken.in_flight == 0) {
            self.leave_place(block);
            self.blocks.remove(block);
        }
    }

    fn leave_place(&mut self, block: &BlockId) {
        match self.blocks.get_mut(block).and_then(|taken| taken.place.take()) {
            Some(Place::Hub { hub, sender }) => self.lone.remove(hub, sender, 1),
            Some(Place::Sender(sender)) => self.backed.remove(&sender, 1),
            None => {}
        }
    }

    /// Bytes that are taken; 0 where nothing is awaited.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.total()
    }

    /// Agreements that take a place.
    pub(super) fn collected(&self) -> u64 {
        self.lone.total() + self.backed.total()
    }
}
