//! Rests after refusals by quota: each try burns pad at the sender, and in vain while the quota is used up (§4.1).
//!
//! A refusal carries no tag. So a rest needs the word of as many hubs about one agreement as must be honest in part,
//! and it costs time alone: nothing else follows from it. It holds for the same receivers and for keys that are as
//! long as the refused one or longer, for a shorter one may still fit. When there is room again nobody says; rests
//! begin short, and each is twice as long as the one before.
//!
//! Must never: let fewer hubs begin a rest; outlast [`QUOTA_REST_MAX`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    ids::{BlockId, NodeId},
    message::Agreement,
    params::{QUOTA_REST_MAX, QUOTA_REST_MIN, Time},
    planted::{Fault, planted},
    refusal::{Refusal, SendFailure},
};

/// Sets of receivers that rest at once; beyond it the rest that ends first is dropped.
const RESTS_MAX: usize = 1024;

/// Ended agreements of which further refusals are awaited: an agreement ends as soon as too few hubs are left, and what
/// the others say is heard all the same.
const ENDED_MAX: usize = 64;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Rests {
    /// Hubs that must say so.
    enough: usize,
    ended: VecDeque<Ended>,
    of: BTreeMap<Vec<NodeId>, Rest>,
}

/// An agreement that too few hubs have refused by quota so far.
#[derive(Debug)]
struct Ended {
    block: BlockId,
    roster: Vec<NodeId>,
    receivers: Vec<NodeId>,
    key_bytes: u32,
    refusals: Vec<(NodeId, Refusal)>,
}

#[derive(Debug)]
struct Rest {
    /// The length of the shortest key that was refused.
    key_bytes: u32,
    length: Duration,
    until: Time,
    /// Who refused, and why.
    refusals: Vec<(NodeId, Refusal)>,
}

impl Rests {
    pub(super) fn new(enough: u8) -> Self {
        let enough = if planted(Fault::RestForOneRefusal) { 1 } else { enough };
        Self { enough: usize::from(enough.max(1)), ended: VecDeque::new(), of: BTreeMap::new() }
    }

    /// An agreement was accepted by too few hubs. Gives the failure where that was for a quota, as enough of them say.
    pub(super) fn refused(
        &mut self,
        now: Time,
        agreement: &Agreement,
        refusals: &[(NodeId, Refusal)],
    ) -> Option<SendFailure> {
        let refusals: Vec<_> =
            refusals.iter().filter(|(_, refusal)| refusal.is_of_quota()).copied().collect();
        let ended = Ended {
            block: agreement.block(),
            roster: agreement.roster.clone(),
            receivers: sorted(&agreement.receivers),
            key_bytes: agreement.key_bytes,
            refusals,
        };
        if ended.refusals.len() >= self.enough {
            let (receivers, key_bytes) = (ended.receivers.clone(), ended.key_bytes);
            self.begin(now, ended);
            return self.holds(now, &receivers, key_bytes);
        }
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
        None
    }

    /// A hub's refusal of an agreement that has ended already.
    pub(super) fn late(&mut self, now: Time, block: &BlockId, hub: NodeId, refusal: Refusal) {
        let Some(at) = self.ended.iter().position(|ended| ended.block == *block) else { return };
        let Some(ended) = self.ended.get_mut(at) else { return };
        let new = ended.roster.contains(&hub) && ended.refusals.iter().all(|(of, _)| *of != hub);
        if !new || !refusal.is_of_quota() {
            return;
        }
        ended.refusals.push((hub, refusal));
        if ended.refusals.len() >= self.enough
            && let Some(ended) = self.ended.remove(at)
        {
            self.begin(now, ended);
        }
    }

    /// A key came about: there is room for such a one.
    pub(super) fn served(&mut self, agreement: &Agreement) {
        let receivers = sorted(&agreement.receivers);
        if self.of.get(&receivers).is_some_and(|rest| agreement.key_bytes >= rest.key_bytes) {
            self.of.remove(&receivers);
        }
    }

