//! The receiver's part of a round of the Adapted protocol (§3): it offers the shares that came, and makes the key of
//! those that the sender chooses.
//!
//! Whoever is slow must not lose a round to whoever lies: where the sender has not chosen, what comes after an offer is
//! offered as well, with all that was before, until the deadline. The offers of a round grow, so each has its own tag
//! key; a share has one tag, under its own key, in all of them.

use subtle::ConstantTimeEq;

use super::{Receiver, ReceiverEffect};
use crate::{
    collect::{Collection, ShareRef},
    effect::SecretKey,
    ids::{BlockId, NodeId},
    message::{Agreement, Content},
    negotiation::{Choice, Claimed, Confirmation, Offer, Part, Session, seal},
    params::{LATE_SHARES, OFFER_AGAIN, OFFER_GRACE, Time},
    planted::{Fault, planted},
    refusal::AbortReason,
    saying::{Saying, Ways},
    sender::close_round,
    tag::Tag,
};

/// Sessions of one sender that are kept: one in use, one that follows it, and what a restart of the sender left.
const SESSIONS_PER_SENDER_MAX: usize = 4;

/// A share that was offered.
#[derive(Debug, Clone, Copy)]
struct OfferedShare {
    position: u8,
    /// The one tag that it has in all offers.
    tag: Tag,
    /// Shares of the first offer that held it.
    since: u8,
}

/// What a receiver has offered in a round.
pub(crate) struct Offered {
    /// Which group of the collection: one for all offers of a round, for a share has one tag.
    group: usize,
    /// By roster position, rising.
    shares: Vec<OfferedShare>,
    /// The very message, to be sent again as it is.
    bytes: Vec<u8>,
    /// When it goes again, or a larger one in its place.
    due: Time,
    /// The word that the key is here, to be sent once it is durable.
    confirmation: Option<Confirming>,
}

/// What tells the sender that the key is here.
struct Confirming {
    /// The choice that the key was made of: only the very same is answered again.
    choice: Vec<u8>,
    word: Word,
}

enum Word {
    /// The key is not durable yet.
    Kept(Vec<u8>),
    Said(Saying),
}

impl std::fmt::Debug for Offered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offered({} shares)", self.shares.len())
    }
}

impl Offered {
    /// Shares that were offered.
    pub(crate) fn shares(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    /// Whether there are shares in its group that it does not hold.
    fn has_more_in(&self, collection: &Collection) -> bool {
        let group = collection.groups.get(self.group);
        group.is_some_and(|group| group.shares.len() > self.shares.len()) && !planted(Fault::OneOfferOnly)
    }
}

impl Receiver {
    /// Whether a round can be negotiated: its session is known, it fits it, and its part of the key is free.
    pub(super) fn can_negotiate(&self, agreement: &Agreement) -> bool {
        let Content::Round { session, round, .. } = agreement.content else { return true };
        let session = self.sessions.get(&session);
        session.is_some_and(|session| session.fits(agreement) && session.is_free(round, &agreement.block()))
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
        let block = session.agreement().block();
        self.session_order.push_back((block, sender));
        self.sessions.insert(block, session);
    }

    /// Offers what has come of a round, once it is complete or has waited long enough for the rest; and what has come
    /// since, in the same way, while the sender has not chosen. Whether something is still to come of it: the rest of the
    /// shares, or the sender's choice.
    pub(super) fn advance_round(&mut self, now: Time, block: BlockId) -> bool {
        let Some(collection) = self.collections.get(&block) else { return false };
        if collection.outcome.is_some() || collection.deadline <= now {
            return false;
        }
        let least = usize::from(self.policy.k_min);
        let group = match &collection.offered {
            Some(offered) if offered.has_more_in(collection) => offered.group,
            Some(_) => return true,
            None => {
                let ready = collection.groups.iter().position(|group| {
                    group.agreement.is_round()
                        && group.shares.len() >= least.max(usize::from(group.agreement.k))
                });
                match ready {
                    Some(group) => group,
                    None => return false,
                }
            }
        };
        let Some(collection) = self.collections.get_mut(&block) else { return false };
        let due = *collection.offer_due.get_or_insert(now + OFFER_GRACE);
        if collection.is_complete() || due <= now {
            self.offer(now, block, group);
        } else {
            self.offers_due.insert((due, block));
        }
        true
    }

