//! Messages of the protocol, and the step from received bytes to a verified fact.
//!
//! On the wire a tagged message is one byte of kind, the encoding of its body, and a tag over all that
//! came before. The body starts with the run of the lane that the message consumes, so table, lane and
//! offset are under the tag. A [`Verified`] body comes only from checking a tag, or from our own hand.

mod request;

use std::{collections::BTreeSet, ops::Deref};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::request::KeyRequest;
use crate::{
    codec::{self, Blob, DecodeError},
    enrolment::Signature,
    ids::{BlockId, BlockNonce, Lane, Name, NodeId, PadRange},
    limits::Limits,
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    params::{
        APPLICATION_BYTES_MAX, APPLICATIONS_MAX, KEY_BYTES_MAX, KEYS_PER_BLOCK_MAX, MESSAGE_BYTES_MAX,
        PROTOCOL_VERSION, PURPOSE_BYTES_MAX, RECEIVERS_MAX, ROSTER_MAX, burned_bytes, share_bytes,
    },
    planted::{Fault, planted},
    tag::{HINT_BYTES, KeyTag, Tag, tag_blocks},
};

/// What all hubs of one agreement must agree on. Its encoding is the context of the key tag, so two
/// shares belong together only if all of it is equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// [`PROTOCOL_VERSION`].
    pub version: u16,
    /// Drawn by the sender, never twice; see [`Agreement::block`].
    pub nonce: BlockNonce,
    /// The client that chose the secret.
    pub sender: NodeId,
    /// The clients that are to receive it, in the sender's order.
    pub receivers: Vec<NodeId>,
    /// What the key is for; public.
    pub purpose: String,
    /// Shares needed to reconstruct.
    pub k: u8,
    /// Bytes of key (the paper's m bits), all keys of the block together.
    pub key_bytes: u32,
    /// What the secret serves for.
    pub content: Content,
    /// The n hubs in order; the one at position i has x = i + 1.
    pub roster: Vec<NodeId>,
}

/// What the secret of an agreement serves for. Both sides see it alike, so both cut the block alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// So many keys of one length, one after another.
    Keys(u32),
    /// Key for the negotiation of rounds of the Adapted protocol (§3); see [`crate::negotiation`].
    Negotiation,
    /// One round of the Adapted protocol: every hub takes its pad as its share, and the receiver and the sender
    /// choose among the shares afterwards.
    Round {
        /// The agreement whose key negotiates it.
        session: BlockId,
        /// Which part of that key.
        round: u32,
        /// Keys in the block, as in [`Content::Keys`].
        keys: u32,
    },
}

impl Content {
    /// Number of keys in the block; 0 for what no application ever sees.
    pub fn keys(&self) -> u32 {
        match self {
            Self::Keys(keys) | Self::Round { keys, .. } => *keys,
            Self::Negotiation => 0,
        }
    }

    fn is_well_formed(&self, key_bytes: u32) -> bool {
        match self {
            Self::Keys(keys) | Self::Round { keys, .. } => {
                (1..=KEYS_PER_BLOCK_MAX).contains(keys) && key_bytes.is_multiple_of(*keys)
            }
            Self::Negotiation => true,
        }
    }
}

impl Agreement {
    /// Names the result. Bound to the sender: whoever hears it can begin no agreement of the same id.
    pub fn block(&self) -> BlockId {
        self.nonce.block(&self.sender)
    }

    /// Number of hubs.
    pub fn n(&self) -> u8 {
        // A valid agreement has at most 255.
        u8::try_from(self.roster.len()).unwrap_or(u8::MAX)
    }

    /// Bytes of a share in messages of a lane: up, to a hub, that of u for every receiver and of the key; down, to a
    /// receiver, that of its own u and of the key.
    pub fn share_bytes(&self, lane: Lane) -> u64 {
        share_bytes(u64::from(self.key_bytes), self.readers(lane))
    }

    /// Pad bytes of a lane that it burns with each hub.
    pub fn burned_bytes(&self, lane: Lane) -> u64 {
        burned_bytes(u64::from(self.key_bytes), self.readers(lane))
    }

    /// Receivers whose u is in the share of one message.
    fn readers(&self, lane: Lane) -> usize {
        match lane {
            Lane::Up => self.receivers.len(),
            Lane::Down => 1,
        }
    }

    /// Whether the hub at a roster position takes its pad as its share, so that none travels to it.
    pub fn takes_pad(&self, position: u8) -> bool {
        position < self.k || self.is_round()
    }

