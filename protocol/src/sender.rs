//! The sender: chooses a roster, makes the shares, tells the hubs (§2.3.1, §2.3.2).
//!
//! The shares of the first k roster hubs are their pads themselves; the other n−k are derived and travel
//! under their pads. Which hubs come first is drawn afresh for every agreement. A hub that cannot be
//! reached comes last: nothing is burned for it and nothing is sent to it, while the roster still says
//! that it belongs.
//!
//! Must never: send before the pads are durably spent (minting sees to that); give the key out before its
//! record is durable; give one out that a receiver says it aborted.

mod io;
mod rest;
mod round;
mod share_out;
mod unserved;
mod voices;
mod wish;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_core::CryptoRng;

pub(crate) use self::share_out::close_round;
pub use self::{
    io::{AgreedKey, SenderEffect, SenderInput},
    round::RoundWish,
    wish::{HubChoice, KeyWish, serving},
};
use self::{
    rest::Rests,
    round::Round,
    share_out::{SealedRequest, share_out},
    unserved::Unserved,
    voices::Voices,
    wish::draw_roster,
};
use crate::{
    effect::{
        BlockKey, EndedBlock, MintRefusal, Minted, PadEffect, PadOutcome, Record, SecretKey, Ticket, Usage,
        Want,
    },
    hub::RequestId,
    ids::{BlockId, BlockNonce, Lane, NodeId},
    message::{Agreement, Content, Notice, NoticeOutcome},
    negotiation::Session,
    params::{PROTOCOL_VERSION, PURPOSE_BYTES_MAX, SENDING_BLOCKS_MAX, Time},
    planted::{Fault, planted},
    refusal::{AbortReason, Refusal, SendFailure},
};

/// The state machine of a sender; many agreements at once.
#[derive(Debug)]
pub struct Sender {
    me: NodeId,
    /// Hubs that must say the same where what they say carries no tag.
    k_min: u8,
    /// Messages of negotiations with a wrong tag.
    forged: u64,
    minting: BTreeMap<Ticket, Minting>,
    sending: BTreeMap<BlockId, Sending>,
    committing: BTreeMap<Ticket, (RequestId, AgreedKey)>,
    aborting: BTreeMap<Ticket, (RequestId, BlockId, SendFailure)>,
    sessions: BTreeMap<BlockId, Session>,
    rests: Rests,
    unserved: Unserved,
    effects: VecDeque<SenderEffect>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Minting {
    id: RequestId,
    agreement: Agreement,
    /// Those that a message goes to, in roster order.
    hubs: Vec<NodeId>,
    terms: Terms,
}

impl Minting {
    /// Goes on without a hub, where there are enough others: in the roster it stands last, as hubs that cannot be
    /// reached do. The roster of a round is its session's. `false` where there are too few.
    fn leave_out(&mut self, hub: &NodeId) -> bool {
        let fewer = self.hubs.len().saturating_sub(1);
        if !self.hubs.contains(hub) || fewer < usize::from(self.agreement.k) {
            return false;
        }
        self.hubs.retain(|other| other != hub);
        if !self.agreement.is_round() {
            let roster = &mut self.agreement.roster;
            roster.retain(|other| other != hub);
            roster.push(*hub);
        }
        true
    }
}

/// How an agreement may end.
#[derive(Debug)]
struct Terms {
    keep: bool,
    confirm: bool,
    linked: BTreeSet<NodeId>,
    deadline: Time,
    notice_deadline: Time,
}

#[derive(Debug)]
struct Sending {
    id: RequestId,
    agreement: Agreement,
    key: Option<SecretKey>,
    /// The shares among which is chosen, in a round.
    round: Option<Round>,
    asked: u8,
    silent: BTreeSet<NodeId>,
    accepted: BTreeSet<NodeId>,
    refusals: Vec<(NodeId, Refusal)>,
    confirmed: BTreeSet<NodeId>,
    voices: Voices,
    /// Most shares that a receiver says it has.
    arrived: u8,
    liars: BTreeSet<NodeId>,
    aborted: Option<(NodeId, AbortReason)>,
    /// Why a round cannot come to a key.
    failed: Option<SendFailure>,
    terms: Terms,
}

impl Sender {
    /// A sender with nothing under way. `k_min`: the client's own k_B; what hubs pass on without a tag counts when so many
    /// say the same.
    pub fn new(me: NodeId, k_min: u8) -> Self {
        Self {
            me,
            k_min: k_min.max(1),
            forged: 0,
            minting: BTreeMap::new(),
            sending: BTreeMap::new(),
            committing: BTreeMap::new(),
            aborting: BTreeMap::new(),
            sessions: BTreeMap::new(),
            rests: Rests::new(k_min),
            unserved: Unserved::default(),
            effects: VecDeque::new(),
            next_ticket: 0,
        }
    }

