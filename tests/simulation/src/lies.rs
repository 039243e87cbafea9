//! Lies of hubs and clients. A liar runs the real machine over its own real tables; what it says is changed
//! before it leaves, and sealed anew under the very pad that it would have used.

use dske_protocol::{
    codec::Blob,
    coefficients::Coefficients,
    effect::{LaneMarks, Outgoing, Record},
    enrolment,
    field::Gf256,
    ids::{BlockId, BlockNonce, Lane, NodeId, PadRange},
    limits::{LIMITS_NAMED_MAX, Limit, Limits},
    message::{
        Agreement, Content, IdentityClaim, IdentityRequest, KeyInstruction, KeyRequest, LimitsAnswer,
        LimitsOrder, Notice, NoticeOutcome, Subject, Tagged, seal,
    },
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    params::PROTOCOL_VERSION,
    refusal::{AbortReason, Refusal},
    sharing::x,
    sync::keys_from,
    tag::{KeyTag, Tag},
};
use dske_storage::{TableSide, Use, Want, simulation::SimStore};
use serde::Deserialize;

use crate::{
    checker::Lanes,
    packet::{Link, Packet, Wire},
    rng::Rng,
    shared::{Event, MILLI, SECOND, Shared, Wish, WishState},
};

/// A way to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lie {
    // Hubs.
    /// Another share, under a right tag.
    FalseShare,
    /// The same error as all who collude.
    EqualErrors,
    /// Errors of colluders that cancel in the secret.
    CancellingErrors,
    /// Errors v · ∏ (x_i + x_h) of all who collude, over fewer than k other hubs h: with these they lie on one polynomial.
    Products,
    ChangedRoster,
    ChangedN,
    ChangedK,
    ChangedLength,
    ChangedPurpose,
    ChangedBlock,
    ChangedSender,
    ChangedReceivers,
    ChangedKeyTag,
    /// The parameters of another agreement.
    Mixed,
    /// A message that went out before.
    Replay,
    /// A lie to the first receiver of a group alone.
    Equivocation,
    /// Nothing is forwarded, though it is said that it is.
    Silence,
    /// Forwarded after the deadline.
    Delay,
    /// The hub says that its pads are used up.
    ClaimedLow,
    /// The request is refused.
    FalseRefusal,
    FalseIdentity,
    /// The client is unknown, the hub says.
    NoIdentity,
    /// A sender that does not exist.
    InventedSender,
    /// A block that has ended, under a fresh run.
    EndedBlock,
    /// Blocks of the true sender that it never began, many of them.
    Flood,
    /// Two messages for one block.
    SpeaksTwice,
    WrongTag,
    /// More on record of its clients than there is: that they were put back.
    Overstated,
    /// Of hubs and of a client: a member of a group and hubs want another member to take a wrong key. The member tells
    /// them what it gets to know, and does nothing else.
    League,
    /// What clients are said to have told it, which they have not; and it keeps back what they have.
    Hearsay,
    /// What clients tell each other about rounds does not pass.
    Swallow,
    /// That a quota is used up, the hub says, and it is not.
    FalseQuota,
    /// Neither the hub's own quotas nor what receivers have set holds anybody to anything.
    IgnoredQuotas,
    /// Another word on what is on record of a receiver's limits: another version, another order, an old word, none.
    FalseWordOnLimits,
    // Clients.
    /// Shares of no one secret.
    SplitSecret,
    /// Other parameters for some hubs.
    SplitParameters,
    /// Rosters, senders and receivers that a hub must refuse.
    AgainstPolicy,
    /// A run that it has used before.
    OldRun,
    /// Notices that are not true.
    ForgedNotice,
    /// A receiver that answers nothing.
    DeafReceiver,
    /// Enrolled at some hubs for other applications, or by another name, than at the rest.
    EnrolledOtherwise,
    /// It plays the hub: what other clients are said to have told it.
    PlaysHub,
    /// An agreement of its own with the nonce of another's that has just begun, and with the same ends.
    CopiedNonce,
    /// Every field of an order about limits.
    FalseLimits,
    /// Agreements by the hundred, through one hub or all of them, of which nothing comes.
    OpensMany,
}

/// Lies that hubs tell.
pub(crate) const HUB_LIES: [Lie; 34] = [
    Lie::FalseShare,
    Lie::EqualErrors,
    Lie::CancellingErrors,
    Lie::Products,
    Lie::ChangedRoster,
    Lie::ChangedN,
    Lie::ChangedK,
    Lie::ChangedLength,
    Lie::ChangedPurpose,
    Lie::ChangedBlock,
    Lie::ChangedSender,
    Lie::ChangedReceivers,
    Lie::ChangedKeyTag,
    Lie::Mixed,
    Lie::Replay,
    Lie::Equivocation,
    Lie::Silence,
    Lie::Delay,
    Lie::ClaimedLow,
    Lie::FalseRefusal,
    Lie::FalseIdentity,
    Lie::NoIdentity,
    Lie::InventedSender,
    Lie::EndedBlock,
    Lie::Flood,
    Lie::SpeaksTwice,
    Lie::WrongTag,
    Lie::Overstated,
    Lie::League,
    Lie::Hearsay,
    Lie::Swallow,
    Lie::FalseQuota,
    Lie::IgnoredQuotas,
    Lie::FalseWordOnLimits,
];

/// Lies that clients tell.
pub(crate) const CLIENT_LIES: [Lie; 12] = [
    Lie::SplitSecret,
    Lie::SplitParameters,
    Lie::AgainstPolicy,
    Lie::OldRun,
    Lie::ForgedNotice,
    Lie::DeafReceiver,
    Lie::League,
    Lie::EnrolledOtherwise,
    Lie::PlaysHub,
    Lie::CopiedNonce,
    Lie::FalseLimits,
    Lie::OpensMany,
];

