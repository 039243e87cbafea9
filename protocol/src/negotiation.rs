//! What the two ends of the Adapted protocol say to each other (§3), and the key under which they say it.
//!
//! One General agreement gives a *session* the key for many *rounds*. In a round the receiver *offers* the shares that
//! came, each by a tag that only the sender can check, and the sender *chooses* among those whose tags are right. Where
//! too few are, the receiver offers more of them as they come: an offer is named by how many shares it holds, and the
//! offers of a round grow, so each has a part of the key of its own. The link between the two needs neither secrecy nor
//! integrity. Every part of the key serves one message; all parts of a round are erased when it ends, and live in
//! memory alone: a restart ends the session.
//!
//! Must never: make two different messages under one part; give up a part, or a round, for a message whose tag is wrong.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    codec,
    effect::SecretKey,
    ids::{BlockId, NodeId},
    message::{Agreement, Content},
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    tag::{KeyTag, Tag},
    wiped::Wiped,
};

/// Longest message of a negotiation: 255 shares, each with its place and tag.
pub const NEGOTIATION_BYTES_MAX: usize = 8 << 10;

/// Rounds of one session at most.
pub const ROUNDS_MAX: u32 = 4096;

/// Bytes of negotiation key that so many rounds of an (n, k) scheme take: l·(2n − k + 3) bits each. The paper's
/// l·(n + 2) (§3) has one offer; here each offer of k, k + 1, … n shares has its own tag key, and so has the
/// [`Confirmation`].
pub fn negotiation_bytes(n: u8, k: u8, rounds: u32) -> u32 {
    rounds.saturating_mul(round_bytes(n, k))
}

/// Offers that a round of an (n, k) scheme can have: of k shares, of k + 1, … of all n.
fn offers(n: u8, k: u8) -> usize {
    usize::from(n.saturating_sub(k)) + 1
}

/// Tag keys of a round: of the shares, the offers, the choice and the confirmation.
fn round_keys(n: u8, k: u8) -> usize {
    usize::from(n) + offers(n, k) + 2
}

fn round_bytes(n: u8, k: u8) -> u32 {
    // Within u32 for every n and k.
    u32::try_from(round_keys(n, k) * TAG_KEY_BYTES).unwrap_or(u32::MAX)
}

/// Receiver to sender: these shares have come. A later offer of a round holds all of an earlier one, and more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The agreement whose key negotiates.
    pub session: BlockId,
    /// Which part of that key.
    pub round: u32,
    /// The round's own agreement.
    pub block: BlockId,
    /// Roster positions, rising, and the tag of the share of each.
    pub shares: Vec<(u8, Tag)>,
}

/// Sender to receiver: the key is the exclusive-or of these shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The agreement whose key negotiates.
    pub session: BlockId,
    /// Which part of that key.
    pub round: u32,
    /// The round's own agreement.
    pub block: BlockId,
    /// Shares of the offer that is chosen from: of those that it held and that are not chosen the tag was wrong.
    pub offered: u8,
    /// Roster positions, rising.
    pub positions: Vec<u8>,
    /// The key tag of what they give.
    pub key_tag: KeyTag,
}

/// Receiver to sender: the key is durable here. Not in the paper, which leaves open how the sender learns it; without a
/// tag whoever passes messages on could make a sender use a key that the receiver does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The agreement whose key negotiates.
    pub session: BlockId,
    /// Which part of that key.
    pub round: u32,
    /// The round's own agreement.
    pub block: BlockId,
}

/// A message of a negotiation.
pub(crate) trait Negotiated: Serialize + DeserializeOwned {
    /// First byte on the wire: no message passes for one of another kind, nor for one of a lane.
    const KIND: u8;
    /// Session, round and block.
    fn names(&self) -> (BlockId, u32, BlockId);
    /// Roster positions that it is about.
    fn positions(&self) -> impl Iterator<Item = u8>;
}

impl Negotiated for Offer {
    const KIND: u8 = 16;

    fn names(&self) -> (BlockId, u32, BlockId) {
        (self.session, self.round, self.block)
    }

    fn positions(&self) -> impl Iterator<Item = u8> {
        self.shares.iter().map(|(position, _)| *position)
    }
}

impl Negotiated for Choice {
    const KIND: u8 = 17;

    fn names(&self) -> (BlockId, u32, BlockId) {
        (self.session, self.round, self.block)
    }

    fn positions(&self) -> impl Iterator<Item = u8> {
        self.positions.iter().copied()
    }
}

impl Negotiated for Confirmation {
    const KIND: u8 = 18;

    fn names(&self) -> (BlockId, u32, BlockId) {
        (self.session, self.round, self.block)
    }

    fn positions(&self) -> impl Iterator<Item = u8> {
        std::iter::empty()
    }
}

/// A message of a negotiation whose tag has not been checked: it only says which key checks it.
pub(crate) struct Claimed<T> {
    body: T,
    bytes: Vec<u8>,
}