    /// Whether it is a round of the Adapted protocol.
    pub fn is_round(&self) -> bool {
        matches!(self.content, Content::Round { .. })
    }

    /// Bytes of each key of the block.
    pub fn bytes_of_each_key(&self) -> u32 {
        self.key_bytes / self.content.keys().max(1)
    }

    /// The roster position of a hub.
    pub fn position(&self, hub: &NodeId) -> Option<u8> {
        self.roster.iter().position(|member| member == hub).and_then(|at| u8::try_from(at).ok())
    }

    /// The canonical encoding: the context that the key tag binds.
    ///
    /// # Errors
    /// Never for a valid agreement.
    pub fn context(&self) -> Result<Vec<u8>, DecodeError> {
        codec::encode(self)
    }

    /// Whether the values make sense in themselves: 1 ≤ k ≤ n ≤ 255, nobody twice, lengths in bounds.
    pub fn is_well_formed(&self) -> bool {
        let distinct = |nodes: &[NodeId]| nodes.iter().collect::<BTreeSet<_>>().len() == nodes.len();
        self.version == PROTOCOL_VERSION
            && (1..=RECEIVERS_MAX).contains(&self.receivers.len())
            && distinct(&self.receivers)
            && !self.receivers.contains(&self.sender)
            && self.purpose.len() <= PURPOSE_BYTES_MAX
            && (1..=ROSTER_MAX).contains(&self.roster.len())
            && distinct(&self.roster)
            // A hub serves others: it shares no pads with itself, and what it passed on to itself would be no share.
            && !self.roster.iter().any(|hub| *hub == self.sender || self.receivers.contains(hub))
            && (1..=self.n()).contains(&self.k)
            && (1..=KEY_BYTES_MAX).contains(&u64::from(self.key_bytes))
            && self.content.is_well_formed(self.key_bytes)
            // The choice among the shares is made between two.
            && (matches!(self.content, Content::Keys(_)) || self.receivers.len() == 1)
    }
}

/// What stands in the place of the key tag of a round.
pub const NO_KEY_TAG: KeyTag = KeyTag { tag: Tag::new([0; TAG_BYTES]), hint: [0; HINT_BYTES] };

/// Hub to receiver: this is my share of the agreement, as far as it is yours (§2.3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInstruction {
    /// Share pad and tag key in the down lane.
    pub range: PadRange,
    /// The parameters, as the sender gave them.
    pub agreement: Agreement,
    /// The key tag of this receiver, as the sender gave it.
    pub key_tag: KeyTag,
    /// The shares of this receiver's u and of the key, under the pad.
    pub share: Blob,
}

/// Client to hub: whom do you know under this name or id? (§2.2)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRequest {
    /// A tag key in the up lane.
    pub range: PadRange,
    /// Who is meant.
    pub subject: Subject,
}

/// Whom an identity request is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// The client of this id.
    Node(NodeId),
    /// The client of this name.
    Name(Name),
}

/// Hub to client: the answer (§2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityClaim {
    /// A tag key in the down lane.
    pub range: PadRange,
    /// The up-lane run of the request that this answers; runs are used once, so it names the request.
    pub request: PadRange,
    /// What the hub knows; `None` where it does not serve such a client.
    pub known: Option<KnownClient>,
}

/// What a hub says about one of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownClient {
    /// The part on which hubs must agree.
    pub identity: Identity,
    /// The client's own signature over it, from its enrolment request.
    pub signature: Signature,
    /// The identifier by which this hub knows the client.
    pub known_as: u64,
}

/// Who a client is, the same whichever hub is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Its id, which is also its libp2p peer id.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Identities of applications behind it.
    pub applications: Vec<String>,
}

/// What is drawn afresh for each connection, so that no mark of an earlier one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// A fresh one.
    pub fn random<R: rand_core::CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// How far the lanes of a table have come at one end; see [`crate::sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// A tag key in the lane that the author allocates.
    pub range: PadRange,
    /// The author's nonce, then the reader's.
    pub nonces: [Nonce; 2],
    /// Of the lane that the author allocates: all that it ever handed out to messages lies below.
    pub own: u64,
    /// `own` as it was when this comparison began: all that was sent on earlier connections lies below.
    pub own_was: u64,
    /// Of the lane that the reader allocates: what the author has on record, durably, of messages.
    pub seen: u64,
    /// `seen` as it was when this comparison began, before the reader announced anything.
    pub seen_was: u64,
    /// Of the lane that the reader allocates: everything below counts as used at the author. Where the reader has not
    /// come so far, the author was put back and made up for it: what the reader would send would be refused.
    pub used_below: u64,
    /// What the reader has told the author to have on record of the author's lane.
    pub lease: u64,
    /// Of the lane that the author allocates: all places for tag keys of marks that it took in order lie below.
    pub keys: u64,
    /// Of the lane that the reader allocates: below this the author has every place for tag keys on record as used.
    pub keys_seen: u64,
    /// Whether the author's records of the table disagree with each other: what the reader has sent and reserved so
    /// far will count as used.
    pub unsure: bool,
}