    /// Agreements under way; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        self.minting.len() + self.sending.len() + self.committing.len() + self.aborting.len()
    }

    /// Messages of negotiations with a wrong tag so far. They change nothing.
    pub fn forged(&self) -> u64 {
        self.forged
    }

    /// Takes one input; effects are then waiting.
    pub fn handle<R: CryptoRng + ?Sized>(&mut self, now: Time, input: SenderInput, rng: &mut R) {
        match input {
            SenderInput::Start { id, wish } => self.start(now, id, wish, rng),
            SenderInput::Round { id, wish } => self.start_round(now, id, wish, rng),
            SenderInput::Offer { from, bytes } => self.offered(now, from, bytes),
            SenderInput::Confirmation { from, bytes } => self.round_confirmed(now, from, bytes),
            SenderInput::SessionLost { from, via, session } => self.hear_lost(now, from, via, session),
            SenderInput::HubAnswer { block, hub, answer } => {
                if let Some(sending) = self.sending.get_mut(&block) {
                    if let (Some(Err(refusal)), true) = (answer, sending.silent.contains(&hub)) {
                        self.unserved.refused(now, hub, &sending.agreement, refusal);
                    }
                    sending.hub_answered(hub, answer);
                    self.settle(now, block);
                } else if let Some(Err(refusal)) = answer {
                    self.rests.late(now, &block, hub, refusal);
                }
            }
            SenderInput::Notice { from, via, notice } => self.noticed(now, from, via, notice),
            SenderInput::Unlinked(receiver) => {
                let mut blocks = Vec::new();
                for (block, sending) in &mut self.sending {
                    if sending.terms.linked.remove(&receiver) {
                        blocks.push(*block);
                    }
                }
                blocks.into_iter().for_each(|block| self.settle(now, block));
            }
            SenderInput::Pad(outcome) => self.pad(now, outcome),
            SenderInput::Tick => {
                self.choose_again(now);
                let due: Vec<_> =
                    self.sending.iter().filter(|(_, s)| s.next_deadline() <= now).map(|(&b, _)| b).collect();
                due.into_iter().for_each(|block| self.settle(now, block));
            }
        }
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<SenderEffect> {
        self.effects.pop_front()
    }

    /// When [`SenderInput::Tick`] is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.sending.values().map(Sending::next_deadline).min()
    }

    fn start<R: CryptoRng + ?Sized>(&mut self, now: Time, id: RequestId, mut wish: KeyWish, rng: &mut R) {
        let (receivers, key_bytes) = (wish.receivers.clone(), wish.key_bytes);
        wish.choose_hubs(|hub| !self.unserved.by(now, hub, &receivers, key_bytes));
        match self.prepare(now, &wish, rng) {
            Err(failure) => self.end(id, None, Err(failure)),
            Ok(agreement) => {
                let hubs = wish.reachable_in(&agreement).collect();
                let KeyWish { keep, confirm, linked, deadline, notice_deadline, .. } = wish;
                self.mint(Minting {
                    id,
                    agreement,
                    hubs,
                    terms: Terms { keep, confirm, linked, deadline, notice_deadline },
                });
            }
        }
    }

