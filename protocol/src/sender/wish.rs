//! A wish for a key, and the roster that is drawn for it.

use std::{cmp::Reverse, collections::BTreeSet};

use rand_core::CryptoRng;

use crate::{
    ids::NodeId,
    message::{Agreement, Content},
    params::Time,
};

/// A wish for a key.
#[derive(Debug, Clone)]
pub struct KeyWish {
    /// Who is to have it besides us.
    pub receivers: Vec<NodeId>,
    /// Bytes of key, all keys of the block together.
    pub key_bytes: u32,
    /// What the secret serves for; not a round, which is begun by [`SenderInput::Round`](super::SenderInput::Round).
    pub content: Content,
    /// Whether the keys are kept until they are taken, instead of being handed out at once. A negotiation key never is.
    pub keep: bool,
    /// Whether there is no key unless every receiver says that it has it.
    pub confirm: bool,
    /// What it is for; public.
    pub purpose: String,
    /// Shares needed to reconstruct it.
    pub k: u8,
    /// Most hubs of the roster; 0: as many as there are.
    pub n: u8,
    /// Hubs for the roster, in any order.
    pub hubs: Vec<HubChoice>,
    /// Receivers whose notice is worth waiting for: those with a direct link.
    pub linked: BTreeSet<NodeId>,
    /// When to give up waiting for hubs.
    pub deadline: Time,
    /// When to give up waiting for notices, once k hubs have accepted.
    pub notice_deadline: Time,
}

/// A hub for the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubChoice {
    /// The hub.
    pub node: NodeId,
    /// Whether it can be reached now.
    pub reachable: bool,
    /// Bytes of pad that are left for messages to it.
    pub left: u64,
}

/// The hubs that can take part in a key of `me` with these receivers: of those that `me` accepts, the ones that every
/// receiver is served by, as far as it is known (`served_by`). A node that is a hub as well is none of a key that it
/// sends or receives: it shares no pads with itself.
pub fn serving<'a>(
    me: &NodeId,
    accepted: impl IntoIterator<Item = NodeId>,
    receivers: &[NodeId],
    served_by: impl Fn(&NodeId) -> Option<&'a BTreeSet<NodeId>>,
) -> BTreeSet<NodeId> {
    let serves = |hub: &NodeId| {
        receivers.iter().all(|receiver| served_by(receiver).is_some_and(|hubs| hubs.contains(hub)))
    };
    accepted.into_iter().filter(|hub| hub != me && !receivers.contains(hub) && serves(hub)).collect()
}

impl KeyWish {
    /// How many hubs its roster will have.
    pub fn most_hubs(&self) -> usize {
        self.hubs.len().min(if self.n == 0 { usize::from(u8::MAX) } else { usize::from(self.n) })
    }

    /// Chooses the n hubs of the roster: first those that can be reached and serve the receivers, then those that can be
    /// reached alone, of each the ones with most pad left. One that does not serve them now counts as one that cannot be
    /// reached, unless too few were left.
    pub(super) fn choose_hubs(&mut self, serves: impl Fn(&NodeId) -> bool) {
        let mut without = self.hubs.clone();
        without.iter_mut().for_each(|hub| hub.reachable &= serves(&hub.node));
        if without.iter().filter(|hub| hub.reachable).count() >= usize::from(self.k) {
            self.hubs = without;
        }
        self.hubs.sort_by_key(|hub| (!hub.reachable, !serves(&hub.node), Reverse(hub.left)));
        self.hubs.truncate(self.most_hubs());
    }

    /// The hubs of the roster that messages go to, in roster order: unreachable ones stand last.
    pub(super) fn reachable_in<'a>(&'a self, agreement: &'a Agreement) -> impl Iterator<Item = NodeId> + 'a {
        let reachable = self.hubs.iter().filter(|hub| hub.reachable).count();
        agreement.roster.iter().copied().take(reachable)
    }
}

/// A random order of the hubs, those that cannot be reached last.
pub(super) fn draw_roster<R: CryptoRng + ?Sized>(hubs: &[HubChoice], rng: &mut R) -> Vec<NodeId> {
    let mut keyed: Vec<_> = hubs.iter().map(|hub| (!hub.reachable, rng.next_u64(), hub.node)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, _, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};
    use std::collections::BTreeMap;

    fn choice(id: u8, reachable: bool) -> HubChoice {
        HubChoice { node: NodeId::new([id; 32]), reachable, left: 100 }
    }

    #[test]
    fn a_hub_serves_both_ends_and_is_neither_of_them() {
        let node = |id: u8| NodeId::new([id; 32]);
        let nodes = |ids: &[u8]| -> BTreeSet<NodeId> { ids.iter().copied().map(node).collect() };
        // Four nodes that are hub and client for each other; 5 is a hub that 2 is not enrolled with, and 4 lies: it
        // claims itself.
        let served = BTreeMap::from([(node(2), nodes(&[1, 3, 4])), (node(4), nodes(&[1, 2, 3, 4, 5]))]);
        let of = |receivers: &[u8]| {
            let receivers: Vec<NodeId> = receivers.iter().copied().map(node).collect();
            serving(&node(1), nodes(&[1, 2, 3, 4, 5]), &receivers, |receiver| served.get(receiver))
        };
        assert_eq!(of(&[2]), nodes(&[3, 4]));
        assert_eq!(of(&[4]), nodes(&[2, 3, 5]));
        assert_eq!(of(&[2, 4]), nodes(&[3]));
        assert_eq!(of(&[3]), nodes(&[]), "nothing is known of it");
    }

    #[test]
    fn hubs_that_serve_the_receivers_are_chosen_first_also_where_they_are_too_few() {
        let node = |id: u8| NodeId::new([id; 32]);
        let chosen = |k: u8, serving: &[u8]| {
            let mut wish = KeyWish {
                receivers: vec![node(9)],
                key_bytes: 32,
                content: Content::Keys(1),
                keep: false,
                confirm: false,
                purpose: String::new(),
                k,
                n: 3,
                // The last ones have least pad.
                hubs: (0..6)
                    .map(|id| HubChoice { left: 100 - u64::from(id), ..choice(id, id != 5) })
                    .collect(),
                linked: BTreeSet::new(),
                deadline: Time::ZERO,
                notice_deadline: Time::ZERO,
            };
            wish.choose_hubs(|hub| serving.iter().any(|id| node(*id) == *hub));
            wish.hubs.iter().map(|hub| (hub.node.as_bytes()[0], hub.reachable)).collect::<Vec<_>>()
        };
        assert_eq!(chosen(2, &[3, 4, 5]), [(3, true), (4, true), (5, false)]);
        assert_eq!(chosen(3, &[3, 4, 5]), [(3, true), (4, true), (0, true)]);
        assert_eq!(chosen(3, &[]), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn unreachable_hubs_stand_last_and_the_rest_is_shuffled() {
        let hubs: Vec<_> = (0..6).map(|id| choice(id, id != 2 && id != 4)).collect();
        let mut rng = StdRng::seed_from_u64(1);
        let mut firsts = BTreeSet::new();
        for _ in 0..64 {
            let roster = draw_roster(&hubs, &mut rng);
            let last: BTreeSet<_> = roster[4..].iter().copied().collect();
            assert_eq!(last, [2, 4].map(|id| NodeId::new([id; 32])).into());
            firsts.insert(roster[0]);
        }
        assert_eq!(firsts.len(), 4);
    }
}