/// A client's mark, to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMark(pub Mark);

/// A hub's mark, to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubMark(pub Mark);

/// Client to hub: let nobody burn more of my pads than this ([`crate::limits`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsOrder {
    /// A tag key in the up lane.
    pub range: PadRange,
    /// A higher one takes the place of a lower one.
    pub version: u64,
    /// The limits, all of them.
    pub limits: Limits,
}

/// Hub to client: what I have on record of your limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsAnswer {
    /// A tag key in the down lane.
    pub range: PadRange,
    /// The up-lane run of the order that this answers.
    pub request: PadRange,
    /// The version that is in force: that of the order, or the higher one that stands.
    pub version: u64,
}

/// A message that carries a one-time tag.
pub trait Tagged: Serialize + DeserializeOwned {
    /// First byte on the wire: no message passes for one of another kind.
    const KIND: u8;
    /// The lane that its sender allocates from.
    const LANE: Lane;
    /// The run that it consumes.
    fn range(&self) -> PadRange;
    /// Whether the values make sense in themselves, run length included.
    fn is_well_formed(&self) -> bool;
}

impl Tagged for KeyRequest {
    const KIND: u8 = 1;
    const LANE: Lane = Lane::Up;

    fn range(&self) -> PadRange {
        self.range
    }

    fn is_well_formed(&self) -> bool {
        let share_fits = self
            .share
            .as_ref()
            .is_none_or(|share| share.0.len() as u64 == self.agreement.share_bytes(Self::LANE));
        self.agreement.is_well_formed()
            && self.key_tags.len() == self.agreement.receivers.len()
            && self.key_tags.iter().all(|key_tag| key_tag_fits(&self.agreement, key_tag))
            && self.range.len == self.agreement.burned_bytes(Self::LANE)
            && share_fits
    }
}

/// A round has no key tag yet when its shares are sent (§3): its place holds zeros.
fn key_tag_fits(agreement: &Agreement, key_tag: &KeyTag) -> bool {
    !agreement.is_round() || *key_tag == NO_KEY_TAG
}

impl Tagged for KeyInstruction {
    const KIND: u8 = 2;
    const LANE: Lane = Lane::Down;

    fn range(&self) -> PadRange {
        self.range
    }

    fn is_well_formed(&self) -> bool {
        self.agreement.is_well_formed()
            && key_tag_fits(&self.agreement, &self.key_tag)
            && self.range.len == self.agreement.burned_bytes(Self::LANE)
            && self.share.0.len() as u64 == self.agreement.share_bytes(Self::LANE)
    }
}

impl Tagged for IdentityRequest {
    const KIND: u8 = 3;
    const LANE: Lane = Lane::Up;

    fn range(&self) -> PadRange {
        self.range
    }

    fn is_well_formed(&self) -> bool {
        self.range.len == TAG_KEY_BYTES as u64
    }
}

impl Tagged for IdentityClaim {
    const KIND: u8 = 4;
    const LANE: Lane = Lane::Down;

    fn range(&self) -> PadRange {
        self.range
    }

    fn is_well_formed(&self) -> bool {
        self.range.len == TAG_KEY_BYTES as u64
            && self.known.as_ref().is_none_or(|known| applications_fit(&known.identity.applications))
    }
}

impl Tagged for ClientMark {
    const KIND: u8 = 5;
    const LANE: Lane = Lane::Up;

    fn range(&self) -> PadRange {
        self.0.range
    }

    fn is_well_formed(&self) -> bool {
        self.0.range.len == TAG_KEY_BYTES as u64
    }
}

impl Tagged for HubMark {
    const KIND: u8 = 6;
    const LANE: Lane = Lane::Down;

    fn range(&self) -> PadRange {
        self.0.range
    }