/// What one liar does.
#[derive(Debug, Clone)]
pub(crate) struct Kit {
    pub(crate) lies: Vec<Lie>,
    /// Chance that it lies, for each thing that it says.
    pub(crate) rate: f64,
}

impl Kit {
    pub(crate) fn has(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }
}

impl Lie {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FalseShare => "lie: false share",
            Self::EqualErrors => "lie: equal errors",
            Self::CancellingErrors => "lie: cancelling errors",
            Self::Products => "lie: products",
            Self::ChangedRoster => "lie: changed roster",
            Self::ChangedN => "lie: changed n",
            Self::ChangedK => "lie: changed k",
            Self::ChangedLength => "lie: changed length",
            Self::ChangedPurpose => "lie: changed purpose",
            Self::ChangedBlock => "lie: changed block",
            Self::ChangedSender => "lie: changed sender",
            Self::ChangedReceivers => "lie: changed receivers",
            Self::ChangedKeyTag => "lie: changed key tag",
            Self::Mixed => "lie: mixed",
            Self::Replay => "lie: replay",
            Self::Equivocation => "lie: equivocation",
            Self::Silence => "lie: silence",
            Self::Delay => "lie: delay",
            Self::ClaimedLow => "lie: claimed low",
            Self::FalseRefusal => "lie: false refusal",
            Self::FalseIdentity => "lie: false identity",
            Self::NoIdentity => "lie: no identity",
            Self::InventedSender => "lie: invented sender",
            Self::EndedBlock => "lie: ended block",
            Self::Flood => "lie: flood",
            Self::SpeaksTwice => "lie: speaks twice",
            Self::WrongTag => "lie: wrong tag",
            Self::Overstated => "lie: overstated",
            Self::League => "lie: league",
            Self::SplitSecret => "lie: split secret",
            Self::SplitParameters => "lie: split parameters",
            Self::AgainstPolicy => "lie: against policy",
            Self::OldRun => "lie: old run",
            Self::ForgedNotice => "lie: forged notice",
            Self::DeafReceiver => "lie: deaf receiver",
            Self::EnrolledOtherwise => "lie: enrolled otherwise",
            Self::Hearsay => "lie: hearsay",
            Self::Swallow => "lie: swallow",
            Self::PlaysHub => "lie: plays the hub",
            Self::CopiedNonce => "lie: copied nonce",
            Self::FalseQuota => "lie: false quota",
            Self::IgnoredQuotas => "lie: ignored quotas",
            Self::FalseWordOnLimits => "lie: false word on limits",
            Self::OpensMany => "lie: opens many",
            Self::FalseLimits => "lie: false limits",
        }
    }
}

/// Draws a lie out of a liar's kit, among those that fit; `None`: the truth, this time.
pub(crate) fn draw(shared: &mut Shared, node: usize, fits: impl Fn(Lie) -> bool) -> Option<Lie> {
    let kit = shared.plan.kits[node].as_ref()?;
    let rate = kit.rate;
    let lies: Vec<Lie> = kit.lies.iter().copied().filter(|lie| fits(*lie)).collect();
    if lies.is_empty() || !shared.rng.chance(rate) {
        return None;
    }
    let lie = shared.rng.pick(&lies).copied()?;
    shared.count(lie.name());
    Some(lie)
}

fn tag_key(lanes: &Lanes, range: &PadRange) -> Option<TagKey> {
    let run = lanes.run(range)?;
    let mut key = [0; TAG_KEY_BYTES];
    key.copy_from_slice(run.get(run.len().checked_sub(TAG_KEY_BYTES)?..)?);
    Some(TagKey::new(key))
}

/// Seals a body under the true bytes of its run.
pub(crate) fn reseal<T: Tagged>(lanes: &Lanes, body: &T) -> Option<Vec<u8>> {
    seal(body, tag_key(lanes, &body.range())?).ok()
}

fn xor_pad(lanes: &Lanes, range: &PadRange, bytes: &mut [u8]) {
    let pad = lanes.run(range).unwrap_or_default();
    bytes.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
}

/// What a message of a hub says, its share decrypted.
fn opened(lanes: &Lanes, sealed: &[u8]) -> Option<KeyInstruction> {
    let mut body: KeyInstruction = crate::checker::body(sealed)?;
    let range = body.range;
    xor_pad(lanes, &range, &mut body.share.0);
    Some(body)
}

fn closed(lanes: &Lanes, mut body: KeyInstruction) -> Option<Vec<u8>> {
    let range = body.range;
    body.range.len = body.agreement.burned_bytes(Lane::Down);
    // A liar may use less of its run than it has, never more.
    if body.range.len > range.len {
        body.range.len = range.len;
    }
    let range = body.range;
    xor_pad(lanes, &range, &mut body.share.0);
    reseal(lanes, &body)
}

fn tells_of_instructions(lie: Lie) -> bool {
    !matches!(
        lie,
        Lie::ClaimedLow
            | Lie::FalseRefusal
            | Lie::FalseIdentity
            | Lie::NoIdentity
            | Lie::SplitSecret
            | Lie::Hearsay
            | Lie::Swallow
            | Lie::FalseQuota
            | Lie::IgnoredQuotas
            | Lie::FalseWordOnLimits
    )
}

/// Blocks that a flooding hub invents with each message: more than a cramped receiver has places for.
const FLOOD: usize = 120;

/// A message of the hub's own making, under a run of its own.
fn invented(
    shared: &mut Shared,
    store: &SimStore,
    receiver: NodeId,
    agreement: Agreement,
    key_tag: KeyTag,
) -> Option<Vec<u8>> {
    let want = Want {
        peer: receiver,
        side: TableSide::Hub,
        bytes: agreement.burned_bytes(Lane::Down),
        usage: Use::Key,
    };
    let range = store.mint(&[want]).ok()?.pop()?.range;
    let share = Blob(shared.rng.bytes(agreement.share_bytes(Lane::Down) as usize));
    closed(&shared.checker.lanes, KeyInstruction { range, agreement, key_tag, share })
}