impl<T: Negotiated> Claimed<T> {
    /// Decodes within the limits; `None` if it is no such message, or its positions do not rise.
    pub(crate) fn decode(bytes: Vec<u8>) -> Option<Self> {
        if bytes.len() > NEGOTIATION_BYTES_MAX {
            return None;
        }
        let (kind, encoded) = bytes.get(..bytes.len().checked_sub(TAG_BYTES)?)?.split_first()?;
        if *kind != T::KIND {
            return None;
        }
        let body: T = codec::decode(encoded, NEGOTIATION_BYTES_MAX).ok()?;
        if !body.positions().is_sorted_by(|a, b| a < b) {
            return None;
        }
        Some(Self { body, bytes })
    }

    /// Session, round and block that it names.
    pub(crate) fn names(&self) -> (BlockId, u32, BlockId) {
        self.body.names()
    }

    /// Roster positions that it claims to be about.
    pub(crate) fn count(&self) -> usize {
        self.body.positions().count()
    }

    /// Checks the tag in constant time; the body where it is right.
    pub(crate) fn verify(&self, key: TagKey) -> Option<&T> {
        let (signed, tag) = self.bytes.split_at(self.bytes.len() - TAG_BYTES);
        let tag = Tag::new(tag.try_into().ok()?);
        key.verify(&[], signed, &tag).then_some(&self.body)
    }
}

/// Encodes a message of a negotiation and tags it. `None` only if it has no encoding.
pub(crate) fn seal<T: Negotiated>(body: &T, key: TagKey) -> Option<Vec<u8>> {
    let mut bytes = vec![T::KIND];
    codec::encode_into(body, &mut bytes).ok()?;
    let tag = key.tag(&[], &bytes);
    bytes.extend_from_slice(tag.as_bytes());
    Some(bytes)
}

/// Which part of a round's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The tag of the share at a roster position.
    Share(u8),
    /// The tag of the [`Offer`] of so many shares: at least k, for the sender can choose among no fewer.
    Offer(usize),
    /// The tag of the [`Choice`].
    Choice,
    /// The tag of the [`Confirmation`].
    Confirmation,
}

/// What has become of a round at this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Begun(BlockId),
    /// Its part of the key is erased.
    Over,
}

/// The negotiation key of one session, at one of its two ends.
pub(crate) struct Session {
    agreement: Agreement,
    key: Wiped,
    rounds: Vec<State>,
    /// At the sender: hubs that pass on that the receiver has lost the key.
    lost: BTreeSet<NodeId>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {} rounds)", self.agreement.block(), self.rounds.len())
    }
}

impl Session {
    /// The session that an agreement has given the key for; `None` where it is not of that content, or its length
    /// fits no number of rounds.
    pub(crate) fn new(agreement: Agreement, key: SecretKey) -> Option<Self> {
        let each = round_bytes(agreement.n(), agreement.k);
        let fits = agreement.content == Content::Negotiation
            && agreement.key_bytes.is_multiple_of(each)
            && key.0.len() == agreement.key_bytes as usize;
        let rounds = agreement.key_bytes / each;
        if !fits || !(1..=ROUNDS_MAX).contains(&rounds) {
            return None;
        }
        Some(Self {
            agreement,
            key: key.0,
            rounds: vec![State::Free; rounds as usize],
            lost: BTreeSet::new(),
        })
    }

    /// The agreement that gave the key.
    pub(crate) fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// A hub says that the other end has lost the key. Gives how many have said so.
    pub(crate) fn say_lost(&mut self, hub: NodeId) -> usize {
        self.lost.insert(hub);
        self.lost.len()
    }

    /// Rounds that have not begun.
    pub(crate) fn rounds_left(&self) -> u32 {
        u32::try_from(self.rounds.iter().filter(|round| **round == State::Free).count()).unwrap_or(u32::MAX)
    }

    /// Whether nothing of the key is left.
    pub(crate) fn is_over(&self) -> bool {
        self.rounds.iter().all(|round| *round == State::Over)
    }

    /// The next round that has not begun, which begins for this block.
    pub(crate) fn begin_next(&mut self, block: BlockId) -> Option<u32> {
        let at = self.rounds.iter().position(|round| *round == State::Free)?;
        self.rounds[at] = State::Begun(block);
        u32::try_from(at).ok()
    }

    /// Begins a round for a block; `false` where it does not exist, is over, or has begun for another.
    pub(crate) fn begin(&mut self, round: u32, block: BlockId) -> bool {
        let free = self.is_free(round, &block);
        if free && let Some(state) = self.rounds.get_mut(round as usize) {
            *state = State::Begun(block);
        }
        free
    }

    /// Whether a round may still begin for this block, or has begun for it.
    pub(crate) fn is_free(&self, round: u32, block: &BlockId) -> bool {
        match self.rounds.get(round as usize) {
            Some(State::Free) => true,
            Some(State::Begun(other)) => other == block,
            Some(State::Over) | None => false,
        }
    }

