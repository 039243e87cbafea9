//! Agreements: the true key of each, who holds what, and what had to come of it.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    ids::{BlockId, Lane, NodeId},
    message::{Agreement, KeyRequest, NoticeOutcome},
    params::disruption_threshold,
    planted::{Fault, planted},
    tag::U,
};

use super::{Checker, Invariant, lanes::Given, lanes::body};

/// All agreements.
#[derive(Default)]
pub(crate) struct Blocks {
    pub(crate) blocks: BTreeMap<BlockId, Block>,
    /// Genuine key requests that came to a hub.
    pub(crate) given: BTreeMap<(usize, BlockId), Vec<Given>>,
}

/// One agreement of an honest sender.
pub(crate) struct Block {
    pub(crate) agreement: Agreement,
    /// Exclusive-or of the shares of the first k positions, and which are in it.
    secret: Vec<u8>,
    positions: BTreeSet<u8>,
    holders: BTreeMap<usize, Vec<u8>>,
    handed_out: BTreeMap<usize, u32>,
    /// How it ended at its sender.
    pub(crate) sender_ended: Option<bool>,
    /// Hubs whose share a receiver took in since it started, and whether that share was false.
    spoke: BTreeMap<usize, BTreeMap<NodeId, bool>>,
    /// The last word of each receiver.
    pub(crate) verdicts: BTreeMap<usize, NoticeOutcome>,
    /// A receiver that was ended by a crash may say anything less.
    disturbed: BTreeSet<usize>,
    /// Honest hubs that refused it for a quota that is used up.
    pub(super) refused: BTreeSet<NodeId>,
}

/// How an agreement ended at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Key,
    Nothing,
}

impl Block {
    /// Bytes of u of all receivers, which come before the key.
    fn us_len(&self) -> usize {
        size_of::<U>() * self.agreement.receivers.len()
    }

    /// What a receiver gets to know: its own u, and the key.
    pub(crate) fn known_to(&self, receiver: &NodeId) -> Option<(U, Vec<u8>)> {
        let at = self.agreement.receivers.iter().position(|other| other == receiver)?;
        // Of the planted fault that takes one u for all the league makes use.
        let at = if planted(Fault::OneKeyTagKeyForAll) { 0 } else { at };
        let u = self.secret.as_chunks().0.get(at)?;
        Some((*u, self.key()?.to_vec()))
    }

    fn key(&self) -> Option<&[u8]> {
        let whole = self.positions.len() == usize::from(self.agreement.k);
        if whole { self.secret.get(self.us_len()..) } else { None }
    }
}