    fn mint(&mut self, minting: Minting) {
        let bytes = minting.agreement.burned_bytes(Lane::Up);
        let wants = minting
            .hubs
            .iter()
            .map(|&peer| Want { peer, lane: Lane::Up, bytes, usage: Usage::Key })
            .collect();
        let ticket = self.ticket();
        self.minting.insert(ticket, minting);
        self.effects.push_back(SenderEffect::Pad(PadEffect::Mint { ticket, wants }));
    }

    fn prepare<R: CryptoRng + ?Sized>(
        &self,
        now: Time,
        wish: &KeyWish,
        rng: &mut R,
    ) -> Result<Agreement, SendFailure> {
        if self.minting.len() + self.sending.len() >= SENDING_BLOCKS_MAX {
            return Err(SendFailure::Busy);
        }
        if let Some(rests) = self.rests.holds(now, &wish.receivers, wish.key_bytes) {
            return Err(rests);
        }
        let usable = wish.hubs.iter().filter(|hub| hub.reachable).count();
        if usable < usize::from(wish.k) {
            return Err(SendFailure::TooFewHubs { usable, k: wish.k });
        }
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::random(rng),
            sender: self.me,
            receivers: wish.receivers.clone(),
            purpose: wish.purpose.clone(),
            k: wish.k,
            key_bytes: wish.key_bytes,
            content: wish.content,
            roster: draw_roster(&wish.hubs, rng),
        };
        if agreement.purpose.len() > PURPOSE_BYTES_MAX {
            // The number is that of the constant.
            return Err(SendFailure::Parameters("the purpose is longer than 64 bytes"));
        }
        if !agreement.is_well_formed() || agreement.is_round() {
            return Err(SendFailure::Parameters(
                "the key length, k, the receivers or the purpose are out of range, or name somebody twice",
            ));
        }
        Ok(agreement)
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Minted { ticket, result } => {
                if let Some(minting) = self.minting.remove(&ticket) {
                    self.minted(now, minting, result);
                }
            }
            PadOutcome::Committed { ticket, ok } => {
                if let Some((id, mut agreed)) = self.committing.remove(&ticket) {
                    let block = agreed.agreement.block();
                    if ok && agreed.agreement.content == Content::Negotiation {
                        self.begin_session(&mut agreed);
                    }
                    self.end(id, Some(block), if ok { Ok(agreed) } else { Err(SendFailure::Internal) });
                } else if let Some((id, block, failure)) = self.aborting.remove(&ticket) {
                    self.end(id, Some(block), Err(failure));
                }
            }
            PadOutcome::Held { .. } | PadOutcome::Marks { .. } | PadOutcome::Skipped { .. } => {
                debug_assert!(false, "a sender asks for no such thing");
            }
        }
    }

    fn minted(&mut self, now: Time, mut minting: Minting, minted: Result<Vec<Minted>, MintRefusal>) {
        // Nothing was burned. Whoever has no pad left is left out, as one that cannot be reached.
        if let Err(
            MintRefusal::Low { peer, .. } | MintRefusal::NoTable { peer } | MintRefusal::NotSynced { peer },
        ) = &minted
            && minting.leave_out(peer)
        {
            return self.mint(minting);
        }
        let (id, agreement) = (minting.id, minting.agreement.clone());
        let (sending, messages) = match self.share(minting, minted) {
            Ok(shared) => shared,
            Err(failure) => {
                // It had its part of a session already.
                self.end_round(&agreement);
                return self.end(id, None, Err(failure));
            }
        };
        let block = agreement.block();
        self.effects.push_back(SenderEffect::Began { id, agreement });
        for (hub, bytes) in messages {
            self.effects.push_back(SenderEffect::Send { block, hub, bytes });
        }
        self.sending.insert(block, sending);
        self.settle(now, block);
    }

    /// Makes shares and messages of fresh pads.
    fn share(
        &self,
        minting: Minting,
        minted: Result<Vec<Minted>, MintRefusal>,
    ) -> Result<(Sending, Vec<SealedRequest>), SendFailure> {
        let Minting { id, agreement, hubs, terms } = minting;
        let minted = minted.map_err(refused)?;
        if let Content::Round { session, .. } = agreement.content
            && !self.sessions.contains_key(&session)
        {
            // Its negotiation key went while the pads were fetched: nothing of them leaves.
            return Err(SendFailure::NoSession);
        }
        let shared = if agreement.is_round() {
            Round::share(&agreement, &hubs, minted).map(|(round, messages)| (None, Some(round), messages))
        } else {
            share_out(&agreement, &hubs, minted).map(|(key, messages)| (Some(key), None, messages))
        };
        let (key, round, messages) = shared.ok_or(SendFailure::Internal)?;
        let sending = Sending {
            id,
            agreement,
            key,
            round,
            asked: u8::try_from(hubs.len()).unwrap_or(u8::MAX),
            silent: hubs.into_iter().collect(),
            accepted: BTreeSet::new(),
            refusals: Vec::new(),
            confirmed: BTreeSet::new(),
            voices: Voices::default(),
            arrived: 0,
            liars: BTreeSet::new(),
            aborted: None,
            failed: None,
            terms,
        };
        Ok((sending, messages))
    }

    /// A receiver is said to tell how it ended, by a direct link or by a hub.
    fn noticed(&mut self, now: Time, from: NodeId, via: Option<NodeId>, notice: Notice) {
        let Notice { block, outcome } = notice;
        let Some(sending) = self.sending.get_mut(&block) else { return };
        if let Some(outcome) = sending.hears(from, via, outcome, self.k_min) {
            sending.noticed(from, outcome);
            self.settle(now, block);
        }
    }

    /// Ends an agreement as soon as nothing more is worth waiting for.
    fn settle(&mut self, now: Time, block: BlockId) {
        let Some(mut verdict) = self.sending.get(&block).and_then(|sending| sending.verdict(now)) else {
            return;
        };
        let Some(mut sending) = self.sending.remove(&block) else { return };
        if verdict.is_err() {
            self.unserved.failed(&sending.agreement.receivers, &sending.asked_hubs());
        }
        match &verdict {
            Ok(()) => self.rests.served(&sending.agreement),
            Err(SendFailure::TooFewAccepted { refusals, .. }) => {
                if let Some(quota) = self.rests.refused(now, &sending.agreement, refusals) {
                    verdict = Err(quota);
                }
            }
            Err(_) => {}
        }
        self.end_round(&sending.agreement);
        // There is a key wherever the verdict is good.
        let key = if verdict.is_ok() { sending.key.take() } else { None };
        let ticket = self.ticket();
        let Sending { id, agreement, .. } = sending;
        let (result, key) = match (&verdict, key) {
            (Ok(()), Some(key)) if sending.terms.keep && agreement.content != Content::Negotiation => {
                (Ok(BlockKey::Keep(key)), None)
            }
            (Ok(()), key) => (Ok(BlockKey::Taken), key),
            (Err(SendFailure::ReceiverAborted { reason, .. }), _) => (Err(reason.clone()), None),
            (Err(SendFailure::Quota { refusals, .. }), _) => {
                let refused = u8::try_from(refusals.len()).unwrap_or(u8::MAX);
                (Err(AbortReason::QuotaExceeded { refused, k: agreement.k, n: agreement.n() }), None)
            }
            (Err(SendFailure::Unconfirmed { .. } | SendFailure::NoSession), _) => {
                (Err(AbortReason::Unconfirmed), None)
            }
            (Err(_), _) => {
                let received = u8::try_from(sending.accepted.len()).unwrap_or(u8::MAX);
                (Err(AbortReason::TooFewShares { received, k: agreement.k, n: agreement.n() }), None)
            }
        };
        let ended = EndedBlock { agreement: agreement.clone(), sent: true, result };
        let record = Box::new(Record { block: Some(ended), ..Record::default() });
        self.effects.push_back(SenderEffect::Pad(PadEffect::Commit { ticket, record }));
        match verdict {
            Ok(()) => {
                let agreed = AgreedKey {
                    agreement,
                    key,
                    asked: sending.asked,
                    shares: sending.arrived.max(u8::try_from(sending.accepted.len()).unwrap_or(u8::MAX)),
                    confirmed: sending.confirmed.into_iter().collect(),
                    liars: sending.liars.into_iter().collect(),
                };
                self.committing.insert(ticket, (id, agreed));
            }
            Err(failure) => {
                self.aborting.insert(ticket, (id, block, failure));
            }
        }
    }

    fn end(&mut self, id: RequestId, block: Option<BlockId>, result: Result<AgreedKey, SendFailure>) {
        self.effects.push_back(SenderEffect::Ended { id, block, result });
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }
}

