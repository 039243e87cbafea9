//! Keys that lie ready in a node, so that requests for them have something to take: the pool of a stream, and a block
//! that a sender agreed with it.

use dske_protocol::ids::{BlockId, KeyId, NodeId};
use dske_storage::{
    BlockRecord, BlockState, IdentityRecord, NewBlock, SecretBytes, Side, Store, StreamRecord, Transaction,
};

use super::socket::name;

/// The block in the pool, the one that was received, and the keys in each.
pub(super) const POOLED: BlockId = BlockId::new([0xb0; 16]);
pub(super) const RECEIVED: BlockId = BlockId::new([1; 16]);
const KEYS: u8 = 6;

/// Bytes of each key, and what it is for.
const KEY_BYTES: u8 = 32;
pub(super) const PURPOSE: &str = "test";

/// The clients whose identity is established.
pub(super) const KNOWN: [&str; 2] = ["bob", "carol"];

fn node(at: u8) -> NodeId {
    NodeId::new([2 + at; 32])
}

/// Puts all of it into a store.
pub(super) fn put_into(store: &Store, me: NodeId) {
    let identity = |(at, known): (u8, &str)| IdentityRecord {
        node: node(at),
        name: name(known),
        applications: Vec::new(),
        known_as: Vec::new(),
        established_ms: 1,
    };
    let block = |block: BlockId, side, sender, receiver| NewBlock {
        record: BlockRecord {
            block,
            side,
            sender,
            receivers: vec![receiver],
            purpose: PURPOSE.to_owned(),
            key_bytes: KEY_BYTES.into(),
            n: 4,
            k: 2,
            state: BlockState::Ready,
            at_ms: 1,
            aged_ms: 1,
            round: false,
        },
        key: Some(SecretBytes::new((0..KEYS).flat_map(|index| key(block, index)).collect())),
    };
    let stream = StreamRecord {
        receivers: vec![node(0)],
        purpose: PURPOSE.to_owned(),
        key_bytes: KEY_BYTES.into(),
        low: 1,
        high: KEYS.into(),
    };
    let ready = Transaction {
        identities: (0..).zip(KNOWN).map(identity).collect(),
        block: vec![block(POOLED, Side::Sender, me, node(0)), block(RECEIVED, Side::Receiver, node(1), me)],
        streams: vec![stream],
        ..Transaction::default()
    };
    let committed = dske_storage::wait(store.commit(ready)).expect("the store answers");
    committed.expect("a new store takes it");
}

fn key(block: BlockId, index: u8) -> [u8; KEY_BYTES as usize] {
    [block.as_bytes()[0] ^ index; KEY_BYTES as usize]
}

/// Whether these are the bytes of a key that lay ready.
pub(super) fn is_right(id: KeyId, bytes: &[u8]) -> bool {
    let index = u8::try_from(id.index).ok().filter(|index| *index < KEYS);
    index.is_some_and(|index| [POOLED, RECEIVED].contains(&id.block) && bytes == key(id.block, index))
}
