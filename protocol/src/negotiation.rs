//! What the two ends of the Adapted protocol say to each other (§3), and the key under which they say it.
//!
//! One General agreement gives a *session* the key for many *rounds*. In a round the receiver *offers* the shares that
//! came, each by a tag that only the sender can check, and the sender *chooses* among those whose tags are right. The
//! link between the two needs neither secrecy nor integrity. Every part of the key serves one message; it is erased
//! when that message has been made or accepted, and lives in memory alone: a restart ends the session.
//!
//! Must never: make two different messages under one part; give up a part for a message whose tag is wrong.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    codec,
    effect::SecretKey,
    ids::BlockId,
    message::{Agreement, Content},
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    tag::Tag,
    wiped::Wiped,
};

/// Longest message of a negotiation: 255 shares, each with its place and tag.
pub const NEGOTIATION_BYTES_MAX: usize = 8 << 10;

/// Rounds of one session at most.
pub const ROUNDS_MAX: u32 = 4096;

/// Bytes of negotiation key that so many rounds with n hubs take: l·(n + 3) bits each; the paper's l·(n + 2) (§3), and a
/// tag key for the [`Confirmation`].
pub fn negotiation_bytes(n: u8, rounds: u32) -> u32 {
    rounds.saturating_mul(round_bytes(n))
}

/// Messages of a round, each under a tag key of its own besides those of the shares.
const MESSAGES: usize = 3;

fn round_bytes(n: u8) -> u32 {
    // Within u32 for every n.
    u32::try_from((usize::from(n) + MESSAGES) * TAG_KEY_BYTES).unwrap_or(u32::MAX)
}

/// Receiver to sender: these shares have come.
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
    /// Roster positions, rising.
    pub positions: Vec<u8>,
    /// The key tag of what they give.
    pub key_tag: Tag,
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
    /// The tag of the [`Offer`].
    Offer,
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
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {} rounds)", self.agreement.block, self.rounds.len())
    }
}

impl Session {
    /// The session that an agreement has given the key for; `None` where it is not of that content, or its length
    /// fits no number of rounds.
    pub(crate) fn new(agreement: Agreement, key: SecretKey) -> Option<Self> {
        let each = round_bytes(agreement.n());
        let fits = agreement.content == Content::Negotiation
            && agreement.key_bytes.is_multiple_of(each)
            && key.0.len() == agreement.key_bytes as usize;
        let rounds = agreement.key_bytes / each;
        if !fits || !(1..=ROUNDS_MAX).contains(&rounds) {
            return None;
        }
        Some(Self { agreement, key: key.0, rounds: vec![State::Free; rounds as usize] })
    }

    /// The agreement that gave the key.
    pub(crate) fn agreement(&self) -> &Agreement {
        &self.agreement
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
        let n = self.agreement.n();
        let parts = (0..n).map(Part::Share).chain([Part::Offer, Part::Choice, Part::Confirmation]);
        for place in parts.filter_map(|part| self.place(round, part)).collect::<Vec<_>>() {
            if let Some(bytes) = self.key.get_mut(place) {
                bytes.zeroize();
            }
        }
        if let Some(state) = self.rounds.get_mut(round as usize) {
            *state = State::Over;
        }
    }

    fn place(&self, round: u32, part: Part) -> Option<std::ops::Range<usize>> {
        let n = usize::from(self.agreement.n());
        let at = match part {
            Part::Share(position) => usize::from(position),
            Part::Offer => n,
            Part::Choice => n + 1,
            Part::Confirmation => n + 2,
        };
        let keys = n + MESSAGES;
        let start = (round as usize).checked_mul(keys)?.checked_add(at)?.checked_mul(TAG_KEY_BYTES)?;
        (at < keys).then_some(start..start + TAG_KEY_BYTES)
    }
}
