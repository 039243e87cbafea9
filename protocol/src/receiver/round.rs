//! The receiver's part of a round of the Adapted protocol (§3): it offers the shares that came, and makes the key of
//! those that the sender chooses.

use subtle::ConstantTimeEq;

use super::{Receiver, ReceiverEffect};
use crate::{
    collect::Collection,
    effect::SecretKey,
    ids::{BlockId, NodeId},
    message::{Agreement, Content},
    negotiation::{Choice, Claimed, Confirmation, Offer, Part, Session, seal},
    params::{OFFER_AGAIN, OFFER_GRACE, Time},
    refusal::AbortReason,
    sender::close_round,
};

/// Sessions of one sender that are kept: one in use, one that follows it, and what a restart of the sender left.
const SESSIONS_PER_SENDER_MAX: usize = 4;

/// Choices with a wrong tag that a round bears; see the sender's bound on offers.
const FORGED_CHOICES_MAX: u32 = 256;

/// What a receiver has offered in a round.
pub(crate) struct Offered {
    /// Which group of the collection.
    group: usize,
    positions: Vec<u8>,
    /// The very message, to be sent again as it is.
    bytes: Vec<u8>,
    forged: u32,
    /// The word that the key is here, to be sent once it is durable.
    confirmation: Option<Vec<u8>>,
}

impl std::fmt::Debug for Offered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offered({} shares)", self.positions.len())
    }
}

impl Offered {
    /// Shares that were offered.
    pub(crate) fn shares(&self) -> u8 {
        u8::try_from(self.positions.len()).unwrap_or(u8::MAX)
    }
}

impl Receiver {
    /// Whether a round can be negotiated: its session is known, it fits it, and its part of the key is free.
    pub(super) fn can_negotiate(&self, agreement: &Agreement) -> bool {
        let Content::Round { session, round, .. } = agreement.content else { return true };
        let session = self.sessions.get(&session);
        session.is_some_and(|session| session.fits(agreement) && session.is_free(round, &agreement.block))
    }

    /// The key of a negotiation is durable: it serves from now on.
    pub(super) fn begin_session(&mut self, session: Session) {
        let sender = session.agreement().sender;
        let of_sender = self.session_order.iter().filter(|(_, other)| *other == sender);
        if of_sender.count() >= SESSIONS_PER_SENDER_MAX
            && let Some(oldest) = self.session_order.iter().position(|(_, other)| *other == sender)
            && let Some((oldest, _)) = self.session_order.remove(oldest)
        {
            self.sessions.remove(&oldest);
        }
        let block = session.agreement().block;
        self.session_order.push_back((block, sender));
        self.sessions.insert(block, session);
    }

    /// Offers what has come of a round, once it is complete or has waited long enough for the rest. Whether something
    /// is still to come of it: the rest of the shares, or the sender's choice.
    pub(super) fn advance_round(&mut self, now: Time, block: BlockId) -> bool {
        let Some(collection) = self.collections.get_mut(&block) else { return false };
        if collection.outcome.is_some() || collection.deadline <= now {
            return false;
        }
        if collection.offered.is_some() {
            return true;
        }
        let least = usize::from(self.policy.k_min);
        let ready = collection.groups.iter().position(|group| {
            group.agreement.is_round() && group.shares.len() >= least.max(usize::from(group.agreement.k))
        });
        let Some(group) = ready else { return false };
        let due = *collection.offer_due.get_or_insert(now + OFFER_GRACE);
        if collection.is_complete() || due <= now {
            self.offer(now, block, group);
        } else {
            self.offers_due.insert((due, block));
        }
        true
    }

