//! From a message to its share: the checks, who its sender is, what that sender may still burn, and the claim.

use std::time::Duration;

use super::{Arrival, Genuine, InVain, Job, Receiver, ReceiverEffect, Standing, Stranger};
use crate::{
    effect::{PadEffect, Record, Usage},
    hub::RequestId,
    ids::{Lane, NodeId},
    message::{Agreement, Content, KeyInstruction, Unverified},
    pad::{PadBytes, TAG_KEY_BYTES},
    params::{
        INTRODUCED_BYTES_MAX, INTRODUCED_PER_HUB_MIN, INTRODUCED_PERIOD, Time, UNKNOWN_SENDER_PAUSE,
        UNKNOWN_SENDER_PAUSE_MAX, UNKNOWN_SENDER_TRIES, UNKNOWN_SENDERS_PER_HUB_MAX, WAITING_MESSAGES_MAX,
    },
    planted::{Fault, planted},
    quota::{Account, Quota, Spending},
    refusal::Refusal,
};

impl Receiver {
    pub(super) fn instruction(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        let length = bytes.len() as u64;
        let Ok(message) = Unverified::<KeyInstruction>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer(id, Err(Refusal::Malformed));
        };
        let agreement = &message.unverified().agreement;
        if let Err(refusal) = self.acceptable(from, agreement) {
            self.counters.refused += 1;
            return self.answer(id, Err(refusal));
        }
        let (range, block, sender) = (message.range(), agreement.block(), agreement.sender);
        let arrival = Arrival { id, hub: from, block, sender, bytes: length };
        let established = self.knows(&sender);
        if !self.places.admit(&arrival, self.policy.hubs.len(), established) {
            return self.answer(id, Err(Refusal::Busy));
        }
        let ticket = self.begin(Job::Hold { arrival, message });
        self.effects.push_back(ReceiverEffect::Pad(PadEffect::Hold {
            ticket,
            from,
            range,
            block: Some(block),
            for_sync: false,
        }));
    }

    /// The checks of §2.3.2 that need nothing but the message. The hub that speaks must be acceptable;
    /// other roster hubs need not be, for their shares would not count. (Were they looked at here, one
    /// hub that is excluded on one side only could stop every agreement.)
    fn acceptable(&self, from: NodeId, agreement: &Agreement) -> Result<(), Refusal> {
        if !agreement.receivers.contains(&self.me) {
            return Err(Refusal::NotForMe);
        }
        if agreement.position(&from).is_none() {
            return Err(Refusal::NotInRoster);
        }
        if agreement.k < self.policy.k_min {
            return Err(Refusal::KTooSmall);
        }
        if !self.policy.hubs.contains(&from) && !planted(Fault::ExcludedHubAccepted) {
            return Err(Refusal::HubNotAccepted);
        }
        if u64::from(agreement.key_bytes) > self.policy.key_bytes_max {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    pub(super) fn sender_known(&mut self, now: Time, node: NodeId, established: bool) {
        // The record of an identity is durable. Another inquiry, which began before it, may end in vain: that says
        // something of the hubs that could be reached, and nothing of the sender.
        let stands = matches!(self.senders.get(&node), Some(Standing::Established));
        if stands && !established && !planted(Fault::FailedInquiryDemotes) {
            return;
        }
        let (waiting, mut in_vain) = match self.senders.remove(&node) {
            Some(Standing::Asking { waiting, before }) => (waiting, before),
            Some(Standing::Unknown(stranger)) => (Vec::new(), stranger.in_vain),
            Some(Standing::Established) | None => (Vec::new(), InVain::default()),
        };
        let introduced_by = waiting.first().map(|(arrival, _)| arrival.hub);
        if let (true, Some(hub)) = (established, introduced_by) {
            self.budgets.refund(&Account::Introduction { hub }, TAG_KEY_BYTES as u64);
        }
        in_vain.named_by.extend(introduced_by);
        in_vain.number = in_vain.number.saturating_add(1);
        let until = now + pause(in_vain.number);
        let standing = if established {
            Standing::Established
        } else {
            Standing::Unknown(Stranger { since: now, until, introduced_by, in_vain })
        };
        self.senders.insert(node, standing);
        for (arrival, genuine) in waiting {
            if established {
                self.pay(now, arrival, genuine);
            } else {
                self.claim(arrival, Err((Refusal::SenderNotEstablished, genuine)), Vec::new());
            }
        }
    }

    pub(super) fn held(
        &mut self,
        now: Time,
        arrival: Arrival,
        message: Unverified<KeyInstruction>,
        pad: Result<PadBytes, Refusal>,
        block_ended: bool,
    ) {
        let (range, block) = (message.range(), arrival.block);
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.dismiss(now, arrival, refusal),
        };
        let Some((pad, tag_key)) = pad.split() else {
            self.release(range, None);
            return self.dismiss(now, arrival, Refusal::Malformed);
        };
        match message.verify(tag_key) {
            Err(forged) => {
                self.counters.forged += 1;
                self.release(range, Some(forged.blocks));
                self.dismiss(now, arrival, Refusal::BadTag);
            }
            Ok(instruction) => {
                let agreement = &instruction.agreement;
                // A block of ours that has ended may still get late shares; any other is a reused id.
                let stale = block_ended
                    && (!self.collections.contains_key(&block) || self.is_over(now, &block))
                    && !planted(Fault::EndedBlockAccepted);
                let sender = agreement.sender;
                let genuine = Genuine { instruction, pad };
                if stale {
                    return self.claim(arrival, Err((Refusal::BlockKnown, genuine)), Vec::new());
                }
                if !self.can_negotiate(&genuine.instruction.agreement) {
                    // A session ends with its last round, of which shares may still come: nothing is lost then. The record
                    // of that end may still be on its way.
                    let over = |collection: &crate::collect::Collection| {
                        collection.ending || collection.outcome.is_some()
                    };
                    let ended = block_ended || self.collections.get(&block).is_some_and(over);
                    let refusal = if ended { Refusal::BlockKnown } else { Refusal::UnknownRound };
                    return self.claim(arrival, Err((refusal, genuine)), Vec::new());
                }
                match self.senders.get_mut(&sender) {
                    Some(Standing::Established) => self.pay(now, arrival, genuine),
                    Some(Standing::Asking { waiting, .. }) if may_wait(waiting, arrival.hub) => {
                        waiting.push((arrival, genuine));
                    }
                    Some(Standing::Asking { .. }) => {
                        self.release(range, None);
                        self.dismiss(now, arrival, Refusal::Busy);
                    }
                    Some(Standing::Unknown(stranger)) if stranger.rests(now, &arrival.hub) => {
                        self.claim(arrival, Err((Refusal::SenderNotEstablished, genuine)), Vec::new());
                    }
                    Some(Standing::Unknown(_)) | None => self.introduce(now, arrival, genuine),
                }
            }
        }
    }

    /// Has the hubs asked about a sender, where the hub that names it may still cause that.
    fn introduce(&mut self, now: Time, arrival: Arrival, genuine: Genuine) {
        let hub = arrival.hub;
        let paid = if self.may_introduce(now, hub) {
            let account = Account::Introduction { hub };
            let paid = self.budgets.pay(now, [(account, self.introductions(), TAG_KEY_BYTES as u64)]);
            paid.map_err(|exceeded| exceeded.changed)
        } else {
            Err(Vec::new())
        };
        let spendings = match paid {
            Ok(spendings) => spendings,
            Err(changed) => {
                return self.claim(arrival, Err((Refusal::SenderNotEstablished, genuine)), changed);
            }
        };
        let sender = genuine.instruction.agreement.sender;
        let before = match self.senders.remove(&sender) {
            Some(Standing::Unknown(stranger)) => stranger.in_vain,
            _ => InVain::default(),
        };
        self.senders.insert(sender, Standing::Asking { waiting: vec![(arrival, genuine)], before });
        if spendings.is_empty() {
            return self.effects.push_back(ReceiverEffect::Establish(sender));
        }
        let ticket = self.begin(Job::Introduce { sender, spendings: spendings.clone() });
        self.commit(ticket, Record { spendings, ..Record::default() });
    }

    /// What one hub may make us burn by naming unknown senders.
    pub(super) fn introductions(&self) -> Option<Quota> {
        let each = INTRODUCED_BYTES_MAX / (self.policy.hubs.len() as u64).max(1);
        Quota::new(each.max(INTRODUCED_PER_HUB_MIN * TAG_KEY_BYTES as u64), INTRODUCED_PERIOD)
    }

    /// Whether a hub may make us ask about one more sender; forgets the unknown ones of whom nothing was heard for long.
    fn may_introduce(&mut self, now: Time, hub: NodeId) -> bool {
        let is_forgotten = |standing: &Standing| match standing {
            Standing::Unknown(stranger) => !stranger.is_recent(now),
            Standing::Established | Standing::Asking { .. } => false,
        };
        self.senders.retain(|_, standing| !is_forgotten(standing));
        let by_hub = |standing: &&Standing| match standing {
            Standing::Established => false,
            Standing::Asking { waiting, .. } => waiting.first().is_some_and(|(first, _)| first.hub == hub),
            Standing::Unknown(stranger) => {
                stranger.introduced_by == Some(hub) && now < stranger.since + UNKNOWN_SENDER_PAUSE
            }
        };
        self.senders.values().filter(by_hub).count() < UNKNOWN_SENDERS_PER_HUB_MAX
    }

    /// Charges a message to its sender. What is recorded ahead goes with the claim, so it is durable before the
    /// share counts; the hub has burned the pad in any case.
    fn pay(&mut self, now: Time, arrival: Arrival, genuine: Genuine) {
        let agreement = &genuine.instruction.agreement;
        let account = Account::Lane { sender: agreement.sender, hub: arrival.hub };
        match self.budgets.pay(now, [(account, self.quotas.of(&account), agreement.burned_bytes(Lane::Down))])
        {
            Ok(spendings) => self.claim(arrival, Ok(genuine), spendings),
            Err(exceeded) => {
                self.claim(arrival, Err((Refusal::QuotaExceeded, genuine)), exceeded.changed);
            }
        }
    }

    /// Uses the run up, for ever; only then is the message answered and its share looked at.
    fn claim(
        &mut self,
        arrival: Arrival,
        outcome: Result<Genuine, (Refusal, Genuine)>,
        spendings: Vec<Spending>,
    ) {
        let range = match &outcome {
            Ok(genuine) | Err((_, genuine)) => genuine.instruction.range,
        };
        if outcome.is_err() {
            self.counters.refused += 1;
        }
        let ticket = self.begin(Job::Claim { arrival, outcome, spendings: spendings.clone() });
        self.commit(ticket, Record { claims: vec![(range, Usage::Key)], spendings, ..Record::default() });
    }

    /// The run is used up, and its message is no longer on its way: it counts, or it is refused.
    pub(super) fn claimed(
        &mut self,
        now: Time,
        arrival: Arrival,
        outcome: Result<Genuine, (Refusal, Genuine)>,
        spendings: Vec<Spending>,
        durable: bool,
    ) {
        let Arrival { id, hub: from, block, .. } = arrival;
        if !durable {
            self.budgets.not_recorded(&spendings);
            return self.dismiss(now, arrival, Refusal::Internal);
        }
        self.budgets.recorded(&spendings);
        match outcome {
            // It waited for the word on its sender, for longer than late shares are looked at.
            Ok(_) if self.is_over(now, &block) => self.dismiss(now, arrival, Refusal::BlockKnown),
            Ok(genuine) => {
                self.places.arrived(&arrival, true);
                self.answer(id, Ok(()));
                self.collect(now, from, genuine);
            }
            Err((refusal @ Refusal::QuotaExceeded, genuine)) => {
                self.places.arrived(&arrival, false);
                self.answer(id, Err(refusal));
                self.turn_away(now, from, genuine);
            }
            Err((Refusal::UnknownRound, genuine)) => {
                self.unknown_round(arrival.hub, &genuine.instruction.agreement);
                self.dismiss(now, arrival, Refusal::UnknownRound);
            }
            Err((refusal, _)) => self.dismiss(now, arrival, refusal),
        }
    }

    /// A hub brought a round that cannot be negotiated. One of a session that is known stands, whatever a hub says of it.
    fn unknown_round(&mut self, hub: NodeId, agreement: &Agreement) {
        let Content::Round { session, .. } = agreement.content else { return };
        if self.sessions.contains_key(&session) {
            return;
        }
        let (sender, block) = (agreement.sender, agreement.block());
        if self.unknown_rounds.brought(hub, (sender, session, block)) == usize::from(self.policy.k_min.max(1))
        {
            self.effects.push_back(ReceiverEffect::SessionLost { sender, session });
        }
    }

    /// A message has come to nothing.
    fn dismiss(&mut self, now: Time, arrival: Arrival, refusal: Refusal) {
        let block = arrival.block;
        self.places.arrived(&arrival, false);
        self.answer(arrival.id, Err(refusal));
        if self.collections.contains_key(&block) {
            self.retire_if_done(now, block);
        } else {
            self.places.left(&block);
        }
    }
}

/// How long a sender is not asked about again, after so many inquiries that ended in vain.
fn pause(in_vain: u32) -> Duration {
    let doublings = in_vain.saturating_sub(UNKNOWN_SENDER_TRIES).min(16);
    (UNKNOWN_SENDER_PAUSE * (1 << doublings)).min(UNKNOWN_SENDER_PAUSE_MAX)
}

/// Whether one more message of a hub may wait for the word on its sender: there are always some places left for other
/// hubs.
fn may_wait(waiting: &[(Arrival, Genuine)], hub: NodeId) -> bool {
    let of_hub = waiting.iter().filter(|(arrival, _)| arrival.hub == hub).count();
    let free = WAITING_MESSAGES_MAX.saturating_sub(waiting.len());
    of_hub < free || (planted(Fault::PlacesForWhoComesFirst) && free > 0)
}
