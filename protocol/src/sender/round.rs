//! The sender's part of a round of the Adapted protocol (§3): simple shares to all hubs, then the choice among those
//! that the receiver has.
//!
//! An offer of which fewer than k shares are right chooses nothing and ends nothing, as long as shares of other hubs may
//! still come: the next one holds more. Nothing without a right tag ends a round.

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
    ids::{BlockId, BlockNonce, NodeId},
    message::{Agreement, Content},
    negotiation::{Choice, Claimed, Confirmation, Offer, Part, Session, seal},
    params::{CHOICE_AGAIN, PROTOCOL_VERSION, SENDING_BLOCKS_MAX, Time},
    planted::{Fault, planted},
    refusal::SendFailure,
    saying::{Saying, Ways},
};

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
    choice: Option<(Saying, Time)>,
    /// Of the largest offer so far, while no choice is made: how many shares are right, and how many it holds.
    short: Option<(u8, u8)>,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Round({} shares)", self.shares.len())
    }
}

/// What an offer holds: the shares whose tags are right, and the others.
struct Looked<'a> {
    positions: Vec<u8>,
    shares: Vec<&'a [u8]>,
    false_positions: Vec<u8>,
}

impl Round {
    /// Why the round ends without a key when its time is over: what came was too little.
    pub(super) fn shortage(&self, k: u8) -> Option<SendFailure> {
        self.short.map(|(matching, offered)| SendFailure::TooFewMatch { matching, offered, k })
    }

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
        Some((Self { shares, choice: None, short: None }, messages))
    }

    /// Compares the tags of an offer with those of our own shares.
    fn look(&self, context: &[u8], session: &Session, offer: &Offer) -> Looked<'_> {
        let mut looked = Looked { positions: Vec::new(), shares: Vec::new(), false_positions: Vec::new() };
        for (position, tag) in &offer.shares {
            let share = self.shares.iter().find(|(at, _)| at == position);
            let key = session.key(offer.round, Part::Share(*position));
            let (Some((_, share)), Some(key)) = (share, key) else { continue };
            let right: bool = key.tag(context, share).as_bytes().ct_eq(tag.as_bytes()).into();
            if right {
                looked.positions.push(*position);
                looked.shares.push(share);
            } else {
                looked.false_positions.push(*position);
            }
        }
        looked
    }

    /// Shares that hubs were asked to pass on and that an offer does not hold: they may still come.
    fn awaited(&self, offer: &Offer) -> usize {
        let held = |position: &u8| offer.shares.iter().any(|(at, _)| at == position);
        self.shares.iter().filter(|(position, _)| !held(position)).count()
    }
}

/// Seals the choice of these shares, and makes their key.
fn choose(
    agreement: &Agreement,
    session: &Session,
    offer: &Offer,
    looked: &Looked<'_>,
) -> Result<(SecretKey, Vec<u8>), SendFailure> {
    let (key, key_tag) =
        close_round(agreement, &looked.positions, &looked.shares).ok_or(SendFailure::Internal)?;
    let positions = looked.positions.clone();
    let Offer { session: of, round, block, .. } = *offer;
    let offered = u8::try_from(offer.shares.len()).map_err(|_| SendFailure::Internal)?;
    let choice = Choice { session: of, round, block, offered, positions, key_tag };
    let under = session.key(round, Part::Choice).ok_or(SendFailure::NoSession)?;
    Ok((key, seal(&choice, under).ok_or(SendFailure::Internal)?))
}

impl Sender {
    /// Negotiation keys that have rounds left: session, receiver, rounds.
    pub fn sessions(&self) -> impl Iterator<Item = (BlockId, NodeId, u32)> + '_ {
        self.sessions.values().filter_map(|session| {
            let agreement = session.agreement();
            Some((agreement.block(), *agreement.receivers.first()?, session.rounds_left()))
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
            self.sessions.insert(agreed.agreement.block(), session);
        }
    }

    pub(super) fn start_round<R: CryptoRng + ?Sized>(
        &mut self,
        now: Time,
        id: RequestId,
        wish: RoundWish,
        rng: &mut R,
    ) {
        match self.prepare_round(now, id, wish, rng) {
            Ok(minting) => self.mint(minting),
            Err(failure) => self.end(id, None, Err(failure)),
        }
    }