/// What a lying hub is about to make durable and send: changes the messages in it. Gives the digests of those
/// that are to be sent late.
pub(crate) fn hub_record(
    shared: &mut Shared,
    hub: usize,
    store: &SimStore,
    record: &mut Record,
    late: &mut Vec<u64>,
) {
    let mut outgoing = Vec::new();
    for (place, message) in std::mem::take(&mut record.outgoing).into_iter().enumerate() {
        let Some(lie) = draw(shared, hub, tells_of_instructions) else {
            outgoing.push(message);
            continue;
        };
        let Outgoing { receiver, sender, block, table, bytes } = message;
        let keep = |bytes| Outgoing { receiver, sender, block, table, bytes };
        match lie {
            Lie::Silence => {}
            Lie::Delay => {
                late.push(crate::rng::digest(&bytes));
                outgoing.push(keep(bytes));
            }
            Lie::WrongTag => {
                // All of it: the network's damage of one bit must not put it right again.
                let mut bytes = bytes;
                bytes.iter_mut().rev().take(TAG_BYTES).for_each(|byte| *byte = !*byte);
                outgoing.push(keep(bytes));
            }
            Lie::Replay => {
                let old = shared.captured.iter().find_map(|(from, _, packet)| match packet {
                    Packet::Instruction(_, old) if *from == hub && *old != bytes => Some(old.clone()),
                    _ => None,
                });
                outgoing.extend(old.map(keep));
                outgoing.push(keep(bytes));
            }
            Lie::Flood => {
                if let Some(body) = opened(&shared.checker.lanes, &bytes) {
                    for _ in 0..FLOOD {
                        let nonce = BlockNonce::random(&mut shared.rng.0);
                        let agreement = Agreement {
                            nonce,
                            key_bytes: 1,
                            content: Content::Keys(1),
                            ..body.agreement.clone()
                        };
                        outgoing.extend(invented(shared, store, receiver, agreement, body.key_tag).map(keep));
                    }
                }
                outgoing.push(keep(bytes));
            }
            Lie::SpeaksTwice | Lie::InventedSender | Lie::EndedBlock => {
                let Some(body) = opened(&shared.checker.lanes, &bytes) else { continue };
                let ended = shared.checker.blocks.blocks.values();
                let ended: Vec<Agreement> = ended
                    .filter(|block| {
                        block.sender_ended.is_some() && block.agreement.receivers.contains(&receiver)
                    })
                    .map(|block| block.agreement.clone())
                    .collect();
                let agreement = match lie {
                    Lie::InventedSender => Agreement {
                        sender: NodeId::random(&mut shared.rng.0),
                        nonce: BlockNonce::random(&mut shared.rng.0),
                        ..body.agreement.clone()
                    },
                    Lie::EndedBlock => {
                        shared.rng.pick(&ended).cloned().unwrap_or_else(|| body.agreement.clone())
                    }
                    _ => body.agreement.clone(),
                };
                outgoing.extend(invented(shared, store, receiver, agreement, body.key_tag).map(keep));
                outgoing.push(keep(bytes));
            }
            Lie::Equivocation if place > 0 => outgoing.push(keep(bytes)),
            Lie::League => {
                let changed = opened(&shared.checker.lanes, &bytes)
                    .and_then(|body| shifted(shared, hub, &receiver, body))
                    .and_then(|body| closed(&shared.checker.lanes, body));
                outgoing.push(keep(changed.unwrap_or(bytes)));
            }
            lie => {
                let changed = opened(&shared.checker.lanes, &bytes)
                    .map(|mut body| {
                        change(shared, hub, lie, &mut body);
                        body
                    })
                    .and_then(|body| closed(&shared.checker.lanes, body));
                outgoing.push(keep(changed.unwrap_or(bytes)));
            }
        }
    }
    record.outgoing = outgoing;
}

/// Whether a hub's share differs from the one that it was given, or stands under other parameters.
pub(crate) fn is_false(shared: &Shared, hub: usize, sealed: &[u8]) -> bool {
    let Some(body) = opened(&shared.checker.lanes, sealed) else { return true };
    let given = shared.checker.blocks.given.get(&(hub, body.agreement.block()));
    !given.is_some_and(|given| {
        given.iter().any(|given| {
            given.request.agreement == body.agreement
                && shared.checker.part(&given.request, &body.range.table)
                    == Some((body.share.0.clone(), body.key_tag))
        })
    })
}

/// A hub in league with a member of the group moves its share for another one: with the others that it counts on, it gives
/// another key, which under the member's own u has the very same key tag. Of several such hubs the first one does it.
fn shifted(
    shared: &mut Shared,
    hub: usize,
    victim: &NodeId,
    mut body: KeyInstruction,
) -> Option<KeyInstruction> {
    let in_league = |id: &NodeId| {
        let kit = shared.plan.index(id).and_then(|at| shared.plan.kits[at].as_ref());
        kit.is_some_and(|kit| kit.has(Lie::League))
    };
    let block = &body.agreement.block();
    let Agreement { roster, receivers, k, .. } = &body.agreement;
    let member = receivers.iter().find(|receiver| *receiver != victim && in_league(receiver))?;
    if in_league(victim) || roster.iter().find(|id| in_league(id)) != Some(&shared.plan.ids[hub]) {
        return None;
    }
    let me = body.agreement.position(&shared.plan.ids[hub])?;
    let (u, key) = shared.checker.blocks.blocks.get(block)?.known_to(member)?;
    let mut others: Vec<u8> = (0..body.agreement.n()).filter(|at| *at != me).collect();
    if shared.rng.chance(0.5) {
        shared.rng.shuffle(&mut others);
    }
    others.truncate(usize::from(*k) - 1);
    let basis = [vec![me], others].concat();
    let factor = Coefficients::<Gf256>::new(*k).secret_row(&basis).next()?;
    let mut other = key.clone();
    other.iter_mut().for_each(|byte| *byte = !*byte);
    let context = body.agreement.context().ok()?;
    let [old, new] = [&key, &other].map(|key| *KeyTag::of(&u, &context, key).tag.as_bytes());
    let mask_shift = old.iter().zip(new).map(|(old, new)| old ^ new);
    let key_shift = key.iter().zip(&other).map(|(key, other)| key ^ other);
    // Neither the point nor the hint's own mask moves.
    let offset = [0; 16].into_iter().chain(mask_shift).chain([0; 8]).chain(key_shift);
    body.share.0.iter_mut().zip(offset).for_each(|(byte, shift)| *byte ^= Gf256(shift).div(factor).0);
    shared.count("shares moved with a member's help");
    Some(body)
}