    /// Makes an offer of a round: of all shares that came, those that were offered before among them.
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
        let ways = if collection.offered.is_none() { Ways::One } else { Ways::again() };
        let before = collection.offered.as_ref().map_or(&[][..], |offered| offered.shares.as_slice());
        let since = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
        let share = |(position, share): &(u8, ShareRef)| {
            let tagged = before.iter().find(|offered| offered.position == *position).copied();
            tagged.or_else(|| {
                let tag = session.key(round, Part::Share(*position))?.tag(&context, &share.0);
                Some(OfferedShare { position: *position, tag, since })
            })
        };
        let mut shares: Vec<OfferedShare> = group.shares.iter().filter_map(share).collect();
        shares.sort_unstable_by_key(|share| share.position);
        let tags = shares.iter().map(|share| (share.position, share.tag)).collect();
        let offer = Offer { session: of, round, block, shares: tags };
        // The number of shares names the offer: no two of a round have the same, for they grow.
        let sealed = session.key(round, Part::Offer(offer.shares.len())).and_then(|key| seal(&offer, key));
        let Some(bytes) = sealed else { return self.abort(block, AbortReason::Internal) };
        let to = agreement.sender;
        // Otherwise it would go again when the rest would have been waited for.
        let earlier = collection.offered.as_ref().map(|offered| offered.due);
        for due in collection.offer_due.take().into_iter().chain(earlier) {
            self.offers_due.remove(&(due, block));
        }
        let due = now + OFFER_AGAIN;
        let bytes_again = bytes.clone();
        collection.offered = Some(Offered { group: at, shares, bytes: bytes_again, due, confirmation: None });
        self.offers_due.insert((due, block));
        self.effects.push_back(ReceiverEffect::Offer { block, to, ways, bytes });
    }

    /// Offers that are due for the first time, or with more, or again because no choice has come.
    pub(super) fn tick_offers(&mut self, now: Time) {
        while let Some(&(due, block)) = self.offers_due.first() {
            if due > now {
                break;
            }
            self.offers_due.remove(&(due, block));
            let Some(collection) = self.collections.get_mut(&block) else { continue };
            let has_more = collection.offer_due.is_some_and(|due| due <= now);
            match &mut collection.offered {
                _ if collection.outcome.is_some() => {}
                Some(offered) if !has_more && offered.due <= now => {
                    let bytes = offered.bytes.clone();
                    let Some(group) = collection.groups.get(offered.group) else { continue };
                    let to = group.agreement.sender;
                    offered.due = now + OFFER_AGAIN;
                    self.offers_due.insert((offered.due, block));
                    self.effects.push_back(ReceiverEffect::Offer { block, to, ways: Ways::again(), bytes });
                }
                _ => self.advance(now, block),
            }
        }
    }