    /// Whether a round has begun for this block, and is not over.
    pub(crate) fn is_begun_for(&self, round: u32, block: &BlockId) -> bool {
        self.rounds.get(round as usize) == Some(&State::Begun(*block))
    }

    /// A round of this session as its agreement must be: same ends, hubs, order and threshold.
    pub(crate) fn fits(&self, round: &Agreement) -> bool {
        let mine = &self.agreement;
        round.sender == mine.sender
            && round.receivers == mine.receivers
            && round.roster == mine.roster
            && round.k == mine.k
    }

    /// The key of one part, to try a message with or to make the only one that is made under it.
    pub(crate) fn key(&self, round: u32, part: Part) -> Option<TagKey> {
        if !matches!(self.rounds.get(round as usize), Some(State::Begun(_))) {
            return None;
        }
        let bytes: [u8; TAG_KEY_BYTES] = self.key.get(self.place(round, part)?)?.try_into().ok()?;
        let mut bytes = Zeroizing::new(bytes);
        Some(TagKey::new(std::mem::take(&mut *bytes)))
    }

    /// Erases all parts of a round.
    pub(crate) fn erase(&mut self, round: u32) {
        if let Some(place) = self.bytes_of(round)
            && let Some(bytes) = self.key.get_mut(place)
        {
            bytes.zeroize();
        }
        if let Some(state) = self.rounds.get_mut(round as usize) {
            *state = State::Over;
        }
    }

    /// Where the key of a round lies.
    fn bytes_of(&self, round: u32) -> Option<std::ops::Range<usize>> {
        let bytes = round_keys(self.agreement.n(), self.agreement.k) * TAG_KEY_BYTES;
        let start = (round as usize).checked_mul(bytes)?;
        Some(start..start.checked_add(bytes)?)
    }

    /// Where the key of a part lies: those of the shares come first, then those of the offers, by their number of shares.
    fn place(&self, round: u32, part: Part) -> Option<std::ops::Range<usize>> {
        let (n, k) = (usize::from(self.agreement.n()), usize::from(self.agreement.k));
        let offers = offers(self.agreement.n(), self.agreement.k);
        let at = match part {
            Part::Share(position) if usize::from(position) < n => usize::from(position),
            Part::Offer(shares) if (k..=n).contains(&shares) => n + (shares - k),
            Part::Choice => n + offers,
            Part::Confirmation => n + offers + 1,
            Part::Share(_) | Part::Offer(_) => return None,
        };
        let start = self.bytes_of(round)?.start.checked_add(at.checked_mul(TAG_KEY_BYTES)?)?;
        Some(start..start + TAG_KEY_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::BlockNonce, params::PROTOCOL_VERSION};

    fn session(n: u8, k: u8, rounds: u32) -> Session {
        let key_bytes = negotiation_bytes(n, k, rounds);
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([1; 16]),
            sender: NodeId::new([1; 32]),
            receivers: vec![NodeId::new([2; 32])],
            purpose: String::new(),
            k,
            key_bytes,
            content: Content::Negotiation,
            roster: (0..n).map(|hub| NodeId::new([100 + hub; 32])).collect(),
        };
        Session::new(agreement, SecretKey(Wiped::new(vec![7; key_bytes as usize]))).expect("it fits")
    }

    fn parts(n: u8, k: u8) -> Vec<Part> {
        let offers = (usize::from(k)..=usize::from(n)).map(Part::Offer);
        (0..n).map(Part::Share).chain(offers).chain([Part::Choice, Part::Confirmation]).collect()
    }

    #[test]
    fn every_part_of_every_round_has_a_key_of_its_own_and_none_is_left_over() {
        for (n, k) in [(1, 1), (3, 2), (5, 3), (7, 7), (9, 1), (100, 50)] {
            let session = session(n, k, 3);
            let mut seen = BTreeSet::new();
            for round in 0..3 {
                for part in parts(n, k) {
                    let place = session.place(round, part).expect("it has a place");
                    assert_eq!(place.len(), TAG_KEY_BYTES);
                    place.for_each(|at| assert!(seen.insert(at), "({n}, {k}): {part:?} shares its key"));
                }
            }
            assert_eq!(seen.len(), session.key.len(), "({n}, {k})");
            let none = [Part::Share(n), Part::Offer(usize::from(k) - 1), Part::Offer(usize::from(n) + 1)];
            assert!(none.into_iter().all(|part| session.place(0, part).is_none()), "({n}, {k})");
        }
    }

    #[test]
    fn a_round_that_is_over_leaves_nothing_of_its_key() {
        let mut session = session(5, 3, 2);
        assert_eq!(session.begin_next(BlockId::new([9; 16])), Some(0));
        assert!(parts(5, 3).into_iter().all(|part| session.key(0, part).is_some()));
        session.erase(0);
        assert!(parts(5, 3).into_iter().all(|part| session.key(0, part).is_none()));
        let half = session.key.len() / 2;
        assert!(session.key[..half].iter().all(|byte| *byte == 0));
        assert!(session.key[half..].iter().all(|byte| *byte == 7), "the next round is untouched");
    }
}