    /// Makes the offer of a round: once, for every part of the key serves one message.
    fn offer(&mut self, now: Time, block: BlockId, at: usize) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(group) = collection.groups.get(at) else { return };
        let agreement = &group.agreement;
        let Content::Round { session: of, round, .. } = agreement.content else { return };
        let Some(session) = self.sessions.get_mut(&of).filter(|session| session.fits(agreement)) else {
            return self.abort(block, AbortReason::UnknownRound);
        };
        if !session.begin(round, block) {
            return self.abort(block, AbortReason::UnknownRound);
        }
        let Ok(context) = agreement.context() else { return };
        let mut shares: Vec<_> = group.shares.iter().map(|(position, share)| (*position, share)).collect();
        shares.sort_unstable_by_key(|(position, _)| *position);
        let tag = |(position, share): (u8, &crate::collect::ShareRef)| {
            Some((position, session.key(round, Part::Share(position))?.tag(&context, &share.0)))
        };
        let offer = Offer { session: of, round, block, shares: shares.into_iter().filter_map(tag).collect() };
        let sealed = session.key(round, Part::Offer).and_then(|key| seal(&offer, key));
        let Some(bytes) = sealed else { return self.abort(block, AbortReason::Internal) };
        let to = agreement.sender;
        let positions = offer.shares.iter().map(|(position, _)| *position).collect();
        // Otherwise it would go again when the rest would have been waited for.
        if let Some(due) = collection.offer_due {
            self.offers_due.remove(&(due, block));
        }
        collection.offered =
            Some(Offered { group: at, positions, bytes: bytes.clone(), forged: 0, confirmation: None });
        self.offers_due.insert((now + OFFER_AGAIN, block));
        self.effects.push_back(ReceiverEffect::Offer { block, to, bytes });
    }

    /// Offers that are due for the first time, or again because no choice has come.
    pub(super) fn tick_offers(&mut self, now: Time) {
        while let Some(&(due, block)) = self.offers_due.first() {
            if due > now {
                break;
            }
            self.offers_due.remove(&(due, block));
            let Some(collection) = self.collections.get(&block) else { continue };
            match &collection.offered {
                Some(offered) if collection.outcome.is_none() => {
                    let bytes = offered.bytes.clone();
                    let Some(group) = collection.groups.get(offered.group) else { continue };
                    let to = group.agreement.sender;
                    self.offers_due.insert((now + OFFER_AGAIN, block));
                    self.effects.push_back(ReceiverEffect::Offer { block, to, bytes });
                }
                Some(_) => {}
                None => self.advance(now, block),
            }
        }
    }

    /// The sender's choice: only one with a right tag is looked at.
    pub(super) fn chosen(&mut self, from: NodeId, bytes: Vec<u8>) {
        let Some(claimed) = Claimed::<Choice>::decode(bytes) else { return };
        let (of, number, block) = claimed.names();
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(offered) = &mut collection.offered else { return };
        let Some(group) = collection.groups.get(offered.group) else { return };
        let agreement = group.agreement.clone();
        let Content::Round { session, round, .. } = agreement.content else { return };
        if session != of || round != number || agreement.sender != from {
            return;
        }
        if collection.outcome.is_some() {
            // The sender has not heard of the end, or will in a moment.
            return self.confirm(block);
        }
        let key = self.sessions.get(&of).and_then(|session| session.key(round, Part::Choice));
        let Some(choice) = key.and_then(|key| claimed.verify(key)) else {
            offered.forged += 1;
            self.counters.forged += 1;
            if offered.forged > FORGED_CHOICES_MAX {
                self.abort(block, AbortReason::Internal);
            }
            return;
        };
        let least = usize::from(agreement.k.max(self.policy.k_min));
        let (at, offered) = (offered.group, offered.positions.clone());
        match self.close(block, at, choice, least) {
            Some(key) => {
                let confirmation = self.confirmation(of, round, block);
                if let Some(offered) =
                    self.collections.get_mut(&block).and_then(|collection| collection.offered.as_mut())
                {
                    offered.confirmation = confirmation;
                }
                let left_out =
                    offered.into_iter().filter(|position| !choice.positions.contains(position)).collect();
                self.validate(block, at, agreement, key, left_out, choice.positions.clone());
            }
            None => {
                let received = u8::try_from(offered.len()).unwrap_or(u8::MAX);
                let (k, n) = (agreement.k, agreement.n());
                self.abort(block, AbortReason::NoneValidates { received, k, n, at_least: 1 });
            }
        }
    }

    fn confirmation(&self, session: BlockId, round: u32, block: BlockId) -> Option<Vec<u8>> {
        let key = self.sessions.get(&session)?.key(round, Part::Confirmation)?;
        seal(&Confirmation { session, round, block }, key)
    }

    /// Tells the sender of a round that its key is durable here, if it is.
    pub(super) fn confirm(&mut self, block: BlockId) {
        let Some(collection) = self.collections.get(&block).filter(|collection| !collection.ending) else {
            return;
        };
        let validated = collection.outcome.as_ref().is_some_and(|outcome| outcome.validated.is_some());
        let Some(offered) = collection.offered.as_ref().filter(|_| validated) else { return };
        if let (Some(bytes), Some(group)) = (&offered.confirmation, collection.groups.get(offered.group)) {
            let (to, bytes) = (group.agreement.sender, bytes.clone());
            self.effects.push_back(ReceiverEffect::Confirm { block, to, bytes });
        }
    }

    /// Of a round that has ended only the word for its sender is kept; nothing is compared with its shares.
    pub(super) fn keep_confirmation(&mut self, block: BlockId) {
        if let Some(collection) = self.collections.get_mut(&block)
            && collection.offered.is_some()
        {
            self.held_bytes -= collection.held_bytes();
            collection.forget_shares();
            self.places.shares_gone(&block);
        }
    }

    /// The key of the chosen shares, if they are enough, were offered, and give what the key tag says.
    fn close(&self, block: BlockId, at: usize, choice: &Choice, least: usize) -> Option<SecretKey> {
        let collection: &Collection = self.collections.get(&block)?;
        let (group, offered) = (collection.groups.get(at)?, collection.offered.as_ref()?);
        let subset = choice.positions.iter().all(|position| offered.positions.contains(position));
        if !subset || choice.positions.len() < least {
            return None;
        }
        let share = |position: &u8| {
            let found = group.shares.iter().find(|(at, _)| at == position);
            found.map(|(_, share)| share.0.as_slice())
        };
        let shares: Vec<&[u8]> = choice.positions.iter().map(share).collect::<Option<_>>()?;
        let (key, key_tag) = close_round(&group.agreement, &choice.positions, &shares)?;
        bool::from(key_tag.as_bytes().ct_eq(choice.key_tag.as_bytes())).then_some(key)
    }

    /// The part of a session that the rounds of a block used goes with them, and the session with its last round. A liar
    /// may have put the block into a group of its own: those are looked at as well.
    pub(super) fn end_rounds(&mut self, block: BlockId) {
        let Some(collection) = self.collections.get(&block) else { return };
        for group in &collection.groups {
            let Content::Round { session, round, .. } = group.agreement.content else { continue };
            let Some(of) = self.sessions.get_mut(&session) else { continue };
            if of.is_begun_for(round, &block) {
                of.erase(round);
                if of.is_over() {
                    self.sessions.remove(&session);
                    self.session_order.retain(|(known, _)| *known != session);
                }
            }
        }
    }
}