fn change(shared: &mut Shared, hub: usize, lie: Lie, body: &mut KeyInstruction) {
    let block = *body.agreement.block().as_bytes();
    let seed = u64::from_le_bytes(block[..8].try_into().unwrap_or_default());
    let error = |seed: u64, len: usize| {
        let mut bytes = Rng::new(seed).bytes(len);
        bytes.iter_mut().for_each(|byte| *byte |= 1);
        bytes
    };
    let xor = |share: &mut [u8], error: &[u8]| {
        share.iter_mut().zip(error).for_each(|(byte, error)| *byte ^= error);
    };
    let len = body.share.0.len();
    match lie {
        Lie::EqualErrors => xor(&mut body.share.0, &error(seed, len)),
        Lie::CancellingErrors => {
            let colluders: Vec<u8> = (0..body.agreement.k)
                .filter(|&at| {
                    let member = body.agreement.roster[usize::from(at)];
                    let member = shared.plan.index(&member).and_then(|ix| shared.plan.kits[ix].as_ref());
                    member.is_some_and(|kit| kit.has(Lie::CancellingErrors))
                })
                .collect();
            let me = body.agreement.position(&shared.plan.ids[hub]).unwrap_or(u8::MAX);
            let mine = |at: u8| error(seed ^ u64::from(at), len);
            match colluders.split_last() {
                Some((&last, others)) if last == me && !others.is_empty() => {
                    others.iter().for_each(|&other| xor(&mut body.share.0, &mine(other)));
                }
                _ => xor(&mut body.share.0, &mine(me)),
            }
        }
        Lie::Products => add_products(shared, hub, seed, body),
        Lie::ChangedRoster => {
            let roster = &mut body.agreement.roster;
            match shared.rng.below(3) {
                0 if roster.len() > 1 => {
                    let at = shared.rng.index(roster.len() - 1);
                    roster.swap(at, at + 1);
                }
                1 => {
                    let at = shared.rng.index(roster.len());
                    roster[at] = NodeId::random(&mut shared.rng.0);
                }
                _ => roster.reverse(),
            }
        }
        Lie::ChangedN => {
            let Agreement { roster, k, .. } = &mut body.agreement;
            if roster.len() > 1 && shared.rng.chance(0.5) {
                roster.pop();
                *k = (*k).min(roster.len() as u8);
            } else {
                roster.push(NodeId::random(&mut shared.rng.0));
            }
        }
        Lie::ChangedK => {
            let Agreement { roster, k, .. } = &mut body.agreement;
            *k = if *k > 1 && shared.rng.chance(0.7) { *k - 1 } else { (*k + 1).min(roster.len() as u8) };
        }
        Lie::ChangedLength => {
            let bytes = &mut body.agreement.key_bytes;
            if *bytes > 1 {
                *bytes -= 1 + shared.rng.below(u64::from(*bytes) - 1) as u32;
                body.share.0.truncate(body.agreement.share_bytes(Lane::Down) as usize);
            }
        }
        Lie::ChangedPurpose => body.agreement.purpose.push('!'),
        Lie::ChangedBlock => body.agreement.nonce = BlockNonce::random(&mut shared.rng.0),
        Lie::ChangedSender => {
            let clients = &shared.plan.ids[shared.plan.first_client..];
            let receivers = &body.agreement.receivers;
            let others: Vec<NodeId> = clients.iter().copied().filter(|id| !receivers.contains(id)).collect();
            if let Some(other) = shared.rng.pick(&others) {
                body.agreement.sender = *other;
            }
        }
        Lie::ChangedReceivers => body.agreement.receivers.push(NodeId::random(&mut shared.rng.0)),
        Lie::ChangedKeyTag => change_key_tag(shared, &mut body.key_tag),
        Lie::Mixed => {
            let blocks: Vec<&Agreement> =
                shared.checker.blocks.blocks.values().map(|block| &block.agreement).collect();
            let other = shared.rng.pick(&blocks).map(|other| (**other).clone());
            if let Some(mut other) = other {
                other.key_bytes = body.agreement.key_bytes;
                body.agreement = other;
            }
        }
        _ => {
            let error = {
                let seed = shared.rng.number();
                error(seed, len)
            };
            xor(&mut body.share.0, &error);
        }
    }
}

/// Pieces of a share, each with other hubs in its products.
const PIECES: usize = 24;

/// Adds a liar's part of the errors that [`Lie::Products`] names. Colluders draw alike: from the block's seed.
fn add_products(shared: &Shared, hub: usize, seed: u64, body: &mut KeyInstruction) {
    let Agreement { roster, k, .. } = &body.agreement;
    let colludes = |id: &NodeId| {
        let kit = shared.plan.index(id).and_then(|at| shared.plan.kits[at].as_ref());
        kit.is_some_and(|kit| kit.has(Lie::Products))
    };
    let Some(me) = body.agreement.position(&shared.plan.ids[hub]) else { return };
    let others: Vec<u8> = (0..body.agreement.n()).filter(|at| !colludes(&roster[usize::from(*at)])).collect();
    products(seed, *k, &others, me, &mut body.share.0);
}