impl Sending {
    fn hub_answered(&mut self, hub: NodeId, answer: Option<Result<(), Refusal>>) {
        if !self.silent.remove(&hub) {
            return;
        }
        match answer {
            Some(Ok(())) => {
                self.accepted.insert(hub);
            }
            Some(Err(refusal)) => self.refusals.push((hub, refusal)),
            None => {}
        }
    }

    /// Those that a message went to.
    fn asked_hubs(&self) -> BTreeSet<NodeId> {
        let refused = self.refusals.iter().map(|(hub, _)| hub);
        self.silent.iter().chain(&self.accepted).chain(refused).copied().collect()
    }

    /// Whether the untagged word of a receiver counts: over a direct link, of all but rounds; through hubs, when enough of
    /// the roster's say the same.
    fn hears(
        &mut self,
        from: NodeId,
        via: Option<NodeId>,
        outcome: NoticeOutcome,
        enough: u8,
    ) -> Option<NoticeOutcome> {
        if !self.agreement.receivers.contains(&from) || !outcome.is_well_formed(self.agreement.n()) {
            return None;
        }
        let Some(hub) = via else {
            // A round has tagged messages of its own; nothing shows whose this one is.
            let counts = !self.agreement.is_round() || planted(Fault::ConfirmedByNotice);
            return counts.then_some(outcome);
        };
        if !self.agreement.roster.contains(&hub) && !planted(Fault::AnybodyHasAVoice) {
            return None;
        }
        self.voices.hear(from, hub, &outcome, usize::from(enough))
    }

