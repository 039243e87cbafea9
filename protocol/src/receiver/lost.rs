//! Rounds that hubs bring of sessions that are not known here. One hub may make up any number of them; when as many as
//! must be honest in part bring the same round, its sender uses a negotiation key that we have lost, and should hear it.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{BlockId, NodeId};

/// Rounds of unknown sessions that are remembered of each hub: more than one sender has under way in a stream. A hub that
/// makes up more pushes its own out, and no other hub's.
const ROUNDS_PER_HUB_MAX: usize = 64;

/// A round: its sender, its session, and its block.
type RoundOf = (NodeId, BlockId, BlockId);

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct UnknownRounds(BTreeMap<NodeId, VecDeque<RoundOf>>);

impl UnknownRounds {
    /// Notes that a hub has brought a round. Gives how many hubs have brought it by now, and 0 where this one had before.
    pub(super) fn brought(&mut self, hub: NodeId, round: RoundOf) -> usize {
        let of_hub = self.0.entry(hub).or_default();
        if of_hub.contains(&round) {
            return 0;
        }
        if of_hub.len() >= ROUNDS_PER_HUB_MAX {
            of_hub.pop_front();
        }
        of_hub.push_back(round);
        self.0.values().filter(|rounds| rounds.contains(&round)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_counts_once_and_pushes_out_its_own_alone() {
        let node = |id: u8| NodeId::new([id; 32]);
        let block = |id: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&id.to_le_bytes());
            BlockId::new(bytes)
        };
        let mut rounds = UnknownRounds::default();
        assert_eq!(rounds.brought(node(1), (node(9), block(7), block(0))), 1);
        assert_eq!(rounds.brought(node(1), (node(9), block(7), block(0))), 0, "it has said so");
        assert_eq!(rounds.brought(node(2), (node(8), block(7), block(0))), 1, "of another sender");
        assert_eq!(rounds.brought(node(2), (node(9), block(8), block(0))), 1, "of another session");
        for id in 1..1000 {
            rounds.brought(node(2), (node(9), block(7), block(id)));
        }
        assert_eq!(rounds.brought(node(3), (node(9), block(7), block(0))), 2, "what the first said stands");
        assert!(rounds.0.values().all(|rounds| rounds.len() <= ROUNDS_PER_HUB_MAX));
    }
}