    fn prepare_round<R: CryptoRng + ?Sized>(
        &mut self,
        now: Time,
        id: RequestId,
        wish: RoundWish,
        rng: &mut R,
    ) -> Result<Minting, SendFailure> {
        if self.minting.len() + self.sending.len() >= SENDING_BLOCKS_MAX {
            return Err(SendFailure::Busy);
        }
        let session = self.sessions.get_mut(&wish.session).ok_or(SendFailure::NoSession)?;
        let of = session.agreement().clone();
        // Neither pad nor a part of the session goes where it would be refused.
        if let Some(rests) = self.rests.holds(now, &of.receivers, wish.key_bytes) {
            return Err(rests);
        }
        let mut hubs: Vec<NodeId> =
            of.roster.iter().filter(|hub| wish.reachable.contains(hub)).copied().collect();
        let served = |hub: &&NodeId| !self.unserved.by(now, hub, &of.receivers, wish.key_bytes);
        let served: Vec<NodeId> = hubs.iter().filter(served).copied().collect();
        if served.len() >= usize::from(of.k) {
            hubs = served;
        }
        if hubs.len() < usize::from(of.k) {
            return Err(SendFailure::TooFewHubs { usable: hubs.len(), k: of.k });
        }
        let nonce = BlockNonce::random(rng);
        let round = session.begin_next(nonce.block(&of.sender)).ok_or(SendFailure::NoSession)?;
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce,
            purpose: wish.purpose,
            key_bytes: wish.key_bytes,
            content: Content::Round { session: of.block(), round, keys: wish.keys },
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

    /// A receiver's offer: only one with a right tag is looked at. The first that holds k right shares is chosen from, and
    /// any that comes after it is answered with the very same choice.
    pub(super) fn offered(&mut self, now: Time, from: NodeId, bytes: Vec<u8>) {
        let Some(claimed) = Claimed::<Offer>::decode(bytes) else { return };
        let (of, number, block) = claimed.names();
        let Some(sending) = self.sending.get_mut(&block) else { return };
        let (Some(state), Some(session)) = (&mut sending.round, self.sessions.get(&of)) else { return };
        let Content::Round { session: own, round, .. } = sending.agreement.content else { return };
        if own != of || round != number || !sending.agreement.receivers.contains(&from) {
            return;
        }
        // The claimed number of shares says under which key it is, and no more.
        let key = session.key(round, Part::Offer(claimed.count()));
        let Some(offer) = key.and_then(|key| claimed.verify(key)) else {
            self.forged += 1;
            if planted(Fault::ForgeriesEndRounds) && self.forged > 256 {
                sending.terms.notice_deadline = now;
                sending.terms.deadline = now;
                self.settle(now, block);
            }
            return;
        };
        if let Some((choice, due)) = &mut state.choice {
            // It has not arrived, or its answer has not: the very same once more.
            if let Some(bytes) = choice.again(now) {
                *due = now + CHOICE_AGAIN;
                self.effects.push_back(SenderEffect::Choose { block, to: from, ways: Ways::again(), bytes });
            }
            return;
        }
        let count = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let offered = count(offer.shares.len());
        if state.short.is_some_and(|(_, before)| offered <= before) {
            // An offer that came before this one held all of it.
            return;
        }
        let agreement = &sending.agreement;
        let Ok(context) = agreement.context() else { return };
        let looked = state.look(&context, session, offer);
        let matching = count(looked.positions.len());
        let false_positions = looked.false_positions.clone();
        let chosen = (matching >= agreement.k).then(|| choose(agreement, session, offer, &looked));
        match chosen {
            Some(Ok((key, bytes))) => {
                state.choice = Some((Saying::new(now, bytes.clone()), now + CHOICE_AGAIN));
                state.short = None;
                state.shares.clear();
                sending.key = Some(key);
                sending.arrived = offered;
                self.effects.push_back(SenderEffect::Choose { block, to: from, ways: Ways::One, bytes });
            }
            Some(Err(failure)) => sending.failed = Some(failure),
            None => {
                state.short = Some((matching, offered));
                let hopeless = usize::from(matching) + state.awaited(offer) < usize::from(agreement.k);
                if hopeless || planted(Fault::OneOfferOnly) {
                    sending.failed = state.shortage(agreement.k);
                }
            }
        }
        sending.lied(&false_positions);
        self.settle(now, block);
    }

    /// Sends choices again whose confirmation has not come: it may have been lost.
    pub(super) fn choose_again(&mut self, now: Time) {
        for (block, sending) in &mut self.sending {
            let (Some(round), [to]) = (&mut sending.round, sending.agreement.receivers.as_slice()) else {
                continue;
            };
            if let Some((choice, due)) = round.choice.as_mut().filter(|(_, due)| *due <= now) {
                *due = now + CHOICE_AGAIN;
                if let Some(bytes) = choice.again(now) {
                    let (block, to, ways) = (*block, *to, Ways::again());
                    self.effects.push_back(SenderEffect::Choose { block, to, ways, bytes });
                }
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
        } else {
            self.forged += 1;
        }
    }

    /// A hub passes on that the receiver of a session has lost its key. Nothing shows that it is the receiver's word, so
    /// it counts when as many hubs of the session say so as must be honest in part; a hub has one voice.
    pub(super) fn hear_lost(&mut self, now: Time, from: NodeId, via: NodeId, lost: BlockId) {
        let Some(of) = self.sessions.get_mut(&lost) else { return };
        if !of.agreement().receivers.contains(&from) {
            return;
        }
        let is_hub = of.agreement().roster.contains(&via) || planted(Fault::AnybodyHasAVoice);
        if is_hub && of.say_lost(via) >= usize::from(self.k_min) || planted(Fault::SessionLostByOne) {
            self.lose_session(now, lost);
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