impl Checker {
    /// A sender has begun.
    pub(crate) fn began(&mut self, agreement: &Agreement) {
        let id = agreement.block();
        let before = self.blocks.blocks.get(&id).map(|known| known.agreement.sender);
        if before.is_some_and(|before| before != agreement.sender)
            && self.bad_clients.contains(&agreement.sender)
        {
            // Only where the id of a block is not bound to its sender. What counts is what comes of the first one.
            return;
        }
        let block = Block {
            agreement: agreement.clone(),
            secret: vec![0; agreement.share_bytes(Lane::Up) as usize],
            positions: BTreeSet::new(),
            holders: BTreeMap::new(),
            handed_out: BTreeMap::new(),
            sender_ended: None,
            spoke: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            disturbed: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        if self.blocks.blocks.insert(id, block).is_some() {
            self.fail(Invariant::KeyOnce, format!("block id {id} was drawn twice"));
        }
    }

    /// An honest sender sends a hub its share.
    pub(crate) fn shared(&mut self, to: usize, sealed: &[u8]) {
        let Some(request) = body::<KeyRequest>(sealed) else { return };
        let id = request.agreement.block();
        let apart = |text: String| (Invariant::SharesApart, text);
        let problem = 'check: {
            let Some(block) = self.blocks.blocks.get_mut(&id) else {
                break 'check Some(apart(format!("a share of block {id}, which never began")));
            };
            let Some(position) = block.agreement.position(&self.ids[to]) else {
                break 'check Some(apart(format!(
                    "hub {to} got a share of block {id} without a place in it"
                )));
            };
            let table = self.lanes.table(&request.range.table);
            if table.is_none_or(|truth| truth.hub != to) {
                break 'check Some(apart(format!("hub {to} got a message under another hub's table")));
            }
            if request.share.is_some() == block.agreement.takes_pad(position) {
                break 'check Some(apart(format!("hub {to} got a share in the wrong form")));
            }
            // What the key of a round is, its sender chooses later.
            let counts = position < block.agreement.k && !block.agreement.is_round();
            if counts && block.positions.insert(position) {
                let run = self.lanes.run(&request.range).unwrap_or_default();
                block.secret.iter_mut().zip(run).for_each(|(byte, pad)| *byte ^= pad);
            }
            None
        };
        if let Some((invariant, text)) = problem {
            self.fail(invariant, text);
        }
    }

    /// A node holds a key now.
    pub(crate) fn holds(&mut self, node: usize, id: BlockId, key: Vec<u8>) {
        self.count("keys held");
        let Some(block) = self.blocks.blocks.get_mut(&id) else { return };
        let honest = !self.bad_clients.contains(&block.agreement.sender);
        let truth = block.key().map(<[u8]>::to_vec);
        let others_agree = block.holders.values().all(|other| *other == key);
        let right = truth.as_ref().is_none_or(|truth| *truth == key);
        block.holders.insert(node, key);
        if honest && self.bounds.safe && !(others_agree && right) {
            let what = if right { "another key than others" } else { "a wrong key" };
            self.fail(Invariant::KeysEqual, format!("node {node} holds {what} of block {id}"));
        }
    }

    /// An application has been given a key.
    pub(crate) fn handed_out(&mut self, node: usize, id: BlockId, key: &[u8]) {
        self.count("keys handed out");
        self.facts[node].handed_out.insert(id);
        if let Some(fact) = self.facts[node].blocks.get_mut(&id) {
            fact.handed_out = true;
            if fact.key.as_deref().is_some_and(|kept| kept != key) {
                self.fail(Invariant::NothingLost, format!("node {node} handed out other bytes for {id}"));
            }
        }
        let put_back = self.put_back.contains(&id);
        let Some(block) = self.blocks.blocks.get_mut(&id) else { return };
        let times = block.handed_out.entry(node).or_default();
        *times += 1;
        if *times > 1 && !put_back {
            self.fail(Invariant::KeyOnce, format!("node {node} handed the key of block {id} out again"));
        }
        self.holds(node, id, key.to_vec());
    }

    /// A sender uses the key of a round: its receiver must have it on record, whatever went wrong.
    pub(crate) fn confirmed(&mut self, receiver: usize, id: BlockId) {
        self.count("rounds confirmed");
        let kept = self.facts[receiver].blocks.get(&id).is_some_and(|fact| fact.key.is_some());
        let honest = !self.bad_clients.contains(&self.ids[receiver]);
        if honest && !kept && !self.put_back.contains(&id) && !self.was_put_back[receiver] {
            let text = format!("the key of block {id} is used, and node {receiver} has not recorded it");
            self.fail(Invariant::NothingLost, text);
        }
    }

    /// The sender has ended.
    pub(crate) fn sender_ended(&mut self, id: BlockId, ended: Ended) {
        if let Some(block) = self.blocks.blocks.get_mut(&id) {
            block.sender_ended = Some(ended == Ended::Key);
        }
    }

    /// An honest receiver took in a hub's share.
    pub(crate) fn spoke(&mut self, receiver: usize, hub: NodeId, id: BlockId, lied: bool) {
        if let Some(block) = self.blocks.blocks.get_mut(&id) {
            // A hub's first word counts.
            block.spoke.entry(receiver).or_default().entry(hub).or_insert(lied);
        }
    }

    /// A node's process ended: what it was collecting is gone.
    pub(crate) fn forgets(&mut self, node: usize) {
        if self.may_be_told(node) {
            self.facts[node].blocks.values_mut().for_each(|fact| fact.told_late = true);
        }
        for block in self.blocks.blocks.values_mut() {
            block.spoke.remove(&node);
            block.disturbed.insert(node);
        }
    }

    /// An honest receiver tells how an agreement ended.
    pub(crate) fn verdict(&mut self, receiver: usize, agreement: &Agreement, outcome: &NoticeOutcome) {
        let id = agreement.block();
        let Some(block) = self.blocks.blocks.get_mut(&id) else { return };
        block.verdicts.insert(receiver, outcome.clone());
        let NoticeOutcome::Validated { shares, false_positions } = outcome else { return };
        let voices = block.spoke.get(&receiver).map_or(0, BTreeMap::len);
        if !block.disturbed.contains(&receiver) && usize::from(*shares) > voices {
            let text = format!("node {receiver} counts {shares} shares of block {id} out of {voices} hubs");
            return self.fail(Invariant::LiarsNamed, text);
        }
        if block.agreement != *agreement || !self.bounds.safe {
            return;
        }
        let named = false_positions.iter().filter_map(|&at| agreement.roster.get(usize::from(at)));
        // Colluding liars inside the chosen k can make honest hubs look off: that is documented.
        let innocent = named.copied().find(|hub| !self.bad_hubs.contains(hub));
        if !self.colluding
            && !self.bad_clients.contains(&agreement.sender)
            && let Some(hub) = innocent
        {
            let text = format!("node {receiver} names {} a liar in block {id}, which is honest", hub.short());
            self.fail(Invariant::LiarsNamed, text);
        }
    }

    /// At the end: what had to come of every agreement, and that liars were named. `quiet`: hubs that are bad
    /// by being away.
    pub(crate) fn judge(&mut self, ids: &[NodeId], quiet: &BTreeSet<NodeId>) {
        let mut problems = Vec::new();
        for (id, block) in &self.blocks.blocks {
            if self.bad_clients.contains(&block.agreement.sender) {
                continue;
            }
            // In a round, whoever is late is not named.
            for (receiver, spoke) in block.spoke.iter().filter(|_| !block.agreement.is_round()) {
                let Some(NoticeOutcome::Validated { false_positions, .. }) = block.verdicts.get(receiver)
                else {
                    continue;
                };
                let named = |hub: &NodeId| {
                    block.agreement.position(hub).is_some_and(|at| false_positions.contains(&at))
                };
                let liars: Vec<&NodeId> =
                    spoke.iter().filter(|(_, lied)| **lied).map(|(hub, _)| hub).collect();
                let unnamed = liars.iter().find(|hub| !named(hub));
                if let Some(hub) = unnamed.filter(|_| self.bounds.safe && !self.colluding) {
                    let text = format!("node {receiver} did not name {} a liar in block {id}", hub.short());
                    problems.push((Invariant::LiarsNamed, text));
                }
            }
            if !self.bounds.sharp || !self.bounds.identifiable {
                continue;
            }
            let Agreement { k, roster, receivers, .. } = &block.agreement;
            // A quota that is used up hinders as a hub that is away does.
            let hinders = |hub: &&NodeId| {
                self.bad_hubs.contains(hub) || quiet.contains(hub) || block.refused.contains(hub)
            };
            let bad = roster.iter().filter(hinders).count();
            let threshold = disruption_threshold(block.agreement.n(), *k, self.bounds.k_min);
            let honest: Vec<usize> = receivers
                .iter()
                .filter(|receiver| !self.bad_clients.contains(receiver))
                .filter_map(|receiver| ids.iter().position(|id| id == receiver))
                .collect();
            if bad < usize::from(threshold) {
                let validated =
                    |at: &usize| matches!(block.verdicts.get(at), Some(NoticeOutcome::Validated { .. }));
                if let Some(at) = honest.iter().find(|at| !validated(at)) {
                    let verdict = block.verdicts.get(at);
                    let text = format!(
                        "{bad} bad hubs of n = {}, k = {k}, k_B = {} stopped block {id} at node {at}: {verdict:?}",
                        roster.len(),
                        self.bounds.k_min,
                    );
                    problems.push((Invariant::Threshold, text));
                }
                if block.sender_ended != Some(true) && honest.len() == receivers.len() {
                    let text = format!("{bad} bad hubs of {} stopped block {id} at its sender", roster.len());
                    problems.push((Invariant::Threshold, text));
                }
            }
        }
        for (invariant, text) in problems {
            self.fail(invariant, text);
        }
    }
}
