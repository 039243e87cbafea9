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