    fn is_well_formed(&self) -> bool {
        self.0.range.len == TAG_KEY_BYTES as u64
    }
}

impl Tagged for LimitsOrder {
    const KIND: u8 = 7;
    const LANE: Lane = Lane::Up;

    fn range(&self) -> PadRange {
        self.range
    }

    fn is_well_formed(&self) -> bool {
        self.range.len == TAG_KEY_BYTES as u64 && self.limits.is_well_formed()
    }
}

impl Tagged for LimitsAnswer {
    const KIND: u8 = 8;
    const LANE: Lane = Lane::Down;

    fn range(&self) -> PadRange {
        self.range
    }

    fn is_well_formed(&self) -> bool {
        self.range.len == TAG_KEY_BYTES as u64
    }
}

/// Whether a list of application identities is within its limits.
pub fn applications_fit(applications: &[String]) -> bool {
    applications.len() <= APPLICATIONS_MAX
        && applications.iter().all(|application| application.len() <= APPLICATION_BYTES_MAX)
}

/// The run that a sealed message says it consumes, before anything vouches for it; for logs of messages.
pub fn claimed_range(sealed: &[u8]) -> Option<PadRange> {
    // After the kind, every body begins with its run: 16 bytes of table, 4 of lane, 8 of offset, 8 of length.
    let encoded = sealed.get(1..37)?;
    codec::decode(encoded, encoded.len()).ok()
}

/// Encodes a message and tags it.
///
/// # Errors
/// If the body names a run of a lane that is not that of its kind, and its reader would refuse it; if it has no
/// encoding, which the bodies here all have. The tag key is erased either way.
pub fn seal<T: Tagged>(body: &T, key: TagKey) -> Result<Vec<u8>, DecodeError> {
    if body.range().lane != T::LANE {
        return Err(DecodeError);
    }
    let mut bytes = vec![T::KIND];
    codec::encode_into(body, &mut bytes)?;
    let tag = key.tag(&[], &bytes);
    bytes.extend_from_slice(tag.as_bytes());
    Ok(bytes)
}

/// A decoded message whose tag has not been checked: only its run may be looked at.
#[derive(Debug)]
pub struct Unverified<T> {
    body: T,
    bytes: Vec<u8>,
}

/// A message whose tag was right: a fact about what its author sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

/// The tag was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forged {
    /// The s of the chance s/2^128 that a forgery would have passed, in 16-byte blocks, lengths block
    /// included: that of the longest message, for the forger may have seen a longer one under this key.
    pub blocks: u64,
}

impl<T: Tagged> Unverified<T> {
    /// Decodes within the limits.
    ///
    /// # Errors
    /// If the bytes are not a well-formed message of this kind in the right lane.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError);
        }
        let body_end = bytes.len().checked_sub(TAG_BYTES).ok_or(DecodeError)?;
        let body: T = match bytes[..body_end].split_first() {
            Some((&kind, encoded)) if kind == T::KIND => codec::decode(encoded, MESSAGE_BYTES_MAX)?,
            _ => return Err(DecodeError),
        };
        let range = body.range();
        if range.lane != T::LANE || range.end().is_none() || !body.is_well_formed() {
            return Err(DecodeError);
        }
        Ok(Self { body, bytes })
    }

    /// The run that the message claims to consume.
    pub fn range(&self) -> PadRange {
        self.body.range()
    }

    /// What the message says, before anything vouches for it: only to decide whether to go on.
    pub fn unverified(&self) -> &T {
        &self.body
    }

    /// Checks the tag in constant time.
    ///
    /// # Errors
    /// If it is wrong. Nothing is burned then.
    pub fn verify(self, key: TagKey) -> Result<Verified<T>, Forged> {
        let (body, tag) = self.bytes.split_at(self.bytes.len() - TAG_BYTES);
        let mut claimed = [0; TAG_BYTES];
        claimed.copy_from_slice(tag);
        if planted(Fault::TagComparedInPart) {
            let right = key.tag(&[], body).as_bytes()[..8] == claimed[..8];
            return if right { Ok(Verified(self.body)) } else { Err(Forged { blocks: 1 }) };
        }
        if planted(Fault::TagNotChecked) || key.verify(&[], body, &Tag::new(claimed)) {
            Ok(Verified(self.body))
        } else {
            Err(Forged { blocks: tag_blocks(0, MESSAGE_BYTES_MAX as u64) })
        }
    }
}