    /// Why a key of this length is not tried now; `None` where nothing speaks against it.
    pub(super) fn holds(&self, now: Time, receivers: &[NodeId], key_bytes: u32) -> Option<SendFailure> {
        let rest = self.of.get(&sorted(receivers))?;
        (now < rest.until && key_bytes >= rest.key_bytes).then(|| SendFailure::Quota {
            refusals: rest.refusals.clone(),
            key_bytes: rest.key_bytes,
            rest: rest.until.saturating_sub(now),
        })
    }

    fn begin(&mut self, now: Time, ended: Ended) {
        let Ended { receivers, key_bytes, refusals, .. } = ended;
        // What was long ago says nothing about now.
        self.of.retain(|_, rest| now < rest.until + QUOTA_REST_MAX);
        let rest = match self.of.get(&receivers) {
            // Agreements that were under way together are refused together, and that counts once.
            Some(rest) if now < rest.until => Rest {
                key_bytes: key_bytes.min(rest.key_bytes),
                length: rest.length,
                until: rest.until.max(now + QUOTA_REST_MIN),
                refusals,
            },
            before => {
                let length = before.map_or(QUOTA_REST_MIN, |rest| (rest.length * 2).min(QUOTA_REST_MAX));
                Rest { key_bytes, length, until: now + length, refusals }
            }
        };
        self.of.insert(receivers, rest);
        if self.of.len() > RESTS_MAX {
            let first = self.of.iter().min_by_key(|(_, rest)| rest.until).map(|(of, _)| of.clone());
            first.and_then(|first| self.of.remove(&first));
        }
    }
}

fn sorted(nodes: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::BlockNonce, message::Content, params::PROTOCOL_VERSION};

    fn node(id: u8) -> NodeId {
        NodeId::new([id; 32])
    }

    fn agreement(nonce: u8) -> Agreement {
        Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([nonce; 16]),
            sender: node(6),
            receivers: vec![node(9)],
            purpose: String::new(),
            k: 2,
            key_bytes: 32,
            content: Content::Keys(1),
            roster: vec![node(1), node(2), node(3)],
        }
    }

    fn rest_of(rests: &Rests, now: Time) -> Option<Duration> {
        match rests.holds(now, &[node(9)], 32) {
            Some(SendFailure::Quota { rest, .. }) => Some(rest),
            _ => None,
        }
    }

    #[test]
    fn rests_grow_while_refusals_go_on_and_begin_anew_when_they_were_long_ago() {
        let mut rests = Rests::new(2);
        let refused = [(node(1), Refusal::DefaultQuota), (node(2), Refusal::DefaultQuota)];
        let (mut now, mut length) = (Time::ZERO, QUOTA_REST_MIN);
        for nonce in 0..10 {
            rests.refused(now, &agreement(nonce), &refused);
            assert_eq!(rest_of(&rests, now), Some(length));
            (now, length) = (now + length, (length * 2).min(QUOTA_REST_MAX));
            assert_eq!(rest_of(&rests, now), None, "it is over");
        }
        rests.refused(now + QUOTA_REST_MAX, &agreement(11), &refused);
        assert_eq!(rest_of(&rests, now + QUOTA_REST_MAX), Some(QUOTA_REST_MIN));
    }

    #[test]
    fn after_the_end_hubs_of_the_roster_count_once_each_and_nobody_else() {
        let (mut rests, now) = (Rests::new(2), Time::ZERO);
        let block = agreement(1).block();
        assert_eq!(rests.refused(now, &agreement(1), &[(node(1), Refusal::QuotaExceeded)]), None);
        for (hub, refusal) in [(1, Refusal::QuotaExceeded), (4, Refusal::QuotaExceeded), (2, Refusal::Busy)] {
            rests.late(now, &block, node(hub), refusal);
            assert_eq!(rest_of(&rests, now), None, "{hub}: {refusal}");
        }
        rests.late(now, &block, node(2), Refusal::ReceiverLimit);
        assert_eq!(rest_of(&rests, now), Some(QUOTA_REST_MIN));
    }
}