fn products(seed: u64, k: u8, others: &[u8], me: u8, share: &mut [u8]) {
    let mut rng = Rng::new(seed);
    let piece_bytes = share.len().div_ceil(PIECES).max(1);
    for piece in share.chunks_mut(piece_bytes) {
        let mut zeros = others.to_vec();
        rng.shuffle(&mut zeros);
        zeros.truncate(usize::from(k - 1).saturating_sub(rng.index(2)));
        let product = zeros.iter().fold(scale(me, k), |product, &other| product.mul(x(me).add(x(other))));
        let errors = rng.bytes(piece.len());
        piece.iter_mut().zip(errors).for_each(|(byte, error)| *byte ^= Gf256(error | 1).mul(product).0);
    }
}

/// The first k shares are the polynomial's values times this, so that their sum is the secret; the others are its values.
fn scale(position: u8, k: u8) -> Gf256 {
    if position >= k {
        return Gf256::ONE;
    }
    let others = (0..k).filter(|other| *other != position);
    others.fold(Gf256::ONE, |product, other| product.mul(x(other)).mul(x(other).add(x(position)).inv()))
}

/// Puts another tag in the place of one, or another hint beside it, or both.
fn change_key_tag(shared: &mut Shared, key_tag: &mut KeyTag) {
    let [change_tag, change_hint] = match shared.rng.below(3) {
        0 => [true, false],
        1 => [false, true],
        _ => [true, true],
    };
    if change_tag {
        key_tag.tag = Tag::new(*BlockId::random(&mut shared.rng.0).as_bytes());
    }
    if change_hint {
        shared.rng.bytes(key_tag.hint.len()).iter().zip(&mut key_tag.hint).for_each(|(new, old)| *old = *new);
    }
}

/// The secret half of the key of a client that does not exist.
pub(crate) const MADE_UP: [u8; 32] = [0xee; 32];

/// What a lying hub claims about a client.
pub(crate) fn hub_claim(shared: &mut Shared, hub: usize, sealed: Vec<u8>) -> Vec<u8> {
    if sealed.first() == Some(&LimitsAnswer::KIND) {
        return word_on_limits(shared, hub, sealed);
    }
    let fits = |lie| matches!(lie, Lie::FalseIdentity | Lie::NoIdentity);
    let Some(lie) = draw(shared, hub, fits) else { return sealed };
    let Some(mut claim) = crate::checker::body::<IdentityClaim>(&sealed) else { return sealed };
    match (lie, &mut claim.known) {
        (Lie::FalseIdentity, Some(known)) => match shared.rng.below(3) {
            // Colluders tell the same tale, of a client that they have made up and whose key they have.
            0 => {
                known.identity.node = enrolment::node_of(&MADE_UP);
                known.signature = enrolment::sign(&MADE_UP, &known.identity);
            }
            1 => known.identity.applications.push("false".to_owned()),
            _ => known.identity.name = shared.plan.names[shared.plan.first_client].clone(),
        },
        (_, known) => *known = None,
    }
    reseal(&shared.checker.lanes, &claim).unwrap_or(sealed)
}

/// What a lying client sends a hub instead of its key request.
pub(crate) fn client_request(shared: &mut Shared, client: usize, hub: usize, sealed: Vec<u8>) -> Vec<u8> {
    let fits =
        |lie| matches!(lie, Lie::SplitSecret | Lie::SplitParameters | Lie::AgainstPolicy | Lie::OldRun);
    let Some(lie) = draw(shared, client, fits) else { return sealed };
    let Some(mut request) = crate::checker::body::<KeyRequest>(&sealed) else { return sealed };
    match lie {
        Lie::SplitSecret => {
            if let Some(share) = &mut request.share {
                let len = share.0.len();
                share.0 = shared.rng.bytes(len);
            } else {
                let at = shared.rng.index(request.key_tags.len());
                change_key_tag(shared, &mut request.key_tags[at]);
            }
        }
        Lie::SplitParameters => match shared.rng.below(3) {
            0 => request.agreement.purpose.push('?'),
            1 => request.agreement.nonce = BlockNonce::random(&mut shared.rng.0),
            _ => request.agreement.roster.push(NodeId::random(&mut shared.rng.0)),
        },
        Lie::AgainstPolicy => match shared.rng.below(4) {
            0 => {
                let me = shared.plan.ids[hub];
                let other = NodeId::random(&mut shared.rng.0);
                request.agreement.roster.iter_mut().filter(|id| **id == me).for_each(|id| *id = other);
            }
            1 => request.agreement.sender = NodeId::random(&mut shared.rng.0),
            2 => {
                let at = shared.rng.index(request.agreement.receivers.len());
                request.agreement.receivers[at] = NodeId::random(&mut shared.rng.0);
            }
            _ => request.agreement.roster.reverse(),
        },
        _ => {
            let old = shared.captured.iter().find_map(|(from, to, packet)| match packet {
                Packet::Key(_, old) if (*from, *to) == (client, hub) => {
                    crate::checker::body::<KeyRequest>(old)
                }
                _ => None,
            });
            if let Some(old) = old.filter(|old| old.range.len == request.range.len) {
                request.range = old.range;
            }
        }
    }
    reseal(&shared.checker.lanes, &request).unwrap_or(sealed)
}

/// What a lying receiver tells the sender.
pub(crate) fn notice(shared: &mut Shared, client: usize, outcome: NoticeOutcome) -> NoticeOutcome {
    if draw(shared, client, |lie| lie == Lie::ForgedNotice).is_none() {
        return outcome;
    }
    if shared.rng.chance(0.5) {
        NoticeOutcome::Aborted(AbortReason::Ambiguous)
    } else {
        let false_positions = (0..shared.rng.below(4)).map(|_| shared.rng.below(256) as u8).collect();
        NoticeOutcome::Validated { shares: u8::MAX, false_positions }
    }
}