impl<T> Verified<T> {
    /// The body.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Receiver to sender over a direct link: how an agreement ended. Carries no tag and is never believed
/// where keys depend on it: it only tells people sooner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Which agreement.
    pub block: BlockId,
    /// How it ended.
    pub outcome: NoticeOutcome,
}

/// See [`Notice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeOutcome {
    /// The key is validated and durable.
    Validated {
        /// Shares received so far.
        shares: u8,
        /// Roster positions of hubs whose share was false.
        false_positions: Vec<u8>,
    },
    /// There is no key.
    Aborted(crate::refusal::AbortReason),
}

impl NoticeOutcome {
    /// Whether the positions in it are some of n hubs, rising.
    pub fn is_well_formed(&self, n: u8) -> bool {
        match self {
            Self::Validated { false_positions, .. } => {
                false_positions.is_sorted_by(|a, b| a < b)
                    && false_positions.last().is_none_or(|&last| last < n)
            }
            Self::Aborted(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TableId;

    fn agreement() -> Agreement {
        Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([1; 16]),
            sender: NodeId::new([1; 32]),
            receivers: vec![NodeId::new([2; 32])],
            purpose: "test".into(),
            k: 2,
            key_bytes: 32,
            content: Content::Keys(1),
            roster: (10..13).map(|id| NodeId::new([id; 32])).collect(),
        }
    }

    fn request() -> KeyRequest {
        let range = PadRange { table: TableId::new([3; 16]), lane: Lane::Up, offset: 64, len: 104 };
        KeyRequest {
            range,
            agreement: agreement(),
            key_tags: vec![KeyTag { tag: Tag::new([4; 16]), hint: [4; HINT_BYTES] }],
            share: None,
        }
    }

    #[test]
    fn only_the_right_tag_verifies() {
        let bytes = seal(&request(), TagKey::new([7; 32])).unwrap();
        assert_eq!(claimed_range(&bytes), Some(request().range));
        let good = Unverified::<KeyRequest>::decode(bytes.clone()).unwrap();
        assert_eq!(good.verify(TagKey::new([7; 32])).unwrap().into_inner(), request());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let Ok(message) = Unverified::<KeyRequest>::decode(bad) else { continue };
            assert!(message.verify(TagKey::new([7; 32])).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = seal(&request(), TagKey::new([7; 32])).unwrap();
        for len in 0..bytes.len() {
            assert!(Unverified::<KeyRequest>::decode(bytes[..len].to_vec()).is_err());
        }
        assert!(Unverified::<KeyInstruction>::decode(bytes).is_err());
    }

    #[test]
    fn ill_formed_agreements_are_refused() {
        type Change = fn(&mut Agreement);
        let changes: [Change; 11] = [
            |a| a.k = 0,
            |a| a.k = 4,
            |a| a.roster.clear(),
            |a| a.roster[1] = a.roster[0],
            |a| a.roster[1] = a.sender,
            |a| a.roster[1] = a.receivers[0],
            |a| a.receivers.clear(),
            |a| a.receivers.push(a.sender),
            |a| a.key_bytes = 0,
            |a| a.purpose = "x".repeat(65),
            |a| a.version = 1,
        ];
        assert!(agreement().is_well_formed());
        for (number, change) in changes.iter().enumerate() {
            let mut bad = agreement();
            change(&mut bad);
            assert!(!bad.is_well_formed(), "change {number}");
        }
    }

    #[test]
    fn a_run_must_fit_its_message() {
        let mut bad = request();
        bad.range.len -= 1;
        let bytes = seal(&bad, TagKey::new([7; 32])).unwrap();
        assert!(Unverified::<KeyRequest>::decode(bytes).is_err());
        let mut bad = request();
        bad.range.offset = u64::MAX;
        let bytes = seal(&bad, TagKey::new([7; 32])).unwrap();
        assert!(Unverified::<KeyRequest>::decode(bytes).is_err());
    }

    #[test]
    fn nothing_is_sealed_under_a_lane_that_is_not_that_of_its_kind() {
        let mut bad = request();
        bad.range.lane = Lane::Down;
        assert_eq!(seal(&bad, TagKey::new([7; 32])), Err(DecodeError));
        let KeyRequest { range, agreement, key_tags, .. } = bad;
        let instruction = KeyInstruction { range, agreement, key_tag: key_tags[0], share: Blob(vec![0; 72]) };
        assert!(seal(&instruction, TagKey::new([7; 32])).is_ok());
    }
}
