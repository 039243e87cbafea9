//! The sender's part of a round of the Adapted protocol (§3): simple shares to all hubs, then the choice among those
//! that the receiver has.

use std::collections::BTreeSet;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use super::{
    AgreedKey, Minting, Sender, SenderEffect, Sending, Terms,
    share_out::{SealedRequest, Share, close_round, share_round},
};
use crate::{
    effect::{Minted, SecretKey},
    hub::RequestId,
    ids::{BlockId, NodeId},
    message::{Agreement, Content},
    negotiation::{Choice, Claimed, Confirmation, Offer, Part, Session, seal},
    params::{CHOICE_AGAIN, PROTOCOL_VERSION, SENDING_BLOCKS_MAX, Time},
    refusal::SendFailure,
};

/// Offers with a wrong tag that a round bears. A right one is the first that an honest receiver sends; each wrong one
/// is accepted with a chance of 2^-118 at most.
const FORGED_OFFERS_MAX: u32 = 256;

/// A wish for another block under a session.
#[derive(Debug, Clone)]
pub struct RoundWish {
    /// The agreement that gave the negotiation key.
    pub session: BlockId,
    /// Bytes of key, all keys of the block together.
    pub key_bytes: u32,
    /// How many keys it is cut into.
    pub keys: u32,
    /// What it is for; public.
    pub purpose: String,
    /// The hubs that can be reached now.
    pub reachable: BTreeSet<NodeId>,
    /// When to give up.
    pub deadline: Time,
}

/// What the sender of a round holds until it has chosen.
pub(super) struct Round {
    shares: Vec<(u8, Share)>,
    /// The choice once it is made, and when it is sent again, as it is, for want of a confirmation.
    choice: Option<(Vec<u8>, Time)>,
    forged: u32,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Round({} shares)", self.shares.len())
    }
}

/// What came of an offer.
struct Chosen {
    key: SecretKey,
    bytes: Vec<u8>,
    false_positions: Vec<u8>,
    offered: u8,
}

impl Round {
    /// When the choice is to be sent again.
    pub(super) fn choice_due(&self) -> Option<Time> {
        self.choice.as_ref().map(|(_, due)| *due)
    }

    pub(super) fn share(
        agreement: &Agreement,
        hubs: &[NodeId],
        minted: Vec<Minted>,
    ) -> Option<(Self, Vec<SealedRequest>)> {
        let (shares, messages) = share_round(agreement, hubs, minted)?;
        Some((Self { shares, choice: None, forged: 0 }, messages))
    }

    /// Chooses the shares whose tags are right.
    fn choose(&self, agreement: &Agreement, session: &Session, offer: &Offer) -> Result<Chosen, SendFailure> {
        let Content::Round { round, .. } = agreement.content else { return Err(SendFailure::Internal) };
        let context = agreement.context().map_err(|_| SendFailure::Internal)?;
        let mut positions = Vec::new();
        let mut shares: Vec<&[u8]> = Vec::new();
        let mut false_positions = Vec::new();
        for (position, tag) in &offer.shares {
            let share = self.shares.iter().find(|(at, _)| at == position);
            let key = session.key(round, Part::Share(*position));
            let (Some((_, share)), Some(key)) = (share, key) else { continue };
            let right: bool = key.tag(&context, share).as_bytes().ct_eq(tag.as_bytes()).into();
            if right {
                positions.push(*position);
                shares.push(share);
            } else {
                false_positions.push(*position);
            }
        }
        let count = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let (matching, offered) = (count(positions.len()), count(offer.shares.len()));
        if matching < agreement.k {
            return Err(SendFailure::TooFewMatch { matching, offered, k: agreement.k });
        }
        let (key, key_tag) = close_round(agreement, &positions, &shares).ok_or(SendFailure::Internal)?;
        let choice = Choice { session: offer.session, round, block: agreement.block, positions, key_tag };
        let under = session.key(round, Part::Choice).ok_or(SendFailure::NoSession)?;
        let bytes = seal(&choice, under).ok_or(SendFailure::Internal)?;
        Ok(Chosen { key, bytes, false_positions, offered })
    }
}