/// What a lying hub has on record of a client, it says.
pub(crate) fn marks(shared: &mut Shared, hub: usize, marks: &mut LaneMarks) {
    if draw(shared, hub, |lie| lie == Lie::Overstated).is_none() {
        return;
    }
    match shared.rng.below(3) {
        0 => marks.seen = (marks.seen + shared.rng.within(1..=3000)).min(keys_from(marks.peer_bytes)),
        1 => marks.lease = (marks.lease + shared.rng.within(1..=3000)).min(keys_from(marks.own_bytes)),
        _ => {
            let more = 32 * shared.rng.within(1..=8);
            marks.keys_seen = (marks.keys_seen + more).min(marks.peer_bytes);
        }
    }
}

/// What receivers are said to tell the sender of an agreement: that it has ended, well or badly, or that a session is
/// lost.
fn tales(shared: &mut Shared, agreement: &Agreement) -> Vec<(NodeId, Packet)> {
    let block = agreement.block();
    let outcome = match shared.rng.below(3) {
        0 => NoticeOutcome::Validated { shares: agreement.n(), false_positions: Vec::new() },
        // Colluders tell the same tale.
        _ => NoticeOutcome::Aborted(AbortReason::Ambiguous),
    };
    let mut said = Vec::new();
    for receiver in &agreement.receivers {
        said.push((*receiver, Packet::Notice(Notice { block, outcome: outcome.clone() })));
        if let Content::Round { session, .. } = agreement.content {
            said.push((*receiver, Packet::Link(Link::SessionLost(session))));
        }
    }
    said
}

/// What a lying hub says that receivers say, when it is asked to take part in an agreement.
pub(crate) fn hearsay(shared: &mut Shared, hub: usize, sealed: &[u8]) -> Vec<(NodeId, Packet)> {
    if draw(shared, hub, |lie| lie == Lie::Hearsay).is_none() {
        return Vec::new();
    }
    let request = crate::checker::body::<KeyRequest>(sealed);
    request.map(|request| tales(shared, &request.agreement)).unwrap_or_default()
}

/// What a client that plays the hub tells the sender of somebody else's latest agreement.
pub(crate) fn plays_hub(shared: &mut Shared, client: usize) -> Vec<(usize, NodeId, Packet)> {
    if draw(shared, client, |lie| lie == Lie::PlaysHub).is_none() {
        return Vec::new();
    }
    let open = shared.checker.blocks.blocks.values().filter(|block| block.sender_ended.is_none());
    let open: Vec<Agreement> = open.map(|block| block.agreement.clone()).collect();
    let mut said = Vec::new();
    for agreement in open {
        let Some(to) = shared.plan.index(&agreement.sender).filter(|to| *to != client) else { continue };
        said.extend(tales(shared, &agreement).into_iter().map(|(author, packet)| (to, author, packet)));
    }
    said
}

/// Clients that hear of an agreement that has just begun, and soon begin one with its nonce: with its receivers, or with its
/// sender.
pub(crate) fn copies(shared: &mut Shared, agreement: &Agreement) {
    let Some(sender) = shared.plan.index(&agreement.sender) else { return };
    for client in shared.plan.clients() {
        if client == sender || draw(shared, client, |lie| lie == Lie::CopiedNonce).is_none() {
            continue;
        }
        let mut receivers: Vec<usize> =
            agreement.receivers.iter().filter_map(|receiver| shared.plan.index(receiver)).collect();
        receivers.retain(|receiver| *receiver != client);
        if receivers.is_empty() || shared.rng.chance(0.2) {
            receivers = vec![sender];
        }
        let timeout = shared.rng.within(4..=12) * SECOND;
        shared.wishes.push(Wish {
            client,
            receivers,
            key_bytes: agreement.key_bytes,
            k: agreement.k,
            n: shared.plan.n.max(if shared.plan.n > 0 { agreement.k } else { 0 }),
            nonce: Some(agreement.nonce),
            timeout,
            state: WishState::Planned,
        });
        let delay = shared.rng.within(0..=5 * MILLI);
        shared.after(delay, Event::Wish(shared.wishes.len() - 1));
    }
}

/// Blocks that a client invents at once, most: with its lanes it can do so a few times.
const OPENED_MAX: u64 = 250;

/// The key requests of a client that opens agreements in numbers: to which hub, for which block.
pub(crate) fn opens_many(
    shared: &mut Shared,
    client: usize,
    store: &SimStore,
    hubs: &[usize],
) -> Vec<(usize, BlockId, Vec<u8>)> {
    if hubs.is_empty() || draw(shared, client, |lie| lie == Lie::OpensMany).is_none() {
        return Vec::new();
    }
    let one = shared.rng.pick(hubs).copied().filter(|_| shared.rng.chance(0.5));
    let through = one.map_or(hubs.to_vec(), |hub| vec![hub]);
    let roster: Vec<NodeId> = hubs.iter().map(|hub| shared.plan.ids[*hub]).collect();
    let others: Vec<usize> = shared.plan.clients().filter(|other| *other != client).collect();
    let Some(receiver) = shared.rng.pick(&others).map(|other| shared.plan.ids[*other]) else {
        return Vec::new();
    };
    let mut requests = Vec::new();
    for _ in 0..shared.rng.within(50..=OPENED_MAX) {
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::random(&mut shared.rng.0),
            sender: shared.plan.ids[client],
            receivers: vec![receiver],
            purpose: String::new(),
            k: shared.plan.k_min.min(roster.len() as u8),
            key_bytes: 1,
            content: Content::Keys(1),
            roster: roster.clone(),
        };
        for &hub in &through {
            let request = opened_request(shared, store, hub, &agreement);
            requests.extend(request.map(|bytes| (hub, agreement.block(), bytes)));
        }
    }
    requests
}

