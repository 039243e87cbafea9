//! Who appears in the scripts: a few hubs and clients, the same in every target.

use std::sync::LazyLock;

use dske_protocol::{
    codec::{self, Blob},
    enrolment::{self, Signature},
    ids::{BlockId, BlockNonce, Lane, NodeId, PadRange},
    message::{Agreement, Content, Identity, KeyInstruction, KeyRequest, NO_KEY_TAG, Tagged},
    params::PROTOCOL_VERSION,
    sharing::Scheme,
    tag::{KeyTag, U},
};

use crate::input::Input;

/// Hubs of every script.
pub const HUBS: u8 = 4;
/// Clients that hubs serve.
pub const CLIENTS: u8 = 3;
/// Bytes of u.
const U_LEN: usize = size_of::<U>();
/// The least k that a receiver accepts.
pub const K_MIN: u8 = 2;

/// A hub.
pub fn hub(at: u8) -> NodeId {
    NodeId::new([0x40 + at; 32])
}

/// A client.
pub fn client(at: u8) -> NodeId {
    known(at).0.node
}

/// What a client signed to be enrolled.
pub fn signature(at: u8) -> Signature {
    known(at).1
}

/// Who a client really is.
pub fn identity(at: u8) -> Identity {
    known(at).0.clone()
}

/// Signing takes longer than most steps of a script: it is done once.
fn known(at: u8) -> &'static (Identity, Signature) {
    static KNOWN: LazyLock<Vec<(Identity, Signature)>> = LazyLock::new(|| {
        let known = |at: u8| {
            let (secret, name) = ([1 + at; 32], format!("client{at}").parse().expect("a name"));
            let node = enrolment::node_of(&secret);
            let identity = Identity { node, name, applications: vec!["vpn".to_owned()] };
            let signature = enrolment::sign(&secret, &identity);
            (identity, signature)
        };
        (0..16).map(known).collect()
    });
    &KNOWN[usize::from(at)]
}

/// Kind and encoding of a message without its tag.
pub fn unsealed<T: Tagged>(body: &T) -> Vec<u8> {
    let mut bytes = vec![T::KIND];
    codec::encode_into(body, &mut bytes).expect("it has an encoding");
    bytes
}

/// An agreement with all its shares, as an honest sender would have made it.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// The parameters.
    pub agreement: Agreement,
    /// The key tag of each receiver.
    pub key_tags: Vec<KeyTag>,
    /// Y_i by position.
    pub shares: Vec<Vec<u8>>,
    /// The key.
    pub key: Vec<u8>,
}

impl Agreed {
    /// Draws one from a script: nonce, sender, receivers, roster, k and length. A bit of the nonce's byte says that it
    /// is a round of a session that nobody knows: a hub serves it all the same.
    pub fn draw(script: &mut Input<'_>, receiver: NodeId) -> Self {
        let drawn = script.u8();
        let (nonce, is_round) = (drawn % 4, drawn & 0x40 != 0);
        let sender = client(script.u8() % CLIENTS);
        let n = 1 + script.u8() % HUBS;
        let first = script.u8();
        let roster: Vec<_> = (0..n).map(|at| hub((first % HUBS + at) % HUBS)).collect();
        let k = 1 + script.u8() % n;
        let mut receivers = vec![receiver];
        if script.u8() & 1 != 0 {
            receivers.push(NodeId::new([0x77; 32]));
        }
        receivers.retain(|node| *node != sender);
        if receivers.is_empty() {
            receivers.push(NodeId::new([0x78; 32]));
        }
        let content = if is_round {
            receivers.truncate(1);
            Content::Round { session: BlockId::new([drawn; 16]), round: drawn.into(), keys: 1 }
        } else {
            Content::Keys(1)
        };
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([nonce; 16]),
            sender,
            receivers,
            purpose: "x".repeat(usize::from(script.u8() % 8)),
            k,
            key_bytes: u32::from(script.u8() % 64) + 1,
            content,
            roster,
        };
        Self::make(agreement)
    }

    fn make(agreement: Agreement) -> Self {
        let (n, k) = (usize::from(agreement.n()), usize::from(agreement.k));
        let len = usize::try_from(agreement.share_bytes(Lane::Up)).expect("short");
        let context = agreement.context().expect("it has an encoding");
        let mut shares = vec![vec![0; len]; n];
        let mut pads = blake3::Hasher::new().update(&context).finalize_xof();
        shares[..k].iter_mut().for_each(|share| pads.fill(share));
        let scheme = Scheme::new(agreement.n(), agreement.k).expect("k and n fit");
        let (first, rest) = shares.split_at_mut(k);
        let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
        let mut rest: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
        scheme.derive_onto(&first, &mut rest).expect("lengths fit");
        let mut secret = vec![0; len];
        scheme.secret_onto(&first, &mut secret).expect("lengths fit");
        let (us, key) = secret.split_at(U_LEN * agreement.receivers.len());
        let tag = |u: &U| if agreement.is_round() { NO_KEY_TAG } else { KeyTag::of(u, &context, key) };
        let key_tags = us.as_chunks().0.iter().map(tag).collect();
        let key = key.to_vec();
        Self { agreement, key_tags, shares, key }
    }

    /// The hub's message for the first receiver, with its share under the pad of a run.
    pub fn instruction(&self, position: u8, range: PadRange, pad: &[u8]) -> KeyInstruction {
        let (us, key) = self.shares[usize::from(position)].split_at(U_LEN * self.agreement.receivers.len());
        let mut share = [&us[..U_LEN], key].concat();
        share.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
        KeyInstruction {
            range,
            agreement: self.agreement.clone(),
            key_tag: self.key_tags[0],
            share: Blob(share),
        }
    }

    /// The sender's message for a hub.
    pub fn request(&self, position: u8, range: PadRange, pad: &[u8]) -> KeyRequest {
        let mut share = self.shares[usize::from(position)].clone();
        share.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
        let share = (!self.agreement.takes_pad(position)).then_some(Blob(share));
        debug_assert_eq!(range.lane, Lane::Up);
        KeyRequest { range, agreement: self.agreement.clone(), key_tags: self.key_tags.clone(), share }
    }
}

/// Over which way something without a tag comes to a client: from the other's own connection, from a hub, or from
/// another client that plays the hub.
pub(crate) fn way(drawn: u8) -> Option<NodeId> {
    match drawn % (HUBS + 2) {
        0 => None,
        at if at <= HUBS => Some(hub(at - 1)),
        _ => Some(client(3)),
    }
}