    fn noticed(&mut self, from: NodeId, outcome: NoticeOutcome) {
        match outcome {
            // Of a round only the tagged word counts.
            NoticeOutcome::Validated { .. } if self.round.is_some() && !planted(Fault::ConfirmedByNotice) => {
            }
            NoticeOutcome::Validated { shares, false_positions } => {
                self.confirmed.insert(from);
                self.arrived = self.arrived.max(shares.min(self.agreement.n()));
                let roster = &self.agreement.roster;
                self.liars.extend(false_positions.iter().filter_map(|&at| roster.get(usize::from(at))));
            }
            NoticeOutcome::Aborted(reason) => self.aborted = Some((from, reason)),
        }
    }

    fn next_deadline(&self) -> Time {
        let enough = self.accepted.len() >= usize::from(self.agreement.k);
        let last = if enough { self.terms.notice_deadline } else { self.terms.deadline };
        self.round.as_ref().and_then(Round::choice_due).map_or(last, |due| due.min(last))
    }

    /// `None` while there is something to wait for.
    fn verdict(&self, now: Time) -> Option<Result<(), SendFailure>> {
        let (k, n) = (self.agreement.k, self.agreement.n());
        if let Some(failure) = self.failed.clone() {
            return Some(Err(failure));
        }
        if let Some((receiver, reason)) = self.aborted.clone() {
            return Some(Err(SendFailure::ReceiverAborted { receiver, reason }));
        }
        if self.confirmed.len() == self.agreement.receivers.len() && self.key.is_some() {
            return Some(Ok(()));
        }
        let waiting_for_hubs = !self.silent.is_empty() && now < self.terms.deadline;
        if self.accepted.len() < usize::from(k) {
            let hopeless = self.accepted.len() + self.silent.len() < usize::from(k);
            if waiting_for_hubs && !hopeless {
                return None;
            }
            let accepted = u8::try_from(self.accepted.len()).unwrap_or(u8::MAX);
            let refusals = self.refusals.clone();
            return Some(Err(SendFailure::TooFewAccepted { accepted, k, n, refusals }));
        }
        let awaited = |receiver: &NodeId| !self.confirmed.contains(receiver);
        let confirm = self.terms.confirm || self.round.is_some();
        let waiting = confirm || self.terms.linked.iter().any(awaited) || !self.silent.is_empty();
        if waiting && now < self.terms.notice_deadline {
            return None;
        }
        let shortage = self.round.as_ref().and_then(|round| round.shortage(k));
        match self.agreement.receivers.iter().copied().find(awaited) {
            Some(receiver) if confirm => Some(Err(shortage.unwrap_or(SendFailure::Unconfirmed { receiver }))),
            _ => Some(Ok(())),
        }
    }
}