/// A key request under a run of the liar's own; what it shares is nothing.
fn opened_request(
    shared: &mut Shared,
    store: &SimStore,
    hub: usize,
    agreement: &Agreement,
) -> Option<Vec<u8>> {
    let position = agreement.position(&shared.plan.ids[hub])?;
    let want = Want {
        peer: shared.plan.ids[hub],
        side: TableSide::Client,
        bytes: agreement.burned_bytes(Lane::Up),
        usage: Use::Key,
    };
    let range = store.mint(&[want]).ok()?.pop()?.range;
    let share = Blob(shared.rng.bytes(agreement.share_bytes(Lane::Up) as usize));
    let mut key_tag = KeyTag { tag: Tag::new([0; TAG_BYTES]), hint: Default::default() };
    change_key_tag(shared, &mut key_tag);
    let request = KeyRequest {
        range,
        agreement: agreement.clone(),
        key_tags: vec![key_tag],
        share: (!agreement.takes_pad(position)).then_some(share),
    };
    reseal(&shared.checker.lanes, &request)
}

/// Whether a lying hub keeps back what it is to pass on.
pub(crate) fn keeps_back(shared: &mut Shared, hub: usize) -> bool {
    draw(shared, hub, |lie| matches!(lie, Lie::Hearsay | Lie::Swallow)).is_some()
}

/// Messages about a round that an outsider makes of a true one: some, or very many, each with another wrong tag.
pub(crate) fn forged_link(shared: &mut Shared, link: &Link) -> Vec<Packet> {
    let many = if shared.rng.chance(0.3) { 400 } else { 1 + shared.rng.below(4) };
    let mut forged = Vec::new();
    for number in 0..many {
        let mut link = link.clone();
        let Some(bytes) = link.bytes_mut().filter(|bytes| bytes.len() > TAG_BYTES) else { break };
        let at = bytes.len() - TAG_BYTES;
        bytes[at..].copy_from_slice(&Rng::new(shared.rng.number() ^ number).bytes(TAG_BYTES));
        forged.push(Packet::Link(link));
    }
    // How a round ended, as a notice without a tag: it is none.
    let under_way = shared.checker.blocks.blocks.iter().filter(|(_, block)| block.sender_ended.is_none());
    let rounds = under_way.filter(|(_, block)| block.agreement.is_round());
    let rounds: Vec<_> = rounds.map(|(id, block)| (*id, block.agreement.n())).collect();
    if let Some((block, shares)) = shared.rng.pick(&rounds).copied() {
        let validated = NoticeOutcome::Validated { shares, false_positions: Vec::new() };
        let aborted = NoticeOutcome::Aborted(AbortReason::Internal);
        let outcome = if shared.rng.chance(0.5) { validated } else { aborted };
        forged.push(Packet::Notice(Notice { block, outcome }));
    }
    forged
}

const OF_QUOTAS: [Refusal; 3] = [Refusal::QuotaExceeded, Refusal::ReceiverLimit, Refusal::DefaultQuota];

/// What a hub that applies no limits makes of an order about them.
pub(crate) fn forgets_limits(shared: &mut Shared, hub: usize, sealed: Vec<u8>) -> Vec<u8> {
    let Some(mut order) = crate::checker::body::<LimitsOrder>(&sealed) else { return sealed };
    let ignored = shared.plan.kits[hub].as_ref().is_some_and(|kit| kit.has(Lie::IgnoredQuotas));
    // Under a wrong tag it stays under a wrong tag.
    if !ignored || reseal(&shared.checker.lanes, &order).as_ref() != Some(&sealed) {
        return sealed;
    }
    shared.count(Lie::IgnoredQuotas.name());
    order.limits = Limits::default();
    reseal(&shared.checker.lanes, &order).unwrap_or(sealed)
}

/// What a lying hub says that it has on record of a receiver's limits.
fn word_on_limits(shared: &mut Shared, hub: usize, sealed: Vec<u8>) -> Vec<u8> {
    if draw(shared, hub, |lie| lie == Lie::FalseWordOnLimits).is_none() {
        return sealed;
    }
    let Some(mut word) = crate::checker::body::<LimitsAnswer>(&sealed) else { return sealed };
    match shared.rng.below(7) {
        0 => word.version = 0,
        1 => word.version = word.version.saturating_sub(1),
        2 => word.version = word.version.saturating_add(1 + shared.rng.below(3)),
        3 => word.version = u64::MAX - shared.rng.below(2),
        4 => word.request.offset = word.request.offset.saturating_sub(TAG_KEY_BYTES as u64),
        5 => {
            let old = shared.captured.iter().find_map(|(from, _, packet)| match packet {
                Packet::IdentityAnswer(_, Ok(old)) if *from == hub && *old != sealed => Some(old.clone()),
                _ => None,
            });
            return old.unwrap_or(sealed);
        }
        _ => return Vec::new(),
    }
    reseal(&shared.checker.lanes, &word).unwrap_or(sealed)
}

