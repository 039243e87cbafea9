//! Bytes that no honest node sends.

use dske_protocol::{
    codec::{self, Blob},
    ids::{BlockId, BlockNonce, Lane, NodeId, PadRange, TableId},
    message::{Agreement, Content, KeyRequest, NO_KEY_TAG, seal},
    pad::TagKey,
    params::{PROTOCOL_VERSION, burned_bytes},
};
use rand::{Rng, rngs::StdRng};

/// Messages in one request.
pub(super) const BATCH: usize = 64;

/// Bytes of key that messages are about.
pub(super) const KEY_BYTES: u32 = 32;

/// Puts a length in front.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    [length.as_slice(), body].concat()
}

/// A request of one of the first two kinds (shares, instructions) with sealed messages.
pub(super) fn batch(variant: u32, messages: &[Vec<u8>]) -> Vec<u8> {
    let blobs: Vec<Blob> = messages.iter().map(|message| Blob(message.clone())).collect();
    framed(&codec::encode(&(variant, blobs)).unwrap_or_default())
}

/// A well-formed key request for a place in a real table, under a made-up tag key.
pub(super) fn key_request(rng: &mut StdRng, who: &Forged) -> Vec<u8> {
    let len = burned_bytes(KEY_BYTES.into(), 1);
    let offset = (rng.next_u64() % (who.lane_bytes / len).max(1)) * len;
    let range = PadRange { table: who.table, lane: Lane::Up, offset, len };
    let body = KeyRequest { range, agreement: agreement(rng, who), key_tags: vec![NO_KEY_TAG], share: None };
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    seal(&body, TagKey::new(key)).unwrap_or_default()
}

/// In whose name, and to which hub, a message is forged.
#[derive(Debug, Clone)]
pub(super) struct Forged {
    pub(super) sender: NodeId,
    pub(super) receiver: NodeId,
    pub(super) hub: NodeId,
    pub(super) hubs: Vec<NodeId>,
    pub(super) table: TableId,
    pub(super) lane_bytes: u64,
}

/// Parameters as an honest sender would choose them, with the hub at the front.
pub(super) fn agreement(rng: &mut StdRng, who: &Forged) -> Agreement {
    let mut roster = who.hubs.clone();
    roster.sort_by_key(|hub| *hub != who.hub);
    Agreement {
        version: PROTOCOL_VERSION,
        nonce: BlockNonce::random(rng),
        sender: who.sender,
        receivers: vec![who.receiver],
        purpose: String::new(),
        k: 3,
        key_bytes: KEY_BYTES,
        content: Content::Keys(1),
        roster,
    }
}

/// Bytes that are no request: random ones, lengths that lie, counts that lie.
pub(super) fn garbage(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(rng.next_u64() % 2000).unwrap_or(0)];
    rng.fill_bytes(&mut bytes);
    match rng.next_u64() % 4 {
        0 => bytes,
        1 => framed(&bytes),
        2 => [0xffff_ffffu32.to_le_bytes().as_slice(), &bytes].concat(),
        _ => {
            let mut body = 0u32.to_le_bytes().to_vec();
            body.extend_from_slice(&u64::MAX.to_le_bytes());
            body.extend_from_slice(&bytes);
            framed(&body)
        }
    }
}

/// What a stranger might try: hellos, notices, requests and instructions of nobody.
pub(super) fn stranger(rng: &mut StdRng, who: &Forged) -> Vec<u8> {
    match rng.next_u64() % 4 {
        0 => framed(&3u32.to_le_bytes()),
        1 => batch(0, &[key_request(rng, who)]),
        2 => {
            // A notice: that an agreement was aborted as ambiguous.
            let mut body = 4u32.to_le_bytes().to_vec();
            body.extend_from_slice(&1u64.to_le_bytes());
            body.extend_from_slice(BlockId::random(rng).as_bytes());
            body.extend_from_slice(&1u32.to_le_bytes());
            body.extend_from_slice(&2u32.to_le_bytes());
            framed(&body)
        }
        _ => batch(1, &[key_request(rng, who)]),
    }
}

/// An announcement of `author` under any name; longer than allowed where `huge`.
pub(super) fn announcement(author: &NodeId, name: &str, sequence: u64, huge: bool) -> Vec<u8> {
    let addresses: Vec<String> = if huge {
        vec!["/ip4/192.0.2.1/tcp/7001".to_owned(); 200]
    } else {
        vec!["/ip4/192.0.2.1/tcp/7001".to_owned()]
    };
    codec::encode(&(author, name, vec![1u32], addresses, sequence)).unwrap_or_default()
}