impl Sender {
    /// Negotiation keys that have rounds left: session, receiver, rounds.
    pub fn sessions(&self) -> impl Iterator<Item = (BlockId, NodeId, u32)> + '_ {
        self.sessions.values().filter_map(|session| {
            let agreement = session.agreement();
            Some((agreement.block, *agreement.receivers.first()?, session.rounds_left()))
        })
    }

    /// The agreement of a session: its hubs and their order are those of all its rounds.
    pub fn session(&self, session: &BlockId) -> Option<&Agreement> {
        self.sessions.get(session).map(Session::agreement)
    }

    /// A negotiation key is durable on both sides: it serves from now on.
    pub(super) fn begin_session(&mut self, agreed: &mut AgreedKey) {
        if let Some(key) = agreed.key.take()
            && let Some(session) = Session::new(agreed.agreement.clone(), key)
        {
            self.sessions.insert(agreed.agreement.block, session);
        }
    }

    pub(super) fn start_round<R: CryptoRng + ?Sized>(&mut self, id: RequestId, wish: RoundWish, rng: &mut R) {
        match self.prepare_round(id, wish, rng) {
            Ok(minting) => self.mint(minting),
            Err(failure) => self.end(id, None, Err(failure)),
        }
    }

    fn prepare_round<R: CryptoRng + ?Sized>(
        &mut self,
        id: RequestId,
        wish: RoundWish,
        rng: &mut R,
    ) -> Result<Minting, SendFailure> {
        if self.minting.len() + self.sending.len() >= SENDING_BLOCKS_MAX {
            return Err(SendFailure::Busy);
        }
        let session = self.sessions.get_mut(&wish.session).ok_or(SendFailure::NoSession)?;
        let of = session.agreement().clone();
        let hubs: Vec<NodeId> =
            of.roster.iter().filter(|hub| wish.reachable.contains(hub)).copied().collect();
        if hubs.len() < usize::from(of.k) {
            return Err(SendFailure::TooFewHubs { usable: hubs.len(), k: of.k });
        }
        let block = BlockId::random(rng);
        let round = session.begin_next(block).ok_or(SendFailure::NoSession)?;
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            block,
            purpose: wish.purpose,
            key_bytes: wish.key_bytes,
            content: Content::Round { session: of.block, round, keys: wish.keys },
            ..of
        };
        if !agreement.is_well_formed() {
            self.end_round(&agreement);
            return Err(SendFailure::Parameters("the length of the block or of its keys is out of range"));
        }
        let terms = Terms {
            keep: true,
            confirm: true,
            linked: BTreeSet::new(),
            deadline: wish.deadline,
            notice_deadline: wish.deadline,
        };
        Ok(Minting { id, agreement, hubs, terms })
    }

    /// A receiver's offer: only one with a right tag is looked at, and only the first of these.
    pub(super) fn offered(&mut self, now: Time, from: NodeId, bytes: Vec<u8>) {
        let Some(claimed) = Claimed::<Offer>::decode(bytes) else { return };
        let (of, number, block) = claimed.names();
        let Some(sending) = self.sending.get_mut(&block) else { return };
        let (Some(state), Some(session)) = (&mut sending.round, self.sessions.get(&of)) else { return };
        let Content::Round { session: own, round, .. } = sending.agreement.content else { return };
        if own != of || round != number || !sending.agreement.receivers.contains(&from) {
            return;
        }
        if let Some((bytes, _)) = &state.choice {
            // It has not arrived, or its answer has not: the very same once more.
            let again = SenderEffect::Choose { block, to: from, bytes: bytes.clone() };
            return self.effects.push_back(again);
        }
        let offer = session.key(round, Part::Offer).and_then(|key| claimed.verify(key));
        let Some(offer) = offer else {
            state.forged += 1;
            if state.forged > FORGED_OFFERS_MAX {
                sending.terms.notice_deadline = now;
                sending.terms.deadline = now;
                self.settle(now, block);
            }
            return;
        };
        match state.choose(&sending.agreement, session, offer) {
            Ok(chosen) => {
                state.choice = Some((chosen.bytes.clone(), now + CHOICE_AGAIN));
                state.shares.clear();
                sending.key = Some(chosen.key);
                sending.arrived = chosen.offered;
                sending.lied(&chosen.false_positions);
                self.effects.push_back(SenderEffect::Choose { block, to: from, bytes: chosen.bytes });
            }
            Err(failure) => {
                sending.failed = Some(failure);
                self.settle(now, block);
            }
        }
    }

    /// Sends choices again whose confirmation has not come: it may have been lost.
    pub(super) fn choose_again(&mut self, now: Time) {
        for (block, sending) in &mut self.sending {
            let (Some(round), [to]) = (&mut sending.round, sending.agreement.receivers.as_slice()) else {
                continue;
            };
            if let Some((bytes, due)) = round.choice.as_mut().filter(|(_, due)| *due <= now) {
                *due = now + CHOICE_AGAIN;
                let bytes = bytes.clone();
                self.effects.push_back(SenderEffect::Choose { block: *block, to: *to, bytes });
            }
        }
    }

    /// A receiver's word that it has the key of a round: only one with a right tag counts.
    pub(super) fn round_confirmed(&mut self, now: Time, from: NodeId, bytes: Vec<u8>) {
        let Some(claimed) = Claimed::<Confirmation>::decode(bytes) else { return };
        let (of, number, block) = claimed.names();
        let Some(sending) = self.sending.get_mut(&block) else { return };
        let Content::Round { session, round, .. } = sending.agreement.content else { return };
        if session != of || round != number || !sending.agreement.receivers.contains(&from) {
            return;
        }
        let key = self.sessions.get(&of).and_then(|session| session.key(round, Part::Confirmation));
        if key.and_then(|key| claimed.verify(key)).is_some() {
            sending.confirmed.insert(from);
            self.settle(now, block);
        }
    }

    /// The receiver has lost a negotiation key. No round under it can come to a good end any more.
    pub(super) fn lose_session(&mut self, now: Time, lost: BlockId) {
        self.sessions.remove(&lost);
        let mut blocks = Vec::new();
        for (block, sending) in &mut self.sending {
            let under =
                matches!(sending.agreement.content, Content::Round { session, .. } if session == lost);
            if !under || sending.failed.is_some() {
                continue;
            }
            // One that has chosen may have given the receiver the key.
            let chosen = sending.round.as_ref().is_some_and(|round| round.choice.is_some());
            sending.failed = Some(match sending.agreement.receivers.first() {
                Some(&receiver) if chosen => SendFailure::Unconfirmed { receiver },
                _ => SendFailure::NoSession,
            });
            blocks.push(*block);
        }
        blocks.into_iter().for_each(|block| self.settle(now, block));
    }

    /// The part of a session that a round used goes with it, and the session with its last round.
    pub(super) fn end_round(&mut self, agreement: &Agreement) {
        let Content::Round { session, round, .. } = agreement.content else { return };
        if let Some(of) = self.sessions.get_mut(&session) {
            of.erase(round);
            if of.is_over() {
                self.sessions.remove(&session);
            }
        }
    }
}

impl Sending {
    fn lied(&mut self, positions: &[u8]) {
        let roster = &self.agreement.roster;
        self.liars.extend(positions.iter().filter_map(|&at| roster.get(usize::from(at))));
    }
}