    /// The sender's choice: only one with a right tag is looked at.
    pub(super) fn chosen(&mut self, now: Time, from: NodeId, bytes: Vec<u8>) {
        let Some(claimed) = Claimed::<Choice>::decode(bytes.clone()) else { return };
        let (of, number, block) = claimed.names();
        let Some(collection) = self.collections.get(&block) else { return };
        let Some(offered) = &collection.offered else { return };
        let Some(group) = collection.groups.get(offered.group) else { return };
        let agreement = group.agreement.clone();
        let Content::Round { session, round, .. } = agreement.content else { return };
        if session != of || round != number || agreement.sender != from {
            return;
        }
        if collection.outcome.is_some() {
            // The sender has not heard of the end, or will in a moment.
            if offered.confirmation.as_ref().is_some_and(|confirming| confirming.choice == bytes) {
                self.confirm(now, block);
            }
            return;
        }
        let key = self.sessions.get(&of).and_then(|session| session.key(round, Part::Choice));
        let Some(choice) = key.and_then(|key| claimed.verify(key)) else {
            self.counters.forged += 1;
            return;
        };
        let least = usize::from(agreement.k.max(self.policy.k_min));
        let at = offered.group;
        // Only those that the sender has seen can be found wanting.
        let seen = offered.shares.iter().filter(|share| share.since <= choice.offered);
        let offered: Vec<u8> = seen.map(|share| share.position).collect();
        match self.close(block, at, choice, least) {
            Some(key) => {
                let confirmation = self.confirmation(of, round, block);
                if let Some(offered) =
                    self.collections.get_mut(&block).and_then(|collection| collection.offered.as_mut())
                {
                    offered.confirmation =
                        confirmation.map(|word| Confirming { choice: bytes, word: Word::Kept(word) });
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

    /// Tells the sender of a round that its key is durable here, if it is; again, by all ways, where it asks again.
    pub(super) fn confirm(&mut self, now: Time, block: BlockId) {
        let Some(collection) = self.collections.get_mut(&block).filter(|collection| !collection.ending)
        else {
            return;
        };
        let validated = collection.outcome.as_ref().is_some_and(|outcome| outcome.validated.is_some());
        let Some(offered) = collection.offered.as_mut().filter(|_| validated) else { return };
        let Some(group) = collection.groups.get(offered.group) else { return };
        let Some(confirming) = offered.confirmation.as_mut() else { return };
        let (ways, bytes) = match &mut confirming.word {
            Word::Kept(bytes) => {
                let bytes = std::mem::take(bytes);
                confirming.word = Word::Said(Saying::new(now, bytes.clone()));
                (Ways::One, Some(bytes))
            }
            Word::Said(saying) => (Ways::again(), saying.again(now)),
        };
        if let Some(bytes) = bytes {
            let to = group.agreement.sender;
            self.effects.push_back(ReceiverEffect::Confirm { block, to, ways, bytes });
        }
    }

    /// Of a round that has ended only the word for its sender is kept; nothing is compared with its shares. However near its
    /// deadline was, the sender has time to ask again.
    pub(super) fn keep_confirmation(&mut self, now: Time, block: BlockId) {
        if let Some(collection) = self.collections.get_mut(&block)
            && collection.offered.is_some()
        {
            self.deadlines.remove(&(collection.deadline, block));
            collection.deadline = now + LATE_SHARES;
            self.deadlines.insert((collection.deadline, block));
            self.held_bytes -= collection.held_bytes();
            collection.forget_shares();
            self.places.shares_gone(&block);
        }
    }

    /// The key of the chosen shares, if they are enough, were offered, and give what the key tag says.
    fn close(&self, block: BlockId, at: usize, choice: &Choice, least: usize) -> Option<SecretKey> {
        let collection: &Collection = self.collections.get(&block)?;
        let (group, offered) = (collection.groups.get(at)?, collection.offered.as_ref()?);
        let was_offered = |position: &u8| {
            let mut seen = offered.shares.iter().filter(|share| share.since <= choice.offered);
            seen.any(|share| share.position == *position)
        };
        let subset = choice.positions.iter().all(was_offered);
        if !subset || choice.positions.len() < least {
            return None;
        }
        let share = |position: &u8| {
            let found = group.shares.iter().find(|(at, _)| at == position);
            found.map(|(_, share)| share.0.as_slice())
        };
        let shares: Vec<&[u8]> = choice.positions.iter().map(share).collect::<Option<_>>()?;
        let (key, key_tag) = close_round(&group.agreement, &choice.positions, &shares)?;
        bool::from(key_tag.ct_eq(&choice.key_tag)).then_some(key)
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