/// What a lying receiver tells a hub about limits.
pub(crate) fn limits_order(shared: &mut Shared, client: usize, sealed: Vec<u8>) -> Vec<u8> {
    if draw(shared, client, |lie| lie == Lie::FalseLimits).is_none() {
        return sealed;
    }
    let Some(mut order) = crate::checker::body::<LimitsOrder>(&sealed) else { return sealed };
    let any = Limit { bytes: shared.rng.within(1..=2000), per_s: 1 + shared.rng.below(100) as u32 };
    let extreme = [
        Limit { bytes: 0, ..any },
        Limit { per_s: 0, ..any },
        Limit { bytes: u64::MAX, ..any },
        Limit { per_s: u32::MAX, ..any },
    ];
    let extreme = shared.rng.pick(&extreme).copied();
    let (first, last) = (NodeId::new([0; 32]), NodeId::new([0xff; 32]));
    match shared.rng.below(9) {
        0 => order.version = 0,
        1 => order.version = order.version.saturating_sub(1 + shared.rng.below(3)),
        2 => order.version = u64::MAX - shared.rng.below(2),
        3 => order.limits.each = extreme,
        4 => order.limits.all = extreme,
        5 => order.limits.named = vec![(first, any), (first, any)],
        6 => order.limits.named = vec![(last, any), (first, any)],
        7 => {
            let many = LIMITS_NAMED_MAX + shared.rng.index(2);
            let ids = shared.plan.ids[shared.plan.first_client..].iter().copied();
            let mut ids: Vec<NodeId> = ids.collect();
            ids.resize_with(many.max(ids.len()), || NodeId::random(&mut shared.rng.0));
            ids.sort_unstable();
            order.limits.named = ids.into_iter().map(|id| (id, any)).collect();
        }
        _ => {
            let old = shared.captured.iter().find_map(|(from, _, packet)| match packet {
                Packet::Identity(_, old) if *from == client => crate::checker::body::<LimitsOrder>(old),
                _ => None,
            });
            order.range =
                old.filter(|old| old.range.table == order.range.table).map_or(order.range, |old| old.range);
        }
    }
    reseal(&shared.checker.lanes, &order).unwrap_or(sealed)
}

/// What a lying hub answers.
pub(crate) fn false_refusal(shared: &mut Shared, hub: usize) -> Option<Refusal> {
    match draw(shared, hub, |lie| matches!(lie, Lie::FalseRefusal | Lie::FalseQuota))? {
        Lie::FalseQuota => shared.rng.pick(&OF_QUOTAS).copied(),
        _ => Some(Refusal::UnknownReceiver),
    }
}

/// A message of an outsider, who has seen everything on the line and knows no pad.
pub(crate) fn forged(shared: &mut Shared, from: usize, to: usize, wire: Wire) -> Packet {
    if shared.rng.chance(0.1) {
        let notice = match shared.checker.blocks.blocks.keys().next_back() {
            Some(block) => Notice { block: *block, outcome: NoticeOutcome::Aborted(AbortReason::Internal) },
            None => return Packet::Hello(wire),
        };
        return Packet::Notice(notice);
    }
    let captured: Vec<Vec<u8>> = shared
        .captured
        .iter()
        .filter(|(_, at, _)| *at == to)
        .filter_map(|(_, _, packet)| packet.sealed().cloned())
        .collect();
    let Some(model) = shared.rng.pick(&captured).cloned() else {
        let len = shared.rng.index(300);
        return Packet::Key(wire, shared.rng.bytes(len));
    };
    let junk = |rng: &mut Rng| {
        let mut key = [0; TAG_KEY_BYTES];
        rng.fill(&mut key);
        TagKey::new(key)
    };
    // A run further on, or one that has been used and may read as zeros.
    let ahead = shared.rng.below(3) * 64;
    let zero_tag = shared.rng.chance(0.3);
    let finish = |rng: &mut Rng, sealed: Option<Vec<u8>>| {
        let mut bytes = sealed.unwrap_or_default();
        if zero_tag && bytes.len() > 16 {
            let at = bytes.len() - 16;
            bytes[at..].fill(0);
        }
        let _ = rng;
        bytes
    };
    if let Some(mut request) = crate::checker::body::<KeyRequest>(&model) {
        request.range.offset = request.range.offset.saturating_add(ahead);
        request.agreement.purpose = "forged".to_owned();
        let sealed = seal(&request, junk(&mut shared.rng)).ok();
        return Packet::Key(wire, finish(&mut shared.rng, sealed));
    }
    if let Some(mut instruction) = crate::checker::body::<KeyInstruction>(&model) {
        instruction.range.offset = instruction.range.offset.saturating_add(ahead);
        instruction.agreement.nonce = BlockNonce::random(&mut shared.rng.0);
        let sealed = seal(&instruction, junk(&mut shared.rng)).ok();
        return Packet::Instruction(wire, finish(&mut shared.rng, sealed));
    }
    let as_hub = shared.plan.is_hub(to) && (!shared.plan.is_client(to) || shared.rng.chance(0.5));
    let lane = if as_hub { Lane::Up } else { Lane::Down };
    let range = dske_protocol::message::claimed_range(&model).map(|range| PadRange {
        lane,
        len: TAG_KEY_BYTES as u64,
        offset: range.offset.saturating_add(ahead),
        ..range
    });
    match range {
        Some(range) if as_hub => {
            let subject = Subject::Node(shared.plan.ids[from]);
            let sealed = seal(&IdentityRequest { range, subject }, junk(&mut shared.rng)).ok();
            Packet::Identity(wire, finish(&mut shared.rng, sealed))
        }
        _ => Packet::Instruction(wire, model),
    }
}

#[cfg(test)]
mod tests {
    use dske_protocol::sharing::Scheme;

    use super::*;

    /// Of shares that are zeros, every k false ones give the same, which is not zeros.
    #[test]
    fn products_put_all_liars_on_one_other_polynomial() {
        let (n, k, liars) = (9, 4, [1, 3, 5, 7, 8]);
        let scheme = Scheme::new(n, k).expect("a scheme");
        let shares = liars.map(|liar| {
            let mut share = vec![0; 100];
            products(7, k, &[0, 2, 4, 6], liar, &mut share);
            share
        });
        let secrets: Vec<Vec<u8>> = (0..liars.len())
            .map(|without| {
                let chosen = (0..liars.len()).filter(|at| *at != without);
                let (positions, texts): (Vec<u8>, Vec<&[u8]>) =
                    chosen.map(|at| (liars[at], shares[at].as_slice())).unzip();
                let mut secret = vec![0; 100];
                scheme.reconstruct(&positions, &texts, &mut secret).expect("k shares");
                secret
            })
            .collect();
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert!(secrets[0].iter().all(|byte| *byte != 0));
    }
}