/// Why there are no pads for an agreement.
fn refused(refusal: MintRefusal) -> SendFailure {
    match refusal {
        MintRefusal::Low { peer, left, needed } => SendFailure::PadLow { hub: peer, left, needed },
        // It was in use when the hubs were chosen.
        MintRefusal::NoTable { peer } | MintRefusal::NotSynced { peer } => {
            SendFailure::NotSynced { hub: peer }
        }
        MintRefusal::Internal => SendFailure::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8) -> NodeId {
        NodeId::new([id; 32])
    }

    fn sending() -> Sending {
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([1; 16]),
            sender: node(6),
            receivers: vec![node(9)],
            purpose: String::new(),
            k: 2,
            key_bytes: 32,
            content: Content::Keys(1),
            roster: vec![node(1), node(2), node(3)],
        };
        let (deadline, notice_deadline) = (Time::from_secs(1), Time::from_secs(2));
        let terms = Terms { keep: false, confirm: true, linked: BTreeSet::new(), deadline, notice_deadline };
        Sending {
            id: RequestId(1),
            agreement,
            key: None,
            round: None,
            asked: 3,
            silent: BTreeSet::new(),
            accepted: BTreeSet::new(),
            refusals: Vec::new(),
            confirmed: BTreeSet::new(),
            voices: Voices::default(),
            arrived: 0,
            liars: BTreeSet::new(),
            aborted: None,
            failed: None,
            terms,
        }
    }

    #[test]
    fn a_notice_counts_from_a_receiver_about_hubs_of_the_roster_in_order() {
        let validated =
            |positions: &[u8]| NoticeOutcome::Validated { shares: 2, false_positions: positions.to_vec() };
        for via in [None, Some(node(1))] {
            let heard = |from, positions: &[u8]| sending().hears(from, via, validated(positions), 1);
            assert_eq!(heard(node(9), &[0, 2]), Some(validated(&[0, 2])));
            assert_eq!(heard(node(8), &[0, 2]), None, "no receiver");
            for positions in [&[3][..], &[2, 0], &[1, 1]] {
                assert_eq!(heard(node(9), positions), None, "{positions:?}");
            }
        }
        assert_eq!(sending().hears(node(9), Some(node(4)), validated(&[]), 1), None, "no hub of the roster");
    }

    #[test]
    fn no_more_shares_are_said_to_have_come_than_there_are_hubs() {
        let mut sending = sending();
        sending.noticed(node(9), NoticeOutcome::Validated { shares: 200, false_positions: vec![1] });
        assert_eq!((sending.arrived, &sending.liars), (3, &BTreeSet::from([node(2)])));
    }
}
